//! Counts of rate limits between nodes: signed once a batch, sent to who listens, kept nowhere.
//!
//! What they mean is for the limits themselves: a batch is as good as its author's signature, and whoever counts bounds what
//! one author can claim.

use std::sync::Arc;

use phalanx_model::{Author, AuthorRole, CountBatch, CountOf, KeyCount};
use phalanx_trust::{NodeRecord, Refusal, SignedRecord};
use tokio::sync::mpsc;

use crate::shared::Shared;
use crate::{Delivery, FleetHandle, Put, Singleton, Topic, subject};

/// The nodes that count together, this one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountReach {
    /// Those that there are.
    pub known: usize,
    /// Those that this one hears, and of whose counts it has missed nothing that it was not told again.
    pub heard: usize,
    /// Whether this node can tell others.
    pub linked: bool,
}

/// Hands on what others tell, until the topic closes.
pub(crate) async fn run(shared: Arc<Shared>, mut told: mpsc::Receiver<Delivery>) {
    let mut link = shared.engine.link();
    loop {
        let delivery = tokio::select! {
            delivery = told.recv() => delivery,
            Ok(()) = link.changed() => {
                match link.borrow_and_update().connected {
                    true => shared.back.notify_one(),
                    false => shared.members.lock().link_lost(),
                }
                continue;
            }
        };
        let Some(delivery) = delivery else { return };
        let Delivery::Put { subject, bytes } = delivery else { continue };
        // Our own come back; they cost no signature check.
        if *subject == *subject::of_counts(&shared.me.site, &shared.me.node) {
            continue;
        }
        match open(&shared, &subject, &bytes, Topic::Counts) {
            // Nobody listening is no failure.
            Ok(batch) => drop(shared.counts.send(Arc::new(batch))),
            // Its announcement is on its way, and the next batch says the same.
            Err(Refusal::UnknownAuthor(_)) => {}
            Err(refusal) => shared.refuse(&subject, &refusal),
        }
    }
}

/// Who is told counts, and of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountsTold {
    /// All nodes, of this one's.
    ToAll,
    /// The node that sums for this site, of this node's.
    ToSummer,
    /// All nodes, of this site's sums, under the token of the lease to sum.
    Sums(u64),
}

/// What the nodes of a site tell the one that sums. Ends with the value.
pub struct CountsToSum {
    shared: Arc<Shared>,
    told: mpsc::Receiver<Delivery>,
}

impl CountsToSum {
    /// The next batch; signed by its author, and nothing else of it is checked. Waits for ever when the fleet is shut down.
    pub async fn next(&mut self) -> CountBatch {
        while let Some(delivery) = self.told.recv().await {
            let Delivery::Put { subject, bytes } = delivery else { continue };
            match open(&self.shared, &subject, &bytes, Topic::CountsToSum) {
                Ok(batch) => return batch,
                Err(Refusal::UnknownAuthor(_)) => {}
                Err(refusal) => self.shared.refuse(&subject, &refusal),
            }
        }
        std::future::pending().await
    }
}

impl FleetHandle {
    /// Tells what this node admitted under limits that the fleet counts together, or its site did. A count that does not get through is no
    /// loss: the next one says the same and more.
    pub async fn tell_counts(&self, told: CountsTold, counts: &[KeyCount]) {
        tell(&self.shared, told, counts).await;
    }

    /// Resolves when this node's link or another node is back: all that was admitted lately is to be told again, at once.
    pub async fn tell_counts_again(&self) {
        self.shared.back.notified().await;
    }

    /// What is told to the node that sums for this site.
    pub fn counts_to_sum(&self) -> CountsToSum {
        let told = self.shared.engine.subscribe(Topic::CountsToSum);
        CountsToSum { shared: Arc::clone(&self.shared), told }
    }

