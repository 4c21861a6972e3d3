//! Sites with servers of their own, linked over relays that can be cut: real nats-servers, real keepers, real nodes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use parking_lot::Mutex;
use phalanx_fleet::NewBlocklist;
use phalanx_fleet::nats::keeper::{self, HeldServer, KeeperSettings, KeeperState};
use phalanx_model::{Actor, DecisionKind};
use phalanx_trust::nats_config::{self, NatsServerPlan, SitePlan};
use phalanx_trust::nats_login;
use phalanx_trust::{
    FleetAuthority, Invitation, Sealer, ServerGrant, ServerKeys, ServerPlace, ServerRequest,
};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::enrolled::{Enrolled, SHOPS, enrol, now};
use crate::policy::bundle;
use crate::support::{NatsServer, Node, NodePlan, address, free_port, gathered, nats_binary, order, until};

/// A fleet of sites. The authority is beside the server of the first.
struct Sites {
    _folder: tempfile::TempDir,
    authority: Arc<Mutex<FleetAuthority>>,
}

/// A site's server with its keeper.
struct Site {
    name: String,
    server: NatsServer,
    leaf: u16,
    state: watch::Receiver<KeeperState>,
    keeper: JoinHandle<()>,
    _held: watch::Sender<Arc<HeldServer>>,
}

impl Sites {
    fn new() -> Option<Self> {
        nats_binary()?;
        let folder = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let authority = FleetAuthority::create(folder.path(), sealer, Some(SHOPS), now()).unwrap();
        Some(Self { _folder: folder, authority: Arc::new(Mutex::new(authority)) })
    }

    /// A site whose server links itself to these ports, in this order.
    async fn site(&self, name: &str, hubs: &[u16]) -> Site {
        let leaf = free_port();
        let keys = keys();
        let hubs: Vec<String> = hubs.iter().map(|port| format!("tls://127.0.0.1:{port}")).collect();
        let mut granted = None;
        let configure = |port: u16, folder: &Path| {
            let grant = self.granted(name, port, &keys);
            let plan = plan(port, folder);
            let site = SitePlan {
                leaf_listen: Some(format!("127.0.0.1:{leaf}").parse().unwrap()),
                hubs,
                cluster: None,
            };
            nats_config::write_site(folder, &grant, &keys, &plan, &site).unwrap();
            granted = Some(grant);
            folder.join(nats_config::CONFIG)
        };
        let server = NatsServer::start_configured(configure).await.unwrap();
        let grant = granted.unwrap();
        let keys = Arc::new(keys);
        let bundle = grant.check(&keys, now()).unwrap();
        let settings = KeeperSettings { url: server.url(), replicas: 1, guests: Arc::new(Vec::new) };
        let (held, watched) = watch::channel(Arc::new(HeldServer { grant, keys, bundle }));
        let (report, state) = watch::channel(KeeperState::default());
        let keeper = tokio::spawn(keeper::keep(settings, watched, report));
        let site = Site { name: name.into(), server, leaf, state, keeper, _held: held };
        site.ready().await;
        site
    }

    /// Enrols a server.
    fn granted(&self, site: &str, port: u16, keys: &ServerKeys) -> ServerGrant {
        let place = ServerPlace {
            site: site.into(),
            server: "nats-1".into(),
            hosts: vec!["127.0.0.1".into()],
            clients: vec![format!("tls://127.0.0.1:{port}")],
        };
        let mut authority = self.authority.lock();
        let invitation = Invitation { site: site.into(), control: false, addresses: vec![], for_ms: 60_000 };
        let token = authority.invite_server(&invitation, now()).unwrap();
        authority.enrol_server(&ServerRequest::make(&token, &place, keys).unwrap(), now()).unwrap()
    }

