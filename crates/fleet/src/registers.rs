//! The merge core: registers that their authors own, withdrawals that end them, and the view that follows. No IO.
//!
//! A register is (author, actor, kind) and holds the highest version seen; a withdrawal is one per (author, actor) and ends
//! what has a version up to its own: anyone's if an operator wrote it, the author's own if a node did. Actors are told apart by
//! their addresses and, where they are one kind of client at an address, by its hash; a withdrawal of addresses ends what is
//! ordered about clients there too.
//!
//! INVARIANT: the state depends on the set of changes applied, not on their order or number: `apply` commutes and repeats.
//! (With one exception, on purpose: an author over its quota loses the registers that expire first.)

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use phalanx_model::limits::{BAN_AUTOMATIC_MAX_MS, DECISION_MAX_MS, DECISIONS_PER_AUTHOR_MAX};
use phalanx_model::{Author, AuthorRole, Decision, DecisionId, DecisionKind, Prefix, View, Withdrawal};

use crate::Change;

/// All registers and withdrawals known and not expired.
#[derive(Debug)]
pub struct Registers {
    ranges: HashMap<Prefix, Range>,
    authors: HashMap<Author, Shelf>,
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
        /// Ranges in the view that are not as they were.
        touched: Vec<Prefix>,
    },
    /// The state had it, or a newer one.
    Known,
    /// A withdrawal has ended it already.
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
        Self { ranges: HashMap::new(), authors: HashMap::new(), per_author_max, decisions_len: 0 }
    }

    /// Merges a change that the caller has checked.
    pub fn apply(&mut self, change: &Change, now_ms: u64) -> Outcome {
        if change.expires_at_ms() <= now_ms {
            return Outcome::Expired;
        }
        match change {
            Change::Decided(decision) => self.decide(decision),
            Change::Withdrawn(withdrawal) => self.withdraw(withdrawal),
        }
    }

    /// Whether a change would alter the state. Cheaper than checking a signature, so that repeats are dropped before that.
    pub fn is_news(&self, change: &Change) -> bool {
        let Some(range) = self.ranges.get(&change.range()) else {
            return true;
        };
        match change {
            Change::Decided(new) => {
                !range.ends(new)
                    && range
                        .decisions
                        .iter()
                        .find(|old| same_register(old, new))
                        .is_none_or(|old| decision_rank(new) > decision_rank(old))
            }
            Change::Withdrawn(new) => range
                .withdrawals
                .iter()
                .find(|old| same_tombstone(old, new))
                .is_none_or(|old| withdrawal_rank(new) > withdrawal_rank(old)),
        }
    }

    /// Whether its author's quota has room for a change.
    pub fn has_room_for(&self, change: &Change) -> bool {
        match change {
            Change::Decided(new) => {
                let range = self.ranges.get(&new.actor.range());
                let held =
                    range.is_some_and(|range| range.decisions.iter().any(|old| same_register(old, new)));
                held || self.has_room(new)
            }
            Change::Withdrawn(_) => true,
        }
    }

    /// A change that its author is about to make, with an end not before that of the decision it takes the place of.
    ///
    /// Otherwise a node that was cut off meanwhile, or a stream restored from a backup, would bring the longer one back when the
    /// shorter one is over and forgotten. Who wants less withdraws first: a withdrawal is remembered for long enough.
    pub fn no_shorter(&self, change: Change, now_ms: u64) -> Change {
        let Change::Decided(new) = change else { return change };
        let longest_ms = match new.author.role {
            AuthorRole::Operator => DECISION_MAX_MS,
            AuthorRole::Node => BAN_AUTOMATIC_MAX_MS,
        };
        let about_same = self.decisions_of(&new.actor.range());
        let old = about_same.iter().find(|old| same_register(old, &new));
        let end_ms = old.map_or(0, |old| old.expires_at_ms.min(now_ms.saturating_add(longest_ms)));
        if end_ms <= new.expires_at_ms {
            return Change::Decided(new);
        }
        Change::Decided(Arc::new(Decision { expires_at_ms: end_ms, ..Arc::unwrap_or_clone(new) }))
    }

    /// Forgets what has expired. Returns what is gone and the ranges that the view should be told of.
    pub fn sweep(&mut self, now_ms: u64) -> (Vec<Change>, Vec<Prefix>) {
        let mut expired = Vec::new();
        for (author, shelf) in &mut self.authors {
            for slots in [&mut shelf.decisions, &mut shelf.withdrawals] {
                while let Some(first) = slots.first()
                    && first.expires_at_ms <= now_ms
                {
                    expired.extend(slots.pop_first().map(|slot| (author.clone(), slot)));
                }
            }
        }
        self.authors.retain(|_, shelf| !shelf.decisions.is_empty() || !shelf.withdrawals.is_empty());
        let mut touched = Vec::new();
        let mut gone = Vec::new();
        for (author, slot) in expired {
            if let Some(change) = self.remove(&author, &slot) {
                if matches!(change, Change::Decided(_)) {
                    touched.push(slot.range);
                }
                gone.push(change);
            }
        }
        (gone, touched)
    }

    /// The decisions about a range, for the view.
    pub fn decisions_of(&self, range: &Prefix) -> Vec<Arc<Decision>> {
        self.ranges.get(range).map(|range| range.decisions.clone()).unwrap_or_default()
    }

    /// Every decision, in no order.
    pub fn decisions(&self) -> impl Iterator<Item = &Arc<Decision>> {
        self.ranges.values().flat_map(|range| &range.decisions)
    }

    /// How many decisions there are.
    pub fn decisions_len(&self) -> usize {
        self.decisions_len
    }

    /// Everything that this node wrote, in any role.
    pub fn written_by<'a>(&'a self, site: &'a str, node: &'a str) -> impl Iterator<Item = Change> + 'a {
        let mine = move |author: &Author| *author.site == *site && *author.node == *node;
        self.ranges.values().flat_map(move |range| {
            let decisions = range.decisions.iter().filter(move |decision| mine(&decision.author));
            let withdrawals = range.withdrawals.iter().filter(move |withdrawal| mine(&withdrawal.author));
            decisions
                .map(|decision| Change::Decided(Arc::clone(decision)))
                .chain(withdrawals.map(|withdrawal| Change::Withdrawn(Arc::clone(withdrawal))))
        })
    }

    /// The view that follows from everything.
    pub fn view(&self) -> View {
        View::from_decisions(self.decisions().cloned())
    }

    fn decide(&mut self, new: &Arc<Decision>) -> Outcome {
        let key = new.actor.range();
        let range = self.ranges.entry(key).or_default();
        if range.ends(new) {
            return Outcome::Withdrawn;
        }
        let old = range.decisions.iter().find(|old| same_register(old, new)).cloned();
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
            gone.extend(self.remove(&old.author, &slot));
        }
        self.ranges.entry(key).or_default().decisions.push(Arc::clone(new));
        self.decisions_len += 1;
        let max = self.per_author_max;
        let shelf = self.shelf(&new.author);
        shelf.decisions.insert(Slot::of_decision(new));
        let evicted = if shelf.decisions.len() > max { shelf.decisions.pop_first() } else { None };
        let crowded = self.crowded_out(new);
        for slot in evicted.into_iter().chain(crowded) {
            touched.push(slot.range);
            self.shelf(&new.author).decisions.remove(&slot);
            gone.extend(self.remove(&new.author, &slot));
        }
        Outcome::Applied { gone, touched }
    }

    /// What its author must give up because it says too much about one range.
    fn crowded_out(&self, new: &Decision) -> Option<Slot> {
        let range = self.ranges.get(&new.actor.range())?;
        let slots = range.slots_of(&new.author);
        if slots.clone().count() > PER_RANGE_MAX { slots.min() } else { None }
    }

    fn withdraw(&mut self, new: &Arc<Withdrawal>) -> Outcome {
        let key = new.actor.range();
        let range = self.ranges.entry(key).or_default();
        let old = range.withdrawals.iter().find(|old| same_tombstone(old, new)).cloned();
        if let Some(old) = &old
            && withdrawal_rank(new) <= withdrawal_rank(old)
        {
            return Outcome::Known;
        }
        let ended: Vec<Arc<Decision>> =
            range.decisions.iter().filter(|decision| ends(new, decision)).cloned().collect();
        let mut gone = Vec::new();
        if let Some(old) = old {
            let slot = Slot::of_withdrawal(&old);
            self.shelf(&old.author).withdrawals.remove(&slot);
            gone.extend(self.remove(&old.author, &slot));
        }
        for decision in &ended {
            let slot = Slot::of_decision(decision);
            self.shelf(&decision.author).decisions.remove(&slot);
            gone.extend(self.remove(&decision.author, &slot));
        }
        self.ranges.entry(key).or_default().withdrawals.push(Arc::clone(new));
        let max = self.per_author_max;
        let shelf = self.shelf(&new.author);
        shelf.withdrawals.insert(Slot::of_withdrawal(new));
        // The one that may be forgotten first was made first: what it ended has most likely expired.
        let mut evicted = if shelf.withdrawals.len() > max { shelf.withdrawals.pop_first() } else { None };
        if let Some(range) = self.ranges.get(&key)
            && range.tombstones_of(&new.author).count() > PER_RANGE_MAX
        {
            evicted = range.tombstones_of(&new.author).min();
        }
        if let Some(slot) = evicted {
            self.shelf(&new.author).withdrawals.remove(&slot);
            gone.extend(self.remove(&new.author, &slot));
        }
        let touched = if ended.is_empty() { Vec::new() } else { vec![key] };
        Outcome::Applied { gone, touched }
    }

    fn has_room(&self, new: &Decision) -> bool {
        let Some(shelf) = self.authors.get(&new.author) else {
            return self.per_author_max > 0;
        };
        let slot = Slot::of_decision(new);
        let quota = shelf.decisions.len() < self.per_author_max
            || shelf.decisions.first().is_some_and(|first| *first < slot);
        let range = self.ranges.get(&new.actor.range());
        let crowded = range.is_some_and(|range| {
            let slots = range.slots_of(&new.author);
            slots.clone().count() >= PER_RANGE_MAX && slots.min().is_some_and(|first| slot < first)
        });
        quota && !crowded
    }

    fn shelf(&mut self, author: &Author) -> &mut Shelf {
        self.authors.entry(author.clone()).or_default()
    }

    /// Takes what a slot stands for out of its range. The slot itself is off its shelf already.
    fn remove(&mut self, author: &Author, slot: &Slot) -> Option<Change> {
        let range = self.ranges.get_mut(&slot.range)?;
        let change = match slot.kind {
            Some(kind) => {
                let is_it = |decision: &Arc<Decision>| {
                    decision.author == *author
                        && decision.kind == kind
                        && decision.actor.agent() == slot.agent
                };
                let place = range.decisions.iter().position(is_it)?;
                self.decisions_len = self.decisions_len.saturating_sub(1);
                Change::Decided(range.decisions.swap_remove(place))
            }
            None => {
                let is_it = |withdrawal: &Arc<Withdrawal>| {
                    withdrawal.author == *author && withdrawal.actor.agent() == slot.agent
                };
                let place = range.withdrawals.iter().position(is_it)?;
                Change::Withdrawn(range.withdrawals.swap_remove(place))
            }
        };
        self.drop_if_empty(&slot.range);
        Some(change)
    }

    fn drop_if_empty(&mut self, key: &Prefix) {
        if self
            .ranges
            .get(key)
            .is_some_and(|range| range.decisions.is_empty() && range.withdrawals.is_empty())
        {
            self.ranges.remove(key);
        }
    }
}

