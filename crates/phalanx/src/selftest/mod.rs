//! The node attacks itself, each minute, through its own listeners, and tells when it is not refused: for `status`, for metrics, for the
//! fleet, and for the ledger when it changes.
//!
//! Flow in names: [`SelfTester::run`] -> a [`Pair`] of listener and app -> `visit` (a connection that the edge knows by its greeting) ->
//! `cases` (what is sent, and what answers mean) -> [`Known`] -> report.
//!
//! Failure direction: what cannot be tried because of how the node is set, or because another process answers, alarms nobody; what is not
//! answered at all does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use parking_lot::Mutex;
use phalanx_control::SelfTestPort;
use phalanx_control::api::{SelfTest, SelfTestCase, SelfTestOutcome, SelfTestRun, SelfTestState};
use phalanx_edge::{EdgeHandle, EdgePlan, Level};
use phalanx_fleet::FleetHandle;
use phalanx_model::lanes::Lanes;
use phalanx_model::{Clock, LedgerEntry, LedgerKind, Swap};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, timeout};

use crate::settings::Settings;

mod cases;
pub(crate) mod settings;
mod visit;

use cases::{Judged, OF_APP, OF_LISTENER, Try};
use settings::SelfTestSettings;
use visit::{Begun, Listener, Visit};

/// Attacks the node it runs in.
pub(crate) struct SelfTester {
    edge: EdgeHandle,
    plan: Arc<Swap<EdgePlan>>,
    listeners: Vec<Listener>,
    fleet: FleetHandle,
    lanes: Lanes,
    clock: Arc<dyn Clock>,
    settings: SelfTestSettings,
    known: Mutex<Known>,
    turns: Arc<Turns>,
}

/// One run at a time, and at most one that waits for its turn, for all who asked in the meantime.
#[derive(Debug, Default)]
struct Turns {
    state: Mutex<Turn>,
    /// How many runs have ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Turn {
    is_under_way: bool,
    is_wanted: bool,
}

/// What is known so far.
#[derive(Debug, Default)]
struct Known {
    /// What each pair came to when it was tried last, and how often in a row it failed.
    pairs: BTreeMap<Pair, (Vec<SelfTestCase>, u32)>,
    last: Option<(u64, u64)>,
    failing_since_ms: Option<u64>,
    /// Where the next run begins, if one cannot try all.
    next: usize,
}

/// A listener, and an app that it serves; or what is refused there whatever app it is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    listener: usize,
    app: Option<Arc<str>>,
    /// What the app is asked by.
    host: String,
    asks_clients: bool,
}

impl SelfTester {
    /// Of a node with these parts.
    pub(crate) fn new(
        settings: &Settings,
        edge: &EdgeHandle,
        plan: Arc<Swap<EdgePlan>>,
        (fleet, lanes, clock): (&FleetHandle, &Lanes, &Arc<dyn Clock>),
    ) -> Arc<Self> {
        let proxied = |place: usize| settings.proxied.get(place).cloned().flatten();
        let plain = edge.plain_addrs().iter().enumerate();
        let plain = plain.map(|(place, address)| Listener::new(*address, proxied(place)));
        let tls = edge.tls_addrs().iter().zip(&settings.tls.listeners);
        let tls = tls.map(|(address, listener)| {
            let asks_clients = listener.clients.as_ref().is_some_and(|clients| clients.required);
            Listener::with_tls(*address, listener.proxied.clone(), asks_clients)
        });
        Arc::new(Self {
            listeners: plain.chain(tls).collect(),
            edge: edge.clone(),
            plan,
            fleet: fleet.clone(),
            lanes: lanes.clone(),
            clock: Arc::clone(clock),
            settings: settings.self_test.clone(),
            known: Mutex::default(),
            turns: Arc::default(),
        })
    }

