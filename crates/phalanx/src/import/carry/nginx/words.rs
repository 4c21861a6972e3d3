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

/// The suffix that `\.php$` is about.
pub(super) fn suffix_regex(regex: &str) -> Option<String> {
    let body = regex.strip_suffix('$')?;
    let body = body.strip_prefix(".*").unwrap_or(body);
    let rest = body.strip_prefix("\\.")?;
    let word = rest.chars().all(|c| c.is_ascii_alphanumeric()) && !rest.is_empty();
    word.then(|| format!(".{rest}"))
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
        assert_eq!(suffix_regex("\\.php$").as_deref(), Some(".php"));
        assert_eq!(suffix_regex("\\.(jpg|png)$"), None);
    }
}
