//! Our two files, as a person would write them.

use std::fmt::Write as _;

use super::site::{
    Access, App, At, Does, Edits, Pool, Rate, Route, Server, ServerTls, Site, Target, TcpListen,
};

/// The two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) settings: String,
    pub(crate) policy: String,
}

/// Writes both. `from` is what they were made of.
pub(crate) fn write(site: &Site, from: &str) -> Written {
    let mut policy = Out::default();
    policy.comment(&format!("Made by `phalanx import` from {from}. Try it: phalanx check -c phalanx.toml"));
    if site.apps.iter().any(|app| !app.blocks && !app.tcp) {
        policy.comment("`observe` records what would be refused; write `block` once the records look right.");
    }
    policy.line("version", "1");
    for app in &site.apps {
        write_app(&mut policy, app);
    }
    Written { settings: settings(site, from), policy: policy.0 }
}

fn settings(site: &Site, from: &str) -> String {
    let mut out = Out::default();
    out.comment(&format!("Made by `phalanx import` from {from}."));
    out.text("policy", "policy.toml");
    let balancers = |address: &String| site.proxied.iter().find(|(known, _)| known == address);
    let plain: Vec<String> = site.listen.iter().filter(|one| balancers(one).is_none()).cloned().collect();
    if !plain.is_empty() {
        out.table("[listen]");
        out.list("address", &plain);
    }
    for (address, networks) in site.listen.iter().filter_map(balancers) {
        out.table("[[listen.http]]");
        out.text("address", address);
        out.list("proxy_protocol", networks);
    }
    for TcpListen { address, app, idle } in &site.tcp {
        out.table("[[listen.tcp]]");
        out.text("address", address);
        out.text("app", app);
        idle.iter().for_each(|idle| out.text("idle", idle));
    }
    let limits =
        [("connections", site.connections), ("connections_per_address", site.connections_per_client)];
    if limits.iter().any(|(_, most)| most.is_some()) {
        out.table("[limits]");
        for (key, most) in limits {
            most.iter().for_each(|most| out.line(key, &most.to_string()));
        }
    }
    // Without a certificate nothing can be shown there.
    if !site.certificates.is_empty() {
        for listen in &site.tls {
            out.table("[[listen.tls]]");
            out.text("address", &listen.address);
            if let Some((_, networks)) = balancers(&listen.address) {
                out.list("proxy_protocol", networks);
            }
            if let Some(ca) = &listen.client_ca {
                out.text("client_ca", ca);
                out.text("client_certificate", if listen.optional { "request" } else { "require" });
            }
        }
    }
    if !site.tls.is_empty() {
        for (cert, key) in &site.certificates {
            out.table("[[certificate]]");
            out.text("cert", cert);
            out.text("key", key);
        }
    }
    out.0
}

fn write_app(out: &mut Out, app: &App) {
    out.table("[[apps]]");
    out.comment(&format!("{}:{}", app.place.file, app.place.line));
    out.text("name", &app.name);
    if !app.hosts.is_empty() {
        out.list("hosts", &app.hosts);
    }
    if let Some(version) = app.tells_client {
        out.text("proxy_protocol", version);
    }
    if app.tcp {
        out.line("tcp", "true");
        return write_does(out, "apps", &app.does);
    }
    out.text("mode", if app.blocks { "block" } else { "observe" });
    if !app.rules.is_empty() {
        out.list("rules", &app.rules);
    }
    if !app.trust.is_empty() {
        out.list("trust_forwarded", &app.trust);
    }
    if let Some(field) = &app.named_in {
        out.line("client_address", &format!("{{ from = {} }}", quoted(field)));
    }
    write_compression(out, &app.compression);
    let (does, root) = for_all_paths(app);
    write_does(out, "apps", &does);
    app.rates.iter().for_each(|rate| write_rate(out, rate));
    for route in app.routes.iter().chain(&root) {
        write_route(out, route);
    }
}

