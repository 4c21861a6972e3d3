//! Changes of policy that were asked for at this node: those that wait for a second operator, with all that they would do, and the last
//! that are over.
//!
//! Each is one sealed file. A change never changes: what was diffed and shown is what is published, under the hash that whoever approves
//! has named.
//!
//! INVARIANT: a change leaves `waiting` once, and what is left of it then has no files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use phalanx_model::RequestId;
use phalanx_model::limits::{
    CHANGE_DIFFERENCES_MAX, CHANGE_LIFE_MS, CHANGES_KEPT_MAX, CHANGES_PER_AUTHOR_MAX, CHANGES_WAITING_MAX,
    POLICY_BUNDLE_BYTES_MAX,
};
use phalanx_trust::{OperatorToken, Sealer, TrustError, private_file, random_bytes, sha256};
use serde::{Deserialize, Serialize};

use crate::api::{NewPolicyChange, PolicyChange, PolicyChangeState, PolicyDiffered, PolicyDifference};

/// The changes of this node.
pub struct Changes {
    dir: PathBuf,
    sealer: Arc<Sealer>,
    /// By id, the oldest first.
    known: Mutex<BTreeMap<String, Kept>>,
}

/// A change, and who asked for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) change: PolicyChange,
    /// The account of its author, for ever his; none of who has the node.
    pub(crate) operator: Option<String>,
    /// That account as it was when he ordered it; none of what was ordered before changes said so.
    #[serde(default)]
    pub(crate) generation: Option<u64>,
    /// The token by which he ordered it, if it was one.
    #[serde(default)]
    pub(crate) token: Option<OperatorToken>,
    /// The hash of what it is based on.
    pub(crate) base_hash: String,
}

/// A change to be made.
pub(crate) struct Wanted {
    /// What would be done.
    pub(crate) order: NewPolicyChange,
    pub(crate) author: String,
    pub(crate) operator: Option<String>,
    /// His account's.
    pub(crate) generation: Option<u64>,
    pub(crate) token: Option<OperatorToken>,
    pub(crate) source: String,
    pub(crate) stage: Option<String>,
    pub(crate) base: (u64, String),
    pub(crate) differs: PolicyDiffered,
}

/// Why a change is not made or does not end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotDone {
    /// There is no room for it.
    Full(String),
    /// There is none of that id.
    Unknown,
    /// It is over.
    Over(PolicyChangeState),
    /// What is kept of it is not what was shown, or it cannot be read or kept.
    Disk(String),
}

