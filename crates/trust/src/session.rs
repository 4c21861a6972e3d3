//! Console access: single-use login tickets and the sessions they open. Only digests are kept, and never on disk.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phalanx_model::limits::{
    ENROL_TICKET_MS, LOGIN_TICKET_MS, LOGIN_TICKETS_MAX, OPERATORS_MAX, SESSION_IDLE_MS, SESSION_MS,
    SESSIONS_MAX, SESSIONS_PER_OPERATOR_MAX,
};
use subtle::ConstantTimeEq;

use crate::operators::Operator;
use crate::random_bytes;
use crate::token::digest;
use crate::totp::TotpSecret;

/// One-time links into the console.
#[derive(Default)]
pub struct LoginTickets(Mutex<Table<LoginFor>>);

/// What a login link opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginFor {
    /// A session without an account, as whoever made the link could act himself.
    Node,
    /// The account of an operator, to give it credentials.
    Enrolment(AccountAt),
}

/// An operator's account as it was at a moment: what was opened for it ends when it is no more that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountAt {
    /// The operator's id.
    pub operator: Arc<str>,
    /// The account's generation.
    pub generation: u64,
}

impl From<&Operator> for AccountAt {
    fn from(operator: &Operator) -> Self {
        Self { operator: operator.id.as_str().into(), generation: operator.generation }
    }
}

impl LoginTickets {
    /// A new ticket of 256 random bits, good once and for [`LOGIN_TICKET_MS`].
    pub fn issue(&self, now_ms: u64) -> String {
        lock(&self.0).issue(LoginFor::Node, now_ms, LOGIN_TICKET_MS, TICKETS_MAX)
    }

    /// A new ticket for an operator's enrolment, good once and for [`ENROL_TICKET_MS`]. Earlier ones for him are good no more.
    pub fn issue_enrolment(&self, account: AccountAt, now_ms: u64) -> String {
        self.withdraw(&account.operator);
        let what = LoginFor::Enrolment(account);
        lock(&self.0).issue(what, now_ms, ENROL_TICKET_MS, TICKETS_MAX)
    }

    /// Ends the tickets for an operator's enrolment.
    pub fn withdraw(&self, operator: &str) {
        let his = |what: &LoginFor| matches!(what, LoginFor::Enrolment(of) if *of.operator == *operator);
        lock(&self.0).entries.retain(|entry| !his(&entry.what));
    }

    /// What this ticket opens, if it was issued, is in time and was not used; it is used up by asking.
    pub fn redeem(&self, ticket: &str, now_ms: u64) -> Option<LoginFor> {
        let mut table = lock(&self.0);
        let place = table.find(ticket, now_ms)?;
        Some(table.entries.swap_remove(place).what)
    }
}

impl fmt::Debug for LoginTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginTickets({})", lock(&self.0).entries.len())
    }
}

/// Console sessions.
#[derive(Default)]
pub struct Sessions(Mutex<Table<Kept>>);

/// What a session lets a browser be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The operator's account as it was when the session was opened, or its holder last changed it; none of a login link.
    pub account: Option<AccountAt>,
    /// It may only give its account credentials.
    pub enrolling: bool,
    /// Names it to people; no secret.
    pub name: String,
    /// When it was opened, in Unix milliseconds.
    pub opened_at_ms: u64,
    /// When it was last used, in Unix milliseconds.
    pub seen_at_ms: u64,
    /// When its holder last proved himself by a second factor, in Unix milliseconds.
    pub proved_at_ms: u64,
    /// The identity provider that opened it, by its name in the settings.
    pub provider: Option<Arc<str>>,
}

impl Session {
    /// The operator's id; nobody's of a login link.
    pub fn operator(&self) -> Option<&str> {
        self.account.as_ref().map(|account| &*account.operator)
    }
}

/// A browser as it is told from others: loosely, because addresses and versions change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Browser {
    agent: [u8; 32],
    network: [u8; 6],
}

