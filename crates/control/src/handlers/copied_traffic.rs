//! Counts of nodes that do not answer, and of those that are no more or lost their disk: control nodes of their sites tell them from copies.
//!
//! Flow in names: each answer says which counts it is, and a control node's also of which it has copies ([`Heard`]) -> for each of these that nobody
//! told itself the copy that has most -> a second question -> added.
//!
//! INVARIANT: counts are told by their node or from one copy, never by both: what they are called is theirs, whatever their node is called.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use phalanx_fleet::Link;
use phalanx_record::{By, CopiedCounts, History, RecordError, Traffic};
use serde::de::DeserializeOwned;

use super::events::ask;
use super::inquiry::ask_all;
use crate::api::NodeName;
use crate::error::ApiError;
use crate::inquiry::{Asked, COPIES_TOLD_MAX, OfCopies, There};
use crate::router::Control;

/// What nodes said of their counts and of those of others.
#[derive(Default)]
pub(super) struct Heard {
    /// Which counts each told.
    told: BTreeSet<(NodeName, u64)>,
    /// Nodes of earlier versions: what there are copies of under their names may be what they told.
    nameless: BTreeSet<NodeName>,
    /// Of whose counts there are copies, and where.
    offers: Vec<(NodeName, CopiedCounts)>,
}

impl Heard {
    /// Notes what a node said beside its counts, which are given back.
    pub(super) fn note<T>(&mut self, control: &Control, from: &NodeName, there: There<T>) -> T {
        let There { counted, told, copies } = there;
        match told {
            Some(told) => self.told.insert((from.clone(), told)),
            None => self.nameless.insert(from.clone()),
        };
        if *from == me(control) || control.deps.fleet.is_control(&from.site, &from.node) {
            self.offers.extend(copies.into_iter().take(COPIES_TOLD_MAX).map(|one| (from.clone(), one)));
        }
        counted
    }

    /// Which counts are asked of which control node: of each those with the latest change, and of equal ones this node's.
    fn chosen(self, me: &NodeName) -> BTreeMap<NodeName, Vec<CopiedCounts>> {
        let Self { told, nameless, offers } = self;
        // What is called so may be read in questions: who tells it must have brought it to a copy under the secret name.
        let brought = |name: &NodeName, told: u64| {
            let is_it = |(at, one): &(NodeName, CopiedCounts)| {
                (one.told, &one.node, &at.site) == (told, &name.node, &name.site)
            };
            name == me || offers.iter().any(is_it)
        };
        let told: HashSet<u64> =
            told.into_iter().filter(|(name, told)| brought(name, *told)).map(|(_, told)| told).collect();
        let mut best: BTreeMap<u64, (NodeName, CopiedCounts)> = BTreeMap::new();
        for (at, one) in offers {
            let of = NodeName { site: at.site.clone(), node: one.node.clone() };
            if told.contains(&one.told) || nameless.contains(&of) {
                continue;
            }
            let rank = |at: &NodeName, one: &CopiedCounts| (one.upto, *at == *me);
            if best.get(&one.told).is_none_or(|(there, known)| rank(there, known) < rank(&at, &one)) {
                best.insert(one.told, (at, one));
            }
        }
        let mut chosen: BTreeMap<NodeName, Vec<CopiedCounts>> = BTreeMap::new();
        // The question must fit into one message.
        for (at, one) in best.into_values().take(ASKED_MAX) {
            chosen.entry(at).or_default().push(one);
        }
        chosen
    }
}

/// What a control node tells of copies.
pub(super) struct FromCopies<T> {
    at: NodeName,
    /// Whose counts these are.
    of: Vec<NodeName>,
    /// None if it did not answer.
    counted: Option<T>,
}

/// Asks for what nobody told himself: `own` is this node's copies, `question` goes to others.
pub(super) async fn asked<T: DeserializeOwned + Send + 'static>(
    control: &Control,
    heard: Heard,
    own: impl FnOnce(&History, &[u64]) -> Result<T, RecordError> + Send + 'static,
    question: impl FnOnce(OfCopies) -> Asked,
) -> Result<Vec<FromCopies<T>>, ApiError> {
    let me = me(control);
    let mut chosen = heard.chosen(&me);
    let mut told = Vec::new();
    if let (Some(counts), Some(copies)) = (chosen.remove(&me), control.deps.copies.history()) {
        let names = names(&counts);
        let counted = ask(control, move |_| own(&copies, &names)).await?;
        told.push(FromCopies { of: of(&me, counts), at: me, counted: Some(counted) });
    }
    if !chosen.is_empty() {
        let question = question(chosen.iter().map(|(at, counts)| (at.to_string(), names(counts))).collect());
        let waits_for = |member: &phalanx_fleet::Member| {
            let name = NodeName { site: member.site.to_string(), node: member.node.to_string() };
            member.link == Link::Up && chosen.contains_key(&name)
        };
        let answers = ask_all(control, &question, waits_for).await?.answers;
        for (at, counts) in chosen {
            let answer = answers.iter().find(|(from, _)| *from == at);
            let counted = answer.and_then(|(_, bytes)| serde_json::from_slice(bytes).ok());
            told.push(FromCopies { of: of(&at, counts), at, counted });
        }
    }
    Ok(told)
}

