//! The view's base as a file: what a node enforces from the first moment of its next run, while its records are read behind.
//!
//! It is sealed like all state, in chunks, so that neither side needs memory for the whole. Each chunk's context names the fleet,
//! the file, its place in it, and whether it is the last: chunks cannot be exchanged, moved or left out.
//!
//! INVARIANT: a file that is not whole, ours and of this schema is set aside under another name; the node starts without it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phalanx_model::Base;
use phalanx_model::view::PackedError;
use phalanx_trust::{Sealer, random_u64, sha256};

/// Where and how the base is kept.
pub(crate) struct PackedFile {
    path: PathBuf,
    sealer: Arc<Sealer>,
    fleet_id: String,
}

impl PackedFile {
    /// The file of a fleet in this state folder.
    pub(crate) fn new(state_dir: &Path, sealer: Arc<Sealer>, fleet_id: &str) -> Self {
        Self { path: state_dir.join("fleet.view"), sealer, fleet_id: fleet_id.to_owned() }
    }

    /// The base that was kept. A file that cannot be used is set aside, and why is returned.
    pub(crate) fn read(&self) -> Result<Option<Base>, String> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(format!("the packed view {} cannot be read: {error}", self.path.display()));
            }
        };
        let mut opened = match Opened::new(self, file) {
            Ok(opened) if opened.fleet != self.fleet_mark() => {
                // The node was told to join another fleet, or to leave one: nothing is wrong.
                let done = self.set_aside();
                tracing::info!(file = %self.path.display(), done, "packed view is of another fleet");
                return Ok(None);
            }
            Ok(opened) => opened,
            Err(error) => return Err(self.refuse(&error.into())),
        };
        Base::read_from(&mut opened).map(Some).map_err(|cause| self.refuse(&cause))
    }

    fn refuse(&self, cause: &PackedError) -> String {
        let done = self.set_aside();
        tracing::warn!(file = %self.path.display(), %cause, done, "packed view is not used");
        format!("the packed view was not used: {cause}; {done}; decisions were read from the records")
    }

    /// One name, not one for each time: what is in the file is in the records too.
    fn set_aside(&self) -> String {
        let aside = self.path.with_extension("view.set-aside");
        match std::fs::rename(&self.path, &aside) {
            Ok(()) => format!("it was set aside as {}", aside.display()),
            Err(error) => format!("it cannot be set aside: {error}"),
        }
    }

    fn fleet_mark(&self) -> [u8; 8] {
        sha256(self.fleet_id.as_bytes()).first_chunk().copied().unwrap_or_default()
    }

    /// Keeps a base in place of the one before; a crash leaves one or the other. Blocks on the disk. Returns the size.
    pub(crate) fn write(&self, base: &Base) -> io::Result<u64> {
        let new = self.path.with_extension("view.new");
        let file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let mut sealing = Sealing::new(self, file)?;
        base.write_to(&mut sealing)?;
        let file = sealing.finish()?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        std::fs::rename(&new, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(bytes)
    }

    fn context(&self, id: u64, chunk: u64, last: u8) -> String {
        format!("fleet view {} {id:016x} {chunk} {last}", self.fleet_id)
    }
}

/// Seals what is written. Layout: `magic 8 | id 8 | fleet 8`, then chunks of `last 1 | length 4 | sealed bytes`.
struct Sealing<'a> {
    packed: &'a PackedFile,
    file: File,
    id: u64,
    chunk: u64,
    plain: Vec<u8>,
}

impl<'a> Sealing<'a> {
    fn new(packed: &'a PackedFile, mut file: File) -> io::Result<Self> {
        let id = random_u64();
        file.write_all(MAGIC)?;
        file.write_all(&id.to_le_bytes())?;
        file.write_all(&packed.fleet_mark())?;
        Ok(Self { packed, file, id, chunk: 0, plain: Vec::with_capacity(CHUNK_BYTES) })
    }

    fn put(&mut self, last: u8) -> io::Result<()> {
        let context = self.packed.context(self.id, self.chunk, last);
        let sealed = self.packed.sealer.seal(&context, &self.plain).map_err(io::Error::other)?;
        let len = u32::try_from(sealed.len()).map_err(io::Error::other)?;
        self.file.write_all(&[last])?;
        self.file.write_all(&len.to_le_bytes())?;
        self.file.write_all(&sealed)?;
        self.plain.clear();
        self.chunk += 1;
        Ok(())
    }

    fn finish(mut self) -> io::Result<File> {
        self.put(1)?;
        Ok(self.file)
    }
}

impl Write for Sealing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.plain.len() >= CHUNK_BYTES {
            self.put(0)?;
        }
        let taken = bytes.get(..CHUNK_BYTES - self.plain.len()).unwrap_or(bytes);
        self.plain.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens what [`Sealing`] sealed.
struct Opened<'a> {
    packed: &'a PackedFile,
    file: File,
    id: u64,
    fleet: [u8; 8],
    chunk: u64,
    plain: io::Cursor<Vec<u8>>,
    ended: bool,
}

