//! Limits of the admin API, each with its reason.

/// Largest request body, in bytes. The largest real one is a decision with its reason.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;
/// Failed logins and tokens that are answered and logged each minute; more get 429 and are only counted. The right token
/// is never locked out: with 256 random bits, guesses are noise, and a lock would be a weapon.
pub(crate) const FAILURES_PER_MINUTE_MAX: u32 = 30;
/// Requests of one caller each second over time; a console asks a few.
pub(crate) const REQUESTS_PER_SECOND_MAX: u64 = 50;
/// Requests of one caller at once, before they are counted by the second: a console that opens in several windows.
pub(crate) const REQUESTS_AT_ONCE_MAX: u64 = 200;
/// Callers whose requests are counted. All of them have proved who they are.
pub(crate) const CALLERS_PACED_MAX: usize = 1_024;
/// Consoles that may listen to the stream at once.
pub(crate) const SUBSCRIBERS_MAX: usize = 64;
/// Those of one caller: a person with many windows, and never so many that others find no room.
pub(crate) const SUBSCRIBERS_PER_CALLER_MAX: u32 = 16;
/// How long a peer may take nothing of what is written to it: who reads nothing holds a connection, and what was allowed when he asked.
pub(crate) const WRITE_STALL_MAX: std::time::Duration = std::time::Duration::from_secs(30);
/// Requests sent to the stream each second; during a flood a console shows a sample, and the list has them all.
pub(crate) const STREAM_REQUESTS_PER_SECOND_MAX: u32 = 100;
/// Events a subscriber may lag behind.
pub(crate) const STREAM_EVENTS: usize = 1_024;
/// Queries about the history at once; SQLite reads from disk, and each needs a thread.
pub(crate) const HISTORY_QUERIES_MAX: usize = 4;
/// Receivers that are tested at once.
pub(crate) const TESTS_MAX: usize = 4;
/// Connections to the TCP listener at once.
pub(crate) const TCP_CONNECTIONS_MAX: usize = 256;
/// Those of one address, which is not this machine's: a quarter of them, and more than a browser opens.
pub(crate) const TCP_CONNECTIONS_PER_ADDRESS_MAX: u32 = 64;
/// Those of one IPv6 /48: half of them.
pub(crate) const TCP_CONNECTIONS_PER_NETWORK_MAX: u32 = 128;
/// Those of all that are not this machine's: a tunnel or a proxy on it finds room, whoever floods.
pub(crate) const TCP_CONNECTIONS_FROM_ELSEWHERE_MAX: u32 = 224;
/// Connections to the node's own socket at once: room that a flood on TCP cannot take.
pub(crate) const SOCKET_CONNECTIONS_MAX: usize = 32;
/// Answers to bouncers under way at once: each takes a thread that blocks. A bouncer beyond it waits.
pub(crate) const LAPI_ANSWERS_MAX: usize = 8;
/// Pieces of 32 KiB that an answer to a bouncer is ahead of the connection.
pub(crate) const LAPI_PIECES: usize = 4;
/// Largest request head, in bytes.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest time for a request head, in milliseconds.
pub(crate) const HEAD_TIME_MAX_MS: u64 = 10_000;
/// Longest time for the body of a request, from its head on: 64 KiB over a bad line.
pub(crate) const BODY_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(10);
/// The same for what takes files of some MiB.
pub(crate) const UPLOAD_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(180);
/// A member that was not heard of for this long is shown as offline: heartbeats come each second.
pub(crate) const OFFLINE_AFTER_MS: u64 = 5_000;

/// The longest snapshot of a fleet with its header.
pub(crate) const SNAPSHOT_FILE_BYTES_MAX: usize = phalanx_fleet::SNAPSHOT_BYTES_MAX + 256 * 1024;

/// How long an order waits for room in the ledger, which writes a batch in milliseconds.
pub(crate) const LEDGER_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// How long tries to log in are counted together, in milliseconds.
pub(crate) const LOGIN_WINDOW_MS: u64 = 15 * 60_000;
/// Tries to log in to one account in that time; a person mistypes less.
pub(crate) const LOGINS_PER_ACCOUNT_MAX: u32 = 10;
/// Tries to log in from one network in that time: several people, on a bad day.
pub(crate) const LOGINS_PER_NETWORK_MAX: u32 = 40;
/// Tries by passkey from one network in that time: a signature cannot be guessed, so this bounds only the work, and how many
/// challenges can be spent.
pub(crate) const PASSKEYS_PER_NETWORK_MAX: u32 = 1_000;
/// Accounts and networks whose tries are counted.
pub(crate) const LOGINS_COUNTED_MAX: usize = 4_096;
/// Passwords hashed at once: each takes 19 MiB and a core for a moment.
pub(crate) const HASHES_MAX: usize = 2;
/// How long a login waits for its turn to be hashed.
pub(crate) const HASH_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// How long a login by an identity provider may take, in milliseconds: somebody looks for his phone.
pub(crate) const PROVIDER_LOGIN_MS: u64 = 10 * 60_000;
/// Such logins that came back and are remembered until that is over. A network has few of them.
pub(crate) const PROVIDER_LOGINS_SPENT_MAX: usize = 4_096;
/// The same of one network: an office behind one address.
pub(crate) const PROVIDER_LOGINS_PER_NETWORK_MAX: usize = 256;
/// Tests of a provider in the time in which logins are counted: somebody who mends settings tries often, a script more often.
pub(crate) const PROVIDER_TESTS_MAX: u32 = 30;
/// Codes that a provider is shown at once.
pub(crate) const PROVIDER_REQUESTS_MAX: usize = 8;

/// Rows of a list in one answer. A million decisions would be 300 MB of JSON.
pub(crate) const PAGE_MAX: usize = 10_000;
/// Rows of a list in an answer that asks for no number.
pub(crate) const PAGE_DEFAULT: usize = 1_000;

/// Calls with an `Idempotency-Key` that are remembered; with a whole answer for each this comes to 16 MiB.
pub(crate) const IDEMPOTENCY_KEYS_MAX: usize = 1_024;
/// The same of one caller: a program that repeats what failed has few of them at a time.
pub(crate) const IDEMPOTENCY_KEYS_PER_CALLER_MAX: usize = 128;
/// How long they are remembered, in milliseconds.
pub(crate) const IDEMPOTENCY_MS: u64 = 24 * 60 * 60_000;
/// Longest key, in bytes: a UUID has 36.
pub(crate) const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;
/// Longest answer that is remembered, in bytes. Of a longer one it is known that it was given.
pub(crate) const IDEMPOTENCY_ANSWER_BYTES_MAX: usize = 16 * 1024;