#[derive(Serialize, Deserialize)]
struct Wire {
    kept: Kept,
    /// None of one that is over.
    order: Option<NewPolicyChange>,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Changes {
    /// Reads those of the run before. A file that cannot be read is set aside: nothing is published that was not read whole.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn load(dir: &Path, sealer: Arc<Sealer>) -> Result<Self, TrustError> {
        let failed = |error: std::io::Error| TrustError::File {
            path: dir.to_owned(),
            cause: format!("changes of policy cannot be kept there: {error}"),
            fix: "see to it that the folder is the user's of the node".to_owned(),
        };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let changes = Self { dir: dir.to_owned(), sealer, known: Mutex::default() };
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(ENDING)) else {
                continue;
            };
            match changes.read(id) {
                Ok(Wire { kept, .. }) => _ = changes.known.lock().insert(id.to_owned(), kept),
                Err(cause) => {
                    let done = std::fs::rename(&path, path.with_extension("set-aside")).is_ok();
                    tracing::warn!(file = %path.display(), cause, done, "a change of policy cannot be read");
                }
            }
        }
        Ok(changes)
    }

    /// All, the newest first. Those whose time is over end.
    pub(crate) fn list(&self, now_ms: u64) -> Vec<PolicyChange> {
        self.expire(now_ms);
        self.known.lock().values().rev().map(|kept| kept.change.clone()).collect()
    }

    /// One of them.
    pub(crate) fn get(&self, id: &str, now_ms: u64) -> Option<Kept> {
        self.expire(now_ms);
        self.known.lock().get(id).cloned()
    }

    /// Those that wait.
    pub(crate) fn waiting(&self) -> Vec<Kept> {
        let known = self.known.lock();
        known.values().filter(|kept| kept.change.state == PolicyChangeState::Waiting).cloned().collect()
    }

    /// Keeps a change that waits.
    pub(crate) fn wait(&self, wanted: Wanted, now_ms: u64) -> Result<PolicyChange, NotDone> {
        self.expire(now_ms);
        let mut known = self.known.lock();
        let waiting = known.values().filter(|kept| kept.change.state == PolicyChangeState::Waiting);
        if waiting.clone().count() >= CHANGES_WAITING_MAX {
            return Err(NotDone::Full(format!("{CHANGES_WAITING_MAX} changes wait already; reject some")));
        }
        if waiting.filter(|kept| kept.operator == wanted.operator).count() >= CHANGES_PER_AUTHOR_MAX {
            let message = format!("{CHANGES_PER_AUTHOR_MAX} changes of yours wait already; reject some");
            return Err(NotDone::Full(message));
        }
        let (kept, order) = kept(wanted, PolicyChangeState::Waiting, now_ms);
        self.write(&kept, Some(&order))?;
        let change = kept.change.clone();
        known.insert(change.id.clone(), kept);
        Ok(change)
    }

    /// Notes a change that was published at once.
    pub(crate) fn published(&self, wanted: Wanted, version: u64, now_ms: u64) -> PolicyChange {
        let (mut kept, _) = kept(wanted, PolicyChangeState::Published, now_ms);
        kept.change.version = Some(version);
        kept.change.decided_at_ms = Some(now_ms);
        if let Err(error) = self.write(&kept, None) {
            // The record of policy and the ledger tell of it all the same.
            tracing::warn!(?error, "a change of policy is not kept");
        }
        let change = kept.change.clone();
        let mut known = self.known.lock();
        known.insert(change.id.clone(), kept);
        self.forget_old(&mut known);
        change
    }

    /// What a change that waits would do, as it was shown.
    pub(crate) fn order(&self, id: &str) -> Result<NewPolicyChange, NotDone> {
        let known = self.known.lock().get(id).cloned().ok_or(NotDone::Unknown)?;
        if known.change.state != PolicyChangeState::Waiting {
            return Err(NotDone::Over(known.change.state));
        }
        let Wire { order, .. } = self.read(id).map_err(NotDone::Disk)?;
        let order = order.ok_or_else(|| NotDone::Disk("its files are gone".to_owned()))?;
        match hash(&order, &known.base_hash, known.operator.as_deref()) == known.change.hash {
            true => Ok(order),
            false => Err(NotDone::Disk("it is not what was shown".to_owned())),
        }
    }

    /// Ends a change that waits.
    pub(crate) fn end(
        &self,
        id: &str,
        now_ms: u64,
        end: impl FnOnce(&mut PolicyChange),
    ) -> Result<PolicyChange, NotDone> {
        let mut known = self.known.lock();
        let kept = known.get_mut(id).ok_or(NotDone::Unknown)?;
        if kept.change.state != PolicyChangeState::Waiting {
            return Err(NotDone::Over(kept.change.state));
        }
        end(&mut kept.change);
        kept.change.decided_at_ms = Some(now_ms);
        debug_assert!(kept.change.state != PolicyChangeState::Waiting);
        let change = kept.change.clone();
        // In memory it is over whatever the disk says; after a restart its base has moved, or its time is over.
        let written = self.write(kept, None);
        self.forget_old(&mut known);
        written.map(|()| change)
    }

    fn expire(&self, now_ms: u64) {
        let over = |kept: &&Kept| {
            kept.change.state == PolicyChangeState::Waiting && now_ms >= kept.change.expires_at_ms
        };
        let over: Vec<String> =
            self.known.lock().values().filter(over).map(|one| one.change.id.clone()).collect();
        for id in over {
            let ended = self.end(&id, now_ms, |change| {
                change.state = PolicyChangeState::Expired;
                "nobody approved it in time".clone_into(&mut change.decided_reason);
            });
            if let Err(error) = ended {
                tracing::warn!(?error, "the end of a change of policy is not kept");
            }
        }
    }

    fn forget_old(&self, known: &mut BTreeMap<String, Kept>) {
        let over = known.values().filter(|kept| kept.change.state != PolicyChangeState::Waiting);
        let over: Vec<String> = over.map(|kept| kept.change.id.clone()).collect();
        for id in over.iter().take(over.len().saturating_sub(CHANGES_KEPT_MAX)) {
            known.remove(id);
            let _ = std::fs::remove_file(self.path(id));
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}{ENDING}"))
    }

    fn read(&self, id: &str) -> Result<Wire, String> {
        let sealed = private_file::read(&self.path(id), FILE_BYTES_MAX).map_err(|error| error.to_string())?;
        let sealed = sealed.ok_or("it is gone")?;
        let plain = self.sealer.open(CONTEXT, &sealed).map_err(|error| error.to_string())?;
        let wire: Wire = serde_json::from_slice(&plain).map_err(|error| error.to_string())?;
        if wire.kept.change.id == id { Ok(wire) } else { Err("it is another".to_owned()) }
    }

    fn write(&self, kept: &Kept, order: Option<&NewPolicyChange>) -> Result<(), NotDone> {
        let wire = Wire { kept: kept.clone(), order: order.cloned() };
        let plain = serde_json::to_vec(&wire).map_err(|error| NotDone::Disk(error.to_string()))?;
        let sealed = self.sealer.seal(CONTEXT, &plain).map_err(|error| NotDone::Disk(error.to_string()))?;
        private_file::replace(&self.path(&kept.change.id), &sealed)
            .map_err(|error| NotDone::Disk(error.to_string()))
    }
}

