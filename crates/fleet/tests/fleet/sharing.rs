//! What one node decides, all enforce; what is undone anywhere is undone everywhere.

use std::sync::Arc;

use phalanx_fleet::{Change, FleetError};
use phalanx_model::{
    Actor, Author, AuthorRole, Clock, Decision, DecisionKind, Identities, SystemClock, View,
};

use crate::support::{NatsServer, NodePlan, address, gathered, order, until};

fn found(view: &View, now_ms: u64) -> Option<Arc<Decision>> {
    view.lookup(&Identities::of(address("192.0.2.1")), now_ms).and_then(|found| found.decision())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_is_enforced_everywhere_and_ends_everywhere_at_its_expiry() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("syd", "a", &server).start().await;
    let b = NodePlan::on("fra", "b", &server).start().await;
    let c = NodePlan::on("iad", "c", &server).start().await;
    gathered(&[&a, &b, &c]).await;
    let mut changes = c.fleet.changes();
    let decision = a.ban("192.0.2.1", 2_000);
    for node in [&b, &c] {
        until("the ban is everywhere", || node.refuses("192.0.2.1")).await;
    }
    assert_eq!(changes.recv().await.unwrap(), Change::Decided(Arc::clone(&decision)));
    assert_eq!(c.fleet.find(decision.id), Some(Arc::clone(&decision)));
    for node in [&a, &b, &c] {
        until("the ban ends", || !node.refuses("192.0.2.1")).await;
        assert!(SystemClock.now_ms() >= decision.expires_at_ms, "ended early on {}", node.name);
        let view = node.fleet.view().load_full();
        assert!(
            found(&view, decision.expires_at_ms - 1) == Some(Arc::clone(&decision)) || view.keys_len() <= 1
        );
        assert_eq!(found(&view, decision.expires_at_ms), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_survive_a_restart_of_a_node_and_of_the_server() {
    let Some(mut server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("fra", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    a.ban("192.0.2.1", 600_000);
    until("b has the ban", || b.refuses("192.0.2.1")).await;
    let b = b.restart().await;
    assert!(b.refuses("192.0.2.1"), "in force the moment the node is up");
    let a = a.restart().await;
    assert!(a.refuses("192.0.2.1"));
    server.down();
    for node in [&a, &b] {
        until("the loss is noticed", || !node.fleet.status().connected).await;
        assert!(node.refuses("192.0.2.1"));
        assert!(node.fleet.status().degraded.join("").contains("cannot be reached"));
    }
    server.up().await;
    gathered(&[&a, &b]).await;
    let fresh = NodePlan::on("fra", "fresh", &server).start().await;
    until("a newcomer learns it from the stream", || fresh.refuses("192.0.2.1")).await;
    assert!(a.refuses("192.0.2.1") && b.refuses("192.0.2.1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_learns_what_absent_nodes_decided_in_sites_made_later() {
    let Some(server) = NatsServer::start().await else { return };
    let early = NodePlan::on("fra", "early", &server).start().await;
    gathered(&[&early]).await;
    let late = NodePlan::on("syd", "late", &server).start().await;
    gathered(&[&early, &late]).await;
    for n in 1..=50 {
        late.ban(&format!("192.0.2.{n}"), 600_000);
    }
    until("all are confirmed", || late.fleet.status().queue == 0).await;
    until("the core path crossed the sites", || early.fleet.status().decisions == 50).await;
    late.stop().await;
    let newcomer = NodePlan::on("iad", "newcomer", &server).start().await;
    until("a newcomer has all fifty", || newcomer.fleet.status().decisions == 50).await;
    let names: Vec<String> = newcomer.fleet.members().iter().map(|member| member.node.to_string()).collect();
    assert!(names.contains(&"late".to_owned()), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_on_any_node_reaches_all_and_is_not_resurrected_by_the_author() {
    let Some(mut server) = NatsServer::start().await else { return };
    let a = NodePlan::on("syd", "a", &server).start().await;
    let b = NodePlan::on("fra", "b", &server).start().await;
    let c = NodePlan::on("iad", "c", &server).start().await;
    gathered(&[&a, &b, &c]).await;
    let decision = a.ban("192.0.2.1", 600_000);
    until("c has the ban", || c.refuses("192.0.2.1")).await;
    // The author goes away with its copy of the ban.
    let (a_state, a_plan) = a.stop().await;
    let withdrawal = c.fleet.delete(decision.id, "false alarm").unwrap();
    assert_eq!(withdrawal.author.role, AuthorRole::Operator);
    until("b undoes it", || !b.refuses("192.0.2.1")).await;
    until("the undo is confirmed", || c.fleet.status().queue == 0).await;
    let a = a_plan.start_in(a_state).await;
    gathered(&[&a, &b, &c]).await;
    until("the author undoes it", || !a.refuses("192.0.2.1")).await;
    // Even a stream that lost everything, so that every author sends its records again, resurrects nothing.
    server.down();
    for node in [&a, &b, &c] {
        until("the loss is noticed", || !node.fleet.status().connected).await;
    }
    server.wipe();
    server.up().await;
    gathered(&[&a, &b, &c]).await;
    let fresh = NodePlan::on("iad", "fresh", &server).start().await;
    gathered(&[&a, &b, &c, &fresh]).await;
    for node in [&a, &b, &c, &fresh] {
        assert!(!node.refuses("192.0.2.1"), "resurrected on {}", node.name);
    }
    a.ban("192.0.2.1", 600_000);
    for node in [&b, &c, &fresh] {
        until("a new ban of the same actor holds", || node.refuses("192.0.2.1")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recall_ends_an_absent_authors_bans_everywhere_and_what_it_brings_back_later() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("syd", "a", &server).start().await;
    let b = NodePlan { control: false, ..NodePlan::on("fra", "b", &server) }.start().await;
    let c = NodePlan::on("iad", "c", &server).start().await;
    gathered(&[&a, &b, &c]).await;
    for last in 1..=20 {
        a.ban(&format!("192.0.2.{last}"), 600_000);
    }
    b.ban("198.51.100.1", 600_000);
    until("c has them all", || c.fleet.status().decisions == 21).await;
    let (a_state, a_plan) = a.stop().await;
    let target = Author { site: "syd".into(), node: "a".into(), role: AuthorRole::Node };
    assert!(matches!(b.fleet.recall(target.clone(), "not an operator"), Err(FleetError::NotOperator)));
    c.fleet.recall(target, "broken into").unwrap();
    until("b ends them", || b.fleet.status().decisions == 1).await;
    until("the order is confirmed", || c.fleet.status().queue == 0).await;
    let a = a_plan.start_in(a_state).await;
    gathered(&[&a, &b, &c]).await;
    until("the author ends them", || a.fleet.status().decisions == 1).await;
    let fresh = NodePlan::on("fra", "fresh", &server).start().await;
    gathered(&[&a, &b, &c, &fresh]).await;
    a.ban("192.0.2.1", 600_000);
    for node in [&a, &b, &c, &fresh] {
        until("what came later holds", || node.refuses("192.0.2.1")).await;
        assert!(node.refuses("198.51.100.1") && !node.refuses("192.0.2.2"), "{}", node.name);
        assert_eq!(node.fleet.recalls().len(), 1, "{}", node.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_allow_on_one_node_frees_the_actor_on_all() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("syd", "a", &server).start().await;
    let b = NodePlan { control: false, ..NodePlan::on("fra", "b", &server) }.start().await;
    gathered(&[&a, &b]).await;
    b.ban("2001:db8:1:2::9", 600_000);
    until("a has the ban of the /64", || a.refuses("2001:db8:1:2:ffff::1")).await;
    a.fleet.add(order(Actor::ip(address("2001:db8:1:2::9")), DecisionKind::Allow, 600_000)).unwrap();
    until("b lets it through", || !b.refuses("2001:db8:1:2::9")).await;
}
