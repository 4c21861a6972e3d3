//! Rules about source files.

use std::path::Path;

use super::{Source, sources};

/// Every Rust file says first what it is for.
pub(crate) fn module_documentation(root: &Path) -> anyhow::Result<Vec<String>> {
    let rust = rust_sources(root)?;
    let silent = rust.iter().filter(|source| !source.text.trim_start().starts_with("//!"));
    Ok(silent.map(|source| source.fault(1, "does not open with //!")).collect())
}

/// No Rust file is longer than [`LINES_MAX`], but for tables.
pub(crate) fn length(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    for source in rust_sources(root)? {
        let lines = source.text.lines().count();
        if lines > LINES_MAX && !is_table(&source.text) {
            faults.push(source.fault(lines, "is longer than 800 lines"));
        }
    }
    Ok(faults)
}

/// Nothing at the end of a line, a newline at the end of the file, no tabs in Rust, no carriage returns.
pub(crate) fn white_space(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    for source in sources(root)?.iter().filter(|source| source.has_extension(&TEXT)) {
        for (number, line) in source.text.split('\n').enumerate() {
            if line.ends_with([' ', '\t', '\r']) {
                faults.push(source.fault(number + 1, "ends with white space"));
            }
            if line.contains('\t') && source.has_extension(&["rs"]) {
                faults.push(source.fault(number + 1, "holds a tab"));
            }
        }
        if !source.text.is_empty() && (!source.text.ends_with('\n') || source.text.ends_with("\n\n")) {
            faults.push(source.fault(source.text.lines().count(), "does not end with one newline"));
        }
    }
    Ok(faults)
}

/// What is landed is finished. Clippy sees the workspace; this also sees fuzz targets, the console and scripts.
pub(crate) fn unfinished_work(root: &Path) -> anyhow::Result<Vec<String>> {
    let words = ["todo!(", "unimplemented!(", "#[ignore", "FIXME", "XXX:", "test.skip(", "test.only("];
    lines_with(root, &["rs", "ts", "svelte", "sh"], &words, "is unfinished work")
}

/// A path of somebody's machine works there and nowhere else.
pub(crate) fn machine_paths(root: &Path) -> anyhow::Result<Vec<String>> {
    let own = root.display().to_string() + "/";
    let words = [own.as_str(), "/home/", "/Users/", "C:\\Users"];
    lines_with(root, &["rs", "toml", "md", "ts", "svelte", "sh", "json"], &words, "is a path of one machine")
}

fn lines_with(root: &Path, extensions: &[&str], words: &[&str], what: &str) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    for source in sources(root)? {
        // This folder has to spell the words; packs and test data quote attackers, who name such paths.
        let quotes =
            ["xtask/src/tidy", "packs", "fuzz/seeds"].iter().any(|folder| source.path.starts_with(folder))
                || source
                    .path
                    .components()
                    .any(|part| part.as_os_str() == "testdata" || part.as_os_str() == "data");
        if quotes || !source.has_extension(extensions) {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                faults.push(source.fault(number + 1, &format!("`{word}` {what}")));
            }
        }
    }
    Ok(faults)
}

fn rust_sources(root: &Path) -> anyhow::Result<Vec<Source>> {
    Ok(sources(root)?.into_iter().filter(|source| source.has_extension(&["rs"])).collect())
}

/// A file of constants is as long as its table. It says so in its first lines.
fn is_table(text: &str) -> bool {
    text.lines().take(10).any(|line| line.starts_with("//! TABLE:"))
}

const LINES_MAX: usize = 800;

const TEXT: [&str; 11] = ["rs", "toml", "md", "ts", "svelte", "css", "html", "sh", "conf", "allow", "yml"];
