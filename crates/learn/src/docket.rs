//! The incidents of a fleet as one node knows them, and what it tells of them.
//!
//! Every node correlates all signals that it hears. One, which holds a lease, *names* incidents: it tells all others what it has, and they
//! take it in. The others tell only what that one does not say: what they had before it, and what happened while nobody was heard. When
//! the lease goes to another node, that one has all that was told, and goes on. `docs/adr/0032`.
//!
//! INVARIANT: pure, as all of the crate. Nothing that another node tells moves a decision; it only shows.

use std::collections::{BTreeMap, VecDeque};

use crate::correlate::{Correlator, Incident};
use crate::detect::Signal;
use crate::event::Event;
use crate::told::{Kept, Ruling};

/// The incidents, open and lately closed.
#[derive(Debug, Default)]
pub struct Docket {
    correlator: Correlator,
    /// The latest at the back.
    closed: VecDeque<Incident>,
    rulings: BTreeMap<u64, Ruling>,
    notes: BTreeMap<u64, Note>,
    namer: Option<Namer>,
    /// When this node last said that it names incidents.
    said_ms: u64,
    /// Counts what changed.
    changes: u64,
}

/// What is to be told of an incident.
#[derive(Debug, Clone, Copy, Default)]
struct Note {
    since_ms: u64,
    told_ms: u64,
    /// When who names incidents last told it under this id.
    heard_ms: u64,
    /// Changed since it was told.
    is_changed: bool,
    /// How often it is still to be told, because it changed while nobody named incidents: a message may be lost, and nobody says that it came.
    unheard: u8,
}

impl Note {
    fn is_to_be_heard(&mut self, is_unheard: bool) {
        if is_unheard {
            self.unheard = UNHEARD_TOLD;
        }
    }
}

/// Who names incidents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namer {
    /// Its number.
    pub node: u16,
    /// Its lease's token.
    pub token: u64,
    /// When it was heard last, in Unix milliseconds.
    pub heard_ms: u64,
}

/// How an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Whether nothing more is expected.
    pub is_closed: bool,
    /// When an operator closed it, in Unix milliseconds.
    pub closed_ms: Option<u64>,
    /// When what was done because of it was undone, in Unix milliseconds.
    pub undone_ms: Option<u64>,
}

impl Docket {
    /// Adds a signal of this node with the request that completed it, if it served one; says which incident it belongs to.
    pub fn add(&mut self, signal: &Signal, evidence: Option<u128>, now_ms: u64) -> u64 {
        let id = self.correlator.add(signal);
        self.added(id, evidence, now_ms)
    }

    /// The same of one that another node told of.
    pub fn add_told(&mut self, signal: &Signal, evidence: Option<u128>, now_ms: u64) -> u64 {
        let id = self.correlator.add_told(signal);
        self.added(id, evidence, now_ms)
    }

    fn added(&mut self, id: u64, evidence: Option<u128>, now_ms: u64) -> u64 {
        if let Some(request) = evidence {
            self.correlator.note_evidence(id, request);
        }
        let is_unheard = self.namer(now_ms).is_none();
        let note = self.note(id, now_ms);
        note.is_changed = true;
        note.is_to_be_heard(is_unheard);
        self.changes += 1;
        id
    }

    /// A request met, in vain, what is done because of an incident: it is part of it, and keeps it open. See [`Correlator::met`].
    pub fn met(&mut self, id: u64, event: &Event, now_ms: u64) {
        let Some(id) = self.correlator.find(id).map(|incident| incident.id) else { return };
        self.correlator.met(id, event);
        let note = self.note(id, now_ms);
        // Whoever is refused may try a thousand times a second.
        note.is_changed |= note.told_ms.saturating_add(MET_MS) <= now_ms;
        self.changes += 1;
    }

    /// What is to be kept over a restart; of closed ones those that changed since `closed_from_ms`. Nodes are this node's numbers, and nothing has a name yet.
    pub fn keep(&self, closed_from_ms: u64) -> Kept {
        let closed = self.closed.iter().filter(|one| one.changed_ms >= closed_from_ms).cloned();
        Kept {
            open: self.correlator.incidents().cloned().collect(),
            closed: closed.collect(),
            rulings: self.rulings.values().copied().collect(),
            ..Kept::default()
        }
    }

