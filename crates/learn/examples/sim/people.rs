//! Honest users: people at home, in offices and a university behind one address each, on the move behind a carrier's, a class that logs in
//! at once; crawlers, monitors, webhooks, and integrations whose password is out of date. What befalls all of them: rushes, outages, releases.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

use phalanx_learn::sketch::mix;
use phalanx_learn::{Event, Outcome, Place, Step};

use crate::dice::Dice;
use crate::traffic::{
    BEGIN_MS, BROWSERS, CITIES, CLASS_PASSWORD, Client, FAR_AWAY, POPULAR_PASSWORD, Path, Request, low, page,
    tag,
};

/// What befalls everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// What the shop depends on fails: seven of ten answers are errors, and slow.
    Outage,
    /// A broken release: nine of ten pages are gone.
    Broken,
    /// Nobody gets in.
    LockedOut,
    /// A release changes all paths: one of seven follows an old one.
    Release,
    /// Twenty times as many come.
    Rush,
    /// A cache is cold: answers take thirty times as long, and are four times as large.
    Unusual,
}

/// When what befalls everybody, in seconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calendar {
    /// Seven days, with nights.
    pub(crate) is_week: bool,
    pub(crate) troubles: Vec<(Trouble, Range<u64>)>,
}

impl Calendar {
    /// A week with one of each.
    pub(crate) fn week() -> Self {
        let at = |day: u64, hour: u64, minutes: u64| {
            let begin = day * 86_400 + hour * 3_600;
            begin..begin + minutes * 60
        };
        let troubles = vec![
            (Trouble::Outage, at(1, 11, 10)),
            (Trouble::Rush, at(2, 20, 20)),
            (Trouble::Broken, at(3, 11, 10)),
            (Trouble::LockedOut, at(3, 15, 10)),
            (Trouble::Release, at(4, 10, 60)),
        ];
        Self { is_week: true, troubles }
    }

    /// Whether failures of then are everybody's.
    pub(crate) fn is_trouble(&self, at_ms: u64) -> bool {
        self.troubles.iter().any(|(of, span)| *of != Trouble::Rush && around(span).contains(&at_ms))
    }

    /// Whether more than usual is no wonder then.
    pub(crate) fn is_unusual(&self, at_ms: u64) -> bool {
        self.troubles.iter().any(|(_, span)| around(span).contains(&at_ms))
    }

    fn has(&self, trouble: Trouble, second: u64) -> bool {
        self.troubles.iter().any(|(of, span)| *of == trouble && span.contains(&second))
    }
}

/// A time and some minutes after it, in Unix milliseconds.
fn around(span: &Range<u64>) -> Range<u64> {
    BEGIN_MS + span.start * 1_000..BEGIN_MS + (span.end + 180) * 1_000
}

/// All that is not an attack.
pub(crate) struct People {
    dice: Dice,
    /// Sessions that begin in an hour, in the mean.
    per_hour: u64,
    calendar: Calendar,
    visits: BinaryHeap<Visit>,
    begun: u64,
}

impl People {
    pub(crate) fn new(seed: u64, per_hour: u64, calendar: Calendar) -> Self {
        Self { dice: Dice::new(seed), per_hour, calendar, visits: BinaryHeap::new(), begun: 0 }
    }

    /// Who comes in a second, and what those do who are there.
    pub(crate) fn second(&mut self, second: u64, nodes: usize, out: &mut Vec<Request>) {
        let now_ms = BEGIN_MS + second * 1_000;
        let begun = out.len();
        for _ in 0..self.dice.in_a_second(self.rate(second)) {
            self.begun += 1;
            let visit = Visit::new(self.begun, now_ms, self.clock(second), &mut self.dice, nodes);
            self.visits.push(visit);
        }
        if self.class_begins(second) {
            for _ in 0..CLASS {
                self.begun += 1;
                let visit = Visit::new(self.begun, now_ms, self.clock(second), &mut self.dice, nodes);
                self.visits.push(visit.of_class(&mut self.dice));
            }
        }
        self.machines(second, now_ms, nodes, out);
        while self.visits.peek().is_some_and(|visit| visit.next_ms < now_ms + 1_000) {
            let Some(mut visit) = self.visits.pop() else { break };
            let event = visit.step(&mut self.dice);
            // Now and then another node is asked, as names are resolved again.
            let node = if self.dice.chance(100) { self.dice.place(nodes) } else { visit.node };
            out.push(Request { event, node, attacker: None });
            if visit.left > 0 {
                self.visits.push(visit);
            }
        }
        for request in out.iter_mut().skip(begun) {
            self.calendar.befall(second, &mut request.event, &mut self.dice);
        }
    }

