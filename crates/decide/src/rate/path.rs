//! Paths as limits compare them: `/login`, `//login`, `/%6cogin`, `/x/../login;a=b` are one to most servers, so they are one here.

/// What separates the segments of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separators {
    /// `/`, also as `%2f`; `\`; and `;` starts a parameter, which is left out.
    Any,
    /// `/` alone: to servers that know no more, `/login/..%2fx` and `/login/..;` are below `/login`.
    Slash,
}

/// Writes the path of a target into `into`: decoded once, without `//`, `.` and `..`. A target that has no path (`*`) leaves nothing.
pub fn normalise(target: &[u8], separators: Separators, into: &mut Vec<u8>) {
    into.clear();
    let Some(path) = path_of(target) else { return };
    into.push(b'/');
    let mut rest = path;
    let mut in_parameter = false;
    loop {
        let (byte, after) = match rest {
            [] => break,
            [b'%', high, low, after @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', rest.get(1..).unwrap_or_default()),
            },
            [byte, after @ ..] => (*byte, after),
        };
        let plain = rest.first() == Some(&byte);
        rest = after;
        match (byte, separators) {
            (b'/', Separators::Slash) if !plain => into.extend_from_slice(b"%2f"),
            (b'/', _) | (b'\\', Separators::Any) => {
                in_parameter = false;
                end_segment(into);
            }
            (b';', Separators::Any) => in_parameter = true,
            _ if in_parameter => {}
            _ => into.push(byte),
        }
    }
    // Only what ends the path: `/a/..` is `/`, `/a/` stays as it is.
    let last = segment_start(into);
    if matches!(into.get(last..), Some(b"." | b"..")) {
        end_segment(into);
    }
}

/// Writes the path of a target into `into` in its normal form, percent-encoded: what need not be encoded is not, what must be is, without
/// `//`, `.` and `..` (RFC 3986 section 6.2.2). Its segments are those of [`Separators::Slash`].
pub fn encode(target: &[u8], into: &mut Vec<u8>) {
    into.clear();
    let Some(path) = path_of(target) else { return };
    into.push(b'/');
    let mut rest = path;
    loop {
        let (byte, encoded, after) = match rest {
            [] => break,
            [b'%', high, low, after @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, true, after),
                _ => (b'%', true, rest.get(1..).unwrap_or_default()),
            },
            [byte, after @ ..] => (*byte, false, after),
        };
        rest = after;
        match byte {
            b'/' if !encoded => end_segment(into),
            _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => into.push(byte),
            _ if !encoded && b"!$&'()*+,;=:@".contains(&byte) => into.push(byte),
            _ => into.extend_from_slice(&percent_encoded(byte)),
        }
    }
    let last = segment_start(into);
    if matches!(into.get(last..), Some(b"." | b"..")) {
        end_segment(into);
    }
}

/// `%` and two upper-case hexadecimal digits.
pub fn percent_encoded(byte: u8) -> [u8; 3] {
    let digit = |value: u8| b"0123456789ABCDEF".get(usize::from(value)).copied().unwrap_or(b'0');
    [b'%', digit(byte >> 4), digit(byte & 15)]
}

/// The path of a target in origin or absolute form, undecoded.
pub fn path_of(target: &[u8]) -> Option<&[u8]> {
    let target = target.split(|&byte| byte == b'?' || byte == b'#').next()?;
    if target.first() == Some(&b'/') {
        return Some(target);
    }
    let authority = target.windows(3).position(|window| window == b"://")? + 3;
    let after = target.get(authority..)?;
    Some(after.iter().position(|&byte| byte == b'/').and_then(|slash| after.get(slash..)).unwrap_or_default())
}

/// Ends the segment that is being written: a `.` or an empty one vanishes, `..` takes the one before with it.
fn end_segment(into: &mut Vec<u8>) {
    let start = segment_start(into);
    match into.get(start..) {
        Some([] | b".") => into.truncate(start),
        Some(b"..") => {
            into.truncate(start.saturating_sub(1));
            let before = segment_start(into);
            into.truncate(before.max(1));
            if into.is_empty() {
                into.push(b'/');
            }
        }
        _ => into.push(b'/'),
    }
}

