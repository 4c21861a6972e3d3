//! What would change: recorded requests through the policy in force and through another, and where they differ.
//!
//! Flow in names: `Recorded` -> both plans ([`Decided`] each) -> [`Comparison::add`] -> [`Replayed`]. Both see the same bytes, so that whatever
//! masks took from a request, a difference is the policy's.
//!
//! INVARIANT: bounded: groups, and examples and clients of each, have limits; what is beyond them is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use phalanx_model::{Reason, Recorded, Verdict};
use phalanx_record::RecordedSince;

use crate::api::{ReplayChange, ReplayExample, ReplayGroup, Replayed};

/// What a policy decides about a recorded request.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// The app that it is for.
    pub app: Arc<str>,
    /// The route that it meets.
    pub route: Option<Arc<str>>,
    /// The decision.
    pub verdict: Verdict,
    /// The rules that matched.
    pub rules: Vec<u64>,
    /// Its rules would read more of the body than is recorded.
    pub lacks_body: bool,
}

/// Counts where two policies differ.
#[derive(Debug, Default)]
pub struct Comparison {
    report: Replayed,
    groups: BTreeMap<Key, Group>,
}

/// What requests of a group have in common.
type Key = (ReplayChange, String, Option<String>, String);

#[derive(Debug, Default)]
struct Group {
    requests: u64,
    clients: BTreeSet<IpAddr>,
    rules: Option<Vec<u64>>,
    examples: Vec<ReplayExample>,
}

impl Comparison {
    /// How many requests were added.
    pub fn requests(&self) -> u64 {
        self.report.requests
    }

    /// Adds a request, with what the policy in force and the other decide about it.
    pub fn add(&mut self, request: &Recorded, before: &Decided, next: &Decided) {
        self.report.requests += 1;
        self.report.lacks_body += u64::from(before.lacks_body || next.lacks_body);
        let (change, refusing) = match (before.verdict.refuses(), next.verdict.refuses()) {
            (false, true) => (ReplayChange::Refused, next),
            (true, false) => (ReplayChange::Passed, before),
            (false, false) => return self.note_not_reproduced(request),
            (true, true) => return,
        };
        match change {
            ReplayChange::Refused => self.report.newly_refused += 1,
            ReplayChange::Passed => self.report.newly_passed += 1,
        }
        let route = refusing.route.as_deref().map(str::to_owned);
        let key = (change, refusing.app.to_string(), route, why(&refusing.verdict.reason));
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&key) {
            self.report.groups_left_out = 1;
            return;
        }
        self.groups.entry(key).or_default().add(request, refusing);
    }

    /// The whole, once all were added.
    pub fn report(mut self, since_ms: u64, shown: RecordedSince, complete: bool) -> Replayed {
        let groups = self.groups.into_iter().map(|((change, app, route, why), group)| ReplayGroup {
            change,
            app,
            route,
            why,
            rules: group.rules.unwrap_or_default(),
            requests: group.requests,
            clients: group.clients.len() as u64,
            examples: group.examples,
        });
        self.report.groups = groups.collect();
        self.report
            .groups
            .sort_by(|one, other| (one.change, other.requests).cmp(&(other.change, one.requests)));
        self.report.since_ms = since_ms;
        self.report.seen = shown.seen;
        self.report.damaged = shown.damaged as u64;
        self.report.complete = complete;
        self.report
    }

    fn note_not_reproduced(&mut self, request: &Recorded) {
        let verdict = &request.facts.verdict;
        if !verdict.refuses() || !matches!(verdict.reason, Reason::Rule { .. }) {
            return;
        }
        self.report.not_reproduced += 1;
        if self.report.not_reproduced_examples.len() < EXAMPLES_MAX {
            self.report.not_reproduced_examples.push(example(request));
        }
    }
}

impl Group {
    fn add(&mut self, request: &Recorded, refusing: &Decided) {
        self.requests += 1;
        if self.clients.len() < CLIENTS_MAX {
            self.clients.insert(request.facts.client);
        }
        match &mut self.rules {
            None => self.rules = Some(refusing.rules.iter().copied().take(RULES_MAX).collect()),
            Some(rules) => rules.retain(|rule| refusing.rules.contains(rule)),
        }
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example(request));
        }
    }
}

