//! Snapshots: what a fleet holds, as one node has it, in one file that is signed as a whole; and how one is restored.
//!
//! In the file: every record of decisions, withdrawals, recalls, blocklists and revocations as it was signed, the content of the
//! lists, and the members with their keys, by which the records are checked again. A header, signed with the node's operator key,
//! says of what fleet and when, and has the digest of the rest; the node's announcement beside it proves that key.
//!
//! INVARIANT: restoring merges. What has expired, was withdrawn or recalled, or whose author was revoked stays so; whom this node
//! believes is not changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use phalanx_model::{Author, AuthorRole, Blocklist, Decision};
use phalanx_trust::{
    Admission, Admitted, Announcement, Refusal, Revocation, SignedRecord, TrustError, TrustRoots,
};
use serde::{Deserialize, Serialize};

use crate::change::tombstone_end_ms;
use crate::hybrid_clock::version_ms;
use crate::local::blocking;
use crate::members::SILENCE_MAX_MS;
use crate::registers::Outcome;
use crate::shared::{Core, Shared, admitted};
use crate::{BlobHash, Change, FleetError, FleetHandle, ingest, subject};

/// What restoring a snapshot did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// When the snapshot was made, in Unix milliseconds.
    pub made_at_ms: u64,
    /// By which node.
    pub made_by: Author,
    /// The version of that node's policy.
    pub policy_version: u64,
    /// Members that it names.
    pub members: usize,
    /// Of its decisions.
    pub decisions: Tally,
    /// Of its withdrawals and recalls.
    pub withdrawals: Tally,
    /// Of its blocklists.
    pub lists: Tally,
    /// Of its revocations.
    pub revocations: Tally,
}

/// What became of the records of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// News here: in force now, or would be.
    pub restored: usize,
    /// Known here, or older than what is.
    pub known: usize,
    /// Expired meanwhile.
    pub expired: usize,
    /// Withdrawn or recalled meanwhile.
    pub ended: usize,
    /// Not believed, not needed, or beyond a limit.
    pub refused: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    made_at_ms: u64,
    policy_version: u64,
    entries: u64,
    sha256: String,
}

/// What was read from a snapshot and checked.
struct Content {
    report: Restored,
    revocations: Vec<Revocation>,
    changes: Vec<Change>,
    contents: HashMap<String, Bytes>,
}

impl FleetHandle {
    /// A snapshot of what this node holds. `policy_version` is noted in it.
    pub async fn snapshot(&self, policy_version: u64) -> Result<Vec<u8>, FleetError> {
        self.shared.key(AuthorRole::Operator)?;
        self.shared.store.flush().await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.write_snapshot(policy_version)).await
    }

    /// Merges a snapshot into what this node holds and tells the others; with `dry_run` only says what that would do.
    pub async fn restore_snapshot(&self, bytes: Bytes, dry_run: bool) -> Result<Restored, FleetError> {
        self.shared.key(AuthorRole::Operator)?;
        let shared = Arc::clone(&self.shared);
        let content = blocking(move || shared.read_snapshot(&bytes)).await?;
        let Content { mut report, revocations, changes, contents } = content;
        for revocation in revocations {
            let known = self.shared.revocations.borrow().contains(&revocation);
            match known {
                true => report.revocations.known += 1,
                false => report.revocations.restored += 1,
            }
            if !known && !dry_run {
                self.shared.revoke_again(&revocation).await?;
            }
        }
        if !dry_run {
            for content in contents.into_values() {
                self.shared.engine.blob_put(content).await?;
            }
        }
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            shared.merge_restored(&changes, dry_run, &mut report);
            Ok(report)
        })
        .await
    }
}

impl Shared {
    fn write_snapshot(&self, policy_version: u64) -> Result<Vec<u8>, FleetError> {
        let mut body = Body::default();
        let me = admitted(&self.me, self.membership.as_deref());
        let members = self.store.pins()?.into_iter().filter(|(name, _)| name.contains('/'));
        let mine = serde_json::to_vec(&me).map_err(|_| TrustError::Crypto("writing a node"))?;
        for (name, bytes) in members.chain([(format!("{}/{}", self.me.site, self.me.node), mine)]) {
            body.put(Kind::Member, &name, &bytes)?;
        }
        let own: Vec<Change> = self.core.lock().registers.written_by(&self.me.site, &self.me.node).collect();
        for change in own {
            if let Ok(put) = self.sign(&change) {
                body.put(Kind::Record, &put.subject, &put.bytes)?;
            }
        }
        let now_ms = self.clock.now_ms();
        for prefix in [subject::DECISIONS, subject::REVOCATIONS] {
            let prefix = format!("{prefix}.");
            let mut after = None;
            loop {
                let page = self.store.page(&prefix, after.as_deref(), PAGE)?;
                // This node's own changes were taken from memory, which is ahead of the disk.
                let skip = |own: bool| own && prefix.starts_with(subject::DECISIONS);
                for kept in page.records.iter().filter(|kept| !skip(kept.own) && kept.expires_at_ms > now_ms)
                {
                    body.put(Kind::Record, &kept.subject, &kept.bytes)?;
                }
                match page.last {
                    Some(last) => after = Some(last),
                    None => break,
                }
            }
        }
        for hash in self.list_hashes() {
            if let Some(content) = self.store.blob_get(&hash)? {
                body.put(Kind::Content, &hash, &content)?;
            }
        }
        self.sign_snapshot(body, policy_version, now_ms)
    }

