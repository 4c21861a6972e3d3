//! A site's delegate: the node that admits and renews edge nodes of its site while the fleet's authority cannot be reached.
//!
//! It lies in one sealed file on a control node of the site. As at the authority every change is on disk before its answer leaves.
//! INVARIANT: its tokens count nowhere else, and the authority's not here, so that no token can be used on both sides of a cut.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::admission::{self, Admissible, Inviter, Rolls};
use crate::ca::{CERTIFICATE_MS, unavailable};
use crate::ca_state::{Issued, Seed, TokenState};
use crate::certificate::{self, CertificateOrder, CertifiedBy, Der, Signer, fingerprint};
use crate::delegation::{DelegationGrant, DelegationRequest, REPORTED_MAX, SiteNode};
use crate::join::{DerText, EnrolRequest, Grant, JoinRefusal, JoinToken, RenewRequest, der_texts, ders};
use crate::nats_login::{self, NatsRights};
use crate::spiffe::{Named, SpiffeId};
use crate::{
    Invitation, Revocation, Sealer, SigningKey, TrustBundle, TrustError, VerifyingKey, private_file,
};

/// The delegate of a site, opened; it may hold no delegation yet, or none any more.
pub struct SiteDelegate {
    path: PathBuf,
    sealer: Arc<Sealer>,
    state: State,
}

#[derive(Serialize, Deserialize)]
struct State {
    fleet: String,
    site: String,
    node: String,
    /// Signs nodes.
    ca: Seed,
    /// Signs logins.
    nats: Seed,
    grant: Option<DelegationGrant>,
    tokens: Vec<TokenState>,
    /// By `site/node`, as at the authority.
    nodes: BTreeMap<String, Issued>,
    /// Those of them that the authority has not been told of, with the ends of their certificates.
    untold: BTreeMap<String, u64>,
}

/// A delegate as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegateOverview {
    /// The fleet.
    pub fleet: String,
    /// The site.
    pub site: String,
    /// When the delegation ends, in Unix milliseconds; none while there is none.
    pub expires_at_ms: Option<u64>,
    /// The nodes of the site that it knows, by name, with the ends of their certificates.
    pub nodes: Vec<SiteNode>,
    /// Nodes that it admitted or renewed and that the authority does not know of yet.
    pub untold: usize,
    /// Ids and ends of invitations that can still be used.
    pub invitations: Vec<(String, u64)>,
}

impl SiteDelegate {
    /// Opens what the state folder holds, or begins with fresh keys and no delegation.
    pub fn load_or_create(
        folder: &Path,
        sealer: Arc<Sealer>,
        (fleet, site, node): (&str, &str, &str),
    ) -> Result<Self, TrustError> {
        let path = folder.join(FILE);
        let Some(sealed) = private_file::read(&path, FILE_BYTES_MAX)? else {
            let made = Self { path, sealer, state: State::new(fleet, site, node)? };
            private_file::create(&made.path, &made.sealed()?)?;
            return Ok(made);
        };
        let fix = "remove it; the next delegation makes a new one, and tokens that were not used are lost";
        let json = sealer.open(SEAL_CONTEXT, &sealed).map(Zeroizing::new);
        let json =
            json.map_err(|_| TrustError::file(&path, "was altered or sealed under another key", fix))?;
        let state: State =
            serde_json::from_slice(&json).map_err(|_| TrustError::file(&path, "holds no delegation", fix))?;
        if (&*state.fleet, &*state.site, &*state.node) != (fleet, site, node) {
            return Err(TrustError::file(&path, "is another node's", fix));
        }
        Ok(Self { path, sealer, state })
    }

    /// The fleet.
    pub fn fleet(&self) -> &str {
        &self.state.fleet
    }

    /// The site.
    pub fn site(&self) -> &str {
        &self.state.site
    }

    /// Asks the authority for a delegation, or for what is new.
    pub fn request(&self, node_key: &SigningKey, now_ms: u64) -> Result<DelegationRequest, TrustError> {
        let State { fleet, site, node, grant, .. } = &self.state;
        let untold = self.state.untold.keys().filter_map(|name| self.state.nodes.get_key_value(name));
        let request = DelegationRequest {
            fleet: fleet.clone(),
            site: site.clone(),
            node: node.clone(),
            ca_request: certificate::request(&self.state.ca.key()?)?,
            nats_request: certificate::request(&self.state.nats.key()?)?,
            held_until_ms: grant.as_ref().map_or(0, |grant| grant.expires_at_ms),
            nodes: untold.filter_map(|(name, issued)| site_node(name, issued)).take(REPORTED_MAX).collect(),
            at_ms: now_ms,
            signature: Vec::new(),
        };
        request.signed(node_key)
    }

