//! What another system ordered and this node passed on: one claim for each address. No I/O; what follows is returned as steps.
//!
//! A node by itself may ban one address for a day, and so may a source that it listens to: its word is no operator's. What should
//! last longer is passed on for a day and renewed while the source stands by it.
//!
//! INVARIANT: a claim ends with what it claims, or earlier; nothing is renewed that an operator withdrew here.

use std::collections::HashMap;

use phalanx_model::limits::BAN_AUTOMATIC_MAX_MS;
use phalanx_model::{Actor, ActorKey, DecisionId, Prefix};
use phalanx_trust::authority::is_narrow;

use super::read::{Read, range_of, read_go_duration};
use crate::lapi::wire::ORIGIN;

/// The claims of one source.
#[derive(Debug)]
pub(super) struct Claims {
    by_key: HashMap<ActorKey, Claim>,
    max: usize,
    suffix: String,
    pub(super) skipped: Skipped,
}

/// One address that the source wants banned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) actor: Actor,
    pub(super) reason: String,
    /// The source's id of it.
    theirs: i64,
    /// When the source lets go, in Unix milliseconds.
    until_ms: u64,
    /// Our decision, with its end; none if nothing of ours was needed, or none may be.
    ours: Option<(DecisionId, u64)>,
}

/// What was not taken over, since the source was last read whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Skipped {
    /// Other types than `ban`, and simulated ones.
    pub(super) types: u64,
    /// Ranges, which a node alone may not order about, and countries and the like.
    pub(super) scopes: u64,
    /// More than the limit.
    pub(super) over_limit: u64,
    /// What came from a Phalanx node.
    pub(super) own: u64,
    /// What an operator has withdrawn here, or the fleet refused.
    pub(super) refused: u64,
}

impl Claims {
    pub(super) fn new(source: &str, max: usize) -> Self {
        Self { by_key: HashMap::new(), max, suffix: format!(" via {source}"), skipped: Skipped::default() }
    }

    /// Takes note of what the source orders. Returns the address if something is to be done about it.
    pub(super) fn ordered(&mut self, read: &Read, now_ms: u64) -> Option<ActorKey> {
        if read.origin == ORIGIN {
            self.skipped.own += 1;
            return None;
        }
        if read.kind != "ban" || read.simulated == Some(true) {
            self.skipped.types += 1;
            return None;
        }
        let actor =
            range_of(&read.scope, &read.value).filter(|range| narrow(*range)).map(|r| Actor::ip(r.addr()));
        let (Some(actor), Some(left_ms)) = (actor, read_go_duration(&read.duration)) else {
            self.skipped.scopes += 1;
            return None;
        };
        if left_ms == 0 {
            return None;
        }
        let (key, until_ms) = (actor.key(), now_ms.saturating_add(left_ms));
        match self.by_key.get(&key) {
            // Of several orders about one address the longest counts. The same one again may seem to end a little later.
            Some(claim) if claim.until_ms.saturating_add(SLACK_MS) >= until_ms => {
                return (claim.theirs == read.id && claim.ours.is_none()).then_some(key);
            }
            Some(_) => {}
            None if self.by_key.len() >= self.max => {
                self.skipped.over_limit += 1;
                return None;
            }
            None => {}
        }
        let reason = self.reason(read);
        self.by_key.insert(key, Claim { actor, reason, theirs: read.id, until_ms, ours: None });
        Some(key)
    }

    /// Takes note of what the source no longer orders. Returns the actor and the decision of ours to end.
    pub(super) fn ended(&mut self, read: &Read) -> Option<(Actor, DecisionId)> {
        let key = Actor::ip(range_of(&read.scope, &read.value)?.addr()).key();
        if self.by_key.get(&key)?.theirs != read.id {
            return None;
        }
        let claim = self.by_key.remove(&key)?;
        claim.ours.map(|(id, _)| (claim.actor, id))
    }

