//! The view against a plain list of decisions, and its cases.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::{Actor, Author, Country, Ja4, Prefix};

fn decision(actor: Actor, kind: DecisionKind, role: AuthorRole, expires_at_ms: u64) -> Arc<Decision> {
    Arc::new(Decision {
        id: DecisionId::from_parts(1, 1, expires_at_ms),
        actor,
        kind,
        author: Author { site: "fra".into(), node: "a".into(), role },
        reason: "test".into(),
        evidence: None,
        confidence_percent: 100,
        created_at_ms: 0,
        expires_at_ms,
        version: 1,
    })
}

fn ban(text: &str, expires_at_ms: u64) -> Arc<Decision> {
    let actor = match text.parse::<Prefix>() {
        Ok(prefix) => Actor::prefix(prefix),
        Err(_) => Actor::ip(text.parse().unwrap()),
    };
    decision(actor, DecisionKind::Ban, AuthorRole::Node, expires_at_ms)
}

fn ip(text: &str) -> Identities {
    Identities::of(text.parse().unwrap())
}

fn country(text: &str) -> Country {
    text.parse().unwrap()
}

fn ja4(number: u8) -> Ja4 {
    format!("t13d1516h2_8daaf6152771_02713d6af8{number:02x}").parse().unwrap()
}

/// A few of everything, so that look-ups meet.
fn any_actor() -> impl Strategy<Value = Actor> {
    let v4 =
        any::<[bool; 3]>().prop_map(|[a, b, c]| IpAddr::from([192, u8::from(a), u8::from(b), u8::from(c)]));
    let v6 = (0u16..2, 0u16..2).prop_map(|(net, host)| IpAddr::from([0x2001, 0xdb8, 0, net, 0, 0, 0, host]));
    let address = prop_oneof![v4, v6].boxed();
    prop_oneof![
        4 => address.clone().prop_map(Actor::ip),
        2 => (address.clone(), 0u64..3).prop_map(|(ip, agent)| Actor::client(ip, agent)),
        4 => (address, 0u8..=128).prop_map(|(ip, bits)| {
            Actor::prefix(Prefix::new(ip, if ip.is_ipv4() { bits % 33 } else { bits }).unwrap())
        }),
        1 => (1u32..3).prop_map(Actor::Asn),
        1 => prop_oneof![Just("NL"), Just("DE")].prop_map(|text| Actor::Country(country(text))),
        1 => (0u8..2).prop_map(|number| Actor::Ja4(ja4(number))),
        1 => (0u64..2).prop_map(Actor::Session),
        1 => (0u64..2).prop_map(Actor::Account),
        1 => (0u64..2).prop_map(Actor::Software),
        1 => (0u64..2).prop_map(Actor::Route),
        1 => (0u64..2).prop_map(Actor::App),
        1 => (0u64..2).prop_map(Actor::Rules),
    ]
}

fn any_decision() -> impl Strategy<Value = Arc<Decision>> {
    let kind = prop_oneof![
        Just(DecisionKind::Throttle),
        Just(DecisionKind::Challenge),
        Just(DecisionKind::Ban),
        Just(DecisionKind::Allow)
    ];
    let role = prop_oneof![Just(AuthorRole::Node), Just(AuthorRole::Operator)];
    let times = (any::<u64>(), 0u64..20, any::<u64>(), any::<u64>());
    let rest = (any::<u8>(), any::<bool>(), "[a-c]{0,2}", "[ab]");
    (any_actor(), kind, role, times, rest).prop_map(
        |(actor, kind, role, (id, expires_at_ms, created, version), rest)| {
            let (confidence_percent, has_evidence, reason, node) = rest;
            // See the invariant of `DecisionKind`.
            let kind = if matches!(actor, Actor::Rules(_)) { DecisionKind::RaiseParanoia } else { kind };
            Arc::new(Decision {
                id: DecisionId::from_parts(id >> 20, 1, id),
                actor,
                kind,
                author: Author { site: "fra".into(), node: node.into(), role },
                reason,
                evidence: has_evidence.then(|| DecisionId::from_parts(created, 1, id)),
                confidence_percent,
                created_at_ms: created,
                expires_at_ms,
                version,
            })
        },
    )
}

