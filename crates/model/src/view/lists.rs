//! All blocklists in force as one table: where the set of lists that hold an address changes, and which lists those are then.
//! One search finds an address, however many lists there are.

use std::net::IpAddr;
use std::sync::Arc;

use crate::limits::BLOCKLISTS_MAX;
use crate::{Blocklist, ListPrefixes};

/// The blocklists in force. Takes 6.3 bytes for each end of an IPv4 range, 10.5 for one of IPv6.
#[derive(Debug, Default)]
pub struct Lists {
    /// The strongest first.
    lists: Vec<Arc<Blocklist>>,
    v4: Segments<u32>,
    v6: Segments<u64>,
}

impl Lists {
    /// Compiles lists, at most [`BLOCKLISTS_MAX`]; more are left out. Takes a tenth of a second for a million prefixes.
    pub fn of(mut lists: Vec<(Arc<Blocklist>, Arc<ListPrefixes>)>) -> Self {
        lists.sort_by(|(one, _), (other, _)| rank(other).cmp(&rank(one)));
        lists.truncate(BLOCKLISTS_MAX);
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (number, (_, prefixes)) in lists.iter().enumerate() {
            let bit = 1u16 << number;
            v4.reserve(2 * prefixes.v4().size_hint().0);
            v6.reserve(2 * prefixes.v6().size_hint().0);
            for (first, last) in prefixes.v4() {
                v4.push((first, bit));
                v4.extend(last.checked_add(1).map(|after| (after, bit)));
            }
            for (first, last) in prefixes.v6() {
                v6.push((first, bit));
                v6.extend(last.checked_add(1).map(|after| (after, bit)));
            }
        }
        let lists = lists.into_iter().map(|(list, _)| list).collect();
        Self { lists, v4: Segments::of(v4), v6: Segments::of(v6) }
    }

    /// The strongest list in force at `now_ms` that holds an address, which is in canonical form.
    pub(super) fn find(&self, ip: IpAddr, now_ms: u64) -> Option<&Arc<Blocklist>> {
        let mut holders = match ip {
            IpAddr::V4(ip) => self.v4.at(ip.to_bits()),
            IpAddr::V6(ip) => self.v6.at(u64::try_from(ip.to_bits() >> 64).unwrap_or_default()),
        };
        while holders != 0 {
            let list = self.lists.get(holders.trailing_zeros() as usize)?;
            if now_ms < list.until_ms {
                return Some(list);
            }
            holders &= holders - 1;
        }
        None
    }

    /// The lists, the strongest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Blocklist>> {
        self.lists.iter()
    }

    /// Bytes of the table.
    pub fn bytes_len(&self) -> usize {
        self.v4.bytes_len() + self.v6.bytes_len()
    }
}

fn rank(list: &Blocklist) -> (crate::DecisionKind, u64, u64, &str) {
    (list.kind, list.until_ms, list.version, &list.name)
}

/// From each start on, up to the next, these lists hold what is there, a bit for each.
#[derive(Debug)]
struct Segments<K> {
    /// A tree of sorted keys (B-tree without pointers): all starts in the last level, and in each one above every [`FANOUT`]th of the level
    /// below. The upper ones stay in the processor's caches, so that a search waits for memory two or three times, however the starts lie.
    levels: Vec<Vec<K>>,
    holders: Vec<u16>,
}

impl<K> Default for Segments<K> {
    fn default() -> Self {
        Self { levels: Vec::new(), holders: Vec::new() }
    }
}

impl<K: Copy + Ord> Segments<K> {
    /// Of the places where lists begin or cease to hold what is there. A list's own prefixes are apart, so that each place turns its bit.
    fn of(mut turns: Vec<(K, u16)>) -> Self {
        turns.sort_unstable();
        let (mut starts, mut holders, mut held) = (Vec::new(), Vec::new(), 0);
        for turns in turns.chunk_by(|one, other| one.0 == other.0) {
            let turned = turns.iter().fold(0, |all, (_, bit)| all ^ bit);
            if let (Some((start, _)), true) = (turns.first(), turned != 0) {
                held ^= turned;
                starts.push(*start);
                holders.push(held);
            }
        }
        starts.shrink_to_fit();
        holders.shrink_to_fit();
        let mut levels = vec![starts];
        while let Some(below) = levels.last()
            && below.len() > FANOUT
        {
            levels.push(below.iter().step_by(FANOUT).copied().collect());
        }
        levels.reverse();
        Self { levels, holders }
    }

    fn at(&self, key: K) -> u16 {
        let mut at = 0;
        for level in &self.levels {
            let from = at * FANOUT;
            let Some(near) = level.get(from..level.len().min(from + FANOUT)) else { return 0 };
            // Counting all of a few keys is faster than a search among them, whose every step is a guess.
            let Some(last) = near.iter().filter(|start| **start <= key).count().checked_sub(1) else {
                return 0;
            };
            at = from + last;
        }
        self.holders.get(at).copied().unwrap_or_default()
    }

    fn bytes_len(&self) -> usize {
        let keys: usize = self.levels.iter().map(Vec::len).sum();
        keys * size_of::<K>() + self.holders.len() * size_of::<u16>()
    }
}

