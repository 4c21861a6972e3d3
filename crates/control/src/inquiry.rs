//! What nodes have served, asked of all of them: questions of operators at other nodes are answered from this node's history,
//! redacted.
//!
//! INVARIANT: what leaves a node has no query string, no body, no header value and no full address of a client; nothing that a
//! stranger wrote but the path, which is cut, and, in a suggestion, what an exclusion would name.

mod counted;

use std::net::IpAddr;
use std::sync::Arc;

use phalanx_fleet::{FleetHandle, Question};
use phalanx_model::id::node_tag;
use phalanx_model::{Action, Prefix, Reason, RequestId};
use phalanx_record::{
    By, Consequence, CopiedCounts, Explanation, Filter, History, RecordError, RecordedRequest, RefusedClient,
    Traffic, TrafficQuery,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::suggesting::{Suggested, Suggester};

pub(crate) use counted::{PARTS, ReportCounts, ReportQuestion, add_clients, most_refused};

/// Each control node, `SITE/NODE`, with which counts it is asked for.
pub(crate) type OfCopies = Vec<(String, Vec<u64>)>;

/// A question, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Asked {
    /// One request.
    Request(RequestId),
    /// The latest refused and flagged requests.
    Latest {
        /// Only of this address.
        client: Option<IpAddr>,
        /// Only with this action.
        action: Option<Action>,
        /// Only those that this rule matched.
        rule: Option<u64>,
        /// Only older ones.
        before: Option<RequestId>,
        /// Only those that arrived at this time or later.
        since_ms: Option<u64>,
        /// At most this many.
        limit: usize,
    },
    /// Those that a filter of this version describes; nodes before it do not answer.
    Search(Box<Filter>),
    /// The same, of what a control node has of other nodes of its site, which the filter names. Nodes before it do not answer.
    Copies(Box<Filter>),
    /// Requests over time.
    Traffic(TrafficQuery),
    /// The same, of what control nodes have of other nodes' counts. Nodes before it do not answer.
    CopiedTraffic {
        /// What is asked.
        query: TrafficQuery,
        /// Who is asked for which.
        of: OfCopies,
    },
    /// The clients refused most, and when.
    Actors {
        /// From this time on.
        from_ms: u64,
        /// Until this time.
        to_ms: u64,
        /// The time between two points; nodes of earlier versions say none, and are told none.
        #[serde(default)]
        step_ms: u64,
        /// Only for these apps.
        apps: Option<Vec<String>>,
    },
    /// All that a report counts, in one question; nodes before this version do not answer.
    Report(ReportQuestion),
    /// The same, of what control nodes have of other nodes' counts.
    CopiedReport {
        /// What is asked.
        question: ReportQuestion,
        /// Who is asked for which.
        of: OfCopies,
    },
    /// What would let a request pass; nodes before this version do not answer.
    Suggest(RequestId),
}

/// A request that another node served, redacted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedactedRequest {
    /// The request's id.
    pub id: RequestId,
    /// When it arrived, in Unix milliseconds.
    pub at_ms: u64,
    /// The site of the node that served it.
    pub site: Arc<str>,
    /// The node that served it.
    pub node: Arc<str>,
    /// The app it was for.
    pub app: Arc<str>,
    /// The network of the client: /24 or /48.
    pub network: String,
    /// The method.
    pub method: String,
    /// The path, without the query string, cut.
    pub path: String,
    /// Status of the reply.
    pub status: u16,
    /// What was done.
    pub action: Action,
    /// Why: what kind of reason, and which rule, decision or limit.
    pub reason: String,
    /// The rules that matched.
    pub rule_ids: Vec<u64>,
    /// Inbound anomaly score.
    pub score: i32,
    /// Decisions that it led to.
    pub led_to: Vec<String>,
    /// Why, in plain words, in the order in which it mattered; only of one request that is asked for by its id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub summary: Vec<String>,
    /// The control node that told it of its copy, `SITE/NODE`; none if the node that served it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_by: Option<String>,
}

impl RedactedRequest {
    pub(crate) fn of(record: &RecordedRequest, led_to: Vec<String>) -> Self {
        let access = &record.access;
        let path = access.target.split(['?', '#', ';']).next().unwrap_or_default();
        let mut rule_ids = record.rule_ids();
        rule_ids.truncate(RULES_MAX);
        Self {
            id: access.id,
            at_ms: access.at_ms,
            site: Arc::clone(&record.site),
            node: Arc::clone(&record.node),
            app: Arc::clone(&access.app),
            network: network(access.client),
            method: access.method.chars().take(METHOD_CHARS_MAX).collect(),
            path: path.chars().take(PATH_CHARS_MAX).collect(),
            status: access.status,
            action: access.verdict.action,
            reason: reason(&access.verdict.reason),
            rule_ids,
            score: access.verdict.score,
            led_to,
            summary: Vec::new(),
            copied_by: None,
        }
    }
}

