//! Checked policy: what the other crates compile.

use std::path::PathBuf;
use std::sync::Arc;

use phalanx_model::{Confidence, Prefix, RuleClass, limits};
use serde::Serialize;

use crate::Diagnostic;
use crate::accounts::Accounts;
use crate::balance::Upstreams;
use crate::challenge::{Challenge, ChallengeUse, Throttle};
use crate::client_certificate::ClientCertificate;
use crate::compression::Compression;
use crate::detection::Detection;
use crate::exclusion::Exclusion;
use crate::exemption::Exemption;
use crate::handling::{Expiry, Handling};
use crate::networks::Networks;
use crate::rate_limit::RateLimit;
use crate::route::Route;
use crate::upstream::{Scheme, Upstream};

/// Everything that is decided by policy rather than by a node's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Counts up with every change that its author makes; a fleet refuses to go back.
    pub version: u64,
    /// The apps, in the order written; at least one.
    pub apps: Vec<App>,
    /// Never refused for what they ask.
    pub allow: Vec<Prefix>,
    /// Operators' networks: never banned.
    pub operator_networks: Vec<Prefix>,
    /// Never refused for what they ask, until some day.
    pub exemptions: Vec<Exemption>,
    /// When strikes become a ban.
    pub strikes: Strikes,
    /// What a challenge asks of a client.
    pub challenge: Challenge,
    /// How often whoever is throttled may ask.
    pub throttle: Throttle,
    /// What is done about attacks that show over many requests.
    pub detection: Detection,
    /// What is done about incidents, step by step.
    pub playbooks: PlaybooksUsed,
    /// A file with networks of content delivery networks, beside those that the product brings.
    pub cdn_networks: Option<PathBuf>,
    /// A file with crawlers, beside those that the product knows.
    pub crawlers: Option<PathBuf>,
}

/// Playbooks that are in use; what they say is read when the policy is compiled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PlaybooksUsed {
    /// Names of those that come with the product ([`crate::playbook::shipped`]).
    pub shipped: Vec<String>,
    /// Files with others.
    pub files: Vec<PathBuf>,
}

/// One protected application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct App {
    /// Its name in events, reports and metrics.
    pub name: String,
    /// The hosts it answers for, in lower case without port, `*.domain` for all below it; empty for all that no other app names.
    pub hosts: Vec<String>,
    /// Where its requests go.
    pub upstreams: Upstreams,
    /// What is done with a request that its rules refuse.
    pub mode: Mode,
    /// Its rules.
    pub rules: RuleSource,
    /// Rule files of the app's own, loaded after them.
    pub extra_rules: Vec<PathBuf>,
    /// What some of these rules do not look at; for routes as well.
    pub exclusions: Vec<Exclusion>,
    /// The Core Rule Set's paranoia level, 1 to 4.
    pub paranoia: u8,
    /// The level while an order raises it, above `paranoia`.
    pub raise_paranoia: Option<u8>,
    /// What is done with a match, by the class of its rule.
    pub classes: Classes,
    /// What is done when a rule or parser fails on a request.
    pub on_error: OnError,
    /// Which clients are challenged.
    pub challenge: ChallengeUse,
    /// Who may ask at all.
    pub networks: Networks,
    /// How its sessions and accounts are known.
    pub accounts: Accounts,
    /// How much is taken, held and waited for.
    pub limits: Limits,
    /// How often clients may ask, in the order written.
    pub rate_limits: Vec<RateLimit>,
    /// Which responses are compressed; `None`: none.
    pub compression: Option<Compression>,
    /// TLS for its hosts is passed on unopened: no request is seen.
    pub passthrough: bool,
    /// Listeners for TCP carry connections to it as they are: no request is seen.
    pub tcp: bool,
    /// Networks whose `X-Forwarded-For` and the like are believed.
    pub trust_forwarded: Vec<Prefix>,
    /// How they tell their clients' addresses.
    pub client_address: ClientAddress,
    /// Certificates that are asked of clients; `None`: as their listener says.
    pub client_certificate: Option<ClientCertificate>,
    /// What is done beyond passing on.
    pub handling: Arc<Handling>,
    /// What is done with requests to some of its paths, in the order written.
    pub routes: Vec<Route>,
    /// When its security.txt expires, if it has one.
    pub security_txt: Option<Expiry>,
}

