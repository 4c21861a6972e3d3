//! Recent good traffic: how many distinct clients at an address got ordinary answers lately. An address that
//! several honest clients share (an office, a mobile carrier) is not banned whole for one of them.

use std::net::IpAddr;

use phalanx_model::limits::{GOOD_ACTORS_MAX, GOOD_CLIENTS_FOR_NARROWING, GOOD_MEMORY_MS};
use phalanx_model::net::actor_ip;

use crate::table::{ActorTable, Entry};

/// Remembers good traffic for [`GOOD_MEMORY_MS`], of at most [`GOOD_ACTORS_MAX`] addresses.
#[derive(Debug)]
pub struct GoodTraffic(ActorTable<Clients>);

impl Default for GoodTraffic {
    fn default() -> Self {
        Self(ActorTable::with_capacity(GOOD_ACTORS_MAX))
    }
}

impl GoodTraffic {
    /// Notes that a client got an ordinary answer. `session` tells clients at one address apart: a hash of a session
    /// cookie where there is one, of the agent otherwise.
    pub fn note(&self, ip: IpAddr, session: u64, now_ms: u64) {
        self.0.update(actor_ip(ip), |clients| clients.note(session, now_ms));
    }

    /// Whether anybody at the address behaved well lately.
    pub fn knows(&self, ip: IpAddr, now_ms: u64) -> bool {
        self.0.read(actor_ip(ip), |clients| clients.count(now_ms)).unwrap_or_default() > 0
    }

    /// Whether several distinct clients at the address behaved well lately.
    pub fn is_shared(&self, ip: IpAddr, now_ms: u64) -> bool {
        let clients = self.0.read(actor_ip(ip), |clients| clients.count(now_ms));
        clients.unwrap_or_default() >= GOOD_CLIENTS_FOR_NARROWING
    }
}

/// Which of 64 hash classes of clients were seen, in this half of the memory and in the one before.
#[derive(Debug, Default)]
struct Clients {
    half: u64,
    now: u64,
    before: u64,
    touched_ms: u64,
}

impl Clients {
    fn note(&mut self, session: u64, now_ms: u64) {
        self.turn(now_ms);
        self.now |= 1 << (session & 63);
        self.touched_ms = now_ms;
    }

    fn count(&self, now_ms: u64) -> u32 {
        match half_of(now_ms).saturating_sub(self.half) {
            0 => (self.now | self.before).count_ones(),
            1 => self.now.count_ones(),
            _ => 0,
        }
    }

    fn turn(&mut self, now_ms: u64) {
        let half = half_of(now_ms);
        match half.saturating_sub(self.half) {
            0 => return,
            1 => self.before = self.now,
            _ => self.before = 0,
        }
        self.now = 0;
        self.half = half;
    }
}

impl Entry for Clients {
    fn touched_ms(&self) -> u64 {
        self.touched_ms
    }
}

fn half_of(now_ms: u64) -> u64 {
    now_ms / (GOOD_MEMORY_MS / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_clients_make_an_address_shared_until_they_are_forgotten() {
        let good = GoodTraffic::default();
        let ip = "192.0.2.1".parse().unwrap();
        let start = 100 * GOOD_MEMORY_MS;
        for session in 0..3 {
            assert!(!good.is_shared(ip, start));
            good.note(ip, session, start);
        }
        assert!(good.is_shared(ip, start));
        assert!(good.is_shared(ip, start + GOOD_MEMORY_MS / 2));
        assert!(!good.is_shared(ip, start + GOOD_MEMORY_MS + 1));
    }

    #[test]
    fn one_client_that_returns_is_still_one() {
        let good = GoodTraffic::default();
        let ip = "192.0.2.1".parse().unwrap();
        for n in 0..100 {
            good.note(ip, 42, n * 1_000);
        }
        assert!(!good.is_shared(ip, 100_000));
    }
}
