//! JA4 of a TLS client (FoxIO, 2023), after the published description of the method: how a client greets tells which
//! program it is, whatever it says of itself.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use phalanx_model::Ja4;

use super::hello::{ClientHello, PROTOCOLS, SERVER_NAME};

/// The fingerprint of a greeting over TCP.
pub fn ja4(hello: &ClientHello) -> Option<Ja4> {
    let mut cipher_suites = known(&hello.cipher_suites);
    let mut extensions = known(&hello.extensions);
    let name = if extensions.contains(&SERVER_NAME) { 'd' } else { 'i' };
    let (suites_len, extensions_len) = (cipher_suites.len().min(99), extensions.len().min(99));
    let [first, last] = protocol(&hello.first_protocol);
    let mut text = format!("t{}{name}{suites_len:02}{extensions_len:02}{first}{last}_", version(hello));

    cipher_suites.sort_unstable();
    push_hash(&mut text, &list(&cipher_suites));
    text.push('_');
    // Both are in the part before, and say where the client went rather than what it is.
    extensions.retain(|&kind| kind != SERVER_NAME && kind != PROTOCOLS);
    extensions.sort_unstable();
    let mut offers = list(&extensions);
    let signature_algorithms = list(&known(&hello.signature_algorithms));
    if !signature_algorithms.is_empty() {
        offers.push('_');
        offers.push_str(&signature_algorithms);
    }
    push_hash(&mut text, if extensions.is_empty() { "" } else { &offers });
    text.parse().ok()
}

/// The values that mean something: clients mix in others (GREASE, RFC 8701), so that servers get used to unknown ones.
fn known(values: &[u16]) -> Vec<u16> {
    let grease = |value: u16| value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff;
    values.iter().copied().filter(|&value| !grease(value)).collect()
}

fn version(hello: &ClientHello) -> &'static str {
    match known(&hello.versions).into_iter().max().unwrap_or(hello.version) {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _ => "00",
    }
}

/// First and last character of the first protocol, or of its hexadecimal form.
fn protocol(name: &[u8]) -> [char; 2] {
    let (Some(&first), Some(&last)) = (name.first(), name.last()) else { return ['0', '0'] };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [first.into(), last.into()];
    }
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    [digit(first >> 4), digit(last & 0xf)]
}

fn list(values: &[u16]) -> String {
    let mut text = String::with_capacity(values.len() * 5);
    for (place, value) in values.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{value:04x}");
    }
    text
}

fn push_hash(text: &mut String, of: &str) {
    if of.is_empty() {
        return text.push_str("000000000000");
    }
    for byte in digest(&SHA256, of.as_bytes()).as_ref().iter().take(6) {
        let _ = write!(text, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hello: &ClientHello) -> String {
        ja4(hello).unwrap().to_string()
    }

    /// The client that the description of the method takes for its example.
    fn example() -> ClientHello {
        ClientHello {
            version: 0x0303,
            cipher_suites: vec![
                0x2a2a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
                0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
            ],
            extensions: vec![
                0x1a1a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023,
                0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015, 0xdada,
            ],
            versions: vec![0x3a3a, 0x0304, 0x0303],
            groups: Vec::new(),
            signature_algorithms: vec![0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601],
            first_protocol: b"h2".to_vec(),
            server_name: Vec::new(),
        }
    }

    #[test]
    fn the_published_example_has_its_fingerprint() {
        assert_eq!(of(&example()), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn real_clients_have_the_fingerprints_that_others_compute() {
        // Captured: curl 7.88 and s_client of OpenSSL 3.0, Chromium 156, which mixes GREASE into its signature algorithms, too. Seeds begin
        // with a byte for the fuzzer.
        for (bytes, fingerprint) in [
            (
                &include_bytes!("../../../../fuzz/seeds/tls_hello/curl")[1..],
                "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6",
            ),
            (
                &include_bytes!("../../../../fuzz/seeds/tls_hello/openssl")[1..],
                "t13d311000_e8f1e7e78f70_1f22a2ca17c4",
            ),
            (
                &include_bytes!("../../../../fuzz/seeds/tls_hello/chromium")[1..],
                "t13d1517h2_8daaf6152771_cb7bf5808d99",
            ),
        ] {
            let hello = crate::tls::hello::read(bytes).unwrap().unwrap();
            assert_eq!(of(&hello), fingerprint);
            assert_eq!(hello.groups.contains(&0x11ec), bytes.len() > 1_500, "a hybrid share fills a segment");
        }
    }

    #[test]
    fn the_order_of_suites_and_extensions_does_not_matter() {
        let mut shuffled = example();
        shuffled.cipher_suites.reverse();
        shuffled.extensions.rotate_left(7);
        assert_eq!(of(&shuffled), of(&example()));
        shuffled.signature_algorithms.reverse();
        assert_ne!(of(&shuffled), of(&example()));
    }

    #[test]
    fn the_first_part_is_told_from_what_is_there() {
        let check = |change: fn(&mut ClientHello), expected: &str| {
            let mut hello = example();
            change(&mut hello);
            assert_eq!(of(&hello).split('_').next(), Some(expected));
        };
        check(|hello| hello.versions.clear(), "t12d1516h2");
        check(|hello| hello.versions = vec![0x0302, 0x0301], "t11d1516h2");
        check(|hello| hello.versions = vec![0x7f1c], "t00d1516h2");
        check(|hello| hello.extensions.retain(|&kind| kind != SERVER_NAME), "t13i1515h2");
        check(|hello| hello.cipher_suites = vec![1; 120], "t13d9916h2");
        check(|hello| hello.first_protocol = b"http/1.1".to_vec(), "t13d1516h1");
        check(|hello| hello.first_protocol.clear(), "t13d151600");
        check(|hello| hello.first_protocol = b"x".to_vec(), "t13d1516xx");
        check(|hello| hello.first_protocol = vec![0xab], "t13d1516ab");
        check(|hello| hello.first_protocol = vec![0x30, 0x31, 0xab, 0xcd], "t13d15163d");
        check(|hello| hello.first_protocol = vec![0x30, 0xab, 0xcd, 0x31], "t13d151601");
    }

    #[test]
    fn nothing_offered_has_a_hash_of_its_own() {
        let hello = ClientHello { version: 0x0301, ..ClientHello::default() };
        assert_eq!(of(&hello), "t10i000000_000000000000_000000000000");
    }

    #[test]
    fn without_signature_algorithms_the_last_part_is_of_extensions_alone() {
        let mut hello = example();
        hello.signature_algorithms.clear();
        assert_eq!(of(&hello), "t13d1516h2_8daaf6152771_6d807ffa2a79");
    }
}
