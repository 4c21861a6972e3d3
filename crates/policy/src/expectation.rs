//! Expectations beside a policy: requests that are only thought of, and what is to become of each.
//!
//! Flow in names: text -> [`parse_expectations`] -> [`Expectations`] -> (whoever can play a request) -> [`Came`] -> [`Expected::misses`].
//!
//! INVARIANT: what an expectation names exists in the policy that it is for; a name that was mistyped is a fault, and never a test that
//! passes because nothing has that name.

use std::net::{IpAddr, Ipv4Addr};

use phalanx_model::Action;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::check::unix_seconds;
use crate::suggest::did_you_mean;
use crate::toml_text::{At, Text};
use crate::units::duration_ms;
use crate::{Diagnostic, Policy, Upstream};

/// What one file expects of a policy.
#[derive(Debug, Clone)]
pub struct Expectations {
    /// When the first request of each sequence comes, in Unix milliseconds.
    pub now_ms: u64,
    /// In the order written.
    pub requests: Vec<Expectation>,
}

/// A request, and what is to become of it.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// What it shows.
    pub name: String,
    /// Where it stands.
    pub line: u32,
    /// Requests with the same one come one after the other to the same node; without one it comes to a node that has just started.
    pub sequence: Option<String>,
    /// When it comes, after the sequence began; `None`: when the one before is over.
    pub at_ms: Option<u64>,
    /// How often.
    pub times: u32,
    /// With this between two of them.
    pub every_ms: u64,
    /// Its method.
    pub method: String,
    /// Whether it comes over TLS.
    pub secure: bool,
    /// Its host, with a port if one was written.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// Its other header fields, as in `Accept: text/html`.
    pub headers: Vec<String>,
    /// Its body.
    pub body: String,
    /// The address that it comes from.
    pub client: IpAddr,
    /// What is to become of it.
    pub expect: Expected,
}

/// A value that is expected, and the line that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<T> {
    /// The value.
    pub value: T,
    /// Its line.
    pub line: u32,
}

/// What is to become of a request; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    action: Option<Wanted<Action>>,
    status: Option<Wanted<u16>>,
    rules: Option<Wanted<Vec<u64>>>,
    without_rules: Option<Wanted<Vec<u64>>>,
    app: Option<Wanted<String>>,
    route: Option<Wanted<String>>,
    upstream: Option<Wanted<String>>,
    limit: Option<Wanted<String>>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Came {
    /// What was done.
    pub action: Action,
    /// The status of the node's own answer; `None` if an upstream would answer.
    pub status: Option<u16>,
    /// Rules that matched.
    pub rules: Vec<u64>,
    /// The app; empty for none.
    pub app: String,
    /// The route; empty for none.
    pub route: String,
    /// Where it would go on to, any of these; empty where the node answers.
    pub upstreams: Vec<String>,
    /// The rate limit that it exceeded; empty for none.
    pub limit: String,
}

/// One thing that came otherwise than expected.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Miss {
    /// What of it: a key of `expect`.
    pub what: &'static str,
    /// The line of the expectation.
    pub line: u32,
    /// What was expected.
    pub expected: String,
    /// What came.
    pub came: String,
}

/// Reads a file of expectations for a policy.
///
/// # Errors
/// Every fault found.
pub fn parse_expectations(file: &str, text: &str, policy: &Policy) -> Result<Expectations, Vec<Diagnostic>> {
    let text = Text::new(file, text);
    let (raw, found) = text.read_partly::<RawExpectations>();
    let Some(raw) = raw else { return Err(found) };
    let mut check = Check { text, found, policy };
    let now_ms = check.now(raw.now.as_ref());
    if raw.requests.is_empty() && check.found.is_empty() {
        let fault = check.text.error("the file expects nothing");
        check.found.push(fault.with_help("add `[[requests]]` with `url` and `expect`"));
    }
    if let Some(one_more) = raw.requests.get(REQUESTS_MAX) {
        check.error(&one_more.span, format!("a file has {REQUESTS_MAX} requests at most"));
    }
    let requests = raw.requests.iter().take(REQUESTS_MAX);
    let requests: Vec<Expectation> = requests.filter_map(|raw| check.request(raw)).collect();
    check.order(&requests);
    check.found.sort_by_key(|fault| fault.line);
    if check.found.is_empty() { Ok(Expectations { now_ms, requests }) } else { Err(check.found) }
}

/// The JSON Schema of a file of expectations.
pub fn expectations_schema() -> serde_json::Value {
    crate::schema::file_schema::<RawExpectations>("Phalanx policy tests")
}

impl Expectation {
    /// From the first time that it comes to the last, in milliseconds.
    pub fn lasts_ms(&self) -> u64 {
        self.every_ms.saturating_mul(u64::from(self.times.saturating_sub(1)))
    }
}

