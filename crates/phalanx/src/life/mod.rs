//! The life of the process: sockets that it is given, the process that follows it, what it may touch, what it tells the service manager.
//!
//! Flow in names: [`Start`] (what was inherited) -> `Node` -> [`Launcher`] starts another -> [`handover`]: sockets, then state, then the rest of
//! the events; [`relay`] takes them in.
//!
//! INVARIANT: the state has one owner at a time, and a listening socket somebody who accepts from it: nobody closes what it has before the
//! other said that it serves.

mod channel;
pub(crate) mod handover;
mod launcher;
mod leisure;
mod memory;
mod orders;
pub(crate) mod privileges;
pub(crate) mod relay;
pub(crate) mod sandbox;
pub(crate) mod service;
mod sockets;
mod syscalls;
mod takeover;

pub(crate) use launcher::{Launcher, LauncherArgs, Upgrade, run as launcher};
pub(crate) use leisure::at_leisure;
pub(crate) use memory::Tickets;
pub(crate) use sockets::{HandedSocket, Purpose, Sockets};
pub(crate) use takeover::Start;

use std::time::Duration;

/// How long a process that takes over may take for each of its two steps: compiling policy and rules, opening the state.
const STEP_MAX: Duration = Duration::from_secs(60);
/// The variable by which a process knows that another waits to be taken over from.
const TAKES_OVER: &str = "PHALANX_TAKES_OVER";