fn any_identities() -> impl Strategy<Value = Identities> {
    let others = (
        proptest::option::of(1u32..3),
        proptest::option::of(prop_oneof![Just("NL"), Just("DE")]),
        proptest::option::of(0u8..2),
        proptest::option::of(0u64..2),
        proptest::option::of(0u64..2),
    );
    (any_actor(), proptest::option::of(0u64..3), others).prop_map(
        |(actor, agent, (asn, land, tls, session, account))| {
            let ip = actor.range().map_or_else(|| [192, 0, 0, 0].into(), |range| range.addr());
            Identities { ip, agent, asn, country: land.map(country), ja4: tls.map(ja4), session, account }
        },
    )
}

/// What the view must answer, by looking at everything.
fn naive<'a>(
    decisions: impl IntoIterator<Item = &'a Arc<Decision>>,
    who: &Identities,
    now_ms: u64,
) -> Option<&'a Arc<Decision>> {
    let about = |actor: &Actor| match actor {
        Actor::Asn(asn) => who.asn == Some(*asn),
        Actor::Country(country) => who.country == Some(*country),
        Actor::Ja4(ja4) => who.ja4 == Some(*ja4),
        Actor::Session(hash) => who.session == Some(*hash),
        Actor::Account(hash) => who.account == Some(*hash),
        // These say nothing of who somebody is: a look-up is the same with and without them.
        Actor::Software(_) | Actor::Route(_) | Actor::App(_) | Actor::Rules(_) => false,
        Actor::Client { agent, .. } if who.agent != Some(*agent) => false,
        Actor::Ip(_) | Actor::Client { .. } | Actor::Prefix(_) => actor.range().unwrap().contains(&who.ip),
    };
    let live = decisions.into_iter().filter(|decision| decision.is_live(now_ms) && about(&decision.actor));
    live.max_by_key(|decision| Found::Shared(decision).rank())
}

