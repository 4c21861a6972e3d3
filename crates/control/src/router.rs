//! What control needs of the node, and the tree of routes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, patch, post};
use axum::{Extension, Router};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use phalanx_fleet::FleetHandle;
use phalanx_learn::Ruling;
use phalanx_model::counters::WorkerCounters;
use phalanx_model::lanes::Lanes;
use phalanx_model::limits::BLOCKLIST_TEXT_BYTES_MAX;
use phalanx_model::{Clock, LedgerEntry, LedgerKind};
use phalanx_policy::{Diagnostic, FileSet, Policy};
use phalanx_record::ledger::LedgerReader;
use phalanx_record::{History, Metrics, RecordedRequest, RecorderStatus};
use phalanx_trust::{
    AdminToken, FleetAuthority, LoginTickets, Operators, PasskeyChallenges, Sessions, SiteDelegate,
};
use tokio::sync::{Notify, Semaphore, broadcast, watch};

use crate::api::{Incident, IncidentRow, NodeStatus, PlaybookRow, PlaybookRun, Replayed, SelfTest};
use crate::auth::{Channel, Failures, Principal, check_host, from_here, require};
use crate::body;
use crate::changes::Changes;
use crate::console;
use crate::copies::CopiesPort;
use crate::error::ApiError;
use crate::handlers::{
    account, audit, blocklists, bouncers, bundles, changes, decisions, delegation, events, exclusions, fixes,
    fleet, followers, health, held, incidents, inquiry, login, oidc as providers, operations, operators,
    playbooks, policy, receivers, replay, report, reports, selftest, session, status, stream, suggestion,
    traffic, upgrade, versions,
};
use crate::host::{HostName, host_is_ours};
use crate::hub::Hub;
use crate::idempotency;
use crate::import::Importer;
use crate::lapi::{Bouncers, ExemptPort};
use crate::limits::{
    BODY_BYTES_MAX, HASHES_MAX, HISTORY_QUERIES_MAX, SNAPSHOT_FILE_BYTES_MAX, SUBSCRIBERS_MAX, TESTS_MAX,
};
use crate::oidc::{self, Providers};
use crate::open::Open;
use crate::openapi;
use crate::pace::{self, Pace};
use crate::parameters;
use crate::playbook::told::Asked;
use crate::receiver::Receiver;
use crate::recorded;
use crate::reporting::{self, Reporting};
use crate::suggest::Draft;
use crate::throttle::Throttle;

/// What control needs of the node it manages.
pub struct ControlDeps {
    /// This node's site.
    pub site: Arc<str>,
    /// This node's name.
    pub node: Arc<str>,
    /// The product's version.
    pub version: String,
    /// When the node started, in Unix milliseconds.
    pub started_at_ms: u64,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The TCP address that API and console listen on, as it was bound; `None` without one.
    pub listen: Option<SocketAddr>,
    /// Further host names under which the console may be opened.
    pub host_names: Vec<HostName>,
    /// The TCP listener speaks TLS itself.
    pub tls: bool,
    /// The token of the API.
    pub token: AdminToken,
    /// Tickets of login links.
    pub tickets: Arc<LoginTickets>,
    /// Console sessions.
    pub sessions: Arc<Sessions>,
    /// Accounts of operators.
    pub operators: Arc<Operators>,
    /// Identity providers by which operators log in.
    pub providers: Providers,
    /// The fleet.
    pub fleet: FleetHandle,
    /// What was recorded.
    pub history: History,
    /// Copies of history within the site.
    pub copies: CopiesPort,
    /// What was decided and done.
    pub ledger: LedgerReader,
    /// Requests as they are recorded.
    pub live: broadcast::Sender<Arc<RecordedRequest>>,
    /// The recorder's state.
    pub recorder: RecorderStatus,
    /// The metrics.
    pub metrics: Metrics,
    /// For ledger entries, and what the lanes dropped.
    pub lanes: Lanes,
    /// The data plane's counts, one per worker.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// What the binary tells about the node.
    pub node_status: StatusPort,
    /// What the node's learner knows.
    pub incidents: IncidentsPort,
    /// What the node knows of playbooks.
    pub playbooks: PlaybooksPort,
    /// Loads the policy again.
    pub policy: PolicyPort,
    /// Tries a policy before it is pushed.
    pub bundles: BundlePort,
    /// Tells the policy that the node runs.
    pub running: RunningPort,
    /// Tells what rules of that policy say.
    pub rule_words: RuleWordsPort,
    /// Changes of policy, those that wait among them.
    pub changes: Changes,
    /// Tries a policy on recorded requests; `None` where none are recorded.
    pub replays: Option<ReplayPort>,
    /// Judges a recorded request with exclusions; `None` where none are recorded.
    pub suggestions: Option<SuggestPort>,
    /// Has another process take over.
    pub upgrade: UpgradePort,
    /// The node's attacks on itself.
    pub self_test: SelfTestPort,
    /// Who can be told, by name.
    pub receivers: BTreeMap<String, Receiver>,
    /// Reports that are sent by themselves.
    pub reporting: Arc<Reporting>,
    /// The fleet's authority, on the node that holds it.
    pub authority: Option<AuthorityPort>,
    /// The site's delegate, on the node that is or may become it.
    pub delegate: Option<DelegatePort>,
    /// Who may read decisions as from a CrowdSec local API.
    pub bouncers: Arc<Bouncers>,
    /// Sources whose decisions are taken over.
    pub imports: Vec<Arc<Importer>>,
    /// Asks for the addresses that policy exempts from decisions.
    pub exempt: ExemptPort,
    /// Where bouncers ask, as it was bound; `None` if nowhere.
    pub lapi_listen: Option<SocketAddr>,
}

