//! One seed: nodes that decide and undo while everything fails, then calm, then what must be true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use phalanx_fleet::store::Store;
use phalanx_fleet::{Change, Fleet, FleetHandle, FleetKeys, Parts, Remembered, subject};
use phalanx_model::event::Proposal;
use phalanx_model::lanes::{LaneReaders, Lanes};
use phalanx_model::{
    Actor, Author, AuthorRole, Clock, Decision, DecisionId, DecisionKind, Identities, LedgerKind, Prefix,
};
use phalanx_trust::{Sealer, SignedRecord, Statement};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

use super::dice::{Dice, draw};
use super::disk::SimDisk;
use super::engine::{Bug, SimFleet};
use super::holding::Good;
use super::lists::{Contents, Floors};
use super::oracle::Oracle;
use super::played::Played;
use super::policy::{Follower, Machine, Pushed};
use super::world::{Fault, Weather, World};
use crate::support::{FLEET, NodePlan, address, order};

/// What a seed's run came to.
pub(crate) struct Run {
    pub(crate) faults: BTreeMap<Fault, u64>,
    pub(crate) played: BTreeMap<&'static str, u64>,
    pub(crate) said: usize,
    /// Decisions in force at the end, about which there was no doubt.
    pub(crate) checked: u64,
    pub(crate) doubtful: usize,
    pub(crate) trace: Vec<String>,
    /// What should not have been.
    pub(crate) violations: Vec<String>,
}

/// Plays a seed from beginning to end, in virtual time.
pub(crate) fn play(seed: u64, bug: Bug) -> Run {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut fleet = SimulatedFleet::start(seed, bug).await;
        fleet.live_through_faults().await;
        fleet.heal_and_check().await;
        // What is wrong for long is seen again and again.
        let mut seen = BTreeSet::new();
        fleet.violations.retain(|what| seen.insert(what.clone()));
        Run {
            faults: fleet.world.faults(),
            played: fleet.played.counts(),
            said: fleet.oracle.said().len(),
            checked: fleet.checked,
            doubtful: fleet.doubtful,
            trace: fleet.world.trace(),
            violations: fleet.violations,
        }
    })
}

pub(super) struct SimulatedFleet {
    pub(super) bug: Bug,
    dice: Dice,
    pub(super) world: Arc<World>,
    pub(super) nodes: Vec<SimNode>,
    pub(super) oracle: Oracle,
    pub(super) pushed: Pushed,
    pub(super) contents: Contents,
    pub(super) played: Played,
    /// When something that was broken is whole again, by virtual time.
    repairs: Vec<(u64, Repair)>,
    pub(super) violations: Vec<String>,
    doubtful: usize,
    checked: u64,
    state: tempfile::TempDir,
}

#[derive(Debug, Clone, Copy)]
enum Repair {
    Broker,
    Node(usize),
    Site(&'static str),
    Start(usize),
    Disk(usize),
    Blobs,
}

pub(super) struct SimNode {
    pub(super) name: &'static str,
    pub(super) site: &'static str,
    pub(super) control: bool,
    disk: SimDisk,
    pub(super) clock: Arc<SimClock>,
    pub(super) machine: Machine,
    pub(super) good: Good,
    /// The highest version of each list that was in force here.
    pub(super) list_floors: Floors,
    /// How long this node takes to look at a bundle.
    slow_ms: u64,
    disk_was_full: bool,
    /// What this node once enforced and then gave up before its time: it must not come back.
    ended: BTreeMap<DecisionId, u64>,
    enforced: BTreeMap<DecisionId, Arc<Decision>>,
    pub(super) running: Option<Running>,
}

pub(super) struct Running {
    pub(super) fleet: FleetHandle,
    engine: Arc<SimFleet>,
    readers: LaneReaders,
    recorded: usize,
    pub(super) said: usize,
    writer: AbortHandle,
    /// What this node's operators wait for, and its own following of policy.
    pub(super) errands: JoinSet<()>,
}

/// A clock that is off by so much.
pub(super) struct SimClock {
    started: Instant,
    skew_ms: AtomicI64,
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap();
        (EPOCH_MS + elapsed_ms).saturating_add_signed(self.skew_ms.load(Ordering::SeqCst))
    }
}