#[derive(Debug, Clone)]
enum Step {
    /// One key has other decisions from here on: those of the list that have it.
    Change(Vec<Arc<Decision>>),
    /// Somebody starts to pack the view as it is.
    Snapshot,
    /// What was packed comes into force.
    Rebase,
    /// The node starts again from its packed file.
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    let decisions = proptest::collection::vec(any_decision(), 1..4);
    prop_oneof![
        6 => decisions.prop_map(Step::Change),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Rebase),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn a_lookup_is_what_a_plain_list_answers_whatever_is_packed_when(
        first in proptest::collection::vec(any_decision(), 0..30),
        steps in proptest::collection::vec(any_step(), 0..30),
        requests in proptest::collection::vec((any_identities(), 0u64..20), 1..30),
    ) {
        let mut list = first.clone();
        let mut view = View::from_decisions(first);
        let mut before = None;
        for step in steps {
            match step {
                Step::Change(decisions) => {
                    let key = decisions[0].actor.key();
                    // All but the last: an order may end all that is said about a key.
                    let about: Vec<_> =
                        decisions.iter().skip(1).filter(|d| d.actor.key() == key).cloned().collect();
                    list.retain(|decision| decision.actor.key() != key);
                    list.extend(about.iter().cloned());
                    view = view.with_key(key, about);
                    let only = decisions[0].clone();
                    if decisions.len() == 3 {
                        list.retain(|decision| decision.actor.key() != key);
                        list.push(only.clone());
                        view = view.with_key(key, vec![only]);
                    }
                }
                Step::Snapshot => before = Some(view.clone()),
                Step::Rebase => {
                    if let Some(before) = before.take() {
                        view = view.rebased(&View::on(Arc::new(before.pack().unwrap())), &before);
                    }
                }
                Step::Restart => {
                    let mut file = Vec::new();
                    view.pack().unwrap().write_to(&mut file).unwrap();
                    view = View::on(Arc::new(Base::read_from(&mut file.as_slice()).unwrap()));
                    before = None;
                }
            }
        }
        for (who, now_ms) in requests {
            let found = view.lookup(&who, now_ms).map(|found| found.decision().unwrap());
            prop_assert_eq!(found.as_ref(), naive(&list, &who, now_ms), "{:?}", who);
        }
        let in_order = |mut decisions: Vec<Arc<Decision>>| {
            decisions.sort_by_key(|decision| format!("{decision:?}"));
            decisions
        };
        let live = in_order(view.live(10).collect());
        prop_assert_eq!(&live, &in_order(list.into_iter().filter(|decision| decision.is_live(10)).collect()));
        prop_assert_eq!(view.live_len(10), live.len());
        let newest = view.newest(10, None, 3);
        prop_assert_eq!(newest.len(), live.len().min(3));
        let ages = |decisions: &[Arc<Decision>]| {
            let mut ages: Vec<_> = decisions.iter().map(|one| (one.created_at_ms, one.id)).collect();
            ages.sort_by_key(|age| std::cmp::Reverse(*age));
            ages
        };
        prop_assert_eq!(ages(&newest), &ages(&live)[..newest.len()]);
        // A cursor counts by when its id was made.
        let cursor = DecisionId::from_parts(3, 1, 0);
        let older = ages(&live).into_iter().filter(|age| *age < (3, cursor)).take(2).collect::<Vec<_>>();
        prop_assert_eq!(ages(&view.newest(10, Some(cursor), 2)), older);
    }

    #[test]
    fn any_bytes_are_a_base_or_an_error(
        decisions in proptest::collection::vec(any_decision(), 0..10),
        cut in any::<prop::sample::Index>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut file = Vec::new();
        View::from_decisions(decisions).pack().unwrap().write_to(&mut file).unwrap();
        let short = &file[..cut.index(file.len())];
        prop_assert!(Base::read_from(&mut &*short).is_err());
        for (at, with) in flips {
            let at = at.index(file.len());
            file[at] ^= with;
        }
        if let Ok(base) = Base::read_from(&mut file.as_slice()) {
            let view = View::on(Arc::new(base));
            let _ = (view.live(0).count(), view.lookup(&ip("192.0.0.1"), 0).is_some(), view.pack().is_some());
        }
    }
}

#[test]
fn addresses_and_prefixes_are_found() {
    let view =
        View::from_decisions([ban("192.0.2.1", 10), ban("2001:db8::/32", 10), ban("198.51.100.0/24", 10)]);
    assert!(view.lookup(&ip("192.0.2.1"), 0).is_some());
    assert!(view.lookup(&ip("::ffff:192.0.2.1"), 0).is_some());
    assert!(view.lookup(&ip("192.0.2.2"), 0).is_none());
    assert!(view.lookup(&ip("2001:db8:9::1"), 0).is_some());
    assert!(view.lookup(&ip("198.51.100.200"), 0).is_some());
}

#[test]
fn ipv6_neighbours_share_a_fate() {
    let view = View::from_decisions([ban("2001:db8:1:2::9", 10)]);
    assert!(view.lookup(&ip("2001:db8:1:2:ffff::1"), 0).is_some());
    assert!(view.lookup(&ip("2001:db8:1:3::9"), 0).is_none());
}

#[test]
fn a_narrow_decision_spares_the_neighbours_behind_the_same_address() {
    let actor = Actor::client([192, 0, 2, 1].into(), 7);
    let view = View::from_decisions([decision(actor, DecisionKind::Ban, AuthorRole::Node, 10)]);
    let client = |agent| Identities { agent: Some(agent), ..ip("192.0.2.1") };
    assert!(view.lookup(&client(7), 0).is_some());
    assert!(view.lookup(&client(8), 0).is_none());
    assert!(view.lookup(&ip("192.0.2.1"), 0).is_none());
}

