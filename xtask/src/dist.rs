//! `cargo xtask dist`: what is given to users: a Debian package, the folder that a container is built in, a bill of materials, checksums.
//!
//! Times in what is made are those of the commit (`SOURCE_DATE_EPOCH`), so that the same sources and compiler make the same files.

mod sbom;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

use crate::place;
use crate::steps::{cargo, must};
use crate::tasks::build_console;

/// Makes everything in `target/dist`; with `--trial` only a package that is tried.
pub(crate) fn dist(arguments: &[String]) -> anyhow::Result<ExitCode> {
    match arguments {
        [] => {}
        [only] if only == "--trial" => {
            must(&mut cargo(["build", "--locked", "--package", "phalanx"]))?;
            return trial().map(|()| ExitCode::SUCCESS);
        }
        _ => bail!("usage: cargo xtask dist [--trial]"),
    }
    build_console()?;
    must(&mut cargo(["build", "--locked", "--release", "--package", "phalanx"]))?;
    let out = place::target().join("dist");
    fresh(&out)?;
    let epoch = source_date()?;
    let binary = stripped(&place::built("release", "phalanx"), &out.join("phalanx"))?;
    let package = Package { version: version()?, revision: 1, binary: &binary, compression: "xz" };
    package.build(&out, &epoch)?;
    sbom::write(&out.join(format!("phalanx-{}.cdx.json", package.version)), &epoch)?;
    container(&binary, &out.join("container"))?;
    fs::remove_file(&binary)?;
    let names: Vec<_> = files(&out)?
        .iter()
        .map(|file| file.strip_prefix(&out).map(Path::to_owned))
        .collect::<Result<_, _>>()?;
    let sums = read(Command::new("sha256sum").current_dir(&out).args(&names))?;
    fs::write(out.join("SHA256SUMS"), &sums)?;
    print!("{sums}");
    Ok(ExitCode::SUCCESS)
}

/// Installs, starts, upgrades and removes a package of the binary that is built already, away from the machine's own files.
pub(crate) fn trial() -> anyhow::Result<()> {
    let out = place::target().join("dist-trial");
    fresh(&out)?;
    let epoch = source_date()?;
    let binary = stripped(&place::built("debug", "phalanx"), &out.join("phalanx"))?;
    let mut packages = Vec::new();
    for revision in [1, 2] {
        // Nobody downloads it: quickly packed is good enough.
        let package = Package { version: version()?, revision, binary: &binary, compression: "none" };
        packages.push(package.build(&out, &epoch)?);
    }
    for script in ["run.sh", "systemd.sh"] {
        let script = place::root().join("tests/package").join(script);
        must(Command::new("bash").arg(script).args(&packages))?;
    }
    Ok(())
}

/// What keeps the trial from running here; none if nothing does.
pub(crate) fn trial_needs() -> Option<&'static str> {
    root_and(&["dpkg-deb", "unshare", "setpriv", "ip", "curl", "strip", "gzip"])
}