/// How forwarders tell their clients' addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ClientAddress {
    /// A content delivery network by name: its networks are trusted too, and the rest is as it says.
    pub preset: Option<String>,
    /// In which field.
    pub from: AddressFrom,
    /// How many places from the right; `None`: the first that is no trusted forwarder's.
    pub hops: Option<u8>,
    /// Forwarders must show a certificate that their listener believes.
    pub certified: bool,
}

/// A field that names clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressFrom {
    /// `X-Forwarded-For`: a list.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): a list.
    Forwarded,
    /// A field with one address, by its name in lower case.
    Field(String),
}

impl AddressFrom {
    /// Reads the name of a field; `None` if it is none.
    pub fn parse(name: &str) -> Option<Self> {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || name.len() > FIELD_NAME_BYTES_MAX || !name.bytes().all(is_token) {
            return None;
        }
        Some(match name.to_ascii_lowercase().as_str() {
            "x-forwarded-for" => Self::XForwardedFor,
            "forwarded" => Self::Forwarded,
            other => Self::Field(other.to_owned()),
        })
    }

    /// Whether the field holds a list of addresses.
    pub fn is_list(&self) -> bool {
        !matches!(self, Self::Field(_))
    }
}

/// What is done with a request that the rules refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Refuse it.
    #[default]
    Block,
    /// Pass it on and record what would have happened.
    Observe,
    /// No rules at all; the edge's own protections stay.
    Off,
}

/// What an app does with matches of one class of rules.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ClassUse {
    /// They score and refuse as their rules say.
    #[default]
    Block,
    /// They are recorded; they neither score nor refuse.
    Observe,
    /// The rules are not there.
    Off,
}

/// What is done with a match, by the class of its rule. Rules that only set up others, or add up what others found, have no
/// part in this: their class says what they are about, not that they found anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Classes {
    /// Rules that look for attacks.
    pub detection: ClassUse,
    /// Rules that state what is allowed here.
    pub policy: ClassUse,
    /// Rules that check protocol form.
    pub protocol: ClassUse,
    /// Detections that are less sure are observed, where detections block.
    pub min_confidence: Confidence,
}

impl Default for Classes {
    fn default() -> Self {
        let block = ClassUse::Block;
        Self { detection: block, policy: block, protocol: block, min_confidence: Confidence::Low }
    }
}

impl Classes {
    /// What is done with matches of a class.
    pub fn of(&self, class: RuleClass) -> ClassUse {
        match class {
            RuleClass::Detection(confidence)
                if self.detection == ClassUse::Block && confidence < self.min_confidence =>
            {
                ClassUse::Observe
            }
            RuleClass::Detection(_) => self.detection,
            RuleClass::Policy => self.policy,
            RuleClass::Protocol => self.protocol,
        }
    }
}

/// What is done when a rule or parser fails on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Refuse the request.
    #[default]
    Deny,
    /// Pass it on, recorded.
    Allow,
}

/// Where an app's rules come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleSource {
    /// The rules that come with the product.
    #[default]
    Baseline,
    /// Folders of rule files.
    Dirs(Vec<PathBuf>),
}

/// Limits of one app. Reasons for the defaults stand in [`phalanx_model::limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Largest request body, in bytes.
    pub body_bytes_max: u64,
    /// How much of a request body is held for inspection, in bytes.
    pub body_held_bytes_max: usize,
    /// How much of a response body is held for inspection, in bytes.
    pub response_held_bytes_max: usize,
    /// Longest wait for a connection to the upstream, in milliseconds.
    pub upstream_connect_max_ms: u64,
    /// Longest wait for the upstream's response head, in milliseconds.
    pub upstream_head_max_ms: u64,
    /// Longest silence within the upstream's response, in milliseconds.
    pub upstream_gap_max_ms: u64,
    /// Longest time for all of a request and its response, with every try, in milliseconds; `None` without a limit.
    pub upstream_total_max_ms: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: limits::BODY_BYTES_MAX,
            body_held_bytes_max: limits::BODY_HELD_BYTES_MAX,
            response_held_bytes_max: limits::RESPONSE_HELD_BYTES_MAX,
            upstream_connect_max_ms: limits::UPSTREAM_CONNECT_MAX_MS,
            upstream_head_max_ms: limits::UPSTREAM_HEAD_MAX_MS,
            upstream_gap_max_ms: limits::UPSTREAM_HEAD_MAX_MS,
            upstream_total_max_ms: None,
        }
    }
}

