//! `[reports.NAME]` of `phalanx.toml`: reports that are sent by themselves.

use std::collections::BTreeMap;
use std::path::Path;

use phalanx_control::receiver::Receiver;
use phalanx_control::reporting::deliveries::{REPORT_RECEIVERS_MAX, REPORTS_MAX};
use phalanx_control::reporting::schedule::{Every, Form, Schedule};
use phalanx_control::zone::{Zone, parse_offset};
use phalanx_edge::EdgePlan;
use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
use schemars::JsonSchema;
use serde::Deserialize;

/// Schedules by name, and where those that are about one app name it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReportSettings {
    pub(crate) schedules: BTreeMap<String, Schedule>,
    apps: Vec<(String, u32)>,
}

/// A report that is sent by itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawReport {
    /// Whom it is sent to: receivers by name, `[mail.NAME]` or `[webhooks.NAME]`.
    to: At<Vec<At<String>>>,
    /// "day", about the day before, or "week", about the seven days before. "day" if not given.
    every: Option<EveryWord>,
    /// With `every = "week"`, the day. "monday" if not given.
    weekday: Option<At<Weekday>>,
    /// At which hour, 0 to 23. 7 if not given.
    hour: Option<At<i64>>,
    /// How far the clock of that hour, and of the days, is before UTC, as in "+01:00". "UTC" if neither it nor `time_zone` is given.
    utc_offset: Option<At<String>>,
    /// Whose clock that is, as in "Europe/Berlin", or its rule as POSIX has it for TZ: "CET-1CEST,M3.5.0,M10.5.0/3". In place of `utc_offset`.
    time_zone: Option<At<String>>,
    /// Only requests for this app. All if not given.
    app: Option<At<String>>,
    /// What comes with a letter: "csv", "json". Nothing if not given.
    #[serde(default)]
    attach: Vec<FormWord>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum EveryWord {
    Day,
    Week,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FormWord {
    Csv,
    Json,
}

/// Checks the tables. `known` are the receivers' names; of `receivers` those are missing that cannot be used.
pub(crate) fn check(
    text: &Text<'_>,
    raw: &BTreeMap<String, At<RawReport>>,
    (known, receivers): (impl Fn(&str) -> bool, &BTreeMap<String, Receiver>),
    faults: &mut Vec<Diagnostic>,
) -> ReportSettings {
    let mut settings = ReportSettings::default();
    if let Some((_, one_more)) = raw.iter().nth(REPORTS_MAX) {
        faults.push(text.error_at(&one_more.span, format!("a node sends {REPORTS_MAX} reports at most")));
    }
    for (name, raw) in raw.iter().take(REPORTS_MAX) {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
            let message = format!("`{}` is no name of a report", name.escape_debug());
            faults.push(
                text.error_at(&raw.span, message).with_help("it has 1 to 64 of a-z, 0-9, `-`, `_` and `.`"),
            );
        }
        receivers_of(text, &raw.value.to, (&known, receivers), faults);
        if let Some(app) = &raw.value.app {
            settings.apps.push((app.value.clone(), text.line_of(app.span.start)));
        }
        settings.schedules.insert(name.clone(), schedule(text, &raw.value, faults));
    }
    settings
}

fn receivers_of(
    text: &Text<'_>,
    to: &At<Vec<At<String>>>,
    (known, receivers): (impl Fn(&str) -> bool, &BTreeMap<String, Receiver>),
    faults: &mut Vec<Diagnostic>,
) {
    if to.value.is_empty() {
        let fault = text.error_at(&to.span, "the report goes to nobody: no receiver is named");
        faults.push(fault.with_help("write `to = [\"boss\"]`, with a `[mail.boss]`"));
    }
    if let Some(one_more) = to.value.get(REPORT_RECEIVERS_MAX) {
        let message = format!("a report goes to {REPORT_RECEIVERS_MAX} receivers at most");
        faults.push(
            text.error_at(&one_more.span, message).with_help("a `[mail.NAME]` may have several addresses"),
        );
    }
    for name in &to.value {
        if !known(&name.value) {
            let fault = text.error_at(&name.span, format!("there is no receiver `{}`", name.value));
            faults.push(fault.with_help(format!(
                "add `[mail.{}]` with `server`, `from` and `to`, or `[webhooks.{}]`",
                name.value, name.value
            )));
        } else if receivers.get(&name.value).is_some_and(|receiver| receiver.kind() == "pagerduty") {
            let fault = text.error_at(
                &name.span,
                format!("`{}` is a pager: a report would wake somebody up", name.value),
            );
            faults.push(fault.with_help("send it by mail, or to a chat"));
        }
    }
}

fn schedule(text: &Text<'_>, raw: &RawReport, faults: &mut Vec<Diagnostic>) -> Schedule {
    let weekday = raw.weekday.as_ref().map_or(Weekday::Monday, |day| day.value);
    let every = match raw.every {
        Some(EveryWord::Week) => Every::Week(weekday as u8),
        None | Some(EveryWord::Day) => Every::Day,
    };
    if let (Every::Day, Some(day)) = (every, &raw.weekday) {
        let fault = text.error_at(&day.span, "a report of each day has no `weekday`");
        faults.push(fault.with_help("write `every = \"week\"`, or leave it out"));
    }
    let mut hour = HOUR;
    if let Some(written) = &raw.hour {
        match u8::try_from(written.value) {
            Ok(read) if read < 24 => hour = read,
            _ => {
                let fault = text
                    .error_at(&written.span, format!("`hour` goes from 0 to 23, and is {}", written.value));
                faults.push(fault.with_help("midnight is 0"));
            }
        }
    }
    let form = |word: &FormWord| match word {
        FormWord::Csv => Form::Csv,
        FormWord::Json => Form::Json,
    };
    let mut to: Vec<String> = raw.to.value.iter().map(|name| name.value.clone()).collect();
    to.sort();
    to.dedup();
    Schedule {
        every,
        hour,
        zone: zone(text, raw, faults),
        app: raw.app.as_ref().map(|app| app.value.clone()),
        to,
        attach: raw.attach.iter().map(form).collect(),
    }
}

