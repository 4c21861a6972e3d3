//! What a node had said, taken over by the operator who drops its key: whoever comes later could not check it any more, and would
//! neither enforce its orders nor know what it had ended.

use std::collections::HashMap;
use std::sync::Arc;

use phalanx_model::{ActorKey, Author, AuthorRole, Blocklist, Decision, Recall, Withdrawal};

use crate::handle::new_id;
use crate::registers::Registers;
use crate::shared::Shared;
use crate::{Change, FleetError};

impl Shared {
    /// Says once more, as an operator of this node, what another node had said and is still in force, unless somebody else says as
    /// much. A copy is as old as what it copies, so that what ends the one ends the other. Returns how many were taken over.
    pub(crate) fn take_over(&self, site: &str, node: &str) -> Result<usize, FleetError> {
        self.key(AuthorRole::Operator)?;
        let (heir, now_ms) = (self.me.author(AuthorRole::Operator), self.clock.now_ms());
        let copies = {
            let core = self.core.lock();
            let mut copies = copies(&core.registers, site, node, &heir, now_ms);
            // What waits for an operator is not answered by this.
            copies.retain(|(theirs, _)| !matches!(theirs, Change::Decided(of) if core.holding.holds(of)));
            copies.into_iter().map(|(_, copy)| copy).collect::<Vec<_>>()
        };
        for copy in &copies {
            self.put_out(self.core.lock(), copy.clone(), now_ms)?;
        }
        Ok(copies.len())
    }
}

/// What there is to take over, each with what it becomes.
fn copies(
    registers: &Registers,
    site: &str,
    node: &str,
    heir: &Author,
    now_ms: u64,
) -> Vec<(Change, Change)> {
    let others = Others { registers, ended: ended_by_others(registers, site, node), site, node };
    let theirs = registers.written_by(site, node).filter(|change| change.expires_at_ms() > now_ms);
    let theirs = theirs.filter(|change| !others.say(change));
    let copies = theirs.filter_map(|change| copy(&change, heir).map(|copy| (change, copy)));
    copies.filter(|(_, copy)| registers.is_news(copy)).collect()
}

/// The same in the heir's name. What a node itself ended were its own orders only, which nobody can check any more.
fn copy(change: &Change, heir: &Author) -> Option<Change> {
    let author = heir.clone();
    Some(match change {
        Change::Decided(of) => Change::Decided(Arc::new(Decision {
            id: new_id(heir, of.created_at_ms),
            author,
            ..(**of).clone()
        })),
        Change::Withdrawn(of) if of.author.role == AuthorRole::Operator => {
            Change::Withdrawn(Arc::new(Withdrawal {
                id: new_id(heir, of.created_at_ms),
                author,
                ..(**of).clone()
            }))
        }
        Change::Recalled(of) if of.author.role == AuthorRole::Operator => {
            Change::Recalled(Arc::new(Recall {
                id: new_id(heir, of.created_at_ms),
                author,
                ..(**of).clone()
            }))
        }
        Change::Listed(of) => {
            let (id, version) = (new_id(heir, of.created_at_ms), of.version.saturating_add(1));
            Change::Listed(Arc::new(Blocklist { id, author, version, ..(**of).clone() }))
        }
        Change::Withdrawn(_) | Change::Recalled(_) => return None,
    })
}

/// Up to which version operators of other nodes have ended what is ordered about an actor.
type Ended = HashMap<(ActorKey, Option<u64>), u64>;

fn ended_by_others(registers: &Registers, site: &str, node: &str) -> Ended {
    let mut ended = Ended::new();
    let theirs = |author: &Author| *author.site == *site && *author.node == *node;
    for withdrawal in registers.withdrawals() {
        if withdrawal.author.role == AuthorRole::Operator && !theirs(&withdrawal.author) {
            let up_to = ended.entry((withdrawal.actor.key(), withdrawal.actor.agent())).or_default();
            *up_to = withdrawal.up_to_version.max(*up_to);
        }
    }
    ended
}

/// What nodes other than the one that goes say.
struct Others<'r> {
    registers: &'r Registers,
    ended: Ended,
    site: &'r str,
    node: &'r str,
}

impl Others<'_> {
    /// Whether somebody else says as much.
    fn say(&self, change: &Change) -> bool {
        match change {
            Change::Decided(of) => self.registers.decisions_of(&of.actor.key()).iter().any(|other| {
                (*other.author.site != *self.site || *other.author.node != *self.node)
                    && other.actor == of.actor
                    && other.kind == of.kind
                    && other.expires_at_ms >= of.expires_at_ms
            }),
            Change::Withdrawn(of) => {
                let ended = self.ended.get(&(of.actor.key(), of.actor.agent()));
                ended.is_some_and(|up_to| *up_to >= of.up_to_version)
            }
            Change::Recalled(_) | Change::Listed(_) => false,
        }
    }
}
