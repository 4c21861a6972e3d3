//! What the workers of a node share and change: strikes, good traffic, connections per actor. Sharded and bounded.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use phalanx_decide::{GoodTraffic, StrikeTable};
use phalanx_model::net::actor_ip;

/// The only mutable state that workers share.
#[derive(Debug, Default)]
pub struct NodeTables {
    /// Strikes by actor.
    pub strikes: StrikeTable,
    /// Recent good traffic by actor.
    pub good: GoodTraffic,
    /// Open connections.
    pub connections: ConnectionCounts,
}

/// Counts of open connections, in total and per actor.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    total: AtomicUsize,
    shards: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
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
        actor: Option<IpAddr>,
        total_max: usize,
        actor_max: usize,
    ) -> Result<Admission, &'static str> {
        let counts = &tables.connections;
        if counts.total.fetch_add(1, Ordering::Relaxed) >= total_max {
            counts.total.fetch_sub(1, Ordering::Relaxed);
            return Err("connections");
        }
        let actor = actor.map(actor_ip);
        if let Some(actor) = actor
            && let Some(shard) = counts.shard(actor)
        {
            let mut open = shard.lock();
            let count = open.entry(actor).or_insert(0);
            if *count >= actor_max {
                counts.total.fetch_sub(1, Ordering::Relaxed);
                return Err("connections_per_actor");
            }
            *count += 1;
        }
        Ok(Admission { tables: Arc::clone(tables), actor })
    }

    fn shard(&self, actor: IpAddr) -> Option<&Mutex<HashMap<IpAddr, usize>>> {
        let bits = match actor {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).unwrap_or_default(),
        };
        let mixed = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        self.shards.get(usize::try_from(mixed).unwrap_or_default() % SHARDS)
    }
}

/// One counted connection; dropping it gives its place back.
#[derive(Debug)]
pub(crate) struct Admission {
    tables: Arc<NodeTables>,
    actor: Option<IpAddr>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let counts = &self.tables.connections;
        counts.total.fetch_sub(1, Ordering::Relaxed);
        if let Some(actor) = self.actor
            && let Some(shard) = counts.shard(actor)
        {
            let mut open = shard.lock();
            if let Some(count) = open.get_mut(&actor) {
                *count -= 1;
                if *count == 0 {
                    open.remove(&actor);
                }
            }
        }
    }
}

const SHARDS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_over_its_limit_waits_for_a_place() {
        let tables = Arc::<NodeTables>::default();
        let ip = Some("2001:db8::1".parse().unwrap());
        let neighbour = Some("2001:db8::2".parse().unwrap());
        let first = ConnectionCounts::admit(&tables, ip, 10, 2).unwrap();
        let _second = ConnectionCounts::admit(&tables, neighbour, 10, 2).unwrap();
        assert_eq!(ConnectionCounts::admit(&tables, ip, 10, 2).unwrap_err(), "connections_per_actor");
        drop(first);
        assert!(ConnectionCounts::admit(&tables, ip, 10, 2).is_ok());
        assert!(ConnectionCounts::admit(&tables, None, 10, 0).is_ok());
    }

    #[test]
    fn the_total_is_limited_and_given_back() {
        let tables = Arc::<NodeTables>::default();
        let one = ConnectionCounts::admit(&tables, None, 1, 1).unwrap();
        assert_eq!(ConnectionCounts::admit(&tables, None, 1, 1).unwrap_err(), "connections");
        drop(one);
        assert_eq!(tables.connections.total(), 0);
    }
}
