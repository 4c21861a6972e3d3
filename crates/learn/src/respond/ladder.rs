//! Countermeasures, whom they can be about, and which come first for which detector.

use std::fmt;

use phalanx_model::{Actor, DecisionKind, Ja4};

use crate::detect::Detector;

/// A countermeasure, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Only look.
    Observe,
    /// Let the app's rules look closer.
    RaiseParanoia,
    /// Slow it down.
    Throttle,
    /// Ask for a proof first.
    Challenge,
    /// Refuse it.
    Ban,
    /// Refuse all that looks like it.
    BlockSignature,
    /// Refuse a route to all who are not known to be good.
    LockRoute,
}

impl Measure {
    /// How much of an honest visitor's request it costs, per cent: an estimate. Who is asked for a proof loses a moment, and some lose patience.
    pub fn pain_percent(self) -> u64 {
        match self {
            Self::Observe => 0,
            Self::RaiseParanoia => 1,
            Self::Challenge => 10,
            Self::Throttle => 20,
            Self::Ban | Self::BlockSignature | Self::LockRoute => 100,
        }
    }

    /// Whether it turns honest visitors away who are hit.
    pub fn refuses(self) -> bool {
        self >= Self::Ban
    }

    /// In playbooks and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::RaiseParanoia => "raise-paranoia",
            Self::Throttle => "throttle",
            Self::Challenge => "challenge",
            Self::Ban => "ban",
            Self::BlockSignature => "block-signature",
            Self::LockRoute => "lock-route",
        }
    }

    /// All of them, mildest first.
    pub const ALL: [Self; 7] = [
        Self::Observe,
        Self::RaiseParanoia,
        Self::Throttle,
        Self::Challenge,
        Self::Ban,
        Self::BlockSignature,
        Self::LockRoute,
    ];
}

/// How many a countermeasure is about, narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of Target and of the glossary")]
pub enum Scope {
    Session,
    Account,
    Client,
    Address,
    Prefix,
    Software,
    Route,
    App,
}

impl Scope {
    /// In playbooks and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Account => "account",
            Self::Client => "client",
            Self::Address => "address",
            Self::Prefix => "prefix",
            Self::Software => "software",
            Self::Route => "route",
            Self::App => "app",
        }
    }

    /// All of them, narrowest first.
    pub const ALL: [Self; 8] = [
        Self::Session,
        Self::Account,
        Self::Client,
        Self::Address,
        Self::Prefix,
        Self::Software,
        Self::Route,
        Self::App,
    ];
}

/// Whom or what a countermeasure is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Whom a decision can be about.
    Actor(Actor),
    /// All clients of one kind.
    Software {
        /// Its hash; see [`crate::Event::software`].
        id: u64,
        /// Its TLS fingerprint, where it is known. It covers more than the software.
        ja4: Option<Ja4>,
    },
    /// A route of an app; see [`Actor::Route`].
    Route(u64),
    /// An app; see [`Actor::App`].
    App(u64),
}

impl Target {
    /// How many it is about.
    pub fn scope(&self) -> Scope {
        match self {
            Self::Actor(Actor::Session(_)) => Scope::Session,
            Self::Actor(Actor::Account(_)) => Scope::Account,
            Self::Actor(Actor::Client { .. }) => Scope::Client,
            Self::Actor(Actor::Ip(_)) => Scope::Address,
            // A system is a network as well: it is met only where nobody good comes from it.
            Self::Actor(Actor::Prefix(_) | Actor::Asn(_)) => Scope::Prefix,
            // A country is no answer to an incident; as wide as it is, no ladder reaches it.
            Self::Actor(Actor::Country(_) | Actor::App(_) | Actor::Rules(_)) | Self::App(_) => Scope::App,
            Self::Actor(Actor::Ja4(_) | Actor::Software(_)) | Self::Software { .. } => Scope::Software,
            Self::Actor(Actor::Route(_)) | Self::Route(_) => Scope::Route,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Actor(Actor::Client { ip, agent }) => write!(f, "client {agent:016x} at {ip}"),
            Self::Actor(actor) => write!(f, "{}", actor.key()),
            Self::Software { ja4: Some(ja4), .. } => write!(f, "software with ja4 {ja4}"),
            Self::Software { id, ja4: None } => write!(f, "software {id:016x}"),
            Self::Route(id) => write!(f, "route {id:016x}"),
            Self::App(id) => write!(f, "app {id:016x}"),
        }
    }
}

/// Who can carry an order out today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// A node, by a decision in its own name.
    ByNode(DecisionKind, Actor),
    /// Each node for itself, and for all of them one that holds an operator's key: what it is about is more than one subscriber, about which a node
    /// alone may not order others.
    ByOperator(DecisionKind, Actor),
    /// Nobody: there is no means. The order stands in the incident, for a person.
    NotYet(&'static str),
}

