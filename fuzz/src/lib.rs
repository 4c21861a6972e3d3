//! What several targets share: bytes to a request, and rule sets to run it through.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use phalanx_inspect::{CompileOptions, Connection, Findings, Outcome, Program, Scratch, Transaction};
use phalanx_model::{BodyFraming, HeaderField, HttpVersion, RequestHead, RequestId, Span};
use phalanx_policy::seclang::{LoadOptions, load_texts};

/// The baseline pack and rules that use whatever the pack does not: every operator, transformation and collection.
pub fn rule_set(prefilter: bool) -> Arc<Program> {
    let mut files = phalanx_policy::baseline().to_vec();
    files.push(("fuzz.conf", include_str!("../rules.conf")));
    files
        .push(("schema.json", r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}"#));
    files.push(("words.data", "one\ntwo three\n"));
    files.push(("ips.txt", "192.0.2.0/24\n2001:db8::/32\n"));
    let loaded = load_texts(&files, &LoadOptions::default()).expect("the rules load");
    let options = CompileOptions { prefilter, ..CompileOptions::default() };
    Arc::new(Program::compile(&loaded.rules, &options).expect("the rules compile"))
}

/// A request line, fields to the first empty line, and the body: each as it comes, with nothing checked.
pub fn request(data: &[u8]) -> (RequestHead, Bytes) {
    let end = data.windows(2).position(|two| two == b"\n\n").map_or(data.len(), |at| at + 2);
    let raw = Bytes::copy_from_slice(&data[..end]);
    let mut lines = raw.split(|&byte| byte == b'\n');
    let at = |part: &[u8]| {
        let start = part.as_ptr().addr() - raw.as_ptr().addr();
        Span { start: start as u32, end: (start + part.len()) as u32 }
    };
    let mut words = lines.next().unwrap_or_default().splitn(3, |&byte| byte == b' ');
    let (method, target) = (at(words.next().unwrap_or(&raw[..0])), at(words.next().unwrap_or(&raw[..0])));
    let fields = lines
        .filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some(HeaderField { name: at(&line[..colon]), value: at(line[colon + 1..].trim_ascii()) })
        })
        .take(64)
        .collect();
    let head = RequestHead {
        method,
        target,
        version: HttpVersion::Http11,
        fields,
        framing: BodyFraming::None,
        faults: Vec::new(),
        raw: raw.clone(),
    };
    (head, Bytes::copy_from_slice(&data[end..]))
}

/// All five phases; an interruption ends them.
pub fn run(
    program: &Arc<Program>,
    scratch: Box<Scratch>,
    head: &RequestHead,
    body: &Bytes,
) -> (Findings, Box<Scratch>) {
    let connection = Connection {
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        client_port: 40_000,
        server: IpAddr::V4(Ipv4Addr::LOCALHOST),
        server_port: 80,
        request_id: RequestId::from_parts(1_700_000_000_000, 1, 7),
        now_ms: 1_700_000_000_000,
    };
    let mut transaction = Transaction::new(Arc::clone(program), scratch, connection);
    if transaction.request_head(head) == Outcome::Pass
        && transaction.request_body(body.clone(), true) == Outcome::Pass
    {
        let fields: [(&[u8], &[u8]); 1] = [(b"Content-Type", b"text/html")];
        if transaction.response_head(200, &mut fields.into_iter()) == Outcome::Pass {
            transaction.response_body(body.clone(), true);
        }
    }
    transaction.finish(200)
}

/// Checks that a head without faults that was written down for another request reads the same again, and names one host.
#[cfg(feature = "edge")]
pub fn says_one_thing(head: &phalanx_edge::http1::RequestHead) {
    if !head.faults.is_empty() {
        return;
    }
    let mut raw = head.raw.to_vec();
    let version = head.target.range().end + 1;
    if raw.get(version..version + 8) == Some(b"HTTP/2.0") {
        raw[version..version + 8].copy_from_slice(b"HTTP/1.1");
    }
    let again = phalanx_edge::http1::parse_head(&raw).expect("a head is complete");
    assert_eq!((again.raw.len(), &again.faults), (head.raw.len(), &head.faults));
    assert_eq!((again.method(), again.target()), (head.method(), head.target()));
    assert!(again.headers().eq(head.headers()));
    let hosts = head.headers().filter(|(name, _)| name.eq_ignore_ascii_case(b"host")).count();
    assert!(hosts == 1 || hosts == 0 && head.version == phalanx_model::HttpVersion::Http10);
}
