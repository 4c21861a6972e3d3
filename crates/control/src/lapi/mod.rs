//! CrowdSec's local API, as far as bouncers use it: they read the fleet's decisions and enforce them elsewhere, in a firewall or
//! another proxy. Read-only, on a listener of its own, with a key for each bouncer.
//!
//! Flow in names: `Bouncers` admits -> `Filter` -> `Cursor` and the fleet's trail -> `Question` -> pieces of JSON.
//!
//! INVARIANT: what an operator allows or policy exempts is never sent as an order, nor any range that touches it.
//! INVARIANT: a bouncer's cursor moves when its answer has been handed over whole, so that a broken one is given again.

mod filter;
mod shields;
pub(crate) mod wire;

mod answer;
mod bouncers;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use futures_util::stream;
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use phalanx_fleet::FleetHandle;
use phalanx_model::{ActorKey, Clock, Country, Prefix};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

pub use bouncers::Bouncers;

use crate::auth::Failures;
use crate::limits::{LAPI_ANSWERS_MAX, LAPI_PIECES};
use answer::{Out, Question};
use bouncers::Cursor;
use filter::Filter;
use shields::{Shields, shields};

/// What the local API needs of the node.
pub struct LapiDeps {
    /// Who may ask.
    pub bouncers: Arc<Bouncers>,
    /// The fleet.
    pub fleet: FleetHandle,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Asks for the addresses that policy exempts from decisions.
    pub exempt: ExemptPort,
    /// Asks where addresses are.
    pub place: PlacePort,
}

/// Asks the binary for the addresses that policy exempts from decisions.
pub type ExemptPort = Box<dyn Fn() -> Vec<Prefix> + Send + Sync>;

/// Asks the binary for the autonomous system and the country of an address, as far as the node knows them.
pub type PlacePort = Box<dyn Fn(IpAddr) -> (Option<u32>, Option<Country>) + Send + Sync>;

/// The local API. A HEAD is answered without a body and moves no cursor, as there.
pub fn router(deps: LapiDeps) -> Router {
    let lapi = Arc::new(Lapi {
        deps,
        failures: Failures::default(),
        shields: Mutex::default(),
        answers: Arc::new(Semaphore::new(LAPI_ANSWERS_MAX)),
    });
    Router::new()
        .route("/v1/decisions", get(decisions).head(head))
        .route("/v1/decisions/stream", get(stream_decisions).head(head))
        .layer(from_fn_with_state(Arc::clone(&lapi), admit))
        .fallback(async || StatusCode::NOT_FOUND)
        .with_state(lapi)
}

struct Lapi {
    deps: LapiDeps,
    failures: Failures,
    shields: Mutex<Known>,
    /// Answers under way: each takes a thread.
    answers: Arc<Semaphore>,
}

/// The shields as they were last put together, and from what.
#[derive(Default)]
struct Known {
    version: u64,
    allows: u64,
    exempt: Vec<Prefix>,
    shields: Arc<Shields>,
}

impl Lapi {
    /// The shields, put together anew when an allow or the policy has changed since. The first version is 1.
    fn shields(&self, allows: u64, now_ms: u64) -> (u64, Arc<Shields>) {
        let exempt = (self.deps.exempt)();
        let mut known = self.shields.lock();
        if known.version == 0 || known.allows != allows || known.exempt != exempt {
            let view = self.deps.fleet.view().load_full();
            let allowed = view.live(now_ms).filter(|decision| shields(decision)).map(|d| d.actor.key());
            let exempt_keys = exempt.iter().copied().map(ActorKey::Range);
            let next = Arc::new(Shields::new(allowed.chain(exempt_keys)));
            known.version += u64::from(*next != *known.shields || known.version == 0);
            known.shields = next;
            known.allows = allows;
            known.exempt = exempt;
        }
        (known.version, Arc::clone(&known.shields))
    }

