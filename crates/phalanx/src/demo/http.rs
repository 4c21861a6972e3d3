//! A small HTTP/1.1 client: one request, one connection, as the visitors behind a forwarder look to a node.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A request to be.
#[derive(Debug, Clone)]
pub(super) struct Shot {
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) form: Option<String>,
}

impl Shot {
    /// A GET.
    pub(super) fn get(target: impl Into<String>) -> Self {
        Self { method: "GET", target: target.into(), fields: Vec::new(), form: None }
    }

    /// A form as a browser posts it.
    pub(super) fn post(target: &str, fields: &[(&str, &str)]) -> Self {
        let pairs: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        Self { method: "POST", target: target.to_owned(), fields: Vec::new(), form: Some(pairs.join("&")) }
    }

    /// With one more header field.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// In the name of this client, as the forwarder in front would say.
    pub(super) fn from(self, client: IpAddr) -> Self {
        self.with("X-Forwarded-For", client.to_string())
    }

    /// Sends it and reads the whole reply.
    pub(super) async fn send(&self, to: SocketAddr) -> anyhow::Result<Reply> {
        let exchange = timeout(EXCHANGE_WITHIN, self.exchange(to)).await;
        exchange
            .with_context(|| format!("no reply within {} s", EXCHANGE_WITHIN.as_secs()))
            .flatten()
            .with_context(|| format!("{} {} at {to}", self.method, self.target))
    }

    async fn exchange(&self, to: SocketAddr) -> anyhow::Result<Reply> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let reply = sender.send_request(self.request()?).await?;
        let (head, body) = reply.into_parts();
        let body = Limited::new(body, REPLY_BYTES_MAX).collect().await;
        driver.abort();
        let body = body.map_err(|error| anyhow::anyhow!("the reply broke off: {error}"))?.to_bytes();
        Ok(Reply { head, body })
    }

    fn request(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(self.method).uri(&self.target);
        let has = |wanted: &str| self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        if !has("Host") {
            request = request.header("Host", "shop.example");
        }
        if !has("User-Agent") {
            request = request.header("User-Agent", BROWSER);
        }
        request = request.header("Accept", "text/html,*/*;q=0.8").header("Connection", "close");
        if self.form.is_some() {
            request = request.header("Content-Type", "application/x-www-form-urlencoded");
        }
        for (name, value) in &self.fields {
            request = request.header(*name, value);
        }
        Ok(request.body(Full::from(self.form.clone().unwrap_or_default()))?)
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Reply {
    head: hyper::http::response::Parts,
    body: Bytes,
}

impl Reply {
    pub(super) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// The first value of a header field; empty if there is none.
    pub(super) fn field(&self, name: &str) -> &str {
        self.head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The id under which the request can be explained.
    pub(super) fn id(&self) -> &str {
        self.field("X-Request-Id")
    }

    pub(super) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    pub(super) fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).context("the reply is no JSON")
    }
}

/// Percent-encodes everything that is not plainly a word (RFC 3986 section 2.3).
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// What the visitors' browser calls itself.
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

const EXCHANGE_WITHIN: Duration = Duration::from_secs(10);
const REPLY_BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_for_targets_and_forms() {
        assert_eq!(encode("a' OR 1=1 -- "), "a%27%20OR%201%3D1%20--%20");
        assert_eq!(encode("/%é"), "%2F%25%C3%A9");
    }

    #[test]
    fn a_form_is_posted_as_browsers_do() {
        let shot = Shot::post("/login", &[("email", "a@example.com"), ("password", "p&q")]);
        assert_eq!(shot.form.as_deref(), Some("email=a%40example.com&password=p%26q"));
        let request = shot.request().unwrap();
        assert_eq!(request.headers()["content-type"], "application/x-www-form-urlencoded");
    }
}
