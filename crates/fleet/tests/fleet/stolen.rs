//! One enrolled edge node's keys, certificate and login are stolen. With raw access to NATS they get nobody further than a node's
//! own name and authority. (Claims about counters join this list when counters are shared.)

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Auth, AuthError, Client, ConnectOptions, Event};
use phalanx_fleet::{Change, subject};
use phalanx_model::{Actor, Author, AuthorRole, DecisionKind};
use phalanx_trust::{Announcement, NodeRecord, Revocation, SignedRecord, SigningKey, Statement, tls};
use tokio::sync::mpsc;

use crate::enrolled::{Enrolled, Fleet, SHOPS, now};
use crate::support::{Node, forged, gathered, ip, until};

/// Somebody at the server with all that an edge node has.
pub(crate) struct Thief {
    of: Enrolled,
    pub(crate) client: Client,
    told: mpsc::Receiver<String>,
}

impl Thief {
    async fn enter(fleet: &Fleet, name: &str) -> Self {
        Self::enter_as(fleet, fleet.enrol("fra", name, false, false)).await
    }

    pub(crate) async fn enter_as(fleet: &Fleet, of: Enrolled) -> Self {
        Self::try_enter(fleet, of).await.unwrap()
    }

    pub(crate) async fn try_enter(fleet: &Fleet, of: Enrolled) -> Result<Self, async_nats::ConnectError> {
        let (tell, told) = mpsc::channel(64);
        let membership = Arc::clone(&of.membership);
        let options = ConnectOptions::with_auth_callback(move |nonce| {
            let membership = Arc::clone(&membership);
            async move {
                let mut auth = Auth::new();
                auth.jwt = Some(membership.held().grant.nats_login.clone());
                auth.signature = Some(membership.sign_nats(&nonce).to_vec());
                Ok::<Auth, AuthError>(auth)
            }
        });
        let client = options
            .require_tls(true)
            .tls_client_config(tls::member_client(&of.membership, "nats").unwrap())
            .custom_inbox_prefix(format!("_INBOX.fra.{}", of.name))
            .event_callback(move |event| {
                let tell = tell.clone();
                async move {
                    if let Event::ServerError(error) = event {
                        let _ = tell.send(error.to_string()).await;
                    }
                }
            })
            .connect(fleet.server.url())
            .await?;
        Ok(Self { of, client, told })
    }

    /// The server says that this is not allowed.
    pub(crate) async fn refused(&mut self, what: &str) {
        self.client.flush().await.unwrap();
        let told = tokio::time::timeout(Duration::from_secs(10), self.told.recv()).await;
        let told = told.unwrap_or_else(|_| panic!("{what} was not refused")).unwrap();
        assert!(told.to_lowercase().contains("permissions violation"), "{what}: {told}");
        assert!(told.contains(what), "{what}: {told}");
    }

    async fn announce(&self, operator: Option<&SigningKey>) {
        let grant = self.of.membership.held().grant.clone();
        let record = NodeRecord {
            site: "fra".into(),
            node: self.of.name.as_str().into(),
            version: "0.1.0".into(),
            node_key: self.of.node.verifying(),
            operator_key: operator.map(SigningKey::verifying),
            roles: vec![],
            started_at_ms: now(),
            enrol: vec![],
        };
        let subject = subject::of_node("fra", &self.of.name);
        let made = Announcement::make(SHOPS, &subject, &record, &self.of.node, None).unwrap();
        // The best it can do for an operator key is the certificate it has.
        let bytes = made.certified(&grant.chain, &grant.chain).to_bytes().unwrap();
        self.client.publish(subject, bytes.into()).await.unwrap();
        self.client.flush().await.unwrap();
    }

    fn record(&self, change: &Change, key: &SigningKey) -> Vec<u8> {
        let subject = change.subject();
        let body = serde_json::to_vec(change).unwrap();
        let statement = Statement {
            fleet_id: SHOPS,
            subject: &subject,
            author: change.author(),
            version: change.version(),
            expires_at_ms: change.expires_at_ms(),
            body: &body,
        };
        SignedRecord::sign(key, statement).to_bytes().unwrap()
    }

    async fn say(&self, change: &Change) {
        let bytes = self.record(change, &self.of.node);
        self.client.publish(change.subject(), bytes.into()).await.unwrap();
        self.client.flush().await.unwrap();
    }

    fn decided(
        &self,
        role: AuthorRole,
        actor: Actor,
        kind: DecisionKind,
        from_ms: u64,
        for_ms: u64,
    ) -> Change {
        let author = Author { site: "fra".into(), node: self.of.name.as_str().into(), role };
        decided(author, actor, kind, from_ms, for_ms)
    }
}

