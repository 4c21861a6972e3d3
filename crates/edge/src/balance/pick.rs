//! Which endpoint gets a request. No I/O; time and chance come in.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use phalanx_policy::balance::{Balance, WhenAllDown};

use super::group::{Endpoint, UpstreamGroup};

/// What a choice goes by.
pub(crate) struct Wish<'a> {
    /// The hash that stands for who asks, where the group hashes.
    pub(crate) hash: Option<u64>,
    /// Endpoints that failed with this request already.
    pub(crate) tried: &'a [Arc<Endpoint>],
}

/// The outcome of a choice.
#[derive(Debug)]
pub(crate) enum Picked {
    One(Arc<Endpoint>),
    /// Those that work have as many requests as they may get.
    Busy,
    /// None works, and policy says not to try.
    Down,
    /// There is none, or none that was not tried.
    Nobody,
}

/// Chooses among those of a group that work and have room: the usual ones, else the backups, else, where policy says so, all.
pub(crate) fn pick(
    group: &UpstreamGroup,
    endpoints: &[Arc<Endpoint>],
    wish: &Wish<'_>,
    random: &mut dyn FnMut() -> u64,
) -> Picked {
    let fresh = |endpoint: &Endpoint| !wish.tried.iter().any(|tried| std::ptr::eq(tried.as_ref(), endpoint));
    for backup in [false, true] {
        let of_tier =
            |endpoint: &Endpoint| endpoint.server.backup == backup && endpoint.is_up() && fresh(endpoint);
        if endpoints.iter().any(|endpoint| of_tier(endpoint)) {
            let may = |endpoint: &Endpoint| of_tier(endpoint) && endpoint.has_room();
            return choose(group, endpoints, &may, wish, random).map_or(Picked::Busy, Picked::One);
        }
    }
    if !endpoints.iter().any(|endpoint| fresh(endpoint)) {
        return Picked::Nobody;
    }
    if group.health.when_all_down == WhenAllDown::Refuse {
        return Picked::Down;
    }
    let may = |endpoint: &Endpoint| fresh(endpoint) && endpoint.has_room();
    choose(group, endpoints, &may, wish, random).map_or(Picked::Busy, Picked::One)
}

fn choose(
    group: &UpstreamGroup,
    endpoints: &[Arc<Endpoint>],
    may: &dyn Fn(&Endpoint) -> bool,
    wish: &Wish<'_>,
    random: &mut dyn FnMut() -> u64,
) -> Option<Arc<Endpoint>> {
    if let Some(hash) = wish.hash {
        return by_hash(endpoints, may, hash);
    }
    let starts_slowly = |endpoint: &Arc<Endpoint>| endpoint.state.back_at_ms.load(Ordering::Relaxed) != 0;
    let slow_start_ms = if endpoints.iter().any(starts_slowly) { group.health.slow_start_ms } else { 0 };
    let weigh = |endpoint: &Endpoint| if may(endpoint) { weight(endpoint, slow_start_ms) } else { 0 };
    let total: u64 = endpoints.iter().map(|endpoint| weigh(endpoint)).sum();
    if total == 0 {
        return None;
    }
    if group.balance == Balance::RoundRobin {
        let turn = u64::try_from(group.shared().turn.fetch_add(1, Ordering::Relaxed)).unwrap_or_default();
        let place = turn % total * stride(total, endpoints.len()) % total;
        return at(endpoints, &weigh, place).map(Arc::clone);
    }
    let first = at(endpoints, &weigh, random() % total)?;
    let left = total - weigh(first);
    if left == 0 {
        return Some(Arc::clone(first));
    }
    let others =
        |endpoint: &Endpoint| if std::ptr::eq(endpoint, first.as_ref()) { 0 } else { weigh(endpoint) };
    let second = at(endpoints, &others, random() % left)?;
    // Both were drawn by weight, so that with nothing in flight the first one is right. Else the one with fewer requests for its weight.
    let load = |endpoint: &Endpoint, of: &Endpoint| {
        u64::from(endpoint.state.in_flight.load(Ordering::Relaxed)) * weight(of, slow_start_ms)
    };
    Some(Arc::clone(if load(second, first) < load(first, second) { second } else { first }))
}

/// The endpoint that a place in the sum of all weights falls to.
fn at<'a>(
    endpoints: &'a [Arc<Endpoint>],
    weigh: &dyn Fn(&Endpoint) -> u64,
    place: u64,
) -> Option<&'a Arc<Endpoint>> {
    let mut left = place;
    let mut last = None;
    for endpoint in endpoints {
        let weight = weigh(endpoint);
        if weight == 0 {
            continue;
        }
        if left < weight {
            return Some(endpoint);
        }
        left -= weight;
        // Other workers change what is weighed meanwhile: the last one stands for what is missing.
        last = Some(endpoint);
    }
    last
}

