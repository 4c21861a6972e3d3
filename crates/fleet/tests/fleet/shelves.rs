//! What the nodes of a site share in secret: who has it, who has not, and who never gets it.

use std::time::Duration;

use futures_util::StreamExt;
use phalanx_fleet::{Keeps, Shelf};

use crate::enrolled::Fleet;
use crate::support::{NatsServer, Node, NodePlan, gathered, until};

const SECRET: &[u8] = b"a key that nobody else may see";
const NEVER: u64 = u64::MAX;

async fn shelf(node: &Node) -> Shelf {
    node.fleet.shelf("test", Keeps::OnDisk, true).await.unwrap()
}

fn has(shelf: &Shelf, name: &str, bytes: &[u8]) -> bool {
    shelf.get(name).is_some_and(|found| found.as_slice() == bytes)
}

/// A node of a fleet with a secret.
async fn node(server: &NatsServer, site: &str, name: &str) -> Node {
    NodePlan { secret: Some(b"a secret of some length"), ..NodePlan::on(site, name, server) }.start().await
}

/// The one of several that writes.
async fn writer(shelves: &[&Shelf]) -> usize {
    until("one of them may write", || shelves.iter().any(|one| one.may_write())).await;
    shelves.iter().position(|one| one.may_write()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_writes_at_once_and_has_it_after_a_restart() {
    let node = NodePlan::local("fra", "a").start().await;
    let (kept, passing) =
        (shelf(&node).await, node.fleet.shelf("other", Keeps::InMemory, true).await.unwrap());
    assert!(kept.may_write() && kept.everybody_has(Duration::ZERO).await);
    kept.put("one", SECRET, NEVER).await.unwrap();
    kept.put("two", SECRET, NEVER).await.unwrap();
    kept.remove("two").await.unwrap();
    passing.put("one", SECRET, NEVER).await.unwrap();
    drop((kept, passing));
    let node = node.restart().await;
    let names: Vec<_> = shelf(&node).await.all("").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["one"]);
    assert!(node.fleet.shelf("other", Keeps::InMemory, true).await.unwrap().all("").is_empty());
    let file = std::fs::read(node.state.path().join("fleet.redb")).unwrap();
    assert!(!file.windows(SECRET.len()).any(|window| window == SECRET), "it is sealed at rest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_shares_what_its_holder_has_and_another_goes_on_when_it_dies() {
    let Some(server) = NatsServer::start().await else { return };
    let wire = async_nats::connect(server.url()).await.unwrap();
    let mut wire = wire.subscribe("phx.shelf.>").await.unwrap();
    let (a, b) = (node(&server, "fra", "a").await, node(&server, "fra", "b").await);
    let elsewhere = node(&server, "syd", "c").await;
    gathered(&[&a, &b, &elsewhere]).await;
    let (on_a, on_b, on_c) = (shelf(&a).await, shelf(&b).await, shelf(&elsewhere).await);
    let holder = writer(&[&on_a, &on_b]).await;
    let (holds, other) = if holder == 0 { (&on_a, &on_b) } else { (&on_b, &on_a) };
    assert!(other.put("key", b"x", NEVER).await.is_err(), "one writes");
    until("the other listens", || other.changed().borrow().gt(&0)).await;
    holds.put("key", SECRET, NEVER).await.unwrap();
    assert!(holds.everybody_has(Duration::from_secs(5)).await);
    assert!(has(other, "key", SECRET));
    holds.put("gone", SECRET, NEVER).await.unwrap();
    holds.remove("gone").await.unwrap();
    assert!(holds.everybody_has(Duration::from_secs(5)).await);
    assert!(other.get("gone").is_none() && has(other, "key", SECRET));
    // Another site has a holder of its own and hears nothing of this one's.
    until("the other site has its own", || on_c.may_write()).await;
    assert!(on_c.all("").is_empty());
    // A node that comes later is given all.
    let late = node(&server, "fra", "d").await;
    let on_late = shelf(&late).await;
    until("a late node has it", || has(&on_late, "key", SECRET)).await;
    // The holder dies: another has all that it had, and goes on.
    let (dies, on_dies, stays, on_stays) = if holder == 0 { (a, on_a, b, on_b) } else { (b, on_b, a, on_a) };
    drop(on_dies);
    dies.stop().await;
    let next = writer(&[&on_stays, &on_late]).await;
    let (next, reads) = if next == 0 { (&on_stays, &on_late) } else { (&on_late, &on_stays) };
    assert!(has(next, "key", SECRET));
    next.put("key", b"the next", NEVER).await.unwrap();
    until("the rest follows the new holder", || has(reads, "key", b"the next")).await;
    // Nothing of it was on the wire as it is, in whatever clothes.
    drop((stays, late));
    let base64 = data_encoding::BASE64.encode(SECRET);
    let mut heard = 0;
    while let Ok(Some(message)) = tokio::time::timeout(Duration::from_millis(200), wire.next()).await {
        heard += 1;
        let bytes = &message.payload;
        let shows = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!shows(SECRET) && !shows(&base64.as_bytes()[..20]));
    }
    assert!(heard > 4, "the test listens to the right subjects");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_anybody_may_join_nothing_is_shared() {
    let Some(server) = NatsServer::start().await else { return };
    let (a, b) =
        (NodePlan::on("fra", "a", &server).start().await, NodePlan::on("fra", "b", &server).start().await);
    gathered(&[&a, &b]).await;
    let (on_a, on_b) = (shelf(&a).await, shelf(&b).await);
    assert!(!a.fleet.shares_secrets() && on_a.may_write() && on_b.may_write());
    on_a.put("key", SECRET, NEVER).await.unwrap();
    assert!(on_b.get("key").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_node_is_given_nothing_more_and_an_edge_node_never_writes() {
    let Some(fleet) = Fleet::start().await else { return };
    let (_, a) = fleet.first().await;
    let (edge, thief) = (fleet.enrol("fra", "e", false, false), fleet.enrol("fra", "t", false, false));
    let (edge, thief) = (fleet.run(&edge, false).await, fleet.run(&thief, false).await);
    gathered(&[&a, &edge, &thief]).await;
    let (on_a, on_edge, on_thief) = (shelf(&a).await, shelf(&edge).await, shelf(&thief).await);
    until("the control node holds the shelf", || on_a.may_write()).await;
    on_a.put("key", SECRET, NEVER).await.unwrap();
    until("both edge nodes have it", || has(&on_edge, "key", SECRET) && has(&on_thief, "key", SECRET)).await;
    assert_eq!(a.fleet.site_revoked_up_to_ms(), 0);
    // Its link is not cut in this test: it goes on listening.
    let revocation = a.fleet.revoke("fra", "t", false, "stolen").await.unwrap();
    assert_eq!(a.fleet.site_revoked_up_to_ms(), revocation.up_to_ms);
    on_a.put("key", b"the next", NEVER).await.unwrap();
    until("who stays has the next", || has(&on_edge, "key", b"the next")).await;
    assert!(on_a.everybody_has(Duration::from_secs(15)).await, "who was revoked is not waited for");
    on_a.put("later", SECRET, NEVER).await.unwrap();
    until("who stays has the later", || has(&on_edge, "later", SECRET)).await;
    assert!(has(&on_thief, "key", SECRET) && on_thief.get("later").is_none());
    drop(a);
    assert!(!on_edge.may_write());
}
