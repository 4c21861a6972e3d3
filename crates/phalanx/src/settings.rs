//! Node settings: what `phalanx.toml` says, and the same from the command line of `phalanx up`.
//!
//! `RawSettings` is what was written; [`Settings`] is checked and ready. Policy (apps, rules, limits, access) is a
//! separate file, named by `policy`, because in a fleet it is shared while addresses and state are a node's own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use phalanx_control::{HostName, ImportSettings};
use phalanx_edge::EdgeLimits;
use phalanx_model::{HoldLimits, PrefixSet};
use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text, utf8};
use phalanx_policy::units::duration_ms;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::acme_settings::RawAcme;
use crate::args::parse_name;
use crate::check_settings::{self, CheckSettings, RawCheckListen};
use crate::console_settings::{self, RawAdmin};
use crate::history_settings::{self, RawHistory};
use crate::life::sandbox::{self, RawSandbox, SandboxSettings};
use crate::limit_settings::{self, RawLimits};
use crate::log_settings::{self, LogSettings, RawLog};
use crate::oidc_settings::{self, OidcSettings, RawOidc};
use crate::playbooks::{self, RawMail, RawNotify, RawWebhook, TellSettings};
use crate::recording_settings::{self, RawRecording, Recorded};
use crate::report_settings::{self, RawReport, ReportSettings};
use crate::selftest::settings::{RawSelfTest, SelfTestSettings};
use crate::tcp_settings::{self, RawTcpListen, TcpSettings};
use crate::tls_settings::{self, RawCertificate, RawTlsListen, RawUpstreamCertificate, TlsSettings};
use crate::trace_settings::{self, OtlpSettings, RawTrace};

/// A node's settings, checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) listen: Vec<SocketAddr>,
    /// Whose connections each of them takes with a PROXY header, in their order; everybody's without one where there is none.
    pub(crate) proxied: Vec<Option<PrefixSet>>,
    /// Clients may begin with HTTP/2 without TLS.
    pub(crate) h2c: bool,
    pub(crate) admin: SocketAddr,
    /// The names by which the console is opened, beside `localhost` and addresses.
    pub(crate) console_names: Vec<HostName>,
    pub(crate) state: PathBuf,
    /// Data plane threads; one runtime each.
    pub(crate) workers: usize,
    pub(crate) site: String,
    pub(crate) node: String,
    pub(crate) fleet: Option<FleetSettings>,
    pub(crate) fleet_id: String,
    pub(crate) logs: LogSettings,
    /// Databases that say where addresses are.
    pub(crate) geo: Vec<PathBuf>,
    /// Where bouncers ask for decisions; nowhere unless it is said.
    pub(crate) lapi: Option<SocketAddr>,
    /// Sources whose decisions are taken over.
    pub(crate) imports: Vec<ImportSettings>,
    /// From what share of the clients served well on an order is held for an operator.
    pub(crate) held: HoldLimits,
    /// TLS towards clients.
    pub(crate) tls: TlsSettings,
    /// What is done with trace contexts.
    pub(crate) trace: phalanx_edge::TraceSettings,
    /// Where spans go; nowhere unless it is said.
    #[cfg_attr(
        not(feature = "otel"),
        expect(dead_code, reason = "a build that sends none refuses the table")
    )]
    pub(crate) otlp: Option<OtlpSettings>,
    /// Where connections are carried as they are; nowhere unless it is said.
    pub(crate) tcp: Vec<TcpSettings>,
    /// Where other proxies ask; nowhere unless it is said.
    pub(crate) checks: Vec<CheckSettings>,
    pub(crate) drains: Drains,
    /// What the process may touch.
    pub(crate) sandbox: SandboxSettings,
    /// What clients may take of the node.
    pub(crate) limits: EdgeLimits,
    /// What is kept of requests for replay; `None`: nothing.
    pub(crate) recording: Option<Recorded>,
    /// How many bytes of other nodes' histories are kept.
    pub(crate) copies_bytes_max: u64,
    /// How often the node attacks itself, and which apps not.
    pub(crate) self_test: SelfTestSettings,
    /// Addresses, sessions and accounts that the learner knows at most.
    pub(crate) learn_actors: usize,
    /// Who is told of incidents, by playbooks and without.
    pub(crate) tell: TellSettings,
    /// Reports that are sent by themselves.
    pub(crate) reports: ReportSettings,
    /// Identity providers by which operators log in.
    pub(crate) oidc: OidcSettings,
}

