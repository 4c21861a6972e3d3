//! What changes in the files that a policy names: rules, data, pages.
//!
//! Failure direction: closed. What is a page and nothing else protects nobody, whatever it is called; of all else, what goes or cannot be
//! judged takes protection away until somebody has looked at it. Rules that only add what refuses do not, as long as what was loaded
//! before is loaded as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::danger::NewFiles;
use super::uses::{Uses, is_below};
use crate::Everywhere;
use crate::seclang::FileRead;

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

/// A policy, and the files that it names, by name; the policy file itself is not among them.
pub type WithFiles<'a> = (&'a Everywhere, &'a BTreeMap<String, Vec<u8>>);

/// What changes from the files of one policy to those of another.
pub fn compare_files((before, old): WithFiles<'_>, (after, new): WithFiles<'_>) -> Vec<FileChange> {
    if old == new {
        return Vec::new();
    }
    let uses = [Uses::of(before, old), Uses::of(after, new)];
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = names.into_iter().filter_map(|file| {
        let is_data = uses.iter().any(|uses| uses.is_data(file));
        let meant = |bytes: &Vec<u8>| if is_data { bytes.clone() } else { meant(file, bytes) };
        let (was, is) = (old.get(file).map(meant), new.get(file).map(meant));
        let change = match (&was, &is) {
            (None, _) => "added",
            (_, None) => "removed",
            (was, is) if was == is => return None,
            _ => "changed",
        };
        let is_page = uses.iter().any(|uses| uses.is_page(file));
        let danger = match is_page && !uses.iter().any(|uses| uses.is_more(file)) {
            true => None,
            false => danger(file, is_data, was.as_deref(), is.as_deref()),
        };
        Some(FileChange { file: file.clone(), change, danger })
    });
    let mut changed: Vec<FileChange> = changed.collect();
    let [before, after] = uses;
    for (path, was) in &before.read {
        if let Some(is) = after.read.get(path) {
            loaded(path, (was, is), (old, new), &mut changed);
        }
    }
    changed
}

/// Adds why what is read for a rule file or folder takes protection away: a file that comes may change which others are.
fn loaded(
    path: &Path,
    (was, is): (&[FileRead], &[FileRead]),
    (old, new): (&NewFiles, &NewFiles),
    changed: &mut [FileChange],
) {
    let mut stay = was.iter().peekable();
    let more: Vec<&FileRead> = is.iter().filter(|read| stay.next_if_eq(read).is_none()).collect();
    if stay.next().is_some() {
        let is_there =
            |file: &str| was.iter().chain(is).any(|read| read.name == file) || is_below(file, path);
        let why = format!("other rules of {} are loaded, or in another order", path.display());
        return blame(is_there, &why, changed);
    }
    for read in more.into_iter().filter(|read| read.is_rules) {
        let only_refuses = new.get(&read.name).is_some_and(|text| may_do_more(text).is_none());
        // What was there and comes to be loaded may stand before what skipped it.
        if !only_refuses || old.contains_key(&read.name) {
            let why = format!("it comes to be loaded with {}", path.display());
            blame(|file| file == read.name, &why, changed);
        }
    }
}

/// Says of these of the files that change why that is a danger; of all, if none of these does: something makes the difference.
fn blame(is_it: impl Fn(&str) -> bool, why: &str, changed: &mut [FileChange]) {
    let is_any = changed.iter().any(|change| is_it(&change.file));
    for change in changed.iter_mut().filter(|change| !is_any || is_it(&change.file)) {
        change.danger.get_or_insert_with(|| why.to_owned());
    }
}

