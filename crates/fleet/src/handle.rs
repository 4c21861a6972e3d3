//! The fleet as the rest of the product uses it: propose, add, withdraw, list, watch.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use phalanx_model::event::Proposal;
use phalanx_model::lanes::Lanes;
use phalanx_model::limits::{
    BAN_AUTOMATIC_MAX_MS, FLEET_CHANGES_QUEUE, FLEET_OUTBOX, RATE_BATCHES_QUEUE, REASON_BYTES_MAX,
};
use phalanx_model::{
    Actor, ActorKey, Author, AuthorRole, Clock, CountBatch, Decision, DecisionId, DecisionKind, Recall,
    RequestId, Swap, View, Withdrawal, id,
};
use phalanx_trust::{
    FleetSecret, Membership, NodeRecord, Sealer, SigningKey, TrustRoots, random_u64, valid_name,
};
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::JoinSet;

use crate::change::tombstone_end_ms;
use crate::compact::Packing;
use crate::counts::CountReach;
use crate::held::Held;
use crate::inquiry::Inquiries;
use crate::members::Link;
use crate::orders::{Duty, Orders};
use crate::packed::PackedFile;
use crate::policy::{self, follow::Policies};
use crate::shared::{Core, FleetStatus, Shared, admitted};
use crate::store::Store;
use crate::{
    Change, Fleet, FleetError, LocalFleet, Member, NatsFleet, NatsSettings, Topic, TrailReading, blocklists,
    compact, counts, ingest, inquiry, orders, outbox, primer, pulse, restore,
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
    /// The node's membership of an enrolled fleet; with it only certified nodes are believed.
    pub membership: Option<Arc<Membership>>,
    /// Where nodes of the site can renew should this be the site's delegate: `HOST:PORT`; empty on other nodes.
    pub enrol: Vec<String>,
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
    /// What it enforces before it has read its records.
    pub remembered: Remembered,
    /// Its records.
    pub store: Arc<Store>,
    /// What carries its records; keeps this node's own in the same store.
    pub engine: Arc<dyn Fleet>,
}

/// What a node enforces before it has read its records: the packed view of its last run.
pub struct Remembered {
    view: Arc<Swap<View>>,
    file: PackedFile,
    fault: Option<String>,
}

impl Remembered {
    /// Reads the packed view. One that cannot be used is set aside, and the node starts with no decisions in force.
    pub async fn read(settings: &FleetSettings, sealer: Arc<Sealer>) -> Result<Self, FleetError> {
        let file = PackedFile::new(&settings.state_dir, sealer, &settings.fleet_id);
        crate::local::blocking(move || {
            let (base, fault) = match file.read() {
                Ok(base) => (base, None),
                Err(fault) => (None, Some(fault)),
            };
            let view = View::on(Arc::new(base.unwrap_or_default()));
            Ok(Self { view: Arc::new(Swap::new(view)), file, fault })
        })
        .await
    }

    /// The view that the data plane reads, now and after [`FleetHandle::start_with`].
    pub fn view(&self) -> Arc<Swap<View>> {
        Arc::clone(&self.view)
    }
}

