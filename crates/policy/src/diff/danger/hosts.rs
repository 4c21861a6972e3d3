//! Which app answered a host, and which will, by the rules of the edge's table of hosts.
//!
//! All hosts are told apart by what the two policies name: an exact host, all below a domain that nothing more exact names, and the rest.
//! Of each of these one app answers all.

use std::collections::{BTreeMap, BTreeSet};

use crate::App;

/// For each host the app that answered it and the one that will, by their places; each pair once. A host that nobody will answer is
/// nobody's danger.
pub(super) fn answered(old: &[App], new: &[App]) -> BTreeSet<(Option<usize>, usize)> {
    let (before, after) = (Hosts::of(old), Hosts::of(new));
    let mut pairs = BTreeSet::new();
    let named: BTreeSet<&str> = before.names().chain(after.names()).chain([REST]).collect();
    for host in named {
        for way in [Way::Plain, Way::Tls] {
            if let Some(after) = after.find(host, way) {
                pairs.insert((before.find(host, way), after));
            }
        }
    }
    // Listeners for TCP name the app that they carry to.
    for (name, after) in &after.carried {
        pairs.insert((before.carried.get(name).copied(), *after));
    }
    pairs
}

/// How a client comes: whoever asks for a host in a TLS handshake may be passed on unopened.
#[derive(Debug, Clone, Copy)]
enum Way {
    Plain,
    Tls,
}

#[derive(Debug, Default)]
struct Hosts<'a> {
    opened: BTreeMap<&'a str, usize>,
    passed: BTreeMap<&'a str, usize>,
    carried: BTreeMap<&'a str, usize>,
}

impl<'a> Hosts<'a> {
    fn of(apps: &'a [App]) -> Self {
        let mut hosts = Self::default();
        for (at, app) in apps.iter().enumerate() {
            let table = match (app.tcp, app.passthrough) {
                (true, _) => {
                    hosts.carried.insert(&app.name, at);
                    continue;
                }
                (false, true) => &mut hosts.passed,
                (false, false) => &mut hosts.opened,
            };
            let rest = app.hosts.is_empty().then_some(REST);
            for host in app.hosts.iter().map(String::as_str).chain(rest) {
                table.entry(host).or_insert(at);
            }
        }
        hosts
    }

    fn names(&self) -> impl Iterator<Item = &'a str> {
        self.opened.keys().chain(self.passed.keys()).copied()
    }

    fn find(&self, host: &str, way: Way) -> Option<usize> {
        let passed = || find(&self.passed, host);
        match way {
            Way::Plain => find(&self.opened, host),
            Way::Tls => passed().or_else(|| find(&self.opened, host)),
        }
    }
}

fn find(table: &BTreeMap<&str, usize>, host: &str) -> Option<usize> {
    if let Some(app) = table.get(host) {
        return Some(*app);
    }
    let mut rest = host.strip_prefix("*.").unwrap_or(host);
    while let Some((_, domain)) = rest.split_once('.') {
        if let Some(app) = table.get(format!("*.{domain}").as_str()) {
            return Some(*app);
        }
        rest = domain;
    }
    table.get(REST).copied()
}

/// All hosts that no app names.
const REST: &str = "";
