//! Certificates that apps ask of their clients: which rule a handshake goes by, whether a connection that was opened by one may ask for
//! an app with another, and what the app is told.
//!
//! Flow in names: policy -> [`AskedOfClients`] in the plan -> the handshake, by the host that the client asks for -> [`OpenedBy`] with the
//! connection -> [`check`] of each request -> fields for the upstream.
//!
//! INVARIANT: a request reaches an app only over a connection whose handshake went by the rule that the app has now, or by no rule where
//! the app has none. Without TLS nobody is asked, so only apps that can do without a certificate are reached.
//!
//! Failure direction: closed. Where the rules differ the answer is 421 (RFC 9110 section 15.5.20), and the client may come again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256, digest};
use data_encoding::{BASE64, HEXLOWER};
use hashbrown::HashMap;
use phalanx_model::Reason;
use phalanx_model::Verdict;
use phalanx_policy::client_certificate::{CertificateMode, ClientCertificate};
use phalanx_policy::seclang::read_text;
use phalanx_policy::{Diagnostic, Files};
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CommonState, Error, HandshakeKind};

use crate::client::Client;
use crate::http1::encode::field;
use crate::http1::fields::same_with_underscores;
use crate::plan::AppPlan;
use crate::reply::Reply;
use crate::request::Request;
use crate::stop::Stop;
use crate::tls::origin::read_authorities;

/// What an app asks of its clients, and how it is told of them.
#[derive(Debug, Clone)]
pub struct AskedOfClients {
    /// By which handshakes for its hosts go.
    pub rule: Arc<CertificateRule>,
    /// The field with the certificate.
    header: FieldName,
    /// The field with its fingerprint.
    fingerprint: Option<FieldName>,
}

impl AskedOfClients {
    /// Tells the app in these fields, whose names are in lower case.
    pub fn new(rule: Arc<CertificateRule>, header: &str, fingerprint: Option<&str>) -> Self {
        Self { rule, header: FieldName::new(header), fingerprint: fingerprint.map(FieldName::new) }
    }

    /// Whether a field of this name is for the node alone to write.
    pub(crate) fn takes(&self, name: &[u8]) -> bool {
        let own = [Some(&self.header), self.fingerprint.as_ref()];
        own.into_iter().flatten().any(|own| same_with_underscores(name, own.known.as_bytes()))
            || STANDARD.iter().any(|known| same_with_underscores(name, known.as_bytes()))
    }

    /// Appends the fields about what a client has shown.
    pub(crate) fn write(&self, out: &mut Vec<u8>, shown: Option<&Shown>) {
        let Some(shown) = shown else { return };
        field(out, self.header.written.as_bytes(), shown.certificate.as_bytes());
        if let Some(name) = &self.fingerprint {
            field(out, name.written.as_bytes(), shown.fingerprint.as_bytes());
        }
    }
}

/// The name of a field as it is written, and as names are compared with it.
#[derive(Debug, Clone)]
struct FieldName {
    written: Arc<str>,
    known: Arc<str>,
}

impl FieldName {
    fn new(name: &str) -> Self {
        Self { written: name.into(), known: name.to_ascii_lowercase().replace('_', "-").into() }
    }
}

/// By what a handshake goes: whose certificates are believed, and whether there must be one. Apps that ask for the same share it.
pub struct CertificateRule {
    id: RuleId,
    required: bool,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// A rule's digest: the same on every node with the same policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RuleId(pub(crate) [u8; RuleId::BYTES]);

impl RuleId {
    pub(crate) const BYTES: usize = 32;
}

impl CertificateRule {
    /// A rule that believes the authorities in a PEM text.
    ///
    /// # Errors
    /// The line, from 1 or 0 for the whole text, and what is wrong there.
    pub fn new(pem: &[u8], required: bool) -> Result<Self, (u32, String)> {
        let roots = Arc::new(read_authorities(pem)?);
        let builder =
            WebPkiClientVerifier::builder_with_provider(roots, Arc::new(provider::default_provider()));
        let builder = if required { builder } else { builder.allow_unauthenticated() };
        let verifier = builder.build().map_err(|error| (0, error.to_string()))?;
        let mut context = Context::new(&SHA256);
        for part in [CONTEXT, &[u8::from(required)], pem] {
            context.update(part);
        }
        let mut id = RuleId([0; RuleId::BYTES]);
        id.0.copy_from_slice(context.finish().as_ref());
        Ok(Self { id, required, verifier })
    }

    pub(crate) fn id(&self) -> RuleId {
        self.id
    }

    /// What a handshake by this rule leads to, as far as requests are let in; nothing of a certificate is known.
    pub(crate) fn taken_as_opened(&self) -> OpenedBy {
        OpenedBy { rule: self.id, shown: None }
    }

