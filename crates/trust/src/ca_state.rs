//! What the authority keeps, as it is sealed.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::certificate::Der;
use crate::join::DerText;
use crate::nats_login::NatsRights;
use crate::{NamesKey, SigningKey, TrustError, VerifyingKey};

#[derive(Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) fleet: String,
    pub(crate) made_at_ms: u64,
    /// The last one signs; one more, before it, during a change of root.
    pub(crate) roots: Vec<CaKey>,
    /// The new root as the old one signed it, during a change of root.
    pub(crate) cross: Vec<DerText>,
    pub(crate) sites: BTreeMap<String, CaKey>,
    pub(crate) services: Option<CaKey>,
    pub(crate) nats_operator: Seed,
    pub(crate) nats_account: Seed,
    pub(crate) nats_system: Seed,
    /// Logins that are refused, with the Unix second up to which they were made.
    pub(crate) nats_revoked: BTreeMap<String, u64>,
    pub(crate) tokens: Vec<TokenState>,
    /// By `site/node`.
    pub(crate) issued: BTreeMap<String, Issued>,
    pub(crate) policy_version_min: u64,
    /// Servers of sites, by `site/server`.
    #[serde(default)]
    pub(crate) servers: BTreeMap<String, IssuedServer>,
    /// The delegate of each site that has one.
    #[serde(default)]
    pub(crate) delegations: BTreeMap<String, Delegated>,
    /// When the keys of delegates in the account's claims last changed.
    #[serde(default)]
    pub(crate) delegations_changed_at_ms: u64,
}

impl State {
    pub(crate) fn new(fleet: String, root: CaKey, now_ms: u64) -> Result<Self, TrustError> {
        let seed = || SigningKey::generate().and_then(|key| Seed::of(&key));
        Ok(Self {
            fleet,
            made_at_ms: now_ms,
            roots: vec![root],
            cross: Vec::new(),
            sites: BTreeMap::new(),
            services: None,
            nats_operator: seed()?,
            nats_account: seed()?,
            nats_system: seed()?,
            nats_revoked: BTreeMap::new(),
            tokens: Vec::new(),
            issued: BTreeMap::new(),
            policy_version_min: 0,
            servers: BTreeMap::new(),
            delegations: BTreeMap::new(),
            delegations_changed_at_ms: 0,
        })
    }

    /// The root that signs.
    pub(crate) fn root(&self) -> Result<&CaKey, TrustError> {
        self.roots.last().ok_or(TrustError::Crypto("finding the root"))
    }

    pub(crate) fn root_certificates(&self) -> Vec<Der> {
        self.roots.iter().map(|root| root.certificate.0.clone()).collect()
    }

    /// Operator, account and system account.
    pub(crate) fn nats_keys(&self) -> Result<(SigningKey, SigningKey, SigningKey), TrustError> {
        Ok((self.nats_operator.key()?, self.nats_account.key()?, self.nats_system.key()?))
    }
}

/// A certificate that signs others, with its key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct CaKey {
    pub(crate) certificate: DerText,
    seed: Seed,
}

impl CaKey {
    pub(crate) fn new(certificate: Der, key: &SigningKey) -> Result<Self, TrustError> {
        Ok(Self { certificate: DerText(certificate), seed: Seed::of(key)? })
    }

    pub(crate) fn key(&self) -> Result<SigningKey, TrustError> {
        self.seed.key()
    }
}

/// A token as the authority remembers it: not the secret, its digest.
#[derive(Serialize, Deserialize)]
pub(crate) struct TokenState {
    pub(crate) id: String,
    pub(crate) digest: DerText,
    pub(crate) site: String,
    pub(crate) control: bool,
    /// Whether it admits a site's server, and no node.
    #[serde(default)]
    pub(crate) server: bool,
    pub(crate) expires_at_ms: u64,
    pub(crate) used_by: Option<String>,
}

/// A node that was enrolled.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Issued {
    pub(crate) node_key: VerifyingKey,
    pub(crate) operator_key: Option<VerifyingKey>,
    pub(crate) nats_key: VerifyingKey,
    pub(crate) rights: NatsRights,
    pub(crate) expires_at_ms: u64,
    pub(crate) revoked_at_ms: Option<u64>,
}

/// The delegate of a site.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Delegated {
    pub(crate) node: String,
    /// How long each of its certificates is good.
    pub(crate) for_ms: u64,
    /// What it holds by now; none until it asked.
    pub(crate) held: Option<DelegatedKeys>,
}

/// What a delegate was last given.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DelegatedKeys {
    pub(crate) ca: VerifyingKey,
    pub(crate) nats: VerifyingKey,
    /// SHA-256 of the root that signed.
    pub(crate) root: String,
    pub(crate) issued_at_ms: u64,
    pub(crate) expires_at_ms: u64,
}

/// A server that was enrolled.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct IssuedServer {
    pub(crate) key: VerifyingKey,
    pub(crate) links_key: VerifyingKey,
    pub(crate) keeper_key: VerifyingKey,
    /// Where the nodes of its site reach it.
    pub(crate) clients: Vec<String>,
    pub(crate) enrolled_at_ms: u64,
    pub(crate) revoked_at_ms: Option<u64>,
}

/// A secret key as it is sealed; overwritten when dropped.
#[derive(Clone)]
pub(crate) struct Seed(Zeroizing<[u8; 32]>);

impl Seed {
    pub(crate) fn of(key: &SigningKey) -> Result<Self, TrustError> {
        key.seed().map(Self)
    }

    pub(crate) fn key(&self) -> Result<SigningKey, TrustError> {
        SigningKey::from_seed(&self.0)
    }

    /// What names are hashed with, where this key is the one that never changes.
    pub(crate) fn names_key(&self) -> NamesKey {
        NamesKey::derived(self.0.as_slice())
    }
}

impl Serialize for Seed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(self.0.as_slice())))
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = STANDARD.decode(text.as_bytes()).ok().map(Zeroizing::new);
        let seed = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
        seed.map(|seed| Self(Zeroizing::new(seed))).ok_or_else(|| serde::de::Error::custom("no key"))
    }
}
