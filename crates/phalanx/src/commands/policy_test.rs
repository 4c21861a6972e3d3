//! `phalanx policy test`: what is expected of a policy, tried on the plan that it compiles to.
//!
//! Flow in names: policy file -> `PolicySource` -> plan -> for each file of expectations and each sequence in it a [`Rehearsal`] -> [`Tried`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use phalanx_edge::EdgePlan;
use phalanx_edge::rehearsal::{Imagined, Rehearsal, Rehearsed, imagined_head};
use phalanx_inspect::Collections;
use phalanx_model::{Reason, Swap};
use phalanx_policy::expectation::Miss;
use phalanx_policy::{Came, Diagnostic, Expectation, Expectations, parse_expectations};
use phalanx_record::escape::for_terminal;
use phalanx_record::{Explanation, RecordedRequest};
use serde::Serialize;

use super::print;
use crate::args::parse_name;
use crate::plan::{Compiled, PolicySource};

/// Arguments of `policy test`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TestArgs {
    /// The policy file
    #[arg(value_name = "FILE", required_unless_present = "config", conflicts_with = "config")]
    file: Option<PathBuf>,
    /// A node's settings file, which names the policy
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Expectations to try, instead of all *.test.toml beside the policy and in `tests` beside it [may be repeated]
    #[arg(long, value_name = "FILE")]
    expect: Vec<PathBuf>,
    /// The site whose variables and defaults hold [default: that of the settings]
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    site: Option<String>,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
}

/// An expectation that was tried.
#[derive(Debug, Serialize)]
struct Tried {
    file: String,
    line: u32,
    name: String,
    ok: bool,
    /// Where it did not come as expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<Failed>,
}

/// A request that did not end as expected: the first of its repetitions.
#[derive(Debug, Serialize)]
struct Failed {
    request: String,
    /// Which of how many.
    repetition: (u32, u32),
    misses: Vec<Miss>,
    came: Came,
    /// What became of it, in words.
    words: Vec<String>,
}

/// Carries it out.
pub(crate) fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let (site, policy) = match (&args.file, &args.config) {
        (Some(file), _) => (None, file.clone()),
        (None, Some(config)) => match crate::settings::read(config) {
            (Some((settings, policy)), _) => (Some(settings.site), policy),
            (None, faults) => return refused(args.json, &faults),
        },
        (None, None) => bail!("name a policy file, or settings with -c"),
    };
    let files = if args.expect.is_empty() { beside(&policy)? } else { args.expect.clone() };
    let collections = Arc::new(Collections::default());
    let compiled =
        match PolicySource::File(policy).compile(args.site.as_deref().or(site.as_deref()), &collections) {
            Ok(compiled) => compiled,
            Err(faults) => return refused(args.json, &faults),
        };
    let read = match read_all(&files, &compiled) {
        Ok(read) => read,
        Err(faults) => return refused(args.json, &faults),
    };
    let plan = Arc::new(Swap::new(compiled.plan));
    let mut tried = Vec::new();
    for (file, expectations) in &read {
        tried.extend(try_file(file, expectations, &plan, &collections)?);
    }
    let failed = tried.iter().filter(|tried| !tried.ok).count();
    if args.json {
        print::json(
            &serde_json::json!({ "ok": failed == 0, "tried": tried.len(), "failed": failed, "results": tried }),
        )?;
    } else {
        print::text(&words(&tried))?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn refused(json: bool, faults: &[Diagnostic]) -> anyhow::Result<ExitCode> {
    if json {
        print::json(&serde_json::json!({ "ok": false, "diagnostics": faults }))?;
    }
    for fault in faults {
        eprintln!("{fault}");
    }
    Ok(ExitCode::FAILURE)
}

/// The files of expectations beside a policy and in `tests` beside it, by name.
fn beside(policy: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = policy.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let mut files = Vec::new();
    for folder in [folder.to_path_buf(), folder.join("tests")] {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
        };
        for entry in entries {
            let name = entry?.file_name();
            if name.to_string_lossy().ends_with(".test.toml") {
                // Without the `./` that nobody wrote.
                files.push(folder.strip_prefix(".").unwrap_or(&folder).join(name));
            }
        }
    }
    files.sort();
    match files.len() {
        0 => bail!(
            "nothing is expected of {}: no *.test.toml lies beside it or in `tests` beside it; name files with --expect",
            policy.display()
        ),
        1..=FILES_MAX => Ok(files),
        many => {
            bail!("{many} files of expectations lie beside {}; {FILES_MAX} are possible", policy.display())
        }
    }
}

fn read_all(files: &[PathBuf], compiled: &Compiled) -> Result<Vec<(String, Expectations)>, Vec<Diagnostic>> {
    let (mut read, mut faults) = (Vec::new(), Vec::new());
    for file in files {
        let name = file.display().to_string();
        let text = match read_one(file) {
            Ok(text) => text,
            Err(message) => {
                faults.push(Diagnostic::error(name.as_str(), 0, message));
                continue;
            }
        };
        match parse_expectations(&name, &text, &compiled.policy) {
            Ok(expectations) => read.push((name, expectations)),
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() { Ok(read) } else { Err(faults) }
}

fn read_one(file: &Path) -> Result<String, String> {
    let bytes = std::fs::metadata(file).map_err(|error| format!("cannot be read: {error}"))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("the file has {bytes} bytes; {FILE_BYTES_MAX} are possible"));
    }
    std::fs::read_to_string(file).map_err(|error| format!("cannot be read: {error}"))
}

