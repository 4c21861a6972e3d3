//! Cookies that keep a client with its upstream. What stands in one is a keyed hash of the upstream's address: it says nothing to who
//! reads it, means the same on every node that has the key, and goes on after a reload.
//!
//! Failure direction: a cookie that is no upstream's, or one's that does not work or is full, is as none; the client gets a new one.

use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use super::group::{Endpoint, UpstreamGroup};
use super::slot::cookie;
use crate::request::Request;

/// The endpoint that a request's cookie names, of those that work.
pub(super) fn wanted<'a>(
    group: &UpstreamGroup,
    endpoints: &'a [Arc<Endpoint>],
    request: &Request,
    key: &[u8; 16],
) -> Option<&'a Arc<Endpoint>> {
    let tag = shown(group.sticky.as_deref()?, request)?;
    endpoints.iter().find(|endpoint| tag_of(endpoint, key) == tag).filter(|endpoint| endpoint.is_up())
}

/// Appends the field that keeps a client with the endpoint that served it, unless its cookie does already.
pub(crate) fn write(
    out: &mut Vec<u8>,
    request: &Request,
    endpoint: &Endpoint,
    (key, secure): (&[u8; 16], bool),
) {
    let group = &request.app().upstreams;
    let Some(name) = group.sticky.as_deref() else { return };
    let tag = tag_of(endpoint, key);
    if group.only().is_some() || shown(name, request) == Some(tag) {
        return;
    }
    let secure = if secure { "; Secure" } else { "" };
    out.extend_from_slice(
        format!("Set-Cookie: {name}={tag:016x}; Path=/; HttpOnly; SameSite=Lax{secure}\r\n").as_bytes(),
    );
}

fn shown(name: &str, request: &Request) -> Option<u64> {
    let cookies = request.known.cookie.map(|field| request.head.bytes(field.value))?;
    let text = std::str::from_utf8(cookie(cookies, name.as_bytes())?).ok()?;
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

fn tag_of(endpoint: &Endpoint, key: &[u8; 16]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(key);
    hasher.write(endpoint.key.as_bytes());
    hasher.finish()
}
