//! Whose requests are and what they try, of a real application with accounts, through a real node.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::*;

/// The application, and where it is.
fn shop() -> Option<(Running, String)> {
    if absent("python3") {
        return None;
    }
    let port = free_port();
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/blackbox/peers/login.py"));
    command.arg(port.to_string());
    let running = start(command);
    until("the application listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    Some((running, format!("http://127.0.0.1:{port}")))
}

struct Shop {
    node: Node,
    _app: Running,
    folder: tempfile::TempDir,
}

impl Shop {
    fn open() -> Option<Self> {
        let (app, url) = shop()?;
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let args = ["--access-log", log.to_str().unwrap(), "--trust-forwarded", "127.0.0.1/32"];
        let node = Node::up_in(&folder.path().join("state"), &url, &args);
        Some(Self { node, _app: app, folder })
    }

    fn post(&self, path: &str, kind: &str, body: &str) -> Reply {
        request(self.node.listen, "POST", path, &[("Content-Type", kind)], body.as_bytes())
    }

    fn form(&self, path: &str, body: &str) -> Reply {
        self.post(path, "application/x-www-form-urlencoded", body)
    }

    /// What the access log says of a request's deed, and all that it says.
    fn logged(&self, reply: &Reply) -> (Value, String) {
        let mut found = None;
        until("the request is in the access log", || {
            let text = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
            let line = text.lines().find(|line| line.contains(reply.id())).map(str::to_owned);
            found = line.and_then(|line| Some((serde_json::from_str::<Value>(&line).ok()?, line)));
            found.is_some()
        });
        let (value, line) = found.unwrap();
        (value["deed"].clone(), line)
    }
}

#[test]
fn a_nodes_events_say_who_logged_in_and_how_that_ended() {
    let Some(shop) = Shop::open() else { return };
    let plain = shop.node.get("/");
    assert_eq!(shop.logged(&plain).0, Value::Null);

    let wrong = shop.form("/login", "email=ann%40shop.test&password=guessed+it");
    let (failed, line) = shop.logged(&wrong);
    assert_eq!((wrong.status, &failed["step"]), (200, &json!({ "login": "failed" })), "{line}");
    assert!(!line.contains("ann") && !line.contains("guessed"), "{line}");
    let right = shop.form("/login", "email=Ann%40shop.test+&password=correct+horse");
    // The application compares exactly; who is meant is the same account all the same.
    assert_eq!(shop.logged(&right).0["account"], failed["account"]);
    let right = shop.form("/login", "email=ann%40shop.test&password=correct+horse");
    let (passed, line) = shop.logged(&right);
    assert_eq!((right.status, &passed["step"]), (302, &json!({ "login": "passed" })), "{line}");
    assert_eq!(passed["account"], failed["account"]);
    assert_ne!(passed["secret"], failed["secret"]);

    let cookie = right.fields["set-cookie"].split(';').next().unwrap().to_owned();
    let orders = shop.node.get_as("/account", &[("Cookie", &cookie)]);
    let (seen, line) = shop.logged(&orders);
    assert!(orders.text().contains("your orders"));
    assert_eq!((&seen["account"], &seen["session"]), (&passed["account"], &passed["session"]), "{line}");
    assert!(!line.contains(cookie.split_once('=').unwrap().1), "{line}");

    // An operator's order about the session holds for who shows it, and for nobody else.
    let hash = seen["session"].as_str().unwrap();
    shop.node.cli_json(&["decision", "add", "--session", hash, "--for", "1h", "--reason", "stolen"]);
    let as_visitor = |cookie: &str| {
        let fields = [("X-Forwarded-For", "203.0.113.9"), ("Cookie", cookie)];
        shop.node.get_as("/account", &fields).status
    };
    until("the session is refused", || as_visitor(&cookie) == 403);
    assert_eq!(as_visitor("shop_session=another"), 302);

    let json = r#"{"user":{"email":"bob@shop.test","password":"no"}}"#;
    let refused = shop.post("/api/login", "application/json", json);
    let (failed, _) = shop.logged(&refused);
    assert_eq!((refused.status, &failed["step"]), (401, &json!({ "login": "failed" })));
    assert_ne!(failed["account"], passed["account"]);
    let asked = shop.form("/forgot", "email=bob%40shop.test");
    assert_eq!(shop.logged(&asked).0["step"], "lookup");
    assert_eq!(shop.logged(&asked).0["account"], failed["account"]);
}

#[test]
fn an_interface_that_answers_all_logins_alike_tells_in_its_words_how_they_ended() {
    let Some(shop) = Shop::open() else { return };
    let log_in = |password: &str| {
        let query = "mutation Login($email: String!, $password: String!) { login(email: $email, password: $password) { token } }";
        let body = json!({ "query": query, "variables": { "email": "ann@shop.test", "password": password } });
        shop.post("/graphql", "application/json", &body.to_string())
    };
    let (wrong, right) = (log_in("guessed"), log_in("correct horse"));
    assert_eq!((wrong.status, right.status), (200, 200));
    let (failed, line) = shop.logged(&wrong);
    assert_eq!(failed["step"], json!({ "login": "failed" }), "{line}");
    let (passed, line) = shop.logged(&right);
    assert_eq!(passed["step"], json!({ "login": "passed" }), "{line}");
    // What shows the token that was handed out is known to be of the account.
    let asked = shop.node.get_as("/account", &[("Authorization", "Bearer a-token-for-ann")]);
    let (seen, line) = shop.logged(&asked);
    assert_eq!((&seen["account"], &seen["session"]), (&passed["account"], &passed["session"]), "{line}");
    assert!(!line.contains("a-token-for-ann"), "{line}");
}

#[test]
fn passwords_tried_at_a_real_login_become_an_incident_without_a_name() {
    let Some(shop) = Shop::open() else { return };
    for number in 0..16 {
        let fields =
            [("Content-Type", "application/x-www-form-urlencoded"), ("X-Forwarded-For", "203.0.113.66")];
        let body = format!("email=victim{number}%40shop.test&password=Summer2026");
        let reply = request(shop.node.listen, "POST", "/login", &fields, body.as_bytes());
        assert_eq!(reply.status, 200);
    }
    let mut shown = String::new();
    until("the attack and who does it are named", || {
        let incidents = shop.node.cli_json(&["incidents"]);
        let Some(id) = incidents[0]["id"].as_str() else { return false };
        shown = String::from_utf8(shop.node.cli(&["incident", "show", id]).stdout).unwrap();
        ["credential-stuffing", "203.0.113.66"].iter().all(|word| shown.contains(word))
    });
    assert!(!shown.contains("victim") && !shown.contains("Summer"), "{shown}");
}

#[test]
fn a_refused_login_is_explained_by_hashes_that_outlive_the_node() {
    let Some(shop) = Shop::open() else { return };
    let attack =
        shop.form("/login", "email=ann%40shop.test&password=%27+UNION+SELECT+password+FROM+users--+");
    assert_eq!(attack.status, 403);
    let mut event = Value::Null;
    until("the request is in the history", || {
        let reply = shop.node.admin_get(&format!("/api/v1/events/{}", attack.id()));
        event = serde_json::from_str(&reply.text()).unwrap_or_default();
        reply.status == 200
    });
    let deed = &event["access"]["deed"];
    assert_eq!(deed["step"], json!({ "login": "unknown" }), "{event}");
    let account = deed["account"].as_str().unwrap().to_owned();
    let told = format!("It tried to log in, and it is not known how that ended: account {account}.");
    assert!(event["summary"].as_array().unwrap().contains(&json!(told)), "{event}");

    let Shop { node, _app, folder } = shop;
    node.stop();
    let url = "http://127.0.0.1:1";
    let log = folder.path().join("again.log");
    let node = Node::up_in(&folder.path().join("state"), url, &["--access-log", log.to_str().unwrap()]);
    let shop = Shop { node, _app, folder };
    let again = shop.form("/login", "email=ann%40shop.test&password=x");
    let mut text = String::new();
    until("the request is in the access log", || {
        text = std::fs::read_to_string(&log).unwrap_or_default();
        text.contains(again.id())
    });
    assert!(text.contains(&account), "{text}");
}
