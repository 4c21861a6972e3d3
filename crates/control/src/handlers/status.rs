//! How the node and the fleet are doing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Path, State};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use http::{StatusCode, header};
use phalanx_fleet::FleetHandle;
use phalanx_model::counters::WorkerCounters;
use phalanx_model::lanes::Lanes;
use phalanx_record::Metrics;
use phalanx_record::metrics::{class_counts, sum};

use crate::api::{ClassCount, Counters, Fleet, Import, Member, SelfTestState, Status};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::handlers::operations::out_of_service;
use crate::limits::OFFLINE_AFTER_MS;
use crate::paging::Page;
use crate::router::Control;

/// `GET /api/v1/status`
pub(crate) async fn status(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
) -> Json<Status> {
    let mut status = whole_status(&control);
    if let Some(apps) = who.apps() {
        status = only_of(&apps, status);
    }
    Json(status)
}

/// What whoever is limited to some apps is told: these, and of the node its name, version, times and readiness.
fn only_of(apps: &[String], whole: Status) -> Status {
    let mut plan = whole.plan;
    plan.apps.retain(|app| apps.contains(&app.name));
    Status {
        plan,
        not_ready: None,
        fleet: Fleet {
            kind: whole.fleet.kind,
            connected: whole.fleet.connected,
            degraded: Vec::new(),
            queue: 0,
            members: Vec::new(),
            certificate_expires_at_ms: None,
        },
        counters: Counters::default(),
        classes: Vec::new(),
        decisions_live: 0,
        held: 0,
        load: Default::default(),
        selftest: SelfTestState::Unknown,
        recorder: Vec::new(),
        history: Default::default(),
        following: Vec::new(),
        certificates: Vec::new(),
        process: Default::default(),
        bouncers: Vec::new(),
        imports: Vec::new(),
        learning: Default::default(),
        node: whole.node,
        site: whole.site,
        version: whole.version,
        started_at_ms: whole.started_at_ms,
        now_ms: whole.now_ms,
        ready: whole.ready,
    }
}

/// All that is known of this node.
pub(super) fn whole_status(control: &Control) -> Status {
    let deps = &control.deps;
    let now_ms = control.now_ms();
    let node = (deps.node_status)();
    let not_ready = node.not_ready.or_else(|| out_of_service(control).map(|one| one.words()));
    let fleet = deps.fleet.status();
    let recorder = deps.recorder.report();
    let mut degraded = fleet.degraded;
    degraded.extend(node.degraded);
    degraded.extend(recorder.degraded());
    degraded.extend(deps.providers.degraded());
    let history = deps.copies.state();
    degraded.extend(history.degraded.iter().cloned());
    let following = control.followers.list(now_ms);
    degraded.extend(following.iter().filter_map(|one| one.complaint()));
    let imports: Vec<Import> = deps.imports.iter().map(|import| import.status()).collect();
    degraded.extend(imports.iter().filter_map(|import| {
        let fault = import.fault.as_ref()?;
        Some(format!(
            "decisions of {} cannot be read ({fault}); those it gave stay until their end",
            import.source
        ))
    }));
    Status {
        node: deps.node.to_string(),
        site: deps.site.to_string(),
        version: deps.version.clone(),
        started_at_ms: deps.started_at_ms,
        now_ms,
        ready: not_ready.is_none(),
        not_ready,
        plan: node.plan,
        fleet: Fleet {
            kind: fleet.kind.to_owned(),
            connected: fleet.connected,
            degraded,
            queue: fleet.queue as u64,
            members: members(&deps.fleet, now_ms),
            certificate_expires_at_ms: fleet.certificate_expires_at_ms,
        },
        counters: counters(&deps.counters, &deps.lanes),
        classes: classes(&deps.counters),
        held: u64::try_from(fleet.held).unwrap_or(u64::MAX),
        decisions_live: fleet.decisions as u64,
        load: node.load,
        selftest: (deps.self_test.report)().state,
        recorder: recorder.parts,
        history,
        following,
        certificates: node.certificates,
        process: node.process,
        bouncers: deps.bouncers.list(),
        imports,
        learning: node.learning,
    }
}

