//! The level that an order may raise an app's rules to: it must be higher than what is in force, and of rules that have levels.

use std::path::PathBuf;

use super::Check;
use crate::policy::{App, Mode, RuleSource};
use crate::raw::routes::RawRoute;
use crate::route::Own;
use crate::toml_text::At;

/// By what requests are inspected while nothing is ordered.
pub(super) struct Inspected<'a> {
    mode: Mode,
    rules: &'a RuleSource,
    extra_rules: &'a [PathBuf],
    paranoia: u8,
    is_passed_on: bool,
}

impl<'a> Inspected<'a> {
    pub(super) fn of_app(app: &'a App) -> Self {
        let App { mode, rules, extra_rules, paranoia, passthrough, tcp, .. } = app;
        let is_passed_on = *passthrough || *tcp;
        Self { mode: *mode, rules, extra_rules, paranoia: *paranoia, is_passed_on }
    }

    fn of_route(own: &'a Own) -> Self {
        let Own { mode, rules, extra_rules, paranoia, .. } = own;
        Self { mode: *mode, rules, extra_rules, paranoia: *paranoia, is_passed_on: false }
    }

    /// Whether its rules may have levels. Only folders are known to by name; what files of one's own hold nobody looks at here.
    fn has_levels(&self) -> bool {
        *self.rules != RuleSource::Baseline || !self.extra_rules.is_empty()
    }
}

impl Check<'_> {
    /// A level that is written for an app or a route.
    pub(super) fn raised(&mut self, raw: Option<&At<u8>>, of: &Inspected<'_>) -> Option<u8> {
        let raw = raw?;
        let level = self.within("raise_paranoia", Some(raw), 1..=4, 0);
        if level == 0 {
            return None;
        }
        let (message, help) = if of.mode == Mode::Off || of.is_passed_on {
            let help = "write `mode = \"block\"` or `mode = \"observe\"`, or take it out";
            ("no rules look at these requests, so there is nothing to raise".to_owned(), help.to_owned())
        } else if !of.has_levels() {
            let help = "name the folder of a rule set that has levels, as in `rules = [\"coreruleset\"]`, or take it out";
            (
                "the baseline pack has no paranoia levels, so there is nothing to raise".to_owned(),
                help.to_owned(),
            )
        } else if level <= of.paranoia {
            let help = match of.paranoia {
                4 => "4 is the highest level: lower `paranoia`, or take it out".to_owned(),
                now => format!("write a level from {} to 4, or take it out", now + 1),
            };
            (format!("`raise_paranoia` is {level}, which is not above `paranoia`, {}", of.paranoia), help)
        } else {
            return Some(level);
        };
        let fault = self.text.error_at(&raw.span, message);
        self.found.push(fault.with_help(help));
        None
    }

    /// The level of a route with a protection of its own: what it says, or else what the app says, where that is higher than its own.
    pub(super) fn raised_of_route(&mut self, raw: &At<RawRoute>, own: &Own, app: &App) -> Option<u8> {
        let of = Inspected::of_route(own);
        if raw.raise_paranoia.is_some() {
            return self.raised(raw.raise_paranoia.as_ref(), &of);
        }
        let has_rules = of.mode != Mode::Off && of.has_levels();
        app.raise_paranoia.filter(|level| has_rules && *level > of.paranoia)
    }
}
