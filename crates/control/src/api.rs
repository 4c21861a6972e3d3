//! The shapes of the API's JSON. The OpenAPI document is generated from these types and those of `model` and `record`
//! that they hold. Fields are only ever added.

pub use following::{PolicyFollowState, PolicyFollower, PolicyFollowing};
pub use policy::{
    MemberPolicy, Policy, PolicyHome, PolicyNode, PolicyPush, PolicyRollback, PolicyTrial, PolicyVersion,
};
pub use policy_life::{
    ExclusionRow, ExclusionState, NewExclusion, NewPolicyChange, PolicyApproval, PolicyChange,
    PolicyChangeState, PolicyChecked, PolicyCompare, PolicyContent, PolicyDiffered, PolicyDifference,
    PolicyFiles, PolicyRejection, PolicyVersionRow,
};
pub use replay::{PolicyReplay, ReplayChange, ReplayExample, ReplayGroup, Replayed};

mod following;
mod policy;
mod policy_life;
mod replay;

use std::net::IpAddr;
use std::sync::Arc;

use phalanx_model::{Action, Reason, RequestId, RuleClass};
use phalanx_record::{PartReport, RecordedRequest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::copies::HistoryCopies;

mod bouncers;
mod delegation;
mod health;
mod held;
mod incidents;
mod load;
mod oidc;
mod operators;
mod playbooks;
mod problem;
mod process;
mod receivers;
mod reports;
mod selftest;
mod traffic;

pub use bouncers::{Bouncer, BouncerKey, Bouncers, Import, NewBouncer};
pub use delegation::{Delegate, Delegation, NewDelegation};
pub use health::{Health, Readiness};
pub use held::{Held, HeldThing, HeldWhat, Settled};
pub use incidents::{Affected, Finding, Incident, IncidentRow, Learning, Undone, Usual};
pub use load::{LimitCount, Load};
pub use oidc::{LoginProvider, ProviderLogin, ProviderRow};
pub use operators::{
    APP_BYTES_MAX, ApiTokenMade, ApiTokenRow, Me, NewApiToken, NewOperator, NewPasskey, NewPassword,
    OperatorEdit, OperatorInvited, OperatorRole, OperatorRow, PasskeyChallenge, PasskeyRow, PasskeySigned,
    PasswordLogin, Proof, RecoveryCodes, SessionRow, TotpOffer, is_app_name,
};
pub use playbooks::{
    PlaybookAnswer, PlaybookQuestion, PlaybookRow, PlaybookRun, PlaybookStart, PlaybookStepRun,
};
pub use problem::Problem;
pub use process::{Process, STOPPING, UpgradeBegun};
pub use receivers::{ReceiverRow, ReceiverTested};
pub use reports::{ReportLast, ReportScheduleRow, ReportSent, ReportTold};
pub use selftest::{SelfTest, SelfTestCase, SelfTestOutcome, SelfTestRun, SelfTestState};
pub(crate) use traffic::missing;
pub use traffic::{ActorsSeen, NodeName, TrafficSeen};

/// `GET /api/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// This node's name.
    pub node: String,
    /// The site it runs in.
    pub site: String,
    /// The product's version.
    pub version: String,
    /// When the node started, in Unix milliseconds.
    pub started_at_ms: u64,
    /// The node's clock, in Unix milliseconds.
    pub now_ms: u64,
    /// Whether the node is ready to serve.
    pub ready: bool,
    /// Why it is not.
    pub not_ready: Option<String>,
    /// The plan in force.
    pub plan: Plan,
    /// The fleet as this node sees it.
    pub fleet: Fleet,
    /// Totals since the start.
    pub counters: Counters,
    /// Findings by class since the start; what speaks most for an attack comes first.
    #[serde(default)]
    pub classes: Vec<ClassCount>,
    /// Decisions in force.
    pub decisions_live: u64,
    /// What waits for an operator; `GET /api/v1/held` lists it.
    #[serde(default)]
    pub held: u64,
    /// What the node uses of its limits, and what it sheds.
    #[serde(default)]
    pub load: Load,
    /// How the node's attacks on itself stand; `GET /api/v1/selftest` tells of each.
    #[serde(default)]
    pub selftest: SelfTestState,
    /// The recorder's parts.
    pub recorder: Vec<PartReport>,
    /// Copies of history within the site.
    #[serde(default)]
    pub history: HistoryCopies,
    /// Who keeps a git branch and the fleet's policy in step, as this node heard of them.
    #[serde(default)]
    pub following: Vec<PolicyFollower>,
    /// Certificates that visitors are shown.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// The process.
    #[serde(default)]
    pub process: Process,
    /// Bouncers that read this node's decisions.
    #[serde(default)]
    pub bouncers: Vec<Bouncer>,
    /// Sources whose decisions this node takes over.
    #[serde(default)]
    pub imports: Vec<Import>,
    /// How the node learns.
    #[serde(default)]
    pub learning: Learning,
}

