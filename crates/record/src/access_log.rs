//! The access log: one JSON object per line, or a line as nginx's `combined` format has it.
//!
//! In JSON passed requests are written as `"log":"access"`, refused and flagged ones as `"log":"security"` with the rules that
//! matched, but without matched fragments: those stay in the sealed history, under the same id.

use phalanx_model::text::{push_decimal, push_ip};
use phalanx_model::{AccessEvent, ChallengeStep, Deed, Phases, Reason, Signal, Trace};
use serde::Deserialize;

use crate::escape::{for_nginx, push_json_log};
use crate::request::RecordedRequest;
use crate::time::{push_clf, push_rfc3339};

/// How lines of the access log are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AccessFormat {
    /// One JSON object.
    #[default]
    Json,
    /// As nginx writes it and most log readers know it.
    Combined,
}

/// Appends the line of a request that was passed on.
pub(crate) fn access(out: &mut Vec<u8>, site: &str, node: &str, access: &AccessEvent) {
    let mut line = Line::start(out, "access");
    line.request(site, node, access);
    line.end();
}

/// Appends the line of a refused or flagged request.
pub(crate) fn security(out: &mut Vec<u8>, record: &RecordedRequest) {
    let mut line = Line::start(out, "security");
    line.request(&record.site, &record.node, &record.access);
    line.rules(&record.signals);
    line.end();
}

/// A member's name as it stands between two members.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// One line being written: a JSON object without white space. Every request has one, so members are appended as bytes; what is
/// not printable ASCII takes the way of all text from strangers.
struct Line<'a>(&'a mut Vec<u8>);

impl<'a> Line<'a> {
    fn start(out: &'a mut Vec<u8>, log: &str) -> Self {
        // Lines are some 900 bytes long.
        out.reserve(1_024);
        out.extend_from_slice(b"{\"log\":\"");
        out.extend_from_slice(log.as_bytes());
        out.push(b'"');
        Self(out)
    }

    fn end(self) {
        self.0.extend_from_slice(b"}\n");
    }

    fn request(&mut self, site: &str, node: &str, access: &AccessEvent) {
        self.quoted(key!("time"), |out| push_rfc3339(out, access.at_ms));
        self.number(key!("at_ms"), access.at_ms);
        self.quoted(key!("id"), |out| out.extend_from_slice(&access.id.to_text()));
        self.text(key!("site"), site);
        self.text(key!("node"), node);
        self.text(key!("app"), &access.app);
        self.text_if(key!("route"), access.route.as_deref());
        self.quoted(key!("client"), |out| push_ip(out, access.client));
        self.quoted(key!("peer"), |out| push_ip(out, access.peer));
        self.text(key!("method"), &access.method);
        self.text(key!("host"), &access.host);
        self.text(key!("target"), &access.target);
        self.text(key!("protocol"), &access.protocol);
        self.client(access);
        self.text(key!("user_agent"), &access.user_agent);
        self.text(key!("referer"), &access.referer);
        self.outcome(access);
        self.number(key!("request_bytes"), access.request_bytes);
        self.number(key!("response_bytes"), access.response_bytes);
        self.number(key!("duration_us"), access.duration_us);
        self.number(key!("upstream_us"), access.upstream_us);
        self.phases(access.phases);
        self.text_if(key!("upstream"), access.upstream.as_deref());
        access.trace.iter().for_each(|trace| self.trace(trace));
        self.text_if(key!("forwarded_id"), access.forwarded_id.as_deref());
        self.number(key!("plan_version"), access.plan_version);
        self.number(key!("view_revision"), access.view_revision);
    }

