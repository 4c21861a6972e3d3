//! Persistent collections under keys that clients make up.

#![cfg(test)]

mod support;

use std::sync::Arc;

use phalanx_inspect::{Collections, CompileOptions, Transaction};
use phalanx_model::limits::{COLLECTION_BYTES_MAX, COLLECTION_RECORDS_MAX};
use support::{connection, head, program_with, run_with};

/// A small store in which each record may have as many bytes as in the whole one.
const RECORDS: usize = 1024;

#[test]
fn keys_and_values_that_clients_make_up_cost_bounded_memory() {
    let collections = Arc::new(Collections::with_records(RECORDS));
    let options = CompileOptions { collections: Arc::clone(&collections), ..CompileOptions::default() };
    let rules = r#"
        SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{REQUEST_HEADERS.User-Agent},setsid:%{REQUEST_COOKIES.sid},\
            setvar:ip.n=+1,expirevar:ip.n=60"
        SecRule ARGS_NAMES "@unconditionalMatch" "id:2,phase:1,pass,nolog,setvar:'ip.x_%{MATCHED_VAR}=%{ARGS.value}',\
            setvar:'session.%{MATCHED_VAR}=+1'"
    "#;
    let program = program_with(rules, &options);
    let value = "v".repeat(4000);
    let bytes_max = COLLECTION_BYTES_MAX / (COLLECTION_RECORDS_MAX / RECORDS);
    let mut scratch = Box::default();
    for number in 0..20_000u64 {
        let names: Vec<String> = (0..number % 60).map(|n| format!("name{n}{number}")).collect();
        let request = head(&format!(
            "GET /?value={}&{} HTTP/1.1\nHost: h\nUser-Agent: {number}{}\nCookie: sid={number:x}",
            if number % 7 == 0 { value.as_str() } else { "v" },
            names.join("&"),
            "a".repeat(usize::try_from(number % 300).unwrap())
        ));
        let now_ms = connection().now_ms + number;
        scratch = run_with(&program, scratch, &request, b"", now_ms).1;
        if number % 1000 == 999 {
            let (records, bytes) = (collections.len(), collections.bytes());
            assert!(records <= RECORDS && bytes <= bytes_max, "{records} records, {bytes} bytes");
        }
    }
    assert!(collections.len() > RECORDS / 4, "{} records: most of the store is unused", collections.len());
    let request = head("GET /?name=1 HTTP/1.1\nHost: h\nUser-Agent: last\nCookie: sid=last");
    let (_, scratch) = run_with(&program, scratch, &request, b"", connection().now_ms + 30_000);
    let counted = program_with(
        &format!("{rules}\nSecRule IP:n \"@eq 2\" \"id:3,phase:1,pass\""),
        &CompileOptions { collections, ..CompileOptions::default() },
    );
    let (found, _) = run_with(&counted, scratch, &request, b"", connection().now_ms + 30_001);
    assert_eq!(found.matched_rules, [3], "the latest record is kept");
}

#[test]
fn a_transaction_without_trace_is_not_remembered() {
    let collections = Arc::new(Collections::with_records(RECORDS));
    let options = CompileOptions { collections: Arc::clone(&collections), ..CompileOptions::default() };
    let rules = "SecAction \"id:1,phase:5,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:ip.n=+1\"";
    let program = program_with(rules, &options);
    let begun = |scratch| {
        let mut transaction = Transaction::new(Arc::clone(&program), scratch, connection());
        transaction.request_head(&head("GET / HTTP/1.1\nHost: h"));
        transaction
    };
    let (_, scratch) = begun(Box::default()).finish_without_trace(204);
    assert_eq!(collections.len(), 0);
    begun(scratch).finish(204);
    assert_eq!(collections.len(), 1);
}
