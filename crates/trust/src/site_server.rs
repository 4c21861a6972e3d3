//! What travels when a site's server joins a fleet and renews, and what it holds: certificate, logins, the claims it is
//! configured with.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ca::NatsOperator;
use crate::certificate::{self, Der};
use crate::join::{DerText, JoinToken, ders};
use crate::record::base64_bytes;
use crate::{Sealer, SigningKey, TrustBundle, TrustError, VerifyingKey, private_file};

/// The keys of a site's server.
#[derive(Debug)]
pub struct ServerKeys {
    /// Of its certificate; it also signs renewals.
    pub tls: SigningKey,
    /// Of its login to the servers of other sites.
    pub links: SigningKey,
    /// Of the login of who keeps its streams.
    pub keeper: SigningKey,
}

impl ServerKeys {
    /// The keys of a state folder, made when first asked for.
    pub fn load_or_create(folder: &Path, sealer: &Sealer) -> Result<Self, TrustError> {
        let key = |name: &str| SigningKey::load_or_create(&folder.join(name), sealer);
        Ok(Self { tls: key("server.key")?, links: key("links.key")?, keeper: key("keeper.key")? })
    }
}

/// Which server it is and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPlace {
    /// Its site.
    pub site: String,
    /// Its name within the site.
    pub server: String,
    /// Addresses and names under which other servers reach it; they stand in its certificate.
    pub hosts: Vec<String>,
    /// Where the nodes of its site reach it: `tls://HOST:PORT`.
    pub clients: Vec<String>,
}

impl ServerPlace {
    /// Whether it is small and says nothing that only another part of a fleet may say of itself.
    pub fn is_in_order(&self) -> bool {
        let short = |text: &String| !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.is_ascii();
        let own = |host: &String| short(host) && !certificate::is_reserved_host(host);
        let printable =
            |url: &String| short(url) && url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        crate::valid_name(&self.site)
            && crate::valid_name(&self.server)
            && self.hosts.len() <= NAMES_MAX
            && self.hosts.iter().all(own)
            && (1..=NAMES_MAX).contains(&self.clients.len())
            && self.clients.iter().all(printable)
    }
}

/// A server's request to join.
#[derive(Clone, Serialize, Deserialize)]
pub struct ServerRequest {
    /// The token's fleet.
    pub fleet: String,
    /// The token's id.
    pub token: String,
    /// The token's secret.
    pub secret: String,
    /// Which server it is.
    pub place: ServerPlace,
    /// The request for its certificate.
    #[serde(with = "base64_bytes")]
    pub tls_request: Der,
    /// The request that proves the key of its links' login.
    #[serde(with = "base64_bytes")]
    pub links_request: Der,
    /// The request that proves the key of its keeper's login.
    #[serde(with = "base64_bytes")]
    pub keeper_request: Der,
}

impl ServerRequest {
    /// The request of a server with these keys.
    pub fn make(token: &JoinToken, place: &ServerPlace, keys: &ServerKeys) -> Result<Self, TrustError> {
        Ok(Self {
            fleet: token.fleet.clone(),
            token: token.id.clone(),
            secret: token.secret.clone(),
            place: place.clone(),
            tls_request: certificate::request(&keys.tls)?,
            links_request: certificate::request(&keys.links)?,
            keeper_request: certificate::request(&keys.keeper)?,
        })
    }
}

impl fmt::Debug for ServerRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerRequest").field("place", &self.place).finish_non_exhaustive()
    }
}

/// A request for a fresh certificate, fresh logins and the claims of the moment, signed with the key that is enrolled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerRenewal {
    /// The fleet.
    pub fleet: String,
    /// Which server it is, by now.
    pub place: ServerPlace,
    /// When it was written, in Unix milliseconds.
    pub at_ms: u64,
    /// The signature.
    #[serde(with = "base64_bytes")]
    pub signature: Vec<u8>,
}

impl ServerRenewal {
    /// A signed request.
    pub fn make(fleet: &str, place: &ServerPlace, key: &SigningKey, now_ms: u64) -> Self {
        let mut renewal =
            Self { fleet: fleet.into(), place: place.clone(), at_ms: now_ms, signature: Vec::new() };
        renewal.signature = key.sign(&renewal.signing_bytes()).to_vec();
        renewal
    }

    /// Whether this key signed it.
    pub fn is_signed_by(&self, key: VerifyingKey) -> bool {
        key.verify(&self.signing_bytes(), &self.signature)
    }

