//! Any bytes, cut anywhere, give the same head; a head without faults has no ambiguous line end. Whom it names as its client is an
//! address, or cannot be read.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use phalanx_edge::client_address::client_of;
use phalanx_edge::http1::{HeadLimits, HeadReader, parse_head};
use phalanx_edge::{AddressField, AddressSource};

fuzz_target!(|data: &[u8]| {
    let Some((&piece, raw)) = data.split_first() else {
        return;
    };
    let whole = parse_head(raw).ok();
    let (mut reader, mut input, mut cut) = (HeadReader::default(), BytesMut::new(), None);
    for bytes in raw.chunks(usize::from(piece).max(1)) {
        input.extend_from_slice(bytes);
        cut = reader.read(&mut input, HeadLimits::default());
        if cut.is_some() {
            break;
        }
    }
    let parts = |head: &phalanx_edge::http1::RequestHead| {
        (head.raw.clone(), head.fields.clone(), head.faults.clone())
    };
    assert_eq!(cut.as_ref().map(parts), whole.as_ref().map(parts));
    if let Some(head) = &whole {
        let peer = [192, 0, 2, 1].into();
        let trusted = ["10.0.0.0/8"].iter().filter_map(|text| text.parse().ok()).collect();
        for field in [AddressField::XForwardedFor, AddressField::Forwarded, AddressField::Named("x".into())] {
            for hops in [None, Some(2)] {
                client_of(head, peer, &trusted, &AddressSource { field: field.clone(), hops, certified: false });
            }
        }
    }
    if let Some(head) = whole
        && head.faults.is_empty()
    {
        let mut before = 0;
        for &byte in head.raw.iter() {
            assert!((byte == b'\n') == (before == b'\r'), "a line end that is not CR LF passed");
            before = byte;
        }
    }
});
