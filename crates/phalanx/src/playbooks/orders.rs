//! From a countermeasure step to orders: about whom, of an incident's suspects, and by whose key. `phalanx_learn::respond::carried` says who can carry
//! an order out; what nobody can is told in the step's note.

use std::net::IpAddr;

use phalanx_control::playbook::Planned;
use phalanx_learn::event::SubjectKind;
use phalanx_learn::respond::{Carried, Measure, Scope, Target, carried};
use phalanx_model::Actor;

use crate::learning::{Case, CaseSuspect};

/// What is known of addresses.
pub(super) struct Known<'a> {
    /// How many honest actors were served well at an address lately.
    pub(super) honest: &'a dyn Fn(IpAddr) -> u32,
    /// Whether policy exempts it.
    pub(super) exempt: &'a dyn Fn(IpAddr) -> bool,
}

/// Orders, and why others are not given.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) orders: Vec<Planned>,
    pub(super) left_out: Vec<String>,
}

impl Plan {
    /// What a step would order about an incident's suspects.
    pub(super) fn of(case: &Case, measure: &str, scope: &str, known: &Known<'_>) -> Self {
        let mut plan = Self::default();
        let measure = Measure::ALL.into_iter().find(|one| one.name() == measure);
        let scope = Scope::ALL.into_iter().find(|one| one.name() == scope);
        let (Some(measure), Some(scope)) = (measure, scope) else {
            plan.left_out.push("this version knows no such countermeasure".into());
            return plan;
        };
        let mut targets: Vec<Target> = match measure {
            // No finding is about an app: it is where they happened.
            Measure::RaiseParanoia if scope == Scope::App => {
                case.raisable.iter().copied().map(Target::App).collect()
            }
            _ => Vec::new(),
        };
        for suspect in &case.suspects {
            match target(suspect, scope) {
                Some(target) if !targets.contains(&target) => targets.push(target),
                _ => {}
            }
        }
        if targets.is_empty() {
            plan.left_out.push(match measure {
                Measure::RaiseParanoia => {
                    "policy has no `raise_paranoia` for the apps that it is about".into()
                }
                _ => format!("no finding is decisive about a {}", scope.name()),
            });
        }
        for target in targets.iter().take(ORDERS_MAX) {
            match order(measure, scope, target, known) {
                Ok(order) => plan.orders.push(order),
                Err(why) => plan.left_out.push(why),
            }
        }
        if targets.len() > ORDERS_MAX {
            plan.left_out
                .push(format!("{} more: a step orders about {ORDERS_MAX}", targets.len() - ORDERS_MAX));
        }
        plan
    }
}

/// Whom a suspect offers for a scope. A client is met at its address: what kind of client it is no finding says.
fn target(suspect: &CaseSuspect, scope: Scope) -> Option<Target> {
    let subject = suspect.subject;
    let target = match subject.kind {
        SubjectKind::Software => Target::Software { id: subject.id, ja4: None },
        SubjectKind::Route => Target::Route(subject.id),
        SubjectKind::App => Target::App(subject.id),
        _ => Target::Actor(subject.actor()?),
    };
    let is_client = scope == Scope::Client && target.scope() == Scope::Address;
    (is_client || target.scope() == scope).then_some(target)
}

fn order(measure: Measure, scope: Scope, target: &Target, known: &Known<'_>) -> Result<Planned, String> {
    if let Target::Actor(Actor::Ip(ip)) = target {
        if (known.exempt)(*ip) {
            return Err(format!("{target} is exempt"));
        }
        let honest = (known.honest)(*ip);
        // As the responder: nothing that refuses where several people are known to be.
        let most = if scope == Scope::Client { 0 } else { HONEST_MAX };
        if measure.refuses() && honest > most {
            return Err(format!("{target} is left alone: {honest} honest visitors are known there"));
        }
    }
    match carried(measure, target) {
        Carried::ByNode(kind, actor) => Ok(Planned { kind, actor, by_operator: false }),
        Carried::ByOperator(kind, actor) => Ok(Planned { kind, actor, by_operator: true }),
        Carried::NotYet(why) => Err(format!("{target}: {why}")),
    }
}

/// Orders of one step.
const ORDERS_MAX: usize = 64;
/// As many honest visitors as may stand behind what is refused.
const HONEST_MAX: u32 = 2;
