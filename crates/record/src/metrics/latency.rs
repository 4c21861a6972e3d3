//! Histograms of where requests spend their time, and counts by app.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use phalanx_model::ChallengeStep;
use phalanx_model::counters::{Phase, WorkerCounters};
use phalanx_model::latency::{AppCount, BUCKETS_US, Latencies, LatencyTotal};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Unit;

pub(super) fn encode_phases(
    encoder: &mut DescriptorEncoder<'_>,
    workers: &[Arc<WorkerCounters>],
) -> std::fmt::Result {
    let help = "Time of requests in each phase that they went through";
    let unit = Some(&Unit::Seconds);
    let mut family = encoder.encode_descriptor("phase_duration", help, unit, MetricType::Histogram)?;
    for phase in Phase::ALL {
        let total = total(workers.iter().filter_map(|worker| worker.phases.get(*phase as usize)));
        histogram(&total, family.encode_family(&[("phase", phase.name())])?)?;
    }
    Ok(())
}

/// The apps' own figures. An app that no request came for yet has series, too, so that a first error is seen as a rise.
pub(super) fn encode_apps(
    encoder: &mut DescriptorEncoder<'_>,
    workers: &[Arc<WorkerCounters>],
    apps: &[(usize, String)],
) -> std::fmt::Result {
    let of = |slot: usize| workers.iter().filter_map(move |worker| worker.apps.of(slot));
    let help = "Replies by app and class of their status; none where the client got none";
    let mut family = encoder.encode_descriptor("responses", help, None, MetricType::Counter)?;
    for (slot, app) in apps {
        for (class, code) in CLASSES.iter().enumerate() {
            let count = |one: &AppCount| one.replies.get(class).map_or(0, |c| c.load(Ordering::Relaxed));
            let labels = [("app", app.as_str()), ("code", *code)];
            ConstCounter::new(of(*slot).map(count).sum::<u64>()).encode(family.encode_family(&labels)?)?;
        }
    }
    let help = "Requests that had to do with a challenge, by app";
    let mut family = encoder.encode_descriptor("challenges", help, None, MetricType::Counter)?;
    for (slot, app) in apps {
        for (place, step) in ChallengeStep::ALL.iter().enumerate() {
            let count = |one: &AppCount| one.challenges.get(place).map_or(0, |c| c.load(Ordering::Relaxed));
            let labels = [("app", app.as_str()), ("step", step.name())];
            ConstCounter::new(of(*slot).map(count).sum::<u64>()).encode(family.encode_family(&labels)?)?;
        }
    }
    let help = "Time from a request's first byte to the last of its reply, by app";
    let unit = Some(&Unit::Seconds);
    let mut family = encoder.encode_descriptor("request_duration", help, unit, MetricType::Histogram)?;
    for (slot, app) in apps {
        let total = total(of(*slot).map(|one| &one.times));
        histogram(&total, family.encode_family(&[("app", app.as_str())])?)?;
    }
    Ok(())
}

fn total<'a>(all: impl Iterator<Item = &'a Latencies>) -> LatencyTotal {
    let mut total = LatencyTotal::default();
    all.for_each(|latencies| latencies.add_to(&mut total));
    total
}

fn histogram(total: &LatencyTotal, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
    let ends = BUCKETS_US.iter().map(|&us| seconds(us)).chain([f64::INFINITY]);
    let buckets: Vec<_> = ends.zip(total.buckets).collect();
    // Of one reading: the count is that of the buckets, whatever is added meanwhile.
    let count = total.buckets.iter().sum();
    encoder.encode_histogram::<[(&str, &str); 0]>(seconds(total.sum_us), count, &buckets, None)
}

#[expect(clippy::cast_precision_loss, reason = "seconds for people and their dashboards")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// By the first digit of a status.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
