//! Operators: how they get in, what each role may do, and what an attacker meets.

use std::future::ready;
use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use axum::body::Body;
use futures_util::StreamExt;
use futures_util::stream::once;
use http::{StatusCode, header};
use phalanx_model::limits::FRESH_FACTOR_MS;
use phalanx_model::{Clock, SystemClock};
use phalanx_trust::passkey::{base64url, from_base64url};
use phalanx_trust::totp::STEP_MS;
use phalanx_trust::{TotpSecret, sha256};
use serde_json::{Value, json};

use crate::support::*;

pub(crate) const PASSWORD: &str = "correct horse battery";
pub(crate) const HOST: &str = "localhost:8900";
pub(crate) const ORIGIN: &str = "http://localhost:8900";

/// A browser: an origin and perhaps a cookie.
pub(crate) struct Browser<'a> {
    node: &'a Node,
    pub(crate) cookie: Option<String>,
}

impl<'a> Browser<'a> {
    pub(crate) fn new(node: &'a Node) -> Self {
        Self { node, cookie: None }
    }

    pub(crate) async fn send(&mut self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = to_host(method, path).header(header::ORIGIN, ORIGIN);
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let answer = self.node.send(request.body(body).unwrap()).await;
        if let Some(set) = answer.headers.get(header::SET_COOKIE) {
            self.cookie = set.to_str().unwrap().split(';').next().map(str::to_owned);
        }
        answer
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, None).await
    }

    /// Opens a link that the node made.
    pub(crate) async fn open(&mut self, url: &str) {
        let path = url.strip_prefix(ORIGIN).unwrap().to_owned();
        assert_eq!(self.get(&path).await.status, StatusCode::SEE_OTHER);
    }

    pub(crate) async fn log_in(&mut self, name: &str, password: &str, code: &str) -> Answer {
        let body = json!({ "name": name, "password": password, "code": code });
        self.send("POST", "/api/v1/login/password", Some(body)).await
    }
}

/// A request to the node by its name.
fn to_host(method: &str, path: &str) -> http::request::Builder {
    http::Request::builder().method(method).uri(path).header(header::HOST, HOST)
}

/// An operator with a password, in a session; his app.
pub(crate) struct Enrolled<'a> {
    pub(crate) browser: Browser<'a>,
    pub(crate) app: TotpSecret,
    pub(crate) recovery: Vec<String>,
}

pub(crate) async fn invite(node: &Node, name: &str, role: &str, apps: &[&str]) -> String {
    let new = json!({ "name": name, "role": role, "apps": apps });
    let answer = node.call("POST", "/api/v1/operators", Some(new)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    answer.json()["url"].as_str().unwrap().to_owned()
}

pub(crate) async fn enrol<'a>(node: &'a Node, name: &str, role: &str, apps: &[&str]) -> Enrolled<'a> {
    let mut browser = Browser::new(node);
    browser.open(&invite(node, name, role, apps).await).await;
    let (app, recovery) = set_password(&mut browser).await;
    Enrolled { browser, app, recovery }
}

/// A password with an app, in place of what was there.
pub(crate) async fn set_password(browser: &mut Browser<'_>) -> (TotpSecret, Vec<String>) {
    let offer = browser.send("POST", "/api/v1/me/totp", None).await.json();
    let secret = data_encoding::BASE32_NOPAD.decode(offer["secret"].as_str().unwrap().as_bytes()).unwrap();
    let app: TotpSecret = serde_json::from_value(json!(secret)).unwrap();
    // A step back, so that the present code is left for the first login.
    let code = app.code(SystemClock.now_ms() / STEP_MS - 1);
    let body = json!({ "password": PASSWORD, "code": code });
    let answer = browser.send("POST", "/api/v1/me/password", Some(body)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    (app, serde_json::from_value(answer.json()["codes"].clone()).unwrap())
}

pub(crate) fn code(app: &TotpSecret) -> String {
    app.code(SystemClock.now_ms() / STEP_MS)
}

/// An authenticator with one key for `localhost`.
pub(crate) struct Authenticator(EcdsaKeyPair, pub(crate) u32);

/// What a browser and its authenticator say of a signature.
#[derive(Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) kind: &'a str,
    pub(crate) origin: &'a str,
    pub(crate) host: &'a str,
    pub(crate) flags: u8,
}

impl Said<'_> {
    pub(crate) const RIGHT: Self =
        Said { kind: "webauthn.get", origin: ORIGIN, host: "localhost", flags: 0x05 };
}

