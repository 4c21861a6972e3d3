//! Attackers, and the scenarios they play. They adapt: who is refused goes on from the next address, and slower if that does not help.

use phalanx_learn::sketch::mix;
use phalanx_learn::{Detector, Event, Outcome, Step};
use phalanx_model::Confidence;

use crate::dice::Dice;
use crate::traffic::{
    BEGIN_MS, BROWSERS, CITIES, Client, FAR_AWAY, POPULAR_PASSWORD, Path, Request, low, page, tag,
};

/// All scenarios.
pub(crate) const SCENARIOS: [&str; 12] = [
    "thin-stuffing",
    "spraying",
    "enumeration",
    "idor",
    "scan",
    "rotating-flood",
    "campaign",
    "two-campaigns",
    "honest-week",
    "travel",
    "theft",
    "hostile-node",
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
    /// The last node lies.
    pub(crate) has_liar: bool,
    pub(crate) is_week: bool,
    /// Nothing is done about what is found, so that all stages of a campaign are played.
    pub(crate) is_watched: bool,
}

/// What an attacker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Stuff,
    Spray,
    Ask,
    Walk,
    Scan,
    Flood,
    Exploit,
    Take,
    LogInFarAway,
    UseSession,
    /// What the victim itself does before: no attack.
    VictimLogsIn,
    VictimReads,
}

/// One tool, and how it is used.
#[derive(Debug, Clone)]
pub(crate) struct Attacker {
    pub(crate) deed: Deed,
    /// Of which campaign it is part.
    pub(crate) campaign: usize,
    from_s: u64,
    until_s: u64,
    per_minute: u64,
    clients: Vec<Client>,
    /// Whether each request comes from another address.
    rotates: bool,
    at: usize,
    id: u64,
    /// Which node it begins with.
    first_node: u64,
    sent: u64,
    credit: u64,
    refused_in_row: u64,
    slower: u64,
}

impl Attacker {
    fn new(deed: Deed, span_s: std::ops::Range<u64>, per_minute: u64, clients: Vec<Client>, id: u64) -> Self {
        Self {
            deed,
            campaign: 0,
            from_s: span_s.start,
            until_s: span_s.end,
            per_minute,
            clients,
            rotates: false,
            at: 0,
            id,
            first_node: id,
            sent: 0,
            credit: 59,
            refused_in_row: 0,
            slower: 1,
        }
    }

    /// Begins with another node than its victim, but for one time in three.
    fn elsewhere(mut self, dice: &mut Dice) -> Self {
        self.first_node += dice.below(3);
        self
    }

    fn rotating(mut self) -> Self {
        self.rotates = true;
        self
    }

    pub(crate) fn is_honest(&self) -> bool {
        matches!(self.deed, Deed::VictimLogsIn | Deed::VictimReads)
    }

    /// What it does in a second; `own` is its number.
    pub(crate) fn second(
        &mut self,
        second: u64,
        own: usize,
        nodes: usize,
        dice: &mut Dice,
        out: &mut Vec<Request>,
    ) {
        if !(self.from_s..self.until_s).contains(&second) {
            return;
        }
        self.credit += self.per_minute;
        while self.credit >= 60 * self.slower {
            self.credit -= 60 * self.slower;
            let at_ms = BEGIN_MS + second * 1_000 + dice.below(1_000);
            let event = self.event(at_ms, dice);
            // Its requests are spread evenly over the nodes.
            let node = usize::try_from(self.sent + self.first_node).unwrap_or(0) % nodes.max(1);
            self.sent += 1;
            let attacker = (!self.is_honest()).then_some(own);
            out.push(Request { event, node, attacker });
        }
    }

    /// It sees the answer.
    pub(crate) fn sees(&mut self, is_refused: bool) {
        if !is_refused {
            self.refused_in_row = 0;
            return;
        }
        self.at += 1;
        self.refused_in_row += 1;
        if self.refused_in_row.is_multiple_of(20) && self.deed != Deed::Flood {
            self.slower = (2 * self.slower).min(8);
        }
    }

