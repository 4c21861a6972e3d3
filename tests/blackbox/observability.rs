//! What operators see: metrics, the rules and the dashboard over them, logs, readiness.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::*;
use crate::tls::certificate;

/// A file of `observability`.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../observability").join(name)
}

/// A node with one of everything that has metrics, after a few requests.
fn node(folder: &Path, app: &App) -> Node {
    certificate(folder, "shop", "shop.test", 90);
    std::fs::write(
        folder.join("phalanx.toml"),
        "policy = \"policy.toml\"\n[node]\nstate = \"state\"\n[listen]\naddress = [\"127.0.0.1:0\"]\n\
         admin = \"127.0.0.1:0\"\n[[listen.tls]]\naddress = \"127.0.0.1:0\"\n[[certificate]]\n\
         cert = \"shop.pem\"\nkey = \"shop.key\"\n[selftest]\nevery = \"1s\"\n",
    )
    .unwrap();
    std::fs::write(
        folder.join("policy.toml"),
        format!(
            "[[apps]]\nname = \"shop \\\"1\\\"\"\nupstream = \"{}\"\n\
             [[apps.rate_limits]]\nname = \"all\"\nkey = \"ip\"\nrate = \"1000/s\"\n",
            app.url
        ),
    )
    .unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.join("phalanx.toml"));
    let node = Node::start(command);
    for path in ["/", "/a", &attack(1)] {
        node.get(path);
    }
    node
}

/// What each family of OpenMetrics text is, and its samples: name, labels, value.
struct Metrics {
    kinds: BTreeMap<String, String>,
    samples: Vec<(String, String, f64)>,
}

/// Reads the text; fails at what departs from the format or from Prometheus' conventions.
fn read(text: &str) -> Metrics {
    let (mut kinds, mut helped) = (BTreeMap::new(), BTreeSet::new());
    let mut samples = Vec::new();
    let body = text.strip_suffix("# EOF\n").unwrap();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is there twice");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.len() > 5 && helped.insert(name.to_owned()), "{line}");
        } else if !line.starts_with("# UNIT ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            samples.push((name.to_owned(), labels.trim_end_matches('}').to_owned(), value.parse().unwrap()));
        }
    }
    assert!(kinds.keys().all(|name| helped.contains(name)), "every family has a help");
    Metrics { kinds, samples }
}

/// The family of a sample, by the ending that its kind has.
fn family<'a>(metrics: &'a Metrics, sample: &str) -> (&'a str, &'a str) {
    let of = |ending: &str| metrics.kinds.get_key_value(sample.strip_suffix(ending)?);
    let endings = ["_total", "_bucket", "_sum", "_count", "_info", ""];
    let (name, kind) =
        endings.iter().find_map(|ending| of(ending)).unwrap_or_else(|| panic!("{sample} has no type"));
    (name, kind)
}

#[test]
fn metrics_keep_to_the_format_and_to_prometheus_conventions() {
    if absent("openssl") {
        return;
    }
    let (folder, app) = (tempfile::tempdir().unwrap(), App::start());
    let node = node(folder.path(), &app);
    // A request is counted when its reply is with the client.
    let all = "phalanx_request_duration_seconds_count{app=\"shop \\\"1\\\"\"} 3\n";
    until("three requests are counted", || node.admin_get("/metrics").text().contains(all));
    let metrics = read(&node.admin_get("/metrics").text());
    let mut series = BTreeSet::new();
    let mut buckets: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    for (name, labels, value) in &metrics.samples {
        let (_, kind) = family(&metrics, name);
        assert!(name.starts_with("phalanx_"), "{name}");
        assert!(series.insert((name, labels)), "{name}{{{labels}}} is there twice");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(value.is_finite() && (*value >= 0.0 || kind == "gauge"), "{name} {value}");
        if let Some(base) = name.strip_suffix("_bucket") {
            let (before, end) = labels.split_once("le=\"").unwrap();
            let labels = format!("{before}{}", end.split_once('"').unwrap().1);
            buckets.entry((base.to_owned(), labels.trim_matches(',').to_owned())).or_default().push(*value);
        }
    }
    assert!(buckets.len() >= 8, "{}", buckets.len());
    for ((name, labels), counts) in &buckets {
        assert!(counts.is_sorted(), "{name} {labels} {counts:?}");
        let count = metrics.samples.iter().find(|(n, l, _)| *n == format!("{name}_count") && l == labels);
        assert_eq!(count.unwrap().2, *counts.last().unwrap(), "{name} {labels}");
    }
    let value = |name: &str, labels: &str| {
        metrics
            .samples
            .iter()
            .find(|(n, l, _)| n == name && l == labels)
            .unwrap_or_else(|| panic!("{name} {labels}"))
            .2
    };
    // A name from policy is a label, escaped; there are three requests, of which one was refused.
    assert_eq!(value("phalanx_responses_total", "app=\"shop \\\"1\\\"\",code=\"2xx\""), 2.0);
    assert_eq!(value("phalanx_responses_total", "app=\"shop \\\"1\\\"\",code=\"4xx\""), 1.0);
    assert_eq!(value("phalanx_request_duration_seconds_count", "app=\"shop \\\"1\\\"\""), 3.0);
    assert_eq!(value("phalanx_phase_duration_seconds_count", "phase=\"upstream\""), 2.0);
    assert!(value("phalanx_phase_duration_seconds_count", "phase=\"inspect\"") >= 3.0);
}

