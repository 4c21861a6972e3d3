//! A fleet's own authority: its root, its intermediates, its operator at NATS, its invitations and whom it enrolled.
//!
//! It lives in one sealed file on one control node. Every change is on disk before its answer leaves, so that a token is used
//! once even if the machine fails in between.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::admission::{self, Admissible, Inviter, Rolls};
use crate::ca_state::{CaKey, Issued, State};
use crate::certificate::{self, CertificateOrder, Der, Signer, fingerprint};
use crate::join::{DerText, EnrolRequest, Grant, JoinRefusal, JoinToken, NodeKeys, RenewRequest, der_texts};
use crate::nats_login::{self, NatsKind, NatsRights, NatsUser};
use crate::spiffe::{Named, SpiffeId};
use crate::{
    Sealer, SigningKey, TrustBundle, TrustError, VerifyingKey, private_file, random_bytes, valid_name,
};

/// The authority, opened.
pub struct FleetAuthority {
    path: PathBuf,
    sealer: Arc<Sealer>,
    pub(crate) state: State,
}

/// What an invitation is for.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// The joiner's site.
    pub site: String,
    /// Whether it may act for operators.
    pub control: bool,
    /// Where it enrols.
    pub addresses: Vec<String>,
    /// How long the token is good, in milliseconds.
    pub for_ms: u64,
}

/// What the authority is asked to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// The fleet.
    pub fleet: String,
    /// SHA-256 of the root that signs.
    pub root: String,
    /// When that root ends, in Unix milliseconds.
    pub root_expires_at_ms: u64,
    /// Whether an older root is still believed.
    pub changing_root: bool,
    /// Sites with an intermediate.
    pub sites: Vec<String>,
    /// The nodes enrolled.
    pub nodes: Vec<EnrolledNode>,
    /// Invitations that are neither used nor over.
    pub invitations: Vec<OpenInvitation>,
}

/// A node that was enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolledNode {
    /// Its site.
    pub site: String,
    /// Its name.
    pub node: String,
    /// Whether it may act for operators.
    pub control: bool,
    /// When its certificate ends, in Unix milliseconds.
    pub expires_at_ms: u64,
    /// When it was revoked, in Unix milliseconds.
    pub revoked_at_ms: Option<u64>,
}

/// An invitation that can still be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenInvitation {
    /// Names the token; no secret.
    pub id: String,
    /// Its site.
    pub site: String,
    /// Whether the joiner may act for operators.
    pub control: bool,
    /// When it ends, in Unix milliseconds.
    pub expires_at_ms: u64,
}

/// A certificate chain and its key, for a TLS server.
pub struct ServerIdentity {
    /// The chain, leaf first.
    pub chain: Vec<Der>,
    /// The key.
    pub key: SigningKey,
    /// When the certificate ends, in Unix milliseconds.
    pub expires_at_ms: u64,
}

/// What a nats-server in operator mode is configured with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatsOperator {
    /// The operator's claims.
    pub operator: String,
    /// The account that nodes log in to: its key's name and its claims.
    pub account: (String, String),
    /// The system account: its key's name and its claims.
    pub system: (String, String),
}

impl FleetAuthority {
    /// Makes a fleet's authority in a state folder. Refused if there is one.
    pub fn create(
        folder: &Path,
        sealer: Arc<Sealer>,
        fleet: Option<&str>,
        now_ms: u64,
    ) -> Result<Self, TrustError> {
        let path = folder.join(FILE);
        if path.exists() {
            let fix = "there is nothing to do: `phalanx fleet status` shows it";
            return Err(TrustError::file(
                &path,
                "there is a fleet authority in this state folder already",
                fix,
            ));
        }
        let fleet = match fleet {
            Some(fleet) => fleet.to_owned(),
            None => format!("fleet-{}", data_encoding::HEXLOWER.encode(&random_bytes::<6>())),
        };
        if !valid_name(&fleet) {
            return Err(TrustError::file(
                &path,
                "the fleet id is no name",
                "use 1 to 63 of a-z, 0-9, - and _",
            ));
        }
        let state = State::new(fleet.clone(), root(&fleet, now_ms)?, now_ms)?;
        let mut authority = Self { path, sealer, state };
        // Made now, so that nothing but a running node changes the file later.
        authority.state.services = Some(authority.intermediate(&Named::Services, now_ms)?);
        private_file::create(&authority.path, &authority.sealed()?)?;
        Ok(authority)
    }

