//! How known-good visitors fare under orders: who of them comes, and who is turned away. A few names for each order, which are all that it takes.

use std::collections::{HashMap, HashSet};

use phalanx_learn::respond::{OrderId, Toll};

/// By order.
#[derive(Debug, Default)]
pub(super) struct Tolls(HashMap<OrderId, Fared>);

#[derive(Debug, Default)]
struct Fared {
    came: HashSet<u64>,
    refused: HashSet<u64>,
    is_news: bool,
}

impl Tolls {
    /// Somebody known came under an order.
    pub(super) fn note(&mut self, order: OrderId, who: u64, is_refused: bool) {
        if self.0.len() >= ORDERS_MAX && !self.0.contains_key(&order) {
            return;
        }
        let fared = self.0.entry(order).or_default();
        let room = |of: &HashSet<u64>| of.len() < VISITORS_MAX;
        if room(&fared.came) {
            fared.came.insert(who);
        }
        if is_refused && room(&fared.refused) {
            fared.is_news |= fared.refused.insert(who);
        }
    }

    /// Of orders under which somebody more was turned away since this was asked last.
    pub(super) fn news(&mut self) -> Vec<(OrderId, Toll)> {
        let count = |of: &HashSet<u64>| u32::try_from(of.len()).unwrap_or(u32::MAX);
        let told = |(order, fared): (&OrderId, &mut Fared)| {
            let toll = Toll { came: count(&fared.came), refused: count(&fared.refused) };
            std::mem::take(&mut fared.is_news).then_some((*order, toll))
        };
        self.0.iter_mut().filter_map(told).collect()
    }

    /// An order is over.
    pub(super) fn forget(&mut self, order: OrderId) {
        self.0.remove(&order);
    }
}

/// As many as may be in force.
const ORDERS_MAX: usize = 1_024;
/// Names for each order: so many make a share.
const VISITORS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_visitor_counts_once_and_only_news_is_told() {
        let mut tolls = Tolls::default();
        let order = OrderId(1);
        (0..10).for_each(|who| tolls.note(order, who, false));
        assert_eq!(tolls.news(), []);
        [3, 3, 4].into_iter().for_each(|who| tolls.note(order, who, true));
        assert_eq!(tolls.news(), [(order, Toll { came: 10, refused: 2 })]);
        tolls.note(order, 4, true);
        assert_eq!(tolls.news(), []);
        (0..1_000).for_each(|who| tolls.note(order, who, true));
        assert_eq!(tolls.news(), [(order, Toll { came: 256, refused: 256 })]);
        tolls.forget(order);
        assert_eq!(tolls.news(), []);
    }
}
