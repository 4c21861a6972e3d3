//! The merge core: registers that their authors own, withdrawals that end them, and the view that follows. No IO.
//!
//! A register is (author, actor, kind) and holds the highest version seen; a withdrawal is one per (author, actor) and ends
//! what has a version up to its own: anyone's if an operator wrote it, the author's own if a node did. Actors are told apart by
//! their key and, where they are one kind of client at an address, by its hash; a withdrawal of addresses ends what is
//! ordered about clients there too. A recall ends what its target decided, about whomever, up to a version.
//!
//! INVARIANT: the state depends on the set of changes applied, not on their order or number: `apply` commutes and repeats.
//! (With one exception, on purpose: an author over its quota loses the registers that expire first.)
//!
//! Decisions, of which there may be a million, lie packed in a [`Table`]; all else is rare and kept as it came.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use phalanx_model::limits::{BAN_AUTOMATIC_MAX_MS, DECISION_MAX_MS, DECISIONS_PER_AUTHOR_MAX};
use phalanx_model::{ActorKey, Author, AuthorRole, Blocklist, Decision, DecisionId, Recall, Withdrawal};

use crate::digests::Digest;
use crate::listed::Listed;
use crate::ranges::{RangeProposal, Ranges};
use crate::recalls::Recalls;
use crate::table::{Group, RowId, Table, order_of, rank_of};
use crate::{Change, subject};

