//! Every listening socket of a node: those that it was given and those that it bound, and all of them once more for the process that follows.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use anyhow::{Context, bail};
use parking_lot::Mutex;
use phalanx_edge::{GivenListener, Serves};
use serde::{Deserialize, Serialize};

use crate::settings::Settings;

/// What a socket is listened on for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// Visitors, without TLS.
    Listen,
    /// Visitors, with TLS.
    Tls,
    /// Other proxies, which ask about requests.
    Check,
    /// Clients of apps that connections are carried for.
    Tcp,
    /// API and console.
    Admin,
    /// The command line.
    AdminSocket,
    /// Bouncers.
    Lapi,
    /// Nodes that join.
    Enroll,
}

/// A socket's place in the settings, as it is told to the process that follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Label {
    purpose: Purpose,
    /// The address as the settings say it; none for a socket in the file system.
    asked: Option<SocketAddr>,
}

/// A socket on its way to another process.
pub(crate) type HandedSocket = (Label, OwnedFd);

#[derive(Debug)]
struct Given {
    /// Not known of what the service manager gives.
    purpose: Option<Purpose>,
    asked: Option<SocketAddr>,
    /// What the giver calls it.
    name: String,
    socket: OwnedFd,
}

/// Given sockets that nobody asked for yet, and copies of those in use.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    given: Mutex<Vec<Given>>,
    used: Mutex<Vec<(Label, OwnedFd)>>,
}

