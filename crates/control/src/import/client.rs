//! Asks a CrowdSec local API for its decisions, over HTTP or HTTPS, as a bouncer does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::read::ReadStream;

/// One local API.
pub(super) struct Client {
    /// `HOST:PORT`.
    pub(super) authority: String,
    host: String,
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
        let host = url.host().ok_or_else(|| format!("`{url}` names no host"))?.to_owned();
        let port = url.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let mut key = HeaderValue::from_str(key.trim())
            .map_err(|_| "the API key holds characters that no key has".to_owned())?;
        key.set_sensitive(true);
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let folder = url.path().trim_end_matches('/').to_owned();
        Ok(Self { authority: format!("{host}:{port}"), address: (name, port), host, folder, key, tls })
    }

    /// All decisions in force, or what changed since the last call.
    pub(super) async fn pull(&self, everything: bool, origins: &[String]) -> Result<ReadStream, String> {
        let asked = tokio::time::timeout(ANSWER_MAX, self.exchange(everything, origins)).await;
        asked.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_MAX.as_secs())))
    }

    async fn exchange(&self, everything: bool, origins: &[String]) -> Result<ReadStream, String> {
        let mut path = format!("{}/v1/decisions/stream?startup={everything}&scopes=ip,range", self.folder);
        if !origins.is_empty() {
            path.push_str(&format!("&origins={}", origins.join(",")));
        }
        let request = Request::get(path)
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, concat!("phalanx-import/v", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json")
            .header("X-Api-Key", self.key.clone())
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let (name, port) = (self.address.0.as_str(), self.address.1);
        let stream = TcpStream::connect((name, port)).await.map_err(|error| error.to_string())?;
        match &self.tls {
            None => ask(stream, request).await,
            Some(tls) => {
                let name = ServerName::try_from(self.address.0.clone())
                    .map_err(|_| format!("`{}` is no name that a certificate may have", self.host))?;
                let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
                ask(stream, request).await
            }
        }
    }
}

async fn ask<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<ReadStream, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| format!("the connection broke off: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Ends with the connection, which ends with the sender.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => return Err("the API key is refused".into()),
        status => return Err(format!("it answers with {status}")),
    }
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| format!("the answer cannot be understood: {error}"))
}

/// TLS as a client that believes these authorities, or the system's.
pub(crate) fn connector(ca: Option<&Path>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let unusable = |error: String| format!("{}: {error}", path.display());
            let read = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
            for certificate in read {
                let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
                roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(unusable("holds no certificate in PEM form".into()));
            }
        }
        // A certificate of the system's that cannot be read vouches for nobody, and is no reason to fail.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Longest time for a whole answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Largest answer: some 150,000 decisions, three times what is taken over at most.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