/// 64 bytes of IPv4 addresses, which is what memory gives at once.
const FANOUT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Author, AuthorRole, DecisionId, DecisionKind, Prefix};
    use proptest::prelude::*;

    fn list(name: &str, kind: DecisionKind, until_ms: u64) -> Arc<Blocklist> {
        Arc::new(Blocklist {
            id: DecisionId::from_parts(1, 1, 1),
            name: name.into(),
            author: Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Operator },
            kind,
            reason: "test".into(),
            content: None,
            approved: false,
            created_at_ms: 0,
            until_ms,
            expires_at_ms: u64::MAX,
            version: 1,
        })
    }

    fn prefixes(texts: &[&str]) -> Arc<ListPrefixes> {
        Arc::new(texts.iter().map(|text| text.parse::<Prefix>().unwrap()).collect())
    }

    #[test]
    fn the_strongest_live_list_that_holds_an_address_is_found() {
        let (ban, challenge) =
            (list("ban", DecisionKind::Ban, 10), list("challenge", DecisionKind::Challenge, 99));
        let lists = Lists::of(vec![
            (challenge, prefixes(&["192.0.2.0/24", "255.255.255.255/32", "0.0.0.0/8", "2001:db8::/32"])),
            (
                ban,
                prefixes(&["192.0.2.128/25", "192.0.3.0/24", "2001:db8:1::/48", "ffff:ffff:ffff:ffff::/64"]),
            ),
        ]);
        for (ip, now_ms, expected) in [
            ("192.0.2.1", 0, Some("challenge")),
            ("192.0.2.128", 0, Some("ban")),
            ("192.0.2.255", 0, Some("ban")),
            ("192.0.2.255", 10, Some("challenge")),
            ("192.0.2.255", 99, None),
            ("192.0.3.0", 0, Some("ban")),
            ("192.0.3.0", 10, None),
            ("192.0.4.0", 0, None),
            ("192.0.1.255", 0, None),
            ("0.0.0.0", 0, Some("challenge")),
            ("1.0.0.0", 0, None),
            ("255.255.255.254", 0, None),
            ("255.255.255.255", 0, Some("challenge")),
            ("2001:db8::1", 0, Some("challenge")),
            ("2001:db8:1:2:3::", 0, Some("ban")),
            ("2001:db9::", 0, None),
            ("ffff:ffff:ffff:ffff:ffff::1", 0, Some("ban")),
        ] {
            let found = lists.find(ip.parse().unwrap(), now_ms).map(|list| &*list.name);
            assert_eq!(found, expected, "{ip} at {now_ms}");
        }
        assert_eq!(Lists::default().find([192, 0, 2, 1].into(), 0), None);
    }

    #[test]
    fn a_list_of_many_levels_holds_each_of_its_addresses_and_none_between() {
        let every_third = |n: u32| std::net::Ipv4Addr::from_bits(n * 3 + 7);
        let many: ListPrefixes =
            (0..9_000).map(|n| Prefix::from(std::net::IpAddr::from(every_third(n)))).collect();
        let lists = Lists::of(vec![(list("many", DecisionKind::Ban, 9), Arc::new(many))]);
        assert!(lists.v4.levels.len() > 3);
        for ip in 0..28_000u32 {
            let listed = ip >= 7 && (ip - 7) % 3 == 0 && (ip - 7) / 3 < 9_000;
            assert_eq!(lists.find(std::net::Ipv4Addr::from_bits(ip).into(), 0).is_some(), listed, "{ip}");
        }
    }

    proptest! {
        #[test]
        fn the_table_says_what_the_lists_say(
            ranges in proptest::collection::vec(proptest::collection::vec((any::<u16>(), 8u8..=32), 0..12), 0..5),
            asked in proptest::collection::vec(any::<u32>(), 0..20),
        ) {
            let nets: Vec<Vec<Prefix>> = ranges
                .iter()
                .map(|list| {
                    let one = |&(start, bits): &(u16, u8)| {
                        let start = std::net::Ipv4Addr::from_bits(u32::from(start) * 0x0001_0001);
                        Prefix::new(start.into(), bits).unwrap()
                    };
                    list.iter().map(one).collect()
                })
                .collect();
            // All equally strong but for their names.
            let name = |number: usize| format!("{}", 9 - number);
            let lists = Lists::of(
                nets.iter()
                    .enumerate()
                    .map(|(n, nets)| (list(&name(n), DecisionKind::Ban, 9), Arc::new(nets.iter().copied().collect())))
                    .collect(),
            );
            let edges = nets.iter().flatten().flat_map(|net| [net.network(), net.broadcast()]);
            for ip in edges.chain(asked.iter().map(|ip| std::net::Ipv4Addr::from_bits(*ip).into())) {
                let expected = nets.iter().position(|nets| nets.iter().any(|net| net.contains(&ip))).map(name);
                prop_assert_eq!(lists.find(ip, 0).map(|list| list.name.to_string()), expected, "{}", ip);
            }
        }
    }
}