/// Dangers as they are listed. All count; those that have no room are said to be there.
pub(crate) fn shown(mut dangers: Vec<PolicyDifference>) -> Vec<PolicyDifference> {
    let more = dangers.len().saturating_sub(CHANGE_DIFFERENCES_MAX);
    dangers.truncate(CHANGE_DIFFERENCES_MAX);
    if more > 0 {
        let words = format!("{more} more");
        dangers.push(PolicyDifference { words, app: None, route: None });
    }
    dangers
}

fn kept(wanted: Wanted, state: PolicyChangeState, now_ms: u64) -> (Kept, NewPolicyChange) {
    let Wanted { order, author, operator, generation, token, source, stage, base, mut differs } = wanted;
    let (base, base_hash) = base;
    let random = u64::from_be_bytes(random_bytes());
    let left_out = differs.changes.len().saturating_sub(CHANGE_DIFFERENCES_MAX);
    differs.changes.truncate(CHANGE_DIFFERENCES_MAX);
    let change = PolicyChange {
        id: RequestId::from_parts(now_ms, 0, random).to_string(),
        state,
        author,
        reason: order.reason.clone(),
        source,
        at_ms: now_ms,
        expires_at_ms: now_ms.saturating_add(CHANGE_LIFE_MS),
        hash: hash(&order, &base_hash, operator.as_deref()),
        base,
        stage,
        needs_second: state == PolicyChangeState::Waiting,
        dangers: shown(differs.dangers),
        diff: differs.changes,
        diff_left_out: u64::try_from(left_out).unwrap_or(u64::MAX),
        approved_by: None,
        decided_reason: String::new(),
        decided_at_ms: None,
        version: None,
    };
    (Kept { change, operator, generation, token, base_hash }, order)
}

/// The hash of all that a change would do, on what, and for whom.
fn hash(order: &NewPolicyChange, base_hash: &str, operator: Option<&str>) -> String {
    // Texts and numbers under names: there is nothing that JSON could not say.
    let text = serde_json::to_vec(&(order, base_hash, operator)).unwrap_or_default();
    sha256(&text).iter().map(|byte| format!("{byte:02x}")).collect()
}

