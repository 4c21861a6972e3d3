//! What travels when a node joins: the token that invites it, its request, and what it is granted.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::certificate::{self, Der};
use crate::record::base64_bytes;
use crate::{NamesKey, SigningKey, TrustError, VerifyingKey};

/// An invitation: good once, for one site, until it expires. Who holds it can join, so it is handed over like a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// The fleet.
    pub fleet: String,
    /// The site that the joiner will run in.
    pub site: String,
    /// Whether the joiner may act for operators.
    pub control: bool,
    /// Where to enrol: `HOST:PORT`.
    pub addresses: Vec<String>,
    /// The SHA-256 of the fleet's root, by which the joiner knows whom it talks to.
    pub root: String,
    /// Names the token; no secret.
    pub id: String,
    /// What makes it a token.
    pub secret: String,
    /// When it ends, in Unix milliseconds.
    pub expires_at_ms: u64,
    /// The lowest policy version that the joiner may accept.
    pub policy_version_min: u64,
    /// The delegate that made it, `SITE/NODE`, and the only one at which it counts; none for one of the authority's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl JoinToken {
    /// The token as it is handed over.
    pub fn to_text(&self) -> Result<String, TrustError> {
        let json = serde_json::to_vec(self).map_err(|_| TrustError::Crypto("writing a token"))?;
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json)))
    }

    /// Reads a token. What it says is checked by who issued it.
    pub fn parse(text: &str) -> Result<Self, JoinRefusal> {
        let body = text.trim().strip_prefix(PREFIX).filter(|body| body.len() <= TEXT_BYTES_MAX);
        let json = body.and_then(|body| URL_SAFE_NO_PAD.decode(body).ok());
        let token = json.and_then(|json| serde_json::from_slice::<Self>(&json).ok());
        token.filter(|token| token.addresses.len() <= ADDRESSES_MAX).ok_or(JoinRefusal::NoToken)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("fleet", &self.fleet)
            .field("site", &self.site)
            .finish_non_exhaustive()
    }
}

/// The keys of a node that wants to be, or is, enrolled.
#[derive(Debug, Clone, Copy)]
pub struct NodeKeys<'a> {
    /// What the node says on its own.
    pub node: &'a SigningKey,
    /// What operators say through it.
    pub operator: Option<&'a SigningKey>,
    /// Its login to NATS. A key of its own, because the server chooses the bytes that it signs.
    pub nats: &'a SigningKey,
}

/// A request to join.
#[derive(Clone, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The token's fleet.
    pub fleet: String,
    /// The token's id.
    pub token: String,
    /// The token's secret.
    pub secret: String,
    /// The site.
    pub site: String,
    /// The name that the node wants.
    pub node: String,
    /// The request for the node's certificate.
    #[serde(with = "base64_bytes")]
    pub node_request: Der,
    /// The request for the operator certificate, if the token allows one; empty otherwise.
    #[serde(with = "base64_bytes", default)]
    pub operator_request: Der,
    /// The request that proves the NATS login key.
    #[serde(with = "base64_bytes")]
    pub nats_request: Der,
}

impl EnrolRequest {
    /// The request of a node with these keys.
    pub fn make(token: &JoinToken, site: &str, node: &str, keys: &NodeKeys<'_>) -> Result<Self, TrustError> {
        let operator = keys.operator.filter(|_| token.control).map(certificate::request).transpose()?;
        Ok(Self {
            fleet: token.fleet.clone(),
            token: token.id.clone(),
            secret: token.secret.clone(),
            site: site.to_owned(),
            node: node.to_owned(),
            node_request: certificate::request(keys.node)?,
            operator_request: operator.unwrap_or_default(),
            nats_request: certificate::request(keys.nats)?,
        })
    }
}

impl fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolRequest")
            .field("site", &self.site)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// A request for fresh certificates and a fresh login, signed with the node key that is enrolled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RenewRequest {
    /// The fleet.
    pub fleet: String,
    /// The site.
    pub site: String,
    /// The node.
    pub node: String,
    /// When it was written, in Unix milliseconds.
    pub at_ms: u64,
    /// The signature.
    #[serde(with = "base64_bytes")]
    pub signature: Vec<u8>,
}

impl RenewRequest {
    /// A signed request.
    pub fn make(fleet: &str, site: &str, node: &str, key: &SigningKey, now_ms: u64) -> Self {
        let mut request = Self {
            fleet: fleet.into(),
            site: site.into(),
            node: node.into(),
            at_ms: now_ms,
            signature: Vec::new(),
        };
        request.signature = key.sign(&request.signing_bytes()).to_vec();
        request
    }

    /// Whether this key signed it.
    pub fn is_signed_by(&self, key: VerifyingKey) -> bool {
        key.verify(&self.signing_bytes(), &self.signature)
    }

