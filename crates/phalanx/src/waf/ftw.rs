//! `phalanx waf ftw`: the Core Rule Set's regression tests (go-ftw), in process.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use phalanx_inspect::pattern::{Flags, Pattern};
use phalanx_inspect::{CompileOptions, Findings, Program, Scratch};
use phalanx_model::{Clock as _, FramingFault, SystemClock};
use phalanx_policy::seclang::{LoadOptions, ir::RuleEngine};
use phalanx_record::modsecurity::{LogContext, modsecurity_line};

use super::backend;
use super::exchange::{Request, connection, inspect, load};
use super::suite::{self, Output, Stage};

/// Arguments of `phalanx waf ftw`.
#[derive(Debug, clap::Args)]
pub(crate) struct FtwArgs {
    /// Folder with rules, in the layout of the Core Rule Set.
    #[arg(long, required = true)]
    pub(crate) rules: Vec<PathBuf>,
    /// Folder with go-ftw tests.
    #[arg(long)]
    pub(crate) tests: PathBuf,
    /// Paranoia level the tests are run at.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub(crate) paranoia: u8,
    /// Run only tests whose id (`942100-1`) starts with this.
    #[arg(long)]
    pub(crate) only: Option<String>,
    /// Print one JSON object instead of lines.
    #[arg(long)]
    pub(crate) json: bool,
    /// Tell of each failed test what was found.
    #[arg(long)]
    pub(crate) explain: bool,
    /// Run without the prefilter.
    #[arg(long)]
    pub(crate) no_prefilter: bool,
}

/// What became of a suite.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Summary {
    pub(crate) passed: usize,
    pub(crate) failed: Vec<String>,
    pub(crate) skipped: Vec<String>,
    #[serde(skip)]
    pub(crate) explanations: Vec<String>,
}

