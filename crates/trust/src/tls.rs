//! TLS within a fleet: servers are recognised by their name in the fleet, whatever their address; nodes show their certificate.

use std::fmt;
use std::sync::{Arc, Weak};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};

use crate::certificate::{Der, fingerprint};
use crate::join::{DerText, JoinToken, ders};
use crate::spiffe::Named;
use crate::{Membership, SigningKey, TrustBundle, TrustError};

/// A client that proves its membership with its certificate of the moment.
pub fn member_client(membership: &Arc<Membership>, service: &str) -> Result<ClientConfig, TrustError> {
    member_client_of(membership, Named::Service(service.into()))
}

/// The same, for a node that is served by its site's delegate: a server that shows this very node's certificate.
pub fn delegate_client(
    membership: &Arc<Membership>,
    site: &str,
    node: &str,
) -> Result<ClientConfig, TrustError> {
    member_client_of(membership, Named::Node { site: site.into(), node: node.into() })
}

fn member_client_of(membership: &Arc<Membership>, server: Named) -> Result<ClientConfig, TrustError> {
    let verifier = FleetServer { believed: Believed::Membership(Arc::downgrade(membership)), server };
    let builder = client_builder()?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(builder.with_client_cert_resolver(Arc::new(MemberCertificate(Arc::downgrade(membership)))))
}

/// A client that shows a server's certificate: who keeps it, beside it.
pub fn server_client(
    bundle: &TrustBundle,
    chain: &[DerText],
    key: &SigningKey,
    service: &str,
) -> Result<ClientConfig, TrustError> {
    let server = Named::Service(service.into());
    let verifier = FleetServer { believed: Believed::Bundle(bundle.clone()), server };
    let builder = client_builder()?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let chain = ders(chain).into_iter().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8()?.to_vec()));
    builder.with_client_auth_cert(chain, key).map_err(|_| TrustError::Crypto("setting up TLS"))
}

/// A client that knows no more of the fleet than its root's fingerprint, and of a delegate's token who made it.
pub fn joining_client(token: &JoinToken) -> Result<ClientConfig, TrustError> {
    let believed = Believed::Root { fleet: token.fleet.as_str().into(), fingerprint: token.root.clone() };
    let server = match token.by.as_deref().map(|by| by.split_once('/')) {
        None => Named::Service("enrol".into()),
        Some(Some((site, node))) => Named::Node { site: site.into(), node: node.into() },
        Some(None) => return Err(TrustError::Grant("the token names no delegate".into())),
    };
    let verifier = FleetServer { believed, server };
    let builder = client_builder()?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(builder.with_no_client_auth())
}

/// A server with a certificate of the fleet's; whom it serves is decided above TLS.
pub fn server(chain: &[Der], key: &SigningKey) -> Result<ServerConfig, TrustError> {
    let fault = |_| TrustError::Crypto("setting up TLS");
    let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8()?.to_vec()));
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13]);
    builder.map_err(fault)?.with_no_client_auth().with_single_cert(chain, key).map_err(fault)
}

fn client_builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TrustError> {
    let builder =
        ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13]);
    builder.map_err(|_| TrustError::Crypto("setting up TLS"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Believes a server whose chain leads to the fleet's root and whose certificate names what is asked for.
#[derive(Debug)]
struct FleetServer {
    believed: Believed,
    server: Named,
}

#[derive(Debug)]
enum Believed {
    /// The roots of the moment.
    Membership(Weak<Membership>),
    /// These.
    Bundle(TrustBundle),
    /// The root of this fingerprint, which the server itself shows.
    Root { fleet: Arc<str>, fingerprint: String },
}

impl Believed {
    fn bundle(&self, shown: &[CertificateDer<'_>]) -> Option<TrustBundle> {
        match self {
            Self::Membership(membership) => Some(membership.upgrade()?.held().bundle.clone()),
            Self::Bundle(bundle) => Some(bundle.clone()),
            Self::Root { fleet, fingerprint: wanted } => {
                let root = shown.iter().find(|der| fingerprint(der) == *wanted)?;
                TrustBundle::new(fleet, &[root.to_vec()])
            }
        }
    }
}

impl ServerCertVerifier for FleetServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let bundle = self.believed.bundle(intermediates).ok_or(CertificateError::UnknownIssuer)?;
        let mut chain = vec![end_entity.clone()];
        // The root itself is no part of the path.
        chain.extend(
            intermediates
                .iter()
                .filter(|der| !bundle.roots().iter().any(|root| root == &der.to_vec()))
                .cloned(),
        );
        let certified = bundle.verify_ders(&chain, now.as_secs().saturating_mul(1000));
        let certified = certified.map_err(|_| CertificateError::UnknownIssuer)?;
        match certified.id.what == self.server {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Shows the certificate of the moment, so that a renewal needs no new connection settings.
struct MemberCertificate(Weak<Membership>);

impl ResolvesClientCert for MemberCertificate {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let membership = self.0.upgrade().filter(|_| schemes.contains(&SignatureScheme::ED25519))?;
        let chain = ders(&membership.held().grant.chain).into_iter().map(CertificateDer::from).collect();
        Some(Arc::new(CertifiedKey::new(chain, membership.tls_key())))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for MemberCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemberCertificate(..)")
    }
}
