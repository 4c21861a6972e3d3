//! What the simulation must show, for several seeds: nothing here is tuned to one.

use super::*;
use crate::report::Report;

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