    fn signing_bytes(&self) -> Vec<u8> {
        let ServerPlace { site, server, hosts, clients } = &self.place;
        let mut bytes = b"phalanx server renewal\0".to_vec();
        let counts = [hosts.len().to_string(), clients.len().to_string()];
        let parts = [&self.fleet, site, server].into_iter().chain(&counts).chain(hosts).chain(clients);
        for part in parts {
            bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes.extend_from_slice(&self.at_ms.to_be_bytes());
        bytes
    }
}

/// What a site's server holds. None of it is secret without the server's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerGrant {
    /// The fleet.
    pub fleet: String,
    /// The site.
    pub site: String,
    /// The server's name.
    pub server: String,
    /// The server's certificate and what leads to every root that is believed.
    pub chain: Vec<DerText>,
    /// The roots to believe.
    pub roots: Vec<DerText>,
    /// What nats-server is configured with.
    pub operator: NatsOperator,
    /// The login to servers of other sites.
    pub links_login: String,
    /// The login of who keeps the site's streams.
    pub keeper_login: String,
    /// The keeper's login to the system account.
    pub system_login: String,
    /// Where to renew; empty to keep what is known.
    pub enrol: Vec<String>,
    /// When it was made, in Unix milliseconds.
    pub issued_at_ms: u64,
    /// When certificate and logins end, in Unix milliseconds.
    pub expires_at_ms: u64,
}

impl ServerGrant {
    /// Checks it against the server's key, at a time. The roots it names.
    pub fn check(&self, keys: &ServerKeys, now_ms: u64) -> Result<TrustBundle, TrustError> {
        let fault = |what: String| TrustError::Grant(what);
        let bundle = TrustBundle::new(&self.fleet, &ders(&self.roots))
            .ok_or_else(|| fault("it names no roots of the fleet".into()))?;
        // A server shows the roots too; they are no part of the path.
        let chain: Vec<Der> =
            ders(&self.chain).into_iter().filter(|der| !bundle.roots().contains(der)).collect();
        match bundle.verify(&chain, now_ms) {
            Ok(certified) if certified.key == keys.tls.verifying() => Ok(bundle),
            Ok(_) => Err(fault("the certificate is for another key".into())),
            Err(refusal) => Err(fault(refusal.to_string())),
        }
    }
}

/// Reads what a state folder holds; its time may be over.
pub fn load(folder: &Path, sealer: &Sealer) -> Result<Option<ServerGrant>, TrustError> {
    let path = folder.join(FILE);
    let Some(sealed) = private_file::read(&path, FILE_BYTES_MAX)? else { return Ok(None) };
    let fix = "remove it and join the server again with a new token";
    let json = sealer.open(SEAL_CONTEXT, &sealed);
    let json = json.map_err(|_| TrustError::file(&path, "was altered or sealed under another key", fix))?;
    serde_json::from_slice(&json)
        .map(Some)
        .map_err(|_| TrustError::file(&path, "holds no membership of a server", fix))
}

/// Keeps it.
pub fn save(folder: &Path, sealer: &Sealer, grant: &ServerGrant) -> Result<(), TrustError> {
    let json = serde_json::to_vec(grant).map_err(|_| TrustError::Crypto("writing a membership"))?;
    private_file::replace(&folder.join(FILE), &sealer.seal(SEAL_CONTEXT, &json)?)
}

/// Where it lies in a server's state folder.
pub const FILE: &str = "server-membership";
const FILE_BYTES_MAX: usize = 256 * 1024;
const SEAL_CONTEXT: &str = "fleet server membership";
const NAMES_MAX: usize = 8;
const NAME_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> ServerPlace {
        ServerPlace {
            site: "syd".into(),
            server: "nats-1".into(),
            hosts: vec!["192.0.2.1".into(), "nats.example".into()],
            clients: vec!["tls://192.0.2.1:4222".into()],
        }
    }

    #[test]
    fn a_server_may_not_be_reached_under_a_name_of_the_fleets_own() {
        assert!(place().is_in_order());
        for host in ["enrol.shops.phalanx.internal", "Enrol.shops.PHALANX.internal.", "", "naïve.example"] {
            assert!(!ServerPlace { hosts: vec![host.into()], ..place() }.is_in_order(), "{host}");
        }
        for url in ["", "tls://a,b", "tls://a b"] {
            assert!(!ServerPlace { clients: vec![url.into()], ..place() }.is_in_order(), "{url}");
        }
        assert!(!ServerPlace { clients: vec![], ..place() }.is_in_order());
        assert!(!ServerPlace { site: "a.b".into(), ..place() }.is_in_order());
    }

    #[test]
    fn a_renewal_is_signed_as_a_whole() {
        let key = SigningKey::generate().unwrap();
        let renewal = ServerRenewal::make("f", &place(), &key, 5);
        assert!(renewal.is_signed_by(key.verifying()));
        let moved = ServerPlace {
            hosts: vec!["192.0.2.1".into()],
            clients: vec!["nats.example".into(), "tls://192.0.2.1:4222".into()],
            ..place()
        };
        for changed in [
            ServerRenewal { at_ms: 6, ..renewal.clone() },
            ServerRenewal { fleet: "g".into(), ..renewal.clone() },
            ServerRenewal { place: moved, ..renewal.clone() },
        ] {
            assert!(!changed.is_signed_by(key.verifying()));
        }
    }
}