/// What is known about one range. Few authors speak about one range, so lists are searched whole.
#[derive(Debug, Default)]
struct Range {
    decisions: Vec<Arc<Decision>>,
    withdrawals: Vec<Arc<Withdrawal>>,
}

impl Range {
    fn ends(&self, decision: &Decision) -> bool {
        self.withdrawals.iter().any(|withdrawal| ends(withdrawal, decision))
    }

    fn slots_of<'a>(&'a self, author: &'a Author) -> impl Iterator<Item = Slot> + Clone + 'a {
        let own = self.decisions.iter().filter(move |decision| decision.author == *author);
        own.map(|decision| Slot::of_decision(decision))
    }

    fn tombstones_of<'a>(&'a self, author: &'a Author) -> impl Iterator<Item = Slot> + 'a {
        let own = self.withdrawals.iter().filter(move |withdrawal| withdrawal.author == *author);
        own.map(|withdrawal| Slot::of_withdrawal(withdrawal))
    }
}

/// An author's records by expiry: for the quota and for the sweep.
#[derive(Debug, Default)]
struct Shelf {
    decisions: BTreeSet<Slot>,
    withdrawals: BTreeSet<Slot>,
}

/// Where a record lies. Ordered by expiry, then by what makes it unique, so that every node evicts the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    expires_at_ms: u64,
    id: DecisionId,
    range: Prefix,
    agent: Option<u64>,
    /// `None` stands for a withdrawal.
    kind: Option<DecisionKind>,
}

