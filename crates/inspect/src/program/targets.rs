//! What a link looks at: sets of (collection, selector), interned, so that rules with the same targets share one
//! resolved list of values.

use std::sync::Arc;

use phalanx_policy::seclang::ir::{Selector, Target, Variable, XPath};

use super::text::{Names, Slot};
use crate::pattern::{Flags, Pattern, PatternError};

/// A set of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SetId(pub(crate) u32);

/// The targets of a link, with what its rule always takes away from them.
#[derive(Debug)]
pub(crate) struct TargetSet {
    pub(crate) includes: Vec<Spec>,
    pub(crate) excludes: Vec<Spec>,
    /// No rule can change the members within a phase: they may be resolved once.
    pub(crate) stable: bool,
}

/// A variable with its selector.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) variable: Variable,
    pub(crate) select: Select,
    pub(crate) count: bool,
}

/// Which members.
#[derive(Debug, Clone)]
pub(crate) enum Select {
    All,
    /// By name, in lower case.
    Key(Box<[u8]>),
    /// One TX variable.
    Slot(Slot),
    /// By pattern; for TX with the slots whose names match.
    Regex(Arc<Pattern>, Vec<Slot>),
    AllText,
    AllAttributes,
}

impl Spec {
    /// A spec whose selector needs no compilation (no regular expression).
    pub(crate) fn plain(target: &Target) -> Self {
        let select = match &target.selector {
            Selector::Key(key) => Select::Key(key.as_bytes().to_ascii_lowercase().into()),
            Selector::XPath(XPath::AllAttributes) => Select::AllAttributes,
            Selector::XPath(XPath::AllText) => Select::AllText,
            Selector::All | Selector::Regex(_) => Select::All,
        };
        Self { variable: target.variable, select, count: target.count }
    }

    /// Compiles a target.
    pub(crate) fn compile(target: &Target, names: &mut Names) -> Result<Self, PatternError> {
        let mut spec = Self::plain(target);
        match (&target.selector, target.variable) {
            (Selector::Key(key), Variable::Tx) => spec.select = Select::Slot(names.slot(key.as_bytes())),
            (Selector::Regex(regex), _) => {
                // ModSecurity compares names without case.
                let flags = Flags { case_insensitive: true, ..Flags::MODSECURITY };
                spec.select = Select::Regex(Arc::new(Pattern::compile(regex, flags)?), Vec::new());
            }
            _ => {}
        }
        Ok(spec)
    }

    /// Finds the slots that a pattern over TX names selects; called when all slots are known.
    pub(crate) fn link_slots(&mut self, names: &Names) {
        if let (Variable::Tx, Select::Regex(pattern, slots)) = (self.variable, &mut self.select) {
            let matching = names.slots().filter(|(_, name)| pattern.is_match(name).unwrap_or(true));
            *slots = matching.map(|(slot, _)| slot).collect();
            slots.sort_unstable();
        }
    }

    /// Whether a member of this name is selected.
    pub(crate) fn selects(&self, name: &[u8]) -> bool {
        match &self.select {
            Select::Key(key) => name.eq_ignore_ascii_case(key),
            // Failing to decide must not hide a member from the rules.
            Select::Regex(pattern, _) => pattern.is_match(name).unwrap_or(true),
            Select::All | Select::AllText | Select::AllAttributes | Select::Slot(_) => true,
        }
    }

    /// Whether rules can change what the spec selects while a phase runs.
    fn is_stable(&self) -> bool {
        !matches!(
            self.variable,
            Variable::Tx
                | Variable::MatchedVar
                | Variable::MatchedVarName
                | Variable::MatchedVars
                | Variable::MatchedVarsNames
                | Variable::Env
                | Variable::Global
                | Variable::Ip
                | Variable::Session
                | Variable::Sessionid
                | Variable::User
                | Variable::Userid
                | Variable::Resource
                | Variable::HighestSeverity
                | Variable::Rule
                | Variable::ReqbodyProcessor
                | Variable::MscPcreError
                | Variable::MscPcreLimitsExceeded
                | Variable::Duration
        )
    }
}

impl TargetSet {
    /// Compiles the targets of a link.
    pub(crate) fn compile(targets: &[Target], names: &mut Names) -> Result<Self, PatternError> {
        let (mut includes, mut excludes) = (Vec::new(), Vec::new());
        for target in targets {
            let spec = Spec::compile(target, names)?;
            if target.exclude { excludes.push(spec) } else { includes.push(spec) }
        }
        let stable = includes.iter().all(Spec::is_stable);
        Ok(Self { includes, excludes, stable })
    }

    /// Whether an exclusion takes this member away.
    pub(crate) fn excludes(&self, variable: Variable, name: &[u8]) -> bool {
        self.excludes.iter().any(|spec| covers(spec.variable, variable) && spec.selects(name))
    }
}

/// Whether an exclusion of `excluded` also means members that were reached through `variable`: taking `ARGS:x` away
/// takes it away from `ARGS_GET` and `ARGS_POST` as well.
pub(crate) fn covers(excluded: Variable, variable: Variable) -> bool {
    excluded == variable
        || matches!(
            (excluded, variable),
            (Variable::Args, Variable::ArgsGet | Variable::ArgsPost)
                | (Variable::ArgsNames, Variable::ArgsGetNames | Variable::ArgsPostNames)
        )
}
