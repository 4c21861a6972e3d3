//! Certificates of clients as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::client_certificate::CertificateMode;
use crate::toml_text::At;

/// Certificates that an app asks of its clients, in the TLS handshake for its hosts.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawClientCertificate {
    /// A file with the authorities that may vouch for clients, in PEM form, relative to the policy file.
    pub ca_file: Option<At<String>>,
    /// "require": nobody is served without one; "request": who has none is served. "require" if not given.
    pub mode: Option<CertificateMode>,
    /// The header field in which upstreams get the client's certificate, in the form of RFC 9440. "client-cert" if not given.
    pub header: Option<At<String>>,
    /// The header field in which they get its SHA-256, in hexadecimal digits. None if not given.
    pub fingerprint_header: Option<At<String>>,
}
