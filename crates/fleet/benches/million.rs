//! A node with a million decisions: what its registers take beside the view, and how long it takes to enforce after a start.
//!
//! Run: `cargo bench -p phalanx-fleet --bench million [-- COUNT]`. Prints one line per figure.

#![expect(clippy::expect_used, reason = "a measurement ends at its first surprise")]

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phalanx_fleet::registers::Registers;
use phalanx_fleet::store::{Kept, Store};
use phalanx_fleet::{Change, FleetHandle, FleetKeys, FleetSettings, Remembered};
use phalanx_model::lanes::Lanes;
use phalanx_model::{
    Actor, Author, AuthorRole, Clock, Decision, DecisionId, DecisionKind, Identities, SystemClock, View,
};
use phalanx_trust::{Sealer, SignedRecord, SigningKey, Statement};

fn main() {
    let step = std::env::args().skip_while(|word| word != "--step").nth(1);
    let folder = std::env::args().skip_while(|word| word != "--state").nth(1);
    let count = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(1_000_000);
    match (step.as_deref(), folder) {
        (Some("registers"), _) => registers(count),
        (Some("fill"), Some(folder)) => run(fill(Path::new(&folder), count)),
        (Some("start"), Some(folder)) => run(start(Path::new(&folder), count)),
        _ => {
            // Each step in a process of its own, whose memory holds nothing else.
            let folder = tempfile::tempdir().expect("a folder can be made");
            let path = folder.path().display().to_string();
            for step in ["registers", "fill", "start", "start"] {
                let this = std::env::current_exe().expect("it runs");
                let args = ["--step", step, "--state", &path, &count.to_string()];
                let done = std::process::Command::new(this).args(args).status();
                assert!(done.is_ok_and(|status| status.success()), "{step}");
            }
        }
    }
}

fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("threads can be started").block_on(work);
}

fn registers(count: u64) {
    let now_ms = SystemClock.now_ms();
    let before = resident();
    let mut registers = Registers::default();
    let started = Instant::now();
    for n in 0..count {
        registers.apply(&Change::Decided(Arc::new(decision(n, now_ms))), now_ms);
    }
    println!(
        "registers of {count}      {:.1} MB, merged in {} ms",
        mb(resident() - before),
        started.elapsed().as_millis()
    );
    let before = resident();
    let view = View::packed(registers.decisions().map(|decision| vec![decision]), registers.decisions_len());
    let view = view.expect("it is below 4 GiB");
    println!(
        "   and the view           {:.1} MB more, of which packed {:.1} MB",
        mb(resident() - before),
        mb(view.base().bytes_len())
    );
}

/// Writes a million records as if peers had sent them.
async fn fill(folder: &Path, count: u64) {
    let (sealer, now_ms) = (sealer(folder), SystemClock.now_ms());
    let store = Store::open(&folder.join("fleet.redb"), sealer, now_ms).expect("it can be made");
    let key = SigningKey::generate().expect("there is randomness");
    let started = Instant::now();
    for first in (0..count).step_by(10_000) {
        let keeping = (first..count.min(first + 10_000)).map(|n| store.keep(kept(&key, n, now_ms)));
        for kept in futures_util::future::join_all(keeping).await {
            kept.expect("the disk takes it");
        }
    }
    store.close();
    let bytes = std::fs::metadata(folder.join("fleet.redb")).map_or(0, |file| file.len());
    println!(
        "records on disk           {:.1} MB, written in {} ms",
        mb(usize::try_from(bytes).unwrap_or_default()),
        started.elapsed().as_millis()
    );
}

async fn start(folder: &Path, count: u64) {
    let (sealer, before, started) = (sealer(folder), resident(), Instant::now());
    let settings = FleetSettings {
        fleet_id: "bench".into(),
        site: "fra".into(),
        node: "a".into(),
        version: "0".into(),
        roles: vec![],
        state_dir: folder.to_owned(),
        nats: None,
        secret: None,
        membership: None,
        enrol: Vec::new(),
    };
    let remembered = Remembered::read(&settings, Arc::clone(&sealer)).await.expect("it can be read");
    let (view, packed) = (remembered.view(), remembered.view().load().base().decisions_len());
    println!("start: in force           {packed} after {} ms", started.elapsed().as_millis());
    let keys = FleetKeys::load_or_create(folder, &sealer, true).expect("they can be made");
    let (lanes, _readers) = Lanes::new();
    let node =
        FleetHandle::start_with(remembered, settings, sealer, keys, lanes, Arc::new(SystemClock)).await;
    let node = node.expect("it starts");
    println!("   started                after {} ms", started.elapsed().as_millis());
    let wanted = usize::try_from(count).unwrap_or_default();
    while own(&node).decisions < wanted {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!(
        "   records merged         after {} ms, {:.1} MB resident",
        started.elapsed().as_millis(),
        mb(resident() - before)
    );
    let who = Identities::of(address(count / 2));
    assert!(view.load().lookup(&who, SystemClock.now_ms()).is_some());
    let ending = Instant::now();
    node.shutdown().await;
    println!("   ended                  in {} ms", ending.elapsed().as_millis());
}

fn own(node: &FleetHandle) -> phalanx_fleet::Member {
    node.members().into_iter().next().expect("the node itself comes first")
}

fn kept(key: &SigningKey, n: u64, now_ms: u64) -> Kept {
    let change = Change::Decided(Arc::new(decision(n, now_ms)));
    let (subject, body) = (change.subject(), serde_json::to_vec(&change).expect("it is data"));
    let statement = Statement {
        fleet_id: "bench",
        subject: &subject,
        author: change.author(),
        version: change.version(),
        expires_at_ms: change.expires_at_ms(),
        body: &body,
    };
    let bytes = SignedRecord::sign(key, statement).to_bytes().expect("it is data");
    Kept { version: change.version(), expires_at_ms: change.expires_at_ms(), own: false, bytes, subject }
}

/// The n-th decision, of one of fifty nodes.
fn decision(n: u64, now_ms: u64) -> Decision {
    let node = n % 50;
    Decision {
        id: DecisionId::from_parts(now_ms, u16::try_from(node).unwrap_or_default(), n),
        actor: Actor::ip(address(n)),
        kind: DecisionKind::Ban,
        author: Author {
            site: format!("site{}", node % 5).into(),
            node: format!("node{node}").into(),
            role: AuthorRole::Node,
        },
        reason: format!("3 attacks, last by rule {}", 8_513_000 + n % 2_000),
        evidence: Some(DecisionId::from_parts(now_ms, 7, n)),
        confidence_percent: 90,
        created_at_ms: now_ms,
        expires_at_ms: now_ms + 3_600_000,
        version: now_ms << 16,
    }
}

fn address(n: u64) -> IpAddr {
    // An odd factor visits every address once.
    Ipv4Addr::from_bits(u32::try_from(n).unwrap_or_default().wrapping_mul(0x9e37_79b1)).into()
}

fn sealer(folder: &Path) -> Arc<Sealer> {
    Arc::new(Sealer::load_or_create(&folder.join("seal.key")).expect("it can be made"))
}

fn mb(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or_default() * 1024
}
