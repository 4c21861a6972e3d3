//! Access to third-party test suites, which are used by path and are not part of the project.

#![expect(unreachable_pub, reason = "shared by test files that each use a part of it")]

use std::path::PathBuf;

use serde_json::Value;

/// A folder below the one that `PHALANX_SHARED` names. Without it the test is skipped, except in CI.
pub fn folder(below: &str) -> Option<PathBuf> {
    match std::env::var_os("PHALANX_SHARED") {
        Some(shared) => Some(PathBuf::from(shared).join(below)),
        None => {
            assert!(std::env::var_os("CI").is_none(), "PHALANX_SHARED must be set in CI");
            println!("skipped: {below} needs PHALANX_SHARED");
            None
        }
    }
}

/// The cases of `name.json`; none when there is no such file.
pub fn cases(folder: &std::path::Path, name: &str) -> Vec<Value> {
    let Ok(text) = std::fs::read_to_string(folder.join(format!("{name}.json"))) else { return Vec::new() };
    serde_json::from_str(&text).expect("a suite file is JSON")
}

/// A text field as bytes: UTF-8, then `\xHH` and `\uHHHH` inside the text to single bytes, as the suite's own
/// runner reads it.
pub fn bytes(case: &Value, field: &str) -> Vec<u8> {
    let text = case.get(field).and_then(Value::as_str).unwrap_or_default().as_bytes();
    unescape(&unescape(text, b'x', 2), b'u', 4)
}

/// As [`bytes`], but the text ends at its first NUL character: the suite's runner keeps it in a C string.
pub fn c_string(case: &Value, field: &str) -> Vec<u8> {
    let text = case.get(field).and_then(Value::as_str).unwrap_or_default();
    let text = text.split('\0').next().unwrap_or_default().as_bytes();
    unescape(&unescape(text, b'x', 2), b'u', 4)
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
                let value = code.iter().map_while(|&d| (d as char).to_digit(16)).fold(0, |v, d| v * 16 + d);
                out.push(value as u8);
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
