//! Keys of session tickets that the nodes of a site share: a TLS session that began at one of them goes on at another.
//!
//! A ticket is `key's name 16 | salt 32 | ciphertext | tag 16`. Its own AES-256-GCM key comes from the site's key, the salt and what
//! the listener asks of clients, so that no number of nodes and tickets uses a key twice, and a session of a listener that asks for no
//! certificate is none at one that does.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use phalanx_model::Swap;
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use crate::random_bytes;

/// The keys that open tickets, the newest first, which also makes them. Its `Debug` shows no key.
#[derive(Clone)]
pub struct TicketKeys(Vec<TicketKey>);

#[derive(Clone)]
struct TicketKey {
    name: [u8; NAME_BYTES],
    made_at_ms: u64,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

impl TicketKeys {
    /// One new key.
    pub fn fresh(now_ms: u64) -> Self {
        Self(vec![TicketKey::fresh(now_ms)])
    }

    /// The keys that are in force a moment later: without those whose time is over, or that a node had that was revoked up to
    /// `revoked_up_to_ms`. Without any left, none.
    #[must_use]
    pub fn in_force(&self, now_ms: u64, revoked_up_to_ms: u64) -> Self {
        let counts = |key: &&TicketKey| {
            key.made_at_ms > revoked_up_to_ms && now_ms < key.made_at_ms.saturating_add(KEY_MS)
        };
        Self(self.0.iter().filter(counts).cloned().collect())
    }

    /// The keys in force with a new one before them, if it is time for that.
    pub fn rotated(&self, now_ms: u64, revoked_up_to_ms: u64) -> Option<Self> {
        let Self(mut keys) = self.in_force(now_ms, revoked_up_to_ms);
        if keys.first().is_some_and(|newest| now_ms < newest.made_at_ms.saturating_add(ROTATED_AFTER_MS)) {
            return None;
        }
        // By a clock that is behind the one who revoked, it must not look older than the revocation.
        keys.insert(0, TicketKey::fresh(now_ms.max(revoked_up_to_ms.saturating_add(1))));
        keys.truncate(KEYS_MAX);
        Some(Self(keys))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys for another purpose, one of each, the newest first; see [`PassKeys`](crate::PassKeys).
    pub(crate) fn pass_keys(&self) -> impl Iterator<Item = hmac::Key> {
        self.0.iter().map(|key| {
            let secret = hmac::Key::new(hmac::HMAC_SHA256, key.secret.as_slice());
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, PASSES).as_ref())
        })
    }

    /// Whether the newest key is the same.
    pub fn begins_as(&self, other: &Self) -> bool {
        self.0.first().map(|key| key.name) == other.0.first().map(|key| key.name)
    }

    /// The form in which they are shared, sealed.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.0.len() * KEY_BYTES));
        for key in &self.0 {
            bytes.extend_from_slice(&key.name);
            bytes.extend_from_slice(&key.made_at_ms.to_be_bytes());
            bytes.extend_from_slice(key.secret.as_slice());
        }
        bytes
    }

    /// Reads them.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (keys, rest) = bytes.as_chunks::<KEY_BYTES>();
        if !rest.is_empty() || keys.len() > KEYS_MAX {
            return None;
        }
        let key = |bytes: &[u8; KEY_BYTES]| {
            let (name, rest) = bytes.split_first_chunk::<NAME_BYTES>()?;
            let (made_at, secret) = rest.split_first_chunk::<8>()?;
            let secret = Zeroizing::new(<[u8; SECRET_BYTES]>::try_from(secret).ok()?);
            Some(TicketKey { name: *name, made_at_ms: u64::from_be_bytes(*made_at), secret })
        };
        keys.iter().map(key).collect::<Option<Vec<_>>>().map(Self)
    }
}

impl TicketKey {
    fn fresh(now_ms: u64) -> Self {
        Self { name: random_bytes(), made_at_ms: now_ms, secret: Zeroizing::new(random_bytes()) }
    }

    /// The key of one ticket.
    fn of_ticket(&self, asks: &[u8; 32], salt: &[u8]) -> Option<LessSafeKey> {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_slice()));
        for part in [CONTEXT, asks, salt] {
            context.update(part);
        }
        UnboundKey::new(&AES_256_GCM, context.sign().as_ref()).ok().map(LessSafeKey::new)
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").field("keys", &self.0.len()).finish_non_exhaustive()
    }
}

/// Makes and opens the tickets of one listener, with the keys in force.
#[derive(Debug)]
pub struct Ticketer {
    keys: Arc<Swap<TicketKeys>>,
    asks: [u8; 32],
}

