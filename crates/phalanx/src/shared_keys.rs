//! Keys that the nodes of a fleet make the same hashes with, each for its own purpose.

use std::sync::Arc;

use phalanx_fleet::FleetKeys;
use phalanx_model::{NameKey, Swap};
use phalanx_trust::{FleetSecret, NamesKey, PassKeys, TicketKeys};

use crate::membership::Identity;
use crate::rates::hash_key;

/// What the edge makes hashes with.
pub(crate) struct EdgeKeys {
    /// Keys of rate limits; `None` where the node counts alone.
    pub(crate) rates: Option<[u8; 16]>,
    /// Cookies that keep clients with their upstreams.
    pub(crate) sticky: [u8; 16],
    /// Names of accounts and sessions.
    pub(crate) names: NameKey,
    /// Challenges and passes.
    pub(crate) passes: PassKeys,
}

impl EdgeKeys {
    /// Those of a node: of its fleet, by id and secret, where it is in one; else its own, the same after each start.
    pub(crate) fn of(
        own: &FleetKeys,
        identity: Option<&Identity>,
        fleet: Option<(&str, Option<&FleetSecret>)>,
        tickets: Arc<Swap<TicketKeys>>,
    ) -> Self {
        let held = identity.map(|identity| identity.membership.held());
        let granted = held.as_ref().and_then(|held| held.grant.names_key.as_ref()).map(NamesKey::bytes);
        let names = granted.unwrap_or_else(|| match fleet {
            // A fleet with an authority of an earlier version: nothing that all nodes hold is secret.
            Some(_) if identity.is_some() => own_key(own, b"phalanx names"),
            Some((id, secret)) => hash_key(&format!("{id}, names"), secret),
            None => own_key(own, b"phalanx names"),
        });
        Self {
            rates: fleet.map(|(id, secret)| hash_key(id, secret)),
            sticky: match fleet {
                Some((id, secret)) => hash_key(&format!("{id}, cookies"), secret),
                None => own_key(own, b"phalanx cookies"),
            },
            names: NameKey::new(names),
            passes: match (fleet, granted) {
                (None, _) => PassKeys::of_secret(&own_digest(own, b"phalanx passes")),
                (Some(_), Some(granted)) => {
                    PassKeys::of_secret(&FleetSecret::from_bytes(&granted).prove(b"phalanx passes"))
                }
                (Some((id, Some(secret))), None) => {
                    PassKeys::of_secret(&secret.prove(format!("phalanx passes of {id}").as_bytes()))
                }
                // Nothing that all nodes of the fleet hold is secret; those of a site share these, if it shares any.
                (Some((_, None)), None) => PassKeys::of_site(tickets),
            },
        }
    }
}

/// A key of the node alone. Ed25519 signs the same text the same way.
fn own_key(keys: &FleetKeys, purpose: &[u8]) -> [u8; 16] {
    own_digest(keys, purpose).first_chunk().copied().unwrap_or_default()
}

fn own_digest(keys: &FleetKeys, purpose: &[u8]) -> [u8; 32] {
    phalanx_trust::sha256(&keys.node.sign(purpose))
}
