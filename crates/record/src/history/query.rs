//! The reading side: filters, one request by id, what followed from it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use phalanx_model::limits::{HISTORY_OPENED_MAX, HISTORY_PAGE_MAX};
use phalanx_model::{Action, Country, RequestId};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use serde::{Deserialize, Serialize};

use super::passed::{Cause, Logged, PassedLog};
use super::store::action_code;
use super::{Shared, body_context, consequence_context, is_damage, schema};
use crate::RecordError;
use crate::request::{Consequence, RecordedRequest};

/// Answers questions about recorded requests; cheap to clone. Its methods block: call them off the async threads.
#[derive(Clone)]
pub struct History {
    pub(super) shared: Arc<Shared>,
    /// Idle connections with the generation of the database they are open on.
    idle: Arc<Mutex<Vec<(u64, Connection)>>>,
    /// Where the access log is a file that can be read back.
    passed: Option<PassedLog>,
    /// Requests of other nodes that one call passes over.
    passed_over_max: usize,
}

/// Which requests to return. Everything given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Only requests with a smaller (older) id.
    pub before: Option<RequestId>,
    /// Only requests that arrived at this time or later, in Unix milliseconds.
    pub since_ms: Option<u64>,
    /// Only requests that arrived before this time.
    pub until_ms: Option<u64>,
    /// Only requests of exactly this address.
    pub client: Option<IpAddr>,
    /// Only requests with this action.
    pub action: Option<Action>,
    /// Only requests that this rule matched.
    pub rule: Option<u64>,
    /// Only requests for one of these apps.
    pub apps: Option<Vec<String>>,
    /// Only requests answered with such a status.
    pub status: Option<StatusRange>,
    /// Only requests from this country. What was recorded without a database of addresses is in none.
    pub country: Option<Country>,
    /// Only requests with this method.
    pub method: Option<String>,
    /// Only requests with this text in host, target or user agent, without regard to ASCII case. Bodies are opened for it, in each call
    /// [`HISTORY_OPENED_MAX`] at most.
    pub text: Option<String>,
    /// Only these.
    pub ids: Option<Vec<RequestId>>,
    /// Only requests that nodes with one of these tags served. Nodes of before do not know it and answer with all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_tags: Option<Vec<u16>>,
    /// At most this many; [`HISTORY_PAGE_MAX`] at most, and 0 means 50.
    pub limit: usize,
}

impl Filter {
    /// Whether it asks for something that the index of facts alone can answer.
    fn asks_for_facts(&self) -> bool {
        self.action.is_some()
            || self.apps.is_some()
            || self.status.is_some()
            || self.country.is_some()
            || self.method.is_some()
    }
}

/// One status, or all between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange {
    /// The lowest.
    pub from: u16,
    /// The highest.
    pub to: u16,
}

impl std::str::FromStr for StatusRange {
    type Err = ();

    /// `404`, or `4xx` for all from 400 to 499.
    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(class) = text.strip_suffix("xx") {
            let class: u16 = class.parse().map_err(|_| ())?;
            return (1..=5)
                .contains(&class)
                .then_some(Self { from: class * 100, to: class * 100 + 99 })
                .ok_or(());
        }
        let status: u16 = text.parse().map_err(|_| ())?;
        (status <= 999).then_some(Self { from: status, to: status }).ok_or(())
    }
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Newest first.
    pub requests: Vec<RecordedRequest>,
    /// Where it stopped: a search `before` this id goes on. None if there is nothing older.
    pub next: Option<RequestId>,
}

impl History {
    pub(crate) fn new(shared: Arc<Shared>, passed: Option<PassedLog>) -> Self {
        Self { shared, idle: Arc::default(), passed, passed_over_max: PASSED_OVER_MAX }
    }

    /// The same, which passes over so many requests of nodes that were not asked about before it says where to go on.
    #[must_use]
    pub fn passing_over(mut self, most: usize) -> Self {
        self.passed_over_max = most.max(1);
        self
    }

    /// Recorded requests, newest first.
    pub fn recent(&self, filter: &Filter) -> Result<Vec<RecordedRequest>, RecordError> {
        self.search(filter).map(|found| found.requests)
    }

