//! Which files of a rule folder are loaded, and in what order.

use std::path::{Path, PathBuf};

use super::source::file_names;
use crate::Diagnostic;

/// Files in load order.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// `crs-setup.conf` of each folder.
    pub(super) setup: Vec<String>,
    /// Everything else.
    pub(super) rules: Vec<String>,
}

/// Looks at the folders; what cannot be read is a fault.
pub(super) fn find(dirs: &[PathBuf], fault: &mut dyn FnMut(Diagnostic)) -> Layout {
    let mut layout = Layout::default();
    let mut after = Vec::new();
    for dir in dirs {
        if dir.is_file() {
            layout.rules.push(dir.to_string_lossy().into_owned());
            continue;
        }
        let before = layout.setup.len() + layout.rules.len();
        let result = match dir.join("rules").is_dir() {
            true => core_rule_set(dir, &mut layout, &mut after),
            false => plain(dir, &mut layout),
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
    layout
}

fn core_rule_set(dir: &Path, layout: &mut Layout, after: &mut Vec<String>) -> Result<(), String> {
    let setup = ["crs-setup.conf", "crs-setup.conf.example"].map(|name| dir.join(name));
    layout
        .setup
        .extend(setup.iter().find(|path| path.is_file()).map(|path| path.to_string_lossy().into_owned()));
    let plugins = dir.join("plugins");
    if plugins.is_dir() {
        for ending in ["-config.conf", "-before.conf"] {
            layout.rules.extend(files(&plugins, ending)?);
        }
        after.extend(files(&plugins, "-after.conf")?);
    }
    layout.rules.extend(files(&dir.join("rules"), ".conf")?);
    Ok(())
}

fn plain(dir: &Path, layout: &mut Layout) -> Result<(), String> {
    for path in files(dir, ".conf")? {
        let is_setup = Path::new(&path).file_name().is_some_and(|name| name == "crs-setup.conf");
        if is_setup { layout.setup.push(path) } else { layout.rules.push(path) }
    }
    Ok(())
}

fn files(dir: &Path, ending: &str) -> Result<Vec<String>, String> {
    let names = file_names(dir)?.into_iter().filter(|name| name.ends_with(ending) && !name.starts_with('.'));
    Ok(names.map(|name| dir.join(name).to_string_lossy().into_owned()).collect())
}
