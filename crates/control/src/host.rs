//! Under which names and ports the console is opened, and how a link into it is written.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A name by which the console is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName {
    name: String,
    port: Option<u16>,
}

impl HostName {
    /// Reads `NAME` or `NAME:PORT`; the port is the one that browsers use. `None` for what is no host name: an address is known anyway.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, port) = split_port(text);
        let port = match port {
            None => None,
            Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
        };
        let label = |label: &str| {
            let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            let ends = label.starts_with('-') || label.ends_with('-');
            !label.is_empty() && label.len() <= 63 && label.bytes().all(inside) && !ends
        };
        // What ends in digits is read as an address by browsers.
        let digits =
            name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        // What leads to any program of this machine is ours at our port only, and needs no name here.
        let lower = name.to_ascii_lowercase();
        let here = lower == "localhost" || lower.ends_with(".localhost");
        let good = !here && name.len() <= 253 && name.split('.').all(label) && !digits;
        good.then(|| Self { name: name.to_ascii_lowercase(), port })
    }

    /// Whether a certificate's name is this one, or stands for it with `*.` (RFC 6125 section 6.4.3).
    pub fn is_covered_by(&self, certified: &str) -> bool {
        let parent = self.name.split_once('.').map(|(_, parent)| parent);
        self.is(certified) || certified.strip_prefix("*.").is_some_and(|under| parent == Some(under))
    }

    /// The origin by which browsers have it, where the console listens on `listen`. Without TLS of ours a proxy does it, at its own port.
    pub(crate) fn origin(&self, listen: u16, tls: bool) -> String {
        match self.port.or(tls.then_some(listen)) {
            Some(443) | None => format!("https://{}", self.name),
            Some(port) => format!("https://{}:{port}", self.name),
        }
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

impl std::fmt::Display for HostName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// Whether a Host names this node. An address literal cannot be rebound by DNS, so on a listener for all addresses each
/// one is taken; a name must be `localhost` or configured.
pub(crate) fn host_is_ours(host: &str, listen: Option<IpAddr>, names: &[HostName]) -> bool {
    let (name, _) = split_port(host);
    if let Ok(ip) = name.parse::<IpAddr>() {
        return ip.is_loopback() || listen.is_none_or(|listen| listen.is_unspecified() || listen == ip);
    }
    name.eq_ignore_ascii_case("localhost") || names.iter().any(|known| known.is(name))
}

/// Whether the port of a Host is ours. All ports of a host share their passkeys, so that a page on another port could have a browser sign
/// for us. It is the listener's, or the one that a configured name has; behind a proxy that does TLS for us, a name without one has all.
pub(crate) fn port_is_ours(host: &str, (listen, default): (u16, u16), names: &[HostName], tls: bool) -> bool {
    let (name, port) = split_port(host);
    let port = port.map_or(Some(default), |port| port.parse().ok());
    match names.iter().find(|known| known.is(name)) {
        Some(HostName { port: Some(named), .. }) => port == Some(*named),
        Some(HostName { port: None, .. }) if !tls => true,
        _ => port == Some(listen),
    }
}

/// The link that spends `ticket`. Where the console has TLS it is by its name, or no browser would believe its certificate; elsewhere by the
/// address, or with `by_name` by `localhost` where that is the same: no browser makes passkeys for an address.
pub fn login_url(
    listen: SocketAddr,
    (names, tls): (&[HostName], bool),
    by_name: bool,
    ticket: &str,
) -> String {
    let port = listen.port();
    if tls {
        let (name, port) = match names.first() {
            Some(first) => (first.name.as_str(), first.port.unwrap_or(port)),
            None => ("localhost", port),
        };
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        return format!("https://{name}{port}/login?ticket={ticket}");
    }
    let here = listen.ip().is_loopback() || listen.ip().is_unspecified();
    if by_name && here {
        return format!("http://localhost:{port}/login?ticket={ticket}");
    }
    let mut address = listen;
    if listen.ip().is_unspecified() {
        // For a browser on the node's machine.
        address.set_ip(if listen.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    format!("http://{address}/login?ticket={ticket}")
}

/// Where the console is for who is told of something elsewhere: under its first name; `None` where it has none, as an address need not
/// lead to this node from there.
pub fn console_url(listen: SocketAddr, names: &[HostName], tls: bool) -> Option<String> {
    names.first().map(|name| name.origin(listen.port(), tls))
}

/// A Host's name or address, and its port.
fn split_port(host: &str) -> (&str, Option<&str>) {
    if let Some((ip, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = rest.strip_prefix(':');
        // What goes on otherwise after an address is no address.
        return if rest.is_empty() || port.is_some() { (ip, port) } else { (host, None) };
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, Some(port)),
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_nodes_names_are_hosts() {
        let names = [HostName::parse("waf.internal").unwrap()];
        let loopback = "127.0.0.1".parse().ok();
        let any = "0.0.0.0".parse().ok();
        let check = |host: &str, listen: Option<IpAddr>| host_is_ours(host, listen, &names);
        for host in
            ["127.0.0.1:8900", "localhost:8900", "LOCALHOST", "[::1]:8900", "waf.internal", "localhost:9"]
        {
            assert!(check(host, loopback), "{host}");
        }
        for host in
            ["evil.example:8900", "192.0.2.1:8900", "localhost.evil.example", "127.0.0.1.nip.io", "", "x:y"]
        {
            assert!(!check(host, loopback), "{host}");
        }
        for host in
            ["[::1", "[127.0.0.1]x.evil.example", "[::1].evil.example:8900", "localhost.", "127.0.0.1."]
        {
            assert!(!check(host, loopback), "{host}");
        }
        assert!(check("192.0.2.1:8900", any) && !check("evil.example", any));
    }

    #[test]
    fn only_the_listeners_port_is_ours_save_under_a_configured_name() {
        let names = [HostName::parse("waf.internal").unwrap()];
        for (host, default, ours) in [
            ("localhost:8900", 80, true),
            ("[::1]:8900", 80, true),
            ("127.0.0.1:8900", 443, true),
            ("localhost", 8900, true),
            ("localhost", 80, false),
            ("localhost:8901", 80, false),
            ("[::1]:8901", 80, false),
            ("[::1]", 80, false),
            ("127.0.0.1:", 8900, false),
            ("localhost:99999999", 80, false),
            ("waf.internal", 443, true),
            ("waf.internal:9", 80, true),
        ] {
            assert_eq!(port_is_ours(host, (8900, default), &names, false), ours, "{host}");
        }
    }

    #[test]
    fn with_tls_of_its_own_a_name_has_one_port() {
        let names = [HostName::parse("waf.example").unwrap(), HostName::parse("Front.example:443").unwrap()];
        for (host, ours) in [
            ("waf.example:8900", true),
            ("waf.example", false),
            ("waf.example:8443", false),
            ("front.example", true),
            ("front.example:443", true),
            ("front.example:8900", false),
            ("localhost:8900", true),
            ("localhost", false),
        ] {
            assert_eq!(port_is_ours(host, (8900, 443), &names, true), ours, "{host}");
        }
    }

    #[test]
    fn names_are_those_that_browsers_take_for_names() {
        for good in ["waf.example", "WAF.example:443", "xn--bcher-kva.example"] {
            assert!(HostName::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "192.0.2.1",
            "waf.example:0",
            "waf.example:x",
            "waf.example:99999",
            "*.example",
            "a b",
            "https://waf.example",
            "[::1]",
            "-a.example",
            "a..b",
        ] {
            assert!(HostName::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_covers_its_name_and_with_a_star_one_label() {
        let name = HostName::parse("waf.example:443").unwrap();
        for (certified, covers) in [
            ("waf.example", true),
            ("*.example", true),
            ("*.waf.example", false),
            ("example", false),
            ("*.a.example", false),
        ] {
            assert_eq!(name.is_covered_by(certified), covers, "{certified}");
        }
    }

    #[test]
    fn a_link_leads_to_where_a_passkey_can_be_made() {
        let [loopback, any] = ["127.0.0.1:8900", "0.0.0.0:443"].map(|listen| listen.parse().unwrap());
        let names = [HostName::parse("waf.example").unwrap()];
        let check = |listen, names: &[HostName], tls, by_name, expected: &str| {
            assert_eq!(login_url(listen, (names, tls), by_name, "t"), format!("{expected}/login?ticket=t"));
        };
        check(loopback, &[], false, false, "http://127.0.0.1:8900");
        check(loopback, &names, false, true, "http://localhost:8900");
        check(loopback, &[], true, true, "https://localhost:8900");
        check(loopback, &names, true, false, "https://waf.example:8900");
        check(any, &names, true, false, "https://waf.example");
        check(any, &[], false, false, "http://127.0.0.1:443");
    }
}
