//! Tells programs: a POST in the form that the receiver wants, a key that is the same for each attempt, and no way into networks of one's own.
//!
//! The body is JSON. In our own form it is signed: `X-Phalanx-Signature: v1=HEX` is HMAC-SHA256, under the webhook's secret, of `X-Phalanx-Timestamp`, a point and the body.
//! `Idempotency-Key` names the wish: who has done what it asks for answers as it did then. Redirects are not followed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::Value;
use tokio_rustls::TlsConnector;

use super::NotTold;
use super::form::Form;
use super::public_address::is_public;
use crate::outgoing::{bare_host, connector, exchange, resolve};

/// One receiver.
#[derive(Clone)]
pub struct Webhook {
    url: Uri,
    host: String,
    port: u16,
    form: Form,
    tls: Option<TlsConnector>,
    allows_private: bool,
}

impl Webhook {
    /// One that is told in our own form, signed with this secret. `allows_private` as in [`Self::shaped`].
    ///
    /// # Errors
    /// When the address is none that can be told, or the secret is too short to mean anything.
    pub fn new(url: &str, secret: &[u8], allows_private: bool) -> Result<Self, NotTold> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(NotTold::Address(format!("the secret has fewer than {SECRET_BYTES_MIN} bytes")));
        }
        let key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret));
        Self::shaped(url, Form::Signed(key), allows_private)
    }

    /// One that is told in this form. `allows_private`: whether it may be in a network that is not public, and spoken to without TLS. The address may be a
    /// secret itself, and stands in no error.
    ///
    /// # Errors
    /// When the address is none that can be told.
    pub fn shaped(url: &str, form: Form, allows_private: bool) -> Result<Self, NotTold> {
        let fault = |what: String| NotTold::Address(what);
        let url: Uri = url.parse().map_err(|_| fault("this is no address".into()))?;
        let host = url.host().ok_or_else(|| fault("the address names no host".into()))?.to_owned();
        if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(fault("the address holds a password; give `secret_file` instead".into()));
        }
        let tls = match url.scheme_str() {
            Some("https") => Some(connector(None).map_err(fault)?),
            Some("http") if allows_private => None,
            Some("http") => {
                return Err(fault(format!("`{host}` would be told in the clear; write https://")));
            }
            _ => return Err(fault("this is no https:// address".into())),
        };
        let port = url.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        Ok(Self { url, host, port, form, tls, allows_private })
    }

    /// How it wants to be told.
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// Tells it, up to four times in half a minute. `now_ms` is asked for each attempt: receivers refuse old signatures.
    ///
    /// # Errors
    /// When it was not told, or does not want it.
    pub async fn tell(&self, key: &str, message: &Value, now_ms: impl Fn() -> u64) -> Result<(), NotTold> {
        // One after the other: what was told already is told again under the same key, if a later one fails.
        let mut refused = Ok(());
        for (key, body) in self.form.bodies(key, message) {
            match self.post(&key, &body, &now_ms).await {
                // One that is not wanted does not silence those that follow.
                Err(NotTold::Refused(why)) => refused = Err(NotTold::Refused(why)),
                told => told?,
            }
        }
        refused
    }

    async fn post(&self, key: &str, body: &[u8], now_ms: impl Fn() -> u64) -> Result<(), NotTold> {
        let mut pauses = PAUSES.iter();
        loop {
            let told = tokio::time::timeout(ATTEMPT_MAX, self.attempt(key, body, now_ms() / 1_000)).await;
            let told = told.unwrap_or_else(|_| {
                Err(NotTold::Unreachable(format!("no answer within {} s", ATTEMPT_MAX.as_secs())))
            });
            match (told, pauses.next()) {
                (Err(NotTold::Unreachable(_)), Some(pause)) => tokio::time::sleep(*pause).await,
                (told, _) => return told,
            }
        }
    }

    async fn attempt(&self, key: &str, body: &[u8], now_s: u64) -> Result<(), NotTold> {
        let request = self.request(key, body, now_s)?;
        let tls = self.tls.as_ref().map(|tls| (tls, bare_host(&self.url)));
        let answer = exchange(&self.addresses().await?, tls, request, ANSWER_BYTES_MAX).await;
        // What it says beside its status is of no use.
        let status = answer.map_err(NotTold::Unreachable)?.head.status;
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                Err(NotTold::Unreachable(format!("it answers with {status}")))
            }
            status if status.is_server_error() => {
                Err(NotTold::Unreachable(format!("it answers with {status}")))
            }
            status => Err(NotTold::Refused(status.to_string())),
        }
    }

    /// The addresses that are connected to are those that were looked at: a name that changes between the two leads nowhere else.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, NotTold> {
        let found = resolve(bare_host(&self.url), self.port).await.map_err(NotTold::Unreachable)?;
        match found.iter().find(|address| !self.allows_private && !is_public(address.ip())) {
            Some(own) => Err(NotTold::Private(self.host.clone(), own.ip())),
            None => Ok(found),
        }
    }

    fn request(&self, key: &str, body: &[u8], now_s: u64) -> Result<Request<Full<Bytes>>, NotTold> {
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::post(path)
            .header(header::HOST, authority)
            .header(header::USER_AGENT, concat!("phalanx/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", format!("\"{key}\""));
        if let Form::Signed(secret) = &self.form {
            let mut signature = HeaderValue::from_str(&signature(secret, now_s, body))
                .map_err(|error| NotTold::Address(error.to_string()))?;
            signature.set_sensitive(true);
            request = request.header("X-Phalanx-Timestamp", now_s).header("X-Phalanx-Signature", signature);
        }
        request
            .body(Full::new(Bytes::copy_from_slice(body)))
            .map_err(|error| NotTold::Address(error.to_string()))
    }
}

fn signature(secret: &hmac::Key, now_s: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(secret);
    context.update(format!("{now_s}.").as_bytes());
    context.update(body);
    let tag = context.sign();
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v1={hex}")
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Paths of webhooks are secrets themselves, often.
        f.debug_struct("Webhook").field("host", &self.host).finish_non_exhaustive()
    }
}

const SECRET_BYTES_MIN: usize = 16;
const ATTEMPT_MAX: Duration = Duration::from_secs(10);
/// Between attempts.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(16)];
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_over_time_and_body() {
        let hook = Webhook::new("http://127.0.0.1/x", b"0123456789abcdef", true).unwrap();
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let expected = "v1=e4f8e2ecae2295b2ddb2f0b5584c8275e226c0ebe9b3b819e70156bb67122e3e";
        let Form::Signed(secret) = &hook.form else { panic!("{hook:?}") };
        assert_eq!(signature(secret, 1_700_000_000, b"{}"), expected);
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
            let told = hook.tell("k", &serde_json::json!({}), || 0).await;
            assert!(matches!(told, Err(NotTold::Private(..))), "{host}: {told:?}");
        }
    }
}
