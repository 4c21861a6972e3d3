//! What single actors do, one request after the other: where sessions and accounts are, and who takes much.

use phalanx_model::Confidence;

use super::{Learner, seconds};
use crate::detect::{Detector, Signal};
use crate::event::{Event, Outcome, Place, Step, Subject, SubjectKind};
use crate::evidence::{Feature, SeriesKey};
use crate::link::Link;
use crate::share::{SEEN_MAX, Seen};
use crate::sketch::{Quantiles, low32, mix};

/// What is known of one address, session or account.
#[derive(Debug, Default)]
pub(super) struct Profile {
    /// With which software and in which network it was seen last; 0 if never.
    software: u32,
    network: u32,
    /// Software and network before that.
    previous: u32,
    told_s: u32,
    /// Where it logged in last.
    place: Option<Place>,
    place_s: u32,
    object: u32,
    /// Ten minutes that the counts are of.
    period: u16,
    pages: u16,
    objects: u16,
    /// Another node says so.
    is_heard: bool,
}

/// What is usual on a route.
#[derive(Debug, Default)]
pub(super) struct Route {
    sizes: Quantiles,
    /// Of objects with the least hashes: by which session it was seen first, and whether by another one since.
    objects: Vec<(u32, u32, bool)>,
}

impl Route {
    /// Notes who saw an object, and says whether the route's objects are each one's own.
    fn is_private(&mut self, object: u32, session: u32) -> bool {
        match self.objects.binary_search_by_key(&object, |(object, ..)| *object) {
            Ok(at) => {
                if let Some((_, first, is_shared)) = self.objects.get_mut(at) {
                    *is_shared |= *first != session;
                }
            }
            Err(at) if at < OBJECTS_KEPT => {
                self.objects.insert(at, (object, session, false));
                self.objects.truncate(OBJECTS_KEPT);
            }
            Err(_) => {}
        }
        let shared = self.objects.iter().filter(|(.., is_shared)| *is_shared).count();
        self.objects.len() >= OBJECTS_LEAST && shared * 4 < self.objects.len()
    }
}

impl Profile {
    fn turn(&mut self, now_s: u32) {
        let period = u16::try_from((now_s / PERIOD_S) & 0xffff).unwrap_or_default();
        if self.period != period {
            (self.period, self.pages, self.objects) = (period, 0, 0);
        }
    }

    fn identity(&self) -> u32 {
        low32(mix(u64::from(self.software) << 32 | u64::from(self.network)))
    }
}

impl Learner {
    /// A session that goes on with other software in another network is stolen: people change one of both.
    pub(super) fn follow_session(&mut self, event: &Event, out: &mut Vec<Signal>) {
        let (Some(session), Some(software)) = (event.session, event.software) else { return };
        let now_s = seconds(event.at_ms);
        let subject = Subject::new(SubjectKind::Session, session);
        let Some(entry) = self.profiles.entry(subject.hash(), now_s) else { return };
        let (profile, last_s) = (entry.value, entry.last_s.unwrap_or(0));
        let (software, network) = (low32(mix(software)).max(1), event.network());
        let changed = (profile.software != software, profile.network != network);
        let is_known = profile.software != 0 && now_s.saturating_sub(last_s) <= self.detectors.theft_s;
        if changed == (false, false) && now_s.saturating_sub(profile.told_s) < TELL_AGAIN_S {
            return;
        }
        if is_known && changed == (true, true) {
            let next = Profile { software, network, ..Profile::default() }.identity();
            let is_back = next == profile.previous;
            out.push(Signal {
                at_ms: event.at_ms,
                detector: Detector::SessionTheft,
                subject,
                confidence: if is_back { Confidence::High } else { Confidence::Medium },
                decisive: !profile.is_heard,
                reason: format!(
                    "a session {} other software and another network {} s after its last request",
                    if is_back { "goes back and forth between" } else { "goes on with" },
                    now_s.saturating_sub(last_s)
                ),
                events: 2,
                nodes: vec![Signal::OWN],
                links: Link::of_event(event, subject, false),
            });
            profile.previous = profile.identity();
        }
        (profile.software, profile.network, profile.told_s, profile.is_heard) =
            (software, network, now_s, false);
        self.tell(Seen { subject, at_s: now_s, software, network, place: None });
    }

    /// An account that logs in at two places farther apart than anybody travels.
    pub(super) fn follow_account(&mut self, event: &Event, out: &mut Vec<Signal>) {
        let (Step::Login(Outcome::Passed), Some(account), Some(place)) =
            (event.step, event.account, event.place)
        else {
            return;
        };
        let now_s = seconds(event.at_ms);
        let subject = Subject::new(SubjectKind::Account, account);
        let Some(entry) = self.profiles.entry(subject.hash(), now_s) else { return };
        let profile = entry.value;
        let software = event.software.map_or(0, |software| low32(mix(software)).max(1));
        let hours = f64::from(now_s.saturating_sub(profile.place_s)) / 3_600.0;
        let km = profile.place.map_or(0.0, |last| last.km_to(place));
        let (kmh_max, km_least) = (f64::from(self.detectors.travel_kmh), f64::from(self.detectors.travel_km));
        if km >= km_least && km > kmh_max * hours {
            // One's own software that is elsewhere at once is behind a VPN.
            let is_other = software != profile.software;
            out.push(Signal {
                at_ms: event.at_ms,
                detector: Detector::ImpossibleTravel,
                subject,
                confidence: if is_other { Confidence::High } else { Confidence::Low },
                decisive: is_other && !profile.is_heard,
                reason: format!(
                    "an account logged in twice {km:.0} km apart within {:.0} minutes",
                    hours * 60.0
                ),
                events: 2,
                nodes: vec![Signal::OWN],
                links: Link::of_event(event, subject, false),
            });
        }
        (profile.place, profile.place_s, profile.software) = (Some(place), now_s, software);
        profile.is_heard = false;
        self.tell(Seen { subject, at_s: now_s, software, network: event.network(), place: Some(place) });
    }

