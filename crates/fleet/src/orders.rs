//! Orders about nodes: an operator cordons a node, drains it, sets it to work again, or evicts one that is dead.
//!
//! An order is a record of its own, signed by an operator and kept like decisions, so that it reaches the node wherever it is and
//! outlives its restarts. Of the orders about one node the newest counts, whoever gave it.
//!
//! INVARIANT: an order changes who is asked to serve, never what is enforced.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use phalanx_model::limits::{FLEET_NODES_MAX, REASON_BYTES_MAX, RECORD_FUTURE_MAX_MS};
use phalanx_model::{Author, AuthorRole};
use phalanx_trust::{Refusal, SignedRecord, TrustError, valid_name};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, MissedTickBehavior};

use crate::hybrid_clock::version_ms;
use crate::members::SILENCE_MAX_MS;
use crate::revoke::Unheard;
use crate::shared::Shared;
use crate::store::Kept;
use crate::{Delivery, FleetError, FleetHandle, Lease, Put, Speed, Topic, subject};

/// What a node is ordered to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duty {
    /// Serve, as a node without an order does.
    #[default]
    Serve,
    /// Serve whoever asks, but tell balancers not to send anyone, and hold no lease.
    Cordon,
    /// As cordoned; besides, end connections with the request that is under way.
    Drain,
    /// Nothing: the node is dead, and no longer counted until it is heard again.
    Evict,
}

impl Duty {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Serve => "serving",
            Self::Cordon => "cordoned",
            Self::Drain => "draining",
            Self::Evict => "evicted",
        }
    }

    /// Whether a node may take new work: visitors by way of balancers, leases.
    pub fn takes_work(self) -> bool {
        matches!(self, Self::Serve | Self::Evict)
    }
}

/// An order about a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeOrder {
    /// The node's site.
    pub site: Arc<str>,
    /// The node's name.
    pub node: Arc<str>,
    /// What it shall do.
    pub duty: Duty,
    /// Why; people on other nodes read it.
    pub reason: String,
}

/// An order in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The order.
    pub order: NodeOrder,
    /// Who gave it.
    pub author: Author,
    /// Its version.
    pub version: u64,
}

impl Standing {
    /// When it was given, in Unix milliseconds.
    pub fn given_at_ms(&self) -> u64 {
        version_ms(self.version)
    }
}

/// A node's site and name.
type Name = (Arc<str>, Arc<str>);

/// The orders in force, and what this node makes of the one about itself.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    standing: Mutex<HashMap<Name, Standing>>,
    mine: watch::Sender<Option<Standing>>,
    drained: watch::Sender<bool>,
}

impl Orders {
    /// The order about a node.
    pub(crate) fn about(&self, site: &str, node: &str) -> Option<Standing> {
        self.standing.lock().get(&(Arc::from(site), Arc::from(node))).cloned()
    }

    /// Whether this node has said that it is drained.
    pub(crate) fn is_drained(&self) -> bool {
        *self.drained.borrow()
    }

    /// Whether it was news.
    fn apply(&self, new: Standing) -> bool {
        let name = (Arc::clone(&new.order.site), Arc::clone(&new.order.node));
        let rank = |one: &Standing| (one.version, one.author.site.to_string(), one.author.node.to_string());
        let mut standing = self.standing.lock();
        let known = standing.get(&name);
        let full = standing.len() >= ORDERS_MAX && known.is_none();
        if full || known.is_some_and(|known| rank(known) >= rank(&new)) {
            return false;
        }
        standing.insert(name, new);
        true
    }

    /// Drops what an author ordered in versions above `above`: it was revoked.
    fn expel(&self, site: &str, node: &str, above: u64) {
        self.standing
            .lock()
            .retain(|_, one| *one.author.site != *site || *one.author.node != *node || one.version <= above);
    }
}

