//! What the simulation must show, for several seeds: nothing here is tuned to one.

use super::*;
use crate::report::Report;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;

fn of(scenario: &str, seed: u64, sharing: bool) -> Report {
    let scenario = scenario.into();
    play(&Settings { scenario, seed, nodes: 3, sharing, honest: 100, attack: 100, tells: false }).unwrap()
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
        // They arrive, and the same claim is not told again each second.
        assert!((50..20_000).contains(&report.hearsay), "{report:?}");
        assert_eq!(of("hostile-node", seed, false).hearsay, 0);
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
fn what_is_asked_for_wrongly_is_told() {
    for (words, part) in [
        ("", "which scenario"),
        ("storm", "no scenario `storm`"),
        ("scan --nodes 0", "from 1 to 16"),
        ("scan --sharing maybe", "on or off"),
        ("scan --seed", "needs a value"),
        ("scan --colour red", "what is `--colour`"),
    ] {
        let fault = run(words.split_whitespace().map(str::to_owned)).unwrap_err();
        assert!(fault.contains(part), "{fault}");
    }
}
