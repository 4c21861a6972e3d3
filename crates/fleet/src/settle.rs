//! What is held, as the rest of the product sees it: measured by clients served well, listed, and settled by an operator.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use phalanx_model::limits::{BAN_AUTOMATIC_MAX_MS, HELD_PAGE_MAX};
use phalanx_model::{
    Actor, AuthorRole, Blocklist, Country, Decision, DecisionId, DecisionKind, GoodClients, GoodShare,
    HoldLimits, LedgerEntry, LedgerKind, Withdrawal,
};

use crate::handle::cut;
use crate::held::{Held, Waiting, is_pin};
use crate::local::blocking;
use crate::shared::{Core, Shared};
use crate::{Change, FleetError, FleetHandle, NewDecision, RangeProposal};

/// By what a node measures whom an order would hit.
pub struct GoodPort {
    /// The clients that it served well in the ten minutes up to a time in Unix milliseconds. Asked each second.
    pub clients: Box<dyn Fn(u64) -> GoodClients + Send + Sync>,
    /// Autonomous system and country of an address, as far as they are known.
    pub place: Box<LocateFn>,
}

/// Says of an address its autonomous system and country.
pub type LocateFn = dyn Fn(IpAddr) -> (Option<u32>, Option<Country>) + Send + Sync;

impl std::fmt::Debug for GoodPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GoodPort").finish_non_exhaustive()
    }
}

/// Something that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldOrder {
    /// Its id.
    pub id: DecisionId,
    /// What it is.
    pub what: HeldKind,
    /// What it would refuse. Of a decision: with all that its author ordered, by what was known when it came; of a range: now.
    pub share: GoodShare,
    /// Since when it is held, in Unix milliseconds. A range is proposed for as long as its bans last.
    pub since_ms: Option<u64>,
}

/// What waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldKind {
    /// A node's decision.
    Decision(Arc<Decision>),
    /// A version of a blocklist; the one before stays in force.
    Blocklist(Arc<Blocklist>),
    /// A range of which one author bans so many addresses.
    Range(RangeProposal, u32),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It is an operator's own order.
    Ordered(Arc<Decision>),
    /// Everything about the actor is ended.
    Withdrawn(Arc<Withdrawal>),
    /// This is what the list is now: the approved content, or the one from before; or the list is removed.
    Listed(Arc<Blocklist>),
}