    /// Takes an answer of the authority: a delegation, and what it knows of the site. Its word on a name counts. Names of nodes that
    /// were admitted here and that it does not take for its own.
    pub fn granted(
        &mut self,
        request: &DelegationRequest,
        grant: DelegationGrant,
    ) -> Result<Vec<String>, TrustError> {
        let fault = |what: &str| TrustError::Grant(what.to_owned());
        let chain = match (grant.chain.is_empty(), &self.state.grant) {
            (true, Some(held)) => held.chain.clone(),
            _ => grant.chain.clone(),
        };
        let ca = self.state.ca.key()?.verifying();
        let own = chain.first().and_then(|der| certificate::describe(&der.0));
        let what =
            Named::Delegate { site: self.state.site.as_str().into(), node: self.state.node.as_str().into() };
        if own.is_none_or(|own| own.id.what != what || own.key != ca) {
            return Err(fault("it is for another site, node or key"));
        }
        TrustBundle::new(&self.state.fleet, &ders(&grant.roots)).ok_or_else(|| fault("it names no roots"))?;
        let told: BTreeMap<&str, &SiteNode> =
            request.nodes.iter().map(|told| (told.node.as_str(), told)).collect();
        let mut lost = Vec::new();
        for theirs in &grant.nodes {
            let name = format!("{}/{}", self.state.site, theirs.node);
            let mine = self.state.nodes.get(&name);
            if self.state.untold.contains_key(&name) && !told.contains_key(theirs.node.as_str()) {
                continue;
            }
            let same = mine.filter(|mine| mine.node_key == theirs.node_key);
            if same.is_none() && self.state.untold.contains_key(&name) {
                lost.push(name.clone());
            }
            let mine = same.cloned();
            self.state.nodes.insert(name, merged(mine, theirs));
        }
        for told in &request.nodes {
            let name = format!("{}/{}", self.state.site, told.node);
            if grant.nodes.iter().all(|theirs| theirs.node != told.node) {
                self.state.nodes.remove(&name);
                lost.push(name.clone());
            }
            if self.state.untold.get(&name).is_some_and(|until_ms| *until_ms <= told.expires_at_ms) {
                self.state.untold.remove(&name);
            }
        }
        self.state.grant = Some(DelegationGrant { chain, nodes: Vec::new(), ..grant });
        self.save()?;
        Ok(lost)
    }

    /// The authority said that this node is no delegate, or not any more: keys and tokens go, and with them all that could be made.
    pub fn ended(&mut self) -> Result<bool, TrustError> {
        if self.state.grant.is_none() {
            return Ok(false);
        }
        let State { fleet, site, node, .. } = &self.state;
        self.state = State::new(fleet, site, node)?;
        self.save()?;
        Ok(true)
    }

    /// Makes a token that counts at this delegate only, for an edge node of its site.
    pub fn invite(&mut self, invitation: &Invitation, now_ms: u64) -> Result<JoinToken, TrustError> {
        if invitation.site != self.state.site || invitation.control {
            return Err(TrustError::Limit(
                "a site's delegate invites edge nodes of its own site; for others ask the node on which `phalanx fleet init` was run",
            ));
        }
        let grant = self.state.grant.as_ref().filter(|grant| now_ms < grant.expires_at_ms);
        let grant = grant.ok_or(TrustError::Limit("this node's delegation has ended, or has not begun"))?;
        let root = grant.roots.last().map(|root| fingerprint(&root.0));
        let inviter = Inviter {
            fleet: &self.state.fleet,
            root: root.ok_or(TrustError::Crypto("finding the root"))?,
            by: Some(format!("{}/{}", self.state.site, self.state.node)),
            policy_version_min: grant.policy_version_min,
        };
        let token = admission::make_token(&mut self.state.tokens, inviter, (invitation, false), now_ms)?;
        self.save()?;
        Ok(token)
    }

    /// Admits a node whose token was made here. The token is used up on disk before this returns.
    pub fn enrol(&mut self, request: &EnrolRequest, now_ms: u64) -> Result<Grant, JoinRefusal> {
        let Admissible { name, place, again, issued, from_ms } = self.rolls().admissible(request, now_ms)?;
        self.mark(place, Some(name));
        let granted = self.issue(&request.site, &request.node, issued, from_ms);
        if granted.is_err() && !again {
            // Nobody got anything for it.
            self.mark(place, None);
        }
        granted
    }

