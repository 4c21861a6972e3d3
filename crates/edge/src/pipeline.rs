//! The stages of a request, in their order. Each is inspect, decide, act:
//!
//! `on_connect` -> `on_request_head` -> `on_request_body` -> (upstream) -> `on_response_head` -> `on_response_body` ->
//! `on_end`.
//!
//! INVARIANT: every request that has a head ends in `on_end`, and so in exactly one event, or in none if it is the node's own; and nothing of a request
//! reaches an upstream before its head, and its body up to the held limit, were judged.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use phalanx_decide::{Denial, Finding, Mode, Provenance, on_findings, standing, strike};
use phalanx_model::counters::LimitReached;
use phalanx_model::{Action, BodyFraming, FramingFault, HttpVersion, Reason, SecurityEvent, Verdict};

use crate::accounts;
use crate::acme;
use crate::ask;
use crate::audit;
use crate::challenge;
use crate::check;
use crate::client::Client;
use crate::client_certificate;
use crate::control::{Activity, Cut};
use crate::crawlers;
use crate::events;
use crate::exchange::{Exchange, Held, count_body, faulty, is_stream};
use crate::forward::went_in_a_circle;
use crate::grpc;
use crate::http1::encode;
use crate::overload;
use crate::rates;
use crate::recording;
use crate::reply::{Form, Reply};
use crate::request::{InspectedBody, Request};
use crate::route::act;
use crate::selftest;
use crate::stages::{self, Inspection};
use crate::stop::Stop;
use crate::tables::HeldBytes;
use crate::tunnel;
use crate::wide;

/// What becomes of the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request may come.
    KeepAlive,
    /// It ends now.
    Close,
    /// It ends now, and the client must see that something is missing.
    Abort,
    /// It ends once the client has had time to read the reply.
    Linger,
}

/// A connection is there: a banned peer gets time for one request, to be told its refusal, not for idling.
pub(crate) fn on_connect(client: &mut Client) {
    client.control.spared.set(false);
    let Some(peer) = client.control.client.get() else {
        return;
    };
    let shared = &client.worker.shared;
    let plan = client.worker.plan();
    let view = shared.view.load();
    let who = client.worker.identities(&view, &client.control, peer, None);
    let verdict = standing(&plan.decide, &view, &who, shared.clock.now_ms());
    client.peer_is_banned = plan.enforces() && verdict.is_some_and(|verdict| verdict.refuses());
    client.control.spared.set(client.peer_is_banned);
}

/// Takes a request through all stages.
pub(crate) async fn serve(client: &mut Client, request: &mut Request) -> After {
    let stop = stages(client, request).await.err();
    on_end(client, request, stop).await
}

async fn stages(client: &mut Client, request: &mut Request) -> Result<(), Stop> {
    if acme::asks(&request.head) && acme::answer(client, request).await? {
        return Ok(());
    }
    if selftest::asks(&request.head) && selftest::begin(client, request).await? {
        return Ok(());
    }
    on_request_head(client, request)?;
    let held = on_request_body(client, request).await?;
    if client.tests_itself {
        return selftest::pass(client, request).await;
    }
    act::check(request)?;
    let mut exchange = ask::ask(client, request, &held).await?;
    on_response_head(client, request, &exchange)?;
    if exchange.response.status == 101 {
        return upgrade(client, request, exchange).await;
    }
    let held = on_response_body(client, request, &mut exchange, held.len()).await?;
    exchange.respond(client, request, &held).await?;
    exchange.recycle(client, request);
    Ok(())
}

/// Takes a request that another proxy asks about through the stages before an upstream. The reply to it is in the client's output.
pub(crate) async fn check(client: &mut Client, request: &mut Request, body: &check::Body) {
    let stop = on_question(client, request, body).err();
    if stop.is_none() {
        Reply::write_passed(client.output(), &request.id.to_text(), &request.rate_fields);
        request.status = Reply::PASSED;
        request.replied = true;
    }
    on_end(client, request, stop).await;
}

