//! Engine-wide directives: those with an effect, and those without one, each with the reason.

use super::ctl::{audit_engine, audit_parts, on_off, rule_engine};
use super::ir::{Engine, LimitAction};
use super::report::Report;
use phalanx_model::AuditParts;

type Set = fn(&mut Engine, &str, &mut Report<'_>);

/// Applies a directive with one value. `false`: the name is not among these.
pub(super) fn apply(name: &str, values: &[&str], engine: &mut Engine, report: &mut Report<'_>) -> bool {
    if let Some((known, set)) = SETTINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        match values {
            [value] => set(engine, value, report),
            _ => report.error(format!("{known} takes one value, not {}", values.len())),
        }
        return true;
    }
    if let Some((known, why)) = WITHOUT_EFFECT.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        report.warning(format!("{known} has no effect: {why}"));
        return true;
    }
    if let Some((known, why)) = OFF_ONLY.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        if !values.first().is_some_and(|value| value.eq_ignore_ascii_case("off")) {
            report.error(format!("{known} can only be `Off`: {why}"));
        }
        return true;
    }
    if let Some((known, why)) = REFUSED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        report.error(format!("{known} is not supported: {why}"));
        return true;
    }
    let [mime_type, mime_types_clear] = MIME_TYPES;
    if name.eq_ignore_ascii_case(mime_type) {
        let types = values.iter().map(|value| value.to_ascii_lowercase());
        for mime_type in types {
            if !engine.response_body_mime_types.contains(&mime_type) {
                engine.response_body_mime_types.push(mime_type);
            }
        }
        return true;
    }
    if name.eq_ignore_ascii_case(mime_types_clear) {
        engine.response_body_mime_types.clear();
        return true;
    }
    false
}

/// Names to suggest.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let settings = SETTINGS.iter().map(|(name, _)| *name);
    let others = WITHOUT_EFFECT.iter().chain(OFF_ONLY).map(|(name, _)| *name);
    settings.chain(others).chain(MIME_TYPES)
}

fn put<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str, report: &mut Report<'_>) -> Option<T> {
    let parsed = value.parse().ok();
    if parsed.is_none() {
        report.error(format!("{name} takes a number, not `{value}`"));
    }
    parsed
}

/// A ratio of sizes. Deflate reaches 1,032 times, applied twice a million: a larger one would say that there is no limit.
fn ratio(name: &str, value: &str, report: &mut Report<'_>) -> Option<usize> {
    let parsed = number(name, value, report)?;
    if (1..=DECODED_RATIO_LARGEST).contains(&parsed) {
        return Some(parsed);
    }
    report.error(format!("{name} is 1 to {DECODED_RATIO_LARGEST}, not {parsed}"));
    None
}

fn limit_action(name: &str, value: &str, report: &mut Report<'_>) -> Option<LimitAction> {
    match value.to_ascii_lowercase().as_str() {
        "reject" => Some(LimitAction::Reject),
        "processpartial" => Some(LimitAction::ProcessPartial),
        _ => {
            report.error(format!("{name} is `Reject` or `ProcessPartial`, not `{value}`"));
            None
        }
    }
}

/// Parts that hold bodies or what was found in them are understood and not written: nothing keeps a body.
fn audit_log_parts(value: &str, report: &mut Report<'_>) -> Option<AuditParts> {
    let parts = audit_parts(value, report)?;
    let missing: String = UNKEPT_PARTS.iter().filter(|part| parts.has(**part)).collect();
    if !missing.is_empty() {
        report.warning(format!(
            "SecAuditLogParts: the audit log has no part of `{missing}`, because no body is kept; it has A, B, F, H, K and Z"
        ));
    }
    Some(parts)
}

fn separator(value: &str, report: &mut Report<'_>) -> Option<u8> {
    match value.as_bytes() {
        [byte] => Some(*byte),
        _ => {
            report.error("SecArgumentSeparator takes one character");
            None
        }
    }
}

