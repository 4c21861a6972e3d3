//! Answers: what is in force and what has ended, written while they are read, so that a million decisions never lie in memory as text.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use phalanx_fleet::{FleetHandle, Trace, whole_key};
use phalanx_model::{ActorKey, Decision, DecisionKind, Identities, View};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::PlacePort;
use super::filter::Filter;
use super::shields::Shields;
use super::wire::Written;

/// What an answer is made from.
pub(crate) struct Question<'a> {
    pub(crate) fleet: &'a FleetHandle,
    pub(crate) shields: &'a Shields,
    pub(crate) place: &'a PlacePort,
    pub(crate) filter: &'a Filter,
    pub(crate) now_ms: u64,
}

impl Question<'_> {
    /// Everything in force. As ended count those orders that are withdrawn, as far as that is remembered, or withheld now: a
    /// bouncer may have heard of them before this node was started again. What expired it has let go by itself.
    pub(crate) fn everything(&self, out: &mut Out) -> io::Result<()> {
        let view = self.fleet.view().load_full();
        out.raw(b"{\"deleted\":")?;
        let mut list = List::default();
        for key in self.fleet.withdrawn() {
            self.ended(out, &mut list, DecisionKind::Ban, key)?;
        }
        if !self.shields.is_empty() {
            self.each(&view, |decision, key| match self.is_shielded(key) {
                true => self.ended(out, &mut list, decision.kind, key),
                false => Ok(()),
            })?;
        }
        list.end(out)?;
        out.raw(b",\"new\":")?;
        self.in_force(out, &view)?;
        out.raw(b"}")
    }

    /// What changed. `deletes_first`: the bouncer carries out the ends before the orders, and passes over an order about addresses
    /// that it has already; so one that is replaced must end first, or its old time would count.
    pub(crate) fn changes(&self, out: &mut Out, traces: Vec<Trace>, deletes_first: bool) -> io::Result<()> {
        let mut touched: HashMap<ActorKey, Vec<DecisionKind>> = HashMap::new();
        for trace in traces {
            let gone = touched.entry(trace.key).or_default();
            if trace.gone && !gone.contains(&trace.kind) {
                gone.push(trace.kind);
            }
        }
        let touched: Vec<_> = touched
            .into_iter()
            .map(|(key, gone)| (key, gone, self.strongest(key, self.fleet.about(&key))))
            .collect();
        out.raw(b"{\"deleted\":")?;
        let mut list = List::default();
        for (key, gone, now) in &touched {
            for kind in gone {
                let replaced = now.as_ref().is_some_and(|now| now.kind == *kind);
                if !replaced || deletes_first {
                    self.ended(out, &mut list, *kind, *key)?;
                }
            }
        }
        list.end(out)?;
        out.raw(b",\"new\":")?;
        let mut list = List::default();
        for (key, _, now) in &touched {
            if let Some(now) = now {
                self.ordered(out, &mut list, now, *key)?;
            }
        }
        list.end(out)?;
        out.raw(b"}")
    }

    /// The answer to a question about addresses: a list, or `null`.
    pub(crate) fn matching(&self, out: &mut Out) -> io::Result<()> {
        let view = self.fleet.view().load_full();
        let Some(address) = self.filter.address() else { return self.in_force(out, &view) };
        // What a node would do with it: an allow within a banned range counts here, where it would stop the whole range in a stream.
        let mut list = List::default();
        if !self.is_shielded(ActorKey::Range(address.into()))
            && let Some(found) = view.lookup(&Identities::of(address), self.now_ms)
            && let Some(decision) = found.decision()
            && let Some(key) = whole_key(&decision.actor)
        {
            self.ordered(out, &mut list, &decision, key)?;
        }
        list.end(out)
    }

    fn in_force(&self, out: &mut Out, view: &View) -> io::Result<()> {
        let mut list = List::default();
        self.each(view, |decision, key| match self.is_shielded(key) {
            true => Ok(()),
            false => self.ordered(out, &mut list, decision, key),
        })?;
        list.end(out)
    }

    /// The strongest order about each key. A view lists what is said about one key together.
    fn each(
        &self,
        view: &View,
        mut then: impl FnMut(&Decision, ActorKey) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut best: Option<(ActorKey, Arc<Decision>)> = None;
        for decision in view.live(self.now_ms) {
            let Some(key) = whole_key(&decision.actor) else { continue };
            if decision.kind == DecisionKind::Allow {
                continue;
            }
            match &mut best {
                Some((last, best)) if *last == key => {
                    if strength(&decision) > strength(best) {
                        *best = decision;
                    }
                }
                _ => {
                    if let Some((key, decision)) = best.replace((key, decision)) {
                        then(&decision, key)?;
                    }
                }
            }
        }
        best.map_or(Ok(()), |(key, decision)| then(&decision, key))
    }

    fn is_shielded(&self, key: ActorKey) -> bool {
        self.shields.touch(key, self.place)
    }

    fn strongest(&self, key: ActorKey, decisions: Vec<Arc<Decision>>) -> Option<Arc<Decision>> {
        if self.is_shielded(key) {
            return None;
        }
        let whole = decisions.into_iter().filter(|decision| {
            decision.is_live(self.now_ms)
                && decision.kind != DecisionKind::Allow
                && whole_key(&decision.actor).is_some()
        });
        whole.max_by_key(|decision| strength(decision))
    }

    fn ordered(&self, out: &mut Out, list: &mut List, decision: &Decision, key: ActorKey) -> io::Result<()> {
        if self.filter.admits(decision.kind, key)
            && self.filter.admits_scenario(&decision.reason)
            && let Some(written) = Written::of(decision, key, self.now_ms)
        {
            list.push(out, &written)?;
        }
        Ok(())
    }

    fn ended(&self, out: &mut Out, list: &mut List, kind: DecisionKind, key: ActorKey) -> io::Result<()> {
        if self.filter.admits(kind, key)
            && let Some(written) = Written::ended(kind, key)
        {
            list.push(out, &written)?;
        }
        Ok(())
    }
}

