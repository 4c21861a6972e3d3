//! Which requests are kept for replay: a sample of what came, chosen before anything is copied.
//!
//! Each worker keeps, for each app and window, so many requests that were passed on and so many that were refused or flagged. While there
//! are fewer all are kept. Beyond that a request's chance falls with the number that came before it from the same client to the same
//! route: whoever floods the node takes a place or two, and who else came then keeps his. Which of them it is, nobody can choose.
//!
//! What it costs a request that is not kept: a lock that nobody else wants, a look-up of the app, a hash and a logarithm.
//!
//! Failure direction: without room a request is not kept, which is counted. No request waits, and none is refused.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use phalanx_model::limits::{
    RECORDING_BODY_BYTES_MAX, RECORDING_WAITING_BYTES_MAX, RECORDING_WINDOW_APPS, RECORDING_WINDOW_REQUESTS,
};
use phalanx_model::net::actor_ip;
use phalanx_model::{Action, BodyFraming, BodySeen, Recorded, RecordedBatch, RecordedFacts};

use crate::client::Client;
use crate::client_certificate::is_opened_for;
use crate::request::{InspectedBody, Request};

/// What the workers keep of requests until it is taken.
#[derive(Debug, Default)]
pub struct Recording {
    /// Apps of which nothing is kept.
    except: Vec<String>,
    workers: Mutex<Vec<Arc<Sampler>>>,
    waiting: Arc<Waiting>,
    /// Nobody takes any more.
    closed: AtomicBool,
}

/// Takes what is kept. Once it is dropped nothing is kept any more.
#[derive(Debug)]
pub struct Taker(Arc<Recording>);

/// What waits to be taken, of all workers.
#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicUsize,
    /// Requests that were to be kept and found no room.
    dropped: AtomicU64,
}

/// A worker's part.
#[derive(Debug)]
pub(crate) struct Sampler {
    apps: Mutex<HashMap<Arc<str>, OfApp>>,
    waiting: Arc<Waiting>,
}

#[derive(Debug)]
struct OfApp {
    /// How many came from the same client to the same route, by a hash of both.
    alike: Box<[u32; ALIKE]>,
    passed: Sample,
    refused: Sample,
}

/// The requests with the smallest priorities of those seen.
#[derive(Debug, Default)]
struct Sample {
    seen: u64,
    kept: Vec<(f64, Recorded)>,
}

impl Recording {
    /// Keeps requests of all apps but these.
    pub fn new(except: Vec<String>) -> Self {
        Self { except, ..Self::default() }
    }

    /// For whoever writes down what is kept.
    pub fn taker(self: &Arc<Self>) -> Taker {
        Taker(Arc::clone(self))
    }

    fn take(&self) -> Vec<RecordedBatch> {
        let workers = self.workers.lock().clone();
        let mut batches: HashMap<Arc<str>, RecordedBatch> = HashMap::new();
        for worker in workers {
            // The worker waits for the lock, and so for no more than this.
            let apps = std::mem::take(&mut *worker.apps.lock());
            for (app, of_app) in apps {
                let batch = batches.entry(Arc::clone(&app)).or_insert_with(|| RecordedBatch {
                    app,
                    seen: 0,
                    requests: Vec::new(),
                });
                for sample in [of_app.passed, of_app.refused] {
                    batch.seen += sample.seen;
                    batch.requests.extend(sample.kept.into_iter().map(|(_, request)| request));
                }
            }
        }
        let mut batches: Vec<_> = batches.into_values().collect();
        let mut taken = 0;
        for batch in &mut batches {
            batch.requests.sort_by_key(|request| (request.facts.at_ms, request.facts.id));
            taken += batch.requests.iter().map(weight).sum::<usize>();
        }
        self.waiting.bytes.fetch_sub(taken, Ordering::Relaxed);
        batches
    }

    /// How many requests were to be kept and found no room.
    pub fn dropped(&self) -> u64 {
        self.waiting.dropped.load(Ordering::Relaxed)
    }

