//! What the fleet's decisions cost at a million of them: memory, look-ups, changes, packing, the file, and how long a request
//! can be held up while all that goes on.
//!
//! Run: `cargo bench -p phalanx-model --bench view [-- COUNT] [--every-length]`. Prints one line per figure; fails where a stated limit is passed
//! that does not depend on how busy the machine is.

#![expect(clippy::expect_used, reason = "a measurement ends at its first surprise")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use phalanx_model::{
    Actor, Author, AuthorRole, Base, Blocklist, Decision, DecisionId, DecisionKind, Identities, Ja4,
    ListPrefixes, Lists, Prefix, Retired, Swap, View,
};

fn main() -> ExitCode {
    if let Some(file) = std::env::args().skip_while(|word| word != "--at-rest").nth(1) {
        return at_rest(&file);
    }
    let count = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(1_000_000);
    let at_start = resident();
    let decisions: Vec<_> = (0..count).map(decision).collect();
    println!("decisions as values        {count}, {:.1} MB", mb(resident() - at_start));
    let started = Instant::now();
    let built = View::from_decisions(decisions);
    println!("built                      {} ms", started.elapsed().as_millis());
    let mut file = Vec::new();
    let started = Instant::now();
    built.base().write_to(&mut file).expect("memory takes it");
    println!(
        "file                       {:.1} MB, written in {} ms",
        mb(file.len()),
        started.elapsed().as_millis()
    );
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("view");
    std::fs::write(&path, &file).expect("the disk takes it");
    // In a process of its own, whose memory holds nothing else.
    let child = std::process::Command::new(std::env::current_exe().expect("it runs"))
        .arg("--at-rest")
        .arg(&path)
        .status();
    if !child.is_ok_and(|status| status.success()) {
        return ExitCode::FAILURE;
    }
    let view = built;
    drop(file);
    lookups(&view, count);
    let view = changes(view);
    compaction(&view);
    pauses(&view);
    lists(&view, count);
    ExitCode::SUCCESS
}

/// Reads a base and packs it anew.
fn at_rest(file: &str) -> ExitCode {
    let mut limits = Limits::default();
    let before = resident();
    let started = Instant::now();
    let mut input =
        std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(file).expect("it is there"));
    let view = View::on(Arc::new(Base::read_from(&mut input).expect("it was just written")));
    println!("file read                  {} ms", started.elapsed().as_millis());
    let (packed, at_rest) = (view.base().bytes_len(), resident().saturating_sub(before));
    println!("view at rest               {:.1} MB packed, {:.1} MB resident", mb(packed), mb(at_rest));
    limits.at_most("view at rest, MB", mb(at_rest), 100.0);
    reset_peak();
    let packed = view.pack();
    println!("   and while packed anew   {:.1} MB resident", mb(peak().saturating_sub(before)));
    drop(packed);
    limits.result()
}

fn lookups(view: &View, count: u64) {
    let requests = |known: bool| -> Vec<Identities> {
        (0..100_000u64).map(|n| identities(if known { mix(n) % count } else { count + n }, known)).collect()
    };
    for (name, known) in [("of known actors", true), ("of strangers", false)] {
        let requests = requests(known);
        let mut found = 0;
        let each = best_of_five(|| {
            found = requests.iter().filter(|who| black_box(view.lookup(black_box(who), 1)).is_some()).count();
        });
        println!("look-up {name:18} {} ns, {found} of {} found", nanos(each, requests.len()), requests.len());
        let mut times: Vec<u64> =
            requests.iter().map(|who| timed(|| view.lookup(who, 1).is_some())).collect();
        times.sort_unstable();
        println!("   one by one              p50 {} ns, p99 {} ns", at(&times, 50), at(&times, 99));
    }
    let requests = requests(true);
    let each = best_of_five(|| {
        for who in &requests {
            black_box(view.lookup(who, 1).and_then(|found| found.decision()));
        }
    });
    println!("   and unpacked            {} ns", nanos(each, requests.len()));
}