/// A JSON list under way. An empty one is `null`, as bouncers know it from CrowdSec.
#[derive(Debug, Default)]
struct List {
    open: bool,
}

impl List {
    fn push<T: Serialize>(&mut self, out: &mut Out, value: &T) -> io::Result<()> {
        out.raw(if self.open { b"," } else { b"[" })?;
        self.open = true;
        serde_json::to_writer(&mut out.buffer, value)?;
        Ok(())
    }

    fn end(self, out: &mut Out) -> io::Result<()> {
        out.raw(if self.open { b"]" } else { b"null" })
    }
}

/// Where an answer goes: to the connection, in pieces, no faster than it takes them. Used on a thread that may block.
pub(crate) struct Out {
    buffer: Vec<u8>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    runtime: Handle,
    end: Instant,
}

impl Out {
    pub(crate) fn new(pieces: mpsc::Sender<io::Result<Bytes>>, runtime: Handle) -> Self {
        Self { buffer: Vec::new(), pieces, runtime, end: Instant::now() + ANSWER_MAX }
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < PIECE_BYTES { Ok(()) } else { self.flush() }
    }

    /// Hands the rest to the connection.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        let patience = self.end.min(Instant::now() + STALL_MAX);
        let sent = self.runtime.block_on(tokio::time::timeout_at(patience, self.pieces.send(Ok(piece))));
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Cuts the answer off, so that the bouncer sees that it is not whole.
    pub(crate) fn cut(self, error: io::Error) {
        let _ = self.pieces.try_send(Err(error));
    }
}

fn strength(decision: &Decision) -> (DecisionKind, u64) {
    (decision.kind, decision.expires_at_ms)
}

const PIECE_BYTES: usize = 32 * 1024;
/// Longest time in which a bouncer takes nothing of its answer.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Longest time for an answer: a million decisions are 150 MB.
const ANSWER_MAX: Duration = Duration::from_secs(300);
