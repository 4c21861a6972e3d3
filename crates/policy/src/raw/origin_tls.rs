//! TLS towards upstreams as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::toml_text::At;

/// TLS towards upstreams with `https://`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOriginTls {
    /// The name that is asked for and that the certificate must have. The upstream's host if not given.
    pub server_name: Option<At<String>>,
    /// A file with the authorities that may vouch for it, in PEM form, relative to the policy file. Those of the system if not given.
    pub ca_file: Option<At<String>>,
    /// SHA-256 of the public keys that it may have, in Base64 or hexadecimal digits. Without `ca_file` nothing else is asked of it.
    #[serde(default)]
    pub pins: Vec<At<String>>,
    /// The node's certificate that is shown to it, by its name in the node's settings. None if not given.
    pub client_certificate: Option<At<String>>,
    /// `false` does not look at its certificate at all. `true` if not given.
    pub verify: Option<At<bool>>,
}
