//! The command line as a whole: what every command has to have.

use clap::Command;

use super::examples::EXAMPLES;
use super::{command, shown};

/// Calls back with each command that can be run, and its words.
fn each(command: &Command, words: &str, look: &mut dyn FnMut(&Command, &str)) {
    let words = format!("{words} {}", command.get_name()).trim_start().to_owned();
    if !command.has_subcommands() {
        look(command, &words);
    }
    for command in command.get_subcommands().filter(|command| shown(command)) {
        each(command, &words, look);
    }
}

fn all(mut look: impl FnMut(&Command, &str)) {
    let mut root = command();
    root.build();
    each(&root, "", &mut look);
}

/// What these print is itself the thing that was asked for, in a form of its own.
const WITHOUT_JSON: [&str; 5] = [
    "phalanx completions",
    "phalanx man",
    "phalanx playbook export",
    "phalanx playbook import",
    "phalanx schema",
];

#[test]
fn every_command_that_prints_can_print_json() {
    let mut without = Vec::new();
    all(|command, words| {
        if !command.get_arguments().any(|arg| arg.get_long() == Some("json")) {
            without.push(words.to_owned());
        }
    });
    without.sort();
    assert_eq!(without, WITHOUT_JSON);
}

#[test]
fn every_command_and_argument_says_what_it_is_for() {
    all(|command, words| {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(!about.is_empty() && !about.contains('\n') && !about.ends_with('.'), "{words}: {about:?}");
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty() && !help.ends_with('.'), "{words} {}: {help:?}", arg.get_id());
        }
    });
}

#[test]
fn help_fits_a_terminal_of_80_columns() {
    all(|command, words| {
        let text = command.clone().term_width(80).render_long_help().to_string();
        let long = text.lines().find(|line| line.chars().count() > 80);
        assert_eq!(long, None, "{words}");
    });
}

#[test]
fn there_are_completions_for_every_shell_and_a_page_for_every_command() {
    for shell in <clap_complete::Shell as clap::ValueEnum>::value_variants() {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut command(), "phalanx", &mut script);
        assert!(String::from_utf8(script).unwrap().contains("rollback"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut root = command();
    root.build();
    let written = super::man_pages(&root, "", folder.path()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), written);
    let page = std::fs::read_to_string(folder.path().join("phalanx-policy-push.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("canary"), "{page}");
}

/// Words as a shell splits them; `None` where only a person knows what is meant.
fn typed(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(character),
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '<' | '>' | '|' | ';' | '&') => break,
            (None, '#') if word.is_none() => break,
            (None, _) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    (!words.iter().any(|word| word == "...")).then_some(words)
}

fn is_read(line: &str, place: &str) {
    let Some(words) = typed(line) else { return };
    if let Err(error) = command().try_get_matches_from(words) {
        assert!(!error.use_stderr(), "{place}: {line}: {error}");
    }
}

#[test]
fn commands_in_the_guide_are_read_by_the_command_line() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let guide = std::fs::read_dir(root.join("docs/guide")).unwrap();
    let mut pages: Vec<_> = guide.map(|entry| entry.unwrap().path()).collect();
    pages.push(root.join("README.md"));
    let mut read = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        let lines =
            text.lines().map(|line| line.trim_start().trim_start_matches("$ ").trim_start_matches("sudo "));
        for line in lines.filter(|line| line.starts_with("phalanx ") && is_command(line)) {
            let id = "01M80A2FRN3W1NT1822FK6NHPD";
            let line = line.replace("REQUEST_ID", id).replace(" ID", &format!(" {id}"));
            for line in line
                .split(" && ")
                .flat_map(|line| line.split(" | "))
                .filter(|line| line.starts_with("phalanx "))
            {
                is_read(line, &page.display().to_string());
                read += 1;
            }
        }
    }
    assert!(read >= 60, "{read}");
}

/// A sentence may begin a line with the product's name, as does what it prints.
fn is_command(line: &str) -> bool {
    let second = line.split(' ').nth(1).unwrap_or_default();
    command().find_subcommand(second).is_some()
}

#[test]
fn examples_are_read_by_the_command_line() {
    for (words, lines) in EXAMPLES {
        for line in *lines {
            let line = line.replace("\\\n", "");
            assert!(line.starts_with(&format!("phalanx {words}")), "{line}");
            is_read(&line, words);
        }
        let mut of = command();
        for word in words.split(' ') {
            of = of.find_subcommand(word).unwrap_or_else(|| panic!("{words}")).clone();
        }
        assert!(of.get_after_help().is_some(), "{words}");
    }
}
