//! Accounts of operators, which all control nodes of the fleet have alike: whoever is added, changed or shut out at one is so at all.
//!
//! Each control node says, signed with its operator key, what it has and to which key it wants the rest sealed. That key lives in its memory.
//! A change is told at once to each control node that was heard, sealed to it; who has something else is told all. What is told is merged
//! (`phalanx_trust::operators`), so that nobody holds the accounts, no order matters, and any node may be gone for good. Nothing of it is
//! kept by the engine.
//!
//! INVARIANT: an account is sealed only to a node whose operator key is believed at that moment: an edge node never has one, and what was
//! changed after a revocation the revoked node cannot read.
//! INVARIANT: only what was signed with an operator key that is believed is taken.
//! INVARIANT: what follows from the revocation of a control node is computed from the revocations in force, at the start, with each that is
//! heard and once a minute; there is no moment at which it could be missed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use phalanx_model::limits::{FLEET_NODES_MAX, RECORD_FUTURE_MAX_MS};
use phalanx_model::{Author, AuthorRole};
use phalanx_trust::operators::Account;
use phalanx_trust::{
    Heeded, KeyId, OpeningKey, OperatorFault, Operators, Refusal, Revocation, SignedRecord, seal_to, sha256,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::hybrid_clock::version_ms;
use crate::shared::Shared;
use crate::{Delivery, FleetError, FleetHandle, Put, Speed, Topic, subject};

impl FleetHandle {
    /// Shares the accounts with the fleet's other control nodes from now on. Where there are no others, where anybody may join, and at a
    /// node without the control role, they stay this node's own.
    pub fn share_operators(&self, operators: &Arc<Operators>) -> Result<(), FleetError> {
        if self.shares_secrets() && self.shared.keys.operator.is_some() {
            let me = &self.shared.me;
            operators.name_node(&format!("{}/{}", me.site, me.node));
            let sharing = Sharing::new(Arc::clone(&self.shared), Arc::clone(operators))?;
            self.spawn(run(sharing, self.shared.engine.subscribe(Topic::Operators)));
        }
        Ok(())
    }
}

struct Sharing {
    shared: Arc<Shared>,
    operators: Arc<Operators>,
    /// What is sealed to this node is sealed to this key.
    key: OpeningKey,
    own: Own,
    peers: HashMap<(Arc<str>, Arc<str>), Peer>,
    /// What each account was when it was last told, or heard from who tells the others.
    told: HashMap<String, [u8; 32]>,
    /// What is in force is not on disk.
    unwritten: bool,
    /// Since when others have something else.
    apart: Option<Instant>,
    revocations: watch::Receiver<Vec<Revocation>>,
    heeded_at: Instant,
}

/// What this node has.
struct Own {
    accounts: Vec<Account>,
    digest: [u8; 32],
    read_at: Instant,
}

/// Another control node, as it told.
struct Peer {
    key: Vec<u8>,
    signed_by: KeyId,
    version: u64,
    digest: [u8; 32],
    heard_at: Instant,
    /// When it was last given all, and what both had then.
    given: Option<(Instant, [[u8; 32]; 2])>,
}

/// What a control node says it has, and the key to seal the rest to. Readers ignore fields that they do not know.
#[derive(Serialize, Deserialize)]
struct Has {
    key: String,
    digest: String,
}

/// What was heard.
enum Heard {
    /// A control node that was not known, or has another key.
    New,
    /// One that is known.
    Known,
    Account(Box<Account>),
}

impl Sharing {
    fn new(shared: Arc<Shared>, operators: Arc<Operators>) -> Result<Self, FleetError> {
        // Subscribed before: what comes from here on is heard.
        let revocations = shared.revocations.subscribe();
        // Before anybody gets in: what a revocation ended while this node did not run counts not even for a moment.
        let heeded = operators.heed(&shared.revoked_nodes());
        let own = Own::read(&operators, shared.clock.now_ms());
        // What was there before the start is no news: who lacks it says so.
        let told = own.accounts.iter().map(|one| (one.id().to_owned(), one.digest())).collect();
        let (key, peers) = (OpeningKey::generate()?, HashMap::new());
        let (unwritten, apart, heeded_at) = (false, None, Instant::now());
        let mut sharing =
            Self { shared, operators, key, own, peers, told, unwritten, apart, revocations, heeded_at };
        sharing.note_heeded(&heeded);
        Ok(sharing)
    }

    /// Says what this node has, and to which key it wants the rest sealed.
    async fn say(&self) {
        let me = &self.shared.me;
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        let has = Has { key: hex(self.key.public()), digest: hex(&self.own.digest) };
        let Ok(body) = serde_json::to_vec(&has) else { return };
        self.publish(subject::of_operators(&me.site, &me.node), &body).await;
    }

    async fn publish(&self, subject: String, body: &[u8]) -> bool {
        let now_ms = self.shared.clock.now_ms();
        let version = self.shared.core.lock().clock.tick(now_ms);
        let expires_at_ms = now_ms.saturating_add(COUNTS_FOR_MS);
        let signed = self.shared.signed(AuthorRole::Operator, &subject, version, expires_at_ms, body);
        let Ok(bytes) = signed else { return false };
        let put = Put { topic: Topic::Operators, subject, version, expires_at_ms, bytes, speed: Speed::Fast };
        self.shared.engine.publish(put).await.is_ok()
    }

    /// Gives a control node accounts.
    async fn give(&self, (site, node): &(Arc<str>, Arc<str>), accounts: &[Account]) {
        let me = &self.shared.me;
        let subject = subject::of_account(&me.site, &me.node, site, node);
        let context = self.context(&subject);
        for account in accounts {
            // Asked for each: a revocation may have come meanwhile.
            let Some(key) = self.believed(site, node) else { return };
            let Ok(sealed) = seal_to(&key, &context, &account.to_bytes()) else { return };
            if !self.publish(subject.clone(), &sealed).await {
                return;
            }
        }
    }

    /// Tells every control node that listens what has changed here.
    async fn tell_changes(&mut self) {
        self.own = Own::read(&self.operators, self.shared.clock.now_ms());
        let is_news = |one: &&Account| self.told.get(one.id()) != Some(&one.digest());
        let news: Vec<Account> = self.own.accounts.iter().filter(is_news).cloned().collect();
        self.told.extend(news.iter().map(|one| (one.id().to_owned(), one.digest())));
        if news.is_empty() {
            return;
        }
        let names: Vec<_> = self.peers.keys().cloned().collect();
        for name in names {
            self.give(&name, &news).await;
        }
    }

    /// Gives all to every control node that has something else, unless it was given that just now.
    async fn give_to_lacking(&mut self) {
        let own = self.own.digest;
        let lacks = |peer: &Peer| {
            let both = [own, peer.digest];
            let again = peer.given.is_none_or(|(at, then)| {
                at.elapsed() >= if then == both { GIVEN_AGAIN } else { GIVEN_LATELY }
            });
            peer.digest != own && peer.heard_at.elapsed() < GONE && again
        };
        let lacking: Vec<_> =
            self.peers.iter().filter(|(_, peer)| lacks(peer)).map(|(name, _)| name.clone()).collect();
        for name in lacking {
            if let Some(peer) = self.peers.get_mut(&name) {
                peer.given = Some((Instant::now(), [own, peer.digest]));
            }
            self.give(&name, &self.own.accounts).await;
        }
    }

    /// The key to seal to a node with: one that it signed with an operator key that is believed now.
    fn believed(&self, site: &Arc<str>, node: &Arc<str>) -> Option<Vec<u8>> {
        let peer = self.peers.get(&(Arc::clone(site), Arc::clone(node)))?;
        let signs = self.shared.roots.read().operator_key(site, node)?;
        (signs.id() == peer.signed_by).then(|| peer.key.clone())
    }

    /// What a sealed account belongs to: it counts nowhere else.
    fn context(&self, subject: &str) -> String {
        format!("operators {} {subject}", self.shared.fleet_id())
    }

    /// What another node said, if it is to this one.
    fn hear(&mut self, subject: &str, bytes: &[u8]) -> Result<Option<Heard>, Refusal> {
        let me = &self.shared.me;
        let Some(((site, node), to)) = subject::of_operators_said(subject) else { return Ok(None) };
        let own = (&*me.site, &*me.node);
        if (site, node) == own || to.is_some_and(|to| to != own) {
            return Ok(None);
        }
        let record = SignedRecord::from_bytes(bytes)?;
        let now_ms = self.shared.clock.now_ms();
        let author = Author { site: site.into(), node: node.into(), role: AuthorRole::Operator };
        if record.author != author {
            return Err(Refusal::NotAllowed("only who may act for operators shares their accounts"));
        }
        self.shared.roots.read().verify(&record, subject, now_ms)?;
        if version_ms(record.version) > now_ms.saturating_add(RECORD_FUTURE_MAX_MS) {
            return Err(Refusal::FromTheFuture);
        }
        self.shared.core.lock().clock.observe(record.version);
        if to.is_none() {
            return self.note_peer(author, &record).map(Some);
        }
        // Sealed to the process before this one, or altered.
        let opened = self.key.open(&self.context(subject), &record.body);
        let opened = opened.ok_or_else(|| Refusal::Unusable("an account does not open".into()))?;
        let account = Account::from_bytes(&opened).map_err(|why| Refusal::Unreadable(why.into()))?;
        let told_by = account.told_by(&format!("{site}/{node}"), &record.key_id.to_string());
        Ok(Some(Heard::Account(Box::new(told_by))))
    }

    fn note_peer(&mut self, author: Author, record: &SignedRecord) -> Result<Heard, Refusal> {
        let unreadable = || Refusal::Unreadable("it does not say what a node has of accounts".into());
        let has: Has = serde_json::from_slice(&record.body).map_err(|_| unreadable())?;
        let read = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
        let key = read(&has.key).filter(|key| key.len() <= KEY_BYTES_MAX).ok_or_else(unreadable)?;
        let digest = read(&has.digest).and_then(|digest| digest.try_into().ok()).ok_or_else(unreadable)?;
        let name = (author.site, author.node);
        let before = self.peers.get(&name);
        if before.is_some_and(|before| before.version >= record.version) {
            return Ok(Heard::Known);
        }
        let is_new = before.is_none_or(|before| before.key != key);
        if before.is_none() && self.peers.len() >= FLEET_NODES_MAX {
            return Err(Refusal::TooManyNodes(FLEET_NODES_MAX));
        }
        let given = before.filter(|_| !is_new).and_then(|before| before.given);
        let (signed_by, version, heard_at) = (record.key_id, record.version, Instant::now());
        self.peers.insert(name, Peer { key, signed_by, version, digest, heard_at, given });
        Ok(if is_new { Heard::New } else { Heard::Known })
    }

    /// Takes in what was heard; whether this node has something to say of it.
    async fn take(&mut self, deliveries: Vec<Delivery>) -> bool {
        let (mut accounts, mut news) = (Vec::new(), false);
        for delivery in deliveries {
            let Delivery::Put { subject, bytes } = delivery else { continue };
            match self.hear(&subject, &bytes) {
                Ok(Some(Heard::Account(account))) => accounts.push(*account),
                Ok(Some(Heard::New)) => news = true,
                // Of a node whose announcement is on its way: it says it again.
                Ok(Some(Heard::Known) | None) | Err(Refusal::UnknownAuthor(_)) => {}
                Err(refusal) => self.shared.refuse(&subject, &refusal),
            }
        }
        if accounts.is_empty() {
            return news;
        }
        let heard: Vec<_> = accounts.iter().map(|one| (one.id().to_owned(), one.digest())).collect();
        self.merge(accounts).await;
        self.own = Own::read(&self.operators, self.shared.clock.now_ms());
        // What is now as it was heard, whoever said it tells the others too.
        let own: HashMap<&str, [u8; 32]> =
            self.own.accounts.iter().map(|one| (one.id(), one.digest())).collect();
        let same = heard.into_iter().filter(|(id, digest)| own.get(id.as_str()) == Some(digest));
        self.told.extend(same);
        true
    }

    async fn merge(&mut self, accounts: Vec<Account>) {
        let (operators, now_ms) = (Arc::clone(&self.operators), self.shared.clock.now_ms());
        let merged = crate::local::blocking(move || Ok(operators.merge(accounts, now_ms))).await;
        let Ok(merged) = merged else { return };
        for operator in merged.changed {
            let (name, disabled) = (&operator.name, operator.disabled);
            tracing::info!(%name, role = ?operator.role, disabled, "an operator's account was changed at another node");
        }
        if let Some(why) = merged.refused.first() {
            self.shared.fault(REFUSED, format!("accounts of operators: {why}"));
        }
        self.note_unwritten(merged.unwritten.as_ref());
    }

    fn note_unwritten(&mut self, error: Option<&OperatorFault>) {
        if let Some(error) = error {
            self.unwritten = true;
            let text = format!("accounts of operators are in force and not on disk: {error}");
            self.shared.fault(UNWRITTEN, text);
        }
    }

    /// What was left undone is tried again, and what does not work is named.
    async fn look_after(&mut self) {
        if self.heeded_at.elapsed() >= HEEDED_EVERY {
            self.heed().await;
        }
        if self.own.read_at.elapsed() >= READ_EVERY {
            self.own = Own::read(&self.operators, self.shared.clock.now_ms());
        }
        if self.unwritten {
            let operators = Arc::clone(&self.operators);
            let written = crate::local::blocking(move || Ok(operators.write_again().is_ok())).await;
            if matches!(written, Ok(true)) {
                self.unwritten = false;
                self.shared.clear_fault(UNWRITTEN);
            }
        }
        self.name_those_apart();
        let roots = self.shared.roots.read();
        self.peers.retain(|(site, node), peer| {
            peer.heard_at.elapsed() < GONE && roots.operator_key(site, node).is_some()
        });
    }

    /// Accounts that stay different are a fault that an operator should know of.
    fn name_those_apart(&mut self) {
        if self.is_in_step() {
            self.apart = None;
            self.shared.clear_fault(APART);
            self.shared.clear_fault(REFUSED);
            return;
        }
        let since = *self.apart.get_or_insert_with(Instant::now);
        if since.elapsed() >= APART_FOR {
            let apart = self.peers.iter().filter(|(_, peer)| peer.digest != self.own.digest);
            let names: Vec<_> = apart.map(|((site, node), _)| format!("{site}/{node}")).collect();
            let text = format!("accounts of operators are not the same as at {}", names.join(", "));
            self.shared.fault(APART, text);
        }
    }

    fn is_in_step(&self) -> bool {
        self.peers.values().all(|peer| peer.digest == self.own.digest)
    }

    /// Takes away what does not count since control nodes were revoked.
    async fn heed(&mut self) {
        self.heeded_at = Instant::now();
        let (operators, revoked) = (Arc::clone(&self.operators), self.shared.revoked_nodes());
        let heeded = crate::local::blocking(move || Ok(operators.heed(&revoked))).await;
        match heeded {
            Ok(heeded) => self.note_heeded(&heeded),
            // It is computed again within a minute, and at the next start.
            Err(error) => tracing::error!(%error, "what a revoked node knew could not be made void"),
        }
    }

    fn note_heeded(&mut self, heeded: &Heeded) {
        let Heeded { passwords, others, unwritten } = heeded;
        if !passwords.is_empty() {
            let whose = passwords.join(", ");
            tracing::warn!(%whose, "a control node was revoked: passwords that it may have known count no more");
        }
        if !others.is_empty() {
            let whose = others.join(", ");
            tracing::warn!(%whose, "a control node was revoked: passkeys, tokens and rights that came by it count no more");
        }
        self.note_unwritten(unwritten.as_ref());
    }
}

impl Own {
    fn read(operators: &Operators, now_ms: u64) -> Self {
        // They come in order of their ids.
        let accounts = operators.accounts(now_ms);
        let all: Vec<u8> = accounts.iter().flat_map(Account::digest).collect();
        Self { digest: sha256(&all), accounts, read_at: Instant::now() }
    }
}

/// Says what this node has, and takes in what others say, until the topic closes.
async fn run(mut sharing: Sharing, mut told: mpsc::Receiver<Delivery>) {
    let mut turns = tokio::time::interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut link, mut changed) = (sharing.shared.engine.link(), sharing.operators.changed());
    let mut revocations = sharing.revocations.clone();
    let mut said_at: Option<Instant> = None;
    loop {
        let says = tokio::select! {
            delivery = told.recv() => {
                let Some(delivery) = delivery else { return };
                let mut deliveries = vec![delivery];
                while deliveries.len() < AT_ONCE && let Ok(delivery) = told.try_recv() {
                    deliveries.push(delivery);
                }
                let says = sharing.take(deliveries).await;
                sharing.give_to_lacking().await;
                says
            }
            Ok(()) = changed.changed() => {
                sharing.tell_changes().await;
                false
            }
            Ok(()) = revocations.changed() => {
                sharing.heed().await;
                false
            }
            _ = turns.tick() => {
                sharing.look_after().await;
                sharing.give_to_lacking().await;
                !sharing.is_in_step() || said_at.is_none_or(|at| at.elapsed() >= SAID_EVERY)
            }
            Ok(()) = link.changed() => link.borrow_and_update().connected,
        };
        if says {
            said_at = Some(Instant::now());
            sharing.say().await;
        }
    }
}

