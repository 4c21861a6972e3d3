//! TLS from handshake to close, with rustls as the client.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use phalanx_decide::rate::Pace;
use phalanx_edge::{AppPlan, Challenges, EdgeSettings, Material, Served, TlsListener};
use phalanx_model::counters::{KeyExchange, LimitReached, TlsFailure};
use phalanx_model::{Actor, Reason};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::http2::Http2;
use crate::support::{Client, Node, PATIENCE, eventually, pattern};

/// An authority that clients of these tests believe.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn issue(&self, names: &[&str]) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        self.sign(CertificateParams::new(names).unwrap())
    }

    /// A certificate as `params` have it.
    pub(crate) fn sign(
        &self,
        params: CertificateParams,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    pub(crate) fn serve(&self, names: &[&str]) -> Served {
        let (chain, key) = self.issue(names);
        let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).unwrap();
        Served { names: names.iter().map(|&name| name.to_owned()).collect(), key: Arc::new(key) }
    }

    /// Clients must show a certificate of this authority's.
    fn believes_nobody_else(&self) -> Arc<dyn rustls::server::danger::ClientCertVerifier> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        WebPkiClientVerifier::builder_with_provider(self.roots(), provider).build().unwrap()
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// A client of these versions and groups, the most wanted first.
    fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        groups: &[&'static dyn SupportedKxGroup],
    ) -> ClientConfig {
        let provider = CryptoProvider { kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() };
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    pub(crate) fn modern(&self) -> ClientConfig {
        self.client(&[&rustls::version::TLS13], &[kx_group::X25519MLKEM768, kx_group::X25519])
    }
}

pub(crate) struct Secure {
    pub(crate) node: Node,
    pub(crate) authority: Authority,
    listeners: Vec<TlsListener>,
}

impl Secure {
    pub(crate) async fn start(change: impl FnOnce(&mut EdgeSettings, &mut AppPlan)) -> Self {
        Self::with(vec![TlsListener::new().unwrap()], change).await
    }

    async fn with(listeners: Vec<TlsListener>, change: impl FnOnce(&mut EdgeSettings, &mut AppPlan)) -> Self {
        let wanted = listeners.len();
        let node = Node::start(|settings, app| {
            settings.tls_listen = vec!["127.0.0.1:0".parse().unwrap(); wanted];
            change(settings, app);
        })
        .await;
        let secure = Self { node, authority: Authority::new(), listeners };
        secure.serve(&[secure.authority.serve(&["shop.test"])]);
        secure
    }

    pub(crate) fn serve(&self, served: &[Served]) {
        self.node.material.store(Arc::new(Material::new(served, &self.listeners).unwrap()));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.node.edge.tls_addrs()[0]
    }

    pub(crate) async fn connect(
        &self,
        name: &str,
        config: &Arc<ClientConfig>,
    ) -> io::Result<Client<TlsStream<TcpStream>>> {
        connect(self.address(), name, config).await
    }

    async fn client(&self) -> Client<TlsStream<TcpStream>> {
        self.connect("shop.test", &Arc::new(self.authority.modern())).await.unwrap()
    }

    pub(crate) fn failures(&self, failure: TlsFailure) -> u64 {
        self.node.count(|counters| &counters.tls_failures[failure as usize])
    }

    fn exchanges(&self, group: KeyExchange) -> u64 {
        self.node.count(|counters| &counters.tls_key_exchanges[group as usize])
    }
}

