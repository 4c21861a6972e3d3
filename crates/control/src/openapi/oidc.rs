//! The endpoints about identity providers.

use super::{Answer, Endpoint, get, of, post};
use crate::api::{LoginProvider, ProviderLogin, ProviderRow};
use crate::paging;

type Errors = &'static [(&'static str, &'static str)];

const BEGUN: Errors = &[
    ("400", "the console is open under a name or address that no provider leads back to"),
    ("403", "no page of this node sent it"),
    ("404", "there is no provider of that name, or no operator of one asks"),
    ("409", "the account has a passkey, which proves more"),
    ("429", "too many logins by this network"),
    ("503", "the provider cannot be asked"),
];

/// All of them.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        open: true,
        ..get(
            "/api/v1/login/oidc",
            "Identity providers by which operators log in",
            Answer::Json("200", of::<Vec<LoginProvider>>),
        )
    },
    Endpoint {
        open: true,
        parameters: &[("name", "path", "string", "the provider's name in the settings")],
        errors: BEGUN,
        ..post(
            "/api/v1/login/oidc/{name}",
            "Begin a login by an identity provider: sets a cookie for it, and says where the browser goes",
            Answer::Json("200", of::<ProviderLogin>),
        )
    },
    Endpoint {
        open: true,
        parameters: &[
            ("name", "path", "string", "the provider's name in the settings"),
            ("state", "query", "string", "what the login was begun with"),
            ("code", "query", "string", "what the provider gives for a login"),
            ("iss", "query", "string", "the provider that answers (RFC 9207)"),
            ("error", "query", "string", "why the provider gives no code"),
        ],
        errors: &[
            ("400", "this browser did not begin this login, or not just now, or it was finished before"),
            ("401", "the provider refuses, or what it says does not hold"),
            ("403", "the provider vouches for him, and he may not get in"),
            ("404", "there is no provider of that name"),
            ("429", "too many tries by this network"),
            ("503", "the provider cannot be asked, or no room in the ledger"),
        ],
        pages: true,
        ..get(
            "/login/oidc/{name}/callback",
            "Where a provider sends a browser back to: sets the session's cookie and leads to the console",
            Answer::Empty("303"),
        )
    },
    Endpoint {
        errors: BEGUN,
        ..post(
            "/api/v1/me/prove/oidc",
            "Begin a fresh proof by the identity provider of the account that asks",
            Answer::Json("200", of::<ProviderLogin>),
        )
    },
    Endpoint {
        parameters: paging::PARAMETERS,
        ..get(
            "/api/v1/oidc",
            "Identity providers, how each does, and what must be entered there",
            Answer::Json("200", of::<Vec<ProviderRow>>),
        )
    },
    Endpoint {
        parameters: &[("name", "path", "string", "the provider's name in the settings")],
        errors: &[("403", "no owner asks"), ("404", "there is no provider of that name")],
        ..post(
            "/api/v1/oidc/{name}/test",
            "Ask an identity provider for its description and its keys now",
            Answer::Json("200", of::<ProviderRow>),
        )
    },
];
