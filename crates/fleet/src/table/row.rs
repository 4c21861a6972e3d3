//! One decision in 64 bytes: numbers in place of texts, times relative to when it was made.
//!
//! What does not fit the form (a version far from its time, a fingerprint, an id of another making) is no row; the table keeps
//! such decisions whole. So every row unpacks to exactly the decision that it was made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use phalanx_model::{Actor, ActorKey, Country, Decision, DecisionId, DecisionKind, Prefix};

use crate::hybrid_clock::version_at;

/// A decision, or a free place.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Row {
    whom: u64,
    id_random: u64,
    evidence_random: u64,
    created_high: u32,
    lasts_ms: u32,
    version_after: u32,
    /// How long before the decision its evidence was made, in milliseconds.
    evidence_before: i32,
    pub(super) reason: u32,
    /// The next row about the same key; of a free place, the next free one.
    pub(super) next: u32,
    /// Where its author's shelf has it.
    pub(super) place: u32,
    created_low: u16,
    id_tag: u16,
    evidence_tag: u16,
    pub(super) author: u16,
    scope: Scope,
    /// Kind in the lowest two bits, then whether there is evidence.
    head: u8,
    prefix_bits: u8,
    confidence_percent: u8,
}

const _: () = assert!(size_of::<Row>() == 64, "a million rows are 64 MB");

/// What `whom` is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Scope {
    #[default]
    Free,
    /// The decision is kept whole, beside the rows.
    Unusual,
    Ipv4,
    Ipv6,
    ClientV4,
    ClientV6,
    PrefixV4,
    PrefixV6,
    Asn,
    Country,
    Session,
    Account,
}

impl Row {
    /// The row of a decision, without author, reason and the kind of client; `None` if it does not fit.
    pub(super) fn of(decision: &Decision) -> Option<Self> {
        let (scope, prefix_bits, whom) = write_actor(&decision.actor)?;
        let (created, id) = (decision.created_at_ms, decision.id);
        if id.at_ms() != created {
            return None;
        }
        let mut row = Self {
            whom,
            id_random: random_of(id),
            created_high: u32::try_from(created >> 16).ok()?,
            created_low: u16::try_from(created & 0xffff).ok()?,
            lasts_ms: u32::try_from(decision.expires_at_ms.checked_sub(created)?).ok()?,
            version_after: u32::try_from(decision.version.checked_sub(version_at(created))?).ok()?,
            id_tag: id.node_tag(),
            scope,
            head: kind_number(decision.kind)?,
            prefix_bits,
            confidence_percent: decision.confidence_percent,
            ..Self::default()
        };
        if let Some(evidence) = decision.evidence {
            let before_ms = i64::try_from(created).ok()? - i64::try_from(evidence.at_ms()).ok()?;
            row.evidence_before = i32::try_from(before_ms).ok()?;
            row.evidence_random = random_of(evidence);
            row.evidence_tag = evidence.node_tag();
            row.head |= HAS_EVIDENCE;
        }
        let same = row.actor(decision.actor.agent().unwrap_or_default()).as_ref() == Some(&decision.actor);
        same.then_some(row)
    }

    /// A row that only says where an unusual decision belongs.
    pub(super) fn unusual() -> Self {
        Self { scope: Scope::Unusual, ..Self::default() }
    }

    /// A place that is free, as the one after it.
    pub(super) fn free(next: u32) -> Self {
        Self { next, ..Self::default() }
    }

    /// The row as the last about its key, of the author with this number.
    pub(super) fn of_author(self, author: u16) -> Self {
        Self { author, next: u32::MAX, ..self }
    }

    pub(super) fn is_free(&self) -> bool {
        self.scope == Scope::Free
    }

    pub(super) fn is_unusual(&self) -> bool {
        self.scope == Scope::Unusual
    }

    pub(super) fn is_client(&self) -> bool {
        matches!(self.scope, Scope::ClientV4 | Scope::ClientV6)
    }

    pub(super) fn id(&self) -> DecisionId {
        DecisionId::from_parts(self.created_at_ms(), self.id_tag, self.id_random)
    }

    pub(super) fn evidence(&self) -> Option<DecisionId> {
        let at_ms = self.created_at_ms().wrapping_add_signed(-i64::from(self.evidence_before));
        (self.head & HAS_EVIDENCE != 0)
            .then(|| DecisionId::from_parts(at_ms, self.evidence_tag, self.evidence_random))
    }

    pub(super) fn kind(&self) -> DecisionKind {
        match self.head & 3 {
            0 => DecisionKind::Throttle,
            1 => DecisionKind::Challenge,
            2 => DecisionKind::Ban,
            _ => DecisionKind::Allow,
        }
    }

