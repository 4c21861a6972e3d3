//! One node, wired: record, fleet, edge and control around the three snapshots and the three lanes.
//!
//! Threads: the edge's workers, the recorder's own, and two of the management runtime (fleet, API, signals), so that
//! nothing slow ever stands in front of a request.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use phalanx_control::api::{NodeStatus, Process, STOPPING};
use phalanx_control::oidc::Providers;
use phalanx_control::reporting::Reporting;
use phalanx_control::suggesting::Suggester;
use phalanx_control::{Changes, ControlDeps, CopiesPort, Listeners, Reloaded};
use phalanx_edge::{CheckListen, Edge, EdgeHandle, EdgeSettings, EdgeShared, Identities, Recording};
use phalanx_fleet::{Change, FleetError, FleetHandle, FleetKeys, GoodPort, Remembered};
use phalanx_model::lanes::{LaneReaders, Lanes};
use phalanx_model::{
    AuthorRole, Clock, CorrectedClock, LedgerEntry, LedgerKind, SecurityEvent, Swap, SystemClock, View, id,
    limits,
};
use phalanx_policy::Diagnostic;
use phalanx_record::{RecordSettings, Recorder, RequestRecorder};
use phalanx_trust::{AdminToken, LoginTickets, Operators, Sealer, Sessions};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

mod gauges;
mod learns;
mod life;
mod parts;

pub(crate) use life::{Birth, Remains};
pub(crate) use parts::nats_url;
use parts::{fleet_settings, record_settings};

use crate::check_settings::CheckSettings;
use crate::console_port::ConsoleKeeper;
use crate::crowdsec::Crowdsec;
use crate::enrolment::{self, Counter, Enrolment, Offices};
use crate::learning::{Learning, Tee};
use crate::life::sandbox::Confinement;
use crate::life::{Purpose, Sockets, at_leisure};
use crate::material_port::MaterialKeeper;
use crate::membership::{Identity, expected_fleet};
use crate::places_port::PlacesKeeper;
use crate::plan::PolicySource;
use crate::playbooks::Playbooks;
use crate::policy_follow::Kept;
use crate::policy_port::PolicyKeeper;
use crate::recording_port;
use crate::selftest::SelfTester;
use crate::settings::{Drains, Settings};
use crate::shared_keys::EdgeKeys;
use crate::state::StateFolder;
use crate::suggest_port;
use crate::upstreams::OwnNode;

/// Why a node did not start.
pub(crate) enum StartError {
    /// The policy has faults.
    Policy(Vec<Diagnostic>),
    /// Anything else.
    Other(anyhow::Error),
}

/// A running node.
pub(crate) struct Node {
    /// Without TLS.
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) tls_listen: Vec<SocketAddr>,
    /// Where other proxies ask.
    pub(crate) check_listen: Vec<SocketAddr>,
    /// Where connections are carried as they are.
    pub(crate) tcp_listen: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
    /// The console with a one-time login ticket.
    pub(crate) console: String,
    pub(crate) token_file: PathBuf,
    keepers: Keepers,
    edge: EdgeHandle,
    fleet: FleetHandle,
    recorder: Recorder,
    /// Writes what is kept for replay.
    requests: Option<RequestRecorder>,
    lanes: Lanes,
    clock: Arc<dyn Clock>,
    stop: watch::Sender<bool>,
    control: JoinHandle<()>,
    lapi: JoinHandle<()>,
    /// Gives back the security lane once the node stops.
    sharing: JoinHandle<mpsc::Receiver<SecurityEvent>>,
    /// Ends with the node.
    membership: JoinSet<()>,
    pub(crate) enrolment: Enrolment,
    sockets: Arc<Sockets>,
    drains: Drains,
    /// It was told to stop.
    stops: Arc<AtomicBool>,
    /// Why the last upgrade failed.
    upgrade_fault: life::UpgradeFault,
    /// Resolves when what was learned is on the disk.
    learned: BoxFuture<'static, ()>,
    /// Resolves when the process before this one has ended; none if there was none.
    before: Option<oneshot::Receiver<()>>,
}

/// What keeps the snapshots that files make.
#[derive(Clone)]
struct Keepers {
    policy: Arc<PolicyKeeper>,
    places: Arc<PlacesKeeper>,
    material: Arc<MaterialKeeper>,
}

