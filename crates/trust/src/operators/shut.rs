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
        // Others may have made up so many places that there is no room; any does then.
        let full = self.0.len() >= PLACES_MAX && !self.0.contains_key(here);
        let key = self.0.keys().next().filter(|_| full).cloned().unwrap_or_else(|| here.to_owned());
        let acts = self.0.entry(key).or_default();
        acts.0 = acts.0.max(acts.1).saturating_add(1);
    }

    /// Lets him in, as far as is known here who kept him out.
    pub(super) fn open(&mut self) {
        self.0.values_mut().for_each(|acts| acts.1 = acts.1.max(acts.0));
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (place, acts) in &other.0 {
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
        self.0.len() <= 4 * PLACES_MAX
            && self.0.keys().all(|place| place.is_empty() || super::is_hex(place, 16))
    }
}

/// Nodes that kept the same person out, in a fleet whose control nodes were replaced some times.
const PLACES_MAX: usize = 64;