    fn signing_bytes(&self) -> Vec<u8> {
        let mut bytes = b"phalanx renewal\0".to_vec();
        for part in [&self.fleet, &self.site, &self.node] {
            bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes.extend_from_slice(&self.at_ms.to_be_bytes());
        bytes
    }
}

/// What an enrolled node holds. But for the key for names, none of it is secret without the node's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The fleet.
    pub fleet: String,
    /// The site.
    pub site: String,
    /// The node.
    pub node: String,
    /// The node's certificate, its site's, and during a change of root one more.
    pub chain: Vec<DerText>,
    /// The operator certificate and what leads to the root; empty for a node that may not act for operators.
    #[serde(default)]
    pub operator_chain: Vec<DerText>,
    /// The roots to believe.
    pub roots: Vec<DerText>,
    /// The login to NATS.
    pub nats_login: String,
    /// Where NATS is; empty to keep what is known.
    pub nats_url: String,
    /// Where to renew; empty to keep what is known.
    pub enrol: Vec<String>,
    /// When it was made, in Unix milliseconds.
    pub issued_at_ms: u64,
    /// When certificates and login end, in Unix milliseconds.
    pub expires_at_ms: u64,
    /// The lowest policy version that the node may accept.
    pub policy_version_min: u64,
    /// What names of accounts and sessions are hashed with; none from an authority of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names_key: Option<NamesKey>,
}

/// A certificate in JSON: DER in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DerText(#[serde(with = "base64_bytes")] pub Der);

/// The bytes of certificates.
pub fn ders(texts: &[DerText]) -> Vec<Der> {
    texts.iter().map(|text| text.0.clone()).collect()
}

/// Certificates for JSON.
pub fn der_texts(ders: Vec<Der>) -> Vec<DerText> {
    ders.into_iter().map(DerText).collect()
}

/// Why a node may not join or renew. Told to the node: cause and fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "code", content = "detail")]
pub enum JoinRefusal {
    /// The text is no token.
    #[error(
        "this is no join token, or not all of it; copy the whole line that `phalanx fleet invite` printed"
    )]
    NoToken,
    /// The token belongs to another fleet, or was never issued.
    #[error(
        "the token was not issued by this fleet; get one with `phalanx fleet invite` on a control node of it"
    )]
    Foreign,
    /// The token was used.
    #[error(
        "the token has been used, by {0}; a token admits one node, so get another with `phalanx fleet invite`"
    )]
    Used(String),
    /// The token's time is over.
    #[error(
        "the token has expired; get another with `phalanx fleet invite`, and compare the clocks if it is fresh"
    )]
    Expired,
    /// The token is for another site.
    #[error("the token is for site {0}; start the node with --site {0}, or get a token for its site")]
    WrongSite(String),
    /// The name is taken.
    #[error(
        "{0} is enrolled with another key; choose another --node, or revoke it first with `phalanx fleet revoke`"
    )]
    NameTaken(String),
    /// The request is not in order.
    #[error("the request is not in order: {0}")]
    Malformed(String),
    /// The node is not enrolled.
    #[error("{0} is not enrolled in this fleet, or for too long not renewed; join it again with a new token")]
    NotEnrolled(String),
    /// The node was revoked.
    #[error(
        "{0} was revoked by an operator; if it may come back, join it again with a new token and new state"
    )]
    Revoked(String),
    /// The node is no delegate.
    #[error("{0} is no delegate of the fleet's authority; make it one with `phalanx fleet delegate {0}`")]
    NotDelegated(String),
    /// The delegate may not do this.
    #[error("{0} has the control role, which only the fleet's authority itself gives and renews")]
    AuthorityOnly(String),
    /// The authority cannot serve now.
    #[error("the fleet's authority cannot do this now: {0}; try again later")]
    Unavailable(String),
}

const PREFIX: &str = "phxjoin-";
const TEXT_BYTES_MAX: usize = 8192;
pub(crate) const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            fleet: "f".into(),
            site: "fra".into(),
            control: false,
            addresses: vec!["192.0.2.1:8901".into()],
            root: "00".into(),
            id: "1".into(),
            secret: "hush".into(),
            expires_at_ms: 5,
            policy_version_min: 7,
            by: None,
        }
    }

    #[test]
    fn a_token_reads_back_and_does_not_show_in_debug() {
        let text = token().to_text().unwrap();
        assert_eq!(JoinToken::parse(&format!(" {text}\n")), Ok(token()));
        assert!(!format!("{:?}", token()).contains("hush"));
        let short: String = text.chars().take(text.len() - 3).collect();
        for cut in ["", "phxjoin-", "xjoin-AAAA", &short, &format!("{text}{text}")] {
            assert_eq!(JoinToken::parse(cut), Err(JoinRefusal::NoToken));
        }
    }

    #[test]
    fn a_renewal_is_signed_as_a_whole() {
        let key = SigningKey::generate().unwrap();
        let request = RenewRequest::make("f", "fra", "a", &key, 5);
        assert!(request.is_signed_by(key.verifying()));
        for changed in [
            RenewRequest { at_ms: 6, ..request.clone() },
            RenewRequest { site: "fr".into(), node: "aa".into(), ..request.clone() },
            RenewRequest { fleet: "g".into(), ..request.clone() },
        ] {
            assert!(!changed.is_signed_by(key.verifying()));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_token_or_a_refusal(text: String) {
            let _ = JoinToken::parse(&text);
            let _ = JoinToken::parse(&format!("{PREFIX}{text}"));
        }
    }
}
