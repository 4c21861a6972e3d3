//! Routes that protect less than they seem to.

use super::Advice;
use crate::challenge::ChallengeUse;
use crate::handling::Part;
use crate::policy::{App, ClassUse, Mode, OnError};
use crate::raw::RawApp;
use crate::raw::routes::RawRoute;
use crate::route::{Does, Own, Route, When};
use crate::toml_text::At;

impl Advice<'_> {
    pub(super) fn route(&mut self, raw: &At<RawRoute>, route: &Route, app: &App) {
        self.cross_origin(&raw.response_headers);
        if let Some(own) = &route.own {
            self.doors(raw.allow_networks.as_deref().unwrap_or_default(), &own.networks);
            self.weaker(raw, route, own, app);
        }
        self.off_tls(raw, route);
        self.back_office(raw, route, app);
    }

    /// Routes that no request meets: one before them takes all that they would. Those of the same path are tried as they are written.
    pub(super) fn unmet(&mut self, raw: &RawApp, app: &App) {
        for (place, (written, route)) in raw.routes.iter().zip(&app.routes).enumerate() {
            let mut before = raw.routes.iter().zip(&app.routes).take(place);
            let Some((first, _)) = before.find(|(_, first)| takes_all_of(&first.when, &route.when)) else {
                continue;
            };
            let line = self.text.line_of(first.span.start);
            self.say(
                &written.span,
                format!("no request meets this route: the one in line {line} takes all that it would"),
                "take it out, or write it before that one",
            );
        }
    }

    /// A client that chooses its method or its fields chooses its protection with them.
    fn weaker(&mut self, raw: &At<RawRoute>, route: &Route, own: &Own, app: &App) {
        let less = (rank(own.mode) < rank(app.mode)).then_some("`mode`");
        let less = less.or((own.paranoia < app.paranoia).then_some("`paranoia`"));
        let is_open = own.networks.is_open() && !app.networks.is_open();
        let less = less.or(is_open.then_some("its networks"));
        let class = |used: ClassUse| used == ClassUse::Block;
        let is_looser = class(app.classes.detection) && !class(own.classes.detection);
        let less = less.or(is_looser.then_some("`classes`"));
        let is_lenient = own.on_error == OnError::Allow && app.on_error == OnError::Deny;
        let Some(less) = less.or(is_lenient.then_some("`on_error`")) else { return };
        let when = &route.when;
        if !when.headers.is_empty() || !when.methods.is_empty() {
            self.say(
                &raw.span,
                format!("whoever asks chooses less protection ({less}) by a method or a header field"),
                "choose by path alone where less is protected",
            );
        } else if when.is_path_only() && when.path == "/" {
            self.say(
                &raw.span,
                format!("the route takes all requests, and protects them less than the app says ({less})"),
                "say it at the app, or name the path that it is meant for",
            );
        } else if app.accounts.endpoints.iter().any(|endpoint| is_below(&endpoint.path, &when.path))
            && own.mode != Mode::Block
        {
            self.say(
                &raw.span,
                format!("a path where people log in or pay is protected less than the rest ({less})"),
                "exclude the one rule that disturbs there, and leave `mode` as it is",
            );
        } else if let Some(mode) = &raw.mode
            && rank(own.mode) < rank(app.mode)
            && matches!(route.does, Does::Forward { .. })
        {
            let path = &when.path;
            let what = match own.mode {
                Mode::Off => format!("no rule looks at requests to {path}"),
                _ => format!("attacks on {path} are recorded and passed on"),
            };
            self.say(
                &mode.span,
                what,
                "exclude the one rule that disturbs there (`[[apps.exclusions]]`), and leave `mode` as it is",
            );
        }
    }

    /// Clients are led from HTTPS to HTTP.
    fn off_tls(&mut self, raw: &At<RawRoute>, route: &Route) {
        let Does::Redirect { to, .. } = &route.does else { return };
        let starts_plain = matches!(to.0.first(), Some(Part::Text(text)) if text.starts_with("http://"));
        if starts_plain && let Some(redirect) = &raw.redirect {
            self.say(
                &redirect.span,
                "clients are sent to a place without TLS: what they ask there can be read and changed on its way",
                "write `https://`",
            );
        }
    }

    /// Pages for those who run the app, open to everybody.
    fn back_office(&mut self, raw: &At<RawRoute>, route: &Route, app: &App) {
        let segments: Vec<&str> = route.when.segments().collect();
        let is_one =
            segments.iter().any(|segment| BACK_OFFICES.contains(&segment.to_ascii_lowercase().as_str()));
        if !is_one || !matches!(route.does, Does::Forward { .. }) {
            return;
        }
        let (networks, challenge) = match &route.own {
            Some(own) => (&own.networks, own.challenge),
            None => (&app.networks, app.challenge),
        };
        let asks_who = app.client_certificate.is_some() || challenge == ChallengeUse::Always;
        if networks.allow.is_empty() && !asks_who {
            self.say(
                &raw.span,
                format!("{} is for those who run the app, and open to everybody", route.when.path),
                "say who may ask: `allow_networks = [\"203.0.113.0/24\"]`, or `client_certificate` at the app",
            );
        }
    }
}

/// Whether a route whose path is the same asks for nothing that the other one does not.
fn takes_all_of(first: &When, then: &When) -> bool {
    let same_path =
        (&first.path, first.exact, first.ignore_case) == (&then.path, then.exact, then.ignore_case);
    let methods = first.methods.is_empty()
        || !then.methods.is_empty() && then.methods.iter().all(|method| first.methods.contains(method));
    same_path
        && methods
        && (first.suffix.is_none() || first.suffix == then.suffix)
        && (first.pattern.is_none() || first.pattern == then.pattern)
        && (first.scheme.is_none() || first.scheme == then.scheme)
        && first.headers.iter().all(|asked| then.headers.contains(asked))
}

fn rank(mode: Mode) -> u8 {
    match mode {
        Mode::Off => 0,
        Mode::Observe => 1,
        Mode::Block => 2,
    }
}

pub(super) fn is_below(path: &str, above: &str) -> bool {
    let above = above.trim_end_matches('/');
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

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
