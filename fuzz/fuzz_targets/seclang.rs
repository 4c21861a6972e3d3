//! Rule files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_policy::seclang::{LoadOptions, load_texts};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Err(faults) = load_texts(&[("fuzz.conf", text)], &LoadOptions::default())
    {
        assert!(!faults.is_empty());
    }
});
