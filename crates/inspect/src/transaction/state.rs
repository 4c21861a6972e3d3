//! Everything a transaction keeps while it runs, in flat vectors that the next one reuses.

use hashbrown::{HashMap, HashSet};
use phalanx_model::{Severity, Span};
use phalanx_policy::seclang::ir::Variable;

use super::familiar::NodeSet;
use super::values::{Blob, ValueId, Values};
use crate::body::MultipartFlags;
use crate::collections::PersistentView;
use crate::program::{NodeId, Program};

/// The state of a transaction.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) values: Values,
    /// TX variables with constant names.
    pub(crate) slots: Vec<TxValue>,
    /// TX variables with names made at run time.
    pub(crate) dynamic: Vec<(ValueId, TxValue)>,
    pub(crate) dynamic_index: HashMap<ValueId, u32>,
    pub(crate) lists: [Vec<Member>; LISTS_LEN],
    pub(crate) scalars: Scalars,
    pub(crate) multipart: MultipartFlags,
    /// Grows when members of stable collections change; caches of an older epoch are void.
    pub(crate) epoch: u32,
    pub(crate) pick_cache: Vec<PickCache>,
    /// Entries of stable picks, one range after the other.
    pub(crate) pick_entries: Vec<Entry>,
    pub(crate) view_cache: Vec<ViewCache>,
    /// For the entries of a view, in their order.
    pub(crate) view_items: Vec<Candidates>,
    /// Candidates of a view's values together, as words; the first are the empty union.
    pub(crate) unions: Vec<u64>,
    /// A bit for each step of the phase that is worth a look.
    pub(crate) called: Vec<u64>,
    /// A bit for each rule that `ctl:ruleRemove...` took out.
    pub(crate) removed: Vec<u64>,
    /// Whether any bit of `removed` is set.
    pub(crate) any_removed: bool,
    /// `ctl:ruleRemoveTarget...` in force: rule, link and effect in the program.
    pub(crate) exclusions: Vec<(u32, u32, u32)>,
    /// Values that matched in the current rule (`MATCHED_VARS`), the latest last.
    pub(crate) matched: Vec<Matched>,
    /// `MATCHED_VAR` of the latest match, whatever rule it was.
    pub(crate) latest: Option<Matched>,
    /// Message and data of the current rule.
    pub(crate) message: String,
    pub(crate) data: String,
    /// What the current rule added to scores, and to inbound ones alone.
    pub(crate) rule_score: i64,
    pub(crate) rule_inbound: i64,
    /// Bytes of step values kept so far.
    pub(crate) step_text: usize,
    /// The rule that runs (`RULE`).
    pub(crate) rule: u32,
    pub(crate) highest_severity: Option<Severity>,
    pub(crate) response_status: u16,
    pub(crate) flags: Flags,
    pub(crate) reqbody_error: Option<String>,
    pub(crate) files_bytes: u64,
    pub(crate) persistent: Vec<PersistentView>,
    /// Names whose values are not to be kept (`sanitise...`), in lower case.
    pub(crate) sanitised: HashSet<(Variable, Vec<u8>)>,
    /// Reused buffers.
    pub(crate) text: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
}

/// Yes-no facts.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Flags {
    pub(crate) inbound_data_error: bool,
    pub(crate) outbound_data_error: bool,
    pub(crate) urlencoded_error: bool,
    pub(crate) pcre_limit: bool,
    pub(crate) request_body_kept: bool,
    pub(crate) response_body_kept: bool,
}

/// A TX variable's value.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum TxValue {
    #[default]
    Unset,
    Number(i64),
    Text {
        blob: Blob,
        /// It came from a value that must not be logged.
        secret: bool,
    },
}

/// A member of a collection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) name: ValueId,
    pub(crate) value: ValueId,
    pub(crate) tag: Tag,
}

/// The length and the ends of a name, whatever its case: other tags are other names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(u32);

impl Tag {
    pub(crate) fn of(name: &[u8]) -> Self {
        let letter = |byte: Option<&u8>| u32::from(byte.map_or(0, u8::to_ascii_lowercase));
        let length = u32::try_from(name.len() & 0xffff).unwrap_or_default();
        Self(length << 16 | letter(name.first()) << 8 | letter(name.last()))
    }
}

/// A value with the name it is known by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) name: Name,
    pub(crate) value: ValueId,
    pub(crate) secret: bool,
}

/// A variable and, for a member of a collection, its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name {
    pub(crate) variable: Variable,
    pub(crate) key: Option<ValueId>,
}

/// A value that matched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matched {
    pub(crate) name: Name,
    /// Before transformations.
    pub(crate) original: ValueId,
    /// As the operator saw it.
    pub(crate) value: ValueId,
    pub(crate) node: NodeId,
    /// What matched of it.
    pub(crate) fragment: Blob,
    pub(crate) secret: bool,
}

/// Where a pick's entries lie. An epoch of 0: not resolved.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PickCache {
    pub(crate) epoch: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) extent: Option<Extent>,
    /// Items and union of all views whose transformations leave the values as they are.
    pub(crate) plain: Option<(u32, u32)>,
}

