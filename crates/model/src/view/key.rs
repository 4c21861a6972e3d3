//! Keys of actors as the tables of the view use them: bytes, hashes, and which lengths of prefixes and kinds of actors
//! occur at all, so that a look-up asks only for those.

use std::hash::{BuildHasher as _, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use crate::actor::{range_v4, range_v6};
use crate::{ActorKey, Country, Identities, Ja4, Prefix};

/// Hashes keys. All tables of a process hash alike, so that a look-up hashes once; processes hash differently, so that
/// nobody can choose addresses that collide.
pub(super) fn hash(key: &ActorKey) -> u64 {
    let mut hasher = SeedableRandomState::with_seed(0, SharedSeed::global_random()).build_hasher();
    let mut write = |scope: u8, short: u32, long: u64| {
        hasher.write_u64(u64::from(scope) << 56 | u64::from(short));
        hasher.write_u64(long);
    };
    match key {
        ActorKey::Range(Prefix::V4(range)) => {
            write(V4, u32::from(range.prefix_len()), u64::from(range.addr().to_bits()));
        }
        ActorKey::Range(Prefix::V6(range)) => {
            let bits = range.addr().to_bits();
            write(V6_LONG, u32::from(range.prefix_len()), high(bits));
            if range.prefix_len() > 64 {
                hasher.write_u64(low(bits));
            }
        }
        ActorKey::Asn(number) => write(ASN, *number, 0),
        ActorKey::Country(country) => write(COUNTRY, u32::from(u16::from_be_bytes(*country.as_bytes())), 0),
        ActorKey::Ja4(ja4) => {
            hasher.write_u8(JA4);
            hasher.write(ja4.as_bytes());
        }
        ActorKey::Session(hash) => write(SESSION, 0, *hash),
        ActorKey::Account(hash) => write(ACCOUNT, 0, *hash),
        ActorKey::Software(hash) => write(SOFTWARE, 0, *hash),
        ActorKey::Route(hash) => write(ROUTE, 0, *hash),
        ActorKey::App(hash) => write(APP, 0, *hash),
        ActorKey::Rules(hash) => write(RULES, 0, *hash),
    }
    hasher.finish()
}

/// Hashes a text, as [`hash`] does keys.
pub(super) fn hash_text(text: &str) -> u64 {
    SeedableRandomState::with_seed(0, SharedSeed::global_random()).hash_one(text)
}

/// Appends a key as bytes.
pub(super) fn encode(key: &ActorKey, out: &mut Vec<u8>) {
    match key {
        ActorKey::Range(Prefix::V4(range)) => {
            out.extend([V4, range.prefix_len()]);
            out.extend(range.addr().octets());
        }
        ActorKey::Range(Prefix::V6(range)) if range.prefix_len() <= 64 => {
            out.extend([V6_SHORT, range.prefix_len()]);
            out.extend(high(range.addr().to_bits()).to_be_bytes());
        }
        ActorKey::Range(Prefix::V6(range)) => {
            out.extend([V6_LONG, range.prefix_len()]);
            out.extend(range.addr().octets());
        }
        ActorKey::Asn(number) => {
            out.push(ASN);
            out.extend(number.to_be_bytes());
        }
        ActorKey::Country(country) => {
            out.push(COUNTRY);
            out.extend(country.as_bytes());
        }
        ActorKey::Ja4(ja4) => {
            out.push(JA4);
            out.extend(ja4.as_bytes());
        }
        ActorKey::Session(hash) => {
            out.push(SESSION);
            out.extend(hash.to_be_bytes());
        }
        ActorKey::Account(hash) => {
            out.push(ACCOUNT);
            out.extend(hash.to_be_bytes());
        }
        ActorKey::Software(hash) | ActorKey::Route(hash) | ActorKey::App(hash) | ActorKey::Rules(hash) => {
            out.push(match key {
                ActorKey::Software(_) => SOFTWARE,
                ActorKey::Route(_) => ROUTE,
                ActorKey::App(_) => APP,
                _ => RULES,
            });
            out.extend(hash.to_be_bytes());
        }
    }
}

/// Reads a key; also what follows it.
pub(super) fn decode(bytes: &[u8]) -> Option<(ActorKey, &[u8])> {
    let (&scope, rest) = bytes.split_first()?;
    Some(match scope {
        V4 => {
            let (&[bits, a, b, c, d], rest) = rest.split_first_chunk()?;
            (ActorKey::Range(range_v4(Ipv4Addr::new(a, b, c, d), bits)?), rest)
        }
        V6_SHORT => {
            let (&bits, rest) = rest.split_first()?;
            let (octets, rest) = rest.split_first_chunk()?;
            let address = Ipv6Addr::from_bits(u128::from(u64::from_be_bytes(*octets)) << 64);
            (ActorKey::Range(range_v6(address, bits)?), rest)
        }
        V6_LONG => {
            let (&bits, rest) = rest.split_first()?;
            let (octets, rest) = rest.split_first_chunk::<16>()?;
            (ActorKey::Range(range_v6(Ipv6Addr::from(*octets), bits)?), rest)
        }
        ASN => {
            let (number, rest) = rest.split_first_chunk()?;
            (ActorKey::Asn(u32::from_be_bytes(*number)), rest)
        }
        COUNTRY => {
            let (letters, rest) = rest.split_first_chunk()?;
            (ActorKey::Country(Country::from_bytes(*letters).ok()?), rest)
        }
        JA4 => {
            let (text, rest) = rest.split_first_chunk()?;
            (ActorKey::Ja4(Ja4::from_bytes(*text).ok()?), rest)
        }
        SESSION | ACCOUNT | SOFTWARE | ROUTE | APP | RULES => {
            let (hash, rest) = rest.split_first_chunk()?;
            let of = match scope {
                SESSION => ActorKey::Session,
                ACCOUNT => ActorKey::Account,
                SOFTWARE => ActorKey::Software,
                ROUTE => ActorKey::Route,
                APP => ActorKey::App,
                _ => ActorKey::Rules,
            };
            (of(u64::from_be_bytes(*hash)), rest)
        }
        _ => return None,
    })
}

/// Which prefix lengths and other kinds of keys occur in a table. What once occurred stays noted until the table is
/// built anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    v4: u64,
    /// Length n is bit n % 64 of word n / 64.
    v6: [u64; 3],
    others: u16,
}

