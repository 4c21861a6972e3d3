//! The files that a nats-server is started with so that it serves this fleet and nobody else: alone, or as a site's server with
//! links to other sites.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::ca::{FleetAuthority, NatsOperator};
use crate::certificate::Der;
use crate::join::ders;
use crate::nats_login::{NatsKind, key_seed};
use crate::{ServerGrant, ServerKeys, SigningKey, TrustError, nats_links, private_file};

/// Where a nats-server listens and keeps its streams.
#[derive(Debug, Clone)]
pub struct NatsServerPlan {
    /// The address it binds.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Where it keeps streams.
    pub store: String,
    /// Addresses and names under which other tools reach it; nodes know it by its certificate, whatever its address.
    pub hosts: Vec<String>,
}

/// How a site's server is linked to others.
#[derive(Debug, Clone, Default)]
pub struct SitePlan {
    /// Where servers of other sites link to it.
    pub leaf_listen: Option<SocketAddr>,
    /// Servers of other sites that it links itself to, `tls://HOST:PORT`: the first that answers.
    pub hubs: Vec<String>,
    /// The servers of its own site, if there are three.
    pub cluster: Option<ClusterPlan>,
}

/// The servers of one site.
#[derive(Debug, Clone)]
pub struct ClusterPlan {
    /// Where the others of the site reach this one.
    pub listen: SocketAddr,
    /// All of them, `HOST:PORT`.
    pub peers: Vec<String>,
}

/// Writes `nats-server.conf` and what it names into a folder: certificate, key and roots in PEM. Replaces what is there.
pub fn write(
    folder: &Path,
    authority: &mut FleetAuthority,
    plan: &NatsServerPlan,
    now_ms: u64,
) -> Result<(), TrustError> {
    let server = authority.server("nats", &plan.hosts, SERVER_CERTIFICATE_MS, now_ms)?;
    let operator = authority.nats_operator()?;
    let roots = authority.bundle().map(|bundle| bundle.roots().to_vec()).unwrap_or_default();
    write_tls(folder, &server.key, &server.chain, &roots)?;
    let text = text(folder, "phalanx-nats", None, &operator, plan);
    private_file::replace(&folder.join(CONFIG), text.as_bytes())
}

/// Writes the configuration of a site's server. Replaces what is there; true if the server must read it again.
pub fn write_site(
    folder: &Path,
    grant: &ServerGrant,
    keys: &ServerKeys,
    plan: &NatsServerPlan,
    site: &SitePlan,
) -> Result<(), TrustError> {
    write_tls(folder, &keys.tls, &ders(&grant.chain), &ders(&grant.roots))?;
    let login = credentials(&grant.links_login, &keys.links)?;
    private_file::replace(&folder.join(LINKS), login.as_bytes())?;
    let name = format!("{}-{}", grant.site, grant.server);
    let mut text = text(folder, &name, Some(&grant.site), &grant.operator, plan);
    let _ = writeln!(text, "pid_file: {}", path(folder, PID));
    text.push_str(&links(folder, &grant.operator.account.0, site));
    if let Some(cluster) = &site.cluster {
        text.push_str(&routes(folder, &grant.site, cluster));
    }
    private_file::replace(&folder.join(CONFIG), text.as_bytes())
}

fn write_tls(folder: &Path, key: &SigningKey, chain: &[Der], roots: &[Der]) -> Result<(), TrustError> {
    let key = key.to_pkcs8()?;
    private_file::replace(&folder.join("nats.key"), pem("PRIVATE KEY", &[key.to_vec()]).as_bytes())?;
    private_file::replace(&folder.join("nats.crt"), pem("CERTIFICATE", chain).as_bytes())?;
    private_file::replace(&folder.join("roots.crt"), pem("CERTIFICATE", roots).as_bytes())
}

fn text(
    folder: &Path,
    name: &str,
    domain: Option<&str>,
    operator: &NatsOperator,
    plan: &NatsServerPlan,
) -> String {
    let NatsOperator { operator, account: (account, account_claims), system: (system, system_claims) } =
        operator;
    let domain = domain.map(|domain| format!("  domain: {}\n", quoted(domain))).unwrap_or_default();
    format!(
        "# Written by phalanx; changes are lost. There is no monitoring port: it would answer whoever asks.\n\
         server_name: {name}\n\
         host: {host}\n\
         port: {port}\n\
         max_payload: {PAYLOAD_MAX}\n\
         max_connections: {CONNECTIONS_MAX}\n\
         max_subscriptions: {SUBSCRIPTIONS_MAX}\n\
         max_control_line: 4KB\n\
         max_pending: {PENDING_MAX}\n\
         write_deadline: \"5s\"\n\
         ping_interval: \"2s\"\n\
         ping_max: 2\n\
         jetstream {{\n  store_dir: {store}\n{domain}  sync_interval: always\n  max_mem: {MEMORY_MAX}\n  max_file: {STORE_MAX}\n}}\n\
         tls {tls}\
         operator: {operator}\n\
         system_account: {system}\n\
         resolver: {{ type: full, dir: {claims}, allow_delete: false, interval: \"2m\", limit: 64 }}\n\
         resolver_preload: {{\n  {account}: {account_claims}\n  {system}: {system_claims}\n}}\n",
        name = quoted(name),
        host = quoted(&plan.host),
        port = plan.port,
        store = quoted(&plan.store),
        tls = tls(folder, true),
        claims = path(folder, "claims"),
    )
}

