//! Asks the fleet's authority for something, over TLS, at the first of its addresses that answers.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
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

/// Posts `question` to the authority of `fleet`. A refusal is final; an address that does not answer is not.
pub(crate) async fn ask<Q: Serialize, A: DeserializeOwned>(
    addresses: &[String],
    fleet: &str,
    client: ClientConfig,
    path: &str,
    question: &Q,
) -> anyhow::Result<A> {
    let connector = TlsConnector::from(Arc::new(client));
    let body = Bytes::from(serde_json::to_vec(question)?);
    let mut unreachable = Vec::new();
    if addresses.is_empty() {
        bail!(
            "the fleet's authority named no address to ask at; start its node with --enroll ADDR, then join again"
        );
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
            return serde_json::from_slice(&answer)
                .context("the fleet's authority gave an unreadable answer");
        }
        match serde_json::from_slice::<JoinRefusal>(&answer) {
            Ok(JoinRefusal::Unavailable(why)) => unreachable.push(fault(address, why)),
            Ok(refusal) => bail!("{}", for_terminal(&refusal.to_string())),
            Err(_) => unreachable.push(fault(address, format!("it answered {status}"))),
        }
    }
    Err(anyhow!("the fleet's authority cannot be reached: {}", unreachable.join("; ")))
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
/// Eight certificates, a login and a few names.
const ANSWER_BYTES_MAX: usize = 128 * 1024;