fn decided(author: Author, actor: Actor, kind: DecisionKind, from_ms: u64, for_ms: u64) -> Change {
    Change::Decided(Arc::new(forged(author, actor, kind, from_ms, for_ms)))
}

/// Sends something, and waits until the victim has refused one more record and believes no more than before.
async fn not_believed(what: &str, victim: &Node, sending: impl Future<Output = ()>) {
    let (before, decisions) = (victim.fleet.status().refused, victim.fleet.status().decisions);
    sending.await;
    until(what, || victim.fleet.status().refused > before).await;
    assert_eq!(victim.fleet.status().decisions, decisions, "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_can_be_neither_emptied_nor_changed_and_nobody_else_be_spoken_for() {
    let Some(fleet) = Fleet::start().await else { return };
    let (_own, victim) = fleet.first().await;
    victim.ban("198.51.100.1", 600_000);
    until("the victim's ban is in the stream", || victim.fleet.status().queue == 0).await;
    let mut thief = Thief::enter(&fleet, "thief").await;
    let denied = [
        "$JS.API.STREAM.PURGE.DEC_fra",
        "$JS.API.STREAM.DELETE.DEC_fra",
        "$JS.API.STREAM.UPDATE.DEC_fra",
        "$JS.API.STREAM.CREATE.DEC_syd",
        "$JS.API.STREAM.MSG.DELETE.DEC_fra",
        "$JS.API.STREAM.RESTORE.DEC_fra",
        "$JS.API.STREAM.SNAPSHOT.DEC_fra",
        "$JS.API.STREAM.LEADER.STEPDOWN.DEC_fra",
        "$JS.API.CONSUMER.NAMES.DEC_fra",
        "$JS.API.CONSUMER.LIST.DEC_fra",
        "$JS.API.CONSUMER.DURABLE.CREATE.DEC_fra.x",
        "$JS.API.ACCOUNT.PURGE.x",
        "$SYS.REQ.CLAIMS.UPDATE",
        "phx.dec.fra.a.ban.X",
        "phx.dec.syd.thief.ban.X",
        "phx.node.fra.a",
        "phx.node.fra.thief.x",
        "phx.hb.fra.a",
        "phx.ctr.fra.a",
        "phx.rev.fra.thief.fra.a",
        "phx.lease.job",
        "$O.PHXBLOB.M.x",
        "_INBOX.fra.a.x",
    ];
    for subject in denied {
        thief.client.publish(subject, "{}".into()).await.unwrap();
        thief.refused(subject).await;
    }
    // It may end readers, whose names are random; nobody tells it those of others.
    for subject in [">", "_INBOX.>", "_INBOX.fra.a.>", "$JS.API.>", "$JS.EVENT.>", "$SYS.>", "phx.>"] {
        let _listening = thief.client.subscribe(subject).await.unwrap();
        thief.refused(subject).await;
    }
    let fresh = fleet.run(&fleet.enrol("fra", "fresh", false, false), false).await;
    until("the stream still has what the victim wrote", || fresh.refuses("198.51.100.1")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_bans_narrowly_and_briefly_under_its_own_name_and_no_more() {
    let Some(fleet) = Fleet::start().await else { return };
    let (_own, victim) = fleet.first().await;
    let thief = Thief::enter(&fleet, "thief").await;
    thief.announce(None).await;
    until("a certified node is a member", || victim.fleet.members().len() == 2).await;
    let (at, hour) = (now(), 3_600_000);
    use AuthorRole::{Node as Edge, Operator};
    use DecisionKind::{Allow, Ban};
    thief.say(&thief.decided(Edge, ip("192.0.2.1"), Ban, at, hour)).await;
    until("what a node may say counts", || victim.refuses("192.0.2.1")).await;
    let wide = || Actor::prefix("192.0.2.0/24".parse().unwrap());
    for (what, change) in [
        ("an allow", thief.decided(Edge, ip("192.0.2.4"), Allow, at, hour)),
        ("a wide ban", thief.decided(Edge, wide(), Ban, at, hour)),
        ("a long ban", thief.decided(Edge, ip("192.0.2.5"), Ban, at, 25 * hour)),
        ("a ban from the future", thief.decided(Edge, ip("192.0.2.6"), Ban, at + 120_000, hour)),
    ] {
        not_believed(what, &victim, thief.say(&change)).await;
    }
    // An operator of that name is unknown: such records wait for an announcement, which never comes to be believed.
    thief.say(&thief.decided(Operator, ip("192.0.2.7"), Allow, at, hour)).await;
    let operator = SigningKey::generate().unwrap();
    not_believed("an operator key without a certificate", &victim, thief.announce(Some(&operator))).await;
    not_believed("its own key as an operator's", &victim, thief.announce(Some(&thief.of.node))).await;
    assert_eq!(victim.fleet.status().decisions, 1);
    assert!(victim.fleet.status().degraded.join("").contains("without a valid certificate"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_revokes_nobody() {
    let Some(fleet) = Fleet::start().await else { return };
    let (_own, victim) = fleet.first().await;
    let b = fleet.run(&fleet.enrol("fra", "b", false, false), false).await;
    gathered(&[&victim, &b]).await;
    // The server lets this one through, because it is a control node's login; but its operator key was not stolen with it.
    let thief = Thief::enter_as(&fleet, fleet.enrol("fra", "thief", true, false)).await;
    thief.announce(None).await;
    until("a certified node is a member", || victim.fleet.members().len() == 3).await;
    let revocation = Revocation {
        node_key: None,
        site: "fra".into(),
        node: "b".into(),
        up_to_ms: now(),
        delegation_up_to_ms: 0,
        control: false,
        withdraw: true,
        reason: String::new(),
    };
    let body = serde_json::to_vec(&revocation).unwrap();
    for role in [AuthorRole::Operator, AuthorRole::Node] {
        let author = Author { site: "fra".into(), node: "thief".into(), role };
        let subject = subject::of_revocation(&author, &revocation);
        let statement = Statement {
            fleet_id: SHOPS,
            subject: &subject,
            author: &author,
            version: now() << 16,
            expires_at_ms: now() + 60_000,
            body: &body,
        };
        let record = SignedRecord::sign(&thief.of.node, statement).to_bytes().unwrap();
        let sending = async {
            thief.client.publish(subject.clone(), record.into()).await.unwrap();
            thief.client.flush().await.unwrap();
        };
        match role {
            // An operator of that name is unknown; the record waits for an announcement that is never believed.
            AuthorRole::Operator => sending.await,
            AuthorRole::Node => not_believed("a node revokes", &victim, sending).await,
        }
    }
    b.ban("192.0.2.1", 600_000);
    until("the node goes on", || victim.refuses("192.0.2.1")).await;
    assert!(victim.fleet.members().iter().any(|member| &*member.node == "b"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_records_are_no_use_against_a_joiner_with_nothing() {
    let Some(fleet) = Fleet::start().await else { return };
    let (_own, victim) = fleet.first().await;
    let thief = Thief::enter(&fleet, "thief").await;
    thief.announce(None).await;
    until("it is a member", || victim.fleet.members().len() == 2).await;
    let old = now() - 7_200_000;
    let expired = thief.decided(AuthorRole::Node, ip("192.0.2.1"), DecisionKind::Ban, old, 3_600_000);
    let jetstream = async_nats::jetstream::new(thief.client.clone());
    let bytes = thief.record(&expired, &thief.of.node);
    let kept = jetstream.publish(expired.subject(), bytes.into()).await.unwrap().await;
    assert!(kept.is_ok(), "it lies in the stream: {kept:?}");
    let fresh_keys = fleet.enrol("fra", "fresh", false, false);
    let fresh = fleet.run(&fresh_keys, false).await;
    gathered(&[&fresh]).await;
    let marker = thief.decided(AuthorRole::Node, ip("192.0.2.2"), DecisionKind::Ban, now(), 600_000);
    thief.say(&marker).await;
    until("the joiner is current", || fresh.refuses("192.0.2.2")).await;
    assert!(!fresh.refuses("192.0.2.1"));
    assert_eq!(fresh.fleet.status().decisions, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_much_it_writes_displaces_nobody_elses_decisions() {
    let Some(fleet) = Fleet::start().await else { return };
    let (_own, victim) = fleet.first().await;
    victim.ban("198.51.100.1", 600_000);
    let mut thief = Thief::enter(&fleet, "thief").await;
    thief.announce(None).await;
    until("it is a member", || victim.fleet.members().len() == 2).await;
    let at = now();
    const COUNT: u32 = 5_000;
    for n in 0..COUNT {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + n);
        let change =
            thief.decided(AuthorRole::Node, ip(&address.to_string()), DecisionKind::Ban, at, 3_600_000);
        let bytes = thief.record(&change, &thief.of.node);
        thief.client.publish(change.subject(), bytes.into()).await.unwrap();
    }
    thief.client.flush().await.unwrap();
    until("all count under its own name", || victim.fleet.status().decisions > COUNT as usize).await;
    victim.ban("198.51.100.2", 600_000);
    let other = Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Node };
    let forged = decided(other, ip("198.51.100.3"), DecisionKind::Ban, now(), 600_000);
    let bytes = thief.record(&forged, &thief.of.node);
    thief.client.publish(forged.subject(), bytes.into()).await.unwrap();
    thief.refused("phx.dec.fra.a.ban").await;
    let held = |ip| victim.refuses(ip);
    assert!(held("198.51.100.1") && held("198.51.100.2") && !held("198.51.100.3"));
}