    /// The time of day and week: short scenarios begin at ten in the morning.
    fn clock(&self, second: u64) -> u64 {
        if self.calendar.is_week { second } else { second + 36_000 }
    }

    fn rate(&self, second: u64) -> u64 {
        let times = if self.calendar.has(Trouble::Rush, second) { 20 } else { 1 };
        if !self.calendar.is_week {
            return self.per_hour * times;
        }
        let hour = usize::try_from(second / 3_600 % 24).unwrap_or(0);
        let percent = BY_HOUR.get(hour).copied().unwrap_or(100);
        self.per_hour * percent * times / 100
    }

    /// Once an hour, in school hours.
    fn class_begins(&self, second: u64) -> bool {
        let clock = self.clock(second);
        clock % 3_600 == 720 && (8..14).contains(&(clock / 3_600 % 24)) && clock / 86_400 % 7 < 5
    }

    fn machines(&mut self, second: u64, now_ms: u64, nodes: usize, out: &mut Vec<Request>) {
        // Some of them are with the providers that attackers rent machines of.
        let machine = |ip: u32, software| {
            let asn = if ip.is_multiple_of(2) { 900 + ip } else { 501 + 4 * ip };
            Client { ip: 0x0a01_0000 + ip, asn, software }
        };
        let mut ask = |event, at: u64| {
            let node = usize::try_from(at).unwrap_or(0) % nodes.max(1);
            out.push(Request { event, node, attacker: None });
        };
        // A verified crawler, and one that nobody knows but that is polite.
        if second.is_multiple_of(4) {
            let event = page(now_ms, machine(1, 101), Path::Product(second / 4 % 5_000));
            ask(Event { exempt: true, ..event }, second / 4);
        }
        if second.is_multiple_of(12) {
            ask(page(now_ms + 7, machine(2, 102), Path::Product(second / 12 % 5_000)), second / 12);
        }
        if second.is_multiple_of(30) {
            ask(page(now_ms + 11, machine(3, 103), Path::Home), second / 30);
        }
        // The busy ones work one hour of six in a week, so that it can be played in seconds.
        let is_busy = !self.calendar.is_week || (second / 3_600).is_multiple_of(6);
        // Two integrations with passwords out of date, one of them in an office.
        let office = Client { ip: 0x5100_0000, asn: 300, software: 107 };
        for (every, client, account) in [(60, machine(4, 104), 77), (5, office, 87)] {
            if second % every == every / 3 && (is_busy || every == 60) {
                let failed = Event {
                    account: Some(mix(account)),
                    secret: Some(tag(account + 1)),
                    step: Step::Login(Outcome::Failed),
                    status: 401,
                    ..page(now_ms + 13, client, Path::Login)
                };
                ask(failed, second / every);
            }
        }
        // A crawler whose list is old: a third of what it asks for is gone.
        if second % 2 == 1 && is_busy {
            let at = mix(second ^ 0xc4a) % 100_000;
            let path = if at % 10 < 3 { Path::Missing(1_000 + at) } else { Path::Product(at % 5_000) };
            ask(page(now_ms + 19, machine(6, 106), path), second / 2);
        }
        // Webhooks, one by one, and in bursts.
        let hooks = if second % 600 < 5 { 6 } else { u64::from(self.dice.chance(30)) };
        for _ in 0..hooks {
            ask(page(now_ms + 17, machine(5, 105), Path::Hook), self.dice.next() % 97);
        }
    }
}

