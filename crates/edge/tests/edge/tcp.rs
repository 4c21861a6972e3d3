//! Listeners for TCP: connections are carried to their app's upstreams, whatever is spoken on them.

use std::net::SocketAddr;
use std::sync::Arc;

use phalanx_decide::DecidePlan;
use phalanx_edge::{AppPlan, EdgePlan, TcpListen, UpstreamPlan};
use phalanx_model::{AccessEvent, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::timeout;

use crate::support::{Node, PATIENCE, eventually};

fn listen(address: &str, app: &str) -> TcpListen {
    TcpListen { address: address.parse().unwrap(), app: app.to_owned(), proxied: None, idle_ms: None }
}

fn carrying(name: &str, upstream: UpstreamPlan) -> AppPlan {
    let mut app = AppPlan::forwarding(name, upstream);
    app.tcp = true;
    app
}

fn to(server: SocketAddr) -> UpstreamPlan {
    UpstreamPlan::new(&server.ip().to_string(), server.port(), "")
}

/// A node that carries connections for the app `db`, beside an app of HTTP.
async fn node(upstreams: Vec<UpstreamPlan>, change: impl FnOnce(&mut TcpListen)) -> Node {
    let mut listener = listen("127.0.0.1:0", "db");
    change(&mut listener);
    let node = Node::start(|settings, _| {
        settings.workers = 1;
        settings.tcp_listen = vec![listener];
    })
    .await;
    let mut db = carrying("db", UpstreamPlan::new("127.0.0.1", 1, ""));
    db.upstreams = phalanx_edge::UpstreamGroup::new(upstreams);
    let shop = AppPlan::forwarding("shop", node.upstream.plan());
    node.plan.store(Arc::new(EdgePlan::new(2, DecidePlan::default(), vec![shop, db])));
    node
}

async fn connect(node: &Node) -> TcpStream {
    TcpStream::connect(node.edge.tcp_addrs()[0]).await.unwrap()
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(PATIENCE, listener.accept()).await.unwrap().unwrap().0
}

async fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    timeout(PATIENCE, stream.read_exact(&mut read)).await.unwrap().unwrap();
    read
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut all)).await.unwrap();
    all
}

