//! The baseline pack leaves alone what people and programs write: `packs/baseline/tests/data/sentences.txt`, each line in a
//! query, a form and JSON.

#![cfg(test)]

mod support;

use std::fmt::Write as _;
use std::sync::Arc;

use phalanx_inspect::{CompileOptions, Program};
use phalanx_policy::baseline;
use phalanx_policy::seclang::{LoadOptions, load_texts};
use support::{head, run_with};

const SENTENCES: &str = include_str!("../../../packs/baseline/tests/data/sentences.txt");

#[test]
fn ordinary_sentences_are_not_refused() {
    let loaded = load_texts(baseline(), &LoadOptions::default()).unwrap();
    let program = Arc::new(Program::compile(&loaded.rules, &CompileOptions::default()).unwrap());
    let mut scratch = Box::default();
    let (mut sentences, mut refused) = (0, String::new());
    for sentence in SENTENCES.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")) {
        sentences += 1;
        let encoded = percent_encoded(sentence);
        let query = format!("GET /search?q={encoded}&page=1 HTTP/1.1\nHost: shop.example.com");
        let json = serde_json::json!({ "title": sentence, "page": 1 }).to_string();
        let requests = [
            (query, String::new()),
            (posted("application/x-www-form-urlencoded"), format!("q={encoded}&page=1")),
            (posted("application/json"), json),
        ];
        for (text, body) in requests {
            let (findings, used) =
                run_with(&program, scratch, &head(&text), body.as_bytes(), 1_700_000_000_000);
            scratch = used;
            if let Some(stop) = findings.interruption {
                let _ = writeln!(refused, "rule {} refuses {sentence:?}", stop.rule);
            }
        }
    }
    assert!(sentences >= 800, "{sentences} sentences");
    assert!(refused.is_empty(), "{refused}");
}

fn posted(content_type: &str) -> String {
    format!("POST /comments HTTP/1.1\nHost: shop.example.com\nContent-Type: {content_type}")
}

/// As browsers send a form.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => encoded.push(byte.into()),
            b' ' => encoded.push('+'),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
        encoded
    })
}
