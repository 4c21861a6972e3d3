//! The recorder as a whole: lanes in, files and answers out.
#[cfg(test)]
mod access;
#[cfg(test)]
mod events;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod logs;
#[cfg(feature = "otel")]
#[cfg(test)]
mod spans;
#[cfg(test)]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use phalanx_model::limits::{HISTORY_RECORD_BYTES_MAX, SIGNALS_KEPT_MAX};
use phalanx_model::{Action, Actor, LedgerEntry, LedgerKind, Reason, SecurityEvent, Strike};
use phalanx_record::{Consequence, Explanation, Filter, Part, ledger};
use support::*;

#[test]
fn a_refused_request_is_found_by_everything_it_is_known_by() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(settings(dir.path()));
    for n in 0..20 {
        lanes.security(if n % 4 == 0 { observed(n) } else { refused(n) });
    }
    wait(&recorder.status(), "20 requests are kept", |r| written(r, Part::History) == 20);
    let history = recorder.history();
    let ids = |filter: Filter| -> Vec<u64> {
        history.recent(&filter).unwrap().iter().map(|r| r.access.at_ms - NOW).collect()
    };
    let all = Filter { limit: 100, ..Filter::default() };
    assert_eq!(ids(all.clone()), (0..20).rev().collect::<Vec<_>>());
    assert_eq!(ids(Filter { limit: 3, ..all.clone() }), [19, 18, 17]);
    assert_eq!(ids(Filter { before: Some(id(3)), ..all.clone() }), [2, 1, 0]);
    assert_eq!(ids(Filter { since_ms: Some(NOW + 18), ..all.clone() }), [19, 18]);
    assert_eq!(ids(Filter { action: Some(Action::Observe), ..all.clone() }), [16, 12, 8, 4, 0]);
    assert_eq!(ids(Filter { rule: Some(941_100), before: Some(id(12)), ..all.clone() }), [8, 4, 0]);
    assert_eq!(ids(Filter { client: "2001:db8::7".parse().ok(), ..all.clone() }), [16, 12, 8, 4, 0]);
    assert_eq!(ids(Filter { client: "2001:db8::8".parse().ok(), ..all.clone() }), [0; 0]);
    let both = Filter {
        client: "2001:db8::7".parse().ok(),
        rule: Some(941_100),
        since_ms: Some(NOW + 5),
        ..all.clone()
    };
    assert_eq!(ids(both), [16, 12, 8]);
    assert_eq!(
        ids(Filter { client: "203.0.113.9".parse().ok(), rule: Some(941_100), ..all.clone() }),
        [0; 0]
    );
    let mapped = Filter { client: "::ffff:203.0.113.9".parse().ok(), limit: 1, ..all };
    assert_eq!(ids(mapped), [19]);
    assert_eq!(history.request(id(5)).unwrap().unwrap().signals.len(), 1);
    assert!(history.request(id(99)).unwrap().is_none());
    recorder.stop();
}

#[test]
fn a_record_that_would_be_too_large_keeps_its_findings_with_less_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(settings(dir.path()));
    let fragment = "x".repeat(256);
    let tags: Vec<_> = (0..9).map(|n| format!("a tag of which every rule has some, {n}").into()).collect();
    let signals = (0..SIGNALS_KEPT_MAX as u64).map(|n| {
        let mut signal = signal(942_000 + n, "ARGS:q", &fragment);
        Arc::make_mut(&mut signal.rule).tags.clone_from(&tags);
        signal.matches = vec![signal.matches[0].clone(); 8];
        signal
    });
    let signals: Vec<_> = signals.collect();
    lanes.security(security(access(1), signals[..32].to_vec()));
    lanes.security(security(access(2), signals));
    wait(&recorder.status(), "the requests are kept", |r| written(r, Part::History) == 2);
    let record = |n| recorder.history().request(id(n)).unwrap().unwrap();
    assert_eq!(record(1).rule_ids().len(), 32);
    assert!(record(1).signals.iter().all(|signal| !signal.matches[0].fragment.is_empty()));
    assert_eq!(record(2).rule_ids().len(), SIGNALS_KEPT_MAX);
    for n in [1, 2] {
        assert!(serde_json::to_vec(&record(n)).unwrap().len() <= HISTORY_RECORD_BYTES_MAX);
    }
    recorder.stop();
}

