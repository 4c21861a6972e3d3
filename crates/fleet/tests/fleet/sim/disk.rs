//! A node's disk: what was written before the power went is there afterwards, and nothing of what waited.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use redb::StorageBackend;

/// The bytes, which outlive the node that wrote them.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimDisk(Arc<Platter>);

#[derive(Debug, Default)]
struct Platter {
    bytes: Mutex<Vec<u8>>,
    /// Counts crashes: heads from before one write nothing any more.
    crashes: AtomicU64,
    failing: AtomicBool,
}

impl SimDisk {
    /// What a database reads and writes through, until the next crash.
    pub(crate) fn head(&self) -> Head {
        Head { platter: Arc::clone(&self.0), since: self.0.crashes.load(Ordering::SeqCst) }
    }

    /// The node loses power.
    pub(crate) fn crash(&self) {
        self.0.crashes.fetch_add(1, Ordering::SeqCst);
    }

    /// From now on nothing can be written, or everything again.
    pub(crate) fn fail(&self, failing: bool) {
        self.0.failing.store(failing, Ordering::SeqCst);
    }
}

/// One run's access to the disk.
#[derive(Debug)]
pub(crate) struct Head {
    platter: Arc<Platter>,
    since: u64,
}

impl Head {
    fn powered(&self) -> io::Result<()> {
        match self.platter.crashes.load(Ordering::SeqCst) == self.since {
            true => Ok(()),
            false => Err(io::Error::other("no power")),
        }
    }

    fn writable(&self) -> io::Result<()> {
        self.powered()?;
        match self.platter.failing.load(Ordering::SeqCst) {
            true => Err(io::Error::other("no space left")),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Head {
    fn len(&self) -> io::Result<u64> {
        self.powered()?;
        Ok(self.platter.bytes.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.powered()?;
        let from = usize::try_from(offset).unwrap();
        let bytes = self.platter.bytes.lock();
        let read = bytes.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(read);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        self.platter.bytes.lock().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.writable()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.writable()?;
        let from = usize::try_from(offset).unwrap();
        self.platter.bytes.lock()[from..from + data.len()].copy_from_slice(data);
        Ok(())
    }
}
