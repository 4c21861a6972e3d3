//! The slowest request of 10 KB that a search finds: families of shapes, each mutated where that takes longer. The Core Rule
//! Set at paranoia 4, or the baseline pack without `PHALANX_SHARED`. `cargo bench -p phalanx-inspect --bench slowest [-- ROUNDS]`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement ends at its first surprise"
)]

#[path = "../../crates/inspect/tests/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phalanx_inspect::{CompileOptions, Program, Scratch};
use phalanx_policy::baseline::baseline;
use phalanx_policy::seclang::ir::RuleEngine;
use phalanx_policy::seclang::{LoadOptions, load_dirs, load_texts};

const REQUEST_BYTES: usize = 10 * 1024;

fn main() {
    let rounds: usize = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(300);
    // Detecting, so that no rule ends the search for others.
    let options = LoadOptions {
        paranoia: Some(4),
        rule_engine: Some(RuleEngine::DetectionOnly),
        ..LoadOptions::default()
    };
    let loaded = match std::env::var_os("PHALANX_SHARED") {
        Some(shared) => load_dirs(&[PathBuf::from(shared).join("conformance/crs")], &options),
        None => load_texts(baseline(), &options),
    };
    let loaded = loaded.unwrap_or_else(|faults| panic!("{faults:?}"));
    let program = Arc::new(Program::compile(&loaded.rules, &CompileOptions::default()).unwrap());
    let mut random = Random(7);
    let mut scratch = Box::default();
    println!("{:<12} {:>9} {:>14} {:>7}  request", "family", "us", "bytes examined", "bytes");
    for family in FAMILIES {
        let mut best = Candidate { pieces: (family.seed)(&mut random), time: Duration::ZERO, examined: 0 };
        scratch = measure(&program, scratch, family, &mut best);
        for _ in 0..rounds {
            let mut next = Candidate { pieces: mutated(&best.pieces, &mut random), ..best };
            scratch = measure(&program, scratch, family, &mut next);
            if next.time > best.time {
                best = next;
            }
        }
        let (head, body) = (family.build)(&best.pieces);
        let bytes = head.len() + body.len();
        let shown = [head.as_bytes(), &body].concat();
        let shown = shown.get(..shown.len().min(160)).unwrap_or_default().escape_ascii().to_string();
        println!(
            "{:<12} {:>9} {:>14} {bytes:>7}  {shown}",
            family.name,
            best.time.as_micros(),
            best.examined
        );
    }
}

/// What a request is put together from, and what it costs.
#[derive(Clone)]
struct Candidate {
    pieces: Vec<String>,
    time: Duration,
    examined: u64,
}

struct Family {
    name: &'static str,
    seed: fn(&mut Random) -> Vec<String>,
    build: fn(&[String]) -> (String, Vec<u8>),
}

/// The best of three: what else the machine does only adds.
fn measure(
    program: &Arc<Program>,
    mut scratch: Box<Scratch>,
    family: &Family,
    candidate: &mut Candidate,
) -> Box<Scratch> {
    let (mut head, mut body) = (family.build)(&candidate.pieces);
    // Some shapes need more around a piece than others.
    while head.len() + body.len() > REQUEST_BYTES && candidate.pieces.len() > 2 {
        candidate.pieces.truncate(candidate.pieces.len() * 15 / 16);
        (head, body) = (family.build)(&candidate.pieces);
    }
    let head = support::head(&head);
    candidate.time = Duration::MAX;
    for _ in 0..3 {
        let started = Instant::now();
        let (findings, lent) = support::run_with(program, scratch, &head, &body, 1_700_000_000_000);
        candidate.time = candidate.time.min(started.elapsed());
        candidate.examined = findings.examined_bytes;
        scratch = lent;
    }
    scratch
}