    /// Recorded requests, newest first, and where to go on. One call opens [`HISTORY_OPENED_MAX`] bodies at most, and passes over some 200,000
    /// requests of nodes that were not asked about.
    pub fn search(&self, filter: &Filter) -> Result<Found, RecordError> {
        let limit = if filter.limit == 0 { PAGE_DEFAULT } else { filter.limit.min(HISTORY_PAGE_MAX) };
        let text = filter.text.as_ref().map(|text| text.to_ascii_lowercase());
        self.with_connection(|connection| {
            let by_rule = match filter.rule {
                Some(rule) if filter.asks_for_facts() => !is_usual(connection, rule)?,
                rule => rule.is_some(),
            };
            let (sql, values) = statement(filter, by_rule, &self.shared);
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params_from_iter(values))?;
            let mut found = Found::default();
            let (mut opened, mut passed_over) = (0, 0);
            while let Some(row) = rows.next()? {
                let id: String = row.get(0)?;
                if !served(filter, &id) {
                    passed_over += 1;
                    if passed_over == self.passed_over_max {
                        found.next = id.parse().ok();
                        break;
                    }
                    continue;
                }
                // A row that does not open (its key is gone) is left out; the others still answer.
                let record = self.opened(&id, row.get_ref(1)?.as_blob()?, text.as_deref());
                opened += 1;
                found.requests.extend(record.filter(|record| holds(filter, record)));
                if found.requests.len() == limit || opened == HISTORY_OPENED_MAX {
                    found.next = id.parse().ok();
                    break;
                }
            }
            Ok(found)
        })
    }

    /// The request of a row, if it has this text, which is in lower case.
    fn opened(&self, id: &str, body: &[u8], text: Option<&str>) -> Option<RecordedRequest> {
        let plain = self.shared.sealer.open(&body_context(id), body).ok()?;
        if let Some(text) = text
            && !serde_json::from_slice::<Texts<'_>>(&plain).ok()?.access.has(text)
        {
            return None;
        }
        serde_json::from_slice(&plain).ok()
    }

    /// One request by its id: refused or flagged, or still in the access log, as those are that were passed on, and most of many that were
    /// stopped alike.
    pub fn request(&self, id: RequestId) -> Result<Option<RecordedRequest>, RecordError> {
        let text = id.to_string();
        let body: Option<Vec<u8>> = self.with_connection(|connection| {
            let mut statement = connection.prepare_cached("SELECT body FROM requests WHERE id = ?1")?;
            statement.query_row([&text], |row| row.get(0)).optional()
        })?;
        match (body, &self.passed) {
            (Some(body), _) => self.open_request(&text, &body).map(Some),
            (None, Some(log)) => match log.request(id)? {
                Some(Logged { record, cause: Some(cause) }) if record.is_stopped() => {
                    self.completed(record, &cause).map(Some)
                }
                logged => Ok(logged.map(|logged| logged.record)),
            },
            (None, None) => Ok(None),
        }
    }

    /// A request of many alike, with the reason that is kept with one of them: the newest before it, of its client if there is one. It stays
    /// without one if none is left.
    fn completed(&self, mut record: RecordedRequest, cause: &Cause) -> Result<RecordedRequest, RecordError> {
        for client in [Some(record.access.client), None] {
            let filter = Filter { before: Some(record.id()), client, limit: ALIKE_MAX, ..Filter::default() };
            let found = self.recent(&filter)?;
            if let Some(one) = found.into_iter().find(|one| cause.is(&one.access.verdict.reason)) {
                record.like = Some(one.id());
                record.access.verdict.reason = one.access.verdict.reason;
                break;
            }
        }
        Ok(record)
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

    pub(super) fn with_connection<T>(
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

/// Whether the node that served a request is asked about: its id tells which it was.
fn served(filter: &Filter, id: &str) -> bool {
    filter
        .node_tags
        .as_ref()
        .is_none_or(|tags| id.parse::<RequestId>().is_ok_and(|id| tags.contains(&id.node_tag())))
}

/// What is looked for where there is no column for it, or a row of an earlier version has nothing in it.
fn holds(filter: &Filter, record: &RecordedRequest) -> bool {
    let access = &record.access;
    filter.apps.as_ref().is_none_or(|apps| apps.iter().any(|app| **app == *access.app))
        && filter.status.is_none_or(|range| (range.from..=range.to).contains(&access.status))
        && filter.method.as_ref().is_none_or(|method| *method == access.method)
}

/// The texts of a request that are searched, without the rest of it.
#[derive(Deserialize)]
struct Texts<'a> {
    #[serde(borrow)]
    access: AccessTexts<'a>,
}

#[derive(Deserialize)]
struct AccessTexts<'a> {
    #[serde(borrow)]
    host: Cow<'a, str>,
    #[serde(borrow)]
    target: Cow<'a, str>,
    #[serde(borrow)]
    user_agent: Cow<'a, str>,
}

