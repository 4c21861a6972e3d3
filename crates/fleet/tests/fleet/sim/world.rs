//! What lies between nodes: one broker per fleet, with a stream per topic and site, and links that fail as the seed says.
//!
//! What happens to a message follows from the seed and from the message, not from the order in which tasks run; so a seed plays
//! nearly the same run again.

mod kept;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use phalanx_fleet::Topic;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::dice::{Dice, draw};

/// The simulated surroundings of a fleet.
pub(crate) struct World {
    seed: u64,
    state: Mutex<State>,
    /// Counts changes of streams and links, for those who follow.
    changed: watch::Sender<u64>,
}

/// How bad it is at present. Chances are out of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) drop: u64,
    pub(crate) repeat: u64,
    pub(crate) lose: u64,
    pub(crate) lose_ack: u64,
    pub(crate) delay_max_ms: u64,
}

/// Everything that can go wrong, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    CoreDropped,
    CoreRepeated,
    Reordered,
    MessageLost,
    AckLost,
    Replayed,
    Forged,
    BrokerRestarted,
    StreamsWiped,
    BackupRestored,
    SuffixTruncated,
    LeaderRolledBack,
    NodeCut,
    SiteCut,
    Crashed,
    Restarted,
    ClockStepped,
    DiskFull,
    SwapLost,
    SwapRefused,
    BlobHidden,
    BlobLost,
    CrashedAdopting,
}

impl Fault {
    pub(crate) const ALL: [Self; 23] = [
        Self::CoreDropped,
        Self::CoreRepeated,
        Self::Reordered,
        Self::MessageLost,
        Self::AckLost,
        Self::Replayed,
        Self::Forged,
        Self::BrokerRestarted,
        Self::StreamsWiped,
        Self::BackupRestored,
        Self::SuffixTruncated,
        Self::LeaderRolledBack,
        Self::NodeCut,
        Self::SiteCut,
        Self::Crashed,
        Self::Restarted,
        Self::ClockStepped,
        Self::DiskFull,
        Self::SwapLost,
        Self::SwapRefused,
        Self::BlobHidden,
        Self::BlobLost,
        Self::CrashedAdopting,
    ];
}

/// A node's plug: what its engine learns about the link.
pub(crate) type Plug = watch::Sender<bool>;

struct State {
    started: Instant,
    weather: Weather,
    up: bool,
    streams: BTreeMap<String, Stream>,
    backup: Option<BTreeMap<String, Stream>>,
    made: u64,
    seats: Vec<Seat>,
    cut_sites: Vec<String>,
    blobs: kept::Blobs,
    leases: HashMap<String, kept::Held>,
    lease_sequence: u64,
    attempts: HashMap<String, u64>,
    /// What was sent, in an order that does not depend on that in which tasks ran.
    heard: BTreeMap<(String, usize), Bytes>,
    faults: BTreeMap<Fault, u64>,
    trace: Vec<String>,
}

struct Seat {
    site: String,
    plug: Plug,
    cut: bool,
    gone: bool,
    listeners: Vec<Listener>,
}

struct Listener {
    prefix: &'static str,
    to: mpsc::Sender<Sent>,
    last_due: Option<Instant>,
}

/// A subject and what was sent to it.
pub(crate) type Sent = (Arc<str>, Bytes);

/// A stream: the last record of each subject, in the order they came.
#[derive(Debug, Clone, Default)]
struct Stream {
    made: u64,
    last: u64,
    records: BTreeMap<u64, Stored>,
    /// How to take back what came last: its number, and what it replaced.
    undo: Vec<(u64, Option<(u64, Stored)>)>,
}

#[derive(Debug, Clone)]
struct Stored {
    subject: Arc<str>,
    bytes: Bytes,
    gone_at: Option<Instant>,
}

/// What a stream's reader gets.
pub(crate) struct Reading {
    pub(crate) made: u64,
    pub(crate) last: u64,
    pub(crate) records: Vec<Sent>,
}

