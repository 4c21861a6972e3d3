//! Blocklists: many prefixes under one name and one order. A signed record says which content is the newest; the content
//! itself travels as a blob, named by its hash.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::{BLOCKLIST_PREFIXES_MAX, PREFIX_V4_BITS_MIN, PREFIX_V6_BITS_MIN};
use crate::net::{canonical, canonical_prefix};
use crate::{Actor, Author, Decision, DecisionId, DecisionKind, Prefix};

/// What a blocklist is in its newest version, by its author's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Blocklist {
    /// The id of this version.
    pub id: DecisionId,
    /// The list's name, one for the whole fleet: whoever wrote the newest version, it is the list.
    pub name: Arc<str>,
    /// Who wrote this version; only operators may.
    pub author: Author,
    /// What is ordered about its prefixes: ban or challenge.
    pub kind: DecisionKind,
    /// Why, in plain words.
    pub reason: String,
    /// What it holds; nothing once the list is removed.
    pub content: Option<ListContent>,
    /// An operator has approved this content: no node holds it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approved: bool,
    /// When this version was made, in Unix milliseconds.
    pub created_at_ms: u64,
    /// When it ends, in Unix milliseconds; it is never enforced from then on.
    pub until_ms: u64,
    /// When the record may be forgotten, in Unix milliseconds: not before all earlier versions have ended.
    pub expires_at_ms: u64,
    /// Hybrid logical time; the highest of a name is the list.
    pub version: u64,
}

impl Blocklist {
    /// What the list orders about an address that is on it. Names list and version in its reason, which people read.
    pub fn decision_about(&self, ip: IpAddr) -> Decision {
        Decision {
            id: self.id,
            actor: Actor::ip(ip),
            kind: self.kind,
            author: self.author.clone(),
            reason: format!("on blocklist {}, version {}: {}", self.name, self.version, self.reason),
            evidence: None,
            confidence_percent: 100,
            created_at_ms: self.created_at_ms,
            expires_at_ms: self.until_ms,
            version: self.version,
        }
    }
}

/// The content of a blocklist, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListContent {
    /// The SHA-256 of its packed form, in lower-case hexadecimal.
    pub hash: String,
    /// How many prefixes it holds.
    pub prefixes: u32,
}

/// The prefixes of a blocklist: sorted, none within another, of IPv6 none narrower than a /64, which is one subscriber.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListPrefixes {
    v4: Vec<(u32, u8)>,
    v6: Vec<(u64, u8)>,
}

impl ListPrefixes {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The prefixes, IPv4 first, each in order.
    pub fn iter(&self) -> impl Iterator<Item = Prefix> {
        let v4 = self
            .v4
            .iter()
            .filter_map(|&(start, bits)| Prefix::new(Ipv4Addr::from_bits(start).into(), bits).ok());
        let v6 = self.v6.iter().filter_map(|&(start, bits)| Prefix::new(v6_address(start).into(), bits).ok());
        v4.chain(v6)
    }

