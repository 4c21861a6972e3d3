//! Recent good traffic: how many distinct clients at an address got ordinary answers lately. An address that
//! several honest clients share (an office, a mobile carrier) is not banned whole for one of them. And which addresses those are
//! that got nothing but ordinary answers: whoever would refuse many of them asks an operator first.

use std::cmp::Ordering;
use std::net::IpAddr;

use phalanx_model::GoodClients;
use phalanx_model::limits::{
    GOOD_ACTORS_MAX, GOOD_CLIENTS_FOR_NARROWING, GOOD_KNOWN_AFTER_MS, GOOD_MEMORY_MS,
};
use phalanx_model::net::actor_ip;

use crate::table::{ActorTable, Entry};

/// Remembers good traffic for [`GOOD_MEMORY_MS`], of at most [`GOOD_ACTORS_MAX`] addresses.
#[derive(Debug)]
pub struct GoodTraffic(ActorTable<Clients>);

impl Default for GoodTraffic {
    fn default() -> Self {
        Self(ActorTable::bounding_networks(GOOD_ACTORS_MAX))
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

    /// Whether a client was served well at an address before `before_ms`, and not only right before; see [`GOOD_KNOWN_AFTER_MS`]. Not while an
    /// attack from there is remembered.
    pub fn knew(&self, ip: IpAddr, session: u64, before_ms: u64, now_ms: u64) -> bool {
        let knew = |clients: &Clients| clients.knew(session, before_ms, now_ms);
        self.0.read(actor_ip(ip), knew).unwrap_or_default()
    }

    /// Notes that an attack came from an address, whoever there sent it: for as long as good traffic is remembered, the address is
    /// none of the clients served well. A client chooses by which session it is told apart, so sessions are no excuse.
    pub fn note_attack(&self, ip: IpAddr, now_ms: u64) {
        self.0.update(actor_ip(ip), |clients| clients.attacked_ms = now_ms);
    }

    /// The addresses that were served well within [`GOOD_MEMORY_MS`], and from which no attack came in that time. Walks the whole
    /// table, which takes a millisecond or two: for who measures, not for requests.
    pub fn clients(&self, now_ms: u64) -> GoodClients {
        let lately = |at_ms: u64| at_ms > 0 && now_ms.saturating_sub(at_ms) < GOOD_MEMORY_MS;
        let mut good = Vec::new();
        self.0.for_each(|ip, clients| {
            if lately(clients.served_ms) && !lately(clients.attacked_ms) {
                good.push(ip);
            }
        });
        good.into_iter().collect()
    }

    /// How many distinct clients at an address were served well lately, as far as they are told apart.
    pub fn count(&self, ip: IpAddr, now_ms: u64) -> u32 {
        let clients = self.0.read(actor_ip(ip), |clients| clients.count(now_ms));
        clients.unwrap_or_default()
    }

    /// Whether several distinct clients at the address behaved well lately.
    pub fn is_shared(&self, ip: IpAddr, now_ms: u64) -> bool {
        let clients = self.0.read(actor_ip(ip), |clients| clients.count(now_ms));
        clients.unwrap_or_default() >= GOOD_CLIENTS_FOR_NARROWING
    }
}

/// What is remembered of an address, for a process that takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoodActor {
    /// Who.
    pub actor: IpAddr,
    /// Which half of the memory `now` is of; see [`GOOD_MEMORY_MS`].
    pub half: u64,
    /// Hash classes of clients in that half, and in the one before.
    pub seen: (u64, u64),
    /// When one was last served well.
    pub served_ms: u64,
    /// When an attack last came from there; 0 for never.
    pub attacked_ms: u64,
}

impl GoodTraffic {
    /// All that is remembered at this time.
    pub fn remembered(&self, now_ms: u64) -> Vec<GoodActor> {
        let mut all = Vec::new();
        self.0.for_each(|actor, clients| {
            if now_ms.saturating_sub(clients.touched_ms()) < GOOD_MEMORY_MS {
                let Clients { half, now, before, served_ms, attacked_ms, .. } = *clients;
                all.push(GoodActor { actor, half, seen: (now, before), served_ms, attacked_ms });
            }
        });
        all
    }

    /// Takes in what another table remembered.
    pub fn remember(&self, other: GoodActor) {
        self.0.update(actor_ip(other.actor), |clients| {
            let (now, before) = other.seen;
            match other.half.cmp(&clients.half) {
                Ordering::Equal => {
                    clients.now |= now;
                    clients.before |= before;
                }
                Ordering::Greater => {
                    let known = if clients.half + 1 == other.half { clients.now } else { 0 };
                    (clients.half, clients.now, clients.before) = (other.half, now, before | known);
                }
                Ordering::Less if other.half + 1 == clients.half => clients.before |= now,
                Ordering::Less => {}
            }
            clients.served_ms = clients.served_ms.max(other.served_ms);
            // When exactly is not handed on; not before the first half in which it was seen.
            let first = other.half.saturating_sub(u64::from(before != 0)) * (GOOD_MEMORY_MS / 2);
            clients.since_ms = if clients.since_ms == 0 { first } else { clients.since_ms.min(first) };
            clients.attacked_ms = clients.attacked_ms.max(other.attacked_ms);
        });
    }
}

