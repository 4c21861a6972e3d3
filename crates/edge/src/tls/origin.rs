//! TLS towards upstreams: whom to believe, what to show, and which protocol to ask for.
//!
//! What policy says is compiled into one [`OriginPlan`] for each distinct setting; connections are kept apart by it. The node's own
//! certificates are no policy: they come from the node's settings, by name, as [`Identities`].
//!
//! Failure direction: closed. An upstream that cannot be verified gets no request.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use phalanx_model::Swap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::material::{ANY, HTTP2};
use super::session::Session;
use crate::http1::semantics::without_port;

/// The node's certificates for upstreams, by the names that policy calls them; swapped by who reads their files.
#[derive(Clone)]
pub struct Identities(Arc<Swap<HashMap<String, Arc<CertifiedKey>>>>);

impl Default for Identities {
    fn default() -> Self {
        Self(Arc::new(Swap::new(HashMap::new())))
    }
}

impl Identities {
    /// Takes these from now on. Connections keep what they began with.
    pub fn store(&self, identities: HashMap<String, Arc<CertifiedKey>>) {
        self.0.store(Arc::new(identities));
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.load().contains_key(name)
    }

    fn get(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.0.load().get(name).map(Arc::clone)
    }
}

/// How TLS with an upstream goes.
pub struct OriginPlan {
    /// Tells connections under different plans apart.
    pub(crate) id: u64,
    /// The name of the node's certificate that it gets to see.
    pub client_certificate: Option<String>,
    server_name: Option<ServerName<'static>>,
    config: Arc<ClientConfig>,
}

/// Whom an upstream's certificate is believed by.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Authorities.
    Roots(Arc<RootCertStore>),
    /// Nobody has to vouch for a key that is known.
    PinsAlone,
    /// Anybody; for tests of an application, or where the network is all there is.
    Unverified,
}

impl OriginPlan {
    /// A plan by what policy says, with the trust that it leads to.
    pub fn new(tls: &phalanx_policy::OriginTls, trust: Trust) -> Result<Self, Error> {
        let provider = Arc::new(CryptoProvider { kx_groups: ANY.to_vec(), ..provider::default_provider() });
        let chain = match trust {
            Trust::Roots(roots) => {
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
                Some(verifier.build().map_err(|error| Error::General(error.to_string()))?)
            }
            Trust::PinsAlone | Trust::Unverified => None,
        };
        let verifier = Verifier { chain, pins: tls.pins.clone(), provider: Arc::clone(&provider) };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let server_name = tls.server_name.clone().map(ServerName::try_from);
        Ok(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            client_certificate: tls.client_certificate.clone(),
            server_name: server_name.transpose().map_err(|error| Error::General(error.to_string()))?,
            config: Arc::new(config),
        })
    }

    /// The beginning of a handshake with an upstream whose authority is `host`; `http2`, `http1`: what may be agreed on.
    pub(crate) fn session(
        &self,
        host: &str,
        identities: &Identities,
        (http2, http1): (bool, bool),
    ) -> Result<Session, String> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => {
                let bare = std::str::from_utf8(without_port(host.as_bytes())).unwrap_or_default();
                let bare = bare.trim_start_matches('[').trim_end_matches(']').to_owned();
                ServerName::try_from(bare)
                    .map_err(|_| format!("`{host}` is no name that a certificate may have"))?
            }
        };
        let config = match &self.client_certificate {
            None => Arc::clone(&self.config),
            Some(wanted) => {
                let key = identities.get(wanted);
                let key = key.ok_or_else(|| format!("this node has no certificate `{wanted}`"))?;
                let mut config = ClientConfig::clone(&self.config);
                config.client_auth_cert_resolver = Arc::new(Shown(key));
                Arc::new(config)
            }
        };
        let protocols = [(http2, HTTP2), (http1, b"http/1.1".as_slice())];
        let protocols =
            protocols.iter().filter(|(wanted, _)| *wanted).map(|(_, name)| name.to_vec()).collect();
        Session::to_upstream(config, name, protocols).map_err(|error| error.to_string())
    }
}

/// The authorities in a PEM file.
///
/// # Errors
/// The line, from 1 or 0 for the whole file, and what is wrong there.
pub fn read_authorities(pem: &[u8]) -> Result<RootCertStore, (u32, String)> {
    let mut roots = RootCertStore::empty();
    for (place, authority) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let line = || {
            let begins = memchr::memmem::find_iter(pem, b"-----BEGIN ");
            let at = begins.into_iter().nth(place).unwrap_or_default();
            let before = pem.get(..at).unwrap_or_default();
            u32::try_from(before.iter().filter(|&&byte| byte == b'\n').count())
                .unwrap_or(u32::MAX)
                .saturating_add(1)
        };
        let authority = authority.map_err(|error| (line(), format!("it is damaged: {error}")))?;
        roots.add(authority).map_err(|error| (line(), format!("it is no authority: {error}")))?;
    }
    if roots.is_empty() { Err((0, "there is no certificate in it".to_owned())) } else { Ok(roots) }
}

/// What the system trusts. A certificate of its that cannot be read vouches for nobody, and is no reason to fail.
pub fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Believes a chain, a key, or both.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// SHA-256 of the keys that are believed; any if empty.
    pins: Vec<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        }
        if !self.pins.is_empty() {
            let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
            let hash = digest(&SHA256, &key);
            let is_pinned = |pin: &[u8; 32]| verify_slices_are_equal(pin, hash.as_ref()).is_ok();
            if !self.pins.iter().any(is_pinned) {
                return Err(CertificateError::ApplicationVerificationFailure.into());
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The one certificate that an upstream gets to see.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.key.choose_scheme(schemes).is_some().then(|| Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.load().keys()).finish()
    }
}

impl fmt::Debug for OriginPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginPlan").field("id", &self.id).finish_non_exhaustive()
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);
