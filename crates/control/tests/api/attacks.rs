//! Attacks on accounts, tokens, scopes and second factors, each as it was tried.

use axum::body::Body;
use data_encoding::BASE64;
use futures_util::future::join_all;
use http::{StatusCode, header};
use phalanx_model::limits::FRESH_FACTOR_MS;
use phalanx_model::{Clock, SystemClock};
use phalanx_trust::passkey::CHALLENGE_MS;
use serde_json::{Value, json};

use crate::live::Reader;
use crate::operators::{Authenticator, Browser, Enrolled, HOST, ORIGIN, PASSWORD, Said, code, enrol, invite};
use crate::support::*;

/// What an operator of some apps is answered by: rows of his apps, or things of his own. All others refuse him before they look at anything.
const HEEDS_APPS: &[(&str, &str)] = &[
    ("get", "/api/v1/events"),
    ("get", "/api/v1/events/{id}"),
    ("get", "/api/v1/login/oidc"),
    ("get", "/api/v1/me"),
    ("get", "/api/v1/openapi.json"),
    ("get", "/api/v1/report"),
    ("get", "/api/v1/sessions"),
    ("get", "/api/v1/status"),
    ("get", "/api/v1/traffic"),
    ("get", "/api/v1/traffic/actors"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("post", "/api/v1/decisions"),
    ("delete", "/api/v1/decisions/{id}"),
    ("post", "/api/v1/logout"),
    ("post", "/api/v1/me/challenge"),
    ("post", "/api/v1/me/totp"),
    ("post", "/api/v1/me/password"),
    ("post", "/api/v1/me/passkeys"),
    ("delete", "/api/v1/me/passkeys/{id}"),
    ("post", "/api/v1/me/prove"),
    ("post", "/api/v1/me/prove/oidc"),
    ("post", "/api/v1/me/tokens"),
    ("delete", "/api/v1/me/tokens/{name}"),
    ("delete", "/api/v1/sessions/{id}"),
];

/// What only who has the node may ask, whatever his apps are.
const NODES_ONLY: &[&str] =
    &["/api/v1/operator-resets", "/api/v1/operators/{name}/tokens", "/api/v1/login-links"];

/// What is open to everybody who has not logged in, and tells nobody anything.
const LOGINS: &[&str] = &[
    "/login",
    "/login/oidc/{name}/callback",
    "/api/v1/login/password",
    "/api/v1/login/challenge",
    "/api/v1/login/passkey",
    "/api/v1/login/oidc/{name}",
];

/// What is there of the app `shop` and must not be seen from `blog`.
const OF_SHOP: &[&str] = &["hunter2secret", "203.0.113.9", "942100", "shop"];

#[tokio::test]
async fn nothing_of_one_app_is_told_to_an_operator_of_another_by_any_endpoint() {
    let node = Node::start().await;
    node.refuse((1..4).map(access)).await;
    let of_shop = json!({ "place": "shop", "kind": "challenge", "for_ms": 60_000, "reason": "of shop" });
    let of_shop = node.call("POST", "/api/v1/decisions", Some(of_shop)).await.json();
    let mut blog = enrol(&node, "ben", "owner", &["blog"]).await;
    let token = json!({ "name": "t", "role": "owner", "for_ms": 60_000_000 });
    let token = blog.browser.send("POST", "/api/v1/me/tokens", Some(token)).await.json();
    let token = format!("Bearer {}", token["token"].as_str().unwrap());
    let document = node.get("/api/v1/openapi.json").await.json();
    let mut heeding = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            if LOGINS.contains(&path.as_str()) {
                continue;
            }
            let heeds = HEEDS_APPS.contains(&(method.as_str(), path.as_str()));
            heeding.extend(heeds.then(|| (method.clone(), path.clone())));
            let id = if path.contains("decisions") {
                of_shop["id"].as_str().unwrap().to_owned()
            } else {
                id(1).to_string()
            };
            let at = path.replace("{id}", &id).replace("{site}", "fra").replace("{node}", "a");
            let at = at.replace("{name}", "shop").replace("{version}", "1").replace("{token}", "t");
            // By token alone, so that nothing ends the session meanwhile.
            if method == "get" && heeds {
                for at in [
                    at.clone(),
                    format!("{at}?app=shop"),
                    format!("{at}?fleet=1"),
                    format!("{at}?format=csv"),
                ] {
                    let answer = by_token(&node, &token, method, &at).await;
                    // What he asked about himself is no answer.
                    let said = answer.text.replace("\"app\":\"shop\"", "").replace("\"app\",\"shop\"", "");
                    let tells = OF_SHOP.iter().find(|word| said.contains(**word));
                    let own = path == "/api/v1/openapi.json";
                    assert!(own || tells.is_none(), "{at} tells {tells:?}: {}", answer.text);
                }
            } else if !heeds {
                let answer = by_token(&node, &token, method, &at).await;
                let expected = if NODES_ONLY.contains(&path.as_str()) { "role" } else { "apps" };
                assert_eq!(answer.code(), expected, "{method} {path}: {}", answer.text);
                assert!(!answer.text.contains("hunter2secret"));
            }
        }
    }
    let mut expected: Vec<_> = HEEDS_APPS.iter().map(|(m, p)| ((*m).to_owned(), (*p).to_owned())).collect();
    expected.sort();
    heeding.sort();
    assert_eq!(heeding, expected, "each endpoint that operators of some apps may use is in the table");
    // What there is of another app is answered as what is not there.
    let mut none = of_shop["id"].as_str().unwrap().to_owned();
    let last = none.pop();
    none.push(if last == Some('0') { '1' } else { '0' });
    let withdraw =
        async |id: &str| by_token(&node, &token, "delete", &format!("/api/v1/decisions/{id}")).await;
    let (known, unknown) = (withdraw(of_shop["id"].as_str().unwrap()).await, withdraw(&none).await);
    assert_eq!((known.status, known.code()), (unknown.status, unknown.code()));
    let (known, unknown) = (
        by_token(&node, &token, "get", &format!("/api/v1/events/{}", id(1))).await,
        by_token(&node, &token, "get", &format!("/api/v1/events/{}", id(99))).await,
    );
    let of = |answer: &Answer, n| answer.text.replace(&id(n).to_string(), "ID");
    assert_eq!((known.status, of(&known, 1)), (unknown.status, of(&unknown, 99)));
}

