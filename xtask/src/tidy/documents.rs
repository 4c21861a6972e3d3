//! Rules about the documents.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::{Source, sources};

/// Each record in `docs/adr` is listed in its index, under a number of its own.
pub(crate) fn decision_records(root: &Path) -> anyhow::Result<Vec<String>> {
    let folder = root.join("docs/adr");
    let index = fs::read_to_string(folder.join("README.md")).context("docs/adr/README.md")?;
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            names.push(name);
        }
    }
    names.sort();
    let mut faults = Vec::new();
    for (name, next) in names.iter().zip(names.iter().skip(1)) {
        if name.get(..4) == next.get(..4) {
            faults.push(format!("docs/adr: {name} and {next} have the same number"));
        }
    }
    for name in names.iter().filter(|name| !index.contains(&format!("({name})"))) {
        faults.push(format!("docs/adr/README.md does not list {name}"));
    }
    Ok(faults)
}

/// A user-visible change has a place to be written down.
pub(crate) fn changelog(root: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(root.join("CHANGELOG.md")).context("CHANGELOG.md")?;
    let has = text.lines().any(|line| line.trim_end() == "## Unreleased");
    Ok(if has { Vec::new() } else { vec!["CHANGELOG.md has no `## Unreleased`".to_owned()] })
}

/// Links from one document to another file of the tree.
pub(crate) fn links(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    for source in sources(root)?.iter().filter(|source| source.has_extension(&["md"])) {
        let folder = source.path.parent().unwrap_or(Path::new(""));
        for (number, target) in link_targets(source) {
            let file = target.split('#').next().unwrap_or_default();
            // Pages that come into being with the book, which looks at links to them.
            let is_made = file.starts_with("reference/") || file.contains("../reference/");
            let is_made = is_made || ["architecture.md", "changelog.md"].contains(&file);
            if !file.is_empty() && !is_made && !file.contains("://") && !root.join(folder).join(file).exists()
            {
                faults.push(source.fault(number, &format!("`{target}` is not there")));
            }
        }
    }
    Ok(faults)
}

/// Each crate has its purpose and invariant in ARCHITECTURE.md.
pub(crate) fn architecture(root: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let mut faults = Vec::new();
    for entry in fs::read_dir(root.join("crates"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !text.contains(&format!("`{name}`")) {
            faults.push(format!("ARCHITECTURE.md does not describe `{name}`"));
        }
    }
    Ok(faults)
}

/// Line number and target of each `[text](target)` outside code fences.
fn link_targets(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in source.text.lines().enumerate() {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        for piece in line.split("](").skip(1) {
            if let Some((target, _)) = piece.split_once(')') {
                found.push((number + 1, target.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_code() {
        let text =
            "see [a](a.md) and [b](b.md#top)\n```\n[c](c.md)\n```\n[d](https://example.com)\n".to_owned();
        let source = Source { path: "x.md".into(), text };
        let targets: Vec<_> = link_targets(&source).into_iter().map(|(_, target)| target).collect();
        assert_eq!(targets, ["a.md", "b.md#top", "https://example.com"]);
    }
}