/// An endpoint's weight. While some start slowly all weights are a hundred times as large, and theirs grow from a tenth to the whole.
fn weight(endpoint: &Endpoint, slow_start_ms: u64) -> u64 {
    let weight = u64::from(endpoint.server.weight);
    if slow_start_ms == 0 {
        return weight;
    }
    let percent = match endpoint.state.back_at_ms.load(Ordering::Relaxed) {
        0 => 100,
        back_at_ms => {
            let since_ms = endpoint.group.now_ms().saturating_sub(back_at_ms);
            (since_ms.saturating_mul(100) / slow_start_ms).clamp(SLOW_START_PERCENT_LEAST, 100)
        }
    };
    weight * percent
}

/// How far the turn goes on at once: where weights differ, so far that one server's turns do not come in a row, and still each comes
/// as often as its weight says.
fn stride(total: u64, endpoints: usize) -> u64 {
    if total <= u64::try_from(endpoints).unwrap_or(u64::MAX) {
        return 1;
    }
    // The golden section spreads best.
    let mut stride = (total * 618 / 1_000).max(1);
    while gcd(stride, total) != 1 {
        stride += 1;
    }
    stride
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Rendezvous hashing with weights (Thaler and Ravishankar 1998; weights as in Resch 2015): each endpoint draws a lot for the key, and
/// the best lot wins. An endpoint that comes or goes moves only the keys that are or were its own.
fn by_hash(endpoints: &[Arc<Endpoint>], may: &dyn Fn(&Endpoint) -> bool, hash: u64) -> Option<Arc<Endpoint>> {
    let mut best: Option<(f64, &Arc<Endpoint>)> = None;
    for endpoint in endpoints.iter().filter(|endpoint| may(endpoint)) {
        let lot = mix(hash ^ endpoint.seed) >> 11;
        // 53 bits are exact in a float; never 0, whose logarithm there is none of.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let lot = (lot as f64 + 0.5) / (1_u64 << 53) as f64;
        let score = -lot.ln() / f64::from(endpoint.server.weight);
        if best.is_none_or(|(least, _)| score < least) {
            best = Some((score, endpoint));
        }
    }
    best.map(|(_, endpoint)| Arc::clone(endpoint))
}

/// A hash that is the same on every node: FNV-1a, mixed.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(hash)
}

