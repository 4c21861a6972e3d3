//! What the settings say of TLS towards clients: listeners, certificates, clients' certificates.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phalanx_model::PrefixSet;
use phalanx_model::limits::CERTIFICATES_MAX;
use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::acme_settings::{self, AcmeTls, RawAcme};
use crate::check_settings::{CheckSettings, RawCheckListen};
use crate::settings::{address, proxied};

/// TLS listeners and what they show; none of both by default.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsSettings {
    pub(crate) listeners: Vec<TlsListen>,
    /// Those of listeners at which other proxies ask, behind the others in the material.
    pub(crate) checks: Vec<TlsListen>,
    /// The first one answers those who name no host, or an unknown one.
    pub(crate) certificates: Vec<CertificateFiles>,
    /// Certificates that are ordered.
    pub(crate) acme: Option<AcmeTls>,
    /// What is shown to upstreams that policy names it for, by name.
    pub(crate) identities: Vec<(String, CertificateFiles)>,
}

/// One TLS listener.
#[derive(Debug, Clone)]
pub(crate) struct TlsListen {
    pub(crate) address: SocketAddr,
    pub(crate) require_pq: bool,
    pub(crate) clients: Option<ClientCertificates>,
    /// Whose connections it takes, with a PROXY header; everybody's without one if there is none.
    pub(crate) proxied: Option<PrefixSet>,
}

/// Whose certificates clients are asked for.
#[derive(Debug, Clone)]
pub(crate) struct ClientCertificates {
    pub(crate) ca_file: PathBuf,
    /// Nobody is served without one.
    pub(crate) required: bool,
}

/// Where a certificate and its key lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Checks what was written.
pub(crate) fn check(
    text: &Text<'_>,
    (listen, certificates, acme): (&[RawTlsListen], &[RawCertificate], Option<&RawAcme>),
    ((raw_checks, checks), identities): ((&[RawCheckListen], &[CheckSettings]), &[RawUpstreamCertificate]),
    plain: bool,
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> TlsSettings {
    let with_tls = raw_checks.iter().filter_map(|one| one.tls.as_ref()).find(|tls| tls.value);
    let first = listen.first().map(|first| &first.address.span).or(with_tls.map(|tls| &tls.span));
    if let (Some(first), true) = (first, certificates.is_empty() && acme.is_none()) {
        let fault = text.error_at(first, "a TLS listener needs a certificate");
        faults.push(fault.with_help(
            "add `[[certificate]]` with `cert = \"shop.pem\"` and `key = \"shop.key\"`, or `[acme]`",
        ));
    }
    if let (Some(certificate), None) = (certificates.first(), first) {
        let fault = text.error_at(&certificate.cert.span, "no listener shows this certificate");
        faults.push(fault.with_help("add `[[listen.tls]]` with `address = \"0.0.0.0:8443\"`"));
    }
    if let Some(one_more) = certificates.get(CERTIFICATES_MAX) {
        let fault = format!("there are more than {CERTIFICATES_MAX} certificates");
        faults.push(text.error_at(&one_more.cert.span, fault));
    }
    let files = |raw: &RawCertificate| CertificateFiles {
        cert: folder.join(&raw.cert.value),
        key: folder.join(&raw.key),
    };
    TlsSettings {
        listeners: listen.iter().filter_map(|raw| listener(text, raw, folder, faults)).collect(),
        checks: checks.iter().filter_map(|one| one.tls.clone()).collect(),
        certificates: certificates.iter().take(CERTIFICATES_MAX).map(files).collect(),
        acme: acme.map(|raw| acme_settings::check(text, raw, (plain, !listen.is_empty()), folder, faults)),
        identities: named(text, identities, folder, faults),
    }
}

fn listener(
    text: &Text<'_>,
    raw: &RawTlsListen,
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> Option<TlsListen> {
    if let (None, Some(asked)) = (&raw.client_ca, &raw.client_certificate) {
        let fault = text.error_at(&asked.span, "nothing says whose certificates are believed");
        faults.push(fault.with_help("add `client_ca = \"staff.pem\"`"));
    }
    let asked = raw.client_certificate.as_ref().map(|asked| asked.value).unwrap_or_default();
    Some(TlsListen {
        address: address(text, &raw.address, faults)?,
        require_pq: raw.require_pq,
        clients: raw
            .client_ca
            .as_ref()
            .map(|file| ClientCertificates { ca_file: folder.join(file), required: asked == Asked::Require }),
        proxied: proxied(text, raw.proxy_protocol.as_ref(), faults),
    })
}

impl TlsSettings {
    /// All listeners with TLS, as their places in the material are.
    pub(crate) fn all(&self) -> impl Iterator<Item = &TlsListen> {
        self.listeners.iter().chain(&self.checks)
    }
}

/// Checks what was written of certificates for upstreams.
pub(crate) fn named(
    text: &Text<'_>,
    raw: &[RawUpstreamCertificate],
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> Vec<(String, CertificateFiles)> {
    let mut named: Vec<(String, CertificateFiles)> = Vec::new();
    for one in raw {
        if named.iter().any(|(known, _)| *known == one.name.value) {
            let fault = format!("there is another certificate `{}` for upstreams", one.name.value);
            faults.push(text.error_at(&one.name.span, fault).with_help("give each a name of its own"));
        }
        let files = CertificateFiles { cert: folder.join(&one.cert), key: folder.join(&one.key) };
        named.push((one.name.value.clone(), files));
    }
    if let Some(one_more) = raw.get(CERTIFICATES_MAX) {
        let fault = format!("there are more than {CERTIFICATES_MAX} certificates for upstreams");
        faults.push(text.error_at(&one_more.name.span, fault));
    }
    named
}

impl CertificateFiles {
    /// The file that an operator knows it by.
    pub(crate) fn name(&self) -> Arc<str> {
        self.cert.display().to_string().into()
    }
}

/// A listener with TLS.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTlsListen {
    /// Its address with port.
    address: At<String>,
    /// Refuse clients without a post-quantum key exchange. `false` if not given.
    #[serde(default)]
    require_pq: bool,
    /// Authorities whose certificates clients are asked for, in PEM form.
    client_ca: Option<PathBuf>,
    /// Beside `client_ca`: whether clients must show one. "require" if not given.
    client_certificate: Option<At<Asked>>,
    /// Networks of balancers: nobody else may connect, and each connection begins with a PROXY header.
    proxy_protocol: Option<At<Vec<At<String>>>>,
}

/// A certificate for listeners with TLS.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCertificate {
    /// The chain, the host's own certificate first, in PEM form.
    cert: At<PathBuf>,
    /// Its key, in PEM form, mode 0600.
    key: PathBuf,
}

/// A certificate that the node shows to upstreams.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawUpstreamCertificate {
    /// What the policy calls it.
    name: At<String>,
    /// The chain, in PEM form.
    cert: PathBuf,
    /// Its key, in PEM form, mode 0600.
    key: PathBuf,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Asked {
    /// Nobody is served without one.
    #[default]
    Require,
    /// Who has none is served; who shows one that is not believed is not.
    Request,
}