#[test]
fn a_recorder_that_releases_its_lanes_wrote_what_was_there_and_leaves_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(settings(dir.path()));
    let kind = || LedgerKind::Node { state: "handed over".into() };
    lanes.ledger(LedgerEntry { at_ms: NOW, kind: kind() }).unwrap();
    lanes.security(refused(1));
    let mut released = recorder.release().unwrap();
    assert!(released.ledger.is_empty());
    assert_eq!(ledger::verify(&dir.path().join("record/ledger")).unwrap().entries, 1);
    lanes.ledger(LedgerEntry { at_ms: NOW + 1, kind: kind() }).unwrap();
    lanes.security(refused(2));
    assert_eq!(released.lanes.ledger.try_recv().unwrap().at_ms, NOW + 1);
    assert!(matches!(released.lanes.security.try_recv(), Ok(SecurityEvent::Request { .. })));
    // Another process opens the same files.
    let (recorder, _) = start(settings(dir.path()));
    assert!(recorder.history().request(id(1)).unwrap().is_some());
    recorder.stop();
}

#[test]
fn passed_and_refused_requests_are_in_the_access_log() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(settings(dir.path()));
    let mut passed = access(1);
    passed.user_agent = "a\u{202e}b\n{\"log\":\"forged\"}".into();
    passed.verdict = phalanx_model::Verdict::allow(Reason::Clean);
    lanes.access(Box::new(passed));
    lanes.security(refused(2));
    recorder.stop();
    let text = std::fs::read_to_string(dir.path().join("record/access.log")).unwrap();
    let mut logs: Vec<String> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["log"].as_str().unwrap().to_owned()
        })
        .collect();
    logs.sort();
    assert_eq!(logs, ["access", "security"]);
    assert!(!text.contains('\u{202e}'));
    assert!(text.contains("942100") && !text.contains("Matched Data"));
}

#[test]
fn what_followed_from_a_request_explains_it() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(settings(dir.path()));
    let actor = Actor::ip("203.0.113.9".parse().unwrap());
    let strike = Strike { request: id(1), at_ms: NOW + 1, actor: actor.clone(), count: 3 };
    // The strike is known before the request has ended.
    lanes.security(SecurityEvent::Strike(strike));
    lanes.security(refused(1));
    let decision = Arc::new(decision(actor));
    lanes.ledger(LedgerEntry { at_ms: NOW, kind: LedgerKind::Decided { decision } }).unwrap();
    wait(&recorder.status(), "all is kept", |r| written(r, Part::History) == 3);
    let history = recorder.history();
    let consequences = history.consequences(id(1)).unwrap();
    assert_eq!(consequences.len(), 2);
    assert!(consequences.iter().any(|c| matches!(c, Consequence::Strike { strike } if strike.count == 3)));
    let explanation = Explanation::new(history.request(id(1)).unwrap().unwrap(), consequences);
    let expected = include_str!("explanation.txt");
    assert_eq!(explanation.summary.join("\n"), expected.trim_end());
    recorder.stop();
}

