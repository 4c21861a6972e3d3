//! From evidence to signals.

use phalanx_model::Confidence;

use super::{Learner, address_hash};
use crate::detect::{Detector, Signal, Threshold};
use crate::event::{Event, Subject, SubjectKind};
use crate::evidence::{BUCKET_MS, Feature, OWN, Series, SeriesKey, Share, Totals, bucket};
use crate::link::{Entity, Link};

/// What evidence amounts to.
struct Case {
    detector: Detector,
    confidence: Confidence,
    totals: Totals,
    decisive: bool,
    reason: String,
}

/// A series that is judged, and the event that changed it; none if another node's word did.
struct Watched<'a> {
    key: SeriesKey,
    series: &'a Series,
    now_ms: u64,
    event: Option<&'a Event>,
}

impl Learner {
    /// The signal that a series makes now, if it makes one that was not told yet.
    pub(super) fn judge(&mut self, key: SeriesKey, now_ms: u64, event: Option<&Event>) -> Option<Signal> {
        let case = self.case(key, now_ms, event)?;
        let is_rare = self.is_rare(key, event);
        // Where people log in from an address, nobody is refused for what others did there.
        let is_shared = key.subject.kind == SubjectKind::Address
            && self.people(key.subject) >= PEOPLE_LEAST
            && !event.is_some_and(|event| self.is_its_own_doing(event, OWN_DOING_LEAST));
        let confidence = if is_shared { Confidence::Medium.min(case.confidence) } else { case.confidence };
        let is_crowded = event.is_some_and(|event| self.people(Subject::address(event.ip)) >= PEOPLE_LEAST);
        let series = self.series.peek_mut(key.hash())?;
        // A claim that did not count yet is told once more when it does, and not each time that it is claimed again.
        let is_again = series.told.is_some_and(|(last_ms, last_count, was_decisive)| {
            now_ms < last_ms.saturating_add(TELL_AGAIN_MS)
                && case.totals.count < (2 * last_count).max(1)
                && case.decisive <= was_decisive
        });
        if is_again {
            return None;
        }
        series.told = Some((now_ms, case.totals.count, case.decisive));
        let mut links = match event {
            Some(event) => Link::of_event(event, key.subject, case.detector, is_rare),
            None => {
                let mut links = vec![
                    Link::of_subject(key.subject, is_rare),
                    Link::of_finding(case.detector, key.subject),
                ];
                let (route, network) = series.last;
                if network != 0 {
                    links.push(Link { entity: Entity::deed(case.detector, route, network), weight: 0.7 });
                    links.push(Link::of_subject(Subject::new(SubjectKind::Route, route), is_rare));
                }
                links
            }
        };
        let from = bucket(now_ms).saturating_sub(6);
        let addresses = series.own.from.hashes(from).take(ADDRESSES_LINKED);
        // An address that people share is not the attacker: it joins nothing alone, and an incident does not cover it.
        if let Some(event) = event.filter(|_| is_crowded) {
            let address = Entity::of(Subject::address(event.ip));
            let own = links.iter_mut().filter(|link| link.entity == address);
            own.for_each(|link| link.weight = link.weight.min(SHARED_ADDRESS));
        }
        // Of software that everybody has, the addresses are everybody's.
        let is_popular = key.subject.kind == SubjectKind::Software && !is_rare;
        let is_told = event.is_some() || key.subject.kind == SubjectKind::Software;
        if is_told
            && !is_popular
            && !is_crowded
            && !matches!(case.detector, Detector::Outage | Detector::Flood)
        {
            links.extend(addresses.map(|hash| Link { entity: Entity::address_hash(hash), weight: 0.6 }));
        }
        Some(Signal {
            at_ms: now_ms,
            detector: case.detector,
            subject: key.subject,
            confidence,
            decisive: case.decisive,
            reason: case.reason,
            events: case.totals.claimed,
            nodes: case.totals.nodes,
            links,
        })
    }