/// What the binary tells about the node, asked at each call.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeStatus {
    /// The plan in force.
    pub plan: Plan,
    /// Why the node is not ready; `None` if it is.
    pub not_ready: Option<String>,
    /// What is degraded beyond fleet and recorder, one plain sentence each.
    pub degraded: Vec<String>,
    /// Certificates that visitors are shown.
    pub certificates: Vec<Certificate>,
    /// The process.
    pub process: Process,
    /// What the node uses of its limits, and what it sheds.
    pub load: Load,
    /// How the node learns.
    pub learning: Learning,
}

/// A certificate that visitors are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// Its file.
    pub file: String,
    /// The host names that it is for.
    pub names: Vec<String>,
    /// When it ends, in Unix milliseconds.
    pub expires_at_ms: u64,
}

/// The plan in force.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Its version.
    pub version: u64,
    /// The start of the hash of the fleet's bundle; none where it is the node's own policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// The apps it protects.
    pub apps: Vec<App>,
}

/// One protected app.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct App {
    /// Its name.
    pub name: String,
    /// Where requests are passed on to.
    pub upstream: String,
    /// `block`, `observe` or `off`.
    pub mode: String,
    /// What rules it has: `baseline`, or directories.
    pub rules: String,
    /// Paranoia level, 1 to 4.
    pub paranoia: u8,
    /// The level that its rules can be raised to while it is attacked; none where policy says no such level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raise_paranoia: Option<u8>,
    /// Rules in force.
    pub rule_count: u64,
    /// Patterns of these rules that are matched by backtracking, which is bounded, and not in linear time.
    #[serde(default)]
    pub backtracking_patterns: u64,
    /// Its rate limits, in the order of the policy.
    #[serde(default)]
    pub rate_limits: Vec<RateLimit>,
    /// The addresses behind `upstream`, and how each does.
    #[serde(default)]
    pub upstreams: Vec<Upstream>,
    /// Requests that were sent to another upstream after one failed.
    #[serde(default)]
    pub retries: u64,
    /// Requests that were not, because retries had taken their part.
    #[serde(default)]
    pub retries_refused: u64,
    /// Requests that wait because all upstreams are busy.
    #[serde(default)]
    pub waiting: u64,
    /// Requests answered with 503 because all upstreams stayed busy.
    #[serde(default)]
    pub queue_refused: u64,
}

/// One address that an app's requests can go to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Upstream {
    /// The server as policy names it.
    pub server: String,
    /// The address in use.
    pub address: String,
    /// `up`; `ejected`, because requests failed; `fails_checks`; or `unresolved`, while no address of its name is known.
    pub state: String,
    /// Its weight.
    pub weight: u16,
    /// It gets requests only when no other works.
    pub backup: bool,
    /// Requests that it is answering.
    pub in_flight: u32,
    /// Requests since the node started.
    pub requests: u64,
    /// Of these, those that failed.
    pub failures: u64,
}

/// One rate limit in force, and what it did since the node started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RateLimit {
    /// Its name.
    pub name: String,
    /// What it counts apart, as policy says it: `ip`, `header:x-api-key`; `global` for one count of all.
    pub key: String,
    /// What it admits, in words.
    pub rate: String,
    /// Whether the nodes of the fleet count together.
    pub fleet: bool,
    /// It refuses nothing and is recorded only.
    pub observes: bool,
    /// Requests admitted.
    pub admitted: u64,
    /// Requests refused.
    pub refused: u64,
    /// Requests passed on that would have been refused.
    pub observed: u64,
}

