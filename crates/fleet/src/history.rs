//! The way of recorded requests from the nodes of a site to its control nodes; what they are is for those who record.
//!
//! A control node tells each node of its site, signed with its operator key, up to where it has its history, and to which key it wants the rest
//! sealed; that is both the order and the receipt. A node sends what follows, sealed to that key, signed. Keys live in memory. Nothing of it
//! is kept by the engine, and nothing leaves the site.
//!
//! INVARIANT: history is sealed only to a node whose operator key is believed at that moment: an edge node gets nobody's.
//! INVARIANT: what was brought is by the node whose signature is believed; who was revoked brings nothing.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use phalanx_model::limits::{FLEET_NODES_MAX, RECORD_FUTURE_MAX_MS};
use phalanx_model::{Author, AuthorRole};
use phalanx_trust::{KeyId, OpeningKey, Refusal, SignedRecord, seal_to};
use tokio::sync::mpsc;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::hybrid_clock::version_ms;
use crate::shared::Shared;
use crate::turns::{Giver, Turns, turns};
use crate::{Delivery, FleetError, FleetHandle, Put, Speed, Topic, subject};

/// Carries history between this node and the others of its site. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct HistoryCarrier(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    /// What is sealed to this node is sealed to this key.
    key: OpeningKey,
    readers: Mutex<HashMap<Arc<str>, Reader>>,
    /// Nodes that bring what is refused, with until when nothing is taken from them.
    paused: Mutex<HashMap<Arc<str>, Instant>>,
}

/// A control node, as it told.
struct Reader {
    key: Vec<u8>,
    signed_by: KeyId,
    version: u64,
}

/// What another node of the site sent.
#[derive(Debug)]
pub enum HistoryParcel {
    /// A control node says what it has, and wants the rest.
    Wanted {
        /// Which.
        by: Arc<str>,
        /// What it said.
        body: Vec<u8>,
    },
    /// A node brings history.
    Brought {
        /// Which.
        by: Arc<str>,
        /// Whether it acts for operators in this: a control node that passes on what others brought it.
        as_control: bool,
        /// What it said, opened.
        body: Zeroizing<Vec<u8>>,
    },
}

impl HistoryParcel {
    fn by(&self) -> &Arc<str> {
        match self {
            Self::Wanted { by, .. } | Self::Brought { by, .. } => by,
        }
    }
}

impl FleetHandle {
    /// Takes part in carrying history. `None` where there are no other nodes, or where anybody may join.
    pub fn carry_history(&self) -> Result<Option<(HistoryCarrier, Turns<HistoryParcel>)>, FleetError> {
        if !self.shares_secrets() {
            return Ok(None);
        }
        let inner = Inner {
            shared: Arc::clone(&self.shared),
            key: OpeningKey::generate()?,
            readers: Mutex::default(),
            paused: Mutex::default(),
        };
        let carrier = HistoryCarrier(Arc::new(inner));
        let (to, parcels) = turns(PARCELS_MAX);
        self.spawn(listen(carrier.clone(), self.shared.engine.subscribe(Topic::Histories), to));
        Ok(Some((carrier, parcels)))
    }

    /// Whether a node is known that may act for operators.
    pub fn is_control(&self, site: &str, node: &str) -> bool {
        self.shared.roots.read().operator_key(site, node).is_some()
    }
}

impl HistoryCarrier {
    /// The name of this node.
    pub fn me(&self) -> &str {
        &self.0.shared.me.node
    }

    /// Tells a node what this control node has, and wants the rest. Whether it was sent.
    pub async fn want(&self, of: &str, body: &[u8]) -> bool {
        let key = self.0.key.public();
        let Ok(length) = u8::try_from(key.len()) else { return false };
        let body = [&[WANTED, length], key, body].concat();
        self.send(AuthorRole::Operator, of, &body).await
    }

    /// Brings history to a control node, sealed to it. Whether it was sent; not if that node is not believed, or wanted nothing so far.
    pub async fn bring(&self, to: &str, as_control: bool, body: &[u8]) -> bool {
        let role = if as_control { AuthorRole::Operator } else { AuthorRole::Node };
        let Some(key) = self.believed(to) else { return false };
        let shared = &self.0.shared;
        let context = self.context(&subject::of_history(&shared.me.site, &shared.me.node, to));
        let Ok(sealed) = seal_to(&key, &context, body) else { return false };
        self.send(role, to, &[&[BROUGHT], sealed.as_slice()].concat()).await
    }

    /// Takes nothing that a node brings until then: it is dropped before anything is checked or opened of it.
    pub fn pause(&self, node: &Arc<str>, until: Instant) {
        let mut paused = self.0.paused.lock();
        paused.retain(|_, until| *until > Instant::now());
        paused.insert(Arc::clone(node), until);
    }

    fn is_paused(&self, node: &str) -> bool {
        self.0.paused.lock().get(node).is_some_and(|until| *until > Instant::now())
    }