impl Browser {
    /// By its User-Agent and the network that it comes from: /16 of IPv4, /48 of IPv6.
    pub fn new(agent: &[u8], address: Option<IpAddr>) -> Self {
        let network = match address.map(|address| address.to_canonical()) {
            None => [0; 6],
            Some(IpAddr::V4(ip)) => {
                let [a, b, ..] = ip.octets();
                [0xff, 0xff, 0, 4, a, b]
            }
            Some(IpAddr::V6(ip)) => ip.octets().first_chunk().copied().unwrap_or_default(),
        };
        Self { agent: digest(agent), network }
    }
}

impl Sessions {
    /// Opens a session; its id of 256 random bits goes into the cookie. The one that ends first makes room when all are taken.
    pub fn open(&self, account: Option<AccountAt>, enrolling: bool, browser: Browser, now_ms: u64) -> String {
        let mut table = lock(&self.0);
        let operator = account.as_ref().map(|account| Arc::clone(&account.operator));
        let of_his =
            |entry: &Entry<Kept>| operator.is_some() && entry.what.session.operator() == operator.as_deref();
        while table.entries.iter().filter(|entry| of_his(entry)).count() >= SESSIONS_PER_OPERATOR_MAX {
            let oldest = table.entries.iter().position(of_his);
            let Some(oldest) = oldest else { break };
            table.entries.remove(oldest);
        }
        let session = Session {
            account,
            enrolling,
            name: data_encoding::HEXLOWER.encode(&random_bytes::<8>()),
            opened_at_ms: now_ms,
            seen_at_ms: now_ms,
            proved_at_ms: now_ms,
            provider: None,
        };
        let kept = Kept { session, browser, totp: None };
        table.issue(kept, now_ms, SESSION_MS, SESSIONS_MAX)
    }

    /// The session of this id, used now by this browser. One that another browser shows was stolen, and ends.
    pub fn enter(&self, id: &str, browser: Browser, now_ms: u64) -> Option<Session> {
        let mut table = lock(&self.0);
        let place = table.find(id, now_ms)?;
        let kept = &mut table.entries.get_mut(place)?.what;
        if kept.is_idle(now_ms) || kept.browser != browser {
            table.entries.remove(place);
            return None;
        }
        kept.session.seen_at_ms = now_ms;
        Some(kept.session.clone())
    }

    /// Whether a session of this id is open. That is no use of it.
    pub fn is_open(&self, id: &str, now_ms: u64) -> bool {
        let table = lock(&self.0);
        let kept = table.find(id, now_ms).and_then(|place| table.entries.get(place));
        kept.is_some_and(|entry| !entry.what.is_idle(now_ms))
    }

    /// Its holder has proved himself by a second factor.
    pub fn prove(&self, id: &str, now_ms: u64) {
        self.with(id, |kept| kept.session.proved_at_ms = now_ms);
    }

    /// An identity provider has opened it.
    pub fn opened_by(&self, id: &str, provider: &str) {
        self.with(id, |kept| kept.session.provider = Some(provider.into()));
    }

    /// Its holder has changed his account, which is this now; his other sessions are not told and end.
    pub fn follow(&self, id: &str, account: AccountAt) {
        self.with(id, |kept| kept.session.account = Some(account));
    }

    /// Remembers the secret that an operator is about to put into his app, for this session alone.
    pub fn offer_totp(&self, id: &str, secret: TotpSecret) {
        self.with(id, |kept| kept.totp = Some(secret));
    }

    /// The secret that was offered to this session.
    pub fn offered_totp(&self, id: &str) -> Option<TotpSecret> {
        self.with(id, |kept| kept.totp.clone())?
    }

    /// Those that are open, the oldest first.
    pub fn list(&self, now_ms: u64) -> Vec<Session> {
        let table = lock(&self.0);
        let open = table.entries.iter().filter(|e| now_ms < e.ends_at_ms && !e.what.is_idle(now_ms));
        open.map(|entry| entry.what.session.clone()).collect()
    }

