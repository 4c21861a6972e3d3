//! Secrets taken out of what is about to be kept: the second line of defence behind the data plane, which masks
//! what it copies. Works on names (`password`, `Authorization`, `sid`) and on shapes (`Bearer ...`, `//user:pass@`).
//!
//! It errs on the side of masking: evidence that reads `[masked]` is a nuisance, a leaked password is an incident.

use std::borrow::Cow;

use phalanx_model::{AccessEvent, RuleMatch, Signal};

/// What stands where a secret was.
pub const MASK: &str = "[masked]";

/// Masks secrets in everything of a request that is kept.
pub fn request(access: &mut AccessEvent, signals: &mut [Signal]) {
    for text in [&mut access.target, &mut access.referer, &mut access.user_agent, &mut access.host] {
        mask_in_place(text);
    }
    for signal in signals {
        let mut secret = false;
        for one in &mut signal.matches {
            secret |= rule_match(one);
        }
        // Rules copy the matched value into message and data ("Matched Data: ... found within ARGS:password: ...").
        if secret || mentions_secret_variable(&signal.data) {
            MASK.clone_into(&mut signal.data);
        }
        if mentions_secret_variable(&signal.message) {
            MASK.clone_into(&mut signal.message);
        }
        mask_in_place(&mut signal.data);
        mask_in_place(&mut signal.message);
    }
}

/// Whether a header, cookie or field of this name holds a secret. Case, separators and percent-encoding do not matter.
pub fn is_secret_name(name: &str) -> bool {
    let name = decoded_lower(name);
    // The last component of `user[password]`, `json.login.password`, `user-password` decides, or the whole name.
    let whole: String = name.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    if SECRET_PARTS.iter().any(|part| whole.contains(part)) {
        return true;
    }
    let words = || name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    SECRET_WORDS.iter().any(|word| whole == *word || words().next_back() == Some(*word))
}

/// Masks the values of secret fields and the credentials found in a text of any kind: a query string, a form, JSON,
/// a header line, a URL.
pub fn mask_text(text: &str) -> Cow<'_, str> {
    let mut spans = Vec::new();
    pairs(text, &mut spans);
    schemes(text, &mut spans);
    userinfo(text, &mut spans);
    if spans.is_empty() {
        return Cow::Borrowed(text);
    }
    spans.sort_unstable();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (start, end) in spans {
        if end <= at {
            continue;
        }
        out.push_str(text.get(at..start.max(at)).unwrap_or_default());
        // Overlapping finds share one mask.
        if start >= at {
            out.push_str(MASK);
        }
        at = end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    Cow::Owned(out)
}

fn mask_in_place(text: &mut String) {
    if let Cow::Owned(masked) = mask_text(text) {
        *text = masked;
    }
}

/// Masks one match; true if its variable is secret as a whole.
fn rule_match(one: &mut RuleMatch) -> bool {
    let selector = one.variable.split_once(':').map(|(_, selector)| selector).unwrap_or_default();
    let cookie = one.variable.starts_with("REQUEST_COOKIES") && !selector.is_empty();
    let secret = cookie && !one.variable.starts_with("REQUEST_COOKIES_NAMES") || is_secret_name(selector);
    if secret {
        MASK.clone_into(&mut one.fragment);
    } else {
        mask_in_place(&mut one.fragment);
    }
    // The selector itself is a stranger's text: a name such as `a=1&password=x` is possible.
    mask_in_place(&mut one.variable);
    secret
}

/// Whether a text names a secret variable, as in `found within REQUEST_COOKIES:sid: value`.
fn mentions_secret_variable(text: &str) -> bool {
    text.match_indices(':').any(|(colon, _)| {
        let before = text.get(..colon).unwrap_or_default();
        let after = text.get(colon + 1..).unwrap_or_default();
        let collection =
            before.rsplit(|c: char| !(c.is_ascii_uppercase() || c == '_')).next().unwrap_or_default();
        let selector = after.split([':', ' ', ',']).next().unwrap_or_default();
        collection.starts_with("REQUEST_COOKIES") && !selector.is_empty()
            || (COLLECTIONS.contains(&collection) && is_secret_name(selector))
    })
}

