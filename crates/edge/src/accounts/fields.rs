//! What the fields of a body say that a request tries, and with which account and secret.
//!
//! INVARIANT: what comes out are hashes.

use phalanx_model::NameKey;
use phalanx_model::deed::{Outcome, Step};
use phalanx_model::shape::mix;
use phalanx_policy::{AccountEndpoint, EndpointKind};

use super::{step_of, trimmed};

/// What a body tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) step: Step,
    pub(crate) account: Option<u64>,
    pub(crate) secret: Option<u16>,
}

impl Found {
    /// An attempt whose body nobody reads.
    pub(crate) fn unread(step: Step) -> Self {
        Self { step, account: None, secret: None }
    }
}

/// A body that policy says what it is. Where it names no field, the one counts that looks like it.
pub(crate) fn declared<'a>(
    endpoint: &AccountEndpoint,
    arguments: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    names: &NameKey,
) -> Found {
    let arguments = arguments.take(FIELDS_OF_DECLARED_MAX);
    let account = match &endpoint.account {
        Some(field) => account(values(arguments.clone(), |name| is_named(name, field.as_bytes())), names),
        None => account_like(arguments.clone(), names),
    };
    let secret = match (&endpoint.secret, endpoint.kind) {
        (Some(field), _) => values(arguments, |name| is_named(name, field.as_bytes())).next(),
        (None, EndpointKind::Login) => values(arguments, is_secret).next(),
        (None, EndpointKind::Payment) => card_like(arguments),
        (None, EndpointKind::Lookup) => None,
    };
    Found { step: step_of(endpoint.kind), account, secret: tag(secret, names) }
}

/// A body that looks like a login, a question about an account, or a payment.
pub(crate) fn recognised<'a>(
    path: &[u8],
    arguments: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    names: &NameKey,
) -> Option<Found> {
    if is_common_login(path) {
        // Whatever else is there: fields that nobody asked for hide no login.
        let arguments = arguments.take(FIELDS_OF_DECLARED_MAX);
        let secret = values(arguments.clone(), is_secret).next()?;
        let account = account_like(arguments, names)?;
        let (step, secret) = (Step::Login(Outcome::Unknown), tag(Some(secret), names));
        return Some(Found { step, account: Some(account), secret });
    }
    // Larger forms are none of these, and are not worth looking through.
    if arguments.clone().take(FIELDS_MAX + 1).count() > FIELDS_MAX {
        return None;
    }
    if let Some(card) = card_like(arguments.clone()) {
        let (step, secret) = (Step::Payment(Outcome::Unknown), tag(Some(card), names));
        return Some(Found { step, account: None, secret });
    }
    let account = Some(account_like(arguments.clone(), names)?);
    let lookup = Some(Found { step: Step::Lookup, account, secret: None });
    let mut secrets = values(arguments, is_secret);
    match (secrets.next(), secrets.next(), secrets.next()) {
        (Some(secret), None, _) if !is_about_accounts(path) => {
            let (step, secret) = (Step::Login(Outcome::Unknown), tag(Some(secret), names));
            Some(Found { step, account, secret })
        }
        // A registration asks for one twice, or once. With an old one it would be a change.
        (Some(_), None, _) => lookup,
        (Some(one), Some(other), None) if one == other => lookup,
        (None, ..) if is_about_accounts(path) => lookup,
        _ => None,
    }
}

/// Whether logins are usually sent to a path; for where bodies are not read.
pub(crate) fn is_common_login(path: &[u8]) -> bool {
    let path = trimmed(path);
    LOGIN_PATHS.iter().any(|known| path.eq_ignore_ascii_case(known.as_bytes()))
}

/// The hash of an account's name. Applications differ in which of several values of a field they take: with different ones it is the
/// hash of all, so that a constant one beside it hides no name.
fn account<'a>(values: impl Iterator<Item = &'a [u8]>, names: &NameKey) -> Option<u64> {
    let values = values.filter(|name| !name.trim_ascii().is_empty());
    let mut hashes = values.map(|name| names.account(&String::from_utf8_lossy(bounded(name))));
    let first = hashes.next()?;
    Some(hashes.fold(first, |all, one| if one == first { all } else { mix(all ^ one) }))
}

