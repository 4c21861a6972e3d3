//! Lines to standard output, by a thread of their own: a pipe that nobody reads must not hold up the recorder, and with it
//! the ledger.
//!
//! Failure direction: what finds no room in the queue is lost, and its log counts it.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// The queue to the thread. Dropping it waits a moment for what is in it.
#[derive(Debug)]
pub(crate) struct StandardOutput {
    batches: Option<SyncSender<Vec<u8>>>,
    over: Receiver<()>,
}

impl StandardOutput {
    pub(crate) fn start() -> io::Result<Self> {
        Self::writing_to(io::stdout())
    }

    fn writing_to(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let (batches, queue) = sync_channel::<Vec<u8>>(BATCHES_MAX);
        let (ended, over) = sync_channel(1);
        std::thread::Builder::new().name("phalanx-stdout".into()).spawn(move || {
            // A closed output ends the thread; from then on batches are refused.
            while let Ok(batch) = queue.recv() {
                if out.write_all(&batch).and_then(|()| out.flush()).is_err() {
                    break;
                }
            }
            let _ = ended.try_send(());
        })?;
        Ok(Self { batches: Some(batches), over })
    }

    /// Hands whole lines on, if there is room.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let Some(batches) = self.batches.as_ref().filter(|_| !lines.is_empty()) else { return Ok(()) };
        batches.try_send(lines.to_vec()).map_err(|refused| match refused {
            TrySendError::Full(_) => io::Error::new(io::ErrorKind::WouldBlock, "standard output is not read"),
            TrySendError::Disconnected(_) => {
                io::Error::new(io::ErrorKind::BrokenPipe, "standard output is closed")
            }
        })
    }
}

impl Drop for StandardOutput {
    fn drop(&mut self) {
        self.batches = None;
        let _ = self.over.recv_timeout(END_MAX);
    }
}

/// Batches that wait; each has up to a thousand lines.
const BATCHES_MAX: usize = 16;
/// How long the end of the node waits for a slow reader.
const END_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_before_the_end() {
        let shared = Shared::default();
        let mut out = StandardOutput::writing_to(shared.clone()).unwrap();
        out.append(b"one\n").unwrap();
        out.append(b"two\n").unwrap();
        drop(out);
        assert_eq!(*shared.0.lock().unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn a_reader_that_does_not_read_loses_lines_and_holds_up_nobody() {
        let shared = Shared::default();
        let held = shared.0.lock().unwrap();
        let mut out = StandardOutput::writing_to(shared.clone()).unwrap();
        let refused = (0..BATCHES_MAX + 2).filter(|_| out.append(b"line\n").is_err()).count();
        assert!((1..=2).contains(&refused), "{refused}");
        drop(held);
    }
}