    /// Attacks the node again and again until it stops.
    pub(crate) async fn run(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let Some(every) = self.settings.every else { return };
        let mut ticks = tokio::time::interval_at((Instant::now() + FIRST.min(every)).into(), every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stopping.wait_for(|stops| *stops) => return,
            }
            if self.is_to_be_tested() {
                self.try_once().await;
            }
        }
    }

    /// Neither while the node goes, when its connections end as they come, nor while it is short of something: a test is not what takes
    /// the last of it.
    fn is_to_be_tested(&self) -> bool {
        self.edge.serves() && self.edge.tables().pressure.level() == Level::Calm
    }

    /// Attacks once. Whoever asks while a run is under way gets the next one, together with all others who do: what was changed before he
    /// asked is tried, and no more than one run waits for its turn. A run ends whether or not somebody still waits for it.
    async fn try_once(self: &Arc<Self>) {
        let tester = Arc::clone(self);
        self.turns.next(move || Arc::clone(&tester).attack()).await;
    }

    async fn attack(self: Arc<Self>) {
        let (at_ms, began) = (self.clock.now_ms(), Instant::now());
        let pairs = pairs(&self.plan.load_full(), &self.listeners, &self.settings.except);
        let from = self.known.lock().next.checked_rem(pairs.len()).unwrap_or_default();
        let (before, after) = pairs.split_at(from);
        let mut tried = Vec::new();
        for pair in after.iter().chain(before).take(PAIRS_MAX) {
            if began.elapsed() > RUN_MAX {
                break;
            }
            tried.push((pair.clone(), self.try_pair(pair).await));
        }
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let turned = {
            let mut known = self.known.lock();
            known.next = from.saturating_add(tried.len());
            known.pairs.retain(|known, _| pairs.contains(known));
            known.last = Some((at_ms, took_ms));
            known.note(tried, at_ms)
        };
        self.fleet.tell_self_test(self.is_ok());
        if let Some(fails) = turned {
            self.tell(fails);
        }
    }

    /// What a pair comes to; everything in it, if it cannot be tried.
    async fn try_pair(&self, pair: &Pair) -> Vec<SelfTestCase> {
        let (listener, tries) = match (self.listeners.get(pair.listener), &pair.app) {
            (Some(listener), Some(_)) => (listener, OF_APP),
            (Some(listener), None) => (listener, OF_LISTENER),
            (None, _) => return Vec::new(),
        };
        let (app, address) = (pair.app.as_deref().unwrap_or_default(), listener.address.to_string());
        let mut cases = Vec::new();
        let mut visit = None;
        for tried in tries {
            let judged = match timeout(TRY_MAX, self.judge(listener, pair, tried, &mut visit)).await {
                Ok(judged) => judged,
                Err(_) => {
                    visit = None;
                    Judged::unanswered(format!("there is no answer within {} s", TRY_MAX.as_secs()))
                }
            };
            cases.push(judged.reported(tried, app, &address));
        }
        cases
    }

    async fn judge(
        &self,
        listener: &Listener,
        pair: &Pair,
        tried: &Try,
        visit: &mut Option<Visit>,
    ) -> Judged {
        let mut known = match visit.take().filter(|visit| visit.is_open) {
            Some(known) => known,
            None => match self.connect(listener, pair).await {
                Ok(known) => known,
                Err(judged) => return judged,
            },
        };
        let request = match pair.app {
            Some(_) => tried.of_app(&pair.host),
            None => tried.of_listener(&pair.host),
        };
        match known.ask(&request).await {
            Ok(answer) => {
                *visit = Some(known);
                tried.judge(&answer)
            }
            Err(error) => Judged::unanswered(format!("{error:#}")),
        }
    }

    /// A connection that this process answers. Another one may listen at the same address while it is followed, or follows.
    async fn connect(&self, listener: &Listener, pair: &Pair) -> Result<Visit, Judged> {
        if !listener.takes_us() {
            return Err(Judged::skipped("the listener takes connections of load balancers alone"));
        }
        for _ in 0..CONNECTS_MAX {
            match visit::begin(listener, &pair.host, &self.edge.tables().self_test).await {
                Ok(Begun::Known(visit)) => return Ok(visit),
                Ok(Begun::Short) => {
                    return Err(Judged::skipped("connections end after one request here"));
                }
                Ok(Begun::Stranger) => {}
                Err(error) if pair.asks_clients && visit::wants_certificate(&error) => {
                    return Err(Judged::skipped("clients are asked for certificates, and the node has none"));
                }
                Err(error) => return Err(Judged::unanswered(format!("{error:#}"))),
            }
        }
        Err(Judged::skipped("another process answers at this address"))
    }

    /// Tells of the first run that fails for the second time, and of the first that does not any more.
    fn tell(&self, fails: bool) {
        let state = match fails {
            true => {
                tracing::error!(
                    "the node's attacks on itself are not refused, or what is harmless is: see `phalanx selftest`"
                );
                "its self-test fails"
            }
            false => {
                tracing::info!("the node's self-test passes again");
                "its self-test passes again"
            }
        };
        let entry =
            LedgerEntry { at_ms: self.clock.now_ms(), kind: LedgerKind::Node { state: state.into() } };
        // A ledger that is full has more to tell than this; status and metrics say it, too.
        let _ = self.lanes.ledger(entry);
    }

    /// How it stands. What is old says nothing.
    fn state(&self) -> SelfTestState {
        let known = self.known.lock();
        let kept = self.settings.every.unwrap_or_default().saturating_mul(RUNS_KEPT).max(KEPT_LEAST);
        let age =
            known.last.map(|(at_ms, _)| Duration::from_millis(self.clock.now_ms().saturating_sub(at_ms)));
        match age {
            Some(age)
                if age <= kept && known.cases().any(|case| case.outcome != SelfTestOutcome::Skipped) =>
            {
                match known.failing_since_ms {
                    Some(_) => SelfTestState::Failing,
                    None => SelfTestState::Ok,
                }
            }
            _ => SelfTestState::Unknown,
        }
    }

    /// For metrics and the fleet; `None`: nothing is known.
    pub(crate) fn is_ok(&self) -> Option<bool> {
        match self.state() {
            SelfTestState::Ok => Some(true),
            SelfTestState::Failing => Some(false),
            SelfTestState::Unknown => None,
        }
    }

    /// A sentence where something is not as it should be.
    pub(crate) fn degraded(&self) -> Option<String> {
        if self.state() != SelfTestState::Failing {
            return None;
        }
        let known = self.known.lock();
        let failing: Vec<&SelfTestCase> = known.cases().filter(|case| !case.ok).collect();
        let first = failing.first()?;
        let app = if first.app.is_empty() { String::new() } else { format!(" for app {}", first.app) };
        let more = match failing.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        Some(format!(
            "the self-test fails: {} at {}{app}: {}{more}; `phalanx selftest` tells of each",
            first.name, first.listener, first.detail
        ))
    }

    fn report(&self) -> SelfTest {
        let state = self.state();
        let known = self.known.lock();
        let last = known.last.map(|(at_ms, took_ms)| {
            let cases: Vec<SelfTestCase> = known.cases().cloned().collect();
            SelfTestRun { at_ms, took_ms, ok: cases.iter().all(|case| case.ok), cases }
        });
        SelfTest {
            state,
            every_ms: self.settings.every.map(|every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX)),
            last,
            failing_since_ms: known.failing_since_ms,
        }
    }

    /// The node's attacks on itself, as the API reaches them.
    pub(crate) fn port(self: &Arc<Self>) -> SelfTestPort {
        let (shows, runs) = (Arc::clone(self), Arc::clone(self));
        SelfTestPort {
            report: Box::new(move || shows.report()),
            run: Box::new(move |()| {
                let tester = Arc::clone(&runs);
                async move {
                    if !tester.edge.serves() {
                        return None;
                    }
                    tester.try_once().await;
                    Some(tester.report())
                }
                .boxed()
            }),
        }
    }
}

