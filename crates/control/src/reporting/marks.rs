//! What was sent of which report, and to whom: kept in a file, and told to the other nodes.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How far a report has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The report's name.
    pub name: String,
    /// When it was due.
    pub due_ms: u64,
    /// Receivers who got it, or do not want it.
    pub told: Vec<String>,
    /// When it was tried last; 0: it was due before anybody knew of it, and is not sent.
    pub at_ms: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// Nothing more is done about it.
    pub is_over: bool,
    /// Because it could not be.
    pub is_given_up: bool,
    /// What was wrong last.
    pub fault: Option<String>,
}

/// The latest mark of each report.
#[derive(Debug)]
pub struct Marks {
    path: PathBuf,
    known: BTreeMap<String, Mark>,
    is_changed: bool,
    fault: Option<String>,
    sent: u64,
    failed: u64,
}

impl Marks {
    /// Those of a file. Of one that cannot be read nothing is known, and nothing that was due before is sent.
    pub(super) fn open(path: &Path) -> Self {
        let mut bytes = Vec::new();
        let read =
            std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
        let known: Vec<Mark> = match read {
            Ok(_) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let known = known.into_iter().map(|one| (one.name.clone(), one)).collect();
        Self { path: path.to_owned(), known, is_changed: false, fault: None, sent: 0, failed: 0 }
    }

    pub(super) fn of(&self, name: &str) -> Option<&Mark> {
        self.known.get(name)
    }

    pub(super) fn fault(&self) -> Option<String> {
        self.fault.as_ref().map(|why| format!("what was sent of reports cannot be kept: {why}"))
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        (self.sent, self.failed)
    }

    /// What is to be sent now of a report that is due; none if it was sent, or is to be tried later.
    pub(super) fn begin(&mut self, name: &str, due_ms: u64, now_ms: u64) -> Option<Mark> {
        let fresh = Mark { name: name.to_owned(), due_ms, ..Mark::default() };
        let Some(known) = self.known.get(name) else {
            // A report that nobody knew of begins with the next time.
            self.note(Mark { is_over: true, ..fresh });
            return None;
        };
        if known.due_ms < due_ms {
            self.note(fresh.clone());
            return Some(fresh);
        }
        // What was begun for a later time, before a clock was set back or an hour was changed, covers an earlier one.
        let rests = known.at_ms.saturating_add(AGAIN_MS.saturating_mul(u64::from(known.attempts))) > now_ms;
        (known.due_ms == due_ms && !known.is_over && !rests).then(|| known.clone())
    }

    /// A receiver got it, or does not want it.
    pub(super) fn told(&mut self, name: &str, to: &str, now_ms: u64) {
        if let Some(mut mark) = self.known.get(name).cloned() {
            mark.told.push(to.to_owned());
            mark.at_ms = now_ms;
            self.note(mark);
        }
    }

    /// All were tried; says whether nothing more is done.
    pub(super) fn ended(&mut self, name: &str, to: &[String], fault: Option<String>, now_ms: u64) -> bool {
        let Some(mut mark) = self.known.get(name).cloned() else { return true };
        let all = to.iter().all(|one| mark.told.contains(one));
        mark.attempts = mark.attempts.saturating_add(1);
        mark.at_ms = now_ms;
        mark.is_over = all || mark.attempts >= ATTEMPTS_MAX;
        // Who was told of a refusal may mend it: it is a failure that is over.
        mark.is_given_up = mark.is_over && fault.is_some();
        mark.fault = fault.map(|why| why.chars().take(FAULT_CHARS_MAX).collect());
        if mark.is_over {
            let count = if mark.is_given_up { &mut self.failed } else { &mut self.sent };
            *count = count.saturating_add(1);
        }
        let is_over = mark.is_over;
        self.note(mark);
        is_over
    }

    /// What another node did, as far as it is news.
    pub(super) fn adopt(&mut self, marks: Vec<Mark>) {
        for mark in marks.into_iter().take(MARKS_MAX) {
            let known = self.known.get(&mark.name).map(|known| (known.due_ms, known.at_ms, known.is_over));
            if known.is_none_or(|known| known < (mark.due_ms, mark.at_ms, mark.is_over)) {
                self.known.insert(mark.name.clone(), mark);
                self.keep();
            }
        }
    }

    pub(super) fn take_news(&mut self, all: bool) -> Option<Vec<Mark>> {
        let is_changed = std::mem::take(&mut self.is_changed);
        ((all || is_changed) && !self.known.is_empty()).then(|| self.known.values().cloned().collect())
    }

    fn note(&mut self, mark: Mark) {
        self.is_changed = true;
        self.known.insert(mark.name.clone(), mark);
        self.keep();
    }

    /// As many as there may be schedules; of more the oldest, which are of schedules that are gone.
    fn keep(&mut self) {
        while self.known.len() > MARKS_MAX {
            let oldest = self.known.values().min_by_key(|mark| mark.due_ms).map(|mark| mark.name.clone());
            let Some(oldest) = oldest else { break };
            self.known.remove(&oldest);
        }
        self.fault = self.write().err().map(|error| format!("{}: {error}", self.path.display()));
    }

    fn write(&self) -> io::Result<()> {
        let known: Vec<&Mark> = self.known.values().collect();
        let beside = self.path.with_extension("new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec(&known)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)
    }
}

/// Schedules of a node; their marks fit into one message between nodes.
pub const MARKS_MAX: usize = 32;
/// How often a report is tried, with longer and longer pauses: half an hour in all.
const ATTEMPTS_MAX: u32 = 4;
const AGAIN_MS: u64 = 5 * 60_000;
const FAULT_CHARS_MAX: usize = 200;
const FILE_BYTES_MAX: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    fn marks() -> (tempfile::TempDir, Marks) {
        let folder = tempfile::tempdir().unwrap();
        let marks = Marks::open(&folder.path().join("reports.json"));
        (folder, marks)
    }

    fn to() -> Vec<String> {
        vec!["ops".to_owned(), "boss".to_owned()]
    }

    #[test]
    fn a_report_is_sent_once_each_time_and_not_for_what_was_before_it() {
        let (folder, mut marks) = marks();
        assert_eq!(marks.begin("r", DAY, DAY + 1), None, "it was due before anybody knew of it");
        let mark = marks.begin("r", 2 * DAY, 2 * DAY + 1).unwrap();
        assert!(mark.told.is_empty());
        to().iter().for_each(|one| marks.told("r", one, 2 * DAY + 2));
        assert!(marks.ended("r", &to(), None, 2 * DAY + 2));
        assert_eq!(marks.begin("r", 2 * DAY, 2 * DAY + 3), None);
        // A process that comes after knows, and so does one that slept over some.
        let mut marks = Marks::open(&folder.path().join("reports.json"));
        assert_eq!(marks.begin("r", 2 * DAY, 2 * DAY + 4), None);
        assert_eq!(marks.begin("r", 7 * DAY, 7 * DAY + 9).unwrap().due_ms, 7 * DAY);
        assert_eq!((marks.begin("r", 2 * DAY, 7 * DAY), marks.counts()), (None, (0, 0)));
    }

    #[test]
    fn who_did_not_get_it_is_told_again_and_not_for_ever() {
        let (_folder, mut marks) = marks();
        marks.begin("r", DAY, DAY);
        let (mut tries, mut now) = (0, 2 * DAY);
        while now < 3 * DAY {
            if let Some(mark) = marks.begin("r", 2 * DAY, now) {
                assert_eq!(mark.told.len(), usize::from(tries > 0), "who got it is not told again");
                if tries == 0 {
                    marks.told("r", "ops", now);
                }
                tries += 1;
                marks.ended("r", &to(), Some("boss: nobody is there".into()), now);
            }
            now += 60_000;
        }
        assert_eq!((tries, marks.counts()), (ATTEMPTS_MAX, (0, 1)));
        assert!(marks.of("r").is_some_and(|mark| mark.is_given_up));
        assert!(marks.begin("r", 3 * DAY, 3 * DAY).is_some(), "the next one is tried all the same");
    }

    #[test]
    fn who_takes_over_goes_on_where_the_other_stood() {
        let ((_one, mut before), (_other, mut after)) = (marks(), marks());
        before.begin("r", DAY, DAY);
        before.begin("r", 2 * DAY, 2 * DAY).unwrap();
        before.told("r", "ops", 2 * DAY);
        after.adopt(before.take_news(false).unwrap());
        let mark = after.begin("r", 2 * DAY, 2 * DAY + 10).unwrap();
        assert_eq!(mark.told, ["ops"]);
        after.told("r", "boss", 2 * DAY + 11);
        after.ended("r", &to(), None, 2 * DAY + 11);
        before.adopt(after.take_news(false).unwrap());
        assert_eq!(before.begin("r", 2 * DAY, 2 * DAY + 60_000), None);
        // What is old is no news.
        after.adopt(vec![Mark { name: "r".into(), due_ms: DAY, ..Mark::default() }]);
        assert_eq!((after.begin("r", 2 * DAY, 3 * DAY), before.take_news(false)), (None, None));
        assert!(before.take_news(true).is_some());
    }
}
