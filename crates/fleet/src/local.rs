//! The engine of one node alone: records in redb, deliveries by broadcast. The default; needs no server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use phalanx_model::Clock;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

use crate::engine::{LinkState, SUBSCRIPTION_QUEUE};
use crate::store::{Kept, Store};
use crate::{BlobHash, Delivery, Fleet, FleetError, Lease, Put, Receipt, Speed, Topic};

/// A fleet of one.
pub struct LocalFleet {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    holder: String,
    sent: broadcast::Sender<Sent>,
    link: watch::Sender<LinkState>,
    revision: AtomicU64,
    /// Records whose commit is awaited: they are not on disk yet.
    keeping: AtomicUsize,
    tasks: Mutex<JoinSet<()>>,
    /// Held while a record is compared and swapped.
    swapping: tokio::sync::Mutex<()>,
}

impl LocalFleet {
    /// An engine on this store. `holder` names this node in leases.
    pub fn new(store: Arc<Store>, holder: String, clock: Arc<dyn Clock>) -> Self {
        let (sent, _) = broadcast::channel(SUBSCRIPTION_QUEUE);
        let link = watch::Sender::new(LinkState { connected: true, ..LinkState::default() });
        let revision = AtomicU64::new(clock.now_ms());
        Self {
            store,
            clock,
            holder,
            sent,
            link,
            revision,
            keeping: AtomicUsize::new(0),
            tasks: Mutex::default(),
            swapping: tokio::sync::Mutex::default(),
        }
    }

    async fn deliver(
        self_store: Arc<Store>,
        mut live: broadcast::Receiver<Sent>,
        topic: Topic,
        to: mpsc::Sender<Delivery>,
    ) {
        let mut again = true;
        loop {
            if again && !deliver_kept(&self_store, topic, &to).await {
                return;
            }
            again = false;
            let sent = tokio::select! {
                sent = live.recv() => sent,
                () = to.closed() => return,
            };
            let delivery = match sent {
                Ok(Sent::Record { topic: of, subject, bytes }) if of == topic => {
                    Delivery::Put { subject, bytes }
                }
                Ok(Sent::Resync(of)) if of == topic => {
                    again = true;
                    Delivery::Gap
                }
                Ok(_) => continue,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    again = true;
                    Delivery::Gap
                }
                Err(broadcast::error::RecvError::Closed) => return,
            };
            if to.send(delivery).await.is_err() {
                return;
            }
        }
    }
}

