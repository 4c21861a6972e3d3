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

/// A set of prefixes, for the short lists of policy (allow-lists, operators, trusted forwarders).
/// Lookup is linear in the number of prefixes; lists of thousands belong into the [`crate::View`].
#[derive(Debug, Clone, Default)]
pub struct PrefixSet(Vec<Prefix>);

impl PrefixSet {
    /// Whether the address lies in any of the prefixes.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = canonical(ip);
        self.0.iter().any(|prefix| prefix.contains(&ip))
    }

    /// Whether the set holds no prefix.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The prefixes in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Prefix> {
        self.0.iter()
    }
}

impl FromIterator<Prefix> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = Prefix>>(prefixes: I) -> Self {
        Self(prefixes.into_iter().map(canonical_prefix).collect())
    }
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
}
