//! Any bytes, cut anywhere, are the same PROXY header or none, and never more than the bytes that there are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_edge::proxy_protocol::{Header, read, write};
use phalanx_policy::ProxyProtocol;

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
        // Whoever it is told on reads of the same client.
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let written = write(version, header.addresses);
            let again = read(&written).unwrap().unwrap();
            assert_eq!(again.bytes, written.len());
            let source = |of: Header| of.addresses.map(|both| both.source.ip().to_canonical());
            assert_eq!(source(again), source(header));
        }
    }
});