impl SimulatedFleet {
    async fn start(seed: u64, bug: Bug) -> Self {
        let mut dice = Dice::new(draw(seed, "run", 0));
        let world = World::new(seed, Weather { delay_max_ms: 20, ..Weather::default() });
        let count = usize::try_from(2 + dice.below(3)).unwrap();
        let skewed = dice.chance(500);
        let nodes = ROSTER.iter().take(count).map(|(site, name)| {
            let skew_ms = if skewed { skew(&mut dice) } else { 0 };
            SimNode::new(&world, site, name, *name != "b", skew_ms, &mut dice)
        });
        let nodes: Vec<SimNode> = nodes.collect();
        let state = tempfile::tempdir().unwrap();
        let mut fleet = Self {
            bug,
            dice,
            world,
            nodes,
            oracle: Oracle::default(),
            pushed: Pushed::default(),
            contents: Contents::default(),
            played: Played::default(),
            repairs: Vec::new(),
            violations: Vec::new(),
            doubtful: 0,
            checked: 0,
            state,
        };
        for at in 0..fleet.nodes.len() {
            fleet.start_node(at).await;
        }
        fleet
    }

    async fn live_through_faults(&mut self) {
        for _ in 0..24 + self.dice.below(44) {
            sleep(Duration::from_millis(5 + self.dice.below(1_500))).await;
            self.repair_what_is_due().await;
            match self.dice.below(1_000) {
                0..430 => self.somebody_speaks(),
                430..660 => self.somebody_orders().await,
                _ => self.something_fails().await,
            }
            self.observe();
        }
    }

    fn somebody_speaks(&mut self) {
        let at = self.any_node();
        let node = &mut self.nodes[at];
        let Some(running) = &mut node.running else { return };
        let ip = format!("192.0.2.{}", self.dice.pick(&ADDRESSES));
        let actor = Actor::ip(address(&ip));
        let for_ms = *self.dice.pick(&[3_000, 20_000, 300_000, 3_600_000]);
        let dice = self.dice.below(100);
        let said = if dice < 55 || !node.control && dice >= 65 {
            let kind = *self.dice.pick(&[DecisionKind::Ban, DecisionKind::Ban, DecisionKind::Challenge]);
            running.fleet.propose(proposal(actor, kind, for_ms)).map(Change::Decided)
        } else if dice < 65 {
            running.fleet.retract(actor, "mistaken").map(Change::Withdrawn)
        } else if dice < 82 {
            let kind = *self.dice.pick(&[DecisionKind::Ban, DecisionKind::Allow]);
            let range: Prefix = "192.0.2.0/24".parse().unwrap();
            let actor = if self.dice.chance(250) { Actor::prefix(range) } else { actor };
            running.fleet.add(order(actor, kind, for_ms)).map(Change::Decided)
        } else {
            let some = running.fleet.list(0, usize::MAX).first().map(|decision| decision.actor.clone());
            running.fleet.withdraw(some.unwrap_or(actor), "false alarm").map(Change::Withdrawn)
        };
        match said {
            Ok(change) => {
                running.said += 1;
                let what = match &change {
                    Change::Decided(of) => {
                        format!("{:?} for {} ms", of.kind, of.expires_at_ms - of.created_at_ms)
                    }
                    Change::Withdrawn(_) | Change::Recalled(_) | Change::Listed(_) => {
                        "nothing any more".into()
                    }
                };
                let about = change.actor().map(ToString::to_string).unwrap_or_default();
                self.world.tell(&format!("{} says {:?} {about}: {what}", node.name, change.author().role));
                self.oracle.say(change);
            }
            Err(error) => {
                self.violations.push(format!("{}: a local decision was refused: {error}", node.name))
            }
        }
    }