    pub(crate) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// What a handshake by this rule leads to. A session that goes on shows what it began with, which is looked at again: it may have
    /// ended since.
    pub(crate) fn open(&self, connection: &CommonState, now_ms: u64) -> Result<OpenedBy, Error> {
        let chain = connection.peer_certificates().unwrap_or_default();
        let Some((own, others)) = chain.split_first() else {
            let none = OpenedBy { rule: self.id, shown: None };
            return if self.required { Err(Error::NoCertificatesPresented) } else { Ok(none) };
        };
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms));
            self.verifier.verify_client_cert(own, others, now)?;
        }
        Ok(OpenedBy { rule: self.id, shown: Some(Shown::new(own)) })
    }
}

/// By which rule a connection was opened, and what its client has shown.
#[derive(Debug)]
pub(crate) struct OpenedBy {
    rule: RuleId,
    pub(crate) shown: Option<Shown>,
}

/// A client's certificate as apps are told of it.
#[derive(Debug)]
pub(crate) struct Shown {
    /// A byte sequence of Structured Fields (RFC 9440 section 2.1).
    certificate: String,
    fingerprint: String,
}

impl Shown {
    fn new(certificate: &CertificateDer<'_>) -> Self {
        Self {
            certificate: format!(":{}:", BASE64.encode(certificate)),
            fingerprint: HEXLOWER.encode(digest(&SHA256, certificate).as_ref()),
        }
    }
}

/// Whether a connection was opened by the rule that an app has, or by none where it has none.
pub(crate) fn is_opened_for(opened: Option<&OpenedBy>, app: &AppPlan) -> bool {
    opened.map(|opened| opened.rule) == app.client_certificate.as_ref().map(|asked| asked.rule.id)
}

/// Refuses a request that comes over a connection which was opened by another rule than its app's.
pub(crate) fn check(client: &Client, request: &mut Request) -> Result<(), Stop> {
    let app = request.app();
    if is_opened_for(client.opened.as_deref(), app) {
        return Ok(());
    }
    if client.tls.is_none() {
        let required = app.client_certificate.as_ref().is_some_and(|asked| asked.rule.required);
        // Whoever comes without TLS may be told to come with it, and nothing else.
        let redirects = || request.handling().is_some_and(|handling| handling.redirects());
        if !required || client.asked.is_none() && redirects() {
            return Ok(());
        }
    }
    let error =
        "the connection was opened by another rule for clients' certificates than the app's".to_owned();
    request.keep_alive = false;
    request.verdict =
        Verdict { status: Reply::MISDIRECTED.status, ..Verdict::allow(Reason::Upstream { error }) };
    Err(Stop::Answered(Reply::MISDIRECTED))
}

/// The rules of a policy made so far, one for each file and mode, and what was found wrong.
pub(crate) struct CertificateRules<'a> {
    files: Files<'a>,
    known: HashMap<(String, bool), Option<Arc<CertificateRule>>>,
    pub(crate) errors: Vec<Diagnostic>,
}

impl<'a> CertificateRules<'a> {
    pub(crate) fn new(files: Files<'a>) -> Self {
        Self { files, known: HashMap::new(), errors: Vec::new() }
    }

    /// What an app's setting asks; `None` for a faulty one, whose fault is kept.
    pub(crate) fn of(&mut self, asked: &ClientCertificate) -> Option<Arc<AskedOfClients>> {
        let required = asked.mode == CertificateMode::Require;
        let key = (asked.ca_file.display().to_string(), required);
        if !self.known.contains_key(&key) {
            let rule = self.build(&key.0, required).map_err(|fault| self.errors.push(fault)).ok();
            self.known.insert(key.clone(), rule);
        }
        let rule = self.known.get(&key).cloned().flatten()?;
        Some(Arc::new(AskedOfClients::new(rule, &asked.header, asked.fingerprint_header.as_deref())))
    }

    fn build(&self, name: &str, required: bool) -> Result<Arc<CertificateRule>, Diagnostic> {
        let fault = |(line, message): (u32, String)| {
            Diagnostic::error(name, line, message)
                .with_help("name the PEM file of the authorities that signed the clients' certificates")
        };
        let text = read_text(self.files, name).map_err(fault)?;
        CertificateRule::new(text.as_bytes(), required).map(Arc::new).map_err(fault)
    }
}

impl fmt::Debug for CertificateRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateRule").field("required", &self.required).finish_non_exhaustive()
    }
}

/// Fields of RFC 9440, which nobody but the node writes for an app that asks for certificates.
const STANDARD: &[&str] = &["client-cert", "client-cert-chain"];
const CONTEXT: &[u8] = b"phalanx rule for clients' certificates 1\0";
