//! Which session a request is of, and which account a session belongs to.
//!
//! A session is known by what the client has to show for it: the value of a cookie, of a declared header field, or a bearer token, as a
//! hash under the fleet's key. Nothing that a client merely claims (a claim in a token that nobody here verified) makes a session:
//! else anybody could speak in the name of another's.

use parking_lot::Mutex;
use phalanx_model::NameKey;
use phalanx_model::limits::SESSION_ACCOUNTS_MAX;
use phalanx_model::shape::mix;
use phalanx_policy::Accounts;

use crate::request::Request;

/// The session of a request, if it shows one. Costs nothing without cookies and tokens.
pub(crate) fn of_request(accounts: &Accounts, request: &Request, names: &NameKey) -> Option<u64> {
    let (head, known) = (&request.head, &request.known);
    let cookies = known.cookie.map(|field| head.bytes(field.value)).unwrap_or_default();
    if !cookies.is_empty()
        && let Some(session) = of_cookies(accounts, cookies)
    {
        return Some(of_value(session, names));
    }
    let shown = match &accounts.session_header {
        Some(name) => head.header(name)?,
        None => bearer(head.bytes(known.authorization?.value))?,
    };
    (!shown.is_empty()).then(|| of_value(shown, names))
}

/// The session that a token begins which an answer hands out: by what its client will show, where that is a token.
pub(super) fn of_token(accounts: &Accounts, token: &[u8], names: &NameKey) -> Option<u64> {
    accounts.session_header.is_none().then(|| of_value(token, names))
}

/// The session's value among the cookies of a `Cookie` field.
fn of_cookies<'a>(accounts: &Accounts, cookies: &'a [u8]) -> Option<&'a [u8]> {
    let named = cookies.split(|&byte| byte == b';').filter_map(name_and_value);
    let ranked = named.filter_map(|(name, value)| rank(accounts, name).map(|rank| (rank, value)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, value)| value)
}

/// The session that an answer begins, by the value of a `Set-Cookie` field, with its rank among several.
pub(super) fn begun(accounts: &Accounts, set_cookie: &[u8], names: &NameKey) -> Option<(usize, u64)> {
    let pair = set_cookie.split(|&byte| byte == b';').next()?;
    let (name, value) = name_and_value(pair)?;
    Some((rank(accounts, name)?, of_value(value, names)))
}

/// Name and value of a cookie; `None` for one that is empty, or is being deleted.
pub(super) fn name_and_value(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let pair = pair.trim_ascii();
    let (name, value) = pair.split_at_checked(pair.iter().position(|&byte| byte == b'=')?)?;
    let value = value.get(1..).unwrap_or_default();
    let is_gone = value.is_empty() || value == b"\"\"" || value.eq_ignore_ascii_case(b"deleted");
    (!is_gone).then_some((name, value))
}

/// How likely a cookie holds the session, 0 most; `None` if it does not.
fn rank(accounts: &Accounts, name: &[u8]) -> Option<usize> {
    let declared = &accounts.session_cookies;
    let is_it = |known: &String| match known.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == known.as_bytes(),
    };
    if let Some(place) = declared.iter().position(is_it) {
        return Some(place);
    }
    if !accounts.common_cookies {
        return None;
    }
    if COMMON.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return Some(declared.len());
    }
    let looks_like = name.windows(4).any(|part| part.eq_ignore_ascii_case(b"sess"))
        || name.len() >= 3 && name.iter().rev().zip(b"dis").all(|(byte, known)| byte | 0x20 == *known)
        || name.starts_with(b"wordpress_logged_in_");
    let is_of_others = OF_OTHERS.iter().any(|start| name.starts_with(start));
    (looks_like && !is_of_others).then_some(declared.len() + 1)
}

/// The token of `Bearer` credentials (RFC 6750 section 2.1).
fn bearer(credentials: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = credentials.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn of_value(value: &[u8], names: &NameKey) -> u64 {
    names.hash("session", value)
}

/// The accounts of sessions that began with a login here: at most [`SESSION_ACCOUNTS_MAX`]. In the set where a new one belongs the one
/// that was used least lately makes room; sets are chosen by keyed hashes, so nobody can aim at one.
#[derive(Debug)]
pub(super) struct SessionAccounts {
    /// Empty until something is put there.
    shards: [Mutex<Vec<Set>>; SHARDS],
}

type Set = [Owned; WAYS];

/// 0 in `session` is nobody.
#[derive(Debug, Clone, Copy, Default)]
struct Owned {
    session: u64,
    account: u64,
    used_s: u32,
}

impl Default for SessionAccounts {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl SessionAccounts {
    /// Remembers whose a session is.
    pub(super) fn put(&self, session: u64, account: u64, now_s: u32) {
        let (shard, place) = places(session);
        let Some(shard) = self.shards.get(shard) else { return };
        let mut sets = shard.lock();
        if sets.is_empty() {
            sets.resize(SETS, Set::default());
        }
        let Some(set) = sets.get_mut(place) else { return };
        let oldest = set.iter_mut().min_by_key(|one| (one.session != session, one.used_s));
        if let Some(one) = oldest {
            *one = Owned { session, account, used_s: now_s };
        }
    }

    /// Whose a session is.
    pub(super) fn get(&self, session: u64, now_s: u32) -> Option<u64> {
        let (shard, place) = places(session);
        let mut sets = self.shards.get(shard)?.lock();
        let owned = sets.get_mut(place)?.iter_mut().find(|one| one.session == session && session != 0)?;
        owned.used_s = now_s;
        Some(owned.account)
    }
}

/// Who owns a session, for the process that follows: session, account, when it was last used in Unix seconds.
pub type SessionOwner = (u64, u64, u32);

impl SessionAccounts {
    /// All that is known.
    pub(super) fn all(&self) -> Vec<SessionOwner> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let sets = shard.lock();
            let known = sets.iter().flatten().filter(|one| one.session != 0);
            all.extend(known.map(|one| (one.session, one.account, one.used_s)));
        }
        all
    }
}