    /// Opens the authority of a state folder, if there is one.
    pub fn open(folder: &Path, sealer: Arc<Sealer>) -> Result<Option<Self>, TrustError> {
        let path = folder.join(FILE);
        let Some(sealed) = private_file::read(&path, FILE_BYTES_MAX)? else { return Ok(None) };
        let fix = "restore it together with the key that seals it; without it the fleet cannot enrol or renew nodes";
        let json = sealer.open(SEAL_CONTEXT, &sealed).map(Zeroizing::new);
        let json =
            json.map_err(|_| TrustError::file(&path, "was altered or sealed under another key", fix))?;
        let state =
            serde_json::from_slice(&json).map_err(|_| TrustError::file(&path, "holds no authority", fix))?;
        Ok(Some(Self { path, sealer, state }))
    }

    /// The fleet.
    pub fn fleet(&self) -> &str {
        &self.state.fleet
    }

    /// The roots to believe.
    pub fn bundle(&self) -> Option<TrustBundle> {
        TrustBundle::new(&self.state.fleet, &self.state.root_certificates())
    }

    /// The SHA-256 of the root that signs.
    pub fn root_fingerprint(&self) -> Result<String, TrustError> {
        Ok(fingerprint(&self.state.root()?.certificate.0))
    }

    /// Makes a token. Its secret is in the answer and nowhere else.
    pub fn invite(&mut self, invitation: &Invitation, now_ms: u64) -> Result<JoinToken, TrustError> {
        self.invite_as(invitation, false, now_ms)
    }

    pub(crate) fn invite_as(
        &mut self,
        invitation: &Invitation,
        server: bool,
        now_ms: u64,
    ) -> Result<JoinToken, TrustError> {
        let inviter = Inviter {
            fleet: &self.state.fleet,
            root: self.root_fingerprint()?,
            by: None,
            policy_version_min: self.state.policy_version_min,
        };
        let token = admission::make_token(&mut self.state.tokens, inviter, (invitation, server), now_ms)?;
        self.issuer(&Named::Site(invitation.site.as_str().into()), now_ms)?;
        self.save()?;
        Ok(token)
    }

    /// Sets the lowest policy version that joiners and renewing nodes may accept. It only rises.
    pub fn raise_policy_version_min(&mut self, version: u64) -> Result<(), TrustError> {
        if version > self.state.policy_version_min {
            self.state.policy_version_min = version;
            self.save()?;
        }
        Ok(())
    }

    /// Admits a node whose token is good. The token is used up on disk before this returns.
    pub fn enrol(&mut self, request: &EnrolRequest, now_ms: u64) -> Result<Grant, JoinRefusal> {
        let Admissible { name, place, again, issued, from_ms } = self.rolls().admissible(request, now_ms)?;
        if self.state.servers.contains_key(&name) {
            return Err(JoinRefusal::NameTaken(name));
        }
        self.mark(place, Some(name));
        let granted = self.issue(&request.site, &request.node, issued, from_ms).map_err(unavailable);
        if granted.is_err() && !again {
            // Nobody got anything for it.
            self.mark(place, None);
        }
        granted
    }

    /// Fresh certificates and a fresh login for a node that proves the key it is enrolled with.
    pub fn renew(&mut self, request: &RenewRequest, now_ms: u64) -> Result<Grant, JoinRefusal> {
        let issued = self.rolls().renewable(request, now_ms)?.clone();
        self.issue(&request.site, &request.node, issued, now_ms).map_err(unavailable)
    }

    /// Enrols the very node that holds the authority.
    pub fn enrol_self(
        &mut self,
        site: &str,
        node: &str,
        keys: &NodeKeys<'_>,
        now_ms: u64,
    ) -> Result<Grant, TrustError> {
        let issued = Issued {
            node_key: keys.node.verifying(),
            operator_key: keys.operator.map(SigningKey::verifying),
            nats_key: keys.nats.verifying(),
            rights: NatsRights::Steward,
            expires_at_ms: 0,
            revoked_at_ms: None,
        };
        self.issue(site, node, issued, now_ms)
    }

    /// Renews a node, or a site's server, no more, and ends its NATS logins. False if it was never enrolled, or if another key has the name since.
    pub fn revoke(
        &mut self,
        site: &str,
        node: &str,
        key: Option<VerifyingKey>,
        now_ms: u64,
    ) -> Result<bool, TrustError> {
        let name = format!("{site}/{node}");
        let Some(issued) = self.state.issued.get_mut(&name) else { return self.revoke_server(&name, now_ms) };
        if key.is_some_and(|key| key != issued.node_key) {
            return Ok(false);
        }
        issued.revoked_at_ms.get_or_insert(now_ms);
        let login = nats_login::key_name(NatsKind::User, issued.nats_key);
        // A login made in this very second is meant too.
        self.state.nats_revoked.insert(login, now_ms / 1000 + 1);
        self.drop_delegation(site, node, now_ms);
        self.save()?;
        Ok(true)
    }

