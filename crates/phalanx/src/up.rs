//! `phalanx up`, `run` and `check`: from settings to a serving node, and what is printed on the way.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use phalanx_control::api;
use phalanx_edge::{EdgePlan, Places};
use phalanx_model::{CheckKind, Clock, PrefixSet, SystemClock};
use phalanx_policy::{Diagnostic, Everywhere, Mode, Policy, RuleSource};
use phalanx_trust::membership;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::args::{CheckArgs, DetectionArg, ModeArg, RunArgs, Switch, UpArgs, parse_prefix};
use crate::check_settings::CheckSettings;
use crate::enrolment::Enrolment;
use crate::identity_port::IdentityKeeper;
use crate::life::handover::{self, Followed};
use crate::life::sandbox::{self, SandboxSettings};
use crate::life::{Launcher, Start, Upgrade, service};
use crate::log_settings::LogSettings;
use crate::node::{Birth, Node, StartError};
use crate::places_port::read_one;
use crate::plan::PolicySource;
use crate::playbooks::TellSettings;
use crate::routes;
use crate::settings::{self, Drains, FleetSettings, Settings};
use crate::state::StateFolder;
use crate::tls_settings::{CertificateFiles, TlsListen, TlsSettings};
use crate::upstreams::{OwnNode, check_upstreams};

/// Protects one app; no file needed.
pub(crate) fn up(args: &UpArgs) -> anyhow::Result<ExitCode> {
    let policy = policy_of(args)?;
    let start = Start::inherit()?;
    let settings = settings_of(args)?;
    let ready = |node: &Node, plan: &api::Plan, state: &StateFolder| match args.json {
        true => print_json(node, state),
        false => print_up(args, &settings, node, plan),
    };
    serve(&settings, PolicySource::Built(Box::new(policy)), (start, None), &ready)
}

/// Runs a node from its settings file.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let start = Start::inherit()?;
    let text = match start.settings() {
        Some(text) => text.to_owned(),
        None => std::fs::read_to_string(&args.config)
            .with_context(|| format!("{} cannot be read", args.config.display()))?,
    };
    let (settings, faults) = settings::read_text(&args.config, &text);
    let Some((settings, policy)) = settings.filter(|_| faults.is_empty()) else {
        return Ok(refuse(&start, &faults));
    };
    let ready = |node: &Node, plan: &api::Plan, state: &StateFolder| match args.json {
        true => print_json(node, state),
        false => print_node(&settings, node, plan, std::io::stdout().is_terminal()),
    };
    serve(&settings, PolicySource::File(policy), (start, Some(&text)), &ready)
}

/// Webhooks that playbooks tell and the settings do not have. In a fleet the node that runs playbooks needs them, and others do not.
fn untold(config: &Path, tell: &TellSettings, plan: &EdgePlan) -> Vec<Diagnostic> {
    let known = |name: &str| tell.receivers.contains_key(name);
    let fault = |(playbook, to): (&str, &str)| {
        let what = format!("playbook `{playbook}` tells `{to}`, and there is no receiver of that name");
        Diagnostic::warning(config.display().to_string(), 0, what).with_help(format!(
            "add `[webhooks.{to}]` with `url` and `secret_file`, or `[mail.{to}]`; without it the step fails"
        ))
    };
    let mut found: Vec<Diagnostic> = crate::playbooks::untold(&plan.playbooks, known).map(fault).collect();
    found.dedup();
    found
}

