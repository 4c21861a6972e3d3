//! Actions that a link performs for every value that matches it.

use phalanx_policy::seclang::ir;

use super::targets::Spec;
use super::text::{Names, Slot, Text};
use crate::pattern::PatternError;

/// An action with its names resolved.
#[derive(Debug)]
pub(crate) enum Effect {
    SetVar(VarTarget, SetVarChange),
    ExpireVar(ir::Variable, Text, Text),
    /// `deprecatevar`: how much is taken away, and how often in milliseconds.
    DeprecateVar(ir::Variable, Text, i64, u64),
    InitCol(ir::Variable, Text),
    /// `setenv`: `name=value`, visible as `ENV` within the transaction.
    SetEnv(Text),
    Ctl(CtlEffect),
    SanitiseArg(Box<[u8]>),
    SanitiseRequestHeader(Box<[u8]>),
    SanitiseResponseHeader(Box<[u8]>),
    SanitiseMatched,
}

/// What `setvar` changes.
#[derive(Debug)]
pub(crate) enum VarTarget {
    Slot(Slot),
    /// A TX variable whose name has macros.
    Tx(Text),
    Persistent(ir::Variable, Text),
}

/// What becomes of it.
#[derive(Debug)]
pub(crate) enum SetVarChange {
    Set(Text),
    Add(Text),
    Subtract(Text),
    Unset,
}

/// `ctl`.
#[derive(Debug)]
pub(crate) enum CtlEffect {
    RuleEngine(ir::RuleEngine),
    RequestBodyAccess(bool),
    ResponseBodyAccess(bool),
    ForceRequestBodyVariable(bool),
    RequestBodyProcessor(ir::BodyProcessor),
    ParseXmlIntoArgs(bool),
    /// A bit for each rule to remove.
    RuleRemove(Vec<u64>),
    /// A bit for each rule that the target is taken from.
    RuleRemoveTarget(Vec<u64>, Spec),
    AuditEngine(ir::AuditEngine),
    AuditParts(ir::AuditPartsChange),
}

impl Effect {
    /// Compiles `setvar`.
    pub(crate) fn set_var(set: &ir::SetVar, names: &mut Names) -> Self {
        let key = names.text(&set.key);
        let target = match (set.collection, &set.key.0[..]) {
            (ir::Variable::Tx, [ir::MacroPart::Text(name)]) => VarTarget::Slot(names.slot(name.as_bytes())),
            (ir::Variable::Tx, _) => VarTarget::Tx(key),
            (collection, _) => VarTarget::Persistent(collection, key),
        };
        let change = match &set.change {
            ir::Change::Set(text) => SetVarChange::Set(names.text(text)),
            ir::Change::Add(text) => SetVarChange::Add(names.text(text)),
            ir::Change::Subtract(text) => SetVarChange::Subtract(names.text(text)),
            ir::Change::Unset => SetVarChange::Unset,
        };
        Self::SetVar(target, change)
    }

    /// Compiles `ctl`; `select` gives a bit for each rule that a selector means.
    pub(crate) fn ctl(
        ctl: &ir::Ctl,
        names: &mut Names,
        select: impl Fn(&ir::RuleSelector) -> Result<Vec<u64>, PatternError>,
    ) -> Result<Self, PatternError> {
        use ir::Ctl as C;
        Ok(Self::Ctl(match ctl {
            C::RuleEngine(engine) => CtlEffect::RuleEngine(*engine),
            C::RequestBodyAccess(on) => CtlEffect::RequestBodyAccess(*on),
            C::ResponseBodyAccess(on) => CtlEffect::ResponseBodyAccess(*on),
            C::ForceRequestBodyVariable(on) => CtlEffect::ForceRequestBodyVariable(*on),
            C::RequestBodyProcessor(processor) => CtlEffect::RequestBodyProcessor(*processor),
            C::ParseXmlIntoArgs(on) => CtlEffect::ParseXmlIntoArgs(*on),
            C::AuditEngine(engine) => CtlEffect::AuditEngine(*engine),
            C::AuditLogParts(change) => CtlEffect::AuditParts(*change),
            C::RuleRemove(selector) => CtlEffect::RuleRemove(select(selector)?),
            C::RuleRemoveTarget(selector, target) => {
                CtlEffect::RuleRemoveTarget(select(selector)?, Spec::compile(target, names)?)
            }
        }))
    }
}