/// What blocklists of as many prefixes cost on top.
fn lists(view: &View, count: u64) {
    for (name, v6) in [("IPv4", false), ("IPv6", true)] {
        let prefix = |n: u64| match v6 {
            // As registries give them out: under some thirty first groups.
            true => {
                let start = u128::from(0x2a00 + mix(n) % 32) << 112 | u128::from(mix(n) >> 16) << 64;
                Prefix::new(Ipv6Addr::from_bits(start).into(), 64)
            }
            false => Prefix::new(v4(n), 24 + u8::try_from(n % 9).unwrap_or_default()),
        };
        let prefixes: ListPrefixes = (0..count).filter_map(|n| prefix(n).ok()).collect();
        let (kept, bytes) = (prefixes.len(), prefixes.to_bytes());
        let started = Instant::now();
        let read = ListPrefixes::from_bytes(&bytes).expect("it was just packed");
        let reading = started.elapsed();
        let started = Instant::now();
        let table = Arc::new(Lists::of(vec![(Arc::new(blocklist()), Arc::new(read))]));
        println!(
            "blocklist of {name}          {kept} prefixes, {:.1} MB packed, read in {} ms, table {:.1} MB in {} ms",
            mb(bytes.len()),
            reading.as_millis(),
            mb(table.bytes_len()),
            started.elapsed().as_millis()
        );
        let near = (count..count + 100_000).filter_map(|n| Some(Identities::of(prefix(n).ok()?.addr())));
        let near: Vec<Identities> = near.collect();
        let of_all: Vec<Identities> = (0..100_000).map(|n| identities(mix(n) % count, true)).collect();
        for (what, view, requests) in
            [("nothing else", View::default(), near), ("and decisions", view.clone(), of_all)]
        {
            let asked = |view: &View| {
                let all = || requests.iter().filter(|who| black_box(view.lookup(who, 1)).is_some()).count();
                nanos(
                    best_of_five(|| {
                        black_box(all());
                    }),
                    requests.len(),
                )
            };
            let without = asked(&view);
            println!(
                "   look-up, {what:14} {without} ns without, {} ns with it",
                asked(&view.with_lists(Arc::clone(&table)))
            );
        }
    }
}

fn blocklist() -> Blocklist {
    Blocklist {
        id: DecisionId::from_parts(1, 1, 1),
        name: "bench".into(),
        author: Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Operator },
        kind: DecisionKind::Ban,
        reason: "bench".into(),
        content: None,
        approved: false,
        created_at_ms: 0,
        until_ms: u64::MAX,
        expires_at_ms: u64::MAX,
        version: 1,
    }
}

/// Ten thousand changes, each a view of its own.
fn changes(mut view: View) -> View {
    let mut times = Vec::new();
    for n in 0..10_000 {
        let new = decision(10_000_000 + n);
        let mut next = None;
        times.push(timed(|| next = Some(view.with_key(new.actor.key(), vec![Arc::clone(&new)]))));
        view = next.unwrap_or(view);
    }
    let last: Vec<u64> = times.split_off(9_000);
    println!("a change, first 9,000      {}", spread(times));
    println!("a change, last 1,000       {}", spread(last));
    println!("with 10,000 changes:");
    lookups(&view, 1_000_000);
    view
}

fn compaction(view: &View) {
    let before = resident();
    reset_peak();
    let started = Instant::now();
    let base = view.pack().expect("a million fit");
    let (took, peak) = (started.elapsed(), peak());
    println!(
        "packed anew                {} ms, peak {:.1} MB more",
        took.as_millis(),
        mb(peak.saturating_sub(before))
    );
    let whole = View::on(Arc::new(base));
    let swap = timed(|| view.rebased(&whole, view));
    println!("brought into force         {} us", swap / 1_000);
}