/// What an app does with requests that no route is about: it must have an upstream, and a route for all paths where none of them
/// goes there.
fn for_all_paths(app: &App) -> (Does, Option<Route>) {
    let (at, place) = (At::Prefix("/".to_owned()), app.place.clone());
    // What all others go to is there already, and nothing after it would be met.
    let has_root = app.routes.iter().any(|one| one.at == at && !one.plain_only && one.methods.is_empty());
    let route = |does| Route::new(place, at, does);
    if matches!(app.does.target, Target::Upstreams(_)) {
        let Does { request, response, upstream_host, .. } = app.does.clone();
        let does = Does { request, response, upstream_host, ..Does::default() };
        if app.routes.is_empty() || has_root || does == Does::default() {
            return (app.does.clone(), None);
        }
        // An app's word about header fields would hold for its routes, too, and they have said all of theirs.
        let (request, response) = (Edits::default(), Edits::default());
        let does = Does { access: None, ..does };
        return (Does { request, response, upstream_host: None, ..app.does.clone() }, Some(route(does)));
    }
    let mut root = app.does.clone();
    if root.target == Target::Inherited {
        root.target = Target::Reply { status: 404, body: None };
    }
    let of_route =
        |route: &Route| matches!(route.does.target, Target::Upstreams(_)).then(|| route.does.target.clone());
    let nowhere = Server { url: "http://127.0.0.1:9".to_owned(), ..Server::default() };
    let target = app.routes.iter().find_map(of_route);
    let target = target.unwrap_or(Target::Upstreams(Pool { servers: vec![nowhere], ..Pool::default() }));
    let hsts = app.does.hsts.clone();
    let access = app.does.access.clone();
    let root = (!has_root).then(|| route(Does { limits: Vec::new(), access: None, ..root }));
    (Does { target, hsts, access, ..Does::default() }, root)
}

fn write_compression(out: &mut Out, (codings, types): &(Vec<String>, Vec<String>)) {
    let list = |values: &[String]| {
        let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        format!("[{}]", values.join(", "))
    };
    if codings.is_empty() {
        return;
    }
    let types = Some(("types", list(types))).filter(|_| !types.is_empty());
    out.inline("compression", [("codings", list(codings))].into_iter().chain(types));
}

fn write_route(out: &mut Out, route: &Route) {
    out.table("[[apps.routes]]");
    out.comment(&format!("{}:{}", route.place.file, route.place.line));
    for at in route.under.iter().chain([&route.at]) {
        match at {
            At::Prefix(path) => out.text("path", path),
            At::Exact(path) => out.text("exact", path),
            At::Suffix(suffix) => out.text("suffix", suffix),
            At::Pattern(pattern) => out.line("path_pattern", &verbatim(pattern)),
        }
    }
    if route.plain_only {
        out.text("scheme", "http");
    }
    if !route.methods.is_empty() {
        out.list("methods", &route.methods);
    }
    write_does(out, "apps.routes", &route.does);
}

/// What stands in an app or in a route, whose table is `of`. Plain keys come before tables, as TOML has it.
fn write_does(out: &mut Out, of: &str, does: &Does) {
    match &does.target {
        Target::Inherited => {}
        Target::Upstreams(pool) => write_pool_keys(out, pool),
        Target::Redirect { to, status } => {
            out.line("redirect", &format!("{{ to = {}, status = {status} }}", quoted(to)));
        }
        Target::Reply { status, body } => {
            let body = body.as_ref().map(|body| format!(", body = {}", quoted(body))).unwrap_or_default();
            out.line("reply", &format!("{{ status = {status}{body} }}"));
        }
    }
    if let Some(Access { allow, deny }) = &does.access {
        // A route's word, even an empty one, takes the place of its app's.
        for (key, networks) in [("allow_networks", allow), ("deny_networks", deny)] {
            if !networks.is_empty() || of == "apps.routes" {
                out.list(key, networks);
            }
        }
    }
    does.rewrite.iter().for_each(|path| out.text("rewrite", path));
    does.upstream_host.iter().for_each(|host| out.text("upstream_host", host));
    write_edits(out, "request_headers", &does.request);
    write_edits(out, "response_headers", &does.response);
    // A word of the app's, never of a route's.
    if let Some(hsts) = does.hsts.as_ref().filter(|_| of == "apps") {
        out.line("responses", &format!("{{ hsts = {hsts} }}"));
    }
    if !does.limits.is_empty() {
        let limits = does.limits.iter().map(|(key, value)| (*key, quoted(value)));
        out.inline("limits", limits);
    }
    if let Target::Upstreams(pool) = &does.target {
        write_pool_tables(out, of, pool);
    }
}

