//! The handle by which a worker reaches its connections from outside: deadlines, bans and drains end up here.
//!
//! One coarse tick per worker looks at all deadlines, so that a request arms no timer of its own.
//!
//! INVARIANT: whoever waits on a client connection waits through [`Control::run`]; so every wait has a deadline and ends
//! when the connection is cut.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use phalanx_model::Ja4;

use crate::places::Place;

/// Why the worker ends a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The deadline passed.
    Timeout,
    /// The client is banned.
    Banned,
    /// The node drains and its time is up, or the connection was idle.
    Drained,
}

/// What a connection is doing, as far as cutting it is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Between requests.
    Idle,
    /// Serving a request, or a tunnel.
    Busy,
    /// Writing a refusal or error: the client shall get it whole, then the connection ends.
    Refusing,
}

/// One connection's control block.
#[derive(Debug)]
pub(crate) struct Control {
    /// Whom a ban must name to end this connection now; `None` between requests of a trusted forwarder.
    pub(crate) client: Cell<Option<IpAddr>>,
    /// The client's hash, once a head was read.
    pub(crate) agent: Cell<Option<u64>>,
    /// How the peer greets, where it came over TLS and is no forwarder: what that greets like says nothing of its clients.
    pub(crate) ja4: Cell<Option<Ja4>>,
    /// The crawler that the client of this hash says that it is, by its key; 0 for none.
    pub(crate) claim: Cell<Option<(u64, u64)>>,
    /// Where a client of this connection is, once it was looked up.
    pub(crate) place: Cell<Option<(IpAddr, Place)>>,
    pub(crate) activity: Cell<Activity>,
    /// Since when it has been idle, if it is, in the worker's time.
    pub(crate) idle_since_ms: Cell<u64>,
    /// No ban ends it while it waits: nobody has looked yet whether its peer is banned, or that is known and to be told.
    pub(crate) spared: Cell<bool>,
    /// No request after the current one.
    pub(crate) ends: Cell<bool>,
    deadline_ms: Cell<u64>,
    /// No deadline is later than this.
    limit_ms: Cell<u64>,
    cut: Cell<Option<Cut>>,
    waker: RefCell<Option<Waker>>,
}

impl Control {
    pub(crate) fn new(client: Option<IpAddr>) -> Self {
        Self {
            client: Cell::new(client),
            agent: Cell::new(None),
            ja4: Cell::new(None),
            claim: Cell::new(None),
            place: Cell::new(None),
            activity: Cell::new(Activity::Idle),
            idle_since_ms: Cell::new(u64::MAX),
            spared: Cell::new(true),
            ends: Cell::new(false),
            deadline_ms: Cell::new(u64::MAX),
            limit_ms: Cell::new(u64::MAX),
            cut: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// Waits for `poll`, unless the connection is cut first.
    pub(crate) async fn run<T, E: From<Cut>>(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<Result<T, E>>,
    ) -> Result<T, E> {
        poll_fn(|cx| {
            if let Some(cut) = self.cut.get() {
                return Poll::Ready(Err(cut.into()));
            }
            let polled = poll(cx);
            if polled.is_pending() {
                self.remember(cx.waker());
            }
            polled
        })
        .await
    }

    /// Nothing is asked for from now on.
    pub(crate) fn rests(&self, now_ms: u64) {
        self.activity.set(Activity::Idle);
        self.idle_since_ms.set(now_ms);
    }

    /// Sets when the current wait ends, in the worker's time.
    pub(crate) fn set_deadline(&self, at_ms: u64) {
        self.deadline_ms.set(at_ms.min(self.limit_ms.get()));
    }

    /// Sets when all waits end, however their deadlines are set; `u64::MAX` for never.
    pub(crate) fn set_limit(&self, at_ms: u64) {
        self.limit_ms.set(at_ms);
    }

    /// Ends the current wait and, but for a timeout, all that follow.
    pub(crate) fn cut(&self, cut: Cut) {
        self.cut.set(Some(cut));
        self.wake();
    }

    /// Has the connection look again at what it waits for.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Cuts the connection if its deadline has passed.
    pub(crate) fn check_deadline(&self, now_ms: u64) {
        if now_ms >= self.deadline_ms.get() && self.cut.get().is_none() {
            self.cut(Cut::Timeout);
        }
    }

    /// Takes note of a timeout, so that the reply to it can be written.
    pub(crate) fn clear_timeout(&self) {
        if self.cut.get() == Some(Cut::Timeout) {
            self.cut.set(None);
        }
    }

    fn remember(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }
}

/// A worker's open connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: RefCell<Vec<Option<Rc<Control>>>>,
    free: RefCell<Vec<usize>>,
    open: Cell<usize>,
}

impl Connections {
    /// Registers a connection; the returned slot takes it out again.
    pub(crate) fn insert(&self, control: Rc<Control>) -> usize {
        self.open.set(self.open.get() + 1);
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = self.free.borrow_mut().pop()
            && let Some(place) = slots.get_mut(slot)
        {
            *place = Some(control);
            return slot;
        }
        slots.push(Some(control));
        slots.len() - 1
    }

    /// Forgets a connection.
    pub(crate) fn remove(&self, slot: usize) {
        if let Some(place) = self.slots.borrow_mut().get_mut(slot)
            && place.take().is_some()
        {
            self.free.borrow_mut().push(slot);
            self.open.set(self.open.get() - 1);
        }
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.get()
    }

    /// Calls `visit` with each open connection. `visit` may cut, not insert or remove.
    pub(crate) fn for_each(&self, visit: impl FnMut(&Rc<Control>)) {
        self.slots.borrow().iter().flatten().for_each(visit);
    }

    /// The same, with the slot of each.
    pub(crate) fn for_each_slot(&self, mut visit: impl FnMut(usize, &Rc<Control>)) {
        for (slot, control) in self.slots.borrow().iter().enumerate() {
            if let Some(control) = control {
                visit(slot, control);
            }
        }
    }
}
