//! Between a connection's socket and the codec: counts frames by what they ask for, gives the worker's other connections their
//! turn, and lends the buffer that records are encrypted into only while something waits in it.
//!
//! It also ends a connection for what the codec lets pass, or would end it for with another code than RFC 9113 asks for: a first
//! frame that is no SETTINGS, frames whose length is not theirs, a window that is too large. What is wrong is kept from the codec.
//!
//! The codec bounds what it keeps for a client. What it does not bound is how often it is made to work for nothing: PING, SETTINGS,
//! PRIORITY, WINDOW_UPDATE, empty DATA, CONTINUATION and unknown frames cost their sender nine bytes. Each takes a token; requests and
//! what we send earn some, time a few.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::socket::Socket;
use crate::worker::Worker;

/// A connection's socket as the codec has it.
pub(super) struct Metered<'a> {
    socket: &'a mut Socket,
    worker: Rc<Worker>,
    meter: Rc<Meter>,
}

/// What one connection's frames add up to.
#[derive(Debug)]
pub(super) struct Meter {
    /// Bytes that may still be read in this turn.
    turn_bytes: Cell<usize>,
    tokens: Cell<u32>,
    tokens_max: u32,
    /// Up to when time was paid for, in the worker's time.
    paid_ms: Cell<u64>,
    fault: Cell<Option<Reason>>,
    told: Cell<bool>,
    received: RefCell<Frames>,
    sent: RefCell<Frames>,
}

impl<'a> Metered<'a> {
    pub(super) fn new(socket: &'a mut Socket, worker: &Rc<Worker>, meter: &Rc<Meter>) -> Self {
        Self { socket, worker: Rc::clone(worker), meter: Rc::clone(meter) }
    }
}

impl Meter {
    pub(super) fn new(tokens_max: u32, now_ms: u64) -> Self {
        Self {
            turn_bytes: Cell::new(TURN_BYTES),
            tokens: Cell::new(tokens_max),
            tokens_max,
            paid_ms: Cell::new(now_ms),
            fault: Cell::new(None),
            told: Cell::new(false),
            received: RefCell::new(Frames::after(super::PREFACE.len())),
            sent: RefCell::new(Frames::after(0)),
        }
    }

    /// The connection's turn begins.
    pub(super) fn begin_turn(&self, now_ms: u64) {
        self.turn_bytes.set(TURN_BYTES);
        let passed_ms = now_ms.saturating_sub(self.paid_ms.get());
        if passed_ms >= 1_000 {
            self.paid_ms.set(now_ms);
            let earned = (passed_ms / 1_000).saturating_mul(TOKENS_PER_SECOND);
            self.earn(u32::try_from(earned).unwrap_or(u32::MAX));
        }
    }

    /// Why the connection must end, the first time that this is asked after it must; a flood is told by ENHANCE_YOUR_CALM.
    pub(super) fn tells_fault(&self) -> Option<Reason> {
        self.fault.get().filter(|_| !self.told.replace(true))
    }

    fn earn(&self, tokens: u32) {
        self.tokens.set(self.tokens.get().saturating_add(tokens).min(self.tokens_max));
    }

    /// Looks at what came; returns how much of it the codec may have.
    fn received(&self, bytes: &[u8]) -> usize {
        self.turn_bytes.set(self.turn_bytes.get().saturating_sub(bytes.len()));
        self.received.borrow_mut().take(bytes, |seen| {
            self.fault.set(match seen {
                Seen::Head(head) => fault_of(head).or_else(|| self.charge(head)),
                Seen::Setting(INITIAL_WINDOW_SIZE, value) if value > WINDOW_MAX => {
                    Some(Reason::FLOW_CONTROL_ERROR)
                }
                Seen::Setting(..) => None,
            });
            self.fault.get().is_none()
        })
    }

