//! How an attempt ended, as its answer tells: by what policy declares, or as applications usually answer.
//!
//! Applications differ in one thing most: whether a page as the answer is the form once more, or what is behind the login. So it is
//! remembered for each path how it answered logins before ([`LoginPaths`]).

use parking_lot::Mutex;
use phalanx_model::NameKey;
use phalanx_model::deed::Outcome;
use phalanx_policy::{Accounts, Success};

use super::session;
use crate::http1::ResponseHead;

/// What an answer says of an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    response: Option<&'a ResponseHead>,
    status: u16,
    location: Option<&'a [u8]>,
    /// It is a page, for people.
    is_page: bool,
    /// The session that it begins; another one than the request's.
    pub(super) session: Option<u64>,
    /// The request was of a session.
    had_session: bool,
}

impl<'a> Answer<'a> {
    pub(super) fn of(
        response: &'a ResponseHead,
        accounts: &Accounts,
        before: Option<u64>,
        names: &NameKey,
    ) -> Self {
        let (mut location, mut is_page, mut begun) = (None, false, None);
        for (name, value) in response.headers() {
            if name.eq_ignore_ascii_case(b"location") {
                location = Some(value);
            } else if name.eq_ignore_ascii_case(b"content-type") {
                is_page = value.get(..9).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/html"));
            } else if name.eq_ignore_ascii_case(b"set-cookie")
                && let Some((rank, session)) = session::begun(accounts, value, names)
                && begun.is_none_or(|(known, _)| rank < known)
            {
                begun = Some((rank, session));
            }
        }
        let session = begun.map(|(_, session)| session).filter(|session| Some(*session) != before);
        let (status, had_session) = (response.status, before.is_some());
        Self { response: Some(response), status, location, is_page, session, had_session }
    }

    /// An outage and a limit say nothing about an attempt.
    fn tells(&self) -> bool {
        (200..500).contains(&self.status) && !matches!(self.status, 404 | 405 | 408 | 413 | 415 | 429)
    }

    fn sets_cookie(&self, name: &str) -> bool {
        let fields = self.response.iter().flat_map(|response| response.headers());
        let set = fields.filter(|(field, _)| field.eq_ignore_ascii_case(b"set-cookie"));
        set.filter_map(|(_, value)| session::name_and_value(value.split(|&byte| byte == b';').next()?))
            .any(|(set, _)| set == name.as_bytes())
    }

    /// Whether it leads back to a login, or to a word about what went wrong.
    fn leads_back(&self) -> bool {
        let location = self.location.unwrap_or_default();
        let query = location.iter().position(|&byte| byte == b'?').unwrap_or(location.len());
        let (path, query) = location.split_at_checked(query).unwrap_or((location, b""));
        location.is_empty() || has_word(path, &BACK) || has_word(query, &WRONG)
    }
}

/// By what policy says of success: all of it must hold, as far as the head tells.
pub(super) fn by_rule(success: &Success, answer: &Answer<'_>) -> Outcome {
    if !(200..500).contains(&answer.status) || answer.status == 429 {
        return Outcome::Unknown;
    }
    let Success { statuses, location, cookie, body: _ } = success;
    let leads = |place: &String| {
        let location = answer.location.unwrap_or_default();
        location.starts_with(place.as_bytes()) || path_of(location).starts_with(place.as_bytes())
    };
    let holds = (statuses.is_empty() || statuses.contains(&answer.status))
        && location.as_ref().is_none_or(leads)
        && cookie.as_ref().is_none_or(|name| answer.sets_cookie(name));
    if holds { Outcome::Passed } else { Outcome::Failed }
}

/// How a payment ended, as far as its answer tells: a page says nothing.
pub(super) fn of_payment(answer: &Answer<'_>) -> Outcome {
    match answer.status {
        400 | 402 | 403 | 409 | 422 => Outcome::Failed,
        300..400 if has_word(answer.location.unwrap_or_default(), &WRONG) => Outcome::Failed,
        201 | 300..400 => Outcome::Passed,
        _ => Outcome::Unknown,
    }
}

/// How logins were answered lately, by app and path, of at most `N` paths. What was asked least makes room.
#[derive(Debug, Default)]
pub(super) struct LoginPaths<const N: usize>(Mutex<Vec<Seen>>);

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    path: u64,
    answers: u32,
    /// Some led elsewhere: that is how it goes through here.
    leads_on: bool,
    /// Some were refusals by status: that is how it fails here.
    refuses: bool,
    /// Answers that began a session.
    sessions: u32,
}