impl FleetHandle {
    /// Orders a node, everywhere, as an operator. A node that is alive cannot be evicted; what it is ordered ends no decision.
    pub async fn order_node(
        &self,
        site: &str,
        node: &str,
        duty: Duty,
        reason: &str,
    ) -> Result<Standing, FleetError> {
        let shared = &self.shared;
        shared.key(AuthorRole::Operator)?;
        let author = Author { site: site.into(), node: node.into(), role: AuthorRole::Node };
        if !valid_name(site) || !valid_name(node) || !shared.roots.read().knows(site, node) {
            return Err(FleetError::NoSuchAuthor(author));
        }
        if reason.len() > REASON_BYTES_MAX {
            return Err(FleetError::Limit("the reason is too long"));
        }
        let now_ms = shared.clock.now_ms();
        let alive =
            || now_ms.saturating_sub(shared.members.lock().last_seen_ms(site, node)) <= SILENCE_MAX_MS;
        if duty == Duty::Evict && (shared.is_me(&author) || alive()) {
            return Err(FleetError::Impossible(
                "that node is alive: only a dead one can be evicted; `phalanx fleet drain` empties one, `fleet revoke` puts one out",
            ));
        }
        let version = shared.core.lock().clock.tick(now_ms);
        let order = NodeOrder { site: site.into(), node: node.into(), duty, reason: reason.to_owned() };
        let author = shared.me.author(AuthorRole::Operator);
        let put = shared.sign_order(&order, &author, version)?;
        let standing = Standing { order, author, version };
        shared.apply_order(standing.clone());
        shared.engine.publish(put).await?;
        Ok(standing)
    }

    /// The order about this node, and a wake-up with each new one.
    pub fn duty(&self) -> watch::Receiver<Option<Standing>> {
        self.shared.orders.mine.subscribe()
    }

    /// Says whether nothing is left of what was under way when this node was told to drain.
    pub fn report_drained(&self, drained: bool) {
        if self.shared.orders.drained.send_replace(drained) != drained {
            self.shared.news.notify_one();
        }
    }

    /// Whether this node has said that it is drained.
    pub fn is_drained(&self) -> bool {
        self.shared.orders.is_drained()
    }

    /// Takes or renews a lease, unless an operator has ordered this node to take no work. `None` also while another node holds it.
    pub async fn lease(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, FleetError> {
        let takes_work =
            self.shared.orders.mine.borrow().as_ref().is_none_or(|one| one.order.duty.takes_work());
        if !takes_work {
            return Ok(None);
        }
        self.shared.engine.lease(name, ttl).await
    }
}

impl Shared {
    /// Checks an order that came under `subject`, and puts it into force.
    pub(crate) fn receive_order(&self, subject: &str, bytes: &[u8]) -> Result<(), Refusal> {
        let now_ms = self.clock.now_ms();
        let record = SignedRecord::from_bytes(bytes)?;
        let order = read(&record, subject)?;
        if record.expires_at_ms <= now_ms {
            return Err(Refusal::Expired);
        }
        if version_ms(record.version) > now_ms.saturating_add(RECORD_FUTURE_MAX_MS) {
            return Err(Refusal::FromTheFuture);
        }
        // Judged by the time it was written: an order must not lapse because the node that gave it is no longer renewed.
        self.roots.read().verify(&record, subject, version_ms(record.version).min(now_ms))?;
        self.core.lock().clock.observe(record.version);
        let own = self.is_me(&record.author);
        let standing = Standing { order, author: record.author, version: record.version };
        if self.apply_order(standing) {
            self.store.keep_soon(Kept {
                subject: subject.to_owned(),
                version: record.version,
                expires_at_ms: record.expires_at_ms,
                own,
                bytes: bytes.to_vec(),
            });
        }
        Ok(())
    }

    /// Puts into force what this node remembers. The seal proves that it was checked.
    pub(crate) fn restore_orders(&self) -> Result<(), FleetError> {
        let fleet_id = self.fleet_id();
        for kept in self.store.records(&format!("{}.", subject::ORDERS))?.0 {
            let record = SignedRecord::from_bytes(&kept.bytes).ok();
            let record = record.filter(|record| *record.fleet_id == *fleet_id);
            let order = record.and_then(|record| Some((read(&record, &kept.subject).ok()?, record)));
            let Some((order, record)) = order.filter(|_| kept.expires_at_ms > self.clock.now_ms()) else {
                self.engine.forget(&kept.subject, kept.version);
                continue;
            };
            self.core.lock().clock.observe(record.version);
            self.apply_order(Standing { order, author: record.author, version: record.version });
        }
        Ok(())
    }

    /// What a revoked node ordered counts no more.
    pub(crate) fn expel_orders(&self, site: &str, node: &str, above: u64) {
        self.orders.expel(site, node, above);
        self.look_at_my_order();
    }

