//! Keys, seals and signed records: what a node needs to keep secrets at rest and to prove who said what.
//!
//! Flow in names: key file (0600) -> `Sealer` -> sealed state and `SigningKey`; `SigningKey` -> `SignedRecord` -> wire ->
//! `TrustRoots::verify` -> `authority` (what this author may say) -> applied. Console and API: `AdminToken`, `LoginTickets`, `Sessions`.
//!
//! INVARIANT: no secret appears in `Debug`, in an error or in a log; secrets in our own memory are overwritten when dropped.
//! INVARIANT: the transport proves nothing. A record counts because its signature does.

pub mod error;
pub mod random;

pub mod private_file;
pub mod seal;

pub mod key;
pub mod secret;

mod admission;
pub mod authority;
pub mod record;
pub mod roots;

pub mod announce;
pub mod ca;
mod ca_servers;
mod ca_state;
pub mod certificate;
pub mod delegate;
pub mod delegation;
pub mod git_id;
pub mod join;
pub mod membership;
pub mod names;
pub mod nats_config;
pub mod nats_links;
pub mod nats_login;
pub mod passes;
pub mod revocation;
pub mod sealed_to;
pub mod served;
pub mod session;
pub mod site_server;
pub mod spiffe;
pub mod tickets;
pub mod tls;
pub mod token;

pub mod api_keys;
pub mod passkey;
pub mod password;
pub mod totp;

pub mod oidc;
pub mod operators;

pub use announce::{Admission, Admitted, Announcement, NodeRecord, Validity, valid_name};
pub use api_keys::{ApiKey, ApiKeyError, ApiKeys};
pub use ca::{FleetAuthority, Invitation};
pub use certificate::{Certified, TrustBundle};
pub use delegate::SiteDelegate;
pub use error::{Refusal, TrustError};
pub use git_id::git_blob_id;
pub use join::{EnrolRequest, Grant, JoinRefusal, JoinToken, NodeKeys, RenewRequest};
pub use key::{KeyId, SigningKey, VerifyingKey};
pub use membership::Membership;
pub use names::NamesKey;
pub use operators::{
    By, Heeded, Merged, NewOperator, Operator, OperatorChange, OperatorFault, OperatorToken, Operators,
    Passkey, PresentedPasskey, Provided, RevokedNode, Role,
};
pub use passes::{PASS_TAG_BYTES, PassKeys, SignedFor};
pub use passkey::{Ceremony, PasskeyChallenges, PasskeyFault};
pub use password::{PasswordHash, password_fault};
pub use random::{random_bytes, random_u64};
pub use record::{SignedRecord, Statement};
pub use revocation::Revocation;
pub use roots::{HadKey, Pinned, TrustRoots};
pub use seal::Sealer;
pub use sealed_to::{OpeningKey, seal_to};
pub use secret::FleetSecret;
pub use served::{ServedCertificate, ServedFault};
pub use session::{AccountAt, Browser, LoginFor, LoginTickets, Session, Sessions};
pub use site_server::{ServerGrant, ServerKeys, ServerPlace, ServerRenewal, ServerRequest};
pub use spiffe::{Named, SpiffeId};
pub use tickets::{TicketKeys, Ticketer};
pub use token::AdminToken;
pub use totp::TotpSecret;

/// The SHA-256 of these bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    token::digest(bytes)
}
