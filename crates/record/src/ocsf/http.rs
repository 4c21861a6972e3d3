//! A request as HTTP Activity, with the profiles for what a control did about it and for the trace that it belongs to.

use std::borrow::Cow;
use std::net::IpAddr;

use phalanx_model::{
    AccessEvent, Action, CheckKind, Confidence, Ja4, Phases, Reason, RuleClass, Signal, SpanId, TraceId,
};
use serde::Serialize;

use super::parts::{Endpoint, Head, Metadata, OTHER, Observable};
use super::{Class, Writer};

#[derive(Debug, Serialize)]
pub(super) struct HttpActivity<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    start_time: u64,
    end_time: u64,
    duration: u64,
    status_id: u8,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<String>,
    status_detail: String,
    action_id: u8,
    action: &'static str,
    disposition_id: u8,
    disposition: &'static str,
    is_alert: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence_id: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    firewall_rule: Option<FirewallRule<'a>>,
    policy: Policy<'a>,
    http_request: HttpRequest<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_response: Option<HttpResponse>,
    src_endpoint: Endpoint<'a>,
    dst_endpoint: Endpoint<'a>,
    connection_info: ConnectionInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Tls<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ja4_fingerprint_list: Vec<Fingerprint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<TraceOf>,
    observables: Vec<Observable<'a>>,
    unmapped: Unmapped<'a>,
}

#[derive(Debug, Serialize)]
struct FirewallRule<'a> {
    uid: String,
    name: Cow<'a, str>,
    r#type: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    match_location: &'a str,
}

#[derive(Debug, Serialize)]
struct Policy<'a> {
    name: &'a str,
    version: String,
    is_applied: bool,
}

#[derive(Debug, Serialize)]
struct HttpRequest<'a> {
    uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_method: Option<&'a str>,
    version: &'a str,
    url: Url<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    user_agent: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    referrer: &'a str,
    body_length: u64,
}

#[derive(Debug, Serialize)]
struct Url<'a> {
    scheme: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    query_string: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct HttpResponse {
    code: u16,
    body_length: u64,
    latency: u64,
}

#[derive(Debug, Serialize)]
struct ConnectionInfo {
    direction_id: u8,
    direction: &'static str,
    protocol_num: u8,
    protocol_name: &'static str,
}

#[derive(Debug, Serialize)]
struct Tls<'a> {
    version: &'a str,
}

#[derive(Debug, Serialize)]
struct Fingerprint {
    type_id: u8,
    r#type: &'static str,
    value: Ja4,
}

#[derive(Debug, Serialize)]
struct TraceOf {
    uid: TraceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    span: Option<SpanOf>,
}

#[derive(Debug, Serialize)]
struct SpanOf {
    uid: SpanId,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_uid: Option<SpanId>,
    start_time: u64,
    end_time: u64,
}

/// By the names of the access log.
#[derive(Debug, Serialize)]
struct Unmapped<'a> {
    site: &'a str,
    node: &'a str,
    host: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_print: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<CheckKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarded_id: Option<&'a str>,
    score: i32,
    view_revision: u64,
    upstream_us: u64,
    phases: Phases,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<RuleOf<'a>>,
}

#[derive(Debug, Serialize)]
struct RuleOf<'a> {
    id: u64,
    message: &'a str,
    variable: &'a str,
    score: i32,
}

impl HttpActivity<'_> {
    pub(super) fn severity(&self) -> u8 {
        self.head.severity_id
    }
}

