//! Other nodes, as the learner knows them: by number, each with what it may say in a second.

use std::collections::HashMap;

use phalanx_learn::Signal;
use phalanx_model::limits::FLEET_NODES_MAX;

/// The nodes that were heard or are members, by number.
#[derive(Debug)]
pub(super) struct Peers {
    /// This node.
    own: String,
    names: Vec<String>,
    numbers: HashMap<String, u16>,
    said: HashMap<u16, Said>,
}

#[derive(Debug, Clone, Copy)]
struct Said {
    at_ms: u64,
    /// Messages that it may say at once.
    left: u64,
}

impl Peers {
    pub(super) fn new(own: String) -> Self {
        Self { own, names: Vec::new(), numbers: HashMap::new(), said: HashMap::new() }
    }

    /// The number of a node whose name was proved or is a member's; none where there are too many.
    pub(super) fn admit(&mut self, name: &str) -> Option<u16> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        let number = u16::try_from(self.names.len()).ok()?;
        if name == self.own || self.names.len() >= 2 * FLEET_NODES_MAX {
            return None;
        }
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        Some(number)
    }

    /// Whether a node may say one more thing now.
    pub(super) fn may_speak(&mut self, node: u16, now_ms: u64) -> bool {
        let said = self.said.entry(node).or_insert(Said { at_ms: now_ms, left: MESSAGES_AT_ONCE });
        let more = now_ms.saturating_sub(said.at_ms) * MESSAGES_PER_SECOND / 1_000;
        if more > 0 {
            said.left = said.left.saturating_add(more).min(MESSAGES_AT_ONCE);
            said.at_ms = now_ms;
        }
        let may = said.left > 0;
        said.left = said.left.saturating_sub(1);
        may
    }

    /// How many said something since.
    pub(super) fn heard_since(&self, from_ms: u64) -> usize {
        self.said.values().filter(|said| said.at_ms >= from_ms).count()
    }

    /// A node's name.
    pub(super) fn name(&self, number: u16) -> Option<&str> {
        match number {
            Signal::OWN => Some(&self.own),
            other => self.names.get(usize::from(other)).map(String::as_str),
        }
    }

    /// The number of a name that another node told; none for names that are nobody's.
    pub(super) fn number(&self, name: &str) -> Option<u16> {
        match name == self.own {
            true => Some(Signal::OWN),
            false => self.numbers.get(name).copied(),
        }
    }
}

/// Names that a message uses, and the places of nodes among them.
#[derive(Debug)]
pub(super) struct Naming<'a> {
    peers: &'a Peers,
    pub(super) names: Vec<String>,
}

impl<'a> Naming<'a> {
    pub(super) fn new(peers: &'a Peers) -> Self {
        Self { peers, names: Vec::new() }
    }

    /// The place of a node's name in the message.
    pub(super) fn place(&mut self, node: u16) -> Option<u16> {
        let name = self.peers.name(node)?;
        let place = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        u16::try_from(place).ok()
    }
}

/// What a node says in a second when it is attacked: counts in 26 messages, signals, incidents.
const MESSAGES_PER_SECOND: u64 = 60;
/// What lay in between is said at once.
const MESSAGES_AT_ONCE: u64 = 180;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_says_too_much_is_cut_short_and_others_are_not() {
        let mut peers = Peers::new("fra/a".into());
        let [one, other] = ["fra/b", "fra/c"].map(|name| peers.admit(name).unwrap());
        let said = (0..1_000).filter(|_| peers.may_speak(one, 5_000)).count();
        assert_eq!(u64::try_from(said).unwrap(), MESSAGES_AT_ONCE);
        assert!(peers.may_speak(other, 5_000));
        assert_eq!((0..100).filter(|_| peers.may_speak(one, 5_100)).count(), 6);
    }

    #[test]
    fn only_names_of_nodes_have_numbers() {
        let mut peers = Peers::new("fra/a".into());
        assert_eq!(peers.admit("fra/a"), None);
        let number = peers.admit("fra/b").unwrap();
        assert_eq!((peers.number("fra/b"), peers.number("fra/x")), (Some(number), None));
        assert_eq!(peers.number("fra/a"), Some(Signal::OWN));
        for n in 0..10_000 {
            peers.admit(&format!("fra/{n}"));
        }
        assert!(peers.names.len() <= 2 * FLEET_NODES_MAX);
        let mut naming = Naming::new(&peers);
        let places = [Signal::OWN, number, Signal::OWN].map(|node| naming.place(node));
        assert_eq!((places, naming.names.len()), ([Some(0), Some(1), Some(0)], 2));
    }
}
