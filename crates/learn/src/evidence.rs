//! Evidence: how often something notable was seen of one subject, by which node, and how many different things it was about.

use std::collections::VecDeque;

use crate::event::Subject;
use crate::sketch::{Counts, Distinct, mix};

/// What is counted of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Feature {
    /// Logins that failed; different accounts.
    LoginFailed,
    /// Logins that went through; different accounts.
    LoginPassed,
    /// Questions whether an account exists; different accounts.
    LookedUp,
    /// Pages that do not exist or are forbidden; different ones.
    Missing,
    /// Payments that were refused; different cards.
    PaymentFailed,
    /// Objects asked for that lie beside the last one, or were refused; different objects.
    Walked,
    /// Pages; different ones.
    Pages,
    /// Attacks that were refused; different targets.
    Attacked,
    /// Requests; different addresses.
    Requests,
    /// Answers that tell of a failing server; different clients.
    ServerFailed,
    /// KiB of answers beyond what the route usually says.
    Excess,
}

impl Feature {
    /// All, in the order of their numbers on the wire.
    pub(crate) const ALL: [Self; 11] = [
        Self::LoginFailed,
        Self::LoginPassed,
        Self::LookedUp,
        Self::Missing,
        Self::PaymentFailed,
        Self::Walked,
        Self::Pages,
        Self::Attacked,
        Self::Requests,
        Self::ServerFailed,
        Self::Excess,
    ];

    /// Whether other nodes are told. What is counted of every request is not worth it, and bytes cannot be bounded by requests.
    pub(crate) fn is_shared(self) -> bool {
        !matches!(self, Self::ServerFailed | Self::Excess | Self::Requests)
    }
}

/// Of whom, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SeriesKey {
    pub(crate) subject: Subject,
    pub(crate) feature: Feature,
}

impl SeriesKey {
    pub(crate) fn hash(self) -> u64 {
        mix(self.subject.hash() ^ self.feature as u64)
    }
}

/// What one node saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contribution {
    pub(crate) counts: Counts,
    /// What it was about.
    pub(crate) what: Distinct,
    /// Addresses that it came from.
    pub(crate) from: Distinct,
}

impl Contribution {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        self.what.merge(&other.what);
        self.from.merge(&other.from);
    }

    fn forget(&mut self, from: u32) {
        self.counts.forget(from);
        self.what.forget(from);
        self.from.forget(from);
    }
}

/// Evidence about one subject.
#[derive(Debug, Default)]
pub(crate) struct Series {
    pub(crate) own: Contribution,
    /// What other nodes told, by their number.
    pub(crate) peers: Vec<(u16, Contribution)>,
    /// What is usual, in millionths of all requests; see [`Series::count_share`].
    pub(crate) usual: u32,
    /// Of requests: the epoch that they are counted in, and how many.
    epoch: u32,
    epoch_count: u32,
    /// Route and network of the last event.
    pub(crate) last: (u64, u32),
    /// Of failed logins: the last one's software,
    pub(crate) tool: u32,
    /// and accounts that the same got into lately, in Unix milliseconds.
    pub(crate) entered: Vec<(u64, u64)>,
    /// When a signal was made of it, of how many events, and whether it was decisive.
    pub(crate) told: Option<(u64, u64, bool)>,
    /// Changed since the others were told.
    pub(crate) is_news: bool,
    pruned: u32,
}

/// What the nodes saw together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    /// Events, as far as other nodes' words count.
    pub(crate) count: u64,
    /// Different things, as far as other nodes' words count.
    pub(crate) what: u64,
    /// Different addresses, likewise.
    pub(crate) from: u64,
    /// Events that were claimed in all.
    pub(crate) claimed: u64,
    /// Different things that were claimed in all.
    pub(crate) claimed_what: u64,
    /// Nodes that saw some; 0 is this one.
    pub(crate) nodes: Vec<u16>,
}

/// Of any other node, so many events and different things count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) count: u64,
    pub(crate) what: usize,
}

impl Series {
    pub(crate) fn add(&mut self, bucket: u32, more: u32, what: u32, from: u32) {
        self.own.counts.add(bucket, more);
        self.own.what.insert(what, bucket);
        self.own.from.insert(from, bucket);
        self.prune(bucket);
    }

    pub(crate) fn merge(&mut self, peer: u16, told: &Contribution, now: u32) {
        if let Some((_, known)) = self.peers.iter_mut().find(|(known, _)| *known == peer) {
            known.merge(told);
        } else if self.peers.len() < PEERS_MAX {
            self.peers.push((peer, told.clone()));
        }
        self.prune(now);
    }

    fn prune(&mut self, now: u32) {
        if now == self.pruned {
            return;
        }
        self.pruned = now;
        let from = now.saturating_sub(BUCKETS_KEPT);
        self.own.forget(from);
        self.peers.iter_mut().for_each(|(_, peer)| peer.forget(from));
        self.peers.retain(|(_, peer)| peer.counts.since(0).next().is_some());
    }

