//! Policy in the simulation: what the binary does with an offered bundle, operators who push, promote, roll back and move the home, and
//! what must be true of it all.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use phalanx_fleet::policy::bundle::Reader;
use phalanx_fleet::policy::{Maker, Offer, PolicyNews};
use phalanx_fleet::{
    Bundle, BundleRef, FleetError, FleetHandle, KeptPolicy, NewBundle, PolicyHealth, PolicyRecord,
    Running as Runs, Stage,
};
use phalanx_model::Clock;
use tokio::time::sleep;

use super::dice::Dice;
use super::engine::Bug;
use super::played::Played;
use super::run::{CONVERGE_MAX, SimClock, SimNode, SimulatedFleet};
use super::world::World;
use crate::support::FLEET;

/// What runs policy on a node. Outlives crashes as far as the disk does.
#[derive(Clone, Default)]
pub(super) struct Machine(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The node's disk.
    kept: Option<KeptPolicy>,
    running: Option<Ran>,
    /// The version that was refused last, of those offered.
    refused: Option<u64>,
    /// A bundle is checked, or its trace on the disk is not there yet.
    adopting: bool,
    /// What ran since this was last looked at.
    ran: Vec<Ran>,
    /// The highest version that ever ran, by epoch: for all, and of each home on trial, too.
    stable: BTreeMap<u64, u64>,
    highest: BTreeMap<(u64, Arc<str>), u64>,
}

/// A bundle that a node ran.
#[derive(Debug, Clone)]
struct Ran {
    record: Arc<PolicyRecord>,
    reference: BundleRef,
    text: String,
}

/// What is known of policy beside what nodes say.
#[derive(Clone, Default)]
pub(super) struct Pushed(Arc<Mutex<PushedState>>);

#[derive(Default)]
struct PushedState {
    made: u64,
    /// The content of bundles, by their hash.
    texts: HashMap<String, String>,
    /// Records that an operator was told are in force.
    confirmed: Vec<Arc<PolicyRecord>>,
    violations: Vec<String>,
}

impl Machine {
    /// What was in force before is in force again.
    pub(super) fn start(&self, fleet: &FleetHandle) {
        let mut state = self.0.lock();
        (state.running, state.refused, state.adopting) = (None, None, false);
        let Some(kept) = state.kept.clone() else { return fleet.policy_runs(Runs::default()) };
        let bundle = Bundle::from_bytes(&kept.bundle).unwrap();
        let ran = Ran {
            record: Arc::clone(&kept.record),
            reference: kept.reference.clone(),
            text: text_of(&bundle),
        };
        state.ran.push(ran.clone());
        state.running = Some(ran);
        drop(state);
        fleet.remember_policy(&kept);
        fleet.policy_runs(Runs::of(&kept.record, &kept.reference));
    }

    pub(super) fn is_adopting(&self) -> bool {
        self.0.lock().adopting
    }

    /// What is wrong with what ran since the last time.
    pub(super) fn objections(&self) -> Vec<String> {
        let mut state = self.0.lock();
        let mut objections = Vec::new();
        if state.running.is_none() && !state.highest.is_empty() {
            objections.push("a node that ran a bundle runs none".to_owned());
        }
        for ran in std::mem::take(&mut state.ran) {
            // Who moves the home may not know the newest version; so a new epoch may begin with a lower one, and nothing else.
            let (epoch, version) = (ran.record.epoch, ran.reference.version);
            if let Some((later, _)) = state.stable.range(epoch + 1..).next() {
                objections.push(format!("it runs version {version} of epoch {epoch} after one of {later}"));
            }
            let mut rises = |highest: &mut u64| {
                if version < *highest {
                    objections.push(format!("it runs version {version} after version {highest}"));
                }
                *highest = version.max(*highest);
            };
            rises(state.highest.entry((epoch, Arc::clone(&ran.record.home))).or_default());
            if ran.record.stable == ran.reference {
                rises(state.stable.entry(epoch).or_default());
            }
            let for_all = ran.record.trial.is_none() && ran.record.note.ends_with("the trial went well");
            if for_all && ran.record.stable == ran.reference && !ran.text.starts_with("good") {
                objections.push(format!("the judge promoted version {version}, `{}`", ran.text));
            }
        }
        objections
    }

    /// How clients fare.
    fn health(&self, record: &PolicyRecord, now_ms: u64) -> Option<PolicyHealth> {
        let trial = record.trial.as_ref()?;
        let state = self.0.lock();
        let runs_it = state.running.as_ref().filter(|ran| ran.reference == trial.bundle);
        let refused = if runs_it.is_some_and(|ran| ran.text.starts_with("harm")) { 20 } else { 0 };
        Some(PolicyHealth { trial: trial.bundle.version, since_ms: now_ms, clients: 50, refused, erred: 0 })
    }
}

