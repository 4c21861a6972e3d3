//! `ctl`: changes to the engine for the rest of one transaction. Also the selectors of rules, which `ctl` shares with
//! the `SecRuleRemoveBy` and `SecRuleUpdateTargetBy` directives.

use super::ir::{AuditEngine, AuditPartsChange, BodyProcessor, Ctl, RuleEngine, RuleSelector};
use super::report::Report;
use super::targets;
use crate::suggest::did_you_mean;
use phalanx_model::AuditParts;

/// Reads `name=value`. Removing several targets at once gives several changes.
pub(super) fn parse(text: &str, report: &mut Report<'_>) -> Vec<Ctl> {
    let Some((name, value)) = text.split_once('=') else {
        report.error(format!("`ctl:{text}` has no value; write `ctl:name=value`"));
        return Vec::new();
    };
    let (name, value) = (name.trim(), value.trim());
    let one = match name.to_ascii_lowercase().as_str() {
        "ruleengine" => rule_engine(value, report).map(Ctl::RuleEngine),
        "requestbodyaccess" => on_off(name, value, report).map(Ctl::RequestBodyAccess),
        "responsebodyaccess" => on_off(name, value, report).map(Ctl::ResponseBodyAccess),
        "forcerequestbodyvariable" => on_off(name, value, report).map(Ctl::ForceRequestBodyVariable),
        "parsexmlintoargs" => on_off(name, value, report).map(Ctl::ParseXmlIntoArgs),
        "requestbodyprocessor" => body_processor(value, report).map(Ctl::RequestBodyProcessor),
        "auditengine" => audit_engine(value, report).map(Ctl::AuditEngine),
        "auditlogparts" => audit_parts_change(value, report).map(Ctl::AuditLogParts),
        "ruleremovebyid" => ids(value, report).map(Ctl::RuleRemove),
        "ruleremovebytag" => Some(Ctl::RuleRemove(RuleSelector::Tag(value.to_owned()))),
        "ruleremovebymsg" => Some(Ctl::RuleRemove(RuleSelector::Message(value.to_owned()))),
        "ruleremovetargetbyid" => return remove_targets(name, value, ids, report),
        "ruleremovetargetbytag" => return remove_targets(name, value, tag, report),
        "ruleremovetargetbymsg" => return remove_targets(name, value, message, report),
        lower => {
            refuse(lower, name, report);
            None
        }
    };
    one.into_iter().collect()
}

fn refuse(lower: &str, name: &str, report: &mut Report<'_>) {
    if let Some((_, why)) = WITHOUT_EFFECT.iter().find(|(known, _)| *known == lower) {
        report.warning(format!("`ctl:{name}` has no effect: {why}"));
    } else if let Some((_, why)) = REFUSED.iter().find(|(known, _)| *known == lower) {
        report.error(format!("`ctl:{name}` is not supported: {why}"));
    } else {
        report.error_help(format!("unknown `ctl:{name}`"), did_you_mean(name, NAMES.iter().copied()));
    }
}

type ReadSelector = fn(&str, &mut Report<'_>) -> Option<RuleSelector>;

/// `SELECTOR;TARGETS`
fn remove_targets(name: &str, value: &str, selector: ReadSelector, report: &mut Report<'_>) -> Vec<Ctl> {
    let Some((which, what)) = value.split_once(';') else {
        report.error(format!("`ctl:{name}={value}` names no variable; write `ctl:{name}=RULES;VARIABLE`"));
        return Vec::new();
    };
    let Some(selector) = selector(which, report) else {
        return Vec::new();
    };
    let targets = targets::parse_list(what.trim().trim_start_matches('!'), report);
    targets.into_iter().map(|target| Ctl::RuleRemoveTarget(selector.clone(), target)).collect()
}

/// Reads `1`, `1-9`, and lists of them separated by commas or spaces.
pub(super) fn ids(text: &str, report: &mut Report<'_>) -> Option<RuleSelector> {
    let mut ranges = Vec::new();
    for part in text.split([',', ' ', '\t']).map(str::trim).filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        match (from.trim().parse::<u64>(), to.trim().parse::<u64>()) {
            (Ok(from), Ok(to)) if from <= to => ranges.push((from, to)),
            _ => {
                let help = part.contains(':').then(|| "a single link of a chain cannot be chosen".to_owned());
                report.error_help(format!("`{part}` is no rule id and no range of ids"), help);
                return None;
            }
        }
    }
    if ranges.is_empty() {
        report.error("no rule id is given");
        return None;
    }
    Some(RuleSelector::Ids(ranges))
}

