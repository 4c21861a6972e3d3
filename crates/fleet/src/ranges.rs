//! How many addresses of one range one author bans at a time: of so many that an operator should look whether to ban the range whole. A
//! node may not order that by itself. No IO.
//!
//! INVARIANT: follows from the decisions counted in and out, whatever their order; at most one count for each decision.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use phalanx_model::limits::RANGE_BANS_FOR_PROPOSAL;
use phalanx_model::{Actor, Author, AuthorRole, Decision, DecisionId, DecisionKind, Prefix, id};
use phalanx_trust::sha256;

/// A range of which one author bans so many addresses that an operator is asked whether to ban it whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RangeProposal {
    /// Whose bans they are.
    pub author: Author,
    /// The range: a /24, or a /48.
    pub range: Prefix,
}

impl RangeProposal {
    /// Names it towards operators, on all nodes alike.
    pub fn id(&self) -> DecisionId {
        let named = format!("{}/{} {}", self.author.site, self.author.node, self.range);
        let hash = sha256(named.as_bytes()).first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        DecisionId::from_parts(0, id::node_tag(&self.author.site, &self.author.node), hash)
    }

    /// Whom it would be about.
    pub fn actor(&self) -> Actor {
        Actor::prefix(self.range)
    }
}

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    counts: HashMap<Author, Counts>,
    crowded: BTreeSet<RangeProposal>,
}

/// Of one author, by the bits of each range: 9 to 18 bytes for a /24 in which something is banned, twice that for a /48.
#[derive(Debug, Default)]
struct Counts {
    v4: HashMap<u32, u32>,
    v6: HashMap<u64, u32>,
}

impl Counts {
    fn add(&mut self, ip: IpAddr) -> u32 {
        let count = match bits(ip) {
            Bits::V4(range) => self.v4.entry(range).or_default(),
            Bits::V6(range) => self.v6.entry(range).or_default(),
        };
        *count += 1;
        *count
    }

    /// How many are left.
    fn take(&mut self, ip: IpAddr) -> u32 {
        match bits(ip) {
            Bits::V4(range) => less(&mut self.v4, range),
            Bits::V6(range) => less(&mut self.v6, range),
        }
    }

    fn of(&self, range: Prefix) -> u32 {
        let count = match bits(range.addr()) {
            Bits::V4(range) => self.v4.get(&range),
            Bits::V6(range) => self.v6.get(&range),
        };
        count.copied().unwrap_or_default()
    }
}

impl Ranges {
    /// Counts a decision in.
    pub(crate) fn add(&mut self, decision: &Decision) {
        let Some(ip) = counted(decision) else { return };
        if !self.counts.contains_key(&decision.author) {
            self.counts.insert(decision.author.clone(), Counts::default());
        }
        let Some(of_author) = self.counts.get_mut(&decision.author) else { return };
        if of_author.add(ip) == RANGE_BANS_FOR_PROPOSAL {
            self.crowded.extend(proposal(&decision.author, ip));
        }
    }

    /// Counts a decision out that was counted in.
    pub(crate) fn take(&mut self, decision: &Decision) {
        let Some(ip) = counted(decision) else { return };
        let Some(of_author) = self.counts.get_mut(&decision.author) else { return };
        let left = of_author.take(ip);
        if of_author.v4.is_empty() && of_author.v6.is_empty() {
            self.counts.remove(&decision.author);
        }
        if left + 1 == RANGE_BANS_FOR_PROPOSAL
            && let Some(proposal) = proposal(&decision.author, ip)
        {
            self.crowded.remove(&proposal);
        }
    }

    /// The ranges that are crowded now, each with how many of its addresses are banned.
    pub(crate) fn crowded(&self) -> impl Iterator<Item = (&RangeProposal, u32)> {
        self.crowded.iter().map(|proposal| {
            let count = self.counts.get(&proposal.author).map(|of| of.of(proposal.range));
            (proposal, count.unwrap_or_default())
        })
    }
}

fn proposal(author: &Author, ip: IpAddr) -> Option<RangeProposal> {
    let range = Prefix::new(ip, if ip.is_ipv4() { 24 } else { 48 }).ok()?.trunc();
    Some(RangeProposal { author: author.clone(), range })
}

/// The address that counts, if a decision is a node's ban of a whole one. (Of each author there is one of these for each address.)
fn counted(decision: &Decision) -> Option<IpAddr> {
    let Actor::Ip(ip) = decision.actor else { return None };
    let counts = decision.kind == DecisionKind::Ban && decision.author.role == AuthorRole::Node;
    counts.then_some(ip)
}

enum Bits {
    V4(u32),
    V6(u64),
}

/// The bits of the /24 or /48 that an address lies in.
fn bits(ip: IpAddr) -> Bits {
    match ip {
        IpAddr::V4(ip) => Bits::V4(ip.to_bits() >> 8),
        IpAddr::V6(ip) => Bits::V6(u64::try_from(ip.to_bits() >> 80).unwrap_or_default()),
    }
}

