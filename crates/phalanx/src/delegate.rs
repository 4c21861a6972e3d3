//! This node as its site's delegate: asks the authority for what it needs, and tells it of the nodes that it admitted.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use phalanx_fleet::FleetHandle;
use phalanx_model::Clock;
use phalanx_trust::{JoinRefusal, SigningKey, SiteDelegate};
use tokio::sync::Notify;

use crate::enrol::Refused;
use crate::membership::Identity;

/// What keeps a delegate's part up to date.
pub(crate) struct DelegateKeeper {
    pub(crate) delegate: Arc<Mutex<SiteDelegate>>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) fleet: FleetHandle,
    pub(crate) clock: Arc<dyn Clock>,
    /// Told when the authority should hear of a node.
    pub(crate) changed: Arc<Notify>,
}

impl DelegateKeeper {
    /// Asks for as long as the node runs. While the authority cannot be reached the delegate goes on with what it holds.
    pub(crate) async fn run(self) {
        let mut revocations = self.fleet.revocations();
        loop {
            let revoked = revocations.borrow_and_update().clone();
            for one in &revoked {
                let heeded = self.delegate.lock().heed(one, self.clock.now_ms());
                match heeded {
                    Ok(true) => tracing::warn!("an operator has ended this node's delegation"),
                    Ok(false) => {}
                    Err(error) => {
                        tracing::error!(%error, "a revocation cannot be kept by the site's delegate");
                    }
                }
            }
            let pause = match self.ask().await {
                Ok(()) if self.delegate.lock().has_news() => ASK_ON,
                Ok(()) if self.delegate.lock().expires_at_ms().is_none() => ASK_FIRST,
                Ok(()) => ASK_EVERY,
                Err(error) => {
                    tracing::debug!(error = format!("{error:#}"), "nothing new from the fleet's authority");
                    ASK_AGAIN
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.changed.notified() => {}
                changed = revocations.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn ask(&self) -> anyhow::Result<()> {
        let now_ms = self.clock.now_ms();
        let request = self.delegate.lock().request(&self.key, now_ms)?;
        let grant = match self.identity.ask_delegation(&request).await {
            Ok(grant) => grant,
            Err(Refused::By(JoinRefusal::NotDelegated(_) | JoinRefusal::Revoked(_))) => {
                if self.delegate.lock().ended()? {
                    tracing::warn!("the fleet's authority has ended this node's delegation");
                }
                return Ok(());
            }
            Err(Refused::By(refusal)) => return Err(refusal.into()),
            Err(Refused::Unasked(error)) => return Err(error),
        };
        let expires_at_ms = grant.expires_at_ms;
        let before = self.delegate.lock().expires_at_ms();
        let lost = self.delegate.lock().granted(&request, grant)?;
        if !lost.is_empty() {
            tracing::warn!(
                nodes = lost.join(", "),
                "names of nodes admitted here belong to others at the authority"
            );
        }
        if before != Some(expires_at_ms) {
            tracing::info!("holds a delegation for its site");
            // Its own certificates last as long from now on.
            self.identity.renew(now_ms, &[]).await?;
        }
        Ok(())
    }
}

/// Until there is a delegation: whoever is about to give one waits for it.
const ASK_FIRST: Duration = Duration::from_secs(5);
/// What the authority changes about the site is known here within this.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// While it cannot be reached. Each attempt takes up to ten seconds for each address besides.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// More nodes than one request tells of.
const ASK_ON: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_control::{Desk, EnrolDeps};
    use phalanx_model::lanes::{LaneReaders, Lanes};
    use phalanx_trust::join::ders;
    use phalanx_trust::membership::Held;
    use phalanx_trust::{EnrolRequest, Invitation, Membership, NodeKeys, Revocation, Sealer};
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use crate::membership::tests::Office;

    const HOUR: u64 = 3_600_000;

    /// The control node `fra/k`, delegate of its site, and where it listens.
    struct Branch {
        delegate: Arc<Mutex<SiteDelegate>>,
        listeners: [(Arc<str>, Vec<String>); 1],
        _stop: watch::Sender<bool>,
        _readers: LaneReaders,
        _folder: tempfile::TempDir,
    }

    impl Branch {
        async fn open(office: &Office) -> Self {
            let (folder, now_ms) = (tempfile::tempdir().unwrap(), office.clock.now_ms());
            let key = || SigningKey::generate().unwrap();
            let (node, operator, nats) = (key(), key(), key());
            let sealer = Arc::new(Sealer::ephemeral().unwrap());
            let names = ("shops", "fra", "k");
            let mut delegate = SiteDelegate::load_or_create(folder.path(), sealer, names).unwrap();
            let held = {
                let mut authority = office.authority.lock();
                let keys = NodeKeys { node: &node, operator: Some(&operator), nats: &nats };
                let invitation =
                    Invitation { site: "fra".into(), control: true, addresses: vec![], for_ms: HOUR };
                let token = authority.invite(&invitation, now_ms).unwrap();
                let request = EnrolRequest::make(&token, "fra", "k", &keys).unwrap();
                let grant = authority.enrol(&request, now_ms).unwrap();
                authority.delegate("fra", "k", 48 * HOUR).unwrap();
                let request = delegate.request(&node, now_ms).unwrap();
                let delegated = authority.grant_delegation(&request, now_ms).unwrap();
                delegate.granted(&request, delegated).unwrap();
                Held::check(grant, &keys, now_ms).unwrap()
            };
            let delegate = Arc::new(Mutex::new(delegate));
            let (lanes, readers) = Lanes::new();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let deps = EnrolDeps {
                desk: Desk::Delegate {
                    delegate: Arc::clone(&delegate),
                    membership: Arc::new(Membership::new(held, &node, nats).unwrap()),
                    key: Arc::new(node),
                    changed: Arc::default(),
                },
                clock: Arc::clone(&office.clock) as Arc<dyn Clock>,
                lanes,
                nats_url: "tls://192.0.2.66:4222".into(),
                addresses: vec!["192.0.2.66:1".into()],
            };
            let (stop, stopping) = watch::channel(false);
            tokio::spawn(phalanx_control::enrol::serve(listener, deps, stopping));
            let listeners = [("k".into(), vec![address])];
            Self { delegate, listeners, _stop: stop, _readers: readers, _folder: folder }
        }
    }

    #[tokio::test]
    async fn a_node_that_the_delegate_was_not_told_of_learns_what_both_say() {
        let office = Office::open().await;
        let branch = Branch::open(&office).await;
        let state = tempfile::tempdir().unwrap();
        let node = office.join(state.path(), Some(office.token())).await.unwrap().unwrap();
        office.close();
        let now_ms = office.clock.now_ms();
        let error = node.renew(now_ms, &branch.listeners).await.unwrap_err().to_string();
        assert!(error.contains("cannot be reached") && error.contains("fra/b is not enrolled"), "{error}");
    }

    #[tokio::test]
    async fn who_joins_at_a_delegate_has_the_fleets_key_for_names() {
        let office = Office::open().await;
        let branch = Branch::open(&office).await;
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at_authority = office.join(first.path(), Some(office.token())).await.unwrap().unwrap();
        let addresses = branch.listeners[0].1.clone();
        let invitation = Invitation { site: "fra".into(), control: false, addresses, for_ms: HOUR };
        let token = branch.delegate.lock().invite(&invitation, office.clock.now_ms()).unwrap();
        let at_delegate = office.join(second.path(), Some(token.to_text().unwrap())).await.unwrap().unwrap();
        let key = |node: &Identity| node.membership.held().grant.names_key.clone();
        assert!(key(&at_authority).is_some());
        assert_eq!(key(&at_authority), key(&at_delegate));
    }

    #[tokio::test]
    async fn of_a_delegates_answer_only_certificate_and_login_count() {
        let office = Office::open().await;
        let state = tempfile::tempdir().unwrap();
        let node = office.join(state.path(), Some(office.token())).await.unwrap().unwrap();
        let branch = Branch::open(&office).await;
        let before = node.membership.held().grant.clone();
        office.close();
        office.clock.advance(12 * HOUR);
        let now_ms = office.clock.now_ms();
        let impostor = [("x".into(), branch.listeners[0].1.clone())];
        let error = node.renew(now_ms, &impostor).await.unwrap_err().to_string();
        assert!(error.contains("no server of this fleet is there"), "{error}");
        node.renew(now_ms, &branch.listeners).await.unwrap();
        let held = node.membership.held();
        let after = held.grant.clone();
        assert_eq!(after.expires_at_ms, now_ms + 24 * HOUR);
        assert_eq!(
            (&after.roots, &after.enrol, &after.nats_url),
            (&before.roots, &before.enrol, &before.nats_url)
        );
        let by = held.bundle.verify(&ders(&after.chain), now_ms).unwrap().by.unwrap();
        assert_eq!(&*by.node, "k");

        let ended = |delegation_up_to_ms| Revocation {
            site: "fra".into(),
            node: "k".into(),
            up_to_ms: 0,
            delegation_up_to_ms,
            node_key: None,
            control: false,
            withdraw: false,
            reason: String::new(),
        };
        assert!(!node.delegate_ended(&[ended(by.delegated_at_ms - 1)]));
        assert!(node.delegate_ended(&[ended(by.delegated_at_ms)]), "the node renews at once");
        let revoked = Revocation { node: "b".into(), up_to_ms: now_ms, ..ended(0) };
        branch.delegate.lock().heed(&revoked, now_ms).unwrap();
        let error = node.renew(now_ms, &branch.listeners).await.unwrap_err().to_string();
        assert!(error.contains("fra/b was revoked"), "{error}");
    }
}