/// What is missing of these programs and of an administrator's rights; none if nothing is.
pub(crate) fn root_and(programs: &[&'static str]) -> Option<&'static str> {
    let is_root = read(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    match programs.iter().copied().find(|program| Command::new(program).arg("--version").output().is_err()) {
        Some(missing) => Some(missing),
        None => (!is_root).then_some("root"),
    }
}

/// One Debian package.
struct Package<'a> {
    version: String,
    /// Debian's own count of packages of a version.
    revision: u32,
    binary: &'a Path,
    compression: &'a str,
}

impl Package<'_> {
    fn build(&self, out: &Path, epoch: &str) -> anyhow::Result<PathBuf> {
        let stage = out.join("stage");
        fresh(&stage)?;
        for (from, to, mode) in PACKAGED {
            copy(&place::root().join(from), &stage.join(to), *mode)?;
        }
        copy(self.binary, &stage.join("usr/bin/phalanx"), 0o755)?;
        self.manual(&stage)?;
        self.describe(&stage)?;
        let architecture = architecture()?;
        let name = format!("phalanx_{}-{}_{architecture}.deb", self.version, self.revision);
        let package = out.join(name);
        let mut build = Command::new("dpkg-deb");
        build.env("SOURCE_DATE_EPOCH", epoch).args(["--root-owner-group", "-Z", self.compression, "--build"]);
        must(build.arg(&stage).arg(&package))?;
        fs::remove_dir_all(&stage)?;
        Ok(package)
    }

    /// What the program says of itself: man pages, completions, schemas for editors.
    fn manual(&self, stage: &Path) -> anyhow::Result<()> {
        let pages = stage.join("usr/share/man/man1");
        read(Command::new(self.binary).args(["man", "--to"]).arg(&pages))?;
        // Without name and time of the page, which would differ with each build.
        read(Command::new("gzip").arg("-9n").args(files(&pages)?))?;
        for (words, to) in PRINTED {
            let text = read(Command::new(self.binary).args(*words))?;
            let to = stage.join(to);
            fs::create_dir_all(to.parent().unwrap_or(stage))?;
            fs::write(&to, text)?;
        }
        Ok(())
    }

    /// What dpkg reads.
    fn describe(&self, stage: &Path) -> anyhow::Result<()> {
        let (mut sums, mut bytes) = (String::new(), 0);
        for file in files(stage)? {
            let name = file.strip_prefix(stage)?;
            bytes += fs::metadata(&file)?.len();
            if !name.starts_with("DEBIAN") {
                let sum = read(Command::new("md5sum").current_dir(stage).arg(name))?;
                sums.push_str(&sum);
            }
        }
        let control = format!(
            "Package: phalanx\nVersion: {}-{}\nArchitecture: {}\nMaintainer: The Phalanx project <phalanx@localhost>\n\
             Installed-Size: {}\nDepends: libc6 (>= {}), libgcc-s1, passwd\nSection: httpd\nPriority: optional\n\
             Description: application-security edge: reverse proxy, rules, bans that a fleet shares\n \
             One binary in front of your services: HTTP and HTTPS, the OWASP Core Rule Set unmodified, bans and rate\n \
             limits that all nodes of a fleet learn of within a second.\n",
            self.version,
            self.revision,
            architecture()?,
            bytes.div_ceil(1024),
            libc_needed(self.binary)?,
        );
        let folder = stage.join("DEBIAN");
        fs::write(folder.join("control"), control)?;
        fs::write(folder.join("md5sums"), sums)?;
        fs::write(folder.join("conffiles"), "/etc/phalanx/phalanx.toml\n/etc/phalanx/policy.toml\n")?;
        Ok(())
    }
}

/// Where in the clone it is, where in the package, with which mode. What names secrets is for root and the node's user.
const PACKAGED: &[(&str, &str, u32)] = &[
    ("deploy/debian/postinst", "DEBIAN/postinst", 0o755),
    ("deploy/debian/prerm", "DEBIAN/prerm", 0o755),
    ("deploy/debian/postrm", "DEBIAN/postrm", 0o755),
    ("deploy/phalanx.service", "lib/systemd/system/phalanx.service", 0o644),
    ("deploy/phalanx.socket", "usr/share/doc/phalanx/examples/phalanx.socket", 0o644),
    ("deploy/phalanx.toml", "etc/phalanx/phalanx.toml", 0o640),
    ("deploy/policy.toml", "etc/phalanx/policy.toml", 0o640),
    ("docs/guide/upgrades.md", "usr/share/doc/phalanx/upgrades.md", 0o644),
    ("docs/guide/settings.md", "usr/share/doc/phalanx/settings.md", 0o644),
    ("CHANGELOG.md", "usr/share/doc/phalanx/changelog.md", 0o644),
    ("LICENSE", "usr/share/doc/phalanx/copyright", 0o644),
    ("NOTICE", "usr/share/doc/phalanx/NOTICE", 0o644),
];

/// What the program prints, and where in the package it belongs.
const PRINTED: &[(&[&str], &str)] = &[
    (&["completions", "bash"], "usr/share/bash-completion/completions/phalanx"),
    (&["completions", "zsh"], "usr/share/zsh/vendor-completions/_phalanx"),
    (&["completions", "fish"], "usr/share/fish/vendor_completions.d/phalanx.fish"),
    (&["schema", "settings"], "usr/share/phalanx/settings.schema.json"),
    (&["schema", "policy"], "usr/share/phalanx/policy.schema.json"),
    (&["schema", "test"], "usr/share/phalanx/test.schema.json"),
];

/// A folder that a container is built in, with all that goes into it.
fn container(binary: &Path, folder: &Path) -> anyhow::Result<()> {
    copy(binary, &folder.join("phalanx"), 0o755)?;
    for (name, mode) in [("Containerfile", 0o644), ("policy.toml", 0o644)] {
        copy(&place::root().join("deploy").join(name), &folder.join(name), mode)?;
    }
    // Beyond its loopback nobody reaches a container.
    let settings = fs::read_to_string(place::root().join("deploy/phalanx.toml"))?;
    fs::write(folder.join("phalanx.toml"), settings.replace("127.0.0.1:8080", "0.0.0.0:8080"))?;
    fs::create_dir_all(folder.join("state"))?;
    fs::write(folder.join("state/.keep"), "")?;
    Ok(())
}

/// The binary without what debuggers read.
fn stripped(binary: &Path, to: &Path) -> anyhow::Result<PathBuf> {
    must(Command::new("strip").arg("-o").arg(to).arg(binary)).context("needs strip (Debian: binutils)")?;
    Ok(to.to_owned())
}

/// The newest symbol version of the C library that the binary asks for: the oldest library that it starts with.
fn libc_needed(binary: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(binary)?;
    let mark = b"GLIBC_2.";
    let versions =
        bytes.windows(mark.len()).enumerate().filter(|(_, found)| found == mark).filter_map(|(at, _)| {
            let rest = bytes.get(at + mark.len()..)?;
            let digits: Vec<u8> = rest.iter().copied().take_while(u8::is_ascii_digit).collect();
            String::from_utf8(digits).ok()?.parse::<u32>().ok()
        });
    let newest = versions.max().context("the binary names no version of the C library")?;
    Ok(format!("2.{newest}"))
}

fn version() -> anyhow::Result<String> {
    let manifest: toml::Table = fs::read_to_string(place::root().join("Cargo.toml"))?.parse()?;
    let version = manifest.get("workspace").and_then(|w| w.get("package")?.get("version")?.as_str());
    version.map(str::to_owned).context("Cargo.toml names no version")
}

fn architecture() -> anyhow::Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no package is made for {other}"),
    }
}

/// When the sources were last changed, in Unix seconds.
fn source_date() -> anyhow::Result<String> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(epoch) => Ok(epoch),
        Err(_) => {
            Ok(read(Command::new("git").current_dir(place::root()).args(["log", "-1", "--format=%ct"]))?
                .trim()
                .to_owned())
        }
    }
}

fn read(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{:?}: {}", command.get_program(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn copy(from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

fn fresh(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(fs::create_dir_all(folder)?)
}

/// All files below a folder, by name.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => found.extend(files(&entry.path())?),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_packaged_is_there() {
        for (from, to, _) in PACKAGED {
            assert!(place::root().join(from).is_file(), "{from}");
            assert!(!to.starts_with('/'), "{to}");
        }
    }
}