/// What other nodes answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FleetEvents {
    /// What was found, newest first.
    pub requests: Vec<RedactedRequest>,
    /// The nodes that answered, `SITE/NODE`.
    pub answered: Vec<String>,
    /// The nodes that did not answer in time, `SITE/NODE`.
    pub silent: Vec<String>,
    /// The nodes that did not answer, `SITE/NODE`, of whose history a control node of their site has a copy, and told what it found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copied: Vec<String>,
    /// Until where all that answered have looked: a search `before` this goes on. None if there is nothing older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<RequestId>,
}

/// What a node counted, and what else it can tell.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct There<T> {
    #[serde(flatten)]
    pub(crate) counted: T,
    /// Which counts these are; nodes of before do not say.
    #[serde(default)]
    pub(crate) told: Option<u64>,
    /// Of whose counts of that time there are copies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) copies: Vec<CopiedCounts>,
}

impl<T: Serialize> There<T> {
    /// What this node can tell beside what it counted since a time.
    pub(crate) fn of(
        counted: T,
        history: &History,
        copies: Option<&History>,
        from_ms: u64,
    ) -> Result<Self, RecordError> {
        // Damaged copies are no reason not to tell what was counted here.
        let copies = copies.and_then(|copies| copies.copied_counts(from_ms, COPIES_TOLD_MAX).ok());
        Ok(Self { counted, told: Some(history.counts_told()?), copies: copies.unwrap_or_default() })
    }

    /// As it travels: with as many copies named as fit, of nodes that are gone first.
    fn into_bytes(mut self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(&self)?;
        while bytes.len() > TOLD_BYTES_MAX && !self.copies.is_empty() {
            self.copies.truncate(self.copies.len() / 2);
            bytes = serde_json::to_vec(&self)?;
        }
        Ok(bytes)
    }
}

/// Answers questions of operators at other nodes, until the fleet ends.
pub async fn answer_all(fleet: FleetHandle, suggester: Suggester, copies: Option<History>) {
    let mut questions = fleet.questions();
    let suggesting = Arc::new(Semaphore::new(1));
    let me = fleet.members().into_iter().find(|one| one.me).map(|me| (me.site, me.node)).unwrap_or_default();
    // One after the other: an operator's questions must not take the history from its own node's operators.
    while let Some(question) = questions.recv().await {
        let Ok(asked) = serde_json::from_slice(&question.bytes) else { continue };
        if let Asked::Suggest(id) = asked {
            // It may take long, and refuses a second one meanwhile; the others need not wait for it.
            let one = Arc::clone(&suggesting).try_acquire_owned().ok();
            tokio::spawn(suggest(suggester.clone(), id, question, one));
            continue;
        }
        let (history, copies, me) = (suggester.history.clone(), copies.clone(), me.clone());
        let answered =
            tokio::task::spawn_blocking(move || answer(&history, copies.as_ref(), &me, asked)).await;
        if let Ok(Some(answer)) = answered {
            question.answer(&answer).await;
        }
    }
}

/// Without a permit another one is under way.
async fn suggest(
    suggester: Suggester,
    id: RequestId,
    question: Question,
    permit: Option<OwnedSemaphorePermit>,
) {
    let told = match permit {
        Some(_) => suggester.tell(id).await,
        None => Some(Suggested::Busy),
    };
    let Some(told) = told else { return };
    if let Ok(answer) = serde_json::to_vec(&told) {
        question.answer(&answer).await;
    }
}

fn answer(
    history: &History,
    copies: Option<&History>,
    (site, node): &(Arc<str>, Arc<str>),
    asked: Asked,
) -> Option<Vec<u8>> {
    let bytes = match asked {
        Asked::Suggest(_) => return None,
        Asked::Request(id) => {
            let record = history.request(id).ok()??;
            serde_json::to_vec(&[with_what_followed(history, &record)])
        }
        Asked::Latest { client, action, rule, before, since_ms, limit } => {
            let limit = limit.clamp(1, LATEST_MAX);
            let filter = Filter { before, since_ms, client, action, rule, limit, ..Filter::default() };
            serde_json::to_vec(&search(history, &filter)?.requests)
        }
        Asked::Search(mut filter) => {
            filter.limit = filter.limit.clamp(1, LATEST_MAX);
            serde_json::to_vec(&search(history, &filter)?)
        }
        Asked::Copies(mut filter) => {
            filter.limit = filter.limit.clamp(1, LATEST_MAX);
            serde_json::to_vec(&copied(copies?, &filter, site)?)
        }
        Asked::Traffic(mut query) => {
            query.series_max = query.series_max.min(SERIES_TOLD_MAX);
            let counted = history.traffic(&query).ok()?;
            There::of(counted, history, copies, query.from_ms).ok()?.into_bytes()
        }
        Asked::CopiedTraffic { mut query, of } => {
            query.series_max = query.series_max.min(SERIES_TOLD_MAX);
            serde_json::to_vec(&copies?.copied_traffic(&query, &asked_of(of, site, node)?).ok()?)
        }
        Asked::Actors { from_ms, to_ms, step_ms, apps } => {
            let (by, refused, series_max) = (By::Action, true, ACTORS_MAX);
            let query = TrafficQuery { from_ms, to_ms, step_ms, by, refused, apps, series_max };
            let mut clients = history.refused_clients(&query, ACTORS_MAX).ok()?;
            clients.iter_mut().for_each(redact);
            serde_json::to_vec(&clients)
        }
        Asked::Report(question) => {
            let mut counted = question.counted(history).ok()?;
            counted.clients.iter_mut().for_each(redact);
            There::of(counted, history, copies, question.begins_ms()).ok()?.into_bytes()
        }
        Asked::CopiedReport { question, of } => {
            serde_json::to_vec(&question.copied(copies?, &asked_of(of, site, node)?).ok()?)
        }
    };
    bytes.ok()
}

