//! History on its way from the nodes of a site to its control nodes.
//!
//! Flow in names: a control node's [`Wanted`] (what it has, per node) -> the node's [`History::batch_after`] -> carrier -> [`Copies::take`] -> the next
//! `Wanted`, which is the receipt. Counts of all requests go the same way under marks of their own, to readers that say one. A node keeps nothing for it: its own history is the spool, and marks lie with the readers, in the transaction
//! of the rows. What a node that is gone brought to one control node, the others get from that one.
//!
//! INVARIANT: nothing waits for this: neither the data plane nor the recorder knows of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use phalanx_fleet::{FleetHandle, HISTORY_BROUGHT_MAX, HistoryCarrier, HistoryParcel, Link, Turns};
use phalanx_model::id::node_tag;
use phalanx_record::{Copies, CopyOf, CountsBatch, History, Mark, NotTaken, RecordError, SpoolBatch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

/// How a node's history stands with the control nodes of its site. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct CopiesPort(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// What this node keeps of others, if it may act for operators.
    copies: Option<Arc<Copies>>,
    state: Mutex<HistoryCopies>,
}

/// Copies of history within the site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HistoryCopies {
    /// The control nodes that copy this node's history.
    pub copied_by: Vec<CopiedBy>,
    /// What this node has of others.
    pub copies_of: Vec<CopyOf>,
    /// Batches of others that were refused since the start.
    pub refused: u64,
    /// What is degraded, one plain sentence each.
    #[serde(skip)]
    pub degraded: Vec<String>,
}

/// A control node that copies this node's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopiedBy {
    /// Its name.
    pub node: String,
    /// Rows that it does not have.
    pub waiting: u64,
    /// Whether it was heard lately.
    pub heard: bool,
}

impl CopiesPort {
    /// Of a node that keeps copies, if it may act for operators.
    pub fn new(copies: Option<Copies>) -> Self {
        Self(Arc::new(Inner { copies: copies.map(Arc::new), state: Mutex::default() }))
    }

    /// Answers questions about what is kept of others.
    pub fn history(&self) -> Option<History> {
        self.0.copies.as_ref().map(|copies| copies.history())
    }

    /// How it stands.
    pub fn state(&self) -> HistoryCopies {
        self.0.state.lock().clone()
    }

    /// Sends this node's history to the control nodes of its site, and as one of these takes others', until the fleet ends.
    pub async fn run(self, fleet: FleetHandle, history: History) {
        loop {
            // A set, because what is in it ends with this future.
            let mut copying = JoinSet::new();
            match fleet.carry_history() {
                Ok(None) => return,
                Ok(Some((carrier, parcels))) => {
                    copying.spawn(self.copying(fleet.clone(), history.clone(), carrier).run(parcels));
                }
                Err(error) => {
                    tracing::error!(%error, "history is not copied within the site");
                    return;
                }
            }
            match copying.join_next().await {
                Some(Err(error)) if error.is_panic() => {
                    let what = format!("history is not copied within the site: {error}; it begins again");
                    tracing::error!("{what}");
                    self.0.state.lock().degraded = vec![what];
                    tokio::time::sleep(BEGIN_AGAIN).await;
                }
                _ => return,
            }
        }
    }

    fn copying(&self, fleet: FleetHandle, history: History, carrier: HistoryCarrier) -> Copying {
        let site = fleet.members().first().map(|me| Arc::clone(&me.site)).unwrap_or_default();
        Copying {
            port: self.clone(),
            site,
            fleet,
            history,
            carrier,
            readers: HashMap::new(),
            others: BTreeMap::new(),
            round: 0,
            // Who is in the site is not known at the start.
            forgot_at: Some(Instant::now()),
            troubles: BTreeMap::new(),
            pauses: HashMap::new(),
        }
    }
}

/// What a control node says to another node of its site. Readers ignore fields that they do not know.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Wanted {
    /// Up to where it has which node's history, as this reader would send it.
    marks: Vec<WantedOf>,
    /// The same of their counts. A reader of before says nothing, and is sent none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    counts: Vec<WantedOf>,
    /// To other control nodes: of whom it has some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    has: Vec<String>,
}