/// How long connections may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drains {
    /// After the node was told to stop.
    pub(crate) stop: Duration,
    /// After another process has taken over.
    pub(crate) handover: Duration,
}

impl Default for Drains {
    fn default() -> Self {
        // A stop is waited for, by people and service managers; nobody waits for a process that was followed, and what lasts
        // there is a WebSocket or a download.
        Self { stop: Duration::from_secs(10), handover: Duration::from_secs(600) }
    }
}

/// How the node reaches its fleet.
#[derive(Debug, Clone)]
pub(crate) struct FleetSettings {
    /// The NATS server; none for a node that is told by the fleet's authority.
    pub(crate) url: Option<String>,
    pub(crate) secret_file: Option<PathBuf>,
    /// The token to join with.
    pub(crate) join: Option<String>,
    /// Where nodes join and renew, where the fleet's authority is.
    pub(crate) enroll: Option<SocketAddr>,
    /// How joiners reach it.
    pub(crate) enroll_at: Vec<String>,
    /// Copies of each stream that this node makes.
    pub(crate) replicas: usize,
}

/// Reads a settings file: the settings and the policy file they name, as far as they can be read, and every fault.
/// What was read must not be used when there are faults.
pub(crate) fn read(path: &Path) -> (Option<(Settings, PathBuf)>, Vec<Diagnostic>) {
    let name = path.display().to_string();
    let unread = |error| Diagnostic::error(name.as_str(), 0, format!("cannot be read: {error}"));
    match std::fs::read(path).map_err(unread).and_then(|bytes| utf8(&name, bytes)) {
        Ok(text) => read_text(path, &text),
        Err(fault) => (None, vec![fault]),
    }
}

/// The same, of the text that a file had.
pub(crate) fn read_text(path: &Path, text: &str) -> (Option<(Settings, PathBuf)>, Vec<Diagnostic>) {
    let name = path.display().to_string();
    let text = Text::new(&name, text);
    let (raw, mut faults) = text.read_partly::<RawSettings>();
    let folder = path.parent().unwrap_or(Path::new(""));
    (raw.map(|raw| check(&text, &raw, folder, &mut faults)), faults)
}

/// The JSON Schema of a settings file.
pub(crate) fn schema() -> serde_json::Value {
    phalanx_policy::schema::file_schema::<RawSettings>("Phalanx node settings")
}

