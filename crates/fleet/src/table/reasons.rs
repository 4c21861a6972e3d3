//! Texts that many decisions share, each kept once for as long as one of them uses it.

use std::hash::BuildHasher as _;

use foldhash::quality::RandomState;
use hashbrown::HashTable;

/// Reasons by number.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    texts: Vec<Reason>,
    numbers: HashTable<u32>,
    free: Vec<u32>,
    hashes: RandomState,
}

#[derive(Debug, Default)]
struct Reason {
    text: Box<str>,
    uses: u32,
}

impl Reasons {
    pub(super) fn get(&self, number: u32) -> &str {
        at(&self.texts, number).map_or("", |reason| &reason.text)
    }

    /// The number of a text, which is used once more.
    pub(super) fn take(&mut self, text: &str) -> u32 {
        let hash = self.hashes.hash_one(text);
        let known = self.numbers.find(hash, |number| self.get(*number) == text).copied();
        if let Some(reason) = known.and_then(|number| self.texts.get_mut(usize::try_from(number).ok()?)) {
            reason.uses += 1;
            return known.unwrap_or_default();
        }
        let reason = Reason { text: text.into(), uses: 1 };
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(place) = usize::try_from(number).ok().and_then(|place| self.texts.get_mut(place))
                {
                    *place = reason;
                }
                number
            }
            None => {
                self.texts.push(reason);
                // There are no more texts than rows, which 32 bits count.
                u32::try_from(self.texts.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let (texts, hashes) = (&self.texts, &self.hashes);
        let hash_of = |number: &u32| hashes.hash_one(at(texts, *number).map_or("", |reason| &reason.text));
        self.numbers.insert_unique(hash, number, hash_of);
        number
    }

    /// One use of a text less; the last takes the text away.
    pub(super) fn give_back(&mut self, number: u32) {
        let Some(reason) = usize::try_from(number).ok().and_then(|place| self.texts.get_mut(place)) else {
            return;
        };
        reason.uses = reason.uses.saturating_sub(1);
        if reason.uses > 0 {
            return;
        }
        let hash = self.hashes.hash_one(&*reason.text);
        *reason = Reason::default();
        if let Ok(entry) = self.numbers.find_entry(hash, |known| *known == number) {
            entry.remove();
        }
        self.free.push(number);
    }
}

fn at(texts: &[Reason], number: u32) -> Option<&Reason> {
    texts.get(usize::try_from(number).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_goes_with_its_last_use() {
        let mut reasons = Reasons::default();
        let (one, again, other) = (reasons.take("one"), reasons.take("one"), reasons.take("other"));
        assert_eq!((one, reasons.get(again), reasons.get(other)), (again, "one", "other"));
        reasons.give_back(one);
        assert_eq!(reasons.get(one), "one");
        reasons.give_back(one);
        assert_eq!(reasons.get(one), "");
        assert_eq!(reasons.take("third"), one, "its place is used again");
        assert_eq!((reasons.get(one), reasons.get(other), reasons.texts.len()), ("third", "other", 2));
        assert_eq!(reasons.take("other"), other);
    }
}
