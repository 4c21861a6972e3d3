//! Accounts of operators at several control nodes: who has them, how soon, and who never gets them or is never believed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use phalanx_fleet::subject;
use phalanx_model::{Author, AuthorRole, Clock, SystemClock};
use phalanx_trust::passkey::{MadePasskey, PasskeyPublic};
use phalanx_trust::{
    By, NewOperator, OpeningKey, Operator, OperatorChange, OperatorToken, Operators, PasswordHash, Role,
    Sealer, SignedRecord, SigningKey, Statement, TotpSecret,
};

use crate::enrolled::Fleet;
use crate::support::{NatsServer, Node, NodePlan, gathered, until};

const PASSWORD: &str = "correct horse battery";

/// It is well below a second; the rest is room for a machine on which other tests run.
const SOON: Duration = Duration::from_secs(5);

/// The accounts of a node, shared as far as it shares any.
fn operators(node: &Node) -> Arc<Operators> {
    let sealer = Arc::new(Sealer::load_or_create(&node.state.path().join("seal.key")).unwrap());
    let operators = Operators::load(&node.state.path().join("operators.sealed"), sealer).unwrap();
    let operators = Arc::new(operators);
    node.fleet.share_operators(&operators).unwrap();
    operators
}

fn add(operators: &Operators, name: &str) -> Operator {
    let (role, apps, by, on) = (Role::Owner, Vec::new(), "local socket".into(), "fra/a".into());
    operators.add(NewOperator { name: name.into(), role, apps, by, on }, SystemClock.now_ms()).unwrap()
}

fn disable(operators: &Operators, id: &str) {
    let change = OperatorChange { disabled: Some(true), ..OperatorChange::default() };
    operators.change(id, change, By::Node).unwrap();
}

fn same(all: &[&Arc<Operators>]) -> bool {
    all.windows(2).all(|pair| pair[0].list() == pair[1].list())
}

