//! A node that joins a fleet of a million decisions on a real nats-server: how long until it enforces them, until it has what came
//! since they were packed, and until it has checked every record.
//!
//! Run: `PHALANX_NATS_SERVER=/path/nats-server cargo bench -p phalanx-fleet --bench joiner [-- COUNT]`. Prints one line per figure.

#![expect(clippy::expect_used, reason = "a measurement ends at its first surprise")]

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, StorageType};
use futures_util::{StreamExt, stream};
use phalanx_fleet::{Change, FleetHandle, FleetKeys, FleetSettings, NatsSettings, subject};
use phalanx_model::event::Proposal;
use phalanx_model::lanes::{LaneReaders, Lanes};
use phalanx_model::{
    Actor, Author, AuthorRole, Clock, Decision, DecisionId, DecisionKind, Identities, SystemClock, id,
};
use phalanx_trust::{Announcement, NodeRecord, Sealer, SignedRecord, SigningKey, Statement};

#[tokio::main]
async fn main() {
    let Some(binary) = std::env::var_os("PHALANX_NATS_SERVER") else {
        println!("skipped: no nats-server; set PHALANX_NATS_SERVER");
        return;
    };
    let count = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(1_000_000);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|on| on.local_addr()).expect("a port is free").port();
    let mut server = Command::new(binary)
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(Killed)
        .expect("nats-server starts");
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    measure(&format!("nats://127.0.0.1:{port}"), count).await;
    server.0.kill().expect("it runs");
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure(url: &str, count: u64) {
    let started = Instant::now();
    fill(url, count).await;
    println!("records in the streams      after {:.1} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    let control = start(url, "control", true).await;
    let wanted = usize::try_from(count).expect("it is a number of records");
    until(|| merged(&control.fleet) >= wanted).await;
    println!("control node: all checked   after {:.1} s", started.elapsed().as_secs_f64());
    while !matches!(control.fleet.engine().mark_get("fra", "control").await, Ok(Some(_))) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("   packed for joiners       after {:.1} s", started.elapsed().as_secs_f64());
    control.ban([192, 0, 2, 1]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    let joiner = start(url, "joiner", false).await;
    control.ban([192, 0, 2, 2]);
    println!("joiner: started             after {:.2} s", started.elapsed().as_secs_f64());
    until(|| joiner.refuses(address(count - 1)) && joiner.refuses(address(0))).await;
    println!("   enforces all             after {:.2} s", started.elapsed().as_secs_f64());
    until(|| joiner.refuses(Ipv4Addr::new(192, 0, 2, 1).into())).await;
    until(|| joiner.refuses(Ipv4Addr::new(192, 0, 2, 2).into())).await;
    let known = merged(&joiner.fleet);
    println!(
        "   current                  after {:.2} s, {known} records checked",
        started.elapsed().as_secs_f64()
    );
    until(|| merged(&joiner.fleet) >= wanted + 2).await;
    println!("   every record checked     after {:.1} s", started.elapsed().as_secs_f64());
    joiner.fleet.shutdown().await;
    control.fleet.shutdown().await;
}

async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Running {
    fleet: FleetHandle,
    _readers: LaneReaders,
    _state: tempfile::TempDir,
}

impl Running {
    fn refuses(&self, ip: IpAddr) -> bool {
        let view = self.fleet.view().load_full();
        view.lookup(&Identities::of(ip), SystemClock.now_ms()).is_some()
    }

    fn ban(&self, ip: [u8; 4]) {
        let proposal = Proposal {
            actor: Actor::ip(ip.into()),
            kind: DecisionKind::Ban,
            reason: "three strikes".into(),
            evidence: DecisionId::from_parts(1, 1, 1),
            confidence_percent: 95,
            at_ms: SystemClock.now_ms(),
            for_ms: 3_600_000,
        };
        self.fleet.propose(proposal).expect("it may be decided");
    }
}

fn merged(fleet: &FleetHandle) -> usize {
    fleet.members().first().map_or(0, |me| me.decisions)
}

async fn start(url: &str, node: &str, control: bool) -> Running {
    let state = tempfile::tempdir().expect("a folder can be made");
    let sealer = Arc::new(Sealer::load_or_create(&state.path().join("seal.key")).expect("it can be made"));
    let settings = FleetSettings {
        fleet_id: FLEET.into(),
        site: "fra".into(),
        node: node.into(),
        version: "0".into(),
        roles: vec![],
        state_dir: state.path().to_owned(),
        nats: Some(NatsSettings::at(url)),
        secret: None,
        membership: None,
        enrol: Vec::new(),
    };
    let keys = FleetKeys::load_or_create(state.path(), &sealer, control).expect("they can be made");
    let (lanes, readers) = Lanes::new();
    let fleet = FleetHandle::start(settings, sealer, keys, lanes, Arc::new(SystemClock)).await;
    Running { fleet: fleet.expect("it starts"), _readers: readers, _state: state }
}

/// Records of a dozen nodes of two sites, as they would have sent them.
async fn fill(url: &str, count: u64) {
    let client = async_nats::connect(url).await.expect("the server listens");
    let context = async_nats::jetstream::new(client);
    for site in SITES {
        for (name, subjects) in [("DEC", subject::DECISIONS), ("NODE", subject::NODES)] {
            let config = Config {
                name: format!("{name}_{site}"),
                subjects: vec![format!("{subjects}.{site}.>")],
                max_messages_per_subject: 1,
                max_messages: 1_000_000,
                storage: StorageType::File,
                allow_message_ttl: true,
                allow_direct: true,
                ..Config::default()
            };
            context.create_stream(config).await.expect("it can be made");
        }
    }
    let now_ms = SystemClock.now_ms();
    let keys: Vec<SigningKey> =
        (0..NODES).map(|_| SigningKey::generate().expect("there is randomness")).collect();
    for (n, key) in (0..NODES).zip(&keys) {
        let author = author(n);
        let node = NodeRecord {
            site: author.site,
            node: author.node,
            version: "0".into(),
            node_key: key.verifying(),
            operator_key: None,
            roles: vec![],
            started_at_ms: now_ms,
            enrol: vec![],
        };
        let subject = subject::of_node(&node.site, &node.node);
        let announcement = Announcement::make(FLEET, &subject, &node, key, None).expect("it is data");
        let bytes = announcement.to_bytes().expect("it is data");
        context.publish(subject, bytes.into()).await.expect("it is sent").await.expect("it is kept");
    }
    let sent =
        stream::iter(0..count).map(|n| {
            let change = Change::Decided(Arc::new(decision(n, now_ms)));
            let (subject, body) = (change.subject(), serde_json::to_vec(&change).expect("it is data"));
            let statement = Statement {
                fleet_id: FLEET,
                subject: &subject,
                author: change.author(),
                version: change.version(),
                expires_at_ms: change.expires_at_ms(),
                body: &body,
            };
            let key = keys.get(usize::try_from(n % NODES).unwrap_or_default()).expect("each node has one");
            let bytes = SignedRecord::sign(key, statement).to_bytes().expect("it is data");
            let message = PublishMessage::build().payload(bytes.into()).ttl(Duration::from_secs(3 * 3_600));
            let context = context.clone();
            async move {
                context.send_publish(subject, message).await.expect("it is sent").await.expect("it is kept")
            }
        });
    sent.buffer_unordered(2_000).for_each(|_| std::future::ready(())).await;
}

fn author(n: u64) -> Author {
    let site = if n.is_multiple_of(2) { "fra" } else { "syd" };
    Author { site: site.into(), node: format!("node{n}").into(), role: AuthorRole::Node }
}

fn decision(n: u64, now_ms: u64) -> Decision {
    let author = author(n % NODES);
    Decision {
        id: DecisionId::from_parts(now_ms, id::node_tag(&author.site, &author.node), n),
        actor: Actor::ip(address(n)),
        kind: DecisionKind::Ban,
        reason: format!("3 attacks, last by rule {}", 8_513_000 + n % 2_000),
        evidence: Some(DecisionId::from_parts(now_ms, 7, n)),
        confidence_percent: 90,
        created_at_ms: now_ms,
        expires_at_ms: now_ms + 3 * 3_600_000,
        version: now_ms << 16,
        author,
    }
}

fn address(n: u64) -> IpAddr {
    // An odd factor visits every address once.
    Ipv4Addr::from_bits(u32::try_from(n).unwrap_or_default().wrapping_mul(0x9e37_79b1)).into()
}

const FLEET: &str = "bench";
const SITES: [&str; 2] = ["fra", "syd"];
/// No node may have more than 100,000 decisions.
const NODES: u64 = 12;
