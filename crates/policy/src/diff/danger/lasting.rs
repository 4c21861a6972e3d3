//! Exclusions that come and end so late that they do not end: what the comparison of two policies cannot say, for it asks no clock.

use super::app::is_within;
use super::{Danger, Part, Place};
use crate::Everywhere;
use crate::diff::name_of;

/// The exclusions that come and last for more than a year from then.
pub fn lasting_exclusions(old: &Everywhere, new: &Everywhere, now_ms: u64) -> Vec<Danger> {
    let latest_s = i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX).saturating_add(LASTING_S);
    let mut found = Vec::new();
    for (site, policy) in new.distinct() {
        let before = site.map_or(&old.elsewhere, |site| old.at(site));
        for app in &policy.apps {
            let known = before.apps.iter().find(|old| old.name == app.name);
            for exclusion in &app.exclusions {
                let Some(until) = exclusion.until.filter(|until| until.at_s > latest_s) else { continue };
                let mut known = known.iter().flat_map(|app| &app.exclusions);
                let lasts = |old: Option<i64>| old.is_none_or(|old| until.at_s <= old);
                if !known.any(|old| is_within(exclusion, old) && lasts(old.until.map(|old| old.at_s))) {
                    let place = Place::of_app(&app.name, Part::Exclusion, name_of(exclusion));
                    let why = "the exclusion lasts for more than a year".to_owned();
                    found.push(Danger { place, setting: "until.at_s".to_owned(), why });
                }
            }
        }
    }
    found
}

/// A year, and a day for those who count from tomorrow.
const LASTING_S: i64 = 367 * 86_400;
