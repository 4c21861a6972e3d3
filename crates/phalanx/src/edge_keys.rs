//! Keys that the edge hashes and signs with, and that must be the same wherever a client may come next.

use std::sync::Arc;

use phalanx_fleet::{FleetKeys, FleetSettings};
use phalanx_model::Swap;
use phalanx_trust::{PassKeys, TicketKeys};

/// The keys.
pub(crate) struct EdgeKeys {
    /// Of rate limits; `None` for a node that counts for itself alone.
    pub(crate) rates: Option<[u8; 16]>,
    /// Of cookies that keep clients with their upstreams.
    pub(crate) sticky: [u8; 16],
    /// Of challenges and passes.
    pub(crate) passes: PassKeys,
}

impl EdgeKeys {
    /// Of a node in this fleet. A fleet's secret makes keys that all its nodes have. Without one, passes go by the keys of session tickets, which
    /// the nodes of a site share (docs/adr/0034). Those of a node of no fleet are its own, and the same after each start.
    pub(crate) fn of(
        settings: &FleetSettings,
        keys: &FleetKeys,
        counts_jointly: bool,
        tickets: Arc<Swap<TicketKeys>>,
    ) -> Self {
        let (secret, fleet_id) = (settings.secret.as_ref(), &settings.fleet_id);
        let of_fleet = |name: &str| crate::rates::hash_key(name, secret);
        Self {
            rates: counts_jointly.then(|| of_fleet(fleet_id)),
            sticky: match counts_jointly {
                true => of_fleet(&format!("{fleet_id}, cookies")),
                false => own(keys, b"phalanx cookies").first_chunk().copied().unwrap_or_default(),
            },
            passes: match secret {
                _ if !counts_jointly => PassKeys::of_secret(&own(keys, b"phalanx passes")),
                Some(secret) => {
                    PassKeys::of_secret(&secret.prove(format!("phalanx passes of {fleet_id}").as_bytes()))
                }
                None => PassKeys::of_site(tickets),
            },
        }
    }
}

/// A secret of the node's own. Ed25519 signs the same text the same way, and nobody else gets to see this signature.
fn own(keys: &FleetKeys, text: &[u8]) -> [u8; 32] {
    phalanx_trust::sha256(&keys.node.sign(text))
}
