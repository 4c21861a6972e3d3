//! Does what steps ask for: orders by way of the fleet, words by webhook.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use phalanx_control::playbook::{Effect, Planned, StepOutcome};
use phalanx_control::receiver::Receiver;
use phalanx_edge::{EdgePlan, NodeTables};
use phalanx_fleet::{Change, FleetError, FleetHandle, NewDecision};
use phalanx_learn::IncidentId;
use phalanx_model::lanes::Lanes;
use phalanx_model::limits::BAN_AUTOMATIC_MAX_MS;
use phalanx_model::{AuthorRole, Clock, Decision, DecisionKind, Proposal, Swap};
use phalanx_policy::DetectionMode;
use phalanx_policy::playbook::StepAction;
use serde_json::json;

use super::orders::{Known, Plan};
use super::own::Own;
use crate::learning::Case;

/// What effects are made with.
pub(super) struct Hands {
    pub(super) fleet: FleetHandle,
    pub(super) lanes: Lanes,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) plan: Arc<Swap<EdgePlan>>,
    pub(super) tables: Arc<NodeTables>,
    pub(super) receivers: BTreeMap<String, Receiver>,
    pub(super) own: Own,
}

type Told = (StepOutcome, String);

impl Hands {
    /// What a countermeasure orders, of what is known now.
    pub(super) fn orders(&self, case: Option<&Case>, effect: &Effect) -> Plan {
        let StepAction::Countermeasure { measure, scope, .. } = &effect.action else {
            return Plan::default();
        };
        let Some(case) = case else {
            let left_out = vec!["this node does not know the incident any more".into()];
            return Plan { left_out, ..Plan::default() };
        };
        let now_ms = self.clock.now_ms();
        let plan = self.plan.load();
        let honest = |ip: IpAddr| self.tables.good.count(ip, now_ms);
        let exempt = |ip: IpAddr| plan.decide.is_exempt(ip, now_ms);
        Plan::of(case, measure, scope, &Known { honest: &honest, exempt: &exempt })
    }

    /// Does it. `is_doubtful`: it may have been done already.
    pub(super) async fn perform(&self, effect: &Effect, case: Option<&Case>, is_doubtful: bool) -> Told {
        match &effect.action {
            StepAction::Countermeasure { for_ms, .. } => self.order(effect, case, *for_ms, is_doubtful).await,
            StepAction::Notify { to, text } => self.tell(effect, "notify", to, text).await,
            StepAction::Ticket { to, text } => self.tell(effect, "ticket", to, text).await,
            StepAction::Revert => self.revert(effect).await,
            StepAction::Wait { .. } | StepAction::Ask { .. } | StepAction::Verify { .. } => {
                (StepOutcome::Failed, "it is nothing that is done".into())
            }
        }
    }

    async fn order(&self, effect: &Effect, case: Option<&Case>, for_ms: u64, is_doubtful: bool) -> Told {
        let StepAction::Countermeasure { measure, .. } = &effect.action else {
            return (StepOutcome::Failed, String::new());
        };
        let left_out = self.orders(case, effect).left_out;
        let mode = self.plan.load().detection.mode;
        let whom = words(effect.orders.iter().map(|order| order.actor.to_string()));
        if mode != DetectionMode::Act {
            let would = match effect.orders.is_empty() {
                true => left_out.join("; "),
                false => format!("would order {measure} of {whom} for {} s", for_ms / 1_000),
            };
            return (StepOutcome::Skipped, format!("detection only observes: {would}"));
        }
        if effect.orders.is_empty() {
            return (StepOutcome::Failed, left_out.join("; "));
        }
        let (mut ordered, mut failed) = (Vec::new(), Vec::new());
        for order in &effect.orders {
            let done = match is_doubtful && self.is_in_force(order, effect) {
                true => Ok(()),
                false => self.order_one(order, effect, case, for_ms).await,
            };
            match done {
                Ok(()) => ordered.push(order.actor.to_string()),
                Err(why) => failed.push(format!("{}: {why}", order.actor)),
            }
        }
        let failed = words(failed.into_iter().chain(left_out));
        match ordered.is_empty() {
            true => (StepOutcome::Failed, failed),
            false if failed.is_empty() => {
                (StepOutcome::Done, format!("{measure} of {}", words(ordered.into_iter())))
            }
            false => {
                (StepOutcome::Done, format!("{measure} of {}; not: {failed}", words(ordered.into_iter())))
            }
        }
    }

