//! What operators order about policy, and what their nodes see to: each change replaces the fleet's one record, if nobody else has
//! replaced it meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use phalanx_model::limits::{
    DECISION_MAX_MS, FLEET_NODES_MAX, POLICY_BUNDLES_KEPT, POLICY_CHAIN_MAX, POLICY_RECORD_BYTES_MAX,
    REASON_BYTES_MAX,
};
use phalanx_model::{Author, AuthorRole};
use phalanx_trust::{Refusal, SignedRecord, TrustError, valid_name};

use super::bundle::{Bundle, Manifest, Reader, SCHEMA as BUNDLE_SCHEMA};
use super::follow::{CONTENT_GONE, open_record};
use super::judge::{self, Judgement};
use super::origin::{Maker, Origin, PolicyResult};
use super::record::{BundleRef, PolicyRecord, SCHEMA, Stage, Trial};
use crate::handle::cut;
use crate::local::blocking;
use crate::shared::Shared;
use crate::{BlobHash, FleetError, FleetHandle, Put, Speed, Topic, subject};

/// A policy that an operator wants to be the fleet's.
#[derive(Debug, Clone)]
pub struct NewBundle {
    /// Its files.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The name of the policy file among them.
    pub entry: String,
    /// The version it asks for; a lower one than the next is raised to that.
    pub version: u64,
    /// The version that the operator saw; the order fails if it is another by now.
    pub expect: Option<u64>,
    /// What whoever loads it must know of.
    pub requires: Vec<String>,
    /// Who tries it first; without it all nodes get it at once.
    pub stage: Option<Stage>,
    /// For how long it is tried before all get it.
    pub bake_ms: Option<u64>,
    /// Why.
    pub reason: String,
    /// Who makes it, and of what.
    pub maker: Maker,
}

/// Policy as this node sees it.
#[derive(Debug, Clone)]
pub struct PolicyState {
    /// The fleet's record; none before the first push.
    pub record: Option<Arc<PolicyRecord>>,
    /// How the trial stands, if there is one.
    pub judgement: Option<Judgement>,
}

impl FleetHandle {
    /// Policy as this node sees it.
    pub fn policy_state(&self) -> PolicyState {
        let record = self.shared.policies.record();
        let judgement = record.as_ref().and_then(|record| judge::of_record(self, record));
        PolicyState { record, judgement }
    }

    /// The content of a version that the record remembers.
    ///
    /// # Errors
    /// It is not remembered, or nobody has its content any more.
    pub async fn policy_bundle(&self, version: u64) -> Result<(BundleRef, Bundle), FleetError> {
        let record = self.shared.policies.record();
        let record = record.ok_or(FleetError::Impossible("the fleet has no policy bundle yet"))?;
        let mut links = record.chain.iter().chain([&record.stable]);
        let link = links.find(|link| link.version == version);
        let link = link.ok_or(FleetError::Impossible(FORGOTTEN))?.clone();
        match self.shared.open_bundle(&link).await {
            // It stays so, unlike a store that cannot be reached.
            Err(FleetError::Unreachable(why)) if why == CONTENT_GONE => Err(FleetError::Impossible(UNKEPT)),
            bundle => Ok((link, bundle?)),
        }
    }

    /// Makes a policy the fleet's, for all nodes or for those that try it. The caller has seen to it that it compiles.
    pub async fn push_policy(&self, new: NewBundle) -> Result<Arc<PolicyRecord>, FleetError> {
        let shared = &self.shared;
        shared.key(AuthorRole::Operator)?;
        let known = shared.policies.record();
        let current = known.as_ref().map_or(0, |record| record.newest().version);
        if let Some(expected) = new.expect.filter(|expected| *expected != current) {
            let cause =
                format!("the newest policy is version {current}, not {expected}; look at it and try again");
            return Err(FleetError::Conflict(cause));
        }
        if let Some(trial) = known.as_ref().and_then(|record| record.trial.as_ref()) {
            let version = trial.bundle.version;
            return Err(FleetError::Conflict(format!(
                "version {version} is on trial at {}; promote it or roll it back first",
                trial.stage
            )));
        }
        let stage = self.check_stage(known.as_deref(), new.stage, new.bake_ms)?;
        let (reference, _) =
            shared.make_bundle(known.as_deref(), new.files, new.entry, new.version, new.requires).await?;
        let author = shared.me.author(AuthorRole::Operator);
        let reason = if new.reason.is_empty() { String::new() } else { format!(": {}", new.reason) };
        let note =
            format!("version {} was pushed by {}/{}{reason}", reference.version, author.site, author.node);
        let next = shared.next_record(known.as_deref(), note, |record| {
            record.chain.push(reference.clone());
            match stage {
                None => record.stable = reference.clone(),
                Some(stage) => {
                    let started_at_ms = record.changed_at_ms;
                    record.trial =
                        Some(Trial { bundle: reference, stage, started_at_ms, bake_ms: new.bake_ms });
                }
            }
            record.origins.push(Origin::of(record, new.maker, &author, &new.reason));
        });
        shared.replace_policy(known, next).await
    }

