//! Servers and state that come and go: local decisions are never refused, and all converge afterwards.

use std::sync::Arc;

use phalanx_fleet::store::Store;
use phalanx_trust::Sealer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{NatsServer, NodePlan, gathered, ip, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_nodes_start_and_enforce_and_converge_when_it_comes() {
    let Some(mut server) = NatsServer::prepare() else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("fra", "b", &server).start().await;
    a.ban("192.0.2.1", 600_000);
    b.ban("192.0.2.2", 600_000);
    assert!(a.refuses("192.0.2.1") && b.refuses("192.0.2.2"));
    until("the ban is queued", || a.fleet.status().queue >= 1).await;
    let status = a.fleet.status();
    assert!(!status.connected && status.degraded.join("").contains("cannot be reached"), "{status:?}");
    // What is queued is on disk: it outlives a restart.
    let a = a.restart().await;
    assert!(a.refuses("192.0.2.1"));
    server.up().await;
    until("a learns of b's ban", || a.refuses("192.0.2.2")).await;
    until("b learns of a's ban", || b.refuses("192.0.2.1")).await;
    gathered(&[&a, &b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_down_bans_and_undos_are_queued_and_all_converge() {
    let Some(mut server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("syd", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    let decision = a.ban("192.0.2.1", 600_000);
    until("b has the ban", || b.refuses("192.0.2.1")).await;
    server.down();
    for node in [&a, &b] {
        until("the loss is noticed", || !node.fleet.status().connected).await;
    }
    b.fleet.delete(decision.id, "false alarm").unwrap();
    assert!(!b.refuses("192.0.2.1") && a.refuses("192.0.2.1"));
    for n in 10..60 {
        a.ban(&format!("192.0.2.{n}"), 600_000);
    }
    until("fifty are queued", || a.fleet.status().queue >= 50).await;
    server.up().await;
    until("the undo reaches a", || !a.refuses("192.0.2.1")).await;
    until("the bans reach b", || b.fleet.status().decisions == 50).await;
    gathered(&[&a, &b]).await;
    assert_eq!(a.fleet.status().decisions, 50);
}

/// On one thread nothing is sent between the two orders, so that the ban is over before the engine hears of it.
#[tokio::test]
async fn what_was_undone_before_it_was_sent_neither_waits_nor_is_kept() {
    let plan = NodePlan { nats: Some("nats://127.0.0.1:1".into()), ..NodePlan::local("fra", "a") };
    let a = plan.start().await;
    until("the announcement waits", || a.fleet.status().queue == 1).await;
    a.ban("192.0.2.1", 600_000);
    a.fleet.retract(ip("192.0.2.1"), "mistaken").unwrap();
    assert_eq!(a.fleet.status().queue, 3);
    until("the undo waits beside it, and nothing else", || a.fleet.status().queue == 2).await;
    let (state, _) = a.stop().await;
    let sealer = Arc::new(Sealer::load_or_create(&state.path().join("seal.key")).unwrap());
    let store = Store::open(&state.path().join("fleet.redb"), sealer, 1).unwrap();
    let kept: Vec<String> = store.records("phx.dec.").unwrap().0.into_iter().map(|of| of.subject).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0].starts_with("phx.dec.fra.a.withdraw."), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_stream_is_filled_again_by_its_authors() {
    let Some(mut server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    gathered(&[&a]).await;
    for n in 1..=20 {
        a.ban(&format!("192.0.2.{n}"), 600_000);
    }
    until("all are confirmed", || a.fleet.status().queue == 0).await;
    server.down();
    until("the loss is noticed", || !a.fleet.status().connected).await;
    server.wipe();
    server.up().await;
    gathered(&[&a]).await;
    let fresh = NodePlan::on("fra", "fresh", &server).start().await;
    until("a newcomer has all twenty", || fresh.fleet.status().decisions == 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_state_but_kept_its_key_learns_its_own_bans_back() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    gathered(&[&a]).await;
    a.ban("192.0.2.1", 600_000);
    until("it is confirmed", || a.fleet.status().queue == 0).await;
    let (state, plan) = a.stop().await;
    std::fs::remove_file(state.path().join("fleet.redb")).unwrap();
    let a = plan.start_in(state).await;
    until("its own ban came back", || a.refuses("192.0.2.1")).await;
    let (state, mut plan) = a.stop().await;
    plan.nats = None;
    let alone = plan.start_in(state).await;
    assert!(alone.refuses("192.0.2.1"), "and it is kept on disk again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_joins_a_fleet_and_leaves_it_without_losing_decisions() {
    let Some(server) = NatsServer::start().await else { return };
    let b = NodePlan::on("fra", "b", &server).start().await;
    let a = NodePlan::local("fra", "a").start().await;
    a.ban("192.0.2.1", 600_000);
    let url = server.url();
    let a = a.restart_as(|plan| plan.nats = Some(url)).await;
    until("the fleet learns what the single node knew", || b.refuses("192.0.2.1")).await;
    b.ban("192.0.2.2", 600_000);
    until("and it learns what the fleet knew", || a.refuses("192.0.2.2")).await;
    gathered(&[&a, &b]).await;
    let a = a.restart_as(|plan| plan.nats = None).await;
    assert!(a.refuses("192.0.2.1") && a.refuses("192.0.2.2"));
    assert_eq!(a.fleet.status().kind, "local");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_server_that_keeps_nothing_bans_still_travel_and_status_says_so() {
    let Some(server) = NatsServer::start_without_jetstream().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("syd", "b", &server).start().await;
    for node in [&a, &b] {
        until("nodes hear each other", || node.hears(1)).await;
    }
    a.ban("192.0.2.1", 600_000);
    until("b has the ban", || b.refuses("192.0.2.1")).await;
    until("status names it", || a.fleet.status().degraded.join("").contains("does not keep them")).await;
    assert!(a.fleet.status().queue >= 1, "what no stream confirmed stays queued");
}

/// A relay whose first connection can lose the way to the server, while what the server says still comes.
async fn half_deaf(port: u16) -> (u16, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let (deaf, state) = watch::channel(false);
    tokio::spawn(async move {
        let mut first = true;
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            let ((mut hear, mut speak), (mut answers, mut asks)) = (near.into_split(), far.into_split());
            let (mut state, this) = (state.clone(), std::mem::take(&mut first));
            tokio::spawn(async move {
                let deaf = async {
                    let _ = state.wait_for(|deaf| *deaf && this).await;
                    std::future::pending::<()>().await
                };
                tokio::select! {
                    _ = tokio::io::copy(&mut hear, &mut asks) => {}
                    () = deaf => {}
                }
            });
            tokio::spawn(async move { tokio::io::copy(&mut answers, &mut speak).await });
        }
    });
    (own, deaf)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_carries_one_way_only_is_made_anew() {
    let Some(server) = NatsServer::start().await else { return };
    let (port, deaf) = half_deaf(server.port()).await;
    let mut plan = NodePlan::on("fra", "a", &server);
    plan.nats = Some(format!("nats://127.0.0.1:{port}"));
    let a = plan.start().await;
    let b = NodePlan::on("fra", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    deaf.send_replace(true);
    a.ban("192.0.2.1", 600_000);
    b.ban("192.0.2.2", 600_000);
    until("what the server says still comes", || a.refuses("192.0.2.2")).await;
    until("what the node says gets through again", || b.refuses("192.0.2.1")).await;
}
