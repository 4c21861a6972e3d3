//! A recorder in a directory of its own, and events to feed it.

use std::path::Path;
use std::sync::Arc;

use phalanx_model::lanes::Lanes;
use phalanx_model::{
    AccessEvent, Action, Confidence, ManualClock, Reason, RequestId, RuleClass, RuleInfo, RuleMatch,
    SecurityEvent, Severity, Signal, Verdict, id::node_tag,
};
use phalanx_record::{Part, RecordSettings, Recorder, RecorderReport, RecorderStatus};
use phalanx_trust::Sealer;

pub(crate) const NOW: u64 = 1_785_585_600_000;

pub(crate) fn settings(dir: &Path) -> RecordSettings {
    let sealer = Arc::new(Sealer::load_or_create(&dir.join("seal.key")).unwrap());
    let mut settings =
        RecordSettings::new(&dir.join("record"), "fra", "a", sealer, Arc::new(ManualClock::at(NOW)));
    settings.retry_ms = 5;
    settings
}

pub(crate) fn start(settings: RecordSettings) -> (Recorder, Lanes) {
    let (lanes, readers) = Lanes::new();
    (Recorder::open(settings, readers).unwrap(), lanes)
}

pub(crate) fn id(n: u64) -> RequestId {
    RequestId::from_parts(NOW + n, node_tag("fra", "a"), n)
}

pub(crate) fn access(n: u64) -> AccessEvent {
    AccessEvent {
        id: id(n),
        at_ms: NOW + n,
        app: "shop".into(),
        route: None,
        client: "203.0.113.9".parse().unwrap(),
        peer: "203.0.113.9".parse().unwrap(),
        method: "GET".into(),
        host: "shop.example".into(),
        target: "/search?q=1'%20or%20'1'='1".into(),
        protocol: "HTTP/1.1".into(),
        user_agent: "curl/8".into(),
        referer: String::new(),
        status: 403,
        request_bytes: 0,
        response_bytes: 120,
        duration_us: 300,
        upstream_us: 0,
        verdict: Verdict { score: 5, ..Verdict::deny(Reason::Rule { rule: 942_100 }, 403) },
        plan_version: 7,
        view_revision: 12,
        tls: None,
        ja4: None,
        tls_group: None,
        upstream: None,
        trace: None,
        forwarded_id: None,
        phases: Default::default(),
        check: None,
        http_print: None,
        balancer: None,
        challenge: None,
        deed: None,
        crawler: false,
        agent: None,
        raised: None,
        audit: None,
    }
}

pub(crate) fn signal(rule: u64, variable: &str, fragment: &str) -> Signal {
    Signal {
        rule: Arc::new(RuleInfo {
            id: rule,
            file: "REQUEST-942-APPLICATION-ATTACK-SQLI.conf".into(),
            line: 45,
            class: RuleClass::Detection(Confidence::High),
            severity: Some(Severity::Critical),
            tags: vec!["attack-sqli".into()],
            edition: phalanx_model::Edition { ver: "OWASP_CRS/4.0.0".into(), ..Default::default() },
            unaudited: false,
            source: format!("SecRule ARGS \"@rx \\bor\\b\" \"id:{rule},deny,chain\"\nSecRule TX:é \"@eq 1\"")
                .into(),
        }),
        phase: 2,
        message: "SQL Injection Attack Detected via libinjection".into(),
        verbatim: false,
        data: format!("Matched Data: {fragment} found within {variable}: {fragment}"),
        matches: vec![RuleMatch {
            variable: variable.into(),
            fragment: fragment.into(),
            value_hash: 1,
            transformations: vec!["urlDecodeUni".into()],
            value: Some(fragment.into()),
            steps: vec![phalanx_model::Step {
                name: "urlDecodeUni".into(),
                value: Some(fragment.into()),
                changed: true,
            }],
        }],
        score: 5,
        inbound: Some(phalanx_model::ScoreChange { before: 0, after: 5 }),
        observed: false,
    }
}

pub(crate) fn refused(n: u64) -> SecurityEvent {
    security(access(n), vec![signal(942_100, "ARGS:q", "1' or '1'='1")])
}

pub(crate) fn security(access: AccessEvent, signals: Vec<Signal>) -> SecurityEvent {
    SecurityEvent::Request { access: Box::new(access), signals, faults: vec![] }
}

pub(crate) fn observed(n: u64) -> SecurityEvent {
    let mut access = access(n);
    access.verdict.action = Action::Observe;
    access.client = "2001:db8::7".parse().unwrap();
    security(access, vec![signal(941_100, "ARGS:c", "<script>")])
}

/// Waits until the recorder's state is as wanted; fails after ten seconds.
pub(crate) fn wait(
    status: &RecorderStatus,
    what: &str,
    until: impl Fn(&RecorderReport) -> bool,
) -> RecorderReport {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut changed = status.subscribe();
    runtime.block_on(async {
        let waited = tokio::time::timeout(std::time::Duration::from_secs(10), async {
            loop {
                let report = status.report();
                if until(&report) {
                    return report;
                }
                changed.changed().await.unwrap();
            }
        });
        waited.await.unwrap_or_else(|_| panic!("waited in vain until {what}: {:?}", status.report()))
    })
}

pub(crate) fn written(report: &RecorderReport, part: Part) -> u64 {
    report.parts.iter().find(|p| p.part == part).unwrap().written
}

pub(crate) fn failing(report: &RecorderReport, part: Part) -> bool {
    report.parts.iter().find(|p| p.part == part).unwrap().error.is_some()
}

/// Every file below a directory.
pub(crate) fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Writes a file until its disk is full.
pub(crate) fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}
