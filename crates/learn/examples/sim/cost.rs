//! What an event and a signal cost, and how much memory a million actors take. Run it optimised.

use std::hint::black_box;
use std::time::Instant;

use phalanx_learn::learner::Sizes;
use phalanx_learn::respond::{Known, Trails};
use phalanx_learn::sketch::mix;
use phalanx_learn::{Correlator, Detectors, Event, Learner, Outcome, Step};

use crate::dice::Dice;
use crate::people::{Calendar, People};
use crate::plans::plan;
use crate::traffic::{BEGIN_MS, Client, Path, Request, page};
use crate::world::Settings;

/// Prints the figures.
pub(crate) fn measure(settings: &Settings) -> Result<(), String> {
    let events = honest(settings);
    let mut learner = Learner::new(Detectors::default(), Sizes::default(), 7);
    let mut signals = Vec::new();
    let begun = Instant::now();
    events.iter().for_each(|event| learner.observe(event, &mut signals));
    let each = begun.elapsed().as_nanos() / events.len().max(1) as u128;
    println!("{} honest requests on one node: {each} ns each", events.len());

    let (mut known, mut trails, mut correlator) = (Known::new(7), Trails::default(), Correlator::default());
    for signal in &signals {
        let id = correlator.add(signal);
        correlator.find(id).into_iter().for_each(|incident| trails.note(incident, signal, None));
    }
    let begun = Instant::now();
    for event in &events {
        trails.see(black_box(event), &known);
        known.note(event);
    }
    let each = begun.elapsed().as_nanos() / events.len().max(1) as u128;
    println!("who is good and who is on {} trails: {each} ns each", correlator.incidents().count());

    let mut learner = Learner::new(Detectors::default(), Sizes::default(), 7);
    let begun = Instant::now();
    let actors = 500_000_u32;
    for n in 0..actors {
        let client = Client { ip: n, asn: n / 256, software: 1 + u64::from(n % 20) };
        let event = page(BEGIN_MS + u64::from(n), client, Path::Product(u64::from(n % 200)));
        let session = Some(mix(u64::from(n)));
        learner.observe(black_box(&Event { session, ..event }), &mut signals);
    }
    let each = begun.elapsed().as_nanos() / u128::from(actors);
    println!(
        "{} actors in {} MB, {each} ns for each request of a new address and session",
        learner.actors(),
        learner.bytes() / 1_000_000
    );

    let mut found = Vec::new();
    for n in 0..60_000_u64 {
        let client = Client { ip: u32::try_from(n / 40).unwrap_or(0), asn: 1, software: 100 + n / 40 };
        let step = Step::Login(Outcome::Failed);
        let event = page(BEGIN_MS + n * 10, client, Path::Login);
        let event = Event { account: Some(n), step, status: 401, shape: mix(n / 400), ..event };
        learner.observe(&event, &mut found);
    }
    let mut correlator = Correlator::default();
    let rounds = 1 + 200_000 / found.len().max(1);
    let begun = Instant::now();
    for _ in 0..rounds {
        found.iter().for_each(|signal| _ = black_box(correlator.add(signal)));
    }
    let count = (found.len() * rounds) as f64;
    println!("{count} signals correlated: {:.0} a second", count / begun.elapsed().as_secs_f64());
    Ok(())
}

/// What one of the nodes sees of an hour.
fn honest(settings: &Settings) -> Vec<Event> {
    let mut people = People::new(settings.seed, 36_000 * settings.honest / 100, Calendar::default());
    let mut requests = Vec::new();
    (0..3_600).for_each(|second| people.second(second, 1, &mut requests));
    let mut dice = Dice::new(settings.seed);
    for attacker in plan("stuffing", settings.seed, 1, 100).into_iter().flat_map(|plan| plan.attackers) {
        let mut attacker = attacker;
        (0..3_600).for_each(|second| attacker.second(second, 0, 1, &mut dice, &mut requests));
    }
    requests.sort_by_key(|request: &Request| request.event.at_ms);
    requests.into_iter().map(|request| request.event).collect()
}
