//! Where each version of the fleet's policy comes from: who made it, why, when and of what, and what became of it. It travels in the
//! policy record, one entry for each version that the record remembers.
//!
//! INVARIANT: it decides nothing. A record means the same with and without it, so that nodes of a version that does not know of it, and
//! drop it, run the same policy.

use phalanx_model::Author;
use phalanx_model::limits::{
    ORIGIN_REASON_BYTES_MAX, ORIGIN_WORD_BYTES_MAX, POLICY_CHAIN_MAX, POLICY_RECORD_BYTES_MAX,
};
use serde::{Deserialize, Serialize};

use super::record::PolicyRecord;

/// Who makes a version, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maker {
    /// Who orders it: an operator's name, or whoever has the node.
    pub author: String,
    /// Who else looked at it and approved.
    pub approved_by: Option<String>,
    /// Of what it is made: `files`, `version 12`, `commit 4f2a...`.
    pub source: String,
}

impl Maker {
    /// Somebody who gives files, and needs nobody's approval.
    pub fn of_files(author: impl Into<String>) -> Self {
        Self { author: author.into(), approved_by: None, source: FILES.to_owned() }
    }
}

/// One version's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The version.
    pub version: u64,
    /// Who ordered it.
    pub author: String,
    /// The node that he asked: `fra/a`.
    pub node: String,
    /// Who else approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// Why; empty if he did not say.
    pub reason: String,
    /// Of what it was made.
    pub source: String,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// What became of it.
    pub result: PolicyResult,
    /// Why that, and by whom; empty if it was made so.
    #[serde(default)]
    pub result_reason: String,
    /// Since when, in Unix milliseconds.
    pub result_at_ms: u64,
}

/// What became of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyResult {
    /// Some nodes try it.
    OnTrial,
    /// It was given to all nodes at once.
    Published,
    /// It was tried, then given to all nodes.
    Promoted,
    /// It was taken back.
    RolledBack,
    /// What a later version of the product says.
    #[serde(other)]
    Unknown,
}

impl PolicyResult {
    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::OnTrial => "on trial",
            Self::Published => "published",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled back",
            Self::Unknown => "unknown",
        }
    }
}

impl Origin {
    /// The newest version's, as it is made.
    pub(crate) fn of(record: &PolicyRecord, maker: Maker, by: &Author, reason: &str) -> Self {
        let at_ms = record.changed_at_ms;
        Self {
            version: record.newest().version,
            author: cut(&maker.author, ORIGIN_WORD_BYTES_MAX),
            node: format!("{}/{}", by.site, by.node),
            approved_by: maker.approved_by.map(|name| cut(&name, ORIGIN_WORD_BYTES_MAX)),
            reason: cut(reason, ORIGIN_REASON_BYTES_MAX),
            source: cut(&maker.source, ORIGIN_WORD_BYTES_MAX),
            at_ms,
            result: if record.trial.is_some() { PolicyResult::OnTrial } else { PolicyResult::Published },
            result_reason: String::new(),
            result_at_ms: at_ms,
        }
    }

    fn fits(&self) -> bool {
        let words = [&self.author, &self.source].into_iter().chain(&self.approved_by);
        words.into_iter().all(|word| word.len() <= ORIGIN_WORD_BYTES_MAX)
            && self.node.len() <= NODE_BYTES_MAX
            && [&self.reason, &self.result_reason].iter().all(|why| why.len() <= ORIGIN_REASON_BYTES_MAX)
    }
}

impl PolicyRecord {
    /// Where a version comes from; nothing if it was made before nodes told that, or by one that does not.
    pub fn origin(&self, version: u64) -> Option<&Origin> {
        self.origins.iter().find(|origin| origin.version == version)
    }

    /// Notes what becomes of a version.
    pub(crate) fn ends(&mut self, version: u64, result: PolicyResult, reason: &str) {
        let at_ms = self.changed_at_ms;
        if let Some(origin) = self.origins.iter_mut().find(|origin| origin.version == version) {
            origin.result = result;
            origin.result_reason = cut(reason, ORIGIN_REASON_BYTES_MAX);
            origin.result_at_ms = at_ms;
        }
    }

    /// Leaves out those of versions that the record does not remember, then the oldest until the record has a size that all take: a
    /// record must not fail for its paperwork.
    pub(crate) fn trim_origins(&mut self) {
        let chain = &self.chain;
        self.origins.retain(|origin| chain.iter().any(|link| link.version == origin.version));
        let bytes = |record: &Self| serde_json::to_vec(record).map_or(usize::MAX, |body| body.len());
        while !self.origins.is_empty() && bytes(self) > POLICY_RECORD_BYTES_MAX {
            self.origins.remove(0);
        }
    }

    /// Whether what it says of its versions has fitting lengths.
    pub(crate) fn origins_fit(&self) -> bool {
        self.origins.len() <= POLICY_CHAIN_MAX && self.origins.iter().all(Origin::fits)
    }
}

/// Text of at most so many bytes, as one line.
fn cut(text: &str, bytes_max: usize) -> String {
    let mut out = String::new();
    for char in text.chars().map(|char| if char.is_control() { ' ' } else { char }) {
        if out.len() + char.len_utf8() > bytes_max {
            break;
        }
        out.push(char);
    }
    out
}

/// The source of what was given as files.
pub const FILES: &str = "files";
/// A site's and a node's name.
const NODE_BYTES_MAX: usize = 127;
