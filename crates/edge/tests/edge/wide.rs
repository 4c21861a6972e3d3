//! Decisions about software, routes and apps: whom they hit, and whom they spare.

use std::sync::Arc;

use phalanx_decide::DecidePlan;
use phalanx_edge::RaisedRules;
use phalanx_edge::challenge::sealed::{Bound, Pass};
use phalanx_edge::places::Places;
use phalanx_inspect::{CompileOptions, Program};
use phalanx_model::{
    AccessEvent, Action, Actor, Author, AuthorRole, Clock, Decision, DecisionId, DecisionKind, NameKey,
    Reason, SecurityEvent, SystemClock, names,
};
use phalanx_policy::seclang::{LoadOptions, load_texts};
use phalanx_trust::PassKeys;

use crate::mmdb::{Value, database};
use crate::routes::set_policy;
use crate::support::{Answer, Client, Node, Upstream};

const KEY: [u8; 16] = [5; 16];
const TOOL: &str = "X-Tool: 1\r\n";

fn keys() -> PassKeys {
    PassKeys::of_secret(&[7; 32])
}

/// A node whose clients stand behind a trusted forwarder.
async fn node() -> Node {
    let decide = DecidePlan {
        operators: ["198.51.100.0/24".parse().unwrap()].into_iter().collect(),
        ..DecidePlan::default()
    };
    let change = |settings: &mut phalanx_edge::EdgeSettings, app: &mut phalanx_edge::AppPlan| {
        (settings.pass_keys, settings.names) = (keys(), NameKey::new(KEY));
        app.trust_forwarded = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    };
    Node::before(Upstream::start().await, change, decide)
}

async fn ask_on(connection: &mut Client, client: &str, path: &str, fields: &str) -> Answer {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: {client}\r\nUser-Agent: a\r\n{fields}\r\n"
    );
    connection.send(head).await;
    connection.answer().await
}

async fn status(node: &Node, client: &str, path: &str, fields: &str) -> u16 {
    ask_on(&mut node.connect().await, client, path, fields).await.head.status
}

