//! Policy as written. Everything is optional here; [`crate::check`] says what is missing and what makes no sense.

use std::collections::BTreeMap;

use phalanx_model::Confidence;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::challenge::ChallengeUse;
use crate::origin_tls::{Protocol, ProxyProtocol};
use crate::policy::{ClassUse, Mode, OnError};
use crate::rate_limit::{RateAction, RateScope};
use crate::toml_text::At;

pub mod accounts;
pub mod challenge;
pub mod client_certificate;
pub mod compression;
pub mod detection;
pub mod exclusions;
pub mod origin_tls;
pub mod routes;
pub mod upstreams;

use accounts::RawAccounts;
use challenge::{RawChallenge, RawThrottle};
use client_certificate::RawClientCertificate;
use compression::RawCompression;
use detection::RawDetection;
use exclusions::{RawExclusion, RawExemption};
use origin_tls::RawOriginTls;
use routes::{RawHeaderEdits, RawMaintenance, RawPages, RawResponses, RawRoute, RawSecurityTxt};
use upstreams::{RawHealth, RawQueue, RawRetries, RawUpstreams};

/// A Phalanx policy: the protected apps, who is exempt, and when strikes become a ban.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPolicy {
    /// Counts up with every change; a fleet refuses to go back. 1 if not given.
    pub version: Option<At<u64>>,
    /// Addresses and ranges that are never refused for what they ask.
    #[serde(default)]
    pub allow: Vec<At<String>>,
    /// Operators' addresses and ranges, which are never banned. Loopback if not given.
    pub operator_networks: Option<Vec<At<String>>>,
    /// Addresses and ranges that are never refused for what they ask, in somebody's name and until some day.
    #[serde(default)]
    pub exemptions: Vec<At<RawExemption>>,
    /// A file with networks of content delivery networks, newer than those that the product brings, or others.
    pub cdn_networks: Option<String>,
    /// A file with crawlers, beside those that the product knows, or with what it does not know of them.
    pub crawlers: Option<String>,
    /// When strikes become a ban.
    #[serde(default)]
    pub strikes: RawStrikes,
    /// What a challenge asks of a client.
    #[serde(default)]
    pub challenge: RawChallenge,
    /// How often whoever is throttled may ask.
    #[serde(default)]
    pub throttle: RawThrottle,
    /// Attacks that show over many requests.
    #[serde(default)]
    pub detection: RawDetection,
    /// What is done about incidents, step by step.
    #[serde(default)]
    pub playbooks: RawPlaybooks,
    /// What `${NAME}` stands for in the texts of this policy.
    #[serde(default)]
    pub variables: BTreeMap<String, RawVariable>,
    /// What holds for each app that does not say it itself.
    pub defaults: Option<RawApp>,
    /// What is different at some sites.
    #[serde(default)]
    pub sites: BTreeMap<String, RawSite>,
    /// The apps.
    #[serde(default)]
    pub apps: Vec<At<RawApp>>,
}

/// What is different at one site.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSite {
    /// What `${NAME}` stands for there, where it is not what `[variables]` says.
    #[serde(default)]
    pub variables: BTreeMap<String, RawVariable>,
    /// What holds there for each app that does not say it itself, before `[defaults]`.
    pub defaults: Option<RawApp>,
}

/// What a variable stands for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text, a number, a boolean, a time, or a list of them")]
pub enum RawVariable {
    /// One value.
    One(RawScalar),
    /// A list; as an item of a list it stands for all of its items.
    List(Vec<RawScalar>),
}

/// One value of a variable.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawScalar {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// A boolean.
    Boolean(bool),
    /// A day or time.
    #[schemars(with = "String")]
    Time(toml::value::Datetime),
}

/// Playbooks that are in use.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPlaybooks {
    /// Those that come with the product, by name, as in "stuffing".
    #[serde(default)]
    pub shipped: Vec<At<String>>,
    /// Files with others, relative to the policy file.
    #[serde(default)]
    pub files: Vec<At<String>>,
}

/// When strikes become a ban, and how long it lasts.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawStrikes {
    /// Strikes that make a ban.
    pub count: Option<At<u32>>,
    /// Window in which they count, as in "60s".
    pub window: Option<At<String>>,
    /// The first ban, as in "5m"; it doubles on repetition.
    pub first_ban: Option<At<String>>,
    /// The longest ban that doubling reaches, as in "24h".
    pub max_ban: Option<At<String>>,
}