pub(crate) async fn connect(
    to: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<Client<TlsStream<TcpStream>>> {
    let stream = TcpStream::connect(to).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connecting = TlsConnector::from(Arc::clone(config)).connect(name, stream);
    let stream = timeout(PATIENCE, connecting).await.expect("no handshake in time")?;
    Ok(Client { stream, input: BytesMut::new() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_tls_is_served_forwarded_as_https_and_recorded_with_its_fingerprint() {
    let mut secure = Secure::start(|_, _| ()).await;
    let mut client = secure.client().await;
    let answer = client.get("/head").await;
    assert!(answer.text().contains("X-Forwarded-Proto: https\r\n"), "{}", answer.text());
    assert_eq!(client.get("/").await.text(), "hello");
    assert_eq!(client.stream.get_ref().1.alpn_protocol(), None);
    let event = secure.node.access().await;
    assert_eq!(event.tls.as_deref(), Some("TLSv1.3"));
    assert!(event.ja4.unwrap().to_string().starts_with("t13d"), "{:?}", event.ja4);
    let mut plain = secure.node.connect().await;
    assert!(plain.get("/head").await.text().contains("X-Forwarded-Proto: http\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_http2_gets_it_over_tls() {
    let mut secure = Secure::start(|_, _| ()).await;
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let mut config = secure.authority.client(versions, &[kx_group::X25519]);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = secure.connect("shop.test", &Arc::new(config)).await.unwrap();
        assert_eq!(client.stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut client = Http2::over(client.stream).await;
        let answer = client.get("/head").await;
        assert!(answer.text().contains("X-Forwarded-Proto: https\r\n"), "{}", answer.text());
        let event = secure.node.access().await;
        assert_eq!((event.protocol.as_str(), event.tls.is_some()), ("HTTP/2.0", true));
        assert!(event.ja4.unwrap().to_string().contains("h2_"), "{:?}", event.ja4);
        for bytes in [1, 16_384, 16_385, 3 << 20] {
            let sent = Bytes::from(pattern(bytes));
            let answer = client.post("/stream-echo", sent.clone()).await;
            assert!(answer.status == 200 && answer.body.unwrap() == sent, "{bytes}");
            secure.node.access().await;
        }
        assert!(client.get("/large-length").await.body.unwrap() == pattern(10 << 20));
        secure.node.access().await;
        client.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_groups_are_agreed_on_and_counted() {
    use ProtocolVersion::{TLSv1_2, TLSv1_3};
    use rustls::version::{TLS12, TLS13};
    let secure = Secure::start(|_, _| ()).await;
    let hybrid = kx_group::X25519MLKEM768;
    for (versions, groups, version, group, kind) in [
        (&[&TLS13][..], &[hybrid, kx_group::X25519][..], TLSv1_3, "X25519MLKEM768", HandshakeKind::Full),
        // Wanted less, and offered without a share: it is asked for all the same.
        (
            &[&TLS13, &TLS12],
            &[kx_group::SECP256R1, hybrid],
            TLSv1_3,
            "X25519MLKEM768",
            HandshakeKind::FullWithHelloRetryRequest,
        ),
        (&[&TLS13], &[kx_group::X25519], TLSv1_3, "X25519", HandshakeKind::Full),
        (&[&TLS12], &[hybrid, kx_group::SECP256R1], TLSv1_2, "secp256r1", HandshakeKind::Full),
        (&[&TLS12], &[kx_group::SECP384R1], TLSv1_2, "secp384r1", HandshakeKind::Full),
    ] {
        let config = Arc::new(secure.authority.client(versions, groups));
        let mut client = secure.connect("shop.test", &config).await.unwrap();
        assert_eq!(client.get("/").await.text(), "hello");
        let agreed = client.stream.get_ref().1;
        assert_eq!(agreed.protocol_version(), Some(version));
        assert_eq!(format!("{:?}", agreed.negotiated_key_exchange_group().unwrap().name()), group);
        assert_eq!(agreed.handshake_kind(), Some(kind), "{groups:?}");
    }
    assert_eq!(secure.exchanges(KeyExchange::X25519Mlkem768), 2);
    assert_eq!(secure.exchanges(KeyExchange::X25519), 1);
    assert_eq!(secure.exchanges(KeyExchange::Secp256r1), 1);
    assert_eq!(secure.exchanges(KeyExchange::Secp384r1), 1);
    assert_eq!(secure.node.count(|counters| &counters.tls13_handshakes), 3);
    assert_eq!(secure.node.count(|counters| &counters.tls12_handshakes), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let secure = Secure::start(|_, _| ()).await;
    let served = [&["shop.test", "www.shop.test"][..], &["*.shop.test"], &["wiki.test"]]
        .map(|names| secure.authority.serve(names));
    secure.serve(&served);
    let config = Arc::new(secure.authority.modern());
    for (name, expected) in [("shop.test", 0), ("WWW.shop.test", 0), ("img.shop.test", 1), ("wiki.test", 2)] {
        let client = secure.connect(name, &config).await.unwrap();
        let shown = &client.stream.get_ref().1.peer_certificates().unwrap()[0];
        assert_eq!(*shown, served[expected].key.cert[0], "{name}");
    }
    // Who asks for another is shown the first, and does not believe it.
    for name in ["a.b.shop.test", "other.test", "127.0.0.1"] {
        let error = secure.connect(name, &config).await.unwrap_err().to_string();
        assert!(error.contains("NotValidForName") || error.contains("not valid for name"), "{name}: {error}");
    }
    eventually("the refusals are counted", || secure.failures(TlsFailure::Refused) == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_swapped_under_load_without_a_failed_request() {
    let secure = Arc::new(Secure::start(|_, _| ()).await);
    let mut kept = secure.client().await;
    assert_eq!(kept.get("/").await.text(), "hello");
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (address, config) = (secure.address(), Arc::new(secure.authority.modern()));
        clients.push(tokio::spawn(async move {
            let mut seen = std::collections::HashSet::new();
            for _ in 0..40 {
                let mut client = connect(address, "shop.test", &config).await.unwrap();
                seen.insert(client.stream.get_ref().1.peer_certificates().unwrap()[0].clone());
                assert_eq!(client.get("/").await.text(), "hello");
                assert_eq!(client.get("/").await.text(), "hello");
            }
            seen.len()
        }));
    }
    let mut swaps = 0;
    while clients.iter().any(|client| !client.is_finished()) {
        secure.serve(&[secure.authority.serve(&["shop.test"])]);
        swaps += 1;
        tokio::task::yield_now().await;
    }
    for client in clients {
        // Sessions that are resumed show what they began with.
        assert!(client.await.unwrap() >= 1);
    }
    assert!(swaps > 1);
    assert_eq!(kept.get("/").await.text(), "hello");
    let fresh = secure.client().await;
    let before = kept.stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_ne!(fresh.stream.get_ref().1.peer_certificates().unwrap()[0], before);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_resumed_also_after_a_swap() {
    use rustls::version::{TLS12, TLS13};
    let secure = Secure::start(|_, _| ()).await;
    for (version, already) in [(&TLS13, 0), (&TLS12, 1)] {
        let config = Arc::new(secure.authority.client(&[version], &[kx_group::X25519]));
        let kind = async || {
            let mut client = secure.connect("shop.test", &config).await.unwrap();
            assert_eq!(client.get("/").await.text(), "hello");
            client.stream.get_ref().1.handshake_kind().unwrap()
        };
        assert_eq!(kind().await, HandshakeKind::Full);
        secure.serve(&[secure.authority.serve(&["shop.test"])]);
        assert_eq!(kind().await, HandshakeKind::Resumed);
        assert_eq!(secure.node.count(|counters| &counters.tls_resumed), already + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_whose_certificate_is_still_to_come_is_refused_and_others_are_served() {
    let secure = Secure::start(|_, _| ()).await;
    let (served, awaited) = ([secure.authority.serve(&["shop.test"])], ["wiki.test".to_owned()]);
    let material = |served: &[Served]| Material::awaiting(served, &awaited, &secure.listeners).unwrap();
    secure.node.material.store(Arc::new(material(&served)));
    let config = Arc::new(secure.authority.modern());
    let error = secure.connect("wiki.test", &config).await.unwrap_err().to_string();
    assert!(error.contains("AccessDenied"), "{error}");
    eventually("it is counted", || secure.failures(TlsFailure::NoCertificate) == 1).await;
    assert_eq!(secure.client().await.get("/").await.text(), "hello");
    // It has come.
    secure.node.material.store(Arc::new(material(&[secure.authority.serve(&["wiki.test"])])));
    assert_eq!(secure.connect("wiki.test", &config).await.unwrap().get("/").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_in_a_handshake_is_answered_with_its_proof_and_nothing_else() {
    let wanted = [TlsListener::new().unwrap().asking(Authority::new().believes_nobody_else())];
    let secure = Secure::with(wanted.to_vec(), |_, _| ()).await;
    let served = [secure.authority.serve(&["shop.test"])];
    let mut authority = secure.authority.modern();
    authority.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let authority = Arc::new(authority);
    // While there is nothing to prove, nobody speaks that.
    assert!(secure.connect("shop.test", &authority).await.is_err());
    let proof = secure.authority.serve(&["shop.test"]).key;
    let challenges =
        Challenges { tls: vec![("shop.test".into(), Arc::clone(&proof))], ..Challenges::default() };
    let material = Material::new(&served, &secure.listeners).unwrap().proving(&challenges).unwrap();
    secure.node.material.store(Arc::new(material));
    let mut client = secure.connect("SHOP.test", &authority).await.unwrap();
    let session = client.stream.get_ref().1;
    assert_eq!(session.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    assert_eq!(session.peer_certificates().unwrap()[0], proof.cert[0]);
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, client.stream.read_to_end(&mut rest)).await.expect("it stays open");
    assert!(rest.is_empty());
    assert!(secure.connect("wiki.test", &authority).await.is_err());
    eventually("it is counted", || secure.failures(TlsFailure::AcmeChallenge) == 1).await;
    assert_eq!(secure.node.count(|counters| &counters.tls13_handshakes), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_over_http_is_answered_whoever_asks_and_only_if_it_is_known() {
    let mut secure = Secure::start(|settings, app| {
        settings.workers = 1;
        app.hosts = vec!["app.test".into()];
    })
    .await;
    let challenges =
        Challenges { http: vec![("token-1".into(), "token-1.print".into())], ..Challenges::default() };
    let material = Material::new(&[], &secure.listeners).unwrap().proving(&challenges).unwrap();
    secure.node.material.store(Arc::new(material));
    let mut client = secure.node.connect().await;
    // Two on one connection, for whatever host.
    for _ in 0..2 {
        let answer = client.get("/.well-known/acme-challenge/token-1").await;
        assert_eq!((answer.head.status, answer.text().as_str()), (200, "token-1.print"));
        assert_eq!(secure.node.access().await.status, 200);
    }
    let unknown = "GET /.well-known/acme-challenge/token-2 HTTP/1.1\r\nHost: app.test\r\n\r\n";
    client.send(unknown).await;
    assert!(!client.answer().await.text().contains("print"));
    secure.node.access().await;
    client.send("POST /.well-known/acme-challenge/token-1 HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n").await;
    assert!(!client.answer().await.text().contains("print"), "the app answers that");
    // A ban does not keep a certificate authority out.
    secure.node.ban("127.0.0.1");
    assert!(client.is_closed().await, "the worker has heard of it");
    let mut client = secure.node.connect().await;
    assert_eq!(client.get("/.well-known/acme-challenge/token-1").await.text(), "token-1.print");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_on_a_tls_port_is_told_so() {
    let secure = Secure::start(|_, _| ()).await;
    let stream = TcpStream::connect(secure.address()).await.unwrap();
    let mut client = Client { stream, input: BytesMut::new() };
    let answer = client.get("/").await;
    assert_eq!(answer.head.status, 400);
    assert!(answer.text().contains("HTTPS"), "{}", answer.text());
    client.stream.shutdown().await.unwrap();
    assert!(client.is_closed().await);
    eventually("it is counted", || secure.failures(TlsFailure::PlainHttp) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_neither_gets_an_alert() {
    let secure = Secure::start(|_, _| ()).await;
    let mut stream = TcpStream::connect(secure.address()).await.unwrap();
    stream.write_all(&[0x80, 0x2e, 1, 3, 1]).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 50]);
    eventually("it is counted", || secure.failures(TlsFailure::Malformed) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_handshake_is_cut() {
    let secure = Secure::start(|settings, _| settings.limits.handshake_ms = 200).await;
    let mut silent = TcpStream::connect(secure.address()).await.unwrap();
    let mut slow = TcpStream::connect(secure.address()).await.unwrap();
    slow.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    for stream in [&mut silent, &mut slow] {
        let read = timeout(PATIENCE, stream.read(&mut [0; 64])).await.expect("it stays open");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    eventually("both are counted", || secure.failures(TlsFailure::Timeout) == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_handshakes_is_bounded_and_leaves_room_to_others() {
    let secure = Secure::start(|settings, _| settings.limits.handshakes_per_actor = 4).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(secure.client().await);
    }
    let mut flood = Vec::new();
    for _ in 0..12 {
        flood.push(TcpStream::connect(secure.address()).await.unwrap());
    }
    eventually("the rest is closed", || secure.failures(TlsFailure::Limit) == 8).await;
    assert_eq!(secure.node.edge.tables().handshakes.total(), 4);
    // Those whose handshake is over are served on, and so is who comes when there is room again.
    for client in &mut clients {
        assert_eq!(client.get("/").await.text(), "hello");
    }
    drop(flood);
    eventually("there is room", || secure.node.edge.tables().handshakes.total() == 0).await;
    assert_eq!(secure.client().await.get("/").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_begins_handshakes_too_often_is_closed_unread_and_others_are_served() {
    let secure =
        Secure::start(|settings, _| settings.limits.handshake_pace = Pace::new(1, 3_600_000, 3)).await;
    let mut kept = secure.client().await;
    for _ in 0..2 {
        assert_eq!(secure.client().await.get("/").await.text(), "hello");
    }
    for refused in 1..=5 {
        let mut stream = TcpStream::connect(secure.address()).await.unwrap();
        let read = timeout(PATIENCE, stream.read(&mut [0; 64])).await.expect("it stays open");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        assert_eq!(secure.node.reached(LimitReached::HandshakeRate), refused);
    }
    // No place is taken, connections that are there go on, and a listener without TLS has no such limit.
    assert_eq!(secure.node.edge.tables().handshakes.total(), 0);
    assert_eq!(kept.get("/").await.text(), "hello");
    assert_eq!(secure.node.connect().await.get("/").await.head.status, 200);
    // Another address has its own.
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = other.connect(secure.address()).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    timeout(PATIENCE, other.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_may_begin_handshakes_as_often_as_they_like() {
    let exempt = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    let decide = phalanx_decide::DecidePlan { operators: exempt, ..Default::default() };
    let upstream = crate::support::Upstream::start().await;
    let node = Node::before(
        upstream,
        |settings, _| {
            settings.tls_listen = vec!["127.0.0.1:0".parse().unwrap()];
            settings.limits.handshake_pace = Pace::new(1, 3_600_000, 1);
        },
        decide,
    );
    let secure = Secure { node, authority: Authority::new(), listeners: vec![TlsListener::new().unwrap()] };
    secure.serve(&[secure.authority.serve(&["shop.test"])]);
    for _ in 0..3 {
        assert_eq!(secure.client().await.get("/").await.text(), "hello");
    }
    assert_eq!(secure.node.reached(LimitReached::HandshakeRate), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_any_size_go_both_ways() {
    use rustls::version::{TLS12, TLS13};
    let secure = Secure::start(|_, _| ()).await;
    for version in [&TLS13, &TLS12] {
        let config = Arc::new(secure.authority.client(&[version], &[kx_group::X25519]));
        let mut client = secure.connect("shop.test", &config).await.unwrap();
        let body = pattern(3 << 20);
        client
            .send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()))
            .await;
        let (mut reading, mut writing) = tokio::io::split(client.stream);
        let sent = body.clone();
        let sending = tokio::spawn(async move {
            writing.write_all(&sent).await.unwrap();
            writing.flush().await.unwrap();
            writing
        });
        let mut answer = Vec::new();
        while !answer.ends_with(&body[body.len() - 64..]) || answer.len() < body.len() {
            assert!(timeout(PATIENCE, reading.read_buf(&mut answer)).await.unwrap().unwrap() > 0);
        }
        assert!(answer.ends_with(&body));
        let mut client = Client { stream: reading.unsplit(sending.await.unwrap()), input: BytesMut::new() };
        assert!(client.get("/large-length").await.body == pattern(10 << 20));
        assert!(client.get("/large-chunked").await.body == pattern(10 << 20));
        assert_eq!(client.get("/").await.text(), "hello");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greeting_may_come_byte_by_byte() {
    let secure = Secure::start(|_, _| ()).await;
    let stream = TcpStream::connect(secure.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from("shop.test").unwrap();
    let connector = TlsConnector::from(Arc::new(secure.authority.modern()));
    let stream = timeout(PATIENCE, connector.connect(name, Trickle(stream))).await.unwrap().unwrap();
    let mut client = Client { stream, input: BytesMut::new() };
    assert_eq!(client.get("/").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_with_its_connection_is_whole_only_with_a_close_notify() {
    let secure = Secure::start(|_, _| ()).await;
    let read = async |path: &str| {
        let mut client = secure.client().await;
        client.send(format!("GET {path} HTTP/1.0\r\nHost: a\r\n\r\n")).await;
        let mut answer = Vec::new();
        let end = timeout(PATIENCE, client.stream.read_to_end(&mut answer)).await.unwrap();
        (end.map_err(|error| error.kind()).map(|_| ()), String::from_utf8_lossy(&answer).into_owned())
    };
    let (end, answer) = read("/until-close").await;
    assert!(end.is_ok() && answer.ends_with("until the end"), "{end:?} {answer}");
    for path in ["/truncated", "/truncated-chunks"] {
        let (end, answer) = read(path).await;
        assert_eq!(end, Err(io::ErrorKind::UnexpectedEof), "{path} {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_goes_through_with_each_side_closing_on_its_own() {
    let secure = Secure::start(|_, _| ()).await;
    let mut client = secure.client().await;
    client
        .send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n")
        .await;
    assert_eq!(client.head_only().await.status, 101);
    let message = pattern(200_000);
    client.send(&message).await;
    while client.input.len() < message.len() {
        assert!(timeout(PATIENCE, client.fill()).await.unwrap() > 0);
    }
    assert!(client.input == message);
    client.input.clear();
    client.stream.shutdown().await.unwrap();
    timeout(PATIENCE, client.stream.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_idle_sessions_properly() {
    let secure = Secure::start(|_, _| ()).await;
    let mut idle = secure.client().await;
    assert_eq!(idle.get("/").await.text(), "hello");
    let edge = secure.node.edge.clone();
    let draining = tokio::spawn(async move { edge.drain(PATIENCE).await });
    let end = timeout(PATIENCE, idle.stream.read(&mut [0; 1])).await.unwrap();
    assert_eq!(end.unwrap(), 0, "without a close_notify it is an error");
    drop(idle);
    timeout(PATIENCE, draining).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_hybrid_exchange_is_required_others_are_refused() {
    let mut listener = TlsListener::new().unwrap();
    listener.require_pq = true;
    let secure = Secure::with(vec![listener], |_, _| ()).await;
    assert_eq!(secure.client().await.get("/").await.text(), "hello");
    let config = Arc::new(secure.authority.client(rustls::ALL_VERSIONS, &[kx_group::X25519]));
    let error = secure.connect("shop.test", &config).await.unwrap_err().to_string();
    assert!(error.contains("InsufficientSecurity"), "{error}");
    eventually("it is counted", || secure.failures(TlsFailure::NotPostQuantum) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_may_ask_for_a_clients_certificate() {
    let staff = Authority::new();
    let verifier = |required: bool| {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(staff.roots(), provider);
        if required { builder.build() } else { builder.allow_unauthenticated().build() }.unwrap()
    };
    let listener = |required| TlsListener::new().unwrap().asking(verifier(required));
    let listeners = vec![listener(true), listener(false), TlsListener::new().unwrap()];
    let secure = Secure::with(listeners, |_, _| ()).await;
    let anonymous = Arc::new(secure.authority.modern());
    let known = |authority: &Authority| {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        let (chain, key) = authority.issue(&["alice"]);
        let builder = builder.unwrap().with_root_certificates(secure.authority.roots());
        Arc::new(builder.with_client_auth_cert(chain, key).unwrap())
    };
    let (employee, stranger) = (known(&staff), known(&Authority::new()));
    let addresses = secure.node.edge.tls_addrs();
    let served = async |place: usize, config: &Arc<ClientConfig>| {
        // With TLS 1.3 a client learns of a refusal only when it reads.
        let Ok(mut client) = connect(addresses[place], "shop.test", config).await else { return false };
        client.stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.is_ok() && client.fill().await > 0
    };
    // A session without a certificate is not resumed where one is required.
    assert!(served(2, &anonymous).await && served(1, &anonymous).await);
    for (place, config, expected) in [
        (0, &employee, true),
        (0, &anonymous, false),
        (0, &stranger, false),
        (1, &employee, true),
        (1, &stranger, false),
        (2, &stranger, true),
    ] {
        assert_eq!(served(place, config).await, expected, "listener {place}");
    }
    eventually("they are counted", || secure.failures(TlsFailure::ClientCertificate) == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarder_may_have_to_show_a_certificate() {
    let staff = Authority::new();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(staff.roots(), Arc::clone(&provider));
    let listener = TlsListener::new().unwrap().asking(builder.allow_unauthenticated().build().unwrap());
    let mut secure = Secure::with(vec![listener], |_, app| {
        app.trust_forwarded = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
        app.client_address.certified = true;
    })
    .await;
    let builder =
        ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let (chain, key) = staff.issue(&["cdn"]);
    let builder = builder.unwrap().with_root_certificates(secure.authority.roots());
    let known = builder.with_client_auth_cert(chain, key).unwrap();
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
    let mut forwarder = secure.connect("shop.test", &Arc::new(known)).await.unwrap();
    forwarder.send(ask).await;
    assert_eq!(forwarder.answer().await.head.status, 200);
    assert_eq!(secure.node.access().await.client.to_string(), "203.0.113.9");
    let mut stranger = secure.client().await;
    stranger.send(ask).await;
    assert_eq!(stranger.answer().await.head.status, 200);
    let (event, signals, _) = secure.node.security_request().await;
    assert_eq!((event.client.to_string(), signals.len()), ("127.0.0.1".to_owned(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancers_header_comes_before_tls() {
    let mut secure = Secure::start(|settings, _| {
        settings.proxied = vec![None, Some(["127.0.0.0/8".parse().unwrap()].into_iter().collect())];
    })
    .await;
    let mut stream = TcpStream::connect(secure.address()).await.unwrap();
    stream.write_all(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n").await.unwrap();
    let connector = TlsConnector::from(Arc::new(secure.authority.modern()));
    let stream = connector.connect("shop.test".try_into().unwrap(), stream).await.unwrap();
    let mut client = Client { stream, input: bytes::BytesMut::new() };
    assert_eq!(client.get("/").await.head.status, 200);
    let event = secure.node.access().await;
    assert_eq!(event.client.to_string(), "203.0.113.9");
    assert!(event.ja4.is_some() && event.balancer.is_some());
    // The listener without it is as ever.
    let mut plain = secure.node.connect().await;
    assert_eq!(plain.get("/").await.head.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_of_a_fingerprint_refuses_those_who_greet_so() {
    let mut secure = Secure::start(|_, _| ()).await;
    let mut client = secure.client().await;
    assert_eq!(client.get("/").await.head.status, 200);
    let ja4 = secure.node.access().await.ja4.unwrap();
    secure.node.ban_actor(Actor::Ja4(ja4));
    eventually("its connection is closed", || secure.node.edge.open_connections() == 0).await;
    let mut again = secure.client().await;
    assert_eq!(again.get("/").await.head.status, 403);
    let (event, ..) = secure.node.security_request().await;
    assert_eq!(event.ja4, Some(ja4));
    assert!(
        matches!(&event.verdict.reason, Reason::Decision { decision } if decision.actor == Actor::Ja4(ja4))
    );
    // Another kind of client, and one without TLS, are served.
    let config = Arc::new(secure.authority.client(&[&rustls::version::TLS12], &[kx_group::X25519]));
    let mut other = secure.connect("shop.test", &config).await.unwrap();
    assert_eq!(other.get("/").await.head.status, 200);
    assert_eq!(secure.node.connect().await.get("/").await.head.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fingerprint_of_a_trusted_forwarder_stands_for_nobody() {
    let forwarders = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    let decide = phalanx_decide::DecidePlan { forwarders, ..Default::default() };
    let upstream = crate::support::Upstream::start().await;
    let node = Node::before(
        upstream,
        |settings, app| {
            settings.tls_listen = vec!["127.0.0.1:0".parse().unwrap()];
            app.trust_forwarded = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
        },
        decide,
    );
    let mut secure =
        Secure { node, authority: Authority::new(), listeners: vec![TlsListener::new().unwrap()] };
    secure.serve(&[secure.authority.serve(&["shop.test"])]);
    let mut client = secure.client().await;
    client.get("/").await;
    let ja4 = secure.node.access().await.ja4.unwrap();
    secure.node.ban_actor(Actor::Ja4(ja4));
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n").await;
    assert_eq!(client.answer().await.head.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_in_a_handshake_is_counted() {
    let secure = Secure::start(|_, _| ()).await;
    let mut stream = TcpStream::connect(secure.address()).await.unwrap();
    stream.write_all(&[22, 3, 1]).await.unwrap();
    drop(stream);
    eventually("it is counted", || secure.failures(TlsFailure::Closed) == 1).await;
    assert_eq!(secure.node.count(|counters| &counters.requests), 0);
    assert_eq!(secure.node.upstream.state.requests.load(Ordering::Relaxed), 0);
}

/// Writes one byte at a time.
struct Trickle(TcpStream);

impl AsyncWrite for Trickle {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &bytes[..bytes.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut byte = [0; 7];
        let mut few = ReadBuf::new(&mut byte);
        let polled = Pin::new(&mut self.0).poll_read(cx, &mut few);
        buffer.put_slice(few.filled());
        polled
    }
}