/// Who can carry `measure` about `target` out.
pub fn carried(measure: Measure, target: &Target) -> Carried {
    let kind = match measure {
        Measure::Observe => return Carried::NotYet("nothing is to be done"),
        Measure::RaiseParanoia => {
            return match target {
                Target::App(id) => Carried::ByOperator(DecisionKind::RaiseParanoia, Actor::Rules(*id)),
                _ => Carried::NotYet("paranoia is raised of whole apps only"),
            };
        }
        Measure::Throttle => DecisionKind::Throttle,
        Measure::Challenge => DecisionKind::Challenge,
        Measure::Ban | Measure::BlockSignature | Measure::LockRoute => DecisionKind::Ban,
    };
    match target {
        Target::Actor(
            actor @ (Actor::Session(_) | Actor::Account(_) | Actor::Client { .. } | Actor::Ip(_)),
        ) => Carried::ByNode(kind, actor.clone()),
        Target::Actor(actor) => Carried::ByOperator(kind, actor.clone()),
        Target::Software { id, .. } => Carried::ByOperator(kind, Actor::Software(*id)),
        Target::Route(id) => Carried::ByOperator(kind, Actor::Route(*id)),
        Target::App(id) => Carried::ByOperator(kind, Actor::App(*id)),
    }
}

/// The countermeasures against what a detector finds, in the order in which they are tried. Of each suspect those apply for which it has a target.
pub fn ladder(detector: Detector) -> &'static [(Measure, Scope)] {
    use Measure::{Ban, BlockSignature, Challenge, LockRoute, RaiseParanoia, Throttle};
    use Scope as S;
    match detector {
        // Tools fail at a proof, and whoever mistyped a password passes it.
        Detector::Stuffing | Detector::Spraying | Detector::Enumeration | Detector::Carding => &[
            (Challenge, S::Session),
            (Challenge, S::Client),
            (Challenge, S::Address),
            (Challenge, S::Software),
            (Ban, S::Session),
            (Ban, S::Client),
            (Ban, S::Address),
            (Challenge, S::Prefix),
            (BlockSignature, S::Software),
            (Ban, S::Prefix),
            (Challenge, S::Route),
            (LockRoute, S::Route),
        ],
        Detector::Scraping => &[
            (Throttle, S::Session),
            (Throttle, S::Client),
            (Challenge, S::Session),
            (Challenge, S::Client),
            (Challenge, S::Address),
            (Challenge, S::Software),
            (Ban, S::Client),
            (Ban, S::Address),
            (BlockSignature, S::Software),
            (Challenge, S::Prefix),
        ],
        Detector::Scanning | Detector::Exploiting => &[
            (Challenge, S::Client),
            (Challenge, S::Address),
            (Challenge, S::Software),
            (Ban, S::Session),
            (Ban, S::Client),
            (Ban, S::Address),
            (BlockSignature, S::Software),
            (Challenge, S::Prefix),
            (Ban, S::Prefix),
            // Where nothing narrower is in common: it refuses attacks, whoever sends them, and now and then a visitor's words.
            (RaiseParanoia, S::App),
        ],
        // People travel through tunnels: an account that does is asked, and what it means is for a person to say.
        Detector::ImpossibleTravel => {
            &[(Challenge, S::Session), (Challenge, S::Account), (Challenge, S::Client)]
        }
        // Who took over a session or an account has it; nobody else is to notice.
        Detector::ObjectWalk | Detector::SessionTheft => &[
            (Challenge, S::Session),
            (Challenge, S::Account),
            (Challenge, S::Client),
            (Challenge, S::Address),
            (Ban, S::Session),
            (Ban, S::Account),
            (Ban, S::Client),
            (Ban, S::Address),
            (Challenge, S::Prefix),
        ],
        Detector::Flood => &[
            (Challenge, S::Client),
            (Challenge, S::Address),
            (Challenge, S::Software),
            (Ban, S::Client),
            (Ban, S::Address),
            (BlockSignature, S::Software),
            (Challenge, S::Route),
            (LockRoute, S::Route),
        ],
        Detector::Exfiltration => &[
            (Throttle, S::Session),
            (Throttle, S::Client),
            (Challenge, S::Client),
            (Challenge, S::Address),
            (Ban, S::Session),
            (Ban, S::Client),
            (Ban, S::Account),
            (Ban, S::Address),
            (Challenge, S::Prefix),
            (LockRoute, S::Route),
        ],
        // The server's own trouble: refusing visitors heals nothing.
        _ => &[],
    }
}
