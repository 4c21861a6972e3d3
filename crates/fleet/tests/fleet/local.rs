//! A fleet of one: what an operator and the data plane rely on without any server.

use std::sync::Arc;

use crate::support::{NodePlan, address, order, proposal, until};
use phalanx_fleet::{Change, FleetError, FleetHandle, FleetKeys};
use phalanx_model::lanes::Lanes;
use phalanx_model::limits::LEDGER_LANE_ENTRIES;
use phalanx_model::{
    Actor, Author, AuthorRole, Clock, DecisionKind, LedgerEntry, LedgerKind, ManualClock, Prefix,
};
use phalanx_trust::Sealer;

fn at(clock: &Arc<ManualClock>) -> NodePlan {
    NodePlan { clock: Arc::clone(clock) as Arc<dyn Clock>, ..NodePlan::local("fra", "a") }
}

#[tokio::test]
async fn a_ban_is_in_force_when_propose_returns_and_ends_at_its_expiry() {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let mut node = at(&clock).start().await;
    let mut changes = node.fleet.changes();
    let decision = node.ban("192.0.2.1", 5_000);
    assert!(node.refuses("192.0.2.1") && !node.refuses("192.0.2.2"));
    assert_eq!((decision.author.role, decision.expires_at_ms), (AuthorRole::Node, 1_005_000));
    assert_eq!(changes.try_recv().unwrap(), Change::Decided(Arc::clone(&decision)));
    let entry = node.readers.ledger.try_recv().unwrap();
    assert_eq!(entry.kind, LedgerKind::Decided { decision });
    clock.advance(4_999);
    assert!(node.refuses("192.0.2.1"));
    clock.advance(1);
    assert!(!node.refuses("192.0.2.1"));
    until("the expired ban is forgotten", || node.fleet.view().load().keys_len() <= 1).await;
}

#[tokio::test]
async fn decisions_and_withdrawals_survive_a_restart() {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let node = at(&clock).start().await;
    node.ban("192.0.2.1", 60_000);
    node.ban("192.0.2.2", 60_000);
    node.ban("192.0.2.3", 1_000);
    let range: Prefix = "198.51.100.0/24".parse().unwrap();
    node.fleet.add(order(Actor::prefix(range), DecisionKind::Ban, 60_000)).unwrap();
    let undone =
        node.fleet.list(clock.now_ms(), 10).into_iter().find(|d| d.actor == Actor::ip(address("192.0.2.2")));
    node.fleet.delete(undone.unwrap().id, "false alarm").unwrap();
    clock.advance(2_000);
    let node = node.restart().await;
    assert!(node.refuses("192.0.2.1") && node.refuses("198.51.100.77"));
    assert!(!node.refuses("192.0.2.2"), "a withdrawn ban stays withdrawn");
    assert!(!node.refuses("192.0.2.3"), "an expired ban stays expired");
    node.ban("192.0.2.2", 60_000);
    assert!(node.refuses("192.0.2.2"), "a new ban after the withdrawal holds");
    assert_eq!(node.fleet.status().degraded, Vec::<String>::new());
}

#[tokio::test]
async fn an_operators_allow_beats_bans_and_delete_ends_it() {
    let node = NodePlan::local("fra", "a").start().await;
    node.ban("192.0.2.1", 60_000);
    let actor = Actor::ip(address("192.0.2.1"));
    let allow = node.fleet.add(order(actor, DecisionKind::Allow, 60_000)).unwrap();
    assert!(!node.refuses("192.0.2.1"));
    let withdrawal = node.fleet.delete(allow.id, "no longer").unwrap();
    assert_eq!(withdrawal.author.role, AuthorRole::Operator);
    assert!(matches!(node.fleet.delete(allow.id, "again"), Err(FleetError::NoSuchDecision(_))));
}

#[tokio::test]
async fn a_node_retracts_only_its_own() {
    let node = NodePlan::local("fra", "a").start().await;
    let actor = Actor::ip(address("192.0.2.1"));
    node.ban("192.0.2.1", 60_000);
    node.fleet.add(order(actor.clone(), DecisionKind::Ban, 60_000)).unwrap();
    node.fleet.retract(actor.clone(), "mistaken").unwrap();
    assert!(node.refuses("192.0.2.1"), "the operator's ban stands");
    node.fleet.withdraw(actor, "undo").unwrap();
    assert!(!node.refuses("192.0.2.1"));
}

#[tokio::test]
async fn a_node_without_the_control_role_cannot_act_for_operators() {
    let node = NodePlan { control: false, ..NodePlan::local("fra", "a") }.start().await;
    let actor = Actor::ip(address("192.0.2.1"));
    let refused = node.fleet.add(order(actor.clone(), DecisionKind::Allow, 1_000));
    assert!(matches!(refused, Err(FleetError::NotOperator)));
    assert!(matches!(node.fleet.withdraw(actor, "undo"), Err(FleetError::NotOperator)));
}

