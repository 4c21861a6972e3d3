//! What does not count because a control node was revoked: what it knew, and what this node has by its word.
//!
//! Nothing is done once and then over. Which revocations are in force the fleet tells, at the start and with each that it hears; what
//! follows is computed from these and from what stands in each account, so that it cannot be missed and may be repeated.
//!
//! INVARIANT: no clock and no word of the revoked node decides. A password counts if who set it knew of all revocations; what was told
//! is noted by each receiver with who told it, its tellers, so that a thief is among those of all that came from it, by whatever way.

use std::collections::{BTreeMap, BTreeSet};

use super::account::{Account, HEEDED_MAX, hex, short};
use crate::sha256;

/// A control node that was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedNode {
    /// It, as `SITE/NODE`.
    pub node: String,
    /// Up to when what it is does not count, in Unix milliseconds: tells this revocation from others of the name.
    pub up_to_ms: u64,
    /// The operator keys of nodes that were enrolled afresh under the name since.
    pub successors: Vec<String>,
    /// It had the control role, as far as this node knows. Others may know otherwise, so that every revocation is known to who sets a
    /// password.
    pub control: bool,
    /// It is still known to who sets a password, and no more asked for: other nodes may have forgotten it already.
    pub lapsing: bool,
}

/// The revocations in force.
#[derive(Debug, Default)]
pub(super) struct Distrust {
    nodes: Vec<(String, BTreeSet<String>)>,
    known: BTreeSet<String>,
    needed: BTreeSet<String>,
}

/// By whose word this node has the parts of an account; its own are not in it. Each place with its key, in short.
pub(super) type Via = BTreeMap<String, BTreeSet<String>>;

/// What was taken from an account.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) password: bool,
    /// Passkeys, tokens, or what he may do.
    pub(super) other: bool,
}

impl Distrust {
    pub(super) fn of(revoked: &[RevokedNode]) -> Self {
        // The newest, and the same at all nodes: a password that named more would be none, and one that named others would be void.
        let mut revoked: Vec<&RevokedNode> = revoked.iter().collect();
        revoked.sort_by(|a, b| (b.up_to_ms, &b.node).cmp(&(a.up_to_ms, &a.node)));
        let newest = || revoked.iter().take(HEEDED_MAX);
        let id = |one: &&RevokedNode| brief(&format!("{} {}", one.node, one.up_to_ms));
        let successors = |one: &&RevokedNode| one.successors.iter().map(|key| brief(key)).collect();
        Self {
            nodes: revoked.iter().map(|one| (brief(&one.node), successors(one))).collect(),
            known: newest().map(id).collect(),
            needed: newest().filter(|one| one.control && !one.lapsing).map(id).collect(),
        }
    }

    /// What a password that is set now was set in knowledge of. Nobody could have foretold it.
    pub(super) fn known(&self) -> BTreeSet<String> {
        self.known.clone()
    }

    fn is_known_by(&self, heeds: &BTreeSet<String>) -> bool {
        self.needed.is_subset(heeds)
    }

    /// Whether something came by a revoked node. What came by more than nodes can be on the way was made up.
    fn is_on(&self, via: Option<&BTreeSet<String>>) -> bool {
        let is_revoked = |teller: &String| {
            self.nodes.iter().any(|(place, successors)| {
                teller.strip_prefix(place.as_str()).is_some_and(|key| !successors.contains(key))
            })
        };
        via.is_some_and(|via| via.len() > VIA_MAX || via.iter().any(is_revoked))
    }
}

impl Account {
    /// The account, noted as heard from a control node that signed with this key.
    #[must_use]
    pub fn told_by(mut self, node: &str, key: &str) -> Self {
        let teller = format!("{}{}", brief(node), brief(key));
        let told = std::mem::take(&mut self.via);
        let noted = |part: String| {
            let mut via = told.get(&part).cloned().unwrap_or_default();
            // So many are enough to tell that they were made up.
            while via.len() > VIA_MAX + 1 {
                via.pop_last();
            }
            via.insert(teller.clone());
            (part, via)
        };
        self.via = self.parts().into_iter().map(noted).collect();
        // What only a node itself knows is nothing that another can say.
        (self.doubts, self.doubtful) = (0, false);
        self
    }

