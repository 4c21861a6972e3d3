//! A fleet with an authority, on a real nats-server in operator mode with mutual TLS.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use phalanx_fleet::{FleetKeys, NatsFleet, NatsSettings, nats};
use phalanx_model::{Actor, Clock, DecisionKind, SystemClock};
use phalanx_trust::join::RenewRequest;
use phalanx_trust::membership::Held;
use phalanx_trust::nats_config::{self, NatsServerPlan};
use phalanx_trust::{
    EnrolRequest, FleetAuthority, Grant, Invitation, Membership, NodeKeys, Sealer, SigningKey,
};

use crate::support::{NatsServer, Node, NodePlan, address, gathered, order, until};

pub(crate) const SHOPS: &str = "shops";

/// The authority, its server, and its own node `fra/a`.
pub(crate) struct Fleet {
    _folder: tempfile::TempDir,
    pub(crate) authority: Arc<Mutex<FleetAuthority>>,
    pub(crate) server: NatsServer,
}

/// The keys and the membership of a node that was enrolled.
pub(crate) struct Enrolled {
    pub(crate) site: String,
    pub(crate) name: String,
    pub(crate) state: Arc<tempfile::TempDir>,
    pub(crate) node: SigningKey,
    pub(crate) membership: Arc<Membership>,
    control: bool,
}

impl Fleet {
    pub(crate) async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let mut authority = FleetAuthority::create(folder.path(), sealer, Some(SHOPS), now()).unwrap();
        let configure = |port: u16, state: &Path| configure(&mut authority, port, state);
        let server = NatsServer::start_configured(configure).await?;
        Some(Self { _folder: folder, authority: Arc::new(Mutex::new(authority)), server })
    }

    /// Writes the server's configuration anew.
    pub(crate) fn configure(&self) {
        configure(&mut self.authority.lock(), self.server.port(), self.server.folder());
    }

    /// A fresh grant for the authority's own node.
    fn enrol_again(&self, own: &Enrolled) -> Grant {
        let sealer = Sealer::load_or_create(&own.state.path().join("seal.key")).unwrap();
        let keys = FleetKeys::load_or_create(own.state.path(), &sealer, true).unwrap();
        let nats = SigningKey::load_or_create(&own.state.path().join("nats.key"), &sealer).unwrap();
        let all = NodeKeys { node: &keys.node, operator: keys.operator.as_ref(), nats: &nats };
        self.authority.lock().enrol_self("fra", "a", &all, now() + 2_000).unwrap()
    }

    /// Enrols a node with a token; with `own`, as the node that holds the authority.
    pub(crate) fn enrol(&self, site: &str, name: &str, control: bool, own: bool) -> Enrolled {
        enrol(&self.authority, site, name, control, own)
    }

    pub(crate) async fn run(&self, enrolled: &Enrolled, own: bool) -> Node {
        let authority = Arc::clone(&self.authority);
        let plan = NodePlan {
            fleet_id: SHOPS.into(),
            control: enrolled.control,
            membership: Some(Arc::clone(&enrolled.membership)),
            stewarded: own.then(|| -> phalanx_fleet::Sites { Arc::new(move || authority.lock().sites()) }),
            ..NodePlan::on(&enrolled.site, &enrolled.name, &self.server)
        };
        plan.start_in(Arc::clone(&enrolled.state)).await
    }

    /// The authority's own node, `fra/a`, with its keys.
    pub(crate) async fn first(&self) -> (Enrolled, Node) {
        let enrolled = self.enrol("fra", "a", true, true);
        let node = self.run(&enrolled, true).await;
        gathered(&[&node]).await;
        (enrolled, node)
    }

    /// What the authority's node does about a revocation.
    pub(crate) async fn cut_off(&self, own: &Enrolled, site: &str, node: &str) {
        let (login, claims) = {
            let mut authority = self.authority.lock();
            assert!(authority.revoke(site, node, None, now()).unwrap());
            (authority.nats_system_login(now()).unwrap(), authority.nats_account(now()).unwrap())
        };
        nats::claims::update(&self.server.url(), &own.membership, login, claims).await.unwrap();
    }
}