impl Turns {
    /// Waits for the end of the first run that begins from now on, and sees to it that there is one.
    async fn next<F>(self: &Arc<Self>, run: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (mut ended, wanted) = {
            let mut turn = self.state.lock();
            let before = u64::from(turn.is_under_way);
            if turn.is_under_way {
                turn.is_wanted = true;
            } else {
                turn.is_under_way = true;
                tokio::spawn(Arc::clone(self).all(run));
            }
            let ended = self.ended.subscribe();
            let wanted = ended.borrow().saturating_add(before).saturating_add(1);
            (ended, wanted)
        };
        // The sender lives as long as this.
        let _ = ended.wait_for(|ended| *ended >= wanted).await;
    }

    async fn all<F>(self: Arc<Self>, run: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            if let Err(error) = tokio::spawn(run()).await {
                tracing::error!(%error, "a self-test ended with an error of the program");
            }
            let mut turn = self.state.lock();
            self.ended.send_modify(|ended| *ended = ended.saturating_add(1));
            if !std::mem::take(&mut turn.is_wanted) {
                turn.is_under_way = false;
                return;
            }
        }
    }
}

impl Known {
    /// Takes note of what was tried; says whether it fails or not where that has changed.
    fn note(&mut self, tried: Vec<(Pair, Vec<SelfTestCase>)>, at_ms: u64) -> Option<bool> {
        for (pair, cases) in tried {
            let in_a_row = self.pairs.get(&pair).map_or(0, |(_, in_a_row)| *in_a_row);
            let fails = cases.iter().any(|case| !case.ok);
            let is_tried = cases.iter().all(|case| case.outcome != SelfTestOutcome::Skipped);
            let in_a_row = match (fails, is_tried) {
                (true, _) => in_a_row.saturating_add(1),
                // What could not be tried is not mended.
                (false, false) => in_a_row,
                (false, true) => 0,
            };
            self.pairs.insert(pair, (cases, in_a_row));
        }
        let fails = self.pairs.values().any(|(_, in_a_row)| *in_a_row >= FAILS_IN_A_ROW);
        match (fails, self.failing_since_ms) {
            (true, None) => self.failing_since_ms = Some(at_ms),
            (false, Some(_)) => self.failing_since_ms = None,
            _ => return None,
        }
        Some(fails)
    }