/// All registers and withdrawals known and not expired.
#[derive(Debug)]
pub struct Registers {
    table: Table,
    withdrawals: HashMap<ActorKey, Vec<Arc<Withdrawal>>>,
    /// Each author's withdrawals by expiry: for the quota and for the sweep.
    tombstones: HashMap<Author, BTreeSet<Tombstone>>,
    recalls: Recalls,
    lists: Listed,
    ranges: Ranges,
    /// Nodes that were taken out, with the version up to which what they said stands.
    expelled: Vec<(Arc<str>, Arc<str>, u64)>,
    per_author_max: usize,
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
        let (table, withdrawals, tombstones, recalls, lists, ranges, expelled) = Default::default();
        Self { table, withdrawals, tombstones, recalls, lists, ranges, expelled, per_author_max }
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
            Change::Decided(new) => {
                let newer = |old| self.table.rank(old).is_none_or(|old| rank_of(new) > old);
                !self.is_over(new) && self.table.register(new).is_none_or(newer)
            }
            Change::Withdrawn(new) => {
                self.tombstone(new).is_none_or(|old| withdrawal_rank(new) > withdrawal_rank(old))
            }
            Change::Recalled(new) => self.recalls.is_news(new),
            Change::Listed(new) => self.lists.is_news(new),
        }
    }

    /// Whether exactly this change is part of the state: not superseded, ended, evicted or swept meanwhile.
    pub fn holds(&self, change: &Change) -> bool {
        match change {
            Change::Decided(of) => {
                let held = self.table.register(of).and_then(|id| self.table.decision(id));
                held.is_some_and(|held| held == *of)
            }
            Change::Withdrawn(of) => self.tombstone(of).is_some_and(|held| held == of),
            Change::Recalled(of) => self.recalls.iter().any(|held| held == of),
            Change::Listed(of) => self.lists.iter().any(|held| held == of),
        }
    }

    /// What [`Self::apply`] would come to, quotas aside: what an applied change would replace is not told.
    pub fn predict(&self, change: &Change, now_ms: u64) -> Outcome {
        let ended = match change {
            Change::Decided(new) => self.is_over(new) || self.is_expelled(new),
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
            Change::Decided(new) => self.table.register(new).is_some() || self.has_room(new),
            Change::Withdrawn(_) | Change::Recalled(_) | Change::Listed(_) => true,
        }
    }

    /// Forgets what has expired. Returns what is gone and the ranges that the view should be told of.
    pub fn sweep(&mut self, now_ms: u64) -> (Vec<Change>, Vec<ActorKey>) {
        let (mut gone, mut touched) = (Vec::new(), Vec::new());
        let authors: Vec<Author> = self.table.authors().cloned().collect();
        for author in authors {
            while let Some(&first) = self.table.of_author(&author).first()
                && self.table.order(first).is_some_and(|(expires_at_ms, ..)| expires_at_ms <= now_ms)
            {
                self.take(first, &mut gone, &mut touched);
            }
        }
        let mut expired = Vec::new();
        for of in self.tombstones.values_mut() {
            while of.first().is_some_and(|first| first.0.expires_at_ms <= now_ms) {
                expired.extend(of.pop_first());
            }
        }
        for Tombstone(withdrawal) in expired {
            self.take_tombstone(&withdrawal);
            gone.push(Change::Withdrawn(withdrawal));
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
        let (mut gone, mut touched) = (Vec::new(), Vec::new());
        let rows = self.rows_by(site, node).filter(|id| self.table.version(*id).is_some_and(|of| of > above));
        let rows: Vec<RowId> = rows.collect();
        for id in rows {
            self.take(id, &mut gone, &mut touched);
        }
        let others: Vec<Change> =
            self.others_by(site, node).filter(|change| change.version() > above).collect();
        for change in &others {
            match change {
                Change::Decided(_) => {}
                Change::Withdrawn(withdrawal) => self.take_tombstone(withdrawal),
                Change::Recalled(recall) => self.recalls.take(recall),
                Change::Listed(list) => self.lists.take(list),
            }
        }
        gone.extend(others);
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
        self.table.about(key).filter_map(|id| self.table.decision(id)).collect()
    }

    /// Ranges of which one author bans so many addresses now that they are proposed, each with how many. Not those about which an operator has
    /// an order, or has withdrawn one at `rejected_since_ms` or later.
    pub fn proposals(&self, rejected_since_ms: u64) -> Vec<(RangeProposal, u32)> {
        let open = |proposal: &RangeProposal| {
            let key = proposal.actor().key();
            let by_operator = |author: &Author| author.role == AuthorRole::Operator;
            let ordered = self.table.about(&key).any(|id| self.table.author(id).is_some_and(by_operator));
            let rejected = self
                .ends_of(&key)
                .iter()
                .any(|one| by_operator(&one.author) && one.created_at_ms >= rejected_since_ms);
            !ordered && !rejected
        };
        let crowded = self.ranges.crowded().filter(|(proposal, _)| open(proposal));
        crowded.map(|(proposal, banned)| (proposal.clone(), banned)).collect()
    }

    /// What an author decided, in no order.
    pub fn decided_by(&self, author: &Author) -> impl Iterator<Item = Arc<Decision>> {
        self.table.of_author(author).iter().filter_map(|id| self.table.decision(*id))
    }

    /// Keys that a remembered withdrawal is about as a whole.
    pub fn withdrawn(&self) -> Vec<ActorKey> {
        let all = self.withdrawals.values().flatten();
        all.filter(|withdrawal| withdrawal.actor.agent().is_none()).map(|of| of.actor.key()).collect()
    }

    /// When an operator last withdrew what was ordered about this key as a whole, as far as that is remembered.
    pub fn forgiven_at_ms(&self, key: &ActorKey) -> Option<u64> {
        let by_operator =
            |w: &&Arc<Withdrawal>| w.author.role == AuthorRole::Operator && w.actor.agent().is_none();
        self.ends_of(key).iter().filter(by_operator).map(|withdrawal| withdrawal.created_at_ms).max()
    }

    /// Every decision, in no order. Unpacks each: for work that takes its time.
    pub fn decisions(&self) -> impl Iterator<Item = Arc<Decision>> {
        self.table.iter()
    }

    /// Some of the keys with all decisions about each, and where to go on: from 0 to `None` it is all of them, but for what
    /// changes meanwhile.
    pub(crate) fn keys(&self, from: RowId, limit: u32) -> Option<(Vec<Group>, RowId)> {
        self.table.keys(from, limit)
    }

    /// What a node wrote, in any role, by kind as in subjects: of versions up to `up_to_version`, and kept for longer than `after_ms`.
    pub(crate) fn digests(
        &self,
        site: &str,
        node: &str,
        up_to_version: u64,
        after_ms: u64,
    ) -> HashMap<&'static str, Digest> {
        let mut parts: HashMap<&'static str, Digest> = HashMap::new();
        let mut add = |kind, id, version, expires_at_ms| {
            if version <= up_to_version && expires_at_ms > after_ms {
                parts.entry(kind).or_default().add(id, version);
            }
        };
        for author in self.table.authors().filter(|of| *of.site == *site && *of.node == *node) {
            for row in self.table.of_author(author) {
                if let Some((kind, id, version, expires_at_ms)) = self.table.brief(*row) {
                    add(subject::of_decisions(author.role, kind), id, version, expires_at_ms);
                }
            }
        }
        for change in self.others_by(site, node) {
            let (kind, id) = match &change {
                Change::Decided(_) => continue,
                Change::Withdrawn(of) => (subject::of_withdrawals(of.author.role), of.id),
                Change::Recalled(of) => (subject::RECALL, of.id),
                Change::Listed(of) => (subject::LIST, of.id),
            };
            add(kind, id, change.version(), change.expires_at_ms());
        }
        parts
    }

    /// How many decisions there are.
    pub fn decisions_len(&self) -> usize {
        self.table.len()
    }

    /// What a node wrote, in any role.
    pub fn written_by<'a>(&'a self, site: &'a str, node: &'a str) -> impl Iterator<Item = Change> + 'a {
        let decisions = self.rows_by(site, node).filter_map(|id| self.table.decision(id));
        decisions.map(Change::Decided).chain(self.others_by(site, node))
    }

    /// Every withdrawal that is remembered, in no order.
    pub(crate) fn withdrawals(&self) -> impl Iterator<Item = &Arc<Withdrawal>> {
        self.tombstones.values().flatten().map(|Tombstone(of)| of)
    }

    fn rows_by<'a>(&'a self, site: &'a str, node: &'a str) -> impl Iterator<Item = RowId> + 'a {
        let mine = self.table.authors().filter(move |of| *of.site == *site && *of.node == *node);
        mine.flat_map(|author| self.table.of_author(author)).copied()
    }

    fn others_by<'a>(&'a self, site: &'a str, node: &'a str) -> impl Iterator<Item = Change> + 'a {
        let mine = move |author: &Author| *author.site == *site && *author.node == *node;
        let recalls = self.recalls.iter().filter(move |recall| mine(&recall.author));
        let lists = self.lists.iter().filter(move |list| mine(&list.author));
        let withdrawals = self.tombstones.iter().filter(move |(author, _)| mine(author));
        let withdrawals =
            withdrawals.flat_map(|(_, of)| of).map(|Tombstone(of)| Change::Withdrawn(Arc::clone(of)));
        withdrawals
            .chain(recalls.map(|recall| Change::Recalled(Arc::clone(recall))))
            .chain(lists.map(|list| Change::Listed(Arc::clone(list))))
    }

    fn decide(&mut self, new: &Arc<Decision>) -> Outcome {
        if self.is_over(new) {
            return Outcome::Withdrawn;
        }
        let old = self.table.register(new);
        if old.and_then(|old| self.table.rank(old)).is_some_and(|old| rank_of(new) <= old) {
            return Outcome::Known;
        }
        if old.is_none() && !self.has_room(new) {
            return Outcome::OverQuota;
        }
        let key = new.actor.key();
        let mut gone = Vec::new();
        let mut touched = vec![key];
        gone.extend(old.and_then(|old| self.remove(old)));
        self.table.insert(new);
        self.ranges.add(new);
        let of_author = self.table.of_author(&new.author);
        let evicted = of_author.first().copied().filter(|_| of_author.len() > self.per_author_max);
        let crowded = self.crowded_out(&key, &new.author);
        for id in evicted.into_iter().chain(crowded) {
            self.take(id, &mut gone, &mut touched);
        }
        Outcome::Applied { gone, touched }
    }

    /// What its author must give up because it says too much about one key.
    fn crowded_out(&self, key: &ActorKey, author: &Author) -> Option<RowId> {
        let rows = || self.table.about_by(key, author);
        if rows().count() > PER_KEY_MAX { rows().min_by_key(|id| self.table.order(*id)) } else { None }
    }

    fn withdraw(&mut self, new: &Arc<Withdrawal>) -> Outcome {
        let key = new.actor.key();
        let old = self.tombstone(new).cloned();
        if let Some(old) = &old
            && withdrawal_rank(new) <= withdrawal_rank(old)
        {
            return Outcome::Known;
        }
        let mut gone = Vec::new();
        if let Some(old) = old {
            self.take_tombstone(&old);
            gone.push(Change::Withdrawn(old));
        }
        let ended: Vec<RowId> = self.table.about(&key).filter(|id| self.is_ended_by(*id, new)).collect();
        gone.extend(ended.into_iter().filter_map(|id| self.remove(id)));
        self.withdrawals.entry(key).or_default().push(Arc::clone(new));
        let own = self.tombstones.entry(new.author.clone()).or_default();
        own.insert(Tombstone(Arc::clone(new)));
        // The one that may be forgotten first was made first: what it ended has most likely expired.
        let evicted = own.first().filter(|_| own.len() > self.per_author_max).cloned();
        let here = self.ends_of(&key).iter().filter(|of| of.author == new.author);
        let crowded = here.clone().cloned().map(Tombstone).min().filter(|_| here.count() > PER_KEY_MAX);
        let both_are_one = evicted == crowded;
        for Tombstone(withdrawal) in evicted.into_iter().chain(crowded.filter(|_| !both_are_one)) {
            self.take_tombstone(&withdrawal);
            gone.push(Change::Withdrawn(withdrawal));
        }
        // Even if nothing is ended here: the view may show what the registers do not know yet.
        Outcome::Applied { gone, touched: vec![key] }
    }

    fn recall(&mut self, new: &Arc<Recall>) -> Outcome {
        if !self.recalls.is_news(new) {
            return Outcome::Known;
        }
        let mut gone: Vec<_> = self.recalls.put(new).into_iter().map(Change::Recalled).collect();
        let of_target = self.table.of_author(&new.target).iter().copied();
        let ended = of_target.filter(|id| self.table.version(*id).is_some_and(|of| of <= new.up_to_version));
        let ended: Vec<RowId> = ended.collect();
        let mut touched = Vec::new();
        for id in ended {
            self.take(id, &mut gone, &mut touched);
        }
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

    fn has_room(&self, new: &Decision) -> bool {
        let rows = self.table.of_author(&new.author);
        let order = order_of(new);
        let outlasts = |id: RowId| self.table.order(id).is_some_and(|first| first < order);
        let quota = rows.len() < self.per_author_max || rows.first().is_some_and(|first| outlasts(*first));
        let key = new.actor.key();
        let here = || self.table.about_by(&key, &new.author);
        let crowded = here().count() >= PER_KEY_MAX && !here().any(outlasts);
        quota && !crowded && self.table.can_name(&new.author)
    }

    /// Whether a withdrawal or recall that is known ends a decision.
    fn is_over(&self, decision: &Decision) -> bool {
        let actor = &decision.actor;
        self.recalls.end(decision)
            || self
                .ends_of(&actor.key())
                .iter()
                .any(|withdrawal| ends(withdrawal, &decision.author, decision.version, actor.agent()))
    }

    fn is_ended_by(&self, id: RowId, withdrawal: &Withdrawal) -> bool {
        let (author, version) = (self.table.author(id), self.table.version(id));
        let agent = self.table.agent(id);
        author.zip(version).is_some_and(|(author, version)| ends(withdrawal, author, version, agent))
    }

    /// The withdrawals about a key.
    fn ends_of(&self, key: &ActorKey) -> &[Arc<Withdrawal>] {
        self.withdrawals.get(key).map_or(&[], Vec::as_slice)
    }

    /// The withdrawal whose place a new one takes.
    fn tombstone(&self, new: &Withdrawal) -> Option<&Arc<Withdrawal>> {
        let same =
            |one: &&Arc<Withdrawal>| one.actor.agent() == new.actor.agent() && one.author == new.author;
        self.ends_of(&new.actor.key()).iter().find(same)
    }

    fn take(&mut self, id: RowId, gone: &mut Vec<Change>, touched: &mut Vec<ActorKey>) {
        touched.extend(self.table.key(id));
        gone.extend(self.remove(id));
    }

    fn remove(&mut self, id: RowId) -> Option<Change> {
        let decision = self.table.remove(id)?;
        self.ranges.take(&decision);
        Some(Change::Decided(decision))
    }

    fn take_tombstone(&mut self, gone: &Arc<Withdrawal>) {
        if let Some(own) = self.tombstones.get_mut(&gone.author) {
            own.remove(&Tombstone(Arc::clone(gone)));
            if own.is_empty() {
                self.tombstones.remove(&gone.author);
            }
        }
        let key = gone.actor.key();
        if let Some(here) = self.withdrawals.get_mut(&key) {
            here.retain(|held| !Arc::ptr_eq(held, gone));
            if here.is_empty() {
                self.withdrawals.remove(&key);
            }
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

/// A withdrawal on its author's shelf. Ordered by expiry, then by what makes it unique, so that every node evicts the same.
#[derive(Debug, Clone)]
struct Tombstone(Arc<Withdrawal>);

impl Tombstone {
    fn order(&self) -> (u64, DecisionId, ActorKey, Option<u64>) {
        let Withdrawal { expires_at_ms, id, actor, .. } = &*self.0;
        (*expires_at_ms, *id, actor.key(), actor.agent())
    }
}

impl Ord for Tombstone {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Tombstone {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Tombstone {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Tombstone {}

/// Whether a withdrawal of the same key ends a decision of this author, version and kind of client.
fn ends(withdrawal: &Withdrawal, author: &Author, version: u64, agent: Option<u64>) -> bool {
    let may = match withdrawal.author.role {
        AuthorRole::Operator => true,
        AuthorRole::Node => withdrawal.author == *author,
    };
    may && withdrawal.actor.covers_agent(agent) && version <= withdrawal.up_to_version
}

/// Whether two decisions about one key are values of one register.
fn same_register(one: &Decision, other: &Decision) -> bool {
    one.kind == other.kind && one.actor.agent() == other.actor.agent() && one.author == other.author
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
#[path = "registers_model.rs"]
mod model;
#[cfg(test)]
#[path = "registers_tests.rs"]
mod tests;
