//! The part of the plan that verdicts are made by.

use std::net::IpAddr;
use std::sync::Arc;

use phalanx_model::{Prefix, PrefixSet, limits};

use crate::{ChallengeRules, Crawler, ThrottleRules};

/// What an app does with a request that its rules refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Refuse it.
    Block,
    /// Pass it on and record what would have happened.
    Observe,
}

/// What an app does with a request on which a rule or parser failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Refuse it: the default.
    Deny,
    /// Pass it on, recorded.
    Allow,
}

/// When strikes become a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrikeRules {
    /// Strikes that make a decision, 1 to [`limits::STRIKES_KEPT_MAX`].
    pub count: u32,
    /// Window in which they count, in milliseconds.
    pub window_ms: u64,
    /// The first ban, in milliseconds.
    pub first_ban_ms: u64,
    /// The longest ban that doubling reaches, in milliseconds.
    pub max_ban_ms: u64,
}

impl Default for StrikeRules {
    fn default() -> Self {
        Self {
            count: limits::STRIKES_FOR_DECISION,
            window_ms: limits::STRIKE_WINDOW_MS,
            first_ban_ms: limits::BAN_FIRST_MS,
            max_ban_ms: limits::BAN_AUTOMATIC_MAX_MS,
        }
    }
}

/// Addresses that are never refused for what they ask, until some time.
#[derive(Debug, Clone)]
pub struct Exempted {
    /// The addresses.
    pub networks: PrefixSet,
    /// When it ends, in Unix milliseconds; `u64::MAX`: never.
    pub until_ms: u64,
}

/// Who is exempt from what, and how strikes count. One per plan, shared by its apps.
#[derive(Debug, Clone, Default)]
pub struct DecidePlan {
    /// Addresses that are never refused for what they ask; findings about them are recorded only.
    pub allow: PrefixSet,
    /// The same, each until some time.
    pub allow_until: Vec<Exempted>,
    /// Operators' networks: never banned, so that nobody locks themselves out.
    pub operators: PrefixSet,
    /// Trusted forwarders, CDNs and monitors: never banned, because many clients stand behind them.
    pub forwarders: PrefixSet,
    /// When strikes become a decision.
    pub strikes: StrikeRules,
    /// What a challenge asks of a client.
    pub challenge: ChallengeRules,
    /// Crawlers that are known.
    pub crawlers: Arc<[Crawler]>,
    /// How often whoever is throttled may ask.
    pub throttle: ThrottleRules,
}

impl DecidePlan {
    /// Whether the address is never refused for what it asks.
    pub fn is_allowed(&self, ip: IpAddr, now_ms: u64) -> bool {
        self.allow.contains(ip)
            || self.allow_until.iter().any(|one| now_ms < one.until_ms && one.networks.contains(ip))
    }

    /// Whether the address may never be struck or banned.
    pub fn is_exempt(&self, ip: IpAddr, now_ms: u64) -> bool {
        self.is_allowed(ip, now_ms) || self.operators.contains(ip) || self.forwarders.contains(ip)
    }

    /// All that may never be struck or banned.
    pub fn exempt(&self, now_ms: u64) -> impl Iterator<Item = Prefix> {
        let lasting = self.allow_until.iter().filter(move |one| now_ms < one.until_ms);
        let lists = [&self.allow, &self.operators, &self.forwarders];
        lists.into_iter().chain(lasting.map(|one| &one.networks)).flat_map(|list| list.iter().copied())
    }
}