    fn sign_snapshot(&self, body: Body, policy_version: u64, now_ms: u64) -> Result<Vec<u8>, FleetError> {
        let sha256 = data_encoding::HEXLOWER.encode(&phalanx_trust::sha256(&body.bytes));
        let header = Header { made_at_ms: now_ms, policy_version, entries: body.entries, sha256 };
        let header = serde_json::to_vec(&header).map_err(|_| TrustError::Crypto("writing a snapshot"))?;
        let header = self.signed(AuthorRole::Operator, SUBJECT, now_ms, u64::MAX, &header)?;
        let announcement = self.announcement(crate::Speed::Fast)?.bytes;
        let mut out =
            Vec::with_capacity(MAGIC.len() + 8 + header.len() + announcement.len() + body.bytes.len());
        out.extend_from_slice(MAGIC);
        for part in [&header[..], &announcement] {
            out.extend_from_slice(&length(part.len())?.to_le_bytes());
            out.extend_from_slice(part);
        }
        out.extend_from_slice(&body.bytes);
        Ok(out)
    }

    fn read_snapshot(&self, bytes: &[u8]) -> Result<Content, FleetError> {
        let mut rest =
            bytes.strip_prefix(MAGIC).ok_or_else(|| fault("it is no snapshot, or of a newer version"))?;
        let header = SignedRecord::from_bytes(part(&mut rest)?).map_err(|_| damaged())?;
        let announcement = part(&mut rest)?;
        if header.fleet_id != self.fleet_id() {
            return Err(fault(&format!(
                "it is of the fleet {}, and this is {}",
                header.fleet_id,
                self.fleet_id()
            )));
        }
        let said: Header = serde_json::from_slice(&header.body).map_err(|_| damaged())?;
        let mut roots = TrustRoots::new(self.fleet_id());
        let signer = self.signer(&header, announcement, &said)?;
        let unproven = |refusal: Refusal| fault(&format!("its signature does not count: {refusal}"));
        roots.admit(&signer).map_err(unproven)?;
        roots.verify(&header, SUBJECT, said.made_at_ms).map_err(unproven)?;
        if header.author.role != AuthorRole::Operator {
            return Err(fault("its signature is not an operator's"));
        }
        if data_encoding::HEXLOWER.encode(&phalanx_trust::sha256(rest)) != said.sha256 {
            return Err(damaged());
        }
        let mut content = Content {
            report: Restored {
                made_at_ms: said.made_at_ms,
                made_by: header.author,
                policy_version: said.policy_version,
                members: 0,
                decisions: Tally::default(),
                withdrawals: Tally::default(),
                lists: Tally::default(),
                revocations: Tally::default(),
            },
            revocations: Vec::new(),
            changes: Vec::new(),
            contents: HashMap::new(),
        };
        while !rest.is_empty() {
            self.read_entry(&mut rest, &mut roots, &mut content)?;
        }
        Ok(content)
    }

    /// Who signed a snapshot, proven as in an announcement at the time when it was made: certificates end, snapshots do not.
    fn signer(
        &self,
        header: &SignedRecord,
        announcement: &[u8],
        said: &Header,
    ) -> Result<Admitted, FleetError> {
        let author = &header.author;
        let held = self.membership.as_ref().map(|membership| membership.held());
        let made_at_ms = said.made_at_ms.min(self.clock.now_ms());
        let admission = match (&held, &self.secret) {
            (Some(held), _) => Admission::Certified(&held.bundle, made_at_ms),
            (None, Some(secret)) => Admission::Secret(secret),
            (None, None) => Admission::FirstSeen,
        };
        let subject = subject::of_node(&author.site, &author.node);
        let signer = Announcement::open(announcement, &self.fleet_id(), &subject, admission)
            .map_err(|refusal| fault(&format!("the node that signed it is not of this fleet: {refusal}")))?;
        let issued_at_ms = signer.validity.as_ref().map_or(0, |validity| validity.issued_at_ms);
        let revoked =
            self.revocations.borrow().iter().any(|one| {
                one.site == author.site && one.node == author.node && issued_at_ms <= one.up_to_ms
            });
        match revoked {
            true => Err(fault("the node that signed it was revoked")),
            false => Ok(signer),
        }
    }