    /// Drops every claim that the source, read whole, did not name. Returns what to end.
    pub(super) fn keep_only(&mut self, named: impl Fn(&ActorKey) -> bool) -> Vec<(Actor, DecisionId)> {
        let gone: Vec<ActorKey> = self.by_key.keys().filter(|key| !named(key)).copied().collect();
        let removed = gone.iter().filter_map(|key| self.by_key.remove(key));
        removed.filter_map(|claim| claim.ours.map(|(id, _)| (claim.actor, id))).collect()
    }

    /// Forgets claims whose time is over.
    pub(super) fn expire(&mut self, now_ms: u64) {
        self.by_key.retain(|_, claim| claim.until_ms > now_ms);
    }

    /// The claim about an address, and for how long it may be passed on.
    pub(super) fn order(&self, key: &ActorKey, now_ms: u64) -> Option<(&Claim, u64)> {
        let claim = self.by_key.get(key)?;
        Some((claim, claim.until_ms.saturating_sub(now_ms).min(BAN_AUTOMATIC_MAX_MS)))
    }

    /// Notes our decision about an address.
    pub(super) fn passed_on(&mut self, key: &ActorKey, ours: (DecisionId, u64)) {
        if let Some(claim) = self.by_key.get_mut(key) {
            claim.ours = Some(ours);
        }
    }

    /// Forgets a claim that must not be passed on.
    pub(super) fn forsake(&mut self, key: &ActorKey) {
        if let Some(claim) = self.by_key.get_mut(key) {
            claim.ours = None;
        }
    }

    /// Addresses whose decision of ours ends before the source's does and soon, with that decision.
    pub(super) fn to_renew(&self, now_ms: u64) -> Vec<(ActorKey, DecisionId)> {
        let due = |claim: &Claim| {
            let (id, until_ms) = claim.ours?;
            let soon = until_ms < now_ms.saturating_add(RENEWED_BEFORE_MS);
            (soon && claim.until_ms > until_ms.saturating_add(SLACK_MS)).then_some(id)
        };
        self.by_key.iter().filter_map(|(key, claim)| Some((*key, due(claim)?))).collect()
    }

    /// How many addresses are banned on the source's word.
    pub(super) fn in_force(&self) -> usize {
        self.by_key.values().filter(|claim| claim.ours.is_some()).count()
    }

    pub(super) fn holds(&self, key: &ActorKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// Whether a decision of this node was made on this source's word.
    pub(super) fn is_from_here(&self, reason: &str) -> bool {
        reason.starts_with(PREFIX) && reason.ends_with(&self.suffix)
    }

    fn reason(&self, read: &Read) -> String {
        let cut = |text: &str, chars: usize| text.chars().take(chars).collect::<String>();
        format!("{PREFIX}{}/{}{}", cut(&read.origin, 32), cut(&read.scenario, 80), self.suffix)
    }
}

impl Skipped {
    /// In words; `None` if there is nothing to tell.
    pub(super) fn words(&self) -> Option<String> {
        let parts = [
            (self.over_limit, "over the limit"),
            (self.scopes, "not about single addresses"),
            (self.types, "not bans"),
            (self.own, "made by Phalanx"),
            (self.refused, "withdrawn or refused here"),
        ];
        let told: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        (!told.is_empty()).then(|| told.join(", "))
    }
}

/// Whether a range is one address to us: an IPv4 address, or at most the /64 of one IPv6 subscriber.
fn narrow(range: Prefix) -> bool {
    is_narrow(&Actor::prefix(range))
}

/// How long before its end a decision of ours is renewed: a source may be away for so long without a gap.
pub(super) const RENEWED_BEFORE_MS: u64 = BAN_AUTOMATIC_MAX_MS / 2;
const PREFIX: &str = "crowdsec:";
/// Two readings of one order differ by the time that they took.
const SLACK_MS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const NOW: u64 = 1_000_000;

    fn read(id: i64, scope: &str, value: &str, duration: &str) -> Read {
        Read {
            id,
            origin: "cscli".into(),
            scenario: "ssh-bf".into(),
            scope: scope.into(),
            kind: "ban".into(),
            value: value.into(),
            duration: duration.into(),
            simulated: None,
        }
    }

    fn claims() -> Claims {
        Claims::new("lapi:8080", 3)
    }

    fn id(n: u64) -> DecisionId {
        DecisionId::from_parts(1, 1, n)
    }

