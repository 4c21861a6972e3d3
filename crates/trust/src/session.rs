//! Console access: single-use login tickets and the sessions they open. Only digests are kept, and never on disk.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use phalanx_model::limits::{LOGIN_TICKET_MS, LOGIN_TICKETS_MAX, SESSION_MS, SESSIONS_MAX};
use subtle::ConstantTimeEq;

use crate::random_bytes;
use crate::token::digest;

/// One-time links into the console.
#[derive(Default)]
pub struct LoginTickets(Mutex<Table>);

impl LoginTickets {
    /// A new ticket of 256 random bits, good once and for [`LOGIN_TICKET_MS`].
    pub fn issue(&self, now_ms: u64) -> String {
        lock(&self.0).issue(now_ms, LOGIN_TICKET_MS, LOGIN_TICKETS_MAX)
    }

    /// Whether this ticket was issued, is in time and was not used; it is used up by asking.
    pub fn redeem(&self, ticket: &str, now_ms: u64) -> bool {
        let mut table = lock(&self.0);
        match table.find(ticket, now_ms) {
            Some(place) => {
                table.entries.swap_remove(place);
                true
            }
            None => false,
        }
    }
}

impl fmt::Debug for LoginTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginTickets({})", lock(&self.0).entries.len())
    }
}

/// Console sessions.
#[derive(Default)]
pub struct Sessions(Mutex<Table>);

impl Sessions {
    /// Opens a session; its id of 256 random bits goes into the cookie. The one that ends first makes room when all are taken.
    pub fn open(&self, now_ms: u64) -> String {
        lock(&self.0).issue(now_ms, SESSION_MS, SESSIONS_MAX)
    }

    /// Whether a session of this id is open.
    pub fn is_open(&self, id: &str, now_ms: u64) -> bool {
        lock(&self.0).find(id, now_ms).is_some()
    }

    /// Ends a session.
    pub fn close(&self, id: &str) {
        let mut table = lock(&self.0);
        if let Some(place) = table.find(id, 0) {
            table.entries.swap_remove(place);
        }
    }

    /// Ends all sessions.
    pub fn close_all(&self) {
        lock(&self.0).entries.clear();
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({})", lock(&self.0).entries.len())
    }
}

/// Digests of random ids with their ends; short, so searched whole and in constant time per entry.
#[derive(Default)]
struct Table {
    entries: Vec<([u8; 32], u64)>,
}

impl Table {
    fn issue(&mut self, now_ms: u64, for_ms: u64, max: usize) -> String {
        self.entries.retain(|(_, ends_at_ms)| now_ms < *ends_at_ms);
        if self.entries.len() >= max
            && let Some(first) =
                self.entries.iter().enumerate().min_by_key(|(_, (_, ends))| *ends).map(|(place, _)| place)
        {
            self.entries.swap_remove(first);
        }
        let id = data_encoding::HEXLOWER.encode(&random_bytes::<32>());
        self.entries.push((digest(id.as_bytes()), now_ms.saturating_add(for_ms)));
        id
    }

    fn find(&self, id: &str, now_ms: u64) -> Option<usize> {
        let wanted = digest(id.as_bytes());
        let mut found = None;
        for (place, (digest, ends_at_ms)) in self.entries.iter().enumerate() {
            if bool::from(digest.ct_eq(&wanted)) && now_ms < *ends_at_ms {
                found = Some(place);
            }
        }
        found
    }
}

fn lock(table: &Mutex<Table>) -> std::sync::MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_for_ten_minutes() {
        let tickets = LoginTickets::default();
        let ticket = tickets.issue(1_000);
        assert_eq!(ticket.len(), 64);
        assert!(!tickets.redeem("no such ticket", 1_000));
        assert!(tickets.redeem(&ticket, 1_000));
        assert!(!tickets.redeem(&ticket, 1_000));
        let late = tickets.issue(1_000);
        assert!(!tickets.redeem(&late, 1_000 + LOGIN_TICKET_MS));
    }

    #[test]
    fn a_session_ends_when_closed_or_when_its_time_is_over() {
        let sessions = Sessions::default();
        let (one, two) = (sessions.open(0), sessions.open(0));
        assert!(sessions.is_open(&one, 0) && sessions.is_open(&two, 0));
        sessions.close(&one);
        assert!(!sessions.is_open(&one, 0));
        assert!(sessions.is_open(&two, SESSION_MS - 1));
        assert!(!sessions.is_open(&two, SESSION_MS));
    }

    #[test]
    fn sessions_are_limited_and_the_oldest_makes_room() {
        let sessions = Sessions::default();
        let first = sessions.open(0);
        for at in 0..SESSIONS_MAX {
            sessions.open(u64::try_from(at).unwrap() + 1);
        }
        assert!(!sessions.is_open(&first, 1));
        assert_eq!(format!("{sessions:?}"), format!("Sessions({SESSIONS_MAX})"));
    }
}
