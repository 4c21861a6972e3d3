//! The recording on disk: segments of sealed batches, each of one app; the oldest go when they are too many or too old.
//!
//! A segment's name tells when it began and, by a hash, which app it is of. A frame is `length u32 | sealed batch`, sealed under the name of
//! its segment and its place within it, so that none can be moved or repeated.
//!
//! Where there are too many bytes the app with the most of them loses its oldest segment: a busy app does not push out the others.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use phalanx_model::RecordedBatch;
use phalanx_trust::Sealer;

use super::frame::{decode, encode};
use crate::RecordError;

/// How much the ring holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) bytes_max: u64,
    pub(super) kept_ms: u64,
    pub(super) segment_bytes: u64,
}

/// The writing side.
pub(super) struct Ring {
    dir: PathBuf,
    sealer: Arc<Sealer>,
    bounds: Bounds,
    segments: Vec<Segment>,
    /// By app: the segment that is written to.
    open: BTreeMap<u64, Open>,
}

struct Segment {
    name: String,
    app: u64,
    bytes: u64,
    newest_ms: u64,
}

struct Open {
    name: String,
    since_ms: u64,
    file: File,
    frames: u64,
}

impl Ring {
    /// Finds what is there.
    pub(super) fn open(dir: &Path, sealer: Arc<Sealer>, bounds: Bounds) -> Result<Self, RecordError> {
        let failed = |source| RecordError::Io { path: dir.to_owned(), source };
        crate::recorder::create_private_dir(dir).map_err(failed)?;
        let segments = segments(dir).map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), sealer, bounds, segments, open: BTreeMap::new() })
    }

    /// Writes a batch behind those of its app.
    pub(super) fn write(&mut self, batch: &RecordedBatch, now_ms: u64) -> Result<(), RecordError> {
        let app = hash(&batch.app);
        let plain = encode(batch)?;
        let failed = |path: PathBuf| move |source| RecordError::Io { path, source };
        self.close_old(now_ms);
        if !self.open.contains_key(&app) {
            let (name, file) = self.create(app, now_ms).map_err(failed(self.dir.clone()))?;
            self.segments.push(Segment { name: name.clone(), app, bytes: 0, newest_ms: now_ms });
            self.open.insert(app, Open { name, since_ms: now_ms, file, frames: 0 });
        }
        let Some(open) = self.open.get_mut(&app) else { return Ok(()) };
        let sealed = self.sealer.seal(&context(&open.name, open.frames), &plain)?;
        let mut frame = u32::try_from(sealed.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        frame.extend_from_slice(&sealed);
        let name = open.name.clone();
        let written = open.file.write_all(&frame);
        open.frames += 1;
        if let Err(error) = written {
            // What is half there ends the segment for readers. One that has nothing yet is not left behind on a full disk.
            self.open.remove(&app);
            let empty = self.segments.iter().position(|segment| segment.name == name && segment.bytes == 0);
            if let Some(place) = empty {
                self.delete(place)?;
            }
            return Err(failed(self.dir.join(name))(error));
        }
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.name == name) {
            segment.bytes += frame.len() as u64;
            segment.newest_ms = now_ms;
            if segment.bytes >= self.bounds.segment_bytes {
                self.open.remove(&app);
            }
        }
        Ok(())
    }

    /// Deletes what is too old, and the oldest of what is too much.
    pub(super) fn prune(&mut self, now_ms: u64) -> Result<(), RecordError> {
        let kept_ms = self.bounds.kept_ms;
        self.close_old(now_ms);
        while let Some(place) =
            self.segments.iter().position(|one| one.newest_ms.saturating_add(kept_ms) < now_ms)
        {
            self.delete(place)?;
        }
        while self.bytes() > self.bounds.bytes_max {
            let mut by_app: BTreeMap<u64, u64> = BTreeMap::new();
            for segment in &self.segments {
                *by_app.entry(segment.app).or_default() += segment.bytes;
            }
            let Some((&largest, _)) = by_app.iter().max_by_key(|(_, bytes)| **bytes) else { break };
            let Some(place) = self.segments.iter().position(|one| one.app == largest) else { break };
            self.delete(place)?;
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Ends the segments that began a while ago. A segment goes as a whole, and not before its newest request is too old: that of an app with few
    /// requests would else keep its oldest for months.
    fn close_old(&mut self, now_ms: u64) {
        // Also what began in the future, before the clock was set.
        let is_new = |open: &Open| now_ms.abs_diff(open.since_ms) < self.bounds.kept_ms / SEGMENTS_KEPT;
        self.open.retain(|_, open| is_new(open));
    }

    fn delete(&mut self, place: usize) -> Result<(), RecordError> {
        let Some(segment) = self.segments.get(place) else { return Ok(()) };
        let path = self.dir.join(&segment.name);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(RecordError::Io { path, source });
            }
            _ => {}
        }
        let gone = self.segments.remove(place);
        self.open.retain(|_, open| open.name != gone.name);
        Ok(())
    }

    fn create(&self, app: u64, now_ms: u64) -> io::Result<(String, File)> {
        let mut at_ms = now_ms;
        loop {
            let name = format!("{at_ms:016}-{app:016x}{SUFFIX}");
            let path = self.dir.join(&name);
            match OpenOptions::new().append(true).create_new(true).mode(0o600).open(path) {
                // Of a process before, or of one that is to follow.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => at_ms += 1,
                file => return Ok((name, file?)),
            }
        }
    }
}

