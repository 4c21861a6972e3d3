//! Requests over time as a picture: SVG within the page, without scripts.

use std::fmt::Write as _;

use super::ReportStep;
use crate::zone::Zone;

/// A chart of bars, refused requests in front of all; with a text for those who do not see it.
pub(super) fn svg(steps: &[ReportStep], zone: &Zone) -> String {
    let most = steps.iter().map(|step| step.requests).max().unwrap_or_default().max(1);
    let refused_most = steps.iter().max_by_key(|step| step.refused).copied().unwrap_or_default();
    let width = WIDTH / f64::from(u32::try_from(steps.len().max(1)).unwrap_or(u32::MAX));
    let height = |number: u64| number as f64 / most as f64 * HEIGHT;
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"Requests over time: at most {most} in one step; \
         most refused, {}, from {}\" preserveAspectRatio=\"none\">",
        HEIGHT + 2.0,
        refused_most.refused,
        zone.rfc3339(refused_most.at_ms),
    );
    for (place, step) in steps.iter().enumerate() {
        let x = width * place as f64;
        for (class, number) in [("all", step.requests), ("refused", step.refused)] {
            if number == 0 {
                continue;
            }
            // What is there can be seen, however little it is.
            let tall = height(number).max(1.0);
            // Writing to a String cannot fail.
            let _ = write!(
                out,
                "<rect class=\"{class}\" x=\"{x:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{tall:.2}\"/>",
                HEIGHT + 1.0 - tall,
                (width * 0.86).max(0.5),
            );
        }
    }
    out.push_str("</svg>");
    out
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 140.0;
