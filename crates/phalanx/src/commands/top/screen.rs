//! A terminal that is drawn on whole: without line editing and echo, on its other screen. It is as before once this is dropped, also where
//! a panic does.

use std::io::{self, IsTerminal, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use rustix::stdio::{stdin, stdout};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal that is ours for a while.
pub(super) struct Screen {
    before: Termios,
    typed: Receiver<Key>,
}

/// What was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// `q`, Ctrl-C, Ctrl-D, or the input is over.
    Quit,
    Other,
}

impl Screen {
    /// Takes the terminal; `None` if there is none.
    pub(super) fn open() -> anyhow::Result<Option<Self>> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        // Ctrl-C comes as a key, so that nothing ends before the terminal is as it was.
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        let screen = Self { before, typed: keys()? };
        write(&format!("{ENTER}{HIDE}"))?;
        Ok(Some(screen))
    }

    /// Draws what is made for the terminal's size, as it is now.
    pub(super) fn draw(&self, make: impl FnOnce((usize, usize)) -> Vec<String>) -> anyhow::Result<()> {
        let size = tcgetwinsize(stdout())?;
        let (width, height) = match (size.ws_col, size.ws_row) {
            (0, _) | (_, 0) => (80, 24),
            (width, height) => (usize::from(width), usize::from(height)),
        };
        let mut frame = HOME.to_owned();
        for (place, line) in make((width, height)).iter().take(height).enumerate() {
            if place > 0 {
                // The terminal adds what leads back to the line's beginning.
                frame.push('\n');
            }
            frame.push_str(line);
            frame.push_str(REST_OF_LINE);
        }
        frame.push_str(REST_OF_SCREEN);
        write(&frame)?;
        Ok(())
    }

    /// Waits for a key, for so long; `None`: none came.
    pub(super) fn key(&self, time: Duration) -> Option<Key> {
        match self.typed.recv_timeout(time) {
            Ok(key) => Some(key),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Key::Quit),
        }
    }
}

/// Keys as they are typed, until the input is over. The thread waits for one that may never come, and ends with the process.
fn keys() -> io::Result<Receiver<Key>> {
    let (sender, receiver) = sync_channel(16);
    std::thread::Builder::new().name("phalanx-keys".into()).spawn(move || {
        let mut input = io::stdin().lock();
        let mut typed = [0; 1];
        while matches!(input.read(&mut typed), Ok(1)) {
            let key = if typed.iter().any(|byte| QUITS.contains(byte)) { Key::Quit } else { Key::Other };
            if sender.send(key).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

impl Drop for Screen {
    fn drop(&mut self) {
        // What cannot be undone now can be by nobody here.
        let _ = write(&format!("{SHOW}{LEAVE}"));
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// `q`, Ctrl-C and Ctrl-D.
const QUITS: &[u8] = b"qQ\x03\x04";
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const HIDE: &str = "\x1b[?25l";
const SHOW: &str = "\x1b[?25h";
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";
