//! Blocklists in force: the newest content of each list that can be had, compiled into one table, swapped whole into the view.
//!
//! The records say which content is the newest, the engine's blobs hold it. What is in force is pinned, and its blob is kept here:
//! a restart without any server enforces it, before the records are read.
//!
//! INVARIANT: while a newer content cannot be had, the one before stays in force, unless it has ended by itself. A list that was removed
//! or recalled, or whose time is over, is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use phalanx_model::limits::{BLOCKLIST_PREFIXES_MAX, BLOCKLISTS_MAX};
use phalanx_model::{AuthorRole, Blocklist, DecisionKind, GoodShare, ListContent, ListPrefixes, Lists};
use phalanx_trust::{Refusal, valid_name};

use crate::change::tombstone_end_ms;
use crate::handle::{cut, new_id};
use crate::local::blocking;
use crate::shared::Shared;
use crate::{BlobHash, Change, FleetError, FleetHandle};

/// A list as an operator imports it.
#[derive(Debug, Clone)]
pub struct NewBlocklist {
    /// Its name, one for the whole fleet.
    pub name: String,
    /// What is ordered about its prefixes: ban or challenge.
    pub kind: DecisionKind,
    /// How long this version holds, in milliseconds.
    pub for_ms: u64,
    /// Why; cut to the limit.
    pub reason: String,
    /// Its prefixes.
    pub prefixes: ListPrefixes,
}

/// A list as this node sees it.
#[derive(Debug, Clone)]
pub struct BlocklistState {
    /// The newest version that is known.
    pub newest: Arc<Blocklist>,
    /// The version in force here, if one is.
    pub in_force: Option<Arc<Blocklist>>,
    /// What the newest version would refuse, if it is held here for that.
    pub held: Option<GoodShare>,
}

/// A list whose content is here.
pub(crate) struct Loaded {
    list: Arc<Blocklist>,
    prefixes: Arc<ListPrefixes>,
}

/// Lists in force, by name.
pub(crate) type LoadedLists = BTreeMap<Arc<str>, Loaded>;

impl FleetHandle {
    /// Puts a list into force everywhere, in place of its version before. In force here when this returns. Fails when the others
    /// cannot be reached: a list that only its author enforces would be taken for one that all do.
    pub async fn import_blocklist(&self, mut new: NewBlocklist) -> Result<Arc<Blocklist>, FleetError> {
        let shared = &self.shared;
        shared.key(AuthorRole::Operator)?;
        self.check_room(&new)?;
        let prefixes = u32::try_from(new.prefixes.len()).unwrap_or(u32::MAX);
        let all = std::mem::take(&mut new.prefixes);
        let bytes = blocking(move || Ok(all.to_bytes())).await?;
        let hash = shared.engine.blob_put(Bytes::from(bytes)).await?;
        let content = Some(ListContent { hash: hash.as_str().to_owned(), prefixes });
        let NewBlocklist { name, kind, for_ms, reason, .. } = new;
        self.order_list(Order { name, kind, for_ms, reason, content, approved: false }).await
    }

    /// Ends a list everywhere.
    pub async fn remove_blocklist(&self, name: &str, reason: &str) -> Result<Arc<Blocklist>, FleetError> {
        self.shared.key(AuthorRole::Operator)?;
        let Some(known) = self.blocklists().await.into_iter().find(|list| *list.newest.name == *name) else {
            return Err(FleetError::NoSuchBlocklist(name.to_owned()));
        };
        let (name, reason) = (name.to_owned(), reason.to_owned());
        let kind = known.newest.kind;
        self.order_list(Order { name, kind, for_ms: 0, reason, content: None, approved: false }).await
    }

    /// Puts a version of a list into force everywhere, whoever would be refused.
    pub(crate) async fn approve_blocklist(&self, list: &Blocklist) -> Result<Arc<Blocklist>, FleetError> {
        self.order_list(self.again(list)).await
    }

    /// Makes the version that is in force here the newest again; without one, ends the list.
    pub(crate) async fn reject_blocklist(
        &self,
        list: &Blocklist,
        reason: &str,
    ) -> Result<Arc<Blocklist>, FleetError> {
        let shared = &self.shared;
        let before = {
            let loaded = shared.lists.lock().await;
            let before = loaded.get(&list.name).filter(|has| has.list.id != list.id);
            before.map(|has| (Arc::clone(&has.list), Arc::clone(&has.prefixes)))
        };
        let Some((before, prefixes)) = before else { return self.remove_blocklist(&list.name, reason).await };
        // The engine was told to forget it when it was replaced.
        let bytes = blocking(move || Ok(prefixes.to_bytes())).await?;
        shared.engine.blob_put(Bytes::from(bytes)).await?;
        self.order_list(self.again(&before)).await
    }