/// Follows policy as the binary does: check, compile away from requests, keep, swap, tell.
pub(super) struct Follower {
    pub(super) machine: Machine,
    pub(super) fleet: FleetHandle,
    pub(super) clock: Arc<SimClock>,
    pub(super) pushed: Pushed,
    /// How long it takes to compile a bundle, and to keep it.
    pub(super) slow_ms: u64,
    pub(super) bug: Bug,
}

impl Follower {
    pub(super) async fn run(self) {
        let mut news = self.fleet.policy();
        let mut dealt_with: Option<Arc<Offer>> = None;
        loop {
            let PolicyNews { record, offer } = news.borrow_and_update().clone();
            if let Some(offer) = offer
                && dealt_with.as_ref().is_none_or(|before| !Arc::ptr_eq(before, &offer))
            {
                let again = dealt_with.as_ref().is_some_and(|before| before.reference == offer.reference);
                self.machine.0.lock().adopting = true;
                self.take(&offer, again).await;
                self.machine.0.lock().adopting = false;
                dealt_with = Some(offer);
            }
            let health = record.and_then(|record| self.machine.health(&record, self.clock.now_ms()));
            self.fleet.policy_health(health);
            tokio::select! {
                biased;
                changed = news.changed() => if changed.is_err() { return },
                () = sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    async fn take(&self, offer: &Arc<Offer>, again: bool) {
        let running = self.machine.0.lock().running.clone();
        if running.is_some_and(|ran| ran.reference == offer.reference) {
            self.keep(offer).await;
        } else if again {
            // Refused already.
            return;
        } else {
            let reader = Reader { fleet: FLEET, version: "0.1.0", now_ms: self.clock.now_ms() };
            let bundle = match Bundle::open(&offer.bytes, &offer.reference, &reader) {
                Ok(bundle) => bundle,
                Err(error) => return self.pushed.object(format!("an offer is no bundle: {error}")),
            };
            let text = text_of(&bundle);
            self.pushed.0.lock().texts.insert(offer.reference.hash.clone(), text.clone());
            sleep(Duration::from_millis(self.slow_ms)).await;
            if text.starts_with("bad") {
                self.machine.0.lock().refused = Some(offer.reference.version);
                return self.fleet.policy_refused(offer.reference.version, "it does not compile");
            }
            self.keep(offer).await;
            let ran = Ran { record: Arc::clone(&offer.record), reference: offer.reference.clone(), text };
            let mut state = self.machine.0.lock();
            state.running = Some(ran.clone());
            state.ran.push(ran);
        }
        self.fleet.policy_runs(Runs::of(&offer.record, &offer.reference));
    }

    async fn keep(&self, offer: &Offer) {
        sleep(Duration::from_millis(self.slow_ms)).await;
        let mut state = self.machine.0.lock();
        if self.bug != Bug::PolicyIsNotKept || state.kept.is_none() {
            state.kept = Some(KeptPolicy {
                fleet: FLEET.into(),
                record: Arc::clone(&offer.record),
                reference: offer.reference.clone(),
                bundle: offer.bytes.to_vec(),
            });
        }
    }
}

impl SimulatedFleet {
    /// An operator of a node does something about policy, or tries to.
    pub(super) fn policy_order(&mut self, mut dice: Dice) {
        let at = usize::try_from(dice.below(self.nodes.len() as u64)).unwrap();
        let stage_at = usize::try_from(dice.below(self.nodes.len() as u64)).unwrap();
        let (of, stage_of) = (&self.nodes[at], &self.nodes[stage_at]);
        let (site, node) = (stage_of.site.to_owned(), stage_of.name.to_owned());
        let name = of.name;
        if !of.control {
            return;
        }
        let (pushed, played, world) = (self.pushed.clone(), self.played.clone(), Arc::clone(&self.world));
        let Some(running) = &mut self.nodes[at].running else { return };
        let fleet = running.fleet.clone();
        running.errands.spawn(async move {
            let known = fleet.policy_state().record;
            let newest = known.as_ref().map(|record| record.newest().version);
            // Somebody looks at what is tried, as a rule.
            let is_tried = known.as_ref().is_some_and(|record| record.trial.is_some());
            let what = if is_tried { 60 + dice.below(40) } else { dice.below(100) };
            let (what, done) = if what < 70 || known.is_none() {
                let stale = what < 20 && newest.is_some_and(|newest| newest > 1);
                let tried = (40..70).contains(&what) && known.is_some();
                let kind = if tried { *dice.pick(&["good", "good", "harm", "bad"]) } else { "good" };
                let stage = match dice.chance(500) {
                    true => Stage::Node { site, node },
                    false => Stage::Site { site },
                };
                let expect = if stale { newest.map(|newest| newest - 1) } else { newest };
                let new = pushed.bundle(kind, expect, tried.then_some((stage, 4_000 + dice.below(30_000))));
                let done = fleet.push_policy(new).await;
                if stale {
                    pushed.expect_conflict(&done, &played);
                }
                (if tried { "trial" } else { "push" }, done)
            } else if what < 78 {
                ("promote", fleet.promote_policy(None, "ann", "looks good").await)
            } else if what < 90 {
                let chain = known.map(|record| record.chain.clone()).unwrap_or_default();
                let to = dice.chance(300).then(|| dice.pick(&chain).version);
                ("roll-back", fleet.roll_policy_back(to, None, Maker::of_files("ann"), "it hurts").await)
            } else {
                ("move home", fleet.move_policy_home(&site, "ann").await)
            };
            tell(&world, name, what, &done);
            if let Ok(record) = done {
                played.count(what);
                pushed.0.lock().confirmed.push(record);
            }
        });
    }

    /// What must be true of policy at any moment.
    pub(super) fn observe_policy(&mut self) {
        for node in self.nodes.iter().filter(|node| node.running.is_some()) {
            let objections = node.machine.objections();
            self.violations.extend(objections.into_iter().map(|what| format!("{}: {what}", node.name)));
        }
        for record in self.nodes.iter().filter_map(|node| node.running.as_ref()?.fleet.policy_state().record)
        {
            if record.note.ends_with("the trial went well") {
                self.played.once("promoted by the judge", record.rank());
            } else if record.note.contains("was rolled back") {
                self.played.once("rolled back by the judge", record.rank());
            }
        }
        self.violations.append(&mut self.pushed.0.lock().violations);
        if self.world.has_lost() {
            return;
        }
        for running in self.nodes.iter().filter_map(|node| node.running.as_ref()) {
            let is_fork =
                |line: &String| line.contains("two policy records") || line.contains("does not follow on");
            let forks = running.fleet.status().degraded.into_iter().filter(is_fork);
            self.violations.extend(forks.map(|line| format!("policy forks though nothing was lost: {line}")));
        }
    }

    /// Where policy is not as it must be in the end.
    pub(super) fn policy_differences(&self) -> Vec<String> {
        let running = self.nodes.iter().filter_map(|node| Some((node, node.running.as_ref()?)));
        let mut differences = Vec::new();
        let mut first: Option<(&str, Option<Arc<PolicyRecord>>)> = None;
        let pushed = self.pushed.0.lock();
        for (node, running) in running {
            let record = running.fleet.policy_state().record;
            let (of, known) = first.get_or_insert((node.name, record.clone()));
            if *known != record {
                let (one, other) = (said(known.as_ref()), said(record.as_ref()));
                differences.push(format!("{of} knows {one}, {} {other}", node.name));
            }
            let Some(record) = record else { continue };
            let wanted = record.for_node(node.site, node.name);
            let state = node.machine.0.lock();
            let runs = state.running.as_ref().is_some_and(|ran| ran.reference == *wanted);
            let is_bad = pushed.texts.get(&wanted.hash).is_some_and(|text| text.starts_with("bad"));
            let is_refused = is_bad && state.refused == Some(wanted.version);
            if !runs && !is_refused {
                let version = state.running.as_ref().map(|ran| ran.reference.version);
                differences.push(format!(
                    "{} runs {version:?} and not {} of {}; {:?}",
                    node.name,
                    wanted.version,
                    said(Some(&record)),
                    running.fleet.status().degraded
                ));
            }
        }
        differences
    }

    /// Waits until all run the same policy. Where a home lost what it had confirmed and others wrote meanwhile, there may be two: it
    /// must be named, and a new epoch ends it.
    pub(super) async fn policy_converges(&mut self, when: &str) {
        if self.wait(CONVERGE_MAX, |fleet| fleet.policy_differences().is_empty()).await {
            return self.check_confirmed(when);
        }
        let differences = self.policy_differences();
        let is_named = self.nodes.iter().filter_map(|node| node.running.as_ref()).any(|running| {
            running.fleet.status().degraded.iter().any(|line| line.contains("a policy record was refused"))
        });
        if !self.world.has_lost() || !(is_named || self.is_orphaned()) {
            self.violations.extend(differences.into_iter().map(|what| format!("{when}, policy: {what}")));
            return;
        }
        self.world.tell(&format!("policy has forked: {}", differences.join("; ")));
        self.played.count("fork ended");
        let operators = self.nodes.iter().filter(|node| node.control);
        let operator = operators.filter_map(|node| Some((node, node.running.as_ref()?)));
        let ranked = operator.max_by_key(|(_, running)| {
            running.fleet.policy_state().record.map(|record| {
                let (epoch, version, home, serial) = record.rank();
                (epoch, version, home.to_owned(), serial)
            })
        });
        let Some((node, running)) = ranked else { return };
        if running.fleet.policy_state().record.is_none() {
            let done = running.fleet.push_policy(self.pushed.bundle("good", None, None)).await;
            tell(&self.world, node.name, "push again what was lost", &done);
        }
        let done = running.fleet.move_policy_home(node.site, "ann").await;
        tell(&self.world, node.name, "move home to end a fork", &done);
        if let Err(error) = done {
            self.violations.push(format!("{when}, a fork cannot be ended: {error}"));
        }
        if !self.wait(CONVERGE_MAX, |fleet| fleet.policy_differences().is_empty()).await {
            let differences = self.policy_differences();
            let differences = differences.into_iter().map(|what| format!("{when}, after a fork: {what}"));
            self.violations.extend(differences);
        }
    }

    /// Whether no node with an operator's key knows the latest record: only these give it back to a home that lost it.
    fn is_orphaned(&self) -> bool {
        let record = |node: &SimNode| node.running.as_ref()?.fleet.policy_state().record;
        let rank_of = |record: Arc<PolicyRecord>| {
            let (epoch, version, home, serial) = record.rank();
            (epoch, version, home.to_owned(), serial)
        };
        let highest = |nodes: &mut dyn Iterator<Item = &SimNode>| nodes.filter_map(record).map(rank_of).max();
        highest(&mut self.nodes.iter().filter(|node| node.control)) < highest(&mut self.nodes.iter())
    }

    /// What an operator was told is in force is part of the history, unless streams lost what they had confirmed.
    fn check_confirmed(&mut self, when: &str) {
        let Some(last) =
            self.nodes.iter().find_map(|node| node.running.as_ref()?.fleet.policy_state().record)
        else {
            return;
        };
        if self.world.has_lost() {
            return;
        }
        for confirmed in &self.pushed.0.lock().confirmed {
            let same_home = (confirmed.epoch, &confirmed.home) == (last.epoch, &last.home);
            let newest = confirmed.newest();
            if same_home && !last.chain.contains(newest) && last.chain.len() < 32 {
                self.violations.push(format!("{when}, version {} was confirmed and is lost", newest.version));
            }
        }
    }
}

impl Pushed {
    fn bundle(&self, kind: &str, expect: Option<u64>, tried: Option<(Stage, u64)>) -> NewBundle {
        let mut pushed = self.0.lock();
        pushed.made += 1;
        let text = format!("{kind} {}", pushed.made);
        let (stage, bake_ms) = tried.unzip();
        NewBundle {
            files: BTreeMap::from([(ENTRY.to_owned(), text.into_bytes())]),
            entry: ENTRY.into(),
            version: 1,
            expect,
            requires: vec![],
            stage,
            bake_ms,
            reason: String::new(),
            maker: Maker::of_files("ann"),
        }
    }

    fn expect_conflict(&self, done: &Result<Arc<PolicyRecord>, FleetError>, played: &Played) {
        match done {
            Err(FleetError::Conflict(_)) => played.count("push from a stale head"),
            other => self.object(format!("a push from a stale head came to {other:?}")),
        }
    }

    fn object(&self, what: String) {
        self.0.lock().violations.push(what);
    }
}

fn tell(world: &World, node: &str, what: &str, done: &Result<Arc<PolicyRecord>, FleetError>) {
    let done = match done {
        Ok(record) => said(Some(record)),
        Err(error) => error.to_string(),
    };
    world.tell(&format!("policy: {what} at {node}: {done}"));
}

fn said(record: Option<&Arc<PolicyRecord>>) -> String {
    let Some(record) = record else { return "nothing".into() };
    let trial = record.trial.as_ref().map(|trial| format!(", {} at {}", trial.bundle.version, trial.stage));
    format!("{:?}: {}{}", record.rank(), record.stable.version, trial.unwrap_or_default())
}

fn text_of(bundle: &Bundle) -> String {
    String::from_utf8(bundle.files[&bundle.manifest.entry].clone()).unwrap()
}

const ENTRY: &str = "policy.toml";
