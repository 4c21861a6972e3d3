//! A delegate and its authority, both in this process: who gets what, and what peers make of it.

use super::*;
use crate::announce::{Admission, Announcement, NodeRecord};
use crate::ca::tests::{Keys, invitation};
use crate::{FleetAuthority, NodeKeys, Refusal, Revocation, TrustRoots};

const NOW: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;
const WEEK: u64 = 7 * 24 * HOUR;

/// An authority, and the control node `syd/b` that is to be a delegate.
struct Shop {
    authority: FleetAuthority,
    delegate: SiteDelegate,
    b: Keys,
    folder: tempfile::TempDir,
}

impl Keys {
    fn request(&self, token: &JoinToken, site: &str, node: &str) -> EnrolRequest {
        let operator = token.control.then_some(&self.operator);
        let keys = NodeKeys { node: &self.node, operator, nats: &self.nats };
        EnrolRequest::make(token, site, node, &keys).unwrap()
    }

    fn renewal(&self, site: &str, node: &str, now_ms: u64) -> RenewRequest {
        RenewRequest::make("shops", site, node, &self.node, now_ms)
    }
}

impl Shop {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sealer = || Arc::new(Sealer::load_or_create(&folder.path().join("sealing.key")).unwrap());
        let mut authority = FleetAuthority::create(folder.path(), sealer(), Some("shops"), NOW).unwrap();
        let b = Keys::new();
        let token = authority.invite(&invitation("syd", true), NOW).unwrap();
        authority.enrol(&b.request(&token, "syd", "b"), NOW).unwrap();
        let delegate = SiteDelegate::load_or_create(folder.path(), sealer(), ("shops", "syd", "b")).unwrap();
        Self { authority, delegate, b, folder }
    }

    fn delegated() -> Self {
        let mut shop = Self::open();
        shop.authority.delegate("syd", "b", WEEK).unwrap();
        shop.sync(NOW).unwrap();
        shop
    }

    /// The delegate asks; names that it lost.
    fn sync(&mut self, now_ms: u64) -> Result<Vec<String>, JoinRefusal> {
        let request = self.delegate.request(&self.b.node, now_ms).unwrap();
        let grant = self.authority.grant_delegation(&request, now_ms)?;
        Ok(self.delegate.granted(&request, grant).unwrap())
    }

    /// A node joins at the delegate.
    fn admitted(&mut self, node: &str, now_ms: u64) -> (Keys, Grant) {
        let keys = Keys::new();
        let token = self.delegate.invite(&invitation("syd", false), now_ms).unwrap();
        let grant = self.delegate.enrol(&keys.request(&token, "syd", node), now_ms).unwrap();
        (keys, grant)
    }

    /// What peers make of a node with this grant.
    fn peers(&self, keys: &Keys, grant: &Grant, now_ms: u64) -> Result<crate::Admitted, Refusal> {
        let bundle = self.authority.bundle().unwrap();
        open(&bundle, &grant.site, &grant.node, keys, (&grant.chain, &grant.operator_chain), now_ms)
    }
}

fn open(
    bundle: &TrustBundle,
    site: &str,
    node: &str,
    keys: &Keys,
    (chain, operator_chain): (&[DerText], &[DerText]),
    now_ms: u64,
) -> Result<crate::Admitted, Refusal> {
    let record = NodeRecord {
        site: site.into(),
        node: node.into(),
        version: "0.1.0".into(),
        node_key: keys.node.verifying(),
        operator_key: (!operator_chain.is_empty()).then(|| keys.operator.verifying()),
        roles: vec![],
        started_at_ms: now_ms,
        enrol: vec![],
    };
    let subject = format!("phx.node.{site}.{node}");
    let made = Announcement::make("shops", &subject, &record, &keys.node, None).unwrap();
    let bytes = made.certified(chain, operator_chain).to_bytes().unwrap();
    Announcement::open(&bytes, "shops", &subject, Admission::Certified(bundle, now_ms))
}

