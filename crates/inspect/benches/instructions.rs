//! Requests of each class through the engine, for counting instructions under callgrind (`cargo xtask bench instructions`).
//!
//! INVARIANT: the same work on each run: requests come from a seeded generator. Each has values of its own, of a client that was not seen before, but for
//! one class, which is a visitor's next page. What is counted are the calls of [`measured`] alone; compiling the rules
//! and a first round, which fills what is filled once, come before. Each call is preceded by a line `class NAME REQUESTS`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement ends at its first surprise"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use phalanx_inspect::{CompileOptions, Outcome, Program, Scratch, Transaction};
use phalanx_model::RequestHead;
use phalanx_policy::baseline::baseline;
use phalanx_policy::seclang::{LoadOptions, Loaded, load_dirs, load_texts};

fn main() {
    let options = LoadOptions::default();
    run("baseline", &load_texts(baseline(), &options).unwrap_or_else(|faults| panic!("{faults:?}")));
    if let Some(shared) = std::env::var_os("PHALANX_SHARED") {
        let folder = PathBuf::from(shared).join("conformance/crs");
        run("crs-pl1", &load_dirs(&[folder], &options).unwrap_or_else(|faults| panic!("{faults:?}")));
    }
}

/// Runs every class through one rule set.
fn run(rules: &str, loaded: &Loaded) {
    let program = Arc::new(Program::compile(&loaded.rules, &CompileOptions::default()).unwrap());
    let mut scratch = Box::default();
    for class in CLASSES {
        let mut generator = Generator(0x9e37_79b9_7f4a_7c15);
        let mut make = || (class.make)(&mut generator);
        let (first, second): (Vec<Request>, Vec<Request>) = (0..REQUESTS).map(|_| (make(), make())).unzip();
        scratch = measured_before(&program, scratch, &first);
        println!("class {rules}/{} {}", class.name, second.len());
        let (blocked, lent) = measured(&program, scratch, &second);
        scratch = lent;
        assert_eq!(blocked, if class.attack { second.len() } else { 0 }, "{rules}/{}", class.name);
    }
}

/// The first round is the same work under another name.
fn measured_before(program: &Arc<Program>, scratch: Box<Scratch>, requests: &[Request]) -> Box<Scratch> {
    inspect(program, scratch, requests).1
}

/// What callgrind counts. Never inlined: its name is how callgrind finds it.
#[inline(never)]
fn measured(program: &Arc<Program>, scratch: Box<Scratch>, requests: &[Request]) -> (usize, Box<Scratch>) {
    black_box(inspect(program, scratch, black_box(requests)))
}

/// Runs the requests, each with a short answer, and counts those that are stopped.
fn inspect(program: &Arc<Program>, mut scratch: Box<Scratch>, requests: &[Request]) -> (usize, Box<Scratch>) {
    let mut blocked = 0;
    for request in requests {
        let mut transaction = Transaction::new(Arc::clone(program), scratch, support::connection());
        let mut outcome = transaction.request_head(&request.head);
        if outcome == Outcome::Pass {
            outcome = transaction.request_body(request.body.clone(), true);
        }
        if outcome == Outcome::Pass {
            let fields: [(&[u8], &[u8]); 1] = [(b"Content-Type", b"text/html; charset=utf-8")];
            outcome = transaction.response_head(200, &mut fields.into_iter());
        }
        blocked += usize::from(outcome != Outcome::Pass);
        scratch = transaction.finish(200).1;
    }
    (blocked, scratch)
}

struct Request {
    head: RequestHead,
    body: Bytes,
}

struct Class {
    name: &'static str,
    attack: bool,
    make: fn(&mut Generator) -> Request,
}

const CLASSES: &[Class] = &[
    Class { name: "get", attack: false, make: get },
    Class { name: "get-of-a-visitor", attack: false, make: get_of_a_visitor },
    Class { name: "json-2k", attack: false, make: json },
    Class { name: "form-1k", attack: false, make: form },
    Class { name: "multipart-64k", attack: false, make: multipart },
    Class { name: "sqli-get", attack: true, make: sqli },
    Class { name: "xss-post", attack: true, make: xss },
];

/// Requests of each round.
const REQUESTS: usize = 16;

fn get(random: &mut Generator) -> Request {
    let target = target(random);
    request(random, "GET", &target, None)
}

