//! "Why was this blocked?": one request's facts, and what they mean in plain words.
//!
//! The words quote strangers. Whoever shows them escapes them for the place (see [`crate::escape`]).

use std::sync::Arc;

use phalanx_model::deed::Step;
use phalanx_model::{
    AccessEvent, Action, ChallengeStep, Decision, DecisionKind, Deed, FramingFault, Outcome, Proposal,
    Raised, RateExcess, Reason, RequestId, Signal, Strike,
};
use serde::{Deserialize, Serialize};

use crate::request::{Consequence, RecordedRequest};
use crate::rfc3339;

/// A recorded request with everything that explains it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Explanation {
    /// The request's id.
    pub id: RequestId,
    /// The site of the node that served it.
    pub site: Arc<str>,
    /// The node that served it.
    pub node: Arc<str>,
    /// The facts in plain words, in the order in which they mattered.
    pub summary: Vec<String>,
    /// What an operator may do next, each with the command that does it.
    #[serde(default)]
    pub next: Vec<NextStep>,
    /// The plan it was decided under.
    pub plan_version: u64,
    /// The standing decision that refused it, if one did.
    pub decision: Option<Arc<Decision>>,
    /// Decisions that it led to.
    pub led_to: Vec<Arc<Decision>>,
    /// Strikes that it counted as.
    pub strikes: Vec<Strike>,
    /// Orders that the node proposed because of it.
    pub proposals: Vec<Proposal>,
    /// The request with which the reason was kept, where that was another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<RequestId>,
    /// Findings.
    pub signals: Vec<Signal>,
    /// Framing faults.
    pub faults: Vec<FramingFault>,
    /// The request and what became of it.
    pub access: AccessEvent,
}

/// One thing that an operator may do about a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NextStep {
    /// What it does.
    pub what: String,
    /// The command. Nothing in it was written by strangers.
    pub command: String,
}

impl Explanation {
    /// Explains a request.
    pub fn new(record: RecordedRequest, consequences: Vec<Consequence>) -> Self {
        let mut explanation = Self {
            id: record.id(),
            plan_version: record.access.plan_version,
            decision: match &record.access.verdict.reason {
                Reason::Decision { decision } => Some(Arc::clone(decision)),
                _ => None,
            },
            site: record.site,
            node: record.node,
            summary: Vec::new(),
            next: Vec::new(),
            led_to: Vec::new(),
            strikes: Vec::new(),
            proposals: Vec::new(),
            like: record.like,
            signals: record.signals,
            faults: record.faults,
            access: record.access,
        };
        for consequence in consequences {
            match consequence {
                Consequence::Strike { strike } => explanation.strikes.push(strike),
                Consequence::Proposal { proposal } => explanation.proposals.push(proposal),
                Consequence::Decision { decision } => explanation.led_to.push(decision),
            }
        }
        explanation.summary = explanation.words();
        explanation.next = explanation.steps();
        explanation
    }

    /// What may be done about it, the narrowest first.
    fn steps(&self) -> Vec<NextStep> {
        let (id, client, verdict) = (self.id, self.access.client, &self.access.verdict);
        let step = |what: &str, command: String| NextStep { what: what.to_owned(), command };
        let mut steps = Vec::new();
        match &verdict.reason {
            Reason::Rule { .. } if verdict.action != Action::Allow => {
                let command = format!("phalanx waf suggest {id}");
                steps.push(step("propose the narrowest exclusion that lets it pass", command));
            }
            Reason::Decision { decision } => {
                let evidence = decision.evidence.filter(|evidence| *evidence != id);
                steps.extend(evidence.map(|evidence| {
                    step("see the request that led to the decision", format!("phalanx explain {evidence}"))
                }));
                steps.push(step("end the decision", format!("phalanx decision delete {}", decision.id)));
            }
            Reason::Clean if self.is_stopped() => {
                steps.push(step("see the standing decisions", "phalanx decision list".to_owned()));
            }
            _ => {}
        }
        let led_to = self.led_to.iter().filter(|decision| decision.kind != DecisionKind::Allow);
        steps.extend(led_to.take(STEPS_OF_KIND).map(|decision| {
            let what = format!("end the {} that it led to", decision.kind.name());
            step(&what, format!("phalanx decision delete {}", decision.id))
        }));
        let can_be_allowed = matches!(
            verdict.reason,
            Reason::Rule { .. }
                | Reason::Decision { .. }
                | Reason::Challenge
                | Reason::RateLimit(_)
                | Reason::Clean
        );
        if can_be_allowed && (self.is_stopped() || verdict.action == Action::Observe) {
            let command =
                format!("phalanx decision add --kind allow --ip {client} --for 1d --reason \"request {id}\"");
            steps.push(step("allow this client for a day, whatever it asks for", command));
        }
        steps
    }

