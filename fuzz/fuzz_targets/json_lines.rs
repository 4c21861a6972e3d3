//! Many JSON documents, line by line and as a sequence.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_inspect::body::{self, BodyLimits, BodyParts};

fuzz_target!(|body: &[u8]| {
    let limits = BodyLimits { arguments_max: 1000, depth_max: 32 };
    for parser in [body::json_lines, body::json_sequence] {
        let mut parts = BodyParts::default();
        parser(body, &limits, &mut parts);
        assert!(parts.arena.len() <= body.len() * 10 + 128 * 1024);
        for arg in &parts.args {
            assert!(parts.bytes(arg.name, body).starts_with(b"json.array_"));
            assert_eq!(parts.bytes(arg.value, body).len(), arg.value.len());
        }
        let structure = body.iter().all(|byte| byte.is_ascii_whitespace() || b"[]{},\x1e".contains(byte));
        assert!(parts.error.is_some() || !parts.args.is_empty() || structure);
    }
});
