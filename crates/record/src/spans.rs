//! Traces for an OpenTelemetry collector, made of the events that the record gets: the data plane knows nothing of it.
//!
//! A request that is sampled and in whose trace this hop takes part is a span, with a span for each phase that took time.
//!
//! Failure direction: what finds no room in the queue, or what the collector does not take within its time, is lost and
//! counted. Nothing waits for it.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter, SpanLinks};
use phalanx_model::{AccessEvent, Action, Trace};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::status::RecorderStatus;

/// Where spans go, and what they say of this node.
#[derive(Debug, Clone)]
pub struct SpanSettings {
    /// The collector, as `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// What the node is called there.
    pub service: String,
    /// The product's version.
    pub version: String,
}

/// The way to the thread that sends spans. Dropping it waits a moment for what is under way.
#[derive(Debug)]
pub(crate) struct Spans {
    queue: Option<mpsc::Sender<Vec<SpanData>>>,
    scope: InstrumentationScope,
    status: RecorderStatus,
    over: std::sync::mpsc::Receiver<()>,
}

impl Spans {
    /// Starts the thread.
    pub(crate) fn start(
        settings: &SpanSettings,
        (site, node): (&str, &str),
        status: RecorderStatus,
    ) -> std::io::Result<Self> {
        let built = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Collector)
            .with_endpoint(format!("{}/v1/traces", settings.endpoint))
            .build();
        let mut exporter = built.map_err(std::io::Error::other)?;
        exporter.set_resource(&resource(settings, site, node));
        let (queue, batches) = mpsc::channel(QUEUE_REQUESTS);
        let (ended, over) = std::sync::mpsc::sync_channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let counts = status.clone();
        std::thread::Builder::new().name("phalanx-otlp".into()).spawn(move || {
            runtime.block_on(send_all(exporter, batches, &counts));
            let _ = ended.try_send(());
        })?;
        let scope = InstrumentationScope::builder("phalanx").with_version(settings.version.clone()).build();
        Ok(Self { queue: Some(queue), scope, status, over })
    }

    /// Hands a request's spans on, if it is sampled and there is room.
    pub(crate) fn add(&self, access: &AccessEvent) {
        let sampled = access.trace.filter(|trace| trace.sampled && trace.span.is_some());
        let (Some(trace), Some(queue)) = (sampled, &self.queue) else { return };
        match queue.try_reserve() {
            Ok(room) => room.send(spans(access, trace, &self.scope)),
            Err(_) => self.status.count_spans(0, 1),
        }
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        self.queue = None;
        let _ = self.over.recv_timeout(END_MAX);
    }
}

fn resource(settings: &SpanSettings, site: &str, node: &str) -> Resource {
    let attributes = [
        KeyValue::new("service.name", settings.service.clone()),
        KeyValue::new("service.version", settings.version.clone()),
        KeyValue::new("service.instance.id", format!("{site}/{node}")),
        KeyValue::new("phalanx.site", site.to_owned()),
        KeyValue::new("phalanx.node", node.to_owned()),
    ];
    Resource::builder_empty().with_attributes(attributes).build()
}

/// Sends batches until nobody adds any more.
async fn send_all(
    exporter: opentelemetry_otlp::SpanExporter,
    mut requests: mpsc::Receiver<Vec<SpanData>>,
    counts: &RecorderStatus,
) {
    let mut gathered = Vec::new();
    while let Some(first) = requests.recv().await {
        gathered.push(first);
        let more = async {
            while gathered.len() < BATCH_REQUESTS {
                let Some(next) = requests.recv().await else { return };
                gathered.push(next);
            }
        };
        // What has not come by then goes with the next.
        let _ = timeout(BATCH_WAIT, more).await;
        let count = gathered.len();
        let batch = gathered.drain(..).flatten().collect();
        match timeout(SEND_MAX, exporter.export(batch)).await {
            Ok(Ok(())) => counts.count_spans(count, 0),
            failed => {
                counts.count_spans(0, count);
                tracing::debug!(?failed, "spans could not be sent");
            }
        }
    }
}

