//! Whose requests are, what they try and how that ends, as their events say it.

use phalanx_model::deed::{Outcome, Step};
use phalanx_model::{AccessEvent, Actor, Deed, NameKey, SecurityEvent};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::routes::set_policy;
use crate::support::*;

const KEY: [u8; 16] = [5; 16];

/// A node with a key that is known here, whose one app has this in its policy.
async fn node(app: &str) -> Node {
    let node = Node::start(|settings, _| settings.names = NameKey::new(KEY)).await;
    set_policy(&node, app);
    node
}

fn names() -> NameKey {
    NameKey::new(KEY)
}

fn session(value: &str) -> Option<u64> {
    Some(names().hash("session", value.as_bytes()))
}

fn account(name: &str) -> Option<u64> {
    Some(names().account(name))
}

const FORM: &str = "application/x-www-form-urlencoded";

/// Sends a request that is answered as `answer` says (`302|Location: /`), and gives its event.
async fn asked(
    node: &mut Node,
    line: &str,
    fields: &str,
    (kind, body): (&str, &str),
    answer: &str,
) -> AccessEvent {
    let mut client = node.connect().await;
    let kind = if body.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    client
        .send(format!(
            "{line} HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: a\r\nAccept: */*\r\nX-Answer: {answer}\r\n{kind}{length}{fields}\r\n{body}"
        ))
        .await;
    client.answer().await;
    // Rules may have found something to say about it.
    loop {
        tokio::select! {
            access = node.readers.access.recv() => return *access.unwrap(),
            event = node.readers.security.recv() => {
                if let SecurityEvent::Request { access, .. } = event.unwrap() {
                    return *access;
                }
            }
        }
    }
}

