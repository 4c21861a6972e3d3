//! The merge core: registers that their authors own, withdrawals that end them, and the view that follows. No IO.
//!
//! A register is (author, actor, kind) and holds the highest version seen; a withdrawal is one per (author, actor) and ends
//! what has a version up to its own: anyone's if an operator wrote it, the author's own if a node did. Actors are told apart by
//! their key and, where they are one kind of client at an address, by its hash; a withdrawal of addresses ends what is
//! ordered about clients there too. A recall ends what its target decided, about whomever, up to a version.
//!
//! INVARIANT: the state depends on the set of changes applied, not on their order or number: `apply` commutes and repeats.
//! (With one exception, on purpose: an author over its quota loses the registers that expire first.)

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use phalanx_model::limits::{BAN_AUTOMATIC_MAX_MS, DECISION_MAX_MS, DECISIONS_PER_AUTHOR_MAX};
use phalanx_model::{
    Actor, ActorKey, Author, AuthorRole, Blocklist, Decision, DecisionId, DecisionKind, Recall, Withdrawal,
};

use crate::Change;
use crate::listed::Listed;
use crate::recalls::Recalls;

/// All registers and withdrawals known and not expired.
#[derive(Debug)]
pub struct Registers {
    places: HashMap<ActorKey, Place>,
    authors: HashMap<Author, Shelf>,
    recalls: Recalls,
    lists: Listed,
    /// Nodes that were taken out, with the version up to which what they said stands.
    expelled: Vec<(Arc<str>, Arc<str>, u64)>,
    per_author_max: usize,
    decisions_len: usize,
}

/// What applying a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is part of the state now. The changes named are no longer: superseded, ended or evicted.
    Applied {
        /// What it replaced.
        gone: Vec<Change>,
        /// Keys whose decisions may not be as they were.
        touched: Vec<ActorKey>,
    },
    /// The state had it, or a newer one.
    Known,
    /// A withdrawal or recall has ended it already.
    Withdrawn,
    /// Its time is over.
    Expired,
    /// Its author's quota is full of what lasts longer.
    OverQuota,
}

impl Default for Registers {
    fn default() -> Self {
        Self::with_quota(DECISIONS_PER_AUTHOR_MAX)
    }
}

impl Registers {
    /// Empty registers that hold this many decisions, and as many withdrawals, per author.
    pub fn with_quota(per_author_max: usize) -> Self {
        let (places, authors, recalls, lists, expelled) = Default::default();
        Self { places, authors, recalls, lists, expelled, per_author_max, decisions_len: 0 }
    }

    /// Merges a change that the caller has checked.
    pub fn apply(&mut self, change: &Change, now_ms: u64) -> Outcome {
        if change.expires_at_ms() <= now_ms {
            return Outcome::Expired;
        }
        match change {
            Change::Decided(decision) => self.decide(decision),
            Change::Withdrawn(withdrawal) => self.withdraw(withdrawal),
            Change::Recalled(recall) => self.recall(recall),
            Change::Listed(list) => self.list(list),
        }
    }

    /// Whether a change would alter the state. Cheaper than checking a signature, so that repeats are dropped before that.
    pub fn is_news(&self, change: &Change) -> bool {
        match change {
            Change::Decided(new) => !self.recalls.end(new) && self.place(change).is_none_or(|p| p.lacks(new)),
            Change::Withdrawn(new) => self.place(change).is_none_or(|place| place.lacks_tombstone(new)),
            Change::Recalled(new) => self.recalls.is_news(new),
            Change::Listed(new) => self.lists.is_news(new),
        }
    }

    /// What [`Self::apply`] would come to, quotas aside: what an applied change would replace is not told.
    pub fn predict(&self, change: &Change, now_ms: u64) -> Outcome {
        let ended = match change {
            Change::Decided(new) => {
                let ended = self.place(change).is_some_and(|place| place.ends(new));
                ended || self.recalls.end(new) || self.is_expelled(new)
            }
            Change::Listed(new) => self.is_list_recalled(new),
            Change::Withdrawn(_) | Change::Recalled(_) => false,
        };
        match (change.expires_at_ms() <= now_ms, ended, self.is_news(change)) {
            (true, _, _) => Outcome::Expired,
            (_, true, _) => Outcome::Withdrawn,
            (_, _, false) => Outcome::Known,
            (false, false, true) => Outcome::Applied { gone: Vec::new(), touched: Vec::new() },
        }
    }

