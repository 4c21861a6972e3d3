//! The streams: one per topic and site, the last record of each subject.

use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, StorageType};

use std::collections::BTreeMap;

use futures_util::TryStreamExt;

use super::Inner;
use crate::{FleetError, Topic};

/// The name of a topic's stream of a site: `DEC_fra`.
pub(super) fn name(topic: Topic, site: &str) -> Option<String> {
    prefix(topic).map(|prefix| format!("{prefix}{site}"))
}

/// What the names of a topic's streams start with. What is not kept has none.
pub(super) fn prefix(topic: Topic) -> Option<&'static str> {
    match topic {
        Topic::Decisions => Some("DEC_"),
        Topic::Nodes => Some("NODE_"),
        Topic::Revocations => Some("REV_"),
        Topic::Policy => Some("POL_"),
        Topic::Orders => Some("ORD_"),
        Topic::Heartbeats
        | Topic::Counts
        | Topic::CountsToSum
        | Topic::Questions
        | Topic::Answers
        | Topic::Shelves
        | Topic::Sketches
        | Topic::Operators
        | Topic::Histories => None,
    }
}

/// The subjects of a stream, from its name; `None` if it is not of this topic.
pub(super) fn subjects(topic: Topic, stream: &str) -> Option<String> {
    let site = stream.strip_prefix(prefix(topic)?)?;
    phalanx_trust::valid_name(site).then(|| format!("{}.{site}.>", topic.prefix()))
}

/// Makes this site's streams, and those of the sites that this node cares for, unless they are there. A server just started may
/// need a moment: the caller tries again.
pub(super) async fn ensure(inner: &Inner) -> Result<(), String> {
    let mut sites = if inner.makes_streams() { sites(inner) } else { Vec::new() };
    if !sites.iter().any(|site| *site == *inner.author.site) {
        sites.push(inner.author.site.to_string());
    }
    for site in sites {
        for topic in KEPT {
            let Some(config) = config(topic, &site, inner.replicas) else { continue };
            if inner.makes_streams() {
                let stream = inner.jetstream().get_or_create_stream(config).await;
                raise(inner, stream.map_err(|error| error.to_string())?.cached_info()).await?;
                continue;
            }
            if topic == Topic::Orders {
                // The authority's node may be of a version that does not know of them.
                continue;
            }
            // In an enrolled fleet only the authority's node may make streams, or who keeps the site's server.
            let found = inner.jetstream().get_stream(&config.name).await;
            found
                .map_err(|_| format!("stream {} is not there; the authority's node makes it, or `phalanx fleet serve` of this site", config.name))?;
        }
    }
    if inner.makes_streams() {
        super::blob::make_store(inner).await.map_err(|error| error.to_string())?;
        // Not by whoever takes the first lease: an enrolled control node may take it, and make nothing.
        super::lease::stream(inner).await.map_err(|error| error.to_string())?;
        for name in [super::blob::STREAM, super::lease::STREAM] {
            if let Ok(stream) = inner.jetstream().get_stream(name).await {
                raise(inner, stream.cached_info()).await?;
            }
        }
    }
    Ok(())
}

/// Gives a stream that was made with fewer copies as many as the settings say now. Never fewer: nodes may be set differently while
/// an operator changes them. Enrolled nodes may not change streams.
async fn raise(inner: &Inner, stream: &Info) -> Result<(), String> {
    if stream.config.num_replicas >= inner.replicas || inner.stewarded.is_some() {
        return Ok(());
    }
    let config = Config { num_replicas: inner.replicas, ..stream.config.clone() };
    tracing::info!(stream = config.name, copies = inner.replicas, "stream gets more copies");
    inner.jetstream().update_stream(config).await.map(drop).map_err(|error| error.to_string())
}

/// The last sequence of each stream of decisions.
pub(super) async fn positions(inner: std::sync::Arc<Inner>) -> Result<BTreeMap<String, u64>, FleetError> {
    let unreachable = |error: String| FleetError::Unreachable(error);
    let names: Vec<String> = inner
        .jetstream()
        .stream_names()
        .try_collect()
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    let mut positions = BTreeMap::new();
    for name in names.into_iter().take(STREAMS_MAX) {
        let Some(site) = prefix(Topic::Decisions).and_then(|prefix| name.strip_prefix(prefix)) else {
            continue;
        };
        let stream =
            inner.jetstream().get_stream(&name).await.map_err(|error| unreachable(error.to_string()))?;
        positions.insert(site.to_owned(), stream.cached_info().state.last_sequence);
    }
    Ok(positions)
}

/// The sites that this node cares for.
pub(super) fn sites(inner: &Inner) -> Vec<String> {
    inner.stewarded.as_ref().map(|sites| sites()).unwrap_or_default()
}

pub(super) fn config(topic: Topic, site: &str, replicas: usize) -> Option<Config> {
    let name = name(topic, site)?;
    let subjects = vec![subjects(topic, &name)?];
    Some(Config {
        name,
        subjects,
        max_messages_per_subject: 1,
        max_messages: MESSAGES_MAX,
        max_message_size: i32::try_from(phalanx_trust::record::RECORD_BYTES_MAX).unwrap_or(i32::MAX) + 1024,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: replicas,
        allow_message_ttl: true,
        allow_direct: true,
        ..Config::default()
    })
}

/// Streams that are looked at: a few for each of 64 sites.
const STREAMS_MAX: usize = 512;
/// The topics that have streams.
pub(super) const KEPT: [Topic; 5] =
    [Topic::Revocations, Topic::Policy, Topic::Nodes, Topic::Decisions, Topic::Orders];
/// Records in a site's stream: ten nodes with full quotas.
pub(super) const MESSAGES_MAX: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_told_apart_by_name() {
        assert_eq!(subjects(Topic::Decisions, "DEC_fra").as_deref(), Some("phx.dec.fra.>"));
        assert_eq!(subjects(Topic::Decisions, "NODE_fra"), None);
        assert_eq!(subjects(Topic::Decisions, "DEC_x.y"), None);
        assert_eq!(subjects(Topic::Heartbeats, "DEC_fra"), None);
        assert_eq!(subjects(Topic::Revocations, "REV_fra").as_deref(), Some("phx.rev.fra.>"));
        assert_eq!(name(Topic::Nodes, "fra").as_deref(), Some("NODE_fra"));
    }
}
