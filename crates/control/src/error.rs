//! Errors as the API answers them: problems (RFC 9457), the outward message apart from what is logged.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use phalanx_fleet::FleetError;
use phalanx_record::RecordError;

use crate::api::{Diagnostic, Problem};
use crate::recorded::Why;

/// A refused or failed call.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    problem: Box<Problem>,
    /// After how many seconds to ask again.
    wait_s: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, problem: Box::new(Problem::new(status.as_u16(), code, message)), wait_s: None }
    }

    /// What went wrong, for people.
    pub(crate) fn message(&self) -> &str {
        &self.problem.detail
    }

    /// Of one who asked too often: he may ask again in so many seconds.
    pub(crate) fn too_many(code: &str, message: impl Into<String>, wait_s: u64) -> Self {
        Self { wait_s: Some(wait_s.max(1)), ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, message) }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn unauthorized() -> Self {
        let message = "a token or a console session is needed; `phalanx login` prints a link";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(crate) fn ledger_full() -> Self {
        let message = "the ledger has no room, so the action was refused; `phalanx status` says why";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ledger_full", message)
    }

    #[cfg(test)]
    pub(crate) fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The same in other words.
    pub(crate) fn said(self, code: &str, message: &str) -> Self {
        Self { wait_s: self.wait_s, ..Self::new(self.status, code, message) }
    }

    /// The node where the answer is.
    pub(crate) fn at(mut self, site: &str, node: &str) -> Self {
        self.problem.site = Some(site.to_owned());
        self.problem.node = Some(node.to_owned());
        self
    }

    pub(crate) fn with_diagnostics(mut self, diagnostics: Vec<Diagnostic>) -> Self {
        self.problem.diagnostics = diagnostics;
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        // A problem holds text and numbers only, of which JSON can always be made.
        let text = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = (status, text).into_response();
        response.extensions_mut().insert(Why(self.message().into()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.wait_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A body that is not what the document says: each kind of mistake has its own code, and a sentence without the names of our types.
impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let (status, text) = (rejection.status(), rejection.body_text());
        // What is before the first colon says where in the library it happened.
        let what = text.split_once(": ").map_or(text.as_str(), |(_, what)| what);
        let (code, message) = match &rejection {
            JsonRejection::JsonSyntaxError(_) => ("bad_request", format!("the body is no JSON: {what}")),
            JsonRejection::MissingJsonContentType(_) => (
                "unsupported_media_type",
                "the body has to be JSON: send `Content-Type: application/json`".to_owned(),
            ),
            JsonRejection::JsonDataError(_) => {
                ("invalid", format!("the body is not as the API's document says: {}", plain(what)))
            }
            _ => ("bad_request", text),
        };
        Self::new(status, code, message)
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

/// What a reader of JSON expected, without the name of a type of ours.
fn plain(what: &str) -> String {
    let Some((before, named)) = what.split_once("expected struct ") else { return what.to_owned() };
    let rest = named.split_once(" at line").map_or_else(String::new, |(_, place)| format!(" at line{place}"));
    format!("{before}expected an object{rest}")
}

impl From<RecordError> for ApiError {
    fn from(error: RecordError) -> Self {
        tracing::error!(%error, "the history could not be asked");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "history",
            "the history cannot be read; the node's log says why",
        )
    }
}

impl From<FleetError> for ApiError {
    fn from(error: FleetError) -> Self {
        let (status, code) = match &error {
            FleetError::Ledger(_) => return Self::ledger_full(),
            FleetError::NoSuchDecision(_) | FleetError::NoSuchAuthor(_) | FleetError::NoSuchBlocklist(_) => {
                (StatusCode::NOT_FOUND, "not_found")
            }
            FleetError::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            FleetError::NotOperator => (StatusCode::FORBIDDEN, "not_operator"),
            FleetError::Refused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
            FleetError::Snapshot(_) => (StatusCode::UNPROCESSABLE_ENTITY, "snapshot"),
            FleetError::Impossible(_) => (StatusCode::UNPROCESSABLE_ENTITY, "impossible"),
            FleetError::Elsewhere(_) => (StatusCode::UNPROCESSABLE_ENTITY, "elsewhere"),
            FleetError::Limit(_) => (StatusCode::UNPROCESSABLE_ENTITY, "limit"),
            FleetError::Unreachable(_) | FleetError::Closed => (StatusCode::SERVICE_UNAVAILABLE, "fleet"),
            FleetError::Setting { .. } | FleetError::Trust(_) | FleetError::State { .. } => {
                // Paths and causes are for the log, not for the wire.
                tracing::error!(%error, "the fleet failed");
                let message = "the fleet's state failed; the node's log says why";
                return Self::new(StatusCode::INTERNAL_SERVER_ERROR, "fleet", message);
            }
        };
        Self::new(status, code, error.to_string())
    }
}
