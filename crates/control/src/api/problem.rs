//! What is told of a call that was refused or failed: RFC 9457, with members of our own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Diagnostic;

/// Every answer that is no success, as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// What kind of problem this is: `urn:phalanx:api:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words, the same each time.
    pub title: String,
    /// The answer's HTTP status.
    pub status: u16,
    /// What went wrong this time, for people.
    pub detail: String,
    /// What went wrong, for programs.
    pub code: String,
    /// The site of the node that has the answer, for `elsewhere`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// The node that has the answer, for `elsewhere`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What is wrong with a policy that was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
}

impl Problem {
    /// The media type.
    pub const MEDIA_TYPE: &str = "application/problem+json";

    /// A problem of the kind that `code` names.
    pub fn new(status: u16, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:phalanx:api:{code}"),
            title: title(code),
            status,
            detail: detail.into(),
            code: code.to_owned(),
            site: None,
            node: None,
            diagnostics: Vec::new(),
        }
    }

    /// Reads an answer: of this version, or of a node before it, which said `error` with a code and a message.
    pub fn read(status: u16, body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Before {
            error: BeforeError,
            #[serde(default)]
            diagnostics: Vec<Diagnostic>,
        }
        #[derive(Deserialize)]
        struct BeforeError {
            code: String,
            message: String,
            site: Option<String>,
            node: Option<String>,
        }
        if let Ok(problem) = serde_json::from_slice(body) {
            return Some(problem);
        }
        let Before { error, diagnostics } = serde_json::from_slice(body).ok()?;
        let problem = Self::new(status, &error.code, error.message);
        Some(Self { site: error.site, node: error.node, diagnostics, ..problem })
    }
}

/// A code in words: `would_refuse_many` is "Would refuse many".
fn title(code: &str) -> String {
    let words = code.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_read_as_it_was_written_and_as_nodes_before_wrote_it() {
        let problem = Problem {
            site: Some("syd".into()),
            node: Some("syd-1".into()),
            ..Problem::new(404, "elsewhere", "ask there")
        };
        assert_eq!(
            (problem.kind.as_str(), problem.title.as_str()),
            ("urn:phalanx:api:elsewhere", "Elsewhere")
        );
        let text = serde_json::to_vec(&problem).unwrap();
        assert_eq!(Problem::read(404, &text), Some(problem.clone()));
        let before = br#"{"error":{"code":"elsewhere","message":"ask there","site":"syd","node":"syd-1"}}"#;
        assert_eq!(Problem::read(404, before), Some(problem));
        assert_eq!(Problem::read(404, b"<html>not ours</html>"), None);
        assert_eq!(Problem::new(409, "would_refuse_many", "").title, "Would refuse many");
    }
}
