//! `phalanx waf bench`: raw requests through the engine, timed; prints the rows of the peers' harness.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use phalanx_inspect::{CompileOptions, Program, Scratch};
use phalanx_model::{Clock as _, SystemClock};
use phalanx_policy::seclang::LoadOptions;

use super::exchange::{Reply, Request, connection, inspect, load};
use crate::progress::Progress;

/// Arguments of `phalanx waf bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Folder with rules, in the layout of the Core Rule Set
    #[arg(long, required = true)]
    pub(crate) rules: Vec<PathBuf>,
    /// Paranoia level
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub(crate) paranoia: Option<u8>,
    /// Rounds; figures are medians over them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) rounds: u16,
    /// Seconds per round
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// Run without the prefilter
    #[arg(long)]
    pub(crate) no_prefilter: bool,
    /// Print one JSON object per row
    #[arg(long)]
    pub(crate) json: bool,
    /// Folders of `*.http` files, one class each
    #[arg(required = true)]
    pub(crate) corpora: Vec<PathBuf>,
}

/// One class measured.
#[derive(Debug, serde::Serialize)]
struct Row {
    class: String,
    files: usize,
    blocked: usize,
    us_wall_median: f64,
    us_wall_min: f64,
    us_wall_max: f64,
    us_cpu_median: f64,
    req_p50_us: f64,
    req_p99_us: f64,
    reqs: usize,
}

/// Measures every class.
pub(crate) fn bench(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let resident_before = resident_kb();
    let started = Instant::now();
    let options = LoadOptions { paranoia: args.paranoia, ..LoadOptions::default() };
    let compile = CompileOptions { prefilter: !args.no_prefilter, ..CompileOptions::default() };
    let program = load(&args.rules, &options, &compile)?;
    let load_ms = started.elapsed().as_millis();
    if !args.json {
        println!(
            "# phalanx {} rules={} load_ms={load_ms} rss_before_kb={resident_before} rss_after_kb={} conf={}",
            env!("CARGO_PKG_VERSION"),
            program.stats().rules,
            resident_kb(),
            args.rules.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(",")
        );
        println!(
            "# class\tfiles\tblocked\tus_wall_median\tus_wall_min\tus_wall_max\tus_cpu_median\treq_p50_us\treq_p99_us\treqs"
        );
    }
    for folder in &args.corpora {
        let rounds = usize::from(args.rounds);
        let progress = Progress::new("rounds", Some(rounds));
        let row = measure(&program, folder, &args, &progress)?;
        drop(progress);
        if args.json {
            println!("{}", serde_json::to_string(&row)?);
        } else {
            println!(
                "{}\t{}\t{}\t{:.1}\t{:.1}\t{:.1}\t{:.1}\t{:.1}\t{:.1}\t{}",
                row.class,
                row.files,
                row.blocked,
                row.us_wall_median,
                row.us_wall_min,
                row.us_wall_max,
                row.us_cpu_median,
                row.req_p50_us,
                row.req_p99_us,
                row.reqs
            );
        }
    }
    if !args.json {
        println!("# end rss_kb={}", resident_kb());
    }
    Ok(ExitCode::SUCCESS)
}

/// Requests with the scratch that they share.
struct Replayer {
    program: Arc<Program>,
    scratch: Option<Box<Scratch>>,
    now_ms: u64,
    number: u64,
}

impl Replayer {
    /// One full transaction; true when it was stopped.
    fn one(&mut self, request: &Request) -> bool {
        self.number += 1;
        let scratch = self.scratch.take().unwrap_or_default();
        let connection = connection(self.number, self.now_ms);
        let (findings, scratch) = inspect(&self.program, scratch, connection, request, usual_reply);
        self.scratch = Some(scratch);
        findings.interruption.is_some() || findings.failure.is_some()
    }
}

/// The reply of the peers' harness.
fn usual_reply() -> Reply {
    let fields = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", "1024")];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Reply { status: 200, fields, body: Bytes::new() }
}

fn measure(
    program: &Arc<Program>,
    folder: &Path,
    args: &BenchArgs,
    progress: &Progress,
) -> anyhow::Result<Row> {
    let requests = read_corpus(folder)?;
    let mut replayer =
        Replayer { program: Arc::clone(program), scratch: None, now_ms: SystemClock.now_ms(), number: 0 };
    let blocked = requests.iter().filter(|request| replayer.one(request)).count();
    let (mut wall, mut cpu, mut samples, mut total) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..args.rounds {
        let (start, cpu_start) = (Instant::now(), cpu_time());
        let mut last = start;
        let mut count = 0u32;
        while last.duration_since(start).as_secs_f64() < args.seconds {
            for request in &requests {
                replayer.one(request);
                let now = Instant::now();
                if samples.len() < SAMPLES_MAX {
                    samples.push(micros(now.duration_since(last)));
                }
                last = now;
                count += 1;
            }
        }
        wall.push(micros(last.duration_since(start)) / f64::from(count.max(1)));
        cpu.push(micros(cpu_time().saturating_sub(cpu_start)) / f64::from(count.max(1)));
        total += count as usize;
        progress.step();
    }
    wall.sort_by(f64::total_cmp);
    cpu.sort_by(f64::total_cmp);
    samples.sort_by(f64::total_cmp);
    let class = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Row {
        class,
        files: requests.len(),
        blocked,
        us_wall_median: quantile(&wall, 50),
        us_wall_min: quantile(&wall, 0),
        us_wall_max: wall.last().copied().unwrap_or_default(),
        us_cpu_median: quantile(&cpu, 50),
        req_p50_us: quantile(&samples, 50),
        req_p99_us: quantile(&samples, 99),
        reqs: total,
    })
}

fn read_corpus(folder: &Path) -> anyhow::Result<Vec<Request>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "http"))
        .collect();
    paths.sort();
    anyhow::ensure!(!paths.is_empty(), "{}: no *.http files", folder.display());
    let read = |path: &PathBuf| {
        let raw = std::fs::read(path).with_context(|| path.display().to_string())?;
        Request::read(&raw).with_context(|| path.display().to_string())
    };
    paths.iter().map(read).collect()
}

fn quantile(sorted: &[f64], percent: usize) -> f64 {
    sorted.get(sorted.len() * percent / 100).or(sorted.last()).copied().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// CPU time of this thread, from the scheduler's own account (nanoseconds); zero where the system has none.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// Resident memory of the process, in KiB.
fn resident_kb() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or_default();
    pages * 4
}

const SAMPLES_MAX: usize = 1 << 22;