async fn by_token(node: &Node, token: &str, method: &str, path: &str) -> Answer {
    // Nobody is told to wait here.
    node.later(100);
    let request = request(&method.to_uppercase(), path).header(header::AUTHORIZATION, token);
    node.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn of_twenty_who_show_one_code_at_once_one_gets_in() {
    let node = Node::start().await;
    let alice = enrol(&node, "alice", "owner", &[]).await;
    for shown in [code(&alice.app), alice.recovery[0].clone()] {
        let tries = (0..20).map(|_| {
            let mut browser = Browser::new(&node);
            let shown = shown.clone();
            async move { browser.log_in("alice", PASSWORD, &shown).await.status }
        });
        let answers = join_all(tries).await;
        let of = |status| answers.iter().filter(|one| **one == status).count();
        assert_eq!(of(StatusCode::OK), 1, "{answers:?}");
        assert_eq!(of(StatusCode::UNAUTHORIZED) + of(StatusCode::TOO_MANY_REQUESTS), 19, "{answers:?}");
        // The tries that were wrong are over.
        node.later(15 * 60_000);
    }
}

/// An operator with a passkey and a session.
async fn with_passkey<'a>(node: &'a Node, name: &str) -> (Browser<'a>, Authenticator) {
    let (mut browser, key) = (Browser::new(node), Authenticator::new());
    browser.open(&invite(node, name, "owner", &[]).await).await;
    let asked = challenge(&mut browser, "me").await;
    let made = browser.send("POST", "/api/v1/me/passkeys", Some(key.make(&asked))).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    (browser, key)
}

async fn challenge(browser: &mut Browser<'_>, of: &str) -> Value {
    browser.send("POST", &format!("/api/v1/{of}/challenge"), None).await.json()["challenge"].clone()
}

