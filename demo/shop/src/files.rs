//! The shop's files, written to a temporary folder at the start: a public part with pictures and care sheets, and beside it a
//! configuration file that nobody should ever see.

use std::fs;
use std::io;
use std::path::PathBuf;

use tempfile::TempDir;

/// The folder, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    /// Writes all files.
    pub(crate) fn write() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("phalanx-demo-shop-").tempdir()?;
        let public = folder.path().join("public");
        fs::create_dir_all(public.join("pictures"))?;
        fs::create_dir_all(public.join("manuals"))?;
        fs::create_dir_all(folder.path().join("config"))?;
        for (name, text) in PICTURES {
            fs::write(public.join("pictures").join(name), text)?;
        }
        for (name, text) in MANUALS {
            fs::write(public.join("manuals").join(name), text)?;
        }
        fs::write(folder.path().join("config/shop.toml"), CONFIG)?;
        Ok(Self { folder })
    }

    /// Reads a picture; the name comes from the product table and is checked.
    pub(crate) fn picture(&self, name: &str) -> Option<Vec<u8>> {
        let known = PICTURES.iter().any(|(known, _)| *known == name);
        if known { fs::read(self.public().join("pictures").join(name)).ok() } else { None }
    }

    /// Reads a file to download. HOLE: `..` is not refused, so the name may leave the folder.
    pub(crate) fn download(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.public().join(name))
    }

    fn public(&self) -> PathBuf {
        self.folder.path().join("public")
    }
}

/// Stands for what a path traversal would bring out. The key is made up.
const CONFIG: &str = "\
[payment]
provider = \"example-pay\"
secret_key = \"sk_demo_4eC39HqLyjWDarjtT1zdp7dc\"

[database]
file = \"shop.sqlite\"
";

const PICTURES: [(&str, &str); 9] = [
    ("lamp.svg", include_str!("../assets/pictures/lamp.svg")),
    ("mug.svg", include_str!("../assets/pictures/mug.svg")),
    ("pack.svg", include_str!("../assets/pictures/pack.svg")),
    ("notebook.svg", include_str!("../assets/pictures/notebook.svg")),
    ("clock.svg", include_str!("../assets/pictures/clock.svg")),
    ("fern.svg", include_str!("../assets/pictures/fern.svg")),
    ("throw.svg", include_str!("../assets/pictures/throw.svg")),
    ("kettle.svg", include_str!("../assets/pictures/kettle.svg")),
    ("towel.svg", include_str!("../assets/pictures/towel.svg")),
];

const MANUALS: [(&str, &str); 2] = [
    ("lamp.txt", include_str!("../assets/manuals/lamp.txt")),
    ("kettle.txt", include_str!("../assets/manuals/kettle.txt")),
];
