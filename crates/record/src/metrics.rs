//! Metrics for Prometheus: read from the counters at the moment of the scrape.
//!
//! INVARIANT: labels come from enums; nothing a client sent becomes a label.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use phalanx_model::counters::{KeyExchange, LimitReached, ProxyFailure, TlsFailure, WorkerCounters};
use phalanx_model::lanes::Lanes;
use phalanx_model::{Confidence, RuleClass};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::status::RecorderStatus;

mod latency;
mod learning;
mod upstreams;

/// What is measured elsewhere, asked at each scrape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeGauges {
    /// Decisions in force.
    pub decisions_live: u64,
    /// The plan's version.
    pub plan_version: u64,
    /// The view's revision.
    pub view_revision: u64,
    /// Whether the fleet can be reached; true for a single node.
    pub fleet_connected: bool,
    /// Nodes that were heard of lately, this one included.
    pub nodes_online: u64,
    /// Rows of this node's history that the control node furthest behind lacks.
    pub history_waiting: u64,
    /// Rows that other nodes had deleted before this one copied them.
    pub history_missed: u64,
    /// What rate limits did, in the order of the plan.
    pub rate_limits: Vec<RateLimitCount>,
    /// Requests that no rate limit could count, because the table was full.
    pub rate_untracked: u64,
    /// Keys whose rates are counted.
    pub rate_keys: u64,
    /// Certificates that visitors are shown: the file, which settings name, and when it ends, in Unix milliseconds.
    pub certificates: Vec<(String, u64)>,
    /// Apps by the place where they are counted.
    pub apps: Vec<(usize, String)>,
    /// What each upstream did, in the order of the plan.
    pub upstreams: Vec<UpstreamCount>,
    /// What became of requests whose upstream failed or was busy, by app.
    pub tries: Vec<TryCount>,
    /// How short the node runs of what it needs: 0 for not at all, to 4.
    pub overload_level: u64,
    /// What the learner did.
    pub learning: LearningCounts,
    /// Whether the node's attacks on itself are refused; `None` while that is not known.
    pub self_test: Option<bool>,
    /// Reports that were sent by themselves, and that could not be.
    pub reports: (u64, u64),
    /// What the node uses of what it needs: the resource, and how much of its limit in per cent.
    pub usage_percent: Vec<(&'static str, u64)>,
}

/// What the node's learner did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; metrics documents them")]
pub struct LearningCounts {
    pub events: u64,
    pub events_dropped: u64,
    pub refused: u64,
    pub signals: u64,
    pub proposals: u64,
    pub actors: u64,
    pub peers_heard: u64,
    pub incidents_open: u64,
    pub usual: u64,
    pub usual_known: u64,
}

/// What one upstream did since the start. The names are policy's, and the addresses those that its names have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; metrics documents them")]
pub struct UpstreamCount {
    pub app: String,
    pub upstream: String,
    pub up: bool,
    pub in_flight: u64,
    pub requests: u64,
    pub failures: u64,
}

/// What became of an app's requests whose upstream failed or was busy, since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; metrics documents them")]
pub struct TryCount {
    pub app: String,
    pub retries: u64,
    pub retries_refused: u64,
    pub queue_refused: u64,
    pub waiting: u64,
}

/// What one rate limit did since the start. The names are policy's, and so are the labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; metrics documents them")]
pub struct RateLimitCount {
    pub app: String,
    pub limit: String,
    pub admitted: u64,
    pub refused: u64,
    pub observed: u64,
}

/// Where the figures come from.
pub struct MetricsSources {
    /// One per worker of the data plane.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// For what the lanes dropped.
    pub lanes: Lanes,
    /// For the recorder's state.
    pub recorder: RecorderStatus,
    /// The node's gauges at this moment.
    pub gauges: Box<dyn Fn() -> NodeGauges + Send + Sync>,
}

