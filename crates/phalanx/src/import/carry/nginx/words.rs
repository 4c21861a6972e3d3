//! Texts with nginx's variables, and regular expressions simple enough to be none.

use super::super::values::with_variables;

/// A text for `{names}` of policy; `server_name` is what `$server_name` stands for.
pub(super) fn template(text: &str, server_name: &str) -> Option<String> {
    // The pair means "with the query, if there is one".
    let text = text.replace("$is_args$args", "$_query").replace("${is_args}${args}", "$_query");
    with_variables(&text, |name| {
        Some(match name {
            "host" | "http_host" => "{host}".to_owned(),
            "server_name" if !server_name.is_empty() => server_name.to_owned(),
            "scheme" => "{scheme}".to_owned(),
            "request_uri" => "{path}{query}".to_owned(),
            "uri" | "document_uri" => "{path}".to_owned(),
            "_query" => "{query}".to_owned(),
            "remote_addr" | "realip_remote_addr" => "{client}".to_owned(),
            "request_id" => "{request_id}".to_owned(),
            _ => return None,
        })
    })
}

/// What a regular expression of `rewrite` is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Matches {
    /// Every path.
    All,
    /// One path.
    Path(String),
    /// What is below a path; `$1` is the rest.
    Below(String),
}

/// Reads the few forms that most rewrites have.
pub(super) fn simple_regex(regex: &str) -> Option<Matches> {
    if matches!(regex, "^" | ".*" | "^.*$" | "^(.*)$" | "^/(.*)$" | "^/" | "(.*)" | "^/.*$" | "^(.*)") {
        return Some(Matches::All);
    }
    let body = regex.strip_prefix('^')?;
    for end in ["(.*)$", "(.*)", "(.+)$", "(.+)"] {
        if let Some(path) = body.strip_suffix(end) {
            // By whole segments, as routes are.
            return Some(Matches::Below(plain(path.strip_suffix('/')?)?));
        }
    }
    let path = body.strip_suffix("/?$").or_else(|| body.strip_suffix('$'))?;
    Some(Matches::Path(plain(path)?))
}

/// The suffixes that `\.php$` or `\.(png|jpe?g)$` is about.
pub(super) fn suffix_regex(regex: &str) -> Option<Vec<String>> {
    let body = regex.strip_suffix('$')?;
    let rest = body.strip_prefix(".*").unwrap_or(body).strip_prefix("\\.")?;
    let group = rest.strip_prefix("(?:").or_else(|| rest.strip_prefix('('));
    let words = group.and_then(|group| group.strip_suffix(')')).unwrap_or(rest);
    let mut suffixes = Vec::new();
    for word in words.split('|') {
        let letters = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric());
        match word.split_once('?') {
            // One letter that may be missing.
            Some((before, after)) if letters(before) && (after.is_empty() || letters(after)) => {
                let without = before.get(..before.len() - 1).unwrap_or_default();
                suffixes.extend([format!(".{before}{after}"), format!(".{without}{after}")]);
            }
            None if letters(word) => suffixes.push(format!(".{word}")),
            _ => return None,
        }
    }
    (suffixes.len() <= SUFFIXES_MAX).then_some(suffixes)
}

/// A regular expression that is a text.
fn plain(regex: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = regex.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                c if !c.is_ascii_alphanumeric() => out.push(c),
                _ => return None,
            },
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' | '|' => return None,
            c => out.push(c),
        }
    }
    super::super::values::is_path(&out).then_some(out)
}

/// As many routes as one location makes.
const SUFFIXES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_targets_are_templates() {
        for (text, expected) in [
            ("https://$host$request_uri", Some("https://{host}{path}{query}")),
            ("https://$server_name$uri$is_args$args", Some("https://shop.example{path}{query}")),
            ("/new", Some("/new")),
            ("https://$1", None),
            ("$upstream", None),
        ] {
            assert_eq!(template(text, "shop.example").as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn simple_expressions_are_paths() {
        for (regex, expected) in [
            ("^/old$", Some(Matches::Path("/old".into()))),
            ("^/a\\.html$", Some(Matches::Path("/a.html".into()))),
            ("^/old/(.*)$", Some(Matches::Below("/old".into()))),
            ("^(.*)$", Some(Matches::All)),
            ("^/user/([0-9]+)$", None),
            ("/old", None),
        ] {
            assert_eq!(simple_regex(regex), expected, "{regex}");
        }
        let suffixes = |regex: &str| suffix_regex(regex).unwrap_or_default().join(" ");
        assert_eq!(suffixes("\\.php$"), ".php");
        assert_eq!(suffixes("\\.(jpe?g|png)$"), ".jpeg .jpg .png");
        assert_eq!((suffixes("\\.(a|b*)$"), suffixes("\\.$"), suffixes("/\\.ht")), Default::default());
    }
}
