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

/// So many that reading them takes longer than a start waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_while_the_records_are_read_counts_and_nothing_is_lost() {
    const BANS: u32 = 12_000;
    const ALL: usize = 12_000;
    let mut node = NodePlan::local("fra", "a").start().await;
    let text = |n: u32| format!("10.{}.{}.1", n / 250, n % 250);
    for n in 0..BANS {
        node.ban(&text(n), 600_000);
        assert!(node.readers.ledger.try_recv().is_ok());
    }
    let node = node.restart().await;
    let packed = Arc::clone(node.fleet.view().load().base());
    let known = || node.fleet.members()[0].decisions;
    let early = known() < ALL;
    let refused = |n: u32| node.refuses(&text(n));
    assert!((0..BANS).all(refused), "all are in force from the start");
    // One of them is undone, one is undone and ordered anew, one replaced by what lasts longer, and one is new.
    node.fleet.withdraw(Actor::ip(address(&text(BANS - 1))), "false alarm").unwrap();
    node.fleet.withdraw(Actor::ip(address(&text(BANS - 2))), "false alarm").unwrap();
    node.ban(&text(BANS - 2), 300_000);
    let longer = node.ban(&text(BANS - 3), 900_000);
    node.ban("192.0.2.1", 600_000);
    let in_force = || {
        let here = |ip: &str| {
            node.fleet.view().load().lookup(&Identities::of(address(ip)), 0).map(|found| found.id())
        };
        assert!(here(&text(BANS - 1)).is_none() && here("192.0.2.1").is_some());
        assert!((0..BANS - 1).step_by(97).all(refused) && refused(BANS - 2));
        assert_eq!(here(&text(BANS - 3)), Some(longer.id));
    };
    in_force();
    until("the records are merged", || known() == ALL).await;
    let base = || Arc::clone(node.fleet.view().load().base());
    until("the view follows from them", || !Arc::ptr_eq(&base(), &packed)).await;
    in_force();
    assert_eq!(node.fleet.status().decisions, ALL);
    println!("the start returned {} the records were merged", if early { "before" } else { "after" });
}