impl Wanted {
    fn receipt(of: String, what: Rows, mark: Mark) -> Self {
        let mut wanted = Self::default();
        let marks = match what {
            Rows::Requests => &mut wanted.marks,
            Rows::Counts => &mut wanted.counts,
        };
        marks.push(WantedOf { of, mark, direct: None });
        wanted
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct WantedOf {
    of: String,
    mark: Mark,
    /// Up to where it was read from the node itself, if another is asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    direct: Option<Mark>,
}

/// What is read of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rows {
    /// Refused and flagged requests, and what followed from them.
    Requests,
    /// Counts of all requests.
    Counts,
}

/// Who reads whose what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Reader {
    by: Arc<str>,
    of: String,
    what: Rows,
}

/// Rows of a history, as they travel.
enum Batch {
    Requests(SpoolBatch),
    Counts(CountsBatch),
}

struct Copying {
    port: CopiesPort,
    site: Arc<str>,
    fleet: FleetHandle,
    history: History,
    carrier: HistoryCarrier,
    readers: HashMap<Reader, Reading>,
    /// The other nodes of the site, with what they say that they have of others.
    others: BTreeMap<Arc<str>, Vec<String>>,
    /// Counts how often was said what is here.
    round: usize,
    /// When names without rows were forgotten last.
    forgot_at: Option<Instant>,
    /// Why a node's history is not taken.
    troubles: BTreeMap<Arc<str>, String>,
    /// How long nothing is taken from a node after its next batch that is refused.
    pauses: HashMap<Arc<str>, Duration>,
}

/// Somebody else's reading of a history here.
struct Reading {
    mark: Mark,
    heard_at: Instant,
    sent_at: Option<Instant>,
    /// How long a receipt is waited for.
    pause: Duration,
    waiting: i64,
}

