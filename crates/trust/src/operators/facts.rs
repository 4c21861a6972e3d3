//! What is told of operators outside of this module: no secret is in it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::TrustError;
use crate::passkey::PasskeyPublic;

/// What an operator may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Order and undo decisions, answer incidents.
    Responder,
    /// Change policy and who reads decisions.
    Editor,
    /// Change operators, keys and nodes.
    Owner,
}

/// An operator without his secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Random, for ever his.
    pub id: String,
    /// His name.
    pub name: String,
    /// The name that he was given; he is shown by another one where somebody else has it.
    #[serde(default)]
    pub given_name: String,
    /// What he may do.
    pub role: Role,
    /// The only apps that he may see and act on; all if there is none.
    pub apps: Vec<String>,
    /// When he was added, in Unix milliseconds.
    pub created_at_ms: u64,
    /// By whom.
    pub created_by: String,
    /// He gets in no more.
    pub disabled: bool,
    /// The node on which he was added, as `SITE/NODE`; empty if that was before nodes said so.
    #[serde(default)]
    pub made_on: String,
    /// Another with each change of what he may do, each loss of a credential and each new password: what was begun before is not ended
    /// after, and a session of before ends.
    #[serde(default)]
    pub generation: u64,
    /// His passkeys.
    pub passkeys: Vec<Passkey>,
    /// Tokens that act for him.
    pub tokens: Vec<OperatorToken>,
    /// Whether he has a password and an app for one-time codes.
    #[serde(default)]
    pub password: bool,
    /// Recovery codes that he has left.
    #[serde(default)]
    pub recovery_codes: usize,
}

impl Operator {
    /// Whether he can get in by himself, without a provider.
    pub fn is_enrolled(&self) -> bool {
        self.provider().is_none() && (self.password || !self.passkeys.is_empty())
    }
}

/// A passkey without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passkey {
    /// The authenticator's name for it, in base64url.
    pub id: String,
    /// What its owner calls it.
    pub label: String,
    /// The host that it is for.
    pub host: String,
    /// When it was made, in Unix milliseconds.
    pub created_at_ms: u64,
    /// When it last signed, in Unix milliseconds; 0 if never.
    pub used_at_ms: u64,
}

/// A token without the token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OperatorToken {
    /// Its name among its owner's.
    pub name: String,
    /// What it may do at most; never more than its owner.
    pub role: Role,
    /// The only apps that it may act on; all of its owner's if there is none.
    pub apps: Vec<String>,
    /// When it was made, in Unix milliseconds.
    pub created_at_ms: u64,
    /// When it ends, in Unix milliseconds.
    pub expires_at_ms: u64,
}

/// Somebody to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOperator {
    /// His name.
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// The only apps that he may see and act on; all if there is none.
    pub apps: Vec<String>,
    /// Who adds him.
    pub by: String,
    /// On which node, as `SITE/NODE`.
    pub on: String,
}

/// What to change about an operator; nothing stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OperatorChange {
    /// What he may do.
    pub role: Option<Role>,
    /// The only apps that he may see and act on.
    pub apps: Option<Vec<String>>,
    /// Whether he is kept out.
    pub disabled: Option<bool>,
}

/// Who changes an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Whoever has the node. He gets in without any owner.
    Node,
    /// An operator. He must leave an owner who can get in.
    Operator,
}

/// A passkey that a browser signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedPasskey {
    /// Whose it is.
    pub operator: Arc<str>,
    /// The key.
    pub public: PasskeyPublic,
    /// How often it had signed.
    pub signed: u32,
}

/// Why a change was not made. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum OperatorFault {
    /// There is one of that name.
    #[error("there is one of that name already")]
    Exists,
    /// There is none.
    #[error("there is none of that name")]
    Unknown,
    /// There are as many as there may be.
    #[error("there are as many as are kept")]
    TooMany,
    /// He would be left without any credential.
    #[error("this is the last one; add another first")]
    Last,
    /// Nobody would be left who may change operators.
    #[error("this is the last owner who can get in; make another first, or do it on the node")]
    LastOwner,
    /// The account is not what it was when its owner was asked who he is.
    #[error("the account was changed meanwhile; log in again")]
    Changed,
    /// He was removed, or is kept out.
    #[error("the account was removed, or is kept out")]
    Shut,
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] TrustError),
}

/// What became of accounts that another node told.
#[derive(Debug, Default)]
pub struct Merged {
    /// Those that are now what they were not, without their secrets.
    pub changed: Vec<Operator>,
    /// Why some, or parts of some, were not taken.
    pub refused: Vec<&'static str>,
    /// Why they are in force and not on disk.
    pub unwritten: Option<OperatorFault>,
}

/// What became of accounts because control nodes were revoked.
#[derive(Debug, Default)]
pub struct Heeded {
    /// Whose password is void.
    pub passwords: Vec<String>,
    /// Who has passkeys, tokens or rights no more that came by a revoked node.
    pub others: Vec<String>,
    /// Why that is in force and not on disk.
    pub unwritten: Option<OperatorFault>,
}
