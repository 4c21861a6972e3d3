//! What whoever loads a policy must know of, as bundles name it.
//!
//! INVARIANT: every field of a policy stands here by name, so that nothing can be added to policy without saying whether older nodes
//! know it. One that is ignored with `_` was there in the first version, or has no meaning without another one.

use std::collections::BTreeSet;

use phalanx_policy::handling::{Brand, Handling, Pages};
use phalanx_policy::route::{Own, Route, When};
use phalanx_policy::{
    Accounts, App, Challenge, ChallengeUse, Classes, ClientAddress, Detection, Limits, PlaybooksUsed, Policy,
    Protocol, Scheme, Server, Throttle, Upstream, Upstreams,
};

/// The features of [`phalanx_fleet`]'s list that a policy uses.
pub(crate) fn features(policy: &Policy) -> Vec<String> {
    let mut used = BTreeSet::new();
    let Policy {
        version: _,
        apps,
        allow: _,
        operator_networks: _,
        exemptions,
        strikes: _,
        challenge,
        detection,
        throttle,
        playbooks,
        cdn_networks,
        crawlers,
    } = policy;
    note(&mut used, "challenges", *challenge != Challenge::default() || *throttle != Throttle::default());
    note(&mut used, "exemptions", !exemptions.is_empty());
    note(&mut used, "detection", *detection != Detection::default());
    note(&mut used, "playbooks", *playbooks != PlaybooksUsed::default());
    note(&mut used, "client-address", cdn_networks.is_some());
    note(&mut used, "challenges", crawlers.is_some());
    apps.iter().for_each(|app| of_app(app, &mut used));
    used.into_iter().map(str::to_owned).collect()
}

type Used = BTreeSet<&'static str>;

fn note(used: &mut Used, feature: &'static str, is_used: bool) {
    if is_used {
        used.insert(feature);
    }
}

fn of_app(app: &App, used: &mut Used) {
    let App {
        name: _,
        hosts,
        upstreams,
        mode: _,
        rules: _,
        extra_rules: _,
        exclusions,
        paranoia: _,
        raise_paranoia,
        classes,
        on_error: _,
        challenge,
        networks,
        accounts,
        limits,
        rate_limits,
        compression,
        passthrough,
        tcp,
        trust_forwarded: _,
        client_address,
        client_certificate,
        handling,
        routes,
        // It is a route.
        security_txt: _,
    } = app;
    let below = hosts.iter().any(|host| host.starts_with("*."));
    note(used, "routes", below || !routes.is_empty() || **handling != Handling::default());
    note(used, "raise-paranoia", raise_paranoia.is_some());
    note(used, "rule-classes", *classes != Classes::default());
    note(used, "challenges", *challenge != ChallengeUse::default());
    note(used, "networks", !networks.is_open());
    note(used, "pages-branded", pages_are_branded(app));
    note(used, "rate-limits", !rate_limits.is_empty());
    note(used, "accounts", *accounts != Accounts::default());
    note(used, "exclusions", !exclusions.is_empty());
    note(used, "compression", compression.is_some());
    note(used, "passthrough", *passthrough);
    note(used, "tcp", *tcp);
    note(used, "client-address", *client_address != ClientAddress::default());
    note(used, "client-certificate", client_certificate.is_some());
    of_limits(limits, used);
    of_upstreams(upstreams, used);
    routes.iter().for_each(|route| of_route(route, used));
}

/// Whether an app puts anything on the product's pages, or one of its routes has pages of its own.
fn pages_are_branded(app: &App) -> bool {
    let Pages { refused: _, error: _, maintenance: _, brand, problem } = &app.handling.pages;
    *brand != Brand::default()
        || *problem
        || app.routes.iter().any(|route| route.handling.pages != app.handling.pages)
}

/// What a route does came with routes.
fn of_route(route: &Route, used: &mut Used) {
    let Route { name: _, when, own, does: _, handling: _ } = route;
    let When { path: _, exact: _, suffix: _, pattern, methods: _, headers: _, scheme: _, ignore_case: _ } =
        when;
    note(used, "route-patterns", pattern.is_some());
    let Some(own) = own else { return };
    let Own {
        mode: _,
        rules: _,
        extra_rules: _,
        paranoia: _,
        raise_paranoia,
        classes,
        on_error: _,
        challenge,
        networks,
        limits,
        upstreams,
    } = &**own;
    note(used, "raise-paranoia", raise_paranoia.is_some());
    note(used, "rule-classes", *classes != Classes::default());
    note(used, "challenges", *challenge != ChallengeUse::default());
    note(used, "networks", !networks.is_open());
    of_limits(limits, used);
    upstreams.iter().for_each(|upstreams| of_upstreams(upstreams, used));
}

