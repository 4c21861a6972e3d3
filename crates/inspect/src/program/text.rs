//! Constants, TX slots and macros: text of the rules in the form that a transaction reads.

use hashbrown::HashMap;
use phalanx_policy::seclang::ir::{Macro, MacroPart, Selector, Target, Variable};

use super::targets::Spec;
use crate::transaction::values::{Blob, Source};

/// The place of a TX variable with a constant name. The first ten are `TX:0` to `TX:9`, the captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) u16);

/// Text with macros.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) parts: Vec<Part>,
    /// The text, if it has no macros.
    pub(crate) constant: Option<Blob>,
    /// Its value, if it is a constant integer in canonical form.
    pub(crate) number: Option<i64>,
}

/// A piece of it.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// Literal bytes.
    Constant(Blob),
    /// A TX variable.
    Slot(Slot),
    /// Any other variable.
    Variable(Spec),
}

/// Constants and slots while a program is compiled, and the slots' names afterwards.
#[derive(Debug, Default)]
pub(crate) struct Names {
    constants: Vec<u8>,
    known: HashMap<Vec<u8>, Blob>,
    slots: HashMap<Vec<u8>, Slot>,
    /// The name of each slot, in order.
    names: Vec<Blob>,
}

impl Names {
    /// Starts with the slots of the captures.
    pub(crate) fn new() -> Self {
        let mut names = Self::default();
        for digit in b'0'..=b'9' {
            names.slot(&[digit]);
        }
        names
    }

    /// A constant's span.
    pub(crate) fn constant(&mut self, bytes: &[u8]) -> Blob {
        if let Some(&blob) = self.known.get(bytes) {
            return blob;
        }
        let start = self.constants.len();
        self.constants.extend_from_slice(bytes);
        let blob = Blob::new(Source::Program, start, self.constants.len());
        self.known.insert(bytes.to_vec(), blob);
        blob
    }

    /// The slot of a TX name.
    pub(crate) fn slot(&mut self, name: &[u8]) -> Slot {
        let name = name.to_ascii_lowercase();
        if let Some(&slot) = self.slots.get(&name) {
            return slot;
        }
        let slot = Slot(u16::try_from(self.names.len()).unwrap_or(u16::MAX));
        let blob = self.constant(&name);
        self.names.push(blob);
        self.slots.insert(name, slot);
        slot
    }

    /// The slot of a name, if some rule names it; `name` is in lower case.
    pub(crate) fn find(&self, name: &[u8]) -> Option<Slot> {
        self.slots.get(name).copied()
    }

    /// The name of a slot.
    pub(crate) fn name(&self, slot: Slot) -> Blob {
        self.names.get(usize::from(slot.0)).copied().unwrap_or(Blob::EMPTY)
    }

    /// Slots with their names.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (Slot, &[u8])> {
        self.slots.iter().map(|(name, &slot)| (slot, name.as_slice()))
    }

    /// How many slots there are.
    pub(crate) fn slots_len(&self) -> usize {
        self.names.len()
    }

    /// The constants' buffer, once all are known.
    pub(crate) fn take_constants(&mut self) -> Vec<u8> {
        self.known = HashMap::new();
        std::mem::take(&mut self.constants)
    }

    /// Compiles a text.
    pub(crate) fn text(&mut self, source: &Macro) -> Text {
        let constant = source.0.iter().map(|part| match part {
            MacroPart::Text(text) => Some(text.as_ref()),
            MacroPart::Variable(..) => None,
        });
        if let Some(parts) = constant.collect::<Option<Vec<&str>>>() {
            let text = parts.concat();
            let blob = self.constant(text.as_bytes());
            let number = text.parse::<i64>().ok().filter(|n| n.to_string() == text);
            return Text { parts: vec![Part::Constant(blob)], constant: Some(blob), number };
        }
        let parts = source.0.iter().map(|part| self.part(part)).collect();
        Text { parts, constant: None, number: None }
    }

    fn part(&mut self, part: &MacroPart) -> Part {
        match part {
            MacroPart::Text(text) => Part::Constant(self.constant(text.as_bytes())),
            MacroPart::Variable(Variable::Tx, Some(key)) => Part::Slot(self.slot(key.as_bytes())),
            MacroPart::Variable(variable, key) => {
                let selector = match key {
                    Some(key) => Selector::Key(key.clone()),
                    None => Selector::All,
                };
                let target = Target { variable: *variable, selector, count: false, exclude: false };
                Part::Variable(Spec::plain(&target))
            }
        }
    }
}