/// Where the last segment starts: after the last slash.
fn segment_start(path: &[u8]) -> usize {
    path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Whether a pattern stands for a normalised path or for one above it. `*` is any part of a segment, `**` one or more segments.
///
/// Goes back to the last star alone: what an earlier one could have taken, a later one takes as well, because `*` ends with
/// its segment and `**` is a whole one. That keeps the work linear in the path for each pattern.
pub fn matches(pattern: &[u8], path: &[u8]) -> bool {
    let (mut at, mut to) = (0, 0);
    let (mut star, mut deep): (Option<Star>, Option<Star>) = (None, None);
    loop {
        let left = pattern.get(at..).unwrap_or_default();
        let matched = match left {
            [] if is_boundary(pattern, path, to) => return true,
            [] => false,
            [b'*', b'*', ..] => {
                at += 2;
                deep = Some((at, to));
                star = None;
                true
            }
            [b'*', ..] => {
                at += 1;
                star = Some((at, to));
                true
            }
            [byte, ..] if path.get(to) == Some(byte) => {
                at += 1;
                to += 1;
                true
            }
            _ => false,
        };
        if matched {
            continue;
        }
        match (star, deep) {
            (Some((after, from)), _) if path.get(from).is_some_and(|&byte| byte != b'/') => {
                star = Some((after, from + 1));
                (at, to) = (after, from + 1);
            }
            (_, Some((after, from))) if from < path.len() => {
                deep = Some((after, from + 1));
                star = None;
                (at, to) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// What follows a star in the pattern, and where in the path that was last tried.
type Star = (usize, usize);

/// Whether a pattern that matched up to here matched whole segments.
fn is_boundary(pattern: &[u8], path: &[u8], to: usize) -> bool {
    matches!(path.get(to), None | Some(b'/')) || pattern.last() == Some(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(target: &str) -> String {
        let mut into = b"left from before".to_vec();
        normalise(target.as_bytes(), Separators::Any, &mut into);
        String::from_utf8_lossy(&into).into_owned()
    }

    #[test]
    fn ways_to_write_one_path_are_one() {
        for target in [
            "/login",
            "//login",
            "/./login",
            "/x/../login",
            "/%6cogin",
            "/%6Cogin?a=b",
            "/login;j=1",
            "\\login",
            "/x/..%2flogin",
            "/../../login",
            "/a/b/../../login#x",
            "http://shop.test/login",
            "/x/%2e%2e/login",
            "/;a/login",
            "/login/.",
            "/login/x/..",
        ] {
            let path = if target.starts_with('\\') { format!("/{target}") } else { target.to_owned() };
            assert_eq!(normal(&path).trim_end_matches('/'), "/login", "{target}");
        }
        assert_eq!(normal("/login/"), "/login/");
        assert_eq!(normal("/a%2"), "/a%2");
        assert_eq!(normal("/%zz"), "/%zz");
        assert_eq!(normal("/%2541"), "/%41", "decoded once");
        assert_eq!(normal("http://shop.test"), "/");
        assert_eq!((normal("*").as_str(), normal("shop.test:443").as_str()), ("", ""));
        assert_eq!(normal("/.."), "/");
        assert_eq!(normal("/...x/.y"), "/...x/.y");
    }

    #[test]
    fn to_a_server_that_knows_only_slashes_other_separators_are_part_of_a_name() {
        let cases = [
            ("/login.php/..%5cx", "/login.php/..\\x"),
            ("/login.php/..%2fx", "/login.php/..%2fx"),
            ("/login.php/..;", "/login.php/..;"),
            ("/login.php/..;a/x", "/login.php/..;a/x"),
            ("/x/../%6cogin.php//.", "/login.php/"),
        ];
        for (target, expected) in cases {
            let mut into = Vec::new();
            normalise(target.as_bytes(), Separators::Slash, &mut into);
            assert_eq!(String::from_utf8_lossy(&into), expected, "{target}");
        }
    }

    #[test]
    fn patterns_match_whole_segments_and_all_below() {
        let cases = [
            ("/login", "/login", true),
            ("/login", "/login/", true),
            ("/login", "/login/reset", true),
            ("/login", "/loginx", false),
            ("/login", "/a/login", false),
            ("/", "/anything", true),
            ("/api/", "/api", false),
            ("/api/", "/api/x", true),
            ("/a/*/c", "/a/b/c/d", true),
            ("/a/*/c", "/a/b/x/c", false),
            ("/a/**/c", "/a/b/x/c", true),
            ("/a/**/c", "/a/c", false),
            ("/**/c", "/a/bc", false),
            ("/*.php", "/index.php", true),
            ("/*.php", "/index.php.txt", false),
            ("/*a*b", "/xaybzb", true),
            ("/*a*b", "/xay/b", false),
            ("/**/*.php", "/a/b/index.php", true),
            ("/x", "", false),
            ("/**", "", false),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), path.as_bytes()), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn an_encoded_path_has_one_form() {
        let cases = [
            ("/a/%7euser/%2e%2e/b", "/a/b"),
            ("/a%2fb/%41%20x%e2", "/a%2Fb/A%20x%E2"),
            ("//a/./\"b\"\\", "/a/%22b%22%5C"),
            ("/100%/%zz", "/100%25/%25zz"),
            ("/a;x=1%3b?y", "/a;x=1%3B"),
            ("http://a.test", "/"),
            ("*", ""),
        ];
        for (target, expected) in cases {
            let mut into = Vec::new();
            encode(target.as_bytes(), &mut into);
            assert_eq!(String::from_utf8_lossy(&into), expected, "{target}");
        }
    }

    proptest! {
        #[test]
        fn an_encoded_path_is_of_the_same_segments_and_stays_as_it_is(target in "/[-a%2fe5c./;?#\\\\]{0,40}") {
            let (mut once, mut twice, mut plain) = (Vec::new(), Vec::new(), Vec::new());
            encode(target.as_bytes(), &mut once);
            encode(&once, &mut twice);
            prop_assert_eq!(&once, &twice);
            normalise(target.as_bytes(), Separators::Slash, &mut plain);
            let slashes = |path: &[u8]| path.iter().filter(|byte| **byte == b'/').count();
            prop_assert_eq!(slashes(&once), slashes(&plain));
        }

        #[test]
        fn any_target_normalises_to_a_path_that_stays_as_it_is(target in "/[-a%2fe5c./;?#\\\\]{0,40}") {
            let once = normal(&target);
            prop_assert!(once.starts_with('/') && !once.contains("//"), "{once}");
            prop_assert!(!once.split('/').any(|segment| segment == "." || segment == ".."), "{once}");
        }

        #[test]
        fn any_pattern_ends_on_any_path(pattern in "/[ab/*]{0,12}", path in "/[ab/]{0,40}") {
            let _ = matches(pattern.as_bytes(), path.as_bytes());
        }
    }
}