/// Finds `name=value`, `"name": "value"`, `Name: value` and `name="field"` + part body, where the name is secret.
fn pairs(text: &str, spans: &mut Vec<(usize, usize)>) {
    // What lies inside a value already found is masked with it; looking again would be quadratic.
    let mut done = 0;
    for (at, delimiter) in text.match_indices(['=', ':']) {
        if at < done {
            continue;
        }
        let before = text.get(..at).unwrap_or_default().trim_end_matches([' ', '"', '\'', '\\']);
        let start = before.rfind(|c: char| !is_name_char(c)).map_or(0, |i| i + char_len(before, i));
        let name = before.get(start..).unwrap_or_default();
        let value_at = at + delimiter.len();
        let span = if name.eq_ignore_ascii_case("name") {
            part_body(text, value_at)
        } else if is_secret_name(name) {
            Some(value_span(text, value_at, delimiter == ":"))
        } else {
            None
        };
        if let Some(span) = span.filter(|(start, end)| start < end) {
            done = span.1;
            spans.push(span);
        }
    }
}

/// The extent of a value that starts after a delimiter: up to its closing quote, or to what ends an unquoted one.
fn value_span(text: &str, from: usize, header: bool) -> (usize, usize) {
    let rest = text.get(from..).unwrap_or_default();
    let value = rest.trim_start_matches([' ', '\\']);
    let mut start = from + (rest.len() - value.len());
    let mut chars = value.char_indices();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    if let Some(quote) = quote {
        chars.next();
        start += quote.len_utf8();
        let mut escaped = false;
        for (i, c) in chars {
            if c == quote && !escaped {
                // The start moved past the quote, `i` did not.
                return (start, start + i - quote.len_utf8());
            }
            escaped = c == '\\' && !escaped;
        }
        return (start, text.len());
    }
    let ends = |c: char| match c {
        '\r' | '\n' => true,
        // A header's value runs to the end of its line: cookies and credentials hold spaces and semicolons.
        _ if header => false,
        '&' | ' ' | '\t' | '"' | '\'' | '<' | '>' | '}' | ']' => true,
        _ => false,
    };
    (start, start + value.find(ends).unwrap_or(value.len()))
}

/// The body of a multipart part whose `name` is secret.
fn part_body(text: &str, from: usize) -> Option<(usize, usize)> {
    let rest = text.get(from..)?;
    let name = rest.trim_start_matches('"').split(['"', ';', '\r', '\n']).next()?;
    if !is_secret_name(name) {
        return None;
    }
    // The header lines of a part are short; a blank line further away belongs to something else.
    let near =
        rest.char_indices().nth(PART_HEAD_CHARS_MAX).map_or(rest, |(i, _)| rest.get(..i).unwrap_or_default());
    let blank = ["\r\n\r\n", "\n\n"].iter().filter_map(|b| Some(near.find(b)? + b.len())).min()?;
    let body = rest.get(blank..)?;
    let end = body.find("\n--").unwrap_or(body.len());
    (end > 0).then_some((from + blank, from + blank + end))
}

/// Finds the credentials after `Bearer`, `Basic`, `Digest` and the like, and JSON Web Tokens standing alone.
fn schemes(text: &str, spans: &mut Vec<(usize, usize)>) {
    let lower = text.to_ascii_lowercase();
    for scheme in ["bearer ", "basic ", "digest ", "negotiate ", "bearer%20", "basic%20", "bearer+", "basic+"]
    {
        let mut done = 0;
        for (at, found) in lower.match_indices(scheme) {
            let start = at + found.len();
            if at < done {
                continue;
            }
            let rest = text.get(start..).unwrap_or_default();
            let length = rest.find(|c: char| !is_token_char(c)).unwrap_or(rest.len());
            done = start + length;
            // Words such as "basic idea" are shorter than any credential.
            if length >= 6 {
                spans.push((start, start + length));
            }
        }
    }
    let mut done = 0;
    for (at, _) in text.match_indices("eyJ") {
        if at < done {
            continue;
        }
        let rest = text.get(at..).unwrap_or_default();
        let length = rest.find(|c: char| !is_token_char(c)).unwrap_or(rest.len());
        done = at + length;
        if rest.get(..length).is_some_and(|token| token.matches('.').count() == 2) {
            spans.push((at, at + length));
        }
    }
}

/// Finds the `user:password` of `scheme://user:password@host`.
fn userinfo(text: &str, spans: &mut Vec<(usize, usize)>) {
    for (at, found) in text.match_indices("//") {
        let start = at + found.len();
        let rest = text.get(start..).unwrap_or_default();
        let end = rest.find(['/', '?', '#', ' ', '"', '<', '\r', '\n']).unwrap_or(rest.len());
        let authority = rest.get(..end).unwrap_or_default();
        if let Some(sign) = authority.rfind('@')
            && authority.get(..sign).is_some_and(|user| user.contains(':'))
        {
            spans.push((start, start + sign));
        }
    }
}

