//! Writes counts of requests into buckets of minutes and hours.
//!
//! What was counted since the last time is added to its rows, in one transaction for both lengths: it is there once, or not at all. A bucket that
//! is over keeps its largest countries and rules; the others are added up. What comes later for it, because a request lasted long or a clock was set
//! back, is added to rows that are there.
//!
//! Each minute, and each hour that is over, has a number, which rises with each change: in this order others read them (`counts`).
//!
//! INVARIANT: sums never change; the number of buckets and of rows in each is bounded.

use std::collections::{BTreeSet, HashSet};

use phalanx_model::limits::{TRAFFIC_APPS_MAX, TRAFFIC_NAMES_MAX, TRAFFIC_VALUES_MAX};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Shared, name_context};
use crate::RecordError;
use crate::traffic::{Bucket, Count, Dimension, MINUTE_MS, OTHERS, Tally, TallyKey, country_of};

/// What the writer remembers between two writes; forgotten with the connection.
#[derive(Default)]
pub(super) struct Rollup {
    /// Tags whose names are in the database.
    named: HashSet<i64>,
}

impl Rollup {
    /// What is known of an open database.
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare("SELECT tag FROM names")?;
        let named = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        Ok(Self { named })
    }

    /// Adds all of it, or nothing.
    pub(super) fn write(
        &mut self,
        connection: &mut Connection,
        shared: &Shared,
        tally: &Tally,
        now_ms: u64,
    ) -> Result<(), RecordError> {
        let transaction = connection.transaction()?;
        let (mut fresh, mut changed) = (Vec::new(), BTreeSet::new());
        for (key, app, count) in tally.rows() {
            let app = app.map_or(Ok(0), |app| self.tag(&transaction, shared, ("app", app), &mut fresh))?;
            let value = match (key.dimension, country_of(key.value)) {
                (Dimension::Country, Some(country)) => {
                    self.tag(&transaction, shared, ("country", &country.to_string()), &mut fresh)?
                }
                _ => key.value.cast_signed(),
            };
            for bucket in Bucket::ALL {
                let is_over = add(&transaction, bucket, (key, app, value), count)?;
                // An hour that is not over is told by its minutes.
                if is_over || bucket == Bucket::Minute {
                    changed.insert((bucket.code(), at(bucket, key)));
                }
            }
        }
        for bucket in changed {
            number(&transaction, bucket, now_ms)?;
        }
        for bucket in Bucket::ALL {
            close(&transaction, bucket, now_ms)?;
            prune(&transaction, bucket, now_ms)?;
        }
        transaction.commit()?;
        self.named.extend(fresh);
        Ok(())
    }

    /// The tag of a name, which is written beside it when it is new. With too many names it is none's.
    fn tag(
        &self,
        transaction: &Transaction<'_>,
        shared: &Shared,
        (kind, name): (&str, &str),
        fresh: &mut Vec<i64>,
    ) -> Result<i64, RecordError> {
        let tag = shared.tag(kind, name);
        if self.named.contains(&tag) || fresh.contains(&tag) {
            return Ok(tag);
        }
        if self.named.len() + fresh.len() >= TRAFFIC_NAMES_MAX {
            return Ok(OTHERS);
        }
        let sealed = shared.sealer.seal(&name_context(tag), name.as_bytes())?;
        transaction
            .prepare_cached("INSERT OR IGNORE INTO names (tag, name) VALUES (?1, ?2)")?
            .execute(params![tag, sealed])?;
        fresh.push(tag);
        Ok(tag)
    }
}

/// The number of a bucket since 1970.
fn at(bucket: Bucket, key: &TallyKey) -> i64 {
    (key.minute * MINUTE_MS / bucket.length_ms()).cast_signed()
}

/// Gives a bucket that changed the next number.
fn number(transaction: &Transaction<'_>, (step, at): (i64, i64), now_ms: u64) -> rusqlite::Result<()> {
    let rev: i64 = transaction
        .prepare_cached("UPDATE counts_spool SET last = max(last + 1, ?1) RETURNING last")?
        .query_row([now_ms.cast_signed()], |row| row.get(0))?;
    transaction
        .prepare_cached("INSERT OR REPLACE INTO counts_changes (step, at, rev) VALUES (?1, ?2, ?3)")?
        .execute(params![step, at, rev])?;
    Ok(())
}