    /// Whether an address lies in one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match canonical(ip) {
            IpAddr::V4(ip) => holds(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => holds(&self.v6, u64::try_from(ip.to_bits() >> 64).unwrap_or_default()),
        }
    }

    /// First and last address of each IPv4 prefix.
    pub(crate) fn v4(&self) -> impl Iterator<Item = (u32, u32)> {
        self.v4.iter().map(|prefix| (prefix.0, prefix.last()))
    }

    /// First and last /64 of each IPv6 prefix.
    pub(crate) fn v6(&self) -> impl Iterator<Item = (u64, u64)> {
        self.v6.iter().map(|prefix| (prefix.0, prefix.last()))
    }

    /// The packed form: 5 bytes for an IPv4 prefix, 9 for one of IPv6.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + 5 * self.v4.len() + 9 * self.v6.len());
        bytes.extend_from_slice(MAGIC);
        for len in [self.v4.len(), self.v6.len()] {
            bytes.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
        }
        for (start, bits) in &self.v4 {
            bytes.extend_from_slice(&start.to_be_bytes());
            bytes.push(*bits);
        }
        for (start, bits) in &self.v6 {
            bytes.extend_from_slice(&start.to_be_bytes());
            bytes.push(*bits);
        }
        bytes
    }

    /// Reads the packed form. `None` for anything but what [`ListPrefixes::to_bytes`] makes of a list within the limits: whoever
    /// signed it could have packed what nobody may order.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (v4_len, rest) = rest.split_first_chunk()?;
        let (v6_len, rest) = rest.split_first_chunk()?;
        let v4_len = usize::try_from(u32::from_be_bytes(*v4_len)).ok()?;
        let v6_len = usize::try_from(u32::from_be_bytes(*v6_len)).ok()?;
        if v4_len.checked_add(v6_len)? > BLOCKLIST_PREFIXES_MAX {
            return None;
        }
        let (v4, v6) = rest.split_at_checked(v4_len * 5)?;
        if v6.len() != v6_len * 9 {
            return None;
        }
        let read_v4 = |[a, b, c, d, bits]: &[u8; 5]| (u32::from_be_bytes([*a, *b, *c, *d]), *bits);
        let read_v6 = |[a, b, c, d, e, f, g, h, bits]: &[u8; 9]| {
            (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), *bits)
        };
        let v4 = v4.as_chunks().0.iter().map(read_v4).collect();
        let v6 = v6.as_chunks().0.iter().map(read_v6).collect();
        let read = Self { v4, v6 };
        let widths_v4 = read.v4.iter().all(|(_, bits)| (PREFIX_V4_BITS_MIN..=32).contains(bits));
        let widths_v6 = read.v6.iter().all(|(_, bits)| (PREFIX_V6_BITS_MIN..=64).contains(bits));
        // No bit of a start may lie within the hosts' bits.
        let whole_v4 =
            read.v4.iter().all(|(start, bits)| start.checked_shl((*bits).into()).unwrap_or_default() == 0);
        let whole_v6 =
            read.v6.iter().all(|(start, bits)| start.checked_shl((*bits).into()).unwrap_or_default() == 0);
        (widths_v4 && widths_v6 && whole_v4 && whole_v6 && apart(read.v4()) && apart(read.v6()))
            .then_some(read)
    }
}

impl FromIterator<Prefix> for ListPrefixes {
    fn from_iter<I: IntoIterator<Item = Prefix>>(prefixes: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match canonical_prefix(prefix) {
                Prefix::V4(net) => v4.push((net.network().to_bits(), net.prefix_len())),
                Prefix::V6(net) => {
                    let start = u64::try_from(net.network().to_bits() >> 64).unwrap_or_default();
                    v6.push((start, net.prefix_len().min(64)));
                }
            }
        }
        Self { v4: outermost(v4), v6: outermost(v6) }
    }
}

/// Sorts prefixes and leaves out those within another: of two that share an address, one holds the other.
fn outermost<K: Ord + Copy>(mut prefixes: Vec<(K, u8)>) -> Vec<(K, u8)>
where
    (K, u8): Span<K>,
{
    prefixes.sort_unstable();
    let mut end: Option<K> = None;
    prefixes.retain(|prefix| {
        let outer = end.is_none_or(|end| prefix.0 > end);
        if outer {
            end = Some(prefix.last());
        }
        outer
    });
    prefixes.shrink_to_fit();
    prefixes
}

fn holds<K: Ord + Copy>(prefixes: &[(K, u8)], key: K) -> bool
where
    (K, u8): Span<K>,
{
    let after = prefixes.partition_point(|prefix| prefix.0 <= key);
    after.checked_sub(1).and_then(|at| prefixes.get(at)).is_some_and(|prefix| key <= prefix.last())
}

trait Span<K> {
    fn last(&self) -> K;
}

impl Span<u32> for (u32, u8) {
    fn last(&self) -> u32 {
        self.0 | u32::MAX.checked_shr(self.1.into()).unwrap_or_default()
    }
}

impl Span<u64> for (u64, u8) {
    fn last(&self) -> u64 {
        self.0 | u64::MAX.checked_shr(self.1.into()).unwrap_or_default()
    }
}

/// Whether spans are in order and share nothing.
fn apart<K: Ord>(spans: impl Iterator<Item = (K, K)>) -> bool {
    let mut end: Option<K> = None;
    for (first, last) in spans {
        if end.is_some_and(|end| first <= end) {
            return false;
        }
        end = Some(last);
    }
    true
}

/// The address whose first 64 bits these are.
fn v6_address(start: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from(start) << 64)
}

