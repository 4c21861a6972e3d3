//! The endpoints about who is told.

use super::{Answer, Endpoint, get, of, post};
use crate::api::{ReceiverRow, ReceiverTested};
use crate::paging;

/// All of them.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        parameters: paging::PARAMETERS,
        ..get(
            "/api/v1/receivers",
            "Who can be told: webhooks, chats, pagers and mail of this node's settings",
            Answer::Json("200", of::<Vec<ReceiverRow>>),
        )
    },
    Endpoint {
        parameters: &[("name", "path", "string", "the receiver's name")],
        errors: &[
            ("404", "this node has no such receiver"),
            ("422", "as many are being told as may be at once"),
            ("503", "no room in the ledger"),
        ],
        ..post(
            "/api/v1/receivers/{name}/test",
            "Tell a receiver that this is a test, and say whether it took it",
            Answer::Json("200", of::<ReceiverTested>),
        )
    },
];