/// Adds to a bucket's rows; whether it was over already.
fn add(
    transaction: &Transaction<'_>,
    bucket: Bucket,
    (key, app, value): (&TallyKey, i64, i64),
    count: Count,
) -> rusqlite::Result<bool> {
    let at = at(bucket, key);
    let (step, dimension) = (bucket.code(), key.dimension.code());
    let known: Option<bool> = transaction
        .prepare_cached("SELECT closed FROM traffic_buckets WHERE step = ?1 AND at = ?2")?
        .query_row(params![step, at], |row| row.get(0))
        .optional()?;
    if known.is_none() {
        transaction
            .prepare_cached("INSERT INTO traffic_buckets (step, at, closed) VALUES (?1, ?2, 0)")?
            .execute(params![step, at])?;
    }
    let (all, refused) = (count.all.cast_signed(), count.refused.cast_signed());
    let mut value = value;
    if known == Some(true) && key.dimension.is_wide() {
        let added = transaction
            .prepare_cached(
                "UPDATE traffic SET n = n + ?6, refused = refused + ?7
                 WHERE step = ?1 AND dimension = ?2 AND at = ?3 AND app = ?4 AND value = ?5",
            )?
            .execute(params![step, dimension, at, app, value, all, refused])?;
        if added > 0 {
            return Ok(true);
        }
        value = OTHERS;
    }
    transaction
        .prepare_cached(
            "INSERT INTO traffic (step, dimension, at, app, value, n, refused) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET n = n + excluded.n, refused = refused + excluded.refused",
        )?
        .execute(params![step, dimension, at, app, value, all, refused])?;
    Ok(known == Some(true))
}

