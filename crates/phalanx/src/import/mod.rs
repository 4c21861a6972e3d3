//! `phalanx import nginx|haproxy FILE`: the configuration of another proxy as ours, and a list of what was not carried.

mod carry;
mod folder;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use carry::{Carried, Note, Notes, Written};
use clap::{Args, Subcommand};
use phalanx_policy::{Level, parse_policy};
use phalanx_record::escape::for_terminal;
use serde_json::json;

use folder::Folder;

#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// From nginx: its main file, or one of sites-enabled
    Nginx(ImportArgs),
    /// From HAProxy
    Haproxy(ImportArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// The configuration
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write phalanx.toml and policy.toml there, instead of printing them
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
}

/// Carries a configuration.
pub(crate) fn run(command: &ImportCommand) -> anyhow::Result<ExitCode> {
    let (ImportCommand::Nginx(args) | ImportCommand::Haproxy(args)) = command;
    let mut folder = Folder::of(&args.file);
    let text = folder.read_main().with_context(|| args.file.display().to_string())?;
    let name = args.file.display().to_string();
    let mut carried = match command {
        ImportCommand::Nginx(_) => carry::nginx::carry(&name, &text, &mut folder),
        ImportCommand::Haproxy(_) => carry::haproxy::carry(&name, &text),
    };
    // What is written may lie anywhere.
    carried.site.files_are_in(&std::path::absolute(folder.path())?);
    let written = carry::write(&carried.site, &name);
    let faults = faults(&written.policy);
    if let Some(out) = &args.out {
        write_files(out, &written)?;
    }
    if args.json {
        print_json(&carried, &written, &faults);
    } else {
        print_text(args, &carried, &written, &faults);
    }
    Ok(ExitCode::SUCCESS)
}

/// What our own check says of the policy: whatever was carried, nobody should have to find out by starting it.
fn faults(policy: &str) -> Vec<String> {
    match parse_policy("policy.toml", policy) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().filter(|f| f.level == Level::Error).map(ToString::to_string).collect(),
    }
}

fn write_files(out: &Path, written: &Written) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let files = [("phalanx.toml", &written.settings), ("policy.toml", &written.policy)];
    for path in files.map(|(name, _)| out.join(name)) {
        if path.exists() {
            bail!("{} is there already; name another folder", path.display());
        }
    }
    for (name, text) in files {
        let path = out.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn print_json(carried: &Carried, written: &Written, faults: &[String]) {
    let note = |note: &Note| json!({ "file": *note.place.file, "line": note.place.line, "what": note.what, "help": note.help });
    let notes: Vec<_> = carried.notes.in_order().into_iter().map(note).collect();
    let told = json!({
        "phalanx.toml": written.settings,
        "policy.toml": written.policy,
        "not_carried": notes,
        "not_carried_more": carried.notes.more,
        "faults": faults,
    });
    println!("{told}");
}

fn print_text(args: &ImportArgs, carried: &Carried, written: &Written, faults: &[String]) {
    match &args.out {
        Some(out) => println!("wrote {0}/phalanx.toml and {0}/policy.toml", out.display()),
        None => print!("# phalanx.toml\n\n{}\n\n# policy.toml\n\n{}", written.settings, written.policy),
    }
    eprint!("{}", list(&carried.notes));
    for fault in faults {
        eprintln!("{}", for_terminal(fault));
    }
    if !faults.is_empty() {
        eprintln!("mend these by hand before the first start");
    }
}

/// The list for people.
fn list(notes: &Notes) -> String {
    let all = notes.in_order();
    if all.is_empty() {
        return "everything was carried\n".to_owned();
    }
    let mut text = format!("not carried, or not as it was: {}\n", all.len() + notes.more);
    for note in all {
        for (number, line) in note.to_string().lines().enumerate() {
            let indent = if number == 0 { "" } else { "  " };
            text.push_str(&format!("{indent}{}\n", for_terminal(line.trim_start())));
        }
    }
    if notes.more > 0 {
        text.push_str(&format!("and {} more\n", notes.more));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that is made of a configuration in `testdata/import`, as one text.
    fn made_of(file: &Path) -> String {
        let name = file.file_name().unwrap().to_str().unwrap();
        let mut folder = Folder::of(file);
        let text = folder.read_main().unwrap();
        let carried = match name.ends_with(".cfg") {
            true => carry::haproxy::carry(name, &text),
            false => carry::nginx::carry(name, &text, &mut folder),
        };
        let written = carry::write(&carried.site, name);
        let faults = faults(&written.policy).concat();
        let (settings, policy) = (written.settings, written.policy);
        let all = format!("{settings}\n----\n{policy}\n----\n{}{faults}", list(&carried.notes));
        all.replace(&format!("{}/", folder.path().display()), "")
    }

    /// Set `PHALANX_BLESS` to write what is made now as what is expected.
    #[test]
    fn real_configurations_are_carried_as_they_should_be() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/import");
        let mut seen = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let file = entry.unwrap().path();
            if !file.extension().is_some_and(|end| end == "conf" || end == "cfg") {
                continue;
            }
            seen += 1;
            let expected = file.with_extension("expected");
            let made = made_of(&file);
            if std::env::var_os("PHALANX_BLESS").is_some() {
                std::fs::write(&expected, &made).unwrap();
            }
            let expected = std::fs::read_to_string(&expected).unwrap_or_default();
            assert!(made == expected, "{}: made\n{made}\nexpected\n{expected}", file.display());
        }
        assert!(seen >= 15, "{seen} configurations");
    }

    #[test]
    fn files_are_never_written_over() {
        let out = tempfile::tempdir().unwrap();
        let written = Written { settings: "a".into(), policy: "b".into() };
        write_files(out.path(), &written).unwrap();
        assert!(write_files(out.path(), &written).unwrap_err().to_string().contains("is there already"));
    }
}
