//! What one app does with the findings of a program that it shares with others: a bit for each rule that is left out, and
//! for each that is only observed.
//!
//! A rule is a *finding* when its match says something about the request. Rules that prepare or sum up (no log, `ctl`,
//! `allow`, nothing looked at but `TX`) work on in every app: a policy class that is observed must not take down the rule
//! that adds up what detections found.

use std::sync::Arc;

use phalanx_policy::seclang::ir::Variable;
use phalanx_policy::{ClassUse, Classes};

use super::{CtlEffect, Disruptive, Effect, Pick, Program, Rule, TargetSet};

/// Which findings of a program an app leaves out, and which it only observes.
#[derive(Debug)]
pub struct Scope {
    pub(crate) removed: Vec<u64>,
    observed: Vec<u64>,
}

impl Scope {
    /// Whether a rule's match is recorded and does nothing else.
    pub(crate) fn observes(&self, rule: u32) -> bool {
        self.observed.get((rule / 64) as usize).is_some_and(|word| word >> (rule % 64) & 1 == 1)
    }
}

impl Program {
    /// The scope of an app that uses classes so; `None` where all of them block.
    pub fn scope(&self, classes: &Classes) -> Option<Arc<Scope>> {
        let bits = |wanted: ClassUse| {
            let mut bits = vec![0u64; self.rules.len().div_ceil(64)];
            for (index, rule) in self.rules.iter().enumerate() {
                if rule.finds
                    && classes.of(rule.info.class) == wanted
                    && let Some(word) = bits.get_mut(index / 64)
                {
                    *word |= 1 << (index % 64);
                }
            }
            bits
        };
        let scope = Scope { removed: bits(ClassUse::Off), observed: bits(ClassUse::Observe) };
        let any = scope.removed.iter().chain(&scope.observed).any(|word| *word != 0);
        any.then(|| Arc::new(scope))
    }

    /// How many rules are in force in a scope.
    pub fn rules_in(&self, scope: Option<&Scope>) -> usize {
        let removed = scope.map_or(0, |scope| scope.removed.iter().map(|word| word.count_ones()).sum());
        self.rules.len().saturating_sub(removed as usize)
    }
}

/// Whether a rule's match is a finding.
pub(super) fn finds(rule: &Rule, sets: &[TargetSet], picks: &[Pick]) -> bool {
    let refuses = matches!(rule.disruptive, Disruptive::Deny | Disruptive::Drop | Disruptive::Redirect(_));
    let steers = |effect: &Effect| match effect {
        Effect::Ctl(ctl) => !matches!(ctl, CtlEffect::AuditEngine(_) | CtlEffect::AuditParts(_)),
        _ => false,
    };
    if !(rule.log || refuses)
        || matches!(rule.disruptive, Disruptive::Allow(_))
        || rule.links.iter().flat_map(|link| &link.effects).any(steers)
    {
        return false;
    }
    let tagged = |tag: &Arc<str>| tag.starts_with("phalanx/class/") || tag.starts_with("phalanx/confidence/");
    let looks = rule
        .links
        .iter()
        .filter_map(|link| sets.get(link.set?.0 as usize))
        .flat_map(|set| &set.picks)
        .filter_map(|pick| picks.get(pick.0 as usize))
        .any(|pick| pick.spec.variable != Variable::Tx);
    looks || rule.info.tags.iter().any(tagged)
}