impl Copying {
    async fn run(mut self, mut parcels: Turns<HistoryParcel>) {
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut link, mut written) = (self.fleet.engine().link(), self.history.written());
        let mut wanted_at: Option<Instant> = None;
        loop {
            tokio::select! {
                parcel = parcels.recv() => match parcel {
                    Some(HistoryParcel::Wanted { by, body }) => self.hear(&by, &body).await,
                    Some(HistoryParcel::Brought { by, as_control, body }) => self.take(by, as_control, &body).await,
                    None => return,
                },
                Ok(()) = written.changed() => self.send_news().await,
                Ok(()) = link.changed() => {
                    if link.borrow_and_update().connected {
                        self.want_all().await;
                    }
                }
                _ = turns.tick() => {
                    let is_new = self.meet();
                    if is_new || wanted_at.is_none_or(|at| at.elapsed() >= WANTED_EVERY) {
                        wanted_at = Some(Instant::now());
                        self.want_all().await;
                    }
                    self.send_again().await;
                    self.forget_empty().await;
                    self.tell().await;
                }
            }
        }
    }

    /// Looks who is in the site; whether somebody is new.
    fn meet(&mut self) -> bool {
        let members = self.fleet.members();
        let here: Vec<_> = members.iter().filter(|one| !one.me && one.site == self.site).collect();
        self.others.retain(|name, _| here.iter().any(|one| one.node == *name));
        self.readers.retain(|reader, _| here.iter().any(|one| one.node == reader.by));
        self.troubles.retain(|name, _| here.iter().any(|one| one.node == *name));
        self.pauses.retain(|name, _| here.iter().any(|one| one.node == *name));
        let before = self.others.len();
        for one in here {
            self.others.entry(Arc::clone(&one.node)).or_default();
        }
        self.others.len() > before
    }

    // What this node reads of others.

    async fn want_all(&mut self) {
        self.round = self.round.wrapping_add(1);
        if self.port.0.copies.is_some() {
            for of in self.others.keys() {
                self.want(of).await;
            }
        }
    }

    /// Says to a node what is here of its history; to a control node also what is here of nodes that are not heard any more.
    async fn want(&self, from: &str) {
        let mut names: Vec<(String, Option<Arc<str>>)> = vec![(from.to_owned(), None)];
        let mut offered = None;
        if self.fleet.is_control(&self.site, from) {
            let up = self.up();
            let gone = self.others.get(from).into_iter().flatten();
            let gone = gone.filter(|name| !up.contains(name) && ***name != *self.carrier.me());
            names.extend(gone.take(RELAYED_MAX).map(|name| (name.clone(), Some(from.into()))));
            offered = Some((up, self.round));
        }
        let read = self.with_copies(move |copies| {
            let mut wanted = Wanted::default();
            for (of, via) in names {
                let mark = copies.mark(&of, via.as_deref())?;
                let direct = via.as_ref().map(|_| copies.mark(&of, None)).transpose()?;
                wanted.marks.push(WantedOf { of: of.clone(), mark, direct });
                let mark = copies.counts_mark(&of, via.as_deref())?;
                let direct = via.map(|_| copies.counts_mark(&of, None)).transpose()?;
                wanted.counts.push(WantedOf { of, mark, direct });
            }
            if let Some((up, round)) = offered {
                let is_here = |one: &CopyOf| one.rows > 0 || one.counts > 0;
                let gone = copies.nodes()?.into_iter().filter(|one| is_here(one) && !up.contains(&one.node));
                wanted.has = part_of(gone.map(|one| one.node).collect(), round);
            }
            Ok::<_, RecordError>(wanted)
        });
        match read.await {
            Some(Ok(wanted)) => self.say(from, &wanted).await,
            Some(Err(error)) => tracing::warn!(%error, "copies of other nodes' history cannot be read"),
            None => {}
        }
    }

    async fn say(&self, to: &str, wanted: &Wanted) {
        if let Ok(body) = serde_json::to_vec(wanted) {
            self.carrier.want(to, &body).await;
        }
    }

    /// Takes what a node brought, and says up to where it is here now.
    async fn take(&mut self, by: Arc<str>, as_control: bool, body: &[u8]) {
        let Some((of, batch)) = read_brought(body) else {
            self.refuse(&by, "it cannot be read; is that node of a newer version?");
            return;
        };
        // A node brings its own history, and a control node as one also what it has of others.
        if (*of == *by) == as_control || *of == *self.carrier.me() {
            self.refuse(&by, "it is not that node's to bring");
            return;
        }
        // Who is heard speaks for itself. It may be so since a moment ago, which is no fault.
        if as_control && self.up().contains(&of) {
            return;
        }
        let via = as_control.then(|| Arc::clone(&by));
        let (name, what) = (of.clone(), batch.what());
        let taken = self.with_copies(move |copies| {
            let via = via.as_deref();
            let taken = match &batch {
                Batch::Requests(batch) => copies.take(&name, via, batch),
                Batch::Counts(batch) => copies.take_counts(&name, via, batch),
            };
            match (taken, what) {
                // What is here already is said once more.
                (Err(NotTaken::OutOfOrder), Rows::Requests) => Ok(copies.mark(&name, via)?),
                (Err(NotTaken::OutOfOrder), Rows::Counts) => Ok(copies.counts_mark(&name, via)?),
                (other, _) => other,
            }
        });
        match taken.await {
            Some(Ok(mark)) => {
                self.troubles.remove(&by);
                self.pauses.remove(&by);
                self.say(&by, &Wanted::receipt(of, what, mark)).await;
            }
            Some(Err(NotTaken::Failed(error))) => {
                self.troubles.insert(by, format!("it cannot be written: {error}"));
            }
            Some(Err(refused)) => self.refuse(&by, &refused.to_string()),
            None => {}
        }
    }

    /// Nothing of it is kept and no receipt given: the node keeps it, and tries again. What it brings before its pause is over is not looked at.
    fn refuse(&mut self, by: &Arc<str>, why: &str) {
        let pause = self.pauses.entry(Arc::clone(by)).or_insert(PAUSE_LEAST);
        self.carrier.pause(by, Instant::now() + *pause);
        *pause = (*pause * 2).min(PAUSE_MAX);
        self.port.0.state.lock().refused += 1;
        // It is sent again and again: once is enough for the log.
        if self.troubles.insert(Arc::clone(by), why.to_owned()).as_deref() != Some(why) {
            tracing::warn!(node = %by, why, "history of another node was refused");
        }
    }

    /// Names of nodes that are no more, and of which nothing is left.
    async fn forget_empty(&mut self) {
        if self.forgot_at.is_some_and(|at| at.elapsed() < FORGET_EVERY) {
            return;
        }
        self.forgot_at = Some(Instant::now());
        let known: Vec<String> = self.others.keys().map(|name| name.to_string()).collect();
        if let Some(Err(error)) = self.with_copies(move |copies| copies.forget_empty(&known)).await {
            tracing::warn!(%error, "names of nodes that are no more cannot be forgotten");
        }
    }

    // What others read here.

    /// A control node said up to where it has what.
    async fn hear(&mut self, by: &Arc<str>, body: &[u8]) {
        let Ok(wanted) = serde_json::from_slice::<Wanted>(body) else { return };
        if !wanted.has.is_empty()
            && let Some(known) = self.others.get_mut(by)
        {
            *known = wanted.has;
            known.truncate(RELAYED_MAX);
        }
        for (what, marks) in [(Rows::Requests, wanted.marks), (Rows::Counts, wanted.counts)] {
            for WantedOf { of, mark, direct } in marks.into_iter().take(RELAYED_MAX + 1) {
                self.hear_mark(Reader { by: Arc::clone(by), of, what }, mark, direct).await;
            }
        }
    }

    async fn hear_mark(&mut self, key: Reader, mark: Mark, direct: Option<Mark>) {
        // No row has such a number.
        if mark.seq < 0 {
            return;
        }
        if *key.of != *self.carrier.me() && !self.is_ahead(&key, direct).await {
            return;
        }
        let reading = self.readers.entry(key.clone()).or_insert_with(|| Reading {
            mark: Mark { epoch: -1, ..Mark::default() },
            heard_at: Instant::now(),
            sent_at: None,
            pause: PAUSE_LEAST,
            waiting: 0,
        });
        reading.heard_at = Instant::now();
        if reading.mark != mark {
            // A receipt, or a reader that begins anew.
            (reading.mark, reading.sent_at, reading.pause) = (mark, None, PAUSE_LEAST);
        }
        if reading.sent_at.is_none() {
            self.send(&key).await;
        }
    }

    /// Whether there is more here of a node that is gone than another control node has. Without a mark it reads on what it began.
    async fn is_ahead(&self, reader: &Reader, direct: Option<Mark>) -> bool {
        let Some(theirs) = direct else { return self.readers.contains_key(reader) };
        let (name, what) = (reader.of.clone(), reader.what);
        let is_ahead = self.with_copies(move |copies| match what {
            Rows::Requests => copies.is_ahead(&name, &theirs),
            Rows::Counts => copies.counts_are_ahead(&name, &theirs),
        });
        matches!(is_ahead.await, Some(Ok(true)))
    }

    async fn send_news(&mut self) {
        let me = self.carrier.me().to_owned();
        // Counts are sent when a reader says again what it has: some seconds later are soon enough.
        let idle = |(key, reading): (&Reader, &Reading)| {
            let is_own = key.of == me && key.what == Rows::Requests;
            (is_own && reading.sent_at.is_none() && reading.is_heard()).then(|| key.clone())
        };
        let idle: Vec<_> = self.readers.iter().filter_map(idle).collect();
        for key in idle {
            self.send(&key).await;
        }
    }

    /// What no receipt came for is sent again, each time after a longer pause.
    async fn send_again(&mut self) {
        let mut late = Vec::new();
        for (key, reading) in &mut self.readers {
            if reading.is_heard() && reading.sent_at.is_some_and(|at| at.elapsed() >= reading.pause) {
                reading.pause = (reading.pause * 2).min(PAUSE_MAX);
                late.push(key.clone());
            }
        }
        for key in late {
            self.send(&key).await;
        }
    }

    /// Sends the next rows after a reader's mark, if there are any.
    async fn send(&mut self, key: &Reader) {
        let Some(mark) = self.readers.get(key).map(|reading| reading.mark.clone()) else { return };
        let is_own = *key.of == *self.carrier.me();
        let (of, what) = (key.of.clone(), key.what);
        let read = match is_own {
            true => {
                let (history, tag) = (self.history.clone(), node_tag(&self.site, self.carrier.me()));
                let read = tokio::task::spawn_blocking(move || match what {
                    Rows::Requests => wrapped(history.batch_after(&mark, tag, BATCH_BYTES), Batch::Requests),
                    Rows::Counts => wrapped(history.counts_after(&mark, BATCH_BYTES), Batch::Counts),
                });
                read.await.ok()
            }
            false => {
                self.with_copies(move |copies| match what {
                    Rows::Requests => wrapped(copies.batch_after(&of, &mark, BATCH_BYTES), Batch::Requests),
                    Rows::Counts => {
                        wrapped(copies.copied_counts_after(&of, &mark, BATCH_BYTES), Batch::Counts)
                    }
                })
                .await
            }
        };
        let Some(reading) = self.readers.get_mut(key) else { return };
        match read {
            Some(Ok(Some(batch))) => {
                reading.sent_at = Some(Instant::now());
                reading.waiting = batch.waiting();
                self.carrier.bring(&key.by, !is_own, &brought(&key.of, &batch)).await;
            }
            Some(Ok(None)) => (reading.sent_at, reading.waiting) = (None, 0),
            Some(Err(RecordError::HistoryNotReady)) | None => {}
            Some(Err(error)) => tracing::warn!(%error, "history cannot be read for a control node"),
        }
    }

    /// What status shows.
    async fn tell(&self) {
        let kept = self.with_copies(|copies| copies.nodes()).await;
        let last = *self.history.written().borrow();
        let me = self.carrier.me();
        let own =
            self.readers.iter().filter(|(reader, _)| *reader.of == *me && reader.what == Rows::Requests);
        let mut copied_by: Vec<_> = own
            .map(|(reader, reading)| CopiedBy {
                node: reader.by.to_string(),
                waiting: reading.waits(last).unsigned_abs(),
                heard: reading.is_heard(),
            })
            .collect();
        copied_by.sort_by(|a, b| a.node.cmp(&b.node));
        let mut degraded: Vec<_> = self
            .troubles
            .iter()
            .map(|(node, why)| format!("the history of {}/{node} is not copied: {why}", self.site))
            .collect();
        let mut state = self.port.0.state.lock();
        match kept {
            Some(Ok(kept)) => state.copies_of = kept,
            Some(Err(error)) => {
                degraded.push(format!("copies of other nodes' history cannot be read: {error}"))
            }
            None => {}
        }
        (state.copied_by, state.degraded) = (copied_by, degraded);
    }

    /// Names of nodes of the site that are heard.
    fn up(&self) -> Vec<String> {
        let members = self.fleet.members();
        let up = members.iter().filter(|one| one.site == self.site && one.link == Link::Up);
        up.map(|one| one.node.to_string()).collect()
    }

    /// Asks the copies on a thread that may block; `None` where there are none.
    async fn with_copies<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Copies) -> T + Send + 'static,
    ) -> Option<T> {
        let copies = Arc::clone(self.port.0.copies.as_ref()?);
        tokio::task::spawn_blocking(move || ask(&copies)).await.ok()
    }
}

