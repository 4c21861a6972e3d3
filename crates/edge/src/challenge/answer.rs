//! What a client says where tasks are answered: `task`, `answer` and `to` of a query, as a form writes it. Bytes from strangers.

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said<'a> {
    /// The task, as text.
    pub task: &'a [u8],
    /// The answer; empty of whoever waited instead.
    pub answer: &'a [u8],
    /// Where to go afterwards: always a path of this host.
    pub to: Vec<u8>,
}

impl<'a> Said<'a> {
    /// Reads a query. Whatever is missing is empty, and only the first of a name counts.
    pub fn read(query: &'a [u8]) -> Self {
        let value = |name: &[u8]| {
            let mut pairs = query.split(|&byte| byte == b'&');
            pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"=")).unwrap_or_default()
        };
        let to = value(b"to");
        let to = if to.len() > TO_BYTES_MAX { &[] } else { to };
        // Tasks and answers are made of characters that no form writes otherwise.
        Self { task: value(b"task"), answer: value(b"answer"), to: local(&decoded(to)).to_vec() }
    }
}

/// A target as a path of the same host that a redirect may name, else `/`: nothing that a browser could take for another host
/// (`//`, `/\`), and no byte that could end the header field.
pub fn local(target: &[u8]) -> &[u8] {
    let is_path = matches!(target, [b'/'] | [b'/', b'!'..=b'.' | b'0'..=b'~', ..]);
    let is_plain = target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\');
    let is_ours = target.starts_with(super::RESERVED);
    if is_path && is_plain && !is_ours && target.len() <= TO_BYTES_MAX { target } else { b"/" }
}

/// What a form's encoding stands for.
fn decoded(value: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|&byte| char::from(byte).to_digit(16));
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let byte = match first {
            b'+' => b' ',
            b'%' => match (digit(after.first()), digit(after.get(1))) {
                (Some(high), Some(low)) => {
                    rest = after.get(2..).unwrap_or_default();
                    u8::try_from(high * 16 + low).unwrap_or(first)
                }
                _ => first,
            },
            other => other,
        };
        out.push(byte);
    }
    out
}

/// Longest way back; a longer one leads to the front page.
const TO_BYTES_MAX: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_form_is_read_as_it_was_filled_in() {
        let said = Said::read(b"to=%2Fa%3Fb%3D1%26c%3D%2520&task=T_-t&answer=42&answer=43&x");
        assert_eq!((said.task, said.answer), (&b"T_-t"[..], &b"42"[..]));
        assert_eq!(said.to, b"/a?b=1&c=%20");
        assert_eq!(Said::read(b""), Said { task: b"", answer: b"", to: b"/".to_vec() });
    }

    #[test]
    fn nobody_is_led_elsewhere() {
        for (to, expected) in [
            ("/a/b?c=d", "/a/b?c=d"),
            ("/", "/"),
            ("/.well-known/x", "/.well-known/x"),
            ("//evil.test", "/"),
            ("/%5Cevil.test", "/"),
            ("%2F%2Fevil.test", "/"),
            ("/%09/evil.test", "/"),
            ("https://evil.test/", "/"),
            ("javascript:alert(1)", "/"),
            ("/a%0D%0ASet-Cookie:%20x=y", "/"),
            ("/a+b", "/"),
            ("/a%FFb", "/"),
            ("/.phalanx/challenge?to=/", "/"),
            ("/%", "/%"),
            ("/%2", "/%2"),
        ] {
            let said = format!("to={to}");
            assert_eq!(String::from_utf8_lossy(&Said::read(said.as_bytes()).to), expected, "{to}");
        }
        let long = format!("to=/{}", "a".repeat(TO_BYTES_MAX));
        assert_eq!(Said::read(long.as_bytes()).to, b"/");
    }

    proptest! {
        #[test]
        fn the_way_back_is_a_path_whatever_is_said(query: Vec<u8>) {
            let said = Said::read(&query);
            prop_assert!(said.to.starts_with(b"/") && !said.to.starts_with(b"//"));
            prop_assert!(said.to.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\'));
        }
    }
}
