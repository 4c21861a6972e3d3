//! Accounts that stolen or guessed passwords opened: who tried many and got into few has those.

use phalanx_model::Confidence;

use super::{Learner, address_hash};
use crate::detect::{Detector, Signal};
use crate::event::{Event, Subject, SubjectKind};
use crate::evidence::{Feature, SeriesKey};
use crate::link::Link;
use crate::sketch::{low32, mix};

impl Learner {
    /// A login went through: where the same address and software, rare software or password just failed for others, the account may be
    /// taken over. It is told at once if that was found already, else when it is.
    pub(super) fn entered(&mut self, event: &Event, account: u64, out: &mut Vec<Signal>) {
        let software = event.software.map(|id| Subject::new(SubjectKind::Software, id));
        let rare = software.filter(|subject| self.is_foreign(*subject));
        let tool = event.software.map_or(0, |software| low32(mix(software)));
        let people = self.people(Subject::address(event.ip));
        for subject in [Some(Subject::address(event.ip)), rare, event.password()].into_iter().flatten() {
            let key = SeriesKey { subject, feature: Feature::LoginFailed };
            let Some(series) = self.series.peek_mut(key.hash()) else { continue };
            let recent = |at_ms: u64| event.at_ms < at_ms.saturating_add(ENTERED_MS);
            series.entered.retain(|(_, at_ms)| recent(*at_ms));
            // Among the people of an address, who has the software that they have is one of them.
            let is_of_people = people > 1 && rare.is_none();
            if subject.kind == SubjectKind::Address && (series.tool != tool || is_of_people) {
                continue;
            }
            // Popular passwords have honest owners: who tries one on many comes from where the others came from, or without a session.
            let is_owner = subject.kind == SubjectKind::Secret
                && event.session.is_some()
                && series.last.1 != event.network()
                && !series.own.from.contains(address_hash(event));
            if is_owner {
                continue;
            }
            if series.entered.len() < ENTERED_MAX {
                series.entered.push((account, event.at_ms));
            }
            if series.told.is_some_and(|(at_ms, _, is_decisive)| is_decisive && recent(at_ms)) {
                self.tell_entered(key, event.at_ms, out);
                return;
            }
        }
    }

    /// Tells of the accounts that what a series is about got into.
    pub(super) fn tell_entered(&mut self, key: SeriesKey, now_ms: u64, out: &mut Vec<Signal>) {
        let is_rare = key.subject.kind == SubjectKind::Software && self.is_foreign(key.subject);
        let Some(series) = self.series.peek_mut(key.hash()) else { return };
        let (detector, how) = match key.subject.kind {
            SubjectKind::Secret => (Detector::Spraying, "with the password that is tried on many"),
            _ => (Detector::Stuffing, "by what tries stolen passwords of many accounts"),
        };
        for (account, at_ms) in std::mem::take(&mut series.entered) {
            if now_ms >= at_ms.saturating_add(ENTERED_MS) {
                continue;
            }
            let subject = Subject::new(SubjectKind::Account, account);
            out.push(Signal {
                at_ms: now_ms,
                detector,
                subject,
                confidence: Confidence::Medium,
                decisive: true,
                reason: format!("an account was entered {how}: it may be taken over"),
                events: 1,
                nodes: vec![Signal::OWN],
                links: vec![Link::of_subject(subject, false), Link::of_subject(key.subject, is_rare)],
            });
        }
    }
}

/// As long as the widest window of failures.
const ENTERED_MS: u64 = 600_000;
/// Accounts that wait for a series to become a case.
const ENTERED_MAX: usize = 16;