    /// Goes on with what was kept; nodes are this node's numbers. What is over by now is closed.
    pub fn recall(&mut self, kept: Kept, now_ms: u64) {
        let is_past = |one: &Incident| one.changed_ms.max(one.opened_ms) <= now_ms.saturating_add(FUTURE_MS);
        for ruling in kept.rulings {
            self.rulings.entry(ruling.id).or_insert(ruling).merge(&ruling);
        }
        self.closed.extend(kept.closed.into_iter().filter(is_past));
        for incident in kept.open.iter().filter(|one| is_past(one)) {
            let (id, _) = self.correlator.merge(incident);
            self.note(id, now_ms);
        }
        self.keep_closed(now_ms);
    }

    /// Differs from what it was where anything is to be kept anew.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes in what another node tells. `may_name`: it is one that may hold the lease; what others tell is a hint.
    pub fn hear(&mut self, node: u16, may_name: bool, token: u64, incidents: Vec<Incident>, now_ms: u64) {
        let rivals = self.namer(now_ms).map_or(0, |namer| namer.token);
        let names = may_name && token > 0 && token >= rivals;
        if names {
            self.namer = Some(Namer { node, token, heard_ms: now_ms });
        }
        for mut incident in incidents {
            if !may_name {
                // Or a node that was stolen could have all incidents become one.
                incident.absorbed.clear();
            }
            if self.is_over(&incident, now_ms) {
                continue;
            }
            let (id, is_news) = self.correlator.merge(&incident);
            self.closed.retain(|closed| closed.id != id);
            let is_unheard = is_news && self.forget_absorbed();
            let note = self.note(id, now_ms);
            note.is_to_be_heard(is_unheard);
            if names && id == incident.id {
                note.heard_ms = now_ms;
            }
            // Whoever names incidents passes on what it was told, and another name than the one it knows.
            note.is_changed |= !names && (is_news || id != incident.id);
            self.changes += u64::from(is_news);
        }
    }

    /// An operator ruled, here or elsewhere.
    pub fn rule(&mut self, ruling: &Ruling, now_ms: u64) {
        self.rulings.entry(ruling.id).or_insert(*ruling).merge(ruling);
        self.changes += 1;
        if self.rulings.len() > RULINGS_MAX {
            self.rulings.pop_first();
        }
        if ruling.closed_ms.is_some() {
            let id = self.correlator.find(ruling.id).map(|incident| incident.id);
            id.inspect(|id| self.correlator.close(*id));
            self.keep_closed(now_ms);
        }
    }

    /// Closes what is over; says what is to be told now, to all others. `names`: this node names incidents.
    pub fn tick(&mut self, names: bool, now_ms: u64) -> Vec<Incident> {
        self.keep_closed(now_ms);
        let Self { correlator, notes, .. } = self;
        notes.retain(|id, _| correlator.has(*id));
        let has_namer = self.namer(now_ms).is_some();
        let due = |note: &Note| match (names, has_namer) {
            (true, _) => {
                (note.is_changed && note.told_ms.saturating_add(CHANGES_MS) <= now_ms)
                    || note.told_ms.saturating_add(AGAIN_MS) <= now_ms
            }
            (false, true) => {
                let quiet = note.told_ms.saturating_add(OFFERS_MS) <= now_ms;
                let unnamed = note.heard_ms == 0 && note.since_ms.saturating_add(NAMED_MS) <= now_ms;
                let lost = note.heard_ms > 0 && note.heard_ms.saturating_add(LOST_MS) <= now_ms;
                quiet && (note.unheard > 0 || unnamed || lost)
            }
            (false, false) => note.is_changed && note.told_ms.saturating_add(OFFERS_MS) <= now_ms,
        };
        let ids: Vec<u64> =
            self.notes.iter().filter(|(_, note)| due(note)).map(|(id, _)| *id).take(TOLD_AT_ONCE).collect();
        for id in &ids {
            if let Some(note) = self.notes.get_mut(id) {
                note.told_ms = now_ms;
                note.is_changed = false;
                // Who names tells all again anyway.
                note.unheard = match (names, has_namer) {
                    (true, _) => 0,
                    (false, true) => note.unheard.saturating_sub(1),
                    (false, false) => note.unheard,
                };
            }
        }
        ids.into_iter().filter_map(|id| self.correlator.find(id).cloned()).collect()
    }

