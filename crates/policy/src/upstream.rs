//! Where an app's requests go.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

/// How the upstream is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// An upstream server.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Upstream {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The Unix socket that it listens on, instead of host and port.
    pub socket: Option<PathBuf>,
    /// Put before every path; empty, or begins with `/` and does not end with one.
    pub path_prefix: String,
}

impl Upstream {
    /// Reads `http://host:port/prefix`, the same with `https`, or `unix:/path`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(url: &str) -> Result<Self, String> {
        if let Some(path) = url.strip_prefix("unix:") {
            return Self::at_socket(path);
        }
        let (scheme, rest) = match url.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some((scheme, _)) => {
                return Err(format!(
                    "`{scheme}` is no scheme for an upstream; it is `http`, `https` or `unix`"
                ));
            }
            None => return Err(format!("`{url}` is no URL; write `http://127.0.0.1:3000`")),
        };
        if let Some(c) =
            url.chars().find(|c| c.is_ascii_control() || *c == ' ' || *c == '\\' || !c.is_ascii())
        {
            return Err(format!("{c:?} cannot stand in an upstream's URL"));
        }
        if rest.contains(['?', '#']) {
            return Err("an upstream's URL has no query and no fragment".into());
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at_checked(at).unwrap_or((rest, "")),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err("an upstream's URL holds no user name or password".into());
        }
        let (host, port) = host_and_port(authority, scheme)?;
        let path_prefix = path.trim_end_matches('/').to_owned();
        Ok(Self { scheme, host, port, socket: None, path_prefix })
    }

    fn at_socket(path: &str) -> Result<Self, String> {
        if !path.starts_with('/') || path.contains('\0') {
            return Err(format!("`{path}` is no absolute path of a Unix socket; write `unix:/run/app.sock`"));
        }
        // What `sockaddr_un` holds, without the byte that ends it.
        if path.len() > SOCKET_PATH_BYTES_MAX {
            return Err(format!("the path of a Unix socket has {SOCKET_PATH_BYTES_MAX} bytes at most"));
        }
        Ok(Self {
            scheme: Scheme::Http,
            host: "localhost".into(),
            port: 80,
            socket: Some(path.into()),
            path_prefix: String::new(),
        })
    }

    /// Where it is, without scheme and path: what tells two upstreams apart.
    pub fn place(&self) -> String {
        match &self.socket {
            Some(path) => format!("unix:{}", path.display()),
            None => self.authority(),
        }
    }

    /// Whether it is at one address that no resolver has to be asked for.
    pub fn is_literal(&self) -> bool {
        self.socket.is_some() || self.host.parse::<IpAddr>().is_ok()
    }

    /// `host:port`, with brackets around an IPv6 address: what a `Host` field or a resolver takes.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Some(path) => write!(f, "unix:{}", path.display()),
            None => {
                let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
                write!(f, "{scheme}://{}{}", self.authority(), self.path_prefix)
            }
        }
    }
}

fn host_and_port(authority: &str, scheme: Scheme) -> Result<(String, u16), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(inside) => {
            let (host, after) =
                inside.split_once(']').ok_or("the bracket of the IPv6 address is not closed")?;
            host.parse::<Ipv6Addr>().map_err(|_| format!("`{host}` is no IPv6 address"))?;
            (host, after.strip_prefix(':').or(after.is_empty().then_some("")))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("")),
        },
    };
    let port = match port {
        Some("") if !authority.ends_with(':') => {
            if scheme == Scheme::Https {
                443
            } else {
                80
            }
        }
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port != 0 => port,
            _ => return Err(format!("`{port}` is no port")),
        },
        None => return Err(format!("`{authority}` is no host and port")),
    };
    if !host.contains(':') && !is_host_name(host) {
        return Err(format!("`{host}` is no host name or address"));
    }
    Ok((host.to_ascii_lowercase(), port))
}

/// Whether a text can name a host: labels of letters, digits, `-` and `_`.
pub(crate) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}

const SOCKET_PATH_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (url, expected) in [
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("http://Shop.internal/", "http://shop.internal:80"),
            ("http://[::1]:8081/app/", "http://[::1]:8081/app"),
            ("https://Shop.internal", "https://shop.internal:443"),
            ("https://[::1]:8443/app/", "https://[::1]:8443/app"),
            ("unix:/run/App.sock", "unix:/run/App.sock"),
        ] {
            assert_eq!(Upstream::parse(url).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_upstream_is_refused() {
        for url in [
            "127.0.0.1:3000",
            "https://",
            "ftp://a",
            "http://",
            "http://a:0",
            "http://a:",
            "http://a:99999",
            "http://u:p@a",
            "http://a/?x",
            "http://a b",
            "http://[::1",
            "http://[x]:1",
            "http://a..b",
            "unix:run/app.sock",
            "unix:",
        ] {
            assert!(Upstream::parse(url).is_err(), "{url}");
        }
    }
}
