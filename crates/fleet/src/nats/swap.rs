//! Compare-and-swap of a record in its stream: the writer says which message it saw last, and the server refuses any other.

use std::sync::Arc;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use bytes::Bytes;

use super::{Inner, streams};
use crate::{FleetError, Put, Topic};

/// The last message of a subject, with its sequence; 0 where there is none.
pub(super) async fn last(
    inner: Arc<Inner>,
    topic: Topic,
    subject: String,
) -> Result<(u64, Option<Bytes>), FleetError> {
    if !inner.connected() {
        return Err(FleetError::Unreachable("no link".into()));
    }
    let site =
        subject.strip_prefix(topic.prefix()).and_then(|rest| rest.split('.').nth(1)).unwrap_or_default();
    let name = streams::name(topic, site).ok_or(FleetError::Impossible("this topic is not kept"))?;
    let stream = inner.jetstream().get_stream(&name).await;
    let stream = stream.map_err(|error| FleetError::Unreachable(format!("stream {name}: {error}")))?;
    if super::keeper::is_copy(stream.cached_info()) {
        // A copy numbers its messages anew, and lags.
        return Err(FleetError::Elsewhere(site.to_owned()));
    }
    match stream.get_last_raw_message_by_subject(&subject).await {
        Ok(message) => Ok((message.sequence, Some(message.payload))),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok((0, None)),
        Err(error) => Err(FleetError::Unreachable(error.to_string())),
    }
}

/// Publishes to the stream if the subject's last message is still the one of this sequence.
pub(super) async fn put_after(inner: Arc<Inner>, put: Put, revision: u64) -> Result<bool, FleetError> {
    if !inner.connected() {
        return Err(FleetError::Unreachable("no link".into()));
    }
    let message = PublishMessage::build().payload(put.bytes).expected_last_subject_sequence(revision);
    let confirmed = async { inner.jetstream().send_publish(put.subject, message).await?.await };
    match confirmed.await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(false),
        Err(error) => Err(FleetError::Unreachable(error.to_string())),
    }
}
