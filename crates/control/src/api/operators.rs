//! Operators, their sessions and how they prove who they are.

use phalanx_trust::{Operator, OperatorToken, Role, Session};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Of an app's name in the limits of an operator.
pub const APP_BYTES_MAX: usize = 128;

/// Whether an operator may be limited to an app of this name.
pub fn is_app_name(app: &str) -> bool {
    (1..=APP_BYTES_MAX).contains(&app.len()) && !app.chars().any(char::is_control)
}

/// What an operator may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    /// Look.
    Viewer,
    /// Order and undo decisions, answer incidents.
    Responder,
    /// Change policy, blocklists and bouncers.
    Editor,
    /// Change operators, keys and nodes.
    Owner,
}

impl From<Role> for OperatorRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Responder => Self::Responder,
            Role::Editor => Self::Editor,
            Role::Owner => Self::Owner,
        }
    }
}

impl From<OperatorRole> for Role {
    fn from(role: OperatorRole) -> Self {
        match role {
            OperatorRole::Viewer => Self::Viewer,
            OperatorRole::Responder => Self::Responder,
            OperatorRole::Editor => Self::Editor,
            OperatorRole::Owner => Self::Owner,
        }
    }
}

/// `GET /api/v1/operators`: one operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperatorRow {
    /// His name.
    pub name: String,
    /// What he may do.
    pub role: OperatorRole,
    /// The only apps that he may see and act on; all if there is none.
    pub apps: Vec<String>,
    /// When he was added, in Unix milliseconds.
    pub created_at_ms: u64,
    /// By whom.
    pub created_by: String,
    /// What way he came: `invited by NAME`, `provider NAME`, `socket`, `admin token`, `login link`; `first owner` of the oldest account
    /// that there is, if it was made by a login link.
    #[serde(default)]
    pub via: String,
    /// The identity provider by which he logs in; nothing of an account with credentials of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The node on which he was added, as `SITE/NODE`; empty if that was before nodes said so.
    #[serde(default)]
    pub made_on: String,
    /// He gets in no more.
    pub disabled: bool,
    /// Whether he has a password and an app for one-time codes.
    pub password: bool,
    /// Recovery codes that he has left.
    pub recovery_codes: usize,
    /// His passkeys.
    pub passkeys: Vec<PasskeyRow>,
    /// API tokens that act for him.
    pub tokens: Vec<ApiTokenRow>,
}

/// A passkey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PasskeyRow {
    /// The authenticator's name for it.
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

/// An API token, without the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApiTokenRow {
    /// Its name among its owner's.
    pub name: String,
    /// What it may do at most; never more than its owner.
    pub role: OperatorRole,
    /// The only apps that it may act on; all of its owner's if there is none.
    pub apps: Vec<String>,
    /// When it was made, in Unix milliseconds.
    pub created_at_ms: u64,
    /// When it ends, in Unix milliseconds.
    pub expires_at_ms: u64,
}

impl From<OperatorToken> for ApiTokenRow {
    fn from(token: OperatorToken) -> Self {
        let OperatorToken { name, role, apps, created_at_ms, expires_at_ms } = token;
        Self { name, role: role.into(), apps, created_at_ms, expires_at_ms }
    }
}

impl OperatorRow {
    /// One of them; `first`: the oldest account that there is.
    pub(crate) fn of(operator: Operator, first: bool) -> Self {
        let passkey = |key: phalanx_trust::Passkey| PasskeyRow {
            id: key.id,
            label: key.label,
            host: key.host,
            created_at_ms: key.created_at_ms,
            used_at_ms: key.used_at_ms,
        };
        Self {
            via: via(&operator.created_by, first),
            provider: operator.provider().map(str::to_owned),
            name: operator.name,
            role: operator.role.into(),
            apps: operator.apps,
            created_at_ms: operator.created_at_ms,
            created_by: operator.created_by,
            made_on: operator.made_on,
            disabled: operator.disabled,
            password: operator.password,
            recovery_codes: operator.recovery_codes,
            passkeys: operator.passkeys.into_iter().map(passkey).collect(),
            tokens: operator.tokens.into_iter().map(ApiTokenRow::from).collect(),
        }
    }
}

/// What way somebody came whom this one added. Who that was is written by `Principal::name`, and at a provider's login.
fn via(by: &str, first: bool) -> String {
    match by {
        "local socket" => "socket".to_owned(),
        "console" if first => "first owner".to_owned(),
        "console" => "login link".to_owned(),
        by => match by.strip_prefix("operator ") {
            Some(name) => format!("invited by {name}"),
            None if by.starts_with("token ") => format!("invited by {by}"),
            None => by.to_owned(),
        },
    }
}

/// `POST /api/v1/operators`: whom to add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOperator {
    /// His name: 1 to 63 characters of a-z, 0-9, - and _.
    pub name: String,
    /// What he may do.
    pub role: OperatorRole,
    /// The only apps that he may see and act on; all without it.
    #[serde(default)]
    pub apps: Vec<String>,
}

