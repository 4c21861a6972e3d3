//! Sessions, accounts and what is tried with them, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::toml_text::At;

/// How the app's sessions and accounts are known. Neither names nor passwords are kept, but keyed hashes of them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAccounts {
    /// Logins and the like are also known by their fields and paths. `true` if not given.
    pub learn: Option<bool>,
    /// Cookies that hold the session, as in "sid" or "wordpress_logged_in_*". Those that usually do if not given.
    pub session_cookies: Option<Vec<At<String>>>,
    /// The header field whose value is the session where no cookie is. `Authorization` with a bearer token if not given.
    pub session_header: Option<At<String>>,
    /// Requests that log in.
    #[serde(default)]
    pub logins: Vec<At<RawAttempt>>,
    /// Requests that tell whether an account exists: resets of passwords, registrations.
    #[serde(default)]
    pub lookups: Vec<At<RawLookup>>,
    /// Requests that pay.
    #[serde(default)]
    pub payments: Vec<At<RawAttempt>>,
}

/// Requests that log in or pay.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAttempt {
    /// Their path, as in "/login".
    pub path: Option<At<String>>,
    /// Their method. "POST" if not given.
    pub method: Option<At<String>>,
    /// The field of the form, or of JSON as in "user.email", with the account's name. The one that looks like it if not given.
    pub account: Option<At<String>>,
    /// The field with the password, or with the card. The one that looks like it if not given.
    pub secret: Option<At<String>>,
    /// What tells that it went through. As usual if not given.
    pub success: Option<At<RawSuccess>>,
}

/// Requests that tell whether an account exists.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLookup {
    /// Their path, as in "/password/reset".
    pub path: Option<At<String>>,
    /// Their method. "POST" if not given.
    pub method: Option<At<String>>,
    /// The field with the account's name. The one that looks like it if not given.
    pub account: Option<At<String>>,
}

/// What tells that an attempt went through: all that is said here; whatever else is answered is a failure, but for outages and limits.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSuccess {
    /// The answer has one of these statuses.
    #[serde(default)]
    pub status: Vec<At<u16>>,
    /// It leads to a place that begins with this, as in "/account".
    pub location: Option<At<String>>,
    /// It sets this cookie.
    pub cookie: Option<At<String>>,
    /// Its body has this in its first 16 KiB, as in "\"token\"".
    pub body: Option<At<String>>,
}