    pub(super) fn confidence_percent(&self) -> u8 {
        self.confidence_percent
    }

    pub(super) fn created_at_ms(&self) -> u64 {
        u64::from(self.created_high) << 16 | u64::from(self.created_low)
    }

    pub(super) fn expires_at_ms(&self) -> u64 {
        self.created_at_ms().saturating_add(u64::from(self.lasts_ms))
    }

    pub(super) fn version(&self) -> u64 {
        version_at(self.created_at_ms()).saturating_add(u64::from(self.version_after))
    }

    pub(super) fn key(&self) -> Option<ActorKey> {
        self.actor(0).map(|actor| actor.key())
    }

    /// Whom it is about. `agent` is the kind of client, where it is about one.
    pub(super) fn actor(&self, agent: u64) -> Option<Actor> {
        Some(match self.scope {
            Scope::Free | Scope::Unusual => return None,
            Scope::Ipv4 => Actor::Ip(self.ipv4()?),
            Scope::Ipv6 => Actor::Ip(self.ipv6()),
            Scope::ClientV4 => Actor::Client { ip: self.ipv4()?, agent },
            Scope::ClientV6 => Actor::Client { ip: self.ipv6(), agent },
            Scope::PrefixV4 => Actor::Prefix(Prefix::new(self.ipv4()?, self.prefix_bits).ok()?),
            Scope::PrefixV6 => Actor::Prefix(Prefix::new(self.ipv6(), self.prefix_bits).ok()?),
            Scope::Asn => Actor::Asn(u32::try_from(self.whom).ok()?),
            Scope::Country => {
                let letters = u16::try_from(self.whom).ok()?.to_be_bytes();
                Actor::Country(Country::from_bytes(letters).ok()?)
            }
            Scope::Session => Actor::Session(self.whom),
            Scope::Account => Actor::Account(self.whom),
        })
    }

    fn ipv4(&self) -> Option<IpAddr> {
        u32::try_from(self.whom).ok().map(|bits| Ipv4Addr::from_bits(bits).into())
    }

    fn ipv6(&self) -> IpAddr {
        Ipv6Addr::from_bits(u128::from(self.whom) << 64).into()
    }
}

/// Scope, length of a prefix, and 64 bits. What 64 bits cannot hold is found out by who compares.
fn write_actor(actor: &Actor) -> Option<(Scope, u8, u64)> {
    Some(match actor {
        Actor::Ip(IpAddr::V4(ip)) => (Scope::Ipv4, 0, ip.to_bits().into()),
        Actor::Ip(IpAddr::V6(ip)) => (Scope::Ipv6, 0, upper_half(*ip)),
        Actor::Client { ip: IpAddr::V4(ip), .. } => (Scope::ClientV4, 0, ip.to_bits().into()),
        Actor::Client { ip: IpAddr::V6(ip), .. } => (Scope::ClientV6, 0, upper_half(*ip)),
        Actor::Prefix(Prefix::V4(range)) => {
            (Scope::PrefixV4, range.prefix_len(), range.addr().to_bits().into())
        }
        Actor::Prefix(Prefix::V6(range)) => (Scope::PrefixV6, range.prefix_len(), upper_half(range.addr())),
        Actor::Asn(number) => (Scope::Asn, 0, (*number).into()),
        Actor::Country(country) => (Scope::Country, 0, u16::from_be_bytes(*country.as_bytes()).into()),
        Actor::Session(hash) => (Scope::Session, 0, *hash),
        Actor::Account(hash) => (Scope::Account, 0, *hash),
        // Few, and kept whole.
        Actor::Ja4(_) | Actor::Software(_) | Actor::Route(_) | Actor::App(_) | Actor::Rules(_) => {
            return None;
        }
    })
}

fn upper_half(ip: Ipv6Addr) -> u64 {
    u64::try_from(ip.to_bits() >> 64).unwrap_or_default()
}

fn random_of(id: DecisionId) -> u64 {
    u64::try_from(id.to_bits() & u128::from(u64::MAX)).unwrap_or_default()
}

/// None: it is about an actor that is kept whole.
fn kind_number(kind: DecisionKind) -> Option<u8> {
    Some(match kind {
        DecisionKind::RaiseParanoia => return None,
        DecisionKind::Throttle => 0,
        DecisionKind::Challenge => 1,
        DecisionKind::Ban => 2,
        DecisionKind::Allow => 3,
    })
}

const HAS_EVIDENCE: u8 = 4;