#[test]
fn of_many_stopped_alike_each_is_explained_by_one_that_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(settings(dir.path()));
    let decision = Arc::new(decision(Actor::ip(access(1).client)));
    let challenged = |n, reason| {
        let mut access = access(n);
        access.verdict =
            phalanx_model::Verdict { action: Action::Challenge, ..phalanx_model::Verdict::deny(reason, 403) };
        access
    };
    let by = |decision: &Arc<phalanx_model::Decision>| Reason::Decision { decision: Arc::clone(decision) };
    let other = Arc::new(phalanx_model::Decision { id: id(51), ..(*decision).clone() });
    lanes.security(security(challenged(1, by(&decision)), Vec::new()));
    lanes.access(Box::new(challenged(2, by(&decision))));
    lanes.access(Box::new(challenged(3, by(&other))));
    let history = recorder.history();
    recorder.stop();
    let explained = |n| Explanation::new(history.request(id(n)).unwrap().unwrap(), Vec::new());
    let (kept, repeated, lost) = (explained(1), explained(2), explained(3));
    assert_eq!((repeated.decision.as_ref(), repeated.like), (kept.decision.as_ref(), Some(id(1))));
    assert_eq!(repeated.summary[1], kept.summary[1]);
    let steps = |one: &Explanation| one.next.iter().map(|step| step.command.clone()).collect::<Vec<_>>();
    assert!(steps(&repeated).contains(&format!("phalanx decision delete {}", decision.id)));
    // What nobody kept is not known, which is not the same as that there was nothing.
    assert!(lost.summary[1].starts_with("A standing decision or a limit stopped it"), "{:?}", lost.summary);
    assert!(steps(&lost).iter().any(|step| step == "phalanx decision list"), "{:?}", lost.next);
}

fn decision(actor: Actor) -> phalanx_model::Decision {
    phalanx_model::Decision {
        id: id(50),
        actor,
        kind: phalanx_model::DecisionKind::Ban,
        author: phalanx_model::Author {
            site: "fra".into(),
            node: "a".into(),
            role: phalanx_model::AuthorRole::Node,
        },
        reason: "3 attacks in 60 s".into(),
        evidence: Some(id(1)),
        confidence_percent: 90,
        created_at_ms: NOW + 2,
        expires_at_ms: NOW + 300_002,
        version: 1,
    }
}

#[test]
fn live_subscribers_see_requests_as_they_are_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(settings(dir.path()));
    let mut live = recorder.live().subscribe();
    lanes.security(refused(1));
    assert_eq!(live.blocking_recv().unwrap().id(), id(1));
    recorder.stop();
}

#[test]
fn the_oldest_requests_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.history_rows_max = 64;
    let (recorder, lanes) = start(settings);
    for n in 0..300 {
        lanes.security(refused(n));
    }
    wait(&recorder.status(), "300 requests are kept", |r| written(r, Part::History) == 300);
    let kept = recorder.history().recent(&Filter { limit: 500, ..Filter::default() }).unwrap();
    assert!((60..=64).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept[0].id(), id(299));
    let by_rule = Filter { rule: Some(942_100), limit: 500, ..Filter::default() };
    assert_eq!(recorder.history().recent(&by_rule).unwrap().len(), kept.len());
    recorder.stop();
}

#[test]
fn history_and_ledger_go_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=2 {
        let (recorder, lanes) = start(settings(dir.path()));
        lanes.security(refused(n));
        let kind = LedgerKind::Node { state: "started".into() };
        lanes.ledger(LedgerEntry { at_ms: NOW, kind }).unwrap();
        recorder.stop();
    }
    let (recorder, _lanes) = start(settings(dir.path()));
    assert_eq!(recorder.history().recent(&Filter::default()).unwrap().len(), 2);
    recorder.stop();
    assert_eq!(ledger::verify(&dir.path().join("record/ledger")).unwrap().entries, 2);
}

#[test]
fn a_damaged_history_is_set_aside_and_named() {
    for damage in
        [b"this is no database, but long enough to be read as the header of one..".to_vec(), vec![0xa5; 9000]]
    {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        std::fs::create_dir_all(dir.path().join("record")).unwrap();
        let (recorder, lanes) = start(settings.clone());
        lanes.security(refused(1));
        recorder.stop();
        std::fs::write(dir.path().join("record/history.db"), &damage).unwrap();
        let (recorder, lanes) = start(settings);
        let degraded = recorder.status().report().degraded().join("\n");
        assert!(degraded.contains(&format!("history.db.corrupt-{NOW}")), "{degraded}");
        lanes.security(refused(2));
        wait(&recorder.status(), "the new history is written", |r| written(r, Part::History) == 1);
        assert!(recorder.history().request(id(2)).unwrap().is_some());
        recorder.stop();
        let aside = dir.path().join(format!("record/history.db.corrupt-{NOW}"));
        assert_eq!(std::fs::read(aside).unwrap(), damage);
    }
}

