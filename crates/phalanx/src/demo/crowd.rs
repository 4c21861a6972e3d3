//! `phalanx demo`: visitors and attackers keep coming at a human pace, until Ctrl-C.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use tokio::time::sleep;

use super::attacks::{ATTACKS, VARIANTS};
use super::honest::ERRANDS;
use super::http::Shot;
use super::stage::{Node, Stage};

/// Prints where to look and lets the crowd in. Returns only if a process ends that should not.
pub(super) async fn keep_coming(stage: &mut Stage) -> anyhow::Result<ExitCode> {
    welcome(stage)?;
    let doors: Vec<Door> = stage.nodes.iter().map(Door::of).collect();
    tokio::select! {
        last_words = stage.first_end() => bail!("{last_words}"),
        result = try_join_all((0..VISITORS).map(|_| visitor(&doors))) => { result?; }
        result = attackers(&doors) => result?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the crowd needs to know of a node.
#[derive(Debug, Clone)]
struct Door {
    site: &'static str,
    at: std::net::SocketAddr,
}

impl Door {
    fn of(node: &Node) -> Self {
        Self { site: node.site, at: node.listen }
    }
}

fn welcome(stage: &Stage) -> anyhow::Result<()> {
    let first = stage.nodes.first().context("no node")?;
    println!("\nconsole     {}\n", first.console);
    println!("the shop, unprotected  http://{}", stage.shop);
    for node in &stage.nodes {
        println!("protected at {:<9} http://{}", node.site, node.listen);
    }
    println!("\ntry: curl -i 'http://{}/search?q=%3Cscript%3Ealert(1)%3C/script%3E'", first.listen);
    println!("why: {} explain ID --state {}", own_program()?.display(), first.state.display());
    println!("\nVisitors and attackers are on their way. Ctrl-C ends everything.\n");
    Ok(())
}

/// This program as one would type it here.
fn own_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let here = std::env::current_dir()?;
    Ok(program.strip_prefix(&here).map(Path::to_owned).unwrap_or(program))
}

/// Honest people, one after the other: each has one errand, at some site.
async fn visitor(doors: &[Door]) -> anyhow::Result<()> {
    loop {
        let client = IpAddr::from([203, 0, 113, u8::try_from(1 + below(200)).unwrap_or(1)]);
        let (Some(errand), Some(door)) = (one_of(&ERRANDS), one_of(doors)) else { bail!("nothing to do") };
        for step in (errand.steps)() {
            let shot = step.shot().from(client);
            if let Err(error) = step.check(&shot, door.at).await {
                println!("{:<5} {client:<22} visitor: {}: {error:#}", door.site, errand.name);
            }
            sleep(Duration::from_millis(150 + below(600))).await;
        }
    }
}

/// Attackers: each tries one attack until it is refused everywhere, and gives up.
async fn attackers(doors: &[Door]) -> anyhow::Result<()> {
    let mut number = 0u16;
    loop {
        sleep(Duration::from_millis(1_500 + below(3_000))).await;
        number = number.wrapping_add(1);
        let client = attacker(number);
        let (Some(attack), Some(door)) = (one_of(&ATTACKS), one_of(doors)) else { bail!("nothing to do") };
        let mut statuses = Vec::new();
        for variant in 1..VARIANTS {
            statuses.push(answer(&attack.shot(variant).from(client), door).await);
            sleep(Duration::from_millis(300 + below(700))).await;
        }
        let mut elsewhere = Vec::new();
        for other in doors.iter().filter(|other| other.site != door.site) {
            elsewhere.push(format!("{} {}", other.site, answer(&Shot::get("/").from(client), other).await));
        }
        println!(
            "{:<5} {client:<22} {}: {}; then at {}",
            door.site,
            attack.name,
            statuses.join(" "),
            elsewhere.join(", ")
        );
    }
}

/// The reply's status. A ban that arrives closes its actor's connections, so there may be none.
async fn answer(shot: &Shot, door: &Door) -> String {
    match shot.send(door.at).await {
        Ok(reply) => reply.status().to_string(),
        Err(_) => "cut off".to_owned(),
    }
}

/// The n-th attacker's address: documentation networks in turn.
fn attacker(number: u16) -> IpAddr {
    let host = u8::try_from(1 + (number / 3) % 250).unwrap_or(1);
    match number % 3 {
        0 => IpAddr::from([192, 0, 2, host]),
        1 => IpAddr::from([198, 51, 100, host]),
        _ => IpAddr::from([0x2001, 0x0db8, 0x0bad, number, 0, 0, 0, 1]),
    }
}

fn one_of<T>(choices: &[T]) -> Option<&T> {
    let index = below(u64::try_from(choices.len()).ok()?);
    choices.get(usize::try_from(index).ok()?)
}

/// A random number below `limit`; 0 if that is 0.
fn below(limit: u64) -> u64 {
    phalanx_trust::random_u64().checked_rem(limit).unwrap_or_default()
}

/// How many honest people are about at any time.
const VISITORS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attackers_come_from_documentation_networks_only() {
        let networks = ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"];
        let networks = networks.map(|text| text.parse::<phalanx_model::Prefix>().unwrap());
        for number in 0..=u16::MAX {
            let client = attacker(number);
            assert!(networks.iter().any(|network| network.contains(&client)), "{client}");
        }
    }
}
