//! What the settings say of limits towards clients, and what the machine says of those it has.

use std::ops::RangeInclusive;

use phalanx_decide::rate::Pace;
use phalanx_edge::EdgeLimits;
use phalanx_model::limits::{MEMORY_SHARE_PERCENT, TLS_HANDSHAKES_BURST, TLS_HANDSHAKES_PER_SECOND};
use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
use phalanx_policy::units::{duration_ms, size_bytes};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use schemars::JsonSchema;
use serde::Deserialize;

/// Checks what was written; what was not has its default.
pub(crate) fn check(text: &Text<'_>, raw: &RawLimits, faults: &mut Vec<Diagnostic>) -> EdgeLimits {
    let mut limits = EdgeLimits::default();
    let mut reader = Reader { text, faults };
    let large = 1..=1_000_000;
    reader.count("connections", &raw.connections, 16..=1_000_000, &mut limits.connections);
    reader.count(
        "connections_per_address",
        &raw.connections_per_address,
        large.clone(),
        &mut limits.connections_per_actor,
    );
    reader.count("handshakes", &raw.handshakes, large.clone(), &mut limits.handshakes);
    reader.count(
        "handshakes_per_address",
        &raw.handshakes_per_address,
        large.clone(),
        &mut limits.handshakes_per_actor,
    );
    let defaults = (TLS_HANDSHAKES_PER_SECOND as usize, TLS_HANDSHAKES_BURST as usize);
    let (mut rate, mut burst) = defaults;
    reader.count("handshake_rate", &raw.handshake_rate, large.clone(), &mut rate);
    reader.count("handshake_burst", &raw.handshake_burst, large.clone(), &mut burst);
    let [rate, burst] = [rate, burst].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    limits.handshake_pace = Pace::new(rate, 1_000, burst);
    reader.count("head_fields", &raw.head_fields, 16..=256, &mut limits.head.fields);
    reader.number(
        "requests_per_connection",
        &raw.requests_per_connection,
        &mut limits.requests_per_connection,
    );
    let mut streams = limits.h2_streams as usize;
    reader.count("h2_streams", &raw.h2_streams, 1..=1_000, &mut streams);
    limits.h2_streams = u32::try_from(streams).unwrap_or(limits.h2_streams);
    reader.number("h2_resets", &raw.h2_resets, &mut limits.h2_given_up);
    let mut frames = limits.h2_control_frames as usize;
    reader.count("h2_control_frames", &raw.h2_control_frames, 50..=1_000_000, &mut frames);
    limits.h2_control_frames = u32::try_from(frames).unwrap_or(limits.h2_control_frames);

    let times = [
        ("handshake_time", &raw.handshake_time, &mut limits.handshake_ms),
        ("head_time", &raw.head_time, &mut limits.head_ms),
        ("idle_time", &raw.idle_time, &mut limits.idle_ms),
        ("body_pause", &raw.body_pause, &mut limits.body_gap_ms),
        ("reply_pause", &raw.reply_pause, &mut limits.write_gap_ms),
        ("tunnel_idle_time", &raw.tunnel_idle_time, &mut limits.tunnel_idle_ms),
    ];
    for (name, written, to) in times {
        reader.time(name, written, to);
    }
    reader.rate("body_rate", &raw.body_rate, &mut limits.body_rate);
    reader.rate("reply_rate", &raw.reply_rate, &mut limits.write_rate);
    reader.size("head_size", &raw.head_size, HEAD_BYTES, &mut limits.head.bytes);
    reader.size("held", &raw.held, HELD_BYTES, &mut limits.held_bytes);
    reader.size("held_per_address", &raw.held_per_address, HELD_BYTES, &mut limits.held_bytes_per_actor);
    let mut memory = 0;
    reader.size("memory", &raw.memory, MEMORY_BYTES, &mut memory);
    limits.memory_bytes = memory as u64;
    limits
}

/// Fills in what the machine has: files that the process may open, all that it may have, and its memory.
pub(crate) fn within_machine(limits: &EdgeLimits) -> EdgeLimits {
    let mut found = limits.clone().within_files(raise_files());
    if found.memory_bytes == 0 {
        found.memory_bytes = memory_bytes() / 100 * MEMORY_SHARE_PERCENT;
    }
    if found.connections < limits.connections {
        tracing::warn!(
            files = found.files,
            connections = found.connections,
            wanted = limits.connections,
            "the limit of open files leaves room for fewer connections; raise it (LimitNOFILE, ulimit -Hn)"
        );
    }
    found
}

/// Raises the limit of open files as far as it goes without privileges, and tells it. Shells set it low for programs that use `select`.
fn raise_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // What cannot be raised stays.
    let _ = setrlimit(Resource::Nofile, raised);
    let files = getrlimit(Resource::Nofile).current.unwrap_or(FILES_MOST);
    usize::try_from(files.min(FILES_MOST)).unwrap_or(usize::MAX)
}

