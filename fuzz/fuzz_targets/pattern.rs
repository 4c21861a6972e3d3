//! Patterns: the first line is one, the rest a value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_inspect::pattern::{ABSENT, Captures, Flags, Pattern, Requirement};

fuzz_target!(|data: &[u8]| {
    let split = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len()).min(256);
    let (pattern, value) = (&data[..split], data.get(split + 1..).unwrap_or_default());
    let Ok(pattern) = std::str::from_utf8(pattern) else { return };
    let Ok(compiled) = Pattern::compile(pattern, Flags::MODSECURITY) else { return };
    let Ok(Some((start, end))) = compiled.find(value) else { return };
    assert!(start <= end && end <= value.len());
    let mut captures = Captures::default();
    assert_eq!(compiled.captures_at(value, 0, &mut captures), Ok(true));
    assert_eq!(captures.groups[0], Some((start, end)));
    for (required, absent) in compiled.requirements().iter().zip(ABSENT) {
        if !value.iter().any(|byte| absent.contains(byte)) {
            assert!(!required.impossible);
            fulfils(required, value);
        }
    }
});

fn fulfils(required: &Requirement, value: &[u8]) {
    assert!(value.len() >= required.min_len);
    let lower = value.to_ascii_lowercase();
    if let Some(literals) = &required.any_of {
        assert!(
            literals.iter().any(|text| lower.windows(text.len()).any(|window| window == text.as_slice()))
        );
    }
    for set in &required.byte_sets {
        assert!(value.iter().any(|byte| set[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1));
    }
}