#[test]
fn a_delegate_admits_nodes_of_its_site_whom_peers_believe_until_the_delegation_ends() {
    let mut shop = Shop::delegated();
    let (keys, grant) = shop.admitted("c", NOW + HOUR);
    assert_eq!(grant.expires_at_ms, NOW + HOUR + CERTIFICATE_MS);
    let admitted = shop.peers(&keys, &grant, NOW + HOUR).unwrap();
    assert_eq!(admitted.validity.unwrap().by.unwrap().node.as_ref(), "b");
    let late = NOW + WEEK - HOUR;
    let renewed = shop.delegate.renew(&keys.renewal("syd", "c", NOW + 2 * 24 * HOUR), NOW + 2 * 24 * HOUR);
    assert!(renewed.is_ok(), "the authority is not needed");
    let last = shop.delegate.renew(&keys.renewal("syd", "c", late), late).unwrap();
    assert_eq!(last.expires_at_ms, NOW + WEEK, "nothing outlasts the delegation");
    assert!(shop.peers(&keys, &last, NOW + WEEK - 2_000).is_ok());
    let over = NOW + WEEK;
    assert!(shop.peers(&keys, &last, over + 1_000).is_err());
    let refused = shop.delegate.renew(&keys.renewal("syd", "c", over), over);
    assert!(matches!(refused, Err(JoinRefusal::Unavailable(_))), "{refused:?}");
    assert!(shop.delegate.invite(&invitation("syd", false), over).is_err());
}

#[test]
fn a_token_counts_where_it_was_made_and_nowhere_else() {
    let mut shop = Shop::delegated();
    let (one, other) = (Keys::new(), Keys::new());
    let of_delegate = shop.delegate.invite(&invitation("syd", false), NOW).unwrap();
    let of_authority = shop.authority.invite(&invitation("syd", false), NOW).unwrap();
    assert_eq!((of_delegate.by.as_deref(), of_authority.by.as_deref()), (Some("syd/b"), None));
    assert_eq!(shop.authority.enrol(&one.request(&of_delegate, "syd", "c"), NOW), Err(JoinRefusal::Foreign));
    assert_eq!(shop.delegate.enrol(&one.request(&of_authority, "syd", "c"), NOW), Err(JoinRefusal::Foreign));
    shop.delegate.enrol(&one.request(&of_delegate, "syd", "c"), NOW).unwrap();
    shop.delegate.enrol(&one.request(&of_delegate, "syd", "c"), NOW).unwrap();
    let used = Err(JoinRefusal::Used("syd/c".into()));
    assert_eq!(shop.delegate.enrol(&other.request(&of_delegate, "syd", "d"), NOW), used);
    // It is used up on disk.
    let sealer = Arc::new(Sealer::load_or_create(&shop.folder.path().join("sealing.key")).unwrap());
    let names = ("shops", "syd", "b");
    let mut again = SiteDelegate::load_or_create(shop.folder.path(), sealer, names).unwrap();
    assert_eq!(again.enrol(&other.request(&of_delegate, "syd", "d"), NOW), used);
}

#[test]
fn a_delegate_gives_no_control_and_nothing_outside_its_site() {
    let mut shop = Shop::delegated();
    for (site, control) in [("fra", false), ("syd", true)] {
        assert!(shop.delegate.invite(&invitation(site, control), NOW).is_err(), "{site} {control}");
    }
    let token = shop.delegate.invite(&invitation("syd", false), NOW).unwrap();
    let elsewhere = shop.delegate.enrol(&Keys::new().request(&token, "fra", "c"), NOW);
    assert_eq!(elsewhere, Err(JoinRefusal::WrongSite("syd".into())));
    let control = JoinToken { control: true, ..token };
    assert!(shop.delegate.enrol(&Keys::new().request(&control, "syd", "c"), NOW).is_err());
    let own = shop.delegate.renew(&shop.b.renewal("syd", "b", NOW), NOW);
    assert_eq!(own, Err(JoinRefusal::AuthorityOnly("syd/b".into())));
}

