//! A process is followed by another one of the same node: the sockets go over first, then the state, then what is left to record.
//!
//! Until its successor has said that settings, policy and certificates are in order, the node gives up nothing. Then it closes the state and goes on
//! with the plan and the view as they are, which need no file. A successor that fails after that is followed by one of the image that runs already: the
//! node serves meanwhile, and it is that image which opened the state before.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use phalanx_edge::Gently;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::channel::{Channel, DESCRIPTORS_MAX};
use super::launcher::{Image, Launcher, Upgrade};
use super::memory::{self, Tickets};
use super::sockets::HandedSocket;
use super::takeover::{ToPredecessor, ToSuccessor};
use super::{STEP_MAX, orders, relay, service};
use crate::node::{Node, Remains};
use crate::up::Stop;

/// What came of it.
pub(crate) enum Followed {
    /// Nothing: the node goes on.
    Not(Box<Node>),
    /// This process has drained: another one serves, or it was told to stop before one did.
    Over,
}

/// Has the node followed by a process of the installed image.
pub(crate) async fn hand_over(
    node: Node,
    launcher: &Arc<Launcher>,
    asked: Option<Upgrade>,
    stop: &mut Stop,
) -> Followed {
    tracing::info!(program = %launcher.program().display(), "an upgrade begins");
    let prepared =
        stop.unless(attempt(launcher, Image::Installed, node.sockets(), (None, node.tickets()))).await;
    let prepared = prepared.unwrap_or_else(|| Err(anyhow!("the node was told to stop")));
    let successor = match prepared {
        Ok(successor) => successor,
        Err(error) => {
            let why = format!("{error:#}");
            tracing::error!(%why, "the upgrade failed; this process goes on as it was");
            tell(asked, Err(why.clone()));
            node.upgrade_failed(why);
            return Followed::Not(Box::new(node));
        }
    };
    tell(asked, Ok(()));
    let drain = node.handover();
    let remains = node.release().await;
    let Some((id, channel)) = follow(&remains, successor, launcher, stop).await else {
        let _ = tokio::task::block_in_place(|| launcher.end());
        remains.edge.drain(drain).await;
        return Followed::Over;
    };
    service::followed_by(id);
    tracing::info!(process = id, "another process serves; this one lets go of its connections");
    let_go(remains, channel, drain).await;
    Followed::Over
}

/// A process that has all but the state.
struct Successor {
    id: u32,
    channel: Channel,
}

/// Starts a process and gives it the sockets; returns when it has said that it is prepared. One that does not say so is ended.
async fn attempt(
    launcher: &Arc<Launcher>,
    image: Image,
    sockets: anyhow::Result<Vec<HandedSocket>>,
    (fault, tickets): (Option<String>, Tickets),
) -> anyhow::Result<Successor> {
    if std::process::id() == 1 {
        bail!(
            "this is the first process of its container, and all others end with it; replace the container"
        );
    }
    let (sockets, launcher) =
        (sockets.context("the listening sockets cannot be handed over")?, Arc::clone(launcher));
    let attempt = move || {
        let (channel, theirs) = Channel::pair()?;
        let id = launcher.launch(image, theirs)?;
        // What failed may have failed by settings that were changed meanwhile: our own image gets those that it serves with.
        let settings = if image == Image::Own { launcher.settings() } else { None };
        let prepared =
            give(&channel, sockets, (fault, settings, tickets)).and_then(|()| expect_prepared(&channel));
        prepared.map_err(|error| with_end(error, &launcher)).map(|()| Successor { id, channel })
    };
    tokio::task::spawn_blocking(attempt).await?
}

fn give(
    channel: &Channel,
    sockets: Vec<HandedSocket>,
    (fault, settings, tickets): (Option<String>, Option<String>, Tickets),
) -> anyhow::Result<()> {
    for some in sockets.chunks(DESCRIPTORS_MAX) {
        let labels = some.iter().map(|(label, _)| label.clone()).collect();
        let descriptors: Vec<_> = some.iter().map(|(_, socket)| socket.as_fd()).collect();
        say(channel, &ToSuccessor::Sockets(labels), &descriptors)?;
    }
    say(channel, &ToSuccessor::Prepare { fault, settings, tickets }, &[])
}

fn say(channel: &Channel, message: &ToSuccessor, with: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
    channel.send(message, with).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => anyhow!("the new process is gone"),
        _ => error.into(),
    })
}

fn expect_prepared(channel: &Channel) -> anyhow::Result<()> {
    match answer(channel)? {
        ToPredecessor::Prepared => Ok(()),
        ToPredecessor::Failed(why) => bail!("the new process refuses to start: {why}"),
        ToPredecessor::Ready | ToPredecessor::InForce { .. } => {
            bail!("the new process says something else")
        }
    }
}

