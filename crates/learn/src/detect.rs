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
    pub const ALL: [Self; 14] = [
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

/// The detectors' settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detectors {
    /// Failed logins and accounts of one kind of software, address or network. People mistype their own password, some times, and then get in;
    /// ten failures for eight accounts in a minute, of which hardly one gets in, are no person.
    pub stuffing: Threshold,
    /// Failures among a subject's logins, per cent.
    pub stuffing_failed_percent: u64,
    /// Failed logins with one and the same password. Popular passwords are mistyped by honest users too, a few in an hour.
    pub spraying: Threshold,
    /// Questions whether accounts exist. Who forgot which address they registered tries three.
    pub enumeration: Threshold,
    /// Steps from one object to its neighbour, or to one that is refused, in one session. One's own objects are not neighbours.
    pub walk: Threshold,
    /// Pages that do not exist. A broken link is one page, often; a scan is many.
    pub scanning: Threshold,
    /// Different pages without a session. A reader opens one in some seconds.
    pub scraping: Threshold,
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
    /// Failed answers of a route in a minute,
    pub storm_errors: u64,
    /// and their share, per cent.
    pub storm_percent: u64,
    /// What one other node's word counts of a threshold, per cent. Below 50, so that no two others alone reach one.
    pub peer_percent: u64,
}

impl Default for Detectors {
    fn default() -> Self {
        let threshold = |window_s, events, different| Threshold { window_s, events, different };
        Self {
            stuffing: threshold(60, 10, 8),
            stuffing_failed_percent: 75,
            spraying: threshold(600, 12, 10),
            enumeration: threshold(300, 20, 18),
            walk: threshold(300, 20, 20),
            scanning: threshold(60, 20, 18),
            scraping: threshold(600, 300, 240),
            carding: threshold(600, 8, 6),
            exploiting: threshold(60, 5, 1),
            travel_kmh: 1_000,
            travel_km: 500,
            theft_s: 3_600,
            flood_requests: 2_000,
            flood_addresses: 30,
            flood_times: 3,
            exfiltration_kib: 64 * 1_024,
            storm_errors: 50,
            storm_percent: 30,
            peer_percent: 40,
        }
    }
}