impl Authenticator {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(), 0)
    }

    fn data(&self, host: &str, flags: u8) -> Vec<u8> {
        [&sha256(host.as_bytes())[..], &[flags], &self.1.to_be_bytes()].concat()
    }

    fn client(said: Said<'_>, challenge: &Value) -> String {
        let Said { kind, origin, .. } = said;
        json!({ "type": kind, "challenge": challenge, "origin": origin, "crossOrigin": false }).to_string()
    }

    pub(crate) fn make(&self, challenge: &Value) -> Value {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let start = [0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
        let data =
            [&self.data("localhost", 0x45)[..], &[0; 16], &[0, 1, b'k'], &start, x, &[0x22, 0x58, 0x20], y]
                .concat();
        json!({
            "label": "laptop",
            "authenticator_data": base64url(&data),
            "client_data": base64url(Self::client(Said { kind: "webauthn.create", ..Said::RIGHT }, challenge).as_bytes()),
        })
    }

    pub(crate) fn sign(&mut self, challenge: &Value) -> Value {
        self.1 += 1;
        self.sign_as(challenge, Said::RIGHT)
    }

    /// Signs what is said, without counting.
    pub(crate) fn sign_as(&self, challenge: &Value, said: Said<'_>) -> Value {
        let (data, client) = (self.data(said.host, said.flags), Self::client(said, challenge));
        let message = [&data[..], &sha256(client.as_bytes())].concat();
        let signature = self.0.sign(&SystemRandom::new(), &message).unwrap();
        json!({
            "id": base64url(b"k"),
            "authenticator_data": base64url(&data),
            "client_data": base64url(client.as_bytes()),
            "signature": base64url(signature.as_ref()),
        })
    }
}

#[tokio::test]
async fn the_first_owner_enrols_by_a_link_and_logs_in_with_password_and_code() {
    let mut node = Node::start().await;
    assert_eq!(node.get("/api/v1/me").await.json()["operators"], false);
    let url = invite(&node, "alice", "owner", &[]).await;
    {
        let mut browser = Browser::new(&node);
        browser.open(&url).await;
        let me = browser.get("/api/v1/me").await.json();
        assert_eq!((&me["enrolling"], &me["name"]), (&json!(true), &json!("operator alice")));
        for path in ["/api/v1/status", "/api/v1/operators", "/api/v1/sessions"] {
            assert_eq!(browser.get(path).await.code(), "enrolling", "{path}");
        }
        let again = browser.get(url.strip_prefix(ORIGIN).unwrap()).await;
        assert_eq!(again.status, StatusCode::UNAUTHORIZED, "a link is good once");
        let early = json!({ "password": PASSWORD, "code": "123456" });
        let early = browser.send("POST", "/api/v1/me/password", Some(early)).await;
        assert_eq!(early.status, StatusCode::BAD_REQUEST, "no password without an app");
    }
    let mut bob = enrol(&node, "bob", "owner", &[]).await;
    assert_eq!(bob.browser.get("/api/v1/me").await.json()["enrolling"], false);
    assert_eq!(bob.browser.get("/api/v1/operators").await.status, StatusCode::OK);
    let mut browser = Browser::new(&node);
    let present = code(&bob.app);
    let answer = browser.log_in("bob", PASSWORD, &present).await;
    assert_eq!((answer.status, &answer.json()["role"]), (StatusCode::OK, &json!("owner")), "{}", answer.text);
    let set = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(set.contains("HttpOnly; SameSite=Strict"), "{set}");
    assert_eq!(browser.get("/api/v1/status").await.status, StatusCode::OK);
    assert_eq!(
        Browser::new(&node).log_in("bob", PASSWORD, &present).await.code(),
        "login_failed",
        "replayed"
    );
    let recovery = Browser::new(&node).log_in("bob", PASSWORD, &bob.recovery[0]).await;
    assert_eq!(recovery.json()["account"]["recovery_codes"], 9);
    let ledger = node.ledger().join("\n");
    for entry in [
        "add operator alice as Owner of all apps (by admin token)",
        "set a password and an app for codes (by operator bob)",
        "log in by password and code (by operator bob)",
    ] {
        assert!(ledger.contains(entry), "{entry}: {ledger}");
    }
    assert!(!ledger.contains(PASSWORD) && !ledger.contains(&present));
}