impl AccessTexts<'_> {
    fn has(&self, text: &str) -> bool {
        let in_it =
            |of: &str| memchr::memmem::find(of.to_ascii_lowercase().as_bytes(), text.as_bytes()).is_some();
        in_it(&self.host) || in_it(&self.target) || in_it(&self.user_agent)
    }
}

/// Whether so many requests met this rule that going through all facts costs less than looking each of them up.
fn is_usual(connection: &Connection, rule: u64) -> rusqlite::Result<bool> {
    let mut statement =
        connection.prepare_cached("SELECT COUNT(*) FROM (SELECT 1 FROM rules WHERE rule = ?1 LIMIT ?2)")?;
    let met: i64 = statement.query_row([rule.cast_signed(), USUAL_RULE_REQUESTS], |row| row.get(0))?;
    Ok(met == USUAL_RULE_REQUESTS)
}

/// The query of a filter; `by_rule` goes through the requests of its rule, where it has one and no client. Only fixed text and placeholders go into
/// the statement; which index is used is said, because none is right for all.
fn statement(filter: &Filter, by_rule: bool, shared: &Shared) -> (String, Vec<Value>) {
    let mut conditions = Conditions::default();
    let (mut from, mut id) = ("requests r INDEXED BY requests_facts", "r.id");
    // The rules' tree holds (rule, id): its part is read in the order asked for. CROSS JOIN keeps it the outer loop.
    let by_rule = filter.rule.filter(|_| by_rule && filter.client.is_none());
    if let Some(rule) = by_rule {
        (from, id) = ("rules x CROSS JOIN requests r INDEXED BY requests_facts ON r.id = x.id", "x.id");
        conditions.add("x.rule = ?", rule.cast_signed());
    }
    // One address has few requests.
    if let Some(client) = filter.client {
        from = "requests r INDEXED BY requests_client";
        conditions.add("r.client = ?", shared.client_key(client));
    }
    if let Some(at) = filter.before {
        conditions.add(&format!("{id} < ?"), at.to_string());
    }
    if let Some(until_ms) = filter.until_ms {
        conditions.add(&format!("{id} < ?"), first_id_at(until_ms));
    }
    if let Some(since_ms) = filter.since_ms {
        conditions.add(&format!("{id} >= ?"), first_id_at(since_ms));
    }
    if let Some(ids) = &filter.ids {
        conditions.any(&format!("{id} IN"), ids.iter().map(|id| Value::from(id.to_string())));
    }
    if let Some(action) = filter.action {
        conditions.add("r.action = ?", action_code(action));
    }
    if let Some(country) = filter.country {
        conditions.add("r.country = ?", shared.tag("country", &country.to_string()));
    }
    // Rows of an earlier version have nothing there: they are opened and looked at.
    if let Some(apps) = &filter.apps {
        conditions.any("r.app IS NULL OR r.app IN", apps.iter().map(|app| shared.tag("app", app).into()));
    }
    if let Some(method) = &filter.method {
        conditions.add("(r.method IS NULL OR r.method = ?)", shared.tag("method", method));
    }
    if let Some(StatusRange { from, to }) = filter.status {
        conditions.add("(r.status IS NULL OR r.status >= ?)", i64::from(from));
        conditions.add("(r.status IS NULL OR r.status <= ?)", i64::from(to));
    }
    // Last, because it is a look into another tree for whatever is left.
    if let Some(rule) = filter.rule.filter(|_| by_rule.is_none()) {
        conditions.add("EXISTS (SELECT 1 FROM rules x WHERE x.rule = ? AND x.id = r.id)", rule.cast_signed());
    }
    let Conditions { texts, values } = conditions;
    // Of other nodes' requests the body is not read: ids are in the index.
    let mut column = (String::from("r.body"), Vec::new());
    if let Some(tags) = &filter.node_tags {
        let places = vec!["?"; tags.len()].join(", ");
        column.0 = format!("CASE WHEN substr({id}, {TAG_AT}, {TAG_LENGTH}) IN ({places}) THEN r.body END");
        column.1 = tags.iter().map(|tag| Value::from(tag_text(*tag))).collect();
    }
    let (body, mut all) = column;
    all.extend(values);
    let conditions = if texts.is_empty() { String::new() } else { format!("WHERE {}", texts.join(" AND ")) };
    (format!("SELECT r.id, {body} FROM {from} {conditions} ORDER BY {id} DESC"), all)
}