    /// Whether its author's quota has room for a change.
    pub fn has_room_for(&self, change: &Change) -> bool {
        match change {
            Change::Decided(new) => {
                let place = self.places.get(&new.actor.key());
                let held =
                    place.is_some_and(|place| place.decisions.iter().any(|old| same_register(old, new)));
                held || self.has_room(new)
            }
            Change::Withdrawn(_) | Change::Recalled(_) | Change::Listed(_) => true,
        }
    }

    /// Forgets what has expired. Returns what is gone and the ranges that the view should be told of.
    pub fn sweep(&mut self, now_ms: u64) -> (Vec<Change>, Vec<ActorKey>) {
        let mut expired = Vec::new();
        for shelf in self.authors.values_mut() {
            for slots in [&mut shelf.decisions, &mut shelf.withdrawals] {
                while let Some(first) = slots.first()
                    && first.expires_at_ms() <= now_ms
                {
                    expired.extend(slots.pop_first());
                }
            }
        }
        self.authors.retain(|_, shelf| !shelf.decisions.is_empty() || !shelf.withdrawals.is_empty());
        let mut touched = Vec::new();
        let mut gone = Vec::new();
        for slot in expired {
            if let Some(change) = self.remove(&slot) {
                if matches!(change, Change::Decided(_)) {
                    touched.push(slot.key());
                }
                gone.push(change);
            }
        }
        gone.extend(self.recalls.sweep(now_ms).into_iter().map(Change::Recalled));
        gone.extend(self.lists.sweep(now_ms).into_iter().map(Change::Listed));
        (gone, touched)
    }

    /// Whether a recall ends a decision, known here or not.
    pub fn is_recalled(&self, decision: &Decision) -> bool {
        self.recalls.end(decision)
    }

    /// Every recall, in no order.
    pub fn recalls(&self) -> impl Iterator<Item = &Arc<Recall>> {
        self.recalls.iter()
    }

    /// Whether a recall ends a version of a blocklist.
    pub fn is_list_recalled(&self, list: &Blocklist) -> bool {
        self.recalls.iter().any(|recall| recall.covers(&list.author, list.version))
    }

    /// The newest version of each blocklist, removed ones included, in no order.
    pub fn lists(&self) -> impl Iterator<Item = &Arc<Blocklist>> {
        self.lists.iter()
    }

    /// Takes out what a node decided, listed, withdrew and recalled, in any role, in versions above `above`: it was revoked. That none of it comes
    /// back is for who checks authors. Returns what is gone and the keys that the view should be told of.
    pub fn expel(&mut self, site: &str, node: &str, above: u64) -> (Vec<Change>, Vec<ActorKey>) {
        let gone: Vec<Change> =
            self.written_by(site, node).filter(|change| change.version() > above).collect();
        let mut touched = Vec::new();
        for change in &gone {
            match change {
                Change::Decided(decision) => {
                    let slot = Slot::of_decision(decision);
                    self.shelf(&decision.author).decisions.remove(&slot);
                    touched.push(slot.key());
                    self.remove(&slot);
                }
                Change::Withdrawn(withdrawal) => {
                    let slot = Slot::of_withdrawal(withdrawal);
                    self.shelf(&withdrawal.author).withdrawals.remove(&slot);
                    self.remove(&slot);
                }
                Change::Recalled(recall) => self.recalls.take(recall),
                Change::Listed(list) => self.lists.take(list),
            }
        }
        self.expelled.retain(|(of_site, of_node, _)| **of_site != *site || **of_node != *node);
        self.expelled.push((site.into(), node.into(), above));
        (gone, touched)
    }

