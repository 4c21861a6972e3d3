//! Suggestions are made where a request was served: there are its findings and its recording. An operator at another node has it
//! asked there.
//!
//! Failure direction: who does not answer in time, is of a version before, or tries another suggestion already, is told of, and
//! nothing is suggested.
//!
//! INVARIANT: text of policy is written by the node that the operator is at. Another tells rules, targets, paths and methods alone,
//! each checked as policy checks it: who has stolen a node must not write policy by the hand of an operator. He sees what it says, and
//! what takes protection away waits for a second operator as any other change.

use std::sync::Arc;

use phalanx_model::RequestId;
use phalanx_model::limits::HISTORY_PAGE_MAX;
use phalanx_record::{Filter, History, RecordError, RecordedRequest};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::SuggestPort;
use crate::suggest::{Draft, Paperwork, Suggestion};

/// What a node says to the question for a suggestion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Suggested {
    /// This, without text of policy where it comes from another node.
    This(Box<Suggestion>),
    /// No exclusion would help, and why.
    NoUse(String),
    /// It has no such request.
    NotHere,
    /// It tries another one already.
    Busy,
}

/// Makes suggestions about what this node served.
#[derive(Clone)]
pub struct Suggester {
    pub(crate) history: History,
    /// `None` where nothing is recorded.
    pub(crate) recording: Option<SuggestPort>,
    /// Questions to the history at once.
    pub(crate) queries: Arc<Semaphore>,
    /// Suggestions that are tried at once.
    pub(crate) trials: Arc<Semaphore>,
}

impl Suggester {
    /// One that answers operators at other nodes: they take a thread and a trial at most from those here.
    pub fn for_others(history: History, recording: Option<SuggestPort>) -> Self {
        let one = || Arc::new(Semaphore::new(1));
        Self { history, recording, queries: one(), trials: one() }
    }

    /// The narrowest exclusion that would have let a request of this node pass, and what else it would let pass. Without paperwork it is
    /// for another node: no text of policy, and nothing that a stranger wrote but paths and what policy names.
    pub(crate) async fn suggest(
        &self,
        id: RequestId,
        paperwork: Option<Paperwork>,
    ) -> Result<Suggested, RecordError> {
        let record = self.ask(move |history| history.request(id)).await?;
        let Some(record) = record else { return Ok(Suggested::NotHere) };
        let draft = match Draft::new(record, paperwork) {
            Ok(draft) => draft,
            Err(no_use) => return Ok(Suggested::NoUse(no_use)),
        };
        let (suggestion, record) = self.replayed(draft).await.finish();
        let judged = self.ask(move |history| judged(history, &record, suggestion)).await?;
        Ok(Suggested::This(Box::new(judged)))
    }

    /// Answers an operator at another node.
    pub(crate) async fn tell(&self, id: RequestId) -> Option<Suggested> {
        Some(match self.suggest(id, None).await.ok()? {
            // In words of the request, which stay here.
            Suggested::NoUse(_) => Suggested::NoUse(String::new()),
            other => other,
        })
    }

    /// The draft, widened by what the recording says. Where that cannot be asked, the findings have to do.
    async fn replayed(&self, draft: Draft) -> Draft {
        let Some(recording) = &self.recording else { return draft };
        let Ok(_permit) = self.trials.acquire().await else { return draft };
        match recording(draft.clone()).await {
            Ok(widened) => widened,
            Err(error) => {
                tracing::warn!(?error, "a suggestion could not be tried on the recording");
                draft
            }
        }
    }

    /// Asks the history on a thread that may block.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&History) -> Result<T, RecordError> + Send + 'static,
    ) -> Result<T, RecordError> {
        let permit = Arc::clone(&self.queries).acquire_owned().await;
        let permit = permit.map_err(|_| RecordError::HistoryNotReady)?;
        let history = self.history.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            question(&history)
        });
        asked.await.unwrap_or(Err(RecordError::HistoryNotReady))
    }
}

/// Judges what this node remembers of the same rules.
fn judged(
    history: &History,
    record: &RecordedRequest,
    mut suggestion: Suggestion,
) -> Result<Suggestion, RecordError> {
    let mut others: Vec<RecordedRequest> = Vec::new();
    for rule in suggestion.rules().into_iter().take(RULES_MAX) {
        let filter = Filter { rule: Some(rule), limit: HISTORY_PAGE_MAX, ..Filter::default() };
        others.extend(history.recent(&filter)?);
    }
    others.sort_by_key(|other| std::cmp::Reverse(other.id()));
    others.dedup_by_key(|other| other.id());
    suggestion.judge(record, &others);
    Ok(suggestion)
}

/// Rules whose requests are looked at: each is a search in the history.
const RULES_MAX: usize = 8;
