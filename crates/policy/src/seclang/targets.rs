//! `ARGS|!ARGS:/^x/|&TX:a|XML:/*`: the variables of a rule.

use super::ir::{Selector, Target, Variable, XPath};
use super::names;
use super::report::Report;
use crate::suggest::did_you_mean;

/// Reads a list of targets. Faults are reported, and the good ones returned.
pub(super) fn parse_list(text: &str, report: &mut Report<'_>) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        report.error("the list of variables is empty");
    }
    while !rest.is_empty() {
        let (target, after) = parse_one(rest, report);
        targets.extend(target);
        rest = match after.trim_start().strip_prefix(['|', ',']) {
            Some(next) => {
                let next = next.trim_start();
                if next.is_empty() {
                    report.error("a separator at the end of the list of variables");
                }
                next
            }
            None => "",
        };
    }
    targets
}

/// Reads one target; gives back what is left, from its separator on.
fn parse_one<'t>(text: &'t str, report: &mut Report<'_>) -> (Option<Target>, &'t str) {
    let mut exclude = false;
    let mut count = false;
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix('!') {
            exclude = true;
            rest = after;
        } else if let Some(after) = rest.strip_prefix('&') {
            count = true;
            rest = after;
        } else {
            break;
        }
    }
    let name_end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let (name, after) = rest.split_at_checked(name_end).unwrap_or((rest, ""));
    let (raw, left) = match after.strip_prefix([':', '.']) {
        Some(selector) => {
            let (raw, left) = take_selector(name, selector);
            (Some(raw), left)
        }
        None => (None, after),
    };
    if !left.is_empty() && !left.trim_start().starts_with(['|', ',']) {
        report.error(format!("`{left}` after the variable `{name}` makes no sense"));
        return (None, "");
    }
    (resolve(name, raw, exclude, count, report), left)
}

/// A selector as written, before its meaning is known.
enum Raw<'t> {
    Plain(&'t str),
    Quoted(&'t str),
}

/// Cuts the selector off: up to the separator, or as far as its quotes or slashes reach.
fn take_selector<'t>(name: &str, text: &'t str) -> (Raw<'t>, &'t str) {
    if let Some(quoted) = text.strip_prefix('\'')
        && let Some((end, _)) = unescaped(quoted, '\'').find(|(_, after)| ends_target(after))
    {
        let (inside, left) = quoted.split_at_checked(end).unwrap_or((quoted, ""));
        return (Raw::Quoted(inside), left.strip_prefix('\'').unwrap_or(left));
    }
    if !name.eq_ignore_ascii_case("XML")
        && let Some(pattern) = text.strip_prefix('/')
        && let Some((end, after)) = unescaped(pattern, '/').find(|(_, after)| ends_target(after))
    {
        let whole = text.get(..end + 2).unwrap_or(text);
        return (Raw::Plain(whole), after);
    }
    let end = text.find(['|', ',']).unwrap_or(text.len());
    let (selector, left) = text.split_at_checked(end).unwrap_or((text, ""));
    (Raw::Plain(selector.trim_end()), left)
}

fn ends_target(after: &str) -> bool {
    let after = after.trim_start();
    after.is_empty() || after.starts_with(['|', ','])
}

/// The places of a mark that no backslash escapes, each with the text behind it.
fn unescaped(text: &str, mark: char) -> impl Iterator<Item = (usize, &str)> {
    let mut escaped = false;
    text.char_indices().filter_map(move |(at, c)| {
        let hit = c == mark && !escaped;
        escaped = c == '\\' && !escaped;
        hit.then(|| (at, text.get(at + 1..).unwrap_or_default()))
    })
}

fn resolve(
    name: &str,
    raw: Option<Raw<'_>>,
    exclude: bool,
    count: bool,
    report: &mut Report<'_>,
) -> Option<Target> {
    let Some(variable) = Variable::from_name(name) else {
        let message = if name.is_empty() {
            "a variable's name is missing".to_owned()
        } else {
            format!("unknown variable `{name}`")
        };
        match names::why_no_variable(name) {
            Some(why) => report.error(format!("the variable `{name}` is not supported: {why}")),
            None => report.error_help(message, did_you_mean(name, names::variable_names())),
        }
        return None;
    };
    if let Some(why) = names::why_empty(variable) {
        report.warning(format!("`{name}` never has a value here: {why}"));
    }
    if exclude && count {
        report.error(format!("`!` and `&` cannot stand together before `{name}`"));
        return None;
    }
    let selector = match raw {
        None => Selector::All,
        Some(Raw::Plain("") | Raw::Quoted("")) => {
            report.error(format!("the selector of `{name}` is empty"));
            return None;
        }
        Some(_) if !variable.is_collection() => {
            report.error(format!("`{name}` is a single value and takes no selector"));
            return None;
        }
        Some(raw) => select(variable, &raw, report)?,
    };
    Some(Target { variable, selector, count, exclude })
}

