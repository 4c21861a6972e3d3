//! Requests and rule sets for the tests.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise, and each test program uses a part of this"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use phalanx_inspect::{CompileOptions, Connection, Findings, Outcome, Program, Scratch, Transaction};
use phalanx_model::{BodyFraming, HeaderField, HttpVersion, RequestHead, RequestId, Span};
use phalanx_policy::seclang::{LoadOptions, load_texts};

/// Compiles a text of rules.
pub(crate) fn program(rules: &str) -> Arc<Program> {
    program_with(rules, &CompileOptions::default())
}

/// Compiles a text of rules with options.
pub(crate) fn program_with(rules: &str, options: &CompileOptions) -> Arc<Program> {
    let loaded = match load_texts(&[("test.conf", rules)], &LoadOptions::default()) {
        Ok(loaded) => loaded,
        Err(faults) => panic!("{faults:#?}"),
    };
    Arc::new(Program::compile(&loaded.rules, options).unwrap_or_else(|faults| panic!("{faults:#?}")))
}

/// A head from its text; lines end in LF here and in CRLF in the head.
pub(crate) fn head(text: &str) -> RequestHead {
    let raw = Bytes::from(format!("{}\r\n\r\n", text.trim_end().replace('\n', "\r\n")));
    let at = |part: &[u8]| {
        let start = part.as_ptr() as usize - raw.as_ptr() as usize;
        let narrow = |n: usize| u32::try_from(n).unwrap();
        Span { start: narrow(start), end: narrow(start + part.len()) }
    };
    let mut lines =
        raw[..raw.len() - 4].split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next().unwrap().split(|&b| b == b' ');
    let (method, target) = (at(words.next().unwrap()), at(words.next().unwrap()));
    let fields = lines
        .map(|line| {
            let colon = line.iter().position(|&b| b == b':').unwrap();
            HeaderField { name: at(&line[..colon]), value: at(line[colon + 1..].trim_ascii()) }
        })
        .collect();
    RequestHead {
        method,
        target,
        version: HttpVersion::Http11,
        fields,
        framing: BodyFraming::None,
        faults: Vec::new(),
        raw: raw.clone(),
    }
}

/// A connection from a documentation address.
pub(crate) fn connection() -> Connection {
    Connection {
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        client_port: 40_000,
        server: IpAddr::V4(Ipv4Addr::LOCALHOST),
        server_port: 80,
        request_id: RequestId::from_parts(1_700_000_000_000, 1, 7),
        now_ms: 1_700_000_000_000,
    }
}

/// Runs all five phases over a request, an interruption ending them.
pub(crate) fn run(program: &Arc<Program>, head: &RequestHead, body: &[u8]) -> Findings {
    run_with(program, Box::default(), head, body, 1_700_000_000_000).0
}

/// The same with a scratch, at a time.
pub(crate) fn run_with(
    program: &Arc<Program>,
    scratch: Box<Scratch>,
    head: &RequestHead,
    body: &[u8],
    now_ms: u64,
) -> (Findings, Box<Scratch>) {
    let connection = Connection { now_ms, ..connection() };
    let mut transaction = Transaction::new(Arc::clone(program), scratch, connection);
    if transaction.request_head(head) == Outcome::Pass
        && transaction.request_body(Bytes::copy_from_slice(body), true) == Outcome::Pass
    {
        let fields: [(&[u8], &[u8]); 2] = [(b"Content-Type", b"text/html"), (b"Set-Cookie", b"sid=secret")];
        if transaction.response_head(200, &mut fields.into_iter()) == Outcome::Pass {
            transaction.response_body(Bytes::from_static(b"<html>hello</html>"), true);
        }
    }
    transaction.finish(200)
}

/// The ids that matched on a request line with a Host.
pub(crate) fn ids(rules: &str, target: &str) -> Vec<u64> {
    run(&program(rules), &head(&format!("GET {target} HTTP/1.1\nHost: localhost")), b"").matched_rules
}
