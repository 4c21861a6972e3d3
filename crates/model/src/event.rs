//! One thing that happened, in the form in which it is kept.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Actor, AuditDetail, Author, Blocklist, CheckKind, Decision, DecisionId, Deed, FramingFault, GoodShare,
    Ja4, Recall, RequestId, Signal, Trace, Verdict, Withdrawal,
};

/// One request and what became of it. Secrets are never in it: query values of secret fields are masked before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AccessEvent {
    /// The request's id.
    pub id: RequestId,
    /// When its first byte arrived, in Unix milliseconds.
    pub at_ms: u64,
    /// The app it was for.
    pub app: Arc<str>,
    /// The route of the app that it met, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Arc<str>>,
    /// The client's address, after trusted forwarders.
    pub client: IpAddr,
    /// The address at the other end of the connection.
    pub peer: IpAddr,
    /// The method; lossy UTF-8, from a stranger.
    pub method: String,
    /// The Host field; lossy UTF-8, from a stranger.
    pub host: String,
    /// The target with secret values masked; lossy UTF-8, from a stranger.
    pub target: String,
    /// The protocol version as written.
    pub protocol: String,
    /// The User-Agent; lossy UTF-8, from a stranger.
    pub user_agent: String,
    /// The Referer without its query; lossy UTF-8, from a stranger.
    pub referer: String,
    /// Status of the reply; 0 if none was sent.
    pub status: u16,
    /// Request body bytes read.
    pub request_bytes: u64,
    /// Response body bytes sent.
    pub response_bytes: u64,
    /// Time from the first byte of the head to the last of the reply, in microseconds.
    pub duration_us: u64,
    /// Time until the upstream's response head, in microseconds; 0 if it was not asked.
    pub upstream_us: u64,
    /// What was decided.
    pub verdict: Verdict,
    /// The plan it was decided under.
    pub plan_version: u64,
    /// The revision of the view it was decided under.
    pub view_revision: u64,
    /// The version of TLS that it came over; none over plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Arc<str>>,
    /// How the peer's TLS greeted, by which decisions may name it; see [`Actor::Ja4`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ja4: Option<Ja4>,
    /// How its keys were agreed on; none over plain HTTP, and where a session of TLS 1.2 was resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_group: Option<Cow<'static, str>>,
    /// The upstream that was asked last; none if no upstream was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Arc<str>>,
    /// The trace that it belongs to, where it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// The id that a trusted forwarder gave it; lossy UTF-8. What strangers call it is nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded_id: Option<String>,
    /// Where its time went.
    #[serde(default)]
    pub phases: Phases,
    /// How another proxy asked about it; none for a request that came here itself. The peer is that proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckKind>,
    /// How the client writes HTTP: order and case of its fields, or how it begins HTTP/2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_print: Option<Arc<str>>,
    /// The balancer that passed the connection on with a PROXY header; the peer is the one that it named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balancer: Option<IpAddr>,
    /// What it had to do with a challenge, if with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<ChallengeStep>,
    /// Whose it was and what it tried; none where nothing of that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deed: Option<Deed>,
    /// Whether its client is a crawler that was verified.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub crawler: bool,
    /// By what decisions name the kind of client that it is; see [`Actor::Client`]. Stays in memory: who reads events has the fields that it is made of.
    #[serde(skip)]
    pub agent: Option<u64>,
    /// The order under which stricter rules than usual looked at it; none where the usual ones did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raised: Option<Raised>,
    /// What the audit log shows beyond this, where the node has one and the request is for it. Stays in memory.
    #[serde(skip)]
    pub audit: Option<Box<AuditDetail>>,
}

/// That the paranoia of an app's rules was raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Raised {
    /// To this level.
    pub level: u8,
    /// By this decision.
    pub decision: DecisionId,
    /// Until when at most, in Unix milliseconds.
    pub until_ms: u64,
}

/// What a request had to do with a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChallengeStep {
    /// It was answered with one.
    Given,
    /// It answered one, with work.
    Solved,
    /// It answered one after waiting, as clients without scripts do.
    Waited,
    /// It answered one wrongly, too early or too late, or once more.
    Failed,
    /// It showed that its client has passed one.
    Passed,
    /// It is from a crawler that was verified, and such are not challenged.
    Spared,
    /// It showed a pass that is not its client's, is over, or was shown from too many networks; it was answered with a challenge.
    Refused,
}

