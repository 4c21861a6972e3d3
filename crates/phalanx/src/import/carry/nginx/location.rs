//! What becomes of the requests of a server or of one of its locations.

use super::super::Notes;
use super::super::site::{At, Does, Edits, Route, Target};
use super::super::values::{hsts, is_path, may_change};
use super::Scope;
use super::lex::Directive;
use super::limits;
use super::order::Paths;
use super::upstream::{self, Upstreams};
use super::variables::{self, Values};
use super::words::{Matches, simple_regex, template};

/// What is looked up for each block of a server.
pub(super) struct Server<'a> {
    pub(super) named: &'a Upstreams<'a>,
    /// What `$server_name` is.
    pub(super) name: String,
    /// What its variables are.
    pub(super) values: Values,
    /// Its named locations.
    pub(super) inner: Vec<(&'a Directive, Scope<'a>)>,
}

/// Which paths a location is about; none if that cannot be said.
pub(super) fn at(location: &Directive, paths: &mut Paths<'_>, notes: &mut Notes) -> Vec<At> {
    let (modifier, path) = match location.args.as_slice() {
        [path] => ("", path.as_str()),
        [modifier, path] => (modifier.as_str(), path.as_str()),
        _ => ("", ""),
    };
    let (what, help) = match modifier {
        // It is looked at where it is named.
        "" if path.starts_with('@') => return Vec::new(),
        "" | "^~" if is_path(path) => return vec![At::Prefix(path.to_owned())],
        "=" if is_path(path) => return vec![At::Exact(path.to_owned())],
        "~" | "~*" => match paths.expression(modifier, path) {
            Ok(all) => return all,
            Err(why) => (format!("a regular expression is not carried: {why}"), BY_HAND),
        },
        _ => (format!("`{}` is not carried", location.words()), BY_HAND),
    };
    notes.add(&location.place, what, help);
    Vec::new()
}

const BY_HAND: &str = "write a route by hand: its `path`, `exact`, `suffix` or `path_pattern`";

/// What a block does with requests. `at` is where they are for.
pub(super) fn does(scope: &Scope<'_>, at: &At, server: &Server<'_>, notes: &mut Notes) -> Does {
    let mut does = Does { limits: limits::of(scope, notes), ..Does::default() };
    if let Some(target) = answered(scope, server, notes) {
        // What an upstream would have got does not matter.
        let mut does = Does { target, ..Does::default() };
        added(&mut does, scope, server, notes);
        return does;
    }
    let values = variables::of_scope(&server.values, scope);
    // A `proxy_pass` is not inherited.
    if let Some(one) = scope.own("proxy_pass").pop().or_else(|| scope.own("grpc_pass").pop())
        && let Some(passed) = upstream::pass(one, scope, (server.named, &values), notes)
    {
        does.target = Target::Upstreams(passed.pool);
        does.rewrite =
            passed.uri.filter(|uri| matches!(at, At::Prefix(path) | At::Exact(path) if path != uri));
        does.request = sent(&mut does.upstream_host, scope, server, &passed.host, notes);
        added(&mut does, scope, server, notes);
        rewritten(&mut does, scope, at, notes);
        return does;
    }
    for one in scope.own("rewrite") {
        let leads_away = matches!(one.arg(2), "permanent" | "redirect") || one.arg(1).contains("://");
        if !leads_away {
            let help = "write a route with `rewrite`, or let the app answer both paths";
            notes.add(&one.place, format!("`{}` is not carried", one.words()), help);
        }
    }
    does
}

/// The scope whose upstream answers in a block: its own, or that of the named location which `try_files` ends with.
pub(super) fn tried<'a>(scope: &Scope<'a>, server: &Server<'a>, notes: &mut Notes) -> Scope<'a> {
    let Some(one) = scope.own("try_files").pop() else { return scope.clone() };
    let last = one.args.last().map_or("", String::as_str);
    let passes = !scope.own("proxy_pass").is_empty() || !scope.own("grpc_pass").is_empty();
    let named = server.inner.iter().find(|(inner, _)| last.starts_with('@') && inner.arg(0) == last);
    let (what, scope) = match named.filter(|_| !passes) {
        Some((_, named)) => (format!("`{}`: all goes to `{last}`", one.words()), named.clone()),
        None => (format!("`{}` is not carried", one.words()), scope.clone()),
    };
    notes.add(
        &one.place,
        what,
        "Phalanx serves no files: keep a server for them and name it as the upstream",
    );
    scope
}

/// `return`, and what is as one.
fn answered(scope: &Scope<'_>, server: &Server<'_>, notes: &mut Notes) -> Option<Target> {
    let one = scope.own("return").into_iter().next()?;
    let help = "write a route with `redirect` or `reply` by hand";
    let (status, text) = match one.arg(0).parse::<u16>() {
        Ok(status) => (status, one.args.get(1)),
        Err(_) => (302, one.args.first()),
    };
    match (status, text) {
        (301 | 302 | 303 | 307 | 308, Some(url)) => match template(url, &server.name) {
            Some(to) => Some(Target::Redirect { to, status }),
            None => {
                notes.add(&one.place, format!("`{}` has variables that are not carried", one.words()), help);
                None
            }
        },
        (444, _) => {
            let what = "`return 444` closes the connection; here 403 is answered";
            notes.add(&one.place, what, "nothing to do, or ban who comes there");
            Some(Target::Reply { status: 403, body: None })
        }
        (200..=599, text) if text.is_none_or(|text| !text.contains('$')) => {
            Some(Target::Reply { status, body: text.cloned() })
        }
        _ => {
            notes.add(&one.place, format!("`{}` is not carried", one.words()), help);
            None
        }
    }
}

