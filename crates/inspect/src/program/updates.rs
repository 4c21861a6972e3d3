//! `SecRuleRemove*`, `SecRuleUpdateTarget*` and `SecRuleUpdateAction*`, applied before anything is compiled.

use std::sync::Arc;

use phalanx_policy::Diagnostic;
use phalanx_policy::seclang::ir::{Action, Item, Location, MacroPart, Rule, RuleSelector, RuleSet};

use crate::pattern::{Flags, Pattern, PatternError};

/// Rules and markers in load order, after all changes.
#[derive(Debug)]
pub(crate) enum Placed {
    /// A rule.
    Rule(Box<Rule>),
    /// A marker.
    Marker(Arc<str>),
}

/// Applies the changes, which in ModSecurity v3 reach every rule, wherever they stand.
pub(crate) fn apply(set: &RuleSet, faults: &mut Vec<Diagnostic>) -> Vec<Placed> {
    let mut placed: Vec<Placed> = set
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Rule(rule) => Some(Placed::Rule(Box::new(rule.clone()))),
            Item::Marker(name) => Some(Placed::Marker(name.clone())),
            Item::Remove(..) | Item::UpdateTargets(..) | Item::UpdateActions(..) => None,
        })
        .collect();
    for item in &set.items {
        match item {
            Item::Remove(selector, at) => {
                if let Some(selects) = selector_at(selector, at, faults) {
                    placed.retain(|one| !matches!(one, Placed::Rule(rule) if selects.selects(rule)));
                }
            }
            Item::UpdateTargets(selector, targets, at) => {
                change(selector, at, faults, &mut placed, |rule| {
                    if let Some(link) = rule.links.first_mut() {
                        link.targets.extend(targets.iter().cloned());
                    }
                });
            }
            Item::UpdateActions(selector, actions, at) => {
                change(selector, at, faults, &mut placed, |rule| {
                    if let Some(link) = rule.links.first_mut() {
                        link.actions.extend(actions.iter().cloned());
                    }
                });
            }
            Item::Rule(_) | Item::Marker(_) => {}
        }
    }
    placed
}

fn change(
    selector: &RuleSelector,
    at: &Location,
    faults: &mut Vec<Diagnostic>,
    placed: &mut [Placed],
    mut edit: impl FnMut(&mut Rule),
) {
    let Some(selects) = selector_at(selector, at, faults) else {
        return;
    };
    for one in placed {
        if let Placed::Rule(rule) = one
            && selects.selects(rule)
        {
            edit(rule);
        }
    }
}

fn selector_at(selector: &RuleSelector, at: &Location, faults: &mut Vec<Diagnostic>) -> Option<Selects> {
    Selects::compile(selector)
        .map_err(|error| {
            faults.push(Diagnostic::error(
                at.file.clone(),
                at.line,
                format!("the pattern does not compile: {error}"),
            ));
        })
        .ok()
}

/// A compiled rule selector.
#[derive(Debug)]
pub(crate) enum Selects {
    Ids(Vec<(u64, u64)>),
    Tag(Pattern),
    Message(Pattern),
}

impl Selects {
    /// Compiles a selector.
    pub(crate) fn compile(selector: &RuleSelector) -> Result<Self, PatternError> {
        Ok(match selector {
            RuleSelector::Ids(ranges) => Self::Ids(ranges.clone()),
            RuleSelector::Tag(regex) => Self::Tag(Pattern::compile(regex, Flags::MODSECURITY)?),
            RuleSelector::Message(regex) => Self::Message(Pattern::compile(regex, Flags::MODSECURITY)?),
        })
    }

    /// Whether the rule is meant.
    pub(crate) fn selects(&self, rule: &Rule) -> bool {
        match self {
            Self::Ids(ranges) => ranges.iter().any(|&(from, to)| (from..=to).contains(&rule.id)),
            Self::Tag(pattern) => rule.actions().any(|action| {
                matches!(action, Action::Tag(tag) if pattern.is_match(plain(&tag.0).as_bytes()).unwrap_or(false))
            }),
            Self::Message(pattern) => rule.actions().any(|action| {
                matches!(action, Action::Msg(msg) if pattern.is_match(plain(&msg.0).as_bytes()).unwrap_or(false))
            }),
        }
    }
}

/// A macro's constant text; macros as they are written.
pub(crate) fn plain(parts: &[MacroPart]) -> String {
    let mut text = String::new();
    for part in parts {
        match part {
            MacroPart::Text(constant) => text.push_str(constant),
            MacroPart::Variable(variable, None) => text.push_str(&format!("%{{{variable:?}}}")),
            MacroPart::Variable(variable, Some(key)) => text.push_str(&format!("%{{{variable:?}.{key}}}")),
        }
    }
    text
}
