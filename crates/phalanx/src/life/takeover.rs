//! The process that takes over: what it is given, and when.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use phalanx_edge::NodeTables;
use phalanx_edge::accounts::SessionOwner;
use phalanx_fleet::Change;
use phalanx_model::lanes::Lanes;
use phalanx_model::{AccessEvent, Actor, Decision, LedgerEntry, SecurityEvent, Swap, View};
use phalanx_trust::TicketKeys;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, oneshot};

use super::channel::Channel;
use super::memory::{Good, Struck, Tickets};
use super::sockets::{Label, Sockets};
use super::{STEP_MAX, TAKES_OVER, orders, relay};

/// What a process tells its successor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToSuccessor {
    /// Some of the listening sockets, in the order of the descriptors that go with it.
    Sockets(Vec<Label>),
    /// Those were all. What a start before this one came to, if it failed, and the settings to take instead of what the file says now.
    Prepare {
        fault: Option<String>,
        settings: Option<String>,
        /// Not sent by the versions before.
        #[serde(default)]
        tickets: Tickets,
    },
    /// The state is closed.
    StateIsYours,
    /// Events of requests that end at the predecessor.
    Events(Vec<AccessEvent>),
    /// One of them, as the versions before send it.
    Access(Box<AccessEvent>),
    Security(SecurityEvent),
    Ledger(LedgerEntry),
    /// What the predecessor remembers of actors, once the other serves; versions before leave it aside.
    Struck(Vec<Struck>),
    Good(Vec<Good>),
    /// Whose sessions are.
    Owners(Vec<SessionOwner>),
}

/// What a successor answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToPredecessor {
    /// Settings, policy and certificates can be used.
    Prepared,
    /// It serves.
    Ready,
    /// It gives up.
    Failed(String),
    /// What is in force about an actor by now. Said when it serves, to who may not listen.
    InForce { actor: Actor, decisions: Vec<Arc<Decision>> },
}

/// How the process was started.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) takeover: Option<Arc<Takeover>>,
}

impl Start {
    /// Takes what the process was given: by its predecessor, else by the service manager.
    pub(crate) fn inherit() -> anyhow::Result<Self> {
        if std::env::var_os(TAKES_OVER).is_none() {
            return Ok(Self { sockets: Arc::new(Sockets::of_service_manager()?), takeover: None });
        }
        let channel = Channel::of_stdin().context("there is no process to take over from")?;
        channel.wait_at_most(Some(GIVING_MAX))?;
        let mut sockets: Vec<(Label, OwnedFd)> = Vec::new();
        let (fault, settings, tickets) = loop {
            match channel.receive()? {
                Some((ToSuccessor::Sockets(labels), descriptors)) => {
                    sockets.extend(labels.into_iter().zip(descriptors));
                }
                Some((ToSuccessor::Prepare { fault, settings, tickets }, _)) => {
                    break (fault, settings, tickets);
                }
                Some(_) => bail!("the process to take over from says something else"),
                None => bail!("the process to take over from is gone"),
            }
        };
        let takeover = Arc::new(Takeover { channel, fault, settings, tickets });
        Ok(Self { sockets: Arc::new(Sockets::of_predecessor(sockets)), takeover: Some(takeover) })
    }

    /// The settings to take instead of the file's.
    pub(crate) fn settings(&self) -> Option<&str> {
        self.takeover.as_ref().and_then(|takeover| takeover.settings.as_deref())
    }

    /// Says why the process does not start to who waits for it.
    pub(crate) fn give_up(&self, why: &str) {
        if let Some(takeover) = &self.takeover {
            takeover.give_up(why);
        }
    }
}

/// A predecessor that waits.
#[derive(Debug)]
pub(crate) struct Takeover {
    channel: Channel,
    fault: Option<String>,
    settings: Option<String>,
    tickets: Tickets,
}

impl Takeover {
    /// What the start before this one came to, if it failed.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// The keys of session tickets that the predecessor has, if it sent any.
    pub(crate) fn tickets(&self) -> Option<TicketKeys> {
        self.tickets.keys()
    }

    /// Says that all is prepared and waits for the state. Blocks.
    pub(crate) fn take_state(&self) -> anyhow::Result<()> {
        self.channel.send(&ToPredecessor::Prepared, &[])?;
        self.channel.wait_at_most(Some(STEP_MAX))?;
        match self.channel.receive()? {
            Some((ToSuccessor::StateIsYours, _)) => Ok(()),
            Some(_) => bail!("the process to take over from says something else"),
            None => bail!("the process to take over from is gone"),
        }
    }

    /// Says that the node serves, and takes the predecessor's events into these lanes until it ends; resolves then. None if it is gone, which is
    /// no reason not to serve.
    pub(crate) fn ready(
        &self,
        lanes: Lanes,
        tables: Arc<NodeTables>,
        (changes, view): (broadcast::Receiver<Change>, Arc<Swap<View>>),
    ) -> anyhow::Result<Option<oneshot::Receiver<()>>> {
        if let Err(error) = self.channel.send(&ToPredecessor::Ready, &[]) {
            tracing::warn!(%error, "the process that is taken over from is gone");
            return Ok(None);
        }
        self.channel.wait_at_most(None)?;
        orders::tell(self.channel.try_clone()?, changes, view)?;
        Ok(Some(relay::take_in(self.channel.try_clone()?, lanes, tables)?))
    }

    /// Says why it does not come to that.
    pub(crate) fn give_up(&self, why: &str) {
        let _ = self.channel.send(&ToPredecessor::Failed(why.to_owned()), &[]);
    }
}

/// The sockets are on their way when the process starts.
const GIVING_MAX: Duration = Duration::from_secs(10);