/// A running fleet node. Cheap to clone; all clones are the same node.
#[derive(Clone)]
pub struct FleetHandle {
    pub(crate) shared: Arc<Shared>,
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
        let remembered = Remembered::read(&settings, Arc::clone(&sealer)).await?;
        Box::pin(Self::start_with(remembered, settings, sealer, keys, lanes, clock)).await
    }

    /// As [`FleetHandle::start`], for a node that enforces what it remembers already.
    pub async fn start_with(
        remembered: Remembered,
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
        Self::start_on(Parts { remembered, store, engine }, settings, keys, lanes, clock).await
    }

    /// As [`FleetHandle::start`], on a store and an engine that the caller made: how simulations run the very same node.
    pub async fn start_on(
        parts: Parts,
        settings: FleetSettings,
        keys: FleetKeys,
        lanes: Lanes,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, FleetError> {
        let Parts { remembered, store, engine } = parts;
        let now_ms = clock.now_ms();
        let me = node_record(&settings, &keys, now_ms);
        let (outbox, outgoing) = mpsc::channel(FLEET_OUTBOX);
        let (changes, _) = broadcast::channel(FLEET_CHANGES_QUEUE);
        let (counts, _) = broadcast::channel(RATE_BATCHES_QUEUE);
        let floor = settings.membership.as_ref().map_or(0, |member| member.held().grant.policy_version_min);
        let mut roots = TrustRoots::new(settings.fleet_id.as_str().into());
        roots.admit(&admitted(&me, settings.membership.as_deref()))?;
        let shared = Shared {
            me,
            keys,
            secret: settings.secret,
            membership: settings.membership,
            revocations: watch::Sender::new(Vec::new()),
            clock,
            lanes,
            store,
            engine,
            core: Mutex::new(Core::remembering(remembered.view.load().base())),
            view: remembered.view,
            packing: Mutex::new(Packing::new(remembered.file, now_ms)),
            crowded: Notify::new(),
            lists: tokio::sync::Mutex::default(),
            lists_changed: Notify::new(),
            policies: Policies::new(floor),
            good: Default::default(),
            roots: RwLock::new(roots),
            members: Mutex::default(),
            differences: Mutex::default(),
            orders: Orders::default(),
            self_test: Mutex::default(),
            news: Notify::new(),
            unheard: Mutex::default(),
            inquiries: Inquiries::default(),
            changes,
            counts,
            back: Notify::new(),
            outbox,
            outbox_overflowed: false.into(),
            unsent: 0.into(),
            refused: 0.into(),
            faults: Mutex::default(),
        };
        if let Some(fault) = remembered.fault {
            shared.fault("remembered view", fault);
        }
        let handle = Self { tasks: Arc::default(), shared: Arc::new(shared) };
        handle.shared.remember_held().await;
        Box::pin(handle.shared.remember_lists()).await;
        handle.restore().await?;
        handle.shared.remember_policy_record().await;
        Box::pin(handle.shared.look_after_lists()).await;
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

    /// Puts into force everywhere what another system that this node listens to ordered, in the node's own name and within what a
    /// node alone may order. It ends no sooner than the decision it replaces.
    pub fn pass_on(&self, order: NewDecision) -> Result<Arc<Decision>, FleetError> {
        self.decide(AuthorRole::Node, order, 100)
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

    /// Ends, everywhere, all that an author has decided so far, about whomever, as an operator. What it decides from here on counts.
    /// Fails for an author of whom this node has never heard: it would be a slip of the pen.
    pub fn recall(&self, target: Author, reason: &str) -> Result<Arc<Recall>, FleetError> {
        self.shared.key(AuthorRole::Operator)?;
        if !self.knows(&target) {
            return Err(FleetError::NoSuchAuthor(target));
        }
        let change = self.shared.author(AuthorRole::Operator, |author, version, now_ms| {
            Change::Recalled(Arc::new(Recall {
                id: new_id(&author, now_ms),
                expires_at_ms: tombstone_end_ms(target.role, version),
                target,
                up_to_version: version,
                reason: cut(reason.to_owned()),
                created_at_ms: now_ms,
                author,
            }))
        })?;
        match change {
            Change::Recalled(recall) => Ok(recall),
            Change::Decided(_) | Change::Withdrawn(_) | Change::Listed(_) => Err(FleetError::Closed),
        }
    }

    /// Recalls that are kept, the newest first.
    pub fn recalls(&self) -> Vec<Arc<Recall>> {
        let mut recalls: Vec<_> = self.shared.core.lock().registers.recalls().cloned().collect();
        recalls.sort_by_key(|recall| std::cmp::Reverse((recall.up_to_version, recall.id)));
        recalls
    }

    /// Ends, everywhere, this node's own decisions about an actor.
    pub fn retract(&self, actor: Actor, reason: &str) -> Result<Arc<Withdrawal>, FleetError> {
        self.end(AuthorRole::Node, actor, reason)
    }

    /// Resolves when one of this node's own changes is on its disk, so that it survives the node itself. It is in force and on its way
    /// to the others before that.
    pub async fn kept(&self, change: Change) -> Result<(), FleetError> {
        let put = self.shared.sign(&change)?;
        let kept = self.shared.kept(&change, put.bytes.to_vec());
        self.shared.store.keep(kept).await
    }

    /// Whether this node is the author.
    pub fn is_me(&self, author: &Author) -> bool {
        self.shared.is_me(author)
    }

    /// The live decision of this id, in force or held.
    pub fn find(&self, id: DecisionId) -> Option<Arc<Decision>> {
        let in_force = self.shared.view.load_full().find(id, self.shared.clock.now_ms());
        in_force.or_else(|| {
            let core = self.shared.core.lock();
            core.holding.iter().filter_map(Held::decision).find(|decision| decision.id == id).cloned()
        })
    }

    /// The newest live decisions, at most `limit`, newest first.
    pub fn list(&self, now_ms: u64, limit: usize) -> Vec<Arc<Decision>> {
        self.list_before(None, now_ms, limit)
    }

    /// The same, of those older than one of this id alone.
    pub fn list_before(&self, before: Option<DecisionId>, now_ms: u64, limit: usize) -> Vec<Arc<Decision>> {
        self.shared.view.load_full().newest(now_ms, before, limit)
    }

    /// The view that the data plane reads.
    pub fn view(&self) -> Arc<Swap<View>> {
        Arc::clone(&self.shared.view)
    }

    /// Every change from now on, this node's and others', after it took effect.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }

    /// What changed about whole address ranges since a position of the trail, for readers that keep a copy elsewhere. Positions
    /// do not outlive the node's process.
    pub fn trail(&self, position: Option<u64>) -> TrailReading {
        self.shared.core.lock().trail.read(position)
    }

    /// The decisions about exactly this key, live or not yet swept.
    pub fn about(&self, key: &ActorKey) -> Vec<Arc<Decision>> {
        self.shared.view.load_full().decisions_of(key)
    }

    /// This node's own decisions, in force here or held: what it told the others stands with them all the same.
    pub fn own_about(&self, key: &ActorKey) -> Vec<Arc<Decision>> {
        let mut decisions = self.about(key);
        decisions.retain(|decision| self.is_me(&decision.author));
        let me = self.shared.me.author(AuthorRole::Node);
        decisions.extend(self.shared.core.lock().holding.about(&me, key));
        decisions
    }

    /// Keys about which decisions were withdrawn as a whole, as far as that is remembered, and about which nothing is in force.
    pub fn withdrawn(&self) -> Vec<ActorKey> {
        let mut keys = self.shared.core.lock().registers.withdrawn();
        let now_ms = self.shared.clock.now_ms();
        let view = self.shared.view.load_full();
        let in_force = |one: &Arc<Decision>| one.is_live(now_ms) && one.actor.agent().is_none();
        keys.retain(|key| !view.decisions_of(key).iter().any(in_force));
        keys
    }

    /// When an operator last withdrew what was ordered about this key, as far as that is remembered, in Unix milliseconds.
    pub fn forgiven_at_ms(&self, key: &ActorKey) -> Option<u64> {
        self.shared.core.lock().registers.forgiven_at_ms(key)
    }

    /// Whether the node still reads what it remembers: until then it knows not all that was withdrawn.
    pub fn is_reading(&self) -> bool {
        self.shared.core.lock().reading
    }

    /// What others admitted, from now on; signed by them, and nothing else of it is checked.
    pub fn counts(&self) -> broadcast::Receiver<Arc<CountBatch>> {
        self.shared.counts.subscribe()
    }

    /// The nodes that count together: those that there are, and those that this one hears. A node that is not heard for a
    /// quarter of an hour is no longer one of them.
    pub fn reach(&self) -> CountReach {
        counts::reach(&self.shared)
    }

    /// What the node's attacks on itself came to, for heartbeats from now on.
    pub fn tell_self_test(&self, ok: Option<bool>) {
        *self.shared.self_test.lock() = ok;
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
            held: heartbeat.held,
            revision: heartbeat.revision,
            policy: heartbeat.policy,
            me: true,
            link: Link::Up,
            duty: Duty::Serve,
            drained: heartbeat.drained,
            order_reason: String::new(),
            self_test: heartbeat.self_test,
        };
        let mut members = shared.members.lock().list(me, shared.roots.read().nodes(), now_ms);
        for member in &mut members {
            if let Some(standing) = shared.orders.about(&member.site, &member.node)
                && standing.order.duty != Duty::Evict
            {
                member.duty = standing.order.duty;
                member.order_reason = standing.order.reason;
            }
            member.drained &= member.duty == Duty::Drain;
        }
        members
    }

    /// How the fleet is doing.
    pub fn status(&self) -> FleetStatus {
        self.shared.status()
    }

    /// Forgets a node's pinned keys, as an operator: its next announcement is pinned afresh. For a node that lost its state. What it had
    /// said and is in force goes on in this operator's name.
    pub fn forget_node(&self, site: &str, node: &str) -> Result<bool, FleetError> {
        self.shared.key(AuthorRole::Operator)?;
        let taken_over = self.shared.take_over(site, node)?;
        tracing::info!(site, node, taken_over, "node forgotten");
        let known = self.shared.roots.write().drop_key(site, node, self.shared.clock.now_ms());
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
        let shared = Arc::clone(&self.shared);
        let _ = crate::local::blocking(move || {
            shared.look_after_view(true);
            shared.store.close();
            Ok(())
        })
        .await;
    }

    /// Reads the records; with a packed view in force, no longer than a start may take.
    async fn restore(&self) -> Result<(), FleetError> {
        let shared = Arc::clone(&self.shared);
        let trusted = Arc::clone(&shared);
        crate::local::blocking(move || restore::trust(&trusted)).await?;
        let nothing_in_force = shared.view.load().base().decisions_len() == 0;
        let mut reading = tokio::spawn(crate::local::blocking(move || restore::run(&shared)));
        let result = match nothing_in_force {
            true => reading.await,
            false => match tokio::time::timeout(RESTORE_WAIT, &mut reading).await {
                Ok(result) => result,
                Err(_) => {
                    let shared = Arc::clone(&self.shared);
                    self.tasks.lock().spawn(async move {
                        if let Ok(Err(error)) = reading.await {
                            shared.fault("state", format!("kept records cannot be read: {error}"));
                        }
                    });
                    return Ok(());
                }
            },
        };
        result.map_err(|_| FleetError::Closed)?
    }

    /// Whether an author is a node of the fleet, or decided what is in force.
    fn knows(&self, author: &Author) -> bool {
        let (shared, now_ms) = (&self.shared, self.shared.clock.now_ms());
        let named = |node: &NodeRecord| node.site == author.site && node.node == author.node;
        shared.is_me(author)
            || shared.roots.read().nodes().any(named)
            || shared.view.load_full().live(now_ms).any(|decision| decision.author == *author)
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
            Change::Withdrawn(_) | Change::Recalled(_) | Change::Listed(_) => Err(FleetError::Closed),
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
            Change::Decided(_) | Change::Recalled(_) | Change::Listed(_) => Err(FleetError::Closed),
        }
    }

    /// The same node, for one of its own tasks: a handle with tasks would hold itself.
    pub(crate) fn clone_without_tasks(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), tasks: Arc::default() }
    }

    /// Runs a task until the node stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().spawn(task);
    }

    fn spawn_tasks(&self, outgoing: mpsc::Receiver<Change>) {
        let shared = &self.shared;
        let topics = ingest::Topics {
            revocations: shared.engine.subscribe(Topic::Revocations),
            nodes: shared.engine.subscribe(Topic::Nodes),
            decisions: shared.engine.subscribe(Topic::Decisions),
            policy: shared.engine.subscribe(Topic::Policy),
            heartbeats: shared.engine.subscribe(Topic::Heartbeats),
        };
        let mut tasks = self.tasks.lock();
        tasks.spawn(ingest::run(Arc::clone(shared), topics));
        tasks.spawn(outbox::run(Arc::clone(shared), outgoing));
        tasks.spawn(pulse::run(Arc::clone(shared)));
        tasks.spawn(counts::run(Arc::clone(shared), shared.engine.subscribe(Topic::Counts)));
        tasks.spawn(orders::run(Arc::clone(shared), shared.engine.subscribe(Topic::Orders)));
        inquiry::start(shared, &mut tasks);
        tasks.spawn(blocklists::run(Arc::clone(shared)));
        tasks.spawn(policy::follow::run(Arc::clone(shared)));
        if shared.keys.operator.is_some() {
            tasks.spawn(policy::judge::run(self.clone_without_tasks()));
        }
        tasks.spawn(compact::run(Arc::clone(shared)));
        tasks.spawn(primer::publish(Arc::clone(shared)));
        if shared.view.load().base().decisions_len() == 0 {
            tasks.spawn(primer::begin(Arc::clone(shared)));
        }
    }
}

