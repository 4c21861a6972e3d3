//! The fleet's policy record: swapped, followed, healed, and moved to another home.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use phalanx_fleet::policy::{Maker, PolicyRecord};
use phalanx_fleet::{FleetError, NewBundle, Put, Speed, Topic, subject};

use crate::support::{NatsServer, Node, NodePlan, gathered, until};

pub(crate) fn bundle(text: &str, expect: Option<u64>) -> NewBundle {
    NewBundle {
        files: BTreeMap::from([("policy.toml".to_owned(), text.as_bytes().to_vec())]),
        entry: "policy.toml".into(),
        version: 1,
        expect,
        requires: vec![],
        stage: None,
        bake_ms: None,
        reason: String::new(),
        maker: Maker::of_files("ann"),
    }
}

fn record(node: &Node) -> Option<Arc<PolicyRecord>> {
    node.fleet.policy_state().record
}

fn offered(node: &Node) -> u64 {
    node.fleet.policy().borrow().offer.as_ref().map_or(0, |offer| offer.reference.version)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_home_has_its_policy_again_and_a_newcomer_gets_it() {
    let Some(mut server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("syd", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    a.fleet.push_policy(bundle("one", None)).await.unwrap();
    until("the other is offered it", || offered(&b) == 1).await;
    server.down();
    server.wipe();
    server.up().await;
    let c = NodePlan::on("iad", "c", &server).start().await;
    until("a newcomer is offered it", || offered(&c) == 1).await;
    assert_eq!(record(&c), record(&a));
    // And all go on from there.
    c.fleet.push_policy(bundle("two", Some(1))).await.unwrap();
    for node in [&a, &b, &c] {
        until("all are offered the next", || offered(node) == 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_the_store_has_lost_is_shared_again() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    gathered(&[&a]).await;
    a.fleet.push_policy(bundle("one", None)).await.unwrap();
    let raw = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    raw.delete_stream(BLOBS).await.unwrap();
    let b = NodePlan::on("syd", "b", &server).start().await;
    until("a newcomer is offered it", || offered(&b) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_blobs_leaves_no_readers_at_the_server() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("syd", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    for size in [0, 1, 65_536, 65_537, 5_000_000] {
        let blob = Bytes::from(vec![7; size]);
        let hash = a.fleet.engine().blob_share(blob.clone()).await.unwrap();
        let read = b.fleet.engine().blob_fetch(hash).await.unwrap();
        assert!(read == Some(blob), "{size} bytes");
    }
    let raw = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let stream = raw.get_stream(BLOBS).await.unwrap();
    assert_eq!(stream.cached_info().state.consumer_count, 0);
}

const BLOBS: &str = "OBJ_PHXBLOB";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_restarts_still_has_the_record_that_its_home_has_lost() {
    let Some(mut server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    gathered(&[&a]).await;
    a.fleet.push_policy(bundle("one", None)).await.unwrap();
    until("it is offered", || offered(&a) == 1).await;
    let (state, plan) = a.stop().await;
    server.down();
    server.wipe();
    server.up().await;
    let a = plan.start_in(state).await;
    assert_eq!(record(&a).map(|record| record.serial), Some(1), "before anybody can be reached");
    let b = NodePlan::on("syd", "b", &server).start().await;
    until("a newcomer is offered it", || offered(&b) == 1).await;
    assert_eq!(record(&b), record(&a));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_home_writes_counts_nowhere() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("syd", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    a.fleet.push_policy(bundle("one", None)).await.unwrap();
    until("the other is offered it", || offered(&b) == 1).await;
    let (state, plan) = a.stop().await;
    // A node that was never told goes on at the old home, as if cut off.
    let moved = b.fleet.move_policy_home("syd", "ann").await.unwrap();
    assert_eq!((moved.epoch, &*moved.home, moved.stable.version), (2, "syd", 2));
    let a = plan.start_in(state).await;
    until("the old home's node learns of the new one", || record(&a).is_some_and(|r| r.epoch == 2)).await;
    let old = subject::of_policy("fra");
    let (revision, last) = a.fleet.engine().last(Topic::Policy, &old).await.unwrap();
    let again = Put {
        topic: Topic::Policy,
        subject: old,
        version: 9,
        expires_at_ms: u64::MAX,
        bytes: last.unwrap(),
        speed: Speed::Both,
    };
    assert!(a.fleet.engine().put_after(again, revision).await.unwrap());
    a.fleet.push_policy(bundle("three", None)).await.unwrap();
    for node in [&a, &b] {
        until("both follow the new home", || offered(node) == 3).await;
        assert_eq!(record(node).unwrap().epoch, 2);
    }
    let told = b.fleet.push_policy(bundle("four", Some(1))).await.unwrap_err();
    assert!(matches!(told, FleetError::Conflict(_)), "{told}");
}
