//! Streams that lose what they confirmed: their authors put it back, nothing else comes back, and nothing is read for nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use phalanx_fleet::store::Store;
use phalanx_fleet::{Fleet, NatsFleet, NatsSettings, Put, Receipt, Speed, Topic};
use phalanx_model::{Author, AuthorRole, Clock, SystemClock};
use phalanx_trust::Sealer;

use crate::support::{NatsServer, Node, NodePlan, gathered, until};

fn soon(name: &str, server: &NatsServer) -> NodePlan {
    NodePlan { audit_every: Some(Duration::from_millis(300)), ..NodePlan::on("fra", name, server) }
}

async fn stream(server: &NatsServer) -> async_nats::jetstream::stream::Stream {
    let client = async_nats::connect(server.url()).await.unwrap();
    async_nats::jetstream::new(client).get_stream("DEC_fra").await.unwrap()
}

async fn all_confirmed(node: &Node) {
    until("all is confirmed", || node.fleet.status().queue == 0).await;
}

/// What a node that comes now learns from the streams.
async fn newcomer_refuses(server: &NatsServer, wanted: &[&str], over: &[&str]) {
    let newcomer = NodePlan::on("fra", "newcomer", server).start().await;
    until("the newcomer knows all", || wanted.iter().all(|ip| newcomer.refuses(ip))).await;
    until("the newcomer is in order", || newcomer.fleet.status().audited_at_ms.is_some()).await;
    assert!(!over.iter().any(|ip| newcomer.refuses(ip)), "something rose again");
    newcomer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_purged_by_its_administrator_is_filled_again_within_one_audit() {
    let Some(server) = NatsServer::start().await else { return };
    let (a, b) = (soon("a", &server).start().await, soon("b", &server).start().await);
    gathered(&[&a, &b]).await;
    let undone = a.ban("192.0.2.9", 600_000);
    a.ban("192.0.2.1", 600_000);
    b.ban("192.0.2.2", 600_000);
    a.fleet.delete(undone.id, "mistaken").unwrap();
    all_confirmed(&a).await;
    all_confirmed(&b).await;
    stream(&server).await.purge().await.unwrap();
    let (purged_at_ms, stream) = (SystemClock.now_ms(), stream(&server).await);
    for node in [&a, &b] {
        until("the next audit has passed", || {
            node.fleet.status().audited_at_ms.is_some_and(|at| at > purged_at_ms + 300)
        })
        .await;
    }
    let info = stream.get_info().await.unwrap();
    assert_eq!(info.state.messages, 3, "two bans and the undo, and not what it ended");
    newcomer_refuses(&server, &["192.0.2.1", "192.0.2.2"], &["192.0.2.9"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_backup_put_back_heals_on_reconnection_and_brings_nothing_back() {
    let Some(mut server) = NatsServer::start().await else { return };
    let (a, b) =
        (NodePlan::on("fra", "a", &server).start().await, NodePlan::on("fra", "b", &server).start().await);
    gathered(&[&a, &b]).await;
    let undone = a.ban("192.0.2.9", 600_000);
    a.ban("192.0.2.1", 600_000);
    b.ban("192.0.2.8", 2_000);
    all_confirmed(&a).await;
    all_confirmed(&b).await;
    let backup = tempfile::tempdir().unwrap();
    let backup = backup.path().join("copy");
    server.down();
    server.copy_streams(&backup, false);
    server.up().await;
    gathered(&[&a, &b]).await;
    b.fleet.delete(undone.id, "mistaken").unwrap();
    for n in 10..30 {
        a.ban(&format!("192.0.2.{n}"), 600_000);
        b.ban(&format!("192.0.2.{}", n + 100), 600_000);
    }
    all_confirmed(&a).await;
    all_confirmed(&b).await;
    until("the short ban is over", || !a.refuses("192.0.2.8")).await;
    server.down();
    for node in [&a, &b] {
        until("the loss is noticed", || !node.fleet.status().connected).await;
    }
    server.copy_streams(&backup, true);
    server.up().await;
    for node in [&a, &b] {
        until("own records were compared", || {
            let status = node.fleet.status();
            status.connected && status.audited_at_ms.is_some() && status.queue == 0
        })
        .await;
        assert!(!node.refuses("192.0.2.9") && !node.refuses("192.0.2.8"), "something rose again");
    }
    newcomer_refuses(&server, &["192.0.2.1", "192.0.2.29", "192.0.2.129"], &["192.0.2.9", "192.0.2.8"]).await;
}

/// As a leader that was rolled back leaves it: the end is lost, and others have written since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_end_is_found_although_the_stream_has_gone_on() {
    let Some(server) = NatsServer::start().await else { return };
    let (a, b) = (soon("a", &server).start().await, NodePlan::on("fra", "b", &server).start().await);
    gathered(&[&a, &b]).await;
    a.ban("192.0.2.1", 600_000);
    all_confirmed(&a).await;
    for n in 2..6 {
        a.ban(&format!("192.0.2.{n}"), 600_000);
    }
    all_confirmed(&a).await;
    let stream = stream(&server).await;
    let last = stream.get_info().await.unwrap().state.last_sequence;
    for sequence in last - 2..=last {
        stream.delete_message(sequence).await.unwrap();
    }
    for n in 100..110 {
        b.ban(&format!("192.0.2.{n}"), 600_000);
    }
    all_confirmed(&b).await;
    let went_on = SystemClock.now_ms();
    until("the next audit has passed", || {
        a.fleet.status().audited_at_ms.is_some_and(|at| at > went_on + 300)
    })
    .await;
    newcomer_refuses(&server, &["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"], &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_changed_one_record_is_read_for_all() {
    let Some(mut server) = NatsServer::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let sealer = Arc::new(Sealer::ephemeral().unwrap());
    let store = Arc::new(Store::open(&folder.path().join("s"), sealer, 1).unwrap());
    let author = Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Node };
    let settings = NatsSettings { audit_every: Duration::from_millis(100), ..NatsSettings::at(server.url()) };
    let engine = NatsFleet::start(settings, author, store, Arc::new(SystemClock)).await.unwrap();
    let audited = async |times: usize| {
        let link = engine.link();
        for _ in 0..times {
            let now_ms = SystemClock.now_ms();
            until("an audit has passed", || link.borrow().audited_at_ms.is_some_and(|at| at > now_ms)).await;
        }
    };
    audited(1).await;
    for n in 0..300 {
        let sent = engine.publish(put(n)).await.unwrap();
        assert!(matches!(sent, Receipt::Committed(_)));
    }
    audited(2).await;
    let (before, audits) = (engine.audit_reads(), 5);
    audited(audits).await;
    let read = engine.audit_reads() - before;
    assert!((5..=7).contains(&read), "{read} records were read in {audits} audits");
    server.down();
    let link = engine.link();
    until("the loss is noticed", || !link.borrow().connected).await;
    server.up().await;
    audited(1).await;
    let read = engine.audit_reads() - before;
    assert!(read < 20, "{read} records were read, also after the server was away");
}

/// A record in the middle stands for none of the others; that it is gone is told by those who miss it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_miss_is_looked_for_and_sent_again() {
    let Some(server) = NatsServer::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let sealer = Arc::new(Sealer::ephemeral().unwrap());
    let store = Arc::new(Store::open(&folder.path().join("s"), sealer, 1).unwrap());
    let author = Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Node };
    let settings = NatsSettings { audit_every: Duration::from_millis(100), ..NatsSettings::at(server.url()) };
    let engine = NatsFleet::start(settings, author, store, Arc::new(SystemClock)).await.unwrap();
    let link = engine.link();
    until("own records are audited", || link.borrow().audited_at_ms.is_some()).await;
    let mut sequences = Vec::new();
    for n in 0..10 {
        let Receipt::Committed(sequence) = engine.publish(put(n)).await.unwrap() else {
            panic!("not committed")
        };
        sequences.push(sequence);
    }
    until("they were found in place", || engine.audit_reads() >= 10).await;
    let stream = stream(&server).await;
    stream.delete_message(sequences[4]).await.unwrap();
    assert_eq!(stream.get_info().await.unwrap().state.messages, 9);
    engine.doubt_stream();
    let started = std::time::Instant::now();
    while stream.get_info().await.unwrap().state.messages < 10 {
        assert!(started.elapsed() < Duration::from_secs(20), "it was not sent again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn put(n: u32) -> Put {
    Put {
        topic: Topic::Decisions,
        subject: format!("phx.dec.fra.a.ban.{n}"),
        version: 1,
        expires_at_ms: SystemClock.now_ms() + 600_000,
        bytes: Bytes::from(format!("record {n}")),
        speed: Speed::Both,
    }
}
