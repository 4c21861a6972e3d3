//! `proxy_pass` and `upstream` blocks: servers, weights, how one is chosen, when one is given up.

use std::collections::BTreeMap;

use super::super::Notes;
use super::super::emit::quoted;
use super::super::site::{Pool, Server, ServerTls};
use super::super::values::{duration, is_host, is_path, parse_duration};
use super::Scope;
use super::lex::Directive;
use super::variables::{self, Values};

/// `upstream` blocks by name.
pub(super) type Upstreams<'a> = BTreeMap<&'a str, &'a Directive>;

/// Where a `proxy_pass` leads.
#[derive(Debug, PartialEq)]
pub(super) struct Passed {
    pub(super) pool: Pool,
    /// What stands in the place of the location's path, where the URL has a path.
    pub(super) uri: Option<String>,
    /// What nginx says in `Host` unless it is told otherwise.
    pub(super) host: String,
}

/// All `upstream` blocks.
pub(super) fn named<'a>(http: &'a [Directive], notes: &mut Notes) -> Upstreams<'a> {
    let mut named = Upstreams::new();
    for one in http.iter().filter(|one| one.name == "upstream") {
        if named.insert(one.arg(0), one).is_some() {
            notes.add(
                &one.place,
                format!("there are two upstreams `{}`", one.arg(0)),
                "the last one was taken",
            );
        }
    }
    named
}

/// Follows a `proxy_pass`.
pub(super) fn pass(
    one: &Directive,
    scope: &Scope<'_>,
    (named, values): (&Upstreams<'_>, &Values),
    notes: &mut Notes,
) -> Option<Passed> {
    let mut url = variables::expand(one.arg(0), values);
    // With variables nginx passes the whole path on, whether it is told to or not.
    if one.arg(0).contains('$') {
        let whole =
            ["$request_uri", "$uri$is_args$args", "$uri"].iter().find_map(|end| url.strip_suffix(end));
        url = whole.map_or(url.clone(), str::to_owned);
    }
    let url = url.as_str();
    let help = "write the upstream into policy.toml by hand";
    if url.contains('$') {
        notes.add(&one.place, format!("`{}` has variables", one.words()), help);
        return None;
    }
    let Some((scheme, rest)) =
        url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https" | "grpc" | "grpcs"))
    else {
        notes.add(&one.place, format!("`{}` is no HTTP server", one.words()), help);
        return None;
    };
    let (authority, uri) = match rest.strip_prefix("unix:") {
        // The path of a socket ends with a colon, where there is a URI.
        Some(socket) => match socket.split_once(':') {
            Some((_, uri)) => (rest.strip_suffix(uri).unwrap_or(rest).trim_end_matches(':'), Some(uri)),
            None => (rest, None),
        },
        None => match rest.find('/').and_then(|at| rest.split_at_checked(at)) {
            Some((authority, uri)) => (authority, Some(uri)),
            None => (rest, None),
        },
    };
    let uri = uri.map(|uri| uri.split('?').next().unwrap_or_default().to_owned());
    if let Some(uri) = uri.as_ref().filter(|uri| !is_path(uri)) {
        notes.add(&one.place, format!("`{uri}` is no path of an upstream"), help);
        return None;
    }
    let mut pool = match named.get(authority) {
        Some(block) => of_block(block, scheme, notes),
        None => Pool { servers: vec![server(scheme, authority)], ..Pool::default() },
    };
    if pool.servers.is_empty() {
        notes.add(&one.place, format!("upstream `{authority}` has no server"), help);
        return None;
    }
    pool.retries = retries(scope, notes);
    let tls = if scheme.ends_with('s') { server_tls(one, scope, notes) } else { ServerTls::default() };
    for server in &mut pool.servers {
        server.http2 = scheme.starts_with("grpc");
        server.tls.clone_from(&tls);
    }
    // nginx says the name of the block, which is no host's, or what stands in the URL.
    let host = if named.contains_key(authority) && is_host(authority) { authority } else { "upstream" };
    Some(Passed { pool, uri, host: host.to_owned() })
}

fn server(scheme: &str, address: &str) -> Server {
    let url = match address.strip_prefix("unix:") {
        Some(socket) => format!("unix:{socket}"),
        None => format!("{}://{address}", scheme.replace("grpc", "http")),
    };
    Server { url, ..Server::default() }
}

/// How servers over TLS are known; nginx asks for nothing unless it is told to.
fn server_tls(one: &Directive, scope: &Scope<'_>, notes: &mut Notes) -> ServerTls {
    let of = if one.name == "grpc_pass" { "grpc_ssl" } else { "proxy_ssl" };
    let value = |what: &str| scope.one(&format!("{of}_{what}")).map(|one| one.arg(0).to_owned());
    let verified = scope.is_on(&format!("{of}_verify"));
    if !verified {
        let help = "name its authorities in `ca_file`, or its key in `pins`, and take `verify` out";
        notes.add(&one.place, format!("`{}` was not verified, and is not", one.words()), help);
    }
    ServerTls {
        unverified: !verified,
        ca: value("trusted_certificate").filter(|_| verified),
        name: value("name").filter(|name| !name.contains('$')),
    }
}

fn of_block(block: &Directive, scheme: &str, notes: &mut Notes) -> Pool {
    let mut pool = Pool { balance: Some("round_robin".to_owned()), ..Pool::default() };
    for one in block.block.iter().flatten() {
        match one.name.as_str() {
            "server" => add_server(&mut pool, one, scheme, notes),
            "least_conn" | "random" => pool.balance = Some("least_requests".to_owned()),
            "ip_hash" => pool.balance = Some("hash_client".to_owned()),
            "hash" => match one.arg(0).strip_prefix('$') {
                Some("remote_addr" | "binary_remote_addr") => pool.balance = Some("hash_client".to_owned()),
                Some(cookie) if cookie.starts_with("cookie_") => {
                    pool.balance = Some(format!("hash_cookie:{}", cookie.trim_start_matches("cookie_")));
                }
                _ => {
                    let what = format!("`{}` is not carried", one.words());
                    notes.add(&one.place, what, "choose by `hash_client` or `hash_cookie:NAME`");
                }
            },
            "zone" | "keepalive" | "keepalive_timeout" | "keepalive_requests" | "keepalive_time"
            | "resolver" | "resolver_timeout" => {}
            "sticky" if one.arg(0) == "cookie" => pool.sticky = Some(one.arg(1).to_owned()),
            "sticky" => {
                let help = "see the guide on upstreams for sticky sessions, or choose by `hash_client`";
                notes.add(&one.place, format!("`{}` is not carried", one.words()), help);
            }
            _ => {
                let what = format!("`{}` is not carried", one.words());
                notes.add(&one.place, what, "see the guide on upstreams");
            }
        }
    }
    pool
}

fn add_server(pool: &mut Pool, one: &Directive, scheme: &str, notes: &mut Notes) {
    let mut server = server(scheme, one.arg(0));
    for parameter in one.args.iter().skip(1) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let number = value.parse::<u32>();
        match (name, number) {
            ("weight", Ok(weight)) => {
                server.weight = Some(weight.clamp(1, 1_000)).filter(|weight| *weight != 1)
            }
            ("backup", _) => server.backup = true,
            ("max_conns", Ok(most)) if most > 0 => server.max_requests = Some(most),
            ("max_conns" | "resolve", _) => {}
            ("max_fails", Ok(fails)) => set(&mut pool.health, "failures", fails.min(1_000).to_string()),
            ("fail_timeout", _) => {
                if let Some(ms) = parse_duration(value, 1_000) {
                    set(&mut pool.health, "eject", quoted(&duration(ms)));
                }
            }
            ("slow_start", _) => {
                if let Some(ms) = parse_duration(value, 1_000) {
                    set(&mut pool.health, "slow_start", quoted(&duration(ms)));
                }
            }
            ("down", _) => {
                let what = format!("server {} is marked `down` and was left out", one.arg(0));
                notes.add(&one.place, what, "add it to the upstreams when it is back");
                return;
            }
            _ => {
                let what = format!("`{parameter}` of server {} is not carried", one.arg(0));
                notes.add(&one.place, what, "see the guide on upstreams");
            }
        }
    }
    pool.servers.push(server);
}

