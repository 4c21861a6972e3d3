//! Tables of the history, and how a connection is set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// The version in `user_version`. One that is older is brought up to date when a newer exists; a newer one is set aside.
pub(super) const VERSION: i64 = 2;

/// Opens or creates the database for writing and creates its tables.
pub(super) fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    connection.execute_batch(PRAGMAS)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        0 => connection
            .execute_batch(&format!("BEGIN; {REQUESTS} {COUNTS} PRAGMA user_version = 2; COMMIT;"))?,
        // The indexes are made of what is there: some seconds, once, for a full history. What is sorted for them goes to a file beyond the
        // size of the cache; in memory it would be as large as the indexes.
        1 => connection.execute_batch(&format!(
            "PRAGMA temp_store = FILE;
             BEGIN; {FROM_1} {COUNTS} PRAGMA user_version = 2; COMMIT;
             PRAGMA temp_store = MEMORY;"
        ))?,
        _ => {}
    }
    number_rows(&connection)?;
    number_counts(&connection)?;
    // Reads the schema and the end of each tree, which finds a file that is no database or was cut short.
    connection.query_row(
        "SELECT count(*) FROM (SELECT id FROM requests ORDER BY id DESC LIMIT 1)",
        [],
        |_| Ok(()),
    )?;
    Ok(connection)
}

/// Gives the database a name of its own and its rows one order, in which others read them. Versions before do not look at it: they may write the
/// same file, and only what they write of consequences is not read by others.
fn number_rows(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(SPOOL)?;
    connection.execute(
        "INSERT OR IGNORE INTO spool (only_row, epoch, last) SELECT 0, ?1,
         max(ifnull((SELECT max(seq) FROM requests), 0), ifnull((SELECT max(seq) FROM consequences), 0))",
        [new_epoch()],
    )?;
    Ok(())
}

/// Gives the counts a name of their own, and numbers to buckets that have none: of before there were numbers, or of a version that does not look at
/// them. Such a version may also have added to the last minutes that have one.
fn number_counts(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(COUNTS_SPOOL)?;
    connection.execute(
        "INSERT OR IGNORE INTO counts_spool (only_row, life, last) VALUES (0, ?1, 0)",
        [new_epoch()],
    )?;
    connection.execute_batch(
        "BEGIN;
         DELETE FROM counts_changes WHERE (step, at) NOT IN (SELECT step, at FROM traffic_buckets);
         DELETE FROM counts_changes WHERE step = 0 AND at >= (SELECT max(at) - 2 FROM counts_changes WHERE step = 0);
         INSERT INTO counts_changes (step, at, rev)
         SELECT step, at, (SELECT last FROM counts_spool) + row_number() OVER (ORDER BY step DESC, at)
         FROM traffic_buckets WHERE (step = 0 OR closed = 1) AND (step, at) NOT IN (SELECT step, at FROM counts_changes);
         UPDATE counts_spool SET last = max(last, ifnull((SELECT max(rev) FROM counts_changes), 0));
         COMMIT;",
    )
}

