//! `phalanx policy history` and `policy show`: which versions there were, where each came from, and what it holds.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use phalanx_control::api::{PolicyContent, PolicyVersionRow};
use phalanx_policy::{Diagnostic, FileSet, Policy};
use phalanx_record::escape::for_terminal;

use super::print;
use crate::client::{AdminArgs, Client};

/// Arguments of `policy history`.
#[derive(Debug, Clone, Args)]
pub(crate) struct HistoryArgs {
    /// At most so many versions
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `policy show`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ShowArgs {
    /// A version that the fleet remembers, or `running`: what the node runs, its own policy file included
    #[arg(value_name = "VERSION", default_value = RUNNING)]
    version: String,
    /// Write all of its files into this folder, which must be empty or not there
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    to: Option<PathBuf>,
    /// Print this file of it alone [default: the policy file]
    #[arg(long, value_name = "NAME")]
    file: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Prints the versions that are remembered.
pub(crate) fn history(args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    let query = print::query(&[("limit", args.limit.map(|limit| limit.to_string()))]);
    let answer = Client::new(&args.admin)?.get(&format!("policy/versions{query}"))?;
    if args.admin.json {
        print::json(&answer)?;
    } else {
        print::text(&words(&serde_json::from_value::<Vec<PolicyVersionRow>>(answer)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints or writes the files of a version.
pub(crate) fn show(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let content = fetch(&args.version, &args.admin)?;
    if args.admin.json {
        print::json(&content)?;
        return Ok(ExitCode::SUCCESS);
    }
    for name in &content.withheld {
        eprintln!("the file {} is withheld: it holds a private key", for_terminal(name));
    }
    let files = decoded(&content)?;
    if let Some(folder) = &args.to {
        write_all(folder, &files)?;
        print::text(&format!(
            "{} files of version {} in {}\n",
            files.len(),
            content.version,
            folder.display()
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let name = args.file.as_ref().unwrap_or(&content.entry);
    let Some(bytes) = files.get(name) else {
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        bail!("version {} has no file {name:?}; it has {}", content.version, names.join(", "));
    };
    std::io::stdout().lock().write_all(bytes)?;
    Ok(ExitCode::SUCCESS)
}

/// The version that is named instead of a file: a number or `running`, unless there is such a file.
pub(super) fn version(named: &Path) -> Option<String> {
    let text = named.to_str()?;
    let is_version = text == RUNNING || !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_version && !named.exists()).then(|| text.to_owned())
}

/// A version that a node has, as a policy with its files.
pub(super) fn fetched(
    version: &str,
    admin: &AdminArgs,
) -> Result<(String, FileSet, Policy), Vec<Diagnostic>> {
    let fault = |error: anyhow::Error| vec![Diagnostic::error(version, 0, format!("{error:#}"))];
    let content = fetch(version, admin).map_err(fault)?;
    let files = decoded(&content).map_err(fault)?;
    let text = files.get(&content.entry).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let (policy, _) = phalanx_policy::parse_policy(&content.entry, &text.unwrap_or_default())?;
    Ok((content.entry, FileSet::new(files), policy))
}

fn fetch(version: &str, admin: &AdminArgs) -> anyhow::Result<PolicyContent> {
    if version != RUNNING && version.parse::<u64>().is_err() {
        bail!("{version:?} is no version; write its number, or `running`");
    }
    let answer = Client::new(admin)?.get_patiently(&format!("policy/versions/{version}"))?;
    Ok(serde_json::from_value(answer)?)
}

fn decoded(content: &PolicyContent) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let one = |(name, text): (&String, &String)| {
        let bytes = STANDARD.decode(text).with_context(|| format!("the file {name:?} cannot be read"))?;
        Ok((name.clone(), bytes))
    };
    content.files.iter().map(one).collect()
}

/// Writes files below a folder, and nowhere else: their names are what somebody's policy calls them.
fn write_all(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
    let inside = |name: &str| Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if let Some(name) = files.keys().find(|name| !inside(name)) {
        bail!("the file {name:?} lies outside of the policy's folder: print it with --file instead");
    }
    if folder.exists() && std::fs::read_dir(folder)?.next().is_some() {
        bail!("{} is not empty; name a folder that is, or is not there yet", folder.display());
    }
    for (name, bytes) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn words(versions: &[PolicyVersionRow]) -> String {
    if versions.is_empty() {
        return "the fleet has no policy of its own yet: each node runs its own; `phalanx policy push FILE` gives all of them one\n".into();
    }
    let rows: Vec<Vec<String>> = versions
        .iter()
        .map(|one| {
            let version = if one.stable { format!("{} *", one.version) } else { one.version.to_string() };
            let author = match (&one.author, &one.approved_by) {
                (Some(author), Some(second)) => format!("{author}, {second}"),
                (author, _) => author.clone().unwrap_or_else(|| "-".into()),
            };
            vec![
                version,
                one.at_ms.map_or_else(|| "-".into(), phalanx_record::rfc3339),
                author,
                one.node.clone().unwrap_or_default(),
                one.source.clone(),
                one.result.replace('_', " "),
                one.reason.clone(),
            ]
        })
        .collect();
    let mut out = print::table(&["VERSION", "TIME", "AUTHOR", "NODE", "SOURCE", "RESULT", "REASON"], &rows);
    out.push('\n');
    for one in versions.iter().filter(|one| !one.result_reason.is_empty()) {
        let result = one.result.replace('_', " ");
        out.push_str(&for_terminal(&format!("version {} was {result}: {}", one.version, one.result_reason)));
        out.push('\n');
    }
    out.push_str("* what all nodes run\n");
    out
}

const RUNNING: &str = "running";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_reads_well() {
        let row = |version: u64, result: &str| PolicyVersionRow {
            version,
            hash: "a".repeat(64),
            previous: None,
            bytes: 1,
            author: Some("ann".into()),
            node: Some("fra/a".into()),
            approved_by: None,
            reason: "ticket\u{1b}[2J".into(),
            source: "files".into(),
            at_ms: Some(0),
            result: result.into(),
            result_reason: String::new(),
            result_at_ms: Some(0),
            stable: false,
        };
        let unknown = PolicyVersionRow {
            author: None,
            node: None,
            at_ms: None,
            source: String::new(),
            ..row(1, "unknown")
        };
        let second =
            PolicyVersionRow { approved_by: Some("bob".into()), stable: true, ..row(3, "published") };
        let back = PolicyVersionRow { result_reason: "it hurts".into(), ..row(2, "rolled_back") };
        let told = words(&[second, back, unknown]);
        for line in [
            "3 *      1970-01-01T00:00:00.000Z  ann, bob  fra/a  files   published    ticket\\u{1b}[2J",
            "1        -                         -",
            "version 2 was rolled back: it hurts",
        ] {
            assert!(told.contains(line), "{told}");
        }
    }

    #[test]
    fn a_version_writes_nothing_outside_of_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["../x", "/etc/x", "a/../../x"] {
            let files = BTreeMap::from([(name.to_owned(), Vec::new())]);
            let refused = write_all(&folder.path().join("to"), &files).unwrap_err().to_string();
            assert!(refused.contains("outside"), "{refused}");
        }
        let files = BTreeMap::from([
            ("policy.toml".to_owned(), b"a".to_vec()),
            ("rules/own.conf".to_owned(), Vec::new()),
        ]);
        write_all(&folder.path().join("to"), &files).unwrap();
        assert!(write_all(&folder.path().join("to"), &files).unwrap_err().to_string().contains("not empty"));
        assert_eq!(std::fs::read(folder.path().join("to/policy.toml")).unwrap(), b"a");
    }
}
