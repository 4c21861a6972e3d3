//! What kind of rule a rule is: its tags say so, or, for the Core Rule Set, its number.

use std::sync::Arc;

use phalanx_model::{Confidence, RuleClass, Severity};

/// What the class depends on.
#[derive(Debug)]
pub(crate) struct Described<'a> {
    pub(crate) id: u64,
    pub(crate) phase: u8,
    pub(crate) tags: &'a [Arc<str>],
    pub(crate) severity: Option<Severity>,
}

/// The class of a rule. Tags `phalanx/class/...` and `phalanx/confidence/...` win over everything.
pub(crate) fn classify(rule: &Described<'_>) -> RuleClass {
    let stated = tag_after(rule.tags, "phalanx/confidence/").and_then(|confidence| match confidence {
        "high" => Some(Confidence::High),
        "medium" => Some(Confidence::Medium),
        "low" => Some(Confidence::Low),
        _ => None,
    });
    match tag_after(rule.tags, "phalanx/class/") {
        Some("policy") => return RuleClass::Policy,
        Some("protocol") => return RuleClass::Protocol,
        Some("detection") => return RuleClass::Detection(stated.unwrap_or_else(|| confidence(rule))),
        _ => {}
    }
    if let Some(stated) = stated {
        return RuleClass::Detection(stated);
    }
    if has_tag(rule.tags, "OWASP_CRS") { core_rule_class(rule) } else { other_class(rule) }
}

/// By the files of the Core Rule Set: the first three digits of the id.
fn core_rule_class(rule: &Described<'_>) -> RuleClass {
    match rule.id / 1000 {
        900..=912 | 949 | 959 | 980 | 999 => RuleClass::Policy,
        913 => RuleClass::Detection(Confidence::Low),
        920 if CONTENT_POLICY.contains(&rule.id) => RuleClass::Policy,
        920 | 922 => RuleClass::Protocol,
        // Header injection and smuggling are attacks, but proxies and odd clients produce their shapes too.
        921 => RuleClass::Detection(confidence(rule).min(Confidence::Medium)),
        _ => RuleClass::Detection(confidence(rule)),
    }
}

fn other_class(rule: &Described<'_>) -> RuleClass {
    let attack = rule.tags.iter().any(|tag| tag.starts_with("attack-"));
    let protocol = rule.tags.iter().any(|tag| tag.contains("protocol"));
    match (attack, protocol) {
        (_, true) => RuleClass::Protocol,
        (true, false) => RuleClass::Detection(Confidence::Medium),
        (false, false) => RuleClass::Detection(Confidence::Low),
    }
}

/// How sure a detection of the Core Rule Set is: its severity and paranoia level say how often it errs.
fn confidence(rule: &Described<'_>) -> Confidence {
    // What a response leaks is the application's doing: no reason to strike against the client.
    if rule.phase >= 3 {
        return Confidence::Low;
    }
    let level = tag_after(rule.tags, "paranoia-level/").and_then(|level| level.parse::<u8>().ok());
    match (level, rule.severity) {
        (Some(1), Some(Severity::Emergency | Severity::Alert | Severity::Critical)) => Confidence::High,
        (Some(2), Some(Severity::Emergency | Severity::Alert | Severity::Critical)) => Confidence::Medium,
        _ => Confidence::Low,
    }
}

fn has_tag(tags: &[Arc<str>], wanted: &str) -> bool {
    tags.iter().any(|tag| tag.as_ref() == wanted)
}

fn tag_after<'a>(tags: &'a [Arc<str>], prefix: &str) -> Option<&'a str> {
    tags.iter().find_map(|tag| tag.strip_prefix(prefix))
}

/// Rules of the 920 file that state what is allowed here: sizes, counts, content types, versions, extensions, headers.
const CONTENT_POLICY: &[u64] = &[
    920_340, 920_350, 920_360, 920_370, 920_380, 920_390, 920_400, 920_410, 920_420, 920_430, 920_440,
    920_450, 920_451, 920_470, 920_480, 920_500, 920_510, 920_521, 920_530, 920_640,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn class(id: u64, phase: u8, tags: &[&str], severity: Severity) -> RuleClass {
        let tags: Vec<Arc<str>> = tags.iter().map(|tag| Arc::from(*tag)).collect();
        classify(&Described { id, phase, tags: &tags, severity: Some(severity) })
    }

    #[test]
    fn core_rules_are_classed_by_file_and_paranoia() {
        let sqli = |level: &str| class(942_100, 2, &["OWASP_CRS", "attack-sqli", level], Severity::Critical);
        assert_eq!(sqli("paranoia-level/1"), RuleClass::Detection(Confidence::High));
        assert_eq!(sqli("paranoia-level/2"), RuleClass::Detection(Confidence::Medium));
        assert_eq!(sqli("paranoia-level/3"), RuleClass::Detection(Confidence::Low));
        let other = |id, phase| class(id, phase, &["OWASP_CRS", "paranoia-level/1"], Severity::Critical);
        assert_eq!(other(920_170, 1), RuleClass::Protocol);
        assert_eq!(other(911_100, 1), RuleClass::Policy);
        assert_eq!(other(949_110, 2), RuleClass::Policy);
        assert_eq!(other(921_110, 2), RuleClass::Detection(Confidence::Medium));
        assert_eq!(other(951_110, 4), RuleClass::Detection(Confidence::Low));
    }

    #[test]
    fn own_tags_win() {
        let tags = ["OWASP_CRS", "paranoia-level/1", "phalanx/class/policy"];
        assert_eq!(class(942_100, 2, &tags, Severity::Critical), RuleClass::Policy);
        let high = class(7, 2, &["phalanx/confidence/high"], Severity::Notice);
        assert_eq!(high, RuleClass::Detection(Confidence::High));
        assert_eq!(class(7, 2, &[], Severity::Critical), RuleClass::Detection(Confidence::Low));
    }
}
