//! Refused and flagged requests of all nodes: asked of each, redacted by each. For a node that does not answer its site's control nodes do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use phalanx_fleet::{Link, Member};
use phalanx_model::RequestId;
use phalanx_model::id::node_tag;
use phalanx_record::Filter;
use tokio::time::{Instant, timeout_at};

use super::events::{EventQuery, ask as ask_history, evidence, filter};
use crate::api::NodeName;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::inquiry::{Asked, FleetEvents, FoundThere, LATEST_MAX, RedactedRequest, copied};
use crate::router::Control;

/// `GET /api/v1/fleet/events`
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
    query: Result<Query<EventQuery>, QueryRejection>,
) -> Result<Json<FleetEvents>, ApiError> {
    let Query(query) = query?;
    let mut filter = filter(&query)?;
    filter.ids = evidence(&control, &who, query.incident.as_deref()).await?;
    if let Some(ids) = &mut filter.ids {
        // The newest: the question must fit into one message.
        ids.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
        ids.truncate(IDS_ASKED_MAX);
    }
    let asked = question(filter.clone());
    let mut found = ask(&control, &asked, |member| member.link == Link::Up).await?;
    let members = control.deps.fleet.members();
    let missing = |one: &&Member| !one.me && !found.answered.contains(&named(one));
    let missing: Vec<Member> = members.iter().filter(missing).cloned().collect();
    // Also who was not waited for, because it is away.
    found.silent = missing.iter().map(named).collect();
    add_copies(&control, &mut found, filter, &missing).await?;
    Ok(Json(found))
}

/// `GET /api/v1/fleet/events/{id}`
pub(crate) async fn explain(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
) -> Result<Json<RedactedRequest>, ApiError> {
    let id: RequestId = id.parse().map_err(|e| ApiError::bad_request(format!("{e}")))?;
    // The id tells which node served it; also one that is hard to hear is waited for.
    let served = |member: &Member| node_tag(&member.site, &member.node) == id.node_tag();
    let mut found = ask(&control, &Asked::Request(id), served).await?;
    if found.requests.is_empty() {
        let members = control.deps.fleet.members();
        let missing: Vec<Member> = members.into_iter().filter(|one| !one.me && served(one)).collect();
        let filter = Filter { ids: Some(vec![id]), limit: 1, ..Filter::default() };
        add_copies(&control, &mut found, filter, &missing).await?;
    }
    let told = found.requests.into_iter().find(|request| request.id == id).map(|mut told| {
        told.summary.truncate(SENTENCES_MAX);
        told.summary.iter_mut().for_each(|one| *one = one.chars().take(SENTENCE_CHARS_MAX).collect());
        told
    });
    told.map(Json).ok_or_else(|| {
        ApiError::not_found(format!(
            "no other node that answers has a refused or flagged request {id} in its history, or in its copy of another's"
        ))
    })
}

/// Of nodes that do not answer, what control nodes of their sites have of them.
async fn add_copies(
    control: &Control,
    found: &mut FleetEvents,
    mut filter: Filter,
    missing: &[Member],
) -> Result<(), ApiError> {
    // A request of a node that is forgotten everywhere may still be in copies.
    let of_nobody = missing.is_empty() && filter.ids.as_ref().is_some_and(|ids| ids.len() == 1);
    if missing.is_empty() && !of_nobody {
        return Ok(());
    }
    let most = if filter.ids.as_ref().is_some_and(|ids| ids.len() > 1) { 16 } else { MISSING_MAX };
    let tag = |one: &Member| node_tag(&one.site, &one.node);
    filter.node_tags = (!of_nobody).then(|| missing.iter().take(most).map(tag).collect());
    filter.limit = filter.limit.clamp(1, LATEST_MAX);
    let of_site = |site: &str| of_nobody || missing.iter().any(|one| *one.site == *site);
    let deps = &control.deps;
    let mut told: Vec<(NodeName, FoundThere)> = Vec::new();
    if let (true, Some(copies)) = (of_site(&deps.site), deps.copies.history()) {
        let (filter, site) = (filter.clone(), Arc::clone(&deps.site));
        let own = ask_history(control, move |_| Ok(copied(&copies, &filter, &site))).await?;
        told.extend(own.map(|there| (name(&deps.site, &deps.node), there)));
    }
    let has_copies = |one: &Member| {
        one.link == Link::Up
            && deps.fleet.is_control(&one.site, &one.node)
            && *one.site != *deps.site
            && of_site(&one.site)
    };
    if deps.fleet.members().iter().any(has_copies) {
        let others = ask_all(control, &Asked::Copies(Box::new(filter)), has_copies).await?;
        let read = |(from, bytes): (NodeName, Vec<u8>)| {
            serde_json::from_slice(&bytes).ok().map(|there: FoundThere| (from, there))
        };
        told.extend(others.answers.into_iter().filter_map(read));
    }
    for (from, there) in told {
        let of_it = |one: &&Member| *one.site == *from.site && there.has.contains(&tag(one));
        found.copied.extend(missing.iter().take(most).filter(of_it).map(named));
        // It speaks for nodes of its own site, of those that did not speak.
        let is_missing = |one: &RedactedRequest| {
            let named = |node: &Member| node.site == one.site && node.node == one.node;
            *one.site == *from.site && (of_nobody || missing.iter().any(named))
        };
        let rows = there.requests.into_iter().filter(is_missing).take(LATEST_MAX);
        found.requests.extend(rows.map(|row| RedactedRequest { copied_by: Some(from.to_string()), ..row }));
        found.next = found.next.max(there.next);
    }
    found.copied.sort_unstable();
    found.copied.dedup();
    in_order(found);
    Ok(())
}