/// One protected application.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawApp {
    /// Its name in events, reports and metrics.
    pub name: Option<At<String>>,
    /// What it is, as in "wordpress": what it does not say is as fits such an app, and after that as `[defaults]` say.
    pub template: Option<At<String>>,
    /// `false`: `[defaults]` do not hold for it. `true` if not given.
    pub inherit: Option<bool>,
    /// The hosts it answers for, as in "shop.example" or "*.shop.example"; if not given, all that no other app names.
    #[serde(default)]
    pub hosts: Vec<At<String>>,
    /// Where its requests go, as in "http://127.0.0.1:3000", or a list of such places.
    #[serde(alias = "upstreams")]
    #[schemars(extend("x-also" = "upstreams"))]
    pub upstream: Option<At<RawUpstreams>>,
    /// How one of several upstreams is chosen: "least_requests", "round_robin", "hash_client" or "hash_cookie:NAME".
    /// "least_requests" if not given.
    pub balance: Option<At<String>>,
    /// The name of a cookie that is set to keep a client with its upstream. None if not given.
    pub sticky_cookie: Option<At<String>>,
    /// The version of HTTP that upstreams are spoken to in: "http1", "http2", or "auto" to agree on it in the TLS handshake.
    /// "http1" if not given.
    pub upstream_protocol: Option<At<Protocol>>,
    /// The version of the PROXY protocol, "v1" or "v2", in which upstreams are told whose connection it is. None if not given.
    pub proxy_protocol: Option<At<ProxyProtocol>>,
    /// TLS towards upstreams with `https://`.
    pub upstream_tls: Option<At<RawOriginTls>>,
    /// How it is found out which upstreams work.
    #[serde(default)]
    pub health: RawHealth,
    /// When a request that failed is sent to another upstream.
    #[serde(default)]
    pub retries: RawRetries,
    /// Where requests wait when all upstreams are busy.
    #[serde(default)]
    pub queue: RawQueue,
    /// What is done with a request that its rules refuse. "block" if not given.
    pub mode: Option<At<Mode>>,
    /// "baseline", the rules that come with the product, or a list of rule folders. "baseline" if not given.
    pub rules: Option<At<RawRules>>,
    /// Rule files of the app's own, relative to the policy file, loaded after `rules`.
    #[serde(default)]
    pub extra_rules: Vec<At<String>>,
    /// What some rules do not look at, for some requests.
    #[serde(default)]
    pub exclusions: Vec<At<RawExclusion>>,
    /// The Core Rule Set's paranoia level, 1 to 4. 1 if not given.
    pub paranoia: Option<At<u8>>,
    /// A higher level, of which the rules are ready and in force while an order raises the app's paranoia. None if not given.
    pub raise_paranoia: Option<At<u8>>,
    /// What is done with a match, by the class of its rule.
    #[serde(default)]
    pub classes: RawClasses,
    /// What is done when a rule or parser fails on a request. "deny" if not given.
    pub on_error: Option<At<OnError>>,
    /// "ordered": clients that a decision is about are challenged; "always": all of them. "ordered" if not given.
    pub challenge: Option<ChallengeUse>,
    /// Networks whose clients may ask; all others get 403. All may if not given.
    #[serde(default)]
    pub allow_networks: Vec<At<String>>,
    /// Networks whose clients get 403, whatever `allow_networks` says. None if not given.
    #[serde(default)]
    pub deny_networks: Vec<At<String>>,
    /// Networks whose X-Forwarded-For and the like are believed. None if not given.
    #[serde(default)]
    pub trust_forwarded: Vec<At<String>>,
    /// How they tell their clients' addresses. In X-Forwarded-For if not given.
    pub client_address: Option<At<RawClientAddress>>,
    /// Certificates that are asked of clients in the TLS handshake for the app's hosts. As their listener says if not given.
    pub client_certificate: Option<At<RawClientCertificate>>,
    /// How its sessions and accounts are known, and which requests log in. As usual if not given.
    pub accounts: Option<At<RawAccounts>>,
    /// How much is taken, held and waited for.
    #[serde(default)]
    pub limits: RawLimits,
    /// How often clients may ask.
    #[serde(default)]
    pub rate_limits: Vec<At<RawRateLimit>>,
    /// What is done with requests to some of its paths.
    #[serde(default)]
    pub routes: Vec<At<RawRoute>>,
    /// Letters of routes' paths compare without case. `false` if not given.
    pub routes_ignore_case: Option<bool>,
    /// Answer requests with 503.
    pub maintenance: Option<At<RawMaintenance>>,
    /// What `Host` says to the upstream: "client", "upstream", or a name. "client" if not given.
    pub upstream_host: Option<At<String>>,
    /// Changes of the fields that the upstream gets.
    #[serde(default)]
    pub request_headers: RawHeaderEdits,
    /// Changes of the fields that the client gets.
    #[serde(default)]
    pub response_headers: RawHeaderEdits,
    /// What responses are hardened with.
    #[serde(default)]
    pub responses: RawResponses,
    /// Pages for the replies that no upstream wrote.
    #[serde(default)]
    pub pages: RawPages,
    /// The app's security.txt.
    pub security_txt: Option<At<RawSecurityTxt>>,
    /// Whether responses are compressed: `true`, `false`, or a table. `false` if not given.
    pub compression: Option<At<RawCompression>>,
    /// `true` passes TLS for its hosts on unopened, to upstreams written as "tcp://10.0.0.7:443": no request is seen. `false` if not given.
    pub passthrough: Option<At<bool>>,
    /// `true` makes it an app that listeners for TCP carry connections to, with upstreams written as "tcp://10.0.0.7:5432" or "unix:/run/db.sock": no
    /// request is seen. `false` if not given.
    pub tcp: Option<At<bool>>,
}

