//! Whom a decision can be about, the key under which decisions about one actor are kept, and what a request says of
//! who it is from.
//!
//! Text from operators and records becomes an [`Actor`] only through types that check it, so that one actor has one
//! spelling, and a record with a kind or a value that this version cannot read is refused by itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Prefix;
use crate::net::{actor_ip, canonical_prefix};

/// Whom a decision is about. Readers refuse kinds that they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "kind", content = "value")]
pub enum Actor {
    /// One address; for IPv6 the /64 it lies in. Always made by [`Actor::ip`].
    Ip(IpAddr),
    /// One kind of client at one address: narrower than the address, for networks that many people share.
    Client {
        /// The address, as in [`Actor::Ip`].
        ip: IpAddr,
        /// A hash of what the client says of itself (User-Agent and the order of its header fields).
        /// 16 hexadecimal digits in JSON, whose numbers have 53 bits only in browsers.
        #[serde(with = "hexadecimal")]
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        agent: u64,
    },
    /// An address range, host bits cleared. Always made by [`Actor::prefix`].
    Prefix(#[cfg_attr(feature = "schema", schemars(with = "String"))] Prefix),
    /// All addresses that an autonomous system announces (RFC 4271), as the node's database says.
    Asn(u32),
    /// All addresses in a country, as the node's database says.
    Country(Country),
    /// All clients whose TLS greeting looks alike.
    Ja4(Ja4),
    /// One session: a keyed hash of its cookie or token. 16 hexadecimal digits in JSON.
    Session(
        #[serde(with = "hexadecimal")]
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        u64,
    ),
    /// One account: a keyed hash of its name. 16 hexadecimal digits in JSON.
    Account(
        #[serde(with = "hexadecimal")]
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        u64,
    ),
    /// All clients of one kind of software: the keyed hash of how they greet and write HTTP; see [`crate::NameKey::software`]. 16 hexadecimal
    /// digits in JSON.
    Software(
        #[serde(with = "hexadecimal")]
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        u64,
    ),
    /// All who ask for one route of an app: the hash of both names; see [`crate::names::route`]. 16 hexadecimal digits in JSON.
    Route(
        #[serde(with = "hexadecimal")]
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        u64,
    ),
    /// All who ask for an app: the hash of its name; see [`crate::names::app`]. 16 hexadecimal digits in JSON.
    App(
        #[serde(with = "hexadecimal")]
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        u64,
    ),
    /// The rules that an app's requests are inspected by, named by the same hash; only their paranoia is ordered about. 16 hexadecimal digits in
    /// JSON.
    Rules(
        #[serde(with = "hexadecimal")]
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        u64,
    ),
}

impl Actor {
    /// The actor behind an address.
    pub fn ip(ip: IpAddr) -> Self {
        Self::Ip(actor_ip(ip))
    }

    /// One kind of client at an address.
    pub fn client(ip: IpAddr, agent: u64) -> Self {
        Self::Client { ip: actor_ip(ip), agent }
    }

    /// All addresses of a range.
    pub fn prefix(prefix: Prefix) -> Self {
        Self::Prefix(canonical_prefix(prefix))
    }

    /// The client that the actor is, if it is narrower than its addresses.
    pub fn agent(&self) -> Option<u64> {
        match self {
            Self::Client { agent, .. } => Some(*agent),
            _ => None,
        }
    }

    /// Whether the actor is the client with this `agent` hash, given that its key matches. Without a hash (a connection
    /// on which nothing was said yet) only actors that are no kind of client match.
    pub fn covers_agent(&self, agent: Option<u64>) -> bool {
        match self {
            Self::Client { agent: banned, .. } => agent == Some(*banned),
            _ => true,
        }
    }

