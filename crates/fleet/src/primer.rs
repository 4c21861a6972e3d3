//! What a node that knows nothing begins with: all decisions as a control node has them, packed, under one signature.
//!
//! One of the control nodes at a time, by a lease, packs its view once a minute when it changed, keeps the bytes as parts beside the
//! blobs, and a signed pointer that names them by their hashes. A joiner takes the newest pointer of a control node that it believes,
//! puts the packed view into force, reads first what streams got since, and then every single record: as soon as it has them all,
//! its view follows from them alone, and what only the packed view said is dropped.
//!
//! INVARIANT: what the packed view says stands only until the streams are read, and only as far as no record known contradicts it.
//! Who signs it may order everything anyway; with a stolen operator key one can hide nothing by it for longer than that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use phalanx_model::limits::RECORD_FUTURE_MAX_MS;
use phalanx_model::{AuthorRole, Base, View};
use phalanx_trust::SignedRecord;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::hybrid_clock::version_ms;
use crate::local::blocking;
use crate::shared::Shared;
use crate::{BlobHash, FleetError, restore};

/// Where a packed view lies, and from where on the streams tell more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pointer {
    made_at_ms: u64,
    bytes: usize,
    /// Hashes of the parts, in order.
    parts: Vec<String>,
    /// The last sequence of each site's stream that is in it.
    upto: BTreeMap<String, u64>,
}

/// Packs the view for joiners for as long as the node runs, if it may speak for operators.
pub(crate) async fn publish(shared: Arc<Shared>) {
    if shared.key(AuthorRole::Operator).is_err() {
        return;
    }
    let mut published = Published::default();
    loop {
        tokio::time::sleep(published.pause()).await;
        if let Err(error) = published.renew(&shared).await {
            tracing::debug!(%error, "packed view for joiners was not published");
        }
    }
}

#[derive(Default)]
struct Published {
    revision: u64,
    bytes: usize,
    parts: Vec<BlobHash>,
}

impl Published {
    /// A minute, and one more for each 64 MiB; less at first, because others may wait for it.
    fn pause(&self) -> Duration {
        if self.parts.is_empty() {
            return FIRST;
        }
        let more = u32::try_from(self.bytes / (64 * 1024 * 1024)).unwrap_or(u32::MAX);
        EVERY.saturating_mul(more.saturating_add(1))
    }

    async fn renew(&mut self, shared: &Arc<Shared>) -> Result<(), FleetError> {
        let (engine, revision) = (&shared.engine, shared.view.load().revision);
        let len = shared.core.lock().registers.decisions_len();
        if revision == self.revision || len < DECISIONS_MIN || shared.is_recovering() {
            return Ok(());
        }
        if engine.lease(LEASE, EVERY * 3).await?.is_none() {
            return Ok(());
        }
        // What streams have by now is known here a little later.
        let upto = engine.positions().await?;
        tokio::time::sleep(KNOWN_AFTER).await;
        let packing = Arc::clone(shared);
        let packed = blocking(move || {
            let base = packing.view.load_full().pack().ok_or(FleetError::Limit("the view is too large"))?;
            let mut bytes = Vec::new();
            base.write_to(&mut bytes).map_err(|error| FleetError::Unreachable(error.to_string()))?;
            Ok(Bytes::from(bytes))
        });
        let packed = packed.await?;
        if packed.len() > BYTES_MAX {
            return Err(FleetError::Limit("the packed view is too large for joiners"));
        }
        let mut parts = Vec::new();
        for start in (0..packed.len()).step_by(PART_BYTES) {
            let part = packed.slice(start..packed.len().min(start + PART_BYTES));
            parts.push(engine.blob_share(part).await?);
        }
        let names = parts.iter().map(|part| part.as_str().to_owned()).collect();
        let made_at_ms = shared.clock.now_ms();
        let pointer = Pointer { made_at_ms, bytes: packed.len(), parts: names, upto };
        engine.mark_put(&shared.me.site, &shared.me.node, shared.sign_pointer(&pointer)?).await?;
        let before = std::mem::replace(&mut self.parts, parts);
        (self.revision, self.bytes) = (revision, packed.len());
        for part in before.into_iter().filter(|part| !self.parts.contains(part)) {
            engine.blob_unshare(part).await?;
        }
        Ok(())
    }
}

