//! A node with a fleet of one, a recorder and the router, in a directory of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use futures_util::FutureExt;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use phalanx_control::api::{App, Incident, IncidentRow, NodeStatus, Plan, SelfTest, SelfTestState};
use phalanx_control::oidc::{Provider, Providers};
use phalanx_control::{
    Bouncers, Changes, ControlDeps, HostName, IncidentsPort, LapiDeps, NotAsked, NotReplayed, PlaybooksPort,
    Reloaded, ReplayPort, RunningPolicy, SelfTestPort, TriedBundle,
};
use phalanx_fleet::{FleetHandle, FleetKeys, FleetSettings};
use phalanx_learn::IncidentId;
use phalanx_model::counters::WorkerCounters;
use phalanx_model::id::node_tag;
use phalanx_model::lanes::Lanes;
use phalanx_model::{
    AccessEvent, Clock, Confidence, ManualClock, Prefix, Reason, RequestId, RuleClass, RuleInfo, RuleMatch,
    SecurityEvent, Severity, Signal, SystemClock, Verdict,
};
use phalanx_policy::{Diagnostic, FileSet};
use phalanx_record::{Copies, CopySettings, Metrics, MetricsSources, NodeGauges, RecordSettings, Recorder};
use phalanx_trust::{AdminToken, ApiKeys, LoginTickets, Operators, Sealer, Sessions};
use serde_json::Value;
use tokio::sync::Semaphore;
use tower::ServiceExt;

pub(crate) const HOST: &str = "127.0.0.1:8900";

/// The system's clock, which a test can put ahead.
#[derive(Default)]
struct Ahead(ManualClock);

impl Clock for Ahead {
    fn now_ms(&self) -> u64 {
        SystemClock.now_ms() + self.0.now_ms()
    }
}

/// A learner that knows one incident, with the id 7; what is ruled about it is heard by nobody.
fn one_incident() -> IncidentsPort {
    let row = IncidentRow { id: IncidentId(7).to_string(), state: "open".into(), ..IncidentRow::default() };
    let of_row = row.clone();
    IncidentsPort {
        list: Box::new(move |()| {
            let rows = vec![(of_row.clone(), vec![7, 3])];
            async move { Some(rows) }.boxed()
        }),
        show: Box::new(move |id| {
            let one = Incident { row: row.clone(), evidence: vec![self::id(2)], ..Incident::default() };
            async move { [7, 3].contains(&id).then(|| (one, vec![7, 3])) }.boxed()
        }),
        rule: Box::new(|_| async { true }.boxed()),
    }
}

fn copies(dir: &Path, sealer: &Arc<Sealer>) -> Copies {
    let (path, sealer) = (dir.join("record/copies.db"), Arc::clone(sealer));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Copies::open(CopySettings { path, site: "fra".into(), sealer, locate: None, clock, bytes_max: 1 << 30 })
        .unwrap()
}

/// Nobody runs playbooks.
fn no_playbooks() -> PlaybooksPort {
    PlaybooksPort {
        list: Box::new(Vec::new),
        runs: Box::new(|_| Vec::new()),
        ask: Box::new(|_| async { Err(NotAsked::Unheard("none run here".into())) }.boxed()),
    }
}

/// A replay that ends when it is told to, without a result.
#[derive(Debug)]
pub(crate) struct Replays {
    pub(crate) begun: Semaphore,
    pub(crate) may_end: Semaphore,
}

impl Replays {
    fn new() -> Arc<Self> {
        Arc::new(Self { begun: Semaphore::new(0), may_end: Semaphore::new(0) })
    }

    fn port(self: &Arc<Self>) -> ReplayPort {
        let replays = Arc::clone(self);
        Box::new(move |_, _, _| {
            let replays = Arc::clone(&replays);
            async move {
                replays.begun.add_permits(1);
                replays.may_end.acquire().await.unwrap().forget();
                Err(NotReplayed::Recording("there is none".into()))
            }
            .boxed()
        })
    }
}