/// Which counts this node is asked for.
fn asked_of(of: OfCopies, site: &str, node: &str) -> Option<Vec<u64>> {
    let me = format!("{site}/{node}");
    of.into_iter().find(|(at, _)| *at == me).map(|(_, told)| told)
}

/// A request, with the decisions that it led to.
fn with_what_followed(history: &History, record: &RecordedRequest) -> RedactedRequest {
    let consequences = history.consequences(record.id()).unwrap_or_default();
    let led_to = consequences.iter().filter_map(|one| match one {
        Consequence::Decision { decision } => Some(decision.id.to_string()),
        _ => None,
    });
    let told = RedactedRequest::of(record, led_to.take(LED_TO_MAX).collect());
    RedactedRequest { summary: Explanation::elsewhere(record.clone(), consequences), ..told }
}

/// What was found in copies, which is asked for where nobody else can be: one request alone with what followed from it.
pub(crate) fn copied(copies: &History, filter: &Filter, site: &str) -> Option<FoundThere> {
    let found = copies.search(filter).ok()?;
    let requests = match found.requests.as_slice() {
        [one] if filter.ids.is_some() => vec![with_what_followed(copies, one)],
        more => more.iter().map(|record| RedactedRequest::of(record, Vec::new())).collect(),
    };
    Some(FoundThere { requests, next: found.next, has: has(copies, filter, site) })
}

/// Of which of the nodes that are asked about there is something.
fn has(copies: &History, filter: &Filter, site: &str) -> Vec<u16> {
    let Some(asked) = &filter.node_tags else { return Vec::new() };
    let tags = copies.copied_nodes().unwrap_or_default().into_iter().map(|node| node_tag(site, &node));
    tags.filter(|tag| asked.contains(tag)).collect()
}

/// What a node found, redacted, and where its search stopped.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct FoundThere {
    pub(crate) requests: Vec<RedactedRequest>,
    pub(crate) next: Option<RequestId>,
    /// Of copies: tags of nodes that were asked about and of which there is something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) has: Vec<u16>,
}

fn search(history: &History, filter: &Filter) -> Option<FoundThere> {
    let found = history.search(filter).ok()?;
    let requests = found.requests.iter().map(|record| RedactedRequest::of(record, Vec::new())).collect();
    Some(FoundThere { requests, next: found.next, has: Vec::new() })
}

/// Of a client others are told the network.
fn redact(client: &mut RefusedClient) {
    client.client = client.client.parse().map(network).unwrap_or_default();
}

pub(crate) fn network(client: IpAddr) -> String {
    let length = if client.is_ipv4() { 24 } else { 48 };
    let network = Prefix::new(client, length).map(phalanx_model::net::canonical_prefix);
    network.map(|network| network.to_string()).unwrap_or_default()
}

/// In words of our own: what a stranger wrote stays where it was written.
fn reason(reason: &Reason) -> String {
    match reason {
        Reason::Clean => "nothing spoke against it".into(),
        Reason::AllowListed => "allow-listed".into(),
        Reason::Network => "network".into(),
        Reason::Challenge => "challenge".into(),
        Reason::Rule { rule } => format!("rule {rule}"),
        Reason::Decision { decision } => format!("decision {} of {}", decision.id, decision.author),
        Reason::Framing { .. } => "framing".into(),
        Reason::Limit { limit } => format!("limit {limit}"),
        Reason::RateLimit(excess) => format!("rate limit {}", excess.limit),
        Reason::Failure { .. } => "failure".into(),
        Reason::Upstream { .. } => "upstream".into(),
    }
}

/// Rows of one node's answer: so many fit into one message.
pub(crate) const LATEST_MAX: usize = 50;
/// Series of one node's answer: with some points each they fit into one message, and they are twice what is shown of all.
pub(crate) const SERIES_TOLD_MAX: usize = 24;
/// Copies of counts that one node names.
pub(crate) const COPIES_TOLD_MAX: usize = 128;
/// Of an answer that names them: below what may be sent.
const TOLD_BYTES_MAX: usize = 39 * 1024;
/// Clients of an answer.
pub(crate) const ACTORS_MAX: usize = 20;
const PATH_CHARS_MAX: usize = 120;
const METHOD_CHARS_MAX: usize = 16;
const RULES_MAX: usize = 16;
const LED_TO_MAX: usize = 16;
