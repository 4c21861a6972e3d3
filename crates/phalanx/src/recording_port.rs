//! The recording as the node runs it: the edge's sample to the recorder's ring, and the ring to the API's replays.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use phalanx_control::replay::{Comparison, Decided};
use phalanx_control::{NotReplayed, ReplayPort};
use phalanx_edge::{EdgeHandle, EdgePlan, Judged, Replay};
use phalanx_model::Clock;
use phalanx_model::limits::{REPLAY_REQUESTS_MAX, REPLAY_TIME_MAX_MS};
use phalanx_record::{RecorderStatus, RecordingReader, RecordingSettings, RequestRecorder};
use phalanx_trust::Sealer;

use crate::policy_port::PolicyKeeper;
use crate::settings::Settings;
use crate::state::StateFolder;

/// Starts to write what the edge samples; `None` if it samples nothing.
pub(crate) fn start(
    (settings, state): (&Settings, &StateFolder),
    edge: &EdgeHandle,
    sealer: Arc<Sealer>,
    clock: &Arc<dyn Clock>,
    status: RecorderStatus,
) -> anyhow::Result<Option<RequestRecorder>> {
    let (Some(recorded), Some(sample)) = (&settings.recording, edge.recording()) else { return Ok(None) };
    let taker = sample.taker();
    let source = phalanx_record::recording::Source {
        take: Box::new(move || taker.take()),
        dropped: Box::new(move || sample.dropped()),
    };
    let ring = RecordingSettings {
        bytes_max: recorded.bytes_max,
        kept_ms: recorded.kept_ms,
        ..RecordingSettings::new(&state.recording(), sealer, Arc::clone(clock))
    };
    Ok(Some(RequestRecorder::start(ring, source, status)?))
}

/// Replays what was recorded through the policy in force and through another.
pub(crate) fn port(reader: RecordingReader, keeper: &Arc<PolicyKeeper>) -> ReplayPort {
    let keeper = Arc::clone(keeper);
    Box::new(move |files, entry, since_ms| {
        let (reader, keeper) = (reader.clone(), Arc::clone(&keeper));
        let replaying = tokio::task::spawn_blocking(move || {
            let next = keeper.compile_files(files, entry).map_err(NotReplayed::Policy)?;
            compare(&reader, keeper.plan().load_full(), Arc::new(next.plan), since_ms)
        });
        let failed = |error: tokio::task::JoinError| Err(NotReplayed::Recording(error.to_string()));
        async move { replaying.await.unwrap_or_else(failed) }.boxed()
    })
}

fn compare(
    reader: &RecordingReader,
    before: Arc<EdgePlan>,
    next: Arc<EdgePlan>,
    since_ms: u64,
) -> Result<phalanx_control::api::Replayed, NotReplayed> {
    let until = Instant::now() + Duration::from_millis(REPLAY_TIME_MAX_MS);
    let (mut before, mut next) = (Replay::new(before), Replay::new(next));
    let mut comparison = Comparison::default();
    let mut complete = true;
    let shown = catch_unwind(AssertUnwindSafe(|| {
        reader.read(since_ms, |request| {
            if comparison.requests() >= REPLAY_REQUESTS_MAX as u64 || Instant::now() >= until {
                complete = false;
                return false;
            }
            comparison.add(&request, &decided(before.judge(&request)), &decided(next.judge(&request)));
            true
        })
    }));
    let shown = shown.map_err(|_| NotReplayed::Recording("replaying it failed".to_owned()))?;
    let shown = shown.map_err(|error| NotReplayed::Recording(error.to_string()))?;
    Ok(comparison.report(since_ms, shown, complete))
}

fn decided(judged: Judged) -> Decided {
    let Judged { app, route, verdict, rules, lacks_body, .. } = judged;
    Decided { app, route, verdict, rules, lacks_body }
}
