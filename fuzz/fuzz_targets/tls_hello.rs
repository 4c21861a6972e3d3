//! Any bytes, cut anywhere, are the same greeting or none; what is one has a fingerprint, also in other records.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_edge::tls::hello::{self, NotHello};
use phalanx_edge::tls::ja4::ja4;

fuzz_target!(|data: &[u8]| {
    let Some((&piece, bytes)) = data.split_first() else {
        return;
    };
    let whole = hello::read(bytes);
    for end in (0..bytes.len()).step_by(usize::from(piece).max(1)) {
        match hello::read(&bytes[..end]) {
            Ok(None) => {}
            // Whatever is told early stays true; only what ends beyond the message is not looked at.
            early => {
                assert!(early.is_ok() || early == whole || whole == Err(NotHello::TooLarge));
                break;
            }
        }
    }
    if let Ok(Some(hello)) = whole {
        let fingerprint = ja4(&hello).expect("every greeting has one");
        let mut shuffled = hello;
        shuffled.cipher_suites.reverse();
        shuffled.extensions.reverse();
        assert_eq!(ja4(&shuffled), Some(fingerprint));
    }
});
