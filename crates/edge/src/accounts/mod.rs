//! Whose a request is and what it tries, for its event: the session by cookie or token, logins, questions about accounts, payments.
//!
//! Flow in names: body read -> [`note`] (is it an [`Attempt`]?) -> response head -> [`answered`] (how did it end?) -> response body, if
//! [`wants_answer`] -> [`settle`] -> [`deed`] (into the event). The session that a login begins is remembered with its account in
//! [`SessionAccounts`].
//!
//! INVARIANT: names and secrets are hashed where they are found, under the fleet's key; none leaves [`fields`] or [`session`].
//! Failure direction: nothing here refuses a request. What cannot be told is not told, or told as unknown.

pub(crate) mod fields;
pub(crate) mod outcome;
mod said;
pub(crate) mod session;

use std::rc::Rc;

use bytes::Bytes;
use phalanx_decide::rate::path::{Separators, normalise};
use phalanx_model::deed::{Outcome, Step};
use phalanx_model::limits::LOGIN_PATHS_MAX;
use phalanx_model::shape::{mix, shape};
use phalanx_model::{Deed, Identities, NameKey};
use phalanx_policy::{AccountEndpoint, Accounts, EndpointKind, Success};

use crate::client::Client;
use crate::http1::ResponseHead;
use crate::request::Request;
use crate::stages::Inspection;
use fields::Found;
use outcome::{Answer, LoginPaths};
use session::SessionAccounts;
pub use session::SessionOwner;

/// What the node remembers of sessions and logins.
#[derive(Debug, Default)]
pub struct AccountTables {
    sessions: SessionAccounts,
    paths: LoginPaths<LOGIN_PATHS_MAX>,
}

/// What a request tries, while its answer is not there.
#[derive(Debug)]
pub(crate) struct Attempt {
    step: Step,
    account: Option<u64>,
    secret: Option<u16>,
    shape: u64,
    /// Of those that policy declares, its place.
    declared: Option<usize>,
    /// App and path.
    target: u64,
    /// The session that the answer begins.
    begins: Option<u64>,
    /// The session that the account has then: that one, or the request's.
    session: Option<u64>,
    /// The body of the answer may say more than its head.
    wants_answer: bool,
}

impl AccountTables {
    /// Whose sessions are, for the process that follows.
    pub fn owners(&self) -> Vec<SessionOwner> {
        self.sessions.all()
    }

    /// Whose a session is, as far as this node knows; that keeps it known.
    pub fn owner(&self, session: u64, now_s: u32) -> Option<u64> {
        self.sessions.get(session, now_s)
    }

    /// Takes in what the process before knew, unless the session has begun anew since.
    pub fn remember(&self, (session, account, used_s): SessionOwner) {
        if self.sessions.get(session, used_s).is_none() {
            self.sessions.put(session, account, used_s);
        }
    }
}

/// Finds out what a request tries; `body` is what was held of its body, `None` where nobody reads it.
pub(crate) fn note(client: &Client, request: &mut Request, body: Option<&Bytes>) {
    if matches!(request.head.method(), b"GET" | b"HEAD" | b"OPTIONS") {
        return;
    }
    let plan = Rc::clone(&request.plan);
    let app = plan.app(request.app);
    let names = &client.worker.shared.settings.names;
    let mut path = Vec::with_capacity(request.head.target().len());
    normalise(request.head.target(), Separators::Any, &mut path);
    let path = trimmed(&path);
    let (declared, found) =
        attempt(&app.accounts, (request.head.method(), path), (&request.inspection, body.is_some()), names);
    let Some(Found { step, account, secret }) = found else { return };
    let target = mix(names.hash("app", app.name.as_bytes()) ^ names.hash("path", path));
    let shape = body.map_or(0, |body| shape(body));
    let (begins, session, wants_answer) = (None, None, false);
    let attempt = Attempt { step, account, secret, shape, declared, target, begins, session, wants_answer };
    request.attempt = Some(Box::new(attempt));
}

fn attempt(
    accounts: &Accounts,
    (method, path): (&[u8], &[u8]),
    (inspection, is_read): (&Inspection, bool),
    names: &NameKey,
) -> (Option<usize>, Option<Found>) {
    let is_it =
        |endpoint: &AccountEndpoint| endpoint.path.as_bytes() == path && endpoint.method.as_bytes() == method;
    let declared = accounts.endpoints.iter().position(is_it);
    let endpoint = declared.and_then(|place| accounts.endpoints.get(place));
    let arguments = inspection.body_arguments().filter(|_| is_read);
    let found = match (endpoint, arguments) {
        (Some(endpoint), Some(arguments)) => Some(fields::declared(endpoint, arguments, names)),
        (Some(endpoint), None) => Some(Found::unread(step_of(endpoint.kind))),
        (None, _) if !accounts.learn => None,
        (None, Some(arguments)) => fields::recognised(path, arguments, names),
        (None, None) => fields::is_common_login(path).then(|| Found::unread(step_of(EndpointKind::Login))),
    };
    (declared, found)
}

