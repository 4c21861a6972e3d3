//! Clients are challenged before they are served: because a standing decision says so, or an app's policy.
//!
//! Flow in names: a request -> [`order`] or [`check_app`] -> a good [`Pass`] in its cookie: it goes on; else a [`Task`], as a page that
//! works for the visitor, or as JSON -> [`answer()`] at [`PLACE`] -> a [`Pass`], and back to what was asked for.
//!
//! A task and a pass are signed with keys that the nodes share, and kept nowhere: any node takes what another made. Both are the
//! app's, and the client's as far as it stays itself: its User-Agent and the ciphers of its TLS, never its address. A pass has the id and
//! the end that its task gives it, so that a task that is answered twice, here or at another node, gives one pass twice.
//!
//! Failure direction: a node without keys asks nobody, because nobody could answer. Where nothing can be shown (TLS that is passed on, TCP)
//! nobody is asked.

pub mod answer;
mod page;
pub mod sealed;
mod words;

use phalanx_decide::{Hardship, Mode, PassUsed};
use phalanx_model::{Action, ChallengeStep, HeaderField, Reason, RequestHead, Verdict, limits};

use crate::balance::slot::cookie;
use crate::client::Client;
use crate::crawlers;
use crate::http1::encode;
use crate::reply::{Form, Reply};
use crate::request::Request;
use crate::stop::Stop;
use answer::{Said, local};
use page::{Note, Page};
use sealed::{Bound, Pass, Task};

/// What a request is answered with.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A task.
    Ask {
        text: String,
        hardship: Hardship,
        /// Where to go afterwards.
        to: Vec<u8>,
        note: Option<Note>,
    },
    /// The way back, with a pass or without.
    Back { to: Vec<u8>, pass: Option<(String, u64)> },
}

/// Enforces an order that challenges or slows its actor.
pub(crate) fn order(client: &Client, request: &mut Request, verdict: Verdict) -> Result<(), Stop> {
    match verdict.action {
        Action::Throttle => slow(client, request, verdict),
        _ if request.passed.is_some() || asks_here(request) => Ok(()),
        _ => demand(client, request, verdict),
    }
}

/// Challenges a client of an app that challenges all of them.
pub(crate) fn check_app(client: &Client, request: &mut Request) -> Result<(), Stop> {
    let spared = || request.allowed || request.challenge.is_some() || client.is_for_nobody();
    let is_exempt = || request.plan.decide.is_exempt(request.client, client.worker.shared.clock.now_ms());
    if !request.app().challenges || spared() || is_exempt() {
        return Ok(());
    }
    let verdict = Verdict { action: Action::Challenge, status: STATUS, ..Verdict::allow(Reason::Challenge) };
    demand(client, request, verdict)
}

/// Answers what is asked of the place where tasks are answered; no app has anything there.
pub(crate) fn check_place(client: &Client, request: &mut Request) -> Result<(), Stop> {
    if !asks_here(request) || request.app.is_none() {
        return Ok(());
    }
    let reply = match (path(&request.head) == PLACE, request.head.method()) {
        (true, b"GET" | b"HEAD") => {
            answer(client, request);
            return Err(Stop::Challenged);
        }
        (true, _) => Reply::METHOD,
        (false, _) => Reply::NOTHING_HERE,
    };
    request.verdict.status = reply.status;
    Err(Stop::Answered(reply))
}

fn asks_here(request: &Request) -> bool {
    let target = request.head.target();
    // The first is what nearly all requests are, and decides without looking for the query.
    if target.starts_with(b"/") {
        return target.starts_with(RESERVED);
    }
    path(&request.head).starts_with(RESERVED)
}

/// The path, also of a target that names the host again (RFC 9112 section 3.2.2).
fn path(head: &RequestHead) -> &[u8] {
    let path = head.path();
    if path.starts_with(b"/") {
        return path;
    }
    let rest = memchr::memmem::find(path, b"://").and_then(|at| path.get(at + 3..)).unwrap_or_default();
    memchr::memchr(b'/', rest).and_then(|at| rest.get(at..)).unwrap_or_default()
}

fn query(head: &RequestHead) -> &[u8] {
    let target = head.target();
    memchr::memchr(b'?', target).and_then(|at| target.get(at + 1..)).unwrap_or_default()
}

fn slow(client: &Client, request: &mut Request, verdict: Verdict) -> Result<(), Stop> {
    let Reason::Decision { decision } = &verdict.reason else { return Ok(()) };
    let tables = &client.worker.shared.tables;
    let rules = &request.plan.decide.throttle;
    let slowed = tables.throttled.admit(rules, decision, request.client, tables.rates.now_ns());
    let Some(slowed) = slowed else { return Ok(()) };
    request.repeats = !slowed.is_evidence;
    refuse(request, verdict, Stop::Answered(Reply::too_many(slowed.retry_after_s)))
}

