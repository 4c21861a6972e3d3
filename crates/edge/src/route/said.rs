//! What templates of policy say of a request.

use std::net::IpAddr;

use phalanx_decide::rate::path::{encode, percent_encoded};
use phalanx_model::RequestHead;
use phalanx_model::text::push_ip;
use phalanx_policy::handling::{Of, Part, Template};

use crate::http1::FieldKind;
use crate::http1::semantics::without_port;

/// A request, for templates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) head: &'a RequestHead,
    /// What `Host` says, as it came.
    pub(crate) host: &'a [u8],
    pub(crate) client: IpAddr,
    pub(crate) id: &'a [u8],
    /// The client came over TLS.
    pub(crate) secure: bool,
    /// Segments of the route's path.
    pub(crate) depth: usize,
}

impl Said<'_> {
    /// Appends a template's text. Nothing of it can end a header field: what a client wrote is encoded, or was checked as a host.
    pub(crate) fn write(&self, template: &Template, out: &mut Vec<u8>) {
        for part in &template.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Of(of) => self.write_part(*of, out),
            }
        }
    }

    fn write_part(&self, of: Of, out: &mut Vec<u8>) {
        match of {
            Of::Scheme => out.extend_from_slice(if self.secure { b"https" } else { b"http" }),
            Of::Host => out.extend(without_port(self.host).iter().map(u8::to_ascii_lowercase)),
            Of::Path => {
                let mut path = Vec::new();
                encode(self.head.target(), &mut path);
                out.extend_from_slice(&path);
            }
            Of::Rest => out.extend_from_slice(&rest(self.head.target(), self.depth)),
            Of::Query => {
                for byte in query(self.head.target()) {
                    match byte {
                        b'"' | b'<' | b'>' | b'\\' => out.extend_from_slice(&percent_encoded(*byte)),
                        b'!'..=b'~' => out.push(*byte),
                        _ => out.extend_from_slice(&percent_encoded(*byte)),
                    }
                }
            }
            Of::Client => push_ip(out, self.client),
            Of::RequestId => out.extend_from_slice(self.id),
        }
    }
}

/// What is left of a target's path after its first segments, in normal form: empty, or with a slash at its start.
pub(crate) fn rest(target: &[u8], segments: usize) -> Vec<u8> {
    let mut path = Vec::new();
    encode(target, &mut path);
    // The path begins with a slash, and each segment with one.
    let mut slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    match slashes.nth(segments) {
        Some(at) => path.split_off(at),
        None => Vec::new(),
    }
}

/// `?` and the query of a target; empty where there is none.
pub(crate) fn query(target: &[u8]) -> &[u8] {
    let at = target.iter().position(|&byte| byte == b'?');
    at.and_then(|at| target.get(at..)).unwrap_or_default()
}

/// Whether a client came over TLS: to us, or so says a forwarder that is trusted.
pub(crate) fn is_secure(head: &RequestHead, tls: bool, peer_trusted: bool) -> bool {
    if !peer_trusted {
        return tls;
    }
    let said = |(name, _): &(&[u8], &[u8])| {
        FieldKind::of(name) == FieldKind::XForwardedProto && !name.contains(&b'_')
    };
    head.headers().find(said).map_or(tls, |(_, value)| value.eq_ignore_ascii_case(b"https"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::parse_head;

    #[track_caller]
    fn check(template: &str, target: &str, depth: usize, expected: &str) {
        let head =
            parse_head(format!("GET {target} HTTP/1.1\r\nHost: Shop.test:8080\r\n\r\n").as_bytes()).unwrap();
        let host = b"Shop.test:8080";
        let client = "2001:db8::1".parse().unwrap();
        let said = Said { head: &head, host, client, id: b"ID", secure: true, depth };
        let mut out = Vec::new();
        said.write(&Template::parse(template).unwrap(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn templates_say_what_a_request_is() {
        check("https://{host}{path}{query}", "/a/%7eb?c=d", 0, "https://shop.test/a/~b?c=d");
        check("{scheme} {client} {request_id}", "/", 0, "https 2001:db8::1 ID");
        check("/new{rest}{query}", "/old/a//b?", 1, "/new/a/b?");
        check("/new{rest}", "/old", 1, "/new");
        check("/new{rest}", "/old/", 1, "/new/");
        check("{rest}", "/a/b", 0, "/a/b");
        check("{rest}", "/", 0, "/");
    }

    #[test]
    fn no_client_leads_a_redirect_to_a_host_of_its_own() {
        check("https://a.test{rest}", "/old//evil.test", 1, "https://a.test/evil.test");
        check("/new{path}", "//evil.test", 0, "/new/evil.test");
        check("/x{rest}", "/old/\\evil.test", 1, "/x/%5Cevil.test");
        check("/x{path}", "/%0d%0aSet-Cookie:a", 0, "/x/%0D%0ASet-Cookie:a");
        check("/x{query}", "/?a=\"<\\>", 0, "/x?a=%22%3C%5C%3E");
    }
}
