//! TLS that is passed on unopened, to whom the client asks for.

use std::sync::Arc;

use phalanx_decide::DecidePlan;
use phalanx_edge::{AppPlan, EdgePlan, UpstreamPlan};
use phalanx_model::counters::TlsFailure;

use crate::support::{PATIENCE, eventually};
use crate::tls::Secure;

/// A node that opens TLS for `shop.test` and passes on what is for hosts below `inner.test`; and the node that this leads to.
async fn nodes() -> (Secure, Secure) {
    let outer = Secure::start(|settings, _| settings.workers = 1).await;
    let inner = Secure::start(|_, _| ()).await;
    inner.serve(&[inner.authority.serve(&["a.inner.test", "gone.test"])]);
    let address = inner.address();
    let app = |name: &str, host: &str, upstream: UpstreamPlan| {
        let mut app = AppPlan::forwarding(name, upstream);
        app.hosts.push(host.to_owned());
        app
    };
    let to = |name: &str, host: &str, port: u16| {
        let mut app = app(name, host, UpstreamPlan::new("127.0.0.1", port, ""));
        app.passthrough = true;
        app
    };
    let shop = app("shop", "shop.test", outer.node.upstream.plan());
    let apps = vec![shop, to("inner", "*.inner.test", address.port()), to("gone", "gone.test", 1)];
    outer.node.plan.store(Arc::new(EdgePlan::new(2, DecidePlan::default(), apps)));
    (outer, inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_goes_to_whom_its_greeting_names_and_is_one_event() {
    let (mut outer, inner) = nodes().await;
    let through = Arc::new(inner.authority.modern());
    let mut client = crate::tls::connect(outer.address(), "a.inner.test", &through).await.unwrap();
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "hello");
    }
    assert_eq!(client.get("/large-length").await.body.len(), 10 << 20);
    drop(client);
    let event = outer.node.access().await;
    assert_eq!((&*event.app, event.method.as_str(), event.protocol.as_str()), ("inner", "CONNECT", "TLS"));
    assert_eq!(event.target.split(':').next(), Some("a.inner.test"));
    assert!(event.status == 200 && event.response_bytes > 10 << 20 && event.request_bytes > 500, "{event:?}");
    // Beside it, TLS of the node's own is opened as ever.
    let own = Arc::new(outer.authority.modern());
    assert_eq!(outer.connect("shop.test", &own).await.unwrap().get("/").await.text(), "hello");
    assert_eq!(&*outer.node.access().await.app, "shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_does_not_reach_an_app_that_sees_none() {
    let (outer, _inner) = nodes().await;
    let own = Arc::new(outer.authority.modern());
    let mut client = outer.connect("shop.test", &own).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: a.inner.test\r\n\r\n").await;
    assert_eq!(client.answer().await.head.status, 421);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_banned_is_not_passed_on_and_loses_what_is_open() {
    let (mut outer, inner) = nodes().await;
    let through = Arc::new(inner.authority.modern());
    let mut client = crate::tls::connect(outer.address(), "a.inner.test", &through).await.unwrap();
    assert_eq!(client.get("/").await.text(), "hello");
    outer.node.ban("127.0.0.1");
    assert!(tokio::time::timeout(PATIENCE, client.is_closed()).await.unwrap());
    outer.node.access().await;
    assert!(crate::tls::connect(outer.address(), "a.inner.test", &through).await.is_err());
    let (event, _, _) = outer.node.security_request().await;
    assert_eq!((event.status, &*event.app), (403, "inner"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_not_there_ends_the_connection_and_is_recorded() {
    let (mut outer, inner) = nodes().await;
    let through = Arc::new(inner.authority.modern());
    assert!(crate::tls::connect(outer.address(), "gone.test", &through).await.is_err());
    let event = outer.node.access().await;
    assert_eq!((event.status, &*event.app), (502, "gone"));
    eventually("no handshake of ours has failed", || {
        outer.node.count(|counters| &counters.tls_failures[TlsFailure::Malformed as usize]) == 0
    })
    .await;
}