    async fn order_one(
        &self,
        order: &Planned,
        effect: &Effect,
        case: Option<&Case>,
        for_ms: u64,
    ) -> Result<(), String> {
        let (kind, actor) = (order.kind, order.actor.clone());
        let summary = case.map_or("", |case| case.facts.summary.as_str());
        let (playbook, _) = effect.run.split_once('/').unwrap_or_default();
        let what = format!("playbook {playbook}, step {}: {summary}", effect.step);
        let reason = match (effect.incident.parse::<IncidentId>(), order.by_operator) {
            (Ok(incident), true) => incident.automatic_reason(&what),
            (Ok(incident), false) => incident.reason(&what),
            (Err(error), _) => return Err(error.to_string()),
        };
        let evidence = case.and_then(|case| case.evidence);
        if order.by_operator {
            if kind == DecisionKind::Ban
                && let Some((share, true)) = self.fleet.would_refuse(&actor).await
            {
                return Err(format!("nothing is ordered, because it would refuse {share}"));
            }
            let new = || NewDecision { actor: actor.clone(), kind, for_ms, reason: reason.clone(), evidence };
            return self.decide(|| self.fleet.add(new())).await;
        }
        let for_ms = for_ms.min(BAN_AUTOMATIC_MAX_MS);
        let at_ms = self.clock.now_ms();
        self.decide(|| match evidence {
            Some(evidence) => self.fleet.propose(Proposal {
                actor: actor.clone(),
                kind,
                reason: reason.clone(),
                evidence,
                confidence_percent: 90,
                at_ms,
                for_ms,
            }),
            None => self.fleet.pass_on(NewDecision {
                actor: actor.clone(),
                kind,
                for_ms,
                reason: reason.clone(),
                evidence: None,
            }),
        })
        .await
    }

    /// In force and on the disk when this returns.
    async fn decide(&self, decide: impl Fn() -> Result<Arc<Decision>, FleetError>) -> Result<(), String> {
        let mut decided = decide();
        if matches!(decided, Err(FleetError::Ledger(_))) {
            // A burst waits for the ledger, a full disk does not hold up what comes after.
            let _ = tokio::time::timeout(LEDGER_WAIT, self.lanes.ledger_room()).await;
            decided = decide();
        }
        let decision = decided.map_err(|error| error.to_string())?;
        self.fleet.kept(Change::Decided(decision)).await.map_err(|error| error.to_string())
    }

    /// Whether an order was given already: one is in force that came after the step began, about the same actor, for the same incident.
    fn is_in_force(&self, order: &Planned, effect: &Effect) -> bool {
        let (now_ms, from_ms) = (self.clock.now_ms(), effect.started_ms.unwrap_or(0));
        self.fleet.about(&order.actor.key()).iter().any(|one| {
            one.actor == order.actor
                && one.kind == order.kind
                && one.is_live(now_ms)
                && one.created_at_ms.saturating_add(CLOCKS_MS) >= from_ms
                && is_of(one, &effect.incident)
        })
    }

    /// Ends what was ordered, except about whom an operator ordered something by themselves.
    async fn revert(&self, effect: &Effect) -> Told {
        let now_ms = self.clock.now_ms();
        let (mut ended, mut left) = (Vec::new(), Vec::new());
        for order in &effect.orders {
            let key = order.actor.key();
            let about = self.fleet.about(&key);
            let mut live = about.iter().filter(|one| one.is_live(now_ms));
            if !live.clone().any(|one| is_of(one, &effect.incident)) {
                continue;
            }
            if live
                .any(|one| one.author.role == AuthorRole::Operator && IncidentId::of_decision(one).is_none())
            {
                left.push(format!("{} is left: an operator ordered something about it", order.actor));
                continue;
            }
            let reason = format!("{} takes it back", effect.run);
            match self.fleet.withdraw(order.actor.clone(), &reason) {
                Ok(withdrawal) => match self.fleet.kept(Change::Withdrawn(withdrawal)).await {
                    Ok(()) => ended.push(order.actor.to_string()),
                    Err(error) => left.push(format!("{}: {error}", order.actor)),
                },
                Err(error) => left.push(format!("{}: {error}", order.actor)),
            }
        }
        let ended = match ended.is_empty() {
            true => "nothing of it was in force any more".to_owned(),
            false => format!("ended what was ordered about {}", words(ended.into_iter())),
        };
        match left.is_empty() {
            true => (StepOutcome::Done, ended),
            false => (StepOutcome::Failed, format!("{ended}; {}", words(left.into_iter()))),
        }
    }

    async fn tell(&self, effect: &Effect, kind: &str, to: &str, text: &str) -> Told {
        let Some(receiver) = self.receivers.get(to) else {
            let why = format!("this node has neither `[webhooks.{to}]` nor `[mail.{to}]` in its settings");
            return (StepOutcome::Failed, why);
        };
        let (playbook, _) = effect.run.split_once('/').unwrap_or_default();
        let mut body = json!({
            "kind": kind,
            "key": effect.key,
            "text": text,
            "incident": effect.incident,
            "playbook": playbook,
            "step": effect.step,
            "show": self.own.show(&effect.incident),
            "node": self.own.node,
        });
        self.own.link(&mut body, &effect.incident);
        match receiver.tell(&effect.key, &body, || self.clock.now_ms()).await {
            Ok(()) => (StepOutcome::Done, format!("told {to}")),
            Err(error) => (StepOutcome::Failed, format!("{to}: {error}")),
        }
    }
}

fn is_of(decision: &Decision, incident: &str) -> bool {
    IncidentId::of_decision(decision).is_some_and(|id| id.to_string() == incident)
}

/// The first of many.
fn words(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    let more = all.len().saturating_sub(NAMED_MAX);
    let named = all.into_iter().take(NAMED_MAX).collect::<Vec<_>>().join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// The ledger writes a batch in milliseconds.
const LEDGER_WAIT: Duration = Duration::from_secs(2);
/// As far as clocks of nodes differ: a step that one began may be looked after by another.
const CLOCKS_MS: u64 = 2_000;
const NAMED_MAX: usize = 5;
