//! Playbooks: what comes after what, that a process killed at any moment does nothing twice, who is told how, and CACAO.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use phalanx_control::playbook::{
    Effect, Entry, Facts, Next, Run, RunOutcome, Runner, StepOutcome, cacao, read, starts,
};
use phalanx_control::receiver::{NotTold, Webhook};
use phalanx_model::{Clock, SystemClock};
use phalanx_policy::playbook::{
    ConfidenceWord, GravityWord, OnFailure, Playbook, PlaybookStep, StepAction, Trigger,
};
use serde_json::Value;

const NOW: u64 = 1_785_585_600_000;
const SECRET: &[u8] = b"a secret of some length";

/// The playbooks that are shipped, by name.
fn shipped() -> BTreeMap<String, Playbook> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packs/playbooks");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let playbook =
                read(&path.display().to_string(), &text).unwrap_or_else(|faults| panic!("{faults:?}"));
            assert_eq!(path.file_stem().unwrap().to_str().unwrap(), playbook.name);
            (playbook.name.clone(), playbook)
        })
        .collect()
}

fn facts(detector: &str, gravity: GravityWord) -> Facts {
    Facts {
        detectors: vec![detector.into()],
        gravity,
        confidence: ConfidenceWord::High,
        title: String::new(),
        summary: "one kind of software {gravity} tries passwords".into(),
        nodes: vec!["fra/a".into(), "sin/b".into()],
        last_ms: NOW,
    }
}

fn step(id: &str, on_failure: OnFailure, action: StepAction) -> PlaybookStep {
    PlaybookStep { id: id.into(), only_from: None, on_failure, action }
}

fn ban() -> StepAction {
    StepAction::Countermeasure { measure: "ban".into(), scope: "client".into(), for_ms: 60_000 }
}

fn notify() -> StepAction {
    StepAction::Notify { to: "oncall".into(), text: "{incident}, {gravity}: {summary} {who}".into() }
}

fn playbook(steps: Vec<PlaybookStep>) -> Playbook {
    let trigger = Trigger { manual: true, ..Trigger::default() };
    Playbook { name: "test".into(), version: 3, about: String::new(), trigger, steps }
}

#[test]
fn each_shipped_playbook_is_started_by_its_incidents_and_by_no_others() {
    let all = shipped();
    assert_eq!(all.len(), 6, "{:?}", all.keys());
    for (detector, gravity, expected) in [
        ("credential-stuffing", GravityWord::High, vec!["stuffing"]),
        ("credential-stuffing", GravityWord::Medium, vec![]),
        ("scraping", GravityWord::Low, vec!["scraping"]),
        ("flood", GravityWord::High, vec!["flood"]),
        ("exploit-attempts", GravityWord::Medium, vec!["exploit-attempt"]),
        ("scanning", GravityWord::Low, vec![]),
        ("session-theft", GravityWord::High, vec!["leaked-session"]),
        // Only an operator starts the answer to a hole.
        ("outage", GravityWord::Critical, vec![]),
    ] {
        let facts = facts(detector, gravity);
        let started: Vec<&str> =
            all.values().filter(|one| starts(&one.trigger, &facts)).map(|one| one.name.as_str()).collect();
        assert_eq!(started, expected, "{detector} {gravity:?}");
    }
}

