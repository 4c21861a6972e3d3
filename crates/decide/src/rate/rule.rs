//! One rate limit, compiled: which requests it is about, and under which key it counts them.

use std::fmt::Write;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use phalanx_model::net::actor_ip;
use phalanx_model::{RateExcess, RequestHead};
use siphasher::sip::SipHasher13;

use super::table::Excess;
use super::{Pace, RateTable, path};

/// A rate limit of one app.
#[derive(Debug, Clone)]
pub struct RateRule {
    /// Its name.
    pub name: Arc<str>,
    /// What it admits, in words.
    pub rate: Arc<str>,
    /// What it admits.
    pub pace: Pace,
    /// Who counts together.
    pub scope: RateScope,
    /// It refuses nothing and is recorded only.
    pub observes: bool,
    /// What clients are told of it; `None` if nothing.
    pub quota: Option<Quota>,
    /// What it did; a plan that replaces another goes on counting.
    pub counts: Arc<RateCounts>,
    key: Box<[RateKeyPart]>,
    paths: Box<[Box<str>]>,
    methods: Box<[Box<str>]>,
    id: u64,
}

/// Who counts together under a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateScope {
    /// This node alone.
    Node,
    /// The nodes of the fleet.
    Fleet {
        /// What one of them may admit by itself, in per cent; `None` for its even part.
        share_percent: Option<u8>,
    },
}

/// A part of what is counted apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateKeyPart {
    /// The client's address; for IPv6 its /64.
    Ip,
    /// The first value of a header field. Requests without it are not counted.
    Header(Box<str>),
    /// The first value of a cookie. Requests without it are not counted.
    Cookie(Box<str>),
    /// The method.
    Method,
    /// Which path of the rule matched.
    Path,
}

/// A limit as clients are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many requests.
    pub requests: u32,
    /// In how many seconds.
    pub window_s: u32,
}

/// What a limit did since the node started.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names say it; metrics documents them")]
pub struct RateCounts {
    pub admitted: AtomicU64,
    pub refused: AtomicU64,
    pub observed: AtomicU64,
}

/// A request, as limits look at it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The client's address, after trusted forwarders.
    pub client: IpAddr,
    /// The head.
    pub head: &'a RequestHead,
    /// The path, as [`path::normalise`] writes it with either kind of separators: a rule is about what one of them matches.
    pub paths: [&'a [u8]; 2],
}

impl RateRule {
    /// A rule of the app `app`: about all requests, with one count for all of them.
    pub fn new(app: &str, name: &str, pace: Pace) -> Self {
        // Not secret, and the same on every node: it says which limit a count is of.
        let mut hasher = SipHasher13::new();
        part(&mut hasher, app.as_bytes());
        part(&mut hasher, name.as_bytes());
        Self {
            name: name.into(),
            rate: "".into(),
            pace,
            scope: RateScope::Node,
            observes: false,
            quota: None,
            counts: Arc::default(),
            key: Box::default(),
            paths: Box::default(),
            methods: Box::default(),
            id: hasher.finish(),
        }
    }