/// The memory of the machine, or of the container where that has less; 0 where neither can be told.
fn memory_bytes() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let machine = total_memory(&read("/proc/meminfo"));
    let own = read("/proc/self/cgroup");
    let group = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let group = read(&format!("/sys/fs/cgroup{}/memory.max", group.trim_end_matches('/')));
    match group.trim().parse::<u64>() {
        Ok(container) if container > 0 && (machine == 0 || container < machine) => container,
        _ => machine,
    }
}

fn total_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default().saturating_mul(1024)
}

/// Reads values, each with its range.
struct Reader<'a, 'b> {
    text: &'a Text<'b>,
    faults: &'a mut Vec<Diagnostic>,
}

impl Reader<'_, '_> {
    fn count(
        &mut self,
        name: &str,
        written: &Option<At<usize>>,
        range: RangeInclusive<usize>,
        to: &mut usize,
    ) {
        let Some(written) = written else { return };
        if range.contains(&written.value) {
            *to = written.value;
        } else {
            let fault = format!("`{name}` goes from {} to {}", range.start(), range.end());
            self.faults.push(self.text.error_at(&written.span, fault));
        }
    }

    fn number(&mut self, name: &str, written: &Option<At<u64>>, to: &mut u64) {
        let Some(written) = written else { return };
        *to = written.value;
        if written.value == 0 {
            let fault = self.text.error_at(&written.span, format!("`{name}` is 1 or more"));
            self.faults.push(fault.with_help("take it out for the default"));
        }
    }

    fn time(&mut self, name: &str, written: &Option<At<String>>, to: &mut u64) {
        let Some(written) = written else { return };
        match duration_ms(&written.value) {
            Ok(ms) if TIME_MS.contains(&ms) => *to = ms,
            Ok(_) => {
                let fault = self.text.error_at(&written.span, format!("`{name}` goes from 500ms to 24h"));
                self.faults.push(fault.with_help("a client that may wait for longer is no limit"));
            }
            Err(fault) => self.faults.push(self.text.error_at(&written.span, fault)),
        }
    }

    fn rate(&mut self, name: &str, written: &Option<At<String>>, to: &mut u64) {
        let Some(written) = written else { return };
        match size_bytes(&written.value) {
            Ok(bytes) if bytes <= RATE_MOST => *to = bytes,
            Ok(_) => {
                let fault =
                    self.text.error_at(&written.span, format!("`{name}` goes from 0 B to 1 MiB a second"));
                self.faults.push(fault.with_help("who is slower than this is cut; `0 B` asks for no rate"));
            }
            Err(fault) => self.faults.push(self.text.error_at(&written.span, fault)),
        }
    }

    fn size(&mut self, name: &str, written: &Option<At<String>>, (from, most): (u64, u64), to: &mut usize) {
        let Some(written) = written else { return };
        match size_bytes(&written.value) {
            Ok(bytes) if (from..=most).contains(&bytes) => *to = usize::try_from(bytes).unwrap_or(usize::MAX),
            Ok(_) => {
                let fault = format!("`{name}` goes from {} KiB to {} KiB", from >> 10, most >> 10);
                self.faults.push(self.text.error_at(&written.span, fault));
            }
            Err(fault) => self.faults.push(self.text.error_at(&written.span, fault)),
        }
    }
}

/// What clients may take of the node. An address is one of IPv4, or a /64 of IPv6.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLimits {
    /// Client connections in all. 16384 if not given, or fewer where the process may open few files.
    connections: Option<At<usize>>,
    /// 512 if not given.
    connections_per_address: Option<At<usize>>,
    /// TLS handshakes under way. 1024 if not given.
    handshakes: Option<At<usize>>,
    /// 128 if not given.
    handshakes_per_address: Option<At<usize>>,
    /// TLS handshakes that one address may begin in a second. 100 if not given.
    handshake_rate: Option<At<usize>>,
    /// And at once after a rest. 512 if not given.
    handshake_burst: Option<At<usize>>,
    /// How long a handshake may take. "10s" if not given.
    handshake_time: Option<At<String>>,
    /// Of a request's head, up to 60 KiB; 431 beyond it. "32 KiB" if not given.
    head_size: Option<At<String>>,
    /// Fields of a request's head, up to 256; 431 beyond it. 128 if not given.
    head_fields: Option<At<usize>>,
    /// From the first byte of a head to its last; then 408. "10s" if not given.
    head_time: Option<At<String>>,
    /// A connection without a request. "75s" if not given.
    idle_time: Option<At<String>>,
    /// How long a body may pause in all; then 408. "30s" if not given.
    body_pause: Option<At<String>>,
    /// At so many bytes a second it earns that time back. "500 B" if not given.
    body_rate: Option<At<String>>,
    /// How long a client that takes a reply may pause in all. "30s" if not given.
    reply_pause: Option<At<String>>,
    /// At so many bytes a second it earns that time back. "500 B" if not given.
    reply_rate: Option<At<String>>,
    /// Silence on an upgraded or carried connection, or within an event stream. "1h" if not given.
    tunnel_idle_time: Option<At<String>>,
    /// After so many a connection ends in good order. 10000 if not given.
    requests_per_connection: Option<At<u64>>,
    /// Streams of one HTTP/2 connection at once, up to 1000. 100 if not given.
    h2_streams: Option<At<usize>>,
    /// Streams that its client gave up, if they are more than half, end the connection. 100 if not given.
    h2_resets: Option<At<u64>>,
    /// Frames that move no request on, at once. 1000 if not given.
    h2_control_frames: Option<At<usize>>,
    /// Memory of held bodies, both ways; beyond it 503. "512 MiB" if not given.
    held: Option<At<String>>,
    /// The same for one address. "64 MiB" if not given.
    held_per_address: Option<At<String>>,
    /// Of the process; near it load is shed. Three quarters of the machine's, or of its container's, if not given.
    memory: Option<At<String>>,
}

