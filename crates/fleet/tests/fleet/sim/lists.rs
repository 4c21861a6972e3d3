//! Blocklists in the simulation: operators who import and remove them, and what must be true of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use phalanx_fleet::{BlobHash, BlocklistState, Change, HeldKind, NewBlocklist, list_text};
use phalanx_model::{Blocklist, Clock, DecisionKind, Identities, ListPrefixes, Lists};
use tokio::time::{Instant, sleep};

use super::dice::Dice;
use super::engine::Bug;
use super::run::{CONVERGE_MAX, EPOCH_MS, SKEW_MAX_MS, SimNode, SimulatedFleet};
use crate::support::address;

/// The contents that were made: number n of list L holds two marks, `10.L.n.0/25` and `10.L.n.128/25`.
#[derive(Default)]
pub(super) struct Contents {
    made: BTreeMap<usize, u8>,
    by_hash: BTreeMap<String, (usize, u8)>,
    /// Lists of which something was said that died with its author.
    doubtful: BTreeSet<String>,
}

/// What a node had in force of a list, and since when.
pub(super) type Floors = BTreeMap<Arc<str>, (u64, u64)>;

impl Contents {
    fn make(&mut self, list: usize, hits_many: bool) -> Option<ListPrefixes> {
        let made = self.made.entry(list).or_default();
        *made = made.checked_add(1)?;
        let number = *made;
        let wide = if hits_many { "198.51.100.0/24\n" } else { "" };
        let text = format!("10.{list}.{number}.0/25\n10.{list}.{number}.128/25\n{wide}");
        let prefixes = list_text::parse(&text).unwrap();
        let hash = BlobHash::of(&prefixes.to_bytes());
        self.by_hash.insert(hash.as_str().to_owned(), (list, number));
        Some(prefixes)
    }

    pub(super) fn doubt(&mut self, name: &str) {
        self.doubtful.insert(name.to_owned());
    }

    pub(super) fn doubt_all(&mut self) {
        self.doubtful.extend(NAMES.map(str::to_owned));
    }

    fn number_of(&self, list: &Blocklist) -> Option<(usize, u8)> {
        self.by_hash.get(&list.content.as_ref()?.hash).copied()
    }
}

impl SimulatedFleet {
    /// An operator imports a list, or removes one.
    pub(super) fn list_order(&mut self, mut dice: Dice) {
        let at = usize::try_from(dice.below(self.nodes.len() as u64)).unwrap();
        let list = usize::try_from(dice.below(NAMES.len() as u64)).unwrap();
        let (removes, hits_many) = (dice.chance(200), dice.chance(400));
        let for_ms = *dice.pick(&[8_000, 60_000, 3_600_000, 3_600_000]);
        if self.nodes[at].control && removes {
            self.remove_list(at, NAMES[list]);
        } else if self.nodes[at].control {
            self.import_list(at, list, for_ms, hits_many, "list imported");
        }
    }

    fn remove_list(&mut self, at: usize, name: &'static str) {
        let played = self.played.clone();
        let Some(running) = &mut self.nodes[at].running else { return };
        let fleet = running.fleet.clone();
        running.errands.spawn(async move {
            if fleet.remove_blocklist(name, "no use").await.is_ok() {
                played.count("list removed");
            }
        });
    }

    fn import_list(&mut self, at: usize, list: usize, for_ms: u64, hits_many: bool, as_what: &'static str) {
        let Some(prefixes) = self.contents.make(list, hits_many) else { return };
        let (world, played) = (Arc::clone(&self.world), self.played.clone());
        let name = self.nodes[at].name;
        let Some(running) = &mut self.nodes[at].running else { return };
        let fleet = running.fleet.clone();
        let (kind, reason) = (DecisionKind::Ban, "somebody says so".to_owned());
        let new = NewBlocklist { name: NAMES[list].into(), kind, for_ms, reason, prefixes };
        running.errands.spawn(async move {
            match fleet.import_blocklist(new).await {
                Ok(list) => {
                    played.count(as_what);
                    world.tell(&format!("{name} imports {} as version {}", list.name, list.version));
                }
                Err(error) => world.tell(&format!("{name} cannot import {}: {error}", NAMES[list])),
            }
        });
    }

