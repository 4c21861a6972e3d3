//! What must be in force, worked out from what was said by rules so plain that they need no proof of their own.

use std::collections::BTreeSet;
use std::sync::Arc;

use phalanx_fleet::Change;
use phalanx_model::{Actor, Author, AuthorRole, Blocklist, Decision, DecisionId, DecisionKind, Recall};

use super::lists::listed;

/// Everything that nodes said.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    said: Vec<Change>,
    decided: BTreeSet<DecisionId>,
    /// Actors about whom something was said that died with its author before anyone was promised anything.
    doubtful: BTreeSet<Actor>,
}

impl Oracle {
    pub(crate) fn say(&mut self, change: Change) {
        if let Change::Decided(decision) = &change {
            self.decided.insert(decision.id);
        }
        self.said.push(change);
    }

    pub(crate) fn doubt(&mut self, actor: &Actor) {
        self.doubtful.insert(actor.clone());
    }

    pub(crate) fn is_doubtful(&self, actor: &Actor) -> bool {
        self.doubtful.contains(actor)
    }

    pub(crate) fn said(&self) -> &[Change] {
        &self.said
    }

    /// What must be in force until then, but for what is doubtful.
    pub(crate) fn expected(&self, until_ms: u64) -> BTreeSet<DecisionId> {
        let certain = self.decisions().filter(|decision| {
            decision.expires_at_ms > until_ms && !self.is_doubtful(&decision.actor) && !self.is_over(decision)
        });
        certain.map(|decision| decision.id).collect()
    }

    /// Whether a decision was superseded or withdrawn by something that was said.
    pub(crate) fn is_over(&self, decision: &Decision) -> bool {
        let superseded = self.decisions().any(|other| {
            (&other.actor, other.kind, &other.author) == (&decision.actor, decision.kind, &decision.author)
                && other.version > decision.version
        });
        let withdrawn = self.said.iter().any(|change| match change {
            Change::Withdrawn(withdrawal) => {
                let may =
                    withdrawal.author.role == AuthorRole::Operator || withdrawal.author == decision.author;
                may && withdrawal.actor == decision.actor && withdrawal.up_to_version >= decision.version
            }
            Change::Recalled(recall) => recall.ends(decision),
            Change::Decided(_) | Change::Listed(_) => false,
        });
        superseded || withdrawn
    }

    /// Whether an operator ordered something about exactly this actor.
    pub(crate) fn is_settled(&self, actor: &Actor) -> bool {
        self.decisions().any(|one| one.author.role == AuthorRole::Operator && one.actor == *actor)
    }

    /// Whether a node banned an actor for what it saw itself.
    pub(crate) fn is_concluded(&self, author: &Author, actor: &Actor) -> bool {
        self.decisions().any(|one| one.author == *author && one.actor == *actor && one.evidence.is_some())
    }

    /// Every version of every blocklist.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &Arc<Blocklist>> {
        self.said.iter().filter_map(listed)
    }

    /// Whether a version of a blocklist was recalled.
    pub(crate) fn is_list_recalled(&self, list: &Blocklist) -> bool {
        self.recalls().any(|recall| recall.covers(&list.author, list.version))
    }

    /// Decisions that a recall ends.
    pub(crate) fn ended_by(&self, recall: &Recall) -> Vec<Actor> {
        self.decisions().filter(|one| recall.ends(one)).map(|one| one.actor.clone()).collect()
    }

    /// What is wrong with a decision that a node enforces while the true time is `now_ms`, if anything.
    pub(crate) fn objection(
        &self,
        decision: &Decision,
        now_ms: u64,
        skew_max_ms: u64,
    ) -> Option<&'static str> {
        let by_node = decision.author.role == AuthorRole::Node;
        let wide = matches!(decision.actor, Actor::Prefix(_));
        if !self.decided.contains(&decision.id) {
            Some("nobody decided it")
        } else if by_node && (decision.kind == DecisionKind::Allow || wide) {
            Some("its author may not order it")
        } else if decision.expires_at_ms + skew_max_ms < now_ms {
            Some("its time is over")
        } else {
            None
        }
    }

    fn recalls(&self) -> impl Iterator<Item = &Arc<Recall>> {
        self.said.iter().filter_map(|change| match change {
            Change::Recalled(recall) => Some(recall),
            Change::Decided(_) | Change::Withdrawn(_) | Change::Listed(_) => None,
        })
    }

    fn decisions(&self) -> impl Iterator<Item = &Arc<Decision>> {
        self.said.iter().filter_map(|change| match change {
            Change::Decided(decision) => Some(decision),
            Change::Withdrawn(_) | Change::Recalled(_) | Change::Listed(_) => None,
        })
    }
}
