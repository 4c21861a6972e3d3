//! The way to a server, looked for all the time while there is no link, so that it is used the moment it works again.
//!
//! A client that connects, waits in silence, and pauses longer after each failure is back seconds after the network is: a packet that was
//! dropped is sent again a second later, and it gives up after three. So tries start over and over beside each other, until one hears a
//! server's greeting; then the client connects. What it fails at itself, such as a login that is refused, still costs it
//! longer and longer pauses.

use std::net::SocketAddr;
use std::time::Duration;

use async_nats::{ReconnectToServer, Server, ServerAddr};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Heard;

/// Resolves when one of the servers greets. `to`: who hears of the connection; nobody looks for a way once nobody does.
pub(super) async fn find(servers: Vec<Server>, to: mpsc::Sender<Heard>) -> Option<ReconnectToServer> {
    let failed = |server: &Server| server.failed_attempts;
    let least = servers.iter().map(failed).min()?;
    // Over a websocket the client speaks first.
    if servers.iter().any(|server| server.addr.is_websocket()) {
        return None;
    }
    let mut tries = JoinSet::new();
    let mut turns = tokio::time::interval(TRY_EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut turn = 0;
    loop {
        tokio::select! {
            _ = turns.tick() => {
                if to.is_closed() {
                    return std::future::pending().await;
                }
                // A server that greets and then refuses is tried later than the others by a turn for each time.
                let due = servers.iter().filter(|server| failed(server) - least <= turn);
                for server in due.take(SERVERS_MAX) {
                    tries.spawn(greets(server.addr.clone()));
                }
                turn = turn.saturating_add(1);
            }
            Some(tried) = tries.join_next() => {
                if let Ok(Some(addr)) = tried {
                    return Some(ReconnectToServer { addr, delay: None });
                }
            }
        }
    }
}

/// The server, if it greets in time at one of its addresses.
async fn greets(server: ServerAddr) -> Option<ServerAddr> {
    let greeted = async {
        let Ok(addresses) = server.socket_addrs().await else { return false };
        let mut tries: FuturesUnordered<_> = addresses.map(is_greeted).collect();
        while let Some(greeted) = tries.next().await {
            if greeted {
                return true;
            }
        }
        false
    };
    let greeted = tokio::time::timeout(TRY_FOR, greeted).await.unwrap_or(false);
    greeted.then_some(server)
}

async fn is_greeted(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let mut first = [0; GREETING.len()];
    stream.read_exact(&mut first).await.is_ok() && first == *GREETING
}

/// What a NATS server says first, before TLS.
const GREETING: &[u8; 5] = b"INFO ";
/// Four packets a second to each server that cannot be reached: seen soon enough, and nothing to whoever carries them.
const TRY_EVERY: Duration = Duration::from_millis(250);
/// Enough for a way of half a second there and back.
const TRY_FOR: Duration = Duration::from_secs(2);
/// Servers tried at a time: a site has three.
const SERVERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use futures_util::FutureExt;

    use super::*;

    fn server(address: SocketAddr, failed_attempts: usize) -> Server {
        Server {
            addr: format!("nats://{address}").parse().unwrap(),
            failed_attempts,
            did_connect: false,
            is_discovered: false,
            last_error: None,
        }
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Says this to whoever connects, and then holds the connection.
    fn says(listener: TcpListener, first: &'static [u8]) {
        std::thread::spawn(move || {
            let mut open: Vec<TcpStream> = Vec::new();
            for mut stream in listener.incoming().flatten() {
                stream.write_all(first).unwrap();
                open.push(stream);
            }
        });
    }

    async fn found(servers: Vec<Server>) -> String {
        let (to, _hears) = mpsc::channel(1);
        let found = tokio::time::timeout(Duration::from_secs(20), find(servers, to)).await;
        let addr = found.unwrap().unwrap().addr;
        format!("{}:{}", addr.host(), addr.port())
    }

    #[tokio::test]
    async fn the_server_that_greets_is_found_beside_those_that_are_silent_gone_or_something_else() {
        let [silent, other, nats, gone] = [(); 4].map(|()| listener());
        says(silent.0, b"");
        says(other.0, b"HTTP/1.1 400 Bad Request\r\n");
        says(nats.0, b"INFO {}\r\n");
        drop(gone.0);
        let servers = [silent.1, other.1, gone.1, nats.1].map(|address| server(address, 0));
        assert_eq!(found(servers.into()).await, nats.1.to_string());
    }

    #[tokio::test]
    async fn a_server_that_greets_and_then_refuses_gives_way_to_the_others() {
        let [refuses, accepts] = [(); 2].map(|()| listener());
        let addresses = [refuses.1, accepts.1];
        says(refuses.0, GREETING);
        says(accepts.0, GREETING);
        assert_eq!(
            found(vec![server(addresses[0], 3), server(addresses[1], 1)]).await,
            addresses[1].to_string()
        );
        assert_eq!(found(vec![server(addresses[0], 3)]).await, addresses[0].to_string(), "alone it is tried");
    }

    #[tokio::test]
    async fn a_server_that_comes_back_is_found() {
        let (before, address) = listener();
        drop(before);
        let coming_back = async {
            // Refused once at least.
            tokio::task::yield_now().await;
            says(TcpListener::bind(address).unwrap(), GREETING);
        };
        let (found, ()) = tokio::join!(found(vec![server(address, 0)]), coming_back);
        assert_eq!(found, address.to_string());
    }

    #[tokio::test]
    async fn nobody_looks_for_a_way_when_nobody_waits_for_the_link() {
        let (listener, address) = listener();
        listener.set_nonblocking(true).unwrap();
        let (to, hears) = mpsc::channel(1);
        drop(hears);
        assert!(find(vec![server(address, 0)], to).now_or_never().is_none());
        assert!(listener.accept().is_err(), "and nothing was tried");
    }

    #[tokio::test]
    async fn where_the_client_speaks_first_it_connects_by_itself() {
        let (to, _hears) = mpsc::channel(1);
        let websocket =
            Server { addr: "ws://127.0.0.1:1".parse().unwrap(), ..server("127.0.0.1:1".parse().unwrap(), 0) };
        assert!(find(vec![websocket], to).await.is_none());
    }
}