impl World {
    pub(crate) fn new(seed: u64, weather: Weather) -> Arc<Self> {
        let state = State {
            started: Instant::now(),
            weather,
            up: true,
            streams: BTreeMap::new(),
            backup: None,
            made: 0,
            seats: Vec::new(),
            cut_sites: Vec::new(),
            blobs: kept::Blobs::default(),
            leases: HashMap::new(),
            lease_sequence: 0,
            attempts: HashMap::new(),
            heard: BTreeMap::new(),
            faults: BTreeMap::new(),
            trace: Vec::new(),
        };
        Arc::new(Self { seed, state: Mutex::new(state), changed: watch::Sender::new(0) })
    }

    /// When virtual time began.
    pub(crate) fn started(&self) -> Instant {
        self.state.lock().started
    }

    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.state.lock().started.elapsed().as_millis()).unwrap()
    }

    /// Tells when streams or links are not as they were.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Connects a node, once it has found the broker.
    pub(crate) fn sit_down(self: &Arc<Self>, site: &str, plug: Plug) -> usize {
        let mut state = self.state.lock();
        state.seats.push(Seat {
            site: site.to_owned(),
            plug,
            cut: false,
            gone: false,
            listeners: Vec::new(),
        });
        let seat = state.seats.len() - 1;
        drop(state);
        self.links_changed();
        seat
    }

    /// The node is gone; what it had sent still arrives.
    pub(crate) fn leave(&self, seat: usize) {
        let mut state = self.state.lock();
        state.seats[seat].gone = true;
        state.seats[seat].listeners.clear();
    }

    pub(crate) fn listen(&self, seat: usize, prefix: &'static str) -> mpsc::Receiver<Sent> {
        let (to, from) = mpsc::channel(LISTENER_QUEUE);
        let listener = Listener { prefix, to, last_due: None };
        self.state.lock().seats[seat].listeners.push(listener);
        from
    }

    /// Sends a message; with `keep`, to the stream of its subject, too. Resolves to the stream's number if it confirms.
    pub(crate) fn send(
        self: &Arc<Self>,
        seat: usize,
        subject: &str,
        bytes: Bytes,
        keep: Option<Option<Duration>>,
    ) -> oneshot::Receiver<u64> {
        let (ack, acknowledged) = oneshot::channel();
        let mut state = self.state.lock();
        let mut dice = state.dice(self.seed, "send", seat, subject);
        if !state.reaches_broker(seat) {
            return acknowledged;
        }
        // Heartbeats are noise here, but for those that tell digests; each costs every listener a signature check.
        let noise =
            subject.starts_with(Topic::Heartbeats.prefix()) && bytes.len() < HEARTBEAT_WITH_DIGESTS_BYTES;
        if noise && dice.below(8) > 0 {
            return acknowledged;
        }
        if dice.chance(state.weather.lose) {
            state.count(Fault::MessageLost, || format!("{subject} from {seat} is lost"));
            return acknowledged;
        }
        let delay = state.delay(&mut dice);
        if !subject.starts_with(Topic::Heartbeats.prefix()) {
            let before = state.heard.keys().filter(|(of, _)| of == subject).count();
            state.heard.insert((subject.to_owned(), before), bytes.clone());
        }
        drop(state);
        let (world, subject) = (Arc::clone(self), Arc::<str>::from(subject));
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let Some((number, delay)) = world.arrive(seat, subject, bytes, keep, &mut dice) else { return };
            tokio::time::sleep(delay).await;
            if world.state.lock().reaches_broker(seat) {
                let _ = ack.send(number);
            }
        });
        acknowledged
    }

    /// A message reaches the broker. Returns the number that the stream gave it, and how long its ack takes, unless that is lost.
    fn arrive(
        &self,
        seat: usize,
        subject: Arc<str>,
        bytes: Bytes,
        keep: Option<Option<Duration>>,
        dice: &mut Dice,
    ) -> Option<(u64, Duration)> {
        let mut state = self.state.lock();
        if !state.reaches_broker(seat) {
            return None;
        }
        self.fan_out(&mut state, Some(seat), &subject, &bytes);
        let ttl = keep?;
        let name = stream_of(&subject);
        if !state.sees(seat, site_of(&name)) {
            return None;
        }
        let stream = state.streams.get_mut(&name)?;
        let gone_at = ttl.map(|ttl| Instant::now() + ttl);
        let number = stream.store(Stored { subject: Arc::clone(&subject), bytes, gone_at });
        state.tell(&format!("{name} {number} = {subject}"));
        let lost = dice.chance(state.weather.lose_ack);
        if lost {
            state.count(Fault::AckLost, || format!("ack of {subject} to {seat} is lost"));
        }
        let delay = state.delay(dice);
        drop(state);
        self.announce_change();
        (!lost).then_some((number, delay))
    }

    /// Hands a message to all who listen and can be reached from `from`; from anywhere if it is nobody's.
    fn fan_out(&self, state: &mut State, from: Option<usize>, subject: &Arc<str>, bytes: &Bytes) {
        for to in 0..state.seats.len() {
            let reached = state.reaches_broker(to)
                && from.is_none_or(|from| state.sees(to, &state.seats[from].site.clone()));
            if !reached || state.seats[to].gone {
                continue;
            }
            for at in 0..state.seats[to].listeners.len() {
                if !subject.starts_with(state.seats[to].listeners[at].prefix) {
                    continue;
                }
                let mut dice = state.dice(self.seed, "hear", to, subject);
                if dice.chance(state.weather.drop) {
                    state.count(Fault::CoreDropped, || format!("{to} does not hear {subject}"));
                    continue;
                }
                let repeated = dice.chance(state.weather.repeat);
                if repeated {
                    state.count(Fault::CoreRepeated, || format!("{to} hears {subject} twice"));
                }
                for _ in 0..=usize::from(repeated) {
                    let due = Instant::now() + state.delay(&mut dice);
                    let listener = &mut state.seats[to].listeners[at];
                    let late = listener.last_due.is_some_and(|last| due < last);
                    listener.last_due = listener.last_due.max(Some(due));
                    deliver_at(due, listener.to.clone(), (Arc::clone(subject), bytes.clone()));
                    if late {
                        *state.faults.entry(Fault::Reordered).or_default() += 1;
                    }
                }
            }
        }
    }

    /// A stranger says something old, or something of its own, to all.
    pub(crate) fn inject(&self, subject: &str, bytes: Bytes) {
        let mut state = self.state.lock();
        self.fan_out(&mut state, None, &subject.into(), &bytes);
    }

    /// Something that was sent before; which, `pick` says.
    pub(crate) fn overheard(&self, pick: u64) -> Option<(String, Bytes)> {
        let state = self.state.lock();
        // By lot for each, so that one message more or less seldom changes which.
        let lot = |(subject, before): &(String, usize)| draw(pick, subject, *before as u64);
        let drawn = state.heard.iter().min_by_key(|(sent, _)| lot(sent));
        drawn.map(|((subject, _), bytes)| (subject.clone(), bytes.clone()))
    }

    /// Makes a stream unless it is there. False when the broker does not answer.
    pub(crate) fn ensure(&self, seat: usize, name: &str) -> bool {
        let mut state = self.state.lock();
        if !state.reaches_broker(seat) || !state.sees(seat, site_of(name)) {
            return false;
        }
        if !state.streams.contains_key(name) {
            state.made += 1;
            let made = state.made;
            state.streams.insert(name.to_owned(), Stream { made, ..Stream::default() });
            drop(state);
            self.announce_change();
        }
        true
    }

    /// The streams of a topic that a node can see: when each was made, and the number of its last record.
    pub(crate) fn streams(&self, seat: usize, prefix: &str) -> Option<Vec<(String, u64, u64)>> {
        let state = self.state.lock();
        if !state.reaches_broker(seat) {
            return None;
        }
        let seen = state.streams.iter().filter(|(name, _)| {
            name.split_once('/').is_some_and(|(of, site)| of == prefix && state.sees(seat, site))
        });
        Some(seen.map(|(name, stream)| (name.clone(), stream.made, stream.last)).collect())
    }

    /// What a stream has after number `after`. `None` if it cannot be read.
    pub(crate) fn read(&self, seat: usize, name: &str, after: u64) -> Option<Reading> {
        let mut state = self.state.lock();
        if !state.reaches_broker(seat) || !state.sees(seat, site_of(name)) {
            return None;
        }
        let stream = state.streams.get_mut(name)?;
        let now = Instant::now();
        stream.records.retain(|_, stored| stored.gone_at.is_none_or(|at| at > now));
        let records = stream.records.range(after + 1..);
        let records = records.map(|(_, stored)| (Arc::clone(&stored.subject), stored.bytes.clone()));
        Some(Reading { made: stream.made, last: stream.last, records: records.collect() })
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    /// The broker goes away or comes back.
    pub(crate) fn set_up(self: &Arc<Self>, up: bool) {
        let mut state = self.state.lock();
        let went = state.up && !up;
        state.up = up;
        if went {
            state.count(Fault::BrokerRestarted, || "broker down".into());
        }
        drop(state);
        self.links_changed();
    }

    pub(crate) fn cut_node(self: &Arc<Self>, seat: usize, cut: bool) {
        let mut state = self.state.lock();
        state.seats[seat].cut = cut;
        if cut {
            state.count(Fault::NodeCut, || format!("{seat} is cut off"));
        }
        drop(state);
        self.links_changed();
    }

    /// Cuts a site's leaf link: within the site and among the others all goes on.
    pub(crate) fn cut_site(&self, site: &str, cut: bool) {
        let mut state = self.state.lock();
        state.cut_sites.retain(|cut| cut != site);
        if cut {
            state.cut_sites.push(site.to_owned());
            state.count(Fault::SiteCut, || format!("{site} is cut off"));
        }
        drop(state);
        self.announce_change();
    }

    /// Loses all that was kept.
    pub(crate) fn wipe(&self) {
        let mut state = self.state.lock();
        state.streams.clear();
        state.blobs.clear();
        state.count(Fault::StreamsWiped, || "streams wiped".into());
        drop(state);
        self.announce_change();
    }

    pub(crate) fn back_up(&self) {
        let mut state = self.state.lock();
        state.backup = Some(state.streams.clone());
    }

    /// Brings the streams back as they were at the last back-up.
    pub(crate) fn restore_backup(&self) {
        let mut state = self.state.lock();
        let Some(backup) = state.backup.clone() else { return };
        state.streams = backup;
        state.count(Fault::BackupRestored, || "backup restored".into());
        drop(state);
        self.announce_change();
    }

    /// Every stream forgets the last records that it confirmed, and their numbers are given out again.
    pub(crate) fn truncate(&self, records: usize, as_what: Fault) {
        let mut state = self.state.lock();
        let mut lost = 0;
        for stream in state.streams.values_mut() {
            for _ in 0..records {
                lost += usize::from(stream.take_back());
            }
        }
        if lost > 0 {
            state.count(as_what, || format!("{lost} confirmed records are forgotten"));
        }
        drop(state);
        self.announce_change();
    }

    pub(crate) fn note(&self, fault: Fault, what: impl FnOnce() -> String) {
        self.state.lock().count(fault, what);
    }

    pub(crate) fn tell(&self, what: &str) {
        self.state.lock().tell(what);
    }

    /// Whether streams have lost what they had confirmed.
    pub(crate) fn has_lost(&self) -> bool {
        self.state.lock().has_lost()
    }

    pub(crate) fn faults(&self) -> BTreeMap<Fault, u64> {
        self.state.lock().faults.clone()
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.state.lock().trace.clone()
    }

    fn announce_change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Tells every node how its link is. One that comes back is noticed after a while, one that goes at once.
    fn links_changed(self: &Arc<Self>) {
        let seats = self.state.lock().seats.len();
        for seat in 0..seats {
            let (reaches, after) = {
                let mut state = self.state.lock();
                let reaches = state.reaches_broker(seat);
                (reaches, Duration::from_millis(state.dice(self.seed, "link", seat, "").below(1_000)))
            };
            if !reaches {
                self.state.lock().seats[seat].plug.send_if_modified(std::mem::take);
                continue;
            }
            let world = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                let state = world.state.lock();
                if state.reaches_broker(seat) {
                    state.seats[seat].plug.send_if_modified(|up| !std::mem::replace(up, true));
                }
            });
        }
        self.announce_change();
    }
}

