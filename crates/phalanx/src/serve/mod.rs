//! `phalanx fleet serve`: a site's nats-server, configured, started, watched over and renewed, so that an operator runs one thing.
//!
//! Flow in names: authority or token -> `Office` -> configuration -> `Server` (the process) and the keeper of streams.
//!
//! INVARIANT: one `serve` per state folder, and no nats-server without one: it ends with who started it.

mod office;
mod server;

use std::fmt;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use phalanx_fleet::nats::keeper::{self, HeldServer, KeeperSettings, KeeperState};
use phalanx_model::{Clock, SystemClock};
use phalanx_record::escape::for_terminal;
use phalanx_trust::nats_config::{self, ClusterPlan, NatsServerPlan, SitePlan};
use phalanx_trust::{Sealer, ServerPlace};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use self::office::Office;
use self::server::{Ended, Server};
use crate::args::parse_name;
use crate::state::StateFolder;

pub(crate) use self::server::{ChildArgs, child};

/// Arguments of `fleet serve`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    /// State folder: the one that holds the fleet's authority, or one of the server's own [default: the user's state folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The site that it serves
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    site: String,
    /// The server's name, unique in its site
    #[arg(long, value_name = "NAME", default_value = "nats-1", value_parser = parse_name)]
    server: String,
    /// Join the fleet with the token that `phalanx fleet invite --server` printed, or @FILE that holds it; needed once
    #[arg(long, value_name = "TOKEN")]
    join: Option<String>,
    /// Where the nodes of the site connect
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4222")]
    listen: SocketAddr,
    /// A name or address under which nodes and other servers reach it, if not as --listen says [may be repeated]
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Where servers of other sites link to this one
    #[arg(long, value_name = "ADDR")]
    leaf_listen: Option<SocketAddr>,
    /// A server of another site to link to, tls://HOST:PORT; the first that answers is used [may be repeated]
    #[arg(long, value_name = "URL")]
    hub: Vec<String>,
    /// The three servers of this site, where they reach each other: HOST:PORT,HOST:PORT,HOST:PORT
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', requires = "peer_listen")]
    peers: Vec<String>,
    /// Where the other two reach this one
    #[arg(long, value_name = "ADDR", requires = "peers")]
    peer_listen: Option<SocketAddr>,
    /// The nats-server to run [default: the one in PATH]
    #[arg(long, value_name = "FILE")]
    nats_server: Option<PathBuf>,
    /// Print one JSON object for each change of state, instead of text
    #[arg(long)]
    json: bool,
}

/// Serves until it is told to stop; fails if the server cannot be kept running.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let state = StateFolder::open(&args.state.clone().unwrap_or_else(crate::settings::default_state))?;
    let folder = state.path().join("nats");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Held until this process is gone, whatever ends it.
    let _lock = lock(&folder)?;
    let sealer = Arc::new(Sealer::load_or_create(&state.sealing_key())?);
    // One thread: the server's life hangs on the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let said = Said { json: args.json, last: None };
        Serve::start(args, &state, folder, sealer, said).await?.run().await
    })
}

struct Serve {
    folder: PathBuf,
    binary: PathBuf,
    plan: NatsServerPlan,
    site: SitePlan,
    office: Office,
    held: watch::Sender<Arc<HeldServer>>,
    keeper: watch::Receiver<KeeperState>,
    said: Said,
    stop: Stop,
}

impl Serve {
    async fn start(
        args: &ServeArgs,
        state: &StateFolder,
        folder: PathBuf,
        sealer: Arc<Sealer>,
        said: Said,
    ) -> anyhow::Result<Self> {
        // Handlers first: a signal during the start must not leave a server behind.
        let stop = Stop::listen()?;
        let site = site_plan(args)?;
        let binary = server::find(args.nats_server.as_deref())?;
        let office = Office::open(state.path(), sealer, place(args)?);
        let (office, held) = office?.establish(args.join.as_deref(), SystemClock.now_ms()).await?;
        let plan = NatsServerPlan {
            host: args.listen.ip().to_string(),
            port: args.listen.port(),
            store: folder.join("streams").display().to_string(),
            hosts: Vec::new(),
        };
        let settings = KeeperSettings {
            url: local_url(args.listen),
            replicas: if site.cluster.is_some() { 3 } else { 1 },
            guests: office.guests(),
        };
        let (held, watched) = watch::channel(Arc::new(held));
        let (keeper, of_keeper) = watch::channel(KeeperState::default());
        tokio::spawn(keeper::keep(settings, watched, keeper));
        Ok(Self { folder, binary, plan, site, office, held, keeper: of_keeper, said, stop })
    }

