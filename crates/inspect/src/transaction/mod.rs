//! One request and its response on their way through a program.
//!
//! `request_head` (phase 1) -> `request_body` (2) -> `response_head` (3) -> `response_body` (4) -> `finish` (5).
//!
//! INVARIANT: a transaction owns all it looks at; it may live across awaits and be dropped at any stage.

pub(crate) mod audit;
mod body;
pub(crate) mod familiar;
mod request;
mod response;
pub(crate) mod state;
pub(crate) mod values;

use std::net::IpAddr;
use std::sync::Arc;

use phalanx_model::{RequestId, Signal};
use phalanx_policy::seclang::ir::{BodyProcessor, RuleEngine};

use crate::findings::Findings;
use crate::program::{Program, Scope};
use audit::AuditChoice;
use state::State;

/// Who talks to whom, and when.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    /// The client's address.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// Our address.
    pub server: IpAddr,
    /// Our port.
    pub server_port: u16,
    /// The request's id (`UNIQUE_ID`).
    pub request_id: RequestId,
    /// When the request came, in Unix milliseconds.
    pub now_ms: u64,
}

/// What a phase came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Go on.
    Pass,
    /// Stop here.
    Interrupt(Interruption),
}

/// A rule's order to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interruption {
    /// The rule; 0 when the engine itself stopped (a limit).
    pub rule: u64,
    /// Status of the reply.
    pub status: u16,
    /// How to stop.
    pub kind: InterruptionKind,
    /// In which phase.
    pub phase: u8,
}

/// How a transaction is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterruptionKind {
    /// Answer with the status.
    Deny,
    /// Close the connection.
    Drop,
    /// Send the client elsewhere.
    Redirect(String),
}

/// Memory that a worker lends to one transaction after the other.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) state: State,
}

/// A request under inspection.
#[derive(Debug)]
pub struct Transaction {
    pub(crate) program: Arc<Program>,
    pub(crate) scratch: Box<Scratch>,
    /// What the app does with classes of findings; `None`: all of them block.
    pub(crate) scope: Option<Arc<Scope>>,
    pub(crate) connection: Connection,
    /// The time of the latest stage, for `DURATION`.
    pub(crate) now_ms: u64,
    pub(crate) engine: RuleEngine,
    pub(crate) allowed: Allowed,
    pub(crate) request_body_access: bool,
    pub(crate) response_body_access: bool,
    pub(crate) force_request_body: bool,
    pub(crate) xml_into_args: bool,
    pub(crate) processor: Option<BodyProcessor>,
    /// What the bodies were decoded to takes as many.
    pub(crate) decoded_bytes: usize,
    pub(crate) signals: Vec<Signal>,
    pub(crate) matched_rules: Vec<u64>,
    pub(crate) interruption: Option<Interruption>,
    pub(crate) would_interrupt: Option<Interruption>,
    pub(crate) failure: Option<String>,
    pub(crate) audit: AuditChoice,
    /// Bytes that operators looked at.
    pub(crate) examined_bytes: u64,
    pub(crate) backtracks_left: crate::pattern::Steps,
}

/// How far an `allow` has reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Phases up to this one are skipped (5: none is left but logging).
    pub(crate) through_phase: u8,
}

impl Transaction {
    /// Starts a transaction. The scratch may come from any earlier one.
    pub fn new(program: Arc<Program>, mut scratch: Box<Scratch>, connection: Connection) -> Self {
        scratch.state.reset(&program);
        let engine = program.engine();
        Self {
            engine: engine.rule_engine,
            request_body_access: engine.request_body_access,
            response_body_access: engine.response_body_access,
            xml_into_args: engine.parse_xml_into_args,
            force_request_body: false,
            processor: None,
            decoded_bytes: 0,
            scratch,
            scope: None,
            now_ms: connection.now_ms,
            connection,
            allowed: Allowed::default(),
            signals: Vec::new(),
            matched_rules: Vec::new(),
            interruption: None,
            would_interrupt: None,
            failure: None,
            audit: AuditChoice::of(engine),
            examined_bytes: 0,
            backtracks_left: crate::pattern::Steps::default(),
            program,
        }
    }

