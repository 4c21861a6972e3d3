//! Strikes, and the decision they lead to. A ban must not become the attack:
//!
//! - only a refusal by a high-confidence detection strikes; policy, protocol and parser rules never do, nor what an app
//!   only observes;
//! - what another site's page made a browser send never does;
//! - one payload strikes once, however often a client repeats it;
//! - exempt addresses are never struck;
//! - where several clients at an address behaved well lately, only the misbehaving kind of client is banned;
//! - the first ban is short, and doubles only while the actor comes back.

use std::net::IpAddr;

use phalanx_model::event::Proposal;
use phalanx_model::limits::{BAN_MEMORY_MS, STRIKE_ACTORS_MAX, STRIKES_KEPT_MAX};
use phalanx_model::net::actor_ip;
use phalanx_model::{Actor, Confidence, DecisionKind, Reason, RequestId, RuleClass, Signal, Strike, Verdict};

use crate::table::{ActorTable, Entry};
use crate::{DecidePlan, GoodTraffic, Provenance, StrikeRules};

/// A refused request, as strikes look at it.
#[derive(Debug, Clone, Copy)]
pub struct Denial<'a> {
    /// The request.
    pub request: RequestId,
    /// The client's address.
    pub client: IpAddr,
    /// The client's hash; see [`Actor::Client`].
    pub agent: u64,
    /// Who made the browser send it.
    pub provenance: Provenance,
    /// The verdict.
    pub verdict: &'a Verdict,
    /// What was found.
    pub signals: &'a [Signal],
}

/// A strike, and the proposal if it was the last one needed.
#[derive(Debug, Clone, PartialEq)]
pub struct StrikeOutcome {
    /// The strike.
    pub strike: Strike,
    /// What the node proposes.
    pub proposal: Option<Proposal>,
}

/// Strikes of at most [`STRIKE_ACTORS_MAX`] actors.
#[derive(Debug)]
pub struct StrikeTable(ActorTable<Record>);

impl Default for StrikeTable {
    fn default() -> Self {
        Self(ActorTable::with_capacity(STRIKE_ACTORS_MAX))
    }
}

impl StrikeTable {
    /// Forgets an actor's strikes and earlier bans: an operator said that they were wrong.
    pub fn forgive(&self, ip: IpAddr) {
        self.0.remove(actor_ip(ip));
    }

    /// How many actors have strikes or remembered bans.
    pub fn actors_len(&self) -> usize {
        self.0.len()
    }
}

/// What a table remembers of an actor, for a process that takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StruckActor {
    /// Who.
    pub actor: IpAddr,
    /// Time and payload of each strike.
    pub strikes: Vec<(u64, u64)>,
    /// How often it was banned lately.
    pub bans: u32,
    /// When there was last something to remember.
    pub touched_ms: u64,
}

impl StrikeTable {
    /// All that is remembered.
    pub fn remembered(&self) -> Vec<StruckActor> {
        let mut all = Vec::new();
        self.0.for_each(|actor, record| {
            let Record { strikes, bans, touched_ms } = record;
            all.push(StruckActor { actor, strikes: strikes.clone(), bans: *bans, touched_ms: *touched_ms });
        });
        all
    }

    /// Takes in what another table remembered; what both know counts once.
    pub fn remember(&self, other: StruckActor) {
        let StruckActor { actor, strikes, bans, touched_ms } = other;
        self.0.update(actor_ip(actor), |record| {
            for (at_ms, payload) in strikes {
                if !record.strikes.iter().any(|(_, known)| *known == payload) {
                    record.strikes.push((at_ms, payload));
                }
            }
            record.strikes.sort_unstable();
            record.strikes.drain(..record.strikes.len().saturating_sub(STRIKES_KEPT_MAX));
            record.bans = record.bans.max(bans);
            record.touched_ms = record.touched_ms.max(touched_ms);
        });
    }
}

