//! `phalanx waf replay`: raw requests from standard input, a verdict per line on standard output.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use phalanx_inspect::{CompileOptions, Program, Scratch};
use phalanx_model::{Clock as _, SystemClock};
use phalanx_policy::seclang::LoadOptions;
use serde::{Deserialize, Serialize};

use super::exchange::{Reply, Request, connection, inspect, load};

/// Arguments of `phalanx waf replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    /// Folder with rules; without it the default protection is used.
    #[arg(long)]
    pub(crate) rules: Vec<PathBuf>,
    /// Paranoia level.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub(crate) paranoia: Option<u8>,
    /// Accepted for symmetry: the output is JSON lines in any case.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A line of input.
#[derive(Debug, Deserialize)]
struct Line {
    id: serde_json::Value,
    raw_request_b64: String,
}

/// A line of output.
#[derive(Debug, Serialize)]
struct Judged {
    id: serde_json::Value,
    blocked: bool,
    rules: Vec<u64>,
    /// Departures from strict HTTP, for which the edge refuses the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<phalanx_model::FramingFault>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Judges every line. `default_protection` is used when no rules are given.
pub(crate) fn replay(
    args: ReplayArgs,
    default_protection: impl FnOnce(Option<u8>) -> anyhow::Result<Arc<Program>>,
) -> anyhow::Result<ExitCode> {
    let program = if args.rules.is_empty() {
        default_protection(args.paranoia)?
    } else {
        let options = LoadOptions { paranoia: args.paranoia, ..LoadOptions::default() };
        load(&args.rules, &options, &CompileOptions::default())?
    };
    let mut scratch: Option<Box<Scratch>> = None;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (number, line) in (1u64..).zip(std::io::stdin().lock().lines()) {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(&line).with_context(|| format!("line {number}"))?;
        let (judged, lent) = judge(&program, scratch.take().unwrap_or_default(), line, number);
        scratch = Some(lent);
        serde_json::to_writer(&mut out, &judged)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn judge(program: &Arc<Program>, scratch: Box<Scratch>, line: Line, number: u64) -> (Judged, Box<Scratch>) {
    let raw = base64::engine::general_purpose::STANDARD.decode(line.raw_request_b64.trim());
    let request = raw.map_err(anyhow::Error::from).and_then(|raw| Request::read(&raw));
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            // What cannot be read is refused at the edge.
            let error = Some(format!("{error:#}"));
            return (
                Judged { id: line.id, blocked: true, rules: Vec::new(), faults: Vec::new(), error },
                scratch,
            );
        }
    };
    let connection = connection(number, SystemClock.now_ms());
    let reply = || Reply { status: 200, ..Reply::default() };
    let (findings, scratch) = inspect(program, scratch, connection, &request, reply);
    let blocked = findings.interruption.is_some() || findings.failure.is_some() || request.is_malformed();
    let faults = request.head.faults.clone();
    (Judged { id: line.id, blocked, rules: findings.matched_rules, faults, error: findings.failure }, scratch)
}
