//! The token that opens the admin API, made at first start.

use std::fmt;
use std::path::Path;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{TrustError, private_file, random_bytes};

/// A bearer token of 256 random bits, kept in a file with mode 0600.
pub struct AdminToken(Zeroizing<String>);

impl AdminToken {
    /// Reads the token, or makes one.
    pub fn load_or_create(path: &Path) -> Result<Self, TrustError> {
        let Some(bytes) = private_file::read(path, TOKEN_BYTES_MAX)? else {
            let secret: Zeroizing<[u8; 32]> = Zeroizing::new(random_bytes());
            let token = Zeroizing::new(data_encoding::HEXLOWER.encode(secret.as_slice()));
            private_file::create(path, token.as_bytes())?;
            return Ok(Self(token));
        };
        let token = bytes.trim_ascii();
        let visible = token.len() >= TOKEN_BYTES_MIN && token.iter().all(u8::is_ascii_graphic);
        match std::str::from_utf8(token) {
            Ok(text) if visible => Ok(Self(Zeroizing::new(text.to_owned()))),
            _ => {
                let cause = format!("holds no token of at least {TOKEN_BYTES_MIN} visible ASCII characters");
                Err(TrustError::file(path, cause, "remove it; the next start makes a new one"))
            }
        }
    }

    /// Whether `presented` is the token; takes the same time whatever the first difference.
    pub fn matches(&self, presented: &str) -> bool {
        // Digests have one length, so that not even the token's length shows.
        digest(self.0.as_bytes()).ct_eq(&digest(presented.as_bytes())).into()
    }

    /// The token itself, to hand to its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

pub(crate) fn digest(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut array = [0u8; 32];
    for (place, byte) in array.iter_mut().zip(digest.as_ref()) {
        *place = *byte;
    }
    array
}

const TOKEN_BYTES_MIN: usize = 32;
const TOKEN_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_token_is_made_once_readable_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        let made = AdminToken::load_or_create(&path).unwrap();
        let read = AdminToken::load_or_create(&path).unwrap();
        assert_eq!(made.expose(), read.expose());
        assert_eq!(made.expose().len(), 64);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(format!("{made:?}"), "AdminToken(..)");
    }

    #[test]
    fn only_the_whole_token_matches() {
        let folder = tempfile::tempdir().unwrap();
        let token = AdminToken::load_or_create(&folder.path().join("t")).unwrap();
        assert!(token.matches(token.expose()));
        assert!(!token.matches(""));
        assert!(!token.matches(token.expose().get(1..).unwrap()));
        assert!(!token.matches(&format!("{} ", token.expose())));
    }

    #[test]
    fn an_empty_token_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        private_file::create(&path, b"\n").unwrap();
        assert!(AdminToken::load_or_create(&path).unwrap_err().to_string().contains("no token"));
    }
}
