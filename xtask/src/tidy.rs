//! Rules about the tree that matter enough to be tests. Each is a function from the clone's folder to the faults it found; the
//! tests at the end and `cargo xtask tidy` run the same list.

mod crates;
mod documents;
mod sources;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// A rule with its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check {
    /// What holds when no fault is found.
    pub(crate) name: &'static str,
    /// Finds faults.
    pub(crate) run: fn(&Path) -> anyhow::Result<Vec<String>>,
}

/// All rules.
pub(crate) const CHECKS: [Check; 14] = [
    Check { name: "crates_depend_only_in_the_allowed_direction", run: crates::direction },
    Check { name: "crates_of_the_decision_core_have_no_runtime", run: crates::core_without_io },
    Check { name: "crates_inherit_lints_and_licence", run: crates::inherited_settings },
    Check { name: "lock_files_say_what_manifests_ask", run: crates::lock_files },
    Check { name: "packages_that_we_refuse_are_not_built", run: crates::refused_packages },
    Check { name: "rust_files_open_with_their_purpose", run: sources::module_documentation },
    Check { name: "rust_files_are_short", run: sources::length },
    Check { name: "text_files_have_clean_white_space", run: sources::white_space },
    Check { name: "sources_hold_no_unfinished_work", run: sources::unfinished_work },
    Check { name: "files_name_no_path_of_one_machine", run: sources::machine_paths },
    Check { name: "decision_records_are_indexed", run: documents::decision_records },
    Check { name: "changelog_has_an_unreleased_section", run: documents::changelog },
    Check { name: "links_between_documents_lead_somewhere", run: documents::links },
    Check { name: "architecture_describes_every_crate", run: documents::architecture },
];

/// A text file of the tree.
#[derive(Debug)]
struct Source {
    /// Its path from the top folder.
    path: PathBuf,
    text: String,
}

impl Source {
    fn has_extension(&self, extensions: &[&str]) -> bool {
        let own = self.path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        extensions.contains(&own)
    }

    fn fault(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path.display())
    }
}

/// All text files that git tracks or would track.
fn sources(root: &Path) -> anyhow::Result<Vec<Source>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("needs git")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let mut sources = Vec::new();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        // Binary files are not UTF-8, and a file deleted but not yet committed is not there.
        if let Ok(text) = std::fs::read_to_string(root.join(name)) {
            sources.push(Source { path: name.into(), text });
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str) {
        let check = CHECKS.iter().find(|check| check.name == name).unwrap();
        let faults = (check.run)(&crate::place::root()).unwrap();
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }

    macro_rules! each_check_is_a_test {
        ($($name:ident)*) => {
            $(#[test] fn $name() { check(stringify!($name)); })*

            #[test]
            fn no_check_is_left_out() {
                assert_eq!([$(stringify!($name)),*], CHECKS.map(|check| check.name));
            }
        };
    }

    each_check_is_a_test! {
        crates_depend_only_in_the_allowed_direction
        crates_of_the_decision_core_have_no_runtime
        crates_inherit_lints_and_licence
        lock_files_say_what_manifests_ask
        packages_that_we_refuse_are_not_built
        rust_files_open_with_their_purpose
        rust_files_are_short
        text_files_have_clean_white_space
        sources_hold_no_unfinished_work
        files_name_no_path_of_one_machine
        decision_records_are_indexed
        changelog_has_an_unreleased_section
        links_between_documents_lead_somewhere
        architecture_describes_every_crate
    }
}