/// Takes a request through the stages before an upstream, and its route's answer if it has one, when nobody is there to get the reply.
/// Says whether an upstream would be asked.
pub(crate) async fn rehearse(client: &mut Client, request: &mut Request, body: &check::Body) -> bool {
    let stop = on_question(client, request, body).and_then(|()| act::check(request)).err();
    on_end(client, request, stop).await;
    stop.is_none()
}

fn on_question(client: &mut Client, request: &mut Request, body: &check::Body) -> Result<(), Stop> {
    if let Some(limit) = body.no_memory {
        return Err(overloaded(request, limit));
    }
    on_request_head(client, request)?;
    count_body(client, request, body.shown.len())?;
    let wanted = request.inspection.wants_request_body().filter(|_| !body.unseen);
    let held_max = wanted.map_or(0, |wanted| wanted.min(request.app().limits.body_held_bytes));
    let held = body.shown.slice(..body.shown.len().min(held_max));
    // As where a request comes by itself: a body that nobody wants is no reason to refuse, and neither is one that was not shown.
    let complete = wanted.is_none() || body.complete && held.len() == body.shown.len();
    reserve(client, request, held.len()).map_err(|limit| overloaded(request, limit))?;
    if wanted.is_some() {
        request.inspected_body = kept_body(client, request, &held, complete);
    }
    let bytes = held.len();
    request.inspection.request_body(&client.worker, held.clone(), complete);
    accounts::note(client, request, wanted.is_some().then_some(&held));
    judge(client, request)?;
    let memory = if bytes > 0 { request.inspection.memory() } else { 0 };
    reserve(client, request, bytes.saturating_add(memory)).map_err(|limit| overloaded(request, limit))
}

/// The head is there: framing first, then whether the client may ask at all, and so often, then the rules of phase 1.
fn on_request_head(client: &mut Client, request: &mut Request) -> Result<(), Stop> {
    client.begin_body(request.head.framing);
    client.control.client.set(Some(request.client));
    client.control.agent.set(Some(request.agent));
    let fault = request.head.faults.first().copied();
    if fault.is_none() && !client.tests_itself {
        crawlers::look(client, request);
        check_standing(client, request)?;
        check_network(client, request)?;
        overload::check(client, request)?;
        challenge::check_place(client, request)?;
        challenge::check_app(client, request)?;
        rates::check(client, request)?;
        client_certificate::check(client, request)?;
    }
    if let Some((program, scope)) = request.app().inspected_by(request.raised.is_some()) {
        let connection =
            stages::connection(request.client, client.peer, client.local, request.id, request.at_ms);
        request.inspection = Inspection::begin(&client.worker, program, scope, connection);
        request.inspection.request_head(&client.worker, &request.head);
    }
    if let Some(fault) = fault {
        // Inspected for the record; refused whatever the rules say.
        let reply = Reply::to_fault(&request.head, fault);
        request.verdict = Verdict::deny(Reason::Framing { fault }, reply.status);
        return Err(Stop::Answered(reply));
    }
    if request.app.is_none() {
        let error = "no app answers to this host".to_owned();
        request.verdict =
            Verdict { status: Reply::NO_APP.status, ..Verdict::allow(Reason::Upstream { error }) };
        return Err(Stop::Answered(Reply::NO_APP));
    }
    if went_in_a_circle(&request.head, &request.known, &client.worker.shared.settings.pseudonym) {
        let error = "the request came back to this node".to_owned();
        request.verdict =
            Verdict { status: Reply::LOOP.status, ..Verdict::allow(Reason::Upstream { error }) };
        return Err(Stop::Answered(Reply::LOOP));
    }
    judge(client, request)?;
    check_body_announced(client, request)
}

/// Standing orders about the client.
pub(crate) fn check_standing(client: &Client, request: &mut Request) -> Result<(), Stop> {
    let shared = &client.worker.shared;
    let view = shared.view.load();
    if client.is_for_nobody() {
        // A balancer's own checks of health: what refused them would take the node out of service.
        return Ok(());
    }
    wide::raise(request, &view);
    let mut who = client.worker.identities(&view, &client.control, request.client, Some(request.agent));
    if view.asks_for_sessions() {
        accounts::identify(client, request, &mut who);
    }
    if let Some(verdict) = standing(&request.plan.decide, &view, &who, request.at_ms) {
        obey(client, request, verdict)?;
    }
    if view.has_wide() && !request.allowed && request.verdict.action == Action::Allow {
        return wide::check(client, request, &view);
    }
    Ok(())
}