pub(super) const SETTINGS: &[(&str, Set)] = &[
    ("SecRuleEngine", |engine, value, report| put(&mut engine.rule_engine, rule_engine(value, report))),
    ("SecAuditEngine", |engine, value, report| put(&mut engine.audit_engine, audit_engine(value, report))),
    ("SecAuditLogParts", |engine, value, report| {
        put(&mut engine.audit_parts, audit_log_parts(value, report))
    }),
    ("SecAuditLogRelevantStatus", |engine, value, report| {
        engine.audit_relevant_status = Some((value.to_owned(), report.at()));
    }),
    ("SecRequestBodyAccess", |engine, value, report| {
        put(&mut engine.request_body_access, on_off("SecRequestBodyAccess", value, report));
    }),
    ("SecResponseBodyAccess", |engine, value, report| {
        put(&mut engine.response_body_access, on_off("SecResponseBodyAccess", value, report));
    }),
    ("SecRequestBodyLimit", |engine, value, report| {
        put(&mut engine.request_body_limit, number("SecRequestBodyLimit", value, report));
    }),
    ("SecRequestBodyNoFilesLimit", |engine, value, report| {
        put(&mut engine.request_body_no_files_limit, number("SecRequestBodyNoFilesLimit", value, report));
    }),
    ("SecRequestBodyLimitAction", |engine, value, report| {
        put(&mut engine.request_body_limit_action, limit_action("SecRequestBodyLimitAction", value, report));
    }),
    ("SecRequestBodyJsonDepthLimit", |engine, value, report| {
        put(&mut engine.request_body_json_depth_limit, number("SecRequestBodyJsonDepthLimit", value, report));
    }),
    ("SecRequestBodyDecodedRatio", |engine, value, report| {
        put(&mut engine.request_body_decoded_ratio, ratio("SecRequestBodyDecodedRatio", value, report));
    }),
    ("SecResponseBodyLimit", |engine, value, report| {
        put(&mut engine.response_body_limit, number("SecResponseBodyLimit", value, report));
    }),
    ("SecResponseBodyLimitAction", |engine, value, report| {
        put(
            &mut engine.response_body_limit_action,
            limit_action("SecResponseBodyLimitAction", value, report),
        );
    }),
    ("SecArgumentsLimit", |engine, value, report| {
        put(&mut engine.arguments_limit, number("SecArgumentsLimit", value, report));
    }),
    ("SecArgumentSeparator", |engine, value, report| {
        put(&mut engine.argument_separator, separator(value, report))
    }),
    ("SecCollectionTimeout", |engine, value, report| {
        put(&mut engine.collection_timeout_s, number("SecCollectionTimeout", value, report));
    }),
    ("SecParseXmlIntoArgs", |engine, value, report| {
        put(&mut engine.parse_xml_into_args, on_off("SecParseXmlIntoArgs", value, report));
    }),
    ("SecWebAppId", |engine, value, _| engine.web_app_id = Some(value.to_owned())),
    ("SecComponentSignature", |engine, value, _| engine.component_signatures.push(value.to_owned())),
];

/// Directives of the types of response bodies that are inspected: any number of them, or none.
pub(super) const MIME_TYPES: [&str; 2] = ["SecResponseBodyMimeType", "SecResponseBodyMimeTypesClear"];

/// See [`ratio`].
const DECODED_RATIO_LARGEST: usize = 1_000_000;

/// Parts with bodies (C, E, I), with files of them (J), and those that ModSecurity reserves (D, G).
const UNKEPT_PARTS: &[char] = &['C', 'D', 'E', 'G', 'I', 'J'];

const AUDIT: &str =
    "the node says where its audit log is; write `audit = \"/path/audit.log\"` under `[log]` in its settings";
const AUDIT_FORMAT: &str =
    "the node says it; write `audit_format = \"json\"` or `\"native\"` under `[log]` in its settings";
const AUDIT_SERIAL: &str = "the audit log is one file; `audit` under `[log]` in the node's settings names it";
const DEBUG: &str = "there is no debug log; `phalanx explain` shows what each rule saw";
const LINEAR: &str = "patterns here take linear time and need no match limit";
const MEMORY: &str = "the engine writes nothing to disk";
const CONNECTIONS: &str = "the edge limits connections by its own settings";

