//! What was sent of which report, and to whom: kept in a file, and told to the other nodes.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A report that is due, or was: when, and which time it is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub due_ms: u64,
    /// From here on,
    pub from_ms: u64,
    /// until here, exclusive.
    pub to_ms: u64,
}

/// How far a report has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The report's name.
    pub name: String,
    /// When it was due.
    pub due_ms: u64,
    /// What it is about: from here on,
    #[serde(default)]
    pub from_ms: u64,
    /// until here, exclusive. Nodes of before say neither, and both are 0.
    #[serde(default)]
    pub to_ms: u64,
    /// Receivers who got it, or do not want it.
    pub told: Vec<String>,
    /// Of these those who do not want it, and why.
    #[serde(default)]
    pub refused: Vec<(String, String)>,
    /// When it was tried last; 0: it was due before anybody knew of it, and is not sent.
    pub at_ms: u64,
    /// How often it was begun.
    pub attempts: u32,
    /// Nothing more is done about it.
    pub is_over: bool,
    /// Because it could not be.
    pub is_given_up: bool,
    /// What was wrong last.
    pub fault: Option<String>,
}

impl Delivery {
    /// Whether a clock that was far ahead wrote it.
    fn is_of_the_future(&self, now_ms: u64) -> bool {
        self.due_ms.max(self.at_ms) > now_ms.saturating_add(FUTURE_MAX_MS)
    }

    /// Whether what is due now was tried already: also where the hour or the zone of the settings was changed since, so that it is due
    /// at another time and about another day, more than half of which was in this one.
    fn covers(&self, due: Due) -> bool {
        let half_ms = due.to_ms.saturating_sub(due.from_ms) / 2;
        let apart_ms = match self.to_ms {
            0 => due.due_ms.saturating_sub(self.due_ms),
            to_ms => due.to_ms.saturating_sub(to_ms),
        };
        self.due_ms >= due.due_ms || self.at_ms > 0 && apart_ms < half_ms
    }

    /// This one and another node's of the same time: the later, with all that either told.
    fn joined(&self, other: Self) -> Self {
        let is_later = (self.at_ms, self.is_over) < (other.at_ms, other.is_over);
        let (mut delivery, before) = if is_later { (other, self.clone()) } else { (self.clone(), other) };
        let told = before.told.into_iter().filter(|to| !delivery.told.contains(to)).collect::<Vec<_>>();
        delivery.told.extend(told);
        let refused =
            before.refused.into_iter().filter(|(to, _)| !delivery.refused.iter().any(|(one, _)| one == to));
        let refused = refused.collect::<Vec<_>>();
        delivery.refused.extend(refused);
        delivery.attempts = delivery.attempts.max(before.attempts);
        if delivery.to_ms == 0 {
            (delivery.from_ms, delivery.to_ms) = (before.from_ms, before.to_ms);
        }
        if before.is_over && !delivery.is_over {
            (delivery.is_over, delivery.is_given_up, delivery.fault) =
                (true, before.is_given_up, before.fault);
        }
        delivery
    }
}

/// The latest delivery of each report.
#[derive(Debug)]
pub struct Deliveries {
    path: PathBuf,
    known: BTreeMap<String, Delivery>,
    is_changed: bool,
    fault: Option<String>,
    sent: u64,
    failed: u64,
}

