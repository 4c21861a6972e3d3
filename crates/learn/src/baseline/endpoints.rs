//! Which endpoints an app has, and who uses one that nobody used before.

use crate::event::Event;
use crate::sketch::low32;
use crate::sketch::wire::{Reader, Writer};

/// The endpoints of an app that answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Endpoints {
    /// Hashes, sorted.
    known: Vec<u32>,
    /// New ones, until it shows whether they are everybody's.
    new: Vec<New>,
    /// New ones of the last hour, and which hour that is.
    hour: (u64, u32),
    /// When so many were new that it was a release.
    released_ms: u64,
    /// Requests of the app.
    seen: u64,
}

#[derive(Debug, Clone)]
struct New {
    endpoint: u32,
    first: Event,
    others: u32,
    /// How many requests the app had had when it was used first.
    seen: u64,
}

impl Endpoints {
    /// Notes a request; hands out the first use of an endpoint that only its user has used since.
    pub(super) fn note(&mut self, event: &Event, is_useful: bool) -> Option<Event> {
        self.seen = self.seen.saturating_add(1);
        let told = self.ripe(event.at_ms);
        let endpoint = low32(event.endpoint);
        if !(200..400).contains(&event.status) || self.known.len() >= KNOWN_MAX {
            return told;
        }
        if let Some(new) = self.new.iter_mut().find(|new| new.endpoint == endpoint) {
            let is_same = event.session.is_some() && new.first.session == event.session;
            let is_other = new.first.ip != event.ip && !is_same;
            new.others = new.others.saturating_add(u32::from(is_other));
            return told;
        }
        if let Err(at) = self.known.binary_search(&endpoint) {
            self.known.insert(at, endpoint);
            let hour = event.at_ms / 3_600_000;
            if self.hour.0 != hour {
                self.hour = (hour, 0);
            }
            self.hour.1 = self.hour.1.saturating_add(1);
            if self.hour.1 > RELEASE_LEAST {
                self.released_ms = event.at_ms;
            }
            if is_useful && self.new.len() < NEW_MAX {
                self.new.push(New { endpoint, first: *event, others: 0, seen: self.seen });
            }
        }
        told
    }

    fn ripe(&mut self, now_ms: u64) -> Option<Event> {
        let first = self.new.first()?;
        let requests = self.seen.saturating_sub(first.seen);
        if now_ms < first.first.at_ms.saturating_add(RIPE_MS) || requests < RIPE_REQUESTS {
            return None;
        }
        let New { first, others, .. } = self.new.remove(0);
        let is_released = self.released_ms != 0 && now_ms < self.released_ms.saturating_add(RELEASE_MS);
        (others < OTHERS_MAX && !is_released).then_some(first)
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.length(self.known.len());
        let mut last = 0;
        for &endpoint in &self.known {
            out.number(u64::from(endpoint - last));
            last = endpoint;
        }
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Option<Self> {
        let mut known = Vec::new();
        let mut last = 0_u32;
        for place in 0..input.length(KNOWN_MAX)? {
            let step = input.number32()?;
            if place > 0 && step == 0 {
                return None;
            }
            last = last.checked_add(step)?;
            known.push(last);
        }
        Some(Self { known, ..Self::default() })
    }
}

/// Endpoints of one app; with so many, names are part of its paths, and none is new.
const KNOWN_MAX: usize = 2_048;
/// New ones that are waited for.
const NEW_MAX: usize = 8;
/// A new endpoint is told after a minute and so many requests, if no more than one other used it.
const RIPE_MS: u64 = 60_000;
const RIPE_REQUESTS: u64 = 100;
const OTHERS_MAX: u32 = 2;
/// More new ones within an hour are a release, of which the rarely used ones are met first within a day.
const RELEASE_MS: u64 = 24 * 3_600_000;
const RELEASE_LEAST: u32 = 4;
