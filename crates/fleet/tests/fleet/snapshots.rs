//! Snapshots: what comes back, what stays gone, and which files are refused.

use std::sync::Arc;

use bytes::Bytes;
use phalanx_fleet::list_text;
use phalanx_fleet::{FleetError, NewBlocklist, Tally};
use phalanx_model::{Clock, DecisionKind, ManualClock};

use crate::support::{NatsServer, NodePlan, gathered, ip, order, until};

fn at(clock: &Arc<ManualClock>, secret: &'static [u8]) -> NodePlan {
    NodePlan {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        secret: Some(secret),
        ..NodePlan::local("fra", "a")
    }
}

fn restored(restored: usize) -> Tally {
    Tally { restored, ..Tally::default() }
}

#[tokio::test]
async fn a_node_that_lost_everything_gets_its_decisions_back_with_their_ends() {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let lost = at(&clock, b"ours").start().await;
    lost.ban("192.0.2.1", 60_000);
    lost.ban("192.0.2.2", 1_000);
    lost.ban("192.0.2.3", 60_000);
    lost.fleet.withdraw(ip("192.0.2.3"), "false alarm").unwrap();
    lost.fleet.add(order(ip("192.0.2.4"), DecisionKind::Allow, 3_600_000)).unwrap();
    let prefixes = list_text::parse("198.51.100.0/24\n").unwrap();
    let list = NewBlocklist {
        name: "drop".into(),
        kind: DecisionKind::Ban,
        for_ms: 3_600_000,
        reason: "of today".into(),
        prefixes,
    };
    lost.fleet.import_blocklist(list).await.unwrap();
    let snapshot = Bytes::from(lost.fleet.snapshot(7).await.unwrap());
    clock.advance(2_000);

    let node = at(&clock, b"ours").start().await;
    let would = node.fleet.restore_snapshot(snapshot.clone(), true).await.unwrap();
    assert!(!node.refuses("192.0.2.1"), "a dry run changes nothing");
    let done = node.fleet.restore_snapshot(snapshot.clone(), false).await.unwrap();
    assert_eq!(would, done);
    assert_eq!((done.policy_version, done.made_at_ms, &*done.made_by.node), (7, 1_000_000, "a"));
    assert_eq!(done.decisions, Tally { restored: 2, expired: 1, ..Tally::default() });
    assert_eq!(done.lists, restored(1));
    assert!(node.refuses("192.0.2.1") && !node.refuses("192.0.2.2") && !node.refuses("192.0.2.3"));
    until("the list is in force", || node.refuses("198.51.100.9")).await;
    let again = node.fleet.restore_snapshot(snapshot.clone(), false).await.unwrap();
    assert_eq!(again.decisions, Tally { known: 2, expired: 1, ..Tally::default() });

    // What is withdrawn after the restore does not come back with another one, nor after its end.
    node.fleet.withdraw(ip("192.0.2.1"), "enough").unwrap();
    let third = node.fleet.restore_snapshot(snapshot, false).await.unwrap();
    assert_eq!(third.decisions, Tally { ended: 1, known: 1, expired: 1, ..Tally::default() });
    assert!(!node.refuses("192.0.2.1"));
    let node = node.restart().await;
    assert!(!node.refuses("192.0.2.1") && node.refuses("198.51.100.9"));
    let kept = node.fleet.list(clock.now_ms(), 10);
    assert_eq!(kept.iter().map(|one| one.expires_at_ms).collect::<Vec<_>>(), [4_600_000]);
}

#[tokio::test]
async fn a_damaged_snapshot_or_one_of_another_fleet_is_refused_with_the_reason() {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let node = at(&clock, b"ours").start().await;
    node.ban("192.0.2.1", 60_000);
    let good = node.fleet.snapshot(1).await.unwrap();
    let mut flipped = good.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let other = at(&clock, b"theirs").start().await.fleet.snapshot(1).await.unwrap();
    let named = NodePlan { fleet_id: "other".into(), ..at(&clock, b"ours") };
    let named = named.start().await.fleet.snapshot(1).await.unwrap();
    for (bytes, why) in [
        (flipped, "it is damaged"),
        (good[..good.len() - 1].to_vec(), "it is damaged"),
        (good[..40].to_vec(), "it is damaged"),
        (b"something else".to_vec(), "it is no snapshot"),
        (other, "the node that signed it is not of this fleet"),
        (named, "it is of the fleet other"),
    ] {
        match node.fleet.restore_snapshot(bytes.into(), false).await {
            Err(FleetError::Snapshot(told)) => assert!(told.contains(why), "{told:?} and not {why:?}"),
            wrong => panic!("{wrong:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_author_decided_is_restored_for_all_nodes() {
    let Some(mut server) = NatsServer::start().await else { return };
    let (a, b) = (NodePlan::on("fra", "a", &server), NodePlan::on("syd", "b", &server));
    let (a, b) = (a.start().await, b.start().await);
    gathered(&[&a, &b]).await;
    b.ban("192.0.2.1", 60_000);
    a.ban("192.0.2.2", 60_000);
    until("both know both", || a.refuses("192.0.2.1") && b.refuses("192.0.2.2")).await;
    let snapshot = a.fleet.snapshot(1).await.unwrap();
    drop((a, b));
    server.down();
    server.wipe();
    server.up().await;
    let (a, c) = (NodePlan::on("fra", "a", &server), NodePlan::on("iad", "c", &server));
    let (a, c) = (a.start().await, c.start().await);
    gathered(&[&a, &c]).await;
    assert!(!a.refuses("192.0.2.1"));
    let done = a.fleet.restore_snapshot(snapshot.into(), false).await.unwrap();
    assert_eq!((done.decisions, done.members), (restored(2), 2));
    until("all nodes enforce both", || {
        [&a, &c].iter().all(|node| node.refuses("192.0.2.1") && node.refuses("192.0.2.2"))
    })
    .await;
}