    /// Whether it was news.
    fn apply_order(&self, standing: Standing) -> bool {
        let (site, node, duty) =
            (Arc::clone(&standing.order.site), Arc::clone(&standing.order.node), standing.order.duty);
        let given_at_ms = standing.given_at_ms();
        let by = standing.author.clone();
        if !self.orders.apply(standing) {
            return false;
        }
        tracing::info!(%site, %node, duty = duty.word(), %by, "node ordered");
        if duty == Duty::Evict {
            self.members.lock().evict(&site, &node, given_at_ms);
        }
        self.look_at_my_order();
        true
    }

    fn look_at_my_order(&self) {
        let mine = self.orders.about(&self.me.site, &self.me.node);
        let changed = self.orders.mine.send_if_modified(|known| {
            let changed = *known != mine;
            *known = mine;
            changed
        });
        if changed {
            self.news.notify_one();
        }
    }

    fn sign_order(&self, order: &NodeOrder, author: &Author, version: u64) -> Result<Put, FleetError> {
        let subject = subject::of_order(author, &order.site, &order.node);
        let body = serde_json::to_vec(order).map_err(|_| TrustError::Crypto("writing an order"))?;
        let expires_at_ms = version_ms(version).saturating_add(ORDER_MS);
        let bytes = self.signed(AuthorRole::Operator, &subject, version, expires_at_ms, &body)?;
        Ok(Put { topic: Topic::Orders, subject, version, expires_at_ms, bytes, speed: Speed::Both })
    }
}

/// Takes in what others order, until the topic closes. What comes before its author's announcement waits for that.
pub(crate) async fn run(shared: Arc<Shared>, mut orders: mpsc::Receiver<Delivery>) {
    let mut unheard = Unheard::of(Shared::receive_order);
    let mut again = tokio::time::interval(AGAIN);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            delivery = orders.recv() => match delivery {
                Some(Delivery::Put { subject, bytes }) => unheard.receive(&shared, subject, bytes),
                Some(Delivery::Synced | Delivery::Gap | Delivery::Link(_)) => {}
                None => return,
            },
            _ = again.tick(), if !unheard.is_empty() => unheard.again(&shared),
        }
    }
}

/// The order in a record, whose signature is for the caller to check.
fn read(record: &SignedRecord, subject: &str) -> Result<NodeOrder, Refusal> {
    if record.author.role != AuthorRole::Operator {
        return Err(Refusal::NotAllowed("only operators order nodes"));
    }
    let order: NodeOrder =
        serde_json::from_slice(&record.body).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    if !valid_name(&order.site) || !valid_name(&order.node) || order.reason.len() > REASON_BYTES_MAX {
        return Err(Refusal::Unreadable("a name or the reason is too long".into()));
    }
    match subject::of_order(&record.author, &order.site, &order.node) == *subject {
        true => Ok(order),
        false => Err(Refusal::WrongSubject),
    }
}

/// How long an order holds: longer than anybody forgets a node.
const ORDER_MS: u64 = 365 * 24 * 60 * 60_000;
/// Nodes about which an order is known: those of a full fleet, and as many that have gone.
const ORDERS_MAX: usize = 2 * FLEET_NODES_MAX;
const AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(author: &str, version: u64, duty: Duty) -> Standing {
        Standing {
            order: NodeOrder { site: "fra".into(), node: "b".into(), duty, reason: String::new() },
            author: Author { site: "fra".into(), node: author.into(), role: AuthorRole::Operator },
            version,
        }
    }

    #[test]
    fn of_two_orders_the_newer_counts_in_whatever_order_they_come() {
        let (old, new) = (standing("a", 1, Duty::Drain), standing("c", 2, Duty::Serve));
        for both in [[&old, &new], [&new, &old]] {
            let orders = Orders::default();
            for one in both {
                orders.apply(one.clone());
            }
            assert!(!orders.apply(old.clone()), "a replay is no news");
            assert_eq!(orders.about("fra", "b"), Some(new.clone()));
        }
    }

    #[test]
    fn what_a_revoked_operator_ordered_is_dropped() {
        let orders = Orders::default();
        orders.apply(standing("a", 5, Duty::Drain));
        orders.expel("fra", "a", 5);
        assert!(orders.about("fra", "b").is_some(), "given before it was stolen");
        orders.expel("fra", "a", 4);
        assert_eq!(orders.about("fra", "b"), None);
    }

    #[test]
    fn a_cordoned_node_takes_no_work() {
        let takes = [Duty::Serve, Duty::Cordon, Duty::Drain, Duty::Evict].map(Duty::takes_work);
        assert_eq!(takes, [true, false, false, true]);
    }
}