/// How long what is said counts: clocks may differ a little.
const COUNTS_FOR_MS: u64 = 60_000;
/// How often a node says what it has while another has something else.
const TURN: Duration = Duration::from_millis(500);
/// How often it does when all have the same.
const SAID_EVERY: Duration = Duration::from_secs(5);
/// A node that was not heard for this long is told nothing until it speaks.
const GONE: Duration = Duration::from_secs(12);
/// A node is not given all again before this: what it said may have crossed what it was given.
const GIVEN_LATELY: Duration = Duration::from_millis(300);
/// Nor the same before this, if it has not moved: some of it may be refused there.
const GIVEN_AGAIN: Duration = Duration::from_secs(5);
/// Tokens that ended are dropped as time goes by.
const READ_EVERY: Duration = Duration::from_secs(60);
/// Revocations lapse, and nodes are enrolled afresh.
const HEEDED_EVERY: Duration = Duration::from_secs(60);
/// Records that are merged and written at once.
const AT_ONCE: usize = 256;
/// A key has 32; another kind, some day, more.
const KEY_BYTES_MAX: usize = 2_048;
/// Nodes that have something else for this long are named.
const APART_FOR: Duration = Duration::from_secs(15);
const APART: &str = "operators apart";
const REFUSED: &str = "operators refused";
const UNWRITTEN: &str = "operators unwritten";
