//! Content delivery networks by name: from where they come, and in which field they name their clients. The product brings what their
//! owners publish; an operator's file may bring newer lists, or others.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use phalanx_model::Prefix;
use phalanx_model::limits::CDN_NETWORKS_MAX;
use serde::Deserialize;

use crate::Diagnostic;
use crate::policy::AddressFrom;
use crate::toml_text::{At, Text};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cdn {
    /// Where its servers come from; none where the product brings no list.
    pub networks: Vec<Prefix>,
    /// In which field they name their clients.
    pub from: AddressFrom,
    /// How many places from the right of a list, where that is fixed.
    pub hops: Option<u8>,
}

/// Those that the product knows.
pub fn built_in() -> &'static BTreeMap<String, Cdn> {
    // What is in the product is covered by a test; should it ever not be readable, no preset exists.
    static KNOWN: LazyLock<BTreeMap<String, Cdn>> =
        LazyLock::new(|| read("packs/cdn/networks.toml", BUILT_IN, &BTreeMap::new()).unwrap_or_default());
    &KNOWN
}

/// Reads a file of the same form as the product's own. What it does not say of a network that `known` has stays as it is.
///
/// # Errors
/// All faults of the file; no part of it is used then.
pub fn read(
    file: &str,
    text: &str,
    known: &BTreeMap<String, Cdn>,
) -> Result<BTreeMap<String, Cdn>, Vec<Diagnostic>> {
    let text = Text::new(file, text);
    let (raw, mut faults) = text.read_partly::<BTreeMap<String, RawCdn>>();
    let mut all = known.clone();
    for (name, raw) in raw.unwrap_or_default() {
        if let Some(one_more) = raw.networks.get(CDN_NETWORKS_MAX) {
            let fault = format!("`{name}` has more than {CDN_NETWORKS_MAX} networks");
            faults.push(text.error_at(&one_more.span, fault).with_help("put neighbours together"));
        }
        let mut networks = Vec::new();
        for written in &raw.networks {
            match crate::prefix::parse(written) {
                Some(prefix) if prefix.prefix_len() > 0 => networks.push(prefix),
                _ => faults.push(
                    text.error_at(&written.span, format!("`{}` is no IP address or range", written.value)),
                ),
            }
        }
        let before = known.get(&name);
        let from = match &raw.from {
            None => before.map(|cdn| cdn.from.clone()).unwrap_or_default(),
            Some(written) => AddressFrom::parse(written).unwrap_or_else(|| {
                let fault = format!("`{}` is no name of a header field", written.value.escape_debug());
                faults.push(text.error_at(&written.span, fault));
                AddressFrom::default()
            }),
        };
        let hops = raw.hops.or(before.and_then(|cdn| cdn.hops)).filter(|_| from.is_list());
        all.insert(name, Cdn { networks, from, hops });
    }
    if faults.is_empty() { Ok(all) } else { Err(faults) }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCdn {
    networks: Vec<At<String>>,
    from: Option<At<String>>,
    hops: Option<u8>,
    /// For people.
    #[serde(rename = "source")]
    _source: Option<String>,
    #[serde(rename = "as_of")]
    _as_of: Option<String>,
    #[serde(rename = "certificates")]
    _certificates: Option<String>,
}

const BUILT_IN: &str = include_str!("../../../packs/cdn/networks.toml");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_products_own_lists_are_read() {
        let known = read("x", BUILT_IN, &BTreeMap::new()).unwrap();
        assert_eq!(&known, built_in());
        let names: Vec<_> = known.keys().map(String::as_str).collect();
        assert_eq!(names, ["cloudflare", "cloudfront", "fastly", "google-cloud"]);
        assert_eq!(known["cloudflare"].from, AddressFrom::Field("cf-connecting-ip".to_owned()));
        assert_eq!(known["google-cloud"].hops, Some(2));
        assert!(known["cloudfront"].networks.is_empty());
    }

    #[test]
    fn a_newer_list_takes_the_place_of_the_products() {
        let file = "[cloudflare]\nnetworks = [\"192.0.2.0/24\"]\n[ours]\nfrom = \"forwarded\"\nnetworks = [\"::1\"]\n";
        let all = read("x", file, built_in()).unwrap();
        assert_eq!(all["cloudflare"].networks.len(), 1);
        assert_eq!(all["cloudflare"].from, built_in()["cloudflare"].from);
        assert_eq!(all["ours"].from, AddressFrom::Forwarded);
        assert_eq!(all["fastly"], built_in()["fastly"]);
    }

    #[test]
    fn mistakes_are_told_with_their_lines() {
        let file = "[ours]\nfrom = \"a b\"\nnetworks = [\n\"192.0.2\",\n\"0.0.0.0/0\"]\n";
        let faults: Vec<_> =
            read("x", file, built_in()).unwrap_err().iter().map(ToString::to_string).collect();
        assert!(faults.iter().any(|fault| fault.contains("x:2: `a b` is no name")), "{faults:?}");
        assert!(faults.iter().any(|fault| fault.contains("x:4: `192.0.2` is no IP")), "{faults:?}");
        assert!(faults.iter().any(|fault| fault.contains("x:5:")), "{faults:?}");
    }
}