    fn read_entry(
        &self,
        rest: &mut &[u8],
        roots: &mut TrustRoots,
        content: &mut Content,
    ) -> Result<(), FleetError> {
        let (kind, name, bytes) = entry(rest)?;
        match kind {
            Kind::Member => {
                let member: Admitted = serde_json::from_slice(bytes).map_err(|_| damaged())?;
                // The signer is among them already.
                let _ = roots.admit(&member);
                content.report.members += 1;
            }
            Kind::Content => {
                let known = BlobHash::parse(name).filter(|hash| *hash == BlobHash::of(bytes));
                let hash = known.ok_or_else(damaged)?;
                content.contents.insert(hash.as_str().to_owned(), Bytes::copy_from_slice(bytes));
            }
            Kind::Record if name.starts_with(subject::REVOCATIONS) => {
                match self.checked_revocation(name, bytes, roots) {
                    Ok(revocation) => content.revocations.push(revocation),
                    Err(Refusal::Expired) => content.report.revocations.expired += 1,
                    Err(_) => content.report.revocations.refused += 1,
                }
            }
            Kind::Record => {
                let record = SignedRecord::from_bytes(bytes).map_err(|_| damaged())?;
                let change = ingest::change_of(&record, name).map_err(|_| damaged())?;
                let now_ms = self.clock.now_ms();
                let written_ms = version_ms(record.version).min(now_ms);
                let checked = match change.expires_at_ms() <= now_ms {
                    true => Err(Refusal::Expired),
                    false => roots.verify(&record, name, written_ms).and_then(|()| change.check(now_ms)),
                };
                match checked {
                    Ok(()) => content.changes.push(change),
                    Err(Refusal::Expired) => content.report.tally(&change).expired += 1,
                    Err(_) => content.report.tally(&change).refused += 1,
                }
            }
        }
        Ok(())
    }

    fn checked_revocation(
        &self,
        name: &str,
        bytes: &[u8],
        roots: &TrustRoots,
    ) -> Result<Revocation, Refusal> {
        let now_ms = self.clock.now_ms();
        let record = SignedRecord::from_bytes(bytes)?;
        let revocation = Revocation::of(&record, now_ms)?;
        if subject::of_revocation(&record.author, &revocation) != *name || self.membership.is_none() {
            return Err(Refusal::WrongSubject);
        }
        if record.expires_at_ms <= now_ms {
            return Err(Refusal::Expired);
        }
        roots.verify(&record, name, version_ms(record.version).min(now_ms))?;
        Ok(revocation)
    }

    fn merge_restored(&self, changes: &[Change], dry_run: bool, report: &mut Restored) {
        // What ends decisions comes first: a decision that is written anew must be judged with all of it known.
        let ends = |change: &&Change| matches!(change, Change::Withdrawn(_) | Change::Recalled(_));
        let (first, then): (Vec<&Change>, Vec<&Change>) = changes.iter().partition(ends);
        for page in first.chunks(PAGE).chain(then.chunks(PAGE)) {
            let now_ms = self.clock.now_ms();
            let mut core = self.core.lock();
            for change in page {
                let outcome = self.restore_one(&mut core, change, dry_run, now_ms);
                let tally = report.tally(change);
                match outcome {
                    Outcome::Applied { .. } => tally.restored += 1,
                    Outcome::Known => tally.known += 1,
                    Outcome::Expired => tally.expired += 1,
                    Outcome::Withdrawn => tally.ended += 1,
                    Outcome::OverQuota => tally.refused += 1,
                }
            }
        }
        self.lists_changed.notify_one();
    }

    fn restore_one(&self, core: &mut Core, change: &Change, dry_run: bool, now_ms: u64) -> Outcome {
        let outcome = core.registers.predict(change, now_ms);
        if !matches!(outcome, Outcome::Applied { .. }) {
            return outcome;
        }
        let author = change.author();
        let mine = self.is_me(author) && self.key(author.role).is_ok();
        let last_seen_ms = self.members.lock().last_seen_ms(&author.site, &author.node);
        // An author that is there keeps its own; whose is not, the node that restores speaks for, or nobody else would hear it.
        let speaks_for_itself = mine || now_ms.saturating_sub(last_seen_ms) <= SILENCE_MAX_MS;
        let written = match speaks_for_itself {
            true => Some(change.clone()),
            false => self.in_own_name(core, change),
        };
        let Some(written) = written else { return Outcome::Known };
        if dry_run || self.merge(core, std::slice::from_ref(&written), now_ms).is_empty() {
            return if dry_run { outcome } else { Outcome::OverQuota };
        }
        if self.is_me(written.author()) {
            self.unsent.fetch_add(1, Ordering::AcqRel);
            if self.outbox.try_send(written).is_err() {
                self.unsent.fetch_sub(1, Ordering::AcqRel);
                self.outbox_overflowed.store(true, Ordering::Release);
            }
        }
        outcome
    }

