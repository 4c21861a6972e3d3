//! All chains of transformations as one tree: a node is a chain, its parent the chain without the last step.

use hashbrown::HashMap;
use phalanx_policy::seclang::ir::Transformation;

use crate::transaction::values::{disjoint, presence_of};

/// A chain of transformations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) u16);

/// The empty chain.
pub(crate) const ROOT: NodeId = NodeId(0);

/// The last step of a chain and what is before it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) parent: NodeId,
    pub(crate) transformation: Transformation,
    /// A value without any of these bytes comes out of the whole chain as it went in.
    pub(crate) triggers: [u64; 4],
    /// A value without any of these bytes keeps its letters through the whole chain; their case may change.
    reshapes: [u64; 4],
    /// Some step changes values whatever their bytes.
    pub(crate) always: bool,
    /// The same of the last step alone.
    pub(crate) own: ([u64; 4], bool),
    /// The chain of the last step alone: what it makes of a value is worked out once, whatever chain asks.
    pub(crate) alone: NodeId,
}

/// The tree.
#[derive(Debug, Default)]
pub(crate) struct Trie {
    /// Node 1 first: the root has no step.
    nodes: Vec<Node>,
    index: HashMap<(NodeId, Transformation), NodeId>,
    /// A place for what each node makes of a value, none of them known.
    unknown: Vec<u32>,
}

/// What stands where nothing is known.
pub(crate) const UNKNOWN: u32 = u32::MAX;

impl Trie {
    /// The node of a chain, made if it is new.
    pub(crate) fn intern(&mut self, chain: &[Transformation]) -> NodeId {
        chain.iter().fold(ROOT, |parent, &step| self.child(parent, step))
    }

    fn child(&mut self, parent: NodeId, transformation: Transformation) -> NodeId {
        if let Some(&node) = self.index.get(&(parent, transformation)) {
            return node;
        }
        let alone = (parent != ROOT).then(|| self.child(ROOT, transformation));
        let before = self.node(parent);
        let always = before.is_some_and(|node| node.always);
        let (own, own_always) = triggers(transformation);
        let all = union(before.map_or([0; 4], |node| node.triggers), own);
        let reshapes = union(before.map_or([0; 4], |node| node.reshapes), reshapes(transformation, own));
        let node = NodeId(u16::try_from(self.nodes.len() + 1).unwrap_or(u16::MAX));
        self.nodes.push(Node {
            parent,
            transformation,
            triggers: all,
            reshapes,
            always: always || own_always,
            own: (own, own_always),
            alone: alone.unwrap_or(node),
        });
        self.index.insert((parent, transformation), node);
        // One for the root, too.
        self.unknown.resize(self.len(), UNKNOWN);
        node
    }

    /// The node's step; `None` for the root.
    #[inline]
    pub(crate) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(usize::from(id.0).wrapping_sub(1))
    }

    /// The chain without the steps at its end that change nothing but case.
    pub(crate) fn without_case(&self, id: NodeId) -> NodeId {
        match self.node(id) {
            Some(node) if changes_case_only(node.transformation) => self.without_case(node.parent),
            _ => id,
        }
    }

    /// Whether a chain may do more to a value with these bytes than change the case of its letters.
    #[inline]
    pub(crate) fn may_reshape(&self, id: NodeId, presence: &[u64; 4]) -> bool {
        self.node(id).is_some_and(|node| node.always || !disjoint(presence, &node.reshapes))
    }

    /// A row to be filled in, with a place for each node.
    pub(crate) fn unknown(&self) -> &[u32] {
        &self.unknown
    }

    /// Nodes with the root.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len() + 1
    }

    /// The nodes from the root (without it) to `id`.
    pub(crate) fn path(&self, id: NodeId) -> Vec<NodeId> {
        let mut path = Vec::new();
        let mut at = id;
        while let Some(node) = self.node(at) {
            path.push(at);
            at = node.parent;
        }
        path.reverse();
        path
    }
}

fn changes_case_only(transformation: Transformation) -> bool {
    matches!(transformation, Transformation::Lowercase | Transformation::Uppercase)
}

/// Of the bytes that trigger a transformation those that make it do more than change case.
fn reshapes(transformation: Transformation, triggers: [u64; 4]) -> [u64; 4] {
    let [a, b, c, d] = triggers;
    match transformation {
        Transformation::Lowercase | Transformation::Uppercase => [0; 4],
        Transformation::CmdLine => [a, b & !LETTERS, c, d],
        _ => triggers,
    }
}

fn union(a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
    let mut both = a;
    both.iter_mut().zip(b).for_each(|(word, more)| *word |= more);
    both
}