impl FleetHandle {
    /// Measures, from now on and each second anew, whom orders would hit. Before this, and while no client was served well, everything
    /// is enforced.
    pub async fn measure_by(&self, limits: HoldLimits, port: GoodPort) {
        if self.shared.good.set(port).is_err() {
            return;
        }
        self.shared.measure(limits).await;
        let shared = Arc::clone(&self.shared);
        self.spawn(async move {
            let mut seconds = tokio::time::interval(Duration::from_secs(1));
            seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                seconds.tick().await;
                shared.measure(limits).await;
            }
        });
    }

    /// How many of the clients that this node served well an order about an actor would refuse, and whether that is so many that it
    /// should be asked for twice. `None` while nothing can be measured.
    pub async fn would_refuse(&self, actor: &Actor) -> Option<(GoodShare, bool)> {
        let (good, limits) = {
            let core = self.shared.core.lock();
            (core.holding.good(), core.holding.limits())
        };
        if good.is_empty() {
            return None;
        }
        let (shared, actor) = (Arc::clone(&self.shared), actor.clone());
        // Up to 65,536 look-ups in a database.
        let measured = blocking(move || Ok(GoodShare::new(shared.hit_by(&good, &actor), good.len()))).await;
        measured.ok().map(|share| (share, limits.is_over(share)))
    }

    /// How many of these clients this node served well lately.
    pub fn served_well(&self, clients: &[IpAddr]) -> usize {
        let good = self.shared.core.lock().holding.good();
        clients.iter().filter(|client| good.contains(**client)).count()
    }

    /// What waits for an operator, the latest first, at most [`HELD_PAGE_MAX`]; and how much there is.
    pub fn held(&self) -> (Vec<HeldOrder>, usize) {
        let shared = &self.shared;
        let now_ms = shared.clock.now_ms();
        let core = shared.core.lock();
        let mut held: Vec<&Held> = core.holding.iter().filter(|held| now_ms < held.expires_at_ms()).collect();
        let mut total = held.len();
        // Only those that are shown are copied, and only they are put in order.
        if held.len() > HELD_PAGE_MAX {
            held.select_nth_unstable_by_key(HELD_PAGE_MAX, |held| Reverse(held.since_ms));
            held.truncate(HELD_PAGE_MAX);
        }
        let held: Vec<HeldOrder> = held.into_iter().map(order_of).collect();
        let good = core.holding.good();
        let proposals = core.registers.proposals(rejected_since_ms(now_ms));
        drop(core);
        total += proposals.len();
        // Few, and each stands for many bans: so they come first.
        let ranges = proposals.into_iter().map(|(proposal, banned)| {
            let share = GoodShare::new(good.hit_by(&proposal.actor()), good.len());
            HeldOrder { id: proposal.id(), what: HeldKind::Range(proposal, banned), share, since_ms: None }
        });
        let mut all: Vec<HeldOrder> = ranges.chain(held).collect();
        all.sort_by_key(|held| (held.since_ms.is_some(), Reverse(held.since_ms), held.id));
        all.truncate(HELD_PAGE_MAX);
        (all, total)
    }

    /// The clients that this node served well, as they are measured by.
    pub fn good_clients(&self) -> Arc<GoodClients> {
        self.shared.core.lock().holding.good()
    }

    /// How much waits for an operator.
    pub fn held_len(&self) -> usize {
        self.shared.held_len(&self.shared.core.lock())
    }

    /// Makes what is held, here or on other nodes only, the operator's own order, in force everywhere. It ends when what is approved
    /// would; for a range, when the last of its bans would.
    pub async fn approve(&self, id: DecisionId, reason: &str) -> Result<Settled, FleetError> {
        self.shared.key(AuthorRole::Operator)?;
        let words =
            |of: &str| cut(if reason.is_empty() { format!("approved: {of}") } else { reason.to_owned() });
        let now_ms = self.shared.clock.now_ms();
        match self.meant(id)? {
            HeldKind::Decision(decision) => {
                let order = NewDecision {
                    actor: decision.actor.clone(),
                    kind: decision.kind,
                    for_ms: decision.expires_at_ms.saturating_sub(now_ms),
                    reason: words(&decision.reason),
                    evidence: decision.evidence,
                };
                self.add(order).map(Settled::Ordered)
            }
            HeldKind::Blocklist(list) => self.approve_blocklist(&list).await.map(Settled::Listed),
            HeldKind::Range(proposal, banned) => {
                let order = NewDecision {
                    actor: proposal.actor(),
                    kind: DecisionKind::Ban,
                    for_ms: self.shared.last_end_ms(&proposal).saturating_sub(now_ms).max(1),
                    reason: words(&format!("{banned} of its addresses were banned by {}", proposal.author)),
                    evidence: None,
                };
                self.add(order).map(Settled::Ordered)
            }
        }
    }

    /// Ends what is held, everywhere. Of a blocklist the version before becomes the newest again, where there is one. A range that is rejected is
    /// not proposed again for a day.
    pub async fn reject(&self, id: DecisionId, reason: &str) -> Result<Settled, FleetError> {
        self.shared.key(AuthorRole::Operator)?;
        match self.meant(id)? {
            HeldKind::Decision(decision) => {
                self.withdraw(decision.actor.clone(), reason).map(Settled::Withdrawn)
            }
            HeldKind::Blocklist(list) => self.reject_blocklist(&list, reason).await.map(Settled::Listed),
            HeldKind::Range(proposal, _) => self.withdraw(proposal.actor(), reason).map(Settled::Withdrawn),
        }
    }

    /// What an operator means by an id: nodes differ in what they hold, so it may be in force here and held elsewhere.
    pub fn meant(&self, id: DecisionId) -> Result<HeldKind, FleetError> {
        let since_ms = rejected_since_ms(self.shared.clock.now_ms());
        let core = self.shared.core.lock();
        let held = core.holding.iter().map(order_of).find(|held| held.id == id).map(|held| held.what);
        let range = || {
            let mut proposals = core.registers.proposals(since_ms).into_iter();
            proposals.find(|(one, _)| one.id() == id).map(|(one, banned)| HeldKind::Range(one, banned))
        };
        if let Some(meant) = held.or_else(range) {
            return Ok(meant);
        }
        let list = core.registers.lists().find(|list| list.id == id).cloned();
        drop(core);
        if let Some(list) = list.filter(|list| list.content.is_some()) {
            return Ok(HeldKind::Blocklist(list));
        }
        self.find(id).map(HeldKind::Decision).ok_or(FleetError::NoSuchDecision(id))
    }
}

