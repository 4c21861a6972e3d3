//! Answers to challenges of certificate authorities, by which they see that a host is ours: over HTTP (RFC 8555 section 8.3) and in
//! a TLS handshake (RFC 8737).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The challenges that are answered at the moment.
#[derive(Clone, Default)]
pub struct Challenges {
    /// By token, the key authorization.
    pub http: Vec<(String, String)>,
    /// By host name in lower case, the certificate that proves it.
    pub tls: Vec<(String, Arc<CertifiedKey>)>,
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges")
            .field("http", &self.http.len())
            .field("tls", &self.tls.len())
            .finish_non_exhaustive()
    }
}

/// The same, as they are looked up.
#[derive(Default)]
pub(super) struct Answers {
    http: HashMap<Box<[u8]>, Arc<[u8]>>,
    tls: Option<Arc<ServerConfig>>,
}

impl Answers {
    pub(super) fn new(
        challenges: &Challenges,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, rustls::Error> {
        let http =
            challenges.http.iter().map(|(token, answer)| (token.as_bytes().into(), answer.as_bytes().into()));
        let tls = match challenges.tls.is_empty() {
            true => None,
            false => Some(config(challenges, provider)?),
        };
        Ok(Self { http: http.collect(), tls })
    }

    pub(super) fn http(&self, token: &[u8]) -> Option<Arc<[u8]>> {
        self.http.get(token).map(Arc::clone)
    }

    /// How a client is answered that offers [`ACME_TLS`]; none while there is nothing to prove.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.as_ref().map(Arc::clone)
    }
}

/// This protocol and no other: no request ever follows.
fn config(
    challenges: &Challenges,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let proofs = Proofs(challenges.tls.iter().cloned().collect());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(proofs));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Proofs(HashMap<String, Arc<CertifiedKey>>);

impl ResolvesServerCert for Proofs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.get(&hello.server_name()?.to_ascii_lowercase()).map(Arc::clone)
    }
}

/// The protocol by which a certificate authority asks (RFC 8737 section 6.2).
pub(super) const ACME_TLS: &[u8] = b"acme-tls/1";
