//! Which byte stands for a wide code point when `urlDecodeUni` meets `%uHHHH`: the best fit that Windows servers apply.
//! An attacker writes `%uff07` because an application there will read `'`.

use std::collections::BTreeMap;

use super::report::Report;

/// The best-fit table of code page 20127 (US-ASCII), which IIS and .NET use.
pub(super) fn us_ascii_best_fit() -> BTreeMap<u32, u8> {
    let mut map = BTreeMap::new();
    for (start, bytes) in BEST_FIT {
        for (code_point, byte) in (*start..).zip(bytes.bytes()) {
            if byte != ABSENT {
                map.insert(code_point, byte);
            }
        }
    }
    // The full-width forms U+FF01 to U+FF5E stand for ASCII in order.
    map.extend((0xff01..).zip(b'!'..=b'~'));
    map
}

/// Reads one code page of a mapping file: a line `NUMBER (name)`, then a line of `HHHH:HH` pairs.
pub(super) fn parse_mapping(
    text: &str,
    code_page: u32,
    report: &mut Report<'_>,
) -> Option<BTreeMap<u32, u8>> {
    let mut wanted = false;
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let first = line.split_whitespace().next().unwrap_or_default();
        if !first.contains(':') {
            wanted = first.parse() == Ok(code_page);
        } else if wanted {
            return pairs(line, report);
        }
    }
    report.error(format!("the mapping file has no code page {code_page}"));
    None
}

fn pairs(line: &str, report: &mut Report<'_>) -> Option<BTreeMap<u32, u8>> {
    let mut map = BTreeMap::new();
    for pair in line.split_whitespace() {
        let parsed = pair.split_once(':').and_then(|(from, to)| {
            Some((u32::from_str_radix(from, 16).ok()?, u8::from_str_radix(to, 16).ok()?))
        });
        let Some((from, to)) = parsed else {
            report.error(format!("`{pair}` in the mapping file is no pair of hexadecimal numbers"));
            return None;
        };
        map.insert(from, to);
    }
    Some(map)
}

/// Fills the places of a run that have no best fit.
const ABSENT: u8 = b'\t';

/// Runs of code points: the first one, then the byte for each.
const BEST_FIT: &[(u32, &str)] = &[
    (0x00a0, " !c\t$Y|\t\tCa<\t-R\t\t\t23\t\t\t.,1o>"),
    (
        0x00c0,
        "AAAAAAACEEEEIIIIDNOOOOO\tOUUUUY\t\taaaaaaaceeeeiiii\tnooooo\touuuuy\tyAaAaAaCcCcCcCcDdDdEeEeEeEeEeGgGgGgGgHhHhIiIiIiIiIi\t\tJjKk\tLlLlLl\t\tLlNnNnNn\t\t\tOoOoOoOoRrRrRrSsSsSsSsTtTtTtUuUuUuUuUuUuWwYyYZ\tZzZz\tb",
    ),
    (0x0189, "D"),
    (0x0191, "Ff"),
    (0x0197, "I\t\tl"),
    (0x019f, "OOo"),
    (0x01ab, "t\t\tTUu"),
    (0x01b6, "z"),
    (0x01cd, "AaIiOoUuUuUuUuUu\tAa"),
    (0x01e4, "GgGgKkOoOo\t\tj"),
    (0x0261, "g"),
    (0x02b9, "'\"\t'"),
    (0x02c4, "^\t^\t'\t\t`\t_"),
    (0x02dc, "~"),
    (0x0300, "`\t^~"),
    (0x030e, "\""),
    (0x0331, "__"),
    (0x2000, "       "),
    (0x2010, "--\t--\t\t\t'',\t\"\"\"\t\t\t.\t\t\t."),
    (0x2032, "'\t\t`\t\t\t<>"),
    (0x2122, "T"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_brackets_in_disguise_are_known() {
        let map = us_ascii_best_fit();
        for (code_point, byte) in
            [(0xff07, b'\''), (0x2019, b'\''), (0x2039, b'<'), (0xff1c, b'<'), (0xff5e, b'~'), (0xe9, b'e')]
        {
            assert_eq!(map.get(&code_point), Some(&byte), "{code_point:x}");
        }
        assert_eq!(map.get(&0xa3), None);
        assert_eq!(map.len(), 370 + 1);
    }
}
