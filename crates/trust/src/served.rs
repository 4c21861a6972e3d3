//! Certificates that are shown to visitors: a chain and its key, read from PEM files and checked before anybody sees them.

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use zeroize::Zeroizing;

use crate::TrustError;

/// A certificate that can be shown, and what it says.
#[derive(Debug, Clone)]
pub struct ServedCertificate {
    /// The host names that it is for, in lower case; one may begin with `*.`.
    pub names: Vec<String>,
    /// From when on it counts, in Unix milliseconds.
    pub not_before_ms: u64,
    /// Until when, in Unix milliseconds.
    pub not_after_ms: u64,
    /// The chain with its key, as TLS takes it.
    pub key: Arc<CertifiedKey>,
}

/// What is wrong with a chain or its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}; {fix}")]
pub struct ServedFault {
    /// It is in the key's file, not in the chain's.
    pub in_key: bool,
    /// The line, from 1; 0 for the whole file.
    pub line: u32,
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub fix: &'static str,
}

impl ServedCertificate {
    /// Reads a chain, the host's own certificate first, and the key to it. Whether it counts by now is for the caller to ask.
    ///
    /// # Errors
    /// When they cannot be read, do not belong together, or clients could not follow the chain.
    pub fn read(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, ServedFault> {
        let chain = chain(chain_pem)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| {
            let encrypted = contains(key_pem, b"ENCRYPTED");
            ServedFault::key(
                if encrypted { "the key is encrypted" } else { "there is no private key in it" },
                if encrypted {
                    "decrypt it with `openssl pkey -in FILE -out FILE`, and keep it with mode 0600"
                } else {
                    "name the file that begins with `-----BEGIN PRIVATE KEY-----`"
                },
            )
        })?;
        let key = CertifiedKey::from_der(chain.clone(), key, &aws_lc_rs::default_provider())
            .map_err(|error| short_key(chain_pem, &chain).unwrap_or_else(|| mismatch(&error)))?;
        let (own, issuers) = parsed(chain_pem, &chain)?;
        check_order(chain_pem, &own, &issuers)?;
        let validity = own.validity();
        let ms = |seconds: i64| u64::try_from(seconds).unwrap_or_default().saturating_mul(1_000);
        Ok(Self {
            names: names(&own),
            not_before_ms: ms(validity.not_before.timestamp()),
            not_after_ms: ms(validity.not_after.timestamp()),
            key: Arc::new(key),
        })
    }
}

/// A new key for a host, in PEM, and what asks an authority to certify it (PKCS #10), in DER.
pub fn request(host: &str) -> Result<(Zeroizing<String>, Vec<u8>), TrustError> {
    let fault = |_| TrustError::Crypto("asking for a certificate");
    let key = KeyPair::generate().map_err(fault)?;
    let mut params = CertificateParams::new([host.to_owned()]).map_err(fault)?;
    // Authorities put names where they belong, and go by what they have seen to be ours.
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(fault)?;
    Ok((Zeroizing::new(key.serialize_pem()), request.der().to_vec()))
}

/// A certificate for a host that nobody believes, and its key: better than none where a client does not look.
pub fn placeholder(host: &str) -> Result<Arc<CertifiedKey>, TrustError> {
    self_signed(host, None)
}

/// What shows in a handshake that a host is ours (RFC 8737 section 3); `digest` is of the key authorization.
pub fn tls_proof(host: &str, digest: &[u8; 32]) -> Result<Arc<CertifiedKey>, TrustError> {
    self_signed(host, Some(CustomExtension::new_acme_identifier(digest)))
}

fn self_signed(host: &str, extension: Option<CustomExtension>) -> Result<Arc<CertifiedKey>, TrustError> {
    let fault = |_| TrustError::Crypto("making a certificate");
    let key = KeyPair::generate().map_err(fault)?;
    let mut params = CertificateParams::new([host.to_owned()]).map_err(fault)?;
    params.custom_extensions.extend(extension);
    let certificate = params.self_signed(&key).map_err(fault)?;
    let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key =
        aws_lc_rs::sign::any_supported_type(&der).map_err(|_| TrustError::Crypto("making a certificate"))?;
    // Not compared with the certificate: what compares does not know the extension, which is critical.
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}

/// A TLS server that shows one certificate to everybody, for HTTP/1.1.
pub fn server(certificate: &ServedCertificate) -> Result<ServerConfig, TrustError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| TrustError::Crypto("setting up TLS"))?;
    let shown = SingleCertAndKey::from(Arc::clone(&certificate.key));
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Who believes clients whose certificates lead to the authorities in a PEM file; with `required` nobody else is served.
///
/// # Errors
/// When there is no authority in it, or one that cannot be used.
pub fn client_verifier(
    authorities_pem: &[u8],
    required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, ServedFault> {
    let mut roots = RootCertStore::empty();
    for (place, authority) in CertificateDer::pem_slice_iter(authorities_pem).enumerate() {
        let added = authority.ok().and_then(|authority| roots.add(authority).ok());
        let line = line_of(authorities_pem, place);
        added.ok_or_else(|| {
            ServedFault::chain(line, "it is damaged, or no authority", "copy the file again")
        })?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(aws_lc_rs::default_provider()));
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|_| {
        let fix = "name the file with the authority's certificate";
        ServedFault::chain(0, "there is no certificate in it", fix)
    })
}

