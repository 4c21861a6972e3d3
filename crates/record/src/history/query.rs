//! The reading side: filters, one request by id, what followed from it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use phalanx_model::limits::HISTORY_PAGE_MAX;
use phalanx_model::{Action, RequestId};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::passed::PassedLog;
use super::store::action_code;
use super::{Shared, body_context, consequence_context, is_damage, schema};
use crate::RecordError;
use crate::request::{Consequence, RecordedRequest};

/// Answers questions about recorded requests; cheap to clone. Its methods block: call them off the async threads.
#[derive(Clone)]
pub struct History {
    shared: Arc<Shared>,
    /// Idle connections with the generation of the database they are open on.
    idle: Arc<Mutex<Vec<(u64, Connection)>>>,
    /// Where the access log is a file that can be read back.
    passed: Option<PassedLog>,
}

/// Which requests to return. Everything given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only requests with a smaller (older) id.
    pub before: Option<RequestId>,
    /// Only requests that arrived at this time or later, in Unix milliseconds.
    pub since_ms: Option<u64>,
    /// Only requests of exactly this address.
    pub client: Option<IpAddr>,
    /// Only requests with this action.
    pub action: Option<Action>,
    /// Only requests that this rule matched.
    pub rule: Option<u64>,
    /// At most this many; [`HISTORY_PAGE_MAX`] at most, and 0 means 50.
    pub limit: usize,
}

impl History {
    pub(crate) fn new(shared: Arc<Shared>, passed: Option<PassedLog>) -> Self {
        Self { shared, idle: Arc::default(), passed }
    }

    /// Recorded requests, newest first.
    pub fn recent(&self, filter: &Filter) -> Result<Vec<RecordedRequest>, RecordError> {
        let (sql, values) = statement(filter, &self.shared);
        let rows: Vec<(String, Vec<u8>)> = self.with_connection(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })?;
        // A row that does not open (its key is gone) is left out; the others still answer.
        Ok(rows.iter().filter_map(|(id, body)| self.open_request(id, body).ok()).collect())
    }

    /// One request by its id: refused or flagged, or passed on and still in the access log.
    pub fn request(&self, id: RequestId) -> Result<Option<RecordedRequest>, RecordError> {
        let text = id.to_string();
        let body: Option<Vec<u8>> = self.with_connection(|connection| {
            let mut statement = connection.prepare_cached("SELECT body FROM requests WHERE id = ?1")?;
            statement.query_row([&text], |row| row.get(0)).optional()
        })?;
        match (body, &self.passed) {
            (Some(body), _) => self.open_request(&text, &body).map(Some),
            (None, Some(log)) => log.request(id),
            (None, None) => Ok(None),
        }
    }

    /// What followed from a request, in order.
    pub fn consequences(&self, id: RequestId) -> Result<Vec<Consequence>, RecordError> {
        let id = id.to_string();
        let bodies: Vec<Vec<u8>> = self.with_connection(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT body FROM consequences WHERE id = ?1 ORDER BY seq LIMIT 100")?;
            statement.query_map([&id], |row| row.get(0))?.collect()
        })?;
        let context = consequence_context(&id);
        let open = |body: &Vec<u8>| -> Option<Consequence> {
            let plain = self.shared.sealer.open(&context, body).ok()?;
            serde_json::from_slice(&plain).ok()
        };
        Ok(bodies.iter().filter_map(open).collect())
    }

    fn open_request(&self, id: &str, body: &[u8]) -> Result<RecordedRequest, RecordError> {
        let plain = self.shared.sealer.open(&body_context(id), body)?;
        Ok(serde_json::from_slice(&plain)?)
    }

    fn with_connection<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, RecordError> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation == 0 {
            return Err(RecordError::HistoryNotReady);
        }
        let idle = self.idle.lock().pop().filter(|(of, _)| *of == generation);
        let connection = match idle {
            Some((_, connection)) => connection,
            None => schema::open_reader(&self.shared.path)?,
        };
        match ask(&connection) {
            Ok(answer) => {
                let mut idle = self.idle.lock();
                if idle.len() < IDLE_CONNECTIONS_MAX {
                    idle.push((generation, connection));
                }
                Ok(answer)
            }
            Err(error) => {
                if is_damage(&error) {
                    self.shared.suspect.store(true, Ordering::Release);
                }
                Err(error.into())
            }
        }
    }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

/// The query of a filter. Only fixed text and placeholders go into the statement.
fn statement(filter: &Filter, shared: &Shared) -> (String, Vec<Value>) {
    let mut values: Vec<Value> = Vec::new();
    let mut conditions = Vec::new();
    let (mut from, mut id) = ("requests r", "r.id");
    match (filter.rule, filter.client) {
        // One address has few requests: go through them, and look whether the rule matched.
        (Some(rule), Some(_)) => {
            conditions.push("EXISTS (SELECT 1 FROM rules x WHERE x.rule = ? AND x.id = r.id)");
            values.push(rule.cast_signed().into());
        }
        // The rules' tree holds (rule, id): its part is read in the order asked for. CROSS JOIN keeps it the outer loop.
        (Some(rule), None) => {
            (from, id) = ("rules x CROSS JOIN requests r ON r.id = x.id", "x.id");
            conditions.push("x.rule = ?");
            values.push(rule.cast_signed().into());
        }
        (None, _) => {}
    }
    let (before, since) = if id == "x.id" { ("x.id < ?", "x.id >= ?") } else { ("r.id < ?", "r.id >= ?") };
    if let Some(at) = filter.before {
        conditions.push(before);
        values.push(at.to_string().into());
    }
    if let Some(since_ms) = filter.since_ms {
        conditions.push(since);
        values.push(RequestId::from_parts(since_ms, 0, 0).to_string().into());
    }
    if let Some(client) = filter.client {
        conditions.push("r.client = ?");
        values.push(shared.client_key(client).into());
    }
    if let Some(action) = filter.action {
        conditions.push("r.action = ?");
        values.push(action_code(action).into());
    }
    let conditions =
        if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
    let limit = if filter.limit == 0 { PAGE_DEFAULT } else { filter.limit.min(HISTORY_PAGE_MAX) };
    values.push(i64::try_from(limit).unwrap_or_default().into());
    (format!("SELECT r.id, r.body FROM {from} {conditions} ORDER BY {id} DESC LIMIT ?"), values)
}

const PAGE_DEFAULT: usize = 50;

/// Connections kept between queries; each has a page cache of its own.
const IDLE_CONNECTIONS_MAX: usize = 4;