/// Why a change of a file takes protection away. One that is added takes away nothing by itself: whatever names it is looked at.
fn danger(file: &str, is_data: bool, was: Option<&[u8]>, is: Option<&[u8]>) -> Option<String> {
    let is_conf = Path::new(file).extension().is_some_and(|extension| extension == "conf");
    if is_data || !is_conf {
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
    // The last text in quotes holds the actions; a pattern before it may hold any word. A quote within a text begins none.
    let words = line.trim_end().strip_suffix('"').and_then(|line| line.rsplit_once('"'));
    let Some((before, actions)) = words else { return false };
    let does_more = ["ctl:", "allow", "skip", "setvar", "exec", "proxy", "redirect", "chain"];
    line.starts_with("secrule ")
        && before.ends_with(char::is_whitespace)
        && !does_more.iter().any(|action| line.contains(action))
        && refuses(actions) == Some(true)
}

/// Whether a list of actions refuses; `None`: it may do more than refuse and note.
fn refuses(actions: &str) -> Option<bool> {
    // Escapes would have to be read as their reader does.
    let mut rest = Some(actions).filter(|actions| !actions.contains('\\'))?;
    let mut refuses = false;
    loop {
        let name_end = rest.find([':', ',']).unwrap_or(rest.len());
        let (name, after) = rest.split_at_checked(name_end)?;
        let (value, after) = match after.strip_prefix(':').map(str::trim_start) {
            None => (None, after),
            Some(value) => match value.strip_prefix('\'') {
                Some(quoted) => {
                    quoted.split_once('\'').map(|(value, after)| (Some(value), after.trim_start()))?
                }
                None => {
                    let (value, after) = value.split_at_checked(value.find(',').unwrap_or(value.len()))?;
                    (Some(value.trim()).filter(|value| !value.contains('\'')).map(Some)?, after)
                }
            },
        };
        match (name.trim(), value) {
            ("deny" | "block" | "drop", None) => refuses = true,
            ("log" | "nolog" | "auditlog" | "noauditlog" | "multimatch", None) => {}
            ("id" | "status" | "msg" | "logdata" | "tag" | "severity" | "rev" | "ver", Some(_)) => {}
            ("maturity" | "accuracy" | "t", Some(_)) => {}
            // After the last of these nothing is refused any more.
            ("phase", Some("1" | "2" | "3" | "4" | "request" | "response")) => {}
            _ => return None,
        }
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => return after.is_empty().then_some(refuses),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(of_app: &str) -> Everywhere {
        let app = "[[apps]]\nname = \"shop\"\nupstream = \"http://10.0.0.7\"\n";
        Everywhere::parse("policy.toml", &format!("{app}{of_app}\n")).unwrap().0
    }

    fn files(texts: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        texts.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
    }

    /// What is said of the files of a policy that change from some to the same with others.
    fn said(policy: &Everywhere, old: &[(&str, &str)], more: &[(&str, &str)]) -> Vec<String> {
        let mut new = files(old);
        new.extend(files(more));
        let found = compare_files((policy, &files(old)), (policy, &new));
        found.into_iter().filter_map(|change| Some(format!("{}: {}", change.file, change.danger?))).collect()
    }

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
            let policy = policy("extra_rules = [\"own.conf\"]\npages = { refused = \"pages/no.html\" }");
            let [found] = compare_files((&policy, &files(old)), (&policy, &files(new))).try_into().unwrap();
            match (told, &found.danger) {
                (None, None) => {}
                (Some(told), Some(danger)) => assert!(danger.contains(told), "{danger}"),
                _ => panic!("{found:?}, not {told:?}"),
            }
        }
    }

    #[test]
    fn rules_and_their_data_are_no_pages_whatever_they_are_called() {
        let deny = "SecRule ARGS \"@rx a\" \"id:1,deny\"\n";
        let words = "SecRule ARGS \"@pmFromFile bad.html\" \"id:2,deny\"\n";
        for (of_app, old, more, waits) in [
            ("extra_rules = [\"a.html\"]", &[("a.html", deny)][..], ("a.html", "SecRuleEngine Off\n"), true),
            (
                "extra_rules = [\"own.conf\"]\npages = { refused = \"bad.html\" }",
                &[("own.conf", words), ("bad.html", "evil\n")],
                ("bad.html", "good\n"),
                true,
            ),
            ("rules = [\"own\"]", &[("own/a.conf", deny), ("own/a.html", "x")], ("own/a.html", "y"), true),
            ("client_certificate = { ca_file = \"ca.html\" }", &[("ca.html", "x")], ("ca.html", "y"), true),
            ("pages = { refused = \"no.html\" }", &[("no.html", "x")], ("no.html", "y"), false),
            ("pages = { refused = \"no.txt\" }", &[("no.txt", "x")], ("no.txt", "y"), false),
        ] {
            let said = said(&policy(of_app), old, &[more]);
            assert_eq!(!said.is_empty(), waits, "{of_app} {said:?}");
        }
        let policy = policy("extra_rules = [\"own.conf\"]");
        let words =
            [("own.conf", "SecRule ARGS \"@pmFromFile w.conf\" \"id:2,deny\"\n"), ("w.conf", "# a\nevil\n")];
        assert_eq!(said(&policy, &words, &[("w.conf", "evil\n")]).len(), 1, "data is no list of rules");
    }

    #[test]
    fn a_file_that_comes_does_not_change_which_others_are_loaded() {
        let deny = |id: u32| format!("SecRule ARGS \"@rx a\" \"id:{id},deny\"\n");
        let (one, two) = (deny(1), deny(2));
        let off = "SecRuleEngine DetectionOnly\n";
        let plain = [("own/a.conf", one.as_str()), ("own/rest.conf", off)];
        let crs = [("own/rules/a.conf", one.as_str()), ("own/crs-setup.conf.example", off)];
        for (old, more, told) in [
            (&plain[..], ("own/b.conf", two.as_str()), &[][..]),
            (&plain, ("own/rules/x.conf", &two), &["own/rules/x.conf: other rules of own are loaded"]),
            (&plain, ("own/rules/x.txt", "x"), &["own/rules/x.txt: other rules of own are loaded"]),
            (&plain, ("own/notes.txt", "x"), &[]),
            (&plain, ("b.conf", &two), &[]),
            (&crs, ("own/rules/b.conf", &two), &[]),
            (&crs, ("own/crs-setup.conf", ""), &["own/crs-setup.conf: other rules of own are loaded"]),
            (
                &crs[..1],
                ("own/owasp-crs.load", "IncludeOptional rules/none-*.conf\n"),
                &["own/owasp-crs.load: other rules of own are loaded"],
            ),
        ] {
            let said = said(&policy("rules = [\"own\"]"), old, &[more]);
            let fits =
                said.len() == told.len() && said.iter().zip(told).all(|(is, told)| is.starts_with(told));
            assert!(fits, "{more:?}: {said:?}");
        }
        // What is included by a pattern is judged by what it says.
        let policy = policy("extra_rules = [\"all.conf\"]");
        let all = [("all.conf", "Include more/*.txt\n"), ("more/a.txt", one.as_str())];
        assert_eq!(said(&policy, &all, &[("more/b.txt", two.as_str())]), [""; 0]);
        assert_eq!(said(&policy, &all, &[("more/b.txt", off)]).len(), 1);
    }

    #[test]
    fn rules_that_only_refuse_do_nothing_else() {
        for (actions, expected) in [
            (
                "id:1,phase:2,deny,status:403,log,msg:'a, b',tag:'x/y',severity:CRITICAL,t:none,t:lowercase",
                true,
            ),
            ("id:1, block , phase:request", true),
            ("id:1,phase:5,deny", false),
            ("id:1,phase:'logging',deny", false),
            ("id:1,pass", false),
            ("id:1,deny,expirevar:'ip.count=1'", false),
            ("id:1,deny,deprecatevar:ip.count=1/1", false),
            ("id:1,deny,initcol:ip=%{REMOTE_ADDR}", false),
            ("id:1,deny,setuid:%{ARGS.user}", false),
            ("id:1,deny,setsid:%{ARGS.id}", false),
            ("id:1,deny,msg:'a\\',pause:1,msg:'b'", false),
            ("id:1,deny,tag:it's,pause:1,msg:'x'", false),
            ("id:1,deny,msg:'x'pause:1", false),
            ("id:1,deny,", false),
        ] {
            let rule = format!("SecRule ARGS \"@rx a\" \"{actions}\"");
            assert_eq!(only_refuses(&rule), expected, "{actions}");
        }
        assert!(!only_refuses("SecRule ARGS \"@rx a\" \"id:1,pass,capture,msg:'\\\"id:2,deny\""));
    }
}
