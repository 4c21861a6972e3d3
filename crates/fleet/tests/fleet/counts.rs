//! Counts of rate limits between nodes over a real server: who is believed, and who counts together.

use std::sync::Arc;
use std::time::Duration;

use phalanx_fleet::{CountReach, CountsTold, subject};
use phalanx_model::{Author, AuthorRole, Clock, CountBatch, CountOf, KeyCount, SystemClock};
use phalanx_trust::{Announcement, NodeRecord, SignedRecord, SigningKey, Statement};
use tokio::sync::broadcast::Receiver;

use crate::support::{FLEET, NatsServer, Node, NodePlan, gathered, until};

fn one(count: u32) -> KeyCount {
    KeyCount { limit: 1, key: 2, since: 3, count }
}

/// Tells until the other hears: core messages are for who listens, and listening starts in its own time.
async fn tells(from: &Node, heard: &mut Receiver<Arc<CountBatch>>, count: u32) -> Arc<CountBatch> {
    let telling = async {
        loop {
            from.fleet.tell_counts(CountsTold::ToAll, &[one(count)]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let hearing = async {
        loop {
            let batch = heard.recv().await.unwrap();
            if batch.counts == [one(count)] {
                return batch;
            }
        }
    };
    tokio::select! {
        batch = tokio::time::timeout(Duration::from_secs(20), hearing) => batch.unwrap(),
        () = telling => unreachable!(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_hears_what_others_count_and_not_itself() {
    let Some(mut server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("syd", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    let both = CountReach { known: 2, heard: 2, linked: true };
    until("what the other counts is heard", || a.fleet.reach() == both).await;
    let (mut at_a, mut at_b) = (a.fleet.counts(), b.fleet.counts());
    let batch = tells(&a, &mut at_b, 7).await;
    assert_eq!((&*batch.author.site, &*batch.author.node), ("fra", "a"));
    // A later process tells a later epoch.
    let a = a.restart().await;
    gathered(&[&a, &b]).await;
    let later = tells(&a, &mut at_b, 8).await;
    assert!(later.epoch > batch.epoch);
    assert!(at_a.try_recv().is_err(), "own counts do not come back");
    server.down();
    let alone = CountReach { known: 2, heard: 1, linked: false };
    until("a node without a link counts alone", || a.fleet.reach() == alone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_counts_alone() {
    let node = NodePlan::local("fra", "a").start().await;
    let mut heard = node.fleet.counts();
    node.fleet.tell_counts(CountsTold::ToAll, &[one(1)]).await;
    assert_eq!((node.fleet.reach().known, node.fleet.reach().heard), (1, 1));
    assert!(heard.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_in_anothers_name_without_a_key_or_long_ago_are_refused() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("fra", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let key = SigningKey::generate().unwrap();
    let thief = NodeRecord {
        site: "fra".into(),
        node: "thief".into(),
        version: "0.1.0".into(),
        node_key: key.verifying(),
        operator_key: None,
        roles: vec![],
        started_at_ms: SystemClock.now_ms(),
        enrol: vec![],
    };
    let announced = subject::of_node("fra", "thief");
    let announcement = Announcement::make(FLEET, &announced, &thief, &key, None).unwrap();
    client.publish(announced, announcement.to_bytes().unwrap().into()).await.unwrap();
    until("the thief is pinned", || a.fleet.members().iter().any(|member| &*member.node == "thief")).await;
    let mut heard = a.fleet.counts();
    let say = async |node: &str, under: &str, key: &SigningKey, age_ms: u64, body: Vec<u8>| {
        let author = Author { site: "fra".into(), node: node.into(), role: AuthorRole::Node };
        let (subject, version) = (subject::of_counts("fra", under), SystemClock.now_ms() - age_ms);
        let statement = Statement {
            fleet_id: FLEET,
            subject: &subject,
            author: &author,
            version,
            expires_at_ms: version + 60_000,
            body: &body,
        };
        let bytes = SignedRecord::sign(key, statement).to_bytes().unwrap();
        client.publish(subject, bytes.into()).await.unwrap();
        client.flush().await.unwrap();
    };
    let body = || CountBatch::to_bytes(CountOf::Node, 1, &[one(666)]);
    let refused = a.fleet.status().refused;
    say("b", "b", &key, 0, body()).await;
    say("thief", "b", &key, 0, body()).await;
    say("thief", "thief", &SigningKey::generate().unwrap(), 0, body()).await;
    say("thief", "thief", &key, 70_000, body()).await;
    say("thief", "thief", &key, 0, b"no counts".to_vec()).await;
    until("all five are refused", || a.fleet.status().refused == refused + 5).await;
    assert!(heard.try_recv().is_err());
    say("thief", "thief", &key, 0, CountBatch::to_bytes(CountOf::Node, 1, &[one(5)])).await;
    assert_eq!(
        heard.recv().await.unwrap().counts,
        [one(5)],
        "in its own name it is heard; limits bound what it claims"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sums_is_told_by_its_site_alone_and_only_who_may_lead_sums() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan { control: false, ..NodePlan::on("fra", "b", &server) }.start().await;
    let c = NodePlan::on("syd", "c", &server).start().await;
    gathered(&[&a, &b, &c]).await;
    assert_eq!((a.fleet.site_heard(), c.fleet.site_heard()), (2, 1));
    assert!(b.fleet.sums_for_site().is_none(), "a node without the control role may not lead");
    let (leads, elsewhere) = (a.fleet.sums_for_site().unwrap(), c.fleet.sums_for_site().unwrap());
    until("each site has one that sums", || leads.token().is_some() && elsewhere.token().is_some()).await;

    let (mut to_a, mut to_all) = (a.fleet.counts_to_sum(), c.fleet.counts());
    let telling = async {
        loop {
            c.fleet.tell_counts(CountsTold::ToSummer, &[one(9)]).await;
            b.fleet.tell_counts(CountsTold::ToSummer, &[one(7)]).await;
            b.fleet.tell_counts(CountsTold::Sums(u64::MAX), &[one(666)]).await;
            a.fleet.tell_counts(CountsTold::Sums(leads.token().unwrap_or_default()), &[one(8)]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let hearing = async {
        let batch = to_a.next().await;
        assert_eq!((&*batch.author.node, &batch.counts[..]), ("b", &[one(7)][..]), "of its own site");
        let sums = to_all.recv().await.unwrap();
        assert_eq!((&*sums.author.node, sums.of, &sums.counts[..]), ("a", CountOf::Site, &[one(8)][..]));
    };
    tokio::select! {
        heard = tokio::time::timeout(Duration::from_secs(20), hearing) => heard.unwrap(),
        () = telling => unreachable!(),
    }
    until("what the node without the role summed is refused", || c.fleet.status().refused > 0).await;
}
