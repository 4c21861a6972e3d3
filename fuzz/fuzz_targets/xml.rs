//! XML documents.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_inspect::body::{self, BodyLimits, BodyParts};

fuzz_target!(|body: &[u8]| {
    for into_args in [false, true] {
        let mut parts = BodyParts::default();
        body::xml(body, into_args, &BodyLimits { arguments_max: 1000, depth_max: 32 }, &mut parts);
        assert!(parts.error.is_some() || parts.xml_text.is_some());
        for &value in parts.xml_attributes.iter().chain(parts.xml_asides.iter().map(|(_, value)| value)) {
            assert_eq!(parts.bytes(value, body).len(), value.len());
        }
    }
});
