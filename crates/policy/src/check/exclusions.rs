//! Exclusions of an app's rules, and exemptions of clients: what somebody answers for, until some day.

use std::ops::Range;

use super::Check;
use super::responses::unix_seconds;
use crate::exclusion::{EXCLUSIONS_MAX, Exclusion};
use crate::exemption::{EXEMPTION_NETWORKS_MAX, EXEMPTIONS_MAX, Exemption};
use crate::handling::Expiry;
use crate::raw::exclusions::{RawExclusion, RawExemption, RawUntil};
use crate::raw::{RawApp, RawPolicy};
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
        let of = ("exclusion", &raw.span);
        Exclusion {
            rules: raw.rules.iter().map(|rule| rule.value).collect(),
            tags: raw.tags.iter().map(|tag| tag.value.clone()).collect(),
            target: raw.target.as_ref().map(|target| target.value.clone()),
            path: raw.path.as_ref().and_then(|path| self.route_path(path)),
            methods: raw.methods.iter().filter_map(|method| self.method(method)).collect(),
            owner: self.said(of, raw.owner.as_ref(), "owner", OWNER),
            reason: self.said(of, raw.reason.as_ref(), "reason", "\"ticket 4711: comments quote SQL\""),
            until: self.until(of, raw.until.as_ref()),
            line: self.text.line_of(raw.span.start),
        }
    }

    pub(super) fn exemptions(&mut self, raw: &RawPolicy) -> Vec<Exemption> {
        if let Some(one_more) = raw.exemptions.get(EXEMPTIONS_MAX) {
            self.error(&one_more.span, format!("a policy has {EXEMPTIONS_MAX} exemptions at most"));
        }
        raw.exemptions.iter().take(EXEMPTIONS_MAX).map(|raw| self.exemption(raw)).collect()
    }

    fn exemption(&mut self, raw: &At<RawExemption>) -> Exemption {
        if raw.networks.is_empty() {
            let fault = self.text.error_at(&raw.span, "nothing says who is exempt");
            self.found.push(fault.with_help("add `networks = [\"203.0.113.7\"]`"));
        }
        if let Some(one_more) = raw.networks.get(EXEMPTION_NETWORKS_MAX) {
            self.error(&one_more.span, format!("an exemption has {EXEMPTION_NETWORKS_MAX} networks at most"));
        }
        let of = ("exemption", &raw.span);
        Exemption {
            networks: self.prefixes(&raw.networks, "nothing is refused any more, whoever asks"),
            owner: self.said(of, raw.owner.as_ref(), "owner", OWNER),
            reason: self.said(of, raw.reason.as_ref(), "reason", "\"penetration test of December\""),
            until: self.until(of, raw.until.as_ref()),
            line: self.text.line_of(raw.span.start),
        }
    }

    fn said(
        &mut self,
        (what, whole): (&str, &Range<usize>),
        said: Option<&At<String>>,
        key: &str,
        example: &str,
    ) -> String {
        match said {
            Some(said) if !said.trim().is_empty() => said.value.clone(),
            other => {
                let span = other.map_or(whole, |said| &said.span);
                let fault = self.text.error_at(span, format!("the {what} has no `{key}`"));
                self.found.push(fault.with_help(format!("add `{key} = {example}`")));
                String::new()
            }
        }
    }

    fn until(
        &mut self,
        (what, whole): (&str, &Range<usize>),
        until: Option<&At<RawUntil>>,
    ) -> Option<Expiry> {
        let help = "write a day, as in `until = 2027-06-01`, or `until = \"never\"`";
        let Some(until) = until else {
            let fault = self.text.error_at(whole, format!("nothing says when the {what} ends"));
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

const OWNER: &str = "\"ann@example.org\"";
