//! The counts of a node: a bounded table of keys in buckets of a few, behind a lock each.
//!
//! Nothing is allocated for a request, but for a bucket's room when its first key comes. A full bucket gives up an idle key (its
//! absence says the same as its presence), else the one furthest from its limit, and none that is beyond it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use phalanx_model::limits::{RATE_KEYS_MAX, RATE_KEYS_TOLD_MAX};
use phalanx_model::{CountBatch, KeyCount};
use siphasher::sip::SipHasher13;

use super::claims::Claims;
use super::{Pace, RateRule, RateScope, WHOLE};

/// The counts of at most [`RATE_KEYS_MAX`] keys.
#[derive(Debug)]
pub struct RateTable {
    buckets: Box<[Mutex<Vec<Slot>>]>,
    hash_key: [u8; 16],
    reach: AtomicU32,
    /// The number of the last count that was started.
    since: AtomicU32,
    untracked: AtomicU64,
    claims: Mutex<Claims>,
    /// Of the nodes that sum for their sites.
    sums: Mutex<Claims>,
}

/// The nodes that count together, this one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Those that there are.
    pub known: u16,
    /// Those that hear each other.
    pub heard: u16,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Admitted,
    Over(Excess),
}

/// What is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Requests that would be admitted at once.
    pub requests: u32,
    /// Seconds until all of it is there again.
    pub restored_s: u32,
}

/// Why it did not conform.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excess {
    pub(super) here: u32,
    pub(super) elsewhere: u32,
    pub(super) over: u32,
    pub(super) wait_ns: u64,
}

/// One key.
#[derive(Debug, Clone, Default)]
struct Slot {
    key: u64,
    /// When the next request would be even, in the joint count.
    next_ns: u64,
    /// The same in the own count.
    own_ns: u64,
    /// How far `next_ns` may be ahead before the key is beyond its limit.
    full_ns: u64,
    told_ns: u64,
    limit: u32,
    since: u32,
    here: u32,
    elsewhere: u32,
    /// Requests that did not conform.
    over: u32,
    /// How many of `here` the others were told of.
    told: u32,
    /// Of what was told to the node that sums: what has not come back in its sum.
    owed: u32,
    shared: bool,
}

/// At what pace a rule's counts run now.
struct Paces {
    joint: Pace,
    /// `None` where a node may have all by itself.
    own: Option<Pace>,
    known: u16,
}

impl Default for RateTable {
    fn default() -> Self {
        Self::new([0; 16])
    }
}

impl RateTable {
    /// An empty table. Nodes that count together need the same `hash_key`, and clients must not know it: who can make keys
    /// collide can use up another's limit.
    pub fn new(hash_key: [u8; 16]) -> Self {
        let buckets = (RATE_KEYS_MAX / WAYS).next_power_of_two();
        Self {
            buckets: (0..buckets).map(|_| Mutex::default()).collect(),
            hash_key,
            reach: AtomicU32::new(Reach::ALONE.pack()),
            since: AtomicU32::new(0),
            untracked: AtomicU64::new(0),
            claims: Mutex::default(),
            sums: Mutex::default(),
        }
    }

    /// Says which nodes count together.
    pub fn set_reach(&self, reach: Reach) {
        self.reach.store(reach.pack(), Ordering::Relaxed);
    }

    /// Requests that were admitted without being counted, because there was no room.
    pub fn untracked(&self) -> u64 {
        self.untracked.load(Ordering::Relaxed)
    }