/// The fleet as this node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fleet {
    /// `local` or `nats`.
    pub kind: String,
    /// Whether its engine can be reached; always true for `local`.
    pub connected: bool,
    /// What is degraded, one plain sentence each; empty when all is well.
    pub degraded: Vec<String>,
    /// Own records that are not yet on disk and with the fleet's engine.
    pub queue: u64,
    /// Its nodes, this one included.
    pub members: Vec<Member>,
    /// When this node's certificates end, in Unix milliseconds; none in a fleet without an authority.
    #[serde(default)]
    pub certificate_expires_at_ms: Option<u64>,
}

/// One node of the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// The site it runs in.
    pub site: String,
    /// Its name.
    pub node: String,
    /// The product's version there.
    pub version: String,
    /// How long its records take to get here, in milliseconds.
    pub lag_ms: u64,
    /// When it was last heard of, in Unix milliseconds.
    pub last_seen_ms: u64,
    /// Decisions it enforces.
    pub decisions: u64,
    /// The policy it runs; none of a node that does not say.
    #[serde(default)]
    pub policy: Option<MemberPolicy>,
    /// Decisions and blocklists that it holds for an operator; it alone can say which.
    #[serde(default)]
    pub held: u64,
    /// Whether it is this node.
    pub me: bool,
    /// Whether it was heard of lately.
    pub online: bool,
    /// `serving`, `cordoned`, `draining` or `drained`.
    #[serde(default)]
    pub duty: String,
    /// Why an operator ordered it to.
    #[serde(default)]
    pub order_reason: String,
    /// How its attacks on itself stand.
    #[serde(default)]
    pub selftest: SelfTestState,
}

/// Totals since the node's start; `connections_open` is the present number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counters {
    pub connections_accepted: u64,
    pub connections_refused: u64,
    pub connections_open: u64,
    pub requests: u64,
    pub allowed: u64,
    pub observed: u64,
    #[serde(default)]
    pub challenged: u64,
    #[serde(default)]
    pub throttled: u64,
    pub denied: u64,
    pub malformed: u64,
    pub upstream_errors: u64,
    pub request_body_bytes: u64,
    pub response_body_bytes: u64,
    pub strikes: u64,
    pub inspect_failures: u64,
    pub inspect_us: u64,
    pub access_dropped: u64,
    pub security_dropped: u64,
}

/// Findings of one class since the node's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClassCount {
    /// The class, with the confidence of a detection.
    #[serde(flatten)]
    pub class: RuleClass,
    /// Rules of it that matched, counted for each request.
    pub signals: u64,
    /// Requests that rules refused for which this class spoke most.
    pub refusals: u64,
}

/// `POST /api/v1/decisions`: an operator's order. Exactly one of the fields that name an actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDecision {
    /// One address; for IPv6 its /64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// A range of addresses in CIDR form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The number of an autonomous system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// A country, two letters of ISO 3166-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// A JA4 fingerprint of TLS clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ja4: Option<String>,
    /// A session's keyed hash, 16 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// An account's keyed hash, 16 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// A kind of software, by its keyed hash of 16 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
    /// An app by name, or `APP/ROUTE` for one of its routes. To raise the paranoia of its rules, an app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What to order.
    #[serde(default = "ban")]
    pub kind: phalanx_model::DecisionKind,
    /// For how long, in milliseconds.
    pub for_ms: u64,
    /// Why; people on other nodes read it.
    pub reason: String,
    /// Order it also where it would refuse more of the clients that this node served well than a node or a list may.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// An operator's order, and whom it hits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionMade {
    /// The decision.
    #[serde(flatten)]
    pub decision: Arc<phalanx_model::Decision>,
    /// How many of the clients that this node served well it refuses; nothing where that cannot be told, or it refuses nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuses: Option<phalanx_model::GoodShare>,
    /// The range that policy exempts from decisions and in which all of it lies: it has no effect there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub exempt: Option<phalanx_model::Prefix>,
}

fn ban() -> phalanx_model::DecisionKind {
    phalanx_model::DecisionKind::Ban
}

/// A blocklist as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blocklist {
    /// The id of its newest version, which stands in refusals because of it.
    pub id: phalanx_model::DecisionId,
    /// Its name.
    pub name: String,
    /// Its newest version.
    pub version: u64,
    /// The version in force on this node; none until its content was fetched.
    pub version_in_force: Option<u64>,
    /// What the newest version would refuse, where it is held for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<phalanx_model::GoodShare>,
    /// What it orders.
    pub kind: phalanx_model::DecisionKind,
    /// Who imported it.
    pub author: phalanx_model::Author,
    /// Why.
    pub reason: String,
    /// How many prefixes it holds.
    pub prefixes: u32,
    /// When it was imported, in Unix milliseconds.
    pub created_at_ms: u64,
    /// When it ends, in Unix milliseconds.
    pub until_ms: u64,
}

