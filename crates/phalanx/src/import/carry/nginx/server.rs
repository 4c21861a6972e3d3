//! `server` blocks: apps by their names, listeners, certificates, and what sends clients to HTTPS.

use super::super::Notes;
use super::super::site::{Access, App, At, Does, Route, Site, Target};
use super::super::values::{is_host, listen_address};
use super::lex::Directive;
use super::limits::{self, Zones};
use super::location::{self, Server};
use super::order::{self, Kind, Located, Paths};
use super::upstream::{self, Upstreams};
use super::variables::{self, HostMap, Values};
use super::{Scope, access, known};

/// One server before it becomes an app.
struct Found<'a> {
    directive: &'a Directive,
    scope: Scope<'a>,
    hosts: Vec<String>,
    /// It answers what no other names.
    takes_rest: bool,
    is_default: bool,
    tls: bool,
    /// All that it does is to send clients to HTTPS, with this status.
    to_https: Option<u16>,
}

/// Carries all servers of a block.
pub(super) fn carry_all(site: &mut Site, http: &[Directive], notes: &mut Notes) {
    let named = upstream::named(http, notes);
    let zones = limits::zones(http, notes);
    let maps = variables::maps(http, notes);
    let scope = Scope::new(http);
    let servers = http.iter().filter(|one| one.name == "server");
    let found: Vec<Found<'_>> = servers.filter_map(|one| find(site, one, &scope, notes)).collect();
    for one in found.iter().filter(|one| one.to_https.is_none()) {
        carry(site, one, (&named, &zones, &maps), notes);
    }
    for one in &found {
        if let Some(status) = one.to_https {
            send_to_https(site, one, status, notes);
        }
    }
    note_default(&found, notes);
}

fn find<'a>(site: &mut Site, one: &'a Directive, http: &Scope<'a>, notes: &mut Notes) -> Option<Found<'a>> {
    let block = one.block.as_deref()?;
    known::report(block, known::Level::Server, notes);
    let scope = http.within(block);
    let mut tls = false;
    let mut is_default = false;
    let mut listens = false;
    for listen in scope.own("listen") {
        listens = true;
        let has = |word: &str| listen.args.iter().any(|arg| arg == word);
        let with_tls = has("ssl") || has("quic") || scope.is_on("ssl");
        is_default |= has("default_server") || has("default");
        if has("quic") {
            notes.add(&listen.place, "HTTP/3 is not spoken", "nothing to do: clients come with HTTP/2");
            continue;
        }
        tls |= with_tls;
        match listen_address(listen.arg(0), 80) {
            Some(address) => {
                if has("proxy_protocol") {
                    proxied(site, &address, listen, &scope, notes);
                }
                site.add_listen(address, with_tls);
            }
            None => notes.add(
                &listen.place,
                format!("`{}` is no address with a port", listen.words()),
                "write it into `[listen]` as an address",
            ),
        }
    }
    if !listens {
        site.add_listen("0.0.0.0:80".to_owned(), false);
    }
    if tls {
        certificates(site, &scope, one, notes);
    }
    let (hosts, takes_rest) = names(&scope, notes);
    let to_https = sends_to_https(&scope, &hosts).filter(|_| !tls);
    Some(Found { directive: one, scope, hosts, takes_rest, is_default, tls, to_https })
}

/// The hosts of a server, and whether it answers to all others.
fn names(scope: &Scope<'_>, notes: &mut Notes) -> (Vec<String>, bool) {
    let (mut hosts, mut rest) = (Vec::new(), true);
    for directive in scope.own("server_name") {
        for name in &directive.args {
            let name = name.to_ascii_lowercase();
            match name.as_str() {
                "" | "_" | "localhost" if directive.args.len() == 1 => continue,
                "" | "_" => continue,
                name if name.starts_with('~') || name.ends_with(".*") => {
                    let help = "write the hosts by name, or with `*.` before a domain";
                    notes.add(&directive.place, format!("`server_name {name}` is a pattern"), help);
                }
                name if name.starts_with('.') => {
                    hosts.extend([name.trim_start_matches('.').to_owned(), format!("*{name}")]);
                }
                name if is_host(name) => hosts.push(name.to_owned()),
                name => {
                    notes.add(
                        &directive.place,
                        format!("`{name}` is no host name"),
                        "write the host by hand",
                    );
                }
            }
            rest = false;
        }
    }
    (hosts, rest)
}