/// Does what stands about the client itself.
fn obey(client: &Client, request: &mut Request, verdict: Verdict) -> Result<(), Stop> {
    if crawlers::spares(request, &verdict) {
        return Ok(());
    }
    match verdict.action {
        Action::Challenge | Action::Throttle => return challenge::order(client, request, verdict),
        Action::Allow | Action::Observe => request.allowed = true,
        Action::Deny | Action::Tarpit => {}
    }
    request.verdict = verdict;
    if request.allowed {
        return Ok(());
    }
    if request.app().mode == Mode::Observe {
        request.verdict.action = Action::Observe;
        return Ok(());
    }
    request.keep_alive = false;
    Err(Stop::Refused)
}

/// Who may ask at all. An order of the policy and no finding: it holds for whom the allow-list spares, and where rules only observe.
fn check_network(client: &Client, request: &mut Request) -> Result<(), Stop> {
    let Some(networks) = &request.app().networks else { return Ok(()) };
    // As with standing orders, a balancer's own checks of health pass.
    if networks.admits(request.client) || client.is_for_nobody() {
        return Ok(());
    }
    request.verdict = Verdict::deny(Reason::Network, Reply::REFUSED.status);
    Err(Stop::Refused)
}

/// What the head says about the body to come.
fn check_body_announced(client: &mut Client, request: &mut Request) -> Result<(), Stop> {
    if let BodyFraming::Length(bytes) = request.head.framing
        && bytes > request.app().limits.body_bytes
    {
        return Err(faulty(request, FramingFault::BodyTooLarge));
    }
    // RFC 9110 section 10.1.1: an HTTP/1.0 client's expectation is ignored.
    if let Some(expect) = request.known.expect
        && request.head.version != HttpVersion::Http10
    {
        if !request.head.bytes(expect.value).eq_ignore_ascii_case(b"100-continue") {
            request.verdict.status = Reply::EXPECTATION.status;
            return Err(Stop::Answered(Reply::EXPECTATION));
        }
        client.awaits_continue = !client.body.is_done();
    }
    Ok(())
}

/// The body is read as far as it is held, and judged; what is beyond follows when the upstream is there to take it.
async fn on_request_body(client: &mut Client, request: &mut Request) -> Result<Bytes, Stop> {
    let Some(wanted) = request.inspection.wants_request_body() else {
        client.send_continue().await?;
        // Rules that do not want the body still judge head and query in phase 2.
        request.inspection.request_body(&client.worker, Bytes::new(), client.body.is_done());
        accounts::note(client, request, None);
        judge(client, request)?;
        return Ok(Bytes::new());
    };
    let (held, whole) = if client.body.is_done() {
        (Bytes::new(), true)
    } else {
        let held_max = wanted.min(request.app().limits.body_held_bytes);
        hold_request_body(client, request, held_max).await?
    };
    request.inspected_body = kept_body(client, request, &held, whole);
    request.inspection.request_body(&client.worker, held.clone(), whole);
    accounts::note(client, request, Some(&held));
    judge(client, request)?;
    if !held.is_empty() {
        // What was made of the body stays in memory as long as the request does. How much that is shows only now: a worker
        // parses one body at a time, so that no more than one for each worker is beyond what was reserved.
        let memory = request.inspection.memory();
        reserve(client, request, held.len().saturating_add(memory))
            .map_err(|limit| overloaded(request, limit))?;
    }
    Ok(held)
}

/// What is kept of the body that rules saw, to be looked at once the request is over. It is shared, not copied, and on the account of its client.
fn kept_body(client: &Client, request: &Request, held: &Bytes, whole: bool) -> Option<InspectedBody> {
    let is_on_trial = client.worker.shared.tables.trial.is_active();
    match is_on_trial || recording::wants_body(client, request) {
        true if !is_on_trial && recording::withholds(held) => Some(InspectedBody::Withheld),
        true => Some(InspectedBody::Held(held.clone(), whole)),
        false => None,
    }
}

