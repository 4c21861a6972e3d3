//! When a request is sent once more. Never after any of a response arrived, but where policy names its status; never what may have
//! been done already and must not be done twice; never to an endpoint that failed with it; and only within a budget, so that retries
//! add a part to the load of those that still work, and no more.
//!
//! That a kept connection turns out to be closed is no failure: what is safe to repeat is sent over a new one, once, outside of this.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use phalanx_policy::balance::Retries;

use super::group::{Endpoint, UpstreamGroup};
use super::slot::{Chosen, Slot, try_choose};
use crate::client::Client;
use crate::request::Request;

/// The tries of one request.
#[derive(Debug)]
pub(crate) struct Tries {
    tried: Vec<Arc<Endpoint>>,
    /// The method may be repeated (RFC 9110 section 9.2.2), and the whole body is here.
    repeatable: bool,
}

/// What went wrong with a try, as far as repeating goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Went {
    /// Nothing of the request was sent.
    Unsent,
    /// It was sent, and the connection failed before any of a response arrived.
    Unanswered,
    /// It was sent, and the wait for an answer was over.
    TimedOut,
    /// It was answered with this status.
    Answered(u16),
    /// Some of a response arrived, or it is not the upstream's fault.
    Otherwise,
}

impl Tries {
    /// None yet.
    pub(crate) fn new(repeatable: bool) -> Self {
        Self { tried: Vec::new(), repeatable }
    }

    /// A place for the next try, after one at `endpoint`; `None` if there is none.
    pub(crate) fn next(
        &mut self,
        client: &Client,
        request: &Request,
        endpoint: &Arc<Endpoint>,
        went: Went,
    ) -> Option<Slot> {
        let group = &request.app().upstreams;
        if !allows(&group.retries, self.repeatable, went)
            || self.tried.len() >= usize::from(group.retries.attempts)
            || group.only().is_some()
        {
            return None;
        }
        self.tried.push(Arc::clone(endpoint));
        let Chosen::Slot(slot) = try_choose(client, request, &self.tried) else { return None };
        let shared = group.shared();
        if !spend(group) {
            shared.retries_refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        shared.retries.fetch_add(1, Ordering::Relaxed);
        Some(slot)
    }
}

/// Whether what went wrong is a reason to try again.
fn allows(retries: &Retries, repeatable: bool, went: Went) -> bool {
    match went {
        Went::Unsent => true,
        Went::Unanswered => repeatable,
        Went::TimedOut => repeatable && retries.on_timeout,
        Went::Answered(status) => repeatable && retries.on_statuses.contains(&status),
        Went::Otherwise => false,
    }
}

/// Takes one retry out of the group's budget.
fn spend(group: &UpstreamGroup) -> bool {
    let shared = group.shared();
    let sent = |endpoints: &[Arc<Endpoint>]| {
        endpoints.iter().map(|endpoint| endpoint.state.requests.load(Ordering::Relaxed)).sum::<u64>()
    };
    let asked = group.with_endpoints(sent).saturating_sub(shared.retries.load(Ordering::Relaxed));
    shared.budget.lock().spend(shared.now_ms(), asked, &group.retries)
}

/// Retries of a group in the current stretch of time.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    since_ms: u64,
    asked_before: u64,
    spent: u64,
}

impl Budget {
    /// Takes one retry, if there is one left. `asked`: requests since the start, retries not counted.
    fn spend(&mut self, now_ms: u64, asked: u64, retries: &Retries) -> bool {
        if self.since_ms == 0 || now_ms.saturating_sub(self.since_ms) >= STRETCH_MS {
            *self = Self { since_ms: now_ms, asked_before: asked, spent: 0 };
        }
        // All at once: a quiet app's few requests come together, and by the time that as many retries are spent the failing one is ejected.
        let least = STRETCH_MS / 1_000 * u64::from(retries.budget_least_per_s);
        let part = asked.saturating_sub(self.asked_before) * u64::from(retries.budget_percent) / 100;
        let left = self.spent < least.max(part);
        self.spent += u64::from(left);
        left
    }
}

/// How long a stretch of the budget is.
const STRETCH_MS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_repeated() {
        let default = Retries::default();
        let eager = Retries { on_timeout: true, on_statuses: vec![503], ..Retries::default() };
        for (retries, repeatable, went, expected) in [
            (&default, false, Went::Unsent, true),
            (&default, true, Went::Unsent, true),
            (&default, false, Went::Unanswered, false),
            (&default, true, Went::Unanswered, true),
            (&default, true, Went::TimedOut, false),
            (&default, true, Went::Answered(503), false),
            (&default, true, Went::Otherwise, false),
            (&eager, true, Went::TimedOut, true),
            (&eager, false, Went::TimedOut, false),
            (&eager, true, Went::Answered(503), true),
            (&eager, true, Went::Answered(500), false),
            (&eager, false, Went::Answered(503), false),
            (&eager, true, Went::Otherwise, false),
        ] {
            assert_eq!(allows(retries, repeatable, went), expected, "{repeatable} {went:?}");
        }
    }

    #[test]
    fn a_total_outage_adds_a_part_of_the_requests_and_no_more() {
        let retries = Retries::default();
        let mut budget = Budget::default();
        let mut spent = 0;
        // A thousand requests in each of twenty seconds; every one of them fails and would like to be sent again.
        for asked in 0..20_000_u64 {
            spent += u64::from(budget.spend(1 + asked, asked, &retries));
        }
        assert!((3_900..=4_100).contains(&spent), "{spent}");
    }

    #[test]
    fn a_quiet_app_has_a_few_retries_for_each_second_also_at_once() {
        let retries = Retries::default();
        let mut budget = Budget::default();
        let mut in_second =
            |second: u64| (0..40).filter(|_| budget.spend(1 + second * 1_000, second, &retries)).count();
        assert_eq!([in_second(0), in_second(1), in_second(10), in_second(11)], [30, 0, 30, 0]);
        let none = Retries { budget_least_per_s: 0, ..retries };
        assert!(!Budget::default().spend(1, 0, &none));
    }
}
