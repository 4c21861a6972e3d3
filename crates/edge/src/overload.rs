//! What happens when the node runs short of memory, files or connections: idle connections give way, the oldest first; then
//! who is unknown is refused, then who is under a mild order, and clients served well last. Operators and the allow-list are never.
//!
//! Usage is looked at ten times a second by the keeper, never by a request; a request reads one number.
//!
//! Failure direction: what cannot be measured (no `/proc`) counts as unused, and the limits on connections hold by themselves.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use phalanx_model::counters::LimitReached;
use phalanx_model::{DecisionKind, Identities, Reason, Verdict, View};
use tokio::sync::watch;

use crate::client::Client;
use crate::control::{Activity, Control, Cut};
use crate::leaving::Drain;
use crate::plan::EdgePlan;
use crate::reply::Reply;
use crate::request::Request;
use crate::settings::EdgeLimits;
use crate::stop::Stop;
use crate::tables::NodeTables;
use crate::worker::Worker;

/// How much load is shed. Each level does what those below it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Level {
    /// None.
    #[default]
    Calm,
    /// Idle connections are closed.
    Tight,
    /// Unknown clients are refused.
    High,
    /// So are those under a challenge or a throttle.
    Critical,
    /// So are clients served well.
    Full,
}

/// How much of each limit is used, in per cent; 0 where there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Usage {
    pub memory_bytes: u64,
    pub memory_percent: u8,
    pub files: u64,
    pub files_percent: u8,
    pub connections: u64,
    pub connections_percent: u8,
}

/// How short the node runs of what it needs; written by the keeper.
#[derive(Debug, Default)]
pub struct Pressure {
    /// By all that is scarce, and by what requests take: memory and files.
    level: AtomicU8,
    of_requests: AtomicU8,
    memory_bytes: AtomicU64,
    files: AtomicU64,
    connections: AtomicU64,
    percents: [AtomicU8; 3],
}

impl Level {
    /// Its name, and what it means.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Tight => "tight: idle connections are closed",
            Self::High => "high: clients not known are refused",
            Self::Critical => "critical: only clients served well lately are let in",
            Self::Full => "full: nobody but operators is let in",
        }
    }

    fn of(number: u8) -> Self {
        match number {
            0 => Self::Calm,
            1 => Self::Tight,
            2 => Self::High,
            3 => Self::Critical,
            _ => Self::Full,
        }
    }

    /// The level that so much of the scarcest resource stands for.
    fn at(percent: u8) -> Self {
        let all = [Self::Full, Self::Critical, Self::High, Self::Tight];
        all.into_iter().find(|level| percent >= level.begins_at()).unwrap_or(Self::Calm)
    }

    /// From what share of a limit on it holds, in per cent.
    fn begins_at(self) -> u8 {
        match self {
            Self::Calm => 0,
            Self::Tight => TIGHT_PERCENT,
            Self::High => HIGH_PERCENT,
            Self::Critical => CRITICAL_PERCENT,
            Self::Full => FULL_PERCENT,
        }
    }

    /// The level after this one, when so much of the scarcest resource is used: up at once, and down by one step at a time, when
    /// usage is well below where the level begins, so that it does not go up and down with each client.
    fn next(self, percent: u8) -> Self {
        let reached = Self::at(percent);
        if reached >= self {
            return reached;
        }
        if percent.saturating_add(CALMER_PERCENT) < self.begins_at() {
            return Self::of((self as u8).saturating_sub(1));
        }
        self
    }
}

impl Pressure {
    /// How much load is shed.
    pub fn level(&self) -> Level {
        Level::of(self.level.load(Ordering::Relaxed))
    }

    /// What is used, as it was looked at last.
    pub fn usage(&self) -> Usage {
        let [memory_percent, files_percent, connections_percent] =
            [0, 1, 2].map(|place| self.percents.get(place).map_or(0, |it| it.load(Ordering::Relaxed)));
        Usage {
            memory_bytes: self.memory_bytes.load(Ordering::Relaxed),
            memory_percent,
            files: self.files.load(Ordering::Relaxed),
            files_percent,
            connections: self.connections.load(Ordering::Relaxed),
            connections_percent,
        }
    }

    /// How much load is shed of connections that there are: another request of theirs takes memory and files, and no connection.
    fn level_of_requests(&self) -> Level {
        Level::of(self.of_requests.load(Ordering::Relaxed))
    }

