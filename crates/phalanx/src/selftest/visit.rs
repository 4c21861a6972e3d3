//! A connection to one of the node's own listeners, as a visitor makes one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, bail};
use memchr::memmem;
use phalanx_edge::selftest::{FIELD, SelfTest};
use phalanx_model::PrefixSet;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{AlertDescription, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// A listener of the node's.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    /// As it is bound.
    pub(super) address: SocketAddr,
    pub(super) tls: bool,
    /// Whose connections it takes, each with a PROXY header; `None`: everybody's.
    pub(super) proxied: Option<PrefixSet>,
    /// Nobody is served without a certificate.
    pub(super) asks_clients: bool,
}

impl Listener {
    /// One without TLS.
    pub(super) fn new(address: SocketAddr, proxied: Option<PrefixSet>) -> Self {
        Self { address, tls: false, proxied, asks_clients: false }
    }

    /// One with TLS.
    pub(super) fn with_tls(address: SocketAddr, proxied: Option<PrefixSet>, asks_clients: bool) -> Self {
        Self { address, tls: true, proxied, asks_clients }
    }

    /// Where it is reached from this machine.
    pub(super) fn reached_at(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.address.port())
    }

    /// Whether it takes a connection from this machine.
    pub(super) fn takes_us(&self) -> bool {
        self.proxied.as_ref().is_none_or(|balancers| balancers.contains(self.reached_at().ip()))
    }
}

/// An answer, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// What the node says of it.
    pub(super) says: Option<String>,
    /// No other request can follow.
    pub(super) closes: bool,
}

/// A connection that has begun with a greeting, and that this process has answered.
pub(super) struct Visit {
    stream: Box<dyn Stream>,
    pub(super) is_open: bool,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// How a connection began.
pub(super) enum Begun {
    Known(Visit),
    /// Another process, before or after this one, listens at the same address.
    Stranger,
    /// It ends after one request, as the node is set.
    Short,
}

/// Connects, and greets.
pub(super) async fn begin(listener: &Listener, host: &str, test: &SelfTest) -> anyhow::Result<Begun> {
    let mut plain = TcpStream::connect(listener.reached_at()).await.context("it cannot be connected to")?;
    let greeting = test.greeting(plain.local_addr()?);
    if listener.proxied.is_some() {
        // A balancer that speaks for itself.
        plain.write_all(b"PROXY UNKNOWN\r\n").await?;
    }
    let stream: Box<dyn Stream> = match listener.tls {
        false => Box::new(plain),
        true => {
            let name = ServerName::try_from(host.to_owned()).context("its host is no name for TLS")?;
            Box::new(TlsConnector::from(client_config()?).connect(name, plain).await.context("TLS fails")?)
        }
    };
    let mut visit = Visit { stream, is_open: true };
    let request = format!("GET {} HTTP/1.1\r\nHost: {host}\r\n\r\n", greeting.path);
    let asked = visit.ask(&request).await;
    let answer = match listener.tls {
        true => asked.context(AfterHandshake)?,
        false => asked?,
    };
    Ok(match answer {
        Answer { says: Some(says), closes, .. } if says == greeting.answer => match closes {
            false => Begun::Known(visit),
            true => Begun::Short,
        },
        _ => Begun::Stranger,
    })
}

/// What went wrong did so once TLS was there.
#[derive(Debug)]
struct AfterHandshake;

impl std::fmt::Display for AfterHandshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("after the TLS handshake")
    }
}

/// Whether a listener that asks for certificates ended the connection for the lack of one: it says so, or ends it without a word once this
/// side's handshake was over, for then it looks at the certificate (RFC 8446 section 4.4.2.4). Who cannot be connected to, or ends
/// it before, does so for another reason.
pub(super) fn wants_certificate(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let said = |error: &Error| {
        use AlertDescription::{BadCertificate, CertificateRequired};
        matches!(error, Error::AlertReceived(CertificateRequired | BadCertificate))
    };
    let is_after = error.is::<AfterHandshake>();
    error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).any(|error| {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => said(error),
            None => {
                is_after
                    && matches!(
                        error.kind(),
                        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
                    )
            }
        }
    })
}

