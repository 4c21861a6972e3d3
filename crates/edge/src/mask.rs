//! What of a request may be recorded: secrets masked, lengths bounded.

use std::borrow::Cow;

use phalanx_model::secret::is_secret_name;

/// A request target with the values of secret-looking parameters masked, as text.
pub(crate) fn mask_target(target: &[u8]) -> String {
    let target = bounded(target, TARGET_BYTES_MAX);
    let query_at = target.iter().position(|b| matches!(b, b'?' | b';')).unwrap_or(target.len());
    let (path, query) = target.split_at(query_at);
    let path = without_userinfo(path);
    if matches!(path, Cow::Borrowed(_)) && parameters(query).all(|parameter| secret(parameter).is_none()) {
        return text(target, TARGET_BYTES_MAX);
    }
    let mut masked = path.into_owned();
    for parameter in parameters(query) {
        match secret(parameter) {
            Some(name) => {
                masked.extend_from_slice(name);
                masked.extend_from_slice(b"=***");
            }
            None => masked.extend_from_slice(parameter),
        }
    }
    String::from_utf8_lossy(&masked).into_owned()
}

/// The parameters of a query, each with the separator before it.
fn parameters(query: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = query;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_first()?;
        let end = after.iter().position(|b| matches!(b, b'&' | b';' | b'?')).map_or(rest.len(), |at| at + 1);
        let (parameter, next) = rest.split_at(end);
        rest = next;
        Some(parameter)
    })
}

/// The separator and name of a parameter that has a secret for its value.
fn secret(parameter: &[u8]) -> Option<&[u8]> {
    let equals = parameter.iter().position(|&b| b == b'=')?;
    let (name, value) = parameter.split_at(equals);
    (value.len() > 1 && is_secret_name(name)).then_some(name)
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

/// A URL without `user:password@` before its host.
fn without_userinfo(url: &[u8]) -> Cow<'_, [u8]> {
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
