//! Decisions of a CrowdSec local API as a source: its bans of single addresses become bans of this node, and end with them.
//!
//! Flow in names: `Client` pulls -> `Read` -> `Claims` -> `FleetHandle::pass_on` or `retract`.
//!
//! When the source cannot be reached, what it ordered stays until its end, a day at most; `status` says so. After each failure, and at
//! the start, the source is read whole and compared: what it ended meanwhile ends here.
//!
//! INVARIANT: what a Phalanx node made is never taken over, so that no order goes round in circles.

mod claims;
mod client;
mod read;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use parking_lot::Mutex;
use phalanx_fleet::{FleetError, FleetHandle, HeldKind, NewDecision};
use phalanx_model::{Actor, ActorKey, AuthorRole, Clock, Decision, DecisionId, DecisionKind};
use tokio::sync::watch;

use crate::api::Import;
use claims::{Claims, RENEWED_BEFORE_MS};
use client::Client;
use read::ReadStream;

/// One source.
#[derive(Debug, Clone)]
pub struct ImportSettings {
    /// Where its local API is, `http://` or `https://`.
    pub url: Uri,
    /// The file with the key that it knows this node by, mode 0600.
    pub key_file: PathBuf,
    /// Certificates to trust instead of the system's, in PEM form.
    pub ca_file: Option<PathBuf>,
    /// How long to wait between two questions.
    pub every: Duration,
    /// Only decisions of these origins; all without any.
    pub origins: Vec<String>,
    /// Addresses taken over at most.
    pub limit: usize,
}

/// A source that is read.
pub struct Importer {
    settings: ImportSettings,
    client: Client,
    fleet: FleetHandle,
    clock: Arc<dyn Clock>,
    status: Mutex<Import>,
}

impl Importer {
    /// Reads key and certificates. An error is a sentence for the operator.
    pub fn new(settings: ImportSettings, fleet: FleetHandle, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let key = phalanx_trust::private_file::read(&settings.key_file, KEY_BYTES_MAX)
            .map_err(|error| error.to_string())?
            .ok_or_else(|| format!("{} does not exist", settings.key_file.display()))?;
        let key = std::str::from_utf8(&key).map_err(|_| "the API key is no text".to_owned())?;
        let client = Client::new(&settings.url, key, settings.ca_file.as_deref())?;
        let status = Import { source: client.authority.clone(), ..Import::default() };
        Ok(Self { settings, client, fleet, clock, status: Mutex::new(status) })
    }

    /// How it is doing.
    pub fn status(&self) -> Import {
        self.status.lock().clone()
    }

