//! Decisions about whoever comes with some software or asks for some place: they hit many, and so spare whom the node has reason to know.
//!
//! Flow in names: a request that nothing stands against by itself -> [`check`] -> a verdict about its software, route or app -> known good:
//! it goes on; else refused, challenged or slowed as by any other decision.
//!
//! Who is known: whom bans spare anyway; crawlers that were verified; whoever shows a pass; whose session belongs to an account that logged in.
//! A place is also open to whoever was served well at the same address before it was closed. Of software that does not count: an attack from
//! rotating addresses comes from behind honest people, too.
//!
//! Failure direction: who is not known is not spared; whose software is not known is hit by no order about software.

use std::sync::atomic::Ordering;

use phalanx_decide::{Mode, PassUsed, standing_wide};
use phalanx_model::net::network_of;
use phalanx_model::{Action, Actor, ActorKey, Decision, Raised, Reason, View, limits, names};

use crate::accounts;
use crate::challenge;
use crate::client::Client;
use crate::crawlers;
use crate::request::Request;
use crate::stop::Stop;

/// Enforces what stands about the software and the place of a request. Called only where a view has anything of that kind.
#[cold]
pub(crate) fn check(client: &Client, request: &mut Request, view: &View) -> Result<(), Stop> {
    if request.app.is_none() || request.passed.is_some() {
        return Ok(());
    }
    let keys = keys(client, request, view);
    let verdict = standing_wide(&request.plan.decide, view, &keys, request.client, request.at_ms);
    let Some(verdict) = verdict else { return Ok(()) };
    let Reason::Decision { decision } = &verdict.reason else { return Ok(()) };
    if verdict.action == Action::Allow
        || crawlers::is_verified(request)
        || is_known(client, request, decision, verdict.action)
    {
        return Ok(());
    }
    if verdict.action != Action::Deny {
        return challenge::order(client, request, verdict);
    }
    request.verdict = verdict;
    // A flood that is refused must not push out of the history what else there is.
    let nth = client.worker.shared.tables.refused_wide.fetch_add(1, Ordering::Relaxed);
    request.repeats = !nth.is_multiple_of(EVIDENCE_EVERY);
    if request.app().mode == Mode::Observe {
        request.verdict.action = Action::Observe;
        return Ok(());
    }
    request.keep_alive = false;
    Err(Stop::Refused)
}

/// Notes which order raises the paranoia of the rules that are to inspect a request, if one does. An app without a second program asks nothing.
///
/// Nobody is spared: what a known client sends may be an attack as well. Whom the allow-list names is inspected by these rules, too, and as
/// ever not refused.
pub(crate) fn raise(request: &mut Request, view: &View) {
    let Some(rules) = &request.app().raised else { return };
    let found = view.raises(rules.app, request.at_ms);
    request.raised = found.map(|found| Raised {
        level: rules.level,
        decision: found.id(),
        until_ms: found.expires_at_ms(),
    });
}

/// What decisions call the software and the place of a request; what is not known of it is its network once more.
fn keys(client: &Client, request: &Request, view: &View) -> [ActorKey; 5] {
    let app = &request.app().name;
    let route = request.route.and_then(|route| request.plan.route(route));
    let route = names::route(app, route.map(|route| &*route.name).unwrap_or_default());
    let ja4 = client.tls.and_then(|agreed| agreed.ja4);
    let software = client.worker.shared.settings.names.software(ja4.as_ref(), client.http_print.as_deref());
    let (app, route) = (ActorKey::App(names::app(app)), ActorKey::Route(route));
    // What the fleet orders about networks is found with the client; what the node orders itself is not.
    let network = Actor::prefix(network_of(request.client)).key();
    // Where it is, is looked up only if an order asks for it.
    let asks_for_asn = view.here().iter().any(|one| matches!(one.actor, Actor::Asn(_)));
    let place = asks_for_asn.then(|| client.worker.place(&client.control, request.client));
    let system = place.and_then(|place| place.asn).map_or(network, ActorKey::Asn);
    [app, route, network, software.map_or(network, ActorKey::Software), system]
}

/// Whether there is reason to believe that a client is none of those an order is meant for.
fn is_known(client: &Client, request: &Request, decision: &Decision, action: Action) -> bool {
    // Where a proof is asked for, the pass is looked at by who asks.
    let is_sound = |used| matches!(used, Some(Some(PassUsed::Good)));
    if action == Action::Deny && is_sound(challenge::shown(client, request)) {
        return true;
    }
    let tables = &client.worker.shared.tables;
    let (session, account) = accounts::session_of(client, request);
    if let (Some(session), Some(_)) = (session, account) {
        // Within the bounds of a pass, so that one session is no way in for a thousand addresses.
        let until_ms = request.at_ms.saturating_add(limits::CHALLENGE_PASS_WAITED_MS);
        let used = tables.challenges.use_pass(u128::from(session), request.client, until_ms, request.at_ms);
        return used == PassUsed::Good;
    }
    let who = session.unwrap_or(request.agent);
    !matches!(decision.actor.key(), ActorKey::Software(_))
        && tables.good.knew(request.client, who, decision.created_at_ms, request.at_ms)
}

/// Of so many requests that are refused by such orders one is kept as evidence.
const EVIDENCE_EVERY: u64 = 64;
