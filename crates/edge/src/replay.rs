//! A recorded request through a plan: what the plan would have decided. Nothing is forwarded, counted, remembered or told.
//!
//! Flow in names: `Recorded` -> head, as the codec reads it -> host, app and route -> allow-list, networks, rate limits -> rules of
//! phases 1 and 2 -> [`Judged`]. The stages and their order are those of `pipeline::on_request_head`.
//!
//! Left out: decisions of the fleet and of operators, which are no policy; whether a client passed its challenge; responses, which are not
//! recorded. What rules remember of clients is read as it stands now, and never written.
//!
//! Failure direction: a rule that panics counts as a stage that failed; the app's `on_error` says what that means.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use phalanx_decide::rate::{Asked, RateRule, RateTable, judge, path};
use phalanx_decide::{Finding, Mode, on_findings, standing};
use phalanx_inspect::{Connection, Outcome, Scratch, Transaction};
use phalanx_model::{
    BodyFraming, BodySeen, FramingFault, HttpVersion, Identities, Reason, Recorded, RequestHead, Signal,
    Verdict, View,
};

use crate::client_address;
use crate::http1::fields::KnownFields;
use crate::http1::parse_head;
use crate::plan::{AppPlan, EdgePlan};
use crate::reply::Reply;

/// What a plan makes of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The app it is for; empty where none answers.
    pub app: Arc<str>,
    /// The route it meets.
    pub route: Option<Arc<str>>,
    /// What is decided.
    pub verdict: Verdict,
    /// The rules that matched, up to the one that refused.
    pub rules: Vec<u64>,
    /// What they found.
    pub signals: Vec<Signal>,
    /// Rules of this plan would look at the body, of which the recording has less than came.
    pub lacks_body: bool,
}

/// A plan that recorded requests are shown to, in the order in which they came: rate limits count as they go.
pub struct Replay {
    plan: Arc<EdgePlan>,
    view: View,
    table: RateTable,
    /// The rate limits with counts of their own: those in force go on undisturbed.
    rates: HashMap<u32, RateRule>,
    scratch: Option<Box<Scratch>>,
}

impl Replay {
    /// A replay through this plan.
    pub fn new(plan: Arc<EdgePlan>) -> Self {
        Self {
            plan,
            view: View::default(),
            table: RateTable::new([0; 16]),
            rates: HashMap::new(),
            scratch: None,
        }
    }

    /// What the plan decides about a request.
    pub fn judge(&mut self, recorded: &Recorded) -> Judged {
        let plan = Arc::clone(&self.plan);
        let facts = &recorded.facts;
        let Some(mut head) = head(recorded) else {
            let verdict = Verdict::deny(Reason::Framing { fault: FramingFault::BadRequestLine }, 400);
            let (app, route) = (Arc::clone(&facts.app), facts.route.clone());
            return Judged { app, route, verdict, rules: Vec::new(), signals: Vec::new(), lacks_body: false };
        };
        let known = KnownFields::of(&head);
        let host = known.host.map(|field| head.bytes(field.value)).unwrap_or_default();
        let app = plan.find(host);
        let found = client_address::find(&head, &known, (facts.peer.ip(), facts.certified), plan.app(app));
        let met = plan.meet(app, &head, || secure(&head, facts.secure, found.peer_trusted));
        if met.ambiguous {
            head.faults.push(FramingFault::AmbiguousPath);
        }
        let app = plan.app(met.app);
        let route = met.route.and_then(|route| plan.route(route)).map(|route| Arc::clone(&route.name));
        let mut judged = Judged {
            app: Arc::clone(&app.name),
            route,
            verdict: Verdict::allow(Reason::Clean),
            rules: Vec::new(),
            signals: Vec::new(),
            lacks_body: false,
        };
        let asks = (recorded, &head, found.client);
        judged.verdict = match self.before_rules(&plan, (met.app.is_some(), app), asks) {
            Ok(allowed) => self.rules(app, asks, allowed, &mut judged),
            Err(verdict) => *verdict,
        };
        judged
    }