/// What stands beside the text of an XML document. The first two are looked at with it, and may be left out alone.
const XML_ASIDES: [&str; 3] = ["//comment()", "//processing-instruction()", "//*/name()"];

fn select(variable: Variable, raw: &Raw<'_>, report: &mut Report<'_>) -> Option<Selector> {
    let (Raw::Plain(text) | Raw::Quoted(text)) = raw;
    if variable == Variable::Xml {
        return match *text {
            "/*" => Some(Selector::XPath(XPath::AllText)),
            "//@*" => Some(Selector::XPath(XPath::AllAttributes)),
            aside if XML_ASIDES.contains(&aside) => Some(Selector::Key(aside.into())),
            other => {
                report.error_help(
                    format!("the XPath expression `{other}` is not supported"),
                    Some(format!(
                        "`/*` selects all text, `//@*` all attribute values; there are also `{}`",
                        XML_ASIDES.join("`, `")
                    )),
                );
                None
            }
        };
    }
    let pattern = text.strip_prefix('/').and_then(|inner| inner.strip_suffix('/'));
    if let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) {
        return Some(Selector::Regex(pattern.replace("\\/", "/").into()));
    }
    let key = match raw {
        Raw::Quoted(text) => text.replace("\\'", "'"),
        Raw::Plain(text) => (*text).to_owned(),
    };
    Some(Selector::Key(key.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn parse(text: &str) -> (Vec<Target>, Vec<String>) {
        let mut found = Vec::new();
        let targets = parse_list(text, &mut Report::new(&Arc::from("t"), 1, &mut found));
        (targets, found.into_iter().map(|fault| fault.message).collect())
    }

    fn check(text: &str, expected: &[(Variable, Selector)]) {
        let (targets, faults) = parse(text);
        assert!(faults.is_empty(), "{text}: {faults:?}");
        let found: Vec<_> = targets.into_iter().map(|target| (target.variable, target.selector)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn selectors_of_every_form() {
        check("ARGS", &[(Variable::Args, Selector::All)]);
        check(
            "args:a|ARGS:a[b].c,TX:/^x_/",
            &[
                (Variable::Args, Selector::Key("a".into())),
                (Variable::Args, Selector::Key("a[b].c".into())),
                (Variable::Tx, Selector::Regex("^x_".into())),
            ],
        );
        check(
            "XML:/*|XML://@*",
            &[
                (Variable::Xml, Selector::XPath(XPath::AllText)),
                (Variable::Xml, Selector::XPath(XPath::AllAttributes)),
            ],
        );
        check(
            "ARGS:/^(a|b)\\/c$/|FILES",
            &[(Variable::Args, Selector::Regex("^(a|b)/c$".into())), (Variable::Files, Selector::All)],
        );
        check(
            "ARGS:'/x|y/'|ARGS:'a|b'",
            &[(Variable::Args, Selector::Regex("x|y".into())), (Variable::Args, Selector::Key("a|b".into()))],
        );
    }

    #[test]
    fn counts_and_exclusions() {
        let (targets, _) = parse("&ARGS|!ARGS:x");
        assert!(targets[0].count && targets[1].exclude);
    }

    #[test]
    fn faults_are_named() {
        for (text, fault) in [
            ("ARG", "unknown variable `ARG`"),
            ("REMOTE_ADDR:x", "`REMOTE_ADDR` is a single value and takes no selector"),
            ("ARGS:", "the selector of `ARGS` is empty"),
            ("XML:/a/b", "the XPath expression `/a/b` is not supported"),
            ("ARGS|", "a separator at the end of the list of variables"),
            ("&!ARGS", "`!` and `&` cannot stand together before `ARGS`"),
        ] {
            assert_eq!(parse(text).1, [fault], "{text}");
        }
    }
}
