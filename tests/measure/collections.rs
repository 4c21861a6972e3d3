//! What strangers' keys cost: transactions with distinct User-Agents and cookies, each opening two persistent collections
//! and writing to them, and the process's memory over time. `cargo bench -p phalanx-inspect --bench collections [-- COUNT]`;
//! ten million by default.

#![expect(clippy::unwrap_used, reason = "a measurement ends at its first surprise")]

#[path = "../../crates/inspect/tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Instant;

use phalanx_inspect::{Collections, CompileOptions, Outcome, Transaction};

const RULES: &str = r#"
    SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR}_%{REQUEST_HEADERS.User-Agent},setsid:%{REQUEST_COOKIES.sid},\
        setvar:ip.requests=+1,setvar:'ip.agent=%{REQUEST_HEADERS.User-Agent}',expirevar:ip.requests=600,\
        setvar:session.requests=+1,setvar:'session.path_%{REQUEST_BASENAME}=%{REQUEST_URI}',expirevar:session.requests=3600"
"#;

fn main() {
    let count: u64 = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(10_000_000);
    let collections = Arc::new(Collections::default());
    let options = CompileOptions { collections: Arc::clone(&collections), ..CompileOptions::default() };
    let program = support::program_with(RULES, &options);
    let mut scratch = Box::default();
    let started = Instant::now();
    println!("{:>12} {:>10} {:>12} {:>10} {:>10}", "transactions", "records", "bytes", "RSS KiB", "seconds");
    for number in 0..=count {
        if number % (count / 10).max(1) == 0 {
            let (records, bytes) = (collections.len(), collections.bytes());
            let seconds = started.elapsed().as_secs();
            println!("{number:>12} {records:>10} {bytes:>12} {:>10} {seconds:>10}", resident_kib());
        }
        let head = support::head(&format!(
            "GET /shop/{number} HTTP/1.1\nHost: h\nUser-Agent: agent-{number:x}/{}\nCookie: sid={:016x}",
            "x".repeat(usize::try_from(number % 200).unwrap()),
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ));
        let connection = phalanx_inspect::Connection {
            now_ms: support::connection().now_ms + number / 10,
            ..support::connection()
        };
        let mut transaction = Transaction::new(Arc::clone(&program), scratch, connection);
        assert_eq!(transaction.request_head(&head), Outcome::Pass);
        scratch = transaction.finish(200).1;
    }
}

/// Memory of this process, from Linux.
fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4
}
