//! Runs as the driver keeps them: which incidents begin one, and that it goes on wherever the lease goes. Time is an argument.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use phalanx_control::NotAsked;
use phalanx_control::playbook::told::Asked;
use phalanx_control::playbook::{Effect, Entry, Facts, Planned, RunOutcome, StepOutcome, read};
use phalanx_learn::IncidentId;
use phalanx_learn::event::{Subject, SubjectKind};
use phalanx_model::{Actor, Confidence, DecisionKind};
use phalanx_policy::playbook::{ConfidenceWord, GravityWord, Playbook};

use super::core::{Core, Seen};
use super::orders::{Known, Plan};
use crate::learning::{Case, CaseSuspect};

const NOW: u64 = 1_785_585_600_000;

fn case(id: u64, gravity: GravityWord) -> Case {
    Case {
        id: IncidentId(id),
        absorbed: Vec::new(),
        facts: Facts {
            detectors: vec!["scanning".into()],
            gravity,
            confidence: ConfidenceWord::High,
            title: "Scanning on shop from 192.0.2.7".into(),
            summary: "looks".into(),
            nodes: vec!["fra/a".into()],
            last_ms: NOW,
        },
        opened_ms: NOW,
        is_closed: false,
        is_undone: false,
        suspects: Vec::new(),
        raisable: Vec::new(),
        evidence: None,
    }
}

fn playbook() -> Vec<Arc<Playbook>> {
    let text = "name = \"p\"\n[trigger]\ndetectors = [\"scanning\"]\ngravity = \"medium\"\n\
         [[steps]]\nid = \"ban\"\ndo = \"countermeasure\"\nmeasure = \"ban\"\nscope = \"address\"\nfor = \"5m\"\n\
         [[steps]]\nid = \"tell\"\ndo = \"notify\"\nto = \"oncall\"\ntext = \"x\"\n\
         [[steps]]\nid = \"pause\"\ndo = \"wait\"\nfor = \"10s\"\n\
         [[steps]]\nid = \"sure\"\ndo = \"ask\"\nquestion = \"?\"\nwithin = \"1h\"\n\
         [[steps]]\nid = \"ticket\"\ndo = \"ticket\"\nto = \"tickets\"\ntext = \"x\"\n";
    vec![Arc::new(read("p", text).unwrap())]
}

fn planned() -> Planned {
    Planned { kind: DecisionKind::Ban, actor: Actor::ip("192.0.2.7".parse().unwrap()), by_operator: false }
}

struct Bench {
    core: Core,
    playbooks: Vec<Arc<Playbook>>,
    cases: Vec<Case>,
}

impl Bench {
    fn new(folder: &Path, name: &str) -> Self {
        let core = Core::open(&folder.join(name)).unwrap();
        Self { core, playbooks: playbook(), cases: vec![case(1, GravityWord::High)] }
    }

    /// What is begun now, each with whether it may have been done.
    fn turn(&mut self, now_ms: u64) -> Vec<(Effect, bool)> {
        let seen = Seen { cases: &self.cases, playbooks: &self.playbooks };
        self.core.turn(&seen, |_| vec![planned()], now_ms).effects
    }

    /// The same, and done at once; says which steps.
    fn play(&mut self, now_ms: u64) -> Vec<String> {
        let mut done = Vec::new();
        loop {
            let effects = self.turn(now_ms);
            if effects.is_empty() {
                return done;
            }
            for (effect, _) in effects {
                self.core.ended(&effect, StepOutcome::Done, "", now_ms);
                done.push(effect.step);
            }
        }
    }

    fn ask(&mut self, asked: &Asked, now_ms: u64) -> Result<(), NotAsked> {
        let seen = Seen { cases: &self.cases, playbooks: &self.playbooks };
        self.core.asked(asked, &seen, now_ms)
    }

    fn outcome(&self) -> Option<RunOutcome> {
        self.core.runner.runs().next().and_then(|run| run.outcome)
    }
}

