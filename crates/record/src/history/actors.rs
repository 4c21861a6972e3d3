//! Answers about clients and rules that stand in the requests on record: the clients refused most, and what a rule says.

use std::collections::HashMap;
use std::net::IpAddr;

use phalanx_model::RequestId;
use phalanx_model::limits::HISTORY_ACTORS_LOOKED_AT;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde::{Deserialize, Serialize};

use super::query::first_id_at;
use super::{History, Shared};
use crate::RecordError;
use crate::traffic::TrafficQuery;

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
    /// How many of them in each step of the time; empty if a node of an earlier version told of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<u64>,
    /// When the last of them arrived, in Unix milliseconds.
    pub last_ms: u64,
    /// Rules that matched its requests, at most 16.
    pub rules: Vec<u64>,
}

/// A client as the database knows it.
struct Refused {
    /// The keyed hash of its address.
    client: Vec<u8>,
    refused: u64,
    points: Vec<u64>,
    /// The id of its last request.
    last: String,
}

impl History {
    /// The clients refused most in the time of this question and for its apps, among the last [`HISTORY_ACTORS_LOOKED_AT`] requests of it.
    pub fn refused_clients(
        &self,
        query: &TrafficQuery,
        limit: usize,
    ) -> Result<Vec<RefusedClient>, RecordError> {
        let shared = &self.shared;
        let top = self.with_connection(|connection| {
            let top = most_refused(connection, shared, query, limit)?;
            let with_rules = |one: Refused| Ok((rules_of(connection, shared, &one.client, query)?, one));
            top.into_iter().map(with_rules).collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let mut found = Vec::with_capacity(top.len());
        for (rules, one) in top {
            let Some(id) = one.last.parse::<RequestId>().ok() else { continue };
            // The address stands in the sealed body only.
            let Ok(Some(record)) = self.request(id) else { continue };
            found.push(self.refused_client(record.access.client, (id.at_ms(), one), rules));
        }
        Ok(found)
    }

    /// What a rule said about the last request that it matched, of those for these apps. None if none of the last few is there.
    pub fn rule_words(&self, rule: u64, apps: Option<&[String]>) -> Result<Option<String>, RecordError> {
        let last = self.with_connection(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT id FROM rules WHERE rule = ? ORDER BY id DESC LIMIT {RULE_WORDS_LOOKED_AT}"
            ))?;
            let ids = statement.query_map([rule.cast_signed()], |row| row.get::<_, String>(0))?;
            ids.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        for id in last.iter().filter_map(|id| id.parse::<RequestId>().ok()) {
            let Ok(Some(record)) = self.request(id) else { continue };
            if apps.is_some_and(|apps| !apps.iter().any(|app| **app == *record.access.app)) {
                continue;
            }
            let said = record.signals.iter().find(|signal| signal.rule.id == rule);
            if let Some(signal) = said.filter(|signal| !signal.message.is_empty()) {
                return Ok(Some(signal.message.chars().take(RULE_WORDS_CHARS_MAX).collect()));
            }
        }
        Ok(None)
    }

    fn refused_client(
        &self,
        client: IpAddr,
        (last_ms, one): (u64, Refused),
        rules: Vec<u64>,
    ) -> RefusedClient {
        let place = self.shared.locate.as_ref().map(|locate| locate(client)).unwrap_or_default();
        RefusedClient {
            client: client.to_string(),
            country: place.country.map(|country| country.to_string()),
            asn: place.asn,
            refused: one.refused,
            points: one.points,
            last_ms,
            rules,
        }
    }
}

/// The clients with the most refused requests, the most first.
fn most_refused(
    connection: &Connection,
    shared: &Shared,
    query: &TrafficQuery,
    limit: usize,
) -> rusqlite::Result<Vec<Refused>> {
    let mut values: Vec<Value> = vec![first_id_at(query.from_ms).into(), first_id_at(query.to_ms).into()];
    let of_apps = of_apps(shared, query, &mut values);
    let sql = format!(
        "SELECT client, id FROM requests INDEXED BY requests_facts
         WHERE id >= ? AND id < ? AND action >= 4{of_apps} ORDER BY id DESC LIMIT {HISTORY_ACTORS_LOOKED_AT}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut clients: Vec<Refused> = Vec::new();
    // Which client, in which step: points are made for the few that are told, not for all.
    let mut seen: Vec<(usize, usize)> = Vec::new();
    let points = query.points();
    while let Some(row) = rows.next()? {
        let client = row.get_ref(0)?.as_blob()?;
        let id = row.get_ref(1)?.as_str()?;
        let place = match places.get(client) {
            Some(place) => *place,
            // The newest comes first.
            None => {
                places.insert(client.to_owned(), clients.len());
                clients.push(Refused {
                    client: client.to_owned(),
                    refused: 0,
                    points: Vec::new(),
                    last: id.to_owned(),
                });
                clients.len() - 1
            }
        };
        if let Some(one) = clients.get_mut(place) {
            one.refused += 1;
        }
        if let (1.., Ok(id)) = (points, id.parse::<RequestId>()) {
            let step = id.at_ms().saturating_sub(query.from_ms) / query.step_ms;
            seen.push((place, usize::try_from(step).unwrap_or(usize::MAX)));
        }
    }
    let mut top: Vec<(usize, Refused)> = clients.into_iter().enumerate().collect();
    top.sort_by(|(_, a), (_, b)| b.refused.cmp(&a.refused).then_with(|| b.last.cmp(&a.last)));
    top.truncate(limit);
    for (place, one) in &mut top {
        one.points = vec![0; points];
        for (_, step) in seen.iter().filter(|(of, _)| of == place) {
            one.points.get_mut(*step).into_iter().for_each(|point| *point += 1);
        }
    }
    Ok(top.into_iter().map(|(_, one)| one).collect())
}

/// The condition that requests are for the apps of the question, and its values.
fn of_apps(shared: &Shared, query: &TrafficQuery, values: &mut Vec<Value>) -> String {
    let Some(apps) = &query.apps else { return String::new() };
    values.extend(apps.iter().map(|app| Value::from(shared.tag("app", app))));
    format!(" AND app IN ({})", vec!["?"; apps.len()].join(", "))
}

/// Rules that matched the last refused requests of a client.
fn rules_of(
    connection: &Connection,
    shared: &Shared,
    client: &[u8],
    query: &TrafficQuery,
) -> rusqlite::Result<Vec<u64>> {
    let mut values: Vec<Value> =
        vec![client.to_vec().into(), first_id_at(query.from_ms).into(), first_id_at(query.to_ms).into()];
    let of_apps = of_apps(shared, query, &mut values);
    let mut statement = connection.prepare_cached(&format!(
        "SELECT DISTINCT x.rule FROM
         (SELECT id FROM requests WHERE client = ? AND id >= ? AND id < ? AND action >= 4{of_apps} ORDER BY id DESC LIMIT 50) r
         JOIN rules x ON x.id = r.id ORDER BY x.rule LIMIT 16"
    ))?;
    let rules =
        statement.query_map(params_from_iter(values), |row| row.get::<_, i64>(0).map(i64::cast_unsigned))?;
    rules.collect()
}

/// Requests of a rule that are opened for its words. More than one, for some may be of apps that the one who asks may not see.
const RULE_WORDS_LOOKED_AT: usize = 8;
const RULE_WORDS_CHARS_MAX: usize = 200;
