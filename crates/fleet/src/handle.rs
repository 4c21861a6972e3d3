//! The fleet as the rest of the product uses it: propose, add, withdraw, list, watch.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use phalanx_model::event::Proposal;
use phalanx_model::lanes::Lanes;
use phalanx_model::limits::{BAN_AUTOMATIC_MAX_MS, FLEET_CHANGES_QUEUE, FLEET_OUTBOX, REASON_BYTES_MAX};
use phalanx_model::{
    Actor, Author, AuthorRole, Clock, Decision, DecisionId, DecisionKind, RequestId, Swap, View, Withdrawal,
    id,
};
use phalanx_trust::{FleetSecret, NodeRecord, Sealer, SigningKey, TrustRoots, random_u64, valid_name};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use crate::change::tombstone_end_ms;
use crate::hybrid_clock::HybridClock;
use crate::members::Link;
use crate::registers::Registers;
use crate::shared::{Core, FleetStatus, Shared};
use crate::store::Store;
use crate::{
    Change, Fleet, FleetError, LocalFleet, Member, NatsFleet, NatsSettings, Topic, ingest, outbox, pulse,
    restore,
};

/// What a fleet node is told at start.
#[derive(Debug)]
pub struct FleetSettings {
    /// The fleet's id; records of another are refused.
    pub fleet_id: String,
    /// This node's site.
    pub site: String,
    /// This node's name within the site.
    pub node: String,
    /// The product version.
    pub version: String,
    /// What this node does: `edge`, `control`.
    pub roles: Vec<String>,
    /// Where state is kept; must exist.
    pub state_dir: PathBuf,
    /// The NATS server to share through; none for a fleet of one.
    pub nats: Option<NatsSettings>,
    /// The secret that admits nodes; none admits whoever comes first under a name.
    pub secret: Option<FleetSecret>,
}

/// The keys a node signs with.
#[derive(Debug)]
pub struct FleetKeys {
    /// What the node says on its own.
    pub node: SigningKey,
    /// What operators say through it; only with the control role.
    pub operator: Option<SigningKey>,
}

impl FleetKeys {
    /// Reads the keys from the state folder, or makes them. `control`: whether this node may act for operators.
    pub fn load_or_create(state_dir: &Path, sealer: &Sealer, control: bool) -> Result<Self, FleetError> {
        let node = SigningKey::load_or_create(&state_dir.join("node.key"), sealer)?;
        let operator = match control {
            true => Some(SigningKey::load_or_create(&state_dir.join("operator.key"), sealer)?),
            false => None,
        };
        Ok(Self { node, operator })
    }
}

/// What an operator orders.
#[derive(Debug, Clone)]
pub struct NewDecision {
    /// Whom it is about.
    pub actor: Actor,
    /// What it orders.
    pub kind: DecisionKind,
    /// How long it holds, in milliseconds.
    pub for_ms: u64,
    /// Why; cut to the limit.
    pub reason: String,
    /// The request that led to it, if one did.
    pub evidence: Option<RequestId>,
}

/// What a node runs on.
pub struct Parts {
    /// What it remembers.
    pub store: Arc<Store>,
    /// What carries its records; keeps this node's own in the same store.
    pub engine: Arc<dyn Fleet>,
}

