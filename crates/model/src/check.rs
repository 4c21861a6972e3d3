//! How other proxies ask about requests that they carry themselves.

use serde::{Deserialize, Serialize};

/// A way to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CheckKind {
    /// An HTTP request whose fields describe another: Traefik, Caddy, nginx.
    ForwardAuth,
    /// Envoy's gRPC call `envoy.service.auth.v3.Authorization/Check`.
    ExtAuthz,
}

impl CheckKind {
    /// Its name in settings and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForwardAuth => "forward-auth",
            Self::ExtAuthz => "ext-authz",
        }
    }
}
