//! What is known when a program is compiled is done then: paranoia gates, defaults of settings, and the rules that a
//! gate skips.
//!
//! One pass over the steps of each phase in order, with what is known of every TX slot before each step (jumps only lead
//! forward). A rule that always matches and only sets slots to known values becomes a few assignments; one that never
//! matches, or that no path reaches, disappears. INVARIANT: findings are the same as without.

use super::effects::{CtlEffect, Effect, SetVarChange, VarTarget};
use super::matchers::Test;
use super::targets::{Pick, Select, TargetSet};
use super::text::{Names, Part, Slot, Text};
use super::trie::ROOT;
use super::{Disruptive, Guard, Link, Rule, Skip, Step};
use crate::transaction::state::TxValue;
use phalanx_policy::seclang::ir::Variable;

/// What the pass reads.
pub(super) struct Folding<'a> {
    pub(super) rules: &'a mut [Rule],
    pub(super) sets: &'a [TargetSet],
    pub(super) picks: &'a [Pick],
    pub(super) names: &'a Names,
    pub(super) constants: &'a [u8],
}

/// What is known before a step; `None` where no path leads.
type Known = Option<State>;

/// What is known of each slot, and a bit for each rule that some `ctl` may have taken out, or taken targets from.
#[derive(Debug, Clone)]
struct State {
    facts: Vec<Fact>,
    removed: Vec<u64>,
}

/// What is known of one slot.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fact {
    Is(TxValue),
    Any,
}

/// What becomes of a step.
enum Fate {
    Keep,
    Drop,
    Assign(Vec<(Slot, TxValue)>),
}

/// Whether a rule matches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Matches {
    Always,
    Never,
    Perhaps,
}

