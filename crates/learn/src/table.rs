//! A table of fixed size that keeps what is used. Its keys are hashes under a seed of the node, so nobody can aim at one of its sets.
//!
//! In a full set a newcomer takes the place of the least used entry only if it was itself seen more often lately, which a small sketch
//! of counters knows ("TinyLFU", Einziger, Friedman and Manes 2017). A flood of actors that come once each therefore does not push out
//! those that come often.

use crate::sketch::{low32, mix};

/// Values by hashed key.
#[derive(Debug)]
pub(crate) struct Table<V> {
    sets: Vec<Vec<Slot<V>>>,
    seed: u64,
    frequency: Frequency,
    /// Entries that made room.
    pub(crate) evicted: u64,
    /// Newcomers that found no room.
    pub(crate) refused: u64,
}

#[derive(Debug)]
struct Slot<V> {
    key: u64,
    used_s: u32,
    /// Uses, halved every [`HALF_LIFE_S`].
    heat: u16,
    value: V,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Entry<'a, V> {
    pub(crate) value: &'a mut V,
    /// When it was last used before, in Unix seconds; none if it is new.
    pub(crate) last_s: Option<u32>,
}

impl<V: Default> Table<V> {
    pub(crate) fn new(capacity: usize, seed: u64) -> Self {
        let sets = capacity.div_ceil(WAYS).max(1);
        let frequency = Frequency::new(capacity);
        Self { sets: (0..sets).map(|_| Vec::new()).collect(), seed, frequency, evicted: 0, refused: 0 }
    }

    /// The value of a key; none if there is no room for it.
    pub(crate) fn entry(&mut self, key: u64, now_s: u32) -> Option<Entry<'_, V>> {
        let key = mix(key ^ self.seed);
        let place = place(key, self.sets.len());
        let set = self.sets.get_mut(place)?;
        if let Some(at) = set.iter().position(|slot| slot.key == key) {
            let slot = set.get_mut(at)?;
            slot.heat = slot.heat_at(now_s).saturating_add(1);
            let last_s = slot.used_s;
            slot.used_s = last_s.max(now_s);
            return Some(Entry { value: &mut slot.value, last_s: Some(last_s) });
        }
        let new = Slot { key, used_s: now_s, heat: 1, value: V::default() };
        if set.len() < WAYS {
            set.push(new);
            return set.last_mut().map(|slot| Entry { value: &mut slot.value, last_s: None });
        }
        let seen = self.frequency.count(key);
        let coldest = set.iter_mut().min_by_key(|slot| (slot.heat_at(now_s), slot.used_s))?;
        if u16::from(seen) <= coldest.heat_at(now_s) {
            self.refused += 1;
            return None;
        }
        self.evicted += 1;
        *coldest = new;
        Some(Entry { value: &mut coldest.value, last_s: None })
    }

    /// The value of a key that is there, without using it.
    pub(crate) fn peek(&self, key: u64) -> Option<&V> {
        let key = mix(key ^ self.seed);
        let set = self.sets.get(place(key, self.sets.len()))?;
        set.iter().find(|slot| slot.key == key).map(|slot| &slot.value)
    }

    /// The same, to change it.
    pub(crate) fn peek_mut(&mut self, key: u64) -> Option<&mut V> {
        let key = mix(key ^ self.seed);
        let place = place(key, self.sets.len());
        let slot = self.sets.get_mut(place)?.iter_mut().find(|slot| slot.key == key)?;
        Some(&mut slot.value)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.sets.iter().map(Vec::len).sum()
    }

    /// What the table itself takes, in bytes, without what values hold elsewhere.
    pub(crate) fn bytes(&self) -> usize {
        let slots: usize = self.sets.iter().map(Vec::capacity).sum();
        slots * size_of::<Slot<V>>()
            + self.sets.capacity() * size_of::<Vec<Slot<V>>>()
            + self.frequency.cells.capacity()
    }
}

impl<V> Slot<V> {
    fn heat_at(&self, now_s: u32) -> u16 {
        let halvings = now_s.saturating_sub(self.used_s) / HALF_LIFE_S;
        self.heat.checked_shr(halvings).unwrap_or(0)
    }
}

/// How often keys that are not in the table came lately: two rows of counters, halved after as many counts as there are places.
#[derive(Debug)]
struct Frequency {
    cells: Vec<u8>,
    counted: usize,
}

impl Frequency {
    fn new(capacity: usize) -> Self {
        Self { cells: vec![0; (2 * capacity).next_power_of_two()], counted: 0 }
    }

    fn count(&mut self, key: u64) -> u8 {
        self.counted += 1;
        if self.counted > self.cells.len() / 4 {
            self.counted = 0;
            self.cells.iter_mut().for_each(|cell| *cell /= 2);
        }
        let half = self.cells.len() / 2;
        let (first, second) = self.cells.split_at_mut(half);
        let again = mix(key ^ 0x9e37_79b9_7f4a_7c15);
        let cells = [(first, key), (second, again)].map(|(row, hash)| {
            let at = place(hash, half);
            row.get_mut(at).map_or(0, |cell| {
                *cell = cell.saturating_add(1);
                *cell
            })
        });
        cells.into_iter().min().unwrap_or(0)
    }
}

fn place(hash: u64, length: usize) -> usize {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    usize::try_from((u64::from(low32(hash >> 32)) * length) >> 32).unwrap_or(0)
}

const WAYS: usize = 16;
const HALF_LIFE_S: u32 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_newcomers_does_not_push_out_who_comes_often() {
        let mut table: Table<u64> = Table::new(1_600, 7);
        for round in 0..20_u64 {
            for actor in 0..800 {
                if let Some(entry) = table.entry(actor, 100) {
                    *entry.value = actor;
                }
            }
            // Ten times as many as there is room for come once each.
            for stranger in 0..800 {
                table.entry(1_000_000 + round * 800 + stranger, 100);
            }
        }
        let kept = (0..800).filter(|actor| table.peek(*actor) == Some(actor)).count();
        assert!(kept >= 792, "{kept}");
        assert!(table.len() <= 1_600 && table.refused > 10_000);
    }

    #[test]
    fn who_left_makes_room() {
        let mut table: Table<u64> = Table::new(160, 7);
        for actor in 0..400 {
            for _ in 0..20 {
                table.entry(actor, 100);
            }
        }
        let later = 100 + 10 * HALF_LIFE_S;
        assert!(table.entry(9_999, later).is_some());
    }
}
