//! Who says that it is a crawler, and whether it is: a table of what is known of claims, and which are to be looked into.
//!
//! Looking is somebody else's, off the path of requests: the name of the address must lie in the crawler's domains and lead back to the
//! address. Until that is known a claim counts for nothing, neither for nor against its client.
//!
//! Failure direction: what is forgotten, and what cannot be asked, is a claim that nothing is known of.

use std::net::IpAddr;
use std::sync::Arc;

use phalanx_model::PrefixSet;
use phalanx_model::limits::{CRAWLER_CLAIMS_MAX, RATE_EVIDENCE_KEPT};

use crate::table::{ActorTable, Entry};

/// A crawler that is known.
#[derive(Debug, Clone)]
pub struct Crawler {
    /// Its name.
    pub name: Arc<str>,
    /// The same on every node and in every plan.
    pub key: u64,
    /// What stands in its User-Agent; one of these.
    pub agents: Vec<String>,
    /// Domains that the names of its addresses lie in.
    pub domains: Vec<String>,
    /// Networks that its operator says are its own.
    pub networks: PrefixSet,
}

/// What is known of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Claimed {
    /// Nothing yet, or nothing that says either.
    #[default]
    Unknown,
    /// It is the crawler.
    Verified,
    /// It is somebody else.
    Falsely,
}

/// What a request's claim comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// What is known of it.
    pub claimed: Claimed,
    /// It is to be looked into now, by whoever hears this: nobody else does.
    pub ask: bool,
    /// Of a false claim, whether it is kept as evidence: the first ones, then each that doubles their number.
    pub is_evidence: bool,
}

/// What is known of claims, of at most [`CRAWLER_CLAIMS_MAX`].
#[derive(Debug)]
pub struct Claims(ActorTable<Claim, (u128, IpAddr)>);

#[derive(Debug, Default)]
struct Claim {
    claimed: Claimed,
    until_ms: u64,
    asked_ms: u64,
    falsely: u32,
}

impl Crawler {
    /// A crawler of this name.
    pub fn new(name: &str) -> Self {
        // FNV-1a: written down nowhere, distinct for the few names that there are.
        let key = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self {
            name: name.into(),
            key,
            agents: Vec::new(),
            domains: Vec::new(),
            networks: PrefixSet::default(),
        }
    }

