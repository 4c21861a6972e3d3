//! The merged fleet state as the data plane reads it: one immutable value, swapped whole.
//!
//! A large packed [`Base`] and a small delta: a new decision copies a few nodes of the delta (microseconds), and what
//! has gathered there is packed into a new base by whoever writes the view, away from requests. Decisions are
//! found by hash: once for each length of prefix in use, and once for each other thing known of a client. [`Lists`] are
//! beside them, one table of their own.
//!
//! INVARIANT: a lookup never returns a decision that has expired at `now_ms`, whatever the tables still hold.

mod base;
mod delta;
mod file;
mod key;
mod lists;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::sync::Arc;

pub use self::base::{Base, Packed};
use self::delta::Delta;
pub use self::file::PackedError;
pub use self::lists::Lists;
use crate::net::canonical;
use crate::{ActorKey, AuthorRole, Blocklist, Decision, DecisionId, DecisionKind, Identities};

/// The fleet's decisions, merged. Withdrawn and superseded ones are already gone.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Counts the changes since the node started.
    pub revision: u64,
    base: Arc<Base>,
    delta: Delta,
    lists: Arc<Lists>,
    /// What this node ordered for itself alone; few.
    here: Arc<[Arc<Decision>]>,
}

impl View {
    /// A view of exactly these decisions.
    pub fn from_decisions(decisions: impl IntoIterator<Item = Arc<Decision>>) -> Self {
        let mut decisions: Vec<_> = decisions.into_iter().collect();
        decisions.sort_by_cached_key(|decision| decision.actor.key());
        let groups = decisions.chunk_by(|one, other| one.actor.key() == other.actor.key());
        if let Some(base) = Base::of(groups.clone(), decisions.len()) {
            return Self::on(Arc::new(base));
        }
        let changes = groups.filter_map(|group| Some((group.first()?.actor.key(), group.to_vec())));
        Self { revision: 0, ..Self::default().with_keys(changes) }
    }

    /// A view of about `len` decisions, packed as they come: each group is of those about one key. `None` if it would be larger than
    /// 4 GiB.
    pub fn packed(groups: impl Iterator<Item = Vec<Arc<Decision>>>, len: usize) -> Option<Self> {
        Base::of(groups, len).map(|base| Self::on(Arc::new(base)))
    }

    /// A view of what a base holds.
    pub fn on(base: Arc<Base>) -> Self {
        Self { base, ..Self::default() }
    }

    /// The view in which `key` has exactly these decisions. An empty list removes what was there.
    pub fn with_key(&self, key: ActorKey, decisions: Vec<Arc<Decision>>) -> Self {
        self.with_keys([(key, decisions)])
    }

    /// The view in which each of these keys has exactly these decisions.
    pub fn with_keys(&self, changes: impl IntoIterator<Item = (ActorKey, Vec<Arc<Decision>>)>) -> Self {
        let mut next = self.clone();
        next.revision += 1;
        for (key, decisions) in changes {
            next.delta.set(key::hash(&key), key, decisions.into());
        }
        next
    }

    /// The view with these blocklists instead of those it had.
    pub fn with_lists(&self, lists: Arc<Lists>) -> Self {
        Self { revision: self.revision + 1, lists, ..self.clone() }
    }

    /// The view with these orders of the node for itself alone instead of those it had.
    pub fn with_here(&self, here: Arc<[Arc<Decision>]>) -> Self {
        Self { revision: self.revision + 1, here, ..self.clone() }
    }

    /// What this node ordered for itself alone, expired ones included.
    pub fn here(&self) -> &Arc<[Arc<Decision>]> {
        &self.here
    }

    /// The blocklists in force.
    pub fn lists(&self) -> &Arc<Lists> {
        &self.lists
    }