    /// Whether a decision is of a node that was taken out: what else remembers it must not show it.
    pub fn is_expelled(&self, decision: &Decision) -> bool {
        let author = &decision.author;
        self.expelled.iter().any(|(site, node, above)| {
            **site == *author.site && **node == *author.node && decision.version > *above
        })
    }

    /// The decisions about a key, for the view.
    pub fn decisions_of(&self, key: &ActorKey) -> Vec<Arc<Decision>> {
        self.places.get(key).map(|place| place.decisions.clone()).unwrap_or_default()
    }

    /// Keys that a remembered withdrawal is about as a whole.
    pub fn withdrawn(&self) -> Vec<ActorKey> {
        let slots = self.authors.values().flat_map(|shelf| &shelf.withdrawals);
        slots.filter(|slot| slot.actor().agent().is_none()).map(Slot::key).collect()
    }

    /// When an operator last withdrew what was ordered about this key as a whole, as far as that is remembered.
    pub fn forgiven_at_ms(&self, key: &ActorKey) -> Option<u64> {
        let withdrawals = self.places.get(key)?.withdrawals.iter();
        let by_operator =
            |w: &&Arc<Withdrawal>| w.author.role == AuthorRole::Operator && w.actor.agent().is_none();
        withdrawals.filter(by_operator).map(|withdrawal| withdrawal.created_at_ms).max()
    }

    /// Every decision, in no order.
    pub fn decisions(&self) -> impl Iterator<Item = &Arc<Decision>> {
        self.places.values().flat_map(|place| &place.decisions)
    }

    /// How many decisions there are.
    pub fn decisions_len(&self) -> usize {
        self.decisions_len
    }