#[test]
fn what_is_not_known_of_a_client_matches_nothing() {
    let actors = [
        Actor::Asn(64_500),
        Actor::Country(country("NL")),
        Actor::Ja4(ja4(1)),
        Actor::Session(0),
        Actor::Account(0),
    ];
    for actor in actors {
        let view =
            View::from_decisions([decision(actor.clone(), DecisionKind::Ban, AuthorRole::Operator, 10)]);
        assert!(view.lookup(&ip("192.0.2.1"), 0).is_none(), "{actor}");
        let known = Identities {
            asn: Some(64_500),
            country: Some(country("nl")),
            ja4: Some(ja4(1)),
            session: Some(0),
            account: Some(0),
            ..ip("192.0.2.1")
        };
        assert_eq!(view.lookup(&known, 0).unwrap().decision().unwrap().actor, actor);
    }
}

#[test]
fn what_is_about_many_is_found_by_what_it_is_about_and_by_nothing_else() {
    let order = |actor, kind, until| decision(actor, kind, AuthorRole::Operator, until);
    let fleets = [
        order(Actor::Software(1), DecisionKind::Challenge, 10),
        order(Actor::Route(1), DecisionKind::Throttle, 10),
        order(Actor::App(2), DecisionKind::Ban, 10),
    ];
    assert!(!View::from_decisions([ban("192.0.2.1", 10)]).has_wide());
    for view in [
        View::from_decisions(fleets.clone()),
        View::default().with_keys(fleets.iter().map(|one| (one.actor.key(), vec![Arc::clone(one)]))),
    ] {
        assert!(view.has_wide());
        let of = |view: &View, keys: &[ActorKey], now_ms| {
            view.about_any(keys, now_ms).map(|found| (found.kind(), found.decision().unwrap().actor.key()))
        };
        let [software, route, app] = [ActorKey::Software(1), ActorKey::Route(1), ActorKey::App(1)];
        assert_eq!(of(&view, &[app, route, software], 0), Some((DecisionKind::Challenge, software)));
        assert_eq!(of(&view, &[app, route], 0), Some((DecisionKind::Throttle, route)));
        assert_eq!(of(&view, &[app, route, software], 10), None, "expired");
        assert_eq!(of(&view, &[app], 0), None);
        // What the node ordered itself is beside it, through all that happens to the rest.
        let own = order(Actor::Route(1), DecisionKind::Ban, 5);
        let view = view.with_here([Arc::clone(&own)].into()).with_key(software, Vec::new());
        let view = view.rebased(&View::on(Arc::new(view.pack().unwrap())), &view);
        assert_eq!(of(&view, &[app, route, software], 0), Some((DecisionKind::Ban, route)));
        assert_eq!(of(&view, &[app, route, software], 5), Some((DecisionKind::Throttle, route)));
        assert!(view.find(own.id, 0).is_some() && view.find(own.id, 5).is_none());
        assert!(view.live(0).any(|one| one == own) && view.has_wide());
        assert!(!View::default().with_here([own].into()).with_here([].into()).has_wide());
    }
}

