//! The endpoints about policy: its versions, changes and exclusions.

use super::{Answer, Endpoint, get, of, post};
use crate::api::{
    ExclusionRow, NewExclusion, NewPolicyChange, Policy, PolicyApproval, PolicyChange, PolicyChecked,
    PolicyCompare, PolicyContent, PolicyDiffered, PolicyFiles, PolicyFollower, PolicyFollowing, PolicyHome,
    PolicyPush, PolicyRejection, PolicyReloaded, PolicyReplay, PolicyRollback, PolicyVersionRow, Replayed,
};

type Parameters = &'static [(&'static str, &'static str, &'static str, &'static str)];
type Errors = &'static [(&'static str, &'static str)];

const CHANGE: Parameters = &[("id", "path", "string", "the change's id")];
const PUBLISHED: Errors = &[
    ("400", "a malformed order"),
    ("403", "this node may not act for operators, or he may not approve it"),
    ("404", "this node knows no such change"),
    ("409", "the policy was changed meanwhile, the change is over, or another version is on trial"),
    ("413", "the policy is too large"),
    ("422", "the policy was refused, with its faults, or too many changes wait"),
    ("503", "the home of policy cannot be reached, or no room in the ledger"),
];

const EXCLUDED: Errors = &[
    ("400", "a malformed order"),
    ("403", "this node may not act for operators"),
    ("404", "no node that is known has such a request"),
    (
        "409",
        "the suggestion or its policy is another than what was shown (code `shown_otherwise`), it is not enough (`not_enough`), the policy was changed meanwhile, or another version is on trial",
    ),
    ("413", "the policy is too large"),
    ("422", "the policy was refused, with its faults, or too many changes wait"),
    ("503", "the home of policy cannot be reached, or no room in the ledger"),
];

