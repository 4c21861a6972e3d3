//! Tables of the history, and how a connection is set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// The version in `user_version`. One that is older is brought up to date when a newer exists; a newer one is set aside.
pub(super) const VERSION: i64 = 1;

/// Opens or creates the database for writing and creates its tables.
pub(super) fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    connection.execute_batch(PRAGMAS)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        connection.execute_batch(TABLES)?;
        connection.pragma_update(None, "user_version", VERSION)?;
    }
    // Reads the schema and the end of each tree, which finds a file that is no database or was cut short.
    connection.query_row(
        "SELECT count(*) FROM (SELECT id FROM requests ORDER BY id DESC LIMIT 1)",
        [],
        |_| Ok(()),
    )?;
    Ok(connection)
}

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

/// WAL lets readers in while a batch is written. NORMAL loses at most the last batches on power loss, never the file;
/// what may not be lost is in the ledger.
const PRAGMAS: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA journal_size_limit = 8388608;
    PRAGMA cache_size = -4096;
    PRAGMA temp_store = MEMORY;
";

const TABLES: &str = "
    BEGIN;
    CREATE TABLE requests (
        seq    INTEGER PRIMARY KEY,
        id     TEXT NOT NULL UNIQUE,
        client BLOB NOT NULL,
        action INTEGER NOT NULL,
        body   BLOB NOT NULL
    );
    CREATE INDEX requests_client ON requests (client, id);
    CREATE INDEX requests_action ON requests (action, id);
    CREATE TABLE rules (rule INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (rule, id)) WITHOUT ROWID;
    CREATE INDEX rules_id ON rules (id);
    CREATE TABLE consequences (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, body BLOB NOT NULL);
    CREATE INDEX consequences_id ON consequences (id);
    COMMIT;
";