    /// Gives all nodes what is on trial. Fails if that is not `version`, where one is named.
    pub async fn promote_policy(
        &self,
        version: Option<u64>,
        author: &str,
        why: &str,
    ) -> Result<Arc<PolicyRecord>, FleetError> {
        let shared = &self.shared;
        shared.key(AuthorRole::Operator)?;
        let known = shared.policies.record();
        let trial = known.as_ref().and_then(|record| record.trial.clone());
        let Some(trial) = trial.filter(|trial| version.is_none_or(|version| version == trial.bundle.version))
        else {
            return Err(FleetError::Conflict(
                "no such version is on trial; look at `phalanx policy status`".into(),
            ));
        };
        let note = format!("version {} is for all nodes: {why}", trial.bundle.version);
        let next = shared.next_record(known.as_deref(), note, |record| {
            record.ends(trial.bundle.version, PolicyResult::Promoted, &format!("{why}, by {author}"));
            record.stable = trial.bundle;
            record.trial = None;
        });
        shared.replace_policy(known, next).await
    }

    /// Gives all nodes the content of an earlier version, under a new one: of `to`, else of the version before the newest. `from` is
    /// the version that the caller means to leave; it fails if that is not the newest.
    pub async fn roll_policy_back(
        &self,
        to: Option<u64>,
        from: Option<u64>,
        maker: Maker,
        why: &str,
    ) -> Result<Arc<PolicyRecord>, FleetError> {
        let shared = &self.shared;
        shared.key(AuthorRole::Operator)?;
        let Some(known) = shared.policies.record() else {
            return Err(FleetError::Impossible("the fleet has no policy bundle yet"));
        };
        if from.is_some_and(|from| from != known.newest().version) {
            return Err(FleetError::Conflict("another version is the newest by now".into()));
        }
        let before = |link: &&BundleRef| link.version < known.newest().version;
        let target = match (to, &known.trial) {
            (Some(to), _) => known.chain.iter().find(|link| link.version == to),
            (None, Some(_)) => Some(&known.stable),
            (None, None) => known.chain.iter().rev().find(before),
        };
        let Some(target) = target else {
            return Err(FleetError::Impossible(FORGOTTEN));
        };
        let old = shared.open_bundle(target).await?;
        let Manifest { entry, requires, .. } = old.manifest;
        let (reference, _) = shared.make_bundle(Some(&known), old.files, entry, 0, requires).await?;
        let note =
            format!("{why}; version {} has the content of version {}", reference.version, target.version);
        let (left, by) = (known.newest().version, shared.me.author(AuthorRole::Operator));
        let maker = Maker { source: format!("version {}", target.version), ..maker };
        let next = shared.next_record(Some(&known), note, |record| {
            record.ends(left, PolicyResult::RolledBack, why);
            record.chain.push(reference.clone());
            record.stable = reference;
            record.trial = None;
            record.origins.push(Origin::of(record, maker, &by, why));
        });
        shared.replace_policy(Some(known), next).await
    }

