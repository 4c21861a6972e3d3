//! How often each actor begins something that costs the node much before anything is known of it, as a TLS handshake: at a pace, each
//! actor at its own.
//!
//! Failure direction: who is not in the table begins anew, with a whole burst. A full bucket gives up whoever is furthest from the limit, so that
//! a flood does not free itself by more addresses.

use std::net::IpAddr;

use phalanx_model::limits::ARRIVAL_ACTORS_MAX;
use phalanx_model::net::actor_ip;

use crate::rate::Pace;
use crate::table::{ActorTable, Entry};

/// When each actor's next arrival would be even, of at most [`ARRIVAL_ACTORS_MAX`] actors.
#[derive(Debug)]
pub struct Arrivals(ActorTable<Next>);

/// What an arrival comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is in time.
    Admitted,
    /// It is too early; `told`: no other of this actor was within a minute, so that somebody should hear of it.
    TooEarly {
        /// Whether it is the first in a while.
        told: bool,
    },
}

#[derive(Debug, Default)]
struct Next {
    next_ns: u64,
    refused_ns: Option<u64>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self(ActorTable::bounding_networks(ARRIVAL_ACTORS_MAX))
    }
}

impl Arrivals {
    /// Counts one, if it is in time. What is refused counts for nothing: who asks for less is served at once.
    pub fn admit(&self, ip: IpAddr, pace: Pace, now_ns: u64) -> Arrival {
        let admit = |entry: &mut Next| {
            if pace.wait_ns(entry.next_ns, now_ns) == 0 {
                entry.next_ns = pace.after(entry.next_ns, 1, now_ns);
                return Arrival::Admitted;
            }
            let before = entry.refused_ns.replace(now_ns);
            Arrival::TooEarly { told: before.is_none_or(|at| now_ns.saturating_sub(at) > QUIET_NS) }
        };
        self.0.update(actor_ip(ip), admit).unwrap_or(Arrival::Admitted)
    }
}

impl Entry for Next {
    fn touched_ms(&self) -> u64 {
        self.next_ns / 1_000_000
    }
}

/// After so long another refusal is news.
const QUIET_NS: u64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn admitted(arrivals: &Arrivals, ip: &str, count: u32, now_ns: u64) -> u32 {
        let ip = ip.parse().unwrap();
        let pace = Pace::new(10, 1_000, 20);
        (0..count).map(|_| u32::from(arrivals.admit(ip, pace, now_ns) == Arrival::Admitted)).sum()
    }

    #[test]
    fn an_actor_has_its_burst_and_then_its_rate() {
        let arrivals = Arrivals::default();
        assert_eq!(admitted(&arrivals, "192.0.2.1", 1_000, SECOND), 20);
        assert_eq!(admitted(&arrivals, "192.0.2.2", 1_000, SECOND), 20, "others have theirs");
        assert_eq!(admitted(&arrivals, "192.0.2.1", 1_000, 2 * SECOND), 10);
        assert_eq!(admitted(&arrivals, "192.0.2.1", 1_000, 60 * SECOND), 20);
        assert_eq!(admitted(&arrivals, "2001:db8::1", 15, SECOND), 15);
        assert_eq!(admitted(&arrivals, "2001:db8::2", 15, SECOND), 5, "a /64 is one actor");
    }

    #[test]
    fn a_flood_is_told_once_until_it_has_been_quiet_for_a_minute() {
        let (arrivals, pace) = (Arrivals::default(), Pace::new(1, 1_000, 1));
        let at = |ns| arrivals.admit("192.0.2.1".parse().unwrap(), pace, ns);
        assert_eq!(at(SECOND), Arrival::Admitted);
        assert_eq!(at(SECOND), Arrival::TooEarly { told: true });
        assert_eq!(at(SECOND + 1), Arrival::TooEarly { told: false });
        assert_eq!(at(90 * SECOND), Arrival::Admitted);
        assert_eq!(at(90 * SECOND), Arrival::TooEarly { told: true });
    }

    #[test]
    fn a_flood_does_not_free_itself_by_more_addresses() {
        let arrivals = Arrivals::default();
        assert_eq!(admitted(&arrivals, "192.0.2.1", 1_000, SECOND), 20);
        for n in 0..4 * ARRIVAL_ACTORS_MAX {
            let ip = std::net::Ipv4Addr::from_bits(u32::try_from(n).unwrap() << 8);
            arrivals.admit(ip.into(), Pace::new(10, 1_000, 20), SECOND);
        }
        assert_eq!(admitted(&arrivals, "192.0.2.1", 1, SECOND), 0);
        assert!(arrivals.0.len() <= ARRIVAL_ACTORS_MAX);
    }
}