    /// The key under which decisions about it are kept. Clients share the key of their address, because an order that
    /// ends what is said about an address ends what is said about clients there.
    pub fn key(&self) -> ActorKey {
        match self {
            Self::Prefix(prefix) => ActorKey::Range(canonical_prefix(*prefix)),
            Self::Ip(ip) | Self::Client { ip, .. } => {
                let ip = actor_ip(*ip);
                let bits = if ip.is_ipv4() { 32 } else { 64 };
                ActorKey::Range(Prefix::new(ip, bits).unwrap_or_else(|_| Prefix::from(ip)))
            }
            Self::Asn(number) => ActorKey::Asn(*number),
            Self::Country(country) => ActorKey::Country(*country),
            Self::Ja4(ja4) => ActorKey::Ja4(*ja4),
            Self::Session(hash) => ActorKey::Session(*hash),
            Self::Account(hash) => ActorKey::Account(*hash),
            Self::Software(hash) => ActorKey::Software(*hash),
            Self::Route(hash) => ActorKey::Route(*hash),
            Self::App(hash) => ActorKey::App(*hash),
            Self::Rules(hash) => ActorKey::Rules(*hash),
        }
    }

    /// The addresses that the actor stands for, if it is made of addresses.
    pub fn range(&self) -> Option<Prefix> {
        match self.key() {
            ActorKey::Range(range) => Some(range),
            _ => None,
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip @ IpAddr::V4(_)) => ip.fmt(f),
            Self::Client { ip, agent } => write!(f, "{ip} client {agent:016x}"),
            Self::Ip(IpAddr::V6(_)) | Self::Prefix(_) => self.key().fmt(f),
            Self::Asn(_)
            | Self::Country(_)
            | Self::Ja4(_)
            | Self::Session(_)
            | Self::Account(_)
            | Self::Software(_)
            | Self::Route(_)
            | Self::App(_)
            | Self::Rules(_) => self.key().fmt(f),
        }
    }
}

/// What decisions are looked up by: an actor without the kind of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ActorKey {
    /// Addresses, host bits cleared.
    Range(Prefix),
    /// See [`Actor::Asn`].
    Asn(u32),
    /// See [`Actor::Country`].
    Country(Country),
    /// See [`Actor::Ja4`].
    Ja4(Ja4),
    /// See [`Actor::Session`].
    Session(u64),
    /// See [`Actor::Account`].
    Account(u64),
    /// See [`Actor::Software`].
    Software(u64),
    /// See [`Actor::Route`].
    Route(u64),
    /// See [`Actor::App`].
    App(u64),
    /// See [`Actor::Rules`].
    Rules(u64),
}

impl ActorKey {
    /// Whether it is about whoever comes with some software or asks for some place, and not about who somebody is: looked up by
    /// [`crate::View::about_any`] alone.
    pub fn is_wide(&self) -> bool {
        matches!(self, Self::Software(_) | Self::Route(_) | Self::App(_) | Self::Rules(_))
    }

    /// The actor that the key stands for, without an agent.
    pub(crate) fn actor(&self, agent: Option<u64>) -> Actor {
        match (self, agent) {
            (Self::Range(range), Some(agent)) => Actor::Client { ip: range.addr(), agent },
            (Self::Range(range), None) if is_single(*range) => Actor::Ip(range.addr()),
            (Self::Range(range), None) => Actor::Prefix(*range),
            (Self::Asn(number), _) => Actor::Asn(*number),
            (Self::Country(country), _) => Actor::Country(*country),
            (Self::Ja4(ja4), _) => Actor::Ja4(*ja4),
            (Self::Session(hash), _) => Actor::Session(*hash),
            (Self::Account(hash), _) => Actor::Account(*hash),
            (Self::Software(hash), _) => Actor::Software(*hash),
            (Self::Route(hash), _) => Actor::Route(*hash),
            (Self::App(hash), _) => Actor::App(*hash),
            (Self::Rules(hash), _) => Actor::Rules(*hash),
        }
    }
}

impl fmt::Display for ActorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(range) => range.fmt(f),
            Self::Asn(number) => write!(f, "AS{number}"),
            Self::Country(country) => write!(f, "country {country}"),
            Self::Ja4(ja4) => write!(f, "ja4 {ja4}"),
            Self::Session(hash) => write!(f, "session {hash:016x}"),
            Self::Account(hash) => write!(f, "account {hash:016x}"),
            Self::Software(hash) => write!(f, "software {hash:016x}"),
            Self::Route(hash) => write!(f, "route {hash:016x}"),
            Self::App(hash) => write!(f, "app {hash:016x}"),
            Self::Rules(hash) => write!(f, "rules of app {hash:016x}"),
        }
    }
}