/// The epoch and the number of the last row.
pub(super) fn spool(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    // What a version before wrote has numbers of its own.
    connection.query_row(
        "SELECT epoch, max(last, ifnull((SELECT max(seq) FROM requests), 0), ifnull((SELECT max(seq) FROM consequences), 0)) FROM spool",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// A name for a database that is not what others have read of it.
pub(super) fn new_epoch() -> i64 {
    phalanx_trust::random_u64().cast_signed() | 1
}

/// Opens or creates the database of what other nodes recorded.
pub(super) fn open_copies(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    connection.execute_batch(PRAGMAS)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    if version(&connection)? == 0 {
        connection.execute_batch(&format!(
            "BEGIN; {REQUESTS} {COPIES} PRAGMA user_version = {COPIES_VERSION}; COMMIT;"
        ))?;
    }
    connection.execute_batch(FLOORS)?;
    connection.execute_batch(COPIED_COUNTS)?;
    number_rows(&connection)?;
    Ok(connection)
}

/// The version of the database of copies.
pub(super) const COPIES_VERSION: i64 = 1;

/// Opens the database for queries.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    Ok(connection)
}

/// The version of the form of an open database.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// More than the writer has.
const STATEMENTS_KEPT: usize = 32;

/// A usual request takes a little more than 2 KiB: of pages of 4 KiB half would be lost. One that is there keeps its own size. WAL lets readers in while a batch is written. NORMAL loses at most the last batches on power loss, never the file;
/// what may not be lost is in the ledger.
const PRAGMAS: &str = "
    PRAGMA page_size = 8192;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA journal_size_limit = 8388608;
    PRAGMA cache_size = -4096;
    PRAGMA temp_store = MEMORY;
";

/// What is in an index answers filters alone: bodies are read of what is found, and of nothing else. `id` is text that sorts by time.
const REQUESTS: &str = "
    CREATE TABLE requests (
        seq     INTEGER PRIMARY KEY,
        id      TEXT NOT NULL UNIQUE,
        client  BLOB NOT NULL,
        action  INTEGER NOT NULL,
        app     INTEGER,
        country INTEGER,
        method  INTEGER,
        status  INTEGER,
        body    BLOB NOT NULL
    );
    CREATE INDEX requests_facts ON requests (id, action, app, country, method, status, client);
    CREATE INDEX requests_client ON requests (client, id, action, app, country, method, status);
    CREATE TABLE rules (rule INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (rule, id)) WITHOUT ROWID;
    CREATE INDEX rules_id ON rules (id);
    CREATE TABLE consequences (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, body BLOB NOT NULL);
    CREATE INDEX consequences_id ON consequences (id);
";

/// Requests of version 1 have nothing in the new columns; whoever looks for it opens them.
const FROM_1: &str = "
    ALTER TABLE requests ADD COLUMN app INTEGER;
    ALTER TABLE requests ADD COLUMN country INTEGER;
    ALTER TABLE requests ADD COLUMN method INTEGER;
    ALTER TABLE requests ADD COLUMN status INTEGER;
    DROP INDEX requests_client;
    DROP INDEX requests_action;
    CREATE INDEX requests_facts ON requests (id, action, app, country, method, status, client);
    CREATE INDEX requests_client ON requests (client, id, action, app, country, method, status);
";

/// Counts of all requests. `step` is the length of a bucket, `at` its number since 1970; `app`, and `value` of a country, are keyed hashes whose
/// names are in `names`, sealed.
const COUNTS: &str = "
    CREATE TABLE traffic (
        step      INTEGER NOT NULL,
        dimension INTEGER NOT NULL,
        at        INTEGER NOT NULL,
        app       INTEGER NOT NULL,
        value     INTEGER NOT NULL,
        n         INTEGER NOT NULL,
        refused   INTEGER NOT NULL,
        PRIMARY KEY (step, dimension, at, app, value)
    ) WITHOUT ROWID;
    CREATE TABLE traffic_buckets (
        step   INTEGER NOT NULL,
        at     INTEGER NOT NULL,
        closed INTEGER NOT NULL,
        PRIMARY KEY (step, at)
    ) WITHOUT ROWID;
    CREATE TABLE names (tag INTEGER PRIMARY KEY, name BLOB NOT NULL);
";

/// Which database this is, and the number of its last row: numbers only rise, over requests and consequences alike, also when the last row is
/// deleted.
const SPOOL: &str = "
    CREATE TABLE IF NOT EXISTS spool (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 0),
        epoch    INTEGER NOT NULL,
        last     INTEGER NOT NULL
    );
";