#[tokio::test]
async fn a_proposal_is_cut_to_what_a_node_may_order_and_refused_beyond() {
    let node = NodePlan::local("fra", "a").start().await;
    let long = node.ban("192.0.2.1", u64::MAX);
    assert_eq!(long.expires_at_ms - long.created_at_ms, phalanx_model::limits::BAN_AUTOMATIC_MAX_MS);
    let mut wide = proposal("192.0.2.1", 1_000);
    wide.actor = Actor::prefix("192.0.2.0/24".parse().unwrap());
    assert!(matches!(node.fleet.propose(wide), Err(FleetError::Refused(_))));
    let mut wordy = proposal("192.0.2.9", 1_000);
    wordy.reason = "ü".repeat(1_000);
    assert!(node.fleet.propose(wordy).unwrap().reason.len() <= phalanx_model::limits::REASON_BYTES_MAX);
    let everyone = Actor::prefix("0.0.0.0/0".parse().unwrap());
    assert!(node.fleet.add(order(everyone, DecisionKind::Ban, 1_000)).is_err());
}

#[tokio::test]
async fn a_short_decision_is_made_even_when_the_clock_was_set_back() {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let node = at(&clock).start().await;
    node.ban("192.0.2.1", 60_000);
    // The same to this node: a peer whose clock is ahead, or its own that was.
    let back = Arc::new(ManualClock::at(970_000));
    let node = node.restart_as(|plan| plan.clock = Arc::clone(&back) as Arc<dyn Clock>).await;
    let decision = node.ban("192.0.2.2", 3_000);
    assert!(node.refuses("192.0.2.2"));
    assert_eq!(decision.expires_at_ms, 973_000);
    node.fleet.withdraw(Actor::ip(address("192.0.2.2")), "undo").unwrap();
    assert!(!node.refuses("192.0.2.2"));
}

#[tokio::test]
async fn a_decision_ends_no_sooner_than_the_one_it_replaces_unless_that_is_withdrawn_first() {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let node = at(&clock).start().await;
    let actor = Actor::ip(address("192.0.2.1"));
    let long = node.ban("192.0.2.1", 60_000);
    let again = node.ban("192.0.2.1", 1_000);
    assert_eq!(again.expires_at_ms, long.expires_at_ms);
    assert_eq!(node.ban("192.0.2.1", 90_000).expires_at_ms, 1_090_000);
    let order_for = |for_ms| node.fleet.add(order(actor.clone(), DecisionKind::Ban, for_ms)).unwrap();
    assert_eq!(order_for(10_000).expires_at_ms, 1_010_000, "a node's ban does not bind an operator");
    assert_eq!(order_for(5_000).expires_at_ms, 1_010_000);
    node.fleet.withdraw(actor.clone(), "less will do").unwrap();
    assert_eq!(order_for(5_000).expires_at_ms, 1_005_000);
}

#[tokio::test]
async fn a_full_ledger_refuses_the_action() {
    let node = NodePlan::local("fra", "a").start().await;
    for _ in 0..LEDGER_LANE_ENTRIES {
        let kind = LedgerKind::Node { state: "started".into() };
        node.lanes.ledger(LedgerEntry { at_ms: 1, kind }).unwrap();
    }
    let actor = Actor::ip(address("192.0.2.1"));
    let refused = node.fleet.add(order(actor, DecisionKind::Ban, 60_000));
    assert!(matches!(refused, Err(FleetError::Ledger(_))));
    assert!(!node.refuses("192.0.2.1"));
    assert!(node.fleet.list(0, 10).is_empty());
}

#[tokio::test]
async fn a_corrupt_state_file_is_set_aside_and_the_node_starts_with_its_packed_view() {
    let node = NodePlan::local("fra", "a").start().await;
    node.ban("192.0.2.1", 60_000);
    node.ban("192.0.2.2", 60_000);
    let (state, plan) = node.stop().await;
    std::fs::write(state.path().join("fleet.redb"), b"not a database at all").unwrap();
    let node = plan.start_in(state).await;
    assert!(node.refuses("192.0.2.1") && node.refuses("192.0.2.2"));
    let degraded = node.fleet.status().degraded.join("; ");
    assert!(degraded.contains("fleet.redb.corrupt-"), "{degraded}");
    // What is said from now on counts, for what is only remembered too.
    let remembered = node.fleet.list(0, 10).into_iter().find(|d| d.actor == Actor::ip(address("192.0.2.1")));
    node.fleet.delete(remembered.unwrap().id, "false alarm").unwrap();
    assert!(!node.refuses("192.0.2.1") && node.refuses("192.0.2.2"));
    node.ban("192.0.2.1", 60_000);
    let node = node.restart().await;
    assert!(node.refuses("192.0.2.1"));
}

#[tokio::test]
async fn without_records_and_packed_view_a_node_starts_with_nothing() {
    let node = NodePlan::local("fra", "a").start().await;
    node.ban("192.0.2.1", 60_000);
    let (state, plan) = node.stop().await;
    for file in ["fleet.redb", "fleet.view"] {
        std::fs::write(state.path().join(file), b"neither one nor the other").unwrap();
    }
    let node = plan.start_in(state).await;
    assert!(!node.refuses("192.0.2.1"));
    let degraded = node.fleet.status().degraded.join("; ");
    assert!(
        degraded.contains("fleet.redb.corrupt-") && degraded.contains("fleet.view.set-aside"),
        "{degraded}"
    );
}