/// Whether a range is what [`Actor::ip`] makes of one address.
fn is_single(range: Prefix) -> bool {
    match range {
        Prefix::V4(range) => range.prefix_len() == 32,
        Prefix::V6(range) => range.prefix_len() == 64,
    }
}

/// Two capital letters, as in ISO 3166-1. Which of them are in use is for the database to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

impl Country {
    /// The two letters.
    pub fn as_bytes(&self) -> &[u8; 2] {
        &self.0
    }

    /// The country of two letters of any case.
    pub fn from_bytes(letters: [u8; 2]) -> Result<Self, ActorError> {
        if !letters.iter().all(u8::is_ascii_alphabetic) {
            return Err(ActorError::Country);
        }
        Ok(Self(letters.map(|letter| letter.to_ascii_uppercase())))
    }
}

impl FromStr for Country {
    type Err = ActorError;

    fn from_str(text: &str) -> Result<Self, ActorError> {
        Self::from_bytes(text.as_bytes().try_into().map_err(|_| ActorError::Country)?)
    }
}

/// A JA4 TLS client fingerprint (FoxIO, 2023): `t13d1516h2_8daaf6152771_02713d6af862`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
#[serde(try_from = "String", into = "String")]
pub struct Ja4([u8; JA4_LEN]);

impl Ja4 {
    /// The 36 characters.
    pub fn as_bytes(&self) -> &[u8; JA4_LEN] {
        &self.0
    }

    /// The fingerprint of these characters: ten letters and digits, and twice `_` and twelve hexadecimal digits.
    pub fn from_bytes(text: [u8; JA4_LEN]) -> Result<Self, ActorError> {
        let in_form = text.iter().enumerate().all(|(place, byte)| match place {
            0..10 => byte.is_ascii_alphanumeric(),
            10 | 23 => *byte == b'_',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
        if in_form { Ok(Self(text)) } else { Err(ActorError::Ja4) }
    }
}

impl FromStr for Ja4 {
    type Err = ActorError;

    fn from_str(text: &str) -> Result<Self, ActorError> {
        Self::from_bytes(text.as_bytes().try_into().map_err(|_| ActorError::Ja4)?)
    }
}

macro_rules! text_forms {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
            }
        }

        impl TryFrom<String> for $type {
            type Error = ActorError;

            fn try_from(text: String) -> Result<Self, ActorError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )*};
}

text_forms!(Country, Ja4);

/// Reads an AS number, `64500` or `AS64500`. 0 and the last number stand for no system (RFC 7607, RFC 7300).
pub fn parse_asn(text: &str) -> Result<u32, ActorError> {
    let digits = match text.split_at_checked(2) {
        Some((letters, digits)) if letters.eq_ignore_ascii_case("as") => digits,
        _ => text,
    };
    // `parse` would take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ActorError::Asn);
    }
    digits.parse().ok().filter(|number| is_asn(*number)).ok_or(ActorError::Asn)
}

/// Whether a number can be that of an autonomous system.
pub fn is_asn(number: u32) -> bool {
    number != 0 && number != u32::MAX
}

/// Reads the hash that names a session, an account or software: 16 hexadecimal digits.
pub fn parse_hash(text: &str) -> Result<u64, ActorError> {
    if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ActorError::Hash);
    }
    u64::from_str_radix(text, 16).map_err(|_| ActorError::Hash)
}

/// Why a text names no actor, and what would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ActorError {
    #[error("it is no AS number; write 64500 or AS64500, from 1 to 4294967294")]
    Asn,
    #[error("it is no country; write the two letters of ISO 3166-1, as in NL")]
    Country,
    #[error("it is no JA4 fingerprint; write all three parts, as in t13d1516h2_8daaf6152771_02713d6af862")]
    Ja4,
    #[error(
        "it is no keyed hash; sessions and accounts are named by 16 hexadecimal digits, never by what they hide"
    )]
    Hash,
}

