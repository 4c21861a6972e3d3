//! The authority as a whole: invite, enrol, renew, revoke, change the root.

use std::sync::Arc;

use super::*;
use crate::Refusal;
use crate::certificate::describe;
use crate::join::ders;
use crate::membership::Held;

const NOW: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;

/// The keys that a node makes for itself.
pub(crate) struct Keys {
    pub(crate) node: SigningKey,
    pub(crate) operator: SigningKey,
    pub(crate) nats: SigningKey,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let key = || SigningKey::generate().unwrap();
        Self { node: key(), operator: key(), nats: key() }
    }

    fn all(&self) -> NodeKeys<'_> {
        NodeKeys { node: &self.node, operator: Some(&self.operator), nats: &self.nats }
    }
}

fn authority(fleet: &str) -> (tempfile::TempDir, FleetAuthority) {
    let folder = tempfile::tempdir().unwrap();
    let sealer = Arc::new(Sealer::ephemeral().unwrap());
    let authority = FleetAuthority::create(folder.path(), sealer, Some(fleet), NOW).unwrap();
    (folder, authority)
}

pub(crate) fn invitation(site: &str, control: bool) -> Invitation {
    Invitation { site: site.into(), control, addresses: vec!["192.0.2.1:1".into()], for_ms: HOUR }
}

fn ask(token: &JoinToken, site: &str, node: &str, keys: &Keys) -> EnrolRequest {
    EnrolRequest::make(token, site, node, &keys.all()).unwrap()
}

#[test]
fn a_second_authority_in_one_folder_is_refused_and_the_first_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let sealer = Arc::new(Sealer::load_or_create(&folder.path().join("kek")).unwrap());
    assert!(FleetAuthority::open(folder.path(), Arc::clone(&sealer)).unwrap().is_none());
    let made = FleetAuthority::create(folder.path(), Arc::clone(&sealer), None, NOW).unwrap();
    let again =
        FleetAuthority::create(folder.path(), Arc::clone(&sealer), None, NOW).unwrap_err().to_string();
    assert!(again.contains("already"), "{again}");
    let opened = FleetAuthority::open(folder.path(), sealer).unwrap().unwrap();
    assert_eq!(opened.overview(NOW).unwrap(), made.overview(NOW).unwrap());
    let other = FleetAuthority::open(folder.path(), Arc::new(Sealer::ephemeral().unwrap())).unwrap_err();
    assert!(other.to_string().contains("sealed under another key"));
}

#[test]
fn a_token_admits_one_node_of_its_site_in_its_time() {
    let (_folder, mut authority) = authority("f");
    let (_other_folder, mut other) = self::authority("g");
    let token = authority.invite(&invitation("fra", false), NOW).unwrap();
    let keys = Keys::new();
    let good = ask(&token, "fra", "a", &keys);
    let foreign = other.invite(&invitation("fra", false), NOW).unwrap();
    let refused = [
        (ask(&foreign, "fra", "a", &keys), NOW, JoinRefusal::Foreign),
        (EnrolRequest { fleet: "f".into(), ..ask(&foreign, "fra", "a", &keys) }, NOW, JoinRefusal::Foreign),
        (EnrolRequest { secret: "0".repeat(64), ..good.clone() }, NOW, JoinRefusal::Foreign),
        (ask(&token, "syd", "a", &keys), NOW, JoinRefusal::WrongSite("fra".into())),
        (good.clone(), NOW + HOUR, JoinRefusal::Expired),
        (ask(&token, "fra", "a.b", &keys), NOW, JoinRefusal::Malformed("site or node is no name".into())),
        (
            EnrolRequest { operator_request: certificate::request(&keys.operator).unwrap(), ..good.clone() },
            NOW,
            JoinRefusal::Malformed("the token admits no operator key".into()),
        ),
        (
            EnrolRequest { node_request: vec![1, 2, 3], ..good.clone() },
            NOW,
            JoinRefusal::Malformed("the node's key is not proven".into()),
        ),
    ];
    for (request, at_ms, refusal) in refused {
        assert_eq!(authority.enrol(&request, at_ms), Err(refusal), "{request:?}");
    }
    let grant = authority.enrol(&good, NOW + 1).unwrap();
    assert!(grant.operator_chain.is_empty());
    assert_eq!(
        authority.enrol(&ask(&token, "fra", "b", &Keys::new()), NOW + 2),
        Err(JoinRefusal::Used("fra/a".into()))
    );
    assert_eq!(
        authority.enrol(&ask(&token, "fra", "a", &Keys::new()), NOW + 2),
        Err(JoinRefusal::Used("fra/a".into()))
    );
    assert!(authority.enrol(&good, NOW + 2).is_ok(), "whoever lost the answer asks again with the same key");
    let second = authority.invite(&invitation("fra", false), NOW).unwrap();
    let thief = ask(&second, "fra", "a", &Keys::new());
    assert_eq!(authority.enrol(&thief, NOW), Err(JoinRefusal::NameTaken("fra/a".into())));
}

