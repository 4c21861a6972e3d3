//! The text of a blocklist: an address or prefix a line, comments after `#` or `;`, empty lines. All of it is understood, or none.

use std::net::IpAddr;

use phalanx_model::limits::{BLOCKLIST_PREFIXES_MAX, PREFIX_V4_BITS_MIN, PREFIX_V6_BITS_MIN};
use phalanx_model::net::canonical_prefix;
use phalanx_model::{ListPrefixes, Prefix};
use phalanx_trust::authority;

/// A line that is no prefix, or none that may be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFault {
    /// The line, from 1; 0 for the whole.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: &'static str,
}

/// Reads the text of a list. Names the first [`FAULTS_MAX`] lines that are wrong.
pub fn parse(text: &str) -> Result<ListPrefixes, Vec<LineFault>> {
    let (mut prefixes, mut faults) = (Vec::new(), Vec::new());
    for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1..) {
        let entry = line.split(['#', ';']).next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        match prefix(entry) {
            Ok(prefix) => prefixes.push(prefix),
            Err((message, help)) => faults.push(LineFault { line: number, message, help }),
        }
        if faults.len() >= FAULTS_MAX {
            break;
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let prefixes: ListPrefixes = prefixes.into_iter().collect();
    let whole = |message: String, help| Err(vec![LineFault { line: 0, message, help }]);
    if prefixes.is_empty() {
        return whole("it holds no address".into(), "`phalanx blocklist remove NAME` ends a list");
    }
    if prefixes.len() > BLOCKLIST_PREFIXES_MAX {
        let message = format!("it holds {} prefixes, more than {BLOCKLIST_PREFIXES_MAX}", prefixes.len());
        return whole(message, "leave out what matters least");
    }
    Ok(prefixes)
}

fn prefix(entry: &str) -> Result<Prefix, (String, &'static str)> {
    let read = match entry.parse::<IpAddr>() {
        Ok(ip) => Prefix::from(ip),
        Err(_) => entry.parse::<Prefix>().map_err(|_| {
            let shown: String = entry.chars().take(80).collect();
            (format!("{shown:?} is no address or prefix"), "write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")
        })?,
    };
    let prefix = canonical_prefix(read);
    if authority::too_wide(prefix) {
        let message = format!(
            "{prefix} is too wide: a list may hold ranges up to /{PREFIX_V4_BITS_MIN}, of IPv6 up to /{PREFIX_V6_BITS_MIN}"
        );
        return Err((message, "nobody may order about more at once; name the ranges within it"));
    }
    Ok(prefix)
}

/// Lines named at once.
const FAULTS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_is_read_with_its_comments_and_line_ends() {
        let text = "\u{feff}# known scanners\r\n192.0.2.7\r\n\r\n198.51.100.0/24 ; SBL1\n  2001:db8::/32# six\n::ffff:203.0.113.9\n";
        let read: Vec<String> = parse(text).unwrap().iter().map(|prefix| prefix.to_string()).collect();
        assert_eq!(read, ["192.0.2.7/32", "198.51.100.0/24", "203.0.113.9/32", "2001:db8::/32"]);
    }

    #[test]
    fn faults_are_named_with_their_lines() {
        let faults =
            parse("192.0.2.7\n192.0.2.300\n# fine\n0.0.0.0/0\n2000::/3\n192.0.2.0/33\nexample.org extra")
                .unwrap_err();
        let lines: Vec<u32> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [2, 4, 5, 6, 7]);
        assert_eq!(faults[0].message, "\"192.0.2.300\" is no address or prefix");
        assert!(faults[1].message.starts_with("0.0.0.0/0 is too wide"), "{}", faults[1].message);
        assert_eq!(parse("nonsense\n".repeat(1_000).as_str()).unwrap_err().len(), FAULTS_MAX);
    }

    #[test]
    fn a_list_of_nothing_or_of_too_much_is_refused() {
        assert!(parse("# nothing\n").unwrap_err()[0].message.contains("no address"));
        let many: String = (0..=BLOCKLIST_PREFIXES_MAX)
            .map(|n| format!("{}\n", std::net::Ipv4Addr::from_bits(u32::try_from(n * 2).unwrap())))
            .collect();
        assert!(parse(&many).unwrap_err()[0].message.contains("1000001 prefixes"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_faults(text in "[0-9a-f.:/#\\n]{0,60}") {
            if let Err(faults) = parse(&text) {
                prop_assert!(!faults.is_empty());
            }
        }
    }
}