pub(super) const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("SecAuditLog", AUDIT),
    ("SecAuditLog2", AUDIT),
    ("SecAuditLogDir", AUDIT_SERIAL),
    ("SecAuditLogDirMode", AUDIT_SERIAL),
    ("SecAuditLogFileMode", AUDIT_SERIAL),
    ("SecAuditLogFormat", AUDIT_FORMAT),
    ("SecAuditLogPrefix", AUDIT_FORMAT),
    ("SecAuditLogStorageDir", AUDIT_SERIAL),
    ("SecAuditLogType", AUDIT_SERIAL),
    ("SecCacheTransformations", "transformed values are always kept for the next rule"),
    ("SecChrootDir", "the process is confined from outside"),
    ("SecConnEngine", CONNECTIONS),
    ("SecConnReadStateLimit", CONNECTIONS),
    ("SecConnWriteStateLimit", CONNECTIONS),
    ("SecCookieFormat", "cookies are read as RFC 6265 writes them"),
    ("SecCookieV0Separator", "cookies are read as RFC 6265 writes them"),
    ("SecDataDir", "collections are kept in memory"),
    ("SecDebugLog", DEBUG),
    ("SecDebugLogLevel", DEBUG),
    ("SecGeoLookupDb", "no location database is loaded"),
    ("SecGsbLookupDb", "a request does not wait for a lookup elsewhere"),
    ("SecGuardianLog", AUDIT),
    ("SecHttpBlKey", "a request does not wait for a lookup elsewhere"),
    ("SecInterceptOnError", "an app's `on_error` says what happens when a rule fails"),
    ("SecPcreMatchLimit", LINEAR),
    ("SecPcreMatchLimitRecursion", LINEAR),
    ("SecReadStateLimit", CONNECTIONS),
    ("SecRequestBodyInMemoryLimit", MEMORY),
    ("SecRuleInheritance", "each app has one rule set; there are no contexts to inherit from"),
    ("SecRulePerfTime", "`phalanx waf bench` measures rules"),
    ("SecRxPreFilter", "patterns are always filtered by their literals first"),
    ("SecSensorId", "a node has its own name"),
    ("SecServerSignature", "the edge sends no such signature"),
    ("SecStatusEngine", "the engine calls nobody"),
    ("SecStreamInBodyInspection", "bodies are held up to their limit and inspected whole"),
    ("SecStreamOutBodyInspection", "bodies are held up to their limit and inspected whole"),
    ("SecTmpDir", MEMORY),
    ("SecTmpSaveUploadedFiles", MEMORY),
    ("SecUploadDir", MEMORY),
    ("SecUploadFileLimit", MEMORY),
    ("SecUploadFileMode", MEMORY),
    ("SecUploadKeepFiles", MEMORY),
    ("SecWriteStateLimit", CONNECTIONS),
];

pub(super) const OFF_ONLY: &[(&str, &str)] = &[
    ("SecContentInjection", "the engine does not write into responses"),
    ("SecDisableBackendCompression", "the edge decides by itself what it asks the upstream for"),
    ("SecHashEngine", "the engine does not sign links"),
    ("SecXmlExternalEntity", "external entities are never fetched"),
];

pub(super) const REFUSED: &[(&str, &str)] = &[
    ("SecDataset", "put the lines into a file and use `@pmFromFile` or `@ipMatchFromFile`"),
    ("SecHashKey", "the engine does not sign links"),
    ("SecHashMethodPm", "the engine does not sign links"),
    ("SecHashMethodRx", "the engine does not sign links"),
    ("SecHashParam", "the engine does not sign links"),
    ("SecIgnoreRuleCompilationErrors", "a rule that cannot be read refuses the whole set"),
    ("SecRemoteRules", "rules are loaded from files; download them first"),
    ("SecRemoteRulesFailAction", "rules are loaded from files; download them first"),
    ("SecRuleScript", "the engine runs no programs and no scripts"),
    ("SecUnicodeCodePage", "the code page stands behind the file in SecUnicodeMapFile"),
];