/// The characters of an id that are of the node's tag alone: all its bits but the last.
fn tag_text(tag: u16) -> String {
    RequestId::from_parts(0, tag, 0).to_string().chars().skip(TAG_AT - 1).take(TAG_LENGTH).collect()
}

/// What all must hold, in the order of its values.
#[derive(Default)]
struct Conditions {
    texts: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    fn add(&mut self, text: &str, value: impl Into<Value>) {
        self.texts.push(text.to_owned());
        self.values.push(value.into());
    }

    /// `text` is followed by a list of values.
    fn any(&mut self, text: &str, values: impl Iterator<Item = Value>) {
        let before = self.values.len();
        self.values.extend(values);
        let places = vec!["?"; self.values.len() - before].join(", ");
        self.texts.push(format!("({text} ({places}))"));
    }
}

/// The first id of a time: ids sort by it.
pub(super) fn first_id_at(at_ms: u64) -> String {
    RequestId::from_parts(at_ms.min(ID_MS_MAX), 0, 0).to_string()
}

/// An id has 48 bits for its time.
const ID_MS_MAX: u64 = (1 << 48) - 1;

/// Where, counted from 1, an id has its node's tag.
const TAG_AT: usize = 11;
const TAG_LENGTH: usize = 3;

/// Requests of other nodes that one call passes over: about a third of a second.
const PASSED_OVER_MAX: usize = 200_000;

const PAGE_DEFAULT: usize = 50;
/// Requests that are opened for the reason of one like them, of its client and of all: some milliseconds.
const ALIKE_MAX: usize = 100;

/// Looking up so many costs about as much as going through the facts of a million requests (measured by the example `history`).
const USUAL_RULE_REQUESTS: i64 = 100_000;

/// Connections kept between queries; each has a page cache of its own.
const IDLE_CONNECTIONS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::super::schema::tests::record;
    use super::*;

    #[test]
    fn a_usual_rule_finds_what_a_rare_one_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        let sealer = Arc::new(phalanx_trust::Sealer::ephemeral().unwrap());
        let mut store = Store::new(&path, sealer, None, (100, 1 << 30)).unwrap();
        for (n, app) in [(1, "shop"), (2, "blog"), (3, "shop"), (4, "shop")] {
            let item = store.request_item(&record(n, app)).unwrap();
            assert_eq!(store.write(&[item], 1).unwrap(), None);
        }
        let beside = Connection::open(&path).unwrap();
        beside
            .execute(
                "INSERT INTO rules SELECT 7, id FROM requests WHERE id <> ?1",
                [record(4, "shop").id().to_string()],
            )
            .unwrap();
        let history = History::new(store.shared(), None);
        let filters = [
            Filter { rule: Some(7), ..Filter::default() },
            Filter { rule: Some(7), apps: Some(vec!["shop".into()]), ..Filter::default() },
            Filter {
                rule: Some(7),
                status: "4xx".parse().ok(),
                until_ms: Some(record(3, "").access.at_ms),
                ..Filter::default()
            },
            Filter {
                rule: Some(7),
                client: "192.0.2.7".parse().ok(),
                method: Some("GET".into()),
                limit: 2,
                ..Filter::default()
            },
        ];
        let found = || {
            filters.each_ref().map(|filter| {
                history.recent(filter).unwrap().iter().map(|one| one.access.at_ms % 1_000).collect::<Vec<_>>()
            })
        };
        let rare = found();
        assert_eq!(rare, [vec![3, 2, 1], vec![3, 1], vec![2, 1], vec![3, 2]]);

        // Requests that are not there any more, as far as this is concerned.
        beside
            .execute(
                "INSERT INTO rules WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) SELECT 7, 'x' || i FROM n",
                [USUAL_RULE_REQUESTS],
            )
            .unwrap();
        assert!(is_usual(&beside, 7).unwrap());
        assert_eq!(found(), rare);
    }
}
