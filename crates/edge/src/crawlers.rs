//! Clients that say that they are crawlers: whether they are is looked into away from requests, by the name of their address, which must lie
//! in the crawler's domains and lead back to the address.
//!
//! Flow in names: a request -> [`look`] -> `Claims` -> a question, once -> [`look_into`], on the thread that keeps the upstreams -> `Claims`.
//!
//! Failure direction: while nothing is known, or the name servers do not answer, whoever claims is a client like any other.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData};
use parking_lot::Mutex;
use phalanx_decide::{Claimed, Crawler, Looked};
use phalanx_model::limits::SIGNALS_KEPT_MAX;
use phalanx_model::{AuthorRole, Clock, Confidence, Reason, RuleClass, RuleInfo, Severity, Verdict};
use tokio::task::spawn_local;

use crate::balance::names::Names;
use crate::client::Client;
use crate::control::Control;
use crate::finding;
use crate::mask::TEXT_BYTES_MAX;
use crate::request::Request;
use crate::tables::NodeTables;

/// What a request's claim comes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    /// Its place among the plan's crawlers.
    place: usize,
    looked: Looked,
}

/// Claims that are to be looked into, oldest first. What finds no room is asked again later.
#[derive(Debug, Default)]
pub struct Questions(Mutex<VecDeque<Question>>);

#[derive(Debug)]
struct Question {
    crawlers: Arc<[Crawler]>,
    place: usize,
    ip: IpAddr,
}

/// Finds out what is known of who a client says that it is. The User-Agent is read once for a connection.
pub(crate) fn look(client: &Client, request: &mut Request) {
    let crawlers = &request.plan.decide.crawlers;
    let key = match client.control.claim.get() {
        Some((agent, key)) if agent == request.agent => key,
        _ => {
            let key = claimed_by(crawlers, request);
            client.control.claim.set(Some((request.agent, key)));
            key
        }
    };
    if key == NONE {
        return;
    }
    let Some(place) = crawlers.iter().position(|crawler| crawler.key == key) else { return };
    let Some(crawler) = crawlers.get(place) else { return };
    let tables = &client.worker.shared.tables;
    let looked = tables.claims.look(crawler, request.client, request.at_ms);
    if looked.ask {
        tables.questions.put(Question { crawlers: Arc::clone(crawlers), place, ip: request.client });
    }
    request.claim = Some(Claim { place, looked });
}

/// Whether the client is a crawler that was verified.
pub(crate) fn is_verified(request: &Request) -> bool {
    request.claim.is_some_and(|claim| claim.looked.claimed == Claimed::Verified)
}

/// Whether a ban does not hold for the client: no node by itself bans a crawler that was verified.
pub(crate) fn spares(request: &Request, verdict: &Verdict) -> bool {
    is_verified(request) && is_a_nodes_ban(verdict)
}

/// The same of a connection, whose client said on it who it is.
pub(crate) fn spares_connection(
    (tables, crawlers): (&NodeTables, &[Crawler]),
    control: &Control,
    (client, verdict): (IpAddr, &Verdict),
    now_ms: u64,
) -> bool {
    let Some((agent, key)) = control.claim.get() else { return false };
    let claimed = || crawlers.iter().find(|crawler| crawler.key == key);
    key != NONE
        && control.agent.get() == Some(agent)
        && is_a_nodes_ban(verdict)
        && claimed().is_some_and(|crawler| tables.claims.is_verified(crawler, client, now_ms))
}

fn is_a_nodes_ban(verdict: &Verdict) -> bool {
    match &verdict.reason {
        Reason::Decision { decision } => verdict.refuses() && decision.author.role == AuthorRole::Node,
        _ => false,
    }
}

/// A false claim is a finding of its own: no rule made it, and it counts against nobody.
pub(crate) fn note_false_claim(request: &mut Request) {
    let Some(Claim { place, looked }) = request.claim else { return };
    if looked.claimed != Claimed::Falsely || !looked.is_evidence || request.signals.len() >= SIGNALS_KEPT_MAX
    {
        return;
    }
    let Some(crawler) = request.plan.decide.crawlers.get(place) else { return };
    let agent = request.known.user_agent.map(|field| request.head.bytes(field.value)).unwrap_or_default();
    let message = format!("says that it is {}, and the name of its address says otherwise", crawler.name);
    let signal = finding::about_field(&FALSE_CLAIM, message, "User-Agent", agent);
    request.signals.push(signal);
}

