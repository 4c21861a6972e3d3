//! How clients fare while a policy is on trial: here, or elsewhere for comparison.
//!
//! Clients count, not requests, and only those that were served well in the last minutes. Where the trial runs, a client counts as
//! refused only if the policy before would have let the same request pass: it is asked again, with the request as it came. So whoever
//! sends what both refuse, however much of it and from however many addresses, decides nothing.
//!
//! Failure direction: what cannot be told does not count against the policy on trial; a client is asked about a few times only.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use phalanx_decide::Mode;
use phalanx_inspect::{Outcome, Scratch, Transaction};
use phalanx_model::limits::TRIAL_CLIENTS_MAX;
use phalanx_model::net::actor_ip;
use phalanx_model::{FramingFault, Reason};

use crate::client::Client;
use crate::plan::{AppPlan, EdgePlan};
use crate::request::{InspectedBody, Request};
use crate::route::said::is_secure;
use crate::stages;

/// What is counted during a trial; nothing while there is none.
#[derive(Debug, Default)]
pub struct TrialCounts {
    active: AtomicBool,
    window: Mutex<Window>,
}

/// What a refusal is compared with.
#[derive(Debug, Clone, Default)]
pub enum Before {
    /// The plan that was in force until the trial began here.
    Plan(Arc<EdgePlan>),
    /// Nothing: the trial is elsewhere, and whoever is refused counts.
    #[default]
    Elsewhere,
    /// It is not known any more, and refusals do not count.
    Unknown,
}

#[derive(Debug, Default)]
struct Window {
    before: Before,
    clients: HashMap<IpAddr, Fared>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Fared {
    refused: bool,
    erred: bool,
    asked: u8,
}

/// Counts of clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fares {
    /// Those that came and were served well before.
    pub clients: u32,
    /// Of these, those that were refused.
    pub refused: u32,
    /// Of these, those that got an error of the server's.
    pub erred: u32,
}

impl TrialCounts {
    /// Counts from here on.
    pub fn begin(&self, before: Before) {
        *self.window.lock() = Window { before, clients: HashMap::new() };
        self.active.store(true, Ordering::Release);
    }

    /// Counts no more.
    pub fn end(&self) {
        self.active.store(false, Ordering::Release);
        *self.window.lock() = Window::default();
    }

    /// Whether anything is counted.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// What was counted so far.
    pub fn fares(&self) -> Fares {
        let window = self.window.lock();
        let count = |of: fn(&Fared) -> bool| {
            u32::try_from(window.clients.values().filter(|fared| of(fared)).count()).unwrap_or(u32::MAX)
        };
        Fares {
            clients: count(|_| true),
            refused: count(|fared| fared.refused),
            erred: count(|fared| fared.erred),
        }
    }

    /// Takes note of how a client fared. Returns the plan before if that is to be asked about a refusal.
    fn note(&self, client: IpAddr, outcome: Outcomes) -> Option<Arc<EdgePlan>> {
        let mut window = self.window.lock();
        let full = window.clients.len() >= TRIAL_CLIENTS_MAX;
        let client = actor_ip(client);
        if full && !window.clients.contains_key(&client) {
            return None;
        }
        let before = window.before.clone();
        let fared = window.clients.entry(client).or_default();
        match outcome {
            Outcomes::Served => None,
            Outcomes::Erred => {
                fared.erred = true;
                None
            }
            Outcomes::Refused => match before {
                Before::Plan(_) if fared.refused || fared.asked >= ASKED_MAX => None,
                Before::Plan(plan) => {
                    fared.asked += 1;
                    Some(plan)
                }
                Before::Elsewhere => {
                    fared.refused = true;
                    None
                }
                Before::Unknown => None,
            },
        }
    }

    fn refused(&self, client: IpAddr) {
        if let Some(fared) = self.window.lock().clients.get_mut(&actor_ip(client)) {
            fared.refused = true;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcomes {
    Served,
    Refused,
    Erred,
}

/// Counts a request that is over.
pub(crate) fn note(client: &Client, request: &Request) {
    let tables = &client.worker.shared.tables;
    if !tables.trial.is_active() || !tables.good.knows(request.client, request.at_ms) {
        return;
    }
    let outcome = outcome(request);
    let Some(before) = tables.trial.note(request.client, outcome) else { return };
    if !would_refuse(&before, client, request) {
        tables.trial.refused(request.client);
    }
}

/// What policy made of the request. What the fleet decided about its client, and its framing, no policy can help.
fn outcome(request: &Request) -> Outcomes {
    match &request.verdict.reason {
        Reason::Rule { .. } | Reason::RateLimit(_) | Reason::Failure { .. } if request.verdict.refuses() => {
            Outcomes::Refused
        }
        Reason::Upstream { .. } if request.app.is_none() => Outcomes::Refused,
        Reason::Framing { fault: FramingFault::BodyTooLarge } => Outcomes::Refused,
        Reason::Framing { .. } | Reason::Decision { .. } => Outcomes::Served,
        _ if request.status >= 500 => Outcomes::Erred,
        _ => Outcomes::Served,
    }
}

/// Whether the plan before would have refused the same request.
fn would_refuse(before: &EdgePlan, client: &Client, request: &Request) -> bool {
    let host = request.known.host.map(|field| request.head.bytes(field.value)).unwrap_or_default();
    let secure = || is_secure(&request.head, client.tls.is_some(), request.peer_trusted);
    let met = before.meet(before.find(host), &request.head, secure);
    let Some(index) = met.app else { return true };
    let app = before.app(Some(index));
    if matches!(request.verdict.reason, Reason::Framing { .. }) {
        return app.limits.body_bytes <= request.app().limits.body_bytes;
    }
    if let Reason::RateLimit(excess) = &request.verdict.reason {
        let same = |rate: &phalanx_decide::rate::RateRule| rate.rate == excess.rate && !rate.observes;
        let now = request.app().rates.iter().find(|rate| rate.name == excess.limit);
        return now.and_then(|rate| before.rate(rate.tag())).is_some_and(same);
    }
    app.mode == Mode::Block && rules_refuse(app, client, request)
}

/// Runs the request through an app's rules. Nothing of it is kept: what rules remember of clients is written at a transaction's end,
/// which does not come.
fn rules_refuse(app: &AppPlan, client: &Client, request: &Request) -> bool {
    let Some((program, scope)) = app.inspected_by(request.raised.is_some()) else { return false };
    let connection = stages::connection(request.client, client.peer, client.local, request.id, request.at_ms);
    let run = || {
        let transaction = Transaction::new(Arc::clone(program), Box::<Scratch>::default(), connection);
        let mut transaction = transaction.within(scope);
        if transaction.request_head(&request.head) != Outcome::Pass || transaction.failure().is_some() {
            return true;
        }
        let (body, complete) = match &request.inspected_body {
            Some(InspectedBody::Held(body, complete)) => (body.clone(), *complete),
            // The trial began meanwhile.
            Some(InspectedBody::Withheld) | None => (Bytes::new(), client.body.is_done()),
        };
        transaction.request_body(body, complete) != Outcome::Pass || transaction.failure().is_some()
    };
    // A panic is no word against the new policy.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or(true)
}

/// Requests of one client about which the plan before is asked: each costs as much as an inspection.
const ASKED_MAX: u8 = 8;