/// The values of a pick together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extent {
    /// The bytes that occur in any.
    pub(crate) presence: [u64; 4],
    /// The bytes that occur in those of which no more is known.
    pub(crate) strange: [u64; 4],
    /// Nodes that may do more than change the case of the others.
    pub(crate) reshaped: NodeSet,
    /// The length of the longest.
    pub(crate) length_max: usize,
}

/// What can match an entry of a view.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Candidates {
    /// All patterns are known: where the words start.
    Row(u32),
    /// A bit for each of the few patterns of the view.
    Few(u8),
}

/// Where a view's items and the union of their candidates lie, and of which entries they were made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ViewCache {
    pub(crate) made: bool,
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) items: u32,
    pub(crate) union: u32,
}

/// The union of no values.
pub(crate) const EMPTY_UNION: u32 = 0;

/// Collections that are filled once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum List {
    RequestHeaders,
    Cookies,
    ArgsGet,
    ArgsPost,
    Files,
    FilesContent,
    FilesSizes,
    PartHeaders,
    PartNames,
    PartFilenames,
    XmlText,
    XmlAttributes,
    ResponseHeaders,
    Env,
}

const LISTS_LEN: usize = List::Env as usize + 1;

/// Values that are single.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scalars {
    pub(crate) method: Blob0,
    pub(crate) uri_raw: Blob0,
    pub(crate) uri: Blob0,
    pub(crate) filename: Blob0,
    pub(crate) basename: Blob0,
    pub(crate) query: Blob0,
    pub(crate) line: Blob0,
    pub(crate) protocol: Blob0,
    pub(crate) host: Blob0,
    /// Length of the head with the request line, for `FULL_REQUEST`.
    pub(crate) head: Span,
}

/// A span that starts empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blob0(pub(crate) Blob);

impl Default for Blob0 {
    fn default() -> Self {
        Self(Blob::EMPTY)
    }
}

impl State {
    /// Forgets the last transaction and gets ready for one under `program`.
    pub(crate) fn reset(&mut self, program: &Program) {
        self.values.reset(program.constants.clone(), program.prefilter.words());
        self.slots.clear();
        self.slots.resize(program.names.slots_len(), TxValue::Unset);
        self.dynamic.clear();
        self.dynamic_index.clear();
        for list in &mut self.lists {
            list.clear();
        }
        self.scalars = Scalars::default();
        self.multipart = MultipartFlags::default();
        self.epoch = 1;
        self.pick_cache.clear();
        self.pick_cache.resize(program.picks.len(), PickCache::default());
        self.pick_entries.clear();
        self.pick_entries.shrink_to(KEPT_ENTRIES);
        self.view_cache.clear();
        self.view_cache.resize(program.views.len(), ViewCache::default());
        self.view_items.clear();
        self.view_items.shrink_to(KEPT_ENTRIES);
        self.unions.clear();
        self.unions.resize(program.prefilter.words(), 0);
        self.removed.clear();
        self.removed.resize(program.rules.len().div_ceil(64), 0);
        self.any_removed = false;
        self.exclusions.clear();
        self.matched.clear();
        self.latest = None;
        self.message.clear();
        self.data.clear();
        self.rule_score = 0;
        self.rule_inbound = 0;
        self.step_text = 0;
        self.rule = 0;
        self.highest_severity = None;
        self.response_status = 0;
        self.flags = Flags::default();
        self.reqbody_error = None;
        self.files_bytes = 0;
        self.persistent.clear();
        self.sanitised.clear();
        self.text.clear();
        self.text.shrink_to(KEPT_TEXT_BYTES);
        self.entries.clear();
    }

    /// Memory that the values of this transaction take, and the lists of them, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let members: usize = self.lists.iter().map(|list| size_of_val(list.as_slice())).sum();
        self.values.memory()
            + members
            + size_of_val(self.pick_entries.as_slice())
            + size_of_val(self.view_items.as_slice())
            + size_of_val(self.unions.as_slice())
    }

    /// The members of a list.
    pub(crate) fn list(&self, list: List) -> &[Member] {
        self.lists.get(list as usize).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds a member to a list.
    pub(crate) fn add(&mut self, list: List, name: Blob, value: Blob) {
        let name = self.values.intern(name);
        let value = self.values.intern(value);
        if let Some(list) = self.lists.get_mut(list as usize) {
            let tag = Tag::of(self.values.bytes(name));
            list.push(Member { name, value, tag });
        }
    }

    /// The value of a TX variable with a constant name.
    #[inline]
    pub(crate) fn slot(&self, slot: crate::program::Slot) -> TxValue {
        self.slots.get(usize::from(slot.0)).copied().unwrap_or_default()
    }
}

const KEPT_TEXT_BYTES: usize = 64 * 1024;
/// Entries that a worker keeps room for between requests.
const KEPT_ENTRIES: usize = 64 * 1024;
