//! Detectors: what evidence of which size makes a signal. All thresholds are settings with defaults that have their reasons here.

use phalanx_model::Confidence;

use crate::event::Subject;
use crate::link::Link;

/// A kind of attack, or of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "`Detector::says` tells what each is")]
pub enum Detector {
    Stuffing,
    Spraying,
    Enumeration,
    ObjectWalk,
    Scanning,
    Scraping,
    Carding,
    ImpossibleTravel,
    SessionTheft,
    Flood,
    Exfiltration,
    Exploiting,
    ErrorStorm,
    Outage,
    NewEndpoint,
    Unusual,
}

/// How far an attack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are ATT&CK's tactics; trouble is none of an attacker's")]
pub enum Stage {
    Trouble,
    Reconnaissance,
    CredentialAccess,
    InitialAccess,
    Collection,
    Exfiltration,
    Impact,
}

impl Detector {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Stuffing,
        Self::Spraying,
        Self::Enumeration,
        Self::ObjectWalk,
        Self::Scanning,
        Self::Scraping,
        Self::Carding,
        Self::ImpossibleTravel,
        Self::SessionTheft,
        Self::Flood,
        Self::Exfiltration,
        Self::Exploiting,
        Self::ErrorStorm,
        Self::Outage,
        Self::NewEndpoint,
        Self::Unusual,
    ];

    /// The detector of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|detector| detector.name() == name)
    }

    /// Its name in events, settings and commands.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// How far an attack is that does this.
    pub fn stage(self) -> Stage {
        self.row().1
    }

    /// The technique of MITRE ATT&CK; none for trouble.
    pub fn technique(self) -> Option<&'static str> {
        Some(self.row().2).filter(|id| !id.is_empty())
    }

    /// What it is, in plain words.
    pub fn says(self) -> &'static str {
        self.row().3
    }

    fn row(self) -> (&'static str, Stage, &'static str, &'static str) {
        use Stage as S;
        match self {
            Self::Stuffing => (
                "credential-stuffing",
                S::CredentialAccess,
                "T1110.004",
                "tries stolen passwords of many accounts",
            ),
            Self::Spraying => {
                ("password-spraying", S::CredentialAccess, "T1110.003", "tries one password on many accounts")
            }
            Self::Enumeration => {
                ("account-enumeration", S::Reconnaissance, "T1589.002", "asks which accounts exist")
            }
            Self::ObjectWalk => ("object-walk", S::Collection, "T1213", "counts through objects of others"),
            Self::Scanning => ("scanning", S::Reconnaissance, "T1595.003", "looks for what may be there"),
            Self::Scraping => ("scraping", S::Collection, "T1213", "takes page after page"),
            Self::Carding => ("carding", S::Impact, "T1657", "tries cards"),
            Self::ImpossibleTravel => (
                "impossible-travel",
                S::InitialAccess,
                "T1078",
                "is in two places farther apart than anybody travels",
            ),
            Self::SessionTheft => {
                ("session-theft", S::InitialAccess, "T1539", "goes on with other software in another network")
            }
            Self::Flood => (
                "flood",
                S::Impact,
                "T1499.002",
                "one kind of software asks far more than ever, from many addresses",
            ),
            Self::Exfiltration => {
                ("exfiltration", S::Exfiltration, "T1020", "gets answers far larger than others get")
            }
            Self::Exploiting => {
                ("exploit-attempts", S::InitialAccess, "T1190", "was refused with one attack after another")
            }
            Self::ErrorStorm => ("error-storm", S::Trouble, "", "few clients make the server fail"),
            Self::Outage => ("outage", S::Trouble, "", "the server fails for everybody"),
            Self::NewEndpoint => {
                ("new-endpoint", S::Reconnaissance, "T1595", "uses a method or path that nobody used before")
            }
            Self::Unusual => ("unusual-traffic", S::Trouble, "", "goes far from what is usual"),
        }
    }
}

/// A finding about an actor, made of what several requests did; a rule's finding about one request is `phalanx_model::Signal`.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// By which detector.
    pub detector: Detector,
    /// About whom or what.
    pub subject: Subject,
    /// How sure it is.
    pub confidence: Confidence,
    /// Whether it may be acted on: it holds without what any one other node alone claims.
    pub decisive: bool,
    /// Why, in plain words.
    pub reason: String,
    /// Events that it is made of.
    pub events: u64,
    /// The nodes that saw them, by the numbers of whoever runs the learner; its own is [`Signal::OWN`].
    pub nodes: Vec<u16>,
    /// What it has in common with others.
    pub links: Vec<Link>,
}

impl Signal {
    /// The node itself, among the nodes.
    pub const OWN: u16 = crate::evidence::OWN;
}

/// How much of what, in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// In so many seconds, at most ten minutes.
    pub window_s: u32,
    /// At least so many events,
    pub events: u64,
    /// about at least so many different things.
    pub different: u64,
}

impl Threshold {
    /// So many times as much, of as many times as many things.
    pub(crate) fn times(self, times: u64) -> Self {
        let of = |number: u64| number.saturating_mul(times);
        Self { events: of(self.events), different: of(self.different).min(DIFFERENT_MAX), ..self }
    }
}

