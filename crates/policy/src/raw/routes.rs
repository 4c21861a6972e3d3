//! Routes and what is done with responses, as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::upstreams::{RawHealth, RawQueue, RawRetries, RawUpstreams};
use super::{RawClasses, RawLimits, RawRules};
use crate::challenge::ChallengeUse;
use crate::policy::{Mode, OnError};
use crate::route::ClientScheme;
use crate::toml_text::At;

/// What an app does with requests to some of its paths. What it does not say is as the app says.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRoute {
    /// Its name in events and reports. Its path if not given.
    pub name: Option<At<String>>,
    /// Requests to this path and below it, as in "/admin". "/" if neither this nor `exact` is given.
    pub path: Option<At<String>>,
    /// Requests to this path alone.
    pub exact: Option<At<String>>,
    /// Of these, those whose path ends so, as in ".php".
    pub suffix: Option<At<String>>,
    /// Of these, those whose path matches this regular expression, as in '^/v[0-9]+/'.
    pub path_pattern: Option<At<String>>,
    /// Of these, those with one of these methods.
    #[serde(default)]
    pub methods: Vec<At<String>>,
    /// Of these, those whose header fields are so: `true`: present; `false`: absent; a text: equal.
    #[serde(default)]
    pub headers: BTreeMap<String, At<RawHeaderIs>>,
    /// Of these, those that came over "http" or "https".
    pub scheme: Option<ClientScheme>,
    /// Send the client elsewhere.
    pub redirect: Option<At<RawRedirect>>,
    /// Answer the request here.
    pub reply: Option<At<RawReply>>,
    /// What the upstream sees in the place of the route's path, as in "/".
    pub rewrite: Option<At<String>>,
    /// Answer requests with 503.
    pub maintenance: Option<At<RawMaintenance>>,
    /// Pages for the replies that no upstream wrote, in the place of the app's.
    pub pages: Option<RawPages>,
    /// What `Host` says to the upstream: "client", "upstream", or a name.
    pub upstream_host: Option<At<String>>,
    /// Changes of the fields that the upstream gets, after the app's.
    #[serde(default)]
    pub request_headers: RawHeaderEdits,
    /// Changes of the fields that the client gets, after the app's.
    #[serde(default)]
    pub response_headers: RawHeaderEdits,
    /// What is done with a request that the rules refuse.
    pub mode: Option<At<Mode>>,
    /// The rules.
    pub rules: Option<At<RawRules>>,
    /// Rule files in the place of the app's.
    pub extra_rules: Option<Vec<At<String>>>,
    /// The Core Rule Set's paranoia level, 1 to 4.
    pub paranoia: Option<At<u8>>,
    /// The level while an order raises the app's paranoia. As the app says if not given.
    pub raise_paranoia: Option<At<u8>>,
    /// What is done with a match, by the class of its rule.
    pub classes: Option<RawClasses>,
    /// What is done when a rule or parser fails on a request.
    pub on_error: Option<At<OnError>>,
    /// "always": all clients are challenged; "ordered": those that a decision is about.
    pub challenge: Option<ChallengeUse>,
    /// Networks whose clients may ask, in the place of the app's; `[]` for all.
    pub allow_networks: Option<Vec<At<String>>>,
    /// Networks whose clients get 403, in the place of the app's.
    pub deny_networks: Option<Vec<At<String>>>,
    /// How much is taken, held and waited for.
    #[serde(default)]
    pub limits: RawLimits,
    /// Where these requests go.
    #[serde(alias = "upstreams")]
    #[schemars(extend("x-also" = "upstreams"))]
    pub upstream: Option<At<RawUpstreams>>,
    /// How one of several upstreams is chosen.
    pub balance: Option<At<String>>,
    /// The name of a cookie that is set to keep a client with its upstream.
    pub sticky_cookie: Option<At<String>>,
    /// How it is found out which upstreams work.
    pub health: Option<RawHealth>,
    /// When a request that failed is sent to another upstream.
    pub retries: Option<RawRetries>,
    /// Where requests wait when all upstreams are busy.
    pub queue: Option<RawQueue>,
}

/// What a header field must be like: there or not, or equal to a text.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected `true`, `false` or a text")]
pub enum RawHeaderIs {
    /// There or not.
    There(bool),
    /// Equal to this.
    Equal(String),
}

/// Where a client is sent.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRedirect {
    /// Where to, as in "https://{host}{path}{query}".
    pub to: Option<At<String>>,
    /// 301, 302, 303, 307 or 308. 308 if not given.
    pub status: Option<At<u16>>,
}

