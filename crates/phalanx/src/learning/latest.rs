//! Requests by which subjects are known: the last notable one of each with what it asked for, for signals that others' words completed.

use std::collections::HashMap;

use phalanx_learn::Event;
use phalanx_learn::event::{Step, Subject, SubjectKind};
use phalanx_model::RequestId;

use super::tee::{Asked, Seen};

/// A request, by which something is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trace {
    pub(super) request: RequestId,
    pub(super) asked: Asked,
    /// What it did, as far as that is known.
    pub(super) event: Option<Event>,
}

impl Trace {
    pub(super) fn of(seen: &Seen) -> Self {
        Self { request: seen.request, asked: seen.asked, event: Some(seen.event) }
    }

    /// Of a request of which nothing else is known any more: nothing is ordered about a place because of it.
    pub(super) fn of_request(request: RequestId) -> Self {
        Self { request, asked: Asked { app: 0, route: 0 }, event: None }
    }
}

/// In two generations, of which the older goes when the younger is full: what was seen lately is there.
#[derive(Debug, Default)]
pub(super) struct Latest {
    young: HashMap<Subject, Trace>,
    old: HashMap<Subject, Trace>,
}

impl Latest {
    /// A request that something may be made of.
    pub(super) fn note(&mut self, seen: &Seen) {
        let event = &seen.event;
        let is_plain = matches!(event.step, Step::Page | Step::Asset) && event.status < 400;
        if event.exempt || (is_plain && event.attack.is_none()) {
            return;
        }
        let of = |kind, id: Option<u64>| id.map(|id| Subject::new(kind, id));
        let subjects = [
            Some(Subject::address(event.ip)),
            of(SubjectKind::Software, event.software),
            of(SubjectKind::Session, event.session),
            of(SubjectKind::Account, event.account),
            event.password(),
        ];
        for subject in subjects.into_iter().flatten() {
            if self.young.len() >= GENERATION {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(subject, Trace::of(seen));
        }
    }

    /// The last one of a subject.
    pub(super) fn of(&self, subject: Subject) -> Option<Trace> {
        self.young.get(&subject).or_else(|| self.old.get(&subject)).copied()
    }
}

/// Subjects of one generation, 56 bytes each.
const GENERATION: usize = 8_192;
