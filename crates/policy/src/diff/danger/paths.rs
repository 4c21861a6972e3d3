//! Which routes a request may meet before and after, by the rules of the edge's table of routes.
//!
//! Paths are told apart by all that both apps name: a node of the tree of segments, and what may follow there. At each of these places the
//! routes of an app are a list, tried in order, and a request meets the first of which it fits the conditions. Two routes are compared
//! where a request may meet both: where it may fit both, and nothing before them takes all of it.
//!
//! A path with two readings is met in both, or is refused: what holds in each of its readings is compared here.

use std::collections::{BTreeMap, BTreeSet};

use super::conditions::{implies, may_both};
use crate::Route;
use crate::route::{Ends, Rest};

/// What a request meets in an app and in the one after: the place of a route, or none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Met {
    pub(super) old: Option<usize>,
    pub(super) new: Option<usize>,
}

/// All that requests may meet before and after.
///
/// # Errors
/// Why that cannot be told.
pub(super) fn met(old: &[Route], new: &[Route]) -> Result<BTreeSet<Met>, String> {
    let case = |routes: &[Route]| routes.first().map(|route| route.when.ignore_case);
    if let (Some(was), Some(is)) = (case(old), case(new))
        && was != is
    {
        return Err("letters of paths compare in another way, so that requests meet other routes".to_owned());
    }
    let (before, after) = (Tree::of(old), Tree::of(new));
    let mut met = BTreeSet::new();
    let mut work = WORK_MAX;
    let root = Vec::new();
    let nodes: BTreeSet<&Vec<String>> = before.0.keys().chain(after.0.keys()).chain([&root]).collect();
    for node in nodes {
        for rest in [Rest::Nothing, Rest::Slash, Rest::More] {
            let lists = (before.list(node, rest), after.list(node, rest));
            work = work.checked_sub(lists.0.len() + lists.1.len()).ok_or(TOO_MANY)?;
            work = compare((old, &lists.0), (new, &lists.1), &mut met, work).ok_or(TOO_MANY)?;
        }
    }
    Ok(met)
}

/// Routes by the segments of their paths.
struct Tree(BTreeMap<Vec<String>, Vec<(Ends, usize, bool)>>);

impl Tree {
    fn of(routes: &[Route]) -> Self {
        let mut nodes = BTreeMap::<Vec<String>, Vec<_>>::new();
        for (at, route) in routes.iter().enumerate() {
            let candidates = nodes.entry(route.when.node().collect()).or_default();
            candidates.push((route.when.ends(), at, route.when.is_path_only()));
        }
        for routes in nodes.values_mut() {
            routes.sort_by_key(|(ends, at, _)| (*ends, *at));
        }
        Self(nodes)
    }

    /// The routes that requests to a place are tried with, down to the first that takes all; without one, `None` for the app stands last.
    fn list(&self, node: &[String], rest: Rest) -> Vec<Option<usize>> {
        let mut list = Vec::new();
        for depth in (0..=node.len()).rev() {
            let rest = if depth == node.len() { rest } else { Rest::More };
            let here = node.get(..depth).and_then(|node| self.0.get(node)).map_or(&[][..], Vec::as_slice);
            for (_, at, takes_all) in here.iter().filter(|(ends, ..)| ends.fits(rest)) {
                list.push(Some(*at));
                if *takes_all {
                    return list;
                }
            }
        }
        list.push(None);
        list
    }
}

/// Routes with the order in which requests of one place are tried with them.
type Listed<'a> = (&'a [Route], &'a [Option<usize>]);

/// Adds what requests of one place may meet; says how many comparisons are left, `None` if there were too many.
fn compare(
    (old, before): Listed<'_>,
    (new, after): Listed<'_>,
    met: &mut BTreeSet<Met>,
    work: usize,
) -> Option<usize> {
    let same = |(one, other): &(&Option<usize>, &Option<usize>)| {
        fits_all((old, **one), (new, **other)) && fits_all((new, **other), (old, **one))
    };
    let alike = before.iter().zip(after).take_while(same).count();
    for (old, new) in before.iter().zip(after).take(alike) {
        met.insert(Met { old: *old, new: *new });
    }
    // Whoever fits one of these has met its like: what follows is compared by itself.
    let (before, after) = (before.get(alike..).unwrap_or_default(), after.get(alike..).unwrap_or_default());
    let pairs = before.len().saturating_mul(after.len());
    let work = work.checked_sub(pairs.saturating_mul(before.len() + after.len()))?;
    for (i, was) in before.iter().enumerate() {
        for (j, is) in after.iter().enumerate() {
            let earlier_old = before.iter().take(i).any(|earlier| fits_all((new, *is), (old, *earlier)));
            let earlier_new = || after.iter().take(j).any(|earlier| fits_all((old, *was), (new, *earlier)));
            if fits_one((old, *was), (new, *is)) && !earlier_old && !earlier_new() {
                met.insert(Met { old: *was, new: *is });
            }
        }
    }
    Some(work)
}

type At<'a> = (&'a [Route], Option<usize>);

/// Whether whoever fits the first fits the second.
fn fits_all(one: At<'_>, other: At<'_>) -> bool {
    match (route(one), route(other)) {
        (_, None) => true,
        (None, Some(other)) => other.when.is_path_only(),
        (Some(one), Some(other)) => implies(&one.when, &other.when),
    }
}

/// Whether somebody may fit both.
fn fits_one(one: At<'_>, other: At<'_>) -> bool {
    match (route(one), route(other)) {
        (Some(one), Some(other)) => may_both(&one.when, &other.when),
        _ => true,
    }
}

fn route<'a>((routes, at): At<'a>) -> Option<&'a Route> {
    routes.get(at?)
}

/// Comparisons of two routes for one app, a second's work.
const WORK_MAX: usize = 20_000_000;
const TOO_MANY: &str = "it has too many routes to tell which of them requests meet";