    /// The sum over nodes from a bucket on.
    pub(crate) fn totals(&self, from: u32, share: Share) -> Totals {
        let count = self.own.counts.within(from, u32::MAX);
        let mut totals = Totals { count, claimed: count, ..Totals::default() };
        let (mut what, mut all_what) = (self.own.what.clone(), self.own.what.clone());
        let mut addresses = self.own.from.clone();
        if count > 0 {
            totals.nodes.push(OWN);
        }
        for (peer, told) in &self.peers {
            let claimed = told.counts.within(from, u32::MAX);
            if claimed == 0 {
                continue;
            }
            totals.nodes.push(*peer);
            totals.claimed += claimed;
            totals.count += claimed.min(share.count);
            // Of what others name, what we or somebody before named costs nothing of the share.
            let new = told.what.hashes(from).filter(|hash| !self.own.what.contains(*hash));
            new.take(share.what).for_each(|hash| what.insert(hash, from));
            all_what.merge(&told.what);
            told.from.hashes(from).take(share.what).for_each(|hash| addresses.insert(hash, from));
        }
        totals.what = what.since(from);
        totals.claimed_what = all_what.since(from);
        totals.from = addresses.since(from);
        totals
    }

    /// Counts a request toward its share. When an epoch is over, the usual share moves a part of the way to what it was in it, and
    /// never farther than to twice the usual, so that whoever wants much to be usual needs hours. Before the node knows anything, it
    /// is the mean of what comes.
    pub(crate) fn count_share(&mut self, epochs: &Epochs) {
        if self.epoch != epochs.now {
            let weight =
                if epochs.is_settled() { SHARE_MEMORY } else { epochs.now.clamp(2, SHARE_MEMORY) - 1 };
            if let Some(total) = epochs.total(self.epoch) {
                let share = u64::from(self.epoch_count) * 1_000_000 / u64::from(total.max(1));
                let share = u32::try_from(share.min(1_000_000)).unwrap_or(0);
                let most = if epochs.is_settled() { 2 * self.usual + SHARE_STEP_PPM } else { share };
                self.usual = moved(self.usual, share.min(most), weight);
                // Meanwhile it did not come.
                let missed = epochs.now.saturating_sub(self.epoch.saturating_add(1)).min(4 * SHARE_MEMORY);
                (0..missed).for_each(|_| self.usual = moved(self.usual, 0, weight.max(2)));
            }
            (self.epoch, self.epoch_count) = (epochs.now, 0);
        }
        self.epoch_count = self.epoch_count.saturating_add(1);
    }
}

fn moved(usual: u32, share: u32, weight: u32) -> u32 {
    let sum = u64::from(usual) * u64::from(weight.saturating_sub(1)) + u64::from(share);
    u32::try_from(sum / u64::from(weight.max(1))).unwrap_or(usual)
}

/// Times in which so many requests come that shares of them mean something: ten seconds at least, longer where it is quiet.
#[derive(Debug)]
pub(crate) struct Epochs {
    /// The number of the current one, from 1 on.
    now: u32,
    /// Requests of those before, the newest last.
    totals: VecDeque<u32>,
    requests: u32,
    bucket: u32,
    first_bucket: u32,
}

impl Default for Epochs {
    fn default() -> Self {
        Self { now: 1, totals: VecDeque::new(), requests: 0, bucket: 0, first_bucket: 0 }
    }
}

impl Epochs {
    /// A request came.
    pub(crate) fn count(&mut self, bucket: u32) {
        if self.first_bucket == 0 {
            (self.first_bucket, self.bucket) = (bucket, bucket);
        }
        if bucket > self.bucket && self.requests >= EPOCH_REQUESTS_LEAST {
            self.totals.push_back(self.requests);
            if self.totals.len() > EPOCHS_KEPT {
                self.totals.pop_front();
            }
            (self.now, self.requests, self.bucket) = (self.now.saturating_add(1), 0, bucket);
        }
        self.requests = self.requests.saturating_add(1);
    }

    /// Whether what is usual is known well enough to be compared with.
    pub(crate) fn is_settled(&self) -> bool {
        self.now > EPOCHS_SETTLED && self.bucket.saturating_sub(self.first_bucket) >= SETTLED_BUCKETS
    }

    /// Requests of an epoch that is over.
    fn total(&self, epoch: u32) -> Option<u32> {
        let back = usize::try_from(self.now.checked_sub(epoch)?).ok()?;
        self.totals.get(self.totals.len().checked_sub(back)?).copied()
    }
}

/// This node, among [`Totals::nodes`].
pub(crate) const OWN: u16 = u16::MAX;
/// Width of a bucket.
pub(crate) const BUCKET_MS: u64 = 10_000;
/// Ten minutes, and some epochs.
const SETTLED_BUCKETS: u32 = 60;
const EPOCHS_SETTLED: u32 = 5;
const EPOCH_REQUESTS_LEAST: u32 = 200;
/// Epochs of which it is known how many requests they had; what came before those is forgotten.
const EPOCHS_KEPT: usize = 64;
/// An epoch moves the usual by one part in so many.
const SHARE_MEMORY: u32 = 400;
/// What a share may grow from nothing.
const SHARE_STEP_PPM: u32 = 1_000;
/// Ten minutes and the current bucket.
const BUCKETS_KEPT: u32 = 60;
/// As many nodes as a fleet has.
const PEERS_MAX: usize = 50;

/// The bucket of a time in Unix milliseconds.
pub(crate) fn bucket(at_ms: u64) -> u32 {
    u32::try_from(at_ms / BUCKET_MS).unwrap_or(u32::MAX)
}