impl Slot {
    fn of_decision(decision: &Decision) -> Self {
        Self {
            expires_at_ms: decision.expires_at_ms,
            id: decision.id,
            range: decision.actor.range(),
            agent: decision.actor.agent(),
            kind: Some(decision.kind),
        }
    }

    fn of_withdrawal(withdrawal: &Withdrawal) -> Self {
        Self {
            expires_at_ms: withdrawal.expires_at_ms,
            id: withdrawal.id,
            range: withdrawal.actor.range(),
            agent: withdrawal.actor.agent(),
            kind: None,
        }
    }
}

/// Whether a withdrawal of the same range ends a decision.
fn ends(withdrawal: &Withdrawal, decision: &Decision) -> bool {
    let may = match withdrawal.author.role {
        AuthorRole::Operator => true,
        AuthorRole::Node => withdrawal.author == decision.author,
    };
    let covers = withdrawal.actor.covers_agent(decision.actor.agent());
    may && covers && decision.version <= withdrawal.up_to_version
}

/// Whether two decisions about one range are values of one register.
fn same_register(one: &Decision, other: &Decision) -> bool {
    one.kind == other.kind && one.actor.agent() == other.actor.agent() && one.author == other.author
}

/// Whether two withdrawals of one range take each other's place.
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

/// What one author may say about one range: kinds of clients there, above all. More would make every look-up of the address slow.
const PER_RANGE_MAX: usize = 64;

#[cfg(test)]
#[path = "registers_tests.rs"]
mod tests;
