//! Routes of one app.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use phalanx_model::limits::{
    REPLY_BODY_BYTES_MAX, ROUTE_DEPTH_MAX, ROUTE_PATH_BYTES_MAX, ROUTE_PATTERNS_BYTES_MAX,
    ROUTE_PATTERNS_PER_APP_MAX, ROUTES_OF_PATH_MAX, ROUTES_PER_APP_MAX,
};

use super::{Check, NAME_BYTES_MAX};
use crate::handling::{Handling, Of, Part, Template};
use crate::networks::Networks;
use crate::path_pattern::PathPattern;
use crate::policy::App;
use crate::rate_limit::is_token;
use crate::raw::RawApp;
use crate::raw::routes::{RawHeaderIs, RawRedirect, RawReply, RawRoute};
use crate::route::{ClientScheme, Does, FieldIs, HeaderIs, Own, ReplyBody, Route, StaticReply, When};
use crate::toml_text::At;

impl Check<'_> {
    /// The routes of an app, in the order written; faulty ones are reported.
    pub(super) fn routes(&mut self, raw: &At<RawApp>, written: &[At<RawRoute>], app: &App) -> Vec<Route> {
        if let Some(one_more) = written.get(ROUTES_PER_APP_MAX) {
            self.error(&one_more.span, format!("an app has {ROUTES_PER_APP_MAX} routes at most"));
        }
        let mut names = HashMap::new();
        let mut met = HashMap::new();
        let mut patterns = HashSet::new();
        let ignore_case = raw.routes_ignore_case.unwrap_or_default();
        let mut routes = Vec::new();
        for route in written.iter().take(ROUTES_PER_APP_MAX) {
            let when = self.when(route, ignore_case);
            if let Some(pattern) = &route.path_pattern
                && patterns.insert(&pattern.value)
                && patterns.len() == ROUTE_PATTERNS_PER_APP_MAX + 1
            {
                let message = format!("an app has {ROUTE_PATTERNS_PER_APP_MAX} different patterns at most");
                let fault = self.text.error_at(&pattern.span, message);
                self.found.push(fault.with_help("join some of them with `|`, or write `path` and `suffix`"));
            }
            let name = self.route_name(route, &when, &mut names);
            // One with a fault is about other requests than it says.
            let is_whole = !when.path.is_empty() && when.pattern.is_some() == route.path_pattern.is_some();
            if is_whole {
                self.reachable(route, &when, &mut met);
            }
            routes.push(Route {
                own: self.own(raw, route, app),
                does: self.does(route, &when),
                handling: self.handling_of(route, &app.handling),
                name,
                when,
            });
        }
        routes
    }

    fn route_name(
        &mut self,
        route: &At<RawRoute>,
        when: &When,
        names: &mut HashMap<String, Range<usize>>,
    ) -> String {
        let Some(name) = &route.name else {
            return match (&when.pattern, when.path.as_str()) {
                (None, path) => path.to_owned(),
                (Some(pattern), "/") => format!("~ {pattern}"),
                (Some(pattern), path) => format!("{path} ~ {pattern}"),
            };
        };
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            let message = format!("a route's name has 1 to {NAME_BYTES_MAX} bytes and no control characters");
            self.error(&name.span, message);
        }
        if let Some(first) = names.insert(name.value.clone(), name.span.clone()) {
            let line = self.text.line_of(first.start);
            self.error(&name.span, format!("the route `{}` is already there, on line {line}", name.value));
        }
        name.value.clone()
    }

    fn when(&mut self, route: &At<RawRoute>, ignore_case: bool) -> When {
        if let (Some(_), Some(exact)) = (&route.path, &route.exact) {
            self.error(&exact.span, "a route has `path` or `exact`, not both");
        }
        let nothing = route.path.is_none()
            && route.exact.is_none()
            && route.suffix.is_none()
            && route.path_pattern.is_none()
            && route.methods.is_empty()
            && route.headers.is_empty()
            && route.scheme.is_none();
        if nothing {
            let fault = self.text.error_at(&route.span, "the route does not say which requests it is about");
            self.found.push(fault.with_help("add `path = \"/\"` for all of the app's"));
        }
        let path = route.exact.as_ref().or(route.path.as_ref());
        When {
            path: path.map_or_else(|| "/".to_owned(), |path| self.route_path(path).unwrap_or_default()),
            exact: route.exact.is_some(),
            suffix: route.suffix.as_ref().and_then(|suffix| self.suffix(suffix)),
            pattern: route.path_pattern.as_ref().and_then(|pattern| self.pattern(pattern, ignore_case)),
            methods: route.methods.iter().filter_map(|method| self.method(method)).collect(),
            headers: route.headers.iter().filter_map(|(name, is)| self.header_is(name, is)).collect(),
            scheme: route.scheme,
            ignore_case,
        }
    }

    pub(super) fn route_path(&mut self, path: &At<String>) -> Option<String> {
        let fault = if !path.starts_with('/') {
            format!("`{}`: a path starts with `/`", path.value)
        } else if path.len() > ROUTE_PATH_BYTES_MAX || path.split('/').count() > ROUTE_DEPTH_MAX {
            format!("a route's path has {ROUTE_PATH_BYTES_MAX} bytes and {ROUTE_DEPTH_MAX} segments at most")
        } else if path.contains(['%', '?', '#', '\\', ';', '*']) || path.chars().any(char::is_control) {
            format!("`{}`: write the path decoded, without query and wildcards", path.value)
        } else if path.contains("//") || path.split('/').any(|segment| segment == "." || segment == "..") {
            format!("`{}` is never met: paths are compared without `//`, `.` and `..`", path.value)
        } else {
            return Some(path.value.clone());
        };
        self.error(&path.span, fault);
        None
    }

    fn suffix(&mut self, suffix: &At<String>) -> Option<String> {
        let bad = suffix.is_empty()
            || suffix.len() > ROUTE_PATH_BYTES_MAX
            || suffix.contains(['%', '?', '#', '\\', ';', '*', '/'])
            || suffix.chars().any(char::is_control);
        if bad {
            let message =
                format!("`{}`: a suffix is the end of a path's last segment, decoded", suffix.value);
            self.found.push(self.text.error_at(&suffix.span, message).with_help("write it as in \".php\""));
            return None;
        }
        Some(suffix.value.clone())
    }

    /// A pattern, compiled once however many routes have it.
    fn pattern(&mut self, pattern: &At<String>, ignore_case: bool) -> Option<PathPattern> {
        let key = (pattern.value.clone(), ignore_case);
        if let Some(known) = self.patterns.get(&key) {
            return known.clone();
        }
        if self.pattern_bytes > ROUTE_PATTERNS_BYTES_MAX {
            // It was told; each one more takes time to compile.
            return None;
        }
        let compiled = PathPattern::new(&pattern.value, ignore_case).map_err(|(message, help)| {
            self.found.push(self.text.error_at(&pattern.span, message).with_help(help));
        });
        let compiled = compiled.ok();
        self.pattern_bytes += compiled.as_ref().map_or(0, PathPattern::memory);
        if self.pattern_bytes > ROUTE_PATTERNS_BYTES_MAX {
            self.error(&pattern.span, "the policy's patterns take more memory together than they may");
        }
        self.patterns.insert(key, compiled.clone());
        compiled
    }

    fn header_is(&mut self, name: &str, is: &At<RawHeaderIs>) -> Option<HeaderIs> {
        if !is_token(name) {
            self.error(&is.span, format!("`{name}` is no name of a header field"));
            return None;
        }
        let is = match &is.value {
            RawHeaderIs::There(true) => FieldIs::Present,
            RawHeaderIs::There(false) => FieldIs::Absent,
            RawHeaderIs::Equal(value) => FieldIs::Equal(value.clone()),
        };
        Some(HeaderIs { name: name.to_owned(), is })
    }

    /// A route that another one takes everything from was meant otherwise.
    fn reachable(
        &mut self,
        route: &At<RawRoute>,
        when: &When,
        met: &mut HashMap<(String, bool), (usize, Option<u32>)>,
    ) {
        let path = if when.ignore_case { when.path.to_ascii_lowercase() } else { when.path.clone() };
        let (count, all) = met.entry((path, when.exact)).or_default();
        *count += 1;
        let line = self.text.line_of(route.span.start);
        let taken = *all;
        if when.is_path_only() {
            all.get_or_insert(line);
        }
        let too_many = *count == ROUTES_OF_PATH_MAX + 1;
        if let Some(first) = taken {
            let message = format!("the route on line {first} takes all requests that this one is about");
            let fault = self.text.error_at(&route.span, message);
            self.found.push(fault.with_help("put the one that asks for more before it"));
        } else if too_many {
            let message =
                format!("{ROUTES_OF_PATH_MAX} routes at most have one path: they are tried one by one");
            self.error(&route.span, message);
        }
    }

    /// What a route says of its own about protection, limits and upstreams, and what the app says else.
    fn own(&mut self, raw: &At<RawApp>, route: &At<RawRoute>, app: &App) -> Option<Box<Own>> {
        let mut own = Own {
            mode: route.mode.as_ref().map_or(app.mode, |mode| mode.value),
            rules: match &route.rules {
                Some(rules) => self.rules(Some(rules)),
                None => app.rules.clone(),
            },
            extra_rules: match &route.extra_rules {
                Some(files) => files.iter().map(|file| self.folder.join(&file.value)).collect(),
                None => app.extra_rules.clone(),
            },
            paranoia: self.within("paranoia", route.paranoia.as_ref(), 1..=4, app.paranoia),
            raise_paranoia: None,
            classes: route.classes.as_ref().map_or(app.classes, |classes| self.classes(classes)),
            on_error: route.on_error.as_ref().map_or(app.on_error, |on_error| on_error.value),
            challenge: route.challenge.unwrap_or(app.challenge),
            networks: self.own_networks(route, &app.networks),
            limits: self.limits(&route.limits, app.limits),
            upstreams: self.own_upstreams(raw, route),
        };
        own.raise_paranoia = self.raised_of_route(route, &own, app);
        let same = own.upstreams.is_none()
            && own.raise_paranoia == app.raise_paranoia
            && (own.mode, own.paranoia, own.on_error) == (app.mode, app.paranoia, app.on_error)
            && (own.classes, own.limits, own.challenge) == (app.classes, app.limits, app.challenge)
            && (&own.rules, &own.extra_rules, &own.networks) == (&app.rules, &app.extra_rules, &app.networks);
        (!same).then(|| Box::new(own))
    }

    fn own_networks(&mut self, route: &At<RawRoute>, app: &Networks) -> Networks {
        let own = self.networks(
            route.allow_networks.as_deref().unwrap_or_default(),
            route.deny_networks.as_deref().unwrap_or_default(),
        );
        Networks {
            allow: if route.allow_networks.is_some() { own.allow } else { app.allow.clone() },
            deny: if route.deny_networks.is_some() { own.deny } else { app.deny.clone() },
        }
    }

    fn own_upstreams(&mut self, raw: &At<RawApp>, route: &At<RawRoute>) -> Option<crate::Upstreams> {
        let settings =
            [route.balance.is_some(), route.health.is_some(), route.retries.is_some(), route.queue.is_some()];
        let sticky = route.sticky_cookie.is_some();
        let Some(upstream) = &route.upstream else {
            if settings.contains(&true) || sticky {
                let message = "`balance`, `sticky_cookie`, `health`, `retries` and `queue` are about the route's own upstreams";
                let fault = self.text.error_at(&route.span, message);
                self.found.push(fault.with_help("add `upstream`, or write them into the app"));
            }
            return None;
        };
        // As if it were an app's, so that a route knows all that an app knows.
        let mut like = At { value: raw.value.clone(), span: route.span.clone() };
        like.value.upstream = Some(upstream.clone());
        let value = &mut like.value;
        value.balance = route.balance.clone().or(value.balance.take());
        value.sticky_cookie = route.sticky_cookie.clone().or(value.sticky_cookie.take());
        value.health = route.health.clone().unwrap_or_else(|| std::mem::take(&mut value.health));
        value.retries = route.retries.clone().unwrap_or_else(|| std::mem::take(&mut value.retries));
        value.queue = route.queue.clone().unwrap_or_else(|| std::mem::take(&mut value.queue));
        Some(self.upstreams(&like))
    }

    fn handling_of(&mut self, route: &At<RawRoute>, app: &Arc<Handling>) -> Arc<Handling> {
        let mut handling = Handling::clone(app);
        if let Some(maintenance) = &route.maintenance {
            handling.maintenance = Some(self.maintenance(maintenance));
        }
        if let Some(host) = &route.upstream_host {
            handling.upstream_host = self.upstream_host(host);
        }
        if let Some(pages) = &route.pages {
            handling.pages = self.pages(pages);
        }
        let edits = self.header_edits(&route.request_headers, super::responses::Side::Request);
        handling.request_headers.extend(edits);
        let edits = self.header_edits(&route.response_headers, super::responses::Side::Response);
        handling.response_headers.extend(edits);
        if handling == **app { Arc::clone(app) } else { Arc::new(handling) }
    }

    fn does(&mut self, route: &At<RawRoute>, when: &When) -> Does {
        let rewrite = route.rewrite.as_ref().and_then(|path| self.route_path(path));
        let answered = route.redirect.as_ref().map(|at| &at.span).or(route.reply.as_ref().map(|at| &at.span));
        if let Some(span) = answered {
            let goes = route.rewrite.is_some() || route.upstream.is_some() || route.upstream_host.is_some();
            if goes {
                self.error(span, "a request that is answered here goes to no upstream");
            }
        }
        match (&route.redirect, &route.reply) {
            (Some(redirect), Some(_)) => {
                self.error(&redirect.span, "a route has `redirect` or `reply`, not both");
                Does::Forward { rewrite }
            }
            (Some(redirect), None) => self.redirect(redirect, when).unwrap_or(Does::Forward { rewrite }),
            (None, Some(reply)) => Does::Reply(self.reply(reply)),
            (None, None) => {
                Does::Forward { rewrite: rewrite.map(|path| path.trim_end_matches('/').to_owned()) }
            }
        }
    }

    fn redirect(&mut self, raw: &At<RawRedirect>, when: &When) -> Option<Does> {
        let status = raw.status.as_ref().map_or(308, |status| status.value);
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            self.error(&raw.span, format!("{status} is no redirect; it is 301, 302, 303, 307 or 308"));
        }
        let Some(to) = &raw.to else {
            let fault = self.text.error_at(&raw.span, "the redirect has no `to`");
            self.found.push(fault.with_help("say where to: `to = \"https://{host}{path}{query}\"`"));
            return None;
        };
        match target(to, when) {
            Ok(template) => Some(Does::Redirect { to: template, status }),
            Err((message, help)) => {
                self.found.push(self.text.error_at(&to.span, message).with_help(help));
                None
            }
        }
    }

    fn reply(&mut self, raw: &At<RawReply>) -> StaticReply {
        let status = raw.status.as_ref().map_or(200, |status| status.value);
        if !(200..=599).contains(&status) {
            self.error(&raw.span, format!("{status} is no status of a reply; it goes from 200 to 599"));
        }
        let body = match (&raw.body, &raw.file) {
            (Some(body), Some(_)) => {
                self.error(&body.span, "a reply has `body` or `file`, not both");
                ReplyBody::Text(String::new())
            }
            (None, Some(file)) => ReplyBody::File(self.folder.join(&file.value)),
            (Some(body), None) => {
                if body.len() > REPLY_BODY_BYTES_MAX {
                    self.error(
                        &body.span,
                        format!("a reply's body has {REPLY_BODY_BYTES_MAX} bytes at most"),
                    );
                }
                ReplyBody::Text(body.value.clone())
            }
            (None, None) => ReplyBody::Text(String::new()),
        };
        if matches!(status, 204 | 205 | 304) && body != ReplyBody::Text(String::new()) {
            self.error(&raw.span, format!("a reply with status {status} has no body"));
        }
        let content_type = raw.content_type.as_ref().map_or(TEXT, |kind| kind.value.as_str());
        if !content_type.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !content_type.contains('/') {
            self.error(&raw.span, format!("`{content_type}` is no media type"));
        }
        StaticReply { status, content_type: content_type.to_owned(), body }
    }
}

