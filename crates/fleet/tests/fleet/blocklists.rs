//! Blocklists: swapped whole, shared, remembered, ended; alone and on real nats-servers.

use std::sync::Arc;

use phalanx_fleet::{FleetError, NewBlocklist, list_text};
use phalanx_model::limits::BLOCKLISTS_MAX;
use phalanx_model::{Actor, Author, AuthorRole, Clock, DecisionKind, Identities, ManualClock, Reason};

use crate::support::{NatsServer, Node, NodePlan, address, gathered, order, until};

fn list(name: &str, text: &str, for_ms: u64) -> NewBlocklist {
    NewBlocklist {
        name: name.into(),
        kind: DecisionKind::Ban,
        for_ms,
        reason: "known scanners".into(),
        prefixes: list_text::parse(text).unwrap(),
    }
}

async fn import(node: &Node, name: &str, text: &str) {
    node.fleet.import_blocklist(list(name, text, 600_000)).await.unwrap();
}

#[tokio::test]
async fn a_list_is_in_force_when_import_returns_and_its_next_version_replaces_it_whole() {
    let node = NodePlan::local("fra", "a").start().await;
    import(&node, "scanners", "192.0.2.0/24\n2001:db8::/32").await;
    assert!(node.refuses("192.0.2.7") && node.refuses("2001:db8:9::1") && !node.refuses("198.51.100.1"));
    import(&node, "scanners", "198.51.100.0/24").await;
    assert!(!node.refuses("192.0.2.7") && node.refuses("198.51.100.1"));
    import(&node, "others", "203.0.113.9").await;
    assert!(node.refuses("203.0.113.9") && node.refuses("198.51.100.1"));
    node.fleet.remove_blocklist("scanners", "no longer kept").await.unwrap();
    assert!(!node.refuses("198.51.100.1") && node.refuses("203.0.113.9"));
    let again = node.fleet.remove_blocklist("scanners", "again").await.unwrap_err();
    assert!(matches!(&again, FleetError::NoSuchBlocklist(name) if name == "scanners"), "{again}");
    assert_eq!(node.fleet.status().degraded, Vec::<String>::new());
}

#[tokio::test]
async fn who_is_on_a_list_learns_of_list_version_and_author_and_an_allow_beats_it() {
    let node = NodePlan::local("fra", "a").start().await;
    import(&node, "scanners", "192.0.2.0/24").await;
    let made = node.fleet.blocklists().await[0].in_force.clone().unwrap();
    let view = node.fleet.view().load_full();
    let decision =
        view.lookup(&Identities::of(address("192.0.2.7")), made.created_at_ms).unwrap().decision().unwrap();
    let reason = Reason::Decision { decision: Arc::clone(&decision) };
    assert!(serde_json::to_string(&reason).unwrap().contains("on blocklist scanners, version"));
    assert_eq!((decision.id, &decision.author), (made.id, &made.author));
    assert_eq!(decision.actor, Actor::ip(address("192.0.2.7")));
    // What is said about the address itself explains more.
    let ban = node.ban("192.0.2.7", 60_000);
    let view = node.fleet.view().load_full();
    let who = Identities::of(address("192.0.2.7"));
    assert_eq!(view.lookup(&who, made.created_at_ms).unwrap().id(), ban.id);
    node.fleet.add(order(Actor::ip(address("192.0.2.7")), DecisionKind::Allow, 60_000)).unwrap();
    assert!(!node.refuses("192.0.2.7") && node.refuses("192.0.2.8"));
}

#[tokio::test]
async fn a_list_ends_in_its_time_and_is_remembered_until_then() {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let plan = NodePlan { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..NodePlan::local("fra", "a") };
    let node = plan.start().await;
    node.fleet.import_blocklist(list("short", "192.0.2.7", 10_000)).await.unwrap();
    node.fleet.import_blocklist(list("long", "192.0.2.8", 60_000)).await.unwrap();
    let node = node.restart().await;
    assert!(node.refuses("192.0.2.7") && node.refuses("192.0.2.8"));
    clock.advance(10_000);
    assert!(!node.refuses("192.0.2.7") && node.refuses("192.0.2.8"));
    let node = node.restart().await;
    assert!(!node.refuses("192.0.2.7") && node.refuses("192.0.2.8"));
    assert_eq!(node.fleet.blocklists().await.len(), 1);
}

#[tokio::test]
async fn a_recall_of_its_author_ends_a_list_and_a_restart_brings_it_not_back() {
    let node = NodePlan::local("fra", "a").start().await;
    import(&node, "scanners", "192.0.2.0/24").await;
    let author = Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Operator };
    node.fleet.recall(author, "stolen").unwrap();
    until("the list ends", || !node.refuses("192.0.2.7")).await;
    let node = node.restart().await;
    assert!(!node.refuses("192.0.2.7") && node.fleet.blocklists().await.is_empty());
    import(&node, "scanners", "192.0.2.0/24").await;
    assert!(node.refuses("192.0.2.7"), "a version after the recall counts");
}

