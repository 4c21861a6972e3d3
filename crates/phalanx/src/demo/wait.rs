//! Waiting for a condition, with a deadline. Nothing in the demonstration waits for time alone but the pace of its crowd.

use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// Probes until there is an answer. An error of the probe counts as "not yet", and is told when the deadline passes.
pub(super) async fn until<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    let mut last = anyhow!("it is not so");
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let probing = async {
        loop {
            ticks.tick().await;
            match probe().await {
                Ok(Some(answer)) => return answer,
                Ok(None) => {}
                Err(error) => last = error,
            }
        }
    };
    let answer = timeout_at(deadline, probing).await;
    answer.map_err(|_elapsed| last.context(format!("waited {} s in vain until {what}", within.as_secs())))
}

/// Short against what is measured with it: milliseconds.
const PROBE_EVERY: Duration = Duration::from_micros(500);
