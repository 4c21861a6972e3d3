//! The state of all countermeasures, and what changes it.

use std::collections::BTreeMap;

use phalanx_model::{Actor, Confidence, Prefix};

use super::ladder::{Measure, Scope, Target, ladder};
use super::limits::Limits;
use crate::correlate::Gravity;
use crate::detect::Detector;
use crate::event::{Subject, SubjectKind};

/// An incident, as far as it matters for what is done.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// Its number.
    pub id: u64,
    /// How bad it is.
    pub gravity: Gravity,
    /// Who is suspected in it.
    pub suspects: &'a [Suspect],
}

/// Somebody or something that a detector named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// By what it is known to the learner.
    pub subject: Subject,
    /// What found it.
    pub detector: Detector,
    /// How sure that is.
    pub confidence: Confidence,
    /// Whether it may be acted on.
    pub decisive: bool,
    /// When something was seen of it last that was not refused, in Unix milliseconds.
    pub last_ms: u64,
    /// Whom an order could be about to meet it; one for each scope at most.
    pub candidates: Vec<Candidate>,
}

/// A possible target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub target: Target,
    /// Who else is behind it; none if nobody knows, and then nothing wider than a client is ordered about it, but for a challenge of software.
    pub honest: Option<Honest>,
    /// It is on the allow-list, an operator's, a forwarder's, a verified crawler's: nothing is ever ordered about it.
    pub exempt: bool,
}

/// Honest traffic behind a target, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Honest {
    /// Actors with good traffic lately.
    pub actors: u32,
    /// Their share of all good traffic, in millionths.
    pub share_ppm: u32,
}

/// How known-good actors fared under an order, since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Toll {
    /// Those who came.
    pub came: u32,
    /// Those of them who were refused, or failed the proof.
    pub refused: u32,
}

/// An order's number; never used twice by one responder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

/// A countermeasure in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its number.
    pub id: OrderId,
    /// The incident that it answers.
    pub case: u64,
    /// The suspect.
    pub subject: Subject,
    /// What found it.
    pub detector: Detector,
    /// What is done.
    pub measure: Measure,
    /// About whom.
    pub target: Target,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
    /// Until when.
    pub until_ms: u64,
    /// What it costs honest traffic, in millionths: an estimate.
    pub pain_ppm: u64,
    rung: usize,
    last_ms: u64,
}

/// Something that is to be done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The incident.
    pub case: u64,
    /// When it was decided, in Unix milliseconds.
    pub at_ms: u64,
    /// What.
    pub act: Act,
    /// Why, in plain words.
    pub reason: String,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Put this in force.
    Order(Order),
    /// Let it hold longer.
    Renew(Order),
    /// End it now.
    Withdraw(Order),
    /// It has ended by itself.
    Ended(Order),
    /// Nothing: nothing that would help may be done.
    Nothing(Subject),
}

/// What was tried against one suspect of one incident.
#[derive(Debug, Clone, Default)]
struct Thread {
    /// The rung that was tried last.
    rung: Option<usize>,
    /// When.
    at_ms: u64,
    /// How often something was ordered.
    tried: u32,
    /// Rungs from this one on hurt honest traffic, until then.
    barred: Option<(usize, u64)>,
    /// For what evidence it was said last that nothing can be done.
    told_ms: Option<u64>,
}

/// All countermeasures of a fleet.
#[derive(Debug, Default)]
pub struct Responder {
    limits: Limits,
    orders: BTreeMap<OrderId, Order>,
    threads: BTreeMap<(u64, Subject), Thread>,
    /// Incidents whose countermeasures an operator ended.
    undone: BTreeMap<u64, u64>,
    last_id: u64,
}

impl Responder {
    /// Within these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes other limits; orders in force stay as they are.
    pub fn tune(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The orders in force, oldest first.
    pub fn orders(&self) -> impl Iterator<Item = &Order> {
        self.orders.values()
    }

    /// How much is kept of what was ordered and tried.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.orders.len() + self.threads.len() + self.undone.len()
    }

    /// What is to be done about an incident as it stands now.
    pub fn consider(&mut self, case: &Case<'_>, now_ms: u64, out: &mut Vec<Step>) {
        self.tick(now_ms, out);
        if self.undone.contains_key(&case.id) {
            return;
        }
        for suspect in case.suspects.iter().take(SUSPECTS_MAX) {
            if !suspect.decisive || suspect.confidence == Confidence::Low {
                continue;
            }
            self.answer(case, suspect, now_ms, out);
        }
    }

