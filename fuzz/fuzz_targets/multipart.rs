//! Multipart forms: the first line is the content type, the rest the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_inspect::body::{self, BodyLimits, BodyParts};

fuzz_target!(|data: &[u8]| {
    let split = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let (content_type, body) = (&data[..split], data.get(split + 1..).unwrap_or_default());
    let mut parts = BodyParts::default();
    body::multipart(body, content_type, &BodyLimits { arguments_max: 100, depth_max: 32 }, &mut parts);
    assert!(parts.error.is_none() || parts.multipart.strict_error);
    // Only the last boundary alone, an empty form, gives nothing; text around it sets its flag.
    let empty_form = parts.multipart.strict_error || body.trim_ascii_end().ends_with(b"--");
    assert!(parts.error.is_some() || !parts.args.is_empty() || !parts.files.is_empty() || empty_form);
    assert_eq!(parts.files.len(), parts.part_filenames.len());
    for file in &parts.files {
        assert_eq!(parts.bytes(file.content, body).len(), file.content.len());
    }
});
