//! One request on its way through the pipeline, and what is known of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use phalanx_inspect::Audit;
use phalanx_model::counters::Phase;
use phalanx_model::{
    ChallengeStep, FramingFault, HttpVersion, Phases, Raised, Reason, RequestHead, RequestId, Signal, Verdict,
};

use crate::accounts::Attempt;
use crate::audit::Fields;
use crate::challenge;
use crate::client::{Arrived, Client};
use crate::client_address::{self, Disbelief};
use crate::client_certificate::is_opened_for;
use crate::crawlers;
use crate::http1::FieldKind;
use crate::http1::fields::{KnownFields, list};
use crate::plan::{AppPlan, LocalPlan, Met};
use crate::route::Handling;
use crate::route::said::is_secure;
use crate::stages::Inspection;
use crate::tables::HeldBytes;
use crate::trace::{TraceContext, traceparent};

/// A request and what became of it so far.
pub(crate) struct Request {
    pub(crate) head: RequestHead,
    pub(crate) known: KnownFields,
    pub(crate) id: RequestId,
    pub(crate) plan: LocalPlan,
    pub(crate) app: Option<usize>,
    /// The route that it meets.
    pub(crate) route: Option<u32>,
    /// The client, after trusted forwarders.
    pub(crate) client: IpAddr,
    /// The peer is one of the app's trusted forwarders.
    pub(crate) peer_trusted: bool,
    /// What was not believed of forwarding fields.
    pub(crate) disbelief: Option<Disbelief>,
    /// The client's hash; see [`phalanx_model::Actor::Client`].
    pub(crate) agent: u64,
    /// Nothing the client asks for is refused.
    pub(crate) allowed: bool,
    pub(crate) inspection: Inspection,
    /// The order that raises the paranoia of the rules that inspect it.
    pub(crate) raised: Option<Raised>,
    /// The body that phase 2 saw, where it is looked at once more.
    pub(crate) inspected_body: Option<InspectedBody>,
    /// What it tries with an account, once its body told.
    pub(crate) attempt: Option<Box<Attempt>>,
    /// The memory that held bodies and their inspection take, once they take any.
    pub(crate) held: Option<HeldBytes>,
    pub(crate) verdict: Verdict,
    pub(crate) signals: Vec<Signal>,
    /// What the audit log shows of it, once that is known.
    pub(crate) audit: Option<Audit>,
    /// The reply's header fields; empty where the node has no audit log.
    pub(crate) reply_fields: Fields,
    /// The client may send another request on its connection.
    pub(crate) keep_alive: bool,
    /// What it is said to be spoken in, where it stands for a connection that is passed on unopened.
    pub(crate) passed: Option<&'static str>,
    /// Part of a reply is with the client: no other reply can follow.
    pub(crate) replied: bool,
    pub(crate) at_ms: u64,
    pub(crate) started: Instant,
    pub(crate) status: u16,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) upstream_us: u64,
    /// The upstream that was asked last.
    pub(crate) upstream: Option<Arc<str>>,
    /// Where its time went, as far as that is known.
    pub(crate) phases: Phases,
    pub(crate) trace: TraceContext,
    pub(crate) view_revision: u64,
    /// The crawler that its client says that it is.
    pub(crate) claim: Option<crawlers::Claim>,
    /// What it had to do with a challenge.
    pub(crate) challenge: Option<ChallengeStep>,
    /// What a challenge, or the answer to one, leads to.
    pub(crate) outcome: Option<Box<challenge::Outcome>>,
    /// Others of its client came to the same, and are kept as evidence: this one is in the access log alone.
    pub(crate) repeats: bool,
    /// Header fields that tell the client what is left of rate limits, as they are sent; empty where none does.
    pub(crate) rate_fields: Vec<u8>,
}

/// A body that phase 2 saw, for who looks at it once the request is over.
pub(crate) enum InspectedBody {
    /// It, and whether it was whole.
    Held(Bytes, bool),
    /// It was too large for whoever would look at it.
    Withheld,
}

impl Request {
    /// Finds out whom a head is from and which app it is for.
    pub(crate) fn begin(client: &Client, arrived: Arrived) -> Self {
        let worker = &client.worker;
        let Arrived { mut head, started, head_us } = arrived;
        let known = KnownFields::of(&head);
        let plan = worker.plan();
        let host = known.host.map(|field| head.bytes(field.value)).unwrap_or_default();
        let app = plan.find(host);
        let certified = client.tls.is_some_and(|agreed| agreed.certified)
            && is_opened_for(client.opened.as_deref(), plan.app(app));
        let found = client_address::find(&head, &known, (client.peer.ip(), certified), plan.app(app));
        let Met { app, route, ambiguous } =
            plan.meet(app, &head, || is_secure(&head, client.tls.is_some(), found.peer_trusted));
        if ambiguous {
            head.faults.push(FramingFault::AmbiguousPath);
        }
        let at_ms = worker.shared.clock.now_ms();
        let settings = &worker.shared.settings.trace;
        let context = traceparent(&head, &known);
        let trace = TraceContext::of(settings, context, found.peer_trusted, || worker.next_random());
        Self {
            id: worker.new_request_id(at_ms),
            agent: agent_hash(&head, &known),
            keep_alive: keeps_alive(&head, &known) && !client.lets_go() && !client.is_spent(),
            client: found.client,
            peer_trusted: found.peer_trusted,
            disbelief: found.disbelief,
            app,
            route,
            plan,
            known,
            head,
            allowed: false,
            inspection: Inspection::default(),
            raised: None,
            inspected_body: None,
            attempt: None,
            held: None,
            verdict: Verdict::allow(Reason::Clean),
            signals: Vec::new(),
            audit: None,
            reply_fields: Fields::new(),
            passed: None,
            replied: false,
            at_ms,
            started,
            status: 0,
            request_bytes: 0,
            response_bytes: 0,
            upstream_us: 0,
            upstream: None,
            phases: Phases { head_us, ..Phases::default() },
            trace,
            view_revision: worker.shared.view.load().revision,
            claim: None,
            challenge: None,
            outcome: None,
            repeats: false,
            rate_fields: Vec::new(),
        }
    }

