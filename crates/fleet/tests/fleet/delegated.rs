//! A site's delegate, on a real nats-server in operator mode: whom it renews keeps its link, what it signed ends with it, and its
//! stolen keys get nobody beyond an edge node's rights in its site.

use std::sync::Arc;

use parking_lot::Mutex;
use phalanx_fleet::{nats, subject};
use phalanx_trust::certificate::{self, CertificateOrder, Signer};
use phalanx_trust::delegation::{DELEGATION_MAX_MS, DelegationGrant, DelegationRequest};
use phalanx_trust::join::{DerText, RenewRequest};
use phalanx_trust::membership::Held;
use phalanx_trust::nats_login::{self, NatsRights, NatsUser};
use phalanx_trust::{
    Announcement, EnrolRequest, Grant, Invitation, Named, NodeKeys, NodeRecord, Sealer, SigningKey,
    SiteDelegate, SpiffeId,
};

use crate::enrolled::{Enrolled, Fleet, SHOPS, enrolled_by, now};
use crate::stolen::Thief;
use crate::support::{Node, gathered, until};

const DAY: u64 = 24 * 3_600_000;
/// What is left of a certificate that needs renewal.
const LEFT: u64 = 10_000;

/// A fleet whose authority has delegated site `fra` to node `b`.
struct Delegated {
    fleet: Fleet,
    own: Enrolled,
    a: Node,
    b: Enrolled,
}

impl Delegated {
    async fn start() -> Option<Self> {
        let fleet = Fleet::start().await?;
        let (own, a) = fleet.first().await;
        let b = fleet.enrol("fra", "b", true, false);
        fleet.authority.lock().delegate("fra", "b", DELEGATION_MAX_MS).unwrap();
        Some(Self { fleet, own, a, b })
    }

    /// The delegate asks, as it does once a minute.
    fn sync(&self, delegate: &Mutex<SiteDelegate>) {
        let request = delegate.lock().request(&self.b.node, now()).unwrap();
        let grant = self.fleet.authority.lock().grant_delegation(&request, now()).unwrap();
        assert_eq!(delegate.lock().granted(&request, grant).unwrap(), Vec::<String>::new());
    }

    /// The delegate, with what it asked for, known to the server.
    async fn delegate(&self) -> Mutex<SiteDelegate> {
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let made = SiteDelegate::load_or_create(self.b.state.path(), sealer, (SHOPS, "fra", "b")).unwrap();
        let delegate = Mutex::new(made);
        self.sync(&delegate);
        self.tell().await;
        delegate
    }

    /// What the authority's node does when servers must know something new.
    async fn tell(&self) {
        let (login, claims) = {
            let authority = self.fleet.authority.lock();
            // Servers take claims of a later second than those they have.
            let at_ms = now() + 1_000;
            (authority.nats_system_login(now()).unwrap(), authority.nats_account(at_ms).unwrap())
        };
        nats::claims::update(&self.fleet.server.url(), &self.own.membership, login, claims).await.unwrap();
    }
}

fn invitation() -> Invitation {
    Invitation { site: "fra".into(), control: false, addresses: vec![], for_ms: 60_000 }
}