impl Expected {
    /// Where what came is otherwise.
    pub fn misses(&self, came: &Came) -> Vec<Miss> {
        let mut misses = Vec::new();
        let mut miss = |what, line, expected: String, came: String| {
            misses.push(Miss { what, line, expected, came });
        };
        if let Some(Wanted { value, line }) = &self.action
            && *value != came.action
        {
            miss("action", *line, value.as_str().to_owned(), came.action.as_str().to_owned());
        }
        if let Some(Wanted { value, line }) = &self.status
            && Some(*value) != came.status
        {
            let status = came.status.map_or("that of the upstream".to_owned(), |status| status.to_string());
            miss("status", *line, value.to_string(), status);
        }
        if let Some(Wanted { value, line }) = &self.rules {
            let none_expected = value.is_empty() && !came.rules.is_empty();
            if none_expected || !value.iter().all(|rule| came.rules.contains(rule)) {
                miss("rules", *line, listed(value), listed(&came.rules));
            }
        }
        if let Some(Wanted { value, line }) = &self.without_rules
            && value.iter().any(|rule| came.rules.contains(rule))
        {
            miss("without_rules", *line, format!("none of {}", listed(value)), listed(&came.rules));
        }
        let named = [
            ("app", &self.app, &came.app),
            ("route", &self.route, &came.route),
            ("limit", &self.limit, &came.limit),
        ];
        for (what, wanted, came) in named {
            if let Some(Wanted { value, line }) = wanted
                && value != came
            {
                miss(what, *line, or_none(value), or_none(came));
            }
        }
        if let Some(Wanted { value, line }) = &self.upstream {
            let fits =
                if value.is_empty() { came.upstreams.is_empty() } else { came.upstreams.contains(value) };
            if !fits {
                miss("upstream", *line, or_none(value), or_none(&came.upstreams.join(" or ")));
            }
        }
        misses
    }

    fn is_empty(&self) -> bool {
        let named = [&self.app, &self.route, &self.upstream, &self.limit];
        self.action.is_none()
            && self.status.is_none()
            && self.rules.is_none()
            && self.without_rules.is_none()
            && named.iter().all(|wanted| wanted.is_none())
    }
}

fn listed(rules: &[u64]) -> String {
    or_none(&rules.iter().map(u64::to_string).collect::<Vec<_>>().join(", "))
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "none".to_owned() } else { text.to_owned() }
}

/// What is expected of a policy: requests that are only thought of, and what is to become of each.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawExpectations {
    /// When sequences begin, as in 2027-06-01T12:00:00Z. 2026-01-01T12:00:00Z if not given.
    #[schemars(with = "Option<String>")]
    now: Option<At<toml::value::Datetime>>,
    /// The requests, 10,000 at most.
    #[serde(default)]
    requests: Vec<At<RawExpectation>>,
}

/// A request, and what is to become of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawExpectation {
    /// What it shows. Method and URL if not given.
    name: Option<At<String>>,
    /// Requests with the same one come to the same node, in the order written. Without one, a request comes to a node that has just started.
    sequence: Option<At<String>>,
    /// When it comes, after its sequence began, as in "90s". When the one before is over if not given.
    at: Option<At<String>>,
    /// How often it comes. 1 if not given.
    times: Option<At<u32>>,
    /// How long after each other, as in "1s".
    every: Option<At<String>>,
    /// GET if not given; POST with a body.
    method: Option<At<String>>,
    /// Scheme, host, path and query; `https` comes over TLS.
    url: At<String>,
    /// Fields, as in "Accept: text/html".
    #[serde(default)]
    headers: Vec<At<String>>,
    /// Its body.
    body: Option<At<String>>,
    /// The address that it comes from. 203.0.113.7 if not given.
    client: Option<At<String>>,
    /// What is to become of it.
    expect: At<RawExpected>,
}

/// What is to become of a request; what is left out does not matter.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawExpected {
    /// What is done with it.
    action: Option<At<Action>>,
    /// Of the node's own answer.
    status: Option<At<u16>>,
    /// Ids that are all among those that match; []: none matches.
    rules: Option<At<Vec<u64>>>,
    /// Ids of which none matches.
    without_rules: Option<At<Vec<u64>>>,
    /// The app, by name; "": none.
    app: Option<At<String>>,
    /// The route, by name; "": none.
    route: Option<At<String>>,
    /// One of those that it may go on to, as the policy writes it; "": none gets it.
    upstream: Option<At<String>>,
    /// The rate limit that it exceeds; "": none.
    limit: Option<At<String>>,
}

