//! Objects that all classes share.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Serialize;

use super::{Class, MAPPING, SCHEMA, Writer};

/// What every event begins with.
#[derive(Debug, Serialize)]
pub(super) struct Head<'a> {
    category_uid: u8,
    category_name: &'static str,
    class_uid: u32,
    class_name: &'static str,
    activity_id: u8,
    activity_name: Cow<'a, str>,
    type_uid: u64,
    type_name: String,
    time: u64,
    pub(super) severity_id: u8,
    severity: &'static str,
    message: String,
    metadata: Metadata<'a>,
}

impl<'a> Head<'a> {
    pub(super) fn new(
        class: Class,
        (activity_id, activity_name): (u8, Cow<'a, str>),
        at_ms: u64,
        severity_id: u8,
        message: String,
        metadata: Metadata<'a>,
    ) -> Self {
        let (category_uid, category_name, class_name) = match class {
            Class::HttpActivity => (4, "Network Activity", "HTTP Activity"),
            Class::DetectionFinding => (2, "Findings", "Detection Finding"),
            Class::IncidentFinding => (2, "Findings", "Incident Finding"),
        };
        Self {
            category_uid,
            category_name,
            class_uid: class.uid(),
            class_name,
            activity_id,
            type_uid: u64::from(class.uid()) * 100 + u64::from(activity_id),
            // Of an activity that has no number the type's name does not hang on what strangers write.
            type_name: if activity_id == OTHER {
                format!("{class_name}: Other")
            } else {
                format!("{class_name}: {activity_name}")
            },
            activity_name,
            time: at_ms,
            severity_id,
            severity: severity(severity_id),
            message,
            metadata,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Metadata<'a> {
    version: &'static str,
    uid: Cow<'a, str>,
    product: Product,
    log_name: &'static str,
    log_version: &'static str,
    loggers: [Logger; 1],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    profiles: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_uid: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Product {
    name: &'static str,
    vendor_name: &'static str,
    version: &'static str,
}

#[derive(Debug, Serialize)]
struct Logger {
    name: &'static str,
    uid: String,
}

impl<'a> Metadata<'a> {
    pub(super) fn new(
        writer: Writer<'_>,
        class: Class,
        uid: impl Into<Cow<'a, str>>,
        profiles: &'static [&'static str],
    ) -> Self {
        Self {
            version: SCHEMA,
            uid: uid.into(),
            product: Product { name: "Phalanx", vendor_name: "Phalanx", version: env!("CARGO_PKG_VERSION") },
            log_name: class.label(),
            log_version: MAPPING,
            loggers: [Logger { name: "phalanx", uid: format!("{}/{}", writer.site, writer.node) }],
            profiles,
            correlation_uid: None,
        }
    }

    /// The incident that it belongs to.
    pub(super) fn belonging_to(self, incident: Option<&'a str>) -> Self {
        Self { correlation_uid: incident, ..self }
    }
}

/// One end of a connection.
#[derive(Debug, Default, Serialize)]
pub(super) struct Endpoint<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hostname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) svc_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) intermediate_ips: Vec<IpAddr>,
}

/// What to search for.
#[derive(Debug, Serialize)]
pub(super) struct Observable<'a> {
    name: &'static str,
    type_id: u8,
    r#type: &'static str,
    value: Cow<'a, str>,
}

impl<'a> Observable<'a> {
    pub(super) fn ip(name: &'static str, ip: IpAddr) -> Self {
        Self { name, type_id: 2, r#type: "IP Address", value: ip.to_string().into() }
    }

    pub(super) fn hostname(name: &'static str, host: &'a str) -> Self {
        Self { name, type_id: 1, r#type: "Hostname", value: host.into() }
    }

    pub(super) fn other(name: &'static str, value: &'a str) -> Self {
        Self { name, type_id: OTHER, r#type: "Other", value: value.into() }
    }
}

/// OCSF's number for what it has no number for.
pub(super) const OTHER: u8 = 99;

/// The caption of a `severity_id`.
pub(super) fn severity(id: u8) -> &'static str {
    match id {
        1 => "Informational",
        2 => "Low",
        3 => "Medium",
        4 => "High",
        5 => "Critical",
        6 => "Fatal",
        _ => "Unknown",
    }
}
