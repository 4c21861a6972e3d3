//! The launcher: a small process that a node starts before it gives up its rights, and that starts the node's successor with all of them.
//!
//! What confines a process confines those that it starts, for ever: a successor of a confined node could never be allowed what a newer version
//! needs, or a folder that the settings name since, and would add its own confinement to that before. So the node cannot start anything; it asks the launcher,
//! which starts one program with fixed arguments and knows no other orders. It ends with the node.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::TAKES_OVER;
use super::channel::Channel;

/// Arguments of the launcher, which a node starts itself.
#[derive(Debug, Clone, Args)]
pub(crate) struct LauncherArgs {
    /// The program to start
    program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Which program a successor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Image {
    /// What lies where the node was started from.
    Installed,
    /// What the node itself runs, though its file may be gone.
    Own,
}

#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Start it, with the descriptor as its standard input.
    Start(Image),
    /// End what was started last, if it still runs, and say how it ended.
    End,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Started(u32),
    Ended(String),
    Failed(String),
}

/// The launcher as its node holds it.
#[derive(Debug)]
pub(crate) struct Launcher {
    channel: Mutex<Channel>,
    program: PathBuf,
    settings: Option<String>,
}

/// Somebody wants the node to be followed by a new process; told when that is under way, or why it is not.
pub(crate) type Upgrade = oneshot::Sender<Result<(), String>>;

impl Launcher {
    /// Starts it. To be called while the process may still start others. `settings` is the text of the settings file that the node runs with.
    pub(crate) fn start(settings: Option<&str>) -> anyhow::Result<Self> {
        let program = program()?;
        let (channel, theirs) = Channel::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("phalanx").arg("launcher").arg(&program).args(std::env::args_os().skip(1));
        for given in OF_ONE_PROCESS {
            command.env_remove(given);
        }
        command.stdin(theirs).spawn().context("cannot start the launcher")?;
        Ok(Self { channel: Mutex::new(channel), program, settings: settings.map(str::to_owned) })
    }

    /// What an upgrade starts.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// The settings that the node runs with, whatever the file says by now.
    pub(super) fn settings(&self) -> Option<String> {
        self.settings.clone()
    }

    /// Starts a successor that is given this end of a channel. Returns its process id.
    pub(super) fn launch(&self, image: Image, theirs: OwnedFd) -> anyhow::Result<u32> {
        match self.ask(&Order::Start(image), Some(theirs))? {
            Answer::Started(id) => Ok(id),
            Answer::Failed(why) => bail!("{} cannot be started: {why}", self.program.display()),
            Answer::Ended(how) => bail!("the launcher answers something else: {how}"),
        }
    }

    /// Ends the last successor if it runs; says how it ended.
    pub(super) fn end(&self) -> anyhow::Result<String> {
        match self.ask(&Order::End, None)? {
            Answer::Ended(how) => Ok(how),
            Answer::Started(_) => bail!("the launcher answers something else"),
            Answer::Failed(why) => bail!(why),
        }
    }

    fn ask(&self, order: &Order, with: Option<OwnedFd>) -> anyhow::Result<Answer> {
        let channel = self.channel.lock();
        let with: Vec<_> = with.iter().map(AsFd::as_fd).collect();
        let asked = channel.send(order, &with).and_then(|()| channel.receive());
        let answer = asked.context("the launcher cannot be asked")?;
        answer.map(|(answer, _)| answer).context("the launcher is gone; restart the node")
    }
}

/// Is the launcher, until its node is gone.
pub(crate) fn run(args: &LauncherArgs) -> anyhow::Result<ExitCode> {
    let channel = Channel::of_stdin()?;
    let mut last: Option<Child> = None;
    while let Some((order, mut with)) = channel.receive()? {
        let answer = match (order, with.pop()) {
            (Order::Start(image), Some(theirs)) => match start(args, image, theirs) {
                Ok(child) => {
                    let id = child.id();
                    last = Some(child);
                    Answer::Started(id)
                }
                Err(error) => Answer::Failed(error.to_string()),
            },
            (Order::Start(_), None) => Answer::Failed("nothing to start it with".into()),
            (Order::End, _) => last.take().map_or_else(|| Answer::Ended("was not there".into()), end),
        };
        channel.send(&answer, &[])?;
    }
    Ok(ExitCode::SUCCESS)
}

fn start(args: &LauncherArgs, image: Image, theirs: OwnedFd) -> io::Result<Child> {
    let mut command = match image {
        Image::Installed => Command::new(&args.program),
        Image::Own => Command::new("/proc/self/exe"),
    };
    command.arg0(&args.program).args(&args.args).env(TAKES_OVER, "stdin");
    command.stdin(Stdio::from(theirs)).spawn()
}

fn end(mut child: Child) -> Answer {
    // One that failed says so by ending, which takes a moment; how it ended is what its operator wants to know.
    let until = Instant::now() + ENDING_MAX;
    let mut running = matches!(child.try_wait(), Ok(None));
    while running && Instant::now() < until {
        std::thread::park_timeout(LOOK_AGAIN);
        running = matches!(child.try_wait(), Ok(None));
    }
    if running {
        let _ = child.kill();
    }
    match child.wait() {
        Ok(_) if running => Answer::Ended("was ended".into()),
        Ok(status) => Answer::Ended(match status.signal() {
            Some(signal) => format!("ended by signal {signal}"),
            None => format!("ended with code {}", status.code().unwrap_or_default()),
        }),
        Err(error) => Answer::Failed(format!("it cannot be waited for: {error}")),
    }
}

/// What the node was started as: a file that is put there later is what an upgrade starts. Links are kept, for versions that lie side by side.
fn program() -> anyhow::Result<PathBuf> {
    let named = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    if named.components().count() > 1 || named.is_absolute() {
        return std::path::absolute(&named).context("cannot find this very program");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(&named)).find(|file| file.is_file());
    match found {
        Some(found) => Ok(std::path::absolute(found)?),
        None => std::env::current_exe().context("cannot find this very program"),
    }
}

const ENDING_MAX: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Variables of the service manager that speak of one process; a successor is given the sockets in another way, and tells of itself.
const OF_ONE_PROCESS: [&str; 5] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID", TAKES_OVER];
