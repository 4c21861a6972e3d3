//! Exactly one event per request, whatever became of it.

use std::sync::Arc;

use phalanx_decide::Provenance;
use phalanx_model::counters::WorkerCounters;
use phalanx_model::limits::SIGNALS_KEPT_MAX;
use phalanx_model::{AccessEvent, Action, Confidence, Reason, RuleClass, SecurityEvent, Signal};

use crate::accounts;
use crate::audit;
use crate::client::Client;
use crate::client_address;
use crate::crawlers;
use crate::mask::{TEXT_BYTES_MAX, mask_referer, mask_target, text};
use crate::overload;
use crate::recording;
use crate::request::Request;
use crate::trial;

/// Records a request that is over: clean ones in the access lane, refused and flagged ones, with their evidence, in the
/// security lane, but for most of those that a client goes on to send beyond a rate limit.
pub(crate) fn record(client: &Client, request: &mut Request) {
    let worker = &client.worker;
    finish_inspection(client, request);
    note_attack(client, request);
    note_disbelief(request);
    crawlers::note_false_claim(request);
    count(&worker.counters, request);
    count_classes(&worker.counters, request);
    trial::note(client, request);
    recording::note(client, request);
    let total_us = request.count_times(client);
    if let Some(step) = request.challenge {
        worker.counters.apps.count_challenge(request.plan.slot(request.app), step);
    }
    let mut access = Box::new(access_event(client, request, total_us));
    access.audit = audit::detail(client, request);
    let verdict = &access.verdict;
    let found = !request.head.faults.is_empty() || !request.signals.is_empty();
    let repeats = request.repeats
        || match &verdict.reason {
            Reason::RateLimit(excess) => !excess.is_evidence(),
            // What is shed is many, and says nothing about who asked.
            Reason::Limit { limit } => limit == overload::SHED,
            _ => false,
        };
    if found || verdict.action != Action::Allow && !repeats {
        let signals = std::mem::take(&mut request.signals);
        let faults = std::mem::take(&mut request.head.faults);
        return worker.shared.lanes.security(SecurityEvent::Request { access, signals, faults });
    }
    // What the node answered itself says nothing about a client.
    let served = request.upstream_us > 0 && (200..400).contains(&request.status);
    if verdict.reason == Reason::Clean && served {
        // By which clients at one address are told apart.
        let session = access.deed.and_then(|deed| deed.session).unwrap_or(request.agent);
        worker.shared.tables.good.note(request.client, session, request.at_ms);
    }
    worker.shared.lanes.access(access);
}

/// Phase 5 of a request that was not refused by its rules.
fn finish_inspection(client: &Client, request: &mut Request) {
    let found = request.inspection.finish(&client.worker, request.status);
    if request.signals.is_empty() {
        request.signals = found.signals;
    }
    if found.audit.is_some() {
        request.audit = found.audit;
    }
    request.verdict.score = request.verdict.score.max(found.score);
    if let Some(rule) = found.would_refuse
        && request.verdict.action == Action::Allow
        && matches!(request.verdict.reason, Reason::Clean | Reason::AllowListed)
    {
        request.verdict.action = Action::Observe;
        request.verdict.reason = Reason::Rule { rule };
    }
}

/// What was not believed of forwarding fields is a finding of its own: no rule made it, and it counts against nobody.
fn note_disbelief(request: &mut Request) {
    if let Some(disbelief) = request.disbelief
        && request.signals.len() < SIGNALS_KEPT_MAX
    {
        let signal = client_address::signal(&request.head, &request.app().client_address, disbelief);
        request.signals.push(signal);
    }
}

/// Remembers that a client sends attacks, also where they are only observed: it is none of those who are served well. As with strikes,
/// what another site's page made its browser send says nothing about it.
fn note_attack(client: &Client, request: &Request) {
    let attack = RuleClass::Detection(Confidence::High);
    if request.signals.iter().any(|signal| signal.rule.class == attack)
        && Provenance::of(|name| request.head.header(name)) != Provenance::CrossSite
    {
        client.worker.shared.tables.good.note_attack(request.client, request.at_ms);
    }
}

