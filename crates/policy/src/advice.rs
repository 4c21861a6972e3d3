//! What a policy says without a mistake, and hardly anybody means: protection that is off, doors that are open, limits and rules that never
//! act.
//!
//! Advice is about a text that [`crate::parse_policy`] takes. It is for those who write policy (`phalanx check`), and not told when a node loads it.
//! INVARIANT: what every second policy does for a reason is not told.

mod exclusions;
mod networks;
mod offices;
mod order;
mod rates;
mod routes;
mod rules;
mod upstreams;

use std::ops::Range;

use phalanx_model::Confidence;

use self::exclusions::KnownRules;
use crate::check::read_raw;
use crate::everywhere::told_once;
use crate::policy::{App, ClassUse, Limits, Mode, OnError, Policy, Strikes};
use crate::raw::{RawApp, RawClasses, RawLimits, RawPolicy};
use crate::toml_text::{At, Text};
use crate::{DetectionMode, Diagnostic, Files, parse_policy_at, policy_sites};

pub use networks::is_public;
pub use rules::advise_rules;

/// What to look at again in a policy text, by line, at every site that it names. `file` is as in [`crate::parse_policy`], and its rules are among
/// `files`; a text with faults gets no advice.
pub fn advise(files: Files<'_>, file: &str, text: &str, now_ms: u64) -> Vec<Diagnostic> {
    let known = KnownRules::new(files);
    let elsewhere = advise_at(file, text, None, now_ms, &known);
    let sites = policy_sites(text).into_iter().map(|site| {
        let found = advise_at(file, text, Some(&site), now_ms, &known);
        (site, found)
    });
    told_once(elsewhere, sites)
}

fn advise_at(
    file: &str,
    text: &str,
    site: Option<&str>,
    now_ms: u64,
    known: &KnownRules<'_>,
) -> Vec<Diagnostic> {
    let Ok((policy, _)) = parse_policy_at(file, text, site) else { return Vec::new() };
    let text = Text::new(file, text);
    let (Some(raw), _) = read_raw(&text, site) else { return Vec::new() };
    let templates = raw.apps.iter().filter_map(|app| Some(app.template.as_ref()?.span.clone())).collect();
    let mut advice = Advice { text, templates, now_ms, known, found: Vec::new() };
    advice.policy(&raw, &policy);
    advice.found.sort_by_key(|advice| advice.line);
    advice.found
}

struct Advice<'a> {
    text: Text<'a>,
    /// Where templates are named. What these say is the product's own, and nobody's mistake.
    templates: Vec<Range<usize>>,
    now_ms: u64,
    known: &'a KnownRules<'a>,
    found: Vec<Diagnostic>,
}

