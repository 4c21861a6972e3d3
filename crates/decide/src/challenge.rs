//! What is remembered of challenges: who fails them, and where those who passed use what they got for it.
//!
//! A challenge and a pass are signed and stand nowhere else; this bounds what one of them is worth on this node.
//!
//! Failure direction: what is forgotten (a full bucket gives up its stalest entry) counts as new. A pass that is forgotten may be
//! used from other networks again, no longer than it lasts; a challenge that is forgotten may be answered again, which gives the same pass.

use std::net::IpAddr;

use phalanx_model::limits::{
    CHALLENGE_ACTORS_MAX, CHALLENGE_BITS, CHALLENGE_BITS_MAX, CHALLENGE_PASS_MS, CHALLENGE_PASSES_MAX,
    PASS_NETWORKS_MAX, PASS_REQUESTS_BURST, PASS_REQUESTS_PER_S, RATE_EVIDENCE_KEPT,
};
use phalanx_model::net::actor_ip;

use crate::rate::Pace;
use crate::table::{ActorTable, Entry};

/// What a challenge asks of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChallengeRules {
    /// Zero bits that an answer begins with where nothing speaks against the client; at most [`CHALLENGE_BITS_MAX`].
    pub bits: u8,
    /// How long whoever worked for it passes, in milliseconds.
    pub pass_ms: u64,
    /// Clients without scripts may wait instead.
    pub by_waiting: bool,
}

impl Default for ChallengeRules {
    fn default() -> Self {
        Self { bits: CHALLENGE_BITS, pass_ms: CHALLENGE_PASS_MS, by_waiting: true }
    }
}

/// How hard a challenge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hardship {
    /// Zero bits that an answer begins with.
    pub bits: u8,
    /// How long whoever has no scripts waits, in seconds.
    pub wait_s: u8,
    /// Whether the request is kept as evidence: the first of a client, then each that doubles their number.
    pub is_evidence: bool,
}

/// What became of a pass that a client showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassUsed {
    /// It passes.
    Good,
    /// It was shown from more networks than one client has, and is worth nothing from here on.
    Shared,
    /// It was shown too often just now.
    TooOften {
        /// When the next request would pass, in seconds, rounded up.
        retry_after_s: u32,
    },
}

/// What a node remembers of challenges.
#[derive(Debug)]
pub struct Challenges {
    actors: ActorTable<Tries>,
    passes: ActorTable<PassUse, u128>,
}

/// How a client fares with challenges.
#[derive(Debug, Default)]
struct Tries {
    /// What speaks against it. Halves every [`FORGIVEN_MS`].
    trouble: u32,
    given: u32,
    at_ms: u64,
    /// When it may next pass by waiting, in nanoseconds.
    wait_next_ns: u64,
}

/// Where one pass was used.
#[derive(Debug, Default)]
struct PassUse {
    until_ms: u64,
    spent: bool,
    shared: bool,
    networks: [u64; PASS_NETWORKS_MAX],
    next_ns: u64,
}

impl Default for Challenges {
    fn default() -> Self {
        Self {
            actors: ActorTable::bounding_networks(CHALLENGE_ACTORS_MAX),
            passes: ActorTable::with_capacity(CHALLENGE_PASSES_MAX),
        }
    }
}

impl Challenges {
    /// How hard the challenge is that a client is given now. `load`: 0 on a calm node, up to 4.
    pub fn give(&self, ip: IpAddr, load: u8, rules: &ChallengeRules, now_ms: u64) -> Hardship {
        let (steps, is_evidence) = self
            .actors
            .update(actor_ip(ip), |tries| {
                tries.forgive(now_ms);
                tries.trouble = tries.trouble.saturating_add(OF_GIVEN);
                tries.given = tries.given.saturating_add(1);
                (tries.steps(), tries.given <= RATE_EVIDENCE_KEPT || tries.given.is_power_of_two())
            })
            .unwrap_or((0, true));
        let more = steps.saturating_add(load.min(STEPS_MAX));
        Hardship {
            bits: rules.bits.saturating_add(more).min(CHALLENGE_BITS_MAX),
            wait_s: WAIT_S.saturating_mul(more.saturating_add(1)).min(WAIT_MAX_S),
            is_evidence,
        }
    }

    /// A client gave an answer that is none.
    pub fn failed(&self, ip: IpAddr, now_ms: u64) {
        self.actors.update(actor_ip(ip), |tries| {
            tries.forgive(now_ms);
            tries.trouble = tries.trouble.saturating_add(OF_FAILED);
        });
    }

