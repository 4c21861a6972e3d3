//! Raw access to the server, without and with a stolen node key, gets nobody further than that key's authority.

use std::sync::Arc;

use phalanx_fleet::{Change, FleetKeys, subject};
use phalanx_model::{
    Actor, Author, AuthorRole, Clock, DecisionId, DecisionKind, Recall, SystemClock, Withdrawal,
};
use phalanx_trust::{Announcement, FleetSecret, NodeRecord, Sealer, SignedRecord, SigningKey, Statement};

use crate::support::{FLEET, NatsServer, Node, NodePlan, forged, gathered, ip, until};

/// Somebody with a connection to the server and, as `fra/thief`, a pinned node key but no operator key.
struct Thief {
    client: async_nats::Client,
    key: SigningKey,
}

impl Thief {
    async fn enter(server: &NatsServer, victim: &Node) -> Self {
        let client = async_nats::connect(server.url()).await.unwrap();
        let key = SigningKey::generate().unwrap();
        let thief = Self { client, key };
        thief.announce("thief", &thief.key, None).await;
        until("the thief's node is pinned", || {
            victim.fleet.members().iter().any(|member| &*member.node == "thief")
        })
        .await;
        thief
    }

    async fn announce(&self, node: &str, key: &SigningKey, operator: Option<&SigningKey>) {
        let record = NodeRecord {
            site: "fra".into(),
            node: node.into(),
            version: "0.1.0".into(),
            node_key: key.verifying(),
            operator_key: operator.map(SigningKey::verifying),
            roles: vec![],
            started_at_ms: SystemClock.now_ms(),
            enrol: vec![],
        };
        let subject = subject::of_node("fra", node);
        let announcement = Announcement::make(FLEET, &subject, &record, key, None).unwrap();
        self.client.publish(subject, announcement.to_bytes().unwrap().into()).await.unwrap();
        self.client.flush().await.unwrap();
    }

    async fn say(&self, change: &Change, key: &SigningKey, forge: impl FnOnce(&mut SignedRecord)) {
        let subject = change.subject();
        let body = serde_json::to_vec(change).unwrap();
        let statement = Statement {
            fleet_id: FLEET,
            subject: &subject,
            author: change.author(),
            version: change.version(),
            expires_at_ms: change.expires_at_ms(),
            body: &body,
        };
        let mut record = SignedRecord::sign(key, statement);
        forge(&mut record);
        self.client.publish(subject, record.to_bytes().unwrap().into()).await.unwrap();
        self.client.flush().await.unwrap();
    }
}

fn author(node: &str, role: AuthorRole) -> Author {
    Author { site: "fra".into(), node: node.into(), role }
}