    /// A change of an author that is gone, as this node's operator's: with the same end, unless the like is known. What ended decisions
    /// of others is in force with what it ended: nothing.
    fn in_own_name(&self, core: &mut Core, change: &Change) -> Option<Change> {
        let author = self.me.author(AuthorRole::Operator);
        let version = core.clock.tick(self.clock.now_ms());
        match change {
            Change::Decided(old) => {
                let ours = core.registers.decisions_of(&old.actor.key());
                let known = ours.iter().any(|one| {
                    one.author == author
                        && one.actor == old.actor
                        && one.kind == old.kind
                        && one.expires_at_ms >= old.expires_at_ms
                });
                (!known).then(|| Change::Decided(Arc::new(Decision { author, version, ..(**old).clone() })))
            }
            Change::Listed(old) if old.content.is_some() => Some(Change::Listed(Arc::new(Blocklist {
                author,
                version,
                expires_at_ms: tombstone_end_ms(AuthorRole::Operator, version),
                ..(**old).clone()
            }))),
            Change::Listed(_) | Change::Withdrawn(_) | Change::Recalled(_) => None,
        }
    }

    fn list_hashes(&self) -> Vec<String> {
        let core = self.core.lock();
        core.registers.lists().filter_map(|list| Some(list.content.as_ref()?.hash.clone())).collect()
    }
}

impl Restored {
    fn tally(&mut self, change: &Change) -> &mut Tally {
        match change {
            Change::Decided(_) => &mut self.decisions,
            Change::Withdrawn(_) | Change::Recalled(_) => &mut self.withdrawals,
            Change::Listed(_) => &mut self.lists,
        }
    }
}

/// What is being written.
#[derive(Default)]
struct Body {
    bytes: Vec<u8>,
    entries: u64,
}

impl Body {
    fn put(&mut self, kind: Kind, name: &str, bytes: &[u8]) -> Result<(), FleetError> {
        let name_len = u16::try_from(name.len()).map_err(|_| FleetError::Limit("a name is too long"))?;
        self.bytes.push(kind as u8);
        self.bytes.extend_from_slice(&name_len.to_le_bytes());
        self.bytes.extend_from_slice(&length(bytes.len())?.to_le_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(bytes);
        self.entries += 1;
        match self.bytes.len() <= SNAPSHOT_BYTES_MAX {
            true => Ok(()),
            false => Err(FleetError::Limit("a snapshot holds 512 MiB, which is some 700,000 decisions")),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Record = 1,
    Member = 2,
    Content = 3,
}

/// Takes the next entry: its kind, name and content.
fn entry<'a>(rest: &mut &'a [u8]) -> Result<(Kind, &'a str, &'a [u8]), FleetError> {
    let (kind, after) = rest.split_first().ok_or_else(damaged)?;
    let kind = match kind {
        1 => Kind::Record,
        2 => Kind::Member,
        3 => Kind::Content,
        _ => return Err(damaged()),
    };
    let (name_len, after) = after.split_first_chunk().ok_or_else(damaged)?;
    let (bytes_len, after) = after.split_first_chunk().ok_or_else(damaged)?;
    let name_len = usize::from(u16::from_le_bytes(*name_len));
    let (name, after) = after.split_at_checked(name_len).ok_or_else(damaged)?;
    let bytes_len = usize::try_from(u32::from_le_bytes(*bytes_len)).map_err(|_| damaged())?;
    let (bytes, after) = after.split_at_checked(bytes_len).ok_or_else(damaged)?;
    *rest = after;
    Ok((kind, std::str::from_utf8(name).map_err(|_| damaged())?, bytes))
}

/// Takes the next part: a length, and so many bytes.
fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], FleetError> {
    let (len, after) = rest.split_first_chunk().ok_or_else(damaged)?;
    let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| damaged())?;
    let (part, after) = after.split_at_checked(len).ok_or_else(damaged)?;
    *rest = after;
    Ok(part)
}

fn length(len: usize) -> Result<u32, FleetError> {
    u32::try_from(len).map_err(|_| FleetError::Limit("a part of the snapshot is too long"))
}

fn damaged() -> FleetError {
    fault("it is damaged")
}

fn fault(reason: &str) -> FleetError {
    FleetError::Snapshot(reason.to_owned())
}

const MAGIC: &[u8] = b"phalanx snapshot 1\n";
const SUBJECT: &str = "phx.snapshot";
/// Records looked at under one lock: what a ban that is made meanwhile waits for.
const PAGE: usize = 256;
/// The longest snapshot, without its header: it is made and read in memory.
pub const SNAPSHOT_BYTES_MAX: usize = 512 * 1024 * 1024;