    /// The rule about these paths and methods only; none means all.
    #[must_use]
    pub fn about<'a>(
        mut self,
        paths: impl IntoIterator<Item = &'a str>,
        methods: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        self.paths = paths.into_iter().map(Into::into).collect();
        self.methods = methods.into_iter().map(Into::into).collect();
        self
    }

    /// The rule with a count for each value of these parts.
    #[must_use]
    pub fn by(mut self, key: impl IntoIterator<Item = RateKeyPart>) -> Self {
        self.key = key.into_iter().collect();
        self
    }

    /// The same limit with counts of its own, for who only tries it.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { counts: Arc::default(), ..self.clone() }
    }

    /// The mark of its counts among nodes.
    pub fn tag(&self) -> u32 {
        u32::try_from(self.id & 0xffff_ffff).unwrap_or_default()
    }

    /// Whether paths must be known to judge by it.
    pub fn looks_at_paths(&self) -> bool {
        !self.paths.is_empty()
    }

    /// The key under which a request counts; `None` if the rule is not about it.
    pub(super) fn key(&self, table: &RateTable, asked: &Asked<'_>) -> Option<u64> {
        let method = asked.head.method();
        if !self.methods.is_empty() && !self.methods.iter().any(|one| one.as_bytes() == method) {
            return None;
        }
        let pattern = self.pattern(asked)?;
        let mut hasher = table.hasher();
        hasher.write_u64(self.id);
        for one in &self.key {
            match one {
                RateKeyPart::Ip => hasher.write_u128(address(asked.client)),
                RateKeyPart::Header(name) => part(&mut hasher, asked.head.header(name)?),
                RateKeyPart::Cookie(name) => part(&mut hasher, cookie(asked.head, name)?),
                RateKeyPart::Method => part(&mut hasher, method),
                RateKeyPart::Path => part(&mut hasher, pattern.as_bytes()),
            }
        }
        Some(hasher.finish())
    }

    /// The path of the rule that matches; an empty one where all paths do.
    fn pattern(&self, asked: &Asked<'_>) -> Option<&str> {
        if self.paths.is_empty() {
            return Some("");
        }
        let matches = |pattern: &str| asked.paths.iter().any(|path| path::matches(pattern.as_bytes(), path));
        self.paths.iter().find(|pattern| matches(pattern)).map(|found| &**found)
    }

    /// An excess in words for people. Values of headers and cookies may be secrets and stand as a hash.
    pub(super) fn excess(&self, asked: &Asked<'_>, key: u64, excess: Excess) -> RateExcess {
        let mut words = String::new();
        for one in &self.key {
            let gap = if words.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = match one {
                RateKeyPart::Ip => write!(words, "{gap}ip {}", phalanx_model::Actor::ip(asked.client)),
                RateKeyPart::Header(name) => write!(words, "{gap}header {name} #{:08x}", key >> 32),
                RateKeyPart::Cookie(name) => write!(words, "{gap}cookie {name} #{:08x}", key >> 32),
                RateKeyPart::Method => {
                    let method = asked.head.method();
                    let shown = method.get(..METHOD_BYTES_SHOWN).unwrap_or(method);
                    write!(words, "{gap}method {}", String::from_utf8_lossy(shown))
                }
                RateKeyPart::Path => write!(words, "{gap}path {}", self.pattern(asked).unwrap_or_default()),
            };
        }
        if words.is_empty() {
            words.push_str("all requests");
        }
        RateExcess {
            limit: Arc::clone(&self.name),
            rate: Arc::clone(&self.rate),
            key: words,
            here: excess.here,
            elsewhere: excess.elsewhere,
            over: excess.over,
            retry_after_s: u32::try_from(excess.wait_ns.div_ceil(1_000_000_000)).unwrap_or(u32::MAX).max(1),
        }
    }
}

/// An address in the form in which it is one actor.
fn address(ip: IpAddr) -> u128 {
    match actor_ip(ip) {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The value of a cookie (RFC 6265 section 4.2.1). Servers differ in which of two they take: with different values all share one count,
/// so that a second one is no way to a fresh count.
fn cookie<'a>(head: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    let fields = head.headers().filter(|(field, _)| field.eq_ignore_ascii_case(b"cookie"));
    let mut values = fields.flat_map(|(_, value)| value.split(|&byte| byte == b';')).filter_map(|pair| {
        let pair = pair.trim_ascii();
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        let (found, value) = pair.split_at_checked(equals)?;
        (found == name.as_bytes()).then(|| value.get(1..).unwrap_or_default())
    });
    let first = values.next()?;
    Some(if values.all(|value| value == first) { first } else { AMBIGUOUS })
}

/// No cookie and no header has such a value: they hold no control bytes.
const AMBIGUOUS: &[u8] = b"\0";

/// Hashes bytes with their length, so that two parts never read as two others.
fn part(hasher: &mut SipHasher13, bytes: &[u8]) {
    hasher.write_u64(bytes.len() as u64);
    hasher.write(bytes);
}

const METHOD_BYTES_SHOWN: usize = 32;
