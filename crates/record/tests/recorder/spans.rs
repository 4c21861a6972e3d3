//! Spans as a collector gets them, read by the wire format alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, sync_channel};

use phalanx_model::{AccessEvent, Phases, Reason, SpanId, Trace, TraceId, Verdict};
use phalanx_record::SpanSettings;

use crate::support::*;

/// Fields of a message of Protocol Buffers: numbers with their bytes; numbers themselves as eight bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                let number = varint(&mut bytes);
                fields.push((key >> 3, number.to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)).unwrap(),
            5 => 4,
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, bytes[..length].to_vec()));
        bytes = &bytes[length..];
    }
    fields
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for place in 0.. {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        number |= u64::from(byte & 127) << (7 * place);
        if byte < 128 {
            break;
        }
    }
    number
}

/// What lies at a path of field numbers, each time it is there.
fn at(bytes: &[u8], path: &[u64]) -> Vec<Vec<u8>> {
    let Some((first, rest)) = path.split_first() else { return vec![bytes.to_vec()] };
    let inner = fields(bytes).into_iter().filter(|(number, _)| number == first);
    inner.flat_map(|(_, inner)| at(&inner, rest)).collect()
}

/// A collector that answers each request with this status; what it got of each.
pub(crate) fn collector(status: &'static str) -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = sync_channel(REQUESTS_MAX);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let start = head.len();
                reader.read_line(&mut head).unwrap();
                let line = head.get(start..).unwrap_or_default().trim_end().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let _ = sender.send((head, body));
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes());
        }
    });
    (url, received)
}

fn traced(n: u64, sampled: bool) -> AccessEvent {
    AccessEvent {
        verdict: Verdict::allow(Reason::Clean),
        status: 200,
        upstream: Some("10.0.0.1:3000".into()),
        phases: Phases { inspect_us: 40, upstream_us: 200, ..Phases::default() },
        trace: Some(Trace {
            id: TraceId::from_bits(0xabc).unwrap(),
            span: SpanId::from_bits(0x100 + n),
            parent: SpanId::from_bits(7),
            sampled,
        }),
        ..access(n)
    }
}

fn sending_to(dir: &std::path::Path, endpoint: String) -> phalanx_record::RecordSettings {
    let mut settings = settings(dir);
    settings.spans = Some(SpanSettings { endpoint, service: "edge".into(), version: "1.2.3".into() });
    settings
}

#[test]
fn a_collector_gets_sampled_requests_with_their_phases() {
    let dir = tempfile::tempdir().unwrap();
    let (url, received) = collector("200 OK");
    let (recorder, lanes) = start(sending_to(dir.path(), url));
    lanes.access(Box::new(traced(1, true)));
    lanes.access(Box::new(traced(2, false)));
    lanes.access(Box::new(AccessEvent { trace: None, ..traced(3, true) }));
    let status = recorder.status();
    recorder.stop();
    assert_eq!(status.spans(), (1, 0));
    let (head, body) = received.recv().unwrap();
    assert!(
        head.starts_with("POST /v1/traces HTTP/1.1\r\n") && head.contains("application/x-protobuf"),
        "{head}"
    );
    let spans = at(&body, &[1, 2, 2]);
    let names: Vec<String> =
        spans.iter().map(|span| String::from_utf8(at(span, &[5]).concat()).unwrap()).collect();
    assert_eq!(names, ["GET shop", "inspect", "upstream"]);
    let own = 0x101u64.to_be_bytes().to_vec();
    assert_eq!(at(&spans[0], &[1]), [0xabcu128.to_be_bytes().to_vec()]);
    assert_eq!(
        (at(&spans[0], &[2]), at(&spans[0], &[4])),
        (vec![own.clone()], vec![7u64.to_be_bytes().to_vec()])
    );
    assert!(spans[1..].iter().all(|span| at(span, &[4]) == [own.clone()]));
    let nanos = |span: &[u8], field| u64::from_le_bytes(at(span, &[field])[0].clone().try_into().unwrap());
    assert_eq!(nanos(&spans[0], 7), (NOW + 1) * 1_000_000);
    assert_eq!(nanos(&spans[0], 8) - nanos(&spans[0], 7), 300_000);
    assert_eq!(
        (nanos(&spans[1], 8), nanos(&spans[2], 8) - nanos(&spans[2], 7)),
        (nanos(&spans[2], 7), 200_000)
    );
    let texts = |path: &[u64]| at(&body, path).into_iter().map(|text| String::from_utf8(text).unwrap());
    let resource: Vec<String> = texts(&[1, 1, 1, 2, 1]).collect();
    assert!(resource.contains(&"edge".to_owned()) && resource.contains(&"fra/a".to_owned()), "{resource:?}");
    assert!(texts(&[1, 2, 2, 9, 2, 1]).any(|value| value == id(1).to_string()));
}

#[test]
fn what_a_collector_does_not_take_is_counted_and_nothing_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (url, _received) = collector("400 Bad Request");
    let (recorder, lanes) = start(sending_to(dir.path(), url));
    for n in 0..10 {
        lanes.access(Box::new(traced(n, true)));
    }
    let status = recorder.status();
    recorder.stop();
    assert_eq!(status.spans(), (0, 10));
    let text = std::fs::read_to_string(dir.path().join("record/access.log")).unwrap();
    assert_eq!(text.lines().count(), 10);
}

/// More than any test sends.
const REQUESTS_MAX: usize = 1_024;
