//! Keys of programs that may read decisions (CrowdSec's bouncers): one for each program, shown once, kept as a hash.
//!
//! INVARIANT: the file and the memory hold no key, only SHA-256 of it. A key is 256 random bits, so a slow hash would add nothing.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{TrustError, private_file, random_bytes, sha256};

/// The keys in force. Kept in a file with mode 0600 that each change replaces whole.
#[derive(Debug)]
pub struct ApiKeys {
    path: PathBuf,
    keys: Mutex<Vec<ApiKey>>,
}

/// One key, without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Whose it is.
    pub name: String,
    /// When it was made, in Unix milliseconds.
    pub created_at_ms: u64,
    sha256: String,
}

/// Why a key was not made.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeyError {
    /// There is one of that name.
    #[error("there is a key of that name; delete it first")]
    Exists,
    /// There are as many as there may be.
    #[error("there are {API_KEYS_MAX} keys, and no more are kept")]
    TooMany,
    /// The file could not be written; nothing has changed.
    #[error(transparent)]
    File(#[from] TrustError),
}

impl ApiKeys {
    /// Reads the keys; without a file there are none.
    pub fn load(path: &Path) -> Result<Self, TrustError> {
        let keys = match private_file::read(path, FILE_BYTES_MAX)? {
            None => Vec::new(),
            Some(bytes) => {
                let file: Result<File, _> = serde_json::from_slice(&bytes);
                let unreadable = |cause: String| {
                    TrustError::file(path, cause, "restore it, or remove it and make the keys anew")
                };
                match file {
                    Ok(file) if file.version == VERSION => file.keys,
                    Ok(file) => return Err(unreadable(format!("has the unknown version {}", file.version))),
                    Err(error) => return Err(unreadable(format!("cannot be understood: {error}"))),
                }
            }
        };
        Ok(Self { path: path.to_owned(), keys: Mutex::new(keys) })
    }

    /// Makes a key. It is returned here and nowhere else.
    pub fn add(&self, name: &str, now_ms: u64) -> Result<Zeroizing<String>, ApiKeyError> {
        let mut keys = self.locked();
        if keys.iter().any(|key| key.name == name) {
            return Err(ApiKeyError::Exists);
        }
        if keys.len() >= API_KEYS_MAX {
            return Err(ApiKeyError::TooMany);
        }
        let secret: Zeroizing<[u8; 32]> = Zeroizing::new(random_bytes());
        let key = Zeroizing::new(data_encoding::HEXLOWER.encode(secret.as_slice()));
        let sha256 = data_encoding::HEXLOWER.encode(&sha256(key.as_bytes()));
        let mut next = keys.clone();
        next.push(ApiKey { name: name.to_owned(), created_at_ms: now_ms, sha256 });
        self.write(&next)?;
        *keys = next;
        Ok(key)
    }

    /// Ends a key; whether there was one of that name.
    pub fn delete(&self, name: &str) -> Result<bool, TrustError> {
        let mut keys = self.locked();
        let next: Vec<ApiKey> = keys.iter().filter(|key| key.name != name).cloned().collect();
        if next.len() == keys.len() {
            return Ok(false);
        }
        self.write(&next)?;
        *keys = next;
        Ok(true)
    }

    /// The keys in force, oldest first.
    pub fn list(&self) -> Vec<ApiKey> {
        self.locked().clone()
    }

    /// Whose key this is. All are compared, each in constant time, so that the time taken says nothing about any.
    pub fn owner(&self, presented: &[u8]) -> Option<String> {
        let hash = data_encoding::HEXLOWER.encode(&sha256(presented));
        let mut owner = None;
        for key in self.locked().iter() {
            if bool::from(key.sha256.as_bytes().ct_eq(hash.as_bytes())) {
                owner = Some(key.name.clone());
            }
        }
        owner
    }

    fn locked(&self) -> MutexGuard<'_, Vec<ApiKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, keys: &[ApiKey]) -> Result<(), TrustError> {
        let file = File { version: VERSION, keys: keys.to_vec() };
        let bytes = serde_json::to_vec(&file).map_err(|_| TrustError::Crypto("writing keys"))?;
        private_file::replace(&self.path, &bytes)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: u32,
    keys: Vec<ApiKey>,
}

const VERSION: u32 = 1;
/// A firewall on each of a fleet's machines, twice over; all are compared for each request.
const API_KEYS_MAX: usize = 128;
const FILE_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_until_it_is_deleted_and_outlives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bouncers.json");
        let keys = ApiKeys::load(&path).unwrap();
        let (one, two) = (keys.add("fw-1", 5).unwrap(), keys.add("fw-2", 6).unwrap());
        assert_ne!(*one, *two);
        assert!(matches!(keys.add("fw-1", 7), Err(ApiKeyError::Exists)));
        let keys = ApiKeys::load(&path).unwrap();
        assert_eq!(keys.owner(one.as_bytes()).as_deref(), Some("fw-1"));
        assert_eq!(keys.owner(two.as_bytes()).as_deref(), Some("fw-2"));
        assert_eq!(keys.owner(b""), None);
        assert_eq!(keys.owner(one.as_bytes().get(1..).unwrap()), None);
        assert!(keys.delete("fw-1").unwrap());
        assert!(!keys.delete("fw-1").unwrap());
        assert_eq!(keys.owner(one.as_bytes()), None);
        assert_eq!(ApiKeys::load(&path).unwrap().list().len(), 1);
    }

    #[test]
    fn the_file_holds_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bouncers.json");
        let key = ApiKeys::load(&path).unwrap().add("fw", 1).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"fw\"") && !text.contains(key.as_str()), "{text}");
    }

    #[test]
    fn the_number_of_keys_is_limited_and_a_broken_file_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bouncers.json");
        let keys = ApiKeys::load(&path).unwrap();
        for n in 0..API_KEYS_MAX {
            keys.add(&format!("b{n}"), 1).unwrap();
        }
        assert!(matches!(keys.add("one-more", 1), Err(ApiKeyError::TooMany)));
        private_file::replace(&path, b"{}").unwrap();
        assert!(ApiKeys::load(&path).unwrap_err().to_string().contains("cannot be understood"));
    }
}