/// Adds what was told of copies, and says of whom there are counts now and of whom not. `add` says whether it could.
pub(super) fn settle<T>(
    told: Vec<FromCopies<T>>,
    (silent, copied): (&mut Vec<NodeName>, &mut Vec<NodeName>),
    mut add: impl FnMut(&NodeName, T) -> bool,
) {
    for FromCopies { at, of, counted } in told {
        let added = counted.is_some_and(|counted| add(&at, counted));
        // Of a node that is no more nobody else says that it is missing.
        if added { &mut *copied } else { &mut *silent }.extend(of);
    }
    for names in [silent, copied] {
        names.sort();
        names.dedup();
    }
}

fn of(at: &NodeName, counts: Vec<CopiedCounts>) -> Vec<NodeName> {
    counts.into_iter().map(|one| NodeName { site: at.site.clone(), node: one.node }).collect()
}

fn me(control: &Control) -> NodeName {
    NodeName { site: control.deps.site.to_string(), node: control.deps.node.to_string() }
}

fn names(counts: &[CopiedCounts]) -> Vec<u64> {
    counts.iter().map(|one| one.told).collect()
}

/// A control node tells nodes of its own site by their names.
pub(super) fn named(mut traffic: Traffic, by: By, at: &NodeName) -> Traffic {
    for one in &mut traffic.series {
        match by {
            By::Node => one.key = format!("{}/{}", at.site, one.key),
            By::Site => one.key.clone_from(&at.site),
            _ => return traffic,
        }
    }
    traffic
}

/// Counts that are asked for at once.
const ASKED_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use phalanx_record::TrafficQuery;

    use super::*;

    fn name(text: &str) -> NodeName {
        let (site, node) = text.split_once('/').unwrap();
        NodeName { site: site.into(), node: node.into() }
    }

    fn offer(at: &str, told: u64, node: &str, upto: i64) -> (NodeName, CopiedCounts) {
        (name(at), CopiedCounts { told, node: node.into(), upto })
    }

    #[test]
    fn counts_are_asked_of_one_copy_each_and_of_none_that_their_node_told() {
        let heard = Heard {
            told: [(name("fra/up"), 1), (name("fra/c"), 6), (name("syd/stolen"), 4)].into(),
            nameless: [name("fra/older")].into(),
            offers: vec![
                offer("fra/a", 1, "up", 9),
                offer("fra/a", 1, "its-former-name", 9),
                offer("fra/a", 2, "older", 9),
                offer("syd/z", 3, "older", 9),
                offer("fra/a", 4, "lost", 7),
                offer("fra/c", 4, "lost", 8),
                offer("fra/a", 5, "as-much", 7),
                offer("fra/c", 5, "as-much", 7),
                offer("syd/z", 5, "moved-from", 6),
                offer("fra/a", 6, "former-name-of-c", 9),
            ],
        };
        let chosen = heard.chosen(&name("fra/c"));
        let chosen: Vec<_> = chosen.iter().map(|(at, counts)| (at.to_string(), names(counts))).collect();
        assert_eq!(chosen, [("fra/c".to_owned(), vec![4, 5]), ("syd/z".to_owned(), vec![3])]);
    }

    #[test]
    fn nodes_of_a_copy_are_named_with_their_site_and_added_up_by_it() {
        let query = TrafficQuery::new(0, 60_000, 1, 60_000, By::Node);
        let series = |key: &str| phalanx_record::TrafficSeries {
            key: key.into(),
            words: None,
            total: 2,
            points: vec![2; query.points()],
        };
        let there = Traffic { series: vec![series("e1"), series("e2")], ..Traffic::none(&query) };
        let by_node = named(there.clone(), By::Node, &name("fra/a"));
        assert_eq!(
            by_node.series.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(),
            ["fra/e1", "fra/e2"]
        );
        let mut all = Traffic::none(&query);
        assert!(all.add(&named(there, By::Site, &name("fra/a"))));
        assert_eq!(
            all.series.iter().map(|one| (one.key.as_str(), one.total)).collect::<Vec<_>>(),
            [("fra", 4)]
        );
    }
}
