//! The language as tables, written from those that read it: what is not in the code is not in the documentation.

use std::fmt::Write as _;

use super::{actions, ctl, loader, names, operators, settings};

/// What is supported, what has no effect and what is refused, as Markdown.
pub(super) fn markdown() -> String {
    let mut out = String::new();
    let counted = loader::COUNTED.iter().map(|(name, _)| *name);
    let settings = settings::SETTINGS.iter().map(|(name, _)| *name);
    let directives = loader::OTHERS.iter().copied().chain(counted).chain(settings);
    section(&mut out, "Directives", directives.chain(settings::MIME_TYPES.iter().copied()));
    table(&mut out, "Read, without effect", settings::WITHOUT_EFFECT);
    table(&mut out, "Can only be `Off`", settings::OFF_ONLY);
    table(&mut out, "Refused", settings::REFUSED);

    let aliases = names::VARIABLE_ALIASES.iter().map(|(name, _)| *name);
    let empty = |name: &str| names::EMPTY_VARIABLES.iter().any(|(known, _)| *known == name);
    let filled = names::variable_names().filter(|name| !empty(name));
    section(&mut out, "Variables", filled.chain(aliases));
    table(&mut out, "Read, never have a value", names::EMPTY_VARIABLES);
    table(&mut out, "Refused", names::REFUSED_VARIABLES);

    let never = |name: &str| operators::NEVER.iter().any(|(known, _)| *known == name);
    section(&mut out, "Operators", operators::names().filter(|name| !never(name)));
    table(&mut out, "Read, never match", operators::NEVER);
    table(&mut out, "Refused", operators::REFUSED);

    let aliases = names::TRANSFORMATION_ALIASES.iter().map(|(name, _)| *name);
    section(&mut out, "Transformations", names::transformation_names().chain(aliases).chain(["none"]));

    section(&mut out, "Actions", actions::all_names());
    table(&mut out, "Refused", actions::REFUSED);

    section(&mut out, "`ctl`", ctl::NAMES.iter().copied());
    table(&mut out, "Read, without effect", ctl::WITHOUT_EFFECT);
    table(&mut out, "Refused", ctl::REFUSED);
    out
}

fn section<'a>(out: &mut String, title: &str, names: impl Iterator<Item = &'a str>) {
    let mut names: Vec<&str> = names.collect();
    names.sort_by_key(|name| name.to_ascii_lowercase());
    names.dedup();
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let _ = writeln!(out, "## {title}\n\n{}\n", quoted.join(" "));
}

fn table(out: &mut String, title: &str, rows: &[(&str, &str)]) {
    let _ = writeln!(out, "| {title} | because |\n|---|---|");
    for (name, why) in rows {
        let _ = writeln!(out, "| `{name}` | {why} |");
    }
    out.push('\n');
}