    /// How many keys are in the table.
    pub fn keys_len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.lock().len()).sum()
    }

    pub(super) fn hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.hash_key)
    }

    /// Whether a request conforms, without counting it as admitted.
    pub(super) fn look(&self, rule: &RateRule, key: u64, now_ns: u64) -> Taken {
        let Some(bucket) = self.bucket(key) else { return Taken::Admitted };
        let mut bucket = bucket.lock();
        match bucket.iter_mut().find(|slot| slot.is_of(rule, key)) {
            Some(slot) => slot.look(&self.paces(rule), now_ns),
            None => Taken::Admitted,
        }
    }

    /// What is left under a rule.
    pub(super) fn left(&self, rule: &RateRule, key: u64, now_ns: u64) -> Left {
        let paces = self.paces(rule);
        let (next_ns, own_ns) = self.bucket(key).map_or((0, 0), |bucket| {
            let bucket = bucket.lock();
            let slot = bucket.iter().find(|slot| slot.is_of(rule, key));
            slot.map_or((0, 0), |slot| (slot.next_ns, slot.own_ns))
        });
        let own = paces.own.map_or(0, |own| own.left(own_ns, now_ns));
        let restored_s = next_ns.saturating_sub(now_ns).div_ceil(1_000_000_000);
        Left {
            requests: paces.joint.left(next_ns, now_ns).max(own),
            restored_s: u32::try_from(restored_s).unwrap_or(u32::MAX),
        }
    }

    /// Counts a request that is admitted.
    pub(super) fn take(&self, rule: &RateRule, key: u64, now_ns: u64) {
        let paces = self.paces(rule);
        let counted = self.with_slot(rule, key, now_ns, false, |slot| {
            slot.next_ns = paces.joint.after(slot.next_ns, 1, now_ns);
            slot.full_ns = paces.joint.full_ns();
            if let Some(own) = paces.own {
                // Requests that the joint count admitted leave no debt in the own one: a node that had more than its share
                // has it again as soon as others claim the rest.
                let empty = now_ns.saturating_add(own.full_ns());
                slot.own_ns = own.after(slot.own_ns, 1, now_ns).min(empty);
            }
            slot.here = slot.here.saturating_add(1);
        });
        if counted.is_none() {
            self.untracked.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the others should be told now: counts that changed, and from time to time those that did not, in case it was not
    /// heard. News comes first, and of that what is nearest to its limit. `to_sum`: it comes back in a sum.
    pub fn tell(&self, now_ns: u64, to_sum: bool) -> Vec<KeyCount> {
        let mut due: Vec<((bool, u64), KeyCount)> = Vec::new();
        for bucket in &self.buckets {
            due.extend(
                bucket
                    .lock()
                    .iter()
                    .filter(|slot| slot.is_due(now_ns))
                    .map(|slot| ((slot.here != slot.told, slot.fill(now_ns)), slot.count())),
            );
        }
        if due.len() > RATE_KEYS_TOLD_MAX {
            due.select_nth_unstable_by_key(RATE_KEYS_TOLD_MAX, |(order, _)| std::cmp::Reverse(*order));
            due.truncate(RATE_KEYS_TOLD_MAX);
        }
        for (_, count) in &due {
            let Some(bucket) = self.bucket(count.key) else { continue };
            if let Some(slot) = bucket.lock().iter_mut().find(|slot| slot.since == count.since) {
                if to_sum {
                    slot.owed = slot.owed.saturating_add(count.count.saturating_sub(slot.told));
                }
                (slot.told_ns, slot.told) = (now_ns, count.count);
            }
        }
        due.into_iter().map(|(_, count)| count).collect()
    }

    /// Has all counts that matter told again: somebody missed them.
    pub fn tell_again(&self) {
        for bucket in &self.buckets {
            bucket.lock().iter_mut().for_each(|slot| slot.told_ns = 0);
        }
    }

    /// Counts what another node admitted, as far as it can have. `rule` finds a limit by its tag; counts of others are left out.
    pub fn hear<'a>(&self, batch: &CountBatch, rule: impl Fn(u32) -> Option<&'a RateRule>, now_ns: u64) {
        let mut claims = self.claims.lock();
        let Some(author) = claims.of(&batch.author, batch.epoch, now_ns) else { return };
        for count in &batch.counts {
            let Some(rule) = rule(count.limit) else { continue };
            if rule.scope == RateScope::Node {
                continue;
            }
            let admitted = author.admitted(count, rule.pace, now_ns);
            if admitted > 0 {
                self.add_elsewhere(rule, count.key, admitted, false, now_ns);
            }
        }
    }

    /// Counts what the nodes of a site admitted, as one of them summed it: as far as so many nodes can have. `own_site`: what this
    /// node has put in is taken off.
    pub(super) fn hear_sums<'a>(
        &self,
        batch: &CountBatch,
        own_site: bool,
        nodes: u16,
        rule: impl Fn(u32) -> Option<&'a RateRule>,
        now_ns: u64,
    ) {
        let mut sums = self.sums.lock();
        let Some(author) = sums.of(&batch.author, batch.epoch, now_ns) else { return };
        for count in &batch.counts {
            let Some(rule) = rule(count.limit).filter(|rule| rule.scope != RateScope::Node) else { continue };
            let admitted = author.admitted(count, rule.pace.times(nodes), now_ns);
            if admitted > 0 {
                self.add_elsewhere(rule, count.key, admitted, own_site, now_ns);
            }
        }
    }

    /// Starts all counts of requests anew, so that the others hear only of those from here on.
    pub(super) fn count_anew(&self) {
        for bucket in &self.buckets {
            for slot in bucket.lock().iter_mut().filter(|slot| slot.shared) {
                let since = self.since.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
                (slot.since, slot.here, slot.told, slot.owed) = (since, 0, 0, 0);
            }
        }
    }

    fn add_elsewhere(&self, rule: &RateRule, key: u64, admitted: u32, has_own: bool, now_ns: u64) {
        let paces = self.paces(rule);
        // A key that finds no room is not counted: so it is for requests, too.
        let _ = self.with_slot(rule, key, now_ns, true, |slot| {
            let own = if has_own { admitted.min(slot.owed) } else { 0 };
            slot.owed -= own;
            let admitted = admitted - own;
            // The debt is limited to what all nodes can have admitted before they heard of each other.
            let debt = paces.joint.full_ns().saturating_mul(u64::from(paces.known));
            let most = slot.next_ns.max(now_ns.saturating_add(debt));
            slot.next_ns = paces.joint.after(slot.next_ns, admitted, now_ns).min(most);
            slot.full_ns = paces.joint.full_ns();
            slot.elsewhere = slot.elsewhere.saturating_add(admitted);
        });
    }

    fn paces(&self, rule: &RateRule) -> Paces {
        let RateScope::Fleet { share_percent } = rule.scope else {
            return Paces { joint: rule.pace, own: None, known: 1 };
        };
        let Reach { known, heard } = Reach::unpack(self.reach.load(Ordering::Relaxed));
        // Rounded up, so that a third of 30 is 10.
        let even = WHOLE.div_ceil(u32::from(known));
        let share = share_percent.map_or(even, |percent| u32::from(percent) * (WHOLE / 100));
        let side = share.saturating_mul(u32::from(heard)).min(WHOLE);
        let own = (share < WHOLE).then(|| rule.pace.part(share));
        Paces { joint: rule.pace.part(side), own, known }
    }

    /// Runs `change` on the key's slot, a new one if there is none; `None` if there is no room. `heard`: another node speaks of it.
    fn with_slot<R>(
        &self,
        rule: &RateRule,
        key: u64,
        now_ns: u64,
        heard: bool,
        change: impl FnOnce(&mut Slot) -> R,
    ) -> Option<R> {
        let mut bucket = self.bucket(key)?.lock();
        let known = bucket.iter().position(|slot| slot.is_of(rule, key));
        let place = match known {
            Some(place) => place,
            None => room(&mut bucket, heard, now_ns)?,
        };
        let slot = bucket.get_mut(place)?;
        let rests = slot.next_ns.saturating_add(REST_NS) < now_ns;
        if known.is_none() || rests {
            // A count starts anew after a rest, so that it never says what no longer matters.
            let since = self.since.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            let shared = rule.scope != RateScope::Node;
            *slot = Slot { key, limit: rule.tag(), since, shared, ..Slot::default() };
        }
        Some(change(slot))
    }

    fn bucket(&self, key: u64) -> Option<&Mutex<Vec<Slot>>> {
        let place = usize::try_from(key >> 32).unwrap_or_default();
        self.buckets.get(place & (self.buckets.len() - 1))
    }
}