    /// Fresh certificates and a fresh login for an edge node of the site that proves the key it is enrolled with, wherever that was.
    pub fn renew(&mut self, request: &RenewRequest, now_ms: u64) -> Result<Grant, JoinRefusal> {
        let issued = self.rolls().renewable(request, now_ms)?.clone();
        if issued.rights != NatsRights::Node {
            return Err(JoinRefusal::AuthorityOnly(format!("{}/{}", request.site, request.node)));
        }
        self.issue(&request.site, &request.node, issued, now_ms)
    }

    /// Heeds an operator's order: renews the revoked node no more, unless another key has the name since, and signs nothing more itself
    /// when its own delegation was ended. True if that was so.
    pub fn heed(&mut self, revocation: &Revocation, now_ms: u64) -> Result<bool, TrustError> {
        let issued_at_ms = self.state.grant.as_ref().map_or(u64::MAX, |grant| grant.issued_at_ms);
        // Certificates know no more than seconds.
        let by = CertifiedBy {
            node: self.state.node.as_str().into(),
            delegated_at_ms: issued_at_ms - issued_at_ms % 1000,
        };
        if revocation.ends_delegation(&self.state.site, &by) {
            return self.ended();
        }
        let known = self.state.nodes.get_mut(&format!("{}/{}", revocation.site, revocation.node));
        let meant = |known: &Issued| revocation.node_key.is_none_or(|key| key == known.node_key);
        let Some(known) = known.filter(|known| revocation.up_to_ms > 0 && meant(known)) else {
            return Ok(false);
        };
        if known.revoked_at_ms.is_none() {
            known.revoked_at_ms = Some(now_ms);
            self.save()?;
        }
        Ok(false)
    }

    /// When the delegation ends, in Unix milliseconds; none while there is none.
    pub fn expires_at_ms(&self) -> Option<u64> {
        self.state.grant.as_ref().map(|grant| grant.expires_at_ms)
    }

    /// Whether the authority has yet to be told of nodes.
    pub fn has_news(&self) -> bool {
        !self.state.untold.is_empty()
    }

    /// What there is.
    pub fn overview(&self, now_ms: u64) -> DelegateOverview {
        let open = |token: &&TokenState| token.used_by.is_none() && now_ms < token.expires_at_ms;
        let open = self.state.tokens.iter().filter(open);
        DelegateOverview {
            fleet: self.state.fleet.clone(),
            site: self.state.site.clone(),
            expires_at_ms: self.expires_at_ms(),
            nodes: self.state.nodes.iter().filter_map(|(name, issued)| site_node(name, issued)).collect(),
            untold: self.state.untold.len(),
            invitations: open.map(|token| (token.id.clone(), token.expires_at_ms)).collect(),
        }
    }

    fn issue(&mut self, site: &str, node: &str, issued: Issued, now_ms: u64) -> Result<Grant, JoinRefusal> {
        let (ca, signer) = self.keys().map_err(unavailable)?;
        let held = self.state.grant.as_ref().filter(|grant| now_ms < grant.expires_at_ms);
        let held = held.ok_or_else(|| JoinRefusal::Unavailable(NO_DELEGATION.to_owned()))?;
        if site != self.state.site {
            return Err(JoinRefusal::WrongSite(self.state.site.clone()));
        }
        let expires_at_ms = now_ms.saturating_add(CERTIFICATE_MS).min(held.expires_at_ms);
        let what = Named::Node { site: site.into(), node: node.into() };
        let chain = self.leaf(held, &ca, (what, issued.node_key), (now_ms, expires_at_ms));
        let times = (now_ms, expires_at_ms);
        let grant = Grant {
            fleet: self.state.fleet.clone(),
            site: site.to_owned(),
            node: node.to_owned(),
            chain: chain.map_err(unavailable)?,
            operator_chain: Vec::new(),
            roots: held.roots.clone(),
            nats_login: nats_login::scoped_user(&signer, &held.account, node, issued.nats_key, times),
            nats_url: String::new(),
            enrol: Vec::new(),
            issued_at_ms: now_ms,
            expires_at_ms,
            policy_version_min: held.policy_version_min,
            // Whoever gives the grant out adds the one that this node holds.
            names_key: None,
        };
        let name = format!("{site}/{node}");
        let before = self.state.nodes.insert(name.clone(), Issued { expires_at_ms, ..issued });
        let told = self.state.untold.insert(name.clone(), expires_at_ms);
        if let Err(error) = self.save() {
            // What is not kept was not granted.
            match before {
                Some(before) => self.state.nodes.insert(name.clone(), before),
                None => self.state.nodes.remove(&name),
            };
            match told {
                Some(told) => self.state.untold.insert(name, told),
                None => self.state.untold.remove(&name),
            };
            return Err(unavailable(error));
        }
        Ok(grant)
    }

