//! Apps whose connections are passed on unopened: TLS by its host, TCP by its listener.

use std::ops::Range;

use super::Check;
use crate::raw::RawApp;
use crate::toml_text::At;

impl Check<'_> {
    /// Whether an app's connections are passed on unopened. What is said of requests makes no sense then, and is told.
    pub(super) fn passthrough(&mut self, raw: &At<RawApp>) -> bool {
        let Some(told) = raw.passthrough.as_ref().filter(|told| told.value) else { return false };
        if raw.hosts.is_empty() {
            let fault = self.text.error_at(&told.span, "nothing says which connections are passed on");
            self.found
                .push(fault.with_help("name the hosts that clients ask for: `hosts = [\"db.example.org\"]`"));
        }
        self.nothing_of_requests(raw, "passthrough");
        true
    }

    /// Whether listeners for TCP carry connections to an app.
    pub(super) fn tcp(&mut self, raw: &At<RawApp>) -> bool {
        let Some(told) = raw.tcp.as_ref().filter(|told| told.value) else { return false };
        if let Some(host) = raw.hosts.first() {
            let fault = self.text.error_at(&host.span, "connections of a TCP listener name no host");
            self.found.push(fault.with_help(
                "take out `hosts`, or write `passthrough = true` instead of `tcp` for TLS by its host",
            ));
        }
        if raw.passthrough.as_ref().is_some_and(|told| told.value) {
            let fault = self.text.error_at(&told.span, "`tcp` and `passthrough` exclude each other");
            self.found.push(fault.with_help("make two apps of it"));
        }
        self.nothing_of_requests(raw, "tcp");
        true
    }

    fn nothing_of_requests(&mut self, raw: &At<RawApp>, carried: &str) {
        for (key, span) in about_requests(raw) {
            let message =
                format!("`{key}` is about requests, and of a connection that is passed on none is seen");
            let fault = self.text.error_at(&span, message);
            self.found.push(fault.with_help(format!("take out `{key}`, or `{carried}`")));
        }
    }
}

/// What the app says that only requests have.
fn about_requests(raw: &RawApp) -> impl Iterator<Item = (&'static str, Range<usize>)> {
    fn of<T>(key: &'static str, at: Option<&At<T>>) -> Option<(&'static str, Range<usize>)> {
        at.map(|at| (key, at.span.clone()))
    }
    [
        of("accounts", raw.accounts.as_ref()),
        of("rules", raw.rules.as_ref()),
        of("extra_rules", raw.extra_rules.first()),
        of("compression", raw.compression.as_ref()),
        of("sticky_cookie", raw.sticky_cookie.as_ref()),
        of("upstream_protocol", raw.upstream_protocol.as_ref()),
        of("upstream_tls", raw.upstream_tls.as_ref()),
        of("upstream_host", raw.upstream_host.as_ref()),
        of("client_address", raw.client_address.as_ref()),
        of("client_certificate", raw.client_certificate.as_ref()),
        of("trust_forwarded", raw.trust_forwarded.first()),
        of("allow_networks", raw.allow_networks.first()),
        of("deny_networks", raw.deny_networks.first()),
        of("maintenance", raw.maintenance.as_ref()),
        of("security_txt", raw.security_txt.as_ref()),
        of("routes", raw.routes.first()),
        of("health.path", raw.health.path.as_ref()),
    ]
    .into_iter()
    .flatten()
}
