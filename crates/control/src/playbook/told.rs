//! What nodes tell each other of playbooks: the one that runs them what it writes down, and what it sends; others what operators ask of it.
//!
//! JSON, signed by a node that may act for operators and kept nowhere: what gets lost is told again.

use serde::{Deserialize, Serialize};

use super::machine::Entry;
use crate::reporting::deliveries::Delivery;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Told {
    /// What the node wrote that holds the lease.
    Entries {
        /// Its lease's token.
        token: u64,
        /// In the order in which they were written; of each run from its beginning, or what is new.
        entries: Vec<Entry>,
    },
    /// Of which incidents receivers were told how much, outside of playbooks.
    Heard {
        /// The lease's token.
        token: u64,
        /// Each with what was told last.
        heard: Vec<Heard>,
    },
    /// What was sent of reports, and to whom.
    Sent {
        /// The lease's token.
        token: u64,
        /// The latest of each report.
        #[serde(rename = "marks")]
        deliveries: Vec<Delivery>,
    },
    /// An operator asks for something at a node that does not run playbooks.
    Asked(Asked),
}

/// What receivers were told of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Which.
    pub incident: u64,
    /// How bad it was, 0 to 3.
    pub gravity: u8,
    /// Whether it was closed.
    pub is_closed: bool,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

/// What an operator asks of the node that runs playbooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Asked {
    /// An answer to a run's question.
    Answer {
        /// The run.
        run: String,
        /// The step that asked.
        step: String,
        /// What.
        yes: bool,
        /// Who.
        by: String,
    },
    /// To run a playbook for an incident.
    Start {
        /// The playbook's name.
        playbook: String,
        /// The incident's id.
        incident: String,
    },
}

impl Told {
    /// Of a message; none if it is none, or too long.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= MESSAGE_BYTES_MAX).then(|| serde_json::from_slice(bytes).ok()).flatten()
    }

    /// As messages, each within the limit. An entry that fits in none is left out: whoever takes over begins that run anew.
    pub fn entries_to_messages(token: u64, entries: &[Entry]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let mut part: Vec<Entry> = Vec::new();
        let mut bytes = ENVELOPE_BYTES;
        let mut send = |part: &mut Vec<Entry>| {
            let told = Self::Entries { token, entries: std::mem::take(part) };
            messages.extend(told.to_bytes());
        };
        for entry in entries {
            let length = serde_json::to_vec(entry).map_or(usize::MAX, |line| line.len() + 1);
            if length > MESSAGE_BYTES_MAX - ENVELOPE_BYTES {
                continue;
            }
            if bytes + length > MESSAGE_BYTES_MAX {
                send(&mut part);
                bytes = ENVELOPE_BYTES;
            }
            part.push(entry.clone());
            bytes += length;
        }
        if !part.is_empty() {
            send(&mut part);
        }
        messages
    }

    /// As a message.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok().filter(|bytes| bytes.len() <= MESSAGE_BYTES_MAX)
    }
}

/// As what is told of learning: it travels between sites.
pub const MESSAGE_BYTES_MAX: usize = 44 * 1024;
const ENVELOPE_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_told_in_parts_and_read_back() {
        let started = |n: usize| Entry::Started {
            run: format!("flood-1/{n}"),
            at_ms: 1,
            step: "x".repeat(64),
            orders: Vec::new(),
        };
        let entries: Vec<Entry> = (0..1_000).map(started).collect();
        let messages = Told::entries_to_messages(7, &entries);
        assert!(messages.len() > 1 && messages.iter().all(|message| message.len() <= MESSAGE_BYTES_MAX));
        let read = messages.iter().flat_map(|message| match Told::from_bytes(message) {
            Some(Told::Entries { token: 7, entries }) => entries,
            other => panic!("{other:?}"),
        });
        assert_eq!(read.collect::<Vec<_>>(), entries);
        assert_eq!(Told::from_bytes(&vec![b' '; MESSAGE_BYTES_MAX + 1]), None);
        let answer = Asked::Answer { run: "r".into(), step: "s".into(), yes: true, by: "ann".into() };
        let start = Asked::Start { playbook: "flood".into(), incident: "X".into() };
        let heard = Heard { incident: u64::MAX, gravity: 3, is_closed: true, at_ms: 1 };
        for told in [Told::Asked(answer), Told::Asked(start), Told::Heard { token: 1, heard: vec![heard] }] {
            assert_eq!(Told::from_bytes(&told.to_bytes().unwrap()), Some(told));
        }
        let of_before = br#"{"told":"sent","token":1,"marks":[{"name":"r","due_ms":7,"told":[],"at_ms":7,"attempts":1,"is_over":false,"is_given_up":false,"fault":null}]}"#;
        let Some(Told::Sent { deliveries, .. }) = Told::from_bytes(of_before) else { panic!() };
        assert_eq!((deliveries.len(), deliveries[0].due_ms, deliveries[0].to_ms), (1, 7, 0));
    }
}
