//! go-ftw test files: what they say, and the raw request that each stage sends.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
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

/// What is sent. Fields about sockets are accepted and mean nothing in process.
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

impl Input {
    /// The bytes that go-ftw would write.
    pub(crate) fn raw(&self) -> anyhow::Result<Vec<u8>> {
        if let Some(encoded) = &self.encoded_request {
            return decoded(encoded).context("encoded_request is not base64");
        }
        let mut data = match (&self.encoded_data, &self.data) {
            (Some(encoded), _) => decoded(encoded).context("encoded_data is not base64")?,
            (None, Some(data)) => data.clone().into_bytes(),
            (None, None) => Vec::new(),
        };
        let mut fields: Vec<(String, String)> = match (&self.ordered_headers, &self.headers) {
            (Some(ordered), _) => ordered.iter().map(|f| (f.name.clone(), f.value.clone())).collect(),
            (None, Some(fields)) => fields.0.clone(),
            (None, None) => Vec::new(),
        };
        let named = |fields: &[(String, String)], name: &str| {
            fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        };
        // go-ftw sends multipart bodies with CRLF, whatever the file has.
        if named(&fields, "Content-Type").is_some_and(|value| value.starts_with("multipart/form-data;")) {
            data = with_crlf(&data);
        }
        if self.autocomplete_headers.unwrap_or(true) && !self.stop_magic.unwrap_or(false) {
            let mut add = |name: &str, value: String| {
                if named(&fields, name).is_none() {
                    fields.push((name.to_owned(), value));
                }
            };
            if !data.is_empty() {
                add("Content-Type", "application/x-www-form-urlencoded".to_owned());
            }
            let method = self.method.as_deref().unwrap_or("GET");
            if !data.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
                add("Content-Length", data.len().to_string());
            }
            add("Connection", "close".to_owned());
        }
        let method = self.method.as_deref().unwrap_or("GET");
        let uri = self.uri.as_deref().unwrap_or("/");
        let version = self.version.as_deref().unwrap_or("HTTP/1.1");
        let mut raw = format!("{method} {uri} {version}\r\n").into_bytes();
        for (name, value) in fields {
            raw.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        raw.extend_from_slice(b"\r\n");
        raw.extend_from_slice(&data);
        Ok(raw)
    }
}

/// Base 64, which the files break into lines.
fn decoded(encoded: &str) -> Result<Vec<u8>, base64::DecodeError> {
    let joined: String = encoded.split_ascii_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(joined)
}

/// Every LF that no CR precedes becomes CRLF.
fn with_crlf(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 64);
    let mut before = 0;
    for &byte in data {
        if byte == b'\n' && before != b'\r' {
            out.push(b'\r');
        }
        out.push(byte);
        before = byte;
    }
    out
}

/// Every test file below a folder, in name order, with its text parsed.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Vec<(PathBuf, File)>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(yaml: &str) -> String {
        let input: Input = serde_saphyr::from_str(yaml).unwrap();
        String::from_utf8(input.raw().unwrap()).unwrap()
    }

    #[test]
    fn headers_are_completed_unless_told_not_to() {
        let yaml = "method: POST\nuri: /p\nheaders:\n  Host: h\n  X: 7\ndata: a=b\n";
        assert_eq!(
            raw(yaml),
            "POST /p HTTP/1.1\r\nHost: h\r\nX: 7\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: 3\r\nConnection: close\r\n\r\na=b"
        );
        assert_eq!(
            raw(&format!("{yaml}autocomplete_headers: false\n")),
            "POST /p HTTP/1.1\r\nHost: h\r\nX: 7\r\n\r\na=b"
        );
    }

    #[test]
    fn an_encoded_request_is_sent_as_it_is() {
        assert_eq!(raw("encoded_request: R0VUIC8NCg0K"), "GET /\r\n\r\n");
    }
}
