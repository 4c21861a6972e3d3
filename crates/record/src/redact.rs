//! Secrets taken out of what is about to be kept: the second line of defence behind the data plane, which masks
//! what it copies. Works on names (`password`, `Authorization`, `sid`) and on shapes (`Bearer ...`, `//user:pass@`).
//!
//! It errs on the side of masking: evidence that reads `[masked]` is a nuisance, a leaked password is an incident.

use std::borrow::Cow;
use std::sync::LazyLock;

use phalanx_model::secret::is_secret_name;
use phalanx_model::{AccessEvent, RuleMatch, Signal};

/// What stands where a secret was.
pub const MASK: &str = "[masked]";

/// Masks secrets in everything of a request that is kept.
pub fn request(access: &mut AccessEvent, signals: &mut [Signal]) {
    for text in [&mut access.target, &mut access.referer, &mut access.user_agent, &mut access.host] {
        mask_in_place(text);
    }
    access.forwarded_id.iter_mut().for_each(mask_in_place);
    let fields = access.audit.iter_mut().flat_map(|audit| {
        let audit = audit.as_mut();
        audit.request_fields.iter_mut().chain(&mut audit.response_fields)
    });
    for (name, value) in fields {
        if is_secret_name(name.as_bytes()) {
            MASK.clone_into(value);
        } else {
            mask_in_place(value);
        }
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

/// Masks the values of secret fields and the credentials found in a text of any kind: a query string, a form, JSON,
/// a header line, a URL.
pub fn mask_text(text: &str) -> Cow<'_, str> {
    let mut spans = find(text);
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
    let secret =
        cookie && !one.variable.starts_with("REQUEST_COOKIES_NAMES") || is_secret_name(selector.as_bytes());
    let steps = one.steps.iter_mut().filter_map(|step| step.value.as_mut());
    let forms = one.value.iter_mut().chain(steps);
    if secret {
        MASK.clone_into(&mut one.fragment);
        forms.for_each(|form| MASK.clone_into(form));
    } else {
        mask_in_place(&mut one.fragment);
        mask_forms(forms);
    }
    // The selector itself is a stranger's text: a name such as `a=1&password=x` is possible.
    mask_in_place(&mut one.variable);
    secret
}

/// Masks the forms of one value. A secret seen in one of them is in all, though an encoding may hide it from the mask: those
/// in which nothing was masked are then left out.
fn mask_forms<'a>(forms: impl Iterator<Item = &'a mut String>) {
    let mut plain = Vec::new();
    let mut any = false;
    for form in forms {
        match mask_text(form) {
            Cow::Owned(masked) => {
                *form = masked;
                any = true;
            }
            Cow::Borrowed(_) => plain.push(form),
        }
    }
    if any {
        // What the engine masked already stays: it says how much there was.
        plain.into_iter().filter(|form| !form.contains("[masked")).for_each(|form| MASK.clone_into(form));
    }
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
            || (COLLECTIONS.contains(&collection) && is_secret_name(selector.as_bytes()))
    })
}

/// Finds secrets, also those that show only once what is percent-encoded is decoded: `?next=%2Freset%3Ftoken%3D...`.
pub(crate) fn find(text: &str) -> Vec<(usize, usize)> {
    let mut spans = find_written(text);
    if text.contains('%') {
        let mut at = 0;
        for run in text.split(ends_value) {
            let encoded = run.contains('%').then(|| encoded_secret(run)).flatten();
            spans.extend(encoded.map(|(start, end)| (at + start, at + end)));
            // What ends a value is one byte.
            at += run.len() + 1;
        }
    }
    spans
}

/// The part of a run of text that holds a secret once it is decoded: what follows its name, else all of it.
fn encoded_secret(run: &str) -> Option<(usize, usize)> {
    let mut decoded = Cow::Borrowed(run.as_bytes());
    for _ in 0..DECODED_TIMES {
        decoded = Cow::Owned(percent_decoded(&decoded)?);
        let text: String =
            decoded.iter().map(|&byte| if byte.is_ascii() { char::from(byte) } else { '?' }).collect();
        if !find_written(&text).is_empty() {
            // Before the `=` of `//user:pw=...` is more than a name.
            let name = run.find('=').filter(|&at| run.get(..at).is_some_and(|name| !name.contains("//")));
            return Some((name.map_or(0, |at| at + 1), run.len()));
        }
    }
    None
}