    /// A worker's part.
    pub(crate) fn join(&self) -> Arc<Sampler> {
        let apps = Mutex::default();
        let sampler = Arc::new(Sampler { apps, waiting: Arc::clone(&self.waiting) });
        self.workers.lock().push(Arc::clone(&sampler));
        sampler
    }

    fn leaves_out(&self, app: &str) -> bool {
        self.closed.load(Ordering::Relaxed) || self.except.iter().any(|one| one == app)
    }
}

impl Taker {
    /// Takes what was kept since it was last taken.
    pub fn take(&self) -> Vec<RecordedBatch> {
        self.0.take()
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Relaxed);
        // All but what a worker keeps at this very moment: no more than a request each.
        self.0.take();
    }
}

impl Sampler {
    /// Counts a request, and keeps what `copy` makes of it if it is one of the sample and there is room for its bytes. `random` is uniform.
    fn note(
        &self,
        (app, alike, refused): (&Arc<str>, usize, bool),
        (random, bytes): (u64, usize),
        copy: impl FnOnce() -> Recorded,
    ) {
        let mut apps = self.apps.lock();
        if !apps.contains_key(app) {
            if apps.len() >= RECORDING_WINDOW_APPS {
                self.waiting.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let fresh =
                OfApp { alike: Box::new([0; ALIKE]), passed: Sample::default(), refused: Sample::default() };
            apps.insert(Arc::clone(app), fresh);
        }
        let Some(of_app) = apps.get_mut(app) else { return };
        let Some(count) = of_app.alike.get_mut(alike % ALIKE) else { return };
        *count = count.saturating_add(1);
        let priority = priority(random, *count);
        let sample = if refused { &mut of_app.refused } else { &mut of_app.passed };
        sample.seen += 1;
        if sample.admits(priority) {
            sample.keep((priority, bytes), copy, &self.waiting);
        }
    }
}

impl Sample {
    fn admits(&self, priority: f64) -> bool {
        self.kept.len() < RECORDING_WINDOW_REQUESTS || self.kept.iter().any(|(other, _)| priority < *other)
    }