impl Keepers {
    /// Reads all files again. What has faults changes nothing and does not keep the rest from being replaced.
    fn reload(&self) -> Result<Reloaded, Vec<Diagnostic>> {
        self.places.reload();
        let of_material = self.material.reload().err().unwrap_or_default();
        let outcome = match self.policy.reload() {
            Ok(reloaded) if of_material.is_empty() => Ok(reloaded),
            Ok(_) => Err(of_material),
            Err(mut faults) => {
                faults.extend(of_material);
                Err(faults)
            }
        };
        outcome.map_err(crate::life::sandbox::explain)
    }
}

impl Node {
    /// Starts everything. When this returns the node serves, with the decisions it remembers in force.
    pub(crate) async fn start(
        settings: &Settings,
        state: &StateFolder,
        source: PolicySource,
        birth: Birth,
    ) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(CorrectedClock::new(SystemClock));
        let (lanes, readers) = Lanes::new();
        // First of all: a node whose policy does not compile, or whose certificates cannot be shown, opens nothing.
        let material =
            MaterialKeeper::start(&settings.tls, Arc::clone(&clock)).map_err(StartError::Policy)?;
        let takeover = birth.start.takeover.clone();
        if let Some(keys) = takeover.as_ref().and_then(|takeover| takeover.tickets()) {
            material.tickets().store(Arc::new(keys));
        }
        let sealed = || {
            let sealer = Arc::new(Sealer::load_or_create(&state.sealing_key())?);
            let fleet = expected_fleet(settings, state, &sealer)?;
            anyhow::Ok((Kept::read(state, &sealer, fleet), sealer))
        };
        let (kept, sealer) = sealed().map_err(StartError::Other)?;
        material.remember(&sealer, state.certificates()).map_err(StartError::Other)?;
        let own = OwnNode {
            site: settings.site.clone(),
            management: management(settings),
            identities: material.identities(),
        };
        let (bundle, of_keeper) = (kept.bundle(), (lanes.clone(), Arc::clone(&clock)));
        let compile = || {
            let places = PlacesKeeper::start(settings.geo.clone());
            PolicyKeeper::start(source, bundle, own, of_keeper.0, of_keeper.1).map(|keeper| (keeper, places))
        };
        let compiled = match takeover {
            Some(_) => tokio::task::block_in_place(|| at_leisure(compile)),
            None => compile(),
        };
        let (keeper, places) = compiled.map_err(StartError::Policy)?;
        if let Some(fault) = kept.fault() {
            keeper.refuse_bundle(&fault);
        }
        let keepers =
            Keepers { policy: Arc::new(keeper), places: Arc::new(places), material: Arc::new(material) };
        if let Some(takeover) = takeover {
            birth.start.sockets.bind_others(settings).map_err(StartError::Other)?;
            tokio::task::block_in_place(|| takeover.take_state()).map_err(StartError::Other)?;
        }
        Box::pin(Self::wire(settings, state, (keepers, kept, sealer), (lanes, readers), clock, birth))
            .await
            .map_err(StartError::Other)
    }

    async fn wire(
        settings: &Settings,
        state: &StateFolder,
        (keepers, kept, sealer): (Keepers, Kept, Arc<Sealer>),
        (lanes, readers): (Lanes, LaneReaders),
        clock: Arc<dyn Clock>,
        birth: Birth,
    ) -> anyhow::Result<Self> {
        let Keepers { policy: keeper, material, places } = &keepers;
        let sockets = Arc::clone(&birth.start.sockets);
        let token = AdminToken::load_or_create(&state.admin_token())?;
        let operators = Arc::new(Operators::load(&state.operators(), Arc::clone(&sealer))?);
        // Before anything of the state is opened for writing: two nodes must not share one folder.
        let (mut listeners, admin) = bind_admin(settings, state, &sockets)?;
        listeners.tls = material.console().map(ConsoleKeeper::config);
        let mut crowdsec = Crowdsec::open(settings, state, &sockets)?;
        let policy_changes = Changes::load(&state.changes(), Arc::clone(&sealer))?;

        let (tee, mut record) = (Arc::new(Tee::default()), record_settings(settings, state, &sealer, &clock));
        record.watch = Some(tee.watch());
        record.locate = Some(places.locate());
        let (recorder, (events, security)) = open_record(record, readers)?;
        let (stop, stopping) = watch::channel(false);
        let policy_version = keeper.describe().version;
        let identity = Identity::establish(settings, state, &sealer, policy_version, clock.now_ms()).await?;
        let counter = Counter::open(settings, identity.as_ref(), &sockets)?;
        let of_node = (identity.as_deref(), counter.for_nodes());
        let snapshots = ((keeper, places), &**material, &lanes, &clock);
        let seals = Arc::clone(&sealer);
        let (edge, fleet) = start_core(settings, state, of_node, seals, snapshots, (admin, &birth)).await?;
        let (edge, to_run) = edge;
        let requests =
            recording_port::start((settings, state), &edge, Arc::clone(&sealer), &clock, recorder.status())?;
        let changes = fleet.changes();
        crowdsec.import(settings, &fleet, &clock)?;
        let mut tasks = JoinSet::new();
        share_material(settings, (keeper, material), &fleet, &clock, &mut tasks).await?;
        tasks.spawn(kept.follow(Arc::clone(keeper), fleet.clone(), edge.clone(), Arc::clone(&clock)));
        let of_fleet = (&fleet, &lanes, &clock);
        let (offices, enrolment) =
            enrolment::keep(settings, identity.as_ref(), counter, of_fleet, &stopping, &mut tasks)?;
        let to_share = (events, security);
        let sharing = tokio::spawn(share(to_share, fleet.clone(), lanes.clone(), stopping.clone()));
        let learning = learns::start(
            (settings, state, Arc::clone(&sealer)),
            (&tee, recorder.reports()),
            (&keepers, &edge, admin),
            (&fleet, &lanes, &clock),
            &stopping,
            &mut tasks,
        )?;
        sockets.check_all_used()?;
        let takeover = birth.start.takeover.clone();
        fleet.share_operators(&operators)?;
        let copies = parts::copies((settings, state), &fleet, sealer, (places, &clock))?;
        let running = Running {
            keepers,
            edge,
            fleet,
            recorder,
            lanes,
            clock,
            sharing,
            birth,
            learning,
            operators,
            policy_changes,
            requests,
            copies,
        };
        let member = (identity, offices, enrolment, tasks);
        let listening = (listeners, admin, token, crowdsec);
        let mut node = running.serve(settings, state, listening, member, (stop, stopping))?;
        // Last: connections that are accepted here must not be lost by a start that fails.
        if let (Some(edge), Some(takeover)) = (to_run, takeover) {
            edge.run().context("cannot start the workers")?;
            let heard = (changes, node.fleet.view());
            node.before = takeover.ready(node.lanes.clone(), Arc::clone(node.edge.tables()), heard)?;
        }
        Ok(node)
    }

    /// What is in force.
    pub(crate) fn plan(&self) -> phalanx_control::api::Plan {
        self.keepers.policy.describe()
    }

    /// Loads policy, databases and certificates again; what has faults changes nothing.
    pub(crate) fn reload(&self) -> Result<Reloaded, Vec<Diagnostic>> {
        self.keepers.reload()
    }

    /// Drains requests, closes the state, ends.
    pub(crate) async fn stop(self) {
        self.stops.store(true, Ordering::Relaxed);
        self.sockets.close();
        self.edge.drain(self.drains.stop).await;
        let entry = LedgerKind::Node { state: "stopped".into() };
        let _ = self.lanes.ledger(LedgerEntry { at_ms: self.clock.now_ms(), kind: entry });
        self.stop.send_replace(true);
        let _ = self.control.await;
        let _ = self.lapi.await;
        let _ = self.sharing.await;
        self.learned.await;
        self.fleet.shutdown().await;
        // Blocks until the lanes are written; nothing else runs any more.
        let (recorder, requests) = (self.recorder, self.requests);
        let _ = tokio::task::spawn_blocking(move || {
            drop(requests);
            recorder.stop();
        })
        .await;
    }
}