    /// The order that makes a version the newest, as what an operator has looked at.
    fn again(&self, list: &Blocklist) -> Order {
        Order {
            name: list.name.to_string(),
            kind: list.kind,
            for_ms: list.until_ms.saturating_sub(self.shared.clock.now_ms()),
            reason: list.reason.clone(),
            content: list.content.clone(),
            approved: true,
        }
    }

    /// The lists that are in force or should be, by name.
    pub async fn blocklists(&self) -> Vec<BlocklistState> {
        let shared = &self.shared;
        let loaded = shared.lists.lock().await;
        let wanted = shared.wanted_lists();
        let mut states: BTreeMap<Arc<str>, BlocklistState> = BTreeMap::new();
        for list in wanted.into_iter().chain(loaded.values().map(|has| Arc::clone(&has.list))) {
            let in_force = loaded.get(&list.name).map(|has| Arc::clone(&has.list));
            let held = shared.core.lock().holding.list(&list);
            states.entry(Arc::clone(&list.name)).or_insert(BlocklistState { newest: list, in_force, held });
        }
        states.into_values().collect()
    }

    /// The prefixes of a list in force here.
    pub async fn blocklist_prefixes(&self, name: &str) -> Option<Arc<ListPrefixes>> {
        self.shared.lists.lock().await.get(name).map(|has| Arc::clone(&has.prefixes))
    }

    /// Says what a list is from now on.
    async fn order_list(&self, order: Order) -> Result<Arc<Blocklist>, FleetError> {
        let shared = &self.shared;
        let name = order.name.clone();
        let before = self.contents_of(&name).await;
        let change = shared.author(AuthorRole::Operator, |author, version, now_ms| {
            Change::Listed(Arc::new(Blocklist {
                id: new_id(&author, now_ms),
                name: order.name.into(),
                kind: order.kind,
                reason: cut(order.reason),
                content: order.content,
                approved: order.approved,
                created_at_ms: now_ms,
                until_ms: now_ms.saturating_add(order.for_ms),
                expires_at_ms: tombstone_end_ms(AuthorRole::Operator, version),
                author,
                version,
            }))
        })?;
        let Change::Listed(list) = change else { return Err(FleetError::Closed) };
        shared.look_after_lists().await;
        // The one before may still be in force here, while this one is held.
        let now = self.contents_of(&name).await;
        for old in before.into_iter().filter(|old| !now.contains(old)) {
            // Only whoever replaced it does so for all; at worst it takes room until somebody clears it away.
            if let Err(error) = shared.engine.blob_forget(old).await {
                tracing::debug!(%error, "the content of a replaced blocklist stays with the engine");
            }
        }
        Ok(list)
    }

    /// The contents that a list has, in its newest version and in the one in force.
    async fn contents_of(&self, name: &str) -> Vec<BlobHash> {
        let states = self.blocklists().await.into_iter().filter(|list| *list.newest.name == *name);
        states
            .flat_map(|list| list.in_force.into_iter().chain([list.newest]))
            .filter_map(|list| hash_of(&list))
            .collect()
    }

    fn check_room(&self, new: &NewBlocklist) -> Result<(), FleetError> {
        if !valid_name(&new.name) {
            return Err(Refusal::NotAllowed("a list's name is 1 to 63 of a-z, 0-9, - and _").into());
        }
        let others = self.shared.wanted_lists().into_iter().filter(|list| *list.name != *new.name);
        let (mut lists, mut prefixes) = (0, new.prefixes.len());
        for list in others {
            lists += 1;
            prefixes += prefixes_of(&list);
        }
        if lists >= BLOCKLISTS_MAX {
            return Err(FleetError::Limit("16 blocklists are in force; remove one first"));
        }
        if prefixes > BLOCKLIST_PREFIXES_MAX {
            return Err(FleetError::Limit(
                "all blocklists together hold a million prefixes at most; remove one first",
            ));
        }
        Ok(())
    }
}

struct Order {
    name: String,
    kind: DecisionKind,
    for_ms: u64,
    reason: String,
    content: Option<ListContent>,
    approved: bool,
}

/// Keeps the lists in force as the records say, until the node stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = shared.lists_changed.notified() => {}
            _ = seconds.tick() => {}
        }
        shared.look_after_lists().await;
    }
}

