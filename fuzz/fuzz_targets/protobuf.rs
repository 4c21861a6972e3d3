//! Protocol Buffers, alone and in frames of gRPC.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_inspect::body::coding::{Coding, Room};
use phalanx_inspect::body::{self, BodyLimits, BodyParts};

const LIMITS: BodyLimits = BodyLimits { arguments_max: 1000, depth_max: 32 };

fn check(parser: fn(&[u8], &BodyLimits, &mut BodyParts), body: &[u8]) {
    let mut parts = BodyParts::default();
    parser(body, &LIMITS, &mut parts);
    for arg in &parts.args {
        assert!(parts.bytes(arg.name, body).starts_with(b"proto"));
        assert_eq!(parts.bytes(arg.value, body).len(), arg.value.len());
    }
    assert!(parts.arena.len() <= body.len() * 30 + 256 * 1024);
}

fuzz_target!(|body: &[u8]| {
    check(body::protobuf, body);
    check(body::grpc, body);
    let plain = match body::grpc_plain(body, Some(Coding::Gzip), Room::of(100_000)) {
        Ok(plain) => plain.into_owned(),
        Err((plain, _)) => plain,
    };
    check(body::grpc, &plain);
});