/// Finds secrets as they are written, in one pass over the bytes; most texts hold none, and each request has several texts.
fn find_written(text: &str) -> Vec<(usize, usize)> {
    let mut spans = Vec::new();
    // What lies inside a value already looked at is not looked at again: that would be quadratic.
    let (mut pair_done, mut token_done, mut from) = (0, 0, 0);
    while let Some((at, byte)) = next_telling(text.as_bytes(), from) {
        from = at + 1;
        let found = match byte {
            b'=' | b':' if at >= pair_done => {
                let found = pair(text, at, byte == b':');
                pair_done = found.map_or(pair_done, |(_, end)| end);
                found
            }
            b'/' => userinfo(text, at).or_else(|| path_token(text, at)),
            b' ' | b'+' | b'%' if at >= token_done => {
                let (found, end) = credentials(text, at);
                token_done = token_done.max(end);
                found
            }
            b'J' if at >= token_done => {
                let (found, end) = web_token(text, at);
                token_done = token_done.max(end);
                found
            }
            _ => None,
        };
        spans.extend(found.filter(|(start, end)| start < end));
    }
    spans
}

/// The next byte beside which a secret may stand: what divides names from values, `//` of URLs, what follows `Bearer`, and the third
/// letter of a JSON Web Token.
fn next_telling(bytes: &[u8], from: usize) -> Option<(usize, u8)> {
    static TELLING: LazyLock<[bool; 256]> = LazyLock::new(|| {
        std::array::from_fn(|byte| u8::try_from(byte).is_ok_and(|byte| b"=:/ +%J".contains(&byte)))
    });
    let telling = &*TELLING;
    let is_telling = |byte: &u8| telling.get(usize::from(*byte)).copied().unwrap_or(true);
    let at = from + bytes.get(from..)?.iter().position(is_telling)?;
    Some((at, *bytes.get(at)?))
}

/// The value of `name=value`, `"name": "value"`, `Name: value` or of the part `name="field"`, where the name is secret
/// and the delimiter stands at `at`.
fn pair(text: &str, at: usize, colon: bool) -> Option<(usize, usize)> {
    let before = text.get(..at)?.trim_end_matches([' ', '"', '\'', '\\']);
    let start = before.rfind(|c: char| !is_name_char(c)).map_or(0, |i| i + char_len(before, i));
    let name = before.get(start..)?;
    if name.eq_ignore_ascii_case("name") {
        part_body(text, at + 1)
    } else if is_secret_name(name.as_bytes()) {
        Some(value_span(text, at + 1, colon))
    } else {
        None
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
        c => ends_value(c),
    };
    (start, start + value.find(ends).unwrap_or(value.len()))
}

/// Whether an unquoted value ends here.
fn ends_value(c: char) -> bool {
    matches!(c, '&' | ' ' | '\t' | '\r' | '\n' | '"' | '\'' | '<' | '>' | '}' | ']')
}

/// The body of a multipart part whose `name` is secret.
fn part_body(text: &str, from: usize) -> Option<(usize, usize)> {
    let rest = text.get(from..)?;
    if !is_secret_name(part_name(rest).as_bytes()) {
        return None;
    }
    // The header lines of a part are short; a blank line further away belongs to something else.
    let near = beginning(rest, PART_HEAD_BYTES_MAX);
    let blank = ["\r\n\r\n", "\n\n"].iter().filter_map(|b| Some(near.find(b)? + b.len())).min()?;
    let body = rest.get(blank..)?;
    let end = body.find("\n--").unwrap_or(body.len());
    (end > 0).then_some((from + blank, from + blank + end))
}

/// The name at the beginning of a text, as far as it is looked at: what follows is looked at again from each `name=` in it.
fn part_name(text: &str) -> &str {
    let near = beginning(text, PART_NAME_BYTES_MAX).trim_start_matches('"');
    near.split(['"', ';', '\r', '\n']).next().unwrap_or_default()
}

fn beginning(text: &str, bytes_max: usize) -> &str {
    let ends = (0..=bytes_max.min(text.len())).rev();
    ends.take(4).find_map(|end| text.get(..end)).unwrap_or_default()
}

