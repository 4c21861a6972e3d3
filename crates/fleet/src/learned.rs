//! What nodes learn of requests, between nodes: signed, sent to who listens, kept nowhere.
//!
//! What it means is for the learner: a message is as good as its author's signature, and whoever learns bounds what one author can
//! claim.

use std::sync::Arc;

use phalanx_model::{Author, AuthorRole};
use phalanx_trust::{NodeRecord, Refusal, SignedRecord};
use tokio::sync::mpsc;

use crate::shared::Shared;
use crate::{Delivery, FleetError, FleetHandle, Singleton, Topic, subject};

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LearnedKind {
    /// Counts of what is notable.
    Counts,
    /// What detectors found.
    Signals,
    /// What belongs together.
    Incidents,
    /// What operators ruled about incidents; only operators say it.
    Rulings,
    /// How playbooks run, and what operators ask of the node that runs them; only operators say it.
    Playbooks,
}

impl LearnedKind {
    const ALL: [Self; 5] = [Self::Counts, Self::Signals, Self::Incidents, Self::Rulings, Self::Playbooks];

    /// Its word in subjects.
    fn word(self) -> &'static str {
        match self {
            Self::Counts => "counts",
            Self::Signals => "signals",
            Self::Incidents => "incidents",
            Self::Rulings => "rulings",
            Self::Playbooks => "playbooks",
        }
    }

    fn role(self) -> AuthorRole {
        match self {
            Self::Counts | Self::Signals | Self::Incidents => AuthorRole::Node,
            Self::Rulings | Self::Playbooks => AuthorRole::Operator,
        }
    }
}

/// What another node tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// Who; proved by the signature.
    pub author: Author,
    /// Whether it is a node that may hold leases, one with the control role.
    pub may_lead: bool,
    /// About what.
    pub kind: LearnedKind,
    /// The message, of which nothing was checked.
    pub bytes: Vec<u8>,
}

/// What other nodes tell, from the time on at which it was made.
pub struct LearnedReader {
    shared: Arc<Shared>,
    told: mpsc::Receiver<Delivery>,
}

impl LearnedReader {
    /// The next message. Waits for ever when the fleet is shut down.
    pub async fn next(&mut self) -> Learned {
        while let Some(delivery) = self.told.recv().await {
            let Delivery::Put { subject, bytes } = delivery else { continue };
            let own = subject::of_sketch(&self.shared.me.site, &self.shared.me.node, "");
            if subject.starts_with(&own) {
                continue;
            }
            match open(&self.shared, &subject, &bytes) {
                Ok(learned) => return learned,
                // Its announcement is on its way.
                Err(Refusal::UnknownAuthor(_)) => {}
                Err(refusal) => self.shared.refuse(&subject, &refusal),
            }
        }
        std::future::pending().await
    }
}

impl std::fmt::Debug for LearnedReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LearnedReader")
    }
}

impl FleetHandle {
    /// Tells all other nodes. What does not get through is not sent again.
    pub async fn tell_learned(&self, kind: LearnedKind, message: &[u8]) -> Result<(), FleetError> {
        let shared = &self.shared;
        let subject = subject::of_sketch(&shared.me.site, &shared.me.node, kind.word());
        let put = shared.sign_fast_as(kind.role(), Topic::Sketches, subject, message, OLD_MS)?;
        shared.engine.publish(put).await.map(|_| ())
    }

    /// What other nodes tell.
    pub fn learned(&self) -> LearnedReader {
        LearnedReader {
            shared: Arc::clone(&self.shared),
            told: self.shared.engine.subscribe(Topic::Sketches),
        }
    }

    /// Takes part in naming incidents for the fleet, by its one lease. `None` where this node may not.
    pub fn names_incidents(&self) -> Option<Singleton> {
        self.shared.keys.operator.as_ref()?;
        Some(self.singleton("incidents"))
    }

    /// Whether this node may rule about incidents: it has an operator's key.
    pub fn acts_for_operators(&self) -> bool {
        self.shared.keys.operator.is_some()
    }
}

fn open(shared: &Shared, subject: &str, bytes: &[u8]) -> Result<Learned, Refusal> {
    let record = SignedRecord::from_bytes(bytes)?;
    let Author { site, node, role } = &record.author;
    let of = |kind: &LearnedKind| subject::of_sketch(site, node, kind.word()) == *subject;
    let kind = LearnedKind::ALL.into_iter().find(of).ok_or(Refusal::WrongSubject)?;
    if *role != kind.role() {
        return Err(Refusal::NotAllowed(
            "only operators rule about incidents and run playbooks, and only nodes tell what they learn",
        ));
    }
    let roots = shared.roots.read();
    roots.verify(&record, subject, shared.clock.now_ms())?;
    let named =
        |other: &NodeRecord| other.site == *site && other.node == *node && other.operator_key.is_some();
    let may_lead = roots.nodes().any(named);
    Ok(Learned { may_lead, kind, author: record.author, bytes: record.body })
}

/// How long a message counts: clocks may differ by as much as is reported, and far more. What is older is a replay.
const OLD_MS: u64 = 60_000;