fn check(
    text: &Text<'_>,
    raw: &RawSettings,
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> (Settings, PathBuf) {
    let listen = raw.listen.address.clone().unwrap_or_default();
    let mut addresses: Vec<_> = listen.iter().filter_map(|a| address(text, a, faults)).collect();
    // Who listens for TLS, balancers or other proxies says so, and need not listen without.
    let others = raw.listen.tls.is_empty() && raw.listen.http.is_empty() && raw.listen.check.is_empty();
    if listen.is_empty() && others && raw.listen.tcp.is_empty() {
        addresses.push(DEFAULT_LISTEN);
    }
    let mut proxied_by = vec![None; addresses.len()];
    for raw in &raw.listen.http {
        addresses.extend(address(text, &raw.address, faults));
        proxied_by.push(proxied(text, raw.proxy_protocol.as_ref(), faults));
    }
    let admin = raw.listen.admin.as_ref().and_then(|a| address(text, a, faults)).unwrap_or(DEFAULT_ADMIN);
    let at = (admin, raw.listen.admin.as_ref());
    let (console_names, console) = console_settings::check(text, &raw.admin, at, folder, faults);
    let site = name(text, raw.node.site.as_ref(), "local", faults);
    let node = name(text, raw.node.name.as_ref(), "node", faults);
    let fleet_id = name(text, raw.fleet.as_ref().and_then(|f| f.id.as_ref()), "default", faults);
    let fleet = raw.fleet.as_ref().map(|raw| fleet(text, raw, folder, faults));
    let workers = match &raw.node.workers {
        Some(workers) if !(1..=256).contains(&workers.value) => {
            faults.push(text.error_at(&workers.span, "`workers` goes from 1 to 256"));
            1
        }
        Some(workers) => usize::from(workers.value),
        None => default_workers(),
    };
    let state = raw.node.state.as_ref().map_or_else(default_state, |state| folder.join(state));
    let (trace, otlp) = trace_settings::check(text, &raw.trace, faults);
    let checks = check_settings::check(text, &raw.listen.check, folder, faults);
    let of_tls = (raw.listen.tls.as_slice(), raw.certificate.as_slice(), raw.acme.as_ref());
    let of_checks = (raw.listen.check.as_slice(), checks.as_slice());
    let of_upstreams = raw.upstream_certificate.as_slice();
    let of_others = (of_checks, of_upstreams);
    let tls = tls_settings::check(text, of_tls, of_others, !addresses.is_empty(), folder, faults);
    let tls = TlsSettings { console, ..tls };
    let tell = playbooks::check(text, ((&raw.webhooks, &raw.mail), raw.notify.as_ref()), folder, faults);
    let known = |name: &str| raw.webhooks.contains_key(name) || raw.mail.contains_key(name);
    let reports = report_settings::check(text, &raw.reports, (known, &tell.receivers), faults);
    let settings = Settings {
        listen: addresses,
        proxied: proxied_by,
        h2c: raw.listen.h2c,
        admin,
        console_names,
        logs: log_settings::check(text, &raw.log, folder, &state, faults),
        state,
        workers,
        site,
        node,
        fleet,
        fleet_id,
        geo: geo(text, &raw.geo, folder, faults),
        lapi: raw.lapi.as_ref().and_then(|lapi| lapi_listen(text, lapi, faults)),
        imports: imports(text, &raw.import.crowdsec, folder, faults),
        held: held(text, &raw.held, faults),
        trace,
        otlp,
        tls,
        tcp: tcp_settings::check(text, &raw.listen.tcp, faults),
        checks,
        drains: drains(text, &raw.node, faults),
        sandbox: sandbox::check(text, &raw.sandbox, folder, faults),
        limits: limit_settings::check(text, &raw.limits, faults),
        recording: recording_settings::check(text, &raw.recording, faults),
        copies_bytes_max: history_settings::check(text, &raw.history, faults),
        self_test: crate::selftest::settings::check(text, &raw.selftest, faults),
        learn_actors: learn_actors(text, &raw.learning, faults),
        tell,
        reports,
        oidc: oidc_settings::check(text, &raw.oidc, folder, faults),
    };
    (settings, folder.join(&raw.policy))
}

fn drains(text: &Text<'_>, raw: &RawNode, faults: &mut Vec<Diagnostic>) -> Drains {
    let mut drains = Drains::default();
    for (key, written, time) in
        [("drain", &raw.drain, &mut drains.stop), ("handover", &raw.handover, &mut drains.handover)]
    {
        let Some(written) = written else { continue };
        match duration_ms(written) {
            Ok(ms) if ms <= DRAIN_MAX_MS => *time = Duration::from_millis(ms),
            Ok(_) => faults.push(text.error_at(&written.span, format!("`{key}` is a day at most"))),
            Err(fault) => faults.push(text.error_at(&written.span, fault)),
        }
    }
    drains
}

fn fleet(text: &Text<'_>, raw: &RawFleet, folder: &Path, faults: &mut Vec<Diagnostic>) -> FleetSettings {
    if let Some(url) = &raw.url
        && !url.starts_with("nats://")
        && !url.starts_with("tls://")
    {
        let fault = text.error_at(&url.span, "the fleet's URL is no NATS URL");
        faults.push(fault.with_help("write `nats://HOST:4222`"));
    }
    let join = raw.join_file.as_ref().and_then(|file| match read_token(&folder.join(&file.value)) {
        Ok(token) => Some(token),
        // Needed once: after that the file may be gone, and should be.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            let fault = text.error_at(&file.span, format!("the join token cannot be read: {error}"));
            faults.push(fault.with_help("make it readable for the user that runs phalanx, or take it out"));
            None
        }
    });
    FleetSettings {
        url: raw.url.as_ref().map(|url| url.value.clone()),
        secret_file: raw.secret_file.as_ref().map(|file| folder.join(file)),
        join,
        enroll: raw.enroll.as_ref().and_then(|written| address(text, written, faults)),
        enroll_at: raw.enroll_at.clone(),
        replicas: replicas(text, raw.replicas.as_ref(), faults),
    }
}

