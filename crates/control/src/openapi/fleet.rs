//! The endpoints about the fleet's authority, its members and what it holds.

use super::{Answer, Endpoint, get, of, post};
use crate::api::{
    Authority, Delegate, Delegation, Invited, NewDelegation, NewInvitation, NewNodeOrder, NewRevocation,
    NodeOrder, Restored, Revoked,
};

/// All of them.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        errors: &[("409", "this node does not hold the fleet's authority")],
        ..get("/api/v1/fleet", "The fleet's authority", Answer::Json("200", of::<Authority>))
    },
    Endpoint {
        body: Some(of::<NewInvitation>),
        errors: &[
            ("400", "a malformed invitation"),
            ("409", "this node does not hold the fleet's authority"),
            ("503", "no room in the ledger"),
        ],
        ..post(
            "/api/v1/fleet/invitations",
            "Make a token with which one node may join",
            Answer::Json("201", of::<Invited>),
        )
    },
    Endpoint {
        errors: &[("409", "this node cannot be its site's delegate")],
        ..get(
            "/api/v1/fleet/delegate",
            "This node as its site's delegate",
            Answer::Json("200", of::<Delegate>),
        )
    },
    Endpoint {
        body: Some(of::<NewDelegation>),
        errors: &[
            ("400", "a malformed order"),
            ("409", "this node does not hold the fleet's authority"),
            ("422", "a node that cannot be a delegate, or a site that has another"),
            ("503", "no room in the ledger"),
        ],
        ..post(
            "/api/v1/fleet/delegations",
            "Let a control node admit and renew edge nodes of its own site",
            Answer::Json("201", of::<Delegation>),
        )
    },
    Endpoint {
        method: "delete",
        parameters: &[
            ("site", "path", "string", "the delegate's site"),
            ("node", "path", "string", "the delegate's name"),
        ],
        errors: &[
            ("403", "this node may not act for operators"),
            ("409", "this node does not hold the fleet's authority"),
            ("503", "no room in the ledger"),
        ],
        ..get(
            "/api/v1/fleet/delegations/{site}/{node}",
            "End a delegation, and all that was signed with it, on all nodes",
            Answer::Json("200", of::<Delegation>),
        )
    },
    Endpoint {
        body: Some(of::<NewRevocation>),
        errors: &[
            ("400", "a malformed order"),
            ("403", "this node may not act for operators"),
            ("422", "an order that the fleet's rules refuse"),
            ("503", "no room in the ledger"),
        ],
        ..post(
            "/api/v1/fleet/revocations",
            "End a node's membership, on all nodes",
            Answer::Json("201", of::<Revoked>),
        )
    },
    Endpoint {
        errors: &[
            ("403", "this node may not act for operators"),
            ("409", "a snapshot or an import is under way"),
            ("422", "the fleet holds more than a snapshot"),
            ("503", "no room in the ledger"),
        ],
        ..get(
            "/api/v1/fleet/snapshot",
            "What the fleet holds, as this node has it: signed, not sealed; keep it safe",
            Answer::Text("200", "application/octet-stream"),
        )
    },
    Endpoint {
        parameters: &[("dry_run", "query", "boolean", "say what it would do, and change nothing")],
        errors: &[
            ("400", "an unknown parameter"),
            ("403", "this node may not act for operators"),
            ("409", "a snapshot or an import is under way"),
            ("413", "it is too long"),
            ("422", "a snapshot that is damaged or of another fleet"),
            ("503", "no room in the ledger"),
        ],
        ..post(
            "/api/v1/fleet/restore",
            "Merge a snapshot, which is the body: what expired or was withdrawn since stays so",
            Answer::Json("200", of::<Restored>),
        )
    },
    Endpoint {
        body: Some(of::<NewNodeOrder>),
        errors: &[
            ("400", "a malformed order"),
            ("403", "this node may not act for operators"),
            ("404", "no such node is known here"),
            ("422", "a node that is alive cannot be evicted"),
            ("503", "no room in the ledger"),
        ],
        ..post(
            "/api/v1/fleet/orders",
            "Cordon or drain a node, set it to work again, or evict one that is dead",
            Answer::Json("201", of::<NodeOrder>),
        )
    },
    Endpoint {
        errors: &[
            ("409", "this node does not hold the fleet's authority"),
            ("422", "a change is under way"),
            ("503", "no room in the ledger"),
        ],
        ..post(
            "/api/v1/fleet/root",
            "Begin to sign with a new root; the old one stays believed",
            Answer::Json("200", of::<Authority>),
        )
    },
    Endpoint {
        method: "delete",
        errors: &[
            ("409", "this node does not hold the fleet's authority, or no change is under way"),
            ("503", "no room in the ledger"),
        ],
        ..get("/api/v1/fleet/root", "Believe the newest root only", Answer::Json("200", of::<Authority>))
    },
];