    /// Ends a session.
    pub fn close(&self, id: &str) {
        let mut table = lock(&self.0);
        if let Some(place) = table.find(id, 0) {
            table.entries.remove(place);
        }
    }

    /// Ends a session by its name.
    pub fn close_named(&self, name: &str) {
        lock(&self.0).entries.retain(|entry| entry.what.session.name != name);
    }

    /// Ends all sessions of an operator.
    pub fn close_of(&self, operator: &str) {
        let his = |kept: &Kept| kept.session.operator() == Some(operator);
        lock(&self.0).entries.retain(|entry| !his(&entry.what));
    }

    /// Ends all sessions of an operator but the one of this id.
    pub fn close_others(&self, operator: &str, id: &str) {
        let mut table = lock(&self.0);
        let kept = table.find(id, 0).and_then(|place| table.entries.get(place)).map(|entry| entry.digest);
        let his = |entry: &Entry<Kept>| entry.what.session.operator() == Some(operator);
        table.entries.retain(|entry| !his(entry) || Some(entry.digest) == kept);
    }

    fn with<T>(&self, id: &str, change: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        let mut table = lock(&self.0);
        let place = table.find(id, 0)?;
        table.entries.get_mut(place).map(|entry| change(&mut entry.what))
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({})", lock(&self.0).entries.len())
    }
}

struct Kept {
    session: Session,
    browser: Browser,
    totp: Option<TotpSecret>,
}

impl Kept {
    fn is_idle(&self, now_ms: u64) -> bool {
        now_ms >= self.session.seen_at_ms.saturating_add(SESSION_IDLE_MS)
    }
}

/// Digests of random ids with their ends and what they stand for; a few thousand at most, so searched whole and in constant time
/// per entry.
struct Table<T> {
    entries: Vec<Entry<T>>,
}

struct Entry<T> {
    digest: [u8; 32],
    ends_at_ms: u64,
    what: T,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T> Table<T> {
    fn issue(&mut self, what: T, now_ms: u64, for_ms: u64, max: usize) -> String {
        self.entries.retain(|entry| now_ms < entry.ends_at_ms);
        if self.entries.len() >= max
            && let Some((first, _)) =
                self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.ends_at_ms)
        {
            self.entries.remove(first);
        }
        let id = data_encoding::HEXLOWER.encode(&random_bytes::<32>());
        let ends_at_ms = now_ms.saturating_add(for_ms);
        self.entries.push(Entry { digest: digest(id.as_bytes()), ends_at_ms, what });
        id
    }

    fn find(&self, id: &str, now_ms: u64) -> Option<usize> {
        let wanted = digest(id.as_bytes());
        let mut found = None;
        for (place, entry) in self.entries.iter().enumerate() {
            if bool::from(entry.digest.ct_eq(&wanted)) && now_ms < entry.ends_at_ms {
                found = Some(place);
            }
        }
        found
    }
}

