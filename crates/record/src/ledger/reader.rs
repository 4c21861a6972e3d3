//! Reads the ledger back, newest first, in plain words, and follows its chain.
//!
//! Files that are full are followed once, and again when they have another length or time; the newest is followed each time. One call reads
//! [`LEDGER_CHECKED_BYTES_MAX`] at most for that, so the chain of a very long ledger is followed in some calls.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use phalanx_model::limits::{HISTORY_PAGE_MAX, LEDGER_CHECKED_BYTES_MAX, LEDGER_FILES_READ_MAX};
use phalanx_model::{LedgerKind, RequestId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Head, LedgerLine, file_number, files, hash, walk};
use crate::RecordError;
use crate::rfc3339;

/// Which entries to return. Everything given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerFilter {
    /// Only entries with a smaller number.
    pub before: Option<u64>,
    /// Only entries of this kind: `operator_action`.
    pub kind: Option<String>,
    /// Only entries by this author, a part of the name.
    pub by: Option<String>,
    /// At most this many; [`HISTORY_PAGE_MAX`] at most, and 0 means 50.
    pub limit: usize,
}

/// One entry of the ledger, told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditEntry {
    /// Its number; they count from 1, without gaps.
    pub seq: u64,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// SHA-256 of its line, in hexadecimal; the next line holds it.
    pub hash: String,
    /// What kind of entry it is: `decided`, `withdrawn`, `recalled`, `listed`, `held`, `policy_changed`, `policy_refused`,
    /// `operator_action`, `overload` or `node`.
    pub kind: String,
    /// Who did it; none where the node did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What happened, in plain words. May quote what operators wrote.
    pub words: String,
    /// The entry as it is written.
    pub data: Value,
}

/// Whether the ledger is as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditChain {
    /// Whether each entry that was looked at follows the one before it.
    pub ok: bool,
    /// Whether all entries were looked at; a long ledger takes some calls.
    pub whole: bool,
    /// The number of the last entry that was looked at.
    pub length: u64,
    /// The hash of that entry.
    pub head: String,
    /// Where it departs from the chain, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A page of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditPage {
    /// Newest first.
    pub entries: Vec<AuditEntry>,
    /// Entries `before` this number go on; none if there is nothing older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Whether the ledger is as it was written.
    pub chain: AuditChain,
}

/// Reads a ledger beside its writer; cheap to clone. Its methods block.
#[derive(Debug, Clone)]
pub struct LedgerReader {
    dir: Arc<PathBuf>,
    checked: Arc<Mutex<Vec<Checked>>>,
}

/// A file whose chain was followed.
#[derive(Debug, Clone)]
struct Checked {
    path: PathBuf,
    /// Length and time of the last change, by which a change is noticed.
    state: (u64, Option<SystemTime>),
    head: Head,
}

impl LedgerReader {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir: Arc::new(dir), checked: Arc::default() }
    }

    /// A page, newest first.
    pub fn page(&self, filter: &LedgerFilter) -> Result<AuditPage, RecordError> {
        let failed = |source| RecordError::Io { path: self.dir.to_path_buf(), source };
        let chain = self.chain().map_err(failed)?;
        let (entries, next) = self.entries(filter).map_err(failed)?;
        Ok(AuditPage { entries, next, chain })
    }

    fn entries(&self, filter: &LedgerFilter) -> io::Result<(Vec<AuditEntry>, Option<u64>)> {
        let limit = if filter.limit == 0 { PAGE_DEFAULT } else { filter.limit.min(HISTORY_PAGE_MAX) };
        let mut found = Vec::new();
        let (mut files_read, mut read_from) = (0, None);
        for path in files(&self.dir)?.iter().rev() {
            let first = file_number(path);
            if filter.before.is_some_and(|before| first >= before) {
                continue;
            }
            if files_read == LEDGER_FILES_READ_MAX {
                return Ok((found, read_from));
            }
            files_read += 1;
            read_from = Some(first);
            let bytes = fs::read(path)?;
            for text in bytes.split(|byte| *byte == b'\n').rev() {
                // What is no entry is told by the chain.
                let Ok(line) = serde_json::from_slice::<LedgerLine>(text) else { continue };
                if filter.before.is_some_and(|before| line.sequence >= before) {
                    continue;
                }
                let seq = line.sequence;
                found.extend(entry(line, text).filter(|entry| holds(filter, entry)));
                if found.len() == limit {
                    return Ok((found, Some(seq).filter(|seq| *seq > 1)));
                }
            }
        }
        Ok((found, None))
    }

    /// Follows the chain as far as is affordable.
    fn chain(&self) -> io::Result<AuditChain> {
        let mut checked = self.checked.lock();
        let files = files(&self.dir)?;
        let (mut head, mut bytes_left) = (None::<Head>, LEDGER_CHECKED_BYTES_MAX);
        for (index, path) in files.iter().enumerate() {
            let state = state(path)?;
            let newest = index + 1 == files.len();
            if let Some(known) =
                checked.get(index).filter(|one| one.path == *path && one.state == state && !newest)
            {
                head = Some(known.head.clone());
                continue;
            }
            checked.truncate(index);
            if state.0 > bytes_left && bytes_left < LEDGER_CHECKED_BYTES_MAX {
                return Ok(chain(head, None, false));
            }
            bytes_left = bytes_left.saturating_sub(state.0);
            let walked = walk(&fs::read(path)?, head.clone());
            let fault = walked.fault.filter(|_| !(walked.torn && newest));
            if let Some((line, cause)) = fault {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                return Ok(chain(Some(walked.head), Some(format!("{name}:{line}: {cause}")), true));
            }
            head = Some(walked.head.clone());
            if !newest {
                checked.push(Checked { path: path.clone(), state, head: walked.head });
            }
        }
        Ok(chain(head, None, true))
    }
}