fn is_plain(pool: &Pool) -> bool {
    let only_url = |one: &Server| *one == Server { url: one.url.clone(), ..Server::default() };
    pool.servers.iter().all(only_url)
}

fn write_pool_keys(out: &mut Out, pool: &Pool) {
    match pool.servers.as_slice() {
        [only] if is_plain(pool) => out.text("upstream", &only.url),
        servers if is_plain(pool) => {
            out.list("upstreams", &servers.iter().map(|server| server.url.clone()).collect::<Vec<_>>());
        }
        _ => {}
    }
    if pool.servers.len() > 1 {
        pool.balance.iter().for_each(|balance| out.text("balance", balance));
        pool.sticky.iter().for_each(|name| out.text("sticky_cookie", name));
    }
    for (key, values) in [("health", &pool.health), ("retries", &pool.retries), ("queue", &pool.queue)] {
        if !values.is_empty() {
            out.inline(key, values.iter().map(|(key, value)| (*key, value.clone())));
        }
    }
}

fn write_pool_tables(out: &mut Out, of: &str, pool: &Pool) {
    if is_plain(pool) {
        return;
    }
    for server in &pool.servers {
        out.table(&format!("[[{of}.upstream]]"));
        out.text("url", &server.url);
        server.weight.iter().for_each(|weight| out.line("weight", &weight.to_string()));
        if server.backup {
            out.line("backup", "true");
        }
        server.max_requests.iter().for_each(|most| out.line("max_requests", &most.to_string()));
        if server.http2 {
            out.text("protocol", "http2");
        }
        let ServerTls { unverified, ca, name } = &server.tls;
        let verify = Some(("verify", "false".to_owned())).filter(|_| *unverified);
        let texts = [("ca_file", ca), ("server_name", name)];
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key, quoted(text.as_ref()?))));
        let tls: Vec<_> = verify.into_iter().chain(texts).collect();
        if !tls.is_empty() {
            out.inline("tls", tls.into_iter());
        }
    }
}

fn write_edits(out: &mut Out, key: &str, edits: &Edits) {
    if edits.is_empty() {
        return;
    }
    let map = |pairs: &[(String, String)]| {
        let pairs = pairs.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)));
        format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
    };
    let removed = edits.remove.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let parts = [
        ("set", !edits.set.is_empty(), map(&edits.set)),
        ("add", !edits.add.is_empty(), map(&edits.add)),
        ("remove", !edits.remove.is_empty(), format!("[{removed}]")),
    ];
    out.inline(key, parts.into_iter().filter(|(_, any, _)| *any).map(|(key, _, value)| (key, value)));
}

fn write_rate(out: &mut Out, rate: &Rate) {
    out.table("[[apps.rate_limits]]");
    out.text("name", &rate.name);
    out.text("key", &rate.key);
    out.text("rate", &rate.rate);
    out.line("burst", &rate.burst.to_string());
    if let Some(path) = &rate.path {
        out.list("paths", std::slice::from_ref(path));
    }
    if rate.observes {
        out.text("action", "observe");
    }
}

/// TOML, line by line.
#[derive(Debug, Default)]
struct Out(String);

impl Out {
    fn comment(&mut self, text: &str) {
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = writeln!(self.0, "# {text}");
    }

    fn table(&mut self, header: &str) {
        let _ = writeln!(self.0, "\n{header}");
    }

    fn line(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.line(key, &quoted(value));
    }

    fn list(&mut self, key: &str, values: &[String]) {
        let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        self.line(key, &format!("[{}]", values.join(", ")));
    }

    fn inline(&mut self, key: &str, values: impl Iterator<Item = (&'static str, String)>) {
        let values: Vec<String> = values.map(|(key, value)| format!("{key} = {value}")).collect();
        self.line(key, &format!("{{ {} }}", values.join(", ")));
    }
}

/// A text without escapes where TOML allows it: expressions are hard enough to read.
fn verbatim(text: &str) -> String {
    if text.contains(|c: char| c == '\'' || c.is_control()) { quoted(text) } else { format!("'{text}'") }
}

/// A basic string of TOML.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