/// The fleet's authority as operators reach it.
#[derive(Debug, Clone)]
pub struct AuthorityPort {
    /// The authority. Locked for as long as a small file takes to be written.
    pub authority: Arc<Mutex<FleetAuthority>>,
    /// Where nodes enrol: `HOST:PORT`; empty while nothing listens.
    pub addresses: Vec<String>,
    /// Wakes whoever tells servers what is new.
    pub changed: Arc<Notify>,
}

/// A site's delegate as operators reach it.
#[derive(Debug, Clone)]
pub struct DelegatePort {
    /// The delegate. Locked for as long as a small file takes to be written.
    pub delegate: Arc<Mutex<SiteDelegate>>,
    /// Where nodes enrol: `HOST:PORT`.
    pub addresses: Vec<String>,
}

/// Asks the binary about the node.
pub type StatusPort = Box<dyn Fn() -> NodeStatus + Send + Sync>;

/// Asks the node's learner about incidents. Each comes with the ids that it is known by. Nothing is answered while the learner does not run.
pub struct IncidentsPort {
    /// All that are known, open ones first, the newest first.
    pub list: Ask<(), Option<Vec<WithIds<IncidentRow>>>>,
    /// One by its id.
    pub show: Ask<u64, Option<WithIds<Incident>>>,
    /// Rules as an operator, for all nodes; says whether that was heard.
    pub rule: Ask<Ruling, bool>,
}

/// The node's attacks on itself.
pub struct SelfTestPort {
    /// What became of them.
    pub report: Box<dyn Fn() -> SelfTest + Send + Sync>,
    /// Runs them now; `None` while the node is out of service.
    pub run: Ask<(), Option<SelfTest>>,
}

/// Asks whoever runs playbooks.
pub struct PlaybooksPort {
    /// Those that the node's policy uses.
    pub list: Box<dyn Fn() -> Vec<PlaybookRow> + Send + Sync>,
    /// Runs for an incident, by any of its ids.
    pub runs: RunsPort,
    /// Has the node that runs playbooks do what an operator asks.
    pub ask: Ask<Asked, Result<(), NotAsked>>,
}

/// Runs for an incident, by its ids.
pub type RunsPort = Box<dyn Fn(&[u64]) -> Vec<PlaybookRun> + Send + Sync>;

/// Why what an operator asked of playbooks was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAsked {
    /// There is nothing of that name here, or nobody asked.
    Unknown(String),
    /// It was done before, or too many are under way.
    Conflict(String),
    /// The node that runs playbooks did not hear it, or cannot.
    Unheard(String),
}

/// What is known of an incident, and all ids that it is known by.
pub type WithIds<T> = (T, Vec<u64>);

/// A question to the learner.
pub type Ask<Q, A> = Box<dyn Fn(Q) -> BoxFuture<'static, A> + Send + Sync>;

/// Asks the binary to load the policy again: its versions before and after, or why it was refused.
pub type PolicyPort = Box<dyn Fn() -> BoxFuture<'static, Result<Reloaded, Vec<Diagnostic>>> + Send + Sync>;

/// Asks the binary to be followed by a process of what is installed now: resolves once that process is prepared, or with why it is not.
pub type UpgradePort = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Asks the binary to compile files as a policy, whose file is the one named, without putting it into force.
pub type BundlePort = Box<
    dyn Fn(BTreeMap<String, Vec<u8>>, String) -> BoxFuture<'static, Result<TriedBundle, Vec<Diagnostic>>>
        + Send
        + Sync,
>;

