//! Certificates of a fleet's own authority: made here, and checked here on every receipt.
//!
//! Three levels, all Ed25519: root, one intermediate per site, per delegate of a site and for servers, leaves. Chains are checked by
//! webpki; that an intermediate signs only for its own site is in the SPIFFE ids, because name constraints on URIs have no
//! syntax for paths. DNS and address constraints keep a site's intermediate from posing as a server elsewhere.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyUsagePurpose, NameConstraints, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::spiffe::{Named, SpiffeId};
use crate::{Refusal, SigningKey, TrustError, VerifyingKey, random_bytes};

/// A certificate in DER.
pub type Der = Vec<u8>;

/// How long and for what a certificate is made.
#[derive(Debug, Clone)]
pub struct CertificateOrder<'a> {
    /// Whom it is for.
    pub id: &'a SpiffeId,
    /// The key it vouches for.
    pub key: VerifyingKey,
    /// Now, in Unix milliseconds; validity begins [`CLOCK_ALLOWANCE_MS`] earlier.
    pub now_ms: u64,
    /// How long it is valid from now, in milliseconds.
    pub for_ms: u64,
    /// Addresses and host names of a server.
    pub hosts: &'a [String],
}

/// Who signs certificates: a certificate and its key.
#[derive(Debug)]
pub struct Signer<'a> {
    /// Its certificate.
    pub certificate: &'a [u8],
    /// Its key.
    pub key: &'a SigningKey,
}

/// Makes a certificate. Without a signer it signs itself: a root.
pub fn make(
    order: &CertificateOrder<'_>,
    own_key: &SigningKey,
    signer: Option<&Signer<'_>>,
) -> Result<Der, TrustError> {
    let params = params(order)?;
    let made = match signer {
        None => params.self_signed(&RcgenKey(own_key)),
        Some(signer) => {
            let certificate = CertificateDer::from(signer.certificate);
            let issuer = Issuer::from_ca_cert_der(&certificate, RcgenKey(signer.key)).map_err(failed)?;
            params.signed_by(&RcgenPublic(order.key), &issuer)
        }
    };
    Ok(made.map_err(failed)?.der().to_vec())
}

/// A request for a certificate, signed with the key it is for: proof that whoever asks holds it.
pub fn request(key: &SigningKey) -> Result<Der, TrustError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&RcgenKey(key)).map_err(failed)?;
    Ok(request.der().to_vec())
}

/// The key of a certificate request, if the request is signed with it. What else it asks for does not count.
pub fn requested_key(request: &[u8]) -> Option<VerifyingKey> {
    if request.len() > CERTIFICATE_BYTES_MAX {
        return None;
    }
    let parsed = rcgen::CertificateSigningRequestParams::from_der(&request.into()).ok()?;
    if parsed.public_key.algorithm() != &rcgen::PKCS_ED25519 {
        return None;
    }
    VerifyingKey::from_bytes(parsed.public_key.der_bytes())
}

/// What is believed: the roots of one fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    fleet: Arc<str>,
    roots: Vec<Der>,
}

/// What a checked chain says of its leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// Whom it is for.
    pub id: SpiffeId,
    /// Its key.
    pub key: VerifyingKey,
    /// When it was made, in Unix milliseconds.
    pub issued_at_ms: u64,
    /// When it ends, in Unix milliseconds.
    pub expires_at_ms: u64,
    /// The delegate that signed it; none if the authority itself did.
    pub by: Option<CertifiedBy>,
}

/// A node that signed a certificate as the authority's delegate at its site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedBy {
    /// Its name.
    pub node: Arc<str>,
    /// When the authority last delegated to it, in Unix milliseconds. What a delegate itself says of time proves nothing.
    pub delegated_at_ms: u64,
}

impl TrustBundle {
    /// The bundle of these roots; `None` if one of them is no certificate of this fleet, or there are none or too many.
    pub fn new(fleet: &str, roots: &[Der]) -> Option<Self> {
        let is_root = |der: &Der| {
            let id = describe(der).map(|certified| certified.id);
            id.is_some_and(|id| *id.fleet == *fleet && id.what == Named::Fleet)
        };
        let usable = (1..=ROOTS_MAX).contains(&roots.len()) && roots.iter().all(is_root);
        usable.then(|| Self { fleet: fleet.into(), roots: roots.to_vec() })
    }