impl<const N: usize> LoginPaths<N> {
    /// How a login ended; the answer is remembered.
    pub(super) fn judge(&self, path: u64, answer: &Answer<'_>) -> Outcome {
        if !answer.tells() {
            return Outcome::Unknown;
        }
        let mut paths = self.0.lock();
        let seen = match paths.iter().position(|seen| seen.path == path) {
            Some(place) => paths.get_mut(place),
            None if paths.len() < N => {
                paths.push(Seen::default());
                paths.last_mut()
            }
            None => paths.iter_mut().min_by_key(|seen| seen.answers),
        };
        let Some(seen) = seen else { return Outcome::Unknown };
        if seen.path != path {
            *seen = Seen { path, ..Seen::default() };
        }
        seen.note(answer);
        seen.judge(answer)
    }
}

impl Seen {
    fn note(&mut self, answer: &Answer<'_>) {
        self.answers = self.answers.saturating_add(1);
        self.sessions = self.sessions.saturating_add(u32::from(answer.session.is_some()));
        self.leads_on |= (300..400).contains(&answer.status) && !answer.leads_back();
        self.refuses |= is_refusal(answer.status);
    }

    /// An answer that begins a session tells nothing where nearly every one does.
    fn session_tells(&self) -> bool {
        self.answers < ANSWERS_LEAST || u64::from(self.sessions) * 10 < u64::from(self.answers) * 9
    }

    fn judge(&self, answer: &Answer<'_>) -> Outcome {
        let begins = answer.session.is_some() && self.session_tells();
        match answer.status {
            300..400 if answer.leads_back() => Outcome::Failed,
            300..400 => Outcome::Passed,
            status if is_refusal(status) => Outcome::Failed,
            // Another session than before, as it should be after a login. A client that came without one may have got its first.
            200..300 if begins && (answer.had_session || !answer.is_page) => Outcome::Passed,
            201 | 204 => Outcome::Passed,
            // The form once more, where who logs in is led elsewhere.
            200..300 if answer.is_page && (self.leads_on || answer.session.is_none()) => Outcome::Failed,
            200..300 if !answer.is_page && self.refuses => Outcome::Passed,
            _ => Outcome::Unknown,
        }
    }
}

fn is_refusal(status: u16) -> bool {
    matches!(status, 400 | 401 | 403 | 422 | 423)
}

/// Path and query of a place that may name its host.
fn path_of(location: &[u8]) -> &[u8] {
    let Some(at) = location.windows(3).position(|part| part == b"://") else { return location };
    let rest = location.get(at + 3..).unwrap_or_default();
    let path = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
    rest.get(path..).unwrap_or_default()
}

fn has_word(location: &[u8], words: &[&str]) -> bool {
    words
        .iter()
        .any(|word| location.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes())))
}

