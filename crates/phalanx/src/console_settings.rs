//! What the settings say of the console: under which names it is opened, and what it shows as TLS. `[admin]`, beside `listen.admin`.
//!
//! One name for all nodes of a fleet is what passkeys need: a browser makes one for a name, and gives it to no other.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use phalanx_control::HostName;
use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::tls_settings::CertificateFiles;

/// Under which names the console is opened, and what it shows as TLS. Where it listens says `listen.admin`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAdmin {
    /// Host names, 8 at most, each with the port that browsers use if that is not the listener's: `console.example.net`.
    #[serde(default)]
    names: Vec<At<String>>,
    /// The chain, the console's own certificate first, in PEM form. No TLS if not given.
    cert: Option<At<PathBuf>>,
    /// Its key, in PEM form, mode 0600.
    key: Option<At<PathBuf>>,
}

/// Checks what was written: the names, and the files of the certificate. `listen` is where the console is, and where that stands.
pub(crate) fn check(
    text: &Text<'_>,
    raw: &RawAdmin,
    (listen, written): (SocketAddr, Option<&At<String>>),
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> (Vec<HostName>, Option<CertificateFiles>) {
    let mut names = Vec::new();
    for written in &raw.names {
        match HostName::parse(&written.value) {
            Some(name) => names.push(name),
            None => {
                let fault = text
                    .error_at(&written.span, format!("`{}` is no host name", written.value.escape_debug()));
                faults.push(fault.with_help("write `console.example.net`, or `console.example.net:443` if it is reached at another port"));
            }
        }
    }
    if let Some(one_more) = raw.names.get(NAMES_MAX) {
        faults.push(text.error_at(&one_more.span, format!("there are more than {NAMES_MAX} names")));
    }
    let files = match (&raw.cert, &raw.key) {
        (Some(cert), Some(key)) => {
            Some(CertificateFiles { cert: folder.join(&cert.value), key: folder.join(&key.value) })
        }
        (Some(lone), None) | (None, Some(lone)) => {
            let fault = text.error_at(&lone.span, "a certificate needs its key, and a key its certificate");
            faults.push(fault.with_help("add `cert = \"console.pem\"` and `key = \"console.key\"`"));
            None
        }
        (None, None) => None,
    };
    if let (false, Some(written)) = (listen.ip().is_loopback(), written) {
        if raw.cert.is_none() {
            let fault = text.error_at(&written.span, "the console has no TLS and must be on loopback");
            faults.push(fault.with_help(
                "add `[admin]` with `names = [\"console.example.net\"]`, `cert = \"console.pem\"` and `key = \"console.key\"`; or write `127.0.0.1:8900` and reach it through SSH",
            ));
        } else if raw.names.is_empty() {
            let fault = text.error_at(&written.span, "the console is beyond loopback and has no name");
            faults.push(fault.with_help(
                "add `names = [\"console.example.net\"]` to `[admin]`: passkeys are made for a name",
            ));
        }
    }
    (names, files)
}

/// Names of one console. One is usual; a second while it changes.
const NAMES_MAX: usize = 8;
