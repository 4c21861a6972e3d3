//! Addresses that no decision may be enforced on: what an operator allows, and what policy exempts. A firewall knows no exceptions
//! within a range, so an order is withheld from it as soon as it touches one of them; the nodes go on judging each address by itself.

use phalanx_model::{AuthorRole, Decision, DecisionKind, Prefix};

/// The addresses, as disjoint ranges in ascending order: a million decisions are compared with them in one answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shields {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl Shields {
    pub(crate) fn new(ranges: impl IntoIterator<Item = Prefix>) -> Self {
        let mut shields = Self::default();
        for range in ranges {
            let list = if range.addr().is_ipv4() { &mut shields.v4 } else { &mut shields.v6 };
            list.push(bounds(range));
        }
        shields.v4 = disjoint(shields.v4);
        shields.v6 = disjoint(shields.v6);
        shields
    }

    /// Whether any address of the range is shielded.
    pub(crate) fn touch(&self, range: Prefix) -> bool {
        let list = if range.addr().is_ipv4() { &self.v4 } else { &self.v6 };
        let (first, last) = bounds(range);
        let next = list.partition_point(|(_, end)| *end < first);
        list.get(next).is_some_and(|(start, _)| *start <= last)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
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
        let shields = Shields::new(ranges.iter().map(|r| r.parse().unwrap()));
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
            assert_eq!(shields.touch(range.parse().unwrap()), expected, "{range}");
        }
        assert!(!Shields::default().touch("0.0.0.0/0".parse().unwrap()));
    }
}
