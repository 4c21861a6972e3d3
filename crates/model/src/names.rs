//! Names of people become hashes before they are kept anywhere.

use siphasher::sip::SipHasher13;

use crate::Ja4;
use crate::shape::mix;

/// Makes hashes of names, with a key that only the nodes of a fleet have: who holds hashes cannot try names.
#[derive(Clone)]
pub struct NameKey(SipHasher13);

impl NameKey {
    /// With the fleet's key.
    pub fn new(key: [u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(&key))
    }

    /// The hash of a name of some kind (`account`, `session`).
    pub fn hash(&self, kind: &str, name: &[u8]) -> u64 {
        use std::hash::Hasher as _;
        let mut hasher = self.0;
        hasher.write(kind.as_bytes());
        hasher.write_u8(0xff);
        hasher.write(name);
        hasher.finish()
    }

    /// The kind of software that a client is, by how it greets and by how it writes HTTP; `None` if neither is known. The same on all
    /// nodes of a fleet.
    pub fn software(&self, ja4: Option<&Ja4>, print: Option<&str>) -> Option<u64> {
        let ja4 = ja4.map(|ja4| ja4.as_bytes().iter().fold(0, |all, byte| mix(all ^ u64::from(*byte))));
        let print = print.map(|print| self.hash("print", print.as_bytes()));
        ja4.or(print).map(|_| mix(ja4.unwrap_or(0) ^ print.unwrap_or(0).rotate_left(1)))
    }

    /// The tag of a password or card: so short that many have the same.
    pub fn tag(&self, secret: &[u8]) -> u16 {
        u16::try_from(self.hash("secret", secret) & 0xffff).unwrap_or_default()
    }

    /// The hash of an account's name, however it is written.
    pub fn account(&self, name: &str) -> u64 {
        self.hash("account", name.trim().to_lowercase().as_bytes())
    }
}

impl std::fmt::Debug for NameKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NameKey")
    }
}

/// What decisions call an app. Without a key: an operator writes the name, and every node knows it.
pub fn app(app: &str) -> u64 {
    NameKey::new([0; 16]).hash("app", app.as_bytes())
}

/// What decisions call a route of an app; the empty name is of what meets no route.
pub fn route(app_name: &str, route: &str) -> u64 {
    mix(app(app_name) ^ NameKey::new([0; 16]).hash("route", route.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_known_by_key_and_name() {
        let (one, other) = (NameKey::new([1; 16]), NameKey::new([2; 16]));
        assert_eq!(one.account(" Ann@Example.org"), one.account("ann@example.org"));
        assert_ne!(one.account("ann"), other.account("ann"));
        assert_ne!(one.account("ann"), one.hash("session", b"ann"));
    }

    #[test]
    fn a_key_does_not_show_itself() {
        assert_eq!(format!("{:?}", NameKey::new([1; 16])), "NameKey");
    }
}
