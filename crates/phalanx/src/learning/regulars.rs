//! Who comes regularly and behaves: by whom it is reckoned what an order about many would cost, and who is turned away under one.
//!
//! Regular is who was served well over a minute or more, and lately: what a flood is served before it is found does not make it honest.
//!
//! Failure direction: where the table is full, newcomers are not learned; shares are then of those who are known.

use std::collections::HashMap;
use std::net::IpAddr;

use phalanx_learn::event::Subject;
use phalanx_learn::respond::Honest;
use phalanx_learn::{Event, Outcome, Step};

use super::tee::{Asked, Seen};

/// Visitors, by session or address.
#[derive(Debug, Default)]
pub(super) struct Regulars {
    of: HashMap<u64, Visitor>,
    swept_s: u64,
    /// When the first request was seen.
    since_s: Option<u64>,
}

/// Somebody who was served well.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visitor {
    first_s: u64,
    last_s: u64,
    /// Where from, lately.
    pub(super) ip: IpAddr,
    /// With what.
    pub(super) software: Option<u64>,
    /// What it asked for last.
    pub(super) asked: Asked,
    /// Its session belongs to an account: orders about many spare it.
    pub(super) has_account: bool,
}

impl Visitor {
    fn is_recent(&self, now_s: u64) -> bool {
        now_s.saturating_sub(self.last_s) < RECENT_S
    }

    /// Whether it came over some time.
    pub(super) fn is_regular(&self) -> bool {
        self.last_s.saturating_sub(self.first_s) >= REGULAR_S
    }
}

impl Regulars {
    /// Learns from a request that was served well.
    pub(super) fn note(&mut self, seen: &Seen) {
        let event = &seen.event;
        self.since_s.get_or_insert(event.at_ms / 1_000);
        let is_good = (200..400).contains(&event.status)
            && event.attack.is_none()
            && !event.exempt
            && event.step != Step::Login(Outcome::Failed);
        if !is_good {
            return;
        }
        let (who, now_s) = (who(event), event.at_ms / 1_000);
        if !self.of.contains_key(&who) && !self.has_room(now_s) {
            return;
        }
        let fresh = Visitor {
            first_s: now_s,
            last_s: now_s,
            ip: event.ip,
            software: event.software,
            asked: seen.asked,
            has_account: false,
        };
        let visitor = self.of.entry(who).or_insert(fresh);
        if !visitor.is_recent(now_s) {
            *visitor = fresh;
        }
        (visitor.ip, visitor.software, visitor.asked) = (event.ip, event.software, seen.asked);
        visitor.last_s = visitor.last_s.max(now_s);
        visitor.has_account |= event.session.is_some() && event.account.is_some();
    }

    /// Whether a request is of somebody who comes regularly; under what name.
    pub(super) fn knows(&self, event: &Event) -> Option<u64> {
        let (who, now_s) = (who(event), event.at_ms / 1_000);
        let visitor = self.of.get(&who)?;
        (visitor.is_regular() && visitor.is_recent(now_s)).then_some(who)
    }

    /// Those of whom something holds, and their share; `None` on a node that has not seen visitors for long enough to know who comes regularly.
    pub(super) fn count(&self, now_ms: u64, holds: impl Fn(&Visitor) -> bool) -> Option<Honest> {
        self.since_s.filter(|since_s| since_s.saturating_add(INFORMED_S) <= now_ms / 1_000)?;
        let recent = |visitor: &&Visitor| visitor.is_recent(now_ms / 1_000);
        let (mut all, mut hit) = (0_u64, 0_u64);
        for visitor in self.of.values().filter(recent) {
            all += u64::from(visitor.is_regular());
            hit += u64::from(holds(visitor));
        }
        // Of fewer a share says nothing.
        let share = hit * 1_000_000 / all.max(VISITORS_LEAST);
        let clamp = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Some(Honest { actors: clamp(hit), share_ppm: clamp(share) })
    }

    fn has_room(&mut self, now_s: u64) -> bool {
        if self.of.len() >= VISITORS_MAX && now_s >= self.swept_s.saturating_add(SWEEP_S) {
            self.swept_s = now_s;
            // Who came once and not again gives way first, or a flood would fill the table for as long as it is remembered.
            self.of.retain(|_, visitor| {
                visitor.is_recent(now_s)
                    && (visitor.is_regular() || now_s.saturating_sub(visitor.last_s) < REGULAR_S)
            });
        }
        self.of.len() < VISITORS_MAX
    }
}

fn who(event: &Event) -> u64 {
    event.session.unwrap_or_else(|| Subject::address(event.ip).hash())
}

/// Visitors that are known, some 100 bytes each.
const VISITORS_MAX: usize = 16_384;
const VISITORS_LEAST: u64 = 50;
const RECENT_S: u64 = 600;
/// From when on somebody is known: longer than it takes to find an attack.
const REGULAR_S: u64 = 60;
/// Twice that, from the first request on: until then nobody is regular, however many come.
const INFORMED_S: u64 = 2 * REGULAR_S;
const SWEEP_S: u64 = 5;

#[cfg(test)]
mod tests {
    use super::super::tee::tests::seen;
    use super::*;

    fn at(second: u64, ip: &str, software: u64) -> Seen {
        let mut one = seen(ip, software);
        one.event.at_ms = second * 1_000;
        one
    }

    #[test]
    fn who_came_for_a_minute_counts_and_what_a_flood_was_served_does_not() {
        let mut regulars = Regulars::default();
        for second in [1_000, 1_030, 1_060] {
            regulars.note(&at(second, "192.0.2.1", 7));
        }
        for n in 0..200 {
            regulars.note(&at(1_060, &format!("198.51.100.{n}"), 8));
        }
        let of = |software| move |one: &Visitor| one.is_regular() && one.software == Some(software);
        assert_eq!(regulars.count(1_061_000, of(7)), None, "it is too early to tell");
        assert_eq!(regulars.count(1_120_000, of(7)).unwrap().actors, 1);
        assert_eq!(regulars.count(1_120_000, of(8)), Some(Honest::default()));
        assert_eq!(regulars.count(1_300_000, of(8)), Some(Honest::default()), "it is no better later");
        assert!(regulars.knows(&at(1_062, "192.0.2.1", 7).event).is_some());
        assert!(regulars.knows(&at(1_062, "198.51.100.1", 8).event).is_none());
        assert_eq!(regulars.count(9_000_000, of(7)), Some(Honest::default()), "forgotten");
    }

    #[test]
    fn a_flood_of_addresses_fills_the_table_for_a_minute_and_pushes_nobody_out() {
        let mut regulars = Regulars::default();
        for second in [1_000, 1_070] {
            regulars.note(&at(second, "192.0.2.1", 7));
        }
        for n in 0..40_000_u32 {
            let ip = std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).to_string();
            regulars.note(&at(1_071, &ip, 8));
        }
        assert!(regulars.of.len() <= VISITORS_MAX);
        assert!(regulars.knows(&at(1_072, "192.0.2.1", 7).event).is_some());
        regulars.note(&at(1_140, "192.0.2.9", 7));
        assert!(regulars.of.len() < 10, "{}", regulars.of.len());
    }
}
