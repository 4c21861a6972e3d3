//! Work that one node does at a time: processes of their own, a real server, and a guarded resource that checks tokens.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use phalanx_fleet::TAKEOVER_MAX;

use crate::support::{NatsServer, NodePlan};

/// What the resource saw: when, who acted, with which token, and whether it let them.
#[derive(Debug, Clone, Copy)]
struct Act {
    at: Instant,
    by: usize,
    token: u64,
    accepted: bool,
}

/// Accepts acts whose token is no lower than any it saw, as who guards a resource must.
fn guard() -> (SocketAddr, Receiver<Act>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (acts, seen) = sync_channel(100_000);
    let highest = std::sync::Arc::new(std::sync::Mutex::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (acts, highest) = (acts.clone(), std::sync::Arc::clone(&highest));
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let (by, token) = line.split_once(' ').unwrap();
                    let (by, token): (usize, u64) = (by.parse().unwrap(), token.parse().unwrap());
                    let mut highest = highest.lock().unwrap();
                    let accepted = token >= *highest;
                    *highest = token.max(*highest);
                    let _ = acts.try_send(Act { at: Instant::now(), by, token, accepted });
                }
            });
        }
    });
    (address, seen)
}

const CHILD: &str = "PHALANX_TEST_SINGLETON";

/// Not a test: what the processes of the tests below run, until they are killed.
#[test]
fn process_of_a_node_that_acts_when_it_may() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let [number, nats, guard]: [&str; 3] = told.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let plan = NodePlan { nats: Some(nats.into()), ..NodePlan::local("fra", &format!("n{number}")) };
        let node = plan.start().await;
        let mut guard = TcpStream::connect(guard).unwrap();
        let work = node.fleet.singleton("work");
        let mut turns = tokio::time::interval(Duration::from_millis(20));
        loop {
            turns.tick().await;
            if let Some(token) = work.token() {
                writeln!(guard, "{number} {token}").unwrap();
            }
        }
    });
}

struct Process(Child);

impl Process {
    fn start(number: usize, nats: &str, guard: SocketAddr) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "singletons::process_of_a_node_that_acts_when_it_may"]);
        command.env(CHILD, format!("{number} {nats} {guard}"));
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next act that `wanted` accepts.
fn next(acts: &Receiver<Act>, log: &mut Vec<Act>, wanted: impl Fn(&Act) -> bool) -> Act {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let act = acts.recv_timeout(left).expect("somebody acts");
        log.push(act);
        if wanted(&act) {
            return act;
        }
    }
}

/// Nobody acts between two acts of another's, and tokens rise from holder to holder.
fn one_at_a_time(log: &[Act]) {
    for pair in log.windows(2) {
        let [before, after] = pair else { continue };
        assert!(after.accepted, "two acted: {before:?} {after:?}");
        assert!(after.by == before.by || after.token > before.token, "{before:?} {after:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_holder_is_killed_another_takes_over_within_three_seconds() {
    let Some(server) = NatsServer::start().await else { return };
    let trials: usize = std::env::var("PHALANX_TRIALS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let (guard, acts) = guard();
    let mut processes: Vec<Process> = (0..3).map(|n| Process::start(n, &server.url(), guard)).collect();
    let mut log = Vec::new();
    let mut holder = next(&acts, &mut log, |_| true).by;
    let mut times = Vec::new();
    for _ in 0..trials {
        // It acts until it is killed: what counts is when the next one does.
        next(&acts, &mut log, |act| act.by == holder);
        let killed = Instant::now();
        processes[holder].0.kill().unwrap();
        processes[holder].0.wait().unwrap();
        let taken = next(&acts, &mut log, |act| act.by != holder);
        times.push(taken.at.duration_since(killed));
        processes[holder] = Process::start(holder, &server.url(), guard);
        holder = taken.by;
    }
    times.sort();
    let percentile = |percent: usize| times[(times.len() - 1) * percent / 100];
    let (p50, p99, max) = (percentile(50), percentile(99), percentile(100));
    let acted = log.len();
    println!(
        "holder killed -> another acts: p50 {p50:?} p99 {p99:?} max {max:?} over {trials} trials, {acted} acts, none by two at once"
    );
    one_at_a_time(&log);
    assert!(max <= TAKEOVER_MAX, "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_was_stopped_for_half_a_minute_does_not_act_on_when_it_wakes() {
    let Some(server) = NatsServer::start().await else { return };
    let (guard, acts) = guard();
    let processes: Vec<Process> = (0..2).map(|n| Process::start(n, &server.url(), guard)).collect();
    let mut log = Vec::new();
    let first = next(&acts, &mut log, |_| true);
    processes[first.by].signal("STOP");
    let stopped = Instant::now();
    let second = next(&acts, &mut log, |act| act.by != first.by);
    assert!(second.at.duration_since(stopped) <= TAKEOVER_MAX && second.token > first.token);
    next(&acts, &mut log, |act| act.at.duration_since(stopped) >= STOPPED);
    processes[first.by].signal("CONT");
    let woken = Instant::now();
    next(&acts, &mut log, |act| act.at.duration_since(woken) >= Duration::from_secs(3));
    one_at_a_time(&log);
    let late = log.iter().filter(|act| act.by == first.by && act.at > stopped + Duration::from_millis(100));
    assert_eq!(late.count(), 0, "its own clock told it that its lease was over");
}

/// Many leases, and longer than a server or a hypervisor usually stands still.
const STOPPED: Duration = Duration::from_secs(30);
