//! Whether somebody is kept out. Each node counts how often it kept him out, and who lets him in answers what he knows of: what he does not
//! know of stays, so that keeping out wins over a letting in on the other side of a cut, whatever either did before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How often each place kept somebody out, and up to which of these he was let in again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Written")]
pub(super) struct Shut(BTreeMap<String, Acts>);

/// How often one place kept him out, and how often of that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Acts(u64, u64);

/// What is read: also one count for all places, odd while he is out, as it was once.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Count(u64),
    Places(BTreeMap<String, Acts>),
}

impl From<Written> for Shut {
    fn from(written: Written) -> Self {
        Self(match written {
            Written::Count(0) => BTreeMap::new(),
            Written::Count(count) => BTreeMap::from([(String::new(), Acts(count, count - count % 2))]),
            Written::Places(places) => places,
        })
    }
}

impl Shut {
    /// Whether somebody kept him out and nobody who knew of it let him in.
    pub(super) fn is_out(&self) -> bool {
        self.0.values().any(|Acts(out, answered)| out > answered)
    }

    /// Keeps him out, at a place. Once more, who is out already: then only who knows of both lets him in.
    pub(super) fn shut(&mut self, here: &str) {
        let room = self.makes_room(here, PLACES_MAX);
        let key = self.0.keys().next().filter(|_| !room).cloned().unwrap_or_else(|| here.to_owned());
        let acts = self.0.entry(key).or_default();
        acts.0 = acts.0.max(acts.1).saturating_add(1);
    }

    /// Keeps him out once more at a place that is there, so that it takes no room.
    pub(super) fn shut_again(&mut self) {
        let known = self.0.keys().next().cloned();
        self.shut(&known.unwrap_or_default());
    }

    /// Whether there is room for a place among so many, if need be instead of one that was answered: who comes back with that keeps out,
    /// as one who was not heard. Without room somebody is out in any case.
    fn makes_room(&mut self, place: &str, most: usize) -> bool {
        if self.0.contains_key(place) || self.0.len() < most {
            return true;
        }
        let answered = self.0.iter().find(|(_, acts)| acts.0 <= acts.1).map(|(place, _)| place.clone());
        answered.is_some_and(|answered| self.0.remove(&answered).is_some())
    }

    /// Lets him in, as far as is known here who kept him out.
    pub(super) fn open(&mut self) {
        self.0.values_mut().for_each(|acts| acts.1 = acts.1.max(acts.0));
    }

    /// The places whose acts were answered, and up to which.
    pub(super) fn answered(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().filter(|(_, acts)| acts.1 > 0).map(|(place, acts)| (place.as_str(), acts.1))
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (place, acts) in &other.0 {
            // Where there is no room only what keeps out is taken.
            let known = self.0.contains_key(place) || self.0.len() < TAKEN_MAX;
            if !known && (acts.0 <= acts.1 || !self.makes_room(place, TAKEN_MAX)) {
                continue;
            }
            let own = self.0.entry(place.clone()).or_default();
            *own = Acts(own.0.max(acts.0), own.1.max(acts.1));
        }
    }

    /// The greatest count.
    pub(super) fn most(&self) -> u64 {
        self.0.values().map(|acts| acts.0.max(acts.1)).max().unwrap_or(0)
    }

    /// Whether a node could have written it.
    pub(super) fn could_be(&self) -> bool {
        // Who lets somebody in answers what there was.
        self.0.len() <= PLACES_MAX
            && self.0.values().all(|acts| acts.1 <= acts.0)
            && self.0.keys().all(|place| place.is_empty() || super::is_hex(place, 16))
    }
}

/// Nodes that kept the same person out, in a fleet whose control nodes were replaced some times.
const PLACES_MAX: usize = 256;
/// How many of these by the word of others: one that makes them up leaves room for a node's own.
const TAKEN_MAX: usize = PLACES_MAX - 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a thief may have told: so many places, each with these acts.
    fn made_up(places: std::ops::Range<usize>, acts: Acts) -> Shut {
        Shut(places.map(|n| (format!("{n:016x}"), acts)).collect())
    }

    #[test]
    fn places_that_others_make_up_leave_room_for_ones_own_and_keep_nobody_in() {
        let mut own = Shut::default();
        for n in 0..10 {
            own.merge(&made_up(n * 100..n * 100 + 100, Acts(1, 1)));
        }
        assert!(own.could_be() && own.0.len() == TAKEN_MAX && !own.is_out());
        let mut other = own.clone();
        own.shut("ffffffffffffffff");
        assert!(own.could_be() && own.is_out());
        other.merge(&own);
        assert!(other.could_be() && other.is_out(), "also where there is no room");
        other.open();
        own.merge(&other);
        assert!(!own.is_out());
        for n in 0..10 {
            own.merge(&made_up(n * 100..n * 100 + 100, Acts(2, 1)));
        }
        assert!(own.could_be() && own.is_out());
    }

    #[test]
    fn more_answers_than_acts_cannot_be() {
        assert!(made_up(0..1, Acts(2, 2)).could_be() && !made_up(0..1, Acts(1, 2)).could_be());
    }
}
