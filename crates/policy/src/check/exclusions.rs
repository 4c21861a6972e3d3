//! Exclusions of an app's rules.

use super::Check;
use super::responses::unix_seconds;
use crate::exclusion::{EXCLUSIONS_MAX, Exclusion};
use crate::handling::Expiry;
use crate::raw::RawApp;
use crate::raw::exclusions::{RawExclusion, RawUntil};
use crate::toml_text::At;

impl Check<'_> {
    pub(super) fn exclusions(&mut self, raw: &RawApp) -> Vec<Exclusion> {
        if let Some(one_more) = raw.exclusions.get(EXCLUSIONS_MAX) {
            self.error(&one_more.span, format!("an app has {EXCLUSIONS_MAX} exclusions at most"));
        }
        raw.exclusions.iter().take(EXCLUSIONS_MAX).map(|raw| self.exclusion(raw)).collect()
    }

    fn exclusion(&mut self, raw: &At<RawExclusion>) -> Exclusion {
        if raw.rules.is_empty() && raw.tags.is_empty() {
            let fault = self.text.error_at(&raw.span, "nothing says which rules are meant");
            self.found.push(
                fault.with_help("add `rules = [8512000]`, the id that `phalanx explain` names, or `tags`"),
            );
        }
        for tag in &raw.tags {
            if tag.is_empty()
                || tag.contains([';', ',', '"', '\'', '\\'])
                || tag.chars().any(|c| c.is_control() || c == ' ')
            {
                self.error(&tag.span, format!("`{}` is no tag", tag.value.escape_debug()));
            }
        }
        if let Some(target) = raw.target.as_ref().filter(|target| !Exclusion::is_target(target)) {
            let message = format!(
                "`{}` is nothing that a rule looks at and an exclusion can take away",
                target.value.escape_debug()
            );
            let fault = self.text.error_at(&target.span, message);
            self.found.push(fault.with_help(
                "write it as `phalanx explain` does: \"ARGS:comment\", \"REQUEST_COOKIES:prefs\"",
            ));
        }
        Exclusion {
            rules: raw.rules.iter().map(|rule| rule.value).collect(),
            tags: raw.tags.iter().map(|tag| tag.value.clone()).collect(),
            target: raw.target.as_ref().map(|target| target.value.clone()),
            path: raw.path.as_ref().and_then(|path| self.route_path(path)),
            methods: raw.methods.iter().filter_map(|method| self.method(method)).collect(),
            owner: self.said(raw, raw.owner.as_ref(), "owner", "\"ann@example.org\""),
            reason: self.said(raw, raw.reason.as_ref(), "reason", "\"ticket 4711: comments quote SQL\""),
            until: self.until(raw),
            line: self.text.line_of(raw.span.start),
        }
    }

    fn said(
        &mut self,
        raw: &At<RawExclusion>,
        said: Option<&At<String>>,
        key: &str,
        example: &str,
    ) -> String {
        match said {
            Some(said) if !said.trim().is_empty() => said.value.clone(),
            other => {
                let span = other.map_or(&raw.span, |said| &said.span);
                let fault = self.text.error_at(span, format!("the exclusion has no `{key}`"));
                self.found.push(fault.with_help(format!("add `{key} = {example}`")));
                String::new()
            }
        }
    }

    fn until(&mut self, raw: &At<RawExclusion>) -> Option<Expiry> {
        let help = "write a day, as in `until = 2027-06-01`, or `until = \"never\"`";
        let Some(until) = &raw.until else {
            let fault = self.text.error_at(&raw.span, "nothing says when the exclusion ends");
            self.found.push(fault.with_help(help));
            return None;
        };
        let at_s = match &until.value {
            RawUntil::Word(word) if word == "never" => return None,
            RawUntil::Word(_) => None,
            RawUntil::At(at) => match (at.time, at.offset) {
                // To the end of the day.
                (None, None) => {
                    let midnight =
                        toml::value::Time { hour: 0, minute: 0, second: Some(0), nanosecond: None };
                    let day = toml::value::Datetime {
                        time: Some(midnight),
                        offset: Some(toml::value::Offset::Z),
                        ..*at
                    };
                    unix_seconds(&day).map(|at_s| at_s.saturating_add(86_400))
                }
                _ => unix_seconds(at),
            },
        };
        if at_s.is_none() {
            self.found.push(
                self.text.error_at(&until.span, "this is no day and no time with an offset").with_help(help),
            );
        }
        at_s.map(|at_s| Expiry { at_s, line: self.text.line_of(until.span.start) })
    }
}