impl Kinds {
    /// Notes that a key occurs.
    pub(super) fn note(&mut self, key: &ActorKey) {
        match key {
            ActorKey::Range(Prefix::V4(range)) => self.v4 |= 1 << range.prefix_len(),
            ActorKey::Range(Prefix::V6(range)) => {
                let bits = range.prefix_len();
                if let Some(word) = self.v6.get_mut(usize::from(bits / 64)) {
                    *word |= 1 << (bits % 64);
                }
            }
            ActorKey::Asn(_) => self.others |= 1 << ASN,
            ActorKey::Country(_) => self.others |= 1 << COUNTRY,
            ActorKey::Ja4(_) => self.others |= 1 << JA4,
            ActorKey::Session(_) => self.others |= 1 << SESSION,
            ActorKey::Account(_) => self.others |= 1 << ACCOUNT,
            ActorKey::Software(_) => self.others |= 1 << SOFTWARE,
            ActorKey::Route(_) => self.others |= 1 << ROUTE,
            ActorKey::App(_) => self.others |= 1 << APP,
            ActorKey::Rules(_) => self.others |= 1 << RULES,
        }
    }

    /// What occurs in either of two tables.
    pub(super) fn or(self, other: Self) -> Self {
        let [a, b, c] = self.v6;
        let [d, e, f] = other.v6;
        Self { v4: self.v4 | other.v4, v6: [a | d, b | e, c | f], others: self.others | other.others }
    }