/// `GET /api/v1/nodes`
pub(crate) async fn nodes(
    State(control): State<Arc<Control>>,
    page: Page,
) -> Result<Json<Vec<Member>>, ApiError> {
    let members = members(&control.deps.fleet, control.now_ms());
    Ok(Json(page.of(members, |member| format!("{}/{}", member.site, member.node))?))
}

/// `DELETE /api/v1/nodes/{site}/{node}`: this node forgets the keys it knows another by; the next announcement counts.
pub(crate) async fn forget_node(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    Path((site, node)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    if *site == *control.deps.site && *node == *control.deps.node {
        return Err(ApiError::bad_request("a node cannot forget itself"));
    }
    if !control.deps.fleet.members().iter().any(|m| *m.site == *site && *m.node == *node) {
        return Err(ApiError::not_found("this node knows no node of that site and name"));
    }
    control.record(&who, &format!("forget the keys of node {site}/{node}"))?;
    control.deps.fleet.forget_node(&site, &node)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /metrics`
pub(crate) async fn metrics(State(control): State<Arc<Control>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], control.deps.metrics.render())
}

/// The fleet's nodes as the API shows them.
pub(crate) fn members(fleet: &FleetHandle, now_ms: u64) -> Vec<Member> {
    let one = |member: phalanx_fleet::Member| Member {
        online: member.me || now_ms.saturating_sub(member.last_seen_ms) <= OFFLINE_AFTER_MS,
        site: member.site.to_string(),
        node: member.node.to_string(),
        version: member.version,
        lag_ms: member.lag_ms,
        last_seen_ms: member.last_seen_ms,
        decisions: member.decisions as u64,
        policy: member.policy.map(super::bundles::member),
        held: member.held as u64,
        me: member.me,
        duty: if member.drained { "drained" } else { member.duty.word() }.to_owned(),
        order_reason: member.order_reason,
        selftest: standing(member.self_test),
    };
    fleet.members().into_iter().map(one).collect()
}

fn standing(ok: Option<bool>) -> SelfTestState {
    match ok {
        Some(true) => SelfTestState::Ok,
        Some(false) => SelfTestState::Failing,
        None => SelfTestState::Unknown,
    }
}

fn classes(workers: &[Arc<WorkerCounters>]) -> Vec<ClassCount> {
    let one = |count: phalanx_record::metrics::ClassCount| ClassCount {
        class: count.class,
        signals: count.signals,
        refusals: count.refusals,
    };
    class_counts(workers).into_iter().map(one).collect()
}

/// The sums over all workers.
pub(crate) fn counters(workers: &[Arc<WorkerCounters>], lanes: &Lanes) -> Counters {
    let accepted = sum(workers, |c| &c.connections_accepted);
    Counters {
        connections_accepted: accepted,
        connections_refused: sum(workers, |c| &c.connections_refused),
        connections_open: accepted.saturating_sub(sum(workers, |c| &c.connections_closed)),
        requests: sum(workers, |c| &c.requests),
        allowed: sum(workers, |c| &c.requests_allowed),
        observed: sum(workers, |c| &c.requests_observed),
        denied: sum(workers, |c| &c.requests_denied),
        malformed: sum(workers, |c| &c.requests_malformed),
        upstream_errors: sum(workers, |c| &c.upstream_errors),
        request_body_bytes: sum(workers, |c| &c.request_body_bytes),
        response_body_bytes: sum(workers, |c| &c.response_body_bytes),
        strikes: sum(workers, |c| &c.strikes),
        inspect_failures: sum(workers, |c| &c.inspect_failures),
        inspect_us: sum(workers, |c| &c.inspect_ns) / 1_000,
        access_dropped: lanes.dropped().access.load(Ordering::Relaxed),
        security_dropped: lanes.dropped().security.load(Ordering::Relaxed),
    }
}
