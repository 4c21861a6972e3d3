//! Clients that a node served well lately, at one moment: by them it is measured whom an order would hit besides those it is meant
//! for.
//!
//! A client is one address, for IPv6 one /64. Who stands behind one address is not told apart here: a client chooses freely what it
//! says of itself, and another address costs it something.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::limits::{HELD_CLIENTS_LEAST, HELD_SHARE_PERCENT};
use crate::net::actor_ip;
use crate::{Actor, ListPrefixes, Prefix};

/// The clients, sorted. Takes 4 bytes for one of IPv4, 8 for one of IPv6.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GoodClients {
    v4: Vec<u32>,
    v6: Vec<u64>,
}

impl GoodClients {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there are none: then nothing can be measured by them.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an address is one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match actor_ip(ip) {
            IpAddr::V4(ip) => self.v4.binary_search(&ip.to_bits()).is_ok(),
            IpAddr::V6(ip) => self.v6.binary_search(&upper_half(ip)).is_ok(),
        }
    }

    /// How many of them an order about an actor is about. One about what is no address (a system, a session) is about none as far as
    /// can be told here.
    pub fn hit_by(&self, actor: &Actor) -> usize {
        actor.range().map_or(0, |range| self.within(&range))
    }

    /// How many of them are on a list.
    pub fn on(&self, list: &ListPrefixes) -> usize {
        self.iter().filter(|ip| list.contains(*ip)).count()
    }

    /// The clients, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.iter().map(|&ip| IpAddr::V4(Ipv4Addr::from_bits(ip)));
        v4.chain(self.v6.iter().map(|&half| IpAddr::V6(Ipv6Addr::from_bits(u128::from(half) << 64))))
    }

    fn within(&self, range: &Prefix) -> usize {
        match (range.network(), range.broadcast()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => count(&self.v4, first.to_bits(), last.to_bits()),
            (IpAddr::V6(first), IpAddr::V6(last)) => count(&self.v6, upper_half(first), upper_half(last)),
            _ => 0,
        }
    }
}

impl FromIterator<IpAddr> for GoodClients {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(clients: I) -> Self {
        let mut all = Self::default();
        for ip in clients {
            match actor_ip(ip) {
                IpAddr::V4(ip) => all.v4.push(ip.to_bits()),
                IpAddr::V6(ip) => all.v6.push(upper_half(ip)),
            }
        }
        all.v4.sort_unstable();
        all.v4.dedup();
        all.v6.sort_unstable();
        all.v6.dedup();
        all
    }
}

/// How many of the clients served well an order would refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GoodShare {
    /// So many would be refused.
    pub clients: u32,
    /// Of so many that this node served well in the last ten minutes.
    pub of: u32,
}

impl GoodShare {
    /// A share of counts.
    pub fn new(clients: usize, of: usize) -> Self {
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        Self { clients: count(clients), of: count(of) }
    }
}

impl fmt::Display for GoodShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} clients served well in the last ten minutes", self.clients, self.of)
    }
}

/// From what share on an order is held for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldLimits {
    /// It would refuse more than this part of the clients served well, in per cent. From 100 on nothing is ever held.
    pub share_percent: u8,
    /// And at least so many of them.
    pub clients_least: u32,
}

impl HoldLimits {
    /// Whether a share is over the limit.
    pub fn is_over(&self, share: GoodShare) -> bool {
        let over = u64::from(share.clients) * 100 > u64::from(self.share_percent) * u64::from(share.of);
        over && share.clients >= self.clients_least
    }
}

impl Default for HoldLimits {
    fn default() -> Self {
        Self { share_percent: HELD_SHARE_PERCENT, clients_least: HELD_CLIENTS_LEAST }
    }
}

fn count<K: Ord>(sorted: &[K], first: K, last: K) -> usize {
    let from = sorted.partition_point(|client| *client < first);
    sorted.partition_point(|client| *client <= last).saturating_sub(from)
}

fn upper_half(ip: Ipv6Addr) -> u64 {
    u64::try_from(ip.to_bits() >> 64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clients(texts: &[&str]) -> GoodClients {
        texts.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect()
    }

    #[test]
    fn an_order_is_about_the_clients_within_its_range() {
        let good = clients(&[
            "192.0.2.0",
            "192.0.2.255",
            "192.0.3.0",
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8:1::1",
        ]);
        assert_eq!(good.len(), 5, "a /64 is one client");
        for (actor, expected) in [
            (Actor::ip("192.0.2.255".parse().unwrap()), 1),
            (Actor::ip("192.0.2.1".parse().unwrap()), 0),
            (Actor::client("192.0.2.0".parse().unwrap(), 7), 1),
            (Actor::prefix("192.0.2.0/24".parse().unwrap()), 2),
            (Actor::prefix("192.0.0.0/8".parse().unwrap()), 3),
            (Actor::ip("2001:db8::ffff".parse().unwrap()), 1),
            (Actor::prefix("2001:db8::/48".parse().unwrap()), 1),
            (Actor::prefix("2001:db8::/32".parse().unwrap()), 2),
            (Actor::prefix("2001:db8::7/128".parse().unwrap()), 1),
            (Actor::Asn(64_500), 0),
            (Actor::Session(1), 0),
        ] {
            assert_eq!(good.hit_by(&actor), expected, "{actor}");
        }
        assert!(good.contains("::ffff:192.0.3.0".parse().unwrap()));
    }

    #[test]
    fn over_the_limit_is_more_than_the_share_and_not_few() {
        let limits = HoldLimits::default();
        for (hit, of, over) in [
            (9, 9, false),
            (10, 10, true),
            (10, 199, true),
            (10, 200, false),
            (11, 200, true),
            (0, 0, false),
            (500, 10_000, false),
            (501, 10_000, true),
        ] {
            assert_eq!(limits.is_over(GoodShare::new(hit, of)), over, "{hit} of {of}");
        }
        let never = HoldLimits { share_percent: 100, clients_least: 10 };
        assert!(!never.is_over(GoodShare::new(1_000, 1_000)));
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_lies_within(
            hosts in proptest::collection::vec(0u32..512, 0..40),
            prefixes in proptest::collection::vec((0u32..512, 23u8..=32), 0..8),
        ) {
            let good: GoodClients = hosts.iter().map(|host| IpAddr::V4(Ipv4Addr::from_bits(*host))).collect();
            let nets: Vec<Prefix> = prefixes
                .iter()
                .map(|(host, bits)| Prefix::new(Ipv4Addr::from_bits(*host).into(), *bits).unwrap())
                .collect();
            for net in &nets {
                let expected = good.iter().filter(|ip| net.contains(ip)).count();
                prop_assert_eq!(good.hit_by(&Actor::prefix(*net)), expected);
            }
            let list: ListPrefixes = nets.iter().copied().collect();
            let expected = good.iter().filter(|ip| nets.iter().any(|net| net.contains(ip))).count();
            prop_assert_eq!(good.on(&list), expected);
        }
    }
}
