//! What the workers of a node share and change: strikes, good traffic, connections per actor. Sharded and bounded.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use hashbrown::HashMap;
use parking_lot::Mutex;
use phalanx_decide::rate::RateTable;
use phalanx_decide::{Arrivals, Challenges, Claims, GoodTraffic, StrikeTable, Throttled};
use phalanx_model::net::actor_ip;

use crate::accounts::AccountTables;
use crate::crawlers::Questions;
use crate::overload::Pressure;
use crate::selftest::SelfTest;
use crate::settings::EdgeLimits;
use crate::trial::TrialCounts;

/// The only mutable state that workers share.
#[derive(Debug, Default)]
pub struct NodeTables {
    /// Strikes by actor.
    pub strikes: StrikeTable,
    /// Recent good traffic by actor.
    pub good: GoodTraffic,
    /// Open connections.
    pub connections: ConnectionCounts,
    /// TLS handshakes under way.
    pub handshakes: ConnectionCounts,
    /// How often actors begin one.
    pub greetings: Arrivals,
    /// Memory of held bodies, and of what inspection makes of them.
    pub held: HeldCounts,
    /// Counts of rate limits.
    pub rates: RateCounting,
    /// How clients fare with challenges.
    pub challenges: Challenges,
    /// Who says that it is a crawler, and whether it is.
    pub claims: Claims,
    /// Which of these claims are to be looked into.
    pub questions: Questions,
    /// Counts of whoever is throttled.
    pub throttled: Throttled,
    /// How clients fare while a policy is on trial.
    pub trial: TrialCounts,
    /// How short the node runs of what it needs.
    pub pressure: Pressure,
    /// Requests refused by decisions about software, routes or apps.
    pub(crate) refused_wide: AtomicU64,
    /// Whose sessions are, and how logins are answered.
    pub accounts: AccountTables,
    /// How the node knows its own attacks on itself.
    pub self_test: SelfTest,
}

/// The counts of rate limits, and the steady clock that they go by.
#[derive(Debug)]
pub struct RateCounting {
    /// The counts.
    pub table: RateTable,
    steady: Steady,
}

/// A clock that never goes back.
#[derive(Debug)]
enum Steady {
    /// It runs, since then.
    Since(Instant),
    /// It stands there, until it is moved.
    At(AtomicU64),
}

impl RateCounting {
    /// No counts yet; see [`RateTable::new`].
    pub fn new(hash_key: [u8; 16]) -> Self {
        Self { table: RateTable::new(hash_key), steady: Steady::Since(Instant::now()) }
    }

    /// No counts yet, by a clock that moves only when it is moved.
    pub(crate) fn standing() -> Self {
        Self { table: RateTable::new([0; 16]), steady: Steady::At(AtomicU64::new(0)) }
    }

    /// Moves a clock that stands on.
    pub(crate) fn advance(&self, by_ns: u64) {
        if let Steady::At(at) = &self.steady {
            at.fetch_add(by_ns, Ordering::Relaxed);
        }
    }

    /// The time by which rates are counted: steps of the wall clock do not matter to it.
    pub fn now_ns(&self) -> u64 {
        // A day ahead of the start, so that a key never seen is one that has been idle for long.
        let since_start = match &self.steady {
            Steady::Since(start) => u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Steady::At(at) => at.load(Ordering::Relaxed),
        };
        since_start.saturating_add(START_NS)
    }
}

impl Default for RateCounting {
    fn default() -> Self {
        Self::new([0; 16])
    }
}

/// Counts of open connections, or of handshakes under way, in total and per actor.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    total: AtomicUsize,
    shards: ByActor,
}

/// Memory that held bodies and their inspection take, in bytes, in total and per actor. A response is on the account of
/// the client who asked for it.
#[derive(Debug, Default)]
pub struct HeldCounts {
    total: AtomicUsize,
    shards: ByActor,
}

/// A count per actor, in shards with a lock each.
type ByActor = [Mutex<HashMap<IpAddr, usize>>; SHARDS];

fn shard(shards: &ByActor, actor: IpAddr) -> Option<&Mutex<HashMap<IpAddr, usize>>> {
    let bits = match actor {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).unwrap_or_default(),
    };
    let mixed = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    shards.get(usize::try_from(mixed).unwrap_or_default() % SHARDS)
}

fn give_back(shards: &ByActor, actor: IpAddr, amount: usize) {
    let Some(shard) = shard(shards, actor) else { return };
    let mut counts = shard.lock();
    if let Some(count) = counts.get_mut(&actor) {
        *count = count.saturating_sub(amount);
        if *count == 0 {
            counts.remove(&actor);
        }
    }
}

impl ConnectionCounts {
    /// How many connections are open.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Counts one more connection, or says that a limit is reached. `actor` is `None` for trusted forwarders, behind
    /// whom many clients stand.
    pub(crate) fn admit(
        tables: &Arc<NodeTables>,
        counted: Counted,
        actor: Option<IpAddr>,
        (total_max, actor_max): (usize, usize),
    ) -> Result<Admission, &'static str> {
        let counts = counted.of(tables);
        if counts.total.fetch_add(1, Ordering::Relaxed) >= total_max {
            counts.total.fetch_sub(1, Ordering::Relaxed);
            return Err("connections");
        }
        let actor = actor.map(actor_ip);
        if let Some(actor) = actor
            && let Some(shard) = shard(&counts.shards, actor)
        {
            let mut open = shard.lock();
            let count = open.entry(actor).or_insert(0);
            if *count >= actor_max {
                counts.total.fetch_sub(1, Ordering::Relaxed);
                return Err("connections_per_actor");
            }
            *count += 1;
        }
        Ok(Admission { tables: Arc::clone(tables), counted, actor })
    }
}

