//! `phalanx probe`: whether upstreams answer to somebody who does not come through a node.
//!
//! Flow in names: policy -> `Question`s (an upstream, at an address around the node) -> `ask` -> `Answer`s -> table.
//!
//! INVARIANT: a question is a connection and, without TLS, one `HEAD /`; never anything that a rule would refuse. Questions are bounded in
//! number, time and bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use phalanx_policy::advice::is_public;
use phalanx_policy::upstream::{Scheme, Upstream};
use phalanx_policy::{App, Policy};
use phalanx_record::escape::for_terminal;
use serde::Serialize;

use super::print;
use crate::settings::{self, Settings};

/// Arguments of `probe`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProbeArgs {
    /// The node's settings file, which names the policy
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Another address under which upstreams might be reached, e.g. the site's public one [may be repeated]
    #[arg(long, value_name = "IP")]
    address: Vec<IpAddr>,
    /// This machine is no node and may reach no upstream: each is tried at its own address, too
    #[arg(long)]
    outside: bool,
    /// How long an answer may take, 1s to 30s
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = timeout)]
    timeout: Duration,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
}

/// An upstream, and an address at which nobody should reach it.
#[derive(Debug)]
struct Question {
    app: String,
    upstream: Upstream,
    /// What its app is called by visitors.
    host: String,
    to: SocketAddr,
}

/// What became of a question.
#[derive(Debug, Serialize)]
struct Answer {
    app: String,
    upstream: String,
    address: SocketAddr,
    result: Found,
    /// The status of an answer in HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Whether somebody gets past the node there.
    around: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    /// It answers in HTTP.
    Answers,
    /// It takes connections.
    TakesConnections,
    /// Nothing listens there, or something says no.
    Refused,
    /// Nothing came back in time.
    Silent,
}

impl Found {
    fn as_str(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::TakesConnections => "takes connections",
            Self::Refused => "refused",
            Self::Silent => "silent",
        }
    }

    fn is_open(self) -> bool {
        matches!(self, Self::Answers | Self::TakesConnections)
    }
}