/// Which counts these are, and the order in which minutes, and hours that are over, were last changed. Versions before do not look at it. Numbers are times where
/// these are larger: a database that was put back from a backup goes on above what was read of it.
const COUNTS_SPOOL: &str = "
    CREATE TABLE IF NOT EXISTS counts_spool (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 0),
        life     INTEGER NOT NULL,
        last     INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS counts_changes (
        step INTEGER NOT NULL,
        at   INTEGER NOT NULL,
        rev  INTEGER NOT NULL,
        PRIMARY KEY (step, at)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX IF NOT EXISTS counts_changes_rev ON counts_changes (rev);
";

/// Counts of other nodes: of which database of which node (`told` is what others are told of its name), each bucket once, and how far each node
/// was read. Made where they are not, and apart from what versions before look at: these give numbers of nodes to others.
const COPIED_COUNTS: &str = "
    CREATE TABLE IF NOT EXISTS counts_lives (
        copy     INTEGER PRIMARY KEY AUTOINCREMENT,
        node     TEXT NOT NULL,
        life     INTEGER NOT NULL,
        told     INTEGER NOT NULL,
        upto     INTEGER NOT NULL DEFAULT 0,
        until_ms INTEGER NOT NULL DEFAULT 0,
        buckets  INTEGER NOT NULL DEFAULT 0,
        bytes    INTEGER NOT NULL DEFAULT 0,
        UNIQUE (node, life)
    );
    CREATE TABLE IF NOT EXISTS counts (
        seq  INTEGER PRIMARY KEY AUTOINCREMENT,
        copy INTEGER NOT NULL,
        step INTEGER NOT NULL,
        at   INTEGER NOT NULL,
        rev  INTEGER NOT NULL,
        body BLOB NOT NULL
    );
    CREATE UNIQUE INDEX IF NOT EXISTS counts_once ON counts (copy, step, at);
    CREATE INDEX IF NOT EXISTS counts_oldest ON counts (step, at, copy);
    CREATE INDEX IF NOT EXISTS counts_order ON counts (copy, seq);
    CREATE TABLE IF NOT EXISTS counts_marks (
        node  TEXT NOT NULL,
        via   TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        seq   INTEGER NOT NULL,
        PRIMARY KEY (node, via)
    ) WITHOUT ROWID;
";

/// Beside what a history has: whose row it is, how far each node was read, directly (`via` is empty) or from another's copy, and what is kept
/// of it. A consequence comes in once, by what it says.
const COPIES: &str = "
    ALTER TABLE requests ADD COLUMN origin INTEGER;
    ALTER TABLE consequences ADD COLUMN origin INTEGER;
    ALTER TABLE consequences ADD COLUMN digest INTEGER;
    CREATE INDEX requests_origin ON requests (origin);
    CREATE INDEX consequences_origin ON consequences (origin);
    CREATE UNIQUE INDEX consequences_once ON consequences (id, digest);
    CREATE TABLE origins (
        origin INTEGER PRIMARY KEY,
        node   TEXT NOT NULL UNIQUE,
        rows   INTEGER NOT NULL DEFAULT 0,
        bytes  INTEGER NOT NULL DEFAULT 0,
        missed INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE marks (
        origin INTEGER NOT NULL,
        via    TEXT NOT NULL,
        epoch  INTEGER NOT NULL,
        seq    INTEGER NOT NULL,
        last   TEXT,
        PRIMARY KEY (origin, via)
    ) WITHOUT ROWID;
";

/// Up to which id rows of a node were deleted for room, and what finds its oldest. Made where it is not: versions before do not look at it.
const FLOORS: &str = "
    CREATE TABLE IF NOT EXISTS floors (origin INTEGER PRIMARY KEY, id TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS requests_oldest ON requests (origin, id);
    CREATE INDEX IF NOT EXISTS consequences_oldest ON consequences (origin, id);
";

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use phalanx_model::{Reason, RequestId, Verdict};
    use phalanx_trust::Sealer;
    use rusqlite::params;

    use super::super::{Filter, History, Store, body_context};
    use super::*;
    use crate::RecordedRequest;

    /// As version 1 made them.
    const VERSION_1: &str = "
        CREATE TABLE requests (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, client BLOB NOT NULL, action INTEGER NOT NULL, body BLOB NOT NULL);
        CREATE INDEX requests_client ON requests (client, id);
        CREATE INDEX requests_action ON requests (action, id);
        CREATE TABLE rules (rule INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (rule, id)) WITHOUT ROWID;
        CREATE INDEX rules_id ON rules (id);
        CREATE TABLE consequences (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, body BLOB NOT NULL);
        CREATE INDEX consequences_id ON consequences (id);
        PRAGMA user_version = 1;
    ";

    pub(in super::super) fn record(n: u64, app: &str) -> RecordedRequest {
        let id = RequestId::from_parts(1_785_585_600_000 + n, 1, n);
        let access = serde_json::from_value(serde_json::json!({
            "id": id, "at_ms": id.at_ms(), "app": app, "client": "192.0.2.7", "peer": "192.0.2.7", "method": "GET", "host": "h",
            "target": "/", "protocol": "HTTP/1.1", "user_agent": "", "referer": "", "status": 403, "request_bytes": 0,
            "response_bytes": 0, "duration_us": 0, "upstream_us": 0, "plan_version": 1, "view_revision": 1,
            "verdict": Verdict::deny(Reason::Clean, 403),
        }));
        RecordedRequest::new(&"fra".into(), &"a".into(), access.unwrap(), Vec::new(), Vec::new())
    }

    #[test]
    fn a_history_of_version_1_is_searched_beside_what_is_added_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let mut store = Store::new(&path, Arc::clone(&sealer), None, (100, 1 << 30)).unwrap();
        {
            let old = Connection::open(&path).unwrap();
            old.execute_batch(VERSION_1).unwrap();
            for (n, app) in [(1, "shop"), (2, "blog")] {
                let one = record(n, app);
                let (id, plain) = (one.id().to_string(), serde_json::to_vec(&one).unwrap());
                let body = sealer.seal(&body_context(&id), &plain).unwrap();
                let client = store.shared().client_key(one.access.client);
                old.execute(
                    "INSERT INTO requests (id, client, action, body) VALUES (?1, ?2, 5, ?3)",
                    params![id, client, body],
                )
                .unwrap();
            }
        }
        let item = store.request_item(&record(3, "shop")).unwrap();
        assert_eq!(store.write(&[item], 1).unwrap(), None);
        let history = History::new(store.shared(), None);
        let found = |filter: &Filter| -> Vec<u64> {
            history.recent(filter).unwrap().iter().map(|one| one.access.at_ms % 1_000).collect()
        };
        let all = Filter::default();
        assert_eq!(found(&all), [3, 2, 1]);
        assert_eq!(found(&Filter { apps: Some(vec!["shop".into()]), ..all.clone() }), [3, 1]);
        assert_eq!(
            found(&Filter { status: "4xx".parse().ok(), client: "192.0.2.7".parse().ok(), ..all.clone() }),
            [3, 2, 1]
        );
        assert_eq!(found(&Filter { method: Some("POST".into()), ..all }), [0; 0]);
    }
}
