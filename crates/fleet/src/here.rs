//! Orders of a node for itself alone: about software, routes and apps, which are more than one subscriber, so that no node may order the others
//! about them. They are in the view like all decisions, never travel, and end with the process at the latest.
//!
//! INVARIANT: an operator's withdrawal or recall ends them like any decision; each begins and ends in the ledger.

use std::sync::Arc;

use phalanx_model::limits::{HERE_FOR_MAX_MS, HERE_MAX};
use phalanx_model::{
    Actor, ActorKey, AuthorRole, Decision, DecisionKind, LedgerEntry, LedgerKind, Recall, Withdrawal,
};

use crate::handle::{cut, new_id};
use crate::shared::{Core, Shared};
use crate::{Change, FleetError, FleetHandle, NewDecision};

impl FleetHandle {
    /// Puts an order about software, a route, an app or a network into force on this node alone, in place of the one that it gave before about the
    /// same. Cut to a quarter of an hour.
    pub fn order_here(&self, order: NewDecision) -> Result<Arc<Decision>, FleetError> {
        let shared = &self.shared;
        let key = order.actor.key();
        if !(key.is_wide() || matches!(order.actor, Actor::Prefix(_) | Actor::Asn(_)))
            || order.kind == DecisionKind::Allow
            || !order.kind.suits(&order.actor)
        {
            return Err(FleetError::Impossible(
                "a node orders itself about software, routes, apps, networks and systems",
            ));
        }
        let now_ms = shared.clock.now_ms();
        let mut core = shared.core.lock();
        let author = shared.me.author(AuthorRole::Node);
        let decision = Arc::new(Decision {
            id: new_id(&author, now_ms),
            actor: order.actor,
            kind: order.kind,
            author,
            reason: cut(order.reason),
            evidence: order.evidence,
            confidence_percent: 100,
            created_at_ms: now_ms,
            expires_at_ms: now_ms.saturating_add(order.for_ms.min(HERE_FOR_MAX_MS)),
            version: core.clock.tick(now_ms),
        });
        let mut here = shared.here(now_ms);
        here.retain(|one| one.actor.key() != key);
        if here.len() >= HERE_MAX {
            return Err(FleetError::Limit("this node has ordered itself as much as it may"));
        }
        shared.lanes.ledger(LedgerEntry {
            at_ms: now_ms,
            kind: LedgerKind::Decided { decision: Arc::clone(&decision) },
        })?;
        here.push(Arc::clone(&decision));
        shared.show_here(&mut core, here);
        Ok(decision)
    }

    /// Ends what this node ordered itself about an actor. Whether there was anything.
    pub fn lift_here(&self, actor: &Actor, reason: &str) -> Result<bool, FleetError> {
        let shared = &self.shared;
        let (now_ms, key) = (shared.clock.now_ms(), actor.key());
        let mut core = shared.core.lock();
        let mut here = shared.here(now_ms);
        let before = here.len();
        here.retain(|one| one.actor.key() != key);
        if here.len() == before {
            return Ok(false);
        }
        let author = shared.me.author(AuthorRole::Node);
        let withdrawal = Arc::new(Withdrawal {
            id: new_id(&author, now_ms),
            actor: actor.clone(),
            up_to_version: core.clock.tick(now_ms),
            reason: cut(reason.to_owned()),
            created_at_ms: now_ms,
            expires_at_ms: now_ms.saturating_add(HERE_FOR_MAX_MS),
            author,
        });
        shared.lanes.ledger(LedgerEntry { at_ms: now_ms, kind: LedgerKind::Withdrawn { withdrawal } })?;
        shared.show_here(&mut core, here);
        Ok(true)
    }
}

impl Shared {
    /// What this node ordered itself and is still in force.
    fn here(&self, now_ms: u64) -> Vec<Arc<Decision>> {
        self.view.load().here().iter().filter(|one| one.is_live(now_ms)).cloned().collect()
    }

    fn show_here(&self, core: &mut Core, here: Vec<Arc<Decision>>) {
        let view = self.view.load_full();
        let next = view.with_here(here.into());
        self.show(core, view, next);
    }

    /// Ends what a change that came into force ends of it.
    pub(crate) fn end_here(&self, core: &mut Core, change: &Change) {
        if self.view.load().here().is_empty() {
            return;
        }
        let ends = |one: &Decision| match change {
            Change::Withdrawn(order) => is_ended(order, &one.actor.key(), one.version),
            Change::Recalled(order) => Recall::ends(order, one),
            Change::Decided(_) | Change::Listed(_) => false,
        };
        let all = self.here(self.clock.now_ms());
        let left: Vec<_> = all.iter().filter(|one| !ends(one)).cloned().collect();
        if left.len() < all.len() {
            self.show_here(core, left);
        }
    }

    /// Drops what has expired.
    pub(crate) fn sweep_here(&self, core: &mut Core, now_ms: u64) {
        let left = self.here(now_ms);
        if left.len() < self.view.load().here().len() {
            self.show_here(core, left);
        }
    }
}

fn is_ended(order: &Withdrawal, key: &ActorKey, version: u64) -> bool {
    order.author.role == AuthorRole::Operator && order.actor.key() == *key && version <= order.up_to_version
}
