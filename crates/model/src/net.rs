//! Addresses as the product sees them: IPv4-mapped IPv6 is IPv4, and an IPv6 actor is its /64.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// An address range in canonical form (host bits cleared, IPv4-mapped ranges as IPv4).
pub type Prefix = IpNet;

/// The address with an IPv4-mapped IPv6 form (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2) turned into IPv4.
pub fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// The address that stands for an actor: IPv4 as it is, IPv6 with the interface identifier (low 64 bits) cleared,
/// because one subscriber owns a whole /64 (RFC 6177).
pub fn actor_ip(ip: IpAddr) -> IpAddr {
    match canonical(ip) {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

/// The network around an address, which one customer or one office has: its /24 or /48.
pub fn network_of(ip: IpAddr) -> Prefix {
    let ip = canonical(ip);
    let bits = if ip.is_ipv4() { 24 } else { 48 };
    Prefix::new(ip, bits).map_or_else(|_| Prefix::from(ip), |network| network.trunc())
}

/// The prefix in canonical form.
pub fn canonical_prefix(prefix: Prefix) -> Prefix {
    if let IpNet::V6(v6) = prefix
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Ok(mapped) = ipnet::Ipv4Net::new(v4, v6.prefix_len() - 96)
    {
        return IpNet::V4(mapped.trunc());
    }
    prefix.trunc()
}

/// A set of prefixes, for the lists of policy (allow-lists, operators, trusted forwarders). A lookup is a binary search, because each
/// request may ask for its peer; lists of thousands that change belong into the [`crate::View`].
#[derive(Debug, Clone, Default)]
pub struct PrefixSet {
    prefixes: Vec<Prefix>,
    /// First and last addresses of what they cover, in order, without overlaps.
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl PrefixSet {
    /// Whether the address lies in any of the prefixes.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match canonical(ip) {
            IpAddr::V4(v4) => covers(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => covers(&self.v6, v6.to_bits()),
        }
    }

    /// Whether the set holds no prefix.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// The prefixes in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Prefix> {
        self.prefixes.iter()
    }
}

impl FromIterator<Prefix> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = Prefix>>(prefixes: I) -> Self {
        let prefixes: Vec<_> = prefixes.into_iter().map(canonical_prefix).collect();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in &prefixes {
            match prefix {
                IpNet::V4(v4_net) => v4.push((v4_net.network().to_bits(), v4_net.broadcast().to_bits())),
                IpNet::V6(v6_net) => v6.push((v6_net.network().to_bits(), v6_net.broadcast().to_bits())),
            }
        }
        Self { prefixes, v4: merged(v4), v6: merged(v6) }
    }
}

/// Ranges in order, those that overlap as one.
fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= *end => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn covers<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(actor_ip(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        let set: PrefixSet = ["::ffff:192.0.2.0/120".parse().unwrap()].into_iter().collect();
        assert!(set.contains(ip("192.0.2.7")));
        assert!(set.contains(ip("::ffff:192.0.2.7")));
    }

    #[test]
    fn ipv6_actors_are_their_64() {
        assert_eq!(actor_ip(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
    }

    #[test]
    fn host_bits_of_a_prefix_are_ignored() {
        let set: PrefixSet = ["198.51.100.77/24".parse().unwrap()].into_iter().collect();
        assert!(set.contains(ip("198.51.100.1")));
        assert!(!set.contains(ip("198.51.101.1")));
    }

    proptest::proptest! {
        #[test]
        fn a_set_holds_what_any_of_its_prefixes_holds(
            nets in proptest::collection::vec((proptest::bool::ANY, 0u32..=64, 0u8..=32), 0..12),
            asked in proptest::collection::vec((proptest::bool::ANY, 0u32..=70), 0..20),
        ) {
            // Few distinct bits, at the front, so that prefixes hold each other and what is asked for.
            let address = |v6: bool, bits: u32| match v6 {
                true => IpAddr::V6(Ipv6Addr::from_bits(u128::from(bits.reverse_bits()) << 96)),
                false => IpAddr::V4(std::net::Ipv4Addr::from_bits(bits.reverse_bits())),
            };
            let prefixes: Vec<Prefix> =
                nets.iter().map(|&(v6, bits, len)| Prefix::new(address(v6, bits), len).unwrap()).collect();
            let set: PrefixSet = prefixes.iter().copied().collect();
            for (v6, bits) in asked {
                let ip = address(v6, bits);
                let expected = prefixes.iter().any(|prefix| canonical_prefix(*prefix).contains(&canonical(ip)));
                proptest::prop_assert_eq!(set.contains(ip), expected, "{} in {:?}", ip, prefixes);
            }
        }
    }
}
