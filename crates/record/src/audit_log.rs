//! The audit log of the rule engine in ModSecurity's two formats, for tools that read it: JSON, one object a line, and the
//! native one with its sections. It has no bodies: nothing keeps them. What rules say that ask to be left out
//! (`noauditlog`) is in neither.
//!
//! INVARIANT: an entry ends where its writer says. In JSON no text can end its line; in the native format no line of a
//! section starts with the dashes of a boundary, and the boundary is random for each entry.

use std::collections::BTreeMap;

use phalanx_model::{AccessEvent, AuditDetail, Signal};
use serde::{Deserialize, Serialize};

use crate::escape::{is_hidden, to_json_line};
use crate::modsecurity::{context, escaped, matched, message};
use crate::time;

/// The form of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuditFormat {
    /// As ModSecurity v3 writes it: one JSON object a line.
    #[default]
    Json,
    /// Sections between boundaries.
    Native,
}

/// Appends the entry of one request.
pub(crate) fn entry(
    out: &mut Vec<u8>,
    format: AuditFormat,
    server: &str,
    access: &AccessEvent,
    detail: &AuditDetail,
    signals: &[Signal],
) -> Result<(), serde_json::Error> {
    match format {
        AuditFormat::Json => {
            to_json_line(out, &Entry { transaction: transaction(server, access, detail, signals) })?;
            out.push(b'\n');
        }
        AuditFormat::Native => {
            let boundary = u32::from_be_bytes(phalanx_trust::random_bytes());
            out.extend_from_slice(native(boundary, access, detail, signals).as_bytes());
        }
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    transaction: Transaction<'a>,
}

#[derive(Debug, Serialize)]
struct Transaction<'a> {
    client_ip: String,
    time_stamp: String,
    server_id: &'a str,
    client_port: u16,
    host_ip: String,
    host_port: u16,
    unique_id: String,
    request: Request<'a>,
    response: Response<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    producer: Option<Producer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<Message<'a>>>,
}

#[derive(Debug, Serialize)]
struct Request<'a> {
    method: &'a str,
    http_version: f64,
    uri: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<&'a str, String>>,
}

#[derive(Debug, Serialize)]
struct Response<'a> {
    http_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<&'a str, String>>,
}

#[derive(Debug, Serialize)]
struct Producer<'a> {
    modsecurity: &'static str,
    connector: &'static str,
    secrules_engine: &'a str,
    components: &'a [String],
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    message: &'a str,
    details: Details<'a>,
}

/// The names, and that numbers are texts, are ModSecurity's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Details<'a> {
    r#match: String,
    reference: String,
    rule_id: String,
    file: &'a str,
    line_number: String,
    data: &'a str,
    severity: String,
    ver: &'a str,
    rev: &'a str,
    tags: Vec<&'a str>,
    maturity: &'a str,
    accuracy: &'a str,
}

fn transaction<'a>(
    server: &'a str,
    access: &'a AccessEvent,
    detail: &'a AuditDetail,
    signals: &'a [Signal],
) -> Transaction<'a> {
    let has = |part| detail.parts.has(part);
    let version = access.protocol.strip_prefix("HTTP/").and_then(|version| version.parse().ok());
    Transaction {
        client_ip: access.client.to_string(),
        time_stamp: time::asctime(access.at_ms),
        server_id: server,
        client_port: detail.client_port,
        host_ip: detail.host.to_string(),
        host_port: detail.host_port,
        unique_id: access.id.to_string(),
        request: Request {
            method: &access.method,
            http_version: version.unwrap_or_default(),
            uri: &access.target,
            headers: has('B').then(|| headers(&detail.request_fields)),
        },
        response: Response {
            http_code: access.status,
            headers: has('F').then(|| headers(&detail.response_fields)),
        },
        producer: has('H').then_some(Producer {
            modsecurity: PRODUCER,
            connector: PRODUCER,
            secrules_engine: detail.engine,
            components: &detail.components,
        }),
        messages: has('H').then(|| audited(signals).map(told).collect()),
    }
}

/// The signals of rules that do not say `noauditlog`.
fn audited(signals: &[Signal]) -> impl Iterator<Item = &Signal> {
    signals.iter().filter(|signal| !signal.rule.unaudited)
}

/// Fields by name. A reader of JSON keeps one of several members of a name, so values of one field stand together.
fn headers(fields: &[(String, String)]) -> BTreeMap<&str, String> {
    let mut map: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in fields {
        map.entry(name).and_modify(|all| *all = format!("{all}, {value}")).or_insert_with(|| value.clone());
    }
    map
}

