//! Certificates and keys that the edge answers with: an immutable snapshot, swapped whole. A connection keeps what it began
//! with; the next one gets what is in force then.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::challenges::{ACME_TLS, Answers as ChallengeAnswers, Challenges};
use super::hello::{self, X25519MLKEM768};
use super::tickets::RuledTickets;
use crate::client_certificate::CertificateRule;

/// A certificate and the names that it answers for.
#[derive(Clone)]
pub struct Served {
    /// Host names in lower case; one that begins with `*.` stands for all names with one label in its place.
    pub names: Vec<String>,
    /// The chain with its key.
    pub key: Arc<CertifiedKey>,
}

/// What one TLS listener asks of clients. It outlives swaps, so that sessions are resumed across them.
#[derive(Clone)]
pub struct TlsListener {
    /// Clients without a hybrid post-quantum key exchange are refused.
    pub require_pq: bool,
    clients: Arc<dyn ClientCertVerifier>,
    /// For listeners that ask for the same: a session of another one may have begun without a client's certificate.
    tickets: Arc<dyn ProducesTickets>,
}

impl TlsListener {
    /// A listener that asks for no certificate, with ticket keys of its own that rotate.
    pub fn new() -> Result<Self, rustls::Error> {
        let clients = WebPkiClientVerifier::no_client_auth();
        Ok(Self { require_pq: false, clients, tickets: aws_lc_rs::Ticketer::new()? })
    }

    /// Sessions are resumed with these tickets: with what has their keys and asks clients for the same.
    #[must_use]
    pub fn resuming(mut self, tickets: Arc<dyn ProducesTickets>) -> Self {
        self.tickets = tickets;
        self
    }

    /// Asks clients for certificates that `clients` believes.
    #[must_use]
    pub fn asking(mut self, clients: Arc<dyn ClientCertVerifier>) -> Self {
        self.clients = clients;
        self
    }
}

/// What TLS listeners answer with; by default there are no such listeners.
#[derive(Default)]
pub struct Material {
    listeners: Box<[Answers]>,
    challenges: ChallengeAnswers,
}

impl Material {
    /// Material for these listeners, in the order of the settings. The first certificate answers who names no host, or one
    /// that there is no certificate for.
    pub fn new(served: &[Served], listeners: &[TlsListener]) -> Result<Self, rustls::Error> {
        Self::awaiting(served, &[], listeners)
    }

    /// The same, where certificates for some names are still to come: until then nobody who asks for one of those is shown another.
    pub fn awaiting(
        served: &[Served],
        awaited: &[String],
        listeners: &[TlsListener],
    ) -> Result<Self, rustls::Error> {
        let certificates: Arc<dyn ResolvesServerCert> = Arc::new(Certificates::new(served, awaited));
        let any = Arc::new(provider(ANY));
        let hybrid = Arc::new(provider(HYBRID));
        let answers = listeners.iter().map(|listener| {
            Ok(Answers {
                hybrid: config(&hybrid, VERSIONS_HYBRID, (listener, None), &certificates)?,
                any: config(&any, VERSIONS, (listener, None), &certificates)?,
                listener: listener.clone(),
            })
        });
        let listeners = answers.collect::<Result<_, rustls::Error>>()?;
        Ok(Self { listeners, challenges: ChallengeAnswers::default() })
    }

    /// The same, answering these challenges of certificate authorities.
    pub fn proving(mut self, challenges: &Challenges) -> Result<Self, rustls::Error> {
        self.challenges = ChallengeAnswers::new(challenges, &Arc::new(provider(ANY)))?;
        Ok(self)
    }

    /// The answer to a challenge over HTTP.
    pub(crate) fn http_challenge(&self, token: &[u8]) -> Option<Arc<[u8]>> {
        self.challenges.http(token)
    }

