//! What would refuse too many clients served well waits for an operator: alone, and on real nats-servers.

use std::time::{Duration, Instant};

use phalanx_fleet::{FleetError, GoodPort, HeldKind, NewBlocklist, Settled, list_text};
use phalanx_model::{Actor, Author, AuthorRole, DecisionId, DecisionKind, GoodShare, HoldLimits, LedgerKind};

use crate::support::{NatsServer, Node, NodePlan, address, gathered, ip, order, until};

/// Has a node believe that it served these clients well.
async fn serves_well(node: &Node, clients: impl Iterator<Item = String>) {
    let good: phalanx_model::GoodClients = clients.map(|ip| address(&ip)).collect();
    let clients = Box::new(move |_now_ms| good.clone());
    let place = Box::new(|_ip| (Some(64_500), "NL".parse().ok()));
    node.fleet.measure_by(HoldLimits::default(), GoodPort { clients, place }).await;
}

/// `count` addresses, each in a /24 of its own.
fn clients(count: u32) -> impl Iterator<Item = String> + Clone {
    (0..count).map(|n| format!("10.{}.{}.1", n >> 8, n & 0xff))
}

fn refused(node: &Node, count: u32) -> usize {
    clients(count).filter(|ip| node.refuses(ip)).count()
}

fn held_sentence(node: &Node) -> String {
    node.fleet.status().degraded.into_iter().filter(|line| line.starts_with("held")).collect()
}

fn author(node: &Node, role: AuthorRole) -> Author {
    Author { site: "fra".into(), node: node.name.as_str().into(), role }
}

fn list(text: &str) -> NewBlocklist {
    NewBlocklist {
        name: "scanners".into(),
        kind: DecisionKind::Ban,
        for_ms: 600_000,
        reason: "known scanners".into(),
        prefixes: list_text::parse(text).unwrap(),
    }
}

