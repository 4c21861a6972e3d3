//! Names of people become hashes before they are kept anywhere.

use siphasher::sip::SipHasher13;

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