fn yes() -> Asked {
    let run = format!("p-1/{}", IncidentId(1));
    Asked::Answer { run, step: "sure".into(), yes: true, by: "ann".into() }
}

#[test]
fn an_incident_begins_a_run_once_and_only_while_it_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), "journal");
    let closed = Case { is_closed: true, ..case(2, GravityWord::High) };
    let undone = Case { is_undone: true, ..case(3, GravityWord::High) };
    bench.cases = vec![case(1, GravityWord::Low), closed, undone];
    assert!(bench.turn(NOW).is_empty());
    // It grows worse, and then turns out to be part of another one.
    bench.cases = vec![case(1, GravityWord::Medium)];
    assert_eq!(bench.play(NOW), ["ban", "tell"]);
    bench.cases = vec![Case { absorbed: vec![IncidentId(1)], ..case(9, GravityWord::High) }];
    assert!(bench.turn(NOW + 1).is_empty());
    assert_eq!(bench.core.runner.runs().count(), 1);
}

#[test]
fn a_receiver_that_does_not_answer_holds_up_its_own_run_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), "journal");
    bench.cases.push(case(2, GravityWord::High));
    let begun = bench.turn(NOW);
    assert_eq!(begun.len(), 2);
    assert!(bench.turn(NOW + 60_000).is_empty(), "nothing is begun twice");
    bench.core.ended(&begun[1].0, StepOutcome::Done, "", NOW + 60_000);
    assert_eq!(bench.turn(NOW + 60_000)[0].0.run, begun[1].0.run);
}

#[test]
fn whoever_has_the_lease_next_goes_on_where_the_run_stood() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (Bench::new(folder.path(), "one"), Bench::new(folder.path(), "two"));
    assert_eq!(one.play(NOW), ["ban", "tell"]);
    two.core.adopt(one.core.take_news(NOW));
    // Told again, and in another order, it changes nothing.
    let mut all: Vec<Entry> = one.core.take_news(NOW + 20_000);
    two.core.adopt(all.clone());
    all.reverse();
    two.core.adopt(all);
    let entries =
        |bench: &Bench| bench.core.runner.histories().map(|(_, written)| written.len()).sum::<usize>();
    assert_eq!(entries(&one), entries(&two));
    // The pause began at the first, and ends at the second.
    assert_eq!(two.play(NOW + 9_999), [""; 0]);
    two.play(NOW + 10_000);
    two.ask(&yes(), NOW + 10_001).unwrap();
    let ticket = two.turn(NOW + 10_001);
    assert_eq!((ticket[0].0.step.as_str(), ticket[0].1), ("ticket", false));
    // It is lost while it tells, and the first goes on: under the same key, and knowing that it may have been told.
    let news = two.core.take_news(NOW + 40_000);
    one.core.adopt(news);
    let again = one.turn(NOW + 41_000);
    assert_eq!((again[0].0.key.as_str(), again[0].1), (ticket[0].0.key.as_str(), true));
    one.core.ended(&again[0].0, StepOutcome::Done, "", NOW + 41_000);
    one.play(NOW + 41_000);
    assert_eq!(one.outcome(), Some(RunOutcome::Completed));
    // What the second still held to be under way has ended.
    two.core.runner.let_go();
    two.core.adopt(one.core.take_news(NOW + 60_000));
    assert!(two.outcome() == Some(RunOutcome::Completed) && two.turn(NOW + 61_000).is_empty());
}

#[test]
fn what_a_step_was_about_to_order_is_what_it_orders_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), "journal");
    assert_eq!(bench.turn(NOW)[0].0.orders, [planned()]);
    drop(bench);
    let mut bench = Bench::new(folder.path(), "journal");
    // Nothing is known of the incident any more.
    bench.cases.clear();
    let again = bench.turn(NOW + 5_000);
    assert_eq!((again[0].0.orders.as_slice(), again[0].1), ([planned()].as_slice(), true));
    assert_eq!(again[0].0.started_ms, Some(NOW));
}