fn mutated(pieces: &[String], random: &mut Random) -> Vec<String> {
    let mut next = pieces.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(next.len().max(1));
        match random.below(5) {
            0 => next.insert(at, random.piece()),
            1 if next.len() > 1 => {
                next.remove(at);
            }
            2 if !next.is_empty() => {
                let repeated = next[at].repeat(2 + random.below(8));
                next[at] = repeated;
            }
            3 if !next.is_empty() => {
                let other = next[random.below(next.len())].clone();
                next[at].push_str(&other);
            }
            _ if !next.is_empty() => next[at] = random.piece(),
            _ => {}
        }
    }
    let mut bytes = 0;
    for piece in &mut next {
        piece.truncate(2048);
        bytes += piece.len() + 4;
    }
    // Grown and shrunk to the size that is asked for.
    while bytes < REQUEST_BYTES - 1024 {
        let piece = if next.is_empty() { random.piece() } else { next[random.below(next.len())].clone() };
        bytes += piece.len() + 4;
        next.push(piece);
    }
    while bytes > REQUEST_BYTES - 512 {
        bytes -= next.pop().map_or(bytes, |piece| piece.len() + 4);
    }
    next
}

const FAMILIES: &[Family] = &[
    Family { name: "arguments", seed: Random::pieces, build: |p| form(&numbered(p, "&")) },
    Family {
        name: "names",
        seed: Random::pieces,
        build: |p| form(&p.iter().map(|p| escaped(p)).collect::<Vec<_>>().join("&")),
    },
    Family { name: "value", seed: Random::pieces, build: |p| form(&format!("q={}", escaped(&p.concat()))) },
    Family {
        name: "cookies",
        seed: Random::pieces,
        build: |p| get("/", &format!("Cookie: {}", numbered(p, "; "))),
    },
    Family { name: "fields", seed: Random::pieces, build: |p| get("/", &fields(p)) },
    Family {
        name: "target",
        seed: Random::pieces,
        build: |p| {
            get(
                &format!("/{}?{}", escaped(&p[..p.len() / 2].concat()), numbered(&p[p.len() / 2..], "&")),
                "X: y",
            )
        },
    },
    Family { name: "json", seed: Random::pieces, build: |p| json(p, false) },
    Family { name: "json-deep", seed: Random::pieces, build: |p| json(p, true) },
    Family { name: "multipart", seed: Random::pieces, build: multipart },
    Family { name: "xml", seed: Random::pieces, build: xml },
];

fn form(body: &str) -> (String, Vec<u8>) {
    let head = "POST / HTTP/1.1\nHost: h\nUser-Agent: u\nAccept: */*\nContent-Type: application/x-www-form-urlencoded";
    (head.to_owned(), body.as_bytes().to_vec())
}

fn get(target: &str, more: &str) -> (String, Vec<u8>) {
    (format!("GET {target} HTTP/1.1\nHost: h\nUser-Agent: u\nAccept: */*\n{more}"), Vec::new())
}

fn numbered(pieces: &[String], separator: &str) -> String {
    let pairs = pieces.iter().enumerate().map(|(n, piece)| format!("{n}={}", escaped(piece)));
    pairs.collect::<Vec<_>>().join(separator)
}

fn fields(pieces: &[String]) -> String {
    let lines =
        pieces.iter().enumerate().map(|(n, piece)| format!("X-{n}: {}", piece.replace(['\n', '\r'], " ")));
    lines.collect::<Vec<_>>().join("\n")
}

fn json(pieces: &[String], deep: bool) -> (String, Vec<u8>) {
    let quoted = |piece: &String| {
        format!("{piece:?}").replace("\\u{", "\\u00").replace("\\'", "'").replace('}', " ").replace("\\0", "")
    };
    let body = if deep {
        let depth = pieces.len().min(100);
        let open: String =
            pieces.iter().take(depth).map(|piece| format!("{{\"a\":{},\"b\":", quoted(piece))).collect();
        format!("{open}1{}", "}".repeat(depth))
    } else {
        format!("[{}]", pieces.iter().map(quoted).collect::<Vec<_>>().join(","))
    };
    (
        "POST / HTTP/1.1\nHost: h\nUser-Agent: u\nAccept: */*\nContent-Type: application/json".to_owned(),
        body.into_bytes(),
    )
}