/// Renders the metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Metrics over these sources; `version` is the product's.
    pub fn new(sources: MetricsSources, version: &str) -> Self {
        let mut registry = Registry::with_prefix("phalanx");
        let info = prometheus_client::metrics::info::Info::new(vec![("version", version.to_owned())]);
        registry.register("build", "The version that runs", info);
        registry.register_collector(Box::new(NodeCollector(sources)));
        Self { registry }
    }

    /// The metrics in OpenMetrics text form.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if text::encode(&mut text, &self.registry).is_err() {
            tracing::error!("metrics could not be encoded");
        }
        text
    }

    /// The content type of [`Metrics::render`].
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

/// The sum of one count over all workers.
pub fn sum(counters: &[Arc<WorkerCounters>], count: impl Fn(&WorkerCounters) -> &AtomicU64) -> u64 {
    counters.iter().map(|worker| count(worker).load(Ordering::Relaxed)).sum()
}

/// The same of one count among several.
pub fn sum_at(
    counters: &[Arc<WorkerCounters>],
    of: impl Fn(&WorkerCounters) -> &[AtomicU64],
    place: usize,
) -> u64 {
    counters
        .iter()
        .filter_map(|worker| of(worker).get(place))
        .map(|count| count.load(Ordering::Relaxed))
        .sum()
}

/// Signals and refusals of one class since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassCount {
    /// The class.
    pub class: RuleClass,
    /// Rules of it that matched, counted for each request.
    pub signals: u64,
    /// Requests that rules refused for which this class spoke most.
    pub refusals: u64,
}

/// The counts of all classes, summed over all workers.
pub fn class_counts(counters: &[Arc<WorkerCounters>]) -> Vec<ClassCount> {
    let total = |of: fn(&WorkerCounters) -> &[AtomicU64; 5], place: usize| {
        let counts = counters.iter().filter_map(|worker| of(worker).get(place));
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    };
    let one = |class: RuleClass| ClassCount {
        class,
        signals: total(|c| &c.class_signals, class.index()),
        refusals: total(|c| &c.class_refusals, class.index()),
    };
    RuleClass::ALL.map(one).to_vec()
}

struct NodeCollector(MetricsSources);

impl std::fmt::Debug for NodeCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeCollector").finish_non_exhaustive()
    }
}

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.encode_workers(&mut encoder)?;
        self.encode_recorder(&mut encoder)?;
        self.encode_gauges(&mut encoder)
    }
}

type Source = fn(&WorkerCounters) -> &AtomicU64;
type Count = (&'static str, &'static str, Source);

/// Name, help and source of each total.
const COUNTS: &[Count] = &[
    ("connections_accepted", "Client connections accepted", |c| &c.connections_accepted),
    ("connections_refused", "Client connections refused by limits or decisions", |c| &c.connections_refused),
    ("requests", "Requests received", |c| &c.requests),
    ("requests_malformed", "Requests refused because they are not strict HTTP", |c| &c.requests_malformed),
    ("upstream_errors", "Requests that the upstream did not answer", |c| &c.upstream_errors),
    ("upstream_connects", "Connections made to upstreams", |c| &c.upstream_connects),
    ("upstream_reuses", "Requests sent on a kept upstream connection", |c| &c.upstream_reuses),
    ("request_body_bytes", "Request body bytes read", |c| &c.request_body_bytes),
    ("response_body_bytes", "Response body bytes sent", |c| &c.response_body_bytes),
    ("tls_resumed", "TLS sessions resumed", |c| &c.tls_resumed),
    ("strikes", "High-confidence denials that count against an actor", |c| &c.strikes),
    ("inspect_failures", "Requests on which a rule or parser failed", |c| &c.inspect_failures),
];

const TLS_VERSIONS: &[(&str, Source)] =
    &[("TLSv1.2", |c| &c.tls12_handshakes), ("TLSv1.3", |c| &c.tls13_handshakes)];

const VERDICTS: &[(&str, Source)] = &[
    ("allow", |c| &c.requests_allowed),
    ("observe", |c| &c.requests_observed),
    ("challenge", |c| &c.requests_challenged),
    ("throttle", |c| &c.requests_throttled),
    ("deny", |c| &c.requests_denied),
];