    fn case(&self, key: SeriesKey, now_ms: u64, event: Option<&Event>) -> Option<Case> {
        let series = self.series.peek(key.hash())?;
        let of = &self.detectors;
        let watched = Watched { key, series, now_ms, event };
        let simple = |threshold, detector, confidence, things: &str| {
            let (totals, decisive) = self.reached(&watched, threshold)?;
            let reason = says(&totals, threshold, detector, things);
            Some(Case { detector, confidence, totals, decisive, reason })
        };
        use Confidence::{High, Medium};
        let is_software = key.subject.kind == SubjectKind::Software;
        // What is done with software that many have is not one actor's doing; how many of its logins fail is looked at.
        if is_software
            && !matches!(key.feature, Feature::LoginFailed | Feature::Requests)
            && !self.is_foreign(key.subject)
        {
            return None;
        }
        match (key.feature, key.subject.kind) {
            (Feature::LoginFailed, SubjectKind::App) => None,
            (Feature::LoginFailed, SubjectKind::Secret) => {
                let things = "failed logins with one password, accounts";
                let (case, window_s) = simple(of.spraying, Detector::Spraying, High, things)
                    .map(|case| (case, of.spraying.window_s))
                    .or_else(|| {
                        let fast = simple(of.spraying_fast, Detector::Spraying, Medium, things)?;
                        Some((fast, of.spraying_fast.window_s))
                    })?;
                // A class that was told one password is in one room.
                if case.totals.from < SPRAYING_ADDRESSES_LEAST {
                    return None;
                }
                self.is_beyond_popular(series, now_ms, window_s).then_some(case)
            }
            (Feature::LoginFailed, _) => self.stuffing(&watched),
            (Feature::LookedUp, _) => {
                let things = "questions, accounts";
                simple(of.enumeration, Detector::Enumeration, Medium, things)
                    .or_else(|| simple(of.enumeration_fast, Detector::Enumeration, Medium, things))
            }
            (Feature::Missing, _) => {
                let confidence = if is_software { Medium } else { High };
                let things = "missing pages, different ones";
                let case = simple(of.scanning, Detector::Scanning, confidence, things)
                    .or_else(|| simple(of.scanning_slow, Detector::Scanning, confidence, things))?;
                let is_mostly = if is_software {
                    self.is_most_of_requests(&watched, of.scanning_slow, of.scanning_percent)
                } else {
                    self.is_mostly_notable(key.subject, of.scanning_percent)
                };
                (is_mostly && !self.fails_everybody(event, now_ms).0).then_some(case)
            }
            (Feature::Walked, _) if self.fails_everybody(event, now_ms).0 => None,
            (Feature::Walked, _) => simple(of.walk, Detector::ObjectWalk, High, "steps, objects")
                .or_else(|| simple(of.walk_fast, Detector::ObjectWalk, Medium, "steps, objects")),
            (Feature::Pages, _) => {
                let things = "pages, different ones";
                if let Some(case) = simple(of.scraping, Detector::Scraping, Medium, things) {
                    let is_most = self.is_most_of_requests(&watched, of.scraping, of.scraping_percent);
                    return (!is_software || is_most).then_some(case);
                }
                // Who fetches a list of products each hour is no stranger, and a flood is no taking of pages.
                let from = window(now_ms, of.scraping_fast.window_s);
                let buckets = series.own.counts.since(from).count();
                if !is_software || !self.is_new(key.subject) || buckets < SCRAPING_BUCKETS_LEAST {
                    return None;
                }
                let case = simple(of.scraping_fast, Detector::Scraping, Medium, things)?;
                self.is_most_of_requests(&watched, of.scraping_fast, of.scraping_percent).then_some(case)
            }
            (Feature::PaymentFailed, _) => {
                simple(of.carding, Detector::Carding, High, "refused payments, cards")
            }
            (Feature::Attacked, _) => simple(of.exploiting, Detector::Exploiting, High, "attacks, targets"),
            (Feature::Excess, _) => {
                let threshold = Threshold { window_s: 600, events: of.exfiltration_kib, different: 1 };
                simple(threshold, Detector::Exfiltration, Medium, "KiB beyond the usual, answers")
            }
            (Feature::Requests, SubjectKind::Software) => self.flood(series, key.subject, now_ms),
            (Feature::ServerFailed, SubjectKind::Route) => self.trouble(&watched, key.subject),
            (Feature::ServerFailed, _) => {
                let threshold = Threshold { window_s: 60, events: of.outage_errors, different: 1 };
                let case = simple(threshold, Detector::ErrorStorm, Medium, "failures of the server, pages")?;
                (!self.fails_everybody(event, now_ms).0).then_some(case)
            }
            _ => None,
        }
    }