/// Holds a body up to its end or to `held_max`, and says whether that is all of it; a call of gRPC that pauses between messages has
/// said all that it does before it is answered.
async fn hold_request_body(
    client: &mut Client,
    request: &mut Request,
    held_max: usize,
) -> Result<(Bytes, bool), Stop> {
    client.send_continue().await?;
    let announced = client.body.left().and_then(|left| usize::try_from(left).ok()).unwrap_or_default();
    let mut held = Vec::with_capacity(announced.min(held_max).min(HELD_AT_FIRST_BYTES));
    let is_call = grpc::is_call(&request.head, &request.known);
    loop {
        let before = held.len();
        loop {
            let room = held_max - held.len();
            let more = client.next_body(room, |data| held.extend_from_slice(data));
            if !more.map_err(|fault| faulty(request, fault))? {
                break;
            }
        }
        count_body(client, request, held.len() - before)?;
        reserve(client, request, held.capacity()).map_err(|limit| overloaded(request, limit))?;
        if client.body.is_done() || held.len() >= held_max {
            return Ok((held.into(), client.body.is_done()));
        }
        if !is_call || !grpc::are_whole(&held) {
            client.more_body().await?;
        } else if !client.more_body_within(grpc::PAUSE_MS).await? {
            return Ok((held.into(), true));
        }
    }
}

/// Accounts for the memory of held bodies, all of it together, or names the limit that stands against it: the client or
/// the node holds too much already.
pub(crate) fn reserve(client: &Client, request: &mut Request, bytes: usize) -> Result<(), &'static str> {
    let actor = request.client;
    let shared = &client.worker.shared;
    let none = || HeldBytes::none(&shared.tables, actor, &shared.settings.limits);
    request.held.get_or_insert_with(none).grow_to(bytes)
}

/// There is no memory for a request.
fn overloaded(request: &mut Request, limit: &str) -> Stop {
    let reason = Reason::Limit { limit: limit.to_owned() };
    request.verdict = Verdict::deny(reason, Reply::OVERLOADED.status);
    Stop::Answered(Reply::OVERLOADED)
}

/// There is no memory to inspect a response: as where inspection fails, the app's `on_error` says whether it is refused or
/// passed on uninspected. A client could otherwise fill its account to have its responses pass.
fn uninspected(request: &mut Request, limit: &str) -> Result<(), Stop> {
    let app = request.app();
    let failure = format!("no memory to hold the response: {limit}");
    let finding = Finding { failure: Some(&failure), ..Finding::default() };
    let verdict = on_findings(app.mode, app.on_error, request.allowed, &finding);
    if verdict.refuses() {
        return Err(overloaded(request, limit));
    }
    if request.verdict.action == Action::Allow {
        request.verdict = verdict;
    }
    Ok(())
}

/// The response's head is there.
fn on_response_head(client: &Client, request: &mut Request, exchange: &Exchange) -> Result<(), Stop> {
    audit::note_response(client, request, &exchange.response);
    accounts::answered(client, request, &exchange.response);
    let now_ms = request.at_ms.saturating_add(request.upstream_us / 1_000);
    request.inspection.response_head(&client.worker, &exchange.response, now_ms);
    judge(client, request)
}

