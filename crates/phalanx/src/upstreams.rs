//! Upstreams of apps: what may be one, and how they do, for reports and metrics.

use std::net::SocketAddr;

use phalanx_control::api;
use phalanx_edge::{EdgePlan, GroupReport, Identities, UpstreamState, UpstreamTarget, is_never_upstream};
use phalanx_policy::Diagnostic;
use phalanx_record::{TryCount, UpstreamCount};

use crate::plan::Compiled;

/// What a policy's upstreams are checked against: things of this node alone.
#[derive(Debug, Default)]
pub(crate) struct OwnNode {
    /// Listeners that no app's requests may go to.
    pub(crate) management: Vec<SocketAddr>,
    /// The certificates that it can show to upstreams.
    pub(crate) identities: Identities,
}

/// Refuses a policy that sends requests to the node's own management, or wants a certificate shown that the node does not have. What names
/// lead to the management is left out when they are resolved.
pub(crate) fn check_upstreams(compiled: Compiled, own: &OwnNode) -> Result<Compiled, Vec<Diagnostic>> {
    let mut faults = Vec::new();
    for (app, route) in compiled.plan.with_upstreams() {
        for server in app.upstreams.servers() {
            if let UpstreamTarget::Address(address) = &server.target
                && is_never_upstream(*address, &own.management)
            {
                let of = if route.is_empty() { String::new() } else { format!("route `{route}` of ") };
                let message =
                    format!("the upstream {address} of {of}app `{}` is this node's own management", app.name);
                let fault = Diagnostic::error("policy", 0, message);
                faults.push(
                    fault.with_help(
                        "whoever reaches the app would reach the admin API as if from this machine",
                    ),
                );
            }
            if let Some(name) = server.tls.as_ref().and_then(|tls| tls.client_certificate.as_deref())
                && !own.identities.has(name)
            {
                let message = format!(
                    "app `{}` shows the certificate `{name}` to its upstream {}, and this node has none of that name",
                    app.name, server.key
                );
                let help = format!(
                    "add `[[upstream_certificate]]` with `name = \"{name}\"`, `cert` and `key` to the node's settings, and start it anew"
                );
                faults.push(Diagnostic::error("policy", 0, message).with_help(help));
            }
        }
    }
    if faults.is_empty() { Ok(compiled) } else { Err(faults) }
}

/// An app with how its upstreams do.
pub(crate) fn describe(report: GroupReport, app: api::App) -> api::App {
    let one = |one: phalanx_edge::EndpointReport| api::Upstream {
        server: one.server.to_string(),
        address: one.address.to_string(),
        state: one.state.as_str().to_owned(),
        weight: one.weight,
        backup: one.backup,
        in_flight: one.in_flight,
        requests: one.requests,
        failures: one.failures,
    };
    api::App {
        upstreams: report.endpoints.into_iter().map(one).collect(),
        retries: report.retries,
        retries_refused: report.retries_refused,
        waiting: u64::try_from(report.waiting).unwrap_or(u64::MAX),
        queue_refused: report.queue_refused,
        ..app
    }
}

/// What the upstreams in force did, for metrics.
pub(crate) fn counts(plan: &EdgePlan) -> (Vec<UpstreamCount>, Vec<TryCount>) {
    let (mut upstreams, mut tries) = (Vec::new(), Vec::new());
    for (app, route) in plan.with_upstreams() {
        let report = app.upstreams.report();
        let name = if route.is_empty() { app.name.to_string() } else { format!("{}: {route}", app.name) };
        upstreams.extend(report.endpoints.into_iter().map(|one| UpstreamCount {
            app: name.clone(),
            upstream: one.address.to_string(),
            up: one.state == UpstreamState::Up,
            in_flight: u64::from(one.in_flight),
            requests: one.requests,
            failures: one.failures,
        }));
        tries.push(TryCount {
            app: name,
            retries: report.retries,
            retries_refused: report.retries_refused,
            queue_refused: report.queue_refused,
            waiting: u64::try_from(report.waiting).unwrap_or(u64::MAX),
        });
    }
    (upstreams, tries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_own_management_is_no_upstream() {
        let own = OwnNode { management: vec!["127.0.0.1:8900".parse().unwrap()], ..OwnNode::default() };
        let check = |url: &str| {
            let mut policy = phalanx_policy::Policy::one_app(url).unwrap();
            policy.apps[0].mode = phalanx_policy::Mode::Off;
            let compiled = EdgePlan::compile(&policy, &Arc::default()).unwrap();
            let compiled = Compiled { plan: compiled.plan, policy, warnings: Vec::new(), written: None };
            check_upstreams(compiled, &own).is_ok()
        };
        assert!(!check("http://127.0.0.1:8900"));
        assert!(!check("http://[::1]:8900"));
        assert!(check("http://127.0.0.1:8901"));
    }
}
