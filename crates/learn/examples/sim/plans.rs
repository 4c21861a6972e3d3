//! Scenarios: who attacks when, and what befalls everybody.

use phalanx_learn::Detector;

use crate::attackers::{Attacker, Deed};
use crate::dice::Dice;
use crate::people::{Calendar, Trouble};
use crate::traffic::{Client, low};

/// All scenarios.
pub(crate) const SCENARIOS: [&str; 33] = [
    "thin-stuffing",
    "stuffing",
    "proxied-stuffing",
    "spraying",
    "slow-spraying",
    "enumeration",
    "idor",
    "scan",
    "scraping",
    "carding",
    "error-storm",
    "exfiltration",
    "rotating-flood",
    "campaign",
    "two-campaigns",
    "short-campaign",
    "travel",
    "theft",
    "new-endpoint",
    "behind-nat",
    "walk-behind-nat",
    "outage",
    "outage-and-stuffing",
    "broken-release",
    "locked-out",
    "locked-out-and-stuffing",
    "release",
    "rush",
    "unusual",
    "honest-day",
    "honest-week",
    "hostile-node",
    "hostile-node-and-stuffing",
];

/// What a scenario consists of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// Quiet time before, in which nodes learn what is usual.
    pub(crate) quiet_s: u64,
    /// How long all of it takes.
    pub(crate) seconds: u64,
    /// What ought to be found.
    pub(crate) expects: Vec<Detector>,
    pub(crate) attackers: Vec<Attacker>,
    pub(crate) calendar: Calendar,
    /// Hours of history that nodes learned from before.
    pub(crate) history_h: u64,
    /// The last node lies.
    pub(crate) has_liar: bool,
    /// Nothing is done about what is found, so that all stages of a campaign are played.
    pub(crate) is_watched: bool,
}

/// The plan of a scenario; none if there is none of that name. `percent` scales how much attackers do.
pub(crate) fn plan(scenario: &str, seed: u64, nodes: usize, percent: u64) -> Option<Plan> {
    let mut dice = Dice::new(seed ^ 0xa77a);
    let start = QUIET_S + dice.below(30);
    let tool = 0x7001 + dice.below(1_000);
    let mut plan = Plan { quiet_s: start, is_watched: scenario.contains("campaign"), ..Plan::default() };
    let seconds = campaign_plan(scenario, &mut plan, tool, percent, &mut dice)
        .or_else(|| honest_plan(scenario, &mut plan))
        .or_else(|| single_plan(scenario, &mut plan, Known { seed, nodes, percent, tool }, &mut dice))?;
    plan.seconds = start + seconds;
    Some(plan)
}

#[derive(Clone, Copy)]
struct Known {
    seed: u64,
    nodes: usize,
    percent: u64,
    tool: u64,
}

