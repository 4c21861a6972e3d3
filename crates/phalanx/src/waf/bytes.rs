//! The bytes of a go-ftw stage: what go-ftw would write, down to its completions and encodings.

use anyhow::{Context as _, bail};
use base64::Engine as _;

use super::suite::Input;

impl Input {
    /// The bytes that go-ftw would write.
    pub(crate) fn raw(&self) -> anyhow::Result<Vec<u8>> {
        if let Some(encoded) = &self.encoded_request {
            return decoded(encoded).context("encoded_request is not base64");
        }
        let mut data = match (&self.data, &self.encoded_data) {
            (Some(data), _) => expanded(data)?.into_bytes(),
            (None, Some(encoded)) => decoded(encoded).context("encoded_data is not base64")?,
            (None, None) => Vec::new(),
        };
        let method = self.method.as_deref().unwrap_or("GET");
        let mut fields = Fields(self.fields());
        let completes = self.autocomplete_headers.unwrap_or(true) && !self.stop_magic.unwrap_or(false);
        if completes && !data.is_empty() {
            fields.complete("Content-Type", || FORM.to_owned());
            if fields.values("Content-Type").any(|value| value == FORM) {
                data = form_encoded(data);
            }
        }
        if fields.values("Content-Type").any(|value| value.contains("multipart/form-data;")) {
            data = with_crlf(&data);
        }
        if completes {
            fields.complete("Connection", || "close".to_owned());
            if !data.is_empty() || matches!(method, "POST" | "PUT" | "PATCH" | "DELETE") {
                fields.complete("Content-Length", || data.len().to_string());
            }
        }
        let uri = self.uri.as_deref().unwrap_or("/");
        let version = self.version.as_deref().unwrap_or("HTTP/1.1");
        let mut raw = format!("{method} {uri} {version}\r\n").into_bytes();
        for (name, value) in &fields.0 {
            raw.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        raw.extend_from_slice(b"\r\n");
        raw.extend_from_slice(&data);
        Ok(raw)
    }

    fn fields(&self) -> Vec<(String, String)> {
        match (&self.ordered_headers, &self.headers) {
            (Some(ordered), _) => ordered.iter().map(|f| (f.name.clone(), f.value.clone())).collect(),
            (None, Some(fields)) => fields.0.clone(),
            (None, None) => Vec::new(),
        }
    }
}

/// Header fields that are being completed.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn complete(&mut self, name: &str, value: impl FnOnce() -> String) {
        if self.values(name).next().is_none() {
            self.0.push((name.to_owned(), value()));
        }
    }
}

/// Base 64, which the files break into lines.
fn decoded(encoded: &str) -> Result<Vec<u8>, base64::DecodeError> {
    let joined: String = encoded.split_ascii_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(joined)
}

/// Data with its Go templates evaluated: `{{ "x" | repeat 3 }}` or `{{ repeat 3 "x" }}`; the files use no others.
fn expanded(data: &str) -> anyhow::Result<String> {
    let mut out = String::new();
    let mut rest = data;
    while let Some((before, after)) = rest.split_once("{{") {
        let (template, after) = after.split_once("}}").context("a template has no end")?;
        let words: Vec<&str> = template.split_whitespace().collect();
        let (text, count) = match words.as_slice() {
            [text, "|", "repeat", count] | ["repeat", count, text] => (*text, count.parse::<usize>().ok()),
            _ => bail!("the template {{{{{template}}}}} is not known"),
        };
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let (Some(text), Some(count @ 0..=REPEAT_MAX)) = (text, count) else {
            bail!("the template {{{{{template}}}}} is not known");
        };
        out.push_str(before);
        out.push_str(&text.repeat(count));
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// A form whose names and values are not encoded yet, encoded.
fn form_encoded(data: Vec<u8>) -> Vec<u8> {
    if data.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return data;
    }
    // Go's loop ends with the data, so that an `&` at the end is lost.
    let data = data.strip_suffix(b"&").unwrap_or(&data);
    let pairs = data.split(|&byte| byte == b'&').map(|pair| {
        let mut halves = pair.splitn(2, |&byte| byte == b'=').map(query_escaped);
        let name = halves.next().unwrap_or_default();
        halves.next().map_or_else(|| name.clone(), |value| [&name[..], b"=", &value].concat())
    });
    pairs.collect::<Vec<_>>().join(&b'&')
}

/// As Go's `url.QueryEscape`.
fn query_escaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out
}

/// Multipart bodies are sent with CRLF, whatever the file has.
fn with_crlf(data: &[u8]) -> Vec<u8> {
    data.split(|&byte| byte == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..])
}

const FORM: &str = "application/x-www-form-urlencoded";
/// More than any test sends.
const REPEAT_MAX: usize = 1 << 20;

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
             Connection: close\r\nContent-Length: 3\r\n\r\na=b"
        );
        for switch in ["autocomplete_headers: false", "stop_magic: true"] {
            assert_eq!(raw(&format!("{yaml}{switch}\n")), "POST /p HTTP/1.1\r\nHost: h\r\nX: 7\r\n\r\na=b");
        }
    }

    #[test]
    fn an_encoded_request_is_sent_as_it_is() {
        assert_eq!(raw("encoded_request: R0VUIC8NCg0K"), "GET /\r\n\r\n");
    }

    #[test]
    fn plain_forms_are_encoded_and_encoded_ones_are_left_alone() {
        let encoded = |data: &str| String::from_utf8(form_encoded(data.as_bytes().to_vec())).unwrap();
        for (data, expected) in [
            ("a=<b c>&d=e=f&g", "a=%3Cb+c%3E&d=e%3Df&g"),
            ("a=%3Cb", "a=%3Cb"),
            ("a=b+<c", "a=b+<c"),
            ("a=b&", "a=b"),
            ("", ""),
        ] {
            assert_eq!(encoded(data), expected);
        }
    }

    #[test]
    fn templates_are_evaluated_or_refused() {
        assert_eq!(expanded("a={{ \"xy\" | repeat 3 }}&b={{repeat 2 \"z\"}}").unwrap(), "a=xyxyxy&b=zz");
        for unknown in ["{{", "{{ 7 }}", "{{ \"a\" | upper }}", "{{ a | repeat 2 }}", "{{ repeat -1 \"a\" }}"]
        {
            assert!(expanded(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn multipart_bodies_have_crlf() {
        let yaml = "headers:\n  Content-Type: multipart/form-data; boundary=x\ndata: \"--x\\nb\\n--x--\"\n";
        assert!(raw(yaml).ends_with("Content-Length: 13\r\n\r\n--x\r\nb\r\n--x--"), "{}", raw(yaml));
    }
}