/// A node of a fleet with a secret.
async fn node(server: &NatsServer, site: &str, name: &str) -> Node {
    NodePlan { secret: Some(b"a secret of some length"), ..NodePlan::on(site, name, server) }.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_made_at_one_node_counts_at_all_soon_and_outlives_the_node() {
    let Some(server) = NatsServer::start().await else { return };
    let wire = async_nats::connect(server.url()).await.unwrap();
    let mut wire = wire.subscribe("phx.opr.>").await.unwrap();
    let (a, b, c) =
        (node(&server, "fra", "a").await, node(&server, "fra", "b").await, node(&server, "syd", "c").await);
    gathered(&[&a, &b, &c]).await;
    let (on_a, on_b, on_c) = (operators(&a), operators(&b), operators(&c));
    // They know each other: what one has, the others get.
    let first = add(&on_a, "first");
    until("all have it", || same(&[&on_a, &on_b, &on_c])).await;
    let (hash, totp) = (PasswordHash::of(PASSWORD).unwrap(), TotpSecret::fresh());
    let started = Instant::now();
    let id = add(&on_a, "alice").id;
    on_a.set_password(&on_a.get(&id).unwrap(), &hash, (&totp, 0)).unwrap();
    until("all have her password", || {
        [&on_b, &on_c].iter().all(|on| on.get(&id).is_some_and(|one| one.password))
    })
    .await;
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    let now_ms = SystemClock.now_ms();
    let code = totp.code(now_ms / 30_000);
    assert!(on_b.by_password("alice", PASSWORD, &code, now_ms).is_some());
    until("the code is spent everywhere", || {
        !on_c.proves(&id, &code, now_ms) && !on_a.proves(&id, &code, now_ms)
    })
    .await;
    // Where it was made is gone for good.
    drop(on_a);
    a.stop().await;
    let started = Instant::now();
    disable(&on_b, &id);
    on_b.remove(&first.id, By::Node, SystemClock.now_ms()).unwrap();
    until("the other knows", || on_c.get(&id).unwrap().disabled && on_c.get(&first.id).is_none()).await;
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    drop(on_c);
    let c = c.restart().await;
    let on_c = operators(&c);
    assert!(on_c.get(&id).unwrap().disabled && on_c.list().len() == 1, "it is on disk");
    // A node that comes new has all.
    let late = node(&server, "iad", "d").await;
    gathered(&[&b, &c, &late]).await;
    let on_late = operators(&late);
    until("a new node has all", || same(&[&on_b, &on_late])).await;
    let mut heard = 0;
    while let Ok(Some(message)) = tokio::time::timeout(Duration::from_millis(200), wire.next()).await {
        heard += 1;
        let shows = |secret: &[u8]| message.payload.windows(secret.len()).any(|window| window == secret);
        assert!(!shows(b"alice") && !shows(data_encoding::BASE64.encode(b"\"alice\"").as_bytes()));
    }
    assert!(heard > 8, "the test listens to the right subjects");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_sides_of_a_cut_changed_is_one_when_they_meet() {
    let Some(mut server) = NatsServer::start().await else { return };
    let (a, b) = (node(&server, "fra", "a").await, node(&server, "syd", "b").await);
    gathered(&[&a, &b]).await;
    let (on_a, on_b) = (operators(&a), operators(&b));
    let id = add(&on_a, "alice").id;
    until("both have it", || same(&[&on_a, &on_b]) && on_b.get(&id).is_some()).await;
    server.down();
    disable(&on_a, &id);
    for role in [Role::Viewer, Role::Editor] {
        on_b.change(&id, OperatorChange { role: Some(role), ..OperatorChange::default() }, By::Node).unwrap();
    }
    let bob = add(&on_b, "bob").id;
    server.up().await;
    until("both have the same", || same(&[&on_a, &on_b]) && on_a.get(&bob).is_some()).await;
    let alice = on_b.get(&id).unwrap();
    assert!(alice.disabled && alice.role == Role::Editor);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_anybody_may_join_accounts_stay_a_nodes_own() {
    let Some(server) = NatsServer::start().await else { return };
    let (a, b) =
        (NodePlan::on("fra", "a", &server).start().await, NodePlan::on("fra", "b", &server).start().await);
    let wire = async_nats::connect(server.url()).await.unwrap();
    let mut wire = wire.subscribe("phx.opr.>").await.unwrap();
    gathered(&[&a, &b]).await;
    let (on_a, on_b) = (operators(&a), operators(&b));
    add(&on_a, "alice");
    assert!(tokio::time::timeout(Duration::from_millis(700), wire.next()).await.is_err(), "nothing is said");
    assert!(on_b.list().is_empty());
}

/// Says something under a subject, signed with a key.
async fn say(
    client: &async_nats::Client,
    (author, key): (&Author, &SigningKey),
    (fleet_id, subject): (&str, &str),
    body: &[u8],
) {
    let now_ms = SystemClock.now_ms();
    let (version, expires_at_ms) = (now_ms << 16, now_ms + 60_000);
    let record =
        SignedRecord::sign(key, Statement { fleet_id, subject, author, version, expires_at_ms, body });
    client.publish(subject.to_owned(), record.to_bytes().unwrap().into()).await.unwrap();
    client.flush().await.unwrap();
}

/// What a control node says of itself.
fn says(key: &OpeningKey) -> Vec<u8> {
    let key = data_encoding::HEXLOWER.encode(key.public());
    serde_json::json!({ "key": key, "digest": "00".repeat(32) }).to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_nodes_key_gets_no_account_and_puts_none_in_force() {
    let Some(server) = NatsServer::start().await else { return };
    let a = node(&server, "fra", "a").await;
    let edge = NodePlan {
        secret: Some(b"a secret of some length"),
        control: false,
        ..NodePlan::on("fra", "e", &server)
    };
    let edge = edge.start().await;
    gathered(&[&a, &edge]).await;
    let (on_a, on_edge) = (operators(&a), operators(&edge));
    add(&on_a, "alice");
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut given = client.subscribe("phx.opr.fra.a.*.*").await.unwrap();
    let sealer = Sealer::load_or_create(&edge.state.path().join("seal.key")).unwrap();
    let key = SigningKey::load_or_create(&edge.state.path().join("node.key"), &sealer).unwrap();
    let own = OpeningKey::generate().unwrap();
    let (said, gift) = (subject::of_operators("fra", "e"), subject::of_account("fra", "e", "fra", "a"));
    // With its node key as what it is, as what it is not, and for somebody else.
    for (node, role, subject) in [
        ("e", AuthorRole::Node, &said),
        ("e", AuthorRole::Operator, &said),
        ("a", AuthorRole::Operator, &said),
        ("e", AuthorRole::Node, &gift),
        ("e", AuthorRole::Operator, &gift),
    ] {
        let before = a.fleet.status().refused;
        let author = Author { site: "fra".into(), node: node.into(), role };
        say(&client, (&author, &key), (crate::support::FLEET, subject), &says(&own)).await;
        let named_itself = node == "e" && role == AuthorRole::Operator;
        if !named_itself {
            until("it is refused", || a.fleet.status().refused > before).await;
        }
    }
    assert!(
        tokio::time::timeout(Duration::from_millis(700), given.next()).await.is_err(),
        "nothing is given"
    );
    assert!(on_edge.list().is_empty() && on_a.list().len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_control_node_gets_and_changes_nothing_more_and_the_passwords_it_knew_are_void() {
    let Some(fleet) = Fleet::start().await else { return };
    let (_, a) = fleet.first().await;
    let (second, thief) = (fleet.enrol("fra", "b", true, false), fleet.enrol("fra", "t", true, false));
    let (b, t) = (fleet.run(&second, false).await, fleet.run(&thief, false).await);
    gathered(&[&a, &b, &t]).await;
    let (on_a, on_b, on_t) = (operators(&a), operators(&b), operators(&t));
    let id = add(&on_a, "alice").id;
    let (hash, totp) = (PasswordHash::of(PASSWORD).unwrap(), TotpSecret::fresh());
    on_a.set_password(&on_a.get(&id).unwrap(), &hash, (&totp, 0)).unwrap();
    let all = [&on_a, &on_b, &on_t];
    until("all three have her", || all.iter().all(|on| on.get(&id).is_some_and(|one| one.password))).await;
    // Its link is not cut in this test: it goes on listening and speaking.
    a.fleet.revoke("fra", "t", false, "stolen").await.unwrap();
    until("what it knew counts no more", || [&on_a, &on_b].iter().all(|on| !on.get(&id).unwrap().password))
        .await;
    let before = a.fleet.status().refused;
    let forged = add(&on_t, "mallory").id;
    on_t.change(&id, OperatorChange { role: Some(Role::Viewer), ..OperatorChange::default() }, By::Node)
        .unwrap();
    until("what it says is refused", || a.fleet.status().refused > before).await;
    let bob = add(&on_a, "bob").id;
    until("who stays has the next", || on_b.get(&bob).is_some()).await;
    assert!(on_t.get(&bob).is_none());
    assert!(
        [&on_a, &on_b].iter().all(|on| on.get(&forged).is_none() && on.get(&id).unwrap().role == Role::Owner)
    );
}

/// What a thief plants at a control node that he has, before anybody knows.
fn plant(on: &Operators, id: &str) -> (String, String) {
    let made = MadePasskey { id: b"planted".to_vec(), public: PasskeyPublic::EdDsa(vec![6; 32]), signed: 0 };
    let place = ("laptop".to_owned(), "localhost".to_owned());
    on.add_passkey(&on.get(id).unwrap(), made, place, SystemClock.now_ms()).unwrap();
    let created_at_ms = SystemClock.now_ms();
    let (role, apps, expires_at_ms) = (Role::Owner, Vec::new(), created_at_ms + 600_000);
    let token = OperatorToken { name: "planted".into(), role, apps, created_at_ms, expires_at_ms };
    let token = on.add_token(&on.get(id).unwrap(), token).unwrap().to_string();
    (phalanx_trust::passkey::base64url(b"planted"), token)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_thief_planted_is_gone_although_his_node_was_forgotten_before_it_was_revoked() {
    let Some(fleet) = Fleet::start().await else { return };
    let (_, a) = fleet.first().await;
    let (second, thief) = (fleet.enrol("fra", "b", true, false), fleet.enrol("fra", "t", true, false));
    let (b, t) = (fleet.run(&second, false).await, fleet.run(&thief, false).await);
    gathered(&[&a, &b, &t]).await;
    let (on_a, on_b, on_t) = (operators(&a), operators(&b), operators(&t));
    let (id, bob) = (add(&on_a, "alice").id, add(&on_a, "bob").id);
    let viewer = OperatorChange { role: Some(Role::Viewer), ..OperatorChange::default() };
    on_a.change(&bob, viewer, By::Node).unwrap();
    let (hash, totp) = (PasswordHash::of(PASSWORD).unwrap(), TotpSecret::fresh());
    let honest = [&on_a, &on_b];
    let all = [&on_a, &on_b, &on_t];
    until("all have both", || same(&all) && on_t.get(&bob).is_some_and(|bob| bob.role == Role::Viewer)).await;
    on_a.set_password(&on_a.get(&id).unwrap(), &hash, (&totp, 0)).unwrap();
    let (passkey, token) = plant(&on_t, &id);
    on_t.change(&bob, OperatorChange { role: Some(Role::Owner), ..OperatorChange::default() }, By::Node)
        .unwrap();
    let now_ms = SystemClock.now_ms();
    until("it counts", || {
        honest.iter().all(|on| {
            let planted =
                on.by_token(&token, now_ms).is_some() && on.passkey(&passkey, "localhost").is_some();
            planted && on.get(&bob).unwrap().role == Role::Owner && on.get(&id).unwrap().password
        })
    })
    .await;
    // Its role is known no more where it is revoked.
    t.stop().await;
    a.fleet.forget_node("fra", "t").unwrap();
    a.fleet.revoke("fra", "t", false, "stolen").await.unwrap();
    until("it counts no more", || {
        honest.iter().all(|on| {
            let planted =
                on.by_token(&token, now_ms).is_some() || on.passkey(&passkey, "localhost").is_some();
            !planted && on.get(&bob).unwrap().disabled && !on.get(&id).unwrap().password
        })
    })
    .await;
    // Who sets a password now knows of it.
    on_b.set_password(&on_b.get(&id).unwrap(), &hash, (&totp, 0)).unwrap();
    until("it counts at the other", || on_a.get(&id).unwrap().password).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_was_heard_while_nobody_shared_accounts_counts_before_anybody_gets_in() {
    let Some(fleet) = Fleet::start().await else { return };
    let (_, a) = fleet.first().await;
    let (second, thief) = (fleet.enrol("fra", "b", true, false), fleet.enrol("fra", "t", true, false));
    let (b, t) = (fleet.run(&second, false).await, fleet.run(&thief, false).await);
    gathered(&[&a, &b, &t]).await;
    let (on_b, on_t) = (operators(&b), operators(&t));
    let id = add(&on_t, "alice").id;
    until("it is told", || on_b.get(&id).is_some()).await;
    let (hash, totp) = (PasswordHash::of(PASSWORD).unwrap(), TotpSecret::fresh());
    on_b.set_password(&on_b.get(&id).unwrap(), &hash, (&totp, 0)).unwrap();
    drop(on_b);
    b.stop().await;
    a.fleet.revoke("fra", "t", false, "stolen").await.unwrap();
    let b = fleet.run(&second, false).await;
    let heard = || b.fleet.revocations().borrow().iter().any(|one| &*one.node == "t" && one.control);
    until("the revocation is heard", heard).await;
    let on_b = operators(&b);
    assert!(!on_b.get(&id).unwrap().password);
    // The same again from what the node remembers, and nothing that was set since is lost.
    assert!(on_b.get(&id).unwrap().disabled, "his role came by the thief");
    let enabled = OperatorChange { disabled: Some(false), ..OperatorChange::default() };
    on_b.change(&id, enabled, By::Node).unwrap();
    on_b.set_password(&on_b.get(&id).unwrap(), &hash, (&totp, 0)).unwrap();
    drop(on_b);
    b.stop().await;
    let b = fleet.run(&second, false).await;
    let on_b = operators(&b);
    assert!(on_b.get(&id).unwrap().password && !on_b.get(&id).unwrap().disabled);
}
