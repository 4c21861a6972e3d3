//! A relay between nodes and NATS that delays what it carries, and can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Listens on a port of its own; each byte arrives so much later, in order and in either direction.
pub(crate) struct Relay {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    pub(crate) fn start(to: &str, delay: Duration) -> Self {
        let to = to.trim_start_matches("nats://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, open) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (is_cut, connections) = (Arc::clone(&cut), Arc::clone(&open));
        std::thread::spawn(move || {
            for from in listener.incoming().flatten() {
                // Held, not refused: a cut is silence. The other end gives up by itself.
                connections.lock().unwrap().push(from.try_clone().unwrap());
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let server = TcpStream::connect(&to).unwrap();
                connections.lock().unwrap().push(server.try_clone().unwrap());
                for (from, to) in [
                    (from.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server.try_clone().unwrap(), from),
                ] {
                    carry(from, to, delay, Arc::clone(&is_cut));
                }
            }
        });
        Self { address, cut, open }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Carries nothing any more, and says nothing of it.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Carries again. Connections from before the cut are lost.
    pub(crate) fn heal(&self) {
        self.cut.store(false, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Carries one direction: one thread reads and notes when, one writes when it is time.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration, cut: Arc<AtomicBool>) {
    let (arrived, due) = sync_channel::<(Instant, Vec<u8>)>(4_096);
    std::thread::spawn(move || {
        let mut buffer = [0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if !cut.load(Ordering::SeqCst)
                && arrived.send((Instant::now() + delay, buffer[..read].to_vec())).is_err()
            {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (at, bytes) in due {
            while let Some(early) = at.checked_duration_since(Instant::now()) {
                std::thread::park_timeout(early);
            }
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