/// Sends a change, and waits until the victim has refused one more record.
async fn refused(what: &str, victim: &Node, sending: impl Future<Output = ()>) {
    let before = victim.fleet.status().refused;
    let decisions = victim.fleet.status().decisions;
    sending.await;
    until(what, || victim.fleet.status().refused > before).await;
    assert_eq!(victim.fleet.status().decisions, decisions, "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_records_are_refused_and_a_stolen_node_key_bans_narrowly_and_briefly_only() {
    let Some(server) = NatsServer::start().await else { return };
    let victim = NodePlan::on("fra", "a", &server).start().await;
    gathered(&[&victim]).await;
    let kept = victim.ban("198.51.100.1", 600_000);
    let thief = Thief::enter(&server, &victim).await;
    let now = SystemClock.now_ms();
    let hour = 3_600_000;
    let own = || author("thief", AuthorRole::Node);
    let ban = |actor, at_ms, for_ms| {
        Change::Decided(Arc::new(forged(own(), actor, DecisionKind::Ban, at_ms, for_ms)))
    };
    let key = &thief.key;

    let good = ban(ip("192.0.2.1"), now, hour);
    thief.say(&good, key, |_| {}).await;
    until("what its key may say counts", || victim.refuses("192.0.2.1")).await;

    let other = SigningKey::generate().unwrap();
    refused("wrong key", &victim, thief.say(&ban(ip("192.0.2.2"), now, hour), &other, |_| {})).await;
    let renamed = |record: &mut SignedRecord| record.key_id = key.verifying().id();
    refused(
        "wrong key under the right name",
        &victim,
        thief.say(&ban(ip("192.0.2.2"), now, hour), &other, renamed),
    )
    .await;
    let foreign = |record: &mut SignedRecord| record.fleet_id = "otherfleet".into();
    refused("another fleet", &victim, thief.say(&ban(ip("192.0.2.3"), now, hour), key, foreign)).await;
    let longer = |record: &mut SignedRecord| record.expires_at_ms += 1;
    refused("altered", &victim, thief.say(&ban(ip("192.0.2.3"), now, hour), key, longer)).await;

    let allow = forged(own(), ip("192.0.2.4"), DecisionKind::Allow, now, hour);
    refused("a node allows", &victim, thief.say(&Change::Decided(Arc::new(allow)), key, |_| {})).await;
    let wide = Actor::prefix("192.0.2.0/24".parse().unwrap());
    refused("a node bans widely", &victim, thief.say(&ban(wide, now, hour), key, |_| {})).await;
    refused("a node bans for long", &victim, thief.say(&ban(ip("192.0.2.5"), now, 25 * hour), key, |_| {}))
        .await;
    refused("far future", &victim, thief.say(&ban(ip("192.0.2.6"), now + 120_000, hour), key, |_| {})).await;
    let mut early = forged(own(), ip("192.0.2.6"), DecisionKind::Ban, now, hour);
    early.version = (now + 120_000) << 16;
    refused("far future version", &victim, thief.say(&Change::Decided(Arc::new(early)), key, |_| {})).await;

    let operator = author("thief", AuthorRole::Operator);
    let grand = Change::Decided(Arc::new(forged(operator, ip("192.0.2.7"), DecisionKind::Ban, now, hour)));
    thief.say(&grand, key, |_| {}).await;
    let as_victim = Change::Decided(Arc::new(forged(
        author("a", AuthorRole::Node),
        ip("192.0.2.8"),
        DecisionKind::Ban,
        now,
        hour,
    )));
    refused("under another's name", &victim, thief.say(&as_victim, key, |_| {})).await;

    let withdraw = |role| {
        Change::Withdrawn(Arc::new(Withdrawal {
            id: DecisionId::from_parts(now, 1, 2),
            actor: kept.actor.clone(),
            author: author("thief", role),
            up_to_version: SystemClock.now_ms() << 16,
            reason: "forged".into(),
            created_at_ms: now,
            expires_at_ms: SystemClock.now_ms() + 24 * hour + 1_000,
        }))
    };
    let recall = Change::Recalled(Arc::new(Recall {
        id: DecisionId::from_parts(now, 1, 3),
        target: kept.author.clone(),
        author: author("thief", AuthorRole::Node),
        up_to_version: now << 16,
        reason: "forged".into(),
        created_at_ms: now,
        expires_at_ms: now + 24 * hour + 1_000,
    }));
    refused("a node recalls", &victim, thief.say(&recall, key, |_| {})).await;
    // A node's withdrawal is in order, and ends only its own.
    thief.say(&withdraw(AuthorRole::Node), key, |_| {}).await;
    refused("barrier", &victim, thief.say(&ban(ip("192.0.2.9"), now, 25 * hour), key, |_| {})).await;
    assert!(victim.refuses("198.51.100.1"), "others' bans stand");
    assert!(!victim.refuses("192.0.2.7"), "nobody is an operator by saying so");

    thief.announce("thief", key, Some(&other)).await;
    until("an operator key announced later is refused and named", || {
        victim.fleet.status().degraded.join("").contains("fra/thief has another key")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_version_replayed_changes_nothing() {
    let Some(server) = NatsServer::start().await else { return };
    let victim = NodePlan::on("fra", "a", &server).start().await;
    gathered(&[&victim]).await;
    let thief = Thief::enter(&server, &victim).await;
    let now = SystemClock.now_ms();
    let ban = |at_ms, for_ms| {
        let own = author("thief", AuthorRole::Node);
        Change::Decided(Arc::new(forged(own, ip("192.0.2.1"), DecisionKind::Ban, at_ms, for_ms)))
    };
    let (old, new) = (ban(now - 10_000, 7_200_000), ban(now, 3_600_000));
    thief.say(&new, &thief.key, |_| {}).await;
    until("the ban counts", || victim.refuses("192.0.2.1")).await;
    thief.say(&old, &thief.key, |_| {}).await;
    // Something after it in the same stream of messages shows that it has been looked at.
    refused("barrier", &victim, thief.say(&ban(now, 90_000_000), &SigningKey::generate().unwrap(), |_| {}))
        .await;
    assert_eq!(victim.fleet.list(now, 1)[0].expires_at_ms, now + 3_600_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_on_every_subject_disturbs_nothing() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("fra", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let bodies: [&[u8]; 5] = [b"", b"{}", b"\xff\xfe\x00", b"[[[[[[[[[[[[", &[b'a'; 60_000]];
    for body in bodies {
        for subject in
            ["phx.dec.fra.a.ban.X", "phx.node.fra.a", "phx.hb.fra.a", "phx.dec.x", "phx.node.fra.b.c"]
        {
            client.publish(subject, body.to_vec().into()).await.unwrap();
        }
    }
    client.flush().await.unwrap();
    until("rubbish is counted", || a.fleet.status().refused >= 20).await;
    a.ban("192.0.2.1", 600_000);
    until("bans go on", || b.refuses("192.0.2.1")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_the_fleet_secret_is_not_admitted() {
    let Some(server) = NatsServer::start().await else { return };
    const SECRET: &[u8] = b"correct horse battery staple";
    let a = NodePlan { secret: Some(SECRET), ..NodePlan::on("fra", "a", &server) }.start().await;
    let b = NodePlan { secret: Some(SECRET), ..NodePlan::on("fra", "b", &server) }.start().await;
    gathered(&[&a, &b]).await;
    let stranger = NodePlan::on("fra", "stranger", &server).start().await;
    until("the stranger is refused and named", || {
        a.fleet.status().degraded.join("").contains("without the fleet secret")
    })
    .await;
    stranger.ban("192.0.2.1", 600_000);
    until("the stranger's ban is confirmed by the stream", || stranger.fleet.status().queue == 0).await;
    a.ban("192.0.2.2", 600_000);
    until("the fleet goes on", || b.refuses("192.0.2.2")).await;
    assert!(!a.refuses("192.0.2.1") && !b.refuses("192.0.2.1"));
    assert_eq!(a.fleet.members().len(), 2);
    assert_eq!(format!("{:?}", FleetSecret::from_bytes(SECRET)), "FleetSecret(..)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_with_another_key_is_refused_until_an_operator_forgets_it() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("fra", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    b.ban("192.0.2.50", 600_000);
    a.ban("192.0.2.51", 600_000);
    until("bans go both ways", || a.refuses("192.0.2.50") && b.refuses("192.0.2.51")).await;
    b.fleet.withdraw(Actor::ip("192.0.2.51".parse().unwrap()), "was me").unwrap();
    until("the withdrawal arrives", || !a.refuses("192.0.2.51")).await;
    let (state, plan) = b.stop().await;
    let folder = state.path();
    for file in ["node.key", "operator.key", "fleet.redb"] {
        std::fs::remove_file(folder.join(file)).unwrap();
    }
    let sealer = Sealer::load_or_create(&folder.join("seal.key")).unwrap();
    drop(FleetKeys::load_or_create(folder, &sealer, true).unwrap());
    let b = plan.start_in(state).await;
    until("the new key is refused and named", || {
        a.fleet.status().degraded.join("").contains("fra/b has another key than the one pinned")
    })
    .await;
    b.ban("192.0.2.1", 600_000);
    let before = a.fleet.status().refused;
    until("its records are refused", || a.fleet.status().refused > before).await;
    assert!(!a.refuses("192.0.2.1"));
    assert!(a.fleet.forget_node("fra", "b").unwrap());
    until("after that it counts", || a.refuses("192.0.2.1")).await;
    until("what it had ordered before is in force there again", || b.refuses("192.0.2.50")).await;
    assert!(!b.refuses("192.0.2.51"), "and what it had ended is not");
    assert_eq!(a.fleet.status().degraded, Vec::<String>::new());
}