impl ChallengeStep {
    /// All of them, in order.
    pub const ALL: [Self; 7] =
        [Self::Given, Self::Solved, Self::Waited, Self::Failed, Self::Passed, Self::Spared, Self::Refused];

    /// Its name, as in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Solved => "solved",
            Self::Waited => "waited",
            Self::Failed => "failed",
            Self::Passed => "passed",
            Self::Spared => "spared",
            Self::Refused => "refused",
        }
    }
}

/// Where a request's time went, in microseconds. Parts that it did not go through, or that took no time worth measuring, are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Phases {
    /// From the first byte of the head to its last.
    pub head_us: u64,
    /// In rules and parsers, over all phases of inspection.
    pub inspect_us: u64,
    /// Waiting for an upstream with room.
    pub queue_us: u64,
    /// Until a new connection to the upstream was there.
    pub connect_us: u64,
    /// From then until the head of its response, the request's body included.
    pub upstream_us: u64,
}

/// A high-confidence denial that counts against an actor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Strike {
    /// The request that struck.
    pub request: RequestId,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// Whom it counts against.
    pub actor: Actor,
    /// The strikes in the window, this one included.
    pub count: u32,
}

/// What a node itself concludes should be ordered about an actor. The fleet turns it into a signed [`Decision`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Proposal {
    /// Whom it is about.
    pub actor: Actor,
    /// What is proposed.
    pub kind: crate::DecisionKind,
    /// Why, in plain words.
    pub reason: String,
    /// The request that led to it.
    pub evidence: RequestId,
    /// How sure the node is, in per cent.
    pub confidence_percent: u8,
    /// When it was proposed, in Unix milliseconds.
    pub at_ms: u64,
    /// How long it should hold, in milliseconds.
    pub for_ms: u64,
}

/// What the security lane carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum SecurityEvent {
    /// A request that was refused or flagged, with its evidence.
    Request {
        /// The request.
        access: Box<AccessEvent>,
        /// Findings, at most [`crate::limits::SIGNALS_KEPT_MAX`].
        signals: Vec<Signal>,
        /// Framing faults, if any.
        faults: Vec<FramingFault>,
    },
    /// A strike.
    Strike(Strike),
    /// A proposal.
    Proposal(Proposal),
}

/// What a ledger entry records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "entry")]
pub enum LedgerKind {
    /// A decision came into force on this node.
    Decided {
        /// The decision.
        decision: Arc<Decision>,
    },
    /// A withdrawal came into force on this node.
    Withdrawn {
        /// The withdrawal.
        withdrawal: Arc<Withdrawal>,
    },
    /// Everything that an author had decided was ended by this node's operator.
    Recalled {
        /// The order.
        recall: Arc<Recall>,
    },
    /// A blocklist was imported or removed by this node's operator.
    Listed {
        /// The list, without its content.
        list: Arc<Blocklist>,
    },
    /// Something is held on this node for an operator, because it would refuse too many clients served well.
    Held {
        /// Whose.
        author: Author,
        /// What, in plain words; with decisions of one author, how many of them are held by now.
        what: String,
        /// What it would refuse, with all that is held of this author.
        share: GoodShare,
    },
    /// The policy in force changed.
    PolicyChanged {
        /// Version before.
        from: u64,
        /// Version after.
        to: u64,
        /// What was loaded.
        summary: String,
    },
    /// A policy was refused.
    PolicyRefused {
        /// Why.
        error: String,
    },
    /// An operator did something through the API.
    OperatorAction {
        /// What, with who did it at its end.
        action: String,
        /// Who; none in entries of earlier versions, and where it was nobody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// How short the node runs of memory, files or connections changed.
    Overload {
        /// `calm`, or what is refused since.
        level: String,
        /// What it has of each.
        usage: String,
    },
    /// The node started or stopped.
    Node {
        /// `started` or `stopped`.
        state: String,
    },
}

/// An entry that may never be lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LedgerEntry {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// What.
    pub kind: LedgerKind,
}

/// Anything that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "lane")]
pub enum Event {
    /// Of the access lane.
    Access(Box<AccessEvent>),
    /// Of the security lane.
    Security(SecurityEvent),
    /// Of the ledger lane.
    Ledger(LedgerEntry),
}