/// Checks settings and policy; exit code 1 when there is an error, and where it is to be strict, a warning.
pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let CheckArgs { run: args, route, header, strict } = args;
    let (settings, mut found) = settings::read(&args.config);
    let mut compiled = None;
    if let Some((settings, policy)) = settings {
        let mut places = Places::default();
        for file in &settings.geo {
            if let Err(error) = read_one(&mut places, file) {
                let warning = Diagnostic::warning(args.config.display().to_string(), 0, format!("{error:#}"));
                found.push(
                    warning
                        .with_help("without it decisions about AS numbers and countries match nobody here"),
                );
            }
        }
        found.extend(crate::material_port::check(&settings.tls, SystemClock.now_ms()));
        found.extend(crate::console_port::check(settings.tls.console.as_ref(), &settings.console_names));
        // Faults of its files are found already.
        let identities = IdentityKeeper::start(&settings.tls.identities).map(|keeper| keeper.identities());
        let own = OwnNode { identities: identities.unwrap_or_default(), ..OwnNode::default() };
        let read = PolicySource::File(policy.clone()).compile(Some(&settings.site), &Arc::default());
        match read.and_then(|read| check_upstreams(read, &own)) {
            Ok(read) => {
                found.extend(read.warnings.iter().cloned());
                found.extend(at_other_sites(&policy));
                found.extend(read.policy.due(&policy.display().to_string(), SystemClock.now_ms()));
                found.extend(crate::tcp_settings::without_app(&args.config, &settings.tcp, &read.plan));
                found.extend(crate::report_settings::without_app(
                    &args.config,
                    &settings.reports,
                    &read.plan,
                ));
                found.extend(untold(&args.config, &settings.tell, &read.plan));
                found.extend(crate::advice::advise(&args.config, &settings, &policy, &read.policy));
                compiled = Some(read);
            }
            Err(faults) => found.extend(faults),
        }
    }
    let errors = found.iter().filter(|d| d.level == phalanx_policy::Level::Error).count();
    let is_good = errors == 0 && (!*strict || found.is_empty());
    let met = match (&compiled, route.as_slice()) {
        (Some(compiled), [method, url]) => Some(routes::meet(&compiled.plan, method, url, header)?),
        _ => None,
    };
    if args.json {
        let apps = compiled.as_ref().map(|compiled| routes::listing(&compiled.policy));
        println!("{}", json!({ "ok": is_good, "diagnostics": found, "apps": apps, "met": met }));
    } else {
        match (&compiled, &met) {
            (_, Some(met)) => print!("{}", routes::words(met)),
            (Some(compiled), None) => print!("{}", routes::table(&compiled.policy)),
            (None, None) => {}
        }
        for diagnostic in &found {
            eprintln!("{diagnostic}");
        }
        let warnings = found.len() - errors;
        println!("{}: {errors} errors, {warnings} warnings", args.config.display());
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is wrong with a policy at sites other than this one.
fn at_other_sites(policy: &Path) -> Vec<Diagnostic> {
    let text = std::fs::read_to_string(policy).unwrap_or_default();
    Everywhere::parse(&policy.display().to_string(), &text).err().unwrap_or_default()
}

type Ready<'a> = &'a dyn Fn(&Node, &api::Plan, &StateFolder);

fn serve(
    settings: &Settings,
    source: PolicySource,
    (start, text): (Start, Option<&str>),
    ready: Ready<'_>,
) -> anyhow::Result<ExitCode> {
    match serve_node(settings, source, (&start, text), ready) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(StartError::Policy(faults)) => Ok(refuse(&start, &faults)),
        Err(StartError::Other(error)) => {
            start.give_up(&format!("{error:#}"));
            Err(error)
        }
    }
}

fn serve_node(
    settings: &Settings,
    source: PolicySource,
    (start, text): (&Start, Option<&str>),
    ready: Ready<'_>,
) -> Result<(), StartError> {
    let other = StartError::Other;
    let state = StateFolder::open(&settings.state).map_err(other)?;
    // In this order: the launcher keeps the rights that this process gives up, and threads have those of who started them.
    let launcher = Arc::new(Launcher::start(text).map_err(other)?);
    let confinement = sandbox::enter(settings, state.path(), &source);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(MANAGEMENT_THREADS)
        .thread_name("phalanx-manage")
        .enable_all()
        .build()
        .map_err(|error| other(error.into()))?;
    let (bell, rung) = mpsc::channel(1);
    let birth = Birth { start: start.clone(), bell, confinement };
    runtime.block_on(async {
        // Handlers first: a signal during the start must not kill half a node.
        let signals = Signals::listen().map_err(other)?;
        let node = Box::pin(Node::start(settings, &state, source, birth)).await?;
        match start.takeover.is_some() {
            // Who started the node has read the first process' word, and may be gone.
            true => {
                tracing::info!(process = std::process::id(), version = env!("CARGO_PKG_VERSION"), "took over")
            }
            false => ready(&node, &node.plan(), &state),
        }
        service::ready();
        until_stopped(node, signals, rung, &launcher).await;
        Ok(())
    })
}

