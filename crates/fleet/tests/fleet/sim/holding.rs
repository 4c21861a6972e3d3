//! Clients served well, bans that would refuse too many of them, operators who settle those and recall authors, and what must be true.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use phalanx_fleet::{Change, FleetHandle, GoodPort, HeldKind, HeldOrder, Settled};
use phalanx_model::{
    Actor, Author, AuthorRole, Clock, Decision, DecisionId, DecisionKind, GoodClients, GoodShare, HoldLimits,
};

use super::dice::Dice;
use super::engine::Bug;
use super::lists::held_lists;
use super::oracle::Oracle;
use super::played::Played;
use super::run::{SimNode, SimulatedFleet, proposal};
use crate::support::{address, order};

/// By what a node measures.
#[derive(Default)]
pub(super) struct Good {
    clients: Vec<IpAddr>,
    /// Whom whose decisions refused when this run of the node began to measure: these are not judged.
    before: BTreeSet<(Author, IpAddr)>,
}

impl Good {
    /// Whom a node has served well: half of the nodes nobody.
    pub(super) fn of(dice: &mut Dice) -> Self {
        let first = dice.below(POOL - SERVED_WELL);
        let served = if dice.chance(600) { SERVED_WELL } else { 0 };
        let clients = (first..first + served).map(client).collect();
        Self { clients, before: BTreeSet::new() }
    }

    /// The node measures from here on.
    pub(super) async fn begin(&mut self, fleet: &FleetHandle, now_ms: u64, bug: Bug) {
        let clients = if bug == Bug::NobodyIsServedWell { Vec::new() } else { self.clients.clone() };
        let good: GoodClients = clients.into_iter().collect();
        let port =
            GoodPort { clients: Box::new(move |_now_ms| good.clone()), place: Box::new(|_ip| (None, None)) };
        fleet.measure_by(LIMITS, port).await;
        let in_force = fleet.list(now_ms, usize::MAX).into_iter();
        self.before =
            in_force.filter_map(|one| Some((one.author.clone(), address_of(&one.actor)?))).collect();
    }
}

impl SimulatedFleet {
    /// A node bans many clients at once: it met a botnet, or somebody has its key.
    pub(super) fn burst(&mut self, mut dice: Dice) {
        let at = usize::try_from(dice.below(self.nodes.len() as u64)).unwrap();
        let (passes_on, count) = (dice.chance(300), 3 + dice.below(5));
        let for_ms = *dice.pick(&[20_000, 600_000, 3_600_000]);
        let node = &mut self.nodes[at];
        let Some(running) = &mut node.running else { return };
        for _ in 0..count {
            let actor = Actor::ip(client(dice.below(POOL)));
            let said = match passes_on {
                true => running.fleet.pass_on(order(actor, DecisionKind::Ban, for_ms)),
                false => running.fleet.propose(proposal(actor, DecisionKind::Ban, for_ms)),
            };
            match said {
                Ok(decision) => {
                    running.said += 1;
                    self.world.tell(&format!("{} bans {} of its visitors", node.name, decision.actor));
                    self.oracle.say(Change::Decided(decision));
                }
                Err(error) => self.violations.push(format!("{}: a ban was refused: {error}", node.name)),
            }
        }
    }

    /// An operator settles something that is held, somewhere.
    pub(super) async fn settle(&mut self, mut dice: Dice) {
        let at = usize::try_from(dice.below(self.nodes.len() as u64)).unwrap();
        let holder = usize::try_from(dice.below(self.nodes.len() as u64)).unwrap();
        let (approves, lists) = (dice.chance(500), dice.chance(400));
        if !self.nodes[at].control {
            return;
        }
        // What one node holds another may settle.
        let holders = (0..self.nodes.len()).map(|next| &self.nodes[(holder + next) % self.nodes.len()]);
        let held = holders.clone().map(SimNode::held_decisions).find(|held| !held.is_empty());
        let list = holders.clone().find_map(|node| held_lists(node).pop());
        if let Some(list) = list.filter(|_| lists || held.is_none()) {
            return self.settle_list(at, list.id, approves);
        }
        let Some(held) = held else { return };
        let id = dice.pick(&held).id;
        let node = &mut self.nodes[at];
        let Some(running) = &mut node.running else { return };
        // Waits for nothing: an order is in force at once.
        let settled = match approves {
            true => running.fleet.approve(id, "").await,
            false => running.fleet.reject(id, "a friend").await,
        };
        let (what, change) = match settled {
            Ok(Settled::Ordered(decision)) => ("decision approved", Change::Decided(decision)),
            Ok(Settled::Withdrawn(withdrawal)) => ("decision rejected", Change::Withdrawn(withdrawal)),
            Ok(Settled::Listed(_)) => return,
            // Nothing of it has arrived here, or its time is over by this clock.
            Err(_) => return,
        };
        running.said += 1;
        self.played.count(what);
        let about = change.actor().map(ToString::to_string).unwrap_or_default();
        self.world.tell(&format!("{what} at {}: {about}", node.name));
        self.oracle.say(change);
    }