fn told(signal: &Signal) -> Message<'_> {
    let rule = &signal.rule;
    let steps = signal.matches.last().map(|found| found.transformations.as_slice()).unwrap_or_default();
    Message {
        message: &signal.message,
        details: Details {
            r#match: matched(signal).unwrap_or_default(),
            reference: steps.iter().map(|step| format!("t:{step}")).collect::<Vec<_>>().join(","),
            rule_id: rule.id.to_string(),
            file: &rule.file,
            line_number: rule.line.to_string(),
            data: &signal.data,
            severity: rule.severity.map_or(0, |severity| severity as u8).to_string(),
            ver: &rule.edition.ver,
            rev: &rule.edition.rev,
            tags: rule.tags.iter().map(AsRef::as_ref).collect(),
            maturity: or_zero(&rule.edition.maturity),
            accuracy: or_zero(&rule.edition.accuracy),
        },
    }
}

/// ModSecurity writes 0 where a rule says nothing.
fn or_zero(text: &str) -> &str {
    if text.is_empty() { "0" } else { text }
}

fn native(boundary: u32, access: &AccessEvent, detail: &AuditDetail, signals: &[Signal]) -> String {
    let mut page = Native { out: String::new(), boundary };
    let (unique_id, client) = (access.id.to_string(), access.client.to_string());
    page.section('A');
    page.line(&format!(
        "[{}] {unique_id} {client} {} {} {}",
        time::native(access.at_ms),
        detail.client_port,
        detail.host,
        detail.host_port
    ));
    if detail.parts.has('B') {
        page.section('B');
        page.line(&format!("{} {} {}", access.method, access.target, access.protocol));
        page.fields(&detail.request_fields);
    }
    if detail.parts.has('F') {
        page.section('F');
        page.line(&format!("{} {}", access.protocol, access.status));
        page.fields(&detail.response_fields);
    }
    if detail.parts.has('H') {
        page.section('H');
        let mut denied = None;
        for signal in audited(signals) {
            let context = context(access, signal, &unique_id, &client);
            denied = denied.or(context.denied.map(|_| signal.phase));
            // The message is escaped already.
            page.out.push_str(&format!("Message: {}\n", message(signal, &context)));
        }
        if let Some(phase) = denied {
            page.line(&format!("Action: Intercepted (phase {phase})"));
        }
        page.line(&format!(
            "Stopwatch: {} {} (- - -)",
            access.at_ms.saturating_mul(1_000),
            access.duration_us
        ));
        let components = detail.components.iter().map(|component| format!("; {component}"));
        page.line(&format!("Producer: {PRODUCER}{}.", components.collect::<String>()));
        let mode = if detail.engine == "DetectionOnly" { "DETECTION_ONLY" } else { detail.engine };
        page.line(&format!("Engine-Mode: \"{}\"", mode.to_ascii_uppercase()));
    }
    if detail.parts.has('K') {
        page.section('K');
        for signal in audited(signals) {
            for line in signal.rule.source.lines() {
                page.rule(line);
            }
        }
    }
    page.section('Z');
    page.out.push('\n');
    page.out
}

/// An entry in sections.
struct Native {
    out: String,
    boundary: u32,
}

impl Native {
    fn section(&mut self, part: char) {
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
        self.out.push_str(&format!("--{:08x}-{part}--\n", self.boundary));
    }

    /// A line that cannot break, and cannot be taken for a boundary.
    fn line(&mut self, text: &str) {
        let text = plain(text);
        match text.strip_prefix('-') {
            Some(rest) => self.out.push_str(&format!("\\x2d{rest}\n")),
            None => self.out.push_str(&format!("{text}\n")),
        }
    }

    /// A line of a rule: it begins with its directive's name, and its backslashes belong to its patterns.
    fn rule(&mut self, text: &str) {
        let shown = text.chars().map(|c| if is_hidden(c) { ' ' } else { c });
        self.out.extend(shown);
        self.out.push('\n');
    }

    fn fields(&mut self, fields: &[(String, String)]) {
        for (name, value) in fields {
            self.line(&format!("{name}: {value}"));
        }
    }
}

/// Backslashes and everything that is not printable ASCII become `\xHH`; quotes mean nothing here.
fn plain(text: &str) -> String {
    escaped(text).replace("\\\"", "\"")
}

const PRODUCER: &str = concat!("Phalanx v", env!("CARGO_PKG_VERSION"));
