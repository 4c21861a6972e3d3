//! What travels between the authority and a site's delegate, and what the authority does about delegates.
//!
//! A delegate admits and renews edge nodes of its own site while the authority cannot be reached. The keys are made at the site; the
//! authority certifies one, and names the other in the account's claims with the rights of such nodes and no more.

use phalanx_model::limits::FLEET_NODES_MAX;
use serde::{Deserialize, Serialize};

use crate::ca::{CERTIFICATE_MS, FleetAuthority, proven, unavailable};
use crate::ca_state::{Delegated, DelegatedKeys, Issued};
use crate::certificate::{CLOCK_ALLOWANCE_MS, CertificateOrder, Der};
use crate::join::{DerText, JoinRefusal, der_texts};
use crate::nats_login::{self, NatsKind, NatsRights};
use crate::record::base64_bytes;
use crate::spiffe::{Named, SpiffeId};
use crate::{SigningKey, TrustError, VerifyingKey, valid_name};

/// A delegate's request for a certificate of its own, or for what is new.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DelegationRequest {
    /// The fleet.
    pub fleet: String,
    /// The delegate's site.
    pub site: String,
    /// The delegate's name.
    pub node: String,
    /// The request for the certificate of the key that signs nodes.
    #[serde(with = "base64_bytes")]
    pub ca_request: Der,
    /// The request that proves the key that signs logins.
    #[serde(with = "base64_bytes")]
    pub nats_request: Der,
    /// Until when what it holds is good, in Unix milliseconds; 0 if it holds nothing.
    pub held_until_ms: u64,
    /// Nodes that it admitted or renewed and has not told of; the first [`REPORTED_MAX`].
    pub nodes: Vec<SiteNode>,
    /// When it was written, in Unix milliseconds.
    pub at_ms: u64,
    /// The signature of the delegate's node key.
    #[serde(with = "base64_bytes")]
    pub signature: Vec<u8>,
}

/// A node of the delegate's site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteNode {
    /// Its name.
    pub node: String,
    /// Its key.
    pub node_key: VerifyingKey,
    /// The key of its login.
    pub nats_key: VerifyingKey,
    /// Whether it has the control role.
    pub control: bool,
    /// When its certificate ends, in Unix milliseconds.
    pub expires_at_ms: u64,
    /// When it was revoked, in Unix milliseconds.
    pub revoked_at_ms: Option<u64>,
}

impl DelegationRequest {
    /// Signs it.
    pub fn signed(mut self, key: &SigningKey) -> Result<Self, TrustError> {
        self.signature = key.sign(&self.signing_bytes()?).to_vec();
        Ok(self)
    }

    /// Whether this key signed it.
    pub fn is_signed_by(&self, key: VerifyingKey) -> bool {
        self.signing_bytes().is_ok_and(|bytes| key.verify(&bytes, &self.signature))
    }

    fn signing_bytes(&self) -> Result<Vec<u8>, TrustError> {
        let unsigned = Self { signature: Vec::new(), ..self.clone() };
        let json = serde_json::to_vec(&unsigned).map_err(|_| TrustError::Crypto("writing a request"))?;
        Ok([b"phalanx delegation\0".as_slice(), &json].concat())
    }
}

/// What a delegate holds, and what it is to know. None of it is secret without the delegate's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegationGrant {
    /// The delegate's intermediate, and during a change of root one more; empty to keep what is held.
    pub chain: Vec<DerText>,
    /// The roots to believe.
    pub roots: Vec<DerText>,
    /// The name of the account that logins are for.
    pub account: String,
    /// The nodes of the site that the authority knows: where both know a name, this counts.
    pub nodes: Vec<SiteNode>,
    /// The lowest policy version that joiners may accept.
    pub policy_version_min: u64,
    /// When the intermediate was made, in Unix milliseconds.
    pub issued_at_ms: u64,
    /// When it ends.
    pub expires_at_ms: u64,
}

/// A delegation as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// The site.
    pub site: String,
    /// The node.
    pub node: String,
    /// When what it holds ends, in Unix milliseconds; none until it asked.
    pub expires_at_ms: Option<u64>,
}

