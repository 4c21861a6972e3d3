//! What is signed into challenges, and into the cookies of clients that passed one: nobody but the nodes that have the keys can make
//! either, and each of these nodes takes what another made.
//!
//! The keys are the first of these that there is: of the fleet's secret, for all its nodes; of the keys of session tickets, which the
//! nodes of a site share, rotate, and drop when a node is revoked (docs/adr/0021); the node's own.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use phalanx_model::Swap;

use crate::{TicketKeys, random_bytes};

/// The keys. Their `Debug` shows none.
#[derive(Clone)]
pub struct PassKeys(Keys);

#[derive(Clone)]
enum Keys {
    One(Arc<hmac::Key>),
    OfSite(Arc<Swap<TicketKeys>>),
}

/// What a signature is for: one for a challenge is none for a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedFor {
    /// A challenge that a client is given.
    Challenge,
    /// The cookie of a client that passed one.
    Pass,
}

impl PassKeys {
    /// One key, made of a secret.
    pub fn of_secret(secret: &[u8; 32]) -> Self {
        Self(Keys::One(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret))))
    }

    /// One key that nobody else has, and that ends with the process.
    pub fn random() -> Self {
        Self::of_secret(&random_bytes())
    }

    /// Keys made of those of session tickets, as they are at each moment.
    pub fn of_site(tickets: Arc<Swap<TicketKeys>>) -> Self {
        Self(Keys::OfSite(tickets))
    }

    /// Signs what these parts say together. `None` while a site's keys are not there.
    pub fn sign(&self, purpose: SignedFor, parts: &[&[u8]]) -> Option<[u8; PASS_TAG_BYTES]> {
        let context = match &self.0 {
            Keys::One(key) => context(key, purpose, parts),
            Keys::OfSite(tickets) => context(tickets.load().pass_keys().next().as_ref()?, purpose, parts),
        };
        context.sign().as_ref().try_into().ok()
    }

    /// Whether a node that has one of the keys signed these parts for this. Takes the same time wherever two signatures differ.
    pub fn verify(&self, purpose: SignedFor, parts: &[&[u8]], tag: &[u8]) -> bool {
        let signed = |key: &hmac::Key| {
            let context = context(key, purpose, parts);
            subtle::ConstantTimeEq::ct_eq(context.sign().as_ref(), tag).into()
        };
        match &self.0 {
            Keys::One(key) => signed(key),
            Keys::OfSite(tickets) => tickets.load().pass_keys().any(|key| signed(&key)),
        }
    }
}

impl SignedFor {
    fn text(self) -> &'static [u8] {
        match self {
            Self::Challenge => b"phalanx challenge 1\0",
            Self::Pass => b"phalanx pass 1\0",
        }
    }
}

impl fmt::Debug for PassKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassKeys").finish_non_exhaustive()
    }
}

/// Each part with its length, so that no two lists of parts are the same bytes.
fn context(key: &hmac::Key, purpose: SignedFor, parts: &[&[u8]]) -> hmac::Context {
    let mut context = hmac::Context::with_key(key);
    context.update(purpose.text());
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context
}

/// Length of a signature.
pub const PASS_TAG_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_with_the_same_keys_believe_each_other_and_nobody_else() {
        let tickets = TicketKeys::fresh(1);
        let site = |keys: &TicketKeys| PassKeys::of_site(Arc::new(Swap::new(keys.clone())));
        let rotated = tickets.rotated(crate::tickets::ROTATED_AFTER_MS + 1, 0).unwrap();
        let (a, b, later) = (site(&tickets), site(&tickets), site(&rotated));
        let parts: [&[u8]; 2] = [b"shop", b"agent"];
        let tag = a.sign(SignedFor::Pass, &parts).unwrap();
        for keys in [&a, &b, &later] {
            assert!(keys.verify(SignedFor::Pass, &parts, &tag));
        }
        for (keys, purpose, parts, tag) in [
            (&PassKeys::random(), SignedFor::Pass, parts, &tag[..]),
            (&site(&TicketKeys::fresh(1)), SignedFor::Pass, parts, &tag),
            (&a, SignedFor::Challenge, parts, &tag),
            (&a, SignedFor::Pass, [b"shopa", b"gent"], &tag),
            (&a, SignedFor::Pass, parts, &tag[..31]),
            (&a, SignedFor::Pass, parts, b""),
            (&a, SignedFor::Pass, parts, &[0; 32]),
        ] {
            assert!(!keys.verify(purpose, &parts, tag));
        }
        let of_later = later.sign(SignedFor::Pass, &parts).unwrap();
        assert!(!a.verify(SignedFor::Pass, &parts, &of_later), "not known yet");
        assert_eq!(format!("{a:?}"), "PassKeys { .. }");
    }

    #[test]
    fn without_a_key_nothing_is_signed_and_nothing_believed() {
        let none = TicketKeys::fresh(1).in_force(2, 1);
        let keys = PassKeys::of_site(Arc::new(Swap::new(none)));
        assert_eq!(keys.sign(SignedFor::Pass, &[b"a"]), None);
        assert!(!keys.verify(SignedFor::Pass, &[b"a"], &[0; 32]));
    }
}