fn certificates(site: &mut Site, scope: &Scope<'_>, one: &Directive, notes: &mut Notes) {
    let (certs, keys) = (scope.all("ssl_certificate"), scope.all("ssl_certificate_key"));
    if certs.is_empty() {
        notes.add(&one.place, "a server with TLS names no certificate", "add `[[certificate]]`");
    }
    for (cert, key) in certs.iter().zip(&keys) {
        if cert.arg(0).contains('$') || cert.arg(0).starts_with("data:") {
            let help = "name each file in a `[[certificate]]`";
            notes.add(&cert.place, format!("`{}` is not the name of a file", cert.words()), help);
        } else {
            site.add_certificate(cert.arg(0), key.arg(0));
        }
    }
    if let Some(protocols) = scope.one("ssl_protocols")
        && let Some(old) = protocols.args.iter().find(|arg| !matches!(arg.as_str(), "TLSv1.2" | "TLSv1.3"))
    {
        let help = "clients that know nothing newer than TLS 1.1 are not served";
        notes.add(&protocols.place, format!("`{old}` is not spoken: TLS 1.3 and 1.2 are"), help);
    }
    let asks = scope.one("ssl_verify_client").filter(|asks| asks.arg(0) != "off");
    if let (Some(asks), Some(ca)) = (asks, scope.one("ssl_client_certificate")) {
        let addresses: Vec<String> =
            scope.own("listen").iter().filter_map(|listen| listen_address(listen.arg(0), 80)).collect();
        for listen in site.tls.iter_mut().filter(|listen| addresses.contains(&listen.address)) {
            listen.client_ca = Some(ca.arg(0).to_owned());
            listen.optional = asks.arg(0) != "on";
        }
        let help = "put servers that ask for none on another address";
        notes.add(&asks.place, "certificates of clients are asked for on the whole listener", help);
    }
}

/// Whether all that a server does is to send clients to the same place over HTTPS.
fn sends_to_https(scope: &Scope<'_>, hosts: &[String]) -> Option<u16> {
    let block = scope.levels.last()?;
    let serves = |one: &Directive| match one.name.as_str() {
        "location" => {
            // Where certificate authorities look; that is Phalanx's own work.
            let is_acme = one.args.last().is_some_and(|path| path.starts_with("/.well-known/acme-challenge"));
            let inner = one.block.as_deref().unwrap_or_default();
            !is_acme && !inner.iter().all(|one| one.name == "return" && https_status(one, hosts).is_some())
        }
        "proxy_pass" => true,
        "return" => https_status(one, hosts).is_none() && one.arg(0) != "404",
        _ => false,
    };
    if block.iter().any(serves) {
        return None;
    }
    let inner = |one: &Directive| one.block.iter().flatten().find_map(|one| https_status(one, hosts));
    block.iter().find_map(|one| match one.name.as_str() {
        "return" | "rewrite" => https_status(one, hosts),
        // As certbot writes it.
        "if" | "location" => inner(one),
        _ => None,
    })
}

/// The status of a directive that sends clients to the same place over HTTPS.
fn https_status(one: &Directive, hosts: &[String]) -> Option<u16> {
    let (status, url) = match (one.name.as_str(), one.arg(2)) {
        ("return", _) => (one.arg(0).parse().ok()?, one.arg(1)),
        ("rewrite", "permanent") => (301, one.arg(1)),
        ("rewrite", _) => (302, one.arg(1)),
        _ => return None,
    };
    let rest = url.strip_prefix("https://")?;
    let host = rest.strip_suffix("$request_uri").or_else(|| rest.strip_suffix("$1"))?.trim_end_matches('/');
    let own = matches!(host, "$host" | "$server_name" | "$http_host");
    (own || hosts.len() == 1 && hosts.iter().any(|own| own == host)).then_some(status)
}