    fn charge(&self, head: FrameHead) -> Option<Reason> {
        let cost = match head.kind {
            HEADERS => {
                self.earn(TOKENS_PER_STREAM);
                0
            }
            DATA if head.bytes > 0 || head.flags & END_STREAM != 0 => 0,
            SETTINGS => SETTINGS_COSTS,
            _ => 1,
        };
        match self.tokens.get().checked_sub(cost) {
            Some(left) => self.tokens.set(left),
            None => return Some(Reason::ENHANCE_YOUR_CALM),
        }
        None
    }

    fn sent(&self, bytes: &[u8]) {
        self.sent.borrow_mut().take(bytes, |seen| {
            if matches!(seen, Seen::Head(FrameHead { kind: DATA | HEADERS, .. })) {
                self.earn(TOKENS_PER_SENT);
            }
            true
        });
    }
}

/// Finds the heads of frames in bytes as they come.
#[derive(Debug)]
struct Frames {
    /// Bytes until the next head begins.
    skip: usize,
    head: [u8; HEAD_BYTES],
    have: usize,
    /// Of a frame of settings: those to come, and the one that is coming.
    settings: usize,
    setting: [u8; SETTING_BYTES],
    have_setting: usize,
    first: bool,
}

/// What is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Head(FrameHead),
    /// One setting: its name and value.
    Setting(u16, u32),
}

/// The head of a frame (RFC 9113 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FrameHead {
    bytes: usize,
    kind: u8,
    flags: u8,
    /// It is the first one.
    first: bool,
}

/// What is wrong with a frame by its head alone (RFC 9113 sections 3.4, 6.3 to 6.5, 6.7, 6.9).
fn fault_of(head: FrameHead) -> Option<Reason> {
    let is_ack = head.flags & ACK != 0;
    if head.first && (head.kind != SETTINGS || is_ack) {
        return Some(Reason::PROTOCOL_ERROR);
    }
    let fits = match head.kind {
        PRIORITY => head.bytes == 5,
        RST_STREAM | WINDOW_UPDATE => head.bytes == 4,
        SETTINGS if is_ack => head.bytes == 0,
        SETTINGS => head.bytes.is_multiple_of(SETTING_BYTES),
        PING => head.bytes == 8,
        _ => true,
    };
    (!fits).then_some(Reason::FRAME_SIZE_ERROR)
}

impl Frames {
    /// The first frame begins after so many bytes.
    fn after(skip: usize) -> Self {
        Self {
            skip,
            head: [0; HEAD_BYTES],
            have: 0,
            settings: 0,
            setting: [0; SETTING_BYTES],
            have_setting: 0,
            first: true,
        }
    }

    /// Shows what is in `bytes` until `see` says that it is enough; returns how many bytes come before what it did not like is whole.
    fn take(&mut self, bytes: &[u8], mut see: impl FnMut(Seen) -> bool) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..)
            && !rest.is_empty()
        {
            let (seen, used) = if self.settings > 0 {
                self.take_setting(rest)
            } else if self.skip > 0 {
                let skipped = self.skip.min(rest.len());
                self.skip -= skipped;
                (None, skipped)
            } else {
                self.take_head(rest)
            };
            at += used;
            if seen.is_some_and(|seen| !see(seen)) {
                return at - 1;
            }
        }
        bytes.len()
    }

    fn take_head(&mut self, bytes: &[u8]) -> (Option<Seen>, usize) {
        let used = fill(&mut self.head, &mut self.have, bytes);
        if self.have < HEAD_BYTES {
            return (None, used);
        }
        self.have = 0;
        let [a, b, c, kind, flags, ..] = self.head;
        let bytes = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        match kind {
            SETTINGS => self.settings = bytes / SETTING_BYTES,
            _ => self.skip = bytes,
        }
        let first = std::mem::replace(&mut self.first, false);
        (Some(Seen::Head(FrameHead { bytes, kind, flags, first })), used)
    }

    fn take_setting(&mut self, bytes: &[u8]) -> (Option<Seen>, usize) {
        let used = fill(&mut self.setting, &mut self.have_setting, bytes);
        if self.have_setting < SETTING_BYTES {
            return (None, used);
        }
        self.have_setting = 0;
        self.settings -= 1;
        let [a, b, value @ ..] = self.setting;
        (Some(Seen::Setting(u16::from_be_bytes([a, b]), u32::from_be_bytes(value))), used)
    }
}

