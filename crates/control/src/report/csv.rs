//! A report as one table for spreadsheets: section, key, number. What a spreadsheet would calculate is text.

use phalanx_record::escape::for_csv;
use phalanx_record::rfc3339;

use super::{Report, figures};

impl Report {
    /// RFC 4180, in UTF-8, with a head.
    pub fn csv(&self) -> String {
        let mut out = String::from("section,key,value\r\n");
        let mut row = |section: &str, key: &str, value: &str| {
            out.push_str(&format!("{},{},{}\r\n", for_csv(section), for_csv(key), for_csv(value)));
        };
        row("report", "from", &rfc3339(self.from_ms));
        row("report", "to", &rfc3339(self.to_ms));
        if let Some(since) = self.counted_since_ms {
            row("report", "counted since", &rfc3339(since));
        }
        row("report", "app", self.app.as_deref().unwrap_or("all"));
        self.answered.iter().for_each(|node| row("node", &node.to_string(), "counted"));
        self.copied.iter().for_each(|node| row("node", &node.to_string(), "told from a copy"));
        self.lacking().iter().for_each(|node| row("node", &node.to_string(), "missing"));
        for (name, number) in figures(&self.totals) {
            row("total", name, &number.to_string());
        }
        for (name, number) in figures(&self.before) {
            row("time before", name, &number.to_string());
        }
        for step in &self.over_time {
            row("requests", &rfc3339(step.at_ms), &step.requests.to_string());
            row("refused", &rfc3339(step.at_ms), &step.refused.to_string());
        }
        for part in &self.parts {
            part.rows.iter().for_each(|one| row(&part.by, &one.key, &one.requests.to_string()));
            row(&part.by, "others", &part.others.to_string());
        }
        self.clients.iter().for_each(|one| row("client", &one.client, &one.refused.to_string()));
        self.incidents.iter().for_each(|one| row("incident", &one.id, &one.told()));
        out
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_cell_is_a_formula_and_each_line_has_three() {
        let csv = super::super::tests::report().csv();
        for line in csv.lines() {
            assert!(!line.split(',').any(|cell| cell.trim_start_matches('"').starts_with('=')), "{line}");
        }
        insta::assert_snapshot!(
            csv.lines().filter(|line| !line.starts_with("re")).collect::<Vec<_>>().join("\n")
        );
    }
}
