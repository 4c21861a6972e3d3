//! What changes in the files that a policy names: rules, data, pages.
//!
//! Failure direction: closed. Pages protect nobody; of all else, what goes or cannot be judged takes protection away until somebody has
//! looked at it. Rules that only add what refuses do not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

/// A file that a policy names comes, goes or has another content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// The file, as the policy names it.
    pub file: String,
    /// `added`, `removed` or `changed`.
    pub change: &'static str,
    /// Why that takes protection away, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub danger: Option<String>,
}

/// What changes from the files of one policy to those of another, by name; the policy files themselves are not among them.
pub fn compare_files(old: &BTreeMap<String, Vec<u8>>, new: &BTreeMap<String, Vec<u8>>) -> Vec<FileChange> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = names.into_iter().filter_map(|file| {
        let meant = |files: &BTreeMap<String, Vec<u8>>| files.get(file).map(|bytes| meant(file, bytes));
        let (was, is) = (meant(old), meant(new));
        let change = match (&was, &is) {
            (None, _) => "added",
            (_, None) => "removed",
            (was, is) if was == is => return None,
            _ => "changed",
        };
        let danger = danger(file, was.as_deref(), is.as_deref());
        Some(FileChange { file: file.clone(), change, danger })
    });
    changed.collect()
}

/// Why a change of a file takes protection away. One that is added takes away nothing by itself: whatever names it is looked at.
fn danger(file: &str, was: Option<&[u8]>, is: Option<&[u8]>) -> Option<String> {
    let extension = Path::new(file).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if PAGES.contains(&extension) {
        return None;
    }
    if extension != "conf" {
        return (was.is_some() || is.is_none())
            .then(|| "what is read from it changes, and cannot be judged".to_owned());
    }
    let lines = |text: Option<&[u8]>| logical(&String::from_utf8_lossy(text.unwrap_or_default()));
    match more(&lines(was), &lines(is)) {
        Ok(more) => more,
        Err(Fewer) => Some("rules of it go, change or stand in another order".to_owned()),
    }
}

/// Rules that were there are missing, or not in their order.
struct Fewer;

/// What speaks against the rules that come, if those that were there stay.
fn more(was: &[String], is: &[String]) -> Result<Option<String>, Fewer> {
    // What was there stays, in its order: `chain`, `skipAfter` and markers mean the lines that follow.
    let mut old = was.iter().peekable();
    let mut after_chain = false;
    let mut more = None;
    for line in is {
        if old.next_if_eq(&line).is_none() && more.is_none() && (after_chain || !only_refuses(line)) {
            more = Some(line);
        }
        after_chain = line.to_ascii_lowercase().contains("chain");
    }
    if old.next().is_some() {
        return Err(Fewer);
    }
    let start = more.map(|line| line.chars().take(60).collect::<String>());
    Ok(start.map(|start| format!("a rule that comes may do more than refuse: {start}")))
}

/// The first rule of a file that may do more than refuse, if there is one.
pub(super) fn may_do_more(file: &[u8]) -> Option<String> {
    let text = rules(&String::from_utf8_lossy(file));
    more(&[], &logical(&text)).ok()?
}

/// Whether a rule can do nothing but refuse or note.
fn only_refuses(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    // The last text in quotes holds the actions; a pattern before it may hold any word.
    let actions =
        line.trim_end().strip_suffix('"').and_then(|line| line.rsplit_once('"')).map(|(_, last)| last);
    let mut actions = actions.unwrap_or_default().split(',').map(str::trim);
    let refuses = actions.any(|action| ["deny", "block", "drop"].contains(&action));
    let does_more = ["ctl:", "allow", "skip", "setvar", "exec", "proxy", "redirect", "chain"];
    line.starts_with("secrule ") && refuses && !does_more.iter().any(|action| line.contains(action))
}

/// The directives of rules, each on one line, joined as their reader joins them.
fn logical(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", "");
    joined.lines().map(str::to_owned).collect()
}

