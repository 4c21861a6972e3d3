//! Where texts come from: the disk, or a list of named texts (embedded packs, tests). References between files are
//! resolved here, relative to the file they stand in.

use std::cell::RefCell;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::files::{Collector, FileSet, Files, normal};

/// A place to read files from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    Disk,
    Texts(&'a [(&'a str, &'a str)]),
    Collected(&'a Collector),
    Set(&'a FileSet),
    /// A set; what is read is written down.
    Noted(&'a FileSet, &'a RefCell<Vec<FileRead>>),
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileRead {
    /// Its normal name.
    pub(crate) name: String,
    /// Whether it was read as rules, or as a list of such files, and not as data.
    pub(crate) is_rules: bool,
}

impl<'a> From<Files<'a>> for Source<'a> {
    fn from(files: Files<'a>) -> Self {
        match files {
            Files::Disk => Self::Disk,
            Files::Collected(collector) => Self::Collected(collector),
            Files::Set(set) => Self::Set(set),
        }
    }
}

impl Source<'_> {
    /// The path that a reference in `from` means.
    pub(super) fn resolve(&self, from: &str, reference: &str) -> String {
        if Path::new(reference).is_absolute() {
            return reference.to_owned();
        }
        match Path::new(from).parent() {
            Some(folder) => folder.join(reference).to_string_lossy().into_owned(),
            None => reference.to_owned(),
        }
    }

    /// The bytes of a file, or why they cannot be had.
    pub(super) fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        match self {
            Self::Texts(texts) => texts
                .iter()
                .find(|(name, _)| *name == path)
                .map(|(_, text)| text.as_bytes().to_vec())
                .ok_or_else(|| format!("there is no file `{path}`")),
            Self::Disk => {
                read_bounded(Path::new(path)).map_err(|error| format!("cannot read `{path}`: {error}"))
            }
            Self::Collected(collector) => {
                let bytes = read_bounded(&collector.on_disk(path));
                let bytes = bytes.map_err(|error| format!("cannot read `{path}`: {error}"))?;
                collector.keep(path, &bytes);
                Ok(bytes)
            }
            Self::Set(set) => match set.get(path) {
                Some(bytes) => Ok(bytes.to_vec()),
                None => Err(format!("there is no file `{path}` in the bundle")),
            },
            Self::Noted(set, _) => {
                let bytes = Self::Set(set).read(path)?;
                self.note(path, false);
                Ok(bytes)
            }
        }
    }

    fn note(&self, path: &str, is_rules: bool) {
        if let Self::Noted(_, read) = self {
            read.borrow_mut().push(FileRead { name: normal(path), is_rules });
        }
    }

    /// Whether a file is there.
    pub(super) fn is_file(&self, path: &Path) -> bool {
        let name = path.to_string_lossy();
        match self {
            Self::Disk => path.is_file(),
            Self::Texts(texts) => texts.iter().any(|(text, _)| *text == name),
            Self::Collected(collector) => collector.on_disk(&name).is_file(),
            Self::Set(set) | Self::Noted(set, _) => set.get(&name).is_some(),
        }
    }

    /// Whether a folder is there. A list of texts has none.
    pub(super) fn is_folder(&self, path: &Path) -> bool {
        let name = path.to_string_lossy();
        match self {
            Self::Disk => path.is_dir(),
            Self::Texts(_) => false,
            Self::Collected(collector) => collector.on_disk(&name).is_dir(),
            Self::Set(set) | Self::Noted(set, _) => set.is_folder(&name),
        }
    }

    /// The names in a folder, in order.
    pub(super) fn names_in(&self, folder: &Path) -> Result<Vec<String>, String> {
        let name = folder.to_string_lossy();
        match self {
            Self::Disk => file_names(folder),
            Self::Texts(_) => Ok(Vec::new()),
            Self::Collected(collector) => file_names(&collector.on_disk(&name)),
            Self::Set(set) | Self::Noted(set, _) if !set.is_folder(&name) => {
                Err(format!("there is no folder `{name}` in the bundle"))
            }
            Self::Set(set) | Self::Noted(set, _) => Ok(set.files_in(&name)),
        }
    }

    /// The text of a file, or why it cannot be had and on which line.
    pub(super) fn read_text(&self, path: &str) -> Result<String, (u32, String)> {
        let bytes = match self {
            Self::Noted(set, _) => Self::Set(set).read(path),
            _ => self.read(path),
        };
        let bytes = bytes.map_err(|message| (0, message))?;
        self.note(path, true);
        String::from_utf8(bytes).map_err(|error| {
            let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            (u32::try_from(line).unwrap_or(u32::MAX), "the file is not UTF-8 from this line on".to_owned())
        })
    }

    /// The files that a pattern with `*` and `?` names, in name order.
    pub(super) fn glob(&self, pattern: &str) -> Result<Vec<String>, String> {
        match self {
            Self::Texts(texts) => {
                let mut names: Vec<String> = texts
                    .iter()
                    .filter(|(name, _)| matches(pattern.as_bytes(), name.as_bytes()))
                    .map(|(name, _)| (*name).to_owned())
                    .collect();
                names.sort();
                Ok(names)
            }
            Self::Set(set) | Self::Noted(set, _) => {
                let pattern = normal(pattern);
                let fits = |name: &&str| matches(pattern.as_bytes(), name.as_bytes());
                Ok(set.names().filter(fits).map(str::to_owned).collect())
            }
            Self::Collected(collector) => {
                let on_disk = collector.on_disk(pattern).to_string_lossy().into_owned();
                let found = Self::Disk.glob(&on_disk)?;
                let named = |path: String| match Path::new(&path).strip_prefix(collector.base()) {
                    Ok(below) if !Path::new(pattern).is_absolute() => below.to_string_lossy().into_owned(),
                    _ => path,
                };
                Ok(found.into_iter().map(named).collect())
            }
            Self::Disk if pattern.contains(['*', '?']) => glob_disk(pattern),
            Self::Disk => Ok(if Path::new(pattern).exists() { vec![pattern.to_owned()] } else { Vec::new() }),
        }
    }
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn glob_disk(pattern: &str) -> Result<Vec<String>, String> {
    let mut found = vec![PathBuf::new()];
    for part in Path::new(pattern).components() {
        let part = part.as_os_str();
        let text = part.to_string_lossy();
        if !text.contains(['*', '?']) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut next = Vec::new();
        for folder in found {
            let here = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
            if !here.is_dir() {
                continue;
            }
            for name in file_names(here)? {
                if matches(text.as_bytes(), name.as_bytes())
                    && (!name.starts_with('.') || text.starts_with('.'))
                {
                    next.push(folder.join(name));
                }
            }
        }
        next.sort();
        found = next;
    }
    found.retain(|path| path.is_file());
    Ok(found.into_iter().map(|path| path.to_string_lossy().into_owned()).collect())
}

/// The names in a folder, in order.
fn file_names(folder: &Path) -> Result<Vec<String>, String> {
    let describe = |error: std::io::Error| format!("cannot list `{}`: {error}", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(describe)? {
        names.push(entry.map_err(describe)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Whether a name fits a pattern in which `*` is any run and `?` any one byte, neither of them a `/`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => matches(rest, name),
        (Some((b'*', rest)), Some((first, tail))) => {
            matches(rest, name) || (*first != b'/' && matches(pattern, tail))
        }
        (Some((b'?', rest)), Some((first, tail))) => *first != b'/' && matches(rest, tail),
        (Some((wanted, rest)), Some((first, tail))) => wanted == first && matches(rest, tail),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Rule and data files are far smaller; a device or a log given by mistake must not fill the memory.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stay_within_a_folder() {
        assert!(matches(b"a/*.conf", b"a/b.conf"));
        assert!(matches(b"a/?.conf", b"a/b.conf"));
        assert!(!matches(b"a/*.conf", b"a/b/c.conf"));
        assert!(!matches(b"*.conf", b"x.conf.example"));
    }
}