    /// What happens next hangs on this alone, so that a seed brings the same faults whatever comes of it.
    async fn somebody_orders(&mut self) {
        let dice = Dice::new(self.dice.next());
        match self.dice.below(100) {
            0..40 => {
                // At times two operators at once.
                let rival = Dice::new(self.dice.next());
                if self.dice.chance(400) {
                    self.policy_order(rival);
                }
                self.policy_order(dice);
            }
            40..60 => self.list_order(dice),
            60..74 => self.burst(dice),
            74..92 => self.settle(dice).await,
            _ => self.recall(dice),
        }
    }

    async fn something_fails(&mut self) {
        let now_ms = self.world.elapsed_ms();
        let soon_ms = now_ms + 200 + self.dice.below(8_000);
        let at = self.any_node();
        match self.dice.below(42) {
            0..=5 => self.weather_changes(),
            6..=9 => self.broker_restarts(soon_ms).await,
            10..=11 => {
                let records = 1 + usize::try_from(self.dice.below(6)).unwrap();
                self.world.truncate(records, Fault::LeaderRolledBack);
            }
            12..=15 => {
                if let Some(seat) = self.nodes[at].seat() {
                    self.world.cut_node(seat, true);
                    self.repairs.push((soon_ms, Repair::Node(at)));
                }
            }
            16..=18 => {
                let site = self.nodes[at].site;
                self.world.cut_site(site, true);
                self.repairs.push((soon_ms, Repair::Site(site)));
            }
            19..=23 => self.crash(at, soon_ms).await,
            24..=25 => self.restart(at).await,
            26..=27 => {
                let skew_ms = skew(&mut self.dice);
                self.nodes[at].clock.skew_ms.store(skew_ms, Ordering::SeqCst);
                let name = self.nodes[at].name;
                self.world.note(Fault::ClockStepped, || format!("clock of {name} is off by {skew_ms} ms"));
            }
            28..=29 => {
                self.nodes[at].disk.fail(true);
                self.nodes[at].disk_was_full = true;
                self.repairs.push((soon_ms, Repair::Disk(at)));
                let name = self.nodes[at].name;
                self.world.note(Fault::DiskFull, || format!("disk of {name} is full"));
            }
            30..=33 => {
                let pick = self.dice.next();
                if let Some((subject, bytes)) = self.world.overheard(pick) {
                    self.world.note(Fault::Replayed, || format!("{subject} is replayed"));
                    self.world.inject(&subject, bytes);
                }
            }
            34..=35 => self.forge(at),
            36..=37 => {
                self.world.hide_blobs(true);
                self.repairs.push((soon_ms, Repair::Blobs));
            }
            38 => self.world.lose_blob(),
            _ => self.world.back_up(),
        }
    }

    fn weather_changes(&mut self) {
        let dice = &mut self.dice;
        let mut one_of = |choices: &[u64]| *dice.pick(choices);
        self.world.set_weather(Weather {
            drop: one_of(&[0, 0, 50, 500]),
            repeat: one_of(&[0, 100, 500]),
            lose: one_of(&[0, 0, 50, 300]),
            lose_ack: one_of(&[0, 0, 100, 500]),
            delay_max_ms: one_of(&[5, 50, 400, 3_000]),
        });
    }

    /// The broker is away for a while, and may come back with less than it had confirmed.
    async fn broker_restarts(&mut self, until_ms: u64) {
        self.world.set_up(false);
        match self.dice.below(6) {
            0 => self.world.wipe(),
            1 => self.world.restore_backup(),
            2 | 3 => {
                let records = 1 + usize::try_from(self.dice.below(12)).unwrap();
                self.world.truncate(records, Fault::SuffixTruncated);
            }
            _ => {}
        }
        self.repairs.push((until_ms, Repair::Broker));
    }