impl std::fmt::Debug for FleetHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FleetHandle").field("me", &self.shared.me).finish_non_exhaustive()
    }
}

/// How long a start waits for the records where a packed view is in force already. With up to about ten thousand decisions that is
/// enough for all of them, so that what was undone after the file was written is not enforced again even for a moment.
const RESTORE_WAIT: Duration = Duration::from_millis(100);

fn node_record(settings: &FleetSettings, keys: &FleetKeys, now_ms: u64) -> NodeRecord {
    NodeRecord {
        site: settings.site.as_str().into(),
        node: settings.node.as_str().into(),
        version: settings.version.clone(),
        node_key: keys.node.verifying(),
        operator_key: keys.operator.as_ref().map(SigningKey::verifying),
        roles: settings.roles.clone(),
        started_at_ms: now_ms,
        enrol: settings.enrol.clone(),
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

pub(crate) fn new_id(author: &Author, now_ms: u64) -> DecisionId {
    DecisionId::from_parts(now_ms, id::node_tag(&author.site, &author.node), random_u64())
}

/// Cuts a reason to the limit at a character's end.
pub(crate) fn cut(mut reason: String) -> String {
    if reason.len() > REASON_BYTES_MAX {
        let mut end = REASON_BYTES_MAX;
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
    }
    reason
}
