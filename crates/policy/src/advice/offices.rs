//! Back offices of well-known software, open to everybody.

use super::Advice;
use super::routes::is_below;
use crate::challenge::ChallengeUse;
use crate::networks::Networks;
use crate::policy::App;
use crate::raw::RawApp;
use crate::route::{Does, Route};
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
    host.split_once('.').is_some_and(|(first, _)| LABELS.contains(&first))
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