#[test]
fn peers_refuse_what_a_stolen_delegates_key_signs_beyond_its_rights() {
    let shop = Shop::delegated();
    let held = shop.delegate.state.grant.clone().unwrap();
    let (ca, _) = shop.delegate.keys().unwrap();
    let (bundle, keys) = (shop.authority.bundle().unwrap(), Keys::new());
    let (site, node): (Arc<str>, Arc<str>) = ("syd".into(), "x".into());
    let sign = |what: Named, key: &SigningKey| {
        let times = (NOW, NOW + HOUR);
        shop.delegate.leaf(&held, &ca, (what, key.verifying()), times).unwrap()
    };
    let of = |site: &str| sign(Named::Node { site: site.into(), node: "x".into() }, &keys.node);
    assert!(open(&bundle, "syd", "x", &keys, (&of("syd"), &[]), NOW).is_ok());
    let operator = sign(Named::Operator { site: Arc::clone(&site), node: Arc::clone(&node) }, &keys.operator);
    let refused = [
        ("another site", open(&bundle, "fra", "x", &keys, (&of("fra"), &[]), NOW)),
        ("another name", open(&bundle, "syd", "y", &keys, (&of("syd"), &[]), NOW)),
        ("an operator", open(&bundle, "syd", "x", &keys, (&of("syd"), &operator), NOW)),
    ];
    for (what, refused) in refused {
        assert!(matches!(refused, Err(Refusal::Certificate(_))), "{what}: {refused:?}");
    }
    for what in [
        Named::Service("nats".into()),
        Named::Service("enrol".into()),
        Named::Operator { site: Arc::clone(&site), node: "b".into() },
        Named::Delegate { site: Arc::clone(&site), node: Arc::clone(&node) },
        Named::Site(site),
        Named::Services,
        Named::Fleet,
    ] {
        let chain = sign(what.clone(), &keys.node);
        assert!(bundle.verify(&ders(&chain), NOW).is_err(), "{what:?}");
    }
    // And no leaf that an intermediate of its own making signs.
    let below = sign(Named::Delegate { site: "syd".into(), node: "b".into() }, &keys.node);
    let id = SpiffeId { fleet: "shops".into(), what: Named::Node { site: "syd".into(), node: "x".into() } };
    let order =
        CertificateOrder { id: &id, key: keys.node.verifying(), now_ms: NOW, for_ms: HOUR, hosts: &[] };
    let signer = Signer { certificate: &below[0].0, key: &keys.node };
    let mut chain = vec![certificate::make(&order, &keys.node, Some(&signer)).unwrap()];
    chain.extend(ders(&below));
    assert!(bundle.verify(&chain, NOW).is_err());
}

#[test]
fn only_the_control_node_that_was_named_gets_a_delegation() {
    let mut shop = Shop::open();
    assert_eq!(shop.sync(NOW), Err(JoinRefusal::NotDelegated("syd/b".into())));
    let (edge, control) = (Keys::new(), Keys::new());
    for (keys, node, rights) in [(&edge, "e", false), (&control, "k", true)] {
        let token = shop.authority.invite(&invitation("syd", rights), NOW).unwrap();
        shop.authority.enrol(&keys.request(&token, "syd", node), NOW).unwrap();
    }
    for (node, for_ms) in [("e", WEEK), ("nobody", WEEK), ("b", WEEK + 1), ("b", HOUR - 1)] {
        assert!(shop.authority.delegate("syd", node, for_ms).is_err(), "{node} {for_ms}");
    }
    shop.authority.delegate("syd", "b", WEEK).unwrap();
    assert!(shop.authority.delegate("syd", "k", WEEK).is_err(), "one for each site");
    let thief = shop.delegate.request(&edge.node, NOW).unwrap();
    assert_eq!(shop.authority.grant_delegation(&thief, NOW), Err(JoinRefusal::NotEnrolled("syd/b".into())));
    let old = shop.delegate.request(&shop.b.node, NOW).unwrap();
    assert!(shop.authority.grant_delegation(&old, NOW + HOUR).is_err(), "an old request");
    shop.sync(NOW).unwrap();
    let renewed = shop.authority.renew(&shop.b.renewal("syd", "b", NOW), NOW).unwrap();
    assert_eq!(renewed.expires_at_ms, NOW + WEEK, "its own certificates last as long");
}

#[test]
fn a_delegation_is_renewed_at_half_of_its_life_with_the_same_keys() {
    let mut shop = Shop::delegated();
    let first = shop.delegate.state.grant.clone().unwrap();
    let claims = shop.authority.nats_operator().unwrap();
    shop.sync(NOW + WEEK / 2 - 1).unwrap();
    assert_eq!(shop.delegate.expires_at_ms(), Some(NOW + WEEK));
    shop.sync(NOW + WEEK / 2).unwrap();
    assert_eq!(shop.delegate.expires_at_ms(), Some(NOW + WEEK + WEEK / 2));
    assert_eq!(shop.authority.nats_operator().unwrap(), claims, "servers need not be told");
    // An answer that was lost is given again.
    shop.delegate.state.grant = Some(first);
    shop.sync(NOW + WEEK / 2).unwrap();
    assert_eq!(shop.delegate.expires_at_ms(), Some(NOW + WEEK + WEEK / 2));
}

