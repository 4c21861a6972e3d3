//! A policy bundle: the policy file and every file it names, with a manifest, as one blob whose bytes follow from what it holds.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use phalanx_model::limits::{
    POLICY_BUNDLE_BYTES_MAX, POLICY_FILES_MAX, POLICY_NAME_BYTES_MAX, RECORD_FUTURE_MAX_MS,
};
use serde::{Deserialize, Serialize};

use super::record::BundleRef;
use crate::BlobHash;

/// What a bundle says of itself. Readers ignore fields that they do not know; what a reader must know is in `requires`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The schema it was written with.
    pub schema: u16,
    /// The fleet it is for.
    pub fleet: String,
    /// Its version; one more, at least, than the one before.
    pub version: u64,
    /// The hash of the bundle before; none for the first.
    pub previous: Option<String>,
    /// The oldest product version that may load it.
    pub oldest: String,
    /// What whoever loads it must know of, by name.
    #[serde(default)]
    pub requires: Vec<String>,
    /// The name of the policy file among its files.
    pub entry: String,
    /// When it was made, in Unix milliseconds.
    pub made_at_ms: u64,
}

/// A bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its files, by the name under which the policy refers to them.
    pub files: BTreeMap<String, Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    manifest: Manifest,
    files: BTreeMap<String, String>,
}

impl Bundle {
    /// The bundle as it is kept and sent.
    ///
    /// # Errors
    /// What limit it is over.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        check_files(&self.files)?;
        let files = self.files.iter().map(|(name, bytes)| (name.clone(), BASE64.encode(bytes))).collect();
        let wire = Wire { manifest: self.manifest.clone(), files };
        let bytes = serde_json::to_vec(&wire).map_err(|error| error.to_string())?;
        match bytes.len() <= POLICY_BUNDLE_BYTES_MAX {
            true => Ok(bytes),
            false => Err(too_large(bytes.len())),
        }
    }

    /// Reads what [`Bundle::to_bytes`] wrote. Says nothing about whom it is for.
    ///
    /// # Errors
    /// Why these bytes are no bundle.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > POLICY_BUNDLE_BYTES_MAX {
            return Err(too_large(bytes.len()));
        }
        let wire: Wire =
            serde_json::from_slice(bytes).map_err(|error| format!("the bundle cannot be read: {error}"))?;
        let mut files = BTreeMap::new();
        for (name, text) in wire.files {
            let content = BASE64
                .decode(text.as_bytes())
                .map_err(|_| format!("the file `{name}` of the bundle cannot be read"))?;
            files.insert(name, content);
        }
        check_files(&files)?;
        Ok(Self { manifest: wire.manifest, files })
    }

    /// Reads the bundle that a record refers to, and checks all that can be told without looking into the policy.
    ///
    /// # Errors
    /// Why it must not be used here.
    pub fn open(bytes: &[u8], reference: &BundleRef, reader: &Reader<'_>) -> Result<Self, String> {
        let is_said = BlobHash::of(bytes).as_str() == reference.hash;
        if !is_said || u64::try_from(bytes.len()).ok() != Some(reference.bytes) {
            return Err("the bundle is not the one that its record names; it may be cut off".into());
        }
        let bundle = Self::from_bytes(bytes)?;
        bundle.manifest.check(reference, reader)?;
        if !bundle.files.contains_key(&bundle.manifest.entry) {
            return Err(format!("the bundle has no file `{}`", bundle.manifest.entry));
        }
        Ok(bundle)
    }
}

/// Who reads a bundle.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// Its fleet.
    pub fleet: &'a str,
    /// Its product version.
    pub version: &'a str,
    /// Its clock, in Unix milliseconds.
    pub now_ms: u64,
}