fn tag(text: &str, _: &mut Report<'_>) -> Option<RuleSelector> {
    Some(RuleSelector::Tag(text.trim().to_owned()))
}

fn message(text: &str, _: &mut Report<'_>) -> Option<RuleSelector> {
    Some(RuleSelector::Message(text.trim().to_owned()))
}

/// `On` or `Off`.
pub(super) fn on_off(name: &str, value: &str, report: &mut Report<'_>) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "on" => Some(true),
        "off" => Some(false),
        _ => {
            report.error(format!("`{name}` is `On` or `Off`, not `{value}`"));
            None
        }
    }
}

/// `On`, `Off` or `DetectionOnly`.
pub(super) fn rule_engine(value: &str, report: &mut Report<'_>) -> Option<RuleEngine> {
    match value.to_ascii_lowercase().as_str() {
        "on" => Some(RuleEngine::On),
        "off" => Some(RuleEngine::Off),
        "detectiononly" => Some(RuleEngine::DetectionOnly),
        _ => {
            report.error(format!("the rule engine is `On`, `Off` or `DetectionOnly`, not `{value}`"));
            None
        }
    }
}

fn audit_parts_change(value: &str, report: &mut Report<'_>) -> Option<AuditPartsChange> {
    if let Some(more) = value.strip_prefix('+') {
        return audit_parts(more, report).map(AuditPartsChange::Add);
    }
    match value.strip_prefix('-') {
        Some(less) => audit_parts(less, report).map(AuditPartsChange::Remove),
        None => audit_parts(value, report).map(AuditPartsChange::Set),
    }
}

/// Letters of parts, as in `ABFHZ`.
pub(super) fn audit_parts(value: &str, report: &mut Report<'_>) -> Option<AuditParts> {
    AuditParts::parse(value)
        .map_err(|letter| {
            report.error_help(
                format!("`{letter}` is no part of the audit log"),
                Some("the parts are A to K and Z, as in `ABFHZ`".into()),
            );
        })
        .ok()
}

/// `On`, `Off` or `RelevantOnly`.
pub(super) fn audit_engine(value: &str, report: &mut Report<'_>) -> Option<AuditEngine> {
    match value.to_ascii_lowercase().as_str() {
        "on" => Some(AuditEngine::On),
        "off" => Some(AuditEngine::Off),
        "relevantonly" => Some(AuditEngine::RelevantOnly),
        _ => {
            report.error(format!("the audit engine is `On`, `Off` or `RelevantOnly`, not `{value}`"));
            None
        }
    }
}

fn body_processor(value: &str, report: &mut Report<'_>) -> Option<BodyProcessor> {
    let found = BodyProcessor::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(value));
    if found.is_none() {
        let known = BodyProcessor::ALL.map(BodyProcessor::name).join(", ");
        report.error(format!("`{value}` is no body processor; there are {known}"));
    }
    found
}

pub(super) const NAMES: &[&str] = &[
    "auditEngine",
    "auditLogParts",
    "forceRequestBodyVariable",
    "parseXmlIntoArgs",
    "requestBodyAccess",
    "requestBodyProcessor",
    "responseBodyAccess",
    "ruleEngine",
    "ruleRemoveById",
    "ruleRemoveByMsg",
    "ruleRemoveByTag",
    "ruleRemoveTargetById",
    "ruleRemoveTargetByMsg",
    "ruleRemoveTargetByTag",
];

pub(super) const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("debugloglevel", "there is no debug log; `phalanx explain` shows what each rule saw"),
    ("hashengine", "the engine does not sign links"),
    ("hashenforcement", "the engine does not sign links"),
];

pub(super) const REFUSED: &[(&str, &str)] = &[
    ("requestbodylimit", "the limit is an app's, not a request's"),
    ("responsebodyprocessor", "response bodies are inspected as text"),
    ("responsebodylimit", "the limit is an app's, not a request's"),
    ("ruleupdatetargetbyid", "only targets can be taken away per request; use ruleRemoveTargetById"),
];
