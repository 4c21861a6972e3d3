//! Findings of the edge itself, about a header field: no rule made them.

use std::sync::Arc;

use phalanx_model::limits::FRAGMENT_BYTES_MAX;
use phalanx_model::{Edition, RuleClass, RuleInfo, RuleMatch, Severity, Signal};

use crate::mask::text;

/// What stands for a rule in such findings.
pub(crate) fn rule(class: RuleClass, severity: Severity, tag: &str) -> Arc<RuleInfo> {
    Arc::new(RuleInfo {
        // No rule has it.
        id: 0,
        file: "edge".into(),
        line: 0,
        class,
        severity: Some(severity),
        tags: vec![tag.into()],
        edition: Edition::default(),
        unaudited: false,
        source: "".into(),
    })
}

/// What was found about a field. It adds to no score.
pub(crate) fn about_field(rule: &Arc<RuleInfo>, message: String, field: &str, value: &[u8]) -> Signal {
    Signal {
        rule: Arc::clone(rule),
        phase: 1,
        message,
        verbatim: false,
        data: String::new(),
        matches: vec![RuleMatch {
            variable: format!("REQUEST_HEADERS:{field}"),
            fragment: text(value, FRAGMENT_BYTES_MAX),
            value_hash: 0,
            transformations: Vec::new(),
            value: None,
            steps: Vec::new(),
        }],
        score: 0,
        inbound: None,
        observed: false,
    }
}
