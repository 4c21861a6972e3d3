//! Rule files: loaded, and compiled if they are without fault.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_inspect::{Collections, CompileOptions, Program};
use phalanx_policy::seclang::{LoadOptions, load_texts};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let files =
        [("fuzz.conf", text), ("a.data", "x\ny\n"), ("a.json", "{\"type\":\"object\"}"), ("a.txt", "::1\n")];
    match load_texts(&files, &LoadOptions::default()) {
        Err(faults) => assert!(!faults.is_empty()),
        Ok(loaded) => {
            let collections = std::sync::Arc::new(Collections::with_records(8));
            let options = CompileOptions { collections, ..CompileOptions::default() };
            if let Err(faults) = Program::compile(&loaded.rules, &options) {
                assert!(!faults.is_empty());
            }
        }
    }
});