impl Ticketer {
    /// `asks`: what the listener demands of clients. Listeners that demand the same resume each other's sessions, on all nodes that
    /// have the keys.
    pub fn new(keys: Arc<Swap<TicketKeys>>, asks: &[u8]) -> Self {
        Self { keys, asks: crate::sha256(asks) }
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.load();
        let TicketKeys(keys) = &**keys;
        let key = keys.first()?;
        let salt: [u8; SALT_BYTES] = random_bytes();
        let mut ticket = Vec::with_capacity(HEADER_BYTES + plain.len() + TAG_BYTES);
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&salt);
        ticket.extend_from_slice(plain);
        let (_, body) = ticket.split_at_mut_checked(HEADER_BYTES)?;
        // The key is this ticket's alone, so the nonce may always be the same.
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let sealed = key.of_ticket(&self.asks, &salt)?;
        let tag = sealed.seal_in_place_separate_tag(nonce, Aad::from(key.name), body).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (salt, sealed) = rest.split_first_chunk::<SALT_BYTES>()?;
        let keys = self.keys.load();
        let key = keys.0.iter().find(|key| key.name == *name)?;
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let opened = key.of_ticket(&self.asks, salt)?;
        let length = opened.open_in_place(nonce, Aad::from(key.name), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

const CONTEXT: &[u8] = b"phalanx session ticket 1\0";
/// Nothing that a ticket's key is made with begins like this.
const PASSES: &[u8] = b"phalanx passes 1\0";
const NAME_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
const KEY_BYTES: usize = NAME_BYTES + 8 + SECRET_BYTES;
const SALT_BYTES: usize = 32;
const HEADER_BYTES: usize = NAME_BYTES + SALT_BYTES;
const TAG_BYTES: usize = 16;
/// Far above what a session with a client's chain takes.
const TICKET_BYTES_MAX: usize = 32 * 1024;
/// How long a key makes tickets.
pub const ROTATED_AFTER_MS: u64 = 12 * 60 * 60_000;
/// How long it opens them: a day after it made the last.
const KEY_MS: u64 = ROTATED_AFTER_MS + 24 * 60 * 60_000;
/// How long a client may come back with a ticket, in seconds.
const LIFETIME_S: u32 = 24 * 60 * 60;
/// One that makes tickets, those of a day before, and what a few revocations leave over.
const KEYS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticketer(keys: &TicketKeys, asks: &[u8]) -> Ticketer {
        Ticketer::new(Arc::new(Swap::new(keys.clone())), asks)
    }

    proptest! {
        #[test]
        fn a_ticket_opens_at_every_node_that_has_the_keys_and_asks_the_same(plain: Vec<u8>) {
            let keys = TicketKeys::fresh(1);
            let shared = TicketKeys::from_bytes(&keys.to_bytes()).unwrap();
            let ticket = ticketer(&keys, b"nothing").encrypt(&plain).unwrap();
            prop_assert_eq!(ticketer(&shared, b"nothing").decrypt(&ticket), Some(plain));
            prop_assert_eq!(ticketer(&shared, b"a certificate").decrypt(&ticket), None);
            prop_assert_eq!(ticketer(&TicketKeys::fresh(1), b"nothing").decrypt(&ticket), None);
        }

        #[test]
        fn an_altered_ticket_opens_nowhere(plain: Vec<u8>, at: usize, flip in 1u8..) {
            let ticketer = ticketer(&TicketKeys::fresh(1), b"");
            let mut ticket = ticketer.encrypt(&plain).unwrap();
            let at = at % ticket.len();
            ticket[at] ^= flip;
            prop_assert_eq!(ticketer.decrypt(&ticket), None);
        }

        #[test]
        fn any_bytes_are_no_ticket_and_keys_or_none(bytes: Vec<u8>) {
            prop_assert_eq!(ticketer(&TicketKeys::fresh(1), b"").decrypt(&bytes), None);
            let _ = TicketKeys::from_bytes(&bytes);
        }
    }

    #[test]
    fn keys_rotate_and_open_tickets_for_a_day_longer() {
        const START: u64 = 1_800_000_000_000;
        let first = TicketKeys::fresh(START);
        let ticket = ticketer(&first, b"").encrypt(b"session").unwrap();
        assert!(first.rotated(START + ROTATED_AFTER_MS - 1, 0).is_none());
        let mut keys = first.rotated(START + ROTATED_AFTER_MS, 0).unwrap();
        assert!(!keys.begins_as(&first));
        assert_eq!(ticketer(&keys, b"").decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        for turn in 2..20 {
            keys = keys.rotated(START + turn * ROTATED_AFTER_MS, 0).unwrap();
        }
        assert!(keys.0.len() <= 3);
        assert_eq!(ticketer(&keys, b"").decrypt(&ticket), None);
    }

    #[test]
    fn a_revocation_ends_the_keys_that_the_revoked_node_had() {
        let keys = TicketKeys::fresh(1_000);
        let ticket = ticketer(&keys, b"").encrypt(b"session").unwrap();
        assert!(keys.in_force(1_001, 1_000).is_empty());
        let next = keys.rotated(990, 1_000).unwrap();
        assert_eq!(ticketer(&next, b"").decrypt(&ticket), None);
        assert!(!next.in_force(1_002, 1_000).is_empty(), "a clock that is behind makes keys that count");
        assert!(next.rotated(1_002, 1_000).is_none());
        let text = format!("{next:?}");
        assert_eq!(text, "TicketKeys { keys: 1, .. }");
    }
}