/// The response's body is held, where rules want to see it; what is no page but a stream never is. Without a body the
/// rules of phase 4 still judge what those before them found. `before` is what the request's own body takes.
async fn on_response_body(
    client: &mut Client,
    request: &mut Request,
    exchange: &mut Exchange,
    before: usize,
) -> Result<Bytes, Stop> {
    let inspected = request.inspection.wants_response_body();
    let wanted = inspected.max(accounts::wants_answer(request));
    let Held { body, complete, limit } = match wanted {
        Some(wanted) if !exchange.body.is_done() && !is_stream(&exchange.response) => {
            let held_max = wanted.min(request.app().limits.response_held_bytes);
            let before = before.saturating_add(request.inspection.memory());
            exchange.hold_body(client, request, held_max, before).await?
        }
        _ => Held { complete: true, ..Held::default() },
    };
    if let Some(limit) = limit.filter(|_| inspected.is_some()) {
        uninspected(request, limit)?;
    }
    let held = Bytes::from(body);
    accounts::settle(client, request, &exchange.response, &held);
    let (seen, is_all) = if inspected.is_some() { (held.clone(), complete) } else { (Bytes::new(), true) };
    request.inspection.response_body(&client.worker, seen, is_all);
    judge(client, request)?;
    if !held.is_empty() {
        // The client may take its time to read it, and what was made of it stays until then.
        let all = before.saturating_add(held.len()).saturating_add(request.inspection.memory());
        reserve(client, request, all).or_else(|limit| uninspected(request, limit))?;
    }
    Ok(held)
}

/// The connection changes its protocol: from here on bytes are carried, not looked at.
async fn upgrade(client: &mut Client, request: &mut Request, mut exchange: Exchange) -> Result<(), Stop> {
    request.keep_alive = false;
    request.replied = true;
    request.status = 101;
    exchange.write_upgrade_head(client, request);
    let (carried, result) = tunnel::carry(client, &mut exchange.upstream).await;
    request.request_bytes += carried.up;
    request.response_bytes += carried.down;
    result
}

/// Decides on what inspection found so far; refusing also counts the refusal against the client.
fn judge(client: &Client, request: &mut Request) -> Result<(), Stop> {
    let Some(finding) = request.inspection.finding() else {
        return Ok(());
    };
    let app = request.app();
    let verdict = on_findings(app.mode, app.on_error, request.allowed, &finding);
    if !verdict.refuses() {
        if request.verdict.action == Action::Allow {
            request.verdict = verdict;
        }
        return Ok(());
    }
    let by_request = request.inspection.stopped_by_request();
    let found = match client.tests_itself {
        true => request.inspection.finish_without_trace(&client.worker, Reply::REFUSED.status),
        false => request.inspection.finish(&client.worker, Reply::REFUSED.status),
    };
    request.verdict = Verdict { score: found.score, ..verdict };
    request.signals = found.signals;
    request.audit = found.audit;
    if by_request {
        count_strike(client, request);
    }
    Err(Stop::Refused)
}

/// Counts a refusal against its client; the last strike needed makes a proposal.
fn count_strike(client: &Client, request: &mut Request) {
    if client.is_for_nobody() || client.tests_itself || crawlers::is_verified(request) {
        return;
    }
    let shared = &client.worker.shared;
    let head = &request.head;
    let denial = Denial {
        request: request.id,
        client: request.client,
        agent: request.agent,
        provenance: Provenance::of(|name| head.header(name)),
        verdict: &request.verdict,
        signals: &request.signals,
    };
    let tables = &shared.tables;
    let outcome = strike(&request.plan.decide, &tables.strikes, &tables.good, &denial, request.at_ms);
    let Some(outcome) = outcome else {
        return;
    };
    client.worker.counters.strikes.fetch_add(1, Ordering::Relaxed);
    shared.lanes.security(SecurityEvent::Strike(outcome.strike));
    if let Some(proposal) = outcome.proposal {
        shared.lanes.security(SecurityEvent::Proposal(proposal));
        request.keep_alive = false;
    }
}