/// Where a redirect leads, if it leads somewhere and nowhere that a client could choose.
fn target(to: &str, when: &When) -> Result<Template, (String, &'static str)> {
    let help = "write `https://{host}{path}{query}`, `/new{rest}` or the like";
    let template = Template::parse(to).map_err(|message| (message, help))?;
    let rooted = (to.starts_with('/') && !to.starts_with("//")) || to.starts_with("{path}");
    if !rooted && !["http://", "https://", "{scheme}://"].iter().any(|start| to.starts_with(start)) {
        return Err((format!("`{to}` leads nowhere"), help));
    }
    if !to.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
        return Err((format!("`{to}` has bytes that cannot stand in a URL"), "write them percent-encoded"));
    }
    let mut before = "";
    for part in &template.0 {
        match part {
            Part::Text(text) => before = text,
            Part::Of(of) => {
                // `//` would lead to a host of the client's choice.
                if matches!(of, Of::Path | Of::Rest) && before.ends_with('/') {
                    return Err((
                        format!("`{to}`: what stands for a path begins with `/` itself"),
                        "take out the slash before it",
                    ));
                }
                if *of == Of::Query && to.contains('?') {
                    return Err((
                        format!("`{to}`: what stands for the query begins with `?` itself"),
                        "write the query, or `{query}`, not both",
                    ));
                }
                before = "";
            }
        }
    }
    let loops = to.starts_with("{path}")
        || to.starts_with("{scheme}://{host}{path}")
        || (to.starts_with("https://{host}{path}") && when.scheme != Some(ClientScheme::Http))
        || (to.starts_with("http://{host}{path}") && when.scheme != Some(ClientScheme::Https));
    if loops {
        return Err((
            format!("`{to}` leads clients back to where they came from"),
            "add `scheme = \"http\"` to send those to HTTPS that come without",
        ));
    }
    Ok(template)
}

const TEXT: &str = "text/plain; charset=utf-8";