/// An answer that stands in the policy.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawReply {
    /// Its status, 200 to 599. 200 if not given.
    pub status: Option<At<u16>>,
    /// Its `Content-Type`. "text/plain; charset=utf-8" if not given.
    #[serde(rename = "type")]
    pub content_type: Option<At<String>>,
    /// Its body.
    pub body: Option<At<String>>,
    /// A file with its body, relative to the policy file.
    pub file: Option<At<String>>,
}

/// A time in which requests are answered with 503.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMaintenance {
    /// What clients are told to wait, as in "10m". 10 minutes if not given.
    pub retry_after: Option<At<String>>,
    /// Addresses and ranges that pass all the same.
    #[serde(default)]
    pub allow: Vec<At<String>>,
}

/// Changes of header fields. Texts may hold {scheme}, {host}, {path}, {rest}, {query}, {client} and {request_id}.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawHeaderEdits {
    /// Fields that are taken out.
    #[serde(default)]
    pub remove: Vec<At<String>>,
    /// Fields that replace all of their name.
    #[serde(default)]
    pub set: BTreeMap<String, At<String>>,
    /// Fields that come in addition.
    #[serde(default)]
    pub add: BTreeMap<String, At<String>>,
}

/// What the responses of an app are hardened with.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawResponses {
    /// "standard": add what makes browsers careful where the app sends none of its own, and take out what names software; "keep": leave
    /// them alone. "keep" if not given.
    pub headers: Option<Preset>,
    /// How long browsers must use HTTPS. A year beside `headers = "standard"` if not given.
    pub hsts: Option<At<RawHsts>>,
    /// "standard": add `Secure` (over TLS), `HttpOnly` and `SameSite=Lax` to cookies that lack them; "keep": leave them alone. "keep" if
    /// not given.
    pub cookies: Option<Preset>,
    /// Names of cookies that are left alone.
    #[serde(default)]
    pub cookies_except: Vec<At<String>>,
}

/// What is done with something of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Nothing.
    #[default]
    Keep,
    /// What most sites should do.
    Standard,
}

/// How long browsers must use HTTPS for a host (RFC 6797).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawHsts {
    /// How long, as in "365d"; "0s" takes an earlier word back.
    pub max_age: Option<At<String>>,
    /// For all hosts below it, too. `false` if not given.
    pub subdomains: Option<bool>,
    /// Browsers may be shipped with it. `false` if not given.
    pub preload: Option<bool>,
}

/// Template files of pages, relative to the policy file. They must hold {request_id}, and may hold {status}, {title}, {text} and {language}.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPages {
    /// For all that is refused.
    pub refused: Option<At<String>>,
    /// For every other reply of the node's own.
    pub error: Option<At<String>>,
    /// For maintenance. `error` if not given.
    pub maintenance: Option<At<String>>,
    /// The site's name, on the product's own pages.
    pub name: Option<At<String>>,
    /// Whom to tell: "help@example.org", "https://...", or words.
    pub contact: Option<At<String>>,
    /// A colour of theirs, as in "#0a6".
    pub accent: Option<At<String>>,
    /// A picture on them: PNG, JPEG, WebP or SVG, relative to the policy file.
    pub logo: Option<At<String>>,
    /// "html": a page for those who read pages; "problem": JSON (RFC 9457) for everybody. "html" if not given.
    pub form: Option<PageForm>,
}

/// What replies of the node's own are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PageForm {
    /// Pages, and JSON for programs.
    Html,
    /// JSON for everybody.
    Problem,
}

/// An app's security.txt (RFC 9116).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSecurityTxt {
    /// Where to report holes: `mailto:`, `https:` or `tel:`, the preferred one first.
    #[serde(default)]
    pub contact: Vec<At<String>>,
    /// When it expires, as in 2027-06-01T00:00:00Z.
    #[schemars(with = "Option<String>")]
    pub expires: Option<At<toml::value::Datetime>>,
    /// Keys to encrypt reports with.
    #[serde(default)]
    pub encryption: Vec<At<String>>,
    /// Where reporters are thanked.
    #[serde(default)]
    pub acknowledgments: Vec<At<String>>,
    /// Languages, as in ["en", "de"].
    #[serde(default)]
    pub preferred_languages: Vec<At<String>>,
    /// Where this file is to be found.
    #[serde(default)]
    pub canonical: Vec<At<String>>,
    /// How reports are handled.
    #[serde(default)]
    pub policy: Vec<At<String>>,
    /// Open positions.
    #[serde(default)]
    pub hiring: Vec<At<String>>,
}
