//! The files of a configuration on this machine.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use super::carry::{BYTES_MAX, FILES_MAX, Files};

/// Where a configuration lies, to which names in it are relative.
#[derive(Debug)]
pub(crate) struct Folder {
    main: PathBuf,
    folder: PathBuf,
}

impl Folder {
    pub(crate) fn of(main: &Path) -> Self {
        let folder = main.parent().filter(|folder| !folder.as_os_str().is_empty());
        Self { main: main.to_owned(), folder: folder.unwrap_or(Path::new(".")).to_owned() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn read_main(&self) -> io::Result<String> {
        read(&self.main)
    }

    /// A file of `sites-enabled` names its files from the folder above.
    fn bases(&self) -> [&Path; 2] {
        [&self.folder, self.folder.parent().unwrap_or(&self.folder)]
    }
}

impl Files for Folder {
    fn read(&mut self, pattern: &str) -> Result<Vec<(String, String)>, String> {
        let mut error = "there is no such file".to_owned();
        for base in self.bases() {
            let found = glob(base, Path::new(pattern)).map_err(|error| error.to_string())?;
            let mut files = Vec::new();
            for path in found.iter().take(FILES_MAX) {
                match read(path) {
                    Ok(text) => files.push((path.display().to_string(), text)),
                    Err(failed) => error = format!("{}: {failed}", path.display()),
                }
            }
            if !files.is_empty() {
                return Ok(files);
            }
        }
        // A pattern that no file matches yet is usual.
        if pattern.contains(['*', '?', '[']) { Ok(Vec::new()) } else { Err(error) }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let most = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX);
    std::fs::File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    // Comments in old encodings are no reason to stop.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The files that a pattern means, in order of their names.
fn glob(base: &Path, pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![base.to_owned()];
    for part in pattern.components() {
        let mut next = Vec::new();
        for path in found {
            match part {
                Component::Normal(name) if name.to_str().is_some_and(|name| name.contains(['*', '?'])) => {
                    let Ok(entries) = std::fs::read_dir(&path) else { continue };
                    let wanted = name.to_string_lossy();
                    for entry in entries.take(FILES_MAX) {
                        let entry = entry?;
                        if matches(&wanted, &entry.file_name().to_string_lossy()) {
                            next.push(entry.path());
                        }
                    }
                }
                other => next.push(path.join(other)),
            }
        }
        found = next;
    }
    found.retain(|path| path.is_file());
    found.sort();
    Ok(found)
}

/// Whether a name fits a pattern of `*` and `?`; hidden files fit none that begins with one.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where the last star stands, and how much of the name it took.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == name.get(n) => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, took)) => {
                    (p, n) = (at + 1, took + 1);
                    star = Some((at, took + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names() {
        for (pattern, name, fits) in [
            ("*", "a.conf", true),
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("*", ".swp", false),
            ("a?c*", "abcd", true),
            ("*a*b", "xaxb", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_means_files_in_order_and_none_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sites")).unwrap();
        for name in ["b", "a", ".hidden"] {
            std::fs::write(folder.path().join("sites").join(name), name).unwrap();
        }
        let mut files = Folder::of(&folder.path().join("nginx.conf"));
        let read: Vec<String> = files.read("sites/*").unwrap().into_iter().map(|(_, text)| text).collect();
        assert_eq!(read, ["a", "b"]);
        assert!(files.read("conf.d/*.conf").unwrap().is_empty());
        assert!(files.read("gone.conf").is_err());
        let mut of_site = Folder::of(&folder.path().join("sites/a"));
        assert_eq!(of_site.read("sites/b").unwrap().len(), 1);
    }
}