fn places(session: u64) -> (usize, usize) {
    let mixed = usize::try_from(mix(session) >> 16).unwrap_or_default();
    (mixed % SHARDS, mixed / SHARDS % SETS)
}

const SHARDS: usize = 64;
const WAYS: usize = 8;
const SETS: usize = SESSION_ACCOUNTS_MAX / SHARDS / WAYS;

/// Session cookies of platforms whose names do not say so, and of those whose other cookies do as well.
const COMMON: [&[u8]; 12] = [
    b"PHPSESSID",
    b"JSESSIONID",
    b"connect.sid",
    b"sessionid",
    b"session",
    b"laravel_session",
    b"_session_id",
    b"ASP.NET_SessionId",
    b".AspNetCore.Session",
    b".AspNetCore.Cookies",
    b".AspNet.ApplicationCookie",
    b"__Secure-next-auth.session-token",
];
/// Those of programs in the page that count visits.
const OF_OTHERS: [&[u8]; 3] = [b"_hj", b"ai_", b"_ga"];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cookies: &str, accounts: &Accounts) -> Option<String> {
        of_cookies(accounts, cookies.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn the_session_is_in_the_cookie_that_usually_holds_it() {
        for (cookies, session) in [
            ("PHPSESSID=a", Some("a")),
            ("theme=dark; connect.sid=s%3Aab=.c", Some("s%3Aab=.c")),
            ("_hjSession_1=x; JSESSIONID=a", Some("a")),
            ("my_session=x; sessionid=a", Some("a")),
            ("wordpress_logged_in_5f=ann%7C1", Some("ann%7C1")),
            ("SSESS0123=a;b=c", Some("a")),
            ("app.SID=a", Some("a")),
            ("theme=dark", None),
            ("sessionid=; x", None),
            ("sid", None),
            ("inside=a", None),
            ("_ga_session=1", None),
        ] {
            assert_eq!(of(cookies, &Accounts::default()).as_deref(), session, "{cookies}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_session_or_none(cookies: Vec<u8>, credentials: Vec<u8>) {
            let _ = of_cookies(&Accounts::default(), &cookies);
            let _ = begun(&Accounts::default(), &cookies, &NameKey::new([0; 16]));
            let _ = bearer(&credentials);
        }
    }

    #[test]
    fn declared_cookies_count_in_their_order() {
        let declared = |common_cookies| Accounts {
            session_cookies: vec!["auth_*".into(), "sid".into()],
            common_cookies,
            ..Accounts::default()
        };
        assert_eq!(of("sid=b; auth_x=a; PHPSESSID=c", &declared(true)).as_deref(), Some("a"));
        assert_eq!(of("PHPSESSID=c; sid=b", &declared(true)).as_deref(), Some("b"));
        assert_eq!(of("PHPSESSID=c", &declared(true)).as_deref(), Some("c"));
        assert_eq!(of("PHPSESSID=c", &declared(false)), None);
    }

    #[test]
    fn a_bearer_token_is_one_and_other_credentials_are_none() {
        assert_eq!(bearer(b"Bearer abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic YTpi"), None);
        assert_eq!(bearer(b"Bearer"), None);
    }

    #[test]
    fn a_session_belongs_to_who_logged_in_last_and_the_table_stays_bounded() {
        let table = SessionAccounts::default();
        assert_eq!(table.get(5, 1), None);
        table.put(5, 50, 1);
        table.put(5, 51, 2);
        assert_eq!((table.get(5, 3), table.get(0, 3)), (Some(51), None));
        let many = 2 * SESSION_ACCOUNTS_MAX as u64;
        for session in 1_000..1_000 + many {
            table.put(session, session, 4);
        }
        let known = (1_000..1_000 + many).filter(|session| table.get(*session, 5) == Some(*session)).count();
        assert!(known > SESSION_ACCOUNTS_MAX * 9 / 10 && known <= SESSION_ACCOUNTS_MAX, "{known}");
    }

    #[test]
    fn what_one_process_knows_another_can_take_over() {
        let (old, new) = (SessionAccounts::default(), SessionAccounts::default());
        (1..=1_000).for_each(|session| old.put(session, session + 1, 7));
        let all = old.all();
        assert_eq!(all.len(), 1_000);
        all.iter().for_each(|&(session, account, used_s)| new.put(session, account, used_s));
        assert_eq!((new.get(5, 8), new.get(1_001, 8)), (Some(6), None));
    }

    #[test]
    fn what_is_used_stays() {
        let table = SessionAccounts::default();
        let same_set = |session: &u64| places(*session) == places(1);
        let of_set: Vec<u64> = (1..).filter(same_set).take(WAYS + 1).collect();
        for (second, session) in (1..).zip(&of_set[..WAYS]) {
            table.put(*session, 7, second);
        }
        assert_eq!(table.get(1, 100), Some(7));
        table.put(of_set[WAYS], 7, 101);
        assert_eq!((table.get(1, 102), table.get(of_set[1], 102)), (Some(7), None));
    }
}