    /// Whether keys of this length or kind occur.
    pub(super) fn has(&self, key: &ActorKey) -> bool {
        match key {
            ActorKey::Range(Prefix::V4(range)) => self.v4 >> range.prefix_len() & 1 == 1,
            ActorKey::Range(Prefix::V6(range)) => {
                let bits = range.prefix_len();
                self.v6.get(usize::from(bits / 64)).is_some_and(|word| word >> (bits % 64) & 1 == 1)
            }
            ActorKey::Asn(_) => self.has_asns(),
            ActorKey::Country(_) => self.has_countries(),
            ActorKey::Ja4(_) => self.others & 1 << JA4 != 0,
            ActorKey::Session(_) => self.others & 1 << SESSION != 0,
            ActorKey::Account(_) => self.others & 1 << ACCOUNT != 0,
            ActorKey::Software(_) => self.others & 1 << SOFTWARE != 0,
            ActorKey::Route(_) => self.others & 1 << ROUTE != 0,
            ActorKey::App(_) => self.others & 1 << APP != 0,
            ActorKey::Rules(_) => self.has_rules(),
        }
    }

    /// How many lengths of prefixes other than single addresses occur.
    pub(super) fn widths(self) -> u32 {
        let [a, b, c] = self.v6;
        (self.v4 & !(1 << 32)).count_ones() + a.count_ones() + (b & !1).count_ones() + c.count_ones()
    }

    /// Whether keys of AS numbers occur.
    pub(super) fn has_asns(self) -> bool {
        self.others & 1 << ASN != 0
    }

    /// Whether keys of countries occur.
    pub(super) fn has_countries(self) -> bool {
        self.others & 1 << COUNTRY != 0
    }

    /// Whether keys of sessions or accounts occur.
    pub(super) fn has_sessions(self) -> bool {
        self.others & (1 << SESSION | 1 << ACCOUNT) != 0
    }

    /// Whether keys of software, routes or apps occur.
    pub(super) fn has_wide(self) -> bool {
        self.others & (1 << SOFTWARE | 1 << ROUTE | 1 << APP) != 0
    }

    /// Whether keys of apps' rules occur.
    pub(super) fn has_rules(self) -> bool {
        self.others & 1 << RULES != 0
    }

    /// Visits the keys under which a decision about these identities may lie.
    pub(super) fn for_each_key(self, who: &Identities, mut visit: impl FnMut(ActorKey)) {
        match who.ip {
            IpAddr::V4(ip) => {
                for_each_bit(self.v4, |bits| {
                    if let Some(range) = range_v4(ip, bits) {
                        visit(ActorKey::Range(range));
                    }
                });
            }
            IpAddr::V6(ip) => {
                for (word, base) in self.v6.into_iter().zip([0u8, 64, 128]) {
                    for_each_bit(word, |bits| {
                        if let Some(range) = range_v6(ip, base + bits) {
                            visit(ActorKey::Range(range));
                        }
                    });
                }
            }
        }
        if self.others == 0 {
            return;
        }
        let others = [
            who.asn.map(ActorKey::Asn),
            who.country.map(ActorKey::Country),
            who.ja4.map(ActorKey::Ja4),
            who.session.map(ActorKey::Session),
            who.account.map(ActorKey::Account),
        ];
        others.into_iter().flatten().for_each(visit);
    }
}

/// Which lengths of prefixes occur near an address, so that a look-up among prefixes of all lengths does not ask for each of
/// them: by a hash of the first 16 bits of IPv4 addresses, and of the first 32 bits of IPv6 addresses.
#[derive(Debug, Clone, Default)]
pub(super) struct Nearby {
    /// Bit n: length n, below 32. Empty: nothing is known.
    v4: Vec<u32>,
    /// Bit n: length 32 + n, below 64.
    v6: Vec<u32>,
}