/// Tries what a file expects: each sequence, and each request without one, on a node that has just started.
fn try_file(
    file: &str,
    expectations: &Expectations,
    plan: &Arc<Swap<EdgePlan>>,
    collections: &Collections,
) -> anyhow::Result<Vec<Tried>> {
    let mut groups: Vec<Vec<&Expectation>> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for request in &expectations.requests {
        let place = request.sequence.as_deref().map(|name| *known.entry(name).or_insert(groups.len()));
        match place.and_then(|place| groups.get_mut(place)) {
            Some(group) => group.push(request),
            None => groups.push(vec![request]),
        }
    }
    let mut tried = Vec::new();
    for group in groups {
        collections.clear();
        let mut node = Rehearsal::new(plan, expectations.now_ms);
        let mut elapsed_ms = 0;
        for request in group {
            let failed = try_one(&mut node, &mut elapsed_ms, request)
                .with_context(|| format!("{file}:{}", request.line))?;
            let (name, line) = (request.name.clone(), request.line);
            tried.push(Tried { file: file.to_owned(), line, name, ok: failed.is_none(), failed });
        }
    }
    tried.sort_by_key(|tried| tried.line);
    Ok(tried)
}

/// Plays a request as often as it comes; the first repetition that did not end as expected.
fn try_one(
    node: &mut Rehearsal,
    elapsed_ms: &mut u64,
    request: &Expectation,
) -> anyhow::Result<Option<Failed>> {
    let mut pass = |until_ms: u64, node: &Rehearsal| {
        node.advance(until_ms.saturating_sub(*elapsed_ms));
        *elapsed_ms = until_ms.max(*elapsed_ms);
        *elapsed_ms
    };
    let begin_ms = pass(request.at_ms.unwrap_or_default(), node);
    let mut failed = None;
    for repetition in 0..request.times {
        pass(begin_ms.saturating_add(request.every_ms.saturating_mul(repetition.into())), node);
        let line = (request.method.as_str(), request.target.as_str());
        let head = imagined_head(line, &request.host, &request.headers, request.body.len())
            .context("the request has no head that could be read")?;
        let (body, peer, secure) = (request.body.clone().into(), request.client, request.secure);
        let rehearsed =
            node.ask(Imagined { head, body, peer, secure }).context("the request left no event")?;
        let came = came(&rehearsed);
        let misses = request.expect.misses(&came);
        // Those after it still count towards limits.
        if failed.is_none() && !misses.is_empty() {
            failed = Some(Failed {
                request: described(request),
                repetition: (repetition + 1, request.times),
                misses,
                came,
                words: explained(rehearsed),
            });
        }
    }
    Ok(failed)
}

fn described(request: &Expectation) -> String {
    let scheme = if request.secure { "https" } else { "http" };
    format!("{} {scheme}://{}{} from {}", request.method, request.host, request.target, request.client)
}

fn came(rehearsed: &Rehearsed) -> Came {
    let access = &rehearsed.access;
    let mut rules: Vec<u64> =
        rehearsed.signals.iter().map(|signal| signal.rule.id).filter(|id| *id != 0).collect();
    if let Reason::Rule { rule } = access.verdict.reason {
        rules.push(rule);
    }
    rules.sort_unstable();
    rules.dedup();
    let upstreams = rehearsed.upstreams.as_deref();
    Came {
        action: access.verdict.action,
        status: upstreams.is_none().then_some(access.status),
        rules,
        app: access.app.to_string(),
        route: access.route.as_deref().unwrap_or_default().to_owned(),
        upstreams: upstreams.unwrap_or_default().iter().map(ToString::to_string).collect(),
        limit: match &access.verdict.reason {
            Reason::RateLimit(excess) => excess.limit.to_string(),
            _ => String::new(),
        },
    }
}

/// Why, as `phalanx explain` says it; what it says of the reply is left out, for nobody got one.
fn explained(rehearsed: Rehearsed) -> Vec<String> {
    let Rehearsed { access, signals, faults, .. } = rehearsed;
    let record =
        RecordedRequest { site: "".into(), node: "".into(), access: *access, signals, faults, like: None };
    let mut words = Explanation::new(record, Vec::new()).summary;
    words.drain(..words.len().min(1));
    words
}

fn words(tried: &[Tried]) -> String {
    let mut out = String::new();
    for one in tried {
        let state = if one.ok { "ok    " } else { "FAILED" };
        out.push_str(&for_terminal(&format!("{state} {}:{} {}", one.file, one.line, one.name)));
        out.push('\n');
        if let Some(failed) = &one.failed {
            out.push_str(&failed.words(&one.file));
        }
    }
    let failed = tried.iter().filter(|tried| !tried.ok).count();
    out.push_str(&format!("{} requests tried, {failed} failed\n", tried.len()));
    out
}

impl Failed {
    fn words(&self, file: &str) -> String {
        let mut out = String::new();
        let mut say =
            |key: &str, text: &str| out.push_str(&format!("       {key:<9}{}\n", for_terminal(text)));
        let nth = match self.repetition {
            (_, 1) => String::new(),
            (nth, times) => format!(" (time {nth} of {times})"),
        };
        say("request", &format!("{}{nth}", self.request));
        for Miss { what, line, expected, came } in &self.misses {
            say("expected", &format!("{what} {expected}   ({file}:{line})"));
            say("came", &format!("{what} {came}"));
        }
        self.words.iter().for_each(|why| say("why", why));
        out
    }
}

/// Files of expectations beside a policy.
const FILES_MAX: usize = 1_000;
const FILE_BYTES_MAX: u64 = 4 << 20;