    /// The app the request is for.
    pub(crate) fn app(&self) -> &AppPlan {
        self.plan.app(self.app)
    }

    /// What is done with it beyond forwarding.
    pub(crate) fn handling(&self) -> Option<&Handling> {
        self.plan.handling(self.app, self.route)
    }

    /// Whether it is a HEAD request.
    pub(crate) fn is_head(&self) -> bool {
        self.head.method() == b"HEAD"
    }

    /// The head of the upstream's response is there.
    pub(crate) fn upstream_answered(&mut self, client: &Client) {
        self.upstream_us = self.elapsed_us();
        let Phases { head_us, queue_us, .. } = self.phases;
        let before = [head_us, queue_us, self.inspection.spent_us(), client.connect_us()];
        let before = before.into_iter().fold(0, u64::saturating_add);
        self.phases.upstream_us = self.upstream_us.saturating_sub(before);
    }

    /// Counts where its time went, which is known once it is over.
    pub(crate) fn count_times(&mut self, client: &Client) -> u64 {
        let total_us = self.elapsed_us();
        self.phases.inspect_us = self.inspection.spent_us();
        self.phases.connect_us = client.connect_us();
        let counters = &client.worker.counters;
        let Phases { head_us, inspect_us, queue_us, connect_us, upstream_us } = self.phases;
        counters.count_phase(Phase::Head, head_us);
        let others = [
            (Phase::Inspect, inspect_us),
            (Phase::Queue, queue_us),
            (Phase::Connect, connect_us),
            (Phase::Upstream, upstream_us),
        ];
        for (phase, us) in others.into_iter().filter(|(_, us)| *us > 0) {
            counters.count_phase(phase, us);
        }
        counters.apps.count(self.plan.slot(self.app), self.status, total_us);
        total_us
    }

    /// Microseconds since the first byte of the head.
    pub(crate) fn elapsed_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Whether the client's connection persists after this request (RFC 9112 section 9.3).
pub(crate) fn keeps_alive(head: &RequestHead, known: &KnownFields) -> bool {
    let mut keep_alive = head.version != HttpVersion::Http10;
    if known.connection {
        for (name, value) in head.headers() {
            if FieldKind::of(name) != FieldKind::Connection {
                continue;
            }
            for option in list(value) {
                if option.eq_ignore_ascii_case(b"close") {
                    return false;
                }
                keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
    }
    keep_alive
}

/// A hash of what a client says of itself: its User-Agent, and the order in which it writes the fields that it sends
/// with every request. The same on every node and in every version, because decisions about clients travel.
fn agent_hash(head: &RequestHead, known: &KnownFields) -> u64 {
    let mut hash = 0x5068_616c_616e_7821;
    let mut mix = |word: u64| {
        hash = (hash ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
        hash ^= hash >> 32;
    };
    for field in &head.fields {
        mix(match FieldKind::of(head.bytes(field.name)) {
            FieldKind::Host => 1,
            FieldKind::UserAgent => 2,
            FieldKind::Accept => 3,
            FieldKind::AcceptEncoding => 4,
            FieldKind::AcceptLanguage => 5,
            _ => continue,
        });
    }
    let agent = known.user_agent.map(|field| head.bytes(field.value)).unwrap_or_default();
    for chunk in agent.chunks(8) {
        let mut word = [0; 8];
        for (place, byte) in word.iter_mut().zip(chunk) {
            *place = *byte;
        }
        mix(u64::from_le_bytes(word));
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::parse_head;

    fn agent(fields: &str) -> u64 {
        let head = parse_head(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap();
        agent_hash(&head, &KnownFields::of(&head))
    }

    #[test]
    fn a_client_is_known_by_its_agent_and_the_order_of_its_fields() {
        let one = agent("User-Agent: x\r\nAccept: */*\r\n");
        assert_eq!(one, agent("User-Agent: x\r\nCookie: a=b\r\nAccept: text/html\r\n"));
        assert_ne!(one, agent("User-Agent: y\r\nAccept: */*\r\n"));
        assert_ne!(one, agent("Accept: */*\r\nUser-Agent: x\r\n"));
        // Written down because other nodes and versions must agree on it.
        assert_eq!(agent("User-Agent: curl/8.0\r\nAccept: */*\r\n"), AGENT_OF_CURL);
    }

    const AGENT_OF_CURL: u64 = 0x79cc_d607_8907_fcfe;

    #[test]
    fn connections_persist_as_the_version_and_fields_say() {
        let keeps = |version: &str, fields: &str| {
            let raw = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
            let head = parse_head(raw.as_bytes()).unwrap();
            keeps_alive(&head, &KnownFields::of(&head))
        };
        assert!(keeps("1.1", ""));
        assert!(!keeps("1.1", "Connection: x, Close\r\n"));
        assert!(!keeps("1.0", ""));
        assert!(keeps("1.0", "Connection: keep-alive\r\n"));
        assert!(!keeps("1.0", "Connection: keep-alive\r\nConnection: close\r\n"));
    }
}
