//! Where the rule and data files that a policy names come from: the disk, the disk with a list of what was read, or a set of named
//! files in memory, as a policy bundle carries them.
//!
//! The names in a set are the paths by which the policy refers to its files, relative to the policy file's folder, or absolute. They
//! are keys and nothing else: with a set, no path ever reaches the disk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Where files are read from.
#[derive(Debug, Clone, Copy)]
pub enum Files<'a> {
    /// The disk.
    Disk,
    /// The disk; what is read is collected.
    Collected(&'a Collector),
    /// A set in memory, and nothing beside it.
    Set(&'a FileSet),
}

/// Named files in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileSet(BTreeMap<String, Vec<u8>>);

impl FileSet {
    /// A set of these files, by normal name; of two with one name the later stays.
    pub fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self(files.into_iter().map(|(name, bytes)| (normal(&name), bytes)).collect())
    }

    /// Names and contents, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// The content of a file.
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.0.get(&normal(path)).map(Vec::as_slice)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn is_folder(&self, path: &str) -> bool {
        let prefix = format!("{}/", normal(path));
        self.0.range(prefix.clone()..).next().is_some_and(|(name, _)| name.starts_with(&prefix))
    }

    /// The files directly in a folder, by their last part, in order.
    pub(crate) fn files_in(&self, folder: &str) -> Vec<String> {
        let prefix = match normal(folder) {
            root if root.is_empty() => String::new(),
            folder => format!("{folder}/"),
        };
        let below = self.0.range(prefix.clone()..).map(|(name, _)| name);
        let below = below.take_while(|name| name.starts_with(&prefix));
        below
            .filter_map(|name| name.strip_prefix(&prefix))
            .filter(|n| !n.contains('/'))
            .map(str::to_owned)
            .collect()
    }
}

/// Reads from the disk below a folder, as if that were the policy file's, and keeps what was read.
#[derive(Debug)]
pub struct Collector {
    base: PathBuf,
    read: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Collector {
    /// Collects what is named relative to this folder.
    pub fn new(base: PathBuf) -> Self {
        Self { base, read: RefCell::default() }
    }

    /// What was read.
    pub fn into_set(self) -> FileSet {
        FileSet(self.read.into_inner())
    }

    /// Where a named file lies on the disk.
    pub(crate) fn on_disk(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    pub(crate) fn keep(&self, path: &str, bytes: &[u8]) {
        self.read.borrow_mut().insert(normal(path), bytes.to_vec());
    }
}

/// The one form of a path among those that mean the same: without `.`, and with `..` at its start only. No links are followed.
pub(crate) fn normal(path: &str) -> String {
    let mut parts: Vec<Component<'_>> = Vec::new();
    for part in Path::new(path).components() {
        match (part, parts.last()) {
            (Component::CurDir, _) | (Component::ParentDir, Some(Component::RootDir)) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.iter().collect::<PathBuf>().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_the_same_are_the_same() {
        for (written, expected) in [
            ("a/./b", "a/b"),
            ("a/../b", "b"),
            ("../a/b/..", "../a"),
            ("/../etc/x", "/etc/x"),
            ("../../a", "../../a"),
            ("a/../../b", "../b"),
        ] {
            assert_eq!(normal(written), expected, "{written}");
        }
    }

    #[test]
    fn folders_are_made_of_the_names_in_them() {
        let set =
            FileSet::new(["crs/rules/a.conf", "crs/b.conf", "top.conf"].map(|n| (n.to_owned(), vec![])));
        assert!(set.is_folder("crs") && set.is_folder("./crs/rules") && !set.is_folder("cr"));
        assert_eq!(set.files_in("crs"), ["b.conf"]);
        assert_eq!(set.files_in(""), ["top.conf"]);
    }
}