    /// The fleet.
    pub fn fleet(&self) -> &Arc<str> {
        &self.fleet
    }

    /// The roots.
    pub fn roots(&self) -> &[Der] {
        &self.roots
    }

    /// Checks a chain, leaf first, at `now_ms`.
    pub fn verify(&self, chain: &[Der], now_ms: u64) -> Result<Certified, Refusal> {
        let ders: Vec<CertificateDer<'_>> =
            chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        self.verify_ders(&ders, now_ms)
    }

    pub(crate) fn verify_ders(
        &self,
        chain: &[CertificateDer<'_>],
        now_ms: u64,
    ) -> Result<Certified, Refusal> {
        let Some((leaf, others)) = chain.split_first().filter(|_| chain.len() <= CHAIN_MAX) else {
            return Err(Refusal::Certificate("no chain of certificates".into()));
        };
        if chain.iter().any(|der| der.len() > CERTIFICATE_BYTES_MAX) {
            return Err(Refusal::Certificate("too large".into()));
        }
        let mut certified = describe(leaf).ok_or_else(|| Refusal::Certificate("unreadable".into()))?;
        let refused = |error: webpki::Error| match error {
            webpki::Error::CertExpired { .. } => Refusal::CertificateExpired(certified.id.to_string()),
            error => Refusal::Certificate(error.to_string()),
        };
        let anchors: Vec<CertificateDer<'_>> =
            self.roots.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let anchors: Result<Vec<_>, _> = anchors.iter().map(anchor_from_trusted_cert).collect();
        let anchors = anchors.map_err(refused)?;
        let end = EndEntityCert::try_from(leaf).map_err(refused)?;
        let at = UnixTime::since_unix_epoch(Duration::from_millis(now_ms));
        let usage = match certified.id.what {
            Named::Service(_) => KeyUsage::server_auth(),
            _ => KeyUsage::client_auth(),
        };
        let algorithms = &[webpki::aws_lc_rs::ED25519];
        let path =
            end.verify_for_usage(algorithms, &anchors, others, at, usage, None, None).map_err(refused)?;
        let issuers = path.intermediate_certificates().map(|issuer| describe(&issuer.der()));
        let mut below = certified.id.clone();
        for issuer in issuers {
            let issuer = issuer.ok_or_else(|| Refusal::Certificate("unreadable issuer".into()))?;
            if !below.may_be_issued_by(&issuer.id) {
                return Err(Refusal::Certificate(format!("{} may not sign for {below}", issuer.id)));
            }
            if let Named::Delegate { node, .. } = &issuer.id.what {
                certified.expires_at_ms = certified.expires_at_ms.min(issuer.expires_at_ms);
                let by = CertifiedBy { node: Arc::clone(node), delegated_at_ms: issuer.issued_at_ms };
                certified.by = Some(by);
            }
            below = issuer.id;
        }
        // What stands below the root must be an intermediate, and of this fleet.
        let root = SpiffeId { fleet: Arc::clone(&self.fleet), what: Named::Fleet };
        if !below.may_be_issued_by(&root) {
            return Err(Refusal::Certificate(format!("{root} does not sign for {below}")));
        }
        Ok(certified)
    }
}

/// What a certificate says of itself; nothing about it has been checked.
pub fn describe(der: &[u8]) -> Option<Certified> {
    let (rest, certificate) =
        X509Certificate::from_der(der).ok().filter(|_| der.len() <= CERTIFICATE_BYTES_MAX)?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    // More than one name would leave it to the reader which one counts.
    let (Some(uri), None) = (uris.next(), uris.next()) else { return None };
    let validity = certificate.validity();
    let ms = |seconds: i64| u64::try_from(seconds).unwrap_or_default().saturating_mul(1000);
    rest.is_empty().then_some(())?;
    Some(Certified {
        id: SpiffeId::parse(uri)?,
        key: VerifyingKey::from_bytes(&certificate.public_key().subject_public_key.data)?,
        issued_at_ms: ms(validity.not_before.timestamp()).saturating_add(CLOCK_ALLOWANCE_MS),
        expires_at_ms: ms(validity.not_after.timestamp()),
        by: None,
    })
}

/// A certificate's SHA-256, as people compare it.
pub fn fingerprint(der: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&crate::sha256(der))
}

