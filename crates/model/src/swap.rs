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

/// Values that were replaced and that readers may still hold. Giving back a large value takes longer than a request may wait: here
/// its writer holds on to it until no reader does, and then drops it itself.
///
/// INVARIANT: a value that was put here is dropped by a call of [`Retired::drop_unused`], or with this.
#[derive(Debug)]
pub struct Retired<T>(Vec<Arc<T>>);

impl<T> Default for Retired<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Retired<T> {
    /// Holds on to a value. As many are held as readers hold, and those put here since the last call of
    /// [`Retired::drop_unused`].
    pub fn put(&mut self, value: Arc<T>) {
        self.0.push(value);
    }

    /// Drops what nobody else holds. (Nobody can come by a value that only this holds, so the count cannot rise.)
    pub fn drop_unused(&mut self) {
        self.0.retain(|value| Arc::strong_count(value) > 1);
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_a_reader_held_is_dropped_by_its_writer() {
        let swap = Swap::new(1);
        let first = Arc::downgrade(&swap.load_full());
        let mut retired = Retired::default();
        let reader = swap.load();
        retired.put(swap.load_full());
        swap.store(Arc::new(2));
        retired.drop_unused();
        assert_eq!((*reader.as_ref(), retired.len()), (1, 1));
        drop(reader);
        assert!(first.upgrade().is_some(), "the reader gave it back, the writer has it still");
        retired.drop_unused();
        assert!(first.upgrade().is_none() && retired.is_empty());
    }
}