fn replaced(keys: &Enrolled, grant: Grant) {
    keys.membership.replace(Held { bundle: keys.membership.held().bundle.clone(), grant });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_the_delegate_renews_keeps_its_link_and_its_standing() {
    let Some(site) = Delegated::start().await else { return };
    let delegate = site.delegate().await;
    // Enrolled by the authority a day ago, nearly.
    let past = now() - DAY + LEFT;
    let c_keys = enrolled_by("fra", "c", false, |keys| {
        let mut authority = site.fleet.authority.lock();
        let token = authority.invite(&invitation(), past).unwrap();
        authority.enrol(&EnrolRequest::make(&token, "fra", "c", keys).unwrap(), past).unwrap()
    });
    site.sync(&delegate);
    let ends = c_keys.membership.held().grant.expires_at_ms;
    let c = site.fleet.run(&c_keys, false).await;
    gathered(&[&site.a, &c]).await;
    let link = c.fleet.engine().link();

    let request = RenewRequest::make(SHOPS, "fra", "c", &c_keys.node, now());
    replaced(&c_keys, delegate.lock().renew(&request, now()).unwrap());
    let mut bans = 0u8;
    until("the old login is over", || {
        bans = bans.saturating_add(1).min(200);
        c.ban(&format!("192.0.2.{bans}"), 600_000);
        assert!(link.borrow().connected, "the link is never down");
        now() > ends + 1_000
    })
    .await;
    c.ban("198.51.100.1", 600_000);
    until("what it says counts", || site.a.refuses("198.51.100.1")).await;
    // Who comes now knows it by the delegate's word only.
    let e = site.fleet.run(&site.fleet.enrol("syd", "e", false, false), false).await;
    gathered(&[&site.a, &c, &e]).await;
    c.ban("198.51.100.2", 600_000);
    until("a newcomer believes it", || e.refuses("198.51.100.2") && e.refuses("192.0.2.1")).await;
    assert_eq!(c.fleet.status().degraded, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_delegate_signed_ends_with_the_delegation_and_counts_again_by_the_authority() {
    let Some(site) = Delegated::start().await else { return };
    let delegate = site.delegate().await;
    let c_keys = enrolled_by("fra", "c", false, |keys| {
        let token = delegate.lock().invite(&invitation(), now()).unwrap();
        let request = EnrolRequest::make(&token, "fra", "c", keys).unwrap();
        delegate.lock().enrol(&request, now()).unwrap()
    });
    let c = site.fleet.run(&c_keys, false).await;
    gathered(&[&site.a, &c]).await;
    c.ban("192.0.2.1", 600_000);
    until("its ban counts", || site.a.refuses("192.0.2.1")).await;
    site.sync(&delegate);

    site.fleet.authority.lock().end_delegation("fra", "b", now()).unwrap();
    site.a.fleet.end_delegation("fra", "b", "stolen").await.unwrap();
    assert!(site.a.fleet.members().iter().all(|member| &*member.node != "c"));
    site.tell().await;
    until("its link is cut", || !c.fleet.status().connected).await;
    c.ban("192.0.2.2", 600_000);
    // It comes back neither with a restart of who refused it, nor with its announcement in the stream.
    let a = site.a.restart().await;
    until("the authority's node is linked", || a.fleet.status().connected).await;
    assert!(a.refuses("192.0.2.1") && !a.refuses("192.0.2.2"));
    assert!(a.fleet.members().iter().all(|member| &*member.node != "c"));

    let request = RenewRequest::make(SHOPS, "fra", "c", &c_keys.node, now());
    replaced(&c_keys, site.fleet.authority.lock().renew(&request, now()).unwrap());
    gathered(&[&a, &c]).await;
    until("what it said meanwhile counts now", || a.refuses("192.0.2.2")).await;
}

/// A delegate's keys in a thief's hands.
struct Stolen {
    ca: SigningKey,
    signer: SigningKey,
    grant: DelegationGrant,
}

impl Stolen {
    fn of(site: &Delegated) -> Self {
        let (ca, signer) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let request = DelegationRequest {
            fleet: SHOPS.into(),
            site: "fra".into(),
            node: "b".into(),
            ca_request: certificate::request(&ca).unwrap(),
            nats_request: certificate::request(&signer).unwrap(),
            held_until_ms: 0,
            nodes: vec![],
            at_ms: now(),
            signature: vec![],
        };
        let request = request.signed(&site.b.node).unwrap();
        let grant = site.fleet.authority.lock().grant_delegation(&request, now()).unwrap();
        Self { ca, signer, grant }
    }

    fn chain(&self, site: &str, node: &str, key: &SigningKey) -> Vec<DerText> {
        let id = SpiffeId { fleet: SHOPS.into(), what: Named::Node { site: site.into(), node: node.into() } };
        let key = key.verifying();
        let order = CertificateOrder { id: &id, key, now_ms: now(), for_ms: DAY, hosts: &[] };
        let signer = Signer { certificate: &self.grant.chain[0].0, key: &self.ca };
        let leaf = certificate::make(&order, &self.ca, Some(&signer)).unwrap();
        [&[DerText(leaf)], &self.grant.chain[..]].concat()
    }

    fn login(&self, node: &str, keys: &NodeKeys<'_>) -> String {
        let times = (now(), now() + DAY);
        nats_login::scoped_user(&self.signer, &self.grant.account, node, keys.nats.verifying(), times)
    }

    /// A node of its own making, with any login.
    fn makes(&self, node: &str, login: impl FnOnce(&NodeKeys<'_>) -> String) -> Enrolled {
        enrolled_by("fra", node, false, |keys| Grant {
            fleet: SHOPS.into(),
            site: "fra".into(),
            node: node.into(),
            chain: self.chain("fra", node, keys.node),
            operator_chain: vec![],
            roots: self.grant.roots.clone(),
            nats_login: login(keys),
            nats_url: String::new(),
            enrol: vec![],
            issued_at_ms: now(),
            expires_at_ms: now() + DAY,
            policy_version_min: 0,
            names_key: None,
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_delegates_keys_reach_no_other_site_and_purge_nothing() {
    let Some(site) = Delegated::start().await else { return };
    let stolen = Stolen::of(&site);
    site.tell().await;
    let mut thief = Thief::enter_as(&site.fleet, stolen.makes("x", |keys| stolen.login("x", keys))).await;
    for subject in [
        // As any edge node that was stolen.
        "$JS.API.STREAM.PURGE.DEC_fra",
        "$JS.API.STREAM.DELETE.DEC_fra",
        "$JS.API.STREAM.UPDATE.DEC_fra",
        "phx.pol.fra.default",
        "phx.rev.fra.x.syd.e",
        "phx.ord.fra.x.syd.e",
        "phx.lease.fra",
        // Of another site, and of another node of its own.
        "phx.node.syd.x",
        "phx.dec.syd.x.ban.1",
        "phx.hb.syd.x",
        "phx.node.fra.c",
        "phx.dec.fra.c.ban.1",
    ] {
        thief.client.publish(subject, "x".into()).await.unwrap();
        thief.refused(subject).await;
    }

    // A name that would be a pattern gets no further than the site.
    let mut star = Thief::enter_as(&site.fleet, stolen.makes("y", |keys| stolen.login("*", keys))).await;
    for subject in ["phx.node.syd.y", "phx.pol.fra.default", "$JS.API.STREAM.PURGE.DEC_fra"] {
        star.client.publish(subject, "x".into()).await.unwrap();
        star.refused(subject).await;
    }

    // A login with rights that the thief wrote itself is none at all.
    let wide = stolen.makes("z", |keys| {
        let user =
            NatsUser { site: "syd", node: "z", key: keys.nats.verifying(), rights: NatsRights::Steward };
        nats_login::node_user(&stolen.signer, &user, now(), now() + DAY)
    });
    assert!(Thief::try_enter(&site.fleet, wide).await.is_err(), "the server refuses it");

    // And what it signed for another site is believed by nobody, however it gets there.
    let key = SigningKey::generate().unwrap();
    let record = NodeRecord {
        site: "syd".into(),
        node: "x".into(),
        version: "0.1.0".into(),
        node_key: key.verifying(),
        operator_key: None,
        roles: vec![],
        started_at_ms: now(),
        enrol: vec![],
    };
    let subject = subject::of_node("syd", "x");
    let made = Announcement::make(SHOPS, &subject, &record, &key, None).unwrap();
    let bytes = made.certified(&stolen.chain("syd", "x", &key), &[]).to_bytes().unwrap();
    let carrier = Thief::enter_as(&site.fleet, site.fleet.enrol("syd", "x", false, false)).await;
    carrier.client.publish(subject, bytes.into()).await.unwrap();
    carrier.client.flush().await.unwrap();
    until("it is refused and named", || {
        site.a.fleet.status().degraded.join("").contains("without a valid certificate")
    })
    .await;
    assert_eq!(site.a.fleet.members().len(), 1);
}
