//! The access log: one JSON object per line, or a line as nginx's `combined` format has it.
//!
//! In JSON passed requests are written as `"log":"access"`, refused and flagged ones as `"log":"security"` with the rules that
//! matched, but without matched fragments: those stay in the sealed history, under the same id.

use std::io::Write as _;
use std::net::IpAddr;

use phalanx_model::{
    AccessEvent, Action, CheckKind, Ja4, Phases, Reason, RequestId, Signal, SpanId, TraceId,
};
use serde::{Deserialize, Serialize};

use crate::escape::{for_nginx, to_json_line};
use crate::request::RecordedRequest;
use crate::time::{clf, rfc3339};

/// How lines of the access log are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessFormat {
    /// One JSON object.
    #[default]
    Json,
    /// As nginx writes it and most log readers know it.
    Combined,
}

/// One line of the log.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    log: &'static str,
    time: String,
    at_ms: u64,
    id: RequestId,
    site: &'a str,
    node: &'a str,
    app: &'a str,
    client: IpAddr,
    peer: IpAddr,
    method: &'a str,
    host: &'a str,
    target: &'a str,
    protocol: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ja4: Option<Ja4>,
    /// How another proxy asked about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<CheckKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_print: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balancer: Option<IpAddr>,
    user_agent: &'a str,
    referer: &'a str,
    status: u16,
    action: Action,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    score: i32,
    request_bytes: u64,
    response_bytes: u64,
    duration_us: u64,
    upstream_us: u64,
    phases: Phases,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<TraceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<SpanId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<SpanId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarded_id: Option<&'a str>,
    plan_version: u64,
    view_revision: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<RuleLine<'a>>,
}

#[derive(Debug, Serialize)]
struct RuleLine<'a> {
    id: u64,
    message: &'a str,
    variable: &'a str,
    score: i32,
}

impl<'a> Line<'a> {
    /// The line of a request that was passed on.
    pub(crate) fn access(site: &'a str, node: &'a str, access: &'a AccessEvent) -> Self {
        Self::new("access", site, node, access)
    }

    /// The line of a refused or flagged request.
    pub(crate) fn security(record: &'a RecordedRequest) -> Self {
        let rules = record.signals.iter().map(|signal: &Signal| RuleLine {
            id: signal.rule.id,
            message: &signal.message,
            variable: signal.matches.first().map_or("", |m| &m.variable),
            score: signal.score,
        });
        Self { rules: rules.collect(), ..Self::new("security", &record.site, &record.node, &record.access) }
    }

    /// Appends the line with its line break.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let start = out.len();
        match to_json_line(out, self) {
            Ok(()) => {
                out.push(b'\n');
                Ok(())
            }
            Err(error) => {
                out.truncate(start);
                Err(error)
            }
        }
    }

    fn new(log: &'static str, site: &'a str, node: &'a str, access: &'a AccessEvent) -> Self {
        let (reason, detail) = reason(&access.verdict.reason);
        Self {
            log,
            time: rfc3339(access.at_ms),
            at_ms: access.at_ms,
            id: access.id,
            site,
            node,
            app: &access.app,
            client: access.client,
            peer: access.peer,
            method: &access.method,
            host: &access.host,
            target: &access.target,
            protocol: &access.protocol,
            tls: access.tls.as_deref(),
            tls_group: access.tls_group.as_deref(),
            check: access.check,
            ja4: access.ja4,
            http_print: access.http_print.as_deref(),
            balancer: access.balancer,
            user_agent: &access.user_agent,
            referer: &access.referer,
            status: access.status,
            action: access.verdict.action,
            reason,
            detail,
            score: access.verdict.score,
            request_bytes: access.request_bytes,
            response_bytes: access.response_bytes,
            duration_us: access.duration_us,
            upstream_us: access.upstream_us,
            phases: access.phases,
            upstream: access.upstream.as_deref(),
            trace_id: access.trace.map(|trace| trace.id),
            span_id: access.trace.and_then(|trace| trace.span),
            parent_id: access.trace.and_then(|trace| trace.parent),
            sampled: access.trace.map(|trace| trace.sampled),
            forwarded_id: access.forwarded_id.as_deref(),
            plan_version: access.plan_version,
            view_revision: access.view_revision,
            rules: Vec::new(),
        }
    }
}

/// Appends a line in nginx's `combined` format: client, no user, time, request, status, bytes, referer, user agent.
pub(crate) fn combined(out: &mut Vec<u8>, access: &AccessEvent) -> std::io::Result<()> {
    let or_dash = |text| for_nginx(if str::is_empty(text) { "-" } else { text });
    writeln!(
        out,
        "{} - - [{}] \"{} {} {}\" {:03} {} \"{}\" \"{}\"",
        access.client,
        clf(access.at_ms),
        for_nginx(&access.method),
        for_nginx(&access.target),
        for_nginx(&access.protocol),
        access.status,
        access.response_bytes,
        or_dash(&access.referer),
        or_dash(&access.user_agent),
    )
}

/// A reason's name, and the one fact that names its cause.
fn reason(reason: &Reason) -> (&'static str, Option<String>) {
    match reason {
        Reason::Clean => ("clean", None),
        Reason::AllowListed => ("allow_listed", None),
        Reason::Network => ("network", None),
        Reason::Challenge => ("challenge", None),
        Reason::Rule { rule } => ("rule", Some(rule.to_string())),
        Reason::Decision { decision } => ("decision", Some(decision.id.to_string())),
        Reason::Framing { fault } => ("framing", Some(fault.to_string())),
        Reason::Limit { limit } => ("limit", Some(limit.clone())),
        Reason::RateLimit(excess) => ("rate_limit", Some(excess.limit.to_string())),
        Reason::Failure { stage } => ("failure", Some(stage.clone())),
        Reason::Upstream { error } => ("upstream", Some(error.clone())),
    }
}