fn replicas(text: &Text<'_>, written: Option<&At<u32>>, faults: &mut Vec<Diagnostic>) -> usize {
    match written.map(|written| (written, written.value)) {
        None => 1,
        Some((_, copies @ (1 | 3 | 5))) => copies as usize,
        Some((written, _)) => {
            let fault = text.error_at(&written.span, "`replicas` is 1, 3 or 5");
            faults.push(fault.with_help("write as many as the NATS cluster has servers: `replicas = 3`"));
            1
        }
    }
}

/// Reads a join token from a file.
pub(crate) fn read_token(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned())
}

/// Whether they can be used is for `check` to say and for the running node: a node starts without them.
fn geo(text: &Text<'_>, raw: &RawGeo, folder: &Path, faults: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    if let Some(one) = raw.database.get(GEO_FILES_MAX) {
        faults.push(text.error_at(&one.span, format!("a node reads at most {GEO_FILES_MAX} databases")));
    }
    raw.database.iter().take(GEO_FILES_MAX).map(|written| folder.join(&written.value)).collect()
}

/// Keys and decisions travel as they are: beyond this machine only where somebody says that the network is to be trusted.
fn lapi_listen(text: &Text<'_>, raw: &RawLapi, faults: &mut Vec<Diagnostic>) -> Option<SocketAddr> {
    let listen = address(text, &raw.listen, faults)?;
    if !listen.ip().is_loopback() && !raw.plain_http {
        let fault = "bouncers would send their keys in the clear: this listener has no TLS";
        let fault = text.error_at(&raw.listen.span, fault);
        faults.push(fault.with_help(
            "write `127.0.0.1:8901` and put a TLS proxy or tunnel before it, or `plain_http = true` on a network you trust",
        ));
    }
    Some(listen)
}

fn held(text: &Text<'_>, raw: &RawHeld, faults: &mut Vec<Diagnostic>) -> HoldLimits {
    let mut limits = HoldLimits::default();
    if let Some(written) = &raw.share_percent {
        match u8::try_from(written.value) {
            Ok(percent @ 1..=100) => limits.share_percent = percent,
            _ => faults.push(
                text.error_at(&written.span, "`share_percent` goes from 1 to 100")
                    .with_help("write `100` to hold nothing"),
            ),
        }
    }
    if let Some(written) = &raw.clients_least {
        limits.clients_least = written.value;
        if written.value < 2 {
            faults.push(
                text.error_at(&written.span, "`clients_least` is 2 or more")
                    .with_help("with 1 every ban of a visitor would wait for an operator"),
            );
        }
    }
    limits
}

fn learn_actors(text: &Text<'_>, raw: &RawLearning, faults: &mut Vec<Diagnostic>) -> usize {
    match &raw.actors {
        Some(written) if !LEARN_ACTORS.contains(&written.value) => {
            let (least, most) = (LEARN_ACTORS.start(), LEARN_ACTORS.end());
            let fault = text.error_at(&written.span, format!("`actors` goes from {least} to {most}"));
            faults.push(
                fault.with_help("each takes some 64 bytes; a million addresses, sessions and accounts 90 MB"),
            );
            crate::learning::ACTORS
        }
        Some(written) => written.value,
        None => crate::learning::ACTORS,
    }
}