async fn until_stopped(
    node: Node,
    mut signals: Signals,
    mut rung: mpsc::Receiver<Upgrade>,
    launcher: &Arc<Launcher>,
) {
    let mut node = Box::new(node);
    let mut alive = tokio::time::interval(service::alive_every().unwrap_or(NEVER));
    loop {
        let asked = tokio::select! {
            () = signals.stop.wait() => break,
            // The keeper logs and records the outcome; a reload is quick enough to hold back a stop.
            _ = signals.hangup.recv() => {
                service::reloading();
                let _ = tokio::task::block_in_place(|| node.reload());
                service::ready();
                continue;
            }
            // Each log looks for its file before it writes; who moved one away need not say so.
            _ = signals.reopen.recv() => {
                tracing::info!("logs are opened anew with the next line to write");
                continue;
            }
            _ = alive.tick() => {
                if node.is_well() {
                    service::alive();
                }
                continue;
            }
            Some(asked) = rung.recv() => Some(asked),
            _ = signals.upgrade.recv() => None,
        };
        match handover::hand_over(*node, launcher, asked, &mut signals.stop).await {
            Followed::Not(same) => node = same,
            Followed::Over => return,
        }
    }
    service::stopping(node.drain());
    node.stop().await;
}

struct Signals {
    stop: Stop,
    hangup: Signal,
    reopen: Signal,
    upgrade: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            stop: Stop {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                told: false,
            },
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }
}

/// The signals that end the process; once told it stays told.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
    told: bool,
}

impl Stop {
    async fn wait(&mut self) {
        if self.told {
            return;
        }
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        self.told = true;
    }

    /// What comes of it, unless the process is told to stop first.
    pub(crate) async fn unless<T>(&mut self, done: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = done => Some(done),
            () = self.wait() => None,
        }
    }
}

fn policy_of(args: &UpArgs) -> anyhow::Result<Policy> {
    let mut policy = Policy::one_app(&args.to).map_err(|fault| anyhow!("--to {}: {fault}", args.to))?;
    let app = policy.apps.first_mut().context("a policy has an app")?;
    app.mode = match (args.protect, args.mode) {
        (Switch::Off, _) => Mode::Off,
        (Switch::On, ModeArg::Observe) => Mode::Observe,
        (Switch::On, ModeArg::Block) => Mode::Block,
    };
    if !args.rules.is_empty() {
        app.rules = RuleSource::Dirs(args.rules.clone());
    }
    app.extra_rules.clone_from(&args.extra_rules);
    app.paranoia = args.paranoia;
    app.trust_forwarded.clone_from(&args.trust_forwarded);
    policy.detection.mode = args.detection.into();
    policy.allow.clone_from(&args.allow);
    if !args.operator.is_empty() {
        policy.operator_networks.clone_from(&args.operator);
    }
    if !args.admin.ip().is_loopback() {
        bail!(
            "--admin {}: the console has no TLS here and must be on loopback; name it and its certificate in a settings file with \
             `[admin]`, or reach it through SSH",
            args.admin
        );
    }
    Ok(policy)
}

fn settings_of(args: &UpArgs) -> anyhow::Result<Settings> {
    let of_fleet = &args.fleet;
    let in_fleet = of_fleet.url.is_some() || of_fleet.join.is_some() || of_fleet.enroll.is_some();
    let node = of_fleet.node.clone().unwrap_or_else(|| "node".to_owned());
    // Members of a fleet on one machine must not meet in one folder.
    let default = settings::default_state();
    let member = default.join(format!("{}-{node}", of_fleet.site));
    let is_member = in_fleet || (of_fleet.node.is_some() && member.join(membership::FILE).exists());
    let fleet = FleetSettings {
        url: of_fleet.url.clone(),
        secret_file: of_fleet.fleet_secret.clone(),
        join: of_fleet.join.as_deref().map(token_of).transpose()?,
        enroll: of_fleet.enroll,
        enroll_at: of_fleet.enroll_at.clone(),
        replicas: usize::from(of_fleet.replicas),
    };
    Ok(Settings {
        listen: vec![args.listen],
        proxied: vec![proxied(args)],
        h2c: args.h2c,
        admin: args.admin,
        console_names: Vec::new(),
        state: args.state.clone().unwrap_or(if is_member { member } else { default }),
        workers: args.workers.map_or_else(settings::default_workers, usize::from),
        site: of_fleet.site.clone(),
        node,
        fleet: in_fleet.then_some(fleet),
        fleet_id: of_fleet.fleet_id.clone(),
        geo: args.geo.clone(),
        lapi: None,
        imports: Vec::new(),
        held: Default::default(),
        tls: tls_of(args),
        trace: Default::default(),
        otlp: None,
        tcp: Vec::new(),
        checks: checks_of(args),
        drains: Drains::default(),
        sandbox: SandboxSettings {
            files: args.sandbox == Switch::On,
            calls: args.sandbox == Switch::On,
            ..SandboxSettings::default()
        },
        limits: Default::default(),
        recording: Some(crate::recording_settings::Recorded::default()),
        copies_bytes_max: phalanx_model::limits::HISTORY_COPIES_BYTES_MAX,
        self_test: crate::selftest::settings::SelfTestSettings::default(),
        reports: crate::report_settings::ReportSettings::default(),
        learn_actors: crate::learning::ACTORS,
        tell: Default::default(),
        oidc: Default::default(),
        logs: LogSettings {
            access: args.access_log.as_deref().map(crate::log_settings::access_log_to),
            access_format: args.access_format.into(),
            modsecurity: args.modsecurity_log.clone(),
            audit: args.audit_log.clone().map(|path| (path, args.audit_format.into())),
            events: Default::default(),
        },
    })
}