/// Where who did not get in is led.
const BACK: [&str; 5] = ["login", "signin", "sign_in", "sign-in", "error"];
/// What is said there.
const WRONG: [&str; 4] = ["error", "fail", "invalid", "denied"];
/// Fewer answers do not tell what is usual.
const ANSWERS_LEAST: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    use crate::http1::read_response_head;

    /// Status, fields, and the session of the request.
    type Told<'a> = (u16, &'a str, Option<&'a str>);

    fn with<T>((status, fields, cookie): Told<'_>, judge: impl FnOnce(&Answer<'_>) -> T) -> T {
        let raw = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: 0\r\n\r\n");
        let response = read_response_head(&mut BytesMut::from(raw.as_bytes()), false).unwrap().unwrap();
        let names = NameKey::new([1; 16]);
        let before = cookie.map(|value| names.hash("session", value.as_bytes()));
        judge(&Answer::of(&response, &Accounts::default(), before, &names))
    }

    const PAGE: &str = "Content-Type: text/html\r\n";
    const JSON: &str = "Content-Type: application/json\r\n";

    #[test]
    fn answers_tell_how_a_login_ended() {
        use Outcome::{Failed, Passed, Unknown};
        let set = |kind: &str, value: &str| format!("{kind}Set-Cookie: sid={value}; Path=/\r\n");
        let to = |place: &str| format!("Location: {place}\r\n");
        for (told, expected) in [
            // The form once more.
            ((200, PAGE.to_owned(), None), Failed),
            ((200, PAGE.to_owned(), Some("a")), Failed),
            ((200, set(PAGE, "a"), Some("a")), Failed),
            // The first session of a client that had none says nothing, another one than before does.
            ((200, set(PAGE, "b"), None), Unknown),
            ((200, set(PAGE, "b"), Some("a")), Passed),
            ((200, set(PAGE, "deleted"), Some("a")), Failed),
            ((302, to("/account"), None), Passed),
            ((303, to("https://shop.test/"), None), Passed),
            ((302, to("/login?error=1"), None), Failed),
            ((302, to("https://shop.test/users/sign_in"), None), Failed),
            ((302, to("/?error=credentials"), None), Failed),
            ((302, String::new(), None), Failed),
            ((401, JSON.to_owned(), None), Failed),
            ((422, PAGE.to_owned(), Some("a")), Failed),
            // An API that says nothing but "well" may say what it likes.
            ((200, JSON.to_owned(), None), Unknown),
            ((200, set(JSON, "b"), None), Passed),
            ((204, String::new(), None), Passed),
            ((503, PAGE.to_owned(), None), Unknown),
            ((429, PAGE.to_owned(), None), Unknown),
            ((404, PAGE.to_owned(), None), Unknown),
        ] {
            let fresh = LoginPaths::<4>::default();
            let outcome = with((told.0, &told.1, told.2), |answer| fresh.judge(1, answer));
            assert_eq!(outcome, expected, "{told:?}");
        }
    }

    #[test]
    fn how_a_path_answered_before_tells_more() {
        let paths = LoginPaths::<4>::default();
        let judge = |path, told| with(told, |answer| paths.judge(path, answer));
        let first = (200, "Content-Type: text/html\r\nSet-Cookie: sid=b\r\n", None);
        assert_eq!(judge(1, first), Outcome::Unknown);
        assert_eq!(judge(1, (302, "Location: /start\r\n", None)), Outcome::Passed);
        assert_eq!(judge(1, first), Outcome::Failed, "who logs in is led elsewhere");
        assert_eq!(judge(2, (200, JSON, None)), Outcome::Unknown);
        assert_eq!(judge(2, (401, JSON, None)), Outcome::Failed);
        assert_eq!(judge(2, (200, JSON, None)), Outcome::Passed);
    }

    #[test]
    fn a_session_in_every_answer_tells_nothing() {
        let paths = LoginPaths::<4>::default();
        let outcomes: Vec<_> = (0..60)
            .map(|turn| {
                let fields = format!("{PAGE}Set-Cookie: sid={turn}\r\n");
                with((200, &fields, Some("a")), |answer| paths.judge(1, answer))
            })
            .collect();
        assert_eq!((outcomes[0], outcomes[59]), (Outcome::Passed, Outcome::Unknown));
    }

    #[test]
    fn paths_that_are_asked_once_do_not_push_out_those_that_are_asked_often() {
        let paths = LoginPaths::<4>::default();
        let judge = |path, told| with(told, |answer| paths.judge(path, answer));
        for _ in 0..3 {
            judge(1, (401, JSON, None));
        }
        for path in 2..1_000 {
            judge(path, (200, JSON, None));
        }
        assert_eq!(judge(1, (200, JSON, None)), Outcome::Passed);
        assert_eq!(paths.0.lock().len(), 4);
    }

    #[test]
    fn what_is_declared_of_success_must_all_hold() {
        let success = |statuses: &[u16], location: Option<&str>, cookie: Option<&str>| Success {
            statuses: statuses.to_vec(),
            location: location.map(Into::into),
            cookie: cookie.map(Into::into),
            body: None,
        };
        let all = success(&[302], Some("/start"), Some("sid"));
        for (success, told, expected) in [
            (&all, (302, "Location: /start/1\r\nSet-Cookie: sid=1\r\n"), Outcome::Passed),
            (&all, (302, "Location: https://a.test/start\r\nSet-Cookie: sid=1\r\n"), Outcome::Passed),
            (&all, (302, "Location: /start\r\nSet-Cookie: other=1\r\n"), Outcome::Failed),
            (&all, (302, "Location: /login\r\nSet-Cookie: sid=1\r\n"), Outcome::Failed),
            (&all, (200, "Set-Cookie: sid=1\r\n"), Outcome::Failed),
            (&all, (503, "Location: /start\r\nSet-Cookie: sid=1\r\n"), Outcome::Unknown),
            (&all, (429, ""), Outcome::Unknown),
            (&success(&[200, 404], None, None), (404, ""), Outcome::Passed),
            (&success(&[], None, Some("sid")), (200, "Set-Cookie: sid=\r\n"), Outcome::Failed),
        ] {
            let outcome = with((told.0, told.1, None), |answer| by_rule(success, answer));
            assert_eq!(outcome, expected, "{success:?} {told:?}");
        }
    }

    #[test]
    fn answers_tell_how_a_payment_ended() {
        for (told, expected) in [
            ((402, ""), Outcome::Failed),
            ((302, "Location: /cart?error=card\r\n"), Outcome::Failed),
            ((302, "Location: /thanks\r\n"), Outcome::Passed),
            ((201, ""), Outcome::Passed),
            ((200, PAGE), Outcome::Unknown),
            ((502, ""), Outcome::Unknown),
        ] {
            assert_eq!(with((told.0, told.1, None), of_payment), expected, "{told:?}");
        }
    }
}