fn imports(
    text: &Text<'_>,
    raw: &[RawCrowdsec],
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> Vec<ImportSettings> {
    if let Some(one_more) = raw.get(IMPORTS_MAX) {
        faults.push(text.error_at(&one_more.url.span, format!("there are more than {IMPORTS_MAX} sources")));
    }
    raw.iter().filter_map(|raw| import(text, raw, folder, faults)).collect()
}

fn import(
    text: &Text<'_>,
    raw: &RawCrowdsec,
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> Option<ImportSettings> {
    let url = raw.url.parse::<http::Uri>().ok();
    let url = url.filter(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some());
    match &url {
        None => {
            let fault = format!("`{}` is no address of a CrowdSec local API", raw.url.value);
            let fault = text.error_at(&raw.url.span, fault);
            faults.push(fault.with_help("write `https://lapi.example:8080` or `http://127.0.0.1:8080`"));
        }
        Some(url) if url.scheme_str() == Some("http") && !raw.plain_http && !on_this_machine(url) => {
            let fault = text.error_at(&raw.url.span, "the API key would be sent in the clear");
            faults.push(fault.with_help("write `https://`, or `plain_http = true` on a network you trust"));
        }
        Some(_) => {}
    }
    let mut every_ms = IMPORT_EVERY_MS;
    if let Some(written) = &raw.every {
        match duration_ms(written) {
            Ok(ms) if (1_000..=3_600_000).contains(&ms) => every_ms = ms,
            Ok(_) => faults.push(text.error_at(&written.span, "`every` goes from 1s to 1h")),
            Err(fault) => faults.push(text.error_at(&written.span, fault)),
        }
    }
    let limit = raw.limit.as_ref().map_or(IMPORT_LIMIT, |limit| limit.value);
    if let Some(written) = raw.limit.as_ref().filter(|limit| !(1..=IMPORT_LIMIT_MAX).contains(&limit.value)) {
        faults.push(text.error_at(&written.span, format!("`limit` goes from 1 to {IMPORT_LIMIT_MAX}")));
    }
    for origin in &raw.origins {
        if origin.is_empty() || !origin.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b)) {
            let fault = format!("`{}` is no origin of decisions", origin.value.escape_debug());
            faults.push(
                text.error_at(&origin.span, fault).with_help("write `crowdsec`, `cscli`, `CAPI` or `lists`"),
            );
        }
    }
    Some(ImportSettings {
        url: url?,
        key_file: folder.join(&raw.api_key_file),
        ca_file: raw.ca_file.as_ref().map(|file| folder.join(file)),
        every: Duration::from_millis(every_ms),
        origins: raw.origins.iter().map(|origin| origin.value.clone()).collect(),
        limit,
    })
}

fn on_this_machine(url: &http::Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

pub(crate) fn address(
    text: &Text<'_>,
    written: &At<String>,
    faults: &mut Vec<Diagnostic>,
) -> Option<SocketAddr> {
    let address = written.parse().ok();
    if address.is_none() {
        let fault = text.error_at(&written.span, format!("`{}` is no address with a port", written.value));
        faults.push(fault.with_help("write `0.0.0.0:8080`, `[::]:8080` or `127.0.0.1:8080`"));
    }
    address
}

/// The balancers that a listener takes connections from.
pub(crate) fn proxied(
    text: &Text<'_>,
    written: Option<&At<Vec<At<String>>>>,
    faults: &mut Vec<Diagnostic>,
) -> Option<PrefixSet> {
    let written = written?;
    if written.value.is_empty() {
        let fault = text.error_at(&written.span, "no connection would be taken: no balancer is named");
        faults.push(fault.with_help("write `proxy_protocol = [\"10.0.0.0/8\"]`, or take it out"));
    }
    let networks = written.value.iter().filter_map(|network| {
        let prefix = phalanx_policy::prefix::parse(network);
        match &prefix {
            None => {
                let fault = format!("`{}` is no IP address or range", network.value);
                faults.push(text.error_at(&network.span, fault));
            }
            Some(prefix) if prefix.prefix_len() == 0 => {
                let fault =
                    format!("`{}` holds every address: any client could claim any other", network.value);
                let fault = text.error_at(&network.span, fault);
                faults.push(fault.with_help("name the networks that the balancers connect from"));
            }
            Some(_) => {}
        }
        prefix
    });
    Some(networks.collect())
}

fn name(
    text: &Text<'_>,
    written: Option<&At<String>>,
    default: &str,
    faults: &mut Vec<Diagnostic>,
) -> String {
    let Some(written) = written else { return default.to_owned() };
    parse_name(written).unwrap_or_else(|message| {
        faults.push(text.error_at(&written.span, format!("`{}` is no name: {message}", written.value)));
        default.to_owned()
    })
}

/// One worker per core.
pub(crate) fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Where state lies unless it is said: the service manager's folder, else the user's.
pub(crate) fn default_state() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(state) = folder("STATE_DIRECTORY") {
        return state;
    }
    let user = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    user.unwrap_or_else(|| PathBuf::from("/var/lib")).join("phalanx")
}

