//! `phalanx waf ftw`: go-ftw regression tests, in process or over the wire to a running node.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, anyhow, bail};
use phalanx_inspect::{CompileOptions, Program, Scratch};
use phalanx_model::{Clock as _, FramingFault, SystemClock};
use phalanx_policy::seclang::{LoadOptions, ir::RuleEngine};

use super::backend;
use super::deviation::{Deviation, deviations};
use super::exchange::{Request, connection, inspect, load};
use super::judge::{Observed, judge, log_text};
use super::suite::{self, Case, Stage};
use super::wire::{Failure, Wire};
use crate::client::{AdminArgs, Client};
use crate::progress::Progress;

/// Arguments of `phalanx waf ftw`.
#[derive(Debug, clap::Args)]
pub(crate) struct FtwArgs {
    /// Folder with rules, in the layout of the Core Rule Set; not needed with --wire, whose node has its own
    #[arg(long, required_unless_present_any = ["wire", "print_settings"])]
    pub(crate) rules: Vec<PathBuf>,
    /// Folder with go-ftw tests
    #[arg(long, required_unless_present = "print_settings")]
    pub(crate) tests: Option<PathBuf>,
    /// Send the tests to a running node, instead of running the rules in process
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) wire: Option<String>,
    #[command(flatten)]
    pub(crate) node: AdminArgs,
    /// Print the settings that a node needs for the tests, as a file for `--extra-rules`, and end
    #[arg(long)]
    pub(crate) print_settings: bool,
    /// Paranoia level the tests are run at; that of a node is its own
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub(crate) paranoia: u8,
    /// Run only tests whose id (`942100-1`) starts with this
    #[arg(long)]
    pub(crate) only: Option<String>,
    /// Tell of each failed test what was found
    #[arg(long)]
    pub(crate) explain: bool,
    /// Run without the prefilter
    #[arg(long, conflicts_with = "wire")]
    pub(crate) no_prefilter: bool,
}

/// What became of a suite.
#[derive(Debug, Default, serde::Serialize)]
struct Summary {
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
    deviations: Vec<Deviation>,
    #[serde(skip)]
    explanations: Vec<String>,
}

/// Runs the tests; exit code 1 when any fails.
pub(crate) fn ftw(args: FtwArgs) -> anyhow::Result<ExitCode> {
    if args.print_settings {
        print!("{TEST_SETTINGS}");
        return Ok(ExitCode::SUCCESS);
    }
    let tests = args.tests.as_deref().context("--tests is missing")?;
    let mut cases = suite::cases(tests)?;
    if let Some(only) = &args.only {
        cases.retain(|case| case.id.starts_with(only.as_str()));
    }
    if cases.is_empty() {
        bail!("there is no such test in {}", tests.display());
    }
    let summary = match &args.wire {
        Some(to) => over_the_wire(&cases, &Wire::new(to, Client::new(&args.node)?)?)?,
        None => in_process(&cases, program(&args.rules, args.paranoia, !args.no_prefilter)?),
    };
    print(&summary, &args)?;
    Ok(if summary.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(summary: &Summary, args: &FtwArgs) -> anyhow::Result<()> {
    if args.node.json {
        println!("{}", serde_json::to_string(&summary)?);
        return Ok(());
    }
    for explanation in summary.explanations.iter().filter(|_| args.explain) {
        println!("{explanation}");
    }
    for id in &summary.failed {
        println!("failed {id}");
    }
    for deviation in &summary.deviations {
        println!("deviates {}: {}", deviation.test, deviation.reason);
    }
    let Summary { passed, failed, skipped, deviations, .. } = summary;
    print!("passed {passed} failed {} skipped {}", failed.len(), skipped.len());
    match args.wire {
        Some(_) => println!(" deviates {}", deviations.len()),
        None => println!(),
    }
    Ok(())
}

impl Summary {
    fn add(&mut self, case: &Case, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(why) => {
                self.explanations.push(format!("{}: {why}", case.id));
                self.failed.push(case.id.clone());
            }
        }
    }

    /// An outcome at the edge, which may be stricter than the test; a deviation that is none any more is a failure.
    fn add_wired(&mut self, case: &Case, outcome: Result<(), Failure>, known: &[Deviation]) {
        let Some(deviation) = known.iter().find(|deviation| deviation.test == case.id) else {
            return self.add(case, outcome.map_err(|failure| failure.why));
        };
        match outcome {
            Ok(()) => self.add(case, Err("passes, though deviations.toml lists it".to_owned())),
            Err(failure) if failure.faults.contains(&deviation.fault) => {
                self.deviations.push(deviation.clone());
            }
            Err(failure) => self.add(case, Err(failure.why)),
        }
    }
}

/// Several tests are under way at once: the node has more than one worker, and a test waits for its record.
fn over_the_wire(cases: &[Case], wire: &Wire) -> anyhow::Result<Summary> {
    let known = deviations()?;
    let next = AtomicUsize::new(0);
    let progress = Progress::new("tests", Some(cases.len()));
    let run_some = || {
        let mut outcomes = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(index) else {
                return outcomes;
            };
            outcomes.push((index, case.stages.iter().try_for_each(|stage| wire.stage(stage))));
            progress.step();
        }
    };
    let mut outcomes = std::thread::scope(|scope| {
        let runners: Vec<_> = (0..IN_FLIGHT).map(|_| scope.spawn(run_some)).collect();
        let mut all = Vec::with_capacity(cases.len());
        for runner in runners {
            all.extend(runner.join().map_err(|_| anyhow!("a thread that sends tests failed"))?);
        }
        anyhow::Ok(all)
    })?;
    outcomes.sort_by_key(|(index, _)| *index);
    let mut summary = Summary::default();
    for (case, (_, outcome)) in cases.iter().zip(outcomes) {
        summary.add_wired(case, outcome, &known);
    }
    Ok(summary)
}

