//! Any head is a question about another request or none; the head that it describes, if it has no fault, says one thing only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_edge::check::{Body, forwarded};
use phalanx_edge::http1::{HeadLimits, parse_head};

fuzz_target!(|data: &[u8]| {
    let Ok(asked) = parse_head(data) else { return };
    if let Ok(question) = forwarded::read(&asked, Body::unseen(), HeadLimits::default()) {
        phalanx_fuzz::says_one_thing(&question.head);
    }
});
