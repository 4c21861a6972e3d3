//! Whether a bundle on trial is good enough for all nodes: judged by what clients meet at the nodes that try it and, at the same time,
//! at those that do not.
//!
//! Refusals are judged by themselves: a node that tries a bundle asks the policy before about each request that the new one refuses, so
//! that the same requests are the control group. Whoever floods it with attacks, which both refuse, decides nothing. Errors of the
//! server's are judged against the other nodes: an app that breaks everywhere is not the bundle's fault.

use std::sync::Arc;
use std::time::Duration;

use phalanx_model::{LedgerEntry, LedgerKind};

use super::follow::PolicyBeat;
use super::origin::Maker;
use super::record::{PolicyRecord, Trial};
use crate::shared::Shared;
use crate::{FleetHandle, Link, Member};

/// What is to be done about a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Go on. What it waits for.
    Wait(String),
    /// All nodes get it.
    Promote,
    /// All nodes get the content of the version before, under a new version. Why.
    RollBack(String),
}

/// One node as far as a trial is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Witness<'a> {
    /// Its site.
    pub site: &'a str,
    /// Its name.
    pub node: &'a str,
    /// Whether it can be heard.
    pub is_up: bool,
    /// What it says of policy.
    pub beat: Option<&'a PolicyBeat>,
}

