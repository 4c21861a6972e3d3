//! A report as a few lines, for a terminal or a letter.

use phalanx_record::escape::for_terminal;
use phalanx_record::rfc3339;

use super::{Report, change, figures};

impl Report {
    /// The lines.
    pub fn text(&self) -> String {
        let about =
            self.app.as_deref().map_or("all apps".to_owned(), |app| format!("app {}", for_terminal(app)));
        let names: Vec<String> = self.answered.iter().map(ToString::to_string).collect();
        let mut out = format!(
            "{about}, {} to {}, counted by {}\n",
            rfc3339(self.from_ms),
            rfc3339(self.to_ms),
            names.join(", ")
        );
        if let Some(since) = self.counted_since_ms {
            out.push_str(&format!(
                "there are counts since {}; nothing is known of what was before\n",
                rfc3339(since)
            ));
        }
        if !self.copied.is_empty() {
            let copied: Vec<String> = self.copied.iter().map(ToString::to_string).collect();
            out.push_str(&format!(
                "told by a control node of its site, of its copy: {}\n",
                copied.join(", ")
            ));
        }
        let missing: Vec<String> = self.lacking().into_iter().map(ToString::to_string).collect();
        if !missing.is_empty() {
            out.push_str(&format!("MISSING, because they did not answer: {}\n", missing.join(", ")));
        }
        out.push('\n');
        for ((name, now), (_, before)) in figures(&self.totals).into_iter().zip(figures(&self.before)) {
            out.push_str(&format!("{name:<24}{now:>14}   {}\n", change(now, before)));
        }
        for part in self.parts.iter().filter(|part| !part.rows.is_empty()) {
            out.push_str(&format!("\n{}\n", heading(&part.by)));
            for row in part.rows.iter().take(ROWS_MAX) {
                out.push_str(&format!("  {:<22}{:>14}\n", for_terminal(&row.key), row.requests));
            }
        }
        if !self.clients.is_empty() {
            out.push_str("\nclients refused most\n");
            for one in self.clients.iter().take(ROWS_MAX) {
                out.push_str(&format!(
                    "  {:<22}{:>14}   {}\n",
                    for_terminal(&one.client),
                    one.refused,
                    for_terminal(one.country.as_deref().unwrap_or(""))
                ));
            }
        }
        if !self.incidents.is_empty() {
            out.push_str("\nincidents\n");
            for one in self.incidents.iter().take(ROWS_MAX) {
                out.push_str(&format!("  {} {}: {}\n", one.id, one.severity, for_terminal(&one.told())));
            }
        }
        out
    }
}

fn heading(by: &str) -> String {
    match by {
        "app" => "requests by app".to_owned(),
        other => format!("refused by {other}"),
    }
}

const ROWS_MAX: usize = 10;
