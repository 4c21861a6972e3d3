//! What the simulation must show, for several seeds: nothing here is tuned to one.

use std::collections::BTreeMap;

use super::*;
use crate::report::Report;
use phalanx_learn::detect::Threshold;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;

pub(crate) fn settings(scenario: &str, seed: u64) -> Settings {
    Settings {
        scenario: scenario.into(),
        seed,
        nodes: 3,
        sharing: true,
        honest: 100,
        attack: 100,
        answers: true,
        without: Without::Nothing,
        after_s: 0,
        detectors: Detectors::default(),
        tells: false,
    }
}

fn of(scenario: &str, seed: u64, sharing: bool) -> Report {
    play(&Settings { sharing, ..settings(scenario, seed) }).unwrap()
}

#[test]
fn equal_seeds_give_equal_runs() {
    assert_eq!(of("campaign", 3, true), of("campaign", 3, true));
    assert_ne!(of("campaign", 3, true), of("campaign", 4, true));
}

#[test]
fn thin_stuffing_is_found_together_and_never_alone() {
    for seed in SEEDS {
        let report = of("thin-stuffing", seed, true);
        assert!(report.seconds_after_tenth.is_some_and(|seconds| seconds <= 5.0), "{seed}: {report:?}");
        assert_eq!((report.nodes_named, report.honest_banned), (3, 0), "{seed}: {report:?}");
        let alone = of("thin-stuffing", seed, false);
        assert!(!alone.detected && alone.incidents == 0, "{seed}: {alone:?}");
    }
}

#[test]
fn a_campaign_is_one_incident() {
    for seed in SEEDS {
        let report = of("campaign", seed, true);
        assert_eq!((report.incidents, report.honest_banned), (1, 0), "{seed}: {report:?}");
        assert!(report.incident_share >= 0.95 && report.missed.is_empty(), "{seed}: {report:?}");
    }
}

#[test]
fn two_campaigns_stay_apart() {
    for seed in SEEDS {
        let report = of("two-campaigns", seed, true);
        assert_eq!((report.incidents, report.mixed_incidents), (2, 0), "{seed}: {report:?}");
        assert!(report.incident_share >= 0.95, "{seed}: {report:?}");
    }
}

#[test]
fn a_week_of_honest_people_bans_nobody() {
    for seed in 1..=2 {
        let report = of("honest-week", seed, true);
        assert!(report.honest_sessions > 15_000, "{report:?}");
        assert_eq!(report.honest_banned, 0, "{seed}: {report:?}");
        assert!(report.incidents <= 7 && report.honest_challenged_share <= 0.000_1, "{seed}: {report:?}");
    }
}

#[test]
fn a_hostile_node_moves_no_decision_elsewhere() {
    for seed in SEEDS {
        let report = of("hostile-node", seed, true);
        assert_eq!((report.incidents, report.honest_banned), (0, 0), "{seed}: {report:?}");
        assert!(report.honest_challenged_share == 0.0 && report.attack_refused_share == 0.0, "{report:?}");
        assert_eq!((report.fabricated, report.ordered.len()), (300, 0), "{seed}: {report:?}");
        // They arrive, and the same claim is not told again each second.
        assert!((50..20_000).contains(&report.hearsay), "{report:?}");
        assert_eq!(of("hostile-node", seed, false).hearsay, 0);
    }
}

#[test]
fn a_hostile_node_neither_hides_an_attack_nor_turns_it_against_others() {
    for seed in 1..=3 {
        let report = of("hostile-node-and-stuffing", seed, true);
        assert!(report.missed.is_empty() && report.fabricated == 300, "{seed}: {report:?}");
        assert!(report.attack_refused_share >= 0.8, "{seed}: {report:?}");
        assert_eq!((report.honest_banned, report.honest_challenged_share), (0, 0.0), "{seed}: {report:?}");
    }
}