/// Asks; exit code 1 where an upstream can be reached around the node.
pub(crate) fn run(args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let (settings, policy) = read(&args.config)?;
    let own = own_addresses().context("the addresses of this machine cannot be read")?;
    let Asked { questions, itself, mut notes, unknown } = questions(args, &settings, &policy, &own)?;
    let answers = ask_all(&questions, args.timeout);
    let open = answers.iter().filter(|answer| answer.around).count();
    notes.extend(asleep(&itself, &answers, args.timeout));
    let is_good = open == 0 && !unknown;
    if args.json {
        print::json(&serde_json::json!({ "ok": is_good, "tried": answers, "notes": notes }))?;
    } else {
        print::text(&shown(&answers, &notes))?;
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Upstreams of this machine that take no connections even from it: that nobody reaches those says nothing. They are not asked anything.
fn asleep(itself: &BTreeMap<String, Vec<SocketAddr>>, answers: &[Answer], timeout: Duration) -> Vec<String> {
    let is_met = |upstream: &str| answers.iter().any(|answer| answer.around && answer.upstream == upstream);
    let takes = |at: &SocketAddr| TcpStream::connect_timeout(at, timeout).is_ok();
    itself
        .iter()
        .filter(|(upstream, at)| !is_met(upstream) && !at.iter().any(takes))
        .map(|(upstream, _)| {
            format!("{upstream}: nothing answers there now; start the app and try again, for this says nothing of it")
        })
        .collect()
}

fn read(config: &Path) -> anyhow::Result<(Settings, Policy)> {
    let all = |faults: Vec<phalanx_policy::Diagnostic>| {
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let (settings, faults) = settings::read(config);
    let Some((settings, file)) = settings.filter(|_| faults.is_empty()) else { bail!("{}", all(faults)) };
    let text =
        std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
    let name = file.display().to_string();
    let read = phalanx_policy::parse_policy_at(&name, &text, Some(&settings.site));
    match read {
        Ok((policy, _)) => Ok((settings, policy)),
        Err(faults) => bail!("{}", all(faults)),
    }
}

/// What is to be asked.
#[derive(Debug, Default)]
struct Asked {
    questions: Vec<Question>,
    /// Upstreams of this machine, and where the node reaches them.
    itself: BTreeMap<String, Vec<SocketAddr>>,
    notes: Vec<String>,
    /// Of an upstream nothing can be found out.
    unknown: bool,
}

/// Where each upstream might be reached by somebody who should not.
fn questions(
    args: &ProbeArgs,
    settings: &Settings,
    policy: &Policy,
    own: &[IpAddr],
) -> anyhow::Result<Asked> {
    let mut asked = BTreeSet::new();
    let Asked { mut questions, mut itself, mut notes, mut unknown } = Asked::default();
    for (app, upstream) in upstreams(policy) {
        if upstream.socket.is_some() {
            continue;
        }
        let addresses = match addresses(upstream) {
            Ok(addresses) => addresses,
            Err(error) => {
                notes.push(format!("{upstream}: not tried, its name leads nowhere: {error}"));
                unknown = true;
                continue;
            }
        };
        let is_of_machine = |at: &&IpAddr| at.is_loopback() || own.contains(at);
        let here: Vec<SocketAddr> =
            addresses.iter().filter(is_of_machine).map(|at| SocketAddr::new(*at, upstream.port)).collect();
        let public = addresses.iter().find(|at| is_public(**at));
        let mut at: Vec<IpAddr> = args.address.clone();
        if args.outside {
            at.extend(addresses.iter().copied().filter(|at| !at.is_loopback()));
        } else if !here.is_empty() {
            at.extend(own.iter().filter(|at| !at.is_loopback()));
        } else if let Some(public) = public {
            notes.push(format!(
                "{upstream}: {public} is public, and this node has to reach it; try from elsewhere with --outside"
            ));
        } else if at.is_empty() {
            notes.push(format!(
                "{upstream}: not tried; name the site's public address with --address, or try from elsewhere with --outside"
            ));
        }
        // That the node reaches its upstream on this machine is no way around it.
        at.retain(|at| !(at.is_loopback() && addresses.contains(at)));
        if !args.outside && !here.is_empty() {
            itself.insert(upstream.to_string(), here);
        }
        for to in at.into_iter().map(|at| SocketAddr::new(at, upstream.port)) {
            if !is_own_listener(settings, to) && asked.insert((upstream.place(), to)) {
                let host =
                    app.hosts.first().map_or_else(|| upstream.authority(), |host| host.replace('*', "www"));
                questions.push(Question { app: app.name.clone(), upstream: upstream.clone(), host, to });
            }
        }
    }
    if questions.len() > QUESTIONS_MAX {
        bail!(
            "these are {} questions, and {QUESTIONS_MAX} are asked at most: name fewer addresses",
            questions.len()
        );
    }
    Ok(Asked { questions, itself, notes, unknown })
}

/// Those of apps and of their routes.
fn upstreams(policy: &Policy) -> impl Iterator<Item = (&App, &Upstream)> {
    policy.apps.iter().flat_map(|app| {
        let of_routes = app.routes.iter().filter_map(|route| route.own.as_ref()?.upstreams.as_ref());
        let all = std::iter::once(&app.upstreams).chain(of_routes);
        all.flat_map(move |of| of.servers.iter().map(move |server| (app, &server.upstream)))
    })
}

fn addresses(upstream: &Upstream) -> std::io::Result<Vec<IpAddr>> {
    let host = upstream.host.as_str();
    let found: BTreeSet<IpAddr> = (host, upstream.port).to_socket_addrs()?.map(|at| at.ip()).collect();
    Ok(found.into_iter().collect())
}

/// Whether the node itself listens there: that is no way around it.
fn is_own_listener(settings: &Settings, to: SocketAddr) -> bool {
    let tls = settings.tls.listeners.iter().map(|listener| listener.address);
    let all =
        settings.listen.iter().copied().chain(tls).chain(settings.tcp.iter().map(|tcp| tcp.listen.address));
    all.into_iter().any(|at| at.port() == to.port() && (at.ip().is_unspecified() || at.ip() == to.ip()))
}

/// Some at once, in the order of the questions.
fn ask_all(questions: &[Question], timeout: Duration) -> Vec<Answer> {
    let next = AtomicUsize::new(0);
    let some = || {
        let mut answers = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(question) = questions.get(place) else { return answers };
            answers.push((place, ask(question, timeout)));
        }
    };
    let mut answers: Vec<(usize, Answer)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(some)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
    });
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

fn ask(question: &Question, timeout: Duration) -> Answer {
    let until = Instant::now() + timeout;
    let (result, status) = match TcpStream::connect_timeout(&question.to, timeout) {
        Ok(stream) if question.upstream.scheme == Scheme::Http => match head(stream, &question.host, until) {
            Some(status) => (Found::Answers, Some(status)),
            None => (Found::TakesConnections, None),
        },
        Ok(_) => (Found::TakesConnections, None),
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => (Found::Silent, None),
        Err(_) => (Found::Refused, None),
    };
    Answer {
        app: question.app.clone(),
        upstream: question.upstream.to_string(),
        address: question.to,
        result,
        status,
        around: result.is_open(),
    }
}

/// The status of the answer to a plain question, if one comes in time.
fn head(mut stream: TcpStream, host: &str, until: Instant) -> Option<u16> {
    let left =
        |until: Instant| Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
    stream.set_write_timeout(left(until)).ok()?;
    let question =
        format!("HEAD / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: phalanx-probe\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut piece = [0; 64];
    while answer.len() < STATUS_LINE_BYTES {
        stream.set_read_timeout(Some(left(until)?)).ok()?;
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        answer.extend_from_slice(piece.get(..read)?);
    }
    let answer = String::from_utf8_lossy(&answer);
    answer.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
}

/// Addresses of this machine's interfaces, as the kernel lists them.
fn own_addresses() -> std::io::Result<Vec<IpAddr>> {
    let mut found: BTreeSet<IpAddr> = BTreeSet::new();
    found.extend(local_v4(&std::fs::read_to_string("/proc/net/fib_trie")?).into_iter().map(IpAddr::from));
    // Not there where IPv6 is off.
    let v6 = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    found.extend(local_v6(&v6).into_iter().map(IpAddr::from));
    Ok(found.into_iter().collect())
}

/// Leaves of the routing table that are `host LOCAL`.
fn local_v4(table: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(leaf);
        }
    }
    found
}