fn chain(head: Option<Head>, fault: Option<String>, whole: bool) -> AuditChain {
    let head = head.unwrap_or_default();
    AuditChain { ok: fault.is_none(), whole, length: head.sequence, head: head.hash, fault }
}

fn state(path: &Path) -> io::Result<(u64, Option<SystemTime>)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.len(), metadata.modified().ok()))
}

fn holds(filter: &LedgerFilter, entry: &AuditEntry) -> bool {
    filter.kind.as_ref().is_none_or(|kind| *kind == entry.kind)
        && filter
            .by
            .as_ref()
            .is_none_or(|by| entry.by.as_ref().is_some_and(|name| name.contains(by.as_str())))
}

fn entry(line: LedgerLine, text: &[u8]) -> Option<AuditEntry> {
    let data = serde_json::to_value(&line.what).ok()?;
    let kind = data.get("entry")?.as_str()?.to_owned();
    let (by, words) = told(&line.what);
    Some(AuditEntry { seq: line.sequence, at_ms: line.at_ms, hash: hash(text), kind, by, words, data })
}

/// Who did it, and what it was.
fn told(kind: &LedgerKind) -> (Option<String>, String) {
    match kind {
        LedgerKind::Decided { decision } => (
            Some(decision.author.to_string()),
            format!(
                "{} {} until {}: {}{}",
                decision.kind.name(),
                decision.actor,
                rfc3339(decision.expires_at_ms),
                decision.reason,
                because(decision.evidence)
            ),
        ),
        LedgerKind::Withdrawn { withdrawal } => (
            Some(withdrawal.author.to_string()),
            format!("end decisions about {}: {}", withdrawal.actor, withdrawal.reason),
        ),
        LedgerKind::Recalled { recall } => (
            Some(recall.author.to_string()),
            format!("end everything that {} decided: {}", recall.target, recall.reason),
        ),
        LedgerKind::Listed { list } => (
            Some(list.author.to_string()),
            format!("blocklist {}, version {}: {}", list.name, list.version, list.reason),
        ),
        LedgerKind::Held { author, what, .. } => (
            Some(author.to_string()),
            format!("held for an operator, because it would refuse too many: {what}"),
        ),
        LedgerKind::PolicyChanged { from, to, summary } => {
            (None, format!("the policy in force is version {to} instead of {from}: {summary}"))
        }
        LedgerKind::PolicyRefused { error } => (None, format!("a policy was refused: {error}")),
        LedgerKind::OperatorAction { action, by } => {
            let (said, name) = match by {
                Some(by) => (action.strip_suffix(&format!(" (by {by})")), Some(by.clone())),
                None => by_suffix(action),
            };
            (name, said.unwrap_or(action).to_owned())
        }
        LedgerKind::Overload { level, usage } => (None, format!("load is {level}: {usage}")),
        LedgerKind::Node { state } => (None, format!("the node {state}")),
    }
}

fn because(evidence: Option<RequestId>) -> String {
    evidence.map(|id| format!(", because of request {id}")).unwrap_or_default()
}

/// An entry of an earlier version names who did it at its end. Its reason may do so too; what stands last was written by the node.
fn by_suffix(action: &str) -> (Option<&str>, Option<String>) {
    let parts = action.strip_suffix(')').and_then(|text| text.rsplit_once(" (by "));
    (parts.map(|(said, _)| said), parts.map(|(_, name)| name.to_owned()))
}

