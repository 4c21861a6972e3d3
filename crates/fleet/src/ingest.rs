//! Records of others: checked one by one, whatever carried them, then merged a batch at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use phalanx_model::limits::FLEET_STRANGERS_MAX;
use phalanx_trust::{NodeRecord, Pinned, Refusal, SignedRecord};
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant};

use crate::engine::LinkState;
use crate::hybrid_clock::version_at;
use crate::members::{Heartbeat, SILENCE_MAX_MS};
use crate::restore;
use crate::revoke::Unheard;
use crate::shared::Shared;
use crate::{Change, Delivery, Speed, Topic};

/// Merges what the topics deliver, until they close.
pub(crate) async fn run(shared: Arc<Shared>, mut topics: Topics) {
    let mut strangers = Strangers::default();
    let mut unheard = Unheard::of(Shared::receive_revocation);
    let mut gate = Gate::new(shared.engine.link());
    let mut batch = Vec::with_capacity(BATCH_MAX);
    // Of the nodes' announcements, and of decisions: whether all that the streams had at the start was read.
    let (mut nodes_read, mut decisions_read, mut streams_read) = (false, false, false);
    loop {
        if nodes_read && decisions_read && !streams_read {
            streams_read = true;
            shared.streams_are_read();
        }
        // Revocations first, and after a cut nothing else until they are all here; then nodes: a decision counts only when its
        // author is known.
        tokio::select! {
            biased;
            delivery = topics.revocations.recv() => match delivery {
                Some(Delivery::Put { subject, bytes }) => unheard.receive(&shared, subject, bytes),
                Some(Delivery::Synced) => gate.open(),
                Some(Delivery::Gap | Delivery::Link(_)) => {}
                None => return,
            },
            () = gate.changed() => {}
            delivery = topics.nodes.recv(), if gate.is_open() => match delivery {
                Some(Delivery::Put { subject, bytes }) => {
                    if let Some(node) = meet(&shared, &subject, &bytes).await {
                        unheard.again(&shared);
                        merge_batch(&shared, strangers.take(&node), &mut strangers);
                        if std::mem::take(&mut strangers.overflowed) {
                            shared.engine.resync(Topic::Decisions);
                        }
                    }
                }
                Some(Delivery::Synced) => nodes_read = true,
                Some(Delivery::Gap | Delivery::Link(_)) => {}
                None => return,
            },
            count = topics.decisions.recv_many(&mut batch, BATCH_MAX), if gate.is_open() => {
                if count == 0 {
                    return;
                }
                decisions_read |= batch.contains(&Delivery::Synced);
                let records = batch.drain(..).filter_map(|delivery| match delivery {
                    Delivery::Put { subject, bytes } => Some((subject, bytes)),
                    Delivery::Synced | Delivery::Gap | Delivery::Link(_) => None,
                });
                merge_batch(&shared, records.collect(), &mut strangers);
            },
            delivery = topics.policy.recv(), if gate.is_open() => match delivery {
                Some(Delivery::Put { subject, bytes }) => shared.receive_policy(&subject, &bytes),
                Some(_) => {}
                None => return,
            },
            delivery = topics.heartbeats.recv() => match delivery {
                Some(Delivery::Put { subject, bytes }) => hear(&shared, &subject, &bytes),
                Some(_) => {}
                None => return,
            },
        }
    }
}

/// The subscriptions that are read.
pub(crate) struct Topics {
    pub(crate) revocations: mpsc::Receiver<Delivery>,
    pub(crate) nodes: mpsc::Receiver<Delivery>,
    pub(crate) decisions: mpsc::Receiver<Delivery>,
    pub(crate) policy: mpsc::Receiver<Delivery>,
    pub(crate) heartbeats: mpsc::Receiver<Delivery>,
}

/// Holds back nodes and decisions after a link came up, until the revocations are read: a site that was cut off learns first whom
/// not to believe. Not for long: a server that keeps no streams never gets there.
struct Gate {
    link: watch::Receiver<LinkState>,
    connected: bool,
    down_since: Option<Instant>,
    closed_until: Option<Instant>,
}

impl Gate {
    fn new(link: watch::Receiver<LinkState>) -> Self {
        let connected = link.borrow().connected;
        // Also where the link was up before anybody listened.
        let closed_until = connected.then(|| Instant::now() + GATE_CLOSED_MAX);
        Self { link, connected, down_since: None, closed_until }
    }