impl Shared {
    /// Puts into force what was in force at the end of the last run, as far as its time is not over. The records may know better, and
    /// are asked as soon as they are read.
    pub(crate) async fn remember_lists(self: &Arc<Self>) {
        let (store, now_ms) = (Arc::clone(&self.store), self.clock.now_ms());
        let remembered = blocking(move || {
            let pins = store.pins()?.into_iter().filter(|(name, _)| name.starts_with(PIN));
            let lists = pins.filter_map(|(_, bytes)| serde_json::from_slice::<Blocklist>(&bytes).ok());
            let live = lists.filter(|list| now_ms < list.until_ms);
            Ok(live
                .filter_map(|list| {
                    let bytes = store.blob_get(hash_of(&list)?.as_str()).ok()??;
                    open(Arc::new(list), &bytes)
                })
                .collect::<Vec<_>>())
        });
        let Ok(remembered) = remembered.await else { return };
        if remembered.is_empty() {
            return;
        }
        let mut loaded = self.lists.lock().await;
        loaded.extend(remembered.into_iter().map(|has| (Arc::clone(&has.list.name), has)));
        self.show_lists(&loaded).await;
    }

    /// Brings what is in force to what the records say, as far as its content can be had.
    pub(crate) async fn look_after_lists(self: &Arc<Self>) {
        let mut loaded = self.lists.lock().await;
        let before = contents(&loaded);
        let wanted = self.wanted_lists();
        let released = self.core.lock().holding.keep_lists(&wanted);
        self.unpin_all(released);
        let mut changed = self.drop_ended(&mut loaded, &wanted);
        let (mut room, mut left_out) = (BLOCKLIST_PREFIXES_MAX, Vec::new());
        for (number, list) in wanted.iter().enumerate() {
            match room.checked_sub(prefixes_of(list)).filter(|_| number < BLOCKLISTS_MAX) {
                Some(less) => room = less,
                None => {
                    left_out.push(list.name.to_string());
                    changed |= loaded.remove(&list.name).is_some();
                    continue;
                }
            }
            let held = self.core.lock().holding.list(list).is_some();
            if held || loaded.get(&list.name).is_some_and(|has| has.list == *list) {
                continue;
            }
            let fault = format!("blocklist {}", list.name);
            match self.fetch(list).await {
                Ok(has) => {
                    self.clear_fault(&fault);
                    if !self.is_in_force(&loaded, list) && self.hold_list(list, &has).await {
                        continue;
                    }
                    loaded.insert(Arc::clone(&list.name), has);
                    changed = true;
                }
                Err(cause) => {
                    let stands =
                        if loaded.contains_key(&list.name) { "the one before" } else { "nothing of it" };
                    let version = list.version;
                    self.fault(
                        fault.clone(),
                        format!("{fault}: version {version} cannot be had, {stands} is in force: {cause}"),
                    );
                }
            }
        }
        self.name_left_out(&left_out);
        if changed {
            self.show_lists(&loaded).await;
            self.forget_contents(before, &loaded);
        }
    }

    /// Whether a version holds nothing else than the one in force.
    fn is_in_force(&self, loaded: &LoadedLists, list: &Blocklist) -> bool {
        let same = |has: &Loaded| has.list.content == list.content && has.list.kind == list.kind;
        loaded.get(&list.name).is_some_and(same)
    }

    /// Whether a version waits for an operator from here on; the one before stays in force.
    async fn hold_list(self: &Arc<Self>, list: &Arc<Blocklist>, has: &Loaded) -> bool {
        let (shared, list, prefixes) = (Arc::clone(self), Arc::clone(list), Arc::clone(&has.prefixes));
        blocking(move || Ok(shared.weigh_list(&list, &prefixes))).await.unwrap_or(false)
    }

    /// The lists that should be in force, by name: neither removed nor recalled nor over.
    fn wanted_lists(&self) -> Vec<Arc<Blocklist>> {
        let now_ms = self.clock.now_ms();
        let core = self.core.lock();
        let live = core.registers.lists().filter(|list| list.content.is_some() && now_ms < list.until_ms);
        let mut wanted: Vec<_> =
            live.filter(|list| !core.registers.is_list_recalled(list)).cloned().collect();
        drop(core);
        wanted.sort_by(|one, other| one.name.cmp(&other.name));
        wanted
    }

