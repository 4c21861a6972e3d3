//! Playbooks as text: what is read is written as text that reads back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_policy::playbook::{Known, read, to_text};

const KNOWN: Known<'_> = Known {
    detectors: &["flood", "scanning"],
    measures: &["challenge", "ban", "block-signature"],
    scopes: &["client", "software"],
};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match read("fuzz.toml", text, &KNOWN) {
        Ok(playbook) => assert_eq!(read("fuzz.toml", &to_text(&playbook), &KNOWN), Ok(playbook)),
        Err(faults) => assert!(!faults.is_empty()),
    }
});
