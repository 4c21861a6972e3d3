//! `phalanx policy diff`: what changes from one policy file to another, by what it means, and what of it takes protection away.
//!
//! Flow in names: two policy files -> [`Packed`] with all that they name -> `PolicyDiff` and [`FileChange`]s -> words or JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use phalanx_policy::diff::{Change, Danger, Part, Place, PolicyDiff, diff};
use phalanx_policy::{Diagnostic, Policy};
use phalanx_record::escape::for_terminal;
use phalanx_record::rfc3339;
use serde::Serialize;
use serde_json::{Map, Value};

use super::policy::Packed;
use super::print;

/// Arguments of `policy diff`.
#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "phalanx policy diff [--json] OLD NEW\n       phalanx policy diff [--json] -c FILE NEW"
)]
pub(crate) struct DiffArgs {
    /// The policy file before and the one after; with -c only the one after
    #[arg(value_name = "POLICY", num_args = 1..=2, required = true)]
    files: Vec<PathBuf>,
    /// A node's settings file, which names the policy before
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
}

/// What differs, as it is printed.
#[derive(Debug, Serialize)]
struct Differs {
    /// Nothing does.
    same: bool,
    #[serde(flatten)]
    diff: PolicyDiff,
    /// Files that the policies name.
    files: Vec<FileChange>,
}

/// A file that a policy names comes, goes or has another content.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct FileChange {
    file: String,
    change: &'static str,
}

/// Why there is nothing to compare.
#[derive(Debug, Serialize)]
struct Refused {
    /// The file at fault, as the operator named it; empty if it is the order.
    file: String,
    diagnostics: Vec<Diagnostic>,
}

