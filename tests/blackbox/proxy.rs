//! One node in front of an app: what passes, what is refused, what is recorded.

use std::io::{BufReader, Write};

use crate::support::*;

const FORWARDED: &[&str] = &["--trust-forwarded", "127.0.0.1/32"];

#[test]
fn a_benign_request_passes_with_an_id() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let reply = node.get("/products?q=blue+shoes");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.id().len(), 26);
    assert!(reply.text().contains("GET /products?q=blue+shoes HTTP/1.1"));
}

#[test]
fn an_attack_is_refused_with_an_id_that_explains_it() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let reply = node.get(&attack(1));
    assert_eq!(reply.status, 403);
    assert_eq!(app.count(), 0);
    assert!(reply.text().contains(reply.id()), "the body shows the id");
    assert_eq!(reply.fields["cache-control"], "no-store");

    let id = reply.id().to_owned();
    until("the request is in the history", || node.cli(&["explain", &id]).status.success());
    let told = String::from_utf8(node.cli(&["explain", &id]).stdout).unwrap();
    for word in ["ARGS:q", "UNION", "rule", "plan"] {
        assert!(told.to_lowercase().contains(&word.to_lowercase()), "{word} in:\n{told}");
    }
    let events = node.cli_json(&["events"]);
    assert_eq!(events[0]["id"], id);
}

#[test]
fn an_attack_in_a_form_json_xml_or_multipart_body_is_refused() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let value = "<script>alert(document.cookie)</script>";
    let xml = value.replace('<', "&lt;").replace('>', "&gt;");
    let multipart = format!("--b\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\n{value}\r\n--b--\r\n");
    for (kind, body) in [
        ("application/x-www-form-urlencoded", "q=%3Cscript%3Ealert(document.cookie)%3C/script%3E".to_owned()),
        ("application/json", format!("{{\"a\":[{{\"q\":\"{value}\"}}]}}")),
        ("text/xml", format!("<?xml version=\"1.0\"?><a><q>{xml}</q></a>")),
        ("multipart/form-data; boundary=b", multipart),
    ] {
        let reply = request(node.listen, "POST", "/", &[("Content-Type", kind)], body.as_bytes());
        assert_eq!(reply.status, 403, "{kind}");
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn json_is_inspected_whatever_its_type_is_called() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let body = br#"{"a":[{"q":"<script>alert(document.cookie)</script>"}]}"#;
    for kind in ["text/plain", "text/json", "application/octet-stream", "image/png"] {
        assert_eq!(request(node.listen, "POST", "/", &[("Content-Type", kind)], body).status, 403, "{kind}");
    }
    assert_eq!(request(node.listen, "POST", "/", &[], body).status, 403, "no type");
    let prose =
        request(node.listen, "POST", "/", &[("Content-Type", "text/plain")], b"{not json, just braces}");
    assert_eq!(prose.status, 200);
}

#[test]
fn the_query_is_inspected_where_a_rule_turns_the_body_off() {
    let app = App::start();
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("uploads.conf");
    let text =
        "SecRule REQUEST_URI \"@beginsWith /upload\" \"id:1,phase:1,pass,nolog,ctl:requestBodyAccess=Off\"\n";
    std::fs::write(&rules, text).unwrap();
    let node = Node::up(&app.url, &["--extra-rules", rules.to_str().unwrap()]);
    assert_eq!(node.get("/upload?q=shoes").status, 200);
    assert_eq!(node.get(&attack(1).replacen("/", "/upload", 1)).status, 403);
}

#[test]
fn an_upstream_that_answers_early_gets_no_other_request_on_that_connection() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (first, asked) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            // The head arrives in its first packet; the body is never read.
            let mut head = [0; 16];
            std::io::Read::read_exact(&mut stream, &mut head).unwrap();
            let early = head.starts_with(b"POST");
            let status = if early { "401 Unauthorized" } else { "200 OK" };
            stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
            first.send(String::from_utf8_lossy(&head).into_owned()).unwrap();
            held.push(stream);
        }
    });
    let node = Node::up(&url, &[]);
    let file = vec![b'x'; 12_000_000];
    let part = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.bin\"\r\n\r\n";
    let body = [part.as_bytes(), &file, b"\r\n--b--\r\n"].concat();
    let kind = ("Content-Type", "multipart/form-data; boundary=b");
    assert_eq!(request(node.listen, "POST", "/upload", &[kind], &body).status, 401);
    assert!(asked.recv().unwrap().starts_with("POST /upload"));
    assert_eq!(node.get("/next").status, 200);
    assert!(asked.recv().unwrap().starts_with("GET /next"));
}

#[test]
fn strangers_cannot_speak_for_forwarders() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let claimed = "198.51.100.99";
    for name in [
        "CF-Connecting-IP",
        "True-Client-IP",
        "X-Real-IP",
        "X_Forwarded_For",
        "Forwarded",
        "X-Original-URL",
        "Proxy",
    ] {
        let seen = node.get_as("/", &[(name, claimed)]).text();
        assert!(!seen.contains(claimed), "{name}: {seen}");
    }
}

