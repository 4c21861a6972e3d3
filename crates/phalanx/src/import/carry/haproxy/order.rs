//! HAProxy's order, in which the first rule that fits wins, as routes say it, of which those of the longest path are tried first: a rule
//! that stands before one of a longer path stands again at that path.

use super::super::site::{At, ROUTES_MAX, Route};

/// Routes that meet what these rules meant, in their order.
pub(super) fn first_wins(rules: &[Route]) -> Vec<Route> {
    let (most, most_of_path) = ROUTES_MAX;
    let mut places: Vec<At> = Vec::new();
    for rule in rules {
        let place = place(rule);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let mut routes = Vec::new();
    for here in &places {
        let last = rules.iter().rposition(|rule| place(rule) == *here).unwrap_or_default();
        let meant = rules.iter().take(last + 1).filter(|rule| covers(&place(rule), here));
        for rule in meant.take(most_of_path) {
            let is_own = place(rule) == *here;
            if routes.len() >= most || !is_own && takes_all(rule) {
                // It takes what is left, from where it stands.
                break;
            }
            routes.push(if is_own { rule.clone() } else { rule.moved(here) });
        }
    }
    routes
}

/// Where a rule stands among paths.
fn place(rule: &Route) -> At {
    match &rule.at {
        At::Suffix(_) | At::Pattern(_) => At::Prefix("/".to_owned()),
        at => at.clone(),
    }
}

fn takes_all(rule: &Route) -> bool {
    matches!(rule.at, At::Prefix(_)) && !rule.plain_only && rule.methods.is_empty()
}

/// Whether all that is met at one place would be met at another, too.
fn covers(outer: &At, inner: &At) -> bool {
    let (At::Prefix(path) | At::Exact(path) | At::Suffix(path) | At::Pattern(path)) = inner;
    match outer {
        At::Prefix(outer) => path
            .strip_prefix(outer.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() && !outer.ends_with('/') || rest.starts_with('/')),
        outer => outer == inner,
    }
}