    /// A server with another's grant and a configuration that denies nothing.
    async fn rogue(&self, site: &str, hub: u16) -> NatsServer {
        let keys = keys();
        let configure = |port: u16, folder: &Path| {
            let grant = self.granted(site, port, &keys);
            let plan = plan(port, folder);
            nats_config::write_site(folder, &grant, &keys, &plan, &SitePlan::default()).unwrap();
            let path = |name: &str| folder.join(name).display().to_string();
            let config = format!(
                "host: 127.0.0.1\nport: {port}\nleafnodes {{ remotes: [ {{ urls: [\"tls://127.0.0.1:{hub}\"], credentials: \"{}\", \
                 tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\" }} }} ] }}\n",
                path("links.creds"),
                path("nats.crt"),
                path("nats.key"),
                path("roots.crt"),
            );
            std::fs::write(folder.join("rogue.conf"), config).unwrap();
            folder.join("rogue.conf")
        };
        NatsServer::start_configured(configure).await.unwrap()
    }

    /// Two sites with a relay between them, and a node in each; all hear each other.
    async fn linked(&self) -> ([Site; 2], Relay, [Node; 2]) {
        let fra = self.site("fra", &[]).await;
        let relay = Relay::to(fra.leaf).await;
        let syd = self.site("syd", &[relay.port]).await;
        syd.hears(1).await;
        let a = self.node(&fra, "a", true).await;
        let b = self.node(&syd, "b", false).await;
        gathered(&[&a, &b]).await;
        ([fra, syd], relay, [a, b])
    }

    async fn node(&self, site: &Site, name: &str, control: bool) -> Node {
        let enrolled = enrol(&self.authority, &site.name, name, control, false);
        self.run(&enrolled, site, control).await
    }

    async fn run(&self, enrolled: &Enrolled, site: &Site, control: bool) -> Node {
        let plan = NodePlan {
            fleet_id: SHOPS.into(),
            control,
            membership: Some(Arc::clone(&enrolled.membership)),
            ..NodePlan::on(&enrolled.site, &enrolled.name, &site.server)
        };
        plan.start_in(Arc::clone(&enrolled.state)).await
    }
}

impl Site {
    async fn ready(&self) {
        let state = self.state.clone();
        until("the site's streams are there", || state.borrow().ready).await;
    }