/// A run, and what it was told; effects end as `fails` says.
fn play(
    playbook: &Playbook,
    mut facts: Facts,
    fails: &[&str],
    answers: &[(&str, bool)],
) -> (Vec<String>, Run) {
    let run_id = "test-3/inc-1".to_owned();
    let mut now_ms = NOW;
    let begun = Entry::Begun {
        run: run_id.clone(),
        at_ms: now_ms,
        incident: "inc-1".into(),
        playbook: Box::new(playbook.clone()),
    };
    let mut run = Run::begun(&begun).unwrap();
    let mut told = Vec::new();
    for _ in 0..200 {
        let entry = match run.next(&facts, now_ms) {
            Next::Over(_) => break,
            Next::Do(effect) => {
                told.push(format!("do {}", effect.step));
                Entry::Started { run: run_id.clone(), at_ms: now_ms, step: effect.step, orders: Vec::new() }
            }
            Next::Confirm(effect) => {
                let is_well = !fails.contains(&effect.step.as_str());
                let outcome = if is_well { StepOutcome::Done } else { StepOutcome::Failed };
                Entry::Ended {
                    run: run_id.clone(),
                    at_ms: now_ms,
                    step: effect.step,
                    outcome,
                    note: String::new(),
                }
            }
            Next::Write(entry) => {
                if let Entry::Ended { step, outcome, .. } = &entry {
                    told.push(format!("{outcome:?} {step}").to_lowercase());
                }
                entry
            }
            Next::Wait(until_ms) => {
                assert!(until_ms > now_ms, "it does not wait for what is past");
                if let Some((step, yes)) = answers.iter().find(|(step, _)| run.asks(step)) {
                    Entry::Answered {
                        run: run_id.clone(),
                        at_ms: now_ms,
                        step: (*step).into(),
                        yes: *yes,
                        by: "ann".into(),
                    }
                } else {
                    now_ms = until_ms;
                    // What is seen all the time is never quiet.
                    if facts.last_ms != NOW {
                        facts.last_ms = now_ms;
                    }
                    continue;
                }
            }
        };
        run.apply(&entry);
        // Read twice, as after a crash, it changes nothing.
        let once = run.clone();
        if !matches!(entry, Entry::Started { .. } | Entry::Ended { .. }) {
            run.apply(&entry);
            assert_eq!(run, once);
        }
    }
    (told, run)
}

