//! When to ask an authority, and when not to: pure, so that it can be tested over years.

use super::state::{Issued, Tried};

/// Orders of a site in one hour, whatever is due. Public authorities allow more, and one that does not says so.
pub const ORDERS_PER_HOUR: usize = 50;

/// Whether a certificate is to be ordered now.
pub(super) fn is_due(
    issued: Option<&Issued>,
    tried: Option<&Tried>,
    directory: &str,
    revoked_up_to_ms: u64,
    now_ms: u64,
) -> bool {
    let wanted_at_ms = match issued {
        // From another authority, or known to a node that was put out since.
        Some(issued) if issued.directory == directory && issued.made_at_ms > revoked_up_to_ms => {
            issued.renew_at_ms
        }
        Some(_) | None => 0,
    };
    let may_at_ms = tried.map_or(0, |tried| tried.next_at_ms);
    now_ms >= wanted_at_ms.max(may_at_ms)
}

/// When a certificate is renewed: after two thirds of its time, and a little later or not, by `chance`, so that those that were ordered
/// together are not renewed together.
pub(super) fn renewal_ms(not_before_ms: u64, not_after_ms: u64, chance: u64) -> u64 {
    let lifetime_ms = not_after_ms.saturating_sub(not_before_ms);
    let spread_ms = lifetime_ms / 30;
    not_before_ms.saturating_add(lifetime_ms / 3 * 2).saturating_add(chance % spread_ms.max(1))
}

/// The account of a try that came to nothing. Four times as long as before goes by until the next, but six hours at most.
pub(super) fn failed(before: Option<&Tried>, error: &str, limited: bool, now_ms: u64, chance: u64) -> Tried {
    let failures = before.map_or(0, |before| before.failures).saturating_add(1);
    let pause_ms =
        (0..failures.min(8)).skip(1).fold(FIRST_PAUSE_MS, |pause_ms, _| pause_ms * 4).min(PAUSE_MAX_MS);
    let pause_ms = if limited { pause_ms.max(LIMITED_PAUSE_MS) } else { pause_ms };
    let error = error.chars().filter(|c| !c.is_control()).take(ERROR_CHARACTERS_MAX).collect();
    Tried { at_ms: now_ms, failures, next_at_ms: now_ms + pause_ms + chance % (pause_ms / 4), error }
}

/// The orders of the last hour, this one included; `None` if there were as many as there may be.
pub(super) fn counted(mut orders: Vec<u64>, now_ms: u64) -> Option<Vec<u64>> {
    orders.retain(|at_ms| now_ms.saturating_sub(*at_ms) < HOUR_MS);
    if orders.len() >= ORDERS_PER_HOUR {
        return None;
    }
    orders.push(now_ms);
    Some(orders)
}

const HOUR_MS: u64 = 60 * 60_000;
/// After the first failure, which most often is of the network.
const FIRST_PAUSE_MS: u64 = 15_000;
const PAUSE_MAX_MS: u64 = 6 * HOUR_MS;
/// Where the authority says that it was asked too often.
const LIMITED_PAUSE_MS: u64 = HOUR_MS;
/// Of an error, which may be the authority's words.
const ERROR_CHARACTERS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const DAY: u64 = 24 * HOUR_MS;

    fn issued(made_at_ms: u64, renew_at_ms: u64) -> Issued {
        Issued {
            chain: String::new(),
            key: String::new().into(),
            not_after_ms: NOW + 90 * DAY,
            made_at_ms,
            renew_at_ms,
            ask_at_ms: 0,
            directory: "https://ca.test/dir".into(),
        }
    }

    #[test]
    fn what_is_missing_old_foreign_or_known_to_a_thief_is_ordered() {
        let of =
            |issued: Option<&Issued>, directory: &str, revoked| is_due(issued, None, directory, revoked, NOW);
        let here = "https://ca.test/dir";
        let good = issued(NOW - DAY, NOW + DAY);
        assert!(of(None, here, 0));
        assert!(!of(Some(&good), here, 0) && !of(Some(&good), here, NOW - 2 * DAY));
        assert!(of(Some(&good), "https://other.test/dir", 0));
        assert!(of(Some(&good), here, NOW - DAY), "it was made before the revocation");
        assert!(of(Some(&issued(NOW - DAY, NOW)), here, 0));
        let tried = Tried { next_at_ms: NOW + 1, ..Tried::default() };
        assert!(!is_due(None, Some(&tried), here, 0, NOW) && is_due(None, Some(&tried), here, 0, NOW + 1));
    }

    #[test]
    fn renewal_is_at_two_thirds_and_spread() {
        for (days, chance) in [(90, 0), (90, u64::MAX), (6, 12_345_678_901)] {
            let at = renewal_ms(NOW, NOW + days * DAY, chance);
            assert!(
                (NOW + days * DAY / 3 * 2..NOW + days * DAY * 7 / 10 + 1).contains(&at),
                "{days} {chance}"
            );
        }
        assert_eq!(renewal_ms(NOW, NOW, 7), NOW);
    }

    #[test]
    fn failures_are_followed_by_ever_longer_pauses() {
        let (mut tried, mut now_ms, mut tries) = (None, NOW, Vec::new());
        while now_ms < NOW + 7 * DAY {
            let next = failed(tried.as_ref(), "no\nroute", false, now_ms, now_ms);
            assert_eq!(next.error, "noroute");
            tries.push(now_ms);
            now_ms = next.next_at_ms;
            tried = Some(next);
        }
        let within = |ms| tries.iter().filter(|at| **at < NOW + ms).count();
        assert!((3..=5).contains(&within(HOUR_MS)), "{}", within(HOUR_MS));
        assert!(within(7 * DAY) < 40, "{}", within(7 * DAY));
        assert!(failed(None, "", true, NOW, 0).next_at_ms >= NOW + HOUR_MS);
    }

    #[test]
    fn only_so_many_orders_fit_into_an_hour() {
        let (mut orders, mut made) = (Vec::new(), 0);
        for minute in 0..120 {
            if let Some(counted) = counted(orders.clone(), NOW + minute * 60_000) {
                orders = counted;
                made += 1;
            }
        }
        assert_eq!(made, 2 * ORDERS_PER_HOUR);
    }
}
