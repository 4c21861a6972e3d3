//! A rule set compiled: one flat list of steps per phase, and tables that the steps index.
//!
//! `ir::RuleSet` -> (removals and updates applied) -> rules of links -> steps. Shared by all workers, never changed.

pub(crate) mod classify;
mod compile;
pub(crate) mod effects;
mod fold;
pub(crate) mod matchers;
mod scope;
pub(crate) mod targets;
pub(crate) mod text;
pub(crate) mod trie;
mod updates;
pub(crate) mod watch;

use std::sync::Arc;

use bytes::Bytes;
use phalanx_model::RuleInfo;
use phalanx_policy::Diagnostic;
use phalanx_policy::seclang::ir;

use crate::collections::Collections;
use crate::prefilter::Prefilter;
use crate::transform::UnicodeMap;

pub use scope::Scope;

pub(crate) use effects::{CtlEffect, Effect, SetVarChange, VarTarget};
pub(crate) use matchers::{Compare, Matcher, PatternId, Test, TextTest, Verify};
pub(crate) use targets::{Lifetime, Pick, PickId, Select, SetId, Spec, TargetSet};
pub(crate) use text::{Names, Part, Slot, Text};
pub(crate) use trie::{NodeId, ROOT, Trie};
pub(crate) use watch::Phase;

/// How a program is compiled.
#[derive(Debug, Clone)]
pub struct CompileOptions {
    /// Skip rules that cannot match, and do at once what is known at load. Off only to prove that it changes nothing.
    pub prefilter: bool,
    /// The store of persistent collections; a reload passes the same one on.
    pub collections: Arc<Collections>,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self { prefilter: true, collections: Arc::new(Collections::default()) }
    }
}

/// A compiled rule set.
#[derive(Debug)]
pub struct Program {
    /// No other program of this process has the same.
    pub(crate) number: u64,
    pub(crate) rules: Vec<Rule>,
    /// Steps of phases 1 to 5, in load order.
    pub(crate) phases: [Phase; 5],
    pub(crate) sets: Vec<TargetSet>,
    pub(crate) picks: Vec<Pick>,
    /// Picks as transformations leave them, which patterns are put to.
    pub(crate) views: Vec<(PickId, NodeId)>,
    /// The patterns that are put to each view, where they are few; else none.
    pub(crate) few_patterns: Vec<Vec<PatternId>>,
    /// By pick, whether so many views are made of it that a pass over each value for all patterns pays.
    pub(crate) often_viewed: Vec<bool>,
    pub(crate) assignments: Vec<(Slot, crate::transaction::state::TxValue)>,
    pub(crate) trie: Trie,
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) prefilter: Prefilter,
    pub(crate) names: Names,
    pub(crate) constants: Bytes,
    pub(crate) engine: ir::Engine,
    pub(crate) unicode_map: UnicodeMap,
    pub(crate) collections: Arc<Collections>,
    pub(crate) scores: ScoreSlots,
    /// A bit for each status that `SecAuditLogRelevantStatus` means.
    pub(crate) audit_statuses: Vec<u64>,
    /// `SecComponentSignature`.
    pub(crate) components: Arc<[String]>,
}

/// A rule: its links and what happens when all of them match.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: u64,
    pub(crate) phase: u8,
    pub(crate) info: Arc<RuleInfo>,
    pub(crate) links: Vec<Link>,
    pub(crate) log: bool,
    /// Its match says something about the request; see [`scope`].
    pub(crate) finds: bool,
    /// Its match is for the audit log.
    pub(crate) audit: bool,
    pub(crate) disruptive: Disruptive,
    pub(crate) status: u16,
    pub(crate) skip: Skip,
}

/// One link of a chain.
#[derive(Debug)]
pub(crate) struct Link {
    /// `None` for `SecAction`.
    pub(crate) set: Option<SetId>,
    pub(crate) node: NodeId,
    /// With `multiMatch`: every node to try, the root first.
    pub(crate) multi: Vec<NodeId>,
    pub(crate) test: Test,
    pub(crate) negated: bool,
    /// For a pattern that is put to stable targets: their views, in order. Only candidates among them can match.
    pub(crate) views: Vec<ViewId>,
    pub(crate) capture: bool,
    /// Done for every value that matches.
    pub(crate) effects: Vec<Effect>,
    pub(crate) message: Option<Text>,
    pub(crate) data: Option<Text>,
}

/// A pick with a chain of transformations, less the steps at its end that change nothing but case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ViewId(pub(crate) u32);