    /// What is decided before a rule is asked; else whether the client is on the allow-list.
    fn before_rules(
        &mut self,
        plan: &EdgePlan,
        (exists, app): (bool, &AppPlan),
        (recorded, head, client): Asks<'_>,
    ) -> Result<bool, Box<Verdict>> {
        if let Some(&fault) = head.faults.first() {
            let status = Reply::to_fault(head, fault).status;
            return Err(Box::new(Verdict::deny(Reason::Framing { fault }, status)));
        }
        if !exists {
            let error = "no app answers to this host".to_owned();
            return Err(Box::new(Verdict::deny(Reason::Upstream { error }, Reply::NO_APP.status)));
        }
        let facts = &recorded.facts;
        let allowed = standing(&plan.decide, &self.view, &Identities::of(client), facts.at_ms).is_some();
        if app.networks.as_ref().is_some_and(|networks| !networks.admits(client)) {
            return Err(Box::new(Verdict::deny(Reason::Network, Reply::REFUSED.status)));
        }
        if !allowed {
            self.rates(app, (recorded, head, client))?;
        }
        let announced = match head.framing {
            BodyFraming::Length(bytes) => bytes,
            BodyFraming::None | BodyFraming::Chunked => 0,
        };
        if facts.body_bytes.max(announced) > app.limits.body_bytes {
            let fault = FramingFault::BodyTooLarge;
            return Err(Box::new(Verdict::deny(Reason::Framing { fault }, 413)));
        }
        Ok(allowed)
    }

    fn rates(&mut self, app: &AppPlan, (recorded, head, client): Asks<'_>) -> Result<(), Box<Verdict>> {
        if app.rates.is_empty() {
            return Ok(());
        }
        let rules: Vec<RateRule> = app
            .rates
            .iter()
            .map(|rate| self.rates.entry(rate.tag()).or_insert_with(|| rate.apart()).clone())
            .collect();
        let (mut normal, mut plain) = (Vec::new(), Vec::new());
        path::normalise(head.target(), path::Separators::Any, &mut normal);
        path::normalise(head.target(), path::Separators::Slash, &mut plain);
        let asked = Asked { client, head, paths: [&normal, &plain] };
        let now_ns = recorded.facts.at_ms.saturating_mul(1_000_000);
        match judge(&rules, &self.table, &asked, app.mode == Mode::Block, now_ns, |_, _, _| {}) {
            Some(over) if over.refuses => {
                Err(Box::new(Verdict::deny(Reason::RateLimit(Box::new(over.excess)), 429)))
            }
            _ => Ok(()),
        }
    }

    fn rules(
        &mut self,
        app: &AppPlan,
        (recorded, head, client): Asks<'_>,
        allowed: bool,
        judged: &mut Judged,
    ) -> Verdict {
        let Some(program) = &app.program else { return Verdict::allow(Reason::Clean) };
        let facts = &recorded.facts;
        let connection = Connection {
            client,
            client_port: facts.peer.port(),
            server: facts.local.ip().to_canonical(),
            server_port: facts.local.port(),
            request_id: facts.id,
            now_ms: facts.at_ms,
        };
        let scratch = self.scratch.take().unwrap_or_default();
        let run = || {
            let transaction = Transaction::new(Arc::clone(program), scratch, connection);
            let mut transaction = transaction.within(app.scope.as_ref());
            let mut outcome = transaction.request_head(head);
            let mut lacks_body = false;
            if outcome == Outcome::Pass && transaction.failure().is_none() {
                let (body, complete, lacks) = body(&transaction, recorded, app);
                lacks_body = lacks;
                outcome = transaction.request_body(body, complete);
            }
            let failure = transaction.failure().map(str::to_owned);
            let interruption = match outcome {
                Outcome::Interrupt(stop) => Some((stop.rule, stop.status)),
                Outcome::Pass => None,
            };
            // Not finished: at a transaction's end what rules remember of clients is written.
            let (rules, signals, scratch) = transaction.abandon();
            (interruption, failure, (rules, signals), lacks_body, scratch)
        };
        let ran = catch_unwind(AssertUnwindSafe(run));
        let (interruption, failure) = match ran {
            Ok((interruption, failure, found, lacks_body, scratch)) => {
                self.scratch = Some(scratch);
                (judged.rules, judged.signals) = found;
                judged.lacks_body = lacks_body;
                (interruption, failure)
            }
            Err(_) => (None, Some("inspection panicked".to_owned())),
        };
        let finding = Finding { interruption, score: 0, failure: failure.as_deref() };
        if interruption.is_none() && failure.is_none() {
            return Verdict::allow(Reason::Clean);
        }
        on_findings(app.mode, app.on_error, allowed, &finding)
    }
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("plan", &self.plan.version).finish_non_exhaustive()
    }
}