    #[test]
    fn only_bans_of_single_addresses_are_taken_over() {
        let ban = |scope, value| read(1, scope, value, "4h");
        let changed = |change: fn(&mut Read)| {
            let mut read = read(1, "Ip", "192.0.2.1", "4h");
            change(&mut read);
            read
        };
        for (read, taken) in [
            (ban("Ip", "192.0.2.1"), Some("192.0.2.1/32")),
            (ban("Range", "192.0.2.1/32"), Some("192.0.2.1/32")),
            (ban("Range", "192.0.2.0/24"), None),
            (ban("Ip", "2001:db8::7"), Some("2001:db8::/64")),
            (ban("Range", "2001:db8::/64"), Some("2001:db8::/64")),
            (ban("Range", "2001:db8::/48"), None),
            (ban("Country", "FR"), None),
            (changed(|r| r.kind = "captcha".into()), None),
            (changed(|r| r.simulated = Some(true)), None),
            (changed(|r| r.origin = ORIGIN.into()), None),
            (changed(|r| r.duration = "-4s".into()), None),
            (changed(|r| r.duration = "soon".into()), None),
        ] {
            let got = claims().ordered(&read, NOW).map(|range| range.to_string());
            assert_eq!(got.as_deref(), taken, "{read:?}");
        }
    }

    #[test]
    fn the_longest_order_about_an_address_counts_and_ends_by_its_id() {
        let mut claims = claims();
        let range = claims.ordered(&read(1, "Ip", "192.0.2.1", "4h"), NOW).unwrap();
        claims.passed_on(&range, (id(1), NOW + 4 * HOUR));
        assert_eq!(claims.ordered(&read(2, "Ip", "192.0.2.1", "1h"), NOW), None);
        assert_eq!(claims.ended(&read(2, "Ip", "192.0.2.1", "-1s")), None);
        assert_eq!(claims.ordered(&read(3, "Ip", "192.0.2.1", "8h"), NOW), Some(range));
        claims.passed_on(&range, (id(3), NOW + 8 * HOUR));
        assert_eq!(claims.ended(&read(1, "Ip", "192.0.2.1", "-1s")), None);
        let ended = claims.ended(&read(3, "Ip", "192.0.2.1", "-1s"));
        assert_eq!(ended, Some((Actor::ip("192.0.2.1".parse().unwrap()), id(3))));
        assert_eq!(claims.in_force(), 0);
    }

    #[test]
    fn what_lasts_longer_than_a_day_is_passed_on_for_a_day_and_renewed() {
        let mut claims = claims();
        let range = claims.ordered(&read(1, "Ip", "192.0.2.1", "168h0m0s"), NOW).unwrap();
        let (claim, for_ms) = claims.order(&range, NOW).unwrap();
        assert_eq!(for_ms, 24 * HOUR);
        assert_eq!(claim.reason, "crowdsec:cscli/ssh-bf via lapi:8080");
        assert!(claims.is_from_here("crowdsec:cscli/ssh-bf via lapi:8080"));
        assert!(!claims.is_from_here("crowdsec:cscli/ssh-bf via other:8080"));
        claims.passed_on(&range, (id(1), NOW + 24 * HOUR));
        assert_eq!(claims.to_renew(NOW + 11 * HOUR), []);
        assert_eq!(claims.to_renew(NOW + 13 * HOUR), [(range, id(1))]);
        claims.forsake(&range);
        assert_eq!(claims.to_renew(NOW + 13 * HOUR), []);
        claims.expire(NOW + 168 * HOUR);
        assert!(!claims.holds(&range));
    }

    #[test]
    fn there_are_no_more_claims_than_the_limit() {
        let mut claims = claims();
        for n in 1..=5 {
            claims.ordered(&read(n, "Ip", &format!("192.0.2.{n}"), "1h"), NOW);
        }
        assert_eq!(claims.skipped.over_limit, 2);
        assert_eq!(claims.skipped.words().as_deref(), Some("2 over the limit"));
        let gone = claims.keep_only(|range| range.to_string() == "192.0.2.2/32");
        assert!(gone.is_empty() && claims.by_key.len() == 1);
    }
}