/// Asks the binary to show what it recorded since a moment to the policy in force and to another, which is given as files.
pub type ReplayPort = Box<
    dyn Fn(BTreeMap<String, Vec<u8>>, String, u64) -> BoxFuture<'static, Result<Replayed, NotReplayed>>
        + Send
        + Sync,
>;

/// Asks the binary to judge a recorded request with the exclusions of a draft, and to add what is missing to let it pass.
pub type SuggestPort = Arc<dyn Fn(Draft) -> BoxFuture<'static, Result<Draft, NotReplayed>> + Send + Sync>;

/// Why nothing was replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReplayed {
    /// The policy has faults.
    Policy(Vec<Diagnostic>),
    /// What was recorded cannot be read.
    Recording(String),
}

/// What there is to know of a policy that compiles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TriedBundle {
    /// The version that its file names.
    pub version: u64,
    /// What whoever loads it must know of.
    pub requires: Vec<String>,
    /// What was said on the way.
    pub warnings: Vec<Diagnostic>,
}

/// Asks the binary for the policy that the node runs.
pub type RunningPort = Box<dyn Fn() -> RunningPolicy + Send + Sync>;

/// Asks the binary what rules say, by their ids, as the policy's author wrote it. Those that the policy does not have are left out.
pub type RuleWordsPort = Box<dyn Fn(&[u64]) -> BTreeMap<u64, String> + Send + Sync>;

/// The policy that a node runs.
#[derive(Debug, Clone)]
pub struct RunningPolicy {
    /// The start of its bundle's hash; none while it is the node's own.
    pub bundle: Option<String>,
    /// The name of the policy file; none where the command line says it all.
    pub entry: Option<String>,
    /// That file and all that it names.
    pub files: Option<Arc<FileSet>>,
    /// What it says.
    pub policy: Policy,
}

/// The outcome of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloaded {
    /// The plan's version before.
    pub from: u64,
    /// The plan's version now.
    pub to: u64,
}

/// What all handlers share.
pub(crate) struct Control {
    pub(crate) deps: ControlDeps,
    pub(crate) cookie_name: String,
    pub(crate) failures: Failures,
    pub(crate) throttle: Throttle,
    /// How fast each caller asks.
    pub(crate) pace: Pace,
    /// What was asked with an `Idempotency-Key`.
    pub(crate) asked: idempotency::Asked,
    /// Who keeps a git branch and the policy in step.
    pub(crate) followers: followers::Followers,
    pub(crate) challenges: PasskeyChallenges,
    /// Passwords hashed at once.
    pub(crate) hashing: Arc<Semaphore>,
    pub(crate) hub: Hub,
    /// Bumped at each logout, so that open streams look whether it was theirs.
    pub(crate) logouts: watch::Sender<u64>,
    pub(crate) subscribers: Arc<Semaphore>,
    /// Open streams of each caller.
    pub(crate) streams: Mutex<Open<String>>,
    pub(crate) history_queries: Arc<Semaphore>,
    /// Receivers that are being tested.
    pub(crate) telling: Semaphore,
    /// One import of a blocklist at a time.
    pub(crate) importing: Semaphore,
    /// One replay at a time.
    pub(crate) replaying: Arc<Semaphore>,
    /// One reload at a time.
    pub(crate) reloading: tokio::sync::Mutex<()>,
}

impl Control {
    pub(crate) fn now_ms(&self) -> u64 {
        self.deps.clock.now_ms()
    }

    pub(crate) fn knows_host(&self, host: &str) -> bool {
        host_is_ours(host, self.deps.listen.map(|listen| listen.ip()), &self.deps.host_names)
    }

    /// Waits a moment for the ledger while a burst of orders is written. With a full disk there is no room, and the order is refused.
    pub(crate) async fn ledger_room(&self) {
        let _ = tokio::time::timeout(crate::limits::LEDGER_WAIT, self.deps.lanes.ledger_room()).await;
    }

