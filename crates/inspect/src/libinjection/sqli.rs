//! The verdict on SQL: a known fingerprint that harmless text does not have by chance.

use super::Fingerprint;
use super::fold::{Folded, fold};
use super::tables::is_injection;
use super::tokens::{Context, Token, Tokenizer};

/// Tries the value as it is, and without numbers like `1.e` where it has some: older versions of libinjection take such a
/// number for a word, newer ones leave it out, as MySQL does (`1.e(2)` is `(2)` there). Either may hide an attack.
pub(super) fn detect(input: &[u8]) -> Option<Fingerprint> {
    if input.is_empty() {
        return None;
    }
    let whole = Context { quote: 0, mysql: false, skips_bare_exponents: false };
    detect_in(input, whole).or_else(|| {
        let skipping = Context { skips_bare_exponents: true, ..whole };
        if has_bare_exponent(input) { detect_in(input, skipping) } else { None }
    })
}

/// As it is, then behind a single and a double quote where there is one.
fn detect_in(input: &[u8], context: Context) -> Option<Fingerprint> {
    if let Some(found) = ansi_then_mysql(input, context) {
        return Some(found);
    }
    if memchr::memchr(b'\'', input).is_some()
        && let Some(found) = ansi_then_mysql(input, Context { quote: b'\'', ..context })
    {
        return Some(found);
    }
    memchr::memchr(b'"', input)?;
    Reading::new(input, Context { quote: b'"', mysql: true, ..context }).verdict()
}

fn ansi_then_mysql(input: &[u8], context: Context) -> Option<Fingerprint> {
    let ansi = Reading::new(input, context);
    if let Some(found) = ansi.verdict() {
        return Some(found);
    }
    if ansi.mysql_differs { Reading::new(input, Context { mysql: true, ..context }).verdict() } else { None }
}

/// Whether some digit or dot is followed by an `e` that no digit follows, with or without a sign.
fn has_bare_exponent(input: &[u8]) -> bool {
    memchr::memchr2_iter(b'e', b'E', input).any(|at| {
        let before = at.checked_sub(1).and_then(|before| input.get(before));
        let signs = usize::from(matches!(input.get(at + 1), Some(b'+' | b'-')));
        before.is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.')
            && !input.get(at + 1 + signs).is_some_and(u8::is_ascii_digit)
    })
}

/// A value read in one context.
struct Reading<'a> {
    input: &'a [u8],
    folded: Folded,
    fingerprint: Fingerprint,
    token_count: usize,
    mysql_differs: bool,
}

impl<'a> Reading<'a> {
    fn new(input: &'a [u8], context: Context) -> Self {
        let mut tokenizer = Tokenizer::new(input, context);
        let mut folded = fold(&mut tokenizer);
        if let Some((last, [_, _, ..])) =
            folded.tokens.get_mut(..folded.len).and_then(<[Token]>::split_last_mut)
        {
            // An empty, open backtick at the end is a comment to PHP programs.
            if last.kind == b'n' && last.open == b'`' && last.text().is_empty() && last.close == 0 {
                last.kind = b'c';
            }
        }
        let mut fingerprint =
            Fingerprint { bytes: [0; 5], len: u8::try_from(folded.len.min(5)).unwrap_or(0) };
        fingerprint.bytes.iter_mut().zip(folded.tokens()).for_each(|(place, token)| *place = token.kind);
        // The sixth token, too, may be what cannot be read.
        if folded.tokens().iter().any(|token| token.kind == b'X') {
            fingerprint = Fingerprint { bytes: [b'X', 0, 0, 0, 0], len: 1 };
        }
        Self {
            input,
            folded,
            fingerprint,
            token_count: tokenizer.count,
            mysql_differs: tokenizer.mysql_differs,
        }
    }

    fn verdict(&self) -> Option<Fingerprint> {
        let types = self.fingerprint.types();
        let known = !types.is_empty() && is_injection(types);
        (known && !self.is_harmless(types)).then_some(self.fingerprint)
    }

    /// Whether ordinary text has this fingerprint, too.
    fn is_harmless(&self, types: &[u8]) -> bool {
        // SQL Server leaves statements that contain this out of its log.
        let ends_in_comment = types.len() > 1 && types.last() == Some(&b'c');
        if ends_in_comment && memchr::memmem::find(self.input, b"sp_password").is_some() {
            return false;
        }
        match (types, self.folded.tokens()) {
            (&[first, second], [a, b, ..]) => self.are_two_harmless(first, second, a, b),
            (&[_, second, _], [a, b, c, ..]) => self.are_three_harmless(types, second, [a, b, c]),
            _ => false,
        }
    }

    fn are_two_harmless(&self, first: u8, second: u8, a: &Token, b: &Token) -> bool {
        let comment = |start: u8| b.text().first() == Some(&start);
        if second == b'U' {
            // Only a number and `UNION`, without anything folded away.
            return self.token_count == 2;
        }
        if comment(b'#') || (first == b'n' && second == b'c' && !comment(b'/')) {
            return true;
        }
        if first == b'1' && second == b'c' {
            return !comment(b'/') && self.token_count <= 2 && !self.ends_number(a.text().len());
        }
        // Many write two dashes in plain text; only at the very end they are a comment.
        b.text().len() > 2 && comment(b'-')
    }

    /// Whether what follows the number shows that it was a whole one, and not the start of, say, base64.
    fn ends_number(&self, length: usize) -> bool {
        let rest = self.input.get(length..).unwrap_or_default();
        match rest.first() {
            // Bytes above 127 are negative where `char` is signed.
            None | Some(0..=32 | 128..) => true,
            Some(_) => rest.starts_with(b"/*") || rest.starts_with(b"--"),
        }
    }

    fn are_three_harmless(&self, types: &[u8], second: u8, [a, b, c]: [&Token; 3]) -> bool {
        match types {
            // `foo" + "bar`: no quote at either end, the same one inside.
            b"sos" | b"s&s" => !(a.open == 0 && c.close == 0 && a.close == c.open),
            b"s&n" | b"n&1" | b"1&1" | b"1&v" | b"1&s" => self.token_count == 3,
            _ if second == b'k' => {
                let into = b.text().get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"INTO"));
                b.text().len() < 5 || !into
            }
            _ => false,
        }
    }
}