    /// Everything that this node wrote, in any role.
    pub fn written_by<'a>(&'a self, site: &'a str, node: &'a str) -> impl Iterator<Item = Change> + 'a {
        let mine = move |author: &Author| *author.site == *site && *author.node == *node;
        let recalls = self.recalls.iter().filter(move |recall| mine(&recall.author));
        let recalls = recalls.map(|recall| Change::Recalled(Arc::clone(recall)));
        let about_actors = self.places.values().flat_map(move |place| {
            let decisions = place.decisions.iter().filter(move |decision| mine(&decision.author));
            let withdrawals = place.withdrawals.iter().filter(move |withdrawal| mine(&withdrawal.author));
            decisions
                .map(|decision| Change::Decided(Arc::clone(decision)))
                .chain(withdrawals.map(|withdrawal| Change::Withdrawn(Arc::clone(withdrawal))))
        });
        let lists = self.lists.iter().filter(move |list| mine(&list.author));
        about_actors.chain(recalls).chain(lists.map(|list| Change::Listed(Arc::clone(list))))
    }

    fn place(&self, change: &Change) -> Option<&Place> {
        self.places.get(&change.key()?)
    }

    fn decide(&mut self, new: &Arc<Decision>) -> Outcome {
        let new = &self.with_shared_author(new);
        if self.recalls.end(new) {
            return Outcome::Withdrawn;
        }
        let key = new.actor.key();
        let place = self.places.entry(key).or_default();
        if place.ends(new) {
            return Outcome::Withdrawn;
        }
        let old = place.decisions.iter().find(|old| same_register(old, new)).cloned();
        if let Some(old) = &old
            && decision_rank(new) <= decision_rank(old)
        {
            return Outcome::Known;
        }
        if old.is_none() && !self.has_room(new) {
            self.drop_if_empty(&key);
            return Outcome::OverQuota;
        }
        let mut gone = Vec::new();
        let mut touched = vec![key];
        if let Some(old) = old {
            let slot = Slot::of_decision(&old);
            self.shelf(&old.author).decisions.remove(&slot);
            gone.extend(self.remove(&slot));
        }
        let decisions = &mut self.places.entry(key).or_default().decisions;
        // Nearly all keys have one decision; a list that grows by itself starts with room for four.
        decisions.reserve_exact(1);
        decisions.push(Arc::clone(new));
        self.decisions_len += 1;
        let max = self.per_author_max;
        let shelf = self.shelf(&new.author);
        shelf.decisions.insert(Slot::of_decision(new));
        let evicted = if shelf.decisions.len() > max { shelf.decisions.pop_first() } else { None };
        let crowded = self.crowded_out(new);
        for slot in evicted.into_iter().chain(crowded) {
            touched.push(slot.key());
            self.shelf(&new.author).decisions.remove(&slot);
            gone.extend(self.remove(&slot));
        }
        Outcome::Applied { gone, touched }
    }

    /// What its author must give up because it says too much about one key.
    fn crowded_out(&self, new: &Arc<Decision>) -> Option<Slot> {
        let place = self.places.get(&new.actor.key())?;
        let slots = place.slots_of(&new.author);
        if slots.clone().count() > PER_KEY_MAX { slots.min() } else { None }
    }

    fn withdraw(&mut self, new: &Arc<Withdrawal>) -> Outcome {
        let key = new.actor.key();
        let place = self.places.entry(key).or_default();
        let old = place.withdrawals.iter().find(|old| same_tombstone(old, new)).cloned();
        if let Some(old) = &old
            && withdrawal_rank(new) <= withdrawal_rank(old)
        {
            return Outcome::Known;
        }
        let ended: Vec<Arc<Decision>> =
            place.decisions.iter().filter(|decision| ends(new, decision)).cloned().collect();
        let mut gone = Vec::new();
        if let Some(old) = old {
            let slot = Slot::of_withdrawal(&old);
            self.shelf(&old.author).withdrawals.remove(&slot);
            gone.extend(self.remove(&slot));
        }
        for decision in &ended {
            let slot = Slot::of_decision(decision);
            self.shelf(&decision.author).decisions.remove(&slot);
            gone.extend(self.remove(&slot));
        }
        self.places.entry(key).or_default().withdrawals.push(Arc::clone(new));
        let max = self.per_author_max;
        let shelf = self.shelf(&new.author);
        shelf.withdrawals.insert(Slot::of_withdrawal(new));
        // The one that may be forgotten first was made first: what it ended has most likely expired.
        let mut evicted = if shelf.withdrawals.len() > max { shelf.withdrawals.pop_first() } else { None };
        if let Some(place) = self.places.get(&key)
            && place.tombstones_of(&new.author).count() > PER_KEY_MAX
        {
            evicted = place.tombstones_of(&new.author).min();
        }
        if let Some(slot) = evicted {
            self.shelf(&new.author).withdrawals.remove(&slot);
            gone.extend(self.remove(&slot));
        }
        // Even if nothing is ended here: the view may show what the registers do not know yet.
        Outcome::Applied { gone, touched: vec![key] }
    }

    fn recall(&mut self, new: &Arc<Recall>) -> Outcome {
        if !self.recalls.is_news(new) {
            return Outcome::Known;
        }
        let mut gone: Vec<_> = self.recalls.put(new).into_iter().map(Change::Recalled).collect();
        let slots = self.authors.get(&new.target).map(|shelf| shelf.decisions.clone()).unwrap_or_default();
        let ended = slots.into_iter().filter(|slot| slot.decision().is_some_and(|d| new.ends(d)));
        let mut touched = Vec::new();
        for slot in ended {
            self.shelf(&new.target).decisions.remove(&slot);
            touched.push(slot.key());
            gone.extend(self.remove(&slot));
        }
        self.authors.retain(|_, shelf| !shelf.decisions.is_empty() || !shelf.withdrawals.is_empty());
        Outcome::Applied { gone, touched }
    }

    fn list(&mut self, new: &Arc<Blocklist>) -> Outcome {
        if !self.lists.is_news(new) {
            return Outcome::Known;
        }
        match self.lists.put(new) {
            Some(gone) if Arc::ptr_eq(&gone, new) => Outcome::OverQuota,
            gone => {
                Outcome::Applied { gone: gone.into_iter().map(Change::Listed).collect(), touched: Vec::new() }
            }
        }
    }

    fn has_room(&self, new: &Arc<Decision>) -> bool {
        let Some(shelf) = self.authors.get(&new.author) else {
            return self.per_author_max > 0;
        };
        let slot = Slot::of_decision(new);
        let quota = shelf.decisions.len() < self.per_author_max
            || shelf.decisions.first().is_some_and(|first| *first < slot);
        let place = self.places.get(&new.actor.key());
        let crowded = place.is_some_and(|place| {
            let slots = place.slots_of(&new.author);
            slots.clone().count() >= PER_KEY_MAX && slots.min().is_some_and(|first| slot < first)
        });
        quota && !crowded
    }

    /// The decision with the names of its author as they are in memory already: each record brings its own.
    fn with_shared_author(&self, new: &Arc<Decision>) -> Arc<Decision> {
        match self.authors.get_key_value(&new.author) {
            Some((author, _)) if !Arc::ptr_eq(&author.node, &new.author.node) => {
                Arc::new(Decision { author: author.clone(), ..(**new).clone() })
            }
            _ => Arc::clone(new),
        }
    }

    fn shelf(&mut self, author: &Author) -> &mut Shelf {
        self.authors.entry(author.clone()).or_default()
    }

    /// Takes what a slot stands for out of its place. The slot itself is off its shelf already.
    fn remove(&mut self, slot: &Slot) -> Option<Change> {
        let key = slot.key();
        let place = self.places.get_mut(&key)?;
        let change = match slot {
            Slot::Decision(gone) => {
                let at = place.decisions.iter().position(|decision| same_register(decision, gone))?;
                self.decisions_len = self.decisions_len.saturating_sub(1);
                Change::Decided(place.decisions.swap_remove(at))
            }
            Slot::Withdrawal(gone) => {
                let at = place.withdrawals.iter().position(|withdrawal| same_tombstone(withdrawal, gone))?;
                Change::Withdrawn(place.withdrawals.swap_remove(at))
            }
        };
        self.drop_if_empty(&key);
        Some(change)
    }

    fn drop_if_empty(&mut self, key: &ActorKey) {
        if self
            .places
            .get(key)
            .is_some_and(|place| place.decisions.is_empty() && place.withdrawals.is_empty())
        {
            self.places.remove(key);
        }
    }
}

