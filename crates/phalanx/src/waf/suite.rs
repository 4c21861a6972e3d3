//! go-ftw test files: what they say. What a stage sends is built in `bytes`.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

/// One file.
#[derive(Debug, Deserialize)]
pub(crate) struct File {
    /// The rule that it is about.
    pub(crate) rule_id: Option<u64>,
    #[serde(default)]
    pub(crate) tests: Vec<Test>,
}

/// One test of a file.
#[derive(Debug, Deserialize)]
pub(crate) struct Test {
    pub(crate) test_id: u64,
    pub(crate) stages: Vec<Stage>,
}

/// One request and what is expected of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Stage {
    pub(crate) input: Input,
    pub(crate) output: Output,
}

/// What is sent. Fields about sockets are accepted and mean nothing: where to send it is not the file's to say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Input {
    pub(crate) method: Option<String>,
    pub(crate) uri: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) headers: Option<Fields>,
    pub(crate) ordered_headers: Option<Vec<NamedField>>,
    pub(crate) data: Option<String>,
    pub(crate) encoded_data: Option<String>,
    pub(crate) encoded_request: Option<String>,
    pub(crate) autocomplete_headers: Option<bool>,
    pub(crate) stop_magic: Option<bool>,
}

/// An entry of `ordered_headers`.
#[derive(Debug, Deserialize)]
pub(crate) struct NamedField {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// What is expected. What is not named here is not checked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Output {
    pub(crate) status: Option<u16>,
    pub(crate) expect_error: Option<bool>,
    pub(crate) log_contains: Option<String>,
    pub(crate) no_log_contains: Option<String>,
    pub(crate) response_contains: Option<String>,
    pub(crate) log: Option<Log>,
    pub(crate) isolated: Option<bool>,
}

/// What is expected in the log.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Log {
    pub(crate) expect_ids: Vec<u64>,
    pub(crate) no_expect_ids: Vec<u64>,
    pub(crate) match_regex: Option<String>,
    pub(crate) no_match_regex: Option<String>,
}

/// Header fields in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("header fields")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Option<String>>()? {
                    fields.push((name, value.unwrap_or_default()));
                }
                Ok(Fields(fields))
            }

            fn visit_unit<E>(self) -> Result<Fields, E> {
                Ok(Fields::default())
            }
        }
        deserializer.deserialize_any(InOrder)
    }
}

/// A test with its id, `RULE-NUMBER`.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) stages: Vec<Stage>,
}

/// Every test below a folder, in order.
pub(crate) fn cases(folder: &Path) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (path, file) in read(folder)? {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let name = file.rule_id.map_or(stem, |id| id.to_string());
        cases.extend(
            file.tests
                .into_iter()
                .map(|test| Case { id: format!("{name}-{}", test.test_id), stages: test.stages }),
        );
    }
    Ok(cases)
}

/// Every test file below a folder, in name order, with its text parsed.
fn read(folder: &Path) -> anyhow::Result<Vec<(PathBuf, File)>> {
    let mut paths = Vec::new();
    collect(folder, &mut paths)?;
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let file = serde_saphyr::from_str(&text).with_context(|| path.display().to_string())?;
            Ok((path, file))
        })
        .collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
            paths.push(path);
        }
    }
    Ok(())
}