    /// Makes a site the home of policy, for when the one before is lost for good: what that writes from here on counts nowhere. What is
    /// in force stays; a trial ends and what is stable goes on under a new version, higher than all that this node has heard of.
    pub async fn move_policy_home(&self, site: &str, author: &str) -> Result<Arc<PolicyRecord>, FleetError> {
        let shared = &self.shared;
        shared.key(AuthorRole::Operator)?;
        if !valid_name(site) {
            return Err(Refusal::NotAllowed("a site's name is 1 to 63 of a-z, 0-9, - and _").into());
        }
        let Some(known) = shared.policies.record() else {
            return Err(FleetError::Impossible(
                "the fleet has no policy bundle yet; its home is where the first is pushed",
            ));
        };
        let told = self.members().into_iter().filter_map(|member| member.policy);
        let heard = told.map(|beat| beat.running).filter(|running| !running.hash.is_empty());
        let (mut version, mut epoch) = (known.newest().version, known.epoch);
        for running in heard {
            (version, epoch) = (version.max(running.version), epoch.max(running.epoch));
        }
        let bytes = shared.fetch_bundle(&known.stable).await.map_err(FleetError::Unreachable)?;
        let old = Bundle::from_bytes(&bytes).map_err(Refusal::Unusable)?;
        let Manifest { entry, requires, .. } = old.manifest;
        let (reference, _) =
            shared.make_bundle(Some(&known), old.files, entry, version + 1, requires).await?;
        let note = format!(
            "the home of policy is site {site}; version {} has the content of version {}",
            reference.version, known.stable.version
        );
        let by = shared.me.author(AuthorRole::Operator);
        let source = format!("version {}", known.stable.version);
        let maker = Maker { author: author.to_owned(), approved_by: None, source };
        let why = format!("the home of policy is site {site}");
        let mut next = shared.next_record(Some(&known), note, |record| {
            if let Some(trial) = &known.trial {
                record.ends(trial.bundle.version, PolicyResult::RolledBack, &why);
            }
            record.chain.push(reference.clone());
            record.stable = reference;
            record.trial = None;
            record.origins.push(Origin::of(record, maker, &by, &why));
        });
        (next.epoch, next.home, next.serial) = (epoch + 1, site.into(), 1);
        shared.replace_policy(Some(known), next).await
    }

    /// What is on trial needs somebody to try it and something to go back to.
    fn check_stage(
        &self,
        known: Option<&PolicyRecord>,
        stage: Option<Stage>,
        bake_ms: Option<u64>,
    ) -> Result<Option<Stage>, FleetError> {
        let Some(stage) = stage else { return Ok(None) };
        if known.is_none() {
            return Err(FleetError::Impossible(
                "the fleet has no policy bundle yet, so there is nothing to compare with; push the first to all nodes",
            ));
        }
        if bake_ms.is_some_and(|bake_ms| bake_ms > DECISION_MAX_MS) {
            return Err(FleetError::Limit("a trial lasts a year at most"));
        }
        if !self.members().iter().any(|member| stage.holds(&member.site, &member.node)) {
            return Err(FleetError::Impossible(
                "no node is known that would try it; `phalanx status` lists the nodes",
            ));
        }
        Ok(Some(stage))
    }

    /// Sees to it that the record can be had and believed by who comes new: its home may have lost it, and signatures end.
    pub(crate) async fn care_for_policy(&self) {
        let shared = &self.shared;
        if shared.key(AuthorRole::Operator).is_err() || !shared.engine.link().borrow().connected {
            return;
        }
        let (Some(known), Some(signed)) = (shared.policies.record(), shared.policies.signed()) else {
            return;
        };
        let subject = subject::of_policy(&known.home);
        let now_ms = shared.clock.now_ms();
        let Ok(envelope) = SignedRecord::from_bytes(&signed) else { return };
        let verified = shared.roots.read().verify(&envelope, &subject, now_ms);
        let half_over = envelope.expires_at_ms.saturating_sub(now_ms) < LIFE_MS / 2;
        let outlived = matches!(verified, Err(Refusal::CertificateExpired(_)));
        if verified.is_ok() && half_over || outlived {
            // Never in the name of a revoked author: that would make a stolen key's word our own.
            let next = shared.next_record(Some(&known), known.note.clone(), |_| {});
            if let Err(error) = shared.replace_policy(Some(known), next).await {
                tracing::debug!(%error, "the policy record is not signed anew yet");
            }
            return;
        }
        // Before the record: who reads it looks for them at once.
        if let Err(error) = shared.share_bundles(&known).await {
            return tracing::debug!(%error, "the policy's bundles cannot be shared yet");
        }
        let Ok((revision, last)) = shared.engine.last(Topic::Policy, &subject).await else { return };
        let kept = last.and_then(|bytes| open_record(&bytes, &subject).ok());
        if kept.is_some_and(|(_, kept)| kept.place() >= known.place()) {
            return;
        }
        tracing::info!(home = %known.home, serial = known.serial, "the home of policy lacks its record, which is sent again");
        let put = shared.policy_put(&known, subject, envelope.expires_at_ms, signed);
        let _ = shared.engine.put_after(put, revision).await;
    }
}

