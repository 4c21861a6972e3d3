//! Runs what the fleet says: the bundle offered to this node is checked, compiled away from requests, and only then swapped in; what is
//! in force is kept for the next start, and what became of it is told to the others.
//!
//! INVARIANT: a bundle that is refused changes nothing but what `status` says.

use std::sync::Arc;
use std::time::Duration;

use phalanx_edge::{Before, EdgeHandle, EdgePlan};
use phalanx_fleet::policy::bundle::Reader;
use phalanx_fleet::policy::{Offer, PolicyNews, PolicyRecord};
use phalanx_fleet::{Bundle, FleetHandle, KeptPolicy, PolicyFile, PolicyHealth, Running};
use phalanx_model::Clock;
use phalanx_trust::Sealer;

use crate::policy_port::{PolicyKeeper, summary};
use crate::state::StateFolder;

/// The policy that was in force when the node last ran, if it is of this fleet.
pub(crate) struct Kept {
    file: PolicyFile,
    fleet: String,
    policy: Option<KeptPolicy>,
    fault: Option<String>,
}

impl Kept {
    /// Reads it. What cannot be used is set aside.
    pub(crate) fn read(state: &StateFolder, sealer: &Arc<Sealer>, fleet: String) -> Self {
        let file = PolicyFile::new(state.path(), Arc::clone(sealer));
        let (policy, fault) = match file.read() {
            Ok(policy) => (policy.filter(|kept| kept.fleet == fleet), None),
            Err(fault) => (None, Some(fault)),
        };
        Self { file, fleet, policy, fault }
    }

    /// The bundle, to compile.
    pub(crate) fn bundle(&self) -> Option<(Bundle, Running)> {
        let kept = self.policy.as_ref()?;
        let bundle = Bundle::from_bytes(&kept.bundle).ok()?;
        Some((bundle, Running::of(&kept.record, &kept.reference)))
    }

    /// Why it could not be read.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.clone()
    }

    /// Follows the fleet from here on.
    pub(crate) fn follow(
        self,
        keeper: Arc<PolicyKeeper>,
        fleet: FleetHandle,
        edge: EdgeHandle,
        clock: Arc<dyn Clock>,
    ) -> impl Future<Output = ()> + Send + use<> {
        if let Some(kept) = &self.policy {
            fleet.remember_policy(kept);
        }
        let version = keeper.plan().load().version;
        fleet.policy_runs(keeper.bundle().unwrap_or(Running { version, ..Running::default() }));
        Follower {
            file: self.file,
            fleet_id: self.fleet,
            keeper,
            fleet,
            edge,
            clock,
            dealt_with: None,
            trial: None,
        }
        .run()
    }
}

struct Follower {
    file: PolicyFile,
    fleet_id: String,
    keeper: Arc<PolicyKeeper>,
    fleet: FleetHandle,
    edge: EdgeHandle,
    clock: Arc<dyn Clock>,
    /// The last offer, taken or refused.
    dealt_with: Option<Arc<Offer>>,
    trial: Option<CountedTrial>,
}

/// The trial for which clients are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
struct CountedTrial {
    version: u64,
    started_at_ms: u64,
    since_ms: u64,
}

