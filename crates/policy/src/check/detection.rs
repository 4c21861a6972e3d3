//! Detection of attacks over many requests.

use super::Check;
use crate::detection::{Detection, DetectionThreshold};
use crate::raw::detection::{RawDetection, RawStuffing, RawThreshold};
use crate::scenarios;
use crate::toml_text::At;

impl RawDetection {
    /// Takes of a scenario what is not written.
    fn add(&mut self, scenario: &Self) {
        if self.stuffing == RawStuffing::default() {
            self.stuffing = scenario.stuffing.clone();
        }
        for (own, its) in [
            (&mut self.spraying, &scenario.spraying),
            (&mut self.enumeration, &scenario.enumeration),
            (&mut self.walk, &scenario.walk),
            (&mut self.scanning, &scenario.scanning),
            (&mut self.scraping, &scenario.scraping),
            (&mut self.carding, &scenario.carding),
            (&mut self.exploiting, &scenario.exploiting),
        ] {
            if *own == RawThreshold::default() {
                *own = its.clone();
            }
        }
    }
}

impl Check<'_> {
    pub(super) fn detection(&mut self, raw: &RawDetection) -> Detection {
        let mut written = raw.clone();
        for name in &raw.scenarios {
            if let Some(scenario) = scenarios::built_in().get(&name.value) {
                written.add(&scenario.detection);
                continue;
            }
            let known: Vec<&str> = scenarios::built_in().keys().map(String::as_str).collect();
            let fault = self.text.error_at(&name.span, format!("there is no scenario `{}`", name.value));
            self.found.push(fault.with_help(format!("there are {}", known.join(", "))));
        }
        self.read_detection(&written)
    }

    fn read_detection(&mut self, raw: &RawDetection) -> Detection {
        let of = &raw.stuffing;
        let stuffing = RawThreshold {
            window: of.window.clone(),
            events: of.events.clone(),
            different: of.different.clone(),
        };
        Detection {
            mode: raw.mode.as_ref().map(|mode| mode.value).unwrap_or_default(),
            stuffing: self.threshold(&stuffing),
            stuffing_failed_percent: self.number("failed_percent", of.failed_percent.as_ref(), 1, 100),
            spraying: self.threshold(&raw.spraying),
            enumeration: self.threshold(&raw.enumeration),
            walk: self.threshold(&raw.walk),
            scanning: self.threshold(&raw.scanning),
            scraping: self.threshold(&raw.scraping),
            carding: self.threshold(&raw.carding),
            exploiting: self.threshold(&raw.exploiting),
            flood_requests: self.number("flood_requests", raw.flood_requests.as_ref(), 1, EVENTS_MAX),
            peer_percent: self.number("peer_percent", raw.peer_percent.as_ref(), 0, PEER_PERCENT_MAX),
        }
    }

    fn threshold(&mut self, raw: &RawThreshold) -> DetectionThreshold {
        let window =
            raw.window.as_ref().map(|window| self.duration(Some(window), WINDOW_MIN_MS, &WINDOWS_MS));
        let threshold = DetectionThreshold {
            window_ms: window,
            events: self.number("events", raw.events.as_ref(), 2, EVENTS_MAX),
            different: self.number("different", raw.different.as_ref(), 1, DIFFERENT_MAX),
        };
        if let (Some(events), Some(different), Some(written)) =
            (threshold.events, threshold.different, &raw.different)
            && different > events
        {
            let message = format!("{events} events cannot be about {different} different things");
            self.error(&written.span, message);
        }
        threshold
    }

    fn number(&mut self, name: &str, raw: Option<&At<u64>>, least: u64, most: u64) -> Option<u64> {
        raw.map(|raw| self.within(name, Some(raw), least..=most, least))
    }
}

/// Counts are kept in buckets of ten seconds, for ten minutes.
const WINDOW_MIN_MS: u64 = 10_000;
const WINDOWS_MS: std::ops::RangeInclusive<u64> = WINDOW_MIN_MS..=600_000;
const EVENTS_MAX: u64 = 1_000_000;
/// Different things are told apart up to this.
const DIFFERENT_MAX: u64 = 1_000;
/// With 50 two other nodes alone could reach a threshold.
const PEER_PERCENT_MAX: u64 = 49;

#[cfg(test)]
mod tests {
    use crate::{Detection, DetectionMode, parse_policy};

    fn read(detection: &str) -> Result<Detection, Vec<String>> {
        let app = "[[apps]]\nname = \"shop\"\nupstream = \"http://127.0.0.1:3000\"\n";
        match parse_policy("policy.toml", &format!("{detection}{app}")) {
            Ok((policy, _)) => Ok(policy.detection),
            Err(faults) => Err(faults.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn what_is_not_written_is_the_detectors_own() {
        let none = read("").unwrap();
        assert_eq!((none.mode, none.clone()), (DetectionMode::Observe, Detection::default()));
        let some = read("[detection]\nmode = \"act\"\n[detection.scanning]\nwindow = \"2m\"\nevents = 40\n")
            .unwrap();
        assert_eq!((some.mode, some.scanning.window_ms), (DetectionMode::Act, Some(120_000)));
        assert_eq!((some.scanning.events, some.scanning.different), (Some(40), None));
    }

    #[test]
    fn a_scenario_brings_thresholds_and_what_is_written_goes_before_them() {
        let shop = read("[detection]\nscenarios = [\"webshop-carding\", \"hidden-places\"]\n").unwrap();
        assert_eq!((shop.carding.events, shop.carding.different), (Some(5), Some(4)));
        assert_eq!((shop.scanning.window_ms, shop.walk.events), (Some(60_000), None));
        let own = "[detection]\nscenarios = [\"webshop-carding\"]\n[detection.carding]\nevents = 9\n";
        let own = read(own).unwrap();
        assert_eq!((own.carding.events, own.carding.different), (Some(9), None));
    }

    #[test]
    fn thresholds_that_cannot_be_are_named_with_their_line() {
        for (written, fault) in [
            ("mode = \"ban\"", "policy.toml:2: "),
            ("scenarios = [\"webshop\"]", "policy.toml:2: there is no scenario `webshop`"),
            ("peer_percent = 50", "policy.toml:2: `peer_percent` goes from 0 to 49, not 50"),
            (
                "[detection.walk]\nwindow = \"1h\"",
                "policy.toml:3: `1h` is not between 10000 ms and 600000 ms",
            ),
            ("[detection.walk]\nevents = 1", "policy.toml:3: `events` goes from 2 to 1000000, not 1"),
            (
                "[detection.carding]\nevents = 5\ndifferent = 6",
                "policy.toml:4: 5 events cannot be about 6 different things",
            ),
            ("[detection.scanning]\nfailed_percent = 5", "policy.toml:3: "),
        ] {
            let faults = read(&format!("[detection]\n{written}\n")).unwrap_err().join("; ");
            assert!(faults.contains(fault), "{written}: {faults}");
        }
    }
}