impl State {
    fn reaches_broker(&self, seat: usize) -> bool {
        self.up && !self.seats[seat].cut
    }

    fn sees(&self, seat: usize, site: &str) -> bool {
        let own = &self.seats[seat].site;
        own == site || !self.cut_sites.iter().any(|cut| cut == own || cut == site)
    }

    /// The dice for one thing that happens to one message on its way to or from one node.
    fn dice(&mut self, seed: u64, what: &str, seat: usize, subject: &str) -> Dice {
        let key = format!("{what} {seat} {subject}");
        let attempts = self.attempts.entry(key.clone()).or_default();
        *attempts += 1;
        Dice::new(draw(seed, &key, *attempts))
    }

    fn delay(&self, dice: &mut Dice) -> Duration {
        Duration::from_millis(1 + dice.below(1 + self.weather.delay_max_ms))
    }

    fn count(&mut self, fault: Fault, what: impl FnOnce() -> String) {
        *self.faults.entry(fault).or_default() += 1;
        let what = what();
        // Every second of every node would hide the rest.
        if !what.contains(Topic::Heartbeats.prefix()) {
            self.tell(&what);
        }
    }

    fn tell(&mut self, what: &str) {
        let at_ms = self.started.elapsed().as_millis();
        self.trace.push(format!("{at_ms:>7} ms  {what}"));
    }
}