/// `GET /api/v1/blocklists/{name}`: a blocklist with what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlocklistContent {
    /// The list.
    #[serde(flatten)]
    pub list: Blocklist,
    /// Its first prefixes, IPv4 before IPv6, each in order.
    pub first: Vec<String>,
}

/// A refused or flagged request, as lists and the stream show it. Most of its text was written by strangers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventRow {
    /// The request's id.
    pub id: RequestId,
    /// When it arrived, in Unix milliseconds.
    pub at_ms: u64,
    /// The app it was for.
    pub app: Arc<str>,
    /// The client's address.
    pub client: IpAddr,
    /// The method.
    pub method: String,
    /// The Host field.
    pub host: String,
    /// The target, secrets masked.
    pub target: String,
    /// Status of the reply.
    pub status: u16,
    /// What was done.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The rules that matched.
    pub rule_ids: Vec<u64>,
    /// The finding that says most.
    pub top: Option<TopFinding>,
    /// Inbound anomaly score.
    pub score: i32,
    /// The site of the node that served it.
    pub site: Arc<str>,
    /// The node that served it.
    pub node: Arc<str>,
}

/// The finding that says most about a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TopFinding {
    /// The rule's id.
    pub rule: u64,
    /// Its message.
    pub message: String,
    /// The variable that matched.
    pub variable: String,
    /// The part that matched.
    pub fragment: String,
    /// The file the rule stands in.
    pub file: Arc<str>,
    /// The line it starts on.
    pub line: u32,
}

impl From<&RecordedRequest> for EventRow {
    fn from(record: &RecordedRequest) -> Self {
        let access = &record.access;
        let top = record.top_signal().map(|signal| {
            let first = signal.matches.first();
            TopFinding {
                rule: signal.rule.id,
                message: signal.message.clone(),
                variable: first.map(|m| m.variable.clone()).unwrap_or_default(),
                fragment: first.map(|m| m.fragment.clone()).unwrap_or_default(),
                file: Arc::clone(&signal.rule.file),
                line: signal.rule.line,
            }
        });
        Self {
            id: access.id,
            at_ms: access.at_ms,
            app: Arc::clone(&access.app),
            client: access.client,
            method: access.method.clone(),
            host: access.host.clone(),
            target: access.target.clone(),
            status: access.status,
            action: access.verdict.action,
            reason: access.verdict.reason.clone(),
            rule_ids: record.rule_ids(),
            top,
            score: access.verdict.score,
            site: Arc::clone(&record.site),
            node: Arc::clone(&record.node),
        }
    }
}

/// `POST /api/v1/policy/reload`: the plan's versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyReloaded {
    /// The version before.
    pub from: u64,
    /// The version now in force.
    pub to: u64,
}

/// `POST /api/v1/login-links`: a link that logs one browser in, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginLink {
    /// The link.
    pub url: String,
    /// Until when it is good, in Unix milliseconds.
    pub expires_at_ms: u64,
}

/// One fault in a policy or rule file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnostic {
    /// `error` or `warning`.
    pub level: String,
    /// The file.
    pub file: String,
    /// The line, from 1; 0 for the whole file.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl From<&phalanx_policy::Diagnostic> for Diagnostic {
    fn from(from: &phalanx_policy::Diagnostic) -> Self {
        let level = match from.level {
            phalanx_policy::Level::Error => "error",
            phalanx_policy::Level::Warning => "warning",
        };
        Self {
            level: level.to_owned(),
            file: from.file.to_string(),
            line: from.line,
            message: from.message.clone(),
            help: from.help.clone(),
        }
    }
}

/// `POST /api/v1/fleet/invitations`: whom to invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInvitation {
    /// The site that the joiner will run in.
    pub site: String,
    /// Whether it may act for operators.
    #[serde(default)]
    pub control: bool,
    /// Whether the token is for a site's NATS server, `phalanx fleet serve`, and for no node.
    #[serde(default)]
    pub server: bool,
    /// How long the token is good, in milliseconds; a week at most.
    pub for_ms: u64,
    /// Where it enrols, `HOST:PORT`; the listener's own address without it.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The lowest policy version that nodes may accept from now on; it only rises.
    #[serde(default)]
    pub policy_version_min: u64,
}