    /// Whether a threshold is reached, and whether it is without what any one other node alone claims. An address from which many people
    /// come may do as much more, unless one kind of software there did that much itself.
    fn reached(&self, watched: &Watched<'_>, threshold: Threshold) -> Option<(Totals, bool)> {
        let from = window(watched.now_ms, threshold.window_s);
        let totals = watched.series.totals(from, self.share(threshold));
        let claimed = totals.claimed >= threshold.events && totals.claimed_what >= threshold.different;
        if !claimed {
            return None;
        }
        let decisive = totals.count >= threshold.events && totals.what >= threshold.different;
        if watched.key.subject.kind == SubjectKind::Address {
            let wide = threshold.times(self.crowd(watched.key.subject));
            let is_crowds = totals.count < wide.events || totals.what < wide.different;
            let is_own = |event: &Event| self.is_its_own_doing(event, threshold.events);
            if wide != threshold && is_crowds && !watched.event.is_some_and(is_own) {
                return None;
            }
        }
        Some((totals, decisive))
    }

    /// Whether one password has more of all failed logins than the most popular ones have anywhere.
    fn is_beyond_popular(&self, series: &Series, now_ms: u64, window_s: u32) -> bool {
        let from = window(now_ms, window_s);
        let all = SeriesKey { subject: Subject::new(SubjectKind::App, 0), feature: Feature::LoginFailed };
        let all = self.series.peek(all.hash()).map_or(0, |all| all.own.counts.within(from, u32::MAX));
        series.own.counts.within(from, u32::MAX) * 100 >= all * self.detectors.spraying_percent
    }

    /// Whether so much of what a kind of software asked this node for is what a series is about.
    fn is_most_of_requests(&self, watched: &Watched<'_>, threshold: Threshold, percent: u64) -> bool {
        let from = window(watched.now_ms, threshold.window_s);
        let requests = SeriesKey { feature: Feature::Requests, ..watched.key };
        let all = self.series.peek(requests.hash()).map_or(0, |all| all.own.counts.within(from, u32::MAX));
        watched.series.own.counts.within(from, u32::MAX) * 100 >= all * percent
    }

    fn share(&self, threshold: Threshold) -> Share {
        let part = |of: u64| of * self.detectors.peer_percent.min(49) / 100;
        Share { count: part(threshold.events), what: usize::try_from(part(threshold.different)).unwrap_or(0) }
    }

    /// Many accounts, and hardly any login goes through; where nobody gets in, it is the app's fault, but for what hardly anybody has.
    fn stuffing(&self, watched: &Watched<'_>) -> Option<Case> {
        let key = watched.key;
        // Many have it, or are in it: then it takes more.
        let is_shared = match key.subject.kind {
            SubjectKind::Software => !self.is_foreign(key.subject),
            SubjectKind::Prefix => !self.is_rare(key, watched.event),
            _ => false,
        };
        let of = &self.detectors;
        let fast = self.tries(watched, of.stuffing.times(if is_shared { SHARED_TIMES } else { 1 }));
        let (threshold, totals, decisive, passed) = fast.or_else(|| {
            // An address may be many people's, and in ten minutes many of them mistype.
            let is_tool = key.subject.kind == SubjectKind::Software && !is_shared;
            let is_let_in = !self.fails_everybody(watched.event, watched.now_ms).1;
            self.tries(watched, of.stuffing_slow).filter(|_| is_tool && is_let_in)
        })?;
        if key.subject.kind == SubjectKind::Prefix && totals.from < NETWORK_ADDRESSES_LEAST {
            return None;
        }
        let software = watched.event.and_then(|event| event.software);
        let is_stranger = software.is_some_and(|id| self.is_foreign(Subject::new(SubjectKind::Software, id)));
        if !is_stranger && self.fails_everybody(watched.event, watched.now_ms).1 {
            return None;
        }
        let is_wide = key.subject.kind == SubjectKind::Prefix || is_shared;
        let confidence = if is_wide { Confidence::Medium } else { Confidence::High };
        let reason = says(&totals, threshold, Detector::Stuffing, "failed logins, accounts")
            + &format!("; {passed} logins went through");
        Some(Case { detector: Detector::Stuffing, confidence, totals, decisive, reason })
    }