pub(super) fn event<'a>(
    writer: Writer<'a>,
    access: &'a AccessEvent,
    signals: &'a [Signal],
) -> HttpActivity<'a> {
    let (path, query) = match access.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (access.target.as_str(), None),
    };
    let (activity_id, activity_name) = activity(&access.method);
    let detail = plain(&access.verdict.reason);
    let (hostname, port) = host(&access.host);
    let message = format!("{} {}{path}: {}, {detail}", access.method, access.host, access.status);
    let top = signals.iter().rev().max_by_key(|signal| (!signal.observed, confidence(signal), signal.score));
    let found = top.and_then(|signal| signal.rule.class.confidence());
    let is_attack = found == Some(Confidence::High);
    let severity = match (is_attack, access.verdict.action, signals.is_empty()) {
        (true, ..) => 3,
        (false, Action::Allow, true) => 1,
        _ => 2,
    };
    let (action_id, action, disposition_id, disposition) = outcome(access.verdict.action);
    let profiles: &[&str] =
        if access.trace.is_some() { &["security_control", "trace"] } else { &["security_control"] };
    let metadata = Metadata::new(writer, Class::HttpActivity, access.id.to_string(), profiles);
    let end_ms = access.at_ms.saturating_add(access.duration_us / 1_000);
    let (status_id, status) = match access.status {
        0 => (0, "Unknown"),
        1..400 => (1, "Success"),
        _ => (2, "Failure"),
    };
    let mut observables = vec![Observable::ip("src_endpoint.ip", access.client)];
    observables.extend(hostname.map(|host| Observable::hostname("http_request.url.hostname", host)));
    HttpActivity {
        head: Head::new(
            Class::HttpActivity,
            (activity_id, activity_name),
            access.at_ms,
            severity,
            message,
            metadata,
        ),
        start_time: access.at_ms,
        end_time: end_ms,
        duration: access.duration_us / 1_000,
        status_id,
        status,
        status_code: (access.status != 0).then(|| access.status.to_string()),
        status_detail: detail,
        action_id,
        action,
        disposition_id,
        disposition,
        is_alert: is_attack,
        confidence_id: found.map(confidence_id),
        confidence: found.map(confidence_caption),
        firewall_rule: firewall_rule(&access.verdict.reason, top),
        policy: Policy { name: &access.app, version: access.plan_version.to_string(), is_applied: true },
        http_request: HttpRequest {
            uid: access.id.to_string(),
            // The schema has no room for others; `activity_name` has them.
            http_method: (activity_id != OTHER).then_some(&access.method),
            version: access.protocol.trim_start_matches("HTTP/"),
            url: Url {
                scheme: if access.tls.is_some() { "https" } else { "http" },
                hostname,
                port,
                path,
                query_string: query,
            },
            user_agent: &access.user_agent,
            referrer: &access.referer,
            body_length: access.request_bytes,
        },
        http_response: (access.status != 0).then_some(HttpResponse {
            code: access.status,
            body_length: access.response_bytes,
            latency: access.duration_us / 1_000,
        }),
        src_endpoint: Endpoint {
            ip: Some(access.client),
            intermediate_ips: between(access),
            ..Endpoint::default()
        },
        dst_endpoint: Endpoint { hostname, svc_name: Some(&access.app), ..Endpoint::default() },
        connection_info: ConnectionInfo {
            direction_id: 1,
            direction: "Inbound",
            protocol_num: 6,
            protocol_name: "tcp",
        },
        tls: access.tls.as_deref().map(|version| Tls { version }),
        ja4_fingerprint_list: access
            .ja4
            .map(|value| Fingerprint { type_id: 1, r#type: "JA4", value })
            .into_iter()
            .collect(),
        trace: access.trace.map(|trace| TraceOf {
            uid: trace.id,
            span: trace.span.map(|uid| SpanOf {
                uid,
                parent_uid: trace.parent,
                start_time: access.at_ms,
                end_time: end_ms,
            }),
        }),
        observables,
        unmapped: unmapped(writer, access, signals),
    }
}

fn unmapped<'a>(writer: Writer<'a>, access: &'a AccessEvent, signals: &'a [Signal]) -> Unmapped<'a> {
    let rules = signals.iter().map(|signal| RuleOf {
        id: signal.rule.id,
        message: &signal.message,
        variable: variable(signal),
        score: signal.score,
    });
    Unmapped {
        site: writer.site,
        node: writer.node,
        host: &access.host,
        route: access.route.as_deref(),
        upstream: access.upstream.as_deref(),
        tls_group: access.tls_group.as_deref(),
        http_print: access.http_print.as_deref(),
        check: access.check,
        forwarded_id: access.forwarded_id.as_deref(),
        score: access.verdict.score,
        view_revision: access.view_revision,
        upstream_us: access.upstream_us,
        phases: access.phases,
        rules: rules.collect(),
    }
}

fn variable(signal: &Signal) -> &str {
    signal.matches.first().map_or("", |found| &found.variable)
}

fn confidence(signal: &Signal) -> u8 {
    signal.rule.class.confidence().map_or(0, confidence_id)
}

/// Who passed it on: balancer and forwarder, where they are not the client.
fn between(access: &AccessEvent) -> Vec<IpAddr> {
    let hops = [Some(access.peer), access.balancer];
    hops.into_iter().flatten().filter(|hop| *hop != access.client).collect()
}

/// A method's number and caption; a method that has none goes by its own name.
fn activity(method: &str) -> (u8, Cow<'_, str>) {
    const KNOWN: [&str; 9] = ["Connect", "Delete", "Get", "Head", "Options", "Post", "Put", "Trace", "Patch"];
    // Methods are case-sensitive (RFC 9110, section 9.1).
    let is = |caption: &&str| caption.to_ascii_uppercase() == method;
    match (1..).zip(KNOWN).find(|(_, caption)| is(caption)) {
        Some((id, caption)) => (id, caption.into()),
        None => (OTHER, method.into()),
    }
}