    fn note(&self, usage: &Usage) {
        let before = self.level();
        let percents = [usage.memory_percent, usage.files_percent, usage.connections_percent];
        let level = before.next(percents.into_iter().max().unwrap_or_default());
        self.memory_bytes.store(usage.memory_bytes, Ordering::Relaxed);
        self.files.store(usage.files, Ordering::Relaxed);
        self.connections.store(usage.connections, Ordering::Relaxed);
        for (place, percent) in self.percents.iter().zip(percents) {
            place.store(percent, Ordering::Relaxed);
        }
        let of_requests = self.level_of_requests().next(usage.memory_percent.max(usage.files_percent));
        self.level.store(level as u8, Ordering::Relaxed);
        self.of_requests.store(of_requests as u8, Ordering::Relaxed);
        if level != before {
            tracing::warn!(level = level.name(), usage = %usage, "overload level changed");
        }
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "memory {} MiB ({} %), files {} ({} %), connections {} ({} %)",
            self.memory_bytes >> 20,
            self.memory_percent,
            self.files,
            self.files_percent,
            self.connections,
            self.connections_percent
        )
    }
}

/// Looks at what is used until the node drains.
pub(crate) async fn watch(
    tables: &NodeTables,
    limits: &EdgeLimits,
    mut drain: watch::Receiver<Option<Drain>>,
) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut files = FileCount::default();
    loop {
        tokio::select! {
            biased;
            _ = drain.wait_for(Option::is_some) => return,
            _ = ticks.tick() => {}
        }
        let connections = tables.connections.total() as u64;
        let memory_bytes = resident_bytes();
        let files = files.count();
        tables.pressure.note(&Usage {
            memory_bytes,
            memory_percent: percent(memory_bytes, limits.memory_bytes),
            files,
            files_percent: percent(files, limits.files as u64),
            connections,
            connections_percent: percent(connections, limits.connections as u64),
        });
    }
}

/// Whether a connection from this address is refused before anything of it is read. `None`: a trusted forwarder, of whose clients
/// each is judged by itself.
pub(crate) fn refuses_connection(worker: &Worker, plan: &EdgePlan, actor: Option<IpAddr>) -> bool {
    let tables = &worker.shared.tables;
    // Counted here and now: between two looks of the keeper a flood could take the room that is kept for clients served well.
    let now = percent(tables.connections.total() as u64, worker.shared.settings.limits.connections as u64);
    let level = tables.pressure.level_of_requests().max(Level::at(now));
    if level < Level::High {
        return false;
    }
    let refuses = actor.is_some_and(|ip| refuses(worker, plan, ip, level));
    if refuses {
        worker.counters.count_limit(LimitReached::OverloadConnection);
    }
    refuses
}

/// Refuses a request when the node has no room for who sent it.
pub(crate) fn check(client: &Client, request: &mut Request) -> Result<(), Stop> {
    let worker = &client.worker;
    let level = worker.shared.tables.pressure.level_of_requests();
    if level < Level::High || request.allowed || !refuses(worker, &request.plan, request.client, level) {
        return Ok(());
    }
    worker.counters.count_limit(LimitReached::OverloadRequest);
    request.verdict = Verdict::deny(Reason::Limit { limit: SHED.to_owned() }, Reply::SHED.status);
    request.keep_alive = false;
    Err(Stop::Answered(Reply::SHED))
}

fn refuses(worker: &Worker, plan: &EdgePlan, ip: IpAddr, level: Level) -> bool {
    let now_ms = worker.shared.clock.now_ms();
    if plan.decide.is_exempt(ip, now_ms) {
        return false;
    }
    if level >= Level::Full {
        return true;
    }
    let known = worker.shared.tables.good.knows(ip, now_ms);
    match order_about(&worker.shared.view.load(), ip, now_ms) {
        Some(DecisionKind::Allow) => false,
        Some(DecisionKind::Ban) => true,
        // Somebody has looked at them and found them worth a milder answer than a ban.
        Some(DecisionKind::Challenge | DecisionKind::Throttle | DecisionKind::RaiseParanoia) => {
            level >= Level::Critical
        }
        None => !known,
    }
}

fn order_about(view: &View, ip: IpAddr, now_ms: u64) -> Option<DecisionKind> {
    view.lookup(&Identities::of(ip), now_ms).map(|found| found.kind())
}

