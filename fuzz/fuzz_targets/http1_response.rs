//! Any bytes from an upstream are a head, an error, or wait for more.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use phalanx_edge::http1::read_response_head;

fuzz_target!(|data: &[u8]| {
    for to_head in [false, true] {
        let mut input = BytesMut::from(data);
        if let Ok(Some(head)) = read_response_head(&mut input, to_head) {
            assert_eq!(head.raw.len() + input.len(), data.len());
        }
    }
});