    /// Where lists are not as they must be in the end.
    async fn list_differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        for node in &self.nodes {
            let Some(running) = &node.running else { continue };
            let states = running.fleet.blocklists().await;
            for name in NAMES.iter().filter(|name| !self.contents.doubtful.contains(**name)) {
                let state = states.iter().find(|state| *state.newest.name == **name);
                if let Some(what) = self.list_difference(name, state) {
                    let degraded = running.fleet.status().degraded;
                    differences.push(format!("{}: list {name} {what}; {degraded:?}", node.name));
                }
            }
        }
        differences
    }

    /// Waits until all have the newest version of each list. What nobody can have any more is imported again, once.
    pub(super) async fn lists_converge(&mut self, when: &str) {
        let started = Instant::now();
        let mut imported_again = false;
        loop {
            let differences = self.list_differences().await;
            if differences.is_empty() {
                return;
            }
            if started.elapsed() >= CONVERGE_MAX {
                return self.violations.extend(differences.into_iter().map(|what| format!("{when}, {what}")));
            }
            if started.elapsed() >= CONVERGE_MAX / 4 && !imported_again {
                imported_again = true;
                self.import_what_is_lost();
            }
            sleep(Duration::from_secs(1)).await;
            self.observe();
        }
    }

    fn list_difference(&self, name: &str, state: Option<&BlocklistState>) -> Option<String> {
        let newest = self.newest(name)?;
        let true_ms = EPOCH_MS + self.world.elapsed_ms();
        let stands = newest.content.is_some() && !self.oracle.is_list_recalled(&newest);
        if stands && newest.until_ms.abs_diff(true_ms) <= SKEW_MAX_MS + 2_000 {
            return None;
        }
        if !stands || newest.until_ms < true_ms {
            let state = state?;
            return Some(format!("is over since version {}, and is here: {state:?}", newest.version));
        }
        let Some(state) = state else { return Some(format!("is missing: {}", newest.version)) };
        if state.newest != newest {
            return Some(format!("has version {}, not {}", state.newest.version, newest.version));
        }
        let in_force = state.in_force.as_ref() == Some(&newest);
        (!in_force && state.held.is_none())
            .then(|| format!("version {} is neither in force nor held", newest.version))
    }

    /// The newest version of a list, of all that was said.
    fn newest(&self, name: &str) -> Option<Arc<Blocklist>> {
        let lists = self.oracle.lists().filter(|list| *list.name == *name);
        lists.max_by_key(|list| (list.version, list.id)).cloned()
    }

    /// A content that nobody can have any more is imported again: `status` of the nodes that lack it asks for that.
    fn import_what_is_lost(&mut self) {
        let mut lost: BTreeSet<usize> = BTreeSet::new();
        for running in self.nodes.iter().filter_map(|node| node.running.as_ref()) {
            let degraded = running.fleet.status().degraded;
            let asks = |name: &str| {
                let asks = |line: &String| {
                    line.contains(&format!("blocklist {name}: ")) && line.contains("import it again")
                };
                degraded.iter().any(asks)
            };
            lost.extend((0..NAMES.len()).filter(|list| asks(NAMES[*list])));
        }
        for list in lost {
            self.import_list(0, list, 3_600_000, false, "list imported again for its content was lost");
        }
    }

    /// Puts halves of two versions of a list into force, as a mistake.
    pub(super) fn mix_lists(&mut self) {
        if self.bug != Bug::ListsAreMixed {
            return;
        }
        for node in &self.nodes {
            let Some(running) = &node.running else { continue };
            let view = running.fleet.view();
            let now = view.load_full();
            let Some((list, (name, number))) =
                now.lists().iter().find_map(|list| Some((Arc::clone(list), self.contents.number_of(list)?)))
            else {
                continue;
            };
            let half = format!("10.{name}.{number}.0/25\n10.{name}.{}.128/25\n", number.wrapping_sub(1));
            let half = Arc::new(list_text::parse(&half).unwrap());
            view.store(Arc::new(now.with_lists(Arc::new(Lists::of(vec![(list, half)])))));
            return;
        }
    }
}

impl SimNode {
    /// What is wrong with the lists in force here.
    pub(super) fn list_objections(&mut self, contents: &Contents, true_ms: u64) -> Vec<String> {
        let Some(running) = &self.running else { return Vec::new() };
        let now_ms = self.clock.now_ms();
        let view = running.fleet.view().load_full();
        let mut objections = Vec::new();
        for (list, made) in &contents.made {
            let is_refused = |text: String| view.lookup(&Identities::of(address(&text)), now_ms).is_some();
            let mut refused = Vec::new();
            for number in 1..=*made {
                let halves = [
                    is_refused(format!("10.{list}.{number}.1")),
                    is_refused(format!("10.{list}.{number}.129")),
                ];
                if halves[0] != halves[1] {
                    objections.push(format!("half of number {number} of {} is in force", NAMES[*list]));
                }
                if halves[0] {
                    refused.push(number);
                }
            }
            let mine = view.lists().iter().filter(|of| *of.name == *NAMES[*list] && of.until_ms > now_ms);
            let expected: Vec<u8> = mine.filter_map(|of| Some(contents.number_of(of)?.1)).collect();
            if refused != expected || expected.len() > 1 {
                objections.push(format!("{refused:?} of {} are in force, not {expected:?}", NAMES[*list]));
            }
        }
        for list in view.lists().iter() {
            let (floor, since_ms) = self.list_floors.entry(Arc::clone(&list.name)).or_insert((0, true_ms));
            if list.version < *floor {
                objections.push(format!("version {} of {} follows {floor}", list.version, list.name));
            }
            if list.version > *floor {
                (*floor, *since_ms) = (list.version, true_ms);
            }
        }
        objections
    }
}

/// What is held here of blocklists.
pub(super) fn held_lists(node: &SimNode) -> Vec<Arc<Blocklist>> {
    let Some(running) = &node.running else { return Vec::new() };
    let held = running.fleet.held().0.into_iter().filter_map(|held| match held.what {
        HeldKind::Blocklist(list) => Some(list),
        HeldKind::Decision(_) | HeldKind::Range(..) => None,
    });
    held.collect()
}

/// The list that a change is about.
pub(super) fn listed(change: &Change) -> Option<&Arc<Blocklist>> {
    match change {
        Change::Listed(list) => Some(list),
        Change::Decided(_) | Change::Withdrawn(_) | Change::Recalled(_) => None,
    }
}

/// The lists there are.
const NAMES: [&str; 2] = ["scanners", "proxies"];