    /// A client gave an answer that is one. What its address was given meanwhile, for all that a page asks for, is forgiven.
    pub fn solved(&self, ip: IpAddr, now_ms: u64) {
        self.actors.update(actor_ip(ip), |tries| {
            tries.forgive(now_ms);
            tries.trouble = tries.trouble.saturating_sub(OF_SOLVED);
        });
    }

    /// Whether a client may pass by waiting: an address does so a few times at once, and then once a minute.
    pub fn admits_waiting(&self, ip: IpAddr, now_ms: u64) -> bool {
        let now_ns = now_ms.saturating_mul(1_000_000);
        let pace = Pace::new(1, 60_000, WAITED_AT_ONCE);
        let admit = |tries: &mut Tries| {
            tries.forgive(now_ms);
            let admitted = pace.wait_ns(tries.wait_next_ns, now_ns) == 0;
            if admitted {
                tries.wait_next_ns = pace.after(tries.wait_next_ns, 1, now_ns);
            }
            admitted
        };
        self.actors.update(actor_ip(ip), admit).unwrap_or(false)
    }

    /// Takes an answer to a challenge; false if it was answered here before. `until_ms`: when the pass for it ends.
    pub fn spend(&self, id: u128, until_ms: u64) -> bool {
        let spend = |pass: &mut PassUse| {
            pass.until_ms = until_ms;
            !std::mem::replace(&mut pass.spent, true)
        };
        self.passes.update(id, spend).unwrap_or(false)
    }

    /// Takes a pass that a client showed, whose signature and time are good.
    pub fn use_pass(&self, id: u128, ip: IpAddr, until_ms: u64, now_ms: u64) -> PassUsed {
        let now_ns = now_ms.saturating_mul(1_000_000);
        let pace = Pace::new(PASS_REQUESTS_PER_S, 1_000, PASS_REQUESTS_BURST);
        let network = network(ip);
        let take = |pass: &mut PassUse| {
            pass.until_ms = until_ms;
            pass.shared |= !pass.knows(network);
            if pass.shared {
                return PassUsed::Shared;
            }
            let wait_ns = pace.wait_ns(pass.next_ns, now_ns);
            if wait_ns > 0 {
                let retry_after_s = u32::try_from(wait_ns.div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
                return PassUsed::TooOften { retry_after_s };
            }
            pass.next_ns = pace.after(pass.next_ns, 1, now_ns);
            PassUsed::Good
        };
        self.passes.update(id, take).unwrap_or(PassUsed::Good)
    }
}

impl Tries {
    fn forgive(&mut self, now_ms: u64) {
        let halves = now_ms.saturating_sub(self.at_ms) / FORGIVEN_MS;
        if halves > 0 {
            self.trouble = self.trouble.checked_shr(u32::try_from(halves).unwrap_or(u32::MAX)).unwrap_or(0);
            self.at_ms = now_ms;
        }
        if self.trouble == 0 {
            self.given = 0;
        }
    }

    fn steps(&self) -> u8 {
        u8::try_from(self.trouble / TROUBLE_OF_STEP).unwrap_or(u8::MAX).min(STEPS_MAX)
    }
}

impl PassUse {
    /// Whether the network is one of those that it is used from, now or as long as there is room.
    fn knows(&mut self, network: u64) -> bool {
        let place = self.networks.iter_mut().find(|known| **known == network || **known == 0);
        place.map(|place| *place = network).is_some()
    }
}

impl Entry for Tries {
    fn touched_ms(&self) -> u64 {
        self.at_ms
    }

    fn only_remembers(&self) -> bool {
        self.trouble == 0
    }
}

impl Entry for PassUse {
    /// The one that ends first gives way first.
    fn touched_ms(&self) -> u64 {
        self.until_ms
    }
}

/// What one client may move about in: an IPv4 /24, an IPv6 /48. Never 0.
fn network(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => (1 << 32) | u64::from(ip.to_bits() >> 8),
        IpAddr::V6(ip) => (1 << 63) | u64::try_from(ip.to_bits() >> 80).unwrap_or_default(),
    }
}

