//! HAProxy: `defaults`, `frontend`, `backend` and `listen`.

mod backend;
mod condition;
mod known;
pub(crate) mod lex;
mod order;
mod tcp;

use std::collections::BTreeMap;

use condition::{Acls, When, alternatives, define};
use lex::{Line, Section};

use super::note::Place;
use super::site::{App, At, Does, Route, Site, Target};
use super::values::listen_address;
use super::{Carried, Notes};

/// Carries a configuration.
pub(crate) fn carry(name: &str, text: &str) -> Carried {
    let mut notes = Notes::default();
    let sections = lex::read(name, text, &mut notes);
    let mut site = Site::default();
    let mut defaults = None;
    let mut backends = BTreeMap::new();
    // A `defaults` holds for what follows it.
    for section in &sections {
        match section.kind() {
            "defaults" => defaults = Some(section),
            "backend" | "listen" => {
                backends.insert(section.name(), (section, defaults));
            }
            _ => {}
        }
    }
    let mut defaults = None;
    for section in &sections {
        known::report(section, &mut notes);
        match section.kind() {
            "defaults" => defaults = Some(section),
            "frontend" | "listen" => frontend(&mut site, section, defaults, &backends, &mut notes),
            "global" => {
                let most = section.all("maxconn").filter_map(|line| line.word(1).parse().ok()).last();
                site.connections = most.filter(|most| *most > 0);
            }
            _ => {}
        }
    }
    site.apps.iter_mut().for_each(|app| told_of_clients(app, &mut notes));
    Carried { site, notes }
}

/// A frontend, and the defaults that hold for it.
type OfFrontend<'a> = (&'a Section, Option<&'a Section>);

type Backends<'a> = BTreeMap<&'a str, (&'a Section, Option<&'a Section>)>;

/// What a rule of a frontend does.
#[derive(Debug, Clone)]
struct Rule {
    place: Place,
    when: When,
    does: Does,
}

fn frontend(
    site: &mut Site,
    section: &Section,
    defaults: Option<&Section>,
    backends: &Backends<'_>,
    notes: &mut Notes,
) {
    let of_defaults = || defaults.into_iter().flat_map(|section| section.all("mode"));
    let mode = section.all("mode").chain(of_defaults()).next().map_or("tcp", |line| line.word(1));
    for line in section.all("maxconn") {
        let what = format!("`{}` holds for one frontend", line.text());
        notes.add(&line.place, what, "`connections` in `[limits]` counts those of the node");
    }
    match mode {
        "http" => {}
        "tcp" => return tcp::frontend(site, section, defaults, backends, notes),
        _ => {
            let what = format!("`{} {}` is in mode {mode}", section.kind(), section.name());
            return notes.add(&section.head.place, what, "keep HAProxy for it");
        }
    }
    let serves = ["server", "server-template", "use_backend", "default_backend"];
    if section.kind() == "listen" && !section.lines.iter().any(|line| serves.contains(&line.word(0))) {
        // A page with figures, most often; it is noted with its own lines.
        notes.add(
            &section.head.place,
            format!("`listen {}` has no server", section.name()),
            "see the console and `/metrics`",
        );
        return;
    }
    section.all("bind").for_each(|line| bind(site, line, notes));
    let mut acls = Acls::new();
    section.all("acl").for_each(|line| define(&mut acls, line.word(1), line.from(2)));
    let mut rules = answers(section, &acls, notes);
    for line in section.all("use_backend") {
        let does = of_backend(line, line.word(1), backends, notes);
        rules.extend(conditioned(line, line.from(2), does, &acls, notes));
    }
    let default = section.all("default_backend").last();
    let fallback = match default {
        Some(line) => of_backend(line, line.word(1), backends, notes),
        None if section.kind() == "listen" => Some(backend::does(section, defaults, notes)),
        None => None,
    };
    let place = default.map_or(&section.head.place, |line| &line.place).clone();
    rules.extend(fallback.map(|does| Rule { place, when: When::default(), does }));
    let mut of_frontend = Does::default();
    if section.kind() == "frontend" {
        backend::edits(&mut of_frontend, section, notes);
    }
    for rule in &mut rules {
        let does = &mut rule.does;
        if matches!(does.target, Target::Upstreams(_)) {
            does.hsts = does.hsts.take().or_else(|| of_frontend.hsts.clone());
            for (own, all) in
                [(&mut does.request, &of_frontend.request), (&mut does.response, &of_frontend.response)]
            {
                own.set.extend(all.set.iter().cloned());
                own.add.extend(all.add.iter().cloned());
                own.remove.extend(all.remove.iter().cloned());
            }
        }
    }
    apps(site, (section, defaults), &rules, notes);
}

