//! The packed view: in force before anything else is read, packed anew while requests go on, never given back by a request.

use std::sync::Arc;

use phalanx_fleet::Remembered;
use phalanx_model::{Actor, Clock, DecisionKind, Identities, ManualClock};
use phalanx_trust::Sealer;

use crate::support::{NodePlan, address, order, until};

#[tokio::test]
async fn a_node_enforces_its_packed_view_before_it_has_read_its_records() {
    let node = NodePlan::local("fra", "a").start().await;
    node.ban("192.0.2.1", 60_000);
    node.fleet.add(order(Actor::Asn(64_500), DecisionKind::Ban, 60_000)).unwrap();
    let undone = node.ban("192.0.2.2", 60_000);
    node.fleet.delete(undone.id, "false alarm").unwrap();
    let (state, plan) = node.stop().await;
    let sealer = Arc::new(Sealer::load_or_create(&state.path().join("seal.key")).unwrap());
    let remembered = Remembered::read(&plan.settings(state.path()), sealer).await.unwrap();
    let view = remembered.view().load_full();
    let now_ms = plan.clock.now_ms();
    let refuses = |who: &Identities| view.lookup(who, now_ms).is_some();
    assert!(
        refuses(&Identities::of(address("192.0.2.1"))) && !refuses(&Identities::of(address("192.0.2.2")))
    );
    assert!(refuses(&Identities { asn: Some(64_500), ..Identities::of(address("192.0.2.2")) }));
}

#[tokio::test]
async fn a_view_that_changed_much_is_packed_behind_and_stays_whole() {
    let mut node = NodePlan::local("fra", "a").start().await;
    let address = |n: u32| format!("10.{}.{}.1", n / 250, n % 250);
    let view = node.fleet.view();
    node.ban(&address(0), 600_000);
    let reader = view.load();
    let first = Arc::downgrade(reader.base());
    for n in 1..9_000 {
        node.ban(&address(n), 600_000);
        assert!(node.readers.ledger.try_recv().is_ok());
    }
    until("the view is packed", || view.load().base().decisions_len() > 8_000).await;
    assert!(first.upgrade().is_some(), "a request reads it still");
    drop(reader);
    until("the old base is dropped, by nobody who serves requests", || first.upgrade().is_none()).await;
    assert!((0..9_000).all(|n| node.refuses(&address(n))));
    assert!(view.load().changes_len() < 1_000);
    assert_eq!(node.fleet.status().decisions, 9_000);
    assert_eq!(node.fleet.status().degraded, Vec::<String>::new());
}

#[tokio::test]
async fn the_packed_view_is_kept_while_the_node_runs() {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let plan = NodePlan { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..NodePlan::local("fra", "a") };
    let node = plan.start().await;
    node.ban("192.0.2.1", 600_000);
    let file = node.state.path().join("fleet.view");
    assert!(!file.exists());
    clock.advance(61_000);
    until("the file is written", || file.exists()).await;
}

#[tokio::test]
async fn a_packed_view_of_another_fleet_is_not_enforced() {
    let node = NodePlan::local("fra", "a").start().await;
    node.fleet.add(order(Actor::Asn(64_500), DecisionKind::Ban, 60_000)).unwrap();
    let (state, mut plan) = node.stop().await;
    plan.fleet_id = "another".into();
    let sealer = Arc::new(Sealer::load_or_create(&state.path().join("seal.key")).unwrap());
    let remembered = Remembered::read(&plan.settings(state.path()), sealer).await.unwrap();
    assert_eq!(remembered.view().load().live_len(plan.clock.now_ms()), 0);
}