    /// The decision in force about these identities: an operator's allow first, then the strongest live one, the
    /// longest-lasting among equals, the newest among those. A blocklist counts where no decision is as strong.
    pub fn lookup(&self, who: &Identities, now_ms: u64) -> Option<Found<'_>> {
        let who = Identities { ip: canonical(who.ip), ..*who };
        let kinds = self.base.kinds_near(who.ip);
        let mut search =
            Search { view: self, agent: who.agent, now_ms, waiting: [None; KEYS_AT_ONCE], best: None };
        let mut count = 0;
        kinds.or(self.delta.kinds_near(who.ip)).for_each_key(&who, |key| {
            if count == KEYS_AT_ONCE {
                search.run();
                count = 0;
            }
            if let Some(place) = search.waiting.get_mut(count) {
                let hash = key::hash(&key);
                let slot = if kinds.has(&key) { self.base.first_slot(hash) } else { 0 };
                *place = Some(Probe { key, hash, slot });
                count += 1;
            }
        });
        search.run();
        let Some(list) = self.lists.find(who.ip, now_ms) else { return search.best };
        match search.best {
            Some(best) if best.kind() >= list.kind => Some(best),
            _ => Some(Found::Listed { list, ip: who.ip }),
        }
    }

    /// Whether there may be decisions about software, routes or apps: what [`View::about_any`] would find.
    pub fn has_wide(&self) -> bool {
        self.base.kinds.or(self.delta.kinds()).has_wide() || !self.here.is_empty()
    }

    /// The order in force that raises the paranoia of an app's rules; see [`crate::Actor::Rules`].
    pub fn raises(&self, app: u64, now_ms: u64) -> Option<Found<'_>> {
        let may_have = self.base.kinds.or(self.delta.kinds()).has_rules() || !self.here.is_empty();
        may_have.then(|| self.about_any(&[ActorKey::Rules(app)], now_ms)).flatten()
    }

    /// The strongest decision in force about any of these keys, this node's own included; of at most 16 keys.
    pub fn about_any(&self, keys: &[ActorKey], now_ms: u64) -> Option<Found<'_>> {
        let mut search =
            Search { view: self, agent: None, now_ms, waiting: [None; KEYS_AT_ONCE], best: None };
        for (place, key) in search.waiting.iter_mut().zip(keys) {
            let hash = key::hash(key);
            let slot = if self.base.kinds.has(key) { self.base.first_slot(hash) } else { 0 };
            *place = Some(Probe { key: *key, hash, slot });
        }
        search.run();
        for decision in self.here.iter() {
            if decision.is_live(now_ms) && keys.contains(&decision.actor.key()) {
                search.offer(Found::Shared(decision));
            }
        }
        search.best
    }

    /// The decisions of the fleet about a key, expired ones included.
    pub fn decisions_of(&self, key: &ActorKey) -> Vec<Arc<Decision>> {
        let hash = key::hash(key);
        match self.delta.get(hash, key) {
            Some(decisions) => decisions.to_vec(),
            None => self.base.find(hash, key).filter_map(|packed| packed.decision()).collect(),
        }
    }

    /// Every live decision, in no order but that those about one key follow each other. Unpacks each: for few decisions, or for work that takes its time.
    pub fn live(&self, now_ms: u64) -> impl Iterator<Item = Arc<Decision>> {
        self.live_found(now_ms).filter_map(|found| found.decision())
    }

    /// How many decisions are live.
    pub fn live_len(&self, now_ms: u64) -> usize {
        self.live_found(now_ms).count()
    }

    /// The live decision of this id.
    pub fn find(&self, id: DecisionId, now_ms: u64) -> Option<Arc<Decision>> {
        self.live_found(now_ms).find(|found| found.id() == id)?.decision()
    }

    /// The live decisions that were made last, at most `limit`, the newest first; of those older than `before` alone, whether that one is
    /// still there or not.
    pub fn newest(&self, now_ms: u64, before: Option<DecisionId>, limit: usize) -> Vec<Arc<Decision>> {
        let before = before.map(|id| (id.at_ms(), id));
        let older = |found: &Found<'_>| before.is_none_or(|before| found.age() < before);
        let mut newest = BinaryHeap::new();
        for found in self.live_found(now_ms).filter(older) {
            newest.push(Reverse(found.age()));
            if newest.len() > limit {
                newest.pop();
            }
        }
        let Some(&Reverse(oldest)) = newest.peek() else {
            return Vec::new();
        };
        let among = self.live_found(now_ms).filter(|found| older(found) && found.age() >= oldest);
        let mut decisions: Vec<_> = among.filter_map(|found| found.decision()).collect();
        decisions.sort_by_key(|decision| Reverse(Found::Shared(decision).age()));
        decisions.truncate(limit);
        decisions
    }

    /// How many keys have decisions, live or not yet swept; one that has both old and changed ones counts twice.
    pub fn keys_len(&self) -> usize {
        self.base.keys_len() + self.delta.len()
    }

    /// Whether there are decisions about autonomous systems, which need a database of addresses.
    pub fn asks_for_asns(&self) -> bool {
        self.base.kinds.or(self.delta.kinds()).has_asns()
    }

    /// Whether there are decisions about countries, which need a database of addresses.
    pub fn asks_for_countries(&self) -> bool {
        self.base.kinds.or(self.delta.kinds()).has_countries()
    }

    /// Whether there are decisions about sessions or accounts.
    pub fn asks_for_sessions(&self) -> bool {
        self.base.kinds.or(self.delta.kinds()).has_sessions()
    }

    /// How many keys have changed since the base was packed.
    pub fn changes_len(&self) -> usize {
        self.delta.len()
    }

    /// Whether so much has changed that a new base should be packed.
    pub fn wants_compaction(&self) -> bool {
        self.delta.len() > CHANGES_MAX
    }

    /// The packed part.
    pub fn base(&self) -> &Arc<Base> {
        &self.base
    }

    /// A base of everything in this view. Takes a good part of a second for a million decisions. `None` if it would be larger
    /// than 4 GiB.
    pub fn pack(&self) -> Option<Base> {
        self.base.with(&self.delta)
    }

    /// `whole`, which holds what `before` held or should have, with what changed in this view since it was `before`.
    pub fn rebased(&self, whole: &Self, before: &Self) -> Self {
        let mut delta = self.delta.since(&before.delta);
        for (key, decisions) in whole.delta.iter() {
            let hash = key::hash(key);
            if delta.get(hash, key).is_none() {
                delta.set(hash, *key, Arc::clone(decisions));
            }
        }
        let (base, lists) = (Arc::clone(&whole.base), Arc::clone(&self.lists));
        Self { revision: self.revision, base, delta, lists, here: Arc::clone(&self.here) }
    }

    fn live_found(&self, now_ms: u64) -> impl Iterator<Item = Found<'_>> {
        let packed = self
            .base
            .groups()
            .filter(|group| self.delta.get(key::hash(&group.key), &group.key).is_none())
            .flat_map(|group| self.base.records(&group))
            .filter(move |packed| now_ms < packed.record.expires_at_ms())
            .map(Found::Packed);
        let shared = self.delta.iter().flat_map(|(_, decisions)| decisions.iter()).chain(self.here.iter());
        packed.chain(shared.filter(move |decision| decision.is_live(now_ms)).map(Found::Shared))
    }
}

