//! What a record of the decisions topic says: an order, or the end of orders.

use std::sync::Arc;

use phalanx_model::limits::{BAN_AUTOMATIC_MAX_MS, DECISION_MAX_MS, RECORD_FUTURE_MAX_MS};
use phalanx_model::{Actor, ActorKey, Author, AuthorRole, Blocklist, Decision, Recall, Withdrawal};
use phalanx_trust::{Refusal, authority};
use serde::{Deserialize, Serialize};

use crate::hybrid_clock::version_ms;
use crate::subject;

/// A decision, or what ends some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change", content = "of")]
pub enum Change {
    /// A standing order was made.
    Decided(Arc<Decision>),
    /// Standing orders about an actor were ended.
    Withdrawn(Arc<Withdrawal>),
    /// Standing orders of an author were ended.
    Recalled(Arc<Recall>),
    /// A blocklist has a new content, or ended.
    Listed(Arc<Blocklist>),
}

impl Change {
    /// Who wrote it.
    pub fn author(&self) -> &Author {
        match self {
            Self::Decided(decision) => &decision.author,
            Self::Withdrawn(withdrawal) => &withdrawal.author,
            Self::Recalled(recall) => &recall.author,
            Self::Listed(list) => &list.author,
        }
    }

    /// Its version; of what ends others, the highest version that it ends.
    pub fn version(&self) -> u64 {
        match self {
            Self::Decided(decision) => decision.version,
            Self::Withdrawn(withdrawal) => withdrawal.up_to_version,
            Self::Recalled(recall) => recall.up_to_version,
            Self::Listed(list) => list.version,
        }
    }

    /// When it may be forgotten, in Unix milliseconds.
    pub fn expires_at_ms(&self) -> u64 {
        match self {
            Self::Decided(decision) => decision.expires_at_ms,
            Self::Withdrawn(withdrawal) => withdrawal.expires_at_ms,
            Self::Recalled(recall) => recall.expires_at_ms,
            Self::Listed(list) => list.expires_at_ms,
        }
    }

    /// Whom it is about, if it is about an actor.
    pub fn actor(&self) -> Option<&Actor> {
        match self {
            Self::Decided(decision) => Some(&decision.actor),
            Self::Withdrawn(withdrawal) => Some(&withdrawal.actor),
            Self::Recalled(_) | Self::Listed(_) => None,
        }
    }

    /// The key of whom it is about.
    pub fn key(&self) -> Option<ActorKey> {
        self.actor().map(Actor::key)
    }

    /// The one subject under which it may be kept and sent.
    pub fn subject(&self) -> String {
        subject::of_change(self)
    }

    /// Whether this node may say this at `now_ms` in its own name. Its version may be ahead of the clock, which was set back or is
    /// behind a peer's: neither may stop a node from deciding, however short the decision.
    pub(crate) fn check_own(&self, now_ms: u64) -> Result<(), Refusal> {
        match self {
            Self::Decided(decision) => authority::may_decide(decision, now_ms),
            Self::Withdrawn(_) | Self::Recalled(_) | Self::Listed(_) => {
                self.check(now_ms.max(version_ms(self.version())))
            }
        }
    }

