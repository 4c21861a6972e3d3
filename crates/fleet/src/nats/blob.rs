//! Blobs: in the object store for the others, in redb for ourselves; named by what they hold, so no copy can lie.

use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::header::NATS_ROLLUP;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::object_store::{
    Config, GetErrorKind, InfoErrorKind, Object, ObjectMetadata, ObjectStore,
};
use async_nats::jetstream::stream::{self, DirectGetErrorKind};
use bytes::Bytes;
use futures_util::TryStreamExt;
use phalanx_model::limits::FLEET_BLOB_BYTES_MAX;
use tokio::io::AsyncReadExt;

use super::Inner;
use crate::local::{forget_blob, get_blob, put_blob};
use crate::{BlobHash, FleetError};

/// Keeps a blob here, then shares it. Fails if it cannot be shared now; it is kept all the same, and may be put again.
pub(super) async fn put(inner: Arc<Inner>, bytes: Bytes) -> Result<BlobHash, FleetError> {
    put_blob(Arc::clone(&inner.store), bytes.clone()).await?;
    share(inner, bytes).await
}

/// Shares a blob.
pub(super) async fn share(inner: Arc<Inner>, bytes: Bytes) -> Result<BlobHash, FleetError> {
    let hash = BlobHash::of(&bytes);
    let bucket = bucket(&inner).await?;
    let mut reader: &[u8] = &bytes;
    let name = hash.as_str().to_owned();
    let described = ObjectMetadata { name, chunk_size: Some(CHUNK_BYTES), ..ObjectMetadata::default() };
    bucket.put(described, &mut reader).await.map_err(|error| FleetError::Unreachable(error.to_string()))?;
    Ok(hash)
}

/// Finds a blob here or at the others.
pub(super) async fn get(inner: Arc<Inner>, hash: BlobHash) -> Result<Option<Bytes>, FleetError> {
    if let Some(bytes) = get_blob(Arc::clone(&inner.store), hash.clone()).await? {
        return Ok(Some(bytes));
    }
    let Some(bytes) = fetch(Arc::clone(&inner), hash).await? else { return Ok(None) };
    put_blob(Arc::clone(&inner.store), bytes.clone()).await?;
    Ok(Some(bytes))
}

/// Finds a blob at the others.
pub(super) async fn fetch(inner: Arc<Inner>, hash: BlobHash) -> Result<Option<Bytes>, FleetError> {
    let Some(object) = find(&inner, &hash).await? else { return Ok(None) };
    let limit = u64::try_from(FLEET_BLOB_BYTES_MAX).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = object.take(limit + 1).read_to_end(&mut bytes).await;
    read.map_err(|error| FleetError::Unreachable(error.to_string()))?;
    if bytes.len() > FLEET_BLOB_BYTES_MAX || BlobHash::of(&bytes) != hash {
        tracing::warn!(hash = hash.as_str(), "blob is not what its name says, refused");
        return Ok(None);
    }
    Ok(Some(bytes.into()))
}

/// In this site's store, then in the copies of other sites'.
async fn find(inner: &Inner, hash: &BlobHash) -> Result<Option<Object>, FleetError> {
    let unreachable = |error: String| FleetError::Unreachable(error);
    let mut buckets = vec![(BUCKET.to_owned(), bucket(inner).await?)];
    if inner.client().server_info().domain.is_some() {
        let mut names = inner.jetstream().stream_names();
        while let Some(name) = names.try_next().await.map_err(|error| unreachable(error.to_string()))? {
            let Some(copied) = name.strip_prefix(STREAM).filter(|copied| !copied.is_empty()) else {
                continue;
            };
            let name = format!("{BUCKET}{copied}");
            let copy = inner.jetstream().get_object_store(&name).await;
            buckets.extend(copy.ok().map(|copy| (name, copy)));
        }
    }
    for (name, bucket) in buckets {
        match bucket.get(hash.as_str()).await {
            Ok(mut object) => {
                // In a copy it is still described as in the original, and would be looked for there.
                object.info.bucket = name;
                return Ok(Some(object));
            }
            Err(error) if error.kind() == GetErrorKind::NotFound => {}
            Err(error) => return Err(unreachable(error.to_string())),
        }
    }
    Ok(None)
}