/// `phalanx.toml`: where a node listens, where its state is, which fleet it belongs to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawSettings {
    /// The policy file, relative to this one.
    policy: PathBuf,
    /// The node itself.
    #[serde(default)]
    node: RawNode,
    /// Where it listens.
    #[serde(default)]
    listen: RawListen,
    /// The fleet that it belongs to. Without it the node is alone.
    fleet: Option<RawFleet>,
    /// Where logs go.
    #[serde(default)]
    log: RawLog,
    /// What is done with trace contexts.
    #[serde(default)]
    trace: RawTrace,
    /// Databases that say where addresses are.
    #[serde(default)]
    geo: RawGeo,
    /// Where CrowdSec's bouncers ask for decisions. Nowhere if not given.
    lapi: Option<RawLapi>,
    /// Sources of decisions.
    #[serde(default)]
    import: RawImport,
    /// When what would refuse good visitors is held for an operator.
    #[serde(default)]
    held: RawHeld,
    /// Certificates for listeners with TLS, 1,024 at most.
    #[serde(default)]
    certificate: Vec<RawCertificate>,
    /// Certificates from an authority.
    acme: Option<RawAcme>,
    /// What the process may touch.
    #[serde(default)]
    sandbox: RawSandbox,
    /// What clients may take of the node.
    #[serde(default)]
    limits: RawLimits,
    /// Certificates that the node shows to upstreams.
    #[serde(default)]
    upstream_certificate: Vec<RawUpstreamCertificate>,
    /// How the console is opened.
    #[serde(default)]
    admin: RawAdmin,
    /// How much the node learns about.
    #[serde(default)]
    learning: RawLearning,
    /// What is kept of requests for replay.
    #[serde(default)]
    recording: RawRecording,
    /// What a control node keeps of other nodes' histories.
    #[serde(default)]
    history: RawHistory,
    /// How the node attacks itself.
    #[serde(default)]
    selftest: RawSelfTest,
    /// Receivers that playbooks and `[notify]` tell, by name, 64 at most.
    #[serde(default)]
    webhooks: BTreeMap<String, At<RawWebhook>>,
    /// Receivers of mail that playbooks and `[notify]` tell, by name, 64 at most.
    #[serde(default)]
    mail: BTreeMap<String, At<RawMail>>,
    /// Who hears of incidents.
    notify: Option<RawNotify>,
    /// Reports that are sent by themselves, by name, 32 at most.
    #[serde(default)]
    reports: BTreeMap<String, At<RawReport>>,
    /// Identity providers by which operators log in, by name, 8 at most.
    #[serde(default)]
    oidc: BTreeMap<String, At<RawOidc>>,
}

/// How much the node learns about.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawLearning {
    /// Addresses, sessions and accounts at most, 1,000 to 20,000,000, 64 bytes each. 350,000 if not given.
    actors: Option<At<usize>>,
}

/// When what would refuse good visitors is held for an operator.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawHeld {
    /// What another node, a source or a list would refuse of the clients served well before it is held, 1 to 100; 100 holds nothing. 5 if not given.
    share_percent: Option<At<u32>>,
    /// And at least so many clients, 2 or more. 10 if not given.
    clients_least: Option<At<u32>>,
}

/// Databases that say where addresses are.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawGeo {
    /// Up to four files in MaxMind's format (`.mmdb`): countries, AS numbers, cities. Where two know the same, the first is believed.
    #[serde(default)]
    database: Vec<At<PathBuf>>,
}

/// The node itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawNode {
    /// The place that it runs in: 1 to 32 characters of a-z, 0-9 and -. "local" if not given.
    site: Option<At<String>>,
    /// Its name, unique in its site; the same form. "node" if not given.
    name: Option<At<String>>,
    /// The folder with keys, decisions, history, access log and ledger. `$STATE_DIRECTORY` if not given, else `$XDG_STATE_HOME/phalanx`, `~/.local/state/phalanx` or `/var/lib/phalanx`.
    state: Option<PathBuf>,
    /// Threads of the data plane, 1 to 256. One per core if not given.
    workers: Option<At<u16>>,
    /// How long requests under way may take to end after the node was told to stop, up to a day. "10s" if not given.
    drain: Option<At<String>>,
    /// How long connections may go on at a process that was followed by another, up to a day. "10m" if not given.
    handover: Option<At<String>>,
}