const CONTEXT: &str = "change of policy";
const ENDING: &str = ".change";
/// A bundle in base64, what is said of it, sealed.
const FILE_BYTES_MAX: usize = POLICY_BUNDLE_BYTES_MAX * 2 + 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(operator: &str, text: &str) -> Wanted {
        let files = BTreeMap::from([("policy.toml".to_owned(), text.to_owned())]);
        Wanted {
            order: NewPolicyChange { entry: "policy.toml".into(), files, ..NewPolicyChange::default() },
            author: operator.to_owned(),
            operator: Some(operator.to_owned()),
            generation: None,
            token: None,
            source: "files".into(),
            stage: None,
            base: (3, "abc".into()),
            differs: PolicyDiffered::default(),
        }
    }

    fn store(dir: &Path, sealer: &Arc<Sealer>) -> Changes {
        Changes::load(dir, Arc::clone(sealer)).unwrap()
    }

    #[test]
    fn what_waits_is_there_again_after_a_restart_and_over_once() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let changes = store(dir.path(), &sealer);
        let change = changes.wait(wanted("ann", "x"), 1_000).unwrap();
        let again = store(dir.path(), &sealer);
        assert_eq!(again.list(2_000), std::slice::from_ref(&change));
        assert_eq!(again.order(&change.id).unwrap(), wanted("ann", "x").order);
        let end = |change: &mut PolicyChange| change.state = PolicyChangeState::Rejected;
        again.end(&change.id, 3_000, end).unwrap();
        let third = store(dir.path(), &sealer);
        assert_eq!(third.order(&change.id), Err(NotDone::Over(PolicyChangeState::Rejected)));
        assert_eq!(third.end(&change.id, 4_000, end), Err(NotDone::Over(PolicyChangeState::Rejected)));
    }

    #[test]
    fn a_file_that_is_not_what_was_shown_is_never_published() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let changes = store(dir.path(), &sealer);
        let change = changes.wait(wanted("ann", "x"), 1_000).unwrap();
        let kept = changes.get(&change.id, 1_000).unwrap();
        changes.write(&kept, Some(&wanted("ann", "y").order)).unwrap();
        assert_eq!(changes.order(&change.id), Err(NotDone::Disk("it is not what was shown".into())));
        // Another's file under this name is none; it is set aside at the next start.
        let other = changes.wait(wanted("bob", "z"), 1_000).unwrap();
        std::fs::copy(changes.path(&other.id), changes.path(&change.id)).unwrap();
        let again = store(dir.path(), &sealer);
        assert_eq!(again.list(2_000).len(), 1);
    }

    #[test]
    fn nobody_takes_all_places_and_what_waits_too_long_ends() {
        let dir = tempfile::tempdir().unwrap();
        let changes = store(dir.path(), &Arc::new(Sealer::ephemeral().unwrap()));
        for number in 0..CHANGES_PER_AUTHOR_MAX {
            changes.wait(wanted("ann", &number.to_string()), 1_000).unwrap();
        }
        assert!(matches!(changes.wait(wanted("ann", "one more"), 1_000), Err(NotDone::Full(_))));
        changes.wait(wanted("bob", "x"), 1_000).unwrap();
        let states = |now_ms| changes.list(now_ms).iter().map(|one| one.state).collect::<Vec<_>>();
        assert_eq!(states(1_000 + CHANGE_LIFE_MS - 1), [PolicyChangeState::Waiting; 5]);
        assert_eq!(states(1_000 + CHANGE_LIFE_MS), [PolicyChangeState::Expired; 5]);
        changes.wait(wanted("ann", "again"), 2_000 + CHANGE_LIFE_MS).unwrap();
        for number in 0..2 * CHANGES_KEPT_MAX {
            changes.published(wanted("cid", &number.to_string()), 1, 3_000 + CHANGE_LIFE_MS);
        }
        assert_eq!(changes.list(3_000 + CHANGE_LIFE_MS).len(), CHANGES_KEPT_MAX + 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), CHANGES_KEPT_MAX + 1);
    }
}