impl Reach {
    /// A node that counts with nobody.
    pub const ALONE: Self = Self { known: 1, heard: 1 };

    fn pack(self) -> u32 {
        u32::from(self.known) << 16 | u32::from(self.heard)
    }

    fn unpack(packed: u32) -> Self {
        let half = |bits: u32| u16::try_from(bits & 0xffff).unwrap_or_default().max(1);
        Self { known: half(packed >> 16), heard: half(packed) }
    }
}

impl Slot {
    fn look(&mut self, paces: &Paces, now_ns: u64) -> Taken {
        let joint = paces.joint.wait_ns(self.next_ns, now_ns);
        let wait_ns = paces.own.map_or(joint, |own| joint.min(own.wait_ns(self.own_ns, now_ns)));
        match wait_ns {
            0 => Taken::Admitted,
            _ => {
                self.over = self.over.saturating_add(1);
                let (here, elsewhere, over) = (self.here, self.elsewhere, self.over);
                Taken::Over(Excess { here, elsewhere, over, wait_ns })
            }
        }
    }

    /// The limit is compared, too: it comes from other nodes beside a key that may be of another.
    fn is_of(&self, rule: &RateRule, key: u64) -> bool {
        self.key == key && self.limit == rule.tag()
    }

    fn count(&self) -> KeyCount {
        KeyCount { limit: self.limit, key: self.key, since: self.since, count: self.here }
    }