/// The upstream answered: that says how an attempt ended, and which session it begins.
pub(crate) fn answered(client: &Client, request: &mut Request, response: &ResponseHead) {
    let Some(mut attempt) = request.attempt.take() else { return };
    let plan = Rc::clone(&request.plan);
    let accounts = &plan.app(request.app).accounts;
    let (names, tables) = (&client.worker.shared.settings.names, &client.worker.shared.tables.accounts);
    let before = session::of_request(accounts, request, names);
    let answer = Answer::of(response, accounts, before, names);
    let success = attempt.success(accounts);
    let by_rule = success.map(|success| outcome::by_rule(success, &answer));
    attempt.step = match attempt.step {
        Step::Login(_) => Step::Login(by_rule.unwrap_or_else(|| tables.paths.judge(attempt.target, &answer))),
        Step::Payment(_) => Step::Payment(by_rule.unwrap_or_else(|| outcome::of_payment(&answer))),
        step => step,
    };
    attempt.wants_answer = match success {
        Some(success) => success.body.is_some() && by_rule == Some(Outcome::Passed),
        None => attempt.step != Step::Lookup && said::may_say(response),
    };
    attempt.begins = answer.session;
    attempt.session = answer.session.or(before);
    request.attempt = Some(attempt);
}

/// How much of the answer's body is to be held, if it says how an attempt ended.
pub(crate) fn wants_answer(request: &Request) -> Option<usize> {
    request.attempt.as_deref().filter(|attempt| attempt.wants_answer).map(|_| ANSWER_BYTES_MAX)
}

/// What is known now of how an attempt ended is all that will be: `body` is what was held of the answer's, and may be all of it.
pub(crate) fn settle(client: &Client, request: &mut Request, response: &ResponseHead, body: &Bytes) {
    let Some(mut attempt) = request.attempt.take() else { return };
    let shared = &client.worker.shared;
    if attempt.wants_answer {
        let plan = Rc::clone(&request.plan);
        let accounts = &plan.app(request.app).accounts;
        attempt.read_answer(accounts, &shared.settings.names, response, body);
    }
    if attempt.step != Step::Login(Outcome::Passed) {
        attempt.begins = None;
    } else if let (Some(session), Some(account)) = (attempt.session, attempt.account) {
        shared.tables.accounts.sessions.put(session, account, seconds(request.at_ms));
    }
    request.attempt = Some(attempt);
}

impl Attempt {
    /// What policy says of success, where it says something.
    fn success<'a>(&self, accounts: &'a Accounts) -> Option<&'a Success> {
        let declared = accounts.endpoints.get(self.declared?)?;
        Some(&declared.success).filter(|success| !success.is_usual())
    }

    fn read_answer(&mut self, accounts: &Accounts, names: &NameKey, response: &ResponseHead, body: &Bytes) {
        let body = said::plain(response, body).unwrap_or_default();
        let words = self.success(accounts).and_then(|success| success.body.as_ref());
        let outcome = match words {
            Some(words) if memchr::memmem::find(&body, words.as_bytes()).is_some() => Outcome::Passed,
            Some(_) => Outcome::Failed,
            None => {
                let said = said::in_json(&body);
                if let (Some(token), None) = (&said.token, self.begins) {
                    self.begins = session::of_token(accounts, token.as_bytes(), names);
                    self.session = self.begins.or(self.session);
                }
                said.outcome
            }
        };
        match &mut self.step {
            Step::Login(ended) | Step::Payment(ended) if outcome != Outcome::Unknown => *ended = outcome,
            _ => {}
        }
    }
}

/// Adds whose session a request is of, for decisions about sessions and accounts. One about an account holds for sessions that belong to
/// it; logins are not refused by it, or anybody could have them refused.
pub(crate) fn identify(client: &Client, request: &Request, who: &mut Identities) {
    (who.session, who.account) = session_of(client, request);
}

/// The session that a request shows, and the account that it belongs to, as far as they are known.
pub(crate) fn session_of(client: &Client, request: &Request) -> (Option<u64>, Option<u64>) {
    let shared = &client.worker.shared;
    let session = session::of_request(&request.app().accounts, request, &shared.settings.names);
    let owner = |session| shared.tables.accounts.sessions.get(session, seconds(request.at_ms));
    (session, session.and_then(owner))
}

/// What the event says of it; nothing for a request without session that tries nothing.
pub(crate) fn deed(client: &Client, request: &Request) -> Option<Deed> {
    let shared = &client.worker.shared;
    let asked = session::of_request(&request.app().accounts, request, &shared.settings.names);
    let owner = |session: u64| shared.tables.accounts.sessions.get(session, seconds(request.at_ms));
    let Some(attempt) = request.attempt.as_deref() else {
        let session = asked?;
        return Some(Deed { session: Some(session), account: owner(session), ..Deed::default() });
    };
    let session = attempt.begins.or(asked);
    let account = match attempt.step {
        Step::Payment(_) => attempt.account.or_else(|| session.and_then(owner)),
        _ => attempt.account,
    };
    let Attempt { step, secret, shape, .. } = *attempt;
    Some(Deed { session, account, secret, step, shape })
}

fn step_of(kind: EndpointKind) -> Step {
    match kind {
        EndpointKind::Login => Step::Login(Outcome::Unknown),
        EndpointKind::Lookup => Step::Lookup,
        EndpointKind::Payment => Step::Payment(Outcome::Unknown),
    }
}

/// A path without a slash at its end.
fn trimmed(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").filter(|path| !path.is_empty()).unwrap_or(path)
}

fn seconds(at_ms: u64) -> u32 {
    u32::try_from(at_ms / 1_000).unwrap_or(u32::MAX)
}

/// Of an answer's body; what says how an attempt ended is short.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