/// All of them.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/policy", "The fleet's policy and who runs it", Answer::Json("200", of::<Policy>)),
    Endpoint {
        body: Some(of::<PolicyPush>),
        errors: &[
            ("400", "a malformed order"),
            ("403", "this node may not act for operators, or another operator must approve"),
            ("409", "the policy was changed meanwhile, or another version is on trial"),
            ("413", "the bundle is too large"),
            ("422", "the policy was refused, with its faults, or nobody would try it"),
            ("503", "the home of policy cannot be reached, or no room in the ledger"),
        ],
        ..post(
            "/api/v1/policy/bundles",
            "Make a policy the fleet's, for all nodes or for some that try it first",
            Answer::Json("201", of::<Policy>),
        )
    },
    Endpoint {
        body: Some(of::<PolicyReplay>),
        errors: &[
            ("400", "a malformed order"),
            ("409", "this node records no requests, or another replay is under way"),
            ("413", "the policy is too large"),
            ("422", "the policy was refused, with its faults"),
            ("503", "the recording cannot be read, or no room in the ledger"),
        ],
        ..post(
            "/api/v1/policy/replay",
            "What another policy would have decided about requests that this node recorded",
            Answer::Json("200", of::<Replayed>),
        )
    },
    Endpoint {
        errors: &[
            ("403", "this node may not act for operators, or another operator must approve"),
            ("409", "nothing is on trial, or the policy was changed meanwhile"),
            ("503", "the home of policy cannot be reached, or no room in the ledger"),
        ],
        ..post(
            "/api/v1/policy/promote",
            "Give all nodes the policy that is on trial",
            Answer::Json("200", of::<Policy>),
        )
    },
    Endpoint {
        body: Some(of::<PolicyRollback>),
        errors: &[
            ("400", "a malformed order"),
            ("403", "this node may not act for operators, or another operator must approve"),
            ("409", "the policy was changed meanwhile"),
            ("422", "that version is not remembered, or there is none"),
            ("503", "the content or the home of policy cannot be reached, or no room in the ledger"),
        ],
        ..post(
            "/api/v1/policy/rollback",
            "Give all nodes the content of an earlier version, under a new version",
            Answer::Json("200", of::<Policy>),
        )
    },
    Endpoint {
        body: Some(of::<PolicyHome>),
        errors: &[
            ("400", "a malformed order"),
            ("403", "this node may not act for operators, or another operator must approve"),
            ("409", "the policy was changed meanwhile"),
            ("422", "no site, or there is no policy yet"),
            ("503", "the content or the new home cannot be reached, or no room in the ledger"),
        ],
        ..post(
            "/api/v1/policy/home",
            "Make a site the home of policy, when the one before is lost for good",
            Answer::Json("200", of::<Policy>),
        )
    },
    Endpoint {
        errors: &[("422", "the policy was refused, with its faults"), ("503", "no room in the ledger")],
        ..post("/api/v1/policy/reload", "Load the policy again", Answer::Json("200", of::<PolicyReloaded>))
    },
    Endpoint {
        parameters: &[
            ("limit", "query", "integer", "at most so many"),
            ("before", "query", "integer", "only those before this version"),
        ],
        errors: &[("400", "a malformed query")],
        ..get(
            "/api/v1/policy/versions",
            "Versions of the fleet's policy that are remembered, the newest first, and where each comes from",
            Answer::Json("200", of::<Vec<PolicyVersionRow>>),
        )
    },
    get(
        "/api/v1/policy/followers",
        "Who keeps a git branch and the fleet's policy in step, as this node heard of them",
        Answer::Json("200", of::<Vec<PolicyFollower>>),
    ),
    Endpoint {
        body: Some(of::<PolicyFollowing>),
        errors: &[("400", "a malformed report")],
        ..post(
            "/api/v1/policy/followers",
            "What who keeps a git branch and the policy in step tells of himself; it is shown and decides nothing",
            Answer::Empty("204"),
        )
    },
    Endpoint {
        parameters: &[("version", "path", "string", "a version's number, or `running`: what this node runs")],
        errors: &[
            ("400", "neither a number nor `running`"),
            ("409", "this node's policy is of its command line"),
            ("422", "that version is not remembered, or nobody has its content any more"),
            ("503", "its content cannot be reached"),
        ],
        ..get(
            "/api/v1/policy/versions/{version}",
            "A policy with all files that it names",
            Answer::Json("200", of::<PolicyContent>),
        )
    },
    Endpoint {
        body: Some(of::<PolicyFiles>),
        errors: &[("400", "a malformed order"), ("413", "the policy is too large")],
        ..post(
            "/api/v1/policy/check",
            "Whether this node would run a policy, and what there is to say of it",
            Answer::Json("200", of::<PolicyChecked>),
        )
    },
    Endpoint {
        body: Some(of::<PolicyCompare>),
        errors: &[
            ("400", "a malformed order"),
            ("413", "the policy is too large"),
            ("422", "the policy has faults, or that version is not remembered"),
            ("503", "nobody has its content any more"),
        ],
        ..post(
            "/api/v1/policy/diff",
            "What a policy would change, by what it means, and what of it takes protection away",
            Answer::Json("200", of::<PolicyDiffered>),
        )
    },
    get(
        "/api/v1/policy/changes",
        "Changes of policy that were asked for at this node, the newest first",
        Answer::Json("200", of::<Vec<PolicyChange>>),
    ),
    Endpoint {
        body: Some(of::<NewPolicyChange>),
        errors: PUBLISHED,
        ..post(
            "/api/v1/policy/changes",
            "Change the fleet's policy; what takes protection away waits for another operator",
            Answer::Json("201", of::<PolicyChange>),
        )
    },
    Endpoint {
        parameters: CHANGE,
        errors: &[("404", "this node knows no such change")],
        ..get("/api/v1/policy/changes/{id}", "A change of policy", Answer::Json("200", of::<PolicyChange>))
    },
    Endpoint {
        parameters: CHANGE,
        body: Some(of::<PolicyApproval>),
        errors: PUBLISHED,
        ..post(
            "/api/v1/policy/changes/{id}/approve",
            "Publish a change that another operator asked for",
            Answer::Json("200", of::<PolicyChange>),
        )
    },
    Endpoint {
        parameters: CHANGE,
        body: Some(of::<PolicyRejection>),
        errors: PUBLISHED,
        ..post(
            "/api/v1/policy/changes/{id}/reject",
            "Say no to a change that waits",
            Answer::Json("200", of::<PolicyChange>),
        )
    },
    get(
        "/api/v1/exclusions",
        "What rules do not look at, in the policy that this node runs",
        Answer::Json("200", of::<Vec<ExclusionRow>>),
    ),
    Endpoint {
        body: Some(of::<NewExclusion>),
        errors: EXCLUDED,
        ..post(
            "/api/v1/exclusions",
            "Add the narrowest exclusion that would have let a request pass to the policy that all nodes run",
            Answer::Json("201", of::<PolicyChange>),
        )
    },
];
