//! Charsets: the first line is a media type, the rest a text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_inspect::body::charset::{self, Charset};

fuzz_target!(|data: &[u8]| {
    let split = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let (media_type, text) = (&data[..split], data.get(split + 1..).unwrap_or_default());
    let named = charset::of_media_type(media_type).ok().flatten().or_else(|| charset::of_xml(text));
    for charset in [named.unwrap_or(Charset::Latin9), Charset::Utf16, Charset::Utf16Le] {
        match charset::decode(text, charset) {
            Ok(decoded) => assert!(charset == Charset::Utf8 || std::str::from_utf8(&decoded).is_ok()),
            Err((decoded, _)) => assert!(std::str::from_utf8(&decoded).is_ok()),
        }
    }
});