    /// Reads the source until `stop` becomes true, or its sender is gone.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut claims = Claims::new(&self.client.authority, self.settings.limit);
        let mut whole = true;
        loop {
            let round = async {
                let outcome = self.round(&mut claims, whole).await;
                self.note(&claims, &outcome);
                tokio::time::sleep(self.settings.every).await;
                outcome.is_err()
            };
            tokio::select! {
                failed = round => whole = failed,
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn round(&self, claims: &mut Claims, whole: bool) -> Result<(), String> {
        if self.fleet.is_reading() {
            return Err("the node still reads which bans were withdrawn".into());
        }
        let stream = self.client.pull(whole, &self.settings.origins).await?;
        let now_ms = self.clock.now_ms();
        claims.expire(now_ms);
        for read in stream.deleted.iter().flatten() {
            if let Some((actor, id)) = claims.ended(read) {
                self.end(actor, id).await?;
            }
        }
        if whole {
            claims.skipped = claims::Skipped::default();
        }
        for read in stream.new.iter().flatten() {
            if let Some(key) = claims.ordered(read, now_ms) {
                self.order(claims, key, whole).await?;
            }
        }
        if whole {
            self.compare(claims, &stream).await?;
        }
        for (key, id) in claims.to_renew(now_ms) {
            match self.fleet.own_about(&key).iter().any(|decision| decision.id == id) {
                true => self.pass_on(claims, key).await?,
                // Withdrawn here, or replaced by what this node found out itself.
                false => claims.forsake(&key),
            }
        }
        Ok(())
    }

    /// Bans an address on the source's word, unless this node has banned it for as long already.
    async fn order(&self, claims: &mut Claims, key: ActorKey, whole: bool) -> Result<(), String> {
        let now_ms = self.clock.now_ms();
        let Some((_, for_ms)) = claims.order(&key, now_ms) else { return Ok(()) };
        if let Some(own) = self.own_ban(&key, now_ms) {
            let from_here = claims.is_from_here(&own.reason);
            // What was passed on before this node's last start is renewed in its time, and not all at once.
            let enough_ms = if from_here { for_ms.min(RENEWED_BEFORE_MS) } else { for_ms };
            if own.expires_at_ms.saturating_add(ADOPT_SLACK_MS) >= now_ms.saturating_add(enough_ms) {
                if from_here {
                    claims.passed_on(&key, (own.id, own.expires_at_ms));
                }
                return Ok(());
            }
        } else if whole && self.fleet.forgiven_at_ms(&key).is_some() {
            // A source that is read whole tells old orders again. What an operator withdrew must not come back with them.
            claims.skipped.refused += 1;
            return Ok(());
        }
        self.pass_on(claims, key).await
    }

    async fn pass_on(&self, claims: &mut Claims, key: ActorKey) -> Result<(), String> {
        let Some((claim, for_ms)) = claims.order(&key, self.clock.now_ms()) else { return Ok(()) };
        let order = NewDecision {
            actor: claim.actor.clone(),
            kind: DecisionKind::Ban,
            for_ms,
            reason: claim.reason.clone(),
            evidence: None,
        };
        match self.when_the_ledger_has_room(|| self.fleet.pass_on(order.clone())).await {
            Ok(decision) => claims.passed_on(&key, (decision.id, decision.expires_at_ms)),
            Err(error @ FleetError::Ledger(_)) => return Err(error.to_string()),
            Err(_) => claims.skipped.refused += 1,
        }
        Ok(())
    }

    /// After the source was read whole: what it does not name any more ends, also what was passed on before this node's last start.
    async fn compare(&self, claims: &mut Claims, stream: &ReadStream) -> Result<(), String> {
        let named: HashSet<ActorKey> = stream
            .new
            .iter()
            .flatten()
            .filter_map(|read| read::range_of(&read.scope, &read.value))
            .map(|range| Actor::ip(range.addr()).key())
            .collect();
        for (actor, id) in claims.keep_only(|key| named.contains(key)) {
            self.end(actor, id).await?;
        }
        let now_ms = self.clock.now_ms();
        let list = self.fleet.view().load_full();
        let held = self.fleet.held().0.into_iter().filter_map(|held| match held.what {
            HeldKind::Decision(decision) => Some(decision),
            HeldKind::Blocklist(_) | HeldKind::Range(..) => None,
        });
        let left: Vec<(Actor, DecisionId)> = list
            .live(now_ms)
            .chain(held)
            .filter(|decision| {
                self.is_own(decision)
                    && claims.is_from_here(&decision.reason)
                    && !claims.holds(&decision.actor.key())
            })
            .map(|decision| (decision.actor.clone(), decision.id))
            .collect();
        for (actor, id) in left {
            self.end(actor, id).await?;
        }
        Ok(())
    }

    /// Takes back what was passed on, unless something else stands in its place by now.
    async fn end(&self, actor: Actor, id: DecisionId) -> Result<(), String> {
        if !self.fleet.own_about(&actor.key()).iter().any(|decision| decision.id == id) {
            return Ok(());
        }
        let reason = format!("ended by {}", self.client.authority);
        let ended = self.when_the_ledger_has_room(|| self.fleet.retract(actor.clone(), &reason)).await;
        ended.map(drop).map_err(|error| error.to_string())
    }

    /// A source may order thousands at once, and each is recorded: the ledger's lane is given time to be written.
    async fn when_the_ledger_has_room<T>(
        &self,
        mut act: impl FnMut() -> Result<T, FleetError>,
    ) -> Result<T, FleetError> {
        let mut left = LEDGER_TRIES;
        loop {
            match act() {
                Err(FleetError::Ledger(_)) if left > 0 => {
                    left -= 1;
                    tokio::time::sleep(LEDGER_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    fn own_ban(&self, key: &ActorKey, now_ms: u64) -> Option<Arc<Decision>> {
        self.fleet.own_about(key).into_iter().find(|decision| {
            self.is_own(decision)
                && decision.is_live(now_ms)
                && decision.kind == DecisionKind::Ban
                && phalanx_fleet::whole_key(&decision.actor).is_some()
        })
    }

    fn is_own(&self, decision: &Decision) -> bool {
        decision.author.role == AuthorRole::Node && self.fleet.is_me(&decision.author)
    }

    fn note(&self, claims: &Claims, outcome: &Result<(), String>) {
        let now_ms = self.clock.now_ms();
        let mut status = self.status.lock();
        match outcome {
            Ok(()) => {
                status.read_at_ms = Some(now_ms);
                status.fault = None;
            }
            Err(fault) => {
                if status.fault.is_none() {
                    tracing::warn!(source = status.source, %fault, "decisions cannot be imported");
                }
                status.fault = Some(fault.clone());
            }
        }
        status.decisions = u64::try_from(claims.in_force()).unwrap_or(u64::MAX);
        status.skipped = claims.skipped.words();
    }
}

const KEY_BYTES_MAX: usize = 4096;
/// A decision of ours that ends this much earlier than the source's is not written anew.
const ADOPT_SLACK_MS: u64 = 60_000;
const LEDGER_PAUSE: Duration = Duration::from_millis(50);
/// A minute of them: a disk that is slower has other troubles.
const LEDGER_TRIES: u32 = 1_200;