fn of_limits(limits: &Limits, used: &mut Used) {
    let Limits {
        body_bytes_max: _,
        body_held_bytes_max: _,
        response_held_bytes_max: _,
        upstream_connect_max_ms: _,
        upstream_head_max_ms,
        upstream_gap_max_ms,
        upstream_total_max_ms,
    } = limits;
    note(used, "upstreams", upstream_gap_max_ms != upstream_head_max_ms || upstream_total_max_ms.is_some());
}

fn of_upstreams(upstreams: &Upstreams, used: &mut Used) {
    let Upstreams { servers, balance, health, retries, queue, sticky } = upstreams;
    note(used, "proxy-protocol", servers.iter().any(|server| server.proxy.is_some()));
    let [server] = servers.as_slice() else {
        note(used, "upstreams", true);
        note(used, "origins", sticky.is_some() || servers.iter().any(is_spoken_to_otherwise));
        return;
    };
    let Upstream { scheme: _, host: _, port: _, socket, path_prefix: _ } = &server.upstream;
    let plain = Upstreams { sticky: sticky.clone(), ..Upstreams::one(server.upstream.clone()) };
    let Upstreams { servers: plain_servers, .. } = &plain;
    let is_plain = (balance, health, retries, queue)
        == (&plain.balance, &plain.health, &plain.retries, &plain.queue)
        && servers == plain_servers;
    note(used, "upstreams", !is_plain || socket.is_some() || sticky.is_some());
    note(used, "origins", sticky.is_some() || is_spoken_to_otherwise(server));
}

fn is_spoken_to_otherwise(server: &Server) -> bool {
    let Server { upstream, weight: _, backup: _, requests_max: _, protocol, tls, proxy: _ } = server;
    tls.is_some() || *protocol != Protocol::Http1 || upstream.scheme == Scheme::Https
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let text = format!("[[apps]]\nname = 'a'\nhosts = ['a.test']\n{text}");
        features(&phalanx_policy::parse_policy("p.toml", &text).unwrap_or_else(|f| panic!("{f:?}")).0)
    }

    #[test]
    fn a_bundle_requires_what_its_policy_uses() {
        let upstream = "upstream = 'http://127.0.0.1:1'\n";
        for (text, expected) in [
            ("", &[][..]),
            ("limits = { body = '1 MiB' }", &[]),
            ("limits = { upstream_total = '1m' }", &["upstreams"]),
            ("compression = true", &["compression"]),
            ("accounts = { learn = false }", &["accounts"]),
            ("client_certificate = { ca_file = 'a.pem' }", &["client-certificate"]),
            ("deny_networks = ['192.0.2.0/24']", &["networks"]),
            ("health = { failures = 1 }", &["upstreams"]),
            ("sticky_cookie = 'a'", &["origins", "upstreams"]),
            ("[[apps.routes]]\npath = '/a'", &["routes"]),
            ("[[apps.routes]]\npath_pattern = '^/a[0-9]'", &["route-patterns", "routes"]),
            ("pages = { name = 'Shop' }", &["pages-branded", "routes"]),
            ("[[apps.routes]]\npath = '/api'\npages = { form = 'problem' }", &["pages-branded", "routes"]),
            ("[[apps.routes]]\npath = '/a'\nallow_networks = ['10.0.0.0/8']", &["networks", "routes"]),
            ("extra_rules = ['own.conf']\nraise_paranoia = 2", &["raise-paranoia"]),
            ("[[apps.routes]]\npath = '/a'\nclasses = { policy = 'off' }", &["routes", "rule-classes"]),
            ("[[apps.routes]]\npath = '/a'\nupstream = 'https://a.test'", &["origins", "routes"]),
        ] {
            let used = of(&format!("{upstream}{text}"));
            assert_eq!(used, expected, "{text}");
            assert!(
                used.iter().all(|name| phalanx_fleet::policy::bundle::FEATURES.contains(&name.as_str())),
                "{used:?}"
            );
        }
    }
}
