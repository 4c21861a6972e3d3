//! How long a ban takes from `propose` on one node to another node's view. Prints; fails only when it is out of all proportion.

use std::time::{Duration, Instant};

use phalanx_model::{Clock, Identities, SystemClock};

use crate::support::{NatsServer, Node, NodePlan, address, gathered, until};

const BANS: u32 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_reaches_the_other_node_in_milliseconds() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("syd", "a", &server).start().await;
    let b = NodePlan::on("fra", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    let mut times = Vec::new();
    for n in 0..BANS {
        times.push(one_ban(&a, &b, n).await);
    }
    times.sort();
    let percentile = |percent: usize| times[(times.len() - 1) * percent / 100];
    let (p50, p99, max) = (percentile(50), percentile(99), percentile(100));
    println!("ban on one node -> in another's view: p50 {p50:?} p99 {p99:?} max {max:?} over {BANS} bans");
    assert!(p50 < Duration::from_millis(50), "{p50:?}");
}

async fn one_ban(a: &Node, b: &Node, n: u32) -> Duration {
    let ip = format!("10.0.{}.{}", n / 200, n % 200 + 1);
    let view = b.fleet.view();
    let mut swapped = view.subscribe();
    let started = Instant::now();
    a.ban(&ip, 600_000);
    while view.load().lookup(&Identities::of(address(&ip)), SystemClock.now_ms()).is_none() {
        tokio::time::timeout(Duration::from_secs(10), swapped.changed()).await.unwrap().unwrap();
    }
    started.elapsed()
}

/// A burst from one node, applied there, signed, sent, confirmed by the stream, checked and applied on another node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_bans_arrives_whole() {
    const BURST: u32 = 5_000;
    let Some(server) = NatsServer::start().await else { return };
    let mut a = NodePlan::on("syd", "a", &server).start().await;
    let b = NodePlan::on("fra", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    let started = Instant::now();
    for n in 0..BURST {
        a.ban(&format!("10.{}.{}.{}", n / 40_000, n / 200 % 200, n % 200 + 1), 600_000);
        while a.readers.ledger.try_recv().is_ok() {}
        if n % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let decided = started.elapsed();
    let all = usize::try_from(BURST).unwrap();
    until("b has them all", || b.fleet.status().decisions == all).await;
    let arrived = started.elapsed();
    until("the stream has them all", || a.fleet.status().queue == 0).await;
    let confirmed = started.elapsed();
    println!(
        "{BURST} bans: decided in {decided:?}, all in the other view after {arrived:?}, all on disk and in the stream after {confirmed:?}"
    );
}

/// From the moment the server listens again until what was decided meanwhile is enforced by the other node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_converge_soon_after_the_server_is_back() {
    let Some(mut server) = NatsServer::start().await else { return };
    let a = NodePlan::on("syd", "a", &server).start().await;
    let b = NodePlan::on("fra", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    server.down();
    for node in [&a, &b] {
        until("the loss is noticed", || !node.fleet.status().connected).await;
    }
    a.ban("10.9.9.9", 600_000);
    server.up().await;
    let started = Instant::now();
    until("b enforces it", || b.refuses("10.9.9.9")).await;
    println!("server back -> a ban made meanwhile is in the other view: {:?}", started.elapsed());
}