    /// Puts the transaction under an app's scope of the program. To be said before phase 1.
    #[must_use]
    pub fn within(mut self, scope: Option<&Arc<Scope>>) -> Self {
        if let Some(scope) = scope {
            self.leave_out(&scope.removed);
            self.scope = Some(Arc::clone(scope));
        }
        self
    }

    /// Takes rules out for the rest of the transaction.
    pub(crate) fn leave_out(&mut self, rules: &[u64]) {
        let state = &mut self.scratch.state;
        state.any_removed = true;
        for (word, more) in state.removed.iter_mut().zip(rules) {
            *word |= more;
        }
    }

    /// Runs a stage with what this thread knows of values from other transactions.
    fn stage<T>(&mut self, stage: impl FnOnce(&mut Self) -> T) -> T {
        let kept = self.program.prefilter.is_enabled().then(|| familiar::borrow(&self.program));
        self.scratch.state.values.familiar = kept;
        let outcome = stage(self);
        self.scratch.state.values.familiar.take().into_iter().for_each(familiar::give_back);
        outcome
    }

    /// Whether the current rule's match is recorded and does nothing else.
    pub(crate) fn observes(&self) -> bool {
        self.scope.as_ref().is_some_and(|scope| scope.observes(self.scratch.state.rule))
    }

    /// Tells the time, in Unix milliseconds; `DURATION` counts from the connection's `now_ms` to here.
    pub fn set_now_ms(&mut self, now_ms: u64) {
        self.now_ms = now_ms.max(self.connection.now_ms);
    }

    /// Why the request could not be judged, if it could not: the caller refuses it, unless told to let it pass.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The first order to stop, if there was one.
    pub fn interruption(&self) -> Option<&Interruption> {
        self.interruption.as_ref()
    }

    /// Ends it before phase 5: nothing is written of what rules remember of clients. Returns the rules that matched, what was found, and
    /// the scratch.
    pub fn abandon(mut self) -> (Vec<u64>, Vec<Signal>, Box<Scratch>) {
        self.mask_sanitised();
        (self.matched_rules, self.signals, self.scratch)
    }

    /// Runs phase 5 and hands over what was found, and the scratch for the next transaction. `status` is the reply's.
    pub fn finish(self, status: u16) -> (Findings, Box<Scratch>) {
        self.end(status, true)
    }

    /// The same, but that nothing is written of what rules remember of clients.
    pub fn finish_without_trace(self, status: u16) -> (Findings, Box<Scratch>) {
        self.end(status, false)
    }

    fn end(mut self, status: u16, remembers: bool) -> (Findings, Box<Scratch>) {
        if self.scratch.state.response_status == 0 {
            self.scratch.state.response_status = status;
        }
        self.scratch.state.epoch += 1;
        self.stage(|transaction| transaction.run_phase(5));
        if remembers {
            self.store_collections();
        }
        let score = self.total_score();
        self.mask_sanitised();
        let audit = self.audit();
        let findings = Findings {
            signals: self.signals,
            interruption: self.interruption,
            would_interrupt: self.would_interrupt,
            score,
            matched_rules: self.matched_rules,
            failure: self.failure,
            audit,
            examined_bytes: self.examined_bytes,
        };
        (findings, self.scratch)
    }

    /// The request's anomaly score as the blocking rules see it; else what the matched rules added.
    fn total_score(&mut self) -> i32 {
        let program = Arc::clone(&self.program);
        let total = program.scores.totals.iter().map(|&slot| self.slot_number(slot)).find(|&n| n > 0);
        let parts = || self.signals.iter().filter(|s| s.phase <= 2).map(|s| i64::from(s.score)).sum();
        let score = total.unwrap_or_else(parts);
        i32::try_from(score).unwrap_or(if score < 0 { i32::MIN } else { i32::MAX })
    }
}
