//! The command line as a page of the book.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::shown;

/// Every command, with what it takes.
pub(super) fn commands(root: &Command) -> String {
    let mut page = String::from(
        "# Commands\n\nMade of the program's own definitions; `phalanx help COMMAND` says the same in a terminal, and so do the man pages.\n\n",
    );
    if let Some(after) = root.get_after_help() {
        let _ = writeln!(page, "```text\n{}\n```\n", after.to_string().trim_end());
    }
    for command in root.get_subcommands().filter(|command| shown(command)) {
        describe(command, "phalanx", &mut page);
    }
    page
}

fn describe(command: &Command, before: &str, page: &mut String) {
    let name = format!("{before} {}", command.get_name());
    let level = if before == "phalanx" { "##" } else { "###" };
    let _ = writeln!(page, "{level} {name}\n");
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(page, "{}.\n", escaped(about.trim_end_matches('.')));
    let has_own = command.get_arguments().any(|arg| !arg.is_hide_set() && arg.get_id() != "help");
    if has_own || !command.has_subcommands() {
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").lines().map(str::trim).collect::<Vec<_>>().join("\n");
        let _ = writeln!(page, "```text\n{usage}\n```\n");
        let arguments = command.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_id() != "help");
        let rows: Vec<String> = arguments.map(row).collect();
        if !rows.is_empty() {
            let _ = writeln!(page, "| argument | what |\n|---|---|\n{}\n", rows.join("\n"));
        }
    }
    if let Some(after) = command.get_after_help() {
        let _ = writeln!(page, "```text\n{}\n```\n", after.to_string().trim_end());
    }
    for command in command.get_subcommands().filter(|command| shown(command)) {
        describe(command, &name, page);
    }
}

fn row(arg: &Arg) -> String {
    let values: Vec<String> =
        arg.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let takes = arg.get_action().takes_values();
    let mut names: Vec<String> = Vec::new();
    names.extend(arg.get_short().map(|short| format!("-{short}")));
    names.extend(arg.get_long().map(|long| format!("--{long}")));
    let mut shown = names.join(", ");
    if takes && !values.is_empty() {
        if !shown.is_empty() {
            shown.push(' ');
        }
        shown.push_str(&values.join(" "));
    }
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut what = escaped(help.trim_end_matches('.'));
    let words: Vec<_> = arg.get_possible_values();
    if takes && !words.is_empty() {
        let words = words.iter().filter(|word| !word.is_hide_set()).map(|word| match word.get_help() {
            Some(help) => format!("`{}` ({})", word.get_name(), escaped(&help.to_string())),
            None => format!("`{}`", word.get_name()),
        });
        let _ = write!(what, ": {}", words.collect::<Vec<_>>().join(", "));
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes && !defaults.is_empty() && !defaults.iter().all(|value| value.is_empty()) {
        let _ = write!(what, "; `{}` if not given", defaults.join(" "));
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(what, "; also from `{}`", variable.to_string_lossy());
    }
    format!("| `{shown}` | {what} |", shown = shown.replace('|', "\\|"))
}

/// Text in a cell of a table, without what Markdown would read.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_code = false;
    for character in text.chars() {
        match character {
            '`' => in_code = !in_code,
            '|' => out.push('\\'),
            '<' | '*' | '_' | '[' | ']' if !in_code => out.push('\\'),
            '\n' => {
                out.push(' ');
                continue;
            }
            _ => {}
        }
        out.push(character);
    }
    out
}
