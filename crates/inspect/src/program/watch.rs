//! Which steps of a phase are worth a look: found out once, at the start of the phase, from what its values can match.

use super::{Guard, Link, PatternId, PickId, Rule, Step, ViewId};

/// A phase: its steps in order, and what calls for them.
#[derive(Debug, Default)]
pub(crate) struct Phase {
    pub(crate) steps: Vec<Step>,
    /// A bit for each step that runs whatever the values.
    pub(crate) always: Vec<u64>,
    pub(crate) watches: Vec<Watch>,
}

/// The views of a pick that steps look at first.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) pick: PickId,
    pub(crate) views: Vec<WatchedView>,
}

/// Which steps a view calls for when one of its values can match a pattern.
#[derive(Debug)]
pub(crate) struct WatchedView {
    pub(crate) view: ViewId,
    pub(crate) calls: Vec<(PatternId, u32)>,
}

impl Phase {
    /// Sorts steps by what calls for them. `pick_of` tells the pick of a view.
    pub(crate) fn new(steps: Vec<Step>, rules: &[Rule], pick_of: impl Fn(ViewId) -> Option<PickId>) -> Self {
        let mut phase = Self { always: vec![0; steps.len().div_ceil(64)], ..Self::default() };
        for (number, step) in (0u32..).zip(&steps) {
            let first = rules.get(step.rule as usize).and_then(|rule| rule.links.first());
            match (step.guard, first) {
                (Guard::Pattern(pattern), Some(link)) => phase.watch(number, pattern, link, &pick_of),
                _ => set(&mut phase.always, number),
            }
        }
        phase.steps = steps;
        phase
    }

    fn watch(
        &mut self,
        step: u32,
        pattern: PatternId,
        link: &Link,
        pick_of: impl Fn(ViewId) -> Option<PickId>,
    ) {
        for &view in &link.views {
            let Some(pick) = pick_of(view) else { continue };
            let views = match self.watches.iter().position(|watch| watch.pick == pick) {
                Some(place) => self.watches.get_mut(place),
                None => {
                    self.watches.push(Watch { pick, views: Vec::new() });
                    self.watches.last_mut()
                }
            };
            let Some(Watch { views, .. }) = views else { continue };
            match views.iter_mut().find(|watched| watched.view == view) {
                Some(watched) => watched.calls.push((pattern, step)),
                None => views.push(WatchedView { view, calls: vec![(pattern, step)] }),
            }
        }
    }
}

/// Sets a bit.
#[inline]
pub(crate) fn set(words: &mut [u64], bit: u32) {
    if let Some(word) = words.get_mut((bit / 64) as usize) {
        *word |= 1 << (bit % 64);
    }
}

/// The first bit that is set from `at` on.
#[inline]
pub(crate) fn next(words: &[u64], at: u32) -> Option<u32> {
    let mut place = at / 64;
    let mut word = words.get(place as usize)? & (u64::MAX << (at % 64));
    while word == 0 {
        place += 1;
        word = *words.get(place as usize)?;
    }
    Some(place * 64 + word.trailing_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_found_in_order() {
        let mut words = [0u64; 3];
        [0, 63, 64, 130].into_iter().for_each(|bit| set(&mut words, bit));
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(bit) = next(&words, at) {
            found.push(bit);
            at = bit + 1;
        }
        assert_eq!(found, [0, 63, 64, 130]);
        assert_eq!(next(&words, 192), None);
    }
}