/// A request as it is named in a report.
pub(crate) fn example(request: &Recorded) -> ReplayExample {
    let line = request.head.split(|&byte| byte == b'\r' || byte == b'\n').next().unwrap_or_default();
    let line = line.iter().rposition(|&byte| byte == b' ').and_then(|at| line.get(..at)).unwrap_or(line);
    let text = String::from_utf8_lossy(line.get(..LINE_BYTES_MAX).unwrap_or(line)).into_owned();
    ReplayExample { id: request.facts.id, request: text }
}

/// What refuses, in words.
pub(crate) fn why(reason: &Reason) -> String {
    match reason {
        Reason::Rule { rule } => format!("rule {rule}"),
        Reason::RateLimit(excess) => format!("rate limit {}", excess.limit),
        Reason::Network => "networks".to_owned(),
        Reason::Framing { fault } => match serde_json::to_value(fault) {
            Ok(serde_json::Value::String(name)) => format!("framing: {name}"),
            _ => "framing".to_owned(),
        },
        Reason::Upstream { error } => error.clone(),
        Reason::Failure { .. } => "inspection failed".to_owned(),
        _ => "other".to_owned(),
    }
}

const GROUPS_MAX: usize = 256;
const EXAMPLES_MAX: usize = 5;
const CLIENTS_MAX: usize = 10_000;
const RULES_MAX: usize = 32;
const LINE_BYTES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use phalanx_model::{BodySeen, HttpVersion, RecordedFacts, RequestId};

    use super::*;

    fn request(number: u64, verdict: Verdict) -> Recorded {
        let peer = "192.0.2.1:1".parse().unwrap();
        let facts = RecordedFacts {
            id: RequestId::from_parts(number, 1, number),
            at_ms: number,
            client: IpAddr::from([192, 0, 2, u8::try_from(number).unwrap()]),
            peer,
            local: peer,
            secure: false,
            certified: false,
            version: HttpVersion::Http11,
            app: "shop".into(),
            route: None,
            verdict,
            rules: vec![],
            status: 200,
            plan_version: 1,
            faults: vec![],
            body_bytes: 0,
            seen: BodySeen::Whole,
            masked: false,
        };
        let head = Bytes::from_static(b"GET /search?q=x HTTP/1.1\r\n\r\n");
        Recorded { facts, head, body: Bytes::new(), secret_names: vec![] }
    }

    fn passes() -> Decided {
        let verdict = Verdict::allow(Reason::Clean);
        Decided { app: "shop".into(), route: None, verdict, rules: vec![], lacks_body: false }
    }

    fn refuses(rule: u64, rules: &[u64]) -> Decided {
        let verdict = Verdict::deny(Reason::Rule { rule }, 403);
        Decided { verdict, rules: rules.to_vec(), ..passes() }
    }

    #[test]
    fn differences_are_grouped_by_what_refuses() {
        let mut comparison = Comparison::default();
        let clean = || Verdict::allow(Reason::Clean);
        comparison.add(&request(1, clean()), &passes(), &refuses(7, &[1, 7]));
        comparison.add(&request(2, clean()), &passes(), &refuses(7, &[7]));
        comparison.add(&request(3, clean()), &refuses(9, &[9]), &passes());
        comparison.add(&request(4, clean()), &refuses(9, &[9]), &refuses(7, &[7]));
        comparison.add(&request(5, clean()), &passes(), &passes());
        let report = comparison.report(0, RecordedSince { seen: 9, damaged: 0 }, true);
        assert_eq!((report.requests, report.seen), (5, 9));
        assert_eq!((report.newly_refused, report.newly_passed), (2, 1));
        let groups: Vec<_> = report
            .groups
            .iter()
            .map(|g| (g.change, g.why.as_str(), g.requests, g.rules.as_slice()))
            .collect();
        assert_eq!(
            groups,
            [(ReplayChange::Refused, "rule 7", 2, &[7][..]), (ReplayChange::Passed, "rule 9", 1, &[9][..]),]
        );
        assert_eq!(report.groups[0].examples[0].request, "GET /search?q=x");
        assert_eq!(report.groups[0].clients, 2);
    }

    #[test]
    fn a_refusal_that_nothing_repeats_is_told() {
        let mut comparison = Comparison::default();
        let refused = Verdict::deny(Reason::Rule { rule: 7 }, 403);
        comparison.add(&request(1, refused), &passes(), &passes());
        let report = comparison.report(0, RecordedSince::default(), true);
        assert_eq!((report.newly_passed, report.not_reproduced), (0, 1));
        assert_eq!(report.not_reproduced_examples.len(), 1);
    }
}