#[tokio::test]
async fn a_signature_counts_for_what_it_was_asked_for_there_then_and_once() {
    let (node, other) = (Node::start().await, Node::start().await);
    let (mut browser, mut key) = with_passkey(&node, "alice").await;
    node.later(FRESH_FACTOR_MS);
    let prove = async |browser: &mut Browser<'_>, signed: Value| {
        browser.send("POST", "/api/v1/me/prove", Some(json!({ "passkey": signed }))).await.code()
    };
    let log_in = async |signed: Value| {
        Browser::new(&node).send("POST", "/api/v1/login/passkey", Some(signed)).await.code()
    };
    // For the other purpose, of another node, of another session.
    let for_login = challenge(&mut browser, "login").await;
    assert_eq!(prove(&mut browser, key.sign(&for_login)).await, "not_proved");
    let for_proof = challenge(&mut browser, "me").await;
    assert_eq!(log_in(key.sign(&for_proof)).await, "login_failed");
    let elsewhere = challenge(&mut Browser::new(&other), "login").await;
    assert_eq!(log_in(key.sign(&elsewhere)).await, "login_failed");
    let (mut stranger, _) = with_passkey(&other, "alice").await;
    let elsewhere = challenge(&mut stranger, "me").await;
    assert_eq!(prove(&mut browser, key.sign(&elsewhere)).await, "not_proved");
    // What a page of another port or name, an authenticator that asked for nothing, or another ceremony says.
    key.1 += 1;
    for said in [
        Said { kind: "webauthn.create", ..Said::RIGHT },
        Said { origin: "http://localhost:8901", ..Said::RIGHT },
        Said { origin: "http://evil.localhost:8900", ..Said::RIGHT },
        Said { origin: "http://localhost:8900.evil.example", ..Said::RIGHT },
        Said { origin: "https://localhost:8900", ..Said::RIGHT },
        Said { origin: "", ..Said::RIGHT },
        Said { host: "evil.localhost", ..Said::RIGHT },
        Said { host: "localhost:8900", ..Said::RIGHT },
        Said { flags: 0x01, ..Said::RIGHT },
        Said { flags: 0x04, ..Said::RIGHT },
        Said { flags: 0, ..Said::RIGHT },
    ] {
        let (for_login, for_proof) =
            (challenge(&mut browser, "login").await, challenge(&mut browser, "me").await);
        let origin = said.origin;
        assert_eq!(log_in(key.sign_as(&for_login, said)).await, "login_failed", "{origin}");
        assert_eq!(prove(&mut browser, key.sign_as(&for_proof, said)).await, "not_proved", "{origin}");
        // The tries are over.
        node.later(15 * 60_000);
    }
    // Too late; then in time, and once.
    let asked = challenge(&mut browser, "login").await;
    node.later(CHALLENGE_MS);
    assert_eq!(log_in(key.sign(&asked)).await, "login_failed");
    let asked = challenge(&mut browser, "me").await;
    let signed = key.sign(&asked);
    assert_eq!(prove(&mut browser, signed.clone()).await, "");
    assert_eq!(prove(&mut browser, signed).await, "not_proved");
    // A copy of the authenticator lags behind.
    key.1 -= 1;
    let asked = challenge(&mut browser, "me").await;
    assert_eq!(prove(&mut browser, key.sign_as(&asked, Said::RIGHT)).await, "not_proved");
    key.1 = 0;
    let asked = challenge(&mut browser, "login").await;
    assert_eq!(log_in(key.sign_as(&asked, Said::RIGHT)).await, "login_failed");
}

