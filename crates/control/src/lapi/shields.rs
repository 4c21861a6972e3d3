//! Addresses that no decision may be enforced on: what an operator allows, and what policy exempts. A firewall knows no exceptions
//! within a range, so an order is withheld from it as soon as it touches one of them; the nodes go on judging each address by itself.
//!
//! Where a range is known only for single addresses, and what belongs to a system or a country is known to nobody as ranges: there
//! what may touch counts as what does.

use std::collections::BTreeSet;

use phalanx_model::{ActorKey, AuthorRole, Country, Decision, DecisionKind, Prefix};

use super::PlacePort;

/// The addresses, as disjoint ranges in ascending order: a million decisions are compared with them in one answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shields {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
    asns: BTreeSet<u32>,
    countries: BTreeSet<Country>,
    /// Whether a range can belong to a system or a country.
    public: bool,
}

impl Shields {
    pub(crate) fn new(keys: impl IntoIterator<Item = ActorKey>) -> Self {
        let mut shields = Self::default();
        for key in keys {
            match key {
                ActorKey::Range(range) => {
                    shields.public |= !is_private(range);
                    let list = if range.addr().is_ipv4() { &mut shields.v4 } else { &mut shields.v6 };
                    list.push(bounds(range));
                }
                ActorKey::Asn(number) => drop(shields.asns.insert(number)),
                ActorKey::Country(country) => drop(shields.countries.insert(country)),
                // No address tells them apart.
                ActorKey::Ja4(_) | ActorKey::Session(_) | ActorKey::Account(_) => {}
                // An allow of software or a place lets nobody else in.
                ActorKey::Software(_) | ActorKey::Route(_) | ActorKey::App(_) | ActorKey::Rules(_) => {}
            }
        }
        shields.v4 = disjoint(shields.v4);
        shields.v6 = disjoint(shields.v6);
        shields
    }

    /// Whether any address of the key is shielded, or may be.
    pub(crate) fn touch(&self, key: ActorKey, place: &PlacePort) -> bool {
        match key {
            ActorKey::Range(range) => self.touch_range(range) || self.touch_place(range, place),
            ActorKey::Asn(number) => self.public || !self.countries.is_empty() || self.asns.contains(&number),
            ActorKey::Country(country) => {
                self.public || !self.asns.is_empty() || self.countries.contains(&country)
            }
            ActorKey::Ja4(_) | ActorKey::Session(_) | ActorKey::Account(_) => true,
            ActorKey::Software(_) | ActorKey::Route(_) | ActorKey::App(_) | ActorKey::Rules(_) => true,
        }
    }

    /// Whether the range lies, or may lie, in a system or country that is shielded.
    fn touch_place(&self, range: Prefix, place: &PlacePort) -> bool {
        if self.asns.is_empty() && self.countries.is_empty() {
            return false;
        }
        let one = if range.addr().is_ipv4() { 32 } else { 64 };
        if range.prefix_len() < one {
            return true;
        }
        let (asn, country) = place(range.addr());
        asn.is_some_and(|asn| self.asns.contains(&asn))
            || country.is_some_and(|country| self.countries.contains(&country))
    }

    fn touch_range(&self, range: Prefix) -> bool {
        let list = if range.addr().is_ipv4() { &self.v4 } else { &self.v6 };
        let (first, last) = bounds(range);
        let next = list.partition_point(|(_, end)| *end < first);
        list.get(next).is_some_and(|(start, _)| *start <= last)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty() && self.asns.is_empty() && self.countries.is_empty()
    }
}

/// Whether a range is in use within networks only, and so belongs to no system and no country.
fn is_private(range: Prefix) -> bool {
    match range {
        Prefix::V4(range) => [range.network(), range.broadcast()]
            .iter()
            .all(|ip| ip.is_loopback() || ip.is_private() || ip.is_link_local()),
        Prefix::V6(range) => [range.network(), range.broadcast()]
            .iter()
            .all(|ip| ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

/// Whether a decision shields its addresses. Only an operator's allow does; a node's would not count in a view either.
pub(crate) fn shields(decision: &Decision) -> bool {
    decision.kind == DecisionKind::Allow && decision.author.role == AuthorRole::Operator
}

fn bounds(range: Prefix) -> (u128, u128) {
    match range {
        Prefix::V4(range) => (range.network().to_bits().into(), range.broadcast().to_bits().into()),
        Prefix::V6(range) => (range.network().to_bits(), range.broadcast().to_bits()),
    }
}

fn disjoint(mut list: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    list.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(list.len());
    for (start, end) in list {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_touches_a_shield_is_found() {
        let ranges = ["192.0.2.64/26", "192.0.2.0/25", "10.0.0.0/8", "198.51.100.7/32", "2001:db8::/64"];
        let shields = Shields::new(ranges.iter().map(|r| ActorKey::Range(r.parse().unwrap())));
        for (range, expected) in [
            ("192.0.2.1/32", true),
            ("192.0.2.127/32", true),
            ("192.0.2.128/32", false),
            ("192.0.2.0/24", true),
            ("192.0.0.0/8", true),
            ("10.255.255.255/32", true),
            ("11.0.0.0/8", false),
            ("198.51.100.6/32", false),
            ("198.51.100.6/31", true),
            ("2001:db8::/32", true),
            ("2001:db8:0:1::/64", false),
            ("0.0.0.0/32", false),
            ("255.255.255.255/32", false),
        ] {
            let key = ActorKey::Range(range.parse().unwrap());
            assert_eq!(shields.touch(key, &nowhere()), expected, "{range}");
        }
        assert!(!Shields::default().touch(ActorKey::Range("0.0.0.0/0".parse().unwrap()), &nowhere()));
    }

    fn nowhere() -> PlacePort {
        Box::new(|_| (None, None))
    }

    #[test]
    fn what_may_lie_in_an_allowed_system_or_country_is_withheld() {
        let place: PlacePort = Box::new(|ip| match ip.to_string().as_str() {
            "192.0.2.1" => (Some(64_500), "NL".parse().ok()),
            _ => (Some(64_501), "FR".parse().ok()),
        });
        let range = |text: &str| ActorKey::Range(text.parse().unwrap());
        let (asn, other) = (ActorKey::Asn(64_500), ActorKey::Asn(64_501));
        let (country, abroad) =
            (ActorKey::Country("NL".parse().unwrap()), ActorKey::Country("FR".parse().unwrap()));
        for (shield, key, expected) in [
            (asn, range("192.0.2.1/32"), true),
            (asn, range("192.0.2.2/32"), false),
            (asn, range("192.0.2.0/24"), true),
            (asn, asn, true),
            (asn, other, false),
            (asn, country, true),
            (country, range("192.0.2.1/32"), true),
            (country, range("192.0.2.2/32"), false),
            (country, abroad, false),
            (country, other, true),
            (range("127.0.0.0/8"), asn, false),
            (range("fd00::/8"), country, false),
            (range("192.0.2.1/32"), asn, true),
            (range("192.0.2.1/32"), country, true),
            (range("0.0.0.0/0"), country, true),
        ] {
            assert_eq!(Shields::new([shield]).touch(key, &place), expected, "{shield} {key}");
        }
    }
}