/// A join token. It is told once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Invited {
    /// What the joiner is started with.
    pub token: String,
    /// Names the invitation; no secret.
    pub id: String,
    /// When it ends, in Unix milliseconds.
    pub expires_at_ms: u64,
}

/// What a node is ordered to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeDuty {
    /// Serve, as a node without an order does.
    #[default]
    Serve,
    /// Serve whoever asks, but be not ready for balancers, and hold no lease.
    Cordon,
    /// As cordoned; besides, end connections with the request that is under way.
    Drain,
    /// Nothing: it is dead, and not counted until it is heard again.
    Evict,
}

/// `POST /api/v1/fleet/orders`: what a node shall do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewNodeOrder {
    /// The node's site.
    pub site: String,
    /// The node's name.
    pub node: String,
    /// What it shall do.
    pub duty: NodeDuty,
    /// Why; people on other nodes read it.
    #[serde(default)]
    pub reason: String,
}

/// An order about a node, in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeOrder {
    /// The node's site.
    pub site: String,
    /// The node's name.
    pub node: String,
    /// What it shall do.
    pub duty: NodeDuty,
    /// Why.
    pub reason: String,
    /// Who gave it.
    pub by: String,
    /// When it was given, in Unix milliseconds.
    pub given_at_ms: u64,
}

/// What restoring a snapshot did, or with `dry_run` would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Restored {
    /// Nothing was changed.
    pub dry_run: bool,
    /// When the snapshot was made, in Unix milliseconds.
    pub made_at_ms: u64,
    /// By whom.
    pub made_by: String,
    /// The version of the policy there; policy is not part of a snapshot.
    pub policy_version: u64,
    /// Members that it names.
    pub members: u64,
    /// Of its decisions.
    pub decisions: RestoredCount,
    /// Of its withdrawals and recalls.
    pub withdrawals: RestoredCount,
    /// Of its blocklists.
    pub lists: RestoredCount,
    /// Of its revocations.
    pub revocations: RestoredCount,
}

/// What became of the records of one kind in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoredCount {
    /// News here: in force now, or would be.
    pub restored: u64,
    /// Known here, or older than what is.
    pub known: u64,
    /// Expired meanwhile.
    pub expired: u64,
    /// Withdrawn or recalled meanwhile.
    pub ended: u64,
    /// Not believed, not needed, or beyond a limit.
    pub refused: u64,
}

/// `POST /api/v1/fleet/revocations`: whom to revoke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRevocation {
    /// The node's site.
    pub site: String,
    /// The node's name.
    pub node: String,
    /// Whether what it decided so far ends too.
    #[serde(default)]
    pub withdraw: bool,
    /// Why; people on other nodes read it.
    #[serde(default)]
    pub reason: String,
}

/// What was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revoked {
    /// The node's site.
    pub site: String,
    /// The node's name.
    pub node: String,
    /// Certificates made up to this Unix millisecond do not count.
    pub up_to_ms: u64,
}

/// The fleet's authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Authority {
    /// The fleet's id.
    pub fleet: String,
    /// SHA-256 of the root that signs.
    pub root: String,
    /// When that root ends, in Unix milliseconds.
    pub root_expires_at_ms: u64,
    /// Whether an older root is believed too.
    pub changing_root: bool,
    /// Sites that were invited to or enrolled.
    pub sites: Vec<String>,
    /// Nodes that were enrolled.
    pub nodes: Vec<Enrolled>,
    /// Invitations that can still be used.
    pub invitations: Vec<OpenInvitation>,
    /// The delegates of sites.
    #[serde(default)]
    pub delegations: Vec<Delegation>,
}

/// A node that was enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Enrolled {
    /// Its site.
    pub site: String,
    /// Its name.
    pub node: String,
    /// Whether it may act for operators.
    pub control: bool,
    /// When its certificate ends, in Unix milliseconds.
    pub expires_at_ms: u64,
    /// When it was revoked, in Unix milliseconds.
    pub revoked_at_ms: Option<u64>,
}

/// An invitation that can still be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenInvitation {
    /// Names it; no secret.
    pub id: String,
    /// The joiner's site.
    pub site: String,
    /// Whether the joiner may act for operators.
    pub control: bool,
    /// When it ends, in Unix milliseconds.
    pub expires_at_ms: u64,
}
