//! One source for all live streams: changes of the fleet, recorded requests, nodes and counters, each turned into its
//! JSON once and sent to everyone who listens.
//!
//! Requests are a sample under flood and may be lost by a slow reader; changes of state may not: who misses one is cut
//! off, connects again and fetches the state anew.

use std::sync::Arc;
use std::time::Duration;

use phalanx_fleet::{Change, FleetHandle};
use phalanx_model::Clock;
use phalanx_model::counters::WorkerCounters;
use phalanx_model::lanes::Lanes;
use phalanx_record::RecordedRequest;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::api::{Counters, EventRow, Member};
use crate::handlers::status::{counters, members};
use crate::limits::{STREAM_EVENTS, STREAM_REQUESTS_PER_SECOND_MAX};
use crate::router::ControlDeps;

/// One event, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct StreamEvent {
    pub(crate) name: &'static str,
    pub(crate) json: Arc<str>,
}

/// The streams' source. Its task ends with it.
#[derive(Debug)]
pub(crate) struct Hub {
    requests: broadcast::Sender<StreamEvent>,
    changes: broadcast::Sender<StreamEvent>,
    task: JoinHandle<()>,
}

impl Hub {
    pub(crate) fn start(deps: &ControlDeps) -> Self {
        let requests = broadcast::Sender::new(STREAM_EVENTS);
        let changes = broadcast::Sender::new(STREAM_EVENTS);
        let source = Source {
            requests: requests.clone(),
            changes: changes.clone(),
            fleet: deps.fleet.clone(),
            counters: deps.counters.clone(),
            lanes: deps.lanes.clone(),
            clock: Arc::clone(&deps.clock),
            last_counters: Counters::default(),
            last_members: Vec::new(),
            last_held: 0,
            requests_this_second: 0,
        };
        let task = tokio::spawn(source.run(deps.live.subscribe()));
        Self { requests, changes, task }
    }

    /// Recorded requests.
    pub(crate) fn requests(&self) -> broadcast::Receiver<StreamEvent> {
        self.requests.subscribe()
    }

    /// Changes of decisions, nodes and counters.
    pub(crate) fn changes(&self) -> broadcast::Receiver<StreamEvent> {
        self.changes.subscribe()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Source {
    requests: broadcast::Sender<StreamEvent>,
    changes: broadcast::Sender<StreamEvent>,
    fleet: FleetHandle,
    counters: Vec<Arc<WorkerCounters>>,
    lanes: Lanes,
    clock: Arc<dyn Clock>,
    last_counters: Counters,
    last_members: Vec<Member>,
    last_held: usize,
    requests_this_second: u32,
}

impl Source {
    async fn run(mut self, mut live: broadcast::Receiver<Arc<RecordedRequest>>) {
        let mut changes = self.fleet.changes();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut live_open, mut fleet_open) = (true, true);
        loop {
            tokio::select! {
                received = live.recv(), if live_open => match received {
                    Ok(record) => self.request(&record),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => live_open = false,
                },
                received = changes.recv(), if fleet_open => match received {
                    Ok(change) => self.change(&change),
                    // Nobody can tell what was missed: everyone fetches anew.
                    Err(RecvError::Lagged(_)) => send(&self.changes, "resync", &()),
                    Err(RecvError::Closed) => fleet_open = false,
                },
                _ = second.tick() => self.tick(),
            }
        }
    }

    fn request(&mut self, record: &RecordedRequest) {
        if self.requests.receiver_count() == 0 || self.requests_this_second >= STREAM_REQUESTS_PER_SECOND_MAX
        {
            return;
        }
        self.requests_this_second += 1;
        send(&self.requests, "request", &EventRow::from(record));
    }

    fn change(&self, change: &Change) {
        match change {
            Change::Decided(decision) => send(&self.changes, "decision", decision),
            Change::Withdrawn(withdrawal) => send(&self.changes, "withdrawal", withdrawal),
            // It may end a hundred thousand decisions: everyone fetches anew.
            Change::Recalled(_) => send(&self.changes, "resync", &()),
            // Consoles show no lists.
            Change::Listed(_) => {}
        }
    }

    fn tick(&mut self) {
        self.requests_this_second = 0;
        if self.changes.receiver_count() == 0 {
            return;
        }
        let counters = counters(&self.counters, &self.lanes);
        if counters != self.last_counters {
            self.last_counters = counters;
            send(&self.changes, "counters", &counters);
        }
        let members = members(&self.fleet, self.clock.now_ms());
        if members != self.last_members {
            send(&self.changes, "nodes", &members);
            self.last_members = members;
        }
        let held = self.fleet.held_len();
        if held != self.last_held {
            send(&self.changes, "held", &held);
            self.last_held = held;
        }
    }
}

fn send<T: Serialize>(to: &broadcast::Sender<StreamEvent>, name: &'static str, value: &T) {
    if to.receiver_count() == 0 {
        return;
    }
    match serde_json::to_string(value) {
        // Whoever listened may have gone meanwhile.
        Ok(json) => drop(to.send(StreamEvent { name, json: json.into() })),
        Err(error) => tracing::error!(%error, name, "an event could not be encoded"),
    }
}