/// A token of an operator, by its name.
async fn token(enrolled: &mut Enrolled<'_>, name: &str, role: &str, for_ms: u64) -> String {
    let new = json!({ "name": name, "role": role, "for_ms": for_ms });
    let made = enrolled.browser.send("POST", "/api/v1/me/tokens", Some(new)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    format!("Bearer {}", made.json()["token"].as_str().unwrap())
}

#[tokio::test]
async fn a_token_ends_at_its_time_and_its_stream_with_it() {
    let node = Node::start().await;
    let mut ann = enrol(&node, "ann", "editor", &[]).await;
    let ends = token(&mut ann, "short", "editor", 60_000).await;
    let ended = token(&mut ann, "long", "editor", 600_000).await;
    let mut of_short = Reader::open(&node, header::AUTHORIZATION, &ends).await;
    let mut of_long = Reader::open(&node, header::AUTHORIZATION, &ended).await;
    let cookie = ann.browser.cookie.clone().unwrap();
    let stream = to_host("GET", "/api/v1/stream").header(header::COOKIE, &cookie);
    let lowered = Reader::of(&node, stream).await;
    node.later(60_001);
    assert_eq!(by_token(&node, &ends, "get", "/api/v1/status").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(by_token(&node, &ended, "get", "/api/v1/status").await.status, StatusCode::OK);
    let end = ann.browser.send("DELETE", "/api/v1/me/tokens/long", None).await;
    assert_eq!(end.status, StatusCode::NO_CONTENT, "{}", end.text);
    assert_eq!(of_short.until("nothing").await, None);
    assert_eq!(of_long.until("nothing").await, None);
    // A lower role ends sessions, and their streams, as any change of what somebody may do.
    let edit = json!({ "role": "viewer" });
    assert_eq!(node.call("PATCH", "/api/v1/operators/ann", Some(edit)).await.status, StatusCode::OK);
    let mut lowered = lowered;
    assert_eq!(lowered.until("nothing").await, None);
    assert_eq!(ann.browser.get("/api/v1/status").await.status, StatusCode::UNAUTHORIZED);
}

fn to_host(method: &str, path: &str) -> http::request::Builder {
    http::Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, HOST)
        .header(header::ORIGIN, ORIGIN)
}

/// The node's own policy, without protection.
fn off() -> Value {
    let text = format!("{OWN_POLICY}mode = \"off\"\n");
    json!({ "entry": "policy.toml", "files": { "policy.toml": BASE64.encode(text.as_bytes()) }, "reason": "a test" })
}

fn with_body(token: &str, path: &str, body: &Value) -> http::Request<Body> {
    let request = request("POST", path).header(header::AUTHORIZATION, token);
    request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())).unwrap()
}

#[tokio::test]
async fn what_a_token_asked_for_is_not_answered_once_it_has_ended() {
    let node = Node::start().await;
    let mut ann = enrol(&node, "ann", "editor", &[]).await;
    let ci = token(&mut ann, "ci", "editor", 600_000).await;
    let order = json!({ "files": { "policy.toml": "" }, "entry": "policy.toml", "last_ms": 60_000 });
    let replay = node.send(with_body(&ci, "/api/v1/policy/replay", &order));
    let ended = async {
        node.replays.begun.acquire().await.unwrap().forget();
        let end = ann.browser.send("DELETE", "/api/v1/me/tokens/ci", None).await;
        assert_eq!(end.status, StatusCode::NO_CONTENT, "{}", end.text);
        node.replays.may_end.add_permits(1);
    };
    let (answer, ()) = tokio::join!(replay, ended);
    assert_eq!(answer.code(), "unauthorized", "{}", answer.text);
}

#[tokio::test]
async fn what_a_token_ordered_and_waits_ends_with_the_token() {
    let node = Node::start().await;
    let (mut ann, mut bob) =
        (enrol(&node, "ann", "editor", &[]).await, enrol(&node, "bob", "owner", &[]).await);
    for expires in [false, true] {
        let ci = token(&mut ann, "ci", "editor", 120_000).await;
        let change = node.send(with_body(&ci, "/api/v1/policy/changes", &off())).await.json();
        let own = ann.browser.send("POST", "/api/v1/policy/changes", Some(off())).await.json();
        assert_eq!((&change["state"], &own["state"]), (&json!("waiting"), &json!("waiting")), "{change}");
        if expires {
            node.later(120_000);
        } else {
            ann.browser.send("DELETE", "/api/v1/me/tokens/ci", None).await;
        }
        let path = |change: &Value| format!("/api/v1/policy/changes/{}", change["id"].as_str().unwrap());
        let approval = json!({ "hash": change["hash"], "reason": "seen" });
        let refused = bob.browser.send("POST", &format!("{}/approve", path(&change)), Some(approval)).await;
        assert_eq!(refused.code(), "author_gone", "{}", refused.text);
        let now = node.get(&path(&change)).await.json();
        assert_eq!(now["decided_reason"], "the API token that ordered it has ended");
        assert_eq!(
            node.get(&path(&own)).await.json()["state"],
            "waiting",
            "what he ordered himself waits on"
        );
    }
}

