//! What a node asks of servers of others: one connection for each request, over TLS or in the clear, and an answer of bounded size.
//!
//! Who asks bounds the time, says which addresses may be asked, and what an answer means. Redirects are not followed.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// What a server answered.
pub(crate) struct Answer {
    pub(crate) head: http::response::Parts,
    /// Or why it is not whole.
    pub(crate) body: Result<Bytes, String>,
}

/// The host of an address as resolvers and certificates have it: an IPv6 address stands without its brackets.
pub(crate) fn bare_host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

/// TLS as a client that believes the authorities in this PEM file, or the system's.
///
/// # Errors
/// When the file cannot be read, or holds no certificate.
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

/// The addresses of a host, 16 at most.
///
/// # Errors
/// When the name is not known.
pub(crate) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| error.to_string())?;
    Ok(found.take(ADDRESSES_MAX).collect())
}

/// Sends a request to the first of these addresses that takes a connection. `tls`: with which authorities, and the name that the
/// certificate has to have; none speaks in the clear. Reads `body_max` bytes of the answer's body at most.
///
/// # Errors
/// When no address takes a connection, the server is not who it should be, or breaks off before it has answered.
pub(crate) async fn exchange<B>(
    addresses: &[SocketAddr],
    tls: Option<(&TlsConnector, &str)>,
    request: Request<B>,
    body_max: usize,
) -> Result<Answer, String>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let Some((tls, name)) = tls else {
        return send(connect(addresses).await?, request, body_max).await;
    };
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| format!("`{}` is no name that a certificate may have", name.escape_debug()))?;
    let stream = connect(addresses).await?;
    let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
    send(stream, request, body_max).await
}

/// One that says nothing leaves time for the next.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut why = "it has no address".to_owned();
    for address in addresses {
        match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = format!("no connection within {} s", CONNECT_MAX.as_secs()),
        }
    }
    Err(why)
}

async fn send<S, B>(stream: S, request: Request<B>, body_max: usize) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let broken = |error: hyper::Error| format!("the connection broke off: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Ends with the connection, which ends with the sender.
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
    Ok(Answer { head, body: whole(body, body_max).await })
}

async fn whole(body: Incoming, max: usize) -> Result<Bytes, String> {
    let read = Limited::new(body, max).collect().await;
    read.map(http_body_util::Collected::to_bytes)
        .map_err(|error| format!("the answer broke off, or is too large: {error}"))
}

/// Longest time for one of a server's addresses.
const CONNECT_MAX: Duration = Duration::from_secs(3);
const ADDRESSES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_at_which_nobody_listens_leaves_the_next() {
        let [gone, there] = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let [nobody, somebody] = [&gone, &there].map(|at| at.local_addr().unwrap());
        drop(gone);
        assert_eq!(connect(&[nobody, somebody]).await.unwrap().peer_addr().unwrap(), somebody);
        assert!(connect(&[nobody]).await.is_err() && connect(&[]).await.is_err());
    }

    #[test]
    fn an_address_of_ipv6_stands_without_brackets() {
        for (address, host) in
            [("https://[2001:db8::1]:8443/x", "2001:db8::1"), ("https://a.example/", "a.example")]
        {
            assert_eq!(bare_host(&address.parse().unwrap()), host);
        }
    }
}
