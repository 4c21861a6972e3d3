//! A real nats-server, nodes to run against it, and waiting on conditions.

use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use phalanx_fleet::{FleetHandle, FleetKeys, FleetSettings, NatsSettings, NewDecision, Sites};
use phalanx_model::event::Proposal;
use phalanx_model::lanes::{LaneReaders, Lanes};
use phalanx_model::{
    Actor, Author, Clock, Decision, DecisionId, DecisionKind, Identities, RequestId, SystemClock,
};
use phalanx_trust::{FleetSecret, Membership, Sealer};

pub(crate) const FLEET: &str = "testfleet";

/// The nats-server binary: `PHALANX_NATS_SERVER`, else from PATH; else the test says that it is skipped.
pub(crate) fn nats_binary() -> Option<PathBuf> {
    let named = std::env::var_os("PHALANX_NATS_SERVER").map(PathBuf::from);
    let found = named.or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join("nats-server")).find(|file| file.is_file())
    });
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "PHALANX_NATS_SERVER must be set in CI");
        println!("skipped: no nats-server; set PHALANX_NATS_SERVER");
    }
    found
}

/// A port for a server that may be started again on it. Given out once, and none of those that the system gives to connections: one of
/// them would take it while the server is down.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let place = std::process::id().wrapping_mul(128).wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + u16::try_from(place % 12_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A nats-server on a port of its own, with JetStream in a folder of its own. Killed when dropped.
pub(crate) struct NatsServer {
    binary: PathBuf,
    port: u16,
    state: tempfile::TempDir,
    child: Option<Child>,
    jetstream: bool,
    config: Option<PathBuf>,
}

impl NatsServer {
    pub(crate) fn prepare() -> Option<Self> {
        let binary = nats_binary()?;
        let port = free_port();
        Some(Self {
            binary,
            port,
            state: tempfile::tempdir().unwrap(),
            child: None,
            jetstream: true,
            config: None,
        })
    }

    pub(crate) async fn start() -> Option<Self> {
        let mut server = Self::prepare()?;
        server.up().await;
        Some(server)
    }

    /// A server that keeps nothing.
    pub(crate) async fn start_without_jetstream() -> Option<Self> {
        let mut server = Self::prepare()?;
        server.jetstream = false;
        server.up().await;
        Some(server)
    }

    /// A server that is started with a configuration, which is told port and folder.
    pub(crate) async fn start_configured(config: impl FnOnce(u16, &Path) -> PathBuf) -> Option<Self> {
        let mut server = Self::prepare()?;
        server.config = Some(config(server.port, server.state.path()));
        server.up().await;
        Some(server)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn folder(&self) -> &Path {
        self.state.path()
    }

    /// Has the server read its configuration again.
    pub(crate) fn reload(&self) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) async fn up(&mut self) {
        let mut command = Command::new(&self.binary);
        match &self.config {
            Some(config) => command.arg("-c").arg(config),
            None => command
                .args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"])
                .arg(self.state.path())
                .args(self.jetstream.then_some("-js")),
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.child = Some(child);
        let address = ("127.0.0.1", self.port);
        until("nats-server listens", || TcpStream::connect(address).is_ok()).await;
    }

    /// Ends the server as a crash would.
    pub(crate) fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Copies what streams keep, or puts such a copy in its place. The server must be down.
    pub(crate) fn copy_streams(&self, to: &Path, back: bool) {
        assert!(self.child.is_none());
        let streams = self.state.path().join("jetstream");
        let (from, to) = if back { (to, streams.as_path()) } else { (streams.as_path(), to) };
        let _ = std::fs::remove_dir_all(to);
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    }

    /// Loses everything that streams kept. The server must be down.
    pub(crate) fn wipe(&mut self) {
        assert!(self.child.is_none());
        std::fs::remove_dir_all(self.state.path().join("jetstream")).unwrap();
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.down();
    }
}

/// A node with its state folder, which outlives restarts.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) state: Arc<tempfile::TempDir>,
    pub(crate) fleet: FleetHandle,
    pub(crate) lanes: Lanes,
    pub(crate) readers: LaneReaders,
    plan: NodePlan,
}

#[derive(Clone)]
pub(crate) struct NodePlan {
    pub(crate) site: String,
    pub(crate) name: String,
    pub(crate) nats: Option<String>,
    pub(crate) secret: Option<&'static [u8]>,
    pub(crate) control: bool,
    pub(crate) fleet_id: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) membership: Option<Arc<Membership>>,
    pub(crate) stewarded: Option<Sites>,
    /// How often own records are compared with the stream, if not as always.
    pub(crate) audit_every: Option<Duration>,
}

impl NodePlan {
    pub(crate) fn local(site: &str, name: &str) -> Self {
        Self {
            site: site.into(),
            name: name.into(),
            nats: None,
            secret: None,
            control: true,
            fleet_id: FLEET.into(),
            clock: Arc::new(SystemClock),
            membership: None,
            stewarded: None,
            audit_every: None,
        }
    }

