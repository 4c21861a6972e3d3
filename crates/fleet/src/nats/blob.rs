//! Blobs: in the object store for the others, in redb for ourselves; named by what they hold, so no copy can lie.

use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::header::NATS_ROLLUP;
use async_nats::jetstream::stream::{self, DirectGetErrorKind};
use bytes::Bytes;
use data_encoding::{BASE64URL, HEXLOWER};

use super::Inner;
use super::bucket::{Bucket, Described, described_at, unreachable};
use crate::local::{forget_blob, get_blob, put_blob};
use crate::{BlobHash, FleetError};

/// Keeps a blob here, then shares it. Fails if it cannot be shared now; it is kept all the same, and may be put again.
pub(super) async fn put(inner: Arc<Inner>, bytes: Bytes) -> Result<BlobHash, FleetError> {
    put_blob(Arc::clone(&inner.store), bytes.clone()).await?;
    share(inner, bytes).await
}

/// Shares a blob, in the form in which the client would: chunks, then their description. The client itself would purge what was there
/// before, which logins of an enrolled fleet may not; who has the hash has the content, so what is there stays.
pub(super) async fn share(inner: Arc<Inner>, bytes: Bytes) -> Result<BlobHash, FleetError> {
    let hash = BlobHash::of(&bytes);
    make_store(&inner).await?;
    if is_shared(Arc::clone(&inner), hash.clone()).await? {
        return Ok(hash);
    }
    let mut described = Described {
        name: hash.as_str().to_owned(),
        bucket: BUCKET.to_owned(),
        nuid: HEXLOWER.encode(&phalanx_trust::random_bytes::<16>()),
        size: bytes.len(),
        chunks: 0,
        digest: Some(format!("SHA-256={}", BASE64URL.encode(&phalanx_trust::sha256(&bytes)))),
        deleted: false,
    };
    for chunk in bytes.chunks(CHUNK_BYTES) {
        let subject = format!("$O.{BUCKET}.C.{}", described.nuid);
        let sent = inner.jetstream().publish(subject, bytes.slice_ref(chunk)).await;
        sent.map_err(unreachable)?.await.map_err(unreachable)?;
        described.chunks += 1;
    }
    describe(&inner, &hash, &described).await?;
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

/// Finds a blob at the others: in this site's store, then in the copies of other sites'.
pub(super) async fn fetch(inner: Arc<Inner>, hash: BlobHash) -> Result<Option<Bytes>, FleetError> {
    for bucket in Bucket::all(&inner).await? {
        let Some(bytes) = bucket.read(&inner, &hash).await? else { continue };
        if BlobHash::of(&bytes) == hash {
            return Ok(Some(bytes.into()));
        }
        tracing::warn!(hash = hash.as_str(), "blob is not what its name says, refused");
    }
    Ok(None)
}

/// Whether a blob can be had of this site's store.
pub(super) async fn is_shared(inner: Arc<Inner>, hash: BlobHash) -> Result<bool, FleetError> {
    Ok(Bucket::own(&inner).await?.describe(&hash).await?.is_some())
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
    let Some(mut described) = Bucket::own(&inner).await?.describe(&hash).await? else { return Ok(()) };
    (described.chunks, described.size, described.deleted) = (0, 0, true);
    describe(&inner, &hash, &described).await?;
    roll_up(&inner, format!("$O.{BUCKET}.C.{}", described.nuid), Bytes::new()).await
}

async fn describe(inner: &Inner, hash: &BlobHash, described: &Described) -> Result<(), FleetError> {
    let bytes = serde_json::to_vec(described).map_err(unreachable)?;
    roll_up(inner, described_at(BUCKET, hash), bytes.into()).await
}

/// Keeps something small under a name that no blob has, as a message of its own in the stream of the blobs' contents.
pub(super) async fn mark_put(inner: Arc<Inner>, name: String, bytes: Bytes) -> Result<(), FleetError> {
    make_store(&inner).await?;
    roll_up(&inner, mark(&name), bytes).await
}

/// What is kept under such a name.
pub(super) async fn mark_get(inner: Arc<Inner>, name: String) -> Result<Option<Bytes>, FleetError> {
    match Bucket::own(&inner).await?.stream.direct_get_last_for_subject(mark(&name)).await {
        Ok(message) => Ok(Some(message.payload)),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreachable(error)),
    }
}

fn mark(name: &str) -> String {
    format!("$O.{BUCKET}.C.mark.{name}")
}

/// Makes this the only message of a subject.
async fn roll_up(inner: &Inner, subject: String, bytes: Bytes) -> Result<(), FleetError> {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_ROLLUP, "sub");
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
pub(super) async fn make_store(inner: &Inner) -> Result<(), FleetError> {
    if !inner.connected() {
        return Err(unreachable("no link"));
    }
    if inner.jetstream().get_stream(STREAM).await.is_ok() {
        return Ok(());
    }
    if !inner.makes_streams() {
        let cause = "the store of blobs is not there; the authority's node makes it, or `phalanx fleet serve` of this site";
        return Err(unreachable(cause));
    }
    inner.jetstream().create_stream(config(inner.replicas)).await.map(drop).map_err(unreachable)
}

/// Of a blob that travels at once. Logins of an enrolled fleet may send twice that in one message.
const CHUNK_BYTES: usize = 64 * 1024;
pub(super) const BUCKET: &str = "PHXBLOB";
pub(super) const STREAM: &str = "OBJ_PHXBLOB";