/// Enrols a node at an authority.
pub(crate) fn enrol(
    authority: &Mutex<FleetAuthority>,
    site: &str,
    name: &str,
    control: bool,
    own: bool,
) -> Enrolled {
    enrolled_by(site, name, control, |all| {
        let mut authority = authority.lock();
        if own {
            return authority.enrol_self(site, name, all, now()).unwrap();
        }
        let invitation = Invitation { site: site.into(), control, addresses: vec![], for_ms: 60_000 };
        let token = authority.invite(&invitation, now()).unwrap();
        authority.enrol(&EnrolRequest::make(&token, site, name, all).unwrap(), now()).unwrap()
    })
}

/// A node with keys of its own and whatever it is granted.
pub(crate) fn enrolled_by(
    site: &str,
    name: &str,
    control: bool,
    grant: impl FnOnce(&NodeKeys<'_>) -> Grant,
) -> Enrolled {
    let state = Arc::new(tempfile::tempdir().unwrap());
    let sealer = Sealer::load_or_create(&state.path().join("seal.key")).unwrap();
    let keys = FleetKeys::load_or_create(state.path(), &sealer, control).unwrap();
    let nats = || SigningKey::load_or_create(&state.path().join("nats.key"), &sealer).unwrap();
    let login = nats();
    let all = NodeKeys { node: &keys.node, operator: keys.operator.as_ref(), nats: &login };
    let grant = grant(&all);
    let held = Held::check(grant, &all, now()).unwrap();
    let membership = Arc::new(Membership::new(held, &keys.node, nats()).unwrap());
    Enrolled { site: site.into(), name: name.into(), state, node: keys.node, membership, control }
}

fn configure(authority: &mut FleetAuthority, port: u16, folder: &Path) -> PathBuf {
    let plan = NatsServerPlan {
        host: "127.0.0.1".into(),
        port,
        store: folder.join("streams").display().to_string(),
        hosts: vec!["127.0.0.1".into()],
    };
    nats_config::write(folder, authority, &plan, now()).unwrap();
    folder.join("nats-server.conf")
}

pub(crate) fn now() -> u64 {
    SystemClock.now_ms()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enrolled_nodes_of_two_sites_share_what_they_learn() {
    let Some(fleet) = Fleet::start().await else { return };
    let (_own, a) = fleet.first().await;
    let b = fleet.run(&fleet.enrol("syd", "b", false, false), false).await;
    gathered(&[&a, &b]).await;
    b.ban("192.0.2.1", 600_000);
    until("the ban reaches the other site", || a.refuses("192.0.2.1")).await;
    let allow = order(Actor::ip(address("192.0.2.1")), DecisionKind::Allow, 600_000);
    assert!(b.fleet.add(allow.clone()).is_err(), "an edge node has no operator key");
    a.fleet.add(allow).unwrap();
    until("an operator's order reaches the other site", || !b.refuses("192.0.2.1")).await;
    assert!(a.fleet.status().certificate_expires_at_ms.is_some_and(|ends| ends > now()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocklist_travels_within_the_rights_of_enrolled_nodes() {
    let Some(fleet) = Fleet::start().await else { return };
    let (_own, a) = fleet.first().await;
    let b = fleet.run(&fleet.enrol("syd", "b", false, false), false).await;
    let c = fleet.run(&fleet.enrol("iad", "c", true, false), false).await;
    gathered(&[&a, &b, &c]).await;
    // More than one message of content.
    let text: String =
        (0..40_000u32).map(|n| format!("{}\n", std::net::Ipv4Addr::from_bits(n * 3))).collect();
    for (importer, also) in [(&c, "192.0.2.0/24"), (&a, "198.51.100.0/24"), (&c, "203.0.113.0/24")] {
        let list = phalanx_fleet::NewBlocklist {
            name: "scanners".into(),
            kind: DecisionKind::Ban,
            for_ms: 600_000,
            reason: "test".into(),
            prefixes: phalanx_fleet::list_text::parse(&format!("{text}{also}")).unwrap(),
        };
        importer.fleet.import_blocklist(list).await.unwrap();
        let inside = also.replace(".0/24", ".7");
        for node in [&a, &b, &c] {
            until("the list is in force", || node.refuses(&inside) && node.refuses("0.0.0.3")).await;
        }
    }
    assert!(!b.refuses("192.0.2.7") && !b.refuses("198.51.100.7"));
    for node in [&a, &b, &c] {
        assert_eq!(node.fleet.status().degraded, Vec::<String>::new(), "{}", node.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_pins_keys_of_its_own_making_is_not_admitted() {
    let Some(fleet) = Fleet::start().await else { return };
    let (own, a) = fleet.first().await;
    // It has somebody's way to the server, and announces itself with a key that nobody certified.
    let stolen = fleet.enrol("fra", "b", false, false);
    let uncertified =
        NodePlan { fleet_id: SHOPS.into(), membership: None, ..NodePlan::on("fra", "b", &fleet.server) };
    let stranger = uncertified.start().await;
    assert!(!stranger.fleet.status().connected, "without a certificate there is no link at all");
    drop(stranger);
    let store = tempfile::tempdir().unwrap();
    let sealer = Arc::new(Sealer::ephemeral().unwrap());
    let store = phalanx_fleet::store::Store::open(&store.path().join("s"), sealer, 0).unwrap();
    let settings = NatsSettings {
        membership: Some(Arc::clone(&stolen.membership)),
        ..NatsSettings::at(fleet.server.url())
    };
    let author =
        phalanx_model::Author { site: "fra".into(), node: "b".into(), role: phalanx_model::AuthorRole::Node };
    let engine = NatsFleet::start(settings, author, Arc::new(store), Arc::new(SystemClock)).await.unwrap();
    let link = phalanx_fleet::Fleet::link(&engine);
    until("the thief's link is up", || link.borrow().connected).await;
    let key = SigningKey::generate().unwrap();
    let record = phalanx_trust::NodeRecord {
        site: "fra".into(),
        node: "b".into(),
        version: "0.1.0".into(),
        node_key: key.verifying(),
        operator_key: Some(key.verifying()),
        roles: vec![],
        started_at_ms: now(),
        enrol: vec![],
    };
    let subject = phalanx_fleet::subject::of_node("fra", "b");
    let made = phalanx_trust::Announcement::make(SHOPS, &subject, &record, &key, None).unwrap();
    let grant = stolen.membership.held().grant.clone();
    let put = phalanx_fleet::Put {
        topic: phalanx_fleet::Topic::Nodes,
        subject,
        version: now(),
        expires_at_ms: u64::MAX,
        bytes: made.certified(&grant.chain, &grant.chain).to_bytes().unwrap().into(),
        speed: phalanx_fleet::Speed::Fast,
    };
    phalanx_fleet::Fleet::publish(&engine, put).await.unwrap();
    until("it is refused and named", || {
        a.fleet.status().degraded.join("").contains("without a valid certificate")
    })
    .await;
    assert_eq!(a.fleet.members().len(), 1);
    drop(own);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_node_is_refused_within_a_second_and_its_link_is_cut() {
    let Some(fleet) = Fleet::start().await else { return };
    let (own, a) = fleet.first().await;
    let (b_keys, c_keys) = (fleet.enrol("syd", "b", false, false), fleet.enrol("fra", "c", false, false));
    let (b, c) = (fleet.run(&b_keys, false).await, fleet.run(&c_keys, false).await);
    gathered(&[&a, &b, &c]).await;
    b.ban("192.0.2.1", 600_000);
    until("its ban counts while it belongs", || c.refuses("192.0.2.1")).await;

    let started = Instant::now();
    a.fleet.revoke("syd", "b", false, "stolen").await.unwrap();
    until("c knows", || c.fleet.members().iter().all(|member| &*member.node != "b")).await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let before = c.fleet.status().refused;
    b.ban("192.0.2.2", 600_000);
    until("what it says is refused", || c.fleet.status().refused > before).await;
    assert!(!c.refuses("192.0.2.2") && !a.refuses("192.0.2.2"));
    assert!(c.refuses("192.0.2.1"), "what it decided before stays");

    fleet.cut_off(&own, "syd", "b").await;
    until("its link is cut", || !b.fleet.status().connected).await;
    assert!(b.fleet.status().degraded.join("").contains("revoked this node (stolen)"));
    assert!(b.refuses("192.0.2.1") && b.refuses("192.0.2.2"), "it goes on protecting");

    // It does not come back with a restart of those who refused it, nor of itself.
    let c = c.restart().await;
    gathered(&[&a, &c]).await;
    assert!(c.refuses("192.0.2.1") && !c.refuses("192.0.2.2"));
    let b = b.restart().await;
    assert!(b.fleet.status().degraded.join("").contains("revoked this node"), "it remembers");
    let again = RenewRequest::make(SHOPS, "syd", "b", &b_keys.node, now());
    assert!(fleet.authority.lock().renew(&again, now()).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_can_take_along_what_the_node_decided() {
    let Some(fleet) = Fleet::start().await else { return };
    let (_own, a) = fleet.first().await;
    let b = fleet.run(&fleet.enrol("syd", "b", false, false), false).await;
    let c = fleet.run(&fleet.enrol("fra", "c", false, false), false).await;
    gathered(&[&a, &b, &c]).await;
    b.ban("192.0.2.1", 600_000);
    c.ban("192.0.2.1", 600_000);
    b.ban("192.0.2.2", 600_000);
    until("all are known", || a.fleet.status().decisions == 3 && c.fleet.status().decisions == 3).await;
    a.fleet.revoke("syd", "b", true, "").await.unwrap();
    for node in [&a, &c] {
        until("its decisions end", || !node.refuses("192.0.2.2")).await;
        assert!(node.refuses("192.0.2.1"), "another's about the same address stands");
    }
    let c = c.restart().await;
    assert!(c.refuses("192.0.2.1") && !c.refuses("192.0.2.2"), "they do not come back with a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_was_cut_off_learns_of_a_revocation_before_it_believes_anything() {
    let Some(fleet) = Fleet::start().await else { return };
    let (_own, a) = fleet.first().await;
    let (b_keys, c_keys) = (fleet.enrol("syd", "b", false, false), fleet.enrol("iad", "c", false, false));
    let (b, c) = (fleet.run(&b_keys, false).await, fleet.run(&c_keys, false).await);
    gathered(&[&a, &b, &c]).await;
    let (state, plan) = c.stop().await;
    a.fleet.revoke("syd", "b", false, "").await.unwrap();
    for n in 1..=50 {
        b.ban(&format!("192.0.2.{n}"), 600_000);
    }
    until("they lie in the stream", || b.fleet.status().queue == 0).await;
    let c = plan.start_in(state).await;
    let mut changes = c.fleet.changes();
    until("c knows", || c.fleet.members().iter().all(|member| &*member.node != "b")).await;
    gathered(&[&a, &c]).await;
    until("it has refused what b wrote since", || c.fleet.status().refused >= 50).await;
    assert_eq!(c.fleet.status().decisions, 0);
    assert!(changes.try_recv().is_err(), "none of it was believed for a moment");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewal_takes_effect_without_losing_a_ban() {
    let Some(fleet) = Fleet::start().await else { return };
    let (_own, a) = fleet.first().await;
    let keys = fleet.enrol("syd", "b", false, false);
    let b = fleet.run(&keys, false).await;
    gathered(&[&a, &b]).await;
    let before = b.fleet.status().certificate_expires_at_ms;
    let later = now() + 2_000;
    let request = RenewRequest::make(SHOPS, "syd", "b", &keys.node, later);
    let grant = fleet.authority.lock().renew(&request, later).unwrap();
    let held = Held { bundle: keys.membership.held().bundle.clone(), grant };
    let old = connections(fleet.server.port());
    let mut link = b.fleet.engine().link();
    link.mark_unchanged();
    keys.membership.replace(held);
    for n in 1..=100 {
        b.ban(&format!("192.0.2.{n}"), 600_000);
        a.ban(&format!("198.51.100.{n}"), 600_000);
        tokio::task::yield_now().await;
    }
    until("all arrive", || a.fleet.status().decisions == 200 && b.fleet.status().decisions == 200).await;
    assert!(b.fleet.status().certificate_expires_at_ms > before);
    until("the old connection is left for the new one", || {
        let now = connections(fleet.server.port());
        now.len() == 2 && now.intersection(&old).count() == 1
    })
    .await;
    gathered(&[&a, &b]).await;
    b.ban("203.0.113.1", 600_000);
    until("and the new one serves", || a.refuses("203.0.113.1")).await;
    while link.has_changed().unwrap() {
        assert!(link.borrow_and_update().connected, "the link was never down");
    }
}

/// The near ends of this machine's connections to a port, as the kernel lists them.
fn connections(port: u16) -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let to = format!(":{port:04X}");
    let near_end = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().take(4).collect();
        (fields.len() == 4 && fields[2].ends_with(&to) && fields[3] == "01").then(|| fields[1].to_owned())
    };
    table.lines().filter_map(near_end).collect()
}

/// Waits until as many connections as before are there and all of them are new.
async fn replaced(what: &str, port: u16, before: &BTreeSet<String>) {
    until(what, || {
        let now = connections(port);
        now.len() == before.len() && now.is_disjoint(before)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_root_interrupts_nothing() {
    let Some(fleet) = Fleet::start().await else { return };
    let (own, a) = fleet.first().await;
    let keys = fleet.enrol("syd", "b", false, false);
    let b = fleet.run(&keys, false).await;
    gathered(&[&a, &b]).await;
    fleet.authority.lock().change_root(now()).unwrap();
    // One enrolled under the new root, with the old one still everybody else's.
    let c_keys = fleet.enrol("fra", "c", false, false);
    let c = fleet.run(&c_keys, false).await;
    gathered(&[&a, &b, &c]).await;
    c.ban("192.0.2.1", 600_000);
    until("the newcomer is believed", || a.refuses("192.0.2.1") && b.refuses("192.0.2.1")).await;
    b.ban("192.0.2.2", 600_000);
    until("and believes the others", || c.refuses("192.0.2.2")).await;

    // The server believes both roots, everybody renews, and the old root goes.
    let x = fleet.enrol("syd", "x", false, false);
    fleet.cut_off(&own, &x.site, &x.name).await;
    fleet.configure();
    fleet.server.reload();
    let before = connections(fleet.server.port());
    assert_eq!(before.len(), 3);
    let later = now() + 2_000;
    for (site, name, keys) in [("syd", "b", &keys), ("fra", "c", &c_keys)] {
        let request = RenewRequest::make(SHOPS, site, name, &keys.node, later);
        renewed(keys, fleet.authority.lock().renew(&request, later).unwrap());
    }
    let again = fleet.enrol_again(&own);
    renewed(&own, again);
    replaced("all have moved to connections under the new root", fleet.server.port(), &before).await;
    assert!(fleet.authority.lock().finish_root_change().unwrap());
    fleet.configure();
    fleet.server.reload();
    // What was enrolled under the new root alone is believed by all, and reaches the server.
    let d_keys = fleet.enrol("fra", "d", false, false);
    assert_eq!(d_keys.membership.held().bundle.roots().len(), 1);
    let d = fleet.run(&d_keys, false).await;
    gathered(&[&a, &b, &c, &d]).await;
    d.ban("192.0.2.3", 600_000);
    until("its ban counts", || a.refuses("192.0.2.3") && b.refuses("192.0.2.3")).await;
    let b = b.restart().await;
    gathered(&[&a, &b, &c, &d]).await;
}

fn renewed(keys: &Enrolled, grant: Grant) {
    let roots = phalanx_trust::join::ders(&grant.roots);
    let bundle = phalanx_trust::TrustBundle::new(SHOPS, &roots).unwrap();
    keys.membership.replace(Held { bundle, grant });
}
