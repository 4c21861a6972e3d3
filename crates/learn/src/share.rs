//! What a node tells the others: counts of what is notable, and where sessions and accounts were seen. Never a body, a name or a path.
//!
//! Counts are of whole buckets so far and are kept by node, so a summary that is lost, doubled or late does no harm, and the order in
//! which they arrive does not matter.

use crate::event::{Place, Subject, SubjectKind};
use crate::evidence::{Contribution, Feature, SeriesKey};
use crate::sketch::wire::{Reader, Writer};
use crate::sketch::{Counts, Distinct};

/// What one node tells. At most some 700 KiB; a second of ordinary traffic makes a few KiB.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Requests that it served, by bucket: nothing that it tells can be more.
    pub(crate) served: Counts,
    pub(crate) rows: Vec<Row>,
    pub(crate) seen: Vec<Seen>,
}

/// What it saw of one subject.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) key: SeriesKey,
    pub(crate) told: Contribution,
}

/// Where a session or an account was, and with which software.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seen {
    pub(crate) subject: Subject,
    pub(crate) at_s: u32,
    pub(crate) software: u32,
    pub(crate) network: u32,
    pub(crate) place: Option<Place>,
}

impl Summary {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.seen.is_empty()
    }

    /// The compact form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(KIND);
        self.served.write(&mut out);
        out.length(self.rows.len());
        for Row { key, told } in &self.rows {
            write_subject(&mut out, key.subject);
            out.byte(key.feature as u8);
            told.counts.write(&mut out);
            told.what.write(&mut out);
            told.from.write(&mut out);
        }
        out.length(self.seen.len());
        for seen in &self.seen {
            write_subject(&mut out, seen.subject);
            [seen.at_s, seen.software, seen.network].into_iter().for_each(|part| out.number(u64::from(part)));
            out.byte(u8::from(seen.place.is_some()));
            if let Some(place) = seen.place {
                [place.latitude, place.longitude].into_iter().for_each(|degrees| {
                    out.number(u64::try_from(i32::from(degrees) + DEGREES_MAX).unwrap_or_default());
                });
            }
        }
        out.finish()
    }

    /// Reads the compact form. Whatever is not exactly one is none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(KIND, bytes)?;
        let served = Counts::read(&mut input)?;
        let mut rows = Vec::new();
        for _ in 0..input.length(ROWS_MAX)? {
            let subject = read_subject(&mut input)?;
            let feature = *Feature::ALL.get(usize::from(input.byte()?))?;
            let told = Contribution {
                counts: Counts::read(&mut input)?,
                what: Distinct::read(&mut input, HASHES_MAX)?,
                from: Distinct::read(&mut input, HASHES_MAX)?,
            };
            rows.push(Row { key: SeriesKey { subject, feature }, told });
        }
        let mut seen = Vec::new();
        for _ in 0..input.length(SEEN_MAX)? {
            let subject = read_subject(&mut input)?;
            let (at_s, software, network) = (input.number32()?, input.number32()?, input.number32()?);
            let place = match input.byte()? {
                0 => None,
                1 => {
                    Some(Place { latitude: read_degrees(&mut input)?, longitude: read_degrees(&mut input)? })
                }
                _ => return None,
            };
            seen.push(Seen { subject, at_s, software, network, place });
        }
        input.end()?;
        Some(Self { served, rows, seen })
    }
}

impl Row {
    /// Whether its node can have seen that: a request is counted once in a row at most.
    pub(crate) fn is_possible(&self, served: &Counts) -> bool {
        let counts = &self.told.counts;
        self.key.feature.is_shared()
            && counts.since(0).all(|(bucket, count)| u64::from(count) <= served.within(bucket, bucket))
    }
}

fn write_subject(out: &mut Writer, subject: Subject) {
    out.byte(subject.kind as u8);
    out.number(subject.id);
}

fn read_subject(input: &mut Reader<'_>) -> Option<Subject> {
    let kind: SubjectKind = *SubjectKind::ALL.get(usize::from(input.byte()?))?;
    Some(Subject::new(kind, input.number()?))
}

fn read_degrees(input: &mut Reader<'_>) -> Option<i16> {
    let degrees = i32::try_from(input.number()?).ok()? - DEGREES_MAX;
    i16::try_from(degrees).ok().filter(|degrees| i32::from(*degrees).abs() <= DEGREES_MAX)
}

const KIND: u8 = 0x61;
const DEGREES_MAX: i32 = 180;
/// Rows of one summary: as many subjects as are notable in a second of a large attack; the others follow.
pub(crate) const ROWS_MAX: usize = 1_024;
/// Hashes of one row. No more than a part of a threshold of them ever counts.
const HASHES_MAX: usize = 32;
/// Sessions and accounts of one summary.
pub(crate) const SEEN_MAX: usize = 1_024;
