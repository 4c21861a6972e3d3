//! What single actors do, one request after the other: where sessions and accounts are, and who takes much.

use phalanx_model::Confidence;

use super::{Learner, address_hash, seconds};
use crate::detect::{Detector, Signal};
use crate::event::{Event, Outcome, Place, Step, Subject, SubjectKind};
use crate::evidence::{Feature, SeriesKey, bucket};
use crate::health::Fare;
use crate::link::Link;
use crate::share::{SEEN_MAX, Seen};
use crate::sketch::{Distinct, Quantiles, low32, mix};

/// What is known of one address, session or account.
#[derive(Debug, Default)]
pub(super) struct Profile {
    /// With which software and in which network it was seen last; 0 if never.
    software: u32,
    network: u32,
    /// Software and network before that; of an account the software alone.
    previous: u32,
    /// When the others were told of a session, and when an account was first seen.
    told_s: u32,
    /// Where it logged in last.
    place: Option<Place>,
    place_s: u32,
    object: u32,
    /// Ten minutes in which it was seen last; with each that begins, the counts are halved.
    period: u16,
    /// Pages that were there; of an account, how often it logged in.
    pages: u16,
    /// What is held against it: pages that were not, failed logins and so on.
    notable: u16,
    /// Sessions of people who logged in.
    crowd: u8,
    /// Another node says so.
    is_heard: bool,
}

/// What is usual on a route.
#[derive(Debug, Default)]
pub(super) struct Route {
    sizes: Quantiles,
    /// Of objects with the least hashes: by which session it was seen first, and whether by another one since.
    objects: Vec<(u32, u32, bool)>,
    /// Networks whose sessions went from object to object, and those where they went to neighbours, by hour.
    movers: Distinct,
    walkers: Distinct,
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

    /// Notes a session's step, and says whether many go to neighbours here, as through the pictures of an album of their own. Each network
    /// has one voice in an hour, so that a tool does not make usual what it does.
    fn is_walked(&mut self, network: u32, is_near: bool, now_s: u32) -> bool {
        let hour = now_s / 3_600;
        self.movers.insert(network, hour);
        if is_near {
            self.walkers.insert(network, hour);
        }
        let from = hour.saturating_sub(24);
        let walkers = self.walkers.since(from);
        walkers >= WALKERS_LEAST && walkers * 5 >= self.movers.since(from)
    }
}

