//! Who asks of an app, and which requests log in, ask about accounts or pay.

use serde::Serialize;

/// How an app's sessions and accounts are known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Accounts {
    /// Logins, questions about accounts and payments are also known by their fields and paths.
    pub learn: bool,
    /// Cookies that hold the session, in the order of precedence; a `*` at the end stands for anything.
    pub session_cookies: Vec<String>,
    /// Cookies that usually hold a session do here, too, after those.
    pub common_cookies: bool,
    /// The field, in lower case, whose value is the session where no cookie is; `None`: a bearer token.
    pub session_header: Option<String>,
    /// What is declared, in the order written: logins, lookups, payments.
    pub endpoints: Vec<AccountEndpoint>,
}

/// Requests that try something with an account.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct AccountEndpoint {
    /// What they try.
    pub kind: EndpointKind,
    /// Their path, decoded and without `//`, `.` and `..`; a slash at its end does not matter.
    pub path: String,
    /// Their method.
    pub method: String,
    /// The field of form or JSON (`user.email`) with the account's name; `None`: the one that looks like it.
    pub account: Option<String>,
    /// The field with the password or card; `None`: the one that looks like it.
    pub secret: Option<String>,
    /// What tells that it went through.
    pub success: Success,
}

/// What requests to an endpoint try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointKind {
    /// To log in.
    Login,
    /// To find out, on purpose or not, whether an account exists: reset of a password, registration.
    Lookup,
    /// To pay.
    Payment,
}

/// What tells that an attempt went through; all of it must hold. If nothing is said, it is told as usual.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Success {
    /// The answer has one of these statuses.
    pub statuses: Vec<u16>,
    /// It leads to a place that begins with this.
    pub location: Option<String>,
    /// It sets this cookie.
    pub cookie: Option<String>,
    /// Its body has this in its first 16 KiB.
    pub body: Option<String>,
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            learn: true,
            session_cookies: Vec::new(),
            common_cookies: true,
            session_header: None,
            endpoints: Vec::new(),
        }
    }
}

impl Success {
    /// Whether nothing is said.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}