/// A change that its author is about to make, with an end not before that of the decision it takes the place of, which is among
/// those known about its key.
///
/// Otherwise a node that was cut off meanwhile, or a stream restored from a backup, would bring the longer one back when the
/// shorter one is over and forgotten. Who wants less withdraws first: a withdrawal is remembered for long enough.
pub(crate) fn no_shorter(change: Change, known: &[Arc<Decision>], now_ms: u64) -> Change {
    let Change::Decided(new) = change else { return change };
    let longest_ms = match new.author.role {
        AuthorRole::Operator => DECISION_MAX_MS,
        AuthorRole::Node => BAN_AUTOMATIC_MAX_MS,
    };
    let old = known.iter().find(|old| same_register(old, &new));
    let end_ms = old.map_or(0, |old| old.expires_at_ms.min(now_ms.saturating_add(longest_ms)));
    if end_ms <= new.expires_at_ms {
        return Change::Decided(new);
    }
    Change::Decided(Arc::new(Decision { expires_at_ms: end_ms, ..Arc::unwrap_or_clone(new) }))
}

/// What is known about one key. Few authors speak about one key, so lists are searched whole.
#[derive(Debug, Default)]
struct Place {
    decisions: Vec<Arc<Decision>>,
    withdrawals: Vec<Arc<Withdrawal>>,
}

impl Place {
    /// Whether a decision is neither ended nor known here.
    fn lacks(&self, new: &Decision) -> bool {
        let old = self.decisions.iter().find(|old| same_register(old, new));
        !self.ends(new) && old.is_none_or(|old| decision_rank(new) > decision_rank(old))
    }

    fn lacks_tombstone(&self, new: &Withdrawal) -> bool {
        let old = self.withdrawals.iter().find(|old| same_tombstone(old, new));
        old.is_none_or(|old| withdrawal_rank(new) > withdrawal_rank(old))
    }

    fn ends(&self, decision: &Decision) -> bool {
        self.withdrawals.iter().any(|withdrawal| ends(withdrawal, decision))
    }