/// Attacks of one kind. Says how long it takes.
fn single_plan(scenario: &str, plan: &mut Plan, known: Known, dice: &mut Dice) -> Option<u64> {
    let Known { seed, nodes, percent, tool } = known;
    let start = plan.quiet_s;
    let each_node = u64::try_from(nodes).unwrap_or(1);
    let id = 1 + seed % 1_000;
    let of = |deed, seconds: u64, per_minute: u64, clients| {
        Attacker::new(deed, start..start + seconds, (per_minute * percent / 100).max(1), clients, id)
    };
    // These rates are the scenario: they do not vary.
    let fixed = |deed, seconds: u64, per_minute, clients| {
        Attacker::new(deed, start..start + seconds, per_minute, clients, id)
    };
    let mut hosts = |count| clients(count, tool, dice);
    let in_office = vec![Client { ip: 0x51ff_0001, asn: 305, software: tool }];
    let (seconds, expects, attackers) = match scenario {
        "thin-stuffing" => {
            (300, Detector::Stuffing, vec![fixed(Deed::Stuff, 300, 4 * each_node, hosts(200)).rotating()])
        }
        "stuffing" | "outage-and-stuffing" | "locked-out-and-stuffing" => {
            // Who takes his time has it.
            let seconds = if percent < 20 { 600 } else { 300 };
            (seconds, Detector::Stuffing, vec![of(Deed::Stuff, seconds, 60, hosts(40)).rotating()])
        }
        // Through machines of people, in people's networks.
        "proxied-stuffing" => {
            let of_people =
                |client: Client| Client { ip: client.ip | 0x5200_0000, asn: 310 + client.ip % 9, ..client };
            let clients = hosts(200).into_iter().map(of_people).collect();
            (300, Detector::Stuffing, vec![of(Deed::Stuff, 300, 60, clients).rotating()])
        }
        "spraying" => (300, Detector::Spraying, vec![of(Deed::Spray, 300, 60, hosts(100)).rotating()]),
        "slow-spraying" => (900, Detector::Spraying, vec![of(Deed::Spray, 900, 6, hosts(100)).rotating()]),
        "enumeration" => (300, Detector::Enumeration, vec![of(Deed::Ask, 300, 60, hosts(6))]),
        "idor" => (300, Detector::ObjectWalk, vec![of(Deed::Walk, 300, 60, hosts(2))]),
        "walk-behind-nat" => (300, Detector::ObjectWalk, vec![of(Deed::Walk, 300, 60, in_office)]),
        "scan" => (180, Detector::Scanning, vec![of(Deed::Scan, 180, 90, hosts(4))]),
        "scraping" => (900, Detector::Scraping, vec![of(Deed::Scrape, 900, 120, hosts(5))]),
        "carding" => (600, Detector::Carding, vec![of(Deed::Card, 600, 30, hosts(8)).rotating()]),
        "error-storm" => (300, Detector::ErrorStorm, vec![of(Deed::Crash, 300, 120, hosts(1))]),
        "exfiltration" => (300, Detector::Exfiltration, vec![of(Deed::Take, 300, 12, hosts(3))]),
        "new-endpoint" => (240, Detector::NewEndpoint, vec![of(Deed::Reach, 240, 6, hosts(1))]),
        "behind-nat" => (300, Detector::Stuffing, vec![of(Deed::Stuff, 300, 60, in_office)]),
        "rotating-flood" => {
            (360, Detector::Flood, vec![fixed(Deed::Flood, 300, 60 * 5 * CAPACITY, hosts(300)).rotating()])
        }
        "travel" | "theft" => return Some(victim_plan(scenario, plan, seed, hosts(1), dice)),
        "hostile-node-and-stuffing" => {
            plan.has_liar = true;
            (300, Detector::Stuffing, vec![of(Deed::Stuff, 300, 60, hosts(40)).rotating()])
        }
        // What the liar claims is built upon a real attack that is too thin for a case.
        "hostile-node" => {
            plan.has_liar = true;
            plan.attackers = vec![fixed(Deed::Stuff, 300, 2 * each_node, hosts(200)).rotating()];
            return Some(300);
        }
        _ => return None,
    };
    plan.expects.push(expects);
    plan.attackers = attackers;
    let whole = start..start + seconds;
    match scenario {
        "new-endpoint" => plan.history_h = 26,
        "outage-and-stuffing" => {
            plan.calendar.troubles.push((Trouble::Outage, whole));
            plan.expects.push(Detector::Outage);
        }
        "locked-out-and-stuffing" => plan.calendar.troubles.push((Trouble::LockedOut, whole)),
        _ => {}
    }
    Some(seconds)
}

fn victim_plan(scenario: &str, plan: &mut Plan, seed: u64, thief: Vec<Client>, dice: &mut Dice) -> u64 {
    let start = plan.quiet_s;
    let victim = vec![Client { ip: 0x5300_0001, asn: 320, software: 1 }];
    if scenario == "travel" {
        let at_home = Attacker::new(Deed::VictimLogsIn, start - 600..start - 599, 1, victim, seed);
        let far_away = Attacker::new(Deed::LogInFarAway, start..start + 1, 1, thief, seed);
        plan.expects.push(Detector::ImpossibleTravel);
        plan.attackers = vec![at_home, far_away.elsewhere(dice)];
        return 30;
    }
    let reads = Attacker::new(Deed::VictimReads, start - 120..start + 60, 4, victim, seed);
    let thief = Attacker::new(Deed::UseSession, start..start + 120, 6, thief, seed);
    plan.expects.push(Detector::SessionTheft);
    plan.attackers = vec![reads, thief.elsewhere(dice)];
    120
}

