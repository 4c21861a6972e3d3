//! Certificates that apps ask of their clients: who gets in, over which connection, and what the app is told.

use std::io;
use std::sync::Arc;

use ::aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE64, HEXLOWER};
use http::Request;
use phalanx_decide::DecidePlan;
use phalanx_edge::{AppPlan, AskedOfClients, CertificateRule, EdgePlan};
use phalanx_model::counters::TlsFailure;
use rcgen::{CertificateParams, date_time_ymd};
use rustls::client::Tls13ClientSessionValue;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, SupportedProtocolVersion};
use tokio::time::timeout;

use crate::http2::{Http2, answer};
use crate::support::{Answer, PATIENCE, eventually};
use crate::tls::{Authority, Secure};

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A node with an app for anybody, two for staff, one of which guests may see, and one for partners.
struct Site {
    secure: Secure,
    staff: Authority,
    partners: Authority,
}

impl Site {
    async fn start() -> Self {
        let site = Self {
            secure: Secure::start(|_, _| ()).await,
            staff: Authority::new(),
            partners: Authority::new(),
        };
        let names = ["open.test", "staff.test", "more.test", "guests.test", "partners.test"];
        site.secure.serve(&[site.secure.authority.serve(&names)]);
        let (staff, partners) = (site.staff.pem(), site.partners.pem());
        site.plan(&[
            ("open.test", None),
            ("staff.test", Some((&staff, true))),
            ("more.test", Some((&staff, true))),
            ("guests.test", Some((&staff, false))),
            ("partners.test", Some((&partners, true))),
        ]);
        site
    }

    /// Puts apps in force, each with the authorities that it believes and whether there must be a certificate.
    fn plan(&self, apps: &[(&str, Option<(&str, bool)>)]) {
        let app = |(host, asks): &(&str, Option<(&str, bool)>)| {
            let asked = asks.map(|(pem, required)| {
                let rule = Arc::new(CertificateRule::new(pem.as_bytes(), required).unwrap());
                Arc::new(AskedOfClients::new(rule, "client-cert", Some("x_cert_sha256")))
            });
            let mut app = AppPlan::forwarding(host, self.secure.node.upstream.plan());
            app.hosts = vec![(*host).to_owned()];
            app.client_certificate = asked;
            app
        };
        let apps = apps.iter().map(app).collect();
        self.secure.node.plan.store(Arc::new(EdgePlan::new(1, DecidePlan::default(), apps)));
    }

    fn client(&self, identity: Option<&Identity>) -> ClientConfig {
        self.client_of(&rustls::version::TLS13, identity)
    }