    fn event(&mut self, at_ms: u64, dice: &mut Dice) -> Event {
        if self.rotates {
            self.at += 1;
        }
        let client = self.clients.get(self.at % self.clients.len().max(1)).copied().unwrap_or_default();
        let fresh = mix(self.id << 32 | self.sent);
        let page = |path| page(at_ms, client, path);
        let login = |account, secret, outcome| Event {
            account: Some(account),
            secret: Some(secret),
            step: Step::Login(outcome),
            status: if outcome == Outcome::Passed { 302 } else { 401 },
            ..page(Path::Login)
        };
        match self.deed {
            Deed::Stuff => {
                let outcome = if dice.chance(15) { Outcome::Passed } else { Outcome::Failed };
                login(fresh, tag(fresh ^ 1), outcome)
            }
            Deed::Spray => {
                let event = login(fresh, tag(POPULAR_PASSWORD), Outcome::Failed);
                Event { software: Some(mix(dice.pick(&BROWSERS))), ..event }
            }
            Deed::Ask => Event { account: Some(fresh), step: Step::Lookup, ..page(Path::Reset) },
            Deed::Walk => Event {
                session: Some(mix(self.id)),
                account: Some(mix(self.id ^ 0xacc0)),
                ..page(Path::Order(2_000_000 + self.id * 10_000 + self.sent))
            },
            Deed::Scan => page(Path::Missing(fresh >> 16)),
            Deed::Flood => page(Path::Product(dice.below(200))),
            Deed::Exploit => {
                Event { status: 403, attack: Some(Confidence::High), ..page(Path::Weak(self.sent % 3)) }
            }
            Deed::Take => Event {
                session: Some(mix(self.id)),
                response_bytes: 40 << 20,
                ..page(Path::Product(self.sent % 10))
            },
            Deed::LogInFarAway => {
                let event = login(mix(self.id ^ 0x71c), tag(self.id), Outcome::Passed);
                Event { place: Some(FAR_AWAY), ..event }
            }
            Deed::VictimLogsIn => {
                let event = login(mix(self.id ^ 0x71c), tag(self.id), Outcome::Passed);
                Event { place: Some(CITIES[0]), ..event }
            }
            Deed::UseSession | Deed::VictimReads => {
                Event { session: Some(mix(self.id ^ 0x71d)), ..page(Path::Product(self.sent)) }
            }
        }
    }
}

