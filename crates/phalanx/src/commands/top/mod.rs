//! `phalanx top`: what a running node does just now, in a terminal, anew each second.
//!
//! Flow in names: [`Sampler`] (asks the node) -> [`Sample`] -> `view` (lines for a size) -> [`screen::Screen`]. Without a terminal one sample
//! is printed, and with `--json` one a line.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use phalanx_control::api::{EventRow, IncidentRow, Status};
use phalanx_model::Decision;
use serde::Serialize;

use super::print;
use crate::client::{AdminArgs, Client};

mod screen;
mod view;

use screen::{Key, Screen};

/// Arguments of `top`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TopArgs {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=3600))]
    every: u16,
    /// Print one sample and end, as without a terminal
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What a node does, at one moment.
#[derive(Debug, Clone, Serialize)]
struct Sample {
    status: Status,
    /// Requests, and those of them that were refused, in each second since the sample before.
    requests_per_second: f64,
    refused_per_second: f64,
    /// Refused and flagged requests of the last minutes, the newest first.
    events: Vec<EventRow>,
    decisions: Vec<Decision>,
    incidents: Vec<IncidentRow>,
}

/// Shows a running node until `q`.
pub(crate) fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let mut sampler = Sampler { client: Client::new(&args.admin)?, before: None };
    let every = Duration::from_secs(args.every.into());
    // Rates are between two samples.
    sampler.take()?;
    let screen = if args.once || args.admin.json { None } else { Screen::open()? };
    match screen {
        Some(screen) => watch(&mut sampler, screen, every)?,
        None => loop {
            pause(every);
            let sample = sampler.take()?;
            let text = match args.admin.json {
                true => print::json_line(&sample)?,
                false => view::lines(&sample, PRINTED).join("\n") + "\n",
            };
            let goes_on = args.admin.json && !args.once;
            if !print::is_read(&text)? || !goes_on {
                break;
            }
        },
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a rate is between two moments, and nothing happens in between"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Draws until `q` or the end of the input. A node that does not answer is said, and asked again.
fn watch(sampler: &mut Sampler, screen: Screen, every: Duration) -> anyhow::Result<()> {
    let mut last: Result<Sample, String> = Err("the first look is taken".to_owned());
    loop {
        screen.draw(|size| match &last {
            Ok(sample) => view::lines(sample, size),
            Err(fault) => view::fault(fault, size),
        })?;
        match screen.key(every) {
            Some(Key::Quit) => return Ok(()),
            // It is drawn anew with what is known.
            Some(Key::Other) => continue,
            None => last = sampler.take().map_err(|error| format!("{error:#}")),
        }
    }
}

/// Asks a node, and knows what it said before.
struct Sampler {
    client: Client,
    before: Option<(u64, u64, u64)>,
}

impl Sampler {
    fn take(&mut self) -> anyhow::Result<Sample> {
        let status: Status = serde_json::from_value(self.client.get("status")?)?;
        let since_ms = status.now_ms.saturating_sub(EVENTS_MS);
        let events = self.client.get(&format!("events?limit={EVENTS}&since_ms={since_ms}"))?;
        let decisions = self.client.get(&format!("decisions?limit={DECISIONS}"))?;
        let incidents: Vec<IncidentRow> = match self.client.get(&format!("incidents?limit={INCIDENTS}")) {
            Ok(incidents) => serde_json::from_value(incidents)?,
            // Where nothing is learned there are none.
            Err(error) if crate::client::is_refused(&error, "not_learning") => Vec::new(),
            Err(error) => return Err(error),
        };
        let refused = status.counters.denied.saturating_add(status.counters.malformed);
        let now = (status.now_ms, status.counters.requests, refused);
        let before = self.before.replace(now).unwrap_or(now);
        let seconds = Duration::from_millis(now.0.saturating_sub(before.0)).as_secs_f64();
        let rate = |now: u64, before: u64| {
            let more = u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
            if seconds > 0.0 { f64::from(more) / seconds } else { 0.0 }
        };
        Ok(Sample {
            requests_per_second: rate(now.1, before.1),
            refused_per_second: rate(now.2, before.2),
            events: serde_json::from_value(events)?,
            decisions: serde_json::from_value(decisions)?,
            incidents: incidents.into_iter().filter(|one| one.closed_at_ms.is_none()).collect(),
            status,
        })
    }
}

/// Columns and lines of a sample that is printed.
const PRINTED: (usize, usize) = (100, 40);
/// Of how long events are counted.
const EVENTS_MS: u64 = 5 * 60_000;
/// Events, decisions and incidents that are asked for.
const EVENTS: usize = 500;
const DECISIONS: usize = 50;
const INCIDENTS: usize = 50;
