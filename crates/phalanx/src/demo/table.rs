//! The scenario's table: what happened, and whether that was as expected.

use std::fmt;

use serde::Serialize;

/// All rows.
#[derive(Debug, Default, Serialize)]
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
}

/// One thing that was tried.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// What.
    pub(super) what: String,
    /// What came of it at the shop itself.
    pub(super) direct: String,
    /// What came of it through Phalanx.
    pub(super) protected: String,
    /// What the other nodes did, and when.
    pub(super) others: String,
    /// The measured time in `others`, in milliseconds.
    pub(super) others_ms: Option<f64>,
    /// What was not as expected.
    pub(super) fault: Option<String>,
}

impl Row {
    /// A row that is as expected, so far.
    pub(super) fn new(what: &str) -> Self {
        let empty = || "-".to_owned();
        Self {
            what: what.to_owned(),
            direct: empty(),
            protected: empty(),
            others: empty(),
            others_ms: None,
            fault: None,
        }
    }

    /// Notes that something is not as expected; the first fault stays.
    pub(super) fn fault(&mut self, fault: impl fmt::Display) {
        self.fault.get_or_insert_with(|| fault.to_string());
    }
}

impl Table {
    /// Whether every row is as expected.
    pub(super) fn is_as_expected(&self) -> bool {
        self.rows.iter().all(|row| row.fault.is_none())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells =
            |row: &Row| [row.what.clone(), row.direct.clone(), row.protected.clone(), row.others.clone()];
        let mut lines = vec![TITLES.map(str::to_owned)];
        lines.extend(self.rows.iter().map(cells));
        let width = |column: fn(&[String; 4]) -> &String| {
            lines.iter().map(|line| column(line).chars().count()).max().unwrap_or_default()
        };
        let (first, second, third) = (width(|l| &l[0]), width(|l| &l[1]), width(|l| &l[2]));
        let faults = std::iter::once(None).chain(self.rows.iter().map(|row| row.fault.as_ref()));
        for ([what, direct, protected, others], fault) in lines.iter().zip(faults) {
            writeln!(f, "{what:<first$}  {direct:<second$}  {protected:<third$}  {others}")?;
            if let Some(fault) = fault {
                writeln!(f, "    NOT AS EXPECTED: {fault}")?;
            }
        }
        let failed = self.rows.iter().filter(|row| row.fault.is_some()).count();
        writeln!(f, "\nscenario: {} passed, {failed} failed", self.rows.len() - failed)
    }
}

const TITLES: [&str; 4] = ["what", "sent to the shop", "sent through Phalanx", "the other nodes"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_faults_stand_out() {
        let mut table = Table::default();
        table.rows.push(Row { direct: "leaked".into(), ..Row::new("an attack") });
        let mut bad = Row::new("visit");
        bad.fault("403 instead of 200");
        bad.fault("later and less important");
        table.rows.push(bad);
        let text = table.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0].find("sent to the shop"), lines[1].find("leaked"));
        assert_eq!(lines[3].trim(), "NOT AS EXPECTED: 403 instead of 200");
        assert_eq!(lines[5], "scenario: 1 passed, 1 failed");
        assert!(!table.is_as_expected());
    }
}