impl Follower {
    async fn run(mut self) {
        let mut news = self.fleet.policy();
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let PolicyNews { record, offer } = news.borrow_and_update().clone();
            if let Some(offer) = offer.filter(|offer| !self.has_dealt_with(offer)) {
                self.take(&offer).await;
                self.dealt_with = Some(offer);
            }
            if let Some(record) = record {
                self.count(&record, Before::Unknown);
            }
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return },
                _ = seconds.tick() => {}
            }
        }
    }

    fn has_dealt_with(&self, offer: &Arc<Offer>) -> bool {
        self.dealt_with.as_ref().is_some_and(|before| Arc::ptr_eq(before, offer))
    }

    async fn take(&mut self, offer: &Arc<Offer>) {
        let running = Running::of(&offer.record, &offer.reference);
        let runs_already = self
            .keeper
            .bundle()
            .is_some_and(|bundle| (bundle.version, &bundle.hash) == (running.version, &running.hash));
        if runs_already {
            self.keeper.renew(running.clone());
            let (file, kept) = (self.file.clone(), self.kept(offer));
            let _ = tokio::task::spawn_blocking(move || keep(&file, &kept)).await;
        } else {
            let same = self.dealt_with.as_ref().is_some_and(|before| before.reference == offer.reference);
            // Refused already; a record that says the same again makes it no better.
            if same {
                return;
            }
            match self.adopt(offer, running.clone()).await {
                Ok(before) => self.count(&offer.record, Before::Plan(before)),
                Err(reason) => return self.fleet.policy_refused(offer.reference.version, &reason),
            }
        }
        self.fleet.policy_runs(running);
    }

    /// An offer as it is kept.
    fn kept(&self, offer: &Offer) -> KeptPolicy {
        KeptPolicy {
            fleet: self.fleet_id.clone(),
            record: Arc::clone(&offer.record),
            reference: offer.reference.clone(),
            bundle: offer.bytes.to_vec(),
        }
    }

    /// Puts the offered bundle into force. The plan before, or why not.
    async fn adopt(&self, offer: &Arc<Offer>, running: Running) -> Result<Arc<EdgePlan>, String> {
        let (keeper, file, kept) = (Arc::clone(&self.keeper), self.file.clone(), self.kept(offer));
        let (offer, fleet_id) = (Arc::clone(offer), self.fleet_id.clone());
        let now_ms = self.clock.now_ms();
        let adopting = tokio::task::spawn_blocking(move || {
            let reader = Reader { fleet: &fleet_id, version: env!("CARGO_PKG_VERSION"), now_ms };
            let opened = Bundle::open(&offer.bytes, &offer.reference, &reader);
            let bundle = opened.inspect_err(|error| keeper.refuse_bundle(error))?;
            keeper.adopt(&bundle, running, || keep(&file, &kept)).map_err(|faults| summary(&faults))
        });
        adopting.await.unwrap_or_else(|_| Err("compiling it was cut off".into()))
    }

    /// Counts how clients fare while something is tried, and tells it. `before`: the plan before, where it is known.
    fn count(&mut self, record: &PolicyRecord, before: Before) {
        let counts = &self.edge.tables().trial;
        let Some(trial) = &record.trial else {
            if self.trial.take().is_some() {
                counts.end();
                self.fleet.policy_health(None);
            }
            return;
        };
        let (version, started_at_ms) = (trial.bundle.version, trial.started_at_ms);
        let runs_it = self.keeper.bundle().is_some_and(|bundle| bundle.version == version);
        let me = self.fleet.members().into_iter().find(|member| member.me);
        let tries = me.is_some_and(|me| record.tries(&me.site, &me.node));
        let counted = self.trial.filter(|one| (one.version, one.started_at_ms) == (version, started_at_ms));
        let counted = match counted {
            Some(counted) => counted,
            // What a node that is to try it meets before that says nothing.
            None if tries && !runs_it => return,
            None => {
                counts.begin(if tries { before } else { Before::Elsewhere });
                let counted = CountedTrial { version, started_at_ms, since_ms: self.clock.now_ms() };
                self.trial = Some(counted);
                counted
            }
        };
        let fares = counts.fares();
        self.fleet.policy_health(Some(PolicyHealth {
            trial: version,
            since_ms: counted.since_ms,
            clients: fares.clients,
            refused: fares.refused,
            erred: fares.erred,
        }));
    }
}

/// Keeps a policy for the next start. One that cannot be kept is in force all the same.
fn keep(file: &PolicyFile, kept: &KeptPolicy) {
    if let Err(error) = file.write(kept) {
        tracing::error!(
            error,
            "the policy in force is not kept: the next start would begin with an older one"
        );
    }
}

#[cfg(test)]
#[path = "policy_follow_tests.rs"]
mod tests;
