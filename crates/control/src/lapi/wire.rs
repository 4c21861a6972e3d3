//! Decisions as CrowdSec's local API writes them, and how ours look there.
//!
//! | ours | there |
//! |---|---|
//! | ban, challenge, throttle | type `ban`, `captcha`, `throttle` |
//! | allow | nothing; it takes the ban of the same addresses out |
//! | one kind of client at an address | nothing; its neighbours would be refused with it |
//! | an IPv4 address | scope `Ip` |
//! | an IPv6 subscriber, a range | scope `Range` |
//! | an autonomous system, a country | scope `AS`, `Country` |
//! | a session, an account, a TLS client | nothing |

use phalanx_model::{ActorKey, Decision, DecisionKind, Prefix};
use serde::Serialize;

/// A decision as it is written. What is deleted has the same id, origin, scope, value and type as what was new.
#[derive(Debug, Serialize)]
pub(crate) struct Written<'a> {
    duration: String,
    id: u64,
    origin: &'static str,
    scenario: &'a str,
    scope: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    value: String,
}

impl<'a> Written<'a> {
    /// A decision in force about the whole of a key; `None` for what is never sent.
    pub(crate) fn of(decision: &'a Decision, key: ActorKey, now_ms: u64) -> Option<Self> {
        let left_ms = decision.expires_at_ms.saturating_sub(now_ms);
        Some(Self {
            duration: go_duration(left_ms),
            scenario: &decision.reason,
            ..Self::ended(decision.kind, key)?
        })
    }

    /// The end of what was ordered about a key.
    pub(crate) fn ended(kind: DecisionKind, key: ActorKey) -> Option<Written<'static>> {
        let kind = type_of(kind)?;
        let (scope, value) = target(key)?;
        Some(Written {
            duration: go_duration(0),
            id: id(kind, &value),
            origin: ORIGIN,
            scenario: "",
            scope,
            kind,
            value,
        })
    }
}

/// The type of a decision there; `None` for what is never sent.
pub(crate) fn type_of(kind: DecisionKind) -> Option<&'static str> {
    match kind {
        DecisionKind::Ban => Some("ban"),
        DecisionKind::Challenge => Some("captcha"),
        DecisionKind::Throttle => Some("throttle"),
        DecisionKind::Allow | DecisionKind::RaiseParanoia => None,
    }
}

/// Scope and value of a key; `None` for what is no addresses.
pub(crate) fn target(key: ActorKey) -> Option<(&'static str, String)> {
    match key {
        ActorKey::Range(range) => Some(target_of_range(range)),
        ActorKey::Asn(number) => Some(("AS", number.to_string())),
        ActorKey::Country(country) => Some(("Country", country.to_string())),
        ActorKey::Ja4(_) | ActorKey::Session(_) | ActorKey::Account(_) => None,
        ActorKey::Software(_) | ActorKey::Route(_) | ActorKey::App(_) | ActorKey::Rules(_) => None,
    }
}

fn target_of_range(range: Prefix) -> (&'static str, String) {
    let one = if range.addr().is_ipv4() { 32 } else { 128 };
    if range.prefix_len() == one { ("Ip", range.addr().to_string()) } else { ("Range", range.to_string()) }
}

/// A duration as Go prints it. Finer than a millisecond nothing is known.
pub(crate) fn go_duration(ms: u64) -> String {
    let (hours, minutes, rest_ms) = (ms / 3_600_000, ms / 60_000 % 60, ms % 60_000);
    let mut seconds = format!("{}.{:03}", rest_ms / 1_000, rest_ms % 1_000);
    let digits = seconds.trim_end_matches('0').trim_end_matches('.').len();
    seconds.truncate(digits);
    match (hours, minutes) {
        (0, 0) if ms > 0 && ms < 1_000 => format!("{ms}ms"),
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// A number that stands for this order about these addresses, on every node and after every restart: a bouncer may keep
/// its decisions by id. 53 bits, because some bouncers read JSON's numbers as floating point.
fn id(kind: &str, value: &str) -> u64 {
    let digest = phalanx_trust::sha256(format!("{kind} {value}").as_bytes());
    let bits = digest.iter().take(8).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    (bits >> 11).max(1)
}

/// Who made a decision, as bouncers filter and count it.
pub(crate) const ORIGIN: &str = "phalanx";

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_model::{Actor, Author, AuthorRole, DecisionId};

    #[test]
    fn durations_are_written_as_go_does() {
        for (ms, text) in [
            (0, "0s"),
            (500, "500ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (61_020, "1m1.02s"),
            (14_400_000, "4h0m0s"),
            (86_400_000 * 3 + 1, "72h0m0.001s"),
        ] {
            assert_eq!(go_duration(ms), text);
        }
    }

    #[test]
    fn what_is_sent_of_a_decision() {
        use DecisionKind::{Allow, Ban, Challenge, Throttle};
        for (kind, actor, expected) in [
            (Ban, "192.0.2.1", Some(("ban", "Ip", "192.0.2.1"))),
            (Ban, "192.0.2.1/32", Some(("ban", "Ip", "192.0.2.1"))),
            (Ban, "192.0.2.0/24", Some(("ban", "Range", "192.0.2.0/24"))),
            (Ban, "2001:db8::7", Some(("ban", "Range", "2001:db8::/64"))),
            (Ban, "2001:db8::7/128", Some(("ban", "Ip", "2001:db8::7"))),
            (Challenge, "192.0.2.1", Some(("captcha", "Ip", "192.0.2.1"))),
            (Throttle, "192.0.2.1", Some(("throttle", "Ip", "192.0.2.1"))),
            (Ban, "AS64500", Some(("ban", "AS", "64500"))),
            (Ban, "NL", Some(("ban", "Country", "NL"))),
            (Ban, "session", None),
            (Allow, "192.0.2.1", None),
        ] {
            let actor = match (actor, actor.parse::<Prefix>()) {
                ("AS64500", _) => Actor::Asn(64_500),
                ("NL", _) => Actor::Country("NL".parse().unwrap()),
                ("session", _) => Actor::Session(7),
                (_, Ok(prefix)) => Actor::prefix(prefix),
                (address, Err(_)) => Actor::ip(address.parse().unwrap()),
            };
            let decision = Decision {
                id: DecisionId::from_parts(1, 1, 1),
                kind,
                author: Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Node },
                reason: "3 attacks".into(),
                evidence: None,
                confidence_percent: 100,
                created_at_ms: 0,
                expires_at_ms: 61_000,
                version: 1,
                actor,
            };
            let written = Written::of(&decision, decision.actor.key(), 1_000);
            let ended = Written::ended(kind, decision.actor.key());
            assert_eq!(written.as_ref().map(|w| (w.kind, w.scope, w.value.as_str())), expected);
            if let (Some(written), Some(ended)) = (written, ended) {
                assert_eq!((written.duration.as_str(), written.scenario), ("1m0s", "3 attacks"));
                assert_eq!((written.id, written.value), (ended.id, ended.value));
                assert!(written.id < 1 << 53);
            }
        }
    }
}
