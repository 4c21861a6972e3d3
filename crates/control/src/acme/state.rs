//! What lies on the shelf of certificates, in JSON: certificates with their keys, what was tried for each host, what is being proven,
//! the account, and when orders were made.

use phalanx_fleet::Shelf;
use phalanx_trust::ServedCertificate;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Challenge;

/// A certificate with its key. No `Debug`: it would show the key.
#[derive(Clone, Serialize, Deserialize)]
pub struct Issued {
    /// The chain, in PEM.
    pub chain: String,
    /// Its key, in PEM.
    pub key: Zeroizing<String>,
    /// When it ends, in Unix milliseconds.
    pub not_after_ms: u64,
    /// When it was ordered, in Unix milliseconds: who was revoked later knows its key.
    pub made_at_ms: u64,
    /// When it is to be renewed.
    pub(super) renew_at_ms: u64,
    /// When the authority is asked again whether it should be sooner.
    #[serde(default)]
    pub(super) ask_at_ms: u64,
    /// The directory that it came from.
    pub(super) directory: String,
}

impl Issued {
    pub(super) fn on(shelf: &Shelf, host: &str) -> Option<Self> {
        read(shelf, &certificate(host))
    }

    /// Reads and checks it as if it came from files.
    pub fn certificate(&self) -> Result<ServedCertificate, String> {
        let read = ServedCertificate::read(self.chain.as_bytes(), self.key.as_bytes());
        read.map_err(|fault| fault.to_string())
    }
}

/// What was tried for a host since it last came to something.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Tried {
    /// When, in Unix milliseconds.
    pub(super) at_ms: u64,
    /// How often in a row it came to nothing.
    pub(super) failures: u32,
    /// Not before this is it tried again.
    pub(super) next_at_ms: u64,
    /// Why it came to nothing.
    pub(super) error: String,
}

impl Tried {
    pub(super) fn on(shelf: &Shelf, host: &str) -> Option<Self> {
        read(shelf, &tried(host))
    }

    /// For people.
    pub(super) fn sentence(&self, now_ms: u64) -> String {
        let minutes = self.next_at_ms.saturating_sub(now_ms).div_ceil(60_000);
        let times = if self.failures == 1 { "once".to_owned() } else { format!("{} times", self.failures) };
        format!("it failed {times}, last with: {}; next try within {minutes} min", self.error)
    }
}

/// Something that the authority looks for at any node of the site.
#[derive(Clone, Serialize, Deserialize)]
pub struct Proof {
    /// The host that it is about.
    pub host: String,
    /// In a handshake, else over HTTP.
    pub in_handshake: bool,
    /// What the authority asks for.
    pub token: String,
    /// What it wants to hear.
    pub key_authorization: String,
}

impl Proof {
    /// As it is looked for.
    pub(super) fn of(challenge: Challenge, host: &str, token: &str, key_authorization: &str) -> Self {
        Self {
            host: host.to_owned(),
            in_handshake: challenge == Challenge::TlsAlpn01,
            token: token.to_owned(),
            key_authorization: key_authorization.to_owned(),
        }
    }
}

/// The account at the authority, with its key.
#[derive(Serialize, Deserialize)]
pub(super) struct Account {
    /// As the library writes them.
    pub(super) credentials: Zeroizing<String>,
    /// When its key was made, in Unix milliseconds.
    pub(super) made_at_ms: u64,
}

pub(super) fn read<T: DeserializeOwned>(shelf: &Shelf, name: &str) -> Option<T> {
    serde_json::from_slice(&shelf.get(name)?).ok()
}

/// Puts it there; false if it could not be, because another node holds the shelf by now.
pub(super) async fn write<T: Serialize>(shelf: &Shelf, name: &str, value: &T, expires_at_ms: u64) -> bool {
    let Ok(bytes) = serde_json::to_vec(value).map(Zeroizing::new) else { return false };
    let put = shelf.put(name, &bytes, expires_at_ms).await;
    put.inspect_err(|error| tracing::warn!(%error, name, "it could not be shared")).is_ok()
}

pub(super) fn certificate(host: &str) -> String {
    format!("{CERTIFICATE}{host}")
}

pub(super) fn tried(host: &str) -> String {
    format!("{TRIED}{host}")
}

pub(super) fn proof(token: &str) -> String {
    format!("{PROOF}{token}")
}

/// One account for each directory.
pub(super) fn account(directory: &str) -> String {
    format!("account {}", phalanx_fleet::BlobHash::of(directory.as_bytes()).as_str())
}

pub(super) const CERTIFICATE: &str = "certificate ";
pub(super) const TRIED: &str = "tried ";
pub(super) const PROOF: &str = "proof ";
pub(super) const ORDERS: &str = "orders";
