//! Times, sizes, addresses and texts with variables, as others write them and as we do.

use phalanx_policy::handling::is_reserved_field;

/// Milliseconds as we write them.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0 => "1ms".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// Bytes as we write them.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes % (1 << 30) == 0 => format!("{} GiB", bytes >> 30),
        bytes if bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
        bytes if bytes % (1 << 10) == 0 => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}

/// A time with units, several of them together as in `1h30m`; `bare` is what a number without one counts, in milliseconds.
pub(crate) fn parse_duration(text: &str, bare: u64) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(letters)?;
        let factor = match unit {
            "" => bare,
            "us" => 0,
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
        rest = tail.trim_start();
    }
    Some(total)
}

/// A size: a number with `k`, `m` or `g`, or none of them.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at_checked(digits)?;
    let shift = match unit {
        "" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Where a proxy listens, as an address with a port: `80`, `*:80`, `[::]:80`, `10.0.0.1`, which is port `default`.
pub(crate) fn listen_address(text: &str, default: u16) -> Option<String> {
    let text = text.strip_prefix("ipv4@").or_else(|| text.strip_prefix("ipv6@")).unwrap_or(text);
    if let Ok(port) = text.parse::<u16>() {
        return Some(format!("0.0.0.0:{port}"));
    }
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        return Some(address.to_string());
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        return Some(std::net::SocketAddr::new(ip, default).to_string());
    }
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    match host {
        "" | "*" => Some(format!("0.0.0.0:{port}")),
        "::" => Some(format!("[::]:{port}")),
        "localhost" => Some(format!("127.0.0.1:{port}")),
        _ => None,
    }
}

/// A text with `$variables` as one with our `{names}`; `None` if one has no counterpart. `names` says what stands for a
/// variable.
pub(crate) fn with_variables(text: &str, names: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at_checked(at)?;
        literal(&mut out, before)?;
        let after = after.strip_prefix('$')?;
        let (name, tail) = match after.strip_prefix('{') {
            Some(inner) => inner.split_once('}')?,
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                after.split_at_checked(after.find(|c| !is_name(c)).unwrap_or(after.len()))?
            }
        };
        out.push_str(&names(name)?);
        rest = tail;
    }
    literal(&mut out, rest)?;
    Some(out)
}

/// Braces are our variables', and stand twice for themselves.
fn literal(out: &mut String, text: &str) -> Option<()> {
    if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return None;
    }
    out.push_str(&text.replace('{', "{{").replace('}', "}}"));
    Some(())
}

/// Whether policy lets a field be changed: those that frame a message, end at a hop or say who asks are the node's own business.
pub(crate) fn may_change(name: &str, of_request: bool) -> bool {
    let lower = name.to_ascii_lowercase().replace('_', "-");
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let reserved = is_reserved_field(name, of_request) || of_request && lower.starts_with("x-forwarded");
    !reserved && !name.is_empty() && name.bytes().all(plain)
}

/// `Strict-Transport-Security` as policy says it.
pub(crate) fn hsts(value: &str) -> Option<String> {
    let mut out = String::new();
    for part in value.split(';').map(|part| part.trim().to_ascii_lowercase()) {
        let comma = if out.is_empty() { "" } else { ", " };
        match part.as_str() {
            "" => {}
            "includesubdomains" => out.push_str(&format!("{comma}subdomains = true")),
            "preload" => out.push_str(&format!("{comma}preload = true")),
            part => {
                let seconds: u64 = part.strip_prefix("max-age=")?.trim_matches('"').parse().ok()?;
                out.push_str(&format!("{comma}max_age = \"{seconds}s\""));
            }
        }
    }
    out.contains("max_age").then(|| format!("{{ {out} }}"))
}

/// Whether a text can be a host's name in policy.
pub(crate) fn is_host(name: &str) -> bool {
    let labels = name.strip_prefix("*.").unwrap_or(name);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=253).contains(&labels.len()) && labels.chars().all(plain) && labels.split('.').all(|l| !l.is_empty())
}

/// Whether a text can be a path in policy.
pub(crate) fn is_path(path: &str) -> bool {
    let plain = |b: u8| (0x21..0x7f).contains(&b) && !b"?#\\{}*".contains(&b);
    path.starts_with('/') && path.len() <= 512 && path.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, ms, written) in [
            ("60", 60_000, "60s"),
            ("1m", 60_000, "60s"),
            ("1h30m", 5_400_000, "5400s"),
            ("2h", 7_200_000, "2h"),
            ("500ms", 500, "500ms"),
            ("1h 1s", 3_601_000, "3601s"),
        ] {
            let read = parse_duration(text, 1_000);
            assert_eq!(read, Some(ms), "{text}");
            assert_eq!(duration(ms), written);
        }
        for text in ["", "x", "5y", "99999999999999999999s", "999999999999999999h"] {
            assert_eq!(parse_duration(text, 1), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, written) in [("8k", "8 KiB"), ("10M", "10 MiB"), ("1g", "1 GiB"), ("100", "100 B")] {
            assert_eq!(parse_size(text).map(size).as_deref(), Some(written));
        }
        assert_eq!(parse_size("lots"), None);
    }

    #[test]
    fn listeners_are_addresses_with_ports() {
        for (text, expected) in [
            ("80", Some("0.0.0.0:80")),
            ("*:8080", Some("0.0.0.0:8080")),
            (":443", Some("0.0.0.0:443")),
            ("[::]:80", Some("[::]:80")),
            (":::80", Some("[::]:80")),
            ("10.0.0.1", Some("10.0.0.1:80")),
            ("ipv4@127.0.0.1:80", Some("127.0.0.1:80")),
            ("shop.example:80", None),
            ("unix:/run/x", None),
        ] {
            assert_eq!(listen_address(text, 80).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn hsts_is_a_table() {
        let table = hsts("max-age=63072000; includeSubDomains; preload");
        assert_eq!(table.as_deref(), Some("{ max_age = \"63072000s\", subdomains = true, preload = true }"));
        assert_eq!((hsts("preload"), hsts("max-age=x"), hsts("max-age=1; odd")), (None, None, None));
    }

    #[test]
    fn variables_become_names_or_the_text_is_not_carried() {
        let names = |name: &str| (name == "host").then(|| "{host}".to_owned());
        assert_eq!(
            with_variables("https://${host}/a-$host", names).as_deref(),
            Some("https://{host}/a-{host}")
        );
        assert_eq!(with_variables("a{b}", names).as_deref(), Some("a{{b}}"));
        for text in ["$other", "${host", "$", "\n"] {
            assert_eq!(with_variables(text, names), None, "{text}");
        }
    }
}
