//! What happens to upstreams between requests, on a thread of its own: ejections end, servers are asked how they are, names are
//! resolved again. Were it gone, nobody would come back from an ejection, and requests would go on with those that are left.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use phalanx_model::{Clock, Swap};
use phalanx_policy::balance::Check;
use tokio::sync::watch;
use tokio::task::spawn_local;

use super::check;
use super::group::{EJECTED, Endpoint, FAILS_CHECKS, UpstreamGroup};
use super::health::eject;
use super::names::Names;
use crate::crawlers;
use crate::leaving::Drain;
use crate::overload;
use crate::plan::{AppPlan, EdgePlan};
use crate::settings::EdgeSettings;
use crate::tables::NodeTables;

/// What the keeper remembers of an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    next_check_ms: u64,
    checking: bool,
    /// Checks in a row that failed, and that passed.
    failed: u32,
    passed: u32,
    /// Requests and errors when the stretch of time began in which errors are counted.
    counted: (u64, u64),
    counted_at_ms: u64,
}

/// Keeps the upstreams of whatever plan is in force, and looks at what the node uses, until the node drains.
pub(crate) fn run(
    plan: &Arc<Swap<EdgePlan>>,
    settings: &Arc<EdgeSettings>,
    (tables, clock): (&Arc<NodeTables>, &Arc<dyn Clock>),
    drain: &watch::Sender<Option<Drain>>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    let mut drain = drain.subscribe();
    runtime.block_on(async move {
        let (of_watch, watched, until) = (Arc::clone(settings), Arc::clone(tables), drain.clone());
        spawn_local(async move { overload::watch(&watched, &of_watch.limits, until).await });
        let names = Rc::new(Names::new(Arc::clone(settings)));
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut swaps = plan.subscribe();
        loop {
            tokio::select! {
                biased;
                _ = drain.wait_for(Option::is_some) => return,
                // A new plan's names are asked for at once.
                _ = swaps.changed() => {}
                _ = ticks.tick() => {}
            }
            crawlers::look_into(tables, &names, clock);
            let plan = plan.load_full();
            for (app, _) in plan.with_upstreams() {
                tick(app, settings, &names);
            }
        }
    });
    Ok(())
}

fn tick(app: &AppPlan, settings: &Arc<EdgeSettings>, names: &Rc<Names>) {
    let group = &app.upstreams;
    names.refresh(app);
    if group.only().is_some() && group.health.check.is_none() {
        return;
    }
    let endpoints = group.endpoints();
    let now_ms = group.shared().now_ms();
    for endpoint in &endpoints {
        end_ejection(app, endpoint, now_ms);
        if let Some(check) = &group.health.check {
            start_check(app, check, endpoint, (settings, names), now_ms);
        }
    }
    if let Some(percent) = group.health.error_rate_percent {
        eject_outliers(app, group, &endpoints, percent, now_ms);
    }
}

fn end_ejection(app: &AppPlan, endpoint: &Arc<Endpoint>, now_ms: u64) {
    let state = &endpoint.state;
    let health = &app.upstreams.health;
    let until_ms = state.ejected_until_ms.load(Ordering::Relaxed);
    if state.down.load(Ordering::Relaxed) & EJECTED != 0 {
        if now_ms >= until_ms {
            state.failures_in_row.store(0, Ordering::Relaxed);
            back(app, endpoint, EJECTED, "its time is over");
        }
    } else if state.ejections.load(Ordering::Relaxed) > 0 && now_ms >= until_ms.saturating_add(FORGIVEN_MS) {
        // Each minute that goes well makes the next ejection shorter.
        state.ejections.fetch_sub(1, Ordering::Relaxed);
        state.ejected_until_ms.store(now_ms, Ordering::Relaxed);
    }
    let back_at_ms = state.back_at_ms.load(Ordering::Relaxed);
    if back_at_ms != 0 && now_ms.saturating_sub(back_at_ms) >= health.slow_start_ms {
        state.back_at_ms.store(0, Ordering::Relaxed);
    }
}

/// One reason less for an endpoint to get no requests.
fn back(app: &AppPlan, endpoint: &Arc<Endpoint>, reason: u8, why: &str) {
    let state = &endpoint.state;
    if state.down.fetch_and(!reason, Ordering::Relaxed) & !reason == 0 {
        if app.upstreams.health.slow_start_ms > 0 {
            state.back_at_ms.store(endpoint.group.now_ms(), Ordering::Relaxed);
        }
        tracing::info!(app = %app.name, upstream = %endpoint.key, why, "an upstream is back");
        endpoint.group.freed.notify_waiters();
    }
}

