//! An operator's order that a node no longer belongs to the fleet.

use std::sync::Arc;

use phalanx_model::AuthorRole;
use phalanx_model::limits::{REASON_BYTES_MAX, RECORD_FUTURE_MAX_MS};
use serde::{Deserialize, Serialize};

use crate::certificate::CertifiedBy;
use crate::{Refusal, SignedRecord, VerifyingKey, valid_name};

/// A revocation. It ends every certificate of the name that was made up to a time; a node that is enrolled afresh under the
/// name afterwards, with new keys, is another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The site of the node.
    pub site: Arc<str>,
    /// Its name.
    pub node: Arc<str>,
    /// Certificates made up to this Unix millisecond do not count; 0 if the node itself goes on.
    pub up_to_ms: u64,
    /// Nothing counts that it signed as its site's delegate with a delegation of up to this Unix millisecond, whenever it did. A node that is
    /// revoked itself is no delegate either.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub delegation_up_to_ms: u64,
    /// The key it had, as far as the operator's node knew: no certificate for it counts again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_key: Option<VerifyingKey>,
    /// Whether the node had the control role at some time, as far as the operator's node knew, or may have had it: it knew operators'
    /// accounts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control: bool,
    /// Whether the decisions that the node wrote end too.
    pub withdraw: bool,
    /// Why.
    pub reason: String,
}

impl Revocation {
    /// Reads the revocation in a record whose signature has been checked.
    pub fn of(record: &SignedRecord, now_ms: u64) -> Result<Self, Refusal> {
        if record.author.role != AuthorRole::Operator {
            return Err(Refusal::NotAllowed("only operators revoke"));
        }
        let revocation: Self =
            serde_json::from_slice(&record.body).map_err(|error| Refusal::Unreadable(error.to_string()))?;
        if !valid_name(&revocation.site)
            || !valid_name(&revocation.node)
            || revocation.reason.len() > REASON_BYTES_MAX
        {
            return Err(Refusal::Unreadable("a name or the reason is too long".into()));
        }
        if revocation.delegated_up_to_ms() > now_ms.saturating_add(RECORD_FUTURE_MAX_MS) {
            return Err(Refusal::FromTheFuture);
        }
        Ok(revocation)
    }

    /// Up to when what the authority delegated to the node does not count, in Unix milliseconds.
    pub fn delegated_up_to_ms(&self) -> u64 {
        self.delegation_up_to_ms.max(self.up_to_ms)
    }

    /// Whether it ends a certificate of this node's site that a delegate made.
    pub fn ends_delegation(&self, site: &str, by: &CertifiedBy) -> bool {
        *self.site == *site && self.node == by.node && by.delegated_at_ms <= self.delegated_up_to_ms()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
