//! What stands in the place of a secret that limits count by: equal secrets have equal stand-ins, and nothing but the key tells which.
//!
//! The key is random, this node's own, and lies sealed beside the recording: who deletes the recording deletes it too.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::hmac;
use phalanx_trust::{Sealer, random_bytes};

use crate::RecordError;

/// Makes the stand-ins of one node.
pub struct Pseudonyms(hmac::Key);

impl Pseudonyms {
    /// Reads the key that lies in a folder, or makes one there. One that does not open is as lost as the recording beside it, and replaced.
    pub(super) fn load_or_create(dir: &Path, sealer: &Sealer) -> Result<Self, RecordError> {
        let path = dir.join(FILE);
        let failed = |source| RecordError::Io { path: path.clone(), source };
        if let Some(key) = read(&path).map_err(failed)?.and_then(|sealed| sealer.open(CONTEXT, &sealed).ok())
        {
            return Ok(Self::new(&key));
        }
        let key: [u8; KEY_BYTES] = random_bytes();
        let sealed = sealer.seal(CONTEXT, &key)?;
        write(dir, &path, &sealed).map_err(failed)?;
        Ok(Self::new(&key))
    }

    /// Those of a key.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// Overwrites a secret: digits by digits, any other by letters that make up no word. False if it is too short to have a stand-in of its
    /// own; it is left as it is then.
    pub(super) fn overwrite(&self, secret: &mut [u8]) -> bool {
        if secret.len() < PSEUDONYM_BYTES_MIN {
            return false;
        }
        let letters = if secret.iter().all(u8::is_ascii_digit) { DIGITS } else { LETTERS };
        // The secret is read once, however long its stand-in.
        let tag = hmac::sign(&self.0, secret);
        for (number, block) in (0_u32..).zip(secret.chunks_mut(BLOCK_BYTES)) {
            let mut context = hmac::Context::with_key(&self.0);
            context.update(tag.as_ref());
            context.update(&number.to_be_bytes());
            for (place, byte) in block.iter_mut().zip(context.sign().as_ref()) {
                *place = letters.get(usize::from(byte & 7)).copied().unwrap_or(b'x');
            }
        }
        true
    }
}

impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pseudonyms")
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut sealed = Vec::new();
    file.take(SEALED_BYTES_MAX).read_to_end(&mut sealed)?;
    Ok(Some(sealed))
}

/// Whole or not at all: half a key would be another.
fn write(dir: &Path, path: &Path, sealed: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{FILE}.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(sealed)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

const FILE: &str = "pseudonyms.key";
const CONTEXT: &str = "recording pseudonyms";
const KEY_BYTES: usize = 32;
const SEALED_BYTES_MAX: u64 = 1_024;
/// Shorter secrets could all be tried by who steals disk and keys, and are seldom what limits count by.
const PSEUDONYM_BYTES_MIN: usize = 8;
/// One letter for each byte of a tag.
const BLOCK_BYTES: usize = 32;
/// Eight of each, so that all are as likely: without vowels and what commands are called, which rules would find.
const LETTERS: &[u8; 8] = b"bhjkqvxz";
/// Without 0, which may not begin a number.
const DIGITS: &[u8; 8] = b"12345678";

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pseudonyms: &Pseudonyms, secret: &str) -> String {
        let mut bytes = secret.as_bytes().to_vec();
        pseudonyms.overwrite(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn equal_secrets_are_equal_and_others_differ_under_one_key() {
        let (one, other) = (Pseudonyms::new(&[1; 32]), Pseudonyms::new(&[2; 32]));
        let long = "k".repeat(500);
        for secret in ["key-alice", "key-bobby", "1234567890123456", &long] {
            let told = of(&one, secret);
            assert_eq!((told.len(), &told), (secret.len(), &of(&one, secret)));
            assert_ne!(told, of(&other, secret), "{secret}");
            let digits = secret.bytes().all(|byte| byte.is_ascii_digit());
            let expected: &[u8] = if digits { DIGITS } else { LETTERS };
            assert!(told.bytes().all(|byte| expected.contains(&byte)), "{told}");
        }
        assert_ne!(of(&one, "key-alice"), of(&one, "key-bobby"));
        assert_ne!(of(&one, &long), of(&one, &format!("{}l", "k".repeat(499))));
        // The blocks of a long one differ.
        let blocks = of(&one, &long).into_bytes();
        assert_ne!(blocks[..32], blocks[32..64]);
        assert!(!one.overwrite(&mut b"1234567".to_vec()));
    }

    #[test]
    fn the_key_outlives_a_restart_sealed_and_one_that_does_not_open_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (sealer, stranger) = (Sealer::ephemeral().unwrap(), Sealer::ephemeral().unwrap());
        let load = |sealer| of(&Pseudonyms::load_or_create(folder.path(), sealer).unwrap(), "key-alice");
        let first = load(&sealer);
        assert_eq!(load(&sealer), first);
        assert_ne!(load(&stranger), first);
        std::fs::write(folder.path().join(FILE), b"half").unwrap();
        let fresh = load(&sealer);
        assert_eq!(load(&sealer), fresh);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
