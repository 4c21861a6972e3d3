//! `cargo xtask book`: the documents as a book, in `target/book/html`, with the pages that the program writes of itself, and every link in it
//! looked at.
//!
//! Flow in names: `docs/` -> `target/book/src` (and generated pages, decision records in the contents) -> mdbook -> `target/book/html` -> links.
//! What is generated is in no commit, so that it is never out of date.

mod html;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

use crate::place;
use crate::steps::{cargo, must};
use crate::tools::MDBOOK;

/// Builds the program and the book.
pub(crate) fn book() -> anyhow::Result<ExitCode> {
    must(&mut cargo(["build", "--locked", "--package", "phalanx"]))?;
    build()?;
    Ok(ExitCode::SUCCESS)
}

/// Builds the book with the program that is built already.
pub(crate) fn build() -> anyhow::Result<()> {
    let out = place::target().join("book");
    let (source, html) = (out.join("src"), out.join("html"));
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    collect(&place::root(), &source)?;
    let reference = source.join("reference");
    must(Command::new(place::built("debug", "phalanx")).args(["reference", "--to"]).arg(&reference))?;
    must(Command::new(MDBOOK.path()?).arg("build").arg(&source).arg("--dest-dir").arg(&html))?;
    let checked = html::check(&html)?;
    if let Some(fault) = checked.faults.first() {
        checked.faults.iter().for_each(|fault| println!("{fault}"));
        bail!("{} links in the book lead nowhere, first {fault}", checked.faults.len());
    }
    println!(
        "{}: {} pages, {} links, all of which lead somewhere",
        html.display(),
        checked.pages,
        checked.links
    );
    Ok(())
}

/// Copies the documents, with links out of them made into links to what else the book has, or into text.
fn collect(root: &Path, source: &Path) -> anyhow::Result<()> {
    let docs = root.join("docs");
    let mut contents = fs::read_to_string(docs.join("SUMMARY.md"))?;
    for file in files(&docs)? {
        let name = file.strip_prefix(&docs)?;
        // mdbook calls a folder's README its index, and leaves links to it as they are.
        let to = source.join(name).with_file_name(match name.file_name() {
            Some(file) if file != "README.md" => file,
            _ => OsStr::new("index.md"),
        });
        fs::create_dir_all(to.parent().unwrap_or(source))?;
        if name.extension().is_none_or(|ending| ending != "md") {
            fs::copy(&file, &to)?;
            continue;
        }
        let text = fs::read_to_string(&file)?;
        if name.starts_with("adr") && text.starts_with("# 0") {
            let title = text.lines().next().unwrap_or_default().trim_start_matches("# ");
            contents.push_str(&format!("  - [{title}]({})\n", name.display()));
        }
        if name.starts_with("guide") && !contents.contains(&format!("({})", name.display())) {
            bail!("docs/SUMMARY.md does not list {}", name.display());
        }
        fs::write(&to, inside(&text, name.components().count() - 1))?;
    }
    fs::write(source.join("SUMMARY.md"), inside(&contents, 0))?;
    for (name, page) in [("ARCHITECTURE.md", "architecture.md"), ("CHANGELOG.md", "changelog.md")] {
        let text = fs::read_to_string(root.join(name)).with_context(|| name.to_owned())?;
        fs::write(source.join(page), inside(&text.replace("](docs/", "]("), 0))?;
    }
    Ok(())
}

/// The text of a page so many folders deep, without links that lead out of the documents.
fn inside(text: &str, depth: usize) -> String {
    let up = "../".repeat(depth);
    let text = text.replace("adr/README.md", "adr/index.md");
    let text = text.replace(&format!("]({up}../ARCHITECTURE.md"), &format!("]({up}architecture.md"));
    let out = format!("]({up}../");
    let mut pieces = text.split(&out);
    let mut inside = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        // What it leads to, in brackets behind its words.
        let (target, rest) = piece.split_once(')').unwrap_or((piece, ""));
        inside.push_str(&format!("] (`{target}`){rest}"));
    }
    inside
}

/// All files below a folder, by name.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push(path),
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_out_of_the_documents_become_text() {
        let text =
            "see [rules](../../packs/README.md), [bans](bans.md) and [threads](../../ARCHITECTURE.md#ports)";
        let expected =
            "see [rules] (`packs/README.md`), [bans](bans.md) and [threads](../architecture.md#ports)";
        assert_eq!(inside(text, 1), expected);
    }
}
