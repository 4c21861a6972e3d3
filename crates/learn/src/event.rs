//! What is learned from: one request with its answer, without a word of what was in it.

use std::net::IpAddr;

pub use phalanx_model::NameKey;
pub use phalanx_model::deed::{Outcome, Step};
use phalanx_model::net::actor_ip;
use phalanx_model::{AccessEvent, Actor, Confidence, Country, Deed};

use crate::sketch::{low32, mix};

/// One request with its answer. Names are hashes under the fleet's [`NameKey`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    /// When it arrived, in Unix milliseconds.
    pub at_ms: u64,
    /// The client's address.
    pub ip: IpAddr,
    /// The app.
    pub app: u64,
    /// App and route.
    pub route: u64,
    /// App and path.
    pub target: u64,
    /// The number in the path that names an object (`/orders/4711`), where there is one.
    pub object: Option<u64>,
    /// What kind of software asks: JA4 and the way it writes HTTP.
    pub software: Option<u64>,
    /// By what decisions name the kind of client; see [`Actor::Client`].
    pub agent: Option<u64>,
    /// The session.
    pub session: Option<u64>,
    /// The account that logs in, is asked about, or that the session belongs to.
    pub account: Option<u64>,
    /// A tag of what was tried (password, card): 16 bits of a keyed hash, so that equal ones are seen and none can be found out.
    pub secret: Option<u16>,
    /// Where the address is.
    pub place: Option<Place>,
    /// The autonomous system of the address.
    pub asn: Option<u32>,
    /// What it was about.
    pub step: Step,
    /// Status of the answer; 0 if there was none.
    pub status: u16,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// The method.
    pub method: Method,
    /// App, method and path without what names objects in it: what a new one is told by.
    pub endpoint: u64,
    /// From the first byte of the head to the last of the answer, in microseconds.
    pub latency_us: u64,
    /// The country of the address.
    pub country: Option<Country>,
    /// Shape of its payload; see [`crate::sketch::shape`]. 0 without one.
    pub shape: u64,
    /// It was refused as an attack by a detection of this confidence.
    pub attack: Option<Confidence>,
    /// A verified crawler, a monitor, a webhook, an operator: nothing is held against it.
    pub exempt: bool,
}

/// Methods, as far as they are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "they are HTTP's")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Other,
}

impl Method {
    /// Of its name, exactly as a client writes it.
    pub fn of(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }
}

/// Where an address is: degrees, rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// North of the equator.
    pub latitude: i16,
    /// East of Greenwich.
    pub longitude: i16,
}

impl Place {
    /// The way to another place along the surface, in kilometres.
    pub fn km_to(self, other: Self) -> f64 {
        let radians = |degrees: i16| f64::from(degrees).to_radians();
        let (from, to) = (radians(self.latitude), radians(other.latitude));
        let turn = (radians(other.longitude) - radians(self.longitude)) / 2.0;
        let part = ((to - from) / 2.0).sin().powi(2) + from.cos() * to.cos() * turn.sin().powi(2);
        2.0 * 6_371.0 * part.clamp(0.0, 1.0).sqrt().asin()
    }
}

/// What an access event does not say. Who holds the databases and lists fills it in.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the names are those of Event")]
pub struct Known {
    pub place: Option<Place>,
    pub asn: Option<u32>,
    pub country: Option<Country>,
    pub attack: Option<Confidence>,
    pub exempt: bool,
}

impl Event {
    /// Of a request as it is recorded. No allocation: it hashes the app, route, path and prints.
    pub fn of(access: &AccessEvent, known: &Known, key: &NameKey) -> Self {
        let path = access.target.split(['?', '#']).next().unwrap_or_default();
        let Deed { session, account, secret, step, shape } = access.deed.unwrap_or_default();
        let (app, route) = Self::place_of(key, &access.app, access.route.as_deref());
        let software = key.software(access.ja4.as_ref(), access.http_print.as_deref());
        Self {
            at_ms: access.at_ms,
            ip: access.client,
            app,
            route,
            target: app ^ key.hash("path", path.as_bytes()),
            object: object_of(path),
            software,
            agent: access.agent,
            session,
            account,
            secret,
            place: known.place,
            asn: known.asn,
            step: if step == Step::Page && is_asset(path) { Step::Asset } else { step },
            status: access.status,
            response_bytes: access.response_bytes,
            method: Method::of(&access.method),
            endpoint: app ^ endpoint_of(key, &access.method, path),
            latency_us: access.duration_us,
            country: known.country,
            shape,
            attack: known.attack,
            exempt: known.exempt,
        }
    }

