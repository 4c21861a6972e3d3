//! Identity providers by which operators log in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/login/oidc`: a provider, as whoever wants to log in is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginProvider {
    /// Its name in the settings.
    pub name: String,
    /// What its button says.
    pub title: String,
    /// Whether it could be asked the last time; true if nobody has asked yet.
    pub works: bool,
}

/// Where a browser goes to log in, or to prove itself anew.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct ProviderLogin {
    /// The provider's page. The cookie that came with this answer must go along.
    pub url: String,
}

/// `GET /api/v1/oidc`: a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderRow {
    /// Its name in the settings.
    pub name: String,
    /// What its button says.
    pub title: String,
    /// Its issuer.
    pub issuer: String,
    /// By which name it knows this console.
    pub client_id: String,
    /// What it must send browsers back to: to be entered there, each of them.
    pub redirects: Vec<String>,
    /// When it was asked last, in Unix milliseconds; 0 if never.
    pub asked_at_ms: u64,
    /// Why nobody gets in by it; nothing if it works.
    pub fault: Option<String>,
    /// Keys that it signs with, of those that count; nothing until they are read.
    pub keys: Option<usize>,
    /// How far its clock is ahead of this node's, in milliseconds, to the second; nothing if it does not tell.
    pub ahead_ms: Option<i64>,
}
