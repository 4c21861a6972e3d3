//! Events as messages of syslog (RFC 5424), to a receiver on this machine or another.
//!
//! Over TCP each message has its length before it (RFC 6587, octet counting). What was handed to the kernel before the other side closed is
//! lost without a word, as always with syslog over plain TCP. There is no byte order mark before the text: readers of JSON refuse it.

use std::io::{self, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::courier::Delivered;
use crate::ocsf::Line;
use crate::time::rfc3339;

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogTo {
    /// `HOST:PORT`, a message in each datagram.
    Udp(String),
    /// `HOST:PORT`, in the clear.
    Tcp(String),
    /// A socket of this machine, as `/dev/log`.
    Unix(PathBuf),
}

/// Sends messages over a connection that it opens on first use, and again after a failure.
#[derive(Debug)]
pub(crate) struct Syslog {
    to: SyslogTo,
    host: String,
    connection: Option<Connection>,
}

#[derive(Debug)]
enum Connection {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Unix(UnixDatagram),
}

impl Syslog {
    pub(crate) fn new(to: SyslogTo, node: &str) -> Self {
        Self { to, host: header_word(node, 255), connection: None }
    }

    /// Sends each line; one that fails is tried once more over a new connection.
    pub(crate) fn deliver(&mut self, batch: &[Arc<Line>]) -> Delivered {
        let mut done = Delivered { lost: 0, error: None };
        for (place, line) in batch.iter().enumerate() {
            let message = message(&self.host, std::process::id(), line);
            let Err(error) = self.send(&message).or_else(|_| self.send(&message)) else { continue };
            let too_long = message.len() > DATAGRAM_BYTES_MAX && !matches!(self.to, SyslogTo::Tcp(_));
            done.error = Some(error);
            if too_long {
                done.lost += 1;
                continue;
            }
            // Nobody is there: the rest would only wait as long each.
            done.lost += batch.len() - place;
            break;
        }
        done
    }

    fn send(&mut self, message: &str) -> io::Result<()> {
        let sent = self.try_send(message);
        if sent.is_err() {
            self.connection = None;
        }
        sent
    }

    fn try_send(&mut self, message: &str) -> io::Result<()> {
        if self.connection.is_none() {
            self.connection = Some(Connection::open(&self.to)?);
        }
        match &mut self.connection {
            Some(Connection::Udp(socket)) => socket.send(message.as_bytes()).map(drop),
            Some(Connection::Unix(socket)) => socket.send(message.as_bytes()).map(drop),
            Some(Connection::Tcp(stream)) => {
                stream.write_all(format!("{} {message}", message.len()).as_bytes())
            }
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Connection {
    fn open(to: &SyslogTo) -> io::Result<Self> {
        match to {
            SyslogTo::Udp(to) => {
                let to = resolve(to)?;
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any)?;
                socket.connect(to)?;
                socket.set_write_timeout(Some(SEND_MAX))?;
                Ok(Self::Udp(socket))
            }
            SyslogTo::Tcp(to) => {
                let stream = TcpStream::connect_timeout(&resolve(to)?, SEND_MAX)?;
                stream.set_write_timeout(Some(SEND_MAX))?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            SyslogTo::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(Some(SEND_MAX))?;
                Ok(Self::Unix(socket))
            }
        }
    }
}

fn resolve(to: &str) -> io::Result<std::net::SocketAddr> {
    to.to_socket_addrs()?.next().ok_or_else(|| io::Error::other(format!("`{to}` has no address")))
}

/// `<PRI>1 TIME HOST phalanx PID CLASS - JSON`.
pub(crate) fn message(host: &str, pid: u32, line: &Line) -> String {
    let priority = FACILITY * 8 + severity(line.severity);
    let (time, class) = (rfc3339(line.at_ms), line.class.label());
    format!("<{priority}>1 {time} {host} phalanx {pid} {class} - {}", line.json)
}

/// Printable ASCII without spaces, as words of the header have to be; `-` where nothing is left.
fn header_word(text: &str, bytes_max: usize) -> String {
    let word: String = text.chars().filter(char::is_ascii_graphic).take(bytes_max).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

/// Syslog's severity of an OCSF `severity_id`.
fn severity(ocsf: u8) -> u8 {
    match ocsf {
        2 => 5,
        3 => 4,
        4 => 3,
        5 => 2,
        6 => 1,
        _ => 6,
    }
}

/// `local0`: receivers keep it apart without being told.
const FACILITY: u8 = 16;
/// What UDP over IPv4 carries.
const DATAGRAM_BYTES_MAX: usize = 65_507;
const SEND_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocsf::Class;
    use std::io::Read as _;
    use std::net::TcpListener;

    fn line(json: &str) -> Arc<Line> {
        Arc::new(Line {
            class: Class::HttpActivity,
            at_ms: 1_785_585_599_007,
            severity: 3,
            trace: None,
            json: json.into(),
        })
    }

    #[test]
    fn a_message_has_the_form_of_rfc_5424() {
        let expected = "<132>1 2026-08-01T11:59:59.007Z edge-1 phalanx 7 http_activity - {\"a\":1}";
        assert_eq!(message("edge-1", 7, &line("{\"a\":1}")), expected);
        assert_eq!(header_word("ka\u{df}e \n1", 255), "kae1");
        assert_eq!(header_word("\u{df}", 255), "-");
        assert_eq!(header_word(&"n".repeat(300), 255).len(), 255);
    }

    #[test]
    fn each_datagram_is_a_message_and_one_that_is_too_long_is_lost_alone() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut syslog = Syslog::new(SyslogTo::Udp(receiver.local_addr().unwrap().to_string()), "a");
        let done = syslog.deliver(&[line("1"), line(&"x".repeat(70_000)), line("2")]);
        assert_eq!(done.lost, 1);
        let mut buffer = [0; 256];
        for expected in ["1", "2"] {
            let length = receiver.recv(&mut buffer).unwrap();
            assert!(buffer[..length].ends_with(format!(" - {expected}").as_bytes()));
        }
    }

    #[test]
    fn over_tcp_messages_are_counted_and_a_lost_connection_is_opened_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let mut syslog = Syslog::new(SyslogTo::Tcp(to.to_string()), "a");
        assert_eq!(syslog.deliver(&[line("1"), line("22")]).lost, 0);
        let (stream, _) = listener.accept().unwrap();
        syslog.connection = None;
        let mut text = String::new();
        { stream }.read_to_string(&mut text).unwrap();
        let (first, rest) = text.split_once(' ').unwrap();
        let (first, rest) = rest.split_at(first.parse().unwrap());
        assert!(first.ends_with(" - 1") && rest.ends_with(" - 22"), "{text}");
        assert_eq!(syslog.deliver(&[line("3")]).lost, 0);
        drop(listener);
        syslog.connection = None;
        let done = syslog.deliver(&[line("4"), line("5")]);
        assert!(done.lost == 2 && done.error.is_some());
    }
}
