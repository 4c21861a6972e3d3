//! The live stream: server-sent events, until the browser leaves or its session ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use http::StatusCode;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Interval, MissedTickBehavior};

use crate::auth::Principal;
use crate::error::ApiError;
use crate::hub::StreamEvent;
use crate::limits::SUBSCRIBERS_PER_CALLER_MAX;
use crate::router::Control;

/// `GET /api/v1/stream`
pub(crate) async fn stream(
    State(control): State<Arc<Control>>,
    Extension(who): Extension<Principal>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let seat = Seat::take(&control, &who)?;
    let mut session_check = tokio::time::interval(SESSION_CHECK);
    session_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let subscriber = Subscriber {
        requests: control.hub.requests(),
        changes: control.hub.changes(),
        logouts: control.logouts.subscribe(),
        operators: control.deps.operators.changed(),
        session_check,
        skipped: 0,
        control,
        who,
        _seat: seat,
    };
    let events = unfold(subscriber, |mut subscriber| async move {
        let event = subscriber.next().await?;
        Some((Ok(event), subscriber))
    });
    let keep_alive = KeepAlive::new().interval(HEARTBEAT).text("heartbeat");
    Ok(Sse::new(events).keep_alive(keep_alive))
}

struct Subscriber {
    requests: broadcast::Receiver<StreamEvent>,
    changes: broadcast::Receiver<StreamEvent>,
    logouts: watch::Receiver<u64>,
    /// Accounts change at other nodes too.
    operators: watch::Receiver<u64>,
    session_check: Interval,
    /// Requests lost since the last one that was sent.
    skipped: u64,
    control: Arc<Control>,
    who: Principal,
    _seat: Seat,
}

/// Room for one stream, of all and of its caller's.
struct Seat {
    control: Arc<Control>,
    of: String,
    _permit: OwnedSemaphorePermit,
}

impl Seat {
    fn take(control: &Arc<Control>, who: &Principal) -> Result<Self, ApiError> {
        let full = |message| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_subscribers", message);
        let permit = Arc::clone(&control.subscribers).try_acquire_owned();
        let permit = permit.map_err(|_| full("too many consoles listen already"))?;
        let of = who.identity();
        if !control.streams.lock().enter(of.clone(), SUBSCRIBERS_PER_CALLER_MAX) {
            return Err(full("too many streams of yours are open already; close some windows"));
        }
        Ok(Self { control: Arc::clone(control), of, _permit: permit })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.control.streams.lock().leave(&self.of);
    }
}

impl Subscriber {
    /// The next event; `None` ends the stream, and the browser connects anew if it still may.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let sent = tokio::select! {
                biased;
                changed = self.logouts.changed() => {
                    changed.ok()?;
                    self.still_welcome()?;
                    continue;
                }
                changed = self.operators.changed() => {
                    changed.ok()?;
                    self.still_welcome()?;
                    continue;
                }
                _ = self.session_check.tick() => {
                    self.still_welcome()?;
                    continue;
                }
                received = self.changes.recv() => received.ok().filter(|event| event.name != "resync")?,
                received = self.requests.recv() => match received {
                    Ok(event) => event,
                    Err(RecvError::Lagged(count)) => {
                        self.skipped += count;
                        continue;
                    }
                    Err(RecvError::Closed) => return None,
                },
            };
            let mut event = Event::default().event(sent.name).data(&*sent.json);
            if self.skipped > 0 {
                event = event.comment(format!("{} requests were left out", self.skipped));
                self.skipped = 0;
            }
            return Some(event);
        }
    }

    /// Whether the session that opened the stream is still open.
    fn still_welcome(&self) -> Option<()> {
        self.who.is_still(&self.control).then_some(())
    }
}

/// Below the idle limits of proxies and tunnels.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How late the stream of an expired session may end.
const SESSION_CHECK: Duration = Duration::from_secs(5);