impl Fleet for LocalFleet {
    fn kind(&self) -> &'static str {
        "local"
    }

    fn publish(&self, put: Put) -> BoxFuture<'_, Result<Receipt, FleetError>> {
        Box::pin(async move {
            let subject = put.subject.as_str().into();
            // Nobody listening is no failure.
            let _ = self.sent.send(Sent::Record { topic: put.topic, subject, bytes: put.bytes.clone() });
            if put.speed == Speed::Fast {
                return Ok(Receipt::Sent);
            }
            let (version, expires_at_ms, bytes) = (put.version, put.expires_at_ms, put.bytes.to_vec());
            self.keeping.fetch_add(1, Ordering::AcqRel);
            let kept = self
                .store
                .keep(Kept { subject: put.subject, version, expires_at_ms, own: true, bytes })
                .await;
            self.keeping.fetch_sub(1, Ordering::AcqRel);
            kept?;
            Ok(Receipt::Committed(self.revision.fetch_add(1, Ordering::Relaxed) + 1))
        })
    }

    fn forget(&self, subject: &str, version: u64) {
        self.store.forget_soon(subject.to_owned(), version);
    }

    fn subscribe(&self, topic: Topic) -> mpsc::Receiver<Delivery> {
        let (to, receiver) = mpsc::channel(SUBSCRIPTION_QUEUE);
        // Listening starts before the past is read: a record may come twice, never not at all.
        let live = self.sent.subscribe();
        let mut tasks = self.tasks.lock();
        tasks.spawn(Self::deliver(Arc::clone(&self.store), live, topic, to));
        receiver
    }

    fn resync(&self, topic: Topic) {
        let _ = self.sent.send(Sent::Resync(topic));
    }

    fn blob_put(&self, bytes: Bytes) -> BoxFuture<'_, Result<BlobHash, FleetError>> {
        Box::pin(put_blob(Arc::clone(&self.store), bytes))
    }

    fn blob_get(&self, hash: BlobHash) -> BoxFuture<'_, Result<Option<Bytes>, FleetError>> {
        Box::pin(get_blob(Arc::clone(&self.store), hash))
    }

    fn blob_forget(&self, hash: BlobHash) -> BoxFuture<'_, Result<(), FleetError>> {
        Box::pin(forget_blob(Arc::clone(&self.store), hash))
    }

    fn last(&self, _topic: Topic, subject: &str) -> BoxFuture<'_, Result<(u64, Option<Bytes>), FleetError>> {
        let (store, subject) = (Arc::clone(&self.store), subject.to_owned());
        Box::pin(async move {
            let found = blocking(move || {
                let (records, _) = store.records(&subject)?;
                Ok(records.into_iter().find(|record| record.subject == subject))
            });
            Ok(found.await?.map_or((0, None), |record| (record.version, Some(record.bytes.into()))))
        })
    }

    fn put_after(&self, put: Put, revision: u64) -> BoxFuture<'_, Result<bool, FleetError>> {
        Box::pin(async move {
            let _turn = self.swapping.lock().await;
            let (last, _) = self.last(put.topic, &put.subject).await?;
            if last != revision {
                return Ok(false);
            }
            self.publish(put).await.map(|_| true)
        })
    }

    fn lease(&self, name: &str, ttl: Duration) -> BoxFuture<'_, Result<Option<Lease>, FleetError>> {
        let (name, store, holder) = (name.to_owned(), Arc::clone(&self.store), self.holder.clone());
        let now_ms = self.clock.now_ms();
        let until_ms = now_ms.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        Box::pin(async move {
            let taken = blocking(move || store.lease(&name, &holder, now_ms, until_ms)).await?;
            Ok(taken.map(|token| Lease { token, until_ms }))
        })
    }

    fn link(&self) -> watch::Receiver<LinkState> {
        self.link.subscribe()
    }

    fn queue_len(&self) -> usize {
        self.keeping.load(Ordering::Acquire)
    }

    fn close(&self) {
        self.tasks.lock().abort_all();
    }
}

/// Keeps a blob in the node's own store.
pub(crate) async fn put_blob(store: Arc<Store>, bytes: Bytes) -> Result<BlobHash, FleetError> {
    blocking(move || {
        let hash = BlobHash::of(&bytes);
        store.blob_put(hash.as_str(), &bytes)?;
        Ok(hash)
    })
    .await
}

/// Finds a blob in the node's own store.
pub(crate) async fn get_blob(store: Arc<Store>, hash: BlobHash) -> Result<Option<Bytes>, FleetError> {
    let found =
        blocking(move || Ok(store.blob_get(hash.as_str())?.filter(|bytes| BlobHash::of(bytes) == hash)));
    Ok(found.await?.map(Bytes::from))
}

/// Forgets a blob in the node's own store.
pub(crate) async fn forget_blob(store: Arc<Store>, hash: BlobHash) -> Result<(), FleetError> {
    blocking(move || store.blob_forget(hash.as_str())).await
}

/// Runs work that waits for the disk away from the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FleetError> + Send + 'static,
) -> Result<T, FleetError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| FleetError::Closed)?
}

/// Delivers what is kept, some at a time, then says so. False when nobody listens any more.
async fn deliver_kept(store: &Arc<Store>, topic: Topic, to: &mpsc::Sender<Delivery>) -> bool {
    let mut next = topic.is_kept().then_some(None::<String>);
    while let Some(after) = next.take() {
        let (store, prefix) = (Arc::clone(store), format!("{}.", topic.prefix()));
        let page = blocking(move || store.page(&prefix, after.as_deref(), PAGE)).await;
        let Ok(page) = page else { break };
        for record in page.records {
            let delivery = Delivery::Put { subject: record.subject.into(), bytes: record.bytes.into() };
            if to.send(delivery).await.is_err() {
                return false;
            }
        }
        next = page.last.map(Some);
    }
    to.send(Delivery::Synced).await.is_ok()
}

/// Records held in memory at once on their way to a listener.
const PAGE: usize = 1_024;

#[derive(Debug, Clone)]
enum Sent {
    Record { topic: Topic, subject: Arc<str>, bytes: Bytes },
    Resync(Topic),
}
