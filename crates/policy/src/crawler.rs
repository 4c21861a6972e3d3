//! Crawlers by name: what they call themselves, and by which names or networks of their addresses it is seen that they are. The
//! product brings some; an operator's file may say otherwise of them, or know others.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use phalanx_model::Prefix;
use phalanx_model::limits::{CRAWLER_NETWORKS_MAX, CRAWLERS_MAX};
use serde::Deserialize;

use crate::Diagnostic;
use crate::toml_text::{At, Text};

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crawler {
    /// What stands in its User-Agent; one of these.
    pub agents: Vec<String>,
    /// Domains that the names of its addresses lie in, in lower case; none where its operator gives its addresses no names.
    pub domains: Vec<String>,
    /// Networks that its operator says are its own.
    pub networks: Vec<Prefix>,
}

/// Those that the product knows.
pub fn built_in() -> &'static BTreeMap<String, Crawler> {
    // What is in the product is covered by a test; should it ever not be readable, no crawler is known.
    static KNOWN: LazyLock<BTreeMap<String, Crawler>> = LazyLock::new(|| {
        read("packs/crawlers/crawlers.toml", BUILT_IN, &BTreeMap::new()).unwrap_or_default()
    });
    &KNOWN
}

/// Reads a file of the same form as the product's own. What it does not say of a crawler that `known` has stays as it is.
///
/// # Errors
/// All faults of the file; no part of it is used then.
pub fn read(
    file: &str,
    text: &str,
    known: &BTreeMap<String, Crawler>,
) -> Result<BTreeMap<String, Crawler>, Vec<Diagnostic>> {
    let text = Text::new(file, text);
    let (raw, mut faults) = text.read_partly::<BTreeMap<String, At<RawCrawler>>>();
    let mut all = known.clone();
    for (name, raw) in raw.unwrap_or_default() {
        let mut crawler = all.remove(&name).unwrap_or_default();
        if let Some(agents) = &raw.agents {
            crawler.agents = agents.iter().filter_map(|one| agent(&text, one, &mut faults)).collect();
        }
        if let Some(domains) = &raw.domains {
            crawler.domains = domains.iter().filter_map(|one| domain(&text, one, &mut faults)).collect();
        }
        if let Some(networks) = &raw.networks {
            crawler.networks = networks.iter().filter_map(|one| network(&text, one, &mut faults)).collect();
            if networks.len() > CRAWLER_NETWORKS_MAX {
                let fault = format!("`{name}` has more than {CRAWLER_NETWORKS_MAX} networks");
                faults.push(text.error_at(&raw.span, fault).with_help("put neighbours together"));
            }
        }
        if crawler.agents.is_empty() {
            let fault = text.error_at(&raw.span, format!("`{name}` says nothing of what it calls itself"));
            faults.push(fault.with_help("add `agents = [\"...\"]`, a part of its User-Agent"));
        }
        all.insert(name, crawler);
    }
    if all.len() > CRAWLERS_MAX {
        faults.push(text.error(format!("there are more than {CRAWLERS_MAX} crawlers")));
    }
    if faults.is_empty() { Ok(all) } else { Err(faults) }
}

fn agent(text: &Text<'_>, written: &At<String>, faults: &mut Vec<Diagnostic>) -> Option<String> {
    let is_plain = written.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain && (AGENT_BYTES_MIN..=AGENT_BYTES_MAX).contains(&written.len()) {
        return Some(written.value.clone());
    }
    let fault =
        format!("a part of a User-Agent has {AGENT_BYTES_MIN} to {AGENT_BYTES_MAX} letters, and no spaces");
    faults.push(text.error_at(&written.span, fault));
    None
}

fn domain(text: &Text<'_>, written: &At<String>, faults: &mut Vec<Diagnostic>) -> Option<String> {
    let name = written.to_ascii_lowercase();
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    // A whole top-level domain would be anybody's.
    if name.len() <= DOMAIN_BYTES_MAX && name.contains('.') && name.split('.').all(is_label) {
        return Some(name);
    }
    let fault = format!("`{}` is no domain that one crawler's names lie in", written.value.escape_debug());
    faults.push(text.error_at(&written.span, fault).with_help("write it as in \"googlebot.com\""));
    None
}

fn network(text: &Text<'_>, written: &At<String>, faults: &mut Vec<Diagnostic>) -> Option<Prefix> {
    let prefix = crate::prefix::parse(written).filter(|prefix| prefix.prefix_len() > 0);
    if prefix.is_none() {
        let fault = format!("`{}` is no IP address or range", written.value);
        faults.push(text.error_at(&written.span, fault));
    }
    prefix
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCrawler {
    agents: Option<Vec<At<String>>>,
    domains: Option<Vec<At<String>>>,
    networks: Option<Vec<At<String>>>,
    /// For people.
    #[serde(rename = "source")]
    _source: Option<String>,
}

const BUILT_IN: &str = include_str!("../../../packs/crawlers/crawlers.toml");
/// Shorter parts stand in the User-Agents of others.
const AGENT_BYTES_MIN: usize = 4;
const AGENT_BYTES_MAX: usize = 64;
/// RFC 1035 section 2.3.4.
const DOMAIN_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_products_own_are_read() {
        let known = read("x", BUILT_IN, &BTreeMap::new()).unwrap();
        assert_eq!(&known, built_in());
        assert_eq!(known["googlebot"].domains, ["googlebot.com", "google.com"]);
        assert!(known["duckduckbot"].domains.is_empty());
    }

    #[test]
    fn a_file_says_otherwise_of_one_and_knows_others() {
        let file = "[duckduckbot]\nnetworks = [\"192.0.2.0/24\"]\n[ours]\nagents = [\"OursBot\"]\ndomains = [\"Crawl.Ours.test\"]\n";
        let all = read("x", file, built_in()).unwrap();
        assert_eq!(all["duckduckbot"].agents, ["DuckDuckBot"]);
        assert_eq!(all["duckduckbot"].networks.len(), 1);
        assert_eq!(all["ours"].domains, ["crawl.ours.test"]);
        assert_eq!(all["bingbot"], built_in()["bingbot"]);
    }

    #[test]
    fn mistakes_are_told_with_their_lines() {
        let file = "[a]\nagents = [\"a b c\"]\n[b]\nagents = [\"BeeBot\"]\ndomains = [\"com\"]\nnetworks = [\"::/0\"]\n[c]\ndomains = [\"c.test\"]\n";
        let faults: Vec<_> =
            read("x", file, built_in()).unwrap_err().iter().map(ToString::to_string).collect();
        for expected in ["x:2: a part", "x:5: `com` is no domain", "x:6: `::/0`", "`c` says nothing"] {
            assert!(faults.iter().any(|fault| fault.contains(expected)), "{expected}: {faults:?}");
        }
    }
}