#[test]
fn steps_come_in_order_and_failures_end_as_the_playbook_says() {
    let ask = |otherwise| StepAction::Ask { question: "?".into(), within_ms: 60_000, otherwise };
    let verify = StepAction::Verify { quiet_ms: 10_000, within_ms: 30_000 };
    let of = |on_failure| {
        let mut last = step("tell", OnFailure::Stop, notify());
        last.only_from = Some(GravityWord::Critical);
        playbook(vec![
            step("ban", OnFailure::Continue, ban()),
            step("pause", OnFailure::Stop, StepAction::Wait { for_ms: 5_000 }),
            step("quiet", on_failure, verify.clone()),
            step("sure", OnFailure::Stop, ask(false)),
            last,
        ])
    };
    let calm = || facts("scanning", GravityWord::High);
    let loud = || Facts { last_ms: NOW + 1, ..calm() };
    type Case<'a> = (Playbook, Facts, &'a [&'a str], &'a [(&'a str, bool)], &'a str, RunOutcome);
    let cases: [Case<'_>; 6] = [
        (
            of(OnFailure::Stop),
            calm(),
            &[],
            &[("sure", true)],
            "do ban, done pause, done quiet, done sure, skipped tell",
            RunOutcome::Completed,
        ),
        (
            of(OnFailure::Stop),
            calm(),
            &["ban"],
            &[("sure", false)],
            "do ban, done pause, done quiet, declined sure",
            RunOutcome::Declined,
        ),
        (
            of(OnFailure::Stop),
            calm(),
            &[],
            &[],
            "do ban, done pause, done quiet, declined sure",
            RunOutcome::Declined,
        ),
        (of(OnFailure::Stop), loud(), &[], &[], "do ban, done pause, failed quiet", RunOutcome::Failed),
        (
            of(OnFailure::Revert),
            loud(),
            &[],
            &[],
            "do ban, done pause, failed quiet, do (revert)",
            RunOutcome::Reverted,
        ),
        (
            of(OnFailure::Revert),
            loud(),
            &["(revert)"],
            &[],
            "do ban, done pause, failed quiet, do (revert)",
            RunOutcome::Failed,
        ),
    ];
    for (playbook, facts, fails, answers, expected, outcome) in cases {
        let (told, run) = play(&playbook, facts, fails, answers);
        assert_eq!((told.join(", ").as_str(), run.outcome), (expected, Some(outcome)));
    }
}

#[test]
fn texts_are_filled_once_and_a_revert_names_what_was_ordered() {
    let playbook = playbook(vec![
        step("ban", OnFailure::Stop, ban()),
        step("tell", OnFailure::Stop, notify()),
        step("back", OnFailure::Stop, StepAction::Revert),
    ]);
    let facts = facts("scanning", GravityWord::High);
    let begun =
        Entry::Begun { run: "r".into(), at_ms: NOW, incident: "inc-1".into(), playbook: Box::new(playbook) };
    let mut run = Run::begun(&begun).unwrap();
    let mut effects = Vec::new();
    while let Next::Do(effect) = run.next(&facts, NOW) {
        let (step, orders) = (effect.step.clone(), Vec::new());
        run.apply(&Entry::Started { run: "r".into(), at_ms: NOW, step, orders });
        let (step, note) = (effect.step.clone(), String::new());
        run.apply(&Entry::Ended { run: "r".into(), at_ms: NOW, step, outcome: StepOutcome::Done, note });
        effects.push(effect);
    }
    // What a stranger wrote into the summary is not filled in again.
    let text = "inc-1, high: one kind of software {gravity} tries passwords ".to_owned();
    assert_eq!(effects[1].action, StepAction::Notify { to: "oncall".into(), text });
    assert_eq!((effects[2].ordered.clone(), effects[2].key.as_str()), (vec!["r/ban".to_owned()], "r/back"));
}

/// Keys and bodies.
type Came = Arc<Mutex<Vec<(String, Value)>>>;

/// A receiver of webhooks: what came, and what it answers first.
fn receiver(first: &'static [u16]) -> (u16, Came) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let came = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&came);
    std::thread::spawn(move || {
        let mut first = first.iter();
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut fields = BTreeMap::new();
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
                if let Some((name, value)) = line.trim().split_once(": ") {
                    fields.insert(name.to_ascii_lowercase(), value.to_owned());
                }
                line.clear();
            }
            let length = fields.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            let mut body = vec![0; length];
            // Whoever is killed while it writes has told nothing.
            if reader.read_exact(&mut body).is_err() || length == 0 {
                continue;
            }
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
            let signed = [fields["x-phalanx-timestamp"].as_bytes(), b".", &body].concat();
            let tag = fields["x-phalanx-signature"].strip_prefix("v1=").unwrap();
            let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap();
            let byte = |pair: &[u8]| u8::try_from(digit(&pair[0]) * 16 + digit(&pair[1])).unwrap();
            let tag: Vec<u8> = tag.as_bytes().chunks(2).map(byte).collect();
            hmac::verify(&key, &signed, &tag).unwrap();
            let body = serde_json::from_slice(&body).unwrap();
            told.lock().unwrap().push((fields["idempotency-key"].clone(), body));
            let status = first.next().unwrap_or(&200);
            let _ = stream.write_all(format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").as_bytes());
        }
    });
    (port, came)
}

fn tell(port: u16) -> Result<(), NotTold> {
    let hook = Webhook::new(&format!("http://127.0.0.1:{port}/hook"), SECRET, true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(hook.tell("run/step", &serde_json::json!({ "text": "x" }), || NOW))
}

#[test]
fn a_webhook_is_signed_tried_again_under_the_same_key_and_not_after_a_no() {
    let (port, came) = receiver(&[503]);
    tell(port).unwrap();
    let came = came.lock().unwrap();
    assert_eq!(came.len(), 2);
    assert!(came.iter().all(|(key, body)| key == "\"run/step\"" && body["text"] == "x"), "{came:?}");
    let (port, came) = receiver(&[410]);
    assert!(matches!(tell(port), Err(NotTold::Refused(status)) if status.starts_with("410")));
    assert_eq!(came.lock().unwrap().len(), 1);
}

/// Effects of a process that may be killed at any of its points.
struct Killable {
    folder: PathBuf,
    hook: Webhook,
    kill_at: usize,
}

static POINT: AtomicUsize = AtomicUsize::new(0);

/// Tells the parent where it is, and waits to be killed there.
fn point(kill_at: usize) {
    if POINT.fetch_add(1, Ordering::SeqCst) == kill_at {
        println!("\nhere");
        std::io::stdout().flush().unwrap();
        loop {
            std::thread::park();
        }
    }
}

impl Killable {
    /// Decisions as a node keeps them: one for each key.
    fn orders(&self) -> BTreeSet<String> {
        let text = std::fs::read_to_string(self.folder.join("orders")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Killable {
    async fn perform(&self, effect: &Effect) -> Result<String, String> {
        point(self.kill_at);
        let done = match &effect.action {
            StepAction::Notify { text, .. } | StepAction::Ticket { text, .. } => {
                let body = serde_json::json!({"text": text, "key": effect.key});
                let now = || SystemClock.now_ms();
                self.hook.tell(&effect.key, &body, now).await.map_err(|error| error.to_string())
            }
            _ => {
                let file =
                    std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("orders"));
                file.unwrap().write_all(format!("{}\n", effect.key).as_bytes()).unwrap();
                Ok(())
            }
        };
        point(self.kill_at);
        done.map(|()| "done".into())
    }

    /// Whether it is known to be done.
    fn is_done(&self, effect: &Effect) -> bool {
        point(self.kill_at);
        self.orders().contains(&effect.key)
    }
}

/// Not a test: what the next one starts, and kills.
#[test]
fn a_process_that_runs_a_playbook() {
    let (Ok(folder), Ok(port)) = (std::env::var("PLAYBOOK_FOLDER"), std::env::var("PLAYBOOK_PORT")) else {
        return;
    };
    let kill_at = std::env::var("PLAYBOOK_KILL_AT").map_or(usize::MAX, |text| text.parse().unwrap());
    let folder = PathBuf::from(folder);
    let hook = Webhook::new(&format!("http://127.0.0.1:{port}/"), SECRET, true).unwrap();
    let effects = Killable { folder: folder.clone(), hook, kill_at };
    let mut runner = Runner::open(&folder.join("journal")).unwrap();
    let clock = SystemClock;
    let playbook = playbook(vec![
        step("ban", OnFailure::Stop, ban()),
        step("tell", OnFailure::Stop, notify()),
        step("pause", OnFailure::Stop, StepAction::Wait { for_ms: 20 }),
        step("ticket", OnFailure::Stop, StepAction::Ticket { to: "t".into(), text: "{incident}".into() }),
        step("quiet", OnFailure::Stop, StepAction::Verify { quiet_ms: 10, within_ms: 60_000 }),
        step("back", OnFailure::Stop, StepAction::Revert),
    ]);
    runner.begin(&playbook, "inc-1", clock.now_ms()).unwrap();
    assert!(!runner.begin(&playbook, "inc-1", clock.now_ms()).unwrap(), "once for each incident");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    while runner.runs().any(|run| run.outcome.is_none()) {
        let facts = |_: &str| {
            point(kill_at);
            Some(Facts { last_ms: 0, ..facts("scanning", GravityWord::High) })
        };
        let due = runner.due(facts, |_| Vec::new(), clock.now_ms()).unwrap();
        for (effect, is_doubtful) in &due.effects {
            let told = match *is_doubtful && effects.is_done(effect) {
                true => Ok("it is in force".to_owned()),
                false => runtime.block_on(effects.perform(effect)),
            };
            let (outcome, note) =
                told.map_or_else(|why| (StepOutcome::Failed, why), |note| (StepOutcome::Done, note));
            runner.ended(effect, outcome, &note, clock.now_ms()).unwrap();
        }
        // It waits until its next step, as a node does.
        let wait_ms = due.again_ms.map_or(0, |again_ms| again_ms.saturating_sub(clock.now_ms()));
        runtime.block_on(async { tokio::time::sleep(std::time::Duration::from_millis(wait_ms)).await });
    }
    println!("\nfinished {}", POINT.load(Ordering::SeqCst));
}

/// Runs it; kills it at a point, if it comes there. Says after how many points it finished.
fn process(folder: &Path, port: u16, kill_at: Option<usize>) -> Option<usize> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "playbooks::a_process_that_runs_a_playbook", "--nocapture"]);
    command.env("PLAYBOOK_FOLDER", folder).env("PLAYBOOK_PORT", port.to_string());
    if let Some(kill_at) = kill_at {
        command.env("PLAYBOOK_KILL_AT", kill_at.to_string());
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut finished = None;
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if line == "here" {
            // SIGKILL: nothing in the process runs after it.
            child.kill().unwrap();
        }
        finished = finished.or_else(|| line.strip_prefix("finished ")?.parse().ok());
    }
    child.wait().unwrap();
    finished
}

#[test]
fn a_run_killed_at_any_moment_goes_on_and_does_no_step_twice() {
    let whole = tempfile::tempdir().unwrap();
    let points = process(whole.path(), receiver(&[]).0, None).unwrap();
    assert!(points > 15, "{points}");
    let mut repeated = 0;
    for kill_at in 0..points {
        let folder = tempfile::tempdir().unwrap();
        let (port, came) = receiver(&[]);
        // Killed twice: at this point, and again three points into the next attempt.
        let first = process(folder.path(), port, Some(kill_at));
        let second = first.or_else(|| process(folder.path(), port, Some(3)));
        let finished = second.or_else(|| process(folder.path(), port, None));
        assert!(finished.is_some(), "killed at {kill_at}, it ends");
        let orders = std::fs::read_to_string(folder.path().join("orders")).unwrap();
        assert_eq!(orders, "test-3/inc-1/ban\ntest-3/inc-1/back\n", "killed at {kill_at}");
        // Who knows the key does each once; who does not is told once more for each time it was killed while telling.
        let came = came.lock().unwrap();
        let keys: BTreeSet<&str> = came.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, BTreeSet::from(["\"test-3/inc-1/tell\"", "\"test-3/inc-1/ticket\""]), "{kill_at}");
        assert!(came.len() <= 4, "killed at {kill_at}: {came:?}");
        repeated += came.len() - keys.len();
        let journal = std::fs::read_to_string(folder.path().join("journal")).unwrap();
        let entries: Vec<Entry> = journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ended: Vec<&str> = entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Ended { step, outcome: StepOutcome::Done, .. } => Some(step.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(ended, ["ban", "tell", "pause", "ticket", "quiet", "back"], "killed at {kill_at}");
        assert!(matches!(entries.last(), Some(Entry::Finished { outcome: RunOutcome::Completed, .. })));
    }
    eprintln!("killed at each of {points} points: {repeated} notices came again, under their keys");
}

#[test]
fn half_a_line_at_the_journals_end_is_cut_off_and_a_line_that_is_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (mut journal, _) = phalanx_control::playbook::Journal::open(&path).unwrap();
    let playbook = Box::new(playbook(vec![step("ban", OnFailure::Stop, ban())]));
    let begun = Entry::Begun { run: "r".into(), at_ms: NOW, incident: "i".into(), playbook };
    journal.append(&begun).unwrap();
    drop(journal);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [whole.as_slice(), b"{\"entry\":\"star"].concat()).unwrap();
    let (mut journal, entries) = phalanx_control::playbook::Journal::open(&path).unwrap();
    assert_eq!(entries, [begun]);
    let busy = phalanx_control::playbook::Journal::open(&path).unwrap_err();
    assert_eq!(busy.kind(), std::io::ErrorKind::WouldBlock, "one process has it at a time");
    let (step, orders) = ("ban".into(), Vec::new());
    journal.append(&Entry::Started { run: "r".into(), at_ms: NOW, step, orders }).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    drop(journal);
    std::fs::write(&path, b"{}\n").unwrap();
    let fault = phalanx_control::playbook::Journal::open(&path).unwrap_err().to_string();
    assert!(fault.contains("journal:1: missing field `entry`"), "{fault}");
}