/// A request, its head as read, and its client under the plan.
type Asks<'a> = (&'a Recorded, &'a RequestHead, std::net::IpAddr);

/// The body as phase 2 is to see it, whether that is all, and whether more came than is here.
fn body(transaction: &Transaction, recorded: &Recorded, app: &AppPlan) -> (Bytes, bool, bool) {
    let facts = &recorded.facts;
    if !transaction.wants_request_body() {
        return (Bytes::new(), facts.body_bytes == 0 || facts.seen == BodySeen::Whole, false);
    }
    let held_max = transaction.request_body_limit().min(app.limits.body_held_bytes);
    let held = recorded.body.slice(..recorded.body.len().min(held_max));
    let complete = facts.seen == BodySeen::Whole && held.len() == recorded.body.len();
    let lacks = match facts.seen {
        BodySeen::Whole => false,
        BodySeen::Part => held.len() < held_max,
        BodySeen::Unseen | BodySeen::Withheld => true,
    };
    // Of a body that is not here rules see none, rather than one that breaks off.
    (held, complete || matches!(facts.seen, BodySeen::Unseen | BodySeen::Withheld), lacks)
}

/// The head as the codec reads it; `None` for bytes that are none.
fn head(recorded: &Recorded) -> Option<RequestHead> {
    let facts = &recorded.facts;
    let mut head = match facts.version {
        // What a stream's head was written down as; of the same length, so that its parts lie where they lay.
        HttpVersion::Http2 => {
            let line = memchr::memchr(b'\n', &recorded.head)?;
            let at = line.checked_sub(HTTP2.len() - 1)?;
            let mut raw = recorded.head.to_vec();
            let version = raw.get_mut(at..=line).filter(|version| *version == HTTP2)?;
            version.copy_from_slice(HTTP1);
            let parsed = parse_head(&raw).ok()?;
            RequestHead { raw: recorded.head.clone(), version: HttpVersion::Http2, ..parsed }
        }
        _ => parse_head(&recorded.head).ok()?,
    };
    // The codec's own word at the time; whether a path is ambiguous is the plan's.
    head.faults = facts.faults.iter().copied().filter(|fault| !OF_PLAN.contains(fault)).collect();
    Some(head)
}

fn secure(head: &RequestHead, tls: bool, peer_trusted: bool) -> bool {
    crate::route::said::is_secure(head, tls, peer_trusted)
}

const HTTP2: &[u8] = b" HTTP/2.0\r\n";
const HTTP1: &[u8] = b" HTTP/1.1\r\n";
/// Faults that another plan may not find.
const OF_PLAN: &[FramingFault] = &[FramingFault::AmbiguousPath, FramingFault::BodyTooLarge];

#[cfg(test)]
mod tests {
    use phalanx_model::{RecordedFacts, RequestId};
    use phalanx_policy::{FileSet, Files, parse_policy};

    use super::*;

    fn plan(app: &str) -> Arc<EdgePlan> {
        let text = format!(
            "[[apps]]\nname = \"shop\"\nhosts = [\"shop.test\"]\nupstream = \"http://127.0.0.1:1\"\nrules = [\"rules\"]\n{app}"
        );
        let rules = "SecRule ARGS:q \"@streq evil\" \"id:1,phase:1,deny\"\nSecRule ARGS_POST:q \"@streq evil\" \"id:2,phase:2,deny\"\n";
        let files = FileSet::new([("rules/own.conf".to_owned(), rules.as_bytes().to_vec())]);
        let (policy, _) = parse_policy("policy.toml", &text).unwrap();
        Arc::new(EdgePlan::compile_from(Files::Set(&files), &policy, &Arc::default()).unwrap().plan)
    }

