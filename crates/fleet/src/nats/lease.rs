//! Leases: one message per name in a stream, taken by compare-and-set, ended by time-to-live.
//!
//! The stream's sequence is the fencing token: it rises with each holder and each renewal. The holder stops by its own clock,
//! counted from before it asked, so it stops before the server lets the next one in.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, LastRawMessageErrorKind, StorageType, Stream};

use super::Inner;
use crate::{FleetError, Lease};

/// Takes or renews a lease.
pub(super) async fn take(
    inner: Arc<Inner>,
    name: String,
    ttl: Duration,
) -> Result<Option<Lease>, FleetError> {
    if !phalanx_trust::valid_name(&name) {
        return Err(FleetError::setting("lease", "is no name", "use 1 to 63 of a-z, 0-9, - and _"));
    }
    if !inner.connected() {
        return Err(FleetError::Unreachable("no link".into()));
    }
    let stream = stream(&inner).await?;
    let (subject, holder) =
        (format!("phx.lease.{name}"), format!("{}/{}", inner.author.site, inner.author.node));
    let last = match stream.get_last_raw_message_by_subject(&subject).await {
        Ok(message) => claim(Some((message.sequence, &message.payload)), holder.as_bytes()),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
            claim(None, holder.as_bytes())
        }
        Err(error) => return Err(FleetError::Unreachable(error.to_string())),
    };
    let Some(last) = last else { return Ok(None) };
    let seconds = ttl.as_secs().max(1);
    let until_ms = inner.clock.now_ms().saturating_add(seconds * 1000);
    let message = PublishMessage::build()
        .payload(holder.into())
        .ttl(Duration::from_secs(seconds))
        .expected_last_subject_sequence(last);
    let confirmed = async { inner.jetstream().send_publish(subject, message).await?.await };
    match confirmed.await {
        Ok(ack) => Ok(Some(Lease { token: ack.sequence, until_ms })),
        Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
        Err(error) => Err(FleetError::Unreachable(error.to_string())),
    }
}

/// The sequence that the last message must still have for this node to take a lease; `None` while another holds it.
fn claim(last: Option<(u64, &[u8])>, me: &[u8]) -> Option<u64> {
    match last {
        Some((_, holder)) if holder != me => None,
        Some((sequence, _)) => Some(sequence),
        None => Some(0),
    }
}

/// The stream of leases, made if it is not there and this node may.
pub(super) async fn stream(inner: &Inner) -> Result<Stream, FleetError> {
    let stream = inner.jetstream().get_or_create_stream(config(inner.replicas)).await;
    stream.map_err(|error| FleetError::Unreachable(error.to_string()))
}

/// What that stream is like.
pub(super) fn config(replicas: usize) -> Config {
    Config {
        name: STREAM.into(),
        subjects: vec!["phx.lease.>".into()],
        max_messages_per_subject: 1,
        max_messages: LEASES_MAX,
        storage: StorageType::File,
        num_replicas: replicas,
        allow_message_ttl: true,
        ..Config::default()
    }
}

pub(super) const STREAM: &str = "LEASE";
const LEASES_MAX: i64 = 1024;

#[cfg(test)]
#[path = "lease_model.rs"]
mod model;
