//! The order of routes, where it decides which of them a request meets.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::danger::may_both;
use super::{Change, Part, Place};
use crate::route::When;
use crate::{App, Route};

/// The names of an app's routes, in their order. Several without a name of their own are told apart by what they ask, then by their number.
pub(super) fn names(app: &App) -> Vec<String> {
    let mut count: HashMap<&str, usize> = HashMap::new();
    for route in &app.routes {
        *count.entry(&route.name).or_default() += 1;
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    let name = |route: &Route| {
        let asks = route.when.to_string();
        let alone = count.get(route.name.as_str()).is_none_or(|count| *count == 1) || asks.is_empty();
        let name = if alone { route.name.clone() } else { format!("{} [{asks}]", route.name) };
        let number = seen.entry(name.clone()).or_default();
        *number += 1;
        if *number == 1 { name } else { format!("{name} ({number})") }
    };
    app.routes.iter().map(name).collect()
}

/// Routes of one path are tried in the order written: where two that one request may both fit changed places, the order of that path
/// is told.
pub(super) fn compare(old: &App, new: &App, changes: &mut Vec<Change>) {
    let before: HashMap<String, usize> =
        names(old).into_iter().enumerate().map(|(at, name)| (name, at)).collect();
    let mut paths: BTreeMap<(String, bool), Vec<Placed<'_>>> = BTreeMap::new();
    for (route, name) in new.routes.iter().zip(names(new)) {
        if let Some(was) = before.get(&name) {
            // A longer path goes first wherever it stands, and so does an exact one.
            let path = (route.when.path.to_ascii_lowercase(), route.when.exact);
            paths.entry(path).or_default().push(Placed { was: *was, name, when: &route.when });
        }
    }
    for ((path, _), mut routes) in paths {
        let swapped = routes.iter().enumerate().any(|(at, later)| {
            routes.iter().take(at).any(|earlier| earlier.was > later.was && compete(earlier.when, later.when))
        });
        if swapped {
            let told = |routes: &[Placed<'_>]| {
                Some(routes.iter().map(|route| Value::String(route.name.clone())).collect::<Value>())
            };
            let new_order = told(&routes);
            routes.sort_by_key(|route| route.was);
            let place = Place::of_app(&new.name, Part::RouteOrder, path);
            changes.push(Change { place, setting: "order".to_owned(), old: told(&routes), new: new_order });
        }
    }
}

/// A route that was there before.
struct Placed<'a> {
    was: usize,
    name: String,
    when: &'a When,
}

/// Whether one request may fit both, as far as that can be told: of two patterns it cannot.
fn compete(one: &When, other: &When) -> bool {
    let paths = one.path == other.path || one.ignore_case || other.ignore_case;
    paths && may_both(one, other)
}
