//! A link: every value of its targets, transformed, against its operator; and what each match does.

use crate::program::targets::covers;
use crate::program::{CtlEffect, Effect, Lifetime, Link, NodeId, PatternId, Program, Rule, Test};
use crate::transaction::Transaction;
use crate::transaction::state::{Entry, Matched, Name};
use crate::transaction::values::{Blob, ValueId};

use super::test::Answer;

impl Transaction {
    /// Whether any value matches; effects are done for each that does, then message and data are made of the last.
    pub(super) fn link_matches(&mut self, program: &Program, index: u32, rule: &Rule, link: &Link) -> bool {
        let matches = self.any_matches(program, index, rule, link);
        if matches && rule.log {
            self.expand_texts(program, link);
        }
        matches
    }

    fn any_matches(&mut self, program: &Program, index: u32, rule: &Rule, link: &Link) -> bool {
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
        if let (Test::Pattern(pattern) | Test::PatternGlobal(pattern), [_, ..]) =
            (&link.test, link.views.as_slice())
        {
            return self.candidates_match(program, index, rule, link, *pattern);
        }
        let mut entries = std::mem::take(&mut self.scratch.state.entries);
        entries.clear();
        let mut any = false;
        for &id in &set.picks {
            let Some(pick) = program.pick(id) else {
                continue;
            };
            if pick.lifetime == Lifetime::Rule {
                // All members as they are before the link does anything.
                entries.clear();
                self.resolve(program, pick, &mut entries);
                for &entry in &entries {
                    any |= self.entry_matches(program, index, rule, link, entry);
                }
                continue;
            }
            let (start, end) = self.pick_entries(program, id);
            for place in start..end {
                let entry = self.scratch.state.pick_entries.get(place as usize).copied();
                any |= entry.is_some_and(|entry| self.entry_matches(program, index, rule, link, entry));
            }
        }
        self.scratch.state.entries = entries;
        any
    }

    /// As [`Self::any_matches`] for a pattern on stable targets: only candidates are looked at.
    fn candidates_match(
        &mut self,
        program: &Program,
        index: u32,
        rule: &Rule,
        link: &Link,
        pattern: PatternId,
    ) -> bool {
        let nodes = if link.multi.is_empty() { std::slice::from_ref(&link.node) } else { &link.multi };
        let mut any = false;
        // The views of one pick, one for each node.
        for views in link.views.chunks(nodes.len()) {
            let mut entries = (0, 0);
            let mut possible = false;
            for &id in views {
                let view = self.view(program, id);
                possible |= self.scratch.state.is_in_union(view.union, pattern);
                entries = (view.start, view.end);
            }
            if !possible {
                continue;
            }
            for place in entries.0..entries.1 {
                let Some(&entry) = self.scratch.state.pick_entries.get(place as usize) else { break };
                let mut last = None;
                for (&view, &node) in views.iter().zip(nodes) {
                    if !self.is_candidate(program, view, place - entries.0, pattern) {
                        last = None;
                        continue;
                    }
                    if self.is_excluded(program, index, entry.name) {
                        break;
                    }
                    let value = self.scratch.state.values.transformed(program, entry.value, node);
                    if last != Some(value) {
                        any |= self.value_matches(program, rule, link, entry, (value, node));
                        last = Some(value);
                    }
                }
            }
        }
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
        if self.is_excluded(program, index, entry.name) {
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

    /// What a value's match does: it becomes `MATCHED_VAR`, the effects run.
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

    /// Runs the effects of a link.
    fn perform(&mut self, program: &Program, rule: &Rule, link: &Link) {
        for (place, effect) in link.effects.iter().enumerate() {
            self.apply_effect(program, rule, link, place, effect);
        }
    }

    fn expand_texts(&mut self, program: &Program, link: &Link) {
        if let Some(text) = &link.message {
            self.scratch.state.message = self.expand_for_log(program, text);
        }
        if let Some(text) = &link.data {
            self.scratch.state.data = self.expand_for_log(program, text);
        }
    }

    /// Whether a `ctl:ruleRemoveTarget...` took this member from the rule.
    #[inline]
    fn is_excluded(&self, program: &Program, index: u32, name: Name) -> bool {
        let state = &self.scratch.state;
        if state.exclusions.is_empty() {
            return false;
        }
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
        _ => spec.takes_away(key),
    }
}

/// Values of one rule that `MATCHED_VARS` and evidence keep.
const MATCHED_MAX: usize = 4096;