fn lock<T>(table: &Mutex<Table<T>>) -> MutexGuard<'_, Table<T>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// With one for each operator beside, for when all are to begin anew.
const TICKETS_MAX: usize = LOGIN_TICKETS_MAX + OPERATORS_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn account(operator: &str) -> AccountAt {
        AccountAt { operator: operator.into(), generation: 1 }
    }

    fn opened(sessions: &Sessions, now_ms: u64) -> String {
        sessions.open(None, false, Browser::default(), now_ms)
    }

    #[test]
    fn a_ticket_is_good_once_and_for_ten_minutes() {
        let tickets = LoginTickets::default();
        let ticket = tickets.issue(1_000);
        assert_eq!(ticket.len(), 64);
        assert_eq!(tickets.redeem("no such ticket", 1_000), None);
        assert_eq!(tickets.redeem(&ticket, 1_000), Some(LoginFor::Node));
        assert_eq!(tickets.redeem(&ticket, 1_000), None);
        let late = tickets.issue(1_000);
        assert_eq!(tickets.redeem(&late, 1_000 + LOGIN_TICKET_MS), None);
    }

    #[test]
    fn an_operator_has_one_enrolment_ticket_until_it_is_withdrawn() {
        let tickets = LoginTickets::default();
        let first = tickets.issue_enrolment(account("a"), 0);
        let second = tickets.issue_enrolment(account("a"), 0);
        let other = tickets.issue_enrolment(account("b"), 0);
        assert_eq!(tickets.redeem(&first, 1), None);
        assert_eq!(tickets.redeem(&second, 1), Some(LoginFor::Enrolment(account("a"))));
        tickets.withdraw("b");
        assert_eq!(tickets.redeem(&other, 1), None);
    }

    #[test]
    fn a_session_ends_when_closed_idle_or_when_its_time_is_over() {
        let sessions = Sessions::default();
        let (one, two) = (opened(&sessions, 0), opened(&sessions, 0));
        assert!(sessions.is_open(&one, 0) && sessions.is_open(&two, 0));
        sessions.close(&one);
        assert!(!sessions.is_open(&one, 0));
        let mut now_ms = 0;
        while now_ms + SESSION_IDLE_MS - 1 < SESSION_MS {
            now_ms += SESSION_IDLE_MS - 1;
            assert!(sessions.enter(&two, Browser::default(), now_ms).is_some(), "{now_ms}");
        }
        assert!(sessions.enter(&two, Browser::default(), SESSION_MS).is_none());
        let idle = opened(&sessions, 0);
        assert!(sessions.is_open(&idle, SESSION_IDLE_MS - 1));
        assert!(!sessions.is_open(&idle, SESSION_IDLE_MS));
        assert!(sessions.enter(&idle, Browser::default(), SESSION_IDLE_MS).is_none());
    }

    #[test]
    fn a_session_ends_when_another_browser_shows_it() {
        let sessions = Sessions::default();
        let at = |agent: &str, address: &str| Browser::new(agent.as_bytes(), address.parse().ok());
        let mine = at("Firefox", "192.0.2.1");
        for (other, stays) in [
            (at("Firefox", "192.0.9.9"), true),
            (at("Firefox", "::ffff:192.0.2.7"), true),
            (at("curl", "192.0.2.1"), false),
            (at("Firefox", "198.51.100.1"), false),
            (at("Firefox", "2001:db8::1"), false),
        ] {
            let id = sessions.open(None, false, mine, 0);
            assert_eq!(sessions.enter(&id, other, 1).is_some(), stays, "{other:?}");
            assert_eq!(sessions.enter(&id, mine, 1).is_some(), stays, "{other:?}");
        }
    }

    #[test]
    fn sessions_of_an_operator_are_listed_bounded_and_end_together() {
        let sessions = Sessions::default();
        let open = || sessions.open(Some(account("a")), false, Browser::default(), 0);
        let first = open();
        for _ in 0..SESSIONS_PER_OPERATOR_MAX {
            open();
        }
        let others = opened(&sessions, 0);
        assert!(!sessions.is_open(&first, 0), "the oldest made room");
        let listed = sessions.list(1);
        assert_eq!(listed.len(), SESSIONS_PER_OPERATOR_MAX + 1);
        sessions.close_named(&listed.first().unwrap().name);
        assert_eq!(sessions.list(1).len(), SESSIONS_PER_OPERATOR_MAX);
        let kept = open();
        sessions.close_others("a", &kept);
        assert_eq!(sessions.list(1).len(), 2);
        assert!(sessions.is_open(&kept, 1) && sessions.is_open(&others, 1));
        sessions.close_of("a");
        assert_eq!(sessions.list(1).len(), 1);
        assert!(sessions.is_open(&others, 1));
    }

    #[test]
    fn sessions_are_limited_and_the_oldest_makes_room() {
        let sessions = Sessions::default();
        let first = opened(&sessions, 0);
        for at in 0..SESSIONS_MAX {
            opened(&sessions, u64::try_from(at).unwrap() + 1);
        }
        assert!(!sessions.is_open(&first, 1));
        assert_eq!(format!("{sessions:?}"), format!("Sessions({SESSIONS_MAX})"));
    }
}
