//! SQL injection and script injection recognised by structure, not by pattern.
//!
//! For SQL: bytes -> `tokens` -> `fold` (up to five tokens) -> fingerprint, looked up among those of known injections
//! (`tables`), in each context the value may be pasted into (`sqli`). For HTML: bytes -> `html5` tokens -> tags,
//! attributes and schemes that run script (`xss`), again in each context.
//!
//! The method and the tables are those of libinjection; the verdicts are the same, quirks included, because rules and
//! exclusions have been tuned to them. One quirk is left out, as it only hides attacks: where C's `char` is signed, a
//! byte 0xff in a tag reads as the end of the value. Linear in the value: each context reads it once.

mod fold;
mod html5;
mod sqli;
mod tables;
#[cfg(test)]
mod tests;
mod tokens;
mod xss;

/// What an SQL injection looks like: the types of up to five tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    bytes: [u8; 5],
    len: u8,
}

impl Fingerprint {
    /// The token types as ASCII letters and signs.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.types()).unwrap_or_default()
    }

    fn types(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }
}

/// The fingerprint, when the value is an SQL injection in some context.
pub fn is_sqli(input: &[u8]) -> Option<Fingerprint> {
    sqli::detect(input)
}

/// Whether the value is a script injection in some HTML context.
pub fn is_xss(input: &[u8]) -> bool {
    xss::detect(input)
}