impl ServedFault {
    fn chain(line: u32, cause: impl Into<String>, fix: &'static str) -> Self {
        Self { in_key: false, line, cause: cause.into(), fix }
    }

    fn key(cause: impl Into<String>, fix: &'static str) -> Self {
        Self { in_key: true, line: 0, cause: cause.into(), fix }
    }
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ServedFault> {
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let line = line_of(pem, chain.len());
        let damaged = |error| {
            ServedFault::chain(line, format!("it is damaged: {error:?}"), "copy the whole file again")
        };
        chain.push(certificate.map_err(damaged)?);
        if chain.len() > CHAIN_MAX {
            let cause = format!("there are more than {CHAIN_MAX} certificates in it");
            let fix = "name the chain of one certificate, not a bundle of authorities";
            return Err(ServedFault::chain(line, cause, fix));
        }
    }
    if chain.is_empty() {
        let fix = "name the file that begins with `-----BEGIN CERTIFICATE-----`";
        return Err(ServedFault::chain(0, "there is no certificate in it", fix));
    }
    Ok(chain)
}

type Parsed<'a> = (X509Certificate<'a>, Vec<X509Certificate<'a>>);

fn parsed<'a>(pem: &[u8], chain: &'a [CertificateDer<'static>]) -> Result<Parsed<'a>, ServedFault> {
    let mut parsed = Vec::new();
    for (place, der) in chain.iter().enumerate() {
        let damaged =
            |_| ServedFault::chain(line_of(pem, place), "it is no X.509 certificate", "copy the file again");
        parsed.push(X509Certificate::from_der(der).map_err(damaged)?.1);
    }
    let issuers = parsed.split_off(1);
    let own =
        parsed.pop().ok_or_else(|| ServedFault::chain(0, "there is no certificate in it", "name another"))?;
    Ok((own, issuers))
}

/// Each certificate must be signed by the one after it: clients need not look for another order (RFC 5246), and some do not.
fn check_order(
    pem: &[u8],
    own: &X509Certificate<'_>,
    issuers: &[X509Certificate<'_>],
) -> Result<(), ServedFault> {
    let mut before = own;
    for (place, issuer) in issuers.iter().enumerate() {
        if before.issuer().as_raw() != issuer.subject().as_raw() {
            let cause = format!(
                "the chain is in the wrong order: certificate {} was issued by `{}`, and the next is `{}`",
                place + 1,
                before.issuer(),
                issuer.subject()
            );
            let fix = "put the host's own certificate first, then the one that issued it, and so on";
            return Err(ServedFault::chain(line_of(pem, place + 1), cause, fix));
        }
        before = issuer;
    }
    Ok(())
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let dns = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    dns.collect()
}

/// The likeliest reason why an RSA key is not taken, by the certificate that is made with it.
fn short_key(pem: &[u8], chain: &[CertificateDer<'static>]) -> Option<ServedFault> {
    let (own, _) = parsed(pem, chain).ok()?;
    let PublicKey::RSA(key) = own.public_key().parsed().ok()? else { return None };
    let bits = key.key_size();
    (bits < RSA_BITS_LEAST).then(|| {
        let cause = format!("the RSA key has {bits} bits, and clients refuse less than {RSA_BITS_LEAST}");
        ServedFault::key(
            cause,
            "make a new key, ECDSA with P-256 or RSA with 2048 bits, and a certificate to it",
        )
    })
}

fn mismatch(error: &Error) -> ServedFault {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => ServedFault::key(
            "the key does not belong to the first certificate of the chain",
            "name the key that the certificate was made with; the host's own certificate comes first in its file",
        ),
        Error::InvalidCertificate(_) => {
            ServedFault::chain(0, "its first certificate cannot be read", "copy the file again")
        }
        _ => ServedFault::key(
            format!("the key is of a kind that is not supported: {error}"),
            "use ECDSA with P-256 or P-384, Ed25519, or RSA with 2048 bits or more",
        ),
    }
}

/// The line at which a certificate of a PEM file begins.
fn line_of(pem: &[u8], place: usize) -> u32 {
    let begins = |line: &[u8]| line.trim_ascii().starts_with(b"-----BEGIN CERTIFICATE");
    let mut lines = pem.split(|&b| b == b'\n').zip(1..).filter(|(line, _)| begins(line));
    lines.nth(place).map_or(0, |(_, number)| number)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// What public authorities have asked for since 2014.
const RSA_BITS_LEAST: usize = 2048;
/// Certificates in one chain; those of public authorities have two to four.
const CHAIN_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use rcgen::{BasicConstraints, CertifiedIssuer, DnType, IsCa};

    struct Chain {
        own: String,
        key: String,
        issuer: String,
        root: String,
    }

    fn made(names: &[&str]) -> Chain {
        let authority = |name: &str| {
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let root = CertifiedIssuer::self_signed(authority("root"), KeyPair::generate().unwrap()).unwrap();
        let issuer =
            CertifiedIssuer::signed_by(authority("issuer"), KeyPair::generate().unwrap(), &root).unwrap();
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let own = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let of = |der: &[u8]| pem("CERTIFICATE", der);
        let key = pem("PRIVATE KEY", &key.serialize_der());
        Chain { own: of(own.der()), key, issuer: of(issuer.der()), root: of(root.der()) }
    }

    fn pem(label: &str, der: &[u8]) -> String {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    #[track_caller]
    fn fault(chain: &str, key: &str) -> ServedFault {
        ServedCertificate::read(chain.as_bytes(), key.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_chain_in_order_with_its_key_is_read() {
        let Chain { own, key, issuer, root } = made(&["Shop.test", "*.shop.test"]);
        for chain in [own.clone(), format!("{own}{issuer}"), format!("# ours\n{own}{issuer}{root}")] {
            let read = ServedCertificate::read(chain.as_bytes(), key.as_bytes()).unwrap();
            assert_eq!(read.names, ["shop.test", "*.shop.test"]);
            assert!(read.not_before_ms < read.not_after_ms);
        }
    }

    #[test]
    fn a_short_rsa_key_is_told_with_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let (key, chain) = (folder.path().join("key"), folder.path().join("chain"));
        let mut openssl = std::process::Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=shop.test", "-keyout"]);
        let made = openssl.arg(&key).arg("-out").arg(&chain).output();
        if !made.is_ok_and(|made| made.status.success()) {
            println!("skipped: there is no openssl that makes a key of 1024 bits");
            return;
        }
        let read = |file| std::fs::read_to_string(file).unwrap();
        let fault = fault(&read(chain), &read(key));
        assert!(fault.in_key && fault.cause.contains("the RSA key has 1024 bits"), "{fault}");
    }

    #[test]
    fn a_proof_names_the_host_and_carries_the_digest_as_critical() {
        let proof = tls_proof("shop.test", &[7; 32]).unwrap();
        let (_, certificate) = X509Certificate::from_der(&proof.cert[0]).unwrap();
        assert_eq!(names(&certificate), ["shop.test"]);
        let extensions = certificate.extensions();
        // id-pe-acmeIdentifier, an octet string of 32 bytes.
        let identifier =
            extensions.iter().find(|one| one.oid.to_id_string() == "1.3.6.1.5.5.7.1.31").unwrap();
        assert!(identifier.critical && identifier.value == [&[4, 32][..], &[7; 32]].concat());
        assert!(placeholder("shop.test").is_ok());
    }

    #[test]
    fn a_request_has_a_new_key_each_time() {
        let (one, other) = (request("shop.test").unwrap(), request("shop.test").unwrap());
        assert!(one.0 != other.0 && one.0.starts_with("-----BEGIN PRIVATE KEY-----") && !one.1.is_empty());
        assert!(request("no name\u{e4}").is_err());
    }

    #[test]
    fn what_cannot_be_shown_is_refused_with_place_and_fix() {
        let Chain { own, key, issuer, root } = made(&["shop.test"]);
        let lines = |text: &str| u32::try_from(text.lines().count()).unwrap();
        let other = made(&["shop.test"]).key;
        let told = fault(&own, &other);
        assert!(told.in_key && told.cause.contains("does not belong"), "{told}");
        // The key tells whose certificate comes first.
        assert!(fault(&format!("{issuer}{own}"), &key).in_key);
        let told = fault(&format!("{own}{root}{issuer}"), &key);
        assert_eq!((told.in_key, told.line), (false, lines(&own) + 1), "{told}");
        assert!(told.cause.contains("wrong order") && told.cause.contains("CN=issuer"), "{told}");
        assert!(fault(&key, &key).cause.contains("no certificate"));
        assert!(fault(&own, &own).cause.contains("no private key"));
        assert!(
            fault(&own, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
                .cause
                .contains("encrypted")
        );
        assert!(fault(&own.replace('a', "!"), &key).cause.contains("damaged"));
        assert!(fault(&own.repeat(11), &key).cause.contains("more than 10"));
        assert!(fault("", "").cause.contains("no certificate"));
    }
}