impl Reading {
    fn is_heard(&self) -> bool {
        self.heard_at.elapsed() < GONE
    }

    /// Rows that the reader does not have.
    fn waits(&self, last: i64) -> i64 {
        match self.sent_at.is_some() || !self.is_heard() {
            true => last.saturating_sub(self.mark.seq).max(self.waiting).max(0),
            false => self.waiting,
        }
    }
}

/// So many names as are said at once; where there are more, all have their turn, each for some rounds.
fn part_of(mut names: Vec<String>, round: usize) -> Vec<String> {
    if names.len() > RELAYED_MAX {
        let at = (round / ROUNDS_EACH * RELAYED_MAX) % names.len();
        names.rotate_left(at);
        names.truncate(RELAYED_MAX);
    }
    names
}

impl Batch {
    fn what(&self) -> Rows {
        match self {
            Self::Requests(_) => Rows::Requests,
            Self::Counts(_) => Rows::Counts,
        }
    }

    /// Rows from the reader's mark on; of counts that is not told.
    fn waiting(&self) -> i64 {
        match self {
            Self::Requests(batch) => batch.last.saturating_sub(batch.after),
            Self::Counts(_) => 0,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Requests(batch) => batch.to_bytes(),
            Self::Counts(batch) => batch.to_bytes(),
        }
    }

