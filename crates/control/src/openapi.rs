//! The API's document (OpenAPI 3.1), generated from the types that the handlers serve.

use std::sync::LazyLock;

use axum::response::IntoResponse;
use http::header;
use phalanx_model::{Decision, Recall, Withdrawal};
use phalanx_record::Explanation;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::api::{
    Blocklist, BlocklistContent, BouncerKey, Bouncers, DecisionMade, Health, Held, Incident, IncidentRow,
    LoginLink, Member, NewBouncer, NewDecision, PlaybookAnswer, PlaybookRow, PlaybookStart, Problem,
    Readiness, Settled, Status, Undone, UpgradeBegun,
};
use crate::inquiry::RedactedRequest;
use crate::paging;
use crate::suggest::Suggestion;

mod fleet;
mod oidc;
mod operators;
mod policy;
mod receivers;
mod reports;
mod requests;
mod selftest;

/// `GET /api/v1/openapi.json`
pub(crate) async fn serve() -> impl IntoResponse {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str())
}

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.definitions_path = "/components/schemas".into();
        s.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for endpoint in endpoints() {
        let operation = operation(endpoint, &mut generator);
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(endpoint.method.to_owned(), operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Phalanx admin API",
            "version": "1",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Times are Unix milliseconds. Ids are 26 characters and sort by time. Texts named as written by \
                strangers must be escaped where they are shown. On the node's own socket no token is needed."
        },
        "security": [{ "token": [] }, { "session": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "phalanx_session_PORT",
                    "description": "set by /login; PORT is the port of the admin address"
                }
            },
            "schemas": generator.take_definitions(true)
        }
    })
}

/// One endpoint as it is documented. The router's test calls each of them.
pub(crate) struct Endpoint {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    summary: &'static str,
    /// Name, place, JSON type, meaning.
    parameters: &'static [(&'static str, &'static str, &'static str, &'static str)],
    body: Option<SchemaOf>,
    answer: Answer,
    /// Statuses beside the good one, with when they are given.
    errors: &'static [(&'static str, &'static str)],
    pub(crate) open: bool,
    /// A person in a browser asks: errors are pages.
    pages: bool,
}

impl Endpoint {
    /// The names of its parameters in a query.
    pub(crate) fn query(&self) -> impl Iterator<Item = &'static str> {
        self.parameters.iter().filter(|(_, place, ..)| *place == "query").map(|(name, ..)| *name)
    }

    /// Whether a repeated call can be told from a new one.
    fn takes_key(&self) -> bool {
        self.method == "post" && !self.open
    }

    /// Statuses that come from what all endpoints, or all of its kind, have in common.
    fn usual_errors(&self) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        let usual = |holds: bool, errors: &'static [(&str, &str)]| errors.iter().filter(move |_| holds);
        usual(!self.open, &[
            ("400", "a parameter that is unknown or malformed"),
            ("401", "no token, session or socket"),
            ("403", "the role, the apps that it is limited to, or a second factor that is not fresh, do not allow it"),
            ("429", "too many failed tries, or too many requests; `Retry-After` says for how long"),
        ])
        .chain(usual(self.body.is_some(), &[
            ("400", "a body that is no JSON"),
            ("408", "a body that does not arrive in time"),
            ("413", "a body that is too long"),
            ("415", "a body that is not said to be JSON"),
            ("422", "a body that is not as this document says"),
        ]))
        .chain(usual(self.takes_key(), &[
            ("409", "a call with the same `Idempotency-Key` is under way, or was done and its answer is not kept"),
            ("422", "the `Idempotency-Key` was sent with another call"),
        ]))
    }
}

/// The parameter that every POST takes.
const KEY: (&str, &str, &str, &str) = (
    "Idempotency-Key",
    "header",
    "string",
    "a key of this call alone, such as a UUID: sent again with it within a day it is not done again, and gets the same answer",
);

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