impl<'a> Opened<'a> {
    fn new(packed: &'a PackedFile, mut file: File) -> io::Result<Self> {
        if read_array(&mut file)? != *MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, FOREIGN));
        }
        let id = u64::from_le_bytes(read_array(&mut file)?);
        let fleet = read_array(&mut file)?;
        Ok(Self { packed, file, id, fleet, chunk: 0, plain: io::Cursor::default(), ended: false })
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let [last] = read_array(&mut self.file)?;
        let len = u32::from_le_bytes(read_array(&mut self.file)?) as usize;
        if len > CHUNK_BYTES + SEAL_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, FOREIGN));
        }
        let mut sealed = vec![0; len];
        self.file.read_exact(&mut sealed)?;
        let context = self.packed.context(self.id, self.chunk, last);
        let damaged = "it is damaged, or sealed with another key";
        let plain = self.packed.sealer.open(&context, &sealed);
        self.plain = io::Cursor::new(plain.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, damaged))?);
        self.ended = last == 1;
        self.chunk += 1;
        Ok(())
    }
}

impl Read for Opened<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.plain.read(into)?;
            if read > 0 || self.ended || into.is_empty() {
                return Ok(read);
            }
            self.next_chunk()?;
        }
    }
}

fn read_array<const N: usize>(file: &mut File) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

const MAGIC: &[u8; 8] = b"phx view";
const FOREIGN: &str = "it is no packed view";
const CHUNK_BYTES: usize = 1024 * 1024;
/// What sealing adds, generously.
const SEAL_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_model::{Actor, Author, AuthorRole, Decision, DecisionId, DecisionKind, View};

    fn decision(n: u32) -> Arc<Decision> {
        Arc::new(Decision {
            id: DecisionId::from_parts(1, 1, u64::from(n)),
            actor: Actor::ip(std::net::Ipv4Addr::from_bits(n).into()),
            kind: DecisionKind::Ban,
            author: Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Node },
            reason: "test".into(),
            evidence: None,
            confidence_percent: 100,
            created_at_ms: 0,
            expires_at_ms: 10,
            version: 1,
        })
    }

    /// More than one chunk.
    fn base() -> Base {
        View::from_decisions((0..40_000).map(decision)).pack().unwrap()
    }

    fn packed(folder: &tempfile::TempDir, sealer: &Arc<Sealer>, fleet: &str) -> PackedFile {
        PackedFile::new(folder.path(), Arc::clone(sealer), fleet)
    }

    #[test]
    fn what_was_kept_is_read_and_says_nothing_without_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let file = packed(&folder, &sealer, "f");
        assert!(file.read().unwrap().is_none());
        file.write(&base()).unwrap();
        assert_eq!(file.read().unwrap().unwrap().decisions_len(), 40_000);
        let bytes = std::fs::read(&file.path).unwrap();
        assert!(bytes.len() > CHUNK_BYTES && !bytes.windows(4).any(|word| word == b"test"));
    }

    #[test]
    fn the_view_of_another_fleet_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        packed(&folder, &sealer, "f").write(&base()).unwrap();
        assert!(packed(&folder, &sealer, "g").read().unwrap().is_none());
        assert!(folder.path().join("fleet.view.set-aside").exists());
        assert!(packed(&folder, &sealer, "f").read().unwrap().is_none());
    }

    #[test]
    fn a_file_that_is_damaged_cut_or_of_another_key_is_set_aside_with_the_reason() {
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let other = Arc::new(Sealer::ephemeral().unwrap());
        type Harm = fn(&mut Vec<u8>);
        let cases: [(&str, &Arc<Sealer>, Harm, &str); 7] = [
            ("f", &sealer, |bytes| bytes[2_000] ^= 1, "damaged"),
            ("f", &sealer, |bytes| bytes.truncate(9_000), "fill whole buffer"),
            ("f", &sealer, |bytes| bytes.clear(), "fill whole buffer"),
            // The first chunk as if it were all.
            ("f", &sealer, |bytes| bytes[24] = 1, "damaged"),
            ("f", &sealer, |bytes| bytes[24..].fill(0x42), "no packed view"),
            ("f", &sealer, |bytes| bytes[0] = b'P', "no packed view"),
            ("f", &other, |_| {}, "another key"),
        ];
        for (fleet, key, harm, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            packed(&folder, &sealer, "f").write(&base()).unwrap();
            let file = packed(&folder, key, fleet);
            let mut bytes = std::fs::read(&file.path).unwrap();
            harm(&mut bytes);
            std::fs::write(&file.path, bytes).unwrap();
            let reason = file.read().unwrap_err();
            assert!(reason.contains(expected), "{reason}");
            assert!(!file.path.exists() && folder.path().join("fleet.view.set-aside").exists(), "{reason}");
            assert!(file.read().unwrap().is_none());
        }
    }
}