/// What is known of whom a request is from. What is not known matches no decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identities {
    /// The client's address.
    pub ip: IpAddr,
    /// The client's hash, once its head is known; see [`Actor::Client`].
    pub agent: Option<u64>,
    /// The autonomous system of the address.
    pub asn: Option<u32>,
    /// The country of the address.
    pub country: Option<Country>,
    /// The fingerprint of its TLS greeting.
    pub ja4: Option<Ja4>,
    /// The keyed hash of its session.
    pub session: Option<u64>,
    /// The keyed hash of its account.
    pub account: Option<u64>,
}

impl Identities {
    /// Of a client of which only the address is known.
    pub fn of(ip: IpAddr) -> Self {
        Self { ip, agent: None, asn: None, country: None, ja4: None, session: None, account: None }
    }
}

/// The first `bits` bits of an IPv4 address, as a range.
pub(crate) fn range_v4(ip: Ipv4Addr, bits: u8) -> Option<Prefix> {
    ipnet::Ipv4Net::new(ip, bits).ok().map(|net| Prefix::V4(net.trunc()))
}

/// The first `bits` bits of an IPv6 address, as a range.
pub(crate) fn range_v6(ip: Ipv6Addr, bits: u8) -> Option<Prefix> {
    ipnet::Ipv6Net::new(ip, bits).ok().map(|net| Prefix::V6(net.trunc()))
}

const JA4_LEN: usize = 36;

/// 64 bits as 16 hexadecimal digits.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bits: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{bits:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JA4: &str = "t13d1516h2_8daaf6152771_02713d6af862";

    #[test]
    fn what_is_no_number_country_fingerprint_or_hash_is_refused() {
        assert_eq!(parse_asn("64500"), Ok(64_500));
        assert_eq!(parse_asn("as64500"), Ok(64_500));
        for text in ["", "AS", "0", "4294967295", "4294967296", "+1", "-1", "64500 ", "ä1"] {
            assert_eq!(parse_asn(text), Err(ActorError::Asn), "{text:?}");
        }
        assert_eq!("nl".parse::<Country>().unwrap().to_string(), "NL");
        for text in ["", "N", "NLD", "N1", "é", "\u{1F1F3}"] {
            assert_eq!(text.parse::<Country>(), Err(ActorError::Country), "{text:?}");
        }
        assert_eq!(JA4.parse::<Ja4>().unwrap().to_string(), JA4);
        for text in ["", "t13d1516h2", &JA4.to_uppercase(), &JA4.replace('_', "-"), &format!("{JA4}0")] {
            assert_eq!(text.parse::<Ja4>(), Err(ActorError::Ja4), "{text:?}");
        }
        assert_eq!(parse_hash("00000000000000FF"), Ok(255));
        for text in ["", "ff", "+0000000000000ff", "alice@example.org"] {
            assert_eq!(parse_hash(text), Err(ActorError::Hash), "{text:?}");
        }
    }

    #[test]
    fn a_key_stands_for_its_actor() {
        let actors = [
            Actor::ip([192, 0, 2, 1].into()),
            Actor::ip("2001:db8::1".parse().unwrap()),
            Actor::client([192, 0, 2, 1].into(), 7),
            Actor::client("2001:db8::1".parse().unwrap(), 7),
            Actor::prefix("192.0.2.0/24".parse().unwrap()),
            Actor::prefix("2001:db8::/128".parse().unwrap()),
            Actor::Asn(64_500),
            Actor::Country("NL".parse().unwrap()),
            Actor::Ja4(JA4.parse().unwrap()),
            Actor::Software(7),
            Actor::Route(7),
            Actor::App(7),
            Actor::Rules(7),
            Actor::Session(7),
            Actor::Account(7),
        ];
        for actor in actors {
            assert_eq!(actor.key().actor(actor.agent()), actor);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_actor_or_an_error(text in ".{0,40}") {
            let _ = (parse_asn(&text), text.parse::<Country>(), text.parse::<Ja4>(), parse_hash(&text));
        }
    }
}