    /// Power goes: what was on disk is there afterwards. What was not, and may have been heard, is nobody's promise.
    async fn crash(&mut self, at: usize, until_ms: u64) {
        let node = &mut self.nodes[at];
        node.read_ledger(&mut self.oracle);
        let Some(mut running) = node.running.take() else { return };
        if node.machine.is_adopting() {
            let name = node.name;
            self.world.note(Fault::CrashedAdopting, || format!("{name} is about to run another policy"));
        }
        node.disk.crash();
        running.engine.close();
        running.writer.abort();
        running.errands.shutdown().await;
        drop(running);
        self.world.note(Fault::Crashed, || format!("{} crashes", node.name));
        // What it had given up a moment ago may not be on its disk.
        let recent_ms =
            if node.disk_was_full { 0 } else { self.world.elapsed_ms().saturating_sub(SETTLED_MS) };
        node.ended.retain(|_, since_ms| *since_ms < recent_ms);
        node.list_floors.retain(|_, (_, since_ms)| *since_ms < EPOCH_MS + recent_ms);
        node.enforced.clear();
        self.repairs.push((until_ms, Repair::Start(at)));
    }

    async fn restart(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.read_ledger(&mut self.oracle);
        let held = node.held_decisions().into_iter().map(|of| (of.id, of)).collect();
        let Some(mut running) = node.running.take() else { return };
        node.disk.fail(false);
        running.errands.shutdown().await;
        running.fleet.shutdown().await;
        // What waited is written in the time that the disk takes; then the writer ends by itself.
        sleep(Duration::from_millis(3 * DISK_MAX_MS)).await;
        assert!(running.writer.is_finished());
        drop(running);
        self.world.note(Fault::Restarted, || format!("{} restarts", node.name));
        self.start_node(at).await;
        let node = &self.nodes[at];
        let risen = node.held_over(&held, &self.oracle, &self.played);
        self.violations.extend(risen.into_iter().map(|what| format!("{}: {what}", node.name)));
    }

    async fn start_node(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.disk.fail(false);
        let (disk, disk_ms) = (node.disk.clone(), 1 + self.dice.below(DISK_MAX_MS));
        let (store, mut writer) = Store::on(move || disk.head(), Arc::clone(sealer())).unwrap();
        let store = Arc::new(store);
        let author = Author { site: node.site.into(), node: node.name.into(), role: AuthorRole::Node };
        let now_ms = node.clock.now_ms();
        self.doubtful += forgotten(&store, &author, &mut self.oracle, &mut self.contents, now_ms);
        let writing = async move { while writer.turn(sleep(Duration::from_millis(disk_ms))).await {} };
        let writer = tokio::spawn(writing).abort_handle();
        if self.bug == Bug::HeldIsForgotten {
            let pins = store.pins().unwrap().into_iter().map(|(name, _)| name);
            pins.filter(|name| name.starts_with("held ")).for_each(|name| store.unpin(&name));
            sleep(Duration::from_millis(3 * DISK_MAX_MS)).await;
        }
        let clock: Arc<dyn Clock> = Arc::clone(&node.clock) as Arc<dyn Clock>;
        let engine = SimFleet::start(
            Arc::clone(&self.world),
            author,
            Arc::clone(&store),
            Arc::clone(&clock),
            self.bug,
        );
        let engine = Arc::new(engine);
        let (lanes, readers) = Lanes::new();
        // Outlives crashes, as its records do.
        let state_dir = self.state.path().join(node.name);
        std::fs::create_dir_all(&state_dir).unwrap();
        let settings = NodePlan::local(node.site, node.name).settings(&state_dir);
        let remembered = Remembered::read(&settings, Arc::clone(sealer())).await.unwrap();
        let parts = Parts { remembered, store, engine: Arc::clone(&engine) as Arc<dyn Fleet> };
        let fleet = FleetHandle::start_on(parts, settings, keys(node.name, node.control), lanes, clock)
            .await
            .unwrap();
        node.good.begin(&fleet, node.clock.now_ms(), self.bug).await;
        node.machine.start(&fleet);
        let mut errands = JoinSet::new();
        let follower = Follower {
            machine: node.machine.clone(),
            fleet: fleet.clone(),
            clock: Arc::clone(&node.clock),
            pushed: self.pushed.clone(),
            slow_ms: node.slow_ms,
            bug: self.bug,
        };
        errands.spawn(follower.run());
        node.running = Some(Running { fleet, engine, readers, recorded: 0, said: 0, writer, errands });
        self.world.tell(&format!("{}/{} starts", node.site, node.name));
    }

