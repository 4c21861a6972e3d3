//! What requests of the simulation are made of.

use std::net::{IpAddr, Ipv4Addr};

use phalanx_learn::sketch::mix;
use phalanx_learn::{Event, Method, Place, Step};
use phalanx_model::Country;

/// When a run begins: a Monday, midnight in UTC.
pub(crate) const BEGIN_MS: u64 = 1_767_571_200_000;

/// A request: where it goes, and who of the attackers makes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) event: Event,
    pub(crate) node: usize,
    /// None for honest ones.
    pub(crate) attacker: Option<usize>,
}

/// From where and with what somebody asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) ip: u32,
    pub(crate) asn: u32,
    pub(crate) software: u64,
}

/// Routes of the shop that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    Home,
    Product(u64),
    Order(u64),
    Login,
    Reset,
    Pay,
    Asset(u64),
    Hook,
    Missing(u64),
    Weak(u64),
    Search(u64),
}

/// An ordinary answer to somebody without a session.
pub(crate) fn page(at_ms: u64, client: Client, path: Path) -> Event {
    let (route, detail, object) = match path {
        Path::Home => (1, 0, None),
        Path::Product(id) => (2, id, Some(id)),
        Path::Order(id) => (3, id, Some(id)),
        Path::Login => (4, 0, None),
        Path::Reset => (5, 0, None),
        Path::Pay => (6, 0, None),
        Path::Asset(id) => (7, id, None),
        Path::Hook => (8, 0, None),
        Path::Missing(id) => (9, id, None),
        Path::Weak(id) => (10, id, None),
        Path::Search(id) => (11, id, None),
    };
    let target = mix(route << 48 | detail);
    Event {
        at_ms,
        ip: IpAddr::V4(Ipv4Addr::from_bits(client.ip)),
        app: 1,
        route,
        target,
        object,
        software: Some(mix(client.software)),
        agent: None,
        session: None,
        account: None,
        secret: None,
        place: None,
        asn: Some(client.asn),
        step: if matches!(path, Path::Asset(_)) { Step::Asset } else { Step::Page },
        status: if matches!(path, Path::Missing(_)) { 404 } else { 200 },
        response_bytes: 4_000 + target % 30_000,
        method: if matches!(path, Path::Login | Path::Reset | Path::Pay | Path::Hook) {
            Method::Post
        } else {
            Method::Get
        },
        endpoint: mix(route ^ 0xe4d),
        latency_us: 15_000 + target % 20_000,
        country: Country::from_bytes(country(client.asn)).ok(),
        shape: 0,
        attack: None,
        exempt: false,
    }
}

/// Where a network is, by its number: most are at home, attackers' hosts are elsewhere.
fn country(asn: u32) -> [u8; 2] {
    match asn {
        500.. => *b"XZ",
        n if n % 7 == 3 => *b"DE",
        n if n % 7 == 5 => *b"ES",
        _ => *b"FR",
    }
}

/// Whether many honest people have this software.
pub(crate) fn is_popular(software: u64) -> bool {
    (1..=14).any(|popular| mix(popular) == software)
}

/// The tag of a password or card.
pub(crate) fn tag(secret: u64) -> u16 {
    u16::try_from(mix(secret) & 0xffff).unwrap_or_default()
}

pub(crate) fn low(bits: u64) -> u32 {
    u32::try_from(bits & 0xffff_ffff).unwrap_or_default()
}

/// A password that a teacher gave to a class.
pub(crate) const CLASS_PASSWORD: u64 = 777_777;
/// A password that many people have.
pub(crate) const POPULAR_PASSWORD: u64 = 123_456;
/// Browsers that many people use, as often as they stand here.
pub(crate) const BROWSERS: [u64; 10] = [1, 1, 1, 2, 2, 3, 3, 4, 5, 6];
pub(crate) const CITIES: [Place; 4] = [
    Place { latitude: 49, longitude: 2 },
    Place { latitude: 52, longitude: 13 },
    Place { latitude: 40, longitude: -4 },
    Place { latitude: 45, longitude: 9 },
];
pub(crate) const FAR_AWAY: Place = Place { latitude: 36, longitude: 140 };