fn decoded_lower(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
        if first == b'%'
            && let (Some(high), Some(low)) = (hex(tail.first()), hex(tail.get(1)))
        {
            bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
            rest = tail.get(2..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).to_lowercase()
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']' | '%' | '$')
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '+' | '/' | '=' | '%')
}

fn char_len(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
}

const PART_HEAD_CHARS_MAX: usize = 512;

/// A name that holds one of these anywhere is secret.
const SECRET_PARTS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "authorization",
    "credential",
    "cookie",
    "sessionid",
    "sessid",
    "signature",
    "creditcard",
    "cardnumber",
    "securitycode",
];

/// A name that is, or ends in, one of these words is secret.
const SECRET_WORDS: &[&str] = &[
    "pass",
    "pwd",
    "pw",
    "pin",
    "otp",
    "totp",
    "mfa",
    "auth",
    "jwt",
    "sid",
    "session",
    "cvv",
    "cvc",
    "ssn",
    "iban",
    "csrf",
    "xsrf",
    "assertion",
    "samlresponse",
    "sig",
    "passcode",
];

/// Collections whose selectors are names of fields and headers.
const COLLECTIONS: &[&str] = &[
    "ARGS",
    "ARGS_GET",
    "ARGS_POST",
    "ARGS_NAMES",
    "REQUEST_HEADERS",
    "RESPONSE_HEADERS",
    "JSON",
    "XML",
    "FILES",
    "MULTIPART_PART_HEADERS",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(input: &str, expected: &str) {
        assert_eq!(mask_text(input), expected, "{input}");
    }

    #[test]
    fn secret_fields_are_masked_in_every_notation() {
        check("/login?user=ann&password=hunter2&x=1", "/login?user=ann&password=[masked]&x=1");
        check("/p?user%5Bpass%77ord%5D=hunter2", "/p?user%5Bpass%77ord%5D=[masked]");
        check("user[password]=hunter2", "user[password]=[masked]");
        check(
            r#"{"user":"ann","password": "hun\"ter2","n":1}"#,
            r#"{"user":"ann","password": "[masked]","n":1}"#,
        );
        check("{\\\"password\\\":\\\"hunter2\\\"}", "{\\\"password\\\":\\\"[masked]");
        check("Cookie: a=1; sid=2\r\nAccept: */*", "Cookie: [masked]\r\nAccept: */*");
        check("Authorization: Basic dXNlcjpwYXNz", "Authorization: [masked]");
        check(
            "Content-Disposition: form-data; name=\"pwd\"\r\n\r\nhunter2\r\n--b",
            "Content-Disposition: form-data; name=\"pwd\"\r\n\r\n[masked]\n--b",
        );
        check("pw='unfinished", "pw='[masked]");
    }

    #[test]
    fn credentials_are_masked_by_their_shape() {
        check("x Bearer abc.def-ghi y", "x Bearer [masked] y");
        check("https://ann:hunter2@shop/", "https://[masked]@shop/");
        check("v=eyJhbGciOi.eyJzdWIi.c2ln", "v=[masked]");
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in
            ["/search?q=passport+photo", "1' or '1'='1", "/a?passenger=2&page=3", "a basic idea", "//cdn@2/x"]
        {
            assert!(matches!(mask_text(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn names_are_judged_by_their_meaning() {
        for name in [
            "Authorization",
            "X-Api-Key",
            "user[pass]",
            "json.login.pwd",
            "PHPSESSID",
            "access_token",
            "Set-Cookie",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["q", "passenger", "author", "page", "spinning", "comment", ""] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn rule_data_about_a_secret_variable_is_masked() {
        assert!(mentions_secret_variable("Matched Data: x found within ARGS:password: x"));
        assert!(mentions_secret_variable("found within REQUEST_COOKIES:theme: x"));
        assert!(!mentions_secret_variable("Matched Data: x found within ARGS:q: x"));
    }

    proptest! {
        #[test]
        fn any_text_can_be_masked(text in any::<String>(), tail in "[=:\"'&\\\\ \r\n-]{0,6}") {
            let _ = mask_text(&format!("{text}password{tail}{text}"));
        }

        #[test]
        fn a_marked_password_never_survives(value in "[a-zA-Z0-9!$*]{8,20}", other in "[a-z]{0,8}") {
            prop_assume!(!other.contains(&value));
            for text in [
                format!("/x?a={other}&password={value}&b={other}"),
                format!("{{\"a\":\"{other}\",\"password\":\"{value}\"}}"),
                format!("Authorization: Bearer {value}"),
            ] {
                prop_assert!(!mask_text(&text).contains(&value));
            }
        }
    }
}
