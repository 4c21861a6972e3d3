//! A report as one table for spreadsheets: section, key, number. What a spreadsheet would calculate is text.

use phalanx_record::escape::for_csv;

use super::{Report, figures};

impl Report {
    /// RFC 4180, in UTF-8, with a head. Times have their distance from UTC.
    pub fn csv(&self) -> String {
        let zone = self.zone();
        let mut out = String::from("section,key,value,words\r\n");
        let mut told = |section: &str, key: &str, value: &str, words: &str| {
            let cells = [section, key, value, words].map(for_csv);
            out.push_str(&format!("{}\r\n", cells.join(",")));
        };
        let mut row = |section: &str, key: &str, value: &str| told(section, key, value, "");
        row("report", "from", &zone.rfc3339(self.from_ms));
        row("report", "to", &zone.rfc3339(self.to_ms));
        row("report", "time zone", &zone.to_string());
        if let Some(rounded_ms) = self.rounded_ms {
            row("report", "minutes early, as counts are by the hour", &(rounded_ms / 60_000).to_string());
        }
        if let Some(since) = self.counted_since_ms {
            row("report", "counted since", &zone.rfc3339(since));
        }
        row("report", "app", self.app.as_deref().unwrap_or("all"));
        self.answered.iter().for_each(|node| row("node", &node.to_string(), "counted"));
        self.copied.iter().for_each(|node| row("node", &node.to_string(), "told from a copy"));
        self.lacking().iter().for_each(|node| row("node", &node.to_string(), "missing"));
        for (name, number) in figures(&self.totals) {
            row("total", name, &number.to_string());
        }
        row("time before", "from", &zone.rfc3339(self.before_from_ms));
        row("time before", "to", &zone.rfc3339(self.before_to_ms));
        for (name, number) in figures(&self.before) {
            row("time before", name, &number.to_string());
        }
        for step in &self.over_time {
            row("requests", &zone.rfc3339(step.at_ms), &step.requests.to_string());
            row("refused", &zone.rfc3339(step.at_ms), &step.refused.to_string());
        }
        for part in &self.parts {
            for one in &part.rows {
                let words = self.words(part, one).unwrap_or_default();
                told(&part.by, &one.key, &one.requests.to_string(), words);
            }
            told(&part.by, "others", &part.others.to_string(), "");
        }
        let mut row = |section: &str, key: &str, value: &str| told(section, key, value, "");
        self.clients.iter().for_each(|one| row("client", &one.client, &one.refused.to_string()));
        self.incidents.iter().for_each(|one| row("incident", &one.id, &one.told()));
        out
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_cell_is_a_formula_and_each_line_has_four() {
        let csv = super::super::tests::report().csv();
        for line in csv.lines() {
            assert!(!line.split(',').any(|cell| cell.trim_start_matches('"').starts_with('=')), "{line}");
        }
        insta::assert_snapshot!(
            csv.lines().filter(|line| !line.starts_with("re")).collect::<Vec<_>>().join("\n")
        );
    }
}