    /// Lies: a node's key allows, a record is bent, a record lies under another's name.
    fn forge(&mut self, at: usize) {
        let node = &self.nodes[at];
        let keys = keys(node.name, true);
        let author = Author { site: node.site.into(), node: node.name.into(), role: AuthorRole::Node };
        let now_ms = node.clock.now_ms();
        let lie = Change::Decided(Arc::new(Decision {
            id: DecisionId::from_parts(now_ms, 7, self.dice.next()),
            actor: Actor::ip(address("192.0.2.1")),
            kind: DecisionKind::Allow,
            author,
            reason: "let me in".into(),
            evidence: None,
            confidence_percent: 100,
            created_at_ms: now_ms,
            expires_at_ms: now_ms + 600_000,
            version: phalanx_fleet::hybrid_clock::version_at(now_ms),
        }));
        let signed = sign(&lie, &keys);
        let bent: Bytes = match self.world.overheard(self.dice.next()) {
            Some((_, bytes)) => bytes.iter().map(|byte| if *byte == b'1' { b'2' } else { *byte }).collect(),
            None => signed.clone(),
        };
        let elsewhere = format!("{}.fra.a.ban.ELSEWHERE", subject::DECISIONS);
        self.world.note(Fault::Forged, || "lies are told".into());
        self.world.inject(&lie.subject(), signed.clone());
        self.world.inject(&elsewhere, signed);
        self.world.inject(&lie.subject(), bent);
    }

    async fn repair_what_is_due(&mut self) {
        let now_ms = self.world.elapsed_ms();
        let (due, later) = std::mem::take(&mut self.repairs).into_iter().partition(|(at, _)| *at <= now_ms);
        self.repairs = later;
        let due: Vec<(u64, Repair)> = due;
        for (_, repair) in due {
            match repair {
                Repair::Broker => self.world.set_up(true),
                Repair::Node(at) => {
                    if let Some(seat) = self.nodes[at].seat() {
                        self.world.cut_node(seat, false);
                    }
                }
                Repair::Site(site) => self.world.cut_site(site, false),
                Repair::Start(at) if self.nodes[at].running.is_none() => self.start_node(at).await,
                Repair::Start(_) => {}
                Repair::Disk(at) => self.nodes[at].disk.fail(false),
                Repair::Blobs => self.world.hide_blobs(false),
            }
        }
    }

    /// What must be true at any moment.
    pub(super) fn observe(&mut self) {
        let now_ms = EPOCH_MS + self.world.elapsed_ms();
        self.mix_lists();
        for node in &mut self.nodes {
            node.read_ledger(&mut self.oracle);
            node.observe(&self.oracle, now_ms, &mut self.violations);
            let mut objections = node.list_objections(&self.contents, now_ms);
            objections.extend(node.holding_objections(&self.oracle, &self.played));
            self.violations.extend(objections.into_iter().map(|what| format!("{}: {what}", node.name)));
        }
        self.observe_policy();
    }