    /// Whether it is time for the node that names incidents to say so, whether or not there is news. Says it once a second.
    pub fn says_it_names(&mut self, now_ms: u64) -> bool {
        let is_time = self.said_ms.saturating_add(SAYS_MS) <= now_ms;
        if is_time {
            self.said_ms = now_ms;
        }
        is_time
    }

    /// Who names incidents, if somebody else that is heard does.
    pub fn namer(&self, now_ms: u64) -> Option<Namer> {
        self.namer.filter(|namer| namer.heard_ms.saturating_add(NAMER_MS) > now_ms)
    }

    /// All incidents with how they stand, open ones first, the newest first.
    pub fn incidents(&self) -> impl Iterator<Item = (&Incident, Standing)> {
        let open: Vec<&Incident> = self.correlator.incidents().collect();
        let open = open.into_iter().rev().map(|incident| (incident, self.standing(incident, false)));
        open.chain(self.closed.iter().rev().map(|incident| (incident, self.standing(incident, true))))
    }

    /// The incident of this id, or that it is part of.
    pub fn find(&self, id: u64) -> Option<(&Incident, Standing)> {
        let open = self.correlator.find(id).map(|incident| (incident, self.standing(incident, false)));
        let closed = || self.closed.iter().rev().find(|one| one.id == id || one.absorbed.contains(&id));
        open.or_else(|| closed().map(|incident| (incident, self.standing(incident, true))))
    }

    /// How many are open.
    pub fn open_len(&self) -> usize {
        self.correlator.incidents().count()
    }

    /// What operators ruled since `from_ms`, to be told once more.
    pub fn rulings(&self, from_ms: u64) -> Vec<Ruling> {
        let at = |ruling: &Ruling| ruling.closed_ms.max(ruling.undone_ms).unwrap_or(0);
        self.rulings.values().filter(|ruling| at(ruling) >= from_ms).copied().collect()
    }

    fn standing(&self, incident: &Incident, is_closed: bool) -> Standing {
        let ids = incident.absorbed.iter().chain([&incident.id]);
        let rulings = ids.filter_map(|id| self.rulings.get(id));
        let none = Standing { is_closed, ..Standing::default() };
        rulings.fold(none, |standing, ruling| Standing {
            closed_ms: standing.closed_ms.max(ruling.closed_ms).filter(|_| is_closed),
            undone_ms: standing.undone_ms.max(ruling.undone_ms),
            is_closed,
        })
    }

    /// Whether an incident that is told is closed here already, and tells nothing that came after.
    fn is_over(&self, told: &Incident, now_ms: u64) -> bool {
        let ruled = self.rulings.get(&told.id).and_then(|ruling| ruling.closed_ms);
        let closed =
            self.closed.iter().find(|closed| closed.id == told.id || closed.absorbed.contains(&told.id));
        ruled.is_some()
            || closed.is_some_and(|closed| told.changed_ms <= closed.changed_ms)
            || Correlator::is_idle(told, now_ms)
            || told.opened_ms > now_ms.saturating_add(FUTURE_MS)
            || told.changed_ms > now_ms.saturating_add(FUTURE_MS)
    }

    /// Drops the notes of incidents that are part of others; says whether one of them was not told by who names incidents. What this
    /// node knew of it is to be told under the other name, or it would be lost on all others.
    fn forget_absorbed(&mut self) -> bool {
        let mut is_unheard = false;
        let Self { notes, correlator, .. } = self;
        notes.retain(|id, note| {
            let is_there = correlator.has(*id);
            is_unheard |= !is_there && note.heard_ms == 0;
            is_there
        });
        is_unheard
    }

    fn note(&mut self, id: u64, now_ms: u64) -> &mut Note {
        self.notes.entry(id).or_insert(Note { since_ms: now_ms, ..Note::default() })
    }