    /// Begins to sign with a new root. The old one stays believed, and signs the new one, until [`Self::finish_root_change`].
    pub fn change_root(&mut self, now_ms: u64) -> Result<(), TrustError> {
        if self.state.roots.len() > 1 {
            return Err(TrustError::Limit(
                "a change of root is under way; end it with `phalanx fleet rollover --finish`",
            ));
        }
        let fresh = root(&self.state.fleet, now_ms)?;
        let id = SpiffeId { fleet: self.state.fleet.as_str().into(), what: Named::Fleet };
        let key = fresh.key()?;
        let order =
            CertificateOrder { id: &id, key: key.verifying(), now_ms, for_ms: INTERMEDIATE_MS, hosts: &[] };
        let cross = {
            let old = self.state.root()?;
            let old_key = old.key()?;
            let signer = Signer { certificate: &old.certificate.0, key: &old_key };
            certificate::make(&order, &key, Some(&signer))?
        };
        self.state.cross = vec![DerText(cross)];
        self.state.roots.push(fresh);
        // Intermediates are made anew, under the new root, when they are next needed.
        self.state.sites.clear();
        self.state.services = Some(self.intermediate(&Named::Services, now_ms)?);
        self.save()
    }

    /// Believes the newest root only. Right once every node has renewed since the change began.
    pub fn finish_root_change(&mut self) -> Result<bool, TrustError> {
        let old = self.state.roots.len().saturating_sub(1);
        self.state.roots.drain(..old);
        self.state.cross.clear();
        self.save()?;
        Ok(old > 0)
    }

    /// A certificate for a server of the fleet, reachable at `hosts`.
    pub fn server(
        &mut self,
        service: &str,
        hosts: &[String],
        for_ms: u64,
        now_ms: u64,
    ) -> Result<ServerIdentity, TrustError> {
        let key = SigningKey::generate()?;
        let id = SpiffeId { fleet: self.state.fleet.as_str().into(), what: Named::Service(service.into()) };
        let issuer = self.issuer(&Named::Services, now_ms)?;
        let order = CertificateOrder { id: &id, key: key.verifying(), now_ms, for_ms, hosts };
        let mut chain = self.chain(&order, &issuer)?;
        // A joiner that knows no more than a root's fingerprint finds the root itself in the chain, also with a token from before
        // a change of root.
        chain.extend(self.state.root_certificates());
        Ok(ServerIdentity { chain, key, expires_at_ms: now_ms.saturating_add(for_ms) })
    }

    /// The claims that nats-server is configured with. The same each time, so that a server reads its configuration again without
    /// objecting that its operator changed.
    pub fn nats_operator(&self) -> Result<NatsOperator, TrustError> {
        let (operator, account, system) = self.state.nats_keys()?;
        let name = |key: &SigningKey| nats_login::key_name(NatsKind::Account, key.verifying());
        let made_at_ms = self.state.made_at_ms;
        let revoked_at_ms = self.state.nats_revoked.values().max().map(|second| second * 1000);
        let changed_at_ms = revoked_at_ms.unwrap_or_default().max(self.state.delegations_changed_at_ms);
        let account_claims = self.nats_account(made_at_ms.max(changed_at_ms))?;
        Ok(NatsOperator {
            operator: nats_login::operator(&operator, &self.state.fleet, system.verifying(), made_at_ms),
            account: (name(&account), account_claims),
            system: (name(&system), nats_login::system_account(&operator, system.verifying(), made_at_ms)),
        })
    }

    /// The claims of the account that nodes log in to, with the logins that are revoked and the keys of delegates.
    pub fn nats_account(&self, now_ms: u64) -> Result<String, TrustError> {
        let (operator, account, _) = self.state.nats_keys()?;
        let revoked = self.state.nats_revoked.iter().map(|(key, second)| (key.as_str(), *second));
        let (fleet, scopes) = (&self.state.fleet, self.nats_scopes());
        Ok(nats_login::account(&operator, fleet, account.verifying(), revoked, &scopes, now_ms))
    }

