//! HTTP to the authority: one connection for each request, over TLS, with limits on time and size.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Full;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio_rustls::TlsConnector;

use crate::outgoing::{bare_host, connector, exchange, resolve};

/// Asks the authority.
#[derive(Clone)]
pub(super) struct Client {
    tls: TlsConnector,
}

impl Client {
    /// `ca`: authorities to believe instead of the system's.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, String> {
        Ok(Self { tls: connector(ca)? })
    }

    async fn ask(self, mut request: Request<BodyWrapper<Bytes>>) -> io::Result<Response<Full<Bytes>>> {
        let uri = std::mem::take(request.uri_mut());
        let (host, port) = place(&uri)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().map_err(io::Error::other)?;
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let authority = HeaderValue::from_str(authority).map_err(io::Error::other)?;
        request.headers_mut().insert(header::HOST, authority);
        let addresses = resolve(&host, port).await.map_err(io::Error::other)?;
        let asked = exchange(&addresses, Some((&self.tls, &host)), request, ANSWER_BYTES_MAX).await;
        let answer = asked.map_err(io::Error::other)?;
        let body = answer.body.map_err(io::Error::other)?;
        Ok(Response::from_parts(answer.head, Full::new(body)))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (client, host) = (self.clone(), request.uri().host().unwrap_or_default().to_owned());
        Box::pin(async move {
            let asked = tokio::time::timeout(ANSWER_MAX, client.ask(request)).await;
            let late = || io::Error::other(format!("no answer within {} s", ANSWER_MAX.as_secs()));
            let answer = asked.unwrap_or_else(|_| Err(late()));
            let named = |error| Error::Other(format!("{host} cannot be asked: {error}").into());
            answer.map(BytesResponse::from).map_err(named)
        })
    }
}

/// Host and port. A directory may name other hosts, but none without TLS.
fn place(uri: &Uri) -> io::Result<(String, u16)> {
    if uri.scheme_str() != Some("https") {
        return Err(io::Error::other(format!("`{uri}` is no https:// address")));
    }
    if uri.host().is_none() {
        return Err(io::Error::other(format!("`{uri}` names no host")));
    }
    Ok((bare_host(uri).to_owned(), uri.port_u16().unwrap_or(443)))
}

/// Longest time for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Largest answer: a chain has a few kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