/// Begins the session `s1`.
async fn log_in(node: &Node) {
    let mut connection = node.connect().await;
    let body = "username=ann&password=x";
    connection
        .send(format!(
            "POST /login HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: 192.0.2.1\r\nX-Answer: 302|Location: /|Set-Cookie: sessionid=s1\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    assert_eq!(connection.answer().await.head.status, 302);
}

/// The next event, whatever lane it is on.
async fn event(node: &mut Node) -> AccessEvent {
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

/// The kind of software that these fields are a sign of.
async fn software(node: &mut Node, fields: &str) -> u64 {
    status(node, "192.0.2.200", "/", fields).await;
    let event = event(node).await;
    NameKey::new(KEY).software(event.ja4.as_ref(), event.http_print.as_deref()).unwrap()
}

/// An order of now, which is in force for the node alone.
fn order_here(node: &Node, kind: DecisionKind, actor: Actor) {
    let now_ms = SystemClock.now_ms();
    let order = Decision {
        id: DecisionId::from_parts(1, 1, 1),
        actor,
        kind,
        author: Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Node },
        reason: "test".into(),
        evidence: None,
        confidence_percent: 100,
        created_at_ms: now_ms,
        expires_at_ms: now_ms + 600_000,
        version: 1,
    };
    node.view.store(Arc::new(node.view.load().with_here([Arc::new(order)].into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn software_is_refused_from_whatever_address_and_nobody_else() {
    let mut node = node().await;
    let tool = software(&mut node, TOOL).await;
    for here in [true, false] {
        match here {
            true => order_here(&node, DecisionKind::Ban, Actor::Software(tool)),
            false => {
                node.view.store(Arc::new(node.view.load().with_here([].into())));
                node.ban_actor(Actor::Software(tool));
            }
        }
        for n in 1..5 {
            let client = format!("192.0.2.{n}");
            assert_eq!(status(&node, &client, "/", TOOL).await, 403);
            assert_eq!(status(&node, &client, "/", "").await, 200, "other software there");
        }
        assert_eq!(status(&node, "198.51.100.7", "/", TOOL).await, 200, "an operator's network");
    }
    // Whose are which is told apart on one connection of a forwarder, too.
    let mut connection = node.connect().await;
    assert_eq!(ask_on(&mut connection, "192.0.2.1", "/", "").await.head.status, 200);
    assert_eq!(ask_on(&mut connection, "192.0.2.2", "/", TOOL).await.head.status, 403);
    let refused = loop {
        let event = event(&mut node).await;
        if event.status == 403 {
            break event;
        }
    };
    assert!(
        matches!(&refused.verdict.reason, Reason::Decision { decision } if decision.actor == Actor::Software(tool))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_that_is_refused_leaves_room_in_the_history() {
    let mut node = node().await;
    let tool = software(&mut node, TOOL).await;
    order_here(&node, DecisionKind::Ban, Actor::Software(tool));
    for _ in 0..130 {
        assert_eq!(status(&node, "192.0.2.1", "/", TOOL).await, 403);
    }
    let mut kept = 0;
    while let Ok(event) = node.readers.security.try_recv() {
        kept += usize::from(matches!(event, SecurityEvent::Request { .. }));
    }
    assert!((2..=3).contains(&kept), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_known_is_spared_within_the_bounds_of_a_pass() {
    let mut node = node().await;
    set_policy(&node, "trust_forwarded = [\"127.0.0.1\"]\n");
    let tool = software(&mut node, TOOL).await;
    let now_ms = SystemClock.now_ms();
    let pass = Pass { id: 9, until_ms: now_ms + 60_000 };
    let bound = Bound { app: b"shop", agent: b"a", ciphers: b"" };
    let pass = format!("Cookie: phalanx_pass={}\r\n{TOOL}", pass.seal(&keys(), &bound).unwrap());

    let tables = Arc::clone(node.edge.tables());
    log_in(&node).await;
    let member = format!("Cookie: sessionid=s1\r\n{TOOL}");
    let stranger = format!("Cookie: sessionid=s2\r\n{TOOL}");
    // Somebody at this address was served well long before.
    tables.good.note(
        "192.0.2.9".parse().unwrap(),
        NameKey::new(KEY).hash("session", b"s2"),
        now_ms - 120_000,
    );

    for actor in
        [Actor::Software(tool), Actor::Route(names::route("shop", "")), Actor::App(names::app("shop"))]
    {
        order_here(&node, DecisionKind::Ban, actor.clone());
        let is_place = !matches!(actor, Actor::Software(_));
        let of = |ok: bool| if ok { 200 } else { 403 };
        assert_eq!(status(&node, "192.0.2.1", "/", TOOL).await, 403, "{actor}");
        assert_eq!(status(&node, "192.0.2.1", "/", &pass).await, 200, "{actor}");
        assert_eq!(status(&node, "192.0.2.1", "/", &member).await, 200, "{actor}");
        assert_eq!(status(&node, "192.0.2.1", "/", &stranger).await, 403, "{actor}");
        assert_eq!(status(&node, "192.0.2.9", "/", &stranger).await, of(is_place), "{actor}");
    }
    // A session is no way in for a thousand addresses.
    order_here(&node, DecisionKind::Ban, Actor::Software(tool));
    let mut last = 200;
    for n in 1..60 {
        last = status(&node, &format!("10.{n}.0.1"), "/", &member).await;
    }
    assert_eq!(last, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_challenged_or_closed_each_by_itself() {
    let node = node().await;
    set_policy(
        &node,
        "trust_forwarded = [\"127.0.0.1\"]\n[[apps.routes]]\nname = \"login\"\npath = \"/login\"\n",
    );
    order_here(&node, DecisionKind::Challenge, Actor::Route(names::route("shop", "login")));
    let page = ask_on(&mut node.connect().await, "192.0.2.1", "/login", "").await;
    assert!(page.head.status == 403 && page.text().contains("data-task"), "{}", page.text());
    assert_eq!(status(&node, "192.0.2.1", "/", "").await, 200);
    order_here(&node, DecisionKind::Ban, Actor::Route(names::route("shop", "login")));
    let page = ask_on(&mut node.connect().await, "192.0.2.1", "/login", "").await;
    assert!(page.head.status == 403 && !page.text().contains("data-task"));
    order_here(&node, DecisionKind::Ban, Actor::App(names::app("other")));
    assert_eq!(status(&node, "192.0.2.1", "/login", "").await, 200);
    order_here(&node, DecisionKind::Challenge, Actor::prefix("192.0.2.0/24".parse().unwrap()));
    assert_eq!(status(&node, "192.0.2.1", "/", "").await, 403);
    assert_eq!(status(&node, "192.0.3.1", "/", "").await, 200);
    // A system is known by a database alone.
    order_here(&node, DecisionKind::Challenge, Actor::Asn(64_500));
    assert_eq!(status(&node, "192.0.2.1", "/", "").await, 200);
    let mut places = Places::default();
    let record = vec![("autonomous_system_number", Value::Number(64_500))];
    places.add(database(&[("192.0.2.0/24", record)])).unwrap();
    node.places.store(Arc::new(places));
    assert_eq!(status(&node, "192.0.2.1", "/", "").await, 403);
    assert_eq!(status(&node, "192.0.3.1", "/", "").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_observes_refuses_nobody_and_an_allowed_client_is_not_asked() {
    let mut node = node().await;
    let tool = software(&mut node, TOOL).await;
    order_here(&node, DecisionKind::Ban, Actor::Software(tool));
    node.order(DecisionKind::Allow, Actor::ip("192.0.2.1".parse().unwrap()));
    assert_eq!(status(&node, "192.0.2.1", "/", TOOL).await, 200);
    assert_eq!(status(&node, "192.0.2.2", "/", TOOL).await, 403);
    set_policy(&node, "trust_forwarded = [\"127.0.0.1\"]\nmode = \"observe\"\n");
    assert_eq!(status(&node, "192.0.2.2", "/", TOOL).await, 200);
    let observed = loop {
        let event = event(&mut node).await;
        if event.verdict.action == Action::Observe {
            break event;
        }
    };
    assert!(matches!(observed.verdict.reason, Reason::Decision { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_inspected_by_stricter_rules_while_its_paranoia_is_raised() {
    let program = |word: &str| {
        let text =
            format!("SecRule ARGS \"@contains {word}\" \"id:100,phase:2,deny,status:403,log,msg:'{word}'\"");
        let loaded = load_texts(&[("test.conf", &text)], &LoadOptions::default()).unwrap();
        Arc::new(Program::compile(&loaded.rules, &CompileOptions::default()).unwrap())
    };
    let change = |_: &mut phalanx_edge::EdgeSettings, app: &mut phalanx_edge::AppPlan| {
        app.trust_forwarded = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
        app.program = Some(program("attack"));
        app.raised = Some(Arc::new(RaisedRules {
            app: names::app("shop"),
            level: 3,
            program: program("ta"),
            scope: None,
        }));
    };
    let mut node = Node::before(Upstream::start().await, change, DecidePlan::default());
    let ask = "/?q=tacit";
    assert_eq!(status(&node, "192.0.2.1", ask, "").await, 200);
    assert_eq!(event(&mut node).await.raised, None);
    // Of another app, and of this one.
    order_here(&node, DecisionKind::RaiseParanoia, Actor::Rules(names::app("other")));
    assert_eq!(status(&node, "192.0.2.1", ask, "").await, 200);
    assert_eq!(event(&mut node).await.raised, None);
    order_here(&node, DecisionKind::RaiseParanoia, Actor::Rules(names::app("shop")));
    assert_eq!(status(&node, "192.0.2.1", ask, "").await, 403);
    let refused = event(&mut node).await;
    let raised = refused.raised.unwrap();
    assert_eq!((raised.level, raised.decision), (3, DecisionId::from_parts(1, 1, 1)));
    assert!(raised.until_ms > refused.at_ms);
    assert_eq!(refused.verdict.reason, Reason::Rule { rule: 100 });
    // Nobody is refused for the order alone, and an order of the fleet is as good as the node's own.
    assert_eq!(status(&node, "192.0.2.1", "/?q=other", "").await, 200);
    assert_eq!(event(&mut node).await.raised, Some(raised));
    node.view.store(Arc::new(node.view.load().with_here([].into())));
    assert_eq!(status(&node, "192.0.2.1", ask, "").await, 200, "it has ended");
    node.order(DecisionKind::RaiseParanoia, Actor::Rules(names::app("shop")));
    assert_eq!(status(&node, "192.0.2.1", ask, "").await, 403);
}