/// Goes on to fill `to`, of which there is `have`; returns how many bytes that took.
fn fill(to: &mut [u8], have: &mut usize, bytes: &[u8]) -> usize {
    let used = (to.len() - *have).min(bytes.len());
    for (place, byte) in to.iter_mut().skip(*have).zip(bytes) {
        *place = *byte;
    }
    *have += used;
    used
}

impl AsyncRead for Metered<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.meter.fault.get().is_some() {
            // Whoever waits for the next stream ends the connection.
            return Poll::Pending;
        }
        if this.meter.turn_bytes.get() == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut *this.socket).poll_read(cx, buffer);
        let good = this.meter.received(buffer.filled().get(before..).unwrap_or_default());
        if this.meter.fault.get().is_some() {
            buffer.set_filled(before + good);
            // Nothing read would be the end of the connection.
            return if good == 0 { Poll::Pending } else { read };
        }
        read
    }
}

impl AsyncWrite for Metered<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.socket.borrow_buffer(|| this.worker.take_buffer());
        let written = Pin::new(&mut *this.socket).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &written {
            this.meter.sent(bytes.get(..*written).unwrap_or_default());
        }
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.socket.borrow_buffer(|| this.worker.take_buffer());
        let written = Pin::new(&mut *this.socket).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(written)) = &written {
            let mut left = *written;
            for slice in slices {
                let bytes = slice.get(..left.min(slice.len())).unwrap_or_default();
                this.meter.sent(bytes);
                left -= bytes.len();
            }
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = AsyncWrite::poll_flush(Pin::new(&mut *this.socket), cx);
        if flushed.is_ready() {
            this.worker.give_buffer(this.socket.return_buffer());
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut *self.get_mut().socket), cx)
    }
}