/// Shows the batches written since a moment, those of an app in their order. Returns how many segments end in bytes that are no batch.
/// `visit` says whether to go on.
pub fn read(
    dir: &Path,
    sealer: &Sealer,
    since_ms: u64,
    mut visit: impl FnMut(RecordedBatch) -> bool,
) -> Result<usize, RecordError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RecordError::Io { path, source }
    };
    let mut damaged = 0;
    for segment in segments(dir).map_err(failed(dir))? {
        // The file system's clock need not be the node's.
        if segment.newest_ms.saturating_add(CLOCKS_APART_MS) < since_ms {
            continue;
        }
        let path = dir.join(&segment.name);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            // Deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&path)(error)),
        };
        for place in 0.. {
            let sealed = match next_frame(&mut file).map_err(failed(&path))? {
                Frame::Whole(sealed) => sealed,
                Frame::End => break,
                Frame::Broken => {
                    damaged += 1;
                    break;
                }
            };
            let plain = sealer.open(&context(&segment.name, place), &sealed).ok();
            let Some(batch) = plain.and_then(decode) else {
                damaged += 1;
                break;
            };
            if !visit(batch) {
                return Ok(damaged);
            }
        }
    }
    Ok(damaged)
}

enum Frame {
    Whole(Vec<u8>),
    End,
    Broken,
}

fn next_frame(file: &mut File) -> io::Result<Frame> {
    let mut length = Vec::new();
    file.take(4).read_to_end(&mut length)?;
    let Some(length) = length.first_chunk::<4>() else {
        return Ok(if length.is_empty() { Frame::End } else { Frame::Broken });
    };
    let length = u64::from(u32::from_le_bytes(*length));
    if length > FRAME_BYTES_MAX {
        return Ok(Frame::Broken);
    }
    let mut sealed = Vec::new();
    let read = file.take(length).read_to_end(&mut sealed)?;
    Ok(if read as u64 == length { Frame::Whole(sealed) } else { Frame::Broken })
}

/// The segments of a folder, the oldest first.
fn segments(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let app = name.strip_suffix(SUFFIX).and_then(|name| name.split_once('-'));
        let Some(app) = app.and_then(|(_, app)| u64::from_str_radix(app, 16).ok()) else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        let newest = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let newest_ms = u64::try_from(newest.as_millis()).unwrap_or(u64::MAX);
        segments.push(Segment { name, app, bytes: metadata.len(), newest_ms });
    }
    segments.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(segments)
}

fn context(segment: &str, place: u64) -> String {
    format!("recording {segment} {place}")
}

/// FNV-1a: names of apps are short and no stranger's.
fn hash(app: &str) -> u64 {
    app.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

const CLOCKS_APART_MS: u64 = 60 * 60 * 1_000;
/// How many segments of an app there are at least within the time for which requests are kept: by one of them they live too long.
const SEGMENTS_KEPT: u64 = 8;
const SUFFIX: &str = ".recording";
/// More than all that waits in memory can come to.
const FRAME_BYTES_MAX: u64 = 64 * 1024 * 1024;