/// What is admitted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Counted {
    Connections,
    Handshakes,
}

impl Counted {
    fn of(self, tables: &NodeTables) -> &ConnectionCounts {
        match self {
            Self::Connections => &tables.connections,
            Self::Handshakes => &tables.handshakes,
        }
    }
}

/// One counted connection or handshake; dropping it gives its place back.
#[derive(Debug)]
pub(crate) struct Admission {
    tables: Arc<NodeTables>,
    counted: Counted,
    actor: Option<IpAddr>,
}

impl Admission {
    /// Counts what was admitted without an actor against one that is known by now, or says that a limit is reached.
    pub(crate) fn assign(&mut self, actor: IpAddr, actor_max: usize) -> Result<(), &'static str> {
        let actor = actor_ip(actor);
        let counts = self.counted.of(&self.tables);
        let Some(shard) = shard(&counts.shards, actor) else { return Ok(()) };
        let mut open = shard.lock();
        let count = open.entry(actor).or_insert(0);
        if *count >= actor_max {
            return Err("connections_per_actor");
        }
        *count += 1;
        drop(open);
        self.actor = Some(actor);
        Ok(())
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let counts = self.counted.of(&self.tables);
        counts.total.fetch_sub(1, Ordering::Relaxed);
        if let Some(actor) = self.actor {
            give_back(&counts.shards, actor, 1);
        }
    }
}

/// The memory of the held bodies of one request; dropping it gives the room back.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    tables: Arc<NodeTables>,
    actor: IpAddr,
    bytes: usize,
    total_max: usize,
    actor_max: usize,
}

impl HeldBytes {
    /// No memory yet, on an actor's account.
    pub(crate) fn none(tables: &Arc<NodeTables>, actor: IpAddr, limits: &EdgeLimits) -> Self {
        Self {
            tables: Arc::clone(tables),
            actor: actor_ip(actor),
            bytes: 0,
            total_max: limits.held_bytes,
            actor_max: limits.held_bytes_per_actor,
        }
    }

    /// No memory yet, for a proxy whose clients are not known yet: bounded by the total alone.
    pub(crate) fn of_proxy(tables: &Arc<NodeTables>, proxy: IpAddr, limits: &EdgeLimits) -> Self {
        let mut held = Self::none(tables, proxy, limits);
        held.actor_max = usize::MAX;
        held
    }

    /// Accounts for `bytes` in all, or names the limit that stands against it.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), &'static str> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let counts = &self.tables.held;
        if counts.total.fetch_add(more, Ordering::Relaxed) + more > self.total_max {
            counts.total.fetch_sub(more, Ordering::Relaxed);
            return Err("held_bytes");
        }
        if let Some(shard) = shard(&counts.shards, self.actor) {
            let mut held = shard.lock();
            let of_actor = held.entry(self.actor).or_insert(0);
            if *of_actor + more > self.actor_max {
                counts.total.fetch_sub(more, Ordering::Relaxed);
                return Err("held_bytes_per_actor");
            }
            *of_actor += more;
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.tables.held.total.fetch_sub(self.bytes, Ordering::Relaxed);
        give_back(&self.tables.held.shards, self.actor, self.bytes);
    }
}

const SHARDS: usize = 32;
const START_NS: u64 = 86_400_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_over_its_limit_waits_for_a_place() {
        let tables = Arc::<NodeTables>::default();
        let ip = Some("2001:db8::1".parse().unwrap());
        let neighbour = Some("2001:db8::2".parse().unwrap());
        let first = ConnectionCounts::admit(&tables, Counted::Connections, ip, (10, 2)).unwrap();
        let _second = ConnectionCounts::admit(&tables, Counted::Connections, neighbour, (10, 2)).unwrap();
        assert_eq!(
            ConnectionCounts::admit(&tables, Counted::Connections, ip, (10, 2)).unwrap_err(),
            "connections_per_actor"
        );
        drop(first);
        assert!(ConnectionCounts::admit(&tables, Counted::Connections, ip, (10, 2)).is_ok());
        assert!(ConnectionCounts::admit(&tables, Counted::Connections, None, (10, 0)).is_ok());
    }

    #[test]
    fn one_actor_cannot_take_all_memory_for_held_bodies() {
        let tables = Arc::<NodeTables>::default();
        let greedy = "192.0.2.1".parse().unwrap();
        let limits = EdgeLimits { held_bytes: 3_000, held_bytes_per_actor: 2_000, ..EdgeLimits::default() };
        let of = |actor| HeldBytes::none(&tables, actor, &limits);
        let mut held = of(greedy);
        assert_eq!(held.grow_to(limits.held_bytes_per_actor), Ok(()));
        assert_eq!(of(greedy).grow_to(1), Err("held_bytes_per_actor"));
        let mut other = of("192.0.2.2".parse().unwrap());
        assert_eq!(other.grow_to(1_000), Ok(()));
        assert_eq!(other.grow_to(1_001), Err("held_bytes"));
        drop(held);
        assert_eq!(of(greedy).grow_to(1), Ok(()));
        assert_eq!(tables.held.total.load(Ordering::Relaxed), 1_000);
    }

    #[test]
    fn the_total_is_limited_and_given_back() {
        let tables = Arc::<NodeTables>::default();
        let one = ConnectionCounts::admit(&tables, Counted::Connections, None, (1, 1)).unwrap();
        assert_eq!(
            ConnectionCounts::admit(&tables, Counted::Connections, None, (1, 1)).unwrap_err(),
            "connections"
        );
        drop(one);
        assert_eq!(tables.connections.total(), 0);
    }
}