    /// Takes out what has ended. Whether there was any.
    fn drop_ended(&self, loaded: &mut LoadedLists, wanted: &[Arc<Blocklist>]) -> bool {
        let now_ms = self.clock.now_ms();
        let core = self.core.lock();
        let ended = |name: &Arc<str>, has: &Loaded| {
            // While the records are read, or were lost, a list that they do not name may yet be one.
            let unknown = core.restoring && !core.registers.lists().any(|list| list.name == *name);
            let stands = unknown || wanted.iter().any(|list| list.name == *name);
            !stands || has.list.until_ms <= now_ms || core.registers.is_list_recalled(&has.list)
        };
        let names: Vec<_> =
            loaded.iter().filter(|(name, has)| ended(name, has)).map(|(name, _)| Arc::clone(name)).collect();
        drop(core);
        for name in &names {
            loaded.remove(name);
            self.clear_fault(&format!("blocklist {name}"));
        }
        !names.is_empty()
    }

    async fn fetch(&self, list: &Arc<Blocklist>) -> Result<Loaded, String> {
        let Some(hash) = hash_of(list) else { return Err("its record names no content".into()) };
        let bytes = match tokio::time::timeout(FETCH_TIME_MAX, self.engine.blob_get(hash)).await {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return Err("nobody has its content; import it again".into()),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("its content comes too slowly".into()),
        };
        let list = Arc::clone(list);
        let opened = blocking(move || Ok(open(list, &bytes))).await;
        opened.ok().flatten().ok_or_else(|| "its content is not what its record says; import it again".into())
    }

    /// Compiles the lists, away from whoever waits for this thread, and swaps them in.
    async fn show_lists(self: &Arc<Self>, loaded: &LoadedLists) {
        for has in loaded.values() {
            if let Ok(bytes) = serde_json::to_vec(&*has.list) {
                self.store.pin(&pin(&has.list.name), &bytes);
            }
        }
        let parts = loaded.values().map(|has| (Arc::clone(&has.list), Arc::clone(&has.prefixes))).collect();
        let shared = Arc::clone(self);
        let _ = blocking(move || {
            let lists = Arc::new(Lists::of(parts));
            tracing::info!(lists = lists.iter().count(), bytes = lists.bytes_len(), "blocklists in force");
            let mut core = shared.core.lock();
            let view = shared.view.load_full();
            let next = view.with_lists(lists);
            shared.show(&mut core, view, next);
            Ok(())
        })
        .await;
    }

    /// Clears away what is in force no more.
    fn forget_contents(self: &Arc<Self>, before: BTreeMap<Arc<str>, String>, loaded: &LoadedLists) {
        for name in before.keys().filter(|name| !loaded.contains_key(*name)) {
            self.store.unpin(&pin(name));
        }
        let now: BTreeSet<String> = contents(loaded).into_values().collect();
        let unused: Vec<String> = before.into_values().filter(|hash| !now.contains(hash)).collect();
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || {
            for hash in unused {
                let _ = store.blob_forget(&hash);
            }
        });
    }

    fn name_left_out(&self, names: &[String]) {
        if names.is_empty() {
            return self.clear_fault(LEFT_OUT);
        }
        let names = names.join(", ");
        self.fault(LEFT_OUT, format!("blocklists beyond the limits of {BLOCKLISTS_MAX} lists and {BLOCKLIST_PREFIXES_MAX} prefixes are not in force: {names}"));
    }
}

/// The content of a list, if these bytes are that.
fn open(list: Arc<Blocklist>, bytes: &[u8]) -> Option<Loaded> {
    let prefixes = ListPrefixes::from_bytes(bytes)?;
    let as_said = prefixes.len() == prefixes_of(&list) && hash_of(&list) == Some(BlobHash::of(bytes));
    as_said.then(|| Loaded { list, prefixes: Arc::new(prefixes) })
}

fn contents(loaded: &LoadedLists) -> BTreeMap<Arc<str>, String> {
    let hash =
        |has: &Loaded| has.list.content.as_ref().map(|content| content.hash.clone()).unwrap_or_default();
    loaded.iter().map(|(name, has)| (Arc::clone(name), hash(has))).collect()
}

fn hash_of(list: &Blocklist) -> Option<BlobHash> {
    BlobHash::parse(&list.content.as_ref()?.hash)
}

fn prefixes_of(list: &Blocklist) -> usize {
    list.content.as_ref().and_then(|content| usize::try_from(content.prefixes).ok()).unwrap_or_default()
}

/// Under what a list in force is pinned. Nodes are pinned as `site/node`, which hold no space.
fn pin(name: &str) -> String {
    format!("{PIN}{name}")
}

/// For a content of at most 9 MB.
const FETCH_TIME_MAX: Duration = Duration::from_secs(30);
const PIN: &str = "list ";
const LEFT_OUT: &str = "blocklists left out";