/// Nobody attacks.
fn honest_plan(scenario: &str, plan: &mut Plan) -> Option<u64> {
    let start = plan.quiet_s;
    let span = start..start + 600;
    let trouble = match scenario {
        "honest-week" => {
            plan.calendar = Calendar::week();
            return Some(7 * 86_400 - start);
        }
        "honest-day" => return Some(86_400 - start),
        "outage" => Trouble::Outage,
        "broken-release" => Trouble::Broken,
        "locked-out" => Trouble::LockedOut,
        "release" => Trouble::Release,
        "rush" => Trouble::Rush,
        "unusual" => Trouble::Unusual,
        _ => return None,
    };
    if matches!(trouble, Trouble::Outage | Trouble::Broken) {
        plan.expects.push(Detector::Outage);
    }
    if trouble == Trouble::Unusual {
        plan.expects.push(Detector::Unusual);
    }
    if matches!(trouble, Trouble::Unusual | Trouble::Release) {
        plan.history_h = 26;
    }
    plan.calendar.troubles.push((trouble, span));
    Some(900)
}

fn campaign_plan(scenario: &str, plan: &mut Plan, tool: u64, percent: u64, dice: &mut Dice) -> Option<u64> {
    let start = plan.quiet_s;
    let seconds = match scenario {
        "campaign" => 600,
        "two-campaigns" => 620,
        "short-campaign" => 85,
        _ => return None,
    };
    let stages = if scenario == "short-campaign" { SHORT_STAGES } else { STAGES };
    plan.expects = CAMPAIGN.to_vec();
    plan.attackers = campaign(0, start, tool, (percent, &stages), dice);
    if scenario == "two-campaigns" {
        plan.attackers.extend(campaign(1, start + 20, tool + 5_000, (percent, &stages), dice));
    }
    Some(seconds)
}

/// A scan, stuffing, exploits and the taking of data, from twelve addresses with one kind of software.
fn campaign(
    number: usize,
    start: u64,
    tool: u64,
    (percent, stages): (u64, &[(Deed, u64, u64, u64)]),
    dice: &mut Dice,
) -> Vec<Attacker> {
    let hosts = clients(12, tool, dice);
    let of = |(deed, from, to, per_minute): (Deed, u64, u64, u64)| {
        let id = 100 * (1 + u64::try_from(number).unwrap_or(0)) + dice.clone().below(90);
        let per_minute = (per_minute * percent / 100).max(1);
        Attacker::new(deed, start + from..start + to, per_minute, hosts.clone(), id)
            .rotating()
            .of_campaign(number)
    };
    stages.iter().copied().map(of).collect()
}

/// Addresses of hosters and of other people's machines.
fn clients(count: u32, software: u64, dice: &mut Dice) -> Vec<Client> {
    // Tools of unrelated attackers are from unrelated hosters.
    let asn = 500 + low(software / 5_000 % 2) + 2 * low(dice.below(20));
    let mut client = || Client { ip: 0x2d00_0000 + low(dice.below(0x00ff_ffff)), asn, software };
    (0..count).map(|_| client()).collect()
}

/// What a campaign does, from and until which second, and how often in a minute.
const STAGES: [(Deed, u64, u64, u64); 4] = [
    (Deed::Scan, 0, 120, 60),
    (Deed::Stuff, 120, 300, 40),
    (Deed::Exploit, 300, 420, 20),
    (Deed::Take, 420, 600, 12),
];
/// One in a hurry.
const SHORT_STAGES: [(Deed, u64, u64, u64); 4] = [
    (Deed::Scan, 0, 20, 120),
    (Deed::Stuff, 20, 45, 60),
    (Deed::Exploit, 45, 65, 45),
    (Deed::Take, 65, 85, 30),
];
const CAMPAIGN: [Detector; 4] =
    [Detector::Scanning, Detector::Stuffing, Detector::Exploiting, Detector::Exfiltration];
/// Nodes know what is usual after ten minutes.
const QUIET_S: u64 = 660;
/// Requests a second that the shop can answer.
pub(crate) const CAPACITY: u64 = 60;
