//! SQL and script injection.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_inspect::libinjection::{is_sqli, is_xss};

fuzz_target!(|input: &[u8]| {
    if let Some(found) = is_sqli(input) {
        assert!((1..=5).contains(&found.as_str().len()));
    }
    is_xss(input);
});