#[test]
fn an_order_about_an_apps_rules_is_found_in_each_form_and_by_nothing_else() {
    let order = |actor, kind| decision(actor, kind, AuthorRole::Operator, 10);
    let raise = order(Actor::Rules(1), DecisionKind::RaiseParanoia);
    let ban = order(Actor::App(1), DecisionKind::Ban);
    let app = [ActorKey::App(1)];
    for view in [
        View::from_decisions([Arc::clone(&raise), Arc::clone(&ban)]),
        View::default().with_key(ActorKey::Rules(1), vec![Arc::clone(&raise)]),
        View::default().with_here([Arc::clone(&raise)].into()),
    ] {
        let found = view.raises(1, 9).unwrap();
        assert_eq!((found.kind(), found.expires_at_ms()), (DecisionKind::RaiseParanoia, 10));
        assert_eq!(found.decision().unwrap(), raise);
        assert!(view.raises(1, 10).is_none() && view.raises(2, 9).is_none());
        let beside = view.about_any(&app, 9).map(|found| found.kind());
        assert!(matches!(beside, None | Some(DecisionKind::Ban)), "{beside:?}");
        // It stays what it is when a base is packed and read again.
        let again = View::on(Arc::new(view.pack().unwrap()));
        assert_eq!(again.raises(1, 9).and_then(|found| found.decision()).is_some(), view.here().is_empty());
    }
    assert!(View::from_decisions([ban]).raises(1, 0).is_none());
}

#[test]
fn an_expired_decision_is_never_found() {
    let view = View::from_decisions([ban("192.0.2.1", 10)]);
    assert!(view.lookup(&ip("192.0.2.1"), 9).is_some());
    assert!(view.lookup(&ip("192.0.2.1"), 10).is_none());
}

#[test]
fn an_operators_allow_beats_a_ban() {
    let allow = decision(Actor::ip([192, 0, 2, 1].into()), DecisionKind::Allow, AuthorRole::Operator, 10);
    let view = View::from_decisions([ban("192.0.2.0/24", 10), allow]);
    assert_eq!(view.lookup(&ip("192.0.2.1"), 0).unwrap().kind(), DecisionKind::Allow);
}

#[test]
fn a_stream_of_another_schema_or_kind_is_told_apart() {
    let mut file = Vec::new();
    View::from_decisions([ban("192.0.2.1", 10)]).pack().unwrap().write_to(&mut file).unwrap();
    let read = |bytes: &[u8]| Base::read_from(&mut &*bytes).unwrap_err();
    let mut newer = file.clone();
    newer[8] = 2;
    assert!(matches!(read(&newer), PackedError::Schema(2)));
    assert!(matches!(read(b"redb and more than that"), PackedError::Foreign));
    assert!(matches!(read(&file[..file.len() - 1]), PackedError::Damaged));
    file.push(0);
    assert!(matches!(read(&file), PackedError::Damaged));
}

#[test]
fn what_nothing_refers_to_any_more_is_not_packed_again() {
    let mut view = View::from_decisions([ban("192.0.2.1", 10)]);
    for n in 0..50u8 {
        let one = Arc::new(Decision { reason: format!("reason {n}"), ..(*ban("192.0.2.2", 10)).clone() });
        let before = view.with_key(one.actor.key(), vec![one]);
        view = before.rebased(&View::on(Arc::new(before.pack().unwrap())), &before);
    }
    assert_eq!((view.changes_len(), view.base().reasons.ends.len(), view.keys_len()), (0, 2, 2));
}

#[test]
fn what_is_said_about_one_key_is_listed_together() {
    let actors = |n: u8| {
        let ip = IpAddr::from([192, 0, 2, n]);
        [Actor::ip(ip), Actor::client(ip, 1), Actor::prefix(Prefix::from(ip))]
    };
    let about =
        |n: u8, ends| actors(n).map(|actor| decision(actor, DecisionKind::Ban, AuthorRole::Node, ends));
    let view = View::from_decisions((0..50).flat_map(|n| about(n, 100)));
    let view = (40..60).fold(view, |view, n| {
        let key = Actor::ip(IpAddr::from([192, 0, 2, n])).key();
        view.with_key(key, about(n, 200).to_vec())
    });
    for view in [view.clone(), View::on(Arc::new(view.pack().unwrap()))] {
        let keys: Vec<_> = view.live(0).map(|decision| decision.actor.key()).collect();
        let groups: Vec<_> = keys.chunk_by(|one, other| one == other).map(|group| group.len()).collect();
        assert_eq!(groups, [3; 60]);
    }
}
