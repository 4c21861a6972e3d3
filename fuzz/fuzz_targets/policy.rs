//! Policy files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_policy::parse_policy;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Err(faults) = parse_policy("fuzz.toml", text)
    {
        assert!(!faults.is_empty());
    }
});
