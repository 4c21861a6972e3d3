//! How short the node runs of what it needs: for `status`, for metrics, and for the ledger when it changes.

use std::sync::Arc;
use std::time::Duration;

use phalanx_control::api::{LimitCount, Load};
use phalanx_edge::{EdgeHandle, Level};
use phalanx_model::counters::LimitReached;
use phalanx_model::lanes::Lanes;
use phalanx_model::{Clock, LedgerEntry, LedgerKind};
use phalanx_record::metrics::sum_at;

/// What the node uses, and what it sheds.
pub(crate) fn report(edge: &EdgeHandle) -> Load {
    let pressure = &edge.tables().pressure;
    let (level, usage, limits) = (pressure.level(), pressure.usage(), edge.limits());
    let reached = LimitReached::ALL.iter().enumerate().map(|(place, limit)| LimitCount {
        limit: limit.name().to_owned(),
        count: sum_at(edge.counters(), |c| &c.limits_reached, place),
    });
    Load {
        level: level.name().to_owned(),
        level_number: level as u8,
        memory_bytes: usage.memory_bytes,
        memory_limit_bytes: limits.memory_bytes,
        files: usage.files,
        files_limit: limits.files as u64,
        connections: usage.connections,
        connections_limit: limits.connections as u64,
        limits_reached: reached.filter(|one| one.count > 0).collect(),
    }
}

/// A sentence where the node sheds load.
pub(crate) fn degraded(edge: &EdgeHandle) -> Option<String> {
    let pressure = &edge.tables().pressure;
    let level = pressure.level();
    (level > Level::Calm).then(|| format!("load is shed, {}; it uses {}", level.name(), pressure.usage()))
}

/// For metrics: the level, and shares of limits in per cent.
pub(crate) fn gauges(edge: &EdgeHandle) -> (u64, Vec<(&'static str, u64)>) {
    let pressure = &edge.tables().pressure;
    let usage = pressure.usage();
    let shares = vec![
        ("memory", u64::from(usage.memory_percent)),
        ("files", u64::from(usage.files_percent)),
        ("connections", u64::from(usage.connections_percent)),
    ];
    (pressure.level() as u64, shares)
}

/// Enters changes into the ledger, one each second at most, for as long as the node runs.
pub(crate) async fn follow(edge: EdgeHandle, lanes: Lanes, clock: Arc<dyn Clock>) {
    let mut known = Level::Calm;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let pressure = &edge.tables().pressure;
        let level = pressure.level();
        if level == known {
            continue;
        }
        known = level;
        let usage = pressure.usage().to_string();
        let kind = LedgerKind::Overload { level: level.name().to_owned(), usage };
        // A ledger that is full has more to tell than this; the next change is tried again.
        let _ = lanes.ledger(LedgerEntry { at_ms: clock.now_ms(), kind });
    }
}
