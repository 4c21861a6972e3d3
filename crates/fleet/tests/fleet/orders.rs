//! Orders about nodes: who may give them, and that none is lost or comes back.

use std::time::{Duration, Instant};

use phalanx_fleet::{Duty, FleetError, NodeOrder, subject};
use phalanx_model::{Author, AuthorRole, Clock, SystemClock};
use phalanx_trust::{SignedRecord, SigningKey, Statement};

use crate::support::{FLEET, NatsServer, Node, NodePlan, gathered, until};

fn duty(node: &Node) -> Duty {
    node.fleet.duty().borrow().as_ref().map(|standing| standing.order.duty).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_reaches_its_node_at_once_and_the_newest_counts_through_restarts_and_a_lost_stream() {
    let Some(mut server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("syd", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    let ordered = Instant::now();
    a.fleet.order_node("syd", "b", Duty::Drain, "new kernel").await.unwrap();
    until("the node knows", || duty(&b) == Duty::Drain).await;
    println!("an order was with its node after {:?}", ordered.elapsed());
    assert!(ordered.elapsed() < Duration::from_secs(1));
    assert_eq!(b.fleet.lease("job", Duration::from_secs(2)).await.unwrap(), None, "it takes no lease");
    b.fleet.report_drained(true);
    until("the other sees it drained", || a.fleet.members().iter().any(|member| member.drained)).await;

    b.fleet.order_node("syd", "b", Duty::Serve, "").await.unwrap();
    until("the other knows", || a.fleet.members().iter().all(|member| member.duty == Duty::Serve)).await;
    server.down();
    server.wipe();
    server.up().await;
    let (a, b) = (a.restart().await, b.restart().await);
    gathered(&[&a, &b]).await;
    assert_eq!(duty(&b), Duty::Serve, "the older order does not come back");
    assert!(b.fleet.lease("job", Duration::from_secs(2)).await.unwrap().is_some());
    let unknown = a.fleet.order_node("iad", "c", Duty::Drain, "").await;
    assert!(matches!(unknown, Err(FleetError::NoSuchAuthor(_))), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_key_orders_nobody_and_neither_does_a_replay_or_another_subject() {
    let Some(server) = NatsServer::start().await else { return };
    let a = NodePlan::on("fra", "a", &server).start().await;
    let b = NodePlan::on("syd", "b", &server).start().await;
    gathered(&[&a, &b]).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let order = NodeOrder { site: "syd".into(), node: "b".into(), duty: Duty::Drain, reason: String::new() };
    let body = serde_json::to_vec(&order).unwrap();
    let say = async |role: AuthorRole, ahead_ms: u64, about: &str| {
        let author = Author { site: "fra".into(), node: "a".into(), role };
        let subject = subject::of_order(&author, "syd", about);
        let now_ms = SystemClock.now_ms();
        let statement = Statement {
            fleet_id: FLEET,
            subject: &subject,
            author: &author,
            version: (now_ms + ahead_ms) << 16,
            expires_at_ms: now_ms + 3_600_000,
            body: &body,
        };
        let bytes = SignedRecord::sign(&SigningKey::generate().unwrap(), statement).to_bytes().unwrap();
        client.publish(subject, bytes.into()).await.unwrap();
        client.flush().await.unwrap();
    };
    let refused = b.fleet.status().refused;
    say(AuthorRole::Node, 0, "b").await;
    say(AuthorRole::Operator, 0, "b").await;
    say(AuthorRole::Operator, 120_000, "b").await;
    say(AuthorRole::Operator, 0, "c").await;
    until("all four are refused", || b.fleet.status().refused >= refused + 4).await;
    assert_eq!(duty(&b), Duty::Serve);
    let alone = NodePlan { control: false, ..NodePlan::on("fra", "e", &server) }.start().await;
    let denied = alone.fleet.order_node("fra", "e", Duty::Cordon, "").await;
    assert!(matches!(denied, Err(FleetError::NotOperator)), "{denied:?}");
}