/// The finisher of SplitMix64.
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Where a slow start begins: some requests must come, or it never warms up.
const SLOW_START_PERCENT_LEAST: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::UpstreamPlan;

    fn group(weights: &[u16]) -> UpstreamGroup {
        let server = |(n, weight): (usize, &u16)| {
            let port = u16::try_from(n).unwrap() + 1;
            UpstreamPlan { weight: *weight, ..UpstreamPlan::new("127.0.0.1", port, "") }
        };
        UpstreamGroup::new(weights.iter().enumerate().map(server).collect())
    }

    /// SplitMix64 with a fixed seed.
    fn dice(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(state)
        }
    }

    fn place(endpoints: &[Arc<Endpoint>], picked: Picked) -> usize {
        let Picked::One(one) = picked else { panic!("{picked:?}") };
        endpoints.iter().position(|endpoint| Arc::ptr_eq(endpoint, &one)).unwrap()
    }

    /// How many of `draws` requests each gets; `holds` leaves each in flight.
    fn spread(
        group: &UpstreamGroup,
        draws: u64,
        holds: bool,
        hash_of: impl Fn(u64) -> Option<u64>,
    ) -> Vec<u32> {
        let endpoints = group.endpoints();
        let mut random = dice(7);
        let mut counts = vec![0; endpoints.len()];
        for draw in 0..draws {
            let wish = Wish { hash: hash_of(draw), tried: &[] };
            let chosen = place(&endpoints, pick(group, &endpoints, &wish, &mut random));
            counts[chosen] += 1;
            if holds {
                endpoints[chosen].state.in_flight.fetch_add(1, Ordering::Relaxed);
            }
        }
        counts
    }

    #[track_caller]
    fn near(counts: &[u32], expected: &[f64], within: f64) {
        for (count, expected) in counts.iter().zip(expected) {
            let off = (f64::from(*count) - expected).abs() / expected;
            assert!(off < within, "{counts:?}, expected about {expected}");
        }
    }

    #[test]
    fn without_load_requests_are_spread_by_weight() {
        near(&spread(&group(&[1, 1, 2]), 40_000, false, |_| None), &[10_000.0, 10_000.0, 20_000.0], 0.05);
    }

    #[test]
    fn with_load_the_one_with_fewer_in_flight_is_chosen() {
        let even = group(&[1; 8]);
        let counts = spread(&even, 8_000, true, |_| None);
        // Two choices keep the fullest within a few of the mean; one choice would be off by a hundred.
        assert!(counts.iter().all(|count| (995..=1_005).contains(count)), "{counts:?}");
        near(&spread(&group(&[1, 3]), 4_000, true, |_| None), &[1_000.0, 3_000.0], 0.02);
    }

    #[test]
    fn round_robin_gives_each_its_exact_part() {
        let mut group = group(&[1, 1, 1]);
        group.balance = Balance::RoundRobin;
        assert_eq!(spread(&group, 9, false, |_| None), [3, 3, 3]);
        let mut group = super::tests::group(&[5, 1, 1]);
        group.balance = Balance::RoundRobin;
        assert_eq!(spread(&group, 70, false, |_| None), [50, 10, 10]);
    }

    #[test]
    fn hashing_spreads_keys_by_weight_and_moves_few() {
        let group = group(&[1, 1, 1, 1, 2]);
        let key = |draw: u64| Some(hash(&draw.to_le_bytes()));
        near(&spread(&group, 60_000, false, key), &[10_000.0, 10_000.0, 10_000.0, 10_000.0, 20_000.0], 0.05);
        let endpoints = group.endpoints();
        let chosen = |key: u64| {
            let wish = Wish { hash: Some(hash(&key.to_le_bytes())), tried: &[] };
            place(&endpoints, pick(&group, &endpoints, &wish, &mut dice(1)))
        };
        let before: Vec<usize> = (0..10_000).map(chosen).collect();
        endpoints[2].state.down.store(1, Ordering::Relaxed);
        let after: Vec<usize> = (0..10_000).map(chosen).collect();
        for (before, after) in before.iter().zip(&after) {
            assert!(*before == 2 && *after != 2 || before == after);
        }
    }

    #[test]
    fn backups_serve_only_when_nobody_else_does() {
        let servers = [false, false, true].iter().zip(1..).map(|(backup, port)| UpstreamPlan {
            backup: *backup,
            ..UpstreamPlan::new("127.0.0.1", port, "")
        });
        let mut group = UpstreamGroup::new(servers.collect());
        let endpoints = group.endpoints();
        assert_eq!(spread(&group, 1_000, false, |_| None)[2], 0);
        for endpoint in &endpoints[..2] {
            endpoint.state.down.store(1, Ordering::Relaxed);
        }
        assert_eq!(spread(&group, 1_000, false, |_| None), [0, 0, 1_000]);
        // All are said to be down: all are tried, unless policy refuses.
        endpoints[2].state.down.store(1, Ordering::Relaxed);
        assert!(spread(&group, 1_000, false, |_| None).iter().all(|count| *count > 200));
        group.health.when_all_down = WhenAllDown::Refuse;
        let wish = Wish { hash: None, tried: &[] };
        assert!(matches!(pick(&group, &endpoints, &wish, &mut dice(1)), Picked::Down));
    }

    #[test]
    fn what_was_tried_is_not_tried_again() {
        let group = group(&[1, 1]);
        let endpoints = group.endpoints();
        let picked =
            |tried: &[Arc<Endpoint>]| pick(&group, &endpoints, &Wish { hash: Some(5), tried }, &mut dice(3));
        let first = place(&endpoints, picked(&[]));
        let second = place(&endpoints, picked(&endpoints[first..=first]));
        assert_ne!(first, second);
        assert!(matches!(picked(&endpoints), Picked::Nobody));
        // One that is said to be down is better than none.
        endpoints[second].state.down.store(1, Ordering::Relaxed);
        assert_eq!(place(&endpoints, picked(&endpoints[first..=first])), second);
    }

    #[test]
    fn full_servers_get_nothing_and_backups_are_no_overflow() {
        let server = |port, requests_max, backup| UpstreamPlan {
            requests_max,
            backup,
            ..UpstreamPlan::new("127.0.0.1", port, "")
        };
        let group = UpstreamGroup::new(vec![server(1, 1, false), server(2, 3, false), server(3, 9, true)]);
        let endpoints = group.endpoints();
        assert_eq!(spread(&group, 4, true, |_| None), [1, 3, 0]);
        let wish = Wish { hash: None, tried: &[] };
        assert!(matches!(pick(&group, &endpoints, &wish, &mut dice(1)), Picked::Busy));
    }

    #[test]
    fn one_that_is_back_gets_a_growing_share() {
        let mut group = group(&[1, 1]);
        let endpoints = group.endpoints();
        endpoints[0].state.back_at_ms.store(endpoints[0].group.now_ms(), Ordering::Relaxed);
        group.health.slow_start_ms = 3_600_000;
        near(&spread(&group, 11_000, false, |_| None), &[1_000.0, 10_000.0], 0.2);
        group.health.slow_start_ms = 0;
        near(&spread(&group, 10_000, false, |_| None), &[5_000.0, 5_000.0], 0.05);
    }
}
