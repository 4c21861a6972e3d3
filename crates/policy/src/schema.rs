//! JSON Schemas of files that people write, for their editors and for the book: made of the types that read the files.
//!
//! INVARIANT: what reading refuses for its form (an unknown key, a wrong type, an unknown word), the schema refuses, and nothing
//! that can be read. What values mean is for `phalanx check` to say.

use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value};

use crate::raw::RawPolicy;

/// That of a policy file.
pub fn policy_schema() -> Value {
    file_schema::<RawPolicy>("Phalanx policy")
}

/// That of a file that is read into a type.
pub fn file_schema<T: JsonSchema>(title: &str) -> Value {
    // The draft that editors for TOML know.
    let mut settings = SchemaSettings::draft07();
    // Before what makes draft 07 of it.
    settings.transforms.insert(0, Box::new(as_toml));
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("title".to_owned(), Value::String(title.to_owned()));
    }
    schema
}

/// A field with this attribute may also be written under the name that it gives.
pub const ALSO: &str = "x-also";

/// TOML has no null: a key is there or not.
fn as_toml(schema: &mut Schema) {
    transform_subschemas(&mut as_toml, schema);
    let Some(fields) = schema.as_object_mut() else { return };
    fields.remove("format");
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            fields.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(words)) = fields.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    without_null(fields);
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        name_also(properties);
    }
}

/// A choice between something and null is that something.
fn without_null(fields: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = fields.get_mut("anyOf") else { return };
    choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        fields.remove("anyOf");
        for (key, value) in only {
            fields.entry(key).or_insert(value);
        }
    }
}

fn name_also(properties: &mut Map<String, Value>) {
    let mut others = Vec::new();
    for (name, property) in properties.iter_mut() {
        let Some(fields) = property.as_object_mut() else { continue };
        if let Some(Value::String(other)) = fields.remove(ALSO) {
            let mut same = fields.clone();
            same.insert("description".to_owned(), Value::String(format!("The same as `{name}`.")));
            others.push((other, Value::Object(same)));
        }
    }
    properties.extend(others);
}