/// Carries it out. Exit code 0: nothing differs; 1: something does; 2: a policy cannot be read.
pub(crate) fn run(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    match compare(args) {
        Ok(differs) => {
            if args.json {
                print::json(&differs)?;
            } else {
                print::text(&words(&differs))?;
            }
            Ok(if differs.same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(refused) => {
            if args.json {
                print::json(&refused)?;
            }
            eprintln!("phalanx: {} cannot be compared", for_terminal(&refused.file));
            for fault in &refused.diagnostics {
                eprintln!("{fault}");
            }
            Ok(ExitCode::from(FAULTS))
        }
    }
}

fn compare(args: &DiffArgs) -> Result<Differs, Refused> {
    let (old, new) = match (&args.config, args.files.as_slice()) {
        (None, [old, new]) => (old.clone(), new),
        (Some(config), [new]) => match crate::settings::read(config) {
            (Some((_, policy)), _) => (policy, new),
            (None, diagnostics) => return Err(refused(config, diagnostics)),
        },
        (config, files) => {
            let message = match config {
                None => "there is one policy only; name OLD and NEW, or the node's settings with -c and NEW",
                Some(_) => "with -c the settings name the policy before; name NEW alone",
            };
            let file = files.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
            let fault = Diagnostic::error(file.display().to_string(), 0, message);
            return Err(refused(file, vec![fault]));
        }
    };
    let (old, old_files) = read(&old)?;
    let (new, new_files) = read(new)?;
    let diff = diff(&old, &new);
    let files = compare_files(&old_files, &new_files);
    Ok(Differs { same: diff.changes.is_empty() && files.is_empty(), diff, files })
}

fn refused(file: &Path, diagnostics: Vec<Diagnostic>) -> Refused {
    Refused { file: file.display().to_string(), diagnostics }
}

/// A policy, and what the files say that it names.
fn read(file: &Path) -> Result<(Policy, BTreeMap<String, Vec<u8>>), Refused> {
    let Packed { entry, files, policy, .. } =
        super::policy::pack(file).map_err(|faults| refused(file, faults))?;
    let files = files.iter().filter(|(file, _)| *file != entry);
    Ok((policy, files.map(|(file, bytes)| (file.to_owned(), meant(file, bytes))).collect()))
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

fn compare_files(old: &BTreeMap<String, Vec<u8>>, new: &BTreeMap<String, Vec<u8>>) -> Vec<FileChange> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change = |name: &String| match (old.get(name), new.get(name)) {
        (None, _) => Some("added"),
        (_, None) => Some("removed"),
        (old, new) => (old != new).then_some("changed"),
    };
    let changed = names.into_iter().filter_map(|name| Some((name, change(name)?)));
    changed.map(|(name, change)| FileChange { file: name.clone(), change }).collect()
}

fn words(differs: &Differs) -> String {
    if differs.same {
        return "the policies mean the same\n".to_owned();
    }
    let mut out = String::new();
    let dangers: BTreeSet<(&Place, &str)> =
        differs.diff.dangers.iter().map(|danger| (&danger.place, danger.setting.as_str())).collect();
    let mut place = None;
    for change in &differs.diff.changes {
        let mark = |setting: &str| if dangers.contains(&(&change.place, setting)) { "!" } else { " " };
        if place != Some(&change.place) {
            let sign = if change.setting.is_empty() { mark("") } else { " " };
            say(&mut out, &format!("{sign} {}{}", named(&change.place), whole(change)));
            place = Some(&change.place);
        }
        if change.setting.is_empty() {
            for (sign, settings) in [("-", &change.old), ("+", &change.new)] {
                for (setting, value) in told(change.place.part, settings.as_ref()) {
                    if is_usual(setting, value) && mark(setting) == " " {
                        continue;
                    }
                    let (name, value) = said(setting, Some(value));
                    say(&mut out, &format!("{}   {sign} {name}: {value}", mark(setting)));
                }
            }
        } else {
            let (name, old) = said(&change.setting, change.old.as_ref());
            let (_, new) = said(&change.setting, change.new.as_ref());
            say(&mut out, &format!("{}     {name}: {old} -> {new}", mark(&change.setting)));
        }
    }
    for FileChange { file, change } in &differs.files {
        say(&mut out, &format!("  file {file}: {change}"));
    }
    let changes = differs.diff.changes.len() + differs.files.len();
    out.push_str(&format!("\n{changes} {}\n", if changes == 1 { "change" } else { "changes" }));
    if !differs.diff.dangers.is_empty() {
        out.push_str("\nDANGEROUS, for it takes protection away:\n");
    }
    for Danger { place, why, .. } in &differs.diff.dangers {
        say(&mut out, &format!("! {}: {why}", named(place)));
    }
    out
}

fn say(out: &mut String, line: &str) {
    out.push_str(&for_terminal(line));
    out.push('\n');
}

/// Where a change is.
fn named(place: &Place) -> String {
    let kind = match place.part {
        Part::Policy => return "the whole policy".to_owned(),
        Part::App => return format!("app {}", place.app.as_deref().unwrap_or_default()),
        Part::Route => "route",
        Part::RouteOrder => "order of routes at",
        Part::Upstream => "upstream",
        Part::RateLimit => "rate limit",
        Part::Exclusion => "exclusion of",
    };
    let app = place.app.as_deref().unwrap_or_default();
    match &place.route {
        Some(route) if place.part == Part::Upstream => {
            format!("app {app}, route {route}, {kind} {}", place.name)
        }
        _ => format!("app {app}, {kind} {}", place.name),
    }
}

/// Whether all of a place comes or goes.
fn whole(change: &Change) -> &'static str {
    match (change.setting.as_str(), &change.old, &change.new) {
        ("", None, _) => " added",
        ("", ..) => " removed",
        _ => "",
    }
}

/// What is told of a part that comes or goes: what it is about. All of it is in the machine-readable output.
fn told(part: Part, settings: Option<&Value>) -> impl Iterator<Item = (&str, &Value)> {
    let names: &[&str] = match part {
        Part::App => &["hosts", "mode", "passthrough", "tcp"],
        Part::RateLimit => &["rate", "key", "paths", "methods", "action"],
        Part::Exclusion => &["owner", "reason", "until.at_s"],
        Part::Upstream => &["weight", "backup", "tls.unverified"],
        _ => &[],
    };
    let settings = settings.and_then(Value::as_object).into_iter().flatten();
    let is_told = move |name: &str| part == Part::Route || names.contains(&name);
    let told = settings.filter(move |(name, _)| is_told(name));
    told.map(|(name, value)| (name.as_str(), value))
}

/// Whether a setting of what comes or goes says nothing that anybody would miss.
fn is_usual(setting: &str, value: &Value) -> bool {
    let is_empty = value.as_array().is_some_and(Vec::is_empty);
    let is_default =
        matches!((setting, value.as_str()), ("does", Some("forward")) | ("action", Some("deny")));
    is_empty || is_default || *value == Value::Bool(false) || setting == "weight" && *value == 1
}

/// A setting's name and value as people say them: times and sizes instead of milliseconds and bytes.
fn said(setting: &str, of: Option<&Value>) -> (String, String) {
    let number = of.and_then(Value::as_u64);
    if let Some(name) = setting.strip_suffix(".at_s") {
        return (name.to_owned(), number.map_or_else(|| value(of), |at_s| end(name, at_s)));
    }
    if let Some(name) = setting.strip_suffix("_bytes_max") {
        return (name.to_owned(), number.map_or_else(|| value(of), size));
    }
    if let Some(name) = setting.strip_suffix("_ms") {
        let name = name.strip_suffix("_max").unwrap_or(name);
        return (name.to_owned(), number.map_or_else(|| value(of), time));
    }
    (setting.to_owned(), value(of))
}

/// An end in the form in which policy names it: a day is over at its last second.
fn end(name: &str, at_s: u64) -> String {
    let is_day = name == "until" && at_s.is_multiple_of(86_400);
    let text = rfc3339(at_s.saturating_sub(u64::from(is_day)).saturating_mul(1_000));
    if is_day { text.chars().take("2030-01-01".len()).collect() } else { text }
}

fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes != 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{bytes} bytes"), |(unit, name)| format!("{} {name}", bytes / unit))
}

/// A time in words if they say all of it.
fn time(ms: u64) -> String {
    let seconds = ms / 1_000;
    let is_whole = match seconds {
        0..3_600 => true,
        3_600..86_400 => seconds.is_multiple_of(60),
        _ => seconds.is_multiple_of(3_600),
    };
    match ms.is_multiple_of(1_000) {
        true if is_whole => print::duration(ms),
        true => format!("{seconds} s"),
        false => format!("{ms} ms"),
    }
}

fn value(of: Option<&Value>) -> String {
    match of {
        None => "not set".to_owned(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.is_empty() => "none".to_owned(),
        Some(Value::Array(items)) => {
            items.iter().map(|item| value(Some(item))).collect::<Vec<_>>().join(", ")
        }
        Some(Value::Object(fields)) => object(fields),
        Some(other) => other.to_string(),
    }
}

fn object(fields: &Map<String, Value>) -> String {
    let fields = fields.iter().filter(|(_, value)| !value.is_null());
    let fields: Vec<String> = fields.map(|(name, of)| format!("{name} {}", value(Some(of)))).collect();
    format!("({})", fields.join(", "))
}

/// The exit code when there is nothing to compare.
const FAULTS: u8 = 2;

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
}
