//! Counts tries to log in, by account and by network, so that guessing is slow whoever is guessed and from wherever.
//!
//! A try is counted before it is looked at and given back when it was right: many at once do not slip through.

use parking_lot::Mutex;

use crate::error::ApiError;
use crate::limits::{LOGIN_WINDOW_MS, LOGINS_COUNTED_MAX};

/// The counts of tries.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// Of accounts that there are, of which there are few. Strangers push none of them out: who has a password and many networks would
    /// else have as many tries at the code as he likes.
    accounts: Counts,
    /// Of networks, and of names that nobody has.
    others: Counts,
}

/// Bounded: when all places are taken, the one with the fewest tries gives way.
#[derive(Debug, Default)]
struct Counts(Mutex<Vec<Count>>);

#[derive(Debug)]
struct Count {
    of: [u8; 32],
    since_ms: u64,
    tries: u32,
}

/// Whose tries are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Of {
    /// An account that there is, and what is tried with it.
    Account(String),
    /// Anything that a stranger may make up.
    Other(String),
}

impl Throttle {
    /// Counts a try by `of`, of which there may be `max` in [`LOGIN_WINDOW_MS`].
    pub(crate) fn charge(&self, of: &Of, max: u32, now_ms: u64) -> Result<(), ApiError> {
        let (counts, of) = self.counts(of);
        counts.charge(of, max, now_ms)
    }

    /// Gives a try back.
    pub(crate) fn refund(&self, of: &Of) {
        let (counts, of) = self.counts(of);
        counts.refund(of);
    }

    fn counts<'a>(&self, of: &'a Of) -> (&Counts, &'a str) {
        match of {
            Of::Account(of) => (&self.accounts, of),
            Of::Other(of) => (&self.others, of),
        }
    }
}

impl Counts {
    fn charge(&self, of: &str, max: u32, now_ms: u64) -> Result<(), ApiError> {
        let of = phalanx_trust::sha256(of.as_bytes());
        let mut counts = self.0.lock();
        counts.retain(|count| now_ms < count.since_ms.saturating_add(LOGIN_WINDOW_MS));
        if let Some(count) = counts.iter_mut().find(|count| count.of == of) {
            if count.tries >= max {
                let message = "too many tries to log in; wait a quarter of an hour, use a passkey, or run `phalanx login` on the node";
                // All of it: the rest would tell when somebody else began, who is there only of an account that is.
                return Err(ApiError::too_many("too_many_failures", message, LOGIN_WINDOW_MS / 1_000));
            }
            count.tries += 1;
            return Ok(());
        }
        if counts.len() >= LOGINS_COUNTED_MAX
            && let Some((fewest, _)) = counts.iter().enumerate().min_by_key(|(_, count)| count.tries)
        {
            counts.swap_remove(fewest);
        }
        counts.push(Count { of, since_ms: now_ms, tries: 1 });
        Ok(())
    }

    fn refund(&self, of: &str) {
        let of = phalanx_trust::sha256(of.as_bytes());
        let mut counts = self.0.lock();
        if let Some(count) = counts.iter_mut().find(|count| count.of == of) {
            count.tries = count.tries.saturating_sub(1);
        }
        // Or who tries later would learn from the end of his own window that its owner was here.
        counts.retain(|count| count.of != of || count.tries > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_counted_apart_until_the_window_is_over() {
        let throttle = Throttle::default();
        let account = |of: &str| Of::Account(of.to_owned());
        let try_it = |of: &str, now_ms| throttle.charge(&account(of), 3, now_ms).is_ok();
        for _ in 0..3 {
            assert!(try_it("alice", 0));
        }
        assert!(!try_it("alice", LOGIN_WINDOW_MS - 1));
        assert!(try_it("bob", 0));
        throttle.refund(&account("alice"));
        assert!(try_it("alice", 1) && !try_it("alice", 1));
        assert!(try_it("alice", LOGIN_WINDOW_MS));
    }

    #[test]
    fn names_made_up_push_out_no_count_that_stands_higher() {
        let throttle = Throttle::default();
        let network = Of::Other("network".to_owned());
        for _ in 0..3 {
            throttle.charge(&network, 3, 0).unwrap();
        }
        for n in 0..2 * LOGINS_COUNTED_MAX {
            throttle.charge(&Of::Other(format!("made up {n}")), 3, 0).unwrap();
        }
        assert!(throttle.charge(&network, 3, 0).is_err());
        assert!(throttle.others.0.lock().len() <= LOGINS_COUNTED_MAX);
    }

    #[test]
    fn tries_from_ever_new_networks_push_out_no_count_of_an_account() {
        let throttle = Throttle::default();
        let alice = Of::Account("alice".to_owned());
        for round in 0..3 {
            throttle.charge(&alice, 3, 0).unwrap();
            for n in 0..2 * LOGINS_COUNTED_MAX {
                throttle.charge(&Of::Other(format!("network {round} {n}")), 3, 0).unwrap();
            }
        }
        assert!(throttle.charge(&alice, 3, 0).is_err());
    }
}
