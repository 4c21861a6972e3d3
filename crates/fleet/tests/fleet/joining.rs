//! A node that knows nothing enforces what a control node packed before it has read a single record, and then follows the records.

use std::time::Duration;

use bytes::Bytes;
use phalanx_fleet::Change;

use crate::enrolled::Fleet;
use crate::support::{NatsServer, Node, NodePlan, gathered, until};

const PACKED: usize = 6_000;

fn nth(n: usize) -> String {
    format!("198.18.{}.{}", n / 250, n % 250)
}

/// Decisions whose records a node has checked and merged.
fn merged(node: &Node) -> usize {
    node.fleet.members()[0].decisions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joiner_enforces_what_was_packed_at_once_and_then_what_records_say() {
    let Some(server) = NatsServer::start().await else { return };
    let mut a = NodePlan::on("fra", "a", &server).start().await;
    let edge = NodePlan { control: false, ..NodePlan::on("fra", "edge", &server) }.start().await;
    gathered(&[&a, &edge]).await;
    let mut packed = Vec::new();
    for n in 0..PACKED {
        packed.push(a.ban(&nth(n), 3_600_000));
        while a.readers.ledger.try_recv().is_ok() {}
    }
    until("all is confirmed", || a.fleet.status().queue == 0).await;
    // What no control node signed is not looked at.
    edge.fleet.engine().mark_put("fra", "edge", Bytes::from_static(b"believe me")).await.unwrap();
    let mut found = None;
    while found.is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        found = a.fleet.engine().mark_get("fra", "a").await.unwrap();
    }
    a.fleet.delete(packed[1].id, "mistaken").unwrap();
    a.ban("192.0.2.77", 3_600_000);
    until("all is confirmed", || a.fleet.status().queue == 0).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("DEC_fra").await.unwrap();
    let lost = Change::Decided(packed[2].clone()).subject();
    let lost = stream.get_last_raw_message_by_subject(&lost).await.unwrap();
    stream.delete_message(lost.sequence).await.unwrap();

    let joiner = NodePlan { control: false, ..NodePlan::on("fra", "joiner", &server) }.start().await;
    until("the joiner enforces", || joiner.refuses(&nth(PACKED - 1))).await;
    assert!(merged(&joiner) < PACKED - 2, "it enforces before it has read the records");
    assert!(joiner.refuses(&nth(0)));
    until("the records are read", || merged(&joiner) == PACKED - 1).await;
    until("the view follows from them", || !joiner.refuses(&nth(2))).await;
    assert!(!joiner.refuses(&nth(1)) && joiner.refuses("192.0.2.77"));
    assert_eq!(joiner.fleet.status().decisions, PACKED - 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enrolled_control_nodes_may_pack_and_edge_nodes_only_read() {
    let Some(fleet) = Fleet::start().await else { return };
    let (_own, a) = fleet.first().await;
    let c = fleet.run(&fleet.enrol("syd", "c", true, false), false).await;
    let b = fleet.run(&fleet.enrol("syd", "b", false, false), false).await;
    gathered(&[&a, &b, &c]).await;
    let (first, control, edge) = (a.fleet.engine(), c.fleet.engine(), b.fleet.engine());
    let held = Duration::from_secs(60);
    assert!(first.lease("packed", held).await.unwrap().is_some());
    assert!(control.lease("packed", held).await.unwrap().is_none(), "one at a time");
    let sites: Vec<String> = control.positions().await.unwrap().into_keys().collect();
    assert_eq!(sites, ["fra", "syd"]);
    let (part, mark) = (Bytes::from(vec![7; 300_000]), Bytes::from_static(b"it lies there"));
    let hash = control.blob_share(part.clone()).await.unwrap();
    control.mark_put("syd", "c", mark.clone()).await.unwrap();
    assert_eq!(edge.mark_get("syd", "c").await.unwrap(), Some(mark.clone()));
    assert_eq!(edge.mark_get("fra", "a").await.unwrap(), None);
    assert_eq!(edge.blob_fetch(hash.clone()).await.unwrap(), Some(part.clone()));
    assert!(edge.mark_put("syd", "c", Bytes::from_static(b"elsewhere")).await.is_err());
    assert!(edge.blob_share(Bytes::from_static(b"a lie")).await.is_err());
    assert_eq!(edge.mark_get("syd", "c").await.unwrap(), Some(mark));
    control.blob_unshare(hash.clone()).await.unwrap();
    assert_eq!(edge.blob_fetch(hash.clone()).await.unwrap(), None);
    assert_eq!(control.blob_share(part.clone()).await.unwrap(), hash, "again, after it was forgotten");
    assert_eq!(edge.blob_fetch(hash).await.unwrap(), Some(part));
}
