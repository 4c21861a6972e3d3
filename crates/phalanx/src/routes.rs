//! Apps and routes as `phalanx check` shows them: a table in the order in which they are tried, and what one request meets.

use phalanx_edge::{EdgePlan, MetReport, request_head};
use phalanx_policy::route::Does;
use phalanx_policy::{App, Handling, Mode, Policy, Route};
use phalanx_record::escape::for_terminal;
use serde::Serialize;

use crate::commands::print;

/// An app with its routes.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    app: String,
    hosts: Vec<String>,
    routes: Vec<ListedRoute>,
}

/// A route; the last of an app takes what no other does.
#[derive(Debug, Serialize)]
struct ListedRoute {
    route: Option<String>,
    path: String,
    when: String,
    does: String,
    mode: &'static str,
    /// The paranoia of its rules while an order raises it.
    #[serde(skip_serializing_if = "Option::is_none")]
    raise_paranoia: Option<u8>,
}

/// Apps and routes in the order in which they are tried: apps that name hosts, then those that name domains, then the rest; routes
/// from the longest path to the shortest.
pub(crate) fn listing(policy: &Policy) -> Vec<Listed> {
    let mut apps: Vec<&App> = policy.apps.iter().collect();
    let rank = |app: &App| match app.hosts.iter().map(|host| host.starts_with("*.")).min() {
        Some(only_domains) => u8::from(only_domains),
        None => 2,
    };
    apps.sort_by_key(|app| rank(app));
    apps.into_iter().map(list).collect()
}

fn list(app: &App) -> Listed {
    let mut routes: Vec<&Route> = app.routes.iter().collect();
    routes.sort_by_key(|route| {
        let when = &route.when;
        let below = when.path.len() > 1 && when.path.ends_with('/');
        std::cmp::Reverse((when.segments().count(), when.exact, below))
    });
    let mut listed: Vec<ListedRoute> = routes.into_iter().map(|route| list_route(route, app)).collect();
    let takes_all = |route: &Route| route.when.path == "/" && !route.when.exact && route.when.is_path_only();
    if !app.routes.iter().any(takes_all) {
        listed.push(ListedRoute {
            route: None,
            path: "/".to_owned(),
            when: String::new(),
            does: with_maintenance(&app.handling, format!("forward to {}", app.upstreams)),
            mode: mode(app.mode),
            raise_paranoia: app.raise_paranoia,
        });
    }
    Listed { app: app.name.clone(), hosts: app.hosts.clone(), routes: listed }
}

fn list_route(route: &Route, app: &App) -> ListedRoute {
    let own = route.own.as_ref();
    let upstreams = own.and_then(|own| own.upstreams.as_ref()).unwrap_or(&app.upstreams);
    let does = match &route.does {
        does @ Does::Forward { .. } => format!("{does} to {upstreams}"),
        does => does.to_string(),
    };
    ListedRoute {
        route: Some(route.name.clone()),
        path: if route.when.exact { format!("= {}", route.when.path) } else { route.when.path.clone() },
        when: route.when.to_string(),
        does: with_maintenance(&route.handling, does),
        mode: mode(own.map_or(app.mode, |own| own.mode)),
        raise_paranoia: own.map_or(app.raise_paranoia, |own| own.raise_paranoia),
    }
}

fn with_maintenance(handling: &Handling, does: String) -> String {
    if handling.maintenance.is_some() { format!("maintenance, else {does}") } else { does }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Block => "block",
        Mode::Observe => "observe",
        Mode::Off => "off",
    }
}

/// The same as a table.
pub(crate) fn table(policy: &Policy) -> String {
    let mut rows = Vec::new();
    for app in listing(policy) {
        let hosts = if app.hosts.is_empty() { "all others".to_owned() } else { app.hosts.join(", ") };
        let (mut name, mut hosts) = (app.app, hosts);
        for route in app.routes {
            let called = route.route.unwrap_or_else(|| "-".to_owned());
            rows.push(vec![
                std::mem::take(&mut name),
                std::mem::take(&mut hosts),
                called,
                route.path,
                route.when,
                match route.raise_paranoia {
                    Some(level) => format!("{}, to paranoia {level} by order", route.mode),
                    None => route.mode.to_owned(),
                },
                route.does,
            ]);
        }
    }
    print::table(&["APP", "HOSTS", "ROUTE", "PATH", "WHEN", "MODE", "DOES"], &rows)
}

/// Which app and route a request meets.
pub(crate) fn meet(plan: &EdgePlan, method: &str, url: &str, fields: &[String]) -> anyhow::Result<MetReport> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if !matches!(scheme, "http" | "https") {
        anyhow::bail!("`{url}` is no URL; write `https://shop.example/cart`");
    }
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at_checked(at).unwrap_or((rest, ""));
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let head = request_head(method, host, &target, fields).map_err(anyhow::Error::msg)?;
    Ok(plan.explain(&head, scheme == "https"))
}

/// What a request meets, in sentences.
pub(crate) fn words(met: &MetReport) -> String {
    let mut out = String::new();
    let mut say = |key: &str, text: &str| out.push_str(&format!("{key:<8} {}\n", for_terminal(text)));
    say("app", &format!("{}: {}", met.app.as_deref().unwrap_or("none"), met.why_app));
    if !met.path.is_empty() {
        say("path", &met.path);
    }
    if let Some(other) = &met.other_reading {
        say("or", &format!("{other}, to servers that know `/` alone"));
    }
    for (route, against) in &met.tried {
        match against {
            Some(why) => say("tried", &format!("{route}: {why}")),
            None => say("tried", &format!("{route}: it fits")),
        }
    }
    match (&met.route, met.ambiguous) {
        (_, true) => {
            say("route", "refused with 400: servers read the path in two ways, which meet different routes")
        }
        (Some(route), _) => say("route", route),
        (None, _) if met.app.is_some() => say("route", "none; the app's own settings hold"),
        (None, _) => {}
    }
    out
}
