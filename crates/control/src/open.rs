//! Connections of each address at once: one that says nothing must leave room for others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Connections open now, per address: those that say nothing must leave room for others.
#[derive(Debug, Default)]
pub(crate) struct Open {
    counts: HashMap<IpAddr, u32>,
}

impl Open {
    /// Whether there is room for one more of this address, of so many.
    pub(crate) fn enter(&mut self, peer: IpAddr, max: u32) -> bool {
        let count = self.counts.entry(peer).or_default();
        let fits = *count < max;
        *count += u32::from(fits);
        fits
    }

    /// One of this address has ended.
    pub(crate) fn leave(&mut self, peer: Option<IpAddr>) {
        let Some(peer) = peer else { return };
        if let Some(count) = self.counts.get_mut(&peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&peer);
            }
        }
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
        let mut open = Open::default();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!((0..MAX).all(|_| open.enter(one, MAX)));
        assert!(!open.enter(one, MAX) && open.enter(other, MAX));
        open.leave(Some(one));
        assert!(open.enter(one, MAX) && !open.enter(one, MAX));
        for peer in [one; MAX as usize].into_iter().chain([other]) {
            open.leave(Some(peer));
        }
        assert!(open.counts.is_empty());
    }
}