const HEAD_BYTES: usize = 9;
const SETTING_BYTES: usize = 6;
// Kinds of frames (RFC 9113 section 6), flags and settings.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// Most bytes that the codec gets in one turn: some 0.3 ms of the smallest frames.
const TURN_BYTES: usize = 32 * 1024;
/// Keeping a connection alive and measuring it takes a few a second.
const TOKENS_PER_SECOND: u64 = 100;
/// A stream may bring its priority, its window and its end.
const TOKENS_PER_STREAM: u32 = 4;
/// Clients give both windows back for what they get, some for each frame of it.
const TOKENS_PER_SENT: u32 = 4;
/// Each is looked through for what it changes on all streams, and answered.
const SETTINGS_COSTS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD_BYTES + payload, 0xff);
        frame
    }

    #[test]
    fn heads_and_settings_are_found_however_bytes_are_cut() {
        let stream = [
            frame(SETTINGS, 0, 12),
            frame(HEADERS, 5, 20),
            frame(PING, 0, 8),
            frame(DATA, 1, 0),
            frame(DATA, 0, 70_000),
        ];
        for step in [1, 2, 7, 9, 64, 100_000] {
            let mut frames = Frames::after(3);
            let (mut heads, mut settings) = (Vec::new(), 0);
            for bytes in [b"PRI".as_slice(), &stream.concat()].concat().chunks(step) {
                let passed = frames.take(bytes, |seen| {
                    match seen {
                        Seen::Head(head) => heads.push((head.kind, head.flags, head.bytes)),
                        Seen::Setting(name, value) => {
                            assert_eq!((name, value), (u16::MAX, u32::MAX));
                            settings += 1;
                        }
                    }
                    true
                });
                assert_eq!(passed, bytes.len());
            }
            assert_eq!(
                heads,
                [(4, 0, 12), (1, 5, 20), (6, 0, 8), (0, 1, 0), (0, 0, 70_000)],
                "{step} at a time"
            );
            assert_eq!(settings, 2);
        }
    }

    fn faulty_after(meter: &Meter, frame: &[u8], most: usize) -> Option<usize> {
        (0..most).find(|_| {
            meter.received(frame);
            meter.fault.get().is_some()
        })
    }

    fn meter() -> Meter {
        let meter = Meter::new(100, 0);
        meter.received(super::super::PREFACE);
        meter.received(&frame(SETTINGS, 0, 0));
        meter.earn(4);
        meter
    }

    #[test]
    fn frames_that_move_nothing_on_are_numbered_and_others_are_not() {
        for (kind, flags, payload, after) in [
            (DATA, 0, 100, None),
            (DATA, END_STREAM, 0, None),
            (DATA, 0, 0, Some(100)),
            (HEADERS, 5, 30, None),
            (PRIORITY, 0, 5, Some(100)),
            (SETTINGS, 0, 0, Some(25)),
            (PING, 0, 8, Some(100)),
            (WINDOW_UPDATE, 0, 4, Some(100)),
            (9, 0, 10, Some(100)),
            (0xbb, 0, 0, Some(100)),
        ] {
            let meter = meter();
            assert_eq!(
                faulty_after(&meter, &frame(kind, flags, payload), 10_000),
                after,
                "frames of kind {kind}"
            );
            assert_eq!(meter.tells_fault(), after.map(|_| Reason::ENHANCE_YOUR_CALM));
            assert_eq!(meter.tells_fault(), None, "once");
        }
    }

    #[test]
    fn what_is_wrong_by_its_head_ends_the_connection_and_is_kept_from_the_codec() {
        let mut large_window = frame(SETTINGS, 0, 6);
        large_window[HEAD_BYTES..].copy_from_slice(&[0, 4, 0x80, 0, 0, 0]);
        for (bytes, passed, reason) in [
            (frame(PING, 0, 4), 8, Reason::FRAME_SIZE_ERROR),
            (frame(SETTINGS, 0, 5), 8, Reason::FRAME_SIZE_ERROR),
            (frame(SETTINGS, ACK, 6), 8, Reason::FRAME_SIZE_ERROR),
            (frame(RST_STREAM, 0, 3), 8, Reason::FRAME_SIZE_ERROR),
            (frame(PRIORITY, 0, 6), 8, Reason::FRAME_SIZE_ERROR),
            (frame(WINDOW_UPDATE, 0, 5), 8, Reason::FRAME_SIZE_ERROR),
            (large_window, 14, Reason::FLOW_CONTROL_ERROR),
        ] {
            let meter = meter();
            let good = frame(PING, 0, 8);
            assert_eq!(meter.received(&[good.as_slice(), &bytes].concat()), good.len() + passed);
            assert_eq!(meter.tells_fault(), Some(reason));
        }
        for first in [frame(PING, 0, 8), frame(HEADERS, 5, 3), frame(SETTINGS, ACK, 0)] {
            let meter = Meter::new(100, 0);
            meter.received(super::super::PREFACE);
            meter.received(&first);
            assert_eq!(meter.tells_fault(), Some(Reason::PROTOCOL_ERROR));
        }
    }

    #[test]
    fn what_is_sent_and_time_pay_for_more() {
        let (update, data) = (frame(WINDOW_UPDATE, 0, 4), frame(DATA, 0, 1_000));
        let busy = meter();
        for _ in 0..10_000 {
            busy.sent(&data);
            for _ in 0..4 {
                busy.received(&update);
            }
        }
        assert_eq!(busy.tells_fault(), None);
        let meter = meter();
        assert_eq!(faulty_after(&meter, &update, 99), None);
        meter.begin_turn(500);
        assert_eq!(meter.tokens.get(), 1);
        meter.begin_turn(1_000_000);
        assert_eq!(meter.tokens.get(), 100);
    }
}
