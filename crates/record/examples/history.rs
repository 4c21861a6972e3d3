//! Fills a history with requests and measures searches and counts: `cargo run --release -p phalanx-record --example history -- DIR 1000000`.
//!
//! What comes out is for reports; nothing here passes or fails.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phalanx_model::lanes::Lanes;
use phalanx_model::{
    AccessEvent, Action, Clock, Confidence, Country, ManualClock, Reason, RequestId, RuleClass, RuleInfo,
    RuleMatch, SecurityEvent, Severity, Signal, Verdict,
};
use phalanx_record::{
    AccessLogTo, By, Filter, History, Located, Part, RecordSettings, Recorder, StatusRange, TrafficQuery,
};
use phalanx_trust::Sealer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("which folder?")?;
    let rows: u64 = arguments.next().ok_or("how many requests?")?.parse()?;
    let clock = Arc::new(ManualClock::at(START + rows * EVERY_MS));
    let sealer = Arc::new(Sealer::ephemeral()?);
    let mut settings =
        RecordSettings::new(Path::new(&dir), "fra", "a", sealer, Arc::clone(&clock) as Arc<dyn Clock>);
    settings.access_log = AccessLogTo::Nowhere;
    settings.history_rows_max = rows + rows / 8;
    settings.history_bytes_max = u64::MAX;
    settings.locate = Some(Arc::new(|ip| {
        let last = match ip {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        };
        Located { country: Country::from_bytes([b'A' + last % 26, b'X']).ok(), asn: None }
    }));
    let (lanes, readers) = Lanes::new();
    let recorder = Recorder::open(settings, readers)?;
    fill(&recorder, &lanes, rows);
    measure(&recorder.history(), rows)?;
    tally(&lanes);
    recorder.stop();
    for entry in std::fs::read_dir(&dir)? {
        let entry = entry?;
        println!(
            "{:<14} {:>8.1} MiB",
            entry.file_name().to_string_lossy(),
            entry.metadata()?.len() as f64 / 1048576.0
        );
    }
    Ok(())
}

/// Puts requests into the lane as fast as they are taken out.
fn fill(recorder: &Recorder, lanes: &Lanes, rows: u64) {
    let info: Vec<Arc<RuleInfo>> = (0..40).map(rule).collect();
    let begun = Instant::now();
    let mut n = 0;
    while n < rows {
        let until = (n + 4_096).min(rows);
        for number in n..until {
            lanes.security(request(number, &info));
        }
        n = until;
        while written(recorder) < n {
            std::thread::yield_now();
        }
    }
    let took = begun.elapsed();
    println!("written: {rows} requests in {took:.1?}, {:.0} in a second", rows as f64 / took.as_secs_f64());
}

fn written(recorder: &Recorder) -> u64 {
    let report = recorder.status().report();
    report.parts.iter().find(|part| part.part == Part::History).map_or(0, |part| part.written + part.dropped)
}

