//! All chains of transformations as one tree: a node is a chain, its parent the chain without the last step.

use hashbrown::HashMap;
use phalanx_policy::seclang::ir::Transformation;

use crate::transaction::values::presence_of;

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
    /// Some step changes values whatever their bytes.
    pub(crate) always: bool,
    /// The same of the last step alone.
    pub(crate) own: ([u64; 4], bool),
}

/// The tree.
#[derive(Debug, Default)]
pub(crate) struct Trie {
    /// Node 1 first: the root has no step.
    nodes: Vec<Node>,
    index: HashMap<(NodeId, Transformation), NodeId>,
}

impl Trie {
    /// The node of a chain, made if it is new.
    pub(crate) fn intern(&mut self, chain: &[Transformation]) -> NodeId {
        chain.iter().fold(ROOT, |parent, &step| self.child(parent, step))
    }

    fn child(&mut self, parent: NodeId, transformation: Transformation) -> NodeId {
        if let Some(&node) = self.index.get(&(parent, transformation)) {
            return node;
        }
        let (before, always) = self.node(parent).map_or(([0; 4], false), |node| (node.triggers, node.always));
        let (own, own_always) = triggers(transformation);
        let mut all = before;
        for (word, more) in all.iter_mut().zip(own) {
            *word |= more;
        }
        self.nodes.push(Node {
            parent,
            transformation,
            triggers: all,
            always: always || own_always,
            own: (own, own_always),
        });
        let node = NodeId(u16::try_from(self.nodes.len()).unwrap_or(u16::MAX));
        self.index.insert((parent, transformation), node);
        node
    }

    /// The node's step; `None` for the root.
    #[inline]
    pub(crate) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(usize::from(id.0).wrapping_sub(1))
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
    use crate::transaction::values::disjoint;
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

    #[test]
    fn chains_share_their_beginnings() {
        let mut trie = Trie::default();
        let a = trie.intern(&[Transformation::UrlDecodeUni, Transformation::Lowercase]);
        let b = trie.intern(&[Transformation::UrlDecodeUni, Transformation::JsDecode]);
        assert_ne!(a, b);
        assert_eq!(trie.len(), 4);
        assert_eq!(trie.path(a)[0], trie.path(b)[0]);
    }
}