    async fn heal_and_check(&mut self) {
        self.world.set_weather(Weather { delay_max_ms: 20, ..Weather::default() });
        self.repairs.iter_mut().for_each(|(due_ms, _)| *due_ms = 0);
        self.repair_what_is_due().await;
        self.world.tell("calm from here on");
        // Most heal by the audit that follows a connection, some have to wait for the one of every minute.
        let mut audit_takes_ms = AUDIT_TAKES_MS;
        // A new connection would hide that streams are not read again.
        if self.dice.chance(600) && self.bug != Bug::ReadOnce {
            self.world.set_up(false);
            sleep(Duration::from_secs(1)).await;
            self.world.set_up(true);
            audit_takes_ms = 0;
        }
        // An audit that read the stream before and ends only now does not count.
        let calm_at_ms = self.nodes.iter().map(|node| node.clock.now_ms() + audit_takes_ms);
        let calm_at_ms: Vec<u64> = calm_at_ms.collect();
        let audited = |fleet: &Self| {
            fleet.nodes.iter().zip(&calm_at_ms).all(|(node, calm)| node.is_in_order_since(*calm))
        };
        if !self.wait(CALM_MAX, audited).await {
            let states: Vec<String> = self.nodes.iter().map(SimNode::condition).collect();
            self.violations
                .push(format!("queues did not drain, or audits did not pass: {}", states.join("; ")));
        }
        self.converge("after the calm").await;
        // Who comes late learns everything from the streams: what nodes alone remember is not shared.
        let (site, name) = NEWCOMER;
        self.nodes.push(SimNode::new(&self.world, site, name, true, 0, &mut self.dice));
        self.start_node(self.nodes.len() - 1).await;
        self.converge("with a newcomer").await;
        if self.dice.chance(150) {
            sleep(Duration::from_secs(70)).await;
            self.converge("a minute later").await;
        }
    }

    /// Waits for a condition, a second at a time. False when it takes too long.
    pub(super) async fn wait(&mut self, at_most: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let end = Instant::now() + at_most;
        while !condition(self) {
            if Instant::now() >= end {
                return false;
            }
            sleep(Duration::from_secs(1)).await;
            self.observe();
        }
        true
    }

    async fn converge(&mut self, when: &str) {
        self.checked = self.expected().len() as u64;
        let agreed = self.wait(CONVERGE_MAX, |fleet| fleet.differences().is_empty()).await;
        if !agreed {
            let differences = self.differences();
            self.violations.extend(differences.into_iter().map(|difference| format!("{when}, {difference}")));
        }
        self.policy_converges(when).await;
        self.lists_converge(when).await;
        self.observe();
    }

    fn expected(&self) -> BTreeSet<DecisionId> {
        self.oracle.expected(self.certain_until_ms())
    }

    /// What ends before this may have ended already by somebody's clock.
    fn certain_until_ms(&self) -> u64 {
        EPOCH_MS + self.world.elapsed_ms() + SKEW_MAX_MS + 1_000
    }

    /// Where a node's view is not what it must be.
    fn differences(&self) -> Vec<String> {
        let (expected, end_ms) = (self.expected(), self.certain_until_ms());
        let mut differences = Vec::new();
        for node in &self.nodes {
            let Some(running) = &node.running else { continue };
            let live = running.fleet.list(node.clock.now_ms(), usize::MAX);
            // What is held is known all the same, and ends with what ends it.
            let held = node.held_decisions();
            let certain: BTreeMap<DecisionId, &Arc<Decision>> = live
                .iter()
                .chain(&held)
                .filter(|of| of.expires_at_ms > end_ms && !self.oracle.is_doubtful(&of.actor))
                .map(|of| (of.id, of))
                .collect();
            let has: BTreeSet<DecisionId> = certain.keys().copied().collect();
            for missing in expected.difference(&has) {
                differences.push(format!("{} lacks {}", node.name, self.describe(*missing)));
            }
            for extra in has.difference(&expected) {
                differences.push(format!("{} still has {}", node.name, self.describe(*extra)));
            }
        }
        differences
    }

    fn describe(&self, id: DecisionId) -> String {
        let said = self.oracle.said().iter().find_map(|change| match change {
            Change::Decided(of) if of.id == id => Some(format!(
                "{:?} of {} by {:?} {}, {}",
                of.kind,
                of.actor,
                of.author.role,
                of.author.node,
                change.subject()
            )),
            Change::Decided(_) | Change::Withdrawn(_) | Change::Recalled(_) | Change::Listed(_) => None,
        });
        said.unwrap_or_else(|| format!("{id}, which nobody decided"))
    }