fn measure(history: &History, rows: u64) -> Result<(), Box<dyn std::error::Error>> {
    let all = Filter { limit: 50, ..Filter::default() };
    let middle = START + rows / 2 * EVERY_MS;
    let apps = |app: &str| Some(vec![app.to_owned()]);
    let status = |text: &str| text.parse::<StatusRange>().ok();
    let filters = [
        ("nothing", all.clone()),
        ("client", Filter { client: "198.51.7.9".parse().ok(), ..all.clone() }),
        ("action, usual", Filter { action: Some(Action::Deny), ..all.clone() }),
        ("action, of nobody", Filter { action: Some(Action::Tarpit), ..all.clone() }),
        ("rule, usual", Filter { rule: Some(949_110), ..all.clone() }),
        ("rule, rare", Filter { rule: Some(942_139), ..all.clone() }),
        ("app, usual", Filter { apps: apps("app-1"), ..all.clone() }),
        ("app, of nobody", Filter { apps: apps("other"), ..all.clone() }),
        ("status 4xx", Filter { status: status("4xx"), ..all.clone() }),
        ("status 418, none", Filter { status: status("418"), ..all.clone() }),
        ("country", Filter { country: "CX".parse().ok(), ..all.clone() }),
        ("country, none", Filter { country: "NL".parse().ok(), ..all.clone() }),
        ("method, none", Filter { method: Some("BREW".into()), ..all.clone() }),
        (
            "since the middle, none",
            Filter { since_ms: Some(middle), method: Some("BREW".into()), ..all.clone() },
        ),
        ("until the middle", Filter { until_ms: Some(middle), ..all.clone() }),
        ("text, found", Filter { text: Some("ID=77".into()), ..all.clone() }),
        ("text, in 20000 bodies", Filter { text: Some("nowhere".into()), ..all.clone() }),
        (
            "app and country and 4xx",
            Filter { apps: apps("app-1"), country: "CX".parse().ok(), status: status("4xx"), ..all.clone() },
        ),
        ("usual rule and app of nobody", Filter { rule: Some(949_110), apps: apps("other"), ..all.clone() }),
        (
            "usual rule and country, none",
            Filter { rule: Some(949_110), country: "NL".parse().ok(), ..all.clone() },
        ),
        ("usual rule and usual app", Filter { rule: Some(949_110), apps: apps("app-1"), ..all.clone() }),
        (
            "half's rule and the others' app",
            Filter { rule: Some(942_138), apps: apps("app-1"), ..all.clone() },
        ),
        (
            "client and usual rule",
            Filter { client: "198.51.7.9".parse().ok(), rule: Some(949_110), ..all.clone() },
        ),
    ];
    println!("\n{:<32} {:>6} {:>10} {:>10}", "search", "found", "p50", "p99");
    for (name, filter) in filters {
        let (found, p50, p99) = timed(|| history.search(&filter).map(|found| found.requests.len()))?;
        println!("{name:<32} {found:>6} {p50:>10.1?} {p99:>10.1?}");
    }
    let now = START + rows * EVERY_MS;
    for (name, back, by) in [
        ("1 h by action", 1, By::Action),
        ("48 h by rule", 48, By::Rule),
        ("90 d by country", 2_160, By::Country),
    ] {
        let query = TrafficQuery::new(now.saturating_sub(back * 3_600_000), now, 120, now, by);
        let (found, p50, p99) = timed(|| history.traffic(&query).map(|traffic| traffic.series.len()))?;
        println!("{:<32} {found:>6} {p50:>10.1?} {p99:>10.1?}", format!("traffic, {name}"));
    }
    let query = TrafficQuery::new(START, now, 120, now, By::Action);
    let (found, p50, p99) = timed(|| history.refused_clients(&query, 20).map(|clients| clients.len()))?;
    println!("{:<32} {found:>6} {p50:>10.1?} {p99:>10.1?}", "clients refused most");
    Ok(())
}

fn timed<E>(mut ask: impl FnMut() -> Result<usize, E>) -> Result<(usize, Duration, Duration), E> {
    let mut times = Vec::with_capacity(ROUNDS);
    let mut found = 0;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        found = ask()?;
        times.push(begun.elapsed());
    }
    times.sort();
    let at = |percent: usize| times.get((times.len() - 1) * percent / 100).copied().unwrap_or_default();
    Ok((found, at(50), at(99)))
}

/// What counting costs: requests that are passed on, with nothing else to do for them.
fn tally(lanes: &Lanes) {
    let events: Vec<AccessEvent> = (0..256).map(access).collect();
    let mut sent = 0_u64;
    let begun = Instant::now();
    let cpu = thread_seconds();
    while sent < 2_000_000 {
        for event in &events {
            lanes.access(Box::new(event.clone()));
            sent += 1;
        }
        // The lane drops what the recorder does not take; leave it time.
        std::thread::yield_now();
    }
    let dropped = lanes.dropped().access.load(std::sync::atomic::Ordering::Relaxed);
    let taken = (sent - dropped).max(1);
    let used = thread_seconds() - cpu;
    println!(
        "\ncounted: {taken} passed requests in {:.1?}; the recorder's thread used {:.2} us for each",
        begun.elapsed(),
        used * 1e6 / taken as f64
    );
}