/// Look-ups as a worker makes them, while another thread changes, packs and drops views.
fn pauses(view: &View) {
    let swap = Arc::new(Swap::new(view.clone()));
    for busy in [false, true] {
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (swap, stop) = (Arc::clone(&swap), Arc::clone(&stop));
            std::thread::spawn(move || {
                let (mut packs, mut views, mut bases) = (0, Retired::default(), Retired::default());
                while busy && !stop.load(Ordering::Relaxed) {
                    let before = swap.load_full();
                    let Some(base) = before.pack() else { break };
                    let next = swap.load_full().rebased(&View::on(Arc::new(base)), &before);
                    bases.put(Arc::clone(before.base()));
                    views.put(before);
                    swap.store(Arc::new(next));
                    views.drop_unused();
                    bases.drop_unused();
                    packs += 1;
                }
                packs
            })
        };
        let until = Instant::now() + Duration::from_secs(5);
        let mut times = Vec::with_capacity(10_000_000);
        let (mut n, mut slow, mut preempted, mut switches) = (0, 0, 0, switched_out());
        while Instant::now() < until {
            let who = identities(mix(n) % 1_000_000, true);
            let time = timed(|| swap.load().lookup(&who, 1).is_some());
            n += 1;
            if time > 100_000 {
                let by_now = switched_out();
                if by_now == switches {
                    slow += 1;
                } else {
                    preempted += 1;
                    switches = by_now;
                    continue;
                }
            }
            times.push(time);
        }
        stop.store(true, Ordering::Relaxed);
        let packs = writer.join().expect("the writer ends");
        let name = if busy { "while packing" } else { "undisturbed" };
        println!("a request {name:16} {}, {slow} of {n} above 100 us, {packs} packings", spread(times));
        println!("   without {preempted} above 100 us in which the scheduler took the processor away");
    }
}

/// `--every-length`: ranges of every width everywhere, so many that each address lies in several: what no fleet has, and about the
/// worst for look-ups.
static EVERY_LENGTH: LazyLock<bool> = LazyLock::new(|| std::env::args().any(|word| word == "--every-length"));

/// The n-th of a mix: addresses above all, and some of everything.
fn decision(n: u64) -> Arc<Decision> {
    let at_ms = 1_760_000_000_000 + n;
    let node = mix(n) % 50;
    Arc::new(Decision {
        id: DecisionId::from_parts(at_ms, u16::try_from(node).unwrap_or_default(), mix(n + 1)),
        actor: actor(n),
        kind: DecisionKind::Ban,
        author: Author {
            site: format!("site{}", node % 5).into(),
            node: format!("node{node}").into(),
            role: AuthorRole::Node,
        },
        reason: format!("3 attacks, last by rule {}", 8_513_000 + mix(n) % 2_000),
        evidence: n.is_multiple_of(2).then(|| DecisionId::from_parts(at_ms, 7, mix(n + 2))),
        confidence_percent: 90,
        created_at_ms: at_ms,
        expires_at_ms: at_ms + 300_000,
        version: at_ms << 16,
    })
}

fn actor(n: u64) -> Actor {
    // Half of the ranges are as wide as networks are given out, the others of any width that an operator may order about.
    let bits = |usual: u64, from: u64, to: u64| {
        let any = mix(n + 3);
        let bits = if any >> 63 == 0 && !*EVERY_LENGTH { usual } else { from + any % (to - from) };
        u8::try_from(bits).unwrap_or_default()
    };
    match n % 100 {
        0..60 => Actor::ip(v4(n)),
        60..75 => Actor::ip(v6(n)),
        75..84 => Actor::client(v4(n), mix(n)),
        84..92 => Actor::prefix(
            Prefix::new(v4(n), bits(24, if *EVERY_LENGTH { 8 } else { 16 }, 32)).expect("in range"),
        ),
        92..95 => Actor::prefix(
            Prefix::new(v6(n), bits(48, if *EVERY_LENGTH { 20 } else { 29 }, 64)).expect("in range"),
        ),
        95 => Actor::Asn(u32::try_from(n).unwrap_or_default() + 1),
        96..98 => Actor::Ja4(ja4(n)),
        98 => Actor::Session(mix(n)),
        _ => Actor::Account(mix(n)),
    }
}

