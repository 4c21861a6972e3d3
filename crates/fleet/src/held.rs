//! What is known and not enforced here, because it would refuse too many of the clients that this node served well lately: it waits
//! for an operator. No IO.
//!
//! A node may order about one address at a time, so what one node orders is judged together: the clients served well that its
//! decisions in force refuse, and the one more that a new decision would. What hits none of them is never held, and nothing is that
//! this node itself concluded from attacks that it saw. Lists are judged each by itself.
//!
//! INVARIANT: what came into force stays; only what arrives is judged. What is held stays held until an operator approves it (with an order
//! of their own about the same actor), it is ended or replaced, or its time is over.
//! INVARIANT: what cannot be measured is enforced.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use phalanx_model::limits::HELD_CLIENTS_PER_AUTHOR_MAX;
use phalanx_model::{
    Actor, ActorKey, Author, AuthorRole, Blocklist, Decision, DecisionKind, GoodClients, GoodShare,
    HoldLimits,
};
use serde::{Deserialize, Serialize};

use crate::Change;

/// Something held, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) what: Waiting,
    /// What it would refuse, by what was known when it came. Of a decision, with all that its author ordered.
    pub(crate) share: GoodShare,
    pub(crate) since_ms: u64,
}

/// What waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "waiting", content = "of")]
pub(crate) enum Waiting {
    Decision(Arc<Decision>),
    List(Arc<Blocklist>),
}

impl Held {
    /// Under what it is kept on disk.
    pub(crate) fn pin(&self) -> String {
        match &self.what {
            Waiting::Decision(one) => {
                format!("{PIN}{}/{} {}", one.author.site, one.author.node, one.id)
            }
            Waiting::List(list) => format!("{PIN}{} {}", list.name, list.id),
        }
    }

    pub(crate) fn decision(&self) -> Option<&Arc<Decision>> {
        match &self.what {
            Waiting::Decision(decision) => Some(decision),
            Waiting::List(_) => None,
        }
    }

    pub(crate) fn expires_at_ms(&self) -> u64 {
        match &self.what {
            Waiting::Decision(decision) => decision.expires_at_ms,
            Waiting::List(list) => list.until_ms,
        }
    }
}

/// What is held, and what it was measured by.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    limits: HoldLimits,
    good: Arc<GoodClients>,
    /// Clients refused by decisions in force that are none of `good` any more, since nobody who is refused is served well.
    refused_beside: usize,
    decisions: HashMap<Author, HashMap<Register, Held>>,
    lists: HashMap<Arc<str>, Held>,
    tallies: HashMap<Author, Tally>,
}

/// The clients served well that one author's decisions are about.
#[derive(Debug, Default)]
struct Tally {
    /// Refused by decisions in force, with the registers that hold these.
    refused: HashMap<IpAddr, Vec<Register>>,
    /// About whom something is held.
    held: HashSet<IpAddr>,
    /// How many were held when the ledger was told.
    told: usize,
}

/// What tells the decisions of one author apart. (Not their ids, which are the author's to choose.)
type Register = (ActorKey, Option<u64>, DecisionKind);

fn register(decision: &Decision) -> Register {
    (decision.actor.key(), decision.actor.agent(), decision.kind)
}

impl Holding {
    /// Measures by these clients and limits from now on.
    pub(crate) fn measure_by(&mut self, limits: HoldLimits, good: Arc<GoodClients>) {
        (self.limits, self.good) = (limits, good);
        self.tallies.retain(|_, tally| !tally.refused.is_empty() || !tally.held.is_empty());
        let refused = self.tallies.values().flat_map(|tally| tally.refused.keys());
        self.refused_beside = refused.filter(|ip| !self.good.contains(**ip)).collect::<HashSet<_>>().len();
    }

    /// The clients that are measured by.
    pub(crate) fn good(&self) -> Arc<GoodClients> {
        Arc::clone(&self.good)
    }

    pub(crate) fn limits(&self) -> HoldLimits {
        self.limits
    }