    fn is_due(&self, now_ns: u64) -> bool {
        let live = self.next_ns > now_ns && now_ns.saturating_sub(self.told_ns) >= TELL_AGAIN_NS;
        self.shared && self.here > 0 && (self.here != self.told || live)
    }

    /// How near the key is to its limit, in millionths; beyond [`WHOLE`] less one request it is refused.
    fn fill(&self, now_ns: u64) -> u64 {
        let ahead = u128::from(self.next_ns.saturating_sub(now_ns));
        u64::try_from(ahead * u128::from(WHOLE) / u128::from(self.full_ns.max(1))).unwrap_or(u64::MAX)
    }
}

/// A place for one more key. The bucket's memory is taken whole when its first key comes. What this node counted itself comes before
/// what others only speak of: a node that lies must not take the places of this one's keys.
fn room(bucket: &mut Vec<Slot>, heard: bool, now_ns: u64) -> Option<usize> {
    if bucket.len() < WAYS {
        if bucket.capacity() == 0 {
            bucket.reserve_exact(WAYS);
        }
        bucket.push(Slot::default());
        return Some(bucket.len() - 1);
    }
    let value = |slot: &Slot| (slot.here > 0, slot.fill(now_ns), slot.next_ns);
    let (place, slot) = bucket.iter().enumerate().min_by_key(|(_, slot)| value(slot))?;
    let idle = slot.next_ns <= now_ns;
    // One that has used its burst would be admitted again at once, were it forgotten.
    let spare = slot.next_ns.saturating_sub(now_ns) < slot.full_ns;
    let yields = match (heard, slot.here > 0) {
        (true, true) => idle,
        (true, false) | (false, true) => spare,
        (false, false) => true,
    };
    yields.then_some(place)
}

/// Keys per bucket.
const WAYS: usize = 8;
/// How long a key is idle before its count starts anew. Longer than telling and hearing take.
const REST_NS: u64 = 2_000_000_000;
/// How often a count that did not change is told again while it matters: after a partition one count is there within a second.
const TELL_AGAIN_NS: u64 = 500_000_000;
