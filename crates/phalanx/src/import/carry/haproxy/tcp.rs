//! `mode tcp`: connections that are carried as they are.

use super::super::Notes;
use super::super::site::{App, Does, Site, Target, TcpListen};
use super::super::values::{duration, listen_address, parse_duration};
use super::lex::{Line, Section};
use super::{Backends, backend, of_backend};

/// A frontend, or a `listen`, whose connections all go to the same servers.
pub(super) fn frontend(
    site: &mut Site,
    section: &Section,
    defaults: Option<&Section>,
    backends: &Backends<'_>,
    notes: &mut Notes,
) {
    for line in section.all("use_backend").chain(section.all("acl")) {
        let help = "write an app and an address for each: nothing of a connection is read. By the host of TLS see `passthrough` in the guide on TLS";
        notes.add(&line.place, format!("`{}` is not carried", line.text()), help);
    }
    let does = match section.all("default_backend").last() {
        Some(line) => of_backend(line, line.word(1), backends, notes),
        None => Some(backend::does(section, defaults, notes)),
    };
    let Some(mut does) = does else { return };
    if !carries(&mut does, section, notes) {
        return;
    }
    let mut app = App::new(section.head.place.clone(), site.free_name(section.name()));
    (app.tcp, app.does) = (true, does);
    let behind = section.all("default_backend").last().and_then(|line| backends.get(line.word(1)));
    let idle = idle_time(defaults.into_iter().chain([section]).chain(behind.map(|(section, _)| *section)));
    let mut listens = false;
    for line in section.all("bind") {
        listens |= bind(site, line, (&app.name, idle.as_deref()), notes);
    }
    if listens {
        site.apps.push(app);
    }
}

/// Leaves of a backend what holds for connections; false when nothing is left to connect to.
fn carries(does: &mut Does, section: &Section, notes: &mut Notes) -> bool {
    let Target::Upstreams(pool) = &mut does.target else { return false };
    let servers = pool.servers.len();
    pool.servers.retain(|server| !server.url.starts_with("https:"));
    if pool.servers.len() < servers {
        let what = format!("servers of `{} {}` are spoken to over TLS", section.kind(), section.name());
        notes.add(
            &section.head.place,
            what,
            "connections are carried as they are: let the clients speak TLS",
        );
    }
    for server in &mut pool.servers {
        server.url = server.url.replacen("http://", "tcp://", 1);
        server.http2 = false;
    }
    // Whether a server works is told by connections alone.
    pool.health.clear();
    pool.sticky = None;
    does.limits.retain(|(key, _)| *key == "upstream_connect");
    (does.request, does.response, does.hsts) = Default::default();
    !pool.servers.is_empty()
}

/// How long a connection may be silent: the longer of both sides' time, by the last section that says.
fn idle_time<'a>(sections: impl Iterator<Item = &'a Section> + Clone) -> Option<String> {
    let time = |name: &str| {
        let lines = sections.clone().flat_map(|section| section.all("timeout"));
        lines.filter(|line| line.word(1) == name).filter_map(|line| parse_duration(line.word(2), 1)).last()
    };
    let longest = time("tunnel").or_else(|| time("client").max(time("server")));
    longest.map(|ms| duration(ms.clamp(1_000, IDLE_MS_MAX)))
}

fn bind(site: &mut Site, line: &Line, (app, idle): (&str, Option<&str>), notes: &mut Notes) -> bool {
    if line.has("ssl") {
        let help = "let the app speak TLS itself: its connections are carried as they are";
        notes.add(&line.place, format!("`{}` opens TLS of another protocol", line.text()), help);
        return false;
    }
    if line.has("accept-proxy") {
        let help = "add `proxy_protocol` with the networks of the balancers to the listener";
        notes.add(&line.place, format!("`{}` does not say who may send a PROXY header", line.text()), help);
    }
    let mut any = false;
    for address in line.word(1).split(',') {
        let Some(address) = listen_address(address, 80) else {
            let help = "write it into `[[listen.tcp]]` as an address";
            notes.add(&line.place, format!("`bind {address}` is no address with a port"), help);
            continue;
        };
        any = true;
        site.tcp.push(TcpListen { address, app: app.to_owned(), idle: idle.map(str::to_owned) });
    }
    any
}

/// 30 days.
const IDLE_MS_MAX: u64 = 30 * 24 * 3_600_000;
