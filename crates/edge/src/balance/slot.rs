//! A request's place at an upstream: taken when one is chosen, waited for where all are busy, given back when it is over.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use phalanx_model::Reason;
use phalanx_model::net::actor_ip;
use phalanx_policy::balance::Balance;

use super::group::{Endpoint, GroupState, UpstreamGroup};
use super::pick::{Picked, Wish, hash, pick};
use super::sticky;
use crate::client::Client;
use crate::control::Cut;
use crate::reply::Reply;
use crate::request::Request;
use crate::stop::Stop;

/// One request in flight at an endpoint; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) endpoint: Arc<Endpoint>,
}

impl Slot {
    /// Counts the request that the place was taken for.
    pub(crate) fn begins(&self) {
        self.endpoint.state.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a place, if there is one.
    fn take(endpoint: &Arc<Endpoint>) -> Option<Self> {
        let state = &endpoint.state;
        if state.in_flight.fetch_add(1, Ordering::Relaxed) >= endpoint.server.requests_max {
            state.in_flight.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self { endpoint: Arc::clone(endpoint) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Release, and acquire where a wait begins: who waits either sees the place or is woken.
        self.endpoint.state.in_flight.fetch_sub(1, Ordering::SeqCst);
        let limited = self.endpoint.server.requests_max != u32::MAX;
        if limited && self.endpoint.group.waiting.load(Ordering::SeqCst) > 0 {
            self.endpoint.group.freed.notify_one();
        }
    }
}

/// A place at one of the app's upstreams; waits for one where all are busy. Else the request is answered: there is none.
pub(crate) async fn choose(client: &Client, request: &mut Request) -> Result<Slot, Stop> {
    let group = &request.app().upstreams;
    if let Some(only) = group.only()
        && only.is_up()
        && let Some(slot) = Slot::take(only)
    {
        return Ok(slot);
    }
    // Those who wait go first.
    if group.shared().waiting.load(Ordering::Relaxed) == 0 {
        match try_choose(client, request, &[]) {
            Chosen::Slot(slot) => return Ok(slot),
            Chosen::Down => return Err(unavailable(request, Reply::DOWN, "no upstream works")),
            Chosen::Busy | Chosen::Nobody => {}
        }
    }
    let began = Instant::now();
    let chosen = wait(client, request).await;
    request.phases.queue_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    chosen
}

/// The outcome of a choice, with the place taken.
pub(crate) enum Chosen {
    Slot(Slot),
    Busy,
    Down,
    Nobody,
}

/// Chooses without waiting, none of those that were tried.
pub(crate) fn try_choose(client: &Client, request: &Request, tried: &[Arc<Endpoint>]) -> Chosen {
    let group = &request.app().upstreams;
    let wish = Wish { hash: hash_of(group, request), tried };
    group.with_endpoints(|endpoints| {
        if let Some(endpoint) =
            sticky::wanted(group, endpoints, request, &client.worker.shared.settings.sticky_key)
            && !tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint))
            && let Some(slot) = Slot::take(endpoint)
        {
            return Chosen::Slot(slot);
        }
        // Another worker may take the last place in between; a few times are enough, then it is busy.
        for _ in 0..TAKES_MAX {
            match pick(group, endpoints, &wish, &mut || client.worker.next_random()) {
                Picked::One(endpoint) => {
                    if let Some(slot) = Slot::take(&endpoint) {
                        return Chosen::Slot(slot);
                    }
                }
                Picked::Busy => return Chosen::Busy,
                Picked::Down => return Chosen::Down,
                Picked::Nobody => return Chosen::Nobody,
            }
        }
        Chosen::Busy
    })
}

/// What stands for the one who asks, where requests of the same one go to the same upstream.
fn hash_of(group: &UpstreamGroup, request: &Request) -> Option<u64> {
    match &group.balance {
        Balance::LeastRequests | Balance::RoundRobin => None,
        Balance::HashClient => Some(match actor_ip(request.client) {
            std::net::IpAddr::V4(v4) => hash(&v4.octets()),
            std::net::IpAddr::V6(v6) => hash(&v6.octets()),
        }),
        Balance::HashCookie(name) => {
            let fields = request.known.cookie.map(|field| request.head.bytes(field.value));
            fields.and_then(|fields| cookie(fields, name.as_bytes())).map(hash)
        }
    }
}

/// The value of a cookie.
pub(crate) fn cookie<'a>(field: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    field.split(|&byte| byte == b';').map(<[u8]>::trim_ascii).find_map(|pair| {
        let value = pair.strip_prefix(name)?.strip_prefix(b"=")?;
        (!value.is_empty()).then_some(value)
    })
}

/// Waits in the queue, as long as policy says.
async fn wait(client: &Client, request: &mut Request) -> Result<Slot, Stop> {
    let plan = Rc::clone(&request.plan);
    let app = plan.app(request.app);
    let group = &app.upstreams;
    let shared = group.shared();
    let Some(_waiting) = Waiting::enter(shared, group.queue.requests_max) else {
        shared.queue_refused.fetch_add(1, Ordering::Relaxed);
        return Err(unavailable(request, Reply::BUSY, "all upstreams are busy, and the queue is full"));
    };
    let unresolved = group.with_endpoints(<[Arc<Endpoint>]>::is_empty);
    let wait_ms = if unresolved { app.limits.upstream_connect_ms } else { group.queue.wait_max_ms };
    client.control.set_deadline(client.worker.after_ms(wait_ms));
    loop {
        let mut freed = pin!(shared.freed.notified());
        // From here on a place that becomes free is not missed.
        freed.as_mut().enable();
        match try_choose(client, request, &[]) {
            Chosen::Slot(slot) => return Ok(slot),
            Chosen::Down => return Err(unavailable(request, Reply::DOWN, "no upstream works")),
            Chosen::Busy | Chosen::Nobody => {}
        }
        match client.control.run(|cx| freed.as_mut().poll(cx).map(Ok::<_, Cut>)).await {
            Ok(()) => {}
            Err(Cut::Timeout) => {
                client.control.clear_timeout();
                if unresolved {
                    let error = "no address of the upstream is known";
                    return Err(unavailable(request, Reply::UNAVAILABLE, error));
                }
                shared.queue_refused.fetch_add(1, Ordering::Relaxed);
                let error = "all upstreams are busy, and none became free in time";
                return Err(unavailable(request, Reply::BUSY, error));
            }
            Err(cut) => return Err(Stop::Cut(cut)),
        }
    }
}

/// Records why no upstream is asked; the request is answered with `reply`.
fn unavailable(request: &mut Request, reply: Reply, error: &str) -> Stop {
    request.verdict.reason = Reason::Upstream { error: error.to_owned() };
    request.verdict.status = reply.status;
    Stop::Answered(reply)
}

/// A place in the queue.
struct Waiting<'a>(&'a GroupState);

impl<'a> Waiting<'a> {
    fn enter(shared: &'a GroupState, most: usize) -> Option<Self> {
        if shared.waiting.fetch_add(1, Ordering::SeqCst) >= most {
            shared.waiting.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        Some(Self(shared))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

const TAKES_MAX: usize = 8;