fn in_process(cases: &[Case], program: Arc<Program>) -> Summary {
    let mut runner =
        Runner { program, scratch: Some(Box::default()), number: 0, now_ms: SystemClock.now_ms() };
    let mut summary = Summary::default();
    let progress = Progress::new("tests", Some(cases.len()));
    for case in cases {
        summary.add(case, case.stages.iter().try_for_each(|stage| runner.stage(stage)));
        progress.step();
    }
    summary
}

/// The rule set as the tests expect it: detection only, responses read, and the limits that some tests pass.
pub(crate) fn program(rules: &[PathBuf], paranoia: u8, prefilter: bool) -> anyhow::Result<Arc<Program>> {
    let options = LoadOptions {
        paranoia: Some(paranoia),
        rule_engine: Some(RuleEngine::DetectionOnly),
        extra_before: vec![("ftw-before.conf".to_owned(), TEST_SETTINGS.to_owned())],
    };
    load(rules, &options, &CompileOptions { prefilter, ..CompileOptions::default() })
}

/// Runs stages one after the other.
struct Runner {
    program: Arc<Program>,
    scratch: Option<Box<Scratch>>,
    number: u64,
    now_ms: u64,
}

impl Runner {
    /// Sends a stage's request; the error says what was not as expected.
    fn stage(&mut self, stage: &Stage) -> Result<(), String> {
        let raw = stage.input.raw().map_err(|error| error.to_string())?;
        let request = match front_end(&raw) {
            Ok(request) => request,
            // Nothing that could be answered or inspected arrived.
            Err(_) if stage.output.expect_error == Some(true) => return Ok(()),
            Err(_) if stage.output.status == Some(400) && stage.output.log.is_none() => return Ok(()),
            Err(error) => return Err(format!("unreadable: {error}")),
        };
        if request.head.faults.iter().any(|fault| UNSEEN.contains(fault)) {
            return judge(&stage.output, &Observed { status: 400, ..Observed::default() });
        }
        self.number += 1;
        let connection = connection(self.number, self.now_ms);
        let id = connection.request_id.to_string();
        let scratch = self.scratch.take().unwrap_or_default();
        let mut answer = None;
        let (findings, scratch) = inspect(&self.program, scratch, connection, &request, || {
            let reply = backend::reply(&request);
            answer = Some(reply.clone());
            reply
        });
        self.scratch = Some(scratch);
        let host = String::from_utf8_lossy(request.head.header("host").unwrap_or_default());
        let path = String::from_utf8_lossy(request.head.path());
        let answer = answer.unwrap_or_default();
        let seen = Observed {
            status: status(&request, answer.status),
            reply: answer.body.to_vec(),
            log: log_text(&findings.signals, &host, &path, &id, "203.0.113.7"),
            rules: findings.matched_rules,
            failure: findings.failure,
        };
        judge(&stage.output, &seen)
            .map_err(|why| format!("{why}; matched {:?}; faults {:?}", seen.rules, request.head.faults))
    }
}

/// The request as the rules see it behind httpd, on which the tests were written: fields of the same name are one, their
/// values joined by a comma, and `Transfer-Encoding` removes `Content-Length`.
fn front_end(raw: &[u8]) -> anyhow::Result<Request> {
    let request = Request::read(raw)?;
    let mut merged: Vec<(&[u8], Vec<u8>)> = Vec::new();
    for (name, value) in request.head.headers() {
        match merged.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, values)) => {
                values.extend_from_slice(b", ");
                values.extend_from_slice(value);
            }
            None => merged.push((name, value.to_vec())),
        }
    }
    let framing =
        |name: &[u8]| name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"host");
    let both = request.head.faults.contains(&FramingFault::LengthAndTransferEncoding);
    if both {
        merged.retain(|(name, _)| !name.eq_ignore_ascii_case(b"content-length"));
    }
    let repeated = merged.len() < request.head.fields.len();
    let sensitive = request.head.headers().filter(|(name, _)| framing(name)).count() > 2;
    if !repeated || (sensitive && !both) {
        return Ok(request);
    }
    let line_end = raw.iter().position(|&b| b == b'\n').map_or(raw.len(), |at| at + 1);
    let mut joined = raw.get(..line_end).unwrap_or_default().to_vec();
    for (name, value) in &merged {
        joined.extend_from_slice(&[name, &b": "[..], value, &b"\r\n"[..]].concat());
    }
    joined.extend_from_slice(b"\r\n");
    joined.extend_from_slice(raw.get(request.head.raw.len()..).unwrap_or_default());
    Request::read(&joined)
}

/// The status a client of httpd would see; the rules only detect.
fn status(request: &Request, backend_status: u16) -> u16 {
    let served = |fault: &FramingFault| match fault {
        FramingFault::LengthAndTransferEncoding => true,
        // httpd knows CONNECT with a port, though it serves no tunnel.
        FramingFault::BadTarget => {
            request.head.method() == b"CONNECT" && request.head.target().contains(&b':')
        }
        _ => false,
    };
    if request.head.faults.iter().all(served) { backend_status } else { 400 }
}

/// Faults that httpd refuses before any rule sees the request.
const UNSEEN: &[FramingFault] = &[FramingFault::BareCarriageReturn];

/// Tests sent to a node at once.
const IN_FLIGHT: usize = 8;

/// Marks that a request was inspected, so that the node keeps a record of it whatever else it finds.
pub(crate) const SEEN_RULE: u64 = 8_599_001;

/// What the Core Rule Set's own test environment sets, beside the paranoia level and detection only.
const TEST_SETTINGS: &str = include_str!("ftw-before.conf");