/// Links to other sites: who may come, where this server goes, and what neither lets across.
fn links(folder: &Path, account: &str, site: &SitePlan) -> String {
    if site.leaf_listen.is_none() && site.hubs.is_empty() {
        return String::new();
    }
    let mut text = String::from("leafnodes {\n");
    if let Some(listen) = site.leaf_listen {
        let (host, port) = (quoted(&listen.ip().to_string()), listen.port());
        let _ = writeln!(
            text,
            "  host: {host}\n  port: {port}\n  no_advertise: true\n  tls {}",
            tls(folder, true)
        );
    }
    if !site.hubs.is_empty() {
        let urls: Vec<String> = site.hubs.iter().map(|hub| quoted(hub)).collect();
        let denied: Vec<String> = nats_links::STAYS.iter().map(|subject| quoted(subject)).collect();
        let denied = denied.join(", ");
        let _ = writeln!(
            text,
            "  reconnect: \"500ms\"\n  remotes: [ {{\n    urls: [{}]\n    no_randomize: true\n    account: {account}\n    \
             credentials: {}\n    deny_exports: [{denied}]\n    deny_imports: [{denied}]\n    tls {}  }} ]",
            urls.join(", "),
            path(folder, LINKS),
            tls(folder, false),
        );
    }
    text.push_str("}\n");
    text
}

fn routes(folder: &Path, site: &str, cluster: &ClusterPlan) -> String {
    let routes: Vec<String> =
        cluster.peers.iter().map(|peer| quoted(&format!("nats-route://{peer}"))).collect();
    format!(
        "cluster {{\n  name: {}\n  host: {}\n  port: {}\n  no_advertise: true\n  tls {}  routes: [{}]\n}}\n",
        quoted(site),
        quoted(&cluster.listen.ip().to_string()),
        cluster.listen.port(),
        tls(folder, true),
        routes.join(", "),
    )
}

/// Both ends show a certificate of the fleet; `verify` has the listening end insist on it.
fn tls(folder: &Path, verify: bool) -> String {
    let (certificate, key, roots) =
        (path(folder, "nats.crt"), path(folder, "nats.key"), path(folder, "roots.crt"));
    let verify = if verify { "  verify: true\n" } else { "" };
    format!(
        "{{\n  cert_file: {certificate}\n  key_file: {key}\n  ca_file: {roots}\n{verify}  timeout: 5\n}}\n"
    )
}

/// A login with its key, in the form that nats-server reads.
fn credentials(login: &str, key: &SigningKey) -> Result<Zeroizing<String>, TrustError> {
    let seed = key_seed(NatsKind::User, key)?;
    Ok(Zeroizing::new(format!(
        "-----BEGIN NATS USER JWT-----\n{login}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        seed.as_str()
    )))
}

fn path(folder: &Path, name: &str) -> String {
    quoted(&folder.join(name).display().to_string())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn pem(label: &str, ders: &[Der]) -> String {
    let mut text = String::new();
    for der in ders {
        let body = STANDARD.encode(der);
        let _ = writeln!(text, "-----BEGIN {label}-----");
        for line in body.as_bytes().chunks(64) {
            let _ = writeln!(text, "{}", String::from_utf8_lossy(line));
        }
        let _ = writeln!(text, "-----END {label}-----");
    }
    text
}

/// What nats-server is started with, in the folder that is written.
pub const CONFIG: &str = "nats-server.conf";
/// Where a site's server writes its process id.
pub const PID: &str = "nats.pid";
const LINKS: &str = "links.creds";
/// A year: the server's key stays on one machine, and its certificate is written by hand.
const SERVER_CERTIFICATE_MS: u64 = 365 * 24 * 60 * 60_000;
/// Twice the largest record.
const PAYLOAD_MAX: usize = 128 * 1024;
/// A hundred nodes with two connections each while they renew, and room for mistakes.
const CONNECTIONS_MAX: usize = 1024;
/// Of one connection: topics, readers of streams of all sites, answers.
const SUBSCRIPTIONS_MAX: usize = 4096;
/// What one slow connection may have waiting.
const PENDING_MAX: &str = "32MB";
/// Streams lie on disk; memory holds what is on its way to it.
const MEMORY_MAX: &str = "64MB";
/// A million records for each of ten sites, and some blocklists.
const STORE_MAX: &str = "16GB";
