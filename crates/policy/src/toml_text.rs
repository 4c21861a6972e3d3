//! TOML that people write: read into a type, every fault reported at once with its line.
//!
//! A type that derives `Deserialize` with `deny_unknown_fields` is all a reader needs. After a fault the entry it stands
//! in is taken out and reading starts again, so that one mistake does not hide the next.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::Diagnostic;
use crate::suggest::did_you_mean;

/// A TOML file's name and text.
#[derive(Debug, Clone)]
pub struct Text<'a> {
    file: Arc<str>,
    text: &'a str,
    /// Where each line but the first begins.
    lines: Arc<[usize]>,
}

impl<'a> Text<'a> {
    /// A text, and the name its faults are reported under.
    pub fn new(file: &str, text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { file: file.into(), text, lines: ends.map(|(at, _)| at + 1).collect() }
    }

    /// Reads the text. `Err` holds every fault found, at most [`FAULTS_MAX`].
    ///
    /// # Errors
    /// When the text is no TOML, or does not fit the type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Vec<Diagnostic>> {
        let (value, faults) = self.read_partly();
        match value {
            Some(value) if faults.is_empty() => Ok(value),
            _ => Err(faults),
        }
    }

    /// Reads what can be read, so that the caller may look for faults of meaning as well. Faulty entries are as if they
    /// were not there; the value must not be used when there are faults.
    pub fn read_partly<T: DeserializeOwned>(&self) -> (Option<T>, Vec<Diagnostic>) {
        self.read_composed(|_| Ok(Vec::new()))
    }

    /// Like [`Self::read_partly`], after `compose` changed the tree. It gives back warnings, or why there is nothing to read.
    pub(crate) fn read_composed<T: DeserializeOwned>(
        &self,
        compose: impl FnOnce(&mut DeTable<'a>) -> Result<Vec<Diagnostic>, Vec<Diagnostic>>,
    ) -> (Option<T>, Vec<Diagnostic>) {
        let (mut root, errors) = DeTable::parse_recoverable(self.text);
        let mut faults: Vec<Diagnostic> = errors
            .iter()
            .take(FAULTS_MAX)
            .map(|error| {
                let message = error.message().trim_end_matches('.');
                let fault = self.error_at(&error.span().unwrap_or_default(), message);
                with_way_out(fault)
            })
            .collect();
        if !faults.is_empty() {
            return (None, faults);
        }
        match compose(root.get_mut()) {
            Ok(warnings) => faults = warnings,
            Err(faults) => return (None, by_line(faults)),
        }
        while faults.len() < FAULTS_MAX {
            match T::deserialize(toml::de::Deserializer::from(root.clone())) {
                Ok(value) => return (Some(value), by_line(faults)),
                Err(error) => {
                    let span = error.span();
                    let entry = span.as_ref().and_then(|span| take_entry(root.get_mut(), span));
                    faults.push(self.describe(error.message(), span, entry.as_deref()));
                    if entry.is_none() {
                        break;
                    }
                }
            }
        }
        (None, by_line(faults))
    }

    /// The line of a byte offset, from 1.
    pub fn line_of(&self, offset: usize) -> u32 {
        let lines = self.lines.partition_point(|begin| *begin <= offset) + 1;
        u32::try_from(lines).unwrap_or(u32::MAX)
    }

    /// An error at a place.
    pub fn error_at(&self, span: &Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(Arc::clone(&self.file), self.line_of(span.start), message)
    }

    /// A warning at a place.
    pub fn warning_at(&self, span: &Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(Arc::clone(&self.file), self.line_of(span.start), message)
    }

    /// An error at a line.
    pub(crate) fn fault_in(&self, line: u32, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(Arc::clone(&self.file), line, message)
    }

    /// An error that concerns the whole file.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(Arc::clone(&self.file), 0, message)
    }

    fn describe(&self, message: &str, span: Option<Range<usize>>, entry: Option<&str>) -> Diagnostic {
        let message = message.lines().next().unwrap_or_default().trim_end_matches('.');
        let (what, names) = match message.split_once(", expected") {
            Some((what, names)) if what.starts_with("unknown ") => (what, names),
            _ => {
                let place =
                    entry.filter(|_| !message.starts_with("missing ")).map(|name| format!("`{name}`: "));
                let text = format!("{}{}", place.unwrap_or_default(), in_words(message));
                return with_way_out(match span {
                    Some(span) => self.error_at(&span, text),
                    None => self.error(text),
                });
            }
        };
        let known: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
        let written = what.split('`').nth(1).unwrap_or_default();
        let what =
            what.replacen("unknown field", "unknown key", 1).replacen("unknown variant", "unknown value", 1);
        let fault = self.error_at(&span.unwrap_or_default(), what);
        match did_you_mean(written, known.iter().copied()) {
            Some(help) => fault.with_help(help),
            None if known.is_empty() => fault,
            None => fault.with_help(format!("known here: {}", known.join(", "))),
        }
    }
}

/// A value and where it stands.
#[derive(Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands, in bytes.
    pub span: Range<usize>,
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for At<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<'de, T: serde::Deserialize<'de>> serde::Deserialize<'de> for At<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        let span = spanned.span();
        Ok(Self { value: spanned.into_inner(), span })
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for At<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }
}

/// What to do about a text that is no TOML, or has another type than is expected.
fn with_way_out(fault: Diagnostic) -> Diagnostic {
    let ways = WAYS_OUT.iter().find(|(end, _)| fault.message.ends_with(end));
    match ways {
        Some((_, help)) => fault.with_help(*help),
        None => fault,
    }
}