    /// Whether its author may say this at `now_ms`.
    pub fn check(&self, now_ms: u64) -> Result<(), Refusal> {
        if version_ms(self.version()) > now_ms.saturating_add(RECORD_FUTURE_MAX_MS) {
            return Err(Refusal::FromTheFuture);
        }
        match self {
            Self::Decided(decision) => {
                // A version older than its decision would slip below withdrawals' promise to outlive all they end.
                if version_ms(decision.version) < decision.created_at_ms {
                    return Err(Refusal::NotAllowed("the version is older than the decision"));
                }
                authority::may_decide(decision, now_ms)
            }
            Self::Withdrawn(withdrawal) => {
                // Forgotten too soon, it would let what it ended rise again from somebody's old copy.
                if withdrawal.expires_at_ms
                    < tombstone_end_ms(withdrawal.author.role, withdrawal.up_to_version)
                {
                    return Err(Refusal::NotAllowed("it would be forgotten before what it ends"));
                }
                authority::may_withdraw(withdrawal, version_ms(withdrawal.up_to_version), now_ms)
            }
            Self::Recalled(recall) => {
                if recall.expires_at_ms < tombstone_end_ms(recall.target.role, recall.up_to_version) {
                    return Err(Refusal::NotAllowed("it would be forgotten before what it ends"));
                }
                authority::may_recall(recall, version_ms(recall.up_to_version), now_ms)
            }
            Self::Listed(list) => {
                if version_ms(list.version) < list.created_at_ms {
                    return Err(Refusal::NotAllowed("the version is older than the list"));
                }
                // Neither too soon, when an earlier version could come back, nor ever later than a recall of its author.
                if list.expires_at_ms != tombstone_end_ms(AuthorRole::Operator, list.version) {
                    return Err(Refusal::NotAllowed("its record is not kept for as long as lists may last"));
                }
                authority::may_list(list, now_ms)
            }
        }
    }
}

/// When what ends decisions may be forgotten: after the end of the longest decision that it can end, whether or not we know
/// it. `role`: of a withdrawal its author's, of a recall its target's.
/// (A decision's version is not older than the decision, so it ends at most this long after the withdrawn version.)
pub fn tombstone_end_ms(role: AuthorRole, up_to_version: u64) -> u64 {
    let longest_ms = match role {
        AuthorRole::Operator => DECISION_MAX_MS,
        AuthorRole::Node => BAN_AUTOMATIC_MAX_MS,
    };
    version_ms(up_to_version).saturating_add(longest_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(actor: &str) -> String {
        format!(
            r#"{{"change":"decided","of":{{"id":"00000000010001000000000001","actor":{actor},"kind":"ban","author":
            {{"site":"fra","node":"a","role":"operator"}},"reason":"r","evidence":null,"confidence_percent":100,
            "created_at_ms":1,"expires_at_ms":2,"version":1,"a field of a newer version":1}}}}"#
        )
    }

    /// Spelled out, because what is on disks and in streams was written by other versions.
    #[test]
    fn records_name_actors_as_they_always_did() {
        let cases = [
            (r#"{"kind":"ip","value":"192.0.2.1"}"#, Actor::ip([192, 0, 2, 1].into())),
            (
                r#"{"kind":"client","value":{"ip":"192.0.2.1","agent":"00000000000000ff"}}"#,
                Actor::client([192, 0, 2, 1].into(), 255),
            ),
            (r#"{"kind":"prefix","value":"192.0.2.0/24"}"#, Actor::prefix("192.0.2.0/24".parse().unwrap())),
            (r#"{"kind":"asn","value":64500}"#, Actor::Asn(64_500)),
            (r#"{"kind":"country","value":"NL"}"#, Actor::Country("NL".parse().unwrap())),
            (
                r#"{"kind":"ja4","value":"t13d1516h2_8daaf6152771_02713d6af862"}"#,
                Actor::Ja4("t13d1516h2_8daaf6152771_02713d6af862".parse().unwrap()),
            ),
            (r#"{"kind":"session","value":"00000000000000ff"}"#, Actor::Session(255)),
            (r#"{"kind":"account","value":"00000000000000ff"}"#, Actor::Account(255)),
        ];
        for (text, actor) in cases {
            let change: Change = serde_json::from_str(&record(text)).unwrap();
            assert_eq!(change.actor(), Some(&actor));
            assert_eq!(serde_json::to_string(&actor).unwrap(), text);
        }
    }

    #[test]
    fn a_record_about_what_this_version_does_not_know_is_refused_by_itself() {
        for actor in [
            r#"{"kind":"service","value":"spiffe://example.org/shop"}"#,
            r#"{"kind":"country","value":"Atlantis"}"#,
            r#"{"kind":"ja4","value":"t13d1516h2"}"#,
            r#"{"kind":"asn","value":-1}"#,
            r#"{"kind":"session","value":"not a number"}"#,
        ] {
            assert!(serde_json::from_str::<Change>(&record(actor)).is_err(), "{actor}");
        }
    }
}