    /// Takes part in summing for this site: by the lease of which there is one for each site. `None` where this node may not.
    pub fn sums_for_site(&self) -> Option<Singleton> {
        let shared = &self.shared;
        shared.keys.operator.as_ref()?;
        // A name has 63 characters, and so has a site's.
        let digest = phalanx_trust::sha256(shared.me.site.as_bytes());
        let short: Vec<u8> = digest.into_iter().take(8).collect();
        Some(self.singleton(&format!("counts-{}", data_encoding::HEXLOWER.encode(&short))))
    }

    /// How many nodes of this site can be heard, this one included.
    pub fn site_heard(&self) -> usize {
        let shared = &self.shared;
        shared.members.lock().heard_of_site(&shared.me.site, shared.clock.now_ms()) + 1
    }

    /// The author of this node's own records, and when its process started, in Unix milliseconds.
    pub fn node_author(&self) -> (Author, u64) {
        (self.shared.me.author(AuthorRole::Node), self.shared.me.started_at_ms)
    }
}

/// Signs a batch and sends it.
async fn tell(shared: &Shared, told: CountsTold, counts: &[KeyCount]) {
    if let Some(put) = sign(shared, told, counts) {
        let _ = shared.engine.publish(put).await;
    }
}

/// Who counts together. Without a link nobody is heard, whatever was heard just before.
pub(crate) fn reach(shared: &Shared) -> CountReach {
    let now_ms = shared.clock.now_ms();
    let (known, heard) = shared.members.lock().heard_within(GONE_MS, TOLD_AGAIN_MS, now_ms);
    let linked = shared.engine.link().borrow().connected;
    CountReach { known: known + 1, heard: if linked { heard + 1 } else { 1 }, linked }
}

fn sign(shared: &Shared, told: CountsTold, counts: &[KeyCount]) -> Option<Put> {
    let (of, epoch, topic) = match told {
        CountsTold::ToAll => (CountOf::Node, shared.me.started_at_ms, Topic::Counts),
        CountsTold::ToSummer => (CountOf::Node, shared.me.started_at_ms, Topic::CountsToSum),
        CountsTold::Sums(token) => (CountOf::Site, token, Topic::Counts),
    };
    let subject = subject_of(topic, &shared.me.site, &shared.me.node);
    shared.sign_fast(topic, subject, &CountBatch::to_bytes(of, epoch, counts), OLD_MS).ok()
}

fn subject_of(topic: Topic, site: &str, node: &str) -> String {
    match topic {
        Topic::CountsToSum => subject::of_counts_to_sum(site, node),
        _ => subject::of_counts(site, node),
    }
}

fn open(shared: &Shared, subject: &str, bytes: &[u8], topic: Topic) -> Result<CountBatch, Refusal> {
    let record = SignedRecord::from_bytes(bytes)?;
    let Author { site, node, role } = &record.author;
    if *role != AuthorRole::Node || subject_of(topic, site, node) != *subject {
        return Err(Refusal::WrongSubject);
    }
    shared.roots.read().verify(&record, subject, shared.clock.now_ms())?;
    let batch = CountBatch::from_bytes(record.author, &record.body)
        .ok_or_else(|| Refusal::Unreadable("counts in a form that is not known here".into()))?;
    // Only who may hold leases may sum: an edge node that was stolen must not speak for its site.
    let of_operators = |batch: &CountBatch| {
        let named = |node: &NodeRecord| node.site == batch.author.site && node.node == batch.author.node;
        shared.roots.read().nodes().any(|node| named(node) && node.operator_key.is_some())
    };
    match batch.of == CountOf::Node || topic == Topic::Counts && of_operators(&batch) {
        true => Ok(batch),
        false => Err(Refusal::NotAllowed("only nodes with the control role sum for their site")),
    }
}

/// How long a batch counts: clocks may differ by as much as is reported, and far more. What is older is a replay.
const OLD_MS: u64 = 60_000;
/// What a node that is back admitted meanwhile is told at once, and news takes no longer. Were it counted in sooner, this node would admit
/// by its share what the other has admitted already.
const TOLD_AGAIN_MS: u64 = 300;
/// A node that was not heard for this long has left, and no longer counts when the limit is shared out.
pub(crate) const GONE_MS: u64 = 15 * 60_000;