    fn any_node(&mut self) -> usize {
        usize::try_from(self.dice.below(self.nodes.len() as u64)).unwrap()
    }
}

impl SimNode {
    fn new(
        world: &World,
        site: &'static str,
        name: &'static str,
        control: bool,
        skew_ms: i64,
        dice: &mut Dice,
    ) -> Self {
        Self {
            name,
            site,
            control,
            disk: SimDisk::default(),
            clock: Arc::new(SimClock { started: world.started(), skew_ms: skew_ms.into() }),
            machine: Machine::default(),
            good: Good::of(dice),
            list_floors: Floors::new(),
            slow_ms: *dice.pick(&[1, 300, 2_000]),
            disk_was_full: false,
            ended: BTreeMap::new(),
            enforced: BTreeMap::new(),
            running: None,
        }
    }

    fn seat(&self) -> Option<usize> {
        self.running.as_ref().map(|running| running.engine.seat())
    }

    fn observe(&mut self, oracle: &Oracle, true_ms: u64, violations: &mut Vec<String>) {
        let Some(running) = &mut self.running else { return };
        let now_ms = self.clock.now_ms();
        let live = running.fleet.list(now_ms, usize::MAX);
        for decision in &live {
            if let Some(objection) = oracle.objection(decision, true_ms, SKEW_MAX_MS) {
                violations.push(format!("{} enforces {}, but {objection}", self.name, decision.id));
            }
            if self.ended.contains_key(&decision.id) {
                violations.push(format!("{}: risen again: {decision:?}", self.name));
                self.ended.remove(&decision.id);
            }
        }
        let view = running.fleet.view().load_full();
        for ip in ADDRESSES.map(|last| address(&format!("192.0.2.{last}"))) {
            if view
                .lookup(&Identities::of(ip), now_ms)
                .is_some_and(|found| !live.iter().any(|of| of.id == found.id()))
            {
                violations.push(format!("{}: {ip} is under an order that is not in force", self.name));
            }
        }
        let live: BTreeMap<DecisionId, Arc<Decision>> = live.into_iter().map(|of| (of.id, of)).collect();
        for (id, decision) in std::mem::take(&mut self.enforced) {
            // What is gone though it has time left was withdrawn or superseded.
            if !live.contains_key(&id) && decision.expires_at_ms > now_ms + 2 * SKEW_MAX_MS {
                self.ended.insert(id, true_ms - EPOCH_MS);
            }
        }
        self.enforced = live;
        if running.recorded != running.said {
            violations
                .push(format!("{}: {} said, {} in the ledger", self.name, running.said, running.recorded));
        }
    }

    /// Takes in what was recorded before it took effect: lists are not told otherwise.
    fn read_ledger(&mut self, oracle: &mut Oracle) {
        let Some(running) = &mut self.running else { return };
        while let Ok(entry) = running.readers.ledger.try_recv() {
            match entry.kind {
                LedgerKind::Decided { .. } | LedgerKind::Withdrawn { .. } | LedgerKind::Recalled { .. } => {
                    running.recorded += 1;
                }
                LedgerKind::Listed { list } => oracle.say(Change::Listed(list)),
                _ => {}
            }
        }
    }

    /// Whether the link is up, nothing is queued, and own records were compared with the stream since.
    fn is_in_order_since(&self, at_ms: u64) -> bool {
        self.running.as_ref().is_some_and(|running| {
            let status = running.fleet.status();
            status.connected && status.queue == 0 && status.audited_at_ms.is_some_and(|at| at >= at_ms)
        })
    }

    fn condition(&self) -> String {
        self.running.as_ref().map_or_else(|| "down".into(), |running| format!("{:?}", running.fleet.status()))
    }
}