#[test]
fn shipped_playbooks_go_out_as_cacao_and_come_back_as_they_were() {
    for (name, playbook) in shipped() {
        let document = cacao::export(&playbook, NOW);
        hold_to_cacao(&document);
        let back = cacao::import(&document.to_string()).unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        assert_eq!(read(&name, &back.text).unwrap(), playbook);
        assert!(back.notes.is_empty());
        if name == "flood" {
            let shown = serde_json::to_string_pretty(&document).unwrap() + "\n";
            if std::env::var_os("PHALANX_BLESS").is_some() {
                let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/flood.cacao.json");
                std::fs::write(path, &shown).unwrap();
            }
            assert_eq!(shown, include_str!("flood.cacao.json"));
        }
    }
}

/// What the specification requires of a playbook (CACAO 2.0, sections 3.1, 4, 5.1, 7.1 and 10.10).
fn hold_to_cacao(document: &Value) {
    let is_id = |id: &str, kind: Option<&str>| {
        let (of, uuid) = id.split_once("--").unwrap();
        let parts: Vec<usize> = uuid.split('-').map(str::len).collect();
        kind.is_none_or(|kind| of == kind)
            && parts == [8, 4, 4, 4, 12]
            && uuid.as_bytes()[14] == b'4'
            && b"89ab".contains(&uuid.as_bytes()[19])
    };
    let text = |name: &str| document[name].as_str().unwrap_or_else(|| panic!("{name} is missing"));
    assert_eq!((text("type"), text("spec_version")), ("playbook", "cacao-2.0"));
    assert!(is_id(text("id"), Some("playbook")) && is_id(text("created_by"), Some("identity")));
    assert!(!text("name").is_empty() && text("created") <= text("modified"));
    let workflow = document["workflow"].as_object().unwrap();
    assert_eq!(workflow[text("workflow_start")]["type"], "start");
    let mut activities = BTreeSet::new();
    for (id, step) in workflow {
        let kind = step["type"].as_str().unwrap();
        assert!(is_id(id, Some(kind)), "{id}");
        for next in ["on_completion", "on_success", "on_failure"] {
            let target = step[next].as_str();
            assert!(target.is_none_or(|target| workflow.contains_key(target)), "{id} {next}");
        }
        let has = |name: &str| !step[name].is_null();
        match kind {
            "start" => assert!(has("on_completion") && !has("on_success") && !has("on_failure")),
            "end" => assert!(!has("on_completion") && !has("on_success") && !has("on_failure")),
            "action" => {
                assert!(has("on_success") && !has("on_completion"));
                assert!(!document["agent_definitions"][step["agent"].as_str().unwrap()].is_null());
                for command in step["commands"].as_array().unwrap() {
                    assert!(command["type"] == "manual" && command["command"].is_string());
                    activities.insert(command["playbook_activity"].as_str().unwrap());
                }
            }
            other => panic!("{other}"),
        }
    }
    let told = document["playbook_activities"].as_array().unwrap();
    assert!(told.iter().all(|activity| activities.contains(activity.as_str().unwrap())));
    for part in ["agent_definitions", "extension_definitions"] {
        for (id, object) in document[part].as_object().unwrap() {
            assert!(is_id(id, object["type"].as_str()) && object["name"].is_string(), "{id}");
        }
    }
    let extension = document["extension_definitions"].as_object().unwrap().keys().next().unwrap();
    assert!(!document["playbook_extensions"][extension].is_null());
}

