//! Any bytes are a `CheckRequest` of Envoy's or none; a head that is made of one and has no fault says one thing only.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use phalanx_edge::check::envoy;
use phalanx_edge::http1::HeadLimits;

fuzz_target!(|data: &[u8]| {
    if let Ok(question) = envoy::read(Bytes::copy_from_slice(data), HeadLimits::default()) {
        phalanx_fuzz::says_one_thing(&question.head);
    }
});