#[test]
fn a_history_whose_key_is_gone_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(settings(dir.path()));
    lanes.security(refused(1));
    recorder.stop();
    std::fs::remove_file(dir.path().join("seal.key")).unwrap();
    let (recorder, lanes) = start(settings(dir.path()));
    lanes.security(refused(2));
    wait(&recorder.status(), "the new history is written", |r| written(r, Part::History) == 1);
    assert_eq!(recorder.history().recent(&Filter::default()).unwrap().len(), 1);
    assert_eq!(recorder.status().report().set_aside.len(), 1);
    recorder.stop();
}

#[test]
fn no_secret_reaches_a_file() {
    const MARKER: &str = "mArKeRsEcReT77";
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(settings(dir.path()));
    let mut live = recorder.live().subscribe();
    let mut access = access(1);
    access.target = format!("/login?user=ann&password={MARKER}&next=//ann:{MARKER}@shop/");
    access.referer = format!("https://shop/?access_token={MARKER}");
    access.user_agent = format!("x Bearer {MARKER}");
    lanes.access(Box::new(access.clone()));
    let mut signals: Vec<_> = [
        "REQUEST_HEADERS:Authorization",
        "REQUEST_COOKIES:theme",
        "REQUEST_HEADERS:Cookie",
        "ARGS:password",
        "ARGS_POST:user[pwd]",
        "ARGS:json.login.secret",
    ]
    .iter()
    .map(|variable| signal(942_100, variable, MARKER))
    .collect();
    signals.push(signal(942_101, "REQUEST_BODY", &format!("user=ann&password={MARKER}")));
    signals.push(signal(942_102, "REQUEST_URI", &format!("/x?token={MARKER}")));
    signals.push(signal(942_103, "REQUEST_BODY", &format!("{{\"password\":\"{MARKER}\"}}")));
    lanes.security(security(access, signals));
    let shown = live.blocking_recv().unwrap();
    assert!(!serde_json::to_string(&*shown).unwrap().contains(MARKER));
    wait(&recorder.status(), "it is kept", |r| written(r, Part::History) == 1);
    let kept = recorder.history().request(id(1)).unwrap().unwrap();
    let explanation = Explanation::new(kept, vec![]);
    assert!(!serde_json::to_string(&explanation).unwrap().contains(MARKER));
    recorder.stop();
    let found = files(dir.path());
    assert!(found.len() >= 3);
    for path in found {
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(MARKER.len()).any(|w| w == MARKER.as_bytes()), "{}", path.display());
    }
}

#[test]
fn text_from_strangers_is_sealed_in_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(settings(dir.path()));
    lanes.security(refused(1));
    wait(&recorder.status(), "it is kept", |r| written(r, Part::History) == 1);
    for path in files(&dir.path().join("record")) {
        if path.file_name().unwrap().to_string_lossy().starts_with("history") {
            let bytes = std::fs::read(&path).unwrap();
            for text in ["203.0.113.9", "shop.example", "or%20", "libinjection"] {
                assert!(
                    !bytes.windows(text.len()).any(|w| w == text.as_bytes()),
                    "{text} in {}",
                    path.display()
                );
            }
        }
    }
    recorder.stop();
}

#[test]
fn files_and_directories_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(settings(dir.path()));
    lanes.security(refused(1));
    let kind = LedgerKind::Node { state: "started".into() };
    lanes.ledger(LedgerEntry { at_ms: NOW, kind }).unwrap();
    wait(&recorder.status(), "it is kept", |r| {
        written(r, Part::History) == 1 && written(r, Part::Ledger) == 1
    });
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("record")), 0o700);
    for path in files(&dir.path().join("record")) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    recorder.stop();
}