fn tag(secret: Option<&[u8]>, names: &NameKey) -> Option<u16> {
    secret.filter(|secret| !secret.is_empty()).map(|secret| names.tag(bounded(secret)))
}

/// The values of the fields whose names fit.
fn values<'a>(
    arguments: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    fits: impl Fn(&[u8]) -> bool,
) -> impl Iterator<Item = &'a [u8]> {
    arguments.filter(move |(name, _)| fits(name)).map(|(_, value)| value)
}

/// Whether a parsed name is a declared one: `user.email` is also `json.user.email` and `user[email]`.
fn is_named(name: &[u8], field: &[u8]) -> bool {
    let plain = name.strip_prefix(JSON).unwrap_or(name);
    if name == field || plain == field {
        return true;
    }
    let mut bytes = field.iter().copied();
    let mut bracketed = name.iter().copied().filter(|byte| *byte != b']');
    name.contains(&b'[')
        && bracketed.all(|byte| bytes.next() == Some(if byte == b'[' { b'.' } else { byte }))
        && bytes.next().is_none()
}

/// The account of the field that looks most like the one for its name.
fn account_like<'a>(
    arguments: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    names: &NameKey,
) -> Option<u64> {
    let field = ACCOUNT_WORDS.iter().find_map(|word| {
        let fits = |name: &[u8]| {
            let leaf = leaf(name);
            let is_it = match word {
                Word::In(word) => has(leaf, word),
                Word::All(word) => leaf.eq_ignore_ascii_case(word.as_bytes()),
            };
            is_it && !is_secret(name) && !NO_ACCOUNTS.iter().any(|word| has(leaf, word))
        };
        let is_it = |(name, value): &(&[u8], &[u8])| fits(name) && !value.trim_ascii().is_empty();
        arguments.clone().find(is_it).map(|(name, _)| name)
    })?;
    account(values(arguments, |name| name == field), names)
}

/// The value of the field that holds a card's number.
fn card_like<'a>(arguments: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<&'a [u8]> {
    let named = |name: &[u8]| CARD_WORDS.iter().any(|word| has_letters(name, word));
    let mut arguments = arguments;
    arguments.find(|(name, value)| named(name) && is_card(value)).map(|(_, value)| value)
}

fn is_secret(name: &[u8]) -> bool {
    let leaf = leaf(name);
    SECRET_WORDS.iter().any(|word| has(leaf, word)) || leaf.eq_ignore_ascii_case(b"pass")
}

/// The innermost name: of `user[email]` and `json.user.email` it is `email`.
fn leaf(name: &[u8]) -> &[u8] {
    let open = name.strip_suffix(b"]").unwrap_or(name);
    let last = open.rsplit(|byte| matches!(byte, b'[' | b'.' | b':')).find(|part| !part.is_empty());
    last.unwrap_or(name)
}