#[test]
fn the_third_attack_bans_the_client_and_undo_lets_it_in_again() {
    let app = App::start();
    let node = Node::up(&app.url, FORWARDED);
    let client = "192.0.2.7";
    for n in 1..=3 {
        assert_eq!(node.get_from(client, "/").status, 200, "not banned before attack {n}");
        assert_eq!(node.get_from(client, &attack(n)).status, 403);
    }
    until("the client is banned", || node.get_from(client, "/").status == 403);
    assert_eq!(node.get_from("192.0.2.8", "/").status, 200, "its neighbour is not");
    assert_eq!(node.banned(), [client]);

    let id = node.cli_json(&["decision", "list"])[0]["id"].as_str().unwrap().to_owned();
    assert!(node.cli(&["decision", "delete", &id]).status.success());
    until("the client is let in", || node.get_from(client, "/").status == 200);
    assert!(node.banned().is_empty());
}

#[test]
fn a_repeated_payload_strikes_once() {
    let app = App::start();
    let node = Node::up(&app.url, FORWARDED);
    for _ in 0..6 {
        assert_eq!(node.get_from("192.0.2.7", &attack(1)).status, 403);
    }
    assert!(node.banned().is_empty());
}

#[test]
fn what_another_sites_page_sends_never_bans() {
    let app = App::start();
    let node = Node::up(&app.url, FORWARDED);
    for n in 0..5 {
        let fields =
            [("X-Forwarded-For", "192.0.2.7"), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Dest", "image")];
        assert_eq!(node.get_as(&attack(n), &fields).status, 403);
    }
    assert!(node.banned().is_empty());
}

#[test]
fn operators_are_never_banned() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    for n in 0..5 {
        assert_eq!(node.get(&attack(n)).status, 403);
    }
    assert_eq!(node.get("/").status, 200);
    assert!(node.banned().is_empty());
}

#[test]
fn forwarded_headers_of_strangers_do_not_count() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let seen = node.get_from("192.0.2.7", "/").text();
    assert!(seen.to_lowercase().contains("x-forwarded-for: 127.0.0.1\r\n"), "{seen}");
}

#[test]
fn an_operators_ban_closes_open_connections() {
    let app = App::start();
    let node = Node::up(&app.url, FORWARDED);
    let mut open = BufReader::new(connect(node.listen));
    let ask = b"GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n";
    open.get_mut().write_all(ask).unwrap();
    assert_eq!(read_reply(&mut open).status, 200);

    let added = node.cli(&["decision", "add", "--ip", "192.0.2.9", "--for", "60s", "--reason", "test"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let mut rest = Vec::new();
    let ended = std::io::Read::read_to_end(&mut open, &mut rest);
    assert!(ended.is_err_and(|e| e.kind() != std::io::ErrorKind::WouldBlock) || rest.is_empty());
    assert_eq!(node.get_from("192.0.2.9", "/").status, 403);
}

#[test]
fn malformed_requests_are_refused_and_recorded() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    for bytes in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Type: text/xml\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
    ] {
        assert_eq!(raw(node.listen, bytes.as_bytes()).status, 400, "{bytes:?}");
    }
    assert_eq!(app.count(), 0);
    until("the faults are in the history", || node.cli_json(&["events"]).as_array().unwrap().len() >= 9);
}

#[test]
fn a_missing_upstream_is_502_with_an_id() {
    let node = Node::up(&format!("http://127.0.0.1:{}", free_port()), &[]);
    let reply = node.get("/");
    assert_eq!(reply.status, 502);
    assert_eq!(reply.id().len(), 26);
}

#[test]
fn observe_mode_refuses_nothing_and_records_all() {
    let app = App::start();
    let node = Node::up(&app.url, &["--mode", "observe"]);
    let reply = node.get(&attack(1));
    assert_eq!(reply.status, 200);
    let id = reply.id().to_owned();
    until("the finding is in the history", || node.cli(&["explain", &id]).status.success());
    assert_eq!(node.cli_json(&["events"])[0]["action"], "observe");
}

#[test]
fn protection_off_keeps_the_edges_own_protections() {
    let app = App::start();
    let node = Node::up(&app.url, &["--protect", "off"]);
    assert_eq!(node.get(&attack(1)).status, 200);
    assert_eq!(raw(node.listen, b"GET / HTTP/1.1\r\n\r\n").status, 400);
}

#[test]
fn bodies_pass_whole_in_both_directions() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let body: Vec<u8> = (0..3_000_000u32).map(|n| b'a' + u8::try_from(n % 26).unwrap()).collect();
    let reply = request(node.listen, "POST", "/", &[("Content-Type", "application/octet-stream")], &body);
    assert_eq!(reply.status, 200);
    assert!(reply.body.ends_with(&body));
}

#[test]
fn metrics_and_api_need_the_token() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    node.get(&attack(1));
    for path in ["/metrics", "/api/v1/status", "/api/v1/events", "/api/v1/decisions", "/api/v1/openapi.json"]
    {
        assert_eq!(get(node.admin, path, &[]).status, 401, "{path}");
        assert_eq!(node.admin_get(path).status, 200, "{path}");
    }
    assert_eq!(get(node.admin, "/healthz", &[]).status, 200);
    let elsewhere =
        raw(node.admin, b"GET /api/v1/status HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n");
    assert!((400..500).contains(&elsewhere.status), "a foreign Host is refused");
    assert!(node.admin_get("/metrics").text().contains("phalanx_requests"));
}

#[test]
fn a_login_link_works_once() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let path = node.console.split_once(&node.admin.to_string()).unwrap().1.to_owned();
    let first = get(node.admin, &path, &[]);
    assert_eq!(first.status, 303);
    let cookie = first.fields["set-cookie"].split(';').next().unwrap().to_owned();
    assert_eq!(get(node.admin, "/api/v1/status", &[("Cookie", &cookie)]).status, 200);
    assert_ne!(get(node.admin, &path, &[]).status, 303, "the link is used up");
}
