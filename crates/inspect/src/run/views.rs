//! Which values of a pick, transformed, a pattern can match: worked out once per transaction for each pick and chain of
//! transformations, and read by all rules that share them.

use crate::program::{PatternId, Program, ViewId};
use crate::transaction::Transaction;
use crate::transaction::state::{ComboCache, State, ViewCache};

impl Transaction {
    /// Where the union of the candidates in all views of a combo starts.
    #[inline]
    pub(super) fn combo_union(&mut self, program: &Program, combo: u32) -> u32 {
        let state = &self.scratch.state;
        let cached = state.combo_cache.get(combo as usize).copied().unwrap_or_default();
        if cached.epoch == state.epoch { cached.union } else { self.make_combo(program, combo) }
    }

    fn make_combo(&mut self, program: &Program, combo: u32) -> u32 {
        let views = program.combos.get(combo as usize).map(Vec::as_slice).unwrap_or_default();
        for &view in views {
            self.view(program, view);
        }
        let words = program.prefilter.words();
        let state = &mut self.scratch.state;
        let union = state.add_union(words);
        for view in views {
            let from = state.view_cache.get(view.0 as usize).map_or(0, |view| view.union as usize);
            if let Some((before, into)) = state.unions.split_at_mut_checked(union as usize) {
                add(into, before.get(from..from + words).unwrap_or_default());
            }
        }
        let epoch = state.epoch;
        if let Some(cache) = state.combo_cache.get_mut(combo as usize) {
            *cache = ComboCache { epoch, union };
        }
        union
    }

    /// The items of a view, made anew when its entries are others than when they were made.
    #[inline]
    pub(super) fn view(&mut self, program: &Program, id: ViewId) -> ViewCache {
        let Some(&(pick, node)) = program.views.get(id.0 as usize) else {
            return ViewCache::default();
        };
        let (start, end) = self.pick_entries(program, pick);
        let state = &self.scratch.state;
        let cached = state.view_cache.get(id.0 as usize).copied().unwrap_or_default();
        if cached.made && (cached.start, cached.end) == (start, end) {
            return cached;
        }
        self.make_view(program, id, node, (start, end))
    }

    fn make_view(
        &mut self,
        program: &Program,
        id: ViewId,
        node: crate::program::NodeId,
        (start, end): (u32, u32),
    ) -> ViewCache {
        let words = program.prefilter.words();
        let few = program.few_patterns.get(id.0 as usize).map(Vec::as_slice).unwrap_or_default();
        let state = &mut self.scratch.state;
        let union = state.add_union(words);
        let items = u32::try_from(state.view_items.len()).unwrap_or(u32::MAX);
        for place in start..end {
            let Some(&entry) = state.pick_entries.get(place as usize) else {
                continue;
            };
            let value = state.values.transformed(program, entry.value, node);
            let row = match few {
                [] => state.values.candidate_row(program, value),
                few => state.values.row_of_few(program, value, few),
            };
            state.view_items.push((value, u32::try_from(row).unwrap_or(u32::MAX)));
            let more = state.values.candidate_words(row, words);
            add(state.unions.get_mut(union as usize..).unwrap_or_default(), more);
        }
        let made = ViewCache { made: true, start, end, items, union };
        if let Some(cache) = state.view_cache.get_mut(id.0 as usize) {
            *cache = made;
        }
        made
    }
}

impl State {
    fn add_union(&mut self, words: usize) -> u32 {
        let start = self.unions.len();
        self.unions.resize(start + words, 0);
        u32::try_from(start).unwrap_or(u32::MAX)
    }

    /// Whether a pattern is in the union that starts here.
    #[inline]
    pub(super) fn is_in_union(&self, union: u32, pattern: PatternId) -> bool {
        let word = self.unions.get(union as usize + (pattern.0 / 64) as usize);
        word.is_none_or(|word| word >> (pattern.0 % 64) & 1 == 1)
    }
}

#[inline]
fn add(into: &mut [u64], more: &[u64]) {
    for (word, more) in into.iter_mut().zip(more) {
        *word |= more;
    }
}
