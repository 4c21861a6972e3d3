//! Reports: what a time was like, as JSON, as a page, as a table.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header;
use phalanx_record::TrafficTotals;
use serde::Deserialize;

use super::incidents;
use super::traffic::{TrafficParameters, refused_most, seen, time};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::report::{Report, ReportPart, steps};
use crate::router::Control;

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
    let to_ms = asked.to_ms.clone().unwrap_or_else(|| control.now_ms().to_string());
    let day_before = || Some(to_ms.parse::<u64>().ok()?.saturating_sub(DAY_MS).to_string());
    let parameters = TrafficParameters {
        from_ms: asked.from_ms.or_else(day_before),
        to_ms: Some(to_ms),
        app: asked.app,
        fleet: asked.fleet,
        ..TrafficParameters::default()
    };
    let report = made(&control, &who, parameters).await?;
    let named = |extension: &str| {
        let day: String = phalanx_record::rfc3339(report.from_ms).chars().take(10).collect();
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

/// A report of a time, of this node or of all.
pub(crate) async fn of_time(
    control: &Control,
    who: &Principal,
    (from_ms, to_ms): (u64, u64),
    app: Option<String>,
    fleet: bool,
) -> Result<Report, ApiError> {
    let parameters = TrafficParameters {
        from_ms: Some(from_ms.to_string()),
        to_ms: Some(to_ms.to_string()),
        app,
        fleet: Some(fleet.to_string()),
        ..TrafficParameters::default()
    };
    made(control, who, parameters).await
}

/// Every figure is an answer of the endpoints about traffic.
async fn made(control: &Control, who: &Principal, asked: TrafficParameters) -> Result<Report, ApiError> {
    let app = asked.app.clone();
    let parameters =
        TrafficParameters { points: Some(POINTS.to_string()), from_the_beginning: true, ..asked };
    let (from_ms, to_ms) = time(control, &parameters)?;
    let all = seen(control, who, &parameters).await?;
    let refused_by = |by: &str| TrafficParameters {
        by: Some(by.to_owned()),
        count: Some("refused".to_owned()),
        ..parameters.clone()
    };
    let refused = seen(control, who, &refused_by("action")).await?;
    let by_app = TrafficParameters { by: Some("app".to_owned()), ..parameters.clone() };
    let mut parts = vec![ReportPart::of("app", &seen(control, who, &by_app).await?.traffic)];
    for by in ["class", "rule", "country"] {
        parts.push(ReportPart::of(by, &seen(control, who, &refused_by(by)).await?.traffic));
    }
    // Times are whole steps: the time before ends where this one begins.
    let (begins, ends) = (all.traffic.from_ms, all.traffic.to_ms);
    let before = TrafficParameters {
        from_ms: Some(begins.saturating_sub(ends - begins).to_string()),
        to_ms: Some(begins.to_string()),
        ..parameters.clone()
    };
    let before = match begins {
        0 => TrafficTotals::default(),
        _ => seen(control, who, &before).await?.traffic.totals,
    };
    let mut clients = refused_most(control, who, &parameters).await?.clients;
    // A report lists them, and draws none.
    clients.iter_mut().for_each(|one| one.points.clear());
    // Incidents are the fleet's: who sees some apps only sees none.
    let mut incidents =
        if who.apps().is_some() || app.is_some() { Vec::new() } else { incidents::all(control).await? };
    incidents.retain(|one| one.opened_at_ms < to_ms && one.changed_at_ms >= from_ms);
    incidents.truncate(INCIDENTS_MAX);
    // The last step may not be over yet.
    let (from_ms, made_at_ms) = (all.traffic.from_ms, control.now_ms());
    // Where there are none at all, they begin now. Nodes of before do not say since when.
    let none_yet = (all.traffic.totals.requests == 0).then_some(made_at_ms);
    let begins_ms = all.traffic.begins_ms.or(none_yet);
    Ok(Report {
        over_time: steps(&all.traffic, &refused.traffic),
        answered: all.answered,
        silent: all.silent,
        copied: all.copied,
        app,
        from_ms,
        to_ms: all.traffic.to_ms.min(made_at_ms).max(from_ms),
        counted_since_ms: begins_ms.filter(|begins_ms| *begins_ms > from_ms),
        made_at_ms,
        totals: all.traffic.totals,
        before,
        step_ms: all.traffic.step_ms,
        parts,
        clients,
        incidents,
    })
}

const DAY_MS: u64 = 86_400_000;
const POINTS: usize = 96;
const INCIDENTS_MAX: usize = 50;