/// What a file says, whatever it looks like: rule files without comments, TOML as its values.
fn meant(file: &str, bytes: &[u8]) -> Vec<u8> {
    let extension = Path::new(file).extension().and_then(|extension| extension.to_str());
    match (extension, std::str::from_utf8(bytes)) {
        (Some("conf"), Ok(text)) => rules(text).into_bytes(),
        (Some("toml"), Ok(text)) => match text.parse::<toml::Table>() {
            Ok(table) => table.to_string().into_bytes(),
            Err(_) => bytes.to_vec(),
        },
        _ => bytes.to_vec(),
    }
}

/// Rules without comments, empty lines and white space around them. What goes on in the next line stays as it is: white space counts there.
fn rules(text: &str) -> String {
    let mut out = String::new();
    let mut goes_on = false;
    for line in text.lines() {
        let continued = line.ends_with('\\');
        let line = if goes_on { line } else { line.trim_start() };
        let said = if continued { line } else { line.trim_end() };
        if goes_on || continued || !(said.is_empty() || said.starts_with('#')) {
            out.push_str(said);
            out.push('\n');
        }
        goes_on = continued;
    }
    out
}

/// Endings of what is shown to people and read by no rule.
const PAGES: &[&str] = &["html", "htm", "css", "svg", "png", "ico", "gif", "jpg", "webp"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_rule_files_are_written_is_no_change() {
        let one =
            "# a comment\n\n  SecAction \"id:1,pass\"  \nSecRule ARGS \"@rx a\" \\\n    \"id:2,deny\"\n";
        let other = "SecAction \"id:1,pass\"\n# another\nSecRule ARGS \"@rx a\" \\\n    \"id:2,deny\"\n";
        assert_eq!(rules(one), rules(other));
        let quoted = "SecRule ARGS \"@rx a\\\n # b\" \"id:2,deny\"\n";
        assert_ne!(
            rules(quoted),
            rules("SecRule ARGS \"@rx a\\\n\" \"id:2,deny\"\n"),
            "it is no comment in a text"
        );
    }

    #[test]
    fn what_takes_rules_away_or_cannot_be_judged_is_a_danger() {
        let deny = "SecRule ARGS \"@rx a\" \"id:1,deny\"\n";
        let more = format!("{deny}SecRule ARGS \"@rx b\" \\\n  \"id:2,phase:2,block\"\n");
        let turned = format!("SecRule ARGS \"@rx b\" \\\n  \"id:2,phase:2,block\"\n{deny}");
        let pass = format!("{deny}SecAction \"id:3,pass,ctl:ruleEngine=Off\"\n");
        let chained = format!("{deny}SecRule ARGS \"@rx b\" \"id:4,deny,chain\"\n");
        for (file, old, new, told) in [
            ("own.conf", Some(deny), Some(more.as_str()), None),
            ("own.conf", Some(more.as_str()), Some(deny), Some("rules of it go")),
            ("own.conf", Some(deny), None, Some("rules of it go")),
            ("own.conf", Some(deny), Some(pass.as_str()), Some("may do more than refuse")),
            ("own.conf", Some(deny), Some(chained.as_str()), Some("may do more than refuse")),
            ("own.conf", None, Some(deny), None),
            ("own.conf", None, Some("SecRule ARGS \"@rx deny\" \"id:5,pass\"\n"), Some("may do more")),
            (
                "own.conf",
                None,
                Some("SecRule ARGS \"@rx a\" \"id:6,deny,ct\\\nl:ruleEngine=Off\"\n"),
                Some("may do more"),
            ),
            ("own.conf", Some(more.as_str()), Some(turned.as_str()), Some("another order")),
            ("own.conf", None, Some("SecRuleEngine Off\n"), Some("may do more than refuse")),
            ("words.data", Some("evil\n"), Some("evil\nworse\n"), Some("cannot be judged")),
            ("words.data", None, Some("evil\n"), None),
            ("words.data", Some("evil\n"), None, Some("cannot be judged")),
            ("pages/no.html", Some("a"), Some("b"), None),
        ] {
            let files = |text: Option<&str>| {
                text.map(|text| (file.to_owned(), text.as_bytes().to_vec())).into_iter().collect()
            };
            let [found] = compare_files(&files(old), &files(new)).try_into().unwrap();
            match (told, &found.danger) {
                (None, None) => {}
                (Some(told), Some(danger)) => assert!(danger.contains(told), "{danger}"),
                _ => panic!("{found:?}, not {told:?}"),
            }
        }
    }
}
