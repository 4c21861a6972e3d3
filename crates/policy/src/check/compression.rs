//! Which responses are compressed.

use super::Check;
use crate::compression::Compression;
use crate::raw::compression::RawCompression;
use crate::toml_text::At;

impl Check<'_> {
    /// What an app says of compression; faulty types are reported and left out.
    pub(super) fn compression(&mut self, raw: Option<&At<RawCompression>>) -> Option<Compression> {
        let raw = raw?;
        let default = Compression::default();
        let table = match &raw.value {
            RawCompression::Switch(false) => return None,
            RawCompression::Switch(true) => return Some(default),
            RawCompression::Told(table) => table,
        };
        let codings = table.codings.clone().unwrap_or(default.codings);
        let types = match &table.types {
            Some(types) => types.iter().filter_map(|told| self.media_type(told)).collect(),
            None => default.types,
        };
        if codings.is_empty() || table.types.as_ref().is_some_and(Vec::is_empty) {
            let fault = self.text.error_at(&raw.span, "nothing would be compressed");
            self.found.push(fault.with_help("write `compression = false`, or leave the empty list out"));
        }
        let mut seen = Vec::new();
        let twice = codings.iter().any(|coding| {
            let known = seen.contains(coding);
            seen.push(*coding);
            known
        });
        if twice {
            self.error(&raw.span, "a coding stands there twice");
        }
        Some(Compression {
            codings,
            types,
            bytes_least: self.size(table.min.as_ref(), default.bytes_least, BYTES_LEAST_MAX),
        })
    }

    fn media_type(&mut self, told: &At<String>) -> Option<String> {
        let token = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
        };
        let sound = told.split_once('/').is_some_and(|(kind, sub)| token(kind) && (sub == "*" || token(sub)));
        if !sound {
            let fault = self.text.error_at(&told.span, format!("`{}` is no media type", told.value));
            self.found.push(
                fault.with_help("write it as in \"application/json\" or \"text/*\", without parameters"),
            );
            return None;
        }
        let lower = told.to_ascii_lowercase();
        if lower == "text/event-stream" {
            let message = "streams of events are never compressed: each event would wait for the next";
            self.found.push(self.text.warning_at(&told.span, message));
        }
        Some(lower)
    }
}

const BYTES_LEAST_MAX: u64 = 1 << 30;