    fn cases(&self) -> impl Iterator<Item = &SelfTestCase> {
        self.pairs.values().flat_map(|(cases, _)| cases)
    }
}

/// What there is to try: at each listener what no app is needed for, then each app that a host leads to.
fn pairs(plan: &EdgePlan, listeners: &[Listener], except: &[String]) -> Vec<Pair> {
    let mut taken = BTreeSet::new();
    let apps: Vec<_> = plan
        .apps()
        .iter()
        .filter(|app| !app.passthrough && !app.tcp)
        .filter_map(|app| {
            let hosts = app.hosts.iter().map(|host| host.to_ascii_lowercase().replacen("*.", "selftest.", 1));
            // Of several apps that claim a host the first has it.
            let any = app.hosts.is_empty().then(|| ANY_HOST.to_owned());
            let host = hosts.chain(any).find(|host| taken.insert(host.clone()))?;
            let is_tested = !except.iter().any(|except| **except == *app.name);
            is_tested.then(|| (Arc::clone(&app.name), host, app.client_certificate.is_some()))
        })
        .collect();
    let any_host = apps.first().map_or(ANY_HOST, |(_, host, _)| host);
    let mut pairs = Vec::new();
    for (place, listener) in listeners.iter().enumerate() {
        let asks_first = apps.first().is_some_and(|(.., asks)| *asks);
        let pair = |app, host: &str, asks: bool| Pair {
            listener: place,
            app,
            host: host.to_owned(),
            asks_clients: listener.asks_clients || listener.tls && asks,
        };
        pairs.push(pair(None, any_host, asks_first));
        pairs.extend(apps.iter().map(|(app, host, asks)| pair(Some(Arc::clone(app)), host, *asks)));
    }
    pairs
}

