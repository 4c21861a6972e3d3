//! Which requests log in, and whether they did: as policy declares it, or as traffic shows.

use crate::event::Outcome;

/// A login as policy declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRule {
    /// The path, exactly.
    pub path: String,
    /// The field that holds the account's name.
    pub account_field: String,
    /// The field that holds the password.
    pub secret_field: String,
    /// What tells that it failed.
    pub failed: Sign,
}

/// What tells how a login ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// The answer has this status.
    Status(u16),
    /// The answer leads to a place that begins with this.
    LeadsTo(String),
    /// The answer sets no cookie of this name.
    WithoutCookie(String),
}

/// A request that may log in, and its answer.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path.
    pub path: &'a str,
    /// Names of the fields of its body.
    pub fields: &'a [&'a str],
    /// Status of the answer.
    pub status: u16,
    /// Where the answer leads, if elsewhere.
    pub location: Option<&'a str>,
    /// Names of the cookies that the answer sets.
    pub cookies: &'a [&'a str],
}

/// A login that was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login<'a> {
    /// The field that holds the account's name.
    pub account_field: &'a str,
    /// The field that holds the password.
    pub secret_field: &'a str,
    /// How it ended.
    pub outcome: Outcome,
}

/// The logins of one app. Learns of at most 64 paths.
#[derive(Debug, Default)]
pub struct Logins {
    rules: Vec<LoginRule>,
    learned: Vec<Learned>,
}

/// What a path's answers were: cookies say nothing where every answer sets one.
#[derive(Debug)]
struct Learned {
    path: String,
    answers: u32,
    with_cookie: u32,
}

impl Logins {
    /// With what policy declares.
    pub fn new(rules: Vec<LoginRule>) -> Self {
        Self { rules, learned: Vec::new() }
    }

    /// Whether a request logs in, and how that ended. A declared path is judged by its rule alone.
    pub fn recognise<'a>(&'a mut self, exchange: &Exchange<'a>) -> Option<Login<'a>> {
        if exchange.method != "POST" {
            return None;
        }
        let Self { rules, learned } = self;
        if let Some(rule) = rules.iter().find(|rule| rule.path == exchange.path) {
            let (account_field, secret_field) = (&*rule.account_field, &*rule.secret_field);
            return Some(Login { account_field, secret_field, outcome: rule.outcome(exchange) });
        }
        let secret_field = find(exchange.fields, &SECRET_FIELDS)?;
        let account_field = find(exchange.fields, &ACCOUNT_FIELDS)?;
        // Two passwords are a registration or a change.
        if exchange.fields.iter().filter(|field| is_like(field, &SECRET_FIELDS)).count() != 1 {
            return None;
        }
        let cookie_tells = cookie_tells(learned, exchange);
        Some(Login { account_field, secret_field, outcome: outcome(exchange, cookie_tells) })
    }
}

/// Counts an answer, and says whether a cookie in one tells something.
fn cookie_tells(paths: &mut Vec<Learned>, exchange: &Exchange<'_>) -> bool {
    let known = paths.iter().position(|learned| learned.path == exchange.path);
    if known.is_none() && paths.len() < LEARNED_MAX && exchange.path.len() <= PATH_BYTES_MAX {
        paths.push(Learned { path: exchange.path.to_owned(), answers: 0, with_cookie: 0 });
    }
    let place = known.unwrap_or(paths.len().saturating_sub(1));
    let Some(learned) = paths.get_mut(place).filter(|learned| learned.path == exchange.path) else {
        return true;
    };
    learned.answers = learned.answers.saturating_add(1);
    learned.with_cookie = learned.with_cookie.saturating_add(u32::from(!exchange.cookies.is_empty()));
    learned.answers < ANSWERS_LEAST || u64::from(learned.with_cookie) * 10 < u64::from(learned.answers) * 9
}

impl LoginRule {
    fn outcome(&self, exchange: &Exchange<'_>) -> Outcome {
        if !is_answer(exchange.status) {
            return Outcome::Unknown;
        }
        let failed = match &self.failed {
            Sign::Status(status) => exchange.status == *status,
            Sign::LeadsTo(place) => exchange.location.is_some_and(|location| location.starts_with(&**place)),
            Sign::WithoutCookie(name) => !exchange.cookies.contains(&&**name),
        };
        if failed { Outcome::Failed } else { Outcome::Passed }
    }
}