    fn keep_closed(&mut self, now_ms: u64) {
        let before = self.closed.len();
        self.closed.extend(self.correlator.tick(now_ms));
        self.changes += u64::from(self.closed.len() != before);
        while self.closed.len() > CLOSED_MAX {
            self.closed.pop_front();
        }
    }
}

const SAYS_MS: u64 = 1_000;
/// How soon after a change the others are told.
const CHANGES_MS: u64 = 200;
/// How often open incidents are told again: a message may be lost, and a node new.
const AGAIN_MS: u64 = 10_000;
/// How often a node that does not name incidents tells one.
const OFFERS_MS: u64 = 2_000;
/// How often what changed while nobody named incidents is told to who names them then.
const UNHEARD_TOLD: u8 = 3;
/// Within which time whoever names incidents has told one that others know.
const NAMED_MS: u64 = 1_000;
/// After this time it has forgotten it.
const LOST_MS: u64 = 25_000;
/// Nobody who names incidents is silent for so long.
const NAMER_MS: u64 = 4_000;
/// How often one is told that only grows by who is refused.
const MET_MS: u64 = 5_000;
/// Incidents told at once; the others follow.
const TOLD_AT_ONCE: usize = 16;
/// Closed incidents that are remembered.
const CLOSED_MAX: usize = 256;
const RULINGS_MAX: usize = 1_024;
/// As far as clocks differ.
const FUTURE_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Detector;
    use crate::event::{Subject, SubjectKind};
    use crate::link::Link;
    use phalanx_model::Confidence;

    fn signal(at_ms: u64, address: u64) -> Signal {
        let subject = Subject::new(SubjectKind::Address, address);
        Signal {
            at_ms,
            detector: Detector::Scanning,
            subject,
            confidence: Confidence::High,
            decisive: true,
            reason: String::new(),
            events: 1,
            nodes: vec![Signal::OWN],
            links: vec![Link::of_subject(subject, false)],
        }
    }

    /// Lets dockets tell each other for some seconds, of which `namer` names incidents and `cut` hears and is heard by nobody.
    fn run(all: &mut [Docket], from_s: u64, seconds: u64, namer: Option<usize>, cut: Option<usize>) {
        for step in 0..seconds * 5 {
            let now_ms = from_s * 1_000 + step * 200;
            let told: Vec<Vec<Incident>> =
                all.iter_mut().enumerate().map(|(node, one)| one.tick(namer == Some(node), now_ms)).collect();
            for (from, incidents) in told.into_iter().enumerate().filter(|(from, _)| Some(*from) != cut) {
                let token = if namer == Some(from) { 7 + u64::try_from(from).unwrap() } else { 0 };
                for (to, docket) in all.iter_mut().enumerate() {
                    if to != from && Some(to) != cut && (token > 0 || !incidents.is_empty()) {
                        docket.hear(u16::try_from(from).unwrap(), true, token, incidents.clone(), now_ms);
                    }
                }
            }
        }
    }

    fn ids(docket: &Docket) -> Vec<u64> {
        docket
            .incidents()
            .filter(|(_, standing)| !standing.is_closed)
            .map(|(incident, _)| incident.id)
            .collect()
    }

    #[test]
    fn nodes_agree_on_the_oldest_name_and_keep_it_when_who_names_is_gone() {
        let mut all = [Docket::default(), Docket::default(), Docket::default()];
        // Each finds it by itself, at another time.
        for (node, at_ms) in [(0, 3_000), (1, 2_000), (2, 1_000)] {
            all[node].add(&signal(at_ms, 1), None, 3_000);
        }
        run(&mut all, 3, 10, Some(0), None);
        let oldest = ids(&all[0]);
        assert_eq!((oldest.len(), oldest[0] >> 22), (1, 1_000));
        assert!(all.iter().all(|docket| ids(docket) == oldest));
        // The first is gone; the third names them, and hears a new signal.
        all[2].add(&signal(14_000, 1), None, 14_000);
        run(&mut all, 14, 10, Some(2), Some(0));
        assert_eq!((ids(&all[1]), ids(&all[2])), (oldest.clone(), oldest));
    }

    #[test]
    fn what_a_cut_off_node_found_is_merged_when_it_is_back() {
        let mut all = [Docket::default(), Docket::default(), Docket::default()];
        all[0].add(&signal(1_000, 1), None, 1_000);
        all[2].add(&signal(1_000, 2), None, 1_000);
        run(&mut all, 1, 10, Some(0), Some(2));
        assert_eq!((ids(&all[1]).len(), ids(&all[2]).len()), (1, 1));
        let alone = ids(&all[2])[0];
        run(&mut all, 11, 8, Some(0), None);
        for docket in &all {
            assert_eq!(ids(docket).len(), 2);
            assert!(docket.find(alone).is_some());
        }
    }

    #[test]
    fn what_a_cut_off_node_found_of_the_same_attack_is_told_to_all_when_it_is_back() {
        let mut all = [Docket::default(), Docket::default(), Docket::default()];
        all[0].add(&signal(1_000, 1), Some(1), 1_000);
        all[2].add(&Signal { nodes: vec![5], ..signal(1_500, 1) }, Some(2), 1_500);
        run(&mut all, 2, 10, Some(0), Some(2));
        let (own, named) = (ids(&all[2])[0], ids(&all[0])[0]);
        assert_ne!(own, named);
        // Whoever names it speaks first.
        let told: Vec<Incident> = all[0].incidents().map(|(one, _)| one.clone()).collect();
        all[2].hear(0, true, 7, told, 12_000);
        // What it answers is lost on the way.
        assert_eq!(all[2].tick(false, 12_000).len(), 1);
        run(&mut all, 13, 8, Some(0), None);
        for docket in &all {
            let (one, _) = docket.find(own).unwrap();
            assert_eq!((ids(docket), one.id, &one.evidence[..]), (vec![named], named, &[1, 2][..]));
            assert!(one.nodes.contains(&5));
        }
    }

    #[test]
    fn where_nobody_names_incidents_nodes_agree_and_fall_silent() {
        let mut all = [Docket::default(), Docket::default(), Docket::default()];
        for (node, at_ms) in [(0, 3_000), (1, 2_000), (2, 1_000)] {
            all[node].add(&signal(at_ms, 1), None, 3_000);
        }
        run(&mut all, 3, 20, None, None);
        let oldest = ids(&all[0]);
        assert!(oldest.len() == 1 && all.iter().all(|docket| ids(docket) == oldest));
        for now_ms in (23_000..60_000).step_by(200) {
            assert!(all.iter_mut().all(|docket| docket.tick(false, now_ms).is_empty()));
        }
    }

    #[test]
    fn what_an_operator_closed_stays_closed() {
        let mut all = [Docket::default(), Docket::default()];
        let id = all[0].add(&signal(1_000, 1), None, 1_000);
        run(&mut all, 1, 5, Some(0), None);
        // The second has not heard the ruling yet, and goes on telling.
        all[0].rule(&Ruling { id, closed_ms: Some(6_000), undone_ms: Some(6_000) }, 6_000);
        run(&mut all, 6, 20, Some(1), None);
        assert!(ids(&all[0]).is_empty());
        let (_, standing) = all[0].find(id).unwrap();
        assert_eq!(standing, Standing { is_closed: true, closed_ms: Some(6_000), undone_ms: Some(6_000) });
        // The same attacker again is another incident.
        assert_ne!(all[0].add(&signal(30_000, 1), None, 30_000), id);
    }

    #[test]
    fn a_stolen_edge_node_neither_names_nor_joins_incidents() {
        let mut docket = Docket::default();
        let one = docket.add(&signal(1_000, 1), None, 1_000);
        let other = docket.add(&signal(1_000, 2), None, 1_000);
        let mut bridge = Docket::default();
        bridge.add(&signal(2_000, 3), None, 2_000);
        let mut lie = bridge.incidents().next().unwrap().0.clone();
        lie.absorbed = vec![one, other];
        docket.hear(5, false, u64::MAX, vec![lie], 2_000);
        assert_eq!(docket.namer(2_000), None);
        assert_eq!(ids(&docket).len(), 3);
    }
}