#[test]
fn single_attacks_are_named_and_are_one_incident() {
    for scenario in [
        "slow-spraying",
        "enumeration",
        "scan",
        "carding",
        "exfiltration",
        "rotating-flood",
        "theft",
        "behind-nat",
        "outage-and-stuffing",
    ] {
        for seed in 1..=2 {
            let report = of(scenario, seed, true);
            assert!(report.missed.is_empty() && report.honest_banned == 0, "{scenario} {seed}: {report:?}");
            assert!(report.incident_share >= 0.95 && report.incidents == 1, "{scenario} {seed}: {report:?}");
            assert!(
                scenario != "rotating-flood" || report.attack_refused_share >= 0.99,
                "{seed}: {report:?}"
            );
        }
    }
}

#[test]
fn each_detector_names_its_attack() {
    for scenario in ["scraping", "error-storm", "new-endpoint", "unusual", "locked-out-and-stuffing"] {
        for seed in 1..=2 {
            let report = of(scenario, seed, true);
            assert!(report.missed.is_empty() && report.honest_banned == 0, "{scenario} {seed}: {report:?}");
        }
    }
}

#[test]
fn stuffing_spraying_walks_and_travel_are_named_within_ten_seconds() {
    for scenario in ["stuffing", "spraying", "idor", "walk-behind-nat", "travel"] {
        for seed in 1..=3 {
            let report = of(scenario, seed, true);
            assert!(
                report.seconds_to_detect.is_some_and(|seconds| seconds <= 10.0) && report.honest_banned == 0,
                "{scenario} {seed}: {report:?}"
            );
        }
    }
}

#[test]
fn what_befalls_everybody_is_held_against_nobody() {
    for scenario in ["outage", "broken-release", "locked-out", "release", "rush"] {
        for seed in 1..=3 {
            let report = of(scenario, seed, true);
            assert!(report.missed.is_empty() && report.honest_banned == 0, "{scenario} {seed}: {report:?}");
            assert!(
                report.honest_challenged_share == 0.0 && report.incidents == 0,
                "{scenario} {seed}: {report:?}"
            );
        }
    }
}

#[test]
fn attackers_that_come_back_as_somebody_else_are_met() {
    for (scenario, least, answered) in [
        ("thin-stuffing", 0.75, 0.99),
        ("stuffing", 0.85, 0.95),
        ("proxied-stuffing", 0.75, 0.85),
        ("spraying", 0.85, 0.95),
        ("slow-spraying", 0.8, 0.9),
        ("enumeration", 0.85, 0.95),
        ("idor", 0.85, 0.95),
        ("scan", 0.75, 0.9),
        ("scraping", 0.75, 0.9),
        ("carding", 0.85, 0.95),
        ("exfiltration", 0.75, 0.75),
    ] {
        for seed in 1..=3 {
            let report = of(scenario, seed, true);
            let refused = (report.attack_refused_share, report.refused_once_answered);
            assert!(refused.0 >= least && refused.1 >= answered, "{scenario} {seed}: {refused:?} {report:?}");
            assert!(
                report.honest_banned == 0 && report.pain_ppm_most <= 20_000,
                "{scenario} {seed}: {report:?}"
            );
            // Only where attackers come from people's networks people are asked.
            assert!(
                scenario == "proxied-stuffing" || report.honest_challenged_share <= 0.003,
                "{scenario} {seed}: {report:?}"
            );
        }
    }
}

#[test]
fn a_floods_order_is_gone_a_minute_after_its_end() {
    for seed in 1..=2 {
        let report = play(&Settings { after_s: 120, ..settings("rotating-flood", seed) }).unwrap();
        assert!(report.refused_once_answered >= 0.99 && report.honest_banned == 0, "{seed}: {report:?}");
        assert_eq!(report.in_force, 0, "{seed}: {report:?}");
        assert!(report.over_seconds.is_some_and(|over| (59.0..=62.0).contains(&over)), "{seed}: {report:?}");
    }
}

