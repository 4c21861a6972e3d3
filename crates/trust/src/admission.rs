//! What is asked of whoever wants to join or renew: the same by the authority and by its delegates.

use std::collections::BTreeMap;

use phalanx_model::limits::{FLEET_INVITATIONS_MAX, FLEET_NODES_MAX};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::ca::{RENEWABLE_FOR_MS, TOKEN_MAX_MS, proven};
use crate::ca_state::{Issued, TokenState};
use crate::certificate::CLOCK_ALLOWANCE_MS;
use crate::join::{DerText, EnrolRequest, JoinRefusal, JoinToken, RenewRequest};
use crate::nats_login::NatsRights;
use crate::{Invitation, TrustError, VerifyingKey, random_bytes, sha256, valid_name};

/// The tokens that one office made, and the nodes that it knows by `site/node`.
#[derive(Clone, Copy)]
pub(crate) struct Rolls<'a> {
    pub(crate) fleet: &'a str,
    pub(crate) tokens: &'a [TokenState],
    pub(crate) issued: &'a BTreeMap<String, Issued>,
}

/// A request to join that may be granted.
pub(crate) struct Admissible {
    /// `site/node`.
    pub(crate) name: String,
    /// Where among the tokens its token is.
    pub(crate) place: usize,
    /// Whether the node lost the answer to an earlier request.
    pub(crate) again: bool,
    pub(crate) issued: Issued,
    /// When its certificates begin.
    pub(crate) from_ms: u64,
}

impl Rolls<'_> {
    /// Judges a request to join by its token, its proofs and its name.
    pub(crate) fn admissible(&self, request: &EnrolRequest, now_ms: u64) -> Result<Admissible, JoinRefusal> {
        if request.fleet != self.fleet {
            return Err(JoinRefusal::Foreign);
        }
        let node_key = proven(&request.node_request, "the node's key is not proven")?;
        let nats_key = proven(&request.nats_request, "the NATS key is not proven")?;
        let operator_key = match request.operator_request.is_empty() {
            true => None,
            false => Some(proven(&request.operator_request, "the operator key is not proven")?),
        };
        if !valid_name(&request.site) || !valid_name(&request.node) {
            return Err(JoinRefusal::Malformed("site or node is no name".into()));
        }
        let name = format!("{}/{}", request.site, request.node);
        let place = token_place(self.tokens, &request.token, &request.secret).ok_or(JoinRefusal::Foreign)?;
        let token = self.tokens.get(place).ok_or(JoinRefusal::Foreign)?;
        if token.server {
            return Err(JoinRefusal::Malformed(
                "the token is for a server; use it with `phalanx fleet serve`".into(),
            ));
        }
        // Who lost the answer may ask again: the same name with the same key gets what it already has.
        let again = token.used_by.as_deref() == Some(name.as_str())
            && self.issued.get(&name).is_some_and(|issued| issued.node_key == node_key);
        if let (Some(by), false) = (&token.used_by, again) {
            return Err(JoinRefusal::Used(by.clone()));
        }
        if now_ms >= token.expires_at_ms {
            return Err(JoinRefusal::Expired);
        }
        if token.site != request.site {
            return Err(JoinRefusal::WrongSite(token.site.clone()));
        }
        if operator_key.is_some() && !token.control {
            return Err(JoinRefusal::Malformed("the token admits no operator key".into()));
        }
        self.name_is_free(&name, node_key, now_ms)?;
        let rights = if token.control { NatsRights::Control } else { NatsRights::Node };
        let issued =
            Issued { node_key, operator_key, nats_key, rights, expires_at_ms: 0, revoked_at_ms: None };
        let from_ms = self.after_revocation(&name, now_ms);
        Ok(Admissible { name, place, again, issued, from_ms })
    }

    /// The node that a request to renew is of, if it proves so.
    pub(crate) fn renewable(&self, request: &RenewRequest, now_ms: u64) -> Result<&Issued, JoinRefusal> {
        if request.fleet != self.fleet {
            return Err(JoinRefusal::Foreign);
        }
        let name = format!("{}/{}", request.site, request.node);
        let issued = self.issued.get(&name).ok_or_else(|| JoinRefusal::NotEnrolled(name.clone()))?;
        if !request.is_signed_by(issued.node_key) {
            return Err(JoinRefusal::NotEnrolled(name));
        }
        if issued.revoked_at_ms.is_some() {
            return Err(JoinRefusal::Revoked(name));
        }
        if request.at_ms.abs_diff(now_ms) > CLOCK_ALLOWANCE_MS {
            return Err(JoinRefusal::Malformed(
                "the clocks of node and authority differ by more than 5 minutes".into(),
            ));
        }
        if now_ms > issued.expires_at_ms.saturating_add(RENEWABLE_FOR_MS) {
            return Err(JoinRefusal::NotEnrolled(name));
        }
        Ok(issued)
    }

    /// Certificates tell whole seconds: one that is made within the second of a revocation would count as one from before it.
    fn after_revocation(&self, name: &str, now_ms: u64) -> u64 {
        let revoked_at_ms = self.issued.get(name).and_then(|before| before.revoked_at_ms);
        revoked_at_ms.map_or(now_ms, |at_ms| now_ms.max((at_ms / 1000 + 1) * 1000))
    }

    fn name_is_free(&self, name: &str, key: VerifyingKey, now_ms: u64) -> Result<(), JoinRefusal> {
        match self.issued.get(name) {
            Some(issued) if issued.revoked_at_ms.is_some() && issued.node_key == key => {
                Err(JoinRefusal::Revoked(name.to_owned()))
            }
            Some(issued)
                if issued.revoked_at_ms.is_none()
                    && issued.node_key != key
                    && now_ms < issued.expires_at_ms =>
            {
                Err(JoinRefusal::NameTaken(name.to_owned()))
            }
            None if self.issued.len() >= FLEET_NODES_MAX => {
                Err(JoinRefusal::Unavailable(format!("{FLEET_NODES_MAX} nodes are enrolled")))
            }
            _ => Ok(()),
        }
    }
}