/// Runs the tests; exit code 1 when any fails.
pub(crate) fn ftw(args: FtwArgs) -> anyhow::Result<ExitCode> {
    let program = program(&args.rules, args.paranoia, !args.no_prefilter)?;
    let summary = run(&program, &args)?;
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        for explanation in &summary.explanations {
            println!("{explanation}");
        }
        for id in &summary.failed {
            println!("failed {id}");
        }
        println!(
            "passed {} failed {} skipped {}",
            summary.passed,
            summary.failed.len(),
            summary.skipped.len()
        );
    }
    Ok(if summary.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rule set as the tests expect it: detection only, responses read, and the limits that some tests pass.
pub(crate) fn program(rules: &[PathBuf], paranoia: u8, prefilter: bool) -> anyhow::Result<Arc<Program>> {
    let options = LoadOptions {
        paranoia: Some(paranoia),
        rule_engine: Some(RuleEngine::DetectionOnly),
        extra_before: vec![("ftw.conf".to_owned(), TEST_SETTINGS.to_owned())],
    };
    load(rules, &options, &CompileOptions { prefilter, ..CompileOptions::default() })
}

fn run(program: &Arc<Program>, args: &FtwArgs) -> anyhow::Result<Summary> {
    let mut runner = Runner {
        program: Arc::clone(program),
        scratch: Some(Box::default()),
        number: 0,
        now_ms: SystemClock.now_ms(),
    };
    let mut summary = Summary::default();
    for (path, file) in suite::read(&args.tests)? {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let name = file.rule_id.map_or(stem, |id| id.to_string());
        for test in &file.tests {
            let id = format!("{name}-{}", test.test_id);
            if args.only.as_ref().is_some_and(|only| !id.starts_with(only)) {
                continue;
            }
            match test.stages.iter().try_for_each(|stage| runner.stage(stage)) {
                Ok(()) => summary.passed += 1,
                Err(why) => {
                    if args.explain {
                        summary.explanations.push(format!("{id}: {why}"));
                    }
                    summary.failed.push(id);
                }
            }
        }
    }
    Ok(summary)
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
            return judge(&stage.output, &Findings::default(), "", 400);
        }
        self.number += 1;
        let connection = connection(self.number, self.now_ms);
        let scratch = self.scratch.take().unwrap_or_default();
        let mut backend_status = 0;
        let (findings, scratch) = inspect(&self.program, scratch, connection, &request, || {
            let reply = backend::reply(&request);
            backend_status = reply.status;
            reply
        });
        self.scratch = Some(scratch);
        let log = log_text(&findings, &request, &connection.request_id.to_string());
        judge(&stage.output, &findings, &log, status(&request, backend_status)).map_err(|why| {
            format!("{why}; matched {:?}; faults {:?}", findings.matched_rules, request.head.faults)
        })
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

/// The findings as ModSecurity would log them.
fn log_text(findings: &Findings, request: &Request, unique_id: &str) -> String {
    let host = request.head.header("host").map(|host| String::from_utf8_lossy(host).into_owned());
    let context = LogContext {
        host: host.as_deref().unwrap_or_default(),
        uri: &String::from_utf8_lossy(request.head.path()),
        unique_id,
        client: "203.0.113.7",
        denied: None,
    };
    findings.signals.iter().fold(String::new(), |mut log, signal| {
        let _ = writeln!(log, "{}", modsecurity_line(signal, &context));
        log
    })
}

fn judge(output: &Output, findings: &Findings, log: &str, status: u16) -> Result<(), String> {
    if let Some(failure) = &findings.failure {
        return Err(format!("the engine failed: {failure}"));
    }
    if let Some(expected) = output.status
        && expected != status
    {
        return Err(format!("status {status}, not {expected}"));
    }
    let matched = |id: &u64| findings.matched_rules.contains(id);
    let contains = |text: &String| log.contains(text.as_str());
    if output.log_contains.as_ref().is_some_and(|text| !contains(text)) {
        return Err("the log lacks log_contains".to_owned());
    }
    if output.no_log_contains.as_ref().is_some_and(contains) {
        return Err("the log has no_log_contains".to_owned());
    }
    let Some(expected) = &output.log else {
        return Ok(());
    };
    if let Some(id) = expected.expect_ids.iter().find(|id| !matched(id)) {
        return Err(format!("{id} did not match"));
    }
    if let Some(id) = expected.no_expect_ids.iter().find(|id| matched(id)) {
        return Err(format!("{id} matched"));
    }
    if output.isolated == Some(true)
        && let Some(id) = other_detection(&expected.expect_ids, findings)
    {
        return Err(format!("{id} matched too"));
    }
    if let Some(regex) = &expected.match_regex
        && !found(regex, log)?
    {
        return Err(format!("the log lacks {regex}"));
    }
    if let Some(regex) = &expected.no_match_regex
        && found(regex, log)?
    {
        return Err(format!("the log has {regex}"));
    }
    Ok(())
}

/// A rule beyond the expected ones, the scoring rules aside.
fn other_detection(expected: &[u64], findings: &Findings) -> Option<u64> {
    let scoring = |id: u64| matches!(id / 1000, 949 | 959 | 980);
    findings.matched_rules.iter().copied().find(|id| !expected.contains(id) && !scoring(*id))
}

fn found(regex: &str, log: &str) -> Result<bool, String> {
    let pattern = Pattern::compile(regex, Flags::MODSECURITY).map_err(|error| error.to_string())?;
    pattern.is_match(log.as_bytes()).map_err(|error| error.to_string())
}

/// What the Core Rule Set's own test environment sets, beside the paranoia level.
const TEST_SETTINGS: &str = "
SecResponseBodyAccess On
SecResponseBodyMimeType text/plain text/html text/xml application/json
SecAction \"id:8599000,phase:1,pass,t:none,nolog,\\
    setvar:tx.arg_length=400,setvar:tx.total_arg_length=6400,\\
    setvar:tx.crs_validate_utf8_encoding=1,setvar:tx.arg_name_length=100,setvar:tx.max_num_args=255,\\
    setvar:tx.max_file_size=64100,setvar:tx.combined_file_sizes=65535\"
";