/// Closes some of a worker's idle connections, those that have been idle for longest, and those of clients served well last: a share
/// of them each time, so that a lull in which all are idle does not cost everybody theirs.
pub(crate) fn close_idle(worker: &Worker) {
    if worker.shared.tables.pressure.level() < Level::Tight {
        return;
    }
    let before_ms = worker.now_ms().saturating_sub(IDLE_LEAST_MS);
    let now_ms = worker.shared.clock.now_ms();
    let good = &worker.shared.tables.good;
    let mut idle: Vec<(bool, u64, Rc<Control>)> = Vec::new();
    worker.connections.for_each(|control| {
        let since_ms = control.idle_since_ms.get();
        if control.activity.get() == Activity::Idle && since_ms < before_ms {
            let known = control.client.get().is_none_or(|ip| good.knows(ip, now_ms));
            idle.push((known, since_ms, Rc::clone(control)));
        }
    });
    let share = idle.len().div_ceil(IDLE_SHARE);
    if share == 0 {
        return;
    }
    idle.select_nth_unstable_by_key(share - 1, |(known, since_ms, _)| (*known, *since_ms));
    for (_, _, control) in idle.iter().take(share) {
        control.cut(Cut::Drained);
        worker.counters.count_limit(LimitReached::OverloadIdle);
    }
}

fn percent(used: u64, of: u64) -> u8 {
    let percent = used.saturating_mul(100).checked_div(of).unwrap_or_default();
    u8::try_from(percent).unwrap_or(u8::MAX)
}

/// Memory of the process that is in use, as the kernel says.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default();
    kib.saturating_mul(1024)
}

/// Counts the process's open files. Kernels from 6.2 on tell their number at once; on others they are counted one by one, and
/// therefore seldom.
#[derive(Debug, Default)]
struct FileCount {
    known: u64,
    looks: u64,
}

impl FileCount {
    fn count(&mut self) -> u64 {
        let told = std::fs::metadata(FILES).map_or(0, |folder| folder.len());
        if told > 0 {
            return told;
        }
        if self.looks.is_multiple_of(LOOKS_PER_COUNT) {
            self.known = std::fs::read_dir(FILES).map_or(0, |files| files.count() as u64);
        }
        self.looks += 1;
        self.known
    }
}

/// The limit that requests are refused by.
pub(crate) const SHED: &str = "overload";
const TICK: Duration = Duration::from_millis(100);
const FILES: &str = "/proc/self/fd";
/// Looks at the other limits for each one at the files, where those are counted one by one.
const LOOKS_PER_COUNT: u64 = 10;
const TIGHT_PERCENT: u8 = 80;
const HIGH_PERCENT: u8 = 90;
const CRITICAL_PERCENT: u8 = 95;
const FULL_PERCENT: u8 = 98;
/// How far below its beginning a level ends.
const CALMER_PERCENT: u8 = 5;
/// A connection that was used just now is not idle yet.
const IDLE_LEAST_MS: u64 = 1_000;
/// One of so many idle connections is closed in each tick of a worker.
const IDLE_SHARE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_rise_at_once_and_fall_step_by_step_with_a_gap() {
        use Level::{Calm, Critical, Full, High, Tight};
        for (from, percent, to) in [
            (Calm, 79, Calm),
            (Calm, 80, Tight),
            (Calm, 99, Full),
            (Tight, 76, Tight),
            (Tight, 75, Tight),
            (Tight, 74, Calm),
            (High, 86, High),
            (High, 84, Tight),
            (Full, 93, Full),
            (Full, 92, Critical),
            (Full, 0, Critical),
            (Critical, 0, High),
        ] {
            assert_eq!(from.next(percent), to, "{from:?} at {percent} %");
        }
    }

    #[test]
    fn the_kernel_says_what_is_used() {
        assert!(resident_bytes() > 100_000);
        let mut files = FileCount::default();
        let before = files.count();
        let _one_more = std::fs::File::open("/proc/self/status").unwrap();
        assert!(FileCount::default().count() > before && before > 0);
        assert_eq!(percent(1, 0), 0);
        assert_eq!(percent(u64::MAX, 3), u8::MAX);
    }

    #[test]
    fn a_process_with_few_files_takes_few_connections() {
        for (files, connections) in [(1_024, 576), (20_000, 14_808), (1_048_576, 16_384), (64, 36), (0, 1)] {
            assert_eq!(EdgeLimits::default().within_files(files).connections, connections, "{files} files");
        }
    }
}
