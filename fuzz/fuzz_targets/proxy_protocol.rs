//! Any bytes, cut anywhere, are the same PROXY header or none, and never more than the bytes that there are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_edge::proxy_protocol::read;

fuzz_target!(|data: &[u8]| {
    let whole = read(data);
    for end in 0..data.len().min(600) {
        let early = read(&data[..end]);
        assert!(early == Ok(None) || early == whole, "cut at {end}");
    }
    if let Ok(Some(header)) = whole {
        assert!(header.bytes <= data.len());
        // What follows is not looked at.
        assert_eq!(read(&data[..header.bytes]), whole);
    }
});