#[tokio::test]
async fn a_node_that_changes_its_name_keeps_what_it_decided() {
    let node = NodePlan::local("fra", "a").start().await;
    node.ban("192.0.2.1", 60_000);
    let node = node.restart_as(|plan| plan.name = "b".into()).await;
    assert!(node.refuses("192.0.2.1"));
    assert_eq!(&*node.fleet.list(0, 10)[0].author.node, "b");
    let node = node.restart().await;
    assert_eq!(node.fleet.list(0, 10).len(), 1);
}

#[tokio::test]
async fn names_that_cannot_be_subjects_stop_the_start_with_a_fix() {
    let folder = tempfile::tempdir().unwrap();
    let sealer = Arc::new(Sealer::ephemeral().unwrap());
    for (site, name) in [("fra.1", "a"), ("fra", "*"), ("", "a")] {
        let keys = FleetKeys::load_or_create(folder.path(), &sealer, true).unwrap();
        let (lanes, _readers) = Lanes::new();
        let plan = NodePlan::local(site, name);
        let settings = plan.settings(folder.path());
        let started = FleetHandle::start(settings, Arc::clone(&sealer), keys, lanes, plan.clock).await;
        let error = started.unwrap_err().to_string();
        assert!(error.contains("is no name; use 1 to 63 of"), "{error}");
    }
}

#[tokio::test]
async fn a_reader_of_the_trail_learns_of_every_end() {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let node = at(&clock).start().await;
    let start = node.fleet.trail(None).position;
    node.ban("192.0.2.1", 60_000);
    node.ban("192.0.2.2", 1_000);
    let actor = Actor::ip(address("192.0.2.1"));
    node.fleet.withdraw(actor.clone(), "undo").unwrap();
    let told = |since| {
        let traces = node.fleet.trail(Some(since)).traces.unwrap();
        traces.iter().map(|trace| (trace.key.to_string(), trace.gone)).collect::<Vec<_>>()
    };
    let (one, two) = (|gone| ("192.0.2.1/32".to_owned(), gone), |gone| ("192.0.2.2/32".to_owned(), gone));
    assert_eq!(told(start), [one(false), two(false), one(true)]);
    let position = node.fleet.trail(None).position;
    clock.advance(1_000);
    until("the expired one is swept", || told(position) == [two(true)]).await;

    // What is withdrawn is remembered beyond a restart, for readers whose position is not.
    assert_eq!(node.fleet.withdrawn(), [actor.key()]);
    assert_eq!(node.fleet.forgiven_at_ms(&actor.key()), Some(1_000_000));
    let node = node.restart().await;
    assert_eq!(node.fleet.withdrawn(), [actor.key()]);
    assert_eq!(node.fleet.trail(Some(position + 1)).traces, None);
    node.ban("192.0.2.1", 60_000);
    assert!(node.fleet.withdrawn().is_empty());
}

#[tokio::test]
async fn one_order_ends_all_that_an_author_decided_and_a_restart_brings_nothing_back() {
    let node = NodePlan::local("fra", "a").start().await;
    for last in 1..=9 {
        node.ban(&format!("192.0.2.{last}"), 60_000);
    }
    node.fleet.add(order(Actor::ip(address("198.51.100.1")), DecisionKind::Ban, 60_000)).unwrap();
    let author = |name: &str| Author { site: "fra".into(), node: name.into(), role: AuthorRole::Node };
    let unknown = node.fleet.recall(author("nobody"), "a slip").unwrap_err().to_string();
    assert!(unknown.contains("no node fra/nobody is known here"), "{unknown}");
    let recall = node.fleet.recall(author("a"), "a rule that erred").unwrap();
    assert!(!node.refuses("192.0.2.1") && !node.refuses("192.0.2.9"));
    assert!(node.refuses("198.51.100.1"), "what an operator ordered stands");
    node.ban("192.0.2.1", 60_000);
    let node = node.restart().await;
    assert!(node.refuses("192.0.2.1") && !node.refuses("192.0.2.2"), "what came later holds");
    assert_eq!(node.fleet.recalls(), [recall]);
    assert_eq!(node.fleet.status().degraded, Vec::<String>::new());
}

#[tokio::test]
async fn a_recall_reaches_what_only_the_packed_view_remembers() {
    let node = NodePlan::local("fra", "a").start().await;
    node.ban("192.0.2.1", 60_000);
    let (state, plan) = node.stop().await;
    std::fs::write(state.path().join("fleet.redb"), b"not a database at all").unwrap();
    let node = plan.start_in(state).await;
    assert!(node.refuses("192.0.2.1"));
    let author = Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Node };
    node.fleet.recall(author, "all of it").unwrap();
    assert!(!node.refuses("192.0.2.1"));
}