    /// A login to the system account for a moment, with its key.
    pub fn nats_system_login(&self, now_ms: u64) -> Result<(String, SigningKey), TrustError> {
        let (_, _, system) = self.state.nats_keys()?;
        let key = SigningKey::generate()?;
        Ok((nats_login::system_user(&system, key.verifying(), now_ms), key))
    }

    /// The sites that have been invited to or enrolled.
    pub fn sites(&self) -> Vec<String> {
        let mut sites: Vec<String> = self.state.sites.keys().cloned().collect();
        sites.extend(self.state.issued.keys().filter_map(|name| name.split('/').next()).map(str::to_owned));
        sites.sort();
        sites.dedup();
        sites
    }

    /// What there is.
    pub fn overview(&self, now_ms: u64) -> Result<Overview, TrustError> {
        let root = self.state.root()?;
        let ends = certificate::describe(&root.certificate.0).map(|certified| certified.expires_at_ms);
        let nodes = self.state.issued.iter().filter_map(|(name, issued)| {
            let (site, node) = name.split_once('/')?;
            Some(EnrolledNode {
                site: site.to_owned(),
                node: node.to_owned(),
                control: issued.rights != NatsRights::Node,
                expires_at_ms: issued.expires_at_ms,
                revoked_at_ms: issued.revoked_at_ms,
            })
        });
        let open =
            self.state.tokens.iter().filter(|token| token.used_by.is_none() && now_ms < token.expires_at_ms);
        Ok(Overview {
            fleet: self.state.fleet.clone(),
            root: fingerprint(&root.certificate.0),
            root_expires_at_ms: ends.unwrap_or_default(),
            changing_root: self.state.roots.len() > 1,
            sites: self.sites(),
            nodes: nodes.collect(),
            invitations: open
                .map(|token| OpenInvitation {
                    id: token.id.clone(),
                    site: token.site.clone(),
                    control: token.control,
                    expires_at_ms: token.expires_at_ms,
                })
                .collect(),
        })
    }

    pub(crate) fn mark(&mut self, place: usize, used_by: Option<String>) {
        if let Some(token) = self.state.tokens.get_mut(place) {
            token.used_by = used_by;
        }
    }

    /// The token that a request names and proves.
    pub(crate) fn token_place(&self, id: &str, secret: &str) -> Option<usize> {
        admission::token_place(&self.state.tokens, id, secret)
    }

