//! Forms, query strings and cookies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_inspect::body::{self, BodyLimits, BodyParts, Slice};

fn check(parts: &BodyParts, body: &[u8]) {
    for slice in parts.args.iter().flat_map(|arg| [arg.name, arg.value]) {
        let end = match slice {
            Slice::Body { end, .. } => (end as usize, body.len()),
            Slice::Arena { end, .. } => (end as usize, parts.arena.len()),
        };
        assert!(end.0 <= end.1);
        assert_eq!(parts.bytes(slice, body).len(), slice.len());
    }
}

fuzz_target!(|body: &[u8]| {
    let limits = BodyLimits { arguments_max: 1000, depth_max: 32 };
    let mut parts = BodyParts::default();
    body::urlencoded(body, b'&', &limits, &mut parts);
    check(&parts, body);
    assert!(!parts.args.is_empty() || body.iter().all(|&byte| byte == b'&'));
    let mut parts = BodyParts::default();
    body::cookies(body, &limits, &mut parts);
    check(&parts, body);
});
