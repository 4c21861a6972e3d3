//! Certificates that an app asks of its clients.

use std::path::PathBuf;

use serde::Serialize;

/// Whether clients of an app have to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateMode {
    /// Nobody is served without one.
    #[default]
    Require,
    /// Who has none is served; who shows one that is not believed is not.
    Request,
}

/// Whose certificates an app asks of its clients, and how it is told of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClientCertificate {
    /// The authorities that may vouch for them, in PEM form.
    pub ca_file: PathBuf,
    /// Whether there must be one.
    pub mode: CertificateMode,
    /// The field, in lower case, in which the app gets the certificate (RFC 9440 section 2.2).
    pub header: String,
    /// The field, in lower case, in which it gets the certificate's SHA-256 in hexadecimal digits.
    pub fingerprint_header: Option<String>,
}

/// The field that RFC 9440 names.
pub const CLIENT_CERT: &str = "client-cert";
