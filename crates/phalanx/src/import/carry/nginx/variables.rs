//! `map` and `set`, as far as they say where requests go: by host, or always the same.

use std::collections::BTreeMap;

use super::super::Notes;
use super::super::values::is_host;
use super::Scope;
use super::lex::Directive;

/// Values of variables, by their names without `$`.
pub(super) type Values = BTreeMap<String, String>;

/// A `map` from hosts to something.
#[derive(Debug)]
pub(super) struct HostMap<'a> {
    name: &'a str,
    hosts: BTreeMap<String, &'a str>,
    default: &'a str,
}

/// The maps from hosts that servers pass requests on by; all others are noted.
pub(super) fn maps<'a>(http: &'a [Directive], notes: &mut Notes) -> Vec<HostMap<'a>> {
    let mut maps = Vec::new();
    for one in http.iter().filter(|one| one.name == "map") {
        let name = one.arg(1).trim_start_matches('$');
        if one.arg(0) == "$http_upgrade" {
            let help = "nothing to do: upgrades to WebSocket are passed on without a word about it";
            notes.add(&one.place, format!("`{}` is not needed", one.words()), help);
            continue;
        }
        let by_host = matches!(one.arg(0), "$host" | "$http_host");
        match Some(one).filter(|_| by_host && passes_by(http, name)).and_then(host_map) {
            Some(map) => maps.push(map),
            None => {
                let help = "write the cases as apps or routes of their own";
                notes.add(&one.place, format!("`{}` is not carried", one.words()), help);
            }
        }
    }
    maps
}

fn host_map(one: &Directive) -> Option<HostMap<'_>> {
    let (mut hosts, mut default) = (BTreeMap::new(), "");
    // Without this word a star is a letter, which no host has.
    let with_domains = one.block.iter().flatten().any(|entry| entry.name == "hostnames");
    for entry in one.block.iter().flatten() {
        match entry.name.as_str() {
            "default" => default = entry.arg(0),
            "hostnames" | "volatile" => {}
            name if name.starts_with(['.', '*']) && !with_domains => {}
            name if name.starts_with('.') => {
                let name = name.to_ascii_lowercase();
                hosts.insert(format!("*{name}"), entry.arg(0));
                hosts.insert(name.trim_start_matches('.').to_owned(), entry.arg(0));
            }
            name if is_host(name) => {
                hosts.insert(name.to_ascii_lowercase(), entry.arg(0));
            }
            _ => return None,
        }
    }
    let plain = hosts.values().chain([&default]).all(|value| !value.contains('$'));
    plain.then(|| HostMap { name: one.arg(1).trim_start_matches('$'), hosts, default })
}

/// Whether requests are passed on by a variable in one of these blocks, or one within them.
fn passes_by(block: &[Directive], name: &str) -> bool {
    block.iter().any(|one| {
        let named = matches!(one.name.as_str(), "proxy_pass" | "grpc_pass") && mentions(one.arg(0), name);
        named || one.block.as_deref().is_some_and(|inner| passes_by(inner, name))
    })
}

fn mentions(text: &str, name: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let of = |part: &str| {
        let part = part.strip_prefix('{').unwrap_or(part);
        part.get(..part.find(|c| !is_name(c)).unwrap_or(part.len())) == Some(name)
    };
    text.split('$').skip(1).any(of)
}

/// What a server is once for each group of hosts for which its maps say the same: these hosts, and the values.
pub(super) fn variants(
    maps: &[HostMap<'_>],
    block: &[Directive],
    hosts: &[String],
    takes_rest: bool,
) -> Vec<(Vec<String>, Values)> {
    let used: Vec<&HostMap<'_>> = maps.iter().filter(|map| passes_by(block, map.name)).collect();
    let all = |host: Option<&str>| -> Values {
        let of = |map: &&HostMap<'_>| {
            let below = |known: &String| {
                let domain = known.strip_prefix('*')?;
                host?.ends_with(domain).then_some(domain.len())
            };
            let exact = host.and_then(|host| map.hosts.get(host));
            let nearest = || map.hosts.iter().filter_map(|(known, value)| Some((below(known)?, value)));
            let value = exact.or_else(|| nearest().max_by_key(|(length, _)| *length).map(|(_, value)| value));
            (map.name.to_owned(), (*value.unwrap_or(&map.default)).to_owned())
        };
        used.iter().map(of).collect()
    };
    if used.is_empty() {
        return vec![(hosts.to_vec(), Values::new())];
    }
    let is_of_server = |host: &String| {
        let below = |own: &String| own.strip_prefix('*').is_some_and(|domain| host.ends_with(domain));
        takes_rest || hosts.iter().any(|own| own == host || below(own))
    };
    let mut named: Vec<String> = hosts.to_vec();
    named.extend(used.iter().flat_map(|map| map.hosts.keys()).filter(|host| is_of_server(host)).cloned());
    let mut groups: Vec<(Vec<String>, Values)> = Vec::new();
    for host in named {
        let values = all(Some(&host));
        match groups.iter_mut().find(|(_, known)| *known == values) {
            Some((known, _)) if known.contains(&host) => {}
            Some((known, _)) => known.push(host),
            None => groups.push((vec![host], values)),
        }
    }
    if takes_rest {
        groups.push((Vec::new(), all(None)));
    }
    // Where a map says nothing nginx has nowhere to go.
    groups.retain(|(_, values)| values.values().all(|value| !value.is_empty()));
    groups
}

/// The values that hold in a scope: those given, and what `set` says there without a condition.
pub(super) fn of_scope(values: &Values, scope: &Scope<'_>) -> Values {
    let mut all = values.clone();
    for one in scope.levels.iter().flat_map(|level| level.iter()).filter(|one| one.name == "set") {
        if let (Some(name), false) = (one.arg(0).strip_prefix('$'), one.arg(1).contains('$')) {
            all.insert(name.to_owned(), one.arg(1).to_owned());
        }
    }
    all
}

/// Notes each `set` of a block that does not say where requests go.
pub(super) fn report(block: &[Directive], server: &[Directive], notes: &mut Notes) {
    for one in block.iter().filter(|one| one.name == "set") {
        let name = one.arg(0).trim_start_matches('$');
        if one.arg(1).contains('$') || !passes_by(server, name) {
            let help = "there is no script language: do it in the app, or in a rule of SecLang";
            notes.add(&one.place, format!("`{}` is not carried", one.words()), help);
        }
    }
}

/// A text with the values of the variables that have one.
pub(super) fn expand(text: &str, values: &Values) -> String {
    let mut out = text.to_owned();
    // The longest name first: `$app` begins `$app_port`.
    let mut names: Vec<&String> = values.keys().collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for name in names {
        let Some(value) = values.get(name) else { continue };
        out = out.replace(&format!("${{{name}}}"), value);
        if mentions(&out, name) {
            out = out.replace(&format!("${name}"), value);
        }
    }
    out
}
