//! `[trace]` of the node's settings: what is done with trace contexts, and where spans go.

use phalanx_edge::{Sample, TraceMode, TraceSettings};
use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
use schemars::JsonSchema;
use serde::Deserialize;

/// What is done with trace contexts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTrace {
    /// Whether this hop takes part in traces. "pass" if not given.
    #[schemars(with = "Option<String>", extend("enum" = ["off", "pass", "continue", "restart"]))]
    mode: Option<At<TraceMode>>,
    /// The share of traces that are kept, as in "1%".
    sample: Option<At<String>>,
    /// Where spans go; in a build with `otel`.
    otlp: Option<At<RawOtlp>>,
}

/// A collector that spans go to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawOtlp {
    /// As in "http://127.0.0.1:4318".
    endpoint: At<String>,
    /// What the node is called there.
    service: Option<At<String>>,
}

/// Where spans go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtlpSettings {
    /// The collector, as `http://127.0.0.1:4318`.
    pub(crate) endpoint: String,
    /// What the node is called there.
    pub(crate) service: String,
}

/// Checks the table.
pub(crate) fn check(
    text: &Text<'_>,
    raw: &RawTrace,
    faults: &mut Vec<Diagnostic>,
) -> (TraceSettings, Option<OtlpSettings>) {
    let exports = raw.otlp.is_some();
    let default = if exports { TraceMode::Continue } else { TraceMode::Pass };
    let mode = raw.mode.as_ref().map_or(default, |mode| mode.value);
    let takes_part = matches!(mode, TraceMode::Continue | TraceMode::Restart);
    if let (Some(written), true, false) = (&raw.mode, exports, takes_part) {
        let fault =
            text.error_at(&written.span, "spans are to be sent, but this node takes no part in traces");
        faults.push(
            fault.with_help("write `mode = \"continue\"` or `\"restart\"`, or take `[trace.otlp]` out"),
        );
    }
    let sample = match &raw.sample {
        Some(written) if !takes_part => {
            let fault =
                text.error_at(&written.span, "`sample` is about traces that begin here, and none does");
            faults.push(fault.with_help("write `mode = \"continue\"`, or take it out"));
            Sample::NONE
        }
        Some(written) => parse_sample(&written.value).unwrap_or_else(|| {
            let fault = format!("`{}` is no share of traces", written.value);
            faults.push(text.error_at(&written.span, fault).with_help("write `1%`, `0.1%` or `100%`"));
            Sample::NONE
        }),
        // Whoever has spans sent wants to see some.
        None => if exports { Sample::of_million(10_000) } else { None }.unwrap_or_default(),
    };
    (TraceSettings { mode, sample }, raw.otlp.as_ref().and_then(|otlp| check_otlp(text, otlp, faults)))
}

fn check_otlp(text: &Text<'_>, raw: &At<RawOtlp>, faults: &mut Vec<Diagnostic>) -> Option<OtlpSettings> {
    if !cfg!(feature = "otel") {
        let fault = text.error_at(&raw.span, "this build cannot send spans");
        faults.push(
            fault.with_help("build it with `cargo build --release --features otel`, or take the table out"),
        );
        return None;
    }
    let endpoint = raw.endpoint.value.trim_end_matches('/');
    let url = endpoint.parse::<http::Uri>().ok();
    if !url.is_some_and(|url| url.scheme_str() == Some("http") && url.host().is_some()) {
        let fault = format!("`{}` is no address of a collector", raw.endpoint.value);
        let help =
            "write `http://127.0.0.1:4318`: a collector on this machine, which sends spans on over TLS";
        faults.push(text.error_at(&raw.endpoint.span, fault).with_help(help));
        return None;
    }
    let service = raw.service.as_ref().map_or("phalanx", |service| service.value.as_str());
    Some(OtlpSettings { endpoint: endpoint.to_owned(), service: service.to_owned() })
}

/// A percentage with up to four places after the point.
fn parse_sample(text: &str) -> Option<Sample> {
    let number = text.trim().strip_suffix('%')?.trim();
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || part.len() > 4 || !digits(whole) || !digits(part) {
        return None;
    }
    let part: u32 = format!("{part:0<4}").parse().ok()?;
    Sample::of_million(whole.parse::<u32>().ok()? * 10_000 + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> (TraceSettings, Vec<String>) {
        let text = Text::new("phalanx.toml", table);
        let (raw, mut faults) = text.read_partly::<RawTrace>();
        let (settings, _) = check(&text, &raw.unwrap(), &mut faults);
        (settings, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn contexts_are_passed_on_unless_more_is_asked_for() {
        assert_eq!(read(""), (TraceSettings::default(), Vec::new()));
        let (settings, faults) = read("mode = \"continue\"\nsample = \"0.5%\"\n");
        assert_eq!(
            settings,
            TraceSettings { mode: TraceMode::Continue, sample: Sample::of_million(5_000).unwrap() }
        );
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(read("mode = \"restart\"\n").0.sample, Sample::NONE);
    }

    #[test]
    fn shares_are_percentages() {
        for (text, million) in [("0%", 0), ("100%", 1_000_000), ("0.0001%", 1), ("12.5 %", 125_000)] {
            assert_eq!(parse_sample(text), Sample::of_million(million), "{text}");
        }
        for text in ["101%", "5", "%", "1.23456%", "-1%", "1e2%", "1000%"] {
            assert_eq!(parse_sample(text), None, "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_with_line_and_help() {
        for (table, fault) in [
            ("mode = \"alway\"\n", "1: unknown value `alway`"),
            ("sample = \"1%\"\n", "1: `sample` is about traces that begin here"),
            ("mode = \"continue\"\nsample = \"many\"\n", "2: `many` is no share of traces"),
        ] {
            let (_, faults) = read(table);
            assert!(faults.len() == 1 && faults[0].contains(fault), "{table}: {faults:?}");
        }
    }

    #[test]
    fn a_build_without_the_exporter_says_so() {
        let (_, faults) = read("[otlp]\nendpoint = \"http://127.0.0.1:4318\"\n");
        assert_eq!(faults.is_empty(), cfg!(feature = "otel"), "{faults:?}");
    }
}