/// Different things are counted exactly up to this, so no crowd asks for more.
const DIFFERENT_MAX: u64 = 64;

/// The detectors' settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detectors {
    /// Failed logins and accounts of one kind of software, address or network. People mistype their own password, some times, and then get in;
    /// ten failures for eight accounts in a minute, of which hardly one gets in, are no person.
    pub stuffing: Threshold,
    /// The same of software that hardly anybody has, for who takes his time: five failures a minute for ten minutes, each for another account. Who makes four at
    /// each node is found by what nodes see together, and by no node alone.
    pub stuffing_slow: Threshold,
    /// Failures among a subject's logins, per cent.
    pub stuffing_failed_percent: u64,
    /// Failed logins with one and the same password. Popular passwords are mistyped by honest users too, a few in an hour.
    pub spraying: Threshold,
    /// The same where it goes fast: with half as many in a minute it is less sure, and found in seconds.
    pub spraying_fast: Threshold,
    /// The part of all failed logins that one password has at least, per cent: the most popular ones have two or three.
    pub spraying_percent: u64,
    /// Questions whether accounts exist. Who forgot which address they registered tries three.
    pub enumeration: Threshold,
    /// The same where it goes fast.
    pub enumeration_fast: Threshold,
    /// Steps from one object to its neighbour, or to one that is refused, in one session. One's own objects are not neighbours.
    pub walk: Threshold,
    /// The same where it goes fast: who looks at six neighbours of a thing in a minute, on a route where hardly anybody does, is less
    /// surely a thief, and asked to prove that there is a person.
    pub walk_fast: Threshold,
    /// Pages that do not exist. A broken link is one page, often; a scan is many.
    pub scanning: Threshold,
    /// The same for those that take their time.
    pub scanning_slow: Threshold,
    /// The part of a subject's pages that are missing at least, per cent: a crawler with an old list still finds most.
    pub scanning_percent: u64,
    /// Different pages without a session. A reader opens one in some seconds.
    pub scraping: Threshold,
    /// The same where software that was never seen before does it, a page a second: it is found in half the pages.
    pub scraping_fast: Threshold,
    /// The part of the requests of one kind of software that are pages without a session, per cent: browsers load what belongs to pages and
    /// keep sessions.
    pub scraping_percent: u64,
    /// Refused payments and cards. A customer has two or three cards.
    pub carding: Threshold,
    /// Attacks that rules refused with high confidence.
    pub exploiting: Threshold,
    /// Speed beyond which nobody travels, in km/h; an airliner makes 900.
    pub travel_kmh: u32,
    /// Distances below this are errors of databases, in km.
    pub travel_km: u32,
    /// Time in which a session does not change both software and network, in seconds.
    pub theft_s: u32,
    /// Requests of one kind of software in ten seconds from which it can be a flood: set it to what the app can serve.
    pub flood_requests: u64,
    /// Addresses of a flood.
    pub flood_addresses: u64,
    /// How many times its usual share of the app's requests a flood's software has.
    pub flood_times: u64,
    /// KiB beyond four times the size that 99 % of a route's answers keep below, in ten minutes.
    pub exfiltration_kib: u64,
    /// Failed answers of a route in a minute, if it is few clients'.
    pub storm_errors: u64,
    /// Failed answers in a minute, of a route if it is most clients', or of one client,
    pub outage_errors: u64,
    /// and their share, per cent.
    pub storm_percent: u64,
    /// So many sessions of people who logged in from one address let it do as much again as one.
    pub crowd: u64,
    /// What one other node's word counts of a threshold, per cent. Below 50, so that no two others alone reach one.
    pub peer_percent: u64,
}

impl Default for Detectors {
    fn default() -> Self {
        let threshold = |window_s, events, different| Threshold { window_s, events, different };
        Self {
            stuffing: threshold(60, 10, 8),
            stuffing_slow: threshold(600, 48, 40),
            stuffing_failed_percent: 75,
            spraying: threshold(600, 12, 10),
            spraying_fast: threshold(60, 6, 6),
            spraying_percent: 6,
            enumeration: threshold(300, 20, 18),
            enumeration_fast: threshold(60, 8, 8),
            walk: threshold(300, 20, 20),
            walk_fast: threshold(60, 6, 6),
            scanning: threshold(60, 20, 18),
            scanning_slow: threshold(600, 60, 50),
            scanning_percent: 50,
            scraping: threshold(600, 300, 240),
            scraping_fast: threshold(60, 60, 50),
            scraping_percent: 80,
            carding: threshold(600, 8, 6),
            exploiting: threshold(60, 5, 1),
            travel_kmh: 1_000,
            travel_km: 500,
            theft_s: 3_600,
            flood_requests: 2_000,
            flood_addresses: 30,
            flood_times: 3,
            exfiltration_kib: 64 * 1_024,
            storm_errors: 30,
            outage_errors: 12,
            storm_percent: 30,
            crowd: 8,
            peer_percent: 40,
        }
    }
}