async fn deed(node: &mut Node, line: &str, fields: &str, body: (&str, &str), answer: &str) -> Option<Deed> {
    asked(node, line, fields, body, answer).await.deed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_told_apart_and_the_session_it_begins_belongs_to_the_account() {
    let mut node = node("").await;
    let body = (FORM, "email=Ann%40shop.test&password=right");
    assert_eq!(deed(&mut node, "GET /", "", (FORM, ""), "200").await, None);
    let failed = deed(&mut node, "POST /login", "", body, "401").await.unwrap();
    assert_eq!(failed.step, Step::Login(Outcome::Failed));
    assert_eq!((failed.account, failed.session), (account("ann@shop.test"), None));
    assert_eq!(failed.secret, Some(names().tag(b"right")));
    assert_ne!(failed.shape, 0);

    let before = "Cookie: theme=dark; sid=before\r\n";
    let anonymous = deed(&mut node, "GET /", before, (FORM, ""), "200").await.unwrap();
    assert_eq!(anonymous, Deed { session: session("before"), ..Deed::default() });
    let passed = deed(
        &mut node,
        "POST /login",
        before,
        body,
        "302|Location: /account|Set-Cookie: sid=after; HttpOnly",
    )
    .await;
    let passed = passed.unwrap();
    assert_eq!(passed.step, Step::Login(Outcome::Passed));
    assert_eq!((passed.session, passed.account), (session("after"), account("ann@shop.test")));
    let later = deed(&mut node, "GET /orders/1", "Cookie: sid=after\r\n", (FORM, ""), "200").await;
    let expected = Deed { session: session("after"), account: account("ann@shop.test"), ..Deed::default() };
    assert_eq!(later, Some(expected));
    // The one from before belongs to nobody; a failed login changes nothing.
    let other = (FORM, "email=bob&password=wrong");
    deed(&mut node, "POST /login", "Cookie: sid=after\r\n", other, "401").await;
    let still = deed(&mut node, "GET /", "Cookie: sid=after\r\n", (FORM, ""), "200").await;
    assert_eq!(still, Some(expected));
    let old = deed(&mut node, "GET /", "Cookie: sid=before\r\n", (FORM, ""), "200").await;
    assert_eq!(old.and_then(|old| old.account), None);
    let pays =
        deed(&mut node, "POST /pay", "Cookie: sid=after\r\n", (FORM, "cardNumber=4111111111111111"), "402")
            .await;
    let pays = pays.unwrap();
    assert_eq!((pays.step, pays.account), (Step::Payment(Outcome::Failed), account("ann@shop.test")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_keeps_its_session_at_login_is_known_too() {
    let mut node = node("").await;
    let cookie = "Cookie: PHPSESSID=same\r\n";
    let body = ("application/json", r#"{"user":{"email":"ann","password":"x"}}"#);
    let passed = deed(&mut node, "POST /api/login", cookie, body, "204").await.unwrap();
    assert_eq!((passed.step, passed.account), (Step::Login(Outcome::Passed), account("ann")));
    let later = deed(&mut node, "GET /", cookie, (FORM, ""), "200").await.unwrap();
    assert_eq!((later.session, later.account), (session("same"), account("ann")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_counts_however_its_path_is_written() {
    let mut node = node(
        "[apps.accounts]\nlearn = false\nsession_cookies = ['ticket']\n\
         [[apps.accounts.logins]]\npath = '/enter'\naccount = 'who'\nsecret = 'pin'\nsuccess = { status = [200], cookie = 'ticket' }\n\
         [[apps.accounts.lookups]]\npath = '/ask'\naccount = 'who'\n",
    )
    .await;
    let body = (FORM, "who=ann&pin=1234");
    for (line, answer, outcome) in [
        ("POST /enter", "200|Set-Cookie: ticket=t", Outcome::Passed),
        ("POST /%65nter/", "200|Set-Cookie: other=t", Outcome::Failed),
        ("POST //enter?a=b", "503", Outcome::Unknown),
    ] {
        let deed = deed(&mut node, line, "", body, answer).await.unwrap();
        assert_eq!((deed.step, deed.account), (Step::Login(outcome), account("ann")), "{line}");
    }
    let asks = deed(&mut node, "POST /ask", "", (FORM, "who=ann"), "200").await.unwrap();
    assert_eq!((asks.step, asks.account), (Step::Lookup, account("ann")));
    let undeclared = deed(&mut node, "POST /login", "", (FORM, "email=ann&password=x"), "401").await;
    assert_eq!(undeclared, None);
    let known =
        deed(&mut node, "GET /", "Cookie: PHPSESSID=a; ticket=t\r\n", (FORM, ""), "200").await.unwrap();
    assert_eq!((known.session, known.account), (session("t"), account("ann")));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_body_is_read_a_login_is_known_by_its_path_and_status() {
    let mut node = node("mode = 'off'\n[[apps.accounts.logins]]\npath = '/enter'\n").await;
    let body = (FORM, "email=ann&password=x");
    for (path, answer, outcome) in
        [("/login", "401", Outcome::Failed), ("/enter", "302|Location: /home", Outcome::Passed)]
    {
        let deed = deed(&mut node, &format!("POST {path}"), "", body, answer).await.unwrap();
        assert_eq!(deed, Deed { step: Step::Login(outcome), ..Deed::default() }, "{path}");
    }
    assert_eq!(deed(&mut node, "POST /other", "", body, "401").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_declared_fields_are_sessions_where_no_cookie_is() {
    let mut by_token = node("").await;
    let bearer = "Authorization: Bearer abc\r\n";
    let of = deed(&mut by_token, "GET /", bearer, (FORM, ""), "200").await;
    assert_eq!(of.and_then(|of| of.session), session("abc"));
    let both = format!("Cookie: sid=c\r\n{bearer}");
    let of = deed(&mut by_token, "GET /", &both, (FORM, ""), "200").await;
    assert_eq!(of.and_then(|of| of.session), session("c"));
    assert_eq!(deed(&mut by_token, "GET /", "Authorization: Basic YTpi\r\n", (FORM, ""), "200").await, None);
    let mut by_field = node("accounts = { session_header = 'X-Session' }").await;
    let of = deed(&mut by_field, "GET /", "x-session: s\r\n", (FORM, ""), "200").await;
    assert_eq!(of.and_then(|of| of.session), session("s"));
    assert_eq!(deed(&mut by_field, "GET /", bearer, (FORM, ""), "200").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_about_a_session_or_an_account_hold_for_its_sessions_and_for_nobody_else() {
    let mut node = node("").await;
    let body = (FORM, "email=ann&password=x");
    let answer = "302|Location: /|Set-Cookie: sid=anns";
    assert!(deed(&mut node, "POST /login", "", body, answer).await.is_some());
    node.ban_actor(Actor::Session(session("stolen").unwrap()));
    node.ban_actor(Actor::Account(account("ann").unwrap()));
    for (line, cookie, body, status) in [
        ("GET /", "Cookie: sid=stolen\r\n", (FORM, ""), 403),
        ("GET /", "Cookie: sid=anns\r\n", (FORM, ""), 403),
        ("GET /", "Cookie: sid=other\r\n", (FORM, ""), 200),
        ("GET /", "", (FORM, ""), 200),
        // Else anybody could have her refused.
        ("POST /login", "", body, 200),
    ] {
        let event = asked(&mut node, line, cookie, body, "200").await;
        assert_eq!(event.status, status, "{line} {cookie}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_and_no_secret_stands_in_an_event() {
    let mut node = node("").await;
    let mut runner = TestRunner::deterministic();
    let words = ("[a-zA-Z]{6,20}@[a-z]{6}\\.test", "[a-zA-Z0-9]{10,24}", "[a-f0-9]{24}");
    for turn in 0..64 {
        let (name, secret, cookie) = words.new_tree(&mut runner).unwrap().current();
        let body = match turn % 3 {
            0 => (FORM, format!("email={}&password={secret}", name.replace('@', "%40"))),
            1 => ("application/json", format!(r#"{{"login":"{name}","password":"{secret}"}}"#)),
            _ => (FORM, format!("user[email]={name}&user[password]={secret}&user[again_password]={secret}")),
        };
        let answer =
            if turn % 2 == 0 { "401".into() } else { format!("302|Location: /|Set-Cookie: sid={cookie}2") };
        let fields = format!("Cookie: sid={cookie}\r\n");
        let event = asked(&mut node, "POST /login", &fields, (body.0, &body.1), &answer).await;
        assert!(event.deed.is_some_and(|deed| deed.account == account(&name)), "{event:?}");
        let shown = format!("{} {event:?}", serde_json::to_string(&event).unwrap()).to_lowercase();
        for hidden in [&name, &name.replace('@', "%40"), &secret, &cookie] {
            assert!(!shown.contains(&hidden.to_lowercase()), "{hidden} in {shown}");
        }
    }
}