#[test]
fn metrics_show_counters_and_the_recorders_state() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(settings(dir.path()));
    let counters = Arc::new(phalanx_model::counters::WorkerCounters::default());
    counters.requests.store(7, Ordering::Relaxed);
    counters.requests_denied.store(2, Ordering::Relaxed);
    counters.class_signals[0].store(4, Ordering::Relaxed);
    counters.class_refusals[4].store(1, Ordering::Relaxed);
    let sources = phalanx_record::MetricsSources {
        counters: vec![counters],
        lanes: lanes.clone(),
        recorder: recorder.status(),
        gauges: Box::new(|| phalanx_record::NodeGauges { plan_version: 3, ..Default::default() }),
    };
    let text = phalanx_record::Metrics::new(sources, "0.1.0").render();
    for line in [
        "phalanx_requests_total 7",
        "phalanx_verdicts_total{action=\"deny\"} 2",
        "phalanx_lane_dropped_total{lane=\"access\"} 0",
        "phalanx_recorder_failing{part=\"history\"} 0",
        "phalanx_plan_version 3",
        "phalanx_signals_total{class=\"detection\",confidence=\"high\"} 4",
        "phalanx_signals_total{class=\"detection\",confidence=\"medium\"} 0",
        "phalanx_signals_total{class=\"policy\",confidence=\"\"} 0",
        "phalanx_rule_refusals_total{class=\"policy\",confidence=\"\"} 1",
        "phalanx_build_info{version=\"0.1.0\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    recorder.stop();
}

#[test]
fn a_record_of_an_older_version_is_read_and_explained() {
    let old: phalanx_record::RecordedRequest = serde_json::from_str(include_str!("old.json")).unwrap();
    let signal = &old.signals[0];
    assert!(signal.inbound.is_none() && !signal.observed && signal.matches[0].steps.is_empty());
    let words = Explanation::new(old, vec![]).summary.join("\n");
    assert!(words.contains("matched ARGS:q: `1' or '1'='1` after urlDecodeUni; score +5."), "{words}");
}

#[test]
fn a_secret_is_in_no_form_of_a_value() {
    let mut signals = vec![signal(1, "REQUEST_BODY", "x")];
    let step = |name: &str, value: &str| phalanx_model::Step {
        name: name.into(),
        value: Some(value.into()),
        changed: true,
    };
    let one = &mut signals[0].matches[0];
    one.value = Some("cGFzc3dvcmQ9aHVudGVyMg".into());
    one.steps = vec![step("base64Decode", "password=hunter2"), step("hexEncode", "70617373")];
    phalanx_record::redact::request(&mut access(1), &mut signals);
    let one = &signals[0].matches[0];
    let steps: Vec<_> = one.steps.iter().map(|step| step.value.as_deref().unwrap()).collect();
    assert_eq!(one.value.as_deref(), Some("[masked]"));
    assert_eq!(steps, ["password=[masked]", "[masked]"]);
}

#[test]
fn a_record_with_many_values_keeps_its_findings() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, lanes) = start(settings(dir.path()));
    let long = "x".repeat(250);
    let signals: Vec<_> = (0..40)
        .map(|n| {
            let mut signal = signal(n, "ARGS:q", "1");
            let step = signal.matches[0].steps[0].clone();
            let step = phalanx_model::Step { value: Some(long.clone()), ..step };
            signal.matches[0].steps = vec![step; 6];
            signal
        })
        .collect();
    lanes.security(security(access(1), signals));
    wait(&recorder.status(), "it is kept", |r| written(r, Part::History) == 1);
    let kept = recorder.history().request(id(1)).unwrap().unwrap();
    assert!(kept.signals.len() >= 12, "{}", kept.signals.len());
    assert_eq!(kept.signals[0].matches[0].steps[5].value.as_deref(), Some(long.as_str()));
    assert_eq!(kept.signals[11].matches[0].steps.len(), 6, "names are kept");
    recorder.stop();
}