    /// Ends what is over.
    pub fn tick(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        let begun = out.len();
        let over: Vec<OrderId> =
            self.orders.values().filter(|order| order.until_ms <= now_ms).map(|order| order.id).collect();
        for order in over.into_iter().filter_map(|id| self.orders.remove(&id)) {
            let reason = format!("nothing new was seen of {} until its end", order.target);
            out.push(Step { case: order.case, at_ms: now_ms, act: Act::Ended(order), reason });
        }
        let quiet_ms = self.limits.flood_over_ms;
        self.withdraw(now_ms, out, |order| {
            let is_over =
                order.detector == Detector::Flood && now_ms >= order.last_ms.saturating_add(quiet_ms);
            is_over.then(|| format!("the flood is over: nothing was seen of it for {} s", quiet_ms / 1_000))
        });
        // What was seen before the end does not begin it anew.
        for step in out.iter().skip(begun) {
            let (Act::Ended(order) | Act::Withdraw(order)) = &step.act else { continue };
            if let Some(thread) = self.threads.get_mut(&(order.case, order.subject)) {
                thread.at_ms = thread.at_ms.max(now_ms);
            }
        }
        keep_newest(&mut self.threads, |thread| thread.at_ms);
    }

    /// A request was refused or held up under an order: a flood that is refused still goes on.
    pub fn hit(&mut self, id: OrderId, at_ms: u64) {
        if let Some(order) = self.orders.get_mut(&id) {
            order.last_ms = order.last_ms.max(at_ms);
        }
    }

    /// Known-good actors are hit: the order is withdrawn if it hurts, and its rung not tried again for a while.
    pub fn toll(&mut self, id: OrderId, toll: Toll, now_ms: u64, out: &mut Vec<Step>) {
        let share = u64::from(toll.refused) * 100;
        let hurts = toll.refused >= self.limits.toll_actors
            && share >= u64::from(toll.came) * u64::from(self.limits.toll_percent);
        let Some(order) = self.orders.get(&id).filter(|_| hurts) else { return };
        let (key, rung) = ((order.case, order.subject), order.rung);
        let thread = self.threads.entry(key).or_default();
        let until_ms = now_ms.saturating_add(self.limits.barred_ms);
        let lowest =
            thread.barred.filter(|(_, until)| *until > now_ms).map_or(rung, |(barred, _)| barred.min(rung));
        thread.barred = Some((lowest, until_ms));
        thread.rung = lowest.checked_sub(1);
        let reason =
            format!("it hurts: {} of {} known-good actors were turned away", toll.refused, toll.came);
        self.withdraw(now_ms, out, |order| (order.id == id).then(|| reason.clone()));
    }

    /// Ends all countermeasures of an incident, and orders no more for it. Twice is as once.
    pub fn undo(&mut self, case: u64, why: &str, now_ms: u64, out: &mut Vec<Step>) {
        self.withdraw(now_ms, out, |order| (order.case == case).then(|| why.to_owned()));
        self.undone.insert(case, now_ms);
        keep_newest(&mut self.undone, |at_ms| *at_ms);
    }

