//! What a route does with a request that nothing refused, and what the upstream gets of it.
//!
//! Failure direction: a route is an order of the policy; it comes after bans, limits and rules, so a redirect is protected like a page.

use phalanx_model::text::push_decimal;
use phalanx_policy::handling::UpstreamHost;

use super::edit::Edits;
use super::said::{Said, is_secure, query, rest};
use super::{Does, Handling};
use crate::client::Client;
use crate::http1::encode;
use crate::reply::Reply;
use crate::request::Request;
use crate::stop::Stop;

/// Stops a request that is answered here.
pub(crate) fn check(request: &Request) -> Result<(), Stop> {
    let Some(handling) = request.handling() else { return Ok(()) };
    if let Some(maintenance) = &handling.parts.maintenance
        && !maintenance.allow.contains(request.client)
    {
        return Err(Stop::Answered(Reply::maintenance(maintenance.retry_after_s)));
    }
    match handling.does {
        Does::Forward | Does::Rewrite(_) => Ok(()),
        Does::Redirect { .. } | Does::Reply { .. } => Err(Stop::Routed),
    }
}

/// Appends the answer of a request's route; returns its status and whether a body comes with it. `told`: further header fields.
pub(crate) fn write(
    out: &mut Vec<u8>,
    request: &Request,
    said: &Said<'_>,
    close: bool,
    told: &[u8],
) -> (u16, bool) {
    let nothing: &[u8] = &[];
    let (status, kind, body): (u16, &str, &[u8]) = match request.handling().map(|handling| &handling.does) {
        Some(Does::Reply { status, content_type, body }) => (*status, content_type, body),
        Some(Does::Redirect { status, .. }) => (*status, "", nothing),
        Some(Does::Forward | Does::Rewrite(_)) | None => (500, "", nothing),
    };
    encode::status_line(out, status, b"");
    if !body.is_empty() {
        encode::field(out, b"Content-Type", kind.as_bytes());
    }
    if !matches!(status, 204 | 304) {
        out.extend_from_slice(b"Content-Length: ");
        push_decimal(out, body.len() as u64);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(Handling { does: Does::Redirect { to, .. }, .. }) = request.handling() {
        out.extend_from_slice(b"Location: ");
        said.write(to, out);
        out.extend_from_slice(b"\r\n");
    }
    encode::field(out, b"X-Content-Type-Options", b"nosniff");
    encode::field(out, b"X-Request-Id", said.id);
    out.extend_from_slice(told);
    if close {
        encode::field(out, b"Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    let has_body = !body.is_empty() && !request.is_head();
    if has_body {
        out.extend_from_slice(body);
    }
    (status, has_body)
}

/// What an upstream gets otherwise than the client sent it.
pub(crate) struct Treatment<'a> {
    /// Path and query.
    pub(crate) target: Option<Vec<u8>>,
    pub(crate) host: Option<&'a [u8]>,
    pub(crate) edits: &'a Edits,
    /// Header fields that come, as they are sent.
    pub(crate) lines: Vec<u8>,
}

/// What the upstream gets of a request; `None` for what the client sent. `own_host` is the upstream's.
pub(crate) fn treatment<'a>(
    client: &Client,
    request: &'a Request,
    own_host: &'a str,
) -> Option<Treatment<'a>> {
    let handling = request.handling().filter(|handling| handling.changes_requests())?;
    let target = match &handling.does {
        Does::Rewrite(with) => Some(rewritten(request.head.target(), handling.depth, with)),
        _ => None,
    };
    let host = match &handling.parts.upstream_host {
        UpstreamHost::Client => None,
        UpstreamHost::Upstream => Some(without_default_port(own_host).as_bytes()),
        UpstreamHost::Name(name) => Some(name.as_bytes()),
    };
    let mut lines = Vec::new();
    let id = request.id.to_text();
    handling.parts.requests.write(&said(client, request, &id), &mut lines);
    Some(Treatment { target, host, edits: &handling.parts.requests, lines })
}

/// A request, for templates.
pub(crate) fn said<'a>(client: &Client, request: &'a Request, id: &'a [u8]) -> Said<'a> {
    let host = request.known.host.map(|field| request.head.bytes(field.value)).unwrap_or_default();
    Said {
        head: &request.head,
        host,
        client: request.client,
        id,
        secure: is_secure(&request.head, client.tls.is_some(), request.peer_trusted),
        depth: request.handling().map_or(0, |handling| handling.depth),
    }
}

/// A target with something else in the place of its first segments, in normal form, and its query as it came.
fn rewritten(target: &[u8], depth: usize, with: &str) -> Vec<u8> {
    let mut out = with.as_bytes().to_vec();
    out.extend_from_slice(&rest(target, depth));
    if out.is_empty() {
        out.push(b'/');
    }
    out.extend_from_slice(query(target));
    out
}

/// A host as browsers say it.
fn without_default_port(host: &str) -> &str {
    host.strip_suffix(":80").or_else(|| host.strip_suffix(":443")).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewritten_path_keeps_what_is_below_the_route_and_the_query() {
        for (target, depth, with, expected) in [
            ("/api/x?q=1", 1, "", "/x?q=1"),
            ("/api", 1, "", "/"),
            ("/api/", 1, "", "/"),
            ("/api?q", 1, "/v2", "/v2?q"),
            ("/api//a/../b%2fc/%7e", 1, "/v2", "/v2/b%2Fc/~"),
            ("/x/../api/y", 1, "/v2", "/v2/y"),
            ("/y", 0, "/base", "/base/y"),
            ("http://a.test/api/x?y", 1, "", "/x?y"),
            ("/a/b/c", 3, "/d", "/d"),
        ] {
            let rewritten = rewritten(target.as_bytes(), depth, with);
            assert_eq!(String::from_utf8(rewritten).unwrap(), expected, "{target}");
        }
    }
}