impl Folding<'_> {
    /// Folds all phases; returns the assignments that the new steps refer to.
    pub(super) fn fold(mut self, phases: &mut [Vec<Step>; 5]) -> Vec<(Slot, TxValue)> {
        let mut assignments = Vec::new();
        if self.reads_earlier_matches() {
            return assignments;
        }
        let start: Known = Some(State {
            facts: vec![Fact::Is(TxValue::Unset); self.names.slots_len()],
            removed: vec![0; self.rules.len().div_ceil(64)],
        });
        let mut known = start.clone();
        // What holds where an earlier phase ended early: `allow` may then leave out the next ones.
        let mut early = None;
        // Phase 5 runs whatever happened before it: after a phase that ended early, and when later ones were left out.
        let mut ends = start;
        for (phase, steps) in phases.iter_mut().enumerate() {
            if phase == 4 {
                known = ends.take();
            }
            let (fates, after, stops) = self.pass(steps, known);
            merge(&mut early, &stops);
            known = after;
            merge(&mut known, &early);
            merge(&mut ends, &known);
            self.rewrite(steps, fates, &mut assignments);
        }
        assignments
    }

    /// Whether some rule may look at what an earlier one matched: then no match may be left out.
    ///
    /// A link reads its own match in its effects, and those of the links before it in all that it has; only what the
    /// first link with targets reads before it matches is of an earlier rule.
    fn reads_earlier_matches(&self) -> bool {
        self.rules.iter().any(|rule| {
            let mut own = false;
            rule.links.iter().any(|link| {
                let before_match = self.link_reads_matches(link);
                own |= link.set.is_some();
                let shown = [&link.message, &link.data].into_iter().flatten().any(reads_matches);
                let reads = !own && (shown || link.effects.iter().any(effect_reads_matches));
                let first = rule.links.iter().find(|one| one.set.is_some());
                reads || (before_match && first.is_none_or(|first| std::ptr::eq(first, link)))
            })
        })
    }

    /// Whether a link's targets or its operator name what was matched.
    fn link_reads_matches(&self, link: &Link) -> bool {
        let set = link.set.and_then(|id| self.sets.get(id.0 as usize));
        let mut picks =
            set.into_iter().flat_map(|set| &set.picks).filter_map(|id| self.picks.get(id.0 as usize));
        let operator = match &link.test {
            Test::Text(_, text) | Test::Number(_, text) | Test::PatternText(text) => reads_matches(text),
            _ => false,
        };
        operator || picks.any(|pick| is_match(pick.spec.variable))
    }

    /// The fate of each step, what is known after the last one, and what where a phase may end early.
    fn pass(&self, steps: &[Step], start: Known) -> (Vec<Fate>, Known, Known) {
        let mut incoming: Vec<Known> = vec![None; steps.len() + 1];
        if let Some(first) = incoming.first_mut() {
            *first = start;
        }
        let mut fates = Vec::with_capacity(steps.len());
        let mut stops = None;
        for (at, step) in steps.iter().enumerate() {
            let Some(before) = incoming.get_mut(at).and_then(Option::take) else {
                fates.push(Fate::Drop);
                continue;
            };
            let Some(rule) = self.rules.get(step.rule as usize) else {
                fates.push(Fate::Keep);
                continue;
            };
            let mut matches = self.matches(rule, &before);
            let removed = bit(&before.removed, step.rule) && !self.goes_with_what_it_skips(steps, at);
            // An app's scope may leave a finding out, or take its additions back.
            if matches == Matches::Always && (removed || rule.finds) {
                matches = Matches::Perhaps;
            }
            let (on, passed) = self.after(rule, matches, before.clone());
            fates.push(self.fate(rule, matches, &before, on.as_ref()));
            if !matches!(rule.disruptive, Disruptive::Pass) {
                merge(&mut stops, &on);
            }
            let mut flow = |to: usize, facts: &Known| {
                if let Some(place) = incoming.get_mut(to.clamp(at + 1, steps.len())) {
                    merge(place, facts);
                }
            };
            flow(at + 1, &passed);
            match rule.skip {
                Skip::To(to) => flow(to as usize, &on),
                Skip::None => flow(at + 1, &on),
            }
        }
        self.drop_idle_gates(steps, &mut fates);
        (fates, incoming.pop().flatten(), stops)
    }

    /// Whether every `ctl` that takes this gate out takes out all that it skips, too: then it can count as always there.
    fn goes_with_what_it_skips(&self, steps: &[Step], at: usize) -> bool {
        let Some(gate) = steps.get(at) else { return false };
        let Some(rule) = self.rules.get(gate.rule as usize) else { return false };
        let Skip::To(to) = rule.skip else { return false };
        // What else it does is not done when it is taken out.
        if rule.links.iter().any(|link| link.capture || !link.effects.is_empty()) {
            return false;
        }
        let skipped = steps.get(at + 1..(to as usize).clamp(at + 1, steps.len())).unwrap_or_default();
        let effects = self.rules.iter().flat_map(|rule| &rule.links).flat_map(|link| &link.effects);
        effects.into_iter().all(|effect| match effect {
            Effect::Ctl(CtlEffect::RuleRemove(rules)) => {
                !bit(rules, gate.rule) || skipped.iter().all(|step| bit(rules, step.rule))
            }
            Effect::Ctl(CtlEffect::RuleRemoveTarget(rules, spec)) => {
                spec.variable != Variable::Tx || !bit(rules, gate.rule)
            }
            _ => true,
        })
    }

    /// A gate that always matches and skips nothing that is left does nothing.
    fn drop_idle_gates(&self, steps: &[Step], fates: &mut [Fate]) {
        for (at, step) in steps.iter().enumerate().rev() {
            let Some(rule) = self.rules.get(step.rule as usize) else { continue };
            let Skip::To(to) = rule.skip else { continue };
            let skipped = fates.get(at + 1..(to as usize).clamp(at + 1, fates.len())).unwrap_or_default();
            let nothing_left = skipped.iter().all(|fate| matches!(fate, Fate::Drop));
            let [link] = rule.links.as_slice() else { continue };
            let does_nothing = !rule.log
                && !rule.audit
                && rule.info.severity.is_none()
                && matches!(rule.disruptive, Disruptive::Pass)
                && !link.capture
                && link.effects.is_empty();
            if let Some(fate) = fates.get_mut(at)
                && nothing_left
                && does_nothing
                && matches!(fate, Fate::Keep)
            {
                *fate = Fate::Drop;
            }
        }
    }

    fn matches(&self, rule: &Rule, before: &State) -> Matches {
        let mut state = before.clone();
        let mut all = Matches::Always;
        for link in &rule.links {
            match self.link_matches(link, &state.facts) {
                Matches::Never => return Matches::Never,
                Matches::Perhaps => all = Matches::Perhaps,
                Matches::Always => {}
            }
            self.perform(link, all == Matches::Always && !rule.finds, &mut state);
        }
        all
    }

    fn link_matches(&self, link: &Link, facts: &[Fact]) -> Matches {
        let always = |holds: bool| if holds { Matches::Always } else { Matches::Never };
        let Some(set) = link.set else {
            return if matches!(link.test, Test::Always) { Matches::Always } else { Matches::Perhaps };
        };
        let picks = self.sets.get(set.0 as usize).map(|set| set.picks.as_slice()).unwrap_or_default();
        let pick = match picks {
            &[only] => self.picks.get(only.0 as usize),
            _ => None,
        };
        let (Some(pick), Test::Number(compare, text), true, []) =
            (pick, &link.test, link.node == ROOT, link.multi.as_slice())
        else {
            return Matches::Perhaps;
        };
        let (Select::Slot(slot), Some(right), []) =
            (&pick.spec.select, text.number, pick.excludes.as_slice())
        else {
            return Matches::Perhaps;
        };
        let Some(Fact::Is(value)) = facts.get(usize::from(slot.0)) else {
            return Matches::Perhaps;
        };
        let left = match value {
            _ if pick.spec.count => i64::from(*value != TxValue::Unset),
            TxValue::Number(number) => *number,
            // Without a member nothing matches, negated or not.
            TxValue::Unset => return Matches::Never,
            TxValue::Text { .. } => return Matches::Perhaps,
        };
        always(compare.holds(left, right) != link.negated)
    }

    /// What is known after a match, and after none.
    fn after(&self, rule: &Rule, matches: Matches, before: State) -> (Known, Known) {
        let mut state = before;
        let mut passed = (matches != Matches::Always).then(|| state.clone());
        if matches == Matches::Never {
            // Links before the one that fails may have done their effects.
            if rule.links.len() > 1 {
                for link in &rule.links {
                    self.perform(link, false, &mut state);
                    merge(&mut passed, &Some(state.clone()));
                }
            }
            return (None, passed);
        }
        for link in &rule.links {
            self.perform(link, matches == Matches::Always, &mut state);
            if matches == Matches::Perhaps {
                merge(&mut passed, &Some(state.clone()));
            }
        }
        (Some(state), passed)
    }

    /// Applies the effects of a link; `once`: they are done exactly one time.
    fn perform(&self, link: &Link, once: bool, state: &mut State) {
        let facts = &mut state.facts;
        if link.capture {
            facts.iter_mut().take(10).for_each(|fact| *fact = Fact::Any);
        }
        for effect in &link.effects {
            if let Effect::Ctl(CtlEffect::RuleRemove(rules) | CtlEffect::RuleRemoveTarget(rules, _)) = effect
            {
                state.removed.iter_mut().zip(rules).for_each(|(word, more)| *word |= more);
            }
            let Effect::SetVar(target, change) = effect else {
                continue;
            };
            match target {
                VarTarget::Slot(slot) => {
                    let after = changed(facts, *slot, change, once);
                    if let Some(fact) = facts.get_mut(usize::from(slot.0)) {
                        *fact = after;
                    }
                }
                VarTarget::Tx(name) => self.forget(name, facts),
                VarTarget::Persistent(..) => {}
            }
        }
    }

    /// A name made at run time may be that of any slot that starts like it.
    fn forget(&self, name: &Text, facts: &mut [Fact]) {
        let start = match name.parts.first() {
            Some(Part::Constant(blob)) => {
                let from = blob.start as usize;
                self.constants.get(from..from + blob.len as usize).unwrap_or_default()
            }
            _ => &[],
        };
        for (slot, name) in self.names.slots() {
            let same = name.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start));
            if let Some(fact) = facts.get_mut(usize::from(slot.0)).filter(|_| same) {
                *fact = Fact::Any;
            }
        }
    }

    fn fate(&self, rule: &Rule, matches: Matches, before: &State, after: Option<&State>) -> Fate {
        let only_sets = |link: &Link| {
            let slots = |effect: &Effect| matches!(effect, Effect::SetVar(VarTarget::Slot(_), _));
            !link.capture && link.effects.iter().all(slots)
        };
        match (matches, after) {
            // A chain that fails at its second link has done what its first one does.
            (Matches::Never, _) if rule.links.len() == 1 => Fate::Drop,
            (Matches::Always, Some(after))
                if !rule.log
                    && !rule.audit
                    && rule.info.severity.is_none()
                    && matches!(rule.disruptive, Disruptive::Pass)
                    && rule.skip == Skip::None
                    && rule.links.iter().all(only_sets) =>
            {
                let mut sets = Vec::new();
                for ((slot, before), after) in (0u16..).zip(&before.facts).zip(&after.facts) {
                    match after {
                        Fact::Is(value) if before != after => sets.push((Slot(slot), *value)),
                        Fact::Any if self.sets_slot(rule, Slot(slot)) => return Fate::Keep,
                        _ => {}
                    }
                }
                Fate::Assign(sets)
            }
            _ => Fate::Keep,
        }
    }

    fn sets_slot(&self, rule: &Rule, slot: Slot) -> bool {
        let mut effects = rule.links.iter().flat_map(|link| &link.effects);
        effects.any(|effect| matches!(effect, Effect::SetVar(VarTarget::Slot(set), _) if *set == slot))
    }

    /// Puts the fates into effect: fewer steps, and jumps that lead to where their goals are now.
    fn rewrite(&mut self, steps: &mut Vec<Step>, fates: Vec<Fate>, assignments: &mut Vec<(Slot, TxValue)>) {
        let narrow = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let goals = self.goals(steps, &fates);
        let mut kept: Vec<Step> = Vec::with_capacity(steps.len());
        let mut places = Vec::with_capacity(steps.len() + 1);
        let mut open = false;
        for (at, (step, fate)) in steps.iter().zip(fates).enumerate() {
            // An assignment that a jump leads to must not be joined to the one before it.
            open &= !goals.contains(&narrow(at));
            places.push(narrow(kept.len()));
            match fate {
                Fate::Drop => {}
                Fate::Keep => {
                    kept.push(*step);
                    open = false;
                }
                Fate::Assign(sets) if sets.is_empty() => {}
                Fate::Assign(sets) => {
                    let start = narrow(assignments.len());
                    let len = narrow(sets.len());
                    assignments.extend(sets);
                    match kept.last_mut() {
                        Some(Step { guard: Guard::Assign { len: before, .. }, .. }) if open => *before += len,
                        _ => kept.push(Step { rule: u32::MAX, guard: Guard::Assign { start, len } }),
                    }
                    open = true;
                }
            }
        }
        places.push(narrow(kept.len()));
        for step in &kept {
            if let Some(rule) = self.rules.get_mut(step.rule as usize)
                && let Skip::To(to) = rule.skip
            {
                let last = places.len().saturating_sub(1);
                rule.skip = Skip::To(places.get((to as usize).min(last)).copied().unwrap_or(u32::MAX));
            }
        }
        *steps = kept;
    }

    /// Where jumps of the steps that stay lead to.
    fn goals(&self, steps: &[Step], fates: &[Fate]) -> Vec<u32> {
        let stays = steps.iter().zip(fates).filter(|(_, fate)| matches!(fate, Fate::Keep));
        let skips = stays.filter_map(|(step, _)| self.rules.get(step.rule as usize)).map(|rule| rule.skip);
        skips.filter_map(|skip| if let Skip::To(to) = skip { Some(to) } else { None }).collect()
    }
}