impl Shared {
    async fn open_bundle(&self, reference: &BundleRef) -> Result<Bundle, FleetError> {
        let bytes = self.fetch_bundle(reference).await.map_err(FleetError::Unreachable)?;
        let fleet = self.fleet_id();
        let reader = Reader { fleet: &fleet, version: &self.me.version, now_ms: self.clock.now_ms() };
        Ok(Bundle::open(&bytes, reference, &reader).map_err(Refusal::Unusable)?)
    }

    /// Shares what is in force where its store has lost it.
    async fn share_bundles(&self, record: &PolicyRecord) -> Result<(), FleetError> {
        for bundle in
            [Some(&record.stable), record.trial.as_ref().map(|trial| &trial.bundle)].into_iter().flatten()
        {
            let Some(hash) = BlobHash::parse(&bundle.hash) else { continue };
            if self.engine.blob_is_shared(hash.clone()).await? {
                continue;
            }
            if let Some(bytes) = self.engine.blob_get(hash).await? {
                tracing::info!(
                    version = bundle.version,
                    "the store lacks a policy bundle, which is shared again"
                );
                self.engine.blob_put(bytes).await?;
            }
        }
        Ok(())
    }

    /// Makes the bundle that follows on the newest of `known`, and keeps it where all find it.
    async fn make_bundle(
        &self,
        known: Option<&PolicyRecord>,
        files: BTreeMap<String, Vec<u8>>,
        entry: String,
        version: u64,
        requires: Vec<String>,
    ) -> Result<(BundleRef, Bytes), FleetError> {
        let newest = known.map(PolicyRecord::newest);
        let least = newest.map_or(1, |newest| newest.version + 1).max(self.policies.floor());
        let manifest = Manifest {
            schema: BUNDLE_SCHEMA,
            fleet: self.fleet_id().to_string(),
            version: version.max(least),
            previous: newest.map(|newest| newest.hash.clone()),
            oldest: OLDEST.to_owned(),
            requires,
            entry,
            made_at_ms: self.clock.now_ms(),
        };
        let made = Bundle { manifest, files };
        let (made, bytes) = blocking(move || {
            let bytes = made.to_bytes().map_err(Refusal::Unusable)?;
            Ok((made, Bytes::from(bytes)))
        })
        .await?;
        let hash = self.engine.blob_put(bytes.clone()).await?;
        let Manifest { version, previous, .. } = made.manifest;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok((BundleRef { version, hash: hash.as_str().to_owned(), previous, bytes: size }, bytes))
    }

    /// The record after `known`, before `change`.
    fn next_record(
        &self,
        known: Option<&PolicyRecord>,
        note: String,
        change: impl FnOnce(&mut PolicyRecord),
    ) -> PolicyRecord {
        let mut next = known.cloned().unwrap_or_else(|| PolicyRecord {
            schema: SCHEMA,
            epoch: 1,
            home: Arc::clone(&self.me.site),
            serial: 0,
            stable: BundleRef { version: 0, hash: String::new(), previous: None, bytes: 0 },
            trial: None,
            chain: Vec::new(),
            origins: Vec::new(),
            note: String::new(),
            changed_at_ms: 0,
        });
        next.schema = SCHEMA;
        next.serial += 1;
        next.note = cut(note);
        debug_assert!(next.note.len() <= REASON_BYTES_MAX);
        next.changed_at_ms = self.clock.now_ms();
        change(&mut next);
        let excess = next.chain.len().saturating_sub(POLICY_CHAIN_MAX);
        next.chain.drain(..excess);
        next.trim_origins();
        next
    }