    /// Each form knows its own bytes.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let requests = SpoolBatch::from_bytes(bytes).map(Self::Requests);
        requests.or_else(|| CountsBatch::from_bytes(bytes).map(Self::Counts))
    }
}

fn wrapped<T>(
    read: Result<Option<T>, RecordError>,
    of: impl FnOnce(T) -> Batch,
) -> Result<Option<Batch>, RecordError> {
    read.map(|batch| batch.map(of))
}

/// A batch with whose it is, as it travels.
fn brought(of: &str, batch: &Batch) -> Vec<u8> {
    let length = u8::try_from(of.len()).unwrap_or(u8::MAX);
    [&[length], of.as_bytes(), batch.to_bytes().as_slice()].concat()
}

fn read_brought(body: &[u8]) -> Option<(String, Batch)> {
    let (length, rest) = body.split_first()?;
    let (of, batch) = rest.split_at_checked(usize::from(*length))?;
    Some((String::from_utf8(of.to_vec()).ok()?, Batch::from_bytes(batch)?))
}

/// A batch, its head, and one more row of the same number beside a request.
const BATCH_BYTES: usize = HISTORY_BROUGHT_MAX - 3_000;
/// How often is looked who is there, and what no receipt came for.
const TURN: Duration = Duration::from_millis(500);
/// How often a control node says what it has, to who has nothing to send.
const WANTED_EVERY: Duration = Duration::from_secs(5);
/// Who was not heard for this long is sent nothing until it speaks.
const GONE: Duration = Duration::from_secs(15);
/// How long the first receipt is waited for, and how long at most.
const PAUSE_LEAST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long after a fault in the program copying begins again.
const BEGIN_AGAIN: Duration = Duration::from_secs(5);
/// How often names of nodes without rows are forgotten: members are known long before.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// How often the same nodes are offered before others are: a minute or so.
const ROUNDS_EACH: usize = 12;
/// Nodes whose history one control node has from another, at once.
const RELAYED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_many_nodes_is_offered_in_its_turn() {
        let names: Vec<_> = (0..150).map(|n| n.to_string()).collect();
        let mut offered = std::collections::BTreeSet::new();
        for round in 0..3 * ROUNDS_EACH {
            let part = part_of(names.clone(), round);
            assert_eq!(part.len(), RELAYED_MAX);
            offered.extend(part);
        }
        assert_eq!(offered.len(), names.len());
        assert_eq!(part_of(names[..9].to_vec(), 5), names[..9]);
    }

    #[test]
    fn a_mark_that_no_reader_can_have_is_counted_without_a_panic() {
        let mut reading = Reading {
            mark: Mark { epoch: 1, seq: i64::MIN, last: None },
            heard_at: Instant::now(),
            sent_at: Some(Instant::now()),
            pause: PAUSE_LEAST,
            waiting: 0,
        };
        assert_eq!(reading.waits(i64::MAX), i64::MAX);
        reading.mark.seq = i64::MAX;
        assert_eq!(reading.waits(0), 0);
    }
}
