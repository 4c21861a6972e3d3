//! GraphQL documents, and JSON requests that hold one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_inspect::body::{self, BodyLimits, BodyParts};

const LIMITS: BodyLimits = BodyLimits { arguments_max: 1000, depth_max: 32 };

fuzz_target!(|body: &[u8]| {
    let mut parts = BodyParts::default();
    body::graphql(body, &LIMITS, &mut parts);
    assert!(!parts.args.is_empty() && parts.error.is_none());
    for arg in &parts.args {
        assert!(parts.bytes(arg.name, body).starts_with(b"graphql"));
        assert_eq!(parts.bytes(arg.value, body).len(), arg.value.len());
    }
    let mut parts = BodyParts::default();
    body::json(body, &LIMITS, &mut parts);
    let before = parts.args.len();
    body::graphql_over_http(body, &LIMITS, &mut parts);
    assert!(parts.args.len() >= before);
});