    /// Whether a threshold of failed logins is reached, of which hardly any goes through, and how many did.
    fn tries(&self, watched: &Watched<'_>, threshold: Threshold) -> Option<(Threshold, Totals, bool, u64)> {
        let (totals, decisive) = self.reached(watched, threshold)?;
        let passed = SeriesKey { feature: Feature::LoginPassed, ..watched.key };
        let from = window(watched.now_ms, threshold.window_s);
        let passed = self.series.peek(passed.hash()).map(|passed| passed.totals(from, self.share(threshold)));
        let passed = passed.map_or(0, |totals| totals.count);
        let is_mostly =
            totals.count * 100 >= (totals.count + passed) * self.detectors.stuffing_failed_percent;
        is_mostly.then_some((threshold, totals, decisive, passed))
    }

    /// A software has far more than its usual share of an app's requests, more than the app serves, from many addresses.
    fn flood(&self, series: &Series, software: Subject, now_ms: u64) -> Option<Case> {
        // Of the ten seconds before the current ones, the part that is not ten seconds ago: wherever a flood begins, as much of it is enough.
        let (now, left) = (bucket(now_ms), BUCKET_MS - now_ms % BUCKET_MS);
        let slid = |of: &Series| {
            let before = of.own.counts.within(now.saturating_sub(1), now.saturating_sub(1));
            of.own.counts.within(now, now) + before * left / BUCKET_MS
        };
        let count = slid(series);
        let all = slid(self.series.peek(all_requests().hash())?).max(1);
        let of = &self.detectors;
        if count < of.flood_requests || !self.epochs.is_settled() {
            return None;
        }
        let share = count * 1_000_000 / all;
        let from = series.own.from.since(now.saturating_sub(1));
        if from < of.flood_addresses || share < 300_000 || share < u64::from(series.usual) * of.flood_times {
            return None;
        }
        let totals = Totals { count, what: from, from, claimed: count, claimed_what: from, nodes: vec![OWN] };
        let reason = format!(
            "one kind of software, {:016x}, asked {count} times from some {from} addresses within ten seconds: {} % of all requests, usually {} %",
            software.id,
            share / 10_000,
            series.usual / 10_000
        );
        Some(Case { detector: Detector::Flood, confidence: Confidence::High, totals, decisive: true, reason })
    }

    /// The server fails: for most clients of a route it is an outage, for few it is theirs.
    fn trouble(&self, watched: &Watched<'_>, route: Subject) -> Option<Case> {
        let of = &self.detectors;
        let from = window(watched.now_ms, 60);
        let threshold = Threshold { window_s: 60, events: of.outage_errors, different: 1 };
        let (totals, decisive) = self.reached(watched, threshold)?;
        let all = SeriesKey { subject: route, feature: Feature::Requests };
        let all = self.series.peek(all.hash())?.totals(from, self.share(threshold));
        if totals.count * 100 < all.count * of.storm_percent {
            return None;
        }
        let is_most = totals.from >= OUTAGE_CLIENTS_LEAST && totals.from * 2 >= all.from;
        let detector = if is_most { Detector::Outage } else { Detector::ErrorStorm };
        if !is_most && totals.count < of.storm_errors {
            return None;
        }
        let reason = format!(
            "{}: {} of {} answers failed within a minute, for {} of {} clients",
            detector.says(),
            totals.count,
            all.count,
            totals.from,
            all.from
        );
        Some(Case { detector, confidence: Confidence::Medium, totals, decisive, reason })
    }