    /// Has open streams look whether they are still welcome.
    pub(crate) fn look_again(&self) {
        self.logouts.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Records what an operator is about to do. Without room in the ledger it must not be done.
    pub(crate) fn record(&self, who: &Principal, action: &str) -> Result<(), ApiError> {
        self.record_as(&who.name(), action)
    }

    /// Records what somebody of this name is about to do.
    pub(crate) fn record_as(&self, name: &str, action: &str) -> Result<(), ApiError> {
        let kind =
            LedgerKind::OperatorAction { action: format!("{action} (by {name})"), by: Some(name.to_owned()) };
        let entry = LedgerEntry { at_ms: self.now_ms(), kind };
        self.deps.lanes.ledger(entry).map_err(|_| ApiError::ledger_full())?;
        recorded::announced(name, action);
        Ok(())
    }
}

/// The whole of API and console. Needs a tokio runtime: the hub of the live stream runs on it, and what sends reports, until the router and
/// all its clones are gone.
pub fn router(deps: ControlDeps) -> Router {
    // Only this very host sets such a cookie, and only over TLS (RFC 6265bis section 4.1.3.2).
    let prefix = if deps.tls { "__Host-" } else { "" };
    let cookie_name = match deps.listen {
        // Browsers share cookies between the ports of a host; two nodes on one machine must not log each other out.
        Some(listen) => format!("{prefix}phalanx_session_{}", listen.port()),
        None => format!("{prefix}phalanx_session"),
    };
    let hub = Hub::start(&deps);
    let control = Arc::new(Control {
        deps,
        cookie_name,
        failures: Failures::default(),
        throttle: Throttle::default(),
        pace: Pace::default(),
        asked: idempotency::Asked::default(),
        followers: followers::Followers::default(),
        challenges: PasskeyChallenges::default(),
        hashing: Arc::new(Semaphore::new(HASHES_MAX)),
        hub,
        logouts: watch::Sender::new(0),
        subscribers: Arc::new(Semaphore::new(SUBSCRIBERS_MAX)),
        streams: Mutex::default(),
        history_queries: Arc::new(Semaphore::new(HISTORY_QUERIES_MAX)),
        telling: Semaphore::new(TESTS_MAX),
        importing: Semaphore::new(1),
        replaying: Arc::new(Semaphore::new(1)),
        reloading: tokio::sync::Mutex::new(()),
    });
    tokio::spawn(reporting::run(Arc::downgrade(&control)));
    if control.deps.providers.all().next().is_some() {
        tokio::spawn(oidc::watch(Arc::downgrade(&control)));
    }
    let a_blocklist = get(blocklists::show).put(blocklists::import).delete(blocklists::remove);
    let a_blocklist = a_blocklist.layer(DefaultBodyLimit::max(BLOCKLIST_TEXT_BYTES_MAX));
    let restore = post(operations::restore).layer(DefaultBodyLimit::max(SNAPSHOT_FILE_BYTES_MAX));
    let api = Router::new()
        .route("/status", get(status::status))
        .route("/nodes", get(status::nodes))
        .route("/nodes/{site}/{node}", delete(status::forget_node))
        .route("/nodes/{site}/{node}/decisions", delete(decisions::recall))
        .route("/recalls", get(decisions::recalls))
        .route("/decisions", get(decisions::list).post(decisions::add))
        .route("/decisions/{id}", delete(decisions::withdraw))
        .route("/held", get(held::list))
        .route("/held/{id}", post(held::approve).delete(held::reject))
        .route("/incidents", get(incidents::list))
        .route("/incidents/{id}", get(incidents::show))
        .route("/incidents/{id}/close", post(incidents::close))
        .route("/incidents/{id}/undo", post(incidents::undo))
        .route("/incidents/{id}/answer", post(playbooks::answer))
        .route("/playbooks", get(playbooks::list))
        .route("/playbooks/{name}/run", post(playbooks::run))
        .route("/bouncers", get(bouncers::list).post(bouncers::add))
        .route("/bouncers/{name}", delete(bouncers::delete))
        .route("/blocklists", get(blocklists::list))
        .route("/blocklists/{name}", a_blocklist)
        .route("/events", get(events::list))
        .route("/events/{id}", get(events::explain))
        .route("/events/{id}/suggestion", get(suggestion::suggest))
        .route("/traffic", get(traffic::show))
        .route("/report", get(report::show))
        .route("/reports", get(reports::list))
        .route("/reports/{name}/send", post(reports::send))
        .route("/receivers", get(receivers::list))
        .route("/receivers/{name}/test", post(receivers::test))
        .route("/traffic/actors", get(traffic::actors))
        .route("/audit", get(audit::list))
        .route("/fixes", get(fixes::list))
        .route("/stream", get(stream::stream))
        .route("/fleet", get(fleet::overview))
        .route("/fleet/events", get(inquiry::list))
        .route("/fleet/events/{id}", get(inquiry::explain))
        .route("/fleet/invitations", post(fleet::invite))
        .route("/fleet/delegate", get(delegation::overview))
        .route("/fleet/delegations", post(delegation::delegate))
        .route("/fleet/delegations/{site}/{node}", delete(delegation::end))
        .route("/fleet/revocations", post(fleet::revoke))
        .route("/fleet/orders", post(operations::order))
        .route("/fleet/snapshot", get(operations::snapshot))
        .route("/fleet/restore", restore)
        .route("/fleet/root", post(fleet::change_root).delete(fleet::finish_root_change))
        .route("/policy", get(bundles::show))
        .route("/policy/bundles", of_files(post(bundles::push)))
        .route("/policy/replay", of_files(post(replay::replay)))
        .route("/policy/versions", get(versions::list))
        .route("/policy/versions/{version}", get(versions::show))
        .route("/policy/check", of_files(post(versions::check)))
        .route("/policy/diff", of_files(post(versions::differences)))
        .route("/policy/changes", of_files(get(changes::list).post(changes::add)))
        .route("/policy/changes/{id}", get(changes::show))
        .route("/policy/changes/{id}/approve", post(changes::approve))
        .route("/policy/changes/{id}/reject", post(changes::reject))
        .route("/exclusions", get(exclusions::list).post(exclusions::add))
        .route("/policy/followers", get(followers::list).post(followers::tell))
        .route("/policy/promote", post(bundles::promote))
        .route("/policy/rollback", post(bundles::roll_back))
        .route("/policy/home", post(bundles::move_home))
        .route("/policy/reload", post(policy::reload))
        .route("/upgrade", post(upgrade::begin))
        .route("/selftest", get(selftest::show).post(selftest::run))
        .route("/login-links", post(session::link))
        .route("/logout", post(session::logout))
        .route("/operators", get(operators::list).post(operators::add))
        .route("/operators/{name}", patch(operators::edit).delete(operators::remove))
        .route("/operators/{name}/reset", post(operators::reset))
        .route("/operator-resets", post(operators::reset_all))
        .route("/operators/{name}/tokens", post(operators::add_token))
        .route("/operators/{name}/tokens/{token}", delete(operators::delete_token))
        .route("/sessions", get(session::list))
        .route("/sessions/{id}", delete(session::end))
        .route("/me", get(account::show))
        .route("/me/challenge", post(account::challenge))
        .route("/me/prove", post(account::prove))
        .route("/me/totp", post(account::offer_totp))
        .route("/me/password", post(account::set_password))
        .route("/me/passkeys", post(account::add_passkey))
        .route("/me/passkeys/{id}", delete(account::delete_passkey))
        .route("/me/prove/oidc", post(providers::prove))
        .route("/oidc", get(providers::rows))
        .route("/oidc/{name}/test", post(providers::test))
        .route("/me/tokens", post(account::add_token))
        .route("/me/tokens/{name}", delete(account::delete_token))
        .route("/openapi.json", get(openapi::serve))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&control), recorded::tell_what_was_not_done))
        .layer(from_fn_with_state(Arc::clone(&control), idempotency::once))
        .layer(from_fn(parameters::known))
        .layer(from_fn_with_state(Arc::clone(&control), pace::keep))
        .layer(from_fn_with_state(Arc::clone(&control), require));
    let metrics = Router::new()
        .route("/metrics", get(status::metrics))
        .layer(from_fn_with_state(Arc::clone(&control), pace::keep))
        .layer(from_fn_with_state(Arc::clone(&control), require));
    let logins = Router::new()
        .route("/api/v1/login/password", post(login::by_password))
        .route("/api/v1/login/challenge", post(login::challenge))
        .route("/api/v1/login/passkey", post(login::by_passkey))
        .route("/api/v1/login/oidc/{name}", post(providers::begin))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&control), from_here))
        // Which ways there are is read before one is taken.
        .route("/api/v1/login/oidc", get(providers::list).fallback(wrong_method));
    Router::new()
        .nest("/api/v1", api)
        .merge(metrics)
        .merge(logins)
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/login", get(session::login))
        .route("/login/oidc/{name}/callback", get(providers::callback))
        .fallback(console::serve)
        .layer(from_fn_with_state(Arc::clone(&control), check_host))
        .layer(from_fn(body::in_time))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(console::security_headers))
        .with_state(control)
}

/// What takes a policy with its files.
fn of_files(method: MethodRouter<Arc<Control>>) -> MethodRouter<Arc<Control>> {
    method.layer(DefaultBodyLimit::max(bundles::PUSH_BYTES_MAX))
}

/// The router for connections that came in by `channel`.
pub(crate) fn for_channel(router: &Router, channel: Channel) -> Router {
    router.clone().layer(Extension(channel))
}

async fn unknown_path() -> ApiError {
    ApiError::not_found("no such path; /api/v1/openapi.json lists them")
}

async fn wrong_method() -> ApiError {
    let message = "this path has other methods; /api/v1/openapi.json lists them";
    ApiError::new(http::StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
