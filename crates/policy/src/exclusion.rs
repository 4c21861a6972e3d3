//! Exclusions: what rules do not look at, for some requests, in somebody's name and until some day.
//!
//! They become SecLang before the rules, so that they hold for the app and all of its routes. The day is compared with the clock at each
//! request: an exclusion ends by itself, on a node that nobody reloads as well.

use std::fmt::Write as _;

use serde::Serialize;

use crate::Diagnostic;
use crate::handling::Expiry;

/// What some rules do not look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exclusion {
    /// Ids of rules.
    pub rules: Vec<u64>,
    /// Tags of rules, each with all that it begins; in SecLang's patterns.
    pub tags: Vec<String>,
    /// What they do not look at, as in `ARGS:comment`; `None`: they are not run.
    pub target: Option<String>,
    /// Requests to this path and below it; `None`: all.
    pub path: Option<String>,
    /// Requests with one of these methods; empty for all.
    pub methods: Vec<String>,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// When it ends; `None`: never.
    pub until: Option<Expiry>,
    /// Where it begins in its file; 0 for one that no file holds. It says nothing about what it means.
    #[serde(skip)]
    pub line: u32,
}

/// The exclusions as SecLang; empty for none.
pub fn seclang(exclusions: &[Exclusion]) -> String {
    let mut text = String::new();
    for (exclusion, id) in exclusions.iter().zip(IDS_FROM..) {
        exclusion.write(id, &mut text);
    }
    text
}

impl Exclusion {
    /// Whether it is something that an exclusion can take away: a collection that clients fill, with the name of a member or without.
    pub fn is_target(target: &str) -> bool {
        let (collection, member) = match target.split_once(':') {
            Some((collection, member)) => (collection, Some(member)),
            None => (target, None),
        };
        let is_plain = |member: &str| {
            !member.is_empty()
                && member.len() <= MEMBER_BYTES_MAX
                // A pattern would be all members.
                && !member.starts_with('/')
                && member.chars().all(|c| c.is_ascii_graphic() && !"\"';,|\\".contains(c))
        };
        COLLECTIONS.contains(&collection) && member.is_none_or(is_plain)
    }

    /// Whether it holds for all that a target, a path and methods stand for. For which rules and until when is another question.
    pub fn holds_for(&self, target: Option<&str>, path: Option<&str>, methods: &[String]) -> bool {
        let of_target = self.target.as_deref().is_none_or(|own| {
            target.is_some_and(|target| {
                // A member's name may hold a colon: what is below one is another member.
                target == own || !own.contains(':') && target.split_once(':').is_some_and(|(of, _)| of == own)
            })
        });
        let of_methods = self.methods.is_empty()
            || !methods.is_empty() && methods.iter().all(|one| self.methods.contains(one));
        of_target && of_methods && self.is_about(path)
    }