/// A name of a host and a port, of what stands in the Host field; what is no name is in `unmapped` only.
fn host(field: &str) -> (Option<&str>, Option<u16>) {
    let (name, port) = match field.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && !name.contains(':') => (name, port.parse().ok()),
        _ => (field, None),
    };
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_name = !name.is_empty() && name.len() <= 253 && name.bytes().all(in_name);
    (is_name.then_some(name), port)
}

/// `action_id` and `disposition_id` with their captions.
fn outcome(action: Action) -> (u8, &'static str, u8, &'static str) {
    match action {
        Action::Allow => (1, "Allowed", 1, "Allowed"),
        Action::Observe => (3, "Observed", 15, "Detected"),
        Action::Challenge => (2, "Denied", 23, "Challenge"),
        Action::Tarpit => (2, "Denied", 14, "Delayed"),
        Action::Throttle | Action::Deny => (2, "Denied", 2, "Blocked"),
    }
}

/// The rule that decided, else the one that says most. What it matched stays in the sealed history.
fn firewall_rule<'a>(reason: &'a Reason, top: Option<&'a Signal>) -> Option<FirewallRule<'a>> {
    let of = |uid: String, name: &'a str, kind| FirewallRule {
        uid,
        name: name.into(),
        r#type: kind,
        match_location: "",
    };
    match (reason, top) {
        (Reason::Decision { decision }, _) => Some(FirewallRule {
            uid: decision.id.to_string(),
            name: decision.actor.key().to_string().into(),
            r#type: "decision",
            match_location: "",
        }),
        (Reason::RateLimit(excess), _) => Some(of(excess.limit.to_string(), &excess.limit, "rate limit")),
        (Reason::Limit { limit }, _) => Some(of(limit.clone(), limit, "limit")),
        (_, Some(signal)) => Some(FirewallRule {
            uid: signal.rule.id.to_string(),
            name: signal.message.as_str().into(),
            r#type: match signal.rule.class {
                RuleClass::Detection(_) => "detection",
                RuleClass::Policy => "policy",
                RuleClass::Protocol => "protocol",
            },
            match_location: variable(signal),
        }),
        (Reason::Rule { rule }, None) => Some(of(rule.to_string(), "rule", "rule")),
        _ => None,
    }
}

/// A reason in plain words.
fn plain(reason: &Reason) -> String {
    match reason {
        Reason::Clean => "nothing spoke against it".into(),
        Reason::AllowListed => "the address is on the allow-list".into(),
        Reason::Challenge => "every client there is challenged first, or this one answered too early".into(),
        Reason::Network => "no client of this network may ask there".into(),
        Reason::Rule { rule } => format!("rule {rule}"),
        Reason::Decision { decision } => format!("decision {}", decision.id),
        Reason::Framing { fault } => format!("framing: {fault}"),
        Reason::Limit { limit } => format!("limit {limit}"),
        Reason::RateLimit(excess) => format!("rate limit {} of {}", excess.limit, excess.key),
        Reason::Failure { stage } => format!("{stage} failed"),
        Reason::Upstream { error } => format!("upstream: {error}"),
    }
}

/// OCSF's `confidence_id`.
pub(super) fn confidence_id(confidence: Confidence) -> u8 {
    match confidence {
        Confidence::Low => 1,
        Confidence::Medium => 2,
        Confidence::High => 3,
    }
}

/// Its caption.
pub(super) fn confidence_caption(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Low => "Low",
        Confidence::Medium => "Medium",
        Confidence::High => "High",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_with_ports_or_not_told() {
        for (field, expected) in [
            ("shop.example", (Some("shop.example"), None)),
            ("shop.example:8443", (Some("shop.example"), Some(8_443))),
            ("192.0.2.1:80", (Some("192.0.2.1"), Some(80))),
            ("shop.example:99999", (Some("shop.example"), None)),
            ("[2001:db8::1]:80", (None, None)),
            ("2001:db8::1", (None, None)),
            ("a b", (None, None)),
            ("", (None, None)),
        ] {
            assert_eq!(host(field), expected, "{field}");
        }
    }

    #[test]
    fn methods_of_others_have_one_number() {
        assert_eq!(activity("GET"), (3, "Get".into()));
        assert_eq!(activity("TRACE"), (8, "Trace".into()));
        assert_eq!(activity("PATCH"), (9, "Patch".into()));
        for method in ["get", "PROPFIND", "", "EVIL"] {
            assert_eq!(activity(method), (OTHER, method.into()));
        }
    }
}
