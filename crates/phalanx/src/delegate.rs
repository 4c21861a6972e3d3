//! This node as its site's delegate: asks the authority for what it needs, and tells it of the nodes that it admitted.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use phalanx_fleet::FleetHandle;
use phalanx_model::Clock;
use phalanx_trust::{JoinRefusal, SigningKey, SiteDelegate, TrustError};
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
            for one in revoked.iter().filter(|one| one.up_to_ms > 0) {
                let now_ms = self.clock.now_ms();
                let kept = self.delegate.lock().revoke(&one.site, &one.node, one.node_key, now_ms);
                if let Err(error) = kept {
                    tracing::error!(%error, "a revocation cannot be kept by the site's delegate");
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
        let lost = self.delegate.lock().granted(&request, grant).map_err(|error: TrustError| error)?;
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
