//! The endpoints about operators, their logins and sessions.

use super::{Answer, Endpoint, get, of, post};
use crate::api::{
    ApiTokenMade, Me, NewApiToken, NewOperator, NewPasskey, NewPassword, OperatorEdit, OperatorInvited,
    OperatorRow, PasskeyChallenge, PasskeySigned, PasswordLogin, Proof, RecoveryCodes, SessionRow, TotpOffer,
};
use crate::paging;

type Errors = &'static [(&'static str, &'static str)];
type Parameters = &'static [(&'static str, &'static str, &'static str, &'static str)];

const NAME: Parameters = &[("name", "path", "string", "the operator's name")];
const CHANGED: Errors = &[
    ("400", "a malformed body"),
    ("403", "no owner, or no second factor of the last five minutes"),
    ("404", "there is no operator of that name"),
    ("409", "it is the last owner who can get in, and an operator asks"),
    ("503", "no room in the ledger"),
];
const LOGGED_IN: Errors = &[
    ("400", "a malformed body"),
    ("401", "it is not right; the same whatever was wrong"),
    ("403", "no page of this node sent it"),
    ("429", "too many tries by this account or network"),
    ("503", "no room in the ledger, or too many log in at once"),
];
const OWN: Errors = &[
    ("400", "a malformed body, or what it says does not hold"),
    ("403", "no second factor of the last five minutes"),
    ("404", "no operator asks, or he has none of that name"),
    ("409", "there is one already, or it is the last, or the account was changed meanwhile"),
    ("422", "there are as many as are kept"),
    ("429", "too many tries by this account"),
    ("503", "no room in the ledger"),
];

