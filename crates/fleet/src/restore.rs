//! What a node remembers comes into force before anything is asked of anyone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use phalanx_model::Decision;
use phalanx_trust::{Admitted, SignedRecord};

use crate::registers::Outcome;
use crate::shared::{Core, Shared};
use crate::store::Kept;
use crate::{Change, FleetError, subject};

/// Puts what the node remembers into force. Signatures were checked before it was sealed, and the seal proves that it is ours.
pub(crate) fn run(shared: &Arc<Shared>) -> Result<(), FleetError> {
    for (_, bytes) in shared.store.pins()? {
        // A fleet that has got an authority since does not believe what was pinned without one.
        if let Ok(admitted) = serde_json::from_slice::<Admitted>(&bytes)
            && admitted.validity.is_some() == shared.membership.is_some()
        {
            // An earlier identity of this very node may be among them; the present one stands.
            let _ = shared.roots.write().admit(&admitted);
        }
    }
    let (records, mut unreadable) = shared.store.records(&format!("{}.", subject::DECISIONS))?;
    let now_ms = shared.clock.now_ms();
    let mut core = shared.core.lock();
    let mut adopted = Vec::new();
    for kept in records {
        match remembered(shared, &kept) {
            Some(Remembered::Counts(change)) => {
                core.clock.observe(change.version());
                let outcome = core.registers.apply(&change, now_ms);
                if !matches!(outcome, Outcome::Applied { .. }) {
                    shared.engine.forget(&kept.subject, kept.version);
                }
            }
            Some(Remembered::Adopt(change)) => {
                shared.engine.forget(&kept.subject, kept.version);
                adopted.push(change);
            }
            None => unreadable += 1,
        }
    }
    for change in adopted {
        adopt(shared, &mut core, change, now_ms);
    }
    let mut view = core.registers.view();
    view.revision = 1;
    drop(core);
    shared.view.store(Arc::new(view));
    shared.restore_revocations()?;
    if unreadable > 0 {
        shared.fault("state", format!("{unreadable} kept records cannot be read and were passed over"));
    }
    Ok(())
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
        Change::Withdrawn(_) => return,
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
