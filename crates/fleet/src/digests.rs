//! Whether others hold what this node said: it tells with its heartbeat how much that is and what it comes to, and they compare.
//!
//! A digest is of a part that a stream can be read by, all records of a node of one kind, so that whoever lacks some reads that part
//! again and nothing else. It leaves out what was said a moment ago, which may be on its way, and what ends soon, which may be over by
//! another clock; what was superseded, withdrawn or has expired is in no digest, because it is in no registers.
//!
//! INVARIANT: a digest moves nothing. What is read again is checked and merged as ever, so nothing can rise by it.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher as _;
use std::sync::Arc;

use phalanx_model::{Author, DecisionId};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::hybrid_clock::version_at;
use crate::shared::Shared;
use crate::subject;

/// What a node says of its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digests {
    /// Records with a version up to this one.
    pub(crate) up_to_version: u64,
    /// Records that are kept for longer than until then, in Unix milliseconds.
    pub(crate) after_ms: u64,
    /// By kind, as in subjects.
    pub(crate) parts: BTreeMap<String, Digest>,
}

/// Some records, in no order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    count: u32,
    sum: u64,
}

impl Digest {
    /// Adds a record. Which id and version it has is all that tells records of one author apart.
    pub(crate) fn add(&mut self, id: DecisionId, version: u64) {
        let mut hasher = SipHasher13::new();
        hasher.write(&id.to_bits().to_le_bytes());
        hasher.write(&version.to_le_bytes());
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.wrapping_add(hasher.finish());
    }
}

/// Parts that were not the same when last compared, and how often in succession.
#[derive(Debug, Default)]
pub(crate) struct Differences(HashMap<Author, BTreeMap<String, u32>>);

impl Differences {
    /// Takes note of what differs now. Returns the parts to read again: what differs twice in succession, and then ever more
    /// rarely, should it be something that reading does not mend.
    fn note(&mut self, author: &Author, differ: Vec<String>) -> Vec<String> {
        let before = self.0.remove(author).unwrap_or_default();
        let rounds = |kind: &String| before.get(kind).map_or(1, |rounds| rounds.saturating_add(1));
        let now: BTreeMap<String, u32> =
            differ.into_iter().map(|kind| (kind.clone(), rounds(&kind))).collect();
        let due = now.iter().filter(|(_, rounds)| **rounds > 1 && rounds.is_power_of_two());
        let due = due.map(|(kind, _)| kind.clone()).collect();
        if !now.is_empty() {
            self.0.insert(author.clone(), now);
        }
        due
    }

    /// Nodes of which something was read again and still is not the same: their streams may lack it.
    pub(crate) fn lasting(&self) -> Vec<String> {
        let lasting = self.0.iter().filter(|(_, parts)| parts.values().any(|rounds| *rounds > 2));
        lasting.map(|(author, _)| format!("{}/{}", author.site, author.node)).collect()
    }
}

impl Shared {
    /// The digests of what this node said. None while it reads its records.
    pub(crate) fn own_digests(&self, now_ms: u64) -> Option<Digests> {
        let core = self.core.lock();
        if core.reading || core.restoring {
            return None;
        }
        let up_to_version = version_at(now_ms.saturating_sub(ON_ITS_WAY_MS));
        let after_ms = now_ms.saturating_add(SOON_OVER_MS);
        let parts = core.registers.digests(&self.me.site, &self.me.node, up_to_version, after_ms);
        let parts = parts.into_iter().map(|(kind, digest)| (kind.to_owned(), digest)).collect();
        Some(Digests { up_to_version, after_ms, parts })
    }

    /// Compares what a node says of its records with what is held of it here, and has what differs read again.
    pub(crate) fn compare_digests(self: &Arc<Self>, author: &Author, theirs: &Digests) {
        let core = self.core.lock();
        if core.reading || core.restoring {
            return;
        }
        let held = core.registers.digests(&author.site, &author.node, theirs.up_to_version, theirs.after_ms);
        drop(core);
        let differ = subject::KINDS.into_iter().filter(|kind| {
            held.get(kind).copied().unwrap_or_default()
                != theirs.parts.get(*kind).copied().unwrap_or_default()
        });
        let differ = differ.map(str::to_owned).collect();
        let due = self.differences.lock().note(author, differ);
        for kind in due {
            tracing::info!(site = %author.site, node = %author.node, kind, "records of a node differ, reading them again");
            self.engine.reread(&format!("{}.{kind}", subject::own(subject::DECISIONS, author)));
        }
    }
}

/// What was said less long ago may not be everywhere.
const ON_ITS_WAY_MS: u64 = 5_000;
/// What ends sooner may be over by another clock; records from clocks further ahead than a minute are refused.
const SOON_OVER_MS: u64 = 90_000;

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_model::AuthorRole;

    #[test]
    fn a_digest_depends_on_what_is_in_it_and_not_on_the_order() {
        let id = |n| DecisionId::from_parts(n, 1, n);
        let of = |all: &[(u64, u64)]| {
            let mut digest = Digest::default();
            all.iter().for_each(|(n, version)| digest.add(id(*n), *version));
            digest
        };
        assert_eq!(of(&[(1, 1), (2, 1), (3, 2)]), of(&[(3, 2), (1, 1), (2, 1)]));
        assert_ne!(of(&[(1, 1), (2, 1)]), of(&[(1, 1), (2, 2)]));
        assert_ne!(of(&[(1, 1), (2, 1)]), of(&[(1, 1)]));
        // Spelled out, because nodes of other versions compare with it.
        assert_eq!(of(&[(1, 1)]), Digest { count: 1, sum: 8_351_132_568_491_079_204 });
    }

    #[test]
    fn what_differs_in_passing_is_let_be_and_what_lasts_is_read_ever_more_rarely() {
        let author = Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Node };
        let mut differences = Differences::default();
        let mut note =
            |kinds: &[&str]| differences.note(&author, kinds.iter().map(|kind| (*kind).into()).collect());
        assert_eq!(note(&["ban"]), Vec::<String>::new());
        assert_eq!(note(&["throttle"]), Vec::<String>::new());
        assert_eq!(note(&["throttle", "ban"]), ["throttle"]);
        let read: Vec<usize> = (0..14).map(|_| note(&["throttle"]).len()).collect();
        assert_eq!(read, [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(differences.lasting(), ["fra/a"]);
        differences.note(&author, vec![]);
        assert!(differences.0.is_empty() && differences.lasting().is_empty());
    }
}