/// The letters, in the second word of a set of bytes.
const LETTERS: u64 = ((1 << 26) - 1) << 1 | ((1 << 26) - 1) << 33;

/// Bytes without which a transformation changes nothing; true when it may change any value.
/// Sound, not exact: a superset is allowed. A test holds each set against the transformation itself.
pub(crate) fn triggers(transformation: Transformation) -> ([u64; 4], bool) {
    use Transformation as T;
    let bytes: &[u8] = match transformation {
        T::CmdLine => b"ABCDEFGHIJKLMNOPQRSTUVWXYZ\\\"'^,; \t\r\n\x0b\x0c\0",
        T::CompressWhitespace => b" \t\r\n\x0b\x0c\xa0\xc2",
        T::RemoveWhitespace => b" \t\r\n\x0b\x0c\xa0\xc2\0",
        T::Trim | T::TrimLeft | T::TrimRight => b" \t\r\n\x0b\x0c\xa0\xc2\0",
        T::CssDecode | T::EscapeSeqDecode | T::JsDecode => b"\\",
        T::HtmlEntityDecode => b"&",
        T::Lowercase => b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        T::Uppercase => b"abcdefghijklmnopqrstuvwxyz",
        T::NormalisePath => b"/.",
        T::NormalisePathWin => b"/.\\",
        T::RemoveComments | T::RemoveCommentsChar => b"/*-#<>!",
        T::ReplaceComments => b"/*",
        T::RemoveNulls | T::ReplaceNulls => b"\0",
        T::SqlHexDecode => b"0",
        T::UrlDecode | T::UrlDecodeUni => b"%+",
        // Beyond ASCII; the first also drops NUL.
        T::Utf8ToUnicode | T::ParityZero7bit => return ([1, 0, u64::MAX, u64::MAX], false),
        T::Base64Decode
        | T::Base64DecodeExt
        | T::Base64Encode
        | T::HexDecode
        | T::HexEncode
        | T::Length
        | T::Md5
        | T::ParityEven7bit
        | T::ParityOdd7bit
        | T::PhpArgsNames
        | T::Sha1
        | T::UrlEncode => return ([u64::MAX; 4], true),
    };
    (presence_of(bytes), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_without_triggers_is_unchanged(value in proptest::collection::vec(any::<u8>(), 0..24), ascii: bool) {
            let value: Vec<u8> = value.iter().map(|b| if ascii { b & 0x7f } else { *b }).collect();
            let map = transform::UnicodeMap::default();
            for t in Transformation::all() {
                let (set, always) = triggers(t);
                if !always && disjoint(&presence_of(&value), &set) {
                    let mut out = Vec::new();
                    prop_assert!(!transform::apply(t, &value, &map, &mut out), "{:?} changed {:?} to {:?}", t, value, out);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_value_that_a_chain_does_not_reshape_keeps_its_letters(value in "[a-zA-Z \\\\\"'^,;%+/.&*-]{0,12}", first: usize, second: usize) {
            let all: Vec<Transformation> = Transformation::all().collect();
            let map = transform::UnicodeMap::default();
            let chain = [all[first % all.len()], all[second % all.len()]];
            let mut trie = Trie::default();
            let node = trie.intern(&chain);
            if !trie.may_reshape(node, &presence_of(value.as_bytes())) {
                let mut now = value.clone().into_bytes();
                for step in chain {
                    let mut out = Vec::new();
                    if transform::apply(step, &now, &map, &mut out) {
                        now = out;
                    }
                }
                prop_assert!(now.eq_ignore_ascii_case(value.as_bytes()), "{:?} made {:?}", chain, now);
            }
        }
    }

    #[test]
    fn steps_at_the_end_that_change_case_are_left_out() {
        use Transformation as T;
        let mut trie = Trie::default();
        let decoded = trie.intern(&[T::UrlDecodeUni]);
        let lower = trie.intern(&[T::UrlDecodeUni, T::Lowercase]);
        let further = trie.intern(&[T::Lowercase, T::JsDecode]);
        assert_eq!(trie.without_case(lower), decoded);
        assert_eq!(trie.without_case(further), further);
        let case = trie.intern(&[T::Lowercase]);
        assert_eq!(trie.without_case(case), ROOT);
    }

    #[test]
    fn chains_share_their_beginnings() {
        let mut trie = Trie::default();
        let a = trie.intern(&[Transformation::UrlDecodeUni, Transformation::Lowercase]);
        let b = trie.intern(&[Transformation::UrlDecodeUni, Transformation::JsDecode]);
        assert_ne!(a, b);
        // With the root and the two last steps alone.
        assert_eq!(trie.len(), 6);
        assert_eq!(trie.path(a)[0], trie.path(b)[0]);
    }
}
