//! Compressed bodies: the first byte chooses the codings.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_inspect::body::coding::{self, Coding, End};

const ROOM: usize = 200_000;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, body)) = data.split_first() else { return };
    let all = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];
    let first = all[usize::from(choice) % 4];
    let codings =
        if choice & 0x80 == 0 { vec![first] } else { vec![all[usize::from(choice) / 4 % 4], first] };
    let decoded = coding::decode(body, &codings, coding::Room::of(ROOM));
    assert!(decoded.body.len() <= ROOM.min((body.len() * 100).max(64 * 1024)));
    assert!(decoded.end == End::Whole || decoded.end.reason().is_some());
});