    /// Whether a name of an address lies in one of its domains. A dot at its end does not count.
    pub fn has_name(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.domains.iter().any(|domain| {
            name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

impl Default for Claims {
    fn default() -> Self {
        Self(ActorTable::bounding_networks(CRAWLER_CLAIMS_MAX))
    }
}

impl Claims {
    /// What is known of an address that says that it is `crawler`.
    pub fn look(&self, crawler: &Crawler, ip: IpAddr, now_ms: u64) -> Looked {
        let ip = ip.to_canonical();
        if crawler.networks.contains(ip) {
            return Looked { claimed: Claimed::Verified, ask: false, is_evidence: false };
        }
        let look = |claim: &mut Claim| {
            if now_ms < claim.until_ms {
                claim.falsely = claim.falsely.saturating_add(u32::from(claim.claimed == Claimed::Falsely));
                let is_evidence = claim.falsely <= RATE_EVIDENCE_KEPT || claim.falsely.is_power_of_two();
                return Looked { claimed: claim.claimed, ask: false, is_evidence };
            }
            // What was asked and not answered is asked again after a while.
            let ask = !crawler.domains.is_empty() && now_ms >= claim.asked_ms.saturating_add(PATIENCE_MS);
            if ask {
                claim.asked_ms = now_ms;
            }
            // A crawler that was verified does not become a stranger while it is looked at again.
            let claimed = match claim.claimed {
                Claimed::Verified if now_ms < claim.until_ms.saturating_add(STALE_MS) => Claimed::Verified,
                _ => Claimed::Unknown,
            };
            Looked { claimed, ask, is_evidence: false }
        };
        self.0.update((u128::from(crawler.key), ip), look).unwrap_or(Looked {
            claimed: Claimed::Unknown,
            ask: false,
            is_evidence: false,
        })
    }

    /// Whether an address is known to be the crawler's; nothing is looked into.
    pub fn is_verified(&self, crawler: &Crawler, ip: IpAddr, now_ms: u64) -> bool {
        let ip = ip.to_canonical();
        let holds = |claim: &Claim| {
            claim.claimed == Claimed::Verified && now_ms < claim.until_ms.saturating_add(STALE_MS)
        };
        crawler.networks.contains(ip) || self.0.read((u128::from(crawler.key), ip), holds).unwrap_or_default()
    }

    /// Says what was found.
    pub fn note(&self, key: u64, ip: IpAddr, claimed: Claimed, now_ms: u64) {
        self.0.update((u128::from(key), ip.to_canonical()), |claim| {
            let holds_ms = match claimed {
                Claimed::Verified => VERIFIED_MS,
                Claimed::Falsely => FALSE_MS,
                // Asked again after a while.
                Claimed::Unknown => return,
            };
            *claim =
                Claim { claimed, until_ms: now_ms.saturating_add(holds_ms), asked_ms: now_ms, falsely: 0 };
        });
    }
}

impl Entry for Claim {
    fn touched_ms(&self) -> u64 {
        self.until_ms.max(self.asked_ms)
    }

    fn only_remembers(&self) -> bool {
        self.claimed != Claimed::Verified
    }
}

/// How long an answer is waited for before it is asked again.
const PATIENCE_MS: u64 = 60_000;
/// How long a crawler that was verified is one.
const VERIFIED_MS: u64 = 24 * 60 * 60_000;
/// How long it stays one beyond that, until it was looked at again.
const STALE_MS: u64 = 60 * 60_000;
/// How long a false claim is one: addresses change hands, and names are set later than addresses.
const FALSE_MS: u64 = 60 * 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn crawler() -> Crawler {
        Crawler {
            domains: vec!["googlebot.com".into()],
            networks: ["198.51.100.0/24".parse().unwrap()].into_iter().collect(),
            ..Crawler::new("googlebot")
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_lies_in_a_domain_or_does_not() {
        for (name, expected) in [
            ("crawl-66-249-66-1.googlebot.com", true),
            ("Crawl.GoogleBot.com.", true),
            ("googlebot.com", true),
            ("evilgooglebot.com", false),
            ("googlebot.com.evil.test", false),
            ("", false),
        ] {
            assert_eq!(crawler().has_name(name), expected, "{name}");
        }
    }

    #[test]
    fn a_claim_is_looked_into_once_and_counts_for_nothing_until_it_is_known() {
        let (claims, crawler, ip) = (Claims::default(), crawler(), ip("192.0.2.1"));
        let look = |now_ms| claims.look(&crawler, ip, now_ms);
        assert_eq!((look(NOW).claimed, look(NOW).ask), (Claimed::Unknown, false));
        assert!(!look(NOW + PATIENCE_MS - 1).ask && look(NOW + PATIENCE_MS).ask, "nobody answered");
        claims.note(crawler.key, ip, Claimed::Verified, NOW);
        assert_eq!(
            look(NOW + VERIFIED_MS - 1),
            Looked { claimed: Claimed::Verified, ask: false, is_evidence: true }
        );
        let again = look(NOW + VERIFIED_MS);
        assert_eq!((again.claimed, again.ask), (Claimed::Verified, true), "while it is looked at again");
        assert!(claims.is_verified(&crawler, ip, NOW + VERIFIED_MS + STALE_MS - 1));
        assert!(!claims.is_verified(&crawler, ip, NOW + VERIFIED_MS + STALE_MS));
        assert_eq!(look(NOW + VERIFIED_MS + STALE_MS).claimed, Claimed::Unknown);
        assert_eq!(claims.look(&crawler, "192.0.2.2".parse().unwrap(), NOW).claimed, Claimed::Unknown);
    }

    #[test]
    fn a_false_claim_does_not_fill_the_history() {
        let (claims, crawler, ip) = (Claims::default(), crawler(), ip("192.0.2.1"));
        claims.note(crawler.key, ip, Claimed::Falsely, NOW);
        let kept = (0..1_000).filter(|_| claims.look(&crawler, ip, NOW).is_evidence).count();
        assert_eq!(kept, 16 + 5);
        assert_eq!(claims.look(&crawler, ip, NOW + FALSE_MS).claimed, Claimed::Unknown);
    }

    #[test]
    fn a_crawlers_own_networks_need_no_names() {
        let claims = Claims::default();
        let looked = claims.look(&crawler(), ip("198.51.100.7"), NOW);
        assert_eq!((looked.claimed, looked.ask), (Claimed::Verified, false));
        let nameless = Crawler { domains: Vec::new(), ..crawler() };
        let looked = claims.look(&nameless, ip("192.0.2.1"), NOW);
        assert_eq!((looked.claimed, looked.ask), (Claimed::Unknown, false), "there is nothing to ask");
    }
}