/// Lets a client go on that has passed, and challenges any other.
fn demand(client: &Client, request: &mut Request, verdict: Verdict) -> Result<(), Stop> {
    if crawlers::is_verified(request) {
        request.challenge = Some(ChallengeStep::Spared);
        return Ok(());
    }
    let shared = &client.worker.shared;
    let mut step = ChallengeStep::Given;
    if let Some(pass) = shown(client, request) {
        match pass {
            Some(PassUsed::Good) => {
                request.challenge = Some(ChallengeStep::Passed);
                return Ok(());
            }
            Some(PassUsed::TooOften { retry_after_s }) => {
                request.challenge = Some(ChallengeStep::Passed);
                request.repeats = true;
                let verdict = Verdict { action: Action::Throttle, status: 429, ..verdict };
                return refuse(request, verdict, Stop::Answered(Reply::too_many(retry_after_s)));
            }
            Some(PassUsed::Shared) | None => step = ChallengeStep::Refused,
        }
    }
    if request.app().mode == Mode::Observe {
        request.verdict = Verdict { action: Action::Observe, ..verdict };
        return Ok(());
    }
    let to = wanted(request);
    let (rules, load) = (request.plan.decide.challenge, shared.tables.pressure.level() as u8);
    let hardship = shared.tables.challenges.give(request.client, load, &rules, request.at_ms);
    let task = Task::new(request.at_ms, hardship.bits, hardship.wait_s);
    let Some(text) = task.seal(&shared.settings.pass_keys, &bound(client, request)) else { return Ok(()) };
    request.challenge = Some(step);
    request.repeats = !hardship.is_evidence;
    let note = (!matches!(request.head.method(), b"GET" | b"HEAD")).then_some(Note::NotPassedOn);
    request.outcome = Some(Box::new(Outcome::Ask { text, hardship, to, note }));
    refuse(request, verdict, Stop::Challenged)
}

fn refuse(request: &mut Request, verdict: Verdict, stop: Stop) -> Result<(), Stop> {
    let observes = request.app().mode == Mode::Observe;
    request.verdict = verdict;
    if observes {
        request.verdict.action = Action::Observe;
        return Ok(());
    }
    Err(stop)
}

/// What the pass is worth that a request shows: `None` without one, `Some(None)` for one that is none.
pub(crate) fn shown(client: &Client, request: &Request) -> Option<Option<PassUsed>> {
    let cookies = request.known.cookie.map(|field| request.head.bytes(field.value))?;
    let text = cookie(cookies, COOKIE.as_bytes())?;
    let shared = &client.worker.shared;
    let pass = Pass::open(text, &shared.settings.pass_keys, &bound(client, request));
    let pass = pass.filter(|pass| request.at_ms < pass.until_ms);
    let used =
        |pass: Pass| shared.tables.challenges.use_pass(pass.id, request.client, pass.until_ms, request.at_ms);
    Some(pass.map(used))
}

/// Takes an answer to a task.
fn answer(client: &Client, request: &mut Request) {
    let shared = &client.worker.shared;
    let said = Said::read(query(&request.head));
    let (keys, rules) = (&shared.settings.pass_keys, request.plan.decide.challenge);
    let task = Task::open(said.task, keys, &bound(client, request));
    let task = task.filter(|task| task.is_open(request.at_ms));
    let to = said.to.clone();
    let (challenges, ip, now_ms) = (&shared.tables.challenges, request.client, request.at_ms);
    let waits = said.answer.is_empty() && rules.by_waiting;
    let (step, pass_ms) = match &task {
        Some(task) if waits => {
            if now_ms < task.answerable_at_ms() || !challenges.admits_waiting(ip, now_ms) {
                return early(request, task, to);
            }
            (ChallengeStep::Waited, rules.pass_ms.min(limits::CHALLENGE_PASS_WAITED_MS))
        }
        Some(task) if task.is_solved_by(said.task, said.answer) => (ChallengeStep::Solved, rules.pass_ms),
        _ => (ChallengeStep::Failed, 0),
    };
    let pass = task.filter(|_| step != ChallengeStep::Failed).and_then(|task| {
        let pass = Pass { id: task.id, until_ms: task.issued_ms.saturating_add(pass_ms) };
        let text = pass.seal(keys, &bound(client, request))?;
        challenges
            .spend(pass.id, pass.until_ms)
            .then_some((text, pass.until_ms.saturating_sub(now_ms) / 1_000))
    });
    match pass {
        Some(_) => challenges.solved(ip, now_ms),
        None => challenges.failed(ip, now_ms),
    }
    request.challenge = Some(if pass.is_some() { step } else { ChallengeStep::Failed });
    request.verdict.status = BACK;
    // Who failed is asked again where it comes back to, if it still is to be asked.
    request.outcome = Some(Box::new(Outcome::Back { to, pass }));
}

