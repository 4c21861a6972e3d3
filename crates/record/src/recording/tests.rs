//! Masks, frames and the ring.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use phalanx_model::{BodySeen, HttpVersion, ManualClock, Reason, RecordedFacts, RequestId, Verdict};
use proptest::prelude::*;

use super::*;

fn request(head: &str, body: &[u8], at_ms: u64) -> Recorded {
    let peer = "192.0.2.1:1".parse().unwrap();
    let facts = RecordedFacts {
        id: RequestId::from_parts(at_ms, 1, at_ms),
        at_ms,
        client: "192.0.2.1".parse().unwrap(),
        peer,
        local: peer,
        secure: false,
        certified: false,
        version: HttpVersion::Http11,
        app: "shop".into(),
        route: None,
        verdict: Verdict::allow(Reason::Clean),
        rules: vec![7],
        status: 200,
        plan_version: 1,
        faults: vec![],
        body_bytes: body.len() as u64,
        seen: BodySeen::Whole,
        masked: false,
    };
    let head = Bytes::copy_from_slice(head.as_bytes());
    Recorded { facts, head, body: Bytes::copy_from_slice(body), secret_names: vec!["kode".into()] }
}

fn masked(head: &str, body: &str) -> (String, String, Recorded) {
    let mut one = request(head, body.as_bytes(), 1);
    mask(&mut one, &Pseudonyms::new(&[7; 32]));
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&one.head), text(&one.body), one)
}

#[track_caller]
fn check_head(head: &str, expected: &str) {
    let (head, _, _) = masked(head, "");
    assert_eq!(head, expected);
}

#[track_caller]
fn check_body(kind: &str, body: &str, expected: &str) {
    let (_, body, _) = masked(&format!("POST / HTTP/1.1\r\nContent-Type: {kind}\r\n\r\n"), body);
    assert_eq!(body, expected, "{kind}");
}

#[test]
fn secrets_of_a_head_are_overwritten_in_their_place() {
    check_head(
        "GET /a?page=2&token=abc%21&x=1 HTTP/1.1\r\nHost: shop:80\r\nCookie: sid=a1; n=12\r\n\r\n",
        "GET /a?page=2&token=xxxxxx&x=1 HTTP/1.1\r\nHost: shop:80\r\nCookie: sid=xx; n=11\r\n\r\n",
    );
    check_head(
        "GET / HTTP/1.1\r\nAuthorization: Basic YTpi\r\nX-Api-Key:k1\r\nKode: a\r\nAccept: */*\r\n\r\n",
        "GET / HTTP/1.1\r\nAuthorization: Basic xxxx\r\nX-Api-Key:xx\r\nKode: x\r\nAccept: */*\r\n\r\n",
    );
    check_head(
        "GET /a?next=%2Fb%3Ftoken%3Dabc HTTP/1.1\r\nReferer: http://s/?password=q\r\n\r\n",
        "GET /a?next=xxxxxxxxxxxxxxxxxx HTTP/1.1\r\nReferer: http://s/?password=x\r\n\r\n",
    );
}

#[test]
fn what_limits_count_by_stays_apart_and_passwords_do_not() {
    let value = |name: &str, value: &str| {
        let (head, ..) = masked(&format!("GET / HTTP/1.1\r\n{name}{value}\r\n\r\n"), "");
        let written = head.split("\r\n").nth(1).unwrap().strip_prefix(name).unwrap().to_owned();
        assert!(written.len() == value.len() && written != value, "{head}");
        written
    };
    for name in ["X-Api-Key: ", "Authorization: Bearer ", "Cookie: sid="] {
        let (alice, bobby) = (value(name, "alice-4711"), value(name, "bobby-4712"));
        assert_eq!(alice, value(name, "alice-4711"), "{name}");
        assert_ne!(alice, bobby, "{name}");
        assert_eq!((value(name, "alice12"), value(name, "4711")), ("x".repeat(7), "1111".into()), "{name}");
    }
    assert_eq!(value("Authorization: Basic ", "YWxpY2U6YQ=="), "x".repeat(12));
    assert_eq!(value("Referer: /?password=", "long-enough"), "x".repeat(11));
}