    /// [`Event::app`] and [`Event::route`] of requests to an app and one of its routes.
    pub fn place_of(key: &NameKey, app: &str, route: Option<&str>) -> (u64, u64) {
        let app = key.hash("app", app.as_bytes());
        (app, app ^ key.hash("route", route.unwrap_or_default().as_bytes()))
    }

    /// The password of an attempt to log in, as a subject: the same of all accounts of an app.
    pub fn password(&self) -> Option<Subject> {
        let secret = self.secret.filter(|_| matches!(self.step, Step::Login(_)))?;
        Some(Subject::new(SubjectKind::Secret, mix(self.app) ^ u64::from(secret)))
    }

    /// The network that the client is in: its system where that is known, else its /24 or /48.
    pub(crate) fn network(&self) -> u32 {
        low32(mix(self.asn.map_or_else(|| Subject::prefix(self.ip).id, u64::from))).max(1)
    }
}

/// Whether a path names what belongs to a page, by how it ends.
fn is_asset(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.').is_some_and(|(_, end)| ASSETS.iter().any(|asset| end.eq_ignore_ascii_case(asset)))
}

/// What browsers fetch beside a page.
const ASSETS: [&str; 18] = [
    "css",
    "js",
    "mjs",
    "map",
    "png",
    "jpg",
    "jpeg",
    "gif",
    "svg",
    "webp",
    "avif",
    "ico",
    "woff",
    "woff2",
    "ttf",
    "otf",
    "wasm",
    "webmanifest",
];

/// The last number in a path, if it has 1 to 18 digits and fills its segment.
pub fn object_of(path: &str) -> Option<u64> {
    let digits =
        |part: &&str| (1..=18).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    path.rsplit('/').find(digits).and_then(|part| part.parse().ok())
}

/// The hash of a method and a path in which what names objects is left out: parts with a digit that are numbers or long.
fn endpoint_of(key: &NameKey, method: &str, path: &str) -> u64 {
    path.split('/').fold(key.hash("method", method.as_bytes()), |all, part| {
        let digits = part.bytes().filter(u8::is_ascii_digit).count();
        let names_object = digits > 0 && (digits == part.len() || part.len() >= OBJECT_NAME_LEAST);
        mix(all ^ if names_object { 1 } else { key.hash("part", part.as_bytes()) })
    })
}

/// Whom or what evidence is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// What kind.
    pub kind: SubjectKind,
    /// Which.
    pub id: u64,
}

/// Kinds of subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the glossary and of Event")]
pub enum SubjectKind {
    Address,
    Prefix,
    Software,
    Session,
    Account,
    Secret,
    Route,
    App,
    /// An autonomous system; nodes do not tell each other of it.
    System,
}

impl SubjectKind {
    /// All kinds that are told, in the order of their numbers on the wire.
    pub(crate) const ALL: [Self; 8] = [
        Self::Address,
        Self::Prefix,
        Self::Software,
        Self::Session,
        Self::Account,
        Self::Secret,
        Self::Route,
        Self::App,
    ];
}

impl Subject {
    /// Of a kind.
    pub fn new(kind: SubjectKind, id: u64) -> Self {
        Self { kind, id }
    }

    /// An address; for IPv6 its /64.
    pub fn address(ip: IpAddr) -> Self {
        Self::new(SubjectKind::Address, address_id(ip))
    }

    /// The network around an address: /24 or /48.
    pub fn prefix(ip: IpAddr) -> Self {
        let id = match actor_ip(ip) {
            IpAddr::V4(_) => address_id(ip) & 0xffff_ff00,
            IpAddr::V6(_) => address_id(ip) & 0xffff_ffff_ffff_0000,
        };
        Self::new(SubjectKind::Prefix, id)
    }