    fn recorded(version: HttpVersion, line: &str, body: &str) -> Recorded {
        let peer = "192.0.2.1:1".parse().unwrap();
        let facts = RecordedFacts {
            id: RequestId::from_parts(1, 1, 1),
            at_ms: 1_000,
            client: "192.0.2.1".parse().unwrap(),
            peer,
            local: peer,
            secure: false,
            certified: false,
            version,
            app: "shop".into(),
            route: None,
            verdict: Verdict::allow(Reason::Clean),
            rules: vec![],
            status: 200,
            plan_version: 1,
            faults: vec![],
            body_bytes: body.len() as u64,
            seen: BodySeen::Whole,
            masked: false,
        };
        let kind = "Content-Type: application/x-www-form-urlencoded";
        let head = format!(
            "{line} {}\r\nHost: shop.test\r\n{kind}\r\nContent-Length: {}\r\n\r\n",
            version.as_str(),
            body.len()
        );
        let (head, body) = (head.into_bytes().into(), Bytes::copy_from_slice(body.as_bytes()));
        Recorded { facts, head, body, secret_names: vec![] }
    }

    fn reason(plan: &Arc<EdgePlan>, request: &Recorded) -> Reason {
        Replay::new(Arc::clone(plan)).judge(request).verdict.reason
    }

    #[test]
    fn rules_judge_what_was_recorded_in_either_version() {
        let plan = plan("");
        for version in [HttpVersion::Http11, HttpVersion::Http2] {
            assert_eq!(reason(&plan, &recorded(version, "GET /?q=blue", "")), Reason::Clean, "{version:?}");
            assert_eq!(reason(&plan, &recorded(version, "GET /?q=evil", "")), Reason::Rule { rule: 1 });
            assert_eq!(reason(&plan, &recorded(version, "POST /", "q=evil")), Reason::Rule { rule: 2 });
        }
        let mut left_out = recorded(HttpVersion::Http11, "POST /", "q=evil");
        left_out.body = Bytes::new();
        left_out.facts.seen = BodySeen::Withheld;
        let judged = Replay::new(plan).judge(&left_out);
        assert!(judged.lacks_body && !judged.verdict.refuses());
    }

    #[test]
    fn what_comes_before_rules_is_judged_as_in_the_pipeline() {
        let get = recorded(HttpVersion::Http11, "GET /?q=blue", "");
        assert_eq!(reason(&plan("deny_networks = [\"192.0.2.0/24\"]\n"), &get), Reason::Network);
        let evil = recorded(HttpVersion::Http11, "GET /?q=evil", "");
        let observed = Replay::new(plan("mode = \"observe\"\n")).judge(&evil);
        assert!(!observed.verdict.refuses() && observed.rules.contains(&1), "{observed:?}");
        let mut faulty = get.clone();
        faulty.facts.faults = vec![FramingFault::BareLineFeed];
        assert_eq!(reason(&plan(""), &faulty), Reason::Framing { fault: FramingFault::BareLineFeed });
        let mut elsewhere = get;
        elsewhere.head = Bytes::from_static(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n");
        assert!(matches!(reason(&plan(""), &elsewhere), Reason::Upstream { .. }));
    }

    #[test]
    fn limits_count_as_requests_came_and_leave_those_in_force_alone() {
        let plan = plan("[[apps.rate_limits]]\nname = \"all\"\nkey = \"ip\"\nrate = \"2/min\"\nburst = 2\n");
        let mut replay = Replay::new(Arc::clone(&plan));
        let mut refused = Vec::new();
        for second in 0..4 {
            let mut get = recorded(HttpVersion::Http11, "GET /?q=blue", "");
            get.facts.at_ms = 1_000_000 + second * 1_000;
            refused.push(replay.judge(&get).verdict.refuses());
        }
        let mut later = recorded(HttpVersion::Http11, "GET /?q=blue", "");
        later.facts.at_ms = 1_000_000 + 120_000;
        refused.push(replay.judge(&later).verdict.refuses());
        assert_eq!(refused, [false, false, true, true, false]);
        let counts = &plan.apps()[0].rates[0].counts;
        assert_eq!(counts.refused.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
}
