//! Upstreams that others can reach, and what travels to them in the clear.

use std::net::IpAddr;

use super::Advice;
use super::networks::is_public;
use crate::balance::{Server, Upstreams};
use crate::raw::upstreams::RawUpstreams;
use crate::toml_text::At;
use crate::upstream::Scheme;

impl Advice<'_> {
    /// Those of an app, or of a route.
    pub(super) fn upstreams(&mut self, written: Option<&At<RawUpstreams>>, upstreams: &Upstreams) {
        let Some(written) = written else { return };
        let public = |server: &&Server| server.upstream.host.parse::<IpAddr>().is_ok_and(is_public);
        let Some(server) = upstreams.servers.iter().find(public) else { return };
        let host = &server.upstream.host;
        if server.upstream.scheme == Scheme::Http {
            self.say(
                &written.span,
                format!("what travels to {host} can be read and changed on its way: it is a public address, without TLS"),
                "write `https://`, or use an address of a network of your own",
            );
        } else if server.tls.as_ref().is_some_and(|tls| tls.client_certificate.is_none()) {
            self.say(
                &written.span,
                format!("{host} is a public address: whoever knows it asks there, past all that protects it here"),
                "let it take connections from the nodes alone, and show it a certificate (`client_certificate` in `upstream_tls`)",
            );
        }
    }
}