/// The token that a request names and proves; looked for in constant time per token.
pub(crate) fn token_place(tokens: &[TokenState], id: &str, secret: &str) -> Option<usize> {
    let digest = sha256(secret.as_bytes());
    let mut found = None;
    for (place, token) in tokens.iter().enumerate() {
        if bool::from(token.digest.0.ct_eq(&digest)) && token.id == id {
            found = Some(place);
        }
    }
    found
}

/// Who makes a token, and what joiners must know.
pub(crate) struct Inviter<'a> {
    pub(crate) fleet: &'a str,
    pub(crate) root: String,
    /// The delegate, `site/node`; none for the authority.
    pub(crate) by: Option<String>,
    pub(crate) policy_version_min: u64,
}

/// Makes a token and remembers its digest. Its secret is in the answer and nowhere else.
pub(crate) fn make_token(
    tokens: &mut Vec<TokenState>,
    inviter: Inviter<'_>,
    (invitation, server): (&Invitation, bool),
    now_ms: u64,
) -> Result<JoinToken, TrustError> {
    tokens.retain(|token| now_ms < token.expires_at_ms.saturating_add(TOKEN_REMEMBERED_MS));
    if tokens.len() >= FLEET_INVITATIONS_MAX {
        return Err(TrustError::Limit("too many invitations are remembered; wait until some are a week old"));
    }
    let secret: Zeroizing<[u8; 32]> = Zeroizing::new(random_bytes());
    let token = JoinToken {
        fleet: inviter.fleet.to_owned(),
        site: invitation.site.clone(),
        control: invitation.control,
        addresses: invitation.addresses.clone(),
        root: inviter.root,
        id: data_encoding::HEXLOWER.encode(&random_bytes::<8>()),
        secret: data_encoding::HEXLOWER.encode(secret.as_slice()),
        expires_at_ms: now_ms.saturating_add(invitation.for_ms.min(TOKEN_MAX_MS)),
        policy_version_min: inviter.policy_version_min,
        by: inviter.by,
    };
    tokens.push(TokenState {
        id: token.id.clone(),
        digest: DerText(sha256(token.secret.as_bytes()).to_vec()),
        site: token.site.clone(),
        control: token.control,
        server,
        expires_at_ms: token.expires_at_ms,
        used_by: None,
    });
    Ok(token)
}

const TOKEN_REMEMBERED_MS: u64 = 7 * 24 * 60 * 60_000;