    /// An incident turned out to be another: its orders and what was tried go on there.
    pub fn merge(&mut self, from: u64, into: u64) {
        self.orders.values_mut().filter(|order| order.case == from).for_each(|order| order.case = into);
        let keys: Vec<(u64, Subject)> =
            self.threads.range((from, FIRST)..=(from, LAST)).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(thread) = self.threads.remove(&key) {
                self.threads.entry((into, key.1)).or_insert(thread);
            }
        }
        if let Some(at_ms) = self.undone.remove(&from) {
            self.undone.entry(into).or_insert(at_ms);
        }
    }

    fn answer(&mut self, case: &Case<'_>, suspect: &Suspect, now_ms: u64, out: &mut Vec<Step>) {
        let key = (case.id, suspect.subject);
        let thread = self.threads.get(&key).cloned().unwrap_or_default();
        let in_force: Vec<OrderId> =
            self.of(key).filter(|order| order.detector == suspect.detector).map(|order| order.id).collect();
        for id in &in_force {
            self.hit(*id, suspect.last_ms);
        }
        let is_new = suspect.last_ms > thread.at_ms.saturating_add(self.limits.settle_ms);
        let rungs = ladder(suspect.detector);
        let fits = |rung: usize| self.fits(case, suspect, rung, &thread, now_ms);
        let choice = match thread.rung {
            None => start(rungs, case.gravity, suspect).find_map(fits),
            Some(_) if !is_new => return,
            // It comes and is refused, all of it: people beside it are not met for that.
            Some(_) if self.is_blocked(suspect, &in_force) => None,
            // It is back: where it was, or rather milder than nothing.
            Some(rung) if in_force.is_empty() => (0..=rung).rev().find_map(fits),
            // It goes on as another: what met the first is tried on that as well.
            Some(rung) => (rung + 1..rungs.len())
                .find_map(fits)
                .or_else(|| (0..=rung).filter_map(fits).find(|choice| !self.is_covered(key, choice))),
        };
        if let Some(choice) = choice {
            self.order(case.id, suspect, choice, now_ms, out);
        } else if !in_force.is_empty() {
            self.renew(key, &in_force, (suspect.last_ms, now_ms), out);
        } else if !rungs.is_empty()
            && thread.told_ms.is_none_or(|told| suspect.last_ms > told.saturating_add(self.limits.first_ms))
        {
            let told = Thread { told_ms: Some(suspect.last_ms), ..thread };
            self.threads.insert(key, told);
            let reason = format!(
                "{}, and nothing against it is worth what it would cost others",
                suspect.detector.says()
            );
            out.push(Step { case: case.id, at_ms: now_ms, act: Act::Nothing(suspect.subject), reason });
        }
    }

    /// Whether all that a flood's software asks for is refused already.
    fn is_blocked(&self, suspect: &Suspect, in_force: &[OrderId]) -> bool {
        let mut orders = in_force.iter().filter_map(|id| self.orders.get(id));
        suspect.detector == Detector::Flood
            && orders.any(|order| {
                order.measure == Measure::BlockSignature && order.target.scope() == Scope::Software
            })
    }

    /// Whether whom a choice is about is met as harshly already.
    fn is_covered(&self, key: (u64, Subject), choice: &Choice) -> bool {
        self.of(key).any(|order| {
            order.measure >= choice.measure
                && (order.target == choice.target || order.target.scope() > choice.target.scope())
        })
    }

    fn of(&self, key: (u64, Subject)) -> impl Iterator<Item = &Order> {
        self.orders.values().filter(move |order| (order.case, order.subject) == key)
    }

    /// Whether a rung may be taken: with whom, and at what cost.
    fn fits(
        &self,
        case: &Case<'_>,
        suspect: &Suspect,
        rung: usize,
        thread: &Thread,
        now_ms: u64,
    ) -> Option<Choice> {
        let &(measure, scope) = ladder(suspect.detector).get(rung)?;
        if thread.barred.is_some_and(|(barred, until_ms)| rung >= barred && now_ms < until_ms) {
            return None;
        }
        // Of what is only likely nobody is turned away.
        if measure.refuses() && suspect.confidence < Confidence::High {
            return None;
        }
        let candidate = suspect.candidates.iter().find(|one| !one.exempt && one.target.scope() == scope)?;
        if self.too_wide(&candidate.target) {
            return None;
        }
        let honest = match candidate.honest {
            Some(honest) => honest,
            None if scope <= Scope::Client => Honest::default(),
            // Whoever has it is asked for a proof: those whom nodes know are spared, and nobody is turned away.
            None if scope == Scope::Software && measure == Measure::Challenge => Honest::default(),
            None => return None,
        };
        // A provider of machines is met as a whole, and one that people come from is not.
        if matches!(candidate.target, Target::Actor(Actor::Asn(_)))
            && (honest.actors > 0 || measure.refuses())
        {
            return None;
        }
        // On a route only strangers are asked, and each once.
        let is_asking = (measure, scope) == (Measure::Challenge, Scope::Route);
        let percent = if is_asking { self.limits.asked_pain_percent } else { measure.pain_percent() };
        let pain_ppm = (u64::from(honest.share_ppm) * percent).div_ceil(100);
        let (most_ppm, total_max) = self.limits.pain_of(case.gravity, suspect.detector, (measure, scope));
        let is_spared = measure.refuses() && honest.actors > self.limits.refused_actors_max;
        let is_small =
            !measure.refuses() && scope <= Scope::Address && honest.actors <= self.limits.bothered_actors_max;
        if is_spared || !(is_small || pain_ppm <= most_ppm) {
            return None;
        }
        // What it takes the place of costs nothing any more.
        let (target, is_known) = (candidate.target.clone(), candidate.honest.is_some());
        let choice = Choice { rung, measure, target, honest: is_known.then_some(honest), pain_ppm };
        let stays = |order: &&Order| !self.supersedes(&choice, case.id, suspect, order);
        let (mut count, mut of_case, mut wide, mut total_ppm) = (0, 0, 0, 0_u64);
        for order in self.orders.values().filter(stays) {
            count += 1;
            of_case += usize::from(order.case == case.id);
            wide += usize::from(order.target.scope() > Scope::Address);
            total_ppm = total_ppm.saturating_add(order.pain_ppm);
        }
        let has_room = count < self.limits.orders_max
            && of_case < self.limits.orders_per_case_max
            && (scope <= Scope::Address || wide < self.limits.wide_orders_max)
            && total_ppm.saturating_add(pain_ppm) <= total_max;
        has_room.then_some(choice)
    }

    fn too_wide(&self, target: &Target) -> bool {
        let (v4, v6) = self.limits.prefix_bits_min;
        match target {
            Target::Actor(Actor::Prefix(Prefix::V4(range))) => range.prefix_len() < v4,
            Target::Actor(Actor::Prefix(Prefix::V6(range))) => range.prefix_len() < v6,
            Target::Actor(Actor::Country(_)) => true,
            _ => false,
        }
    }

    /// Whether a new order about a suspect makes an older one needless: it is as harsh, and covers as much.
    #[expect(clippy::unused_self, reason = "it reads as what it is about")]
    fn supersedes(&self, new: &Choice, case: u64, suspect: &Suspect, old: &Order) -> bool {
        (old.case, old.subject, old.detector) == (case, suspect.subject, suspect.detector)
            && new.measure >= old.measure
            && new.target.scope() >= old.target.scope()
    }

    fn order(&mut self, case: u64, suspect: &Suspect, choice: Choice, now_ms: u64, out: &mut Vec<Step>) {
        let key = (case, suspect.subject);
        let thread = self.threads.get(&key).cloned().unwrap_or_default();
        let gone: Vec<OrderId> = self
            .orders
            .values()
            .filter(|order| self.supersedes(&choice, case, suspect, order))
            .map(|order| order.id)
            .collect();
        self.last_id += 1;
        let until_ms = now_ms.saturating_add(self.lasts_ms(thread.tried));
        let reason = why(suspect, &choice, thread.rung, !gone.is_empty());
        let order = Order {
            id: OrderId(self.last_id),
            case,
            subject: suspect.subject,
            detector: suspect.detector,
            measure: choice.measure,
            target: choice.target,
            since_ms: now_ms,
            until_ms,
            pain_ppm: choice.pain_ppm,
            rung: choice.rung,
            last_ms: suspect.last_ms.max(now_ms),
        };
        self.orders.insert(order.id, order.clone());
        let tried = thread.tried.saturating_add(1);
        let thread = Thread { rung: Some(choice.rung), at_ms: now_ms, tried, told_ms: None, ..thread };
        self.threads.insert(key, thread);
        out.push(Step { case, at_ms: now_ms, act: Act::Order(order), reason });
        // After the new one, so that nobody slips through between them.
        self.withdraw(now_ms, out, |order| {
            gone.contains(&order.id).then(|| "something stronger took its place".to_owned())
        });
    }

    /// Nothing stronger may be done: what is in force holds longer.
    fn renew(
        &mut self,
        key: (u64, Subject),
        in_force: &[OrderId],
        (last_ms, now_ms): (u64, u64),
        out: &mut Vec<Step>,
    ) {
        let tried = self.threads.get(&key).map_or(0, |thread| thread.tried);
        let (lasts_ms, lasted_ms) = (self.lasts_ms(tried), self.lasts_ms(tried.saturating_sub(1)));
        let mut renewed = false;
        for id in in_force {
            let Some(order) = self.orders.get_mut(id) else { continue };
            // Not for each request: for what was seen when half of the time was over.
            if order.until_ms.saturating_sub(last_ms) > lasted_ms / 2 {
                continue;
            }
            order.until_ms = now_ms.saturating_add(lasts_ms);
            renewed = true;
            let reason = "it goes on, and nothing stronger is worth what it would cost others".to_owned();
            out.push(Step { case: order.case, at_ms: now_ms, act: Act::Renew(order.clone()), reason });
        }
        if let (true, Some(thread)) = (renewed, self.threads.get_mut(&key)) {
            thread.tried = thread.tried.saturating_add(1);
            thread.at_ms = now_ms;
        }
    }

    fn lasts_ms(&self, tried: u32) -> u64 {
        let doubled = self.limits.first_ms.saturating_mul(1 << tried.min(16));
        doubled.min(self.limits.longest_ms).max(1)
    }

    fn withdraw(&mut self, now_ms: u64, out: &mut Vec<Step>, why: impl Fn(&Order) -> Option<String>) {
        let gone: Vec<(OrderId, String)> =
            self.orders.values().filter_map(|order| Some((order.id, why(order)?))).collect();
        for (id, reason) in gone {
            let Some(order) = self.orders.remove(&id) else { continue };
            out.push(Step { case: order.case, at_ms: now_ms, act: Act::Withdraw(order), reason });
        }
    }
}