    fn words(&self) -> Vec<String> {
        let mut words = vec![self.outcome(), self.reason()];
        words.extend(self.like.map(|like| {
            format!("Many were stopped alike, and some of them are kept whole: what is said of the reason was kept with request {like}.")
        }));
        if let Some(Raised { level, decision, until_ms }) = &self.access.raised {
            let (app, until) = (&self.access.app, rfc3339(*until_ms));
            words.push(format!(
                "The paranoia of app {app} was raised to {level} until {until} (decision {decision}): stricter rules than usual looked at it."
            ));
        }
        words.extend(self.faults.iter().map(|fault| format!("Framing fault: {fault}.")));
        let shown = self.signals.iter().take(SIGNALS_IN_WORDS);
        words.extend(shown.map(finding));
        if self.signals.len() > SIGNALS_IN_WORDS {
            words.push(format!("{} more findings are listed below.", self.signals.len() - SIGNALS_IN_WORDS));
        }
        words.extend(
            self.strikes
                .iter()
                .map(|strike| format!("It counted as strike {} against {}.", strike.count, strike.actor)),
        );
        words.extend(self.led_to.iter().map(|decision| {
            format!(
                "It led to a {} of {} until {}, written by {} (decision {}).",
                decision.kind.name(),
                decision.actor,
                rfc3339(decision.expires_at_ms),
                decision.author,
                decision.id
            )
        }));
        if let Some(check) = self.access.check {
            let (asker, how) = (self.access.peer, check.as_str());
            words.push(format!("Another proxy, {asker}, carries it and asked about it ({how})."));
        }
        if let Some(ja4) = &self.access.ja4 {
            let version = self.access.tls.as_deref().unwrap_or("TLS");
            words.push(format!("It came over {version}, from a client that greets as {ja4} (JA4)."));
        }
        words.extend(self.traced());
        if let Some(print) = &self.access.http_print {
            words.push(format!("Its client writes HTTP as {print}."));
        }
        if let Some(step) = self.access.challenge {
            words.push(String::from(challenge(step)));
        }
        if let Some(balancer) = &self.access.balancer {
            words.push(format!("The connection was passed on by {balancer}, with a PROXY header."));
        }
        words.extend(self.access.deed.and_then(tried));
        words.push(format!(
            "It was decided under plan version {} and view revision {}.",
            self.plan_version, self.access.view_revision
        ));
        words
    }

    fn outcome(&self) -> String {
        let access = &self.access;
        let done = match access.verdict.action {
            Action::Allow if self.is_answered_here() || self.is_for_no_upstream() => {
                format!("was answered by the node itself with status {}", access.status)
            }
            Action::Allow => String::from("was passed on"),
            Action::Observe if self.by_observed_class() => String::from(
                "was passed on; the rule that would have refused it is of a class that this app only observes",
            ),
            Action::Observe => String::from("was passed on, but would have been refused (observe mode)"),
            Action::Challenge => String::from("was challenged"),
            Action::Throttle => String::from("was throttled"),
            Action::Tarpit => String::from("was answered slowly"),
            Action::Deny => format!("was refused with status {}", access.status),
        };
        let via =
            if access.peer == access.client { String::new() } else { format!(" (through {})", access.peer) };
        let app = if access.app.is_empty() { String::new() } else { format!(", app {}", access.app) };
        format!(
            "{} {}{} from {}{via} at {} {done} by node {}/{}{app}.",
            access.method,
            access.host,
            access.target,
            access.client,
            rfc3339(access.at_ms),
            self.site,
            self.node,
        )
    }

