//! The fleet's policy: show, push, promote, roll back, move its home.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use phalanx_fleet::policy::Maker;
use phalanx_fleet::policy::judge::Judgement;
use phalanx_fleet::{BundleRef, Stage};
use phalanx_model::limits::{POLICY_BUNDLE_BYTES_MAX, REASON_BYTES_MAX};

use crate::api::{
    self, MemberPolicy, NewPolicyChange, PolicyHome, PolicyPush, PolicyRollback, PolicyTrial, PolicyVersion,
};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::handlers::changes;
use crate::handlers::status::members;
use crate::reason;
use crate::router::Control;

/// `GET /api/v1/policy`
pub(crate) async fn show(State(control): State<Arc<Control>>) -> Json<api::Policy> {
    Json(describe(&control))
}

/// `POST /api/v1/policy/bundles`. What does not compile here is not pushed, nor what needs a second operator.
pub(crate) async fn push(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<PolicyPush>, JsonRejection>,
) -> Result<(StatusCode, Json<api::Policy>), ApiError> {
    let Json(order) = body?;
    let PolicyPush { entry, files, expect, canary_site, canary_node, bake_ms, reason, source } = order;
    let order = NewPolicyChange {
        entry,
        files,
        content_of: None,
        base: expect,
        reason,
        source: changes::claimed(source)?,
        canary_site,
        canary_node,
        bake_ms,
    };
    match changes::publish_alone(&control, &who, order).await? {
        true => Ok((StatusCode::CREATED, Json(describe(&control)))),
        false => Ok((StatusCode::OK, Json(api::Policy { unchanged: true, ..describe(&control) }))),
    }
}

/// `POST /api/v1/policy/promote`
pub(crate) async fn promote(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
) -> Result<Json<api::Policy>, ApiError> {
    control.record(&who, "promote the policy on trial")?;
    control.deps.fleet.promote_policy(None, &who.author(), "an operator promoted it").await?;
    Ok(Json(describe(&control)))
}

/// `POST /api/v1/policy/rollback`
pub(crate) async fn roll_back(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<PolicyRollback>, JsonRejection>,
) -> Result<Json<api::Policy>, ApiError> {
    let Json(order) = body?;
    needed_reason(&order.reason)?;
    let _one_at_a_time = control.reloading.lock().await;
    let from = changes::may_go_back(&control, &who, order.to).await?;
    control.record(&who, &format!("roll the policy back: {}", order.reason))?;
    let (maker, why) = (Maker::of_files(who.author()), changes::rolled_back(&order.reason));
    control.deps.fleet.roll_policy_back(order.to, from, maker, &why).await?;
    Ok(Json(describe(&control)))
}

/// `POST /api/v1/policy/home`
pub(crate) async fn move_home(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    body: Result<Json<PolicyHome>, JsonRejection>,
) -> Result<Json<api::Policy>, ApiError> {
    let Json(order) = body?;
    control.record(&who, &format!("move the home of policy to site {}", order.site))?;
    control.deps.fleet.move_policy_home(&order.site, &who.author()).await?;
    Ok(Json(describe(&control)))
}

/// Who tries a policy first.
pub(crate) fn stage(
    site: &Option<String>,
    node: &Option<String>,
    bake_ms: Option<u64>,
) -> Result<Option<Stage>, ApiError> {
    match (site, node) {
        (None, Some(_)) => Err(ApiError::bad_request("canary_node needs canary_site")),
        (None, None) if bake_ms.is_some() => Err(ApiError::bad_request(
            "bake_ms is for a trial: name a canary_site, and a canary_node if one alone tries it",
        )),
        (None, None) => Ok(None),
        (Some(site), None) => Ok(Some(Stage::Site { site: site.clone() })),
        (Some(site), Some(node)) => Ok(Some(Stage::Node { site: site.clone(), node: node.clone() })),
    }
}

pub(crate) fn decoded(files: BTreeMap<String, String>) -> Result<BTreeMap<String, Vec<u8>>, ApiError> {
    let one = |(name, text): (String, String)| match STANDARD.decode(text) {
        Ok(bytes) => Ok((name, bytes)),
        Err(_) => Err(ApiError::bad_request(format!("the file {name:?} is not base64"))),
    };
    files.into_iter().map(one).collect()
}

pub(crate) fn check_reason(reason: &str) -> Result<(), ApiError> {
    reason::check(reason, REASON_BYTES_MAX / 2)
}

/// The same where there must be one.
pub(crate) fn needed_reason(reason: &str) -> Result<(), ApiError> {
    reason::needed(reason, REASON_BYTES_MAX / 2)
}

fn describe(control: &Control) -> api::Policy {
    let state = control.deps.fleet.policy_state();
    let nodes = members(&control.deps.fleet, control.now_ms());
    let nodes = nodes.into_iter().map(|member| api::PolicyNode {
        site: member.site,
        node: member.node,
        online: member.online,
        policy: member.policy,
    });
    let nodes = nodes.collect();
    let has_file = (control.deps.running)().entry.is_some();
    let Some(record) = state.record else {
        return api::Policy {
            version: 0,
            stable: None,
            trial: None,
            chain: Vec::new(),
            home: String::new(),
            epoch: 0,
            serial: 0,
            note: String::new(),
            changed_at_ms: 0,
            nodes,
            has_file,
            unchanged: false,
        };
    };
    let judgement = match state.judgement {
        Some(Judgement::Wait(what)) => format!("waits for {what}"),
        Some(Judgement::Promote) => "went well".to_owned(),
        Some(Judgement::RollBack(why)) => format!("goes badly: {why}"),
        None => String::new(),
    };
    api::Policy {
        version: record.newest().version,
        stable: Some(version(&record.stable)),
        trial: record.trial.as_ref().map(|trial| PolicyTrial {
            version: version(&trial.bundle),
            stage: trial.stage.to_string(),
            started_at_ms: trial.started_at_ms,
            bake_ms: trial.bake_ms,
            judgement,
        }),
        chain: record.chain.iter().map(version).collect(),
        home: record.home.to_string(),
        epoch: record.epoch,
        serial: record.serial,
        note: record.note.clone(),
        changed_at_ms: record.changed_at_ms,
        nodes,
        has_file,
        unchanged: false,
    }
}

fn version(bundle: &BundleRef) -> PolicyVersion {
    PolicyVersion {
        version: bundle.version,
        hash: bundle.hash.clone(),
        previous: bundle.previous.clone(),
        bytes: bundle.bytes,
    }
}

/// What a node says of policy, as the API shows it.
pub(crate) fn member(beat: phalanx_fleet::policy::PolicyBeat) -> MemberPolicy {
    let (refused_version, refused) = beat.refused.map(|refused| (refused.version, refused.reason)).unzip();
    let health = beat.health;
    MemberPolicy {
        version: beat.running.version,
        hash: beat.running.hash,
        refused_version,
        refused,
        trial_clients: health.map(|health| health.clients),
        trial_refused: health.map(|health| health.refused),
        trial_erred: health.map(|health| health.erred),
    }
}

/// Largest body of a push: a bundle in base64, in JSON.
pub(crate) const PUSH_BYTES_MAX: usize = POLICY_BUNDLE_BYTES_MAX / 3 * 4 + 1024 * 1024;
