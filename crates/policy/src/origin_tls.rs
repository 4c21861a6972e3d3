//! How an upstream is spoken to beyond its address: over which version of HTTP, with what TLS, and with which word about the
//! client before all else.

use std::path::PathBuf;

use serde::Serialize;

/// The version of HTTP that an upstream is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1: what every application speaks, and what keeps a head as the client wrote it.
    #[default]
    Http1,
    /// HTTP/2, agreed on in the TLS handshake; without TLS the upstream has to know that it is spoken to so.
    Http2,
    /// HTTP/2 where the TLS handshake agrees on it, else HTTP/1.1.
    Auto,
}

/// The version of the PROXY protocol in which an upstream is told whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// TLS towards an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct OriginTls {
    /// The name that is asked for and that the certificate must have; `None` for the upstream's host.
    pub server_name: Option<String>,
    /// The authorities that may vouch for it, in PEM form; `None` for those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 of the public keys (SubjectPublicKeyInfo) that it may have; any if empty. Without a `ca_file` nothing else is asked of
    /// its certificate.
    #[serde(serialize_with = "pins_as_written")]
    pub pins: Vec<[u8; 32]>,
    /// The node's own certificate that is shown to it, by its name in the node's settings.
    pub client_certificate: Option<String>,
    /// Its certificate is not looked at at all.
    pub unverified: bool,
}

fn pins_as_written<S: serde::Serializer>(pins: &[[u8; 32]], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(pins.iter().map(|pin| format!("sha256/{}", data_encoding::BASE64.encode(pin))))
}

/// Reads a pin: SHA-256 in Base64 or in hexadecimal digits, with `sha256/` before it or not.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_pin(text: &str) -> Result<[u8; 32], String> {
    let bare = text.strip_prefix("sha256/").unwrap_or(text);
    // Some write `sha256//`; a Base64 text may begin with a slash, too.
    let bare = if bare.len() == 45 { bare.strip_prefix('/').unwrap_or(bare) } else { bare };
    let bytes = match bare.len() {
        64 => data_encoding::HEXLOWER_PERMISSIVE.decode(bare.as_bytes()).ok(),
        _ => data_encoding::BASE64.decode(bare.as_bytes()).ok(),
    };
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        format!("`{text}` is no SHA-256 of a key: 44 characters of Base64, or 64 hexadecimal digits")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_in_both_forms() {
        let hex = "ff".repeat(32);
        let base64 = data_encoding::BASE64.encode(&[0xff; 32]);
        for text in [
            hex.clone(),
            hex.to_uppercase(),
            base64.clone(),
            format!("sha256/{base64}"),
            format!("sha256//{base64}"),
        ] {
            assert_eq!(parse_pin(&text), Ok([0xff; 32]), "{text}");
        }
        for text in ["", "sha256/", "ff", "sha256/AAAA", "sha256//AAAA"] {
            assert!(parse_pin(text).is_err(), "{text}");
        }
    }
}