    fn traced(&self) -> Option<String> {
        let trace = self.access.trace?;
        let part = match trace.span {
            Some(span) => format!(", as span {span}"),
            None => String::new(),
        };
        let asked = match trace.parent {
            Some(parent) => format!("asked for by span {parent}"),
            None => String::from("which began here"),
        };
        let sampled = if trace.sampled { "" } else { " It is not sampled." };
        Some(format!("It is part of trace {}{part}, {asked}.{sampled}", trace.id))
    }

    fn is_stopped(&self) -> bool {
        !matches!(self.access.verdict.action, Action::Allow | Action::Observe)
    }

    /// Whether no app was found for it, or it came in a circle.
    fn is_for_no_upstream(&self) -> bool {
        self.access.upstream_us == 0 && matches!(self.access.status, 421 | 508)
    }

    /// Whether a route or a maintenance answered it.
    fn is_answered_here(&self) -> bool {
        let access = &self.access;
        let passes = matches!(access.verdict.reason, Reason::Clean | Reason::AllowListed);
        passes && access.upstream_us == 0 && access.status != 0
    }

    fn by_observed_class(&self) -> bool {
        let Reason::Rule { rule } = self.access.verdict.reason else { return false };
        self.signals.iter().any(|signal| signal.observed && signal.rule.id == rule)
    }

    fn reason(&self) -> String {
        match &self.access.verdict.reason {
            Reason::Clean if self.is_stopped() => String::from(
                "A standing decision or a limit stopped it, as it did many alike; none of them is kept whole any more, so that nothing more is known here.",
            ),
            Reason::Clean => String::from("Nothing spoke against it."),
            Reason::AllowListed => String::from("The address is on the allow-list."),
            Reason::Network => String::from(
                "`allow_networks` or `deny_networks` of its app or route keeps the client's network out.",
            ),
            Reason::Challenge => String::from("Its app challenges every client first."),
            Reason::Rule { rule } => self.rule_reason(*rule),
            Reason::Decision { decision } => format!(
                "A standing {} of {} is in force from {} to {}, written by {} (decision {}): {}{}.",
                decision.kind.name(),
                decision.actor,
                rfc3339(decision.created_at_ms),
                rfc3339(decision.expires_at_ms),
                decision.author,
                decision.id,
                decision.reason.trim_end_matches('.'),
                decision.evidence.map(|id| format!("; it followed from request {id}")).unwrap_or_default()
            ),
            Reason::Framing { fault } => format!("It is not strict HTTP: {fault}."),
            Reason::Limit { limit } => format!("It passed the limit {limit}."),
            Reason::RateLimit(excess) => rate_reason(excess),
            Reason::Failure { stage } => format!("A stage failed, and failing means refusing: {stage}."),
            Reason::Upstream { error } if self.is_for_no_upstream() => {
                format!("It was sent nowhere: {error}.")
            }
            Reason::Upstream { error } => format!("The upstream failed: {error}."),
        }
    }

    fn rule_reason(&self, rule: u64) -> String {
        // Rule sets without anomaly scores leave it at 0.
        let score = match self.access.verdict.score {
            0 => String::new(),
            score => format!(" Anomaly score {score}."),
        };
        let signal = self.signals.iter().find(|signal| signal.rule.id == rule);
        let place = signal.map(|s| format!(" ({}:{})", s.rule.file, s.rule.line)).unwrap_or_default();
        match signal {
            Some(signal) if !signal.message.is_empty() => {
                format!("Rule {rule}{place} decided: {}.{score}", signal.message.trim_end_matches('.'))
            }
            _ => format!("Rule {rule}{place} decided.{score}"),
        }
    }
}