/// A client of which everything is known; it is what the n-th decision is about, or a stranger.
fn identities(n: u64, known: bool) -> Identities {
    let actor = actor(n);
    let address = if n % 4 == 3 { v6(n) } else { v4(n) };
    let mut who = Identities {
        agent: Some(mix(n)),
        asn: Some(3_000_000_000),
        country: "NL".parse().ok(),
        ja4: Some(ja4(n ^ 1 << 40)),
        session: Some(mix(n) ^ 1),
        account: Some(mix(n) ^ 2),
        ..Identities::of(actor.range().filter(|_| known).map_or(address, |range| range.addr()))
    };
    match actor {
        _ if !known => {}
        Actor::Asn(asn) => who.asn = Some(asn),
        Actor::Ja4(ja4) => who.ja4 = Some(ja4),
        Actor::Session(hash) => who.session = Some(hash),
        Actor::Account(hash) => who.account = Some(hash),
        Actor::Ip(_) | Actor::Client { .. } | Actor::Prefix(_) | Actor::Country(_) => {}
        Actor::Software(_) | Actor::Route(_) | Actor::App(_) | Actor::Rules(_) => {}
    }
    who
}

fn v4(n: u64) -> IpAddr {
    Ipv4Addr::from_bits(u32::try_from(mix(n) >> 32).unwrap_or_default()).into()
}

fn v6(n: u64) -> IpAddr {
    Ipv6Addr::from_bits(u128::from(0x2000_0000_0000_0000 | mix(n) >> 3) << 64).into()
}

fn ja4(n: u64) -> Ja4 {
    format!("t13d1516h2_8daaf6152771_{:012x}", mix(n) >> 16).parse().expect("in form")
}

/// SplitMix64 (Steele et al. 2014).
fn mix(n: u64) -> u64 {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn timed<T>(work: impl FnOnce() -> T) -> u64 {
    let started = Instant::now();
    black_box(work());
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The machine may be busy with other things.
fn best_of_five(mut work: impl FnMut()) -> Duration {
    let times = (0..5).map(|_| {
        let started = Instant::now();
        work();
        started.elapsed()
    });
    times.min().unwrap_or_default()
}

fn nanos(all: Duration, count: usize) -> u128 {
    all.as_nanos() / count as u128
}

fn spread(mut times: Vec<u64>) -> String {
    times.sort_unstable();
    let us = |time: u64| format!("{:.1}", time as f64 / 1_000.0);
    let max = times.last().copied().unwrap_or_default();
    format!("p50 {} us, p99 {} us, max {} us", us(at(&times, 50)), us(at(&times, 99)), us(max))
}

fn at(sorted: &[u64], percent: usize) -> u64 {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}

fn mb(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn resident() -> usize {
    status("VmRSS:")
}

fn peak() -> usize {
    status("VmHWM:")
}

/// Bytes of a line of `/proc/self/status`.
fn status(name: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or_default() * 1024
}

/// How often the scheduler took the processor away from this thread.
fn switched_out() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
}

/// Makes the kernel count the peak of resident memory anew.
fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[derive(Debug, Default)]
struct Limits {
    passed: Vec<String>,
}

impl Limits {
    fn at_most(&mut self, name: &str, figure: f64, limit: f64) {
        if figure > limit {
            self.passed.push(format!("{name}: {figure:.1} is above {limit}"));
        }
    }

    fn result(self) -> ExitCode {
        self.passed.iter().for_each(|fault| eprintln!("{fault}"));
        if self.passed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