enum Answer {
    Json(&'static str, SchemaOf),
    /// The same object with one status or the other.
    Either([&'static str; 2], SchemaOf),
    /// An object, or the same as a text of one of these types.
    Forms(&'static str, SchemaOf, &'static [&'static str]),
    Text(&'static str, &'static str),
    Empty(&'static str),
}

const fn get(path: &'static str, summary: &'static str, answer: Answer) -> Endpoint {
    Endpoint {
        method: "get",
        path,
        summary,
        parameters: &[],
        body: None,
        answer,
        errors: &[],
        open: false,
        pages: false,
    }
}

const fn post(path: &'static str, summary: &'static str, answer: Answer) -> Endpoint {
    Endpoint { method: "post", ..get(path, summary, answer) }
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let mut answers = Map::new();
    let (statuses, answer) = match &endpoint.answer {
        Answer::Json(status, schema) => (
            &[*status][..],
            json!({ "description": "success", "content": { "application/json": { "schema": schema(generator) } } }),
        ),
        Answer::Either(statuses, schema) => (
            &statuses[..],
            json!({ "description": "it says so", "content": { "application/json": { "schema": schema(generator) } } }),
        ),
        Answer::Forms(status, schema, kinds) => {
            let text = |kind: &&str| ((*kind).to_owned(), json!({ "schema": { "type": "string" } }));
            let mut content: Map<String, Value> = kinds.iter().map(text).collect();
            content.insert("application/json".to_owned(), json!({ "schema": schema(generator) }));
            (&[*status][..], json!({ "description": "success", "content": content }))
        }
        Answer::Text(status, kind) => (
            &[*status][..],
            json!({ "description": "success", "content": { *kind: { "schema": { "type": "string" } } } }),
        ),
        Answer::Empty(status) => (&[*status][..], json!({ "description": "success" })),
    };
    for status in statuses {
        answers.insert((*status).to_owned(), answer.clone());
    }
    for (status, when) in endpoint.errors.iter().chain(endpoint.usual_errors()) {
        let content = match endpoint.pages {
            true => json!({ "text/html": { "schema": { "type": "string" } } }),
            false => json!({ Problem::MEDIA_TYPE: { "schema": of::<Problem>(generator) } }),
        };
        let answer = json!({ "description": when, "content": content });
        answers.entry(*status).or_insert(answer);
    }
    let mut operation = json!({ "summary": endpoint.summary, "responses": answers });
    let Some(fields) = operation.as_object_mut() else { return operation };
    let parameters = endpoint.parameters.iter().chain(endpoint.takes_key().then_some(&KEY));
    let parameters: Vec<Value> = parameters
        .map(|(name, place, kind, meaning)| {
            json!({
                "name": name, "in": place, "required": *place == "path",
                "description": meaning, "schema": { "type": kind }
            })
        })
        .collect();
    if !parameters.is_empty() {
        fields.insert("parameters".into(), parameters.into());
    }
    if let Some(schema) = endpoint.body {
        let content = json!({ "application/json": { "schema": schema(generator) } });
        fields.insert("requestBody".into(), json!({ "required": true, "content": content }));
    }
    if endpoint.open {
        fields.insert("security".into(), json!([]));
    }
    operation
}

const HELD_PARAMETERS: &[(&str, &str, &str, &str)] = &[
    ("id", "path", "string", "the id of what is held here or on another node"),
    ("reason", "query", "string", "why; people on other nodes read it"),
];
const HELD_ERRORS: &[(&str, &str)] = &[
    ("400", "no id"),
    ("403", "this node may not act for operators"),
    ("404", "nothing of that id is held or in force here"),
    ("503", "no room in the ledger, or the fleet cannot be reached for a list's content"),
];

const INCIDENT_PARAMETERS: &[(&str, &str, &str, &str)] =
    &[("id", "path", "string", "the incident's id, or that of a part of it")];
const INCIDENT_ERRORS: &[(&str, &str)] = &[("400", "no id"), ("404", "this node knows no such incident")];
const INCIDENT_RULED: &[(&str, &str)] = &[
    ("400", "no id"),
    ("403", "this node may not act for operators"),
    ("404", "this node knows no such incident"),
    ("503", "no room in the ledger, or the learner does not run"),
];

/// Every endpoint.
pub(crate) fn endpoints() -> impl Iterator<Item = &'static Endpoint> {
    ENDPOINTS
        .iter()
        .chain(fleet::ENDPOINTS)
        .chain(oidc::ENDPOINTS)
        .chain(operators::ENDPOINTS)
        .chain(policy::ENDPOINTS)
        .chain(receivers::ENDPOINTS)
        .chain(reports::ENDPOINTS)
        .chain(requests::ENDPOINTS)
        .chain(selftest::ENDPOINTS)
}

/// Every endpoint that no module of its own has.
const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/status", "How the node and its fleet are doing", Answer::Json("200", of::<Status>)),
    Endpoint {
        parameters: paging::PARAMETERS,
        ..get("/api/v1/nodes", "The fleet's nodes", Answer::Json("200", of::<Vec<Member>>))
    },
    Endpoint {
        method: "delete",
        parameters: &[
            ("site", "path", "string", "the node's site"),
            ("node", "path", "string", "the node's name"),
        ],
        errors: &[
            ("400", "it is this node"),
            ("404", "no such node is known here"),
            ("503", "no room in the ledger"),
        ],
        ..get(
            "/api/v1/nodes/{site}/{node}",
            "Forget, on this node, the keys another is known by, so that it may come back with new ones",
            Answer::Empty("204"),
        )
    },
    Endpoint {
        method: "delete",
        parameters: &[
            ("site", "path", "string", "the author's site"),
            ("node", "path", "string", "the author's name"),
            (
                "role",
                "query",
                "string",
                "in what role it decided: `node`, which is the default, or `operator`",
            ),
            ("reason", "query", "string", "why; needed; people on other nodes read it"),
        ],
        errors: &[
            ("400", "no reason, or an unknown role"),
            ("403", "this node may not act for operators"),
            ("404", "no such author is known here"),
            ("503", "no room in the ledger, or it is in force and cannot be kept"),
        ],
        ..get(
            "/api/v1/nodes/{site}/{node}/decisions",
            "End everything that an author has decided so far, on all nodes, also what arrives later",
            Answer::Json("200", of::<Recall>),
        )
    },
    Endpoint {
        parameters: paging::PARAMETERS,
        ..get(
            "/api/v1/recalls",
            "Orders that ended everything an author had decided, newest first",
            Answer::Json("200", of::<Vec<Recall>>),
        )
    },
    Endpoint {
        parameters: paging::PARAMETERS,
        ..get(
            "/api/v1/blocklists",
            "Blocklists in force or about to be, by name",
            Answer::Json("200", of::<Vec<Blocklist>>),
        )
    },
    Endpoint {
        parameters: &[
            ("name", "path", "string", "the list's name"),
            ("limit", "query", "integer", "at most this many prefixes; 1000 without it, 10000 at most"),
        ],
        errors: &[("400", "a parameter that is unknown or malformed"), ("404", "no such list is in force")],
        ..get(
            "/api/v1/blocklists/{name}",
            "A blocklist and its first prefixes",
            Answer::Json("200", of::<BlocklistContent>),
        )
    },
    Endpoint {
        method: "put",
        parameters: &[
            ("name", "path", "string", "the list's name: 1 to 63 of a-z, 0-9, - and _"),
            ("kind", "query", "string", "`ban`, which is the default, or `challenge`"),
            ("for_ms", "query", "integer", "for how long, in milliseconds; needed"),
            ("reason", "query", "string", "why; needed; people on other nodes read it"),
        ],
        errors: &[
            ("400", "a parameter that is missing, unknown or malformed"),
            ("403", "this node may not act for operators"),
            ("409", "another list is being imported"),
            ("413", "the text is too long"),
            ("422", "a list that holds what is no prefix, or what nobody may order, or too much"),
            ("503", "the fleet cannot be reached, or no room in the ledger"),
        ],
        ..get(
            "/api/v1/blocklists/{name}",
            "Put a blocklist into force on all nodes, in place of its version before; the body is its text, a prefix a line",
            Answer::Json("201", of::<Blocklist>),
        )
    },
    Endpoint {
        method: "delete",
        parameters: &[
            ("name", "path", "string", "the list's name"),
            ("reason", "query", "string", "why; people on other nodes read it"),
        ],
        errors: &[
            ("403", "this node may not act for operators"),
            ("404", "no such list is in force"),
            ("503", "no room in the ledger"),
        ],
        ..get("/api/v1/blocklists/{name}", "End a blocklist on all nodes", Answer::Empty("204"))
    },
    Endpoint {
        parameters: paging::PARAMETERS,
        ..get(
            "/api/v1/decisions",
            "Decisions in force, newest first",
            Answer::Json("200", of::<Vec<Decision>>),
        )
    },
    Endpoint {
        body: Some(of::<NewDecision>),
        errors: &[
            ("400", "a malformed order"),
            ("403", "this node may not act for operators"),
            ("409", "it would refuse too many of the clients served well, and `force` is not given"),
            ("422", "an order that the fleet's rules refuse"),
            ("503", "no room in the ledger, or it is in force and cannot be kept"),
        ],
        ..post(
            "/api/v1/decisions",
            "Order something about an actor, on all nodes",
            Answer::Json("201", of::<DecisionMade>),
        )
    },
    Endpoint {
        method: "delete",
        parameters: &[
            ("id", "path", "string", "the decision's id"),
            ("reason", "query", "string", "why; people on other nodes read it"),
        ],
        errors: &[
            ("400", "no id"),
            ("403", "this node may not act for operators"),
            ("404", "no such decision is in force"),
            ("503", "no room in the ledger, or it is in force and cannot be kept"),
        ],
        ..get(
            "/api/v1/decisions/{id}",
            "End a decision and all others about its actor, on all nodes",
            Answer::Json("200", of::<Withdrawal>),
        )
    },
    Endpoint {
        parameters: paging::PARAMETERS,
        ..get(
            "/api/v1/held",
            "What waits for an operator on this node, because it would refuse too many clients served well",
            Answer::Json("200", of::<Held>),
        )
    },
    Endpoint {
        method: "post",
        parameters: HELD_PARAMETERS,
        errors: HELD_ERRORS,
        ..get(
            "/api/v1/held/{id}",
            "Make what is held the operator's own order, in force on all nodes",
            Answer::Json("200", of::<Settled>),
        )
    },
    Endpoint {
        method: "delete",
        parameters: HELD_PARAMETERS,
        errors: HELD_ERRORS,
        ..get(
            "/api/v1/held/{id}",
            "End what is held, on all nodes; of a blocklist the version before becomes the newest",
            Answer::Json("200", of::<Settled>),
        )
    },
    Endpoint {
        parameters: paging::PARAMETERS,
        ..get(
            "/api/v1/incidents",
            "Signals that belong together, as this node knows them: open incidents first, the newest first",
            Answer::Json("200", of::<Vec<IncidentRow>>),
        )
    },
    Endpoint {
        parameters: INCIDENT_PARAMETERS,
        errors: INCIDENT_ERRORS,
        ..get(
            "/api/v1/incidents/{id}",
            "What was seen, where, by which detector, who is affected, what is done and until when",
            Answer::Json("200", of::<Incident>),
        )
    },
    Endpoint {
        parameters: INCIDENT_PARAMETERS,
        errors: INCIDENT_RULED,
        ..post(
            "/api/v1/incidents/{id}/close",
            "Close an incident on all nodes; what is done because of it goes on until it expires",
            Answer::Empty("204"),
        )
    },
    Endpoint {
        parameters: INCIDENT_PARAMETERS,
        errors: INCIDENT_RULED,
        ..post(
            "/api/v1/incidents/{id}/undo",
            "End all decisions made because of an incident, on all nodes, and make no further ones",
            Answer::Json("200", of::<Undone>),
        )
    },
    Endpoint {
        parameters: INCIDENT_PARAMETERS,
        body: Some(of::<PlaybookAnswer>),
        errors: &[
            ("400", "no id, or a malformed answer"),
            ("403", "this node may not act for operators"),
            ("404", "no playbook asks that now"),
            ("503", "no room in the ledger, or the node that runs playbooks does not hear it"),
        ],
        ..post("/api/v1/incidents/{id}/answer", "Answer what a playbook asks", Answer::Empty("204"))
    },
    Endpoint {
        parameters: paging::PARAMETERS,
        ..get(
            "/api/v1/playbooks",
            "Playbooks that the node's policy uses",
            Answer::Json("200", of::<Vec<PlaybookRow>>),
        )
    },
    Endpoint {
        parameters: &[("name", "path", "string", "the playbook's name")],
        body: Some(of::<PlaybookStart>),
        errors: &[
            ("400", "no id, or a malformed order"),
            ("403", "this node may not act for operators"),
            ("404", "the policy uses no such playbook, or this node knows no such incident"),
            ("409", "it ran for this incident, or too many run"),
            ("503", "no room in the ledger, or the node that runs playbooks does not hear it"),
        ],
        ..post(
            "/api/v1/playbooks/{name}/run",
            "Run a playbook for an incident, whatever its trigger says",
            Answer::Empty("202"),
        )
    },
    Endpoint {
        parameters: paging::PARAMETERS,
        ..get(
            "/api/v1/bouncers",
            "Programs that read this node's decisions as from a CrowdSec local API",
            Answer::Json("200", of::<Bouncers>),
        )
    },
    Endpoint {
        body: Some(of::<NewBouncer>),
        errors: &[
            ("400", "no name"),
            ("409", "there is one of that name"),
            ("422", "there are as many as there may be"),
            ("503", "no room in the ledger"),
        ],
        ..post(
            "/api/v1/bouncers",
            "Make a key for a bouncer; it is shown here only",
            Answer::Json("201", of::<BouncerKey>),
        )
    },
    Endpoint {
        method: "delete",
        parameters: &[("name", "path", "string", "the bouncer's name")],
        errors: &[("404", "there is none of that name"), ("503", "no room in the ledger")],
        ..get("/api/v1/bouncers/{name}", "End a bouncer's key", Answer::Empty("204"))
    },
    Endpoint {
        parameters: &[("id", "path", "string", "the request's id, as the blocked visitor saw it")],
        errors: &[
            ("400", "no id"),
            (
                "404",
                "neither in this node's history nor in its access log; code `elsewhere` names the node that served it",
            ),
            ("503", "the history cannot be read"),
        ],
        ..get(
            "/api/v1/events/{id}",
            "What was done with a request, and why",
            Answer::Json("200", of::<Explanation>),
        )
    },
    Endpoint {
        parameters: &[
            ("id", "path", "string", "the request's id, as the blocked visitor saw it"),
            ("owner", "query", "string", "who answers for the exclusion; `operator` without it"),
            ("reason", "query", "string", "why; the request's id without it"),
            ("days", "query", "integer", "after how many days it ends, at most 365; 30 without it"),
        ],
        errors: &[
            ("400", "no id, or a parameter that is unknown or malformed"),
            ("404", "no node that is known has such a request"),
            (
                "409",
                "no rule refused it: an exclusion would not help; or the node that served it does not answer (code `silent`), or tries another one (`busy`)",
            ),
            ("503", "the history cannot be read"),
        ],
        ..get(
            "/api/v1/events/{id}/suggestion",
            "The narrowest exclusion that would have let a request pass, and what else it would let pass",
            Answer::Json("200", of::<Suggestion>),
        )
    },
    Endpoint {
        parameters: &[("id", "path", "string", "the request's id, as the blocked visitor saw it")],
        errors: &[
            ("400", "no id"),
            ("403", "this node may not act for operators"),
            ("404", "no other node that answers has it"),
            ("422", "too many questions are under way"),
            ("503", "the others cannot be reached"),
        ],
        ..get(
            "/api/v1/fleet/events/{id}",
            "What became of a request that another node served, redacted by it",
            Answer::Json("200", of::<RedactedRequest>),
        )
    },
    Endpoint {
        errors: &[("503", "too many subscribers")],
        ..get(
            "/api/v1/stream",
            "Live events: request, decision, withdrawal, nodes, counters; data as in the lists",
            Answer::Text("200", "text/event-stream"),
        )
    },
    Endpoint {
        errors: &[
            ("422", "the new process cannot be prepared; the running one goes on"),
            ("503", "no room in the ledger"),
        ],
        ..post(
            "/api/v1/upgrade",
            "Have a process of the installed binary take over, with all sockets",
            Answer::Json("202", of::<UpgradeBegun>),
        )
    },
    Endpoint {
        errors: &[("404", "the node has no TCP listener"), ("503", "no room in the ledger")],
        ..post(
            "/api/v1/login-links",
            "Make a one-time link to the console",
            Answer::Json("201", of::<LoginLink>),
        )
    },
    post("/api/v1/logout", "End the console session that asks", Answer::Empty("204")),
    get("/api/v1/openapi.json", "This document", Answer::Text("200", "application/json")),
    get("/metrics", "Metrics for Prometheus", Answer::Text("200", "application/openmetrics-text")),
    Endpoint {
        open: true,
        ..get("/healthz", "Whether the process answers", Answer::Json("200", of::<Health>))
    },
    Endpoint {
        open: true,
        ..get(
            "/readyz",
            "Whether the node is ready to serve; 503 with the same object, and the reasons, if it is not",
            Answer::Either(["200", "503"], of::<Readiness>),
        )
    },
    Endpoint {
        open: true,
        parameters: &[("ticket", "query", "string", "the one-time ticket of a login link")],
        errors: &[
            ("400", "no ticket, or more than that"),
            ("401", "a ticket that is spent, too old or wrong"),
            ("429", "too many wrong tickets"),
            ("503", "no room in the ledger"),
        ],
        pages: true,
        ..get(
            "/login",
            "Spend a login link: sets the session's cookie and leads to the console",
            Answer::Empty("303"),
        )
    },
];
