//! What an identity provider, or who sits in its place, sends: its keys, and a token. Whatever it is, nobody is believed whose key is not known.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use phalanx_trust::oidc::{Expected, KeySet};

/// Keys that signed nothing of what comes.
static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    KeySet::from_json(include_bytes!("../seeds/id_token/keys")).expect("the seed is a set of keys")
});

fuzz_target!(|data: &[u8]| {
    let expected = Expected {
        issuer: "https://id.example",
        client: "phalanx",
        nonce: "n-1",
        now_ms: 1_800_000_000_000,
    };
    let (set, token) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(0));
    for text in [data, token] {
        if let Ok(text) = std::str::from_utf8(text) {
            assert!(KEYS.believe(text.trim_start(), expected).is_err());
            // A set of the sender's own may have signed it: then it is believed, and what it says is within its limits.
            if let Ok(keys) = KeySet::from_json(set)
                && let Ok(token) = keys.believe(text.trim_start(), expected)
            {
                assert!((1..=255).contains(&token.subject.len()));
            }
        }
    }
});