#[test]
fn both_renew_each_others_nodes_once_they_have_heard() {
    let mut shop = Shop::delegated();
    let (theirs, later) = (Keys::new(), NOW + HOUR);
    let token = shop.authority.invite(&invitation("syd", false), NOW).unwrap();
    shop.authority.enrol(&theirs.request(&token, "syd", "d"), NOW).unwrap();
    let (mine, _) = shop.admitted("c", NOW);
    let renewal = mine.renewal("syd", "c", later);
    assert_eq!(shop.authority.renew(&renewal, later), Err(JoinRefusal::NotEnrolled("syd/c".into())));
    assert!(shop.delegate.has_news());
    assert_eq!(shop.sync(later), Ok(vec![]));
    assert!(!shop.delegate.has_news());
    let by_authority = shop.authority.renew(&renewal, later).unwrap();
    assert_eq!(shop.peers(&mine, &by_authority, later).unwrap().validity.unwrap().by, None);
    let by_delegate = shop.delegate.renew(&theirs.renewal("syd", "d", later), later).unwrap();
    assert!(shop.peers(&theirs, &by_delegate, later).unwrap().validity.unwrap().by.is_some());
    // A revoked node is renewed by neither.
    shop.authority.revoke("syd", "d", None, later).unwrap();
    for order in [revocation("c", 0, 0), revocation("c", later, 0)] {
        assert!(shop.delegate.renew(&renewal, later).is_ok());
        let order = Revocation { node_key: Some(mine.node.verifying()), ..order };
        assert!(!shop.delegate.heed(&order, later).unwrap());
    }
    assert_eq!(shop.delegate.renew(&renewal, later), Err(JoinRefusal::Revoked("syd/c".into())));
    shop.sync(later).unwrap();
    let renewal = theirs.renewal("syd", "d", later);
    assert_eq!(shop.delegate.renew(&renewal, later), Err(JoinRefusal::Revoked("syd/d".into())));
}

#[test]
fn of_two_nodes_of_one_name_the_authoritys_survives() {
    let mut shop = Shop::delegated();
    let (mine, of_delegate) = shop.admitted("c", NOW + HOUR);
    let theirs = Keys::new();
    let token = shop.authority.invite(&invitation("syd", false), NOW).unwrap();
    let of_authority = shop.authority.enrol(&theirs.request(&token, "syd", "c"), NOW).unwrap();
    let told = [
        shop.peers(&mine, &of_delegate, NOW + HOUR).unwrap(),
        shop.peers(&theirs, &of_authority, NOW + HOUR).unwrap(),
    ];
    // Whatever is heard first, and although the delegate's is the newer one.
    for order in [[0, 1, 0], [1, 0, 1], [0, 0, 1], [1, 0, 0]] {
        let mut roots = TrustRoots::new("shops".into());
        for heard in order {
            let _ = roots.admit(&told[heard]);
        }
        assert_eq!(roots.node_key("syd", "c"), Some(theirs.node.verifying()), "{order:?}");
    }
    assert_eq!(shop.sync(NOW + HOUR), Ok(vec!["syd/c".to_owned()]));
    let renewal = mine.renewal("syd", "c", NOW + HOUR);
    let refused = Err(JoinRefusal::NotEnrolled("syd/c".into()));
    assert_eq!(shop.delegate.renew(&renewal, NOW + HOUR), refused);
    assert_eq!(shop.authority.renew(&renewal, NOW + HOUR), refused);
}