    /// Nothing is copied for which there is no room, and nothing makes way for it.
    fn keep(&mut self, (priority, bytes): (f64, usize), copy: impl FnOnce() -> Recorded, waiting: &Waiting) {
        if waiting.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > RECORDING_WAITING_BYTES_MAX {
            waiting.bytes.fetch_sub(bytes, Ordering::Relaxed);
            waiting.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if self.kept.len() >= RECORDING_WINDOW_REQUESTS
            && let Some(place) = self.last()
        {
            let (_, gone) = self.kept.swap_remove(place);
            waiting.bytes.fetch_sub(weight(&gone), Ordering::Relaxed);
        }
        let request = copy();
        debug_assert_eq!(weight(&request), bytes);
        self.kept.push((priority, request));
    }

    /// The place of the largest priority.
    fn last(&self) -> Option<usize> {
        let with_places = self.kept.iter().enumerate();
        with_places.max_by(|(_, (one, _)), (_, (other, _))| one.total_cmp(other)).map(|(place, _)| place)
    }
}

/// Whether the body that rules saw is to be at hand at the request's end.
pub(crate) fn wants_body(client: &Client, request: &Request) -> bool {
    let recording = client.worker.shared.settings.recording.as_ref();
    recording.is_some_and(|recording| !recording.leaves_out(&request.app().name))
}

/// Counts a request that is over, and keeps it if it is one of the sample.
pub(crate) fn note(client: &Client, request: &Request) {
    let worker = &client.worker;
    let (Some(recording), Some(sampler)) = (&worker.shared.settings.recording, &worker.sampler) else {
        return;
    };
    let app = &request.app().name;
    // Where TLS is passed on unopened there was no request.
    if request.passed.is_some() || recording.leaves_out(app) {
        return;
    }
    let refused = request.verdict.action != Action::Allow
        || !request.signals.is_empty()
        || !request.head.faults.is_empty();
    let alike = alike(request.client, request.route);
    let (body, seen) = body(client, request);
    let bytes = request.head.raw.len() + body.len() + FACTS_BYTES;
    let copy = || copy(client, request, Bytes::copy_from_slice(body), seen);
    sampler.note((app, alike, refused), (worker.next_random(), bytes), copy);
}

fn copy(client: &Client, request: &Request, body: Bytes, seen: BodySeen) -> Recorded {
    let certified = client.tls.is_some_and(|agreed| agreed.certified)
        && is_opened_for(client.opened.as_deref(), request.app());
    let route = request.route.and_then(|route| request.plan.route(route));
    let facts = RecordedFacts {
        id: request.id,
        at_ms: request.at_ms,
        client: request.client,
        peer: client.peer,
        local: client.local,
        secure: client.tls.is_some(),
        certified,
        version: request.head.version,
        app: Arc::clone(&request.app().name),
        route: route.map(|route| Arc::clone(&route.name)),
        verdict: request.verdict.clone(),
        rules: request.signals.iter().map(|signal| signal.rule.id).collect(),
        status: request.status,
        plan_version: request.plan.version,
        faults: request.head.faults.clone(),
        // What a tunnel carried afterwards is no body.
        body_bytes: if request.status == 101 { 0 } else { request.request_bytes },
        seen,
        masked: false,
    };
    // Copied, for the buffer that it lies in may be much larger.
    let head = Bytes::copy_from_slice(&request.head.raw);
    let accounts = &request.app().accounts;
    let declared = accounts.endpoints.iter().filter_map(|endpoint| endpoint.secret.as_ref());
    let secret_names = declared.chain(&accounts.session_header).cloned().collect();
    Recorded { facts, head, body, secret_names }
}

/// Whether a body is too large to be recorded.
pub(crate) fn withholds(body: &Bytes) -> bool {
    body.len() > RECORDING_BODY_BYTES_MAX
}

fn body<'a>(client: &Client, request: &'a Request) -> (&'a [u8], BodySeen) {
    match &request.inspected_body {
        Some(InspectedBody::Withheld) => (&[], BodySeen::Withheld),
        Some(InspectedBody::Held(held, _)) if withholds(held) => (&[], BodySeen::Withheld),
        Some(InspectedBody::Held(held, true)) => (held, BodySeen::Whole),
        Some(InspectedBody::Held(held, false)) => (held, BodySeen::Part),
        None if request.head.framing == BodyFraming::None => (&[], BodySeen::Whole),
        // Nobody read it, but that nothing came is known.
        None if request.request_bytes == 0 && client.body.is_done() => (&[], BodySeen::Whole),
        None => (&[], BodySeen::Unseen),
    }
}

/// How a request ranks among others of its app and window: the smallest are kept. Exponential variates of a rate that falls with each
/// request alike (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006): of `n` alike requests all together count as
/// much as some `ln n` others.
fn priority(random: u64, count: u32) -> f64 {
    // 53 bits, never 0.
    let uniform = ((random >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
    -uniform.ln() * f64::from(count)
}

fn alike(client: IpAddr, route: Option<u32>) -> usize {
    let client = match actor_ip(client) {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).unwrap_or_default(),
    };
    let route = route.map_or(0, |route| u64::from(route) + 1);
    let mixed = (client ^ route.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    usize::try_from(mixed).unwrap_or_default()
}

fn weight(request: &Recorded) -> usize {
    request.head.len() + request.body.len() + FACTS_BYTES
}

/// Places in which requests from the same client to the same route are counted; who shares one shares its chance.
const ALIKE: usize = 1024;
/// What a request takes beside its bytes, about.
const FACTS_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use phalanx_model::{HttpVersion, Reason, RequestId, Verdict};

    use super::*;

    fn request(client: &str, number: u64) -> Recorded {
        let peer = "192.0.2.1:1".parse().unwrap();
        let facts = RecordedFacts {
            id: RequestId::from_parts(number, 1, number),
            at_ms: number,
            client: client.parse().unwrap(),
            peer,
            local: peer,
            secure: false,
            certified: false,
            version: HttpVersion::Http11,
            app: "shop".into(),
            route: None,
            verdict: Verdict::allow(Reason::Clean),
            rules: vec![],
            status: 200,
            plan_version: 1,
            faults: vec![],
            body_bytes: 0,
            seen: BodySeen::Whole,
            masked: false,
        };
        Recorded {
            facts,
            head: Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"),
            body: Bytes::new(),
            secret_names: vec![],
        }
    }

    fn send(sampler: &Sampler, client: &str, number: u64, random: &mut u64) {
        *random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let mixed = (*random ^ (*random >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let app: Arc<str> = "shop".into();
        let place = (&app, alike(client.parse().unwrap(), None), false);
        sampler.note(place, (mixed, weight(&request(client, number))), || request(client, number));
    }

    #[test]
    fn few_requests_are_all_kept_in_their_order() {
        let recording = Recording::default();
        let sampler = recording.join();
        let mut random = 1;
        for number in 0..RECORDING_WINDOW_REQUESTS as u64 {
            send(&sampler, "192.0.2.7", number, &mut random);
        }
        let batches = recording.take();
        assert_eq!(batches.len(), 1);
        let times: Vec<u64> = batches[0].requests.iter().map(|request| request.facts.at_ms).collect();
        assert_eq!(times, (0..RECORDING_WINDOW_REQUESTS as u64).collect::<Vec<_>>());
        assert_eq!((batches[0].seen, recording.dropped()), (RECORDING_WINDOW_REQUESTS as u64, 0));
        assert!(recording.take().is_empty());
        assert_eq!(recording.waiting.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_flood_does_not_push_out_others() {
        let recording = Recording::default();
        let sampler = recording.join();
        let mut random = 7;
        for number in 0..20_000 {
            send(&sampler, "192.0.2.7", number, &mut random);
            if number % 1_000 == 500 {
                send(&sampler, &format!("198.51.100.{}", number / 1_000), number, &mut random);
            }
        }
        let batch = recording.take().remove(0);
        let of_flood = |request: &&Recorded| request.facts.client == "192.0.2.7".parse::<IpAddr>().unwrap();
        let flood = batch.requests.iter().filter(of_flood).count();
        assert_eq!((batch.seen, batch.requests.len()), (20_020, RECORDING_WINDOW_REQUESTS));
        // Of twenty others each sent one; the flood's 20,000 weigh as much as ln 20,000, ten.
        assert!(flood <= 20, "{flood} of the sample are the flood's");
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let recording = Recording::default();
        let sampler = recording.join();
        recording.waiting.bytes.store(RECORDING_WAITING_BYTES_MAX, Ordering::Relaxed);
        send(&sampler, "192.0.2.7", 1, &mut 1);
        assert_eq!((recording.dropped(), recording.take()[0].requests.len()), (1, 0));
    }

    #[test]
    fn what_finds_no_room_is_not_copied_and_pushes_nothing_out() {
        let recording = Recording::default();
        let mut random = 1;
        let sampler = recording.join();
        for number in 0..RECORDING_WINDOW_REQUESTS as u64 {
            send(&sampler, "192.0.2.7", number, &mut random);
        }
        let app: Arc<str> = "shop".into();
        // Of all priorities the smallest.
        let place = (&app, 0, false);
        sampler.note(place, (u64::MAX, RECORDING_WAITING_BYTES_MAX), || panic!("copied for nothing"));
        let kept = recording.take().remove(0).requests.len();
        assert_eq!((recording.dropped(), kept), (1, RECORDING_WINDOW_REQUESTS));
        assert_eq!(recording.waiting.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn nothing_is_kept_once_nobody_takes_it() {
        let recording = Arc::new(Recording::new(vec!["blog".into()]));
        let sampler = recording.join();
        let taker = recording.taker();
        send(&sampler, "192.0.2.7", 1, &mut 1);
        assert_eq!(taker.take().len(), 1);
        assert_eq!((recording.leaves_out("shop"), recording.leaves_out("blog")), (false, true));
        send(&sampler, "192.0.2.7", 2, &mut 1);
        drop(taker);
        assert!(recording.leaves_out("shop") && recording.take().is_empty());
        assert_eq!(recording.waiting.bytes.load(Ordering::Relaxed), 0);
    }
}
