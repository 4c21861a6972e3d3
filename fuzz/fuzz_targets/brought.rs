//! What another node of the site brings of its history: requests, and counts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_record::{CountsBatch, SpoolBatch};

fuzz_target!(|data: &[u8]| {
    if let Some(batch) = SpoolBatch::from_bytes(data) {
        assert_eq!(batch.to_bytes(), data);
        assert!(CountsBatch::from_bytes(data).is_none(), "a batch is of one form");
    }
    if let Some(batch) = CountsBatch::from_bytes(data) {
        assert!(0 <= batch.after && batch.after <= batch.upto);
        assert_eq!(CountsBatch::from_bytes(&batch.to_bytes()), Some(batch));
    }
});
