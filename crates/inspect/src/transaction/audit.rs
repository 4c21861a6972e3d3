//! Whether a transaction is for the audit log, and with which parts (`SecAuditEngine` and its kin).

use std::sync::Arc;

use phalanx_model::AuditParts;
use phalanx_policy::seclang::ir::{AuditEngine, AuditPartsChange, Engine, RuleEngine};

use super::Transaction;

/// What the audit log shows of a transaction that is for it.
#[derive(Debug, Clone)]
pub struct Audit {
    /// The parts to show.
    pub parts: AuditParts,
    /// What the rule engine did: `Enabled`, `DetectionOnly` or `Disabled`.
    pub engine: &'static str,
    /// `SecComponentSignature` of the rule set.
    pub components: Arc<[String]>,
}

/// What rules chose so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AuditChoice {
    pub(crate) engine: AuditEngine,
    parts: AuditParts,
    /// A rule whose matches are audited matched.
    pub(crate) matched: bool,
}

impl AuditChoice {
    /// What the rule set says.
    pub(crate) fn of(engine: &Engine) -> Self {
        Self { engine: engine.audit_engine, parts: engine.audit_parts, matched: false }
    }

    /// `ctl:auditLogParts`
    pub(crate) fn change(&mut self, change: AuditPartsChange) {
        self.parts = match change {
            AuditPartsChange::Set(parts) => parts,
            AuditPartsChange::Add(more) => self.parts.with(more),
            AuditPartsChange::Remove(less) => self.parts.without(less),
        };
    }
}

impl Transaction {
    /// What the audit log shows of this transaction, if it is for it. As in ModSecurity v3 a status is relevant by its
    /// pattern, and a transaction by a match of a rule that does not say `noauditlog`.
    pub(crate) fn audit(&self) -> Option<Audit> {
        let status = usize::from(self.scratch.state.response_status);
        let word = self.program.audit_statuses.get(status / 64).copied().unwrap_or_default();
        let relevant = self.audit.matched || word >> (status % 64) & 1 == 1;
        match self.audit.engine {
            AuditEngine::On => {}
            AuditEngine::RelevantOnly if relevant => {}
            AuditEngine::RelevantOnly | AuditEngine::Off => return None,
        }
        Some(Audit {
            parts: self.audit.parts,
            engine: match self.engine {
                RuleEngine::On => "Enabled",
                RuleEngine::DetectionOnly => "DetectionOnly",
                RuleEngine::Off => "Disabled",
            },
            components: Arc::clone(&self.program.components),
        })
    }
}