#[test]
fn only_a_digest_of_a_token_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let sealer = Arc::new(Sealer::ephemeral().unwrap());
    let mut authority = FleetAuthority::create(folder.path(), Arc::clone(&sealer), Some("f"), NOW).unwrap();
    let token = authority.invite(&invitation("fra", false), NOW).unwrap();
    let plain = sealer.open(SEAL_CONTEXT, &std::fs::read(folder.path().join(FILE)).unwrap()).unwrap();
    let holds = |text: &str| plain.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&token.id) && !holds(&token.secret));
}

#[test]
fn a_token_is_not_used_up_by_a_grant_that_could_not_be_kept() {
    let (folder, mut authority) = authority("f");
    let token = authority.invite(&invitation("fra", false), NOW).unwrap();
    let request = ask(&token, "fra", "a", &Keys::new());
    let away = folder.path().join("away");
    let path = std::mem::replace(&mut authority.path, away.join("nowhere"));
    assert!(matches!(authority.enrol(&request, NOW), Err(JoinRefusal::Unavailable(_))));
    authority.path = path;
    assert!(authority.enrol(&ask(&token, "fra", "b", &Keys::new()), NOW).is_ok());
}

#[test]
fn certificates_say_who_a_node_is_for_a_day() {
    let (_folder, mut authority) = authority("f");
    let token = authority.invite(&invitation("fra", true), NOW).unwrap();
    let keys = Keys::new();
    let grant = authority.enrol(&ask(&token, "fra", "a", &keys), NOW).unwrap();
    let bundle = authority.bundle().unwrap();
    let node = bundle.verify(&ders(&grant.chain), NOW).unwrap();
    assert_eq!(node.id.to_string(), "spiffe://f/site/fra/node/a");
    assert_eq!(
        (node.key, node.issued_at_ms, node.expires_at_ms),
        (keys.node.verifying(), NOW, NOW + 24 * HOUR)
    );
    let operator = bundle.verify(&ders(&grant.operator_chain), NOW).unwrap();
    assert_eq!(operator.id.to_string(), "spiffe://f/site/fra/operator/a");
    assert!(bundle.verify(&ders(&grant.chain), NOW - 4 * 60_000).is_ok(), "a clock that is a little behind");
    assert!(bundle.verify(&ders(&grant.chain), NOW - 6 * 60_000).is_err());
    let ended = bundle.verify(&ders(&grant.chain), NOW + 24 * HOUR + 1000);
    assert_eq!(ended, Err(Refusal::CertificateExpired("spiffe://f/site/fra/node/a".into())));
    let (_other_folder, other) = self::authority("f");
    assert!(matches!(other.bundle().unwrap().verify(&ders(&grant.chain), NOW), Err(Refusal::Certificate(_))));
    assert!(Held::check(grant.clone(), &keys.all(), NOW).is_ok());
    assert!(Held::check(grant, &Keys::new().all(), NOW).is_err(), "not with another's keys");
}