/// A message without the names that types have in the program.
fn in_words(message: &str) -> String {
    let message = message.replace("wanted string or table", "expected a text in quotes");
    let message =
        message.replace("invalid type: map,", "invalid type: a table,").replace("a sequence", "a list");
    match message.split_once(", expected struct ") {
        Some((what, _)) => format!("{what}, expected a table"),
        None => number_in_words(&message),
    }
}

fn number_in_words(message: &str) -> String {
    let Some((what, "u8" | "u16" | "u32" | "u64" | "usize" | "i64")) = message.rsplit_once(", expected ")
    else {
        return message.to_owned();
    };
    match what.strip_prefix("invalid value: integer ") {
        Some(number) => format!("{number} is not possible here"),
        None if what.starts_with("invalid type: string") => {
            format!("{what}, expected a number, without quotes")
        }
        None => format!("{what}, expected a whole number"),
    }
}

/// A text's bytes as text.
///
/// # Errors
/// The line with the first byte that is no UTF-8.
pub fn utf8(file: &str, bytes: Vec<u8>) -> Result<String, Diagnostic> {
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        Diagnostic::error(file, u32::try_from(line).unwrap_or(u32::MAX), "this line is not UTF-8")
            .with_help("save the file as UTF-8")
    })
}

fn by_line(mut faults: Vec<Diagnostic>) -> Vec<Diagnostic> {
    faults.sort_by_key(|fault| fault.line);
    faults
}

/// Takes out the innermost entry (of a table or an array) that holds the span, and gives its name back.
fn take_entry(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let holds = |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end;
    for (key, value) in table.iter_mut() {
        if holds(&value.span()) || matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_)) {
            let inside = match value.get_mut() {
                DeValue::Table(inner) => take_entry(inner, span),
                DeValue::Array(items) => take_item(items, span),
                _ => None,
            };
            match inside.as_deref() {
                None => {}
                Some("") => return Some(key.get_ref().clone().into_owned()),
                Some(_) => return inside,
            }
        }
    }
    let key = table
        .iter()
        .find(|(key, value)| holds(&key.span()) || holds(&value.span()))
        .map(|(key, _)| key.clone())?;
    table.remove(&key);
    Some(key.into_inner().into_owned())
}

/// The same in an array; the name of an item is empty.
fn take_item(items: &mut toml::de::DeArray<'_>, span: &Range<usize>) -> Option<String> {
    for value in items.iter_mut() {
        let inside = match value.get_mut() {
            DeValue::Table(inner) => take_entry(inner, span),
            DeValue::Array(inner) => take_item(inner, span),
            _ => None,
        };
        if inside.is_some() {
            return inside;
        }
    }
    let place =
        items.iter().position(|item| item.span().start <= span.start && span.end <= item.span().end)?;
    let mut kept = toml::de::DeArray::new();
    for (_, item) in items.iter().enumerate().filter(|(index, _)| *index != place) {
        kept.push(item.clone());
    }
    *items = kept;
    Some(String::new())
}

/// By what a message ends with.
const WAYS_OUT: [(&str, &str); 5] = [
    (
        "duplicate key",
        "put both together: a key stands once in its table, and a table once in a file, but for those in `[[...]]`",
    ),
    ("expected a string", "put it in quotes, with its unit where it is a size or a time"),
    ("expected a list", "put it in `[...]`; a list of tables is written as `[[...]]`, once for each"),
    ("expected a table", "write its keys below a `[...]` or `[[...]]` with its name, or in `{...}`"),
    ("invalid basic string, expected `\"`", "end the text with `\"` in the line in which it begins"),
];
/// Most faults told of one file; whoever has more has given the wrong file.
pub const FAULTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        port: Option<At<u16>>,
        mode: Option<Mode>,
        list: Option<Vec<u8>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        Block,
        Observe,
    }

    fn check(text: &str, expected: &[&str]) {
        let faults = match Text::new("f", text).read::<Outer>() {
            Ok(_) => Vec::new(),
            Err(faults) => faults,
        };
        let found: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_fault_is_told_with_its_line() {
        check(
            "nam = 1\nname = 2\n[[inner]]\nport = 'x'\nmode = 'blok'\nlist = [1, 'b', 3, 'd']\nzzzzzzzz = 1\n[[inner]]\nport = 70000\n",
            &[
                "error: f:1: unknown key `nam`\n  help: did you mean `name`?",
                "error: f:2: `name`: invalid type: integer `2`, expected a string\n  help: put it in quotes, with its unit where it is a size or a time",
                "error: f:4: `port`: invalid type: string \"x\", expected a number, without quotes",
                "error: f:5: unknown value `blok`\n  help: did you mean `block`?",
                "error: f:6: `list`: invalid type: string \"b\", expected a number, without quotes",
                "error: f:6: `list`: invalid type: string \"d\", expected a number, without quotes",
                "error: f:7: unknown key `zzzzzzzz`\n  help: known here: port, mode, list",
                "error: f:9: `port`: `70000` is not possible here",
            ],
        );
    }

    #[test]
    fn text_that_is_no_toml_has_a_line() {
        let faults = Text::new("f", "name = 'a'\n= 3\n").read::<Outer>().unwrap_err();
        assert_eq!(faults[0].line, 2);
    }

    #[test]
    fn values_know_their_place() {
        let outer: Outer = Text::new("f", "name='a'\n[[inner]]\nport = 80\n").read().unwrap();
        let inner = &outer.inner[0];
        let port = inner.port.as_ref().unwrap();
        assert_eq!(
            (**port, Text::new("f", "name='a'\n[[inner]]\nport = 80\n").line_of(port.span.start)),
            (80, 3)
        );
        assert!(outer.name.is_some() && inner.mode.is_none() && inner.list.is_none());
        let _ = (Mode::Block, Mode::Observe);
    }
}
