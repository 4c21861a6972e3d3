//! Upstreams by name, as a name server says it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use phalanx_edge::{UpstreamGroup, UpstreamPlan};
use tokio::net::{TcpListener, UdpSocket};

use crate::support::{Node, eventually};
use crate::upstreams::Origin;

/// What a small name server says of every name; `None` fails.
#[derive(Clone, Default)]
struct Zone(Arc<Mutex<Option<Vec<Ipv4Addr>>>>);

impl Zone {
    async fn serve(&self) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = self.clone();
        tokio::spawn(async move {
            let mut query = [0; 1_024];
            while let Ok((bytes, asker)) = socket.recv_from(&mut query).await {
                let _ = socket.send_to(&zone.answer(&query[..bytes]), asker).await;
            }
        });
        address
    }

    fn says(&self, addresses: Option<&[&str]>) {
        let addresses = addresses.map(|list| list.iter().map(|ip| ip.parse().unwrap()).collect());
        *self.0.lock().unwrap() = addresses;
    }

    /// RFC 1035 section 4.1, with a time to live of one second.
    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let is_a = query[end - 4..end - 2] == [0, 1];
        let known = self.0.lock().unwrap().clone();
        let rcode = if known.is_some() { 0 } else { 2 };
        let addresses = known.filter(|_| is_a).unwrap_or_default();
        let mut answer = query[..2].to_vec();
        answer.extend([0x81, 0x80 | rcode, 0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
        answer.extend(&query[12..end]);
        for ip in addresses {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
            answer.extend(ip.octets());
        }
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_followed_where_it_goes_and_kept_when_it_cannot_be_resolved() {
    let zone = Zone::default();
    let nameserver = zone.serve().await;
    let first = Origin::start("first").await;
    let port = first.address.port();
    let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), port);
    let second = Origin::at(TcpListener::bind(at("127.0.0.2")).await.unwrap(), "second");
    zone.says(Some(&["127.0.0.1"]));
    let node = Node::start(|settings, app| {
        settings.nameservers = vec![nameserver];
        app.upstreams = UpstreamGroup::new(vec![UpstreamPlan::new("shop.internal.test", port, "")]);
    })
    .await;
    let addresses = || -> Vec<String> {
        let report = node.plan.load().apps()[0].upstreams.report();
        report.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
    };
    let mut client = node.connect().await;
    // A request that comes before the name server has answered waits for it.
    assert_eq!(client.get("/").await.text(), "first");

    zone.says(Some(&["127.0.0.1", "127.0.0.2"]));
    eventually("both are known", || {
        addresses() == [format!("127.0.0.1:{port}"), format!("127.0.0.2:{port}")]
    })
    .await;
    while second.hits.load(std::sync::atomic::Ordering::SeqCst) == 0 {
        assert_eq!(client.get("/").await.head.status, 200);
    }

    zone.says(Some(&["127.0.0.2"]));
    eventually("one is gone", || addresses() == [format!("127.0.0.2:{port}")]).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text(), "second");
    }

    zone.says(None);
    eventually("the failure is noticed", || node.plan.load().apps()[0].upstreams.is_failing_to_resolve())
        .await;
    assert_eq!(client.get("/").await.text(), "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_to_the_own_management_is_not_followed() {
    let zone = Zone::default();
    let nameserver = zone.serve().await;
    let admin = Origin::start("admin").await;
    zone.says(Some(&["127.0.0.1"]));
    let node = Node::start(|settings, app| {
        settings.nameservers = vec![nameserver];
        settings.never_upstream = vec![admin.address];
        app.limits.upstream_connect_ms = 100;
        app.upstreams = UpstreamGroup::new(vec![UpstreamPlan::new("evil.test", admin.address.port(), "")]);
    })
    .await;
    assert_eq!(node.connect().await.get("/").await.head.status, 502);
    assert_eq!(admin.hits.load(std::sync::atomic::Ordering::SeqCst), 0);
}