/// Forgets a blob here, then for the others. In a fleet of sites with servers of their own, for those of this site.
///
/// Logins of an enrolled fleet may not purge. So the description is replaced by one of a deleted object, and the chunks by an
/// empty message, which every login that may put blobs may do.
pub(super) async fn forget(inner: Arc<Inner>, hash: BlobHash) -> Result<(), FleetError> {
    forget_blob(Arc::clone(&inner.store), hash.clone()).await?;
    unshare(inner, hash).await
}

/// Forgets a blob for the others.
pub(super) async fn unshare(inner: Arc<Inner>, hash: BlobHash) -> Result<(), FleetError> {
    let mut info = match bucket(&inner).await?.info(hash.as_str()).await {
        Ok(info) if !info.deleted => info,
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == InfoErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FleetError::Unreachable(error.to_string())),
    };
    (info.chunks, info.size, info.deleted) = (0, 0, true);
    let described = serde_json::to_vec(&info).map_err(|error| FleetError::Unreachable(error.to_string()))?;
    let name = data_encoding::BASE64URL.encode(hash.as_str().as_bytes());
    roll_up(&inner, format!("$O.{BUCKET}.M.{name}"), described.into()).await?;
    roll_up(&inner, format!("$O.{BUCKET}.C.{}", info.nuid), Bytes::new()).await
}

/// Keeps something small under a name that no blob has, as a message of its own in the stream of the blobs' contents.
pub(super) async fn mark_put(inner: Arc<Inner>, name: String, bytes: Bytes) -> Result<(), FleetError> {
    bucket(&inner).await?;
    roll_up(&inner, mark(&name), bytes).await
}

/// What is kept under such a name.
pub(super) async fn mark_get(inner: Arc<Inner>, name: String) -> Result<Option<Bytes>, FleetError> {
    if !inner.connected() {
        return Err(FleetError::Unreachable("no link".into()));
    }
    let stream = inner.jetstream().get_stream_no_info(format!("OBJ_{BUCKET}")).await;
    let stream = stream.map_err(|error| FleetError::Unreachable(error.to_string()))?;
    match stream.direct_get_last_for_subject(mark(&name)).await {
        Ok(message) => Ok(Some(message.payload)),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(FleetError::Unreachable(error.to_string())),
    }
}

fn mark(name: &str) -> String {
    format!("$O.{BUCKET}.C.mark.{name}")
}

/// Makes this the only message of a subject.
async fn roll_up(inner: &Inner, subject: String, bytes: Bytes) -> Result<(), FleetError> {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_ROLLUP, "sub");
    let unreachable = |error: PublishError| FleetError::Unreachable(error.to_string());
    let sent = inner.jetstream().publish_with_headers(subject, headers, bytes).await.map_err(unreachable)?;
    sent.await.map(drop).map_err(unreachable)
}

/// The stream of a site's blobs, as the client would make it.
pub(super) fn config(replicas: usize) -> stream::Config {
    stream::Config {
        name: STREAM.into(),
        subjects: vec![format!("$O.{BUCKET}.C.>"), format!("$O.{BUCKET}.M.>")],
        discard: stream::DiscardPolicy::New,
        storage: stream::StorageType::File,
        num_replicas: replicas,
        allow_rollup: true,
        allow_direct: true,
        ..stream::Config::default()
    }
}

/// The name under which another site's blobs are copied.
pub(super) fn bucket_of(site: &str) -> String {
    format!("{BUCKET}_{site}")
}

/// Makes the store of blobs, unless it is there.
pub(super) async fn ensure(inner: &Inner) -> Result<(), String> {
    bucket(inner).await.map(drop).map_err(|error| error.to_string())
}

async fn bucket(inner: &Inner) -> Result<ObjectStore, FleetError> {
    if !inner.connected() {
        return Err(FleetError::Unreachable("no link".into()));
    }
    if let Ok(bucket) = inner.jetstream().get_object_store(BUCKET).await {
        return Ok(bucket);
    }
    if !inner.makes_streams() {
        let cause = "the store of blobs is not there; the authority's node makes it, or `phalanx fleet serve` of this site";
        return Err(FleetError::Unreachable(cause.into()));
    }
    let config = Config { bucket: BUCKET.into(), num_replicas: inner.replicas, ..Config::default() };
    let bucket = inner.jetstream().create_object_store(config).await;
    bucket.map_err(|error| FleetError::Unreachable(error.to_string()))
}

/// Of a blob that travels at once. Logins of an enrolled fleet may send twice that in one message.
const CHUNK_BYTES: usize = 64 * 1024;
pub(super) const BUCKET: &str = "PHXBLOB";
pub(super) const STREAM: &str = "OBJ_PHXBLOB";