/// The credentials after `Bearer`, `Basic`, `Digest` or `Negotiate` and the gap at `at`; and where to go on looking.
fn credentials(text: &str, at: usize) -> (Option<(usize, usize)>, usize) {
    let (before, rest) = text.split_at_checked(at).unwrap_or_default();
    // Most gaps follow another letter.
    let word = match before.as_bytes().last() {
        Some(b'r' | b'R') => "bearer",
        Some(b'c' | b'C') => "basic",
        Some(b't' | b'T') => "digest",
        Some(b'e' | b'E') => "negotiate",
        _ => return (None, 0),
    };
    let start = before.len().checked_sub(word.len());
    if !start.and_then(|start| before.get(start..)).is_some_and(|last| last.eq_ignore_ascii_case(word)) {
        return (None, 0);
    }
    let Some(gap) = [" ", "%20", "+"].into_iter().find(|gap| rest.starts_with(gap)) else { return (None, 0) };
    let (start, end) = token(text, at + gap.len());
    // Words such as "basic idea" are shorter than any credential.
    ((end - start >= 6).then_some((start, end)), end)
}

/// A JSON Web Token standing alone, of which the third letter is at `at`; and where to go on looking.
fn web_token(text: &str, at: usize) -> (Option<(usize, usize)>, usize) {
    let Some(at) = at.checked_sub(2).filter(|&at| text.get(at..).is_some_and(|rest| rest.starts_with("eyJ")))
    else {
        return (None, 0);
    };
    let (start, end) = token(text, at);
    let dots = text.get(start..end).map_or(0, |token| token.matches('.').count());
    ((dots == 2).then_some((start, end)), end)
}

fn token(text: &str, start: usize) -> (usize, usize) {
    let rest = text.get(start..).unwrap_or_default();
    (start, start + rest.find(|c: char| !is_token_char(c)).unwrap_or(rest.len()))
}

/// The `user:password` of `//user:password@host` at `at`.
fn userinfo(text: &str, at: usize) -> Option<(usize, usize)> {
    let rest = text.get(at..)?.strip_prefix("//")?;
    let end = rest.find(['/', '?', '#', ' ', '"', '<', '\r', '\n']).unwrap_or(rest.len());
    let sign = rest.get(..end)?.rfind('@')?;
    rest.get(..sign)?.contains(':').then_some((at + 2, at + 2 + sign))
}

/// The segment after the `/` at `at`, if it is made up by a machine and what stands before it says that it is a secret: `/reset/TOKEN`,
/// `/reset/USER/TOKEN`, `/api/token/TOKEN`.
fn path_token(text: &str, at: usize) -> Option<(usize, usize)> {
    let rest = text.get(at + 1..)?.as_bytes();
    let near = rest.get(..rest.len().min(PATH_TOKEN_BYTES_MAX)).unwrap_or_default();
    let length = near.iter().position(|byte| !is_segment_byte(*byte)).unwrap_or(near.len());
    let segment = near.get(..length).filter(|segment| segment.len() >= PATH_TOKEN_BYTES_MIN)?;
    let made_up = segment.iter().any(u8::is_ascii_digit) && segment.iter().any(u8::is_ascii_alphabetic);
    let mut before = text.get(..at)?.rsplit(|c: char| !u8::try_from(c).is_ok_and(is_segment_byte)).take(2);
    let is_told = |name: &str| {
        is_secret_name(name.as_bytes())
            || name
                .split(['-', '_'])
                .any(|word| TELLING_SEGMENTS.iter().any(|one| word.eq_ignore_ascii_case(one)))
    };
    (made_up && before.any(is_told)).then_some((at + 1, at + 1 + length))
}

fn is_segment_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%:=".contains(&byte)
}

/// Percent-encoding undone once; `None` where there is none.
pub(crate) fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'%', text)?;
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, next)) = rest.split_first() {
        let hex = (first == b'%').then(|| next.split_first_chunk::<2>()).flatten();
        let digits = hex.and_then(|(hex, after)| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            Some((u8::try_from(digit(hex[0])? * 16 + digit(hex[1])?).ok()?, after))
        });
        let (byte, after) = digits.unwrap_or((first, next));
        out.push(byte);
        rest = after;
    }
    (out != text).then_some(out)
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']' | '%' | '$')
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '+' | '/' | '=' | '%')
}

fn char_len(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
}