impl Sockets {
    /// What the service manager gave (`LISTEN_FDS`); an address decides what a socket is for.
    pub(super) fn of_service_manager() -> anyhow::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = listenfd::ListenFd::from_env();
        let mut given = Vec::new();
        for number in 0..passed.len().min(GIVEN_MAX) {
            let name = names.next().unwrap_or_default().to_owned();
            let socket = passed.take_tcp_listener(number).with_context(|| {
                format!("the service manager passes a socket ({name}) that is no listening TCP socket")
            })?;
            let Some(socket) = socket else { continue };
            let asked = Some(socket.local_addr()?);
            given.push(Given { purpose: None, asked, name, socket: socket.into() });
        }
        Ok(Self { given: Mutex::new(given), used: Mutex::default() })
    }

    /// What the process that is taken over from listens on.
    pub(super) fn of_predecessor(sockets: Vec<HandedSocket>) -> Self {
        let given = sockets.into_iter().map(|(label, socket)| Given {
            purpose: Some(label.purpose),
            asked: label.asked,
            name: String::new(),
            socket,
        });
        Self { given: Mutex::new(given.collect()), used: Mutex::default() }
    }

    /// Binds what a predecessor did not listen on, while that still has the state: an address that cannot be had fails an upgrade before it begins.
    pub(crate) fn bind_others(&self, settings: &Settings) -> anyhow::Result<()> {
        let edge =
            |purpose, addresses: Vec<SocketAddr>| addresses.into_iter().map(move |asked| (purpose, asked));
        let tls = settings.tls.listeners.iter().map(|listener| listener.address).collect();
        let checks = settings.checks.iter().map(|one| one.address).collect();
        let visitors = edge(Purpose::Listen, settings.listen.clone()).chain(edge(Purpose::Tls, tls));
        let tcp = settings.tcp.iter().map(|one| one.listen.address).collect();
        let others = edge(Purpose::Check, checks).chain(edge(Purpose::Tcp, tcp));
        for (purpose, asked) in visitors.chain(others) {
            self.bind_unless_given(purpose, asked, || phalanx_edge::bind(asked, settings.workers))?;
        }
        let enroll = settings.fleet.as_ref().and_then(|fleet| fleet.enroll);
        let others = [
            (Purpose::Admin, Some(settings.admin)),
            (Purpose::Lapi, settings.lapi),
            (Purpose::Enroll, enroll),
        ];
        for (purpose, asked) in others {
            let Some(asked) = asked else { continue };
            self.bind_unless_given(purpose, asked, || Ok(vec![bind(asked)?]))?;
        }
        Ok(())
    }

    fn bind_unless_given(
        &self,
        purpose: Purpose,
        asked: SocketAddr,
        bind: impl FnOnce() -> io::Result<Vec<TcpListener>>,
    ) -> anyhow::Result<()> {
        let mut given = self.given.lock();
        if given.iter().any(|one| one.purpose == Some(purpose) && one.asked == Some(asked)) {
            return Ok(());
        }
        for socket in bind().with_context(|| format!("cannot listen on {asked}"))? {
            let (purpose, asked) = (Some(purpose), Some(asked));
            given.push(Given { purpose, asked, name: String::new(), socket: socket.into() });
        }
        Ok(())
    }

    /// A listener for management: one that was given, else a new one.
    pub(crate) fn tcp(&self, purpose: Purpose, asked: SocketAddr) -> io::Result<tokio::net::TcpListener> {
        let listener = match self.take(purpose, Some(asked)).into_iter().next() {
            Some(given) => TcpListener::from(given),
            None => bind(asked)?,
        };
        listener.set_nonblocking(true)?;
        self.use_for(purpose, Some(asked), listener.as_fd())?;
        tokio::net::TcpListener::from_std(listener)
    }

    /// The admin socket: the one that was given, else what `bind` makes.
    pub(crate) fn admin_socket(
        &self,
        bind: impl FnOnce() -> io::Result<tokio::net::UnixListener>,
    ) -> io::Result<tokio::net::UnixListener> {
        let listener = match self.take(Purpose::AdminSocket, None).into_iter().next() {
            Some(given) => {
                let listener = UnixListener::from(given);
                listener.set_nonblocking(true)?;
                tokio::net::UnixListener::from_std(listener)?
            }
            None => bind()?,
        };
        self.use_for(Purpose::AdminSocket, None, listener.as_fd())?;
        Ok(listener)
    }

    /// Those of the data plane.
    pub(crate) fn of_edge(
        &self,
        listen: &[SocketAddr],
        tls: &[SocketAddr],
        checks: &[SocketAddr],
        tcp: &[SocketAddr],
    ) -> Vec<GivenListener> {
        let mut taken = Vec::new();
        let all = [
            (Purpose::Listen, Serves::Plain, listen),
            (Purpose::Tls, Serves::Tls, tls),
            (Purpose::Check, Serves::Questions, checks),
            (Purpose::Tcp, Serves::Tcp, tcp),
        ];
        for (purpose, serves, addresses) in all {
            for &asked in addresses {
                let sockets = self.take(purpose, Some(asked)).into_iter().map(TcpListener::from);
                taken.extend(sockets.map(|socket| GivenListener { serves: Some(serves), asked, socket }));
            }
        }
        taken
    }

    /// Refuses a start with a socket of the service manager that nothing listens on: whoever connects would wait for ever.
    pub(crate) fn check_all_used(&self) -> anyhow::Result<()> {
        let given = self.given.lock();
        // What a predecessor listened on and the settings no longer name may go.
        let Some(one) = given.iter().find(|one| one.purpose.is_none()) else { return Ok(()) };
        let address = one.asked.map(|asked| asked.to_string()).unwrap_or_default();
        bail!(
            "the service manager passes a socket on {address} ({}) that no setting names; add the address to `listen`, or take it out of the \
             socket unit",
            one.name
        )
    }

    /// All sockets once more, for the process that follows.
    pub(crate) fn for_successor(&self, of_edge: Vec<GivenListener>) -> io::Result<Vec<HandedSocket>> {
        let mut all = Vec::new();
        for (label, socket) in self.used.lock().iter() {
            all.push((label.clone(), socket.try_clone()?));
        }
        all.extend(of_edge.into_iter().map(|one| {
            let purpose = match one.serves {
                Some(Serves::Tls) => Purpose::Tls,
                Some(Serves::Questions) => Purpose::Check,
                Some(Serves::Tcp) => Purpose::Tcp,
                Some(Serves::Plain) | None => Purpose::Listen,
            };
            (Label { purpose, asked: Some(one.asked) }, one.socket.into())
        }));
        Ok(all)
    }

    /// Closes what is left, so that a socket is closed when its user closes it.
    pub(crate) fn close(&self) {
        self.given.lock().clear();
        self.used.lock().clear();
    }

    fn take(&self, purpose: Purpose, asked: Option<SocketAddr>) -> Vec<OwnedFd> {
        let fits = |one: &mut Given| one.asked == asked && one.purpose.is_none_or(|said| said == purpose);
        self.given.lock().extract_if(.., fits).map(|one| one.socket).collect()
    }

    fn use_for(
        &self,
        purpose: Purpose,
        asked: Option<SocketAddr>,
        socket: std::os::fd::BorrowedFd<'_>,
    ) -> io::Result<()> {
        self.used.lock().push((Label { purpose, asked }, socket.try_clone_to_owned()?));
        Ok(())
    }
}

/// As the runtime binds: an address may be taken again while old connections to it are still closing.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    // The standard library sets SO_REUSEADDR on Unix.
    TcpListener::bind(address)
}

/// Sockets that a service manager may pass.
const GIVEN_MAX: usize = 256;
