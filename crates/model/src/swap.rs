//! A snapshot that is read without locks, swapped whole, and announces its swaps.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

/// Holds the current value of a snapshot. Readers take a cheap guard; a writer replaces the whole value.
#[derive(Debug)]
pub struct Swap<T> {
    current: ArcSwap<T>,
    swapped: watch::Sender<u64>,
}

impl<T> Swap<T> {
    /// A cell that holds `value`.
    pub fn new(value: T) -> Self {
        Self { current: ArcSwap::from_pointee(value), swapped: watch::Sender::new(0) }
    }

    /// The current value, for the duration of one short use.
    pub fn load(&self) -> Guard<Arc<T>> {
        self.current.load()
    }

    /// The current value, to keep.
    pub fn load_full(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Replaces the value, then wakes everyone who waits for a swap.
    pub fn store(&self, value: Arc<T>) {
        self.current.store(value);
        self.swapped.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A receiver whose `changed()` resolves after each swap.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.swapped.subscribe()
    }
}