/// Adds up what is small in buckets that are over.
fn close(transaction: &Transaction<'_>, bucket: Bucket, now_ms: u64) -> rusqlite::Result<()> {
    // The one before may still get what was counted in its last seconds.
    let over = (now_ms / bucket.length_ms()).saturating_sub(1).cast_signed();
    let mut statement = transaction.prepare_cached(
        "SELECT at FROM traffic_buckets WHERE step = ?1 AND closed = 0 AND at < ?2 ORDER BY at LIMIT ?3",
    )?;
    let ended: Vec<i64> = statement
        .query_map(params![bucket.code(), over, BUCKETS_AT_ONCE], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for at in ended {
        for dimension in Dimension::ALL {
            fold_apps(transaction, (bucket, dimension, at))?;
            if dimension.is_wide() {
                fold_values(transaction, (bucket, dimension, at))?;
            }
        }
        transaction
            .prepare_cached("UPDATE traffic_buckets SET closed = 1 WHERE step = ?1 AND at = ?2")?
            .execute(params![bucket.code(), at])?;
        number(transaction, (bucket.code(), at), now_ms)?;
    }
    Ok(())
}

type Place = (Bucket, Dimension, i64);

/// Keeps the apps with the most requests apart.
fn fold_apps(transaction: &Transaction<'_>, place: Place) -> rusqlite::Result<()> {
    let apps: Vec<i64> = transaction
        .prepare_cached(
            "SELECT app FROM traffic WHERE step = ?1 AND dimension = ?2 AND at = ?3 AND app <> ?4
             GROUP BY app ORDER BY sum(n) DESC, app LIMIT -1 OFFSET ?5",
        )?
        .query_map(
            params![place.0.code(), place.1.code(), place.2, OTHERS, TRAFFIC_APPS_MAX as i64],
            |row| row.get(0),
        )?
        .collect::<rusqlite::Result<_>>()?;
    for app in apps {
        let rows: Vec<(i64, i64, i64)> = transaction
            .prepare_cached(
                "SELECT value, n, refused FROM traffic WHERE step = ?1 AND dimension = ?2 AND at = ?3 AND app = ?4",
            )?
            .query_map(params![place.0.code(), place.1.code(), place.2, app], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (value, n, refused) in rows {
            shift(transaction, place, (app, value), (OTHERS, value), (n, refused))?;
        }
    }
    Ok(())
}

/// Keeps the values with the most requests apart, for each app.
fn fold_values(transaction: &Transaction<'_>, place: Place) -> rusqlite::Result<()> {
    let rows: Vec<(i64, i64, i64, i64)> = transaction
        .prepare_cached(
            "SELECT app, value, n, refused FROM traffic
             WHERE step = ?1 AND dimension = ?2 AND at = ?3 AND value <> ?4 ORDER BY app, refused DESC, n DESC, value",
        )?
        .query_map(params![place.0.code(), place.1.code(), place.2, OTHERS], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let (mut of, mut kept) = (None, 0);
    for (app, value, n, refused) in rows {
        kept = if of == Some(app) { kept + 1 } else { 1 };
        of = Some(app);
        if kept > TRAFFIC_VALUES_MAX {
            shift(transaction, place, (app, value), (app, OTHERS), (n, refused))?;
        }
    }
    Ok(())
}

/// Moves what one row counts to another.
fn shift(
    transaction: &Transaction<'_>,
    (bucket, dimension, at): Place,
    from: (i64, i64),
    to: (i64, i64),
    (n, refused): (i64, i64),
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM traffic WHERE step = ?1 AND dimension = ?2 AND at = ?3 AND app = ?4 AND value = ?5",
        )?
        .execute(params![bucket.code(), dimension.code(), at, from.0, from.1])?;
    transaction
        .prepare_cached(
            "INSERT INTO traffic (step, dimension, at, app, value, n, refused) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET n = n + excluded.n, refused = refused + excluded.refused",
        )?
        .execute(params![bucket.code(), dimension.code(), at, to.0, to.1, n, refused])?;
    Ok(())
}

/// Deletes buckets that are too old, a few at a time: a clock that is ahead for a moment must not empty the tables. With twice as many as there
/// should be, which a clock that jumps can make, the oldest go at once.
fn prune(transaction: &Transaction<'_>, bucket: Bucket, now_ms: u64) -> rusqlite::Result<()> {
    let kept = bucket.kept();
    let first = (now_ms / bucket.length_ms()).saturating_sub(kept).cast_signed();
    let count: i64 = transaction
        .prepare_cached("SELECT count(*) FROM traffic_buckets WHERE step = ?1")?
        .query_row([bucket.code()], |row| row.get(0))?;
    let beyond = count.saturating_sub(2 * kept.cast_signed()).max(0);
    let mut statement = transaction.prepare_cached(
        "SELECT at FROM traffic_buckets WHERE step = ?1 AND (at < ?2 OR ?3 > 0) ORDER BY at LIMIT max(?3, ?4)",
    )?;
    let old: Vec<i64> = statement
        .query_map(params![bucket.code(), first, beyond, BUCKETS_PRUNED], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for at in old {
        for dimension in Dimension::ALL {
            transaction
                .prepare_cached("DELETE FROM traffic WHERE step = ?1 AND dimension = ?2 AND at = ?3")?
                .execute(params![bucket.code(), dimension.code(), at])?;
        }
        for table in ["traffic_buckets", "counts_changes"] {
            transaction
                .prepare_cached(&format!("DELETE FROM {table} WHERE step = ?1 AND at = ?2"))?
                .execute(params![bucket.code(), at])?;
        }
    }
    Ok(())
}

/// Buckets closed in one write: after a long stop there are two, after a clock that jumped perhaps more.
const BUCKETS_AT_ONCE: i64 = 64;
/// Buckets deleted in one write. There is one write in some seconds, so this is more than become too old.
const BUCKETS_PRUNED: i64 = 1;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    use phalanx_model::{
        AccessEvent, Action, Confidence, Country, Reason, RequestId, RuleClass, RuleInfo, Signal, Verdict,
    };
    use phalanx_trust::Sealer;
    use proptest::prelude::*;

    use super::super::{History, Store};
    use super::*;
    use crate::traffic::{By, HOUR_MS, Traffic, TrafficQuery};

    const NOON: u64 = 1_785_585_600_000;

    /// A request, as far as it is counted.
    #[derive(Debug, Clone, Copy)]
    struct One {
        at_ms: u64,
        app: u8,
        action: Action,
        status: u16,
        country: u8,
        rule: u16,
    }

    fn access(one: &One) -> AccessEvent {
        let verdict = Verdict { action: one.action, ..Verdict::allow(Reason::Clean) };
        serde_json::from_value(serde_json::json!({
            "id": RequestId::from_parts(one.at_ms, 1, 1), "at_ms": one.at_ms, "app": format!("app-{}", one.app),
            "client": "192.0.2.7", "peer": "192.0.2.7", "method": "GET", "host": "h", "target": "/", "protocol": "HTTP/1.1",
            "user_agent": "", "referer": "", "status": one.status, "request_bytes": 0, "response_bytes": 0, "duration_us": 0,
            "upstream_us": 0, "plan_version": 1, "view_revision": 1, "verdict": verdict,
        }))
        .unwrap()
    }

    fn country(number: u8) -> Option<Country> {
        (number > 0).then(|| Country::from_bytes([b'A' + number / 26, b'A' + number % 26]).unwrap())
    }

    fn signal(rule: u16) -> Option<Signal> {
        let info = RuleInfo {
            id: rule.into(),
            file: "f".into(),
            line: 1,
            class: if rule.is_multiple_of(2) {
                RuleClass::Protocol
            } else {
                RuleClass::Detection(Confidence::High)
            },
            severity: None,
            tags: Vec::new(),
            edition: Default::default(),
            unaudited: false,
            source: "".into(),
        };
        (rule > 0).then(|| Signal {
            rule: Arc::new(info),
            phase: 2,
            message: String::new(),
            verbatim: false,
            data: String::new(),
            matches: Vec::new(),
            score: 5,
            inbound: None,
            observed: false,
        })
    }

    fn count(tally: &mut Tally, one: &One) {
        tally.add(&access(one), signal(one.rule).as_ref(), country(one.country));
    }

    fn open(dir: &Path, sealer: &Arc<Sealer>) -> Store {
        Store::new(&dir.join("history.db"), Arc::clone(sealer), None, (1_000, 1 << 30)).unwrap()
    }

    fn asked(store: &Store, query: &TrafficQuery) -> Traffic {
        History::new(store.shared(), None).traffic(query).unwrap()
    }

    /// Sums that must be equal in any answer.
    fn check_sums(traffic: &Traffic) -> u64 {
        let each = traffic.series.iter().map(|one| (one.total, &one.points));
        let all: Vec<_> = each.chain([(traffic.others.total, &traffic.others.points)]).collect();
        for (total, points) in &all {
            assert_eq!(*total, points.iter().sum::<u64>());
        }
        all.iter().map(|(total, _)| total).sum()
    }

    fn one() -> impl Strategy<Value = One> {
        let action = prop::sample::select(crate::traffic::ACTIONS.to_vec());
        let status = prop::sample::select(vec![0_u16, 200, 301, 403, 404, 429, 500, 503, 999]);
        // Some minutes around, and now and then a request that lasted an hour or a clock that was set.
        let at = prop_oneof![8 => 0..4 * 60_000_u64, 1 => 0..HOUR_MS, 1 => Just(9 * HOUR_MS)];
        (at, 0..3_u8, action, status, 0..60_u8, 0..80_u16).prop_map(
            |(ago, app, action, status, country, rule)| One {
                at_ms: NOON + HOUR_MS - ago,
                app,
                action,
                status,
                country,
                rule,
            },
        )
    }

    /// What a time's answers must add up to, from the requests themselves.
    fn check_against(store: &Store, raw: &[One], query: &TrafficQuery) {
        let within: Vec<&One> =
            raw.iter().filter(|one| (query.from_ms..query.to_ms).contains(&one.at_ms)).collect();
        let number = |is: &dyn Fn(&One) -> bool| within.iter().filter(|one| is(one)).count() as u64;
        let refused = |one: &One| matches!(one.action, Action::Deny | Action::Tarpit);
        for by in [By::Action, By::App, By::Country, By::Status, By::Node] {
            let traffic = asked(store, &TrafficQuery { by, ..query.clone() });
            assert_eq!(check_sums(&traffic), number(&|_| true), "{by:?}");
            assert_eq!(traffic.totals.requests, number(&|_| true));
            assert_eq!(traffic.totals.refused, number(&refused));
            assert_eq!(traffic.totals.challenged, number(&|one| one.action == Action::Challenge));
            assert_eq!(traffic.totals.errors, number(&|one| one.status / 100 >= 5 && !refused(one)));
        }
        for by in [By::Rule, By::Class] {
            let asks = TrafficQuery { by, ..query.clone() };
            assert_eq!(check_sums(&asked(store, &asks)), number(&|one| one.rule > 0), "{by:?}");
            let asks = TrafficQuery { refused: true, ..asks };
            assert_eq!(
                check_sums(&asked(store, &asks)),
                number(&|one| one.rule > 0 && refused(one)),
                "{by:?}"
            );
        }
        let mut points: BTreeMap<usize, u64> = BTreeMap::new();
        for one in &within {
            *points
                .entry(usize::try_from((one.at_ms - query.from_ms) / query.step_ms).unwrap())
                .or_default() += 1;
        }
        let nodes = asked(store, &TrafficQuery { by: By::Node, ..query.clone() });
        for (index, n) in points {
            assert_eq!(nodes.series[0].points[index], n);
        }
        let apps = Some(vec![String::from("app-1")]);
        let asks = TrafficQuery { by: By::Country, apps, ..query.clone() };
        assert_eq!(check_sums(&asked(store, &asks)), number(&|one| one.app == 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn counts_are_the_sums_of_the_requests_over_flushes_and_restarts(
            raw in prop::collection::vec((one(), 0..12_u8), 1..200),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let sealer = Arc::new(Sealer::ephemeral().unwrap());
            let mut store = open(dir.path(), &sealer);
            let mut tally = Tally::default();
            let mut now_ms = NOON + HOUR_MS;
            for (one, then) in &raw {
                count(&mut tally, one);
                match then {
                    0 | 1 => {
                        store.write_traffic(&tally, now_ms).unwrap();
                        tally.clear();
                    }
                    // Buckets are over, or the clock goes back.
                    2 => now_ms += 3 * 60_000,
                    3 => now_ms -= 5 * 60_000,
                    4 => {
                        store.write_traffic(&tally, now_ms).unwrap();
                        tally.clear();
                        store = open(dir.path(), &sealer);
                        store.open(now_ms).unwrap();
                    }
                    _ => {}
                }
            }
            store.write_traffic(&tally, now_ms).unwrap();
            let raw: Vec<One> = raw.into_iter().map(|(one, _)| one).collect();
            let end = NOON + HOUR_MS + 1;
            check_against(&store, &raw, &TrafficQuery::new(end - HOUR_MS, end, 60, end, By::Action));
            check_against(&store, &raw, &TrafficQuery::new(end - 24 * HOUR_MS, end, 24, end, By::Action));
            check_against(&store, &raw, &TrafficQuery::new(end - 80 * HOUR_MS, end, 500, end, By::Action));
            let (half_past, day) = (NOON + HOUR_MS / 2, 24 * HOUR_MS);
            let query = TrafficQuery::from_the_beginning(half_past - day, half_past, 24, end, By::Action);
            assert_eq!((query.from_ms, query.step_ms), (half_past - day, HOUR_MS));
            check_against(&store, &raw, &query);
        }
    }

    fn requests(at_ms: u64) -> impl Iterator<Item = One> {
        (0..400_u16).map(move |n| One {
            at_ms,
            app: 0,
            action: Action::Deny,
            status: 403,
            country: u8::try_from(n % 100).unwrap() + 1,
            rule: n % 97 + 1,
        })
    }

    #[test]
    fn a_bucket_that_is_over_keeps_its_largest_and_their_sum() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let mut store = open(dir.path(), &sealer);
        let mut tally = Tally::default();
        for one in requests(NOON).chain(requests(NOON).filter(|one| one.country <= 3)) {
            count(&mut tally, &one);
        }
        store.write_traffic(&tally, NOON).unwrap();
        let mut query = TrafficQuery::new(NOON, NOON + 60_000, 1, NOON, By::Country);
        query.series_max = 1_000;
        let before = asked(&store, &query);
        assert_eq!(before.series.len(), 100);
        let mut later = Tally::default();
        count(&mut later, &One { country: 120, ..requests(NOON).next().unwrap() });
        count(&mut later, &One { country: 1, ..requests(NOON).next().unwrap() });
        store.write_traffic(&later, NOON + 3 * 60_000).unwrap();
        store.write_traffic(&later, NOON + 3 * 60_000).unwrap();
        let after = asked(&store, &query);
        // The 24 and the one that came before the bucket was closed.
        assert_eq!(after.series.len(), TRAFFIC_VALUES_MAX);
        let largest = |name: &str| after.series.iter().find(|one| one.key == name).map(|one| one.total);
        assert_eq!(largest("AB"), Some(10));
        assert_eq!(check_sums(&after), check_sums(&before) + 4);
    }

    #[test]
    fn old_buckets_go_a_few_at_a_time_and_never_many_for_a_clock_that_is_ahead() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let mut store = open(dir.path(), &sealer);
        let minute = |n: u64| {
            let mut tally = Tally::default();
            count(&mut tally, &One { at_ms: NOON + n * 60_000, ..requests(0).next().unwrap() });
            tally
        };
        for n in 0..10 {
            store.write_traffic(&minute(n), NOON + n * 60_000).unwrap();
        }
        let query = TrafficQuery::new(NOON, NOON + 600_000, 10, NOON, By::Node);
        store.write_traffic(&minute(10), NOON + 400 * 24 * HOUR_MS).unwrap();
        assert_eq!(asked(&store, &query).totals.requests, 9);
        for n in 10..20 {
            store.write_traffic(&minute(n), NOON + n * 60_000).unwrap();
        }
        assert_eq!(asked(&store, &query).totals.requests, 9);
    }

    #[test]
    fn names_are_sealed_and_found_under_the_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let mut store = open(dir.path(), &sealer);
        let mut tally = Tally::default();
        requests(NOON).for_each(|one| count(&mut tally, &one));
        store.write_traffic(&tally, NOON).unwrap();
        let query = TrafficQuery::new(NOON, NOON + 60_000, 1, NOON, By::App);
        assert_eq!(asked(&store, &query).series[0].key, "app-0");
        drop(store);
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(memchr::memmem::find(&bytes, b"app-0").is_none());
        }
    }
}