impl Stream {
    fn store(&mut self, stored: Stored) -> u64 {
        let older = self.records.iter().find(|(_, old)| old.subject == stored.subject).map(|(at, _)| *at);
        let older = older.and_then(|at| self.records.remove(&at).map(|old| (at, old)));
        self.last += 1;
        self.records.insert(self.last, stored);
        self.undo.push((self.last, older));
        self.last
    }

    /// The last record of a subject.
    fn last_of(&self, subject: &str) -> Option<(u64, Bytes)> {
        let found = self.records.iter().rev().find(|(_, stored)| *stored.subject == *subject);
        found.map(|(number, stored)| (*number, stored.bytes.clone()))
    }

    fn take_back(&mut self) -> bool {
        let Some((number, older)) = self.undo.pop() else { return false };
        self.records.remove(&number);
        self.records.extend(older);
        self.last = number - 1;
        true
    }
}

fn deliver_at(due: Instant, to: mpsc::Sender<Sent>, sent: Sent) {
    tokio::spawn(async move {
        tokio::time::sleep_until(due).await;
        // A listener that has fallen this far behind, or is gone, misses it.
        let _ = to.try_send(sent);
    });
}

/// `phx.dec/fra`, for `phx.dec.fra.a.ban.X`.
pub(crate) fn stream_of(subject: &str) -> String {
    let mut words = subject.splitn(4, '.');
    let (phx, topic, site) = (words.next(), words.next(), words.next());
    format!("{}.{}/{}", phx.unwrap_or_default(), topic.unwrap_or_default(), site.unwrap_or_default())
}

fn site_of(stream: &str) -> &str {
    stream.split_once('/').map_or("", |(_, site)| site)
}

/// Shorter ones tell none.
const HEARTBEAT_WITH_DIGESTS_BYTES: usize = 500;
const LISTENER_QUEUE: usize = 4_096;