/// What the blocks of `http` have in common: upstreams, zones of rate limits, maps.
type OfHttp<'a, 'b> = (&'a Upstreams<'b>, &'a Zones, &'a [HostMap<'b>]);

fn carry(site: &mut Site, found: &Found<'_>, of_http: OfHttp<'_, '_>, notes: &mut Notes) {
    let place = &found.directive.place;
    // Whoever names no host of this node is told so without it.
    if found.takes_rest && refuses_all(&found.scope) {
        return;
    }
    limits::connections(site, &found.scope, notes);
    let block = found.directive.block.as_deref().unwrap_or_default();
    let variants = variables::variants(of_http.2, block, &found.hosts, found.takes_rest);
    for (hosts, values) in variants {
        let takes_rest = hosts.is_empty() && found.takes_rest;
        let Some(hosts) = free_hosts(site, found, (&hosts, takes_rest), notes) else { continue };
        let name = site.free_name(hosts.first().map_or("default", String::as_str));
        let mut app = App::new(place.clone(), name);
        app.hosts = hosts;
        of_server(&mut app, found, (of_http.0, of_http.1, values), notes);
        site.apps.push(app);
    }
}

/// Those of a server's hosts that no app has yet; `None` if there are none.
fn free_hosts(
    site: &Site,
    found: &Found<'_>,
    (hosts, takes_rest): (&[String], bool),
    notes: &mut Notes,
) -> Option<Vec<String>> {
    let place = &found.directive.place;
    if takes_rest {
        let taken = site.apps.iter().find(|app| app.hosts.is_empty());
        if let Some(first) = taken {
            let what = format!("the server on line {} takes all other hosts already", first.place.line);
            notes.add(place, what, "apps are told apart by host, not by port: name the hosts of this one");
            return None;
        }
        return Some(Vec::new());
    }
    let mut free = Vec::new();
    for host in hosts {
        match site.apps.iter().find(|app| app.hosts.contains(host)) {
            Some(first) => {
                let what = format!("the server on line {} answers for {host} already", first.place.line);
                notes.add(
                    place,
                    what,
                    "apps are told apart by host, not by port: give one of them another host",
                );
            }
            None if free.contains(host) => {}
            None => free.push(host.clone()),
        }
    }
    (!free.is_empty()).then_some(free)
}

fn refuses_all(scope: &Scope<'_>) -> bool {
    let refuses = |one: &&Directive| matches!(one.arg(0), "444" | "403" | "404" | "400" | "421");
    let answers = scope.own("return").first().is_some_and(refuses) || scope.is_on("ssl_reject_handshake");
    answers && scope.own("location").is_empty()
}

fn of_server(
    app: &mut App,
    found: &Found<'_>,
    (named, zones, values): (&Upstreams<'_>, &Zones, Values),
    notes: &mut Notes,
) {
    let scope = &found.scope;
    let mut locations = Vec::new();
    flatten(scope, 0, &mut locations);
    let name = app.hosts.first().cloned().unwrap_or_default();
    let server = Server { named, name, values, inner: locations.clone() };
    app.blocks = scope.is_on("modsecurity");
    if let (true, Some(rules)) = (app.blocks, scope.one("modsecurity_rules_file")) {
        let help = "name the folder of the rule set in `rules`, as in `rules = [\"/usr/share/modsecurity-crs\"]`, and files of your own in `extra_rules`";
        notes.add(
            &rules.place,
            format!("`{}` is not carried; the default rules protect the app", rules.words()),
            help,
        );
    }
    compression(app, scope);
    trust(app, scope, notes);
    app.rates = limits::rates(scope, zones, None, notes);
    let root = At::Prefix("/".to_owned());
    app.does = location::does(scope, &root, &server, notes);
    let open = access::of(scope, notes);
    app.does.access = Some(open.clone()).filter(|access| *access != Access::default());
    let first = |route| Located { kind: Kind::Final, route };
    let mut located: Vec<Located> =
        location::redirects(scope, &server, notes).into_iter().map(first).collect();
    located.extend(plain_to_https(scope).map(first));
    let block = found.directive.block.as_deref().unwrap_or_default();
    variables::report(block, block, notes);
    conditions(scope, notes);
    let mut paths = Paths::of(&locations);
    let mut root_is_final = false;
    for (one, inner) in locations {
        known::report(one.block.as_deref().unwrap_or_default(), known::Level::Location, notes);
        variables::report(one.block.as_deref().unwrap_or_default(), block, notes);
        conditions(&inner, notes);
        let is_acme = one.args.last().is_some_and(|path| path.starts_with("/.well-known/acme-challenge"));
        let all = if is_acme { Vec::new() } else { location::at(one, &mut paths, notes) };
        let kind = order::kind(one);
        if !all.is_empty() {
            let kind = if kind == Kind::Expression { Kind::Path } else { kind };
            let away = location::redirects(&inner, &server, notes).into_iter();
            located.extend(away.map(|route| Located { kind, route }));
        }
        for at in all {
            if let At::Prefix(path) | At::Exact(path) = &at {
                app.rates.extend(limits::rates(&inner, zones, Some(path), notes));
            }
            let passing = location::tried(&inner, &server, notes);
            let mut does = location::does(&passing, &at, &server, notes);
            if does.target == Target::Inherited && access::of(&inner, notes) == access::nobody() {
                // Files that nobody may have are none, wherever they would be.
                does.target = Target::Reply { status: 403, body: None };
            }
            does.access = own_access(&does, &inner, &open, notes);
            match (at, &app.does.target) {
                (At::Prefix(path), Target::Inherited) if path == "/" => {
                    root_is_final = kind == Kind::Final;
                    // The app's word holds for its routes, which have said theirs beside the server's.
                    let own = does.access.take();
                    does.access = app.does.access.clone();
                    app.does = does;
                    note_root_access(one, own, notes);
                }
                (at, _) if does.target != Target::Inherited => {
                    add_route(&mut located, one, (kind, at), does, notes);
                }
                _ => {}
            }
        }
    }
    app.routes = order::routes(&located, root_is_final, &found.directive.place, notes);
    app.rates.sort_by(|a, b| a.name.cmp(&b.name));
    app.rates.dedup_by(|a, b| a.name == b.name);
}

/// Who may ask in a location, where that is not as its server says. What is answered by `return` is answered before it is asked who asks.
fn own_access(does: &Does, inner: &Scope<'_>, of_server: &Access, notes: &mut Notes) -> Option<Access> {
    let answered = matches!(does.target, Target::Redirect { .. } | Target::Reply { .. });
    let own = if answered { Access::default() } else { access::of(inner, notes) };
    Some(own).filter(|own| own != of_server)
}

fn note_root_access(one: &Directive, own: Option<Access>, notes: &mut Notes) {
    if own.is_some() {
        let help =
            "write `allow_networks` and `deny_networks` into the app, and `[]` into its routes that are open";
        notes.add(&one.place, "`allow` and `deny` of the location `/` are not carried", help);
    }
}

/// A server with and without TLS that sends clients to HTTPS under a condition.
fn plain_to_https(scope: &Scope<'_>) -> Option<Route> {
    let one = scope.own("if").into_iter().find(|one| one.args.iter().any(|arg| arg.contains("$scheme")))?;
    let status = one.block.iter().flatten().find_map(|inner| https_status(inner, &[]))?;
    let plain = one.args.iter().any(|arg| arg.contains("http") && !arg.contains("https"));
    let negated = one.args.iter().any(|arg| arg.contains("!="));
    let route = Route::new(one.place.clone(), At::Prefix("/".to_owned()), to_https(status));
    (plain != negated).then_some(Route { plain_only: true, ..route })
}

fn add_route(
    located: &mut Vec<Located>,
    one: &Directive,
    (kind, at): (Kind, At),
    does: Does,
    notes: &mut Notes,
) {
    if located.iter().any(|known| known.route.at == at && !known.route.plain_only) {
        let what = format!("`{} {}` is there twice", one.name, one.args.join(" "));
        notes.add(&one.place, what, "the first one was carried");
        return;
    }
    located.push(Located { kind, route: Route::new(one.place.clone(), at, does) });
}

/// Locations, and those within them.
fn flatten<'a>(scope: &Scope<'a>, depth: usize, out: &mut Vec<(&'a Directive, Scope<'a>)>) {
    for one in scope.own("location") {
        let inner = scope.within(one.block.as_deref().unwrap_or_default());
        out.push((one, inner.clone()));
        if depth < super::super::DEPTH_MAX {
            flatten(&inner, depth + 1, out);
        }
    }
}

/// `if` blocks, which are programs.
fn conditions(scope: &Scope<'_>, notes: &mut Notes) {
    for one in scope.own("if") {
        let sends = one.block.iter().flatten().any(|inner| https_status(inner, &[]).is_some());
        if !sends {
            let help = "write a route with `methods` or `headers`, or a rule of SecLang";
            notes.add(&one.place, format!("`{}` is not carried", one.words()), help);
        }
    }
}

fn compression(app: &mut App, scope: &Scope<'_>) {
    let (codings, types) = &mut app.compression;
    for (coding, name) in [("brotli", "br"), ("gzip", "gzip")] {
        if !scope.is_on(coding) {
            continue;
        }
        codings.push(name.to_owned());
        for one in scope.one(&format!("{coding}_types")).iter().flat_map(|one| &one.args) {
            // nginx's own word for all is not ours.
            if one.contains('/') && !types.contains(one) {
                types.push(one.clone());
            }
        }
    }
    // Always compressed there, whatever is said.
    if !codings.is_empty() && !types.iter().any(|one| one == "text/html") {
        types.insert(0, "text/html".to_owned());
    }
}

/// A listener that demands the PROXY protocol: here it must be said who may speak it.
fn proxied(site: &mut Site, address: &str, listen: &Directive, scope: &Scope<'_>, notes: &mut Notes) {
    let networks = networks(scope, notes);
    if networks.is_empty() {
        let help = "add `proxy_protocol` with the networks of the balancers to the listener";
        notes.add(
            &listen.place,
            format!("`{}` does not say who may send a PROXY header", listen.words()),
            help,
        );
    } else if !site.proxied.iter().any(|(known, _)| known == address) {
        site.proxied.push((address.to_owned(), networks));
    }
}

/// The networks of `set_real_ip_from`.
fn networks(scope: &Scope<'_>, notes: &mut Notes) -> Vec<String> {
    let mut networks = Vec::new();
    for one in scope.all("set_real_ip_from") {
        match one.arg(0) {
            "unix:" => {}
            network if network.split('/').next().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok()) => {
                networks.push(network.to_owned());
            }
            name => notes.add(&one.place, format!("`{name}` is no network"), "write its addresses"),
        }
    }
    networks
}

fn trust(app: &mut App, scope: &Scope<'_>, notes: &mut Notes) {
    // Without a word about it nginx looks there.
    let field = scope.one("real_ip_header").map_or("X-Real-IP", |one| one.arg(0)).to_ascii_lowercase();
    let networks = networks(scope, notes);
    if networks.is_empty() || field == "proxy_protocol" {
        return;
    }
    app.trust = networks;
    app.named_in = Some(field).filter(|field| field != "x-forwarded-for");
}

/// Clients that came without TLS to hosts that are served with it are sent there.
fn send_to_https(site: &mut Site, found: &Found<'_>, status: u16, notes: &mut Notes) {
    let mut sent = false;
    for app in &mut site.apps {
        let is_meant = found.takes_rest || app.hosts.iter().any(|host| found.hosts.contains(host));
        if !is_meant || app.routes.iter().any(|route| route.plain_only) {
            sent |= is_meant;
            continue;
        }
        sent = true;
        let route = Route::new(found.directive.place.clone(), At::Prefix("/".to_owned()), to_https(status));
        app.routes.insert(0, Route { plain_only: true, ..route });
    }
    if !sent {
        let place = &found.directive.place;
        notes.add(
            place,
            "no server with TLS answers to these hosts, and so they were left out",
            "add an app for them",
        );
    }
}

fn to_https(status: u16) -> Does {
    let to = "https://{host}{path}{query}".to_owned();
    Does { target: Target::Redirect { to, status }, ..Does::default() }
}

/// What became of requests for hosts that no server names.
fn note_default(found: &[Found<'_>], notes: &mut Notes) {
    if found.iter().any(|one| one.takes_rest) {
        return;
    }
    let serving = || found.iter().filter(|one| one.to_https.is_none());
    let default =
        serving().find(|one| one.is_default && one.tls).or_else(|| serving().find(|one| one.is_default));
    if let Some(one) = default.or_else(|| serving().next()) {
        let what = "this server also answered for hosts that no server names; here they get 421";
        notes.add(&one.directive.place, what, "take `hosts` out of its app to answer them");
    }
}