    pub(crate) fn on(site: &str, name: &str, server: &NatsServer) -> Self {
        Self { nats: Some(server.url()), ..Self::local(site, name) }
    }

    pub(crate) async fn start(self) -> Node {
        self.start_in(Arc::new(tempfile::tempdir().unwrap())).await
    }

    pub(crate) async fn start_in(self, state: Arc<tempfile::TempDir>) -> Node {
        let sealer = Arc::new(Sealer::load_or_create(&state.path().join("seal.key")).unwrap());
        let keys = FleetKeys::load_or_create(state.path(), &sealer, self.control).unwrap();
        let (lanes, readers) = Lanes::new();
        let clock = Arc::clone(&self.clock);
        let started =
            FleetHandle::start(self.settings(state.path()), sealer, keys, lanes.clone(), clock).await;
        let name = self.name.clone();
        Node { name, state, fleet: started.unwrap(), lanes, readers, plan: self }
    }

    pub(crate) fn settings(&self, state_dir: &Path) -> FleetSettings {
        FleetSettings {
            fleet_id: self.fleet_id.clone(),
            site: self.site.clone(),
            node: self.name.clone(),
            version: "0.1.0".into(),
            roles: vec!["edge".into()],
            state_dir: state_dir.to_owned(),
            nats: self.nats.clone().map(|url| {
                let usual = NatsSettings::at(url);
                NatsSettings {
                    membership: self.membership.clone(),
                    stewarded: self.stewarded.clone(),
                    audit_every: self.audit_every.unwrap_or(usual.audit_every),
                    ..usual
                }
            }),
            secret: self.secret.map(FleetSecret::from_bytes),
            membership: self.membership.clone(),
            enrol: Vec::new(),
        }
    }
}

impl Node {
    /// Stops the node and starts it again on the same state.
    pub(crate) async fn restart(self) -> Node {
        self.restart_as(|_| {}).await
    }

    pub(crate) async fn restart_as(self, change: impl FnOnce(&mut NodePlan)) -> Node {
        let (state, plan) = self.stop().await;
        let mut plan = plan;
        change(&mut plan);
        plan.start_in(state).await
    }

    pub(crate) async fn stop(self) -> (Arc<tempfile::TempDir>, NodePlan) {
        self.fleet.shutdown().await;
        (self.state, self.plan)
    }

    pub(crate) fn refuses(&self, ip: &str) -> bool {
        let now_ms = self.plan.clock.now_ms();
        let view = self.fleet.view();
        let view = view.load();
        view.lookup(&Identities::of(address(ip)), now_ms)
            .is_some_and(|found| found.kind() == DecisionKind::Ban)
    }

    pub(crate) fn ban(&self, ip: &str, for_ms: u64) -> Arc<phalanx_model::Decision> {
        self.fleet.propose(proposal(ip, for_ms)).unwrap()
    }

    /// Knows all of these nodes and hears them.
    pub(crate) fn hears(&self, others: usize) -> bool {
        let members = self.fleet.members();
        members.iter().filter(|member| !member.me && member.link == phalanx_fleet::Link::Up).count() == others
    }
}

pub(crate) fn proposal(ip: &str, for_ms: u64) -> Proposal {
    Proposal {
        actor: Actor::ip(address(ip)),
        kind: DecisionKind::Ban,
        reason: "three strikes".into(),
        evidence: RequestId::from_parts(1, 1, 1),
        confidence_percent: 95,
        at_ms: SystemClock.now_ms(),
        for_ms,
    }
}

pub(crate) fn order(actor: Actor, kind: DecisionKind, for_ms: u64) -> NewDecision {
    NewDecision { actor, kind, for_ms, reason: "operator says so".into(), evidence: None }
}

/// A decision as somebody else than a node's own code would write it.
pub(crate) fn forged(
    author: Author,
    actor: Actor,
    kind: DecisionKind,
    from_ms: u64,
    for_ms: u64,
) -> Decision {
    Decision {
        id: DecisionId::from_parts(from_ms, 1, 1),
        actor,
        kind,
        author,
        reason: "forged".into(),
        evidence: None,
        confidence_percent: 100,
        created_at_ms: from_ms,
        expires_at_ms: from_ms + for_ms,
        version: from_ms << 16,
    }
}

pub(crate) fn ip(text: &str) -> Actor {
    Actor::ip(address(text))
}

pub(crate) fn address(ip: &str) -> IpAddr {
    ip.parse().unwrap()
}

/// Waits until `condition` holds; fails after a time that no healthy run comes near.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(30), "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A fleet of nodes that all hear each other and whose streams are in order.
pub(crate) async fn gathered(nodes: &[&Node]) {
    for node in nodes {
        until("nodes hear each other", || node.hears(nodes.len() - 1)).await;
        until("own records are audited", || {
            let status = node.fleet.status();
            status.connected && status.audited_at_ms.is_some() && status.queue == 0
        })
        .await;
        assert_eq!(node.fleet.status().degraded, Vec::<String>::new());
    }
}