    /// Judges a decision of a node that has become known. Returns it if it is held.
    pub(crate) fn judge(&mut self, decision: &Arc<Decision>, now_ms: u64) -> Option<&Held> {
        let refuses = matches!(decision.kind, DecisionKind::Ban | DecisionKind::Challenge);
        let client = match decision.actor {
            Actor::Ip(ip) | Actor::Client { ip, .. } => ip,
            // Nothing wider is a node's to order, and nothing else is known of clients yet.
            _ => return None,
        };
        if !refuses || decision.author.role != AuthorRole::Node || !self.good.contains(client) {
            return None;
        }
        let of = self.good.len().saturating_add(self.refused_beside);
        let tally = self.tallies.entry(decision.author.clone()).or_default();
        let known = tally.refused.contains_key(&client);
        let would = GoodShare::new(tally.refused.len() + usize::from(!known), of);
        let full = tally.refused.len() >= HELD_CLIENTS_PER_AUTHOR_MAX;
        // Whom its author refuses already it refuses for longer, or by another order.
        if known || !self.limits.is_over(would) && !full {
            let registers = tally.refused.entry(client).or_default();
            if !registers.contains(&register(decision)) {
                registers.push(register(decision));
            }
            return None;
        }
        tally.held.insert(client);
        let share = GoodShare::new(tally.refused.len() + tally.held.len(), of);
        let held = Held { what: Waiting::Decision(Arc::clone(decision)), share, since_ms: now_ms };
        let of_author = self.decisions.entry(decision.author.clone()).or_default();
        of_author.insert(register(decision), held);
        of_author.get(&register(decision))
    }

    /// Whether the ledger should be told of an author once more: when anything of it is held, and whenever that has doubled. Otherwise who
    /// writes thousands would fill it.
    pub(crate) fn tells(&mut self, author: &Author) -> Option<usize> {
        let held = self.decisions.get(author).map(HashMap::len)?;
        let tally = self.tallies.get_mut(author)?;
        let due = held >= tally.told.saturating_mul(2).max(1);
        due.then(|| {
            tally.told = held;
            held
        })
    }

    /// Whether a decision that is gone was in force and `new` has taken its place.
    pub(crate) fn is_renewed(&self, gone: &Change, new: &Decision) -> bool {
        let Change::Decided(old) = gone else { return false };
        old.author == new.author && register(old) == register(new) && !self.holds(old)
    }

    /// What of that which is held about an actor an operator's order makes needless.
    pub(crate) fn release(&mut self, order: &Decision) -> Vec<Held> {
        if order.author.role != AuthorRole::Operator || self.decisions.is_empty() {
            return Vec::new();
        }
        let key = order.actor.key();
        self.take(|decision| decision.actor.key() == key && covers(&order.actor, &decision.actor))
    }

    /// Forgets what is no longer; returns what of it was held.
    pub(crate) fn forget(&mut self, gone: &[Change]) -> Vec<Held> {
        let mut released = Vec::new();
        if self.decisions.is_empty() && self.tallies.is_empty() {
            return released;
        }
        for change in gone {
            let Change::Decided(decision) = change else { continue };
            let place = register(decision);
            match self.decisions.get_mut(&decision.author) {
                Some(of_author) if of_author.contains_key(&place) => {
                    released.extend(of_author.remove(&place))
                }
                _ => self.refuses_no_more(decision, &place),
            }
        }
        self.tidy(&released);
        released
    }

    /// Whether a decision is held.
    pub(crate) fn holds(&self, decision: &Decision) -> bool {
        let held = self.decisions.get(&decision.author).and_then(|of| of.get(&register(decision)));
        held.is_some_and(
            |held| matches!(&held.what, Waiting::Decision(one) if one.version == decision.version),
        )
    }

    /// What a list would refuse, if that is too much. A content that an operator approved is never held.
    pub(crate) fn judge_list(&mut self, list: &Arc<Blocklist>, hit: usize, now_ms: u64) -> Option<&Held> {
        let share = GoodShare::new(hit, self.good.len());
        if list.approved || !self.limits.is_over(share) {
            return None;
        }
        let held = Held { what: Waiting::List(Arc::clone(list)), share, since_ms: now_ms };
        self.lists.insert(Arc::clone(&list.name), held);
        self.lists.get(&list.name)
    }

    /// What this version of a list would refuse, if it is held.
    pub(crate) fn list(&self, list: &Blocklist) -> Option<GoodShare> {
        let held = self.lists.get(&list.name)?;
        matches!(&held.what, Waiting::List(one) if **one == *list).then_some(held.share)
    }

    /// Forgets held lists that are not among these; returns those.
    pub(crate) fn keep_lists(&mut self, wanted: &[Arc<Blocklist>]) -> Vec<Held> {
        let stays = |held: &Held| matches!(&held.what, Waiting::List(list) if wanted.contains(list));
        self.lists.extract_if(|_, held| !stays(held)).map(|(_, held)| held).collect()
    }

