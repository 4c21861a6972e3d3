//! Changes of policy in words, for the terminal and the API alike.
//!
//! INVARIANT: names and values are as a policy's author wrote them; whoever prints them escapes them.

use phalanx_policy::diff::{Change, Danger, FileChange, Part, Place};
use phalanx_record::rfc3339;
use serde_json::{Map, Value};

/// A change as one sentence.
pub fn sentence(change: &Change) -> String {
    let place = named(&change.place);
    if !change.setting.is_empty() {
        let (name, old) = said(&change.setting, change.old.as_ref());
        let (_, new) = said(&change.setting, change.new.as_ref());
        return format!("{place}: {name}: {old} -> {new}");
    }
    let settings = change.new.as_ref().or(change.old.as_ref());
    let of = told(change.place.part, settings).filter(|(setting, value)| !is_usual(setting, value));
    let of: Vec<String> = of.map(|(setting, value)| said(setting, Some(value))).map(pair).collect();
    let of = if of.is_empty() { String::new() } else { format!(" ({})", of.join("; ")) };
    format!("{place}{}{of}", whole(change))
}

/// A danger as one sentence.
pub fn warning(danger: &Danger) -> String {
    format!("{}: {}", named(&danger.place), danger.why)
}

/// A change of a file as one sentence.
pub fn file_sentence(change: &FileChange) -> String {
    format!("file {}: {}", change.file, change.change)
}

/// A danger in a change of a file as one sentence.
pub fn file_warning(change: &FileChange) -> Option<String> {
    change.danger.as_ref().map(|why| format!("file {}: {why}", change.file))
}

fn pair((name, value): (String, String)) -> String {
    format!("{name}: {value}")
}

/// Where a change is.
pub fn named(place: &Place) -> String {
    match &place.site {
        Some(site) => format!("at site {site}: {}", named_anywhere(place)),
        None => named_anywhere(place),
    }
}

fn named_anywhere(place: &Place) -> String {
    let kind = match place.part {
        Part::Policy => return "the whole policy".to_owned(),
        Part::App => return format!("app {}", place.app.as_deref().unwrap_or_default()),
        Part::Route => "route",
        Part::RouteOrder => "order of routes at",
        Part::Upstream => "upstream",
        Part::RateLimit => "rate limit",
        Part::Exclusion => "exclusion of",
        Part::Exemption => return format!("exemption of {}", place.name),
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
pub fn whole(change: &Change) -> &'static str {
    match (change.setting.as_str(), &change.old, &change.new) {
        ("", None, _) => " added",
        ("", ..) => " removed",
        _ => "",
    }
}

/// What is told of a part that comes or goes: what it is about. All of it is in the machine-readable output.
pub fn told(part: Part, settings: Option<&Value>) -> impl Iterator<Item = (&str, &Value)> {
    let names: &[&str] = match part {
        Part::App => &["hosts", "mode", "passthrough", "tcp"],
        Part::RateLimit => &["rate", "key", "paths", "methods", "action"],
        Part::Exclusion | Part::Exemption => &["owner", "reason", "until.at_s"],
        Part::Upstream => &["weight", "backup", "tls.unverified"],
        _ => &[],
    };
    let settings = settings.and_then(Value::as_object).into_iter().flatten();
    let is_told = move |name: &str| part == Part::Route || names.contains(&name);
    let told = settings.filter(move |(name, _)| is_told(name));
    told.map(|(name, value)| (name.as_str(), value))
}

/// Whether a setting of what comes or goes says nothing that anybody would miss.
pub fn is_usual(setting: &str, value: &Value) -> bool {
    let is_empty = value.as_array().is_some_and(Vec::is_empty);
    let is_default =
        matches!((setting, value.as_str()), ("does", Some("forward")) | ("action", Some("deny")));
    is_empty || is_default || *value == Value::Bool(false) || setting == "weight" && *value == 1
}

/// A setting's name and value as people say them: times and sizes instead of milliseconds and bytes.
pub fn said(setting: &str, of: Option<&Value>) -> (String, String) {
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
        true if is_whole => duration(ms),
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

/// A length of time in its two largest units.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
