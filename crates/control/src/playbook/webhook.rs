//! Tells others: a POST with a signature, a key that is the same for each attempt, and no way into networks of one's own.
//!
//! The body is JSON. `X-Phalanx-Signature: v1=HEX` is HMAC-SHA256, under the webhook's secret, of `X-Phalanx-Timestamp`, a point and the body.
//! `Idempotency-Key` names the wish: who has done what it asks for answers as it did then. Redirects are not followed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::public_address::is_public;
use crate::import::connector;

/// One receiver.
#[derive(Clone)]
pub struct Webhook {
    url: Uri,
    host: String,
    port: u16,
    secret: Arc<hmac::Key>,
    tls: Option<TlsConnector>,
    allows_private: bool,
}

/// Why a receiver could not be told. Never holds the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// The address cannot be used: the operator's fault.
    #[error("{0}")]
    Address(String),
    /// The name leads into a network that is not public.
    #[error("`{0}` leads to {1}, which is not public; allow it with `allow_private = true` if it is meant")]
    Private(String, std::net::IpAddr),
    /// It cannot be reached, or broke off: worth another attempt.
    #[error("{0}")]
    Unreachable(String),
    /// It answered that it does not want this: the same again will be answered alike.
    #[error("it answers with {0}")]
    Refused(StatusCode),
}

