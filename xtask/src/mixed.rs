//! `cargo xtask mixed [REVISION]`: black-box tests of a fleet whose nodes are of two versions, with a binary of an earlier revision.
//!
//! INVARIANT: the clone's own state in git and its builds are left alone; all that is of a revision lies in `target/mixed`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};

use crate::place;
use crate::steps::{Steps, cargo, must};
use crate::tools::NATS_SERVER;

/// Builds the earlier binary, of the last tag if no revision is named, and runs the tests that take one.
pub(crate) fn mixed(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let revision = match arguments {
        [] => git(&["describe", "--tags", "--abbrev=0"]).context(
            "there is no tag to take the earlier version from; name one: cargo xtask mixed REVISION",
        )?,
        [revision] if !revision.starts_with('-') => revision.clone(),
        _ => bail!("usage: cargo xtask mixed [REVISION]"),
    };
    let commit = git(&["rev-parse", "--verify", &format!("{revision}^{{commit}}")])
        .with_context(|| format!("`{revision}` is no revision of this clone"))?;
    let older = folder().join(&commit).join("phalanx");
    let mut steps = Steps::new();
    if !older.is_file() {
        steps.run(&format!("build {revision}"), || build(&commit, &older));
    }
    if older.is_file() {
        steps.run("fleets of two versions", || tests(&older));
    }
    Ok(steps.finish())
}

/// Sources of each revision lie in a folder of their own, so that cargo never takes those of one for another's. What others wrote is
/// built once for all of them.
fn build(commit: &str, older: &Path) -> anyhow::Result<()> {
    let own = older.parent().context("a file has a folder")?;
    let (source, archive, target) = (own.join("source"), own.join("source.tar"), folder().join("target"));
    if source.exists() {
        fs::remove_dir_all(&source)?;
    }
    fs::create_dir_all(&source)?;
    let mut pack = Command::new("git");
    must(pack.current_dir(place::root()).args(["archive", "--output"]).arg(&archive).arg(commit))?;
    must(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&source))?;
    fs::remove_file(&archive)?;
    let mut build = cargo(["build", "--locked", "--package", "phalanx"]);
    must(build.current_dir(&source).env("CARGO_TARGET_DIR", &target))?;
    // Last: what is there is whole.
    fs::rename(target.join("debug/phalanx"), older).context("the earlier binary cannot be put aside")?;
    Ok(fs::remove_dir_all(&source)?)
}

fn folder() -> PathBuf {
    place::target().join("mixed")
}

fn tests(older: &Path) -> anyhow::Result<()> {
    must(&mut cargo(["build", "--locked", "--package", "phalanx"]))?;
    let mut test = cargo(["test", "--locked", "--package", "phalanx", "--test", "blackbox", "--", MIXED]);
    test.env("PHALANX_OLDER_BIN", older).env("PHALANX_BIN", place::built("debug", "phalanx"));
    must(test.env("PHALANX_NATS_SERVER", NATS_SERVER.path()?))
}

fn git(arguments: &[&str]) -> anyhow::Result<String> {
    let output =
        Command::new("git").current_dir(place::root()).args(arguments).stderr(Stdio::null()).output();
    let output = output.context("cannot start git")?;
    if !output.status.success() {
        bail!("git {} ended with {}", arguments.join(" "), output.status);
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The tests that start nodes of an earlier version where `PHALANX_OLDER_BIN` names one.
const MIXED: &str = "destroyed::";

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn tests_of_two_versions_take_the_earlier_binary() {
        let module = MIXED.trim_end_matches(':');
        let source = fs::read_to_string(place::root().join(format!("tests/blackbox/{module}.rs")));
        assert!(source.unwrap().contains("PHALANX_OLDER_BIN"));
    }

    #[test]
    fn what_is_no_revision_is_refused_before_anything_is_built() {
        let error = mixed(&["no-such-revision".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "`no-such-revision` is no revision of this clone");
        assert!(mixed(&["--help".to_owned()]).unwrap_err().to_string().starts_with("usage: "));
    }
}