#[test]
fn of_other_peoples_cacao_comes_what_maps_and_the_rest_is_named() {
    let of = |steps: &str| {
        format!(
            r#"{{"type":"playbook","spec_version":"cacao-2.0","name":"Their Playbook","workflow_start":"start--1","workflow":{{
            "start--1":{{"type":"start","on_completion":"a"}},{steps},"end--1":{{"type":"end"}}}}}}"#
        )
    };
    let manual = r#"{"type":"manual","command":"Call {someone}"}"#;
    let plain = of(&format!(
        r#""a":{{"type":"action","name":"Ring up","delay":5000,"commands":[{manual},{{"type":"http-api","command":"POST /x HTTP/1.1"}}],"on_success":"end--1"}}"#
    ));
    let taken = cacao::import(&plain).unwrap();
    let playbook = read("p", &taken.text).unwrap();
    let steps: Vec<(&str, &str)> =
        playbook.steps.iter().map(|step| (step.id.as_str(), step.action.name())).collect();
    assert_eq!(steps, [("ring-up-delay", "wait"), ("ring-up", "ask"), ("ring-up-3", "notify")]);
    assert!(playbook.trigger.manual && playbook.name == "their-playbook");
    assert_eq!(taken.notes.len(), 2, "{:?}", taken.notes);
    for (steps, part) in [
        (
            r#""a":{"type":"action","commands":[{"type":"bash","command":"rm"}],"on_success":"end--1"}"#,
            "a command bash maps to nothing",
        ),
        (
            r#""a":{"type":"if-condition","condition":"x","on_true":"end--1"}"#,
            "nothing here is like a step if-condition",
        ),
        (r#""a":{"type":"action","commands":[],"on_success":"a"}"#, "comes again"),
        (r#""a":{"type":"action","commands":[],"on_success":"b"}"#, "no step `b`"),
        (r#""b":{"type":"end"}"#, "no step `a`"),
    ] {
        let faults = cacao::import(&of(steps)).unwrap_err().join("\n");
        assert!(faults.contains(part), "{steps}: {faults}");
    }
    assert!(cacao::import("{}").is_err() && cacao::import("[").is_err());
}

/// Whatever somebody sends: a playbook or reasons, and never text that cannot be read as a playbook's.
#[test]
fn any_document_is_a_playbook_or_faults() {
    let whole = cacao::export(&shipped()["flood"], NOW).to_string();
    for place in 0..whole.len() {
        let mut bytes = whole.clone().into_bytes();
        bytes[place] = b"\"{}[]:,0x"[place % 9];
        let Ok(text) = String::from_utf8(bytes) else { continue };
        if let Ok(taken) = cacao::import(&text) {
            let read = read("p", &taken.text);
            let faults = read.err().unwrap_or_default();
            assert!(faults.iter().all(|fault| !fault.message.contains("TOML")), "{text}: {faults:?}");
        }
        assert!(whole.get(..place).is_none_or(|part| cacao::import(part).is_err()));
    }
}