fn multipart(pieces: &[String]) -> (String, Vec<u8>) {
    let parts = pieces.iter().enumerate().map(|(n, piece)| {
        format!("--b1\r\nContent-Disposition: form-data; name=\"n{n}\"\r\n\r\n{piece}\r\n")
    });
    let body = format!("{}--b1--\r\n", parts.collect::<String>());
    ("POST / HTTP/1.1\nHost: h\nUser-Agent: u\nAccept: */*\nContent-Type: multipart/form-data; boundary=b1".to_owned(), body.into_bytes())
}

fn xml(pieces: &[String]) -> (String, Vec<u8>) {
    let text = |piece: &String| {
        piece.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;").replace(['\0', '\x0b'], "")
    };
    let elements = pieces.iter().map(|piece| format!("<a b=\"{0}\">{0}</a>", text(piece)));
    let body = format!("<r>{}</r>", elements.collect::<String>());
    (
        "POST / HTTP/1.1\nHost: h\nUser-Agent: u\nAccept: */*\nContent-Type: text/xml".to_owned(),
        body.into_bytes(),
    )
}

/// Only what would end a pair or a word is escaped, so that most bytes cost one.
fn escaped(piece: &str) -> String {
    piece
        .replace('&', "%26")
        .replace(';', "%3b")
        .replace('#', "%23")
        .replace(' ', "+")
        .replace(['\n', '\r', '\0'], "%0a")
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }

    /// A fragment of an attack, or of what patterns look for at length.
    fn piece(&mut self) -> String {
        let mut piece = String::new();
        for _ in 0..=self.below(4) {
            piece.push_str(PIECES[self.below(PIECES.len())]);
        }
        piece
    }

    fn pieces(&mut self) -> Vec<String> {
        let mut pieces = Vec::new();
        while pieces.iter().map(String::len).sum::<usize>() < REQUEST_BYTES - 2048 {
            pieces.push(self.piece());
        }
        pieces
    }
}

const PIECES: &[&str] = &[
    "'",
    "\"",
    "`",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    "%",
    "%25",
    "%27",
    "%u0027",
    "\\",
    "\\x41",
    "\\u0041",
    "&lt;",
    "&#x27;",
    "$",
    "${",
    "$(",
    "|",
    "||",
    "&&",
    ";",
    "/*",
    "*/",
    "--",
    "#",
    "//",
    "../",
    "..\\",
    "=",
    "==",
    "!=",
    "@",
    "@@",
    ":",
    ",",
    ".",
    "?",
    "*",
    "+",
    "-",
    "_",
    "~",
    "^",
    " ",
    "  ",
    "\t",
    "\n",
    "a",
    "aaaaaaaa",
    "0",
    "0x41",
    "1e5",
    "9999",
    "select",
    "union all select",
    "insert into",
    "update set",
    "or 1=1",
    "and",
    "like",
    "having",
    "group by",
    "order by",
    "exec",
    "xp_",
    "char(",
    "concat(",
    "sleep(",
    "benchmark(",
    "script",
    "<script>",
    "javascript:",
    "onerror=",
    "onload",
    "style=",
    "expression(",
    "import",
    "eval(",
    "system(",
    "exec(",
    "passthru",
    "base64_decode",
    "php://",
    "file://",
    "http://",
    "ftp://",
    "/etc/passwd",
    "/bin/sh",
    "cmd.exe",
    "powershell",
    "wget",
    "curl",
    "cat",
    "echo",
    "nc",
    "ls",
    "rm",
    "sudo",
    "python",
    "perl",
    "ruby",
    "java.lang",
    "runtime",
    "process",
    "jndi:ldap",
    "ognl",
    "class.module",
    "constructor",
    "__proto__",
    "prototype",
    "document.cookie",
    "window",
    "set-cookie",
    "location:",
    "http/1.1",
    "content-length:",
    "\u{e9}",
    "\u{2019}",
    "\u{ff1c}",
    "xml",
    "<?php",
    "<?",
    "?>",
    "<%",
    "%>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "data:",
    "YWFh",
    "PHNjcmlwdD4=",
];