/// The plan of a scenario; none if there is none of that name. `percent` scales how much attackers do.
pub(crate) fn plan(scenario: &str, seed: u64, nodes: usize, percent: u64) -> Option<Plan> {
    let mut dice = Dice::new(seed ^ 0xa77a);
    let each_node = u64::try_from(nodes).unwrap_or(1);
    let rate = |per_minute: u64| (per_minute * percent / 100).max(1);
    let start = QUIET_S + dice.below(30);
    let span = |seconds| start..start + seconds;
    let tool = 0x7001 + dice.below(1_000);
    let of = |deed, seconds, per_minute, clients| {
        Attacker::new(deed, span(seconds), rate(per_minute), clients, 1 + seed % 1_000)
    };
    let mut hosts = |count| clients(count, tool, &mut dice);
    let (seconds, expects, attackers) = match scenario {
        "thin-stuffing" => {
            // This rate is the scenario: it does not vary.
            let per_minute = 4 * each_node;
            let thin = Attacker::new(Deed::Stuff, span(300), per_minute, hosts(200), 1 + seed % 1_000);
            (300, vec![Detector::Stuffing], vec![thin.rotating()])
        }
        "spraying" => (900, vec![Detector::Spraying], vec![of(Deed::Spray, 900, 6, hosts(100)).rotating()]),
        "enumeration" => (600, vec![Detector::Enumeration], vec![of(Deed::Ask, 600, 24, hosts(6))]),
        "idor" => (300, vec![Detector::ObjectWalk], vec![of(Deed::Walk, 300, 30, hosts(2))]),
        "scan" => (180, vec![Detector::Scanning], vec![of(Deed::Scan, 180, 90, hosts(4))]),
        "rotating-flood" => {
            let per_minute = 60 * 5 * CAPACITY;
            let flood = Attacker::new(Deed::Flood, span(300), per_minute, hosts(300), 1 + seed % 1_000);
            (360, vec![Detector::Flood], vec![flood.rotating()])
        }
        "campaign" => (600, CAMPAIGN.to_vec(), campaign(0, start, tool, percent, &mut dice)),
        "two-campaigns" => {
            let mut both = campaign(0, start, tool, percent, &mut dice);
            both.extend(campaign(1, start + 20, tool + 5_000, percent, &mut dice));
            (620, CAMPAIGN.to_vec(), both)
        }
        "honest-week" => (7 * 86_400 - start, Vec::new(), Vec::new()),
        "travel" => {
            let victim = vec![Client { ip: 0x5300_0001, asn: 320, software: 1 }];
            let at_home = Attacker::new(Deed::VictimLogsIn, start - 600..start - 599, 1, victim, seed);
            let far_away = Attacker::new(Deed::LogInFarAway, span(1), 1, hosts(1), seed);
            (30, vec![Detector::ImpossibleTravel], vec![at_home, far_away.elsewhere(&mut dice)])
        }
        "theft" => {
            let victim = vec![Client { ip: 0x5300_0001, asn: 320, software: 1 }];
            let reads = Attacker::new(Deed::VictimReads, start - 120..start + 60, 4, victim, seed);
            let thief = Attacker::new(Deed::UseSession, span(120), 6, hosts(1), seed);
            (120, vec![Detector::SessionTheft], vec![reads, thief.elsewhere(&mut dice)])
        }
        // What the liar claims is built upon a real attack that is too thin for a case.
        "hostile-node" => {
            let thin = Attacker::new(Deed::Stuff, span(300), 2 * each_node, hosts(200), 1 + seed % 1_000);
            (300, Vec::new(), vec![thin.rotating()])
        }
        _ => return None,
    };
    Some(Plan {
        quiet_s: start,
        seconds: start + seconds,
        expects,
        attackers,
        has_liar: scenario == "hostile-node",
        is_week: scenario == "honest-week",
        is_watched: scenario.contains("campaign"),
    })
}

/// A scan, stuffing, exploits and the taking of data, from twelve addresses with one kind of software.
fn campaign(number: usize, start: u64, tool: u64, percent: u64, dice: &mut Dice) -> Vec<Attacker> {
    let hosts = clients(12, tool, dice);
    let of = |deed, from: u64, to: u64, per_minute: u64| {
        let id = 100 * (1 + u64::try_from(number).unwrap_or(0)) + dice.clone().below(90);
        let per_minute = (per_minute * percent / 100).max(1);
        let mut attacker =
            Attacker::new(deed, start + from..start + to, per_minute, hosts.clone(), id).rotating();
        attacker.campaign = number;
        attacker
    };
    vec![
        of(Deed::Scan, 0, 120, 60),
        of(Deed::Stuff, 120, 300, 40),
        of(Deed::Exploit, 300, 420, 20),
        of(Deed::Take, 420, 600, 12),
    ]
}

/// Addresses of hosters and of other people's machines.
fn clients(count: u32, software: u64, dice: &mut Dice) -> Vec<Client> {
    let asn = 500 + low(dice.below(20));
    let mut client = || Client { ip: 0x2d00_0000 + low(dice.below(0x00ff_ffff)), asn, software };
    (0..count).map(|_| client()).collect()
}

const CAMPAIGN: [Detector; 4] =
    [Detector::Scanning, Detector::Stuffing, Detector::Exploiting, Detector::Exfiltration];
/// Nodes know what is usual after ten minutes.
const QUIET_S: u64 = 660;
/// Requests a second that the shop can answer.
pub(crate) const CAPACITY: u64 = 60;
