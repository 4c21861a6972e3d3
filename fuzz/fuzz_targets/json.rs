//! JSON documents.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_inspect::body::{self, BodyLimits, BodyParts};

fuzz_target!(|body: &[u8]| {
    let mut parts = BodyParts::default();
    body::json(body, &BodyLimits { arguments_max: 1000, depth_max: 32 }, &mut parts);
    assert!(parts.arena.len() <= body.len() * 10 + 128 * 1024);
    for arg in &parts.args {
        assert!(parts.bytes(arg.name, body).starts_with(b"json"));
        assert_eq!(parts.bytes(arg.value, body).len(), arg.value.len());
    }
    let nested = body.iter().any(|byte| matches!(byte, b'[' | b'{'));
    assert!(parts.error.is_some() || !parts.args.is_empty() || nested);
});