/// Seconds of processor time of the recorder's thread so far.
fn thread_seconds() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    for task in tasks.flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.trim() == "phalanx-record" {
            let schedstat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let ns: f64 = schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default();
            return ns / 1e9;
        }
    }
    0.0
}

fn rule(number: u64) -> Arc<RuleInfo> {
    Arc::new(RuleInfo {
        id: if number == 0 { 949_110 } else { 942_100 + number },
        file: "REQUEST-942-APPLICATION-ATTACK-SQLI.conf".into(),
        line: 45,
        class: RuleClass::Detection(Confidence::High),
        severity: Some(Severity::Critical),
        tags: ["attack-sqli", "language-multi", "platform-multi", "paranoia-level/1"].map(Into::into).into(),
        edition: Default::default(),
        unaudited: false,
        source: "".into(),
    })
}

fn request(n: u64, rules: &[Arc<RuleInfo>]) -> SecurityEvent {
    // Every request is refused by the usual rule; one of the others matched, the last of them rarely, the one before it for every second one.
    let index = match n {
        n if n.is_multiple_of(10_000) => 39,
        n if n.is_multiple_of(2) => 38,
        n => 1 + n % 37,
    };
    let others = rules.get(usize::try_from(index).unwrap_or_default());
    let signals = rules.first().into_iter().chain(others).map(|rule| signal(rule, n)).collect();
    SecurityEvent::Request { access: Box::new(access(n)), signals, faults: Vec::new() }
}

fn signal(rule: &Arc<RuleInfo>, n: u64) -> Signal {
    let fragment = format!("1' or '{n}'='{n}");
    Signal {
        rule: Arc::clone(rule),
        phase: 2,
        message: "SQL Injection Attack Detected via libinjection".into(),
        verbatim: false,
        data: format!("Matched Data: {fragment} found within ARGS:id"),
        matches: vec![RuleMatch {
            variable: "ARGS:id".into(),
            fragment: fragment.clone(),
            value_hash: n,
            transformations: vec!["urlDecodeUni".into(), "removeNulls".into()],
            value: Some(fragment),
            steps: Vec::new(),
        }],
        score: 5,
        inbound: None,
        observed: false,
    }
}

fn small(n: u64) -> u8 {
    u8::try_from(n).unwrap_or_default()
}

fn access(n: u64) -> AccessEvent {
    let client = std::net::Ipv4Addr::new(198, 51, small(n / 131 % 256), small(n % 251)).into();
    let action = match n % 16 {
        0 => Action::Observe,
        1 => Action::Throttle,
        _ => Action::Deny,
    };
    AccessEvent {
        id: RequestId::from_parts(
            START + n * EVERY_MS,
            phalanx_model::id::node_tag("fra", "a"),
            n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ),
        at_ms: START + n * EVERY_MS,
        app: format!("app-{}", n % 4).into(),
        route: None,
        client,
        peer: client,
        method: if n.is_multiple_of(3) { "POST" } else { "GET" }.into(),
        host: "shop.example".into(),
        target: format!("/catalogue/search?q=shoes&id={n}%27%20or%20%27{n}%27=%27{n}"),
        protocol: "HTTP/1.1".into(),
        user_agent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0"
            .into(),
        referer: "https://shop.example/catalogue".into(),
        status: if n % 16 == 1 { 429 } else { 403 },
        request_bytes: 0,
        response_bytes: 620,
        duration_us: 310,
        upstream_us: 0,
        verdict: Verdict { action, score: 10, ..Verdict::deny(Reason::Rule { rule: 949_110 }, 403) },
        plan_version: 7,
        view_revision: 12,
        tls: Some("TLSv1.3".into()),
        ja4: None,
        tls_group: Some("X25519MLKEM768".into()),
        upstream: None,
        trace: None,
        forwarded_id: None,
        phases: Default::default(),
        check: None,
        http_print: Some("h11_04_177aea7101ae".into()),
        balancer: None,
        challenge: None,
        deed: None,
        crawler: false,
        agent: None,
        raised: None,
        audit: None,
    }
}

const START: u64 = 1_785_585_600_000;
/// A million requests in some 28 hours.
const EVERY_MS: u64 = 100;
const ROUNDS: usize = 21;
