//! Configurations of nginx and HAProxy: any text becomes settings, a policy and a list, and what is written is TOML.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/phalanx/src/import/carry/mod.rs"]
#[allow(dead_code, unused_imports)]
mod carry;

/// Files that include each other, and themselves.
struct Twice<'a>(&'a str);

impl carry::Files for Twice<'_> {
    fn read(&mut self, pattern: &str) -> Result<Vec<(String, String)>, String> {
        match pattern.len() % 3 {
            0 => Err("there is none".into()),
            _ => Ok(vec![("included".into(), self.0.chars().take(64).collect())]),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let of_nginx = carry::nginx::carry("fuzz", text, &mut Twice(text));
    for carried in [of_nginx, carry::haproxy::carry("fuzz", text)] {
        let written = carry::write(&carried.site, "fuzz");
        // What it says may be refused, never what form it has.
        if let Err(faults) = phalanx_policy::parse_policy("fuzz", &written.policy) {
            assert!(faults.iter().all(|fault| !fault.to_string().contains("TOML")), "{faults:?}");
        }
        for note in carried.notes.in_order() {
            assert!(note.place.line > 0 && !note.help.is_empty());
        }
    }
});
