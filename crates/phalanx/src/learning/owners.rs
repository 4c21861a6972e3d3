//! Whose a session is that a signal is about. Only the node where somebody logged in knows; others find the session and name no account.

use phalanx_edge::NodeTables;
use phalanx_learn::event::{Subject, SubjectKind};
use phalanx_learn::link::{Entity, Link};
use phalanx_learn::{Detector, Signal};

/// The same of the session's account, where this node knows it. Of a stolen session that is its victim: told, and not acted on.
pub(super) fn of_account(signal: &Signal, tables: &NodeTables) -> Option<Signal> {
    if signal.subject.kind != SubjectKind::Session {
        return None;
    }
    let now_s = u32::try_from(signal.at_ms / 1_000).unwrap_or(u32::MAX);
    let account = tables.accounts.owner(signal.subject.id, now_s)?;
    let subject = Subject::new(SubjectKind::Account, account);
    let link = |subject, weight| Link { entity: Entity::of(subject), weight };
    Some(Signal {
        subject,
        decisive: signal.decisive && signal.detector != Detector::SessionTheft,
        links: vec![link(subject, 0.7), link(signal.subject, 1.0)],
        ..signal.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_model::Confidence;

    #[test]
    fn an_account_is_named_where_the_session_is_known_and_its_victim_is_not_acted_on() {
        let tables = NodeTables::default();
        let session = Subject::new(SubjectKind::Session, 5);
        let signal = |detector| Signal {
            at_ms: 1_767_571_200_000,
            detector,
            subject: session,
            confidence: Confidence::Medium,
            decisive: true,
            reason: "counts".into(),
            events: 6,
            nodes: vec![Signal::OWN],
            links: Vec::new(),
        };
        assert_eq!(of_account(&signal(Detector::ObjectWalk), &tables), None);
        tables.accounts.remember((5, 77, 1_767_571_100));
        let named = of_account(&signal(Detector::ObjectWalk), &tables).unwrap();
        assert_eq!((named.subject, named.decisive), (Subject::new(SubjectKind::Account, 77), true));
        assert!(named.links.iter().any(|link| link.entity == Entity::of(session)));
        assert_eq!(of_account(&named, &tables), None);
        assert!(!of_account(&signal(Detector::SessionTheft), &tables).unwrap().decisive);
    }
}