/// A request's span, and one for each phase that took time.
fn spans(access: &AccessEvent, trace: Trace, scope: &InstrumentationScope) -> Vec<SpanData> {
    let (Some(span), id) = (trace.span, trace.id.to_bits()) else { return Vec::new() };
    let start = UNIX_EPOCH + Duration::from_millis(access.at_ms);
    let end = start + Duration::from_micros(access.duration_us);
    let one = |span: u64, parent: u64, name: Cow<'static, str>, times: (SystemTime, SystemTime)| SpanData {
        span_context: context(id, span),
        parent_span_id: SpanId::from(parent),
        parent_span_is_remote: parent != 0,
        span_kind: SpanKind::Server,
        name,
        start_time: times.0,
        end_time: times.1,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: scope.clone(),
    };
    let own = span.to_bits();
    let name = format!("{} {}", method(&access.method), access.app).into();
    let mut all = vec![SpanData {
        attributes: attributes(access),
        status: if access.status >= 500 { Status::error(access.status.to_string()) } else { Status::Unset },
        ..one(own, trace.parent.map_or(0, |parent| parent.to_bits()), name, (start, end))
    }];
    let phases = access.phases;
    let mut at = start;
    for (place, (name, us, kind)) in (1u64..).zip([
        ("head", phases.head_us, SpanKind::Internal),
        ("inspect", phases.inspect_us, SpanKind::Internal),
        ("queue", phases.queue_us, SpanKind::Internal),
        ("connect", phases.connect_us, SpanKind::Internal),
        ("upstream", phases.upstream_us, SpanKind::Client),
    ]) {
        if us == 0 {
            continue;
        }
        // One after the other, as they begin; inspection of the response is counted with that of the request.
        let ends = at + Duration::from_micros(us);
        let child = own ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let upstream = access.upstream.as_deref().filter(|_| kind == SpanKind::Client);
        let attributes = upstream.map(|name| KeyValue::new("server.address", name.to_owned()));
        all.push(SpanData {
            span_kind: kind,
            parent_span_is_remote: false,
            attributes: attributes.into_iter().collect(),
            ..one(child, own, name.into(), (at, ends))
        });
        at = ends;
    }
    all
}

fn context(trace: u128, span: u64) -> SpanContext {
    let (trace, span) = (TraceId::from(trace), SpanId::from(span));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
}

/// As the conventions for HTTP name them; what they have no name for is Phalanx's.
fn attributes(access: &AccessEvent) -> Vec<KeyValue> {
    let (path, query) = access.target.split_once('?').unwrap_or((&access.target, ""));
    let version = access.protocol.trim_start_matches("HTTP/");
    let action = match access.verdict.action {
        Action::Allow => "allow",
        Action::Observe => "observe",
        Action::Challenge => "challenge",
        Action::Throttle => "throttle",
        Action::Tarpit => "tarpit",
        Action::Deny => "deny",
    };
    let mut attributes = vec![
        KeyValue::new("http.request.method", method(&access.method)),
        KeyValue::new("url.path", path.to_owned()),
        KeyValue::new("url.scheme", if access.tls.is_some() { "https" } else { "http" }),
        KeyValue::new("http.response.status_code", i64::from(access.status)),
        KeyValue::new("network.protocol.version", version.to_owned()),
        KeyValue::new("client.address", access.client.to_string()),
        KeyValue::new("network.peer.address", access.peer.to_string()),
        KeyValue::new("phalanx.app", access.app.to_string()),
        KeyValue::new("phalanx.action", action),
        KeyValue::new("phalanx.request_id", access.id.to_string()),
    ];
    for (name, value) in [
        ("url.query", query),
        ("server.address", &access.host),
        ("user_agent.original", &access.user_agent),
        ("tls.protocol.version", access.tls.as_deref().unwrap_or_default()),
    ] {
        if !value.is_empty() {
            attributes.push(KeyValue::new(name, value.to_owned()));
        }
    }
    attributes
}

/// A method by name; strangers make up others, which must not become names of spans.
fn method(method: &str) -> &'static str {
    const KNOWN: &[&str] =
        &["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY"];
    KNOWN.iter().find(|known| **known == method).copied().unwrap_or("_OTHER")
}

/// HTTP/1.1 to the collector, over a connection for each batch.
#[derive(Debug)]
struct Collector;

pub(crate) type Answer = Result<http::Response<Bytes>, HttpError>;

impl HttpClient for Collector {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: http::Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(post(request))
    }
}

/// Sends a request over a connection of its own.
pub(crate) async fn post(mut request: http::Request<Bytes>) -> Answer {
    let url = std::mem::take(request.uri_mut());
    let authority = url.authority().ok_or("the collector's address has no host")?;
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let stream = tokio::net::TcpStream::connect(address).await?;
    request.headers_mut().insert(http::header::HOST, authority.as_str().parse()?);
    *request.uri_mut() = url.path().parse()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(connection);
    let answered = sender.send_request(request.map(Full::new)).await?;
    let (head, body) = answered.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
    driven.abort();
    Ok(http::Response::from_parts(head, body))
}

/// Requests whose spans wait; each takes some 3 KiB.
const QUEUE_REQUESTS: usize = 2_048;
/// Requests sent together.
const BATCH_REQUESTS: usize = 256;
/// How long a batch waits to become full.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// How long the collector may take for a batch.
const SEND_MAX: Duration = Duration::from_secs(10);
/// How long the end of the node waits for the last batch.
const END_MAX: Duration = Duration::from_secs(3);
/// An answer says little.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_that_strangers_make_up_are_one() {
        assert_eq!((method("GET"), method("get"), method("EVIL-1")), ("GET", "_OTHER", "_OTHER"));
    }
}
