//! go-ftw stages over the wire: exact bytes to a running node, judged by its reply and by its own record of the request.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::BytesMut;
use phalanx_control::api::Status;
use phalanx_edge::http1::{BodyDecoder, ResponseFraming, ResponseHead, read_response_head};
use phalanx_model::{FramingFault, Reason, RequestId};
use phalanx_record::Explanation;

use super::judge::{Observed, judge, log_text};
use super::suite::Stage;
use crate::client::Client;

/// A node under test.
pub(crate) struct Wire {
    to: SocketAddr,
    node: Client,
}

/// Why a stage did not go as expected.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    pub(crate) why: String,
    /// What the node found wrong with the request's framing.
    pub(crate) faults: Vec<FramingFault>,
}

/// A reply as it came.
struct Answer {
    status: u16,
    id: Option<RequestId>,
    /// Head and body.
    bytes: Vec<u8>,
}

impl Wire {
    /// Makes sure that a node is there, and that it was started for these tests.
    pub(crate) fn new(to: &str, node: Client) -> anyhow::Result<Self> {
        let to = to
            .to_socket_addrs()
            .with_context(|| format!("--wire {to}: expected HOST:PORT"))?
            .next()
            .with_context(|| format!("--wire {to}: the name has no address"))?;
        let status: Status = serde_json::from_value(node.get("status")?).context("the node's status")?;
        if !status.plan.apps.iter().any(|app| app.mode == "observe") {
            bail!("the tests need a node that refuses nothing; start it with --mode observe");
        }
        let wire = Self { to, node };
        let seen = wire
            .send(ORDINARY)
            .and_then(|answer| wire.record(answer.id.as_ref()))
            .map(|record| record.signals.iter().any(|signal| signal.rule.id == super::ftw::SEEN_RULE));
        match seen {
            Ok(true) => Ok(wire),
            Ok(false) => bail!("{NO_SETTINGS}"),
            Err(why) => bail!("an ordinary request: {why}; {NO_SETTINGS}"),
        }
    }

    /// Sends a stage's bytes, reads the reply, then the node's record.
    pub(crate) fn stage(&self, stage: &Stage) -> Result<(), Failure> {
        let fail = |why: String| Failure { why, ..Failure::default() };
        let raw = stage.input.raw().map_err(|error| fail(error.to_string()))?;
        let answer = match self.send(&raw) {
            Ok(answer) => answer,
            Err(_) if stage.output.expect_error == Some(true) => return Ok(()),
            Err(why) => return Err(fail(why)),
        };
        let record = self.record(answer.id.as_ref()).map_err(fail)?;
        let access = &record.access;
        let path = access.target.split('?').next().unwrap_or_default();
        let log =
            log_text(&record.signals, &access.host, path, &record.id.to_string(), &access.client.to_string());
        let seen = Observed {
            status: answer.status,
            reply: answer.bytes,
            rules: record.signals.iter().map(|signal| signal.rule.id).collect(),
            log,
            failure: match &access.verdict.reason {
                Reason::Failure { stage } => Some(stage.clone()),
                _ => None,
            },
        };
        judge(&stage.output, &seen).map_err(|why| Failure {
            why: format!(
                "{why}; request {}: matched {:?}; faults {:?}",
                record.id, seen.rules, record.faults
            ),
            faults: record.faults.clone(),
        })
    }

    /// One request on a connection of its own. The error: the connection ended without a whole reply.
    fn send(&self, raw: &[u8]) -> Result<Answer, String> {
        let open = || {
            let stream = TcpStream::connect_timeout(&self.to, CONNECT_WITHIN)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(REPLY_WITHIN))?;
            stream.set_write_timeout(Some(REPLY_WITHIN))?;
            Ok(stream)
        };
        let mut stream = open().map_err(|error: std::io::Error| format!("{}: {error}", self.to))?;
        // The node may refuse and close before it has read everything; its reply counts.
        let _ = stream.write_all(raw);
        read_answer(&mut stream, raw.starts_with(b"HEAD "))
    }

    /// The node's record of a request, which is written shortly after the reply.
    fn record(&self, id: Option<&RequestId>) -> Result<Explanation, String> {
        let Some(id) = id else {
            return Err("the reply has no X-Request-Id".to_owned());
        };
        let deadline = Instant::now() + RECORD_WITHIN;
        loop {
            match self.node.get(&format!("events/{id}")) {
                Ok(record) => return serde_json::from_value(record).map_err(|error| error.to_string()),
                Err(error) if Instant::now() >= deadline => return Err(format!("{error:#}")),
                Err(_) => std::thread::park_timeout(PROBE_EVERY),
            }
        }
    }
}

fn read_answer(stream: &mut TcpStream, to_head: bool) -> Result<Answer, String> {
    let mut input = BytesMut::new();
    let head = loop {
        match read_response_head(&mut input, to_head).map_err(|error| error.to_string())? {
            Some(head) if (100..200).contains(&head.status) && head.status != 101 => {}
            Some(head) => break head,
            None => {
                if read_more(stream, &mut input)? == 0 {
                    return Err("the connection ended without a reply".to_owned());
                }
            }
        }
    };
    let mut bytes = head.raw.to_vec();
    read_body(stream, &head, &mut input, &mut bytes)?;
    let id = head.headers().find(|(name, _)| name.eq_ignore_ascii_case(b"x-request-id"));
    let id = id.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
    Ok(Answer { status: head.status, id, bytes })
}

fn read_body(
    stream: &mut TcpStream,
    head: &ResponseHead,
    input: &mut BytesMut,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let mut decoder = match head.framing {
        ResponseFraming::None => BodyDecoder::length(0),
        ResponseFraming::Length(bytes) => BodyDecoder::length(bytes),
        ResponseFraming::Chunked => BodyDecoder::chunked(),
        ResponseFraming::UntilClose => BodyDecoder::until_close(),
    };
    while !decoder.is_done() {
        let step = decoder.step(input).map_err(|fault| format!("the reply's body: {fault}"))?;
        out.extend_from_slice(input.get(step.data).unwrap_or_default());
        if out.len() > REPLY_BYTES_MAX {
            return Err(format!("the reply is larger than {REPLY_BYTES_MAX} bytes"));
        }
        let more = step.consumed == 0;
        drop(input.split_to(step.consumed));
        if more && read_more(stream, input)? == 0 {
            return if decoder.ends_with_connection() {
                Ok(())
            } else {
                Err("the connection ended within the reply".to_owned())
            };
        }
    }
    Ok(())
}

fn read_more(stream: &mut TcpStream, input: &mut BytesMut) -> Result<usize, String> {
    let mut buffer = [0; 16 * 1024];
    let read = stream.read(&mut buffer).map_err(|error| format!("no whole reply: {error}"))?;
    input.extend_from_slice(buffer.get(..read).unwrap_or_default());
    Ok(read)
}

/// A request that no rule set minds.
const ORDINARY: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: phalanx waf ftw\r\nAccept: */*\r\n\
    Connection: close\r\n\r\n";
const NO_SETTINGS: &str = "start the node with the tests' settings: `phalanx waf ftw --print-settings > ftw-before.conf`, \
    then `phalanx up --extra-rules ftw-before.conf --mode observe --paranoia 4 ...`";

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longer than the node waits for the rest of a body.
const REPLY_WITHIN: Duration = Duration::from_secs(40);
const REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The record is written in milliseconds, unless the machine is very busy.
const RECORD_WITHIN: Duration = Duration::from_secs(20);
const PROBE_EVERY: Duration = Duration::from_millis(1);