/// The clock of a report: of a distance from UTC, or of a place.
fn zone(text: &Text<'_>, raw: &RawReport, faults: &mut Vec<Diagnostic>) -> Zone {
    let read = match (&raw.utc_offset, &raw.time_zone) {
        (Some(_), Some(rule)) => {
            let fault = text.error_at(&rule.span, "a report has `utc_offset` or `time_zone`, and not both");
            Err(fault.with_help("leave `utc_offset` out: the zone says how far its clock is from UTC"))
        }
        (Some(offset), None) => parse_offset(&offset.value).map(Zone::fixed).map_err(|fault| {
            let fault = text.error_at(&offset.span, fault);
            fault.with_help("a clock that changes twice a year has a `time_zone`, as in \"Europe/Berlin\"")
        }),
        (None, Some(place)) => Zone::parse_place(&place.value).map_err(|fault| {
            let fault = text.error_at(&place.span, fault);
            fault.with_help("write it as in \"Europe/Berlin\", or \"CET-1CEST,M3.5.0,M10.5.0/3\"")
        }),
        (None, None) => Ok(Zone::default()),
    };
    read.unwrap_or_else(|fault| {
        faults.push(fault);
        Zone::default()
    })
}

/// Reports about apps that the policy does not have.
pub(crate) fn without_app(file: &Path, settings: &ReportSettings, plan: &EdgePlan) -> Vec<Diagnostic> {
    let is_there = |app: &str| plan.apps().iter().any(|known| &*known.name == app);
    let gone = settings.apps.iter().filter(|(app, _)| !is_there(app));
    let fault = |(app, line): &(String, u32)| {
        let message =
            format!("a report is about the app `{}`, which the policy does not have", app.escape_debug());
        let fault = Diagnostic::error(file.display().to_string(), *line, message);
        fault.with_help("write the app's name as the policy has it, or leave `app` out for all of them")
    };
    gone.map(fault).collect()
}

/// When people come to work.
const HOUR: u8 = 7;
const NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    struct Raw {
        #[serde(default)]
        reports: BTreeMap<String, At<RawReport>>,
    }

    fn read(text: &str) -> (ReportSettings, Vec<String>) {
        let mut faults = Vec::new();
        let text = Text::new("phalanx.toml", text);
        let raw = text.read_partly::<Raw>().0.unwrap_or_default();
        let known = (|name: &str| name == "ops", &BTreeMap::new());
        let settings = check(&text, &raw.reports, known, &mut faults);
        (settings, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let (settings, faults) = read("[reports.daily]\nto = [\"ops\"]\n");
        let daily = &settings.schedules["daily"];
        assert_eq!((daily.words().as_str(), faults), ("each day at 07:00 UTC", vec![]));
        let text = "[reports.w]\nto = [\"ops\"]\nevery = \"week\"\nweekday = \"friday\"\nhour = 0\nutc_offset = \"-03:30\"\napp = \"shop\"\nattach = [\"csv\"]\n";
        let (settings, faults) = read(text);
        let weekly = &settings.schedules["w"];
        assert_eq!((weekly.words().as_str(), faults), ("each friday at 00:00 UTC-03:30", vec![]));
        assert_eq!((weekly.attach.as_slice(), settings.apps), (&[Form::Csv][..], vec![("shop".into(), 7)]));
        let (settings, faults) =
            read("[reports.d]\nto = [\"ops\"]\ntime_zone = \"CET-1CEST,M3.5.0,M10.5.0/3\"\n");
        assert_eq!(
            (settings.schedules["d"].words().as_str(), faults),
            ("each day at 07:00 CET/CEST", vec![])
        );
    }

    #[test]
    fn mistakes_are_told_with_their_lines() {
        let many = format!("to = [{}]", vec!["\"ops\""; REPORT_RECEIVERS_MAX + 1].join(", "));
        for (more, line, part) in [
            (many.as_str(), 2, "16 receivers at most"),
            ("to = []", 2, "goes to nobody"),
            ("to = [\"nobody\"]", 2, "no receiver `nobody`"),
            ("to = [\"ops\"]\nhour = 24", 3, "from 0 to 23"),
            ("to = [\"ops\"]\nutc_offset = \"Europe/Berlin\"", 3, "no distance from UTC"),
            ("to = [\"ops\"]\ntime_zone = \"Berlin\"", 3, "did you mean `Europe/Berlin`?"),
            ("to = [\"ops\"]\ntime_zone = \"AAA-15\"", 3, "no clock is more than 14 hours from UTC"),
            (
                "to = [\"ops\"]\nutc_offset = \"+01:00\"\ntime_zone = \"CET-1CEST,M3.5.0,M10.5.0/3\"",
                4,
                "not both",
            ),
            ("to = [\"ops\"]\nweekday = \"sunday\"", 3, "has no `weekday`"),
        ] {
            let (_, faults) = read(&format!("[reports.daily]\n{more}\n"));
            assert!(
                faults.len() == 1
                    && faults[0].contains(part)
                    && faults[0].contains(&format!("phalanx.toml:{line}")),
                "{more}: {faults:?}"
            );
        }
    }
}