/// The kinds of entries.
pub const KINDS: [&str; 10] = [
    "decided",
    "withdrawn",
    "recalled",
    "listed",
    "held",
    "policy_changed",
    "policy_refused",
    "operator_action",
    "overload",
    "node",
];

const PAGE_DEFAULT: usize = 50;

#[cfg(test)]
mod tests {
    use super::super::Ledger;
    use super::*;
    use phalanx_model::LedgerEntry;

    fn action(n: u64, by: Option<&str>) -> LedgerEntry {
        let by = by.map(str::to_owned);
        let name = by.clone().unwrap_or_else(|| "eve".into());
        LedgerEntry {
            at_ms: n,
            kind: LedgerKind::OperatorAction {
                action: format!("action {n}: I am (by root) (by {name})"),
                by,
            },
        }
    }

    fn filled(dir: &Path, entries: u64) -> LedgerReader {
        // Some entries fill a file.
        let mut ledger = Ledger::open(dir, &"fra".into(), &"a".into(), 700, 99).unwrap().0;
        for n in 1..=entries {
            let entry = match n % 3 {
                0 => LedgerEntry { at_ms: n, kind: LedgerKind::Node { state: "started".into() } },
                1 => action(n, Some("operator ann")),
                _ => action(n, None),
            };
            ledger.append(&[entry]).unwrap();
        }
        LedgerReader::new(dir.to_path_buf())
    }

    /// The numbers of all that a filter finds, over its pages.
    fn all(reader: &LedgerReader, mut filter: LedgerFilter) -> Vec<u64> {
        let mut seen = Vec::new();
        loop {
            let page = reader.page(&filter).unwrap();
            assert!(page.chain.ok && page.chain.whole, "{:?}", page.chain);
            assert!(page.entries.len() <= filter.limit);
            seen.extend(page.entries.iter().map(|entry| entry.seq));
            filter.before = page.next;
            if filter.before.is_none() {
                break seen;
            }
        }
    }

    #[test]
    fn entries_come_newest_first_in_pages_over_files() {
        let dir = tempfile::tempdir().unwrap();
        let reader = filled(dir.path(), 20);
        assert!(files(dir.path()).unwrap().len() > LEDGER_FILES_READ_MAX);
        let pages = LedgerFilter { limit: 3, ..LedgerFilter::default() };
        assert_eq!(all(&reader, pages.clone()), (1..=20).rev().collect::<Vec<_>>());
        let of = |kind: &str, by: Option<&str>| {
            all(&reader, LedgerFilter { kind: Some(kind.into()), by: by.map(str::to_owned), ..pages.clone() })
        };
        assert_eq!(of("node", None), [18, 15, 12, 9, 6, 3]);
        assert_eq!(of("operator_action", Some("ann")), [19, 16, 13, 10, 7, 4, 1]);
        assert_eq!(of("operator_action", Some("root")), [0; 0]);
    }

    #[test]
    fn who_did_it_is_what_the_node_wrote_and_not_what_a_reason_says() {
        let dir = tempfile::tempdir().unwrap();
        let reader = filled(dir.path(), 2);
        let page = reader.page(&LedgerFilter::default()).unwrap();
        let told: Vec<_> = page.entries.iter().map(|one| (one.by.as_deref(), one.words.as_str())).collect();
        assert_eq!(
            told,
            [(Some("eve"), "action 2: I am (by root)"), (Some("operator ann"), "action 1: I am (by root)"),]
        );
        assert_eq!((page.chain.length, &page.chain.head), (2, &page.entries[0].hash));
    }

    #[test]
    fn a_change_in_a_file_that_was_followed_before_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let reader = filled(dir.path(), 20);
        assert!(reader.page(&LedgerFilter::default()).unwrap().chain.ok);
        let first = files(dir.path()).unwrap().remove(0);
        let text = fs::read_to_string(&first).unwrap().replace("action 1:", "action 9:");
        fs::write(&first, text).unwrap();
        // Its time may be the same; a clock of files is coarse.
        fs::File::options().append(true).open(&first).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let chain = reader.page(&LedgerFilter::default()).unwrap().chain;
        assert!(!chain.ok);
        assert!(chain.fault.unwrap().contains("does not follow the one before it"));
    }

    #[test]
    fn an_entry_that_is_being_written_is_no_fault() {
        let dir = tempfile::tempdir().unwrap();
        let reader = filled(dir.path(), 2);
        let last = files(dir.path()).unwrap().pop().unwrap();
        let mut bytes = fs::read(&last).unwrap();
        bytes.extend_from_slice(br#"{"schema":1,"seq"#);
        fs::write(&last, bytes).unwrap();
        assert_eq!(all(&reader, LedgerFilter { limit: 9, ..LedgerFilter::default() }), [2, 1]);
    }
}