impl NodeCollector {
    fn encode_workers(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let workers = &self.0.counters;
        for (name, help, count) in COUNTS {
            counter(encoder, name, help, sum(workers, count))?;
        }
        let open =
            sum(workers, |c| &c.connections_accepted).saturating_sub(sum(workers, |c| &c.connections_closed));
        gauge(encoder, "connections_open", "Client connections open", open)?;
        #[expect(clippy::cast_precision_loss, reason = "a sum of seconds, for people")]
        let seconds = sum(workers, |c| &c.inspect_ns) as f64 / 1e9;
        let metric = ConstCounter::new(seconds);
        let descriptor = encoder.encode_descriptor(
            "inspect_seconds",
            "Time spent in inspection",
            None,
            MetricType::Counter,
        )?;
        metric.encode(descriptor)?;
        let verdicts = VERDICTS.iter().map(|(action, count)| (*action, sum(workers, count)));
        labelled(encoder, ("verdicts", "What was done with requests"), "action", verdicts)?;
        encode_tls(encoder, workers)?;
        latency::encode_phases(encoder, workers)?;
        let limits = LimitReached::ALL.iter().map(|limit| limit.name()).zip(0..);
        let limits = limits.map(|(limit, place)| (limit, sum_at(workers, |c| &c.limits_reached, place)));
        let help = "Clients that met a limit, and idle connections that gave way";
        labelled(encoder, ("limits_reached", help), "limit", limits)?;
        let counts = class_counts(workers);
        let of = |count: fn(&ClassCount) -> u64| counts.iter().map(move |one| (one.class, count(one)));
        by_class(encoder, ("signals", "Rules that matched"), of(|one| one.signals))?;
        by_class(encoder, ("rule_refusals", "Requests that rules refused"), of(|one| one.refusals))
    }

    fn encode_recorder(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let dropped = self.0.lanes.dropped();
        let lanes = [
            ("access", dropped.access.load(Ordering::Relaxed)),
            ("security", dropped.security.load(Ordering::Relaxed)),
        ];
        labelled(encoder, ("lane_dropped", "Events that found no room in their lane"), "lane", lanes)?;
        let report = self.0.recorder.report();
        let parts = || report.parts.iter().map(|part| (part.part.label(), part));
        labelled(
            encoder,
            ("recorder_written", "Records written"),
            "part",
            parts().map(|(label, part)| (label, part.written)),
        )?;
        labelled(
            encoder,
            ("recorder_dropped", "Records lost because they could not be written"),
            "part",
            parts().map(|(label, part)| (label, part.dropped)),
        )?;
        let (sent, lost) = self.0.recorder.spans();
        let traced = ("traced_requests", "Requests whose spans were sent to a collector, or lost on the way");
        labelled(encoder, traced, "outcome", [("sent", sent), ("lost", lost)])?;
        let mut failing = encoder.encode_descriptor(
            "recorder_failing",
            "1 while a part of the record cannot be written",
            None,
            MetricType::Gauge,
        )?;
        for (label, part) in parts() {
            let gauge = ConstGauge::new(u64::from(part.error.is_some()));
            gauge.encode(failing.encode_family(&[("part", label)])?)?;
        }
        Ok(())
    }