/// What a challenge, a wrong answer and a right one count.
const OF_GIVEN: u32 = 1;
const OF_FAILED: u32 = 8;
const OF_SOLVED: u32 = 32;
/// What makes a challenge one bit harder: about a page with what is in it, left unanswered.
const TROUBLE_OF_STEP: u32 = 32;
/// Most bits that load, and that failures, add.
const STEPS_MAX: u8 = 4;
/// After so long half of what speaks against a client is forgotten.
const FORGIVEN_MS: u64 = 5 * 60_000;
/// How long whoever has no scripts waits where nothing speaks against it.
const WAIT_S: u8 = 5;
/// The longest: people go away.
const WAIT_MAX_S: u8 = 30;
/// How often an address passes by waiting at once.
const WAITED_AT_ONCE: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_challenge_gets_harder_with_load_and_failures_and_easier_with_time() {
        let (challenges, rules) = (Challenges::default(), ChallengeRules::default());
        let bits = |ip: &str, load, now_ms| challenges.give(ip.parse().unwrap(), load, &rules, now_ms).bits;
        assert_eq!(bits("192.0.2.1", 0, NOW), 16);
        assert_eq!(bits("192.0.2.1", 3, NOW), 19);
        for _ in 0..12 {
            challenges.failed(ip("192.0.2.1"), NOW);
        }
        assert_eq!(bits("192.0.2.1", 0, NOW), 19);
        assert_eq!(bits("192.0.2.1", 4, NOW), CHALLENGE_BITS_MAX, "and no harder");
        assert_eq!(bits("192.0.2.2", 0, NOW), 16, "others have done nothing");
        assert_eq!(bits("192.0.2.1", 0, NOW + FORGIVEN_MS), 17);
        assert_eq!(bits("192.0.2.1", 0, NOW + 100 * FORGIVEN_MS), 16);
        let hard = challenges.give(ip("192.0.2.3"), 4, &rules, NOW);
        assert_eq!((hard.wait_s, hard.is_evidence), (25, true));
    }

    #[test]
    fn who_answers_is_not_asked_more_for_what_a_page_asked_for() {
        let (challenges, rules) = (Challenges::default(), ChallengeRules::default());
        for _ in 0..100 {
            for _ in 0..30 {
                challenges.give(ip("192.0.2.1"), 0, &rules, NOW);
            }
            challenges.solved(ip("192.0.2.1"), NOW);
        }
        assert_eq!(challenges.give(ip("192.0.2.1"), 0, &rules, NOW).bits, 16);
        let kept =
            (0..1_000).filter(|_| challenges.give(ip("192.0.2.9"), 0, &rules, NOW).is_evidence).count();
        assert_eq!(kept, 16 + 5, "the first, then each that doubles their number");
    }

    #[test]
    fn an_answer_is_taken_once() {
        let challenges = Challenges::default();
        assert!(challenges.spend(7, NOW));
        assert!(!challenges.spend(7, NOW));
        assert!(challenges.spend(8, NOW));
    }

    #[test]
    fn a_pass_is_for_one_client_that_moves_about_and_not_for_many() {
        let challenges = Challenges::default();
        let from = |ip: String| challenges.use_pass(7, ip.parse().unwrap(), NOW + 1, NOW);
        for n in 0..PASS_NETWORKS_MAX - 1 {
            assert_eq!(from(format!("192.0.{n}.7")), PassUsed::Good);
            assert_eq!(from(format!("192.0.{n}.8")), PassUsed::Good, "a neighbour");
        }
        assert_eq!(from("2001:db8:1::1".into()), PassUsed::Good);
        assert_eq!(from("2001:db8:1:ffff::1".into()), PassUsed::Good);
        assert_eq!(from("2001:db8:2::1".into()), PassUsed::Shared);
        assert_eq!(from("192.0.0.7".into()), PassUsed::Shared, "from here on for all");
        assert_eq!(challenges.use_pass(8, ip("192.0.0.7"), NOW + 1, NOW), PassUsed::Good, "another one");
    }

    #[test]
    fn a_pass_is_good_for_a_persons_requests() {
        let challenges = Challenges::default();
        let ask = |now_ms| challenges.use_pass(7, ip("192.0.2.1"), NOW + 1, now_ms);
        let good = (0..1_000).filter(|_| ask(NOW) == PassUsed::Good).count();
        assert_eq!(good, PASS_REQUESTS_BURST as usize);
        assert_eq!(ask(NOW), PassUsed::TooOften { retry_after_s: 1 });
        assert_eq!(ask(NOW + 50), PassUsed::Good);
    }

    #[test]
    fn an_address_passes_by_waiting_a_few_times() {
        let challenges = Challenges::default();
        let admitted = |count: u32, now_ms| {
            (0..count).filter(|_| challenges.admits_waiting(ip("192.0.2.1"), now_ms)).count()
        };
        assert_eq!(admitted(100, NOW), 5);
        assert_eq!(admitted(100, NOW + 60_000), 1);
    }
}