    fn is_open(&self) -> bool {
        self.closed_until.is_none()
    }

    /// Closes when the link is up after a cut. A server that was replaced by the next in a moment is none, and bans must not wait for
    /// the new leader of a stream.
    fn switch(&mut self) {
        if !self.connected {
            self.down_since.get_or_insert_with(Instant::now);
            self.closed_until = None;
            return;
        }
        let cut = self.down_since.take().is_none_or(|since| since.elapsed() > CUT_MIN);
        self.closed_until = cut.then(|| Instant::now() + GATE_CLOSED_MAX);
    }

    fn open(&mut self) {
        self.closed_until = None;
    }

    /// Resolves when it opened or closed by itself.
    async fn changed(&mut self) {
        let closed_until = self.closed_until;
        let late = async {
            match closed_until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.link.changed() => {
                if changed.is_err() {
                    // The engine is gone; what it delivered before may still be read.
                    self.closed_until = None;
                    return std::future::pending().await;
                }
                let connected = self.link.borrow_and_update().connected;
                if connected != self.connected {
                    self.connected = connected;
                    self.switch();
                }
            }
            () = late => self.closed_until = None,
        }
    }
}

/// Records whose author has not been announced yet. Bounded; when it overflows, the engine is asked again after an announcement.
#[derive(Default)]
struct Strangers {
    waiting: VecDeque<Received>,
    bytes: usize,
    overflowed: bool,
}

impl Strangers {
    fn push(&mut self, received: Received) {
        self.bytes += received.1.len();
        self.waiting.push_back(received);
        while self.waiting.len() > FLEET_STRANGERS_MAX || self.bytes > STRANGERS_BYTES_MAX {
            let Some((_, bytes)) = self.waiting.pop_front() else { break };
            self.bytes -= bytes.len();
            self.overflowed = true;
        }
    }

    /// The records that may be this node's: its name is in the subject.
    fn take(&mut self, node: &NodeRecord) -> Vec<Received> {
        let prefix = format!("{}.{}.{}.", Topic::Decisions.prefix(), node.site, node.node);
        let (theirs, others): (VecDeque<_>, _) =
            self.waiting.drain(..).partition(|(subject, _)| subject.starts_with(&prefix));
        self.bytes = others.iter().map(|(_, bytes)| bytes.len()).sum();
        self.waiting = others;
        theirs.into()
    }
}

type Received = (Arc<str>, Bytes);

fn merge_batch(shared: &Arc<Shared>, records: Vec<Received>, strangers: &mut Strangers) {
    let now_ms = shared.clock.now_ms();
    let mut changes = Vec::with_capacity(records.len());
    let mut kept = Vec::with_capacity(records.len());
    for (subject, bytes) in records {
        match check(shared, &subject, &bytes, now_ms) {
            Ok(Some(change)) => {
                changes.push(change);
                kept.push(bytes);
            }
            // Known already, or over: a stream may deliver records until its own clock ends them.
            Ok(None) | Err(Refusal::Expired) => {}
            Err(Refusal::UnknownAuthor(_)) => strangers.push((subject, bytes)),
            Err(refusal) => shared.refuse(&subject, &refusal),
        }
    }
    if changes.is_empty() {
        return;
    }
    let mut core = shared.core.lock();
    let applied = shared.merge(&mut core, &changes, now_ms);
    drop(core);
    // `applied` is a subsequence of `changes`.
    let mut applied = applied.iter().peekable();
    for (change, bytes) in changes.iter().zip(kept) {
        if applied.next_if(|next| *next == change).is_some() {
            shared.keep_soon(change, bytes.to_vec());
        }
    }
}

/// The change that a record makes, if it is news and everything about it is in order.
fn check(shared: &Shared, subject: &str, bytes: &[u8], now_ms: u64) -> Result<Option<Change>, Refusal> {
    let record = SignedRecord::from_bytes(bytes)?;
    let change = change_of(&record, subject)?;
    // Everything comes twice, by both paths; the second time costs no signature check.
    if !shared.core.lock().registers.is_news(&change) {
        return Ok(None);
    }
    shared.roots.read().verify(&record, subject, now_ms)?;
    change.check(now_ms)?;
    Ok(Some(change))
}

