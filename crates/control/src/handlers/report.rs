//! Reports: what a time was like, as JSON, as a page, as a table.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header;
use phalanx_fleet::Link;
use phalanx_model::limits::TRAFFIC_SERIES_MAX;
use phalanx_record::{By, History, TrafficQuery};
use serde::Deserialize;

use super::copied_traffic::{self, Heard};
use super::events::ask;
use super::incidents;
use super::inquiry::ask_all;
use super::traffic::{apps, flag, me, not_heard, time_of};
use crate::api::{IncidentRow, NodeName};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::inquiry::{Asked, PARTS, ReportCounts, ReportQuestion, There};
use crate::report::{Report, ReportPart, steps};
use crate::router::Control;
use crate::zone::Zone;

/// Texts, so that each mistake gets an answer of its own.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReportParameters {
    from_ms: Option<String>,
    to_ms: Option<String>,
    app: Option<String>,
    fleet: Option<String>,
    format: Option<String>,
}

/// `GET /api/v1/report`
pub(crate) async fn show(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    query: Result<Query<ReportParameters>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(asked) = query?;
    let format = match asked.format.as_deref() {
        None | Some("json") => Format::Json,
        Some("html") => Format::Html,
        Some("csv") => Format::Csv,
        Some(other) => {
            return Err(ApiError::bad_request(format!("format={other:?} is none of json, html, csv")));
        }
    };
    let (from_ms, to_ms) =
        time_of(asked.from_ms.as_deref(), asked.to_ms.as_deref(), control.now_ms(), DAY_MS)?;
    let wish = Wish {
        time: (from_ms, to_ms),
        compared_from_ms: from_ms.saturating_sub(to_ms - from_ms),
        is_over: false,
        zone: Zone::default(),
        app: asked.app,
        fleet: flag("fleet", asked.fleet.as_deref())?,
    };
    let report = made(&control, &who, wish).await?;
    let named = |extension: &str| {
        let day = report.zone().date(report.from_ms);
        format!("attachment; filename=\"phalanx-{day}.{extension}\"")
    };
    Ok(match format {
        Format::Json => Json(report).into_response(),
        Format::Html => {
            // It is opened from where it was saved: no page of this host may be made of what strangers wrote.
            let head = [
                (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
                (header::CONTENT_DISPOSITION, named("html")),
            ];
            (head, report.html()).into_response()
        }
        Format::Csv => {
            let head = [
                (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
                (header::CONTENT_DISPOSITION, named("csv")),
            ];
            (head, report.csv()).into_response()
        }
    })
}

enum Format {
    Json,
    Html,
    Csv,
}

/// What a report is to be about.
pub(crate) struct Wish {
    /// From when to when.
    pub(crate) time: (u64, u64),
    /// From when on the time is that it is compared with, which ends where it begins.
    pub(crate) compared_from_ms: u64,
    /// It is one of times that follow each other, and not what was until now.
    pub(crate) is_over: bool,
    /// Whose clock it shows.
    pub(crate) zone: Zone,
    /// Only this app; all without it.
    pub(crate) app: Option<String>,
    /// Of all nodes, or of this one.
    pub(crate) fleet: bool,
}

/// A report. Every figure is what the endpoints about traffic answer for that time; each node is asked once.
pub(crate) async fn made(control: &Control, who: &Principal, wish: Wish) -> Result<Report, ApiError> {
    let (from_ms, to_ms) = wish.time;
    let now_ms = control.now_ms();
    let cut = if wish.is_over { TrafficQuery::of_period } else { TrafficQuery::from_the_beginning };
    let all = cut(from_ms, to_ms, POINTS, now_ms, By::Action);
    // Counts of long ago are coarser, so that the time before may end a little before this one begins.
    let before = (all.from_ms > wish.compared_from_ms)
        .then(|| TrafficQuery::of_period(wish.compared_from_ms, all.from_ms, 1, now_ms, By::Action));
    let question = ReportQuestion {
        from_ms: all.from_ms,
        to_ms: all.to_ms,
        step_ms: all.step_ms,
        before: before.map(|before| (before.from_ms, before.to_ms)),
        apps: apps(who, wish.app.clone()),
    };
    let Seen { counts, answered, silent, copied } = counted(control, question, wish.fleet).await?;
    let rules = rule_words(control, &counts);
    // Incidents are the fleet's: who sees some apps only sees none.
    let sees_incidents = who.apps().is_none() && wish.app.is_none();
    let incidents = if sees_incidents { incidents_of(control, wish.time).await? } else { Vec::new() };
    let ReportCounts { all, refused, parts, before, clients } = counts;
    // The last step may not be over yet.
    let made_at_ms = control.now_ms();
    // Where there are none at all, they begin now. Nodes of before do not say since when.
    let none_yet = (all.totals.requests == 0).then_some(made_at_ms);
    let begins_ms = all.begins_ms.or(none_yet);
    let rounded_ms = from_ms.saturating_sub(all.from_ms);
    Ok(Report {
        over_time: steps(&all, &refused),
        answered,
        silent,
        copied,
        app: wish.app,
        time_zone: wish.zone.to_string(),
        from_ms: all.from_ms,
        to_ms: all.to_ms.min(made_at_ms).max(all.from_ms),
        // What is within a minute nobody means.
        rounded_ms: (wish.is_over && rounded_ms >= 60_000).then_some(rounded_ms),
        counted_since_ms: begins_ms.filter(|begins_ms| *begins_ms > all.from_ms),
        made_at_ms,
        totals: all.totals,
        before_from_ms: before.as_ref().map_or(all.from_ms, |before| before.from_ms),
        before_to_ms: before.as_ref().map_or(all.from_ms, |before| before.to_ms),
        before: before.map(|before| before.totals).unwrap_or_default(),
        step_ms: all.step_ms,
        parts: PARTS.iter().zip(&parts).map(|((by, _), traffic)| ReportPart::of(*by, traffic)).collect(),
        rules,
        clients,
        incidents,
    })
}

/// What was counted, and by whom.
struct Seen {
    counts: ReportCounts,
    answered: Vec<NodeName>,
    silent: Vec<NodeName>,
    copied: Vec<NodeName>,
}

async fn counted(control: &Control, question: ReportQuestion, fleet: bool) -> Result<Seen, ApiError> {
    let (asked, copies) = (question.clone(), control.deps.copies.history().filter(|_| fleet));
    let own = ask(control, move |history| {
        There::of(asked.counted(history)?, history, copies.as_ref(), asked.begins_ms())
    });
    let (me, mut heard) = (me(control), Heard::default());
    let counts = heard.note(control, &me, own.await?);
    let mut seen = Seen { counts, answered: vec![me], silent: Vec::new(), copied: Vec::new() };
    if fleet {
        let asked = Asked::Report(question.clone());
        for (name, bytes) in ask_all(control, &asked, |member| member.link == Link::Up).await?.answers {
            let Ok(there) = serde_json::from_slice::<There<ReportCounts>>(&bytes) else { continue };
            if seen.counts.add(there.counted.clone()) {
                heard.note(control, &name, there);
                seen.answered.push(name);
            }
        }
        seen.answered.sort();
        seen.silent = not_heard(control, &seen.answered);
        let asked = question.clone();
        let own = move |copies: &History, told: &[u64]| asked.copied(copies, told);
        let told =
            copied_traffic::asked(control, heard, own, |of| Asked::CopiedReport { question, of }).await?;
        let names = (&mut seen.silent, &mut seen.copied);
        copied_traffic::settle(told, names, |_, theirs: ReportCounts| seen.counts.add(theirs));
    }
    seen.counts.keep_largest(TRAFFIC_SERIES_MAX);
    Ok(seen)
}

/// What the rules say that a report names, by the policy in force here: not what they said of a request, which quotes strangers.
fn rule_words(control: &Control, counts: &ReportCounts) -> BTreeMap<String, String> {
    let of_clients = counts.clients.iter().flat_map(|one| &one.rules).copied();
    let of_parts = PARTS.iter().zip(&counts.parts).filter(|((by, _), _)| *by == By::Rule);
    let series = of_parts.flat_map(|(_, part)| &part.series);
    let mut rules: Vec<u64> = series.filter_map(|one| one.key.parse().ok()).chain(of_clients).collect();
    rules.sort_unstable();
    rules.dedup();
    let words = (control.deps.rule_words)(&rules).into_iter();
    words.map(|(rule, words)| (rule.to_string(), words.chars().take(WORDS_CHARS_MAX).collect())).collect()
}

/// Those that were open in that time; of many the latest.
async fn incidents_of(control: &Control, (from_ms, to_ms): (u64, u64)) -> Result<Vec<IncidentRow>, ApiError> {
    let mut incidents = incidents::all(control).await?;
    incidents.retain(|one| one.opened_at_ms < to_ms && one.changed_at_ms >= from_ms);
    incidents.truncate(INCIDENTS_MAX);
    Ok(incidents)
}

const DAY_MS: u64 = 86_400_000;
const POINTS: usize = 96;
const INCIDENTS_MAX: usize = 50;
const WORDS_CHARS_MAX: usize = 200;