/// The host that an app which takes all hosts is asked by.
const ANY_HOST: &str = "localhost";
/// When the first run is, after the start.
const FIRST: Duration = Duration::from_secs(10);
/// Pairs that a run tries; of more, the next one tries the others. With seven requests each this is two hundred.
const PAIRS_MAX: usize = 32;
/// After which a run tries no other pair.
const RUN_MAX: Duration = Duration::from_secs(30);
/// How long one request may take.
const TRY_MAX: Duration = Duration::from_secs(5);
/// How often another process may answer before it is left at that.
const CONNECTS_MAX: usize = 8;
/// How many runs in a row fail before anybody is alarmed: one may meet a node in the midst of something.
const FAILS_IN_A_ROW: u32 = 2;
/// For how many runs what was found counts.
const RUNS_KEPT: u32 = 5;
/// And for how long at least.
const KEPT_LEAST: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use phalanx_control::api::SelfTestOutcome;

    use super::*;

    #[tokio::test]
    async fn whoever_asks_gets_a_run_that_began_after_he_asked() {
        let turns = Arc::new(Turns::default());
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let begun = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let ask = || {
            let (turns, gate, begun) = (Arc::clone(&turns), Arc::clone(&gate), Arc::clone(&begun));
            async move {
                let run = move || {
                    let (gate, begun) = (Arc::clone(&gate), Arc::clone(&begun));
                    async move {
                        begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        gate.acquire().await.unwrap().forget();
                    }
                };
                turns.next(run).await;
            }
        };
        let first = tokio::spawn(ask());
        while begun.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let (second, third) = (tokio::spawn(ask()), tokio::spawn(ask()));
        while turns.ended.receiver_count() < 3 {
            tokio::task::yield_now().await;
        }
        // Who asked first goes away; the run goes on, and the others get the next.
        first.abort();
        gate.add_permits(1);
        while begun.load(std::sync::atomic::Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        assert!(!second.is_finished() && !third.is_finished());
        gate.add_permits(1);
        second.await.unwrap();
        third.await.unwrap();
        assert_eq!(begun.load(std::sync::atomic::Ordering::Relaxed), 2);
    }

    fn pair(listener: usize) -> Pair {
        Pair { listener, app: None, host: "a".into(), asks_clients: false }
    }

    fn came_to(listener: usize, ok: bool) -> Vec<(Pair, Vec<SelfTestCase>)> {
        let outcome = if ok { SelfTestOutcome::Passed } else { SelfTestOutcome::Failed };
        let judged = Judged { got: String::new(), outcome, detail: String::new() };
        vec![(pair(listener), vec![judged.reported(&OF_LISTENER[0], "", "127.0.0.1:80")])]
    }

    #[test]
    fn two_failures_in_a_row_alarm_and_one_success_ends_that() {
        let mut known = Known::default();
        let runs = [
            (false, None),
            (true, None),
            (false, None),
            (false, Some(true)),
            (false, None),
            (true, Some(false)),
        ];
        for (at_ms, (ok, turned)) in (1..).zip(runs) {
            assert_eq!(known.note(came_to(0, ok), at_ms), turned, "run {at_ms}");
        }
        assert_eq!(known.failing_since_ms, None);
    }

    #[test]
    fn a_pair_that_fails_is_not_made_good_by_another() {
        let mut known = Known::default();
        assert_eq!(known.note(came_to(0, false), 1), None);
        assert_eq!(known.note(came_to(1, true), 2), None);
        assert_eq!(known.note(came_to(0, false), 3), Some(true));
        assert_eq!(known.note(came_to(1, true), 4), None);
        assert_eq!(known.failing_since_ms, Some(3));
    }
}