fn is_match(variable: Variable) -> bool {
    use Variable as V;
    matches!(variable, V::MatchedVar | V::MatchedVarName | V::MatchedVars | V::MatchedVarsNames)
}

fn reads_matches(text: &Text) -> bool {
    text.parts.iter().any(|part| matches!(part, Part::Variable(spec) if is_match(spec.variable)))
}

fn effect_reads_matches(effect: &Effect) -> bool {
    let change = |change: &SetVarChange| match change {
        SetVarChange::Set(text) | SetVarChange::Add(text) | SetVarChange::Subtract(text) => {
            reads_matches(text)
        }
        SetVarChange::Unset => false,
    };
    match effect {
        Effect::SetVar(VarTarget::Slot(_), by) => change(by),
        Effect::SetVar(VarTarget::Tx(name) | VarTarget::Persistent(_, name), by) => {
            reads_matches(name) || change(by)
        }
        Effect::InitCol(_, key) | Effect::SetEnv(key) => reads_matches(key),
        Effect::ExpireVar(_, key, seconds) => reads_matches(key) || reads_matches(seconds),
        _ => false,
    }
}

/// The fact of a slot after `setvar`.
fn changed(facts: &[Fact], slot: Slot, change: &SetVarChange, once: bool) -> Fact {
    let fact = |slot: Slot| facts.get(usize::from(slot.0)).copied().unwrap_or(Fact::Any);
    let number = |fact: Fact| match fact {
        Fact::Is(TxValue::Unset) => Some(0),
        Fact::Is(TxValue::Number(number)) => Some(number),
        _ => None,
    };
    match change {
        SetVarChange::Unset => Fact::Is(TxValue::Unset),
        SetVarChange::Set(text) => match (text.number, text.constant, text.parts.as_slice()) {
            (Some(number), ..) => Fact::Is(TxValue::Number(number)),
            (None, Some(blob), _) => Fact::Is(TxValue::Text { blob, secret: false }),
            // Done again, it may copy what the first time left behind.
            (None, None, [Part::Slot(from)]) if once => match fact(*from) {
                // Copied as an empty text, not as unset.
                Fact::Is(TxValue::Unset) => Fact::Any,
                known => known,
            },
            _ => Fact::Any,
        },
        SetVarChange::Add(by) | SetVarChange::Subtract(by) => match (number(fact(slot)), by.number, once) {
            (Some(before), Some(by), true) => {
                let sum = match change {
                    SetVarChange::Subtract(_) => before.saturating_sub(by),
                    _ => before.saturating_add(by),
                };
                Fact::Is(TxValue::Number(sum))
            }
            _ => Fact::Any,
        },
    }
}

/// What is known where two paths meet.
fn merge(into: &mut Known, other: &Known) {
    match (into, other) {
        (_, None) => {}
        (into @ None, Some(_)) => into.clone_from(other),
        (Some(into), Some(other)) => {
            for (fact, other) in into.facts.iter_mut().zip(&other.facts) {
                if fact != other {
                    *fact = Fact::Any;
                }
            }
            into.removed.iter_mut().zip(&other.removed).for_each(|(word, more)| *word |= more);
        }
    }
}

fn bit(bits: &[u64], number: u32) -> bool {
    bits.get((number / 64) as usize).is_some_and(|word| word >> (number % 64) & 1 == 1)
}