fn start_check(
    app: &AppPlan,
    check: &Check,
    endpoint: &Arc<Endpoint>,
    (settings, names): (&Arc<EdgeSettings>, &Rc<Names>),
    now_ms: u64,
) {
    let under_way = {
        let mut watched = endpoint.state.watched.lock();
        if watched.checking || now_ms < watched.next_check_ms {
            return;
        }
        let Some(under_way) = names.begin() else { return };
        watched.checking = true;
        watched.next_check_ms = now_ms.saturating_add(check.interval_ms);
        under_way
    };
    let (app, check) = (app.clone(), check.clone());
    let (endpoint, settings) = (Arc::clone(endpoint), Arc::clone(settings));
    spawn_local(async move {
        let patience = Duration::from_millis(check.timeout_ms);
        let asked = tokio::time::timeout(patience, check::ask(&endpoint, &check, &settings)).await;
        let outcome = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        note_check(&app, &check, &endpoint, outcome);
        drop(under_way);
    });
}

fn note_check(app: &AppPlan, check: &Check, endpoint: &Arc<Endpoint>, outcome: Result<(), String>) {
    let state = &endpoint.state;
    let is_down = state.down.load(Ordering::Relaxed) & FAILS_CHECKS != 0;
    let (passed, failed) = {
        let mut watched = state.watched.lock();
        watched.checking = false;
        match outcome {
            Ok(()) => (watched.passed, watched.failed) = (watched.passed.saturating_add(1), 0),
            Err(_) => (watched.passed, watched.failed) = (0, watched.failed.saturating_add(1)),
        }
        (watched.passed, watched.failed)
    };
    match outcome {
        Ok(()) if is_down && passed >= check.up_after => {
            back(app, endpoint, FAILS_CHECKS, "it passes its checks");
        }
        Err(why) if !is_down && failed >= check.down_after => {
            state.down.fetch_or(FAILS_CHECKS, Ordering::Relaxed);
            tracing::warn!(app = %app.name, upstream = %endpoint.key, why, "an upstream fails its checks");
        }
        _ => {}
    }
}

/// Ejects who errs much, and twice as much as the others do: what all have in common is no server's fault.
fn eject_outliers(
    app: &AppPlan,
    group: &UpstreamGroup,
    endpoints: &[Arc<Endpoint>],
    percent: u8,
    now_ms: u64,
) {
    let mut counts = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let state = &endpoint.state;
        let now = (state.requests.load(Ordering::Relaxed), state.errors.load(Ordering::Relaxed));
        let mut watched = state.watched.lock();
        if now_ms.saturating_sub(watched.counted_at_ms) < STRETCH_MS {
            return;
        }
        let (requests, errors) = (now.0 - watched.counted.0.min(now.0), now.1 - watched.counted.1.min(now.1));
        (watched.counted, watched.counted_at_ms) = (now, now_ms);
        counts.push((endpoint, requests, errors));
    }
    let (all, all_errors) = counts.iter().fold((0, 0), |(r, e), count| (r + count.1, e + count.2));
    for (endpoint, requests, errors) in counts {
        let (others, others_errors) = (all - requests, all_errors - errors);
        let much = requests >= RATED_LEAST && errors * 100 >= requests * u64::from(percent);
        // errors / requests >= 2 * others_errors / others
        if much && errors * others >= 2 * others_errors * requests {
            eject(&app.name, group, endpoint, "more of its answers are errors than of others");
        }
    }
}

const TICK: Duration = Duration::from_millis(100);
/// Stretch of time over which errors are rated.
const STRETCH_MS: u64 = 10_000;
/// Fewer requests than this in a stretch say nothing about a server.
const RATED_LEAST: u64 = 20;
/// After how long without one an ejection is forgiven.
const FORGIVEN_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::UpstreamPlan;

    /// Which of some upstreams are ejected that had so many requests and errors, at a rate of half.
    fn ejected(counts: &[(u64, u64)]) -> Vec<bool> {
        let server = |place: usize| UpstreamPlan::new("127.0.0.1", u16::try_from(place + 1).unwrap(), "");
        let mut app = AppPlan::forwarding("a", server(0));
        app.upstreams = UpstreamGroup::new((0..counts.len()).map(server).collect());
        let endpoints = app.upstreams.endpoints();
        for (endpoint, (requests, errors)) in endpoints.iter().zip(counts) {
            endpoint.state.requests.store(*requests, Ordering::Relaxed);
            endpoint.state.errors.store(*errors, Ordering::Relaxed);
        }
        eject_outliers(&app, &app.upstreams, &endpoints, 50, STRETCH_MS);
        endpoints.iter().map(|one| one.state.down.load(Ordering::Relaxed) & EJECTED != 0).collect()
    }

    #[test]
    fn who_errs_much_more_than_the_others_is_ejected() {
        for (counts, expected) in [
            ([(100, 60), (100, 2), (100, 3)], [true, false, false]),
            ([(100, 49), (100, 0), (100, 0)], [false; 3]),
            // What all have in common is no server's fault.
            ([(100, 60), (100, 50), (100, 55)], [false; 3]),
            // Few requests say nothing.
            ([(19, 19), (100, 0), (100, 0)], [false; 3]),
            ([(100, 100), (0, 0), (0, 0)], [true, false, false]),
        ] {
            assert_eq!(ejected(&counts), expected, "{counts:?}");
        }
    }
}