/// Proxies on this machine, unless others are named.
fn checks_of(args: &UpArgs) -> Vec<CheckSettings> {
    let loopback = [parse_prefix("127.0.0.0/8"), parse_prefix("::1")].into_iter().flatten();
    let named = args.check_from.iter().copied();
    let from: PrefixSet = if args.check_from.is_empty() { loopback.collect() } else { named.collect() };
    let one = |&(kind, address): &(CheckKind, SocketAddr)| {
        let from = from.clone();
        CheckSettings { address, kind, from, tls: None, refuse_with: None }
    };
    args.check_listen.iter().map(one).collect()
}

/// Whose connections the listeners take, if not everybody's.
fn proxied(args: &UpArgs) -> Option<PrefixSet> {
    (!args.proxy_protocol.is_empty()).then(|| args.proxy_protocol.iter().copied().collect())
}

fn tls_of(args: &UpArgs) -> TlsSettings {
    let (Some(address), Some(cert), Some(key)) = (args.tls_listen, &args.cert, &args.key) else {
        return TlsSettings::default();
    };
    TlsSettings {
        listeners: vec![TlsListen { address, require_pq: false, clients: None, proxied: proxied(args) }],
        checks: Vec::new(),
        certificates: vec![CertificateFiles { cert: cert.clone(), key: key.clone() }],
        acme: None,
        identities: Vec::new(),
        console: None,
    }
}

/// A token as it is, or from `@FILE`: what stands in a command line is seen by every user of the machine.
fn token_of(written: &str) -> anyhow::Result<String> {
    match written.strip_prefix('@') {
        None => Ok(written.to_owned()),
        Some(file) => settings::read_token(Path::new(file)).with_context(|| format!("--join {written}")),
    }
}

fn refuse(start: &Start, faults: &[Diagnostic]) -> ExitCode {
    for fault in faults {
        eprintln!("{fault}");
    }
    start.give_up(&faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    ExitCode::FAILURE
}

fn print_json(node: &Node, state: &StateFolder) {
    let listen = node.listen.first().map(ToString::to_string).unwrap_or_default();
    let ready = json!({
        "listen": listen,
        "tls_listen": node.tls_listen.first().map(ToString::to_string),
        "tcp_listen": node.tcp_listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "check_listen": node.check_listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "admin": node.admin.to_string(),
        "console": node.console,
        "state": state.path(),
        "token_file": node.token_file,
    });
    println!("{ready}");
}

fn print_up(args: &UpArgs, settings: &Settings, node: &Node, plan: &api::Plan) {
    // Whoever starts a node by hand reads what it prints, through a pipe too.
    print_node(settings, node, plan, true);
    let Some(listen) = node.listen.first() else { return };
    let protects = plan.apps.iter().any(|app| app.mode == "block");
    if protects {
        println!("  try         curl -i 'http://{listen}/?q=%3Cscript%3Ealert(1)%3C/script%3E'");
    }
    match (&settings.fleet, node.enrolment) {
        (_, Enrolment::Authority) => {
            println!("  next node   phalanx fleet invite --site {}   (prints a token)", settings.site);
        }
        (Some(fleet), Enrolment::None) => {
            println!("  next node   {}", next_node(args, settings, fleet));
        }
        (_, Enrolment::Member) | (None, Enrolment::None) => {}
    }
    println!();
}

/// How to get into the console. A link that logs in is for eyes only: in the journal of a service others could use it before
/// the operator does.
fn console_line(link: &str, with_login: bool) -> String {
    match (with_login, link.split_once("login?")) {
        (false, Some((console, _))) => format!("{console}   (`phalanx login` prints a link that logs in)"),
        _ => format!("{link}   (one use, 10 minutes; `phalanx login` prints another)"),
    }
}

/// A NATS URL, or several, for the screen and the journal: user, password and token stay out.
fn without_credentials(urls: &str) -> String {
    let masked = urls.split(',').map(|url| match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://USER:PASSWORD@{host}"),
        _ => url.to_owned(),
    });
    masked.collect::<Vec<_>>().join(",")
}

