//! Servers that an app's requests reach, and how they are spoken to.
//!
//! Where an application runs is its operators' business, and no protection. What protects it is: TLS with it, and what other apps do for
//! the same server.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Findings;
use super::scope::Scope;
use crate::balance::{Server, Upstreams};
use crate::{App, OriginTls, Scheme, Upstream};

/// The places of apps by the servers that they reach.
pub(super) fn by_place(apps: &[App]) -> BTreeMap<String, BTreeSet<usize>> {
    let mut servers = BTreeMap::<String, BTreeSet<usize>>::new();
    for (at, app) in apps.iter().enumerate() {
        for place in places(app) {
            servers.entry(place).or_default().insert(at);
        }
    }
    servers
}

/// The servers that an app's requests reach, by any of its routes.
pub(super) fn places(app: &App) -> BTreeSet<String> {
    Scope::all(app).flat_map(|scope| places_of(scope.upstreams)).collect()
}

pub(super) fn places_of(upstreams: &Upstreams) -> BTreeSet<String> {
    upstreams.servers.iter().map(|server| place(&server.upstream)).collect()
}

/// Where a server is: this machine's names for itself are one.
fn place(upstream: &Upstream) -> String {
    let host = upstream.host.as_str();
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_loopback =
        host.eq_ignore_ascii_case("localhost") || literal.is_ok_and(|ip| ip.to_canonical().is_loopback());
    match is_loopback && upstream.socket.is_none() {
        true => format!("localhost:{}", upstream.port),
        false => upstream.place(),
    }
}

/// Compares how servers are spoken to; a server that comes with those that its app had in any route.
pub(super) fn compare(old: &Upstreams, new: &Upstreams, had: &[&Upstreams], found: &mut Findings) {
    let Upstreams {
        servers,
        // Which of the servers gets a request, and when one more: all of them are the app's.
        balance: _,
        health: _,
        retries: _,
        queue: _,
        sticky: _,
    } = new;
    let known: Vec<&Server> = had.iter().flat_map(|upstreams| &upstreams.servers).collect();
    for server in servers {
        let here = |known: &&&Server| place(&known.upstream) == place(&server.upstream);
        let same = old.servers.iter().find(|old| here(&old)).or_else(|| known.iter().find(here).copied());
        match same {
            Some(old) => of_server(&[old], server, found),
            None => of_server(&known, server, found),
        }
        if let Some(old) = same
            && old.upstream.path_prefix != server.upstream.path_prefix
        {
            found.say("upstreams", format!("other paths of {} are reached", server.upstream.place()));
        }
    }
}

/// A server that is spoken to as one of these is loses nothing.
fn of_server(old: &[&Server], new: &Server, found: &mut Findings) {
    let Server {
        upstream: Upstream { scheme, host: _, port: _, socket, path_prefix: _ },
        weight: _,
        backup: _,
        requests_max: _,
        protocol: _,
        tls,
        proxy,
    } = new;
    let place = || new.upstream.place();
    let unopened =
        |server: &Server| server.upstream.scheme == Scheme::Tcp || server.upstream.socket.is_some();
    let is_plain = tls.is_none() && *scheme != Scheme::Tcp && socket.is_none();
    if is_plain && old.iter().all(|old| old.tls.is_some() && !unopened(old)) {
        found.say("upstreams", format!("{} is spoken to without TLS", place()));
    }
    if let Some(tls) = tls
        && let Some(why) = of_tls(old, tls)
    {
        found.say("tls.unverified", format!("{}: {why}", place()));
    }
    if !old.iter().any(|old| old.proxy == *proxy) {
        found.say("upstreams", format!("{} is told in another way whose connection it is", place()));
    }
}

/// What of the upstream's certificate is looked at less, if it is so beside each of these.
fn of_tls(old: &[&Server], new: &OriginTls) -> Option<&'static str> {
    let OriginTls { server_name, ca_file, pins, client_certificate, unverified } = new;
    let had: Vec<&OriginTls> = old.iter().filter_map(|old| old.tls.as_ref()).collect();
    if *unverified && !had.iter().any(|old| old.unverified) {
        return Some("the upstream's certificate is not looked at");
    }
    let as_one = had.iter().any(|old| {
        old.unverified
            || *server_name == old.server_name
                && *ca_file == old.ca_file
                && *client_certificate == old.client_certificate
                && (old.pins.is_empty() || !pins.is_empty() && pins.iter().all(|pin| old.pins.contains(pin)))
    });
    // Where there was no TLS, any that is verified is more.
    (!as_one && !had.is_empty()).then_some("other certificates of the upstream are believed")
}