/// What runs before anybody can ask about it.
struct Running {
    keepers: Keepers,
    edge: EdgeHandle,
    fleet: FleetHandle,
    recorder: Recorder,
    lanes: Lanes,
    clock: Arc<dyn Clock>,
    sharing: JoinHandle<mpsc::Receiver<SecurityEvent>>,
    birth: Birth,
    learning: (Learning, Playbooks, Arc<Reporting>),
    operators: Arc<Operators>,
    policy_changes: Changes,
    requests: Option<RequestRecorder>,
    copies: CopiesPort,
}

impl Running {
    /// Answers operators and bouncers from here on.
    fn serve(
        self,
        settings: &Settings,
        state: &StateFolder,
        (listeners, admin, token, crowdsec): (Listeners, SocketAddr, AdminToken, Crowdsec),
        (identity, offices, enrolment, mut tasks): Membership,
        (stop, stopping): (watch::Sender<bool>, watch::Receiver<bool>),
    ) -> anyhow::Result<Node> {
        let Self {
            keepers,
            edge,
            fleet,
            recorder,
            lanes,
            clock,
            sharing,
            birth,
            learning,
            operators,
            policy_changes,
            requests,
            copies,
        } = self;
        let (learning, playbooks, reporting) = learning;
        let fault = birth.start.takeover.as_ref().and_then(|takeover| takeover.fault());
        let upgrade_fault = Arc::new(Mutex::new(fault.map(str::to_owned)));
        let stops = Arc::new(AtomicBool::new(false));
        let process = (birth.confinement, Arc::clone(&upgrade_fault), Arc::clone(&stops));
        let (started_at_ms, learned) = (clock.now_ms(), learning.ended().boxed());
        let entry = LedgerKind::Node { state: "started".into() };
        lanes.ledger(LedgerEntry { at_ms: started_at_ms, kind: entry })?;
        let of_tester = (&fleet, &lanes, &clock);
        let tester = SelfTester::new(settings, &edge, keepers.policy.plan(), of_tester);
        tasks.spawn(Arc::clone(&tester).run(stopping.clone()));
        let tickets = Arc::new(LoginTickets::default());
        let console = (settings.console_names.as_slice(), settings.tls.console.is_some());
        let console = phalanx_control::login_url(admin, console, false, &tickets.issue(started_at_ms));
        let suggestions =
            requests.as_ref().map(|requests| suggest_port::port(requests.reader(), &keepers.policy));
        let deps = ControlDeps {
            site: settings.site.as_str().into(),
            node: settings.node.as_str().into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at_ms,
            clock: Arc::clone(&clock),
            listen: Some(admin),
            host_names: settings.console_names.clone(),
            tls: settings.tls.console.is_some(),
            token,
            tickets,
            sessions: Arc::new(Sessions::default()),
            operators,
            providers: Providers::new(settings.oidc.providers.clone()).map_err(anyhow::Error::msg)?,
            fleet: fleet.clone(),
            history: recorder.history(),
            copies: copies.clone(),
            ledger: recorder.ledger(),
            live: recorder.live(),
            recorder: recorder.status(),
            metrics: gauges::metrics(
                &edge,
                &lanes,
                &recorder,
                &keepers,
                (&fleet, &learning, &tester, &reporting, &copies),
                &clock,
            ),
            incidents: learning.port(),
            playbooks: playbooks.port(),
            lanes: lanes.clone(),
            counters: edge.counters().to_vec(),
            self_test: tester.port(),
            receivers: settings.tell.receivers.clone(),
            reporting: Arc::clone(&reporting),
            node_status: node_status(
                settings,
                &keepers,
                identity,
                (fleet.view(), edge.clone()),
                (learning, playbooks, tester, reporting),
                process,
            ),
            authority: offices.authority,
            delegate: offices.delegate,
            policy: policy_port(&keepers),
            bundles: bundle_port(&keepers.policy),
            running: running_port(&keepers.policy),
            rule_words: crate::policy_port::rule_words_port(&keepers.policy),
            changes: policy_changes,
            replays: requests
                .as_ref()
                .map(|requests| recording_port::port(requests.reader(), &keepers.policy)),
            suggestions: suggestions.clone(),
            upgrade: life::upgrade_port(birth.bell),
            bouncers: crowdsec.bouncers(),
            imports: crowdsec.imports(),
            exempt: keepers.policy.exempt_port(),
            lapi_listen: crowdsec.listen(),
        };
        tokio::spawn(crate::load::follow(edge.clone(), lanes.clone(), Arc::clone(&clock)));
        let suggester = Suggester::for_others(recorder.history(), suggestions);
        tokio::spawn(phalanx_control::inquiry::answer_all(fleet.clone(), suggester, copies.history()));
        tasks.spawn(copies.run(fleet.clone(), recorder.history()));
        let router = phalanx_control::router(deps);
        let control = tokio::spawn(phalanx_control::serve(router, listeners, stopping.clone()));
        let lapi = crowdsec.serve((&keepers.policy, &keepers.places), &fleet, &clock, stopping);
        Ok(Node {
            listen: edge.plain_addrs().to_vec(),
            tls_listen: edge.tls_addrs().to_vec(),
            check_listen: edge.check_addrs().to_vec(),
            tcp_listen: edge.tcp_addrs().to_vec(),
            admin,
            console,
            token_file: state.admin_token(),
            keepers,
            edge,
            fleet,
            recorder,
            requests,
            lanes,
            clock,
            stop,
            control,
            lapi,
            sharing,
            membership: tasks,
            enrolment,
            sockets: birth.start.sockets,
            drains: settings.drains,
            stops,
            upgrade_fault,
            learned,
            before: None,
        })
    }
}

