//! Cases of what is held, and of what is not.

use super::*;
use phalanx_model::DecisionId;
use std::net::Ipv4Addr;

/// Clients 0, 1, 2 and so on, all served well.
fn measuring(clients: u32) -> Holding {
    let mut holding = Holding::default();
    let good: GoodClients = (0..clients).map(host).collect();
    holding.measure_by(HoldLimits::default(), Arc::new(good));
    holding
}

fn host(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(n << 8).into()
}

fn author(node: &str, role: AuthorRole) -> Author {
    Author { site: "fra".into(), node: node.into(), role }
}

fn ban(node: &str, actor: Actor, version: u64) -> Arc<Decision> {
    Arc::new(Decision {
        id: DecisionId::from_parts(1, 1, 7),
        actor,
        kind: DecisionKind::Ban,
        author: author(node, AuthorRole::Node),
        reason: "test".into(),
        evidence: None,
        confidence_percent: 100,
        created_at_ms: 0,
        expires_at_ms: 1_000,
        version,
    })
}

/// How many of so many bans come into force.
fn in_force(holding: &mut Holding, node: &str, clients: std::ops::Range<u32>) -> usize {
    clients.filter(|n| holding.judge(&ban(node, Actor::ip(host(*n)), 1), 1).is_none()).count()
}

#[test]
fn what_one_author_refuses_is_judged_together_and_others_have_a_share_of_their_own() {
    let mut holding = measuring(400);
    assert_eq!(in_force(&mut holding, "stolen", 0..400), 20);
    assert_eq!(holding.len(), 380);
    assert_eq!(holding.sentences().len(), 1);
    assert!(
        holding.sentences()[0].contains("would refuse 400 of 400 clients served well"),
        "{:?}",
        holding.sentences()
    );
    assert_eq!(in_force(&mut holding, "honest", 0..5), 5);
    // Who is not served well here is refused at once.
    assert_eq!(in_force(&mut holding, "stolen", 1_000..3_000), 2_000);
}

#[test]
fn a_quiet_site_and_one_that_measures_nothing_hold_nothing_up_to_nine() {
    assert_eq!(in_force(&mut measuring(12), "a", 0..12), 9);
    assert_eq!(in_force(&mut Holding::default(), "a", 0..500), 500);
}

#[test]
fn kinds_of_clients_count_as_their_address_and_wider_orders_are_not_a_nodes() {
    let mut holding = measuring(12);
    for n in 0..40 {
        // One address, however many kinds of clients are named there, and however ids are reused.
        assert!(holding.judge(&ban("a", Actor::client(host(0), n), 1), 1).is_none());
    }
    assert_eq!(in_force(&mut holding, "a", 0..12), 9);
    assert!(holding.judge(&ban("a", Actor::prefix("0.0.0.0/8".parse().unwrap()), 1), 1).is_none());
}

#[test]
fn what_is_taken_back_makes_room_only_when_nothing_else_refuses_that_client() {
    let mut holding = measuring(12);
    assert_eq!(in_force(&mut holding, "a", 0..9), 9);
    let narrow = ban("a", Actor::client(host(0), 1), 2);
    assert!(holding.judge(&narrow, 1).is_none());
    holding.forget(&[Change::Decided(narrow)]);
    assert!(holding.judge(&ban("a", Actor::ip(host(9)), 1), 1).is_some(), "its address is still refused");
    holding.forget(&[Change::Decided(ban("a", Actor::ip(host(0)), 1))]);
    assert!(holding.judge(&ban("a", Actor::ip(host(10)), 1), 1).is_none());
}

#[test]
fn clients_that_are_refused_count_though_nobody_serves_them_any_more() {
    let mut holding = measuring(400);
    assert_eq!(in_force(&mut holding, "a", 0..400), 20);
    let rest: GoodClients = (20..400).map(host).collect();
    holding.measure_by(HoldLimits::default(), Arc::new(rest));
    assert_eq!(in_force(&mut holding, "a", 20..400), 0, "no new share for each ten minutes");
}

#[test]
fn an_operators_order_about_the_same_actor_releases_what_is_held() {
    let mut holding = measuring(12);
    in_force(&mut holding, "a", 0..12);
    let order =
        |actor| Decision { author: author("c", AuthorRole::Operator), ..(*ban("c", actor, 9)).clone() };
    assert_eq!(holding.release(&order(Actor::client(host(11), 1))).len(), 0, "narrower than what is held");
    assert_eq!(holding.release(&order(Actor::ip(host(11)))).len(), 1);
    assert_eq!((holding.len(), holding.release(&order(Actor::ip(host(11)))).len()), (2, 0));
}

#[test]
fn the_ledger_is_told_at_first_and_whenever_it_has_doubled() {
    let mut holding = measuring(1_000);
    let told = (0..1_000).filter(|n| {
        let held = holding.judge(&ban("a", Actor::ip(host(*n)), 1), 1).is_some();
        held && holding.tells(&author("a", AuthorRole::Node)).is_some()
    });
    assert_eq!(told.count(), 10);
}
