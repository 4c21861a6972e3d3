//! Apps by host: exact names, `*.domain` for all below it, and one that takes the rest.

use hashbrown::HashMap;

use crate::http1::semantics::without_port;

/// Places of apps by host.
#[derive(Debug, Default)]
pub(crate) struct HostTable {
    exact: HashMap<Box<[u8]>, usize>,
    /// By the part after `*.`.
    below: HashMap<Box<[u8]>, usize>,
    rest: Option<usize>,
}

impl HostTable {
    /// Adds an app; where several claim a host the first one has it. No hosts: it takes what is left.
    pub(crate) fn add(&mut self, hosts: &[String], app: usize) {
        for host in hosts {
            let host = host.to_ascii_lowercase();
            match host.strip_prefix("*.") {
                Some(domain) => self.below.entry(domain.as_bytes().into()).or_insert(app),
                None => self.exact.entry(host.as_bytes().into()).or_insert(app),
            };
        }
        if hosts.is_empty() {
            self.rest.get_or_insert(app);
        }
    }

    /// The app that answers to a `Host` value.
    pub(crate) fn find(&self, authority: &[u8]) -> Option<usize> {
        if self.exact.is_empty() && self.below.is_empty() {
            return self.rest;
        }
        self.find_host(authority).0
    }

    /// The same, and why this one.
    pub(crate) fn find_host(&self, authority: &[u8]) -> (Option<usize>, HostFound) {
        let mut lower = [0; HOST_BYTES_MAX];
        let host = normal_host(without_port(authority), &mut lower);
        if let Some(index) = self.exact.get(host) {
            return (Some(*index), HostFound::Exact);
        }
        let mut rest = host;
        while let Some(dot) = memchr::memchr(b'.', rest) {
            rest = rest.get(dot + 1..).unwrap_or_default();
            if let Some(index) = self.below.get(rest) {
                return (Some(*index), HostFound::Below(host.len() - rest.len()));
            }
        }
        (self.rest, if self.rest.is_some() { HostFound::Rest } else { HostFound::Nowhere })
    }
}

/// Why an app answers to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostFound {
    /// It names it.
    Exact,
    /// It names all hosts below the one that begins here.
    Below(usize),
    /// It takes the rest.
    Rest,
    /// None does.
    Nowhere,
}

/// A host in the form in which policy has it: in lower case, without a dot at the end; an IPv6 address without brackets.
fn normal_host<'a>(host: &[u8], lower: &'a mut [u8; HOST_BYTES_MAX]) -> &'a [u8] {
    let host = host.strip_suffix(b".").unwrap_or(host);
    if let Some(bare) = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")) {
        let ip = std::str::from_utf8(bare).ok().and_then(|text| text.parse::<std::net::Ipv6Addr>().ok());
        let mut left = lower.as_mut_slice();
        let written = ip.and_then(|ip| std::io::Write::write_fmt(&mut left, format_args!("{ip}")).ok());
        let used = if written.is_some() { HOST_BYTES_MAX - left.len() } else { 0 };
        return lower.get(..used).unwrap_or_default();
    }
    // No app has a longer one.
    let Some(into) = lower.get_mut(..host.len()) else { return b"" };
    into.copy_from_slice(host);
    into.make_ascii_lowercase();
    into
}

/// Longest host name (RFC 1035 section 2.3.4).
const HOST_BYTES_MAX: usize = 253;
