//! Inspection as the pipeline calls it: one transaction per request, memory lent by the worker.
//!
//! Failure direction: should a rule or parser panic in spite of the lints, the panic ends here, is counted, and stands
//! as the stage's failure; the app's `on_error` decides, and refuses by default.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use phalanx_decide::Finding;
use phalanx_inspect::{
    Audit, Connection, Findings, Interruption, Outcome, Program, Scope, Scratch, Transaction,
};
use phalanx_model::counters::WorkerCounters;
use phalanx_model::{RequestHead, Signal};

use crate::http1::ResponseHead;
use crate::worker::Worker;

/// Transactions' memory, kept by a worker.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "a transaction takes and returns the box; it never moves what is in it")]
pub(crate) struct InspectScratch(RefCell<Vec<Box<Scratch>>>);

/// One request's inspection; inspects nothing by default.
#[derive(Debug, Default)]
pub(crate) struct Inspection {
    transaction: Option<Transaction>,
    interruption: Option<Interruption>,
    failure: Option<String>,
    /// Time spent in it, in nanoseconds.
    spent_ns: u64,
}

/// What inspection left behind.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) signals: Vec<Signal>,
    pub(crate) score: i32,
    /// The rule that would have refused the request, had it been allowed to.
    pub(crate) would_refuse: Option<u64>,
    /// What the audit log shows of it, if it is for the audit log.
    pub(crate) audit: Option<Audit>,
}

/// Who talks to whom, for rules that look at addresses.
pub(crate) fn connection(
    client: std::net::IpAddr,
    peer: SocketAddr,
    local: SocketAddr,
    request_id: phalanx_model::RequestId,
    now_ms: u64,
) -> Connection {
    Connection {
        client,
        client_port: peer.port(),
        server: local.ip().to_canonical(),
        server_port: local.port(),
        request_id,
        now_ms,
    }
}

impl Inspection {
    /// Starts a transaction.
    pub(crate) fn begin(
        worker: &Worker,
        program: &Arc<Program>,
        scope: Option<&Arc<Scope>>,
        connection: Connection,
    ) -> Self {
        let scratch = worker.inspect_scratch.0.borrow_mut().pop().unwrap_or_default();
        let transaction = Transaction::new(Arc::clone(program), scratch, connection).within(scope);
        Self { transaction: Some(transaction), ..Self::default() }
    }

    /// Phase 1.
    pub(crate) fn request_head(&mut self, worker: &Worker, head: &RequestHead) {
        self.run(worker, |transaction| transaction.request_head(head));
    }

    /// How much of a request body is wanted, at most.
    pub(crate) fn wants_request_body(&self) -> Option<usize> {
        let transaction = self.live()?;
        transaction.wants_request_body().then(|| transaction.request_body_limit())
    }

    /// Phase 2.
    pub(crate) fn request_body(&mut self, worker: &Worker, body: Bytes, complete: bool) {
        self.run(worker, |transaction| transaction.request_body(body, complete));
    }

    /// Names and values of the fields of the request's body; `None` where none was read.
    pub(crate) fn body_arguments(&self) -> Option<impl Iterator<Item = (&[u8], &[u8])> + Clone> {
        self.transaction.as_ref().map(Transaction::body_arguments)
    }

    /// Time spent in it so far, in microseconds, rounded up: what was inspected took some.
    pub(crate) fn spent_us(&self) -> u64 {
        self.spent_ns.div_ceil(1_000)
    }

    /// Memory that inspection takes beside the bodies that came, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.transaction.as_ref().map_or(0, Transaction::memory)
    }

    /// Phase 3.
    pub(crate) fn response_head(&mut self, worker: &Worker, response: &ResponseHead, now_ms: u64) {
        self.run(worker, |transaction| {
            transaction.set_now_ms(now_ms);
            transaction.response_head(response.status, &mut response.headers())
        });
    }

    /// How much of the response's body is wanted, at most.
    pub(crate) fn wants_response_body(&self) -> Option<usize> {
        let transaction = self.live()?;
        transaction.wants_response_body().then(|| transaction.response_body_limit())
    }

    /// Phase 4.
    pub(crate) fn response_body(&mut self, worker: &Worker, body: Bytes, complete: bool) {
        self.run(worker, |transaction| transaction.response_body(body, complete));
    }

    /// What speaks for refusing the request, if anything does.
    pub(crate) fn finding(&self) -> Option<Finding<'_>> {
        let interruption = self.interruption.as_ref().map(|stop| (stop.rule, stop.status));
        let failure = self.failure.as_deref();
        (interruption.is_some() || failure.is_some()).then_some(Finding { interruption, score: 0, failure })
    }

    /// Whether what stopped the request lies in the request, not in its response.
    pub(crate) fn stopped_by_request(&self) -> bool {
        self.interruption.as_ref().is_some_and(|stop| stop.phase <= 2)
    }

    /// Phase 5; the transaction's memory goes back to the worker.
    pub(crate) fn finish(&mut self, worker: &Worker, status: u16) -> Found {
        self.end(worker, |transaction| transaction.finish(status))
    }

    /// The same of a request of the node's own: rules do not remember it.
    pub(crate) fn finish_without_trace(&mut self, worker: &Worker, status: u16) -> Found {
        self.end(worker, |transaction| transaction.finish_without_trace(status))
    }

    fn end(
        &mut self,
        worker: &Worker,
        finish: impl FnOnce(Transaction) -> (Findings, Box<Scratch>),
    ) -> Found {
        let Some(transaction) = self.transaction.take() else {
            return Found::default();
        };
        let Ok((findings, scratch)) = catch_unwind(AssertUnwindSafe(|| finish(transaction))) else {
            self.fail(worker, "inspection panicked".to_owned());
            return Found::default();
        };
        worker.inspect_scratch.0.borrow_mut().push(scratch);
        let Findings { mut signals, would_interrupt, score, audit, .. } = findings;
        signals.truncate(phalanx_model::limits::SIGNALS_KEPT_MAX);
        Found { signals, score, would_refuse: would_interrupt.map(|stop| stop.rule), audit }
    }

    /// The transaction, while nothing has stopped it.
    fn live(&self) -> Option<&Transaction> {
        self.transaction.as_ref().filter(|_| self.interruption.is_none() && self.failure.is_none())
    }

    fn run(&mut self, worker: &Worker, stage: impl FnOnce(&mut Transaction) -> Outcome) {
        if self.live().is_none() {
            return;
        }
        let Some(transaction) = &mut self.transaction else {
            return;
        };
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| stage(transaction)));
        let failure = transaction.failure().map(str::to_owned);
        let spent = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        worker.counters.inspect_ns.fetch_add(spent, Ordering::Relaxed);
        self.spent_ns = self.spent_ns.saturating_add(spent);
        match (outcome, failure) {
            (Err(_), _) => {
                self.transaction = None;
                self.fail(worker, "inspection panicked".to_owned());
            }
            (Ok(Outcome::Interrupt(interruption)), None) => self.interruption = Some(interruption),
            (Ok(_), Some(failure)) => self.fail(worker, failure),
            (Ok(Outcome::Pass), None) => {}
        }
    }

    fn fail(&mut self, worker: &Worker, failure: String) {
        WorkerCounters::add_one(&worker.counters.inspect_failures);
        tracing::error!(%failure, "inspection failed");
        self.failure = Some(failure);
    }
}
