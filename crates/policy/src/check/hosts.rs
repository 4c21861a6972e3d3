//! Hosts of apps: names, `*.domain` and addresses, in the one form in which they are compared.

use std::net::Ipv6Addr;

use super::Check;
use crate::toml_text::At;
use crate::upstream::is_host_name;

impl Check<'_> {
    /// A host of an app, in normal form.
    pub(super) fn host(&mut self, host: &At<String>) -> Option<String> {
        let normal = app_host(host);
        if normal.is_none() {
            let fault = self.text.error_at(&host.span, format!("`{}` is no host name", host.value));
            self.found.push(fault.with_help(
                "write the name alone, without scheme, port or path; `*.example.org` means all below example.org",
            ));
        }
        normal
    }
}

/// A host as apps name it: lower case, without the dot at the end, in Punycode (RFC 5891).
pub(super) fn app_host(written: &str) -> Option<String> {
    match written.strip_prefix("*.") {
        Some(domain) => host_name(domain).filter(|name| !name.contains(':')).map(|name| format!("*.{name}")),
        None => host_name(written),
    }
}

/// One host, without wildcard.
pub(super) fn host_name(written: &str) -> Option<String> {
    let bare = written.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<Ipv6Addr>() {
        return Some(ip.to_string());
    }
    let name = written.strip_suffix('.').unwrap_or(written);
    let ascii = match name.is_ascii() {
        true => name.to_ascii_lowercase(),
        false => idna::domain_to_ascii(name).ok()?,
    };
    is_host_name(&ascii).then_some(ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_form() {
        for (written, expected) in [
            ("Shop.Example.", Some("shop.example")),
            ("*.Shop.example", Some("*.shop.example")),
            ("Bücher.example", Some("xn--bcher-kva.example")),
            ("*.bücher.example", Some("*.xn--bcher-kva.example")),
            ("[2001:DB8::0:1]", Some("2001:db8::1")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("*", None),
            ("a.*.example", None),
            ("*shop.example", None),
            ("shop.example:80", None),
            ("http://shop.example", None),
            ("*.::1", None),
            ("", None),
            ("shop..", None),
        ] {
            assert_eq!(app_host(written).as_deref(), expected, "{written}");
        }
    }
}
