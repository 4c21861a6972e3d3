//! What is usual of each app and route: how much of it, by how many, how it is answered, how large and how fast, from where; by hour and
//! weekday. Learned online from the node's own events alone: no other node's word is in it.
//!
//! ```text
//! Event -> Window (a minute) -> compared with Usual, then taught to it -> signal with the three traits that are farthest off
//! ```
//!
//! Useful after an hour, as to new endpoints after a thousand minutes; by hour of the day when two of that hour were seen, after two days; by hour of the week after two weeks.
//! [`Baselines::to_bytes`] keeps it over a restart, and history teaches it beforehand by [`Baselines::learn`].
//!
//! Memory: 20 KiB for an app or route that is asked at every hour of the week, 10 MB for all.

mod endpoints;
#[cfg(test)]
mod tests;
mod usual;
mod window;

use std::collections::BTreeMap;

use phalanx_model::{Confidence, Country};

use crate::detect::{Detector, Signal};
use crate::event::{Event, Subject, SubjectKind};
use crate::link::Link;
use crate::sketch::wire::{Reader, Writer};
use endpoints::Endpoints;
use usual::{Distance, Usual};
use window::{Window, ratio};

/// What is usual of all apps and routes.
#[derive(Debug, Clone, Default)]
pub struct Baselines {
    all: BTreeMap<Subject, Box<Baseline>>,
}

/// How much is known of what is usual.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Familiarity {
    /// Apps and routes that were seen.
    pub all: usize,
    /// Those of which it is known what is usual.
    pub known: usize,
    /// Those of which it is known for this hour of the day.
    pub by_hour: usize,
    /// Those of which it is known for this hour of the week.
    pub by_week: usize,
    /// Minutes with requests until the next one is known; none where all are.
    pub minutes_left: Option<u16>,
}

/// What is usual of one.
#[derive(Debug, Clone)]
struct Baseline {
    window: Window,
    lately: Usual,
    /// By hour of the day, 24, and of the week, 168.
    hours: BTreeMap<u8, Usual>,
    /// Where requests come from, and what part of them.
    countries: Vec<(Country, f32)>,
    endpoints: Endpoints,
    /// Minutes in a row that were far from the usual.
    far: u8,
    told_minute: u64,
}

impl Baselines {
    /// Compares with the usual and learns; what is unusual goes to `out`.
    pub fn observe(&mut self, event: &Event, out: &mut Vec<Signal>) {
        // What had no answer, as what an order or a limit refuses, says nothing of an app: who attacks it would look like its failure.
        if event.status == 0 {
            return;
        }
        for subject in
            [Subject::new(SubjectKind::App, event.app), Subject::new(SubjectKind::Route, event.route)]
        {
            let Some(baseline) = self.entry(subject, event) else { continue };
            out.extend(baseline.turn(subject, event));
            if subject.kind == SubjectKind::App {
                let is_useful = baseline.lately.is_useful(ENDPOINTS_MINUTES);
                out.extend(
                    baseline.endpoints.note(event, is_useful).map(|first| new_endpoint(&first, event.at_ms)),
                );
            }
            let is_stranger = baseline.is_stranger(event.country);
            baseline.window.add(event, is_stranger);
        }
    }

    /// Learns from history, in the order of its time.
    pub fn learn(&mut self, event: &Event) {
        self.observe(event, &mut Vec::new());
    }

    /// How much is known by now.
    pub fn familiarity(&self, now_ms: u64) -> Familiarity {
        let [day, week] = hours_of(now_ms / MINUTE_MS);
        let mut found = Familiarity { all: self.all.len(), ..Familiarity::default() };
        for baseline in self.all.values() {
            let at = |place| baseline.hours.get(&place).is_some_and(|usual| usual.is_useful(HOUR_MINUTES));
            found.by_hour += usize::from(at(day));
            found.by_week += usize::from(at(week));
            match USEFUL_MINUTES.saturating_sub(baseline.lately.minutes()) {
                0 => found.known += 1,
                left => found.minutes_left = Some(found.minutes_left.map_or(left, |least| least.min(left))),
            }
        }
        found
    }

    fn entry(&mut self, subject: Subject, event: &Event) -> Option<&mut Baseline> {
        if self.all.len() >= BASELINES_MAX && !self.all.contains_key(&subject) {
            // The one that was asked for least lately makes room, if that was not today.
            let oldest = self.all.iter().min_by_key(|(subject, of)| (of.window.minute, **subject));
            let (gone, minute) = oldest.map(|(subject, of)| (*subject, of.window.minute))?;
            if event.at_ms / MINUTE_MS < minute.saturating_add(DAY_MINUTES) {
                return None;
            }
            self.all.remove(&gone);
        }
        Some(self.all.entry(subject).or_insert_with(|| Box::new(Baseline::new(event.at_ms / MINUTE_MS))))
    }

