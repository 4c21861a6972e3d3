//! `@validateSchema`: JSON against a JSON Schema, drafts 4 to 2020-12.
//!
//! INVARIANT: no I/O. A schema refers to itself and to the meta schemas of its drafts only.

use std::error::Error;

use boon::{Compiler, SchemaIndex, Schemas, UrlLoader};
use serde_json::Value;

/// A compiled schema.
pub struct JsonSchema {
    schemas: Schemas,
    root: SchemaIndex,
}

impl JsonSchema {
    /// Compiles the text of a schema; the error is for its author.
    pub fn compile(text: &str) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("the schema is no JSON: {error}"))?;
        let mut compiler = Compiler::new();
        compiler.use_loader(Box::new(Nowhere));
        let mut schemas = Schemas::new();
        let describe = |error: String| format!("the schema does not compile: {error}");
        compiler.add_resource(PLACE, value).map_err(|error| describe(error.to_string()))?;
        let root = compiler.compile(PLACE, &mut schemas).map_err(|error| describe(error.to_string()))?;
        Ok(Self { schemas, root })
    }

    /// Whether the bytes are something, and no JSON that conforms to the schema.
    pub fn is_violated_by(&self, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return false;
        }
        match serde_json::from_slice::<Value>(bytes) {
            Ok(value) => self.schemas.validate(&value, self.root).is_err(),
            // Also what nests deeper than 128, where the parser gives up.
            Err(_) => true,
        }
    }
}

impl std::fmt::Debug for JsonSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JsonSchema")
    }
}

/// Refuses to load what a schema refers to.
struct Nowhere;

impl UrlLoader for Nowhere {
    fn load(&self, url: &str) -> Result<Value, Box<dyn Error>> {
        Err(format!("`{url}` is not fetched: a schema can refer to itself only").into())
    }
}

/// The address of the schema itself, for its references.
const PLACE: &str = "json-schema:///schema.json";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &str, conforms: &[&str], violates: &[&str]) {
        let schema = JsonSchema::compile(schema).unwrap();
        for json in conforms {
            assert!(!schema.is_violated_by(json.as_bytes()), "{json}");
        }
        for json in violates {
            assert!(schema.is_violated_by(json.as_bytes()), "{json}");
        }
    }

    #[test]
    fn json_conforms_or_not() {
        check(
            r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","required":["id"],
                "properties":{"id":{"type":"integer","minimum":1},"tags":{"$ref":"#/$defs/tags"}},
                "additionalProperties":false,"$defs":{"tags":{"type":"array","maxItems":2,"items":{"type":"string","pattern":"^[a-z]+$"}}}}"##,
            &[r#"{"id":1}"#, r#"{"id":7,"tags":["a","b"]}"#, ""],
            &[
                "{}",
                r#"{"id":0}"#,
                r#"{"id":"1"}"#,
                r#"{"id":1,"x":1}"#,
                r#"{"id":1,"tags":["A"]}"#,
                "id=1",
                "{",
                "\u{0}",
            ],
        );
        check(
            r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"array","items":{"type":"number"}}"#,
            &["[1,2.5]", "[]"],
            &["[true]", "{}"],
        );
    }

    #[test]
    fn nothing_is_fetched_and_faults_are_told() {
        for (schema, told) in [
            ("{", "the schema is no JSON"),
            (r#"{"type":"strin"}"#, "the schema does not compile"),
            (r#"{"$ref":"https://example.org/other.json"}"#, "the schema does not compile"),
            (r#"{"$ref":"file:///etc/passwd"}"#, "the schema does not compile"),
            (r#"{"pattern":"("}"#, "the schema does not compile"),
        ] {
            let error = JsonSchema::compile(schema).unwrap_err();
            assert!(error.starts_with(told), "{schema}: {error}");
        }
    }

    #[test]
    fn deep_values_are_violations() {
        let schema = JsonSchema::compile("{}").unwrap();
        assert!(!schema.is_violated_by(b"[[[]]]"));
        assert!(schema.is_violated_by("[".repeat(100_000).as_bytes()));
    }
}