/// The change in a record that came under `subject`, whose signature is for the caller to check.
pub(crate) fn change_of(record: &SignedRecord, subject: &str) -> Result<Change, Refusal> {
    let change: Change =
        serde_json::from_slice(&record.body).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    if *change.author() != record.author
        || change.version() != record.version
        || change.expires_at_ms() != record.expires_at_ms
    {
        return Err(Refusal::Unreadable("envelope and body disagree".into()));
    }
    match change.subject() == *subject {
        true => Ok(change),
        false => Err(Refusal::WrongSubject),
    }
}

/// Pins a node that announces itself. Returns it if it is new.
async fn meet(shared: &Arc<Shared>, subject: &str, bytes: &[u8]) -> Option<NodeRecord> {
    let (admitted, pinned) = match shared.admit(subject, bytes) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            shared.refuse(subject, &refusal);
            return None;
        }
    };
    let node = &admitted.node;
    if pinned == Pinned::Known {
        return None;
    }
    // Before the pin that may say that it gave up the role.
    if shared.roots.read().had_control(&node.site, &node.node) {
        restore::pin_control(shared, &node.site, &node.node);
    }
    if let Ok(bytes) = serde_json::to_vec(&admitted) {
        shared.store.pin(&format!("{}/{}", node.site, node.node), &bytes);
    }
    tracing::info!(site = %node.site, node = %node.node, key = %node.node_key.id(), ?pinned, "node announced itself");
    // Without a stream the newcomer has not heard of us; who renewed has.
    if pinned != Pinned::Renewed
        && let Ok(put) = shared.announcement(Speed::Fast)
    {
        let _ = shared.engine.publish(put).await;
    }
    Some(admitted.node)
}

fn hear(shared: &Arc<Shared>, subject: &str, bytes: &[u8]) {
    let now_ms = shared.clock.now_ms();
    match Heartbeat::open(bytes, subject, &shared.roots.read(), now_ms) {
        Ok((author, _)) if shared.is_me(&author) => *shared.unheard.lock() = None,
        Ok((author, heartbeat)) => {
            let steady_ms = shared.steady_ms();
            let heard = shared.members.lock().hear(&author, &heartbeat, now_ms, steady_ms);
            let Some(silent_ms) = heard else { return };
            // It may have been cut off, and not have heard this node either.
            if silent_ms > SILENCE_MAX_MS || heartbeat.away_ms > 0 {
                shared.news.notify_one();
                shared.back.notify_one();
            }
            say_what_was_missed(shared, silent_ms, heartbeat.away_ms, now_ms);
            if let Some(digests) = &heartbeat.digests {
                shared.compare_digests(&author, digests);
            }
            let me = format!("{}/{}", shared.me.site, shared.me.node);
            if heartbeat.lacks.contains(&me) {
                shared.engine.doubt_stream();
            }
        }
        Err(Refusal::UnknownAuthor(_)) => {
            if shared.members.lock().may_ask_for_nodes(now_ms) {
                shared.engine.resync(Topic::Nodes);
            }
        }
        Err(refusal) => shared.refuse(subject, &refusal),
    }
}

/// Says again what a peer that was silent, or heard nobody, may have missed: its stream may take longer to catch up than we do to
/// say it. What a link held up and gives back at last tells nothing of whether this node is heard yet.
fn say_what_was_missed(shared: &Shared, silent_ms: u64, away_ms: u64, now_ms: u64) {
    let missed_ms = if silent_ms > SILENCE_MS { silent_ms.max(away_ms) } else { away_ms };
    if missed_ms > 0 {
        let since_ms = now_ms.saturating_sub(missed_ms.min(MISSED_MAX_MS)).saturating_sub(LOSS_UNNOTICED_MS);
        shared.engine.say_again(version_at(since_ms));
    }
}

/// Three heartbeats.
const SILENCE_MS: u64 = 3_000;
/// For so long a link may be dead before that is noticed, by pings two seconds apart.
const LOSS_UNNOTICED_MS: u64 = 6_000;
/// What is said again goes back this far; of what is older the streams tell, which had the time to.
const MISSED_MAX_MS: u64 = 10 * 60_000;
/// Shorter than this nobody can have been revoked by an operator and be believed for long.
const CUT_MIN: Duration = Duration::from_secs(10);
/// A stream of revocations is read in milliseconds; one that cannot be must not hold back bans.
const GATE_CLOSED_MAX: Duration = Duration::from_secs(3);
/// Records merged under one lock and shown in one view.
const BATCH_MAX: usize = 1024;
/// What waits for announcements, in bytes: the limit of records, at their usual size.
const STRANGERS_BYTES_MAX: usize = FLEET_STRANGERS_MAX * 1024;