    /// Writes what a bouncer that has read up to `cursor` is to know. Returns how far that is.
    fn pull(
        &self,
        out: &mut Out,
        filter: &Filter,
        cursor: Option<Cursor>,
        deletes_first: bool,
    ) -> io::Result<Cursor> {
        // The position comes first: what changes from here on may be told twice, and never not at all.
        let reading = self.deps.fleet.trail(cursor.map(|cursor| cursor.position));
        let now_ms = self.deps.clock.now_ms();
        let (version, shields) = self.shields(reading.allows, now_ms);
        let question = self.question(&shields, filter, now_ms);
        match (cursor, reading.traces) {
            (Some(cursor), Some(traces)) if cursor.shields == version => {
                question.changes(out, traces, deletes_first)?;
            }
            _ => question.everything(out)?,
        }
        out.flush()?;
        Ok(Cursor { position: reading.position, shields: version })
    }

    fn question<'a>(&'a self, shields: &'a Shields, filter: &'a Filter, now_ms: u64) -> Question<'a> {
        Question { fleet: &self.deps.fleet, shields, place: &self.deps.place, filter, now_ms }
    }

    fn matching(&self, out: &mut Out, filter: &Filter) -> io::Result<()> {
        let allows = self.deps.fleet.trail(None).allows;
        let now_ms = self.deps.clock.now_ms();
        let (_, shields) = self.shields(allows, now_ms);
        self.question(&shields, filter, now_ms).matching(out)?;
        out.flush()
    }
}

/// The name of the bouncer that asks, and its User-Agent.
#[derive(Debug, Clone)]
struct Asker {
    name: String,
    agent: String,
}

async fn admit(State(lapi): State<Arc<Lapi>>, mut request: Request, next: Next) -> Response {
    let agent = text(request.headers(), header::USER_AGENT.as_str()).to_owned();
    let key = text(request.headers(), "x-api-key");
    let now_ms = lapi.deps.clock.now_ms();
    match lapi.deps.bouncers.admit(key.as_bytes(), &agent, now_ms) {
        Some(name) => {
            request.extensions_mut().insert(Asker { name, agent });
            next.run(request).await
        }
        None => {
            lapi.failures.note(now_ms, "a bouncer presented no key or a wrong one");
            message(StatusCode::FORBIDDEN, "access forbidden")
        }
    }
}

async fn head() -> StatusCode {
    StatusCode::OK
}

async fn decisions(
    State(lapi): State<Arc<Lapi>>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Response {
    match Filter::read(&parameters) {
        Ok(filter) => respond(Arc::clone(&lapi), move |out: &mut Out| lapi.matching(out, &filter)).await,
        Err(fault) => message(StatusCode::BAD_REQUEST, &fault),
    }
}

async fn stream_decisions(
    State(lapi): State<Arc<Lapi>>,
    Extension(asker): Extension<Asker>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Response {
    let filter = match Filter::read(&parameters) {
        Ok(filter) => filter,
        Err(fault) => return message(StatusCode::BAD_REQUEST, &fault),
    };
    let deletes_first = asker.agent.starts_with(FIREWALL_BOUNCER);
    respond(Arc::clone(&lapi), move |out: &mut Out| {
        let bouncers = &lapi.deps.bouncers;
        let cursor = if filter.startup { None } else { bouncers.cursor(&asker.name) };
        let cursor = lapi.pull(out, &filter, cursor, deletes_first)?;
        bouncers.advance(&asker.name, cursor, lapi.deps.clock.now_ms());
        Ok(())
    })
    .await
}

/// Answers with what `write` writes, on a thread of its own, while it is written.
async fn respond(
    lapi: Arc<Lapi>,
    write: impl FnOnce(&mut Out) -> io::Result<()> + Send + 'static,
) -> Response {
    let Ok(permit) = Arc::clone(&lapi.answers).acquire_owned().await else {
        return message(StatusCode::SERVICE_UNAVAILABLE, "the node is stopping");
    };
    let (pieces, written) = mpsc::channel::<io::Result<Bytes>>(LAPI_PIECES);
    let mut out = Out::new(pieces, Handle::current());
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write(&mut out) {
            tracing::debug!(%error, "an answer to a bouncer was cut off");
            out.cut(error);
        }
        drop(permit);
    });
    let body = stream::unfold(written, async |mut written| Some((written.recv().await?, written)));
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response()
}

fn message(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "message": message }))).into_response()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// How CrowdSec's firewall bouncer names itself.
const FIREWALL_BOUNCER: &str = "crowdsec-firewall-bouncer";