/// `PATCH /api/v1/operators/{name}`: what to change. What is not named stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorEdit {
    /// What he may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<OperatorRole>,
    /// The only apps that he may see and act on; an empty list for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apps: Option<Vec<String>>,
    /// Whether he is kept out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// An operator with the link by which he gives his account credentials, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperatorInvited {
    /// The operator.
    pub operator: OperatorRow,
    /// The link, for him alone; none of a node without a console.
    pub url: Option<String>,
    /// Until when it is good, in Unix milliseconds.
    pub expires_at_ms: u64,
}

/// `GET /api/v1/me`: who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Me {
    /// As the ledger names him.
    pub name: String,
    /// As versions and changes of policy name him.
    #[serde(default)]
    pub author: String,
    /// What he may do.
    pub role: OperatorRole,
    /// The only apps that he may see and act on; nothing if all.
    pub apps: Option<Vec<String>>,
    /// His account; nothing of the socket, the admin token and a login link.
    pub account: Option<OperatorRow>,
    /// He has yet to give his account credentials, and may do nothing else.
    pub enrolling: bool,
    /// Until when he may do what needs a fresh second factor, in Unix milliseconds; nothing if that does not end.
    pub fresh_until_ms: Option<u64>,
    /// Whether this node has any operators.
    pub operators: bool,
    /// Names the session, as `GET /api/v1/sessions` does; nothing of tokens and the socket. No secret.
    #[serde(default)]
    pub session: Option<String>,
}

/// A console session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionRow {
    /// Names it; no secret.
    pub id: String,
    /// Whose it is; nobody's of a login link.
    pub operator: Option<String>,
    /// When it was opened, in Unix milliseconds.
    pub opened_at_ms: u64,
    /// When it was last used, in Unix milliseconds.
    pub seen_at_ms: u64,
    /// Whether it is the one that asks.
    pub me: bool,
}

impl SessionRow {
    /// A session as people see it.
    pub(crate) fn new(session: Session, operator: Option<String>, me: bool) -> Self {
        let Session { name, opened_at_ms, seen_at_ms, .. } = session;
        Self { id: name, operator, opened_at_ms, seen_at_ms, me }
    }
}

/// `POST /api/v1/login/password`: name, password and a code; never less.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordLogin {
    /// The operator's name.
    pub name: String,
    /// The password.
    pub password: String,
    /// The code of the authenticator app, or a recovery code.
    pub code: String,
}

/// What a browser needs to ask an authenticator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PasskeyChallenge {
    /// What the authenticator signs, in base64url.
    pub challenge: String,
    /// The host that keys are for: the relying party's id.
    pub host: String,
    /// The account's id in base64url and its name, to make a key.
    pub user: Option<(String, String)>,
    /// The account's keys, in base64url.
    pub keys: Vec<String>,
}

/// What an authenticator signed. Bytes are in base64url.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasskeySigned {
    /// The key's id.
    pub id: String,
    /// `response.authenticatorData`.
    pub authenticator_data: String,
    /// `response.clientDataJSON`.
    pub client_data: String,
    /// `response.signature`.
    pub signature: String,
}

/// `POST /api/v1/me/passkeys`: a key that an authenticator made. Bytes are in base64url.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPasskey {
    /// What to call it.
    pub label: String,
    /// `response.getAuthenticatorData()`.
    pub authenticator_data: String,
    /// `response.clientDataJSON`.
    pub client_data: String,
}

/// `POST /api/v1/me/prove`: a fresh second factor, one of the two.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The code of the authenticator app.
    #[serde(default)]
    pub code: Option<String>,
    /// A passkey's signature.
    #[serde(default)]
    pub passkey: Option<PasskeySigned>,
}

/// `POST /api/v1/me/totp`: what to put into an authenticator app. It is told once and counts once a code of it was shown.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct TotpOffer {
    /// To type in.
    pub secret: String,
    /// To open or to draw as a picture.
    pub uri: String,
}

/// `POST /api/v1/me/password`: a password, with a code of the app that was just set up.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// At least 12 characters.
    pub password: String,
    /// The app's present code.
    pub code: String,
}

/// Recovery codes, told once; each stands for one code of the app.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryCodes {
    /// The codes.
    pub codes: Vec<String>,
}

/// `POST /api/v1/me/tokens`: a token to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiToken {
    /// Its name: 1 to 63 characters of a-z, 0-9, - and _.
    pub name: String,
    /// What it may do at most.
    pub role: OperatorRole,
    /// The only apps that it may act on; all of its owner's without it.
    #[serde(default)]
    pub apps: Vec<String>,
    /// For how long, in milliseconds; a year at most.
    pub for_ms: u64,
}

/// A token that was made; told once.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct ApiTokenMade {
    /// Its name.
    pub name: String,
    /// To send as `Authorization: Bearer TOKEN`.
    pub token: String,
    /// When it ends, in Unix milliseconds.
    pub expires_at_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_by_which_an_account_comes_has_a_name() {
        for (by, first, way) in [
            ("operator ann", false, "invited by ann"),
            ("token ci of operator ann", false, "invited by token ci of operator ann"),
            ("provider corp", false, "provider corp"),
            ("local socket", true, "socket"),
            ("admin token", false, "admin token"),
            ("console", true, "first owner"),
            ("console", false, "login link"),
        ] {
            assert_eq!(via(by, first), way, "{by}");
        }
    }
}