/// Names of metrics in a text.
fn names_in(text: &str) -> BTreeSet<String> {
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    parts.filter(|word| word.starts_with("phalanx_")).map(str::to_owned).collect()
}

#[test]
fn rules_and_dashboard_use_only_what_a_node_shows() {
    if absent("openssl") {
        return;
    }
    let (folder, app) = (tempfile::tempdir().unwrap(), App::start());
    let node = node(folder.path(), &app);
    let text = || node.admin_get("/metrics").text();
    until("the node has attacked itself", || text().contains("phalanx_selftest_ok"));
    let metrics = read(&text());
    let shown = metrics.samples.iter().map(|(name, _, _)| name.as_str());
    let shown: BTreeSet<&str> = shown.chain(metrics.kinds.keys().map(String::as_str)).collect();
    for file in ["alerts.yml", "alerts.test.yml", "grafana.json"] {
        let used = names_in(&std::fs::read_to_string(shipped(file)).unwrap());
        assert!(used.len() > 10, "{file}");
        let unknown: Vec<_> = used.iter().filter(|name| !shown.contains(name.as_str())).collect();
        assert!(unknown.is_empty(), "{file} uses {unknown:?}");
    }
}

#[test]
fn the_alert_rules_fire_when_they_should() {
    if absent("promtool") {
        return;
    }
    let output =
        Command::new("promtool").args(["test", "rules"]).arg(shipped("alerts.test.yml")).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
}

/// A running Prometheus; it is stopped when dropped.
struct Prometheus(Child, std::net::SocketAddr);