impl Profile {
    /// Says whether a period began for it.
    fn turn(&mut self, now_s: u32) -> bool {
        let period = u16::try_from((now_s / PERIOD_S) & 0xffff).unwrap_or_default();
        let passed = u32::from(period.wrapping_sub(self.period));
        self.period = period;
        let halved = |count: u16| count.checked_shr(passed).unwrap_or(0);
        (self.pages, self.notable) = (halved(self.pages), halved(self.notable));
        self.crowd = self.crowd.checked_shr(passed).unwrap_or(0);
        passed != 0
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
        self.follow_crowd(event, subject, now_s);
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
                links: Link::of_event(event, subject, Detector::SessionTheft, false),
            });
            profile.previous = profile.identity();
        }
        (profile.software, profile.network, profile.told_s, profile.is_heard) =
            (software, network, now_s, false);
        self.tell(Seen { subject, at_s: now_s, software, network, place: None });
    }

    /// An account that logs in at two places farther apart than anybody travels. Says whether it did with that software before.
    pub(super) fn follow_account(&mut self, event: &Event, out: &mut Vec<Signal>) -> bool {
        let (Step::Login(Outcome::Passed), Some(account), Some(place)) =
            (event.step, event.account, event.place)
        else {
            return false;
        };
        let now_s = seconds(event.at_ms);
        let subject = Subject::new(SubjectKind::Account, account);
        let Some(entry) = self.profiles.entry(subject.hash(), now_s) else { return false };
        let profile = entry.value;
        let software = event.software.map_or(0, |software| low32(mix(software)).max(1));
        let hours = f64::from(now_s.saturating_sub(profile.place_s)) / 3_600.0;
        let km = profile.place.map_or(0.0, |last| last.km_to(place));
        let (kmh_max, km_least) = (f64::from(self.detectors.travel_kmh), f64::from(self.detectors.travel_km));
        if km >= km_least && km > kmh_max * hours {
            // One's own software that is elsewhere at once is behind a VPN: the last one, or the one before it.
            let is_other = ![profile.software, profile.previous].contains(&software);
            // Of an account that is new to the node it is not known what its own is.
            let is_known = now_s.saturating_sub(profile.told_s) >= ACCOUNT_KNOWN_S
                && profile.pages >= ACCOUNT_LOGINS_LEAST;
            out.push(Signal {
                at_ms: event.at_ms,
                detector: Detector::ImpossibleTravel,
                subject,
                confidence: match (is_other, is_known) {
                    (true, true) => Confidence::High,
                    (true, false) => Confidence::Medium,
                    (false, _) => Confidence::Low,
                },
                decisive: is_other && is_known && !profile.is_heard,
                reason: format!(
                    "an account logged in twice {km:.0} km apart within {:.0} minutes",
                    hours * 60.0
                ),
                events: 2,
                nodes: vec![Signal::OWN],
                links: Link::of_event(event, subject, Detector::ImpossibleTravel, false),
            });
        }
        let is_own = software != 0 && [profile.software, profile.previous].contains(&software);
        if profile.told_s == 0 {
            profile.told_s = now_s;
        }
        if software != profile.software {
            profile.previous = profile.software;
        }
        (profile.place, profile.place_s, profile.software) = (Some(place), now_s, software);
        profile.pages = profile.pages.saturating_add(1);
        profile.is_heard = false;
        self.tell(Seen { subject, at_s: now_s, software, network: event.network(), place: Some(place) });
        is_own
    }

    /// Counts sessions of people who logged in, each once in ten minutes, for the address that they come from and for their software
    /// there: what comes from a crowd is measured by its size, what a stranger among them does is not.
    fn follow_crowd(&mut self, event: &Event, session: Subject, now_s: u32) {
        if event.account.is_none() || matches!(event.step, Step::Login(Outcome::Failed) | Step::Lookup) {
            return;
        }
        let Some(entry) = self.profiles.entry(session.hash(), now_s) else { return };
        if !entry.value.turn(now_s) {
            return;
        }
        let address = Subject::address(event.ip).hash();
        let Some(entry) = self.profiles.entry(address, now_s) else { return };
        entry.value.turn(now_s);
        entry.value.crowd = entry.value.crowd.saturating_add(1);
        // Where there is no crowd, nothing is to be told apart.
        if entry.value.crowd > 1
            && let Some(client) = self.profiles.entry(client(event), now_s)
        {
            client.value.turn(now_s);
            client.value.crowd = client.value.crowd.saturating_add(1);
        }
    }

    /// Notes that something is held against an address, and against one kind of software there.
    pub(super) fn note(&mut self, event: &Event) {
        let now_s = seconds(event.at_ms);
        let address = Subject::address(event.ip).hash();
        let Some(entry) = self.profiles.entry(address, now_s) else { return };
        entry.value.turn(now_s);
        entry.value.notable = entry.value.notable.saturating_add(1);
        if entry.value.crowd > 1
            && let Some(client) = self.profiles.entry(client(event), now_s)
        {
            client.value.turn(now_s);
            client.value.notable = client.value.notable.saturating_add(1);
        }
    }

    /// How many times as much an address may do as one person, for the people who logged in there.
    pub(super) fn crowd(&self, address: Subject) -> u64 {
        1 + self.people(address) / self.detectors.crowd.max(1)
    }

    /// Whether one kind of software at an address did so much itself, and so much more for each of its own people.
    pub(super) fn is_its_own_doing(&self, event: &Event, events: u64) -> bool {
        self.profiles.peek(client(event)).is_some_and(|client| {
            u64::from(client.notable) >= events.saturating_mul(1 + u64::from(client.crowd))
        })
    }

    /// Whether so much of what an address asked for is held against it.
    pub(super) fn is_mostly_notable(&self, address: Subject, percent: u64) -> bool {
        self.profiles.peek(address.hash()).is_none_or(|profile| {
            let (notable, pages) = (u64::from(profile.notable), u64::from(profile.pages));
            notable * 100 >= (notable + pages) * percent
        })
    }

    /// Who opens many pages without a session: an address, or a kind of software that hardly anybody has.
    pub(super) fn follow_pages(&mut self, event: &Event, out: &mut Vec<Signal>) {
        let now_s = seconds(event.at_ms);
        let subject = Subject::address(event.ip);
        let Some(entry) = self.profiles.entry(subject.hash(), now_s) else { return };
        entry.value.turn(now_s);
        if event.step != Step::Page || !(200..300).contains(&event.status) {
            return;
        }
        entry.value.pages = entry.value.pages.saturating_add(1);
        let is_much = entry.value.pages > PAGES_FREE;
        if event.session.is_some() {
            return;
        }
        if is_much {
            self.count(event, SeriesKey { subject, feature: Feature::Pages }, 1, event.target, out);
        }
        let software = event.software.map(|id| Subject::new(SubjectKind::Software, id));
        if let Some(subject) = software.filter(|subject| self.is_foreign(*subject)) {
            self.count(event, SeriesKey { subject, feature: Feature::Pages }, 1, event.target, out);
        }
    }

    /// Who goes from object to object of others within a session.
    pub(super) fn follow_objects(&mut self, event: &Event, out: &mut Vec<Signal>) {
        let (Some(object), Some(session), Step::Page) = (event.object, event.session, event.step) else {
            return;
        };
        let now_s = seconds(event.at_ms);
        let subject = Subject::new(SubjectKind::Session, session);
        let Some(entry) = self.profiles.entry(subject.hash(), now_s) else { return };
        let last = std::mem::replace(&mut entry.value.object, low32(object));
        let Some(route) = self.routes.entry(event.route, now_s) else { return };
        let is_private = route.value.is_private(low32(mix(object)), low32(mix(session)));
        let distance = last.abs_diff(low32(object));
        let is_near = last != 0 && (1..=NEIGHBOURS).contains(&distance);
        let is_walked = last != 0 && distance != 0 && route.value.is_walked(event.network(), is_near, now_s);
        let is_refused = event.status == 403 || (event.status == 404 && is_private);
        if (is_near && is_private && !is_walked) || is_refused {
            let account = event.account.map(|account| Subject::new(SubjectKind::Account, account));
            for subject in std::iter::once(subject).chain(account) {
                self.count(event, SeriesKey { subject, feature: Feature::Walked }, 1, object, out);
            }
        }
    }

    /// How the app's people fare; tells when most of them meet failures or missing pages.
    pub(super) fn follow_health(&mut self, event: &Event, out: &mut Vec<Signal>) {
        let software = event.software.map(|id| Subject::new(SubjectKind::Software, id));
        if software.is_none_or(|software| self.is_foreign(software)) {
            return;
        }
        let Some(entry) = self.health.entry(event.app, seconds(event.at_ms)) else { return };
        let (health, now) = (entry.value, bucket(event.at_ms));
        let is_missing = event.status == 404 && event.step == Step::Page;
        let fare = Fare {
            is_hurt: is_missing || event.status >= 500,
            got_in: event.session.is_some() && event.step == Step::Login(Outcome::Passed),
            turned_down: event.session.is_some() && event.step == Step::Login(Outcome::Failed),
        };
        health.note(address_hash(event), fare, now);
        if fare.is_hurt && health.hurts_everybody(now).is_some() {
            self.troubled.0 = now;
        }
        if fare.turned_down && health.turns_everybody_down(now) {
            self.troubled.1 = now;
        }
        if !fare.is_hurt || event.at_ms < health.told_ms.saturating_add(HEALTH_AGAIN_MS) {
            return;
        }
        let Some((hurt, all)) = health.hurts_everybody(now) else { return };
        health.told_ms = event.at_ms;
        let subject = Subject::new(SubjectKind::App, event.app);
        out.push(Signal {
            at_ms: event.at_ms,
            detector: Detector::Outage,
            subject,
            confidence: Confidence::Medium,
            decisive: true,
            reason: format!("some {hurt} of {all} clients met failures or missing pages within half a minute: an outage or a broken release"),
            events: hurt,
            nodes: vec![Signal::OWN],
            links: Link::of_event(event, subject, Detector::Outage, false),
        });
    }

    /// Whether an app fails everybody now, and whether it lets nobody in; without an event, whether any app does.
    pub(super) fn fails_everybody(&self, event: Option<&Event>, now_ms: u64) -> (bool, bool) {
        let now = bucket(now_ms);
        let Some(event) = event else {
            let is_now = |last: u32| last != 0 && now <= last.saturating_add(TROUBLED_BUCKETS);
            return (is_now(self.troubled.0), is_now(self.troubled.1));
        };
        let health = self.health.peek(event.app);
        health.map_or((false, false), |of| (of.hurts_everybody(now).is_some(), of.turns_everybody_down(now)))
    }

    /// How many sessions of people who logged in come from an address.
    pub(super) fn people(&self, address: Subject) -> u64 {
        self.profiles.peek(address.hash()).map_or(0, |profile| u64::from(profile.crowd))
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
        let is_account = seen.subject.kind == SubjectKind::Account;
        if is_account && profile.software != seen.software {
            profile.previous = profile.software;
        }
        if !is_account
            && profile.software != 0
            && (profile.software != seen.software && profile.network != seen.network)
        {
            profile.previous = profile.identity();
        }
        if is_account && profile.told_s == 0 {
            profile.told_s = seen.at_s;
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

/// An address with one kind of software, as an actor.
fn client(event: &Event) -> u64 {
    mix(Subject::address(event.ip).hash() ^ event.software.unwrap_or(0).rotate_left(17))
}

const PERIOD_S: u32 = 600;
/// Pages in ten minutes that are not looked at closely: nearly everybody stays below.
const PAGES_FREE: u16 = 60;
/// How far apart the objects are that a walk asks a node for: walks go over some nodes in turn, or not strictly forwards.
const NEIGHBOURS: u32 = 8;
/// Networks from which many go to neighbours.
const WALKERS_LEAST: u64 = 4;
/// Sessions that stay as they are, are told again after this time.
const TELL_AGAIN_S: u32 = 1_200;
/// An account that is known for half a day has been where it usually is, with what it usually has.
const ACCOUNT_KNOWN_S: u32 = 43_200;
/// And so many logins: who has a phone and a computer used both.
const ACCOUNT_LOGINS_LEAST: u16 = 5;
/// What other nodes tell is not held against anybody for so long after an app's trouble.
const TROUBLED_BUCKETS: u32 = 6;
/// Trouble of everybody is told again after this time.
const HEALTH_AGAIN_MS: u64 = 600_000;
const OBJECTS_KEPT: usize = 64;
const OBJECTS_LEAST: usize = 16;
/// Answers after which the size of a route's answers is known.
const SIZES_LEAST: u64 = 300;