    /// How a listener answers a greeting, by an app's rule where there is one; `None` if it may not be answered.
    pub(crate) fn answer(
        &self,
        listener: usize,
        hello: &hello::ClientHello,
        rule: Option<&CertificateRule>,
    ) -> Option<Arc<ServerConfig>> {
        // Also where clients must show a certificate: a certificate authority has none, and gets nothing but the proof.
        if hello.first_protocol == ACME_TLS
            && let Some(proof) = self.challenges.tls()
        {
            return Some(proof);
        }
        let answers = self.listeners.get(listener)?;
        // Whoever knows the hybrid group gets it, also where it is not the client's first choice: traffic that is
        // recorded today is read when there are machines for it. It costs those a round trip who sent no share for it.
        let hybrid = hello.groups.contains(&X25519MLKEM768) && hello.versions.contains(&TLS13_NUMBER);
        let (own, versions) = match (hybrid, answers.listener.require_pq) {
            (true, _) => (&answers.hybrid, VERSIONS_HYBRID),
            (false, true) => return None,
            (false, false) => (&answers.any, VERSIONS),
        };
        if rule.is_none() {
            return Some(Arc::clone(own));
        }
        // Made for this handshake: it costs little beside one, and there is nothing to keep in step with policies.
        config(own.crypto_provider(), versions, (&answers.listener, rule), &own.cert_resolver).ok()
    }
}

/// One listener's settings of TLS.
struct Answers {
    listener: TlsListener,
    /// For clients that know the hybrid group.
    hybrid: Arc<ServerConfig>,
    any: Arc<ServerConfig>,
}

fn provider(kx_groups: &[&'static dyn SupportedKxGroup]) -> CryptoProvider {
    // Its suites are all of TLS 1.3 and those of 1.2 with ECDHE and an AEAD.
    CryptoProvider { kx_groups: kx_groups.to_vec(), ..aws_lc_rs::default_provider() }
}

fn config(
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    (listener, rule): (&TlsListener, Option<&CertificateRule>),
    certificates: &Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(versions)?;
    // What an app asks is in the place of what its listener asks.
    let clients = rule.map_or_else(|| Arc::clone(&listener.clients), CertificateRule::verifier);
    let mut config = builder.with_client_cert_verifier(clients).with_cert_resolver(Arc::clone(certificates));
    let tickets = Arc::clone(&listener.tickets);
    config.ticketer = Arc::new(RuledTickets { tickets, rule: rule.map(CertificateRule::id) });
    // Tickets hold all there is to a session; a table beside them would be memory for strangers to fill.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

/// Certificates by the name that a client asks for.
#[derive(Debug)]
struct Certificates {
    exact: HashMap<String, Keys>,
    /// Under the name without `*`, dot included.
    wildcard: HashMap<String, Keys>,
    default: Keys,
}

/// Certificates for one name, of different kinds of keys.
type Keys = Vec<Arc<CertifiedKey>>;

impl Certificates {
    fn new(served: &[Served], awaited: &[String]) -> Self {
        let (mut exact, mut wildcard) = (HashMap::<_, Keys>::new(), HashMap::<_, Keys>::new());
        // Another certificate would not fit the name, and hide that there is none.
        exact.extend(awaited.iter().map(|name| (name.clone(), Keys::new())));
        for Served { names, key } in served {
            for name in names {
                let keys = match name.strip_prefix('*') {
                    Some(domain) => wildcard.entry(domain.to_owned()).or_default(),
                    None => exact.entry(name.clone()).or_default(),
                };
                keys.push(Arc::clone(key));
            }
        }
        Self { exact, wildcard, default: served.iter().take(1).map(|one| Arc::clone(&one.key)).collect() }
    }

    /// The certificates for a name in lower case, which rustls has checked to be one.
    fn find(&self, name: &str) -> Option<&Keys> {
        let of_domain = || self.wildcard.get(name.get(name.find('.')?..)?);
        self.exact.get(name).or_else(of_domain)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let keys = name.and_then(|name| self.find(&name)).unwrap_or(&self.default);
        let signs = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        keys.iter().find(signs).or(keys.first()).map(Arc::clone)
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("names", &self.names).finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsListener").field("require_pq", &self.require_pq).finish_non_exhaustive()
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("listeners", &self.listeners.len()).finish_non_exhaustive()
    }
}

pub(super) const ANY: &[&dyn SupportedKxGroup] =
    &[kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
const HYBRID: &[&dyn SupportedKxGroup] = &[kx_group::X25519MLKEM768];
/// Protocols above TLS, the preferred one first (RFC 7301).
const PROTOCOLS: &[&[u8]] = &[HTTP2, b"http/1.1"];
/// HTTP/2 as ALPN calls it.
pub(crate) const HTTP2: &[u8] = b"h2";
const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
/// A hybrid exchange is one of TLS 1.3.
const VERSIONS_HYBRID: &[&SupportedProtocolVersion] = &[&TLS13];
const TLS13_NUMBER: u16 = 0x0304;
