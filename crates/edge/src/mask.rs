//! What of a request may be recorded: secrets masked, lengths bounded.

/// A request target with the values of secret-looking parameters masked, as text.
pub(crate) fn mask_target(target: &[u8]) -> String {
    let target = bounded(target, TARGET_BYTES_MAX);
    let Some(query_at) = target.iter().position(|b| matches!(b, b'?' | b';')) else {
        return String::from_utf8_lossy(without_userinfo(target).as_ref()).into_owned();
    };
    let (path, query) = target.split_at(query_at);
    let mut masked = without_userinfo(path).into_owned();
    let mut rest = query;
    while let Some(separator) = rest.first() {
        let parameter_end =
            rest.iter().skip(1).position(|b| matches!(b, b'&' | b';' | b'?')).map(|at| at + 1);
        let (parameter, next) = rest.split_at(parameter_end.unwrap_or(rest.len()));
        rest = next;
        let parameter = parameter.get(1..).unwrap_or_default();
        masked.push(*separator);
        let equals = parameter.iter().position(|&b| b == b'=');
        match equals.and_then(|at| parameter.split_at_checked(at)) {
            Some((name, [_, _, ..])) if is_secret_name(name) => {
                masked.extend_from_slice(name);
                masked.extend_from_slice(b"=***");
            }
            _ => masked.extend_from_slice(parameter),
        }
    }
    String::from_utf8_lossy(&masked).into_owned()
}

/// A `Referer` without query, fragment and userinfo.
pub(crate) fn mask_referer(referer: &[u8]) -> String {
    let end = referer.iter().position(|b| matches!(b, b'?' | b'#' | b';')).unwrap_or(referer.len());
    text(without_userinfo(referer.get(..end).unwrap_or_default()).as_ref(), TEXT_BYTES_MAX)
}

/// Text of a bounded length from a stranger's bytes.
pub(crate) fn text(bytes: &[u8], bytes_max: usize) -> String {
    let bytes = bounded(bytes, bytes_max);
    // Nearly always plain: one copy.
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Whether a header field of this name is taken to hold a secret.
pub(crate) fn is_secret_field(name: &[u8]) -> bool {
    is_secret_name(name) || decoded(name).windows(6).any(|window| window == b"cookie")
}

/// Whether a parameter of this name is taken to hold a secret; percent-encoding does not hide it.
fn is_secret_name(name: &[u8]) -> bool {
    let plain = decoded(name);
    let has = |word: &str| plain.windows(word.len()).any(|window| window == word.as_bytes());
    SECRET_PARTS.iter().any(|word| has(word)) || SECRET_NAMES.iter().any(|word| plain == word.as_bytes())
}

/// Lower case letters and digits of a percent-encoded name; `api_key`, `api-key` and `apiKey` are one.
fn decoded(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, next)) = rest.split_first() {
        rest = next;
        let mut byte = byte;
        if byte == b'%'
            && let Some((hex, after)) = rest.split_first_chunk::<2>()
            && let Some(value) =
                std::str::from_utf8(hex).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            (byte, rest) = (value, after);
        }
        if byte.is_ascii_alphanumeric() {
            plain.push(byte.to_ascii_lowercase());
        }
    }
    plain
}

/// A URL without `user:password@` before its host.
fn without_userinfo(url: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let authority = url.windows(3).position(|window| window == b"://").map(|at| at + 3);
    let Some((scheme, rest)) = authority.and_then(|at| url.split_at_checked(at)) else {
        return url.into();
    };
    let end = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
    match rest.get(..end).and_then(|authority| authority.iter().rposition(|&b| b == b'@')) {
        Some(at) => [scheme, rest.get(at + 1..).unwrap_or_default()].concat().into(),
        None => url.into(),
    }
}

fn bounded(bytes: &[u8], bytes_max: usize) -> &[u8] {
    bytes.get(..bytes_max).unwrap_or(bytes)
}

/// Longest target recorded.
pub(crate) const TARGET_BYTES_MAX: usize = 2 * 1024;
/// Longest other text recorded.
pub(crate) const TEXT_BYTES_MAX: usize = 512;
/// What the names of secrets contain.
const SECRET_PARTS: &[&str] = &[
    "passw",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "authorization",
    "session",
    "credential",
    "signature",
    "jwt",
    "otp",
];
/// Whole names of secrets too short to look for within others.
const SECRET_NAMES: &[&str] = &["auth", "key", "sid", "sig", "pin", "pass", "cvv", "cvc", "code", "ticket"];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: &str, expected: &str) {
        assert_eq!(mask_target(target.as_bytes()), expected);
    }

    #[test]
    fn secrets_in_targets_are_masked() {
        check("/login?user=a&password=hunter2&x=1", "/login?user=a&password=***&x=1");
        check("/a?Access_Token=abc", "/a?Access_Token=***");
        check("/a?api-key=abc&apiKey=def", "/a?api-key=***&apiKey=***");
        check("/a?p%61ssword=abc", "/a?p%61ssword=***");
        check("/a;jsessionid=123?q=1", "/a;jsessionid=***?q=1");
        check("/a?user[password]=x", "/a?user[password]=***");
        check("/a?token=", "/a?token=");
        check("/reset?code=1234&next=/", "/reset?code=***&next=/");
        check("http://user:pw@shop.test/a", "http://shop.test/a");
    }

    #[test]
    fn other_targets_are_kept() {
        check("/", "/");
        check("/search?q=a=b&&c", "/search?q=a=b&&c");
        check("/?", "/?");
        check("/a?q=<script>;x", "/a?q=<script>;x");
        check("", "");
    }

    #[test]
    fn long_and_foreign_bytes_become_bounded_text() {
        assert_eq!(mask_target(&vec![b'a'; 5_000]).len(), TARGET_BYTES_MAX);
        assert_eq!(text(b"\xff\x00", 10), "\u{fffd}\0");
    }

    #[test]
    fn a_referer_keeps_no_query() {
        assert_eq!(mask_referer(b"https://u:p@shop.test/a/b?token=x#y"), "https://shop.test/a/b");
    }
}