/// Which of 64 hash classes of clients were seen, in this half of the memory and in the one before.
#[derive(Debug, Default)]
struct Clients {
    half: u64,
    now: u64,
    before: u64,
    served_ms: u64,
    attacked_ms: u64,
    /// Since when somebody there has been served well, without such a pause that it was forgotten.
    since_ms: u64,
}

impl Clients {
    fn note(&mut self, session: u64, now_ms: u64) {
        if self.count(now_ms) == 0 {
            self.since_ms = now_ms;
        }
        self.turn(now_ms);
        self.now |= 1 << (session & 63);
        self.served_ms = now_ms;
    }

    fn count(&self, now_ms: u64) -> u32 {
        match half_of(now_ms).saturating_sub(self.half) {
            0 => (self.now | self.before).count_ones(),
            1 => self.now.count_ones(),
            _ => 0,
        }
    }

    fn knew(&self, session: u64, before_ms: u64, now_ms: u64) -> bool {
        let seen = match half_of(now_ms).saturating_sub(self.half) {
            0 => self.now | self.before,
            1 => self.now,
            _ => 0,
        };
        let is_attacked = self.attacked_ms > 0 && now_ms.saturating_sub(self.attacked_ms) < GOOD_MEMORY_MS;
        let is_early = self.since_ms.saturating_add(GOOD_KNOWN_AFTER_MS) <= before_ms;
        seen >> (session & 63) & 1 == 1 && is_early && !is_attacked
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
        self.served_ms.max(self.attacked_ms)
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

    #[test]
    fn who_was_served_well_for_a_while_before_is_known_and_who_came_with_the_attack_is_not() {
        let good = GoodTraffic::default();
        let [old, new, mixed] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|ip| ip.parse().unwrap());
        let start = 100 * GOOD_MEMORY_MS;
        let ordered = start + 2 * GOOD_KNOWN_AFTER_MS;
        good.note(old, 1, start);
        good.note(mixed, 1, start);
        good.note_attack(mixed, start + 1);
        good.note(new, 1, ordered - 1_000);
        let knew = |ip, session| good.knew(ip, session, ordered, ordered + 1);
        assert!(knew(old, 1));
        assert!(!knew(old, 2), "another client there");
        assert!(!knew(new, 1) && !knew(mixed, 1));
        assert!(!good.knew(old, 1, ordered, start + 2 * GOOD_MEMORY_MS), "forgotten");
    }

    fn served(good: &GoodTraffic, now_ms: u64) -> Vec<String> {
        good.clients(now_ms).iter().map(|ip| ip.to_string()).collect()
    }

    #[test]
    fn an_address_is_served_well_for_ten_minutes_and_not_while_an_attack_from_it_is_remembered() {
        let good = GoodTraffic::default();
        let [kind, mixed] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        let start = 100 * GOOD_MEMORY_MS;
        good.note(kind, 1, start);
        good.note(mixed, 1, start);
        good.note_attack("2001:db8::7".parse().unwrap(), start + 1);
        good.note("2001:db8::8".parse().unwrap(), 1, start);
        assert_eq!(served(&good, start + 1), ["192.0.2.1", "192.0.2.2"], "a /64 is one client");
        good.note_attack(mixed, start + 2);
        good.note(mixed, 99, start + 3);
        assert_eq!(served(&good, start + 3), ["192.0.2.1"]);
        good.note(mixed, 1, start + GOOD_MEMORY_MS);
        assert_eq!(served(&good, start + GOOD_MEMORY_MS), [] as [&str; 0]);
        assert_eq!(served(&good, start + GOOD_MEMORY_MS + 2), ["192.0.2.2"]);
    }

    #[test]
    fn what_a_table_remembers_counts_in_another() {
        let (old, new) = (GoodTraffic::default(), GoodTraffic::default());
        let [shared, attacked] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        let start = 100 * GOOD_MEMORY_MS;
        old.note(shared, 1, start);
        old.note(shared, 2, start + GOOD_MEMORY_MS / 2);
        old.note(attacked, 1, start);
        old.note_attack(attacked, start);
        let at = start + GOOD_MEMORY_MS / 2 + 1;
        new.note(shared, 3, at);
        new.note(attacked, 1, at);
        old.remembered(at).into_iter().for_each(|one| new.remember(one));
        assert!(new.is_shared(shared, at));
        assert_eq!(served(&new, at), ["192.0.2.1"]);
        assert_eq!(old.remembered(start + 3 * GOOD_MEMORY_MS), []);
    }

    #[test]
    fn the_table_is_bounded_and_one_network_of_ipv6_fills_little_of_it() {
        let good = GoodTraffic::default();
        let start = 100 * GOOD_MEMORY_MS;
        for n in 0..2_000u32 {
            good.note(std::net::Ipv4Addr::from_bits(n << 8).into(), 1, start);
        }
        for n in 0..100_000u128 {
            good.note(
                std::net::Ipv6Addr::from_bits(0x2001_0db8 << 96 | (n & 0xffff) << 64).into(),
                1,
                start + 1,
            );
        }
        let clients = good.clients(start + 1);
        let v6 = clients.iter().filter(|ip| ip.is_ipv6()).count();
        assert!(v6 <= 32, "{v6} of one /48");
        assert!(clients.len() - v6 > 1_960, "{} of 2000 others are left", clients.len() - v6);
        for n in 0..200_000u32 {
            good.note(std::net::Ipv4Addr::from_bits(n << 8).into(), 1, start + 2);
        }
        assert!(good.clients(start + 2).len() <= GOOD_ACTORS_MAX);
    }
}
