//! What a link looks at: sets of (collection, selector), interned, so that rules with the same targets share one
//! resolved list of values.

use std::sync::Arc;

use phalanx_policy::seclang::ir::{Selector, Target, Variable, XPath};

use super::text::{Names, Slot};
use crate::body::XmlAside;
use crate::pattern::{Flags, Pattern, PatternError};

/// A set of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SetId(pub(crate) u32);

/// One target with what its rule always takes away from it. Most rules share most of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PickId(pub(crate) u32);

/// The members of one variable that a rule looks at.
#[derive(Debug)]
pub(crate) struct Pick {
    pub(crate) spec: Spec,
    pub(crate) excludes: Vec<Spec>,
    pub(crate) lifetime: Lifetime,
}

/// How long the members of a pick stay the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// A rule can change them at any time.
    Rule,
    /// They may differ in the next phase.
    Phase,
    /// They are known when the request's head is.
    Transaction,
}

/// The targets of a link.
#[derive(Debug)]
pub(crate) struct TargetSet {
    pub(crate) picks: Vec<PickId>,
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

    /// Compiles an exclusion: members are told by their names, those of `TX` too.
    pub(crate) fn excluded(target: &Target, names: &mut Names) -> Result<Self, PatternError> {
        match (&target.selector, target.variable) {
            (Selector::Key(_), Variable::Tx) => Ok(Self::plain(target)),
            _ => Self::compile(target, names),
        }
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
        // Failing to decide must not hide a member from the rules.
        self.names(name, true)
    }

    /// Whether an exclusion means the member of this name.
    pub(crate) fn takes_away(&self, name: &[u8]) -> bool {
        // The same the other way round.
        self.names(name, false)
    }

    fn names(&self, name: &[u8], undecided: bool) -> bool {
        match &self.select {
            Select::Key(key) => name.eq_ignore_ascii_case(key),
            Select::Regex(pattern, _) => pattern.is_match(name).unwrap_or(undecided),
            // Comments and instructions are looked at with the text, and have names of their own to be excluded by.
            Select::AllText => name != XML_ATTRIBUTES && name != XmlAside::Name.xpath(),
            Select::AllAttributes => name == XML_ATTRIBUTES,
            Select::All | Select::Slot(_) => true,
        }
    }

    fn lifetime(&self) -> Lifetime {
        use Variable as V;
        match self.variable {
            V::Tx
            | V::MatchedVar
            | V::MatchedVarName
            | V::MatchedVars
            | V::MatchedVarsNames
            | V::Env
            | V::Global
            | V::Ip
            | V::Session
            | V::Sessionid
            | V::User
            | V::Userid
            | V::Resource
            | V::HighestSeverity
            | V::Rule
            | V::ReqbodyProcessor
            | V::MscPcreError
            | V::MscPcreLimitsExceeded
            | V::Duration => Lifetime::Rule,
            V::ArgsGet
            | V::ArgsGetNames
            | V::RequestHeaders
            | V::RequestHeadersNames
            | V::RequestCookies
            | V::RequestCookiesNames
            | V::RequestMethod
            | V::RequestUri
            | V::RequestUriRaw
            | V::RequestFilename
            | V::RequestBasename
            | V::RequestLine
            | V::RequestProtocol
            | V::QueryString => Lifetime::Transaction,
            _ => Lifetime::Phase,
        }
    }
}

impl Pick {
    /// The members of a target, less those that exclusions of the same link take away.
    pub(crate) fn compile(
        target: &Target,
        excludes: &[Spec],
        names: &mut Names,
    ) -> Result<Self, PatternError> {
        let spec = Spec::compile(target, names)?;
        let excludes = excludes.iter().filter(|one| covers(one.variable, spec.variable)).cloned().collect();
        Ok(Self { lifetime: spec.lifetime(), spec, excludes })
    }

    /// Whether an exclusion takes this member away.
    pub(crate) fn excludes(&self, name: &[u8]) -> bool {
        self.excludes.iter().any(|spec| spec.takes_away(name))
    }
}

/// Names of the members of `XML`, as rules write them.
pub(crate) const XML_TEXT: &[u8] = b"/*";
/// The same for attributes.
pub(crate) const XML_ATTRIBUTES: &[u8] = b"//@*";

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