/// What a rule does to the transaction.
#[derive(Debug, Clone)]
pub(crate) enum Disruptive {
    Pass,
    Deny,
    Drop,
    Redirect(Text),
    Allow(ir::AllowScope),
}

/// Where a phase goes on after a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    None,
    /// To this step.
    To(u32),
}

/// A rule's place in its phase, with a cheap test that tells when its first link cannot match.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) rule: u32,
    pub(crate) guard: Guard,
}

/// A test that costs a few instructions. INVARIANT: when it fails, the first link does not match.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Guard {
    /// Always evaluate.
    None,
    /// A value in a view of the first link must be a candidate for the pattern: the phase's watches see to it.
    Pattern(PatternId),
    /// A TX variable compared with a constant.
    Slot { slot: Slot, compare: Compare, number: i64, negated: bool },
    /// Whether a TX variable is set, compared with a constant.
    SlotCount { slot: Slot, compare: Compare, number: i64, negated: bool },
    /// No rule: TX variables take known values, a range of the program's assignments.
    Assign { start: u32, len: u32 },
}

/// Slots with a meaning beyond the rules: the anomaly scores.
#[derive(Debug, Default)]
pub(crate) struct ScoreSlots {
    /// What one request adds up to, best name first.
    pub(crate) totals: Vec<Slot>,
    /// What single rules add to for a request.
    pub(crate) inbound: Vec<Slot>,
    /// What single rules add to for a response.
    pub(crate) outbound: Vec<Slot>,
}

/// Figures of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Rules; a chain is one.
    pub rules: usize,
    /// Links of all rules.
    pub links: usize,
    /// Distinct patterns and phrase lists.
    pub patterns: usize,
    /// Patterns that need backtracking.
    pub fallback_patterns: usize,
    /// Distinct literals of the prefilter.
    pub literals: usize,
    /// Patterns that no literal guards.
    pub unguarded_patterns: usize,
    /// Bytes of the prefilter's automaton.
    pub automaton_bytes: usize,
    /// Distinct lists of targets.
    pub target_sets: usize,
    /// Distinct chains of transformations, as nodes of their tree.
    pub transformation_nodes: usize,
    /// TX variables with constant names.
    pub slots: usize,
}

impl Program {
    /// Compiles a rule set; all faults at once.
    pub fn compile(rules: &ir::RuleSet, options: &CompileOptions) -> Result<Self, Vec<Diagnostic>> {
        compile::compile(rules, options)
    }

    /// Figures of the program.
    pub fn stats(&self) -> Stats {
        let fallback = |m: &&Matcher| matches!(m, Matcher::Rx(pattern) if pattern.is_fallback());
        Stats {
            rules: self.rules.len(),
            links: self.rules.iter().map(|rule| rule.links.len()).sum(),
            patterns: self.matchers.len(),
            fallback_patterns: self.matchers.iter().filter(fallback).count(),
            literals: self.prefilter.literals_len(),
            unguarded_patterns: self.prefilter.loose_len(),
            automaton_bytes: self.prefilter.memory(),
            target_sets: self.sets.len(),
            transformation_nodes: self.trie.len(),
            slots: self.names.slots_len(),
        }
    }

    /// What the rules say of themselves, in load order.
    pub fn rule_infos(&self) -> impl Iterator<Item = &Arc<RuleInfo>> {
        self.rules.iter().map(|rule| &rule.info)
    }

    /// What a rule says when it matches, as its author wrote it; `…` stands for what a request would fill in. None if it says nothing.
    pub fn message(&self, rule: u64) -> Option<String> {
        let rule = self.rules.iter().find(|one| one.id == rule)?;
        let message = rule.links.iter().find_map(|link| link.message.as_ref())?;
        let mut text = String::new();
        for part in &message.parts {
            match part {
                Part::Constant(blob) => {
                    let start = blob.start as usize;
                    let bytes = self.constants.get(start..start + blob.len as usize).unwrap_or_default();
                    text.push_str(&String::from_utf8_lossy(bytes));
                }
                Part::Slot(_) | Part::Variable(_) => text.push('…'),
            }
        }
        (!text.is_empty()).then_some(text)
    }

    /// Engine-wide settings of the rule set.
    pub fn engine(&self) -> &ir::Engine {
        &self.engine
    }

    pub(crate) fn matcher(&self, id: PatternId) -> Option<&Matcher> {
        self.matchers.get(id.0 as usize)
    }

    pub(crate) fn set(&self, id: SetId) -> Option<&TargetSet> {
        self.sets.get(id.0 as usize)
    }

    pub(crate) fn pick(&self, id: PickId) -> Option<&Pick> {
        self.picks.get(id.0 as usize)
    }
}