    /// Hears the keepers of so many other sites.
    async fn hears(&self, others: usize) {
        let state = self.state.clone();
        until("the other sites are heard", || state.borrow().ready && state.borrow().sites.len() == others)
            .await;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Passes bytes on to a port, until it is cut, and again when it is healed.
struct Relay {
    port: u16,
    whole: watch::Sender<bool>,
    hung: watch::Sender<u32>,
    task: JoinHandle<()>,
}

impl Relay {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (whole, state) = watch::channel(true);
        let (hung, hangs) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut passing = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let (mut state, mut hangs) = (state.clone(), hangs.clone());
                hangs.mark_unchanged();
                if !*state.borrow_and_update() {
                    continue;
                }
                passing.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    let passing = async {
                        tokio::select! {
                            _ = copy_bidirectional(&mut near, &mut far) => {}
                            // Neither end is told.
                            _ = hangs.changed() => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = passing => {}
                        _ = state.wait_for(|whole| !whole) => {}
                    }
                });
                while passing.try_join_next().is_some() {}
            }
        });
        Self { port: own, whole, hung, task }
    }

    fn cut(&self) {
        self.whole.send_replace(false);
    }

    fn heal(&self) {
        self.whole.send_replace(true);
    }

    /// Nothing passes any more over the connections of this moment, which stay open; new ones pass.
    fn hang(&self) {
        self.hung.send_modify(|count| *count += 1);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn plan(port: u16, folder: &Path) -> NatsServerPlan {
    NatsServerPlan { host: "127.0.0.1".into(), port, store: folder.display().to_string(), hosts: vec![] }
}

fn keys() -> ServerKeys {
    let folder = tempfile::tempdir().unwrap();
    ServerKeys::load_or_create(folder.path(), &Sealer::ephemeral().unwrap()).unwrap()
}

/// Waits for a condition and returns how long that took.
async fn measured(what: &str, condition: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    until(what, condition).await;
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_in_one_site_is_enforced_in_another_and_lies_in_both() {
    let Some(sites) = Sites::new() else { return };
    let fra = sites.site("fra", &[]).await;
    let syd = sites.site("syd", &[fra.leaf]).await;
    fra.hears(1).await;
    syd.hears(1).await;
    let a = sites.node(&fra, "a", true).await;
    let b = sites.node(&syd, "b", false).await;
    gathered(&[&a, &b]).await;
    a.ban("192.0.2.1", 600_000);
    let took = measured("the ban crosses", || b.refuses("192.0.2.1")).await;
    println!("a ban crossed a link in {took:?}");
    b.ban("192.0.2.2", 600_000);
    until("and back", || a.refuses("192.0.2.2")).await;
    // Who comes later finds both at its own site's server, with the other site gone.
    copied(&sites, &syd, "fra").await;
    drop(fra);
    let c = sites.node(&syd, "c", false).await;
    until("a joiner has both", || c.refuses("192.0.2.1") && c.refuses("192.0.2.2")).await;
}

/// Waits until a site has a copy of what another site's nodes decided, and of their announcements, without which it counts for nobody.
async fn copied(sites: &Sites, at: &Site, of: &str) {
    let reader = enrol(&sites.authority, &at.name, "reader", false, false);
    let (client, _beats) = listener(&reader, &at.server.url(), "phx.hb.>").await;
    let jetstream = async_nats::jetstream::new(client);
    let until = Instant::now() + Duration::from_secs(30);
    for name in [format!("NODE_{of}"), format!("DEC_{of}")] {
        loop {
            let copy = jetstream.get_stream(&name).await;
            if copy.is_ok_and(|copy| copy.cached_info().state.messages > 0) {
                break;
            }
            assert!(Instant::now() < until, "no copy of {name}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_pushed_at_its_home_reaches_the_other_sites_and_is_pushed_nowhere_else() {
    let Some(sites) = Sites::new() else { return };
    let fra = sites.site("fra", &[]).await;
    let syd = sites.site("syd", &[fra.leaf]).await;
    fra.hears(1).await;
    syd.hears(1).await;
    let a = sites.node(&fra, "a", true).await;
    let b = sites.node(&syd, "b", true).await;
    gathered(&[&a, &b]).await;
    let offered = |node: &Node| {
        let offer = node.fleet.policy().borrow().offer.clone();
        offer.map(|offer| offer.reference.version)
    };
    a.fleet.push_policy(bundle("one", None)).await.unwrap();
    until("it is offered where it was pushed", || offered(&a) == Some(1)).await;
    until("and in the other site, with all that is in it", || offered(&b) == Some(1)).await;
    let refused = b.fleet.push_policy(bundle("two", Some(1))).await.unwrap_err().to_string();
    assert!(refused.contains("at a node of site fra"), "{refused}");
    a.fleet.push_policy(bundle("two", Some(1))).await.unwrap();
    until("the next version crosses, too", || offered(&b) == Some(2)).await;
    // As does the content of a blocklist, whichever site it is put into force in.
    let list = NewBlocklist {
        name: "scanners".into(),
        kind: DecisionKind::Ban,
        for_ms: 600_000,
        reason: "scans".into(),
        prefixes: ["198.51.100.0/24".parse().unwrap()].into_iter().collect(),
    };
    b.fleet.import_blocklist(list).await.unwrap();
    until("the list is in force in both", || a.refuses("198.51.100.7") && b.refuses("198.51.100.7")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_of_a_cut_go_on_and_agree_within_five_seconds_after_it() {
    let Some(sites) = Sites::new() else { return };
    let ([_fra, syd], relay, [a, b]) = sites.linked().await;
    b.ban("192.0.2.1", 600_000);
    until("it crosses", || a.refuses("192.0.2.1")).await;
    // Long enough for a copy's question to get lost in it; and shorter.
    for (round, cut_ms) in [(1, 23_000), (2, 3_000)] {
        relay.cut();
        until("the sites do not hear each other", || syd.state.borrow().sites.is_empty()).await;
        let (to_a, to_b) = (format!("198.51.100.{round}"), format!("203.0.113.{round}"));
        a.ban(&to_a, 600_000);
        b.ban(&to_b, 600_000);
        for n in 0..100 {
            a.ban(&format!("10.{round}.0.{n}"), 600_000);
            b.ban(&format!("10.{round}.1.{n}"), 600_000);
        }
        if round == 1 {
            a.fleet.add(order(Actor::ip(address("192.0.2.99")), DecisionKind::Ban, 600_000)).unwrap();
            a.fleet.withdraw(Actor::ip(address("192.0.2.1")), "a mistake").unwrap();
        }
        until("both go on", || a.fleet.status().queue == 0 && b.fleet.status().queue == 0).await;
        assert!(!a.refuses(&to_b) && !b.refuses(&to_a) && (round > 1 || b.refuses("192.0.2.1")));
        tokio::time::sleep(Duration::from_millis(cut_ms)).await;
        relay.heal();
        let took = measured("all is everywhere", || {
            let all =
                |node: &Node, site: usize| (0..100).all(|n| node.refuses(&format!("10.{round}.{site}.{n}")));
            a.refuses(&to_b) && b.refuses(&to_a) && all(&a, 1) && all(&b, 0)
        })
        .await;
        println!("after a cut of {cut_ms} ms all was everywhere {took:?} after it healed");
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(!b.refuses("192.0.2.1") && !a.refuses("192.0.2.1"), "what was withdrawn does not come back");
        assert!(b.refuses("192.0.2.99"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_hangs_without_a_word_is_left_within_seconds() {
    let Some(sites) = Sites::new() else { return };
    let (_sites, relay, [a, b]) = sites.linked().await;
    relay.hang();
    b.ban("192.0.2.1", 600_000);
    a.ban("192.0.2.2", 600_000);
    let took =
        measured("a new link carries both bans", || a.refuses("192.0.2.1") && b.refuses("192.0.2.2")).await;
    println!("a link that hung was replaced, and all was everywhere, after {took:?}");
    // Two questions of a server to the other without an answer, two seconds apart, and the time until the next.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_first_hub_sites_share_over_the_second() {
    let Some(sites) = Sites::new() else { return };
    let mut fra = sites.site("fra", &[]).await;
    let iad = sites.site("iad", &[fra.leaf]).await;
    let syd = sites.site("syd", &[fra.leaf, iad.leaf]).await;
    let sin = sites.site("sin", &[fra.leaf, iad.leaf]).await;
    for site in [&fra, &iad, &syd, &sin] {
        site.hears(3).await;
    }
    let (b, c) = (sites.node(&syd, "b", false).await, sites.node(&sin, "c", false).await);
    gathered(&[&b, &c]).await;
    b.ban("192.0.2.1", 600_000);
    until("over the first hub", || c.refuses("192.0.2.1")).await;
    fra.server.down();
    b.ban("192.0.2.2", 600_000);
    assert!(b.refuses("192.0.2.2"));
    let took = measured("over the second hub", || c.refuses("192.0.2.2")).await;
    println!("the second hub took over after {took:?}");
    c.ban("192.0.2.3", 600_000);
    until("and back", || b.refuses("192.0.2.3")).await;
    // The first hub comes back; the sites stay where they are, and all hear each other.
    fra.server.up().await;
    for site in [&fra, &iad, &syd, &sin] {
        site.hears(3).await;
    }
    let a = sites.node(&fra, "a", false).await;
    until("what was missed is there", || {
        ["192.0.2.1", "192.0.2.2", "192.0.2.3"].iter().all(|ip| a.refuses(ip))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_server_heals_from_the_nodes_and_so_do_the_copies_of_it() {
    let Some(sites) = Sites::new() else { return };
    let mut fra = sites.site("fra", &[]).await;
    let syd = sites.site("syd", &[fra.leaf]).await;
    let a = sites.node(&fra, "a", false).await;
    let b = sites.node(&syd, "b", false).await;
    gathered(&[&a, &b]).await;
    for n in 0..50 {
        a.ban(&format!("192.0.2.{n}"), 600_000);
    }
    until("b has them", || b.refuses("192.0.2.49")).await;
    fra.server.down();
    fra.server.wipe();
    fra.server.up().await;
    until("they are sent again", || a.fleet.status().connected && a.fleet.status().queue == 0).await;
    a.ban("198.51.100.1", 600_000);
    until("and it goes on", || b.refuses("198.51.100.1")).await;
    fra.hears(1).await;
    syd.hears(1).await;
    // A newcomer at the other site reads the copy: of the new stream, whose numbers began at one again.
    let c = sites.node(&syd, "c", false).await;
    until("the copy is whole", || {
        (0..50).all(|n| c.refuses(&format!("192.0.2.{n}"))) && c.refuses("198.51.100.1")
    })
    .await;
    let d = sites.node(&fra, "d", false).await;
    until("and so is the original", || (0..50).all(|n| d.refuses(&format!("192.0.2.{n}")))).await;
    // Their readers of the streams were replaced, as a login lets them.
    for node in [&a, &b] {
        let degraded = node.fleet.status().degraded;
        assert!(degraded.iter().all(|fault| !fault.contains("ermissions")), "{degraded:?}");
    }
}

/// A plain client with an enrolled node's login, listening to a subject.
async fn listener(of: &Enrolled, url: &str, subject: &str) -> (async_nats::Client, async_nats::Subscriber) {
    let membership = Arc::clone(&of.membership);
    let options = async_nats::ConnectOptions::with_auth_callback(move |nonce| {
        let membership = Arc::clone(&membership);
        async move {
            let mut auth = async_nats::Auth::new();
            auth.jwt = Some(membership.held().grant.nats_login.clone());
            auth.signature = Some(membership.sign_nats(&nonce).to_vec());
            Ok::<_, async_nats::AuthError>(auth)
        }
    });
    let options = options.custom_inbox_prefix(nats_login::inbox(&of.site, &of.name));
    let client = phalanx_trust::tls::member_client(&of.membership, "nats").unwrap();
    let client = options.require_tls(true).tls_client_config(client).connect(url).await.unwrap();
    let heard = client.subscribe(subject.to_owned()).await.unwrap();
    client.flush().await.unwrap();
    (client, heard)
}

/// Publishes so many raw events and heartbeats of `fra/edge`, in turn.
async fn speak(client: &async_nats::Client) {
    for n in 0..50 {
        client.publish("phx.raw.fra.edge", format!("raw event {n}").into()).await.unwrap();
        client.publish("phx.hb.fra.edge", format!("heartbeat {n}").into()).await.unwrap();
    }
    client.flush().await.unwrap();
}

/// Waits until a link has heard that somebody at its other end listens: what is published before goes nowhere.
async fn crosses(from: &async_nats::Client, heard: &mut async_nats::Subscriber) {
    for _ in 0..100 {
        from.publish("phx.hb.fra.probe", "".into()).await.unwrap();
        from.flush().await.unwrap();
        let message = tokio::time::timeout(Duration::from_millis(100), heard.next()).await;
        if message.is_ok_and(|message| {
            message.is_some_and(|message| message.subject.as_str() == "phx.hb.fra.probe")
        }) {
            return;
        }
    }
    panic!("nothing crosses the link");
}

/// Counts raw events among what is heard, until all heartbeats that were published with them are.
async fn raw_until_all_beats(heard: &mut async_nats::Subscriber) -> usize {
    let (mut raw, mut beats) = (0, 0);
    while beats < 50 {
        let message = tokio::time::timeout(Duration::from_secs(10), heard.next()).await;
        let message = message.expect("heartbeats are heard").unwrap();
        raw += usize::from(message.subject.starts_with("phx.raw."));
        beats += usize::from(message.subject.as_str() == "phx.hb.fra.edge");
    }
    raw
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_events_never_leave_their_site() {
    let Some(sites) = Sites::new() else { return };
    let fra = sites.site("fra", &[]).await;
    // Somebody holds a whole other site: a server whose configuration denies nothing, linked with all that a server of that site was
    // granted, and a client at it that may hear and say everything.
    let rogue = sites.rogue("syd", fra.leaf).await;
    let rogue_client = async_nats::connect(rogue.url()).await.unwrap();
    let mut far = rogue_client.subscribe(">").await.unwrap();
    rogue_client.flush().await.unwrap();
    let edge = enrol(&sites.authority, "fra", "edge", false, false);
    let control = enrol(&sites.authority, "fra", "control", true, false);
    let (_control, mut near) = listener(&control, &fra.server.url(), "phx.raw.fra.>").await;
    let (speaker, _beats) = listener(&edge, &fra.server.url(), "phx.hb.>").await;
    // The link is up when something crosses it.
    let made = stream_made(&mut far).await;

    speak(&speaker).await;
    assert_eq!(raw_until_all_beats(&mut far).await, 0, "no raw event left its site");
    for n in 0..50 {
        let message = tokio::time::timeout(Duration::from_secs(10), near.next()).await.unwrap().unwrap();
        assert_eq!(message.payload, format!("raw event {n}"), "its own site hears them");
    }
    // Nor does one come in.
    let (_hears, mut beats) = listener(&edge, &fra.server.url(), "phx.hb.>").await;
    crosses(&rogue_client, &mut beats).await;
    speak(&rogue_client).await;
    assert_eq!(raw_until_all_beats(&mut beats).await, 0);
    let nothing = tokio::time::timeout(Duration::from_millis(200), near.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    // What is not on the list does not cross either: leases, blobs, others' answers from JetStream.
    let mut stays = rogue_client.subscribe("$JS.fra.API.STREAM.DELETE.>").await.unwrap();
    for subject in ["$JS.fra.API.STREAM.DELETE.DEC_fra", "$JS.fra.API.STREAM.PURGE.DEC_fra", "phx.lease.x"] {
        rogue_client.publish(subject, "".into()).await.unwrap();
    }
    speak(&rogue_client).await;
    raw_until_all_beats(&mut beats).await;
    assert!(stays.next().await.is_some(), "only the rogue's own site heard it");
    for _ in 0..3 {
        assert_eq!(stream_made(&mut far).await, made, "the stream of the site was not deleted");
    }
}

/// When the site `fra` says that its stream of decisions was made.
async fn stream_made(heard: &mut async_nats::Subscriber) -> String {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(10), heard.next()).await;
        let message = message.expect("the keeper is heard over the link").unwrap();
        if message.subject.as_str() == "phx.srv.fra.nats-1" {
            let says: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            let streams = says["streams"].as_array().unwrap();
            let decisions = streams.iter().find(|stream| stream["name"] == "DEC_fra").unwrap();
            return decisions["made"].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_asks_the_nodes_of_all_sites_and_nobody_else_does() {
    let Some(sites) = Sites::new() else { return };
    let fra = sites.site("fra", &[]).await;
    let syd = sites.site("syd", &[fra.leaf]).await;
    let a = sites.node(&fra, "a", true).await;
    let b = sites.node(&syd, "b", false).await;
    let c = sites.node(&fra, "c", false).await;
    gathered(&[&a, &b, &c]).await;
    for node in [&b, &c] {
        let (mut questions, name) = (node.fleet.questions(), node.name.clone());
        tokio::spawn(async move {
            while let Some(question) = questions.recv().await {
                assert_eq!((&*question.asker.node, &*question.bytes), ("a", &b"who?"[..]));
                question.answer(format!("I, {name}").as_bytes()).await;
            }
        });
    }
    let mut answers = a.fleet.ask(b"who?").await.unwrap();
    let mut said = Vec::new();
    for _ in 0..2 {
        let answer = tokio::time::timeout(Duration::from_secs(10), answers.recv()).await.unwrap().unwrap();
        said.push((answer.site.to_string(), String::from_utf8(answer.bytes).unwrap()));
    }
    said.sort();
    assert_eq!(said, [("fra".into(), "I, c".to_owned()), ("syd".into(), "I, b".to_owned())]);
    assert!(b.fleet.ask(b"who?").await.is_err(), "an edge node has nobody to ask in whose name");
}
