//! Events as records of OpenTelemetry logs, to a collector: OTLP over HTTP in its JSON form (OTLP 1.x, "JSON Protobuf Encoding").
//!
//! The body of a record is the event itself, with its structure; nothing has to be parsed there.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::courier::Delivered;
use crate::ocsf::{Line, SCHEMA};

/// Where records go, and what they say of this node.
#[derive(Debug, Clone)]
pub struct OtlpLogs {
    /// The collector, as `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// What the node is called there.
    pub service: String,
}

/// Sends batches, one request for each.
#[derive(Debug)]
pub(crate) struct Sender {
    to: OtlpLogs,
    site: String,
    node: String,
    runtime: tokio::runtime::Runtime,
}

/// What a collector says of records that it did not take.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Answer {
    partial_success: Partial,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Partial {
    /// A number of 64 bits, which the encoding writes as text.
    rejected_log_records: Value,
    error_message: String,
}

impl Sender {
    pub(crate) fn new(to: OtlpLogs, site: &str, node: &str) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { to, site: site.to_owned(), node: node.to_owned(), runtime })
    }

    /// Sends one batch.
    pub(crate) fn deliver(&mut self, batch: &[Arc<Line>]) -> Delivered {
        match self.post(batch) {
            Ok((lost, why)) => {
                let error =
                    (lost > 0).then(|| io::Error::other(format!("the collector refused records: {why}")));
                Delivered { lost: lost.min(batch.len()), error }
            }
            Err(error) => Delivered { lost: batch.len(), error: Some(error) },
        }
    }

    fn post(&self, batch: &[Arc<Line>]) -> io::Result<(usize, String)> {
        let body = serde_json::to_vec(&records(&self.to.service, &self.site, &self.node, batch))?;
        let request = http::Request::post(format!("{}/v1/logs", self.to.endpoint))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(body))
            .map_err(io::Error::other)?;
        // The timer wants the runtime.
        let asked = async { tokio::time::timeout(SEND_MAX, crate::spans::post(request)).await };
        let answer = self.runtime.block_on(asked).map_err(|_| io::ErrorKind::TimedOut)?;
        let answer = answer.map_err(io::Error::other)?;
        if !answer.status().is_success() {
            return Err(io::Error::other(format!("the collector answers with {}", answer.status())));
        }
        let told: Answer = serde_json::from_slice(answer.body()).unwrap_or_default();
        let rejected = told.partial_success.rejected_log_records;
        let rejected = rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0);
        Ok((usize::try_from(rejected).unwrap_or(usize::MAX), told.partial_success.error_message))
    }
}

/// The request's body.
pub(crate) fn records(service: &str, site: &str, node: &str, batch: &[Arc<Line>]) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let version = env!("CARGO_PKG_VERSION");
    let records: Vec<Value> = batch.iter().map(|line| record(line)).collect();
    json!({"resourceLogs": [{
        "resource": {"attributes": [
            text("service.name", service),
            text("service.version", version),
            text("service.instance.id", &format!("{site}/{node}")),
            text("phalanx.site", site),
            text("phalanx.node", node),
        ]},
        "scopeLogs": [{"scope": {"name": "phalanx", "version": version}, "logRecords": records}],
    }]})
}

fn record(line: &Line) -> Value {
    let (number, text) = match line.severity {
        2 => (10, "Low"),
        3 => (13, "Medium"),
        4 => (17, "High"),
        5 => (18, "Critical"),
        6 => (21, "Fatal"),
        _ => (9, "Informational"),
    };
    let nanos = u128::from(line.at_ms) * 1_000_000;
    let event: Value = serde_json::from_str(&line.json).unwrap_or_default();
    let mut record = json!({
        "timeUnixNano": nanos.to_string(),
        "severityNumber": number,
        "severityText": text,
        "eventName": format!("ocsf.{}", line.class.label()),
        "attributes": [
            {"key": "ocsf.version", "value": {"stringValue": SCHEMA}},
            {"key": "ocsf.class_uid", "value": {"intValue": line.class.uid().to_string()}},
        ],
        "body": any(&event),
    });
    if let (Some((trace, span)), Some(members)) = (line.trace, record.as_object_mut()) {
        members.insert("traceId".into(), format!("{trace:032x}").into());
        if span != 0 {
            members.insert("spanId".into(), format!("{span:016x}").into());
        }
    }
    record
}

/// A JSON value as an `AnyValue`; numbers of 64 bits are texts there.
fn any(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(is) => json!({"boolValue": is}),
        Value::Number(number) if number.is_f64() => json!({"doubleValue": number}),
        Value::Number(number) => json!({"intValue": number.to_string()}),
        Value::String(text) => json!({"stringValue": text}),
        Value::Array(all) => json!({"arrayValue": {"values": all.iter().map(any).collect::<Vec<_>>()}}),
        Value::Object(members) => {
            let members: Vec<Value> =
                members.iter().map(|(key, value)| json!({"key": key, "value": any(value)})).collect();
            json!({"kvlistValue": {"values": members}})
        }
    }
}

/// How long the collector may take for a batch.
const SEND_MAX: Duration = Duration::from_secs(10);