/// How forwarders tell their clients' addresses.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawClientAddress {
    /// A content delivery network, whose networks are trusted too: "cloudflare", "fastly", "google-cloud", or one that
    /// `cdn_networks` knows.
    pub preset: Option<At<String>>,
    /// "x-forwarded-for", "forwarded", or the name of a field with one address. "x-forwarded-for" if not given.
    pub from: Option<At<String>>,
    /// How many forwarders there are: the address is that many places from the right. If not given, the first from the right
    /// that is no trusted forwarder's.
    pub hops: Option<At<u8>>,
    /// Forwarders must show a certificate that their listener believes. `false` if not given.
    #[serde(default)]
    pub certificate: bool,
}

/// How often one key may ask for something of the app.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRateLimit {
    /// Its name in events, reports and metrics.
    pub name: Option<At<String>>,
    /// What is counted apart: "ip", "header:NAME", "cookie:NAME", "method", "path", a list of them, or "global".
    pub key: Option<At<RawRateKey>>,
    /// Paths that it is about, with all below them; `*` stands for anything but `/`, `**` for segments. All if not given.
    #[serde(default)]
    pub paths: Vec<At<String>>,
    /// Methods that it is about. All if not given.
    #[serde(default)]
    pub methods: Vec<At<String>>,
    /// The rate that is admitted for long, as in "100/10s", "5/s" or "1000/h".
    pub rate: Option<At<String>>,
    /// How many may come at once. A tenth of the rate's count if not given, but 5 where there are as many.
    pub burst: Option<At<u32>>,
    /// "node": each node counts for itself; "fleet": all nodes count together. "node" if not given.
    pub scope: Option<RateScope>,
    /// What one node may admit of a fleet's limit by itself, as in "50%". Its even part if not given.
    pub share: Option<At<String>>,
    /// "deny": refuse what is beyond it with 429; "observe": record it. "deny" if not given.
    pub action: Option<RateAction>,
    /// Tell clients what is left, in `RateLimit` header fields. `false` if not given.
    pub headers: Option<bool>,
}

/// What a rate limit counts apart.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a key in quotes, or a list of them")]
pub enum RawRateKey {
    /// One part, or `global`.
    One(String),
    /// Several parts together.
    All(Vec<String>),
}

/// What is done with a match, by the class of its rule: "block", "observe" or "off". "block" if not given.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawClasses {
    /// Rules that look for attacks.
    pub detection: Option<At<ClassUse>>,
    /// Rules that state what is allowed here: methods, types, sizes.
    pub policy: Option<At<ClassUse>>,
    /// Rules that check protocol form, and that bodies can be read.
    pub protocol: Option<At<ClassUse>>,
    /// How sure a detection must be to block: "low", "medium" or "high"; others are observed. "low" if not given.
    pub min_confidence: Option<At<Confidence>>,
}

/// Where an app's rules come from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected `baseline` in quotes, or a list of folders")]
pub enum RawRules {
    /// A rule set by name; `baseline` is the one there is.
    Named(String),
    /// Folders of rule files, relative to the policy file.
    Dirs(Vec<String>),
}

/// Limits of one app.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLimits {
    /// Largest request body, as in "1 GiB".
    pub body: Option<At<String>>,
    /// How much of a request body is held for inspection, as in "1 MiB".
    pub body_held: Option<At<String>>,
    /// How much of a response body is held for inspection, as in "512 KiB".
    pub response_held: Option<At<String>>,
    /// Longest wait for a connection to the upstream, as in "5s".
    pub upstream_connect: Option<At<String>>,
    /// Longest wait for the upstream's response head, as in "60s".
    pub upstream_head: Option<At<String>>,
    /// Longest silence within the upstream's response, as in "60s". As `upstream_head` if not given.
    pub upstream_gap: Option<At<String>>,
    /// Longest time for all of a request and its response, with every try, as in "5m". No limit if not given.
    pub upstream_total: Option<At<String>>,
}