#[test]
fn nothing_that_an_ended_delegation_signed_counts_whenever_that_was() {
    let mut shop = Shop::delegated();
    let (keys, grant) = shop.admitted("c", NOW + HOUR);
    shop.sync(NOW + HOUR).unwrap();
    let mut roots = TrustRoots::new("shops".into());
    roots.admit(&shop.peers(&keys, &grant, NOW + HOUR).unwrap()).unwrap();
    let ended_at_ms = NOW + 2 * HOUR;
    assert!(shop.authority.end_delegation("syd", "b", ended_at_ms).unwrap());
    let revocation = revocation("b", 0, ended_at_ms);
    assert_eq!(roots.end_delegation(&revocation).map(|gone| gone.len()), Some(1));
    assert_eq!(roots.end_delegation(&revocation), None);
    assert!(!roots.knows("syd", "c"));
    let (again, backdated) = (shop.admitted("d", ended_at_ms + HOUR), shop.admitted("e", NOW));
    for (keys, grant) in [&(keys_of(&keys), grant), &again, &backdated] {
        let told = shop.peers(keys, grant, ended_at_ms + HOUR).unwrap();
        assert!(matches!(roots.admit(&told), Err(Refusal::Revoked(_))), "{}", grant.node);
    }
    // The authority was told of one and renews it. Of the others it knows nothing, and the delegate itself learns that it is none.
    let renewed = shop.authority.renew(&keys.renewal("syd", "c", ended_at_ms), ended_at_ms).unwrap();
    roots.admit(&shop.peers(&keys, &renewed, ended_at_ms).unwrap()).unwrap();
    assert_eq!(shop.sync(ended_at_ms), Err(JoinRefusal::NotDelegated("syd/b".into())));
    // So does one who hears the operator's order first.
    assert!(shop.delegate.heed(&revocation, ended_at_ms).unwrap());
    assert!(!shop.delegate.heed(&revocation, ended_at_ms).unwrap());
    assert_eq!(shop.delegate.expires_at_ms(), None);
    // A later one counts again.
    shop.authority.delegate("syd", "b", WEEK).unwrap();
    shop.sync(ended_at_ms + HOUR).unwrap();
    let (keys, grant) = shop.admitted("f", ended_at_ms + HOUR);
    roots.admit(&shop.peers(&keys, &grant, ended_at_ms + HOUR).unwrap()).unwrap();
    assert!(!shop.delegate.heed(&revocation, ended_at_ms + HOUR).unwrap());
    assert!(shop.delegate.expires_at_ms().is_some());
}

fn revocation(node: &str, up_to_ms: u64, delegation_up_to_ms: u64) -> Revocation {
    Revocation {
        site: "syd".into(),
        node: node.into(),
        up_to_ms,
        delegation_up_to_ms,
        node_key: None,
        control: false,
        withdraw: false,
        reason: String::new(),
    }
}

fn keys_of(keys: &Keys) -> Keys {
    let copy = |key: &SigningKey| SigningKey::from_seed(&key.seed().unwrap()).unwrap();
    Keys { node: copy(&keys.node), operator: copy(&keys.operator), nats: copy(&keys.nats) }
}

#[test]
fn who_revokes_a_delegate_ends_its_delegation_and_the_servers_learn_it() {
    let mut shop = Shop::delegated();
    let scoped = |shop: &Shop| shop.authority.nats_operator().unwrap().account.1;
    let has_signers = |jwt: &str| {
        let claims =
            data_encoding::BASE64URL_NOPAD.decode(jwt.split('.').nth(1).unwrap().as_bytes()).unwrap();
        String::from_utf8(claims).unwrap().contains("user_scope")
    };
    assert!(has_signers(&scoped(&shop)));
    shop.authority.revoke("syd", "b", None, NOW + HOUR).unwrap();
    assert!(!has_signers(&scoped(&shop)) && shop.authority.delegations().is_empty());
    assert_eq!(shop.sync(NOW + HOUR), Err(JoinRefusal::Revoked("syd/b".into())));
}

proptest::proptest! {
    // Each step waits for the disk.
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

    /// However joins, renewals, revocations and exchanges follow on each other on both sides of a cut: a name has one key at the end.
    #[test]
    fn a_name_has_one_key_once_both_sides_have_talked(steps in proptest::collection::vec((0u8..6, 0u8..2), 1..12)) {
        let mut shop = Shop::delegated();
        let mut now_ms = NOW;
        for (step, name) in steps {
            now_ms += HOUR;
            let (node, keys) = (format!("n{name}"), Keys::new());
            match step {
                0 => {
                    let token = shop.authority.invite(&invitation("syd", false), now_ms).unwrap();
                    let _ = shop.authority.enrol(&keys.request(&token, "syd", &node), now_ms);
                }
                1 | 2 => {
                    let token = shop.delegate.invite(&invitation("syd", false), now_ms).unwrap();
                    let _ = shop.delegate.enrol(&keys.request(&token, "syd", &node), now_ms);
                }
                3 => {
                    let _ = shop.authority.revoke("syd", &node, None, now_ms);
                }
                4 => now_ms += 26 * HOUR / 2,
                _ => {
                    shop.sync(now_ms).unwrap();
                }
            }
        }
        shop.sync(now_ms).unwrap();
        for (name, issued) in &shop.authority.state.issued {
            let here = shop.delegate.state.nodes.get(name).map(|node| node.node_key);
            proptest::prop_assert_eq!(here, Some(issued.node_key));
        }
        proptest::prop_assert_eq!(shop.delegate.state.nodes.len(), shop.authority.state.issued.len());
        proptest::prop_assert!(!shop.delegate.has_news());
    }
}