fn less<K: Eq + Hash>(counts: &mut HashMap<K, u32>, range: K) -> u32 {
    let Some(count) = counts.get_mut(&range) else { return 0 };
    *count = count.saturating_sub(1);
    let left = *count;
    if left == 0 {
        counts.remove(&range);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Change;
    use crate::registers::Registers;
    use phalanx_model::Withdrawal;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    fn author(node: u8, role: AuthorRole) -> Author {
        Author { site: "fra".into(), node: format!("n{node}").into(), role }
    }

    fn decision(node: u8, ip: IpAddr, expires_at_ms: u64, version: u64) -> Decision {
        Decision {
            id: DecisionId::from_parts(version, 1, 1),
            actor: Actor::ip(ip),
            kind: DecisionKind::Ban,
            author: author(node, AuthorRole::Node),
            reason: "test".into(),
            evidence: None,
            confidence_percent: 100,
            created_at_ms: 0,
            expires_at_ms,
            version,
        }
    }

    fn ban(node: u8, ip: IpAddr, expires_at_ms: u64, version: u64) -> Change {
        Change::Decided(Arc::new(decision(node, ip, expires_at_ms, version)))
    }

    fn withdrawal(by: Author, actor: Actor, at_ms: u64, version: u64) -> Change {
        Change::Withdrawn(Arc::new(Withdrawal {
            id: DecisionId::from_parts(version, 2, 1),
            actor,
            author: by,
            up_to_version: version,
            reason: String::new(),
            created_at_ms: at_ms,
            expires_at_ms: 1_000_000,
        }))
    }

    fn host(n: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, n).into()
    }

    fn proposed(registers: &Registers, since_ms: u64) -> Vec<(String, u32)> {
        registers.proposals(since_ms).iter().map(|(p, n)| (format!("{} {}", p.author, p.range), *n)).collect()
    }

    #[test]
    fn a_quarter_of_a_24_or_as_many_of_a_48_is_proposed() {
        let mut registers = Registers::default();
        for n in 0..63u8 {
            registers.apply(&ban(1, host(n), 100, 1), 0);
            registers.apply(&ban(2, host(n + 100), 100, 1), 0);
            let v6 = std::net::Ipv6Addr::new(0x2001, 0xdb8, 7, n.into(), 0, 0, 0, 1);
            registers.apply(&ban(1, v6.into(), 100, 1), 0);
        }
        assert_eq!(proposed(&registers, 0), [], "of two authors together is nobody's");
        registers.apply(&ban(1, host(63), 100, 1), 0);
        registers.apply(&ban(1, "2001:db8:7:ffff::".parse().unwrap(), 100, 1), 0);
        let expected = [("fra/n1 192.0.2.0/24".to_owned(), 64), ("fra/n1 2001:db8:7::/48".to_owned(), 64)];
        assert_eq!(proposed(&registers, 0), expected);
        registers.sweep(100);
        assert_eq!(proposed(&registers, 0), []);
    }

    #[test]
    fn an_operators_order_or_withdrawal_about_the_range_answers_the_proposal() {
        let mut registers = Registers::default();
        for n in 0..70u8 {
            registers.apply(&ban(1, host(n), 10_000, 1), 0);
        }
        let range = Actor::prefix("192.0.2.0/24".parse().unwrap());
        let operator = author(9, AuthorRole::Operator);
        registers.apply(&withdrawal(author(9, AuthorRole::Node), range.clone(), 500, 5), 0);
        assert_eq!(proposed(&registers, 0).len(), 1, "no node answers it");
        registers.apply(&withdrawal(operator.clone(), range.clone(), 500, 5), 0);
        assert_eq!(proposed(&registers, 500), []);
        assert_eq!(proposed(&registers, 501).len(), 1, "rejected too long ago");
        let order = Decision { actor: range, author: operator, ..decision(9, host(1), 10_000, 9) };
        registers.apply(&Change::Decided(Arc::new(order)), 0);
        assert_eq!(proposed(&registers, 501), []);
    }

    proptest! {
        #[test]
        fn a_range_is_proposed_exactly_while_so_many_of_it_are_banned(
            steps in proptest::collection::vec((0u8..3, 0u8..90, 1u64..60), 0..400),
            quota in prop_oneof![Just(1_000usize), Just(70usize)],
        ) {
            let mut registers = Registers::with_quota(quota);
            let mut version = 0;
            for (now_ms, (what, n, for_ms)) in (0u64..).zip(steps) {
                version += 1;
                match what {
                    0 => registers.apply(&withdrawal(author(1, AuthorRole::Operator), Actor::ip(host(n)), now_ms, version), now_ms),
                    _ => registers.apply(&ban(1, host(n), now_ms + for_ms * 8, version), now_ms),
                };
                registers.sweep(now_ms);
                let mut banned: BTreeMap<String, u32> = BTreeMap::new();
                for decision in registers.decisions() {
                    *banned.entry(decision.author.to_string()).or_default() += 1;
                }
                let expected: Vec<_> = banned
                    .into_iter()
                    .filter(|(_, count)| *count >= RANGE_BANS_FOR_PROPOSAL)
                    .map(|(author, count)| (format!("{author} 192.0.2.0/24"), count))
                    .collect();
                prop_assert_eq!(proposed(&registers, 0), expected);
            }
        }
    }
}
