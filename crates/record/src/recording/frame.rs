//! A batch of recorded requests as bytes: what is sealed and written, and read back.
//!
//! Layout: `head length u32 | head, JSON | for each request: facts length u32 | facts, JSON | head length u32 | head | body length u32 | body`,
//! lengths little-endian.
//!
//! INVARIANT: any bytes are read without a panic and without more memory than they have; what is no batch is none.

use std::sync::Arc;

use bytes::Bytes;
use phalanx_model::{Recorded, RecordedBatch};
use serde::{Deserialize, Serialize};

/// What is known of a batch beside its requests.
#[derive(Serialize, Deserialize)]
struct Head {
    app: Arc<str>,
    seen: u64,
}

/// Writes a batch.
pub fn encode(batch: &RecordedBatch) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::new();
    put(&mut out, &serde_json::to_vec(&Head { app: Arc::clone(&batch.app), seen: batch.seen })?);
    for request in &batch.requests {
        put(&mut out, &serde_json::to_vec(&request.facts)?);
        put(&mut out, &request.head);
        put(&mut out, &request.body);
    }
    Ok(out)
}

/// Reads a batch; `None` for what is none.
pub fn decode(bytes: Vec<u8>) -> Option<RecordedBatch> {
    let bytes = Bytes::from(bytes);
    let mut at = 0;
    let head: Head = serde_json::from_slice(&next(&bytes, &mut at)?).ok()?;
    let mut batch = RecordedBatch { app: head.app, seen: head.seen, requests: Vec::new() };
    while at < bytes.len() {
        let facts = serde_json::from_slice(&next(&bytes, &mut at)?).ok()?;
        let (head, body) = (next(&bytes, &mut at)?, next(&bytes, &mut at)?);
        batch.requests.push(Recorded { facts, head, body, secret_names: Vec::new() });
    }
    Some(batch)
}

fn put(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(part);
}

fn next(bytes: &Bytes, at: &mut usize) -> Option<Bytes> {
    let length = bytes.get(*at..)?.first_chunk::<4>()?;
    let start = *at + 4;
    let end = start.checked_add(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let part = (end <= bytes.len()).then(|| bytes.slice(start..end))?;
    *at = end;
    Some(part)
}
