//! Answers about counts of requests.

use std::collections::HashMap;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::{History, Shared, name_context};
use crate::RecordError;
use crate::traffic::{
    Bucket, By, Dimension, HOUR_MS, OTHERS, Traffic, TrafficQuery, TrafficSeries, TrafficTotals, value_name,
};

/// One sum of the database: where it belongs, and how much it is.
struct Sum {
    point: usize,
    key: i64,
    n: u64,
}

impl History {
    /// Requests over time. A question that nobody should answer is answered with nothing.
    pub fn traffic(&self, query: &TrafficQuery) -> Result<Traffic, RecordError> {
        let points = query.points();
        let mut traffic = Traffic::none(query);
        if points == 0 {
            return Ok(traffic);
        }
        let shared = &self.shared;
        let (totals, sums, names, begins_ms) = self.with_connection(|connection| {
            let totals = totals(connection, shared, query)?;
            let sums = sums(connection, shared, query)?;
            let names = match query.by {
                By::App | By::Country => names(connection)?,
                _ => HashMap::new(),
            };
            Ok((totals, sums, names, begins_ms(connection)?))
        })?;
        traffic.totals = totals;
        traffic.begins_ms = begins_ms;
        let mut series: HashMap<i64, TrafficSeries> = HashMap::new();
        for sum in sums {
            if sum.key == OTHERS {
                traffic.others.total += sum.n;
                add(&mut traffic.others.points, &sum);
                continue;
            }
            let one = series.entry(sum.key).or_insert_with(|| TrafficSeries {
                key: self.key_name(query.by, sum.key, &names),
                words: None,
                total: 0,
                points: vec![0; points],
            });
            one.total += sum.n;
            add(&mut one.points, &sum);
        }
        traffic.series = series.into_values().collect();
        traffic.keep_largest(query.series_max);
        Ok(traffic)
    }

    fn key_name(&self, by: By, key: i64, names: &HashMap<i64, Vec<u8>>) -> String {
        match by {
            By::App | By::Country if key == 0 => String::from("unknown"),
            By::App | By::Country => {
                let opened = names.get(&key).and_then(|sealed| {
                    let name = self.shared.sealer.open(&name_context(key), sealed).ok()?;
                    String::from_utf8(name.to_vec()).ok()
                });
                opened.unwrap_or_else(|| String::from("unreadable"))
            }
            _ => value_name(by, key),
        }
    }
}

fn add(points: &mut [u64], sum: &Sum) {
    if let Some(point) = points.get_mut(sum.point) {
        *point += sum.n;
    }
}

/// Which rows are asked for: buckets, dimension, time and apps, as conditions and their values.
fn rows_of(shared: &Shared, query: &TrafficQuery, dimension: Dimension) -> (String, Vec<Value>) {
    let bucket = query.bucket();
    let at = |ms: u64| Value::from((ms / bucket.length_ms()).cast_signed());
    let mut values = vec![bucket.code().into(), dimension.code().into(), at(query.from_ms), at(query.to_ms)];
    let mut conditions = String::from("step = ? AND dimension = ? AND at >= ? AND at < ?");
    if let Some(apps) = &query.apps {
        conditions.push_str(&format!(" AND app IN ({})", vec!["?"; apps.len()].join(", ")));
        values.extend(apps.iter().map(|app| Value::from(shared.tag("app", app))));
    }
    (conditions, values)
}

fn totals(connection: &Connection, shared: &Shared, query: &TrafficQuery) -> rusqlite::Result<TrafficTotals> {
    let mut totals = TrafficTotals::default();
    for dimension in [Dimension::Action, Dimension::Status, Dimension::Dropped] {
        for (value, n, refused) in by_value(connection, shared, query, dimension)? {
            totals.count(dimension, value, n, refused);
        }
    }
    Ok(totals)
}

/// Each value with how many requests there were, and how many of them were refused.
fn by_value(
    connection: &Connection,
    shared: &Shared,
    query: &TrafficQuery,
    dimension: Dimension,
) -> rusqlite::Result<Vec<(i64, u64, u64)>> {
    let (conditions, values) = rows_of(shared, query, dimension);
    let sql = format!("SELECT value, sum(n), sum(refused) FROM traffic WHERE {conditions} GROUP BY value");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs(), row.get::<_, i64>(2)?.unsigned_abs()))
    })?;
    rows.collect()
}

/// How many of each kind in each step.
fn sums(connection: &Connection, shared: &Shared, query: &TrafficQuery) -> rusqlite::Result<Vec<Sum>> {
    let dimension = Dimension::of(query.by);
    let key = match query.by {
        By::App => "app",
        By::Node | By::Site => "0",
        _ => "value",
    };
    let count = if query.refused { "refused" } else { "n" };
    let (conditions, values) = rows_of(shared, query, dimension);
    let bucket = query.bucket();
    let (first, each) = (query.from_ms / bucket.length_ms(), query.step_ms / bucket.length_ms());
    // Numbers of our own, and nothing that anybody wrote.
    let sql = format!(
        "SELECT (at - {first}) / {each}, {key}, sum({count}) FROM traffic WHERE {conditions} GROUP BY 1, 2 HAVING sum({count}) > 0"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| {
        Ok(Sum {
            point: usize::try_from(row.get::<_, i64>(0)?).unwrap_or(usize::MAX),
            key: row.get(1)?,
            n: row.get::<_, i64>(2)?.unsigned_abs(),
        })
    })?;
    rows.collect()
}

fn begins_ms(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let mut statement = connection.prepare_cached("SELECT min(at) FROM traffic_buckets WHERE step = ?1")?;
    let mut oldest = |bucket: Bucket| statement.query_row([bucket.code()], |row| row.get(0));
    Ok(begins(oldest(Bucket::Minute)?, oldest(Bucket::Hour)?))
}

/// The oldest minute of which anything is known; the oldest hour where minutes are gone.
pub(super) fn begins(minute: Option<i64>, hour: Option<i64>) -> Option<u64> {
    let minute = minute.map(|at| Bucket::Minute.begins_ms(at));
    let hour = hour.map(|at| Bucket::Hour.begins_ms(at));
    // A request is counted in both: the minute lies in the hour unless older minutes were dropped.
    let within = |minute: &u64| hour.is_none_or(|hour| *minute < hour.saturating_add(HOUR_MS));
    minute.filter(within).or(hour)
}

fn names(connection: &Connection) -> rusqlite::Result<HashMap<i64, Vec<u8>>> {
    let mut statement = connection.prepare_cached("SELECT tag, name FROM names")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}
