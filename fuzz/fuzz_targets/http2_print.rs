//! Any opening of HTTP/2 has a print of bounded length or none, and bytes behind the first head change nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_edge::http2::print::{Opening, read};

fuzz_target!(|data: &[u8]| {
    let bytes = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], data].concat();
    let whole = read(&bytes);
    if let Opening::Print(print) = &whole {
        assert!(print.len() < 2_000);
        assert_eq!(read(&[&bytes[..], b"more"].concat()), whole);
    }
    for end in (0..bytes.len().min(300)).step_by(7) {
        let early = read(&bytes[..end]);
        assert!(early == Opening::Incomplete || early == whole, "cut at {end}");
    }
});