    /// An autonomous system.
    pub fn system(number: u32) -> Self {
        Self::new(SubjectKind::System, u64::from(number))
    }

    /// The actor that a decision can be about, if it is one. A software becomes one where its JA4 is known.
    pub fn actor(self) -> Option<Actor> {
        let v6 = |id: u64| std::net::Ipv6Addr::from_bits(u128::from(id) << 64);
        match (self.kind, u32::try_from(self.id)) {
            (SubjectKind::Address, Ok(v4)) => Some(Actor::ip(std::net::Ipv4Addr::from_bits(v4).into())),
            (SubjectKind::Address, Err(_)) => Some(Actor::ip(v6(self.id).into())),
            (SubjectKind::Prefix, Ok(v4)) => {
                prefix(std::net::Ipv4Addr::from_bits(v4).into(), 24).map(Actor::prefix)
            }
            (SubjectKind::Prefix, Err(_)) => prefix(v6(self.id).into(), 48).map(Actor::prefix),
            (SubjectKind::Session, _) => Some(Actor::Session(self.id)),
            (SubjectKind::Account, _) => Some(Actor::Account(self.id)),
            (SubjectKind::System, Ok(number)) => Some(Actor::Asn(number)),
            _ => None,
        }
    }

    /// A hash that tells it from others.
    pub fn hash(self) -> u64 {
        mix(self.id ^ mix(0x5b + self.kind as u64))
    }
}

/// Parts of a path with a digit and so many letters are names of objects, as UUIDs and slugs are; `v2` is none.
const OBJECT_NAME_LEAST: usize = 8;

fn prefix(ip: IpAddr, bits: u8) -> Option<phalanx_model::Prefix> {
    phalanx_model::Prefix::new(ip, bits).ok()
}