/// A decision that a lookup found, as it lies in the view.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// Among the changes.
    Shared(&'a Arc<Decision>),
    /// In the base.
    Packed(Packed<'a>),
    /// On a blocklist.
    Listed {
        /// The list.
        list: &'a Arc<Blocklist>,
        /// The address that is on it.
        ip: IpAddr,
    },
}

impl Found<'_> {
    /// What it orders.
    pub fn kind(&self) -> DecisionKind {
        match self {
            Self::Shared(decision) => decision.kind,
            Self::Packed(packed) => packed.kind(),
            Self::Listed { list, .. } => list.kind,
        }
    }

    /// Its id.
    pub fn id(&self) -> DecisionId {
        match self {
            Self::Shared(decision) => decision.id,
            Self::Packed(packed) => packed.record.id(),
            Self::Listed { list, .. } => list.id,
        }
    }

    /// When it ends, in Unix milliseconds.
    pub fn expires_at_ms(&self) -> u64 {
        match self {
            Self::Shared(decision) => decision.expires_at_ms,
            Self::Packed(packed) => packed.record.expires_at_ms(),
            Self::Listed { list, .. } => list.until_ms,
        }
    }

    /// All of it; of a list, what it orders about the address. `None` only for a base that nobody could have packed.
    pub fn decision(&self) -> Option<Arc<Decision>> {
        match self {
            Self::Shared(decision) => Some(Arc::clone(decision)),
            Self::Packed(packed) => packed.decision(),
            Self::Listed { list, ip } => Some(Arc::new(list.decision_about(*ip))),
        }
    }

    /// Orders decisions by when they were made, by their authors' word.
    fn age(&self) -> (u64, DecisionId) {
        match self {
            Self::Shared(decision) => (decision.created_at_ms, decision.id),
            Self::Packed(packed) => (packed.record.created_at_ms(), packed.record.id()),
            Self::Listed { list, .. } => (list.created_at_ms, list.id),
        }
    }

    /// Orders decisions about one client: operators' allow, then all orders by kind, then by expiry, then by age.
    fn rank(&self) -> (bool, DecisionKind, u64, DecisionId) {
        let role = match self {
            Self::Shared(decision) => decision.author.role,
            Self::Packed(packed) => packed.record.role(),
            Self::Listed { list, .. } => list.author.role,
        };
        let kind = self.kind();
        (kind == DecisionKind::Allow && role == AuthorRole::Operator, kind, self.expires_at_ms(), self.id())
    }
}