const TIME_MS: RangeInclusive<u64> = 500..=24 * 60 * 60_000;
const RATE_MOST: u64 = 1 << 20;
/// A head fits into one read.
const HEAD_BYTES: (u64, u64) = (1 << 10, 60 << 10);
const HELD_BYTES: (u64, u64) = (1 << 20, 1 << 40);
const MEMORY_BYTES: (u64, u64) = (64 << 20, 1 << 44);
/// More than a node has use for, where the system knows no limit.
const FILES_MOST: u64 = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(limits: &str) -> (EdgeLimits, Vec<String>) {
        let text = Text::new("phalanx.toml", limits);
        let (raw, mut faults) = text.read_partly::<RawLimits>();
        let limits = check(&text, &raw.unwrap_or_default(), &mut faults);
        (limits, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_limit_is_read_into_its_place() {
        let (limits, faults) = read(
            "connections = 100\nconnections_per_address = 10\nhandshakes = 7\nhandshakes_per_address = 3\n\
             handshake_rate = 50\nhandshake_burst = 70\nhandshake_time = \"2s\"\nhead_size = \"16 KiB\"\nhead_fields = 64\nhead_time = \"3s\"\nidle_time = \"4s\"\n\
             body_pause = \"5s\"\nbody_rate = \"1 KiB\"\nreply_pause = \"6s\"\nreply_rate = \"0 B\"\n\
             tunnel_idle_time = \"2h\"\nrequests_per_connection = 5\nh2_streams = 20\nh2_resets = 30\n\
             h2_control_frames = 200\nheld = \"64 MiB\"\nheld_per_address = \"8 MiB\"\nmemory = \"1 GiB\"\n",
        );
        assert_eq!(faults, [] as [&str; 0]);
        assert_eq!((limits.connections, limits.connections_per_actor), (100, 10));
        assert_eq!((limits.handshakes, limits.handshakes_per_actor, limits.handshake_ms), (7, 3, 2_000));
        assert_eq!(limits.handshake_pace, Pace::new(50, 1_000, 70));
        assert_eq!((limits.head.bytes, limits.head.fields, limits.head_ms), (16_384, 64, 3_000));
        assert_eq!((limits.idle_ms, limits.body_gap_ms, limits.body_rate), (4_000, 5_000, 1_024));
        assert_eq!((limits.write_gap_ms, limits.write_rate, limits.tunnel_idle_ms), (6_000, 0, 7_200_000));
        assert_eq!((limits.requests_per_connection, limits.h2_streams), (5, 20));
        assert_eq!((limits.h2_given_up, limits.h2_control_frames), (30, 200));
        assert_eq!((limits.held_bytes, limits.held_bytes_per_actor), (64 << 20, 8 << 20));
        assert_eq!(limits.memory_bytes, 1 << 30);
    }

    #[test]
    fn a_limit_that_is_none_is_a_fault_with_its_line() {
        for (limits, fault) in [
            ("connections = 1", "phalanx.toml:1: `connections` goes from 16 to 1000000"),
            ("idle_time = \"10ms\"", "phalanx.toml:1: `idle_time` goes from 500ms to 24h"),
            ("idle_time = \"10\"", "a duration is a number with"),
            ("body_rate = \"2 MiB\"", "`body_rate` goes from 0 B to 1 MiB a second"),
            ("head_size = \"1 MiB\"", "`head_size` goes from 1 KiB to 60 KiB"),
            ("handshake_rate = 0", "`handshake_rate` goes from 1 to 1000000"),
            ("h2_resets = 0", "`h2_resets` is 1 or more"),
            ("h2_stream = 5", "unknown key `h2_stream`"),
        ] {
            let (_, faults) = read(limits);
            assert!(faults.len() == 1 && faults[0].contains(fault), "{limits}: {faults:?}");
        }
    }

    #[test]
    fn the_machine_says_what_it_has() {
        assert_eq!(total_memory("MemTotal:       24683896 kB\nMemFree: 1 kB\n"), 24_683_896 * 1024);
        let limits = within_machine(&EdgeLimits::default());
        assert!(limits.files >= 64 && limits.memory_bytes > 64 << 20, "{limits:?}");
    }
}