    fn client_of(
        &self,
        version: &'static SupportedProtocolVersion,
        identity: Option<&Identity>,
    ) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        let builder = builder.with_root_certificates(self.secure.authority.roots());
        match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap(),
        }
    }

    /// The answer to a request for `host` over a new connection that asked for `name`; `None`: there was no session.
    async fn ask(
        &self,
        name: &str,
        host: &str,
        config: &Arc<ClientConfig>,
    ) -> Option<(Answer, HandshakeKind)> {
        let mut client = self.secure.connect(name, config).await.ok()?;
        let text = format!(
            "GET /head HTTP/1.1\r\nHost: {host}\r\nClient-Cert: :Zm9yZ2Vk:\r\nclient_cert: :Zm9yZ2Vk:\r\n\
             Client-Cert-Chain: :Zm9yZ2Vk:\r\nX-Cert-SHA256: Zm9yZ2Vk\r\nx_cert-sha256: Zm9yZ2Vk\r\n\r\n"
        );
        // With TLS 1.3 a client learns of a refusal only when it reads.
        let written: io::Result<()> =
            tokio::io::AsyncWriteExt::write_all(&mut client.stream, text.as_bytes()).await;
        written.ok()?;
        let answer = timeout(PATIENCE, client.read_answer(false)).await.expect("no answer in time")?;
        Some((answer, client.stream.get_ref().1.handshake_kind().unwrap()))
    }

    async fn status(&self, name: &str, host: &str, config: &Arc<ClientConfig>) -> Option<u16> {
        self.ask(name, host, config).await.map(|(answer, _)| answer.head.status)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_lets_in_whom_its_app_believes() {
    let site = Site::start().await;
    let mut params = CertificateParams::new(vec!["alice".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let identities = [
        None,
        Some(site.staff.issue(&["alice"])),
        Some(site.partners.issue(&["bob"])),
        Some(site.staff.sign(params)),
    ];
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for (host, served) in [
            // Nobody, staff, a partner, staff of former days.
            ("open.test", [true, true, true, true]),
            ("staff.test", [false, true, false, false]),
            ("guests.test", [true, true, false, false]),
            ("partners.test", [false, false, true, false]),
        ] {
            for (place, (identity, served)) in identities.iter().zip(served).enumerate() {
                let config = Arc::new(site.client_of(version, identity.as_ref()));
                let status = site.status(host, host, &config).await;
                assert_eq!(status, served.then_some(200), "{host} {place} {version:?}");
            }
        }
    }
    eventually("the refusals are counted", || site.secure.failures(TlsFailure::ClientCertificate) == 16)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_gets_the_certificate_and_nothing_that_clients_claim() {
    let site = Site::start().await;
    let alice = site.staff.issue(&["alice"]);
    let (known, nobody) = (Arc::new(site.client(Some(&alice))), Arc::new(site.client(None)));
    let of_alice = format!("client-cert: :{}:\r\n", BASE64.encode(&alice.0[0]));
    let fingerprint =
        format!("x_cert_sha256: {}\r\n", HEXLOWER.encode(digest(&SHA256, &alice.0[0]).as_ref()));
    for (host, config, told) in [
        ("staff.test", &known, true),
        ("guests.test", &known, true),
        ("guests.test", &nobody, false),
        ("open.test", &known, false),
        ("open.test", &nobody, false),
    ] {
        // The second time the session goes on.
        for turn in 0..2 {
            let (answer, kind) = site.ask(host, host, config).await.unwrap();
            assert_eq!(kind == HandshakeKind::Resumed, turn == 1, "{host}");
            let text = answer.text();
            assert_eq!(text.contains(&of_alice) && text.contains(&fingerprint), told, "{host} {text}");
            let lower = text.to_ascii_lowercase().replace('_', "-");
            assert_eq!(lower.matches("client-cert").count(), usize::from(told), "{text}");
            // To an app that asks for no certificates it is a field like any other.
            assert_eq!(text.contains("Zm9yZ2Vk"), host == "open.test", "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_reaches_only_apps_with_the_rule_that_opened_it() {
    let site = Site::start().await;
    let staff = Arc::new(site.client(Some(&site.staff.issue(&["alice"]))));
    let hosts = ["open.test", "staff.test", "more.test", "guests.test"];
    for name in hosts {
        let group = |host: &str| {
            if host == "more.test" { 1 } else { hosts.iter().position(|&h| h == host).unwrap_or(9) }
        };
        for host in hosts.into_iter().chain(["partners.test"]) {
            let expected = if group(name) == group(host) { 200 } else { 421 };
            let (answer, _) = site.ask(name, host, &staff).await.unwrap();
            assert_eq!(answer.head.status, expected, "{name} {host}");
            let closes = answer.header("connection").as_deref() == Some("close");
            assert_eq!(closes, expected == 421, "the next one needs another connection");
        }
        // Side by side on one connection of HTTP/2, as browsers do where a certificate is for several hosts.
        let mut config = ClientConfig::clone(&staff);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let client = site.secure.connect(name, &Arc::new(config)).await.unwrap();
        let mut client = Http2::over(client.stream).await;
        for host in hosts {
            let expected = if group(name) == group(host) { 200 } else { 421 };
            let asked = Request::get(format!("https://{host}/head")).header("client-cert", "Zm9yZ2Vk");
            let (response, _) = client.begin(asked.body(()).unwrap(), true).await;
            let answer = answer(response).await.unwrap();
            assert_eq!(answer.status, expected, "{name} {host}");
            if expected == 200 {
                let text = answer.text();
                assert_eq!(text.contains("client-cert: :"), name != "open.test", "{text}");
                assert!(!text.contains("Zm9yZ2Vk"), "{text}");
            }
        }
    }
    // Without a name, and without TLS, nobody was asked.
    assert_eq!(site.status("127.0.0.1", "staff.test", &staff).await, None, "no certificate is for that name");
    let mut plain = site.secure.node.connect().await;
    for (host, expected) in [("open.test", 200), ("guests.test", 200), ("staff.test", 421)] {
        plain.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(plain.answer().await.head.status, expected, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_go_on_under_their_own_rule_alone() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let site = Site::start().await;
        let alice = site.staff.issue(&["alice"]);
        let mut config = site.client_of(version, Some(&alice));
        // A client that shows any host the sessions of all.
        config.resumption = Resumption::store(Arc::new(OneStore(ClientSessionMemoryCache::new(32))));
        let config = Arc::new(config);
        let resumed = async |host: &str| {
            let answer = site.ask(host, host, &config).await;
            answer.map(|(_, kind)| kind == HandshakeKind::Resumed)
        };
        assert_eq!(resumed("open.test").await, Some(false));
        assert_eq!(resumed("open.test").await, Some(true));
        assert_eq!(resumed("staff.test").await, Some(false), "not the one of another host");
        assert_eq!(resumed("staff.test").await, Some(true));
        assert_eq!(resumed("open.test").await, Some(false));
        // The same host with another rule: one more, another authority, none.
        assert_eq!(resumed("open.test").await, Some(true));
        let (staff, partners) = (site.staff.pem(), site.partners.pem());
        site.plan(&[("open.test", Some((&staff, false)))]);
        assert_eq!(resumed("open.test").await, Some(false));
        assert_eq!(resumed("open.test").await, Some(true));
        site.plan(&[("open.test", None)]);
        assert_eq!(resumed("open.test").await, Some(false));
        site.plan(&[("open.test", Some((&staff, true)))]);
        assert_eq!(resumed("open.test").await, Some(false));
        site.plan(&[("open.test", Some((&partners, true)))]);
        assert_eq!(resumed("open.test").await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_rule_holds_for_connections_that_are_open() {
    let site = Site::start().await;
    let staff = Arc::new(site.client(Some(&site.staff.issue(&["alice"]))));
    let status = async |client: &mut crate::support::Client<_>, host: &str| {
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        client.answer().await.head.status
    };
    let mut inside = site.secure.connect("staff.test", &staff).await.unwrap();
    let mut outside = site.secure.connect("open.test", &staff).await.unwrap();
    assert_eq!(status(&mut inside, "staff.test").await, 200);
    assert_eq!(status(&mut outside, "open.test").await, 200);
    let (staff_pem, partners) = (site.staff.pem(), site.partners.pem());
    site.plan(&[("staff.test", Some((&partners, true))), ("open.test", Some((&staff_pem, true)))]);
    assert_eq!(status(&mut inside, "staff.test").await, 421);
    assert_eq!(status(&mut outside, "open.test").await, 421);
    assert!(inside.is_closed().await && outside.is_closed().await);
    assert_eq!(site.status("staff.test", "staff.test", &staff).await, None);
    assert_eq!(site.status("open.test", "open.test", &staff).await, Some(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarders_certificate_counts_under_the_apps_own_rule_alone() {
    let mut site = Site::start().await;
    let staff = site.staff.pem();
    let rule = Arc::new(CertificateRule::new(staff.as_bytes(), false).unwrap());
    let app = |host: &str, asks: bool| {
        let mut app = AppPlan::forwarding(host, site.secure.node.upstream.plan());
        app.hosts = vec![host.to_owned()];
        app.client_certificate =
            asks.then(|| Arc::new(AskedOfClients::new(Arc::clone(&rule), "client-cert", None)));
        app.trust_forwarded = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
        app.client_address.certified = true;
        app
    };
    let apps = vec![app("open.test", false), app("guests.test", true)];
    site.secure.node.plan.store(Arc::new(EdgePlan::new(1, DecidePlan::default(), apps)));
    let cdn = Arc::new(site.client(Some(&site.staff.issue(&["cdn"]))));
    for (host, status, client) in [("guests.test", 200, "203.0.113.9"), ("open.test", 421, "127.0.0.1")] {
        let mut forwarder = site.secure.connect("guests.test", &cdn).await.unwrap();
        forwarder
            .send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"))
            .await;
        assert_eq!(forwarder.answer().await.head.status, status, "{host}");
        let event = match status {
            200 => site.secure.node.access().await,
            _ => site.secure.node.security_request().await.0,
        };
        assert_eq!(event.client.to_string(), client, "{host}");
    }
}

/// Keeps what is for any host under one name.
#[derive(Debug)]
struct OneStore(ClientSessionMemoryCache);

impl OneStore {
    fn name() -> ServerName<'static> {
        ServerName::try_from("any.test").unwrap()
    }
}

impl ClientSessionStore for OneStore {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(Self::name(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&Self::name())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(Self::name(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&Self::name())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&Self::name());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(Self::name(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&Self::name())
    }
}