/// Whom the store should know and does not: everything of this author's that counts and was lost. About these, nothing certain
/// can be said any more: others may have heard it.
fn forgotten(
    store: &Store,
    author: &Author,
    oracle: &mut Oracle,
    contents: &mut Contents,
    now_ms: u64,
) -> usize {
    let (kept, unreadable) = store.records("phx.").unwrap();
    assert_eq!(unreadable, 0);
    let kept: BTreeMap<&str, u64> = kept.iter().map(|of| (of.subject.as_str(), of.version)).collect();
    let mine = oracle.said().iter().filter(|change| {
        change.author().node == author.node && change.expires_at_ms() > now_ms.saturating_sub(SKEW_MAX_MS)
    });
    let is_over = |change: &Change| match change {
        Change::Decided(decision) => oracle.is_over(decision),
        Change::Listed(list) => {
            oracle.lists().any(|other| other.name == list.name && other.version > list.version)
        }
        Change::Withdrawn(_) | Change::Recalled(_) => false,
    };
    let lost: Vec<Change> = mine
        .filter(|change| {
            kept.get(change.subject().as_str()).is_none_or(|version| *version < change.version())
        })
        .filter(|change| !is_over(change))
        .cloned()
        .collect();
    for change in &lost {
        match change {
            Change::Decided(_) | Change::Withdrawn(_) => {
                change.actor().into_iter().for_each(|actor| oracle.doubt(actor));
            }
            Change::Recalled(recall) => {
                oracle.ended_by(recall).iter().for_each(|actor| oracle.doubt(actor));
                contents.doubt_all();
            }
            Change::Listed(list) => contents.doubt(&list.name),
        }
    }
    lost.len()
}

pub(super) fn proposal(actor: Actor, kind: DecisionKind, for_ms: u64) -> Proposal {
    Proposal { actor, kind, for_ms, ..crate::support::proposal("192.0.2.1", 1) }
}

fn sign(change: &Change, keys: &FleetKeys) -> Bytes {
    let (subject, body) = (change.subject(), serde_json::to_vec(change).unwrap());
    let statement = Statement {
        fleet_id: FLEET,
        subject: &subject,
        author: change.author(),
        version: change.version(),
        expires_at_ms: change.expires_at_ms(),
        body: &body,
    };
    SignedRecord::sign(&keys.node, statement).to_bytes().unwrap().into()
}

/// The keys of a node, the same in every run.
fn keys(node: &str, control: bool) -> FleetKeys {
    static FOLDER: Mutex<Option<tempfile::TempDir>> = Mutex::new(None);
    // Held until the keys are there: threads play runs with the same names.
    let mut folder = FOLDER.lock();
    let folder = folder.get_or_insert_with(|| tempfile::tempdir().unwrap());
    let own: &Path = &folder.path().join(node);
    std::fs::create_dir_all(own).unwrap();
    FleetKeys::load_or_create(own, sealer(), control).unwrap()
}

fn sealer() -> &'static Arc<Sealer> {
    static SEALER: OnceLock<Arc<Sealer>> = OnceLock::new();
    SEALER.get_or_init(|| Arc::new(Sealer::ephemeral().unwrap()))
}

fn skew(dice: &mut Dice) -> i64 {
    i64::try_from(dice.below(2 * SKEW_MAX_MS)).unwrap() - i64::try_from(SKEW_MAX_MS).unwrap()
}

pub(super) const EPOCH_MS: u64 = 1_800_000_000_000;
pub(super) const SKEW_MAX_MS: u64 = 15_000;
/// After this time what a healthy node was told is on its disk.
const SETTLED_MS: u64 = 2_000;
/// A write takes no longer.
const DISK_MAX_MS: u64 = 30;
const AUDIT_TAKES_MS: u64 = 6_000;
const CALM_MAX: Duration = Duration::from_secs(100);
/// Digests are told every 20 s, and count when they differ twice.
pub(super) const CONVERGE_MAX: Duration = Duration::from_secs(60);
/// Few, so that orders meet.
const ADDRESSES: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const ROSTER: [(&str, &str); 4] = [("fra", "a"), ("fra", "b"), ("syd", "c"), ("iad", "d")];
const NEWCOMER: (&str, &str) = ("syd", "z");
