//! A report as a few lines, for a terminal or a letter.

use phalanx_record::escape::for_terminal;

use super::{Report, change, figures};

impl Report {
    /// The lines.
    pub fn text(&self) -> String {
        let about =
            self.app.as_deref().map_or("all apps".to_owned(), |app| format!("app {}", for_terminal(app)));
        let names: Vec<String> = self.answered.iter().map(ToString::to_string).collect();
        let mut out = format!("{about}, {}, counted by {}\n", self.time_words(), names.join(", "));
        self.remarks().iter().for_each(|remark| out.push_str(&format!("{remark}\n")));
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
                let words = self.words(part, row).map(|words| format!("   {}", for_terminal(words)));
                let words = words.unwrap_or_default();
                out.push_str(&format!("  {:<22}{:>14}{words}\n", for_terminal(&row.key), row.requests));
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

#[cfg(test)]
mod tests {
    #[test]
    fn a_report_reads_well_in_a_terminal() {
        insta::assert_snapshot!(super::super::tests::report().text());
    }
}
