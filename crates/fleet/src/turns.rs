//! Who waits for one that takes from many: each sender in its turn, and no more of all than so many.
//!
//! INVARIANT: what waits is bounded. Without room the sender that has most waiting loses his own latest, and nobody else anything.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The giving end.
pub(crate) struct Giver<T>(Arc<Inner<T>>);

/// The taking end.
pub struct Turns<T>(Arc<Inner<T>>);

struct Inner<T> {
    waiting: Mutex<Waiting<T>>,
    changed: Notify,
    most: usize,
}

struct Waiting<T> {
    /// Of each sender that has something waiting, in the order in which it came.
    of: HashMap<Arc<str>, VecDeque<T>>,
    /// The same senders, in the order of their turns.
    turns: VecDeque<Arc<str>>,
    count: usize,
    is_closed: bool,
}

/// The two ends of a queue of so many.
pub(crate) fn turns<T>(most: usize) -> (Giver<T>, Turns<T>) {
    let waiting = Waiting { of: HashMap::new(), turns: VecDeque::new(), count: 0, is_closed: false };
    let inner = Arc::new(Inner { waiting: Mutex::new(waiting), changed: Notify::new(), most });
    (Giver(Arc::clone(&inner)), Turns(inner))
}

impl<T> Giver<T> {
    /// Lets something wait for the sender's turn. False if nobody takes any more.
    pub(crate) fn give(&self, by: &Arc<str>, what: T) -> bool {
        let mut waiting = self.0.waiting.lock();
        if waiting.is_closed {
            return false;
        }
        waiting.add(by, what);
        if waiting.count > self.0.most {
            waiting.drop_of_most();
        }
        self.0.changed.notify_one();
        true
    }
}

impl<T> Turns<T> {
    /// What is next; none when nothing more comes.
    pub async fn recv(&mut self) -> Option<T> {
        loop {
            let changed = self.0.changed.notified();
            {
                let mut waiting = self.0.waiting.lock();
                if let Some(what) = waiting.next() {
                    return Some(what);
                }
                if waiting.is_closed {
                    return None;
                }
            }
            changed.await;
        }
    }
}

impl<T> Waiting<T> {
    fn add(&mut self, by: &Arc<str>, what: T) {
        self.count += 1;
        if let Some(own) = self.of.get_mut(by) {
            return own.push_back(what);
        }
        self.of.insert(Arc::clone(by), VecDeque::from([what]));
        self.turns.push_back(Arc::clone(by));
    }

    fn next(&mut self) -> Option<T> {
        let by = self.turns.pop_front()?;
        let own = self.of.get_mut(&by)?;
        let what = own.pop_front()?;
        self.count -= 1;
        if own.is_empty() {
            self.of.remove(&by);
        } else {
            self.turns.push_back(by);
        }
        Some(what)
    }

    /// Of several that have as much, the one whose turn is last.
    fn drop_of_most(&mut self) {
        let length = |by: &Arc<str>| self.of.get(by).map_or(0, VecDeque::len);
        let Some(most) = self.turns.iter().max_by_key(|by| length(by)).map(Arc::clone) else { return };
        let Some(own) = self.of.get_mut(&most) else { return };
        own.pop_back();
        self.count -= 1;
        if own.is_empty() {
            self.of.remove(&most);
            self.turns.retain(|by| *by != most);
        }
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        self.0.waiting.lock().is_closed = true;
        self.0.changed.notify_one();
    }
}

impl<T> Drop for Turns<T> {
    fn drop(&mut self) {
        self.0.waiting.lock().is_closed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> Arc<str> {
        n.to_string().into()
    }

    #[tokio::test]
    async fn of_many_that_come_at_once_each_has_its_turn_before_anybody_has_a_second() {
        let (giver, mut turns) = turns(64);
        for which in 0..50 {
            giver.give(&name(0), (0, which));
        }
        for sender in 1..64 {
            assert!(giver.give(&name(sender), (sender, 0)));
        }
        drop(giver);
        let mut taken = Vec::new();
        while let Some(one) = turns.recv().await {
            taken.push(one);
        }
        // The one that sent most lost what was too much, his latest; the others nothing.
        assert_eq!(taken, (0..64).map(|sender| (sender, 0)).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn beyond_the_room_who_came_last_comes_again_later() {
        let (giver, mut turns) = turns(64);
        for sender in 0..100 {
            giver.give(&name(sender), sender);
        }
        let first: Vec<usize> = {
            let mut first = Vec::new();
            for _ in 0..64 {
                first.push(turns.recv().await.unwrap());
            }
            first
        };
        assert_eq!(first, (0..64).collect::<Vec<_>>());
        // Those that were dropped send again, and so do the others: now there is room for them.
        for sender in (64..100).chain(0..28) {
            giver.give(&name(sender), sender);
        }
        assert_eq!(turns.recv().await, Some(64));
        drop(turns);
        assert!(!giver.give(&name(1), 1));
    }
}