/// Makes room when there are far more than [`KEPT_MAX`], so that not each further one sorts them all.
fn keep_newest<K: Ord + Copy, V>(of: &mut BTreeMap<K, V>, at_ms: impl Fn(&V) -> u64) {
    if of.len() <= KEPT_MAX + KEPT_MAX / 4 {
        return;
    }
    let mut oldest: Vec<(u64, K)> = of.iter().map(|(key, value)| (at_ms(value), *key)).collect();
    oldest.sort_unstable();
    let excess = of.len().saturating_sub(KEPT_MAX);
    oldest.into_iter().take(excess).for_each(|(_, key)| _ = of.remove(&key));
}

/// A rung that may be taken.
#[derive(Debug)]
struct Choice {
    rung: usize,
    measure: Measure,
    target: Target,
    honest: Option<Honest>,
    pain_ppm: u64,
}

/// The rungs on which a suspect may begin, the best first: one that refuses narrowly if it is sure and bad, else a mild one. No more than a kind
/// of software is met by a first answer.
fn start(
    rungs: &'static [(Measure, Scope)],
    gravity: Gravity,
    suspect: &Suspect,
) -> impl Iterator<Item = usize> + use<> {
    let is_sure = suspect.confidence == Confidence::High && gravity >= Gravity::Medium;
    let is_wide = |scope: Scope| matches!(scope, Scope::Prefix | Scope::Route | Scope::App);
    // What is only known as a network or a route is met as that; a route is not closed at once.
    let has_narrow = suspect.candidates.iter().any(|candidate| !is_wide(candidate.target.scope()));
    let is_first = move |measure: Measure, scope: Scope| {
        measure != Measure::LockRoute && !(has_narrow && is_wide(scope))
    };
    let rung = move |refuses: bool| {
        rungs
            .iter()
            .enumerate()
            .filter(move |(_, (measure, scope))| measure.refuses() == refuses && is_first(*measure, *scope))
            .map(|(rung, _)| rung)
    };
    rung(true).filter(move |_| is_sure).chain(rung(false))
}

fn why(suspect: &Suspect, choice: &Choice, before: Option<usize>, replaces: bool) -> String {
    let begin = match (before, replaces) {
        (None, _) => "",
        (Some(_), true) => "it goes on in spite of what was ordered: ",
        (Some(_), false) => "it is back: ",
    };
    let cost = match choice.honest.map(|honest| honest.actors) {
        None => "who else is behind it is not known".to_owned(),
        Some(0) => "nobody else is known behind it".to_owned(),
        Some(1) => "one honest actor is known behind it".to_owned(),
        Some(many) => format!("{many} honest actors are known behind it"),
    };
    format!("{begin}{} {}: {}", suspect.detector.name(), choice.target, cost)
}

/// The ends of the order of subjects.
const FIRST: Subject = Subject { kind: SubjectKind::Address, id: 0 };
const LAST: Subject = Subject { kind: SubjectKind::System, id: u64::MAX };
/// Suspects of an incident that are looked at in one go.
const SUSPECTS_MAX: usize = 1_024;
/// Suspects and undone incidents of which is kept what was tried, but for a quarter more.
const KEPT_MAX: usize = 8_192;