/// Counts a refusal against its client, where the rules above say that it counts.
pub fn strike(
    plan: &DecidePlan,
    table: &StrikeTable,
    good: &GoodTraffic,
    denial: &Denial<'_>,
    now_ms: u64,
) -> Option<StrikeOutcome> {
    let by_rule = denial.verdict.refuses() && matches!(denial.verdict.reason, Reason::Rule { .. });
    if !by_rule || denial.provenance == Provenance::CrossSite || plan.is_exempt(denial.client, now_ms) {
        return None;
    }
    let payloads = detections(denial.signals).flat_map(|s| s.matches.iter().map(|m| m.value_hash));
    let rules = &plan.strikes;
    let (count, ban_ms) = table.0.update(actor_ip(denial.client), |record| {
        record.add(payloads, rules, now_ms).map(|count| (count, record.ban(count, rules, now_ms)))
    })??;
    let shared = good.is_shared(denial.client, now_ms);
    let actor = if shared { Actor::client(denial.client, denial.agent) } else { Actor::ip(denial.client) };
    let proposal = ban_ms.map(|for_ms| Proposal {
        actor: actor.clone(),
        kind: DecisionKind::Ban,
        reason: reason(count, denial.signals),
        evidence: denial.request,
        confidence_percent: 90,
        at_ms: now_ms,
        for_ms,
    });
    let strike = Strike { request: denial.request, at_ms: now_ms, actor, count };
    Some(StrikeOutcome { strike, proposal })
}

/// The signals that strike.
fn detections(signals: &[Signal]) -> impl Iterator<Item = &Signal> {
    let high = RuleClass::Detection(Confidence::High);
    signals.iter().filter(move |signal| signal.rule.class == high && !signal.observed)
}

/// Names the count and the last detection in the rule's words.
fn reason(count: u32, signals: &[Signal]) -> String {
    match detections(signals).next() {
        Some(signal) => format!("{count} attacks, the last: {} (rule {})", signal.message, signal.rule.id),
        None => format!("{count} attacks"),
    }
}

/// One actor's strikes within the window, and its bans.
#[derive(Debug, Default)]
struct Record {
    /// Time and payload of each strike, oldest first.
    strikes: Vec<(u64, u64)>,
    bans: u32,
    touched_ms: u64,
}

impl Entry for Record {
    fn touched_ms(&self) -> u64 {
        self.touched_ms
    }

    /// The bans themselves are elsewhere. Were their memory, which outlives them, to push out those who strike, nobody new could be
    /// banned once a botnet has been.
    fn only_remembers(&self) -> bool {
        self.strikes.is_empty()
    }
}

impl Record {
    /// Adds a strike if any of its payloads is new in the window; returns how many there are now.
    fn add(&mut self, payloads: impl Iterator<Item = u64>, rules: &StrikeRules, now_ms: u64) -> Option<u32> {
        self.strikes.retain(|(at_ms, _)| now_ms.saturating_sub(*at_ms) < rules.window_ms);
        let known = |strikes: &[(u64, u64)], hash| strikes.iter().any(|(_, known)| *known == hash);
        let payload = payloads.into_iter().find(|&hash| !known(&self.strikes, hash))?;
        if self.strikes.len() >= STRIKES_KEPT_MAX {
            self.strikes.remove(0);
        }
        self.strikes.push((now_ms, payload));
        if now_ms.saturating_sub(self.touched_ms) > BAN_MEMORY_MS {
            self.bans = 0;
        }
        self.touched_ms = now_ms;
        u32::try_from(self.strikes.len()).ok()
    }