impl Calendar {
    /// What becomes of an honest request.
    pub(crate) fn befall(&self, second: u64, event: &mut Event, dice: &mut Dice) {
        for (trouble, span) in &self.troubles {
            // What a release changes stays so.
            if *trouble == Trouble::Release && second >= span.start {
                event.endpoint = mix(event.endpoint);
                event.target = mix(event.target);
            }
            if !span.contains(&second) {
                continue;
            }
            let is_page = event.step == Step::Page && event.session.is_some();
            match trouble {
                Trouble::Outage if dice.chance(700) => {
                    event.status = 503;
                    event.latency_us = 5_000_000;
                    event.response_bytes = 300;
                    event.step = match event.step {
                        Step::Login(_) => Step::Login(Outcome::Unknown),
                        Step::Payment(_) => Step::Payment(Outcome::Unknown),
                        step => step,
                    };
                }
                Trouble::Unusual => {
                    event.latency_us *= 30;
                    event.response_bytes *= 3;
                }
                Trouble::Broken if is_page && dice.chance(900) => event.status = 404,
                Trouble::Release if is_page && dice.chance(140) => event.status = 404,
                Trouble::LockedOut if matches!(event.step, Step::Login(Outcome::Passed)) => {
                    (event.step, event.status) = (Step::Login(Outcome::Failed), 401);
                }
                _ => {}
            }
        }
    }
}

/// One session of one person.
struct Visit {
    next_ms: u64,
    number: u64,
    person: u64,
    client: Client,
    home: Client,
    away: Option<Client>,
    place: Place,
    node: usize,
    left: u64,
    done: u64,
    logs_in: bool,
    is_in: bool,
    mistypes: u64,
    is_pupil: bool,
    /// Attempts that a password manager makes on its own.
    retries: u64,
    buys: bool,
    product: u64,
}

impl Visit {
    fn new(number: u64, now_ms: u64, second: u64, dice: &mut Dice, nodes: usize) -> Self {
        let person = dice.below(PEOPLE);
        let (nature, hour) = (mix(person ^ 0x0e11), second / 3_600 % 24);
        let is_at_work = person % 10 < 3 && (8..18).contains(&hour) && second / 86_400 % 7 < 5;
        let browser = BROWSERS.get(usize::try_from(nature % 10).unwrap_or(0)).copied().unwrap_or(1);
        let on_the_phone = !is_at_work && dice.chance(450);
        let software = if on_the_phone { 11 + nature % 4 } else { browser };
        let carrier = low(nature % 4);
        let home = if person % 10 == 9 {
            // A university, behind one.
            Client { ip: UNIVERSITY, asn: 305, software }
        } else if is_at_work {
            // Three offices of some hundred people each, behind one address.
            let office = low(person % 3);
            Client { ip: 0x5100_0000 + 256 * office, asn: 300 + office, software }
        } else {
            Client { ip: 0x5200_0000 + low(nature % 0x00ff_ffff), asn: 310 + low(nature % 9), software }
        };
        // Behind eight addresses of each carrier are all of its customers.
        let ip = 0x6400_0000 + 256 * carrier + low(dice.below(8));
        let away = on_the_phone.then_some(Client { ip, asn: 400 + carrier, software });
        // The computer of one in five hundred is behind a distant network's exit.
        let is_tunnelled = nature % 500 == 0 && !on_the_phone;
        let city = CITIES.get(usize::try_from(nature % 4).unwrap_or(0)).copied();
        let mistypes = if dice.chance(10) { 3 } else { u64::from(dice.chance(50)) };
        Self {
            next_ms: now_ms + dice.below(1_000),
            number,
            person,
            client: away.filter(|_| dice.chance(600)).unwrap_or(home),
            home,
            away,
            place: city.filter(|_| !is_tunnelled).unwrap_or(FAR_AWAY),
            node: dice.place(nodes),
            left: 3 + dice.below(15),
            done: 0,
            logs_in: dice.chance(350),
            is_in: false,
            mistypes,
            is_pupil: false,
            retries: 0,
            buys: dice.chance(80),
            product: dice.below(200),
        }
    }