impl Visit {
    /// Sends a request, and reads what it is answered with.
    pub(super) async fn ask(&mut self, request: &str) -> anyhow::Result<Answer> {
        self.is_open = false;
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.flush().await?;
        let mut read = Vec::new();
        let head = loop {
            if let Some(end) = memmem::find(&read, b"\r\n\r\n") {
                break end + 4;
            }
            self.more(&mut read).await?;
        };
        let text = String::from_utf8_lossy(read.get(..head).unwrap_or_default()).into_owned();
        let (answer, length) = parse(&text)?;
        // Text of 204 there is none.
        while read.len() < head.saturating_add(length) {
            self.more(&mut read).await?;
        }
        self.is_open = !answer.closes;
        Ok(answer)
    }

    async fn more(&mut self, read: &mut Vec<u8>) -> anyhow::Result<()> {
        if read.len() > ANSWER_BYTES_MAX {
            bail!("the answer is longer than {ANSWER_BYTES_MAX} bytes");
        }
        match self.stream.read_buf(read).await? {
            0 => {
                let ends = "the connection ends without a whole answer";
                Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, ends).into())
            }
            _ => Ok(()),
        }
    }
}

/// Reads the head of an answer, and how long its body is.
fn parse(head: &str) -> anyhow::Result<(Answer, usize)> {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|rest| rest.get(..3));
    let status = status.and_then(|digits| digits.parse().ok()).context("the answer is no HTTP/1.1")?;
    let mut answer = Answer { status, says: None, closes: false };
    let mut length = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name {
            _ if name.eq_ignore_ascii_case(FIELD) => answer.says = Some(value.to_owned()),
            _ if name.eq_ignore_ascii_case("connection") => {
                answer.closes |= value.eq_ignore_ascii_case("close")
            }
            _ if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().context("Content-Length")?
            }
            // Answers of the node's own have a length.
            _ if name.eq_ignore_ascii_case("transfer-encoding") => answer.closes = true,
            _ => {}
        }
    }
    Ok((answer, length))
}

/// TLS as a visitor's, but that any certificate will do: whose it is, the answer to the greeting proves.
fn client_config() -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let anything = Arc::new(Anything(Arc::clone(&provider)));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(anything)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Anything(Arc<CryptoProvider>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Longest answer read: a page of refusal that an operator wrote, and some.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_answers_are_read() {
        let (answer, length) = parse("HTTP/1.1 204 No Content\r\nPhalanx-Selftest: passed\r\n\r\n").unwrap();
        assert_eq!(
            (answer.status, answer.says.as_deref(), answer.closes, length),
            (204, Some("passed"), false, 0)
        );
        let (answer, length) =
            parse("HTTP/1.1 400 Bad\r\nContent-Length: 9\r\nConnection: close\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.says, answer.closes, length), (400, None, true, 9));
        assert!(parse("HTTP/2 200\r\n\r\n").is_err() && parse("\r\n\r\n").is_err());
    }

    #[test]
    fn only_who_ends_a_connection_for_it_wants_a_certificate() {
        use std::io::{Error as Io, ErrorKind};
        let alert = |alert| Io::new(ErrorKind::InvalidData, Error::AlertReceived(alert));
        for (error, at_handshake, after) in [
            (alert(AlertDescription::CertificateRequired), true, true),
            (alert(AlertDescription::HandshakeFailure), false, false),
            (alert(AlertDescription::InternalError), false, false),
            (Io::from(ErrorKind::ConnectionReset), false, true),
            (Io::from(ErrorKind::UnexpectedEof), false, true),
            (Io::from(ErrorKind::ConnectionRefused), false, false),
            (Io::from(ErrorKind::TimedOut), false, false),
        ] {
            let told = format!("{error:?}");
            let inner = |error: &Io| match error.get_ref() {
                Some(inner) => Io::new(error.kind(), inner.downcast_ref::<Error>().unwrap().clone()),
                None => Io::from(error.kind()),
            };
            let later = anyhow::Error::new(inner(&error)).context(AfterHandshake);
            let earlier = anyhow::Error::new(error).context("TLS fails");
            assert_eq!(
                (wants_certificate(&earlier), wants_certificate(&later)),
                (at_handshake, after),
                "{told}"
            );
        }
    }

    #[test]
    fn a_listener_for_all_addresses_is_reached_over_loopback() {
        for (bound, reached) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("192.0.2.1:80", "192.0.2.1:80")]
        {
            let listener = Listener::new(bound.parse().unwrap(), None);
            assert_eq!(listener.reached_at(), reached.parse().unwrap());
        }
    }
}
