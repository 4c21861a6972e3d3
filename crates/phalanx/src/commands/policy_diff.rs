//! `phalanx policy diff`: what changes from one policy file to another, by what it means, and what of it takes protection away.
//!
//! Flow in names: two policy files, or versions that a node has -> [`Packed`] with all that they name -> `PolicyDiff` and [`FileChange`]s ->
//! words or JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use phalanx_control::policy_words::{file_warning, is_usual, named, said, told, whole};
use phalanx_policy::diff::{Danger, FileChange, Place, PolicyDiff, compare_files};
use phalanx_policy::{Diagnostic, Everywhere, diff_everywhere};
use phalanx_record::escape::for_terminal;
use serde::Serialize;

use super::policy::Packed;
use super::{policy_history, print};
use crate::client::AdminArgs;

/// Arguments of `policy diff`.
#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "phalanx policy diff [OPTIONS] OLD NEW\n       phalanx policy diff [OPTIONS] -c FILE NEW"
)]
pub(crate) struct DiffArgs {
    /// The policy before and the one after; with -c only the one after. Each a file, a version that the fleet remembers, or `running`, what a
    /// node runs
    #[arg(value_name = "POLICY", num_args = 1..=2, required = true)]
    files: Vec<PathBuf>,
    /// A node's settings file, which names the policy before
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What differs, as it is printed.
#[derive(Debug, Serialize)]
pub(super) struct Differs {
    /// Nothing does.
    pub(super) same: bool,
    #[serde(flatten)]
    diff: PolicyDiff,
    /// Files that the policies name.
    files: Vec<FileChange>,
}

impl Differs {
    /// From one policy to another; a file is a file, a version of the fleet or `running`.
    pub(super) fn between(old: &Path, new: &Path, admin: &AdminArgs) -> Result<Self, Refused> {
        let (old, old_files) = read(old, admin)?;
        let (new, new_files) = read(new, admin)?;
        let diff = diff_everywhere(&old, &new, &new_files);
        let files = compare_files((&old, &old_files), (&new, &new_files));
        Ok(Self { same: diff.changes.is_empty() && files.is_empty(), diff, files })
    }

    /// Whether something of it takes protection away, and so waits for a second operator.
    pub(super) fn is_dangerous(&self) -> bool {
        !self.diff.dangers.is_empty() || self.files.iter().any(|file| file.danger.is_some())
    }
}

/// Why there is nothing to compare.
#[derive(Debug, Serialize)]
pub(super) struct Refused {
    /// The file at fault, as the operator named it; empty if it is the order.
    file: String,
    diagnostics: Vec<Diagnostic>,
}

/// Carries it out. Exit code 0: nothing differs; 1: something does; 2: a policy cannot be read.
pub(crate) fn run(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    match compare(args) {
        Ok(differs) => {
            if args.admin.json {
                print::json(&differs)?;
            } else {
                print::text(&words(&differs))?;
            }
            Ok(if differs.same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(refused) => refused.tell(args.admin.json),
    }
}

impl Refused {
    /// Says why nothing can be compared, and the exit code of that.
    pub(super) fn tell(&self, json: bool) -> anyhow::Result<ExitCode> {
        if json {
            print::json(self)?;
        }
        eprintln!("phalanx: {} cannot be compared", for_terminal(&self.file));
        for fault in &self.diagnostics {
            eprintln!("{fault}");
        }
        Ok(ExitCode::from(FAULTS))
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
    Differs::between(&old, new, &args.admin)
}

fn refused(file: &Path, diagnostics: Vec<Diagnostic>) -> Refused {
    Refused { file: file.display().to_string(), diagnostics }
}

/// A policy, and the files that it names.
fn read(file: &Path, admin: &AdminArgs) -> Result<(Everywhere, BTreeMap<String, Vec<u8>>), Refused> {
    let faults = |faults| refused(file, faults);
    let (entry, files, policy) = match policy_history::version(file) {
        Some(version) => policy_history::fetched(&version, admin).map_err(faults)?,
        None => {
            let Packed { entry, files, policy, .. } = super::policy::pack(file).map_err(faults)?;
            (entry, files, policy)
        }
    };
    let files = files.iter().filter(|(file, _)| *file != entry);
    Ok((policy, files.map(|(file, bytes)| (file.to_owned(), bytes.to_vec())).collect()))
}

pub(super) fn words(differs: &Differs) -> String {
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
    for FileChange { file, change, danger } in &differs.files {
        let mark = if danger.is_some() { "!" } else { " " };
        say(&mut out, &format!("{mark} file {file}: {change}"));
    }
    let changes = differs.diff.changes.len() + differs.files.len();
    out.push_str(&format!("\n{changes} {}\n", if changes == 1 { "change" } else { "changes" }));
    let of_files: Vec<String> = differs.files.iter().filter_map(file_warning).collect();
    if !differs.diff.dangers.is_empty() || !of_files.is_empty() {
        out.push_str("\nDANGEROUS, for it takes protection away:\n");
    }
    for Danger { place, why, .. } in &differs.diff.dangers {
        say(&mut out, &format!("! {}: {why}", named(place)));
    }
    for danger in of_files {
        say(&mut out, &format!("! {danger}"));
    }
    out
}

fn say(out: &mut String, line: &str) {
    out.push_str(&for_terminal(line));
    out.push('\n');
}

/// The exit code when there is nothing to compare.
pub(super) const FAULTS: u8 = 2;