/// Where the node listens.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawListen {
    /// Addresses with ports, without TLS; port 0 takes a free one. ["127.0.0.1:8080"] if there is no other listener.
    address: Option<Vec<At<String>>>,
    /// Clients may begin with HTTP/2 without TLS. `false` if not given.
    #[serde(default)]
    h2c: bool,
    /// API and console; beyond loopback `[admin]` must name them and their certificate. "127.0.0.1:8900" if not given.
    admin: Option<At<String>>,
    /// Listeners without TLS that have more to say than their address.
    #[serde(default)]
    http: Vec<RawHttpListen>,
    /// Listeners with TLS.
    #[serde(default)]
    tls: Vec<RawTlsListen>,
    /// Listeners at which other proxies ask.
    #[serde(default)]
    check: Vec<RawCheckListen>,
    /// Listeners whose connections are carried as they are.
    #[serde(default)]
    tcp: Vec<RawTcpListen>,
}

/// A listener without TLS.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawHttpListen {
    /// Its address with port.
    address: At<String>,
    /// Networks of balancers: nobody else may connect, and each connection begins with a PROXY header.
    proxy_protocol: Option<At<Vec<At<String>>>>,
}

/// The fleet that a node belongs to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawFleet {
    /// The NATS server, as in "nats://10.0.0.5:4222" or "tls://...", or several with commas. An enrolled node needs none.
    url: Option<At<String>>,
    /// The fleet's name; nodes of other fleets are ignored. "default" if not given.
    id: Option<At<String>>,
    /// A file with at least 16 characters that all nodes share, mode 0600. Without it the first key seen for a node's name is trusted.
    secret_file: Option<PathBuf>,
    /// A file with a join token. Needed once; it may be gone afterwards.
    join_file: Option<At<PathBuf>>,
    /// Where nodes join and renew: on the node that holds the fleet's authority, and on a site's delegate.
    enroll: Option<At<String>>,
    /// How joiners reach it, as in "HOST:PORT". The address above if not given.
    #[serde(default)]
    enroll_at: Vec<String>,
    /// Copies of each stream, 1, 3 or 5, in a NATS cluster that is run without `phalanx fleet serve`. 1 if not given.
    replicas: Option<At<u32>>,
}

/// One of countries, one of systems, and as many of the operator's own.
const GEO_FILES_MAX: usize = 4;
/// Where CrowdSec's bouncers ask for decisions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawLapi {
    /// The address with port.
    listen: At<String>,
    /// Take an address other than loopback, though keys and decisions travel in the clear. `false` if not given.
    #[serde(default)]
    plain_http: bool,
}

/// Sources of decisions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawImport {
    /// CrowdSec's local APIs, 8 at most.
    #[serde(default)]
    crowdsec: Vec<RawCrowdsec>,
}

/// A CrowdSec local API whose decisions are taken over.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawCrowdsec {
    /// `https://` or, on this machine, `http://`.
    url: At<String>,
    /// A file with the key that it gave this node, mode 0600.
    api_key_file: PathBuf,
    /// Certificates to trust, in PEM form. The system's if not given.
    ca_file: Option<PathBuf>,
    /// How long to wait between two questions, 1s to 1h. "10s" if not given.
    every: Option<At<String>>,
    /// Only decisions of these origins, as in ["crowdsec", "cscli"]. All if not given.
    #[serde(default)]
    origins: Vec<At<String>>,
    /// Addresses taken over at most, up to 50,000. 20,000 if not given.
    limit: Option<At<usize>>,
    /// Take `http://` to another machine, though the key travels in the clear. `false` if not given.
    #[serde(default)]
    plain_http: bool,
}

/// Sources of decisions; each is a task and a table.
const IMPORTS_MAX: usize = 8;
/// How often CrowdSec's own bouncers ask.
const IMPORT_EVERY_MS: u64 = 10_000;
/// Addresses taken over of one source: CrowdSec's community list has some 15,000.
const IMPORT_LIMIT: usize = 20_000;
/// Half of what one author may order in all: a source must not crowd out what the node finds out itself.
const IMPORT_LIMIT_MAX: usize = phalanx_model::limits::DECISIONS_PER_AUTHOR_MAX / 2;

/// From a small site's to 1.3 GB.
const LEARN_ACTORS: std::ops::RangeInclusive<usize> = 1_000..=20_000_000;

const DRAIN_MAX_MS: u64 = 86_400_000;

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8900);

#[cfg(test)]
#[path = "settings_tests.rs"]
pub(crate) mod tests;