/// `proxy_set_header`: what the upstream is told.
fn sent(
    upstream_host: &mut Option<String>,
    scope: &Scope<'_>,
    server: &Server<'_>,
    proxy_host: &str,
    notes: &mut Notes,
) -> Edits {
    let mut edits = Edits::default();
    // Without a word about it nginx says the upstream's name.
    *upstream_host = Some(proxy_host.to_owned());
    for one in scope.all("proxy_set_header") {
        let (name, value) = (one.arg(0), one.arg(1));
        match (name.to_ascii_lowercase().as_str(), value) {
            ("host", "$host" | "$http_host" | "$host:$server_port") => *upstream_host = None,
            ("host", "$proxy_host") => {}
            ("host", host) if !host.contains('$') => *upstream_host = Some(host.to_owned()),
            // Set in any case.
            ("x-forwarded-for", "$proxy_add_x_forwarded_for" | "$remote_addr")
            | ("x-forwarded-proto", "$scheme")
            | ("x-forwarded-host", "$host" | "$http_host")
            | ("x-request-id", "$request_id")
            | ("connection" | "upgrade", _) => {}
            _ if !may_change(name, true) => {
                let help = "it is the node's own: nothing to do, or let the app read another field";
                notes.add(&one.place, format!("`{name}` cannot be set"), help);
            }
            (_, "") => edits.remove.push(name.to_owned()),
            (_, value) => match template(value, &server.name) {
                Some(value) => edits.set.push((name.to_owned(), value)),
                None => {
                    let help = "write it into `request_headers` by hand, or take it out";
                    notes.add(
                        &one.place,
                        format!("`{}` has variables that are not carried", one.words()),
                        help,
                    );
                }
            },
        }
    }
    edits
}

/// `add_header` and `proxy_hide_header`: what clients are told.
fn added(does: &mut Does, scope: &Scope<'_>, server: &Server<'_>, notes: &mut Notes) {
    let edits = &mut does.response;
    for one in scope.all("add_header") {
        let (name, value) = (one.arg(0), one.arg(1));
        if name.eq_ignore_ascii_case("strict-transport-security") && hsts(value).is_some() {
            does.hsts = hsts(value);
            continue;
        }
        match template(value, &server.name).filter(|_| may_change(name, false)) {
            Some(value) if !value.is_empty() => {
                let known = edits.add.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name));
                match known {
                    Some(_) => notes.add(
                        &one.place,
                        format!("`{name}` is added twice"),
                        "one value is carried: write both into one, with a comma",
                    ),
                    None => edits.add.push((name.to_owned(), value)),
                }
            }
            Some(_) => {}
            None => {
                let help = "write it into `response_headers` by hand";
                notes.add(&one.place, format!("`{}` is not carried", one.words()), help);
            }
        }
    }
    let hidden = scope.all("proxy_hide_header").into_iter().map(|one| one.arg(0));
    edits.remove = hidden.filter(|name| may_change(name, false)).map(str::to_owned).collect();
}

/// A `rewrite` that changes what the upstream sees.
fn rewritten(does: &mut Does, scope: &Scope<'_>, at: &At, notes: &mut Notes) {
    for one in scope.own("rewrite") {
        let goes_on = !matches!(one.arg(2), "permanent" | "redirect") && !one.arg(1).contains("://");
        if !goes_on {
            continue;
        }
        let to = one.arg(1).strip_suffix("$1").filter(|to| is_path(to));
        match (simple_regex(one.arg(0)), at, to) {
            (Some(Matches::Below(below)), At::Prefix(path), Some(to))
                if below.trim_end_matches('/') == path.trim_end_matches('/') =>
            {
                does.rewrite = Some(to.to_owned());
            }
            _ => notes.add(
                &one.place,
                format!("`{}` is not carried", one.words()),
                "write a route with `rewrite`, or let the app answer both paths",
            ),
        }
    }
}

/// Routes that the `rewrite`s of a block make: those that send clients elsewhere.
pub(super) fn redirects(scope: &Scope<'_>, server: &Server<'_>, notes: &mut Notes) -> Vec<Route> {
    let mut routes = Vec::new();
    for one in scope.own("rewrite") {
        let status = match (one.arg(2), one.arg(1).contains("://")) {
            ("permanent", _) => 301,
            ("redirect", _) | (_, true) => 302,
            _ => continue,
        };
        // A question mark at the end leaves the query out, else it goes on.
        let (to, query) = match one.arg(1).strip_suffix('?') {
            Some(to) => (to, ""),
            None if one.arg(1).contains("$request_uri") => (one.arg(1), ""),
            None => (one.arg(1), "$_query"),
        };
        let (at, to) = match simple_regex(one.arg(0)) {
            Some(Matches::All) => {
                (Some(At::Prefix("/".into())), to.replace("/$1", "$uri").replace("$1", "$uri"))
            }
            Some(Matches::Path(path)) => (Some(At::Exact(path)), to.to_owned()),
            Some(Matches::Below(path)) => (Some(At::Prefix(path)), to.replace("/$1", "/$_rest")),
            None => (None, to.to_owned()),
        };
        let to = rest(&format!("{to}{query}"), &server.name);
        match (at, to) {
            (Some(at), Some(to)) => {
                let does = Does { target: Target::Redirect { to, status }, ..Does::default() };
                routes.push(Route::new(one.place.clone(), at, does));
            }
            _ => notes.add(
                &one.place,
                format!("`{}` is not carried", one.words()),
                "write a route with `redirect` by hand",
            ),
        }
    }
    routes
}

/// A template in which what follows the route's path may stand.
fn rest(text: &str, server_name: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in text.split("/$_rest") {
        parts.push(template(part, server_name)?);
    }
    Some(parts.join(REST))
}

/// What follows the route's path, with the slash before it.
const REST: &str = "{rest}";