#[tokio::test]
async fn what_may_not_be_imported_is_refused_with_the_reason() {
    let edge = NodePlan { control: false, ..NodePlan::local("fra", "b") }.start().await;
    let refused = edge.fleet.import_blocklist(list("x", "192.0.2.1", 1_000)).await;
    assert!(matches!(refused, Err(FleetError::NotOperator)));
    let node = NodePlan::local("fra", "a").start().await;
    let named =
        node.fleet.import_blocklist(list("no name", "192.0.2.1", 1_000)).await.unwrap_err().to_string();
    assert!(named.contains("1 to 63 of a-z"), "{named}");
    assert!(node.fleet.import_blocklist(list("long", "192.0.2.1", u64::MAX / 2)).await.is_err());
    for n in 0..BLOCKLISTS_MAX {
        import(&node, &format!("list{n}"), &format!("192.0.2.{n}")).await;
    }
    let full = node.fleet.import_blocklist(list("more", "192.0.2.99", 1_000)).await.unwrap_err().to_string();
    assert!(full.contains("remove one first"), "{full}");
    import(&node, "list3", "192.0.2.99").await;
    assert!(node.refuses("192.0.2.99") && node.refuses("192.0.2.15") && !node.refuses("192.0.2.3"));
}

#[tokio::test]
async fn a_list_may_be_imported_more_often_than_blobs_are_kept() {
    let node = NodePlan::local("fra", "a").start().await;
    for n in 0..phalanx_model::limits::FLEET_BLOBS_MAX + 20 {
        import(&node, "hourly", &format!("192.0.2.{n}")).await;
    }
    assert!(!node.refuses("192.0.2.1") && node.refuses("192.0.2.83"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_reaches_all_nodes_and_newcomers_and_outlives_the_server() {
    let Some(mut server) = NatsServer::start().await else { return };
    let a = NodePlan::on("syd", "a", &server).start().await;
    let b = NodePlan { control: false, ..NodePlan::on("fra", "b", &server) }.start().await;
    gathered(&[&a, &b]).await;
    import(&a, "scanners", "192.0.2.0/24").await;
    until("b enforces it", || b.refuses("192.0.2.7")).await;
    import(&a, "scanners", "198.51.100.0/24").await;
    until("b has the next version", || b.refuses("198.51.100.7") && !b.refuses("192.0.2.7")).await;
    let c = NodePlan::on("iad", "c", &server).start().await;
    until("a newcomer enforces it", || c.refuses("198.51.100.7")).await;
    server.down();
    let b = b.restart().await;
    assert!(b.refuses("198.51.100.7"), "from its own disk, the moment it is up");
    until("the loss is noticed", || !a.fleet.status().connected).await;
    let alone = a.fleet.import_blocklist(list("more", "203.0.113.9", 60_000)).await;
    assert!(matches!(alone, Err(FleetError::Unreachable(_))), "{alone:?}");
    server.up().await;
    gathered(&[&a, &b, &c]).await;
    // Another operator takes over: one name is one list.
    import(&c, "scanners", "203.0.113.0/24").await;
    for node in [&a, &b, &c] {
        until("the newest version", || node.refuses("203.0.113.9") && !node.refuses("198.51.100.7")).await;
    }
    a.fleet.remove_blocklist("scanners", "over").await.unwrap();
    for node in [&a, &b, &c] {
        until("it is over everywhere", || !node.refuses("203.0.113.9")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_next_version_cannot_be_had_the_last_one_stays() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("syd", "a", &server).start().await;
    let b = NodePlan::on("fra", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    import(&a, "scanners", "192.0.2.0/24").await;
    until("b enforces it", || b.refuses("192.0.2.7")).await;
    // The content vanishes from the server before b, which is away, has it.
    let (b_state, b_plan) = b.stop().await;
    import(&a, "scanners", "198.51.100.0/24").await;
    let newest = a.fleet.blocklists().await[0].newest.clone();
    let hash = phalanx_fleet::BlobHash::parse(&newest.content.as_ref().unwrap().hash).unwrap();
    until("the record is kept", || a.fleet.status().queue == 0).await;
    a.fleet.engine().blob_forget(hash).await.unwrap();
    let b = b_plan.start_in(b_state).await;
    until("b says so", || b.fleet.status().degraded.join("").contains("nobody has its content")).await;
    assert!(b.refuses("192.0.2.7") && !b.refuses("198.51.100.7"));
    let state = &b.fleet.blocklists().await[0];
    assert!(state.in_force.as_ref().unwrap().version < state.newest.version);
    import(&a, "scanners", "198.51.100.0/24").await;
    until("b has it", || b.refuses("198.51.100.7") && !b.refuses("192.0.2.7")).await;
    until("and says no more", || b.fleet.status().degraded.is_empty()).await;
}
