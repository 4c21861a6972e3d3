//! What carries and keeps records: the trait, with two implementations. Engines see bytes and subjects, never meaning.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use crate::{FleetError, subject};

/// An engine of the fleet.
pub trait Fleet: Send + Sync + 'static {
    /// What kind of engine, for `status`: `local` or `nats`.
    fn kind(&self) -> &'static str;

    /// Sends and keeps a record that this node wrote. [`Receipt::QueuedLocal`] is no failure: it is on disk and goes out later.
    fn publish(&self, put: Put) -> BoxFuture<'_, Result<Receipt, FleetError>>;

    /// Forgets a record that no longer counts, unless a newer version than `version` is kept; an own one is not sent again.
    fn forget(&self, subject: &str, version: u64);

    /// The records of a topic: the last of each subject that the engine has, then [`Delivery::Synced`], then what comes.
    /// A topic that is not kept has no past. The engine stops when the receiver is dropped.
    fn subscribe(&self, topic: Topic) -> mpsc::Receiver<Delivery>;

    /// Asks all subscriptions of a topic to deliver its last records once more.
    fn resync(&self, topic: Topic);

    /// Asks subscriptions to decisions to deliver once more what is kept under a subject and below it. An engine that cannot tell
    /// parts delivers all.
    fn reread(&self, _subject: &str) {
        self.resync(Topic::Decisions);
    }

    /// Others find that what is kept for them of this node's records is not what it says: it is compared soon, and in full. An
    /// engine that keeps nothing for others need not do anything.
    fn doubt_stream(&self) {}

    /// What is sent does not get through, although the link looks sound: it is made anew. An engine without a link has nothing to do.
    fn link_anew(&self) {}

    /// Sends own records of at least this version once more to whoever listens, soon. An engine whose others are not cut off from
    /// each other need not do anything.
    fn say_again(&self, _version: u64) {}

    /// Keeps a blob, here and for the others.
    fn blob_put(&self, bytes: Bytes) -> BoxFuture<'_, Result<BlobHash, FleetError>>;

    /// The blob of this hash, checked against it.
    fn blob_get(&self, hash: BlobHash) -> BoxFuture<'_, Result<Option<Bytes>, FleetError>>;

    /// Forgets a blob, here and for the others. An engine that keeps none need not do anything.
    fn blob_forget(&self, _hash: BlobHash) -> BoxFuture<'_, Result<(), FleetError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Keeps a blob for the others and not here: of what this node has in another form. An engine without others need not.
    fn blob_share(&self, _bytes: Bytes) -> BoxFuture<'_, Result<BlobHash, FleetError>> {
        Box::pin(std::future::ready(Err(FleetError::Unreachable(ALONE.into()))))
    }

    /// The blob of this hash from the others, checked against it and not kept here.
    fn blob_fetch(&self, _hash: BlobHash) -> BoxFuture<'_, Result<Option<Bytes>, FleetError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Whether the others can have a blob of this site. An engine without others need not look.
    fn blob_is_shared(&self, _hash: BlobHash) -> BoxFuture<'_, Result<bool, FleetError>> {
        Box::pin(std::future::ready(Ok(true)))
    }

    /// Forgets a blob for the others.
    fn blob_unshare(&self, _hash: BlobHash) -> BoxFuture<'_, Result<(), FleetError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Keeps something small for the others beside the blobs, under this node's name, in place of what was there.
    fn mark_put(&self, _site: &str, _node: &str, _bytes: Bytes) -> BoxFuture<'_, Result<(), FleetError>> {
        Box::pin(std::future::ready(Err(FleetError::Unreachable(ALONE.into()))))
    }

    /// What a node keeps beside the blobs. Nothing about it is checked.
    fn mark_get(&self, _site: &str, _node: &str) -> BoxFuture<'_, Result<Option<Bytes>, FleetError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// The last sequence of each site's stream of decisions, as far as this engine follows them.
    fn positions(&self) -> BoxFuture<'_, Result<BTreeMap<String, u64>, FleetError>> {
        Box::pin(std::future::ready(Err(FleetError::Unreachable(ALONE.into()))))
    }

    /// Asks subscriptions to decisions to deliver at once what a site's stream has after a sequence, beside all else.
    fn read_after(&self, _site: &str, _sequence: u64) {}

    /// The last record that is kept under a subject, with the revision that [`Fleet::put_after`] wants; without one the revision of
    /// nothing. Asked of what decides for all, not of a copy.
    fn last(&self, topic: Topic, subject: &str) -> BoxFuture<'_, Result<(u64, Option<Bytes>), FleetError>>;

    /// Keeps a record unless another was kept under its subject since that revision; false if one was.
    fn put_after(&self, put: Put, revision: u64) -> BoxFuture<'_, Result<bool, FleetError>>;

    /// Takes or renews a lease. `None` while another node holds it.
    fn lease(&self, name: &str, ttl: Duration) -> BoxFuture<'_, Result<Option<Lease>, FleetError>>;

    /// Whether the engine reaches the others.
    fn link(&self) -> watch::Receiver<LinkState>;

    /// Own records that the engine has not confirmed.
    fn queue_len(&self) -> usize;

    /// Stops the engine's tasks.
    fn close(&self);
}