fn count(counters: &WorkerCounters, request: &Request) {
    WorkerCounters::add_one(&counters.requests);
    if request.head.faults.is_empty() {
        counters.count_action(request.verdict.action);
    } else {
        WorkerCounters::add_one(&counters.requests_malformed);
    }
}

/// Counts signals and the refusal they led to by class. A refusal counts for the finding that speaks most for an attack:
/// the rule that refuses at a sum of scores found nothing itself.
fn count_classes(counters: &WorkerCounters, request: &Request) {
    for signal in request.signals.iter().filter(|signal| is_finding(signal)) {
        let place = signal.rule.class.index();
        counters.class_signals.get(place).into_iter().for_each(WorkerCounters::add_one);
    }
    let Reason::Rule { rule } = request.verdict.reason else { return };
    if !request.verdict.refuses() {
        return;
    }
    let refuses = |signal: &&Signal| signal.rule.id == rule;
    let counts = |signal: &&Signal| {
        !signal.observed && (signal.rule.id == rule || signal.score > 0) && is_finding(signal)
    };
    let place = |signal: &Signal| signal.rule.class.index();
    let found = request.signals.iter().filter(counts).map(place).min();
    let place = found.or_else(|| request.signals.iter().find(refuses).map(place));
    if let Some(count) = place.and_then(|place| counters.class_refusals.get(place)) {
        WorkerCounters::add_one(count);
    }
}

/// Whether a signal is about the request, and not only about what other rules added up.
fn is_finding(signal: &Signal) -> bool {
    let stated = signal.rule.tags.iter().any(|tag| tag.starts_with("phalanx/class/"));
    stated || signal.matches.iter().any(|found| !found.variable.starts_with("TX:"))
}

fn access_event(client: &Client, request: &mut Request, duration_us: u64) -> AccessEvent {
    let forwarded_id = forwarded_id(request);
    let upstream = request.upstream.take();
    let head = &request.head;
    let known = &request.known;
    let value =
        |field: Option<phalanx_model::HeaderField>| field.map(|f| head.bytes(f.value)).unwrap_or_default();
    AccessEvent {
        id: request.id,
        at_ms: request.at_ms,
        app: request.app().name.clone(),
        route: request.route.and_then(|route| request.plan.route(route)).map(|route| Arc::clone(&route.name)),
        client: request.client,
        peer: client.asked.map_or(client.peer, |asked| asked.by).ip().to_canonical(),
        check: client.asked.map(|asked| asked.kind),
        method: text(head.method(), METHOD_BYTES_MAX),
        host: text(value(known.host), TEXT_BYTES_MAX),
        target: mask_target(head.target()),
        protocol: request.passed.unwrap_or_else(|| head.version.as_str()).to_owned(),
        user_agent: text(value(known.user_agent), TEXT_BYTES_MAX),
        referer: mask_referer(value(known.referer)),
        status: request.status,
        request_bytes: request.request_bytes,
        response_bytes: request.response_bytes,
        duration_us,
        upstream_us: request.upstream_us,
        verdict: request.verdict.clone(),
        plan_version: request.plan.version,
        view_revision: request.view_revision,
        tls: client.tls.map(|agreed| agreed.version.into()),
        ja4: client.tls.and_then(|agreed| agreed.ja4),
        tls_group: client.tls.and_then(|agreed| agreed.group).map(|group| group.name().into()),
        upstream,
        trace: request.trace.trace,
        forwarded_id,
        phases: request.phases,
        http_print: client.http_print.clone(),
        balancer: client.proxied.map(|proxied| proxied.by),
        challenge: request.challenge,
        deed: accounts::deed(client, request),
        crawler: crate::crawlers::is_verified(request),
        agent: Some(request.agent),
        raised: request.raised,
        audit: None,
    }
}

/// What a forwarder that is trusted calls the request. Anybody can write the field: from others it is not kept.
fn forwarded_id(request: &Request) -> Option<String> {
    let value = request.head.bytes(request.known.request_id?.value);
    (request.peer_trusted && !value.is_empty()).then(|| text(value, FORWARDED_ID_BYTES_MAX))
}

/// Longest id of a forwarder recorded; those in use have up to 55.
const FORWARDED_ID_BYTES_MAX: usize = 128;
/// Longest method recorded.
const METHOD_BYTES_MAX: usize = 32;