/// All of them.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        parameters: paging::PARAMETERS,
        errors: &[("403", "no owner asks")],
        ..get(
            "/api/v1/operators",
            "Operators, without their secrets",
            Answer::Json("200", of::<Vec<OperatorRow>>),
        )
    },
    Endpoint {
        body: Some(of::<NewOperator>),
        errors: &[
            ("400", "a malformed body"),
            ("403", "no owner, or no second factor of the last five minutes"),
            ("409", "there is one of that name"),
            ("422", "there are as many as are kept"),
            ("503", "no room in the ledger"),
        ],
        ..post(
            "/api/v1/operators",
            "Add an operator; the answer holds the link by which he gives his account credentials",
            Answer::Json("201", of::<OperatorInvited>),
        )
    },
    Endpoint {
        method: "patch",
        parameters: NAME,
        body: Some(of::<OperatorEdit>),
        errors: CHANGED,
        ..get(
            "/api/v1/operators/{name}",
            "Change an operator's role or apps, or keep him out; his sessions end",
            Answer::Json("200", of::<OperatorRow>),
        )
    },
    Endpoint {
        method: "delete",
        parameters: NAME,
        errors: CHANGED,
        ..get("/api/v1/operators/{name}", "Remove an operator; his sessions end", Answer::Empty("204"))
    },
    Endpoint {
        parameters: NAME,
        errors: CHANGED,
        ..post(
            "/api/v1/operators/{name}/reset",
            "Take all credentials and API tokens of an operator; the answer holds a link to give new ones",
            Answer::Json("200", of::<OperatorInvited>),
        )
    },
    Endpoint {
        errors: &[
            ("403", "somebody else than the node's own user or its admin token asks"),
            ("503", "no room in the ledger"),
        ],
        ..post(
            "/api/v1/operator-resets",
            "Take all credentials and API tokens of all operators, as after a control node was stolen; the answer holds a link for each",
            Answer::Json("200", of::<Vec<OperatorInvited>>),
        )
    },
    Endpoint {
        parameters: NAME,
        body: Some(of::<NewApiToken>),
        errors: &[
            ("400", "a malformed body, or what it says does not hold"),
            (
                "403",
                "it would do more than its owner, or somebody else than the node's own user or its admin token asks",
            ),
            ("404", "there is no operator of that name"),
            ("409", "he has one of that name, or is kept out"),
            ("422", "he has as many as are kept"),
            ("503", "no room in the ledger"),
        ],
        ..post(
            "/api/v1/operators/{name}/tokens",
            "Make an API token that acts for an operator and can do no more than he",
            Answer::Json("201", of::<ApiTokenMade>),
        )
    },
    Endpoint {
        method: "delete",
        parameters: &[
            ("name", "path", "string", "the operator's name"),
            ("token", "path", "string", "the token's name"),
        ],
        errors: CHANGED,
        ..get(
            "/api/v1/operators/{name}/tokens/{token}",
            "End an API token of an operator",
            Answer::Empty("204"),
        )
    },
    Endpoint {
        parameters: paging::PARAMETERS,
        ..get(
            "/api/v1/sessions",
            "Open sessions: one's own; an owner's are all",
            Answer::Json("200", of::<Vec<SessionRow>>),
        )
    },
    Endpoint {
        method: "delete",
        parameters: &[("id", "path", "string", "the session's id, as the list tells it")],
        errors: &[("404", "there is no such session, or it is another's"), ("503", "no room in the ledger")],
        ..get("/api/v1/sessions/{id}", "End a session", Answer::Empty("204"))
    },
    get("/api/v1/me", "Who asks, and what he may do", Answer::Json("200", of::<Me>)),
    Endpoint {
        errors: &[("404", "no operator asks")],
        ..post(
            "/api/v1/me/challenge",
            "A challenge to make a passkey, or to prove oneself with one, in this session",
            Answer::Json("200", of::<PasskeyChallenge>),
        )
    },
    Endpoint {
        body: Some(of::<Proof>),
        errors: &[
            ("400", "a malformed body"),
            ("403", "the code or passkey is not right"),
            ("404", "no operator asks"),
            ("429", "too many tries"),
        ],
        ..post("/api/v1/me/prove", "Show a fresh second factor", Answer::Json("200", of::<Me>))
    },
    Endpoint {
        errors: OWN,
        ..post(
            "/api/v1/me/totp",
            "A secret for an authenticator app; it counts once a password is set with a code of it",
            Answer::Json("200", of::<TotpOffer>),
        )
    },
    Endpoint {
        body: Some(of::<NewPassword>),
        errors: OWN,
        ..post(
            "/api/v1/me/password",
            "Set a password, with a code of the app that was just set up",
            Answer::Json("200", of::<RecoveryCodes>),
        )
    },
    Endpoint {
        body: Some(of::<NewPasskey>),
        errors: OWN,
        ..post("/api/v1/me/passkeys", "Add a passkey", Answer::Empty("201"))
    },
    Endpoint {
        method: "delete",
        parameters: &[("id", "path", "string", "the passkey's id")],
        errors: OWN,
        ..get(
            "/api/v1/me/passkeys/{id}",
            "Delete a passkey, unless it is the last way in",
            Answer::Empty("204"),
        )
    },
    Endpoint {
        body: Some(of::<NewApiToken>),
        errors: OWN,
        ..post(
            "/api/v1/me/tokens",
            "Make an API token, which can do no more than who makes it",
            Answer::Json("201", of::<ApiTokenMade>),
        )
    },
    Endpoint {
        method: "delete",
        parameters: &[("name", "path", "string", "the token's name")],
        errors: OWN,
        ..get("/api/v1/me/tokens/{name}", "End an API token", Answer::Empty("204"))
    },
    Endpoint {
        open: true,
        body: Some(of::<PasswordLogin>),
        errors: LOGGED_IN,
        ..post(
            "/api/v1/login/password",
            "Log in by name, password and code: sets the session's cookie",
            Answer::Json("200", of::<Me>),
        )
    },
    Endpoint {
        open: true,
        errors: &[("403", "no page of this node sent it")],
        ..post(
            "/api/v1/login/challenge",
            "A challenge to log in by a passkey",
            Answer::Json("200", of::<PasskeyChallenge>),
        )
    },
    Endpoint {
        open: true,
        body: Some(of::<PasskeySigned>),
        errors: LOGGED_IN,
        ..post(
            "/api/v1/login/passkey",
            "Log in by a passkey: sets the session's cookie",
            Answer::Json("200", of::<Me>),
        )
    },
];
