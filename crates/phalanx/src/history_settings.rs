//! `[history]` of the node's settings: how much a control node keeps of what other nodes of its site recorded.

use phalanx_model::limits::HISTORY_COPIES_BYTES_MAX;
use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
use phalanx_policy::units::size_bytes;
use schemars::JsonSchema;
use serde::Deserialize;

/// What a control node keeps of the histories of other nodes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHistory {
    /// How much a control node keeps of what the other nodes of its site recorded, 16 MiB to 10 TiB; the oldest of the node that has most goes first.
    /// "8 GiB" if not given.
    copies: Option<At<String>>,
}

/// Checks the table; how many bytes of copies are kept.
pub(crate) fn check(text: &Text<'_>, raw: &RawHistory, faults: &mut Vec<Diagnostic>) -> u64 {
    let Some(written) = &raw.copies else { return HISTORY_COPIES_BYTES_MAX };
    match size_bytes(written) {
        Ok(bytes) if (SIZE_LEAST..=SIZE_MAX).contains(&bytes) => return bytes,
        Ok(_) => faults.push(text.error_at(&written.span, "`copies` goes from 16 MiB to 10 TiB")),
        Err(fault) => faults.push(text.error_at(&written.span, fault)),
    }
    HISTORY_COPIES_BYTES_MAX
}

const SIZE_LEAST: u64 = 16 << 20;
const SIZE_MAX: u64 = 10 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (u64, Vec<String>) {
        let mut faults = Vec::new();
        let text = Text::new("phalanx.toml", text);
        let raw = text.read_partly::<RawHistory>().0.unwrap_or_default();
        let bytes = check(&text, &raw, &mut faults);
        (bytes, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn copies_have_a_size_within_reason() {
        assert_eq!(read(""), (HISTORY_COPIES_BYTES_MAX, vec![]));
        assert_eq!(read("copies = \"64 MiB\""), (64 << 20, vec![]));
        for wrong in ["copies = \"1 MiB\"", "copies = \"much\""] {
            let (bytes, faults) = read(wrong);
            assert_eq!((bytes, faults.len()), (HISTORY_COPIES_BYTES_MAX, 1), "{faults:?}");
            assert!(faults[0].contains("phalanx.toml:1"), "{faults:?}");
        }
    }
}