impl Nearby {
    /// For so many places, at most 2^16; with all of them the first 16 bits of IPv4 are told apart.
    pub(super) fn with_places(places: usize) -> Self {
        Self { v4: vec![0; places], v6: vec![0; places] }
    }

    /// Notes that a key occurs.
    pub(super) fn note(&mut self, key: &ActorKey) {
        match key {
            ActorKey::Range(Prefix::V4(range)) if range.prefix_len() < 32 => {
                for first in first_v4(range.network())..=first_v4(range.broadcast()) {
                    if let Some(lengths) =
                        place(first, self.v4.len()).and_then(|place| self.v4.get_mut(place))
                    {
                        *lengths |= 1 << range.prefix_len();
                    }
                }
            }
            ActorKey::Range(Prefix::V6(range)) if (32..64).contains(&range.prefix_len()) => {
                let place = place(first_v6(range.addr()), self.v6.len());
                if let Some(lengths) = place.and_then(|place| self.v6.get_mut(place)) {
                    *lengths |= 1 << (range.prefix_len() - 32);
                }
            }
            _ => {}
        }
    }

    /// Of the kinds that occur, those that can match the address.
    pub(super) fn among(&self, kinds: Kinds, ip: IpAddr) -> Kinds {
        let near =
            |first: u32, all: &[u32]| place(first, all.len()).and_then(|place| all.get(place)).copied();
        match ip {
            IpAddr::V4(ip) => match near(first_v4(ip), &self.v4) {
                Some(lengths) => Kinds { v4: kinds.v4 & (u64::from(lengths) | 1 << 32), ..kinds },
                None => kinds,
            },
            IpAddr::V6(ip) => match near(first_v6(ip), &self.v6) {
                Some(lengths) => {
                    let [short, long, longest] = kinds.v6;
                    Kinds { v6: [short & (u64::from(lengths) << 32 | 0xffff_ffff), long, longest], ..kinds }
                }
                None => kinds,
            },
        }
    }

    /// The bytes it takes.
    pub(super) fn bytes_len(&self) -> usize {
        (self.v4.len() + self.v6.len()) * 4
    }
}

fn first_v4(ip: Ipv4Addr) -> u32 {
    ip.to_bits() >> 16
}

fn first_v6(ip: Ipv6Addr) -> u32 {
    u32::try_from(ip.to_bits() >> 96).unwrap_or_default()
}

/// Networks are given out one after another, which the multiplication spreads (Knuth, volume 3, section 6.4); the same bits come
/// from different bits of IPv4 only where there are fewer than 2^16 places. Whoever makes networks meet gains nothing but a few
/// more places to look at.
fn place(first: u32, places: usize) -> Option<usize> {
    let spread = first.wrapping_mul(0x9e37_79b1);
    let spread = if first >> 16 == 0 { spread & 0xffff } else { spread >> 16 };
    usize::try_from(spread).ok()?.checked_rem(places)
}

fn for_each_bit(mut bits: u64, mut visit: impl FnMut(u8)) {
    while bits != 0 {
        visit(u8::try_from(bits.trailing_zeros()).unwrap_or_default());
        bits &= bits - 1;
    }
}

fn high(bits: u128) -> u64 {
    u64::try_from(bits >> 64).unwrap_or_default()
}

fn low(bits: u128) -> u64 {
    u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default()
}

const V4: u8 = 1;
const V6_SHORT: u8 = 2;
const V6_LONG: u8 = 3;
const ASN: u8 = 4;
const COUNTRY: u8 = 5;
const JA4: u8 = 6;
const SESSION: u8 = 7;
/// 0, because [`Kinds`] had a bit for each of these numbers in one byte when it came.
const ACCOUNT: u8 = 0;
const SOFTWARE: u8 = 8;
const ROUTE: u8 = 9;
const APP: u8 = 10;
const RULES: u8 = 11;
