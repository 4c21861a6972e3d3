//! The verdict on one request: standing decisions first, then what inspection found.

use std::net::IpAddr;

use phalanx_model::view::Found;
use phalanx_model::{Action, ActorKey, DecisionKind, Identities, Reason, Verdict, View};

use crate::{DecidePlan, Mode, OnError};

/// What stands for or against a client before anything is inspected. `None`: nothing stands, go on.
///
/// An allow in the answer means that nothing the client asks for is refused; findings are still recorded.
pub fn standing(plan: &DecidePlan, view: &View, who: &Identities, now_ms: u64) -> Option<Verdict> {
    if plan.is_allowed(who.ip, now_ms) {
        return Some(Verdict::allow(Reason::AllowListed));
    }
    ordered(plan, &view.lookup(who, now_ms)?, who.ip, now_ms)
}

/// What stands against whoever comes with some software or asks for some place, all of which are among these keys. What stands about the
/// client itself comes first.
pub fn standing_wide(
    plan: &DecidePlan,
    view: &View,
    about: &[ActorKey],
    ip: IpAddr,
    now_ms: u64,
) -> Option<Verdict> {
    ordered(plan, &view.about_any(about, now_ms)?, ip, now_ms)
}

fn ordered(plan: &DecidePlan, found: &Found<'_>, ip: IpAddr, now_ms: u64) -> Option<Verdict> {
    // The decision is unpacked only where it has an effect.
    let reason = || Some(Reason::Decision { decision: found.decision()? });
    match found.kind() {
        DecisionKind::Allow => Some(Verdict::allow(reason()?)),
        // It says by what a request is inspected, and nothing for or against it.
        DecisionKind::RaiseParanoia => None,
        _ if plan.is_exempt(ip, now_ms) => None,
        DecisionKind::Ban => Some(Verdict::deny(reason()?, 403)),
        // Whether the client has passed, or asks too often, the edge knows.
        DecisionKind::Challenge => {
            Some(Verdict { action: Action::Challenge, status: 403, ..Verdict::allow(reason()?) })
        }
        DecisionKind::Throttle => {
            Some(Verdict { action: Action::Throttle, status: 429, ..Verdict::allow(reason()?) })
        }
    }
}

/// What inspection found, in the terms of the verdict.
#[derive(Debug, Clone, Copy, Default)]
pub struct Finding<'a> {
    /// The rule that interrupted the transaction, with its status.
    pub interruption: Option<(u64, u16)>,
    /// The inbound anomaly score.
    pub score: i32,
    /// What failed, if a rule or parser did.
    pub failure: Option<&'a str>,
}

/// The verdict on an inspected request of an app in `mode`, for a client that is `allowed` or not.
pub fn on_findings(mode: Mode, on_error: OnError, allowed: bool, finding: &Finding<'_>) -> Verdict {
    let (reason, status, refuse) = match (finding.failure, finding.interruption) {
        // No rule has id 0: the engine itself stopped, because more of the body came than it may hold.
        (_, Some((0, status))) => {
            (Reason::Limit { limit: "body held for inspection".to_owned() }, status, true)
        }
        // What a rule refuses stays refused: a failure that a client provokes must not let it pass.
        (_, Some((rule, status))) => (Reason::Rule { rule }, status, true),
        (Some(stage), None) => (Reason::Failure { stage: stage.to_owned() }, 403, on_error == OnError::Deny),
        (None, None) => return Verdict { score: finding.score, ..Verdict::allow(Reason::Clean) },
    };
    let action = if refuse && mode == Mode::Block && !allowed { Action::Deny } else { Action::Observe };
    Verdict { action, reason, status, score: finding.score }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use phalanx_model::{Actor, Author, AuthorRole, Decision, DecisionId};

    fn view(kind: DecisionKind, ip: &str) -> View {
        View::from_decisions([Arc::new(Decision {
            id: DecisionId::from_parts(1, 1, 1),
            actor: Actor::ip(ip.parse().unwrap()),
            kind,
            author: Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Operator },
            reason: "test".into(),
            evidence: None,
            confidence_percent: 100,
            created_at_ms: 0,
            expires_at_ms: 100,
            version: 1,
        })])
    }

    fn plan() -> DecidePlan {
        DecidePlan {
            allow: ["198.51.100.7/32".parse().unwrap()].into_iter().collect(),
            operators: ["127.0.0.0/8".parse().unwrap()].into_iter().collect(),
            ..DecidePlan::default()
        }
    }

    fn action(kind: DecisionKind, banned: &str, asks: &str) -> Option<Action> {
        let who = Identities::of(asks.parse().unwrap());
        standing(&plan(), &view(kind, banned), &who, 1).map(|verdict| verdict.action)
    }

    #[test]
    fn a_failure_that_is_forgiven_does_not_undo_what_a_rule_refused() {
        let finding = Finding { interruption: Some((7, 403)), score: 5, failure: Some("a pattern gave up") };
        let verdict = on_findings(Mode::Block, OnError::Allow, false, &finding);
        assert_eq!((verdict.action, verdict.reason), (Action::Deny, Reason::Rule { rule: 7 }));
        let finding = Finding { interruption: None, ..finding };
        assert_eq!(on_findings(Mode::Block, OnError::Allow, false, &finding).action, Action::Observe);
    }

    #[test]
    fn a_ban_refuses_only_its_actor() {
        assert_eq!(action(DecisionKind::Ban, "192.0.2.1", "192.0.2.1"), Some(Action::Deny));
        assert_eq!(action(DecisionKind::Ban, "192.0.2.1", "192.0.2.2"), None);
    }

    #[test]
    fn milder_orders_are_told_as_what_they_are_and_spare_whom_bans_spare() {
        for (kind, expected) in
            [(DecisionKind::Challenge, Action::Challenge), (DecisionKind::Throttle, Action::Throttle)]
        {
            assert_eq!(action(kind, "192.0.2.1", "192.0.2.1"), Some(expected));
            assert_eq!(action(kind, "127.0.0.1", "127.0.0.1"), None);
            assert_eq!(action(kind, "198.51.100.7", "198.51.100.7"), Some(Action::Allow));
        }
    }

    #[test]
    fn the_allow_list_comes_before_every_ban() {
        assert_eq!(action(DecisionKind::Ban, "198.51.100.7", "198.51.100.7"), Some(Action::Allow));
    }

    #[test]
    fn an_operators_network_is_never_refused_by_a_ban() {
        assert_eq!(action(DecisionKind::Ban, "127.0.0.1", "127.0.0.1"), None);
    }

    #[test]
    fn findings_become_verdicts() {
        let hit = Finding { interruption: Some((942_100, 403)), score: 5, failure: None };
        let failed = Finding { failure: Some("rule 1"), interruption: None, ..hit };
        let action = |mode, on_error, allowed, finding: &Finding<'_>| {
            on_findings(mode, on_error, allowed, finding).action
        };
        assert_eq!(action(Mode::Block, OnError::Deny, false, &hit), Action::Deny);
        assert_eq!(action(Mode::Block, OnError::Deny, true, &hit), Action::Observe);
        assert_eq!(action(Mode::Observe, OnError::Deny, false, &hit), Action::Observe);
        assert_eq!(action(Mode::Block, OnError::Deny, false, &failed), Action::Deny);
        assert_eq!(action(Mode::Block, OnError::Allow, false, &failed), Action::Observe);
        assert_eq!(action(Mode::Block, OnError::Deny, false, &Finding::default()), Action::Allow);
    }
}