/// The host name under which a server of a fleet answers, whatever its address.
pub fn service_host(service: &str, fleet: &str) -> String {
    format!("{service}.{fleet}.{DOMAIN}")
}

/// Whether a host name is one that only this fleet's own services have.
pub(crate) fn is_reserved_host(host: &str) -> bool {
    host.trim_end_matches('.').to_ascii_lowercase().ends_with(DOMAIN)
}

fn params(order: &CertificateOrder<'_>) -> Result<CertificateParams, TrustError> {
    let mut params = CertificateParams::default();
    let mut serial: [u8; 16] = random_bytes();
    if let Some(first) = serial.first_mut() {
        // A serial number is positive (RFC 5280 section 4.1.2.2).
        *first = (*first & 0x7f) | 0x01;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = at(order.now_ms.saturating_sub(CLOCK_ALLOWANCE_MS))?;
    params.not_after = at(order.now_ms.saturating_add(order.for_ms))?;
    params.use_authority_key_identifier_extension = true;
    // Roots and intermediates of one name and different keys would be mistaken for each other.
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, format!("{} {}", short(order.id), order.key.id()));
    params.distinguished_name = name;
    let text = |text: String| text.try_into().map_err(failed);
    params.subject_alt_names = vec![SanType::URI(text(order.id.to_string())?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    match &order.id.what {
        Named::Fleet => authority(&mut params, 2),
        Named::Services => authority(&mut params, 0),
        Named::Site(site) | Named::Delegate { site, .. } => {
            authority(&mut params, 0);
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![GeneralSubtree::DnsName(format!(
                    "{site}.{}.{DOMAIN}",
                    order.id.fleet
                ))],
                excluded_subtrees: vec![
                    GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
                    GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
                ],
            });
        }
        Named::Node { .. } | Named::Operator { .. } => {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
        Named::Service(service) => {
            // A server of NATS is a client of the servers of its own cluster and of other sites.
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            params.subject_alt_names.push(SanType::DnsName(text(service_host(service, &order.id.fleet))?));
            for host in order.hosts {
                params.subject_alt_names.push(match host.parse() {
                    Ok(address) => SanType::IpAddress(address),
                    Err(_) => SanType::DnsName(text(host.clone())?),
                });
            }
        }
    }
    Ok(params)
}

fn authority(params: &mut CertificateParams, below: u8) {
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
}

fn short(id: &SpiffeId) -> String {
    let name = match &id.what {
        Named::Fleet => "fleet root",
        Named::Site(site)
        | Named::Delegate { site, .. }
        | Named::Node { site, .. }
        | Named::Operator { site, .. } => site,
        Named::Services => "services",
        Named::Service(name) => name,
    };
    // RFC 5280 limits a common name to 64 characters; the name that counts is in the URI.
    name.chars().take(32).collect()
}

fn at(ms: u64) -> Result<OffsetDateTime, TrustError> {
    let seconds = i64::try_from(ms / 1000).map_err(|_| TrustError::Crypto("reading a time"))?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| TrustError::Crypto("reading a time"))
}

fn failed<E>(_: E) -> TrustError {
    TrustError::Crypto("making a certificate")
}

struct RcgenKey<'a>(&'a SigningKey);

impl PublicKeyData for RcgenKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for RcgenKey<'_> {
    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(bytes).to_vec())
    }
}

struct RcgenPublic(VerifyingKey);

impl PublicKeyData for RcgenPublic {
    fn der_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

/// How far a reader's clock may be behind the authority's.
pub const CLOCK_ALLOWANCE_MS: u64 = 5 * 60_000;
/// Ours have below 700 bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 4096;
/// Leaf, intermediate, and during a change of root the new root as the old one signed it, and what a server shows of both roots.
const CHAIN_MAX: usize = 5;
/// Two during a change of root.
const ROOTS_MAX: usize = 4;
/// Reserved for private use (the top-level domain `internal`, ICANN 2024).
const DOMAIN: &str = "phalanx.internal";