/// Segments of a path after which a link's secret comes.
const TELLING_SEGMENTS: &[&str] =
    &["reset", "verify", "confirm", "activate", "invite", "invitation", "magic", "unsubscribe"];
/// Shorter ones are numbers of orders and names; 16 hexadecimal digits are 64 bits.
const PATH_TOKEN_BYTES_MIN: usize = 16;
const PATH_TOKEN_BYTES_MAX: usize = 2_048;
const PART_HEAD_BYTES_MAX: usize = 512;
const PART_NAME_BYTES_MAX: usize = 128;
/// Values within values are encoded once more; deeper than this nobody hides a secret by accident.
const DECODED_TIMES: usize = 3;

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
        check("contraseña=hunter2&x=1", "contraseña=[masked]&x=1");
        check(r#"{"пароль":"hunter2"}"#, r#"{"пароль":"[masked]"}"#);
    }

    #[test]
    fn credentials_are_masked_by_their_shape() {
        check("x Bearer abc.def-ghi y", "x Bearer [masked] y");
        check("https://ann:hunter2@shop/", "https://[masked]@shop/");
        check("v=eyJhbGciOi.eyJzdWIi.c2ln", "v=[masked]");
    }

    #[test]
    fn secrets_of_links_are_masked_in_paths() {
        check("/account/reset/4f9c2d7b8a6e1035/", "/account/reset/[masked]/");
        check("/reset/MQ/c8hq2p-0a1b2c3d4e5f60718293a4b5?x=1", "/reset/MQ/[masked]?x=1");
        check("/verify-email/a1b2c3d4e5f6a7b8 HTTP/1.1", "/verify-email/[masked] HTTP/1.1");
        check("/api/token/a1b2c3d4e5f6a7b8", "/api/token/[masked]");
        check("https://shop.test/invite/a1b2c3d4e5f6a7b8", "https://shop.test/invite/[masked]");
        for text in
            ["/assets/app-4f9c2d7b8a6e1035.js", "/orders/2026-000000000123", "/reset/password-forgotten-form"]
        {
            assert!(matches!(mask_text(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn what_only_decoding_shows_is_masked() {
        check("/a?next=%2Freset%3Ftoken%3Dhunter2&x=1", "/a?next=[masked]&x=1");
        check("/a?x=1&next=%252Freset%253Ftoken%253Dhunter2", "/a?x=1&next=[masked]");
        check("/a?next=%2Freset%3Ftoken%3Dhun?ter2", "/a?next=[masked]");
        check("/reset%3Ftoken%3Dhunter2 HTTP/1.1", "[masked] HTTP/1.1");
        check("/a?u=http%3A%2F%2Fann%3Ahunter2%40shop%2F", "/a?u=[masked]");
        check("http://ann:hun%3Dter2%40shop/", "[masked]");
        check("/a?ä=1&q=%7B%22password%22%3A%22hunter2%22%7D", "/a?ä=1&q=[masked]");
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in [
            "/search?q=passport+photo",
            "1' or '1'='1",
            "/a?passenger=2&page=3",
            "a basic idea",
            "//cdn@2/x",
            "/a?q=%3Cscript%3Ealert(1)%3C/script%3E&r=50%",
            "/a?next=%2Fshop%3Fpage%3D2",
        ] {
            assert!(matches!(mask_text(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn what_is_looked_at_for_names_of_parts_grows_with_a_body_and_not_with_its_square() {
        let hostile = "name=".repeat(64 * 1024 / 5);
        let names = hostile.match_indices('=').map(|(at, _)| part_name(hostile.get(at + 1..).unwrap()).len());
        let looked_at: usize = names.sum();
        assert!(looked_at <= hostile.len() / 5 * PART_NAME_BYTES_MAX, "{looked_at}");
        assert!(find(&hostile).is_empty());
        let wide = "ä".repeat(100);
        assert_eq!((beginning(&wide, 127).len(), beginning("abc", 128)), (126, "abc"));
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
                format!("/x?a=%2F{other}%3Fpassword%3D{value}%26b=%3D{other}"),
                format!("{{\"a\":\"{other}\",\"password\":\"{value}\"}}"),
                format!("Authorization: Bearer {value}"),
            ] {
                prop_assert!(!mask_text(&text).contains(&value));
            }
        }
    }
}
