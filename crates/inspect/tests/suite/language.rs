//! The SecLang language tests: their files, and their texts as bytes.

#![expect(unreachable_pub, reason = "shared by test files")]

use serde_json::Value;

/// The cases of `name.json`; none when there is no such file.
pub fn cases(folder: &std::path::Path, name: &str) -> Vec<Value> {
    let Ok(text) = std::fs::read_to_string(folder.join(format!("{name}.json"))) else { return Vec::new() };
    serde_json::from_str(&text).expect("a suite file is JSON")
}

/// A text field as bytes.
pub fn bytes(case: &Value, field: &str) -> Vec<u8> {
    unescaped(case.get(field).and_then(Value::as_str).unwrap_or_default())
}

/// A text as the suite's own runner reads it: UTF-8, then `\xHH` and `\uHHHH` in it to single bytes.
pub fn unescaped(text: &str) -> Vec<u8> {
    unescape(&unescape(text.as_bytes(), b'x', 2), b'u', 4)
}

fn unescape(text: &[u8], mark: u8, digits: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut index = 0;
    while index < text.len() {
        let code = text.get(index + 2..index + 2 + digits);
        match code {
            Some(code)
                if text[index] == b'\\'
                    && text[index + 1] == mark
                    && code.iter().all(u8::is_ascii_alphanumeric) =>
            {
                // The runner reads the hexadecimal digits that are there, as `sscanf` does.
                let value =
                    code.iter().map_while(|&d| (d as char).to_digit(16)).fold(0, |v: u32, d| v * 16 + d);
                out.push(value.to_le_bytes()[0]);
                index += 2 + digits;
            }
            _ => {
                out.push(text[index]);
                index += 1;
            }
        }
    }
    out
}