/// A look-up on its way.
struct Search<'a> {
    view: &'a View,
    agent: Option<u64>,
    now_ms: u64,
    waiting: [Option<Probe>; KEYS_AT_ONCE],
    best: Option<Found<'a>>,
}

/// A key to look at, with what is in its first slot of the base; 0 where the base has no such key.
#[derive(Debug, Clone, Copy)]
struct Probe {
    key: ActorKey,
    hash: u64,
    slot: u64,
}

impl Search<'_> {
    /// Looks at the keys that wait.
    fn run(&mut self) {
        for waiting in 0..KEYS_AT_ONCE {
            let Some(probe) = self.waiting.get_mut(waiting).and_then(Option::take) else { return };
            let view = self.view;
            if let Some(decisions) = view.delta.get(probe.hash, &probe.key) {
                for decision in decisions {
                    if decision.is_live(self.now_ms) && decision.actor.covers_agent(self.agent) {
                        self.offer(Found::Shared(decision));
                    }
                }
            } else if probe.slot != 0 {
                for packed in view.base.find_from(probe.slot, probe.hash, &probe.key) {
                    if self.now_ms < packed.record.expires_at_ms() && packed.record.covers_agent(self.agent) {
                        self.offer(Found::Packed(packed));
                    }
                }
            }
        }
    }
}

impl<'a> Search<'a> {
    fn offer(&mut self, found: Found<'a>) {
        if self.best.is_none_or(|best| found.rank() > best.rank()) {
            self.best = Some(found);
        }
    }
}

/// Keys of which the first slots are read before the first is looked at. More than nearly all look-ups have.
const KEYS_AT_ONCE: usize = 16;

/// Up to this many changed keys no new base is packed. Packing a million decisions takes a fifth of a second of one core, so that
/// a thousand changes a second cost one part in fifty of it; and looking at so few changes first costs little.
const CHANGES_MAX: usize = 8_192;

#[cfg(test)]
mod tests;