    /// What is known of who asked beyond the address.
    fn client(&mut self, access: &AccessEvent) {
        self.text_if(key!("tls"), access.tls.as_deref());
        self.text_if(key!("tls_group"), access.tls_group.as_deref());
        if let Some(ja4) = &access.ja4 {
            self.quoted(key!("ja4"), |out| out.extend_from_slice(ja4.as_bytes()));
        }
        self.text_if(key!("check"), access.check.map(phalanx_model::CheckKind::as_str));
        self.text_if(key!("http_print"), access.http_print.as_deref());
        if let Some(balancer) = access.balancer {
            self.quoted(key!("balancer"), |out| push_ip(out, balancer));
        }
        if access.crawler {
            self.0.extend_from_slice(br#","crawler":true"#);
        }
        access.deed.iter().for_each(|deed| self.deed(deed));
    }

    fn outcome(&mut self, access: &AccessEvent) {
        let (reason, detail) = reason(&access.verdict.reason);
        self.number(key!("status"), u64::from(access.status));
        self.text(key!("action"), access.verdict.action.as_str());
        self.text(key!("reason"), reason);
        self.text_if(key!("detail"), detail.as_deref());
        self.signed(key!("score"), access.verdict.score);
        self.text_if(key!("challenge"), access.challenge.map(ChallengeStep::name));
    }

    /// Whose it was and what it tried; nothing in it is text from strangers.
    fn deed(&mut self, deed: &Deed) {
        self.0.extend_from_slice(key!("deed").as_bytes());
        // Writing to a vector cannot fail.
        let _ = serde_json::to_writer(&mut *self.0, deed);
    }

    fn phases(&mut self, phases: Phases) {
        self.0.extend_from_slice(br#","phases":{"head_us":"#);
        push_decimal(self.0, phases.head_us);
        self.number(key!("inspect_us"), phases.inspect_us);
        self.number(key!("queue_us"), phases.queue_us);
        self.number(key!("connect_us"), phases.connect_us);
        self.number(key!("upstream_us"), phases.upstream_us);
        self.0.push(b'}');
    }

    fn trace(&mut self, trace: &Trace) {
        self.text(key!("trace_id"), &trace.id.to_string());
        self.text_if(key!("span_id"), trace.span.map(|span| span.to_string()).as_deref());
        self.text_if(key!("parent_id"), trace.parent.map(|parent| parent.to_string()).as_deref());
        self.0.extend_from_slice(if trace.sampled { br#","sampled":true"# } else { br#","sampled":false"# });
    }

    fn rules(&mut self, signals: &[Signal]) {
        for (place, signal) in signals.iter().enumerate() {
            self.0.extend_from_slice(if place == 0 { br#","rules":[{"id":"# } else { br#",{"id":"# });
            push_decimal(self.0, signal.rule.id);
            self.text(key!("message"), &signal.message);
            self.text(key!("variable"), signal.matches.first().map_or("", |found| &found.variable));
            self.signed(key!("score"), signal.score);
            self.0.push(b'}');
        }
        if !signals.is_empty() {
            self.0.push(b']');
        }
    }

    fn number(&mut self, key: &str, number: u64) {
        self.0.extend_from_slice(key.as_bytes());
        push_decimal(self.0, number);
    }

    fn signed(&mut self, key: &str, number: i32) {
        self.0.extend_from_slice(key.as_bytes());
        if number < 0 {
            self.0.push(b'-');
        }
        push_decimal(self.0, u64::from(number.unsigned_abs()));
    }

    fn text(&mut self, key: &str, text: &str) {
        self.0.extend_from_slice(key.as_bytes());
        push_json_log(self.0, text);
    }

    fn text_if(&mut self, key: &str, text: Option<&str>) {
        text.into_iter().for_each(|text| self.text(key, text));
    }

    /// A member of which the text needs no escape.
    fn quoted(&mut self, key: &str, push: impl FnOnce(&mut Vec<u8>)) {
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(b'"');
        push(self.0);
        self.0.push(b'"');
    }
}

/// Appends a line in nginx's `combined` format: client, no user, time, request, status, bytes, referer, user agent.
pub(crate) fn combined(out: &mut Vec<u8>, access: &AccessEvent) {
    let text = |out: &mut Vec<u8>, text: &str| out.extend_from_slice(for_nginx(text).as_bytes());
    let or_dash = |text| if str::is_empty(text) { "-" } else { text };
    push_ip(out, access.client);
    out.extend_from_slice(b" - - [");
    push_clf(out, access.at_ms);
    out.extend_from_slice(b"] \"");
    text(out, &access.method);
    out.push(b' ');
    text(out, &access.target);
    out.push(b' ');
    text(out, &access.protocol);
    out.extend_from_slice(b"\" ");
    // No answer is 000, as nginx has it.
    out.extend_from_slice(if access.status == 0 { b"00" } else { b"" });
    push_decimal(out, u64::from(access.status));
    out.push(b' ');
    push_decimal(out, access.response_bytes);
    for field in [&access.referer, &access.user_agent] {
        out.extend_from_slice(b" \"");
        text(out, or_dash(field));
        out.push(b'"');
    }
    out.push(b'\n');
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