/// The request is over: a reply of our own where one is due, then the event.
async fn on_end(client: &mut Client, request: &mut Request, stop: Option<Stop>) -> After {
    client.control.set_limit(u64::MAX);
    count_slow(client, request, stop);
    let reply = match stop {
        None => None,
        Some(Stop::Refused) => Some(Answer::Reply(Reply::REFUSED)),
        Some(Stop::Answered(reply)) => Some(Answer::Reply(reply)),
        Some(Stop::Routed) => Some(Answer::OfRoute),
        Some(Stop::Challenged) => Some(Answer::OfChallenge),
        Some(Stop::Cut(Cut::Timeout)) if !request.replied => {
            client.control.clear_timeout();
            faulty(request, FramingFault::HeadTimeout);
            Some(Answer::Reply(Reply::TOO_SLOW))
        }
        Some(Stop::ClientGone) if client.socket.is_broken_stream() => {
            faulty(request, FramingFault::BadStream);
            None
        }
        Some(Stop::Cut(_) | Stop::ClientGone) => None,
    };
    let delivered = match reply {
        Some(own) if !request.replied => answer(client, request, own).await,
        Some(_) => false,
        None => stop.is_none(),
    };
    let unread = !client.body.is_done() || !request.head.faults.is_empty();
    match client.tests_itself {
        true => selftest::forget(client, request),
        false => events::record(client, request),
    }
    match (delivered, unread) {
        (true, true) => After::Linger,
        (true, false) if request.keep_alive => After::KeepAlive,
        // The end of a tunnel, or of a reply that ends with its connection.
        (true, false) => After::Close,
        (false, _) => After::Abort,
    }
}

/// Counts a client that was too slow with its body, or with the reply.
fn count_slow(client: &Client, request: &Request, stop: Option<Stop>) {
    let limit = match stop {
        Some(Stop::Cut(Cut::Timeout)) if request.replied && client.socket.has_output() => {
            LimitReached::ReplyRate
        }
        Some(Stop::Cut(Cut::Timeout) | Stop::Answered(Reply::TOO_SLOW)) if !client.body.is_done() => {
            LimitReached::BodyRate
        }
        _ => return,
    };
    client.worker.counters.count_limit(limit);
}

/// An answer that no upstream wrote.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Reply(Reply),
    /// What the request's route says.
    OfRoute,
    /// A challenge, or the way back from one.
    OfChallenge,
}

/// Writes an answer of our own; false if the client did not take it.
async fn answer(client: &mut Client, request: &mut Request, own: Answer) -> bool {
    client.control.activity.set(Activity::Refusing);
    // What is unread of a stream is in nobody's way.
    let in_the_way = !client.body.is_done() || !request.head.faults.is_empty();
    let unread = in_the_way && !client.socket.is_stream();
    if unread || request.head.version == HttpVersion::Http10 || client.worker.leaving.begun() {
        request.keep_alive = false;
    }
    let form = Form::of(&request.head, &request.known);
    let close = !request.keep_alive;
    let id = request.id.to_text();
    let audits = client.worker.shared.settings.audit;
    let said = act::said(client, request, &id);
    let mut fields = Vec::new();
    // Only where a limit refuses: a refusal for another reason has the same bytes, whatever is left.
    if matches!(own, Answer::Reply(Reply { status: 429, .. }) | Answer::OfRoute) {
        fields.extend_from_slice(&request.rate_fields);
    }
    if matches!(own, Answer::Reply(Reply { status: 405, .. })) {
        encode::field(&mut fields, b"Allow", b"GET, HEAD");
    }
    let parts = request.handling().map(|handling| &*handling.parts);
    if let Some(edits) = parts.and_then(|parts| parts.responses.as_ref()) {
        edits.write_own(&mut fields, &said);
    }
    let out = client.output();
    let before = out.len();
    let (status, has_body) = match own {
        Answer::Reply(reply) => {
            reply.write(out, &id, form, close, (&fields, parts.and_then(|parts| parts.pages.as_ref())));
            (reply.status, !form.without_body)
        }
        Answer::OfRoute => act::write(out, request, &said, close, &fields),
        // Fields of the policy could forbid its script to run.
        Answer::OfChallenge => challenge::write(out, said.secure, request, (form, close), &id),
    };
    let written = out.len() - before;
    if audits {
        request.reply_fields = audit::reply_fields(out.get(before..).unwrap_or_default());
    }
    request.status = status;
    request.response_bytes = written as u64;
    request.replied = true;
    let sent = client.socket.head_written(before, !has_body);
    client.socket.end_written(Vec::new());
    sent.is_ok() && client.flush().await.is_ok()
}

/// First size of a held body's buffer: what is announced may never come.
const HELD_AT_FIRST_BYTES: usize = 64 * 1024;