/// The key of the crawler that a request says that it is from.
fn claimed_by(crawlers: &[Crawler], request: &Request) -> u64 {
    let agent = request.known.user_agent.map(|field| request.head.bytes(field.value)).unwrap_or_default();
    let agent = agent.get(..TEXT_BYTES_MAX).unwrap_or(agent);
    let says = |crawler: &&Crawler| {
        crawler.agents.iter().any(|one| memchr::memmem::find(agent, one.as_bytes()).is_some())
    };
    crawlers.iter().find(says).map_or(NONE, |crawler| crawler.key)
}

impl Questions {
    fn put(&self, question: Question) {
        let mut waiting = self.0.lock();
        if waiting.len() < QUESTIONS_MAX {
            waiting.push_back(question);
        }
    }

    fn take(&self) -> Option<Question> {
        self.0.lock().pop_front()
    }
}

/// Looks into some of the claims that wait; called ten times a second.
pub(crate) fn look_into(tables: &Arc<NodeTables>, names: &Rc<Names>, clock: &Arc<dyn Clock>) {
    for _ in 0..AT_ONCE {
        let Some(under_way) = names.begin() else { return };
        let Some(Question { crawlers, place, ip }) = tables.questions.take() else { return };
        let (tables, names, clock) = (Arc::clone(tables), Rc::clone(names), Arc::clone(clock));
        spawn_local(async move {
            let Some(crawler) = crawlers.get(place) else { return };
            let Ok(resolver) = names.resolver() else { return };
            let found = tokio::time::timeout(PATIENCE, confirm(&resolver, crawler, ip)).await;
            let claimed = found.unwrap_or(Claimed::Unknown);
            tracing::debug!(crawler = %crawler.name, %ip, ?claimed, "a claim was looked into");
            tables.claims.note(crawler.key, ip, claimed, clock.now_ms());
            drop(under_way);
        });
    }
}

/// Forward-confirmed reverse DNS: a name in the crawler's domains that has the address.
async fn confirm(resolver: &TokioResolver, crawler: &Crawler, ip: IpAddr) -> Claimed {
    let names = match resolver.reverse_lookup(Name::from(ip)).await {
        Ok(names) => names,
        Err(error) => return of_error(&error),
    };
    let names = names.answers().iter().filter_map(|record| match &record.data {
        RData::PTR(name) => Some(name.0.to_ascii()),
        _ => None,
    });
    let mut unknown = false;
    for name in names.filter(|name| crawler.has_name(name)).take(NAMES_MAX) {
        match resolver.lookup_ip(name).await {
            Ok(found) if found.iter().any(|one| one.to_canonical() == ip.to_canonical()) => {
                return Claimed::Verified;
            }
            Ok(_) => {}
            Err(error) => unknown |= of_error(&error) == Claimed::Unknown,
        }
    }
    if unknown { Claimed::Unknown } else { Claimed::Falsely }
}

/// That there is no such name is an answer; that nobody says is none.
fn of_error(error: &NetError) -> Claimed {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            Claimed::Falsely
        }
        _ => Claimed::Unknown,
    }
}

static FALSE_CLAIM: LazyLock<Arc<RuleInfo>> = LazyLock::new(|| {
    finding::rule(RuleClass::Detection(Confidence::Medium), Severity::Warning, "phalanx/crawler/false-claim")
});

/// The key of no crawler.
const NONE: u64 = 0;
/// Claims that wait at once. Whoever sends many false ones delays those of others, which count for nothing meanwhile.
const QUESTIONS_MAX: usize = 256;
/// Claims that are looked into in a tenth of a second.
const AT_ONCE: usize = 2;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Names of one address that are looked at.
const NAMES_MAX: usize = 4;