    /// One of thirty who log in within three minutes, in one room; some with what the teacher said.
    fn of_class(mut self, dice: &mut Dice) -> Self {
        let software = self.client.software;
        self.client = Client { ip: UNIVERSITY, asn: 305, software };
        (self.home, self.away) = (self.client, None);
        (self.logs_in, self.is_pupil, self.buys) = (true, true, false);
        self.next_ms += dice.below(180_000);
        self.mistypes = u64::from(dice.chance(200));
        self
    }

    fn step(&mut self, dice: &mut Dice) -> Event {
        let at_ms = self.next_ms;
        self.next_ms += if self.retries > 0 { 800 } else { 1_500 + dice.below(28_000) };
        self.left -= 1;
        self.done += 1;
        if let Some(away) = self.away.filter(|_| dice.chance(60)) {
            self.client = if self.client == away { self.home } else { away };
        }
        let mut event = self.action(at_ms, dice);
        event.session = Some(mix(self.number ^ 0x5e55));
        if self.is_in {
            event.account = Some(self.account());
        }
        event
    }

    fn action(&mut self, at_ms: u64, dice: &mut Dice) -> Event {
        let page = |path| page(at_ms, self.client, path);
        if self.logs_in && !self.is_in && self.done > 1 {
            return self.log_in(page(Path::Login), page(Path::Reset), dice);
        }
        if self.is_in && dice.chance(300) {
            return page(Path::Order(mix(self.person) % 1_000_000 + 997 * dice.below(4)));
        }
        if self.buys && self.left <= 1 {
            let is_refused = dice.chance(50);
            self.left += u64::from(is_refused);
            let step = Step::Payment(if is_refused { Outcome::Failed } else { Outcome::Passed });
            return Event { step, secret: Some(tag(self.person ^ self.left)), ..page(Path::Pay) };
        }
        if dice.chance(8) {
            return page(Path::Missing(dice.below(5)));
        }
        if dice.chance(250) {
            return page(Path::Asset(dice.below(40)));
        }
        if self.done == 1 {
            return page(Path::Home);
        }
        // The next one in the list, or one of the popular ones.
        self.product =
            if dice.chance(300) { self.product + 1 } else { dice.below(200) * dice.below(200) / 200 };
        let event = page(Path::Product(self.product));
        Event { response_bytes: 15_000 + dice.below(20_000), ..event }
    }

    fn log_in(&mut self, event: Event, reset: Event, dice: &mut Dice) -> Event {
        let account = Some(self.account());
        self.left += 1;
        if self.mistypes == 0 {
            self.is_in = true;
            // One of two hundred has the password that everybody has.
            let own = if self.person % 200 == 7 { POPULAR_PASSWORD } else { self.person };
            let secret = Some(tag(own));
            let step = Step::Login(Outcome::Passed);
            return Event { step, account, secret, place: Some(self.place), status: 302, ..event };
        }
        if self.retries > 0 {
            self.retries -= 1;
        } else if dice.chance(150) {
            self.retries = 3;
        }
        self.mistypes -= u64::from(self.retries == 0);
        if self.mistypes == 1 && self.retries == 0 {
            return Event { step: Step::Lookup, account, ..reset };
        }
        let wrong = match dice.below(100) {
            0 | 1 => POPULAR_PASSWORD,
            _ if self.is_pupil => CLASS_PASSWORD,
            _ => self.person ^ 0xbad,
        };
        let step = Step::Login(Outcome::Failed);
        Event { step, account, secret: Some(tag(wrong)), status: 401, ..event }
    }

    fn account(&self) -> u64 {
        mix(self.person ^ 0xacc0)
    }
}

impl Ord for Visit {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.next_ms, other.number).cmp(&(self.next_ms, self.number))
    }
}

impl PartialOrd for Visit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Visit {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Visit {}

const PEOPLE: u64 = 4_000;
/// Per cent of the mean, by hour.
const BY_HOUR: [u64; 24] = [
    30, 20, 15, 10, 10, 20, 50, 90, 160, 170, 150, 130, 140, 130, 120, 120, 130, 140, 150, 170, 180, 150, 90,
    55,
];
/// Pupils of a class.
const CLASS: u64 = 30;
const UNIVERSITY: u32 = 0x51ff_0001;
