//! Which values of a pick, transformed, a pattern can match: worked out once per transaction for each pick and chain of
//! transformations, and read by all rules that share them.

use crate::program::{PatternId, Phase, Program, ROOT, ViewId, watch};
use crate::transaction::Transaction;
use crate::transaction::state::{Candidates, EMPTY_UNION, State, ViewCache};
use crate::transaction::values::EMPTY_ROW;

impl Transaction {
    /// Marks the steps of a phase that are worth a look.
    pub(super) fn call_steps(&mut self, program: &Program, phase: &Phase) {
        let called = &mut self.scratch.state.called;
        called.clear();
        called.extend_from_slice(&phase.always);
        for watch in &phase.watches {
            let entries = self.pick_entries(program, watch.pick);
            if entries.0 == entries.1 {
                continue;
            }
            for watched in &watch.views {
                let union = self.view_of(program, watched.view, entries).union;
                if union == EMPTY_UNION {
                    continue;
                }
                let state = &mut self.scratch.state;
                for &(pattern, step) in &watched.calls {
                    if state.is_in_union(union, pattern) {
                        watch::set(&mut state.called, step);
                    }
                }
            }
        }
    }

    /// The items of a view, made anew when its entries are others than when they were made.
    pub(super) fn view(&mut self, program: &Program, id: ViewId) -> ViewCache {
        let Some(&(pick, _)) = program.views.get(id.0 as usize) else {
            return ViewCache::default();
        };
        let entries = self.pick_entries(program, pick);
        self.view_of(program, id, entries)
    }

    #[inline]
    fn view_of(&mut self, program: &Program, id: ViewId, (start, end): (u32, u32)) -> ViewCache {
        let state = &self.scratch.state;
        let cached = state.view_cache.get(id.0 as usize).copied().unwrap_or_default();
        if cached.made && (cached.start, cached.end) == (start, end) {
            return cached;
        }
        self.make_view(program, id, (start, end))
    }

    fn make_view(&mut self, program: &Program, id: ViewId, (start, end): (u32, u32)) -> ViewCache {
        let mut made = ViewCache { made: true, start, end, ..ViewCache::default() };
        if start < end {
            self.fill_view(program, id, &mut made);
        }
        if let Some(cache) = self.scratch.state.view_cache.get_mut(id.0 as usize) {
            *cache = made;
        }
        made
    }

    fn fill_view(&mut self, program: &Program, id: ViewId, made: &mut ViewCache) {
        let Some(&(pick, node)) = program.views.get(id.0 as usize) else { return };
        let few = program.few_patterns.get(id.0 as usize).map(Vec::as_slice).unwrap_or_default();
        let extent = self.pick_extent(pick, (made.start, made.end));
        let reshaped =
            node != ROOT && (extent.reshaped.has(node) || program.trie.may_reshape(node, &extent.strange));
        let filter = &program.prefilter;
        let plain = self.scratch.state.pick_cache.get(pick.0 as usize).and_then(|cached| cached.plain);
        if let Some(plain) = plain.filter(|_| !reshaped) {
            (made.items, made.union) = plain;
            return;
        }
        if !few.is_empty() && !reshaped {
            // What no value can match even if it had the bytes of all of them needs no look at each.
            let all = filter.glance(extent.length_max, &extent.presence);
            if !few.iter().any(|&pattern| all.allows(pattern)) {
                return;
            }
        }
        let few = if !reshaped && program.often_viewed.get(pick.0 as usize).copied().unwrap_or_default() {
            &[]
        } else {
            few
        };
        let State { pick_entries, pick_cache, view_items, values, unions, .. } = &mut self.scratch.state;
        made.items = u32::try_from(view_items.len()).unwrap_or(u32::MAX);
        let mut union = Union { words: filter.words(), start: EMPTY_UNION, all: unions };
        for entry in pick_entries.get(made.start as usize..made.end as usize).unwrap_or_default() {
            let form = if reshaped { values.form(program, entry.value, node) } else { entry.value };
            let candidates = match (few, values.row_at_once(program, form)) {
                (_, Some(row)) => Candidates::Row(row),
                ([], None) => Candidates::Row(values.candidate_row(program, form)),
                (few, None) => Candidates::Few(values.few_candidates(program, form, few)),
            };
            view_items.push(candidates);
            match candidates {
                Candidates::Row(EMPTY_ROW) | Candidates::Few(0) => {}
                Candidates::Row(row) => union.add_row(values.candidate_words(row, filter.words())),
                Candidates::Few(bits) => union.add_few(few, bits),
            }
        }
        made.union = union.start;
        if few.is_empty()
            && !reshaped
            && let Some(cached) = pick_cache.get_mut(pick.0 as usize)
        {
            cached.plain = Some((made.items, made.union));
        }
    }

    /// Whether a pattern can match an entry of a view, by its place in the view.
    #[inline]
    pub(super) fn is_candidate(&self, program: &Program, id: ViewId, place: u32, pattern: PatternId) -> bool {
        let state = &self.scratch.state;
        let Some(view) = state.view_cache.get(id.0 as usize) else { return true };
        if view.union == EMPTY_UNION {
            return false;
        }
        match state.view_items.get((view.items + place) as usize) {
            Some(&Candidates::Row(row)) => state.values.is_candidate(row, pattern),
            Some(Candidates::Few(bits)) => {
                let few = program.few_patterns.get(id.0 as usize).map(Vec::as_slice).unwrap_or_default();
                few.iter().position(|one| *one == pattern).is_none_or(|place| bits >> place & 1 == 1)
            }
            None => true,
        }
    }
}

/// The union of a view while it is made. It takes no room before there is a candidate.
struct Union<'s> {
    words: usize,
    start: u32,
    all: &'s mut Vec<u64>,
}

impl Union<'_> {
    fn add_row(&mut self, row: &[u64]) {
        for (word, more) in self.room().iter_mut().zip(row) {
            *word |= more;
        }
    }

    fn add_few(&mut self, few: &[PatternId], bits: u8) {
        let room = self.room();
        for (place, pattern) in few.iter().enumerate() {
            if bits >> place & 1 == 1 {
                watch::set(room, pattern.0);
            }
        }
    }

    fn room(&mut self) -> &mut [u64] {
        if self.start == EMPTY_UNION {
            self.start = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
            self.all.resize(self.all.len() + self.words, 0);
        }
        self.all.get_mut(self.start as usize..).unwrap_or_default()
    }
}

impl State {
    /// Whether a pattern is in the union that starts here.
    #[inline]
    pub(super) fn is_in_union(&self, union: u32, pattern: PatternId) -> bool {
        let word = self.unions.get(union as usize + (pattern.0 / 64) as usize);
        word.is_none_or(|word| word >> (pattern.0 % 64) & 1 == 1)
    }
}
