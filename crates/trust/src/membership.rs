//! What a node knows of its own membership: its certificates, its login, whom it believes. Kept sealed, renewed in place.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use phalanx_model::Swap;

use crate::join::{Grant, NodeKeys, ders};
use crate::{Sealer, SigningKey, TrustBundle, TrustError, private_file};

/// A node's membership of an enrolled fleet, shared by who announces, logs in and renews.
pub struct Membership {
    grant: Swap<Held>,
    nats: SigningKey,
    tls_key: Arc<dyn rustls::sign::SigningKey>,
}

/// What was granted, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// As it came from the authority.
    pub grant: Grant,
    /// The roots that it names.
    pub bundle: TrustBundle,
}

impl Held {
    /// Checks a grant against the keys of the node that it must be for.
    pub fn check(grant: Grant, keys: &NodeKeys<'_>, now_ms: u64) -> Result<Self, TrustError> {
        let fault = |what: String| TrustError::Grant(what);
        let roots = ders(&grant.roots);
        let bundle = TrustBundle::new(&grant.fleet, &roots)
            .ok_or_else(|| fault("it names no roots of the fleet".into()))?;
        let certified = |chain, key: &SigningKey| match bundle.verify(&ders(chain), now_ms) {
            Ok(certified) if certified.key == key.verifying() => Ok(()),
            Ok(_) => Err(fault("a certificate is for another key".into())),
            Err(refusal) => Err(fault(refusal.to_string())),
        };
        certified(&grant.chain, keys.node)?;
        if let (Some(operator), false) = (keys.operator, grant.operator_chain.is_empty()) {
            certified(&grant.operator_chain, operator)?;
        }
        Ok(Self { grant, bundle })
    }
}

impl Membership {
    /// A membership with these keys.
    pub fn new(held: Held, node: &SigningKey, nats: SigningKey) -> Result<Self, TrustError> {
        let pkcs8 = node.to_pkcs8()?;
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(pkcs8.as_slice());
        let tls_key = rustls::crypto::aws_lc_rs::sign::any_eddsa_type(&key);
        let tls_key = tls_key.map_err(|_| TrustError::Crypto("reading a key for TLS"))?;
        Ok(Self { grant: Swap::new(held), nats, tls_key })
    }

    /// What is held now.
    pub fn held(&self) -> Arc<Held> {
        self.grant.load_full()
    }

    /// Takes a renewed grant into use; new connections and announcements have it at once.
    pub fn replace(&self, held: Held) {
        self.grant.store(Arc::new(held));
    }

    /// Resolves after each renewal.
    pub fn renewed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.grant.subscribe()
    }

    /// Signs what a NATS server asks to be signed at login.
    pub fn sign_nats(&self, nonce: &[u8]) -> [u8; 64] {
        self.nats.sign(nonce)
    }

    pub(crate) fn tls_key(&self) -> Arc<dyn rustls::sign::SigningKey> {
        Arc::clone(&self.tls_key)
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held();
        write!(f, "Membership({}/{} of {})", held.grant.site, held.grant.node, held.grant.fleet)
    }
}

/// Reads the grant that a state folder holds; its time may be over.
pub fn load(folder: &Path, sealer: &Sealer) -> Result<Option<Grant>, TrustError> {
    let path = folder.join(FILE);
    let Some(sealed) = private_file::read(&path, FILE_BYTES_MAX)? else { return Ok(None) };
    let fix = "remove it and join the fleet again with a new token";
    let json = sealer.open(SEAL_CONTEXT, &sealed);
    let json = json.map_err(|_| TrustError::file(&path, "was altered or sealed under another key", fix))?;
    serde_json::from_slice(&json).map(Some).map_err(|_| TrustError::file(&path, "holds no membership", fix))
}

/// Keeps a grant.
pub fn save(folder: &Path, sealer: &Sealer, grant: &Grant) -> Result<(), TrustError> {
    let json = serde_json::to_vec(grant).map_err(|_| TrustError::Crypto("writing a membership"))?;
    private_file::replace(&folder.join(FILE), &sealer.seal(SEAL_CONTEXT, &json)?)
}

/// Where the membership lies in a node's state folder.
pub const FILE: &str = "membership";
const FILE_BYTES_MAX: usize = 128 * 1024;
const SEAL_CONTEXT: &str = "fleet membership";
