//! The traffic simulator: honest users and attackers before nodes with real learners that tell each other once a second, and one
//! correlator. Virtual time; equal seeds give equal runs. `cargo xtask sim` runs it; `docs/guide/simulator.md` explains it.
//!
//! ```text
//! people, attackers -> Request -> order? -> Learner of a node -> Signal -> Correlator, orders -> Report
//! ```

mod dice;
mod traffic;

mod attackers;
mod people;
mod plans;

mod desk;
mod report;
mod world;

mod live;

mod cost;
mod tables;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use phalanx_learn::Detectors;
use phalanx_learn::respond::Without;
use world::{Settings, play};

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("sim: {fault}\n\n{USAGE}\nscenarios: all, {}", plans::SCENARIOS.join(", "));
            ExitCode::from(2)
        }
    }
}

fn run(mut words: impl Iterator<Item = String>) -> Result<(), String> {
    let scenario = words.next().ok_or("which scenario?")?;
    let mut settings = Settings {
        scenario,
        seed: 1,
        nodes: 3,
        sharing: true,
        honest: 100,
        attack: 100,
        answers: true,
        without: Without::Nothing,
        after_s: 0,
        detectors: Detectors::default(),
        tells: false,
    };
    let (mut as_json, mut seeds, mut live) = (false, 5, None);
    while let Some(word) = words.next() {
        if word == "--json" || word == "--tell" {
            as_json |= word == "--json";
            settings.tells |= word == "--tell";
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = |least: u64, most: u64| {
            let number = value.parse().ok().filter(|number| (least..=most).contains(number));
            number.ok_or_else(|| format!("{word} takes a number from {least} to {most}, not `{value}`"))
        };
        match word.as_str() {
            "--seed" => settings.seed = number(0, u64::MAX)?,
            "--seeds" => seeds = number(1, 1_000)?,
            "--nodes" => settings.nodes = usize::try_from(number(1, 16)?).unwrap_or(3),
            "--honest" => settings.honest = number(1, 1_000)?,
            "--live" => live = Some(number(0, 700)?),
            "--attack" => settings.attack = number(1, 1_000)?,
            "--after" => settings.after_s = number(0, 86_400)?,
            "--without" => (settings.answers, settings.without) = without(&value)?,
            "--sharing" if value == "on" || value == "off" => settings.sharing = value == "on",
            "--sharing" => return Err(format!("--sharing is on or off, not `{value}`")),
            _ => return Err(format!("what is `{word}`?")),
        }
    }
    if let Some(lead_s) = live {
        return live::play(&settings, lead_s);
    }
    match settings.scenario.as_str() {
        "all" => return tables::all(&settings, seeds),
        "matrix" => return tables::matrix(&settings, seeds),
        "rates" => return tables::rates(&settings, seeds),
        "ablation" => return tables::ablation(&settings, seeds),
        "cost" => return cost::measure(&settings),
        _ => {}
    }
    let report = play(&settings).ok_or_else(|| format!("there is no scenario `{}`", settings.scenario))?;
    if as_json {
        println!("{}", report.json(&settings));
    } else {
        print!("{}", report.text());
    }
    Ok(())
}

/// Whether anything is done, and without which means.
fn without(word: &str) -> Result<(bool, Without), String> {
    match word {
        "answers" => Ok((false, Without::Nothing)),
        "trails" => Ok((true, Without::Trails)),
        "systems" => Ok((true, Without::Systems)),
        "routes" => Ok((true, Without::Routes)),
        _ => Err(format!("--without takes answers, trails, systems or routes, not `{word}`")),
    }
}

const USAGE: &str = "\
usage: cargo xtask sim SCENARIO [--seed S] [--sharing on|off] [--nodes N] [--honest PERCENT] [--attack PERCENT] [--after SECONDS]
                          [--without answers|trails|systems|routes] [--json] [--tell]
       cargo xtask sim all [--seeds COUNT]      every scenario, with and without sharing, as tables
       cargo xtask sim matrix [--seeds COUNT]   precision and recall with more and fewer honest users and attackers
       cargo xtask sim rates [--seeds COUNT]    the time until an attack is named, by its rate
       cargo xtask sim ablation [--seeds COUNT] what each means against attackers that adapt is worth
       cargo xtask sim SCENARIO --real [--seed S] [--sharing on|off] [--json]   against three real nodes; --help tells more
       cargo xtask sim cost                     what an event and a signal cost
";