impl FleetAuthority {
    /// Lets a control node admit and renew edge nodes of its own site, with certificates that last `for_ms`. One node of a site can.
    pub fn delegate(&mut self, site: &str, node: &str, for_ms: u64) -> Result<Delegation, TrustError> {
        let issued = self.state.issued.get(&format!("{site}/{node}"));
        let rights = issued.filter(|issued| issued.revoked_at_ms.is_none()).map(|issued| issued.rights);
        match rights {
            Some(NatsRights::Control) => {}
            Some(NatsRights::Steward) => {
                return Err(TrustError::Limit(
                    "that node holds the authority itself and needs no delegation",
                ));
            }
            Some(NatsRights::Node) => {
                return Err(TrustError::Limit("only a node with the control role can be a site's delegate"));
            }
            None => return Err(TrustError::Limit("no such node is enrolled")),
        }
        if !(DELEGATION_MIN_MS..=DELEGATION_MAX_MS).contains(&for_ms) {
            return Err(TrustError::Limit(
                "a delegation lasts from an hour to seven days; it is renewed at half of that",
            ));
        }
        let known = self.state.delegations.get(site);
        if known.is_some_and(|known| known.node != node) {
            return Err(TrustError::Limit(
                "the site has another delegate; end that first, with `phalanx fleet delegate SITE/NODE --end`",
            ));
        }
        let held = known.and_then(|known| known.held.clone());
        let delegated = Delegated { node: node.to_owned(), for_ms, held };
        let before = self.state.delegations.insert(site.to_owned(), delegated.clone());
        if let Err(error) = self.save() {
            match before {
                Some(before) => self.state.delegations.insert(site.to_owned(), before),
                None => self.state.delegations.remove(site),
            };
            return Err(error);
        }
        Ok(described(site, &delegated))
    }

    /// Delegates to a node no more. What it signed counts at servers until they are told, and at nodes until the operator's order is
    /// there. False if it was no delegate.
    pub fn end_delegation(&mut self, site: &str, node: &str, now_ms: u64) -> Result<bool, TrustError> {
        let ended = self.drop_delegation(site, node, now_ms);
        self.save()?;
        Ok(ended)
    }

    /// The delegates there are.
    pub fn delegations(&self) -> Vec<Delegation> {
        self.state.delegations.iter().map(|(site, delegated)| described(site, delegated)).collect()
    }

    /// What a delegate asks for: a fresh intermediate if half of the old one's time is over, and the nodes of its site.
    pub fn grant_delegation(
        &mut self,
        request: &DelegationRequest,
        now_ms: u64,
    ) -> Result<DelegationGrant, JoinRefusal> {
        let (site, node) = (&request.site, &request.node);
        let name = format!("{site}/{node}");
        if request.fleet != self.state.fleet {
            return Err(JoinRefusal::Foreign);
        }
        let issued = self.state.issued.get(&name).ok_or_else(|| JoinRefusal::NotEnrolled(name.clone()))?;
        if !request.is_signed_by(issued.node_key) {
            return Err(JoinRefusal::NotEnrolled(name));
        }
        if issued.revoked_at_ms.is_some() {
            return Err(JoinRefusal::Revoked(name));
        }
        if request.at_ms.abs_diff(now_ms) > CLOCK_ALLOWANCE_MS || request.nodes.len() > REPORTED_MAX {
            return Err(JoinRefusal::Malformed(
                "the clocks of node and authority differ by more than 5 minutes, or it tells of too many nodes".into(),
            ));
        }
        let delegated = self.state.delegations.get(site).filter(|delegated| delegated.node == *node);
        let delegated = delegated.cloned().ok_or(JoinRefusal::NotDelegated(name))?;
        let ca = proven(&request.ca_request, "the key that signs nodes is not proven")?;
        let nats = proven(&request.nats_request, "the key that signs logins is not proven")?;
        let root = self.root_fingerprint().map_err(unavailable)?;
        let due = |held: &DelegatedKeys| {
            let half_ms = held.expires_at_ms.saturating_sub(held.issued_at_ms) / 2;
            (held.ca, held.nats, &held.root) != (ca, nats, &root)
                || now_ms >= held.issued_at_ms.saturating_add(half_ms)
                || request.held_until_ms != held.expires_at_ms
        };
        let is_due = delegated.held.as_ref().is_none_or(due);
        let told = self.take_over(site, &request.nodes, now_ms);
        let chain = match is_due {
            true => self.certify_delegate((site, node), delegated.for_ms, (ca, nats, root), now_ms),
            false => Ok(Vec::new()),
        };
        let chain = chain.map_err(unavailable)?;
        if told || is_due {
            self.save().map_err(unavailable)?;
        }
        self.delegation_grant(site, chain).map_err(unavailable)
    }

    /// The keys that sign logins of nodes of a site.
    pub(crate) fn nats_scopes(&self) -> Vec<(&str, VerifyingKey)> {
        self.state
            .delegations
            .iter()
            .filter_map(|(site, delegated)| Some((site.as_str(), delegated.held.as_ref()?.nats)))
            .collect()
    }

    /// How long certificates of a node are good: a delegate's own as long as its delegation, because nobody else renews them while
    /// the site is cut off.
    pub(crate) fn certificate_ms(&self, site: &str, node: &str) -> u64 {
        let delegated = self.state.delegations.get(site).filter(|delegated| delegated.node == node);
        delegated.map_or(CERTIFICATE_MS, |delegated| delegated.for_ms.max(CERTIFICATE_MS))
    }

    pub(crate) fn drop_delegation(&mut self, site: &str, node: &str, now_ms: u64) -> bool {
        let is_it = self.state.delegations.get(site).is_some_and(|delegated| delegated.node == node);
        if is_it {
            self.state.delegations.remove(site);
            self.claims_changed(now_ms);
        }
        is_it
    }

