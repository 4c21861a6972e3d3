//! Metrics of the node's learner.

use prometheus_client::encoding::DescriptorEncoder;

use super::{LearningCounts, counter, gauge};

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, counts: &LearningCounts) -> std::fmt::Result {
    counter(encoder, "learn_events", "Requests that were learned from", counts.events)?;
    counter(
        encoder,
        "learn_events_dropped",
        "Requests not learned from, because the learner was behind",
        counts.events_dropped,
    )?;
    counter(
        encoder,
        "learn_refused",
        "What other nodes told and was refused: more than can have been, unreadable, or too often",
        counts.refused,
    )?;
    counter(encoder, "learn_signals", "Findings of this node's detectors", counts.signals)?;
    counter(encoder, "learn_proposals", "Orders proposed because of findings", counts.proposals)?;
    gauge(encoder, "learn_actors", "Addresses, sessions and accounts that are known", counts.actors)?;
    gauge(encoder, "learn_peers_heard", "Nodes that told something in the last minute", counts.peers_heard)?;
    gauge(encoder, "learn_usual", "Apps and routes of which it is learned what is usual", counts.usual)?;
    gauge(encoder, "learn_usual_known", "Those of which it is known what is usual", counts.usual_known)?;
    gauge(encoder, "incidents_open", "Open incidents", counts.incidents_open)
}