/// Somebody without scripts did not wait: the same task stays.
fn early(request: &mut Request, task: &Task, to: Vec<u8>) {
    let text = String::from_utf8_lossy(Said::read(query(&request.head)).task).into_owned();
    let hardship = Hardship { bits: task.bits, wait_s: task.wait_s, is_evidence: false };
    request.challenge = Some(ChallengeStep::Failed);
    request.verdict =
        Verdict { action: Action::Challenge, status: STATUS, ..Verdict::allow(Reason::Challenge) };
    request.repeats = true;
    request.outcome = Some(Box::new(Outcome::Ask { text, hardship, to, note: Some(Note::Early) }));
}

/// Whom tasks and passes are for.
fn bound<'a>(client: &'a Client, request: &'a Request) -> Bound<'a> {
    let agent = request.known.user_agent.map(|field| request.head.bytes(field.value)).unwrap_or_default();
    // Behind a forwarder the TLS is the forwarder's. Of the print only the ciphers: a browser that resumes a session, or opens a
    // WebSocket, has other extensions.
    let ja4 = client.tls.as_ref().filter(|_| !request.peer_trusted).and_then(|agreed| agreed.ja4.as_ref());
    let ciphers = ja4.and_then(|ja4| ja4.as_bytes().get(11..23)).unwrap_or_default();
    Bound { app: request.app().name.as_bytes(), agent, ciphers }
}

/// Where a client goes once it has passed: to what it asked for; to the page that it came from, where what it asked for cannot be asked again.
fn wanted(request: &Request) -> Vec<u8> {
    let head = &request.head;
    if matches!(head.method(), b"GET" | b"HEAD") {
        return local(head.target()).to_vec();
    }
    let field = |field: Option<HeaderField>| field.map(|field| head.bytes(field.value)).unwrap_or_default();
    let (host, referer) = (field(request.known.host), field(request.known.referer));
    let rest =
        [b"http://".as_slice(), b"https://"].into_iter().find_map(|scheme| referer.strip_prefix(scheme));
    let path = rest.and_then(|rest| rest.strip_prefix(host)).filter(|_| !host.is_empty());
    local(path.unwrap_or_default()).to_vec()
}

/// Appends the reply; returns its status and whether a body comes with it.
pub(crate) fn write(
    out: &mut Vec<u8>,
    secure: bool,
    request: &Request,
    (form, close): (Form, bool),
    id: &[u8],
) -> (u16, bool) {
    match request.outcome.as_deref() {
        Some(Outcome::Ask { .. }) if form.grpc => {
            Reply::CHALLENGED.write(out, id, form, close, (&[], None));
            (STATUS, false)
        }
        Some(Outcome::Ask { text, hardship, to, note }) => {
            let page = Page { task: text, hardship, to, note: *note, id };
            let by_waiting = request.plan.decide.challenge.by_waiting;
            let body = match form.json || !is_navigation(request) {
                true => page.problem(),
                false => page.html(form.language, by_waiting),
            };
            encode::status_line(out, STATUS, b"");
            page::write_fields(out, &body);
            write_end(out, id, close);
            if !form.without_body {
                out.extend_from_slice(body.text.as_bytes());
            }
            (STATUS, !form.without_body)
        }
        Some(Outcome::Back { to, pass }) => {
            encode::status_line(out, BACK, b"");
            encode::field(out, b"Location", to);
            if let Some((pass, for_s)) = pass {
                let secure = if secure { "; Secure" } else { "" };
                let cookie =
                    format!("{COOKIE}={pass}; Path=/; Max-Age={for_s}; HttpOnly; SameSite=Lax{secure}");
                encode::field(out, b"Set-Cookie", cookie.as_bytes());
            }
            encode::field(out, b"Content-Length", b"0");
            write_end(out, id, close);
            (BACK, false)
        }
        None => (0, false),
    }
}

fn write_end(out: &mut Vec<u8>, id: &[u8], close: bool) {
    encode::field(out, b"Cache-Control", b"no-store");
    encode::field(out, b"X-Request-Id", id);
    if close {
        encode::field(out, b"Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a person sees what the request is answered with: not what a page, a script or a worker asks for, and no WebSocket.
fn is_navigation(request: &Request) -> bool {
    let shows = |dest: &[u8]| matches!(dest, b"document" | b"iframe" | b"frame" | b"empty-document");
    request.known.upgrade.is_none() && request.head.header("sec-fetch-dest").is_none_or(shows)
}

/// Everything below it is answered here.
const RESERVED: &[u8] = b"/.phalanx/";
/// Where tasks are answered.
pub(crate) const PLACE: &[u8] = b"/.phalanx/challenge";
/// The cookie that holds a pass.
const COOKIE: &str = "phalanx_pass";
/// 403 and not 429: to come back later is of no use, and clients that repeat what got 429 or 503 would.
const STATUS: u16 = 403;
/// A GET follows, whatever was asked (RFC 9110 section 15.4.4).
const BACK: u16 = 303;
