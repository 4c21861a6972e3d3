//! `[recording]` of the node's settings: whether and how much of requests is kept for replay.

use phalanx_model::limits::{RECORDING_BYTES_MAX, RECORDING_KEPT_MS};
use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
use phalanx_policy::units::{duration_ms, size_bytes};
use schemars::JsonSchema;
use serde::Deserialize;

/// How much is kept, and of which apps nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) bytes_max: u64,
    pub(crate) kept_ms: u64,
    pub(crate) except: Vec<String>,
}

impl Default for Recorded {
    fn default() -> Self {
        Self { bytes_max: RECORDING_BYTES_MAX, kept_ms: RECORDING_KEPT_MS, except: Vec::new() }
    }
}

/// What is kept of requests for replay.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRecording {
    /// Whether anything is. `true` if not given.
    enabled: Option<bool>,
    /// How much is kept, 1 MiB to 100 GiB; the oldest goes first. "256 MiB" if not given.
    size: Option<At<String>>,
    /// For how long, a minute to 90 days. "24h" if not given.
    keep: Option<At<String>>,
    /// Apps of which nothing is kept, by name.
    #[serde(default)]
    except: Vec<String>,
}

/// Checks the table; `None`: nothing is recorded.
pub(crate) fn check(text: &Text<'_>, raw: &RawRecording, faults: &mut Vec<Diagnostic>) -> Option<Recorded> {
    let mut recorded = Recorded { except: raw.except.clone(), ..Recorded::default() };
    if let Some(written) = &raw.size {
        match size_bytes(written) {
            Ok(bytes) if (SIZE_LEAST..=SIZE_MAX).contains(&bytes) => recorded.bytes_max = bytes,
            Ok(_) => faults.push(text.error_at(&written.span, "`size` goes from 1 MiB to 100 GiB")),
            Err(fault) => faults.push(text.error_at(&written.span, fault)),
        }
    }
    if let Some(written) = &raw.keep {
        match duration_ms(written) {
            Ok(ms) if (KEEP_LEAST_MS..=KEEP_MAX_MS).contains(&ms) => recorded.kept_ms = ms,
            Ok(_) => faults.push(
                text.error_at(&written.span, "`keep` goes from a minute to 90 days")
                    .with_help("write `enabled = false` to record nothing"),
            ),
            Err(fault) => faults.push(text.error_at(&written.span, fault)),
        }
    }
    raw.enabled.unwrap_or(true).then_some(recorded)
}

const SIZE_LEAST: u64 = 1024 * 1024;
const SIZE_MAX: u64 = 100 * 1024 * 1024 * 1024;
const KEEP_LEAST_MS: u64 = 60_000;
const KEEP_MAX_MS: u64 = 90 * 24 * 60 * 60 * 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Recorded>, Vec<String>) {
        let mut faults = Vec::new();
        let text = Text::new("phalanx.toml", text);
        let raw = text.read_partly::<RawRecording>().0.unwrap_or_default();
        let recorded = check(&text, &raw, &mut faults);
        (recorded, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn requests_are_recorded_unless_it_is_said_that_they_are_not() {
        assert_eq!(read(""), (Some(Recorded::default()), vec![]));
        assert_eq!(read("enabled = false"), (None, vec![]));
        let (recorded, faults) = read("size = \"8 MiB\"\nkeep = \"2h\"\nexcept = [\"bank\"]\n");
        let expected = Recorded { bytes_max: 8 << 20, kept_ms: 7_200_000, except: vec!["bank".into()] };
        assert_eq!((recorded, faults), (Some(expected), vec![]));
    }

    #[test]
    fn bounds_that_make_no_sense_are_faults() {
        let (_, faults) = read("size = \"1 KiB\"\nkeep = \"1s\"\n");
        assert_eq!(faults.len(), 2);
        assert!(faults[0].contains("phalanx.toml:1") && faults[1].contains("a minute"), "{faults:?}");
    }
}