/// A rate limit that was exceeded: which, by whom, how it was counted.
fn rate_reason(excess: &RateExcess) -> String {
    let elsewhere = match excess.elsewhere {
        0 => String::new(),
        count => format!(", other nodes {count}"),
    };
    format!(
        "It asked more often than the rate limit {} admits ({}), counted by {}. This node had admitted {}{elsewhere} since that was \
         last idle; this was request {} beyond it, and the next one is admitted after {} s.",
        excess.limit, excess.rate, excess.key, excess.here, excess.over, excess.retry_after_s
    )
}

/// One finding in words: rule, place, variable, transformations, fragment, score.
fn finding(signal: &Signal) -> String {
    let rule = &signal.rule;
    let mut words = match rule.id {
        0 => "The edge itself".to_owned(),
        id => format!("Rule {id} ({}:{})", rule.file, rule.line),
    };
    if !signal.message.is_empty() {
        words.push_str(&format!(" \"{}\"", signal.message));
    }
    match signal.matches.first() {
        Some(one) => {
            let verb = if rule.id == 0 { "found" } else { "matched" };
            words.push_str(&format!(" {verb} {}", one.variable));
            if !one.fragment.is_empty() {
                words.push_str(&format!(": `{}`", one.fragment));
            }
            if !one.transformations.is_empty() {
                words.push_str(&format!(" after {}", one.transformations.join(", ")));
            }
        }
        None => words.push_str(" matched"),
    }
    match signal.inbound {
        Some(inbound) if inbound.before != inbound.after => words.push_str(&format!(
            "; score {:+}, inbound {} -> {}",
            signal.score, inbound.before, inbound.after
        )),
        _ if signal.score != 0 => words.push_str(&format!("; score {:+}", signal.score)),
        _ => {}
    }
    if signal.observed {
        words.push_str("; only observed, because of its class");
    }
    words.push('.');
    words
}

fn challenge(step: ChallengeStep) -> &'static str {
    match step {
        ChallengeStep::Given => "It was answered with a challenge.",
        ChallengeStep::Solved => "It solved a challenge.",
        ChallengeStep::Waited => "It passed a challenge by waiting, as a client without scripts.",
        ChallengeStep::Failed => "It answered a challenge wrongly, too early or late, or once more.",
        ChallengeStep::Passed => "Its client had passed a challenge.",
        ChallengeStep::Spared => "Its client is a crawler that was verified, and was not challenged.",
        ChallengeStep::Refused => {
            "The pass that it showed was over, another's, or used from too many networks."
        }
    }
}

/// What it tried, and whose it was; accounts and sessions are named by keyed hashes.
fn tried(deed: Deed) -> Option<String> {
    let ended = |outcome| match outcome {
        Outcome::Passed => "which went through",
        Outcome::Failed => "which failed",
        Outcome::Unknown => "and it is not known how that ended",
    };
    let mut whose = Vec::new();
    whose.extend(deed.account.map(|account| format!("account {account:016x}")));
    whose.extend(deed.session.map(|session| format!("session {session:016x}")));
    let whose = whose.join(", ");
    let what = match deed.step {
        Step::Login(outcome) => format!("It tried to log in, {}", ended(outcome)),
        Step::Lookup => String::from("It asks whether an account exists"),
        Step::Payment(outcome) => format!("It tried to pay, {}", ended(outcome)),
        Step::Page | Step::Asset if whose.is_empty() => return None,
        Step::Page | Step::Asset => return Some(format!("It is of {whose}.")),
    };
    Some(if whose.is_empty() { format!("{what}.") } else { format!("{what}: {whose}.") })
}

/// Decisions that each get a step.
const STEPS_OF_KIND: usize = 4;
/// Findings told in words; more only repeat.
const SIGNALS_IN_WORDS: usize = 8;
