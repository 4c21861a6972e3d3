//! Attackers. They adapt to what they see: who is refused goes on from the next address and as somebody else, then with the software of
//! everybody and with harmless pages between, then slower.

use phalanx_learn::sketch::mix;
use phalanx_learn::{Event, Method, Outcome, Step};
use phalanx_model::Confidence;

use crate::dice::Dice;
use crate::traffic::{
    BEGIN_MS, BROWSERS, CITIES, Client, FAR_AWAY, POPULAR_PASSWORD, Path, Request, page, tag,
};

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
    Scrape,
    Card,
    /// Makes the server fail.
    Crash,
    /// Uses a way in that nobody used before.
    Reach,
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
    refused: u64,
    refused_in_row: u64,
    slower: u64,
    /// It looks like everybody.
    is_disguised: bool,
}

impl Attacker {
    pub(crate) fn new(
        deed: Deed,
        span_s: std::ops::Range<u64>,
        per_minute: u64,
        clients: Vec<Client>,
        id: u64,
    ) -> Self {
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
            refused: 0,
            refused_in_row: 0,
            slower: 1,
            is_disguised: false,
        }
    }

    /// Begins with another node than its victim, but for one time in three.
    pub(crate) fn elsewhere(mut self, dice: &mut Dice) -> Self {
        self.first_node += dice.below(3);
        self
    }

    pub(crate) fn rotating(mut self) -> Self {
        self.rotates = true;
        self
    }

    /// Of a campaign.
    pub(crate) fn of_campaign(mut self, number: usize) -> Self {
        self.campaign = number;
        self
    }

    /// From where it may come.
    pub(crate) fn clients(&self) -> &[Client] {
        &self.clients
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
        self.refused += 1;
        self.refused_in_row += 1;
        if self.deed == Deed::Flood {
            return;
        }
        self.is_disguised |= self.refused_in_row >= 10;
        if self.refused_in_row.is_multiple_of(20) {
            self.slower = (2 * self.slower).min(8);
        }
    }

    fn event(&mut self, at_ms: u64, dice: &mut Dice) -> Event {
        if self.rotates {
            self.at += 1;
        }
        let mut client = self.clients.get(self.at % self.clients.len().max(1)).copied().unwrap_or_default();
        if self.is_disguised {
            client.software = 1 + self.id % 4;
        }
        // What it is refused as, it comes back as another of.
        let again = if self.rotates { 0 } else { u64::try_from(self.at).unwrap_or(0) };
        let session = mix(mix(self.id) ^ again);
        let fresh = mix(self.id << 32 | self.sent);
        let page = |path| page(at_ms, client, path);
        let is_between = self.is_disguised && dice.chance(500);
        if is_between && matches!(self.deed, Deed::Scan | Deed::Ask | Deed::Card | Deed::Crash) {
            return page(Path::Product(dice.below(200)));
        }
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
                // After some refusals with one password, the next one.
                let outcome = if dice.chance(10) { Outcome::Passed } else { Outcome::Failed };
                let event = login(fresh, tag(POPULAR_PASSWORD + self.refused / 20), outcome);
                Event { software: Some(mix(dice.pick(&BROWSERS))), ..event }
            }
            Deed::Ask => Event { account: Some(fresh), step: Step::Lookup, ..page(Path::Reset) },
            Deed::Walk => {
                // Disguised, it goes over eight at a time in another order.
                let step = if self.is_disguised { self.sent ^ (fresh & 7) } else { self.sent };
                Event {
                    session: Some(session),
                    account: Some(mix(session ^ 0xacc0)),
                    ..page(Path::Order(2_000_000 + self.id * 10_000 + step))
                }
            }
            Deed::Scan => page(Path::Missing(fresh >> 16)),
            Deed::Flood => page(Path::Product(dice.below(200))),
            Deed::Exploit => {
                Event { status: 403, attack: Some(Confidence::High), ..page(Path::Weak(self.sent % 3)) }
            }
            Deed::Take => {
                let size = 40 << 20 >> (self.refused / 10).min(4);
                Event { session: Some(session), response_bytes: size, ..page(Path::Product(self.sent % 10)) }
            }
            Deed::Scrape => page(Path::Product(self.sent)),
            Deed::Card => {
                let outcome = if dice.chance(50) { Outcome::Passed } else { Outcome::Failed };
                Event { step: Step::Payment(outcome), secret: Some(tag(fresh)), ..page(Path::Pay) }
            }
            Deed::Crash => Event { status: 500, latency_us: 900_000, ..page(Path::Search(self.sent % 50)) },
            Deed::Reach => Event {
                method: Method::Delete,
                endpoint: mix(0xde1 + self.sent % 3),
                session: Some(session),
                ..page(Path::Order(self.sent))
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
