//! Listening sockets: bound here, or given by the service manager or by a process that is taken over from.
//!
//! INVARIANT: a socket that was given is listened on as long as its address is among the settings, whatever the number of workers: connections that
//! the kernel has put into its queue already belong to nobody else.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use crate::settings::EdgeSettings;
use crate::worker::{Begins, Listener};

/// A listening socket that goes from one process to another.
#[derive(Debug)]
pub struct GivenListener {
    /// Who is served there; `None` if the giver does not know.
    pub serves: Option<Serves>,
    /// The address as the settings say it, which may leave the port to the system.
    pub asked: SocketAddr,
    /// The socket.
    pub socket: TcpListener,
}

/// Whom a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// Clients, without TLS.
    Plain,
    /// Clients, with TLS.
    Tls,
    /// Other proxies, which ask about requests.
    Questions,
    /// Clients of an app that connections are carried for.
    Tcp,
}

impl GivenListener {
    /// The same socket under another descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { serves: self.serves, asked: self.asked, socket: self.socket.try_clone()? })
    }
}

/// The sockets of all workers.
pub(crate) struct Listeners {
    /// As bound, in the order of the settings.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) of_workers: Vec<Vec<Listener>>,
}

/// What each worker listens on, and each socket once more.
pub(crate) fn listeners(
    settings: &EdgeSettings,
    mut given: Vec<GivenListener>,
) -> io::Result<(Listeners, Vec<GivenListener>)> {
    let workers = settings.workers;
    let mut of_workers: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    let (mut addresses, mut copies) = (Vec::new(), Vec::new());
    for (place, (asked, serves, mut begins)) in wanted(settings).enumerate() {
        if let Some(balancers) = settings.proxied.get(place).cloned().flatten() {
            begins.proxied = Some(Arc::new(balancers));
        }
        let mut sockets = taken(&mut given, asked, serves)?;
        if sockets.is_empty() {
            sockets = bind(asked, workers)?;
        }
        if let Some(first) = sockets.first() {
            addresses.push(first.local_addr()?);
        }
        for socket in &sockets {
            copies.push(GivenListener { serves: Some(serves), asked, socket: socket.try_clone()? });
        }
        // More workers than sockets share them: a further socket of our own would get connections that are lost if this process gives up
        // before it serves.
        for worker in sockets.len()..workers {
            if let Some(shared) = sockets.get(worker % sockets.len()) {
                sockets.push(shared.try_clone()?);
            }
        }
        for (number, socket) in sockets.into_iter().enumerate() {
            if let Some(worker) = of_workers.get_mut(number % workers) {
                worker.push(Listener { socket, begins: begins.clone() });
            }
        }
    }
    Ok((Listeners { addresses, of_workers }, copies))
}

/// All addresses, in the order of the settings.
fn wanted(settings: &EdgeSettings) -> impl Iterator<Item = (SocketAddr, Serves, Begins)> {
    let plain = settings.listen.iter().map(|&address| (address, Serves::Plain, Begins::default()));
    let tls = settings.tls_listen.iter().enumerate();
    let tls =
        tls.map(|(place, &address)| (address, Serves::Tls, Begins { tls: Some(place), ..Begins::default() }));
    let check = settings.check_listen.iter().enumerate();
    let check = check.map(|(place, one)| {
        let begins = Begins { tls: one.tls, check: Some(place), ..Begins::default() };
        (one.address, Serves::Questions, begins)
    });
    let tcp = settings.tcp_listen.iter().enumerate().map(|(place, one)| {
        let proxied = one.proxied.clone().map(Arc::new);
        (one.address, Serves::Tcp, Begins { tcp: Some(place), proxied, ..Begins::default() })
    });
    plain.chain(tls).chain(check).chain(tcp)
}

/// Those of the given sockets that are for an address.
fn taken(given: &mut Vec<GivenListener>, asked: SocketAddr, serves: Serves) -> io::Result<Vec<TcpListener>> {
    let fits = |one: &mut GivenListener| one.asked == asked && one.serves.is_none_or(|said| said == serves);
    let mut sockets: Vec<TcpListener> = Vec::new();
    let mut others = Vec::new();
    for one in given.extract_if(.., fits) {
        // Of two listeners whose ports the system chose, each has its own.
        let same = match sockets.first() {
            Some(first) => first.local_addr()? == one.socket.local_addr()?,
            None => true,
        };
        if same {
            one.socket.set_nonblocking(true)?;
            sockets.push(one.socket);
        } else {
            others.push(one);
        }
    }
    given.append(&mut others);
    Ok(sockets)
}

/// Listening sockets on one address, as many as there are workers; the kernel spreads connections over them.
pub fn bind(asked: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    // Port 0 is chosen by the first worker's listener and shared by the others.
    let mut address = asked;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = listen(address)?;
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(sockets)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // IPv4 has its own listener; a mapped address would be a second name for the same client.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    // Inherited by what is accepted: the kernel takes only so much of a reply ahead of what it can send, so that a client that does
    // not read holds little memory, and its progress is seen as it makes it. Failing is harmless.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
    socket.listen(LISTEN_BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Of a reply, in the kernel, beyond what is on its way.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 128 * 1024;
/// Completed connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const LISTEN_BACKLOG: i32 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(listen: &[&str], tls: &[&str], workers: usize) -> EdgeSettings {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let mut settings = EdgeSettings::new(addresses(listen), workers, 1);
        settings.tls_listen = addresses(tls);
        settings
    }

    fn ports(listeners: &Listeners) -> Vec<Vec<(u16, bool)>> {
        let one = |l: &Listener| (l.socket.local_addr().unwrap().port(), l.begins.tls.is_some());
        listeners.of_workers.iter().map(|of| of.iter().map(one).collect()).collect()
    }

    #[test]
    fn every_given_socket_is_listened_on_whatever_the_number_of_workers() {
        let (asked, tls) = ("127.0.0.1:0", "127.0.0.1:0");
        let (before, copies) = listeners(&settings(&[asked, asked], &[tls], 3), Vec::new()).unwrap();
        assert_eq!(copies.len(), 9);
        for workers in [1, 2, 3, 5] {
            let given = copies.iter().map(|copy| copy.try_clone().unwrap()).collect();
            let (after, handed_on) = listeners(&settings(&[asked, asked], &[tls], workers), given).unwrap();
            assert_eq!(after.addresses, before.addresses, "{workers} workers");
            assert_eq!(handed_on.len(), 9, "{workers} workers");
            let all = ports(&after);
            assert!(all.iter().all(|of| of.len() >= 3), "{workers} workers: {all:?}");
            assert_eq!(all.iter().flatten().count(), 9.max(workers * 3), "{workers} workers: {all:?}");
        }
    }

    #[test]
    fn a_socket_of_the_service_manager_serves_with_tls_or_without() {
        for (plain, tls) in [(true, false), (false, true)] {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            let asked = socket.local_addr().unwrap();
            let text = asked.to_string();
            let one = [text.as_str()];
            let (listen, tls_listen) = (if plain { &one[..] } else { &[] }, if tls { &one[..] } else { &[] });
            let given = vec![GivenListener { serves: None, asked, socket }];
            let (listeners, _) = listeners(&settings(listen, tls_listen, 2), given).unwrap();
            assert_eq!(ports(&listeners), vec![vec![(asked.port(), tls)]; 2]);
        }
    }
}
