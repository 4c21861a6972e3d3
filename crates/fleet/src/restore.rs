//! What a node remembers comes into force before anything is asked of anyone: at once what the packed file holds, then what
//! the records say, which are the truth. While they are read, changes are merged as ever.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use phalanx_model::{AuthorRole, Blocklist, Decision, View};
use phalanx_trust::{Admitted, HadKey, SignedRecord};

use crate::change::tombstone_end_ms;
use crate::registers::Outcome;
use crate::shared::{Core, Shared};
use crate::store::Kept;
use crate::table::Group;
use crate::{Change, FleetError, subject};

/// Whom the node believes, and whom no longer. Comes before anything is read or heard.
pub(crate) fn trust(shared: &Arc<Shared>) -> Result<(), FleetError> {
    let pins = shared.store.pins()?;
    let mut noted = HashSet::new();
    for (name, bytes) in &pins {
        if let Some((site, node)) = name.strip_prefix(CONTROL_PIN).and_then(|name| name.split_once('.')) {
            // Versions before wrote no keys.
            let keys: Vec<HadKey> = serde_json::from_slice(bytes).unwrap_or_default();
            shared.roots.write().note_control(site, node, &keys);
            noted.insert(format!("{site}/{node}"));
        }
    }
    for (name, bytes) in pins.iter().filter(|(name, _)| !name.starts_with(CONTROL_PIN)) {
        // A fleet that has got an authority since does not believe what was pinned without one.
        if let Ok(admitted) = serde_json::from_slice::<Admitted>(bytes)
            && admitted.validity.is_some() == shared.membership.is_some()
        {
            // An earlier identity of this very node may be among them; the present one stands.
            let _ = shared.roots.write().admit(&admitted);
            // What was pinned before this was remembered.
            if admitted.node.operator_key.is_some() && !noted.contains(name) {
                pin_control(shared, &admitted.node.site, &admitted.node.node);
            }
        }
    }
    shared.restore_revocations()?;
    shared.restore_orders()
}

/// Remembers that a node had the control role, and with which keys, when it gives that up or is forgotten.
pub(crate) fn pin_control(shared: &Shared, site: &str, node: &str) {
    if let Ok(keys) = serde_json::to_vec(shared.roots.read().had_keys(site, node)) {
        shared.store.pin(&format!("{CONTROL_PIN}{site}.{node}"), &keys);
    }
}

/// Merges what the node remembers and puts it into force. Signatures were checked before it was sealed, and the seal proves
/// that it is ours. Blocks on the disk; for a million records it takes some seconds.
pub(crate) fn run(shared: &Arc<Shared>) -> Result<(), FleetError> {
    let result = read_all(shared);
    shared.core.lock().reading = false;
    result
}

