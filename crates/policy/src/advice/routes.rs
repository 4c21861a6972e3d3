//! Routes that protect less than they seem to.

use super::Advice;
use crate::handling::Part;
use crate::path_pattern::PathPattern;
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
            if !self.weaker(raw, route, own, app) && matches!(route.does, Does::Forward { .. }) {
                raw.classes.iter().for_each(|classes| self.classes(classes, own.mode));
                self.lenient(raw.on_error.as_ref(), own.mode);
            }
            self.held(&raw.limits, &own.limits);
            if let Some(upstreams) = &own.upstreams {
                self.upstreams(raw.upstream.as_ref(), upstreams);
            }
        }
        self.off_tls(raw, route);
        self.back_office(raw, route, app);
        self.half_closed(raw, route, app);
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

    /// A client that chooses its method or its fields chooses its protection with them. Whether something was said.
    fn weaker(&mut self, raw: &At<RawRoute>, route: &Route, own: &Own, app: &App) -> bool {
        let less = (rank(own.mode) < rank(app.mode)).then_some("`mode`");
        let less = less.or((own.paranoia < app.paranoia).then_some("`paranoia`"));
        let is_open = own.networks.is_open() && !app.networks.is_open();
        let less = less.or(is_open.then_some("its networks"));
        let class = |used: ClassUse| used == ClassUse::Block;
        let is_looser = class(app.classes.detection) && !class(own.classes.detection);
        let less = less.or(is_looser.then_some("`classes`"));
        let is_lenient = own.on_error == OnError::Allow && app.on_error == OnError::Deny;
        let Some(less) = less.or(is_lenient.then_some("`on_error`")) else { return false };
        let when = &route.when;
        if !when.headers.is_empty() || !when.methods.is_empty() {
            self.say(
                &raw.span,
                format!("whoever asks chooses less protection ({less}) by a method or a header field"),
                "choose by path alone where less is protected",
            );
        } else if is_all(when) {
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
            let place = place(when);
            let what = match own.mode {
                Mode::Off => format!("no rule looks at requests to {place}"),
                _ => format!("attacks on {place} are recorded and passed on"),
            };
            self.say(
                &mode.span,
                what,
                "exclude the one rule that disturbs there (`[[apps.exclusions]]`), and leave `mode` as it is",
            );
        } else {
            return false;
        }
        true
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
}

/// Whether a route whose path is the same asks for nothing that the other one does not.
fn takes_all_of(first: &When, then: &When) -> bool {
    let same_path =
        (&first.path, first.exact, first.ignore_case) == (&then.path, then.exact, then.ignore_case);
    let methods = first.methods.is_empty()
        || !then.methods.is_empty() && then.methods.iter().all(|method| first.methods.contains(method));
    same_path
        && methods
        && first
            .suffix
            .as_deref()
            .is_none_or(|end| then.suffix.as_deref().is_some_and(|then| then.ends_with(end)))
        && (first.pattern.as_ref().is_none_or(is_any) || first.pattern == then.pattern)
        && (first.scheme.is_none() || first.scheme == then.scheme)
        && first.headers.iter().all(|asked| then.headers.contains(asked))
}

/// Whether each request meets it.
fn is_all(when: &When) -> bool {
    let path_only = When { pattern: None, ..when.clone() }.is_path_only();
    when.path == "/" && !when.exact && path_only && when.pattern.as_ref().is_none_or(is_any)
}

/// Whether each path matches a pattern, as it is usually written.
fn is_any(pattern: &PathPattern) -> bool {
    let text = pattern.as_str();
    let inner = text.strip_prefix('^').unwrap_or(text);
    matches!(inner.strip_suffix('$').unwrap_or(inner), ".*" | "/.*" | "(.*)" | "/(.*)")
        || matches!(inner, "" | "/" | ".")
}

/// The requests of a route in words.
pub(super) fn place(when: &When) -> String {
    let of_pattern = |pattern: &PathPattern| format!("paths that match `{}`", pattern.as_str());
    let of_suffix = |suffix: &String| format!("paths that end with `{suffix}`");
    match when.pattern.as_ref().map(of_pattern).or(when.suffix.as_ref().map(of_suffix)) {
        Some(place) if when.path != "/" => format!("{place} below {}", when.path),
        Some(place) => place,
        None => when.path.clone(),
    }
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
