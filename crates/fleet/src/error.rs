//! Why a fleet operation failed.

use phalanx_model::lanes::LedgerFull;
use phalanx_model::{Author, DecisionId};
use phalanx_trust::{Refusal, TrustError};

/// A failed fleet operation.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The operator's fault: a setting cannot be used.
    #[error("{setting}: {cause}; {fix}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What is wrong.
        cause: String,
        /// What to do.
        fix: String,
    },
    /// Keys or files of this node cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The state file cannot be used.
    #[error("{path}: {cause}; {fix}")]
    State {
        /// The file.
        path: String,
        /// What is wrong.
        cause: String,
        /// What to do.
        fix: &'static str,
    },
    /// The author may not say that.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// This node may not act for operators.
    #[error("this node has no operator key: start it with the control role")]
    NotOperator,
    /// No live decision has this id.
    #[error("no live decision {0}")]
    NoSuchDecision(DecisionId),
    /// Nobody of this name is known here.
    #[error(
        "no node {}/{} is known here and nothing of it is in force; `phalanx status` lists the nodes",
        .0.site, .0.node
    )]
    NoSuchAuthor(Author),
    /// No blocklist of this name is in force.
    #[error("no blocklist {0:?} is in force; `phalanx blocklist list` shows those that are")]
    NoSuchBlocklist(String),
    /// What was asked for cannot be done here. Cause and fix.
    #[error("{0}")]
    Impossible(&'static str),
    /// Somebody else was first.
    #[error("{0}")]
    Conflict(String),
    /// This can be done in one site only.
    #[error(
        "this is decided in site {0}: do it at a node of site {0}, or, if that site is lost for good, move the home of policy first"
    )]
    Elsewhere(String),
    /// A snapshot cannot be restored.
    #[error("the snapshot cannot be restored: {0}")]
    Snapshot(String),
    /// The ledger has no room, so the action is refused.
    #[error(transparent)]
    Ledger(#[from] LedgerFull),
    /// The engine is not reachable, and this operation needs it.
    #[error("the fleet's engine is not reachable: {0}")]
    Unreachable(String),
    /// A blob or queue is at its limit.
    #[error("over the limit: {0}")]
    Limit(&'static str),
    /// The fleet was shut down.
    #[error("the fleet is shut down")]
    Closed,
}

impl FleetError {
    pub(crate) fn setting(setting: &'static str, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Setting { setting, cause: cause.into(), fix: fix.into() }
    }
}