#[test]
fn secrets_of_bodies_are_overwritten_and_the_rest_is_as_it_was() {
    check_body(
        "application/x-www-form-urlencoded",
        "user=ann&password=a\"b;c&pin=1234&kode=z&q=1' or 1=1",
        "user=ann&password=xxxxx&pin=1111&kode=x&q=1' or 1=1",
    );
    check_body(
        "application/json",
        r#"{"user":"ann","password":"a\"b","pin":907,"login":{"tokens":["a","b"],"n":2},"token":{"n":3,"t":true}}"#,
        r#"{"user":"ann","password":"xxxx","pin":111,"login":{"tokens":["x","x"],"n":2},"token":{"n":1,"t":true}}"#,
    );
    check_body("application/json", r#"[{"a":{"pw":"s"}},{"b":"c"}]"#, r#"[{"a":{"pw":"x"}},{"b":"c"}]"#);
    check_body(
        "text/xml",
        "<a><w:Password t=\"1\">abc</w:Password><b>c</b></a>",
        "<a><w:Password t=\"1\">xxx</w:Password><b>c</b></a>",
    );
    check_body("text/xml", "<a><pwd><![CDATA[a>b]]></pwd></a>", "<a><pwd><![CDATA[xxx]]></pwd></a>");
    check_body(
        "multipart/form-data; boundary=\"b\"",
        "--b\r\nContent-Disposition: form-data; name=\"pwd\"\r\n\r\na\r\n--c\r\n--b\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\nblue\r\n--b--\r\n",
        "--b\r\nContent-Disposition: form-data; name=\"pwd\"\r\n\r\nxxxxxx\r\n--b\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\nblue\r\n--b--\r\n",
    );
}

#[test]
fn a_declared_name_is_known_however_it_is_written() {
    let check = |kind: &str, body: &str, expected: &str| {
        let head = format!("POST / HTTP/1.1\r\nContent-Type: {kind}\r\n\r\n");
        let mut one = request(&head, body.as_bytes(), 1);
        one.secret_names = vec!["größe".into(), "login.merkwort".into(), "my word".into()];
        mask(&mut one, &Pseudonyms::new(&[7; 32]));
        assert_eq!(String::from_utf8_lossy(&one.body), expected);
    };
    let form = "application/x-www-form-urlencoded";
    check(form, "gr%C3%B6%C3%9Fe=abc&a=b", "gr%C3%B6%C3%9Fe=xxx&a=b");
    check(form, "login[merkwort]=abc&a=b", "login[merkwort]=xxx&a=b");
    check(form, "login%5Bmerkwort%5D=abc&Merkwort=d", "login%5Bmerkwort%5D=xxx&Merkwort=x");
    check(form, "my+word=abc&merkworte=d", "my+word=xxx&merkworte=d");
    check("application/json", r#"{"login":{"merkwort":"abc"}}"#, r#"{"login":{"merkwort":"xxx"}}"#);
    let part = |content: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"login[merkwort]\"\r\n\r\n{content}\r\n--b--\r\n"
        )
    };
    check("multipart/form-data; boundary=b", &part("abc"), &part("xxx"));
}

#[test]
fn json_is_read_as_such_where_nothing_says_that_it_is() {
    let (bare, hidden) = (r#"{"a":["b",{"pin": 12}]}"#, r#"{"a":["b",{"pin": 11}]}"#);
    check_body("text/plain", bare, hidden);
    check_body("text/plain", &format!("\u{feff} {bare}"), &format!("\u{feff} {hidden}"));
    check_body("application/json", &format!("\u{feff}{bare}"), &format!("\u{feff}{hidden}"));
    check_body("text/plain", "[note] all is well", "[note] all is well");
    let part = |content: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\n{content}\r\n--b--\r\n")
    };
    check_body("multipart/form-data; boundary=b", &part(bare), &part(hidden));
}

#[test]
fn secrets_deep_within_elements_are_overwritten() {
    check_body(
        "text/xml",
        "<a><password t=\"1\"><part>abc</part><br/>de<password>f</password>g</password><b>c</b></a>",
        "<a><password t=\"1\"><part>xxx</part><br/>xx<password>x</password>x</password><b>c</b></a>",
    );
    check_body(
        "text/xml",
        "<pwd></b>abc<!-- </pwd> -->d</pwd><password/>e",
        "<pwd></b>xxx<!--xxxxxxxx-->x</pwd><password/>e",
    );
    check_body("text/xml", "<pwd><c>abc", "<pwd><c>xxx");
}