/// A kind of record, with its own subjects and stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Decisions and withdrawals.
    Decisions,
    /// Announcements of nodes.
    Nodes,
    /// Revocations of nodes.
    Revocations,
    /// The fleet's policy: swapped by [`Fleet::put_after`] and delivered as kept, never before.
    Policy,
    /// Orders about nodes.
    Orders,
    /// Heartbeats: sent, never kept.
    Heartbeats,
    /// Counts of rate limits: sent, never kept.
    Counts,
    /// The same, for the node that sums them for this node's site.
    CountsToSum,
    /// Questions of operators about what nodes have served: sent, never kept.
    Questions,
    /// Answers to a node's own questions: sent, never kept.
    Answers,
    /// Secrets that the nodes of a site share, each sealed to one of them: sent, never kept.
    Shelves,
    /// What nodes learn of requests: sent, never kept.
    Sketches,
    /// Accounts of operators, each sealed to one control node: sent, never kept.
    Operators,
    /// What the nodes of a site recorded, each part sealed to one control node: sent, never kept.
    Histories,
}

impl Topic {
    /// What its subjects start with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Decisions => subject::DECISIONS,
            Self::Nodes => subject::NODES,
            Self::Revocations => subject::REVOCATIONS,
            Self::Policy => subject::POLICY,
            Self::Orders => subject::ORDERS,
            Self::Heartbeats => subject::HEARTBEATS,
            Self::Counts => subject::COUNTS,
            Self::CountsToSum => subject::COUNTS_TO_SUM,
            Self::Questions => subject::QUESTIONS,
            Self::Answers => subject::ANSWERS,
            Self::Shelves => subject::SHELVES,
            Self::Sketches => subject::SKETCHES,
            Self::Operators => subject::OPERATORS,
            Self::Histories => subject::HISTORIES,
        }
    }

    /// Whether engines keep its records for those who come later.
    pub fn is_kept(self) -> bool {
        match self {
            Self::Decisions | Self::Nodes | Self::Revocations | Self::Policy | Self::Orders => true,
            Self::Heartbeats
            | Self::Counts
            | Self::CountsToSum
            | Self::Questions
            | Self::Answers
            | Self::Shelves
            | Self::Sketches
            | Self::Operators
            | Self::Histories => false,
        }
    }
}

/// A record to publish.
#[derive(Debug, Clone)]
pub struct Put {
    /// Its topic.
    pub topic: Topic,
    /// Its subject; starts with the topic's prefix.
    pub subject: String,
    /// Its version.
    pub version: u64,
    /// When it may be forgotten, in Unix milliseconds; `u64::MAX` for never.
    pub expires_at_ms: u64,
    /// The record as it travels.
    pub bytes: Bytes,
    /// How.
    pub speed: Speed,
}

/// How a record travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// At once to who listens, kept nowhere.
    Fast,
    /// At once to who listens, and kept here and by the engine.
    Both,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// The engine has it, under this revision.
    Committed(u64),
    /// It is kept here and goes out when the engine can be reached.
    QueuedLocal,
    /// It went out and is kept nowhere.
    Sent,
}

/// What a subscription delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// A record, perhaps not for the first time.
    Put {
        /// Its subject.
        subject: Arc<str>,
        /// The record as it travelled; nothing about it has been checked.
        bytes: Bytes,
    },
    /// The engine's last records have all been delivered.
    Synced,
    /// Something may have been missed; the last records follow once more.
    Gap,
    /// The link came or went.
    Link(LinkState),
}

/// A blob's SHA-256, in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BlobHash(String);

impl BlobHash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(data_encoding::HEXLOWER.encode(&phalanx_trust::sha256(bytes)))
    }

    /// Reads the 64 digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 64 && text.bytes().all(digit)).then(|| Self(text.to_owned()))
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A lease that this node holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Rises with every holder and renewal: who guards a resource refuses a token lower than one it saw.
    pub token: u64,
    /// When to stop acting, in Unix milliseconds; counted from before the engine was asked.
    pub until_ms: u64,
}

/// The state of the link to the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkState {
    /// Whether it is up. A local engine's always is.
    pub connected: bool,
    /// What is wrong while it is down or limping.
    pub fault: Option<String>,
    /// When own records were last compared with the engine's since the link came up, in Unix milliseconds.
    pub audited_at_ms: Option<u64>,
}

/// Records that wait between an engine and its subscriber; more makes the engine wait.
pub(crate) const SUBSCRIPTION_QUEUE: usize = 1024;
const ALONE: &str = "there are no others";
