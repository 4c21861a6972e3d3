//! A phase: the steps that its values call for, in order; guards first, then links, then what a full match does.

mod link;
mod test;
mod views;

use std::sync::Arc;

use phalanx_policy::seclang::ir::{AllowScope, RuleEngine};

use crate::program::{Disruptive, Guard, Program, Rule, Skip, watch};
use crate::transaction::state::TxValue;
use crate::transaction::{Interruption, InterruptionKind, Outcome, Transaction};

impl Transaction {
    /// Runs a phase, unless an earlier one stopped the transaction (phase 5 always runs).
    pub(crate) fn run_phase(&mut self, phase: u8) -> Outcome {
        let skipped = phase < 5 && (self.interruption.is_some() || self.allowed.through_phase >= phase);
        if skipped || self.engine == RuleEngine::Off {
            return Outcome::Pass;
        }
        let program = Arc::clone(&self.program);
        let Some(plan) = program.phases.get(usize::from(phase) - 1) else {
            return Outcome::Pass;
        };
        self.call_steps(&program, plan);
        let mut at = 0;
        while let Some(called) = watch::next(&self.scratch.state.called, at) {
            at = called + 1;
            let Some(step) = plan.steps.get(called as usize) else {
                break;
            };
            if let Guard::Assign { start, len } = step.guard {
                self.assign(&program, start, len);
                continue;
            }
            if !self.passes(step.guard) || self.is_removed(step.rule) {
                continue;
            }
            let Some(rule) = program.rules.get(step.rule as usize) else {
                continue;
            };
            if !self.rule_matches(&program, step.rule, rule) {
                continue;
            }
            if let Some(stop) = self.matched_fully(&program, rule) {
                return Outcome::Interrupt(stop);
            }
            if self.engine == RuleEngine::Off || self.allowed.through_phase >= phase {
                break;
            }
            if let Skip::To(next) = rule.skip {
                at = at.max(next);
            }
        }
        Outcome::Pass
    }

    fn assign(&mut self, program: &Program, start: u32, len: u32) {
        let (start, len) = (start as usize, len as usize);
        for &(slot, value) in program.assignments.get(start..start + len).unwrap_or_default() {
            self.set_slot(slot, value);
        }
    }

    /// Whether the first link of a step that is worth a look can match.
    #[inline]
    fn passes(&self, guard: Guard) -> bool {
        match guard {
            Guard::None | Guard::Pattern(_) | Guard::Assign { .. } => true,
            Guard::Slot { slot, compare, number, negated } => match self.scratch.state.slot(slot) {
                TxValue::Unset => false,
                TxValue::Number(value) => compare.holds(value, number) != negated,
                TxValue::Text { .. } => true,
            },
            Guard::SlotCount { slot, compare, number, negated } => {
                let count = i64::from(self.scratch.state.slot(slot) != TxValue::Unset);
                compare.holds(count, number) != negated
            }
        }
    }

    #[inline]
    fn is_removed(&self, rule: u32) -> bool {
        let state = &self.scratch.state;
        state.any_removed
            && state.removed.get((rule / 64) as usize).is_some_and(|word| word >> (rule % 64) & 1 == 1)
    }

    /// Whether all links of a rule match, each doing its effects as it does.
    fn rule_matches(&mut self, program: &Program, index: u32, rule: &Rule) -> bool {
        let state = &mut self.scratch.state;
        state.rule = index;
        state.matched.clear();
        state.message.clear();
        state.data.clear();
        state.rule_score = 0;
        state.rule_inbound = 0;
        rule.links.iter().all(|link| self.link_matches(program, index, rule, link))
    }

    /// What follows a full match. Returns the order to stop, if the rule gives one and the engine blocks.
    fn matched_fully(&mut self, program: &Program, rule: &Rule) -> Option<Interruption> {
        let observed = self.observes();
        let state = &mut self.scratch.state;
        if let Some(severity) = rule.info.severity.filter(|_| !observed) {
            let highest = state.highest_severity.map_or(severity, |before| before.min(severity));
            state.highest_severity = Some(highest);
        }
        self.audit.matched |= rule.audit;
        if rule.log {
            self.record_signal(program, rule, observed);
        }
        let kind = match &rule.disruptive {
            Disruptive::Pass => return None,
            Disruptive::Allow(scope) => {
                if self.engine == RuleEngine::On {
                    self.allowed.through_phase = match scope {
                        AllowScope::Transaction => 4,
                        AllowScope::Request => rule.phase.max(2),
                        AllowScope::Phase => rule.phase,
                    };
                }
                return None;
            }
            Disruptive::Deny => InterruptionKind::Deny,
            Disruptive::Drop => InterruptionKind::Drop,
            Disruptive::Redirect(url) => {
                let mut text = Vec::new();
                self.expand(program, url, &mut text);
                InterruptionKind::Redirect(String::from_utf8_lossy(&text).into_owned())
            }
        };
        let stop = Interruption { rule: rule.id, status: rule.status, kind, phase: rule.phase };
        if self.engine != RuleEngine::On || rule.phase == 5 || observed {
            self.would_interrupt.get_or_insert(stop);
            return None;
        }
        self.interruption.get_or_insert_with(|| stop.clone());
        Some(stop)
    }

    /// A rule or its pattern gave up: nobody can say whether the request is harmless.
    pub(crate) fn fail(&mut self, rule: &Rule, what: &str) {
        self.scratch.state.flags.pcre_limit = true;
        self.failure.get_or_insert_with(|| format!("rule {}: {what}", rule.id));
    }
}