    /// Who opens many pages without a session.
    pub(super) fn follow_pages(&mut self, event: &Event, out: &mut Vec<Signal>) {
        let now_s = seconds(event.at_ms);
        let subject = Subject::address(event.ip);
        let Some(entry) = self.profiles.entry(subject.hash(), now_s) else { return };
        entry.value.turn(now_s);
        if event.step == Step::Page && event.session.is_none() && (200..300).contains(&event.status) {
            entry.value.pages = entry.value.pages.saturating_add(1);
            if entry.value.pages > PAGES_FREE {
                self.count(event, SeriesKey { subject, feature: Feature::Pages }, 1, event.target, out);
            }
        }
    }

    /// Who goes from object to object of others within a session.
    pub(super) fn follow_objects(&mut self, event: &Event, out: &mut Vec<Signal>) {
        let (Some(object), Some(session), Step::Page) = (event.object, event.session, event.step) else {
            return;
        };
        let now_s = seconds(event.at_ms);
        let subject = Subject::new(SubjectKind::Session, session);
        let Some(route) = self.routes.entry(event.route, now_s) else { return };
        let is_private = route.value.is_private(low32(mix(object)), low32(mix(session)));
        let Some(entry) = self.profiles.entry(subject.hash(), now_s) else { return };
        let profile = entry.value;
        profile.turn(now_s);
        let last = std::mem::replace(&mut profile.object, low32(object));
        let is_near = is_private && (1..=3).contains(&last.abs_diff(low32(object)));
        profile.objects =
            profile.objects.saturating_add(u16::from(is_near || matches!(event.status, 403 | 404)));
        if profile.objects > OBJECTS_FREE && (is_near || matches!(event.status, 403 | 404)) {
            let account = event.account.map(|account| Subject::new(SubjectKind::Account, account));
            for subject in std::iter::once(subject).chain(account) {
                self.count(event, SeriesKey { subject, feature: Feature::Walked }, 1, object, out);
            }
        }
    }

    /// Who gets far more than the route's answers usually are.
    pub(super) fn weigh(&mut self, event: &Event, out: &mut Vec<Signal>) {
        if !(200..300).contains(&event.status) {
            return;
        }
        let Some(entry) = self.routes.entry(event.route, seconds(event.at_ms)) else { return };
        let sizes = &mut entry.value.sizes;
        let usual = sizes.per_mille(990).filter(|_| sizes.count() >= SIZES_LEAST);
        // What is far beyond the usual does not teach what is usual: whoever takes much would make it so.
        let excess = usual.map_or(0, |usual| event.response_bytes.saturating_sub(4 * usual.max(1_024)));
        if excess == 0 {
            sizes.insert(event.response_bytes);
            return;
        }
        let kib = u32::try_from(excess / 1_024).unwrap_or(u32::MAX).max(1);
        let session = event.session.map(|session| Subject::new(SubjectKind::Session, session));
        for subject in std::iter::once(Subject::address(event.ip)).chain(session) {
            self.count(event, SeriesKey { subject, feature: Feature::Excess }, kib, event.target, out);
        }
    }

    /// Notes what another node says of a session or an account, unless this node saw it itself since.
    pub(super) fn hear(&mut self, seen: &Seen, now_s: u32) {
        if seen.at_s > now_s.saturating_add(60) {
            return;
        }
        let Some(entry) = self.profiles.entry(seen.subject.hash(), seen.at_s) else { return };
        let (profile, last_s) = (entry.value, entry.last_s.unwrap_or(0));
        if last_s > seen.at_s {
            return;
        }
        if profile.software != 0 && (profile.software != seen.software && profile.network != seen.network) {
            profile.previous = profile.identity();
        }
        (profile.software, profile.network, profile.is_heard) = (seen.software, seen.network, true);
        if seen.place.is_some() {
            (profile.place, profile.place_s) = (seen.place, seen.at_s);
        }
    }

    fn tell(&mut self, seen: Seen) {
        if self.seen.len() < 4 * SEEN_MAX {
            self.seen.push(seen);
        }
    }
}

const PERIOD_S: u32 = 600;
/// Pages and neighbouring objects in ten minutes that are not looked at closely: nearly everybody stays below.
const PAGES_FREE: u16 = 50;
const OBJECTS_FREE: u16 = 3;
/// Sessions that stay as they are, are told again after this time.
const TELL_AGAIN_S: u32 = 1_200;
const OBJECTS_KEPT: usize = 64;
const OBJECTS_LEAST: usize = 16;
/// Answers after which the size of a route's answers is known.
const SIZES_LEAST: u64 = 300;