fn has(name: &[u8], word: &str) -> bool {
    name.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

/// The same for letters alone: `card-number`, `card_number` and `cardNumber` are one.
fn has_letters(name: &[u8], word: &str) -> bool {
    (0..name.len()).any(|from| {
        let letters = name.iter().skip(from).filter(|byte| byte.is_ascii_alphanumeric());
        letters.map(u8::to_ascii_lowercase).take(word.len()).eq(word.bytes())
    })
}

/// Whether a value can be a card's number: 12 to 19 digits, with spaces or dashes, whose last one checks the others (ISO/IEC 7812).
fn is_card(value: &[u8]) -> bool {
    if value.len() > CARD_BYTES_MAX {
        return false;
    }
    let (mut count, mut sum) = (0, 0);
    for byte in value.iter().rev().filter(|byte| !matches!(byte, b' ' | b'-')) {
        let digit = match byte {
            b'0'..=b'9' => u32::from(byte - b'0'),
            _ => return false,
        };
        sum += if count % 2 == 1 { digit * 2 / 10 + digit * 2 % 10 } else { digit };
        count += 1;
    }
    (12..=19).contains(&count) && sum % 10 == 0
}

/// Whether a path is about accounts that may not exist: resets, registrations.
fn is_about_accounts(path: &[u8]) -> bool {
    LOOKUP_WORDS.iter().any(|word| has_letters(path, word))
}

fn bounded(bytes: &[u8]) -> &[u8] {
    bytes.get(..VALUE_BYTES_MAX).unwrap_or(bytes)
}

/// How a word is looked for in a field's name.
enum Word {
    /// Anywhere.
    In(&'static str),
    /// As all of it.
    All(&'static str),
}

/// What parsers put before names of JSON.
const JSON: &[u8] = b"json.";
/// What names of accounts' fields hold, what says most first. WordPress has `log`.
const ACCOUNT_WORDS: [Word; 8] = [
    Word::In("email"),
    Word::In("user"),
    Word::In("login"),
    Word::In("account"),
    Word::All("log"),
    Word::All("phone"),
    Word::In("identifier"),
    Word::In("name"),
];
/// What is in forms beside them.
const NO_ACCOUNTS: [&str; 9] =
    ["csrf", "token", "redirect", "remember", "submit", "nonce", "captcha", "agent", "return"];
const SECRET_WORDS: [&str; 3] = ["passw", "pwd", "passphrase"];
const CARD_WORDS: [&str; 5] = ["cardnumber", "cardno", "ccnum", "ccno", "creditcard"];
const LOOKUP_WORDS: [&str; 8] =
    ["forgot", "resetpass", "passwordreset", "lostpass", "recover", "register", "signup", "registration"];
/// Where logins are usually sent.
const LOGIN_PATHS: [&str; 16] = [
    "/login",
    "/signin",
    "/sign-in",
    "/sign_in",
    "/session",
    "/sessions",
    "/wp-login.php",
    "/users/sign_in",
    "/user/login",
    "/account/login",
    "/accounts/login",
    "/admin/login",
    "/api/login",
    "/api/auth/login",
    "/api/v1/login",
    "/auth/login",
];
/// Fields of a form that is looked through for what they look like.
const FIELDS_MAX: usize = 48;
/// Fields that are looked through for a declared one: more than rule sets let pass as they come.
const FIELDS_OF_DECLARED_MAX: usize = 1_024;
/// Of longer names and secrets only the beginning counts.
const VALUE_BYTES_MAX: usize = 1_024;
const CARD_BYTES_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_policy::Success;

    fn names() -> NameKey {
        NameKey::new([3; 16])
    }

    fn find(path: &str, fields: &[(&str, &str)]) -> Option<Found> {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        recognised(path.as_bytes(), fields, &names())
    }

    #[test]
    fn forms_show_what_they_try() {
        let login = |account| Some((Step::Login(Outcome::Unknown), Some(account), true));
        let lookup = |account| Some((Step::Lookup, Some(account), false));
        for (path, fields, expected) in [
            ("/enter", &[("csrf", "x"), ("email", "ann"), ("password", "pw")][..], login("ann")),
            ("/any", &[("json.user.email", " Ann "), ("json.user.password", "pw")], login("ann")),
            ("/users/sign_in", &[("user[password]", "pw"), ("user[login]", "ann")], login("ann")),
            ("/wp-login.php", &[("log", "ann"), ("pwd", "pw"), ("redirect_to", "/")], login("ann")),
            ("/x", &[("login_token", "t"), ("username", "ann"), ("passwd", "pw")], login("ann")),
            ("/x", &[("user_name", "ann"), ("user_email", "a@b"), ("pass", "pw")], login("a@b")),
            ("/register", &[("email", "ann"), ("password", "pw")], lookup("ann")),
            ("/x", &[("email", "ann"), ("password", "pw"), ("password_again", "pw")], lookup("ann")),
            ("/forgot-password", &[("email", "ann")], lookup("ann")),
            ("/accounts/password/reset", &[("email", "ann")], lookup("ann")),
            ("/x", &[("email", "ann"), ("old_password", "a"), ("password", "b")], None),
            ("/x", &[("email", "ann"), ("old_password", "a"), ("password", "b"), ("password2", "b")], None),
            ("/contact", &[("email", "ann"), ("message", "hi")], None),
            ("/login", &[("password", "pw")], None),
            ("/login", &[("email", " "), ("password", "pw")], None),
            ("/search", &[("q", "password")], None),
        ] {
            let names = names();
            let found = find(path, fields).map(|found| (found.step, found.account, found.secret.is_some()));
            let expected = expected.map(|(step, account, secret): (Step, Option<&str>, bool)| {
                (step, account.map(|account| names.account(account)), secret)
            });
            assert_eq!(found, expected, "{path} {fields:?}");
        }
    }

    #[test]
    fn fields_that_nobody_asked_for_hide_no_login() {
        let of = |fields: &[(&str, &str)]| find("/login", fields).unwrap();
        let plain = of(&[("email", "ann"), ("password", "pw")]);
        let decoys: Vec<(String, &str)> = (0..100).map(|number| (format!("f{number}"), "x")).collect();
        let mut many: Vec<(&str, &str)> = decoys.iter().map(|(name, value)| (&**name, *value)).collect();
        many.extend([("email", "ann"), ("password", "pw"), ("passw2", "x")]);
        assert_eq!(of(&many), plain);
        assert_eq!(of(&[("email", "ann"), ("email", "Ann"), ("password", "pw")]), plain);
        // Whichever the application takes, two names are two accounts.
        let beside = |name| of(&[("email", "constant"), ("email", name), ("password", "pw")]).account;
        assert_ne!(beside("ann"), beside("bob"));
        assert_ne!(beside("ann"), of(&[("email", "constant"), ("password", "pw")]).account);
    }

    #[test]
    fn cards_are_known_by_their_digits() {
        for (name, value, pays) in [
            ("card[number]", "4111 1111 1111 1111", true),
            ("cardNumber", "4111 1111 1111 1111", true),
            ("payment[cc_number]", "4111-1111-1111-1111", true),
            ("json.card_number", "4111111111111111", true),
            ("card_number", "4111111111111112", false),
            ("order_number", "4111111111111111", false),
            ("card_number", "4111", false),
        ] {
            let found = find("/pay", &[(name, value)]);
            assert_eq!(found.is_some_and(|found| found.secret.is_some()), pays, "{name} {value}");
        }
    }

    #[test]
    fn what_is_declared_counts_whatever_it_looks_like() {
        let endpoint = AccountEndpoint {
            kind: EndpointKind::Login,
            path: "/token".into(),
            method: "POST".into(),
            account: Some("who.id".into()),
            secret: Some("pin".into()),
            success: Success::default(),
        };
        for (account, secret) in [("who.id", "pin"), ("json.who.id", "json.pin"), ("who[id]", "pin")] {
            let fields = [("email", "other"), (account, "ann"), (secret, "1234")];
            let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let found = declared(&endpoint, fields, &names());
            assert_eq!(found.account, Some(names().account("ann")), "{account}");
            assert_eq!(found.secret, Some(names().tag(b"1234")), "{secret}");
        }
        let found = declared(&endpoint, std::iter::empty(), &names());
        assert_eq!(found, Found::unread(Step::Login(Outcome::Unknown)));
    }

    #[test]
    fn a_form_of_very_many_fields_is_not_looked_through() {
        let many: Vec<(String, &str)> = (0..FIELDS_MAX).map(|number| (format!("f{number}"), "x")).collect();
        let mut fields: Vec<(&str, &str)> = many.iter().map(|(name, value)| (&**name, *value)).collect();
        fields.extend([("email", "ann"), ("password", "pw")]);
        assert_eq!(find("/enter", &fields), None);
    }

    proptest::proptest! {
        #[test]
        fn any_fields_are_an_attempt_or_none(
            path: Vec<u8>,
            fields in proptest::collection::vec((".{0,20}|user.{0,3}|passw.{0,3}|card_?number", ".{0,20}"), 0..6),
            declared_as in "[a-z.]{0,12}",
        ) {
            let of = || fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let _ = recognised(&path, of(), &names());
            // What is declared is found in each way that parsers write it.
            let bracketed = declared_as.replacen('.', "[", 1).replace('.', "][");
            let bracketed = if declared_as.contains('.') { bracketed + "]" } else { bracketed };
            for name in [declared_as.clone(), format!("json.{declared_as}"), bracketed] {
                proptest::prop_assert!(is_named(name.as_bytes(), declared_as.as_bytes()), "{} {}", name, declared_as);
            }
        }
    }

    #[test]
    fn common_logins_are_known_by_path() {
        assert!(is_common_login(b"/Login/") && is_common_login(b"/wp-login.php"));
        assert!(!is_common_login(b"/") && !is_common_login(b"/blog/login-tips"));
    }
}
