//! The files that a nats-server is started with so that it serves this fleet and nobody else.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::ca::{FleetAuthority, NatsOperator};
use crate::certificate::Der;
use crate::{TrustError, private_file};

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
    let key = server.key.to_pkcs8()?;
    private_file::replace(&folder.join("nats.key"), pem("PRIVATE KEY", &[key.to_vec()]).as_bytes())?;
    private_file::replace(&folder.join("nats.crt"), pem("CERTIFICATE", &server.chain).as_bytes())?;
    private_file::replace(&folder.join("roots.crt"), pem("CERTIFICATE", &roots).as_bytes())?;
    let text = text(folder, &operator, plan);
    private_file::replace(&folder.join("nats-server.conf"), text.as_bytes())
}

fn text(folder: &Path, operator: &NatsOperator, plan: &NatsServerPlan) -> String {
    let path = |name: &str| quoted(&folder.join(name).display().to_string());
    let NatsOperator { operator, account: (account, account_claims), system: (system, system_claims) } =
        operator;
    format!(
        "# Written by `phalanx fleet nats`. There is no monitoring port: it would answer whoever asks.\n\
         server_name: phalanx-nats\n\
         host: {host}\n\
         port: {port}\n\
         max_payload: {PAYLOAD_MAX}\n\
         jetstream {{ store_dir: {store} }}\n\
         tls {{\n  cert_file: {certificate}\n  key_file: {key}\n  ca_file: {roots}\n  verify: true\n}}\n\
         operator: {operator}\n\
         system_account: {system}\n\
         resolver: {{ type: full, dir: {claims}, allow_delete: false, interval: \"2m\", limit: 64 }}\n\
         resolver_preload: {{\n  {account}: {account_claims}\n  {system}: {system_claims}\n}}\n",
        host = quoted(&plan.host),
        port = plan.port,
        store = quoted(&plan.store),
        certificate = path("nats.crt"),
        key = path("nats.key"),
        roots = path("roots.crt"),
        claims = path("claims"),
    )
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

/// A year: the server's key stays on one machine, and its certificate is written by hand.
const SERVER_CERTIFICATE_MS: u64 = 365 * 24 * 60 * 60_000;
/// Twice the largest record.
const PAYLOAD_MAX: usize = 128 * 1024;