    /// The compact form: what is usual, without the current minute.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(KIND);
        let taught = || self.all.iter().filter(|(_, baseline)| baseline.lately.is_useful(1));
        out.length(taught().count());
        for (subject, baseline) in taught() {
            out.byte(subject.kind as u8);
            out.number(subject.id);
            baseline.write(&mut out);
        }
        out.finish()
    }

    /// Reads the compact form. Whatever is not exactly one is none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(KIND, bytes)?;
        let mut all = BTreeMap::new();
        for _ in 0..input.length(BASELINES_MAX)? {
            let kind = *SubjectKind::ALL.get(usize::from(input.byte()?))?;
            let subject = Subject::new(kind, input.number()?);
            let is_next = all.last_key_value().is_none_or(|(last, _)| *last < subject);
            let baseline = Box::new(Baseline::read(&mut input)?);
            if !is_next {
                return None;
            }
            all.insert(subject, baseline);
        }
        input.end()?;
        Some(Self { all })
    }
}

impl Baseline {
    fn new(minute: u64) -> Self {
        Self {
            window: Window::of(minute),
            lately: Usual::new(),
            hours: BTreeMap::new(),
            countries: Vec::new(),
            endpoints: Endpoints::default(),
            far: 0,
            told_minute: 0,
        }
    }

    /// Ends the minute before an event, if it is over.
    fn turn(&mut self, subject: Subject, event: &Event) -> Option<Signal> {
        let minute = event.at_ms / MINUTE_MS;
        if minute <= self.window.minute {
            return None;
        }
        let over = std::mem::replace(&mut self.window, Window::of(minute));
        if over.requests() == 0 {
            return None;
        }
        let now = over.traits();
        let strongest = self.strongest(&over);
        let is_far = strongest.first().is_some_and(|first| first.spreads >= FAR_SPREADS);
        self.far = if is_far { self.far.saturating_add(1) } else { 0 };
        // A minute that is far off may be an attack: it teaches what bounds it, and no country.
        self.lately.learn(&now, LATELY_MINUTES);
        for (place, memory) in hours_of(over.minute).into_iter().zip([DAY_MEMORY, WEEK_MEMORY]) {
            self.hours.entry(place).or_insert_with(Usual::new).learn(&now, memory);
        }
        if !is_far {
            self.learn_countries(&over);
        }
        let is_told = over.minute < self.told_minute.saturating_add(TELL_AGAIN_MINUTES);
        if self.far < FAR_MINUTES || is_told {
            return None;
        }
        self.told_minute = over.minute;
        Some(unusual(subject, event, over.requests(), &strongest))
    }

    /// The three traits that are farthest from the usual: by the hours of day and week where they are known, else by what was lately.
    fn strongest(&self, over: &Window) -> Vec<Distance> {
        let now = over.traits();
        let hours = hours_of(over.minute).into_iter().filter_map(|place| self.hours.get(&place));
        let mut known: Vec<&Usual> = hours.filter(|usual| usual.is_useful(HOUR_MINUTES)).collect();
        if known.is_empty() {
            known.extend(Some(&self.lately).filter(|usual| usual.is_useful(USEFUL_MINUTES)));
        }
        let mut known = known.into_iter().map(|usual| usual.distances(&now, over.requests()));
        let Some(first) = known.next().filter(|_| over.requests() >= REQUESTS_LEAST) else {
            return Vec::new();
        };
        let mut all: Vec<Distance> = first.collect();
        // What is usual at this hour of the week, or at this hour of any day, is usual.
        for others in known {
            for (own, other) in all.iter_mut().zip(others) {
                if other.spreads < own.spreads {
                    *own = other;
                }
            }
        }
        all.sort_by(|a, b| b.spreads.total_cmp(&a.spreads).then(a.of.cmp(&b.of)));
        all.truncate(3);
        all.retain(|distance| distance.spreads > 1.0);
        all
    }

    fn is_stranger(&self, country: Option<Country>) -> bool {
        let share =
            |country| self.countries.iter().find(|(known, _)| *known == country).map_or(0.0, |of| of.1);
        country.is_some_and(|country| share(country) < STRANGE_SHARE)
    }

    fn learn_countries(&mut self, over: &Window) {
        for (_, share) in &mut self.countries {
            *share *= 1.0 - COUNTRY_WEIGHT;
        }
        for &(country, count) in &over.countries {
            let more = COUNTRY_WEIGHT * ratio(count, over.requests());
            if let Some((_, share)) = self.countries.iter_mut().find(|(known, _)| *known == country) {
                *share += more;
            } else if self.countries.len() < COUNTRIES_MAX {
                // The first minutes tell where people come from.
                let is_new = !self.lately.is_useful(USEFUL_MINUTES);
                let share = if is_new { ratio(count, over.requests()) } else { more };
                self.countries.push((country, share));
            }
        }
        self.countries.retain(|(_, share)| *share > 0.000_1);
        self.countries.sort_unstable_by_key(|(country, _)| *country);
    }