fn read_all(shared: &Arc<Shared>) -> Result<(), FleetError> {
    let mut unreadable = 0;
    let mut adopted = Vec::new();
    let mut after = None;
    loop {
        let page = shared.store.page(&format!("{}.", subject::DECISIONS), after.as_deref(), PAGE)?;
        unreadable += page.unreadable + merge(shared, page.records, &mut adopted);
        match page.last {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    let now_ms = shared.clock.now_ms();
    let mut core = shared.core.lock();
    for change in adopted {
        adopt(shared, &mut core, change, now_ms);
    }
    shared.forget_unknown_held(&mut core);
    drop(core);
    shared.lists_changed.notify_one();
    // Without its records a node goes on with what the packed file remembers, as far as nothing known since contradicts it.
    if !shared.store.was_damaged() {
        show(shared);
    }
    // A revocation takes effect before what it ends is off the disk.
    shared.restore_revocations()?;
    if unreadable > 0 {
        shared.fault("state", format!("{unreadable} kept records cannot be read and were passed over"));
    }
    Ok(())
}

/// Merges some records; how many could not be read.
fn merge(shared: &Arc<Shared>, records: Vec<Kept>, adopted: &mut Vec<Change>) -> usize {
    let now_ms = shared.clock.now_ms();
    let read: Vec<_> = records.into_iter().map(|kept| (remembered(shared, &kept), kept)).collect();
    let mut unreadable = 0;
    let mut core = shared.core.lock();
    for (remembered, kept) in read {
        match remembered {
            Some(Remembered::Counts(change)) => {
                core.clock.observe(change.version());
                match core.registers.apply(&change, now_ms) {
                    // Known: it came from elsewhere meanwhile, and is kept for that.
                    Outcome::Applied { .. } | Outcome::Known => {}
                    Outcome::Withdrawn | Outcome::Expired | Outcome::OverQuota => {
                        shared.engine.forget(&kept.subject, kept.version);
                    }
                }
            }
            Some(Remembered::Adopt(change)) => {
                shared.engine.forget(&kept.subject, kept.version);
                adopted.push(change);
            }
            None => unreadable += 1,
        }
    }
    unreadable
}

/// The view follows from the registers from here on, and from nothing else. They are read some keys at a time, so that a decision
/// that is made meanwhile waits for no more than that; what it changes is in the view already, and goes before what was read.
pub(crate) fn show(shared: &Arc<Shared>) {
    let mut packing = shared.packing.lock();
    let mut core = shared.core.lock();
    let len = core.registers.decisions_len();
    let before = shared.view.load_full();
    core.restoring = false;
    drop(core);
    let whole = match View::packed(groups(shared).map(|(_, decisions)| decisions), len) {
        Some(whole) => whole,
        None => View::default().with_keys(groups(shared)),
    };
    let mut core = shared.core.lock();
    let view = shared.view.load_full();
    let mut next = view.rebased(&whole, &before);
    next.revision = view.revision + 1;
    packing.retired.put(Arc::clone(view.base()));
    // What the records added to the packed view, or took from it, was noted nowhere.
    core.trail.forget();
    shared.show(&mut core, view, next);
}

/// The keys of the registers with their decisions, read in turns.
fn groups(shared: &Arc<Shared>) -> impl Iterator<Item = Group> {
    let (shared, mut from) = (Arc::clone(shared), Some(0));
    let turns = std::iter::from_fn(move || {
        let core = shared.core.lock();
        let mut read = core.registers.keys(from?, ROWS);
        if let Some((groups, _)) = &mut read {
            for (_, decisions) in groups.iter_mut() {
                decisions.retain(|decision| !core.holding.holds(decision));
            }
            groups.retain(|(_, decisions)| !decisions.is_empty());
        }
        drop(core);
        from = read.as_ref().map(|(_, next)| *next);
        read.map(|(groups, _)| groups)
    });
    turns.flatten()
}

enum Remembered {
    /// It is as it should be.
    Counts(Change),
    /// This node wrote it under another name or in another fleet: it goes on under the present one.
    Adopt(Change),
}

fn remembered(shared: &Shared, kept: &Kept) -> Option<Remembered> {
    let record = SignedRecord::from_bytes(&kept.bytes).ok()?;
    let change: Change = serde_json::from_slice(&record.body).ok()?;
    let here = *record.fleet_id == **shared.roots.read().fleet_id();
    match (here, kept.own, shared.is_me(change.author())) {
        (true, true, true) | (true, false, _) => Some(Remembered::Counts(change)),
        (_, true, _) => Some(Remembered::Adopt(change)),
        (false, false, _) => None,
    }
}

/// A single node that joins a fleet, or leaves one, keeps what it decided: written anew, with the same end.
fn adopt(shared: &Shared, core: &mut Core, change: Change, now_ms: u64) {
    let version = core.clock.tick(now_ms);
    let role = change.author().role;
    let author = shared.me.author(role);
    let change = match change {
        Change::Decided(old) => Change::Decided(Arc::new(Decision { author, version, ..(*old).clone() })),
        // What it ended is not in this fleet, or is ended at the others by their own record.
        Change::Withdrawn(_) | Change::Recalled(_) => return,
        Change::Listed(old) if old.content.is_some() => Change::Listed(Arc::new(Blocklist {
            author,
            version,
            expires_at_ms: tombstone_end_ms(AuthorRole::Operator, version),
            ..(*old).clone()
        })),
        Change::Listed(_) => return,
    };
    if shared.key(role).is_err() || change.check(now_ms).is_err() {
        return;
    }
    if let Outcome::Applied { .. } = core.registers.apply(&change, now_ms) {
        shared.unsent.fetch_add(1, Ordering::AcqRel);
        if shared.outbox.try_send(change).is_err() {
            shared.unsent.fetch_sub(1, Ordering::AcqRel);
            shared.outbox_overflowed.store(true, Ordering::Release);
        }
    }
}

/// Under what it is kept; beside the announcements, whose names have a slash.
const CONTROL_PIN: &str = "control ";
/// Records read and merged at a time: what a ban that is made meanwhile waits for.
const PAGE: usize = 512;
/// Rows of the registers read at a time.
const ROWS: u32 = 512;