    /// Servers take claims that were made later than those they have.
    fn claims_changed(&mut self, now_ms: u64) {
        let next_second_ms = self.state.delegations_changed_at_ms.saturating_add(1000);
        self.state.delegations_changed_at_ms = now_ms.max(next_second_ms);
    }

    /// Takes the nodes that a delegate admitted for the authority's own, so that they renew here, too. A name that is another's here
    /// stays so. True if there was anything new.
    fn take_over(&mut self, site: &str, nodes: &[SiteNode], now_ms: u64) -> bool {
        let mut news = false;
        for told in nodes.iter().filter(|told| valid_name(&told.node) && told.revoked_at_ms.is_none()) {
            let name = format!("{site}/{}", told.node);
            let expires_at_ms = told.expires_at_ms.min(now_ms.saturating_add(CERTIFICATE_MS));
            let theirs = Issued {
                node_key: told.node_key,
                operator_key: None,
                nats_key: told.nats_key,
                rights: NatsRights::Node,
                expires_at_ms,
                revoked_at_ms: None,
            };
            let room = self.state.issued.len() < FLEET_NODES_MAX;
            match self.state.issued.get_mut(&name) {
                Some(known) if known.node_key == told.node_key => {
                    news |= known.expires_at_ms < expires_at_ms;
                    known.expires_at_ms = known.expires_at_ms.max(expires_at_ms);
                }
                // As when a node joins here: a name is free again when its node was revoked or is long gone.
                Some(known) if known.revoked_at_ms.is_some() || known.expires_at_ms <= now_ms => {
                    *known = theirs;
                    news = true;
                }
                None if room && !self.state.servers.contains_key(&name) => {
                    self.state.issued.insert(name, theirs);
                    news = true;
                }
                Some(_) | None => {}
            }
        }
        news
    }

    fn certify_delegate(
        &mut self,
        (site, node): (&str, &str),
        for_ms: u64,
        (ca, nats, root): (VerifyingKey, VerifyingKey, String),
        now_ms: u64,
    ) -> Result<Vec<Der>, TrustError> {
        let what = Named::Delegate { site: site.into(), node: node.into() };
        let id = SpiffeId { fleet: self.state.fleet.as_str().into(), what };
        let order = CertificateOrder { id: &id, key: ca, now_ms, for_ms, hosts: &[] };
        let chain = self.chain(&order, self.state.root()?)?;
        let held = DelegatedKeys {
            ca,
            nats,
            root,
            issued_at_ms: now_ms,
            expires_at_ms: now_ms.saturating_add(for_ms),
        };
        let known = self.state.delegations.get_mut(site);
        let known = known.ok_or(TrustError::Crypto("finding a delegation"))?;
        let before = known.held.replace(held);
        if before.is_none_or(|before| before.nats != nats) {
            self.claims_changed(now_ms);
        }
        // The root itself is no part of a path.
        Ok(chain
            .into_iter()
            .filter(|der| !self.state.roots.iter().any(|root| root.certificate.0 == *der))
            .collect())
    }

    fn delegation_grant(&self, site: &str, chain: Vec<Der>) -> Result<DelegationGrant, TrustError> {
        let held = self.state.delegations.get(site).and_then(|delegated| delegated.held.as_ref());
        let held = held.ok_or(TrustError::Crypto("finding a delegation"))?;
        let (_, account, _) = self.state.nats_keys()?;
        let nodes = self.state.issued.iter().filter_map(|(name, issued)| {
            let (of, node) = name.split_once('/')?;
            (of == site).then(|| SiteNode {
                node: node.to_owned(),
                node_key: issued.node_key,
                nats_key: issued.nats_key,
                control: issued.rights != NatsRights::Node,
                expires_at_ms: issued.expires_at_ms,
                revoked_at_ms: issued.revoked_at_ms,
            })
        });
        Ok(DelegationGrant {
            chain: der_texts(chain),
            roots: der_texts(self.state.root_certificates()),
            account: nats_login::key_name(NatsKind::Account, account.verifying()),
            nodes: nodes.collect(),
            policy_version_min: self.state.policy_version_min,
            issued_at_ms: held.issued_at_ms,
            expires_at_ms: held.expires_at_ms,
        })
    }
}

fn described(site: &str, delegated: &Delegated) -> Delegation {
    Delegation {
        site: site.to_owned(),
        node: delegated.node.clone(),
        expires_at_ms: delegated.held.as_ref().map(|held| held.expires_at_ms),
    }
}

/// Nodes that a delegate tells of at a time; the next time it tells of more.
pub const REPORTED_MAX: usize = 32;
/// As long as certificates of a site's server: a site that is cut off for longer has none of either.
pub const DELEGATION_MAX_MS: u64 = 7 * 24 * 60 * 60_000;
const DELEGATION_MIN_MS: u64 = 60 * 60_000;
