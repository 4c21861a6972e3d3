//! Asks a CrowdSec local API for its decisions, over HTTP or HTTPS, as a bouncer does.

use std::path::Path;
use std::time::Duration;

use axum::body::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use tokio_rustls::TlsConnector;

use super::read::ReadStream;
use crate::outgoing::{Answer, bare_host, connector, exchange, resolve};

/// One local API.
pub(super) struct Client {
    /// `HOST:PORT`.
    pub(super) authority: String,
    address: (String, u16),
    folder: String,
    key: HeaderValue,
    tls: Option<TlsConnector>,
}

impl Client {
    /// `ca`: certificates to trust instead of the system's.
    pub(super) fn new(url: &Uri, key: &str, ca: Option<&Path>) -> Result<Self, String> {
        let tls = match url.scheme_str() {
            Some("https") => Some(connector(ca)?),
            Some("http") => None,
            _ => return Err(format!("`{url}` is no http:// or https:// address")),
        };
        let host = url.host().ok_or_else(|| format!("`{url}` names no host"))?;
        let port = url.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let mut key = HeaderValue::from_str(key.trim())
            .map_err(|_| "the API key holds characters that no key has".to_owned())?;
        key.set_sensitive(true);
        let name = bare_host(url).to_owned();
        let folder = url.path().trim_end_matches('/').to_owned();
        Ok(Self { authority: format!("{host}:{port}"), address: (name, port), folder, key, tls })
    }

    /// All decisions in force, or what changed since the last call.
    pub(super) async fn pull(&self, everything: bool, origins: &[String]) -> Result<ReadStream, String> {
        let asked = tokio::time::timeout(ANSWER_MAX, self.ask(everything, origins)).await;
        asked.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_MAX.as_secs())))
    }

    async fn ask(&self, everything: bool, origins: &[String]) -> Result<ReadStream, String> {
        let mut path = format!("{}/v1/decisions/stream?startup={everything}&scopes=ip,range", self.folder);
        if !origins.is_empty() {
            path.push_str(&format!("&origins={}", origins.join(",")));
        }
        let request = Request::get(path)
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, concat!("phalanx-import/v", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json")
            .header("X-Api-Key", self.key.clone())
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let (name, port) = (self.address.0.as_str(), self.address.1);
        let tls = self.tls.as_ref().map(|tls| (tls, name));
        read(exchange(&resolve(name, port).await?, tls, request, ANSWER_BYTES_MAX).await?)
    }
}

/// The decisions in an answer.
fn read(answer: Answer) -> Result<ReadStream, String> {
    match answer.head.status {
        StatusCode::OK => {}
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => return Err("the API key is refused".into()),
        status => return Err(format!("it answers with {status}")),
    }
    serde_json::from_slice(&answer.body?).map_err(|error| format!("the answer cannot be understood: {error}"))
}

/// Longest time for a whole answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Largest answer: some 150,000 decisions, three times what is taken over at most.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