impl Prometheus {
    fn start(folder: &Path, node: &Node) -> Self {
        let listen = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n\
             - job_name: phalanx\n  authorization: {{credentials_file: {}}}\n\
             \x20 static_configs: [{{targets: ['{}']}}]\n",
            shipped("alerts.yml").display(),
            node.state.join("admin.token").display(),
            node.admin
        );
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()));
        command.arg(format!("--web.listen-address={listen}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap(), listen)
    }

    /// An answer of its API, once it answers at all.
    fn api(&self, path: &str) -> Option<Value> {
        std::net::TcpStream::connect(self.1).ok()?;
        serde_json::from_slice(&get(self.1, path, &[]).body).ok()
    }

    fn query(&self, expression: &str) -> Option<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.api(&format!("/api/v1/query?query={encoded}"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn prometheus_reads_a_node_evaluates_the_rules_and_answers_the_dashboard() {
    if absent("prometheus") || absent("openssl") {
        return;
    }
    let (folder, app) = (tempfile::tempdir().unwrap(), App::start());
    let node = node(folder.path(), &app);
    let prometheus = Prometheus::start(folder.path(), &node);
    until("Prometheus has read the node", || {
        prometheus
            .query("up{job=\"phalanx\"}")
            .is_some_and(|told| told["data"]["result"][0]["value"][1] == "1")
    });
    let rules = || {
        let told = prometheus.api("/api/v1/rules").unwrap_or_default();
        told["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default()
    };
    until("every rule has been evaluated", || {
        let rules = rules();
        !rules.is_empty() && rules.iter().all(|rule| rule["health"] == "ok")
    });
    let board: Value =
        serde_json::from_str(&std::fs::read_to_string(shipped("grafana.json")).unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let expressions: Vec<String> =
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    assert!(expressions.len() > 40, "{}", expressions.len());
    for expression in expressions {
        let mut plain = expression.replace("$__rate_interval", "1m");
        for variable in ["$job", "$instance", "$app"] {
            plain = plain.replace(variable, ".*");
        }
        let told = prometheus.query(&plain).unwrap();
        assert_eq!(told["status"], "success", "{plain}: {told}");
    }
}

#[test]
fn the_access_log_is_written_where_and_as_it_is_asked_for() {
    let (folder, app) = (tempfile::tempdir().unwrap(), App::start());
    let log = folder.path().join("access.log");
    let node = Node::up(&app.url, &["--access-log", log.to_str().unwrap(), "--access-format", "combined"]);
    node.get_as("/a?b=%22\"", &[("User-Agent", "x\"y")]);
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    until("the line is there", || read().lines().count() == 1);
    let line = read();
    assert!(
        line.starts_with("127.0.0.1 - - [") && line.contains("\"GET /a?b=%22\\x22 HTTP/1.1\" 200 "),
        "{line}"
    );
    assert!(!node.state.join("record/access.log").exists());
}

#[test]
fn a_trace_goes_on_and_stands_in_the_explanation() {
    let (folder, app) = (tempfile::tempdir().unwrap(), App::start());
    std::fs::write(
        folder.path().join("phalanx.toml"),
        "policy = \"policy.toml\"\n[node]\nstate = \"state\"\n[listen]\naddress = [\"127.0.0.1:0\"]\n\
         admin = \"127.0.0.1:0\"\n[trace]\nmode = \"continue\"\nsample = \"100%\"\n",
    )
    .unwrap();
    let policy = format!("[[apps]]\nname = \"shop\"\nupstream = \"{}\"\n", app.url);
    std::fs::write(folder.path().join("policy.toml"), policy).unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.path().join("phalanx.toml"));
    let node = Node::start(command);
    let asked = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let text = node.get_as("/", &[asked]).text().to_ascii_lowercase();
    assert!(text.contains("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{text}");
    assert!(!text.contains("00f067aa0ba902b7"), "this hop is the parent of what follows: {text}");
    let refused = node.get_as(&attack(1), &[asked]);
    let id = refused.id().to_owned();
    until("the request is in the history", || node.cli(&["explain", &id]).status.success());
    let told = String::from_utf8(node.cli(&["explain", &id]).stdout).unwrap();
    assert!(told.contains("4bf92f3577b34da6a3ce929d0e0e4736") && told.contains("00f067aa0ba902b7"), "{told}");
}

/// Events of a real node: to a file and to a receiver of syslog, with the sandbox on.
#[test]
fn events_reach_the_file_and_the_receiver_of_syslog() {
    let (folder, app) = (tempfile::tempdir().unwrap(), App::start());
    let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    std::fs::create_dir(folder.path().join("logs")).unwrap();
    std::fs::write(
        folder.path().join("phalanx.toml"),
        format!(
            "policy = \"policy.toml\"\n[node]\nstate = \"state\"\n[listen]\naddress = [\"127.0.0.1:0\"]\n\
             admin = \"127.0.0.1:0\"\n[log.events]\nfile = \"logs/events.json\"\nrequests = \"all\"\n\
             syslog = \"udp://{}\"\n",
            receiver.local_addr().unwrap()
        ),
    )
    .unwrap();
    let policy = format!("[[apps]]\nname = \"shop\"\nupstream = \"{}\"\n", app.url);
    std::fs::write(folder.path().join("policy.toml"), policy).unwrap();
    let mut command = phalanx(&["run", "--json", "-c"]);
    command.arg(folder.path().join("phalanx.toml"));
    let node = Node::start(command);
    node.get("/");
    let id = node.get(&attack(1)).id().to_owned();
    let read = || std::fs::read_to_string(folder.path().join("logs/events.json")).unwrap_or_default();
    until("both requests are told", || read().lines().count() == 2);
    let events: Vec<Value> = read().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |disposition: &str| events.iter().find(|event| event["disposition"] == disposition).unwrap();
    assert_eq!((&of("Allowed")["class_uid"], &of("Allowed")["status_code"]), (&4002.into(), &"200".into()));
    assert_eq!(of("Blocked")["metadata"]["uid"], id.as_str());
    let mut buffer = vec![0; 65_536];
    for _ in 0..2 {
        let length = receiver.recv(&mut buffer).unwrap();
        let message = std::str::from_utf8(&buffer[..length]).unwrap();
        let (head, event) = message.split_once(" - {").unwrap();
        assert!(head.starts_with("<13") && head.contains("http_activity"), "{head}");
        assert!(read().lines().any(|line| line.trim_start_matches('{') == event), "{event}");
    }
}