/// The last one that says something is right: ours is for all servers.
fn set(values: &mut Vec<(&'static str, String)>, key: &'static str, value: String) {
    values.retain(|(known, _)| *known != key);
    values.push((key, value));
}

fn retries(scope: &Scope<'_>, notes: &mut Notes) -> Vec<(&'static str, String)> {
    let mut retries = Vec::new();
    if let Some(next) = scope.one("proxy_next_upstream") {
        let mut on = Vec::new();
        for word in &next.args {
            match word.as_str() {
                "off" => return vec![("attempts", "0".to_owned())],
                // Ours are sent again for that in any case.
                "error" | "invalid_header" => {}
                "timeout" => on.push(quoted("timeout")),
                status if status.starts_with("http_5") => on.push(quoted(status.trim_start_matches("http_"))),
                other => {
                    let what = format!("`{other}` is no reason to send a request again");
                    notes.add(
                        &next.place,
                        what,
                        "reasons are connections that fail, \"timeout\" and 500 to 599",
                    );
                }
            }
        }
        if !on.is_empty() {
            retries.push(("on", format!("[{}]", on.join(", "))));
        }
    }
    // nginx counts the first try, and has no limit at 0.
    let tries = scope.one("proxy_next_upstream_tries").and_then(|one| one.arg(0).parse::<u32>().ok());
    if let Some(tries) = tries.filter(|tries| *tries > 0) {
        retries.push(("attempts", (tries - 1).min(8).to_string()));
    }
    retries
}
