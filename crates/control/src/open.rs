//! Connections of each address, and streams of each caller, at once: one that says nothing must leave room for others.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

/// What is open now, per address or caller: those that say nothing must leave room for others.
#[derive(Debug)]
pub(crate) struct Open<K> {
    counts: HashMap<K, u32>,
}

impl<K> Default for Open<K> {
    fn default() -> Self {
        Self { counts: HashMap::new() }
    }
}

impl<K: Hash + Eq> Open<K> {
    /// Whether there is room for one more of this one, of so many.
    pub(crate) fn enter(&mut self, of: K, max: u32) -> bool {
        let count = self.counts.entry(of).or_default();
        let fits = *count < max;
        *count += u32::from(fits);
        fits
    }

    /// One of this one has ended.
    pub(crate) fn leave(&mut self, of: &K) {
        if let Some(count) = self.counts.get_mut(of) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(of);
            }
        }
    }
}

/// Connections from elsewhere that are open now, at most so many: of one client, of one network, and of all, so that whoever comes from this
/// machine finds room.
#[derive(Debug)]
pub(crate) struct Guests {
    clients: Open<IpAddr>,
    networks: Open<IpAddr>,
    count: u32,
    most: Most,
}

/// How many guests there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) of_client: u32,
    pub(crate) of_network: u32,
    pub(crate) of_all: u32,
}

/// What a connection from elsewhere is counted by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guest {
    client: IpAddr,
    network: IpAddr,
}

impl Guests {
    /// None yet.
    pub(crate) fn at_most(most: Most) -> Self {
        Self { clients: Open::default(), networks: Open::default(), count: 0, most }
    }

    /// One more of this address, if there is room.
    pub(crate) fn enter(&mut self, peer: IpAddr) -> Option<Guest> {
        let guest = Guest { client: subscriber(peer), network: network(peer) };
        if self.count >= self.most.of_all || !self.networks.enter(guest.network, self.most.of_network) {
            return None;
        }
        if !self.clients.enter(guest.client, self.most.of_client) {
            self.networks.leave(&guest.network);
            return None;
        }
        self.count += 1;
        Some(guest)
    }

    /// One has ended.
    pub(crate) fn leave(&mut self, guest: Guest) {
        self.clients.leave(&guest.client);
        self.networks.leave(&guest.network);
        self.count = self.count.saturating_sub(1);
    }
}

/// The network by which clients are counted together: providers give away an IPv6 /48 as easily as a /64. Of IPv4 each address is one.
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !(u128::MAX >> 48))),
        IpAddr::V4(_) => peer,
    }
}

/// The address by which a client is counted: whoever has one of an IPv6 /64 has them all.
pub(crate) fn subscriber(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX))),
        IpAddr::V4(_) => peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u32 = 16;

    #[test]
    fn one_address_cannot_take_all_connections() {
        let mut open = Open::<IpAddr>::default();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!((0..MAX).all(|_| open.enter(one, MAX)));
        assert!(!open.enter(one, MAX) && open.enter(other, MAX));
        open.leave(&one);
        assert!(open.enter(one, MAX) && !open.enter(one, MAX));
        for peer in [one; MAX as usize].into_iter().chain([other]) {
            open.leave(&peer);
        }
        assert!(open.counts.is_empty());
    }

    #[test]
    fn neither_a_network_nor_all_others_together_take_the_room_of_this_machine() {
        let mut guests = Guests::at_most(Most { of_client: 2, of_network: 4, of_all: 6 });
        let v6 = |site: u16, subnet: u16| IpAddr::from([0x2001, 0xdb8, site, subnet, 0, 0, 0, 1]);
        let inside: Vec<Guest> = (0..9).filter_map(|n| guests.enter(v6(1, n))).collect();
        assert_eq!(inside.len(), 4, "each /64 has one, and the /48 no more than four");
        assert_eq!((0..9).filter_map(|_| guests.enter(v6(2, 1))).count(), 2, "of one client");
        assert!(guests.enter("192.0.2.1".parse().unwrap()).is_none(), "what is left is for this machine");
        inside.into_iter().for_each(|guest| guests.leave(guest));
        assert!(guests.enter(v6(1, 5)).is_some() && guests.enter("192.0.2.1".parse().unwrap()).is_some());
        assert_eq!(guests.count, 4);
    }
}