impl Shared {
    async fn measure(self: &Arc<Self>, limits: HoldLimits) {
        let shared = Arc::clone(self);
        let _ = blocking(move || {
            if let Some(port) = shared.good.get() {
                let good = Arc::new((port.clients)(shared.clock.now_ms()));
                shared.core.lock().holding.measure_by(limits, good);
            }
            Ok(())
        })
        .await;
    }

    fn hit_by(&self, good: &GoodClients, actor: &Actor) -> usize {
        let placed = |matches: &dyn Fn(Option<u32>, Option<Country>) -> bool| {
            let Some(port) = self.good.get() else { return 0 };
            let hit = |ip: &IpAddr| {
                let (asn, country) = (port.place)(*ip);
                matches(asn, country)
            };
            good.iter().filter(hit).count()
        };
        match actor {
            Actor::Asn(number) => placed(&|asn, _| asn == Some(*number)),
            Actor::Country(letters) => placed(&|_, country| country == Some(*letters)),
            _ => good.hit_by(actor),
        }
    }

    /// Looks at a change that was applied, and at what it replaced: holds it if it would refuse too many, and lets go of what nobody needs
    /// to look at any more.
    pub(crate) fn weigh(&self, core: &mut Core, change: &Change, gone: &[Change], now_ms: u64) {
        let Change::Decided(decision) = change else { return self.let_go(core, gone) };
        // What replaces what is in force says no more than that its author still means it: it is neither judged nor counted anew.
        let (replaced, gone): (Vec<_>, Vec<_>) =
            gone.iter().cloned().partition(|old| core.holding.is_renewed(old, decision));
        self.let_go(core, &gone);
        if !replaced.is_empty() {
            return;
        }
        self.unpin_all(core.holding.release(decision));
        // What this node concluded from attacks that it saw is not about who is served well.
        if self.is_me(&decision.author) && decision.evidence.is_some() {
            return;
        }
        let Some(held) = core.holding.judge(decision, now_ms) else { return };
        self.keep_held(held);
        let share = held.share;
        if let Some(count) = core.holding.tells(&decision.author) {
            self.tell_ledger(decision.author.clone(), format!("{count} decisions are held"), share, now_ms);
        }
    }

    /// Forgets what was held of what is gone.
    pub(crate) fn let_go(&self, core: &mut Core, gone: &[Change]) {
        self.unpin_all(core.holding.forget(gone));
    }

    pub(crate) fn unpin_all(&self, released: Vec<Held>) {
        for held in released {
            self.store.unpin(&held.pin());
        }
    }

