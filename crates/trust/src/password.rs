//! Operators' passwords: argon2id (RFC 9106), kept as salt and hash.
//!
//! INVARIANT: a password opens nothing alone; `operators` asks for a one-time code with it and tells of both together.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{TrustError, random_bytes};

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash {
    salt: [u8; SALT_BYTES],
    hash: [u8; HASH_BYTES],
}

impl PasswordHash {
    /// Hashes a password. Takes [`MEMORY_KIB`] of memory and tens of milliseconds: not on a thread that serves others.
    pub fn of(password: &str) -> Result<Self, TrustError> {
        let salt = random_bytes();
        Ok(Self { salt, hash: *derive(password, &salt).ok_or(TrustError::Crypto("hashing a password"))? })
    }

    /// One that no password has, for names that nobody has: comparing with it takes as long as with any other.
    pub fn of_nobody() -> Self {
        Self { salt: random_bytes(), hash: random_bytes() }
    }

    /// Whether this is the password. As costly as [`Self::of`].
    pub fn matches(&self, password: &str) -> bool {
        derive(password, &self.salt).is_some_and(|hash| hash.ct_eq(&self.hash).into())
    }
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// Why a password is not taken; nothing if it is. Length is what counts (NIST SP 800-63B section 3.1.1.2); it must not be the name.
pub fn password_fault(password: &str, name: &str) -> Option<&'static str> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Some("a password has at least 12 characters; some words in a row are a good one");
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Some("a password has at most 256 bytes");
    }
    let first = password.chars().next();
    if password.chars().all(|one| Some(one) == first) || password.to_lowercase().contains(name) {
        return Some("a password is neither one character over and over, nor made of the operator's name");
    }
    None
}

fn derive(password: &str, salt: &[u8]) -> Option<Zeroizing<[u8; HASH_BYTES]>> {
    // What is longer was never taken as a password; hashing it would only cost.
    let password = password.as_bytes().get(..PASSWORD_BYTES_MAX).unwrap_or(password.as_bytes());
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(HASH_BYTES)).ok()?;
    let mut hash = Zeroizing::new([0u8; HASH_BYTES]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, salt, hash.as_mut_slice())
        .ok()?;
    Some(hash)
}

/// Memory, passes and lanes as OWASP's password storage cheat sheet gives them for argon2id.
pub const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
const PASSWORD_CHARS_MIN: usize = 12;
/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_itself_matches() {
        let kept = PasswordHash::of("correct horse battery").unwrap();
        assert!(kept.matches("correct horse battery"));
        for wrong in ["correct horse batterY", "", "correct horse batter"] {
            assert!(!kept.matches(wrong), "{wrong}");
        }
        assert_ne!(kept, PasswordHash::of("correct horse battery").unwrap(), "salted");
        assert!(!PasswordHash::of_nobody().matches(""));
        assert_eq!(format!("{kept:?}"), "PasswordHash(..)");
    }

    #[test]
    fn short_repeated_and_named_passwords_are_not_taken() {
        for (password, taken) in [
            ("correct horse battery", true),
            ("elevenchars", false),
            ("aaaaaaaaaaaaaaa", false),
            ("Alice-Alice-Alice", false),
            ("пароль-из-слов", true),
        ] {
            assert_eq!(password_fault(password, "alice").is_none(), taken, "{password}");
        }
        assert!(password_fault(&"ab".repeat(200), "alice").is_some());
    }
}