#[test]
fn a_stolen_node_key_signs_no_certificates() {
    let (_folder, mut authority) = authority("f");
    let token = authority.invite(&invitation("fra", false), NOW).unwrap();
    let keys = Keys::new();
    let grant = authority.enrol(&ask(&token, "fra", "a", &keys), NOW).unwrap();
    let chain = ders(&grant.chain);
    let bundle = authority.bundle().unwrap();
    for name in ["spiffe://f/site/fra/node/b", "spiffe://f/site/fra/operator/a", "spiffe://f/service/nats"] {
        let id = SpiffeId::parse(name).unwrap();
        let own = Keys::new();
        let order =
            CertificateOrder { id: &id, key: own.node.verifying(), now_ms: NOW, for_ms: HOUR, hosts: &[] };
        let signer = Signer { certificate: &chain[0], key: &keys.node };
        let forged = certificate::make(&order, &own.node, Some(&signer)).unwrap();
        let forged_chain = [&[forged][..], &chain].concat();
        assert!(matches!(bundle.verify(&forged_chain, NOW), Err(Refusal::Certificate(_))), "{name}");
    }
}

#[test]
fn a_sites_intermediate_signs_for_its_own_site_only() {
    let (_folder, mut authority) = authority("f");
    let issuer = authority.issuer(&Named::Site("fra".into()), NOW).unwrap();
    let bundle = authority.bundle().unwrap();
    for (name, good) in [
        ("spiffe://f/site/fra/node/b", true),
        ("spiffe://f/site/syd/node/b", false),
        ("spiffe://g/site/fra/node/b", false),
        ("spiffe://f/service/nats", false),
        ("spiffe://f/site/fra", false),
    ] {
        let (id, key) = (SpiffeId::parse(name).unwrap(), SigningKey::generate().unwrap());
        let order = CertificateOrder { id: &id, key: key.verifying(), now_ms: NOW, for_ms: HOUR, hosts: &[] };
        let chain = authority.chain(&order, &issuer).unwrap();
        assert_eq!(bundle.verify(&chain, NOW).is_ok(), good, "{name}");
    }
}

#[test]
fn a_node_renews_with_its_key_until_it_is_revoked_or_long_gone() {
    let (_folder, mut authority) = authority("f");
    let token = authority.invite(&invitation("fra", false), NOW).unwrap();
    let keys = Keys::new();
    authority.enrol(&ask(&token, "fra", "a", &keys), NOW).unwrap();
    let renew = |key: &SigningKey, at| RenewRequest::make("f", "fra", "a", key, at);
    let fresh = authority.renew(&renew(&keys.node, NOW + 12 * HOUR), NOW + 12 * HOUR).unwrap();
    assert_eq!(fresh.expires_at_ms, NOW + 36 * HOUR);
    let not_enrolled = Err(JoinRefusal::NotEnrolled("fra/a".into()));
    assert_eq!(authority.renew(&renew(&Keys::new().node, NOW), NOW), not_enrolled);
    assert!(matches!(authority.renew(&renew(&keys.node, NOW), NOW + HOUR), Err(JoinRefusal::Malformed(_))));
    let late = NOW + 36 * HOUR + RENEWABLE_FOR_MS;
    assert!(authority.renew(&renew(&keys.node, late), late).is_ok(), "back from a holiday");
    let too_late = late + 24 * HOUR + RENEWABLE_FOR_MS + 1;
    assert_eq!(authority.renew(&renew(&keys.node, too_late), too_late), not_enrolled);
    let another = SigningKey::generate().unwrap().verifying();
    assert!(!authority.revoke("fra", "a", Some(another), late).unwrap(), "who had the name before");
    assert!(authority.revoke("fra", "a", None, late).unwrap());
    assert!(!authority.revoke("fra", "nobody", None, late).unwrap());
    let revoked = Err(JoinRefusal::Revoked("fra/a".into()));
    assert_eq!(authority.renew(&renew(&keys.node, late), late), revoked);
    let token = authority.invite(&invitation("fra", false), late).unwrap();
    assert_eq!(
        authority.enrol(&ask(&token, "fra", "a", &keys), late),
        revoked,
        "not with the key that was revoked"
    );
    assert!(authority.enrol(&ask(&token, "fra", "a", &Keys::new()), late).is_ok());
}

