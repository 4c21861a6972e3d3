//! One raw request through codec and engine, as a worker of the edge would take it, without sockets.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use phalanx_edge::http1::{BodyDecoder, parse_head};
use phalanx_inspect::{CompileOptions, Connection, Findings, Outcome, Program, Scratch, Transaction};
use phalanx_model::{BodyFraming, RequestHead, RequestId};
use phalanx_policy::seclang::{LoadOptions, load_dirs};

/// Loads and compiles rule folders; warnings go to standard error.
pub(crate) fn load(
    dirs: &[PathBuf],
    options: &LoadOptions,
    compile: &CompileOptions,
) -> anyhow::Result<Arc<Program>> {
    let loaded = match load_dirs(dirs, options) {
        Ok(loaded) => loaded,
        Err(faults) => bail!("{}", listed(&faults)),
    };
    for warning in &loaded.warnings {
        eprintln!("{warning}");
    }
    match Program::compile(&loaded.rules, compile) {
        Ok(program) => Ok(Arc::new(program)),
        Err(faults) => bail!("{}", listed(&faults)),
    }
}

fn listed(faults: &[phalanx_policy::Diagnostic]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A request as it was read off the wire.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) head: RequestHead,
    pub(crate) body: Bytes,
    /// The framing of the body is broken, or bytes of it are missing.
    pub(crate) body_broken: bool,
}

impl Request {
    /// Reads one request; what follows its body is left out.
    pub(crate) fn read(raw: &[u8]) -> anyhow::Result<Self> {
        let head = parse_head(raw).context("no request head")?;
        let rest = raw.get(head.raw.len()..).unwrap_or_default();
        let mut decoder = body_decoder(&head);
        let mut body = Vec::new();
        let mut at = 0;
        let mut body_broken = false;
        while !decoder.is_done() {
            let input = rest.get(at..).unwrap_or_default();
            match decoder.step(input) {
                Ok(step) => {
                    body.extend_from_slice(input.get(step.data.clone()).unwrap_or_default());
                    at += step.consumed;
                    if step.consumed == 0 {
                        body_broken = !decoder.is_done();
                        break;
                    }
                }
                Err(_) => {
                    body_broken = true;
                    break;
                }
            }
        }
        Ok(Self { head, body: body.into(), body_broken })
    }

    /// Whether the edge would refuse it before any rule.
    pub(crate) fn is_malformed(&self) -> bool {
        !self.head.faults.is_empty() || self.body_broken
    }
}

/// Follows the body that a head announces.
pub(crate) fn body_decoder(head: &RequestHead) -> BodyDecoder {
    match head.framing {
        BodyFraming::None => BodyDecoder::length(0),
        BodyFraming::Length(bytes) => BodyDecoder::length(bytes),
        BodyFraming::Chunked => BodyDecoder::chunked(),
    }
}

/// A reply to inspect.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Reply {
    /// A reply with its length.
    pub(crate) fn new(status: u16, mut fields: Vec<(String, String)>, body: Bytes) -> Self {
        fields.push(("Content-Length".to_owned(), body.len().to_string()));
        Self { status, fields, body }
    }
}

/// Runs request and reply through the engine. An interruption ends the phases, as it does at the edge.
pub(crate) fn inspect(
    program: &Arc<Program>,
    scratch: Box<Scratch>,
    connection: Connection,
    request: &Request,
    reply: impl FnOnce() -> Reply,
) -> (Findings, Box<Scratch>) {
    let mut transaction = Transaction::new(Arc::clone(program), scratch, connection);
    let mut status = 403;
    if transaction.request_head(&request.head) == Outcome::Pass {
        let limit = transaction.request_body_limit();
        let held = request.body.slice(..request.body.len().min(limit));
        let complete = held.len() == request.body.len();
        if transaction.request_body(held, complete) == Outcome::Pass {
            let reply = reply();
            status = reply.status;
            let mut fields = reply.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            if transaction.response_head(reply.status, &mut fields) == Outcome::Pass {
                let limit = transaction.response_body_limit();
                let held = reply.body.slice(..reply.body.len().min(limit));
                let complete = held.len() == reply.body.len();
                transaction.response_body(held, complete);
            }
        }
    }
    transaction.finish(status)
}

/// A connection from a documentation address (RFC 5737), numbered so that ids differ.
pub(crate) fn connection(number: u64, now_ms: u64) -> Connection {
    Connection {
        client: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
        client_port: 54_321,
        server: IpAddr::V4(Ipv4Addr::LOCALHOST),
        server_port: 80,
        request_id: RequestId::from_parts(now_ms, 0, number),
        now_ms,
    }
}