    /// Length of the ban that this many strikes lead to, if they do; starts a new count.
    fn ban(&mut self, count: u32, rules: &StrikeRules, now_ms: u64) -> Option<u64> {
        if count < rules.count {
            return None;
        }
        let doublings = self.bans.min(32);
        let for_ms = rules.first_ban_ms.saturating_mul(1 << doublings).min(rules.max_ban_ms);
        self.bans = self.bans.saturating_add(1);
        self.strikes.clear();
        // The memory of bans starts when this one ends.
        self.touched_ms = now_ms.saturating_add(for_ms);
        Some(for_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_model::{RuleInfo, RuleMatch};
    use std::sync::Arc;

    const ATTACKER: &str = "192.0.2.1";

    fn signal(class: RuleClass, payload: u64) -> Signal {
        let rule = RuleInfo {
            id: 942_100,
            file: "a.conf".into(),
            line: 1,
            class,
            severity: None,
            tags: vec![],
            edition: Default::default(),
            unaudited: false,
            source: "".into(),
        };
        let hit = RuleMatch {
            variable: "ARGS:q".into(),
            fragment: "x".into(),
            value_hash: payload,
            transformations: vec![],
            value: None,
            steps: vec![],
        };
        Signal {
            rule: Arc::new(rule),
            phase: 2,
            message: String::new(),
            verbatim: false,
            data: String::new(),
            matches: vec![hit],
            score: 5,
            inbound: None,
            observed: false,
        }
    }

    struct Bench {
        plan: DecidePlan,
        table: StrikeTable,
        good: GoodTraffic,
    }

    impl Bench {
        fn new() -> Self {
            let plan = DecidePlan {
                operators: ["127.0.0.0/8".parse().unwrap()].into_iter().collect(),
                ..DecidePlan::default()
            };
            Self { plan, table: StrikeTable::default(), good: GoodTraffic::default() }
        }

        fn hit(
            &self,
            client: &str,
            class: RuleClass,
            payload: u64,
            from: Provenance,
            now_ms: u64,
        ) -> Option<StrikeOutcome> {
            let verdict = Verdict::deny(Reason::Rule { rule: 942_100 }, 403);
            let denial = Denial {
                request: RequestId::from_parts(now_ms, 1, payload),
                client: client.parse().unwrap(),
                agent: 9,
                provenance: from,
                verdict: &verdict,
                signals: &[signal(class, payload)],
            };
            strike(&self.plan, &self.table, &self.good, &denial, now_ms)
        }

        fn attack(&self, payload: u64, now_ms: u64) -> Option<StrikeOutcome> {
            self.hit(ATTACKER, HIGH, payload, Provenance::Own, now_ms)
        }
    }

    const HIGH: RuleClass = RuleClass::Detection(Confidence::High);

    #[test]
    fn the_third_distinct_attack_within_the_window_proposes_a_ban() {
        let bench = Bench::new();
        assert!(bench.attack(1, 1_000).unwrap().proposal.is_none());
        assert!(bench.attack(2, 2_000).unwrap().proposal.is_none());
        let proposal = bench.attack(3, 3_000).unwrap().proposal.unwrap();
        assert_eq!(proposal.actor, Actor::ip(ATTACKER.parse().unwrap()));
        assert_eq!(proposal.for_ms, phalanx_model::limits::BAN_FIRST_MS);
    }

    #[test]
    fn strikes_outside_the_window_do_not_count() {
        let bench = Bench::new();
        bench.attack(1, 0);
        bench.attack(2, 59_000);
        assert_eq!(bench.attack(3, 61_000).unwrap().strike.count, 2);
    }

    #[test]
    fn one_payload_strikes_once() {
        let bench = Bench::new();
        assert!(bench.attack(7, 1_000).is_some());
        for n in 2..10 {
            assert!(bench.attack(7, n * 1_000).is_none());
        }
    }

    #[test]
    fn only_high_confidence_detections_strike() {
        let bench = Bench::new();
        for class in [
            RuleClass::Policy,
            RuleClass::Protocol,
            RuleClass::Detection(Confidence::Medium),
            RuleClass::Detection(Confidence::Low),
        ] {
            assert!(bench.hit(ATTACKER, class, 1, Provenance::Own, 1_000).is_none());
        }
    }

    #[test]
    fn what_an_app_only_observes_never_strikes() {
        let bench = Bench::new();
        let verdict = Verdict::deny(Reason::Rule { rule: 942_100 }, 403);
        let observed = Signal { observed: true, ..signal(HIGH, 1) };
        for signals in [vec![observed.clone()], vec![observed, signal(RuleClass::Protocol, 2)]] {
            let denial = Denial {
                request: RequestId::from_parts(1, 1, 1),
                client: ATTACKER.parse().unwrap(),
                agent: 9,
                provenance: Provenance::Own,
                verdict: &verdict,
                signals: &signals,
            };
            assert!(strike(&bench.plan, &bench.table, &bench.good, &denial, 1_000).is_none());
        }
    }

    #[test]
    fn a_page_elsewhere_cannot_get_its_visitors_banned() {
        let bench = Bench::new();
        for payload in 0..10 {
            assert!(bench.hit(ATTACKER, HIGH, payload, Provenance::CrossSite, 1_000).is_none());
        }
    }

    #[test]
    fn exempt_addresses_are_never_struck() {
        let bench = Bench::new();
        for payload in 0..10 {
            assert!(bench.hit("127.0.0.1", HIGH, payload, Provenance::Own, 1_000).is_none());
            assert!(bench.hit("::ffff:127.0.0.1", HIGH, payload, Provenance::Own, 1_000).is_none());
        }
    }

    #[test]
    fn a_shared_address_is_narrowed_to_the_misbehaving_client() {
        let bench = Bench::new();
        for session in 0..3 {
            bench.good.note(ATTACKER.parse().unwrap(), session, 500);
        }
        bench.attack(1, 1_000);
        bench.attack(2, 1_000);
        let proposal = bench.attack(3, 1_000).unwrap().proposal.unwrap();
        assert_eq!(proposal.actor, Actor::client(ATTACKER.parse().unwrap(), 9));
    }

    #[test]
    fn bans_double_while_the_actor_returns_and_start_over_when_it_stays_away() {
        let bench = Bench::new();
        let mut now_ms = 1_000;
        let ban = |now_ms: &mut u64| {
            let outcomes: Vec<_> = (0..3).map(|n| bench.attack(*now_ms + n, *now_ms)).collect();
            let for_ms = outcomes.into_iter().flatten().find_map(|o| o.proposal).unwrap().for_ms;
            *now_ms += for_ms;
            for_ms
        };
        let first = ban(&mut now_ms);
        assert_eq!(ban(&mut now_ms), first * 2);
        assert_eq!(ban(&mut now_ms), first * 4);
        now_ms += BAN_MEMORY_MS + 1;
        assert_eq!(ban(&mut now_ms), first);
    }

    #[test]
    fn ipv6_neighbours_in_one_64_strike_together() {
        let bench = Bench::new();
        let from = |host: u64| format!("2001:db8::{host}");
        bench.hit(&from(1), HIGH, 1, Provenance::Own, 1_000);
        bench.hit(&from(2), HIGH, 2, Provenance::Own, 1_000);
        let last = bench.hit(&from(3), HIGH, 3, Provenance::Own, 1_000).unwrap();
        assert_eq!(last.proposal.unwrap().actor.to_string(), "2001:db8::/64");
    }

    #[test]
    fn actors_are_banned_however_many_were_before_them() {
        let bench = Bench::new();
        let mut proposals = 0;
        for burst in 0..6u32 {
            for payload in 0..3 {
                for n in 0..6_000 {
                    let client = std::net::Ipv4Addr::from(0x0a00_0000 + burst * 6_000 + n).to_string();
                    let now_ms = 1_000 + u64::from(burst) * 10_000 + payload;
                    let outcome = bench.hit(&client, HIGH, payload, Provenance::Own, now_ms).unwrap();
                    proposals += u32::from(outcome.proposal.is_some());
                }
            }
        }
        // Eight who strike at once may meet a ninth in their bucket; none is lost to those who are banned already.
        assert!(proposals >= 6 * 6_000 - 10, "{proposals}");
    }

    #[test]
    fn what_a_table_remembers_counts_in_another_and_once() {
        let (old, mut new) = (Bench::new(), Bench::new());
        old.attack(1, 1_000);
        old.attack(2, 1_000);
        new.attack(2, 1_500);
        for one in old.table.remembered() {
            new.table.remember(one.clone());
            new.table.remember(one);
        }
        let first = new.attack(3, 2_000).unwrap().proposal.unwrap().for_ms;
        let all = std::mem::replace(&mut new, Bench::new()).table.remembered();
        all.into_iter().for_each(|one| new.table.remember(one));
        let again: Vec<_> = (4..7).map(|n| new.attack(n, 2_000 + first)).collect();
        let again = again.into_iter().flatten().find_map(|outcome| outcome.proposal).unwrap();
        assert_eq!(again.for_ms, first * 2, "earlier bans are remembered, too");
    }

    #[test]
    fn the_table_stays_within_its_bound() {
        let bench = Bench::new();
        for n in 0..100_000u32 {
            let client = std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string();
            bench.hit(&client, HIGH, 1, Provenance::Own, 1_000);
        }
        assert!(bench.table.actors_len() <= STRIKE_ACTORS_MAX);
    }
}
