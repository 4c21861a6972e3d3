//! The keys of a file as a page of the book, of the file's schema.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::SchemaOf;
use super::pages::escaped;

/// A page with a table for each table of the file.
pub(super) fn page(file: SchemaOf, schema: &Value) -> String {
    let (title, about) = match file {
        SchemaOf::Settings => {
            ("Every setting of phalanx.toml", "A node's settings: [what they are for](../guide/settings.md).")
        }
        SchemaOf::Policy => (
            "Every key of a policy",
            "What a policy says of apps and how they are protected: [settings and policy files](../guide/settings.md#policytoml).",
        ),
        SchemaOf::Test => (
            "Every key of a policy's tests",
            "What is expected of a policy: [testing a policy](../guide/policy-test.md).",
        ),
    };
    let mut writer = Writer {
        schema,
        page: format!(
            "# {title}\n\n{about} Made of the types that read the file, as its [schema]({}.schema.json) is.\n\n",
            file.name()
        ),
        told: BTreeSet::new(),
    };
    writer.table("", schema);
    writer.page
}

struct Writer<'a> {
    schema: &'a Value,
    page: String,
    /// Types that have been described, by their definition's name: a type that several keys have stands once.
    told: BTreeSet<&'a str>,
}

/// What a key holds.
struct Held<'a> {
    /// In words, as in `list of texts`.
    kind: String,
    /// The words that it may be, with what each means.
    words: Vec<(String, &'a str)>,
    /// The table that it is or lists, with its place after the key's name (`[]`, `.NAME`).
    table: Option<(&'static str, Option<&'a str>, &'a Value)>,
}

impl<'a> Writer<'a> {
    fn table(&mut self, place: &str, table: &'a Value) {
        let Some(Value::Object(properties)) = table.get("properties") else { return };
        let required: Vec<&str> = table
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !place.is_empty() {
            let _ = writeln!(self.page, "## {place}\n\n{}\n", escaped(described(table)));
        }
        self.page.push_str("| key | type | what |\n|---|---|---|\n");
        let mut below = Vec::new();
        for (key, property) in properties {
            let held = self.held(property);
            let mut what = escaped(described(property));
            for (word, meaning) in &held.words {
                let meaning = meaning.trim_end_matches('.');
                let _ = match meaning {
                    "" => write!(what, " `\"{word}\"`."),
                    _ => write!(what, " `\"{word}\"`: {}.", lowered(&escaped(meaning))),
                };
            }
            if required.contains(&key.as_str()) {
                what.push_str(" Required.");
            }
            if let Some((after, name, table)) = held.table {
                let inner = format!(
                    "{}{key}{after}",
                    if place.is_empty() { String::new() } else { format!("{place}.") }
                );
                if name.is_none_or(|name| self.told.insert(name)) {
                    below.push((inner, table));
                }
            }
            let _ = writeln!(self.page, "| `{key}` | {} | {what} |", held.kind);
        }
        self.page.push('\n');
        for (place, table) in below {
            self.table(&place, table);
        }
    }

    fn held(&self, property: &'a Value) -> Held<'a> {
        let (name, schema) = self.resolved(property);
        let text = |kind: &str| Held { kind: kind.to_owned(), words: Vec::new(), table: None };
        if let Some(choices) = choices(schema) {
            let words: Vec<_> = choices.iter().filter_map(word).collect();
            if words.len() == choices.len() {
                return Held { words, ..text("word") };
            }
            let held: Vec<_> = choices.iter().map(|choice| self.held(choice)).collect();
            let kind = held.iter().map(|held| held.kind.as_str()).collect::<Vec<_>>().join(" or ");
            return Held { kind, words: Vec::new(), table: held.into_iter().find_map(|held| held.table) };
        }
        if let Some(Value::Array(words)) = schema.get("enum") {
            let words = words.iter().filter_map(Value::as_str).map(|word| (word.to_owned(), "")).collect();
            return Held { words, ..text("word") };
        }
        match schema.get("type").and_then(Value::as_str).unwrap_or_default() {
            "boolean" => text("true or false"),
            "integer" | "number" => text("number"),
            "string" => text("text"),
            "array" => {
                let Some(items) = schema.get("items") else { return text("list") };
                let inner = self.held(items);
                let table = inner.table.map(|(_, name, table)| ("[]", name, table));
                Held { kind: format!("list of {}", plural(&inner.kind)), words: inner.words, table }
            }
            _ if schema.get("properties").is_some() => {
                Held { table: Some(("", name, schema)), ..text("table") }
            }
            "object" => match schema.get("additionalProperties") {
                Some(values @ Value::Object(_)) => {
                    let inner = self.held(values);
                    let table = inner.table.map(|(_, name, table)| (".NAME", name, table));
                    Held { kind: format!("table of {}", plural(&inner.kind)), words: inner.words, table }
                }
                _ => text("table"),
            },
            _ => text("any"),
        }
    }

    /// What a reference leads to, and the name of the definition.
    fn resolved(&self, property: &'a Value) -> (Option<&'a str>, &'a Value) {
        let referred = property.get("$ref").or_else(|| property.get("allOf")?.get(0)?.get("$ref"));
        let name = referred.and_then(Value::as_str).and_then(|path| path.strip_prefix("#/definitions/"));
        match name.and_then(|name| Some((name, self.schema.get("definitions")?.get(name)?))) {
            Some((name, schema)) => (Some(name), schema),
            None => (None, property),
        }
    }
}

fn choices(schema: &Value) -> Option<&Vec<Value>> {
    schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()
}

/// A choice that is one word.
fn word(choice: &Value) -> Option<(String, &str)> {
    let word = choice.get("const").or_else(|| choice.get("enum")?.get(0))?.as_str()?;
    Some((word.to_owned(), described(choice)))
}

fn described(schema: &Value) -> &str {
    schema
        .as_object()
        .and_then(|fields: &Map<String, Value>| fields.get("description")?.as_str())
        .unwrap_or_default()
}

fn plural(kind: &str) -> String {
    match kind {
        "true or false" | "any" => kind.to_owned(),
        _ => kind.split(" or ").map(|kind| format!("{kind}s")).collect::<Vec<_>>().join(" or "),
    }
}

/// A sentence in the middle of another.
fn lowered(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) if characters.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(characters).collect()
        }
        _ => text.to_owned(),
    }
}
