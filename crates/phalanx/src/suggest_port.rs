//! A suggested exclusion tried on the recording: on the request that it is for, until no rule refuses that any more, and on those of
//! others.
//!
//! Failure direction: what is not recorded, or cannot be read, leaves the suggestion as its findings made it, and says so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use phalanx_control::suggest::{Draft, PassesRecorded};
use phalanx_control::{NotReplayed, SuggestPort};
use phalanx_edge::{EdgePlan, Judged, Replay};
use phalanx_model::limits::{REPLAY_REQUESTS_MAX, SUGGEST_ROUNDS_MAX, SUGGEST_TIME_MAX_MS};
use phalanx_model::{Reason, Recorded};
use phalanx_record::RecordingReader;

use crate::policy_port::PolicyKeeper;

/// Tries drafts of suggestions on what was recorded.
pub(crate) fn port(reader: RecordingReader, keeper: &Arc<PolicyKeeper>) -> SuggestPort {
    let keeper = Arc::clone(keeper);
    Arc::new(move |draft| {
        let trial = Trial { reader: reader.clone(), keeper: Arc::clone(&keeper) };
        let trying = tokio::task::spawn_blocking(move || trial.widen(draft));
        let failed = |error: tokio::task::JoinError| Err(NotReplayed::Recording(error.to_string()));
        async move { trying.await.unwrap_or_else(failed) }.boxed()
    })
}

struct Trial {
    reader: RecordingReader,
    keeper: Arc<PolicyKeeper>,
}

impl Trial {
    fn widen(&self, mut draft: Draft) -> Result<Draft, NotReplayed> {
        let Some(request) = self.find(&draft)? else { return Ok(draft) };
        let in_force = self.keeper.plan().load_full();
        if rule(&Replay::new(Arc::clone(&in_force)).judge(&request)).is_none() {
            draft.not_refused();
            return Ok(draft);
        }
        let (plan, judged) = self.exclude(&mut draft, &request)?;
        let refused = (rule(&judged).is_some() || judged.verdict.refuses()).then_some(judged.verdict.reason);
        let lacks = judged.lacks_body || request.facts.masked;
        let others = self.others(&draft, in_force, plan)?;
        draft.judged(refused, lacks, others);
        Ok(draft)
    }

    /// Excludes what refuses the request, rule by rule, until none does or nothing helps. What is decided then, and the plan that does.
    fn exclude(&self, draft: &mut Draft, request: &Recorded) -> Result<(Arc<EdgePlan>, Judged), NotReplayed> {
        let until = deadline();
        let mut round = 0;
        loop {
            round += 1;
            let plan = self.keeper.compile_excluding(draft.app(), draft.exclusions());
            let plan = Arc::new(plan.map_err(NotReplayed::Policy)?);
            let judged = Replay::new(Arc::clone(&plan)).judge(request);
            let goes_on = rule(&judged).is_some() && round < SUGGEST_ROUNDS_MAX && Instant::now() < until;
            if !goes_on || !draft.refused_again(judged.verdict.clone(), judged.signals.clone()) {
                return Ok((plan, judged));
            }
        }
    }

    fn find(&self, draft: &Draft) -> Result<Option<Recorded>, NotReplayed> {
        let (id, at_ms) = draft.request();
        let mut found = None;
        self.read(at_ms, |request| {
            if request.facts.id == id {
                found = Some(request);
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// What would pass of the requests of others that rules refuse now.
    fn others(
        &self,
        draft: &Draft,
        before: Arc<EdgePlan>,
        next: Arc<EdgePlan>,
    ) -> Result<PassesRecorded, NotReplayed> {
        let (mut before, mut next) = (Replay::new(before), Replay::new(next));
        let mut found = PassesRecorded::default();
        found.complete = self.read(0, |request| {
            if *request.facts.app != *draft.app() || request.facts.id == draft.request().0 {
                return true;
            }
            if draft.is_own(request.facts.client) {
                found.own += 1;
                return true;
            }
            found.others += 1;
            if rule(&before.judge(&request)).is_some() && rule(&next.judge(&request)).is_none() {
                found.add(&request);
            }
            found.others < REPLAY_REQUESTS_MAX as u64
        })?;
        Ok(found)
    }

    /// Shows what was recorded since a moment until `visit` has enough or time is over. Whether that was all.
    fn read(&self, since_ms: u64, mut visit: impl FnMut(Recorded) -> bool) -> Result<bool, NotReplayed> {
        let (mut complete, until) = (true, deadline());
        let shown = self.reader.read(since_ms, |request| {
            complete = Instant::now() < until && visit(request);
            complete
        });
        shown.map_err(|error| NotReplayed::Recording(error.to_string()))?;
        Ok(complete)
    }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_millis(SUGGEST_TIME_MAX_MS)
}

/// The rule that refuses, or would where rules are only observed.
fn rule(judged: &Judged) -> Option<u64> {
    match judged.verdict.reason {
        Reason::Rule { rule } => Some(rule),
        _ => None,
    }
}