/// Begins with a packed view, if this node knows nothing and the streams are not read sooner. Gives up after a while.
pub(crate) async fn begin(shared: Arc<Shared>) {
    let given_up = Instant::now() + TRY_FOR;
    while Instant::now() < given_up && !shared.core.lock().streams_read {
        match newest(&shared).await {
            Some(pointer) => match take(&shared, pointer).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "packed view for joiners cannot be used, trying again"),
            },
            None => tracing::debug!("no packed view for joiners yet"),
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// The newest pointer of a control node that is believed.
async fn newest(shared: &Shared) -> Option<Pointer> {
    let nodes: Vec<_> = {
        let roots = shared.roots.read();
        let control = roots.nodes().filter(|node| node.operator_key.is_some());
        control.map(|node| (Arc::clone(&node.site), Arc::clone(&node.node))).collect()
    };
    let mut pointers = Vec::new();
    for (site, node) in nodes {
        if let Ok(Some(bytes)) = shared.engine.mark_get(&site, &node).await {
            pointers.extend(shared.open_pointer(&site, &node, &bytes));
        }
    }
    pointers.into_iter().max_by_key(|pointer| pointer.made_at_ms)
}

async fn take(shared: &Arc<Shared>, pointer: Pointer) -> Result<(), FleetError> {
    let started = Instant::now();
    let mut packed = Vec::with_capacity(pointer.bytes);
    for part in &pointer.parts {
        let hash = BlobHash::parse(part).ok_or(FleetError::Limit("a part has no name"))?;
        let bytes = shared.engine.blob_fetch(hash).await?;
        packed.extend(bytes.ok_or(FleetError::Limit("a part is gone"))?);
        if packed.len() > pointer.bytes {
            return Err(FleetError::Limit("the parts are larger than what was signed"));
        }
    }
    let read = blocking(move || {
        Base::read_from(&mut packed.as_slice()).map_err(|error| FleetError::Unreachable(error.to_string()))
    });
    let base = read.await?;
    let decisions = base.decisions_len();
    if shared.begin_with(base) {
        for (site, sequence) in &pointer.upto {
            shared.engine.read_after(site, *sequence);
        }
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(decisions, took_ms, "began with a packed view");
    }
    Ok(())
}

impl Shared {
    /// Whether this node may know less than the streams.
    fn is_recovering(&self) -> bool {
        let core = self.core.lock();
        core.reading || core.restoring || !core.streams_read
    }

    fn sign_pointer(&self, pointer: &Pointer) -> Result<Bytes, FleetError> {
        let body =
            serde_json::to_vec(pointer).map_err(|_| FleetError::Limit("a pointer cannot be written"))?;
        let subject = mark_subject(&self.me.site, &self.me.node);
        let ends_at_ms = pointer.made_at_ms.saturating_add(POINTER_HOLDS_MS);
        self.signed(AuthorRole::Operator, &subject, pointer.made_at_ms, ends_at_ms, &body)
    }

    fn open_pointer(&self, site: &str, node: &str, bytes: &[u8]) -> Option<Pointer> {
        let (record, now_ms) = (SignedRecord::from_bytes(bytes).ok()?, self.clock.now_ms());
        let subject = mark_subject(site, node);
        let author = &record.author;
        let by_them = author.role == AuthorRole::Operator && *author.site == *site && *author.node == *node;
        if let Err(refusal) = self.roots.read().verify(&record, &subject, now_ms) {
            self.refuse(&subject, &refusal);
            return None;
        }
        let pointer: Pointer = serde_json::from_slice(&record.body).ok()?;
        let is_bounded = pointer.bytes <= BYTES_MAX && pointer.parts.len() <= BYTES_MAX / PART_BYTES + 1;
        let is_present = pointer.made_at_ms <= now_ms.saturating_add(RECORD_FUTURE_MAX_MS);
        (by_them && is_bounded && is_present).then_some(pointer)
    }

    /// Puts a packed view into force for as long as the streams are being read. False if they were read before, or this node knows
    /// something of its own already.
    fn begin_with(&self, base: Base) -> bool {
        let now_ms = self.clock.now_ms();
        let mut packing = self.packing.lock();
        let mut core = self.core.lock();
        let from_the_future = version_ms(base.version_max()) > now_ms.saturating_add(RECORD_FUTURE_MAX_MS);
        if core.streams_read || core.restoring || from_the_future {
            return false;
        }
        core.clock.observe(base.version_max());
        (core.restoring, core.primed) = (true, true);
        let view = self.view.load_full();
        packing.retired.put(Arc::clone(view.base()));
        let mut next = View::on(Arc::new(base)).with_lists(Arc::clone(view.lists()));
        next.revision = view.revision + 1;
        self.show(&mut core, view, next);
        // What is known by now goes before what the packed view says.
        let mut touched = core.registers.withdrawn();
        let mut from = Some(0);
        while let Some((groups, next)) = from.and_then(|from| core.registers.keys(from, u32::MAX)) {
            touched.extend(groups.into_iter().map(|(key, _)| key));
            from = Some(next);
        }
        let view = self.view.load_full();
        let over = view
            .live(now_ms)
            .filter(|one| core.registers.is_recalled(one) || core.registers.is_expelled(one));
        touched.extend(over.map(|decision| decision.actor.key()));
        self.swap_view(&mut core, touched);
        core.trail.forget();
        true
    }

    /// The streams of decisions have been read since the start: from here on the view follows from records alone.
    pub(crate) fn streams_are_read(self: &Arc<Self>) {
        let primed = {
            let mut core = self.core.lock();
            core.streams_read = true;
            std::mem::take(&mut core.primed)
        };
        if primed {
            let shared = Arc::clone(self);
            tokio::spawn(blocking(move || {
                restore::show(&shared);
                Ok(())
            }));
        }
    }
}

fn mark_subject(site: &str, node: &str) -> String {
    format!("phx.packed.{site}.{node}")
}

const LEASE: &str = "packed";
const EVERY: Duration = Duration::from_secs(60);
const FIRST: Duration = Duration::from_secs(5);
/// Fewer are read from the streams as quickly.
const DECISIONS_MIN: usize = 5_000;
/// A record that a stream confirmed is heard and merged by then.
const KNOWN_AFTER: Duration = Duration::from_secs(3);
/// A day: an older view is no help, and none is that old where a control node runs.
const POINTER_HOLDS_MS: u64 = 24 * 60 * 60_000;
/// Of eight million decisions.
const BYTES_MAX: usize = 512 * 1024 * 1024;
const PART_BYTES: usize = 16 * 1024 * 1024;
const TRY_FOR: Duration = Duration::from_secs(60);
const TRY_AGAIN: Duration = Duration::from_millis(250);
