//! Transformations: the first byte chooses one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_inspect::transform::{self, UnicodeMap};
use phalanx_policy::seclang::ir::Transformation;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, input)) = data.split_first() else { return };
    let mut out = Vec::new();
    let mut all = Transformation::all();
    let Some(transformation) = all.nth(usize::from(choice) % all.len()) else { return };
    let changed = transform::apply(transformation, input, &UnicodeMap::default(), &mut out);
    assert!(!changed || (out != input && out.len() <= input.len() * 6 + 64));
});
