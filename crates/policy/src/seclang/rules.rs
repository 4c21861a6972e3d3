//! Puts rules together: links into chains, defaults into rules, ids and jumps checked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::actions::ActionList;
use super::ir::{
    Action, Engine, Item, Link, Location, Operator, Rule, RuleSelector, RuleSet, Target, Transformation,
};
use super::report::Report;
use crate::Diagnostic;
use crate::suggest::did_you_mean;

/// The rule set under construction.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    set: RuleSet,
    /// Where each id was first used.
    ids: HashMap<u64, Location>,
    /// A rule whose last link says `chain`.
    open: Option<Rule>,
    /// `SecDefaultAction` in force, by phase.
    defaults: [Defaults; 5],
    /// Jumps, each with the number of items before it.
    jumps: Vec<(Arc<str>, Location, usize)>,
}

/// What the rules of one phase inherit.
#[derive(Debug, Default, Clone)]
struct Defaults {
    transformations: Vec<Option<Transformation>>,
    actions: Vec<Action>,
    given_at: Option<Location>,
}

/// The parts of one `SecRule` or `SecAction`.
pub(super) struct Parts {
    pub(super) targets: Vec<Target>,
    pub(super) operator: Option<Operator>,
    pub(super) list: ActionList,
    pub(super) source: Arc<str>,
}

impl Assembly {
    /// The engine-wide settings, to change.
    pub(super) fn engine(&mut self) -> &mut Engine {
        &mut self.set.engine
    }

    /// Adds a rule or a link of the open chain.
    pub(super) fn add_rule(&mut self, parts: Parts, report: &mut Report<'_>) {
        let chained = parts.list.chain;
        let open = match self.open.take() {
            Some(rule) => self.add_link(rule, parts, report),
            None => self.start_rule(parts, report),
        };
        let Some(rule) = open else { return };
        if chained {
            self.open = Some(rule);
        } else {
            self.push(Item::Rule(rule));
        }
    }

    fn start_rule(&mut self, parts: Parts, report: &mut Report<'_>) -> Option<Rule> {
        let Parts { targets, operator, list, source } = parts;
        let id = match list.id {
            Some(id) => id,
            None => {
                report.error("the rule has no id");
                // The rest of its chain is still read, so that further faults are told.
                0
            }
        };
        if id != 0
            && let Some(first) = self.ids.insert(id, report.at())
        {
            report.error(format!("the id {id} is already used at {}:{}", first.file, first.line));
            self.ids.insert(id, first);
        }
        let phase = list.phase.unwrap_or(2);
        let defaults = self.defaults_of(phase);
        let link = Link {
            at: report.at(),
            source,
            targets,
            operator,
            transformations: resolve(&defaults.transformations, &list.transformations),
            multi_match: list.multi_match,
            actions: merge(&defaults.actions, list.actions),
        };
        Some(Rule { id, phase, links: vec![link] })
    }

    fn add_link(&mut self, mut rule: Rule, parts: Parts, report: &mut Report<'_>) -> Option<Rule> {
        let Parts { targets, operator, list, source } = parts;
        if list.id.is_some() {
            report.error("a chained rule has no id of its own; the id stands on the first of the chain");
        }
        if list.phase.is_some_and(|phase| phase != rule.phase) {
            report.error(format!("a chained rule runs in the phase of the first, {}", rule.phase));
        }
        if list.actions.iter().any(Action::is_disruptive) {
            report.error("only the first rule of a chain can have a disruptive action");
        }
        if list.actions.iter().any(|action| matches!(action, Action::Skip(_) | Action::SkipAfter(_))) {
            report.error("only the first rule of a chain can skip");
        }
        let defaults = self.defaults_of(rule.phase);
        rule.links.push(Link {
            at: report.at(),
            source,
            targets,
            operator,
            transformations: resolve(&defaults.transformations, &list.transformations),
            multi_match: list.multi_match,
            actions: list.actions,
        });
        Some(rule)
    }

    /// Adds a marker or a change to earlier rules.
    pub(super) fn add_item(&mut self, item: Item, report: &mut Report<'_>) {
        self.close_chain(report);
        if let Item::Remove(RuleSelector::Ids(ranges), _)
        | Item::UpdateTargets(RuleSelector::Ids(ranges), ..)
        | Item::UpdateActions(RuleSelector::Ids(ranges), ..) = &item
        {
            for (from, to) in ranges {
                if !self.ids.keys().any(|id| (from..=to).contains(&id)) {
                    let which = if from == to {
                        format!("no rule {from}")
                    } else {
                        format!("no rule from {from} to {to}")
                    };
                    report.warning(format!("{which} is loaded before this line, so it has no effect"));
                }
            }
        }
        self.push(item);
    }