    /// Counts what every request is: of a kind of software, of its route, of the node.
    pub(super) fn count_requests(&mut self, event: &Event, out: &mut Vec<Signal>) {
        self.epochs.count(bucket(event.at_ms));
        self.count(event, all_requests(), 1, 0, out);
        if let Some(software) = event.software {
            let subject = Subject::new(SubjectKind::Software, software);
            let key = SeriesKey { subject, feature: Feature::Requests };
            if let Some(series) = self.series.peek_mut(key.hash()) {
                series.count_share(&self.epochs);
            }
            self.count(event, key, 1, event.target, out);
        }
        let route = Subject::new(SubjectKind::Route, event.route);
        self.count(event, SeriesKey { subject: route, feature: Feature::Requests }, 1, event.target, out);
        if event.status >= 500 {
            let client = u64::from(address_hash(event));
            self.count(event, SeriesKey { subject: route, feature: Feature::ServerFailed }, 1, client, out);
        }
    }

    /// Whether software is not what many people use: only then what it does is one actor's doing.
    pub(super) fn is_foreign(&self, software: Subject) -> bool {
        let requests = SeriesKey { subject: software, feature: Feature::Requests };
        self.series.peek(requests.hash()).is_none_or(|series| series.usual < COMMON_PPM)
    }

    /// Whether software was hardly ever seen before; nobody knows before it is known what is usual.
    fn is_new(&self, software: Subject) -> bool {
        let requests = SeriesKey { subject: software, feature: Feature::Requests };
        self.epochs.is_settled()
            && self.series.peek(requests.hash()).is_none_or(|series| series.usual < NEW_PPM)
    }

    /// Whether a request comes from software that hardly anybody else has.
    pub(super) fn is_strange(&self, event: &Event) -> bool {
        event.software.is_some_and(|id| self.is_foreign(Subject::new(SubjectKind::Software, id)))
    }

    fn is_rare(&self, key: SeriesKey, event: Option<&Event>) -> bool {
        let software =
            event.and_then(|event| event.software).map(|id| Subject::new(SubjectKind::Software, id));
        let subject = if key.subject.kind == SubjectKind::Software { Some(key.subject) } else { software };
        subject.is_some_and(|subject| self.is_foreign(subject))
    }
}

fn says(totals: &Totals, threshold: Threshold, detector: Detector, things: &str) -> String {
    let nodes = totals.nodes.len();
    format!(
        "{}: in {} s {} {things} {}, seen by {nodes} node{}",
        detector.says(),
        threshold.window_s,
        totals.claimed,
        totals.claimed_what,
        if nodes == 1 { "" } else { "s" }
    )
}

/// The first bucket of a window that ends now.
fn window(now_ms: u64, window_s: u32) -> u32 {
    bucket(now_ms.saturating_sub(u64::from(window_s) * 1_000).saturating_add(BUCKET_MS - 1))
}

fn all_requests() -> SeriesKey {
    SeriesKey { subject: Subject::new(SubjectKind::App, 0), feature: Feature::Requests }
}

/// What an address that people share says of who did it.
const SHARED_ADDRESS: f32 = 0.4;
/// A signal that says no more than the last one is told again after this time.
const TELL_AGAIN_MS: u64 = 60_000;
const ADDRESSES_LINKED: usize = 16;
/// Addresses that one password is sprayed from at least; who does it from fewer tries many accounts from each.
const SPRAYING_ADDRESSES_LEAST: u64 = 3;
/// What fewer addresses do is theirs, and not their network's.
const NETWORK_ADDRESSES_LEAST: u64 = 3;
/// Software that everybody has, and networks of everybody, may fail so many times as often.
const SHARED_TIMES: u64 = 3;
/// What one kind of software did at an address, from which it is that which is refused there.
const OWN_DOING_LEAST: u64 = 6;
/// Sessions of people who logged in, from which an address is shared.
const PEOPLE_LEAST: u64 = 2;
/// Fewer clients are not everybody.
const OUTAGE_CLIENTS_LEAST: u64 = 5;
/// Whoever takes pages does so for a while: in so many times of ten seconds.
const SCRAPING_BUCKETS_LEAST: usize = 3;
/// A software with less than this part of all requests is new: a tool that begins has that after some minutes.
const NEW_PPM: u32 = 500;
/// A software with more than this part of all requests is one that people use.
const COMMON_PPM: u32 = 20_000;