#[test]
fn all_nodes_of_a_fleet_have_one_key_for_names_whatever_root_there_is() {
    let (_folder, mut authority) = authority("f");
    let key_of = |authority: &mut FleetAuthority, site: &str| {
        let token = authority.invite(&invitation(site, false), NOW).unwrap();
        authority.enrol(&ask(&token, site, "a", &Keys::new()), NOW).unwrap().names_key.unwrap()
    };
    let key = key_of(&mut authority, "fra");
    assert_eq!(key_of(&mut authority, "nyc"), key);
    authority.change_root(NOW).unwrap();
    assert_eq!(key_of(&mut authority, "sin"), key);
    let (_other_folder, mut other) = self::authority("f");
    assert_ne!(key_of(&mut other, "fra"), key);
}

#[test]
fn a_node_that_is_enrolled_within_the_second_of_its_revocation_is_not_taken_for_the_revoked_one() {
    let (_folder, mut authority) = authority("f");
    let token = authority.invite(&invitation("fra", true), NOW).unwrap();
    authority.enrol(&ask(&token, "fra", "a", &Keys::new()), NOW).unwrap();
    let revoked_at_ms = NOW + HOUR + 200;
    authority.revoke("fra", "a", None, revoked_at_ms).unwrap();
    let token = authority.invite(&invitation("fra", true), revoked_at_ms).unwrap();
    let grant = authority.enrol(&ask(&token, "fra", "a", &Keys::new()), revoked_at_ms + 100).unwrap();
    for chain in [&grant.chain, &grant.operator_chain] {
        let certified = describe(&ders(chain)[0]).unwrap();
        assert!(certified.issued_at_ms > revoked_at_ms, "{}", certified.issued_at_ms);
    }
    let bundle = authority.bundle().unwrap();
    assert!(bundle.verify(&ders(&grant.chain), revoked_at_ms + 100).is_ok(), "it counts at once");
}

#[test]
fn the_root_changes_while_old_and_new_certificates_count() {
    let (_folder, mut authority) = authority("f");
    let token = authority.invite(&invitation("fra", false), NOW).unwrap();
    let keys = Keys::new();
    let old = authority.enrol(&ask(&token, "fra", "a", &keys), NOW).unwrap();
    let old_bundle = authority.bundle().unwrap();
    let before = authority.root_fingerprint().unwrap();
    authority.change_root(NOW + HOUR).unwrap();
    assert!(authority.change_root(NOW + HOUR).is_err(), "one change at a time");
    assert_ne!(authority.root_fingerprint().unwrap(), before);
    let at = NOW + 2 * HOUR;
    let new = authority.renew(&RenewRequest::make("f", "fra", "a", &keys.node, at), at).unwrap();
    let both = authority.bundle().unwrap();
    for (bundle, grant) in [(&old_bundle, &old), (&old_bundle, &new), (&both, &old), (&both, &new)] {
        assert!(
            bundle.verify(&ders(&grant.chain), at).is_ok(),
            "{:?}",
            bundle.verify(&ders(&grant.chain), at)
        );
    }
    assert!(authority.finish_root_change().unwrap());
    let only_new = authority.bundle().unwrap();
    assert!(only_new.verify(&ders(&old.chain), at).is_err());
    assert!(only_new.verify(&ders(&new.chain), at).is_ok());
    assert!(!authority.finish_root_change().unwrap());
}

#[test]
fn servers_are_certified_for_their_service_and_addresses() {
    let (_folder, mut authority) = authority("f");
    let server = authority.server("nats", &["127.0.0.1".into(), "nats.example".into()], HOUR, NOW).unwrap();
    let (leaf, rest) = server.chain.split_first().unwrap();
    let chain = [std::slice::from_ref(leaf), &rest[..1]].concat();
    let certified = authority.bundle().unwrap().verify(&chain, NOW).unwrap();
    assert_eq!(certified.id.what, Named::Service("nats".into()));
    assert_eq!(describe(rest.last().unwrap()).unwrap().id.what, Named::Fleet);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_no_certificate(bytes: Vec<u8>) {
        proptest::prop_assert_eq!(describe(&bytes), None);
        proptest::prop_assert_eq!(certificate::requested_key(&bytes), None);
    }
}
