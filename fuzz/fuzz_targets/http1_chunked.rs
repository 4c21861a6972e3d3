//! A chunked body is the same, or the same fault, however its bytes are cut into reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_edge::http1::BodyDecoder;

/// The body, whether it is complete, and how many bytes follow it; `None` for a fault.
fn decode(input: &[u8], piece: usize) -> Option<(Vec<u8>, bool, usize)> {
    let mut decoder = BodyDecoder::chunked();
    let (mut body, mut start, mut end) = (Vec::new(), 0, 0);
    loop {
        let step = decoder.step(&input[start..end]).ok()?;
        body.extend_from_slice(&input[start..end][step.data]);
        start += step.consumed;
        if decoder.is_done() || step.consumed == 0 && end == input.len() {
            return Some((body, decoder.is_done(), input.len() - start));
        }
        if step.consumed == 0 {
            end = (end + piece).min(input.len());
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&piece, input)) = data.split_first() else {
        return;
    };
    assert_eq!(decode(input, usize::from(piece).max(1)), decode(input, input.len().max(1)));
});