    fn rolls(&self) -> Rolls<'_> {
        Rolls { fleet: &self.state.fleet, tokens: &self.state.tokens, issued: &self.state.issued }
    }

    fn issue(&mut self, site: &str, node: &str, issued: Issued, now_ms: u64) -> Result<Grant, TrustError> {
        let fleet: Arc<str> = self.state.fleet.as_str().into();
        let issuer = self.issuer(&Named::Site(site.into()), now_ms)?;
        let for_ms = self.certificate_ms(site, node);
        let certify = |what, key| {
            let id = SpiffeId { fleet: Arc::clone(&fleet), what };
            self.chain(&CertificateOrder { id: &id, key, now_ms, for_ms, hosts: &[] }, &issuer)
        };
        let chain = certify(Named::Node { site: site.into(), node: node.into() }, issued.node_key)?;
        let operator = issued
            .operator_key
            .map(|key| certify(Named::Operator { site: site.into(), node: node.into() }, key));
        let operator_chain = operator.transpose()?.unwrap_or_default();
        let expires_at_ms = now_ms.saturating_add(for_ms);
        let (_, account, _) = self.state.nats_keys()?;
        let user = NatsUser { site, node, key: issued.nats_key, rights: issued.rights };
        let grant = Grant {
            fleet: self.state.fleet.clone(),
            site: site.to_owned(),
            node: node.to_owned(),
            chain: der_texts(chain),
            operator_chain: der_texts(operator_chain),
            roots: der_texts(self.state.root_certificates()),
            nats_login: nats_login::node_user(&account, &user, now_ms, expires_at_ms),
            nats_url: String::new(),
            enrol: Vec::new(),
            issued_at_ms: now_ms,
            expires_at_ms,
            policy_version_min: self.state.policy_version_min,
            names_key: Some(self.state.nats_operator.names_key()),
        };
        let name = format!("{site}/{node}");
        let before = self.state.issued.insert(name.clone(), Issued { expires_at_ms, ..issued });
        if let Err(error) = self.save() {
            // What is not kept was not granted.
            match before {
                Some(before) => self.state.issued.insert(name, before),
                None => self.state.issued.remove(&name),
            };
            return Err(error);
        }
        Ok(grant)
    }

    /// A leaf with what leads to every root that is believed.
    pub(crate) fn chain(&self, order: &CertificateOrder<'_>, issuer: &CaKey) -> Result<Vec<Der>, TrustError> {
        let key = issuer.key()?;
        let signer = Signer { certificate: &issuer.certificate.0, key: &key };
        let leaf = certificate::make(order, &key, Some(&signer))?;
        let mut chain = vec![leaf, issuer.certificate.0.clone()];
        chain.extend(self.state.cross.iter().map(|der| der.0.clone()));
        Ok(chain)
    }

    /// The intermediate of a site, or for servers; made when first needed, and anew well before it ends.
    pub(crate) fn issuer(&mut self, what: &Named, now_ms: u64) -> Result<CaKey, TrustError> {
        let known = match what {
            Named::Site(site) => self.state.sites.get(&**site),
            _ => self.state.services.as_ref(),
        };
        let ends = known
            .and_then(|known| certificate::describe(&known.certificate.0))
            .map(|known| known.expires_at_ms);
        if let (Some(known), true) =
            (known, ends.is_some_and(|ends| ends > now_ms.saturating_add(INTERMEDIATE_MS / 2)))
        {
            return Ok(known.clone());
        }
        let made = self.intermediate(what, now_ms)?;
        match what {
            Named::Site(site) => {
                self.state.sites.insert(site.to_string(), made.clone());
            }
            _ => self.state.services = Some(made.clone()),
        }
        self.save()?;
        Ok(made)
    }

    fn intermediate(&self, what: &Named, now_ms: u64) -> Result<CaKey, TrustError> {
        let key = SigningKey::generate()?;
        let id = SpiffeId { fleet: self.state.fleet.as_str().into(), what: what.clone() };
        let root = self.state.root()?;
        let root_key = root.key()?;
        let signer = Signer { certificate: &root.certificate.0, key: &root_key };
        let order =
            CertificateOrder { id: &id, key: key.verifying(), now_ms, for_ms: INTERMEDIATE_MS, hosts: &[] };
        CaKey::new(certificate::make(&order, &key, Some(&signer))?, &key)
    }

    pub(crate) fn save(&self) -> Result<(), TrustError> {
        private_file::replace(&self.path, &self.sealed()?)
    }

    fn sealed(&self) -> Result<Vec<u8>, TrustError> {
        let json = serde_json::to_vec(&self.state).map(Zeroizing::new);
        let json = json.map_err(|_| TrustError::Crypto("writing the authority"))?;
        self.sealer.seal(SEAL_CONTEXT, &json)
    }
}

impl fmt::Debug for FleetAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetAuthority").field("fleet", &self.state.fleet).finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity").field("key", &self.key).finish_non_exhaustive()
    }
}

fn root(fleet: &str, now_ms: u64) -> Result<CaKey, TrustError> {
    let key = SigningKey::generate()?;
    let id = SpiffeId { fleet: fleet.into(), what: Named::Fleet };
    let order = CertificateOrder { id: &id, key: key.verifying(), now_ms, for_ms: ROOT_MS, hosts: &[] };
    CaKey::new(certificate::make(&order, &key, None)?, &key)
}

pub(crate) fn proven(request: &[u8], fault: &str) -> Result<VerifyingKey, JoinRefusal> {
    certificate::requested_key(request).ok_or_else(|| JoinRefusal::Malformed(fault.to_owned()))
}

pub(crate) fn unavailable(error: TrustError) -> JoinRefusal {
    JoinRefusal::Unavailable(error.to_string())
}

/// Where the authority lies in its node's state folder.
pub const FILE: &str = "fleet-authority";
/// How long certificates and logins of nodes are valid: a stolen one that nobody noticed ends by itself.
pub const CERTIFICATE_MS: u64 = DAY_MS;
/// How long after its certificate's end a node may still renew it with its key: a machine that was off over a holiday comes back.
pub const RENEWABLE_FOR_MS: u64 = 30 * DAY_MS;
/// The longest time that a token is good.
pub const TOKEN_MAX_MS: u64 = 7 * DAY_MS;
const ROOT_MS: u64 = 10 * 365 * DAY_MS;
const INTERMEDIATE_MS: u64 = 365 * DAY_MS;
const DAY_MS: u64 = 24 * 60 * 60_000;
const FILE_BYTES_MAX: usize = 1024 * 1024;
const SEAL_CONTEXT: &str = "fleet authority";

#[cfg(test)]
#[path = "ca_tests.rs"]
pub(crate) mod tests;