/// Whether an app's upstreams get a PROXY header: all of them do, or none.
fn told_of_clients(app: &mut App, notes: &mut Notes) {
    let targets = app.routes.iter().map(|route| &route.does.target).chain([&app.does.target]);
    let mut told = targets.filter_map(|target| match target {
        Target::Upstreams(pool) => Some(pool.tells_client),
        _ => None,
    });
    let Some(first) = told.next() else { return };
    if told.all(|one| one == first) {
        app.tells_client = first;
        return;
    }
    let what = format!("`send-proxy` holds for some servers of app {}", app.name);
    notes.add(&app.place, what, "make an app of those that want it: `proxy_protocol` is an app's");
}

fn bind(site: &mut Site, line: &Line, notes: &mut Notes) {
    let tls = line.has("ssl");
    for address in line.word(1).split(',') {
        let Some(address) = listen_address(address, 80) else {
            let help = "write it into `[listen]` as an address";
            notes.add(&line.place, format!("`bind {address}` is no address with a port"), help);
            continue;
        };
        site.add_listen(address.clone(), tls);
        if let (true, Some(ca)) = (line.has("ca-file") && line.has("verify"), line.after("ca-file")) {
            for listen in site.tls.iter_mut().filter(|listen| listen.address == address) {
                listen.client_ca = Some(ca.to_owned());
                listen.optional = line.after("verify") != Some("required");
            }
        }
    }
    if line.has("accept-proxy") {
        let help = "add `proxy_protocol` with the networks of the balancers to the listener";
        notes.add(&line.place, format!("`{}` does not say who may send a PROXY header", line.text()), help);
    }
    if !tls {
        return;
    }
    match line.after("crt") {
        Some(pem) if pem.ends_with('/') || !pem.contains('.') => {
            let help = "add a `[[certificate]]` for each file in it: `cert` and `key` may name the same file";
            notes.add(&line.place, format!("`{pem}` is a folder of certificates"), help);
        }
        // Chain and key are in one file.
        Some(pem) => site.add_certificate(pem, pem),
        None => notes.add(&line.place, "a listener with TLS names no certificate", "add `[[certificate]]`"),
    }
}

/// Rules that answer by themselves: redirects and returns.
fn answers(section: &Section, acls: &Acls, notes: &mut Notes) -> Vec<Rule> {
    let mut rules = Vec::new();
    for line in &section.lines {
        let at = match (line.word(0), line.word(1)) {
            ("redirect", _) => 1,
            ("http-request", "redirect") => 2,
            ("http-request", "return" | "deny") => {
                rules.extend(returned(line, acls, notes));
                continue;
            }
            _ => continue,
        };
        let status = line.after("code").and_then(|code| code.parse().ok()).unwrap_or(302);
        let to = match line.word(at) {
            "scheme" if line.word(at + 1) == "https" => Some("https://{host}{path}{query}".to_owned()),
            "location" => backend::template(line.word(at + 1)),
            "prefix" => {
                backend::template(line.word(at + 1)).map(|prefix| format!("{prefix}{{path}}{{query}}"))
            }
            _ => None,
        };
        let Some(to) = to else {
            let help = "write a route with `redirect` by hand";
            notes.add(&line.place, format!("`{}` is not carried", line.text()), help);
            continue;
        };
        let does = Does { target: Target::Redirect { to, status }, ..Does::default() };
        let mut sent = conditioned(line, condition_of(line), Some(does), acls, notes);
        if line.word(at) == "scheme" {
            // Who came over TLS would be sent back and forth.
            sent.iter_mut().for_each(|rule| rule.when.tls = rule.when.tls.or(Some(false)));
        }
        rules.extend(sent);
    }
    rules
}

/// `http-request return` and `deny`.
fn returned(line: &Line, acls: &Acls, notes: &mut Notes) -> Vec<Rule> {
    let status = ["status", "deny_status"].iter().find_map(|word| line.after(word)?.parse().ok());
    let status = status.unwrap_or(if line.word(1) == "deny" { 403 } else { 200 });
    let body = line.after("string").or_else(|| line.after("lf-string"));
    let does = Does { target: Target::Reply { status, body: body.map(str::to_owned) }, ..Does::default() };
    conditioned(line, condition_of(line), Some(does), acls, notes)
}

/// From `if` or `unless` on.
fn condition_of(line: &Line) -> &[String] {
    let at = line.words.iter().position(|word| word == "if" || word == "unless");
    at.map_or(&[][..], |at| line.from(at))
}

fn conditioned(
    line: &Line,
    condition: &[String],
    does: Option<Does>,
    acls: &Acls,
    notes: &mut Notes,
) -> Vec<Rule> {
    let Some(does) = does else { return Vec::new() };
    match alternatives(condition, acls) {
        Some(all) => {
            all.into_iter().map(|when| Rule { place: line.place.clone(), when, does: does.clone() }).collect()
        }
        None => {
            let help = "write an app with `hosts`, a route, or a rule of SecLang by hand";
            notes.add(&line.place, format!("the condition of `{}` is not carried", line.text()), help);
            Vec::new()
        }
    }
}