    /// Puts a record in the place of the one before, unless its home has another by now.
    async fn replace_policy(
        &self,
        known: Option<Arc<PolicyRecord>>,
        mut next: PolicyRecord,
    ) -> Result<Arc<PolicyRecord>, FleetError> {
        let now_ms = self.clock.now_ms();
        next.check(now_ms)?;
        let subject = subject::of_policy(&next.home);
        let (revision, last) = self.engine.last(Topic::Policy, &subject).await?;
        if let Some(last) = last {
            self.check_not_ahead(&subject, &last, known.as_deref(), &mut next)?;
        }
        let expires_at_ms = now_ms.saturating_add(LIFE_MS);
        let body = serde_json::to_vec(&next).map_err(|_| TrustError::Crypto("writing a policy record"))?;
        let bytes = self.signed(AuthorRole::Operator, &subject, next.serial, expires_at_ms, &body)?;
        let put = self.policy_put(&next, subject.clone(), expires_at_ms, bytes.clone());
        if !self.engine.put_after(put, revision).await? {
            return Err(FleetError::Conflict(
                "another operator changed the policy at this moment; look at `phalanx policy status` and try again".into(),
            ));
        }
        self.receive_policy(&subject.as_str().into(), &bytes);
        self.forget_old_bundles(&next);
        Ok(Arc::new(next))
    }

    /// Whether the record that its home has is one on which `next` may follow. One that counts nowhere is written over, with a serial
    /// above its own.
    fn check_not_ahead(
        &self,
        subject: &str,
        last: &Bytes,
        known: Option<&PolicyRecord>,
        next: &mut PolicyRecord,
    ) -> Result<(), FleetError> {
        let conflict = |author: &Author, kept: &PolicyRecord| {
            FleetError::Conflict(format!(
                "the policy was changed meanwhile by {}/{}: {}; look at `phalanx policy status` and try again",
                author.site, author.node, kept.note
            ))
        };
        let Ok((author, kept)) = open_record(last, subject) else { return Ok(()) };
        match self.check_policy(subject, last) {
            Ok(Some(kept)) => {
                self.receive_policy(&subject.into(), last);
                Err(conflict(&author, &kept))
            }
            // Known by now; not necessarily when the order was made.
            Ok(None) if known.is_none_or(|known| kept.rank() > known.rank()) => Err(conflict(&author, &kept)),
            Ok(None) => Ok(()),
            Err(Refusal::UnknownAuthor(_)) => Err(conflict(&author, &kept)),
            Err(refusal) => {
                let forks =
                    known.is_some_and(|known| kept.place() == known.place()) && kept.epoch >= next.epoch;
                if forks && !matches!(refusal, Refusal::Expired | Refusal::FromTheFuture) {
                    return Err(FleetError::Conflict(refusal.to_string()));
                }
                if kept.epoch == next.epoch {
                    next.serial = next.serial.max(kept.serial.saturating_add(1));
                }
                Ok(())
            }
        }
    }

    fn policy_put(&self, record: &PolicyRecord, subject: String, expires_at_ms: u64, bytes: Bytes) -> Put {
        Put {
            topic: Topic::Policy,
            subject,
            version: record.serial,
            expires_at_ms,
            bytes,
            speed: Speed::Both,
        }
    }

    /// Only whoever adds a bundle clears away for all.
    fn forget_old_bundles(&self, record: &PolicyRecord) {
        let old = record.chain.iter().rev().skip(POLICY_BUNDLES_KEPT);
        let in_use = [Some(&record.stable), record.trial.as_ref().map(|trial| &trial.bundle)];
        // Older ones were cleared away by the changes before.
        let old = old.filter(|link| !in_use.contains(&Some(*link))).take(2);
        let hashes: Vec<BlobHash> = old.filter_map(|link| BlobHash::parse(&link.hash)).collect();
        let engine = Arc::clone(&self.engine);
        tokio::spawn(async move {
            for hash in hashes {
                let _ = engine.blob_forget(hash).await;
            }
        });
    }
}

const UNKEPT: &str = "nobody has the content of that version any more";
const FORGOTTEN: &str =
    "that version is not among those that are remembered; `phalanx policy history` lists them";
/// How long a record counts. Nodes that run its policy go on when it is over; only who comes new would not get it. Control nodes sign it
/// anew at half of that.
const LIFE_MS: u64 = 180 * 24 * 60 * 60_000;
/// The oldest version of the product that reads what this one makes.
const OLDEST: &str = "0.1.0";
const _: () = assert!(POLICY_CHAIN_MAX * 512 + FLEET_NODES_MAX < POLICY_RECORD_BYTES_MAX);
const _: () = assert!(POLICY_RECORD_BYTES_MAX + 16 * 1024 < phalanx_trust::record::RECORD_BYTES_MAX);