pub(crate) struct Node {
    pub(crate) replays: Arc<Replays>,
    pub(crate) router: Router,
    /// What bouncers talk to.
    pub(crate) lapi: Router,
    pub(crate) fleet: FleetHandle,
    /// What it has of other nodes; the same database again.
    pub(crate) copies: Copies,
    /// What policy exempts from decisions.
    pub(crate) exempt: Arc<Mutex<Vec<Prefix>>>,
    pub(crate) token: String,
    pub(crate) tickets: Arc<LoginTickets>,
    pub(crate) operators: Arc<Operators>,
    /// What control writes its ledger entries to.
    pub(crate) lanes: Lanes,
    /// What the recorder reads.
    pub(crate) events: Lanes,
    pub(crate) recorder: Recorder,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) policy_is_good: Arc<AtomicBool>,
    /// What the node's own policy file says.
    pub(crate) own_policy: Arc<Mutex<String>>,
    pub(crate) ready: Arc<AtomicBool>,
    ahead: Arc<Ahead>,
    ledger: Option<phalanx_model::lanes::LaneReaders>,
    pub(crate) dir: tempfile::TempDir,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::named(vec![], false).await
    }

    /// A node whose console has these names, and TLS of its own or none.
    pub(crate) async fn named(host_names: Vec<HostName>, tls: bool) -> Self {
        Self::with_providers(Vec::new(), host_names, tls).await
    }

    /// The same, on which operators log in by these.
    pub(crate) async fn with_providers(
        providers: Vec<Arc<Provider>>,
        host_names: Vec<HostName>,
        tls: bool,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let seals = Arc::clone(&sealer);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (events, readers) = Lanes::new();
        let (lanes, ledger) = Lanes::new();
        let mut settings = RecordSettings::new(
            &dir.path().join("record"),
            "fra",
            "a",
            Arc::clone(&sealer),
            Arc::clone(&clock),
        );
        settings.traffic_every_ms = 5;
        let recorder = Recorder::open(settings, readers).unwrap();
        let fleet = fleet(dir.path().to_path_buf(), sealer, lanes.clone(), Arc::clone(&clock)).await;
        let token = AdminToken::load_or_create(&dir.path().join("admin.token")).unwrap();
        let operators = Operators::load(&dir.path().join("operators.sealed"), Arc::clone(&seals)).unwrap();
        let operators = Arc::new(operators);
        let counters = Arc::new(WorkerCounters::default());
        let (policy_is_good, ready) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
        let tickets = Arc::new(LoginTickets::default());
        let sources = MetricsSources {
            counters: vec![Arc::clone(&counters)],
            lanes: lanes.clone(),
            recorder: recorder.status(),
            gauges: Box::new(NodeGauges::default),
        };
        let (good, is_ready) = (Arc::clone(&policy_is_good), Arc::clone(&ready));
        let bouncers = ApiKeys::load(&dir.path().join("bouncers.json")).unwrap();
        let bouncers = Arc::new(Bouncers::new(bouncers));
        let exempt: Arc<Mutex<Vec<Prefix>>> = Arc::default();
        let (lapi_exempted, exempted) = (Arc::clone(&exempt), Arc::clone(&exempt));
        let lapi = phalanx_control::lapi_router(LapiDeps {
            bouncers: Arc::clone(&bouncers),
            fleet: fleet.clone(),
            clock: Arc::clone(&clock),
            exempt: Box::new(move || lapi_exempted.lock().unwrap().clone()),
            place: Box::new(|_| (None, None)),
        });
        let ahead = Arc::new(Ahead::default());
        let replays = Replays::new();
        let own_policy = Arc::new(Mutex::new(OWN_POLICY.to_owned()));
        let said = Arc::clone(&own_policy);
        let deps = ControlDeps {
            site: "fra".into(),
            node: "a".into(),
            version: "0.1.0".into(),
            started_at_ms: clock.now_ms(),
            clock: Arc::clone(&ahead) as Arc<dyn Clock>,
            listen: HOST.parse::<SocketAddr>().ok(),
            host_names,
            tls,
            token: AdminToken::load_or_create(&dir.path().join("admin.token")).unwrap(),
            tickets: Arc::clone(&tickets),
            sessions: Arc::new(Sessions::default()),
            operators: Arc::clone(&operators),
            providers: Providers::new(providers).unwrap(),
            fleet: fleet.clone(),
            history: recorder.history(),
            copies: phalanx_control::CopiesPort::new(Some(copies(dir.path(), &seals))),
            ledger: recorder.ledger(),
            live: recorder.live(),
            recorder: recorder.status(),
            metrics: Metrics::new(sources, "0.1.0"),
            lanes: lanes.clone(),
            counters: vec![Arc::clone(&counters)],
            node_status: Box::new(move || node_status(is_ready.load(Ordering::SeqCst))),
            authority: None,
            delegate: None,
            bouncers,
            imports: Vec::new(),
            exempt: Box::new(move || exempted.lock().unwrap().clone()),
            lapi_listen: "127.0.0.1:8901".parse().ok(),
            bundles: Box::new(|files, entry| {
                let known = files.contains_key(&entry);
                async move {
                    if known {
                        Ok(TriedBundle { version: 1, ..TriedBundle::default() })
                    } else {
                        Err(vec![fault()])
                    }
                }
                .boxed()
            }),
            running: Box::new(move || {
                let text = said.lock().unwrap().clone();
                RunningPolicy {
                    bundle: None,
                    entry: Some("policy.toml".into()),
                    policy: phalanx_policy::parse_policy("policy.toml", &text).unwrap().0,
                    files: Some(Arc::new(FileSet::new([("policy.toml".to_owned(), text.into_bytes())]))),
                }
            }),
            rule_words: Box::new(|rules| {
                let known = |rule: &u64| (*rule == 942_100).then(|| (*rule, "SQL <injection>, …".to_owned()));
                rules.iter().filter_map(known).collect()
            }),
            changes: Changes::load(&dir.path().join("changes"), Arc::clone(&seals)).unwrap(),
            replays: Some(replays.port()),
            suggestions: None,
            receivers: std::collections::BTreeMap::new(),
            reporting: Arc::new(phalanx_control::reporting::Reporting::open(
                std::collections::BTreeMap::new(),
                &dir.path().join("reports.json"),
                Box::new(|| false),
            )),
            self_test: SelfTestPort {
                report: Box::new(SelfTest::default),
                run: Box::new(|()| {
                    async { Some(SelfTest { state: SelfTestState::Ok, ..SelfTest::default() }) }.boxed()
                }),
            },
            upgrade: Box::new(|| async { Err("the new process is gone".to_owned()) }.boxed()),
            incidents: one_incident(),
            playbooks: no_playbooks(),
            policy: Box::new(move || {
                let good = good.load(Ordering::SeqCst);
                async move { if good { Ok(Reloaded { from: 1, to: 2 }) } else { Err(vec![fault()]) } }.boxed()
            }),
        };
        Self {
            replays,
            router: phalanx_control::router(deps),
            lapi,
            fleet,
            copies: copies(dir.path(), &seals),
            exempt,
            token: token.expose().to_owned(),
            tickets,
            operators,
            lanes,
            events,
            recorder,
            counters,
            policy_is_good,
            own_policy,
            ready,
            ahead,
            ledger: Some(ledger),
            dir,
        }
    }

    /// Lets time pass for API and console.
    pub(crate) fn later(&self, by_ms: u64) {
        self.ahead.0.advance(by_ms);
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    /// Sends a request with the token.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request =
            request(method, path).header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    /// Logs in; the cookie to send.
    pub(crate) async fn log_in(&self) -> String {
        let ticket = self.tickets.issue(SystemClock.now_ms());
        let answer = self.send(bare("GET", &format!("/login?ticket={ticket}"))).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        answer.headers[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    /// Records refused requests and waits until they are in the history.
    pub(crate) async fn refuse(&self, requests: impl IntoIterator<Item = AccessEvent>) {
        let status = self.recorder.status();
        let kept = || status.report().parts[1].written;
        let mut expected = kept();
        let mut changed = status.subscribe();
        for access in requests {
            expected += 1;
            let access = Box::new(access);
            self.events.security(SecurityEvent::Request { access, signals: vec![signal()], faults: vec![] });
        }
        while kept() < expected {
            changed.changed().await.unwrap();
        }
    }

    /// The ledger entries that control has written, as JSON.
    pub(crate) fn ledger(&mut self) -> Vec<String> {
        let readers = self.ledger.as_mut().unwrap();
        std::iter::from_fn(|| readers.ledger.try_recv().ok())
            .map(|entry| serde_json::to_string(&entry).unwrap())
            .collect()
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, HOST)
}

pub(crate) fn bare(method: &str, path: &str) -> Request<Body> {
    request(method, path).body(Body::empty()).unwrap()
}

pub(crate) fn id(n: u64) -> RequestId {
    RequestId::from_parts(1_785_585_600_000 + n, node_tag("fra", "a"), n)
}

pub(crate) fn access(n: u64) -> AccessEvent {
    AccessEvent {
        id: id(n),
        at_ms: id(n).at_ms(),
        app: "shop".into(),
        route: None,
        client: "203.0.113.9".parse().unwrap(),
        peer: "203.0.113.9".parse().unwrap(),
        method: "GET".into(),
        host: "shop.example".into(),
        target: "/search?q=1'%20or%20'1'='1&password=hunter2secret".into(),
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

fn signal() -> Signal {
    Signal {
        rule: Arc::new(RuleInfo {
            id: 942_100,
            file: "sqli.conf".into(),
            line: 45,
            class: RuleClass::Detection(Confidence::High),
            severity: Some(Severity::Critical),
            tags: vec!["attack-sqli".into()],
            edition: phalanx_model::Edition { ver: "OWASP_CRS/4.0.0".into(), ..Default::default() },
            unaudited: false,
            source: "".into(),
        }),
        phase: 2,
        message: "SQL injection".into(),
        verbatim: true,
        data: String::new(),
        matches: vec![RuleMatch {
            variable: "ARGS:q".into(),
            fragment: "1' or '1'='1".into(),
            value_hash: 1,
            transformations: vec!["urlDecodeUni".into()],
            value: Some("1%27 or %271%27=%271".into()),
            steps: vec![phalanx_model::Step {
                name: "urlDecodeUni".into(),
                value: Some("1' or '1'='1".into()),
                changed: true,
            }],
        }],
        score: 5,
        inbound: Some(phalanx_model::ScoreChange { before: 0, after: 5 }),
        observed: false,
    }
}

fn node_status(ready: bool) -> NodeStatus {
    let app = App {
        name: "shop".into(),
        upstream: "http://127.0.0.1:3000".into(),
        mode: "block".into(),
        rules: "baseline".into(),
        paranoia: 1,
        rule_count: 100,
        backtracking_patterns: 0,
        rate_limits: vec![],
        ..App::default()
    };
    NodeStatus {
        learning: Default::default(),
        plan: Plan { version: 7, bundle: None, apps: vec![app] },
        not_ready: (!ready).then(|| "the listeners are not bound".into()),
        degraded: vec![],
        certificates: vec![],
        process: Default::default(),
        load: Default::default(),
    }
}

fn fault() -> Diagnostic {
    Diagnostic::error("policy.toml", 3, "unknown key `upstrem`").with_help("did you mean `upstream`?")
}

async fn fleet(state_dir: PathBuf, sealer: Arc<Sealer>, lanes: Lanes, clock: Arc<dyn Clock>) -> FleetHandle {
    let keys = FleetKeys::load_or_create(&state_dir, &sealer, true).unwrap();
    let settings = FleetSettings {
        fleet_id: "default".into(),
        site: "fra".into(),
        node: "a".into(),
        version: "0.1.0".into(),
        roles: vec!["edge".into(), "control".into()],
        state_dir,
        nats: None,
        secret: None,
        membership: None,
        enrol: Vec::new(),
    };
    FleetHandle::start(settings, sealer, keys, lanes, clock).await.unwrap()
}

/// What the node runs on its own.
pub(crate) const OWN_POLICY: &str = "[[apps]]\nname = \"shop\"\nupstream = \"http://127.0.0.1:9\"\n";