/// Judges a trial by what all nodes say. No IO.
pub fn judge(trial: &Trial, nodes: &[Witness<'_>], now_ms: u64) -> Judgement {
    let version = trial.bundle.version;
    let (trying, others): (Vec<&Witness<'_>>, Vec<&Witness<'_>>) =
        nodes.iter().partition(|node| trial.stage.holds(node.site, node.node));
    for node in &trying {
        let refused = node.beat.and_then(|beat| beat.refused.as_ref());
        if let Some(refused) = refused.filter(|refused| refused.version == version) {
            return Judgement::RollBack(format!(
                "{}/{} refused it: {}",
                node.site, node.node, refused.reason
            ));
        }
    }
    let (here, there) = (Sum::of(&trying, version), Sum::of(&others, version));
    if here.refused >= CLIENTS_MIN && here.refused * 100 >= here.clients * SHARE_MAX_PERCENT {
        return Judgement::RollBack(format!(
            "{} of {} clients that were served well before are refused, and would not have been by the version before",
            here.refused, here.clients
        ));
    }
    // Twice the share of the others, and a margin on top.
    let others_erred = (200 * there.erred).checked_div(there.clients).unwrap_or_default();
    if here.erred >= CLIENTS_MIN && here.erred * 100 >= here.clients * (SHARE_MAX_PERCENT + others_erred) {
        return Judgement::RollBack(format!(
            "{} of {} clients that were served well before get errors; at the other nodes {} of {}",
            here.erred, here.clients, there.erred, there.clients
        ));
    }
    let age_ms = now_ms.saturating_sub(trial.started_at_ms);
    let runs =
        |node: &&Witness<'_>| node.is_up && node.beat.is_some_and(|beat| beat.running.version == version);
    let running = trying.iter().filter(|node| runs(node)).count();
    if running == 0 && age_ms > START_TIME_MAX_MS {
        return Judgement::RollBack("no node that should try it says that it runs it".into());
    }
    match trial.bake_ms {
        None => Judgement::Wait("an operator".into()),
        Some(bake_ms) if age_ms < bake_ms => {
            Judgement::Wait(format!("{} s more", (bake_ms - age_ms).div_ceil(1_000)))
        }
        Some(_) if running < trying.len() => {
            Judgement::Wait(format!("{} of {} nodes that try it run it", running, trying.len()))
        }
        Some(_) if here.clients < CLIENTS_MIN => {
            Judgement::Wait(format!("clients to judge by: {} came so far, of {CLIENTS_MIN}", here.clients))
        }
        Some(_) => Judgement::Promote,
    }
}

#[derive(Default)]
struct Sum {
    clients: u64,
    refused: u64,
    erred: u64,
}

impl Sum {
    fn of(nodes: &[&Witness<'_>], version: u64) -> Self {
        let healths =
            nodes.iter().filter_map(|node| node.beat?.health).filter(|health| health.trial == version);
        healths.fold(Self::default(), |sum, health| Self {
            clients: sum.clients + u64::from(health.clients),
            refused: sum.refused + u64::from(health.refused),
            erred: sum.erred + u64::from(health.erred),
        })
    }
}

/// Judges for as long as the node runs, where it may act for operators. Of all such nodes one does at a time; that two never both act is
/// seen to by the compare-and-swap of the record, for which the lease is only good manners.
pub(crate) async fn run(handle: FleetHandle) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut turns: u64 = 0;
    loop {
        seconds.tick().await;
        turns = turns.wrapping_add(1);
        let shared = &handle.shared;
        let Some(record) = shared.policies.record() else { continue };
        if turns.is_multiple_of(CARE_EVERY_TURNS) {
            handle.care_for_policy().await;
        }
        let Some(trial) = &record.trial else { continue };
        if !matches!(shared.engine.lease(LEASE, LEASE_TIME).await, Ok(Some(_))) {
            continue;
        }
        let judgement = judged(shared, &handle.members(), trial);
        let version = trial.bundle.version;
        let done = match &judgement {
            Judgement::Wait(_) => continue,
            Judgement::Promote => {
                let why = "the trial went well";
                enter(shared, &format!("promote policy version {version}: {why}"));
                handle.promote_policy(Some(version), JUDGE, why).await
            }
            Judgement::RollBack(why) => {
                let why = format!("version {version} was rolled back: {why}");
                enter(shared, &why);
                handle.roll_policy_back(None, Some(version), Maker::of_files(JUDGE), &why).await
            }
        };
        if let Err(error) = done {
            tracing::warn!(%error, ?judgement, "a trial cannot be ended yet");
        }
    }
}

/// Enters into the ledger what is about to be done. To take back what does harm waits for no room in it.
fn enter(shared: &Shared, what: &str) {
    let kind =
        LedgerKind::OperatorAction { action: format!("{what} (by {JUDGE})"), by: Some(JUDGE.to_owned()) };
    let _ = shared.lanes.ledger(LedgerEntry { at_ms: shared.clock.now_ms(), kind });
}

/// Who ends trials, as it is told.
const JUDGE: &str = "the judge of trials";

/// What is to be done about the trial of a record, by what is heard.
pub(crate) fn of_record(handle: &FleetHandle, record: &PolicyRecord) -> Option<Judgement> {
    let trial = record.trial.as_ref()?;
    Some(judged(&handle.shared, &handle.members(), trial))
}

fn judged(shared: &Arc<Shared>, members: &[Member], trial: &Trial) -> Judgement {
    let nodes = members.iter().map(|member| Witness {
        site: &member.site,
        node: &member.node,
        is_up: member.link == Link::Up,
        beat: member.policy.as_ref(),
    });
    let nodes: Vec<Witness<'_>> = nodes.collect();
    judge(trial, &nodes, shared.clock.now_ms())
}

/// Fewer clients prove nothing, either way.
pub const CLIENTS_MIN: u64 = 5;
/// The share of clients that may fare worse than before, in per cent.
pub const SHARE_MAX_PERCENT: u64 = 2;
/// How long a trial's nodes have to fetch and compile it.
const START_TIME_MAX_MS: u64 = 30_000;
const LEASE: &str = "policy-judge";
const LEASE_TIME: Duration = Duration::from_secs(5);
const CARE_EVERY_TURNS: u64 = 10;

#[cfg(test)]
mod tests {
    use super::super::follow::{PolicyHealth, PolicyRefused, Running};
    use super::super::record::{BundleRef, Stage};
    use super::*;

    fn trial(bake_ms: Option<u64>) -> Trial {
        let bundle = BundleRef { version: 2, hash: "b".repeat(64), previous: Some("a".repeat(64)), bytes: 1 };
        Trial { bundle, stage: Stage::Site { site: "fra".into() }, started_at_ms: 0, bake_ms }
    }

    fn beat(version: u64, clients: u32, refused: u32, erred: u32) -> PolicyBeat {
        let health = PolicyHealth { trial: 2, since_ms: 0, clients, refused, erred };
        let running = Running { version, hash: String::new(), epoch: 1 };
        PolicyBeat { running, refused: None, health: Some(health) }
    }

    #[track_caller]
    fn check(here: PolicyBeat, there: PolicyBeat, bake_ms: Option<u64>, at_ms: u64, expected: &str) {
        let one = |site, beat| Witness { site, node: "a", is_up: true, beat: Some(beat) };
        let judgement = judge(&trial(bake_ms), &[one("fra", &here), one("syd", &there)], at_ms);
        let text = format!("{judgement:?}");
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn a_trial_ends_as_its_clients_fare() {
        let good = || beat(1, 1_000, 0, 0);
        check(beat(2, 1_000, 0, 0), good(), Some(60_000), 59_000, "Wait");
        check(beat(2, 1_000, 0, 0), good(), Some(60_000), 60_000, "Promote");
        check(beat(2, 1_000, 0, 0), good(), None, 600_000, "Wait");
        check(beat(2, 4, 0, 0), good(), Some(60_000), 600_000, "Wait");
        check(beat(2, 100, 4, 0), good(), Some(60_000), 1_000, "Wait");
        check(beat(2, 100, 5, 0), good(), Some(60_000), 1_000, "RollBack");
        check(beat(2, 1_000, 19, 0), good(), Some(60_000), 1_000, "Wait");
        check(beat(2, 100, 0, 9), good(), Some(60_000), 1_000, "RollBack");
        check(beat(2, 100, 0, 9), beat(1, 100, 0, 9), Some(60_000), 1_000, "Wait");
        // An app that is down for all is no fault of the bundle's.
        check(beat(2, 100, 0, 100), beat(1, 100, 0, 100), Some(60_000), 1_000, "Wait");
        check(beat(1, 0, 0, 0), good(), Some(60_000), 31_000, "RollBack");
    }

    #[test]
    fn a_node_that_refuses_a_trial_ends_it_and_one_that_does_not_try_it_does_not() {
        let refused = Some(PolicyRefused { version: 2, reason: "bad".into() });
        let refuses = || PolicyBeat { refused: refused.clone(), ..beat(1, 0, 0, 0) };
        check(refuses(), beat(1, 0, 0, 0), None, 0, "RollBack(\"fra/a refused it: bad\")");
        check(beat(2, 0, 0, 0), refuses(), None, 0, "Wait");
    }
}
