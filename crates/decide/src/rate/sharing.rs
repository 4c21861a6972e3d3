//! How the nodes of a fleet tell each other their counts: each tells all, or, in a site of many, each tells one node, which tells all
//! the sum. Input and time in, what to tell out.
//!
//! The node that sums is told by its lease that it may. It takes what each node of its site tells it as any node does, checked and bounded,
//! and tells the sum of all keys in one message. Whoever hears the sum of its own site takes off what itself has put in. When no sum is
//! heard for a while, nodes tell all again until the next one sums: that costs messages, and no count.

use std::collections::HashMap;
use std::sync::Arc;

use phalanx_model::limits::{FLEET_NODES_MAX, RATE_KEYS_TOLD_MAX};
use phalanx_model::{Author, CountBatch, CountOf, KeyCount};

use super::claims::Claims;
use super::{RateRule, RateTable};

/// One node's part in it.
#[derive(Debug)]
pub struct Sharing {
    me: Author,
    epoch: u64,
    summing: Option<Summing>,
    /// Of each site: the token of who summed last, and when that was heard.
    heard: HashMap<Arc<str>, (u64, u64)>,
    tells_summer: bool,
}

/// What is to be told, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tell {
    /// This node's counts, to all.
    All(Vec<KeyCount>),
    /// This node's counts, to the node of its site that sums.
    Summer(Vec<KeyCount>),
    /// The site's sums, to all, under the token of who sums.
    Sums(u64, Vec<KeyCount>),
}

impl Sharing {
    /// The part of a node whose process tells this epoch.
    pub fn new(me: Author, epoch: u64) -> Self {
        Self { me, epoch, summing: None, heard: HashMap::new(), tells_summer: false }
    }

    /// Takes in what was told to all. `rule` finds a limit by its tag; `nodes`: how many there are.
    pub fn hear<'a>(
        &mut self,
        table: &RateTable,
        batch: &CountBatch,
        nodes: u16,
        rule: impl Fn(u32) -> Option<&'a RateRule>,
        now_ns: u64,
    ) {
        let own_site = batch.author.site == self.me.site;
        match batch.of {
            CountOf::Node => {
                table.hear(batch, &rule, now_ns);
                if let Some(summing) = self.summing.as_mut().filter(|_| own_site) {
                    // All have heard it: it is no part of the sum.
                    summing.note(batch, rule, now_ns);
                }
            }
            CountOf::Site if self.may_sum(batch, now_ns) => {
                table.hear_sums(batch, own_site, nodes, rule, now_ns);
            }
            CountOf::Site => {}
        }
    }

    /// Takes in what was told to the node that sums, which is this one.
    pub fn hear_for_sum<'a>(
        &mut self,
        table: &RateTable,
        batch: &CountBatch,
        rule: impl Fn(u32) -> Option<&'a RateRule>,
        now_ns: u64,
    ) {
        if batch.of != CountOf::Node || batch.author.site != self.me.site {
            return;
        }
        table.hear(batch, &rule, now_ns);
        if let Some(summing) = &mut self.summing {
            summing.add(batch, rule, now_ns);
        }
    }

    /// What to tell now. `token`: of the lease by which this node sums for its site, if it holds that.
    pub fn tell<'a>(
        &mut self,
        table: &RateTable,
        token: Option<u64>,
        rule: impl Fn(u32) -> Option<&'a RateRule>,
        now_ns: u64,
    ) -> Tell {
        let Some(token) = token else {
            self.summing = None;
            let summed = self.heard.get(&self.me.site).is_some_and(|(_, at_ns)| is_lately(*at_ns, now_ns));
            if self.tells_summer && !summed {
                // What was told to the node that is lost, is in others' counts as a sum: to all it is told from here on only.
                table.count_anew();
            }
            self.tells_summer = summed;
            let counts = table.tell(now_ns, summed);
            return if summed { Tell::Summer(counts) } else { Tell::All(counts) };
        };
        self.tells_summer = false;
        let counts = table.tell(now_ns, false);
        let summing = self.summing.get_or_insert_with(|| Summing::new(token, now_ns));
        let batch = CountBatch { author: self.me.clone(), of: CountOf::Node, epoch: self.epoch, counts };
        summing.add(&batch, rule, now_ns);
        Tell::Sums(summing.token, summing.tell(now_ns))
    }

    /// Has all counts that matter told again, and all sums: somebody missed them.
    pub fn tell_again(&mut self, table: &RateTable) {
        table.tell_again();
        if let Some(summing) = &mut self.summing {
            summing.sums.values_mut().for_each(|sum| sum.told_ns = 0);
        }
    }

    /// Whether the author of sums is the one that may sum: nobody with a higher token was heard lately.
    pub(super) fn may_sum(&mut self, batch: &CountBatch, now_ns: u64) -> bool {
        let site = &batch.author.site;
        let newer = self
            .heard
            .get(site)
            .is_some_and(|(token, at_ns)| *token > batch.epoch && is_lately(*at_ns, now_ns));
        let full = self.heard.len() >= FLEET_NODES_MAX && !self.heard.contains_key(site);
        if newer || full {
            return false;
        }
        self.heard.insert(Arc::clone(site), (batch.epoch, now_ns));
        true
    }
}

