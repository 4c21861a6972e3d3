//! `phalanx top`, printed and in a terminal.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::*;

/// Runs a program on a terminal of 80 by 24, makes that smaller, and leaves with `q`: each screen must fit, and the terminal be as before.
const ON_A_TERMINAL: &str = r#"
import fcntl, os, pty, re, select, signal, struct, sys, termios, time

def size(columns, rows):
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

ours, theirs = os.openpty()
size(80, 24)
before = termios.tcgetattr(theirs)
child = os.fork()
if child == 0:
    os.setsid()
    fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
    for end in range(3):
        os.dup2(theirs, end)
    os.execv(sys.argv[1], sys.argv[1:])

seen = b""
end = time.monotonic() + 20

def screen(columns, rows, word):
    """Waits for a whole screen that has the word, and checks its size."""
    global seen
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.1)[0]:
            seen += os.read(ours, 65536)
        for drawn in re.findall(rb"\x1b\[H(.*?)\x1b\[J", seen, re.S):
            lines = [re.sub("\x1b\\[K", "", line) for line in drawn.decode().split("\r\n")]
            if any(word in line for line in lines) and len(lines) <= rows and all(len(line) <= columns for line in lines):
                return lines
    sys.exit("no screen of %s by %s with %s: %r" % (columns, rows, word, seen[-2000:]))

lines = screen(80, 24, "ATTACKS")
assert any("GET /?" in line for line in lines), lines
assert not any("\x1b" in line for line in lines), lines
seen = b""
size(40, 10)
lines = screen(40, 10, "requests")
os.write(ours, b"q")
_, status = os.waitpid(child, 0)
while select.select([ours], [], [], 0)[0]:
    seen += os.read(ours, 65536)
assert status == 0, status
assert seen.endswith(b"\x1b[?25h\x1b[?1049l"), seen[-60:]
assert termios.tcgetattr(theirs) == before, "the terminal is not as before"
"#;

#[test]
fn top_fits_its_terminal_and_leaves_it_as_it_was() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    assert_eq!(node.get("/?file=..%2F..%2F..%2F..%2Fetc%2Fpasswd&a=\u{1b}[2J").status, 400);
    assert_eq!(node.get("/?file=..%2F..%2F..%2F..%2Fetc%2Fpasswd").status, 403);
    until("it is recorded", || node.cli_json(&["events"]).as_array().unwrap().len() == 2);
    let binary = binary();
    let run = Command::new("python3")
        .args(["-c", ON_A_TERMINAL, &binary, "top", "--state"])
        .arg(&node.state)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn without_a_terminal_a_sample_is_printed() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let printed = String::from_utf8(node.cli(&["top"]).stdout).unwrap();
    for word in ["requests ", "/s", "APPS", "ATTACKS", "DECISIONS", "nothing was refused"] {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    let sample: Value = node.cli_json(&["top", "--once"]);
    assert_eq!((&sample["status"]["ready"], &sample["refused_per_second"]), (&true.into(), &0.0.into()));
    // No node: said once, in words.
    let gone = phalanx(&["top", "--state", "/nonexistent"]).stdin(Stdio::null()).output().unwrap();
    assert!(!gone.status.success() && String::from_utf8_lossy(&gone.stderr).contains("no node answers"));
}
