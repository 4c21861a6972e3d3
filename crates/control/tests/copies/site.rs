//! Nodes of one site on a real nats-server: what they record is at each of its control nodes once, whoever is away and whoever is lost.
//!
//! `PHALANX_HISTORY_EVENTS` and `PHALANX_HISTORY_OUTAGE_SECS` make it longer than CI needs: 50000 and 60.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use phalanx_control::CopiesPort;
use phalanx_fleet::{FleetHandle, FleetKeys, FleetSettings, NatsSettings};
use phalanx_model::id::node_tag;
use phalanx_model::lanes::Lanes;
use phalanx_model::{Author, AuthorRole, Clock, Reason, RequestId, SecurityEvent, SystemClock, Verdict};
use phalanx_record::{
    By, Copies, CopySettings, Filter, History, Part, RecordSettings, Recorder, TrafficQuery,
};
use phalanx_trust::{FleetSecret, OpeningKey, Sealer, SignedRecord, SigningKey, Statement};
use tokio::task::JoinHandle;

struct Nats(Child, u16, #[expect(dead_code, reason = "lives as long as the server")] tempfile::TempDir);

impl Nats {
    async fn start() -> Option<Self> {
        let Some(binary) = std::env::var_os("PHALANX_NATS_SERVER") else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "PHALANX_NATS_SERVER must be set in CI");
            println!("skipped: no nats-server; set PHALANX_NATS_SERVER");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(binary);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(folder.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("nats-server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        Some(Self(child, port, folder))
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Node {
    name: &'static str,
    fleet: FleetHandle,
    recorder: Recorder,
    lanes: Lanes,
    port: CopiesPort,
    copying: JoinHandle<()>,
    recorded: u64,
}

impl Node {
    async fn start(server: &Nats, folder: &Path, name: &'static str, control: bool) -> Self {
        let dir: PathBuf = folder.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let sealer = Arc::new(Sealer::load_or_create(&dir.join("seal.key")).unwrap());
        let keys = FleetKeys::load_or_create(&dir, &sealer, control).unwrap();
        let (lanes, readers) = Lanes::new();
        let settings =
            RecordSettings::new(&dir.join("record"), "fra", name, Arc::clone(&sealer), Arc::clone(&clock));
        let recorder = Recorder::open(settings, readers).unwrap();
        let fleet = FleetSettings {
            fleet_id: "testfleet".into(),
            site: "fra".into(),
            node: name.into(),
            version: "0.1.0".into(),
            roles: vec!["edge".into()],
            state_dir: dir.clone(),
            nats: Some(NatsSettings::at(format!("nats://127.0.0.1:{}", server.1))),
            secret: Some(FleetSecret::from_bytes(b"a secret of some length")),
            membership: None,
            enrol: Vec::new(),
        };
        let started = FleetHandle::start(fleet, Arc::clone(&sealer), keys, lanes.clone(), Arc::clone(&clock));
        let fleet = started.await.unwrap();
        let copies = control.then(|| {
            let (path, site) = (dir.join("record/copies.db"), "fra".into());
            Copies::open(CopySettings { path, site, sealer, locate: None, clock, bytes_max: 1 << 34 })
                .unwrap()
        });
        let port = CopiesPort::new(copies);
        let copying = tokio::spawn(port.clone().run(fleet.clone(), recorder.history()));
        Self { name, fleet, recorder, lanes, port, copying, recorded: 0 }
    }

    /// Records requests, as fast as the disk takes them; their ids.
    async fn record(&mut self, count: u64) -> Vec<RequestId> {
        let mut ids = Vec::new();
        while (ids.len() as u64) < count {
            for _ in 0..(count - ids.len() as u64).min(256) {
                self.recorded += 1;
                let tag = node_tag("fra", self.name);
                let id = RequestId::from_parts(SystemClock.now_ms(), tag, self.recorded);
                let access = serde_json::from_value(serde_json::json!({
                    "id": id, "at_ms": id.at_ms(), "app": "shop", "client": "192.0.2.7", "peer": "192.0.2.7", "method": "GET",
                    "host": "shop.test", "target": "/search?q=1", "protocol": "HTTP/1.1", "user_agent": "a browser", "referer": "",
                    "status": 403, "request_bytes": 0, "response_bytes": 0, "duration_us": 0, "upstream_us": 0, "plan_version": 1,
                    "view_revision": 1, "verdict": Verdict::deny(Reason::Clean, 403),
                }));
                let access = Box::new(access.unwrap());
                self.lanes.security(SecurityEvent::Request {
                    access,
                    signals: Vec::new(),
                    faults: Vec::new(),
                });
                ids.push(id);
            }
            let (status, wanted) = (self.recorder.status(), self.recorded);
            until("the requests are on the node's disk", || {
                let report = status.report();
                report.parts.iter().any(|part| part.part == Part::History && part.written >= wanted)
            })
            .await;
        }
        ids
    }

    async fn stop(self) {
        self.fleet.shutdown().await;
        self.copying.await.unwrap();
        tokio::task::spawn_blocking(move || self.recorder.stop()).await.unwrap();
    }

    fn is_copied_by(&self, others: &[&str]) -> bool {
        let state = self.port.state();
        let copied: Vec<_> = state.copied_by.iter().filter(|one| one.heard && one.waiting == 0).collect();
        others.iter().all(|name| copied.iter().any(|one| one.node == *name))
    }

    fn rows_of(&self, node: &str) -> u64 {
        self.port.state().copies_of.iter().find(|one| one.node == node).map_or(0, |one| one.rows)
    }
}

/// Every id that is kept, in order; fails if one is there twice.
fn kept(history: &History) -> BTreeSet<RequestId> {
    let (mut ids, mut filter) = (BTreeSet::new(), Filter { limit: 500, ..Filter::default() });
    loop {
        let found = history.search(&filter).unwrap();
        for one in found.requests {
            assert!(ids.insert(one.id()), "{} is there twice", one.id());
        }
        match found.next {
            Some(next) => filter.before = Some(next),
            None => return ids,
        }
    }
}

/// How many requests a node counted since then, as another has it in its copies.
fn counted(at: &Node, of: &str, since_ms: u64) -> u64 {
    let copies = at.port.history().unwrap();
    let there = copies.copied_counts(since_ms, 99).unwrap();
    let told: Vec<u64> = there.iter().filter(|one| one.node == of).map(|one| one.told).collect();
    let now_ms = SystemClock.now_ms();
    let query = TrafficQuery::new(since_ms, now_ms, 500, now_ms, By::Node);
    copies.copied_traffic(&query, &told).unwrap().totals.requests
}

/// Waits until the condition holds; fails after a time that no healthy run comes near.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(180), "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_three_nodes_are_at_both_control_nodes_once_through_an_outage_and_outlive_their_node() {
    let Some(server) = Nats::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (events, outage) =
        (number("PHALANX_HISTORY_EVENTS", 3_000), number("PHALANX_HISTORY_OUTAGE_SECS", 0));
    let began_ms = SystemClock.now_ms();
    let mut a = Node::start(&server, folder, "a", true).await;
    let mut c = Node::start(&server, folder, "c", true).await;
    let mut edges = Vec::new();
    for name in ["e1", "e2", "e3"] {
        edges.push(Node::start(&server, folder, name, false).await);
    }
    for edge in &edges {
        until("both control nodes copy", || edge.is_copied_by(&["a", "c"])).await;
    }
    let mut ids = BTreeSet::new();
    let each = events.div_ceil(3);
    let part = each / 3;
    for edge in &mut edges {
        ids.extend(edge.record(part).await);
    }
    // Both go while they read, and come back to what was recorded meanwhile.
    let began = Instant::now();
    a.stop().await;
    c.stop().await;
    for edge in &mut edges {
        ids.extend(edge.record(part).await);
    }
    until("the outage is over", || began.elapsed() >= Duration::from_secs(outage)).await;
    let away = began.elapsed();
    a = Node::start(&server, folder, "a", true).await;
    c = Node::start(&server, folder, "c", true).await;
    let back = Instant::now();
    let rest = each - 2 * part;
    for edge in &mut edges {
        ids.extend(edge.record(rest).await);
    }
    for control in [&a, &c] {
        for edge in &edges {
            until("all is copied", || control.rows_of(edge.name) >= each).await;
        }
    }
    for control in [&a, &c] {
        assert_eq!(kept(&control.port.history().unwrap()), ids);
        let state = control.port.state();
        assert!(state.refused == 0 && state.copies_of.iter().all(|one| one.missed == 0), "{state:?}");
    }
    println!(
        "{} events of 3 nodes through {away:?} without control: each once at both control nodes, {:?} after they were back",
        ids.len(),
        back.elapsed()
    );

    for control in [&a, &c] {
        for edge in &edges {
            until("all is counted and copied", || counted(control, edge.name, began_ms) >= each).await;
        }
    }

    // A control node and an edge node are lost with their disks; a new control node has all the same.
    a.stop().await;
    let e1 = edges.remove(0);
    e1.stop().await;
    for lost in ["a", "e1"] {
        std::fs::remove_dir_all(folder.join(lost)).unwrap();
    }
    let d = Node::start(&server, folder, "d", true).await;
    for name in ["e1", "e2", "e3"] {
        until("the new control node has all", || d.rows_of(name) >= each).await;
    }
    assert_eq!(kept(&d.port.history().unwrap()), ids);
    for name in ["e1", "e2", "e3"] {
        until("it has its counts", || counted(&d, name, began_ms) >= each).await;
        assert_eq!(counted(&d, name, began_ms), each, "{name}");
    }
    for node in edges.into_iter().chain([c, d]) {
        assert!(node.port.history().is_some() || node.port.state().copies_of.is_empty());
        node.stop().await;
    }
}

/// What somebody with an edge node's key would say to another node of its site.
fn signed(folder: &Path, as_role: AuthorRole, subject: &str, body: &[u8]) -> Vec<u8> {
    let sealer = Sealer::load_or_create(&folder.join("e2/seal.key")).unwrap();
    let key = SigningKey::load_or_create(&folder.join("e2/node.key"), &sealer).unwrap();
    let author = Author { site: "fra".into(), node: "e2".into(), role: as_role };
    let now_ms = SystemClock.now_ms();
    let statement = Statement {
        fleet_id: "testfleet",
        subject,
        author: &author,
        version: now_ms << 16,
        expires_at_ms: now_ms + 60_000,
        body,
    };
    SignedRecord::sign(&key, statement).to_bytes().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_node_gets_nobodys_history_and_the_wire_shows_nothing_of_it() {
    let Some(server) = Nats::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let a = Node::start(&server, folder, "a", true).await;
    let mut e1 = Node::start(&server, folder, "e1", false).await;
    let e2 = Node::start(&server, folder, "e2", false).await;
    until("the control node copies", || e1.is_copied_by(&["a"]) && e2.is_copied_by(&["a"])).await;
    let wire = async_nats::connect(format!("nats://127.0.0.1:{}", server.1)).await.unwrap();
    let mut heard = wire.subscribe("phx.raw.>").await.unwrap();
    wire.flush().await.unwrap();
    // It asks for all of the other's history, sealed to a key of its own, as a node and as the operator that it is not.
    let key = OpeningKey::generate().unwrap();
    let wish = br#"{"marks":[{"of":"e1","mark":{"epoch":0,"seq":0}}]}"#;
    let body = [&[1, 32], key.public(), &wish[..]].concat();
    let before = e1.fleet.status().refused;
    for role in [AuthorRole::Node, AuthorRole::Operator] {
        let subject = "phx.raw.fra.e2.e1";
        wire.publish(subject, signed(folder, role, subject, &body).into()).await.unwrap();
    }
    until("a node's wish is refused", || e1.fleet.status().refused > before).await;
    let ids = e1.record(200).await;
    until("all is copied", || a.rows_of("e1") == 200).await;
    assert_eq!(kept(&a.port.history().unwrap()), ids.into_iter().collect());
    let (mut to_control, mut seen) = (0, 0);
    while let Ok(Some(message)) = tokio::time::timeout(Duration::from_millis(300), heard.next()).await {
        seen += 1;
        to_control += usize::from(message.subject.as_str() == "phx.raw.fra.e1.a");
        assert_ne!(message.subject.as_str(), "phx.raw.fra.e1.e2", "nothing goes to an edge node");
        let record = SignedRecord::from_bytes(&message.payload).unwrap();
        let shows = |text: &[u8]| record.body.windows(text.len()).any(|window| window == text);
        assert!(!shows(b"192.0.2.7") && !shows(b"shop.test"));
        if seen > 1_000 {
            break;
        }
    }
    assert!(to_control > 0, "the test listens to the right subjects");
    for node in [a, e1, e2] {
        node.stop().await;
    }
}