fn expect_ready(channel: &Channel) -> anyhow::Result<()> {
    match answer(channel)? {
        ToPredecessor::Ready => Ok(()),
        ToPredecessor::Failed(why) => bail!("the new process cannot serve: {why}"),
        ToPredecessor::Prepared | ToPredecessor::InForce { .. } => {
            bail!("the new process says something else")
        }
    }
}

fn answer(channel: &Channel) -> anyhow::Result<ToPredecessor> {
    channel.wait_at_most(Some(STEP_MAX))?;
    match channel.receive() {
        Ok(Some((answer, _))) => Ok(answer),
        Ok(None) => bail!("the new process is gone"),
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            bail!("the new process did not say within {} s that it is ready", STEP_MAX.as_secs())
        }
        Err(error) => Err(error.into()),
    }
}

/// Ends what failed, so that nobody else holds sockets or state, and says how it ended.
fn with_end(error: anyhow::Error, launcher: &Launcher) -> anyhow::Error {
    match launcher.end() {
        Ok(how) => anyhow!("{error:#}; it {how}"),
        Err(other) => anyhow!("{error:#}; {other:#}"),
    }
}

/// Gives the state to the successor. If that cannot use it, to others of our own image, until one can. None if the process is told to stop.
async fn follow(
    remains: &Remains,
    first: Successor,
    launcher: &Arc<Launcher>,
    stop: &mut Stop,
) -> Option<(u32, Channel)> {
    let mut successor = Ok(first);
    let (mut fault, mut pause) = (None, PAUSE);
    loop {
        let failed = match successor {
            Ok(Successor { id, channel }) => match stop.unless(give_state(channel, launcher)).await? {
                Ok(channel) => return Some((id, channel)),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let why = format!("{failed:#}");
        tracing::error!(%why, "the process that was to follow failed; this one serves on, and is followed by one of its own image");
        if fault.is_none() {
            fault = Some(why);
        } else {
            // The first attempt with our own image is made at once.
            stop.unless(sleep(pause)).await?;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        let sockets = remains.sockets();
        successor =
            stop.unless(attempt(launcher, Image::Own, sockets, (fault.clone(), remains.tickets()))).await?;
    }
}

async fn give_state(channel: Channel, launcher: &Arc<Launcher>) -> anyhow::Result<Channel> {
    let launcher = Arc::clone(launcher);
    let give = move || {
        let given = say(&channel, &ToSuccessor::StateIsYours, &[]);
        match given.and_then(|()| expect_ready(&channel)) {
            Ok(()) => Ok(channel),
            Err(error) => Err(with_end(error, &launcher)),
        }
    };
    tokio::task::spawn_blocking(give).await?
}

/// Ends the connections, gently, while their events go to the successor.
async fn let_go(remains: Remains, channel: Channel, drain: Duration) {
    let until = Instant::now() + drain;
    let Remains { edge, sockets, released, before, clock, view, .. } = remains;
    sockets.close();
    let (over, is_over) = watch::channel(false);
    if let Err(error) = channel.try_clone().and_then(|channel| orders::obey(channel, view)) {
        tracing::warn!(%error, "what is decided from here on does not end connections of this process");
    }
    let remembered = memory::of(edge.tables(), clock.now_ms());
    let hand_on = |released| relay::hand_on(channel, released, remembered, is_over);
    let handed_on = released.map(hand_on).transpose();
    let handed_on = handed_on.unwrap_or_else(|error| {
        tracing::error!(%error, "the last events of this process are lost");
        None
    });
    edge.drain_gently(drain, GENTLY).await;
    // A process before this one may have connections still, and hand its events on by way of us.
    if let Some(before) = before {
        let _ = timeout_at(until, before).await;
    }
    over.send_replace(true);
    if let Some(handed_on) = handed_on {
        let _ = timeout_at(Instant::now() + HANDING_ON_MAX, handed_on).await;
    }
}

fn tell(asked: Option<Upgrade>, outcome: Result<(), String>) {
    if let Some(asked) = asked {
        let _ = asked.send(outcome);
    }
}

const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Connections are made anew within `told_within` by those who keep them busy, with a full handshake by who has no ticket: 10,000 in five
/// seconds take a third of a core. Who keeps a connection idle may ask once more within `idle`, and asks on a new one after that.
const GENTLY: Gently = Gently { told_within: Duration::from_secs(5), idle: Duration::from_secs(10) };
const HANDING_ON_MAX: Duration = Duration::from_secs(5);