async fn within_a_second(what: &str, condition: impl FnMut() -> bool) {
    let started = Instant::now();
    until(what, condition).await;
    assert!(started.elapsed() < Duration::from_secs(1), "{what} took {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_node_refuses_no_more_than_its_share_of_others_good_clients_and_their_status_says_so() {
    let Some(server) = NatsServer::start().await else { return };
    let mut stolen = NodePlan::on("fra", "stolen", &server).start().await;
    let mut b = NodePlan::on("fra", "b", &server).start().await;
    let c = NodePlan::on("ams", "c", &server).start().await;
    gathered(&[&stolen, &b, &c]).await;
    serves_well(&b, clients(3_000)).await;
    serves_well(&c, clients(100)).await;
    for ip in clients(3_000) {
        stolen.ban(&ip, 600_000);
        // Its own ledger is written meanwhile.
        while stolen.readers.ledger.try_recv().is_ok() {}
    }
    // It may say what it likes of who is no good client of anybody.
    stolen.ban("192.0.2.1", 600_000);
    let has_all =
        |node: &Node| node.refuses("192.0.2.1") && refused(node, 3_000) + node.fleet.status().held >= 3_000;
    until("everything has arrived", || has_all(&b) && has_all(&c)).await;
    assert_eq!((refused(&b, 3_000), b.fleet.status().held), (150, 2_850));
    // Nine of the first hundred, and all of the others, whom this node did not serve.
    assert_eq!((refused(&c, 3_000), c.fleet.status().held), (2_909, 91));
    assert_eq!((refused(&stolen, 3_000), stolen.fleet.status().held), (3_000, 0), "nobody is served there");
    let held_by_b =
        |node: &Node| node.fleet.members().iter().any(|member| &*member.node == "b" && member.held == 2_850);
    until("others hear how much is held there", || held_by_b(&c)).await;
    let said = held_sentence(&b);
    let expected = "2850 decisions of fra/stolen: with what it ordered before, it would refuse 3000 of 3000 clients served well";
    assert!(said.contains(expected), "{said}");
    let (waiting, total) = b.fleet.held();
    assert_eq!((waiting.len(), total), (1_000, 2_850));
    let mut told = Vec::new();
    while let Ok(entry) = b.readers.ledger.try_recv() {
        if let LedgerKind::Held { author, share, .. } = entry.kind {
            assert_eq!(&*author.node, "stolen");
            told.push(share.clients);
        }
    }
    assert_eq!(told, [151, 152, 154, 158, 166, 182, 214, 278, 406, 662, 1_174, 2_198]);

    // An operator takes all of it back with one order; then nothing waits any more.
    c.fleet.recall(author(&stolen, AuthorRole::Node), "broken into").unwrap();
    within_a_second("it is undone", || refused(&b, 3_000) == 0 && b.fleet.status().held == 0).await;
    assert_eq!((held_sentence(&b), b.fleet.held().1), (String::new(), 0));
    for node in [stolen, b, c] {
        node.fleet.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approving_puts_what_is_held_into_force_everywhere_and_rejecting_ends_it_everywhere() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("fra", "b", &server).start().await;
    let c = NodePlan { control: false, ..NodePlan::on("ams", "c", &server) }.start().await;
    gathered(&[&a, &b, &c]).await;
    for node in [&b, &c] {
        serves_well(node, clients(12)).await;
    }
    for ip in clients(12) {
        a.ban(&ip, 600_000);
    }
    until("three are held", || b.fleet.status().held == 3 && c.fleet.status().held == 3).await;
    let held: Vec<String> = clients(12).filter(|ip| !b.refuses(ip)).collect();
    let find = |text: &str| {
        let about = |held: &phalanx_fleet::HeldOrder| matches!(&held.what, HeldKind::Decision(d) if d.actor == ip(text));
        b.fleet.held().0.into_iter().find(about).unwrap()
    };
    let [one, two, three] = [&held[0], &held[1], &held[2]];
    let first = find(one);
    assert_eq!(first.share, GoodShare { clients: 10, of: 12 });
    assert!(matches!(c.fleet.approve(first.id, "").await, Err(FleetError::NotOperator)));

    let Settled::Ordered(made) = b.fleet.approve(first.id, "").await.unwrap() else { panic!("no order") };
    assert_eq!(made.author.role, AuthorRole::Operator);
    assert!(made.reason.starts_with("approved: "), "{}", made.reason);
    assert!(b.refuses(one) && b.fleet.status().held == 2);
    within_a_second("approved everywhere", || c.refuses(one) && c.fleet.status().held == 2).await;

    b.fleet.reject(find(two).id, "our partner").await.unwrap();
    within_a_second("rejected everywhere", || !a.refuses(two) && c.fleet.status().held == 1).await;
    assert!(!b.refuses(two) && !c.refuses(two));

    // In force at its author, held elsewhere: an operator there may settle it too.
    let third = find(three).id;
    a.fleet.approve(third, "seen it").await.unwrap();
    within_a_second("approved everywhere", || b.refuses(three) && c.refuses(three)).await;
    assert_eq!((b.fleet.status().held, c.fleet.status().held), (0, 0));
    let nobody = DecisionId::from_parts(1, 1, 1);
    assert!(matches!(b.fleet.reject(nobody, "").await, Err(FleetError::NoSuchDecision(_))));
    for node in [a, b, c] {
        node.fleet.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_is_held_after_a_restart_and_until_its_author_takes_it_back() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("fra", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    serves_well(&b, clients(12)).await;
    for ip in clients(12) {
        a.ban(&ip, 600_000);
    }
    until("three are held", || b.fleet.status().held == 3).await;
    let before: Vec<DecisionId> = b.fleet.held().0.iter().map(|held| held.id).collect();
    // Nothing can be measured yet: what is held stays so all the same.
    let b = b.restart().await;
    assert_eq!((refused(&b, 12), b.fleet.held().1), (9, 3));
    assert_eq!(b.fleet.held().0.iter().map(|held| held.id).collect::<Vec<_>>(), before);
    until("it is with the others", || b.fleet.status().audited_at_ms.is_some()).await;
    assert_eq!((refused(&b, 12), b.fleet.held().1), (9, 3));
    for held in clients(12).filter(|ip| !b.refuses(ip)) {
        a.fleet.retract(ip(&held), "not this one").unwrap();
    }
    until("nothing is held", || b.fleet.status().held == 0).await;
    let b = b.restart().await;
    assert_eq!((refused(&b, 12), b.fleet.held().1), (9, 0));
    for node in [a, b] {
        node.fleet.shutdown().await;
    }
}

#[tokio::test]
async fn what_a_node_saw_itself_and_what_operators_order_is_never_held_but_measured() {
    let node = NodePlan::local("fra", "a").start().await;
    assert_eq!(node.fleet.would_refuse(&ip("10.0.0.1")).await, None, "nothing can be measured yet");
    serves_well(&node, clients(400)).await;
    let measured = |actor: Actor| {
        let fleet = node.fleet.clone();
        async move { fleet.would_refuse(&actor).await.unwrap() }
    };
    let all = GoodShare { clients: 400, of: 400 };
    assert_eq!(measured(Actor::prefix("10.0.0.0/8".parse().unwrap())).await, (all, true));
    assert_eq!(measured(Actor::Asn(64_500)).await, (all, true));
    assert_eq!(measured(Actor::Asn(64_501)).await, (GoodShare { clients: 0, of: 400 }, false));
    assert_eq!(measured(Actor::Country("NL".parse().unwrap())).await, (all, true));
    assert_eq!(measured(ip("10.0.0.1")).await, (GoodShare { clients: 1, of: 400 }, false));
    for ip in clients(400) {
        node.ban(&ip, 600_000);
    }
    assert_eq!((refused(&node, 400), node.fleet.status().held), (400, 0));
    node.fleet.add(order(Actor::prefix("10.0.0.0/8".parse().unwrap()), DecisionKind::Ban, 60_000)).unwrap();
    assert_eq!(node.fleet.status().held, 0);
}

#[tokio::test]
async fn what_another_system_orders_through_this_node_is_judged_as_others_are() {
    let node = NodePlan::local("fra", "a").start().await;
    serves_well(&node, clients(400)).await;
    for client in clients(400) {
        node.fleet.pass_on(order(ip(&client), DecisionKind::Ban, 60_000)).unwrap();
    }
    assert_eq!((refused(&node, 400), node.fleet.status().held), (20, 380));
    // Renewed, as sources are read again and again: neither judged nor counted anew.
    for client in clients(20) {
        node.fleet.pass_on(order(ip(&client), DecisionKind::Ban, 90_000)).unwrap();
    }
    assert_eq!((refused(&node, 400), node.fleet.status().held), (20, 380));
}

#[tokio::test]
async fn a_list_that_would_refuse_many_is_held_whole_and_its_version_before_stays() {
    let node = NodePlan::local("fra", "a").start().await;
    serves_well(&node, clients(100)).await;
    node.fleet.import_blocklist(list("192.0.2.0/24\n10.0.0.0/22")).await.unwrap();
    assert!(node.refuses("192.0.2.1") && node.refuses("10.0.3.1"), "it hits four of a hundred");
    node.fleet.import_blocklist(list("198.51.100.0/24\n10.0.0.0/8")).await.unwrap();
    let state = |node: &Node| {
        let fleet = node.fleet.clone();
        async move { fleet.blocklists().await.remove(0) }
    };
    assert_eq!(state(&node).await.held, Some(GoodShare { clients: 100, of: 100 }));
    assert!(node.refuses("192.0.2.1") && !node.refuses("198.51.100.1") && !node.refuses("10.0.9.1"));
    assert_eq!(held_sentence(&node).matches("blocklist scanners").count(), 1);

    let node = node.restart().await;
    assert!(
        node.refuses("192.0.2.1") && !node.refuses("198.51.100.1"),
        "as before, though nothing is measured"
    );
    let (waiting, _) = node.fleet.held();
    node.fleet.reject(waiting[0].id, "names half of our visitors").await.unwrap();
    let now = state(&node).await;
    assert_eq!((now.held, now.in_force.map(|list| list.version)), (None, Some(now.newest.version)));
    assert!(node.refuses("192.0.2.1") && !node.refuses("198.51.100.1") && node.fleet.held().1 == 0);

    serves_well(&node, clients(100)).await;
    node.fleet.import_blocklist(list("198.51.100.0/24\n10.0.0.0/8")).await.unwrap();
    let id = node.fleet.held().0[0].id;
    node.fleet.approve(id, "").await.unwrap();
    assert!(node.refuses("198.51.100.1") && node.refuses("10.0.9.1") && !node.refuses("192.0.2.1"));
    assert_eq!((node.fleet.held().1, held_sentence(&node)), (0, String::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_held_where_it_would_hit_and_one_order_settles_it_everywhere() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("ams", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    serves_well(&b, clients(100)).await;
    a.fleet.import_blocklist(list("192.0.2.0/24")).await.unwrap();
    until("the list is in force", || b.refuses("192.0.2.1")).await;
    a.fleet.import_blocklist(list("10.0.0.0/8")).await.unwrap();
    until("it is held", || b.fleet.status().held == 1).await;
    assert!(a.refuses("10.0.9.1") && !b.refuses("10.0.9.1") && b.refuses("192.0.2.1"));
    let id = b.fleet.held().0[0].id;
    b.fleet.reject(id, "no").await.unwrap();
    until("the version before is back", || a.refuses("192.0.2.1") && !a.refuses("10.0.9.1")).await;
    a.fleet.import_blocklist(list("10.0.0.0/8")).await.unwrap();
    until("it is held again", || b.fleet.status().held == 1).await;
    let held = b.fleet.held().0.remove(0);
    a.fleet.approve(held.id, "").await.unwrap();
    until("it is in force", || b.refuses("10.0.9.1") && b.fleet.status().held == 0).await;
    for node in [a, b] {
        node.fleet.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowded_range_is_proposed_on_all_nodes_and_an_operator_orders_or_rejects_it() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("ams", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    for n in 0..64 {
        a.ban(&format!("192.0.2.{n}"), 600_000);
        a.ban(&format!("198.51.100.{n}"), 600_000);
    }
    until("both are proposed", || b.fleet.held().1 == 2).await;
    let ranges = |node: &Node| -> Vec<(DecisionId, String)> {
        let range = |held: phalanx_fleet::HeldOrder| match held.what {
            HeldKind::Range(proposal, 64) => Some((held.id, proposal.range.to_string())),
            _ => None,
        };
        node.fleet.held().0.into_iter().filter_map(range).collect()
    };
    assert_eq!(ranges(&a), ranges(&b), "by one name everywhere");
    assert!(!a.refuses("192.0.2.200") && !b.refuses("192.0.2.200"), "nobody orders it by itself");
    let of = |text: &str| ranges(&b).into_iter().find(|(_, range)| range == text).unwrap().0;
    let Settled::Ordered(made) = b.fleet.approve(of("192.0.2.0/24"), "").await.unwrap() else { panic!() };
    assert!(made.expires_at_ms - made.created_at_ms <= 600_000, "no longer than the bans that it stands for");
    b.fleet.reject(of("198.51.100.0/24"), "a carrier").await.unwrap();
    within_a_second("the range is refused", || a.refuses("192.0.2.200") && a.fleet.held().1 == 0).await;
    assert!(!a.refuses("198.51.100.200") && a.refuses("198.51.100.7"), "the bans themselves stay");
    for node in [a, b] {
        node.fleet.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_of_a_node_that_is_dropped_is_not_taken_over_with_the_rest() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("fra", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    serves_well(&b, clients(12)).await;
    for ip in clients(12) {
        a.ban(&ip, 600_000);
    }
    until("three are held", || b.fleet.status().held == 3).await;
    a.fleet.shutdown().await;
    b.fleet.forget_node("fra", "a").unwrap();
    let operators = clients(12).filter(|client| {
        let about = b.fleet.about(&ip(client).key());
        about.iter().any(|decision| decision.author.role == AuthorRole::Operator)
    });
    assert_eq!((operators.count(), refused(&b, 12), b.fleet.status().held), (9, 9, 3));
    b.fleet.shutdown().await;
}
