//! What a node keeps of incidents over a restart, in one piece.

use std::collections::BTreeMap;

use super::{
    Incident, REASON_BYTES_MAX, Ruling, cut, parts, read_incident, read_names, write_incident, write_names,
};
use crate::sketch::wire::{Reader, Writer};

/// Incidents with all that is needed to show them again and to go on with them.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Names of nodes; those of incidents are places in it.
    pub names: Vec<String>,
    /// Open ones.
    pub open: Vec<Incident>,
    /// Those that closed, the latest at the end.
    pub closed: Vec<Incident>,
    /// What operators ruled.
    pub rulings: Vec<Ruling>,
    /// What the hashes of their subjects stand for, as far as that was known.
    pub words: BTreeMap<u64, String>,
}

impl Kept {
    /// The compact form. What is too much is left out.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(KIND);
        write_names(&mut out, &self.names);
        for incidents in [&self.open, &self.closed] {
            let all: Vec<Incident> = incidents.iter().flat_map(parts).take(PARTS_MAX).collect();
            out.length(all.len());
            all.iter().for_each(|part| write_incident(&mut out, part));
        }
        out.length(self.rulings.len().min(RULINGS_MAX));
        for ruling in self.rulings.iter().take(RULINGS_MAX) {
            out.number(ruling.id);
            [ruling.closed_ms, ruling.undone_ms].into_iter().for_each(|at| out.number(at.unwrap_or(0)));
        }
        out.length(self.words.len().min(WORDS_MAX));
        for (hash, word) in self.words.iter().take(WORDS_MAX) {
            out.number(*hash);
            out.text(cut(word));
        }
        out.finish()
    }

    /// Reads the compact form. Whatever is not exactly one is none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(KIND, bytes)?;
        let names = read_names(&mut input)?;
        let open = read_parts(&mut input, names.len())?;
        let closed = read_parts(&mut input, names.len())?;
        let mut rulings = Vec::new();
        for _ in 0..input.length(RULINGS_MAX)? {
            let id = input.number()?;
            let mut at = || Some(Some(input.number()?).filter(|at_ms| *at_ms > 0));
            rulings.push(Ruling { id, closed_ms: at()?, undone_ms: at()? });
        }
        let mut words = BTreeMap::new();
        for _ in 0..input.length(WORDS_MAX)? {
            words.insert(input.number()?, input.text(REASON_BYTES_MAX)?.to_owned());
        }
        input.end()?;
        Some(Self { names, open, closed, rulings, words })
    }
}

/// Incidents of which the parts follow each other.
fn read_parts(input: &mut Reader<'_>, names: usize) -> Option<Vec<Incident>> {
    let mut all: Vec<Incident> = Vec::new();
    for _ in 0..input.length(PARTS_MAX)? {
        let part = read_incident(input, names)?;
        match all.last_mut().filter(|last| last.id == part.id) {
            Some(last) => last.findings.extend(part.findings),
            None => all.push(part),
        }
    }
    all.iter().all(|one| one.findings.len() <= crate::correlate::FINDINGS_MAX).then_some(all)
}

const KIND: u8 = 0x65;
/// An incident has at most eight parts, and hardly any has more than one.
const PARTS_MAX: usize = 4_096;
const RULINGS_MAX: usize = 1_024;
const WORDS_MAX: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Subject, SubjectKind};
    use crate::link::Link;
    use crate::{Detector, Docket, Signal};
    use phalanx_model::Confidence;

    fn signal(at_ms: u64, subject: Subject, cause: Subject) -> Signal {
        Signal {
            at_ms,
            detector: Detector::Scanning,
            subject,
            confidence: Confidence::High,
            decisive: true,
            reason: "looks for what may be there".into(),
            events: 20,
            nodes: vec![0, 1],
            links: vec![Link::of_subject(cause, false), Link::of_subject(subject, false)],
        }
    }

    fn address(id: u64) -> Subject {
        Subject::new(SubjectKind::Address, id)
    }

    /// One open incident of many findings, one that was closed, one that was undone.
    fn docket() -> (Docket, [u64; 3]) {
        let mut docket = Docket::default();
        let session = Subject::new(SubjectKind::Session, 1);
        let large =
            (0..100).map(|n| docket.add(&signal(1_000 + n, address(n), session), Some(7), 1_000)).min();
        let closed = docket.add(&signal(2_000, address(500), address(500)), Some(8), 2_000);
        let undone = docket.add(&signal(3_000, address(600), address(600)), Some(9), 3_000);
        docket.rule(&Ruling { id: closed, closed_ms: Some(4_000), undone_ms: None }, 4_000);
        docket.rule(&Ruling { id: undone, closed_ms: None, undone_ms: Some(5_000) }, 5_000);
        (docket, [large.unwrap(), closed, undone])
    }

    fn kept(docket: &Docket) -> Kept {
        let names = vec!["fra/a".to_owned(), "fra/b".to_owned()];
        let words = BTreeMap::from([(7, "shop/orders".to_owned())]);
        Kept { names, words, ..docket.keep(0) }
    }

    #[test]
    fn incidents_are_as_they_were_after_a_restart() {
        let (before, ids) = docket();
        let read = Kept::from_bytes(&kept(&before).to_bytes()).unwrap();
        assert_eq!((read.names.len(), read.words[&7].as_str()), (2, "shop/orders"));
        let mut after = Docket::default();
        after.recall(read, 6_000);
        assert_eq!(after.open_len(), 2);
        for id in ids {
            let ((one, stood), (other, stands)) = (before.find(id).unwrap(), after.find(id).unwrap());
            assert_eq!((one.id, &one.findings, &one.nodes), (other.id, &other.findings, &other.nodes));
            assert_eq!((&one.evidence, stood), (&other.evidence, stands));
        }
        // What goes on belongs to it, and what is closed stays so.
        assert_eq!(after.add(&signal(7_000, address(600), address(600)), None, 7_000), ids[2]);
        assert_ne!(after.add(&signal(7_000, address(500), address(500)), None, 7_000), ids[1]);
        assert!(after.tick(true, 7_000).len() >= 2, "and others are told of it");
    }

    #[test]
    fn what_nobody_heard_of_for_long_is_closed_and_in_the_end_forgotten() {
        let (before, ids) = docket();
        let (mut after, hours) = (Docket::default(), 3_600_000);
        after.recall(kept(&before), 2 * hours);
        assert_eq!(after.open_len(), 0);
        assert!(ids.into_iter().all(|id| after.find(id).is_some_and(|(_, standing)| standing.is_closed)));
        assert!(after.keep(hours).closed.is_empty());
    }

    #[test]
    fn what_is_damaged_is_nothing() {
        let bytes = kept(&docket().0).to_bytes();
        for end in 0..bytes.len() {
            assert!(Kept::from_bytes(&bytes[..end]).is_none(), "{end}");
        }
        assert!(Kept::from_bytes(&[&bytes[..], &[0]].concat()).is_none());
    }
}
