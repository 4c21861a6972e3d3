//! How an attempt ended, as the body of its answer says: interfaces often answer every attempt with 200 and say in JSON what came of it.

use bytes::Bytes;
use phalanx_inspect::body::coding::{self, End, Room};
use phalanx_model::deed::Outcome;
use serde_json::{Map, Value};

use crate::http1::ResponseHead;

/// What an answer says in words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// How the attempt ended; unknown where it says nothing of that.
    pub(super) outcome: Outcome,
    /// The token by which requests are known from then on.
    pub(super) token: Option<String>,
}

/// Whether an answer may say it: it is JSON, and means that all went well.
pub(super) fn may_say(response: &ResponseHead) -> bool {
    let kind = response.headers().find(|(name, _)| name.eq_ignore_ascii_case(b"content-type"));
    (200..300).contains(&response.status) && kind.is_some_and(|(_, kind)| is_json(kind))
}

fn is_json(kind: &[u8]) -> bool {
    let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let ends_with = |end: &[u8]| {
        kind.len()
            .checked_sub(end.len())
            .and_then(|at| kind.get(at..))
            .is_some_and(|rest| rest.eq_ignore_ascii_case(end))
    };
    kind.eq_ignore_ascii_case(b"application/json") || ends_with(b"+json")
}

/// The body as its application wrote it; none where it cannot be read whole.
pub(super) fn plain(response: &ResponseHead, body: &Bytes) -> Option<Bytes> {
    let fields = response.headers().filter(|(name, _)| name.eq_ignore_ascii_case(b"content-encoding"));
    let codings = coding::codings(fields.map(|(_, value)| value)).ok()?;
    if codings.is_empty() {
        return Some(body.clone());
    }
    let decoded = coding::decode(body, &codings, Room::of(PLAIN_BYTES_MAX));
    (decoded.end == End::Whole).then(|| decoded.body.into())
}

/// What a body in JSON says of an attempt to log in or to pay.
pub(super) fn in_json(body: &[u8]) -> Said {
    let Ok(Value::Object(told)) = serde_json::from_slice(body) else { return Said::default() };
    if told.iter().any(|(name, value)| says_no(name, value)) {
        return Said { outcome: Outcome::Failed, token: None };
    }
    let token = token(&told, DEPTH_MAX);
    let is_well = token.is_some()
        || told.iter().any(|(name, value)| is_one_of(name, &WELL) && *value == Value::Bool(true));
    Said { outcome: if is_well { Outcome::Passed } else { Outcome::Unknown }, token }
}

fn says_no(name: &str, value: &Value) -> bool {
    let is_there = match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
        Value::Bool(true) => true,
        // A code of 0 is none.
        Value::Number(number) => number.as_f64() != Some(0.0),
    };
    let says_so = |text: &str| is_one_of(text, &FAILED);
    is_one_of(name, &ERRORS) && is_there
        || is_one_of(name, &WELL) && *value == Value::Bool(false)
        || is_one_of(name, &RESULTS) && value.as_str().is_some_and(says_so)
}

/// The first token that is handed out, the outermost first.
fn token(told: &Map<String, Value>, depth: usize) -> Option<String> {
    let own = told.iter().filter(|(name, _)| is_one_of(name, &TOKENS));
    let own = own.filter_map(|(_, value)| value.as_str()).find(|value| !value.is_empty());
    own.map(str::to_owned).or_else(|| {
        let depth = depth.checked_sub(1)?;
        told.values().filter_map(Value::as_object).find_map(|inner| token(inner, depth))
    })
}

/// Whether a name is one of these, in whatever case and with or without `_` and `-`.
fn is_one_of(name: &str, known: &[&str]) -> bool {
    let plain =
        || name.bytes().filter(|byte| !matches!(byte, b'_' | b'-')).map(|byte| byte.to_ascii_lowercase());
    known.iter().any(|known| plain().eq(known.bytes()))
}

const ERRORS: [&str; 5] = ["error", "errors", "errormessage", "errorcode", "errordescription"];
const WELL: [&str; 7] = ["success", "ok", "authenticated", "loggedin", "valid", "succeeded", "issuccess"];
const RESULTS: [&str; 3] = ["status", "result", "outcome"];
const FAILED: [&str; 7] = ["error", "fail", "failed", "failure", "invalid", "denied", "unauthorized"];
const TOKENS: [&str; 8] =
    ["accesstoken", "token", "authtoken", "sessiontoken", "jwt", "bearer", "idtoken", "sessionid"];
/// `{"data": {"login": {"token": ...}}}`, and one more.
const DEPTH_MAX: usize = 4;
/// Answers to logins are short.
const PLAIN_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_say_in_json_what_came_of_an_attempt() {
        use Outcome::{Failed, Passed, Unknown};
        for (body, outcome, token) in [
            (r#"{"data":{"login":{"token":"t1"}}}"#, Passed, Some("t1")),
            (r#"{"errors":[{"message":"no"}],"data":null}"#, Failed, None),
            (r#"{"errors":[],"access_token":"t2","token_type":"bearer"}"#, Passed, Some("t2")),
            (r#"{"error":null,"accessToken":"t3"}"#, Passed, Some("t3")),
            (r#"{"success":false,"message":"wrong"}"#, Failed, None),
            (r#"{"success":true}"#, Passed, None),
            (r#"{"status":"error","token":"decoy"}"#, Failed, None),
            (r#"{"status":"ok"}"#, Unknown, None),
            (r#"{"errorCode":0,"sessionId":"s"}"#, Passed, Some("s")),
            (r#"{"error_code":7}"#, Failed, None),
            (r#"{"user":{"name":"ann"}}"#, Unknown, None),
            (r#"{"token":""}"#, Unknown, None),
            (r#"{"a":{"a":{"a":{"a":{"a":{"token":"deep"}}}}}}"#, Unknown, None),
            (r#"["token"]"#, Unknown, None),
            ("{\"token\":\"cut", Unknown, None),
            ("", Unknown, None),
        ] {
            assert_eq!(in_json(body.as_bytes()), Said { outcome, token: token.map(Into::into) }, "{body}");
        }
    }

    #[test]
    fn types_of_json_are_known() {
        for kind in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
            assert!(is_json(kind.as_bytes()), "{kind}");
        }
        for kind in ["", "text/html", "application/x-ndjson", "application/jsonp", "json"] {
            assert!(!is_json(kind.as_bytes()), "{kind}");
        }
    }
}