/// An outage and a limit say nothing about the password.
fn is_answer(status: u16) -> bool {
    (200..500).contains(&status) && status != 429
}

fn outcome(exchange: &Exchange<'_>, cookie_tells: bool) -> Outcome {
    let cookie = cookie_tells && !exchange.cookies.is_empty();
    let leads_back = exchange.location.map(|location| {
        let path = location.split(['?', '#']).next().unwrap_or_default();
        path.ends_with(exchange.path) || path.is_empty()
    });
    match (exchange.status, leads_back) {
        (status, _) if !is_answer(status) => Outcome::Unknown,
        (300..400, Some(true)) => Outcome::Failed,
        (300..400, Some(false)) => Outcome::Passed,
        (200..300, _) if cookie => Outcome::Passed,
        // A page without a new session is the form again. Where every answer sets a cookie, nothing can be told.
        (200, _) if cookie_tells => Outcome::Failed,
        (400 | 401 | 403 | 422, _) => Outcome::Failed,
        _ => Outcome::Unknown,
    }
}

fn find<'a>(fields: &'a [&'a str], words: &[&str]) -> Option<&'a str> {
    fields.iter().find(|field| is_like(field, words)).copied()
}

fn is_like(field: &str, words: &[&str]) -> bool {
    let field = field.as_bytes();
    words.iter().any(|word| field.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes())))
}

const SECRET_FIELDS: [&str; 3] = ["passw", "pwd", "passphrase"];
const ACCOUNT_FIELDS: [&str; 5] = ["user", "login", "email", "account", "name"];
const LEARNED_MAX: usize = 64;
const PATH_BYTES_MAX: usize = 256;
const ANSWERS_LEAST: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Exchange<'_> = Exchange {
        method: "POST",
        path: "/login",
        fields: &["csrf", "email", "password"],
        status: 200,
        location: None,
        cookies: &[],
    };

    fn learned(exchange: Exchange<'_>) -> Option<Outcome> {
        Logins::default().recognise(&exchange).map(|login| login.outcome)
    }

    #[test]
    fn answers_tell_how_a_login_ended() {
        let to = |location| Exchange { status: 302, location: Some(location), ..FORM };
        for (exchange, outcome) in [
            (FORM, Outcome::Failed),
            (Exchange { status: 401, ..FORM }, Outcome::Failed),
            (Exchange { cookies: &["sid"], ..FORM }, Outcome::Passed),
            (to("/account"), Outcome::Passed),
            (to("/login?error=1"), Outcome::Failed),
            (Exchange { status: 503, ..FORM }, Outcome::Unknown),
            (Exchange { status: 429, ..FORM }, Outcome::Unknown),
        ] {
            assert_eq!(learned(exchange), Some(outcome), "{exchange:?}");
        }
    }

    #[test]
    fn other_forms_are_no_logins() {
        let fields = |fields| Exchange { fields, ..FORM };
        for exchange in [
            Exchange { method: "GET", ..FORM },
            fields(&["q"]),
            fields(&["email", "message"]),
            fields(&["email", "password", "password_again"]),
        ] {
            assert_eq!(learned(exchange), None, "{exchange:?}");
        }
    }

    #[test]
    fn a_cookie_in_every_answer_tells_nothing() {
        let mut logins = Logins::default();
        let exchange = Exchange { cookies: &["visitor"], ..FORM };
        let outcomes: Vec<_> = (0..60).map(|_| logins.recognise(&exchange).unwrap().outcome).collect();
        assert_eq!((outcomes[0], outcomes[59]), (Outcome::Passed, Outcome::Unknown));
    }

    #[test]
    fn what_is_declared_counts() {
        let rule = LoginRule {
            path: "/api/token".into(),
            account_field: "u".into(),
            secret_field: "p".into(),
            failed: Sign::WithoutCookie("sid".into()),
        };
        let mut logins = Logins::new(vec![rule]);
        let exchange = Exchange { path: "/api/token", fields: &["u", "p"], ..FORM };
        let mut outcome = |exchange: &Exchange<'_>| logins.recognise(exchange).unwrap().outcome;
        assert_eq!(outcome(&exchange), Outcome::Failed);
        assert_eq!(outcome(&Exchange { cookies: &["other"], ..exchange }), Outcome::Failed);
        assert_eq!(outcome(&Exchange { cookies: &["sid"], ..exchange }), Outcome::Passed);
    }
}
