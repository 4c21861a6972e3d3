//! Upstreams that are told whose connection they get: it is one client's alone.

use std::sync::Arc;

use parking_lot::Mutex;
use phalanx_decide::DecidePlan;
use phalanx_edge::proxy_protocol::{Header, read};
use phalanx_edge::{AppPlan, UpstreamPlan};
use phalanx_policy::ProxyProtocol;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::{Node, Upstream, eventually, serve};

/// Who each connection was said to be from, in their order.
type Named = Arc<Mutex<Vec<Option<String>>>>;

/// A node before an upstream that takes no connection without a header.
async fn node(version: ProxyProtocol, change: impl FnOnce(&mut AppPlan)) -> (Node, Named) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let named = Named::default();
    let upstream = Upstream::start().await;
    let (state, told) = (Arc::clone(&upstream.state), Arc::clone(&named));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (state, told) = (Arc::clone(&state), Arc::clone(&told));
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                let Header { addresses, .. } = loop {
                    bytes.push(stream.read_u8().await.unwrap());
                    match read(&bytes) {
                        Ok(None) => {}
                        whole => break whole.expect("a header comes first").unwrap(),
                    }
                };
                told.lock().push(addresses.map(|both| both.source.to_string()));
                serve(stream, state).await;
            });
        }
    });
    let plan = UpstreamPlan { proxy: Some(version), ..UpstreamPlan::new("127.0.0.1", address.port(), "") };
    let node = Node::before(
        upstream,
        |settings, app| {
            settings.workers = 1;
            settings.h2c = true;
            *app = AppPlan::forwarding("shop", plan);
            app.trust_forwarded = ["127.0.0.1/32".parse().unwrap()].into_iter().collect();
            change(app);
        },
        DecidePlan::default(),
    );
    (node, named)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_has_connections_of_its_own() {
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        let (node, named) = node(version, |_| ()).await;
        let mut expected = Vec::new();
        for _ in 0..3 {
            let mut client = node.connect().await;
            expected.push(Some(client.stream.local_addr().unwrap().to_string()));
            // One for all requests of a client, and none of another's, however idle.
            for _ in 0..3 {
                assert_eq!(client.get("/").await.text(), "hello");
            }
        }
        assert_eq!(*named.lock(), expected, "{version:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_one_forwarder_share_nothing() {
    let (node, named) = node(ProxyProtocol::V2, |_| ()).await;
    let mut forwarder = node.connect().await;
    for client in ["203.0.113.1", "203.0.113.1", "2001:db8::2", "203.0.113.1"] {
        forwarder.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n")).await;
        assert_eq!(forwarder.answer().await.text(), "hello");
    }
    let expected = ["203.0.113.1:0", "[2001:db8::2]:0", "203.0.113.1:0"].map(|one| Some(one.to_owned()));
    assert_eq!(*named.lock(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstreams_connection_ends_with_its_client() {
    let (node, named) = node(ProxyProtocol::V1, |_| ()).await;
    let mut client = node.connect().await;
    assert_eq!(client.get("/").await.text(), "hello");
    drop(client);
    eventually("the client is gone", || node.count(|counters| &counters.connections_closed) == 1).await;
    assert_eq!(node.connect().await.get("/").await.text(), "hello");
    assert_eq!(named.lock().len(), 2);
}
