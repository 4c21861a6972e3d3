//! `acl` lines and what follows `if`: hosts, paths and schemes, as far as routes can say them.

use std::collections::BTreeMap;

use phalanx_policy::PathPattern;

use super::super::site::At;
use super::super::values::{is_host, is_path};

/// What an ACL is about: any of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Acl {
    Hosts(Vec<String>),
    Paths(Vec<At>),
    Methods(Vec<String>),
    /// Clients came over TLS.
    Tls,
}

/// ACLs by name; lines of one name are alternatives. `None`: it cannot be said.
pub(super) type Acls = BTreeMap<String, Option<Acl>>;

/// When a rule holds: all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct When {
    /// None: all.
    pub(super) hosts: Vec<String>,
    /// None: all.
    pub(super) paths: Vec<At>,
    pub(super) methods: Vec<String>,
    /// Whether over TLS.
    pub(super) tls: Option<bool>,
}

/// Adds an ACL.
pub(super) fn define(acls: &mut Acls, name: &str, words: &[String]) {
    let read = parse(words);
    let merged = match (acls.remove(name), read) {
        (None, read) => read,
        (Some(Some(Acl::Hosts(mut all))), Some(Acl::Hosts(more))) => {
            all.extend(more);
            Some(Acl::Hosts(all))
        }
        (Some(Some(Acl::Paths(mut all))), Some(Acl::Paths(more))) => {
            all.extend(more);
            Some(Acl::Paths(all))
        }
        _ => None,
    };
    acls.insert(name.to_owned(), merged);
}

/// Reads what stands behind an ACL's name, or between braces.
pub(super) fn parse(words: &[String]) -> Option<Acl> {
    let (criterion, rest) = words.split_first()?;
    // Flags come first; hosts have no case, and a path's case counts here.
    let mut values = rest;
    let ignores_case = rest.iter().take_while(|word| word.starts_with('-')).any(|word| word == "-i");
    while let Some((flag, tail)) = values.split_first() {
        match flag.as_str() {
            "-i" => values = tail,
            "-m" => return parse_matched(criterion, tail),
            "--" => {
                values = tail;
                break;
            }
            _ => break,
        }
    }
    let base = criterion.strip_suffix(",lower").unwrap_or(criterion);
    let host = |base: &str| matches!(base, "hdr(host)" | "req.hdr(host)" | "hdr(Host)" | "req.hdr(Host)");
    match base {
        base if host(base) || base == "hdr(host),field(1,:)" || base == "req.hdr(host),field(1,:)" => {
            hosts(values)
        }
        "hdr_end(host)" | "hdr_end(Host)" | "req.hdr_end(host)" => endings(values),
        "hdr_dom(host)" | "hdr_dom(Host)" | "req.hdr_dom(host)" => hosts(values),
        "ssl_fc_sni" | "req.ssl_sni" => hosts(values),
        "path" => paths(values, At::Exact),
        "path_beg" => paths(values, At::Prefix),
        "path_reg" => patterns(values, ignores_case, str::to_owned),
        "path_sub" => patterns(values, ignores_case, escaped),
        "path_dir" => {
            patterns(values, ignores_case, |dir| format!("(?:^|/){}(?:/|$)", escaped(dir.trim_matches('/'))))
        }
        "path_end" => paths(values, At::Suffix),
        "method" => Some(Acl::Methods(values.to_vec())).filter(|_| !values.is_empty()),
        "ssl_fc" => Some(Acl::Tls),
        _ => None,
    }
}

/// The same with the kind of match told apart.
fn parse_matched(criterion: &str, words: &[String]) -> Option<Acl> {
    let (kind, values) = words.split_first()?;
    let mut read = vec![
        match (criterion, kind.as_str()) {
            ("path", "beg") => "path_beg",
            ("path", "dir") => "path_dir",
            ("path", "sub") => "path_sub",
            ("path", "reg") => "path_reg",
            ("path", "end") => "path_end",
            ("path", "str") => "path",
            ("hdr(host)" | "req.hdr(host)", "str" | "dom") => "hdr(host)",
            ("hdr(host)" | "req.hdr(host)", "end") => "hdr_end(host)",
            _ => return None,
        }
        .to_owned(),
    ];
    // Flags stand before and after the kind of match.
    let (flags, values): (Vec<String>, Vec<String>) = values.iter().cloned().partition(|value| value == "-i");
    read.extend(flags);
    read.extend(values);
    parse(&read)
}

fn hosts(values: &[String]) -> Option<Acl> {
    let hosts: Vec<String> = values.iter().map(|value| without_port(value).to_ascii_lowercase()).collect();
    (!hosts.is_empty() && hosts.iter().all(|host| is_host(host))).then_some(Acl::Hosts(hosts))
}

fn without_port(host: &str) -> &str {
    host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(host, _)| host)
}

/// `.example.com`: all below a domain.
fn endings(values: &[String]) -> Option<Acl> {
    let host =
        |value: &String| value.strip_prefix('.').map(|domain| format!("*.{}", domain.to_ascii_lowercase()));
    let hosts: Vec<String> = values.iter().map(host).collect::<Option<_>>()?;
    (!hosts.is_empty() && hosts.iter().all(|host| is_host(host))).then_some(Acl::Hosts(hosts))
}

