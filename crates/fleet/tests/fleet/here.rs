//! What a node orders itself alone: in force at once, in the ledger, seen by nobody else, and ended by whatever ends decisions.

use std::sync::Arc;

use phalanx_fleet::{FleetError, FleetHandle};
use phalanx_model::limits::{HERE_FOR_MAX_MS, HERE_MAX};
use phalanx_model::{Actor, ActorKey, AuthorRole, Clock, DecisionKind, LedgerKind, ManualClock};

use crate::support::{NatsServer, NodePlan, gathered, order, until};

const TOOL: Actor = Actor::Software(7);

fn found(fleet: &FleetHandle, now_ms: u64) -> Option<DecisionKind> {
    fleet.view().load().about_any(&[ActorKey::Software(7)], now_ms).map(|found| found.kind())
}

#[tokio::test]
async fn it_is_in_force_and_listed_until_it_ends_is_lifted_or_the_node_stops() {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let plan = NodePlan { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..NodePlan::local("fra", "a") };
    let mut node = plan.start().await;
    let made = node.fleet.order_here(order(TOOL, DecisionKind::Challenge, u64::MAX)).unwrap();
    assert_eq!((made.author.role, made.expires_at_ms), (AuthorRole::Node, 1_000_000 + HERE_FOR_MAX_MS));
    assert_eq!(node.readers.ledger.try_recv().unwrap().kind, LedgerKind::Decided { decision: made });
    // A harsher one takes its place.
    node.fleet.order_here(order(TOOL, DecisionKind::Ban, 5_000)).unwrap();
    assert_eq!(found(&node.fleet, clock.now_ms()), Some(DecisionKind::Ban));
    assert_eq!(node.fleet.list(clock.now_ms(), 10).len(), 1);
    clock.advance(5_000);
    assert_eq!(found(&node.fleet, clock.now_ms()), None);
    until("what has ended is forgotten", || !node.fleet.view().load().has_wide()).await;

    node.fleet.order_here(order(TOOL, DecisionKind::Ban, 60_000)).unwrap();
    assert!(node.fleet.lift_here(&TOOL, "over").unwrap() && !node.fleet.lift_here(&TOOL, "over").unwrap());
    assert_eq!(found(&node.fleet, clock.now_ms()), None);
    node.fleet.order_here(order(TOOL, DecisionKind::Ban, 60_000)).unwrap();
    let node = node.restart().await;
    assert_eq!(found(&node.fleet, clock.now_ms()), None);
}

#[tokio::test]
async fn it_is_bounded_and_never_about_one_subscriber_nor_an_allow() {
    let node = NodePlan::local("fra", "a").start().await;
    for (actor, kind) in [
        (Actor::ip([192, 0, 2, 1].into()), DecisionKind::Ban),
        (Actor::Country("NL".parse().unwrap()), DecisionKind::Ban),
        (TOOL, DecisionKind::Allow),
    ] {
        let refused = node.fleet.order_here(order(actor, kind, 1_000));
        assert!(matches!(refused, Err(FleetError::Impossible(_))), "{refused:?}");
    }
    let made = (0..100)
        .filter(|n| node.fleet.order_here(order(Actor::Route(*n), DecisionKind::Ban, 60_000)).is_ok());
    assert_eq!(made.count(), HERE_MAX);
}

#[tokio::test]
async fn it_does_not_travel_and_an_operator_anywhere_ends_it() {
    let Some(server) = NatsServer::start().await else { return };
    let [here, there] =
        [NodePlan::on("fra", "a", &server).start().await, NodePlan::on("fra", "b", &server).start().await];
    gathered(&[&here, &there]).await;
    let now_ms = || phalanx_model::SystemClock.now_ms();
    here.fleet.order_here(order(TOOL, DecisionKind::Ban, 60_000)).unwrap();
    // What is told after it has arrived, and it has not.
    here.fleet.add(order(Actor::Route(1), DecisionKind::Ban, 60_000)).unwrap();
    until("the other's order is heard", || there.fleet.view().load().has_wide()).await;
    assert_eq!(found(&there.fleet, now_ms()), None);
    there.fleet.withdraw(TOOL, "that is our monitor").unwrap();
    until("it is ended", || found(&here.fleet, now_ms()).is_none()).await;
    here.fleet.order_here(order(TOOL, DecisionKind::Ban, 60_000)).unwrap();
    assert_eq!(found(&here.fleet, now_ms()), Some(DecisionKind::Ban), "a later one holds");
    let me = here.fleet.node_author().0;
    there.fleet.recall(me, "it errs").unwrap();
    until("it is ended", || found(&here.fleet, now_ms()).is_none()).await;
}
