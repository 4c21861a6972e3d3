//! Blobs: in the object store for the others, in redb for ourselves; named by what they hold, so no copy can lie.

use std::sync::Arc;

use async_nats::jetstream::object_store::{Config, DeleteErrorKind, GetErrorKind, ObjectStore};
use bytes::Bytes;
use phalanx_model::limits::FLEET_BLOB_BYTES_MAX;
use tokio::io::AsyncReadExt;

use super::Inner;
use crate::local::{forget_blob, get_blob, put_blob};
use crate::{BlobHash, FleetError};

/// Keeps a blob here, then shares it. Fails if it cannot be shared now; it is kept all the same, and may be put again.
pub(super) async fn put(inner: Arc<Inner>, bytes: Bytes) -> Result<BlobHash, FleetError> {
    let hash = put_blob(Arc::clone(&inner.store), bytes.clone()).await?;
    let bucket = bucket(&inner).await?;
    let mut reader: &[u8] = &bytes;
    bucket
        .put(hash.as_str(), &mut reader)
        .await
        .map_err(|error| FleetError::Unreachable(error.to_string()))?;
    Ok(hash)
}

/// Finds a blob here or at the others.
pub(super) async fn get(inner: Arc<Inner>, hash: BlobHash) -> Result<Option<Bytes>, FleetError> {
    if let Some(bytes) = get_blob(Arc::clone(&inner.store), hash.clone()).await? {
        return Ok(Some(bytes));
    }
    let bucket = bucket(&inner).await?;
    let object = match bucket.get(hash.as_str()).await {
        Ok(object) => object,
        Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FleetError::Unreachable(error.to_string())),
    };
    let limit = u64::try_from(FLEET_BLOB_BYTES_MAX).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = object.take(limit + 1).read_to_end(&mut bytes).await;
    read.map_err(|error| FleetError::Unreachable(error.to_string()))?;
    if bytes.len() > FLEET_BLOB_BYTES_MAX || BlobHash::of(&bytes) != hash {
        tracing::warn!(hash = hash.as_str(), "blob is not what its name says, refused");
        return Ok(None);
    }
    let bytes = Bytes::from(bytes);
    put_blob(Arc::clone(&inner.store), bytes.clone()).await?;
    Ok(Some(bytes))
}

/// Forgets a blob here, then for the others.
pub(super) async fn forget(inner: Arc<Inner>, hash: BlobHash) -> Result<(), FleetError> {
    forget_blob(Arc::clone(&inner.store), hash.clone()).await?;
    match bucket(&inner).await?.delete(hash.as_str()).await {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == DeleteErrorKind::NotFound => Ok(()),
        Err(error) => Err(FleetError::Unreachable(error.to_string())),
    }
}

async fn bucket(inner: &Inner) -> Result<ObjectStore, FleetError> {
    if !inner.connected() {
        return Err(FleetError::Unreachable("no link".into()));
    }
    if let Ok(bucket) = inner.jetstream.get_object_store(BUCKET).await {
        return Ok(bucket);
    }
    let config = Config { bucket: BUCKET.into(), num_replicas: inner.replicas, ..Config::default() };
    let bucket = inner.jetstream.create_object_store(config).await;
    bucket.map_err(|error| FleetError::Unreachable(error.to_string()))
}

const BUCKET: &str = "PHXBLOB";
