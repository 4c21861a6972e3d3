//! `phalanx waf replay`: raw requests from standard input, a verdict per line on standard output.

use std::io::{BufRead, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use phalanx_inspect::{CompileOptions, Program, Scratch};
use phalanx_model::{Clock as _, SystemClock};
use phalanx_policy::seclang::LoadOptions;
use serde::{Deserialize, Serialize};

use super::exchange::{Reply, Request, connection, inspect, load};
use crate::progress::Progress;

/// Arguments of `phalanx waf replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    /// Folder with rules; without it the default protection is used
    #[arg(long)]
    pub(crate) rules: Vec<PathBuf>,
    /// Paranoia level
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub(crate) paranoia: Option<u8>,
    /// Accepted for symmetry: the output is JSON lines in any case
    #[arg(long)]
    pub(crate) json: bool,
}

/// A line of input. Other keys are accepted: records often say more.
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

/// Judges every line, up to one that is no line of this form. `default_protection` is used when no rules are given.
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
    let mut input = std::io::stdin().lock();
    let progress = Progress::new("requests", None);
    for number in 1u64.. {
        let Some(text) = next_line(&mut input).with_context(|| format!("line {number}"))? else {
            break;
        };
        if text.trim_ascii().is_empty() {
            continue;
        }
        let (id, raw) = parsed(&text).with_context(|| format!("line {number}"))?;
        let (judged, lent) = judge(&program, scratch.take().unwrap_or_default(), (id, &raw), number);
        scratch = Some(lent);
        serde_json::to_writer(&mut out, &judged)?;
        out.write_all(b"\n")?;
        progress.step();
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The next line; `None` at the end.
fn next_line(input: &mut impl BufRead) -> anyhow::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = input.take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line)?;
    if u64::try_from(read)? > LINE_BYTES_MAX {
        bail!("it is longer than {LINE_BYTES_MAX} bytes");
    }
    Ok((read > 0).then_some(line))
}

/// What a line says: an id, and the bytes of a request.
fn parsed(text: &[u8]) -> anyhow::Result<(serde_json::Value, Vec<u8>)> {
    let line: Line = serde_json::from_slice(text)
        .context("expected a JSON object with `id` and `raw_request_b64` on a line of its own")?;
    let raw = base64::engine::general_purpose::STANDARD.decode(line.raw_request_b64.trim());
    Ok((line.id, raw.context("`raw_request_b64` is not base64")?))
}

fn judge(
    program: &Arc<Program>,
    scratch: Box<Scratch>,
    (id, raw): (serde_json::Value, &[u8]),
    number: u64,
) -> (Judged, Box<Scratch>) {
    let request = match Request::read(raw) {
        Ok(request) => request,
        Err(error) => {
            // What cannot be read is refused at the edge.
            let error = Some(format!("{error:#}"));
            return (Judged { id, blocked: true, rules: Vec::new(), faults: Vec::new(), error }, scratch);
        }
    };
    let connection = connection(number, SystemClock.now_ms());
    let reply = || Reply { status: 200, ..Reply::default() };
    let (findings, scratch) = inspect(program, scratch, connection, &request, reply);
    let blocked = findings.interruption.is_some() || findings.failure.is_some() || request.is_malformed();
    let faults = request.head.faults.clone();
    (Judged { id, blocked, rules: findings.matched_rules, faults, error: findings.failure }, scratch)
}

/// A request of 48 MiB in base64.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_none_says_what_is_wrong() {
        for (text, told) in [
            (&b"{"[..], "expected a JSON object"),
            (b"\xff", "expected a JSON object"),
            (b"{\"id\":1}", "expected a JSON object"),
            (b"{\"id\":1,\"raw_request_b64\":\"?\"}", "not base64"),
        ] {
            let error = format!("{:#}", parsed(text).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
        let (id, raw) = parsed(b"{\"id\":\"a\",\"raw_request_b64\":\"R0VU\",\"more\":1}\n").unwrap();
        assert_eq!((id, raw), ("a".into(), b"GET".to_vec()));
    }
}
