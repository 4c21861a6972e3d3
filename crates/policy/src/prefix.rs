//! Addresses and ranges as operators write them.

use std::net::IpAddr;

use phalanx_model::Prefix;
use phalanx_model::net::canonical_prefix;

/// Reads `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32`; a single address is the range of it alone.
pub fn parse(text: &str) -> Option<Prefix> {
    let text = text.trim();
    let prefix = match text.parse::<IpAddr>() {
        Ok(ip) => Prefix::from(ip),
        Err(_) => text.parse().ok()?,
    };
    Some(canonical_prefix(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_ranges_are_read() {
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1/32"),
            (" 192.0.2.9/24 ", "192.0.2.0/24"),
            ("::1", "::1/128"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), expected);
        }
        assert_eq!(parse("192.0.2"), None);
        assert_eq!(parse("192.0.2.0/33"), None);
    }
}