/// One client's next page: its fields are those of its last request.
fn get_of_a_visitor(random: &mut Generator) -> Request {
    request(&mut Generator(1), "GET", &target(random), None)
}

fn target(random: &mut Generator) -> String {
    format!(
        "/{}/{}?page={}&sort={}&q={}",
        random.word(),
        random.word(),
        random.number(),
        random.word(),
        random.word()
    )
}

fn json(random: &mut Generator) -> Request {
    let mut items = Vec::new();
    while items.iter().map(String::len).sum::<usize>() < 1900 {
        items.push(format!(
            r#"{{"name":"{}","count":{},"note":"{} {}","tags":["{}","{}"]}}"#,
            random.word(),
            random.number(),
            random.word(),
            random.word(),
            random.word(),
            random.word()
        ));
    }
    let body = format!(r#"{{"items":[{}],"total":{}}}"#, items.join(","), random.number());
    request(random, "POST", "/api/orders", Some(("application/json", body.into_bytes())))
}

fn form(random: &mut Generator) -> Request {
    let mut body = format!("id={}", random.number());
    while body.len() < 1000 {
        body.push_str(&format!("&{}={}+{}", random.word(), random.word(), random.word()));
    }
    request(random, "POST", "/account/edit", Some((URLENCODED, body.into_bytes())))
}

fn multipart(random: &mut Generator) -> Request {
    let boundary = format!("----{}{}", random.word(), random.word());
    let mut body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\n{} {}\r\n",
        random.word(),
        random.word()
    );
    body.push_str(&format!("--{boundary}\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"{}.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n", random.word()));
    let mut body = body.into_bytes();
    while body.len() < 64 * 1024 {
        body.extend_from_slice(&random.next().to_le_bytes());
    }
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let content_type = format!("multipart/form-data; boundary={boundary}");
    request(random, "POST", "/upload", Some((&content_type, body)))
}

fn sqli(random: &mut Generator) -> Request {
    let target = format!(
        "/item?id={0}'+UNION+SELECT+{1},password+FROM+users--+{2}",
        random.number(),
        random.number(),
        random.word()
    );
    request(random, "GET", &target, None)
}

fn xss(random: &mut Generator) -> Request {
    let body = format!(
        "author={}&text=%3Cscript%3Ealert%28{}%29%3C%2Fscript%3E+{}",
        random.word(),
        random.number(),
        random.word()
    );
    request(random, "POST", "/comments", Some((URLENCODED, body.into_bytes())))
}

const URLENCODED: &str = "application/x-www-form-urlencoded";

/// A request as a browser sends it.
fn request(random: &mut Generator, method: &str, target: &str, body: Option<(&str, Vec<u8>)>) -> Request {
    let mut text = format!(
        "{method} {target} HTTP/1.1\nHost: shop.example.org\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:{}) Gecko/20100101 Firefox/140.0\n\
         Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\nAccept-Language: de,en-US;q=0.7,en;q=0.3\n\
         Accept-Encoding: gzip, deflate, br\nReferer: https://shop.example.org/{}\nCookie: sid={}{}; theme={}\n\
         Connection: keep-alive\nSec-Fetch-Dest: document\nSec-Fetch-Mode: navigate\nSec-Fetch-Site: same-origin",
        random.number(),
        random.word(),
        random.word(),
        random.word(),
        random.word()
    );
    if let Some((content_type, body)) = &body {
        text.push_str(&format!("\nContent-Type: {content_type}\nContent-Length: {}", body.len()));
    }
    Request { head: support::head(&text), body: body.map(|(_, body)| Bytes::from(body)).unwrap_or_default() }
}

/// Numbers that look random and are the same each time (Vigna's `splitmix64`).
struct Generator(u64);

impl Generator {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn number(&mut self) -> u64 {
        self.next() % 9000 + 1000
    }

    /// A word that no rule knows: consonants and vowels in turn.
    fn word(&mut self) -> String {
        let mut bits = self.next();
        let mut word = String::new();
        for place in 0..8 {
            let letters: &[u8] = if place % 2 == 0 { b"bdfgklmnprstvz" } else { b"aeiou" };
            let count = u64::try_from(letters.len()).unwrap();
            word.push(char::from(letters[usize::try_from(bits % count).unwrap()]));
            bits /= count;
        }
        word
    }
}