    async fn send(&self, role: AuthorRole, to: &str, body: &[u8]) -> bool {
        let shared = &self.0.shared;
        let subject = subject::of_history(&shared.me.site, &shared.me.node, to);
        let now_ms = shared.clock.now_ms();
        let version = shared.core.lock().clock.tick(now_ms);
        let expires_at_ms = now_ms.saturating_add(COUNTS_FOR_MS);
        let bytes = match shared.signed(role, &subject, version, expires_at_ms, body) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(subject, %error, "history cannot be sent");
                return false;
            }
        };
        let put = Put { topic: Topic::Histories, subject, version, expires_at_ms, bytes, speed: Speed::Fast };
        shared.engine.publish(put).await.is_ok()
    }

    /// The key to seal to a node with: one that it signed with an operator key that is believed now.
    fn believed(&self, node: &str) -> Option<Vec<u8>> {
        let shared = &self.0.shared;
        let signs = shared.roots.read().operator_key(&shared.me.site, node)?;
        let readers = self.0.readers.lock();
        let reader = readers.get(node)?;
        (signs.id() == reader.signed_by).then(|| reader.key.clone())
    }

    /// What sealed history belongs to: it counts nowhere else.
    fn context(&self, subject: &str) -> String {
        format!("history {} {subject}", self.0.shared.fleet_id())
    }

    /// What another node said, if it is to this one.
    fn hear(&self, subject: &str, bytes: &[u8]) -> Result<Option<HistoryParcel>, Refusal> {
        let shared = &self.0.shared;
        let Some(from) = subject::of_history_to(subject, &shared.me.site, &shared.me.node) else {
            return Ok(None);
        };
        if *from == *shared.me.node {
            return Ok(None);
        }
        let record = SignedRecord::from_bytes(bytes)?;
        let now_ms = shared.clock.now_ms();
        if (&*record.author.site, &*record.author.node) != (&*shared.me.site, from) {
            return Err(Refusal::WrongSubject);
        }
        if record.body.first() == Some(&BROUGHT) && self.is_paused(from) {
            return Ok(None);
        }
        shared.roots.read().verify(&record, subject, now_ms)?;
        if version_ms(record.version) > now_ms.saturating_add(RECORD_FUTURE_MAX_MS) {
            return Err(Refusal::FromTheFuture);
        }
        shared.core.lock().clock.observe(record.version);
        let unreadable = || Refusal::Unreadable("neither history nor a wish for it".into());
        let (kind, rest) = record.body.split_first().ok_or_else(unreadable)?;
        match (*kind, record.author.role) {
            (WANTED, AuthorRole::Operator) => {
                let (length, rest) = rest.split_first().ok_or_else(unreadable)?;
                let (key, body) = rest.split_at_checked(usize::from(*length)).ok_or_else(unreadable)?;
                let Author { node, .. } = &record.author;
                let reader = Reader { key: key.to_vec(), signed_by: record.key_id, version: record.version };
                let is_news = self.note(node, reader)?;
                Ok(is_news.then(|| HistoryParcel::Wanted { by: Arc::clone(node), body: body.to_vec() }))
            }
            (WANTED, AuthorRole::Node) => {
                Err(Refusal::NotAllowed("only who may act for operators reads others' history"))
            }
            (BROUGHT, role) => {
                // Sealed to the process before this one, or altered.
                let opened = self.0.key.open(&self.context(subject), rest);
                let body = opened.ok_or_else(|| Refusal::Unusable("history does not open".into()))?;
                let as_control = role == AuthorRole::Operator;
                Ok(Some(HistoryParcel::Brought { by: record.author.node, as_control, body }))
            }
            _ => Err(unreadable()),
        }
    }

    /// Notes a reader; false if it said something later already.
    fn note(&self, node: &Arc<str>, reader: Reader) -> Result<bool, Refusal> {
        let mut readers = self.0.readers.lock();
        let before = readers.get(node);
        if before.is_some_and(|before| before.version >= reader.version) {
            return Ok(false);
        }
        if before.is_none() && readers.len() >= FLEET_NODES_MAX {
            return Err(Refusal::TooManyNodes(FLEET_NODES_MAX));
        }
        readers.insert(Arc::clone(node), reader);
        Ok(true)
    }
}

/// Hands over what others send, each in its turn. What finds no room is dropped: who sends hears no receipt, and sends it again later.
async fn listen(carrier: HistoryCarrier, mut told: mpsc::Receiver<Delivery>, to: Giver<HistoryParcel>) {
    while let Some(delivery) = told.recv().await {
        let Delivery::Put { subject, bytes } = delivery else { continue };
        match carrier.hear(&subject, &bytes) {
            Ok(Some(parcel)) => {
                if !to.give(&Arc::clone(parcel.by()), parcel) {
                    return;
                }
            }
            // Of a node whose announcement is on its way: it says it again.
            Ok(None) | Err(Refusal::UnknownAuthor(_)) => {}
            Err(refusal) => carrier.0.shared.refuse(&subject, &refusal),
        }
    }
}

/// Longest history that is brought at once, in bytes: sealed, signed and in base64 it is below the largest record.
pub const HISTORY_BROUGHT_MAX: usize = 47_000;
/// How long what is said counts: clocks may differ a little.
const COUNTS_FOR_MS: u64 = 60_000;
/// Parcels that wait to be taken, of all nodes together: one of each of a large site, in 3 MB.
const PARCELS_MAX: usize = 64;
const WANTED: u8 = 1;
const BROUGHT: u8 = 2;
