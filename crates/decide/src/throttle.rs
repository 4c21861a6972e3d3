//! How often whoever stands under a throttle may ask.
//!
//! An order about one client is counted as one. One about a network, a country or a kind of client is about many: each address
//! has the rate for itself, and all of them together a multiple of it, so that a flood from many addresses is bounded too.
//!
//! Failure direction: who is not in the table begins anew, with a whole burst; a full bucket gives up whoever is furthest from the limit.

use std::net::{IpAddr, Ipv6Addr};

use phalanx_model::limits::{
    RATE_EVIDENCE_KEPT, THROTTLE_BURST, THROTTLE_PER_MINUTE, THROTTLE_TOGETHER, THROTTLED_MAX,
};
use phalanx_model::net::actor_ip;
use phalanx_model::{Actor, Decision};

use crate::rate::Pace;
use crate::table::{ActorTable, Entry};

/// How often whoever is throttled may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleRules {
    /// One client.
    pub pace: Pace,
    /// All clients together that an order about many is about.
    pub together: Pace,
}

impl ThrottleRules {
    /// `count` requests of one client in `period_ms`, `burst` of them at once, and a multiple for many.
    pub fn new(count: u32, period_ms: u64, burst: u32) -> Self {
        let many = |number: u32| number.saturating_mul(THROTTLE_TOGETHER);
        Self {
            pace: Pace::new(count, period_ms, burst),
            together: Pace::new(many(count), period_ms, many(burst)),
        }
    }
}

impl Default for ThrottleRules {
    fn default() -> Self {
        Self::new(THROTTLE_PER_MINUTE, 60_000, THROTTLE_BURST)
    }
}

/// A request beyond the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slowed {
    /// When the next one is admitted, in seconds, rounded up.
    pub retry_after_s: u32,
    /// Whether it is kept as evidence: the first ones, then each that doubles their number.
    pub is_evidence: bool,
}

/// The counts of whoever is throttled, of at most [`THROTTLED_MAX`] keys.
#[derive(Debug)]
pub struct Throttled(ActorTable<Next, (u128, IpAddr)>);

#[derive(Debug, Default)]
struct Next {
    next_ns: u64,
    over: u32,
}

impl Default for Throttled {
    fn default() -> Self {
        Self(ActorTable::with_capacity(THROTTLED_MAX))
    }
}

impl Throttled {
    /// Counts a request of a client under an order; what is beyond the rate counts for nothing. `now_ns`: of a steady clock that is ahead of the
    /// longest period.
    pub fn admit(
        &self,
        rules: &ThrottleRules,
        decision: &Decision,
        ip: IpAddr,
        now_ns: u64,
    ) -> Option<Slowed> {
        let order = decision.id.to_bits();
        let of_one = !is_about_many(&decision.actor);
        let client = if of_one { ALL } else { actor_ip(ip) };
        let slowed = self.take(order, client, rules.pace, now_ns);
        if slowed.is_some() || of_one {
            return slowed;
        }
        self.take(order, ALL, rules.together, now_ns)
    }

    fn take(&self, order: u128, client: IpAddr, pace: Pace, now_ns: u64) -> Option<Slowed> {
        let take = |entry: &mut Next| {
            let wait_ns = pace.wait_ns(entry.next_ns, now_ns);
            if wait_ns == 0 {
                if entry.next_ns <= now_ns {
                    entry.over = 0;
                }
                entry.next_ns = pace.after(entry.next_ns, 1, now_ns);
                return None;
            }
            entry.over = entry.over.saturating_add(1);
            Some(Slowed {
                retry_after_s: u32::try_from(wait_ns.div_ceil(1_000_000_000)).unwrap_or(u32::MAX),
                is_evidence: entry.over <= RATE_EVIDENCE_KEPT || entry.over.is_power_of_two(),
            })
        };
        self.0.update((order, client), take).flatten()
    }
}

/// Whether different clients stand under an order about this actor.
fn is_about_many(actor: &Actor) -> bool {
    matches!(actor, Actor::Prefix(_) | Actor::Asn(_) | Actor::Country(_) | Actor::Ja4(_))
        || actor.key().is_wide()
}

impl Entry for Next {
    fn touched_ms(&self) -> u64 {
        self.next_ns / 1_000_000
    }
}

/// Stands for all clients under an order.
const ALL: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use phalanx_model::{Author, AuthorRole, DecisionId, DecisionKind};

    use super::*;

    const DAY_NS: u64 = 86_400_000_000_000;
    const SECOND_NS: u64 = 1_000_000_000;

    fn order(id: u64, actor: Actor) -> Arc<Decision> {
        Arc::new(Decision {
            id: DecisionId::from_parts(1, 1, id),
            actor,
            kind: DecisionKind::Throttle,
            author: Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Operator },
            reason: "test".into(),
            evidence: None,
            confidence_percent: 100,
            created_at_ms: 0,
            expires_at_ms: 100,
            version: 1,
        })
    }

    fn admitted(throttled: &Throttled, order: &Decision, ip: &str, count: u32, now_ns: u64) -> usize {
        let (rules, ip) = (ThrottleRules::new(60, 60_000, 10), ip.parse().unwrap());
        (0..count).filter(|_| throttled.admit(&rules, order, ip, now_ns).is_none()).count()
    }

    #[test]
    fn an_actor_has_its_burst_and_then_its_rate_wherever_it_asks_from() {
        let (throttled, account) = (Throttled::default(), order(1, Actor::Account(7)));
        assert_eq!(admitted(&throttled, &account, "192.0.2.1", 9, DAY_NS), 9);
        assert_eq!(admitted(&throttled, &account, "192.0.2.2", 9, DAY_NS), 1, "another address of the same");
        assert_eq!(admitted(&throttled, &account, "192.0.2.3", 9, DAY_NS + 3 * SECOND_NS), 3);
        assert_eq!(admitted(&throttled, &order(2, Actor::Account(8)), "192.0.2.1", 99, DAY_NS), 10);
    }

    #[test]
    fn clients_under_one_order_have_a_rate_each_and_one_together() {
        let (throttled, network) =
            (Throttled::default(), order(1, Actor::prefix("10.0.0.0/8".parse().unwrap())));
        for n in 0..20 {
            assert_eq!(admitted(&throttled, &network, &format!("10.0.0.{n}"), 99, DAY_NS), 10);
        }
        assert_eq!(
            admitted(&throttled, &network, "10.0.0.99", 99, DAY_NS),
            0,
            "all of what there is for all"
        );
    }

    #[test]
    fn who_does_not_stop_hears_when_to_come_back_and_does_not_fill_the_history() {
        let (throttled, one) = (Throttled::default(), order(1, Actor::ip("192.0.2.1".parse().unwrap())));
        let rules = ThrottleRules::new(1, 60_000, 1);
        let ask = || throttled.admit(&rules, &one, "192.0.2.1".parse().unwrap(), DAY_NS);
        assert_eq!(ask(), None);
        assert_eq!(ask(), Some(Slowed { retry_after_s: 60, is_evidence: true }));
        let kept = (1..1_000).filter(|_| ask().unwrap().is_evidence).count();
        assert_eq!(kept, 15 + 5);
    }
}
