//! The node's own attacks on itself: a connection that it made itself, as a visitor makes one, goes through all stages that judge a
//! request, and then to no upstream.
//!
//! Flow in names: [`SelfTest::greeting`] -> a connection to an own listener, whose first request is [`asks`] -> [`begin`] knows the
//! greeting and marks the connection -> its requests are judged by framing, host and rules, and are refused like any visitor's, or end
//! in [`pass`], where an upstream would be asked.
//!
//! INVARIANT: nothing on a marked connection reaches an upstream, makes a strike, is counted, recorded, learned from or remembered by rules; and a connection
//! is marked by a greeting that this process made for it, by its address and port, once. Whoever gets hold of a greeting has nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use phalanx_model::{Action, Reason, RequestHead};
use phalanx_trust::random_bytes;

use crate::client::Client;
use crate::http1::encode;
use crate::request::Request;
use crate::stop::Stop;
use phalanx_decide::Mode;

/// What makes greetings and knows them again. The key is this process's: another one on the same sockets, before or after it, does not
/// know them, and answers as it answers everybody.
#[derive(Debug)]
pub struct SelfTest {
    key: hmac::Key,
    /// Greetings that were not used yet, and from where they come; a few.
    open: Mutex<Vec<(Nonce, SocketAddr, Instant)>>,
}

type Nonce = [u8; 16];

/// What a connection of the node's own begins with.
#[derive(Debug)]
pub struct Greeting {
    /// The path that it asks for first.
    pub path: String,
    /// What [`FIELD`] of the answer says if it is this process that answers.
    pub answer: String,
}

impl Default for SelfTest {
    fn default() -> Self {
        let secret: [u8; 32] = random_bytes();
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), open: Mutex::default() }
    }
}

impl SelfTest {
    /// A greeting for the connection from this address and port, soon.
    pub fn greeting(&self, from: SocketAddr) -> Greeting {
        let nonce: Nonce = random_bytes();
        let mut open = self.open.lock();
        let now = Instant::now();
        open.retain(|(.., until)| *until > now);
        if open.len() >= OPEN_MAX {
            open.remove(0);
        }
        open.push((nonce, canonical(from), now + OPEN_FOR));
        let token = HEXLOWER.encode(&nonce) + &HEXLOWER.encode(self.tag(ASKS, &nonce).as_ref());
        let place = String::from_utf8_lossy(PLACE);
        Greeting { path: format!("{place}{token}"), answer: self.answer(&nonce) }
    }

    fn answer(&self, nonce: &Nonce) -> String {
        HEXLOWER.encode(self.tag(ANSWERS, nonce).as_ref())
    }

    fn tag(&self, purpose: u8, nonce: &Nonce) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&[purpose]);
        context.update(nonce);
        context.sign()
    }

    /// What a greeting is answered with; `None` for one that is not of this process, was used, is too old or comes from elsewhere. Compares
    /// in constant time.
    fn spend(&self, token: &[u8], peer: SocketAddr) -> Option<String> {
        let token = HEXLOWER.decode(token).ok()?;
        let (nonce, tag) = token.split_first_chunk::<16>()?;
        let mut signed = vec![ASKS];
        signed.extend_from_slice(nonce);
        hmac::verify(&self.key, &signed, tag).ok()?;
        let mut open = self.open.lock();
        let of_peer =
            |(known, from, _): &(Nonce, SocketAddr, Instant)| known == nonce && *from == canonical(peer);
        let place = open.iter().position(of_peer)?;
        let (.., until) = open.swap_remove(place);
        (until > Instant::now()).then(|| self.answer(nonce))
    }
}

/// Whether a request is for the place where greetings are known.
pub(crate) fn asks(head: &RequestHead) -> bool {
    head.target().starts_with(PLACE)
}

/// Marks the connection, if that is the node's own greeting; false if the request is like any other.
pub(crate) async fn begin(client: &mut Client, request: &mut Request) -> Result<bool, Stop> {
    let head = &request.head;
    if client.socket.is_stream() || !head.faults.is_empty() {
        return Ok(false);
    }
    let token = head.target().strip_prefix(PLACE).unwrap_or_default();
    let Some(answer) = client.worker.shared.tables.self_test.spend(token, client.peer) else {
        return Ok(false);
    };
    client.tests_itself = true;
    client.begin_body(request.head.framing);
    write(client, request, answer.as_bytes()).await?;
    Ok(true)
}