    /// Takes away what does not count. What it is taken for may come again by another way.
    pub(super) fn distrust(&mut self, distrust: &Distrust) -> Taken {
        let on = |part: &str| distrust.is_on(self.via.get(part));
        let mut taken = Taken::default();
        let (role_lost, apps_lost) = (!self.role_lost && on(ROLE), !self.apps_lost && on(APPS));
        let password = self.credentials.password.1.as_ref();
        taken.password =
            password.is_some_and(|password| !distrust.is_known_by(&password.heeds)) || on(PASSWORD);
        let passkeys: Vec<String> =
            self.credentials.passkeys.keys().filter(|id| on(&passkey_part(id))).cloned().collect();
        let tokens: Vec<String> =
            self.credentials.tokens.keys().filter(|hash| on(&token_part(hash))).cloned().collect();
        taken.other = role_lost || apps_lost || !passkeys.is_empty() || !tokens.is_empty();
        self.doubtful |= on(BORN);
        (self.role_lost, self.apps_lost) = (self.role_lost || role_lost, self.apps_lost || apps_lost);
        if taken.password {
            // For all nodes: the one that was told it and those that were not are to have the same.
            self.credentials.password.1 = None;
        }
        self.credentials.passkeys.retain(|id, _| !passkeys.contains(id));
        self.credentials.tokens.retain(|hash, _| !tokens.contains(hash));
        self.forget_ways();
        self.doubts = self.doubts.saturating_add(u64::from(taken.other));
        taken
    }

    /// Keeps its owner out if a revoked node let him in; whether it did. For all nodes, and the same at each that does it, so that
    /// whoever lets him in answers all.
    pub(super) fn keep_out(&mut self, distrust: &Distrust) -> bool {
        let let_in = self.shut.answered().any(|(place, _)| distrust.is_on(self.via.get(&shut_part(place))));
        if let_in {
            self.shut.shut("");
            self.via.retain(|part, _| !part.starts_with(SHUT));
        }
        let_in
    }

    /// Whether it is the end of an account that is only known by a revoked node: there may never have been one. Somebody of a provider
    /// would then get in again.
    pub(super) fn is_hearsay(&self, distrust: &Distrust) -> bool {
        self.removed && !self.is_provided() && distrust.is_on(self.via.get(BORN))
    }

    /// That there is such an account counts by another's word, where that came by a part of the way, or not by a revoked node.
    pub(super) fn vouch(&mut self, other: &Self, distrust: &Distrust) {
        let (own, theirs) = (self.via.get(BORN), other.via.get(BORN));
        let nearer =
            own.zip(theirs).is_some_and(|(own, theirs)| theirs.len() < own.len() && theirs.is_subset(own));
        let surer = (self.doubtful || distrust.is_on(own)) && !distrust.is_on(theirs);
        if nearer || surer {
            self.came(BORN, other);
            self.doubtful &= !surer;
        }
    }

    /// Keeps the ways of what is there.
    pub(super) fn forget_ways(&mut self) {
        let parts = self.parts();
        self.via.retain(|part, _| parts.contains(part));
    }

    /// What may have come by another way each.
    fn parts(&self) -> BTreeSet<String> {
        if self.removed {
            return BTreeSet::from([BORN.to_owned()]);
        }
        let credentials = &self.credentials;
        let mut parts = BTreeSet::from([BORN, ROLE, APPS].map(str::to_owned));
        parts.extend(self.shut.answered().map(|(place, _)| shut_part(place)));
        parts.extend(credentials.password.1.as_ref().map(|_| PASSWORD.to_owned()));
        parts.extend(credentials.passkeys.keys().map(|id| passkey_part(id)));
        parts.extend(credentials.tokens.keys().map(|hash| token_part(hash)));
        parts
    }

    /// Notes that a part came as it did to another, when it was taken from there.
    pub(super) fn came(&mut self, part: &str, other: &Self) {
        match other.via.get(part) {
            Some(via) => drop(self.via.insert(part.to_owned(), via.clone())),
            None => drop(self.via.remove(part)),
        }
    }
}

pub(super) fn passkey_part(id: &str) -> String {
    format!("passkey {}", short(id))
}

pub(super) fn token_part(hash: &str) -> String {
    format!("token {}", hash.get(..32).unwrap_or(hash))
}

/// A place whose keeping out was answered.
pub(super) fn shut_part(place: &str) -> String {
    format!("{SHUT}{place}")
}

/// A name of a node or key, in short.
pub(super) fn brief(name: &str) -> String {
    let digest = sha256(name.as_bytes());
    hex(digest.first_chunk::<8>().map_or(&[], |short| short.as_slice()))
}

pub(super) const SHUT: &str = "shut ";
pub(super) const ROLE: &str = "role";
pub(super) const APPS: &str = "apps";
pub(super) const PASSWORD: &str = "password";
pub(super) const BORN: &str = "born";
/// Control nodes tell each other directly; more are between only where each was gone before the next came.
pub(super) const VIA_MAX: usize = 16;