#[test]
fn without_the_means_attackers_are_not_met() {
    let without = |scenario: &str, without| play(&Settings { without, ..settings(scenario, 1) }).unwrap();
    for (scenario, means, most) in [
        ("spraying", Without::Trails, 0.1),
        ("spraying", Without::Systems, 0.6),
        ("proxied-stuffing", Without::Routes, 0.4),
    ] {
        let report = without(scenario, means);
        assert!(report.attack_refused_share <= most, "{scenario} {means:?}: {report:?}");
    }
    let watched = play(&Settings { answers: false, ..settings("stuffing", 1) }).unwrap();
    assert!(watched.detected && watched.attack_refused_share == 0.0 && watched.ordered.is_empty());
}

#[test]
fn what_is_asked_for_wrongly_is_told() {
    for (words, part) in [
        ("", "which scenario"),
        ("storm", "no scenario `storm`"),
        ("scan --nodes 0", "from 1 to 16"),
        ("scan --sharing maybe", "on or off"),
        ("scan --seed", "needs a value"),
        ("scan --without luck", "takes answers, trails, systems or routes"),
        ("scan --colour red", "what is `--colour`"),
    ] {
        let fault = run(words.split_whitespace().map(str::to_owned)).unwrap_err();
        assert!(fault.contains(part), "{fault}");
    }
}

/// What `packs/scenarios` says in one file.
#[derive(serde::Deserialize)]
struct Pack {
    name: String,
    replays: Replay,
    detection: BTreeMap<String, Written>,
}

#[derive(serde::Deserialize)]
struct Replay {
    scenario: String,
    attack: u64,
    honest: Option<u64>,
    within: String,
}

#[derive(serde::Deserialize)]
struct Written {
    window: String,
    events: u64,
    different: u64,
}

/// Of `2m` and `30s`.
fn written_s(text: &str) -> u32 {
    let (number, times) = match text.strip_suffix('m') {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s').unwrap(), 1),
    };
    number.parse::<u32>().unwrap() * times
}

impl Pack {
    /// As a node takes them from its policy.
    fn detectors(&self) -> Detectors {
        let mut of = Detectors::default();
        for (name, written) in &self.detection {
            let Written { events, different, .. } = *written;
            let threshold = Threshold { window_s: written_s(&written.window), events, different };
            match name.as_str() {
                "stuffing" => (of.stuffing, of.stuffing_slow) = (threshold, threshold),
                "enumeration" => (of.enumeration, of.enumeration_fast) = (threshold, threshold),
                "walk" => (of.walk, of.walk_fast) = (threshold, threshold),
                "scanning" => (of.scanning, of.scanning_slow) = (threshold, threshold),
                "scraping" => (of.scraping, of.scraping_fast) = (threshold, threshold),
                "carding" => of.carding = threshold,
                other => panic!("{}: {other}", self.name),
            }
        }
        of
    }
}

#[test]
fn shipped_scenarios_find_what_the_usual_thresholds_do_not_in_that_time_and_blame_nobody() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packs/scenarios");
    let mut packs = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let pack: Pack = toml::from_str(&text).unwrap();
        packs += 1;
        let with = |scenario: &str, attack, detectors| {
            let honest = pack.replays.honest.unwrap_or(100);
            play(&Settings { attack, honest, detectors, ..settings(scenario, 1) }).unwrap()
        };
        let Replay { scenario, attack, within, .. } = &pack.replays;
        let within_s = f64::from(written_s(within));
        let is_found = |report: &Report| report.seconds_to_detect.is_some_and(|seconds| seconds <= within_s);
        let report = with(scenario, *attack, pack.detectors());
        assert!(is_found(&report) && report.honest_banned == 0, "{}: {report:?}", pack.name);
        let usual = with(scenario, *attack, Detectors::default());
        assert!(!is_found(&usual), "{}: {usual:?}", pack.name);
        // Where few people come, and a class is most of them, it is not known that what befalls it befalls everybody.
        let honest: &[&str] = match pack.replays.honest {
            Some(_) => &["rush", "release"],
            None => &["rush", "release", "locked-out", "broken-release"],
        };
        for &honest in honest {
            let report = with(honest, 100, pack.detectors());
            assert!(report.honest_banned == 0 && report.incidents == 0, "{} {honest}: {report:?}", pack.name);
        }
    }
    assert!(packs >= 6);
}