/// Expressions that policy takes.
fn patterns(values: &[String], ignores_case: bool, of: impl Fn(&str) -> String) -> Option<Acl> {
    let start = if ignores_case { "(?i)" } else { "" };
    let all: Vec<String> = values.iter().map(|value| format!("{start}{}", of(value))).collect();
    let fits = !all.is_empty() && all.iter().all(|pattern| PathPattern::new(pattern, false).is_ok());
    fits.then(|| Acl::Paths(all.into_iter().map(At::Pattern).collect()))
}

/// A text as an expression.
fn escaped(text: &str) -> String {
    let escape = |c: char| c.is_ascii_punctuation() && !"/-_<>".contains(c);
    text.chars().flat_map(|c| escape(c).then_some('\\').into_iter().chain([c])).collect()
}

fn paths(values: &[String], at: fn(String) -> At) -> Option<Acl> {
    let fits = |value: &String| match at(String::new()) {
        At::Suffix(_) => !value.is_empty() && is_path(&format!("/{value}")) && !value.contains('/'),
        At::Prefix(_) | At::Exact(_) | At::Pattern(_) => is_path(value),
    };
    (!values.is_empty() && values.iter().all(fits))
        .then(|| Acl::Paths(values.iter().cloned().map(at).collect()))
}

/// What follows `if` or `unless`: alternatives, each of which must hold whole. `None`: it cannot be said.
pub(super) fn alternatives(words: &[String], acls: &Acls) -> Option<Vec<When>> {
    let Some((first, rest)) = words.split_first() else { return Some(vec![When::default()]) };
    match first.as_str() {
        "if" => {}
        // The opposite of one condition about TLS is what is meant, nearly always.
        "unless" => {
            let [only] = one_of(rest, acls)?.try_into().ok()?;
            let plain = When { tls: only.tls.map(|tls| !tls), ..When::default() };
            return (only == When { tls: only.tls, ..When::default() }).then(|| vec![plain]);
        }
        _ => return None,
    }
    one_of(rest, acls)
}

fn one_of(words: &[String], acls: &Acls) -> Option<Vec<When>> {
    let mut all = Vec::new();
    for part in words.split(|word| word == "||" || word == "or") {
        all.push(whole(part, acls)?);
    }
    (all.len() <= ALTERNATIVES_MAX).then_some(all)
}

fn whole(words: &[String], acls: &Acls) -> Option<When> {
    let mut when = When::default();
    let mut words = words.iter();
    if words.len() == 0 {
        return None;
    }
    let mut negated = false;
    while let Some(word) = words.next() {
        if word == "!" {
            negated = !negated;
            continue;
        }
        let name = word.strip_prefix('!').inspect(|_| negated = !negated).unwrap_or(word);
        let acl = if name == "{" {
            let inner: Vec<String> = words.by_ref().take_while(|word| *word != "}").cloned().collect();
            parse(&inner)?
        } else {
            match (acls.get(name), name) {
                (Some(acl), _) => acl.clone()?,
                (None, "TRUE") => continue,
                (None, "METH_GET") => Acl::Methods(vec!["GET".to_owned(), "HEAD".to_owned()]),
                (None, "METH_POST") => Acl::Methods(vec!["POST".to_owned()]),
                _ => return None,
            }
        };
        add(&mut when, acl, std::mem::take(&mut negated))?;
    }
    Some(when)
}

fn add(when: &mut When, acl: Acl, negated: bool) -> Option<()> {
    match acl {
        Acl::Tls if when.tls.is_none() => when.tls = Some(!negated),
        Acl::Hosts(hosts) if when.hosts.is_empty() && !negated => when.hosts = hosts,
        Acl::Paths(paths) if when.paths.is_empty() && !negated => when.paths = paths,
        Acl::Methods(methods) if when.methods.is_empty() && !negated => when.methods = methods,
        _ => return None,
    }
    Some(())
}

/// More are no condition but a program.
const ALTERNATIVES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn conditions_are_hosts_and_paths_or_nothing() {
        let mut acls = Acls::new();
        for (name, acl) in [
            ("shop", "hdr(host) -i shop.example"),
            ("shop", "hdr(host) -i www.shop.example:8080"),
            ("api", "path_beg /api"),
            ("odd", "src 10.0.0.0/8"),
            ("any", "hdr_end(host) -i .shop.example"),
        ] {
            define(&mut acls, name, &split(acl));
        }
        let of = |text: &str| alternatives(&split(text), &acls);
        let one = of("if shop api").unwrap().remove(0);
        assert_eq!(one.hosts, ["shop.example", "www.shop.example"]);
        assert_eq!(one.paths, [At::Prefix("/api".into())]);
        assert_eq!(of("if { path /x } || { path_end .php }").unwrap().len(), 2);
        assert_eq!(of("if any").unwrap()[0].hosts, ["*.shop.example"]);
        assert_eq!(of("").unwrap(), [When::default()]);
        assert_eq!(of("unless { ssl_fc }").unwrap()[0].tls, Some(false));
        assert_eq!(of("if !{ ssl_fc }").unwrap()[0].tls, Some(false));
        for text in ["if odd", "if !shop", "if unknown", "if shop shop", "unless shop", "when shop", "if"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