    /// Takes back what was held when the node stopped.
    pub(crate) fn remember(&mut self, held: Held) {
        match &held.what {
            Waiting::Decision(decision) => {
                let author = &decision.author;
                if let Some(ip) = client(&decision.actor) {
                    let tally = self.tallies.entry(author.clone()).or_default();
                    tally.held.insert(ip);
                    tally.told += 1;
                }
                let place = register(decision);
                self.decisions.entry(author.clone()).or_default().insert(place, held);
            }
            Waiting::List(list) => {
                let name = Arc::clone(&list.name);
                self.lists.insert(name, held);
            }
        }
    }

    /// Forgets held decisions that nobody knows of any more; returns them.
    pub(crate) fn keep_known(&mut self, known: impl Fn(&Decision) -> bool) -> Vec<Held> {
        self.take(|decision| !known(decision))
    }

    /// An author's held decisions about a key. Looks through all of it that is held: meant for the node's own, of which little is.
    pub(crate) fn about(&self, author: &Author, key: &ActorKey) -> Vec<Arc<Decision>> {
        let all = self.decisions.get(author).into_iter().flatten();
        let about = all.filter(|((held, ..), _)| held == key);
        about.filter_map(|(_, held)| held.decision().cloned()).collect()
    }

    /// Everything that is held, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.decisions.values().flat_map(HashMap::values).chain(self.lists.values())
    }

    /// How much is held.
    pub(crate) fn len(&self) -> usize {
        self.decisions_len() + self.lists.len()
    }

    /// How many decisions are held.
    pub(crate) fn decisions_len(&self) -> usize {
        self.decisions.values().map(HashMap::len).sum()
    }

    /// A sentence for each author and each list of which something is held.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let decisions = self.decisions.iter().filter_map(|(author, held)| {
            let share = held.values().max_by_key(|held| held.share.clients)?.share;
            let count = match held.len() {
                1 => "a decision".to_owned(),
                count => format!("{count} decisions"),
            };
            Some(format!(
                "held: {count} of {author}: with what it ordered before, it would refuse {share}; see `phalanx decision list --held`"
            ))
        });
        let lists = self.lists.iter().map(|(name, held)| {
            format!("held: blocklist {name} would refuse {}; see `phalanx decision list --held`", held.share)
        });
        let mut all: Vec<_> = decisions.chain(lists).collect();
        all.sort_unstable();
        all.truncate(SENTENCES_MAX);
        all
    }

    /// Takes out what `goes` says, and returns it.
    fn take(&mut self, goes: impl Fn(&Decision) -> bool) -> Vec<Held> {
        let goes = |held: &Held| matches!(&held.what, Waiting::Decision(decision) if goes(decision));
        let mut taken = Vec::new();
        for of_author in self.decisions.values_mut() {
            taken.extend(of_author.extract_if(|_, held| goes(held)).map(|(_, held)| held));
        }
        self.tidy(&taken);
        taken
    }

    fn refuses_no_more(&mut self, decision: &Decision, place: &Register) {
        if let Some(tally) = self.tallies.get_mut(&decision.author)
            && let Some(ip) = client(&decision.actor)
            && let Some(registers) = tally.refused.get_mut(&ip)
        {
            registers.retain(|one| one != place);
            if registers.is_empty() {
                tally.refused.remove(&ip);
            }
        }
    }

    fn tidy(&mut self, taken: &[Held]) {
        for held in taken {
            if let Waiting::Decision(decision) = &held.what
                && let Some(tally) = self.tallies.get_mut(&decision.author)
                && let Some(ip) = client(&decision.actor)
            {
                tally.held.remove(&ip);
            }
        }
        self.decisions.retain(|_, of_author| !of_author.is_empty());
    }
}

/// The client that a decision is about, if it is about one address.
fn client(actor: &Actor) -> Option<IpAddr> {
    match actor {
        Actor::Ip(ip) | Actor::Client { ip, .. } => Some(*ip),
        _ => None,
    }
}

/// Whether an order about one actor says what is to be done about another of the same key.
fn covers(order: &Actor, other: &Actor) -> bool {
    debug_assert_eq!(order.key(), other.key());
    order.covers_agent(other.agent())
}

/// Where things that are held are kept.
pub(crate) fn is_pin(name: &str) -> bool {
    name.starts_with(PIN)
}

const PIN: &str = "held ";
/// Authors and lists named in `status`: all lists, and as many authors as a fleet has in a bad hour.
const SENTENCES_MAX: usize = 32;

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