fn said(event: &AccessEvent) -> (&str, &str, &str, u16) {
    (&event.app, &event.method, &event.protocol, event.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_speak_first_and_each_side_ends_for_itself() {
    let (server, address) = listener().await;
    let mut node = node(vec![to(address)], |_| ()).await;
    let mut client = connect(&node).await;
    let mut there = accept(&server).await;
    there.write_all(b"220 ready").await.unwrap();
    assert_eq!(read(&mut client, 9).await, b"220 ready");
    client.write_all(b"all of it").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut there).await, b"all of it");
    // The client has said that it is done, and still gets its answer.
    there.write_all(b"thanks").await.unwrap();
    drop(there);
    assert_eq!(rest(&mut client).await, b"thanks");
    let event = node.access().await;
    assert_eq!(said(&event), ("db", "CONNECT", "TCP", 200));
    assert_eq!((event.request_bytes, event.response_bytes), (9, 15));
    let listen = node.edge.tcp_addrs()[0];
    assert_eq!((event.target, event.upstream.as_deref()), (listen.to_string(), Some(&*address.to_string())));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstreams_end_is_carried_while_the_client_goes_on() {
    let (server, address) = listener().await;
    let node = node(vec![to(address)], |_| ()).await;
    let mut client = connect(&node).await;
    let mut there = accept(&server).await;
    there.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
    client.write_all(b"still here").await.unwrap();
    assert_eq!(read(&mut there, 10).await, b"still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_stops_the_other_side() {
    let (server, address) = listener().await;
    let node = node(vec![to(address)], |_| ()).await;
    let mut client = connect(&node).await;
    let mut there = accept(&server).await;
    let block = vec![7; 1 << 20];
    let mut sent = 0_u64;
    // The kernel's buffers of two connections fill, and nothing else does.
    while let Ok(written) = timeout(std::time::Duration::from_millis(500), client.write(&block)).await {
        sent += written.unwrap() as u64;
        assert!(sent < 256 << 20, "{sent} bytes are held somewhere");
    }
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut there).await.len() as u64, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_upstream_takes_what_one_does_not() {
    let (server, address) = listener().await;
    let mut node = node(vec![UpstreamPlan::new("127.0.0.1", 1, ""), to(address)], |_| ()).await;
    for _ in 0..4 {
        let client = connect(&node).await;
        drop(accept(&server).await);
        drop(client);
        let event = node.access().await;
        assert_eq!((event.status, event.upstream.as_deref()), (200, Some(&*address.to_string())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_upstream_and_no_app_end_the_connection() {
    let mut node = node(vec![UpstreamPlan::new("127.0.0.1", 1, "")], |_| ()).await;
    assert_eq!(rest(&mut connect(&node).await).await, b"");
    let event = node.access().await;
    assert_eq!(event.status, 502);
    assert!(matches!(&event.verdict.reason, Reason::Upstream { error } if error.contains("127.0.0.1:1")));
    // An app of HTTP is none, whatever its name.
    let shop = AppPlan::forwarding("db", node.upstream.plan());
    node.plan.store(Arc::new(EdgePlan::new(3, DecidePlan::default(), vec![shop])));
    assert_eq!(rest(&mut connect(&node).await).await, b"");
    assert_eq!(node.count(|counters| &counters.connections_refused), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_of_tcp_gets_no_requests() {
    let (_server, address) = listener().await;
    let node = node(vec![to(address)], |_| ()).await;
    let only = carrying("db", to(address));
    node.plan.store(Arc::new(EdgePlan::new(3, DecidePlan::default(), vec![only])));
    assert_eq!(node.connect().await.get("/").await.head.status, 421);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_cuts_what_is_open_and_refuses_what_comes() {
    let (server, address) = listener().await;
    let mut node = node(vec![to(address)], |_| ()).await;
    let mut client = connect(&node).await;
    let mut there = accept(&server).await;
    node.ban("127.0.0.1");
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(rest(&mut there).await, b"");
    node.access().await;
    assert_eq!(rest(&mut connect(&node).await).await, b"");
    let (event, _, _) = node.security_request().await;
    assert_eq!(said(&event), ("db", "CONNECT", "TCP", 403));
    assert!(timeout(std::time::Duration::from_millis(50), server.accept()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_it_as_its_listener_says() {
    let (server, address) = listener().await;
    let mut node = node(vec![to(address)], |listener| listener.idle_ms = Some(300)).await;
    let mut client = connect(&node).await;
    let mut there = accept(&server).await;
    // What is said by one side is no silence of the other.
    for _ in 0..6 {
        there.write_all(b".").await.unwrap();
        read(&mut client, 1).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(node.access().await.response_bytes, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn balancers_name_the_client() {
    let (server, address) = listener().await;
    let from = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    let mut node = node(vec![to(address)], |listener| listener.proxied = Some(from)).await;
    let mut client = connect(&node).await;
    client.write_all(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 5432\r\nhello").await.unwrap();
    let mut there = accept(&server).await;
    assert_eq!(read(&mut there, 5).await, b"hello");
    drop(there);
    drop(client);
    let event = node.access().await;
    assert_eq!((event.client.to_string(), &*event.target), ("203.0.113.9".to_owned(), "192.0.2.1:5432"));
    // Without a header nobody is carried, and whom it names is banned as any other.
    let mut bare = connect(&node).await;
    bare.write_all(b"hello, this is no header").await.unwrap();
    assert_eq!(rest(&mut bare).await, b"");
    node.ban("203.0.113.9");
    let mut banned = connect(&node).await;
    banned.write_all(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 5432\r\n").await.unwrap();
    assert_eq!(rest(&mut banned).await, b"");
    assert_eq!(node.security_request().await.0.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_clients_reach_a_server_at_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("phalanx-edge-tcp-{}.sock", std::process::id()));
    let server = UnixListener::bind(&path).unwrap();
    let mut node = node(vec![UpstreamPlan::at_socket(&path)], |listener| {
        listener.address = "[::1]:0".parse().unwrap();
    })
    .await;
    let mut client = connect(&node).await;
    client.write_all(b"ping").await.unwrap();
    client.shutdown().await.unwrap();
    let (mut there, _) = timeout(PATIENCE, server.accept()).await.unwrap().unwrap();
    let mut got = Vec::new();
    there.read_to_end(&mut got).await.unwrap();
    there.write_all(b"pong").await.unwrap();
    drop(there);
    assert_eq!((got, rest(&mut client).await), (b"ping".to_vec(), b"pong".to_vec()));
    let event = node.access().await;
    assert_eq!(event.target, node.edge.tcp_addrs()[0].to_string());
    assert_eq!(event.client.to_string(), "::1");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_connections() {
    let (server, address) = listener().await;
    let node = Node::start(|settings, app| {
        settings.workers = 1;
        settings.limits.connections_per_actor = 2;
        settings.tcp_listen = vec![listen("127.0.0.1:0", "shop")];
        *app = carrying("shop", to(address));
    })
    .await;
    let (first, _second) = (connect(&node).await, connect(&node).await);
    let open = (accept(&server).await, accept(&server).await);
    assert_eq!(rest(&mut connect(&node).await).await, b"");
    // Both of its sides: one alone is half a connection, which goes on.
    drop((first, open));
    eventually("there is room again", || node.count(|counters| &counters.connections_closed) >= 1).await;
    let _third = connect(&node).await;
    accept(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_it_end_and_then_cuts_it() {
    let (server, address) = listener().await;
    let node = node(vec![to(address)], |_| ()).await;
    let (mut ends, mut stays) = (connect(&node).await, connect(&node).await);
    let (mut one, _other) = (accept(&server).await, accept(&server).await);
    let edge = node.edge.clone();
    let drained = tokio::spawn(async move { edge.drain(std::time::Duration::from_millis(600)).await });
    eventually("nobody listens", || std::net::TcpStream::connect(node.edge.tcp_addrs()[0]).is_err()).await;
    one.write_all(b"bye").await.unwrap();
    // Which of the two the server took first is not known.
    let both = async { tokio::join!(rest(&mut ends), rest(&mut stays)) };
    let (a, b) = timeout(PATIENCE, both).await.unwrap();
    assert!([a.as_slice(), b.as_slice()].contains(&&b"bye"[..]), "{a:?} {b:?}");
    timeout(PATIENCE, drained).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_may_be_told_whose_connection_it_is() {
    let (server, address) = listener().await;
    let upstream = UpstreamPlan { proxy: Some(phalanx_policy::ProxyProtocol::V1), ..to(address) };
    let node = node(vec![upstream], |_| ()).await;
    let mut client = connect(&node).await;
    let mut there = accept(&server).await;
    client.write_all(b"hello").await.unwrap();
    let (from, to) = (client.local_addr().unwrap(), node.edge.tcp_addrs()[0]);
    let header = format!("PROXY TCP4 {} {} {} {}\r\nhello", from.ip(), to.ip(), from.port(), to.port());
    assert_eq!(String::from_utf8(read(&mut there, header.len()).await).unwrap(), header);
}
