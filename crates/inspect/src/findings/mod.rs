//! What a transaction found, in the form that leaves the engine: bounded, and with secrets taken out.

pub(crate) mod mask;
mod steps;

use std::hash::BuildHasher as _;
use std::sync::{Arc, LazyLock};

use foldhash::fast::RandomState;
use phalanx_model::limits::{FRAGMENT_BYTES_MAX, SIGNALS_KEPT_MAX};
use phalanx_model::{RuleMatch, ScoreChange, Signal};

use crate::program::{Program, Rule};
use crate::transaction::audit::Audit;
use crate::transaction::state::Matched;
use crate::transaction::{Interruption, Transaction};

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Rules that matched and log, in order, at most [`SIGNALS_KEPT_MAX`].
    pub signals: Vec<Signal>,
    /// The order that stopped the transaction.
    pub interruption: Option<Interruption>,
    /// The order that would have, had the engine not just detected.
    pub would_interrupt: Option<Interruption>,
    /// The request's anomaly score.
    pub score: i32,
    /// Ids of all rules that matched and log, in order.
    pub matched_rules: Vec<u64>,
    /// Why the request could not be judged, if it could not.
    pub failure: Option<String>,
    /// What the audit log shows of it, if it is for the audit log.
    pub audit: Option<Audit>,
    /// Bytes that operators looked at, over all rules and values.
    pub examined_bytes: u64,
}

impl Transaction {
    /// Records the match of the current rule.
    pub(crate) fn record_signal(&mut self, program: &Program, rule: &Rule, observed: bool) {
        if self.matched_rules.len() < MATCHED_RULES_MAX {
            self.matched_rules.push(rule.id);
        }
        if self.signals.len() >= SIGNALS_KEPT_MAX {
            return;
        }
        let matched: Vec<Matched> = self.scratch.state.matched.iter().take(MATCHES_MAX).copied().collect();
        let matches = matched.iter().map(|one| self.evidence(program, one)).collect();
        let inbound = self.inbound_change(program);
        let state = &self.scratch.state;
        self.signals.push(Signal {
            rule: Arc::clone(&rule.info),
            phase: rule.phase,
            message: state.message.clone(),
            verbatim: rule
                .links
                .iter()
                .filter_map(|link| link.message.as_ref())
                .all(|text| text.constant.is_some()),
            data: state.data.clone(),
            matches,
            score: narrow(state.rule_score),
            inbound: Some(inbound),
            observed,
        });
    }

    /// The inbound anomaly score before and after the current rule.
    fn inbound_change(&self, program: &Program) -> ScoreChange {
        let after: i64 = program.scores.inbound.iter().map(|&slot| self.slot_number(slot)).sum();
        let before = after.saturating_sub(self.scratch.state.rule_inbound);
        ScoreChange { before: narrow(before), after: narrow(after) }
    }

    fn evidence(&mut self, program: &Program, matched: &Matched) -> RuleMatch {
        let (value, steps) = self.steps(program, matched);
        let values = &self.scratch.state.values;
        let fragment = values.buffers.bytes(matched.fragment);
        let fragment = if matched.secret {
            mask::masked(fragment.len())
        } else {
            // Twice as much as is shown: masking may shorten what is before the cut.
            let fragment = fragment.get(..2 * FRAGMENT_BYTES_MAX).unwrap_or(fragment);
            let shown = self.without_secrets(matched.name, fragment);
            let cut = shown.get(..shown.len().min(FRAGMENT_BYTES_MAX)).unwrap_or_default();
            truncated(String::from_utf8_lossy(cut).into_owned(), FRAGMENT_BYTES_MAX)
        };
        let name = self.name_text(matched.name);
        let name = name.get(..name.len().min(FRAGMENT_BYTES_MAX)).unwrap_or_default();
        RuleMatch {
            variable: String::from_utf8_lossy(name).into_owned(),
            fragment,
            value_hash: VALUE_HASH.hash_one(values.bytes(matched.original)),
            transformations: steps.iter().map(|step| Arc::clone(&step.name)).collect(),
            value,
            steps,
        }
    }
}

fn narrow(score: i64) -> i32 {
    i32::try_from(score).unwrap_or(if score < 0 { i32::MIN } else { i32::MAX })
}

/// Lossy decoding may lengthen; cut at a character boundary.
fn truncated(mut text: String, bytes_max: usize) -> String {
    while text.len() > bytes_max {
        text.pop();
    }
    text
}

/// One seed per process: equal payloads are told as equal here, and nobody who reads a record can try out passwords
/// against the hashes of secret values.
static VALUE_HASH: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// Ids kept of one transaction.
const MATCHED_RULES_MAX: usize = 1024;
/// Values kept as evidence of one rule.
const MATCHES_MAX: usize = 8;