    fn settle_list(&mut self, at: usize, id: DecisionId, approves: bool) {
        let (world, played) = (Arc::clone(&self.world), self.played.clone());
        let name = self.nodes[at].name;
        let Some(running) = &mut self.nodes[at].running else { return };
        let fleet = running.fleet.clone();
        running.errands.spawn(async move {
            let (what, done) = match approves {
                true => ("list approved", fleet.approve(id, "").await),
                false => ("list rejected", fleet.reject(id, "names our visitors").await),
            };
            if done.is_ok() {
                played.count(what);
                world.tell(&format!("{what} at {name}: {id}"));
            }
        });
    }

    /// An operator recalls all that somebody ordered.
    pub(super) fn recall(&mut self, mut dice: Dice) {
        let at = usize::try_from(dice.below(self.nodes.len() as u64)).unwrap();
        let of = usize::try_from(dice.below(self.nodes.len() as u64)).unwrap();
        let role = if dice.chance(250) { AuthorRole::Operator } else { AuthorRole::Node };
        let mut target = Author { site: self.nodes[of].site.into(), node: self.nodes[of].name.into(), role };
        let held: Vec<Arc<Decision>> = self.nodes.iter().flat_map(SimNode::held_decisions).collect();
        // Who bans so many visitors most likely has lost its key.
        if let Some(one) = held.first().filter(|_| dice.chance(500)) {
            target = one.author.clone();
        }
        let node = &mut self.nodes[at];
        let Some(running) = node.running.as_mut().filter(|_| node.control) else { return };
        // Of nobody that this node knows.
        let Ok(recall) = running.fleet.recall(target.clone(), "broken into") else { return };
        running.said += 1;
        self.played.count("recall");
        if held.iter().any(|decision| recall.ends(decision)) {
            self.played.count("recall ends what is held");
        }
        self.world.tell(&format!("{} recalls what {target} said", node.name));
        self.oracle.say(Change::Recalled(recall));
    }
}

impl SimNode {
    /// Decisions that wait here for an operator.
    pub(super) fn held_decisions(&self) -> Vec<Arc<Decision>> {
        let Some(running) = &self.running else { return Vec::new() };
        running.fleet.held().0.into_iter().filter_map(|held| decision(&held)).collect()
    }

    /// What is wrong with what is held here and what is not.
    pub(super) fn holding_objections(&self, oracle: &Oracle, played: &Played) -> Vec<String> {
        let Some(running) = &self.running else { return Vec::new() };
        let mut objections = Vec::new();
        for held in running.fleet.held().0 {
            if let HeldKind::Blocklist(list) = &held.what {
                played.once("list held", (self.name, list.id));
            }
            let Some(one) = decision(&held) else { continue };
            played.once("decision held", (self.name, one.id));
            let client = address_of(&one.actor);
            if one.author.role != AuthorRole::Node
                || !client.is_some_and(|ip| self.good.clients.contains(&ip))
                || !LIMITS.is_over(held.share)
            {
                objections.push(format!("held without a reason: {held:?}"));
            }
        }
        let mut refused: BTreeMap<Author, BTreeSet<IpAddr>> = BTreeMap::new();
        for one in running.fleet.list(self.clock.now_ms(), usize::MAX) {
            let Some(ip) = address_of(&one.actor).filter(|ip| self.good.clients.contains(ip)) else {
                continue;
            };
            // What it concluded itself it may go on with for whatever reason.
            let own = *one.author.node == *self.name && oracle.is_concluded(&one.author, &one.actor);
            let judged = one.author.role == AuthorRole::Node
                && !own
                && !self.good.before.contains(&(one.author.clone(), ip))
                && !oracle.is_settled(&one.actor);
            if judged {
                refused.entry(one.author.clone()).or_default().insert(ip);
            }
        }
        for (author, clients) in refused {
            let share = GoodShare::new(clients.len(), self.good.clients.len());
            if LIMITS.is_over(share) {
                objections.push(format!("{author} refuses {share}"));
            }
        }
        objections
    }

    /// What must be held when this node has started again: what was when it stopped, as far as it still counts.
    pub(super) fn held_over(
        &self,
        before: &BTreeMap<DecisionId, Arc<Decision>>,
        oracle: &Oracle,
        played: &Played,
    ) -> Vec<String> {
        let Some(running) = &self.running else { return Vec::new() };
        let now_ms = self.clock.now_ms();
        let in_force = running.fleet.list(now_ms, usize::MAX);
        let counts = |held: &&Arc<Decision>| !oracle.is_settled(&held.actor);
        let risen =
            before.values().filter(counts).filter(|held| in_force.iter().any(|one| one.id == held.id));
        if !before.is_empty() {
            played.count("held over a restart");
        }
        risen.map(|one| format!("held before the restart and in force after it: {one:?}")).collect()
    }
}

fn decision(held: &HeldOrder) -> Option<Arc<Decision>> {
    match &held.what {
        HeldKind::Decision(decision) => Some(Arc::clone(decision)),
        HeldKind::Blocklist(_) | HeldKind::Range(..) => None,
    }
}

fn address_of(actor: &Actor) -> Option<IpAddr> {
    match actor {
        Actor::Ip(ip) => Some(*ip),
        _ => None,
    }
}

/// The clients among whom nodes have some that they served well.
fn client(number: u64) -> IpAddr {
    address(&format!("198.51.100.{}", 1 + number))
}

const POOL: u64 = 16;
const SERVED_WELL: u64 = 10;
/// Of ten clients two may be refused.
const LIMITS: HoldLimits = HoldLimits { share_percent: 20, clients_least: 3 };