#[test]
fn a_body_in_which_secrets_cannot_be_told_is_left_out() {
    for (fields, body) in [
        ("Content-Type: application/octet-stream", "abc"),
        ("X: y", "abc"),
        ("Content-Type: application/json\r\nContent-Encoding: gzip", "abc"),
        ("Content-Type: text/plain\r\nContent-Type: application/json", "abc"),
        ("Content-Type: application/json", "{\0\"\0"),
        ("Content-Type: application/json", r#"{"password": 'abc'}"#),
        ("Content-Type: application/json", r#"{"a": "b"#),
        ("Content-Type: multipart/form-data", "--b"),
        ("Content-Type: multipart/form-data; boundary=b", "before --b"),
    ] {
        let (_, body, one) = masked(&format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n"), body);
        assert_eq!((body.as_str(), one.facts.seen), ("", BodySeen::Withheld), "{fields}");
    }
}

fn batch(app: &str, requests: Vec<Recorded>) -> RecordedBatch {
    RecordedBatch { app: app.into(), seen: 40, requests }
}

fn ring(dir: &Path, sealer: &Arc<Sealer>, bytes_max: u64) -> Ring {
    let bounds = Bounds { bytes_max, kept_ms: 1_000_000, segment_bytes: 4_096 };
    Ring::open(dir, Arc::clone(sealer), bounds).unwrap()
}

#[test]
fn the_ring_keeps_its_bounds_and_no_app_pushes_out_another() {
    let folder = tempfile::tempdir().unwrap();
    let sealer = Arc::new(Sealer::ephemeral().unwrap());
    let now = u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let mut one = ring(folder.path(), &sealer, 40_000);
    one.write(&batch("quiet", vec![request("GET /quiet HTTP/1.1\r\n\r\n", b"", now)]), now).unwrap();
    for turn in 0..200 {
        let noise = request("GET /noise HTTP/1.1\r\n\r\n", &[b'a'; 600], now + turn);
        one.write(&batch("loud", vec![noise]), now + turn).unwrap();
        one.prune(now + turn).unwrap();
        assert!(one.bytes() <= 40_000);
    }
    let mut apps = std::collections::BTreeMap::new();
    let mut count = |batch: RecordedBatch| {
        *apps.entry(batch.app.to_string()).or_insert(0) += batch.requests.len();
        true
    };
    assert_eq!(ring::read(folder.path(), &sealer, 0, &mut count).unwrap(), 0);
    assert_eq!(apps["quiet"], 1);
    assert!((20..60).contains(&apps["loud"]), "{apps:?}");
    // Another process goes on with what is there, and age ends all of it.
    let mut again = ring(folder.path(), &sealer, 40_000);
    again.prune(now).unwrap();
    assert!(again.bytes() > 30_000);
    again.prune(now + 10_000_000).unwrap();
    assert_eq!((again.bytes(), std::fs::read_dir(folder.path()).unwrap().count()), (0, 0));
}

#[test]
fn a_request_of_a_quiet_app_is_gone_soon_after_it_is_too_old() {
    const HOUR: u64 = 60 * 60 * 1_000;
    let folder = tempfile::tempdir().unwrap();
    let sealer = Arc::new(Sealer::ephemeral().unwrap());
    let bounds = Bounds { bytes_max: 1 << 30, kept_ms: 24 * HOUR, segment_bytes: 1 << 20 };
    let mut one = Ring::open(folder.path(), Arc::clone(&sealer), bounds).unwrap();
    let begin = u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    for hour in 0..24 * 7 {
        let now = begin + hour * HOUR;
        one.write(&batch("quiet", vec![request("GET / HTTP/1.1\r\n\r\n", b"", now)]), now).unwrap();
        one.prune(now).unwrap();
        let mut ages = Vec::new();
        let read = ring::read(folder.path(), &sealer, 0, |batch| {
            ages.extend(batch.requests.iter().map(|request| (now - request.facts.at_ms) / HOUR));
            true
        });
        assert_eq!(read.unwrap(), 0);
        assert!(*ages.first().unwrap() <= 24 + 24 / 8, "hour {hour}: {ages:?}");
        assert!(ages.len() as u64 >= 24.min(hour), "hour {hour}: {ages:?}");
        // Three hours share a segment.
        assert!(std::fs::read_dir(folder.path()).unwrap().count() <= 10);
    }
}

#[test]
fn a_request_that_the_mask_fails_at_is_left_out_and_counted() {
    let heads = ["GET /a HTTP/1.1\r\n\r\n", "GET /odd HTTP/1.1\r\n\r\n", "GET /b HTTP/1.1\r\n\r\n"];
    let mut three = batch("shop", heads.iter().map(|head| request(head, b"", 1)).collect());
    let withheld = mask_all(&mut three, |request| {
        assert!(!request.head.starts_with(b"GET /odd"), "a fault of the mask");
        mask(request, &Pseudonyms::new(&[7; 32]));
    });
    let left: Vec<_> = three.requests.iter().map(|request| &request.head[..]).collect();
    assert_eq!((withheld, left), (1, vec![heads[0].as_bytes(), heads[2].as_bytes()]));
}

#[test]
fn what_is_damaged_or_moved_is_told_and_ends_its_segment_only() {
    let folder = tempfile::tempdir().unwrap();
    let sealer = Arc::new(Sealer::ephemeral().unwrap());
    let mut one = ring(folder.path(), &sealer, 1 << 20);
    for app in ["a", "b", "c"] {
        let get = || request("GET / HTTP/1.1\r\n\r\n", b"", 1);
        one.write(&batch(app, vec![get()]), 1).unwrap();
        one.write(&batch(app, vec![get()]), 1).unwrap();
    }
    let mut files: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    // The first breaks off, the second is another's.
    let bytes = std::fs::read(&files[0]).unwrap();
    std::fs::write(&files[0], &bytes[..bytes.len() - 3]).unwrap();
    std::fs::copy(&files[2], &files[1]).unwrap();
    let mut read = 0;
    let damaged = ring::read(folder.path(), &sealer, 0, |batch| {
        read += batch.requests.len();
        true
    });
    assert_eq!((damaged.unwrap(), read), (2, 3));
}

#[test]
fn what_was_sampled_is_written_masked_and_can_be_read_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let sealer = Arc::new(Sealer::ephemeral().unwrap());
    let settings = RecordingSettings::new(folder.path(), sealer, Arc::new(ManualClock::at(1_000)));
    let waiting = Arc::new(Mutex::new(vec![batch(
        "shop",
        vec![
            request("GET /?token=abc HTTP/1.1\r\n\r\n", b"", 500),
            request("GET /new HTTP/1.1\r\n\r\n", b"", 900),
        ],
    )]));
    let dropped = Arc::new(AtomicU64::new(3));
    let (sample, count) = (Arc::clone(&waiting), Arc::clone(&dropped));
    let source = Source {
        take: Box::new(move || std::mem::take(&mut *sample.lock())),
        dropped: Box::new(move || count.load(Ordering::Relaxed)),
    };
    let status = RecorderStatus::default();
    let recorder = RequestRecorder::start(settings, source, status.clone()).unwrap();
    let reader = recorder.reader();
    let read = |since_ms| {
        let mut heads = Vec::new();
        let shown = reader.read(since_ms, |request| {
            heads.push(String::from_utf8_lossy(&request.head).into_owned());
            true
        });
        (heads, shown.unwrap())
    };
    let all = RecordedSince { seen: 40, damaged: 0 };
    let (first, second) = ("GET /?token=xxx HTTP/1.1\r\n\r\n", "GET /new HTTP/1.1\r\n\r\n");
    assert_eq!(read(0), (vec![first.to_owned(), second.to_owned()], all));
    assert_eq!(read(900).0, [second]);
    let report = status.report();
    let part = report.parts.iter().find(|one| one.part == Part::Recording).unwrap();
    assert_eq!((part.written, part.dropped), (2, 3));
}

proptest! {
    #[test]
    fn a_batch_is_read_as_it_was_written(
        requests in prop::collection::vec(("[ -~]{0,40}", prop::collection::vec(any::<u8>(), 0..40), any::<u32>()), 0..5),
    ) {
        let mut all: Vec<_> =
            requests.iter().map(|(head, body, at)| request(head, body, u64::from(*at))).collect();
        all.iter_mut().for_each(|one| one.secret_names.clear());
        let written = batch("shop", all);
        prop_assert_eq!(decode(encode(&written).unwrap()), Some(written));
    }

    #[test]
    fn any_bytes_are_read_as_a_batch_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(bytes);
    }

    #[test]
    fn any_request_can_be_masked_and_keeps_its_length(
        head in "[ -~\r\n]{0,120}", body in prop::collection::vec(any::<u8>(), 0..120),
        kind in "(application/json|text/xml|text/plain|multipart/form-data; boundary=b|application/x-www-form-urlencoded)",
    ) {
        let head = format!("POST / HTTP/1.1\r\nContent-Type: {kind}\r\n{head}\r\n\r\n");
        let mut one = request(&head, &body, 1);
        mask(&mut one, &Pseudonyms::new(&[7; 32]));
        prop_assert_eq!(one.head.len(), head.len());
        prop_assert!(one.body.is_empty() || one.body.len() == body.len());
    }

    #[test]
    fn a_secret_of_any_bytes_never_survives(secret in "[ -~]{6,20}", other in "[a-z]{1,8}") {
        let quoted = serde_json::to_string(&secret).unwrap();
        let json = format!("{{\"q\":\"{other}\",\"password\":{quoted},\"page\":1}}");
        let (_, body, _) = masked("POST / HTTP/1.1\r\nContent-Type: application/json\r\n\r\n", &json);
        let kept = body.split("\"password\":").nth(1).unwrap();
        let mut letters = kept.trim_start_matches('"').bytes().take(secret.len());
        prop_assert!(letters.all(|byte| byte == b'x' || byte == b'1'), "{body}");
        let has_end = body.ends_with(",\"page\":1}");
        prop_assert!(has_end, "{body}");
    }
}