/// When strikes become a ban, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Strikes {
    /// Strikes that make a ban.
    pub count: u32,
    /// Window in which they count, in milliseconds.
    pub window_ms: u64,
    /// The first ban, in milliseconds; it doubles on repetition.
    pub first_ban_ms: u64,
    /// The longest ban that doubling reaches, in milliseconds.
    pub max_ban_ms: u64,
}

impl Default for Strikes {
    fn default() -> Self {
        Self {
            count: limits::STRIKES_FOR_DECISION,
            window_ms: limits::STRIKE_WINDOW_MS,
            first_ban_ms: limits::BAN_FIRST_MS,
            max_ban_ms: limits::BAN_AUTOMATIC_MAX_MS,
        }
    }
}

impl Policy {
    /// A policy that protects one app, whatever its host, with the product's own rules. The caller changes what it
    /// wants to be different.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the URL.
    pub fn one_app(upstream_url: &str) -> Result<Self, String> {
        let upstream = Upstream::parse(upstream_url)?;
        if upstream.scheme == Scheme::Tcp {
            return Err("`tcp` is for apps with `tcp` or `passthrough`, in a policy file".into());
        }
        let app = App {
            name: "app".into(),
            hosts: Vec::new(),
            upstreams: Upstreams::one(upstream),
            mode: Mode::Block,
            rules: RuleSource::Baseline,
            extra_rules: Vec::new(),
            exclusions: Vec::new(),
            paranoia: PARANOIA_DEFAULT,
            raise_paranoia: None,
            classes: Classes::default(),
            on_error: OnError::Deny,
            challenge: ChallengeUse::default(),
            networks: Networks::default(),
            accounts: Accounts::default(),
            limits: Limits::default(),
            rate_limits: Vec::new(),
            compression: None,
            passthrough: false,
            tcp: false,
            trust_forwarded: Vec::new(),
            client_address: ClientAddress::default(),
            client_certificate: None,
            handling: Arc::default(),
            routes: Vec::new(),
            security_txt: None,
        };
        Ok(Self {
            version: 1,
            apps: vec![app],
            allow: Vec::new(),
            operator_networks: loopback(),
            exemptions: Vec::new(),
            strikes: Strikes::default(),
            challenge: Challenge::default(),
            throttle: Throttle::default(),
            detection: Detection::default(),
            cdn_networks: None,
            playbooks: PlaybooksUsed::default(),
            crawlers: None,
        })
    }
}

impl Policy {
    /// What is to be said about times that policy names, at this one: of a security.txt, an exclusion or an exemption that has ended or soon will. Apart from
    /// reading, because a policy that ran yesterday must run today.
    pub fn due(&self, file: &str, now_ms: u64) -> Vec<Diagnostic> {
        let now_s = i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX);
        let said = self.apps.iter().filter_map(|app| {
            let expiry = app.security_txt?;
            let left_s = expiry.at_s.saturating_sub(now_s);
            let help = "write a later `expires`, and look whether the rest of it still holds";
            if left_s <= 0 {
                let message = format!("the security.txt of app `{}` has expired", app.name);
                return Some(Diagnostic::error(file, expiry.line, message).with_help(help));
            }
            let days = left_s / 86_400;
            let message = format!("the security.txt of app `{}` expires in {days} days", app.name);
            (days < SECURITY_TXT_DAYS_LEAST)
                .then(|| Diagnostic::warning(file, expiry.line, message).with_help(help))
        });
        let exclusions = self.apps.iter().flat_map(|app| {
            app.exclusions.iter().filter_map(move |exclusion| exclusion.due(file, &app.name, now_s))
        });
        let exemptions = self.exemptions.iter().filter_map(|exemption| exemption.due(file, now_s));
        said.chain(exclusions).chain(exemptions).collect()
    }
}

/// Days before its end from which on a security.txt is warned about.
const SECURITY_TXT_DAYS_LEAST: i64 = 30;

/// The networks that are operators' unless policy says otherwise: this machine.
pub fn loopback() -> Vec<Prefix> {
    ["127.0.0.0/8", "::1/128"].iter().filter_map(|text| crate::prefix::parse(text)).collect()
}

/// Level 1 is what the Core Rule Set recommends to begin with.
pub const PARANOIA_DEFAULT: u8 = 1;
/// Longest name of a header field that tells of clients.
pub(crate) const FIELD_NAME_BYTES_MAX: usize = 64;
