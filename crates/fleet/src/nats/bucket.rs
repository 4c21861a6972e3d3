//! Reading blobs straight from their stream.
//!
//! The client's own way makes a reader on the server for each blob, which stays for minutes, and a stream has only so many: a fleet
//! that reads a few hundred blobs in a row can read none for a while. A direct request leaves nothing behind.

use std::fmt::Display;

use async_nats::Message;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{LastRawMessageError, LastRawMessageErrorKind, Stream};
use futures_util::{StreamExt, TryStreamExt};
use phalanx_model::limits::FLEET_BLOB_BYTES_MAX;
use serde::{Deserialize, Serialize};

use super::blob::{BUCKET, STREAM};
use super::{Inner, REQUEST_TIMEOUT};
use crate::{BlobHash, FleetError};

/// How a store describes a blob: as the object stores of NATS' clients do, of which this is a part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Described {
    /// The blob's hash.
    pub(super) name: String,
    /// The store that it was put into; a copy says the same.
    pub(super) bucket: String,
    /// What the subject of its chunks ends with.
    pub(super) nuid: String,
    /// In bytes.
    pub(super) size: usize,
    pub(super) chunks: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<String>,
    #[serde(default)]
    pub(super) deleted: bool,
}

/// Where a store describes a blob.
pub(super) fn described_at(bucket: &str, hash: &BlobHash) -> String {
    format!("$O.{bucket}.M.{}", data_encoding::BASE64URL.encode(hash.as_str().as_bytes()))
}

/// A store of blobs on the server of this site.
pub(super) struct Bucket {
    name: String,
    pub(super) stream: Stream<()>,
}

impl Bucket {
    /// This site's own.
    pub(super) async fn own(inner: &Inner) -> Result<Self, FleetError> {
        Self::open(inner, BUCKET.to_owned()).await
    }

    /// This site's own, then the copies of other sites'.
    pub(super) async fn all(inner: &Inner) -> Result<Vec<Self>, FleetError> {
        let mut all = vec![Self::own(inner).await?];
        if inner.client().server_info().domain.is_some() {
            let mut streams = inner.jetstream().stream_names();
            while let Some(name) = streams.try_next().await.map_err(unreachable)? {
                if let Some(copied) = name.strip_prefix(STREAM).filter(|copied| !copied.is_empty()) {
                    all.push(Self::open(inner, format!("{BUCKET}{copied}")).await?);
                }
            }
        }
        Ok(all)
    }

    async fn open(inner: &Inner, name: String) -> Result<Self, FleetError> {
        if !inner.connected() {
            return Err(unreachable("no link"));
        }
        let stream = inner.jetstream().get_stream_no_info(format!("OBJ_{name}")).await;
        Ok(Self { name, stream: stream.map_err(unreachable)? })
    }

    /// What the store says of a blob. Any server that has the stream may answer, and one that lags does not know it yet: so the
    /// stream's leader is asked before it is not there.
    pub(super) async fn describe(&self, hash: &BlobHash) -> Result<Option<Described>, FleetError> {
        let subject = described_at(&self.name, hash);
        let message = match self.stream.direct_get_last_for_subject(&subject).await {
            Ok(message) => message,
            Err(_) => match self.stream.get_last_raw_message_by_subject(&subject).await {
                Ok(message) => message,
                Err(error) if is_nothing(&error) => return Ok(None),
                Err(error) => return Err(unreachable(error)),
            },
        };
        let described: Described = serde_json::from_slice(&message.payload).map_err(unreachable)?;
        Ok((!described.deleted).then_some(described))
    }

    /// A blob's bytes, at most as many as a blob may have. They are still to be compared with its hash.
    pub(super) async fn read(&self, inner: &Inner, hash: &BlobHash) -> Result<Option<Vec<u8>>, FleetError> {
        let Some(described) = self.describe(hash).await? else { return Ok(None) };
        if described.size > FLEET_BLOB_BYTES_MAX {
            tracing::warn!(hash = hash.as_str(), bytes = described.size, "blob is too large, refused");
            return Ok(None);
        }
        let subject = format!("$O.{}.C.{}", self.name, described.nuid);
        let mut chunks = Chunks { subject, next: 1, bytes: Vec::new(), size: described.size };
        while !chunks.are_all() {
            if !self.read_many(inner, &mut chunks).await? && !self.read_of_leader(&mut chunks).await? {
                return Ok(None);
            }
        }
        Ok(Some(chunks.bytes))
    }

    /// Reads chunks, as many as one request brings. False: whoever answered has no more.
    async fn read_many(&self, inner: &Inner, chunks: &mut Chunks) -> Result<bool, FleetError> {
        let client = inner.client();
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(unreachable)?;
        let ask = serde_json::json!({ "seq": chunks.next, "next_by_subj": chunks.subject, "batch": CHUNKS_AT_ONCE });
        let to = format!("$JS.API.DIRECT.GET.OBJ_{}", self.name);
        client.publish_with_reply(to, inbox, ask.to_string().into()).await.map_err(unreachable)?;
        let before = chunks.next;
        while !chunks.are_all() {
            let answer = tokio::time::timeout(REQUEST_TIMEOUT, answers.next()).await;
            let answer = answer.map_err(|_| unreachable("the server answers too slowly"))?;
            // What has a status is no chunk: the end of this batch, or that there is nothing.
            let Some(Message { status: None, headers: Some(headers), payload, .. }) = answer else { break };
            let sequence = headers.get(SEQUENCE).and_then(|value| value.as_str().parse().ok());
            let Some(sequence) = sequence else { break };
            chunks.take(sequence, &payload);
        }
        Ok(chunks.next > before)
    }

    /// Reads one chunk by way of the stream's leader. False: there is none.
    async fn read_of_leader(&self, chunks: &mut Chunks) -> Result<bool, FleetError> {
        let next =
            self.stream.raw_message_builder().sequence(chunks.next).next_by_subject(chunks.subject.clone());
        match next.send().await {
            Ok(message) => {
                chunks.take(message.sequence, &message.payload);
                Ok(true)
            }
            Err(error) if is_nothing(&error) => Ok(false),
            Err(error) => Err(unreachable(error)),
        }
    }
}

/// What has been read of a blob.
struct Chunks {
    subject: String,
    /// No chunk before this sequence is missing.
    next: u64,
    bytes: Vec<u8>,
    size: usize,
}

impl Chunks {
    fn take(&mut self, sequence: u64, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        self.next = sequence.saturating_add(1);
    }

    fn are_all(&self) -> bool {
        self.bytes.len() >= self.size
    }
}

fn is_nothing(error: &LastRawMessageError) -> bool {
    match error.kind() {
        LastRawMessageErrorKind::NoMessageFound => true,
        LastRawMessageErrorKind::JetStream(error) => error.error_code() == ErrorCode::STREAM_NOT_FOUND,
        _ => false,
    }
}

pub(super) fn unreachable(error: impl Display) -> FleetError {
    FleetError::Unreachable(error.to_string())
}

const SEQUENCE: &str = "Nats-Sequence";
/// Chunks that one request asks for: 4 MiB of those that we write.
const CHUNKS_AT_ONCE: usize = 64;