#[tokio::test]
async fn an_answer_is_not_given_again_to_another_of_the_same_name() {
    let node = Node::start().await;
    let order = json!({ "ip": "192.0.2.9", "for_ms": 60_000, "reason": "private words" });
    let mut first = None;
    for again in [false, true] {
        let ann = enrol(&node, "ann", "responder", &[]).await;
        let asked = to_host("POST", "/api/v1/decisions")
            .header(header::COOKIE, ann.browser.cookie.clone().unwrap())
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", "k");
        let answer = node.send(asked.body(Body::from(order.to_string())).unwrap()).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        assert!(!answer.headers.contains_key("idempotency-replayed"), "again: {again}");
        let id = answer.json()["id"].clone();
        assert_ne!(first.replace(id.clone()), Some(id));
        node.call("DELETE", "/api/v1/operators/ann", None).await;
    }
}

#[tokio::test]
async fn a_host_is_this_nodes_however_it_is_written_or_it_is_refused() {
    let node = Node::start().await;
    let served = async |uri: &str, hosts: &[&str]| {
        let mut request = http::Request::builder().uri(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let status = node.send(request.body(Body::empty()).unwrap()).await.status;
        assert!(
            [StatusCode::OK, StatusCode::MISDIRECTED_REQUEST].contains(&status),
            "{uri} {hosts:?}: {status}"
        );
        status == StatusCode::OK
    };
    for host in ["127.0.0.1:8900", "LOCALHOST:8900", "localhost", "[::1]:8900", "127.8.8.8:8900"] {
        assert!(served("/healthz", &[host]).await, "{host}");
    }
    for host in [
        "localhost.:8900",
        "127.0.0.1.:8900",
        "user@localhost:8900",
        "localhost:8900@evil.example",
        "evil.example#localhost",
        "localhost:8900:8900",
        "localhost:+8900",
        "localhost evil.example",
        "[::ffff:192.0.2.1]:8900",
        "[::1].evil.example",
        "[::1%25lo]:8900",
        "0x7f000001",
        "2130706433",
        "127.1",
        "0.0.0.0:8900",
        "localhost.evil.example",
        "evil.localhost",
        "",
    ] {
        assert!(!served("/healthz", &[host]).await, "{host}");
    }
    assert!(!served("/healthz", &[HOST, HOST]).await && !served("/healthz", &[HOST, "evil.example"]).await);
    assert!(!served("http://evil.example/healthz", &[HOST]).await, "the address says another than the field");
    assert!(!served("http://localhost:8900/healthz", &["evil.example"]).await);
    assert!(served("http://localhost:8900/healthz", &[HOST]).await);
}

#[tokio::test]
async fn who_tries_too_often_is_told_one_time_to_come_again_that_tells_nothing_of_others() {
    let node = Node::start().await;
    enrol(&node, "alice", "owner", &[]).await;
    let mut refused = None;
    for _ in 0..20 {
        let answer = Browser::new(&node).log_in("alice", "not her password", "000000").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.unwrap();
    let told: Vec<_> = refused.headers.get_all(header::RETRY_AFTER).iter().collect();
    let seconds: u64 = told[0].to_str().unwrap().parse().unwrap();
    // Always the whole: the rest would tell since when others have tried this name, which nobody does of one that nobody has.
    assert!(told.len() == 1 && seconds == 900, "{told:?}");
    node.later(seconds * 1_000);
    let answer = Browser::new(&node).log_in("alice", "not her password", "000000").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "at {}", SystemClock.now_ms());
}