const MAGIC: &[u8; 9] = b"phx list\x01";
const HEAD: usize = MAGIC.len() + 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(prefixes: &[&str]) -> ListPrefixes {
        prefixes.iter().map(|text| text.parse::<Prefix>().unwrap()).collect()
    }

    fn shown(list: &ListPrefixes) -> Vec<String> {
        list.iter().map(|prefix| prefix.to_string()).collect()
    }

    #[test]
    fn what_lies_within_another_is_left_out() {
        let merged = list(&[
            "192.0.2.7/32",
            "192.0.2.0/24",
            "192.0.2.0/24",
            "192.0.3.1/24",
            "::ffff:198.51.100.0/120",
            "2001:db8::1/128",
            "2001:db8::2/128",
            "2001:db8:1::/48",
            "2001:db8:1:2::/64",
            "255.255.255.255/32",
        ]);
        let expected = [
            "192.0.2.0/24",
            "192.0.3.0/24",
            "198.51.100.0/24",
            "255.255.255.255/32",
            "2001:db8::/64",
            "2001:db8:1::/48",
        ];
        assert_eq!(shown(&merged), expected);
        assert_eq!(ListPrefixes::from_bytes(&merged.to_bytes()), Some(merged));
    }

    #[test]
    fn content_that_nobody_may_order_is_refused() {
        let pack =
            |v4: &[(u32, u8)], v6: &[(u64, u8)]| ListPrefixes { v4: v4.to_vec(), v6: v6.to_vec() }.to_bytes();
        let good = pack(&[(0x0a00_0000, 8), (0x0b00_0001, 32)], &[(0x2001_0db8 << 32, 32), (u64::MAX, 64)]);
        assert!(ListPrefixes::from_bytes(&good).is_some());
        for (why, bad) in [
            ("too wide", pack(&[(0, 7)], &[])),
            ("everything", pack(&[(0, 0)], &[])),
            ("too wide", pack(&[], &[(0x2000 << 48, 15)])),
            ("too narrow", pack(&[(1, 33)], &[])),
            ("too narrow", pack(&[], &[(1, 65)])),
            ("host bits", pack(&[(0x0a00_0001, 8)], &[])),
            ("host bits", pack(&[], &[(1, 63)])),
            ("out of order", pack(&[(2, 32), (1, 32)], &[])),
            ("twice", pack(&[(2, 32), (2, 32)], &[])),
            ("within another", pack(&[(0x0a00_0000, 8), (0x0a00_0001, 32)], &[])),
            ("longer than it says", [good.as_slice(), b"x"].concat()),
            ("of another form", good.iter().map(|byte| byte ^ 1).collect()),
            ("empty", Vec::new()),
        ] {
            assert_eq!(ListPrefixes::from_bytes(&bad), None, "{why}");
        }
        for cut in 0..good.len() {
            assert_eq!(ListPrefixes::from_bytes(&good[..cut]), None, "cut at {cut}");
        }
        let mut many = good;
        many[9..13].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(ListPrefixes::from_bytes(&many), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list_that_packs_back_or_nothing(tail: Vec<u8>, v4 in 0u32..4, v6 in 0u32..4) {
            let head = [MAGIC.as_slice(), &v4.to_be_bytes(), &v6.to_be_bytes(), &tail].concat();
            if let Some(read) = ListPrefixes::from_bytes(&head) {
                prop_assert_eq!(read.to_bytes(), head);
            }
        }

        #[test]
        fn a_list_holds_the_addresses_of_its_prefixes_and_no_others(
            prefixes in proptest::collection::vec((0u32..64, 26u8..=32), 0..20),
        ) {
            let nets: Vec<Prefix> =
                prefixes.iter().map(|(host, bits)| Prefix::new(Ipv4Addr::from_bits(*host).into(), *bits).unwrap()).collect();
            let merged: ListPrefixes = nets.iter().copied().collect();
            for host in 0..70u32 {
                let ip: std::net::IpAddr = Ipv4Addr::from_bits(host).into();
                let holds = |nets: Vec<Prefix>| nets.iter().any(|net| net.contains(&ip));
                prop_assert_eq!(holds(merged.iter().collect()), holds(nets.clone()), "{}", ip);
            }
            prop_assert!(apart(merged.v4()));
        }
    }
}
