//! The endpoints about what happened: requests over time and searched, the ledger, and what follows for operators.

use super::{Answer, Endpoint, get, of};
use crate::api::{ActorsSeen, EventRow, TrafficSeen};
use crate::fixes::Fix;
use crate::inquiry::FleetEvents;
use crate::paging;
use crate::report::Report;
use phalanx_record::ledger::AuditPage;

type Errors = &'static [(&'static str, &'static str)];

const ERRORS: Errors = &[
    ("400", "a parameter that is unknown or malformed"),
    ("403", "this node may not act for operators, and others were to be asked"),
    ("422", "too many questions are under way"),
    ("503", "the history or the others cannot be reached"),
];

/// All of them.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        parameters: &[
            ("from_ms", "query", "integer", "from when on; an hour before `to_ms` without it"),
            ("to_ms", "query", "integer", "until when; now without it"),
            (
                "by",
                "query",
                "string",
                "what is counted apart: action, app, rule, class, country, status, node, site; action without it. Requests count for the rule \
                 that says most, those without a finding for none. Clients: /api/v1/traffic/actors",
            ),
            ("count", "query", "string", "what the series count: all, or refused; all without it"),
            ("app", "query", "string", "only this app"),
            (
                "points",
                "query",
                "integer",
                "about how many points; 120 without it, 500 at most, 120 of all nodes",
            ),
            ("fleet", "query", "boolean", "whether all nodes are asked; this one alone without it"),
        ],
        errors: ERRORS,
        ..get(
            "/api/v1/traffic",
            "Requests over time, also those that were passed on: by minute for two days, by hour for ninety. Up to five seconds old",
            Answer::Json("200", of::<TrafficSeen>),
        )
    },
    Endpoint {
        parameters: &[
            ("from_ms", "query", "integer", "from when on; an hour before `to_ms` without it"),
            ("to_ms", "query", "integer", "until when; now without it"),
            ("app", "query", "string", "only this app"),
            (
                "points",
                "query",
                "integer",
                "about how many points; 120 without it, 500 at most, 120 of all nodes",
            ),
            ("fleet", "query", "boolean", "whether all nodes are asked; they tell networks of clients"),
        ],
        errors: ERRORS,
        ..get(
            "/api/v1/traffic/actors",
            "The clients refused most, twenty at most, among the last 200,000 refused and flagged requests",
            Answer::Json("200", of::<ActorsSeen>),
        )
    },
    Endpoint {
        parameters: &[
            ("from_ms", "query", "integer", "from when on; a day before `to_ms` without it"),
            ("to_ms", "query", "integer", "until when; now without it"),
            ("app", "query", "string", "only this app"),
            ("fleet", "query", "boolean", "whether all nodes are asked; this one alone without it"),
            ("format", "query", "string", "json, html or csv; json without it"),
        ],
        errors: ERRORS,
        ..get(
            "/api/v1/report",
            "What a time was like: requests and what became of them, compared with the time before, clients, incidents",
            Answer::Forms("200", of::<Report>, &["text/html", "text/csv"]),
        )
    },
    Endpoint {
        parameters: &[
            ("limit", "query", "integer", "at most this many; 50 without it, 500 at most"),
            ("before", "query", "string", "only older ones: a request's id, or a time"),
            ("since_ms", "query", "integer", "only those that arrived at this time or later"),
            ("until_ms", "query", "integer", "only those that arrived before this time"),
            ("client", "query", "string", "only this address"),
            ("action", "query", "string", "only this action: observe, challenge, throttle, tarpit, deny"),
            ("rule", "query", "integer", "only those that this rule matched"),
            ("app", "query", "string", "only for this app"),
            ("status", "query", "string", "only answered so: 404, or 4xx"),
            ("country", "query", "string", "only from this country, as in NL"),
            ("method", "query", "string", "only with this method"),
            (
                "q",
                "query",
                "string",
                "only with this text in host, target or user agent; a call looks through 20,000 of what else fits",
            ),
            ("incident", "query", "string", "only those that are evidence of this incident"),
        ],
        errors: &[
            ("400", "a parameter that is unknown or malformed"),
            ("404", "this node knows no such incident"),
            ("503", "the history cannot be read"),
        ],
        ..get(
            "/api/v1/events",
            "Refused and flagged requests, newest first. `Link` with `rel=\"next\"` says where a search goes on, also one that has found nothing yet",
            Answer::Json("200", of::<Vec<EventRow>>),
        )
    },
    Endpoint {
        parameters: &[
            ("limit", "query", "integer", "at most this many of each node; 50 without it and at most"),
            ("before", "query", "string", "only older ones: a request's id, or a time"),
            ("since_ms", "query", "integer", "only those that arrived at this time or later"),
            ("until_ms", "query", "integer", "only those that arrived before this time"),
            ("client", "query", "string", "only this address"),
            ("action", "query", "string", "only this action: observe, challenge, throttle, tarpit, deny"),
            ("rule", "query", "integer", "only those that this rule matched"),
            ("app", "query", "string", "only for this app"),
            ("status", "query", "string", "only answered so: 404, or 4xx"),
            ("country", "query", "string", "only from this country, as in NL"),
            ("method", "query", "string", "only with this method"),
            (
                "q",
                "query",
                "string",
                "only with this text in host, target or user agent; a call looks through 20,000 of what else fits",
            ),
            ("incident", "query", "string", "only those that are evidence of this incident: the newest 24"),
        ],
        errors: &[
            ("400", "a parameter that is unknown or malformed"),
            ("403", "this node may not act for operators"),
            ("422", "too many questions are under way"),
            ("503", "the others cannot be reached"),
        ],
        ..get(
            "/api/v1/fleet/events",
            "Refused and flagged requests of all other nodes, redacted by each, newest first",
            Answer::Json("200", of::<FleetEvents>),
        )
    },
    Endpoint {
        parameters: paging::PARAMETERS,
        ..get(
            "/api/v1/fixes",
            "The most valuable things to do now, at most ten, the most valuable first",
            Answer::Json("200", of::<Vec<Fix>>),
        )
    },
    Endpoint {
        parameters: &[
            ("limit", "query", "integer", "at most this many; 50 without it, 500 at most"),
            ("before", "query", "integer", "only entries with a smaller number"),
            (
                "kind",
                "query",
                "string",
                "only this kind: decided, withdrawn, recalled, listed, held, policy_changed, policy_refused, operator_action, overload, node",
            ),
            ("by", "query", "string", "only by this author, a part of the name"),
        ],
        errors: &[("400", "a parameter that is unknown or malformed"), ("503", "the ledger cannot be read")],
        ..get(
            "/api/v1/audit",
            "The node's ledger in plain words, newest first, and whether its chain holds",
            Answer::Json("200", of::<AuditPage>),
        )
    },
];
