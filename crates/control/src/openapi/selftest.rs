//! The endpoints about the node's attacks on itself.

use super::{Answer, Endpoint, get, of, post};
use crate::api::SelfTest;

/// All of them.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    get(
        "/api/v1/selftest",
        "What became of the node's attacks on itself: one of each kind, through its own listeners, each minute",
        Answer::Json("200", of::<SelfTest>),
    ),
    Endpoint {
        errors: &[("409", "the node is out of service"), ("503", "no room in the ledger")],
        ..post("/api/v1/selftest", "Attack the node itself now", Answer::Json("200", of::<SelfTest>))
    },
];
