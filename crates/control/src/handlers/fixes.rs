//! What to do next: facts of all parts, ranked.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use phalanx_model::{Action, RequestId};
use phalanx_policy::advice::advise;
use phalanx_policy::{Diagnostic, Files};
use phalanx_record::{By, Filter, History, RecordError, TrafficQuery};
use phalanx_trust::Role;

use super::blocking;
use super::events::ask;
use super::status::whole_status;
use crate::error::ApiError;
use crate::fixes::{AppFacts, Facts, Fix, OperatorFacts, Suspect, rank};
use crate::paging::Page;
use crate::router::{Control, RunningPolicy};

/// `GET /api/v1/fixes`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    page: Page,
) -> Result<Json<Vec<Fix>>, ApiError> {
    let now_ms = control.now_ms();
    let status = whole_status(&control);
    let names: Vec<String> = status.plan.apps.iter().map(|app| app.name.clone()).collect();
    let seen = ask(&control, move |history| seen(history, &names, now_ms));
    // A history that cannot be read is among what is degraded.
    let seen = seen.await.unwrap_or_default();
    let apps = status.plan.apps.into_iter().map(|app| {
        let observed = seen.observed.iter().find(|(name, _)| *name == app.name).map_or(0, |(_, n)| *n);
        AppFacts { name: app.name, mode: app.mode, observed }
    });
    let suspects = seen.suspects.into_iter().map(|(rule, clients, request)| {
        let good = control.deps.fleet.served_well(&clients);
        Suspect { rule, clients: clients.len(), good, request }
    });
    let versions: BTreeSet<String> = status.fleet.members.into_iter().map(|member| member.version).collect();
    let facts = Facts {
        now_ms,
        apps: apps.collect(),
        certificates: status.certificates,
        membership_ends_ms: status.fleet.certificate_expires_at_ms,
        advice: advice(&control).await?,
        suspects: suspects.collect(),
        held: status.held,
        degraded: status.fleet.degraded,
        operators: operators(&control),
        versions: versions.into_iter().filter(|version| !version.is_empty()).collect(),
    };
    Ok(Json(page.of(rank(&facts), |fix| fix.id.clone())?))
}

/// What the policy in force deserves to be looked at for. It is parsed for this, off the threads that serve.
async fn advice(control: &Arc<Control>) -> Result<Vec<Diagnostic>, ApiError> {
    let stopping = |_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the node is stopping");
    let permit = Arc::clone(&control.history_queries).acquire_owned().await.map_err(stopping)?;
    let (asked, now_ms) = (Arc::clone(control), control.now_ms());
    let failed =
        |_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "advice", "looking at the policy failed");
    blocking(permit, move || of_running(&(asked.deps.running)(), now_ms)).await.map_err(failed)
}

fn of_running(running: &RunningPolicy, now_ms: u64) -> Vec<Diagnostic> {
    let name = running.entry.as_deref().unwrap_or("policy");
    let mut found = running.policy.due(name, now_ms);
    // A policy that was made of the command line has no text.
    if let Some(files) = &running.files
        && let Some(text) = files.get(name)
    {
        found.extend(advise(Files::Set(files), name, &String::from_utf8_lossy(text), now_ms));
    }
    found
}

fn operators(control: &Control) -> Vec<OperatorFacts> {
    let all = control.deps.operators.list();
    let able = all.into_iter().filter(|one| one.is_enrolled() && !one.disabled);
    able.map(|one| OperatorFacts {
        is_owner: one.role == Role::Owner && one.apps.is_empty(),
        credentials: one.passkeys.len() + usize::from(one.password),
        name: one.name,
    })
    .collect()
}

/// What the last day shows.
#[derive(Default)]
struct Seen {
    /// Requests of each app that were only observed.
    observed: Vec<(String, u64)>,
    /// Rules that refuse most, with the clients that they refused last, and the last request.
    suspects: Vec<(u64, Vec<std::net::IpAddr>, RequestId)>,
}

fn seen(history: &History, apps: &[String], now_ms: u64) -> Result<Seen, RecordError> {
    let since_ms = now_ms.saturating_sub(DAY_MS);
    let day = |by| TrafficQuery::new(since_ms, now_ms, 24, now_ms, by);
    let mut seen = Seen::default();
    for app in apps.iter().take(APPS_MAX) {
        let traffic = history.traffic(&TrafficQuery { apps: Some(vec![app.clone()]), ..day(By::Node) })?;
        seen.observed.push((app.clone(), traffic.totals.observed));
    }
    let rules = history.traffic(&TrafficQuery { refused: true, series_max: RULES_MAX, ..day(By::Rule) })?;
    for rule in rules.series.iter().filter_map(|one| one.key.parse().ok()).filter(|rule| *rule != 0) {
        let filter = Filter {
            rule: Some(rule),
            action: Some(Action::Deny),
            since_ms: Some(since_ms),
            limit: REQUESTS_LOOKED_AT,
            ..Filter::default()
        };
        let refused = history.recent(&filter)?;
        let Some(last) = refused.first().map(|record| record.id()) else { continue };
        let clients: HashSet<_> = refused.iter().map(|record| record.access.client).collect();
        seen.suspects.push((rule, clients.into_iter().collect(), last));
    }
    Ok(seen)
}

const DAY_MS: u64 = 24 * 60 * 60_000;
/// Apps whose last day is looked at.
const APPS_MAX: usize = 64;
/// Rules that are looked at: those that refused most.
const RULES_MAX: usize = 5;
/// Requests of each that are opened.
const REQUESTS_LOOKED_AT: usize = 200;