/// Newest first, each once, as far as all have looked: what is older is on the next page, with what the others have there.
fn in_order(found: &mut FleetEvents) {
    if let Some(next) = found.next {
        found.requests.retain(|request| request.id >= next);
    }
    found.requests.sort_by_key(|request| std::cmp::Reverse(request.id));
    found.requests.dedup_by_key(|request| request.id);
}

fn name(site: &str, node: &str) -> NodeName {
    NodeName { site: site.to_owned(), node: node.to_owned() }
}

fn named(member: &Member) -> String {
    name(&member.site, &member.node).to_string()
}

/// The question of a filter; one that nodes of the version before understand, where they know all that it filters by.
fn question(mut filter: Filter) -> Asked {
    filter.limit = filter.limit.min(LATEST_MAX);
    let Filter { client, action, rule, before, since_ms, limit, .. } = filter;
    let known = Filter { client, action, rule, before, since_ms, limit, ..Filter::default() };
    match known == filter {
        true => Asked::Latest { client, action, rule, before, since_ms, limit },
        false => Asked::Search(Box::new(filter)),
    }
}

/// What others said to a question about requests, each node of its own.
async fn ask(
    control: &Control,
    asked: &Asked,
    waits_for: impl Fn(&Member) -> bool,
) -> Result<FleetEvents, ApiError> {
    let others = ask_all(control, asked, waits_for).await?;
    let mut found = FleetEvents {
        silent: others.silent.iter().map(NodeName::to_string).collect(),
        ..FleetEvents::default()
    };
    for (name, bytes) in others.answers {
        let there = match asked {
            Asked::Search(_) => serde_json::from_slice(&bytes).unwrap_or_default(),
            _ => FoundThere {
                requests: serde_json::from_slice(&bytes).unwrap_or_default(),
                next: None,
                has: Vec::new(),
            },
        };
        let full = matches!(asked, Asked::Latest { limit, .. } if there.requests.len() >= *limit);
        let next = there.next.or_else(|| there.requests.last().filter(|_| full).map(|last| last.id));
        // A node speaks of what it served itself.
        let own = there.requests.into_iter().filter(|one| *one.site == *name.site && *one.node == *name.node);
        found.requests.extend(own.take(LATEST_MAX));
        found.next = found.next.max(next);
        found.answered.push(name.to_string());
    }
    in_order(&mut found);
    Ok(found)
}

/// What others answered, and who did not.
pub(super) struct Others {
    pub(super) answers: Vec<(NodeName, Vec<u8>)>,
    pub(super) silent: Vec<NodeName>,
}

/// Asks all others, and waits until all that are waited for have answered, or the time is over.
pub(super) async fn ask_all(
    control: &Control,
    asked: &Asked,
    waits_for: impl Fn(&Member) -> bool,
) -> Result<Others, ApiError> {
    ask_patiently(control, asked, waits_for, WAIT).await
}

/// The same, for as long as is said.
pub(super) async fn ask_patiently(
    control: &Control,
    asked: &Asked,
    waits_for: impl Fn(&Member) -> bool,
    wait: Duration,
) -> Result<Others, ApiError> {
    let fleet = &control.deps.fleet;
    let members = fleet.members();
    let waited = members.iter().filter(|member| !member.me && waits_for(member));
    let mut silent: BTreeSet<NodeName> = waited.map(|member| name(&member.site, &member.node)).collect();
    let question = serde_json::to_vec(asked).unwrap_or_default();
    let mut replies = fleet.ask(&question).await?;
    let mut answers = Vec::new();
    let until = Instant::now() + wait;
    while !silent.is_empty() {
        let Ok(Some(answer)) = timeout_at(until, replies.recv()).await else { break };
        let from = name(&answer.site, &answer.node);
        if silent.remove(&from) {
            answers.push((from, answer.bytes));
        }
    }
    Ok(Others { answers, silent: silent.into_iter().collect() })
}

/// What another node says in words, and for how long: who has stolen one may say anything of its requests.
const SENTENCES_MAX: usize = 24;
const SENTENCE_CHARS_MAX: usize = 800;
/// Requests that others are asked for at once.
const IDS_ASKED_MAX: usize = 24;
/// Nodes whose copies are asked for at once: the question must fit into one message.
const MISSING_MAX: usize = 64;
/// For a search in a history and a way around the world.
const WAIT: Duration = Duration::from_secs(2);