#[tokio::test]
async fn a_passkey_logs_in_proves_again_and_belongs_to_its_session() {
    let node = Node::start().await;
    let mut key = Authenticator::new();
    let mut browser = Browser::new(&node);
    browser.open(&invite(&node, "alice", "owner", &[]).await).await;
    let enrolling = browser.cookie.clone();
    let asked = browser.send("POST", "/api/v1/me/challenge", None).await.json();
    assert_eq!((&asked["host"], &asked["user"][1]), (&json!("localhost"), &json!("alice")));
    let made = browser.send("POST", "/api/v1/me/passkeys", Some(key.make(&asked["challenge"]))).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_ne!(browser.cookie, enrolling, "more rights, another session");
    let mut fresh = Browser::new(&node);
    let asked = fresh.send("POST", "/api/v1/login/challenge", None).await.json();
    assert_eq!(asked["keys"], json!([]), "it tells of no account");
    let signed = key.sign(&asked["challenge"]);
    let answer = fresh.send("POST", "/api/v1/login/passkey", Some(signed.clone())).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let replayed = Browser::new(&node).send("POST", "/api/v1/login/passkey", Some(signed)).await;
    assert_eq!(replayed.code(), "login_failed");
    let asked = fresh.send("POST", "/api/v1/me/challenge", None).await.json();
    let elsewhere = json!({ "passkey": key.sign(&asked["challenge"]) });
    let answer = browser.send("POST", "/api/v1/me/prove", Some(elsewhere)).await;
    assert_eq!(answer.code(), "not_proved", "a challenge is for one session");
    let proof = json!({ "passkey": key.sign(&asked["challenge"]) });
    let answer = fresh.send("POST", "/api/v1/me/prove", Some(proof)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let last = fresh.send("DELETE", "/api/v1/me/passkeys/aw", None).await;
    assert_eq!(last.code(), "last");
    assert!(from_base64url("aw").is_some());
}

#[tokio::test]
async fn each_role_may_do_what_it_says_and_no_more() {
    let node = Node::start().await;
    let roles = ["viewer", "responder", "editor", "owner"];
    let calls = [
        ("GET", "/api/v1/status", 0),
        ("GET", "/api/v1/decisions", 0),
        ("GET", "/metrics", 0),
        ("POST", "/api/v1/decisions", 1),
        ("DELETE", "/api/v1/held/x", 1),
        ("POST", "/api/v1/policy/reload", 2),
        ("POST", "/api/v1/bouncers", 2),
        ("DELETE", "/api/v1/nodes/fra/b/decisions", 2),
        ("GET", "/api/v1/operators", 3),
        ("POST", "/api/v1/operators", 3),
        ("POST", "/api/v1/fleet/root", 3),
        ("GET", "/api/v1/fleet/snapshot", 3),
        ("POST", "/api/v1/upgrade", 3),
        ("POST", "/api/v1/login-links", 4),
    ];
    for (rank, role) in roles.into_iter().enumerate() {
        let mut one = enrol(&node, role, role, &[]).await;
        for (method, path, needed) in calls {
            let answer = one.browser.send(method, path, None).await;
            let refused = answer.status == StatusCode::FORBIDDEN && answer.code() == "role";
            assert_eq!(refused, rank < needed, "{role} {method} {path}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn what_is_dangerous_needs_a_fresh_factor_and_no_token_has_one() {
    let mut node = Node::start().await;
    let mut alice = enrol(&node, "alice", "owner", &[]).await;
    let bob = json!({ "name": "bob", "role": "viewer" });
    let token = json!({ "name": "ci", "role": "owner", "for_ms": 60_000 });
    let token = alice.browser.send("POST", "/api/v1/me/tokens", Some(token)).await;
    assert_eq!(token.status, StatusCode::CREATED, "{}", token.text);
    let token = token.json()["token"].as_str().unwrap().to_owned();
    let bearing = |method: &str, path: &str| {
        let request = to_host(method, path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        request.body(Body::empty()).unwrap()
    };
    assert_eq!(node.send(bearing("GET", "/api/v1/status")).await.status, StatusCode::OK);
    assert_eq!(node.send(bearing("POST", "/api/v1/policy/reload")).await.status, StatusCode::OK);
    for (method, path) in
        [("DELETE", "/api/v1/operators/alice"), ("POST", "/api/v1/upgrade"), ("POST", "/api/v1/me/tokens")]
    {
        assert_eq!(node.send(bearing(method, path)).await.code(), "fresh_factor", "{method} {path}");
    }
    alice.browser.node.later(FRESH_FACTOR_MS);
    assert_eq!(alice.browser.get("/api/v1/status").await.status, StatusCode::OK);
    let stale = alice.browser.send("POST", "/api/v1/operators", Some(bob.clone())).await;
    assert_eq!(stale.code(), "fresh_factor");
    let wrong = alice.browser.send("POST", "/api/v1/me/prove", Some(json!({ "code": "000000" }))).await;
    assert_eq!(wrong.code(), "not_proved");
    let at = (SystemClock.now_ms() + FRESH_FACTOR_MS) / STEP_MS;
    let proof = json!({ "code": alice.app.code(at) });
    let proved = alice.browser.send("POST", "/api/v1/me/prove", Some(proof)).await;
    assert_eq!(proved.status, StatusCode::OK, "{}", proved.text);
    let added = alice.browser.send("POST", "/api/v1/operators", Some(bob)).await;
    assert_eq!(added.status, StatusCode::CREATED, "{}", added.text);
    drop(alice);
    assert!(node.ledger().iter().any(|entry| entry.contains("(by token ci of operator alice)")));
}

#[tokio::test]
async fn an_operator_limited_to_apps_sees_and_does_nothing_beyond_them() {
    let node = Node::start().await;
    node.refuse([access(1), access(2)]).await;
    let mut shop = enrol(&node, "shop", "owner", &["shop"]).await;
    let mut other = enrol(&node, "other", "owner", &["blog"]).await;
    let app = node.get("/api/v1/events").await.json()[0]["app"].as_str().unwrap().to_owned();
    let mut inside = enrol(&node, "inside", "responder", &[app.as_str()]).await;
    assert_eq!(inside.browser.get("/api/v1/events").await.json().as_array().unwrap().len(), 2);
    assert_eq!(other.browser.get("/api/v1/events").await.json(), json!([]));
    let one = format!("/api/v1/events/{}", id(1));
    assert_eq!(inside.browser.get(&one).await.status, StatusCode::OK);
    assert_eq!(other.browser.get(&one).await.status, StatusCode::NOT_FOUND);
    assert_eq!(other.browser.get("/api/v1/status").await.json()["plan"]["apps"], json!([]));
    for path in
        ["/api/v1/decisions", "/api/v1/stream", "/api/v1/operators", "/api/v1/fleet/events", "/metrics"]
    {
        assert_eq!(shop.browser.get(path).await.code(), "apps", "{path}");
    }
    let order =
        |place: &str| json!({ "place": place, "kind": "challenge", "for_ms": 60_000, "reason": "test" });
    let made = shop.browser.send("POST", "/api/v1/decisions", Some(order("shop"))).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let beyond = shop.browser.send("POST", "/api/v1/decisions", Some(order("blog"))).await;
    assert_eq!(beyond.code(), "apps");
    // Their rules as well as who asks for them.
    let raise =
        |place: &str| json!({ "place": place, "kind": "raise_paranoia", "for_ms": 60_000, "reason": "test" });
    let raised = shop.browser.send("POST", "/api/v1/decisions", Some(raise("shop"))).await;
    assert_eq!(raised.status, StatusCode::CREATED, "{}", raised.text);
    assert_eq!(shop.browser.send("POST", "/api/v1/decisions", Some(raise("blog"))).await.code(), "apps");
    let ban = json!({ "ip": "192.0.2.1", "for_ms": 60_000, "reason": "test" });
    assert_eq!(shop.browser.send("POST", "/api/v1/decisions", Some(ban)).await.code(), "apps");
    let undo = format!("/api/v1/decisions/{}", made.json()["id"].as_str().unwrap());
    assert_eq!(other.browser.send("DELETE", &undo, None).await.code(), "not_found", "it is there for others");
    assert_eq!(shop.browser.send("DELETE", &undo, None).await.status, StatusCode::OK);
    let wider = json!({ "name": "t", "role": "viewer", "apps": ["blog"], "for_ms": 60_000 });
    assert_eq!(shop.browser.send("POST", "/api/v1/me/tokens", Some(wider)).await.code(), "role");
}

#[tokio::test]
async fn who_is_kept_out_or_changed_is_out_at_once() {
    let node = Node::start().await;
    let mut bob = enrol(&node, "bob", "owner", &[]).await;
    let path = "/api/v1/operators/bob";
    for edit in [json!({ "role": "viewer" }), json!({ "disabled": true })] {
        assert_eq!(bob.browser.get("/api/v1/status").await.status, StatusCode::OK);
        let answer = node.call("PATCH", path, Some(edit)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(bob.browser.get("/api/v1/status").await.status, StatusCode::UNAUTHORIZED);
        let recovery = bob.recovery.pop().unwrap();
        let status = bob.browser.log_in("bob", PASSWORD, &recovery).await.status;
        let disabled = answer.json()["disabled"] == true;
        assert_eq!(status == StatusCode::UNAUTHORIZED, disabled, "{status}");
    }
    let reset = node.call("POST", "/api/v1/operators/bob/reset", None).await.json();
    assert_eq!(
        (&reset["operator"]["password"], &reset["operator"]["recovery_codes"]),
        (&json!(false), &json!(0))
    );
    let url = reset["url"].as_str().unwrap().strip_prefix(ORIGIN).unwrap().to_owned();
    assert_eq!(Browser::new(&node).get(&url).await.status, StatusCode::UNAUTHORIZED, "still disabled");
    assert_eq!(node.call("DELETE", path, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(node.call("DELETE", path, None).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn brute_force_is_slowed_for_each_account_and_network_and_tells_no_names() {
    let node = Node::start().await;
    let alice = enrol(&node, "alice", "owner", &[]).await;
    let mut answers = Vec::new();
    for name in ["alice", "nobody"] {
        let mut statuses = Vec::new();
        for n in 0..12 {
            let answer = Browser::new(&node).log_in(name, "wrong horse battery", &format!("{n:06}")).await;
            statuses.push((answer.status, answer.text, answer.headers));
        }
        assert_eq!(statuses[9].0, StatusCode::UNAUTHORIZED);
        assert_eq!(statuses[10].0, StatusCode::TOO_MANY_REQUESTS);
        answers.push(statuses);
    }
    assert_eq!(answers[0], answers[1], "a name that is known is answered as one that is not");
    let right = Browser::new(&node).log_in("alice", PASSWORD, &code(&alice.app)).await;
    assert_eq!(right.status, StatusCode::TOO_MANY_REQUESTS, "nor by the right password meanwhile");
    for n in 0..20 {
        Browser::new(&node).log_in(&format!("name-{n}"), "x", "y").await;
    }
    let network = Browser::new(&node).log_in("carol", "x", "y").await;
    assert_eq!(network.status, StatusCode::TOO_MANY_REQUESTS, "whatever the name");
    assert_eq!(node.get("/api/v1/status").await.status, StatusCode::OK, "the admin token is not locked out");
}

#[tokio::test]
async fn a_name_that_nobody_has_takes_as_long_as_one_that_is_known() {
    let node = Node::start().await;
    let _alice = enrol(&node, "alice", "owner", &[]).await;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        for (name, times) in ["alice", "nobody"].into_iter().zip(&mut times) {
            let start = Instant::now();
            Browser::new(&node).log_in(name, "wrong horse battery", "000000").await;
            times.push(start.elapsed());
        }
    }
    let median = |times: &mut Vec<std::time::Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    };
    let [known, unknown] = times.each_mut().map(median);
    // Without a hash for nobody it would be a hundredth.
    assert!((0.4..2.5).contains(&(known / unknown)), "{known} s and {unknown} s");
}

#[tokio::test]
async fn fixation_a_session_that_was_there_before_a_login_is_not_the_one_after() {
    let node = Node::start().await;
    let mut alice = enrol(&node, "alice", "owner", &[]).await;
    let planted = node.log_in().await;
    let mut victim = Browser { node: &node, cookie: Some(planted.clone()) };
    assert_eq!(victim.log_in("alice", PASSWORD, &alice.recovery[0]).await.status, StatusCode::OK);
    assert_ne!(victim.cookie.as_deref(), Some(planted.as_str()));
    let mut attacker = Browser { node: &node, cookie: Some(planted) };
    assert_eq!(attacker.get("/api/v1/me").await.status, StatusCode::UNAUTHORIZED);
    let made_up = format!("phalanx_session_8900={}", "ab".repeat(32));
    let mut victim = Browser { node: &node, cookie: Some(made_up.clone()) };
    victim.log_in("alice", PASSWORD, &alice.recovery[1]).await;
    assert_ne!(victim.cookie, Some(made_up));
    assert_eq!(alice.browser.get("/api/v1/me").await.status, StatusCode::OK, "others stay");
}

#[tokio::test]
async fn csrf_no_other_page_logs_in_or_changes_an_account() {
    let node = Node::start().await;
    let alice = enrol(&node, "alice", "owner", &[]).await;
    let cookie = alice.browser.cookie.clone().unwrap();
    let login = json!({ "name": "alice", "password": PASSWORD, "code": alice.recovery[0] }).to_string();
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", "http://localhost:8901"),
        ("x-nothing", "no origin at all"),
    ] {
        for (path, body) in [
            ("/api/v1/login/password", login.as_str()),
            ("/api/v1/login/challenge", ""),
            ("/api/v1/me/totp", ""),
            ("/api/v1/operators/alice/reset", ""),
        ] {
            let request = to_host("POST", path)
                .header(header::COOKIE, &cookie)
                .header(header::CONTENT_TYPE, "application/json")
                .header(name, value);
            let answer = node.send(request.body(Body::from(body.to_owned())).unwrap()).await;
            assert_eq!(answer.code(), "origin", "{value} {path}: {}", answer.text);
        }
    }
    let form = to_host("POST", "/api/v1/login/password")
        .header(header::ORIGIN, ORIGIN)
        .header(header::CONTENT_TYPE, "text/plain");
    let answer = node.send(form.body(Body::from(login)).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "what a form could send is not read");
}

#[tokio::test]
async fn clickjacking_and_dns_rebinding_reach_no_login() {
    let node = Node::start().await;
    let answer = Browser::new(&node).send("POST", "/api/v1/login/challenge", None).await;
    assert_eq!(answer.headers["x-frame-options"], "DENY");
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    for host in ["evil.example:8900", "127.0.0.1.evil.example:8900"] {
        let request = http::Request::post("/api/v1/login/challenge")
            .header(header::HOST, host)
            .header(header::ORIGIN, format!("http://{host}"));
        let answer = node.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{host}");
    }
}

#[tokio::test]
async fn idor_nobody_reaches_the_sessions_keys_and_tokens_of_another() {
    let node = Node::start().await;
    let mut alice = enrol(&node, "alice", "owner", &[]).await;
    let mut mallory = enrol(&node, "mallory", "editor", &[]).await;
    let token = json!({ "name": "ci", "role": "viewer", "for_ms": 60_000 });
    alice.browser.send("POST", "/api/v1/me/tokens", Some(token)).await;
    let all = alice.browser.get("/api/v1/sessions").await.json();
    assert_eq!(all.as_array().unwrap().len(), 2);
    let own = mallory.browser.get("/api/v1/sessions").await.json();
    assert_eq!((own.as_array().unwrap().len(), &own[0]["operator"]), (1, &json!("mallory")));
    let hers = all.as_array().unwrap().iter().find(|row| row["operator"] == "alice").unwrap();
    let path = format!("/api/v1/sessions/{}", hers["id"].as_str().unwrap());
    let another = mallory.browser.send("DELETE", &path, None).await;
    let none = mallory.browser.send("DELETE", "/api/v1/sessions/0123456789abcdef", None).await;
    assert_eq!((another.status, &another.text), (StatusCode::NOT_FOUND, &none.text), "no difference");
    assert_eq!(
        mallory.browser.send("DELETE", "/api/v1/me/tokens/ci", None).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(alice.browser.get("/api/v1/me").await.status, StatusCode::OK);
    let path = format!("/api/v1/sessions/{}", own[0]["id"].as_str().unwrap());
    assert_eq!(alice.browser.send("DELETE", &path, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(mallory.browser.get("/api/v1/me").await.status, StatusCode::UNAUTHORIZED, "revoked at once");
}

#[tokio::test]
async fn mass_assignment_fields_that_are_not_asked_for_are_refused() {
    let node = Node::start().await;
    let mut alice = enrol(&node, "alice", "owner", &[]).await;
    for (method, path, body) in [
        ("POST", "/api/v1/operators", json!({ "name": "x", "role": "viewer", "disabled": false })),
        ("POST", "/api/v1/operators", json!({ "name": "x", "role": "viewer", "created_by": "me" })),
        ("PATCH", "/api/v1/operators/alice", json!({ "role": "owner", "name": "root" })),
        ("PATCH", "/api/v1/operators/alice", json!({ "password": true })),
        ("POST", "/api/v1/me/tokens", json!({ "name": "x", "role": "viewer", "for_ms": 1, "owner": "bob" })),
        ("POST", "/api/v1/me/prove", json!({ "code": "1", "proved_at_ms": 9 })),
        (
            "POST",
            "/api/v1/login/password",
            json!({ "name": "alice", "password": "x", "code": "y", "role": "owner" }),
        ),
    ] {
        let answer = alice.browser.send(method, path, Some(body.clone())).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path} {body}: {}", answer.text);
    }
    assert_eq!(node.get("/api/v1/operators").await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn who_is_dismissed_while_his_body_comes_does_not_finish_it() {
    let node = Node::start().await;
    for (method, path, body) in [
        ("POST", "/api/v1/operators", json!({ "name": "friend", "role": "owner" })),
        ("POST", "/api/v1/me/tokens", json!({ "name": "ci", "role": "owner", "for_ms": 60_000 })),
    ] {
        let bob = enrol(&node, "bob", "owner", &[]).await;
        let text = body.to_string();
        let (most, last) = text.split_at(text.len() - 1);
        let (most, last) = (most.to_owned(), last.to_owned());
        let (waits, waiting) = tokio::sync::oneshot::channel();
        let (goes_on, go_on) = tokio::sync::oneshot::channel::<()>();
        let last = async move {
            waits.send(()).unwrap();
            go_on.await.unwrap();
            Ok::<_, std::io::Error>(last)
        };
        let request = to_host(method, path)
            .header(header::ORIGIN, ORIGIN)
            .header(header::COOKIE, bob.browser.cookie.clone().unwrap())
            .header(header::CONTENT_TYPE, "application/json");
        let body = Body::from_stream(once(ready(Ok(most))).chain(once(last)));
        let sent = node.send(request.body(body).unwrap());
        let dismissed = async {
            waiting.await.unwrap();
            let answer = node.call("DELETE", "/api/v1/operators/bob", None).await;
            assert_eq!(answer.status, StatusCode::NO_CONTENT);
            goes_on.send(()).unwrap();
        };
        let (answer, ()) = tokio::join!(sent, dismissed);
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}: {}", answer.text);
    }
    assert_eq!(node.get("/api/v1/operators").await.json(), json!([]));
}

#[tokio::test]
async fn a_page_on_another_port_of_localhost_passes_no_passkey_on() {
    let node = Node::start().await;
    for (host, origin, good) in [
        (HOST, ORIGIN, true),
        ("localhost:9999", "http://localhost:9999", false),
        ("127.0.0.1:9999", "http://127.0.0.1:9999", false),
        ("localhost", "http://localhost", false),
        ("localhost", "https://localhost", false),
    ] {
        let request = http::Request::post("/api/v1/login/challenge")
            .header(header::HOST, host)
            .header(header::ORIGIN, origin);
        let answer = node.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status == StatusCode::OK, good, "{origin}: {}", answer.text);
        assert!(good || answer.code() == "origin" && answer.text.contains("port 8900"), "{}", answer.text);
    }
}

#[tokio::test]
async fn guesses_of_passwords_hold_up_no_passkey_of_the_same_network() {
    let node = Node::start().await;
    for n in 0..45 {
        Browser::new(&node).log_in(&format!("name-{n}"), "x", "y").await;
    }
    assert_eq!(Browser::new(&node).log_in("carol", "x", "y").await.status, StatusCode::TOO_MANY_REQUESTS);
    let mut browser = Browser::new(&node);
    let asked = browser.send("POST", "/api/v1/login/challenge", None).await.json();
    let signed = Authenticator::new().sign(&asked["challenge"]);
    let answer = browser.send("POST", "/api/v1/login/passkey", Some(signed)).await;
    assert_eq!(answer.code(), "login_failed", "looked at: {}", answer.text);
}

#[tokio::test]
async fn passkeys_are_added_only_so_often() {
    let node = Node::start().await;
    let mut alice = enrol(&node, "alice", "owner", &[]).await;
    let mut statuses = Vec::new();
    for _ in 0..11 {
        let asked = alice.browser.send("POST", "/api/v1/me/challenge", None).await.json();
        let made = Authenticator::new().make(&asked["challenge"]);
        statuses.push(alice.browser.send("POST", "/api/v1/me/passkeys", Some(made)).await.status);
    }
    let counted = |status| statuses.iter().filter(|one| **one == status).count();
    assert_eq!((counted(StatusCode::CREATED), counted(StatusCode::CONFLICT)), (1, 9), "{statuses:?}");
    assert_eq!(statuses[10], StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions_of_its_owner() {
    let node = Node::start().await;
    let mut alice = enrol(&node, "alice", "owner", &[]).await;
    let mut thief = Browser::new(&node);
    assert_eq!(thief.log_in("alice", PASSWORD, &alice.recovery[0]).await.status, StatusCode::OK);
    let offer = alice.browser.send("POST", "/api/v1/me/totp", None).await.json();
    let secret = data_encoding::BASE32_NOPAD.decode(offer["secret"].as_str().unwrap().as_bytes()).unwrap();
    let app: TotpSecret = serde_json::from_value(json!(secret)).unwrap();
    let body = json!({ "password": "another horse battery", "code": code(&app) });
    let answer = alice.browser.send("POST", "/api/v1/me/password", Some(body)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(thief.get("/api/v1/me").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(alice.browser.get("/api/v1/me").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_session_of_a_link_is_sent_by_tls_only_where_it_came_by_tls() {
    let node = Node::start().await;
    for (proto, secure) in [(None, false), (Some("http"), false), (Some("https"), true)] {
        let ticket = node.tickets.issue(SystemClock.now_ms());
        let mut request = to_host("GET", &format!("/login?ticket={ticket}"));
        if let Some(proto) = proto {
            request = request.header("x-forwarded-proto", proto);
        }
        let answer = node.send(request.body(Body::empty()).unwrap()).await;
        let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
        assert_eq!(cookie.contains("; Secure"), secure, "{proto:?}: {cookie}");
    }
}

#[tokio::test]
async fn the_status_tells_an_operator_of_some_apps_nothing_of_the_whole_node() {
    let node = Node::start().await;
    node.ready.store(false, std::sync::atomic::Ordering::SeqCst);
    let mut shop = enrol(&node, "shop", "viewer", &["shop"]).await;
    let (all, his) =
        (node.get("/api/v1/status").await.json(), shop.browser.get("/api/v1/status").await.json());
    assert_eq!((&his["plan"], &his["version"]), (&all["plan"], &all["version"]));
    assert_eq!((&all["not_ready"], &his["not_ready"]), (&json!("the listeners are not bound"), &Value::Null));
    assert_ne!(all["fleet"]["members"], json!([]));
    assert_ne!(all["recorder"], json!([]));
    for part in [&his["fleet"]["members"], &his["fleet"]["degraded"], &his["recorder"], &his["classes"]] {
        assert_eq!(part, &json!([]));
    }
}

#[tokio::test]
async fn no_operator_takes_the_last_owner_away_and_the_node_may() {
    let node = Node::start().await;
    let mut alice = enrol(&node, "alice", "owner", &[]).await;
    invite(&node, "bob", "owner", &[]).await;
    let path = "/api/v1/operators/alice";
    for (method, path, body) in [
        ("DELETE", path, None),
        ("POST", "/api/v1/operators/alice/reset", None),
        ("PATCH", path, Some(json!({ "role": "editor" }))),
        ("PATCH", path, Some(json!({ "disabled": true }))),
        ("PATCH", path, Some(json!({ "apps": ["shop"] }))),
    ] {
        let answer = alice.browser.send(method, path, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::CONFLICT, "last"), "{method}");
    }
    let apps = alice.browser.send("PATCH", path, Some(json!({ "apps": ["a\u{1b}[31m"] }))).await;
    assert_eq!(apps.status, StatusCode::BAD_REQUEST, "{}", apps.text);
    assert_eq!(node.call("DELETE", path, None).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_token_that_the_node_makes_does_no_more_than_its_owner_and_no_operator_makes_one_for_another() {
    let node = Node::start().await;
    let (mut alice, bob) =
        (enrol(&node, "alice", "owner", &[]).await, enrol(&node, "bob", "viewer", &[]).await);
    let token = |role: &str| json!({ "name": "ci", "role": role, "for_ms": 60_000 });
    let path = "/api/v1/operators/bob/tokens";
    assert_eq!(alice.browser.send("POST", path, Some(token("viewer"))).await.code(), "role");
    assert_eq!(node.call("POST", path, Some(token("owner"))).await.code(), "role");
    let made = node.call("POST", path, Some(token("viewer"))).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let bearer = format!("Bearer {}", made.json()["token"].as_str().unwrap());
    let asks = || {
        let request = to_host("GET", "/api/v1/me").header(header::AUTHORIZATION, &bearer);
        node.send(request.body(Body::empty()).unwrap())
    };
    let me = asks().await.json();
    assert_eq!((&me["name"], &me["role"]), (&json!("token ci of operator bob"), &json!("viewer")));
    assert_eq!(
        node.call("POST", "/api/v1/operators/carol/tokens", Some(token("viewer"))).await.code(),
        "not_found"
    );
    let ended = alice.browser.send("DELETE", &format!("{path}/ci"), None).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT, "{}", ended.text);
    assert_eq!(asks().await.status, StatusCode::UNAUTHORIZED);
    drop(bob);
}