    fn write(&self, out: &mut Writer) {
        self.lately.write(out);
        out.length(self.hours.len());
        for (place, usual) in &self.hours {
            out.byte(*place);
            usual.write(out);
        }
        out.length(self.countries.len());
        for (country, share) in &self.countries {
            country.as_bytes().iter().for_each(|letter| out.byte(*letter));
            out.number(per_million(*share));
        }
        self.endpoints.write(out);
    }

    fn read(input: &mut Reader<'_>) -> Option<Self> {
        let mut baseline = Self { lately: Usual::read(input)?, ..Self::new(0) };
        for _ in 0..input.length(usize::from(HOURS))? {
            let place = input.byte().filter(|place| *place < HOURS)?;
            let is_next = baseline.hours.last_key_value().is_none_or(|(last, _)| *last < place);
            let usual = Usual::read(input)?;
            baseline.hours.insert(place, usual);
            is_next.then_some(())?;
        }
        for _ in 0..input.length(COUNTRIES_MAX)? {
            let letters = [input.byte()?, input.byte()?];
            let country = Country::from_bytes(letters).ok().filter(|of| *of.as_bytes() == letters)?;
            let is_next = baseline.countries.last().is_none_or(|(last, _)| *last < country);
            let share = input.number32().filter(|share| *share <= 1_000_000)?;
            is_next.then_some(())?;
            #[expect(clippy::cast_precision_loss, reason = "at most a million, which a float holds")]
            baseline.countries.push((country, share as f32 / 1_000_000.0));
        }
        baseline.endpoints = Endpoints::read(input)?;
        Some(baseline)
    }
}

fn unusual(subject: Subject, event: &Event, requests: u32, strongest: &[Distance]) -> Signal {
    let words: Vec<String> = strongest.iter().map(|of| of.of.says(of.now, of.usual)).collect();
    Signal {
        at_ms: event.at_ms,
        detector: Detector::Unusual,
        subject,
        confidence: Confidence::Low,
        decisive: false,
        reason: format!("{}: {}", Detector::Unusual.says(), words.join("; ")),
        events: u64::from(requests),
        nodes: vec![Signal::OWN],
        links: Link::of_event(event, subject, Detector::Unusual, false),
    }
}

fn new_endpoint(first: &Event, now_ms: u64) -> Signal {
    let of = |kind, id: Option<u64>| id.map(|id| Subject::new(kind, id));
    let subject = of(SubjectKind::Session, first.session).unwrap_or(Subject::address(first.ip));
    Signal {
        at_ms: now_ms,
        detector: Detector::NewEndpoint,
        subject,
        confidence: Confidence::Medium,
        decisive: false,
        reason: format!("{}: {:?}", Detector::NewEndpoint.says(), first.method).to_lowercase(),
        events: 1,
        nodes: vec![Signal::OWN],
        links: Link::of_event(first, subject, Detector::NewEndpoint, false),
    }
}

/// Places of a minute's hours: of the day, and of the week.
fn hours_of(minute: u64) -> [u8; 2] {
    let hour = minute / 60;
    let of = |hour: u64| u8::try_from(hour).unwrap_or_default();
    [of(hour % 24), of(24 + hour % 168)]
}

fn per_million(share: f32) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a million")]
    let share = (share * 1_000_000.0).round().clamp(0.0, 1_000_000.0) as u32;
    u64::from(share)
}

const KIND: u8 = 0x71;
const MINUTE_MS: u64 = 60_000;
const DAY_MINUTES: u64 = 1_440;
/// Apps and routes; policy names them, so that strangers cannot make more.
const BASELINES_MAX: usize = 512;
/// An hour of the day or of the week, as a place.
const HOURS: u8 = 24 + 168;
/// Minutes with requests until anything is known,
const USEFUL_MINUTES: u16 = 60;
/// and until an app's endpoints are; a day, where there is no night.
const ENDPOINTS_MINUTES: u16 = 1_000;
/// The same, until an hour is.
const HOUR_MINUTES: u16 = 100;
/// One of so many minutes is what a minute weighs: lately, of an hour of the day, of an hour of the week.
const LATELY_MINUTES: u16 = 240;
const DAY_MEMORY: u16 = 840;
const WEEK_MEMORY: u16 = 360;
/// Requests of a minute that tell anything.
const REQUESTS_LEAST: u32 = 30;
/// How far off a minute is told, and how many in a row.
const FAR_SPREADS: f32 = 8.0;
const FAR_MINUTES: u8 = 2;
const TELL_AGAIN_MINUTES: u64 = 30;
/// A country with less than this part of requests is a stranger's.
const STRANGE_SHARE: f32 = 0.005;
const COUNTRY_WEIGHT: f32 = 0.002;
const COUNTRIES_MAX: usize = 64;