impl Advice<'_> {
    fn say(&mut self, span: &Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        let advice = self.text.warning_at(span, message).with_help(help);
        // What stands in a default is said once, whatever apps it holds for.
        if !self.templates.contains(span) && !self.found.contains(&advice) {
            self.found.push(advice);
        }
    }

    fn policy(&mut self, raw: &RawPolicy, policy: &Policy) {
        self.exempt(&raw.allow, "are never refused, whatever they ask");
        self.exempt(raw.operator_networks.as_deref().unwrap_or_default(), "are never banned");
        for exemption in &raw.exemptions {
            self.exempt(&exemption.networks, "are never refused, whatever they ask");
        }
        if let Some(mode) = raw.detection.mode.as_ref().filter(|mode| mode.value == DetectionMode::Off) {
            self.say(
                &mode.span,
                "stolen passwords, scans and floods from many addresses are seen by nobody",
                "write \"observe\", which refuses nobody, or \"act\"",
            );
        }
        self.strikes(raw, &policy.strikes);
        for (raw, app) in raw.apps.iter().zip(&policy.apps) {
            self.app(raw, app, policy);
        }
    }

    fn strikes(&mut self, raw: &RawPolicy, strikes: &Strikes) {
        let Some(written) =
            raw.strikes.window.as_ref().map(|at| &at.span).or(raw.strikes.count.as_ref().map(|at| &at.span))
        else {
            return;
        };
        if u64::from(strikes.count) * STRIKE_PACE_MS > strikes.window_ms {
            let (count, seconds) = (strikes.count, strikes.window_ms / 1_000);
            self.say(
                written,
                format!("whoever is refused less than {count} times in {seconds} s is never banned: most scanners are slower"),
                "leave `count` and `window` as they are, 3 in \"60s\", or make the window longer",
            );
        }
    }

    fn app(&mut self, raw: &At<RawApp>, app: &App, policy: &Policy) {
        let is_seen = !app.passthrough && !app.tcp;
        if is_seen {
            self.mode(raw, app);
            self.classes(&raw.classes, app.mode);
            self.lenient(raw.on_error.as_ref(), app.mode);
            self.held(&raw.limits, &app.limits);
            self.exclusions(raw, app);
            self.rates(raw, app);
            self.logins(raw, app, policy);
            self.cross_origin(&raw.response_headers);
            self.offices(raw, app);
        }
        self.forwarders(raw);
        self.doors(&raw.allow_networks, &app.networks);
        self.upstreams(raw.upstream.as_ref(), &app.upstreams);
        self.unmet(raw, app);
        for (raw_route, route) in raw.routes.iter().zip(&app.routes) {
            self.route(raw_route, route, app);
        }
    }

    fn mode(&mut self, raw: &RawApp, app: &App) {
        let Some(mode) = &raw.mode else { return };
        match mode.value {
            Mode::Block => {}
            Mode::Observe => self.say(
                &mode.span,
                format!("attacks on `{}` are recorded and passed on", app.name),
                "write \"block\" when `phalanx events` shows no honest requests any more",
            ),
            Mode::Off => self.say(
                &mode.span,
                format!("no rule looks at requests to `{}`", app.name),
                "write \"observe\" to see what would be refused, or \"block\"",
            ),
        }
    }

    fn classes(&mut self, raw: &RawClasses, mode: Mode) {
        if let Some(at) =
            raw.detection.as_ref().filter(|at| at.value != ClassUse::Block && mode == Mode::Block)
        {
            self.say(
                &at.span,
                "attacks are not refused here: rules that look for them do not block",
                "write \"block\", and `min_confidence = \"high\"` if too much is refused",
            );
        }
        if let Some(at) =
            raw.min_confidence.as_ref().filter(|at| at.value == Confidence::High && mode == Mode::Observe)
        {
            self.say(
                &at.span,
                "with `mode = \"observe\"` this says nothing: nothing is refused",
                "take it out, or write `mode = \"block\"`",
            );
        }
    }

    fn lenient(&mut self, on_error: Option<&At<OnError>>, mode: Mode) {
        if let Some(on_error) = on_error.filter(|at| at.value == OnError::Allow && mode == Mode::Block) {
            self.say(
                &on_error.span,
                "a request that makes a rule or a parser fail is passed on uninspected",
                "take out `on_error`: such requests are refused then, and `phalanx events` shows them",
            );
        }
    }

    /// A body beyond what is held is inspected in part.
    fn held(&mut self, raw: &RawLimits, limits: &Limits) {
        let Some(held) = &raw.body_held else { return };
        let is_partial =
            u64::try_from(limits.body_held_bytes_max).is_ok_and(|held| held < limits.body_bytes_max);
        if limits.body_held_bytes_max < HELD_BYTES_LEAST && is_partial {
            self.say(
                &held.span,
                format!("an attack behind the first {} of a body is inspected by nobody", held.value),
                "hold 128 KiB or more, or lower `body` to as much",
            );
        }
    }

    /// Scripts of all sites may read what is shown to whoever is logged in.
    fn cross_origin(&mut self, edits: &crate::raw::routes::RawHeaderEdits) {
        let all = || edits.set.iter().chain(&edits.add);
        let says = |wanted: &str, value: &str| {
            all().find(|(name, said)| {
                name.eq_ignore_ascii_case(wanted) && said.trim().eq_ignore_ascii_case(value)
            })
        };
        let with_login = says("access-control-allow-credentials", "true");
        if let Some((_, origin)) =
            says("access-control-allow-origin", "*").or(says("access-control-allow-origin", "null"))
            && with_login.is_some()
        {
            self.say(
                &origin.span,
                "pages of any site may ask in the name of whoever is logged in, and read the answer",
                "name the one site that may, as in \"https://app.example\"",
            );
        }
    }
}

/// A scanner asks about once a second.
const STRIKE_PACE_MS: u64 = 1_000;
/// What forms and most JSON stay below.
const HELD_BYTES_LEAST: usize = 32 * 1024;