impl Webhook {
    /// `allows_private`: whether it may be in a network that is not public, and spoken to without TLS.
    ///
    /// # Errors
    /// When the address is none that can be told, or the secret is too short to mean anything.
    pub fn new(url: &str, secret: &[u8], allows_private: bool) -> Result<Self, WebhookError> {
        let fault = |what: String| WebhookError::Address(what);
        let url: Uri = url.parse().map_err(|_| fault(format!("`{url}` is no address")))?;
        let host = url.host().ok_or_else(|| fault(format!("`{url}` names no host")))?.to_owned();
        if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(fault("the address holds a password; give `secret_file` instead".into()));
        }
        let tls = match url.scheme_str() {
            Some("https") => Some(connector(None).map_err(fault)?),
            Some("http") if allows_private => None,
            Some("http") => return Err(fault(format!("`{url}` would be told in the clear; write https://"))),
            _ => return Err(fault(format!("`{url}` is no https:// address"))),
        };
        if secret.len() < SECRET_BYTES_MIN {
            return Err(fault(format!("the secret has fewer than {SECRET_BYTES_MIN} bytes")));
        }
        let port = url.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let secret = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret));
        Ok(Self { url, host, port, secret, tls, allows_private })
    }

    /// Tells it, up to four times in half a minute. `now_ms` is asked for each attempt: receivers refuse old signatures.
    ///
    /// # Errors
    /// When it was not told, or does not want it.
    pub async fn tell(&self, key: &str, body: &[u8], now_ms: impl Fn() -> u64) -> Result<(), WebhookError> {
        let mut pauses = PAUSES.iter();
        loop {
            let told = tokio::time::timeout(ATTEMPT_MAX, self.attempt(key, body, now_ms() / 1_000)).await;
            let told = told.unwrap_or_else(|_| {
                Err(WebhookError::Unreachable(format!("no answer within {} s", ATTEMPT_MAX.as_secs())))
            });
            match (told, pauses.next()) {
                (Err(WebhookError::Unreachable(_)), Some(pause)) => tokio::time::sleep(*pause).await,
                (told, _) => return told,
            }
        }
    }

    async fn attempt(&self, key: &str, body: &[u8], now_s: u64) -> Result<(), WebhookError> {
        let request = self.request(key, body, now_s)?;
        let broken = |error: std::io::Error| WebhookError::Unreachable(error.to_string());
        let stream = TcpStream::connect(self.address().await?).await.map_err(broken)?;
        let status = match &self.tls {
            None => exchange(stream, request).await?,
            Some(tls) => {
                let name = self.host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(name)
                    .map_err(|_| WebhookError::Address(format!("`{}` is no name of a server", self.host)))?;
                exchange(tls.connect(name, stream).await.map_err(broken)?, request).await?
            }
        };
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                Err(WebhookError::Unreachable(format!("it answers with {status}")))
            }
            status if status.is_server_error() => {
                Err(WebhookError::Unreachable(format!("it answers with {status}")))
            }
            status => Err(WebhookError::Refused(status)),
        }
    }

    /// The address that is connected to is the one that was looked at: a name that changes between the two leads nowhere else.
    async fn address(&self) -> Result<SocketAddr, WebhookError> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let found = tokio::net::lookup_host((host, self.port)).await;
        let found: Vec<SocketAddr> = found
            .map_err(|error| WebhookError::Unreachable(error.to_string()))?
            .take(ADDRESSES_MAX)
            .collect();
        if let Some(own) = found.iter().find(|address| !self.allows_private && !is_public(address.ip())) {
            return Err(WebhookError::Private(self.host.clone(), own.ip()));
        }
        let none = || WebhookError::Unreachable(format!("`{host}` has no address"));
        found.first().copied().ok_or_else(none)
    }

    fn request(&self, key: &str, body: &[u8], now_s: u64) -> Result<Request<Full<Bytes>>, WebhookError> {
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        let mut signature = HeaderValue::from_str(&self.signature(now_s, body))
            .map_err(|error| WebhookError::Address(error.to_string()))?;
        signature.set_sensitive(true);
        Request::post(path)
            .header(header::HOST, authority)
            .header(header::USER_AGENT, concat!("phalanx/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", format!("\"{key}\""))
            .header("X-Phalanx-Timestamp", now_s)
            .header("X-Phalanx-Signature", signature)
            .body(Full::new(Bytes::copy_from_slice(body)))
            .map_err(|error| WebhookError::Address(error.to_string()))
    }

    fn signature(&self, now_s: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(format!("{now_s}.").as_bytes());
        context.update(body);
        let tag = context.sign();
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("v1={hex}")
    }
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Paths of webhooks are secrets themselves, often.
        f.debug_struct("Webhook").field("host", &self.host).finish_non_exhaustive()
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<StatusCode, WebhookError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| WebhookError::Unreachable(error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let driven = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(broken);
    let status = answer.as_ref().map(http::Response::status).map_err(Clone::clone);
    if let Ok(answer) = answer {
        // What it says is of no use; that it has said it ends the connection in order.
        let _ = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    }
    driven.abort();
    status
}

const SECRET_BYTES_MIN: usize = 16;
const ATTEMPT_MAX: Duration = Duration::from_secs(10);
/// Between attempts.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(16)];
const ADDRESSES_MAX: usize = 16;
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_over_time_and_body() {
        let hook = Webhook::new("http://127.0.0.1/x", b"0123456789abcdef", true).unwrap();
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let expected = "v1=e4f8e2ecae2295b2ddb2f0b5584c8275e226c0ebe9b3b819e70156bb67122e3e";
        assert_eq!(hook.signature(1_700_000_000, b"{}"), expected);
        assert!(!format!("{hook:?}").contains("0123456789"), "{hook:?}");
    }

    #[test]
    fn addresses_that_tell_secrets_or_cannot_be_told_are_refused() {
        for (url, private, part) in [
            ("http://hooks.example/x", false, "in the clear"),
            ("https://ann:pw@hooks.example/", false, "holds a password"),
            ("ftp://hooks.example/", true, "no https:// address"),
            ("/x", true, "names no host"),
        ] {
            let fault = Webhook::new(url, b"0123456789abcdef", private).unwrap_err().to_string();
            assert!(fault.contains(part) && !fault.contains("pw"), "{url}: {fault}");
        }
        let fault = Webhook::new("https://hooks.example/", b"short", false).unwrap_err();
        assert!(fault.to_string().contains("fewer than 16"), "{fault}");
    }

    #[tokio::test]
    async fn names_and_addresses_of_ones_own_network_are_not_told() {
        for host in ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "[::ffff:10.0.0.1]"] {
            let hook = Webhook::new(&format!("https://{host}/"), b"0123456789abcdef", false).unwrap();
            let told = hook.tell("k", b"{}", || 0).await;
            assert!(matches!(told, Err(WebhookError::Private(..))), "{host}: {told:?}");
        }
    }
}