type Membership = (Option<Arc<Identity>>, Offices, Enrolment, JoinSet<()>);

fn bind_admin(
    settings: &Settings,
    state: &StateFolder,
    sockets: &Sockets,
) -> anyhow::Result<(Listeners, SocketAddr)> {
    let path = state.admin_socket();
    let socket = sockets.admin_socket(|| phalanx_control::bind_socket(&path));
    let socket = socket.with_context(|| format!("cannot listen on {}", path.display()))?;
    let tcp = bind(sockets, Purpose::Admin, settings.admin, "the admin address")?;
    let admin = tcp.local_addr()?;
    Ok((Listeners { tcp: Some(tcp), tls: None, socket: Some(socket) }, admin))
}

type Security = (mpsc::Receiver<SecurityEvent>, mpsc::Sender<SecurityEvent>);

/// The record; the events of the security lane as the edge writes them, and where the record takes them.
fn open_record(settings: RecordSettings, readers: LaneReaders) -> anyhow::Result<(Recorder, Security)> {
    let (security, recorded) = mpsc::channel(limits::SECURITY_LANE_EVENTS);
    let LaneReaders { access, security: shared, ledger, dropped } = readers;
    let of_record = LaneReaders { access, security: recorded, ledger, dropped };
    Ok((Recorder::open(settings, of_record)?, (shared, security)))
}