    fn encode_gauges(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let gauges = (self.0.gauges)();
        gauge(encoder, "decisions_live", "Decisions in force", gauges.decisions_live)?;
        gauge(encoder, "plan_version", "Version of the plan in force", gauges.plan_version)?;
        gauge(
            encoder,
            "view_revision",
            "Changes of the merged fleet state since the start",
            gauges.view_revision,
        )?;
        gauge(
            encoder,
            "fleet_connected",
            "1 while the fleet can be reached",
            u64::from(gauges.fleet_connected),
        )?;
        gauge(encoder, "nodes_online", "Nodes heard of lately, this one included", gauges.nodes_online)?;
        gauge(
            encoder,
            "history_waiting",
            "Rows of the history that the control node furthest behind lacks",
            gauges.history_waiting,
        )?;
        gauge(
            encoder,
            "history_missed",
            "Rows that other nodes of the site deleted before they were copied here",
            gauges.history_missed,
        )?;
        learning::encode(encoder, &gauges.learning)?;
        if let Some(ok) = gauges.self_test {
            let help = "1 while the node's attacks on itself are refused and what is harmless passes; absent while that is not known";
            gauge(encoder, "selftest_ok", help, u64::from(ok))?;
        }
        let (sent, failed) = gauges.reports;
        let reports = ("reports", "Reports that were sent by themselves, or were given up");
        labelled(encoder, reports, "outcome", [("sent", sent), ("failed", failed)])?;
        let help = "When a certificate that visitors are shown ends, in Unix seconds";
        let name = "tls_certificate_expires_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (file, expires_at_ms) in &gauges.certificates {
            let labels = [("file", file.as_str())];
            ConstGauge::new(expires_at_ms / 1_000).encode(family.encode_family(&labels)?)?;
        }
        latency::encode_apps(encoder, &self.0.counters, &gauges.apps)?;
        gauge(
            encoder,
            "overload_level",
            "How much load the node sheds: 0 none, 4 all",
            gauges.overload_level,
        )?;
        let help = "What the node uses of a limit beyond which it sheds load, in per cent";
        let mut family = encoder.encode_descriptor("usage_percent", help, None, MetricType::Gauge)?;
        for (resource, percent) in &gauges.usage_percent {
            ConstGauge::new(*percent).encode(family.encode_family(&[("resource", *resource)])?)?;
        }
        encode_rates(encoder, &gauges)?;
        upstreams::encode(encoder, &gauges)
    }
}

fn encode_tls(encoder: &mut DescriptorEncoder<'_>, workers: &[Arc<WorkerCounters>]) -> std::fmt::Result {
    let versions = TLS_VERSIONS.iter().map(|(version, count)| (*version, sum(workers, count)));
    labelled(encoder, ("tls_handshakes", "TLS handshakes that came to a session"), "version", versions)?;
    let total = |of: fn(&WorkerCounters) -> &[AtomicU64], place: usize| sum_at(workers, of, place);
    let groups = KeyExchange::ALL.iter().map(|group| group.name()).zip(0..);
    let groups = groups.map(|(group, place)| (group, total(|c| &c.tls_key_exchanges, place)));
    labelled(encoder, ("tls_key_exchanges", "How keys of TLS sessions were agreed on"), "group", groups)?;
    let failures = TlsFailure::ALL.iter().map(|failure| failure.name()).zip(0..);
    let failures = failures.map(|(failure, place)| (failure, total(|c| &c.tls_failures, place)));
    labelled(
        encoder,
        ("tls_failures", "Connections to TLS listeners without a session"),
        "reason",
        failures,
    )?;
    let failures = ProxyFailure::ALL.iter().map(|failure| failure.name()).zip(0..);
    let failures = failures.map(|(failure, place)| (failure, total(|c| &c.proxy_failures, place)));
    let about = "Connections to listeners behind balancers that were closed without a request";
    labelled(encoder, ("proxy_failures", about), "reason", failures)
}

fn encode_rates(encoder: &mut DescriptorEncoder<'_>, gauges: &NodeGauges) -> std::fmt::Result {
    let help = "Requests that a rate limit was about, by what became of them";
    let mut family = encoder.encode_descriptor("rate_limit_requests", help, None, MetricType::Counter)?;
    for limit in &gauges.rate_limits {
        let outcomes =
            [("admitted", limit.admitted), ("refused", limit.refused), ("observed", limit.observed)];
        for (outcome, count) in outcomes {
            let labels = [("app", limit.app.as_str()), ("limit", limit.limit.as_str()), ("outcome", outcome)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    let help = "Requests admitted without being counted, because the table of rates was full";
    counter(encoder, "rate_limit_untracked", help, gauges.rate_untracked)?;
    gauge(encoder, "rate_limit_keys", "Keys whose rates are counted", gauges.rate_keys)
}

fn by_class(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    values: impl IntoIterator<Item = (RuleClass, u64)>,
) -> std::fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (class, count) in values {
        // An empty label is as if it were not there.
        let confidence = class.confidence().map_or("", Confidence::name);
        let labels = [("class", class.name()), ("confidence", confidence)];
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> std::fmt::Result {
    ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> std::fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn labelled(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    label: &'static str,
    values: impl IntoIterator<Item = (&'static str, u64)>,
) -> std::fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value, count) in values {
        ConstCounter::new(count).encode(family.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}
