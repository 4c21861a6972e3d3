//! What is known of this node's records in the stream of decisions since they were last compared, so that the next comparison need not
//! read them all.
//!
//! A stream loses its end (a leader rolled back, a backup put back) or everything (a wipe). So if the last of our records that was
//! there at one comparison is in its place at the next, none of those before it is lost that way: one record stands for all. What
//! was confirmed in between is looked for by itself, because it may have come after the loss.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

/// A record of ours as a stream has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) subject: String,
    pub(super) digest: [u8; 32],
}

/// Records found in a stream, by sequence.
pub(super) type InStream = BTreeMap<u64, Found>;

/// What the next comparison goes by.
#[derive(Debug, Default)]
pub(super) struct Audited {
    /// The last of our records that were found in their place.
    latest: InStream,
    /// When all of them were last read; none if something was amiss since.
    read_all_at: Option<Instant>,
    /// What the stream confirmed since the last comparison: subjects and versions.
    confirmed: HashMap<String, u64>,
    doubted_at: Option<Instant>,
}

impl Audited {
    /// The stream confirmed a record.
    pub(super) fn confirm(&mut self, subject: &str, version: u64) {
        if self.confirmed.len() >= CONFIRMED_MAX {
            // More than it would take to read everything.
            (self.read_all_at, self.confirmed) = (None, HashMap::new());
        }
        self.confirmed.insert(subject.to_owned(), version);
    }

    /// Others lack something of ours: the next comparison reads everything. False if they said so a short while ago: nobody can
    /// have us read all the time.
    pub(super) fn doubt(&mut self, now: Instant) -> bool {
        let early = self.doubted_at.is_some_and(|at| now.duration_since(at) < DOUBT_EVERY);
        if !early {
            (self.read_all_at, self.doubted_at) = (None, Some(now));
        }
        !early
    }

    /// A comparison begins: what was found last time, unless everything should be read, and what was confirmed since. If the
    /// comparison does not end well, the next one reads everything.
    pub(super) fn begin(&mut self, now: Instant) -> (Option<Since>, HashMap<String, u64>) {
        let read_all_at = self.read_all_at.take().filter(|at| now.duration_since(*at) < READ_ALL_EVERY);
        let latest = std::mem::take(&mut self.latest);
        let since = read_all_at.map(|read_all_at| Since { latest, read_all_at });
        (since, std::mem::take(&mut self.confirmed))
    }

    /// A comparison ended well: these were found in their place.
    pub(super) fn end(&mut self, mut found: InStream, read_all_at: Instant) {
        while found.len() > LATEST_MAX {
            found.pop_first();
        }
        (self.latest, self.read_all_at) = (found, Some(read_all_at));
    }
}

/// The state at the last comparison.
#[derive(Debug)]
pub(super) struct Since {
    pub(super) latest: InStream,
    pub(super) read_all_at: Instant,
}

/// Enough that some of them are in force still a minute later; when none is, everything is read.
const LATEST_MAX: usize = 64;
const CONFIRMED_MAX: usize = 16_384;
/// Nothing that a server does by itself goes unnoticed until then; what somebody deletes by hand might.
const READ_ALL_EVERY: Duration = Duration::from_secs(60 * 60);
const DOUBT_EVERY: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn found(range: std::ops::Range<u64>) -> InStream {
        range.map(|n| (n, Found { subject: format!("s{n}"), digest: [0; 32] })).collect()
    }

    #[test]
    fn everything_is_read_at_first_after_what_failed_and_every_hour() {
        let (mut audited, now) = (Audited::default(), Instant::now());
        assert!(audited.begin(now).0.is_none(), "nothing was compared yet");
        audited.end(found(0..200), now);
        audited.confirm("new", 3);
        let (since, confirmed) = audited.begin(now + Duration::from_secs(60));
        let since = since.unwrap();
        assert_eq!(since.latest, found(200 - LATEST_MAX as u64..200));
        assert_eq!(confirmed, HashMap::from([("new".to_owned(), 3)]));
        assert!(audited.begin(now).0.is_none(), "the one before did not end");
        audited.end(found(0..1), since.read_all_at);
        assert!(audited.begin(now + READ_ALL_EVERY).0.is_none(), "an hour has passed");
    }

    #[test]
    fn doubt_of_others_is_heeded_now_and_then() {
        let (mut audited, now) = (Audited::default(), Instant::now());
        audited.end(found(0..1), now);
        assert!(audited.doubt(now) && audited.begin(now).0.is_none());
        audited.end(found(0..1), now);
        assert!(!audited.doubt(now + Duration::from_secs(60)) && audited.begin(now).0.is_some());
        assert!(audited.doubt(now + DOUBT_EVERY));
    }

    #[test]
    fn what_is_confirmed_takes_bounded_memory() {
        let mut audited = Audited::default();
        audited.end(found(0..1), Instant::now());
        for n in 0..=CONFIRMED_MAX {
            audited.confirm(&n.to_string(), 1);
        }
        assert_eq!(audited.confirmed.len(), 1);
        assert!(audited.begin(Instant::now()).0.is_none(), "so everything is read");
    }
}