type Snapshots<'a> =
    ((&'a Arc<PolicyKeeper>, &'a Arc<PlacesKeeper>), &'a MaterialKeeper, &'a Lanes, &'a Arc<dyn Clock>);

/// Starts the edge, then the fleet: the edge serves with what the node remembers while the fleet's state is opened, which takes a
/// while when it is large.
async fn start_core(
    settings: &Settings,
    state: &StateFolder,
    (identity, enrol): (Option<&Identity>, Vec<String>),
    sealer: Arc<Sealer>,
    ((keeper, places), material, lanes, clock): Snapshots<'_>,
    (admin, birth): (SocketAddr, &Birth),
) -> anyhow::Result<((EdgeHandle, Option<Edge>), FleetHandle)> {
    let keys = match identity {
        Some(identity) => identity.fleet_keys()?,
        None => FleetKeys::load_or_create(state.path(), &sealer, true)?,
    };
    let fleet_settings = phalanx_fleet::FleetSettings { enrol, ..fleet_settings(settings, state, identity)? };
    let remembered = Remembered::read(&fleet_settings, Arc::clone(&sealer)).await?;
    let shared = EdgeShared {
        plan: keeper.plan(),
        view: remembered.view(),
        places: places.places(),
        material: material.material(),
        lanes: lanes.clone(),
        clock: Arc::clone(clock),
    };
    // Also without a word in the settings: an enrolled node is told by its authority where the others are.
    let counts_jointly = settings.fleet.is_some() || fleet_settings.nats.is_some();
    let secret = fleet_settings.secret.as_ref();
    let of_fleet = counts_jointly.then_some((&*fleet_settings.fleet_id, secret));
    let keys_of_edge = EdgeKeys::of(&keys, identity, of_fleet, material.tickets());
    let bound =
        bind_edge(settings, (keys_of_edge, material.identities()), (admin, &birth.start.sockets), shared)?;
    let edge = bound.handle();
    let to_run = match birth.start.takeover.is_some() {
        true => Some(bound),
        false => bound.run().map(|_| None).context("cannot start the workers")?,
    };
    let (lanes, clock) = (lanes.clone(), Arc::clone(clock));
    let fleet = FleetHandle::start_with(remembered, fleet_settings, sealer, keys, lanes, clock).await?;
    fleet.measure_by(settings.held, good_port(&edge, places)).await;
    tokio::spawn(forgive(fleet.changes(), edge.clone()));
    tokio::spawn(crate::duty::follow(fleet.clone(), edge.clone()));
    if counts_jointly {
        tokio::spawn(crate::rates::share(Arc::clone(edge.tables()), keeper.plan(), fleet.clone()));
    }
    Ok(((edge, to_run), fleet))
}

/// Has the nodes of the site share keys of session tickets and certificates that are ordered.
async fn share_material(
    settings: &Settings,
    (keeper, material): (&Arc<PolicyKeeper>, &Arc<MaterialKeeper>),
    fleet: &FleetHandle,
    clock: &Arc<dyn Clock>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    // Also without a listener for TLS: passes may be signed with what is made of them.
    // Keys of a process before: a revocation may have come since they were on their way.
    crate::tickets_port::begin(fleet, &material.tickets(), clock.now_ms());
    tasks.spawn(crate::tickets_port::follow(fleet.clone(), material.tickets(), Arc::clone(clock)));
    if let Some(acme) = settings.tls.acme.as_ref().filter(|_| !settings.tls.listeners.is_empty()) {
        let shown = (keeper.plan(), Arc::clone(material));
        tasks.spawn(crate::acme_port::start(acme, fleet, shown, Arc::clone(clock)).await?);
    }
    Ok(())
}

/// The clients that the edge served well, and where they are.
fn good_port(edge: &EdgeHandle, places: &Arc<PlacesKeeper>) -> GoodPort {
    let (tables, places) = (Arc::clone(edge.tables()), places.places());
    GoodPort {
        clients: Box::new(move |now_ms| tables.good.clients(now_ms)),
        place: Box::new(move |ip| {
            let place = places.load().of(ip);
            (place.asn, place.country)
        }),
    }
}

/// Listeners that no app's requests may go to.
fn management(settings: &Settings) -> Vec<SocketAddr> {
    [Some(settings.admin), settings.lapi].into_iter().flatten().filter(|listen| listen.port() != 0).collect()
}

fn check_listeners(settings: &Settings) -> Vec<CheckListen> {
    let mut places = settings.tls.listeners.len()..;
    let place = |one: &CheckSettings| one.tls.as_ref().and_then(|_| places.next());
    let with_places: Vec<_> = settings.checks.iter().map(place).collect();
    settings.checks.iter().zip(with_places).map(|(one, place)| one.for_edge(place)).collect()
}

fn bind_edge(
    settings: &Settings,
    (keys, identities): (EdgeKeys, Identities),
    (admin, sockets): (SocketAddr, &Sockets),
    shared: EdgeShared,
) -> anyhow::Result<Edge> {
    let tag = id::node_tag(&settings.site, &settings.node);
    let mut edge_settings = EdgeSettings::new(settings.listen.clone(), settings.workers, tag);
    edge_settings.tls_listen = settings.tls.listeners.iter().map(|listener| listener.address).collect();
    edge_settings.check_listen = check_listeners(settings);
    edge_settings.tcp_listen = settings.tcp.iter().map(|one| one.listen.clone()).collect();
    let plain = (0..settings.listen.len()).map(|place| settings.proxied.get(place).cloned().flatten());
    let tls = settings.tls.listeners.iter().map(|listener| listener.proxied.clone());
    edge_settings.proxied = plain.chain(tls).collect();
    edge_settings.never_upstream = management(settings);
    // As bound: the settings may leave the port to the system.
    edge_settings.never_upstream.push(admin);
    edge_settings.audit = settings.logs.audit.is_some();
    let recording = settings.recording.as_ref();
    edge_settings.recording = recording.map(|one| Arc::new(Recording::new(one.except.clone())));
    edge_settings.h2c = settings.h2c;
    edge_settings.trace = settings.trace;
    edge_settings.limits = crate::limit_settings::within_machine(&settings.limits);
    edge_settings.identities = identities;
    edge_settings.sticky_key = keys.sticky;
    edge_settings.pass_keys = keys.passes;
    edge_settings.names = keys.names;
    if let Some(key) = keys.rates {
        edge_settings.rate_hash_key = key;
    }
    let checks: Vec<_> = settings.checks.iter().map(|one| one.address).collect();
    let tcp: Vec<_> = settings.tcp.iter().map(|one| one.listen.address).collect();
    let all = [edge_settings.listen.as_slice(), &edge_settings.tls_listen, &checks, &tcp].concat();
    let given = sockets.of_edge(&edge_settings.listen, &edge_settings.tls_listen, &checks, &tcp);
    Edge::bind(edge_settings, shared, given).with_context(|| format!("cannot listen on {}", words(&all)))
}

/// Turns the node's proposals into decisions, then hands the events on to the record. A record that does not keep up
/// loses events, counted; it never delays a decision.
///
/// When the node stops it goes on until nothing is left, and gives the lane back with what comes after that.
async fn share(
    (mut events, record): (mpsc::Receiver<SecurityEvent>, mpsc::Sender<SecurityEvent>),
    fleet: FleetHandle,
    lanes: Lanes,
    mut stopping: watch::Receiver<bool>,
) -> mpsc::Receiver<SecurityEvent> {
    let mut stuck = false;
    loop {
        let event = tokio::select! {
            biased;
            event = events.recv() => event,
            _ = stopping.wait_for(|stops| *stops) => None,
        };
        let Some(event) = event else { return events };
        if let SecurityEvent::Proposal(proposal) = &event {
            let mut decided = fleet.propose(proposal.clone());
            // A burst waits for the ledger, a full disk does not hold up what comes after.
            if matches!(decided, Err(FleetError::Ledger(_))) && !stuck {
                stuck = tokio::time::timeout(LEDGER_WAIT, lanes.ledger_room()).await.is_err();
                decided = fleet.propose(proposal.clone());
            }
            match decided {
                Ok(_) => stuck = false,
                Err(error) => tracing::warn!(%error, actor = %proposal.actor, "a proposal was refused"),
            }
        }
        let is_request = matches!(event, SecurityEvent::Request { .. });
        if record.try_send(event).is_err() {
            lanes.dropped().add_security(is_request);
        }
    }
}

/// The ledger writes a batch in milliseconds.
const LEDGER_WAIT: Duration = Duration::from_secs(2);

/// Forgets the strikes of actors whose decisions an operator withdrew, on every node.
async fn forgive(mut changes: broadcast::Receiver<Change>, edge: EdgeHandle) {
    loop {
        match changes.recv().await {
            Ok(change) => {
                if let Some(ip) = forgiven(&change) {
                    edge.tables().strikes.forgive(ip);
                }
            }
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Whose strikes a change wipes out. Only an operator forgives: a stolen node must not keep an attacker's strikes at
/// zero on all others by taking back bans of its own.
fn forgiven(change: &Change) -> Option<IpAddr> {
    match change {
        Change::Withdrawn(withdrawal) if withdrawal.author.role == AuthorRole::Operator => {
            withdrawal.actor.range().map(|range| range.addr())
        }
        // An author's error says nothing about each of the addresses: their strikes were other requests'.
        Change::Withdrawn(_) | Change::Decided(_) | Change::Recalled(_) | Change::Listed(_) => None,
    }
}

fn node_status(
    settings: &Settings,
    keepers: &Keepers,
    identity: Option<Arc<Identity>>,
    (view, edge): (Arc<Swap<View>>, EdgeHandle),
    (learning, playbooks, tester, reporting): (Learning, Playbooks, Arc<SelfTester>, Arc<Reporting>),
    (confinement, upgrade_fault, stops): (Confinement, life::UpgradeFault, Arc<AtomicBool>),
) -> phalanx_control::StatusPort {
    let Keepers { policy: keeper, places, material } = keepers.clone();
    let shared = settings.fleet.as_ref().filter(|fleet| fleet.url.is_some());
    let tcp = settings.tcp.clone();
    let open = identity.is_none() && shared.is_some_and(|fleet| fleet.secret_file.is_none());
    Box::new(move || {
        let mut degraded = keeper.degraded();
        degraded.extend(crate::tcp_settings::degraded(&tcp, &keeper.plan().load()));
        degraded.extend(places.degraded(&view.load()));
        degraded.extend(material.degraded());
        degraded.extend(playbooks.degraded());
        degraded.extend(crate::load::degraded(&edge));
        degraded.extend(open.then(|| OPEN_FLEET.to_owned()));
        degraded.extend(identity.as_ref().and_then(|identity| identity.fault()));
        degraded.extend(confinement.degraded.iter().cloned());
        let fault = upgrade_fault.lock().clone();
        degraded.extend(fault.map(|fault| format!("{UPGRADE_FAILED}{fault}")));
        degraded.extend(learning.degraded());
        degraded.extend(tester.degraded());
        degraded.extend(reporting.degraded());
        NodeStatus {
            plan: keeper.describe(),
            not_ready: stops.load(Ordering::Relaxed).then(|| STOPPING.to_owned()),
            degraded,
            certificates: material.certificates(),
            process: Process { id: std::process::id(), confinement: confinement.holds.clone() },
            load: crate::load::report(&edge),
            learning: learning.status(),
        }
    })
}

fn policy_port(keepers: &Keepers) -> phalanx_control::PolicyPort {
    let keepers = keepers.clone();
    Box::new(move || {
        let keepers = keepers.clone();
        async move {
            // Compiling takes a good part of a second and must not hold up the API.
            let failed = |_| vec![Diagnostic::error("policy", 0, "loading it was cut off")];
            tokio::task::spawn_blocking(move || keepers.reload()).await.unwrap_or_else(|e| Err(failed(e)))
        }
        .boxed()
    })
}

fn running_port(keeper: &Arc<PolicyKeeper>) -> phalanx_control::RunningPort {
    let keeper = Arc::clone(keeper);
    Box::new(move || keeper.running())
}

/// Tries a policy as the node would when it came as the fleet's.
fn bundle_port(keeper: &Arc<PolicyKeeper>) -> phalanx_control::BundlePort {
    let keeper = Arc::clone(keeper);
    Box::new(move |files, entry| {
        let keeper = Arc::clone(&keeper);
        let failed = |_| vec![Diagnostic::error("policy", 0, "compiling it was cut off")];
        let trying = tokio::task::spawn_blocking(move || keeper.try_files(files, entry));
        async move { trying.await.unwrap_or_else(|e| Err(failed(e))) }.boxed()
    })
}

pub(crate) fn bind(
    sockets: &Sockets,
    purpose: Purpose,
    address: SocketAddr,
    what: &str,
) -> anyhow::Result<TcpListener> {
    sockets.tcp(purpose, address).with_context(|| format!("cannot listen on {address}, {what}"))
}

fn words(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// How the status begins to tell of an upgrade that failed.
pub(crate) const UPGRADE_FAILED: &str = "the last upgrade failed: ";
/// What an operator must know of a fleet without a secret.
const OPEN_FLEET: &str = "the fleet has no secret: whoever reaches the NATS server can join it and give operators' orders; \
     give the fleet an authority with `phalanx fleet init`, or start every node with the same --fleet-secret";

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_model::{Actor, Author, DecisionId, Withdrawal};

    #[test]
    fn only_an_operators_withdrawal_forgives_strikes() {
        let withdrawn = |role| {
            Change::Withdrawn(Arc::new(Withdrawal {
                id: DecisionId::from_parts(1, 1, 1),
                actor: Actor::ip("2001:db8::1".parse().unwrap()),
                author: Author { site: "fra".into(), node: "a".into(), role },
                up_to_version: 1,
                reason: String::new(),
                created_at_ms: 0,
                expires_at_ms: 1,
            }))
        };
        assert_eq!(forgiven(&withdrawn(AuthorRole::Operator)), "2001:db8::".parse().ok());
        assert_eq!(forgiven(&withdrawn(AuthorRole::Node)), None);
    }
}