/// A running fleet node. Cheap to clone; all clones are the same node.
#[derive(Clone)]
pub struct FleetHandle {
    shared: Arc<Shared>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl FleetHandle {
    /// Starts the node: what it remembers is in force when this returns, whether or not anyone can be reached.
    pub async fn start(
        settings: FleetSettings,
        sealer: Arc<Sealer>,
        keys: FleetKeys,
        lanes: Lanes,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, FleetError> {
        check_names(&settings)?;
        let now_ms = clock.now_ms();
        let path = settings.state_dir.join("fleet.redb");
        let store = crate::local::blocking(move || Store::open(&path, sealer, now_ms)).await?;
        let store = Arc::new(store);
        let engine: Arc<dyn Fleet> = match settings.nats.clone() {
            None => {
                let holder = format!("{}/{}", settings.site, settings.node);
                Arc::new(LocalFleet::new(Arc::clone(&store), holder, Arc::clone(&clock)))
            }
            Some(nats) => {
                let (site, node) = (settings.site.as_str().into(), settings.node.as_str().into());
                let author = Author { site, node, role: AuthorRole::Node };
                Arc::new(NatsFleet::start(nats, author, Arc::clone(&store), Arc::clone(&clock)).await?)
            }
        };
        Self::start_on(Parts { store, engine }, settings, keys, lanes, clock)
    }

    /// As [`FleetHandle::start`], on a store and an engine that the caller made: how simulations run the very same node.
    pub fn start_on(
        parts: Parts,
        settings: FleetSettings,
        keys: FleetKeys,
        lanes: Lanes,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, FleetError> {
        let Parts { store, engine } = parts;
        let me = node_record(&settings, &keys, clock.now_ms());
        let (outbox, outgoing) = mpsc::channel(FLEET_OUTBOX);
        let (changes, _) = broadcast::channel(FLEET_CHANGES_QUEUE);
        let mut roots = TrustRoots::new(settings.fleet_id.as_str().into());
        roots.pin(&me)?;
        let shared = Shared {
            me,
            keys,
            secret: settings.secret,
            clock,
            lanes,
            store,
            engine,
            view: Arc::new(Swap::new(View::default())),
            core: Mutex::new(Core { registers: Registers::default(), clock: HybridClock::default() }),
            roots: RwLock::new(roots),
            members: Mutex::default(),
            changes,
            outbox,
            outbox_overflowed: false.into(),
            unsent: 0.into(),
            refused: 0.into(),
            faults: Mutex::default(),
        };
        let shared = Arc::new(shared);
        restore::run(&shared)?;
        let handle = Self { tasks: Arc::default(), shared };
        handle.spawn_tasks(outgoing);
        Ok(handle)
    }

    /// Turns what this node itself concluded into a signed decision, in force here when this returns. What it asks for is cut to
    /// what a node alone may order, and it ends no sooner than the decision it replaces.
    pub fn propose(&self, proposal: Proposal) -> Result<Arc<Decision>, FleetError> {
        let for_ms = proposal.for_ms.min(BAN_AUTOMATIC_MAX_MS);
        let confidence_percent = proposal.confidence_percent.min(100);
        let order = NewDecision {
            actor: proposal.actor,
            kind: proposal.kind,
            for_ms,
            reason: proposal.reason,
            evidence: Some(proposal.evidence),
        };
        self.decide(AuthorRole::Node, order, confidence_percent)
    }

    /// Puts an operator's order into force everywhere. It ends no sooner than the order it replaces, the same kind of order that was
    /// given here about the same actor: for a shorter one, delete first.
    pub fn add(&self, order: NewDecision) -> Result<Arc<Decision>, FleetError> {
        self.decide(AuthorRole::Operator, order, 100)
    }

    /// Ends, everywhere, a live decision and all others about the same actor, as an operator.
    pub fn delete(&self, id: DecisionId, reason: &str) -> Result<Arc<Withdrawal>, FleetError> {
        let decision = self.find(id).ok_or(FleetError::NoSuchDecision(id))?;
        self.withdraw(decision.actor.clone(), reason)
    }

    /// Ends, everywhere, all decisions about an actor made so far, by whomever, as an operator.
    pub fn withdraw(&self, actor: Actor, reason: &str) -> Result<Arc<Withdrawal>, FleetError> {
        self.end(AuthorRole::Operator, actor, reason)
    }

    /// Ends, everywhere, this node's own decisions about an actor.
    pub fn retract(&self, actor: Actor, reason: &str) -> Result<Arc<Withdrawal>, FleetError> {
        self.end(AuthorRole::Node, actor, reason)
    }

    /// The live decision of this id.
    pub fn find(&self, id: DecisionId) -> Option<Arc<Decision>> {
        let view = self.shared.view.load();
        let now_ms = self.shared.clock.now_ms();
        view.live(now_ms).find(|decision| decision.id == id).cloned()
    }

    /// The live decisions, newest first.
    pub fn list(&self, now_ms: u64) -> Vec<Arc<Decision>> {
        let mut decisions: Vec<Arc<Decision>> = self.shared.view.load().live(now_ms).cloned().collect();
        decisions.sort_by_key(|decision| std::cmp::Reverse((decision.created_at_ms, decision.id)));
        decisions
    }

    /// The view that the data plane reads.
    pub fn view(&self) -> Arc<Swap<View>> {
        Arc::clone(&self.shared.view)
    }

    /// Every change from now on, this node's and others', after it took effect.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }

    /// The nodes of the fleet, this one first.
    pub fn members(&self) -> Vec<Member> {
        let shared = &self.shared;
        let now_ms = shared.clock.now_ms();
        let heartbeat = shared.heartbeat(now_ms);
        let me = Member {
            site: Arc::clone(&shared.me.site),
            node: Arc::clone(&shared.me.node),
            version: heartbeat.version,
            lag_ms: 0,
            last_seen_ms: now_ms,
            decisions: heartbeat.decisions,
            revision: heartbeat.revision,
            me: true,
            link: Link::Up,
        };
        shared.members.lock().list(me, shared.roots.read().nodes(), now_ms)
    }

    /// How the fleet is doing.
    pub fn status(&self) -> FleetStatus {
        self.shared.status()
    }

    /// Forgets a node's pinned keys, as an operator: its next announcement is pinned afresh. For a node that lost its state.
    pub fn forget_node(&self, site: &str, node: &str) -> Result<bool, FleetError> {
        self.shared.key(AuthorRole::Operator)?;
        let known = self.shared.roots.write().forget(site, node);
        self.shared.members.lock().forget(site, node);
        self.shared.store.unpin(&format!("{site}/{node}"));
        self.shared.faults.lock().retain(|key, _| !key.starts_with(&format!("{site}/{node} ")));
        self.shared.engine.resync(Topic::Nodes);
        Ok(known)
    }

    /// The engine, for blobs and leases.
    pub fn engine(&self) -> Arc<dyn Fleet> {
        Arc::clone(&self.shared.engine)
    }

    /// Stops the node: what was written is on disk when this returns. The view stays readable.
    pub async fn shutdown(&self) {
        self.shared.engine.close();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
        // What the outbox had not taken yet is signed and kept now; it is sent after the next start.
        let own: Vec<Change> = self
            .shared
            .core
            .lock()
            .registers
            .written_by(&self.shared.me.site, &self.shared.me.node)
            .collect();
        for change in own {
            if let Ok(put) = self.shared.sign(&change) {
                self.shared.keep_soon(&change, put.bytes.to_vec());
            }
        }
        let store = Arc::clone(&self.shared.store);
        let _ = crate::local::blocking(move || {
            store.close();
            Ok(())
        })
        .await;
    }

    fn decide(
        &self,
        role: AuthorRole,
        order: NewDecision,
        confidence_percent: u8,
    ) -> Result<Arc<Decision>, FleetError> {
        let change = self.shared.author(role, |author, version, now_ms| {
            Change::Decided(Arc::new(Decision {
                id: new_id(&author, now_ms),
                actor: order.actor,
                kind: order.kind,
                author,
                reason: cut(order.reason),
                evidence: order.evidence,
                confidence_percent,
                created_at_ms: now_ms,
                expires_at_ms: now_ms.saturating_add(order.for_ms),
                version,
            }))
        })?;
        match change {
            Change::Decided(decision) => Ok(decision),
            Change::Withdrawn(_) => Err(FleetError::Closed),
        }
    }

    fn end(&self, role: AuthorRole, actor: Actor, reason: &str) -> Result<Arc<Withdrawal>, FleetError> {
        let change = self.shared.author(role, |author, version, now_ms| {
            Change::Withdrawn(Arc::new(Withdrawal {
                id: new_id(&author, now_ms),
                actor,
                up_to_version: version,
                reason: cut(reason.to_owned()),
                created_at_ms: now_ms,
                expires_at_ms: tombstone_end_ms(role, version),
                author,
            }))
        })?;
        match change {
            Change::Withdrawn(withdrawal) => Ok(withdrawal),
            Change::Decided(_) => Err(FleetError::Closed),
        }
    }

    fn spawn_tasks(&self, outgoing: mpsc::Receiver<Change>) {
        let shared = &self.shared;
        let topics = ingest::Topics {
            nodes: shared.engine.subscribe(Topic::Nodes),
            decisions: shared.engine.subscribe(Topic::Decisions),
            heartbeats: shared.engine.subscribe(Topic::Heartbeats),
        };
        let mut tasks = self.tasks.lock();
        tasks.spawn(ingest::run(Arc::clone(shared), topics));
        tasks.spawn(outbox::run(Arc::clone(shared), outgoing));
        tasks.spawn(pulse::run(Arc::clone(shared)));
    }
}

impl std::fmt::Debug for FleetHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FleetHandle").field("me", &self.shared.me).finish_non_exhaustive()
    }
}

fn node_record(settings: &FleetSettings, keys: &FleetKeys, now_ms: u64) -> NodeRecord {
    NodeRecord {
        site: settings.site.as_str().into(),
        node: settings.node.as_str().into(),
        version: settings.version.clone(),
        node_key: keys.node.verifying(),
        operator_key: keys.operator.as_ref().map(SigningKey::verifying),
        roles: settings.roles.clone(),
        started_at_ms: now_ms,
    }
}

fn check_names(settings: &FleetSettings) -> Result<(), FleetError> {
    let names = [("fleet id", &settings.fleet_id), ("site", &settings.site), ("node", &settings.node)];
    for (setting, name) in names {
        if !valid_name(name) {
            let cause = format!("`{}` is no name", name.escape_debug());
            return Err(FleetError::setting(setting, cause, "use 1 to 63 of a-z, 0-9, - and _"));
        }
    }
    Ok(())
}

fn new_id(author: &Author, now_ms: u64) -> DecisionId {
    DecisionId::from_parts(now_ms, id::node_tag(&author.site, &author.node), random_u64())
}

/// Cuts a reason to the limit at a character's end.
fn cut(mut reason: String) -> String {
    if reason.len() > REASON_BYTES_MAX {
        let mut end = REASON_BYTES_MAX;
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
    }
    reason
}