    fn leaf(
        &self,
        held: &DelegationGrant,
        ca: &SigningKey,
        (what, key): (Named, VerifyingKey),
        (now_ms, until_ms): (u64, u64),
    ) -> Result<Vec<DerText>, TrustError> {
        let id = SpiffeId { fleet: self.state.fleet.as_str().into(), what };
        let own: &Der =
            held.chain.first().map(|der| &der.0).ok_or(TrustError::Crypto("finding a delegation"))?;
        let order =
            CertificateOrder { id: &id, key, now_ms, for_ms: until_ms.saturating_sub(now_ms), hosts: &[] };
        let leaf = certificate::make(&order, ca, Some(&Signer { certificate: own, key: ca }))?;
        let mut chain = der_texts(vec![leaf]);
        chain.extend(held.chain.iter().cloned());
        Ok(chain)
    }

    fn rolls(&self) -> Rolls<'_> {
        Rolls { fleet: &self.state.fleet, tokens: &self.state.tokens, issued: &self.state.nodes }
    }

    fn keys(&self) -> Result<(SigningKey, SigningKey), TrustError> {
        Ok((self.state.ca.key()?, self.state.nats.key()?))
    }

    fn mark(&mut self, place: usize, used_by: Option<String>) {
        if let Some(token) = self.state.tokens.get_mut(place) {
            token.used_by = used_by;
        }
    }

    fn save(&self) -> Result<(), TrustError> {
        private_file::replace(&self.path, &self.sealed()?)
    }

    fn sealed(&self) -> Result<Vec<u8>, TrustError> {
        let json = serde_json::to_vec(&self.state).map(Zeroizing::new);
        let json = json.map_err(|_| TrustError::Crypto("writing a delegation"))?;
        self.sealer.seal(SEAL_CONTEXT, &json)
    }
}

impl State {
    fn new(fleet: &str, site: &str, node: &str) -> Result<Self, TrustError> {
        let seed = || SigningKey::generate().and_then(|key| Seed::of(&key));
        Ok(Self {
            fleet: fleet.to_owned(),
            site: site.to_owned(),
            node: node.to_owned(),
            ca: seed()?,
            nats: seed()?,
            grant: None,
            tokens: Vec::new(),
            nodes: BTreeMap::new(),
            untold: BTreeMap::new(),
        })
    }
}

impl fmt::Debug for SiteDelegate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteDelegate({}/{})", self.state.site, self.state.node)
    }
}

fn merged(mine: Option<Issued>, theirs: &SiteNode) -> Issued {
    let expires_at_ms = mine.as_ref().map_or(0, |mine| mine.expires_at_ms).max(theirs.expires_at_ms);
    let revoked_at_ms = mine.and_then(|mine| mine.revoked_at_ms).or(theirs.revoked_at_ms);
    let rights = if theirs.control { NatsRights::Control } else { NatsRights::Node };
    let (node_key, nats_key) = (theirs.node_key, theirs.nats_key);
    Issued { node_key, operator_key: None, nats_key, rights, expires_at_ms, revoked_at_ms }
}

fn site_node(name: &str, issued: &Issued) -> Option<SiteNode> {
    Some(SiteNode {
        node: name.split_once('/')?.1.to_owned(),
        node_key: issued.node_key,
        nats_key: issued.nats_key,
        control: issued.rights != NatsRights::Node,
        expires_at_ms: issued.expires_at_ms,
        revoked_at_ms: issued.revoked_at_ms,
    })
}

/// Where it lies in its node's state folder.
pub const FILE: &str = "delegation";
const FILE_BYTES_MAX: usize = 1024 * 1024;
const SEAL_CONTEXT: &str = "fleet delegation";
const NO_DELEGATION: &str = "this node holds no delegation of the fleet's authority at the moment";

#[cfg(test)]
#[path = "delegate_tests.rs"]
mod tests;
