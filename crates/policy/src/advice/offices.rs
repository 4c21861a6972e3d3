//! Back offices of well-known software, open to everybody.

use super::Advice;
use super::routes::{is_below, place};
use crate::challenge::ChallengeUse;
use crate::networks::Networks;
use crate::policy::App;
use crate::raw::RawApp;
use crate::raw::routes::RawRoute;
use crate::route::{Does, Route, When};
use crate::toml_text::At;

impl Advice<'_> {
    /// One line for an app, whatever of it is open.
    pub(super) fn offices(&mut self, raw: &At<RawApp>, app: &App) {
        if app.client_certificate.is_some() || asks_who(&app.networks, app.challenge) {
            return;
        }
        if let Some((host, at)) = app.hosts.iter().zip(&raw.hosts).find(|(host, _)| is_for_operators(host))
            && !is_closed(app, "/")
        {
            self.say(
                &at.span,
                format!("{host} is for those who run things, by its name, and open to everybody"),
                "say who may ask: `allow_networks = [\"203.0.113.0/24\"]`, or `client_certificate`",
            );
            return;
        }
        let Some(template) = &raw.template else { return };
        let offices =
            OFFICES.iter().find(|(name, _)| *name == template.value).map_or(&[][..], |(_, paths)| *paths);
        let open: Vec<&str> = offices.iter().copied().filter(|path| !is_closed(app, path)).collect();
        let Some(first) = open.first() else { return };
        self.say(
            &raw.span,
            format!("those who run `{}` work at {}, which is open to everybody", app.name, open.join(" and ")),
            format!("add a route that says who may ask: `path = \"{first}\"`, `allow_networks = [\"203.0.113.0/24\"]`"),
        );
    }

    /// Pages for those who run the app, open to everybody.
    pub(super) fn back_office(&mut self, raw: &At<RawRoute>, route: &Route, app: &App) {
        let when = &route.when;
        let Some(office) = office(when) else { return };
        if !matches!(route.does, Does::Forward { .. }) {
            return;
        }
        // What is open within something closed is meant so, as a script of the back office that visitors' pages ask.
        let is_exception = when.exact && when.path != office && is_closed(app, &office);
        if !is_asked(route, app) && !is_exception {
            self.say(
                &raw.span,
                format!("{} is for those who run the app, and open to everybody", place(when)),
                "say who may ask: `allow_networks = [\"203.0.113.0/24\"]`, or `client_certificate` at the app",
            );
        }
    }

    /// A back office that is closed for some requests, and open for others.
    pub(super) fn half_closed(&mut self, raw: &At<RawRoute>, route: &Route, app: &App) {
        let when = &route.when;
        let Some(office) = office(when) else { return };
        let asks = route.own.as_ref().is_some_and(|own| !own.networks.allow.is_empty());
        if !asks || app.client_certificate.is_some() || !app.networks.allow.is_empty() {
            return;
        }
        let open = if !when.methods.is_empty() {
            "by other methods"
        } else if !when.headers.is_empty() {
            "with other header fields"
        } else if when.scheme.is_some() {
            "over the other scheme"
        } else if when.exact && when.path == office && !PAGES.iter().any(|page| office.ends_with(page)) {
            "below it"
        } else {
            return;
        };
        let below = format!("{}/users", office.trim_end_matches('/'));
        if !is_closed(app, &below) {
            self.say(
                &raw.span,
                format!("{office} is closed to strangers here, and open to everybody {open}"),
                format!("write `path = \"{office}\"` alone, which takes all that is below it, by any method"),
            );
        }
    }
}

fn is_asked(route: &Route, app: &App) -> bool {
    let asks = match &route.own {
        Some(own) => asks_who(&own.networks, own.challenge),
        None => asks_who(&app.networks, app.challenge),
    };
    asks || app.client_certificate.is_some()
}

/// The back office that a route is about: up to the segment that says so, or what its pattern fits.
fn office(when: &When) -> Option<String> {
    let is_office = |segment: &str| BACK_OFFICES.contains(&segment.to_ascii_lowercase().as_str());
    let segments: Vec<&str> = when.segments().collect();
    if let Some(place) = segments.iter().position(|segment| is_office(segment)) {
        return Some(format!("/{}", segments.get(..=place)?.join("/")));
    }
    let pattern = when.pattern.as_ref()?;
    let fits = |name: &str| {
        ["", "/", "/users"].iter().any(|end| pattern.is_match(format!("/{name}{end}").as_bytes()))
    };
    // One that fits pages of visitors as well is about something else.
    BACK_OFFICES.iter().find(|name| fits(name) && !fits("news")).map(|name| format!("/{name}"))
}

/// Whether a route of the app asks who comes to a path, whatever else is asked, or passes none of it on.
fn is_closed(app: &App, path: &str) -> bool {
    let is_about = |route: &&Route| {
        route.when.is_path_only()
            && is_below(path, &route.when.path)
            && (!route.when.exact || route.when.path == path)
    };
    app.routes.iter().filter(is_about).any(|route| {
        !matches!(route.does, Does::Forward { .. })
            || route.own.as_ref().is_some_and(|own| asks_who(&own.networks, own.challenge))
    })
}

fn asks_who(networks: &Networks, challenge: ChallengeUse) -> bool {
    !networks.allow.is_empty() || challenge == ChallengeUse::Always
}

fn is_for_operators(host: &str) -> bool {
    host.strip_prefix("*.").unwrap_or(host).split_once('.').is_some_and(|(first, _)| LABELS.contains(&first))
}

/// Where the software of templates has its back office.
const OFFICES: [(&str, &[&str]); 5] = [
    ("drupal", &["/admin", "/user/login"]),
    ("gitlab", &["/admin"]),
    ("grafana", &["/admin"]),
    ("nextcloud", &["/settings/admin"]),
    ("wordpress", &["/wp-admin", "/wp-login.php"]),
];
/// Names of hosts that visitors have no business at.
const LABELS: [&str; 14] = [
    "admin",
    "backoffice",
    "intranet",
    "grafana",
    "kibana",
    "jenkins",
    "phpmyadmin",
    "pma",
    "adminer",
    "prometheus",
    "alertmanager",
    "argocd",
    "rabbitmq",
    "portainer",
];
/// Of these, what is one page.
const PAGES: [&str; 3] = ["/metrics", "/server-status", "/adminer"];
/// Where software has its back office, its figures and its inner parts.
const BACK_OFFICES: [&str; 18] = [
    "admin",
    "administrator",
    "wp-admin",
    "phpmyadmin",
    "adminer",
    "manager",
    "actuator",
    "metrics",
    "server-status",
    "debug",
    "_debug",
    "console",
    "backoffice",
    "jenkins",
    "grafana",
    "kibana",
    "solr",
    "internal",
];
