//! The admin API as a page of the book, of its OpenAPI document.

use std::fmt::Write as _;

use serde_json::Value;

use super::pages::escaped;

/// Every endpoint, with what it takes and gives, and the types below them.
pub(super) fn page(document: &Value) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut page = format!(
        "# API\n\nMade of the document at `GET /api/v1/openapi.json`. {}\n\n",
        escaped(&text(document.get("info").and_then(|info| info.get("description"))))
    );
    for (path, operations) in document.get("paths").and_then(Value::as_object).into_iter().flatten() {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            let _ = writeln!(page, "## {} {}\n", method.to_uppercase(), path.replace('{', "\\{"));
            let _ = writeln!(page, "{}.\n", escaped(text(operation.get("summary")).trim_end_matches('.')));
            endpoint(operation, &mut page);
        }
    }
    page.push_str("## Types\n\n");
    let schemas = document.get("components").and_then(|components| components.get("schemas"));
    for (name, schema) in schemas.and_then(Value::as_object).into_iter().flatten() {
        describe(name, schema, &mut page);
    }
    page
}

fn endpoint(operation: &Value, page: &mut String) {
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut rows = String::new();
    for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        let what = escaped(&text(parameter, "description"));
        let _ = writeln!(rows, "| `{}` ({}) | {what} |", text(parameter, "name"), text(parameter, "in"));
    }
    if let Some(body) = operation.get("requestBody").and_then(schema_of_content) {
        let _ = writeln!(rows, "| body | {} |", kind(body));
    }
    for (status, answer) in operation.get("responses").and_then(Value::as_object).into_iter().flatten() {
        let described = text(answer, "description");
        let what = match schema_of_content(answer) {
            Some(schema) if described == "success" => kind(schema),
            _ => escaped(&described),
        };
        let _ = writeln!(rows, "| {status} | {what} |");
    }
    let _ = writeln!(page, "| | |\n|---|---|\n{rows}");
}

/// The schema of the first kind of content.
fn schema_of_content(holder: &Value) -> Option<&Value> {
    holder.get("content")?.as_object()?.values().next()?.get("schema")
}

fn describe(name: &str, schema: &Value, page: &mut String) {
    let described =
        |schema: &Value| escaped(schema.get("description").and_then(Value::as_str).unwrap_or_default());
    let _ = writeln!(page, "### {name}\n\n{}\n", described(schema));
    let fields = schema.get("properties").and_then(Value::as_object);
    match fields.filter(|fields| !fields.is_empty()) {
        Some(fields) => {
            page.push_str("| field | type | what |\n|---|---|---|\n");
            for (field, schema) in fields {
                let _ = writeln!(page, "| `{field}` | {} | {} |", kind(schema), described(schema));
            }
            page.push('\n');
        }
        None => _ = writeln!(page, "{}\n", kind(schema)),
    }
}

/// The type in words, with links to those that have a name.
fn kind(schema: &Value) -> String {
    if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
        let name = path.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(word) = schema.get("const") {
        return format!("`{word}`");
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ");
    }
    let choices = ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema.get(*key)?.as_array());
    if let Some(choices) = choices {
        return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    match schema.get("type") {
        Some(Value::String(only)) if only == "array" => {
            format!("list of {}", schema.get("items").map_or_else(|| "anything".to_owned(), kind))
        }
        Some(Value::String(only)) => only.clone(),
        Some(Value::Array(several)) => {
            several.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or ")
        }
        _ => "anything".to_owned(),
    }
}
