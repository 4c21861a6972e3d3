//! What another node sends, as a summary or a sketch, and what was kept of the usual: each is read whole or not at all, and has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_learn::sketch::{Counts, Distinct, Hll, Quantiles};
use phalanx_learn::{Baselines, Summary};

fuzz_target!(|data: &[u8]| {
    if let Some(summary) = Summary::from_bytes(data) {
        assert_eq!(summary.to_bytes(), data);
    }
    if let Some(all) = Baselines::from_bytes(data) {
        assert_eq!(all.to_bytes(), data);
    }
    if let Some(mut sketch) = Hll::from_bytes(data) {
        assert_eq!(sketch.to_bytes(), data);
        let before = sketch.clone();
        sketch.merge(&before);
        assert_eq!(sketch, before);
        assert!(sketch.estimate() >= 0.0);
    }
    if let Some(mut sketch) = Quantiles::from_bytes(data) {
        assert_eq!(sketch.to_bytes(), data);
        assert!(sketch.per_mille(0) <= sketch.per_mille(1_000));
        sketch.merge(&sketch.clone());
    }
    if let Some(mut sketch) = Counts::from_bytes(data) {
        assert_eq!(sketch.to_bytes(), data);
        sketch.add(7, 1);
    }
    if let Some(mut sketch) = Distinct::from_bytes(data) {
        assert_eq!(sketch.to_bytes(), data);
        let before = sketch.since(0);
        sketch.merge(&sketch.clone());
        assert_eq!(sketch.since(0), before);
    }
});