    /// `SecDefaultAction`
    pub(super) fn set_defaults(&mut self, list: ActionList, report: &mut Report<'_>) {
        let Some(phase) = list.phase else {
            report.error("SecDefaultAction has no phase");
            return;
        };
        if list.id.is_some() || list.chain || list.multi_match {
            report.error("SecDefaultAction cannot hold `id`, `chain` or `multiMatch`");
        }
        if list
            .actions
            .iter()
            .any(|action| matches!(action, Action::Skip(_) | Action::SkipAfter(_) | Action::Block))
        {
            report.error("SecDefaultAction cannot hold `skip`, `skipAfter` or `block`");
        }
        if !list.actions.iter().any(Action::is_disruptive) {
            report.error("SecDefaultAction has no disruptive action; add `pass` or `deny`");
        }
        let index = usize::from(phase).saturating_sub(1);
        let Some(defaults) = self.defaults.get_mut(index) else { return };
        if let Some(first) = &defaults.given_at {
            report.warning(format!(
                "this replaces the default actions of phase {phase} from {}:{} for the rules below, and what `block` does in all",
                first.file, first.line
            ));
        }
        if let Some(slot) = self.set.engine.default_actions.get_mut(index) {
            slot.clone_from(&list.actions);
        }
        *defaults = Defaults {
            transformations: list.transformations,
            actions: list.actions,
            given_at: Some(report.at()),
        };
    }

    /// Reports a chain that does not go on.
    pub(super) fn close_chain(&mut self, report: &mut Report<'_>) {
        if let Some(rule) = self.open.take() {
            let last = rule.links.last().map_or(0, |link| link.at.line);
            report.error_help(
                format!("the chain of rule {} has no next rule", rule.id),
                Some(format!("take `chain` out of the rule on line {last}, or add the rule that follows it")),
            );
        }
    }

    /// The finished set; checks what can only be known at the end.
    pub(super) fn finish(mut self, found: &mut Vec<Diagnostic>) -> RuleSet {
        let mut markers: HashMap<Arc<str>, usize> = HashMap::new();
        for (index, item) in self.set.items.iter().enumerate() {
            if let Item::Marker(name) = item {
                markers.insert(Arc::clone(name), index);
            }
        }
        let mut reported = HashSet::new();
        for (name, at, index) in std::mem::take(&mut self.jumps) {
            match markers.get(&name) {
                Some(place) if *place >= index => {}
                Some(_) => {
                    Report::new(&at.file, at.line, found)
                        .error(format!("`skipAfter:{name}` jumps back; its SecMarker stands before it"));
                }
                None if reported.insert(Arc::clone(&name)) => {
                    let help = did_you_mean(&name, markers.keys().map(AsRef::as_ref));
                    Report::new(&at.file, at.line, found)
                        .error_help(format!("`skipAfter:{name}` finds no SecMarker of this name"), help);
                }
                None => {}
            }
        }
        self.set
    }

    fn defaults_of(&self, phase: u8) -> Defaults {
        self.defaults.get(usize::from(phase).saturating_sub(1)).cloned().unwrap_or_default()
    }

    fn push(&mut self, item: Item) {
        if let Item::Rule(rule) = &item {
            let jumps =
                rule.links.iter().flat_map(|link| link.actions.iter().map(move |action| (link, action)));
            for (link, action) in jumps {
                if let Action::SkipAfter(name) = action {
                    self.jumps.push((Arc::clone(name), link.at.clone(), self.set.items.len()));
                }
            }
        }
        self.set.items.push(item);
    }
}

/// Defaults first, then the rule's own; `t:none` (`None`) empties what came before it.
fn resolve(defaults: &[Option<Transformation>], own: &[Option<Transformation>]) -> Vec<Transformation> {
    let mut resolved = Vec::new();
    for step in defaults.iter().chain(own) {
        match step {
            Some(transformation) => resolved.push(*transformation),
            None => resolved.clear(),
        }
    }
    resolved
}

/// The rule's own actions behind those it inherits: a disruptive action (with its status) if it has none, and where
/// to log as far as it says nothing.
fn merge(defaults: &[Action], own: Vec<Action>) -> Vec<Action> {
    let disrupts = own.iter().any(Action::is_disruptive);
    let has = |wanted: &[Action]| own.iter().any(|action| wanted.contains(action));
    let says_log = has(&[Action::Log, Action::NoLog]);
    let says_audit = has(&[Action::AuditLog, Action::NoAuditLog, Action::NoLog]);
    let says_status = own.iter().any(|action| matches!(action, Action::Status(_)));
    let inherited = defaults.iter().filter(|action| match action {
        Action::Status(_) => !disrupts && !says_status,
        Action::Log | Action::NoLog => !says_log,
        Action::AuditLog | Action::NoAuditLog => !says_audit,
        action => !action.is_disruptive() || !disrupts,
    });
    let mut merged: Vec<Action> = inherited.cloned().collect();
    merged.extend(own);
    merged
}