    fn slots_of<'a>(&'a self, author: &'a Author) -> impl Iterator<Item = Slot> + Clone + 'a {
        let own = self.decisions.iter().filter(move |decision| decision.author == *author);
        own.map(Slot::of_decision)
    }

    fn tombstones_of<'a>(&'a self, author: &'a Author) -> impl Iterator<Item = Slot> + 'a {
        let own = self.withdrawals.iter().filter(move |withdrawal| withdrawal.author == *author);
        own.map(Slot::of_withdrawal)
    }
}

/// An author's records by expiry: for the quota and for the sweep.
#[derive(Debug, Default)]
struct Shelf {
    decisions: BTreeSet<Slot>,
    withdrawals: BTreeSet<Slot>,
}

/// A record on its author's shelf. Ordered by expiry, then by what makes it unique, so that every node evicts the same.
#[derive(Debug, Clone)]
enum Slot {
    Decision(Arc<Decision>),
    Withdrawal(Arc<Withdrawal>),
}

impl Slot {
    fn of_decision(decision: &Arc<Decision>) -> Self {
        Self::Decision(Arc::clone(decision))
    }

    fn of_withdrawal(withdrawal: &Arc<Withdrawal>) -> Self {
        Self::Withdrawal(Arc::clone(withdrawal))
    }

    fn decision(&self) -> Option<&Decision> {
        match self {
            Self::Decision(decision) => Some(decision),
            Self::Withdrawal(_) => None,
        }
    }

    fn actor(&self) -> &Actor {
        match self {
            Self::Decision(decision) => &decision.actor,
            Self::Withdrawal(withdrawal) => &withdrawal.actor,
        }
    }

    fn key(&self) -> ActorKey {
        self.actor().key()
    }

    fn expires_at_ms(&self) -> u64 {
        match self {
            Self::Decision(decision) => decision.expires_at_ms,
            Self::Withdrawal(withdrawal) => withdrawal.expires_at_ms,
        }
    }

    fn rank(&self) -> (u64, DecisionId, ActorKey, Option<u64>, Option<DecisionKind>) {
        let (id, kind) = match self {
            Self::Decision(decision) => (decision.id, Some(decision.kind)),
            Self::Withdrawal(withdrawal) => (withdrawal.id, None),
        };
        (self.expires_at_ms(), id, self.key(), self.actor().agent(), kind)
    }
}

impl Ord for Slot {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Slot {}

/// Whether a withdrawal of the same key ends a decision.
fn ends(withdrawal: &Withdrawal, decision: &Decision) -> bool {
    let may = match withdrawal.author.role {
        AuthorRole::Operator => true,
        AuthorRole::Node => withdrawal.author == decision.author,
    };
    let covers = withdrawal.actor.covers_agent(decision.actor.agent());
    may && covers && decision.version <= withdrawal.up_to_version
}

/// Whether two decisions about one key are values of one register.
fn same_register(one: &Decision, other: &Decision) -> bool {
    one.kind == other.kind && one.actor.agent() == other.actor.agent() && one.author == other.author
}

/// Whether two withdrawals of one key take each other's place.
fn same_tombstone(one: &Withdrawal, other: &Withdrawal) -> bool {
    one.actor.agent() == other.actor.agent() && one.author == other.author
}

/// Total order of the values of one register. An author that signs two values of one version loses nothing but its say in
/// which one holds: all nodes pick the same.
fn decision_rank(decision: &Decision) -> (u64, DecisionId, u64, u64, u8, &str) {
    (
        decision.version,
        decision.id,
        decision.expires_at_ms,
        decision.created_at_ms,
        decision.confidence_percent,
        &decision.reason,
    )
}

fn withdrawal_rank(withdrawal: &Withdrawal) -> (u64, DecisionId, u64, u64, &str) {
    (
        withdrawal.up_to_version,
        withdrawal.id,
        withdrawal.expires_at_ms,
        withdrawal.created_at_ms,
        &withdrawal.reason,
    )
}

/// What one author may say about one key: kinds of clients there, above all. More would make every look-up of the address slow.
const PER_KEY_MAX: usize = 64;

#[cfg(test)]
#[path = "registers_tests.rs"]
mod tests;
