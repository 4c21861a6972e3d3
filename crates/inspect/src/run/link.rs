//! A link: every value of its targets, transformed, against its operator; and what each match does.

use crate::program::targets::covers;
use crate::program::{CtlEffect, Effect, Link, NodeId, Program, Rule, Test};
use crate::transaction::Transaction;
use crate::transaction::state::{Entry, Matched, Name};
use crate::transaction::values::{Blob, ValueId};

use super::test::Answer;

impl Transaction {
    /// Whether any value matches; effects are done for each that does.
    pub(super) fn link_matches(&mut self, program: &Program, index: u32, rule: &Rule, link: &Link) -> bool {
        let Some(id) = link.set else {
            if !matches!(link.test, Test::Always) {
                return false;
            }
            self.perform(program, rule, link);
            return true;
        };
        let Some(set) = program.set(id) else {
            return false;
        };
        if set.stable {
            let (start, end) = self.stable_entries(program, id);
            let mut any = false;
            for place in start..end {
                let entry = self.scratch.state.set_entries.get(place).copied();
                any |= entry.is_some_and(|entry| self.entry_matches(program, index, rule, link, entry));
            }
            return any;
        }
        let mut entries = std::mem::take(&mut self.scratch.state.entries);
        entries.clear();
        self.resolve(program, set, &mut entries);
        let mut any = false;
        for &entry in &entries {
            any |= self.entry_matches(program, index, rule, link, entry);
        }
        self.scratch.state.entries = entries;
        any
    }

    #[inline]
    fn entry_matches(
        &mut self,
        program: &Program,
        index: u32,
        rule: &Rule,
        link: &Link,
        entry: Entry,
    ) -> bool {
        if !self.scratch.state.exclusions.is_empty() && self.is_excluded(program, index, entry.name) {
            return false;
        }
        if link.multi.is_empty() {
            let value = self.scratch.state.values.transformed(program, entry.value, link.node);
            return self.value_matches(program, rule, link, entry, (value, link.node));
        }
        let mut any = false;
        let mut last = None;
        for &node in &link.multi {
            let value = self.scratch.state.values.transformed(program, entry.value, node);
            if last != Some(value) {
                any |= self.value_matches(program, rule, link, entry, (value, node));
                last = Some(value);
            }
        }
        any
    }

    #[inline]
    fn value_matches(
        &mut self,
        program: &Program,
        rule: &Rule,
        link: &Link,
        entry: Entry,
        (value, node): (ValueId, NodeId),
    ) -> bool {
        let answer = self.test(program, rule, link, value);
        let fragment = match (answer, link.negated) {
            (Answer::No, false) | (Answer::Yes(_), true) | (Answer::GaveUp, _) => return false,
            (Answer::Yes(fragment), false) => fragment,
            (Answer::No, true) => self.scratch.state.values.blob(value),
        };
        self.matched(program, rule, link, entry, (value, node, fragment));
        true
    }

    /// What a value's match does: it becomes `MATCHED_VAR`, the effects run, the message is made.
    fn matched(
        &mut self,
        program: &Program,
        rule: &Rule,
        link: &Link,
        entry: Entry,
        (value, node, fragment): (ValueId, NodeId, Blob),
    ) {
        let secret = entry.secret || self.is_secret(entry.name);
        let matched = Matched { name: entry.name, original: entry.value, value, node, fragment, secret };
        let state = &mut self.scratch.state;
        state.latest = Some(matched);
        if state.matched.len() < MATCHED_MAX {
            state.matched.push(matched);
        }
        if link.capture && !link.negated {
            self.capture(program, rule, link, value, secret);
        }
        self.perform(program, rule, link);
    }

    /// Runs the effects of a link and expands its message and data.
    fn perform(&mut self, program: &Program, rule: &Rule, link: &Link) {
        for (place, effect) in link.effects.iter().enumerate() {
            self.apply_effect(program, rule, link, place, effect);
        }
        if !rule.log {
            return;
        }
        if let Some(text) = &link.message {
            self.scratch.state.message = self.expand_for_log(program, text);
        }
        if let Some(text) = &link.data {
            self.scratch.state.data = self.expand_for_log(program, text);
        }
    }

    /// Whether a `ctl:ruleRemoveTarget...` took this member from the rule.
    fn is_excluded(&self, program: &Program, index: u32, name: Name) -> bool {
        let state = &self.scratch.state;
        state.exclusions.iter().any(|&(rule, link, effect)| {
            let link = program.rules.get(rule as usize).and_then(|rule| rule.links.get(link as usize));
            let effect = link.and_then(|link| link.effects.get(effect as usize));
            let Some(Effect::Ctl(CtlEffect::RuleRemoveTarget(rules, spec))) = effect else {
                return false;
            };
            let applies = rules.get((index / 64) as usize).is_some_and(|word| word >> (index % 64) & 1 == 1);
            let key = name.key.map(|key| state.values.bytes(key)).unwrap_or_default();
            applies && covers(spec.variable, name.variable) && spec_selects(program, spec, key)
        })
    }
}

/// Whether an exclusion's selector means this member.
fn spec_selects(program: &Program, spec: &crate::program::Spec, key: &[u8]) -> bool {
    match &spec.select {
        crate::program::Select::Slot(slot) => {
            let name = program.names.name(*slot);
            let start = name.start as usize;
            let name = program.constants.get(start..start + name.len as usize).unwrap_or_default();
            key.eq_ignore_ascii_case(name)
        }
        _ => spec.selects(key),
    }
}

/// Values of one rule that `MATCHED_VARS` and evidence keep.
const MATCHED_MAX: usize = 4096;
