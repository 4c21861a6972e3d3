//! Metrics of upstreams.

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::{NodeGauges, TryCount, UpstreamCount};

type OfUpstream = fn(&UpstreamCount) -> u64;
type OfApp = fn(&TryCount) -> u64;

const GAUGES: &[(&str, &str, OfUpstream)] = &[
    ("upstream_up", "1 while the upstream gets requests", |one| u64::from(one.up)),
    ("upstream_in_flight", "Requests that the upstream is answering", |one| one.in_flight),
];

const COUNTS: &[(&str, &str, OfUpstream)] = &[
    ("upstream_requests", "Requests sent to the upstream", |one| one.requests),
    ("upstream_failures", "Requests that the upstream did not answer, or with 502, 503 or 504", |one| {
        one.failures
    }),
];

const TRIES: &[(&str, &str, OfApp)] = &[
    ("upstream_retries", "Requests sent to another upstream after one failed", |one| one.retries),
    ("upstream_retries_refused", "Requests not sent again because retries had taken their part", |one| {
        one.retries_refused
    }),
    ("upstream_queue_refused", "Requests refused because all upstreams stayed busy", |one| one.queue_refused),
];

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, gauges: &NodeGauges) -> std::fmt::Result {
    for (name, help, of) in GAUGES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for one in &gauges.upstreams {
            let labels = [("app", one.app.as_str()), ("upstream", one.upstream.as_str())];
            ConstGauge::new(of(one)).encode(family.encode_family(&labels)?)?;
        }
    }
    for (name, help, of) in COUNTS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for one in &gauges.upstreams {
            let labels = [("app", one.app.as_str()), ("upstream", one.upstream.as_str())];
            ConstCounter::new(of(one)).encode(family.encode_family(&labels)?)?;
        }
    }
    for (name, help, of) in TRIES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for one in &gauges.tries {
            ConstCounter::new(of(one)).encode(family.encode_family(&[("app", one.app.as_str())])?)?;
        }
    }
    let help = "Requests that wait because all upstreams are busy";
    let mut family = encoder.encode_descriptor("upstream_waiting", help, None, MetricType::Gauge)?;
    for one in &gauges.tries {
        ConstGauge::new(one.waiting).encode(family.encode_family(&[("app", one.app.as_str())])?)?;
    }
    Ok(())
}
