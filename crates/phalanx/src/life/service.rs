//! What the service manager is told (`sd_notify`): ready, reloading, stopping, alive, who the main process is. Nothing without one.

use std::time::Duration;

use sd_notify::NotifyState;

/// The node serves.
pub(crate) fn ready() {
    let status = format!("phalanx {} serves", env!("CARGO_PKG_VERSION"));
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// It loads policy and certificates again; [`ready`] follows, whatever comes of it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager is not told of a reload"),
    }
}

/// It lets go of its connections, for as long as this.
pub(crate) fn stopping(drain: Duration) {
    let longest = drain.saturating_add(CLOSING);
    let longest = u32::try_from(longest.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(longest)]);
}

/// Another process is the main one from here on. Said by the one that was, for that one is believed.
pub(crate) fn followed_by(process: u32) {
    tell(&[NotifyState::MainPid(process)]);
}

/// It is well.
pub(crate) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often the service manager wants to hear that; never unless it said so.
pub(crate) fn alive_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|longest| longest / 2)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Time to close the state after the last connection.
const CLOSING: Duration = Duration::from_secs(20);