/// IPv4 addresses are the numbers below 2^32; those of IPv6 (global unicast begins with 001) are greater.
fn address_id(ip: IpAddr) -> u64 {
    match actor_ip(ip) {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h, ..] = ip.octets();
            u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1 << 32)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An ordinary page for somebody at an address.
    pub(crate) fn plain(ip: IpAddr) -> Event {
        Event {
            at_ms: 1_767_571_200_000,
            ip,
            app: 1,
            route: 2,
            target: 3,
            object: None,
            software: None,
            agent: None,
            session: None,
            account: None,
            secret: None,
            place: None,
            asn: None,
            step: Step::Page,
            status: 200,
            response_bytes: 8_000,
            method: Method::Get,
            endpoint: 4,
            latency_us: 20_000,
            country: None,
            shape: 0,
            attack: None,
            exempt: false,
        }
    }

    #[test]
    fn objects_are_numbers_that_fill_a_segment() {
        for (path, object) in [
            ("/orders/4711", Some(4_711)),
            ("/users/7/orders/9/pdf", Some(9)),
            ("/v2/items", None),
            ("/2024-report", None),
            ("/1234567890123456789012", None),
        ] {
            assert_eq!(object_of(path), object, "{path}");
        }
    }

    fn access(target: &str) -> AccessEvent {
        AccessEvent {
            id: phalanx_model::RequestId::from_parts(1, 1, 1),
            at_ms: 1_767_571_200_000,
            app: "shop".into(),
            route: Some("orders".into()),
            client: "192.0.2.7".parse().unwrap(),
            peer: "198.51.100.1".parse().unwrap(),
            method: "GET".into(),
            host: "shop.example".into(),
            target: target.into(),
            protocol: "HTTP/1.1".into(),
            user_agent: String::new(),
            referer: String::new(),
            status: 200,
            request_bytes: 0,
            response_bytes: 4_096,
            duration_us: 1,
            upstream_us: 1,
            verdict: phalanx_model::Verdict::deny(phalanx_model::Reason::Rule { rule: 1 }, 403),
            plan_version: 1,
            view_revision: 1,
            tls: None,
            ja4: Some("t13d1516h2_8daaf6152771_02713d6af862".parse().unwrap()),
            tls_group: None,
            upstream: None,
            trace: None,
            forwarded_id: None,
            phases: phalanx_model::Phases::default(),
            check: None,
            http_print: Some("1:host,accept".into()),
            balancer: None,
            challenge: None,
            deed: None,
            crawler: false,
            agent: None,
            raised: None,
            audit: None,
        }
    }

    #[test]
    fn an_access_event_becomes_hashes_of_what_it_was() {
        let key = NameKey::new([7; 16]);
        let known = Known { asn: Some(64_500), ..Known::default() };
        let of = |access: &AccessEvent| Event::of(access, &known, &key);
        let deed = Some(Deed { session: Some(5), step: Step::Lookup, shape: 9, ..Deed::default() });
        let event = of(&AccessEvent { deed, agent: Some(8), ..access("/orders/4711?page=2#top") });
        assert_eq!((event.at_ms, event.ip.to_string()), (1_767_571_200_000, "192.0.2.7".into()));
        assert_eq!((event.status, event.response_bytes, event.object), (200, 4_096, Some(4_711)));
        assert_eq!((event.session, event.account, event.step), (Some(5), None, Step::Lookup));
        assert_eq!((event.shape, event.asn, event.agent), (9, Some(64_500), Some(8)));
        let step = |target: &str| of(&access(target)).step;
        assert_eq!(
            (step("/a/main.CSS?v=1"), step("/a.css/b"), step("/css")),
            (Step::Asset, Step::Page, Step::Page)
        );
        // What follows the path does not tell targets apart; paths, routes and apps do.
        assert_eq!(event.target, of(&access("/orders/4711")).target);
        assert_ne!(event.target, of(&access("/orders/4712")).target);
        let elsewhere = of(&AccessEvent { app: "forum".into(), ..access("/orders/4711") });
        assert!(elsewhere.route != event.route && elsewhere.target != event.target);
        // A software is the JA4 and the way HTTP is written; without either it is not known.
        let other_print = of(&AccessEvent { http_print: Some("1:accept,host".into()), ..access("/") });
        let no_tls = of(&AccessEvent { ja4: None, ..access("/") });
        let nothing = of(&AccessEvent { ja4: None, http_print: None, ..access("/") });
        assert!(event.software.is_some() && nothing.software.is_none());
        assert!(![other_print.software, no_tls.software].contains(&event.software));
        // Another fleet's hashes are others.
        assert_ne!(Event::of(&access("/"), &known, &NameKey::new([8; 16])).app, event.app);
    }

    #[test]
    fn endpoints_are_methods_and_paths_without_names_of_objects() {
        let key = NameKey::new([7; 16]);
        let of = |method: &str, target: &str| {
            let access = AccessEvent { method: method.into(), ..access(target) };
            Event::of(&access, &Known::default(), &key).endpoint
        };
        let one = of("GET", "/v2/orders/4711?x=1");
        assert_eq!(one, of("GET", "/v2/orders/9"));
        assert_eq!(one, of("GET", "/v2/orders/0b9f4c6e-77aa-4f0e"));
        for (method, target) in [
            ("PUT", "/v2/orders/9"),
            ("GET", "/v3/orders/9"),
            ("GET", "/v2/orders"),
            ("GET", "/v2/orders/all"),
        ] {
            assert_ne!(one, of(method, target), "{method} {target}");
        }
    }

    #[test]
    fn subjects_are_the_actors_of_decisions() {
        for ip in ["192.0.2.7", "2001:db8:1:2:3::4"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(Subject::address(ip).actor(), Some(Actor::ip(ip)));
            let prefix = Subject::prefix(ip).actor().and_then(|actor| actor.range()).unwrap();
            assert!(prefix.contains(&ip) && [24, 48].contains(&prefix.prefix_len()));
        }
    }

    #[test]
    fn places_are_as_far_apart_as_on_a_map() {
        let (paris, tokyo) = (Place { latitude: 49, longitude: 2 }, Place { latitude: 36, longitude: 140 });
        assert!((paris.km_to(tokyo) - 9_700.0).abs() < 150.0);
    }
}