fn is_lately(at_ns: u64, now_ns: u64) -> bool {
    now_ns.saturating_sub(at_ns) < SUMS_SILENCE_NS
}

/// The sums of a site.
#[derive(Debug)]
struct Summing {
    token: u64,
    started_ns: u64,
    claims: Claims,
    sums: HashMap<(u32, u64), Sum>,
    last_since: u32,
}

#[derive(Debug)]
struct Sum {
    since: u32,
    count: u32,
    told: u32,
    told_ns: u64,
    changed_ns: u64,
}

impl Summing {
    fn new(token: u64, now_ns: u64) -> Self {
        Self { token, started_ns: now_ns, claims: Claims::default(), sums: HashMap::new(), last_since: 0 }
    }

    fn note<'a>(&mut self, batch: &CountBatch, rule: impl Fn(u32) -> Option<&'a RateRule>, now_ns: u64) {
        self.take(batch, rule, now_ns, false);
    }

    fn add<'a>(&mut self, batch: &CountBatch, rule: impl Fn(u32) -> Option<&'a RateRule>, now_ns: u64) {
        self.take(batch, rule, now_ns, true);
    }

    fn take<'a>(
        &mut self,
        batch: &CountBatch,
        rule: impl Fn(u32) -> Option<&'a RateRule>,
        now_ns: u64,
        sums: bool,
    ) {
        let Some(author) = self.claims.of(&batch.author, batch.epoch, now_ns) else { return };
        // What was told to the one before, or to all, just before this node began, is counted: only what comes on top is not.
        let begins = now_ns.saturating_sub(self.started_ns) < BEGIN_NS;
        for count in &batch.counts {
            let Some(rule) = rule(count.limit) else { continue };
            let counted = begins && !author.knows(count);
            let admitted = author.admitted(count, rule.pace, now_ns);
            if !sums || counted || admitted == 0 {
                continue;
            }
            let key = (count.limit, count.key);
            let since = &mut self.last_since;
            if self.sums.len() >= SUMS_MAX && !self.sums.contains_key(&key) {
                self.sums.retain(|_, sum| now_ns.saturating_sub(sum.changed_ns) < REST_NS);
                if self.sums.len() >= SUMS_MAX {
                    continue;
                }
            }
            let sum = self.sums.entry(key).or_insert_with(|| {
                *since = since.wrapping_add(1);
                Sum { since: *since, count: 0, told: 0, told_ns: 0, changed_ns: now_ns }
            });
            sum.count = sum.count.saturating_add(admitted);
            sum.changed_ns = now_ns;
        }
    }

    /// What changed, the most of it first; and from time to time what did not, in case it was not heard.
    fn tell(&mut self, now_ns: u64) -> Vec<KeyCount> {
        self.sums.retain(|_, sum| now_ns.saturating_sub(sum.changed_ns) < FORGET_NS);
        let due = self.sums.iter_mut().filter(|(_, sum)| {
            let lives = now_ns.saturating_sub(sum.changed_ns) < REST_NS;
            sum.count != sum.told || lives && now_ns.saturating_sub(sum.told_ns) >= TELL_AGAIN_NS
        });
        let mut due: Vec<_> = due.collect();
        if due.len() > RATE_KEYS_TOLD_MAX {
            due.select_nth_unstable_by_key(RATE_KEYS_TOLD_MAX, |(_, sum)| {
                std::cmp::Reverse(sum.count.saturating_sub(sum.told))
            });
            due.truncate(RATE_KEYS_TOLD_MAX);
        }
        let told = due.into_iter().map(|((limit, key), sum)| {
            (sum.told, sum.told_ns) = (sum.count, now_ns);
            KeyCount { limit: *limit, key: *key, since: sum.since, count: sum.count }
        });
        told.collect()
    }
}

/// From how many nodes of a site on one sums for all: below, telling all costs less than finding out who.
pub const SUM_FROM_NODES: usize = 31;
/// Without sums for so long, nodes tell all again. Sums are told ten times a second, also empty ones.
const SUMS_SILENCE_NS: u64 = 500_000_000;
/// How long after it began a node that sums takes first counts for known.
const BEGIN_NS: u64 = 1_500_000_000;
const REST_NS: u64 = 2_000_000_000;
const FORGET_NS: u64 = 10_000_000_000;
const TELL_AGAIN_NS: u64 = 500_000_000;
/// Keys summed at once: what all nodes of a large site tell in a second.
const SUMS_MAX: usize = 65_536;
