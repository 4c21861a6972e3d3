//! Answers about counts of requests, and about the clients refused most.

use std::collections::HashMap;
use std::net::IpAddr;

use phalanx_model::RequestId;
use phalanx_model::limits::HISTORY_ACTORS_LOOKED_AT;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde::{Deserialize, Serialize};

use super::query::first_id_at;
use super::{History, Shared, name_context};
use crate::RecordError;
use crate::traffic::{
    ACTIONS, By, Dimension, OTHERS, Traffic, TrafficOthers, TrafficQuery, TrafficSeries, TrafficTotals,
    class_name, status_name,
};

/// A client that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RefusedClient {
    /// Its address; of another node's client the network, /24 or /48.
    pub client: String,
    /// Its country, as the node's database says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Its autonomous system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// Requests of it that were refused.
    pub refused: u64,
    /// When the last of them arrived, in Unix milliseconds.
    pub last_ms: u64,
    /// Rules that matched its requests, at most 16.
    pub rules: Vec<u64>,
}

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
        let (totals, sums, names) = self.with_connection(|connection| {
            let totals = totals(connection, shared, query)?;
            let sums = sums(connection, shared, query)?;
            let names = match query.by {
                By::App | By::Country => names(connection)?,
                _ => HashMap::new(),
            };
            Ok((totals, sums, names))
        })?;
        traffic.totals = totals;
        let mut series: HashMap<i64, TrafficSeries> = HashMap::new();
        for sum in sums {
            if sum.key == OTHERS {
                traffic.others.total += sum.n;
                add(&mut traffic.others.points, &sum);
                continue;
            }
            let one = series.entry(sum.key).or_insert_with(|| TrafficSeries {
                key: self.key_name(query.by, sum.key, &names),
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

    /// The clients refused most in this time, among the last [`HISTORY_ACTORS_LOOKED_AT`] requests of it.
    pub fn refused_clients(
        &self,
        (from_ms, to_ms): (u64, u64),
        apps: Option<&[String]>,
        limit: usize,
    ) -> Result<Vec<RefusedClient>, RecordError> {
        let shared = &self.shared;
        let (from, to) = (first_id_at(from_ms), first_id_at(to_ms));
        let top = self.with_connection(|connection| {
            let top = most_refused(connection, shared, (&from, &to), apps, limit)?;
            let with_rules = |(client, refused, last): (Vec<u8>, u64, String)| {
                let rules = rules_of(connection, shared, &client, (&from, &to), apps)?;
                Ok((refused, last, rules))
            };
            top.into_iter().map(with_rules).collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let mut found = Vec::with_capacity(top.len());
        for (refused, last, rules) in top {
            let Some(id) = last.parse::<RequestId>().ok() else { continue };
            // The address stands in the sealed body only.
            let Ok(Some(record)) = self.request(id) else { continue };
            found.push(self.refused_client(record.access.client, (refused, id.at_ms()), rules));
        }
        Ok(found)
    }

    fn refused_client(
        &self,
        client: IpAddr,
        (refused, last_ms): (u64, u64),
        rules: Vec<u64>,
    ) -> RefusedClient {
        let place = self.shared.locate.as_ref().map(|locate| locate(client)).unwrap_or_default();
        RefusedClient {
            client: client.to_string(),
            country: place.country.map(|country| country.to_string()),
            asn: place.asn,
            refused,
            last_ms,
            rules,
        }
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
            By::Node => String::from("all"),
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
        By::Node => (Dimension::Action, "0"),
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

fn names(connection: &Connection) -> rusqlite::Result<HashMap<i64, Vec<u8>>> {
    let mut statement = connection.prepare_cached("SELECT tag, name FROM names")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Keyed hashes of clients, with how many of their requests were refused, and the last of these.
fn most_refused(
    connection: &Connection,
    shared: &Shared,
    (from, to): (&str, &str),
    apps: Option<&[String]>,
    limit: usize,
) -> rusqlite::Result<Vec<(Vec<u8>, u64, String)>> {
    let mut values: Vec<Value> = vec![from.to_owned().into(), to.to_owned().into()];
    let of_apps = of_apps(shared, apps, &mut values);
    let sql = format!(
        "SELECT client, id FROM requests INDEXED BY requests_facts
         WHERE id >= ? AND id < ? AND action >= 4{of_apps} ORDER BY id DESC LIMIT {HISTORY_ACTORS_LOOKED_AT}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut clients: HashMap<Vec<u8>, (u64, String)> = HashMap::new();
    while let Some(row) = rows.next()? {
        let client: Vec<u8> = row.get(0)?;
        match clients.get_mut(&client) {
            Some((refused, _)) => *refused += 1,
            // The newest comes first.
            None => {
                clients.insert(client, (1, row.get(1)?));
            }
        }
    }
    let mut top: Vec<_> = clients.into_iter().map(|(client, (n, last))| (client, n, last)).collect();
    top.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| b.2.cmp(&a.2)));
    top.truncate(limit);
    Ok(top)
}

/// The condition that requests are for one of these apps, and its values.
fn of_apps(shared: &Shared, apps: Option<&[String]>, values: &mut Vec<Value>) -> String {
    let Some(apps) = apps else { return String::new() };
    values.extend(apps.iter().map(|app| Value::from(shared.tag("app", app))));
    format!(" AND app IN ({})", vec!["?"; apps.len()].join(", "))
}

/// Rules that matched the last refused requests of a client.
fn rules_of(
    connection: &Connection,
    shared: &Shared,
    client: &[u8],
    (from, to): (&str, &str),
    apps: Option<&[String]>,
) -> rusqlite::Result<Vec<u64>> {
    let mut values: Vec<Value> = vec![client.to_vec().into(), from.to_owned().into(), to.to_owned().into()];
    let of_apps = of_apps(shared, apps, &mut values);
    let mut statement = connection.prepare_cached(&format!(
        "SELECT DISTINCT x.rule FROM
         (SELECT id FROM requests WHERE client = ? AND id >= ? AND id < ? AND action >= 4{of_apps} ORDER BY id DESC LIMIT 50) r
         JOIN rules x ON x.id = r.id ORDER BY x.rule LIMIT 16"
    ))?;
    let rules =
        statement.query_map(params_from_iter(values), |row| row.get::<_, i64>(0).map(i64::cast_unsigned))?;
    rules.collect()
}
