//! Request ids, trace contexts and times, as the upstream gets them and as events keep them.

use phalanx_edge::{Sample, TraceMode, TraceSettings};
use phalanx_model::latency::{AppSlots, LatencyTotal};

use crate::support::*;

const ASKED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn tracing(mode: TraceMode, sample: Sample) -> Node {
    Node::start(|settings, _| settings.trace = TraceSettings { mode, sample }).await
}

/// The head that the upstream gets for a request with these fields.
async fn head_of(node: &Node, fields: &str) -> String {
    let mut client = node.connect().await;
    client.send(format!("GET /head HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n")).await;
    client.answer().await.text()
}

fn traceparents(head: &str) -> Vec<&str> {
    let is_one = |line: &&str| line.get(..12).is_some_and(|name| name.eq_ignore_ascii_case("traceparent:"));
    head.lines()
        .filter(is_one)
        .map(|line| line.split_once(':').map_or("", |(_, value)| value).trim())
        .collect()
}

#[tokio::test]
async fn a_valid_context_is_passed_on_as_it_is_and_stands_in_the_event() {
    let mut node = Node::plain().await;
    let head = head_of(&node, &format!("Traceparent: {ASKED}\r\ntracestate: a=1,b=2\r\n")).await;
    assert_eq!(traceparents(&head), [ASKED]);
    assert!(head.contains("tracestate: a=1,b=2\r\n"), "{head}");
    let trace = node.access().await.trace.unwrap();
    assert_eq!(trace.id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(trace.parent.unwrap().to_string(), "00f067aa0ba902b7");
    assert!(trace.span.is_none() && trace.sampled);
}

#[tokio::test]
async fn a_request_without_a_context_gets_none_unless_this_hop_takes_part() {
    let mut node = Node::plain().await;
    assert_eq!(traceparents(&head_of(&node, "").await), [""; 0]);
    assert_eq!(node.access().await.trace, None);
    let mut node = tracing(TraceMode::Continue, Sample::ALL).await;
    let head = head_of(&node, "tracestate: orphan=1\r\n").await;
    let trace = node.access().await.trace.unwrap();
    assert_eq!(traceparents(&head), [format!("00-{}-{}-01", trace.id, trace.span.unwrap())]);
    assert!(!head.contains("orphan") && trace.parent.is_none());
}

#[tokio::test]
async fn a_context_goes_on_with_this_hop_as_the_parent() {
    let mut node = tracing(TraceMode::Continue, Sample::NONE).await;
    let head = head_of(&node, &format!("traceparent: {ASKED}\r\ntracestate: a=1\r\n")).await;
    let trace = node.access().await.trace.unwrap();
    let span = trace.span.unwrap();
    // The caller's wish to have it recorded goes on, whatever share is recorded of traces that begin here.
    assert_eq!(traceparents(&head), [format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{span}-01")]);
    assert!(head.contains("tracestate: a=1\r\n") && trace.parent.is_some());
}

#[tokio::test]
async fn contexts_that_are_not_valid_or_not_believed_end_here() {
    let node = Node::plain().await;
    for fields in [
        format!("traceparent: {}\r\n", ASKED.to_uppercase()),
        "traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01\r\n".to_owned(),
        format!("traceparent: {ASKED}\r\ntraceparent: {ASKED}\r\n"),
    ] {
        let head = head_of(&node, &format!("{fields}tracestate: a=1\r\n")).await;
        assert!(traceparents(&head).is_empty() && !head.contains("tracestate"), "{fields}{head}");
    }
    let node = tracing(TraceMode::Restart, Sample::NONE).await;
    let head = head_of(&node, &format!("traceparent: {ASKED}\r\ntracestate: a=1\r\n")).await;
    assert!(!head.contains("4bf92f35") && !head.contains("tracestate"), "{head}");
    assert!(traceparents(&head).concat().ends_with("-00"), "{head}");
}

#[tokio::test]
async fn a_forwarder_that_is_trusted_starts_no_trace_anew_and_its_id_is_kept() {
    let mut node = Node::start(|settings, app| {
        settings.trace = TraceSettings { mode: TraceMode::Restart, sample: Sample::NONE };
        app.trust_forwarded = ["127.0.0.1/32".parse().unwrap()].into_iter().collect();
    })
    .await;
    let head = head_of(&node, &format!("traceparent: {ASKED}\r\nX-Request-Id: cdn-17\r\n")).await;
    let access = node.access().await;
    assert!(traceparents(&head).concat().contains("4bf92f35"), "{head}");
    assert_eq!(access.forwarded_id.as_deref(), Some("cdn-17"));
    assert!(head.contains(&format!("X-Request-Id: {}\r\n", access.id)) && !head.contains("cdn-17"), "{head}");
}

#[tokio::test]
async fn what_strangers_call_their_request_is_nowhere() {
    let mut node = Node::plain().await;
    let mut client = node.connect().await;
    let first = "01M80A2FRN3W1NT1822FK6NHPD";
    client.send(format!("GET /head HTTP/1.1\r\nHost: shop.test\r\nX-Request-Id: {first}\r\n\r\n")).await;
    let answer = client.answer().await;
    let access = node.access().await;
    assert_eq!(answer.header("x-request-id"), Some(access.id.to_string()));
    assert_ne!(access.id.to_string(), first);
    assert!(!answer.text().contains(first) && access.forwarded_id.is_none());
}

#[tokio::test]
async fn times_are_counted_by_phase_and_app() {
    let mut node = Node::plain().await;
    let mut client = node.connect().await;
    client.get("/a").await;
    client.get("/nonsense").await;
    let (first, second) = (node.access().await, node.access().await);
    assert_eq!(first.upstream.as_deref(), Some(node.upstream.address.to_string().as_str()));
    assert!(first.phases.connect_us > 0 && first.phases.upstream_us > 0 && first.phases.inspect_us == 0);
    let sum = first.phases.head_us + first.phases.connect_us + first.phases.upstream_us;
    assert!(sum <= first.duration_us, "{:?} of {}", first.phases, first.duration_us);
    assert_eq!(second.status, 502);
    let mut total = LatencyTotal::default();
    let mut replies = [0; 6];
    for worker in node.edge.counters() {
        let app = worker.apps.of(0).unwrap();
        app.times.add_to(&mut total);
        for (sum, count) in replies.iter_mut().zip(&app.replies) {
            *sum += count.load(std::sync::atomic::Ordering::Relaxed);
        }
        assert_eq!(
            worker.apps.of(AppSlots::NONE).unwrap().replies[4].load(std::sync::atomic::Ordering::Relaxed),
            0
        );
    }
    assert_eq!((total.buckets.iter().sum::<u64>(), replies), (2, [0, 0, 1, 0, 0, 1]));
    assert!(total.sum_us >= first.duration_us);
}
