//! Which files of a rule folder are loaded, and in what order.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::source::Source;
use crate::Diagnostic;

/// Files in load order.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// `crs-setup.conf` of each folder, and single files that say by their name that they come first.
    pub(super) setup: Vec<String>,
    /// Everything else.
    pub(super) rules: Vec<String>,
}

/// Looks at the folders; what cannot be read is a fault. A file that is named twice is loaded once, at its first place.
pub(super) fn find(source: Source<'_>, dirs: &[PathBuf], fault: &mut dyn FnMut(Diagnostic)) -> Layout {
    let mut layout = Layout::default();
    let mut after = Vec::new();
    for dir in dirs {
        if source.is_file(dir) {
            let path = dir.to_string_lossy().into_owned();
            if comes_first(&path) {
                layout.setup.push(path)
            } else {
                layout.rules.push(path)
            }
            continue;
        }
        let before = layout.setup.len() + layout.rules.len();
        let result = match source.is_folder(&dir.join("rules")) {
            true => core_rule_set(source, dir, &mut layout, &mut after),
            false => plain(source, dir, &mut layout),
        };
        let name = dir.to_string_lossy().into_owned();
        match result {
            Err(message) => fault(Diagnostic::error(name, 0, message)),
            Ok(()) if layout.setup.len() + layout.rules.len() == before => {
                fault(
                    Diagnostic::error(name, 0, "the folder holds no rule file")
                        .with_help("rule files end in `.conf`, here or in a folder `rules` below"),
                );
            }
            Ok(()) => {}
        }
    }
    layout.rules.append(&mut after);
    // Folders may be named beside a list that includes them.
    let mut seen = HashSet::new();
    layout.setup.retain(|path| seen.insert(path.clone()));
    layout.rules.retain(|path| seen.insert(path.clone()));
    layout
}

/// Whether a file by its name comes before the rules, as the Core Rule Set names its own and its plugins' files.
pub(super) fn comes_first(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.starts_with("crs-setup") || name.ends_with("-config.conf") || name.ends_with("-before.conf")
}

fn core_rule_set(
    source: Source<'_>,
    dir: &Path,
    layout: &mut Layout,
    after: &mut Vec<String>,
) -> Result<(), String> {
    let setup = ["crs-setup.conf", "crs-setup.conf.example"].map(|name| dir.join(name));
    layout.setup.extend(
        setup.iter().find(|path| source.is_file(path)).map(|path| path.to_string_lossy().into_owned()),
    );
    let plugins = dir.join("plugins");
    if source.is_folder(&plugins) {
        for ending in ["-config.conf", "-before.conf"] {
            layout.rules.extend(files(source, &plugins, ending)?);
        }
        after.extend(files(source, &plugins, "-after.conf")?);
    }
    let list = dir.join(PACKAGE_LIST);
    if setup.iter().any(|path| source.is_file(path)) || !source.is_file(&list) {
        layout.rules.extend(files(source, &dir.join("rules"), ".conf")?);
        return Ok(());
    }
    listed(source, &list.to_string_lossy(), layout)
}

/// What a package's list includes. Debian keeps set-up and exclusions apart from the rules, where the administrator edits
/// them, and tells the web server so in this file.
fn listed(source: Source<'_>, list: &str, layout: &mut Layout) -> Result<(), String> {
    let text = source.read_text(list).map_err(|(line, message)| format!("{list}:{line}: {message}"))?;
    let lines = text.lines().map(str::trim).enumerate();
    for (at, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let fault = |message: String| format!("{PACKAGE_LIST}:{}: {message}", at + 1);
        let (directive, pattern) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let optional = match directive.to_ascii_lowercase().as_str() {
            "include" => false,
            "includeoptional" => true,
            _ => return Err(fault(format!("`{directive}` is neither Include nor IncludeOptional"))),
        };
        let pattern = source.resolve(list, pattern.trim().trim_matches('"'));
        let paths = source.glob(&pattern).map_err(fault)?;
        if paths.is_empty() && !optional {
            return Err(fault(format!("nothing is there for `{pattern}`")));
        }
        for path in paths {
            let is_setup = Path::new(&path).file_name().is_some_and(|name| name == "crs-setup.conf");
            if is_setup { layout.setup.push(path) } else { layout.rules.push(path) }
        }
    }
    Ok(())
}

fn plain(source: Source<'_>, dir: &Path, layout: &mut Layout) -> Result<(), String> {
    for path in files(source, dir, ".conf")? {
        let is_setup = Path::new(&path).file_name().is_some_and(|name| name == "crs-setup.conf");
        if is_setup { layout.setup.push(path) } else { layout.rules.push(path) }
    }
    Ok(())
}

fn files(source: Source<'_>, dir: &Path, ending: &str) -> Result<Vec<String>, String> {
    let names =
        source.names_in(dir)?.into_iter().filter(|name| name.ends_with(ending) && !name.starts_with('.'));
    Ok(names.map(|name| dir.join(name).to_string_lossy().into_owned()).collect())
}

/// Debian's list of what the web server loads.
const PACKAGE_LIST: &str = "owasp-crs.load";
