//! Rules about Cargo.toml files and Cargo.lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use toml::{Table, Value};

/// Every edge between our crates is listed in `deps.allow`, and every crate has a line there.
pub(crate) fn direction(root: &Path) -> anyhow::Result<Vec<String>> {
    let allowed = parse_allowed(&fs::read_to_string(root.join("deps.allow")).context("deps.allow")?);
    let mut faults = Vec::new();
    for manifest in manifests(root)? {
        let Some(own) = allowed.get(&manifest.name) else {
            faults.push(format!("{}: deps.allow has no line for it", manifest.name));
            continue;
        };
        for used in manifest.dependencies() {
            if used.starts_with("phalanx") && !own.contains(&used) {
                faults.push(format!("{} may not use {used}: deps.allow has no such edge", manifest.name));
            }
        }
    }
    Ok(faults)
}

/// What decides is pure: bytes, settings and the time come in as arguments, so that tests, replay and the product run the same
/// code. A runtime or a socket in there would end that.
pub(crate) fn core_without_io(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    for manifest in manifests(root)? {
        if !["phalanx-policy", "phalanx-inspect", "phalanx-decide", "phalanx-learn"]
            .contains(&manifest.name.as_str())
        {
            continue;
        }
        for used in manifest.dependencies() {
            if ["tokio", "hyper", "axum", "async-nats", "socket2", "redb", "rusqlite"]
                .contains(&used.as_str())
            {
                faults.push(format!("{} may not use {used}: it does no input or output", manifest.name));
            }
        }
    }
    Ok(faults)
}

/// A crate that forgets `[lints] workspace = true` escapes all lints without a word.
pub(crate) fn inherited_settings(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    for manifest in members(root)? {
        let inherits = |section: &Table, key: &str| {
            section.get(key).and_then(|v| v.get("workspace")).and_then(Value::as_bool) == Some(true)
        };
        let lints = manifest.table.get("lints").and_then(|l| l.get("workspace")).and_then(Value::as_bool);
        if lints != Some(true) {
            faults.push(format!("{}: [lints] workspace = true is missing", manifest.name));
        }
        let package = manifest.table.get("package").and_then(Value::as_table).cloned().unwrap_or_default();
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !inherits(&package, key) {
                faults.push(format!("{}: {key}.workspace = true is missing", manifest.name));
            }
        }
    }
    Ok(faults)
}

/// `fuzz/` is no part of the workspace, so that no build of the workspace brings its lock file in step.
pub(crate) fn lock_files(root: &Path) -> anyhow::Result<Vec<String>> {
    let lock_files = super::sources(root)?.into_iter().map(|source| source.path);
    let mut faults = Vec::new();
    for lock in lock_files.filter(|path| path.file_name().is_some_and(|name| name == "Cargo.lock")) {
        let manifest = root.join(&lock).with_file_name("Cargo.toml");
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["metadata", "--locked", "--format-version", "1", "--manifest-path"])
            .arg(&manifest)
            .current_dir(root)
            .output()?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            let told = told.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or("cargo failed");
            faults.push(format!(
                "{}: {told}; `cargo update --workspace --manifest-path {}` brings it in step",
                lock.display(),
                lock.with_file_name("Cargo.toml").display()
            ));
        }
    }
    Ok(faults)
}

/// The same list as in `deny.toml`, for those who have no cargo-deny at hand. One cryptography library, and no parser or proxy
/// that the design turned down. What counts is what is built: Cargo.lock also names packages that no feature turns on.
pub(crate) fn refused_packages(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["tree", "--workspace", "--locked", "--target", "all", "--edges", "all", "--prefix", "none"])
        .args(["--format", "{p}"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let tree = String::from_utf8_lossy(&output.stdout);
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let refused = names.into_iter().filter(|name| REFUSED.contains(name) || name.starts_with("pingora"));
    Ok(refused.map(|name| format!("{name} is built")).collect())
}

const REFUSED: [&str; 10] = [
    "ring",
    "openssl",
    "openssl-sys",
    "native-tls",
    "serde_yaml",
    "serde_yml",
    "datafusion",
    "wirefilter-engine",
    "rama",
    "mlua",
];

/// A crate's Cargo.toml.
struct Manifest {
    name: String,
    table: Table,
}

impl Manifest {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let table: Table = text.parse().with_context(|| path.display().to_string())?;
        let name = table.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
        let name = name.with_context(|| format!("{} names no package", path.display()))?.to_owned();
        Ok(Self { name, table })
    }

    /// What the crate needs to be built and to run; tests may look further.
    fn dependencies(&self) -> Vec<String> {
        let sections = ["dependencies", "build-dependencies"].iter().filter_map(|name| self.table.get(*name));
        sections.filter_map(Value::as_table).flat_map(|section| section.keys().cloned()).collect()
    }
}

/// The product's crates.
fn manifests(root: &Path) -> anyhow::Result<Vec<Manifest>> {
    read_folders(&root.join("crates"))
}

/// All members of the workspace.
fn members(root: &Path) -> anyhow::Result<Vec<Manifest>> {
    let workspace: Table = fs::read_to_string(root.join("Cargo.toml"))?.parse()?;
    let listed = workspace.get("workspace").and_then(|w| w.get("members")).and_then(Value::as_array);
    let listed = listed.context("Cargo.toml lists no members")?;
    let mut found = Vec::new();
    for member in listed.iter().filter_map(Value::as_str) {
        match member.strip_suffix("/*") {
            Some(folder) => found.extend(read_folders(&root.join(folder))?),
            None => found.push(Manifest::read(&root.join(member).join("Cargo.toml"))?),
        }
    }
    Ok(found)
}

fn read_folders(folder: &Path) -> anyhow::Result<Vec<Manifest>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path().join("Cargo.toml");
        if path.is_file() {
            found.push(Manifest::read(&path)?);
        }
    }
    Ok(found)
}

fn parse_allowed(text: &str) -> BTreeMap<String, Vec<String>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let edges = lines.filter_map(|line| line.split_once(':'));
    edges
        .map(|(name, used)| (name.trim().to_owned(), used.split_whitespace().map(str::to_owned).collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_may_not_name_what_it_must_outlive() {
        let allowed = parse_allowed(&fs::read_to_string(crate::place::root().join("deps.allow")).unwrap());
        let edge = allowed.get("phalanx-edge").unwrap();
        for forbidden in ["phalanx-fleet", "phalanx-record", "phalanx-control", "phalanx-learn"] {
            assert!(!edge.iter().any(|name| name == forbidden));
        }
    }

    #[test]
    fn allowed_edges_have_no_cycle() {
        let allowed = parse_allowed(&fs::read_to_string(crate::place::root().join("deps.allow")).unwrap());
        let mut left = allowed;
        while !left.is_empty() {
            let free: Vec<_> =
                left.iter().filter(|(_, used)| used.is_empty()).map(|(n, _)| n.clone()).collect();
            assert!(!free.is_empty(), "a cycle among {:?}", left.keys());
            left.retain(|name, _| !free.contains(name));
            left.values_mut().for_each(|used| used.retain(|name| !free.contains(name)));
        }
    }
}