/// Ends a request that was judged and not refused, where any other goes on to its route and an upstream.
pub(crate) async fn pass(client: &mut Client, request: &mut Request) -> Result<(), Stop> {
    // What a rule would have done that may not, only the end of inspection tells.
    let found = request.inspection.finish_without_trace(&client.worker, STATUS);
    let app = request.app();
    let observed = app.mode == Mode::Observe
        || found.would_refuse.is_some()
        || request.verdict.action == Action::Observe
            && !matches!(request.verdict.reason, Reason::Failure { .. });
    let says = match (&app.program, observed) {
        (None, _) => UNINSPECTED,
        (Some(_), true) => OBSERVED,
        (Some(_), false) => PASSED,
    };
    write(client, request, says.as_bytes()).await
}

/// Forgets a request of the node's own: nothing of it is counted, recorded or learned from.
pub(crate) fn forget(client: &Client, request: &mut Request) {
    // The transaction's memory is the worker's.
    let _ = request.inspection.finish_without_trace(&client.worker, request.status);
}

/// An address as both ends of a connection write it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

async fn write(client: &mut Client, request: &mut Request, says: &[u8]) -> Result<(), Stop> {
    let close = !request.keep_alive || !client.body.is_done();
    request.keep_alive = !close;
    let out = client.output();
    let before = out.len();
    encode::status_line(out, STATUS, b"");
    encode::field(out, FIELD.as_bytes(), says);
    encode::field(out, b"Cache-Control", b"no-store");
    if close {
        encode::field(out, b"Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    request.status = STATUS;
    request.replied = true;
    let sent = client.socket.head_written(before, true);
    client.socket.end_written(Vec::new());
    sent.map_err(|_| Stop::ClientGone)?;
    client.flush().await
}

/// The field of an answer that says what became of a request.
pub const FIELD: &str = "Phalanx-Selftest";
/// It met no refusal.
pub const PASSED: &str = "passed";
/// What there was against it is only observed.
pub const OBSERVED: &str = "observed";
/// The app has no rules.
pub const UNINSPECTED: &str = "uninspected";

/// The status of every answer that is no refusal: no application of the node's could have sent it with that field.
const STATUS: u16 = 204;
/// Nothing below `/.phalanx/` is an application's, so that what another process makes of a greeting goes to no upstream.
const PLACE: &[u8] = b"/.phalanx/selftest/";
/// Greetings that may be out at once.
const OPEN_MAX: usize = 64;
/// How long one may be used.
const OPEN_FOR: Duration = Duration::from_secs(10);
/// What a tag is for.
const ASKS: u8 = 1;
const ANSWERS: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn from() -> SocketAddr {
        "127.0.0.1:40000".parse().unwrap()
    }

    fn token(greeting: &Greeting) -> &[u8] {
        greeting.path.as_bytes().strip_prefix(PLACE).unwrap()
    }

    #[test]
    fn a_greeting_is_known_once_and_by_who_made_it() {
        let (one, other) = (SelfTest::default(), SelfTest::default());
        let greeting = one.greeting(from());
        assert_eq!(other.spend(token(&greeting), from()), None);
        assert_eq!(one.spend(token(&greeting), from()).as_ref(), Some(&greeting.answer));
        assert_eq!(one.spend(token(&greeting), from()), None, "replayed");
    }

    #[test]
    fn what_is_made_up_is_no_greeting() {
        let test = SelfTest::default();
        let greeting = test.greeting(from());
        let good = token(&greeting).to_vec();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let upper = good.to_ascii_uppercase();
        for bad in
            [&b""[..], b"00", b"zz", &good[..95], &flipped, &upper, &[b'0'; 96], &[&good[..], b"00"].concat()]
        {
            assert_eq!(test.spend(bad, from()), None);
        }
        // The answer to one greeting is no other greeting.
        let (nonce, _) = good.split_at(32);
        let echoed = [nonce, greeting.answer.as_bytes()].concat();
        assert_eq!(test.spend(&echoed, from()), None);
        assert!(test.spend(&good, from()).is_some(), "tries of others use nothing up");
    }

    #[test]
    fn few_greetings_are_out_at_once() {
        let test = SelfTest::default();
        let first = test.greeting(from());
        (0..OPEN_MAX).for_each(|_| drop(test.greeting(from())));
        assert_eq!(test.open.lock().len(), OPEN_MAX);
        assert_eq!(test.spend(token(&first), from()), None, "the oldest made room");
    }

    #[test]
    fn a_greeting_is_for_one_connection() {
        let test = SelfTest::default();
        let greeting = test.greeting(from());
        for elsewhere in ["127.0.0.1:40001", "127.0.0.2:40000", "192.0.2.7:40000", "[::1]:40000"] {
            assert_eq!(test.spend(token(&greeting), elsewhere.parse().unwrap()), None, "{elsewhere}");
        }
        // A listener for both families writes addresses in the longer form.
        assert!(test.spend(token(&greeting), "[::ffff:127.0.0.1]:40000".parse().unwrap()).is_some());
    }
}
