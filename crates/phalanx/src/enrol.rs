//! Asks the fleet's authority for something, over TLS, at the first of its addresses that answers.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use phalanx_record::escape::for_terminal;
use phalanx_trust::JoinRefusal;
use phalanx_trust::certificate::service_host;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// Why nothing was granted.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The authority says no.
    By(JoinRefusal),
    /// It could not be asked, or what it said not be read.
    Unasked(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Unasked(error.into())
    }
}

/// Posts `question` to the authority of `fleet`. A refusal is final; an address that does not answer is not.
pub(crate) async fn ask<Q: Serialize, A: DeserializeOwned>(
    addresses: &[String],
    fleet: &str,
    client: ClientConfig,
    path: &str,
    question: &Q,
) -> anyhow::Result<A> {
    ask_for(addresses, fleet, client, path, question).await.map_err(|refused| match refused {
        Refused::By(refusal) => anyhow!("{}", for_terminal(&refusal.to_string())),
        Refused::Unasked(error) => error,
    })
}

/// The same, for who does something about a refusal.
pub(crate) async fn ask_for<Q: Serialize, A: DeserializeOwned>(
    addresses: &[String],
    fleet: &str,
    client: ClientConfig,
    path: &str,
    question: &Q,
) -> Result<A, Refused> {
    let connector = TlsConnector::from(Arc::new(client));
    let body = Bytes::from(serde_json::to_vec(question)?);
    let mut unreachable = Vec::new();
    if addresses.is_empty() {
        return Err(Refused::Unasked(anyhow!(
            "the fleet's authority named no address to ask at; start its node with --enroll ADDR, then join again"
        )));
    }
    for address in addresses {
        let exchanged =
            tokio::time::timeout(TIME_MAX, exchange(&connector, address, fleet, path, body.clone()));
        let (status, answer) = match exchanged.await {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => {
                unreachable.push(fault(address, format!("{error:#}")));
                continue;
            }
            Err(_) => {
                unreachable.push(fault(address, "no answer in time"));
                continue;
            }
        };
        if status.is_success() {
            let read = serde_json::from_slice(&answer);
            return Ok(read.context("the fleet's authority gave an unreadable answer")?);
        }
        match serde_json::from_slice::<JoinRefusal>(&answer) {
            Ok(JoinRefusal::Unavailable(why)) => unreachable.push(fault(address, why)),
            Ok(refusal) => return Err(Refused::By(refusal)),
            Err(_) => unreachable.push(fault(address, format!("it answered {status}"))),
        }
    }
    Err(Refused::Unasked(anyhow!("the fleet's authority cannot be reached: {}", unreachable.join("; "))))
}

async fn exchange(
    connector: &TlsConnector,
    address: &str,
    fleet: &str,
    path: &str,
    body: Bytes,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(service_host("enrol", fleet))?;
    let stream = connector.connect(name, stream).await.context("no server of this fleet is there")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::post(path)
        .header(header::HOST, service_host("enrol", fleet))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    driver.abort();
    Ok((status, body.map_err(|error| anyhow!("the answer broke off: {error}"))?.to_bytes()))
}

fn fault(address: &str, what: impl Display) -> String {
    format!("{}: {}", for_terminal(address), for_terminal(&what.to_string()))
}

const TIME_MAX: Duration = Duration::from_secs(10);
/// Eight certificates, a login, and of a delegation the nodes of a site.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
