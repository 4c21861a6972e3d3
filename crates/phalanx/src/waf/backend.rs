//! The backend that the Core Rule Set's tests want: `/reflect` answers what the request's JSON body says; every other
//! path answers 200 with nothing, as albedo does.

use base64::Engine as _;
use bytes::Bytes;
use serde::Deserialize;

use super::exchange::{Reply, Request};

/// The body of a request to `/reflect`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Reflection {
    status: Option<u16>,
    headers: std::collections::BTreeMap<String, String>,
    body: String,
    encoded_body: String,
}

/// What the backend answers.
pub(crate) fn reply(request: &Request) -> Reply {
    if request.head.path() != b"/reflect" {
        return Reply {
            status: 200,
            fields: vec![("Content-Length".into(), "0".into())],
            body: Bytes::new(),
        };
    }
    let Ok(wanted) = serde_json::from_slice::<Reflection>(&request.body) else {
        return Reply { status: 400, fields: Vec::new(), body: Bytes::from_static(b"Invalid request body") };
    };
    let body = if wanted.body.is_empty() {
        base64::engine::general_purpose::STANDARD.decode(&wanted.encoded_body).unwrap_or_default()
    } else {
        wanted.body.into_bytes()
    };
    let mut fields: Vec<(String, String)> = wanted.headers.into_iter().collect();
    let named =
        |fields: &[(String, String)], name: &str| fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !named(&fields, "content-type") {
        let html = body.trim_ascii_start().first() == Some(&b'<');
        let mime = if html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
        fields.push(("Content-Type".into(), mime.into()));
    }
    if !named(&fields, "content-length") {
        fields.push(("Content-Length".into(), body.len().to_string()));
    }
    Reply { status: wanted.status.unwrap_or(200), fields, body: body.into() }
}
