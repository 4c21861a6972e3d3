//! How alike: payloads that differ in words and numbers only have the same shape.

/// The shape of a payload, as a SimHash (Charikar, "Similarity estimation techniques from rounding algorithms", 2002) of three
/// neighbouring parts at a time: runs of letters and of digits are one part each, whatever they say. Looks at the first KiB.
/// 0 for a payload without any part.
pub fn shape(payload: &[u8]) -> u64 {
    let mut weights = [0_i32; 64];
    let (mut last, mut part) = (0_u64, 0_u64);
    for &byte in payload.iter().take(SHAPE_BYTES_MAX) {
        let next = class(byte);
        if next == part && next != u64::from(byte) {
            continue;
        }
        let before = std::mem::replace(&mut last, part);
        part = next;
        let hash = mix(before << 16 | last << 8 | part);
        for (bit, weight) in weights.iter_mut().enumerate() {
            *weight += if hash >> bit & 1 == 1 { 1 } else { -1 };
        }
    }
    weights.iter().enumerate().fold(0, |all, (bit, weight)| all | u64::from(*weight > 0) << bit)
}

/// Whether two shapes are near: at most 3 of 64 bits apart (Manku, Jain and Das Sarma, "Detecting near-duplicates for web
/// crawling", 2007). No shape is like none.
pub fn alike(one: u64, other: u64) -> bool {
    one != 0 && other != 0 && (one ^ other).count_ones() <= 3
}

/// Spreads a number over all 64 bits (the finaliser of MurmurHash3): sketches count on it that low and high bits are even.
pub fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

fn class(byte: u8) -> u64 {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => 1,
        b'0'..=b'9' => 2,
        0..=b' ' => 3,
        other => u64::from(other),
    }
}

const SHAPE_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_do_not_change_a_shape() {
        let attack = |table: &str, number: u32| format!("q=1' UNION SELECT {number},pass FROM {table}-- -");
        assert_eq!(shape(attack("users", 7).as_bytes()), shape(attack("accounts", 4_711).as_bytes()));
        assert!(!alike(shape(attack("users", 7).as_bytes()), shape(b"q=<script>alert(1)</script>")));
        assert!(!alike(shape(b"user=ann&password=x"), shape(b"{\"user\":\"ann\",\"password\":\"x\"}")));
        assert!(!alike(shape(b""), shape(b"")));
    }
}