struct Check<'a> {
    text: Text<'a>,
    found: Vec<Diagnostic>,
    policy: &'a Policy,
}

type Range = std::ops::Range<usize>;

impl Check<'_> {
    fn now(&mut self, raw: Option<&At<toml::value::Datetime>>) -> u64 {
        let Some(raw) = raw else { return NOW_MS };
        let at_s = unix_seconds(raw).and_then(|at_s| u64::try_from(at_s).ok());
        let Some(at_s) = at_s else {
            self.helped(&raw.span, "this is no time with an offset", "write it as in 2027-06-01T12:00:00Z");
            return NOW_MS;
        };
        at_s.saturating_mul(1_000)
    }

    fn request(&mut self, raw: &At<RawExpectation>) -> Option<Expectation> {
        let before = self.found.len();
        let (secure, host, target) = self.url(&raw.url);
        let body = raw.body.as_ref().map_or(String::new(), |body| body.value.clone());
        let method = self.method(raw.method.as_ref(), if body.is_empty() { "GET" } else { "POST" });
        let headers = raw.headers.iter().map(|field| self.field(field)).collect();
        let name =
            raw.name.as_ref().map_or_else(|| format!("{method} {}", raw.url.value), |at| at.value.clone());
        let times = raw.times.as_ref().map_or(1, |at| at.value);
        if let Some(at) = raw.times.as_ref().filter(|at| !(1..=TIMES_MAX).contains(&at.value)) {
            self.error(&at.span, format!("a request comes 1 to {TIMES_MAX} times, not {}", at.value));
        }
        if let (Some(at), None) = (&raw.at, &raw.sequence) {
            let help = "name the `sequence` that it belongs to, or take out `at`";
            self.helped(&at.span, "a time is for a request that comes after others", help);
        }
        let request = Expectation {
            name,
            line: self.text.line_of(raw.span.start),
            sequence: raw.sequence.as_ref().map(|at| at.value.clone()),
            at_ms: raw.at.as_ref().map(|at| self.duration(Some(at))),
            times,
            every_ms: self.duration(raw.every.as_ref()),
            method,
            secure,
            host,
            target,
            headers,
            body,
            client: self.client(raw.client.as_ref()),
            expect: self.expected(&raw.expect),
        };
        (self.found.len() == before).then_some(request)
    }

    fn url(&mut self, at: &At<String>) -> (bool, String, String) {
        let (scheme, rest) = at.split_once("://").unwrap_or(("", at.as_str()));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if !matches!(scheme, "http" | "https") || host.is_empty() {
            self.helped(
                &at.span,
                format!("`{}` is no URL", at.value.escape_debug()),
                "write it as in https://shop.example/cart",
            );
        } else if at.contains(|c: char| c.is_ascii_control() || c == ' ') {
            self.helped(&at.span, "a URL holds no spaces and no control characters", "write a space as %20");
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        (scheme == "https", host.to_owned(), format!("{slash}{target}"))
    }

    fn method(&mut self, at: Option<&At<String>>, default: &str) -> String {
        let Some(at) = at else { return default.to_owned() };
        if at.is_empty() || !at.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.error(&at.span, format!("`{}` is no method", at.value.escape_debug()));
        }
        at.value.clone()
    }

    fn field(&mut self, at: &At<String>) -> String {
        let name = at.split_once(':').map_or("", |(name, _)| name.trim());
        if name.is_empty() || at.contains(['\r', '\n', '\0']) {
            let message = format!("`{}` is no header field", at.value.escape_debug());
            self.helped(&at.span, message, "write it as in \"Accept: text/html\"");
        }
        for (own, help) in [("host", "write it in `url`"), ("content-length", "it is that of `body`")] {
            if name.eq_ignore_ascii_case(own) {
                self.helped(&at.span, format!("`{name}` is not written here"), help);
            }
        }
        at.value.clone()
    }

    fn client(&mut self, at: Option<&At<String>>) -> IpAddr {
        let Some(at) = at else { return IpAddr::V4(CLIENT) };
        at.parse().unwrap_or_else(|_| {
            self.error(&at.span, format!("`{}` is no IP address", at.value.escape_debug()));
            IpAddr::V4(CLIENT)
        })
    }

    fn duration(&mut self, at: Option<&At<String>>) -> u64 {
        let Some(at) = at else { return 0 };
        match duration_ms(at) {
            Ok(ms) if ms <= TIME_MAX_MS => ms,
            Ok(_) => {
                self.error(&at.span, format!("`{}` is more than the 366 days that are possible", at.value));
                0
            }
            Err(message) => {
                self.error(&at.span, message);
                0
            }
        }
    }

    fn expected(&mut self, raw: &At<RawExpected>) -> Expected {
        let named = |at: &Option<At<String>>| at.as_ref().map(|at| (at.value.clone(), at.span.clone()));
        let apps: Vec<&str> = self.policy.apps.iter().map(|app| app.name.as_str()).collect();
        let routes = self.policy.apps.iter().flat_map(|app| &app.routes);
        let routes: Vec<&str> = routes.map(|route| route.name.as_str()).collect();
        let limits = self.policy.apps.iter().flat_map(|app| &app.rate_limits);
        let limits: Vec<&str> = limits.map(|limit| limit.name.as_str()).collect();
        let expected = Expected {
            action: self.wanted(raw.action.as_ref()),
            status: self.wanted(raw.status.as_ref()),
            rules: self.wanted(raw.rules.as_ref()),
            without_rules: self.wanted(raw.without_rules.as_ref()),
            app: self.known("app", named(&raw.app), &apps),
            route: self.known("route", named(&raw.route), &routes),
            upstream: self.upstream(raw.upstream.as_ref()),
            limit: self.known("rate limit", named(&raw.limit), &limits),
        };
        if expected.is_empty() {
            self.helped(
                &raw.span,
                "nothing is expected of the request",
                "add `action = \"deny\"`, `status = 403` or `rules`",
            );
        }
        expected
    }

    fn wanted<T: Clone>(&self, at: Option<&At<T>>) -> Option<Wanted<T>> {
        at.map(|at| Wanted { value: at.value.clone(), line: self.text.line_of(at.span.start) })
    }

    fn known(
        &mut self,
        what: &str,
        named: Option<(String, Range)>,
        names: &[&str],
    ) -> Option<Wanted<String>> {
        let (value, span) = named?;
        if !value.is_empty() && !names.contains(&value.as_str()) {
            let fault =
                self.text.error_at(&span, format!("the policy has no {what} `{}`", value.escape_debug()));
            let help = did_you_mean(&value, names.iter().copied()).unwrap_or_else(|| match names {
                [] => format!("it has no {what} at all"),
                _ => format!(
                    "known here: {}",
                    names.iter().take(NAMES_TOLD).copied().collect::<Vec<_>>().join(", ")
                ),
            });
            self.found.push(fault.with_help(help));
        }
        Some(Wanted { value, line: self.text.line_of(span.start) })
    }

    fn upstream(&mut self, at: Option<&At<String>>) -> Option<Wanted<String>> {
        let at = at?;
        let line = self.text.line_of(at.span.start);
        if at.is_empty() {
            return Some(Wanted { value: String::new(), line });
        }
        match Upstream::parse(at) {
            Ok(upstream) => Some(Wanted { value: upstream.place(), line }),
            Err(message) => {
                self.helped(
                    &at.span,
                    message,
                    "write it as the policy does, or \"\" for a request that none gets",
                );
                None
            }
        }
    }

    /// Requests of a sequence come in the order written, and all of them are not too many.
    fn order(&mut self, requests: &[Expectation]) {
        let mut ends = std::collections::HashMap::new();
        let mut all: u64 = 0;
        for request in requests {
            all = all.saturating_add(request.times.into());
            let Some(sequence) = &request.sequence else { continue };
            let end_ms = ends.entry(sequence).or_insert(0);
            let at_ms = request.at_ms.unwrap_or(*end_ms);
            if at_ms < *end_ms {
                let message = format!(
                    "`{}` comes before the one above it of its sequence is over",
                    request.name.escape_debug()
                );
                let fault = self.text.fault_in(request.line, message);
                self.found.push(fault.with_help("write requests of a sequence in the order of their `at`"));
            }
            *end_ms = at_ms.saturating_add(request.lasts_ms());
        }
        if all > PLAYED_MAX {
            self.found
                .push(self.text.error(format!("the file has {all} requests, {PLAYED_MAX} are possible")));
        }
    }

    fn error(&mut self, span: &Range, message: impl Into<String>) {
        self.found.push(self.text.error_at(span, message));
    }

    fn helped(&mut self, span: &Range, message: impl Into<String>, help: &str) {
        self.found.push(self.text.error_at(span, message).with_help(help));
    }
}

/// 2026-01-01T12:00:00Z: a time that stands, so that what a policy makes of a request does not depend on the day.
const NOW_MS: u64 = 1_767_268_800_000;
/// A documentation address (RFC 5737).
const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// Requests of one file.
const REQUESTS_MAX: usize = 10_000;
/// The same with all repetitions.
const PLAYED_MAX: u64 = 100_000;
/// How often one comes at most.
const TIMES_MAX: u32 = 10_000;
const TIME_MAX_MS: u64 = 366 * 86_400_000;
/// Names that a help line lists at most.
const NAMES_TOLD: usize = 12;