#[test]
fn undoing_ends_a_run_once_nothing_is_under_way_and_takes_back_what_it_ordered() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), "journal");
    let ban = bench.turn(NOW).remove(0).0;
    bench.cases[0].is_undone = true;
    assert!(bench.turn(NOW + 1).is_empty(), "the ban is under way");
    bench.core.ended(&ban, StepOutcome::Done, "", NOW + 2);
    let revert = bench.turn(NOW + 3).remove(0).0;
    assert_eq!((revert.step.as_str(), revert.orders.as_slice()), ("(revert)", [planned()].as_slice()));
    bench.core.ended(&revert, StepOutcome::Done, "", NOW + 4);
    assert!(bench.turn(NOW + 5).is_empty());
    assert_eq!(bench.outcome(), Some(RunOutcome::Reverted));
}

#[test]
fn operators_answer_what_is_asked_and_start_a_run_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), "journal");
    assert!(matches!(bench.ask(&yes(), NOW), Err(NotAsked::Unknown(_))));
    bench.play(NOW);
    bench.play(NOW + 10_000);
    bench.ask(&yes(), NOW + 10_000).unwrap();
    // It was heard, and may be told again.
    bench.ask(&yes(), NOW + 10_001).unwrap();
    bench.cases.push(case(2, GravityWord::Low));
    let start = |id: u64| Asked::Start { playbook: "p".into(), incident: IncidentId(id).to_string() };
    bench.ask(&start(2), NOW + 11_000).unwrap();
    assert!(matches!(bench.ask(&start(2), NOW + 11_000), Err(NotAsked::Conflict(_))));
    assert!(bench.ask(&start(7), NOW + 11_000).is_err(), "no such incident");
}

#[test]
fn a_journal_that_cannot_be_written_ends_all_runs_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("journal"), "rubbish\n").unwrap();
    assert!(Core::open(&folder.path().join("journal")).is_err());
}

#[test]
fn orders_are_about_decisive_suspects_of_the_scope_and_spare_whom_they_could_hurt() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let suspect = |subject| CaseSuspect { subject, confidence: Confidence::High };
    let mut case = case(1, GravityWord::High);
    case.suspects = vec![
        suspect(Subject::address(ip("192.0.2.1"))),
        suspect(Subject::address(ip("192.0.2.2"))),
        suspect(Subject::address(ip("198.51.100.1"))),
        suspect(Subject::new(SubjectKind::Session, 5)),
        suspect(Subject::prefix(ip("203.0.113.1"))),
        suspect(Subject::new(SubjectKind::Secret, 5)),
    ];
    case.raisable = vec![7];
    // Five people are known at the second, and the third is exempt.
    let honest = |at: IpAddr| if at == ip("192.0.2.2") { 5 } else { 0 };
    let exempt = |at: IpAddr| at == ip("198.51.100.1");
    let known = Known { honest: &honest, exempt: &exempt };
    for (measure, scope, expected, left_out) in [
        ("ban", "address", "192.0.2.1", 2),
        ("ban", "client", "192.0.2.1", 2),
        ("challenge", "address", "192.0.2.1 192.0.2.2", 1),
        ("ban", "session", "session 0000000000000005", 0),
        ("ban", "prefix", "203.0.113.0/24 by operator", 0),
        ("ban", "account", "", 1),
        ("jump", "account", "", 1),
        ("raise-paranoia", "app", "rules of app 0000000000000007 by operator", 0),
        ("raise-paranoia", "route", "", 1),
    ] {
        let plan = Plan::of(&case, measure, scope, &known);
        let word = |order: &Planned| match order.by_operator {
            true => format!("{} by operator", order.actor),
            false => order.actor.to_string(),
        };
        let ordered: Vec<String> = plan.orders.iter().map(word).collect();
        assert_eq!(
            (ordered.join(" ").as_str(), plan.left_out.len()),
            (expected, left_out),
            "{measure} {scope}: {plan:?}"
        );
    }
}