    /// Holds a version of a list, if it would refuse too many.
    pub(crate) fn weigh_list(&self, list: &Arc<Blocklist>, prefixes: &phalanx_model::ListPrefixes) -> bool {
        let now_ms = self.clock.now_ms();
        let good = self.core.lock().holding.good();
        // A tenth of a second for the largest; not under the lock.
        let hit = good.on(prefixes);
        let mut core = self.core.lock();
        let Some(held) = core.holding.judge_list(list, hit, now_ms) else { return false };
        self.keep_held(held);
        let share = held.share;
        drop(core);
        let what = format!("blocklist {}, version {}, is held", list.name, list.version);
        self.tell_ledger(list.author.clone(), what, share, now_ms);
        true
    }

    /// Holds again what was held when the node stopped.
    pub(crate) async fn remember_held(self: &Arc<Self>) {
        let (store, now_ms) = (Arc::clone(&self.store), self.clock.now_ms());
        let read = blocking(move || {
            let pins = store.pins()?.into_iter().filter(|(name, _)| is_pin(name));
            let (mut held, mut over) = (Vec::new(), Vec::new());
            for (name, bytes) in pins {
                match serde_json::from_slice::<Held>(&bytes) {
                    Ok(one) if now_ms < one.expires_at_ms() => held.push(one),
                    Ok(_) | Err(_) => over.push(name),
                }
            }
            over.iter().for_each(|name| store.unpin(name));
            Ok(held)
        });
        let Ok(held) = read.await else { return };
        let mut core = self.core.lock();
        held.into_iter().for_each(|one| core.holding.remember(one));
    }

    /// The records are read: what is held and not among them is no longer.
    pub(crate) fn forget_unknown_held(&self, core: &mut Core) {
        let Core { holding, registers, .. } = core;
        let known = |decision: &Decision| {
            registers.decisions_of(&decision.actor.key()).iter().any(|one| {
                one.version == decision.version && one.author == decision.author && one.id == decision.id
            })
        };
        self.unpin_all(holding.keep_known(known));
    }

    /// How much waits for an operator.
    pub(crate) fn held_len(&self, core: &Core) -> usize {
        let since_ms = rejected_since_ms(self.clock.now_ms());
        core.holding.len() + core.registers.proposals(since_ms).len()
    }

    fn keep_held(&self, held: &Held) {
        if let Ok(bytes) = serde_json::to_vec(held) {
            self.store.pin(&held.pin(), &bytes);
        }
    }

    fn tell_ledger(&self, author: phalanx_model::Author, what: String, share: GoodShare, now_ms: u64) {
        tracing::warn!(%author, what, %share, "held for an operator");
        let kind = LedgerKind::Held { author, what, share };
        // A ledger without room must not be the way to get bans into force.
        if self.lanes.ledger(LedgerEntry { at_ms: now_ms, kind }).is_err() {
            self.fault("held ledger", "the ledger had no room to say that something is held");
        }
    }

    /// When the last of the bans that a proposal stands for ends.
    fn last_end_ms(&self, proposal: &RangeProposal) -> u64 {
        let core = self.core.lock();
        let theirs = core.registers.decided_by(&proposal.author);
        let within =
            theirs.filter(|one| one.actor.range().is_some_and(|range| proposal.range.contains(&range)));
        within.map(|one| one.expires_at_ms).max().unwrap_or_default()
    }
}

fn order_of(held: &Held) -> HeldOrder {
    let (id, what) = match &held.what {
        Waiting::Decision(decision) => (decision.id, HeldKind::Decision(Arc::clone(decision))),
        Waiting::List(list) => (list.id, HeldKind::Blocklist(Arc::clone(list))),
    };
    HeldOrder { id, what, share: held.share, since_ms: Some(held.since_ms) }
}

/// Bans that were there when a range was rejected are over after a day: what is proposed then is about new ones.
fn rejected_since_ms(now_ms: u64) -> u64 {
    now_ms.saturating_sub(BAN_AUTOMATIC_MAX_MS)
}