    async fn run(mut self) -> anyhow::Result<ExitCode> {
        server::end_left_over(&self.folder).await?;
        self.configure()?;
        let mut failures = 0;
        loop {
            self.said
                .say("starting", &format!("starting nats-server on {}:{}", self.plan.host, self.plan.port));
            let started = Instant::now();
            let mut server = Server::start(&self.binary, &self.folder)?;
            let ended = self.watch(&mut server).await;
            let Some(ended) = ended else {
                self.said.say("stopping", "stopping nats-server");
                server.stop().await;
                self.said.say("stopped", "stopped");
                return Ok(ExitCode::SUCCESS);
            };
            let Ended { how, was_ready } = ended;
            // The keeper connects anew, and says when the next one serves.
            self.held.send_modify(|_| {});
            failures = if was_ready || started.elapsed() > STEADY { 0 } else { failures + 1 };
            if failures >= FAILURES_MAX {
                self.said.say("failed", &format!("nats-server {how}; it never served"));
                bail!(
                    "nats-server ended {failures} times before it served, the last time it {how}; its log is above"
                );
            }
            let pause = PAUSE.saturating_mul(1 << failures.min(5)).min(PAUSE_MAX);
            self.said.say("down", &format!("nats-server {how}; started again in {} ms", pause.as_millis()));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.wait() => {
                    self.said.say("stopped", "stopped");
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
    }

    /// Until the server ends, or this process is told to: `None`.
    async fn watch(&mut self, server: &mut Server) -> Option<Ended> {
        let mut was_ready = false;
        let mut renew_at = Instant::now() + RENEW_EVERY;
        loop {
            tokio::select! {
                how = server.ended() => return Some(Ended { how, was_ready }),
                () = self.stop.wait() => return None,
                changed = self.keeper.changed() => {
                    if changed.is_err() { continue }
                    let state = self.keeper.borrow_and_update().clone();
                    was_ready |= state.ready;
                    self.tell(&state);
                }
                () = sleep_until(renew_at) => {
                    if self.renew().await {
                        server.reload();
                    }
                    renew_at = Instant::now() + RENEW_EVERY;
                }
            }
        }
    }

    fn tell(&mut self, state: &KeeperState) {
        match (&state.fault, state.ready) {
            (Some(fault), _) => {
                self.said.say("degraded", &format!("the site's streams cannot be kept: {fault}"))
            }
            (None, true) if state.sites.is_empty() => {
                self.said.say("serving", "serving; no other site is heard")
            }
            (None, true) => self.said.say("serving", &format!("serving; hears {}", state.sites.join(", "))),
            (None, false) => {}
        }
    }

    /// Looks for what is new at the authority. True if the server must read its configuration again.
    async fn renew(&mut self) -> bool {
        let known = Arc::clone(&self.held.borrow());
        let renewed = match self.office.renew(&known, SystemClock.now_ms()).await {
            Ok(Some(renewed)) => renewed,
            Ok(None) => return false,
            Err(error) => {
                let ends_ms = known.grant.expires_at_ms.saturating_sub(SystemClock.now_ms());
                let ends = crate::commands::print::duration(ends_ms);
                // A site that is cut off goes on; it is no change of state until the end is near.
                tracing::debug!(error = format!("{error:#}"), ends, "nothing new from the fleet's authority");
                if ends_ms < NEAR_END_MS {
                    let what =
                        format!("certificate and logins end in {ends} and cannot be renewed: {error:#}");
                    self.said.say("degraded", &what);
                }
                return false;
            }
        };
        let changed = renewed.grant.operator != known.grant.operator;
        self.held.send_replace(Arc::new(renewed));
        if let Err(error) = self.configure() {
            tracing::error!(error = format!("{error:#}"), "the renewed configuration cannot be written");
            return false;
        }
        let what = if changed {
            "took up what the fleet's authority changed"
        } else {
            "certificate and logins renewed"
        };
        self.said.say("renewed", what);
        true
    }

    fn configure(&self) -> anyhow::Result<()> {
        let held = self.held.borrow();
        nats_config::write_site(&self.folder, &held.grant, &held.keys, &self.plan, &self.site)?;
        Ok(())
    }
}

/// Tells each change of state once.
struct Said {
    json: bool,
    last: Option<String>,
}

impl Said {
    fn say(&mut self, state: &str, text: &str) {
        let line = match self.json {
            true => json!({ "state": state, "text": text, "at_ms": SystemClock.now_ms() }).to_string(),
            false => for_terminal(text).into_owned(),
        };
        if self.last.as_deref() == Some(text) {
            return;
        }
        self.last = Some(text.to_owned());
        // Nobody reading is no reason to stop serving.
        let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{line}\n").as_bytes());
    }
}

/// The signals that end it.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("serve.lock");
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => bail!(
            "another `phalanx fleet serve` runs with the state in {}; stop it first, or choose another --state",
            folder.display()
        ),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn site_plan(args: &ServeArgs) -> anyhow::Result<SitePlan> {
    if !matches!(args.peers.len(), 0 | 3) {
        bail!("--peers names the three servers of a site; a site has one server, or three");
    }
    if let Some(wrong) = args.hub.iter().find(|hub| !hub.starts_with("tls://")) {
        bail!("--hub {wrong}: links are encrypted; write tls://HOST:PORT");
    }
    if args.hub.len() > HUBS_MAX {
        bail!("more than {HUBS_MAX} servers to link to");
    }
    let cluster = args.peer_listen.map(|listen| ClusterPlan { listen, peers: args.peers.clone() });
    Ok(SitePlan { leaf_listen: args.leaf_listen, hubs: args.hub.clone(), cluster })
}

/// How it is reached.
fn place(args: &ServeArgs) -> anyhow::Result<ServerPlace> {
    let (ip, port) = (args.listen.ip(), args.listen.port());
    if ip.is_unspecified() && args.host.is_empty() {
        bail!("--listen {}: say with --host under which name or address nodes reach it", args.listen);
    }
    let mut hosts = args.host.clone();
    let listens = [Some(args.listen), args.leaf_listen, args.peer_listen];
    let addresses = listens.into_iter().flatten().map(|listen| listen.ip()).filter(|ip| !ip.is_unspecified());
    hosts.extend(addresses.map(|ip| ip.to_string()));
    hosts.sort();
    hosts.dedup();
    let reached = args.host.first().cloned().unwrap_or_else(|| ip.to_string());
    let reached = if reached.contains(':') { format!("[{reached}]") } else { reached };
    let place = ServerPlace {
        site: args.site.clone(),
        server: args.server.clone(),
        hosts,
        clients: vec![format!("tls://{reached}:{port}")],
    };
    if !place.is_in_order() {
        bail!("--host: a name or an address is not usable, or there are too many");
    }
    Ok(place)
}

/// Where this process reaches the server.
fn local_url(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    format!("tls://{}", SocketAddr::new(ip, listen.port()))
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("folder", &self.folder).finish_non_exhaustive()
    }
}

const FAILURES_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A server that ran for so long was not started in vain.
const STEADY: Duration = Duration::from_secs(60);
/// A revocation reaches the server of a site through its authority's node within this; nodes refuse the revoked at once.
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// A day before the end an operator must know.
const NEAR_END_MS: u64 = 24 * 60 * 60_000;
const HUBS_MAX: usize = 4;