impl Manifest {
    fn check(&self, reference: &BundleRef, reader: &Reader<'_>) -> Result<(), String> {
        if self.schema == 0 {
            return Err("the bundle has schema 0".into());
        }
        if self.fleet != reader.fleet {
            return Err(format!("the bundle is for fleet `{}`", self.fleet.escape_debug()));
        }
        if self.version != reference.version || self.previous != reference.previous {
            return Err("the bundle has another version or predecessor than its record says".into());
        }
        if self.made_at_ms > reader.now_ms.saturating_add(RECORD_FUTURE_MAX_MS) {
            return Err("the bundle was made in the future; compare the clocks".into());
        }
        let (oldest, here) = (numbers(&self.oldest), numbers(reader.version));
        if oldest.is_none() || oldest > here {
            let oldest = self.oldest.escape_debug();
            return Err(format!(
                "the bundle needs version {oldest} of the product; this is {}",
                reader.version
            ));
        }
        match self.requires.iter().find(|wanted| !FEATURES.contains(&wanted.as_str())) {
            Some(unknown) => {
                let unknown = unknown.escape_debug();
                Err(format!(
                    "the bundle requires `{unknown}`, which this version of the product does not know"
                ))
            }
            None => Ok(()),
        }
    }
}

fn check_files(files: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    if files.len() > POLICY_FILES_MAX {
        return Err(format!("the bundle holds {} files; {POLICY_FILES_MAX} are possible", files.len()));
    }
    if let Some(name) = files.keys().find(|name| name.is_empty() || name.len() > POLICY_NAME_BYTES_MAX) {
        let start: String = name.chars().take(40).collect();
        return Err(format!("`{}` is no name of a file in a bundle", start.escape_debug()));
    }
    check_names(files)?;
    let bytes: usize = files.values().map(Vec::len).sum();
    if bytes > POLICY_BUNDLE_BYTES_MAX { Err(too_large(bytes)) } else { Ok(()) }
}

/// Whether each name is the one of its file.
///
/// # Errors
/// The first that is not.
pub fn check_names(files: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    match files.keys().find(|name| !is_normal(name)) {
        Some(name) => {
            let start: String = name.chars().take(40).collect();
            let start = start.escape_debug();
            Err(format!(
                "`{start}` names a file in another way than it is read: leave out `.`, `..` and `//`"
            ))
        }
        None => Ok(()),
    }
}

/// Whether a name is written in the one form of those that mean the same file: without `.` and empty parts, and with `..` at its start only.
/// INVARIANT: two names of a bundle are two files for whoever reads it, and whoever looks at a name looks at the file that is used.
fn is_normal(name: &str) -> bool {
    let relative = name.strip_prefix('/');
    let mut is_below = relative.is_some();
    relative.unwrap_or(name).split('/').all(|part| match part {
        "" | "." => false,
        ".." => !is_below,
        _ => {
            is_below = true;
            true
        }
    })
}

fn too_large(bytes: usize) -> String {
    format!("the bundle has {bytes} bytes; {POLICY_BUNDLE_BYTES_MAX} are possible")
}

/// The numbers of a version, what follows a `-` left out.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let plain = version.split(['-', '+']).next()?;
    let mut parts = plain.split('.').map(|part| part.parse().ok());
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

/// What a bundle may require of whoever loads it. A version of the product that adds to what policy can say adds a name here.
pub const FEATURES: &[&str] = &[
    "accounts",
    "challenges",
    "client-address",
    "client-certificate",
    "compression",
    "detection",
    "exclusions",
    "exemptions",
    "networks",
    "origins",
    "pages-branded",
    "passthrough",
    "playbooks",
    "proxy-protocol",
    "raise-paranoia",
    "rate-limits",
    "route-patterns",
    "routes",
    "rule-classes",
    "tcp",
    "upstreams",
];
/// The schema this version writes.
pub const SCHEMA: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_name() {
        for (name, expected) in [
            ("policy.toml", true),
            ("rules/own.conf", true),
            ("../shared/own.conf", true),
            ("../../a", true),
            ("/etc/phalanx/own.conf", true),
            ("z/../policy.toml", false),
            ("../a/../policy.toml", false),
            ("./policy.toml", false),
            ("rules/./own.conf", false),
            ("rules//own.conf", false),
            ("rules/", false),
            ("//etc/own.conf", false),
            ("/../etc/own.conf", false),
            ("", false),
        ] {
            assert_eq!(is_normal(name), expected, "{name}");
        }
        let files = ["policy.toml", "z/../policy.toml"].map(|name| (name.to_owned(), Vec::new())).into();
        assert!(check_files(&files).unwrap_err().contains("z/../policy.toml"));
    }
}