impl Deliveries {
    /// Those of a file. Of one that cannot be read nothing is known, and nothing that was due before is sent.
    pub(super) fn open(path: &Path) -> Self {
        let mut bytes = Vec::new();
        let read =
            std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
        let known: Vec<Delivery> = match read {
            Ok(_) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let known = known.into_iter().map(|one| (one.name.clone(), one)).collect();
        Self { path: path.to_owned(), known, is_changed: false, fault: None, sent: 0, failed: 0 }
    }

    pub(super) fn of(&self, name: &str) -> Option<&Delivery> {
        self.known.get(name)
    }

    pub(super) fn fault(&self) -> Option<String> {
        self.fault.as_ref().map(|why| format!("what was sent of reports cannot be kept: {why}"))
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        (self.sent, self.failed)
    }

    /// What is to be sent now of a report that is due; none if it was sent, or is to be tried later. Each is an attempt, however it ends.
    pub(super) fn begin(&mut self, name: &str, due: Due, now_ms: u64) -> Option<Delivery> {
        let Due { due_ms, from_ms, to_ms } = due;
        let fresh = Delivery { name: name.to_owned(), due_ms, from_ms, to_ms, ..Delivery::default() };
        let begun = Delivery { at_ms: now_ms, attempts: 1, ..fresh.clone() };
        let Some(known) = self.known.get(name) else {
            // A report that nobody knew of begins with the next time.
            self.note(Delivery { is_over: true, ..fresh });
            return None;
        };
        if known.is_of_the_future(now_ms) {
            // A clock that was far ahead must not silence it until then. What was sent for then nobody can tell: it goes on with the next.
            let fault = Some("a clock was far ahead; it goes on with the next".to_owned());
            self.note(Delivery { at_ms: now_ms, is_over: true, is_given_up: true, fault, ..fresh });
            return None;
        }
        if !known.covers(due) {
            self.note(begun.clone());
            return Some(begun);
        }
        // What was begun for a later time, before a clock was set back or an hour was changed, is not begun for an earlier one.
        if known.due_ms > due_ms || known.is_over {
            return None;
        }
        // One that did not end, as its node did, goes on at once.
        let rest_ms = AGAIN_MS.saturating_mul(u64::from(known.attempts));
        if known.fault.is_some() && known.at_ms.saturating_add(rest_ms) > now_ms {
            return None;
        }
        let attempts = known.attempts.saturating_add(1);
        let delivery = Delivery { attempts, at_ms: now_ms, fault: None, ..known.clone() };
        if attempts > ATTEMPTS_MAX {
            let fault = Some("it was begun again and again, and never ended".to_owned());
            self.note(Delivery { is_over: true, is_given_up: true, fault, ..delivery });
            self.failed = self.failed.saturating_add(1);
            return None;
        }
        self.note(delivery.clone());
        Some(delivery)
    }

    /// A receiver got it.
    pub(super) fn told(&mut self, name: &str, to: &str, now_ms: u64) {
        if let Some(mut delivery) = self.known.get(name).cloned() {
            delivery.told.push(to.to_owned());
            delivery.at_ms = now_ms;
            self.note(delivery);
        }
    }

    /// A receiver does not want it, and is not asked again.
    pub(super) fn refused(&mut self, name: &str, to: &str, why: &str, now_ms: u64) {
        if let Some(delivery) = self.known.get_mut(name) {
            delivery.refused.push((to.to_owned(), why.chars().take(FAULT_CHARS_MAX).collect()));
        }
        self.told(name, to, now_ms);
    }

    /// Another node goes on with it: that is no attempt.
    pub(super) fn let_go(&mut self, name: &str) {
        if let Some(mut delivery) = self.known.get(name).cloned() {
            delivery.attempts = delivery.attempts.saturating_sub(1);
            self.note(delivery);
        }
    }

    /// All were tried; says whether nothing more is done.
    pub(super) fn ended(&mut self, name: &str, to: &[String], fault: Option<String>, now_ms: u64) -> bool {
        let Some(mut delivery) = self.known.get(name).cloned() else { return true };
        let all = to.iter().all(|one| delivery.told.contains(one));
        let refused = delivery.refused.iter().map(|(to, why)| format!("{to}: it answers with {why}"));
        let faults: Vec<String> = fault.into_iter().chain(refused).collect();
        let fault = (!faults.is_empty()).then(|| faults.join("; ").chars().take(FAULT_CHARS_MAX).collect());
        delivery.at_ms = now_ms;
        delivery.is_over = all || delivery.attempts >= ATTEMPTS_MAX;
        // Who was told of a refusal may mend it: it is a failure that is over.
        delivery.is_given_up = delivery.is_over && (fault.is_some() || !all);
        delivery.fault = fault;
        if delivery.is_over {
            let count = if delivery.is_given_up { &mut self.failed } else { &mut self.sent };
            *count = count.saturating_add(1);
        }
        let is_over = delivery.is_over;
        self.note(delivery);
        is_over
    }

    /// What another node did, as far as it is news.
    pub(super) fn adopt(&mut self, deliveries: Vec<Delivery>, now_ms: u64) {
        for delivery in
            deliveries.into_iter().take(REPORTS_MAX).filter(|delivery| !delivery.is_of_the_future(now_ms))
        {
            let known = self.known.get(&delivery.name).filter(|known| !known.is_of_the_future(now_ms));
            let delivery = match known {
                Some(known) if known.due_ms > delivery.due_ms => continue,
                Some(known) if known.due_ms == delivery.due_ms => known.joined(delivery),
                _ => delivery,
            };
            if self.known.get(&delivery.name) != Some(&delivery) {
                self.known.insert(delivery.name.clone(), delivery);
                self.keep();
            }
        }
    }

    pub(super) fn take_news(&mut self, all: bool) -> Option<Vec<Delivery>> {
        let is_changed = std::mem::take(&mut self.is_changed);
        ((all || is_changed) && !self.known.is_empty()).then(|| self.known.values().cloned().collect())
    }

    fn note(&mut self, delivery: Delivery) {
        self.is_changed = true;
        self.known.insert(delivery.name.clone(), delivery);
        self.keep();
    }

    /// As many as there may be schedules; of more the oldest, which are of schedules that are gone.
    fn keep(&mut self) {
        while self.known.len() > REPORTS_MAX {
            let oldest = self
                .known
                .values()
                .min_by_key(|delivery| delivery.due_ms)
                .map(|delivery| delivery.name.clone());
            let Some(oldest) = oldest else { break };
            self.known.remove(&oldest);
        }
        self.fault = self.write().err().map(|error| format!("{}: {error}", self.path.display()));
    }

    fn write(&self) -> io::Result<()> {
        let known: Vec<&Delivery> = self.known.values().collect();
        let beside = self.path.with_extension("new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec(&known)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)
    }
}

/// Schedules of a node.
pub const REPORTS_MAX: usize = 32;
/// Receivers of a report: what was told to each travels in a delivery.
pub const REPORT_RECEIVERS_MAX: usize = 16;
/// Deliveries in one message between nodes: with a refusal of each receiver they fit.
pub const DELIVERIES_TOLD_MAX: usize = 4;
/// How often a report is tried, with longer and longer pauses: half an hour in all.
const ATTEMPTS_MAX: u32 = 4;
const AGAIN_MS: u64 = 5 * 60_000;
/// How far clocks may be apart: the shortest time between two reports.
const FUTURE_MAX_MS: u64 = 24 * 3_600_000;
const FAULT_CHARS_MAX: usize = 200;
const FILE_BYTES_MAX: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    fn deliveries() -> (tempfile::TempDir, Deliveries) {
        let folder = tempfile::tempdir().unwrap();
        let deliveries = Deliveries::open(&folder.path().join("reports.json"));
        (folder, deliveries)
    }

    /// Of the day before.
    fn due(due_ms: u64) -> Due {
        let to_ms = due_ms / DAY * DAY;
        Due { due_ms, from_ms: to_ms - DAY, to_ms }
    }

    fn to() -> Vec<String> {
        vec!["ops".to_owned(), "boss".to_owned()]
    }

    #[test]
    fn a_report_is_sent_once_each_time_and_not_for_what_was_before_it() {
        let (folder, mut deliveries) = deliveries();
        assert_eq!(deliveries.begin("r", due(DAY), DAY + 1), None, "it was due before anybody knew of it");
        let delivery = deliveries.begin("r", due(2 * DAY), 2 * DAY + 1).unwrap();
        assert!(delivery.told.is_empty());
        to().iter().for_each(|one| deliveries.told("r", one, 2 * DAY + 2));
        assert!(deliveries.ended("r", &to(), None, 2 * DAY + 2));
        assert_eq!(deliveries.begin("r", due(2 * DAY), 2 * DAY + 3), None);
        // A process that comes after knows, and so does one that slept over some.
        let mut deliveries = Deliveries::open(&folder.path().join("reports.json"));
        assert_eq!(deliveries.begin("r", due(2 * DAY), 2 * DAY + 4), None);
        assert_eq!(deliveries.begin("r", due(7 * DAY), 7 * DAY + 9).unwrap().due_ms, 7 * DAY);
        assert_eq!((deliveries.begin("r", due(2 * DAY), 7 * DAY), deliveries.counts()), (None, (0, 0)));
    }

    #[test]
    fn who_did_not_get_it_is_told_again_and_not_for_ever() {
        let (_folder, mut deliveries) = deliveries();
        deliveries.begin("r", due(DAY), DAY);
        let (mut tries, mut now) = (0, 2 * DAY);
        while now < 3 * DAY {
            if let Some(delivery) = deliveries.begin("r", due(2 * DAY), now) {
                assert_eq!(delivery.told.len(), usize::from(tries > 0), "who got it is not told again");
                if tries == 0 {
                    deliveries.told("r", "ops", now);
                }
                tries += 1;
                deliveries.ended("r", &to(), Some("boss: nobody is there".into()), now);
            }
            now += 60_000;
        }
        assert_eq!((tries, deliveries.counts()), (ATTEMPTS_MAX, (0, 1)));
        assert!(deliveries.of("r").is_some_and(|delivery| delivery.is_given_up));
        assert!(deliveries.begin("r", due(3 * DAY), 3 * DAY).is_some(), "the next one is tried all the same");
    }

    #[test]
    fn who_takes_over_goes_on_where_the_other_stood() {
        let ((_one, mut before), (_other, mut after)) = (deliveries(), deliveries());
        before.begin("r", due(DAY), DAY);
        before.begin("r", due(2 * DAY), 2 * DAY).unwrap();
        before.told("r", "ops", 2 * DAY);
        after.adopt(before.take_news(false).unwrap(), 2 * DAY);
        let delivery = after.begin("r", due(2 * DAY), 2 * DAY + 10).unwrap();
        assert_eq!(delivery.told, ["ops"]);
        after.told("r", "boss", 2 * DAY + 11);
        after.ended("r", &to(), None, 2 * DAY + 11);
        before.adopt(after.take_news(false).unwrap(), 2 * DAY + 12);
        assert_eq!(before.begin("r", due(2 * DAY), 2 * DAY + 60_000), None);
        // What is old is no news.
        after
            .adopt(vec![Delivery { name: "r".into(), due_ms: DAY, ..Delivery::default() }], 2 * DAY + 60_000);
        assert_eq!((after.begin("r", due(2 * DAY), 3 * DAY), before.take_news(false)), (None, None));
        assert!(before.take_news(true).is_some());
    }

    #[test]
    fn a_clock_that_was_far_ahead_does_not_silence_a_report() {
        let (_folder, mut deliveries) = deliveries();
        deliveries.begin("r", due(DAY), DAY);
        assert!(deliveries.begin("r", due(900 * DAY), 900 * DAY).is_some(), "the clock is two years ahead");
        let of_the_future = deliveries.take_news(false).unwrap();
        assert_eq!(deliveries.begin("r", due(2 * DAY), 2 * DAY), None);
        assert!(
            deliveries.of("r").is_some_and(|delivery| delivery.is_given_up && delivery.due_ms == 2 * DAY),
            "it shows"
        );
        deliveries.adopt(of_the_future.clone(), 2 * DAY);
        assert!(deliveries.begin("r", due(3 * DAY), 3 * DAY).is_some());
        // A node that has one takes the others' word.
        let right = vec![deliveries.of("r").unwrap().clone()];
        deliveries.known.extend(of_the_future.into_iter().map(|delivery| (delivery.name.clone(), delivery)));
        deliveries.adopt(right, 3 * DAY);
        assert_eq!(deliveries.of("r").unwrap().due_ms, 3 * DAY);
    }

    #[test]
    fn who_does_not_want_it_is_not_forgotten_when_the_others_get_it() {
        let (_folder, mut deliveries) = deliveries();
        deliveries.begin("r", due(DAY), DAY);
        deliveries.begin("r", due(2 * DAY), 2 * DAY).unwrap();
        deliveries.refused("r", "ops", "550", 2 * DAY);
        assert!(!deliveries.ended("r", &to(), Some("boss: nobody is there".into()), 2 * DAY));
        assert_eq!(deliveries.begin("r", due(2 * DAY), 2 * DAY + AGAIN_MS).unwrap().told, ["ops"]);
        deliveries.told("r", "boss", 2 * DAY + AGAIN_MS);
        assert!(deliveries.ended("r", &to(), None, 2 * DAY + AGAIN_MS));
        let delivery = deliveries.of("r").unwrap();
        assert!(
            delivery.is_given_up && delivery.fault.as_deref() == Some("ops: it answers with 550"),
            "{delivery:?}"
        );
        assert_eq!(deliveries.counts(), (0, 1));
    }

    #[test]
    fn one_that_never_ends_is_begun_a_few_times() {
        let (_folder, mut deliveries) = deliveries();
        deliveries.begin("r", due(DAY), DAY);
        let begun = (0..10).filter(|at| deliveries.begin("r", due(2 * DAY), 2 * DAY + at).is_some()).count();
        assert_eq!((begun, deliveries.counts()), (4, (0, 1)));
        assert!(deliveries.of("r").is_some_and(|delivery| delivery.is_given_up));
    }

    #[test]
    fn what_two_nodes_told_of_the_same_report_is_joined() {
        let ((_one, mut one), (_other, mut other)) = (deliveries(), deliveries());
        for (deliveries, to) in [(&mut one, "ops"), (&mut other, "boss")] {
            deliveries.begin("r", due(DAY), DAY);
            deliveries.begin("r", due(2 * DAY), 2 * DAY).unwrap();
            deliveries.told("r", to, 2 * DAY + 1);
        }
        one.adopt(other.take_news(false).unwrap(), 2 * DAY + 2);
        assert_eq!(one.of("r").unwrap().told, ["ops", "boss"]);
    }

    #[test]
    fn a_zone_or_an_hour_that_is_changed_sends_no_report_twice() {
        let hour = DAY / 24;
        // Due then, of the day that ended then; sent; and what is due after the settings changed: what becomes of it.
        for (due_ms, to_ms, is_begun) in [
            // Seven at UTC+02:00 was sent; then it is seven at UTC+01:00, of a day that ends an hour later.
            (8 * hour, hour, false),
            // The hour became 23.
            (23 * hour, 0, false),
            // From the far east to the far west.
            (19 * hour, 11 * hour, false),
            // The next day is another report.
            (DAY + 6 * hour, DAY - hour, true),
            (DAY + 7 * hour, DAY, true),
        ] {
            let (_folder, mut deliveries) = deliveries();
            let base = 10 * DAY;
            deliveries.begin("r", due(9 * DAY), 9 * DAY);
            let sent = Due { due_ms: base + 7 * hour, from_ms: base - DAY, to_ms: base };
            assert!(deliveries.begin("r", sent, sent.due_ms).is_some());
            to().iter().for_each(|one| deliveries.told("r", one, sent.due_ms));
            assert!(deliveries.ended("r", &to(), None, sent.due_ms));
            let due = Due { due_ms: base + due_ms, from_ms: base + to_ms - DAY, to_ms: base + to_ms };
            assert_eq!(deliveries.begin("r", due, due.due_ms).is_some(), is_begun, "{due:?}");
        }
    }

    #[test]
    fn who_has_not_got_it_gets_the_same_report_after_the_zone_was_changed() {
        let (_folder, mut deliveries) = deliveries();
        deliveries.begin("r", due(DAY), DAY);
        deliveries.begin("r", due(2 * DAY), 2 * DAY).unwrap();
        deliveries.told("r", "ops", 2 * DAY);
        let moved = Due { due_ms: 2 * DAY + 3_600_000, from_ms: DAY + 3_600_000, to_ms: 2 * DAY + 3_600_000 };
        let goes_on = deliveries.begin("r", moved, moved.due_ms).unwrap();
        assert_eq!((goes_on.told.as_slice(), goes_on.due_ms), (&["ops".to_owned()][..], 2 * DAY));
        assert_eq!((goes_on.from_ms, goes_on.to_ms), (DAY, 2 * DAY));
    }

    #[test]
    fn what_nodes_of_before_wrote_is_read_and_not_sent_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reports.json");
        let sent = r#"[{"name":"r","due_ms":864000000,"told":["ops"],"at_ms":864000001,"attempts":1,"is_over":true,"is_given_up":false,"fault":null}]"#;
        std::fs::write(&path, sent).unwrap();
        let mut deliveries = Deliveries::open(&path);
        assert_eq!(deliveries.begin("r", due(10 * DAY), 10 * DAY + 5), None);
        assert_eq!(deliveries.begin("r", due(10 * DAY + 3_600_000), 10 * DAY + 3_600_000), None);
        assert!(deliveries.begin("r", due(11 * DAY), 11 * DAY).is_some());
    }
}