/// Each line begins with an address in hexadecimal; those of one link alone (RFC 4291) are left out, as nobody far away reaches them.
fn local_v6(table: &str) -> Vec<Ipv6Addr> {
    let address =
        |line: &str| u128::from_str_radix(line.split_whitespace().next()?, 16).ok().map(Ipv6Addr::from);
    table.lines().filter_map(address).filter(|at| !at.is_unicast_link_local()).collect()
}

fn shown(answers: &[Answer], notes: &[String]) -> String {
    let rows: Vec<Vec<String>> = answers
        .iter()
        .map(|answer| {
            let result = match answer.status {
                Some(status) => format!("{} with {status}", answer.result.as_str()),
                None => answer.result.as_str().to_owned(),
            };
            let around = if answer.around { "REACHABLE" } else { "no" };
            vec![
                answer.app.clone(),
                answer.upstream.clone(),
                answer.address.to_string(),
                result,
                around.to_owned(),
            ]
        })
        .collect();
    let mut out = String::new();
    if !rows.is_empty() {
        out = print::table(&["APP", "UPSTREAM", "TRIED AT", "RESULT", "AROUND THE NODE"], &rows);
    }
    for note in notes {
        out.push_str(&format!("note: {}\n", for_terminal(note)));
    }
    match answers.iter().filter(|answer| answer.around).count() {
        _ if answers.is_empty() && notes.is_empty() => {
            out.push_str("nothing was tried: no upstream has an address that others could reach\n");
        }
        _ if answers.is_empty() => {
            out.push_str("nothing was tried, so nothing is known of ways around the node\n");
        }
        0 => out.push_str(&format!("{} tried, none can be reached around the node\n", answers.len())),
        open => out.push_str(&format!(
            "{} tried, {open} can be reached around the node\n  help: let the app listen on 127.0.0.1 or a socket, or let a firewall take connections to its port from the nodes alone\n",
            answers.len()
        )),
    }
    out
}

fn timeout(text: &str) -> Result<Duration, String> {
    match print::parse_duration(text)? {
        ms @ 1_000..=30_000 => Ok(Duration::from_millis(ms)),
        _ => Err("an answer may take 1s to 30s".to_owned()),
    }
}

/// Questions of one run: 64 upstreams at 8 addresses.
const QUESTIONS_MAX: usize = 512;
/// Questions under way.
const AT_ONCE: usize = 16;
/// `HTTP/1.1 200`.
const STATUS_LINE_BYTES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_lists_them() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.1.2.3\n        /32 host LOCAL\n     |-- 10.1.2.255\n        /32 link BROADCAST\n";
        assert_eq!(local_v4(trie), [Ipv4Addr::new(10, 1, 2, 3)]);
        let v6 = "00000000000000000000000000000001 01 80 10 80       lo\nfe800000000000000000000000000001 02 40 20 80     eth0\n20010db8000000000000000000000007 02 40 00 80     eth0\nx\n";
        assert_eq!(local_v6(v6), [Ipv6Addr::LOCALHOST, "2001:db8::7".parse().unwrap()]);
    }

    #[test]
    fn how_long_an_answer_may_take_is_bounded() {
        assert_eq!(timeout("3s"), Ok(Duration::from_secs(3)));
        assert!(timeout("31s").is_err() && timeout("10ms").is_err() && timeout("x").is_err());
    }
}