/// The command that starts another node with the same protection.
fn next_node(args: &UpArgs, settings: &Settings, fleet: &FleetSettings) -> String {
    let mut words = vec!["phalanx".to_owned(), "up".to_owned()];
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), quoted(&value)]);
    option("--to", args.to.clone());
    option("--fleet", without_credentials(fleet.url.as_deref().unwrap_or_default()));
    option("--site", settings.site.clone());
    option("--node", format!("{}-2", settings.node));
    option("--listen", "127.0.0.1:0".to_owned());
    option("--admin", "127.0.0.1:0".to_owned());
    if settings.fleet_id != "default" {
        option("--fleet-id", settings.fleet_id.clone());
    }
    let path = |path: &Path| path.display().to_string();
    fleet.secret_file.iter().for_each(|file| option("--fleet-secret", path(file)));
    args.rules.iter().for_each(|dir| option("--rules", path(dir)));
    args.extra_rules.iter().for_each(|file| option("--extra-rules", path(file)));
    if args.mode == ModeArg::Observe {
        option("--mode", "observe".to_owned());
    }
    match args.detection {
        DetectionArg::Off => option("--detection", "off".to_owned()),
        DetectionArg::Observe => {}
        DetectionArg::Act => option("--detection", "act".to_owned()),
    }
    if args.protect == Switch::Off {
        option("--protect", "off".to_owned());
    }
    if args.paranoia != 1 {
        option("--paranoia", args.paranoia.to_string());
    }
    for (name, networks) in [
        ("--trust-forwarded", &args.trust_forwarded),
        ("--proxy-protocol", &args.proxy_protocol),
        ("--operator", &args.operator),
        ("--allow", &args.allow),
    ] {
        networks.iter().for_each(|network| option(name, network.to_string()));
    }
    words.join(" ")
}

/// A word that a shell takes as it is.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@,=+%[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn print_node(settings: &Settings, node: &Node, plan: &api::Plan, with_login: bool) {
    let version = env!("CARGO_PKG_VERSION");
    println!("phalanx {version}, node {} at {}\n", settings.node, settings.site);
    for listen in &node.listen {
        for app in &plan.apps {
            println!("  protecting  http://{listen} -> {}", app.upstream);
        }
    }
    for listen in &node.tls_listen {
        for app in &plan.apps {
            println!("  protecting  https://{listen} -> {}", app.upstream);
        }
    }
    for (check, listen) in settings.checks.iter().zip(&node.check_listen) {
        println!("  asked       at {listen} ({})", check.kind.as_str());
    }
    for (tcp, listen) in settings.tcp.iter().zip(&node.tcp_listen) {
        println!("  carrying    tcp://{listen} -> app {}", tcp.listen.app);
    }
    println!("  console     {}", console_line(&node.console, with_login));
    for app in &plan.apps {
        let rules = match app.mode.as_str() {
            "off" => "off; the edge's own protections stay".to_owned(),
            mode => format!("{}, {} rules, {mode}", app.rules, app.rule_count),
        };
        println!("  rules       {rules}");
    }
}

/// Where nobody wants to hear that the node is alive.
const NEVER: Duration = Duration::from_secs(86_400);
/// Fleet, API and signals; nothing of the data plane.
const MANAGEMENT_THREADS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_spaces_are_quoted_for_the_shell() {
        assert_eq!(quoted("/rules/crs"), "/rules/crs");
        assert_eq!(quoted("/my rules/it's"), "'/my rules/it'\\''s'");
    }

    #[test]
    fn a_login_link_is_kept_out_of_journals() {
        let link = "http://127.0.0.1:8900/login?ticket=abc";
        assert!(console_line(link, true).starts_with(link));
        let logged = console_line(link, false);
        assert!(logged.starts_with("http://127.0.0.1:8900/ ") && !logged.contains("abc"), "{logged}");
    }

    #[test]
    fn a_printed_fleet_url_holds_no_credentials() {
        let printed =
            without_credentials("nats://phalanx:s3cret@10.0.0.5:4222,nats://tok3n@h:1,nats://plain:4222");
        assert_eq!(printed, "nats://USER:PASSWORD@10.0.0.5:4222,nats://USER:PASSWORD@h:1,nats://plain:4222");
    }
}
