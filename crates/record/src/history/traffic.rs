//! Answers about counts of requests.

use std::collections::HashMap;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::{History, Shared, name_context};
use crate::RecordError;
use crate::traffic::{
    ACTIONS, Bucket, By, Dimension, HOUR_MS, OTHERS, Traffic, TrafficOthers, TrafficQuery, TrafficSeries,
    TrafficTotals, class_name, status_name,
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
        let mut traffic = Traffic {
            from_ms: query.from_ms,
            to_ms: query.to_ms,
            step_ms: query.step_ms,
            others: TrafficOthers { total: 0, points: vec![0; points] },
            ..Traffic::default()
        };
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
        let value = key.cast_unsigned();
        match by {
            By::Action => {
                let action = usize::try_from(value).ok().and_then(|value| ACTIONS.get(value));
                action.map_or_else(|| String::from("unknown"), |action| action.as_str().to_owned())
            }
            By::Status => status_name(value),
            By::Class => class_name(value),
            By::Rule => value.to_string(),
            By::Node | By::Site => String::from("all"),
            By::App | By::Country if key == 0 => String::from("unknown"),
            By::App | By::Country => {
                let opened = names.get(&key).and_then(|sealed| {
                    let name = self.shared.sealer.open(&name_context(key), sealed).ok()?;
                    String::from_utf8(name.to_vec()).ok()
                });
                opened.unwrap_or_else(|| String::from("unreadable"))
            }
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
    for (value, n, refused) in by_value(connection, shared, query, Dimension::Action)? {
        totals.requests += n;
        totals.refused += refused;
        match value {
            1 => totals.observed += n,
            2 => totals.challenged += n,
            3 => totals.throttled += n,
            _ => {}
        }
    }
    for (value, n, refused) in by_value(connection, shared, query, Dimension::Status)? {
        totals.errors += if value == 5 { n.saturating_sub(refused) } else { 0 };
    }
    totals.dropped = by_value(connection, shared, query, Dimension::Dropped)?.iter().map(|row| row.1).sum();
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
    let (dimension, key) = match query.by {
        By::Action => (Dimension::Action, "value"),
        By::App => (Dimension::Action, "app"),
        By::Node | By::Site => (Dimension::Action, "0"),
        By::Status => (Dimension::Status, "value"),
        By::Country => (Dimension::Country, "value"),
        By::Rule => (Dimension::Rule, "value"),
        By::Class => (Dimension::Class, "value"),
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

/// The oldest minute of which anything is known; the oldest hour where minutes are gone.
fn begins_ms(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let mut statement = connection.prepare_cached("SELECT min(at) FROM traffic_buckets WHERE step = ?1")?;
    let mut oldest = |bucket: Bucket| -> rusqlite::Result<Option<u64>> {
        let at: Option<i64> = statement.query_row([bucket.code()], |row| row.get(0))?;
        Ok(at.map(|at| at.unsigned_abs().saturating_mul(bucket.length_ms())))
    };
    let (minute, hour) = (oldest(Bucket::Minute)?, oldest(Bucket::Hour)?);
    // A request is counted in both: the minute lies in the hour unless older minutes were dropped.
    let within = |minute: &u64| hour.is_none_or(|hour| *minute < hour.saturating_add(HOUR_MS));
    Ok(minute.filter(within).or(hour))
}

fn names(connection: &Connection) -> rusqlite::Result<HashMap<i64, Vec<u8>>> {
    let mut statement = connection.prepare_cached("SELECT tag, name FROM names")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}
