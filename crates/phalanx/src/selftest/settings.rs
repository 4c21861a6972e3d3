//! `[selftest]` of the node's settings: whether and how often the node attacks itself.

use std::time::Duration;

use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
use phalanx_policy::units::duration_ms;
use serde::Deserialize;

/// How often the node attacks itself, and which apps not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SelfTestSettings {
    /// `None`: not by itself.
    pub(crate) every: Option<Duration>,
    pub(crate) except: Vec<String>,
}

impl Default for SelfTestSettings {
    fn default() -> Self {
        Self { every: Some(EVERY), except: Vec::new() }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSelfTest {
    enabled: Option<bool>,
    every: Option<At<String>>,
    #[serde(default)]
    except: Vec<String>,
}

/// Checks the table.
pub(crate) fn check(text: &Text<'_>, raw: &RawSelfTest, faults: &mut Vec<Diagnostic>) -> SelfTestSettings {
    let mut every = EVERY;
    if let Some(written) = &raw.every {
        match duration_ms(written).map(Duration::from_millis) {
            Ok(time) if (EVERY_LEAST..=EVERY_MOST).contains(&time) => every = time,
            Ok(_) => faults.push(
                text.error_at(&written.span, "`every` goes from a second to an hour")
                    .with_help("write `enabled = false` to have the node not attack itself"),
            ),
            Err(fault) => faults.push(text.error_at(&written.span, fault)),
        }
    }
    SelfTestSettings { every: raw.enabled.unwrap_or(true).then_some(every), except: raw.except.clone() }
}

/// How often, unless it is said.
const EVERY: Duration = Duration::from_secs(60);
const EVERY_LEAST: Duration = Duration::from_secs(1);
const EVERY_MOST: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (SelfTestSettings, Vec<String>) {
        let mut faults = Vec::new();
        let text = Text::new("phalanx.toml", text);
        let raw = text.read_partly::<RawSelfTest>().0.unwrap_or_default();
        let settings = check(&text, &raw, &mut faults);
        (settings, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_node_attacks_itself_each_minute_unless_it_is_said_otherwise() {
        assert_eq!(read(""), (SelfTestSettings::default(), vec![]));
        let (settings, _) = read("every = \"5s\"\nexcept = [\"wiki\"]");
        assert_eq!((settings.every, settings.except), (Some(Duration::from_secs(5)), vec!["wiki".into()]));
        assert_eq!(read("enabled = false").0.every, None);
        let (_, faults) = read("every = \"2h\"");
        assert!(faults[0].contains("phalanx.toml:1") && faults[0].contains("enabled = false"), "{faults:?}");
    }
}