fn of_backend(line: &Line, name: &str, backends: &Backends<'_>, notes: &mut Notes) -> Option<Does> {
    let Some((section, defaults)) = backends.get(name) else {
        let what = format!("there is no backend `{name}`");
        notes.add(
            &line.place,
            what,
            "names that depend on the request are not carried: write an app for each",
        );
        return None;
    };
    let does = backend::does(section, *defaults, notes);
    match &does.target {
        Target::Upstreams(pool) if pool.servers.is_empty() => {
            notes.add(
                &section.head.place,
                format!("backend `{name}` has no server"),
                "write its upstreams by hand",
            );
            None
        }
        _ => Some(does),
    }
}

/// Apps by host: each host's own rules, and those for all hosts that follow them.
fn apps(site: &mut Site, of: OfFrontend<'_>, rules: &[Rule], notes: &mut Notes) {
    let mut hosts: Vec<&String> = Vec::new();
    for host in rules.iter().flat_map(|rule| &rule.when.hosts) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    let takes = |host: Option<&String>| -> Vec<&Rule> {
        let meant = |rule: &&Rule| {
            rule.when.hosts.is_empty() || host.is_some_and(|host| rule.when.hosts.contains(host))
        };
        rules.iter().filter(meant).collect()
    };
    // Hosts for which the same rules hold are one app.
    let mut groups: Vec<(Vec<String>, Vec<&Rule>)> = Vec::new();
    for host in hosts {
        let rules = takes(Some(host));
        let same = |group: &&mut (Vec<String>, Vec<&Rule>)| {
            group.1.len() == rules.len() && group.1.iter().zip(&rules).all(|(a, b)| std::ptr::eq(*a, *b))
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.0.push(host.clone()),
            None => groups.push((vec![host.clone()], rules)),
        }
    }
    let rest = takes(None);
    if rest.iter().any(|rule| matches!(rule.does.target, Target::Upstreams(_))) {
        groups.push((Vec::new(), rest));
    }
    for (hosts, rules) in groups {
        app(site, of, hosts, &rules, notes);
    }
}

/// `compression algo` and `type`.
fn compression(section: &Section, defaults: Option<&Section>) -> (Vec<String>, Vec<String>) {
    let (mut codings, mut types) = (Vec::new(), Vec::new());
    for line in defaults.into_iter().chain([section]).flat_map(|section| section.all("compression")) {
        match line.word(1) {
            "algo" if line.has("gzip") => codings = vec!["gzip".to_owned()],
            "type" | "type-res" => types = line.from(2).to_vec(),
            _ => {}
        }
    }
    (codings, types)
}

fn app(
    site: &mut Site,
    (section, defaults): OfFrontend<'_>,
    mut hosts: Vec<String>,
    rules: &[&Rule],
    notes: &mut Notes,
) {
    let place = rules.first().map_or(&section.head.place, |rule| &rule.place).clone();
    let help = "apps are told apart by host, not by port: give one of them another host";
    if hosts.is_empty() {
        if let Some(taken) = site.apps.iter().find(|app| app.hosts.is_empty()) {
            let what = format!("the app of line {} takes all other hosts already", taken.place.line);
            notes.add(&section.head.place, what, help);
            return;
        }
    } else {
        hosts.retain(|host| {
            let taken = site.apps.iter().find(|app| app.hosts.contains(host));
            if let Some(taken) = taken {
                let what = format!("the app of line {} answers for {host} already", taken.place.line);
                notes.add(&place, what, help);
            }
            taken.is_none()
        });
        if hosts.is_empty() {
            return;
        }
    }
    let wanted = hosts.first().map_or_else(|| section.name(), String::as_str);
    let mut app = App::new(place, site.free_name(wanted));
    app.hosts = hosts;
    app.compression = compression(section, defaults);
    for rule in rules {
        if !add(&mut app, rule, notes) {
            // What follows is never reached.
            break;
        }
    }
    app.routes = order::first_wins(&app.routes);
    site.apps.push(app);
}

/// Adds a rule; `false` if it takes all that is left.
fn add(app: &mut App, rule: &Rule, notes: &mut Notes) -> bool {
    let When { paths, methods, tls, .. } = &rule.when;
    if *tls == Some(true) {
        notes.add(
            &rule.place,
            "a rule for requests over TLS alone is not carried",
            "write a route with `scheme` by hand",
        );
        return true;
    }
    let all = paths.is_empty() && methods.is_empty() && tls.is_none();
    if all && matches!(rule.does.target, Target::Upstreams(_)) {
        app.does = rule.does.clone();
        return false;
    }
    let root = [At::Prefix("/".to_owned())];
    for at in if paths.is_empty() { &root[..] } else { paths } {
        let route = Route::new(rule.place.clone(), at.clone(), rule.does.clone());
        let route = Route { plain_only: tls.is_some(), methods: methods.clone(), ..route };
        let same = |known: &&Route| {
            known.at == route.at && known.plain_only == route.plain_only && known.methods == route.methods
        };
        if app.routes.iter().find(same).is_none() {
            app.routes.push(route);
        }
    }
    !all
}