    /// Whether all requests to a path and below it are its own; `None`: to any path.
    pub(crate) fn is_about(&self, path: Option<&str>) -> bool {
        self.path.as_deref().is_none_or(|own| {
            let below = path.unwrap_or_default().strip_prefix(own.trim_end_matches('/'));
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// A chain of its conditions; the last link does what is to be done, because each link does what it says when it matches.
    fn write(&self, id: u64, text: &mut String) {
        let mut conditions = Vec::new();
        if let Some(path) = &self.path {
            let path = path.trim_end_matches('/');
            let pattern = regex_syntax::escape(path).replace('"', "\\\"");
            conditions
                .push(format!("REQUEST_FILENAME \"@rx ^{pattern}(?:/|$)\" \"t:urlDecode,t:normalizePath"));
        }
        if !self.methods.is_empty() {
            conditions.push(format!("REQUEST_METHOD \"@rx ^(?:{})$\" \"t:none", self.methods.join("|")));
        }
        if let Some(until) = self.until {
            conditions.push(format!("TIME_EPOCH \"@lt {}\" \"t:none", until.at_s));
        }
        if conditions.is_empty() {
            conditions.push("REQUEST_METHOD \"@unconditionalMatch\" \"t:none".to_owned());
        }
        let last = conditions.len().saturating_sub(1);
        for (place, condition) in conditions.iter().enumerate() {
            let first = if place == 0 { format!(",id:{id},phase:1,pass,nolog") } else { String::new() };
            let then = if place == last { self.actions() } else { ",chain".to_owned() };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "SecRule {condition}{first}{then}\"");
        }
    }

    fn actions(&self) -> String {
        let target = self.target.as_ref();
        let by_id = self.rules.iter().map(|rule| match target {
            Some(target) => format!(",ctl:ruleRemoveTargetById={rule};{target}"),
            None => format!(",ctl:ruleRemoveById={rule}"),
        });
        let by_tag = self.tags.iter().map(|tag| match target {
            Some(target) => format!(",ctl:ruleRemoveTargetByTag={tag};{target}"),
            None => format!(",ctl:ruleRemoveByTag={tag}"),
        });
        by_id.chain(by_tag).collect()
    }

    /// What is to be said of its end at a time, by its line.
    pub(crate) fn due(&self, file: &str, app: &str, now_s: i64) -> Option<Diagnostic> {
        let until = self.until?;
        let message = match until.days_left(now_s) {
            ..0 => format!("an exclusion of app `{app}` has ended: its rules look at everything again"),
            days @ 0..DAYS_LEAST => format!("an exclusion of app `{app}` ends in {days} days"),
            _ => return None,
        };
        let help = format!(
            "take it out, or ask {} whether it is still needed and write a later `until`",
            self.owner
        );
        Some(Diagnostic::warning(file, until.line, message).with_help(help))
    }
}

const COLLECTIONS: [&str; 16] = [
    "ARGS",
    "ARGS_GET",
    "ARGS_POST",
    "ARGS_NAMES",
    "ARGS_GET_NAMES",
    "ARGS_POST_NAMES",
    "REQUEST_COOKIES",
    "REQUEST_COOKIES_NAMES",
    "REQUEST_HEADERS",
    "REQUEST_HEADERS_NAMES",
    "FILES",
    "FILES_NAMES",
    "REQUEST_BODY",
    "REQUEST_FILENAME",
    "REQUEST_URI",
    "QUERY_STRING",
];
const MEMBER_BYTES_MAX: usize = 128;
/// Ids of the rules that exclusions become, above those of the product's own.
const IDS_FROM: u64 = 8_599_000;
/// Exclusions of one app.
pub(crate) const EXCLUSIONS_MAX: usize = 1_000;
/// Days before its end from which on an exclusion is spoken of.
pub const DAYS_LEAST: i64 = 14;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seclang::{LoadOptions, load_texts};

    #[test]
    fn an_exclusion_holds_for_what_is_within_its_target_path_and_methods() {
        let exclusion = |target: Option<&str>, path: Option<&str>, methods: &[&str]| Exclusion {
            rules: vec![1],
            tags: Vec::new(),
            target: target.map(str::to_owned),
            path: path.map(str::to_owned),
            methods: methods.iter().map(|&one| one.to_owned()).collect(),
            owner: "ann".into(),
            reason: "ticket".into(),
            until: None,
            line: 1,
        };
        let post = ["POST".to_owned()];
        for (wide, holds) in [
            (exclusion(None, None, &[]), true),
            (exclusion(Some("ARGS"), Some("/"), &["GET", "POST"]), true),
            (exclusion(Some("ARGS:a:b"), Some("/blog/"), &["POST"]), true),
            // Another member, whose name begins alike.
            (exclusion(Some("ARGS:a"), None, &[]), false),
            (exclusion(Some("ARG"), None, &[]), false),
            (exclusion(None, Some("/blog/a/b"), &[]), false),
            (exclusion(None, Some("/bl"), &[]), false),
            (exclusion(None, None, &["GET"]), false),
        ] {
            assert_eq!(wide.holds_for(Some("ARGS:a:b"), Some("/blog/a"), &post), holds, "{wide:?}");
        }
        assert!(!exclusion(Some("ARGS"), None, &[]).holds_for(None, None, &[]));
        assert!(exclusion(None, Some("/"), &[]).holds_for(None, None, &[]));
        assert!(!exclusion(None, Some("/blog"), &[]).holds_for(None, None, &[]));
        assert!(!exclusion(None, None, &["GET"]).holds_for(None, None, &[]));
    }

    #[test]
    fn exclusions_become_chains_that_the_loader_takes() {
        let all = Exclusion {
            rules: vec![8_512_000, 942_100],
            tags: vec!["phalanx/attack/sql-injection".into()],
            target: Some("ARGS:q.1".into()),
            path: Some("/blog/a+b".into()),
            methods: vec!["POST".into(), "PUT".into()],
            owner: "ann".into(),
            reason: "ticket".into(),
            until: Some(Expiry { at_s: 1_800_000_000, line: 7 }),
            line: 1,
        };
        let bare = Exclusion { path: None, methods: Vec::new(), until: None, target: None, ..all.clone() };
        let text = seclang(&[all, bare]);
        let expected = "SecRule REQUEST_FILENAME \"@rx ^/blog/a\\+b(?:/|$)\" \"t:urlDecode,t:normalizePath,id:8599000,phase:1,pass,nolog,chain\"\n\
             SecRule REQUEST_METHOD \"@rx ^(?:POST|PUT)$\" \"t:none,chain\"\n\
             SecRule TIME_EPOCH \"@lt 1800000000\" \"t:none,ctl:ruleRemoveTargetById=8512000;ARGS:q.1,ctl:ruleRemoveTargetById=942100;ARGS:q.1,ctl:ruleRemoveTargetByTag=phalanx/attack/sql-injection;ARGS:q.1\"\n\
             SecRule REQUEST_METHOD \"@unconditionalMatch\" \"t:none,id:8599001,phase:1,pass,nolog,ctl:ruleRemoveById=8512000,ctl:ruleRemoveById=942100,ctl:ruleRemoveByTag=phalanx/attack/sql-injection\"\n";
        assert_eq!(text, expected);
        let loaded = load_texts(&[("exclusions.conf", &text)], &LoadOptions::default()).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }
}
